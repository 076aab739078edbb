"""What the passes of a variant do: its programs, and the arrays that these are given and give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnnkit.backend._native import Plan

if TYPE_CHECKING:
    from rnnkit.recurrent.program.plan import Compiled
    from rnnkit.recurrent.program.values import Value
    from rnnkit.recurrent.program.variant import Product, Source, Variant


class Planned:
    """
    Args:
        variant: of the traced step.
        compiled: its programs, for all gradients that may come or for some of them.

    Attributes:
        operands: the matrices and biases of its products.
        forward_given, backward_given: the inputs of the programs that are no such products.
        d_rows, d_matrices, d_biases: of the rows of products, and of the matrix and bias of each,
            those that get a gradient; None in place of the others.
        matrix_shapes, bias_shapes: of these gradients; ``sums_shapes``: of sums of products.
        d_inputs, d_graphs: of the inputs of every step, those whose gradient the backward program
            gives: x and what is drawn; and hoisted values that are no such products.
        d_invariants: whose gradients the backward pass gives, and the values that are these.
        native: the programs and products as the native side takes them.
    """

    def __init__(self, variant: Variant, compiled: Compiled) -> None:
        self.compiled = compiled
        step, products = variant.step, variant.products or ()
        number_of = {each.value: i for i, each in enumerate(products)}
        self.operands: list[Source] = []
        places: dict[int, int] = {}  # of these

        def place(source: Source | None) -> int:
            if source is None:
                return -1
            if id(source.tensor) not in places:
                places[id(source.tensor)] = len(self.operands)
                self.operands.append(source)
            return places[id(source.tensor)]

        def numbers(values: Sequence[Value]) -> tuple[int, ...]:
            return tuple([number_of.get(value, -1) for value in values])

        forward, backward = compiled.forward, compiled.backward
        self.forward_given = [v for v in forward.sequences if v not in number_of]
        of_backward = backward.sequences if backward else []
        self.backward_given = [v for v in of_backward if v not in number_of]
        gradients = set(compiled.sequence_gradients)
        with_gradients = [each for each in products if each.value in gradients]
        needed = {each.rows for each in with_gradients if variant.requires_grad(each.rows)}
        self.d_rows = [value if value in needed else None for value in variant.rows]

        def of_gradient(each: Product, source: Source | None) -> Source | None:
            wanted = each in with_gradients and source is not None and source.requires_grad
            return source if wanted else None

        self.d_matrices = [of_gradient(each, each.matrix) for each in products]
        self.d_biases = [of_gradient(each, each.bias) for each in products]
        self.matrix_shapes = [each and each.tensor.shape for each in self.d_matrices]
        self.bias_shapes = [each and each.tensor.shape for each in self.d_biases]
        self.sums_shapes = [
            (a.stop - a.start, b.stop - b.start) for _, (a, b) in compiled.outer_sums
        ]
        inputs = (step.x, *step.drawn)
        self.d_inputs = [v for v in compiled.sequence_gradients if v in inputs]
        others = [v for v in compiled.sequence_gradients if v not in inputs]
        assert compiled.sequence_gradients == [*self.d_inputs, *others]
        self.d_graphs = [v for v in others if v not in number_of]
        self.d_invariants: list[tuple[Source, Value]] = []
        if variant.training:
            self.d_invariants = [(variant.source(v), d) for v, d in compiled.results.invariants]
        self.native = Plan(
            forward.native, backward.native if backward else None, compiled.state_places,
            compiled.kept.size,
            tuple([
                (variant.rows.index(each.rows), place(each.matrix), each.transposed,
                 place(each.bias), each.value.size)
                for each in products
            ]),
            numbers(forward.sequences), numbers(of_backward),
            numbers(compiled.sequence_gradients) + (-1,) * compiled.shown_flows,
            tuple([
                (a.start, a.stop - a.start, b.start, b.stop - b.start)
                for _, (a, b) in compiled.outer_sums
            ]),
        )  # fmt: skip
