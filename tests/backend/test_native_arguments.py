"""The extension refuses by name whatever a kernel could not take; it never crashes."""

from __future__ import annotations

import numpy as np
import pytest

native = pytest.importorskip("rnnkit.backend._native")

T, N, I, H = 3, 2, 4, 5
LSTM = ("lstm", "standard", "float32")
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


def forward_arrays() -> dict[str, np.ndarray | None]:
    def zeros(*shape):
        return np.zeros(shape, np.float32)

    return {
        "x": zeros(T, N, I), "w_ih": zeros(4 * H, I), "w_hh": zeros(4 * H, H),
        "b_ih": zeros(4 * H), "b_hh": zeros(4 * H), "h_0": zeros(1, N, H), "c_0": zeros(1, N, H),
        "y": zeros(T, N, H), "h_n": zeros(1, N, H), "c_n": zeros(1, N, H),
        # A little more than is stored, since it is aligned.
        "kept": zeros(native.stored(*LSTM, T, N, I, H) + 16),
    }


def backward_arrays() -> dict[str, np.ndarray | None]:
    arrays = forward_arrays()
    del arrays["h_n"], arrays["c_n"]
    like = {"d_x": "x", "d_w_ih": "w_ih", "d_w_hh": "w_hh", "d_b_ih": "b_ih", "d_b_hh": "b_hh",
            "d_h_0": "h_0", "d_c_0": "c_0", "d_y": "y", "work": "kept", "d_h_n": "h_0",
            "d_c_n": "c_0"}
    arrays.update({name: np.zeros_like(arrays[of]) for name, of in like.items()})
    return arrays


def call(name: str, arrays: dict[str, np.ndarray | None]) -> None:
    def several(*names):
        return tuple(arrays[each] for each in names)

    layer = native.Layer(
        *LSTM, 1, False, arrays["x"], several(*WEIGHTS), several("h_0", "c_0"), arrays["y"],
    )
    if name == "forward":
        layer.forward(several("h_n", "c_n"), arrays["kept"])
    else:
        d_weights = several(*(f"d_{each}" for each in WEIGHTS))
        layer.backward(
            arrays["kept"], arrays["d_y"], several("d_h_n", "d_c_n"), arrays["work"],
            arrays["d_x"], d_weights, several("d_h_0", "d_c_0"),
        )


CALLS = {"forward": forward_arrays, "backward": backward_arrays}
EVERY_ARRAY = [(call_name, array) for call_name, make in CALLS.items() for array in make()]
REQUIRED = {"x", "w_ih", "w_hh", "h_0", "c_0", "y"}


def test_the_arrays_of_these_tests_are_accepted():
    for name, make in CALLS.items():
        call(name, make())


@pytest.mark.parametrize(("name", "array"), EVERY_ARRAY)
def test_a_wrong_dtype(name, array):
    arrays = CALLS[name]()
    arrays[array] = arrays[array].astype(np.float64)
    with pytest.raises(TypeError, match="expected format"):
        call(name, arrays)


@pytest.mark.parametrize(("name", "array"), EVERY_ARRAY)
def test_a_wrong_size(name, array):
    arrays = CALLS[name]()
    arrays[array] = np.zeros([n + 1 for n in arrays[array].shape], np.float32)
    with pytest.raises(ValueError, match="expected"):
        call(name, arrays)


@pytest.mark.parametrize(("name", "array"), EVERY_ARRAY)
def test_a_wrong_number_of_axes(name, array):
    arrays = CALLS[name]()
    arrays[array] = arrays[array][None]
    with pytest.raises(ValueError, match="expected"):
        call(name, arrays)


@pytest.mark.parametrize(("name", "array"), EVERY_ARRAY)
def test_a_last_axis_that_is_not_contiguous(name, array):
    arrays = CALLS[name]()
    shape = arrays[array].shape
    arrays[array] = np.zeros((*shape[:-1], 2 * shape[-1]), np.float32)[..., ::2]
    with pytest.raises(ValueError, match="contiguous"):
        call(name, arrays)


