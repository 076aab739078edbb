"""The long short-term memory with forget gates, and the options it is used with.

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)
    f = sigmoid(W_if x + b_if + W_hf h + b_hf)
    g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    o = sigmoid(W_io x + b_io + W_ho h + b_ho)
    c' = f * c + i * g
    h' = o * tanh(c')

Hochreiter and Schmidhuber, Neural Computation 9(8), 1997; the forget gate is from Gers,
Schmidhuber and Cummins, Neural Computation 12(10), 2000. The gates are stacked in the order
i, f, g, o. The options, which go together in any way:

peephole: the gates see the cell state, o the new one.

    i = sigmoid(... + w_ci * c),  f = sigmoid(... + w_cf * c),  o = sigmoid(... + w_co * c')

Gers, Schraudolph and Schmidhuber, "Learning precise timing with LSTM recurrent networks", Journal
of Machine Learning Research 3, 2002.

coupled: i = 1 - f. The gates are then f, g, o. Greff et al., "LSTM: a search space odyssey", IEEE
TNNLS 28(10), 2017, arXiv 1503.04069 (CIFG).

cell_clip: c' = min(max(f * c + i * g, -clip), clip), without a gradient where it is cut off. Sak,
Senior and Beaufays, "Long short-term memory recurrent neural network architectures for large scale
acoustic modeling", Interspeech 2014, arXiv 1402.1128, as in TensorFlow's LSTMCell.

proj_size: h' = W_hr (o * tanh(c')), of fewer features than c. Sak et al. 2014, as PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnnkit.cells.base import FusedKernel, GatedCell, register_cell
from rnnkit.checks import check_bool, check_integer, check_number, check_size
from rnnkit.errors import ArgumentError
from rnnkit.ops import clip, linear, sigmoid, tanh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.module import Parameter


@register_cell("lstm")
class LSTMCell(GatedCell):
    """One step of the long short-term memory, as ``torch.nn.LSTMCell``.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has ``bias_ih`` and ``bias_hh``.
        proj_size: P, from 1 to H - 1, the number of features of h after a projection; 0: none.
        peephole: whether the gates see the cell state.
        coupled: whether the input gate is 1 - forget gate.
        cell_clip: bound of the absolute value of the cell state, above 0; None: none.
        recurrent_dropout, zoneout: see ``GatedCell``; zoneout may be (p_h, p_c).
        dtype: float32 or float64.

    Shapes: weight_ih (4*H, I), weight_hh (4*H, H), biases (4*H,); gate order i, f, g, o. With
    ``proj_size`` weight_hh is (4*H, P), and there is weight_hr (P, H); with ``peephole`` there are
    weight_ci, weight_cf and weight_co, (H,). With ``coupled`` there are no rows of i, (3*H, ...) in
    the order f, g, o, and no weight_ci. All are drawn from U(-1/sqrt(H), 1/sqrt(H)).
    Called as ``h, c = cell(x, (h, c))`` with x (N, I) or (I,), states (N, H) or (H,), or None;
    with ``proj_size`` h is (N, P).

    Raises:
        ArgumentError: a size below 1, or an option out of its range.
        DTypeError: another dtype.
    """

    gates = 4
    gate_names = ("i", "f", "g", "o")
    forget_gate = "f"
    input_gate = "i"
    state_names = ("h", "c")
    kernel: ClassVar[Any] = FusedKernel("lstm")
    variants = (
        {},
        {"peephole": True},
        {"coupled": True},
        {"cell_clip": 0.5},
        {"proj_size": 2},
        {"peephole": True, "coupled": True, "cell_clip": 0.5, "proj_size": 2},
    )

    weight_hr: Parameter
    weight_ci: Parameter
    weight_cf: Parameter
    weight_co: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        proj_size: int = 0,
        peephole: bool = False,
        coupled: bool = False,
        cell_clip: float | None = None,
        recurrent_dropout: float = 0.0,
        zoneout: float | Sequence[float] = 0.0,
        dtype: Any = np.float32,
    ) -> None:
        # First of all, since the shapes of the parameters depend on them.
        self.proj_size = _check_proj_size(proj_size, check_size("hidden_size", hidden_size))
        self.peephole = check_bool("peephole", peephole)
        self.coupled = check_bool("coupled", coupled)
        if cell_clip is not None:
            check_number("cell_clip", cell_clip, above_low=True)
        self.cell_clip = None if cell_clip is None else float(cell_clip)
        if self.coupled:
            self.gates = 3
            self.__dict__["input_gate"] = None
            if self.gate_names == LSTMCell.gate_names:  # those of another step are its own
                self.__dict__["gate_names"] = ("f", "g", "o")
        super().__init__(
            input_size, hidden_size, bias,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, dtype=dtype,
        )

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        shapes, H = super().parameter_shapes(), self.hidden_size
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, H)
        if self.peephole:
            for gate in ("f", "o") if self.coupled else ("i", "f", "o"):
                shapes[f"weight_c{gate}"] = (H,)
        return shapes

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.proj_size or self.hidden_size,), (self.hidden_size,)

    @property
    def is_plain(self) -> bool:  # type: ignore[override]
        options = self.proj_size or self.peephole or self.coupled or self.cell_clip is not None
        return not options

    @property
    def gate_ranges(self) -> Mapping[str, tuple[float, float]]:
        return {"g": (-1.0, 1.0)}

    def gate_values(self, x: Tensor, state: State, *drawn: Tensor) -> tuple[Tensor, ...]:
        h, c = state
        gates = self.from_input(x) + self.from_hidden(self.drop_hidden(h, drawn))
        *i, f, g, o = gates.chunk(self.gates, -1)
        f, g = sigmoid(f + self.weight_cf * c if self.peephole else f), tanh(g)
        if not self.coupled:
            i = [sigmoid(i[0] + self.weight_ci * c if self.peephole else i[0])]
        if self.peephole:
            o = o + self.weight_co * self._next_c(c, *i, f, g)
        return *i, f, g, sigmoid(o)

    def _next_c(self, c: Tensor, *gates: Tensor) -> Tensor:
        *i, f, g = gates
        c = f * c + (i[0] if i else 1 - f) * g
        return c if self.cell_clip is None else clip(c, -self.cell_clip, self.cell_clip)

    def step(self, x: Tensor, state: State, *drawn: Tensor) -> tuple[Tensor, State]:
        *others, o = self.gate_values(x, state, *drawn)
        c = self._next_c(state[1], *others)
        h = o * tanh(c)
        if self.proj_size:
            h = linear(h, self.weight_hr)
        h, c = self.zone_out(state, (h, c), drawn)
        return h, (h, c)

    def extra_repr(self) -> str:
        I, H, *others = super().extra_repr().split(", ")
        projection = [f"proj_size={self.proj_size}"] if self.proj_size else []
        own = [f"{name}=True" for name in ("peephole", "coupled") if getattr(self, name)]
        own += [] if self.cell_clip is None else [f"cell_clip={self.cell_clip}"]
        return ", ".join([I, H, *projection, *others, *own])


def _check_proj_size(value: Any, hidden_size: int) -> int:
    size = check_integer("proj_size", value, 0)
    if size >= hidden_size:
        raise ArgumentError(
            f"proj_size: expected less than hidden_size, which is {hidden_size}, got {size}"
        )
    return size
