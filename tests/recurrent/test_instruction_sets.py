"""The contract on the instruction sets below the best one, each forced in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rnnkit as rk

HERE = Path(__file__).parent

PROGRAM = """
import sys
import rnnkit as rk
from recurrent_contract import check_native_equals_tape, reduced_layers

used = rk.config()["isa_in_use"]
assert used == sys.argv[1], f"asked for {sys.argv[1]}, got {used}"
for layer in reduced_layers():
    try:
        check_native_equals_tape(layer)
    except AssertionError as error:
        sys.exit(f"{layer.case}, {layer.call}: {error}")
"""


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512", "neon"])
def test_native_equals_tape(isa, native):
    configuration = rk.config()
    if isa not in configuration["isa_built"]:
        pytest.skip(f"{isa} is not built for {configuration['machine']}")
    if isa not in configuration["isa_supported"]:
        pytest.skip(f"this processor has no {isa}")
    root = Path(rk.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, isa],
        capture_output=True,
        text=True,
        env=os.environ | {"RNNKIT_ISA": isa, "PYTHONPATH": os.pathsep.join([str(root), str(HERE)])},
        check=False,
    )
    assert result.returncode == 0, result.stderr
