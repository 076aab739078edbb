"""Input feeding as a cell: a decoder whose every step reads what its attention found at the last.

Luong, Pham and Manning 2015, arXiv 1508.04025, section 3.3. The memory that the attention looks at
is a state that each step hands on, so that all steps run natively, as a program.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rnnkit.cells import Cell
from rnnkit.cells.noise import dropout_mask
from rnnkit.nn.attention import Memory
from rnnkit.nn.containers import ModuleList
from rnnkit.ops import cat, ones, tanh, zeros
from rnnkit.recurrent import run_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.nn.attention import Attention
    from rnnkit.nn.dropout import Dropout
    from rnnkit.nn.linear import Linear
    from rnnkit.nn.recurrent import Recurrent

WIDTH = 8
"""Memories are padded to multiples of so many steps: each width is a program of its own."""
MOST_WIDTHS = 16
"""Whose cells are kept; the oldest give way."""

_cells: WeakKeyDictionary[Recurrent, dict[int, FeedingCell]] = WeakKeyDictionary()


class FeedingCell(Cell):
    """The layers of a decoder, and the attention, whose result is read beside the next input.

    States: those of the layers, one layer after the other; the result a (F,); and the memory, keys
    (S, A), values (S, K) and valid (S,). Output: a and the weights of the attention, (F + S,).

    Args:
        layers: the decoder's cells.
        attention: looks at the memory, with the last layer's output h as query; its context is c.
        combine: W_c.
        dropout: makes a of tanh(W_c [c; h]).
        input_size: E, without a.
        memory_shapes: (S, A), (S, K) and (S,).
    """

    def __init__(
        self, layers: Sequence[Any], attention: Attention, combine: Linear, dropout: Dropout,
        input_size: int, memory_shapes: Sequence[tuple[int, ...]],
    ) -> None:
        super().__init__(input_size, combine.out_features)
        self.layers = ModuleList(layers)
        self.attention, self.combine, self.dropout = attention, combine, dropout
        self.memory_shapes = tuple(memory_shapes)
        self.between = 0.0  # dropout between layers
        names = [f"{name}{k}" for k, cell in enumerate(layers) for name in cell.state_names]
        self.state_names = (*names, "a", "keys", "values", "valid")  # type: ignore[misc]

    def consists_of(self, *parts: Any) -> bool:
        """Whether these are still the layers, the attention, what combines, and the dropout."""
        own = (*self.layers, self.attention, self.combine, self.dropout)
        return len(own) == len(parts) and all(map(is_, own, parts))

    @property
    def output_size(self) -> int:
        return self.hidden_size + self.memory_shapes[-1][0]

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        of_layers = [shape for cell in self._layers() for shape in cell.state_shapes]
        return *of_layers, (self.hidden_size,), *self.memory_shapes

    def _layers(self) -> list[Any]:
        return list(self.layers)

    def draw(self, steps: int, batch: int) -> tuple[Tensor, ...]:
        """The masks of dropout, (T, N, H) after each layer but the last and (T, N, F) for a."""
        on_a = self.dropout.p if self.dropout.training else 0.0
        wanted = [(cell.output_size, self.between) for cell in self._layers()[:-1]]
        return tuple([
            dropout_mask((steps, batch, size), rate, self.dtype)
            for size, rate in (*wanted, (self.hidden_size, on_a)) if rate
        ])

    def step(self, x: Tensor, state: State, *drawn: Tensor) -> tuple[Tensor, State]:
        *of_layers, a, keys, values, valid = state
        y, masks, after = cat([x, a], -1), list(drawn), []
        for k, cell in enumerate(self._layers()):
            if k and self.between:
                y = y * masks.pop(0)
            count = len(cell.state_names)
            y, new = cell.step(y, tuple(of_layers[k * count : (k + 1) * count]))
            after += new
        context, weights = self.attention(y, Memory(keys, values, valid > 0))
        a = tanh(self.combine(cat([context, y], -1)))
        if masks:
            a = a * masks[0]
        return cat([a, weights], -1), (*after, a, keys, values, valid)


def run_with_feeding(
    decoder: Recurrent, attention: Attention, combine: Linear, dropout: Dropout, x: Tensor,
    states: tuple[Tensor, ...], memory: Memory, lengths: Any,
) -> tuple[Tensor, Tensor]:
    """a of every step (T, N, F) and the weights of the attention (T, N, S).

    Args:
        decoder, attention, combine, dropout: see `FeedingCell`.
        x: (T, N, E), the inputs without a.
        states: (L, N, H), the decoder's first.
        memory: of S steps.
        lengths: (N,), the steps of each row; None: all T.
    """
    (N, S, _), dtype = memory.keys.shape, memory.keys.dtype
    missing = -S % WIDTH if S else WIDTH
    valid = ones((N, S), dtype=dtype) if memory.valid is None else memory.valid.astype(dtype)
    padded = [
        cat([each, zeros((N, missing, *each.shape[2:]), dtype=dtype)], 1) if missing else each
        for each in (memory.keys, memory.values, valid)
    ]
    layers = [cells[0] for cells in decoder.layers]
    found = _cells.setdefault(decoder, {})
    cell = found.get(S + missing)
    if cell is None or not cell.consists_of(*layers, attention, combine, dropout):
        cell = found[S + missing] = FeedingCell(
            layers, attention, combine, dropout, x.shape[-1], [each.shape[1:] for each in padded]
        )
        if len(found) > MOST_WIDTHS:
            del found[next(iter(found))]
    for each in layers:
        if each.training is not decoder.training:
            each.train(decoder.training)
    between = decoder.dropout if decoder.training else 0.0
    if cell.between != between:
        cell.between = between
    first = [state[k : k + 1] for k in range(len(layers)) for state in states]
    a = zeros((1, N, cell.hidden_size), dtype=dtype)
    given = (*first, a, *[each.unsqueeze(0) for each in padded])
    y, _ = run_layer([cell], x, given, lengths=lengths)
    return y[..., : cell.hidden_size], y[..., cell.hidden_size : cell.hidden_size + S]
