"""Files written piece by piece: the new one whole, or the old one as it was."""

import os

import pytest

from rnnkit.data.atomic import atomic_file, write_atomically


def test_the_new_file_takes_the_place_of_the_old_one_at_the_end(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_file(str(path)) as file:
        for piece in (b"n", b"e", b"w"):
            file.write(piece)
            assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), OSError(28, "full")])
def test_what_the_block_raises_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write():
        with atomic_file(str(path)) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    def write():
        with atomic_file(str(tmp_path / "a")), open(tmp_path / "other"):
            pass

    with pytest.raises(FileNotFoundError) as caught:
        write()
    assert caught.value.filename == str(tmp_path / "other")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("old", [b"old", None])
def test_a_link_stays_one(tmp_path, old):
    (tmp_path / "far").mkdir()
    file, link = tmp_path / "far" / "a", tmp_path / "link"
    if old is not None:
        file.write_bytes(old)
    link.symlink_to("far/a")
    write_atomically(str(link), b"new")
    assert file.read_bytes() == b"new"
    assert link.is_symlink()
    assert os.listdir(tmp_path / "far") == ["a"]


@pytest.mark.parametrize("path", ["", "folder", "folder/", "new/", "none/a"])
def test_where_no_file_can_be_nothing_is_left(tmp_path, monkeypatch, path):
    (tmp_path / "work" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(OSError) as caught:
        write_atomically(path, b"new")
    assert caught.value.filename == path
    assert os.listdir(tmp_path) == ["work"]
    assert os.listdir() == ["folder"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(path, b"new")
        assert os.read(reader, 9) == b"new"
    finally:
        os.close(reader)
    assert not os.path.isfile(path)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "figures"
    path.write_bytes(b"old")
    path.chmod(mode)
    with atomic_file(str(path)) as file:
        file.write(b"new")
        (partial,) = [each for each in tmp_path.iterdir() if each != path]
        assert partial.stat().st_mode & 0o777 == mode  # before anybody could read it
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_bytes() == b"new"
