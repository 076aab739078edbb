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
        "x": zeros(T, N, I), "h_0": zeros(1, N, H), "c_0": zeros(1, N, H),
        "w_ih": zeros(4 * H, I), "w_hh": zeros(4 * H, H),
        "b_ih": zeros(4 * H), "b_hh": zeros(4 * H),
        "h_r": zeros(1, N, H), "c_r": zeros(1, N, H),
    }


def backward_arrays() -> dict[str, np.ndarray | None]:
    arrays = forward_arrays()
    like = {"d_y": (T, N, H), "d_c": (T, N, H), "d_h_n": (1, N, H), "d_c_n": (1, N, H)}
    arrays.update({name: np.zeros(shape, np.float32) for name, shape in like.items()})
    for steps in ("d_h", "d_c_all"):  # written to
        arrays[steps] = np.zeros((T, N, H), np.float32)
    return arrays


def call(name: str, arrays: dict[str, np.ndarray | None]) -> list[np.ndarray | None]:
    def several(*names):
        return tuple(arrays[each] for each in names)

    layer = native.Layer(
        *LSTM, 1, False, arrays["x"], several("h_0", "c_0"), several(*WEIGHTS), True, True,
        native.Schedule(T, N, None, np.ones((T, N), bool)), several("h_r", "c_r"),
    )
    outputs = layer.forward(True)
    if name == "forward":
        return outputs
    needs = [array is not None for array in arrays.values()][:9]
    d_outputs = list(several("d_y", "d_c", "d_h_n", "d_c_n"))
    return layer.backward(d_outputs, needs, True, several("d_h", "d_c_all"))


CALLS = {"forward": forward_arrays, "backward": backward_arrays}
EVERY_ARRAY = [(call_name, array) for call_name, make in CALLS.items() for array in make()]
WRITTEN = [(name, array) for name, array in EVERY_ARRAY if array in ("d_h", "d_c_all")]
REQUIRED = {"x", "w_ih", "w_hh", "h_0", "c_0"}


def named(array: str) -> str:
    """How a message calls it."""
    return {"d_h_n": "d_final", "d_c_n": "d_final"}.get(array, array)


def test_the_arrays_of_these_tests_are_accepted():
    for name, make in CALLS.items():
        for array in call(name, make()):
            assert not array.any()


@pytest.mark.parametrize(("name", "array"), EVERY_ARRAY)
def test_a_wrong_dtype(name, array):
    arrays = CALLS[name]()
    arrays[array] = arrays[array].astype(np.float64)
    with pytest.raises(TypeError, match=f"{named(array)}: expected format"):
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


@pytest.mark.parametrize("lies", ["every other", "backwards", "not aligned", "other order"])
@pytest.mark.parametrize(("name", "array"), [each for each in EVERY_ARRAY if each not in WRITTEN])
def test_what_is_read_may_lie_anyhow(name, array, lies):
    arrays = CALLS[name]()
    rng = np.random.default_rng(3)
    for each, old in arrays.items():
        arrays[each] = rng.normal(size=old.shape).astype(np.float32)
    expected = call(name, arrays)
    given = arrays[array]
    if lies == "every other":
        room = np.zeros((*given.shape[:-1], 2 * given.shape[-1]), np.float32)[..., ::2]
    elif lies == "backwards":
        room = np.zeros(given.shape, np.float32)[::-1]
    elif lies == "other order":
        room = np.zeros(given.shape, np.float32, order="F")
    else:
        raw = np.zeros(given.nbytes + 1, np.uint8)[1:]
        room = raw.view(np.float32).reshape(given.shape)
    room[...] = given
    room.flags.writeable = False
    arrays[array] = room
    for found, same in zip(call(name, arrays), expected, strict=True):
        np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize(("name", "array"), WRITTEN)
def test_what_is_written_must_lie_well_and_be_writeable(name, array):
    arrays = CALLS[name]()
    arrays[array].flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only|writeable|writable"):
        call(name, arrays)
    arrays[array] = np.zeros((T, N, 2 * H), np.float32)[..., ::2]
    with pytest.raises(ValueError, match="contiguous"):
        call(name, arrays)
    arrays[array] = memoryview(bytearray(4 * T * N * H + 1))[1:].cast("f", (T, N, H))
    with pytest.raises(ValueError, match="not aligned"):
        call(name, arrays)


def test_an_axis_of_one_element_has_any_stride():
    rng = np.random.default_rng(4)
    arrays = forward_arrays()
    arrays.update({each: rng.normal(size=old.shape).astype(np.float32)
                   for each, old in arrays.items()})
    arrays["x"] = arrays["x"][..., :1].copy()
    found = []
    w_ih = arrays["w_ih"][:, 0].copy()
    for column in (w_ih.reshape(-1, 1), w_ih[:, None]):  # whose strides are 4 and 0
        found.append(call("forward", {**arrays, "w_ih": column}))
        native.PackedWeights(*LSTM, 1, H, (column, *[arrays[each] for each in WEIGHTS[1:]]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "array"), EVERY_ARRAY)
def test_absent_arrays_are_named_where_they_must_be_there(name, array):
    arrays = CALLS[name]()
    arrays[array] = None
    if array in REQUIRED:
        with pytest.raises(ValueError, match=f"{array}: missing"):
            call(name, arrays)
    elif array in {"b_ih", "b_hh"}:
        with pytest.raises(ValueError, match="both or neither"):
            call(name, arrays)
    else:
        call(name, arrays)


