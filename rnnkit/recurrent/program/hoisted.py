"""Values that depend on inputs alone: computed for many steps at once, before the loop.

They are computed by *blocks* of steps, whose length depends on the number of rows alone; so are
the sums over steps in their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.autograd import Tensor, enable_grad, grad, no_grad
from rnnkit.autograd.grad_mode import state
from rnnkit.autograd.tensor import wrap
from rnnkit.backend.products import always_native
from rnnkit.recurrent.program.prologue import leaf
from rnnkit.recurrent.program.variant import Source

if TYPE_CHECKING:
    from rnnkit.recurrent.program.invariants import Invariants
    from rnnkit.recurrent.program.steps import Placed, Steps
    from rnnkit.recurrent.program.values import Value
    from rnnkit.recurrent.program.variant import Variant

    Array = np.ndarray[Any, np.dtype[Any]]

SHORTEST_BLOCK = 64
ROWS_OF_BLOCK = 4096
"""A block has at least so many steps, and at least so many rows."""


def steps_of_block(N: int) -> int:
    return max(SHORTEST_BLOCK, -(-ROWS_OF_BLOCK // N))


def products_of(
    variant: Variant, invariants: Invariants, rows: dict[Value, Array]
) -> dict[Value, Array]:
    """The hoisted values that are products, from the rows of x and of what the run draws."""
    found = {}
    for value, call, inputs, _ in variant.products or ():
        arrays = [
            invariants.array(each) if isinstance(each, Source) else rows[each] for each in inputs
        ]
        found[value] = call.primitive.forward(*arrays, **call.params)
    return found


class Block:
    """Some steps, and what is computed for all of them at once.

    Attributes:
        first, last: the steps, from ``first`` to ``last - 1`` in the direction's own order.
        inputs: x and what the run draws, as rows (rows, ...).
        values: the hoisted values, as rows.
        leaves, results: the same with a graph from the leaves, and from the invariants, to the
            results; None where all values are products.
    """

    def __init__(
        self, first: int, last: int, inputs: dict[Value, Array], values: dict[Value, Array],
        leaves: dict[Value, Tensor] | None = None, results: dict[Value, Tensor] | None = None,
    ) -> None:
        self.first, self.last = first, last
        self.inputs = inputs
        self.values = values
        self.leaves = leaves
        self.results = results


class Hoisted:
    """
    Args:
        variant: of the traced step.
        steps: of the run.
        invariants: of the run.
        input_of: gives what is laid out as x, for x and what the run draws.
    """

    def __init__(
        self, variant: Variant, steps: Steps, invariants: Invariants,
        input_of: Callable[[Value], Array],
    ) -> None:
        self._variant = variant
        self._steps = steps
        self._invariants = invariants
        self._input_of = input_of
        self._block = steps_of_block(steps.N)
        self._blocks: list[Block] = []
        self._operands: dict[int, tuple[Source, Tensor]] = {}

    def forget(self) -> None:
        self._blocks = []

    def compute(self, first: int, last: int) -> dict[Value, Placed]:
        """The hoisted values of some steps."""
        self._blocks = []
        hoisted = self._variant.step.hoisted
        if not hoisted:
            return {}
        make = self._graph if self._variant.products is None else self._by_products
        with always_native():
            self._blocks = [
                make(start, min(start + self._block, last))
                for start in range(first, last, self._block)
            ]
        if len(self._blocks) == 1:
            (block,) = self._blocks
            return {v: self._steps.placed(block.values[v], first, last) for v in hoisted}
        counts = [block.last - block.first for block in self._blocks]
        found = {}
        for value in hoisted:
            rows = self._steps.joined([block.values[value] for block in self._blocks], counts)
            found[value] = self._steps.placed(np.ascontiguousarray(rows), first, last)
        return found

    def _inputs(self, first: int, last: int) -> dict[Value, Array]:
        return {
            value: self._steps.rows(self._input_of(value), first, last)
            for value in self._variant.inputs
        }

    def _by_products(self, first: int, last: int) -> Block:
        inputs = self._inputs(first, last)
        return Block(first, last, inputs, products_of(self._variant, self._invariants, inputs))

    def _graph(self, first: int, last: int) -> Block:
        variant = self._variant
        inputs = self._inputs(first, last)
        leaves = {v: leaf(rows, variant.requires_grad(v)) for v, rows in inputs.items()}
        with enable_grad() if variant.training else no_grad():
            prologue = self._invariants.prologue.for_inputs(leaves, self._operand)
            results = {value: prologue.sequence(value) for value in variant.step.hoisted}
        values = {v: np.ascontiguousarray(each._data) for v, each in results.items()}
        return Block(first, last, inputs, values, leaves, results)

    def _operand(self, traced: Tensor, tensor: Tensor) -> Tensor:
        """The leaf that stands for an invariant in the graphs of blocks."""
        found = self._operands.get(id(traced))
        if found is None:
            source = self._variant.source_of(traced)
            found = self._operands[id(traced)] = source, leaf(tensor.data, tensor.requires_grad)
        return found[1]

    # ---- backward

    def back(
        self, gradients: Sequence[tuple[Value, Placed]], first: int, last: int,
        add: Callable[[Value, int, int, Array], None],
    ) -> None:
        """Back through the values of these steps, from the last block to the first.

        Args:
            gradients: of the values.
            add: takes the gradient of x, or of what the run draws, for the rows of some steps.
        """
        if not gradients:
            return
        through = self._through_graph if self._variant.products is None else self._through_products
        with always_native():
            for block in reversed(self._blocks):
                rows = {
                    value: self._steps.some_of(placed, block.first, block.last, (first, last))
                    for value, placed in gradients
                }
                through(block, rows, add)

    def _through_products(
        self, block: Block, gradients: dict[Value, Array],
        add: Callable[[Value, int, int, Array], None],
    ) -> None:
        """By the derivative rules, on arrays."""
        invariants = self._invariants
        for value, call, inputs, needs in reversed(self._variant.products or ()):
            d_rows = gradients.get(value)
            if d_rows is None:
                continue
            arrays = [
                invariants.array(each) if isinstance(each, Source) else block.inputs[each]
                for each in inputs
            ]
            rule = call.primitive.array_rule
            assert rule is not None
            found = state.run(rule, needs, d_rows, *arrays, **call.params)
            for each, d in zip(inputs, found, strict=True):
                if d is None:
                    continue
                if isinstance(each, Source):
                    invariants.add_gradient(each, d)
                else:
                    add(each, block.first, block.last, d)

    def _through_graph(
        self, block: Block, gradients: dict[Value, Array],
        add: Callable[[Value, int, int, Array], None],
    ) -> None:
        assert block.leaves is not None and block.results is not None
        roots, seeds = [], []
        for value, rows in gradients.items():
            root = block.results[value]
            if root.requires_grad:
                roots.append(root)
                seeds.append(wrap(rows.reshape(root.shape)))
        inputs = [(value, each) for value, each in block.leaves.items() if each.requires_grad]
        operands = [(source, each) for source, each in self._operands.values()
                    if each.requires_grad]
        found = grad(
            roots, [each for _, each in (*inputs, *operands)], seeds, retain_graph=True,
            allow_unused=True,
        )
        for (source, _), d in zip(operands, found[len(inputs) :], strict=True):
            if d is not None:
                self._invariants.add_gradient(source, d.data)
        for (value, _), d in zip(inputs, found, strict=False):
            if d is not None:
                add(value, block.first, block.last, d.data)
