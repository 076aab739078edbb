"""Derivatives checked against finite differences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.grad_mode import enable_grad, no_grad
from rnnkit.autograd.tape import grad
from rnnkit.autograd.tensor import Tensor, to_array, wrap
from rnnkit.autograd.unchangeable import check_writeable
from rnnkit.checks import check_bool, check_callable, check_number
from rnnkit.errors import ArgumentError, DTypeError, GradcheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rnnkit.autograd.tensor import Array

    Fn = Callable[..., Tensor | Sequence[Tensor]]


def gradcheck(
    fn: Fn,
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    fast_mode: bool = False,
) -> bool:
    """Compare every element of the Jacobian of `fn` with central differences.

    Costs two evaluations of `fn` per input element and one backward pass per output element.

    Args:
        fn: takes the inputs and returns one or several tensors; must be deterministic. Integer and
            bool results are left out.
        inputs: one argument or the sequence of them. Tensors that require a gradient are checked,
            and must be float64 leaves; their ``data`` is varied in place and restored.
        eps: step of the differences.
        atol, rtol: allowed is ``|analytic - numeric| <= atol + rtol * |numeric|``.
        fast_mode: compare u^T J v in place of J's elements, for a random unit vector u of each
            output and v of each input: two evaluations per input and one backward pass per output.
            A wrong element shows by what is left of it, u_i v_j of its error.

    Returns:
        True.

    Raises:
        GradcheckError: a derivative differs, or `fn` is not deterministic.
        DTypeError: an input to check is not float64, or `fn` returns something else than tensors.
        ArgumentError: no input requires a gradient, or one that does is read-only; eps is not a
            positive number, a tolerance is negative or NaN.
    """
    check_callable("fn", fn)
    check_bool("fast_mode", fast_mode)
    _check_numbers(eps, atol, rtol)
    arguments = _one_or_several("inputs", inputs)
    checked = _checked(arguments)
    compare = _compare_directions if fast_mode else _compare_elements
    values = _values(fn, arguments)
    for k, (first, again) in enumerate(zip(values, _values(fn, arguments), strict=True)):
        if first.tobytes() != again.tobytes():
            raise GradcheckError(f"output {k} is not the same on a second call")
    compare(fn, arguments, checked, eps, atol, rtol)
    return True


def gradgradcheck(
    fn: Fn,
    inputs: Tensor | Sequence[Any],
    grad_outputs: Sequence[Tensor] | None = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    fast_mode: bool = False,
) -> bool:
    """Like `gradcheck`, for the gradient of `fn` as a function of its inputs and `grad_outputs`.

    Args:
        grad_outputs: where to evaluate, one per float output of `fn`; random by default.

    See `gradcheck` for the other arguments and the errors.
    """
    check_callable("fn", fn)
    check_bool("fast_mode", fast_mode)
    _check_numbers(eps, atol, rtol)
    arguments = _one_or_several("inputs", inputs)
    checked = _checked(arguments)
    outputs = _float_outputs(fn(*arguments))
    if grad_outputs is None:
        random = np.random.default_rng(0)
        seeds = [wrap(np.asarray(random.normal(size=y.shape))) for y in outputs]
    else:
        given = _one_or_several("grad_outputs", grad_outputs)
        seeds = [
            wrap(to_array(seed, name=f"grad_outputs[{i}]")) for i, seed in enumerate(given)
        ]
        if len(seeds) != len(outputs):
            raise ArgumentError(
                f"grad_outputs: expected {len(outputs)}, one per float output of fn, got "
                f"{len(seeds)}"
            )
    for seed in seeds:
        seed.requires_grad_()

    def gradient(*both: Any) -> list[Tensor]:
        with enable_grad():
            ys = _float_outputs(fn(*both[: len(arguments)]))
            pairs = [
                (y, d_y)
                for y, d_y in zip(ys, both[len(arguments) :], strict=True)
                if y.requires_grad
            ]
            found = grad(
                [y for y, _ in pairs],
                [both[i] for i in checked],
                [d_y for _, d_y in pairs],
                create_graph=True,
                allow_unused=True,
            )
        return [d_x for d_x in found if d_x is not None]

    return gradcheck(gradient, [*arguments, *seeds], eps, atol, rtol, fast_mode)


def _check_numbers(eps: float, atol: float, rtol: float) -> None:
    check_number("eps", eps, above_low=True, below_high=True)
    check_number("atol", atol)
    check_number("rtol", rtol)


def _checked(arguments: list[Any]) -> list[int]:
    found = []
    for i, argument in enumerate(arguments):
        if isinstance(argument, Tensor) and argument.requires_grad:
            if argument.dtype != np.float64:
                raise DTypeError(
                    f"inputs[{i}]: finite differences need float64, got {argument.dtype.name}"
                )
            if not argument.is_leaf:
                raise ArgumentError(f"inputs[{i}]: expected a leaf; detach() it first")
            check_writeable(f"inputs[{i}]", argument.data)
            found.append(i)
    if not found:
        raise ArgumentError("inputs: none requires a gradient")
    return found


def _one_or_several(name: str, value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Iterable):
        return list(value)
    raise DTypeError(f"{name}: expected a Tensor or several, got {type(value).__name__}")


def _float_outputs(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    outputs = _one_or_several("fn: its result", result)
    for k, y in enumerate(outputs):
        if not isinstance(y, Tensor):
            raise DTypeError(f"fn: its result {k}: expected a Tensor, got {type(y).__name__}")
    return [y for y in outputs if y.dtype.kind == "f"]


def _values(fn: Fn, arguments: list[Any]) -> list[Array]:
    with no_grad():
        return [y.data.copy() for y in _float_outputs(fn(*arguments))]


def _compare_elements(
    fn: Fn, arguments: list[Any], checked: list[int], eps: float, atol: float, rtol: float
) -> None:
    expected = _jacobians(fn, arguments, checked)
    for i in checked:
        data = arguments[i].data
        for element in np.ndindex(data.shape):
            step = np.zeros(data.shape)
            step[element] = eps
            for k, numeric in enumerate(_difference(fn, arguments, data, step, eps)):
                analytic = expected[k, i][(..., *element)]
                _compare(analytic, numeric, f"input {i} at {element}, output {k}", atol, rtol)


def _compare_directions(
    fn: Fn, arguments: list[Any], checked: list[int], eps: float, atol: float, rtol: float
) -> None:
    random = np.random.default_rng(0)
    wanted = [arguments[i] for i in checked]
    with enable_grad():
        outputs = _float_outputs(fn(*arguments))
    us = [_unit_vector(random, y.shape) for y in outputs]
    rows = [_row(y, wanted, u) for y, u in zip(outputs, us, strict=True)]
    for n, i in enumerate(checked):
        v = _unit_vector(random, arguments[i].shape)
        differences = _difference(fn, arguments, arguments[i].data, eps * v, eps)
        for k, (u, difference) in enumerate(zip(us, differences, strict=True)):
            analytic, numeric = np.sum(rows[k][n] * v), np.sum(u * difference)
            _compare(analytic, numeric, f"input {i}, output {k}", atol, rtol)


def _unit_vector(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Of elements that are neither zero nor next to it."""
    drawn = random.uniform(0.5, 1, shape) * random.choice([-1.0, 1.0], shape)
    return np.asarray(drawn / max(1, drawn.size) ** 0.5)


