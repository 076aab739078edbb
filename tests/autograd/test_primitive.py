"""Primitives: registering, missing rules, errors that name the op."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import PRIMITIVES
from rnnkit.autograd.node import PartialGradient
from rnnkit.errors import ArgumentError, DTypeError, GraphError, MissingRuleError, ShapeError


@pytest.fixture
def define():
    """Registers primitives for one test."""
    names = []

    def make(name, forward, **kwargs):
        names.append(name)
        return rk.primitive(name, forward, **kwargs)

    yield make
    for name in names:
        PRIMITIVES.pop(name, None)


def test_a_new_primitive_is_registered_and_differentiable(define):
    cube = define("test_cube", lambda x: x * x * x)
    cube.defvjp(lambda d_y, _, x: d_y * 3.0 * x * x)
    assert PRIMITIVES["test_cube"] is cube
    x = rk.tensor([1.5, -2.0], dtype="float64", requires_grad=True)
    assert rk.gradcheck(cube, x)
    assert rk.gradgradcheck(cube, x)
    assert repr(cube) == "<primitive test_cube>"


def test_an_op_without_a_rule_is_named(define):
    op = define("test_no_rule", lambda x: x + 1)
    x = rk.ones(2, requires_grad=True)
    y = op(x)
    assert y.requires_grad
    with pytest.raises(MissingRuleError, match="test_no_rule: no derivative rule for input 0"):
        y.sum().backward()
    assert issubclass(MissingRuleError, GraphError)
    assert issubclass(MissingRuleError, NotImplementedError)


@pytest.mark.parametrize("rules", [(lambda d_y, _, a, b: d_y,), (lambda d_y, _, a, b: d_y, None)])
def test_an_input_without_a_rule_is_numbered(define, rules):
    op = define("test_half", lambda a, b: a + b)
    op.defvjp(*rules)
    a, b = rk.ones(1, requires_grad=True), rk.ones(1, requires_grad=True)
    op(a, b.detach()).backward()
    assert a.grad.item() == 1.0
    with pytest.raises(MissingRuleError, match="input 1"):
        op(a, b).backward()


@pytest.mark.parametrize(
    "made",
    [None, np.float16(1), "text", [1j], np.ones(2, np.float16), np.ones(2, np.complex64),
     (np.ones(2), np.ones(2, np.float16)), (np.ones(2), None)],
)  # fmt: skip
def test_a_result_that_no_tensor_can_hold_is_refused(define, made):
    op = define("test_wrong", lambda x: made)
    with pytest.raises(DTypeError, match="test_wrong: its forward: expected an array"):
        op(rk.ones(2))


def test_a_result_in_another_byte_order_is_turned(define):
    op = define("test_turned", lambda x: x.astype(">f4"))
    y = op(rk.full((2,), 1.5))
    assert y.dtype == np.float32
    assert y.data.dtype.isnative
    assert y.tolist() == [1.5, 1.5]


def test_integers_carry_no_gradient(define):
    one = define("test_count", lambda x: np.arange(2))
    two = define("test_counts", lambda x: (x * 2, np.arange(2)))
    two.defvjp(lambda d_y, _, x: d_y[0] * 2)
    x = rk.ones(2, requires_grad=True)
    y, count = two(x)
    assert [each.requires_grad for each in (one(x), y, count)] == [False, True, False]
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


@pytest.mark.parametrize("wrong", [np.ones(2, np.float32), 1.0, (rk.ones(2),)])
@pytest.mark.parametrize("joint", [False, True])
def test_a_rule_that_gives_no_tensor_is_named(define, wrong, joint):
    op = define("test_wrong", lambda a, b: a + b)
    if joint:
        op.defvjp_joint(lambda needs, d_y, _, a, b: [None, wrong])
    else:
        op.defvjp(lambda d_y, _, a, b: d_y, lambda d_y, _, a, b: wrong)
    x, y = rk.ones(2, requires_grad=True), rk.ones(2, requires_grad=True)
    with pytest.raises(DTypeError, match="test_wrong: its rule for input 1: expected a Tensor"):
        op(x, y * 1.0).sum().backward()
    (op(x, y.detach()) + x).sum().backward()
    assert x.grad.tolist() == ([1.0, 1.0] if joint else [2.0, 2.0])


class Rules:
    def first(self, _, y, x):
        return _ * y

    def joint(self, needs, _, y, x):
        return [_ * y]


def test_rules_of_any_signature(define):
    for i, rule in enumerate((lambda *args: args[0] * args[1], Rules().first)):
        op = define(f"test_any_{i}", np.exp)
        op.defvjp(rule)
        assert rk.gradcheck(op, rk.tensor([0.5, -1.0], "float64", requires_grad=True))
    for i, rule in enumerate((lambda *args: [args[1] * args[2]], Rules().joint)):
        op = define(f"test_any_joint_{i}", np.exp)
        op.defvjp_joint(rule)
        assert rk.gradcheck(op, rk.tensor([0.5, -1.0], "float64", requires_grad=True))


def test_a_nondifferentiable_op_records_nothing(define):
    op = define("test_flat", np.floor, differentiable=False)
    y = op(rk.tensor([1.5], requires_grad=True))
    assert y.item() == 1.0
    assert not y.requires_grad


def test_a_rule_may_return_none_for_zero(define):
    op = define("test_zero", lambda x: x * 0)
    op.defvjp(lambda d_y, _, x: None)
    x = rk.ones(1, requires_grad=True)
    (op(x) + x).backward()
    assert x.grad.item() == 1.0
    op(x * 2.0).backward()
    assert x.grad.item() == 1.0


def test_a_rule_of_the_wrong_shape_is_noticed(define):
    op = define("test_misshapen", lambda x: x * 2)
    op.defvjp(lambda d_y, _, x: d_y.sum())
    with pytest.raises(ShapeError, match=r"derivative rules.*expected shape \(2,\), got \(\)"):
        op(rk.ones(2, requires_grad=True)).backward(rk.ones(2))


def test_parts_of_different_kinds_add_up(define):
    class Part(PartialGradient):
        __slots__ = ("value",)

        def __init__(self, value):
            self.value = value

        def combine(self, parts):
            assert all(type(part) is type(self) for part in parts)
            return rk.full((2,), sum(part.value for part in parts))

    class Other(Part):
        __slots__ = ()

    op = define("test_parts", lambda x, kind: x * 2)
    op.defvjp(lambda d_y, _, x, kind: kind(5.0))
    x = rk.ones(2, requires_grad=True)
    y = op(x, kind=Part) + op(x, kind=Other) + op(x, kind=Part) + x[0] + x
    y.backward(rk.ones(2))
    assert x.grad.tolist() == [18.0, 16.0]


def test_several_outputs_get_none_where_unused(define):
    seen = []

    def rule(d_outs, outs, x):
        seen.append((d_outs, outs))
        return d_outs[1] * outs[0]

    op = define("test_two", lambda x: (x * 2, x * 3))
    op.defvjp(rule)
    x = rk.tensor([5.0], requires_grad=True)
    _, second = op(x)
    second.backward()
    ((d_outs, outs),) = seen
    assert d_outs[0] is None
    assert [out.item() for out in outs] == [10.0, 15.0]
    assert x.grad.item() == 10.0


def test_the_output_is_part_of_the_graph_in_rules(define):
    op = define("test_exp", np.exp)
    op.defvjp(lambda d_y, y, x: d_y * y)
    x = rk.tensor([0.5], dtype="float64", requires_grad=True)
    y = op(x)
    for _ in range(3):
        (y,) = rk.grad(y, x, create_graph=True)
    assert y.item() == pytest.approx(np.exp(0.5))


def test_each_of_several_outputs_is_part_of_the_graph_in_rules(define):
    op = define("test_exps", lambda x: (np.exp(x), np.exp(2 * x)))
    op.defvjp(lambda d_ys, ys, x: d_ys[0] * ys[0] + 2 * d_ys[1] * ys[1])
    x = rk.tensor([0.5, -1.0], dtype="float64", requires_grad=True)

    def both(x):
        first, second = op(x)
        return first + 3 * second

    y = both(x)
    for _ in range(3):
        (y,) = rk.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(y.data, np.exp(x.data) + 24 * np.exp(2 * x.data), rtol=1e-14)


def test_an_output_that_rules_call_underscore_is_not_kept(define):
    kept = define("test_kept", lambda x: x.copy())
    kept.defvjp(lambda d_y, y, x: d_y)
    dropped = define("test_dropped", lambda x: x.copy())
    dropped.defvjp(lambda d_y, _, x: d_y)
    x = rk.ones(1, requires_grad=True)
    assert kept(x).grad_fn._out is not None
    assert dropped(x).grad_fn._out is None


def test_a_taken_name_is_refused():
    with pytest.raises(ArgumentError, match="'exp' exists already"):
        rk.primitive("exp", np.exp)


def test_numpy_errors_name_the_op_and_its_inputs():
    with pytest.raises(ShapeError, match=r"add:.*float32\[2\], float32\[3\]"):
        rk.ones(2) + rk.ones(3)
    with pytest.raises(DTypeError, match=r"sub:.*bool\[1\], bool\[1\]"):
        rk.tensor([True]) - rk.tensor([False])


def test_errors_of_a_forward_pass_through(define):
    op = define("test_broken", lambda x: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        op(rk.ones(1))

    def fail(x):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        define("test_failing", fail)(rk.ones(1))

    def refuse(x):
        raise ShapeError("mine")

    with pytest.raises(ShapeError, match=r"^mine$"):
        define("test_refusing", refuse)(rk.ones(1))


def test_an_op_inside_an_op_still_computes(define):
    """As when a finaliser or a signal handler computes while an op is running."""
    inner = define("test_inner", lambda x: np.exp(x))
    outer = define("test_outer", lambda x: inner(rk.as_tensor(x)).data + 1)
    assert outer(rk.tensor([1000.0])).item() == np.inf
