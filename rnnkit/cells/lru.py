"""The linear recurrent unit: a complex diagonal recurrence, stable by its parametrisation.

    lambda = exp(-exp(nu) + i exp(theta))
    s' = lambda * s + exp(gamma) * (B x)
    y = Re(C s') + D x

Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu and De 2023, "Resurrecting Recurrent Neural Networks
for Long Sequences", arXiv 2303.06349, section 3 and appendix A. Complex numbers are pairs of reals.
There is no nonlinearity: the paper puts one between the layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit import rng
from rnnkit.cells.base import Cell, register_cell
from rnnkit.checks import check_number, check_size
from rnnkit.errors import ArgumentError
from rnnkit.ops import cos, exp, linear, sin

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("lru")
class LRUCell(Cell):
    """One step of the linear recurrent unit.

    Args:
        input_size: I.
        hidden_size: H, the size of the output.
        state_size: M, the number of complex states; None: H.
        r_min, r_max: |lambda| is drawn uniformly (by area) from this ring.
        max_phase: the angles of lambda are drawn from U(0, max_phase), in radians.
        dtype: float32 or float64.

    Parameters: nu, theta, gamma (M,), where gamma begins at log sqrt(1 - |lambda|^2); weight_ih
    (2*M, I), the real and the imaginary rows of B, of variance 1/(2*I); weight_out (H, 2*M), the
    real and the imaginary columns of C, of variance 1/M; weight_skip (H, I), D, of variance 1/I.
    States re and im, (N, M); the output y is no state.

    Raises:
        ArgumentError: a size below 1, a ring that is not within 0 <= r_min < r_max <= 1, or a
            max_phase that is not positive.
        DTypeError: another dtype.
    """

    state_names = ("re", "im")
    variants = ({"state_size": None}, {"state_size": 6})

    nu: Parameter
    theta: Parameter
    gamma: Parameter
    weight_ih: Parameter
    weight_out: Parameter
    weight_skip: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * np.pi,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        states = self.hidden_size if state_size is None else state_size
        self.state_size = check_size("state_size", states)
        for name, radius in (("r_min", r_min), ("r_max", r_max)):
            check_number(name, radius, high=1)
        if not r_min < r_max:
            raise ArgumentError(f"r_min, r_max: expected ascending numbers, got {r_min}, {r_max}")
        check_number("max_phase", max_phase, above_low=True, below_high=True)
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase
        self.make_parameters(dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        I, H, M = self.input_size, self.hidden_size, self.state_size
        return {
            **dict.fromkeys(("nu", "theta", "gamma"), (M,)),
            "weight_ih": (2 * M, I),
            "weight_out": (H, 2 * M),
            "weight_skip": (H, I),
        }

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.state_size,), (self.state_size,))

    def reset_parameters(self) -> None:
        random, I, M = rng.generator(), self.input_size, self.state_size
        area = random.uniform(self.r_min**2, self.r_max**2, M)
        # The ends of the ring, 0 and 1, have infinite logarithms.
        area = np.clip(area, 1e-12, 1 - 1e-7)
        self.nu.data[...] = np.log(-0.5 * np.log(area))
        self.theta.data[...] = np.log(self.max_phase * (1 - random.random(M)))
        self.gamma.data[...] = 0.5 * np.log(1 - area)
        for weight, variance in (
            (self.weight_ih, 1 / (2 * I)),
            (self.weight_out, 1 / M),
            (self.weight_skip, 1 / I),
        ):
            weight.data[...] = random.standard_normal(weight.shape) * variance**0.5

    def eigenvalues(self) -> tuple[Tensor, Tensor]:
        """lambda: its real and its imaginary part, (M,)."""
        radius, angle = exp(-exp(self.nu)), exp(self.theta)
        return radius * cos(angle), radius * sin(angle)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        re, im = state
        a, b = self.eigenvalues()
        scale = exp(self.gamma)
        x_re, x_im = linear(x, self.weight_ih).chunk(2, -1)
        C_re, C_im = self.weight_out.chunk(2, -1)
        re, im = a * re - b * im + scale * x_re, a * im + b * re + scale * x_im
        y = linear(re, C_re) - linear(im, C_im) + linear(x, self.weight_skip)
        return y, (re, im)
