"""The contract of every primitive: first and second derivatives agree with finite differences."""

import numpy as np
import pytest
from op_cases import CASES

import rnnkit as rk
from rnnkit import PRIMITIVES, Tensor

PARAMS = [
    pytest.param(name, case, id=f"{name}: {case.label}")
    for name, cases in CASES.items()
    for case in cases
]
NONDIFFERENTIABLE = {
    "equal": lambda x: x == 1.0,
    "not_equal": lambda x: x != 1.0,
    "less": lambda x: x < 1.0,
    "less_equal": lambda x: x <= 1.0,
    "greater": lambda x: x > 1.0,
    "greater_equal": lambda x: x >= 1.0,
    "logical_and": lambda x: rk.logical_and(x, 1.0),
    "logical_or": lambda x: rk.logical_or(x, 1.0),
    "logical_xor": lambda x: rk.logical_xor(x, 1.0),
    "logical_not": rk.logical_not,
    "isnan": rk.isnan,
    "isfinite": rk.isfinite,
    "sign": rk.sign,
    "floor": rk.floor,
    "argmax": rk.argmax,
    "argmin": rk.argmin,
    "argsort": rk.argsort,
    "one_hot": lambda x: rk.one_hot(rk.argsort(x), 5),
    "all": rk.all,
    "any": rk.any,
}


def tensors(result):
    return [result] if isinstance(result, Tensor) else list(result)


def recorded_names(outputs):
    names, stack = set(), [y.grad_fn for y in outputs]
    while stack:
        node = stack.pop()
        if node is not None:
            names.add(node.name)
            stack.extend(x.grad_fn for x in node.inputs)
    return names


def test_every_differentiable_primitive_has_a_case():
    for name in rk.__all__:
        getattr(rk, name)  # imports the whole package, and so registers all there is
    differentiable = {name for name, op in PRIMITIVES.items() if op.differentiable}
    assert differentiable == set(CASES)


def test_every_other_primitive_is_known():
    others = {name for name, op in PRIMITIVES.items() if not op.differentiable}
    assert others == set(NONDIFFERENTIABLE)


@pytest.mark.parametrize(("name", "case"), PARAMS)
def test_case_reaches_its_primitive(name, case):
    assert name in recorded_names(tensors(case.fn(*case.inputs)))


@pytest.mark.parametrize(("name", "case"), PARAMS)
def test_first_derivative(name, case):
    assert rk.gradcheck(case.fn, case.inputs, eps=case.eps)


@pytest.mark.parametrize(("name", "case"), PARAMS)
def test_second_derivative(name, case):
    assert rk.gradgradcheck(case.fn, case.inputs, eps=case.eps)


@pytest.mark.parametrize(
    ("name", "case"), [param for param in PARAMS if param.values[0] != "astype"]
)
def test_float32_stays_float32(name, case):
    """Values and gradients keep the dtype and are those of float64, to float32 rounding."""
    singles = [x.detach().astype(np.float32).requires_grad_() for x in case.inputs]
    wide = tensors(case.fn(*case.inputs))
    narrow = tensors(case.fn(*singles))
    expected = rk.grad(wide, case.inputs, [rk.ones_like(y) for y in wide], allow_unused=True)
    found = rk.grad(narrow, singles, [rk.ones_like(y) for y in narrow], allow_unused=True)
    for a, b in zip([*narrow, *found], [*wide, *expected], strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a.data, b.data, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", NONDIFFERENTIABLE)
def test_nondifferentiable_results_carry_no_gradient(name):
    x = rk.tensor([[0.5, -1.0], [2.0, 1.0]], requires_grad=True)
    y = NONDIFFERENTIABLE[name](x)
    assert not y.requires_grad
    assert y.grad_fn is None
