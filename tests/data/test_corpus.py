"""The built-in corpora."""

import sys

import pytest

from rnnkit.data import default_corpus, docstring_corpus, topics_corpus
from rnnkit.errors import ArgumentError


def test_topics_are_long_clean_prose():
    corpus = topics_corpus()
    paragraphs = corpus.text.split("\n")
    assert len(corpus.text) > 150_000
    assert all(paragraph == " ".join(paragraph.split()) for paragraph in paragraphs)
    assert not any("::=" in paragraph or ">>>" in paragraph for paragraph in paragraphs)
    letters = sum(character.isalpha() or character == " " for character in corpus.text)
    assert letters > 0.9 * len(corpus.text)


def test_no_paragraph_stands_twice():
    paragraphs = topics_corpus().text.split("\n")
    assert len(set(paragraphs)) == len(paragraphs)


def test_the_default_needs_no_explanation_where_topics_exist():
    corpus = default_corpus()
    assert corpus.name == "python-reference"
    assert corpus.note == ""
    assert default_corpus() == corpus


def test_typographic_characters_become_plain_ones(monkeypatch):
    marks = ["\u201c", "\u201d", "\u2018", "\u2019", "\u2013", "\u2014", "\u2026", "\xa0"]
    words = ["some", "words", "between", "every", "two", "marks", "of", "these"]
    text = "".join(f"{word} {mark}" for word, mark in zip(words, marks, strict=True))
    monkeypatch.setattr("pydoc_data.topics.topics", {"marks": f"{text} and others that follow."})
    assert topics_corpus().text == (
        "some \"words \"between 'every 'two -marks -of ...these and others that follow."
    )


def test_docstrings_serve_where_topics_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    corpus = default_corpus()
    assert corpus.name == "python-docstrings"
    assert "pydoc_data.topics" in corpus.note
    assert "\n" not in corpus.note
    assert len(corpus.text) > 100_000
    assert corpus == default_corpus()


def test_docstrings_are_collected_in_the_order_of_paths(tmp_path):
    def sentence(word):
        return f"The {word} sentence is long enough to count as a paragraph of prose."

    (tmp_path / "b.py").write_text(f'"""{sentence("third")}"""\n')
    (tmp_path / "a.py").write_text(
        f'"""{sentence("first")}"""\ndef f():\n    """{sentence("second")}"""\n'
    )
    (tmp_path / "broken.py").write_text("def (:\n")
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "c.py").write_text(f'"""{sentence("hidden")}"""\n')
    expected = "\n".join(map(sentence, ("first", "second", "third")))
    assert docstring_corpus(tmp_path).text == expected


def test_a_folder_without_docstrings_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="no Python source with docstrings"):
        docstring_corpus(tmp_path)
