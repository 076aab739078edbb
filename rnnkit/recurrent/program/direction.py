"""What runs of one direction of a traced layer have in common, besides arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnkit.recurrent.program.traced import TRACING
from rnnkit.recurrent.program.variant import Needs, Variant

if TYPE_CHECKING:
    from rnnkit.recurrent.options import Options
    from rnnkit.recurrent.program.traced import TracedStep


class DirectionOfLayer:
    """
    Args:
        step: the traced step of the cell.
        restarts: whether there are states that it restarts from.
        paths: of the tensors that the cell holds; captured: ``id`` of those that it does not.
        directions: of the layer.

    Attributes:
        at_states, at_restarts, at_tensors, at_drawn: where these are among the inputs of a run.
        y_is_state: see `TracedStep`.
        y_wanted: whether the outputs of every step are.
    """

    __slots__ = (
        "_variants", "at_drawn", "at_restarts", "at_states", "at_tensors", "directions", "n_states",
        "names", "options", "paths", "restarts", "reverse", "step", "y_is_state", "y_wanted",
    )

    def __init__(
        self, step: TracedStep, options: Options, reverse: bool, restarts: bool, paths: list[str],
        captured: list[int], directions: int,
    ) -> None:
        self.directions = directions
        self.step, self.options, self.reverse = step, options, reverse
        self.n_states, self.restarts = len(step.states), restarts
        self.paths = paths
        self.names: tuple[str | int, ...] = (*paths, *captured)
        # Where the inputs of a run are: x, states, restarts, tensors, what is drawn.
        first_tensor = 1 + self.n_states * (1 + restarts)
        first_drawn = first_tensor + len(self.names)
        self.at_states = slice(1, 1 + self.n_states)
        self.at_restarts = slice(1 + self.n_states, first_tensor)
        self.at_tensors = slice(first_tensor, first_drawn)
        self.at_drawn = slice(first_drawn, None)
        self.y_is_state = step.y_is_state
        self.y_wanted = options.sequences or self.y_is_state < 0
        self._variants: dict[tuple[bool, ...], Variant] = {}

    def variant(self, needs: tuple[bool, ...]) -> Variant:
        """Of the step, where these inputs need gradients."""
        found = self._variants.get(needs)
        if found is None:
            found = self._variants[needs] = self._found_or_made(needs)
        return found

    def _found_or_made(self, needs: tuple[bool, ...]) -> Variant:
        options = self.options
        seen = options.seen is not None
        lengths = None if options.schedule is None else options.schedule.lengths
        idle = lengths is not None and not lengths.all()
        key = (needs, self.names, self.y_wanted, options.steps, seen, idle)
        found = self.step.variants.get(key)
        if found is None:
            of: Needs | None = None
            if any(needs):
                initial = needs[self.at_states]
                restart = needs[self.at_restarts] or initial
                states = [any(each) for each in zip(initial, restart, strict=True)]
                of = Needs(needs[0], states, needs[self.at_drawn], needs[self.at_tensors])
            with TRACING:
                found = self.step.variants[key] = Variant(
                    self.step, self.names, of, self.y_wanted, options.steps, seen, idle
                )
        return found
