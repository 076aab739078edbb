"""From a draft to the tables of a native program: places of values, and instructions."""

from __future__ import annotations

from itertools import chain
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnnkit.errors import TraceError
from rnnkit.recurrent.program.values import VIEWS

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.recurrent.program.draft import Definition, Draft
    from rnnkit.recurrent.program.values import Shape, Value

# Kinds of base, in the order of rk_base_kind (csrc/program.h).
KINDS = (
    "temp", "invariant", "sequence", "state", "kept", "summands", "wide", "output", "next",
    "flowing", "flowed", "sums",
)
GRAIN = 16
"""Elements of a cache line of float32: what products write is padded to whole vectors."""


class Place(NamedTuple):
    """Where a value stands: elements from ``offset`` on of a row that a base gives."""

    kind: str
    which: int
    offset: int
    shape: Shape
    strides: Shape


def contiguous(shape: Shape) -> Shape:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def is_contiguous(place: Place) -> bool:
    wanted = contiguous(place.shape)
    return all(n == 1 or a == b for n, a, b in zip(place.shape, place.strides, wanted, strict=True))


def moved(place: Place, elements: int) -> Place:
    return place._replace(offset=place.offset + elements)


class Record:
    """A row that holds several values, each from a cache line on."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.size = 0
        self.fields: dict[Any, Place] = {}

    def field(self, key: Any, shape: Shape) -> Place:
        """The place of a key, new or there already."""
        if key not in self.fields:
            place = Place(self.kind, 0, self.size, shape, contiguous(shape))
            size = prod(shape)
            self.size += -(-size // GRAIN) * GRAIN
            self.fields[key] = place
        return self.fields[key]


class Encoder:
    """
    Args:
        draft: what is to be computed.
        leaves: places of values that are given.
        stores: for a result, the places that it has to reach.
        native_ops: numbers of operations by name.
        summands: the record of rows that products sum after the loop.

    Attributes:
        temp_size: elements of the temporary room for a row.
        wide: the record of a thread's rows.
        sums: that of sums over all steps, for each row of the batch its own.
    """

    def __init__(
        self,
        draft: Draft,
        leaves: dict[Value, Place],
        stores: dict[Value, list[Place]],
        native_ops: dict[str, int],
        summands: Record,
    ) -> None:
        self.draft = draft
        self.places = dict(leaves)
        self.stores = stores
        self.ops = native_ops
        self.wide = Record("wide")
        self.sums = Record("sums")
        self.summands = summands
        self.bases: dict[tuple[str, int], int] = {}
        self.weights: dict[tuple[int, ...], int] = {}
        self.instructions: list[list[int]] = []
        self.products: list[list[int]] = []
        self.stages: list[list[int]] = []
        self.temp_size = 0
        self._free: list[tuple[int, int]] = []  # (offset, size) of temporary room
        self._temp_of: dict[Value, tuple[int, int]] = {}
        self._last_use: dict[Value, int] = {}
        self._run()

    # ---- where values stand

    def _run(self) -> None:
        draft = self.draft
        by_stage: list[list[Value]] = [[] for _ in range(draft.n_stages)]
        products: list[list[Value]] = [[] for _ in range(draft.n_stages)]
        for value, definition in draft.definitions.items():
            if value.rows is None and definition.name not in ("sum_rows", "outer"):
                continue
            if definition.name == "product":
                products[draft.stage[value] - 1].append(value)
            else:
                by_stage[draft.stage[value]].append(value)
        self._choose_places(by_stage, products)
        position = 0
        for stage, values in enumerate(by_stage):
            first = len(self.instructions)
            for value in products[stage - 1] if stage else []:
                self._store_result(value)
            for value in values:
                self._emit(value, draft.definitions[value])
                self._store_result(value)
                self._release(position)
                position += 1
            pending = [self._prepare_product(value) for value in products[stage]]
            middle = len(self.instructions)
            first_product = len(self.products)
            for row in pending:
                self.products.append(row)
            self.stages.append([first, middle, first_product, len(self.products)])

    def _choose_places(self, by_stage: list[list[Value]], products: list[list[Value]]) -> None:
        draft = self.draft
        crossing = self._find_last_uses(by_stage, products)
        for value, definition in draft.definitions.items():
            if value.rows is None or definition.name in VIEWS:
                continue
            is_product = definition.name == "product"
            first = next(
                (
                    place for place in self.stores.get(value, ())
                    if place.kind != "output" or not is_product
                ),
                None,
            )
            if first is not None:
                self.places[value] = first
            elif is_product and len(definition.inputs) == 3:
                continue  # stands where it begins: below
            elif value in crossing or definition.name == "cat":
                self.places[value] = self.wide.field(value, value.shape)
        for value, definition in draft.definitions.items():
            if definition.name == "cat" and value.rows:
                self._place_parts(value, definition)
        for value in chain(*products):
            if len(draft.definitions[value].inputs) == 3:
                self._place_with_start(value, draft.definitions[value].inputs[2])

    def _find_last_uses(
        self, by_stage: list[list[Value]], products: list[list[Value]]
    ) -> set[Value]:
        """Returns the values that are needed after the row that computes them has been left."""
        draft = self.draft
        crossing: set[Value] = set()
        position = 0
        for stage, values in enumerate(by_stage):
            for value in values:
                for v in draft.definitions[value].inputs:
                    root = draft.root(v)
                    self._last_use[root] = position
                    if draft.stage.get(root, 0) < stage:
                        crossing.add(root)
                self._last_use.setdefault(value, position)
                position += 1
            for value in products[stage]:
                crossing.add(value)
                for v in draft.definitions[value].inputs:
                    if v.rows:
                        crossing.add(draft.root(v))
        for value in self.stores:
            root = draft.root(value)
            if root is not value:
                # A view is copied where it is made; its root must last that long.
                last = self._last_use.get(value, 0)
                self._last_use[root] = max(self._last_use.get(root, 0), last)
        return crossing

    def _place_with_start(self, value: Value, start: Value) -> None:
        """Let a product stand where what it begins with does, if nothing else needs that."""
        inner = self.draft.definitions.get(start)
        if inner is not None and (self.draft.uses[start] > 1 or start in self.stores):
            inner = None
        if value not in self.places:
            own = None if inner is None else self.places.get(start)
            if own is None or own.kind != "wide":
                own = self.wide.field(value, value.shape)
            self.places[value] = own
        if inner is not None and inner.name not in VIEWS and inner.name not in ("product", "cat"):
            self.places[start] = self.places[value]

    def _place_parts(self, value: Value, definition: Definition) -> None:
        """Let the parts of a joined value be computed in their places."""
        axis = definition.params["axis"]
        whole = self.places[value]
        if any(n != 1 for n in value.shape[:axis]):
            return
        step = whole.strides[axis]
        offset = whole.offset
        seen: set[Value] = set()
        for part in definition.inputs:
            inner = self.draft.definitions.get(part)
            place = self.places.get(part)
            free = place is None or place.kind == "wide"
            if (
                inner is not None and inner.name not in VIEWS and part not in seen and free
                and inner.name not in ("product", "cat") and part not in self.stores
            ):
                self.places[part] = Place(
                    whole.kind, whole.which, offset, part.shape, contiguous(part.shape)
                )
            seen.add(part)
            offset += part.shape[axis] * step

    def place(self, value: Value) -> Place:
        """Where a value stands; a view that cannot be shown is copied first."""
        found = self.places.get(value)
        if found is not None:
            return found
        definition = self.draft.definitions[value]
        if definition.name == "primitive":  # a transposed invariant
            own = self.place(definition.inputs[0])
            return own._replace(shape=own.shape[::-1], strides=own.strides[::-1])
        if definition.name not in VIEWS:
            raise AssertionError(f"{definition.name} has no place")
        shown = self._view(self.place(definition.inputs[0]), definition, value.shape)
        if shown is None:
            source = self.place(definition.inputs[0])
            copied = self._temporary(value, source.shape)
            self._gather(copied, source)
            shown = self._view(copied, definition, value.shape)
            assert shown is not None
        return shown

    @staticmethod
    def _view(place: Place, definition: Definition, shape: Shape) -> Place | None:
        params = definition.params
        kind, index, offset, old, strides = place
        if definition.name == "permute":
            axes = params["axes"]
            return Place(kind, index, offset, shape, tuple([strides[i] for i in axes]))
        if definition.name == "flip":
            new = list(strides)
            for axis in params["axes"]:
                offset += (old[axis] - 1) * strides[axis]
                new[axis] = -strides[axis]
            return Place(kind, index, offset, shape, tuple(new))
        if definition.name == "slice":
            offset += sum(a * s for a, s in zip(params["starts"], strides, strict=True))
            new = [a * s for a, s in zip(params["steps"], strides, strict=True)]
            return Place(kind, index, offset, shape, tuple(new))
        if definition.name == "broadcast":
            new = [0 if n != m else s for n, m, s in zip(old, shape, strides, strict=True)]
            return Place(kind, index, offset, shape, tuple(new))
        if is_contiguous(place):
            return Place(kind, index, offset, shape, contiguous(shape))
        # A reshape that only adds or drops axes of size 1.
        left = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
        if [n for n, _ in left] != [n for n in shape if n != 1]:
            return None
        rest = iter(left)
        new = [0 if n == 1 else next(rest)[1] for n in shape]
        return Place(kind, index, offset, shape, tuple(new))

    def _temporary(self, owner: Value | None, shape: Shape) -> Place:
        size = -(-max(1, prod(shape)) // GRAIN) * GRAIN
        fitting = [i for i, (_, room) in enumerate(self._free) if room == size]
        if fitting:
            offset, _ = self._free.pop(fitting[0])
        else:
            offset = self.temp_size
            self.temp_size += size
        if owner is not None:
            self._temp_of[owner] = (offset, size)
        return Place("temp", 0, offset, shape, contiguous(shape))

    def _release(self, position: int) -> None:
        for value, (offset, size) in list(self._temp_of.items()):
            if self._last_use.get(value, -1) <= position:
                del self._temp_of[value]
                self._free.append((offset, size))

    # ---- instructions

    def _base(self, place: Place) -> int:
        return self.bases.setdefault((place.kind, place.which), len(self.bases))

    def _emit(self, value: Value, definition: Definition) -> None:
        name = definition.name
        if name in VIEWS or name == "turn":
            return
        if name == "sum_rows":
            total = self.sums.field(value, value.shape)
            summed = [self.place(v) for v in definition.inputs]
            if len(summed) == 1:
                self._elementwise("add", total, [total, *summed])
            else:
                self._elementwise("muladd", total, [*summed, total])
            return
        if name == "outer":
            for x in definition.inputs:
                if x not in self.summands.fields:  # given, or a view: no store brings it there
                    self._gather(self.summands.field(x, x.shape), self.place(x))
            return
        if value not in self.places:
            self.places[value] = self._temporary(value, value.shape)
        out = self.places[value]
        inputs = [self.place(v) for v in definition.inputs]
        if name == "cat":
            axis, offset = definition.params["axis"], out.offset
            for part, place in zip(definition.inputs, inputs, strict=True):
                to = Place(out.kind, out.which, offset, part.shape, out.strides)
                if place[:3] != to[:3]:
                    self._gather(to, place)
                offset += part.shape[axis] * out.strides[axis]
        elif name == "zero":
            self._loop("fill", out, [out], out.shape)
        elif name == "put":
            params = definition.params
            if not params["whole"]:
                self._loop("fill", out, [out], out.shape)
            for place, (starts, steps) in zip(inputs, params["places"], strict=True):
                strides = tuple(map(mul, steps, out.strides))
                to = moved(out, sum(map(mul, starts, out.strides)))
                self._gather(to._replace(shape=place.shape, strides=strides), place)
        elif name == "take":
            self._take(out, inputs[0], **definition.params)
        elif name.startswith("reduce_"):
            self._reduce(name, out, inputs[0], definition.params["axes"])
        elif name == "dot":
            a, b = inputs
            self._write("row_product", [1, a.shape[0], 1], out, [0, 0, 0], [
                (a, [0, *a.strides, 0]), (b, [*b.strides, 0, 0]),
            ])
        elif name == "row_product":
            a, b = inputs
            sizes = [a.shape[0], a.shape[1], b.shape[1]]
            strides_out = [out.strides[0], 0, out.strides[1]]
            self._write(name, sizes, out, strides_out, [
                (a, [*a.strides, 0]), (b, [*b.strides, 0]),
            ])
        else:
            self._elementwise(name, out, inputs)

    def _elementwise(self, name: str, out: Place, inputs: list[Place]) -> None:
        spread = []
        for place in inputs:
            lead = len(out.shape) - len(place.shape)
            own = [0] * lead + [
                0 if n == 1 and m != 1 else s
                for n, m, s in zip(place.shape, out.shape[lead:], place.strides, strict=True)
            ]
            spread.append(place._replace(shape=out.shape, strides=tuple(own)))
        sizes, strides = collapse(out.shape, [out.strides, *[p.strides for p in spread]])
        held: list[Place] = []
        for i, place in enumerate(spread):
            step = strides[i + 1][-1]
            if step not in (0, 1) and sizes[-1] != 1:
                copied = self._temporary(None, out.shape)
                held.append(copied)
                self._gather(copied, place)
                spread[i] = copied
        if held:
            sizes, strides = collapse(out.shape, [out.strides, *[p.strides for p in spread]])
        if sizes[-1] == 1:
            strides = [[*s[:-1], 0] for s in strides]
        self._write(name, sizes, out, strides[0], list(zip(spread, strides[1:], strict=True)))
        for place in held:
            size = -(-max(1, prod(place.shape)) // GRAIN) * GRAIN
            self._free.append((place.offset, size))

    def _loop(self, name: str, out: Place, inputs: list[Place], shape: Shape) -> None:
        sizes, strides = collapse(shape, [out.strides, *[p.strides for p in inputs]])
        self._write(name, sizes, out, strides[0], list(zip(inputs, strides[1:], strict=True)))

    def _gather(self, out: Place, source: Place) -> None:
        """Copy, whatever the strides."""
        sizes, strides = collapse(out.shape, [out.strides, source.strides])
        if all(s[-1] == 1 or sizes[-1] == 1 for s in strides):
            to, of = [[*s[:-1], 0 if sizes[-1] == 1 else 1] for s in strides]
            self._write("copy", sizes, out, to, [(source, of)])
        else:
            self._loop("gather", out, [source], out.shape)

    def _take(self, out: Place, source: Place, axis: int, index: Array) -> None:
        """Elements along an axis, zero for -1: a copy for each run of them at even distances."""
        if (index < 0).any():
            self._loop("fill", out, [out], out.shape)
        numbers = index.tolist()
        end = 0
        while end < len(numbers):
            start, end = end, end + 1
            if numbers[start] < 0:
                continue
            step = numbers[end] - numbers[start] if end < len(numbers) else 1
            while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
                if numbers[end] < 0:
                    break
                end += 1
            shape = (*out.shape[:axis], end - start, *out.shape[axis + 1 :])
            strides = list(source.strides)
            strides[axis] *= step
            to = moved(out, start * out.strides[axis])
            of = moved(source, numbers[start] * source.strides[axis])
            self._gather(
                to._replace(shape=shape), of._replace(shape=shape, strides=tuple(strides)),
            )

    def _reduce(self, name: str, out: Place, x: Place, axes: Shape) -> None:
        if not axes:
            self._gather(out, x)
            return
        for i, axis in enumerate(axes):
            last = i == len(axes) - 1
            shape = tuple([1 if k in axes[: i + 1] else n for k, n in enumerate(x.shape)])
            to = out if last else self._temporary(None, shape)
            before, after = x.shape[:axis], x.shape[axis + 1 :]
            # One stride for all axes before, one for all after; what has more goes part by part.
            (*parts, n), outer = collapse(before, [x.strides[:axis], to.strides[:axis]])
            (*more, m), inner = collapse(after, [x.strides[axis + 1 :], to.strides[axis + 1 :]])
            steps = [[*a[:-1], *b[:-1]] for a, b in zip(outer, inner, strict=True)]
            for at in np.ndindex(*parts, *more):
                of, into = [
                    moved(place, sum(map(mul, at, strides)))
                    for place, strides in zip((x, to), steps, strict=True)
                ]
                from_ = [outer[0][-1], x.strides[axis], inner[0][-1]]
                self._write(
                    name, [n, x.shape[axis], m], into, [outer[1][-1], 0, inner[1][-1]],
                    [(of, from_)],
                )
            x = to._replace(shape=shape)

    def _write(
        self, name: str, sizes: list[int], out: Place, out_strides: list[int],
        inputs: list[tuple[Place, list[int]]],
    ) -> None:
        if len(sizes) > 3:  # an instruction has no more axes
            for i in range(sizes[0]):
                self._write(
                    name, sizes[1:], moved(out, i * out_strides[0]), out_strides[1:],
                    [(moved(place, i * strides[0]), strides[1:]) for place, strides in inputs],
                )
            return

        def padded(values: list[int], fill: int) -> list[int]:
            return [fill] * (3 - len(values)) + list(values)

        row = [self.ops[name], *padded(sizes, 1)]
        row += [self._base(out), out.offset, *padded(out_strides, 0)]
        for place, strides in inputs:
            row += [self._base(place), place.offset, *padded(strides, 0)]
        row += [row[4], out.offset, 0, 0, 0] * (3 - len(inputs))
        self.instructions.append(row)

    def _store_result(self, value: Value) -> None:
        """Bring a result to all the places that want it."""
        wanted = self.stores.get(value, ())
        if not wanted:
            return
        own = self.place(value)
        for place in wanted:
            if place[:3] != own[:3]:
                self._gather(place._replace(shape=own.shape, strides=contiguous(own.shape)), own)

    def _prepare_product(self, value: Value) -> list[int]:
        definition = self.draft.definitions[value]
        x, weight = definition.inputs[:2]
        out = self.places[value]
        place = self.place(x)
        # A view that had to be copied stands in temporary room, which the next row overwrites.
        if place.kind == "temp" or (place.strides[0] != 1 and place.shape[0] != 1):
            copied = self.wide.field((value, "input"), x.shape)
            self._gather(copied, place)
            place = copied
        adds = len(definition.inputs) > 2
        if adds:
            start = self.place(definition.inputs[2])
            if start[:3] != out[:3]:
                self._elementwise("copy", out, [start])
        K, M = x.shape[0], value.shape[0]
        index = self._weight(weight, definition.params["transposed"], K, M)
        return [index, int(adds), self._base(place), place.offset, self._base(out), out.offset]

    def _weight(self, weight: Value, transposed: bool, K: int, M: int) -> int:
        definition = self.draft.definitions.get(weight)
        if definition is not None:  # a transposed invariant
            params = definition.params
            name = params["primitive"].name
            if name != "permute" or params["params"]["axes"] != (1, 0):
                raise TraceError(f"a product with {name} of an invariant")
            weight, transposed = definition.inputs[0], not transposed
            if weight in self.draft.definitions:
                raise TraceError("a product with something computed from invariants")
        place = self.places[weight]
        strides = (1, K) if transposed else (M, 1)
        key = (place.which, K, M, *strides)
        return self.weights.setdefault(key, len(self.weights))


def collapse(shape: Shape, all_strides: list[Shape]) -> tuple[list[int], list[list[int]]]:
    """Axes merged where they can be for all of the strides; at least one is left."""
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in all_strides]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        merges = bool(sizes) and all(
            new[-1] == old[axis] * n for new, old in zip(strides, all_strides, strict=True)
        )
        if merges:
            sizes[-1] *= n
        else:
            sizes.append(n)
        for new, old in zip(strides, all_strides, strict=True):
            if merges:
                new[-1] = old[axis]
            else:
                new.append(old[axis])
    if not sizes:
        return [1], [[0] for _ in all_strides]
    return sizes, strides
