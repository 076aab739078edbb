"""Tensor: a NumPy array that remembers how it was computed."""

from __future__ import annotations

from _thread import get_ident
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rnnkit.autograd.dtypes import DTYPES, FLOATS, default_dtype, supported_dtype
from rnnkit.autograd.unchangeable import is_unchangeable, unchangeable
from rnnkit.checks import check_bool, check_callable
from rnnkit.errors import DTypeError, GraphError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    import numpy.typing as npt

    from rnnkit.autograd.declared import DeclaredMethods
    from rnnkit.autograd.node import Hook, Node

    Array: TypeAlias = np.ndarray[Any, Any]
    Operand: TypeAlias = "Tensor | Array | np.generic | float"
    Axis: TypeAlias = int | Sequence[int] | None

else:
    DeclaredMethods = object

_T = TypeVar("_T", bound="Tensor")
_NUMPY = (np.ndarray, np.generic)
readers: dict[int, Callable[[Tensor, bool], None]] = {}
"""By thread: who is told that code other than an operation takes a tensor's numbers, or detaches
it (True)."""
# What NumPy makes a new array of: anything else may hand out its own memory.
_COPIED = (list, tuple, int, float, np.generic)


def to_array(
    data: Any, dtype: npt.DTypeLike | None = None, *, copy: bool = False, name: str = "data"
) -> Array:
    """An ndarray of a supported dtype from anything that holds numbers.

    Arrays and NumPy scalars keep their dtype unless `dtype` is given, lists of arrays or tensors
    that of these; Python floats, and lists of them, become float32. Memory is shared where it can
    be, unless `copy`. Errors call it `name`.
    """
    if isinstance(data, Tensor):
        data = data._data
    if not isinstance(data, _NUMPY):
        array = plain_array(name, data)
        if dtype is None and array.dtype == np.float64 and not _has_a_dtype(data):
            dtype = default_dtype
    else:
        array = np.asarray(data)
    wanted = supported_dtype(array.dtype, name) if dtype is None else supported_dtype(dtype)
    if array.dtype != wanted:
        supported_dtype(array.dtype, name)
        return array.astype(wanted)
    return np.array(array) if copy and not isinstance(data, _COPIED) else array


def plain_array(name: str, value: Any) -> Array:
    """The argument `name`, anything that holds numbers, as an array of the dtype that it has.

    Raises:
        ShapeError: nested lists of different lengths.
    """
    if isinstance(value, Tensor):
        return value._data
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: expected a rectangular array of numbers, {error}") from None


def float64_array(name: str, value: Any) -> Array:
    """The argument `name`, numbers in any form, in float64.

    Raises:
        ShapeError: nested lists of different lengths.
        DTypeError: something else than real numbers.
    """
    array = plain_array(name, value)
    if array.dtype.kind not in "biuf" and array.size:
        raise DTypeError(f"{name}: expected numbers, got {array.dtype.name}")
    return array.astype(np.float64, copy=False)


def _has_a_dtype(data: Any) -> bool:
    """Whether its numbers are of a kind of their own, and not just Python's."""
    if hasattr(data, "__array__") or isinstance(data, memoryview) or hasattr(data, "typecode"):
        return True
    row: Sequence[Any] = ()
    while isinstance(data, list | tuple) and data:
        row, data = data, data[0]
    if not isinstance(data, np.ndarray | Tensor):
        return False
    if data.ndim:
        return True
    # Beside these there may be Python's numbers, for which NumPy makes float64 of all.
    return any(isinstance(one, np.ndarray | Tensor) and one.dtype == np.float64 for one in row)


class Fields:
    """What a tensor holds. A class of its own, as it is a C structure where it is compiled, which
    `Tensor`, that gets its operators later, could not be.
    """

    __slots__ = ("_data", "_grad", "_hooks", "_output", "_requires_grad", "grad_fn")

    _data: Array
    _grad: Tensor | None
    _hooks: dict[int, Hook] | None
    _output: int
    _requires_grad: bool
    grad_fn: Node | None