@pytest.mark.parametrize(
    ("name", "array"),
    [(n, a) for n, a in EVERY_ARRAY
     if (n == "forward" and a in {"y", "h_n", "c_n", "kept"})
     or (n == "backward" and a.startswith(("d_", "work")) and a not in {"d_y", "d_h_n", "d_c_n"})],
)
def test_a_read_only_output(name, array):
    arrays = CALLS[name]()
    arrays[array].flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only|writeable|writable"):
        call(name, arrays)


@pytest.mark.parametrize(("name", "array"), EVERY_ARRAY)
def test_read_only_inputs_are_fine_and_absent_ones_named(name, array):
    arrays = CALLS[name]()
    for read_only in REQUIRED - {"y"}:
        arrays[read_only].flags.writeable = False
    call(name, arrays)
    arrays[array] = None
    must_be_there = REQUIRED | ({"h_n", "c_n"} if name == "forward" else {"kept", "work"})
    if array in must_be_there:
        # Without y, the outputs of a segment need another place.
        missing = "outputs" if (name, array) == ("forward", "y") else array
        with pytest.raises(ValueError, match=f"{missing}: missing"):
            call(name, arrays)
    elif array in {"b_ih", "b_hh"}:
        with pytest.raises(ValueError, match="both or neither"):
            call(name, arrays)
    else:
        call(name, arrays)


def test_misaligned_memory_is_refused():
    arrays = forward_arrays()
    raw = np.zeros(arrays["h_0"].nbytes + 1, np.uint8)[1:]
    arrays["h_0"] = raw.view(np.float32).reshape(1, N, H)
    # NumPy marks unaligned memory in its format; other exporters may not.
    with pytest.raises((TypeError, ValueError), match="h_0: "):
        call("forward", arrays)


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)])
def test_empty_sizes_never_reach_a_kernel(sizes):
    with pytest.raises(ValueError, match="sizes must be positive"):
        native.stored("gru", "reset_after", "float32", *sizes)


@pytest.mark.parametrize(("position", "name"), [(6, "weights"), (7, "initial"), (9, "final")])
def test_a_wrong_number_of_arrays(position, name):
    arrays = forward_arrays()
    arguments = [
        *LSTM, 1, False, arrays["x"], tuple(arrays[each] for each in WEIGHTS),
        (arrays["h_0"], arrays["c_0"]), arrays["y"], (arrays["h_n"], arrays["c_n"]), None,
    ]
    arguments[position] = arguments[position][:-1]
    with pytest.raises(ValueError, match=f"{name}: expected"):
        native.Layer(*arguments[:9]).forward(*arguments[9:])


def test_unknown_names():
    with pytest.raises(KeyError, match="no kernel named 'nlstm'"):
        native.stored("nlstm", "standard", "float32", 1, 1, 1, 1)
    with pytest.raises(KeyError, match="no variant 'sideways'"):
        native.stored("gru", "sideways", "float32", 1, 1, 1, 1)
    with pytest.raises(TypeError, match="float32 or float64"):
        native.stored("gru", "reset_after", "int8", 1, 1, 1, 1)
    with pytest.raises(ValueError, match="expected one of"):
        native.choose_isa("mmx")
    assert not native.has_kernel("nlstm", "float32")
    assert not native.has_kernel("lstm", "float16")


# ---- weights packed beforehand

def packed_arguments():
    arrays = forward_arrays()
    return [*LSTM, I, H, tuple(arrays[each] for each in WEIGHTS)]


def layer_with(packed):
    arrays = forward_arrays()
    native.Layer(
        *LSTM, 1, False, arrays["x"], tuple(arrays[each] for each in WEIGHTS),
        (arrays["h_0"], arrays["c_0"]), arrays["y"], packed=packed,
    )


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, "none", "no kernel named 'none'"),
        (1, "none", "no variant 'none'"),
        (2, "int32", "int32"),
        (3, 0, "I=0"),
        (3, I + 1, "w_ih"),
        (4, H + 1, "w_ih|w_hh"),
        (4, -1, "H=-1"),
        (5, (), "weights: expected 4 arrays, got 0"),
        (5, (None,) * 4, "w_ih: missing"),
    ],
)
def test_weights_that_cannot_be_packed(place, value, message):
    arguments = packed_arguments()
    native.PackedWeights(*arguments)
    arguments[place] = value
    with pytest.raises((KeyError, TypeError, ValueError), match=message):
        native.PackedWeights(*arguments)


