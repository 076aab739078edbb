"""English prose that every CPython carries, as a text to train on without any download.

``pydoc_data.topics`` holds the parts of the Python language reference that ``help()`` shows. Some
distributions leave it out; then the docstrings of the standard library serve.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rnnkit.errors import ArgumentError

# Typographic characters too rare to learn, and the plain ones that stand for them.
_PLAIN = str.maketrans(
    {
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{NO-BREAK SPACE}": " ",
    }
)
_WORD = re.compile(r"\b[A-Za-z]{2,}\b")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_DOCSTRING_CHARACTERS = 500_000


class Corpus(NamedTuple):
    """A text and where it comes from.

    Attributes:
        name: of the source.
        text: all of it.
        note: what the reader should know about it, or "".
    """

    name: str
    text: str
    note: str = ""


def default_corpus() -> Corpus:
    """The Python language reference, or the standard library's docstrings where it is missing."""
    try:
        return topics_corpus()
    except ImportError:
        corpus = docstring_corpus()
        note = (
            "this Python does not carry pydoc_data.topics; training on the docstrings of its "
            "standard library instead"
        )
        return corpus._replace(note=note)


def topics_corpus() -> Corpus:
    """The prose of ``pydoc_data.topics``. Raises ImportError when the module is missing."""
    from pydoc_data.topics import topics

    return Corpus("python-reference", _prose(topics[name] for name in sorted(topics)))


def docstring_corpus(folder: str | os.PathLike[str] | None = None) -> Corpus:
    """The prose of the docstrings in the Python sources under ``folder``.

    ``folder`` is the standard library's own by default. Modules are parsed, never imported, in
    the order of their paths; tests and installed packages are left out.

    Raises ArgumentError when no docstring is found.
    """
    root = os.fspath(folder) if folder is not None else sysconfig.get_path("stdlib")
    text = _prose(_docstrings(root))
    if not text:
        raise ArgumentError(
            f"{root}: no Python source with docstrings found; name a text file to train on"
        )
    return Corpus("python-docstrings", text)


def _prose(texts: Iterable[str]) -> str:
    """The paragraphs of running English in ``texts``, one a line, each once.

    The reference repeats whole sections under several topics. Each is kept once, so that no
    paragraph stands in both the training and the validation part.
    """
    paragraphs: dict[str, None] = {}
    for text in texts:
        for block in _BLANK_LINE.split(text.translate(_PLAIN)):
            paragraph = " ".join(block.split()).removeprefix("* ")
            if _is_prose(paragraph):
                paragraphs[paragraph] = None
    return "\n".join(paragraphs)


def _is_prose(paragraph: str) -> bool:
    """Sentences, not a heading, grammar, table, signature or example of code."""
    if len(paragraph) < 40 or paragraph[-1] not in ".:;!?)]":
        return False
    if "::=" in paragraph or ">>>" in paragraph or paragraph.startswith("def "):
        return False
    in_words = sum(map(len, _WORD.findall(paragraph))) + paragraph.count(" ")
    return in_words >= 0.7 * len(paragraph)


def _docstrings(root: str) -> Iterator[str]:
    found = 0
    for path in _python_sources(root):
        try:
            with open(path, "rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escape sequences in others' sources
                tree = ast.parse(file.read())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node)
                if docstring and docstring.isascii():
                    found += len(docstring)
                    yield docstring
        if found > _DOCSTRING_CHARACTERS:
            return


def _python_sources(root: str) -> Iterator[str]:
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    standard = root == sysconfig.get_path("stdlib")
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in left_out)
        for name in sorted(files):
            if name.endswith(".py"):
                top = os.path.relpath(os.path.join(folder, name), root).split(os.sep)[0]
                if not standard or top.removesuffix(".py") in sys.stdlib_module_names:
                    yield os.path.join(folder, name)
