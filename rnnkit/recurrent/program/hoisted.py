"""Values that depend on inputs alone: computed for many steps at once, before the loop.

They are computed by *blocks* of steps, whose length depends on the number of rows and on the cell
alone; so are the sums over steps in their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnnkit.autograd import Tensor, enable_grad, grad, no_grad
from rnnkit.autograd.tensor import wrap
from rnnkit.backend.products import always_native
from rnnkit.recurrent.program.prologue import leaf
from rnnkit.recurrent.program.variant import Source

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.program.invariants import Invariants
    from rnnkit.recurrent.program.steps import Placed, Steps
    from rnnkit.recurrent.program.values import Value
    from rnnkit.recurrent.program.variant import Variant

SHORTEST_BLOCK = 16
"""In steps."""

ROWS_OF_BLOCK = 512, 2048
"""Fewest and most, but for the shortest block. What a block takes of memory is the least that a
budget can be; what it takes of time, beside products, counts where these are small."""

PRODUCTS_OF_BLOCK = 1 << 28
"""Multiplications of its rows with the largest tensor of the cell, beyond the fewest rows."""


def steps_of_block(N: int, largest: int) -> int:
    """
    Args:
        N: rows of a step.
        largest: elements of the largest tensor of the cell.
    """
    fewest, most = ROWS_OF_BLOCK
    rows = max(fewest, min(most, PRODUCTS_OF_BLOCK // max(1, largest)))
    return max(SHORTEST_BLOCK, -(-rows // N))


class Block:
    """Some steps, and what is computed for all of them at once.

    Attributes:
        first, last: the steps, from ``first`` to ``last - 1`` in the direction's own order.
        inputs: x and what the run draws, as rows (rows, ...): leaves.
        values: the hoisted values, as rows, with a graph from the inputs and from invariants.
        watched: what of the states after the step, by number, these are computed from.
    """

    def __init__(
        self, first: int, last: int, inputs: dict[Value, Tensor], values: dict[Value, Tensor],
        watched: dict[int, Tensor],
    ) -> None:
        self.first, self.last = first, last
        self.inputs = inputs
        self.values = values
        self.watched = watched


class Graphs:
    """Hoisted values that are more than products: on the tape, block by block.

    Args:
        variant: of the traced step.
        steps: of the run.
        block: steps of a block.
        invariants: of the run.
    """

    def __init__(
        self, variant: Variant, steps: Steps, block: int, invariants: Invariants
    ) -> None:
        self._variant = variant
        self._steps = steps
        self._invariants = invariants
        self._block = block
        self._blocks: list[Block] = []
        self._operands: dict[int, tuple[Source, Tensor]] = {}

    def forget(self) -> None:
        self._blocks = []

    def compute(
        self, first: int, last: int, input_of: Callable[[Value], Array]
    ) -> dict[Value, Placed]:
        """The hoisted values of some steps.

        Args:
            input_of: gives what is laid out as x, for x and what the run draws.
        """
        self._blocks = []
        with always_native():
            self._blocks = [
                self._compute(start, min(start + self._block, last), input_of)
                for start in range(first, last, self._block)
            ]
        counts = [block.last - block.first for block in self._blocks]
        found = {}
        for value in self._variant.step.hoisted:
            parts = [block.values[value]._data for block in self._blocks]
            rows = np.ascontiguousarray(self._steps.joined(parts, counts))
            found[value] = self._steps.placed(rows, first, last)
        return found

    def _compute(self, first: int, last: int, input_of: Callable[[Value], Array]) -> Block:
        variant = self._variant
        inputs = {}
        for value in variant.inputs:
            rows = self._steps.rows(input_of(value), first, last)
            inputs[value] = leaf(rows, variant.requires_grad(value))
        with enable_grad() if variant.training else no_grad():
            prologue = self._invariants.prologue.for_inputs(
                inputs, self._operand, variant.watched.values()
            )
            values = {value: prologue.sequence(value) for value in variant.step.hoisted}
        of_states = [(i, prologue.watched[each]) for i, each in variant.watched.items()]
        watched = {i: each for i, each in of_states if each is not None and each.requires_grad}
        return Block(first, last, inputs, values, watched)

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
        show: Callable[[int, int, int, Array], None],
    ) -> None:
        """Back through the values of these steps, from the last block to the first.

        Args:
            gradients: of the values.
            add: takes the gradient of x, or of what the run draws, for the rows of some steps.
            show: takes what flows into a state after these.
        """
        with always_native():
            for block in reversed(self._blocks):
                rows = {
                    value: self._steps.some_of(placed, block.first, block.last, (first, last))
                    for value, placed in gradients
                }
                self._back(block, rows, add, show)

    def _back(
        self, block: Block, gradients: dict[Value, Array],
        add: Callable[[Value, int, int, Array], None],
        show: Callable[[int, int, int, Array], None],
    ) -> None:
        roots, seeds = [], []
        for value, rows in gradients.items():
            root = block.values[value]
            if root.requires_grad:
                roots.append(root)
                seeds.append(wrap(rows.reshape(root.shape)))
        inputs = [(value, each) for value, each in block.inputs.items() if each.requires_grad]
        operands = [(source, each) for source, each in self._operands.values()
                    if each.requires_grad]
        wanted = [each for _, each in (*inputs, *operands)]
        found = grad(
            roots, [*wanted, *block.watched.values()], seeds, retain_graph=True, allow_unused=True,
        )
        for i, d in zip(block.watched, found[len(wanted) :], strict=True):
            if d is not None:
                show(i, block.first, block.last, d.data)
        for (source, _), d in zip(operands, found[len(inputs) :], strict=False):
            if d is not None:
                self._invariants.add_gradient(source, d.data)
        for (value, _), d in zip(inputs, found, strict=False):
            if d is not None:
                add(value, block.first, block.last, d.data)
