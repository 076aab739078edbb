"""The file format, and what becomes of files that are damaged or hostile."""

import json
import os
import re
import resource
import struct
import sys

import numpy as np
import pytest
from runs_to_resume import make_trainer

import rnnkit as rk
from rnnkit.errors import ArgumentError, DTypeError
from rnnkit.train import RunError, tensor_file
from rnnkit.train.checkpoint import Checkpoints, read_checkpoint
from rnnkit.train.nest import pack, unpack
from rnnkit.train.tensor_file import TensorFile, encode

RANDOM = np.random.default_rng(0)
INTEGERS = "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"
ARRAYS = {
    "weights": RANDOM.normal(size=(3, 5)).astype(np.float32),
    "double": RANDOM.normal(size=(2, 1, 3)),
    "turned": RANDOM.normal(size=(4, 3)).astype(np.float32).T,
    "every other": np.arange(10)[::2],
    "big-endian": np.arange(3, dtype=">i4"),
    "bytes": np.arange(5, dtype=np.uint8),
    "truth": np.array([True, False, True]),
    "half": np.array([1.5, -2.0], np.float16),
    "scalar": np.array(7.0, np.float32),
    "nothing": np.zeros((0, 3), np.float32),
    **{dtype: RANDOM.integers(0, 99, 3).astype(dtype) for dtype in INTEGERS},
}


def write(path, arrays, notes=()):
    path.write_bytes(b"".join(encode(arrays, dict(notes))))
    return str(path)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype.newbyteorder("="), name
        assert np.array_equal(found[name], array), name
        assert found[name].shape == array.shape, name


def test_arrays_and_notes_come_back(tmp_path):
    path = write(tmp_path / "a", ARRAYS, {"one": "1", "ü": "ß\n\0"})
    with TensorFile(path) as file:
        same({name: file.read(name) for name in file.entries}, ARRAYS)
        assert file.notes == {"one": "1", "ü": "ß\n\0"}
        assert file.has_checksum


def test_the_safetensors_package_reads_what_is_written_and_the_other_way_round(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    same(package.load_file(write(tmp_path / "a", ARRAYS)), ARRAYS)
    contiguous = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        for name, array in ARRAYS.items()
    }
    contiguous["scalar"] = ARRAYS["scalar"]
    package.save_file(contiguous, tmp_path / "b", metadata={"by": "another"})
    with TensorFile(str(tmp_path / "b")) as file:
        same({name: file.read(name) for name in file.entries}, contiguous)
        assert file.notes == {"by": "another"}
        assert not file.has_checksum


def test_an_array_that_the_format_cannot_hold_is_named():
    with pytest.raises(DTypeError, match="spins: complex128"):
        encode({"spins": np.zeros(2, np.complex128)}, {})


def test_a_header_that_could_not_be_read_is_not_written(monkeypatch):
    monkeypatch.setattr(tensor_file, "_HEADER_LIMIT", 1000)
    encode({"weights": ARRAYS["weights"]}, {})
    with pytest.raises(ArgumentError, match=r"at most 1000 bytes, got .* notes of 1000 characters"):
        encode({}, {"note": "x" * 1000})
    with pytest.raises(ArgumentError, match="entries of 30 arrays and notes of 0 characters"):
        encode({str(name): np.zeros(1) for name in range(30)}, {})


def test_any_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "a"
    write(path, {"b": ARRAYS["weights"], "a": np.array([True])}, {"note": "text"})
    whole = path.read_bytes()
    told = []
    for place in range(len(whole)):
        for bits in (1, 32, ord(" ") ^ ord("\n")):  # the last leaves JSON with the same meaning
            changed = bytearray(whole)
            changed[place] ^= bits
            path.write_bytes(changed)
            try:
                with TensorFile(str(path)) as file:
                    # Only the name of the checksum may go: then it is the file of another program.
                    assert not file.has_checksum
            except RunError as error:
                told.append(str(error))
    assert len(told) > 2.9 * len(whole)
    assert all(line.startswith(f"{path}: damaged: ") and "\n" not in line for line in told)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(RunError, match="a: damaged: "):
            TensorFile(str(path))
    path.write_bytes(whole + b"\0")
    with pytest.raises(RunError, match="its arrays need"):
        TensorFile(str(path))


