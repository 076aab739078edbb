"""Simple layers: PyTorch's values and gradients, derivatives, initialisation, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "layers.npz")
CASES = json.loads(str(GOLDEN["cases"]))
IDS = [f"{n}-{case['layer']}-{case.get('options', {})}" for n, case in enumerate(CASES)]
REAL = [n for n, case in enumerate(CASES) if "ids" not in case]
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def layer_of(number, dtype):
    """(layer with PyTorch's parameters, its input) of a golden case."""
    case = CASES[number]
    layer = getattr(nn, case["layer"])(*case["args"], **case.get("options", {})).to(dtype)
    layer.load_state_dict({name: GOLDEN[f"{number}/{name}"] for name in case["parameters"]})
    if "ids" in case:
        return layer, np.array(case["ids"])
    return layer, rk.tensor(GOLDEN[f"{number}/input"].astype(dtype), requires_grad=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_values_and_gradients_are_pytorchs(number, dtype):
    layer, x = layer_of(number, dtype)
    y = layer(x)
    y.backward(rk.tensor(GOLDEN[f"{number}/d_output"].astype(dtype)))
    assert y.dtype == dtype
    found = {"output": y.numpy()}
    if f"{number}/d_input" in GOLDEN:
        found["d_input"] = x.grad.numpy()
    for name, parameter in layer.named_parameters():
        found[f"d_{name}"] = parameter.grad.numpy()
    tolerance = TOLERANCE[dtype]
    for name, value in found.items():
        expected = GOLDEN[f"{number}/{name}"]
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("number", REAL, ids=[IDS[number] for number in REAL])
def test_first_and_second_derivatives(number):
    layer, x = layer_of(number, "float64")
    inputs = [x, *layer.parameters()]
    assert rk.gradcheck(lambda *_: layer(x), inputs)
    assert rk.gradgradcheck(lambda *_: layer(x), inputs)


def test_derivatives_of_an_embedding():
    layer = nn.Embedding(4, 3, dtype=np.float64)
    ids = np.array([[1, 1], [0, 3]])
    assert rk.gradcheck(lambda w: layer(ids) * 1.0, [layer.weight])
    assert rk.gradgradcheck(lambda w: layer(ids) ** 2, [layer.weight])


# -- construction ----------------------------------------------------------------------------


def test_names_and_shapes_of_parameters():
    def shapes(layer):
        return {name: param.shape for name, param in layer.named_parameters()}

    assert shapes(nn.Linear(3, 5)) == {"weight": (5, 3), "bias": (5,)}
    assert shapes(nn.Linear(3, 5, bias=False)) == {"weight": (5, 3)}
    assert shapes(nn.Embedding(7, 4)) == {"weight": (7, 4)}
    assert shapes(nn.LayerNorm(4)) == {"weight": (4,), "bias": (4,)}
    assert shapes(nn.LayerNorm((3, 4), bias=False)) == {"weight": (3, 4)}
    assert shapes(nn.LayerNorm(4, elementwise_affine=False)) == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_default_initialisation(dtype):
    rk.manual_seed(1)
    linear = nn.Linear(25, 4000, dtype=dtype)
    for parameter in linear.parameters():
        assert parameter.dtype == dtype
        assert 0.195 < np.abs(parameter.data).max() <= 0.2
        np.testing.assert_allclose(parameter.data.std(), 0.2 / np.sqrt(3), rtol=0.03)
    table = nn.Embedding(100, 200, padding_idx=-1, dtype=dtype)
    np.testing.assert_allclose(table.weight.data[:-1].std(), 1, rtol=0.03)
    np.testing.assert_allclose(table.weight.data[:-1].mean(), 0, atol=0.03)
    np.testing.assert_array_equal(table.weight.data[-1], np.zeros(200))
    norm = nn.LayerNorm(4, dtype=dtype)
    np.testing.assert_array_equal(norm.weight.data, np.ones(4, dtype))
    np.testing.assert_array_equal(norm.bias.data, np.zeros(4, dtype))


def test_one_seed_makes_the_same_layer_in_both_precisions():
    layers = []
    for dtype in (np.float32, np.float64):
        rk.manual_seed(3)
        layers.append(nn.Linear(3, 4, dtype=dtype))
    np.testing.assert_array_equal(layers[0].weight.data, layers[1].weight.data.astype(np.float32))


def test_reprs():
    assert repr(nn.Linear(3, 4)) == "Linear(in_features=3, out_features=4, bias=True)"
    assert repr(nn.Embedding(5, 4, padding_idx=-1)) == "Embedding(5, 4, padding_idx=4)"
    assert nn.Embedding(5, 4, padding_idx=-5).padding_idx == 0
    assert repr(nn.Dropout(0.25)) == "Dropout(p=0.25)"
    assert repr(nn.LayerNorm(4)) == "LayerNorm((4,), eps=1e-05, elementwise_affine=True)"
    assert repr(nn.Tanh()) == "Tanh()"


# -- dropout ---------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_acts_in_training_only():
    x = rk.tensor(np.ones(20_000), requires_grad=True)
    layer = nn.Dropout(0.3)
    y = layer(x)
    np.testing.assert_array_equal(np.unique(y.numpy()), [0, 1 / 0.7])
    np.testing.assert_allclose(y.numpy().mean(), 1, rtol=0.03)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert layer.eval()(x) is x


def test_dropout_follows_the_seed():
    x = rk.ones(100)
    rk.manual_seed(5)
    first = nn.Dropout()(x).numpy()
    rk.manual_seed(5)
    np.testing.assert_array_equal(nn.Dropout()(x).numpy(), first)


# -- sizes and refusals ----------------------------------------------------------------------


def test_empty_batches():
    x = rk.tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    layer = nn.Linear(3, 2)
    layer(x).sum().backward()
    assert x.grad.shape == (0, 3)
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.zeros((2, 3)))
    assert nn.LayerNorm(3)(x).shape == (0, 3)
    assert nn.Embedding(5, 2)(np.zeros((0, 4), int)).shape == (0, 4, 2)


def test_arrays_are_taken_as_inputs():
    assert nn.Linear(3, 2)(np.zeros((4, 3), np.float32)).shape == (4, 2)
    assert nn.Embedding(5, 2)(rk.tensor([1, 2])).shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 3), "in_features: expected at least 1, got 0"),
        (lambda: nn.Linear(3, 2.0), "out_features: expected an int"),
        (lambda: nn.Linear(3, 2, np.float64), "bias: expected a bool"),
        (lambda: nn.Embedding(0, 3), "num_embeddings: expected at least 1"),
        (lambda: nn.Embedding(3, 3, 3), "padding_idx: expected an integer from -3 to 2, got 3"),
        (lambda: nn.Embedding(3, 3, -4), "padding_idx: expected an integer"),
        (lambda: nn.Embedding(3, 3, 1.0), "padding_idx: expected an integer"),
        (lambda: nn.Embedding(3, 3, True), "padding_idx: expected an integer"),
        (lambda: nn.Dropout(1.5), "p: expected a probability from 0 to 1, got 1.5"),
        (lambda: nn.Dropout("0.5"), "p: expected a probability from 0 to 1, got '0.5'"),
        (lambda: nn.Dropout(float("nan")), "p: expected a probability"),
        (lambda: nn.LayerNorm(0), "normalized_shape: expected at least 1"),
        (lambda: nn.LayerNorm(()), "normalized_shape: expected a size or more"),
        (lambda: nn.LayerNorm(3, eps=-1.0), "eps: expected a number >= 0"),
    ],
)
def test_impossible_layers(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("dtype", [np.int64, np.float16, complex])
def test_layers_of_other_dtypes(dtype):
    for make in (lambda: nn.Linear(3, 2, dtype=dtype), lambda: nn.Embedding(3, 2, dtype=dtype)):
        with pytest.raises(DTypeError, match="dtype: expected float32 or float64"):
            make()


def test_wrong_inputs():
    linear, norm, table = nn.Linear(3, 2), nn.LayerNorm(3), nn.Embedding(5, 2)
    for layer in (linear, norm):
        with pytest.raises(DTypeError, match=r"x: expected float32 .*, got float64"):
            layer(rk.tensor(np.zeros((4, 3))))
        with pytest.raises(DTypeError, match=r"x: expected float32 .*, got int64"):
            layer(rk.tensor(np.zeros((4, 3), int)))
        with pytest.raises(ShapeError, match=r"x: expected .*3.*, got .*\(4, 2\)"):
            layer(rk.zeros(4, 2))
    with pytest.raises(ArgumentError, match=r"expected values in \[0, 5\), got 5"):
        table([1, 5])
    with pytest.raises(DTypeError, match="ids: expected integers, got float64"):
        table(np.zeros(3))
    with pytest.raises(DTypeError, match="dropout: expected a float32 or float64 tensor"):
        nn.Dropout()(rk.tensor([1, 2]))


@pytest.mark.parametrize("value", [None, "x", np.ones(2)])
def test_an_eps_of_another_kind_is_refused_by_name(value):
    with pytest.raises(ArgumentError, match=r"^eps: expected a number >= 0"):
        nn.LayerNorm(3, eps=value)


def test_nested_lists_of_different_lengths_are_refused_by_the_name_of_the_argument():
    uneven = [[1], [1, 2]]
    x = rk.zeros(5, 2, 3)
    with pytest.raises(ShapeError, match=r"ids: expected a rectangular array"):
        nn.Embedding(5, 3)(uneven)
    for name in ("lengths", "reset"):
        with pytest.raises(ShapeError, match=rf"^{name}: expected a rectangular array"):
            nn.GRU(3, 4)(x, **{name: uneven})
    with pytest.raises(ShapeError, match=r"^lengths: expected a rectangular array"):
        nn.Conv1d(3, 4, 3).output_lengths(uneven)


@pytest.mark.parametrize("value", [np.zeros((1, 2, 4), "complex64"), np.array(["a"])])
def test_an_array_of_no_numbers_is_refused_by_the_name_of_the_argument(value):
    with pytest.raises(DTypeError, match=r"^reset_state: h: expected float32"):
        nn.GRU(3, 4)(rk.zeros(5, 2, 3), reset_state=value)


def test_an_embedding_of_vectors_that_are_given():
    vectors = np.arange(6.0).reshape(3, 2)
    table = nn.Embedding.from_pretrained(vectors, padding_idx=0)
    assert table.weight.dtype == np.float64
    assert not table.weight.requires_grad
    np.testing.assert_array_equal(table(np.array([2, 0])).numpy(), vectors[[2, 0]])
    vectors[:] = 9
    assert table.weight.data[0].tolist() == [0, 1]
    assert nn.Embedding.from_pretrained(vectors, freeze=False).weight.requires_grad
    with pytest.raises(ShapeError, match=r"embeddings: expected \(V, E\), got shape \(3,\)"):
        nn.Embedding.from_pretrained(np.zeros(3))
    with pytest.raises(ArgumentError, match=r"^freeze: expected a bool, got 'no'"):
        nn.Embedding.from_pretrained(vectors, freeze="no")
    with pytest.raises(DTypeError, match="embeddings: expected float32 or float64, got int64"):
        nn.Embedding.from_pretrained(np.zeros((3, 2), int))
