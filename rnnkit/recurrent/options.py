"""How a layer is to be run, beyond its cells, its input and its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.cells.base import State
    from rnnkit.recurrent.observe import LayerRun
    from rnnkit.recurrent.schedule import Schedule


@dataclass(slots=True)  # frozen ones take four times as long to make
class Options:
    """Not to be changed: calls share them.

    Attributes:
        batch_first: whether x, y and their like have the batch as the first axis.
        schedule: lengths and resets; None: every row takes every step.
        sequences: whether the output of every step is wanted, or only each row's last.
        steps: whether the states after every step are wanted.
        memory: bytes that the forward pass may keep for the backward pass; None: as many as it
            likes.
        seen: where the run leaves what is seen of it; None: nobody looks.
    """

    batch_first: bool = False
    schedule: Schedule | None = None
    sequences: bool = True
    steps: bool = False
    memory: int | None = None
    seen: LayerRun | None = None


PLAIN = {flag: Options(batch_first=flag) for flag in (False, True)}
"""The options of most calls, by ``batch_first``."""


class Result:
    """What a layer gives.

    Attributes:
        y: (T, N, D*H) or, with ``batch_first``, (N, T, D*H); (N, D*H), each row's last output in
            each direction, where ``sequences`` is off.
        final: per state name (D, N, H), the state at each row's own end.
        steps: per state name a tensor like y, the state after every step; None unless asked for.
    """

    __slots__ = ("final", "steps", "y")

    def __init__(self, y: Tensor, final: State, steps: State | None = None) -> None:
        self.y, self.final, self.steps = y, final, steps