def test_only_what_is_wanted_gets_a_gradient():
    arrays = backward_arrays()
    x, *rest = [arrays[each] for each in ("x", "h_0", "c_0", *WEIGHTS)]
    layer = native.Layer(*LSTM, 1, False, x, tuple(rest[:2]), tuple(rest[2:]))
    d_outputs = [arrays["d_y"], None, arrays["d_c_n"]]
    for overwrite in (False, True):
        layer.forward(True)
        for wanted in range(7):
            needs = [i == wanted for i in range(7)]
            grads = layer.backward(d_outputs, needs, False)
            assert [grad is not None for grad in grads] == needs
            assert grads[wanted].shape == [x, *rest][wanted].shape
        layer.backward(d_outputs, [True] * 7, overwrite)
    with pytest.raises(ValueError, match="needs: expected 7 arrays, got 6"):
        layer.backward(d_outputs, [True] * 6, True)
    with pytest.raises(ValueError, match="d_outputs: expected 3 arrays, got 2"):
        layer.backward(d_outputs[:2], [True] * 7, True)


def test_no_backward_pass_without_a_forward_pass_that_keeps():
    arrays = forward_arrays()
    x, *rest = [arrays[each] for each in ("x", "h_0", "c_0", *WEIGHTS)]
    layer = native.Layer(*LSTM, 1, False, x, tuple(rest[:2]), tuple(rest[2:]))
    for _ in range(2):
        with pytest.raises(ValueError, match="forward: expected a run that keeps"):
            layer.backward([None] * 3, [True] * 7, True)
        layer.forward(False)


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)])
def test_empty_sizes_never_reach_a_kernel(sizes):
    with pytest.raises(ValueError, match="sizes must be positive"):
        native.stored("gru", "reset_after", "float32", *sizes)


@pytest.mark.parametrize("sizes", [(2**58, 1, 1, 4), (2**31, 2**31, 1, 1), (1, 1, 2**62, 2**62)])
def test_sizes_whose_product_would_wrap_around_never_reach_a_kernel(sizes):
    with pytest.raises(ValueError, match="sizes are too large"):
        native.stored("lstm", "standard", "float32", *sizes)


def test_an_array_of_zero_strides_may_be_too_long():
    arrays = forward_arrays()
    states = arrays["h_0"], arrays["c_0"]
    x = np.broadcast_to(np.zeros(I, np.float32), (2**56, N, I))
    with pytest.raises(ValueError, match=f"sizes are too large, got T={2**56} N={N}"):
        native.Layer(*LSTM, 1, False, x, states, tuple(arrays[each] for each in WEIGHTS), False)


def odd(*shape):
    """An array whose first axis has one element, and a stride that is no whole number of elements.

    NumPy calls it contiguous.
    """
    fields = np.dtype([("values", np.float32, shape[1:]), ("flag", np.uint8)])
    array = np.zeros(1, fields)["values"]
    assert array.strides[0] % 4
    assert array.flags.c_contiguous
    array[...] = np.random.default_rng(0).normal(size=shape)
    return array


def test_along_an_axis_of_one_element_a_stride_may_be_anything():
    for a, b in (odd(1, 96), odd(1, 96).T), (odd(1, 96).T, odd(1, 96)):
        c = np.zeros((len(a), len(a)), np.float32)
        native.matmul(a, b, None, c, "float32", 1)
        np.testing.assert_allclose(c, a @ b, rtol=1e-5)
    weights = tuple(odd(1, *shape)[0] for shape in [(4 * H, I), (4 * H, H), (4 * H,), (4 * H,)])
    x = odd(1, N, I)
    found = []
    for given in (x, x.copy(), odd(1, I), odd(1, I).copy()):
        states = tuple(np.zeros((1, N if given.ndim == 3 else 1, H), np.float32) for _ in range(2))
        stepper = native.Stepper(*LSTM, [weights], states, 1)
        found.append(stepper.run(given))
    for one, other in (found[:2], found[2:]):
        assert one.any()
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("position", "name"), [(6, "initial"), (7, "weights"), (11, "restart")])
def test_a_wrong_number_of_arrays(position, name):
    arrays = forward_arrays()
    states = arrays["h_0"], arrays["c_0"]
    weights = tuple(arrays[each] for each in WEIGHTS)
    arguments = [*LSTM, 1, False, arrays["x"], states, weights, True, False, None, states]
    arguments[position] = arguments[position][:-1]
    with pytest.raises(ValueError, match=f"{name}: expected"):
        native.Layer(*arguments)


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
        *LSTM, 1, False, arrays["x"], (arrays["h_0"], arrays["c_0"]),
        tuple(arrays[each] for each in WEIGHTS), packed=packed,
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


def test_packed_weights_of_another_variant_are_refused():
    weights = tuple(np.zeros(shape, np.float32) for shape in ((3 * H, I), (3 * H, H), 3 * H, 3 * H))
    packed = native.PackedWeights("gru", "reset_before", "float32", I, H, weights)
    x, h_0 = np.zeros((T, N, I), np.float32), np.zeros((1, N, H), np.float32)
    with pytest.raises(ValueError, match="packed: expected weights packed for the kernel"):
        native.Layer("gru", "reset_after", "float32", 1, False, x, (h_0,), weights,
                     packed=(packed,))


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
