"""Initialisation: distributions, exact matrices, the seed, refusals."""

from functools import partial

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.cells import CELLS
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.nn import Parameter, init


def empty(*shape, dtype=np.float32):
    return Parameter(np.full(shape, np.nan, dtype))


# name, options, bound of the uniform distribution or None, standard deviation; shape (60, 240)
FILLS = [
    ("uniform_", {"a": -2.0, "b": 2.0}, 2.0, 2 / np.sqrt(3)),
    ("normal_", {"mean": 0.0, "std": 0.5}, None, 0.5),
    ("xavier_uniform_", {}, np.sqrt(6 / 300), np.sqrt(2 / 300)),
    ("xavier_uniform_", {"gain": 3.0}, 3 * np.sqrt(6 / 300), 3 * np.sqrt(2 / 300)),
    ("xavier_normal_", {"gain": 3.0}, None, 3 * np.sqrt(2 / 300)),
    ("kaiming_uniform_", {}, np.sqrt(6 / 240), np.sqrt(2 / 240)),
    ("kaiming_uniform_", {"a": np.sqrt(5)}, np.sqrt(1 / 240), np.sqrt(1 / 720)),
    ("kaiming_uniform_", {"mode": "fan_out"}, np.sqrt(6 / 60), np.sqrt(2 / 60)),
    ("kaiming_normal_", {"nonlinearity": "tanh"}, None, 5 / 3 / np.sqrt(240)),
    ("kaiming_normal_", {"nonlinearity": "linear", "mode": "fan_out"}, None, 1 / np.sqrt(60)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options", "bound", "std"), FILLS)
def test_distributions(name, options, bound, std, dtype):
    tensor = empty(60, 240, dtype=dtype)
    array = tensor.data
    assert getattr(init, name)(tensor, **options) is tensor
    assert tensor.data is array
    assert array.dtype == dtype
    np.testing.assert_allclose(array.std(), std, rtol=0.03)
    np.testing.assert_allclose(array.mean(), 0, atol=0.05 * std)
    if bound is not None:
        assert 0.99 * bound < np.abs(array).max() <= np.float32(bound)
    else:
        assert np.abs(array).max() > 3 * std


def test_fans_of_more_axes_count_the_field():
    tensor = empty(4, 100, 6)
    init.kaiming_uniform_(tensor)
    assert 0.98 * 0.1 < np.abs(tensor.data).max() <= 0.1


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8), (4, 2, 3)])
def test_orthogonal_rows_or_columns(shape):
    tensor = init.orthogonal_(empty(*shape, dtype=np.float64), gain=2.0)
    matrix = tensor.data.reshape(shape[0], -1) / 2
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-13)


def test_orthogonal_matrices_are_spread_over_all_of_them():
    """Without the signs of R, LAPACK's diagonal of Q would have one sign."""
    signs = [np.sign(init.orthogonal_(empty(3, 3)).data[0, 0]) for _ in range(40)]
    assert 8 < signs.count(1) < 32


def test_constants():
    np.testing.assert_array_equal(init.zeros_(empty(2, 3)).data, np.zeros((2, 3)))
    np.testing.assert_array_equal(init.ones_(empty(3)).data, np.ones(3))
    np.testing.assert_array_equal(init.constant_(empty(), 2.5).data, 2.5)
    for nan in (float("nan"), np.float32("nan")):
        assert np.isnan(init.constant_(empty(), nan).data).all()
    np.testing.assert_array_equal(init.eye_(empty(2, 3)).data, np.eye(2, 3))


def test_the_seed_fixes_the_numbers():
    rk.manual_seed(7)
    first = init.normal_(empty(4)).data.copy()
    second = init.normal_(empty(4)).data.copy()
    rk.manual_seed(7)
    np.testing.assert_array_equal(init.normal_(empty(4)).data, first)
    assert (first != second).all()


def test_nothing_is_recorded():
    tensor = init.uniform_(empty(3))
    assert tensor.is_leaf
    assert tensor.requires_grad


def test_gains():
    assert init.calculate_gain("linear") == init.calculate_gain("sigmoid") == 1
    assert (init.calculate_gain("conv1d"), init.calculate_gain("selu")) == (1, 0.75)
    assert init.calculate_gain("relu") == np.sqrt(2)
    assert init.calculate_gain("leaky_relu", 0) == np.sqrt(2)
    assert init.calculate_gain("leaky_relu") == np.sqrt(2 / (1 + 0.01**2))
    for slope in (1e200, -1e200, 10**200):
        assert init.calculate_gain("leaky_relu", slope) == pytest.approx(np.sqrt(2) * 1e-200)
    with pytest.raises(ArgumentError, match="nonlinearity: expected 'leaky_relu', 'linear'"):
        init.calculate_gain("gelu")


