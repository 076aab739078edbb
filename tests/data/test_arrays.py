"""NumPy files from anybody: read as NumPy would, or refused in one line before allocation."""

import io
import os
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from rnnkit.data import map_array, read_array, read_arrays
from rnnkit.errors import ArgumentError

ARRAYS = {
    "floats": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big_endian": np.arange(5, dtype=">i4"),
    "scalar": np.array(3),
    "empty": np.zeros((0, 7)),
    "flags": np.array([True, False]),
    "three": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
}


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_as_they_were_saved(tmp_path, name):
    array = ARRAYS[name]
    path = tmp_path / "a.npy"
    np.save(path, array)
    for found in (read_array(path), map_array(path)):
        assert np.array_equal(found, array)
        assert found.shape == array.shape
    assert read_array(path).dtype == array.dtype.newbyteorder("=")
    assert read_array(path).dtype.isnative


def test_an_array_of_version_2_is_read(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, ARRAYS["floats"], version=(2, 0))
    assert np.array_equal(read_array(tmp_path / "a.npy"), ARRAYS["floats"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_come_as_they_were_saved(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name], array)


def test_texts_come_where_they_are_accepted(tmp_path):
    np.savez(tmp_path / "a.npz", names=np.array(["one", "zwölf"]))
    assert read_arrays(tmp_path / "a.npz", kinds="U")["names"].tolist() == ["one", "zwölf"]
    with pytest.raises(ArgumentError, match="array 'names': dtype <U5"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("point", [0xD800, 0xDFFF, 0x110000, 0xFFFFFFFF])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_texts_of_what_are_no_characters_are_refused(tmp_path, point, shape):
    texts = np.full(shape, "ab")
    points = texts.reshape(-1).view(np.uint32)
    for good in (0xD7FF, 0xE000, 0x10FFFF):
        points[-1] = good
        np.save(tmp_path / "a.npy", texts)
        assert read_array(tmp_path / "a.npy", kinds="U").reshape(-1)[-1] == "a" + chr(good)
    points[-1] = point
    np.save(tmp_path / "a.npy", texts)
    with pytest.raises(ArgumentError, match="damaged: it holds numbers that are no characters"):
        read_array(tmp_path / "a.npy", kinds="U")


def header(text, version=b"\x01\x00"):
    raw = text.encode("latin-1")
    size = len(raw).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + raw


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }\n"
HOSTILE = {
    "nothing": (b"", "not an .npy array"),
    "no magic": (b"hello, world, hello, world", "not an .npy array"),
    "magic alone": (b"\x93NUMPY", "not an .npy array"),
    "a header cut short": (npy(np.zeros(9))[:40], "not an .npy array"),
    "data cut short": (npy(np.zeros(9))[:-1], "truncated: .* takes 72 bytes, 71 are there"),
    "data to spare": (npy(np.zeros(9)) + b"x", "damaged: .* 73 are there"),
    "a shape beyond all memory": (header(HUGE), "limit"),
    "a shape beyond all integers": (
        header(HUGE.replace("1000000000000", "9" * 400)),
        "limit|not an .npy",
    ),
    "a negative size": (header(HUGE.replace("1000000000000", "-1")), "damaged: shape"),
    "no elements, vast axes": (
        header(HUGE.replace("1000000000000, 3", "0, 4611686018427387904")),
        "damaged: shape",
    ),
    "many axes": (header(HUGE.replace("1000000000000", "1," * 200 + "1")), "damaged: shape"),
    "objects": (npy(np.array([{}, None]), allow_pickle=True), "Python objects"),
    "records": (npy(np.zeros(2, [("a", "f4"), ("b", "f8")])), "dtype"),
    "complex numbers": (npy(np.zeros(2, complex)), "dtype complex128"),
    "empty texts": (npy(np.zeros(2, "V0")), "dtype"),
    "code for a header": (header("__import__('os').getcwd()\n"), "not an .npy array"),
    "nested brackets": (header("(" * 500 + "\n"), "not an .npy array"),
    "no dict": (header("[1, 2, 3]\n"), "not an .npy array"),
    "a strange dtype": (header(HUGE.replace("<f4", "<q99")), "not an .npy array"),
    "a dtype of two sizes": (header(HUGE.replace("'<f4'", "('<f4', (2, 2))")), "not an|dtype"),
    "an endless header": (header("{" + " " * 60000 + "}\n"), "not an .npy array"),
    "a later version": (header(HUGE, b"\x09\x00"), "not an .npy|version"),
    "version 3": (header(HUGE, b"\x03\x00"), "version"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays_are_refused_before_allocation(tmp_path, name):
    content, message = HOSTILE[name]
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    archive = tmp_path / "a.npz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.npy", content)
    tracemalloc.start()
    try:
        for read, source in ((read_array, path), (map_array, path), (read_arrays, archive)):
            # Without a limit, a mapping is held to the size of the file.
            expected = message if read is not map_array else message.replace("limit", "truncated")
            with pytest.raises(ArgumentError, match=expected) as caught:
                read(source)
            assert str(caught.value).startswith(f"{source}: ")
            assert "\n" not in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_limits_shapes_and_numbers_are_held(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 5)))
    assert read_array(path, shape=(None, 5), limit=160).shape == (4, 5)
    np.savez(tmp_path / "a.npz", np.zeros(2))
    with pytest.raises(ArgumentError, match=r"^limit: expected a number >= 0, got 'x'"):
        read_arrays(tmp_path / "a.npz", limit="x")
    with pytest.raises(ArgumentError, match="takes 160 bytes; the limit is 159"):
        read_array(path, limit=159)
    with pytest.raises(ArgumentError, match=r"expected shape \(any, 4\), got \(4, 5\)"):
        read_array(path, shape=(None, 4))
    with pytest.raises(ArgumentError, match="expected shape"):
        read_array(path, shape=(4, 5, None))
    with pytest.raises(ArgumentError, match="dtype float64"):
        read_array(path, kinds="iu")
    for wrong in (np.nan, np.inf):
        np.save(path, np.array([[0.0, 1.0], [2.0, wrong]]))
        with pytest.raises(ArgumentError, match=rf"not a finite number at \[1, 1\]: {wrong}"):
            read_array(path)
        assert read_array(path, finite=False).shape == (2, 2)
    np.save(path, np.zeros((0, 7)))
    assert read_array(path, shape=(0, None)).shape == (0, 7)
    with pytest.raises(ArgumentError, match="cannot be read: No such file"):
        read_array(tmp_path / "b.npy")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_arrays(tmp_path)


