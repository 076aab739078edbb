"""Losses as modules, and nn.functional: the functions of ops and losses under PyTorch's names."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses, nn
from rnnkit.errors import ArgumentError
from rnnkit.nn import functional as F

RNG = np.random.default_rng(0)
X = rk.tensor(RNG.normal(size=(6, 4)))
Y = rk.tensor(RNG.normal(size=(6, 4)) > 0).double()
IDS = np.array([0, 3, 1, -100, 2, 1])
W = np.array([1.0, 2.0, 0.5, 3.0])
WITH = {"weight": W, "ignore_index": 1, "reduction": "sum"}
HUBER = {"reduction": "sum", "delta": 0.5}

CASES = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), losses.cross_entropy, (X, IDS), {}),
    "CrossEntropyLoss, options": (
        nn.CrossEntropyLoss(W, ignore_index=-100, reduction="none", label_smoothing=0.1),
        losses.cross_entropy,
        (X, IDS),
        {"weight": W, "ignore_index": -100, "reduction": "none", "label_smoothing": 0.1},
    ),
    "NLLLoss": (nn.NLLLoss(), losses.nll_loss, (X.log_softmax(), IDS), {}),
    "NLLLoss, options": (nn.NLLLoss(**WITH), losses.nll_loss, (X, IDS.clip(0)), WITH),
    "MSELoss": (nn.MSELoss(reduction="sum"), losses.mse_loss, (X, Y), {"reduction": "sum"}),
    "L1Loss": (nn.L1Loss(), losses.l1_loss, (X, Y), {}),
    "SmoothL1Loss": (nn.SmoothL1Loss(beta=0.5), losses.smooth_l1_loss, (X, Y), {"beta": 0.5}),
    "HuberLoss": (nn.HuberLoss("sum", 0.5), losses.huber_loss, (X, Y), HUBER),
    "GaussianNLLLoss": (
        nn.GaussianNLLLoss(full=True, eps=0.5, reduction="sum"),
        losses.gaussian_nll_loss,
        (X, Y, X * X),
        {"full": True, "eps": 0.5, "reduction": "sum"},
    ),
    "PoissonNLLLoss": (
        nn.PoissonNLLLoss(False, True, eps=0.1, reduction="none"),
        losses.poisson_nll_loss,
        (X * X, Y * 3),
        {"log_input": False, "full": True, "eps": 0.1, "reduction": "none"},
    ),
    "KLDivLoss": (
        nn.KLDivLoss(reduction="batchmean", log_target=True),
        losses.kl_div,
        (X.log_softmax(), X),
        {"reduction": "batchmean", "log_target": True},
    ),
    "BCELoss": (
        nn.BCELoss(W, reduction="sum"),
        losses.binary_cross_entropy,
        (X.sigmoid(), Y),
        {"weight": W, "reduction": "sum"},
    ),
    "BCEWithLogitsLoss": (
        nn.BCEWithLogitsLoss(pos_weight=W, reduction="none"),
        losses.binary_cross_entropy_with_logits,
        (X, Y),
        {"pos_weight": W, "reduction": "none"},
    ),
    "CTCLoss": (
        nn.CTCLoss(blank=3, reduction="none", zero_infinity=True),
        losses.ctc_loss,
        (X.log_softmax(), np.array([0, 2]), 6, 2),
        {"blank": 3, "reduction": "none", "zero_infinity": True},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_its_function_with_the_options_it_was_made_with(name):
    module, function, arguments, options = CASES[name]
    np.testing.assert_array_equal(
        module(*arguments).numpy(), function(*arguments, **options).numpy()
    )


def test_weights_follow_the_model_and_are_saved():
    loss = nn.CrossEntropyLoss(W)
    assert list(loss.state_dict()) == ["weight"]
    assert not list(loss.parameters())
    assert loss.to("float32")(X.float(), IDS).dtype == np.float32
    assert repr(nn.MSELoss(reduction="sum")) == "MSELoss(reduction='sum')"
    with pytest.raises(ArgumentError, match="reduction: expected 'mean', 'sum' or 'none'"):
        nn.L1Loss(reduction="average")


def test_functions_along_an_axis_take_it_by_pytorchs_name():
    np.testing.assert_array_equal(F.softmax(X, dim=0).numpy(), X.softmax(0).numpy())
    np.testing.assert_array_equal(F.log_softmax(X, dim=1).numpy(), X.log_softmax(1).numpy())
    np.testing.assert_array_equal(nn.Softmax(dim=0)(X).numpy(), X.softmax(0).numpy())
    np.testing.assert_array_equal(nn.LogSoftmax(dim=0)(X).numpy(), X.log_softmax(0).numpy())


def test_logsigmoid():
    x = rk.tensor(np.array([-1e3, -1.0, 0.0, 1e3]), requires_grad=True)
    y = F.logsigmoid(x)
    expected = [-1e3, -np.log1p(np.e), -np.log(2), 0]
    np.testing.assert_allclose(y.detach().numpy(), expected)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1, 1 - 1 / (1 + np.e), 0.5, 0])


def test_all_that_functional_lists_is_there():
    assert all(callable(getattr(F, name)) for name in F.__all__)


def test_softplus_and_flatten():
    x = rk.tensor(RNG.normal(size=(2, 3, 4)))
    np.testing.assert_array_equal(nn.Softplus(2.0)(x).numpy(), x.softplus(2.0).numpy())
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
