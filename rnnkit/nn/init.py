"""Initialisation of parameters in place, under PyTorch's names.

Random numbers come from the library's generator (rk.manual_seed). They are drawn in float64 and
rounded to the tensor's dtype, so that a float32 and a float64 model of one seed start from the same
values. Every function returns the tensor it was given; an array, such as ``weight.data`` or some
rows of it, does as well.

All raise DTypeError for a tensor that is not float32 or float64, ShapeError for a rank they are not
defined on, and ArgumentError for an unknown mode or nonlinearity, bounds or a deviation out of
range, or a frozen tensor.

Those at the end take a recurrent module in place of a tensor, or a cell, or a model with some of
them inside, and set every layer and direction; PyTorch has no such functions. They return the
module, and raise ArgumentError, before anything is changed, where a cell has not what they set or
where it is frozen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.tensor import FLOATS
from rnnkit.autograd.unchangeable import check_writeable
from rnnkit.cells import RNNCell
from rnnkit.checks import check_callable, check_choice, check_finite, check_number, check_size
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.module import Module
from rnnkit.nn.gated import gate_blocks, gated_cells
from rnnkit.rng import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from rnnkit.cells import GatedCell

AnyTensor = TypeVar("AnyTensor", bound=Tensor | np.ndarray)
AnyModule = TypeVar("AnyModule", bound=Module)


def _array(tensor: Tensor | np.ndarray) -> np.ndarray:
    array = tensor.data if isinstance(tensor, Tensor) else tensor
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"tensor: expected a Tensor or an array, got {type(tensor).__name__}")
    return array


def _fill(tensor: AnyTensor, values: ArrayLike) -> AnyTensor:
    array = _array(tensor)
    if array.dtype not in FLOATS:
        raise DTypeError(f"tensor: expected float32 or float64, got {array.dtype}")
    check_writeable("tensor", array)
    array[...] = values
    return tensor


def uniform_(tensor: AnyTensor, a: float = 0.0, b: float = 1.0) -> AnyTensor:
    """Fill with U(a, b)."""
    check_finite("a", a)
    check_finite("b", b)
    if a > b or not math.isfinite(b - a):
        raise ArgumentError(
            f"a, b: expected finite numbers a <= b, and b - a finite, got {a!r} and {b!r}"
        )
    return _fill(tensor, generator().uniform(a, b, _array(tensor).shape))


def normal_(tensor: AnyTensor, mean: float = 0.0, std: float = 1.0) -> AnyTensor:
    """Fill with N(mean, std^2)."""
    check_finite("mean", mean)
    check_number("std", std, below_high=True)
    return _fill(tensor, generator().normal(mean, std, _array(tensor).shape))


def constant_(tensor: AnyTensor, val: float) -> AnyTensor:
    """Fill with ``val``."""
    if not (isinstance(val, float | np.floating) and math.isnan(val)):
        check_number("val", val, -math.inf)
    return _fill(tensor, val)


def zeros_(tensor: AnyTensor) -> AnyTensor:
    """Fill with zeros."""
    return _fill(tensor, 0.0)


def ones_(tensor: AnyTensor) -> AnyTensor:
    """Fill with ones."""
    return _fill(tensor, 1.0)


def eye_(tensor: AnyTensor) -> AnyTensor:
    """Fill a matrix with ones on the diagonal and zeros elsewhere."""
    if _array(tensor).ndim != 2:
        raise ShapeError(
            f"tensor: expected 2 axes for an identity matrix, got shape {tensor.shape}"
        )
    return _fill(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def xavier_uniform_(tensor: AnyTensor, gain: float = 1.0) -> AnyTensor:
    """Fill with U(-b, b), b = gain sqrt(6 / (fan_in + fan_out)).

    Glorot and Bengio 2010, equation 16.
    """
    check_number("gain", gain, below_high=True)
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: AnyTensor, gain: float = 1.0) -> AnyTensor:
    """Fill with N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)).

    Glorot and Bengio 2010, equation 12.
    """
    check_number("gain", gain, below_high=True)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))))


def kaiming_uniform_(
    tensor: AnyTensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> AnyTensor:
    """Fill with U(-b, b), b = calculate_gain(nonlinearity, a) sqrt(3 / fan).

    He et al. 2015, section 2.2.
    ``mode`` is "fan_in" (keeps the variance forward) or "fan_out" (backward); ``a`` is the slope of
    leaky_relu.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: AnyTensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> AnyTensor:
    """Fill with N(0, s^2), s = calculate_gain(nonlinearity, a) / sqrt(fan).

    He et al. 2015, section 2.2.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def orthogonal_(tensor: AnyTensor, gain: float = 1.0) -> AnyTensor:
    """Fill with ``gain`` times a random (semi-)orthogonal matrix.

    The axes after the first are taken as one.
    Saxe, McClelland and Ganguli 2014; made uniform over the orthogonal matrices by the signs of R
    in the QR decomposition of a normal matrix (Mezzadri 2007).
    """
    check_finite("gain", gain)
    if _array(tensor).ndim < 2:
        raise ShapeError(f"tensor: expected 2 or more axes, got shape {tensor.shape}")
    rows = tensor.shape[0]
    columns = math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(generator().normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    matrix = q if rows >= columns else q.T
    return _fill(tensor, gain * matrix.reshape(tensor.shape))


def gate_by_gate_(
    tensor: AnyTensor, gates: int, fill: Callable[..., object], **options: object
) -> AnyTensor:
    """Fill the blocks of G stacked gates one after the other: ``fill(block, **options)`` for each.

    A recurrent matrix (G*H, H) filled whole by ``orthogonal_`` has orthogonal columns, but its
    gates' blocks (H, H) are not orthogonal; ``gate_by_gate_(weight, 4, orthogonal_)`` makes each of
    an LSTM's so.

    Raises ArgumentError where the first axis has no G equal parts.
    """
    check_callable("fill", fill)
    gates = check_size("gates", gates)
    if _array(tensor).ndim == 0 or tensor.shape[0] % gates:
        raise ArgumentError(
            f"gates: expected a number of equal parts of the first axis, got {gates} for a tensor "
            f"of shape {tensor.shape}"
        )
    for block in gate_blocks(tensor, gates):
        fill(block, **options)
    return tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the variance through a nonlinearity.

    ``param`` is the slope of leaky_relu.
    """
    if isinstance(nonlinearity, str) and nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        check_finite("param", slope)
        try:
            return math.sqrt(2.0 / (1 + float(slope) ** 2))
        except OverflowError:  # so steep that 1 is nothing beside it
            return math.sqrt(2.0) / abs(slope)
    check_choice("nonlinearity", nonlinearity, ("leaky_relu", *_GAINS))
    return _GAINS[nonlinearity]


