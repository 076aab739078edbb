"""The product of two tensors against NumPy's, large and skinny, and next to a recurrent layer.

A library that runs its recurrent loop on threads of its own and its products on those of a BLAS
has two pools that can stall each other. Whether they do shows when both are used in turns: the time
of the turn against the sum of the times of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

import rnnkit as rk
from rnnkit import nn

from .report import Row, Table, milliseconds, of_threads, times
from .sides import DisagreementError, prepare_rnnkit
from .timing import Entry, Plan, compare, plans, ratios, spread

if TYPE_CHECKING:
    from .worker import Options

LARGE = [(256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (1120, 256, 10_000)]
SKINNY = [(M, K, N) for K, N in ((256, 1024), (1024, 4096)) for M in (1, 4, 16, 32)]
SHAPES = {
    "full": [("large", LARGE), ("skinny", SKINNY)],
    "standard": [("large", LARGE), ("skinny", SKINNY)],
    "quick": [("large", LARGE[1:3]), ("skinny", SKINNY[:4])],
    "tiny": [("large", [(8, 7, 6)]), ("skinny", [(1, 7, 6)])],
}
PLANS = plans(2.0, 1.5)


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits a row for each shape, and one for a layer and a product in turns."""
    prepare_rnnkit("auto", options.threads)
    head = {"suite": "matmul", "threads": options.threads}
    plan = PLANS[options.size]
    for kind, shapes in SHAPES[options.size]:
        for shape in shapes:
            try:
                emit(head | {"kind": kind} | _product(shape, plan))
            except DisagreementError as error:
                emit(head | {"failed": str(error)})
    emit(head | {"kind": "in turns"} | _turns(options.size == "tiny", plan))


def _product(shape: tuple[int, int, int], plan: Plan) -> Row:
    M, K, N = shape
    random = np.random.default_rng(4)
    a = random.standard_normal((M, K)).astype(np.float32)
    b = random.standard_normal((N, K)).astype(np.float32).T  # as a layer's weight enters it
    a_tensor, b_tensor = rk.tensor(a), rk.as_tensor(b)
    text = f"({M}, {K}) x ({K}, {N})"
    found, expected = (a_tensor @ b_tensor).numpy(), a @ b
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= 1e-5:
        raise DisagreementError(f"matmul {text}: differs from NumPy's by {error:.1e}")
    entries = [
        Entry("native", lambda: a_tensor @ b_tensor, context=rk.no_grad),
        Entry("numpy", lambda: a @ b),
    ]
    result = compare(entries, plan)
    return {
        "shape_text": text,
        "seconds": {name: spread(values) for name, values in result.seconds.items()},
        "speedup_over": result.ratios_to("native"),
    }


def _turns(tiny: bool, plan: Plan) -> Row:
    T, N, H, V = (3, 2, 4, 5) if tiny else (50, 16, 128, 1000)
    layer = nn.LSTM(H, H)
    x = rk.zeros(T, N, H)
    a, b = rk.zeros(T * N, H), rk.zeros(H, V)

    def turns() -> None:
        layer(x)
        a @ b

    parts = {"both": turns, "layer": lambda: layer(x), "product": lambda: a @ b}
    seconds = compare(
        [Entry(name, call, context=rk.no_grad) for name, call in parts.items()], plan
    ).seconds
    alone = [p + q for p, q in zip(seconds["layer"], seconds["product"], strict=True)]
    return {
        "shape_text": f"LSTM N{N} T{T} H{H}, then ({T * N}, {H}) x ({H}, {V})",
        "seconds": {"native": spread(seconds["both"]), "its parts alone": spread(alone)},
        "speedup_over": {"its parts alone": ratios(alone, seconds["both"])},
    }


def line(row: Row) -> str:
    ((name, ratio),) = row["speedup_over"].items()
    return f"matmul  {row['shape_text']}: {ratio['median']:.2f}x over {name}"


def tables(rows: list[Row]) -> Iterator[Table]:
    body = []
    for row in rows:
        ((name, ratio),) = row["speedup_over"].items()
        seconds = [milliseconds(row["seconds"][side]["median"]) for side in ("native", name)]
        body.append([row["kind"], row["shape_text"], name, *seconds, times(ratio)])
    title = f"Products of tensors, float32, {of_threads(rows[0]['threads'])}: milliseconds"
    head = ["kind", "what", "against", "rnnkit", "other", "rnnkit is"]
    yield Table(title, head, body, texts=3)
