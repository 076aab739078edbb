"""Parameter and Module: the tree of named arrays that every layer and cell is made of.

The names, the order of registration and the behaviour are those of ``torch.nn.Module``. Registered
values live in the instance's own ``__dict__``, so reading ``self.weight`` costs a plain attribute
lookup; the module only remembers of what kind each registered name is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rnnkit.autograd import Tensor
from rnnkit.autograd.tensor import FLOATS, HookHandle, plain_array, supported_dtype
from rnnkit.autograd.unchangeable import is_unchangeable, unchangeable
from rnnkit.checks import check_bool, check_callable, check_elements
from rnnkit.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from numpy.typing import ArrayLike, DTypeLike

PARAMETER = "parameter"
BUFFER = "buffer"
TRANSIENT_BUFFER = "transient buffer"
MODULE = "module"

# Attributes that only a module with hooks has, so that a call of any other looks for one name.
PRE_HOOKS = "_forward_pre_hooks"
HOOKS = "_forward_hooks"

_expected_shapes: ContextVar[Counter[tuple[int, ...]] | None] = ContextVar(
    "_expected_shapes", default=None
)


class Parameter(Tensor):
    """A leaf Tensor that a Module registers when it is assigned as an attribute.

    ``data`` is a Tensor or anything that holds numbers; arrays keep their dtype, Python floats
    become float32. A writeable array is shared, not copied; a read-only one is copied, because
    optimisers update in place.

    Raises DTypeError when a gradient is wanted for data that is not float32 or float64.
    """

    def __init__(
        self,
        data: ArrayLike | Tensor,
        requires_grad: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(data, dtype, requires_grad, copy=False)
        expected = _expected_shapes.get()
        if expected is not None:
            if not expected[self.shape]:
                raise UnexpectedShapeError(f"no parameter of shape {self.shape} was expected")
            expected[self.shape] -= 1
        if not self.data.flags.writeable:
            self.data = self.data.copy()

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


def new_parameter(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Parameter:
    """A Parameter of memory that was not touched yet; ``name`` is what it will be called.

    Raises ShapeError for a shape that no array has, whatever memory there is.
    """
    check_elements(name, shape, dtype.itemsize)
    return Parameter(np.empty(shape, dtype))


class UnexpectedShapeError(ShapeError):
    """A parameter was made that `parameters_within` does not allow."""


@contextmanager
def parameters_within(shapes: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Inside, no Parameter is made of a shape that is not among ``shapes``, or more often.

    For a model that is to be built as a file asks that cannot be trusted: modules make a Parameter
    of memory that was not touched yet, so nothing is allocated beyond what ``shapes`` need. The
    first that does not fit raises UnexpectedShapeError.
    """
    token = _expected_shapes.set(Counter(shapes))
    try:
        yield
    finally:
        _expected_shapes.reset(token)


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Has a module, and those below it, in evaluation mode for a while, each for itself."""
    training = [each for each in module.modules() if each.training]
    for each in training:
        each.training = False
    try:
        yield
    finally:
        for each in training:
            each.training = True


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` left aside."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _no_forward(self: Module, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(f"{type(self).__name__} defines no forward()")


class Module:
    """Base of all layers, cells and models.

    A subclass calls ``super().__init__()``, assigns its Parameters and submodules as attributes,
    and defines ``forward``; calling the module calls ``forward``.
    """

    training: bool
    _kinds: dict[str, str]
    _not_copied: ClassVar[tuple[str, ...]] = ()  # slots that neither copies nor pickles have
    forward: Callable[..., Any] = _no_forward

    if TYPE_CHECKING:
        # What is registered by name, as ``lstm.weight_hh_l0`` is, no type checker can know of.
        def __getattr__(self, name: str) -> Any: ...

    def __init__(self) -> None:
        self.__dict__["_kinds"] = {}
        self.__dict__["training"] = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if HOOKS in self.__dict__:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def __getstate__(self) -> Any:
        state: Any = super().__getstate__()
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        # What a shallow copy registers or deletes must not change what the original knows of.
        tables = ("_kinds", PRE_HOOKS, HOOKS)
        own = {name: dict(attributes[name]) for name in tables if name in attributes}
        attributes = {**attributes, **own}
        slots = {n: value for n, value in (slots or {}).items() if n not in self._not_copied}
        return (attributes, slots) if slots else attributes

    # -- hooks -------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> HookHandle:
        """Have ``hook(module, args)`` called before ``forward``, whenever the module is called.

        ``args`` are the positional arguments of the call. What it returns, a tuple or a single
        value, takes their place, unless that is None. Hooks run in the order registered.

        Returns:
            a handle; ``handle.remove()`` takes the hook away.
        """
        return self._hook(PRE_HOOKS, hook)

    def register_forward_hook(
        self, hook: Callable[[Any, tuple[Any, ...], Any], Any]
    ) -> HookHandle:
        """Have ``hook(module, args, result)`` called after ``forward``, whenever it is called.

        What it returns takes the place of the result, unless that is None. To see states and gates
        of every step, ``rk.diagnostics``.

        Returns:
            a handle; ``handle.remove()`` takes the hook away.
        """
        return self._hook(HOOKS, hook)

    def _hook(self, kind: str, hook: Callable[..., Any]) -> HookHandle:
        if not callable(hook):
            raise TypeError(f"hook: expected a function, got {type(hook).__name__}")
        for name in (PRE_HOOKS, HOOKS):
            self.__dict__.setdefault(name, {})
        return HookHandle(self.__dict__[kind], hook)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Lists, as a hook may remove itself.
        for hook in list(self.__dict__[PRE_HOOKS].values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in list(self.__dict__[HOOKS].values()):
            changed = hook(self, args, result)
            result = result if changed is None else changed
        return result

    # -- registration ------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module)) and _is_property(self, name):
            object.__setattr__(self, name, value)
            return
        if isinstance(value, Parameter):
            if self._known_kinds(name).get(name) not in (BUFFER, TRANSIENT_BUFFER):
                self._register(name, value, PARAMETER)
                return
        elif isinstance(value, Module):
            self._register(name, value, MODULE)
            return
        kind = self.__dict__.get("_kinds", {}).get(name)
        if kind is not None:
            self._check_fits(name, value, kind)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self.__dict__.get("_kinds", {}).pop(name, None)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register ``param`` under ``name``; None reserves the name, as without bias."""
        self._check_new_name(name)
        self._check_fits(name, param, PARAMETER)
        self._register(name, param, PARAMETER)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a Tensor that is state but is not trained.

        A persistent one is part of state_dict().
        """
        self._check_new_name(name)
        kind = BUFFER if check_bool("persistent", persistent) else TRANSIENT_BUFFER
        self._check_fits(name, tensor, kind)
        self._register(name, tensor, kind)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a child under a name that need not be an attribute's, such as "0"."""
        self._check_new_name(name)
        self._check_fits(name, module, MODULE)
        self._register(name, module, MODULE)

    def _known_kinds(self, name: str) -> dict[str, str]:
        kinds = self.__dict__.get("_kinds")
        if kinds is None:
            raise AttributeError(
                f"{type(self).__name__}: call super().__init__() before assigning {name!r}"
            )
        return kinds

    def _register(self, name: str, value: Tensor | Module | None, kind: str) -> None:
        kinds = self._known_kinds(name)
        self._check_is_apart(name, value)
        if kinds.get(name) != kind:
            kinds.pop(name, None)
            kinds[name] = kind
        self.__dict__[name] = value

    def _check_new_name(self, name: str) -> None:
        kinds = self._known_kinds(name)
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(
                f"{type(self).__name__}: expected a name that is a non-empty string without '.', "
                f"got {name!r}"
            )
        if hasattr(self, name) and name not in kinds:
            raise ArgumentError(f"{type(self).__name__} already has an attribute {name!r}")

    def _check_is_apart(self, name: str, value: Any) -> None:
        if isinstance(value, Module) and self in value.modules():
            raise ArgumentError(
                f"{type(self).__name__}.{name}: a module cannot contain itself, at any depth"
            )

    def _check_fits(self, name: str, value: Any, kind: str) -> None:
        expected = {PARAMETER: Parameter, MODULE: Module}.get(kind, Tensor)
        if value is not None and not isinstance(value, expected):
            raise TypeError(
                f"{type(self).__name__}.{name} is a registered {kind}: expected "
                f"{expected.__name__} or None, got {type(value).__name__}"
            )

    # -- walking the tree --------------------------------------------------------------------

    def _own(self, *kinds: str) -> Iterator[tuple[str, Any]]:
        for wanted in kinds:
            for name, kind in self._kinds.items():
                if kind == wanted and self.__dict__[name] is not None:
                    yield name, self.__dict__[name]

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) of the direct submodules, each module once."""
        return _without_repeats(self._own(MODULE))

    def children(self) -> Iterator[Module]:
        """Yield the direct submodules, each once."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield (dotted name, module) of this module and all below it, parents first.

        A module reached by several names is yielded once, unless ``remove_duplicate`` is False.
        """
        walk = self._walk(prefix)
        return _without_repeats(walk) if check_bool("remove_duplicate", remove_duplicate) else walk

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, module in self._own(MODULE):
            yield from module._walk(f"{prefix}.{name}" if prefix else name)

    def _named_tensors(
        self, prefix: str, *kinds: str, recurse: bool = True
    ) -> Iterator[tuple[str, Any]]:
        for path, module in self._walk(prefix) if recurse else [(prefix, self)]:
            for name, tensor in module._own(*kinds):
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, Parameter) of this module and those below it.

        ``recurse=False`` leaves out those below. A shared Parameter comes once, unless
        ``remove_duplicate`` is False.
        """
        recurse = check_bool("recurse", recurse)
        once = check_bool("remove_duplicate", remove_duplicate)
        named = self._named_tensors(prefix, PARAMETER, recurse=recurse)
        return _without_repeats(named) if once else named

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield all Parameters of this module and, with ``recurse``, those below it, each once."""
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (dotted name, buffer) of this module and those below it.

        ``recurse=False`` leaves out those below. A shared buffer comes once, unless
        ``remove_duplicate`` is False.
        """
        recurse = check_bool("recurse", recurse)
        once = check_bool("remove_duplicate", remove_duplicate)
        named = self._named_tensors(prefix, BUFFER, TRANSIENT_BUFFER, recurse=recurse)
        return _without_repeats(named) if once else named

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield all buffers of this module and, with ``recurse``, those below it, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and persistent buffers by dotted name, C-contiguous.

        One that is shared stands under each of its names, as in PyTorch.
        """
        persistent = self._named_tensors("", PARAMETER, BUFFER)
        return {name: np.array(tensor.data, order="C") for name, tensor in persistent}

    def load_state_dict(
        self, state_dict: Mapping[str, ArrayLike | Tensor], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy ``state_dict`` into the parameters and buffers; the Tensor objects stay the same.

        Values are arrays, Tensors or anything ``np.asarray`` takes. Floating values of any
        precision are converted to the dtype of their target; integers and booleans go only where
        integers and booleans are. ``strict=False`` tolerates missing and unexpected names and
        returns them.

        A tensor that is shared has an entry under each of its names, all of the same values.

        Raises ArgumentError naming every entry that is missing, unexpected, wrongly shaped, wrongly
        typed, at odds with another entry of the same tensor or frozen. Nothing is loaded in that
        case.
        """
        if not isinstance(state_dict, Mapping):
            raise ArgumentError(
                "state_dict: expected a mapping of names to arrays, "
                f"got {type(state_dict).__name__}"
            )
        check_bool("strict", strict)
        targets = dict(self._named_tensors("", PARAMETER, BUFFER))
        missing = [name for name in targets if name not in state_dict]
        unexpected = [str(name) for name in state_dict if name not in targets]
        problems = []
        if strict:
            problems += [f"missing: {name}" for name in missing]
            problems += [f"unexpected: {name}" for name in unexpected]
        arrays: dict[str, np.ndarray] = {}
        first_names: dict[int, str] = {}
        for name, tensor in targets.items():
            if name in state_dict:
                value = state_dict[name]
                try:
                    array = plain_array(name, value)
                except ShapeError as error:
                    problems.append(str(error))
                    continue
                problem = _misfit(array, tensor.data)
                twin = first_names.setdefault(id(tensor), name)
                if not problem and twin != name and not _are_equal(arrays[twin], array):
                    problem = f"expected the values of {twin}, which is the same tensor"
                if not tensor.data.flags.writeable:
                    problem = "it is read-only: call unfreeze() first"
                if problem:
                    problems.append(f"{name}: {problem}")
                arrays[name] = array
        if problems:
            raise ArgumentError(
                f"{type(self).__name__}: state_dict does not fit, nothing was loaded:\n  "
                + "\n  ".join(problems)
            )
        written = {_owner(tensor.data) for tensor in targets.values()}
        for name, array in arrays.items():
            # Else, where two layers change places, the second would get what is its own already.
            if _owner(array) in written:
                arrays[name] = array.copy()
        for name, array in arrays.items():
            np.copyto(targets[name].data, array, casting="unsafe")
        return IncompatibleKeys(missing, unexpected)

    # -- modes and conversions ---------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below (dropout acts only then); return self."""
        training = check_bool("mode", mode)
        for module in self.modules():
            module.training = training
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below; return self."""
        return self.train(False)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every module below, then on this one; return self."""
        check_callable("fn", fn)
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros instead."""
        check_bool("set_to_none", set_to_none)
        for param in self.parameters():
            clear_grad(param, set_to_none)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switch gradient recording of all parameters on or off; return self."""
        check_bool("requires_grad", requires_grad)
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def to(self, dtype: DTypeLike) -> Self:
        """Convert floating parameters, buffers and gradients to float32 or float64; return self.

        The Parameter objects stay the same, so sharing and optimisers keep working. Integer buffers
        are left alone, and what is frozen stays frozen. Raises DTypeError for any other dtype.
        """
        target = supported_dtype(dtype)
        if target not in FLOATS:
            raise DTypeError(f"dtype: expected float32 or float64, got {target.name}")
        for _, tensor in self._named_tensors("", PARAMETER, BUFFER, TRANSIENT_BUFFER):
            for holder in (tensor, tensor.grad):
                if holder is None or holder.data.dtype.kind != "f":
                    continue
                frozen = is_unchangeable(holder.data)
                holder.data = holder.data.astype(target, copy=False)
                if frozen and not is_unchangeable(holder.data):
                    holder.data = unchangeable(holder.data)
        return self

    def double(self) -> Self:
        """``to("float64")``."""
        return self.to("float64")

    def float(self) -> Self:
        """``to("float32")``."""
        return self.to("float32")

    def freeze(self) -> Self:
        """Let nothing change the parameters and buffers here and below until ``unfreeze()``.

        For a model that is in use and no longer trained. The arrays become read-only copies, so
        that what kernels derive from them can be kept: a recurrent layer packs its weights once in
        place of at every call, which few steps of wide layers gain most from. Results have the
        same bits. Modes and ``requires_grad`` stay as they are; arrays that share memory with
        others no longer do. After ``to``, in a deep copy and in one that was pickled they are
        frozen still.

        Returns:
            self. Whoever writes to an array gets NumPy's ValueError; ``load_state_dict`` raises
            ArgumentError.
        """
        for tensor in self._all_tensors():
            if not is_unchangeable(tensor.data):
                tensor.data = unchangeable(tensor.data)
        return self

    def unfreeze(self) -> Self:
        """Let the parameters and buffers here and below be changed again; return self."""
        for tensor in self._all_tensors():
            if not tensor.data.flags.writeable:
                tensor.data = tensor.data.copy()
        return self

    def _all_tensors(self) -> list[Tensor]:
        return [*self.parameters(), *self.buffers()]

    # -- printing ----------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Text that repr() shows between the parentheses; subclasses override it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [
            f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._own(MODULE)
        ]
        name = type(self).__name__
        if not children:
            return f"{name}({extra})"
        return f"{name}(\n  " + "\n  ".join(([extra] if extra else []) + children) + "\n)"


