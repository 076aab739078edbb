"""Running the command line as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments):
    return [sys.executable, "-m", "rnnkit", *map(str, arguments)]


def environment(**extra):
    return os.environ | {"PYTHONPATH": str(ROOT)} | extra


def rnnkit(*arguments, cwd, **options):
    options = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(**options.pop("env", {})), **options
    )


def assert_one_line_error(result, code=1):
    assert result.returncode == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("rnnkit: error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == lines[0]
    assert "Traceback" not in result.stderr
    return lines[0]
