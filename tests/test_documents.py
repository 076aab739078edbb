"""The examples in the README and in docs/ run as they are printed, and links lead somewhere."""

import importlib
import re
from pathlib import Path
from types import CodeType

import pytest

import rnnkit as rk

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def examples(document: Path) -> list[CodeType]:
    """The examples of a document, each on its own lines there, so that a traceback shows them."""
    text = document.read_text(encoding="utf-8")
    found = re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    return [
        compile("\n" * text.count("\n", 0, match.start(1)) + match[1], document, "exec")
        for match in found
    ]


def test_the_ten_lines_learn_to_add(capsys):
    (code,) = examples(README)
    variables = {}
    rk.manual_seed(4)
    exec(code, variables)
    assert variables["loss"].item() < 0.01 * variables["target"].var()
    assert "LSTM" in capsys.readouterr().out


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
@pytest.mark.parametrize("path", ["python", "auto"])
def test_examples_of_the_documents_run(document, path):
    for code in examples(document):
        rk.manual_seed(0)
        with rk.backend(path):
            exec(code, {})


def test_the_program_that_is_shown_is_that_of_its_cell():
    pytest.importorskip("rnnkit.backend._native")
    document = ROOT / "docs" / "add-a-cell.md"
    variables = {}
    exec(examples(document)[0], variables)
    listing = str(variables["network"].program()).splitlines()
    (shown,) = re.findall(r"```text\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    places = [listing.index(line) for line in shown.splitlines() if line != "..."]
    assert places == sorted(places)


def headings(document: Path) -> set[str]:
    """What a link to a heading calls it, as GitHub does."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for path, heading in re.findall(r"\]\((?!https://)([^)#]*)(?:#([^)]*))?\)", text):
        target = document.parent / path if path else document
        assert target.exists(), path
        assert not heading or heading in headings(target), f"{path}#{heading}"


def test_the_tour_names_what_exists():
    for name in re.findall(r"^\| `([^`]+)`", README.read_text(encoding="utf-8"), re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_paths_named_in_the_documents_exist():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:csrc|tests|rnnkit|docs|benchmarks)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), (document.name, name)


def test_the_table_of_cells_is_complete():
    from rnnkit.cells import CELLS

    rows = {}
    for line in (ROOT / "docs" / "cells.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `(\w+)` \| `(\w+)` \| \[.*?\]\(\S+\) \| (.*?) \|", line):
            states = re.sub(r" \(.+?\)", "", match[3]).split(", ")
            rows[match[1]] = match[2], tuple(state for state in states if state != "y")
    assert rows == {name: (cell.__name__, cell.state_names) for name, cell in CELLS.items()}


@pytest.mark.parametrize("package", ["data", "decoding", "diagnostics", "nn", "nn.utils", "train"])
def test_records_tell_what_each_of_their_fields_is(package):
    module = importlib.import_module(f"rnnkit.{package}")
    for name in module.__all__:
        record = getattr(module, name)
        for field in getattr(record, "_fields", ()):
            assert re.search(rf"\b{field}\b", record.__doc__), f"{name}.{field}"
