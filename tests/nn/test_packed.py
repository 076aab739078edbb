"""Padding and packing: PyTorch's layouts and values, gradients, and modules that take them."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from random_numbers import leaf, numbers

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpad_sequence,
)

with np.load(Path(__file__).parent.parent / "golden" / "packed.npz") as _file:
    GOLDEN = dict(_file)
LAYOUTS, RUNS = (json.loads(str(GOLDEN[name])) for name in ("layouts", "runs"))


def golden(prefix):
    return {
        name.removeprefix(prefix): value
        for name, value in GOLDEN.items()
        if name.startswith(prefix)
    }


# ---- the functions


@pytest.mark.parametrize("number", range(len(LAYOUTS)))
def test_layouts_are_those_of_pytorch(number):
    case, arrays = LAYOUTS[number], golden(f"layout{number}/")
    packed = pack_padded_sequence(
        arrays["padded"], case["lengths"], case["batch_first"], case["enforce_sorted"]
    )
    for name, field in packed._asdict().items():
        if name not in arrays:
            assert field is None
        else:
            np.testing.assert_array_equal(field.numpy(), arrays[name], name)
            assert field.dtype == arrays[name].dtype
    again, steps = pad_packed_sequence(
        packed, case["batch_first"], case["padding_value"], case["total_length"]
    )
    np.testing.assert_array_equal(again.numpy(), arrays["again"])
    np.testing.assert_array_equal(steps.numpy(), arrays["steps"])
    assert packed.lengths.tolist() == case["lengths"] == steps.tolist()


@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_against_rows_written_one_by_one(batch_first):
    lengths = (3, 0, 5, 1)
    rows = [numbers(length, 2, seed=n) for n, length in enumerate(lengths)]
    expected = np.full((4, 5, 2), -7.0)
    for place, row in zip(expected, rows, strict=True):
        place[: len(row)] = row
    padded = pad_sequence(rows, batch_first, padding_value=-7)
    laid_out = expected if batch_first else expected.swapaxes(0, 1)
    np.testing.assert_array_equal(padded.numpy(), laid_out)
    for row, back in zip(rows, unpad_sequence(padded, lengths, batch_first), strict=True):
        np.testing.assert_array_equal(back.numpy(), row)


def test_ids_stay_integers():
    ids = [np.array([5, 6, 7]), np.array([1])]
    padded = pad_sequence(ids, batch_first=True, padding_value=-100)
    assert padded.dtype == np.int64
    assert padded.tolist() == [[5, 6, 7], [1, -100, -100]]
    packed = pack_sequence(ids)
    assert packed.data.tolist() == [5, 1, 6, 7]
    assert packed.batch_sizes.tolist() == [2, 1, 1]
    with pytest.raises(ArgumentError, match="padding_value: expected a number that int64 holds"):
        pad_sequence(ids, padding_value=0.5)


@pytest.mark.parametrize("batch_first", [False, True])
def test_derivatives(batch_first):
    rows = [leaf(length, 2, seed=length) for length in (2, 4, 1)]
    lengths = [2, 4, 1]

    def pad(*each):
        return pad_sequence(each, batch_first, padding_value=3.0)

    def there_and_back(*each):
        packed = pack_padded_sequence(pad(*each), lengths, batch_first, enforce_sorted=False)
        padded, _ = pad_packed_sequence(packed, batch_first, total_length=6)
        unpadded = unpad_sequence(padded * padded, lengths, batch_first)
        return (packed.data * 2, *unpadded)

    assert rk.gradcheck(pad, rows)
    assert rk.gradcheck(there_and_back, rows)
    assert rk.gradgradcheck(there_and_back, rows)


def test_padding_hands_no_gradient_back():
    x = leaf(3, 2, 2)
    padded, _ = pad_packed_sequence(pack_padded_sequence(x, [3, 1]), total_length=4)
    # An infinity in the padding would become NaN wherever it were multiplied by zero.
    padded.backward(np.where(np.arange(4)[:, None, None] < [[3], [1]], 1.0, np.inf) * np.ones(2))
    np.testing.assert_array_equal(x.grad.data[:, 0], np.ones((3, 2)))
    np.testing.assert_array_equal(x.grad.data[:, 1], [[1, 1], [0, 0], [0, 0]])


def test_sequences_that_are_all_empty():
    rows = [leaf(0, 2), leaf(0, 2)]
    padded = pad_sequence(rows)
    assert padded.shape == (0, 2, 2)
    padded.sum().backward()
    assert rows[0].grad.shape == (0, 2)


def test_ties_keep_the_callers_order():
    packed = pack_sequence([numbers(2), numbers(3), numbers(2), numbers(3)], enforce_sorted=False)
    assert packed.sorted_indices.tolist() == [1, 3, 0, 2]
    assert packed.unsorted_indices.tolist() == [2, 0, 3, 1]


def test_a_packed_sequence_copies_pickles_and_takes_other_data():
    packed = pack_sequence([numbers(2), numbers(3)], enforce_sorted=False)
    for twin in (copy.copy(packed), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert type(twin) is PackedSequence
        for ours, theirs in zip(twin, packed, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    doubled = packed._replace(data=packed.data * 2)
    assert type(doubled) is PackedSequence
    np.testing.assert_array_equal(doubled.data.numpy(), 2 * packed.data.numpy())
    only_inverse = PackedSequence(packed.data, [2, 2, 1], unsorted_indices=[1, 0])
    assert only_inverse.sorted_indices.tolist() == [1, 0]
    with pytest.raises(ShapeError, match="data: expected 5 rows"):
        packed._replace(data=packed.data[:4])


X = np.zeros((3, 2, 4))
WRONG = {
    "zero length": (lambda: pack_padded_sequence(X, [3, 0]), ArgumentError, "from 1 to 3.* got 0"),
    "too long": (lambda: pack_padded_sequence(X, [4, 1]), ArgumentError, "from 1 to 3.* got 4"),
    "lengths": (lambda: pack_padded_sequence(X, [3]), ShapeError, r"lengths: .* \(2,\)"),
    "floats": (lambda: pack_padded_sequence(X, [3.0, 1.0]), DTypeError, "lengths: .* integers"),
    "unsorted": (lambda: pack_padded_sequence(X, [1, 3]), ArgumentError, "enforce_sorted=False"),
    "no rows": (lambda: pack_padded_sequence(X[:, :0], []), ArgumentError, "at least one row"),
    "one axis": (lambda: pack_padded_sequence(X[0, 0], [1]), ShapeError, r"\(T, N, \*\)"),
    "list": (lambda: pack_padded_sequence([[1.0]], [1]), DTypeError, "input: .* got list"),
    "empty": (lambda: pack_sequence([numbers(2), numbers(0)]), ArgumentError, "got 0"),
    "none": (lambda: pad_sequence([]), ArgumentError, "sequences: expected at least one"),
    "number": (lambda: pad_sequence([np.float64(1), X]), DTypeError, r"sequences\[0\]"),
    "axes": (lambda: pad_sequence([X, X[..., :2]]), ShapeError, r"sequences\[1\]: .* \(2, 4\)"),
    "dtypes": (
        lambda: pad_sequence([X, X.astype("f4")]), DTypeError, r"sequences\[1\]: expected float64"
    ),
    "total": (
        lambda: pad_packed_sequence(pack_sequence([X]), total_length=2),
        ArgumentError,
        "total_length: expected at least 3",
    ),
    "not packed": (lambda: pad_packed_sequence(X), DTypeError, "expected a PackedSequence"),
    "unpad": (
        lambda: unpad_sequence(X, [4, 0]), ArgumentError, "0 to 3, the steps of padded_sequences"
    ),
    "growing": (
        lambda: PackedSequence(X, [1, 2]), ArgumentError, r"never grow, got \[1, 2\]"
    ),
    "permutation": (
        lambda: PackedSequence(X, [2, 1], [0, 0]), ArgumentError, "sorted_indices: .* 0 to 1"
    ),
    "inverse": (
        lambda: PackedSequence(X, [3], [1, 2, 0], [1, 2, 0]), ArgumentError, "the inverse"
    ),
    "data": (lambda: PackedSequence([1.0], [1]), DTypeError, "data: .* got list"),
    "first": (
        lambda: pack_padded_sequence(X, [3, 2], "x"), ArgumentError, "batch_first: expected a bool"
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()


# ---- the modules


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_modules_agree_with_pytorch(path, number):
    case, arrays = RUNS[number], golden(f"run{number}/")
    module = getattr(nn, case["cell"])(**case["options"], dtype="float64")
    module.load_state_dict({name: arrays[name] for name in module.state_dict()})
    inputs = {
        name: rk.tensor(arrays[name], requires_grad=True)
        for name in ("x", "h0", "c0")
        if name in arrays
    }
    x, *state = inputs.values()
    packed = pack_padded_sequence(
        x, case["lengths"], module.batch_first, enforce_sorted=case["enforce_sorted"]
    )
    y, final = module(packed, state[0] if len(state) == 1 else tuple(state))
    assert type(y) is PackedSequence
    final = final if isinstance(final, tuple) else (final,)
    outputs = dict(zip(("y", "hn", "cn"), (y.data, *final), strict=False))
    wanted = inputs | dict(module.named_parameters())
    gradients = rk.grad(
        list(outputs.values()),
        list(wanted.values()),
        [rk.tensor(arrays[f"d_{name}"]) for name in outputs],
    )
    found = outputs | {f"d_{name}": g for name, g in zip(wanted, gradients, strict=True)}
    found["padded"], _ = pad_packed_sequence(y, module.batch_first)
    for name, value in found.items():
        np.testing.assert_allclose(
            value.detach().numpy(), arrays[name], rtol=1e-11, atol=1e-13, err_msg=name
        )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("merge", ["concat", "sum", "separate"])
def test_packed_is_padded_with_lengths(path, merge, batch_first):
    module = nn.GRU(
        3, 5, 2, bidirectional=True, merge=merge, batch_first=batch_first, dtype="float64"
    )
    lengths = np.array([2, 6, 3, 4])
    x, state, begin = leaf(6, 4, 3), leaf(4, 4, 5), leaf(4, 4, 5, seed=1)
    x = x.transpose(0, 1) if batch_first else x
    reset = np.zeros((6, 4), bool)
    reset[2, 1] = reset[1, 2] = True
    options = {
        "reset": reset.T if batch_first else reset, "reset_state": begin, "return_steps": True
    }
    packed = pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
    expected, final, steps = module(x, state, lengths=lengths, **options)
    y, end, own_steps = module(packed, state, **options)
    np.testing.assert_array_equal(end.numpy(), final.numpy())
    pairs = [(y, expected)] if merge != "separate" else list(zip(y, expected, strict=True))
    pairs += list(zip(own_steps["h"], steps["h"], strict=True))
    for own, whole in pairs:
        assert type(own) is PackedSequence
        padded, _ = pad_packed_sequence(own, batch_first)
        np.testing.assert_array_equal(padded.numpy(), whole.numpy())
    last, _ = module(packed, state, return_sequences=False)
    wanted, _ = module(x, state, lengths=lengths, return_sequences=False)
    for own, whole in zip(last, wanted, strict=True):
        np.testing.assert_array_equal(own.numpy(), whole.numpy())


def test_modules_refuse_what_does_not_fit():
    lstm = nn.LSTM(4, 2)
    packed = pack_sequence([X[:, 0].astype("f4"), X[:2, 1].astype("f4")])
    with pytest.raises(ArgumentError, match="lengths: a PackedSequence brings its own lengths"):
        lstm(packed, lengths=[3, 2])
    with pytest.raises(DTypeError, match=r"x\.data: expected float32"):
        lstm(packed._replace(data=packed.data.astype("float64")))
    with pytest.raises(ShapeError, match=r"x\.data: expected 4 features"):
        lstm(packed._replace(data=packed.data[:, :3]))
    with pytest.raises(ShapeError, match=r"x\.data: expected axes \(steps, I\)"):
        lstm(pack_padded_sequence(np.zeros((3, 2, 4, 4), "f4"), [3, 2]))


def test_live_pytorch_agrees(path):
    torch = pytest.importorskip("torch")
    theirs_rnn = torch.nn.utils.rnn
    lengths = [4, 9, 1, 6, 9]
    ours = nn.LSTM(5, 7, 2, bidirectional=True, dtype="float64")
    theirs = torch.nn.LSTM(5, 7, 2, bidirectional=True, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    rows = [numbers(length, 5, seed=n) for n, length in enumerate(lengths)]
    packed = theirs_rnn.pack_sequence([torch.from_numpy(r) for r in rows], enforce_sorted=False)
    expected, (h, c) = theirs(packed)
    y, state = ours(pack_sequence(rows, enforce_sorted=False))
    padded, _ = theirs_rnn.pad_packed_sequence(expected, padding_value=2.0)
    own, _ = pad_packed_sequence(y, padding_value=2.0)
    for a, b in ((own, padded), (state[0], h), (state[1], c)):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("value", [None, 3, "x"])
def test_what_holds_no_sequences_is_refused_by_name(value):
    with pytest.raises(DTypeError, match=r"^sequences: expected Tensors or arrays"):
        pad_sequence(value)


@pytest.mark.parametrize("order", [None, []])
def test_a_packed_sequence_of_no_steps(order):
    packed = rk.nn.utils.rnn.PackedSequence(np.zeros((0, 3), np.float32), [], order)
    assert packed.lengths.shape == (0,)
    for total_length, steps in ((None, 0), (4, 4)):
        padded, lengths = pad_packed_sequence(packed, total_length=total_length)
        assert padded.shape == (steps, 0, 3)
        assert lengths.shape == (0,)


def test_what_is_no_list_of_integers_is_refused():
    data = np.zeros((3, 2), np.float32)
    with pytest.raises(DTypeError, match="batch_sizes: expected integers, got float64"):
        rk.nn.utils.rnn.PackedSequence(data, [2.0, 1.0])
    with pytest.raises(ShapeError, match=r"batch_sizes: expected 1 axis, got shape \(1, 2\)"):
        rk.nn.utils.rnn.PackedSequence(data, [[2, 1]])
    with pytest.raises(ShapeError, match=r"sequences\[1\]: expected at least 1 axis, got a number"):
        rk.nn.utils.rnn.pad_sequence([data, np.array(1, np.float32)])
