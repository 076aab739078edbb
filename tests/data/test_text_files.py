"""Reading text files, and every way in which one can be no text file."""

import pytest

from rnnkit.data import read_text, read_texts, split_by_position
from rnnkit.errors import ArgumentError


def test_text_is_read_without_mark_and_with_plain_line_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfna\xc3\xafve\r\nold\rnew\n")
    assert read_text(path) == "naïve\nold\nnew\n"
    path.write_bytes(b"old\r")
    assert read_text(path) == "old\n"


def test_files_are_joined_at_line_ends(tmp_path):
    for name, text in (("a", "one"), ("b", "two\n"), ("c", "three")):
        (tmp_path / name).write_text(text)
    assert read_texts([tmp_path / "c", tmp_path / "b", tmp_path / "a"]) == "three\ntwo\none"
    for nothing in ([], "c"):
        with pytest.raises(ArgumentError, match=r"^paths: expected"):
            read_texts(nothing)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (b"PNG\x00\x01", "byte 3 is zero"),
        (b"caf\xe9 au lait", "invalid byte 0xe9 at position 3"),
        (b"\xff\xfeh\x00i\x00", "not a text file"),
    ],
)
def test_what_is_not_text_is_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "input.txt"
    path.write_bytes(content)
    with pytest.raises(ArgumentError) as caught:
        read_text(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message


def test_missing_file_and_folder_are_refused_by_name(tmp_path):
    with pytest.raises(ArgumentError, match=r"nowhere.txt: cannot be read: No such file"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(ArgumentError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
    with pytest.raises(ArgumentError, match="cannot be read: embedded null byte"):
        read_text("a\0b")


def test_split_holds_out_the_end():
    assert split_by_position("abcdefghij", 0.2) == ("abcdefgh", "ij")
    assert split_by_position("ab", 0.5) == ("a", "b")


@pytest.mark.parametrize(("text", "share"), [("abc", 0.0), ("abc", 1.0), ("", 0.5), ("a", 0.5)])
def test_split_without_two_parts_is_refused(text, share):
    with pytest.raises(ArgumentError):
        split_by_position(text, share)
