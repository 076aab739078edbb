"""A draft of a native program: the operations that certain values need, simplified, in stages.

Stage k runs operations on one row after the other, then products for all rows; what a product
gives is there from stage k + 1 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rnnkit.recurrent.program.values import ROWS_FIRST, VIEWS, Operation, Value


class Definition:
    """How a value is computed in this draft; as ``Operation``, but the draft's own."""

    __slots__ = ("inputs", "name", "params")

    def __init__(self, name: str, inputs: list[Value], params: dict[str, Any]) -> None:
        self.name = name
        self.inputs = inputs
        self.params = params


class Draft:
    """
    Args:
        results: the values that are wanted, with rows or as sums over the batch.
        is_leaf: whether a value is given from outside, though an operation could compute it.
        number_of: a constant's number, or None.
        basis: values for which operations become one, in place of ``results``: what else is kept,
            or not wanted, then changes no bit of them.

    Attributes:
        definitions: of every value that is computed, in an order that computes inputs first.
        stage: when a value is there: its operation runs in that stage, a product in the one before.
        uses: how often a value is an input or a result.
    """

    def __init__(
        self,
        results: Iterable[Value],
        is_leaf: Callable[[Value], bool],
        number_of: Callable[[Value], float | None],
        basis: Iterable[Value] | None = None,
    ) -> None:
        wanted = list(results)
        self.results = wanted if basis is None else list(basis)
        self._is_leaf = is_leaf
        self._number_of = number_of
        self.definitions: dict[Value, Definition] = {}
        self._collect()
        self._fuse()
        self._join_sums_to_products()
        self.results = wanted
        self._collect()  # what is wanted of that which has become a part of something else
        self._drop_unused()
        self._sort()
        self.uses = self._count_uses()
        self.stage = self._product_depths()

    @property
    def n_stages(self) -> int:
        """Stages that have anything to do."""
        return 1 + max(self.stage.values(), default=0)

    def _collect(self) -> None:
        stack: list[tuple[Value, bool]] = [(value, False) for value in reversed(self.results)]
        while stack:
            value, ready = stack.pop()
            if value.of is None or value in self.definitions or self._is_leaf(value):
                continue
            if ready:
                of = value.of
                self.definitions[value] = Definition(of.name, list(of.inputs), of.params)
                continue
            stack.append((value, True))
            stack += [(v, False) for v in reversed(value.of.inputs)]

    def _count_uses(self) -> dict[Value, int]:
        uses: dict[Value, int] = {}
        for definition in self.definitions.values():
            for value in definition.inputs:
                uses[value] = uses.get(value, 0) + 1
        for value in self.results:
            uses[value] = uses.get(value, 0) + 1
        return uses

    def _is(self, value: Value, name: str) -> Definition | None:
        found = self.definitions.get(value)
        return found if found is not None and found.name == name else None

    def _is_one_minus(self, value: Value) -> Value | None:
        """v, of 1 - v."""
        found = self._is(value, "sub")
        if found is None or self._number_of(found.inputs[0]) != 1.0:
            return None
        return found.inputs[1]

    def _fuse(self) -> None:
        """The gradients of tanh and sigmoid as one operation, ``a + -b`` as a difference, and sums
        with their products.

        ``muladd(a, b, c)`` is c + a b, ``mulsub`` c - a b, ``dot(a, b)`` the sum of a b over a row,
        and ``sum_rows(a, b)`` that over rows.
        """
        uses = self._count_uses()
        for value, definition in self.definitions.items():
            if definition.name == "mul":
                for d, other in (definition.inputs, definition.inputs[::-1]):
                    if other.shape != value.shape:
                        continue
                    y = self._square_root_of(self._is_one_minus(other))
                    if y is not None and y.shape == value.shape:
                        definition.name, definition.inputs = "tanh_gradient", [d, y]
                        break
                    inner = self._is(other, "mul")
                    if inner is None:
                        continue
                    y, rest = inner.inputs
                    if self._is_one_minus(rest) is y:
                        definition.name, definition.inputs = "sigmoid_gradient", [d, y]
                        break
        for definition in self.definitions.values():
            if definition.name != "add":
                continue
            for other, negative in (definition.inputs, definition.inputs[::-1]):
                inner = self._is(negative, "neg")
                if inner is not None and uses[negative] == 1:
                    definition.name, definition.inputs = "sub", [other, *inner.inputs]
                    break
        for value, definition in self.definitions.items():
            for i, factor in enumerate(definition.inputs):
                inner = self._is(factor, "mul")
                if inner is None or uses[factor] > 1:
                    continue
                others = [v for k, v in enumerate(definition.inputs) if k != i]
                if self._take_product(value, definition, factor, inner.inputs, others):
                    break
        self._drop_unused()

    @staticmethod
    def _take_product(
        value: Value, definition: Definition, factor: Value, factors: list[Value],
        others: list[Value],
    ) -> bool:
        """Whether an operation now multiplies itself: its input ``factor`` is a product of two."""
        name, is_whole = definition.name, factor.shape == value.shape
        if name == "sum_rows":
            fused = "sum_rows"
        elif name == "add" and is_whole:
            fused = "muladd"
        elif name == "sub" and is_whole and factor is definition.inputs[1]:
            fused = "mulsub"
        elif (
            name == "reduce_sum" and len(factor.shape) == 1
            and all(v.rows and v.shape == factor.shape for v in factors)
        ):
            fused = "dot"
        else:
            return False
        definition.name, definition.inputs = fused, [*factors, *others]
        return True

    def _square_root_of(self, value: Value | None) -> Value | None:
        if value is None:
            return None
        square = self._is(value, "square")
        if square is not None:
            return square.inputs[0]
        product = self._is(value, "mul")
        if product is not None and product.inputs[0] is product.inputs[1]:
            return product.inputs[0]
        return None

    def _join_sums_to_products(self) -> None:
        """``product(x, w) + a + b`` becomes a product that begins with ``a + b``."""
        users: dict[Value, list[Value]] = {}
        for value, definition in self.definitions.items():
            for v in definition.inputs:
                users.setdefault(v, []).append(value)
        for value in self.results:
            users.setdefault(value, []).append(value)
        depth = self._product_depths()
        for value in list(self.definitions):
            product = self.definitions.get(value)
            if product is None or product.name != "product" or len(product.inputs) > 2:
                continue
            ready = depth[product.inputs[0]]
            addends: list[Value] = []
            last = value
            passed = []
            while len(users.get(last, ())) == 1:
                user = users[last][0]
                added = self._is(user, "add")
                if user is last or added is None:
                    break
                other = added.inputs[added.inputs[0] is last]
                if user.shape != last.shape or depth.get(other, 0) > ready or other is last:
                    break
                addends.append(other)
                passed.append(user)
                last = user
            starts = [v for v in addends if v.rows and v.shape == last.shape]
            if not starts:
                continue
            start = starts[0]
            addends.remove(start)
            for v in addends:
                start = self._new_sum(start, v)
                depth[start] = ready
            del self.definitions[value]
            self.definitions[last] = Definition("product", [*product.inputs, start], product.params)
            for user in passed:
                if user is not last:
                    del self.definitions[user]
            depth[last] = ready + 1

    def _new_sum(self, a: Value, b: Value) -> Value:
        sum_ = Value("operation", a.shape, a.dtype, ROWS_FIRST)
        sum_.of = Operation("add", [a, b], {})
        sum_.of.out = sum_
        self.definitions[sum_] = Definition("add", [a, b], {})
        return sum_

    def _product_depths(self) -> dict[Value, int]:
        """How many products lie one after the other before a value is there."""
        depth: dict[Value, int] = {}
        for value, definition in self.definitions.items():
            before = max((depth.get(v, 0) for v in definition.inputs), default=0)
            depth[value] = before + (definition.name == "product")
            for v in definition.inputs:
                depth.setdefault(v, 0)
        return depth

    def _drop_unused(self) -> None:
        needed: set[Value] = set()
        stack = list(self.results)
        while stack:
            value = stack.pop()
            if value in needed:
                continue
            needed.add(value)
            if value in self.definitions:
                stack += self.definitions[value].inputs
        self.definitions = {v: d for v, d in self.definitions.items() if v in needed}

    def _sort(self) -> None:
        """Inputs first, again."""
        ordered: dict[Value, Definition] = {}
        for start in list(self.definitions):
            stack = [(start, False)]
            while stack:
                value, ready = stack.pop()
                if value not in self.definitions or value in ordered:
                    continue
                if ready:
                    ordered[value] = self.definitions[value]
                    continue
                stack.append((value, True))
                stack += [(v, False) for v in reversed(self.definitions[value].inputs)]
        self.definitions = ordered

    def root(self, value: Value) -> Value:
        """The value that a view shows."""
        while value in self.definitions and self.definitions[value].name in VIEWS:
            value = self.definitions[value].inputs[0]
        return value
