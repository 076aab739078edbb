"""The walk back over recorded operations.

Nodes are numbered as they are made. An operation's inputs exist before it does, so decreasing
numbers are a topological order, and backward needs neither recursion nor reference counts.
A node refers to its inputs, never to its outputs: graphs hold no reference cycles, and dropping the
last tensor frees the whole of its history at once.
"""

from __future__ import annotations

from _thread import RLock
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import arrays
from rnnkit.autograd.accumulate import Collector, add_to_grad, own
from rnnkit.autograd.grad_mode import state
from rnnkit.autograd.node import check_gradient, run_hooks
from rnnkit.autograd.tensor import Tensor, to_array, wrap
from rnnkit.checks import check_bool, check_list
from rnnkit.errors import ArgumentError, DTypeError, GraphError
from rnnkit.forks import release_after_fork

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from rnnkit.autograd.accumulate import Slot
    from rnnkit.autograd.node import Gradient, Node
    from rnnkit.autograd.tensor import Array


_number = attrgetter("number")
_adding = RLock()
"""Held by who adds to a ``grad``: threads may share parameters, and have losses of their own."""
release_after_fork(_adding)


def slot_of(tensor: Tensor) -> Slot:
    """Where gradients of a tensor are collected."""
    node = tensor.grad_fn
    if node is None:
        return tensor
    return (node, tensor._output) if node.n_outputs else node


def history(roots: Iterable[Tensor], since: int = 0) -> list[Node]:
    """Every node the roots were computed from, newest first; none numbered below ``since``."""
    seen: set[Node] = set()
    stack = [root.grad_fn for root in roots]
    while stack:
        node = stack.pop()
        if node is None or node in seen or node.number < since:
            continue
        seen.add(node)
        if node.inputs is None:
            raise GraphError(
                f"the graph was freed by an earlier backward pass (at {node.name}): pass "
                "retain_graph=True to the first pass to go through it again, and detach() the "
                "state carried from one training step to the next"
            )
        for tensor in node.inputs:
            if tensor is not None and tensor.grad_fn is not None:
                stack.append(tensor.grad_fn)
    nodes = list(seen)
    if len(nodes) > 1:
        nodes.sort(key=_number, reverse=True)
    return nodes


def _leading_to(targets: Container[Slot], nodes: list[Node]) -> dict[Node, list[bool]]:
    """The nodes with a target among the tensors they were computed from, and which of their inputs
    lead to one."""
    found: dict[Node, list[bool]] = {}
    for node in reversed(nodes):
        needs = [
            tensor is not None
            and tensor._requires_grad
            and (
                tensor in targets
                if (before := tensor.grad_fn) is None
                else before in found or slot_of(tensor) in targets
            )
            for tensor in node.inputs or ()
        ]
        if True in needs:
            found[node] = needs
    return found


def _walk(
    roots: Sequence[Tensor],
    seeds: Sequence[Tensor],
    targets: Container[Slot] | None,
    captured: dict[Slot, Tensor | None],
    retain_graph: bool,
    create_graph: bool,
) -> Collector:
    """Propagate `seeds` back from `roots`.

    With `targets`, only operations on the way to them run. Returns the gradients of the leaves;
    those of what is in `captured` are put there.
    """
    nodes = history(roots)
    useful = None if targets is None else _leading_to(targets, nodes)
    collector = Collector(create_graph, targets is None)
    for i, root in enumerate(roots):
        collector.add(slot_of(root), seeds[i])
    _visit(nodes, useful, captured, collector, retain_graph)
    return collector


def walk_on(
    collector: Collector, nodes: list[Node], targets: Container[Slot], retain_graph: bool
) -> None:
    """Go on with a walk through operations that a node has just recorded: see `Node.gradients`.

    Args:
        collector: that of the walk, with gradients of what the operations made. What they were
            made from gets its contributions there, after those that are there.
        nodes: the operations, newest first.
        targets: what gradients are wanted of; only operations on the way to them run.
        retain_graph: keep the operations for another pass.
    """
    useful = _leading_to(targets, nodes)
    _visit(nodes, useful, {}, collector, retain_graph)