def test_archives_that_unpack_to_too_much_are_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(1 << 20, np.uint8), b=np.zeros(1 << 20, np.uint8))
    assert os.path.getsize(path) < 10_000
    tracemalloc.start()
    with pytest.raises(ArgumentError, match=r"unpacks to 209\d{4} bytes; the limit is 2000000"):
        read_arrays(path, limit=2_000_000)
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()
    # A member may be larger than its directory says, or than its own header.
    raw = bytearray(path.read_bytes())
    size = (1 << 20) + 128
    for place in [i for i in range(len(raw)) if raw[i : i + 4] == size.to_bytes(4, "little")]:
        raw[place : place + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(ArgumentError):
        read_arrays(path)


def test_strange_archives_are_refused(tmp_path):
    path = tmp_path / "a.npz"

    def write(*members, compression=zipfile.ZIP_STORED):
        with pytest.warns(UserWarning, match="Duplicate") if len(set(members)) < len(
            members
        ) else io.BytesIO(), zipfile.ZipFile(path, "w", compression) as file:
            for name, content in members:
                file.writestr(name, content)

    good = npy(np.zeros(3))
    write(("a.txt", b"hello"))
    with pytest.raises(ArgumentError, match=r"unexpected member 'a.txt'"):
        read_arrays(path)
    write(("a.npy", good), ("a.npy", good))
    with pytest.raises(ArgumentError, match="unexpected member"):
        read_arrays(path)
    write(("a.npy", good), compression=zipfile.ZIP_BZIP2)
    with pytest.raises(ArgumentError, match="compression"):
        read_arrays(path)
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ArgumentError, match=r"not an .npz archive"):
        read_arrays(path)
    path.write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"not an .npz archive"):
        read_arrays(path)
    write()
    assert read_arrays(path) == {}


def test_archives_of_too_many_arrays_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rnnkit.data.readers.arrays._MOST_MEMBERS", 3)
    path = tmp_path / "a.npz"
    for count in (3, 4):
        np.savez(path, *[np.zeros(2)] * count)
        if count == 3:
            assert len(read_arrays(path)) == 3
    with pytest.raises(ArgumentError, match=r"a.npz: 4 arrays; expected at most 3"):
        read_arrays(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_member_that_ends_early_is_refused(tmp_path, save):
    """The directory stands at the end of an archive: a cut within a member leaves it whole."""
    path = tmp_path / "a.npz"
    save(path, a=np.random.default_rng(0).normal(size=400))
    raw = path.read_bytes()
    directory, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    for cut in (8, 100, directory - 60):  # to within the array, and within its header
        at = (directory - cut).to_bytes(4, "little")
        tail = raw[end : end + 16] + at + raw[end + 20 :]
        path.write_bytes(raw[: directory - cut] + raw[directory:end] + tail)
        with pytest.raises(ArgumentError, match=r"a.npz.*(damaged|truncated)") as caught:
            read_arrays(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_random_damage_is_refused_or_harmless(tmp_path, compressed):
    """Whatever bytes are changed or cut, one clear error or an array, never another exception."""
    draw = random.Random(compressed)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "good.npz", a=np.arange(50.0), b=np.ones((3, 4), np.int32))
    np.save(tmp_path / "good.npy", np.arange(12.0).reshape(3, 4))
    refused = []
    for name, read in (("good.npz", read_arrays), ("good.npy", read_array)):
        good = (tmp_path / name).read_bytes()
        for _ in range(200):
            raw = bytearray(good)
            for _ in range(draw.randrange(1, 4)):
                raw[draw.randrange(len(raw))] = draw.randrange(256)
            if draw.random() < 0.3:
                del raw[draw.randrange(len(raw)) :]
            (tmp_path / "bad").write_bytes(raw)
            try:
                read(tmp_path / "bad", limit=1 << 24)
            except ArgumentError as error:
                refused.append(str(error))
    assert len(refused) > 150
    assert not [message for message in refused if "\n" in message]


def test_archives_that_are_encrypted_or_of_another_version_or_broken_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(30_000) ** 2 % 9973)
    good = path.read_bytes()
    directory = good.rindex(b"PK\x01\x02")
    places = [(directory + 6, 0x80), (directory + 8, 1), (directory + 8, 0x20)]
    places += [(directory * i // 8, 255) for i in range(3, 8)]
    for place, flipped in places:
        path.write_bytes(good[:place] + bytes([good[place] ^ flipped]) + good[place + 1 :])
        with pytest.raises(ArgumentError, match=r"a.npz: not an .npz archive, or damaged: \w"):
            read_arrays(path)
