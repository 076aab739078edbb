"""Warnings of vanishing and exploding gradients while a network is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnnkit.autograd import is_grad_enabled
from rnnkit.checks import check_number, check_size
from rnnkit.diagnostics.layers import LayerTrace
from rnnkit.diagnostics.names import Names, of_direction
from rnnkit.errors import ArgumentError, warn
from rnnkit.recurrent.observe import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnkit.cells import Cell
    from rnnkit.module import Module
    from rnnkit.recurrent.observe import LayerRun


class GradientWarning(UserWarning):
    """A gradient vanishes or explodes on its way back through a layer."""


class Observation(NamedTuple):
    """What ``watch`` has found in one run of a layer in one direction.

    Attributes:
        name: of the layer.
        run: the number of the layer's training runs so far, from 1.
        steps: of the longest sequence.
        factor: by which a gradient changes at each step back.
        change: what is left of a gradient of 1 at the beginning of the longest sequence.
        verdict: "vanishing", "exploding" or "".
    """

    name: str
    run: int
    steps: int
    factor: float
    change: float
    verdict: str


class watch(Observer):  # noqa: N801 - used as `with rk.diagnostics.watch(model):`
    """Context manager that warns of vanishing and exploding gradients as training goes on.

    Each layer that is observed runs once more by itself, and sends a gradient of norm 1 back from
    each row's final h (``LayerTrace.probe``): what comes of it does not depend on where the loss is
    taken, nor on other layers. ``change``, what is left of it at the beginning of the longest
    sequence, is judged: the fitted factor per step (``LayerTrace.factor``), over all steps. A
    gradient that is not finite has exploded. Each finding is a ``GradientWarning`` that names the
    layer, the direction and the factor. The training itself keeps its bits.

    An observed run takes another forward and most of a backward pass; the others, and runs without
    gradients (``no_grad``), cost nothing.

    Args:
        module: whose recurrent layers to watch.
        every: observe the first training run of each layer, and each ``every``-th after it.
        vanishing: warn where ``change`` is below.
        exploding: warn where ``change`` is above.

    Attributes:
        history: the observations so far.

    Raises:
        ArgumentError: no module or one without recurrent layers, or a threshold on the wrong side
            of 1.
    """

    records = False
    probes = True

    def __init__(
        self, module: Module, every: int = 1, vanishing: float = 1e-4, exploding: float = 1e3
    ) -> None:
        if module is None:
            raise ArgumentError("module: expected a Module, got None")
        self._names = Names(module)
        self.every = check_size("every", every)
        check_number("vanishing", vanishing, high=1)
        check_number("exploding", exploding, 1)
        self.vanishing = vanishing
        self.exploding = exploding
        self.history: list[Observation] = []
        self._runs: dict[str, int] = {}

    def looks_at(self, cells: Sequence[Cell]) -> bool:
        """Whether it observes this run of these cells."""
        if cells not in self._names or not is_grad_enabled():
            return False
        name = self._names.of(cells)
        run = self._runs[name] = self._runs.get(name, 0) + 1
        return (run - 1) % self.every == 0

    def saw(self, run: LayerRun) -> None:
        """Judges what was seen of a layer, and warns."""
        assert run.probe is not None
        name = self._names.of(run.cells)
        for direction in run.probe.directions:
            if direction.cell.state_names[0] not in direction.d_states:
                continue
            layer = LayerTrace(of_direction(name, direction.reverse), direction)
            seen = self._judge(layer, self._runs[name])
            self.history.append(seen)
            if seen.verdict:
                warn(self.message(seen), GradientWarning)

    def _judge(self, layer: LayerTrace, number: int) -> Observation:
        factor, change = layer.factor(), layer.change()
        if not np.isfinite(layer.row_norms()).all():
            factor = change = math.inf
        verdict = ""
        if change > self.exploding:
            verdict = "exploding"
        elif change < self.vanishing:
            verdict = "vanishing"
        return Observation(layer.name, number, layer.longest, factor, change, verdict)

    def message(self, seen: Observation) -> str:
        """The text of the warning about what was seen."""
        limit = f"{self.exploding:g}" if seen.verdict == "exploding" else f"{self.vanishing:g}"
        side = "above" if seen.verdict == "exploding" else "below"
        return (
            f"{seen.name}, run {seen.run}: {seen.verdict} gradient: dL/dh_t changes by a factor of "
            f"{seen.factor:.4g} at each step back, by {seen.change:.2g} over {seen.steps} steps "
            f"({side} {limit})"
        )
