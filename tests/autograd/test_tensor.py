"""Tensor: what it accepts, how it converts, copies and shows itself."""

import copy
import pickle
from array import array as typed_list

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import DTypeError, GraphError, ShapeError


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        ([[1, 2.5]], "float32"),
        ([], "float32"),
        ([np.float64(1.0), 2.0], "float32"),
        ([np.zeros(2), np.ones(2)], "float64"),
        ([[rk.tensor(1.0), rk.tensor(2.0)]], "float32"),
        ((rk.tensor(1.0, dtype="float64"),), "float64"),
        ([rk.tensor(1.0), 2.0], "float32"),
        ([[rk.tensor(3), 2.5], [1.0, 2.0]], "float32"),
        ([rk.tensor(1.0, dtype="float64"), 2.0], "float64"),
        (memoryview(np.zeros(2)), "float64"),
        (typed_list("d", [1.0]), "float64"),
        (3, "int64"),
        ([True, False], "bool"),
        (np.ones(2), "float64"),
        (np.float64(1.0), "float64"),
        (np.float32(1.0), "float32"),
        (np.ones(2, np.uint8), "uint8"),
        (np.ones(2, ">f4"), "float32"),
    ],
)
def test_dtype_from_data(data, dtype):
    for make in (rk.tensor, rk.as_tensor, rk.Tensor):
        assert make(data).dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (np.ones(2, np.float16), "float16"),
        (np.ones(2, np.complex64), "complex64"),
        (np.array(["a"]), "str"),
        (np.array([None]), "object"),
        (np.ones(2, "datetime64[s]"), "datetime64"),
        ("text", "str"),
        (1j, "complex128"),
        (None, "object"),
    ],
)
def test_other_dtypes_are_refused_by_name(data, name):
    for make in (rk.tensor, rk.as_tensor):
        with pytest.raises(DTypeError, match=name):
            make(data)


def test_dtype_argument_converts():
    assert rk.tensor([1, 2], dtype="float64").dtype == np.float64
    assert rk.tensor(np.ones(2), dtype=np.float32).dtype == np.float32
    with pytest.raises(DTypeError, match="float16"):
        rk.tensor([1.0], dtype="float16")
    with pytest.raises(DTypeError, match="nonsense"):
        rk.tensor([1.0], dtype="nonsense")


def test_ragged_data_is_refused():
    with pytest.raises(ShapeError, match="rectangular"):
        rk.tensor([[1.0], [1.0, 2.0]])


def test_tensor_copies_and_as_tensor_shares():
    array = np.ones((2, 3), np.float32)
    assert not np.shares_memory(rk.tensor(array).data, array)
    assert not np.shares_memory(rk.tensor(array[:, 1:]).data, array)
    assert rk.as_tensor(array).data is array
    assert not np.shares_memory(rk.tensor(rk.as_tensor(array)).data, array)
    assert not np.shares_memory(rk.tensor(memoryview(array)).data, array)

    class Holder:
        def __array__(self, dtype=None, copy=None):
            return array

    assert not np.shares_memory(rk.tensor(Holder()).data, array)
    assert np.shares_memory(rk.as_tensor(Holder()).data, array)


def test_as_tensor_of_a_tensor_is_the_tensor():
    x = rk.ones(2, requires_grad=True)
    assert rk.as_tensor(x) is x
    wide = rk.as_tensor(x, "float64")
    wide.sum().backward()
    assert wide.dtype == np.float64
    assert x.grad.dtype == np.float32


def test_attributes():
    x = rk.zeros(2, 3, 5)
    assert (x.shape, x.ndim, x.size, len(x), x.is_leaf) == ((2, 3, 5), 3, 30, 2, True)
    assert x.T.shape == (5, 3, 2)
    y = rk.ones(1, requires_grad=True) * 2.0
    assert not y.is_leaf
    assert y.requires_grad
    assert y.grad_fn.name == "mul"