def header(entries):
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "ends too early"),
        (struct.pack("<Q", 1 << 62) + b"{}", "ends too early"),
        (header(b"[" * 100_000), "not JSON"),
        (header(b'{"a":' * 5000 + b"1" + b"}" * 5000), "expected dtype|not JSON"),
        (header(b"\xff\xfe"), "not JSON"),
        (header([1]), "not a JSON object"),
        (header({"a": 1}), "a: expected dtype"),
        (header({"a": {"dtype": "F32", "shape": [1]}}), "a: expected dtype"),
        (header({"__metadata__": {"a": 1}}), "expected texts"),
        (header({"__metadata__": []}), "expected texts"),
        (header({"__metadata__": {"crc32": "\ud800"}}), "its checksum is wrong"),
        (header(entry("BF16", (2,))) + b"1234", "dtype 'BF16'"),
        (header(entry(["F32"])) + b"1234", "dtype "),
        (header(entry(shape="1")) + b"1234", "shape"),
        (header(entry(shape=[1.0])) + b"1234", "shape"),
        (header(entry(shape=[True])) + b"1234", "shape"),
        (header(entry(shape=[-1, -1])) + b"1234", "shape"),
        (header(entry(shape=[1] * 65)) + b"1234", "shape"),
        (header(entry(shape=[1 << 40, 1 << 40], offsets=[0, 4])) + b"1234", "does not fill"),
        (header(entry(shape=[0, 1 << 61], offsets=[0, 0])), "a: shape"),
        (header(entry(offsets=[0])) + b"1234", "data_offsets"),
        (header(entry(offsets=[4, 8])) + b"12345678", "overlap or leave gaps"),
        (header(entry(offsets=[-4, 0])) + b"1234", "data_offsets"),
        (header(entry(shape=[1 << 40], offsets=[0, 1 << 42])) + b"1234", "its arrays need"),
        (header(entry()) + b"123", "its arrays need"),
        (header(b'{"a": {}, "a": {}}'), "occurs twice"),
        (header(b" " * (17 << 20)), "a header of"),
    ],
)
def test_hostile_files_are_refused_before_anything_is_allocated(tmp_path, raw, reason):
    path = tmp_path / "a"
    path.write_bytes(raw)
    with pytest.raises(RunError, match=f"damaged: .*({reason})") as caught:
        TensorFile(str(path))
    assert "\n" not in str(caught.value)


def test_overlapping_arrays_are_refused(tmp_path):
    entries = entry(shape=[2], offsets=[0, 8]) | {
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
    }
    (tmp_path / "a").write_bytes(header(entries) + bytes(12))
    with pytest.raises(RunError, match="overlap"):
        TensorFile(str(tmp_path / "a"))


def test_a_boolean_that_is_neither_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(header(entry("BOOL", (1,), (0, 1))) + b"\2")
    with TensorFile(str(tmp_path / "a")) as file, pytest.raises(RunError, match="neither 0 nor 1"):
        file.read("a")


def test_a_huge_file_without_content_is_a_clear_error(tmp_path):
    """As large as it says, and on the disk next to nothing."""
    size = 1 << 43
    raw = header(entry("U8", (size,), (0, size)))
    with open(tmp_path / "a", "wb") as file:
        file.write(raw)
        try:
            file.truncate(len(raw) + size)
        except OSError:
            pytest.skip("the file system has no files of this size")
    with TensorFile(str(tmp_path / "a")) as file, pytest.raises(RunError, match="a: no memory"):
        file.read("a")


# -- nests ---------------------------------------------------------------------------------------


def test_nests_come_back_through_json():
    nest = {
        "numbers": [1, 2.5, -0.1, True, None, 1 << 130, float("inf")],
        "tuple": (rk.tensor([1.0, 2.0]), (np.arange(3), []), {}),
        "$array": "not a mark", "$": 1, "$$tensor": {"$tuple": []},
        "a/b": np.zeros(1), "a": {"b": np.ones(1)},
        "5": np.float32(1.5), 5: "five", -1: {0: np.full(2, 3.0), "0": None}, "$5": {True: "yes"},
    }  # fmt: skip
    packed, arrays = pack(nest)
    found = unpack(json.loads(json.dumps(packed)), arrays.__getitem__)
    assert found.keys() == nest.keys()
    assert found["numbers"] == nest["numbers"]
    assert isinstance(found["tuple"], tuple)
    assert isinstance(found["tuple"][0], rk.Tensor)
    assert np.array_equal(found["tuple"][0].data, [1.0, 2.0])
    assert np.array_equal(found["tuple"][1][0], np.arange(3))
    assert (found["$array"], found["$"], found["$$tensor"]) == ("not a mark", 1, {"$tuple": []})
    assert (found["a/b"].item(), found["a"]["b"].item(), found["5"]) == (0.0, 1.0, 1.5)
    assert (found[5], found["$5"][1], found[-1]["0"]) == ("five", "yes", None)
    assert np.array_equal(found[-1][0], [3.0, 3.0])


