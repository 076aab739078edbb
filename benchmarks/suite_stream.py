"""One step at a time, batch 1, state carried, called from Python: what an answer costs.

Each contestant keeps its arrays and its state in its own form, so no conversion is timed. All run
the same sequence from the zero state first and must agree with one another. Cells of one's own are
the programs suite's, against their steps in Python, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .comparison import settings_line
from .problem import FUSED, Problem, Shape, usual
from .program_cells import PROGRAM_CELLS
from .report import Row, Table, means, of_threads, others, speedup_text, times
from .sides import DisagreementError, Stepper, check_equal, peer_module, prepare_rnnkit
from .timing import compare, plans, spread

if TYPE_CHECKING:
    from .worker import Options

CHECKED_STEPS = 20
HIDDEN = {
    "full": (8, 16, 32, 64, 128, 256),
    "standard": (8, 16, 32, 64, 128, 256),
    "quick": (16, 64),
    "tiny": (3,),
}
OWN_HIDDEN = {"full": (16, 64, 256), "standard": (16, 64), "quick": (16,), "tiny": (3,)}
PLANS = plans()


def run(options: Options, emit: Callable[[Row], None]) -> None:
    """Emits a row for each cell and hidden size; the input is as wide as the hidden state."""
    for cell in options.cells or (*FUSED, *PROGRAM_CELLS):
        own = cell in PROGRAM_CELLS
        for H in OWN_HIDDEN[options.size] if own else HIDDEN[options.size]:
            shape = Shape(1, CHECKED_STEPS, H, H)
            problem = Problem(cell, shape, "float32", {} if own else usual(cell))
            steppers = [rnnkit_stepper(problem, options.threads)]
            if own:
                steppers.append(rnnkit_stepper(problem, options.threads, "python"))
            for peer in options.peers:
                steppers += peer_module(peer).make_steppers(problem, options.threads)
            head = {"suite": "stream", "threads": options.threads}
            try:
                _check(problem, steppers)
            except DisagreementError as error:
                emit(head | {"failed": str(error)})
                continue
            found = compare([stepper.entry() for stepper in steppers], PLANS[options.size])
            emit(
                head
                | {
                    "cell": cell,
                    "label": problem.label,
                    "hidden": H,
                    "seconds": {name: spread(values) for name, values in found.seconds.items()},
                    "speedup_over": found.ratios_to("native"),
                    "setting": {name: each for name, each in found.setting.items() if each},
                    "settings": {name: e for name, e in found.settings.items() if len(e) > 1},
                    "rounds": len(found.seconds["native"]),
                }
            )


def rnnkit_stepper(problem: Problem, threads: int, path: str = "native") -> Stepper:
    """The module's own stepper, on one path; the state it owns is the zero state."""
    prepare_rnnkit(path, threads)
    stepper = problem.make_module().stream(problem.shape.N)
    return Stepper(
        path,
        list(problem.inputs["x"]),
        stepper.reset,
        stepper,
        lambda y: y,
        lambda: prepare_rnnkit(path, threads),
    )


def _check(problem: Problem, steppers: list[Stepper]) -> None:
    first = steppers[0]
    expected = first.run()
    for stepper in steppers[1:]:
        check_equal(
            stepper.run(), expected, problem.tolerance(), f"{problem} steps: y", stepper, first
        )
    for stepper in steppers:
        stepper.reset()


def line(row: Row) -> str:
    return (
        f"stream  {row['label']} H{row['hidden']}: "
        f"{row['seconds']['native']['median'] * 1e6:.2f} us  {speedup_text(row, 1)}"
    )


def tables(rows: list[Row]) -> Iterator[Table]:
    names = others(rows)
    head = ["cell", "H", "native", *(title for n in names for title in (n, f"over {n}"))]
    body = []
    for row in rows:
        cells = [row["label"], str(row["hidden"]), _microseconds(row, "native")]
        for name in names:
            if name in row["speedup_over"]:
                cells += [_microseconds(row, name), times(row["speedup_over"][name])]
            else:
                cells += ["-", "-"]
        body.append(cells)
    threads = of_threads(rows[0]["threads"])
    yield Table(f"Streaming, batch 1, {threads}: microseconds a step", head, body)
    if names:
        yield means(rows, ("label",), "Streaming: geometric means")
    if text := settings_line(rows):
        yield Table(text, [], [])


def _microseconds(row: Row, name: str) -> str:
    return f"{row['seconds'][name]['median'] * 1e6:.2f}"
