"""What the tests of the benchmark suite share: runs of it, small problems, and rows."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = {"torch": ["torch"], "jax": ["jax"], "onnxruntime": ["onnxruntime", "onnx"]}


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def small(suite, cell="rnn", shape=(2, 3, 4, 5), **options):
    return suite("problem").Problem(cell, suite("problem").Shape(*shape), **options)


def spread(value):
    return {"median": value, "low": value, "high": value}


def cells_row(mode="training", over=None, **changes):
    """A row as the cells suite emits it, for what comes after."""
    return {
        "suite": "cells",
        "threads": 2,
        "cell": "gru",
        "label": "GRU",
        "mode": mode,
        "dtype": "float32",
        "source": "grid",
        "shape": {"N": 64, "T": 25, "I": 512, "H": 512},
        "shape_text": "N64 T25 I512 H512",
        "seconds": {"native": spread(1.0), **{name: spread(r) for name, r in (over or {}).items()}},
        "speedup_over": {name: spread(ratio) for name, ratio in (over or {}).items()},
        "setting": {},
        "settings": {},
        "left_out": {},
        "compile_seconds": {},
        "rounds": 3,
        **changes,
    }