def test_a_mark_that_pack_does_not_make_is_refused():
    for key in ("$five", "$", "$5.0"):
        with pytest.raises(ArgumentError, match="integer key"):
            unpack({key: 1, "a": 2}, None)


@pytest.mark.parametrize(
    ("nest", "place"),
    [({"a": [1, {2}]}, "a/1: a set"), ({"a": object()}, "a: a object"), ({(1,): 1}, "the key")],
)
def test_what_cannot_be_saved_is_named_by_its_place(nest, place):
    with pytest.raises(ArgumentError, match=place):
        pack(nest)


# -- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A trainer's checkpoint: its path, its JSON, its arrays."""
    trainer = make_trainer(tmp_path, steps=6, every_steps=2)
    trainer.fit()
    path = trainer.checkpoints.path
    with TensorFile(path) as file:
        nest = json.loads(file.notes["rnnkit"])
        return path, nest, {name: file.read(name) for name in file.entries}


def everything_in(trainer):
    parts = [trainer.model, trainer.optimizer, trainer.schedule, *trainer.observers]
    states = [part.state_dict() for part in parts]
    states[0] = {name: array.tolist() for name, array in states[0].items()}
    return rk.rng.get_state(), trainer.optimizer.param_groups[0]["lr"], repr(states)


def resume_from(path, nest, arrays, dumped=None):
    notes = {"rnnkit": json.dumps(nest) if dumped is None else dumped}
    with open(path, "wb") as file:
        file.writelines(encode(arrays, notes))
    trainer = make_trainer(os.path.dirname(path), steps=6, every_steps=2)
    before = everything_in(trainer)
    with pytest.raises(RunError) as caught:
        trainer.resume()
    assert everything_in(trainer) == before, "something was loaded"
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