def _without_repeats(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _is_property(module: Module, name: str) -> bool:
    """Whether the class says what becomes of ``module.name = value``."""
    return isinstance(getattr(type(module), name, None), property)


def _misfit(array: np.ndarray, target: np.ndarray) -> str | None:
    """Say why ``array`` cannot be copied into ``target``, or None when it can."""
    if array.shape != target.shape:
        return f"expected shape {target.shape}, got {array.shape}"
    same_family = array.dtype.kind == target.dtype.kind or (
        array.dtype.kind in "iu" and target.dtype.kind in "iu"
    )
    if not same_family:
        return f"expected {_FAMILIES[target.dtype.kind]}, got {array.dtype}"
    if array.dtype.kind in "iu" and not np.array_equal(array, array.astype(target.dtype)):
        return f"expected integers that fit {target.dtype}, got larger ones in {array.dtype}"
    return None


def _owner(array: np.ndarray) -> int:
    """The id of the array whose memory ``array`` is a view of, or its own."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return id(array)


def _are_equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f")


_FAMILIES = {"f": "floating numbers", "i": "integers", "u": "integers", "b": "booleans"}


def clear_grad(param: Tensor, set_to_none: bool = True) -> None:
    """Set ``param.grad`` to None, or fill an existing gradient with zeros."""
    if set_to_none:
        param.grad = None
    elif param.grad is not None:
        param.grad = Tensor(np.zeros_like(param.data))
