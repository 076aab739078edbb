"""Spectral norms and radii of recurrent matrices: reported, and kept within a bound.

The most that W_hh stretches a change of the hidden state by is its largest singular value, its
spectral norm. Below 1 the gradients of a plain RNN vanish, and only above 1 can they explode
(Pascanu, Mikolov and Bengio 2013, section 2). Bounding the spectral norms of a network's weights is
from Miyato et al. 2018, arXiv 1802.05957, who divide by it in every forward pass; here a bound is
kept by projection after the optimiser's step, which moves only what exceeds it.

G gates, H hidden. Everything is computed in float64, from a decomposition of the (H, H) matrix
W^T W, so that a report costs O(G H^3) for each layer and direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rnnkit.checks import check_bool, check_number
from rnnkit.errors import ArgumentError, ShapeError
from rnnkit.nn.gated import gate_blocks, gated_cells

if TYPE_CHECKING:
    from rnnkit.autograd.tensor import Array
    from rnnkit.module import Module


def spectral_norms(module: Module, per_gate: bool = False) -> dict[str, float]:
    """The spectral norm, the largest singular value, of every recurrent matrix of a module.

    Args:
        module: a recurrent module, a gated cell, or a model with some of them inside.
        per_gate: whether of each gate's block (H, H), in place of all gates stacked, (G*H, H).

    Returns:
        By parameter name: ``weight_hh_l0``, or ``weight_hh_l0[f]`` for the gate f. NaN where a
        matrix holds NaN or infinities.

    Raises:
        ArgumentError: no gated cell inside.
    """
    return {name: _norm(matrix) for name, matrix in _matrices(module, per_gate)}


def spectral_radii(module: Module) -> dict[str, float]:
    """The spectral radius, the largest |eigenvalue|, of every gate's recurrent matrix (H, H).

    Arguments, names and errors as in ``spectral_norms``, gate by gate; a ShapeError for a recurrent
    matrix that is not square.
    """
    radii = {}
    for name, matrix in _matrices(module, per_gate=True):
        if matrix.shape[0] != matrix.shape[1]:
            raise ShapeError(f"{name}: expected a square matrix, got shape {matrix.shape}")
        finite = np.isfinite(matrix).all()
        values = np.linalg.eigvals(matrix.astype(np.float64)) if finite else np.array([np.nan])
        radii[name] = float(np.abs(values).max())
    return radii


def spectral_norm_(module: Module, max_norm: float, per_gate: bool = False) -> dict[str, float]:
    """Bring every recurrent matrix within a spectral norm, in place; for after an optimiser's step.

    Singular values above ``max_norm`` become ``max_norm`` and the others stay: the nearest matrix,
    in the sum of squares, of such a norm. A matrix within the bound keeps its bits, and so does one
    that holds NaN or infinities.

    Args:
        module, per_gate: as in ``spectral_norms``.
        max_norm: the bound, met to rounding.

    Returns:
        The norms before.

    Raises:
        ArgumentError: a negative or NaN ``max_norm``, no gated cell inside, or a frozen matrix that
            is beyond the bound.
    """
    check_number("max_norm", max_norm)
    matrices = dict(_matrices(module, per_gate))
    norms = {name: _norm(matrix) for name, matrix in matrices.items()}
    beyond = {name: matrix for name, matrix in matrices.items() if norms[name] > max_norm}
    for name, matrix in beyond.items():
        if not matrix.flags.writeable:
            raise ArgumentError(f"{name}: is frozen; unfreeze() the module to bound it")
    for name, matrix in beyond.items():
        exact, scale = _scaled(matrix)
        bound = max_norm / scale
        if norms[name] > 1e6 * max_norm:
            # What is left would drown in the rounding of the squares, and of what is taken away.
            left, values, rows = np.linalg.svd(exact, full_matrices=False)
            exact = (left * np.minimum(values, bound)) @ rows
        else:
            squares, right = np.linalg.eigh(exact.T @ exact)
            values = np.sqrt(np.maximum(squares, 0.0))
            over = values > bound
            right, excess = right[:, over], 1.0 - bound / values[over]
            exact -= ((exact @ right) * excess) @ right.T
        matrix[...] = scale * exact
    return norms


def _matrices(module: Module, per_gate: bool) -> Iterator[tuple[str, Array]]:
    for name, cell in gated_cells(module):
        whole, own_name = cell.weight_hh, name.format("weight_hh")
        if check_bool("per_gate", per_gate) and cell.gates > 1:
            names = cell.gate_names or tuple(map(str, range(cell.gates)))
            for gate, block in zip(names, gate_blocks(whole, cell.gates), strict=True):
                yield f"{own_name}[{gate}]", block.data
        else:
            yield own_name, whole.data


def _norm(matrix: Array) -> float:
    if not np.isfinite(matrix).all():
        return float("nan")
    exact, scale = _scaled(matrix)
    return float(scale * np.sqrt(max(np.linalg.eigvalsh(exact.T @ exact)[-1], 0.0)))


def _scaled(matrix: Array) -> tuple[Array, float]:
    """As float64, of a size whose squares are within range; and what to multiply with again."""
    exact = matrix.astype(np.float64)
    # A power of two changes no bit.
    scale = 2.0 ** (np.frexp(np.abs(exact).max(initial=0.0))[1] - 1)
    return exact / scale, float(scale)
