"""Atomic writes and run folders: a failed write leaves the old file whole."""

import errno
import json
import os
import shlex
import stat

import numpy as np
import pytest

from rnnkit.data.atomic import remove_partial_files, write_atomically
from rnnkit.errors import ArgumentError
from rnnkit.train import RunError, RunFolder
from rnnkit.train.sources import unchanged


def fail_with(code):
    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    return fail


def test_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_file_mode_follows_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        write_atomically(str(tmp_path / "a"), b"")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_names_it(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, failing, fail_with(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(str(path), b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_data_reach_the_disk_before_the_name_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    flush, rename = os.fsync, os.replace

    def fsync(handle):
        status = os.fstat(handle)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)
        flush(handle)

    def replace(*names):
        events.append("rename")
        rename(*names)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_atomically(str(tmp_path / "a"), b"all")
    assert events == [3, "rename", "folder"]


def test_arrays_come_back_whatever_their_strides(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    square = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = {"transposed": square.T, "strided": square[:, ::2], "reversed": square[::-1]}
    folder.save_model(arrays, {"step": "3"})
    loaded = folder.load_model()
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(loaded[name], array), name
    assert {name: entry.shape for name, entry in folder.model_entries().items()} == {
        name: array.shape for name, array in arrays.items()
    }


def test_a_new_run_never_takes_the_folder_of_another(tmp_path):
    first = RunFolder.create_numbered(str(tmp_path / "runs"), "a")
    second = RunFolder.create_numbered(str(tmp_path / "runs"), "a")
    assert os.path.basename(first.path) == "a-1"
    assert os.path.basename(second.path) == "a-2"
    first.save_settings({"x": 1})
    with pytest.raises(RunError, match="not empty"):
        RunFolder.create(first.path)
    (tmp_path / "file").touch()
    for make in (RunFolder.create, lambda path: RunFolder.create_numbered(path, "run")):
        with pytest.raises(RunError, match="file: expected a folder, this is a file"):
            make(str(tmp_path / "file"))
    assert json.loads((tmp_path / "runs/a-1/settings.json").read_text()) == {"x": 1}
    assert RunFolder.create(second.path).files() == []


def test_what_a_killed_write_left_is_no_run(tmp_path):
    (tmp_path / ".model.safetensors.0123abcd.partial").write_bytes(b"half")
    RunFolder.create(tmp_path)
    assert os.listdir(tmp_path) == []
    (tmp_path / ".hidden").write_bytes(b"")
    with pytest.raises(RunError, match="the folder is not empty"):
        RunFolder.create(tmp_path)


def test_a_command_is_written_as_a_shell_reads_it():
    assert RunFolder("runs/notes-1").command("resume") == "rnnkit resume runs/notes-1"
    path = "runs/it's mine-1"
    assert shlex.split(RunFolder(path).command("sample")) == ["rnnkit", "sample", path]


def test_settings_name_files_whose_names_are_no_text(tmp_path):
    settings = {"files": [{"path": os.fsdecode(b"caf\xe9 \xc3\xa9.txt")}]}
    RunFolder(tmp_path).save_settings(settings)
    assert RunFolder(tmp_path).load_settings() == settings


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 200_000, b'{"a": 1}\x00']
)
def test_damaged_settings_are_named(tmp_path, content):
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(RunError, match=r"settings.json: damaged"):
        RunFolder(tmp_path).load_settings()


def test_settings_of_any_size_are_not_read_whole(tmp_path, monkeypatch):
    RunFolder(tmp_path).save_settings({"a": 1})
    size = os.path.getsize(tmp_path / "settings.json")
    monkeypatch.setattr("rnnkit.train.run_folder._SETTINGS_LIMIT", size)
    assert RunFolder(tmp_path).load_settings() == {"a": 1}
    monkeypatch.setattr("rnnkit.train.run_folder._SETTINGS_LIMIT", size - 1)
    with pytest.raises(RunError, match=r"settings.json: damaged: larger than any"):
        RunFolder(tmp_path).load_settings()


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(RunError, match="no such run folder"):
        RunFolder(tmp_path / "nowhere").load_settings()
    with pytest.raises(RunError, match=r"settings.json is missing"):
        RunFolder(tmp_path).load_settings()
    with pytest.raises(RunError, match=r"model.safetensors is missing"):
        RunFolder(tmp_path).load_model()


def test_a_damaged_model_file_is_named_wherever_it_is_cut(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_model({"weight": np.ones((4, 4), np.float32)}, {})
    whole = (tmp_path / "model.safetensors").read_bytes()
    for size in (0, 4, 8, 20, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(RunError, match=r"model.safetensors: damaged"):
            folder.load_model()


def test_the_quality_of_the_model_is_beside_it_to_the_last_bit(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_best({"weight": np.ones(2, np.float32)}, 7, 0.1 + 0.2)
    assert folder.model_quality() == (7, 0.1 + 0.2)
    folder.save_model({"weight": np.ones(2, np.float32)}, {"step": "x"})
    with pytest.raises(RunError, match=r"model.safetensors: damaged: its notes"):
        folder.model_quality()


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("text")
    with unchanged(files):
        pass
    with pytest.raises(ArgumentError, match=r"b\.txt: changed while"), unchanged(files):
        files[1].write_text("another text")


def test_what_a_killed_write_left_is_removed_and_nothing_else(tmp_path):
    for name in (".model.safetensors.0123abcd.partial", "a.partial", ".hidden", ".a.xyz.partial"):
        (tmp_path / name).write_bytes(b"x")
    remove_partial_files(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [".a.xyz.partial", ".hidden", "a.partial"]


def test_a_write_of_several_buffers_is_their_sequence(tmp_path):
    write_atomically(str(tmp_path / "a"), [b"one", np.arange(3, dtype=np.uint8).data, b""])
    assert (tmp_path / "a").read_bytes() == b"one\0\1\2"
