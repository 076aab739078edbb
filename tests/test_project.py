"""Rules that hold over the whole tree: who may import whom, and what no file may contain."""

import ast
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rnnkit"

# Top to bottom. A module may import its own entry and the rows below it, nothing else.
ROWS = [
    {"__init__", "__main__"},
    {"cli"},
    {"train"},
    {"data"},
    {"decoding"},
    {"diagnostics"},
    {"nn"},
    {"optim", "losses"},
    {"recurrent"},
    {"cells"},
    {"module"},
    {"backend"},
    {"ops"},
    {"autograd"},
    {"rng"},
    {"checks", "forks"},
    {"errors"},
]
ROW_OF = {name: number for number, row in enumerate(ROWS) for name in row}


def entry_of(path: Path) -> str:
    """The part of the package, a folder or a single file, that a source file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """The absolute names of every module and member that a file imports, wherever it does so."""
    package = ("rnnkit", *path.relative_to(PACKAGE).parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def imported_entries(path: Path) -> set[str]:
    """The entries of the package that a file imports; ``__init__`` for the package itself."""
    entries = set()
    for name in imported_modules(path):
        first, _, rest = name.partition(".")
        if first == "rnnkit":
            member = rest.split(".")[0]
            entries.add(member if member in ROW_OF else "__init__")
    return entries


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def files_of_code() -> list[Path]:
    """All that is written by hand, tests and examples among it."""
    suffixes = {".py", ".pyx", ".pxi", ".pxd", ".pyi", ".c", ".h"}
    return [
        path
        for folder in ("rnnkit", "csrc", "benchmarks", "tests", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and (path.suffix != ".c" or folder != "rnnkit")
    ]


def project_files() -> list[Path]:
    """The files under version control, or all but what is built where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode == 0:
        return [path for name in listing.stdout.split("\0") if (path := ROOT / name).is_file()]
    built = {".venv", "build", "dist", "runs", "__pycache__", "rnnkit.egg-info"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not built & set(p.parts)]


def test_every_part_of_the_package_has_its_row():
    assert {entry_of(path) for path in source_files()} <= set(ROW_OF)


def test_imports_go_one_way():
    upward = [
        f"{path.relative_to(ROOT)} must not import {other}"
        for path in source_files()
        for other in sorted(imported_entries(path) - {entry_of(path)})
        if ROW_OF[other] <= ROW_OF[entry_of(path)]
    ]
    assert not upward


def test_the_tour_in_the_readme_goes_the_same_way():
    tour = re.findall(r"^\| `rnnkit/(\w+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert tour == sorted(tour, key=ROW_OF.__getitem__)


def test_the_import_walk_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "ops").mkdir()
    path = tmp_path / "ops" / "sums.py"
    forms = {
        "import rnnkit.backend": {"backend"},
        "from rnnkit.backend import dispatch": {"backend"},
        "from rnnkit import backend": {"backend"},
        "import rnnkit as rk": {"__init__"},
        "from .. import cells": {"cells"},
        "from ..nn import Linear": {"nn"},
        "def f():\n    from ..train.settings import Settings": {"train"},
        "from . import shape": {"ops"},
        "import numpy": set(),
    }
    for source, expected in forms.items():
        path.write_text(source)
        assert imported_entries(path) == expected, source


def test_autograd_and_backend_do_not_know_each_other():
    """Said twice on purpose: the rows could be reordered, this must hold whatever they are."""
    for path in source_files():
        if entry_of(path) in {"autograd", "ops"}:
            assert not imported_entries(path) & {"backend", "cells", "recurrent"}, path
        if entry_of(path) == "backend":
            assert not imported_entries(path) & {"autograd", "ops", "cells", "recurrent"}, path


def test_importing_the_package_does_not_load_the_training_side():
    """What a user of the layers does not need must cost no import time."""
    heavy = ["rnnkit.train", "rnnkit.cli", "rnnkit.diagnostics", "tqdm", "matplotlib"]
    heavy += ["safetensors", "argparse"]
    code = f"import sys, numpy, rnnkit; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_no_file_names_the_machine_it_was_written_on():
    places = {str(ROOT), os.path.expanduser("~")} - {"/", ""}
    personal = re.compile(r"/(?:home|Users)/[A-Za-z]")
    for path in project_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found = [place for place in places if re.search(rf"(?<![\w.]){re.escape(place)}\b", text)]
        assert not found, f"{path.relative_to(ROOT)} names {found}"
        assert path == Path(__file__) or not personal.search(text), path.relative_to(ROOT)


def test_sources_stay_short():
    for path in files_of_code():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 650, f"{path.relative_to(ROOT)} has {lines} lines"


def test_nothing_is_left_for_later():
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))
    for path in files_of_code():
        assert not marks.search(path.read_text(encoding="utf-8")), path.relative_to(ROOT)


def test_a_package_that_lists_its_files_lists_them_all():
    for path in [*PACKAGE.rglob("__init__.py"), ROOT / "benchmarks" / "__init__.py"]:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        listed = re.findall(r"[\w*]+\.py\b", text)
        files = {each.name for each in path.parent.glob("[!_]*.py")}
        missing = [name for name in files if not any(fnmatch(name, each) for each in listed)]
        assert not listed or not missing, f"{path.relative_to(ROOT)}: {missing}"


def test_the_version_is_said_once_for_all():
    import tomllib

    import rnnkit

    with open(ROOT / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["version"] == rnnkit.__version__
