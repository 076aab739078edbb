"""The base of all optimisers: groups, state, scratch memory, saving and loading."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnnkit import backend
from rnnkit.autograd import Tensor, enable_grad
from rnnkit.autograd.node import check_gradient
from rnnkit.autograd.tensor import FLOATS, plain_array
from rnnkit.autograd.unchangeable import check_writeable
from rnnkit.checks import check_bool, check_callable, check_list, check_number
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.module import Module, clear_grad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    # A parameter's values, its gradient and its state.
    Due: TypeAlias = tuple[np.ndarray, np.ndarray, dict[str, Any]]

# What a schedule may add to a group beside the optimiser's own options.
SCHEDULE_OPTIONS = ("initial_lr",)


class Optimizer:
    """Updates parameters in place from their gradients.

    ``params`` is an iterable of leaf Tensors, or of dicts with the key "params" and options that
    differ from the defaults for that group. A subclass names its state arrays and writes
    ``_update``.

    Raises ArgumentError for no parameters, one given twice, a non-leaf, an unknown or an impossible
    option; TypeError where something is not a Tensor.
    """

    # Name of the kernel that runs `_native_step`; None: NumPy runs `_update`.
    kernel: ClassVar[str | None] = None
    state_arrays: ClassVar[tuple[str, ...]] = ()
    optional_arrays: ClassVar[tuple[str, ...]] = ()
    # Beside the step, numbers that cannot be had from it.
    state_numbers: ClassVar[tuple[str, ...]] = ()
    counts_steps: ClassVar[bool] = True
    # Whether `step` cannot do without a closure.
    needs_closure: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__
        if "_update" in own and "_native_step" not in own:
            # A derived optimiser with an update of its own must not run its base's kernel.
            cls.kernel = None

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]
    ) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        # Keyed by the parameter's position over all groups: a copy or a saved state needs no ids.
        self.state: dict[int, dict[str, Any]] = {}
        self._scratch = Scratch()
        if isinstance(params, Tensor):
            raise TypeError(
                "params: expected an iterable of Tensors or of dicts, got a single Tensor"
            )
        if isinstance(params, Module):
            raise TypeError(
                "params: expected an iterable of Tensors or of dicts, such as "
                f"module.parameters(), got the module: {type(params).__name__}"
            )
        if isinstance(params, str) or not isinstance(params, Iterable):
            raise TypeError(
                "params: expected an iterable of Tensors or of dicts, "
                f"got {params!r} ({type(params).__name__})"
            )
        items: list[Any] = list(params)
        if not items:
            raise ArgumentError("params: expected at least one parameter, got none")
        if not isinstance(items[0], dict):
            items = [{"params": items}]
        for group in items:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group: {"params": Tensor or iterable of Tensors, option: value, ...}."""
        if not hasattr(param_group, "keys") or "params" not in param_group:
            raise TypeError(
                f"param group: expected a dict with the key 'params', got {param_group!r}"
            )
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        else:
            params = check_list("params", params, "a Tensor or several")
        options = {name: value for name, value in param_group.items() if name != "params"}
        unknown = [name for name in options if name not in {*self.defaults, *SCHEDULE_OPTIONS}]
        if unknown:
            raise ArgumentError(
                f"{type(self).__name__}: unknown option {', '.join(map(repr, unknown))}; "
                f"expected {', '.join(self.defaults)}"
            )
        group = {"params": params, **_plain({**self.defaults, **options})}
        self.check_options(group)
        known = {id(param) for param in self._parameters()}
        for position, param in enumerate(params):
            check_parameter(param, position)
            if id(param) in known:
                raise ArgumentError(f"params[{position}] is given to the optimizer twice")
            known.add(id(param))
        self.param_groups.append(group)

    def check_options(self, group: Mapping[str, Any]) -> None:
        """Raise ArgumentError naming an option of ``group`` that this optimiser cannot run with."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros instead."""
        check_bool("set_to_none", set_to_none)
        for param in self._parameters():
            clear_grad(param, set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in place.

        ``closure``, if given, is called first, with gradients recorded: it clears the gradients,
        makes them anew and returns the loss, which is what is returned then.

        One native call updates all parameters of a group, or NumPy one after the other; both give
        the same bits.
        Non-finite gradients go into the parameters as the arithmetic has it, without a warning;
        ``clip_grad_norm_(..., error_if_nonfinite=True)`` is the place to stop them.

        Raises ArgumentError for a parameter that is frozen and has a gradient, ShapeError or
        DTypeError for one whose ``data`` has become another than its gradient or its state is of.
        Nothing is changed in that case, the counts of steps included.
        """
        loss = None
        if closure is not None:
            check_callable("closure", closure)
            with enable_grad():
                loss = closure()
        index = 0
        ready = []
        arrays = (*self.state_arrays, *self.optional_arrays)[:1]  # of one shape, as all others
        for group in self.param_groups:
            due = []
            for param in group["params"]:
                if param.grad is not None:
                    check_writeable(f"params[{index}]", param.data)
                    check_gradient(param.grad, param, f"params[{index}].grad")
                    state = self.state.setdefault(index, {})
                    data = param.data
                    for name in arrays:
                        if name in state and state[name].shape != data.shape:
                            raise ShapeError(
                                f"params[{index}]: expected shape {state[name].shape}, as its "
                                f"{name} has, got {data.shape}"
                            )
                    due.append((data, param.grad.data, state))
                index += 1
            if due:
                ready.append((group, due))
        for group, due in ready:
            self._step_group(group, due)
        return loss

    def _step_group(self, group: dict[str, Any], due: list[Due]) -> None:
        kernels = backend.kernels_for(f"{type(self).__name__} step", self._obstacle(due))
        if self.counts_steps:
            for _, _, state in due:
                state["step"] = state.get("step", 0) + 1
        if kernels is None:
            with np.errstate(all="ignore"):
                for data, grad, state in due:
                    self._update(data, grad, state, group)
            return
        for dtype in dict.fromkeys(data.dtype for data, _, _ in due):
            mine = [item for item in due if item[0].dtype == dtype]
            steps = [self._native_step(data, state, group) for data, _, state in mine]
            kernels.update(
                self.kernel,
                dtype.name,
                backend.get_num_threads(),
                [data for data, _, _ in mine],
                [grad for _, grad, _ in mine],
                [arrays for arrays, _ in steps],
                [numbers for _, numbers in steps],
            )

    def _obstacle(self, due: list[Due]) -> str | None:
        if self.kernel is None:
            return f"there is no kernel for {type(self).__name__}"
        for data, grad, _ in due:
            for array in (data, grad):
                flags = array.flags
                if not (flags.c_contiguous and flags.aligned):
                    return "a parameter or its gradient is not contiguous"
        return None

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Change ``data`` and ``state`` in place; ``grad`` is only read."""
        raise NotImplementedError

    def _native_step(
        self, data: np.ndarray, state: dict[str, Any], group: dict[str, Any]
    ) -> tuple[tuple[np.ndarray | None, ...], tuple[float, ...]]:
        """Return the state arrays and the coefficients that the kernel wants for a parameter.

        csrc/kernels/update.h tells which.
        """
        raise NotImplementedError

    def _state_array(
        self, state: dict[str, Any], name: str, data: np.ndarray, fill: float = 0.0
    ) -> np.ndarray:
        """Return the state array ``name``, made on first use, in the dtype of ``data``.

        Module.to() may have changed that dtype since the last step.
        """
        array = state.get(name)
        if array is None:
            array = state[name] = np.full_like(data, fill, order="C")
        elif array.dtype != data.dtype:
            array = state[name] = array.astype(data.dtype, order="C")
        return array

    def _decayed(self, data: np.ndarray, grad: np.ndarray, weight_decay: float) -> np.ndarray:
        """Return grad + weight_decay * data, in scratch memory unless there is no decay."""
        if weight_decay == 0:
            return grad
        total = self._scratch.like(data, "decayed")
        np.multiply(data, weight_decay, out=total)
        total += grad
        return total

    def _parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    # -- saving and loading ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return {"state": {index: {name: array copy or number}}, "param_groups": [...]}.

        Parameters are numbered over all groups in order. Apart from the arrays everything is
        JSON-able.
        """
        groups = []
        start = 0
        for group in self.param_groups:
            stop = start + len(group["params"])
            groups.append({**group, "params": list(range(start, stop))})
            start = stop
        return {
            "state": {
                index: {
                    name: np.array(value, order="C") if isinstance(value, np.ndarray) else value
                    for name, value in state.items()
                }
                for index, state in self.state.items()
                if state
            },
            "param_groups": groups,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over options and state from ``state_dict``.

        Arrays are copied and get the dtype of their parameter.
        Indices may be ints or, after a trip through JSON, their strings.
        Raises ArgumentError listing everything that does not fit; nothing is changed in that case.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            got = list(state_dict) if isinstance(state_dict, Mapping) else repr(state_dict)
            raise ArgumentError(
                f"state_dict: expected the keys 'state' and 'param_groups', got {got}"
            )
        groups = state_dict["param_groups"]
        problems = _group_problems(self.param_groups, groups, {"params", *self.defaults})
        if problems:
            raise self._loading_error(problems)
        merged = [
            {**_plain(saved), "params": group["params"]}
            for group, saved in zip(self.param_groups, groups, strict=True)
        ]
        for group in merged:
            self.check_options(group)
        state = {}
        params = list(self._parameters())
        for index, saved in loaded_by_index("state", state_dict["state"], problems).items():
            if index >= len(params):
                problems.append(f"state {index}: there are {len(params)} parameters")
                continue
            if not isinstance(saved, Mapping):
                problems.append(f"state {index}: expected a dict, got {saved!r}")
                continue
            state[index] = self._loaded_state(index, saved, params[index].data, problems)
        if problems:
            raise self._loading_error(problems)
        self.param_groups = merged
        self.state = state

    def _loaded_state(
        self, index: int, saved: Mapping[str, Any], data: np.ndarray, problems: list[str]
    ) -> dict[str, Any]:
        required = (("step",) if self.counts_steps else ()) + self.state_numbers + self.state_arrays
        known = required + self.optional_arrays
        problems += [f"state {index}: missing {name}" for name in required if name not in saved]
        problems += [f"state {index}: unexpected {name}" for name in saved if name not in known]
        state: dict[str, Any] = {}
        for name in known:
            if name not in saved:
                continue
            if name == "step":
                state[name] = loaded_count(f"state {index}: {name}", saved[name], problems)
                continue
            if name in self.state_numbers:
                state[name] = loaded_number(f"state {index}: {name}", saved[name], problems)
                continue
            state[name] = loaded_array(
                f"state {index}: {name}", saved[name], data.shape, data.dtype, problems
            )
        return state

    def _loading_error(self, problems: list[str]) -> ArgumentError:
        return ArgumentError(
            f"{type(self).__name__}: state_dict does not fit, nothing was loaded:\n  "
            + "\n  ".join(problems)
        )

    def __repr__(self) -> str:
        groups = []
        for number, group in enumerate(self.param_groups):
            options = ", ".join(f"{k}={v!r}" for k, v in group.items() if k != "params")
            groups.append(f"\n  group {number}: {len(group['params'])} parameters, {options}")
        return f"{type(self).__name__}({''.join(groups)}\n)"


class Scratch:
    """Work arrays kept from step to step, a buffer per dtype and use.

    Each is as large as its largest user.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, np.dtype], np.ndarray] = {}

    def like(self, array: np.ndarray, use: str) -> np.ndarray:
        """Return an uninitialised array of the shape and dtype of ``array``."""
        key = (use, array.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < array.size:
            buffer = self._buffers[key] = np.empty(array.size, array.dtype)
        return buffer[: array.size].reshape(array.shape)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with NumPy's numbers as Python's, which JSON knows.

    Raises ArgumentError naming an option that is a Tensor or an array: a group must not change
    with what it was made from.
    """
    return {
        name: value if name == "params" else _plain_value(name, value)
        for name, value in options.items()
    }


def _plain_value(name: str, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)([_plain_value(name, each) for each in value])
    if isinstance(value, Tensor | np.ndarray):
        raise ArgumentError(f"{name}: expected a plain value, got {value!r}")
    return value.item() if isinstance(value, np.generic) else value


def loaded_by_index(name: str, saved: Any, problems: list[str]) -> dict[int, Any]:
    """``saved`` by its indices, ints or their strings; what is none adds to ``problems``."""
    found: dict[int, Any] = {}
    if not isinstance(saved, Mapping):
        problems.append(f"{name}: expected a dict by index, got {saved!r}")
        return found
    for key, value in saved.items():
        text = str(key)
        if not (text.isascii() and text.isdigit()) or int(text) in found:
            problems.append(f"{name}: expected each index from 0 on once, got {key!r}")
        else:
            found[int(text)] = value
    return found


def loaded_count(name: str, value: Any, problems: list[str]) -> int:
    """``value`` as an integer of 0 or more; any other adds to ``problems``."""
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if not 0 <= count <= sys.maxsize or count != value:
        problems.append(f"{name}: expected an integer of 0 or more, got {value!r}")
    return count


def loaded_number(name: str, value: Any, problems: list[str], low: float = 0.0) -> float:
    """``value`` as a finite number from ``low``; any other adds to ``problems``."""
    try:
        check_number(name, value, low, above_low=low == -math.inf, below_high=True)
    except ArgumentError as error:
        problems.append(str(error))
        return 0.0
    return float(value)


def loaded_array(
    name: str, value: Any, shape: tuple[int, ...], dtype: Any, problems: list[str]
) -> np.ndarray:
    """A copy of ``value`` in this dtype; what is not real or of another shape adds to ``problems``.
    """
    try:
        array = plain_array(name, value)
    except ShapeError as error:
        problems.append(str(error))
        return np.zeros(shape, dtype)
    if array.size == 0 and 0 in shape:
        array = array.reshape(shape)  # lists of no numbers do not tell all sizes
    if array.shape != shape or array.dtype.kind != "f":
        got = "none" if value is None else f"{array.dtype} {array.shape}"
        problems.append(f"{name}: expected a real array of shape {shape}, got {got}")
        return array
    return np.array(array, dtype, order="C")


def check_parameter(param: Any, position: int, argument: str = "params") -> None:
    """Raise unless ``param``, at a position of an argument, is a leaf that can be updated."""
    name = f"{argument}[{position}]"
    if not isinstance(param, Tensor):
        raise TypeError(f"{name}: expected a Tensor, got {type(param).__name__}")
    if not param.is_leaf:
        raise ArgumentError(f"{name}: expected a leaf, got the result of an operation")
    if param.data.dtype not in FLOATS:
        raise ArgumentError(f"{name}: expected float32 or float64, got {param.data.dtype}")


def _group_problems(
    groups: list[dict[str, Any]], saved_groups: Any, options: set[str]
) -> list[str]:
    if not isinstance(saved_groups, list | tuple) or not all(
        isinstance(saved, Mapping) and isinstance(saved.get("params", []), list | tuple)
        for saved in saved_groups
    ):
        return [f"param_groups: expected a list of dicts with their params, got {saved_groups!r}"]
    if len(groups) != len(saved_groups):
        return [f"expected {len(groups)} param groups, got {len(saved_groups)}"]
    problems = []
    for number, (group, saved) in enumerate(zip(groups, saved_groups, strict=True)):
        where = f"group {number}"
        missing = sorted(options - set(saved))
        unexpected = sorted(set(saved) - options - set(SCHEDULE_OPTIONS))
        problems += [f"{where}: missing {name}" for name in missing]
        problems += [f"{where}: unexpected {name}" for name in unexpected]
        if "params" in saved and len(saved["params"]) != len(group["params"]):
            problems.append(
                f"{where}: expected {len(group['params'])} parameters, got {len(saved['params'])}"
            )
    return problems
