"""Losses: PyTorch's values and gradients, first and second derivatives, extremes, refusals."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.losses.cross_entropy import ClassTargets, cross_entropy_gradient

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "losses.npz")
CASES = json.loads(str(GOLDEN["cases"]))
IDS = [f"{n}-{case['loss']}-{case['options']}" for n, case in enumerate(CASES)]
FINITE = [n for n in range(len(CASES)) if np.isfinite(GOLDEN[f"{n}/value"]).all()]
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}
ELEMENTWISE = [losses.mse, losses.l1, losses.smooth_l1, losses.bce_with_logits]
ELEMENTWISE += [losses.huber, losses.poisson_nll_loss, losses.kl_div]
CLASSES = [losses.cross_entropy, losses.nll]


def case_of(number, dtype):
    """(loss function, input, target, options) of a golden case."""
    case = CASES[number]
    options = dict(case["options"])
    for name in ("weight", "pos_weight", "var"):
        if f"{number}/{name}" in GOLDEN:
            options[name] = GOLDEN[f"{number}/{name}"].astype(dtype)
    target = GOLDEN[f"{number}/target"]
    if target.dtype.kind == "f":
        target = target.astype(dtype)
    x = rk.tensor(GOLDEN[f"{number}/input"].astype(dtype), requires_grad=True)
    return getattr(losses, case["loss"]), x, target, options


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_values_and_gradients_are_pytorchs(number, dtype):
    loss, x, target, options = case_of(number, dtype)
    value = loss(x, target, **options)
    d_value = GOLDEN[f"{number}/d_value"].astype(dtype)
    value.backward(rk.tensor(d_value))
    assert value.dtype == dtype
    assert value.shape == GOLDEN[f"{number}/value"].shape
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(
        value.numpy(), GOLDEN[f"{number}/value"], rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(
        x.grad.numpy(), GOLDEN[f"{number}/d_input"], rtol=tolerance, atol=tolerance
    )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("number", FINITE, ids=[IDS[number] for number in FINITE])
def test_first_and_second_derivatives(number):
    loss, x, target, options = case_of(number, "float64")
    if CASES[number].get("scale"):
        x = rk.tensor(x.numpy() / 500, requires_grad=True)
    assert rk.gradcheck(lambda x: loss(x, target, **options), [x])
    assert rk.gradgradcheck(lambda x: loss(x, target, **options), [x])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_derivatives_of_the_primitive_behind_the_first_derivative(smoothing):
    ids, kept = np.array([1, 0, 2, 0]), np.array([True, False, True, True])
    targets = ClassTargets(ids, kept, np.array([0.5, 2.0, 1.0]), smoothing)
    x = rk.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    d_losses = rk.tensor(np.array([1.0, -0.5, 2.0, 0.7]), requires_grad=True)

    def gradient(d_losses, x):
        return cross_entropy_gradient(d_losses, x, targets=targets)

    assert rk.gradcheck(gradient, [d_losses, x])
    assert rk.gradgradcheck(gradient, [d_losses, x])


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_targets_are_differentiated_too(loss):
    x = rk.tensor(np.linspace(-2, 2, 6), requires_grad=True)
    target = rk.tensor(np.linspace(0.15, 0.95, 6), requires_grad=True)
    assert rk.gradcheck(loss, [x, target])
    assert rk.gradgradcheck(loss, [x, target])


def test_short_names():
    assert losses.mse is losses.mse_loss
    assert losses.l1 is losses.l1_loss
    assert losses.smooth_l1 is losses.smooth_l1_loss
    assert losses.nll is losses.nll_loss
    assert losses.huber is losses.huber_loss
    assert losses.bce is losses.binary_cross_entropy
    assert losses.bce_with_logits is losses.binary_cross_entropy_with_logits


# -- cross entropy ---------------------------------------------------------------------------


def test_the_path_is_the_one_in_force(path):
    x = rk.tensor(np.ones((2, 3)), requires_grad=True)
    losses.cross_entropy(x, [0, 1]).backward()
    paths = {each.op: each.path for each in rk.why()}
    expected = "fused" if path == "native" else "python"
    assert paths["cross_entropy"] == paths["cross_entropy gradient"] == expected


@pytest.mark.usefixtures("native")
def test_paths_agree_but_for_rounding_and_each_ran_its_own_code():
    values = np.random.default_rng(0).normal(size=(40, 300)).astype(np.float32)
    found = []
    for name in ("python", "native"):
        x = rk.tensor(values, requires_grad=True)
        with rk.backend(name):
            loss = losses.cross_entropy(x, np.arange(40), reduction="none")
            loss.sum().backward()
        found.append((loss.numpy(), x.grad.numpy()))
    (loss, d_x), (other, d_other) = found
    np.testing.assert_allclose(loss, other, rtol=1e-6)
    np.testing.assert_allclose(d_x, d_other, rtol=2e-6, atol=1e-9)
    assert not np.array_equal(d_x, d_other)


@pytest.mark.usefixtures("path")
def test_cross_entropy_is_nll_of_log_softmax():
    x = rk.randn(4, 3, 5).astype(np.float64)
    target = np.arange(12).reshape(4, 3) % 5
    for reduction in ("none", "mean", "sum"):
        np.testing.assert_allclose(
            losses.cross_entropy(x, target, reduction=reduction).numpy(),
            losses.nll(x.log_softmax(-1), target, reduction=reduction).numpy(),
            rtol=1e-14,
        )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("loss", CLASSES)
def test_with_every_target_ignored_the_mean_is_nan_and_the_gradient_zero(loss):
    x = rk.tensor(np.ones((2, 3)), requires_grad=True)
    target = np.full(2, -100)
    value = loss(x, target)
    assert np.isnan(value.item())
    value.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((2, 3)))
    assert loss(x, target, reduction="sum").item() == 0
    np.testing.assert_array_equal(loss(x, target, reduction="none").numpy(), np.zeros(2))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_every_target_ignored_the_second_derivative_is_zero_too(smoothing):
    x = rk.tensor(np.ones((2, 3)), requires_grad=True)
    value = losses.cross_entropy(x, np.full(2, -100), label_smoothing=smoothing)
    (d_x,) = rk.grad(value, x, create_graph=True)
    np.testing.assert_array_equal(rk.grad(d_x.sum(), x)[0].numpy(), np.zeros((2, 3)))


@pytest.mark.parametrize("loss", CLASSES)
def test_no_rows_at_all(loss):
    x = rk.tensor(np.ones((0, 3)), requires_grad=True)
    target = np.zeros(0, int)
    value = loss(x, target)
    assert np.isnan(value.item())
    value.backward()
    assert x.grad.shape == (0, 3)
    assert loss(x, target, reduction="sum").item() == 0
    assert loss(x, target, reduction="none").shape == (0,)
    assert loss(x, [], reduction="sum").item() == 0


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_what_stands_in_ignored_rows_does_not_matter(garbage, smoothing):
    x = rk.tensor(np.array([[1.0, 2.0, 3.0], [garbage] * 3]), requires_grad=True)
    alone = rk.tensor(np.array([[1.0, 2.0, 3.0]]), requires_grad=True)
    value = losses.cross_entropy(x, [2, -100], label_smoothing=smoothing)
    value.backward()
    expected = losses.cross_entropy(alone, [2], label_smoothing=smoothing)
    expected.backward()
    assert value.item() == expected.item()
    np.testing.assert_array_equal(x.grad.numpy(), [alone.grad.numpy()[0], [0, 0, 0]])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_what_stands_in_ignored_rows_does_not_matter_to_second_derivatives(smoothing):
    def second(rows, target):
        x = rk.tensor(np.array(rows), requires_grad=True)
        scale = rk.tensor(np.full(len(rows), 1.5), requires_grad=True)
        value = losses.cross_entropy(x, target, reduction="none", label_smoothing=smoothing)
        (d_x,) = rk.grad((value * scale).sum(), x, create_graph=True)
        return [found.data for found in rk.grad((d_x * d_x).sum(), [x, scale])]

    d_x, d_scale = second([[1.0, 2.0, 3.0], [np.nan, np.inf, 0.0]], [2, -100])
    d_x_alone, d_scale_alone = second([[1.0, 2.0, 3.0]], [2])
    np.testing.assert_array_equal(d_x, [d_x_alone[0], [0, 0, 0]])
    np.testing.assert_array_equal(d_scale, [d_scale_alone[0], 0])


@pytest.mark.usefixtures("path")
def test_nan_logits_in_a_kept_row_propagate():
    x = rk.tensor(np.array([[1.0, np.nan], [0.0, 0.0]]), requires_grad=True)
    value = losses.cross_entropy(x, [0, 0], reduction="none")
    assert np.isnan(value.numpy()[0])
    assert np.isfinite(value.numpy()[1])
    value.sum().backward()
    assert np.isnan(x.grad.numpy()[0]).all()
    assert np.isfinite(x.grad.numpy()[1]).all()


@pytest.mark.usefixtures("path")
def test_impossible_classes_at_minus_infinity():
    x = rk.tensor(np.array([[0.0, 0.0, -np.inf]]), requires_grad=True)
    value = losses.cross_entropy(x, [0])
    value.backward()
    np.testing.assert_allclose(value.item(), np.log(2))
    np.testing.assert_allclose(x.grad.numpy(), [[-0.5, 0.5, 0]])
    assert losses.cross_entropy(x, [2]).item() == np.inf


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_and_gradients_far_below_the_rounding_of_one_are_right(dtype):
    gap = 60.0
    x = rk.tensor(np.array([[500.0 + gap, 500.0]], dtype), requires_grad=True)
    value = losses.cross_entropy(x, [0])
    value.backward()
    rtol = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(value.item(), np.exp(-gap), rtol=rtol)
    np.testing.assert_allclose(x.grad.numpy(), [[-np.exp(-gap), np.exp(-gap)]], rtol=rtol)


@pytest.mark.usefixtures("path")
def test_huge_logits_do_not_overflow():
    x = rk.tensor(np.array([[3e38, -3e38, 0.0]], np.float32), requires_grad=True)
    value = losses.cross_entropy(x, [2])
    value.backward()
    np.testing.assert_allclose(value.item(), 3e38, rtol=1e-6)
    np.testing.assert_array_equal(x.grad.numpy(), [[1, 0, -1]])


@pytest.mark.usefixtures("path")
def test_one_class_costs_nothing():
    x = rk.tensor(np.array([[3.0], [5.0]]), requires_grad=True)
    value = losses.cross_entropy(x, [0, 0], label_smoothing=0.3)
    value.backward()
    assert value.item() == 0
    np.testing.assert_array_equal(x.grad.numpy(), [[0], [0]])


@pytest.mark.usefixtures("path")
def test_nothing_of_the_size_of_the_logits_is_kept():
    x = rk.tensor(np.zeros((1000, 200), np.float32), requires_grad=True)
    target = np.zeros(1000, int)
    losses.cross_entropy(x, target).backward()
    x.grad = None
    tracemalloc.start()
    value = losses.cross_entropy(x, target)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < x.data.nbytes / 10
    assert peak < 1.5 * x.data.nbytes
    value.backward()


def test_the_inputs_are_left_alone():
    logits = np.random.default_rng(0).normal(size=(3, 4))
    target = np.array([0, -100, 3], np.int8)
    kept = logits.copy(), target.copy()
    x = rk.as_tensor(logits).requires_grad_()
    for loss in CLASSES:
        loss(x, target).backward()
    np.testing.assert_array_equal(logits, kept[0])
    np.testing.assert_array_equal(target, kept[1])


@pytest.mark.usefixtures("path")
def test_targets_in_any_memory_order():
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    target = np.asfortranarray(np.arange(12).reshape(3, 4) % 5)
    weight = np.linspace(0.5, 2, 5)
    x = rk.tensor(values, requires_grad=True)
    options = {"weight": weight, "ignore_index": 2, "reduction": "none"}
    loss = losses.cross_entropy(x, target, **options)
    expected = losses.cross_entropy(values, target.copy("C"), **options)
    np.testing.assert_array_equal(loss.numpy(), expected.numpy())
    loss.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[target == 2], 0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("loss", CLASSES)
def test_targets_of_any_integer_type(loss, dtype):
    x = rk.randn(3, 4)
    expected = loss(x, [1, 0, 3]).item()
    assert loss(x, np.array([1, 0, 3], dtype)).item() == expected
    assert loss(x, rk.tensor(np.array([1, 0, 3], dtype))).item() == expected


@pytest.mark.usefixtures("path")
def test_logits_that_are_not_contiguous():
    values = np.random.default_rng(0).normal(size=(4, 3, 5))
    x = rk.tensor(values, requires_grad=True)
    target = np.arange(12).reshape(3, 4) % 5
    losses.cross_entropy(x.transpose(0, 1), target).backward()
    y = rk.tensor(values.swapaxes(0, 1).copy(), requires_grad=True)
    losses.cross_entropy(y, target).backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.grad.numpy().swapaxes(0, 1))


@pytest.mark.parametrize("loss", CLASSES)
def test_wrong_class_targets(loss):
    x = rk.randn(2, 3, 4)
    good = np.zeros((2, 3), int)
    bad = good.copy()
    bad[1, 2] = 4
    with pytest.raises(ArgumentError, match=r"^ignore_index: expected an integer, got \[1\]"):
        loss(x, good, ignore_index=[1])
    with pytest.raises(ArgumentError, match=r"ids in \[0, 4\) or ignore_index -100, got 4 at in"):
        loss(x, bad)
    bad[0, 1] = -1
    with pytest.raises(ArgumentError, match=r"got -1 at index \(0, 1\)"):
        loss(x, bad)
    with pytest.raises(DTypeError, match="target: expected integer class ids, got float64"):
        loss(x, good.astype(float))
    with pytest.raises(DTypeError, match="target: expected integer class ids, got bool"):
        loss(x, good.astype(bool))
    with pytest.raises(ShapeError, match=r"target: expected shape \(2, 3\) .*, got \(3, 2\)"):
        loss(x, good.T)
    with pytest.raises(ShapeError, match=r"weight: expected shape \(4,\)"):
        loss(x, good, np.ones(3, np.float32))
    with pytest.raises(DTypeError, match="weight: expected float32 as input is, got float64"):
        loss(x, good, np.ones(4))
    with pytest.raises(ShapeError, match=r"input: expected \(..., C\) with a class or more"):
        loss(rk.zeros(2, 0), [0, 0])
    with pytest.raises(ShapeError, match="input: expected"):
        loss(rk.tensor(1.0), 0)
    with pytest.raises(DTypeError, match="input: expected float32 or float64, got int64"):
        loss(rk.tensor(np.zeros((2, 3), int)), [0, 0])
    with pytest.raises(ArgumentError, match="reduction: expected 'mean', 'sum' or 'none', got 'a"):
        loss(x, good, reduction="average")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_impossible_label_smoothing(value):
    with pytest.raises(ArgumentError, match="label_smoothing: expected a number >= 0 and <= 1"):
        losses.cross_entropy(rk.randn(2, 3), [0, 1], label_smoothing=value)


def test_weights_may_be_a_list():
    x = rk.randn(2, 3)
    listed = losses.cross_entropy(x, [0, 1], [1.0, 2.0, 0.5])
    array = losses.cross_entropy(x, [0, 1], np.array([1.0, 2.0, 0.5], np.float32))
    assert listed.item() == array.item()


# -- elementwise losses ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bce_is_right_where_a_plain_formula_cancels(dtype):
    x = rk.tensor(np.array([60.0, -60.0, 1e4, -1e4], dtype), requires_grad=True)
    target = rk.tensor(np.array([1.0, 0.0, 0.0, 1.0], dtype))
    value = losses.bce_with_logits(x, target, reduction="none")
    rtol = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(value.numpy(), [np.exp(-60), np.exp(-60), 1e4, 1e4], rtol=rtol)
    value.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [-np.exp(-60), np.exp(-60), 1, -1], rtol=rtol)


def test_slopes_at_zero_error():
    zero = rk.tensor(np.zeros(1), requires_grad=True)
    for loss in (losses.mse, losses.l1, losses.smooth_l1):
        zero.grad = None
        loss(zero, np.zeros(1)).backward()
        assert zero.grad.item() == 0


def test_smooth_l1_is_smooth_at_its_seams():
    x = rk.tensor(np.array([0.5, -0.5]), requires_grad=True)
    value = losses.smooth_l1(x, np.zeros(2), beta=0.5, reduction="none")
    np.testing.assert_allclose(value.numpy(), [0.25, 0.25])
    value.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1, -1])


def test_smooth_l1_with_a_beta_that_is_0_in_float32_is_l1():
    x = rk.tensor(np.float32([1.5, 0.0, -2.0]), requires_grad=True)
    value = losses.smooth_l1(x, rk.zeros(3), beta=1e-320, reduction="none")
    np.testing.assert_array_equal(value.numpy(), [1.5, 0, 2])
    value.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 0, -1])


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_the_mean_of_no_elements_is_nan(loss):
    assert np.isnan(loss(rk.zeros(0, 3), np.zeros((0, 3), np.float32)).item())


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_wrong_real_targets(loss):
    x = rk.randn(2, 3)
    with pytest.raises(ShapeError, match=r"target: expected shape \(2, 3\) \(as input\), got \(3"):
        loss(x, np.zeros(3, np.float32))
    with pytest.raises(DTypeError, match="target: expected float32 as input is, got float64"):
        loss(x, np.zeros((2, 3)))
    with pytest.raises(DTypeError, match="target: expected float32 as input is, got int64"):
        loss(x, np.zeros((2, 3), np.int64))
    with pytest.raises(DTypeError, match="input: expected float32 or float64, got int64"):
        loss(np.zeros(3, np.int64), np.zeros(3))
    with pytest.raises(ArgumentError, match="reduction: expected"):
        loss(x, x, reduction=None)
    assert loss(x, [[0.5] * 3] * 2).dtype == np.float32


def test_wrong_options_of_elementwise_losses():
    x = rk.randn(2, 3)
    for beta in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="beta: expected a number >= 0"):
            losses.smooth_l1(x, x, beta=beta)
    with pytest.raises(ArgumentError, match="label_smoothing: expected a number >= 0 and <= 1"):
        losses.cross_entropy(x, np.zeros(2, int), label_smoothing=None)
    with pytest.raises(DTypeError, match="pos_weight: expected float32"):
        losses.bce_with_logits(x, x, pos_weight=np.ones(3))
    for shape in ((4, 2, 3), (4,), (1, 2, 3)):
        wrong = np.ones(shape, np.float32)
        with pytest.raises(ShapeError, match=r"^weight: expected .* broadcasts to \(2, 3\), got"):
            losses.bce_with_logits(x, x, wrong)
        with pytest.raises(ShapeError, match=r"^pos_weight: expected .* broadcasts to \(2, 3\)"):
            losses.bce_with_logits(x, x, pos_weight=wrong)


@pytest.mark.parametrize("value", [None, "x", [None]])
def test_what_holds_no_numbers_is_refused_by_the_name_of_its_argument(value):
    x = rk.zeros(1)
    with pytest.raises(DTypeError, match=r"^input: expected"):
        losses.mse_loss(value, x)
    with pytest.raises(DTypeError, match=r"^target: expected"):
        losses.mse_loss(x, value)
    with pytest.raises(ShapeError, match=r"^target: expected a rectangular array"):
        losses.cross_entropy(rk.zeros(2, 2, 3), [[0], [1, 2]])


@pytest.mark.parametrize("value", [None, "x", np.ones(2), rk.ones(2)])
def test_beta_and_reduction_of_another_kind_are_refused_by_name(value):
    x = rk.zeros(2)
    with pytest.raises(ArgumentError, match=r"^beta: expected a number >= 0"):
        losses.smooth_l1_loss(x, x, beta=value)
    with pytest.raises(ArgumentError, match=r"^reduction: expected 'mean'"):
        losses.mse_loss(x, x, reduction=value)


# -- probabilities, variances and counts ------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_0_and_1_cost_100_and_have_pytorchs_slopes(dtype):
    p = rk.tensor([0.0, 0.0, 1.0, 1.0, 0.5], dtype, requires_grad=True)
    loss = losses.binary_cross_entropy(p, [0, 1, 0, 1, 1], reduction="none")
    np.testing.assert_allclose(loss.numpy(), [0, 100, 100, 0, np.log(2)], rtol=1e-6)
    loss.sum().backward()
    np.testing.assert_allclose(p.grad.numpy(), [0, -1e12, 1e12, 0, -2], rtol=1e-6)
    assert np.isnan(losses.binary_cross_entropy([np.nan], [1.0]).item())


def test_binary_cross_entropy_refuses_what_is_no_probability():
    for wrong in (-0.5, 1.5):
        with pytest.raises(ArgumentError, match=f"input: expected probabilities .*, got {wrong}"):
            losses.binary_cross_entropy(rk.tensor([0.5, wrong]), [0.0, 1.0])
    p = rk.tensor([[0.25, 0.5]])
    with pytest.raises(ShapeError, match="weight: expected a shape that broadcasts"):
        losses.binary_cross_entropy(p, p, [1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="target: expected shape"):
        losses.binary_cross_entropy(p, [0.5, 0.5])
    with pytest.raises(DTypeError, match="target: expected float32"):
        losses.binary_cross_entropy(p, p.double())


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (1, 3), (2,), ()])
def test_variances_of_every_shape_are_differentiated(shape):
    random = np.random.default_rng(5)
    x, y = [rk.tensor(random.normal(size=(2, 3)), requires_grad=True) for _ in "xy"]
    var = rk.tensor(random.uniform(0.3, 2, shape), requires_grad=True)
    loss = losses.gaussian_nll_loss(x, y, var, reduction="none")
    v = np.broadcast_to(var.data[:, None] if shape == (2,) else var.data, (2, 3))
    expected = 0.5 * (np.log(v) + (x.data - y.data) ** 2 / v)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-12)
    assert rk.gradcheck(losses.gaussian_nll_loss, [x, y, var])
    assert rk.gradgradcheck(losses.gaussian_nll_loss, [x, y, var])


def test_a_variance_below_eps_counts_as_eps_and_has_its_slope():
    var = rk.tensor(np.array([0.0, 0.25]), requires_grad=True)
    loss = losses.gaussian_nll_loss(np.ones(2), np.zeros(2), var, eps=0.5, reduction="sum")
    assert loss.item() == pytest.approx(np.log(0.5) + 2)
    loss.backward()
    np.testing.assert_allclose(var.grad.numpy(), [0.5 * (2 - 4)] * 2)  # (1/v - e^2/v^2) / 2
    one = losses.gaussian_nll_loss([1.0], [0.0], 0.25)
    assert one.item() == pytest.approx(0.5 * (np.log(0.25) + 4))


def test_kl_div_of_distributions_and_of_no_probability():
    p, q = np.array([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]]), np.full((2, 3), 1 / 3)
    x, y = rk.tensor(np.log(q), requires_grad=True), rk.tensor(p, requires_grad=True)
    loss = losses.kl_div(x, y, reduction="batchmean")
    expected = [sum(a * np.log(3 * a) for a in row if a) for row in p]
    assert loss.item() == pytest.approx(np.mean(expected))
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), -p / 2)
    assert np.isfinite(y.grad.numpy()).all()
    assert np.isnan(losses.kl_div(rk.zeros(0, 3), rk.zeros(0, 3), reduction="batchmean").item())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: losses.huber(x, x, delta=0), ArgumentError, "delta: expected a number > 0"),
        (lambda x: losses.huber(x, x, delta=-1.0), ArgumentError, "delta: expected a number > 0"),
        (lambda x: losses.kl_div(x, x, reduction="all"), ArgumentError, "'batchmean', 'mean'"),
        (lambda x: losses.mse(x, x, reduction="batchmean"), ArgumentError, "expected 'mean'"),
        (lambda x: losses.kl_div(x, x, log_target=1), ArgumentError, "log_target: expected a bool"),
        (lambda x: losses.poisson_nll_loss(x, x, eps=-1), ArgumentError, "eps: expected"),
        (lambda x: losses.poisson_nll_loss(x, x, "no"), ArgumentError, "log_input: expected a b"),
        (lambda x: losses.gaussian_nll_loss(x, x, x, eps=0), ArgumentError, "eps: .* > 0"),
        (lambda x: losses.gaussian_nll_loss(x, x, x, eps=-1), ArgumentError, "eps: .* > 0"),
        (lambda x: losses.gaussian_nll_loss(x, x, -x), ArgumentError, "var: expected variances"),
        (lambda x: losses.gaussian_nll_loss(x, x, x[:, :2]), ShapeError, "var: expected shape"),
        (lambda x: losses.gaussian_nll_loss(x, x, x.double()), DTypeError, "var: expected float32"),
    ],
)
def test_refusals_of_likelihoods(call, error, message):
    with pytest.raises(error, match=message):
        call(rk.ones(2, 3))
