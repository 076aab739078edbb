"""JSON Lines, labelled sequences, pairs of texts and piano rolls."""

import json
import math

import numpy as np
import pytest

from rnnkit.data import (
    piano_roll,
    read_json,
    read_json_lines,
    read_labelled,
    read_pairs,
    read_piano_rolls,
    roll_pitches,
)
from rnnkit.errors import ArgumentError


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_json_lines(file):
    path = file("a.jsonl", '\ufeff{"a": 1}\r\n\r\n{"a": [null, "é\\n"]}')
    assert read_json_lines(path) == [{"a": 1}, {"a": [None, "é\n"]}]
    assert read_json(file("a.json", "[1, 2.5]")) == [1, 2.5]
    for nothing in ("", "\n \n"):
        with pytest.raises(ArgumentError, match=r"a.jsonl: the file is empty"):
            read_json_lines(file("a.jsonl", nothing))
    assert read_json(file("a.json", r'["\ud83d\ude00", "\\ud83d"]')) == ["\U0001f600", r"\ud83d"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: "),
        ("[1]", r"expected a JSON object, got '\[1\]'"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ('{"a": [1e308, -1e999]}', "-1e999 is too large for a number"),
        ('{"a": 1, "a": 2}', "stands twice"),
        (r'{"a": ["cut \ud83d"]}', r"\\ud83d alone is half a character"),
        (r'{"\uDE00": 1}', r"\\ude00 alone is half a character"),
        ('{"a": ' + "[" * 200_000 + "}", "nested too deeply|not JSON"),
        ('{"a": ' + "1" * 5000 + "}", "not JSON"),
        ('{"a": 1} x', "not JSON"),
    ],
    ids=lambda text: text[:20],
)
def test_the_line_that_is_not_json_is_named(file, line, message):
    path = file("a.jsonl", '{"a": 0}\n\n' + line + "\n")
    with pytest.raises(ArgumentError, match=message) as caught:
        read_json_lines(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


def test_labelled_csv(file):
    found = read_labelled(file("a.csv", 'id,text,label\n1,"Hi, you",en\n2,Salut,fr\n'))
    assert found == ("text", ["Hi, you", "Salut"], ["en", "fr"], False)
    found = read_labelled(file("a.tsv", "labels\ttokens\nD N\tthe dog\nV\truns\n"))
    assert found == ("tokens", [["the", "dog"], ["runs"]], [["D", "N"], ["V"]], True)
    found = read_labelled(file("b.csv", "sequence,label\n1 2 3,0\n4 5,1\n"))
    assert [s.tolist() for s in found.sequences] == [[1, 2, 3], [4, 5]]
    assert found.sequences[0].dtype == np.int64
    assert found.labels == ["0", "1"]
    found = read_labelled(file("c.csv", "sequence,labels\n1 2.5,a b\n4 5 6,a a b\n"))
    assert [s.shape for s in found.sequences] == [(2, 1), (3, 1)]
    assert found.sequences[0].dtype == np.float64
    # As an id, the first number of those that may stand for another is none.
    for number, dtype in ((2**53 - 1, np.int64), (2**53, np.float64)):
        found = read_labelled(file("d.csv", f"sequence,label\n{number},a\n"))
        assert found.sequences[0].dtype == dtype
        assert found.sequences[0].reshape(-1).tolist() == [number]


def test_labelled_json_lines(file):
    lines = [
        {"sequence": [[1, 2], [3, 4.5]], "labels": ["x", 7]},
        {"sequence": [[0, 0]], "labels": [0], "more": None},
    ]
    found = read_labelled(file("a.jsonl", "\n".join(map(json.dumps, lines))))
    assert found.kind == "sequence"
    assert [s.tolist() for s in found.sequences] == [[[1, 2], [3, 4.5]], [[0, 0]]]
    assert found.labels == [["x", "7"], ["0"]]
    assert found.per_step
    found = read_labelled(file("b.jsonl", '{"sequence": [3, 1], "label": "a"}\n'))
    assert found.sequences[0].tolist() == [3, 1]
    assert found.sequences[0].dtype == np.int64
    found = read_labelled(file("c.jsonl", '{"tokens": ["a", "b c"], "label": 3}\n'))
    assert found == ("tokens", [["a", "b c"]], ["3"], False)


def test_labelled_arrays(tmp_path):
    path = tmp_path / "a.npz"
    features = np.random.default_rng(0).normal(size=(3, 4, 2))
    np.savez(path, sequences=features, lengths=[4, 1, 2], labels=[0, 10, 0])
    found = read_labelled(path)
    assert [len(s) for s in found.sequences] == [4, 1, 2]
    assert np.array_equal(found.sequences[2], features[2, :2])
    assert found.labels == ["0", "10", "0"]
    np.savez(path, sequences=np.array([[1, 2], [3, 0]]), labels=np.array([["a", "b"], ["b", ""]]),
             lengths=np.array([2, 1], np.uint8))
    found = read_labelled(path)
    assert [s.tolist() for s in found.sequences] == [[1, 2], [3]]
    assert found.labels == [["a", "b"], ["b"]]
    np.savez(path, sequences=features[:, :, 0], labels=np.zeros(3, int))
    assert [s.shape for s in read_labelled(path).sequences] == [(4, 1)] * 3
    np.savez(path, sequences=features, labels=["a", "", "b"])
    with pytest.raises(ArgumentError, match=r"labels: \[1\] is empty"):
        read_labelled(path)
    np.savez(path, sequences=features[:, :2], labels=[["a", "b"], ["a", ""], ["b", ""]],
             lengths=[2, 1, 2])
    with pytest.raises(ArgumentError, match=r"labels: \[2, 1\] is empty"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "expected a .csv"),
        ("a.csv", "a,b\n1,2\n", ":2: expected one of text, tokens, sequence, got a, b"),
        ("a.csv", "text,tokens,label\na,a,b\n", ":2: expected one of .*got text, tokens"),
        ("a.csv", "text\na\n", ":2: expected one of label, labels, got text"),
        ("a.csv", "text,label,text\na,b,c\n", "several columns 'text'"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.csv", "text,label\na,b\n,b\n", ":3: 'text' is empty"),
        ("a.csv", "text,label\na,b\nb, \n", ":3: 'label' is empty"),
        ("a.csv", "tokens,labels\na b,x\n", ":2: expected 2 labels, one for each step, got 1"),
        ("a.csv", "sequence,label\n1 x,0\n", ":2: 'sequence': expected a number, got 'x'"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": "a"}', ":2: no 'label'"),
        ("a.jsonl", '{"text": 1, "label": "b"}', ":1: 'text': expected a text, got 1"),
        ("a.jsonl", '{"tokens": "ab", "label": "b"}', ":1: 'tokens': expected a list"),
        ("a.jsonl", '{"tokens": ["a", ""], "label": "b"}', "not empty"),
        ("a.jsonl", '{"text": "a", "label": true}', "'label': expected a text or a whole number"),
        ("a.jsonl", '{"text": "a", "label": 0.5}', "'label': expected a text or a whole number"),
        ("a.jsonl", '{"text": "a", "label": ""}', "'label': expected a text"),
        ("a.jsonl", '{"text": "ab", "labels": "xy"}', "'labels': expected a list"),
        ("a.jsonl", '{"sequence": [], "label": 1}', "'sequence' is empty"),
        ("a.jsonl", '{"sequence": [[]], "label": 1}', "step 0: expected some numbers"),
        ("a.jsonl", '{"sequence": [1, [2]], "label": 1}', "step 1: expected numbers"),
        ("a.jsonl", '{"sequence": [[1], [2, 3]], "label": 1}', "step 1: expected 1 numbers"),
        ("a.jsonl", '{"sequence": [[1], 2], "label": 1}', "step 1: expected 1 numbers"),
        ("a.jsonl", '{"sequence": [true], "label": 1}', "step 0: expected numbers, got"),
        ("a.jsonl", '{"sequence": [1e999], "label": 1}', "too large"),
        ("a.jsonl", '{"sequence": [1' + "0" * 400 + '], "label": 1}', "too large"),
        (
            "a.jsonl",
            '{"sequence": [[1]], "label": 1}\n{"sequence": [[1, 2]], "label": 1}',
            r":2: expected steps of shape \(1,\)",
        ),
    ],
)
def test_the_example_that_is_wrong_is_named(file, name, content, message):
    path = file(name, content)
    with pytest.raises(ArgumentError, match=message) as caught:
        read_labelled(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


ONE = {"sequences": np.zeros((1, 3)), "labels": [0]}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"sequences": np.zeros((2, 3))}, "no array 'labels'; it has sequences"),
        ({"sequences": np.zeros(2), "labels": np.zeros(2, int)}, "sequences: expected"),
        ({"sequences": np.zeros((0, 3)), "labels": np.zeros(0, int)}, "sequences: expected"),
        ({"sequences": np.array([["a"]]), "labels": [0]}, "sequences: expected"),
        ({"sequences": np.zeros((2, 3)), "labels": np.zeros(2)}, "labels: expected"),
        ({"sequences": np.zeros((2, 3)), "labels": np.zeros((2, 4), int)}, "labels: expected"),
        (ONE | {"lengths": [4]}, "lengths: expected 1 to 3"),
        (ONE | {"lengths": [0]}, "lengths: expected 1 to 3"),
        (ONE | {"sequences": np.full((1, 3), 2**63, "u8")}, "sequences: 9223372036854775808 is "),
        (ONE | {"lengths": [1, 1]}, r"expected whole numbers \(1,\), got int64 \(2,\)"),
        (ONE | {"lengths": [1.0]}, r"expected whole numbers \(1,\), got float64 \(1,\)"),
        ({"sequences": np.full((1, 3), np.nan), "labels": [0]}, "not a finite number"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path, arrays, message):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ArgumentError, match=message):
        read_labelled(path)


