"""What each shipped cell is for: the property its paper promises, held to numbers."""

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import cells, nn
from rnnkit.cells.lmu import legendre
from rnnkit.cells.matrix_exp import matrix_exp


def numpy(tensor):
    return tensor.detach().numpy()


def run(cell, x, state=None):
    with rk.no_grad():
        y, final = nn.Recurrent(cell)(rk.tensor(x), state)
    return y.numpy(), [each.numpy() for each in cell.unpack_state(final)]


def double(kind, *sizes, seed=1, **options):
    rk.manual_seed(seed)
    return kind(*sizes, dtype="float64", **options)


@pytest.fixture
def random():
    return np.random.default_rng(12)


# The exponential and the orthogonal RNN


@pytest.mark.parametrize("size", [1, 2, 7, 16])
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 16.0])
def test_the_exponential_of_a_matrix(size, scale):
    A = np.random.default_rng(size).standard_normal((size, size))
    A = A - A.T
    A *= scale / max(np.linalg.norm(A, 2), 1e-9)
    values, V = np.linalg.eigh(1j * A)
    expected = ((V * np.exp(-1j * values)) @ V.conj().T).real
    np.testing.assert_allclose(matrix_exp(rk.tensor(A)).numpy(), expected, rtol=0, atol=1e-12)


def test_the_exponential_of_any_matrix_and_its_derivative():
    A = np.array([[1.0, 2.0], [0.0, -1.0]])
    e = np.e
    expected = [[e, e - 1 / e], [0, 1 / e]]
    np.testing.assert_allclose(matrix_exp(rk.tensor(A)).numpy(), expected, rtol=1e-13, atol=1e-15)
    full = rk.tensor(np.random.default_rng(0).standard_normal((3, 3)), requires_grad=True)
    assert rk.gradcheck(matrix_exp, [full])
    assert rk.gradgradcheck(matrix_exp, [full])


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_exponential_of_a_float32_matrix_is_exact_to_rounding(scale):
    """An error of the squarings would be multiplied by the steps of a recurrence."""
    A = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    A = (A - A.T) * np.float32(scale)
    exact = matrix_exp(rk.tensor(A.astype(np.float64))).numpy()
    assert np.array_equal(matrix_exp(rk.tensor(A)).numpy(), exact.astype(np.float32))


@pytest.mark.parametrize("H", [1, 6, 33])
def test_the_recurrent_matrix_of_an_exp_rnn_is_a_rotation(H):
    cell = double(cells.ExpRNNCell, 3, H)
    for weights in (None, np.random.default_rng(H).standard_normal((H, H))):
        if weights is not None:
            cell.weight_skew.data[...] = weights
        B = numpy(cell.recurrent_weight())
        np.testing.assert_allclose(B @ B.T, np.eye(H), rtol=0, atol=1e-10)
        assert np.linalg.det(B) == pytest.approx(1)
    assert H == 1 or abs(B[0, 1]) > 0.01


def test_an_exp_rnn_keeps_a_memory_as_it_is(random):
    cell = double(cells.ExpRNNCell, 3, 8, bias=False)
    h = random.standard_normal((1, 2, 8))
    y, _ = run(cell, np.zeros((500, 2, 3)), h)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), [np.linalg.norm(h[0], axis=-1)] * 500)
    assert not np.allclose(y[-1], h[0])


# sLSTM


