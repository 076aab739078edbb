"""The adaptive softmax: PyTorch's values, gradients and names, derivatives, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "adaptive_softmax.npz")
CASES = json.loads(str(GOLDEN["cases"]))
NUMBERS = range(len(CASES))


def layer_of(number, dtype="float64"):
    case = CASES[number]
    layer = nn.AdaptiveLogSoftmaxWithLoss(*case["args"], **case["options"], dtype=dtype)
    assert [name for name, _ in layer.named_parameters()] == case["parameters"]
    layer.load_state_dict({name: GOLDEN[f"{number}/{name}"] for name in case["parameters"]})
    return layer


def grad_of(parameter):
    return np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", NUMBERS)
def test_values_and_gradients_are_pytorchs(number, dtype):
    layer = layer_of(number, dtype)
    x = rk.tensor(GOLDEN[f"{number}/input"].astype(dtype), requires_grad=True)
    output, loss = layer(x, GOLDEN[f"{number}/target"])
    d_output = rk.tensor(GOLDEN[f"{number}/d_output"].astype(dtype))
    ((output * d_output).sum() + 2 * loss).backward()
    tolerance = {"rtol": 3e-5, "atol": 3e-5} if dtype == "float32" else {"rtol": 1e-11}
    tolerance.setdefault("atol", 1e-12)
    for found, name in (
        (output.numpy(), "output"),
        (loss.numpy(), "loss"),
        (x.grad.numpy(), "d_input"),
        (layer.log_prob(x).numpy(), "log_prob"),
        (layer.predict(x).numpy(), "predict"),
        *((grad_of(parameter), f"d_{name}") for name, parameter in layer.named_parameters()),
    ):
        np.testing.assert_allclose(found, GOLDEN[f"{number}/{name}"], **tolerance, err_msg=name)
    assert output.dtype == loss.dtype == dtype


@pytest.mark.parametrize("number", NUMBERS)
def test_everything_agrees_with_log_prob(number):
    layer = layer_of(number)
    x = GOLDEN[f"{number}/input"] * 4
    target = GOLDEN[f"{number}/target"]
    table = layer.log_prob(x)
    np.testing.assert_allclose(np.exp(table.numpy()).sum(-1), 1)
    np.testing.assert_array_equal(layer.predict(x).numpy(), table.numpy().argmax(-1))
    output, loss = layer(x, target)
    picked = np.take_along_axis(table.numpy(), target[:, None], 1)[:, 0]
    np.testing.assert_allclose(output.numpy(), picked)
    np.testing.assert_allclose(loss.item(), -picked.mean())


@pytest.mark.parametrize("dtype", [np.uint64, np.uint8, np.int32])
def test_targets_of_any_integers(dtype):
    layer = layer_of(NUMBERS[0], "float64")
    x, target = GOLDEN[f"{NUMBERS[0]}/input"], GOLDEN[f"{NUMBERS[0]}/target"]
    expected = layer(x, target)
    found = layer(x, target.astype(dtype))
    np.testing.assert_array_equal(found.output.numpy(), expected.output.numpy())


def test_predictions_come_from_every_cluster():
    layer = layer_of(0)
    x = np.random.default_rng(0).normal(size=(400, 8)) * 5
    found = layer.predict(x).numpy()
    np.testing.assert_array_equal(found, layer.log_prob(x).numpy().argmax(-1))
    assert set(np.searchsorted([5, 11], found, side="right")) == {0, 1, 2}


@pytest.mark.parametrize("target", [[0, 3, 5, 10, 11, 19], [0, 1, 2, 3, 4, 0], [19, 12, 11] * 2])
def test_derivatives(target):
    """Targets of every cluster, of the shortlist alone, and of one cluster alone."""
    layer = layer_of(0)
    x = rk.tensor(GOLDEN["0/input"][:6], requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def fn(x, *values):
        for name, value in zip(names, values, strict=True):
            *path, last = name.split(".")
            module = layer
            for part in path:
                module = getattr(module, part)
            module.__dict__[last] = value
        return tuple(layer(x, target))

    inputs = [x, *layer.parameters()]
    assert rk.gradcheck(fn, inputs)
    assert rk.gradgradcheck(lambda x: fn(x, *inputs[1:]), [x])
    fn(*inputs)


def test_any_leading_shape():
    layer = layer_of(0)
    x, target = GOLDEN["0/input"], GOLDEN["0/target"]
    flat = layer(x, target)
    deep = layer(x.reshape(3, 4, 8), target.reshape(3, 4))
    np.testing.assert_array_equal(deep.output.numpy(), flat.output.numpy().reshape(3, 4))
    assert deep.loss.item() == flat.loss.item()
    assert layer(x[0], target[0]).output.shape == ()
    assert layer.log_prob(x.reshape(3, 4, 8)).shape == (3, 4, 20)
    assert layer.predict(x[0]).shape == ()
    nothing = layer(x[:0], target[:0])
    assert nothing.output.shape == (0,)
    assert np.isnan(nothing.loss.item())


def test_extreme_inputs_stay_finite():
    layer = layer_of(1, "float32")
    x = rk.tensor(np.full((15, 16), 1e4, np.float32), requires_grad=True)
    output, loss = layer(x, np.arange(15))
    loss.backward()
    assert np.isfinite(output.numpy()).all()
    assert np.isfinite(x.grad.numpy()).all()


def test_repr_and_attributes_are_pytorchs():
    layer = layer_of(1)
    assert layer.cutoffs == [3, 4, 9, 15]
    assert (layer.shortlist_size, layer.n_clusters) == (3, 3)
    assert "16, 15, cutoffs=[3, 4, 9], div_value=2.5, head_bias=True" in repr(layer)
    before = layer.state_dict()
    layer.reset_parameters()
    assert all((before[name] != value).any() for name, value in layer.state_dict().items())


@pytest.mark.parametrize("cutoffs", [[], [5, 5], [7, 3], [20], [3, 25]])
def test_impossible_cutoffs(cutoffs):
    with pytest.raises(ArgumentError, match="cutoffs: expected rising integers from 1 to 19, got"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs)


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match=r"cutoffs\[0\]: expected at least 1"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [0, 3])
    with pytest.raises(ArgumentError, match="div_value: expected one that leaves cluster 1 a"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 11])
    with pytest.raises(ArgumentError, match="div_value: expected a number > 0"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5], div_value=0)
    for div_value in (1e-320, 1e-30):
        with pytest.raises(ArgumentError, match="div_value: expected one that makes cluster 0 no"):
            nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5], div_value=div_value)
    layer = layer_of(0)
    x = np.zeros((2, 8))
    with pytest.raises(ArgumentError, match=r"target: expected ids in \[0, 20\), got 20 at index"):
        layer(x, [0, 20])
    with pytest.raises(ArgumentError, match="got -100"):
        layer(x, [-100, 0])
    with pytest.raises(DTypeError, match="target: expected integer class ids"):
        layer(x, [0.0, 1.0])
    with pytest.raises(ShapeError, match=r"target: expected shape \(2,\)"):
        layer(x, [0])
    with pytest.raises(ShapeError, match="input: expected 8 features in the last axis"):
        layer(x[:, :5], [0, 0])
    with pytest.raises(DTypeError, match="input: expected float64 as the parameters"):
        layer(x.astype(np.float32), [0, 0])


def test_pytorch_live():
    torch = pytest.importorskip("torch")
    ours = nn.AdaptiveLogSoftmaxWithLoss(12, 40, [6, 20], 1.5, True, dtype="float64")
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(12, 40, [6, 20], 1.5, True).double()
    theirs.load_state_dict({n: torch.tensor(v) for n, v in ours.state_dict().items()})
    random = np.random.default_rng(0)
    x, target = random.normal(size=(30, 12)), random.integers(0, 40, 30)
    expected = theirs(torch.tensor(x), torch.tensor(target))
    found = ours(x, target)
    np.testing.assert_allclose(found.output.numpy(), expected.output.detach().numpy())
    np.testing.assert_array_equal(
        ours.predict(x).numpy(), theirs.predict(torch.tensor(x)).numpy()
    )
