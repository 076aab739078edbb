"""How fast training is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MEMORY_SECONDS = 3.0


class Speed:
    """Items per second of training: over the whole run, and over the last few seconds."""

    def __init__(self) -> None:
        self.recent = 0.0
        self._items = 0
        self._seconds = 0.0

    @property
    def overall(self) -> float:
        return self._items / self._seconds if self._seconds else 0.0

    def add(self, items: int, seconds: float) -> None:
        """One step of ``items`` items took ``seconds``."""
        self._items += items
        self._seconds += seconds
        kept = math.exp(-seconds / _MEMORY_SECONDS) if self.recent else 0.0
        self.recent = kept * self.recent + (1.0 - kept) * items / max(seconds, 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; JSON-able."""
        return {"items": self._items, "seconds": self._seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""
        self._items = int(state["items"])
        self._seconds = float(state["seconds"])