def test_integers_do_not_require_a_gradient():
    for make in (
        lambda: rk.tensor([1, 2], requires_grad=True),
        lambda: rk.tensor([True]).requires_grad_(),
        lambda: rk.zeros(2, dtype=np.int64, requires_grad=True),
    ):
        with pytest.raises(DTypeError, match="only float32 and float64"):
            make()


def test_requires_grad_is_fixed_for_results():
    x = rk.ones(1).requires_grad_()
    y = x * 2.0
    y.requires_grad_()
    with pytest.raises(GraphError, match="detach"):
        y.requires_grad = False
    assert x.requires_grad_(False) is x
    assert not (x * 2.0).requires_grad


def test_detach_shares_data_and_has_no_history():
    x = rk.ones(2, requires_grad=True)
    y = (x * 2.0).detach()
    assert y.is_leaf
    assert not y.requires_grad
    d = x.detach()
    d.data[0] = 7.0
    assert x.data[0] == 7.0


def test_data_may_be_changed_in_place_and_replaced():
    p = rk.ones(2, requires_grad=True)
    p.data -= 0.5
    p.data[0] = 3.0
    assert p.tolist() == [3.0, 0.5]
    p.data = np.zeros(2, np.float64)
    assert p.dtype == np.float64
    p.data = rk.ones(2)
    assert p.tolist() == [1.0, 1.0]
    scalar = rk.tensor(2.0, requires_grad=True)
    scalar.data -= 0.5
    scalar.data = scalar.data * 2
    assert isinstance(scalar.data, np.ndarray)
    assert scalar.item() == 3.0


@pytest.mark.parametrize("value", [np.ones(2, np.float16), np.ones(2, np.int64), "no"])
def test_data_of_a_parameter_stays_differentiable(value):
    p = rk.ones(2, requires_grad=True)
    with pytest.raises(DTypeError, match="data"):
        p.data = value
    with pytest.raises(DTypeError, match=r"^data: expected a supported dtype, got >f4"):
        p.data = np.ones(2, ">f4")


def test_grad_is_checked():
    x = rk.ones(2, requires_grad=True)
    x.grad = rk.ones(2)
    x.grad = None
    with pytest.raises(DTypeError, match="expected a Tensor or None, got ndarray"):
        x.grad = np.ones(2)
    with pytest.raises(ShapeError, match=r"expected shape \(2,\), got \(3,\)"):
        x.grad = rk.ones(3)
    with pytest.raises(DTypeError, match="expected dtype float32, got float64"):
        x.grad = rk.ones(2, dtype="float64")


# ---- conversion


def test_conversion_to_arrays():
    x = rk.tensor([[1.0, 2.0]])
    assert np.asarray(x) is x.data
    assert np.array(x) is not x.data
    assert np.asarray(x, np.float64).dtype == np.float64
    assert x.numpy() is x.data
    assert x.tolist() == [[1.0, 2.0]]
    np.testing.assert_array_equal(x, [[1.0, 2.0]])


def test_a_tensor_with_a_gradient_does_not_become_an_array_silently():
    x = rk.ones(2, requires_grad=True)
    for tensor in (x, x * 2.0):
        with pytest.raises(GraphError, match=r"\.numpy\(\) or \.detach\(\)"):
            np.asarray(tensor)
    assert x.numpy() is x.data


def test_one_element_tensors_are_numbers():
    x = rk.tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert f"{x.sum():.2f}" == "2.50"
    assert [10, 20, 30][rk.tensor(1)] == 20
    assert not rk.tensor(False)


@pytest.mark.parametrize("convert", [bool, float, int, lambda x: x.item()])
def test_larger_tensors_are_not_numbers(convert):
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        convert(rk.ones(2))


def test_floats_are_no_index():
    with pytest.raises(TypeError, match="float32"):
        [1, 2][rk.tensor(1.0)]