class Tensor(Fields, DeclaredMethods):
    """An n-dimensional array that takes part in automatic differentiation.

    ``data`` is the NumPy array; every op makes a new Tensor and, where an input requires a
    gradient and `no_grad` is not in force, records a node in ``grad_fn``. `backward` walks those
    nodes and adds d(self)/d(leaf) to each leaf's ``grad``.

    Float32 and float64 tensors are differentiable; integer and bool tensors serve as ids and
    masks. Other dtypes are refused. Python and NumPy scalars take the dtype of the tensor they
    meet; float32 and float64 never mix silently.

    Optimisers change ``data`` in place. The tape keeps references, not copies: a change of
    ``data`` between a forward pass and its backward pass changes the gradients computed.

    Args:
        data: array, Tensor, number or nested sequence. Arrays keep their dtype; Python floats
            become float32.
        dtype: convert to this dtype.
        requires_grad: make the tensor a leaf whose gradient is wanted.
        copy: own a copy of `data` (the default) or share memory with it where possible.

    Raises:
        DTypeError: the dtype is not supported, or `requires_grad` is set for integers.
        ShapeError: `data` is a ragged sequence.
    """

    __slots__ = ("__weakref__",)

    # Lets `array * tensor` reach Tensor.__rmul__ instead of a loop over the array's elements.
    __array_ufunc__ = None
    __array_priority__ = 1000.0
    __hash__ = object.__hash__

    def __init__(
        self,
        data: Any,
        dtype: npt.DTypeLike | None = None,
        requires_grad: bool = False,
        *,
        copy: bool = True,
    ) -> None:
        if copy is not True and copy is not False:
            copy = check_bool("copy", copy)
        self._data = to_array(data, dtype, copy=copy)
        self._grad = None
        self._hooks = None
        self._output = 0
        self._requires_grad = False
        self.grad_fn = None
        if requires_grad is not False:
            self.requires_grad = requires_grad

    @property
    def data(self) -> Array:
        """The array itself, shared: what is written into it changes the tensor."""
        if readers:
            _tell(self, False)
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, Tensor):
            value = value._data
        if type(value) is not np.ndarray:
            value = np.asarray(value)
        if value.dtype not in DTYPES or (self._requires_grad and value.dtype not in FLOATS):
            raise DTypeError(f"data: expected a supported dtype, got {value.dtype}")
        self._data = value

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward`, or None. Of leaves, and after `retain_grad`."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(f"grad: expected a Tensor or None, got {type(value).__name__}")
            if value._data.shape != self._data.shape:
                raise ShapeError(f"grad: expected shape {self.shape}, got {value.shape}")
            if value._data.dtype != self._data.dtype:
                raise DTypeError(f"grad: expected dtype {self.dtype}, got {value.dtype}")
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded, and gradients reach it.

        Of a leaf it is read again by the backward pass: a leaf frozen in between gets no gradient.
        """
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.grad_fn is not None:
            if not value:
                raise GraphError(
                    "requires_grad can only be switched off on a leaf; this tensor is the result "
                    "of an operation: use .detach()"
                )
            return
        if value is not True and value is not False:
            value = check_bool("requires_grad", value)
        if value and self._data.dtype not in FLOATS:
            raise DTypeError(
                "requires_grad: only float32 and float64 tensors are differentiable, this one is "
                f"{self._data.dtype.name}"
            )
        self._requires_grad = bool(value)

    def requires_grad_(self: _T, requires_grad: bool = True) -> _T:
        """Set `requires_grad` and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """True for a tensor that no recorded operation made."""
        return self.grad_fn is None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def size(self) -> int:
        """Number of elements, as in NumPy."""
        return self._data.size

    def numpy(self) -> Array:
        """The array, shared with the tensor; what is computed from it is not recorded."""
        return self.data

    def item(self) -> float | int | bool:
        """The value of a one-element tensor as a Python number.

        Raises:
            ShapeError: the tensor has no or several elements.
        """
        if self._data.size != 1:
            raise ShapeError(f"item: expected one element, got shape {self.shape}")
        value: float | int | bool = self.data.item()
        return value

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.data.tolist()

    def detach(self) -> Tensor:
        """A tensor that shares this one's data and is cut from its history."""
        if readers:
            _tell(self, True)
        return wrap(self._data)

    def backward(
        self,
        gradient: Tensor | Array | float | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the derivative of this tensor to the ``grad`` of every leaf it was computed from.

        Args:
            gradient: gradient of the final value with respect to this tensor, of its shape and
                dtype; may be left out for a one-element tensor (then it is 1).
            retain_graph: keep the graph for another backward pass; default `create_graph`.
            create_graph: record the backward pass itself, so that gradients can be differentiated.

        Raises:
            GraphError: nothing was recorded, or the graph was freed by an earlier pass.
        """
        from rnnkit.autograd.tape import backward

        backward(self, gradient, retain_graph, create_graph)

    def register_hook(self, hook: Hook) -> HookHandle:
        """Call `hook(gradient)` when the gradient of this tensor has been computed.

        A Tensor that the hook returns replaces the gradient; nothing may be written into the one
        it gets, which others may share. Hooks run in the order registered.

        Returns:
            a handle; ``handle.remove()`` takes the hook away.

        Raises:
            GraphError: the tensor does not require a gradient.
        """
        check_callable("hook", hook)
        if not self._requires_grad:
            raise GraphError("register_hook: this tensor does not require a gradient")
        if self.grad_fn is None:
            if self._hooks is None:
                self._hooks = {}
            return HookHandle(self._hooks, hook)
        return HookHandle(self.grad_fn.hooks_of(self._output), hook)

    def retain_grad(self) -> None:
        """Have `backward` also add this non-leaf tensor's gradient to its ``grad``."""
        if not self._requires_grad:
            raise GraphError("retain_grad: this tensor does not require a gradient")
        if self.grad_fn is not None:
            self.grad_fn.retain(self)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._requires_grad:
            raise GraphError(
                "a tensor that requires a gradient is not converted to an array silently: use "
                ".numpy() or .detach()"
            )
        if dtype is not None and np.dtype(dtype) != self._data.dtype:
            if copy is False:
                raise ValueError(f"converting {self._data.dtype} to {dtype} needs a copy")
            return self.data.astype(dtype)
        return self.data.copy() if copy else np.asarray(self.data)

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a 0-d tensor")
        return len(self._data)

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ShapeError(
                f"the truth value of a tensor of shape {self.shape} is ambiguous: only a "
                "one-element tensor is true or false"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._data.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor can be an index, this one is {self.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        if spec and self._data.ndim == 0:
            return format(self._data.item(), spec)
        return format(repr(self), spec)

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="tensor(")
        if self._data.size == 0 and self._data.ndim > 1:
            text += f", shape={self.shape}"
        if self._data.dtype.name not in ("float32", "int64", "bool"):
            text += f", dtype={self._data.dtype.name}"
        if self.grad_fn is not None:
            text += f", grad_fn=<{self.grad_fn.name}>"
        elif self._requires_grad:
            text += ", requires_grad=True"
        return f"tensor({text})"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        self._refuse_history("pickled")
        extra = getattr(self, "__dict__", None) or None
        data = self._data
        return _rebuild, (type(self), data, self._requires_grad, is_unchangeable(data)), extra

    def __deepcopy__(self: _T, memo: dict[int, Any]) -> _T:
        self._refuse_history("copied deeply")
        data = self._data if is_unchangeable(self._data) else self._data.copy()
        new = _rebuild(type(self), data, self._requires_grad)
        memo[id(self)] = new
        if self._grad is not None:
            new._grad = wrap(self._grad._data.copy())
        for name, value in getattr(self, "__dict__", {}).items():
            from copy import deepcopy

            setattr(new, name, deepcopy(value, memo))
        return new

    def _refuse_history(self, what: str) -> None:
        if self.grad_fn is not None:
            raise GraphError(
                f"only leaf tensors can be {what}; this one is the result of an operation: call "
                ".detach() first"
            )


# No number comes twice: a handle must not remove the hook of another.
_hook_numbers = count()


class HookHandle:
    """Removes the hook it was returned for."""

    __slots__ = ("_hooks", "_key")

    def __init__(
        self,
        hooks: dict[int, Hook],
        hook: Hook,
    ) -> None:
        self._hooks = hooks
        self._key = next(_hook_numbers)
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook away; doing so again has no effect."""
        self._hooks.pop(self._key, None)


def _tell(tensor: Tensor, detaches: bool) -> None:
    reader = readers.get(get_ident())
    if reader is not None:
        reader(tensor, detaches)


_Plain = Tensor  # known to be a type (tensor.pxd), so that making one is a call of C


def wrap(array: Array) -> Tensor:
    """A Tensor around an ndarray of a supported dtype, unchecked and shared: for code inside."""
    tensor = _Plain.__new__(_Plain)
    tensor._data = array
    tensor._grad = None
    tensor._hooks = None
    tensor._output = 0
    tensor._requires_grad = False
    tensor.grad_fn = None
    return tensor


def _rebuild(
    cls: type[_T], array: Array, requires_grad: bool, is_frozen: bool = False
) -> _T:
    if is_frozen and not is_unchangeable(array):
        array = unchangeable(array)
    tensor = cls.__new__(cls)
    Tensor.__init__(tensor, array, requires_grad=requires_grad, copy=False)
    return tensor


def tensor(
    data: Any, dtype: npt.DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor that owns a copy of `data`; see `Tensor` for the dtype rules and errors."""
    return Tensor(data, dtype, requires_grad)


def as_tensor(data: Any, dtype: npt.DTypeLike | None = None) -> Tensor:
    """`data` as a tensor, sharing memory with it where the dtype allows.

    A Tensor of the right dtype is returned as it is, history included.
    """
    if isinstance(data, Tensor):
        return data if dtype is None else data.astype(dtype)
    return wrap(to_array(data, dtype))