def test_pairs_of_two_files_and_of_one(file):
    en, fr = file("en", "Go.\r\n\r\nRun!\n"), file("fr", "\ufeffVa !\n\n Cours !  \n\n")
    assert read_pairs(en, fr) == (["Go.", "Run!"], ["Va !", "Cours !"])
    one = file("both", "Go.\tVa !\tCC-BY 2.0\nRun!\tCours\u2028!\n\n")
    assert read_pairs(one) == (["Go.", "Run!"], ["Va !", "Cours\u2028!"])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a\tb\nc\n", None, "first:2: no tabulator"),
        ("a\tb\nc\t\n", None, "first:2: the target is empty"),
        ("\tb\n", None, "first:1: the source is empty"),
        ("a\nb\n", "c\n", "second: expected 2 lines, as many as in .*, got 1"),
        ("a\nb\n", "c\n \nd\n", "second: expected 2 lines"),
        ("a\nb\nc\n", "c\n \nd\n", "second:2: the target is empty"),
        ("a\n\nc\n", "c\nd\ne\n", "first:2: the source is empty"),
    ],
)
def test_pairs_of_which_one_side_is_missing_are_named(file, first, second, message):
    path = file("first", first)
    with pytest.raises(ArgumentError, match=message):
        read_pairs(path, file("second", second) if second is not None else None)