def unstabilized(cell, x):
    """Equations 8 to 14 as they stand before the stabiliser."""
    W, U, b = cell.weight_ih.data, cell.weight_hh.data, cell.bias_ih.data + cell.bias_hh.data
    h = c = n = np.zeros((x.shape[1], cell.hidden_size))
    outputs = []
    for now in x:
        i, f, g, o = np.split(now @ W.T + h @ U.T + b, 4, 1)
        f = np.exp(f) if cell.forget == "exp" else 1 / (1 + np.exp(-f))
        c = f * c + np.exp(i) * np.tanh(g)
        n = f * n + np.exp(i)
        h = c / n / (1 + np.exp(-o))
        outputs.append(h)
    return np.stack(outputs), c, n


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
@pytest.mark.parametrize("spread", [1.0, 20.0])
def test_the_stabilizer_of_an_slstm_changes_nothing(forget, spread, random):
    cell = double(cells.SLSTMCell, 4, 5, forget=forget)
    cell.weight_ih.data[...] *= spread
    x = random.standard_normal((9, 3, 4))
    y, (_, c, n, m) = run(cell, x)
    expected, right_c, right_n = unstabilized(cell, x)
    np.testing.assert_allclose(y, expected, rtol=1e-11)
    np.testing.assert_allclose(c[0] * np.exp(m[0]), right_c, rtol=1e-11)
    np.testing.assert_allclose(n[0] * np.exp(m[0]), right_n, rtol=1e-11)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