def _visit(
    nodes: list[Node],
    useful: dict[Node, list[bool]] | None,
    captured: dict[Slot, Tensor | None],
    collector: Collector,
    retain_graph: bool,
) -> None:
    for node in nodes:
        n_outputs = node.n_outputs
        slots: list[Slot] = [(node, i) for i in range(n_outputs)] if n_outputs else [node]
        arrived = [collector.take(slot) for slot in slots]
        if False not in [total is None for total in arrived]:
            continue
        if captured or node.is_watched:
            _show(node, slots, arrived, captured, collector)
        if useful is not None and node not in useful:
            continue

        inputs = node.inputs
        assert inputs is not None
        if useful is None:
            needs = [tensor is not None and tensor._requires_grad for tensor in inputs]
        else:
            needs = useful[node]
        if True in needs:
            d_outputs: Any = arrived if n_outputs else arrived[0]
            gradients = node.gradients(d_outputs, needs, retain_graph, collector)
            _distribute(collector, inputs, needs, gradients)
            # Kept until the next turn they would keep arrays alive, and uncertain to `own`.
            del gradients, d_outputs
        if not retain_graph:
            node.free()
        del inputs, arrived


def _show(
    node: Node,
    slots: list[Slot],
    arrived: list[Tensor | None],
    captured: dict[Slot, Tensor | None],
    collector: Collector,
) -> None:
    """Let those who watch a node see the gradients of its outputs, and capture what is wanted."""
    for i, slot in enumerate(slots):
        total = arrived[i]
        if total is None:
            continue
        if node.is_watched:
            total = arrived[i] = node.announce(i, total)
            retained = node.retained(i) if collector.fills_grad else None
            if retained is not None:
                _add_to_grad(retained, [total], collector.create_graph)
        if slot in captured:
            captured[slot] = total


def _distribute(
    collector: Collector,
    inputs: Sequence[Tensor | None],
    needs: list[bool],
    gradients: Sequence[Gradient],
) -> None:
    # Called once for each node: what slot_of and the collector do in the usual case is spelt out.
    slots = collector.slots
    for i, tensor in enumerate(inputs):
        gradient = gradients[i]
        if needs[i] and gradient is not None and tensor is not None:
            node = tensor.grad_fn
            slot: Slot
            if node is None:
                slot = tensor
            elif node.n_outputs:
                slot = (node, tensor._output)
            else:
                slot = node
            if slot in slots:
                collector.add(slot, gradient)
            else:
                slots[slot] = gradient


def _retains(retain_graph: bool | None, create_graph: bool) -> bool:
    """Whether the graph is kept, by the two arguments, which are checked."""
    if create_graph is not False:
        check_bool("create_graph", create_graph)
    return create_graph if retain_graph is None else check_bool("retain_graph", retain_graph)


def _accumulate(leaf: Tensor, collector: Collector, create_graph: bool) -> None:
    total = collector.take(leaf)
    assert total is not None
    holder = [total]
    del total
    if leaf._hooks:
        holder[0] = run_hooks(leaf._hooks, holder[0])
    check_gradient(holder[0], leaf, "the gradient that the derivative rules gave for a leaf")
    _add_to_grad(leaf, holder, create_graph)


def _add_to_grad(tensor: Tensor, holder: list[Tensor], create_graph: bool) -> None:
    with _adding:
        if create_graph:
            tensor._grad = holder[0].clone() if tensor._grad is None else tensor._grad + holder[0]
        elif tensor._grad is None:
            tensor._grad = own(holder)
        else:
            add_to_grad(tensor, holder[0])