PIECES = [[[60, 64, 67], [], [21, 108]], [[72]]]


def test_piano_rolls_of_json(file):
    parts = read_piano_rolls(file("a.json", json.dumps({"train": PIECES, "test": PIECES[1:]})))
    assert list(parts) == ["train", "test"]
    roll = parts["train"][0]
    assert roll.shape == (3, 88)
    assert roll.dtype == np.float32
    assert [np.flatnonzero(frame).tolist() for frame in roll] == [[39, 43, 46], [], [0, 87]]
    assert [roll_pitches(piece) for piece in parts["train"]] == PIECES
    parts = read_piano_rolls(file("b.json", json.dumps(PIECES)))
    assert [roll_pitches(piece) for piece in parts["all"]] == PIECES
    parts = read_piano_rolls(file("c.json", json.dumps(PIECES[0])))
    assert [roll_pitches(piece) for piece in parts["all"]] == PIECES[:1]


def test_piano_rolls_of_arrays(tmp_path):
    rolls = [piano_roll(piece) for piece in PIECES]
    padded = np.zeros((2, 3, 88), bool)
    for row, roll in enumerate(rolls):
        padded[row, : len(roll)] = roll
    numbered = {f"test_{place}": rolls[place % 2].astype(np.uint8) for place in range(11)}
    np.savez(tmp_path / "a.npz", train=padded, train_lengths=[3, 1], whole=rolls[0], **numbered)
    parts = read_piano_rolls(tmp_path / "a.npz")
    assert list(parts) == ["train", "whole", "test"]
    assert [roll_pitches(piece) for piece in parts["train"]] == PIECES
    assert [roll_pitches(piece.tolist()) for piece in parts["whole"]] == PIECES[:1]
    assert [len(piece) for piece in parts["test"]] == [3, 1] * 5 + [3]
    assert all(piece.dtype == np.float32 for pieces in parts.values() for piece in pieces)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "expected an object"),
        (3, "expected an object"),
        ({"train": 1}, "train: expected a list of pieces"),
        ({"train": [[]]}, "train: piece 0: expected a list of frames"),
        ({"train": [[[60]], [60]]}, "train: piece 1: frame 0: expected a list of pitches"),
        ({"train": [[[60], [20]]]}, "train: piece 0: frame 1: expected pitches from 21 to 108"),
        ({"train": [[[109]]]}, "got 109"),
        ({"train": [[[60.0]]]}, "got 60.0"),
        ({"train": [[[True]]]}, "got True"),
        ([[[[60]]]], r"got \[60\]"),
    ],
)
def test_what_is_no_piano_roll_is_refused(file, value, message):
    with pytest.raises(ArgumentError, match=message):
        read_piano_rolls(file("a.json", json.dumps(value)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no pieces"),
        ({"a": np.zeros((3, 87))}, r"a: expected \(T, 88\)"),
        ({"a": np.full((3, 88), 2)}, "zeros and ones"),
        ({"a": np.full((3, 88), math.nan)}, "finite"),
        ({"a": np.zeros((2, 3, 88))}, "a_lengths: expected an array of 2"),
        ({"a": np.zeros((2, 3, 88)), "a_lengths": [1.0, 2.0]}, "a_lengths: expected an array of 2"),
        ({"a": np.zeros((2, 3, 88)), "a_lengths": [1, 4]}, "a_lengths: expected 1 to 3"),
        ({"a": np.zeros((3, 88)), "a_0": np.zeros((3, 88))}, "both whole and in numbered"),
        ({"a_1": np.zeros((3, 88)), "a_01": np.ones((2, 88))}, "a: two pieces of the number 1"),
    ],
)
def test_arrays_that_are_no_piano_rolls_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ArgumentError, match=message):
        read_piano_rolls(tmp_path / "a.npz")
    with pytest.raises(ArgumentError, match=r"expected a .json or .npz"):
        read_piano_rolls(tmp_path / "a.mid")
    with pytest.raises(ArgumentError, match="roll: expected"):
        roll_pitches(np.zeros((2, 87)))