@pytest.mark.parametrize("gate", [2000.0, -2000.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_slstm_is_finite_where_its_exponentials_are_not(forget, gate, dtype, random):
    rk.manual_seed(1)
    cell = cells.SLSTMCell(4, 5, forget=forget, dtype=dtype)
    cell.bias_ih.data[:5] = gate
    x = rk.tensor(random.standard_normal((30, 3, 4)).astype(dtype) * 50, requires_grad=True)
    y, final = nn.Recurrent(cell)(x)
    y.sum().backward()
    assert np.abs(numpy(y)).max() <= 1
    assert np.abs(numpy(y)).max() > 0.01
    for array in (*map(numpy, final), x.grad.numpy(), cell.weight_ih.grad.numpy()):
        assert np.isfinite(array).all()


# Clocks


def test_the_modules_of_a_clockwork_rnn_hold_between_their_ticks(random):
    cell = double(cells.ClockworkRNNCell, 3, 10, periods=(1, 2, 5))
    y, (_, clock) = run(cell, random.standard_normal((21, 2, 3)))
    modules = [slice(0, 4), slice(4, 7), slice(7, 10)]
    for own, period in zip(modules, (1, 2, 5), strict=True):
        before = np.concatenate([np.zeros((1, *y.shape[1:])), y])[:-1, :, own]
        for t in range(21):
            changed = y[t, :, own] != before[t]
            assert changed.all() if t % period == 0 else not changed.any(), (t, period)
    np.testing.assert_array_equal(clock[0, 0], [0] * 4 + [1] * 3 + [1] * 3)


def test_the_slow_modules_of_a_clockwork_rnn_do_not_hear_the_fast(random):
    cell = double(cells.ClockworkRNNCell, 3, 4, periods=(1, 3))
    y, _ = nn.Recurrent(cell)(rk.tensor(random.standard_normal((7, 2, 3))))
    y.square().sum().backward()
    used = cell.weight_hh.grad.numpy() != 0
    np.testing.assert_array_equal(used, [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])


def test_a_phased_lstm_without_a_leak_moves_only_where_it_is_open(random):
    cell = double(cells.PhasedLSTMCell, 3, 40, leak=0.0)
    y, (_, _, t) = run(cell, random.standard_normal((60, 2, 3)))
    assert (t == 60).all()
    before = np.concatenate([np.zeros((1, 2, 40)), y])[:-1]
    time = np.arange(1, 61)[:, None]
    phase = np.mod(time - cell.shift.data, cell.period.data) / cell.period.data
    moved = (y != before).all(1)
    np.testing.assert_array_equal(moved, phase < 0.05)
    assert 0.01 < moved.mean() < 0.15


def test_a_timed_phased_lstm_reads_the_time(random):
    timed = double(cells.PhasedLSTMCell, 4, 9, timed=True)
    counting = double(cells.PhasedLSTMCell, 3, 9)
    counting.load_state_dict(timed.state_dict())
    x = random.standard_normal((12, 2, 3))

    def at(times):
        return np.concatenate([x, np.broadcast_to(times[:, None, None], (12, 2, 1))], 2)

    steps = np.arange(1.0, 13.0)
    np.testing.assert_array_equal(run(timed, at(steps))[0], run(counting, x)[0])
    uneven, (_, _, t) = run(timed, at(steps**2 / 7))
    assert not np.allclose(uneven, run(counting, x)[0])
    np.testing.assert_array_equal(t, np.full((1, 2, 1), 144 / 7))


# Normalisation


def test_normalized_cells_do_not_see_the_scale_of_their_weights(random):
    x = random.standard_normal((6, 3, 4))
    for kind in (cells.LayerNormLSTMCell, cells.LayerNormGRUCell, cells.RMSNormLSTMCell):
        cell = double(kind, 4, 8, eps=0.0)
        start = cell.pack_state(tuple(random.standard_normal((1, 3, 8)) for _ in cell.state_names))
        y, _ = run(cell, x, start)
        cell.weight_ih.data[...] *= 3
        cell.weight_hh.data[...] *= 0.2
        np.testing.assert_allclose(run(cell, x, start)[0], y, rtol=1e-10)
        cell.gain_hh.data[...] *= 2
        assert not np.allclose(run(cell, x, start)[0], y)


def test_layer_normalization_takes_out_a_shift_and_rms_does_not(random):
    x = random.standard_normal((6, 3, 4))
    for kind, same in ((cells.LayerNormLSTMCell, True), (cells.RMSNormLSTMCell, False)):
        cell = double(kind, 4, 8)
        y, _ = run(cell, x)
        cell.weight_ih.data[...] += random.standard_normal(4)
        assert np.allclose(run(cell, x)[0], y, rtol=1e-9) is same


def test_normalizations_begin_as_the_identity():
    for kind in (cells.LayerNormLSTMCell, cells.LayerNormGRUCell, cells.LiGRUCell):
        for name, value in kind(3, 5).state_dict().items():
            if name.startswith(("gain", "bias")):
                assert (value == name.startswith("gain")).all(), name
            else:
                assert 0.2 < np.abs(value).max() <= 5**-0.5, name


# Element-wise recurrences


def test_the_units_of_an_ind_rnn_remember_independently(random):
    cell = double(cells.IndRNNCell, 3, 6, nonlinearity="tanh")
    x, h = random.standard_normal((5, 2, 3)), random.standard_normal((1, 2, 6))
    y, _ = run(cell, x, h)
    moved = h.copy()
    moved[..., 2] += 1
    changed = run(cell, x, moved)[0] != y
    np.testing.assert_array_equal(changed.any((0, 1)), np.arange(6) == 2)


def test_a_qrnn_is_a_convolution_of_width_two(random):
    cell = double(cells.QRNNCell, 3, 4)
    x = random.standard_normal((6, 2, 3))
    shifted = np.concatenate([np.zeros((1, 2, 3)), x[:-1]])
    pre = x @ cell.weight_ih.data.T + shifted @ cell.weight_before.data.T + cell.bias_ih.data
    z, f, o = np.split(pre, 3, 2)
    c, expected = np.zeros((2, 4)), []
    for t in range(6):
        keep = 1 / (1 + np.exp(-f[t]))
        c = keep * c + (1 - keep) * np.tanh(z[t])
        expected.append(c / (1 + np.exp(-o[t])))
    np.testing.assert_allclose(run(cell, x)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [cells.MinGRUCell, cells.MinLSTMCell])
def test_a_positive_candidate_keeps_the_state_positive(kind, random):
    x = random.standard_normal((50, 4, 3)) * 5
    assert run(double(kind, 3, 8, positive=True), x)[0].min() > 0
    assert run(double(kind, 3, 8), x)[0].min() < 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gates_of_a_min_lstm_add_up_where_both_underflow(dtype):
    cell = cells.MinLSTMCell(1, 2, dtype=dtype)
    cell.weight_ih.data[...] = 0
    cell.bias_ih.data[...] = [-1000, -1001, -1001, -1000, 0.5, 0.5]
    h = np.full((1, 1, 2), 2.0, dtype)
    y, _ = run(cell, np.ones((1, 1, 1), dtype), h)
    share = 1 / (1 + np.exp(-1.0))
    expected = [share * 2 + (1 - share) * 0.5, (1 - share) * 2 + share * 0.5]
    np.testing.assert_allclose(y[0, 0], expected, rtol=1e-5)


# Linear recurrences


def test_the_eigenvalues_of_an_lru_lie_in_their_ring():
    cell = double(cells.LRUCell, 3, 4, state_size=2000, r_min=0.6, r_max=0.9, max_phase=0.5)
    re, im = map(numpy, cell.eigenvalues())
    radius, angle = np.hypot(re, im), np.arctan2(im, re)
    assert 0.6 <= radius.min() < 0.61
    assert 0.89 < radius.max() <= 0.9
    assert 0 < angle.min() < 0.01
    assert 0.49 < angle.max() <= 0.5
    np.testing.assert_allclose(np.exp(2 * cell.gamma.data) + radius**2, 1)
    # Uniform by area: half of them outside the radius that halves the ring.
    assert np.mean(radius > ((0.36 + 0.81) / 2) ** 0.5) == pytest.approx(0.5, abs=0.05)
    everywhere = double(cells.LRUCell, 3, 4, state_size=2000)
    assert all(np.isfinite(value).all() for value in everywhere.state_dict().values())


def test_an_lru_is_linear(random):
    cell = double(cells.LRUCell, 3, 5, state_size=4)
    a, b = random.standard_normal((2, 9, 2, 3))
    sums = 2 * run(cell, a)[0] - 3 * run(cell, b)[0]
    np.testing.assert_allclose(run(cell, 2 * a - 3 * b)[0], sums, atol=1e-12)


def test_an_lmu_holds_a_window_of_its_input():
    """Legendre coefficients give back the input of any moment in the window (equation 3)."""
    cell = double(cells.LMUCell, 1, 2, order=12, window=60.0)
    for name in ("encoder_h", "encoder_m"):
        getattr(cell, name).data[...] = 0
    cell.encoder_x.data[...] = 1
    signal = np.sin(np.arange(200) / 11.0)
    _, (_, m) = run(cell, signal[:, None, None])
    for ago in (0.5, 15.5, 30.5, 55.5):
        series = np.polynomial.legendre.legval(2 * ago / 60 - 1, m[0, 0])
        # The input is held over each step: its mean moment is half a step back.
        assert series == pytest.approx(np.sin((199 - (ago - 0.5)) / 11.0), abs=0.03)


@pytest.mark.parametrize(("order", "window"), [(1, 1.0), (6, 3.0), (32, 100.0), (64, 20.0)])
def test_the_memory_of_an_lmu_keeps_a_constant(order, window):
    """A constant input is the first polynomial alone, and stays that."""
    A, B = legendre(order, window)
    m = np.eye(order)[0]
    np.testing.assert_allclose(A @ m + B, m, atol=1e-9)


# Fast weights


def test_a_delta_net_corrects_what_a_key_stands_for(random):
    cell = double(cells.DeltaNetCell, 3, 4, key_size=5, bias=True)
    # The query is the key, and the rate all but 1.
    cell.weight_ih.data[5:10] = cell.weight_ih.data[:5]
    cell.bias_ih.data[5:10] = cell.bias_ih.data[:5]
    cell.bias_ih.data[-1] = 30
    x = random.standard_normal((1, 2, 3)).repeat(200, 0)
    y, _ = run(cell, x, random.standard_normal((1, 2, 4, 5)))
    v = x[0] @ cell.weight_ih.data[10:14].T + cell.bias_ih.data[10:14]
    np.testing.assert_allclose(y[-1], v, rtol=1e-8)
    assert not np.allclose(y[0], v, rtol=0.01)


def test_linear_attention_is_attention(random):
    cell = double(cells.LinearAttentionCell, 3, 4, key_size=5)
    x = random.standard_normal((7, 2, 3))
    k, q, v = np.split(x @ cell.weight_ih.data.T, [5, 10], 2)
    phi = [np.where(a > 0, a + 1, np.exp(a)) for a in (k, q)]
    scores = np.einsum("snk,tnk->nts", *phi) * np.tri(7)
    weights = scores / scores.sum(2, keepdims=True)
    np.testing.assert_allclose(run(cell, x)[0], np.einsum("nts,snh->tnh", weights, v), rtol=1e-12)


# Nested and multiplicative


def test_the_input_of_a_multiplicative_lstm_chooses_the_transition(random):
    """Where the input's factor is zero, the hidden state has no say."""
    cell = double(cells.MultiplicativeLSTMCell, 3, 4)
    cell.weight_mx.data[:, 0] = 0
    only_first = np.array([[1.0, 0, 0]])
    for x, same in ((only_first, True), (np.ones((1, 3)), False)):
        c = random.standard_normal((1, 4))
        a, b = (numpy(cell(x, (random.standard_normal((1, 4)), c))[0]) for _ in range(2))
        assert np.array_equal(a, b) is same


def test_the_memory_of_a_nested_lstm_is_bounded(random):
    cell = double(cells.NestedLSTMCell, 3, 4)
    # The inner LSTM adds up one for each step, and forgets nothing.
    cell.inner_bias_ih.data[:12] = 30
    _, (_, c, inner) = run(cell, random.standard_normal((40, 2, 3)))
    np.testing.assert_allclose(inner, np.full((1, 2, 4), 40.0))
    assert 0 < c.min() <= c.max() < 1


# Parameters that do not begin in U(-1/sqrt(H), 1/sqrt(H)): the least and the greatest value.
BEGINS = {
    ("exp_rnn", "bias_hh"): (-0.01, 0.01),
    ("exp_rnn", "weight_skew"): (-np.pi, np.pi),
    ("ind_rnn", "weight_hh"): (0, 1),
    ("li_gru", "gain_ih"): (1, 1),
    ("li_gru", "bias_ih"): (0, 0),
    ("lmu", "encoder_m"): (0, 0),
    ("phased_lstm", "open"): (0.05, 0.05),
    ("sru", "weight_ih"): (-(3 / 30) ** 0.5, (3 / 30) ** 0.5),
    ("sru", "weight_cc"): (-(3 / 400) ** 0.5, (3 / 400) ** 0.5),
    ("sru", "bias_ih"): (0, 0),
}
NOT_UNIFORM = {("lru", None), ("phased_lstm", "period"), ("phased_lstm", "shift")}


@pytest.mark.parametrize("name", cells.CELLS)
def test_parameters_begin_as_they_are_said_to(name):
    cell = cells.CELLS[name](30, 400)
    for path, parameter in cell.named_parameters():
        values = parameter.data
        assert np.isfinite(values).all(), path
        if {(name, path), (name, None)} & NOT_UNIFORM:
            continue
        usual = (-0.05, 0.05)
        if cell.short_name.startswith(("LayerNorm", "RMSNorm")) and path[:4] in ("gain", "bias"):
            usual = (path.startswith("gain"),) * 2
        low, high = BEGINS.get((name, path), usual)
        slack = 0.05 * (high - low) + 1e-6
        assert low - 1e-6 <= values.min() <= low + slack, path
        assert high - slack <= values.max() <= high + 1e-6, path
    if name == "exp_rnn":
        pairs = np.zeros((400, 400), bool)
        pairs[np.arange(0, 399, 2), np.arange(1, 400, 2)] = True
        np.testing.assert_array_equal(cell.weight_skew.data != 0, pairs)
