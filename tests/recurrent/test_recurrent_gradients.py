"""First and second derivatives of both paths against finite differences in float64."""

import pytest
from recurrent_contract import UNFUSED, Case, cases, function_of_everything, make_layer

import rnnkit as rk
from rnnkit.recurrent import run_layer

CASES = [
    *cases((3, 2, 2, 3)),
    *cases((1, 1, 1, 1)),
    *cases((2, 3, 1, 3), directions=2, batch_first=True),
    *cases((3, 1, 2, 2), bias=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(path, case):
    run, inputs = function_of_everything(make_layer(case))
    assert rk.gradcheck(run, inputs, atol=1e-7, rtol=1e-5)


def unfused(size, **options):
    return [Case(name, variant, size, **options) for name, variant in UNFUSED]


@pytest.mark.parametrize("case", unfused((3, 2, 2, 3)), ids=str)
@pytest.mark.parametrize("backend", ["python", "auto"])
def test_gradients_of_cells_without_a_kernel(backend, case):
    run, inputs = function_of_everything(make_layer(case))
    with rk.backend(backend):
        assert rk.gradcheck(run, inputs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("case", unfused((2, 1, 2, 2)), ids=str)
def test_gradients_of_gradients_of_cells_without_a_kernel(case):
    run, inputs = function_of_everything(make_layer(case))
    with rk.backend("python"):
        assert rk.gradgradcheck(run, inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", cases((2, 2, 1, 2)), ids=str)
def test_gradients_of_gradients(path, case):
    run, inputs = function_of_everything(make_layer(case))
    assert rk.gradgradcheck(run, inputs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("case", cases((2, 1, 1, 3), directions=2), ids=str)
def test_gradients_of_gradients_through_some_of_the_outputs(path, case):
    """A loss that reads only the final states, as a classifier's does."""
    run, inputs = function_of_everything(make_layer(case))

    def final(*tensors):
        return run(*tensors)[1:]

    assert rk.gradgradcheck(final, inputs, atol=1e-7, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize("case", cases((4, 2, 3, 5)), ids=str)
def test_a_gradient_penalty_trains_the_weights(path, case):
    """The usual use of a second derivative: |dy/dx|^2 in the loss, differentiated once more."""
    layer = make_layer(case)
    x = rk.tensor(layer.inputs["x"], requires_grad=True)

    def penalty():
        y, _ = run_layer(layer.cells, x)
        (d_x,) = rk.grad(y.square().sum(), x, create_graph=True)
        return d_x.square().sum()

    weight = layer.cells[0].weight_hh
    (analytic,) = rk.grad(penalty(), weight)
    for element in [(0, 0), (-1, -1), (2, 1)]:
        value = weight.data[element]
        values = []
        for shift in (1e-5, -1e-5):
            weight.data[element] = value + shift
            values.append(penalty().item())
        weight.data[element] = value
        numeric = (values[0] - values[1]) / 2e-5
        assert analytic.numpy()[element] == pytest.approx(numeric, rel=1e-5, abs=1e-8)
