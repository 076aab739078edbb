"""Models of the tasks: dropout in its places; classifying, tagging: no padding, exact losses."""

import math

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.data import RaggedBatches
from rnnkit.errors import ArgumentError
from rnnkit.train import LanguageModel, SequenceClassifier, SequenceTagger, evaluate
from rnnkit.train.models.classifier import POOLINGS
from rnnkit.train.models.composer import FrameComposer
from rnnkit.train.models.forecaster import Forecaster
from rnnkit.train.models.recurrent_encoder import RecurrentEncoder

SIZES = {"layers": 2, "hidden": 5, "embedding": 3, "cell": "gru"}


def make_sequences(symbols, lengths=(4, 1, 7)):
    random = np.random.default_rng(1)
    if symbols:
        return [random.integers(0, 6, length) for length in lengths]
    return [random.normal(size=(length, 2)).astype(np.float32) for length in lengths]


def only_batch(sequences, targets):
    return next(RaggedBatches(sequences, targets, batch_size=9, bucket=False).epoch())


def classifier(symbols=True, **options):
    rk.manual_seed(2)
    return SequenceClassifier(6 if symbols else 2, 3, symbols=symbols, **SIZES, **options)


def tagger(symbols=True, **options):
    rk.manual_seed(2)
    return SequenceTagger(6 if symbols else 2, 3, symbols=symbols, **SIZES, **options)


