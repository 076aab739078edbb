"""Input feeding: a decoder's layers and its attention as one cell that runs natively."""

import gc
import weakref
from copy import deepcopy

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.nn.input_feeding import MOST_WIDTHS, WIDTH, _cells

T, N, E, H, SOURCES, TARGETS = 6, 3, 4, 5, 9, 8
KINDS = {
    "gru": {},
    "lstm": {"cell": "lstm", "num_layers": 2, "attention": "additive", "attention_size": 3},
    "rnn, tied": {"cell": "rnn", "bidirectional": False, "attention": "scaled", "tied": True},
}
EACH = pytest.mark.parametrize("kind", KINDS)


def make(kind="gru", **changes):
    options = {"start_token": 1, "input_feeding": True, "dtype": "float64"}
    return nn.EncoderDecoder(SOURCES, TARGETS, E, H, **{**options, **KINDS[kind], **changes})


def tokens(S=5, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, SOURCES, (S, N)), random.integers(0, TARGETS, (T, N))


def last_step(what="Feeding"):
    """How the decoder ran, where it ran all steps at once."""
    return [call.path for call in rk.why() if call.op.startswith(f"{what} layer T={T}")][-1:]


def step_by_step(model, *arguments):
    """What a model gives that samples so seldom that it never does."""
    return model(*arguments, sampling=1e-300)


@EACH
@pytest.mark.parametrize("S", [1, WIDTH - 1, WIDTH, WIDTH + 1])
def test_all_steps_at_once_are_the_steps_one_by_one(kind, S, path):
    model = make(kind)
    source, target = tokens(S)
    for lengths in ((), ([S, 0, 1], [T, 2, 4])):
        logits, weights = model(source, target, *lengths)
        native = path == "auto" and rk.config()["native"]
        assert last_step() == ["program" if native else "python"]
        expected, looked = step_by_step(model, source, target, *lengths)
        for n, steps in enumerate(lengths[1] if lengths else [T] * N):
            here = slice(steps), n
            np.testing.assert_allclose(logits.data[here], expected.data[here], rtol=1e-10)
            np.testing.assert_allclose(weights.data[here], looked.data[here], rtol=1e-10)
        assert weights.shape == (T, N, S)


@EACH
def test_dropout_is_drawn_alike_on_both_paths_and_not_in_evaluation(kind, native):
    model = make(kind, dropout=0.5)
    arguments = (*tokens(), [5, 2, 4], [T, 3, 5])
    found = []
    for backend in ("auto", "python"):
        with rk.backend(backend):
            rk.manual_seed(3)
            loss = model.loss(*arguments)
            found.append([loss, *rk.grad(loss, list(model.parameters()))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)
    assert model.loss(*arguments).item() != model.loss(*arguments).item()
    model.eval()
    logits, _ = model(*arguments[:2])
    np.testing.assert_array_equal(model(*arguments[:2])[0].data, logits.data)
    expected, _ = step_by_step(model, *arguments[:2])
    np.testing.assert_allclose(logits.data, expected.data, rtol=1e-10)


def test_dropout_acts_between_layers_and_on_what_is_fed():
    """Where all of a is dropped, nothing is fed; where all between layers, the last reads zeros."""
    model = make("lstm", dropout=0.0)
    arguments = tokens()
    model.dropout.p = 1.0
    model.target_embedding.forward = lambda ids: rk.ones(*ids.shape, E, dtype="float64")
    logits, _ = model(*arguments)
    np.testing.assert_allclose(
        logits.data, np.broadcast_to(model.head.bias.data, logits.shape), rtol=1e-12
    )
    model.dropout.p = 0.0
    before, _ = model(*arguments)
    model.decoder.dropout = 1.0
    after, _ = model(*arguments)
    assert (after.data != before.data).all()
    model.decoder.weight_ih_l0.data += 1.0  # which the second layer no longer sees
    again, _ = model(*arguments)
    np.testing.assert_array_equal(again.data, after.data)


def test_parts_that_were_replaced_are_no_longer_used(native):
    model = make()
    source, target = tokens()
    before, _ = model(source, target)
    model.attention = nn.MultiplicativeAttention(H, 2 * H, dtype="float64")
    model.combine = nn.Linear(3 * H, H, bias=False, dtype="float64")
    after, _ = model(source, target)
    assert (after.data != before.data).any()
    np.testing.assert_allclose(after.data, step_by_step(model, source, target)[0].data, rtol=1e-10)
    twin = deepcopy(model)
    twin.decoder.weight_hh_l0.data += 0.5
    assert (twin(source, target)[0].data != after.data).any()
    np.testing.assert_array_equal(model(source, target)[0].data, after.data)


@pytest.mark.parametrize(("layers", "path"), [(3, "program"), (14, "program"), (15, "python")])
def test_many_layers_have_no_more_states_than_a_program_or_run_in_python(layers, path, native):
    model = make(cell="lstm", num_layers=layers)
    source, target = tokens()
    logits, _ = model(source, target)
    assert last_step() == [path]
    expected, _ = step_by_step(model, source, target)
    np.testing.assert_allclose(logits.data, expected.data, rtol=1e-10)
    assert model(source, target[:0])[0].shape == (0, N, TARGETS)


def test_sources_of_many_lengths_share_programs_and_leave_nothing_behind():
    model = make()
    for S in range(1, 3 * WIDTH + 1):
        model(*tokens(S))
    assert sorted(_cells[model.decoder]) == [WIDTH, 2 * WIDTH, 3 * WIDTH]
    with rk.no_grad():
        for k in range(4, MOST_WIDTHS + 3):
            model(*tokens(k * WIDTH))
    assert len(_cells[model.decoder]) == MOST_WIDTHS
    decoder = weakref.ref(model.decoder)
    del model
    gc.collect()
    assert decoder() is None