@pytest.mark.parametrize("place", range(4))
def test_every_weight_is_checked_before_it_is_packed(place):
    *sizes, weights = packed_arguments()
    packed = native.PackedWeights(*sizes, weights)
    for wrong in (weights[place].astype(np.float64), weights[place][1:], weights[place][::2]):
        given = (*weights[:place], wrong, *weights[place + 1 :])
        with pytest.raises((TypeError, ValueError, BufferError), match=WEIGHTS[place]):
            packed.pack(given)


def test_packed_weights_of_another_layer_are_refused():
    arguments = packed_arguments()
    layer_with((native.PackedWeights(*arguments),))
    with pytest.raises(ValueError, match="packed: expected 1 arrays, got 2"):
        layer_with((native.PackedWeights(*arguments),) * 2)
    for wrong in (None, "weights"):
        with pytest.raises(TypeError, match="packed 0: expected PackedWeights, got"):
            layer_with((wrong,))
    other = native.PackedWeights("rnn", "tanh", "float32", I, H, tuple(
        [None if each is None else each[: len(each) // 4] for each in arguments[-1]]
    ))
    with pytest.raises(ValueError, match="packed: expected weights packed for the kernel"):
        layer_with((other,))
    wider = np.zeros((4 * H, I + 1), np.float32)
    other = native.PackedWeights(*LSTM, I + 1, H, (wider, *arguments[-1][1:]))
    with pytest.raises(ValueError, match=f"packed: expected I={I} H={H}, got I={I + 1}"):
        layer_with((other,))


@pytest.mark.parametrize(
    ("lengths", "reset", "error", "message"),
    [
        (np.array([1.0, 2.0]), None, ValueError, "lengths: expected 1 axes .*lq"),
        (np.array([1, 2], np.int32), None, ValueError, "lengths: expected 1 axes"),
        (np.array([[1, 2]]), None, ValueError, "lengths: expected 1 axes"),
        (np.array([1, 2, 3]), None, ValueError, "lengths: expected 2, got 3"),
        (np.array([1, -1]), None, ValueError, "lengths: expected 0 to 3, got -1"),
        (np.array([1, 4]), None, ValueError, "lengths: expected 0 to 3, got 4"),
        ([1, 2], None, TypeError, "buffer|bytes-like"),
        (None, np.zeros((T, N), np.int64), ValueError, "reset: expected 2 axes"),
        (None, np.zeros(T, bool), ValueError, "reset: expected 2 axes"),
        (None, np.zeros((N, T), bool), ValueError, r"reset: expected \(3, 2\)"),
        (None, np.zeros((T, 2 * N), bool)[:, ::2], ValueError, "contiguous"),
    ],
)
def test_a_schedule_is_refused(lengths, reset, error, message):
    with pytest.raises(error, match=message):
        native.Schedule(T, N, lengths, reset)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_of_a_schedule_is_cleared(dtype):
    schedule = native.Schedule(T, N, np.array([2, 0]), None)
    cells = np.ones((T, N, 3), dtype)
    schedule.clear_padding(cells, False)
    np.testing.assert_array_equal(cells[:, :, 0], [[1, 0], [1, 0], [0, 0]])
    by_row = np.ones((N, T, 3), dtype)
    schedule.clear_padding(by_row, True)
    np.testing.assert_array_equal(by_row[:, :, 0], [[1, 1, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="cells: expected T=3 N=2, got 2 and 3"):
        schedule.clear_padding(by_row, False)
    with pytest.raises(ValueError, match="cells: expected 3 axes"):
        schedule.clear_padding(np.ones((T, N, 3), np.int32), False)
    cells.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        schedule.clear_padding(cells, False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_a_cache_line_begins(dtype):
    memory = np.zeros(64, dtype)
    for start in range(20):
        vector = memory[start:]
        first = vector[native.elements_before_line(vector) :]
        assert first.ctypes.data % 64 == 0
        assert 0 <= vector.size - first.size < 64 // vector.itemsize
