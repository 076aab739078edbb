"""A trace: everything that recurrent layers do while it is in force."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rnnkit.checks import check_bool
from rnnkit.diagnostics.layers import LayerTrace
from rnnkit.diagnostics.names import Names, of_direction
from rnnkit.diagnostics.report import Report, report_on
from rnnkit.errors import ArgumentError
from rnnkit.recurrent.observe import Observer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rnnkit.cells import Cell
    from rnnkit.module import Module
    from rnnkit.recurrent.observe import LayerRun


class trace(Observer):  # noqa: N801 - used as `with rk.diagnostics.trace() as t:`
    """Context manager that records the recurrent layers that run inside it, on either path.

    Of every layer and direction it keeps the states and gates of every step and, once a backward
    pass has gone through (inside the context or after it), the gradient of every state. Results
    keep their bits. The call of a layer takes longer, since its gates are computed once more beside
    it; outside the context nothing does.

    Memory: a trace keeps everything until it is dropped, of every call: for an LSTM of D directions
    8 D*H numbers per step and row, whatever the layer's own ``memory`` is. Trace a training step,
    not a training.

    Only this thread's layers are seen, and neither streams nor cells that are called by themselves.

    Args:
        module: whose layers to record, under the names they have there ("l0", "encoder.l1"); None:
            every layer, named by its kind and number ("LSTM 0"). A reverse direction's name ends in
            "_reverse".
        probe: whether to run each layer once more by itself and send a gradient of norm 1 back from
            each row's final h (``LayerTrace.probe``).

    Attributes:
        layers: a ``LayerTrace`` for each run of a layer in a direction, in the order of the calls.

    ``t["l0"]`` is the latest run of that layer.

    Raises:
        ArgumentError: module is none, or has no recurrent layers.
    """

    records = True

    def __init__(self, module: Module | None = None, probe: bool = False) -> None:
        self._names = Names(module)
        self.probes = check_bool("probe", probe)
        self.layers: list[LayerTrace] = []

    def looks_at(self, cells: Sequence[Cell]) -> bool:
        """Whether it records the run of these cells."""
        return cells in self._names

    def saw(self, run: LayerRun) -> None:
        """Takes what was seen of a layer."""
        name = self._names.of(run.cells)
        for direction in run.directions:
            layer = LayerTrace(of_direction(name, direction.reverse), direction)
            if self.probes and run.probe is not None:
                layer.probe = LayerTrace(layer.name, run.probe.directions[direction.reverse])
            self.layers.append(layer)

    @property
    def latest(self) -> dict[str, LayerTrace]:
        """The latest run of each layer and direction, by name, in the order of their first runs."""
        return {layer.name: layer for layer in self.layers}

    def __getitem__(self, name: str) -> LayerTrace:
        latest = self.latest
        if name not in latest:
            raise ArgumentError(f"name: expected one of {', '.join(latest)}, got {name!r}")
        return latest[name]

    def __iter__(self) -> Iterator[LayerTrace]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def report(self, fraction: float = math.exp(-1), margin: float = 0.05) -> Report:
        """The numbers of the latest run of each layer, as a table when it is printed.

        Args:
            fraction: of the gradient that is left at the end of the effective memory length.
            margin: of a gate's range, within which it counts as saturated.
        """
        return report_on(list(self.latest.values()), fraction, margin)

    def plot(self, path: Any = None) -> Any:
        """Draws the latest run of each layer: gradient norms over time, histograms of the gates.

        Args:
            path: file to save the picture to, in the format that its name ends in.

        Returns:
            A matplotlib ``Figure``; the first of its ``axes`` has the norms, the others a layer's
            gates each.

        Raises:
            MissingPackageError: matplotlib is not installed.
            ArgumentError: nothing was recorded.
        """
        from rnnkit.diagnostics.picture import draw

        return draw(list(self.latest.values()), path)
