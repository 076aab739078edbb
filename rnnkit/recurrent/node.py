"""What the tape records of a layer that runs natively."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnnkit import backend
from rnnkit.autograd import is_grad_enabled
from rnnkit.autograd.node import ExclusiveNode
from rnnkit.autograd.tensor import wrap
from rnnkit.errors import GraphError

if TYPE_CHECKING:
    from rnnkit.autograd import Tensor
    from rnnkit.autograd.accumulate import Collector
    from rnnkit.autograd.tensor import Array
    from rnnkit.cells import Cell


class LayerNode(ExclusiveNode):
    """One run of a layer whose backward pass works in what the forward pass has kept."""

    __slots__ = ("_began",)

    def begin(self, inputs: Sequence[Tensor | None], n_outputs: int) -> None:
        ExclusiveNode.begin(self, inputs, n_outputs)
        self._began = False  # to overwrite what was kept

    def back(
        self, d_outputs: list[Array | None], needs: Sequence[bool], retain: bool
    ) -> Sequence[Array | None]:
        """Gradients of the inputs; what was kept is needed once more if ``retain``."""
        raise NotImplementedError

    def back_on_tape(
        self, d_outputs: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """Gradients that can be differentiated again."""
        raise NotImplementedError

    def note_tape(self, cell: Cell) -> None:
        """Let ``why`` say that the layer runs once more on the tape."""
        backend.record(
            f"{type(cell).__name__} backward", "python", "create_graph: recomputed on the tape"
        )

    def gradients(
        self,
        d_outputs: Sequence[Tensor | None],
        needs: list[bool],
        retain_graph: bool,
        collector: Collector,
    ) -> Sequence[Tensor | None]:
        if is_grad_enabled():
            return self.back_on_tape(d_outputs, needs)
        d_arrays = [None if t is None else t._data for t in d_outputs]
        with self.turn():
            if self._began:
                raise GraphError(
                    "an earlier backward pass through this layer was interrupted after it had "
                    "begun to overwrite what the forward pass kept; run the forward pass again"
                )
            self._began = not retain_graph
            grads = self.back(d_arrays, needs, retain_graph)
        return [None if array is None else wrap(array) for array in grads]
