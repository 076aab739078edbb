"""Corpora larger than memory: the same ids as of the whole text, and never a stale cache."""

import itertools
import json
import os
import tracemalloc

import numpy as np
import pytest

from rnnkit.data import (
    ContinuousBatches,
    MappedCorpus,
    Vocabulary,
    WordVocabulary,
    mapped,
    read_text,
    split_by_position,
    stream_text,
)
from rnnkit.errors import ArgumentError

TEXT = "\ufeffNaïve 🙂 don't,\r\nstop 3.14\r now\n\nend of\u00a0it "


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7, 1000])
def test_pieces_join_to_the_text(tmp_path, piece):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode())
    assert "".join(stream_text(path, piece)) == read_text(path)
    assert read_text(path) == "Naïve 🙂 don't,\nstop 3.14\n now\n\nend of\u00a0it "
    for words in (Vocabulary(TEXT), WordVocabulary.of([TEXT], lines=True)):
        expected = words.encode(read_text(path))
        folder = tmp_path / f"{piece}"
        corpus = MappedCorpus.open(path, words, folder=folder, piece=max(piece, 7))
        assert corpus.rebuilt
        assert corpus.ids.dtype == np.uint16
        assert np.array_equal(corpus.ids, expected)
        assert len(corpus) == len(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ab\xe9cd", "invalid byte 0xe9 at position 2"),
        (b"\xef\xbb\xbfabc\xff", "invalid byte 0xff at position 6"),
        (b"abcd\xe2\x82", "invalid byte 0xe2 at position 4"),
        (b"abc\x00", "byte 3 is zero"),
        (b" \n \n", "empty"),
        (b"", "empty"),
    ],
)
@pytest.mark.parametrize("piece", [1, 2, 100])
def test_the_place_of_damage_is_named_whatever_the_pieces(tmp_path, content, message, piece):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=message):
        list(stream_text(path, piece))
    with pytest.raises(ArgumentError, match=message):
        MappedCorpus.open(path, Vocabulary("abc"), piece=piece)
    assert sorted(os.listdir(tmp_path)) == ["a.txt"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox. " * 50)
    return path


VOCABULARY = Vocabulary("the quick brown fox.!")


def reopened(path):
    corpus = MappedCorpus.open(path, VOCABULARY)
    assert np.array_equal(corpus.ids, VOCABULARY.encode(read_text(path)))
    return corpus.rebuilt


@pytest.mark.parametrize("place", ["beginning", "end"])
def test_both_ends_of_a_long_text_are_looked_at(text, monkeypatch, place):
    monkeypatch.setattr(mapped, "_SAMPLE", 16)
    data, status = text.read_bytes(), os.stat(text)
    assert len(data) > 64
    assert reopened(text)
    changed = bytearray(data)
    other = 1 if place == "beginning" else -2
    changed[other] = ord("b") if changed[other] != ord("b") else ord("a")
    text.write_bytes(changed)
    os.utime(text, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reopened(text)
    assert not reopened(text)


def test_a_cache_is_used_until_the_text_changes(text):
    assert reopened(text)
    assert not reopened(text)
    assert len(os.listdir(text.parent)) == 3
    status = os.stat(text)
    changed = text.read_text().replace("fox", "xof", 1)
    text.write_text(changed)
    os.utime(text, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reopened(text)  # same size and time, another beginning
    os.utime(text, ns=(1, 1))
    assert reopened(text)  # another time
    text.write_text(changed + "!")
    assert reopened(text)
    assert not reopened(text)


def test_a_text_in_the_working_folder_needs_no_path(text, monkeypatch):
    monkeypatch.chdir(text.parent)
    corpus = MappedCorpus.open(text.name, Vocabulary("ab"))
    assert corpus.rebuilt
    assert os.path.exists(corpus.cache)
    assert not MappedCorpus.open(text, Vocabulary("ab")).rebuilt


def test_vocabularies_have_caches_of_their_own(text):
    words = WordVocabulary.of([text.read_text()])
    one = MappedCorpus.open(text, VOCABULARY)
    other = MappedCorpus.open(text, words)
    assert one.cache != other.cache
    assert not MappedCorpus.open(text, VOCABULARY).rebuilt
    assert not MappedCorpus.open(text, words).rebuilt
    assert np.array_equal(other.ids, words.encode(text.read_text()))


def test_large_vocabularies_have_wider_ids(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("w65540 w1")
    words = WordVocabulary(f"w{i}" for i in range(1 << 16))
    assert len(words) == (1 << 16) + 1
    ids = MappedCorpus.open(path, words).ids
    assert ids.dtype == np.int32
    assert ids.tolist() == [0, 2]


def cut(raw):
    return raw[:-1]


def flip_last(raw):
    return raw[:-1] + bytes([raw[-1] ^ 1])


def flip_header(raw):
    return raw.replace(b"<u2", b"<i2")


def empty(raw):
    return b""


def nested(raw):
    return b"[" * 60_000


def other_size(raw):
    record = json.loads(raw)
    record["source"]["size"] += 1
    return json.dumps(record).encode()


def no_dict(raw):
    return b"[]"


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        *itertools.product(["npy"], [cut, flip_last, flip_header, empty]),
        *itertools.product(["json"], [cut, empty, nested, other_size, no_dict]),
    ],
)
def test_a_damaged_cache_is_made_again(text, ending, damage):
    corpus = MappedCorpus.open(text, VOCABULARY)
    path = corpus.cache.removesuffix("npy") + ending
    with open(path, "rb") as file:
        raw = file.read()
    del corpus
    for missing in (False, True):
        os.unlink(path)
        if not missing:
            with open(path, "wb") as file:
                file.write(damage(raw))
        if ending == "json" and damage is cut and not missing:
            assert not reopened(text)  # only the line end is gone
        else:
            assert reopened(text)
        assert not reopened(text)


def test_a_write_that_fails_leaves_nothing_half_made(text, monkeypatch):
    corpus = MappedCorpus.open(text, VOCABULARY)
    text.write_text("another text. " * 30)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped, "_write_ids", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        MappedCorpus.open(text, VOCABULARY)
    assert caught.value.filename == corpus.cache
    assert not [name for name in os.listdir(text.parent) if "partial" in name]
    monkeypatch.undo()
    monkeypatch.setattr(mapped, "write_atomically", fail)
    with pytest.raises(OSError, match="No space left"):
        MappedCorpus.open(text, VOCABULARY)
    monkeypatch.undo()
    assert reopened(text)


def test_a_text_that_changes_while_it_is_read_is_refused(text, monkeypatch):
    write = mapped._write_ids

    def change(file, dtype, pieces):
        write(file, dtype, pieces)
        text.write_text("something else")

    monkeypatch.setattr(mapped, "_write_ids", change)
    with pytest.raises(ArgumentError, match="changed while it was read"):
        MappedCorpus.open(text, VOCABULARY)
    monkeypatch.undo()
    assert reopened(text)


def test_neither_making_nor_using_it_holds_the_whole_in_memory(tmp_path):
    path = tmp_path / "large.txt"
    line = "the quick brown fox jumps over the lazy dog\n"
    with open(path, "w") as file:
        for _ in range(64):
            file.write(line * 3000)
    size = os.path.getsize(path)
    assert size > 8_000_000
    vocabulary = Vocabulary(line)
    tracemalloc.start()
    try:
        corpus = MappedCorpus.open(path, vocabulary, piece=1 << 15)
        training, validation = split_by_position(corpus.ids, 0.1)
        batches = ContinuousBatches(training, 8, 64)
        for position in range(0, batches.batches_per_epoch, 500):
            window = batches.batch(position)
            assert np.array_equal(window.inputs[1:], window.targets[:-1])
        assert next(ContinuousBatches(validation, 4, 32).epoch()).inputs.shape[1] == 4
        assert tracemalloc.get_traced_memory()[1] < size / 3
    finally:
        tracemalloc.stop()
    assert len(corpus) == size
    assert np.shares_memory(batches.ids, corpus.ids)
    assert not corpus.ids.flags.writeable
    assert os.path.getsize(corpus.cache) == 2 * size + 128
    expected = np.tile(vocabulary.encode(line), 5)
    assert np.array_equal(corpus.ids[: len(expected)], expected)
    assert np.array_equal(corpus.ids[-len(expected) :], expected)
    batch = batches.batch(7)
    assert batch.inputs.dtype == np.int64
    plain = ContinuousBatches(np.array(training, np.int64), 8, 64)
    assert np.array_equal(batch.inputs, plain.batch(7).inputs)


@pytest.mark.parametrize("piece", [0, -1, 1.5])
def test_a_piece_is_a_positive_integer_whether_the_ids_are_there_or_not(tmp_path, piece):
    path = tmp_path / "text"
    path.write_text("abc")
    for _ in range(2):
        with pytest.raises(ArgumentError, match=r"^piece: expected (an int|at least 1), got"):
            MappedCorpus.open(path, Vocabulary("abc"), piece=piece)
        MappedCorpus.open(path, Vocabulary("abc"))
    with pytest.raises(ArgumentError, match=r"^piece: expected (an int|at least 1), got"):
        next(stream_text(path, piece))
