"""One training step in a process of its own: how far it raises the peak of resident memory.

python -m benchmarks.footprint_step '{"side": "native", "threads": 2, "shape": [1, 2, 3, 4]}'

"options" may add what else the problem is: ``memory``, ``last_only``.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

from .problem import Problem, Shape
from .sides import peer_sides, rnnkit_side


def main() -> None:
    job = json.loads(sys.argv[1])
    problem = Problem("lstm", Shape(*job["shape"]), **job.get("options", {}))
    if job["side"] == "native":
        side = rnnkit_side(problem, "native", job["threads"])
    else:
        side = peer_sides(problem, [job["side"]], job["threads"])[0]
    side.prepare()
    if side.compile:
        side.compile("training")
    before = _resident_bytes()
    results = side.to_numpy(side.timed("training")())
    peak = _peak_bytes()
    kept = sum(array.nbytes for array in results)
    # Through very many steps, a gradient of an initial state may well vanish.
    of_weights = results[-len(problem.weights) :]
    if not all(np.isfinite(array).all() for array in results) or not all(
        array.any() for array in of_weights
    ):
        sys.exit(f"{problem}: {job['side']} gives a gradient that is zero or not finite")
    print(json.dumps({"before": before, "peak": peak, "step": peak - before, "results": kept}))


def _resident_bytes() -> int:
    """What is resident now; where the system does not tell, the most there has been."""
    return _status("VmRSS") or _peak_by_usage()


def _peak_bytes() -> int:
    return _status("VmHWM") or _peak_by_usage()


def _status(field: str) -> int | None:
    """Of Linux's own account, because its getrusage begins with the peak of the parent."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(found[0]) * 1024 if found else None


def _peak_by_usage() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