def test_length_and_iteration():
    x = rk.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    with pytest.raises(TypeError, match="0-d"):
        len(rk.tensor(1.0))
    with pytest.raises(ShapeError, match="axis 0"):
        list(rk.tensor(1.0))


def test_hash_and_membership_by_identity():
    a, b = rk.ones(2), rk.ones(2)
    assert {a: 1, b: 2}[b] == 2
    assert len({a, b, a}) == 2


def test_equality_with_foreign_objects():
    x = rk.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != "text") is True


# ---- copies


def test_deepcopy_of_a_leaf():
    x = rk.tensor([1.0, 2.0], requires_grad=True)
    x.grad = rk.ones(2)
    twin, again = copy.deepcopy([x, x])
    assert twin is again
    assert twin.requires_grad
    assert twin.grad.tolist() == [1.0, 1.0]
    twin.data[0] = 9.0
    twin.grad.data[0] = 9.0
    assert x.tolist() == [1.0, 2.0]
    assert x.grad.tolist() == [1.0, 1.0]


def test_copy_shares_data():
    x = rk.tensor([1.0, 2.0], requires_grad=True)
    twin = copy.copy(x)
    assert twin is not x
    assert twin.requires_grad
    assert twin.data is x.data


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_a_leaf(protocol):
    x = rk.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    back = pickle.loads(pickle.dumps(x, protocol))
    assert back.requires_grad
    np.testing.assert_array_equal(back.data, x.data)
    assert (back * x).dtype == np.float64


def test_results_are_not_copied_with_their_history():
    y = rk.ones(1, requires_grad=True) * 2.0
    for make in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(GraphError, match=r"\.detach\(\)"):
            make(y)
    copy.deepcopy(y.detach())


class Named(rk.Tensor):
    """A subclass with attributes of its own."""


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_subclasses_survive_copies(again):
    x = Named([1.0], requires_grad=True)
    x.note = ["mine"]
    back = again(x)
    assert type(back) is Named
    assert back.note == ["mine"]
    assert back.note is not x.note
    assert type(x * 2.0) is rk.Tensor


# ---- looks


def test_repr():
    x = rk.tensor([[1.0, -2.5]], requires_grad=True)
    assert repr(x) == "tensor([[ 1. , -2.5]], requires_grad=True)"
    assert repr(x.sum()) == "tensor(-1.5, grad_fn=<sum>)"
    assert repr(rk.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(rk.ones(1, dtype="float64")) == "tensor([1.], dtype=float64)"
    assert repr(rk.zeros(0, 3)) == "tensor([], shape=(0, 3))"
    assert repr(rk.ones(2, 2)).splitlines()[1] == "        [1., 1.]])"


# ---- interplay with NumPy


def test_arrays_and_numbers_on_either_side():
    x = rk.tensor([1.0, 2.0], requires_grad=True)
    array = np.float32([3.0, 4.0])
    for y in (
        array * x,
        x * array,
        np.float32(3.0) * x,
        np.float64(3.0) * x,
        x * np.int64(3),
        np.array(3.0) * x,
        3 * x,
        x * True,
    ):
        assert type(y) is rk.Tensor
        assert y.dtype == np.float32
        assert y.requires_grad
    (array @ x).backward()
    assert x.grad.tolist() == [3.0, 4.0]
    assert type(array == x) is rk.Tensor
    assert (array < x).tolist() == [False, False]


def test_numpy_functions_refuse_tensors_that_carry_a_graph():
    x = rk.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match="Tensor"):
        np.exp(x)


def test_augmented_assignment_rebinds():
    x = rk.ones(2, requires_grad=True)
    y = x
    y += 1.0
    y *= 3.0
    y.sum().backward()
    assert x.tolist() == [1.0, 1.0]
    assert x.grad.tolist() == [3.0, 3.0]


def test_elements_are_not_assigned_on_the_tape():
    with pytest.raises(TypeError, match="not changed in place"):
        rk.ones(2)[0] = 1.0
