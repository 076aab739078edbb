"""Node: one recorded operation. What it refers to, what it keeps, who is told of its gradients."""

from __future__ import annotations

from _thread import RLock, allocate_lock
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import ref

from rnnkit import forks
from rnnkit.autograd import arrays
from rnnkit.autograd.tensor import Tensor
from rnnkit.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import TypeAlias

    from rnnkit.autograd.accumulate import Collector

    Hook: TypeAlias = Callable[[Tensor], "Tensor | None"]
    Gradient: TypeAlias = "Tensor | PartialGradient | None"

next_number = count().__next__


class Node:
    """One recorded operation.

    Attributes:
        inputs: the operation's input tensors (None where an optional one was left out); None
            once the node has been freed.
        n_outputs: 0 for an operation that returns one tensor, else the length of its tuple.
        number: order of creation.
    """

    __slots__ = ("_hooks", "_retained", "inputs", "n_outputs", "number")

    inputs: Sequence[Tensor | None] | None
    n_outputs: int
    number: int
    _hooks: dict[int, dict[int, Hook]] | None
    _retained: dict[int, ref[Tensor]] | None

    def __init__(self, inputs: Sequence[Tensor | None], n_outputs: int) -> None:
        self.begin(inputs, n_outputs)

    def begin(self, inputs: Sequence[Tensor | None], n_outputs: int) -> None:
        """What every node begins with; a constructor of its own calls it."""
        self.inputs = inputs
        self.n_outputs = n_outputs
        self.number = next_number()
        self._hooks = None
        self._retained = None

    def made(self, outputs: Sequence[Tensor], constant: Collection[int] = ()) -> None:
        """Make several outputs part of the graph, but for those at the places in `constant`."""
        for i, output in enumerate(outputs):
            if i in constant:
                continue
            output.grad_fn = self
            output._output = i
            output._requires_grad = True

    @property
    def name(self) -> str:
        """The operation's name, for messages."""
        raise NotImplementedError

    def gradients(
        self, d_outputs: Any, needs: list[bool], retain_graph: bool, collector: Collector
    ) -> Sequence[Gradient]:
        """Gradients of the inputs, in order; those not in `needs` are ignored.

        `d_outputs` is a Tensor, or for several outputs a list of Tensors and None. A node that
        records its operations anew and walks on through them (see `tape.walk_on`) leaves their
        gradients with the `collector` of the walk, and returns None for its inputs.
        """
        raise NotImplementedError

    def free(self) -> None:
        """Let go of everything that was kept for the backward pass."""
        self.inputs = None

    def hooks_of(self, output: int) -> dict[int, Hook]:
        if self._hooks is None:
            self._hooks = {}
        return self._hooks.setdefault(output, {})

    def retain(self, tensor: Tensor) -> None:
        if self._retained is None:
            self._retained = {}
        self._retained[tensor._output] = ref(tensor)

    @property
    def is_watched(self) -> bool:
        """Whether anyone is to be told of gradients that arrive."""
        return self._hooks is not None or self._retained is not None

    def announce(self, output: int, gradient: Tensor) -> Tensor:
        """The gradient of one output after its hooks have seen it."""
        if self._hooks is not None and output in self._hooks:
            gradient = run_hooks(self._hooks[output], gradient)
        return gradient

    def retained(self, output: int) -> Tensor | None:
        """The tensor that is to keep the gradient of one output, if there is one."""
        if self._retained is None or output not in self._retained:
            return None
        return self._retained[output]()


_renewing = allocate_lock()
forks.release_after_fork(_renewing)


class ExclusiveNode(Node):
    """A node whose backward pass works in what forward has left for it, which is there once.

    Threads may go back through a graph that is retained at the same time; each waits for its turn:
    ``with node.turn():``.
    """

    __slots__ = ("_forks", "_turn")

    def begin(self, inputs: Sequence[Tensor | None], n_outputs: int) -> None:
        Node.begin(self, inputs, n_outputs)
        self._turn, self._forks = RLock(), forks.count

    def turn(self) -> RLock:
        """The lock to hold, which is another in a forked child: there a thread of the parent that
        held it is not there to release it."""
        if self._forks != forks.count:
            with _renewing:
                if self._forks != forks.count:
                    self._turn, self._forks = RLock(), forks.count
        return self._turn


class PartialGradient:
    """A gradient that fills only part of its tensor, kept small until all parts are known.

    A rule may return one in place of a Tensor. The parts for one tensor are handed to `combine`
    together, so that a thousand slices of a tensor cost one full-size array and not a thousand.
    """

    __slots__ = ()

    def combine(self, parts: list[Any]) -> Tensor:
        """The sum of `parts` (of this class, `self` among them) as one full-size tensor."""
        raise NotImplementedError


def run_hooks(hooks: dict[int, Hook], gradient: Tensor) -> Tensor:
    for hook in list(hooks.values()):
        replacement = hook(gradient)
        if replacement is not None:
            check_gradient(replacement, gradient, "the gradient returned by a hook")
            gradient = replacement
    return gradient


def check_gradient(gradient: Any, like: Tensor, what: str) -> None:
    if type(gradient) is Tensor and arrays.alike(gradient._data, like._data):
        return
    if not isinstance(gradient, Tensor):
        raise DTypeError(f"{what}: expected a Tensor, got {type(gradient).__name__}")
    if gradient._data.shape != like._data.shape:
        raise ShapeError(f"{what}: expected shape {like.shape}, got {gradient.shape}")
    if gradient._data.dtype != like._data.dtype:
        raise DTypeError(f"{what}: expected dtype {like.dtype}, got {gradient.dtype}")
