"""Accuracy of the kernels' functions of one number against references of higher precision."""

from __future__ import annotations

import decimal

import numpy as np
import pytest

native = pytest.importorskip("rnnkit.backend._native")

FUNCTIONS = ("exp", "tanh", "sigmoid", "log", "log1p")
BEGINS_AT = {"log": 0.0, "log1p": -1.0}
"""Where a logarithm is minus infinity."""
# float: what the design promises. double: 2, but 2.5 where a multiply-add rounds twice.
MOST_ULP = {"float32": 2.5, "float64": 2.0}
MOST_ULP_WITHOUT_FMA = {"float32": 2.5, "float64": 2.5}


def evaluate(function: str, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    native.evaluate(function, x, out, str(x.dtype))
    return out


def most_ulp(isa: str, dtype: str) -> float:
    return (MOST_ULP_WITHOUT_FMA if isa == "generic" else MOST_ULP)[dtype]


def reference_in_double(function: str, x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        if function == "exp":
            return np.exp(wide)
        if function == "tanh":
            return np.tanh(wide)
        if function in BEGINS_AT:
            return getattr(np, function)(wide)
        return np.where(wide < 0, np.exp(wide) / (1 + np.exp(wide)), 1 / (1 + np.exp(-wide)))


def reference_in_decimal(function: str, x: float) -> decimal.Decimal:
    value = decimal.Decimal(x)
    if function == "exp":
        return value.exp()
    if function == "sigmoid":
        return 1 / (1 + (-value).exp())
    if function == "log":
        return value.ln()
    if function == "log1p":
        # Below, the next term of the series is 40 digits down; ln would not see the 1.
        small = abs(value) < decimal.Decimal("1e-20")
        return value - value**2 / 2 if small else (1 + value).ln()
    if abs(value) < decimal.Decimal("1e-12"):
        return value - value**3 / 3  # the next term is 48 digits down; exp would cancel
    e = (2 * value).exp()
    return (e - 1) / (e + 1)


def every_nth_float(n: int) -> np.ndarray:
    """Floats of every exponent and sign, subnormals too: every n-th bit pattern of the finite."""
    bits = np.arange(0, 0x7F800000, n, dtype=np.uint32)
    positive = bits.view(np.float32)
    return np.concatenate([positive, -positive])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_float32_over_every_exponent(isa, function):
    dense = np.linspace(-110, 100, 1 << 19, dtype=np.float32)
    x = np.concatenate([every_nth_float(4001), dense, dense / 64, 1 + dense / 512])
    x = x[x > BEGINS_AT.get(function, -np.inf)]
    expected = reference_in_double(function, x)
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    out = evaluate(function, x)
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(out[infinite], rounded[infinite])
    ulp = np.spacing(np.abs(rounded[~infinite])).astype(np.float64)
    error = np.abs(out[~infinite].astype(np.float64) - expected[~infinite]) / ulp
    worst = np.argmax(error)
    assert error[worst] <= most_ulp(isa, "float32"), x[~infinite][worst]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_float64_over_the_whole_range(every_isa, function):
    rng = np.random.default_rng(1)
    x = np.concatenate([
        rng.uniform(-745, 709.7, 1500),
        rng.uniform(-1.5, 1.5, 2500),
        rng.uniform(-40, 40, 1500),
        np.exp(rng.uniform(-700, 3, 400)) * rng.choice([-1, 1], 400),
        rng.uniform(-745, -707, 300),
        5e-324 * np.array([1.0, 2, 3, 1000, 2.0**51]),
        1 + rng.uniform(-1e-3, 1e-3, 300),
        rng.uniform(-1, -0.99, 300),
    ])
    if function in BEGINS_AT:
        x = np.concatenate([x, np.exp(rng.uniform(3, 700, 300))])
        x = x[x > BEGINS_AT[function]]
    found = {isa: evaluate(function, x).tolist() for isa in every_isa()}
    with decimal.localcontext(prec=60):
        for i, value in enumerate(x.tolist()):
            expected = reference_in_decimal(function, value)
            ulp = decimal.Decimal(max(float(np.spacing(abs(float(expected)))), 5e-324))
            for isa, results in found.items():
                error = float(abs(decimal.Decimal(results[i]) - expected) / ulp)
                assert error <= most_ulp(isa, "float64"), (isa, value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(isa, dtype):
    inf, nan = np.inf, np.nan
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, inf, -inf, nan, tiny, -tiny], dtype)
    tanh = evaluate("tanh", x)
    np.testing.assert_array_equal(tanh, np.array([0.0, -0.0, 1, -1, nan, tiny, -tiny], dtype))
    np.testing.assert_array_equal(np.signbit(tanh[:2]), [False, True])
    np.testing.assert_array_equal(
        evaluate("sigmoid", x), np.array([0.5, 0.5, 1, 0, nan, 0.5, 0.5], dtype)
    )
    np.testing.assert_array_equal(evaluate("exp", x), np.array([1, 1, inf, 0, nan, 1, 1], dtype))
    log1p = evaluate("log1p", x)
    np.testing.assert_array_equal(log1p, np.array([0.0, -0.0, inf, nan, nan, tiny, -tiny], dtype))
    np.testing.assert_array_equal(np.signbit(log1p[:2]), [False, True])
    for function, start in BEGINS_AT.items():
        x = np.array([start, np.nextafter(start, -inf, dtype=dtype), start + 1, inf, nan], dtype)
        np.testing.assert_array_equal(evaluate(function, x), np.array([-inf, nan, 0, inf, nan]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tanh_and_sigmoid_stay_in_their_range(isa, dtype):
    x = np.concatenate([np.linspace(-60, 60, 200_001), np.logspace(0, 30, 1000)]).astype(dtype)
    tanh, sigmoid = evaluate("tanh", x), evaluate("sigmoid", x)
    assert np.abs(tanh).max() == 1
    assert sigmoid.min() >= 0
    assert sigmoid.max() == 1
    np.testing.assert_array_equal(evaluate("tanh", -x), -tanh)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 15, 17, 33])
def test_a_value_does_not_depend_on_its_place(isa, n):
    x = np.linspace(-3, 3, n).astype(np.float32)
    whole = evaluate("tanh", x)
    alone = np.concatenate([evaluate("tanh", x[i : i + 1]) for i in range(n)])
    np.testing.assert_array_equal(whole, alone)