CHANGES = {
    "format": (lambda n, a: n.update(format=2), "format 1"),
    "no step": (lambda n, a: n["progress"].pop("step"), "'step'"),
    "step": (lambda n, a: n["progress"].update(step="many"), "does not fit"),
    "negative step": (lambda n, a: n["progress"].update(step=-1), "step"),
    "endless": (lambda n, a: n["progress"].update(seconds=float("nan")), "seconds"),
    "no setup": (lambda n, a: n.pop("setup"), "setup"),
    "best": (lambda n, a: n["progress"].update(best=[1, 2, 3]), "does not fit"),
    "outcome": (lambda n, a: n["progress"].update(outcome=[1]), "does not fit"),
    "huge": (lambda n, a: n["progress"].update(best=[float("inf"), 1]), "does not fit"),
    "array": (lambda n, a: n["setup"].update(seconds={"$tensor": "model/head.weight"}), "seconds"),
    "format array": (lambda n, a: n.update(format={"$tensor": "model/head.weight"}), "format 1"),
    "negative count": (
        lambda n, a: n["optimizer"]["state"]["$0"].update(step=-1),
        "step: expected",
    ),
    "rng number": (lambda n, a: n["rng"]["state"].update(inc=-1), "does not fit"),
    "rng": (lambda n, a: n["rng"].update(bit_generator="MT19937"), "does not fit"),
    "no rng": (lambda n, a: n.update(rng=None), "does not fit"),
    "mark": (lambda n, a: n["model"].update({"$array": 1}), "model|mark|name of an array"),
    "missing array": (lambda n, a: n["carried"].update({"$tuple": [{"$tensor": "x"}]}), "no array"),
    "moment": (lambda n, a: a.update({"optimizer/state/0/exp_avg": np.zeros(3)}), "exp_avg"),
    "no moment": (lambda n, a: n["optimizer"]["state"]["$0"].pop("exp_avg"), "exp_avg"),
    "groups": (lambda n, a: n["optimizer"].update(param_groups=[]), "param groups"),
    "rate": (lambda n, a: n["optimizer"]["param_groups"][0].update(lr=-1), "lr"),
    "no observers": (lambda n, a: n.update(observers=[1]), "does not fit"),
    "log": (lambda n, a: n["observers"]["JsonLinesLog 1"].update(lines="x"), "does not fit"),
    "extra weight": (lambda n, a: a.update({"model/x": np.zeros(2)}), "another model"),
    "double": (
        lambda n, a: a.update({"model/head.bias": a["model/head.bias"].astype(float)}),
        r"head.bias: expected float32 \(6,\), got float64",
    ),
    "shape": (lambda n, a: a.update({"model/head.bias": np.zeros(7, np.float32)}), r"got float32"),
    "no weight": (lambda n, a: a.pop("model/head.bias"), "it lacks head.bias"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(saved, change):
    path, nest, arrays = saved
    alter, reason = change
    alter(nest, arrays)
    assert re.search(reason, resume_from(path, nest, arrays))


@pytest.mark.parametrize("dumped", ["", "{", "[" * 100_000, "[" * 900 + "]" * 900, "7", "[]"])
def test_a_checkpoint_whose_json_is_damaged_is_refused(saved, dumped):
    path, nest, arrays = saved
    resume_from(path, nest, arrays, dumped)


def test_a_truncated_checkpoint_is_refused_and_left_as_it_is(saved):
    path, _, _ = saved
    with open(path, "rb") as file:
        whole = file.read()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        with open(path, "wb") as file:
            file.write(whole[:size])
        with pytest.raises(RunError, match=r"checkpoint\.safetensors: damaged: "):
            make_trainer(os.path.dirname(path), steps=6, every_steps=2).resume()
        assert os.path.getsize(path) == size


def test_another_safetensors_file_is_no_checkpoint(saved):
    path, _, _ = saved
    os.replace(os.path.join(os.path.dirname(path), "model.safetensors"), path)
    with pytest.raises(RunError, match="not a checkpoint"):
        make_trainer(os.path.dirname(path), steps=6, every_steps=2).resume()


def test_intervals_must_be_positive(tmp_path):
    for wrong in (0.0, -1, "x", True, float("nan")):
        for name in ("every_seconds", "every_steps"):
            message = f"{name}: expected a number > 0, got {wrong!r}"
            with pytest.raises(ArgumentError, match=message):
                Checkpoints(tmp_path, **{name: wrong})


def test_one_is_due_when_the_steps_or_the_time_have_passed(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    by_steps = Checkpoints(tmp_path, every_seconds=None, every_steps=3)
    by_time = Checkpoints(tmp_path, every_seconds=10.0)
    by_steps.begin(5)
    by_time.begin(5)
    assert [by_steps.due(step) for step in (6, 7, 8)] == [False, False, True]
    assert not by_time.due(1000)
    now = 110.0
    assert by_time.due(6)
    assert not by_steps.due(6)
    by_time.save(6, {})
    assert not by_time.due(7)


def test_a_checkpoint_with_texts_longer_than_a_header_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    long = {"text": "ü" * (3 << 20), "numbers": [0.1, 2.5] * 1000, "array": np.arange(3)}
    checkpoints.save(1, {"observers": long})
    found = read_checkpoint(checkpoints.path, {})["observers"]
    assert found["text"] == long["text"]
    assert found["numbers"] == long["numbers"]
    assert np.array_equal(found["array"], long["array"])


@pytest.mark.parametrize("size", [1, 3 << 20])
def test_a_checkpoint_with_arrays_that_go_by_names_of_its_own_comes_back(tmp_path, size):
    checkpoints = Checkpoints(tmp_path)
    nest = {"__metadata__": np.arange(3), "rnnkit": np.ones(2), "text": "a" * size}
    checkpoints.save(1, nest)
    found = read_checkpoint(checkpoints.path, {})
    assert found["__metadata__"].tolist() == [0, 1, 2]
    assert found["rnnkit"].tolist() == [1.0, 1.0]
    assert found["text"] == nest["text"]


def test_a_checkpoint_of_too_many_arrays_keeps_the_one_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    monkeypatch.setattr(tensor_file, "_HEADER_LIMIT", 1000)
    with pytest.raises(ArgumentError, match=r"got .* entries of 50 arrays"):
        checkpoints.save(2, {"step": 2, "losses": [np.zeros(1)] * 50})
    assert read_checkpoint(checkpoints.path, {})["step"] == 1


def test_a_checkpoint_whose_integer_keys_are_texts_goes_on(saved):
    """As they were written before integers had a mark."""
    path, nest, arrays = saved
    assert nest["progress"].pop("outcome") is not None
    nest["progress"].update(outcome=None, step=4)
    state = nest["optimizer"]["state"]
    nest["optimizer"]["state"] = {key.removeprefix("$"): part for key, part in state.items()}
    with open(path, "wb") as file:
        file.writelines(encode(arrays, {"rnnkit": json.dumps(nest)}))
    trainer = make_trainer(os.path.dirname(path), steps=6, every_steps=2)
    assert trainer.resume().steps == 6
    assert trainer.optimizer.state[0]["step"] == 6 + 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads how much memory was used")
def test_reading_takes_no_more_memory_than_the_file_is_large(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    raw = header(entry("F64", [1 << 30], [0, 1 << 33]))
    (tmp_path / "a").write_bytes(raw + bytes(100))
    with pytest.raises(RunError, match="its arrays need"):
        TensorFile(str(tmp_path / "a"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