def test_refusals():
    with pytest.raises(DTypeError, match="tensor: expected float32 or float64, got int64"):
        init.uniform_(rk.tensor(np.zeros(3, int)))
    with pytest.raises(TypeError, match="tensor: expected a Tensor or an array, got list"):
        init.zeros_([0.0])
    with pytest.raises(DTypeError, match="tensor: expected float32 or float64, got int64"):
        init.ones_(np.zeros(3, int))
    with pytest.raises(ArgumentError, match="mode: expected 'fan_in' or 'fan_out'"):
        init.kaiming_normal_(empty(2, 2), mode="fan")
    with pytest.raises(ShapeError, match="expected 2 axes for an identity matrix"):
        init.eye_(empty(2))
    for bounds in ((1.0, 0.0), (0.0, float("nan")), (-float("inf"), 0.0)):
        with pytest.raises(ArgumentError, match=r"expected (a )?finite number"):
            init.uniform_(empty(2), *bounds)
    for std in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="std: expected a number >= 0"):
            init.normal_(empty(2), 0.0, std)
    for fill in (init.xavier_normal_, init.kaiming_uniform_, init.orthogonal_):
        with pytest.raises(ShapeError, match=r"expected 2 or more axes.*, got shape \(3,\)"):
            fill(empty(3))


def test_an_array_is_filled_as_its_tensor_is():
    """The loop over named_parameters that ported code has, with ``param.data``."""
    lstm, twin = rk.nn.LSTM(3, 4), rk.nn.LSTM(3, 4)
    fillers = {"weight_ih": init.xavier_uniform_, "weight_hh": init.orthogonal_}
    for module, of in ((lstm, lambda p: p.data), (twin, lambda p: p)):
        rk.manual_seed(3)
        for name, param in module.named_parameters():
            fillers.get(name.removesuffix("_l0"), init.zeros_)(of(param))
    for ours, theirs in zip(lstm.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)
    assert not lstm.bias_ih_l0.data.any()
    block = lstm.weight_hh_l0.data[4:8]
    assert init.eye_(block) is block
    np.testing.assert_array_equal(lstm.weight_hh_l0.data[4:8], np.eye(4))
    gates = np.zeros((8, 4))
    init.gate_by_gate_(gates, 2, init.eye_)
    np.testing.assert_array_equal(gates, np.tile(np.eye(4), (2, 1)))


MADE = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 10, [2, 5], 2.0),
    "AdditiveAttention": lambda: nn.AdditiveAttention(3, 4, 5),
    "AttentionPool": lambda: nn.AttentionPool(3, 5),
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "Conv1d": lambda: nn.Conv1d(2, 4, 3),
    "MultiplicativeAttention": lambda: nn.MultiplicativeAttention(3, 4, "general"),
    "Embedding": lambda: nn.Embedding(4, 3, padding_idx=1),
    "GRU": lambda: nn.GRU(2, 3, num_layers=2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(2, 3, proj_size=2, peephole=True),
    "LayerNorm": lambda: nn.LayerNorm(3),
    "Linear": lambda: nn.Linear(3, 4),
    "RNN": lambda: nn.RNN(2, 3),
} | {f"{name}, a cell": partial(kind, 4, 4) for name, kind in CELLS.items()}


@pytest.mark.parametrize("name", MADE)
def test_a_module_begins_with_what_reset_parameters_gives(name):
    rk.manual_seed(1)
    module = MADE[name]()
    begun = {name: np.array(array) for name, array in module.state_dict().items()}
    other = MADE[name]()
    assert begun
    for array in begun.values():
        assert np.isfinite(array).all()
    for _, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.data.dtype.kind == "f":
            tensor.data.fill(7.5)
    rk.manual_seed(1)
    module.reset_parameters()
    for key, array in module.state_dict().items():
        np.testing.assert_array_equal(array, begun[key], err_msg=key)
    drawn = [key for key, array in begun.items() if array.std() > 0 and array.size > 2]
    same = [key for key in drawn if np.array_equal(begun[key], other.state_dict()[key])]
    assert {"BatchNorm1d": 0, "LayerNorm": 0}.get(name, 1) <= len(drawn)
    assert len(same) < max(len(drawn), 1), same
