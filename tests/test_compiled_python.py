"""Some of the Python is compiled as it stands: nothing may depend on whether it is."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rnnkit as rk

ROOT = Path(__file__).parent.parent

RUN = Path(__file__).with_name("compiled_python_run.py")


def listed() -> list[Path]:
    """What setup.py compiles."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    names = next(
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED"
    )
    return [ROOT / name for name in ast.literal_eval(names)]


def test_what_is_listed_exists():
    assert listed()
    for path in listed():
        assert path.is_file(), path


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_builds_again_whatever_native_source_changes():
    database = subprocess.run(
        ["make", "--dry-run", "--print-data-base", "help"], cwd=ROOT, capture_output=True,
        text=True, check=True,
    ).stdout
    rule = next(line for line in database.splitlines() if line.startswith(".venv/ready:"))
    native = [*ROOT.glob("rnnkit/**/*.p[xy][xdi]"), *ROOT.glob("csrc/**/*.[ch]")]
    sources = {str(path.relative_to(ROOT)) for path in [*native, *listed()]}
    sources -= {"rnnkit/backend/_native.pyi"}
    assert len(sources) > 30
    assert not sources - {*rule.split()}


def test_the_same_bits_interpreted():
    if not rk.config()["compiled_python"] or not rk.config()["native"]:
        pytest.skip("nothing is compiled here")
    found = [
        subprocess.run(
            [sys.executable, RUN, way], capture_output=True, text=True, check=True
        ).stdout
        for way in ("compiled", "interpreted")
    ]
    assert found[0] == found[1]


def test_only_a_checkout_is_refused_when_it_is_older_than_its_source(
    tmp_path, monkeypatch, request
):
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    package = tmp_path / "rnnkit"
    package.mkdir()
    for name, time in (("__init__.py", 1), ("module.py", 2), ("module.cpython-311.so", 1)):
        (package / name).touch()
        os.utime(package / name, (time, time))
    monkeypatch.setattr(rk, "__file__", str(package / "__init__.py"))
    conftest.pytest_configure()  # installed: its times say nothing
    monkeypatch.setattr(conftest, "ROOT", tmp_path.resolve())
    with pytest.raises(pytest.UsageError, match=r"module.py has changed since it was compiled"):
        conftest.pytest_configure()