_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def _fans(tensor: Tensor | np.ndarray) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in, ...)."""
    if _array(tensor).ndim < 2:
        raise ShapeError(f"tensor: expected 2 or more axes for its fans, got shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _kaiming_std(
    tensor: Tensor | np.ndarray, a: float, mode: str, nonlinearity: str
) -> float:
    check_choice("mode", mode, ("fan_in", "fan_out"))
    check_finite("a", a)
    fan_in, fan_out = _fans(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


# -- recurrent modules -----------------------------------------------------------------------


def recurrent_orthogonal_(module: AnyModule, gain: float = 1.0) -> AnyModule:
    """Make every gate's recurrent matrix (H, H) ``gain`` times a random orthogonal one.

    Saxe, McClelland and Ganguli 2014; for recurrent networks Henaff, Szlam and LeCun 2016. Input
    weights and biases stay as they are.
    """
    for cell in _cells_to_set(module, "weight_hh"):
        gate_by_gate_(cell.weight_hh, cell.gates, orthogonal_, gain=gain)
    return module


def irnn_(module: AnyModule, gain: float = 1.0, std: float = 0.001) -> AnyModule:
    """Make an RNN of rectified linear units an IRNN: W_hh = gain * I, b = 0, W_ih ~ N(0, std^2).

    Without an input, such a network keeps its state (gain 1) or forgets it slowly (gain below 1).
    Le, Jaitly and Hinton 2015, arXiv 1504.00941.

    Raises ArgumentError for anything but ``nn.RNN(..., nonlinearity="relu")``: a tanh or a gate
    would not leave a state as it is.
    """
    check_finite("gain", gain)
    check_number("std", std, below_high=True)
    cells = _cells_to_set(module, "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for cell in cells:
        if not isinstance(cell, RNNCell) or cell.nonlinearity != "relu":
            raise ArgumentError(f"module: expected RNNs with nonlinearity='relu', got {cell!r}")
    for cell in cells:
        normal_(cell.weight_ih, 0.0, std)
        _fill(cell.weight_hh, gain * np.eye(cell.hidden_size))
        for bias in (cell.bias_ih, cell.bias_hh):
            if bias is not None:
                zeros_(bias)
    return module


def chrono_(module: AnyModule, t_max: float) -> AnyModule:
    """Draw forget biases for memories of up to ``t_max`` steps.

        b_f = log(u), u ~ U(1, t_max - 1);  b_i = -b_f

    Tallec and Ollivier 2018, arXiv 1804.11188: a forget gate of bias b keeps its state for about
    1 + exp(b) steps. The forget gate is the LSTM's f and the GRU's z, whose input gate 1 - z
    follows by itself. Each hidden unit of each layer and direction draws its own. What is set is
    the sum of both biases: ``bias_ih`` has the value and ``bias_hh`` is 0. Other gates stay as they
    are.

    Raises ArgumentError for a ``t_max`` below 2, and for cells without a forget gate or biases.
    """
    check_number("t_max", t_max, 2, below_high=True)
    for cell in _forgetting_cells(module):
        bias = np.log(generator().uniform(1.0, t_max - 1.0, cell.hidden_size))
        _set_bias(cell, cell.forget_gate, bias)
        if cell.input_gate is not None:
            _set_bias(cell, cell.input_gate, -bias)
    return module


def forget_bias_(module: AnyModule, value: float = 1.0) -> AnyModule:
    """Open the forget gates: their bias, the sum of ``bias_ih`` and ``bias_hh``, becomes ``value``.

    Jozefowicz, Zaremba and Sutskever 2015; first Gers, Schmidhuber and Cummins 2000.
    ``bias_ih`` has the value and ``bias_hh`` is 0. The forget gate is the LSTM's f and the GRU's z.

    Raises ArgumentError for cells without a forget gate or biases.
    """
    check_finite("value", value)
    for cell in _forgetting_cells(module):
        _set_bias(cell, cell.forget_gate, value)
    return module


def _cells_to_set(module: Module, *names: str) -> list[GatedCell]:
    """The gated cells inside, whose parameters of these names can be written to."""
    found = gated_cells(module)
    for path, cell in found:
        for name in names:
            parameter = getattr(cell, name)
            if parameter is not None:
                check_writeable(path.format(name), parameter.data)
    return [cell for _, cell in found]


def _forgetting_cells(module: Module) -> list[GatedCell]:
    cells = _cells_to_set(module, "bias_ih", "bias_hh")
    for cell in cells:
        if cell.forget_gate is None:
            raise ArgumentError(f"module: expected cells with a forget gate, got {cell!r}")
        if cell.bias_ih is None or cell.bias_hh is None:
            raise ArgumentError(f"module: expected cells with biases, got {cell!r}")
    return cells


def _set_bias(cell: GatedCell, gate: str | None, value: ArrayLike) -> None:
    assert gate is not None
    number = cell.gate_names.index(gate)
    for bias, part in ((cell.bias_ih, value), (cell.bias_hh, 0.0)):
        assert bias is not None
        _fill(gate_blocks(bias, cell.gates)[number], part)