def _difference(
    fn: Fn, arguments: list[Any], data: Array, step: Array, eps: float
) -> list[Array]:
    """The central difference of every output when one input moves by `step`, per `eps`."""
    value = data.copy()
    try:
        data += step
        above = _values(fn, arguments)
        np.subtract(value, step, out=data)
        below = _values(fn, arguments)
    finally:
        data[...] = value
    return [(high - low) / (2 * eps) for high, low in zip(above, below, strict=True)]


def _jacobians(
    fn: Fn, arguments: list[Any], checked: list[int]
) -> dict[tuple[int, int], Array]:
    """By output and input, the derivative of each element with respect to each, from the tape."""
    wanted = [arguments[i] for i in checked]
    found: dict[tuple[int, int], Array] = {}
    with enable_grad():
        outputs = _float_outputs(fn(*arguments))
    for k, y in enumerate(outputs):
        for i in checked:
            found[k, i] = np.zeros(y.shape + arguments[i].shape)
        for element in np.ndindex(y.shape):
            seed = np.zeros(y.shape)
            seed[element] = 1.0
            for i, row in zip(checked, _row(y, wanted, seed), strict=True):
                found[k, i][element] = row
    return found


def _row(y: Tensor, wanted: list[Tensor], seed: Array) -> list[Array]:
    """seed^T J of an output, for each of the inputs."""
    if not y.requires_grad:
        return [np.zeros(x.shape) for x in wanted]
    rows = grad(y, wanted, wrap(seed), retain_graph=True, allow_unused=True)
    return [
        np.zeros(x.shape) if row is None else row.data for x, row in zip(wanted, rows, strict=True)
    ]


def _compare(analytic: Any, numeric: Any, where: str, atol: float, rtol: float) -> None:
    wrong = ~(np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric))
    if wrong.any():
        element = tuple(int(n) for n in np.argwhere(wrong)[0])
        at = f" at {element}" if element else ""
        raise GradcheckError(
            f"{where}{at}: the rule gives {float(analytic[element])!r}, finite "
            f"differences give {float(numeric[element])!r}"
        )