def test_inputs_without_labels(file, tmp_path):
    for name, content, kind, sequences in (
        ("a.txt", "ab\nc d", "text", ["ab", "c d"]),
        ("a.csv", "text,other\nab,1\n", "text", ["ab"]),
        ("a.jsonl", '{"tokens": ["a", "b"]}\n{"tokens": ["c"], "label": "x"}', "tokens",
         [["a", "b"], ["c"]]),
    ):  # fmt: skip
        data = read_labelled(file(name, content), labels=False)
        assert (data.kind, data.sequences, data.labels) == (kind, sequences, [])
    np.savez(tmp_path / "a.npz", sequences=np.arange(6).reshape(2, 3), lengths=[1, 3])
    data = read_labelled(tmp_path / "a.npz", labels=False)
    assert [each.tolist() for each in data.sequences] == [[0], [3, 4, 5]]
    assert data.labels == []
    with pytest.raises(ArgumentError, match=r"a\.txt: expected a \.csv, \.tsv, \.jsonl or \.npz"):
        read_labelled(tmp_path / "a.txt")
    with pytest.raises(ArgumentError, match=r"b\.txt:2: 'text' is empty"):
        read_labelled(file("b.txt", "a\n\nb\n"), labels=False)
    with pytest.raises(ArgumentError, match="no array 'labels'"):
        read_labelled(tmp_path / "a.npz")
