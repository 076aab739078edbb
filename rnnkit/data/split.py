"""Training and validation parts of one text."""

from __future__ import annotations

from rnnkit.errors import ArgumentError


def split_by_position(text: str, validation: float = 0.1) -> tuple[str, str]:
    """Cut ``text`` in two: the last ``validation`` share of its characters is held out.

    A cut by position, unlike a random one, leaves no sentence with one half on each side of it.

    Raises ArgumentError when ``validation`` is not between 0 and 1 or a part would be empty.
    """
    if not 0.0 < validation < 1.0:
        raise ArgumentError(f"validation: expected a share between 0 and 1, got {validation}")
    cut = len(text) - round(len(text) * validation)
    if not 0 < cut < len(text):
        raise ArgumentError(
            f"text: {len(text)} characters cannot be cut into a training part and a "
            f"validation part of {validation:.0%}"
        )
    return text[:cut], text[cut:]