def backward(
    root: Tensor,
    gradient: Tensor | Array | float | None,
    retain_graph: bool | None,
    create_graph: bool,
) -> None:
    """See `Tensor.backward`."""
    if not root._requires_grad:
        raise GraphError(
            "backward: this tensor does not require a gradient (it was computed from tensors that "
            "do not, under no_grad, or detached)"
        )
    seed = _seed(root, gradient, "gradient")
    retain = _retains(retain_graph, create_graph)
    before, state.enabled = state.enabled, create_graph
    try:
        collector = _walk([root], [seed], None, {}, retain, create_graph)
        for leaf in collector.leaves():
            _accumulate(leaf, collector, create_graph)
    finally:
        state.enabled = before


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Array | Sequence[Tensor | Array | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, without touching any ``grad``.

    Only the operations between the two are walked. Inputs may be leaves or results; what their
    hooks make of a gradient is what is returned.

    Args:
        outputs: tensors to differentiate; their gradients add up.
        inputs: tensors to differentiate with respect to.
        grad_outputs: one gradient per output, of its shape; None stands for 1 where an output
            has one element.
        retain_graph: keep the graph for another pass; default `create_graph`.
        create_graph: record the pass itself, so that the result can be differentiated.
        allow_unused: give None for an input that the outputs do not depend on.

    Returns:
        one gradient per input.

    Raises:
        GraphError: an output or input does not require a gradient, the graph was freed, or an
            input was not used and `allow_unused` is false.
    """
    check_bool("allow_unused", allow_unused)
    roots, wanted = _differentiable("outputs", outputs), _differentiable("inputs", inputs)
    seeds = _seeds(roots, grad_outputs)
    retain = _retains(retain_graph, create_graph)
    slots = [slot_of(tensor) for tensor in wanted]
    found = _gradients(roots, seeds, wanted, slots, retain, create_graph)
    results = [found.get(slot) for slot in slots]
    if len(found) < len(slots):
        unused = [i for i, slot in enumerate(slots) if slot not in found]
        if unused and not allow_unused:
            raise GraphError(
                f"inputs[{unused[0]}] was not used in computing the outputs; pass "
                "allow_unused=True to get None for it"
            )
        if not create_graph:
            _set_apart(results)
    return tuple(results)


def _gradients(
    roots: list[Tensor], seeds: list[Tensor], wanted: list[Tensor], slots: list[Slot],
    retain: bool, create_graph: bool,
) -> dict[Slot, Tensor]:
    """Of what is wanted, by slot; nothing where the roots do not depend on it."""
    captured: dict[Slot, Tensor | None] = {
        slot: None for i, slot in enumerate(slots) if slot is not wanted[i]
    }
    found: dict[Slot, Tensor] = {}
    before, state.enabled = state.enabled, create_graph
    try:
        collector = _walk(roots, seeds, set(slots), captured, retain, create_graph)
        for i, slot in enumerate(slots):
            if slot in found:
                continue
            # One reference is the list's.
            holder = [captured.pop(slot) if slot in captured else collector.take(slot)]
            if holder[0] is None:
                continue
            tensor = wanted[i]
            if slot is tensor and tensor._hooks:
                holder[0] = run_hooks(tensor._hooks, holder[0])
            found[slot] = holder[0] if create_graph else own(holder)  # type: ignore[arg-type]
    finally:
        state.enabled = before
    return found


def _differentiable(name: str, given: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The tensors of an argument of `grad`, checked."""
    if isinstance(given, Tensor):
        given = (given,)
    elif not isinstance(given, (list, tuple)) and not hasattr(given, "__iter__"):
        raise DTypeError(f"{name}: expected a Tensor or several, got {type(given).__name__}")
    tensors = list(given)
    for i, each in enumerate(tensors):
        if not isinstance(each, Tensor):
            raise DTypeError(f"{name}[{i}]: expected a Tensor, got {type(each).__name__}")
        tensor: Tensor = each
        if not tensor._requires_grad:
            raise GraphError(f"{name}[{i}] does not require a gradient")
    return tensors


def _seeds(roots: list[Tensor], grad_outputs: Any) -> list[Tensor]:
    """A gradient of each root, from the argument of `grad`."""
    given: list[Any]
    if grad_outputs is None:
        given = [None] * len(roots)
    elif isinstance(grad_outputs, Tensor | np.ndarray):
        given = [grad_outputs]
    else:
        given = check_list("grad_outputs", grad_outputs, "a tensor or several")
    if len(given) != len(roots):
        raise ArgumentError(
            f"grad_outputs: expected one per output ({len(roots)}), got {len(given)}"
        )
    return [
        given[i] if _fits(given[i], root) else _seed(root, given[i], f"grad_outputs[{i}]")
        for i, root in enumerate(roots)
    ]


def _set_apart(gradients: list[Tensor | None]) -> None:
    """Put copies where one of them stands for a second time."""
    seen: set[int] = set()
    for i, gradient in enumerate(gradients):
        if gradient is None:
            continue
        if id(gradient) in seen:
            gradients[i] = wrap(gradient._data.copy())
        seen.add(id(gradient))


def _fits(gradient: Any, root: Tensor) -> bool:
    if not isinstance(gradient, Tensor):
        return False
    given: Tensor = gradient
    return arrays.alike(given._data, root._data)


def _seed(root: Tensor, gradient: Any, what: str) -> Tensor:
    if gradient is None:
        if root._data.size != 1:
            raise GraphError(
                f"{what}: only a one-element tensor has an implicit gradient of 1; this one has "
                f"shape {root.shape}"
            )
        return wrap(np.ones_like(root._data))
    if not isinstance(gradient, Tensor):
        is_array = isinstance(gradient, np.ndarray)
        gradient = wrap(to_array(gradient, None if is_array else root._data.dtype, name=what))
    check_gradient(gradient, root, what)
    return gradient
