"""Spectral norms and radii of recurrent matrices, and the projection that bounds them."""

import numpy as np
import pytest

from rnnkit import nn
from rnnkit.errors import ArgumentError
from rnnkit.nn.utils import spectral_norm_, spectral_norms, spectral_radii

GATES = {"RNN": [""], "GRU": ["[r]", "[z]", "[n]"], "LSTM": ["[i]", "[f]", "[g]", "[o]"]}
SUFFIXES = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]


def make(kind, dtype="float64", hidden=7):
    module = getattr(nn, kind)(3, hidden, num_layers=2, bidirectional=True, dtype=dtype)
    random = np.random.default_rng(1)
    for scale, parameter in enumerate(module.parameters(), 1):
        parameter.data[...] = random.standard_normal(parameter.shape) * 0.1 * scale
    return module


def blocks(module, kind, per_gate):
    """The recurrent matrices by the names that reports give them."""
    for suffix in SUFFIXES:
        matrix = getattr(module, f"weight_hh{suffix}").data.astype(np.float64)
        if not per_gate:
            yield f"weight_hh{suffix}", matrix
        else:
            for name, part in zip(GATES[kind], np.split(matrix, len(GATES[kind])), strict=True):
                yield f"weight_hh{suffix}{name}", part


def growth(matrix):
    """The growth per factor of a product of 2^20 of them: what a spectral radius is."""
    logarithm = 0.0
    for squarings in range(20):
        size = np.linalg.norm(matrix)
        logarithm += np.log(size) / 2**squarings
        matrix = (matrix / size) @ (matrix / size)
    return np.exp(logarithm)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", GATES)
def test_reports_against_decompositions_of_another_kind(kind, dtype):
    module = make(kind, dtype)
    for per_gate in (False, True):
        expected = {
            name: np.linalg.svd(matrix)[1][0] for name, matrix in blocks(module, kind, per_gate)
        }
        found = spectral_norms(module, per_gate)
        assert list(found) == list(expected)
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-12)
    radii = spectral_radii(module)
    expected = {name: growth(matrix) for name, matrix in blocks(module, kind, True)}
    assert list(radii) == list(expected)
    np.testing.assert_allclose(list(radii.values()), list(expected.values()), rtol=1e-4)


@pytest.mark.parametrize("per_gate", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", GATES)
def test_projection_clips_singular_values_and_nothing_else(kind, dtype, per_gate):
    module = make(kind, dtype)
    before, start = spectral_norms(module, per_gate), module.state_dict()
    bound = float(np.median(list(before.values())))
    matrices = dict(blocks(module, kind, per_gate))
    assert spectral_norm_(module, bound, per_gate) == before
    atol = 1e-12 if dtype == "float64" else 3e-6
    touched = 0
    for name, after in blocks(module, kind, per_gate):
        left, values, right = np.linalg.svd(matrices[name], full_matrices=False)
        if values[0] <= bound:
            np.testing.assert_array_equal(after, matrices[name])
        else:
            touched += 1
            np.testing.assert_allclose(after, left * np.minimum(values, bound) @ right, atol=atol)
    assert 0 < touched < len(before)
    for name, value in module.state_dict().items():
        if "weight_hh" not in name:
            np.testing.assert_array_equal(value, start[name])
    assert max(spectral_norms(module, per_gate).values()) <= bound * (1 + atol)


def test_an_orthogonal_network_has_norms_and_radii_of_its_gain():
    module = nn.init.recurrent_orthogonal_(nn.GRU(3, 5, dtype="float64"), gain=0.9)
    for report in (spectral_norms(module, per_gate=True), spectral_radii(module)):
        np.testing.assert_allclose(list(report.values()), 0.9)
    np.testing.assert_allclose(spectral_norms(module)["weight_hh_l0"], 0.9 * np.sqrt(3))


def test_a_bound_of_zero_and_matrices_that_are_not_finite():
    module = make("LSTM")
    module.weight_hh_l1.data[0, 0] = np.nan
    broken = module.weight_hh_l1.data.copy()
    norms = spectral_norm_(module, 0.0)
    assert np.isnan(norms["weight_hh_l1"])
    assert np.isnan(spectral_radii(module)["weight_hh_l1[i]"])
    np.testing.assert_array_equal(module.weight_hh_l1.data, broken)
    np.testing.assert_allclose(module.weight_hh_l0.data, 0.0, atol=1e-14)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e9, 1e25, 1e160, 1e300])
def test_matrices_of_any_size(size):
    module = make("GRU")
    start = module.weight_hh_l0.data.copy()
    expected = np.linalg.svd(start)[1][0]
    module.weight_hh_l0.data[...] = size * start
    np.testing.assert_allclose(spectral_norms(module)["weight_hh_l0"] / size, expected, rtol=1e-12)
    bound = min(0.5 * expected * size, 1.0)
    spectral_norm_(module, bound)
    found = np.linalg.svd(module.weight_hh_l0.data)[1]
    np.testing.assert_allclose(found[0], bound, rtol=1e-12)


def test_the_next_call_runs_with_the_projected_matrix():
    module = make("GRU")
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    module(x)
    spectral_norm_(module, 0.3)
    twin = make("GRU")
    twin.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(module(x)[0].data, twin(x)[0].data)


def test_models_and_refusals():
    model = nn.Sequential(nn.Linear(3, 3), nn.RNN(3, 4))
    assert list(spectral_norms(model)) == ["1.weight_hh_l0"]
    assert list(spectral_norms(nn.LSTMCell(3, 4))) == ["weight_hh"]
    for call in (spectral_norms, spectral_radii, lambda module: spectral_norm_(module, 1.0)):
        with pytest.raises(ArgumentError, match=r"module: expected an RNN.* got Linear"):
            call(model[0])
    for bound in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="max_norm: expected a number >= 0"):
            spectral_norm_(model, bound)


def test_a_frozen_matrix_is_not_bounded():
    module = make("RNN").freeze()
    spectral_norm_(module, 1e9)
    with pytest.raises(ArgumentError, match="weight_hh_l0: is frozen; unfreeze"):
        spectral_norm_(module, 1e-3)
    # None is bounded where one cannot be.
    model = nn.Sequential(make("RNN"), module)
    before = model[0].weight_hh_l0.data.copy()
    with pytest.raises(ArgumentError, match=r"1\.weight_hh_l0: is frozen"):
        spectral_norm_(model, 1e-3)
    np.testing.assert_array_equal(model[0].weight_hh_l0.data, before)