@pytest.mark.parametrize("backend", ["auto", "python"])
@pytest.mark.parametrize("symbols", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_sequence_is_classified_in_a_batch_as_alone(pooling, bidirectional, symbols, backend):
    model = classifier(symbols, pooling=pooling, bidirectional=bidirectional)
    sequences = make_sequences(symbols)
    batch = only_batch(sequences, [0, 1, 2])
    with rk.backend(backend), rk.no_grad():
        together = model(batch.inputs, batch.lengths).data
        alone = [model(each[:, None]).data[0] for each in sequences]
    assert together.shape == (3, 3)
    assert together == pytest.approx(np.array(alone), abs=1e-6)
    assert abs(together[0] - together[2]).max() > 1e-3


@pytest.mark.parametrize("symbols", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_sequence_is_tagged_in_a_batch_as_alone(bidirectional, symbols):
    model = tagger(symbols, bidirectional=bidirectional)
    sequences = make_sequences(symbols)
    batch = only_batch(sequences, None)
    with rk.no_grad():
        together = model(batch.inputs, batch.lengths).data
        for row, each in enumerate(sequences):
            alone = model(each[:, None]).data[:, 0]
            assert together[: len(each), row] == pytest.approx(alone, abs=1e-6)


def test_what_the_poolings_make_of_the_outputs():
    """Those without parameters differ in nothing but what they do to the same outputs."""
    x = make_sequences(True, [7])[0][:, None]
    with rk.no_grad():
        models = {name: classifier(pooling=name) for name in ("mean", "max")}
        for name, model in models.items():
            y = model.encoder(x).data[:, 0]
            pooled = y.mean(0) if name == "mean" else y.max(0)
            expected = pooled @ model.head.weight.data.T + model.head.bias.data
            assert model(x).data[0] == pytest.approx(expected, abs=1e-6)
        last = classifier(pooling="last")
        y = last.encoder(x).data[:, 0]
        pooled = np.concatenate([y[-1, :5], y[0, 5:]])
        expected = pooled @ last.head.weight.data.T + last.head.bias.data
        assert last(x).data[0] == pytest.approx(expected, abs=1e-6)


def log_shares(scores):
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


@pytest.mark.parametrize("weights", [None, np.array([0.5, 2.0, 1.25], np.float32)])
def test_the_losses_are_means_over_sequences_and_over_valid_steps(weights):
    factors = np.ones(3) if weights is None else weights
    sequences = make_sequences(True)

    model = classifier()
    model.class_weights = weights
    batch = only_batch(sequences, [2, 0, 1])
    with rk.no_grad():
        shares = log_shares(model(batch.inputs, batch.lengths).data.astype(np.float64))
        loss = model.loss(batch)
    picked = -shares[range(3), batch.targets] * factors[batch.targets]
    assert loss.count == 3
    assert loss.value.item() == pytest.approx(picked.mean(), rel=1e-5)
    assert loss.metrics == {"accuracy": (shares.argmax(1) == batch.targets).sum()}

    model = tagger()
    model.class_weights = weights
    tags = [np.arange(len(each)) % 3 for each in sequences]
    batch = only_batch(sequences, tags)
    with rk.no_grad():
        shares = log_shares(model(batch.inputs, batch.lengths).data.astype(np.float64))
        loss = model.loss(batch)
    picked = [
        -shares[t, row, tag] * factors[tag]
        for row, each in enumerate(tags) for t, tag in enumerate(each)
    ]  # fmt: skip
    found = [shares[: len(each), row].argmax(-1) for row, each in enumerate(tags)]
    right = (np.concatenate(found) == np.concatenate(tags)).sum()
    assert loss.count == 12
    assert loss.value.item() == pytest.approx(np.mean(picked), rel=1e-5)
    assert loss.metrics == {"accuracy": right}


@pytest.mark.parametrize("make", [classifier, tagger])
def test_the_gradient_is_that_of_finite_differences(make):
    model = make().to(np.float64)
    sequences = make_sequences(True)
    tags = [np.arange(len(each)) % 3 for each in sequences]
    batch = only_batch(sequences, [2, 0, 1] if make is classifier else tags)
    model.loss(batch).value.backward()
    random = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        direction = random.normal(size=parameter.shape)
        values = []
        with rk.no_grad():
            for sign in (1, -1):
                parameter.data += sign * 1e-6 * direction
                values.append(model.loss(batch).value.item())
                parameter.data -= sign * 1e-6 * direction
        slope = (values[0] - values[1]) / 2e-6
        assert (parameter.grad.data * direction).sum() == pytest.approx(slope, abs=1e-8), name


def test_evaluation_weighs_every_sequence_the_same_and_drops_nothing_out():
    model = classifier(dropout=0.5)
    sequences = make_sequences(True, (3, 5, 2, 9, 4))
    targets = np.array([0, 1, 2, 1, 0])
    whole = evaluate(model, RaggedBatches(sequences, targets, batch_size=5))
    parts = evaluate(model, RaggedBatches(sequences, targets, batch_size=2))
    assert model.training
    assert parts == pytest.approx(whole, rel=1e-5)
    assert whole["loss"] < 3 * math.log(3)


FRAMES = np.random.default_rng(3).normal(size=(6, 4, 88)).astype(np.float32)
IDS = np.arange(24).reshape(6, 4) % 5


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("make", "x", "places"),
    [
        (lambda **how: RecurrentEncoder(5, symbols=True, embedding=3, **how), IDS, "dropout"),
        (lambda **how: RecurrentEncoder(88, symbols=False, **how), FRAMES, "dropout"),
        (lambda **how: LanguageModel(5, embedding=3, **how), IDS, "dropout"),
        (lambda **how: Forecaster(88, [0, 2], 3, **how), FRAMES, "dropout"),
        (lambda **how: FrameComposer(input_dropout=0.5, **how), FRAMES, "dropout input_dropout"),
    ],
)
def test_dropout_acts_at_each_of_its_places(make, x, places, layers):
    """Alone at any of them it makes the outputs random; between layers there must be two."""
    places = {**dict.fromkeys(places.split(), "p"), "recurrent": "dropout"}
    for place in (None, *places):
        model = make(cell="gru", hidden=8, layers=layers, dropout=0.5)
        for other in places.keys() - {place}:
            setattr(getattr(model, other), places[other], 0.0)
        found = [model(x) for _ in range(3)]
        sums = {float(y[0].data.sum() if isinstance(y, tuple) else y.data.sum()) for y in found}
        expected = layers == 2 if place == "recurrent" else place is not None
        assert (len(sums) > 1) == expected, place


def test_unknown_names_are_refused():
    with pytest.raises(ArgumentError, match=r"pooling: expected 'last', 'mean'.*got 'median'"):
        classifier(pooling="median")
    with pytest.raises(ArgumentError, match="cell: expected 'rnn', 'gru' or 'lstm'"):
        SequenceTagger(6, 3, symbols=True, cell="transformer")
