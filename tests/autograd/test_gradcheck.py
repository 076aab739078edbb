"""gradcheck must pass what is right and, above all, catch what is wrong."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError, GradcheckError


def double(*shape):
    values = np.random.default_rng(4).normal(size=shape)
    return rk.tensor(values, requires_grad=True)


def wrong_op(scale_first=1.0, scale_second=1.0):
    """x ** 3 with derivatives that are off by a factor."""

    class Slope(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return 3 * x * x

        @staticmethod
        def backward(ctx, d_y):
            return d_y * (6.0 * scale_second) * ctx.inputs[0]

    class Cube(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return x**3

        @staticmethod
        def backward(ctx, d_y):
            return d_y * Slope.apply(ctx.inputs[0]) * scale_first

    return Cube.apply


EITHER_MODE = pytest.mark.parametrize("fast_mode", [False, True])


@EITHER_MODE
def test_right_derivatives_pass(fast_mode):
    x, y = double(2, 3), double(3)
    before = x.data.copy()
    assert rk.gradcheck(lambda x, y: (x * y, x.sum()), [x, y], fast_mode=fast_mode)
    assert rk.gradgradcheck(lambda x, y: (x * y, x.exp().sum()), [x, y], fast_mode=fast_mode)
    assert rk.gradcheck(wrong_op(), x, fast_mode=fast_mode)
    assert rk.gradgradcheck(wrong_op(), x, fast_mode=fast_mode)
    assert rk.gradcheck(lambda x: (x[:0], x.sum() * 0 + 1), x, fast_mode=fast_mode)
    np.testing.assert_array_equal(x.data, before)
    assert x.grad is None


def test_a_wrong_first_derivative_is_located():
    x = rk.tensor(np.array([0.0, 2.0]), requires_grad=True)
    text = r"input 0 at \(1,\), output 0 at \(1,\): the rule gives 24\.0.*differences give (12|11)"
    with pytest.raises(GradcheckError, match=text):
        rk.gradcheck(wrong_op(scale_first=2.0), x)


def test_fast_mode_names_the_input_and_the_output():
    x, y = double(4, 5), double(4, 5)
    wrong = wrong_op(scale_first=1.1)
    with pytest.raises(GradcheckError, match=r"^input 1, output 2: the rule gives"):
        rk.gradcheck(lambda x, y: (x, y, x + wrong(y)), [x, y], fast_mode=True)


def test_fast_mode_takes_two_evaluations_an_input_and_one_gradient_an_output():
    evaluations, gradients = [], []

    def fn(x, y):
        evaluations.append(1)
        z = x @ y
        if z.requires_grad:
            z.register_hook(lambda _: gradients.append(1))
        return z

    rk.gradcheck(fn, [double(4, 5), double(5, 6)], fast_mode=True)
    assert (len(evaluations), len(gradients)) == (2 + 1 + 2 * 2, 1)


@EITHER_MODE
def test_a_wrong_second_derivative_passes_only_the_first_check(fast_mode):
    x = double(3)
    fn = wrong_op(scale_second=1.1)
    assert rk.gradcheck(fn, x, fast_mode=fast_mode)
    with pytest.raises(GradcheckError):
        rk.gradgradcheck(fn, x, fast_mode=fast_mode)


@EITHER_MODE
def test_a_gradient_cut_from_the_graph_is_caught(fast_mode):
    class Cut(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return x * x

        @staticmethod
        def backward(ctx, d_y):
            return d_y * 2.0 * ctx.inputs[0].detach()

    assert rk.gradcheck(Cut.apply, double(2))
    with pytest.raises(GradcheckError):
        rk.gradgradcheck(Cut.apply, double(2), fast_mode=fast_mode)


@EITHER_MODE
def test_a_missing_dependence_is_caught(fast_mode):
    with pytest.raises(GradcheckError, match=r"the rule gives 0\.0"):
        rk.gradcheck(lambda x: x.detach() * 2.0, double(2), fast_mode=fast_mode)


@pytest.mark.parametrize(
    ("fast_mode", "where"), [(False, r"input 0 at \(4,\)"), (True, "input 0,")]
)
def test_a_small_error_in_one_element_is_caught(fast_mode, where):
    class Almost(rk.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, d_y):
            factor = np.full(d_y.shape, 2.0)
            factor[-1] += 0.005
            return d_y * rk.as_tensor(factor)

    with pytest.raises(GradcheckError, match=where):
        rk.gradcheck(Almost.apply, double(5), fast_mode=fast_mode)


@EITHER_MODE
def test_nan_is_caught(fast_mode):
    x = rk.tensor(np.array([-1.0]), requires_grad=True)
    with pytest.raises(GradcheckError, match="nan"):
        rk.gradcheck(rk.sqrt, x, fast_mode=fast_mode)


def test_random_functions_are_refused():
    with pytest.raises(GradcheckError, match="second call"):
        rk.gradcheck(lambda x: rk.dropout(x, 0.5), double(20))


def test_other_arguments_pass_through():
    ids = rk.tensor([1, 0])
    assert rk.gradcheck(lambda w, i, k: rk.embedding(i, w) * k, [double(3, 2), ids, 2.0])
    fixed = rk.ones(2)
    assert rk.gradcheck(lambda x, f: x * f.astype("float64"), [double(2), fixed])


def test_parameters_that_the_function_holds_are_varied_too():
    w = double(2, 3)
    x = double(4, 3)
    assert rk.gradcheck(lambda *_: rk.linear(x.detach(), w), [w])


def test_given_grad_outputs_are_used():
    seen = []

    def fn(x):
        y = x * x
        if y.requires_grad:
            y.register_hook(lambda g: seen.append(g.data.copy()))
        return y

    given = rk.tensor(np.array([7.0]))
    rk.gradgradcheck(fn, double(1), [given])
    assert any(g[0] == 7.0 for g in seen)
    assert not given.requires_grad
    with pytest.raises(DTypeError, match=r"^grad_outputs\[0\]: expected"):
        rk.gradgradcheck(fn, double(1), ["no"])


@pytest.mark.parametrize("check", [rk.gradcheck, rk.gradgradcheck])
def test_derivatives_are_checked_within_no_grad_too(check):
    with rk.no_grad():
        assert check(lambda x: x * x * x, double(2))


@pytest.mark.parametrize("check", [rk.gradcheck, rk.gradgradcheck])
def test_float32_is_refused(check):
    with pytest.raises(DTypeError, match=r"inputs\[0\].*float64, got float32"):
        check(rk.tanh, rk.ones(2, requires_grad=True))


@pytest.mark.parametrize("check", [rk.gradcheck, rk.gradgradcheck])
def test_something_must_be_checked(check):
    with pytest.raises(ArgumentError, match="none requires a gradient"):
        check(rk.tanh, double(2).detach())
    with pytest.raises(ArgumentError, match="leaf"):
        check(rk.tanh, double(2) * 1.0)


@pytest.mark.parametrize("check", [rk.gradcheck, rk.gradgradcheck])
def test_what_is_varied_must_be_writeable(check):
    x = double(2)
    x.data.flags.writeable = False
    with pytest.raises(ArgumentError, match=r"inputs\[0\]: it is read-only"):
        check(rk.tanh, x)


@pytest.mark.parametrize("check", [rk.gradcheck, rk.gradgradcheck])
def test_what_is_no_tensor_is_refused(check):
    with pytest.raises(DTypeError, match=r"^inputs: expected a Tensor or several, got NoneType"):
        check(rk.tanh, None)
    with pytest.raises(DTypeError, match=r"^fn: its result: expected a Tensor or several, got"):
        check(lambda x: None, double(2))
    with pytest.raises(DTypeError, match=r"^fn: its result 1: expected a Tensor, got float"):
        check(lambda x: (x, 1.0), double(2))


@pytest.mark.parametrize("check", [rk.gradcheck, rk.gradgradcheck])
@pytest.mark.parametrize(
    ("name", "value"),
    [("eps", 0), ("eps", -1e-6), ("eps", np.nan), ("eps", np.inf), ("eps", "1e-6"), ("atol", -1),
     ("atol", np.nan), ("rtol", -1e-3), ("rtol", None)],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(check, name, value):
    with pytest.raises(ArgumentError, match=f"^{name}: expected a number >=? 0.*, got {value!r}"):
        check(lambda x: x * x, double(2), **{name: value})


def test_grad_outputs_are_one_per_output():
    with pytest.raises(ArgumentError, match=r"^grad_outputs: expected 2, one per .* got 1"):
        rk.gradgradcheck(lambda x: (x * x, x.exp()), double(2), [double(2)])


@pytest.mark.parametrize("check", [rk.gradcheck, rk.gradgradcheck])
def test_the_step_and_both_tolerances_are_what_was_given(check):
    x, seen = double(3), []

    def cube(y):
        seen.append(y.data.copy())
        return y**3

    assert check(cube, [x], eps=1e-3, atol=1e-2, rtol=1e-1)
    assert np.abs(np.array(seen) - x.data).max() == pytest.approx(1e-3, rel=1e-6)
    off = wrong_op(1.0, 1.01) if check is rk.gradgradcheck else wrong_op(1.01)
    assert check(off, [x], atol=0.0, rtol=0.05)
    assert check(off, [x], atol=1.0, rtol=0.0)
    for atol, rtol in ((0.0, 1e-3), (1e-3, 0.0)):
        with pytest.raises(GradcheckError):
            check(off, [x], atol=atol, rtol=rtol)
