"""Rows of a table picked by ids, and added to: natively where that is the faster.

The rule: native from SMALLEST elements on, for contiguous tables of a real dtype and ids that count
from the front; everything else is left to NumPy, which the caller then runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnkit.backend import dispatch, extension

if TYPE_CHECKING:
    from rnnkit.backend._native import Array

SMALLEST = 1024


def take_rows(table: Array, ids: Array) -> Array | None:
    """``table[ids]`` as a new array for a table (V, E) and ids (...); None: left to NumPy."""
    kernels = _kernels_for("take rows", table, ids)
    if kernels is None:
        return None
    rows = np.empty((*ids.shape, table.shape[1]), table.dtype)
    try:
        kernels.take_rows(
            extension.DTYPE_NAMES[table.dtype], extension.get_num_threads(),
            table, _int64(ids), rows,
        )
    except IndexError:
        return None
    return rows


def add_rows(table: Array, ids: Array, rows: Array) -> bool:
    """``table[ids[i]] += rows[i]`` one after the other, in place; False: left to NumPy."""
    kernels = _kernels_for("add rows", table, ids)
    if kernels is None:
        return False
    try:
        kernels.add_rows(
            extension.DTYPE_NAMES[table.dtype], extension.get_num_threads(), table, _int64(ids),
            np.require(rows, requirements=("C", "A")),
        )
    except IndexError:
        return False
    return True


def _kernels_for(op: str, table: Array, ids: Array) -> Any:
    if table.dtype not in extension.DTYPE_NAMES or ids.size * table.shape[1] < SMALLEST:
        return None
    flags = table.flags
    obstacle = None
    if not (flags.c_contiguous and flags.aligned):
        obstacle = "the table is not contiguous"
    return dispatch.kernels_for(op, obstacle, required=False)


def _int64(ids: Array) -> Array:
    return np.require(ids, np.int64, ("C", "A"))
