"""Derivatives checked against finite differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd.grad_mode import enable_grad, no_grad
from rnnkit.autograd.tape import grad
from rnnkit.autograd.tensor import Tensor, wrap
from rnnkit.autograd.unchangeable import check_writeable
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

    Returns:
        True.

    Raises:
        GradcheckError: a derivative differs, or `fn` is not deterministic.
        DTypeError: an input to check is not float64.
        ArgumentError: no input requires a gradient, or one that does is read-only.
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = _checked(arguments)
    expected = _jacobians(fn, arguments, checked)
    values = _values(fn, arguments)
    for k, (first, again) in enumerate(zip(values, _values(fn, arguments), strict=True)):
        if first.tobytes() != again.tobytes():
            raise GradcheckError(f"output {k} is not the same on a second call")
    for i in checked:
        data = arguments[i].data
        for element in np.ndindex(data.shape):
            numeric = _difference(fn, arguments, data, element, eps)
            for k, column in enumerate(numeric):
                analytic = expected[k, i][(..., *element)]
                _compare(analytic, column, f"input {i} at {element}, output {k}", atol, rtol)
    return True


def gradgradcheck(
    fn: Fn,
    inputs: Tensor | Sequence[Any],
    grad_outputs: Sequence[Tensor] | None = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
) -> bool:
    """Like `gradcheck`, for the gradient of `fn` as a function of its inputs and `grad_outputs`.

    Args:
        grad_outputs: where to evaluate, one per float output of `fn`; random by default.

    See `gradcheck` for the other arguments and the errors.
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = _checked(arguments)
    outputs = _float_outputs(fn(*arguments))
    if grad_outputs is None:
        random = np.random.default_rng(0)
        seeds = [wrap(np.asarray(random.normal(size=y.shape))) for y in outputs]
    else:
        seeds = list(grad_outputs)
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

    return gradcheck(gradient, [*arguments, *seeds], eps, atol, rtol)


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


def _float_outputs(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    outputs = [result] if isinstance(result, Tensor) else list(result)
    return [y for y in outputs if y.dtype.kind == "f"]


def _values(fn: Fn, arguments: list[Any]) -> list[Array]:
    with no_grad():
        return [y.data.copy() for y in _float_outputs(fn(*arguments))]


def _difference(
    fn: Fn, arguments: list[Any], data: Array, element: tuple[int, ...], eps: float
) -> list[Array]:
    """The central difference of every output with respect to one element of one input."""
    value = data[element].copy()
    try:
        data[element] = value + eps
        above = _values(fn, arguments)
        data[element] = value - eps
        below = _values(fn, arguments)
    finally:
        data[element] = value
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
        if not y.requires_grad:
            continue
        for element in np.ndindex(y.shape):
            seed = np.zeros(y.shape)
            seed[element] = 1.0
            rows = grad(y, wanted, wrap(seed), retain_graph=True, allow_unused=True)
            for i, row in zip(checked, rows, strict=True):
                if row is not None:
                    found[k, i][element] = row.data
    return found


def _compare(analytic: Array, numeric: Array, where: str, atol: float, rtol: float) -> None:
    wrong = ~(np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric))
    if wrong.any():
        element = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise GradcheckError(
            f"{where} at {element}: the rule gives {float(analytic[element])!r}, finite "
            f"differences give {float(numeric[element])!r}"
        )
