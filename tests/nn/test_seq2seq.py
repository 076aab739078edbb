"""Encoder and decoder: one way of running it against the other, padding, sampling, a small task."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.decoding import beam_search, greedy_search
from rnnkit.errors import ArgumentError, DTypeError, ShapeError
from rnnkit.nn.utils import scheduled_sampling

S, T, N, E, H = 5, 4, 3, 6, 7
SOURCES, TARGETS, START = 9, 8, 1
SOURCE_LENGTHS, TARGET_LENGTHS = [3, 5, 1], [4, 1, 3]
MODELS = {
    "gru": {},
    "lstm": {"cell": "lstm", "attention": "additive", "attention_size": 4},
    "rnn": {"cell": "rnn", "bidirectional": False, "attention": "dot"},
    "two layers": {"cell": "lstm", "num_layers": 2},
    "feeding": {"input_feeding": True, "num_layers": 2},
    "feeding lstm": {"cell": "lstm", "input_feeding": True, "tied": True, "bidirectional": False},
    "tied": {"tied": True},
    "no attention": {"attention": None},
    "no attention, tied": {"attention": None, "tied": True, "embedding_dim": H, "cell": "lstm"},
}
EACH = pytest.mark.parametrize("kind", MODELS)


def make(kind="gru", **changes):
    options = {"embedding_dim": E, "hidden_size": H, "start_token": START, "dtype": "float64"}
    return nn.EncoderDecoder(SOURCES, TARGETS, **{**options, **MODELS[kind], **changes})


def tokens(seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, SOURCES, (S, N)), random.integers(0, TARGETS, (T, N))


def ragged(seed=0):
    return *tokens(seed), SOURCE_LENGTHS, TARGET_LENGTHS


def valid():
    return np.arange(T)[:, None] < TARGET_LENGTHS


def by_hand(model, source, target):
    """Logits (T, V) and weights (T, S) of one row, from the equations, on the tape."""
    with rk.backend("python"):
        y, final = model.encoder(model.source_embedding(source[:, None]))
        states = final if isinstance(final, tuple) else (final,)
        if model.bidirectional:
            L, bridged = model.num_layers, []
            for i, state in enumerate(states):
                both = [
                    model.bridge[k * len(states) + i](rk.cat([state[2 * k], state[2 * k + 1]], -1))
                    for k in range(L)
                ]
                bridged.append(rk.stack([rk.tanh(b) if i == 0 else b for b in both]))
            states = tuple(bridged)
        feed = rk.tensor(np.zeros((1, model.features)))
        logits, weights = [], []
        for token in [START, *target[:-1]]:
            x = model.target_embedding(np.array([token]))
            x = rk.cat([x, feed], -1) if model.input_feeding else x
            h, final = model.decoder(x[None], states if len(states) > 1 else states[0])
            states = final if isinstance(final, tuple) else (final,)
            feed = h = h[0]
            if model.attention is not None:
                context, looked = model.attention(h, y)
                feed = rk.tanh(rk.cat([context, h], -1) @ model.combine.weight.T)
                weights.append(looked.data[0])
            logits.append((feed @ model.head.weight.T + model.head.bias).data[0])
    return np.array(logits), np.array(weights)


@EACH
@pytest.mark.parametrize("path", ["python", "auto"])
def test_every_row_is_that_of_the_equations(kind, path):
    model = make(kind)
    source, target, *lengths = ragged()
    with rk.backend(path):
        logits, weights = model(source, target, *lengths)
    assert logits.shape == (T, N, TARGETS)
    for n, (s, t) in enumerate(zip(*lengths, strict=True)):
        expected, looked = by_hand(model, source[:s, n], target[:t, n])
        np.testing.assert_allclose(logits.data[:t, n], expected, rtol=1e-10, atol=1e-12)
        if model.attention is None:
            assert weights is None
        else:
            np.testing.assert_allclose(weights.data[:t, n, :s], looked, rtol=1e-10)
            assert not weights.data[:, n, s:].any()


@EACH
def test_teacher_forcing_is_decoding_the_same_tokens_step_by_step(kind):
    model = make(kind).eval()
    source, target, lengths, _ = ragged()
    logits, weights = model(source, target, lengths)
    expected = rk.log_softmax(logits)
    state = model.start(source, lengths)
    assert len(state) == len(model.state_axes)
    inputs = np.concatenate([np.full((1, N), START), target])
    for t in range(T):
        before = state
        log_probabilities, state, looked = model.step(inputs[t], state)
        np.testing.assert_allclose(log_probabilities.data, expected.data[t], rtol=1e-10)
        if weights is None:
            assert looked is None
        else:
            np.testing.assert_allclose(looked.data, weights.data[t], rtol=1e-10, atol=1e-14)
            assert all(a is b for a, b in zip(before[:3], state[:3], strict=True))
        for each, axis in zip(state, model.state_axes, strict=True):
            assert each is None or each.shape[axis] == N


@EACH
def test_the_loss_is_the_mean_over_valid_tokens(kind):
    model = make(kind)
    source, target, *lengths = ragged()
    for smoothing in (0.0, 0.2):
        loss = model.loss(source, target, *lengths, label_smoothing=smoothing)
        logits, _ = model(source, target, *lengths)
        kept = np.where(valid(), target, -100)
        expected = losses.cross_entropy(logits, kept, label_smoothing=smoothing)
        np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-12)
        parameters = list(model.parameters())
        found = rk.grad(loss, parameters, allow_unused=True)
        wanted = rk.grad(expected, parameters, allow_unused=True)
        for (name, _), a, b in zip(model.named_parameters(), found, wanted, strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-8, atol=1e-13, err_msg=name)
            assert a.data.any(), name
    whole = model.loss(source, target)
    expected = losses.cross_entropy(model(source, target)[0], target)
    np.testing.assert_allclose(whole.item(), expected.item(), rtol=1e-12)


@EACH
def test_derivatives_are_those_of_finite_differences(kind):
    """Along one random direction of all parameters: every one of them is in the sum."""
    model = make(kind)
    arguments = ragged()
    parameters = list(model.parameters())
    random = np.random.default_rng(4)
    along = [random.standard_normal(p.shape) for p in parameters]
    found = sum(
        (g.data * d).sum()
        for g, d in zip(rk.grad(model.loss(*arguments), parameters), along, strict=True)
    )
    values = []
    for eps in (1e-6, -1e-6):
        for p, d in zip(parameters, along, strict=True):
            p.data += eps * d
        values.append(model.loss(*arguments).item())
        for p, d in zip(parameters, along, strict=True):
            p.data -= eps * d
    np.testing.assert_allclose(found, (values[0] - values[1]) / 2e-6, rtol=1e-6)


@EACH
def test_paths_have_the_same_gradients(kind):
    model = make(kind)
    arguments = ragged()
    gradients = []
    for path in ("python", "auto"):
        with rk.backend(path):
            gradients.append(rk.grad(model.loss(*arguments), list(model.parameters())))
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["gru", "feeding", "no attention"])
@pytest.mark.parametrize("sampling", [0.0, 0.5])
def test_padding_and_other_rows_have_no_effect(kind, sampling):
    model = make(kind)
    source, target, *lengths = ragged()
    rk.manual_seed(2)
    logits, _ = model(source, target, *lengths, sampling=sampling)
    rk.manual_seed(2)
    loss = model.loss(source, target, *lengths, sampling=sampling)
    source[np.arange(S)[:, None] >= SOURCE_LENGTHS] = -7
    target[~valid()] = 1000
    rk.manual_seed(2)
    again, _ = model(source, target, *lengths, sampling=sampling)
    np.testing.assert_array_equal(again.data[valid()], logits.data[valid()])
    rk.manual_seed(2)
    assert model.loss(source, target, *lengths, sampling=sampling).item() == loss.item()
    if not sampling:
        for n, (s, t) in enumerate(zip(*lengths, strict=True)):
            alone, _ = model(source[:s, n : n + 1], target[:t, n : n + 1])
            np.testing.assert_allclose(alone.data[:, 0], logits.data[:t, n], rtol=1e-10)


def test_rows_of_no_steps():
    for kind in MODELS:
        model = make(kind)
        source, target = tokens()
        logits, weights = model(source, target, [0, 5, 2], [4, 0, 2])
        assert np.isfinite(logits.data).all()
        if weights is not None:
            assert not weights.data[:, 0].any()
        loss = model.loss(source, target, [0, 5, 2], [4, 0, 2])
        for gradient in rk.grad(loss, list(model.parameters())):
            assert np.isfinite(gradient.data).all()
        assert np.isnan(model.loss(source, target, None, [0, 0, 0]).item())
        for sampling in (0.0, 0.5):
            assert model(source, target[:0], sampling=sampling)[0].shape == (0, N, TARGETS)
            none = model(source[:, :0], target[:, :0], sampling=sampling)[0]
            assert none.shape == (T, 0, TARGETS)
        assert model(source[:0], target)[0].shape == (T, N, TARGETS)


def test_teacher_forcing_runs_all_steps_at_once():
    pytest.importorskip("rnnkit.backend._native")
    model, seen = make(), []
    decoder = model.decoder.forward
    model.decoder.forward = lambda x, *a, **k: seen.append(len(x)) or decoder(x, *a, **k)
    with rk.backend("native"):
        model.loss(*ragged())
    assert seen == [T]


# -- scheduled sampling ------------------------------------------------------------------------


@EACH
def test_sampling_that_never_happens_is_teacher_forcing(kind):
    model = make(kind)
    for arguments in (ragged(), tokens()):
        expected, _ = model(*arguments)
        for p in (0.0, 1e-12):  # above 0 the steps run one by one
            logits, _ = model(*arguments, sampling=p)
            kept = valid() if len(arguments) == 4 else np.ones((T, N), bool)
            np.testing.assert_allclose(logits.data[kept], expected.data[kept], rtol=1e-10)


@EACH
def test_sampling_that_always_happens_is_running_free(kind):
    model = make(kind)
    source, target, lengths, _ = ragged()
    logits, _ = model(source, target, lengths, sampling=1.0)
    state, token = model.start(source, lengths), np.full(N, START)
    for t in range(T):
        log_probabilities, state, _ = model.step(token, state)
        np.testing.assert_allclose(
            rk.log_softmax(logits[t]).data, log_probabilities.data, rtol=1e-10
        )
        token = log_probabilities.data.argmax(-1)
    other = np.random.default_rng(5).integers(0, TARGETS, target.shape)
    np.testing.assert_array_equal(
        model(source, other, lengths, sampling=1.0)[0].data, logits.data
    )


def test_sampling_draws_for_each_row_and_step_from_the_generator():
    model = make("gru", hidden_size=16)
    source, target = np.zeros((2, 400), int), np.zeros((12, 400), int)
    for table in (model.target_embedding.weight.data, model.head.weight.data):
        table *= 5
    seen = []
    step = model._advance
    model._advance = lambda tokens, *rest: seen.append(tokens) or step(tokens, *rest)
    model.head.bias.data[3] = 1e3  # the prediction is always 3, the truth always 0
    rk.manual_seed(8)
    first = model.loss(source, target, sampling=0.3).item()
    drawn = np.array(seen)
    assert (drawn[0] == START).all()
    assert set(np.unique(drawn[1:])) == {0, 3}
    share = (drawn[1:] == 3).mean()
    np.testing.assert_allclose(share, 0.3, atol=5 * np.sqrt(0.21 / drawn[1:].size))
    assert len({row.tobytes() for row in drawn.T}) > 200
    rk.manual_seed(8)
    assert model.loss(source, target, sampling=0.3).item() == first
    rk.manual_seed(9)
    assert model.loss(source, target, sampling=0.3).item() != first


def test_schedules_are_those_of_the_paper():
    linear, exponential = scheduled_sampling.linear, scheduled_sampling.exponential
    inverse_sigmoid = scheduled_sampling.inverse_sigmoid
    assert linear(0, slope=0.01) == 0
    np.testing.assert_allclose(linear(30, slope=0.01), 0.3)
    np.testing.assert_allclose(linear(30, slope=0.01, first=0.9), 0.4)
    np.testing.assert_allclose(linear(1000, slope=0.01, floor=0.2), 0.8)
    assert exponential(0, k=0.9) == 0
    np.testing.assert_allclose(exponential(3, k=0.9), 1 - 0.9**3)
    np.testing.assert_allclose(inverse_sigmoid(0, k=50), 1 / 51)
    np.testing.assert_allclose(inverse_sigmoid(50 * np.log(50), k=50), 0.5)
    np.testing.assert_allclose(inverse_sigmoid(70, k=50), 1 - 50 / (50 + np.exp(1.4)))
    assert inverse_sigmoid(10**9, k=1) == 1
    for schedule, wrong, message in (
        (linear, {"slope": -1.0}, "slope: expected a number >= 0"),
        (linear, {"slope": 1.0, "floor": 0.5, "first": 0.4}, "floor, first"),
        (exponential, {"k": 1.0}, "k: expected a number > 0 and < 1"),
        (inverse_sigmoid, {"k": 0.5}, "k: expected a number >= 1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            schedule(1, **wrong)
        with pytest.raises(ArgumentError, match="step: expected a number >= 0"):
            schedule(-1, **{name: 1.0 if name == "slope" else 0.5 for name in list(wrong)[:1]})


# -- the whole of it ---------------------------------------------------------------------------


def test_a_tied_head_is_the_embedding():
    model = make("tied")
    assert model.head.weight is model.target_embedding.weight
    names = [name for name, _ in model.named_parameters()]
    assert "head.weight" not in names
    assert model.combine.weight.shape == (E, 3 * H)
    again = make("tied")
    again.load_state_dict(model.state_dict())
    assert again.head.weight is again.target_embedding.weight
    np.testing.assert_array_equal(again(*tokens())[0].data, model(*tokens())[0].data)
    assert model.to("float32").loss(*tokens()).dtype == np.float32


def test_dropout_acts_in_training_only():
    for kind in ("gru", "feeding"):
        model = make(kind, num_layers=2, dropout=0.5)
        rk.manual_seed(1)
        first = model.loss(*ragged()).item()
        assert model.loss(*ragged()).item() != first
        rk.manual_seed(1)
        assert model.loss(*ragged()).item() == first
        model.eval()
        assert model.loss(*ragged()).item() == model.loss(*ragged()).item()


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_acts_at_each_of_its_places(layers):
    """Alone at any of them it makes the loss random; between layers there must be two."""
    places = {"dropout": "p", "encoder": "dropout", "decoder": "dropout"}
    for place in (None, *places):
        model = make(num_layers=layers, dropout=0.5)
        for other in places.keys() - {place}:
            setattr(getattr(model, other), places[other], 0.0)
        is_random = len({model.loss(*ragged()).item() for _ in range(3)}) > 1
        assert is_random == (place == "dropout" or (place is not None and layers == 2)), place


@pytest.mark.parametrize("kind", ["gru", "two layers", "feeding lstm", "no attention"])
def test_beams_find_what_forced_decoding_scores(kind):
    """Every hypothesis has the probability that its tokens have under teacher forcing."""
    model, end = make(kind).eval(), 2
    source, _ = tokens()
    options = {"start": START, "end": end, "max_length": 5, "batch_axis": model.state_axes}
    for lengths in (None, SOURCE_LENGTHS):
        state = model.start(source, lengths)
        found = beam_search(model.step, state, beam_width=4, top=4, **options)
        greedy = greedy_search(model.step, state, **options)
        for n, hypotheses in enumerate(found):
            steps = S if lengths is None else lengths[n]
            for words, score in [*hypotheses, greedy[n]]:
                whole = [*words, end][:5]
                target = np.array(whole)[:, None]
                logits, _ = model(source[:steps, n : n + 1], target)
                picked = rk.log_softmax(logits).data[np.arange(len(whole)), 0, whole]
                np.testing.assert_allclose(score, picked.sum(), rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "gru"},
        {"cell": "lstm", "attention": "additive", "input_feeding": True},
    ],
)
def test_learns_to_reverse(options):
    rk.manual_seed(1)
    model = nn.EncoderDecoder(8, 8, 16, 32, start_token=0, **options)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    random = np.random.default_rng(0)

    def batch(count):
        """Rows of 1 to 5 of the tokens from 2 to 7; the target ends with 1."""
        lengths = random.integers(1, 6, count)
        source = random.integers(2, 8, (5, count))
        target = np.ones((6, count), int)
        for n, length in enumerate(lengths):
            target[:length, n] = source[:length, n][::-1]
        return source, target, lengths, lengths + 1

    for update in range(250):
        optimizer.zero_grad()
        sampling = scheduled_sampling.linear(update, slope=0.001, floor=0.9)
        loss = model.loss(*batch(32), sampling=sampling if update > 200 else 0.0)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    source, target, lengths, _ = batch(100)
    found = beam_search(
        model.step, model.start(source, lengths), start=0, end=1, beam_width=3, max_length=8,
        batch_axis=model.state_axes,
    )
    right = sum(
        best.tokens.tolist() == target[:length, n].tolist()
        for n, ((best,), length) in enumerate(zip(found, lengths, strict=True))
    )
    assert right >= 90


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cell": "mgu"}, ArgumentError, "cell: expected one of rnn, gru, lstm"),
        ({"attention": "cosine"}, ArgumentError, "attention: expected one of general, dot"),
        ({"attention": "dot"}, ArgumentError, "key_size: expected 7"),
        ({"attention": None, "input_feeding": True}, ArgumentError, "input_feeding: without"),
        ({"attention_size": 3}, ArgumentError, "attention_size: only the additive attention"),
        ({"attention": None, "tied": True}, ArgumentError, "tied: without attention expected"),
        ({"start_token": 8}, ArgumentError, "start_token: expected an integer from 0 to 7, got 8"),
        ({"start_token": 0.5}, ArgumentError, "start_token: expected an integer"),
        ({"start_token": True}, ArgumentError, "start_token: expected an integer .*, got True"),
        ({"hidden_size": 0}, ArgumentError, "hidden_size: expected at least 1"),
        ({"dropout": 1.5}, ArgumentError, "dropout: expected a probability"),
        ({"dtype": "int64"}, DTypeError, "dtype: expected float32 or float64"),
    ],
)
def test_impossible_models(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


@pytest.mark.parametrize("sampling", [0.0, 0.5])
def test_wrong_inputs(sampling):
    model = make()
    source, target = tokens()
    for call in (model, model.loss):
        for arguments, error, message in (
            ((source[0], target), ShapeError, r"source: expected tokens \(S, N\)"),
            ((source, target[0]), ShapeError, r"target: expected tokens \(T, N\)"),
            ((source, target[:, :2]), ShapeError, "target: expected 3 rows as source has"),
            ((source + 5, target), ArgumentError, r"source: expected tokens in \[0, 9\)"),
            ((source, target - 9), ArgumentError, r"target: expected tokens in \[0, 8\)"),
            ((source * 1.0, target), DTypeError, "source: tokens: expected integers"),
            ((source, target, [9, 1, 1]), ArgumentError, "^source_lengths: .* the steps of source"),
            ((source, target, None, [1, 1]), ShapeError, "^target_lengths: expected shape"),
            ((source, target, None, [9, 1, 1]), ArgumentError, "the steps of target, got 9"),
        ):
            with pytest.raises(error, match=message):
                call(*arguments, sampling=sampling)
        with pytest.raises(ArgumentError, match="sampling: expected a probability"):
            call(source, target, sampling=1.5)
