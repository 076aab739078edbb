"""Which dtypes meet, and which do not."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import DTypeError

F32, F64 = rk.ones(2), rk.ones(2, dtype="float64")
IDS, MASK = rk.tensor([1, 2]), rk.tensor([True, False])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "number", [2, 2.5, True, np.float32(2.5), np.float64(2.5), np.int8(2), np.array(2.5)]
)
def test_numbers_take_the_dtype_of_the_tensor(number, dtype):
    x = rk.ones(2, dtype=dtype)
    for y in (x + number, number + x, rk.maximum(x, number), rk.where(MASK, number, x)):
        assert y.dtype == dtype
    zero_dim = rk.tensor(1.0, dtype=dtype)
    for y in (zero_dim + number, number - zero_dim, zero_dim.exp(), zero_dim.sigmoid()):
        assert y.dtype == dtype
        assert y.shape == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda: F32 + F64,
        lambda: F64 * F32,
        lambda: F32 - np.ones(2),
        lambda: np.ones(2) - F32,
        lambda: F32 + rk.tensor(1.0, dtype="float64"),
        lambda: rk.where(MASK, F32, F64),
        lambda: rk.cat([F32, F64]),
        lambda: rk.stack([F32, F64]),
        lambda: rk.matmul(F32, F64),
        lambda: rk.linear(rk.ones(1, 2), rk.ones(3, 2, dtype="float64")),
        lambda: rk.linear(rk.ones(1, 2), rk.ones(3, 2), rk.ones(3, dtype="float64")),
        lambda: rk.layer_norm(F32, 2, F64),
        lambda: F32 < F64,
    ],
)
def test_float32_and_float64_do_not_mix(call):
    with pytest.raises(DTypeError, match=r"^\w+: float(32|64) and float(32|64) do not mix"):
        call()


def test_the_error_names_the_op_and_both_dtypes():
    with pytest.raises(DTypeError, match=r"^mul: float32 and float64.*astype"):
        F32 * F64


@pytest.mark.parametrize("floats", [F32, F64])
@pytest.mark.parametrize("others", [IDS, MASK, np.array([1, 2]), np.array([True, False])])
def test_integers_and_bools_take_the_dtype_of_floats(floats, others):
    for y in (floats * others, others * floats, rk.minimum(others, floats)):
        assert y.dtype == floats.dtype
    assert (floats * MASK).tolist() == [1.0, 0.0]


def test_integers_among_themselves():
    assert (IDS + np.int8([1, 1])).dtype == np.int64
    small = rk.tensor(np.uint8([200, 100]))
    assert (small + 5).dtype == np.uint8
    assert (small + 300).tolist() == [500, 400]
    assert (small + rk.tensor(np.int8([-1, -1]))).dtype == np.int16
    assert (small + MASK).dtype == np.uint8
    assert (MASK + 1).tolist() == [2, 1]


def test_integers_with_a_float_number_become_float32():
    y = IDS * 0.5
    assert y.dtype == np.float32
    assert y.tolist() == [0.5, 1.0]
    assert (0.5 + MASK).dtype == np.float32


def test_numbers_among_themselves():
    assert rk.where(MASK, 1.0, 0.0).dtype == np.float32
    assert rk.where(MASK, 1, 0).dtype.kind == "i"
    assert rk.maximum(1.0, 2).item() == 2.0


@pytest.mark.parametrize("other", ["text", None, object(), [1.0, 2.0], 1j])
def test_foreign_operands_are_left_to_python(other):
    with pytest.raises(TypeError):
        F32 + other
    with pytest.raises(TypeError):
        other + F32


def test_unsupported_arrays_are_refused():
    with pytest.raises(DTypeError, match="float16"):
        F32 + np.ones(2, np.float16)
    with pytest.raises(DTypeError, match="complex128"):
        F32 * np.complex128(1j)


def test_gradients_pass_through_conversions():
    x = rk.ones(2, requires_grad=True)
    (x.astype("float64") * F64).sum().backward()
    assert x.grad.dtype == np.float32
    ids = x.astype(np.int64)
    assert not ids.requires_grad
    with pytest.raises(DTypeError, match="float16"):
        x.astype("float16")
