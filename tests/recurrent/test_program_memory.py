"""States that a step hands on as they are, such as what an attention looks at: without a copy."""

import numpy as np
import pytest
from recurrent_contract import last_layer

import rnnkit as rk
from rnnkit import nn, ops
from rnnkit.nn.attention import Memory
from rnnkit.recurrent import run_layer
from rnnkit.recurrent.held import held_by
from rnnkit.recurrent.program.run import traced

pytestmark = pytest.mark.usefixtures("native")

T, N, S, K, I, H, A = 7, 5, 6, 4, 3, 5, 2


class Decoder(rk.Cell):
    """A GRU that reads, beside its input, what its state before the step finds in a memory."""

    state_names = ("h", "keys", "values", "valid")

    def __init__(self, attention):
        super().__init__(I, H)
        self.attention = attention
        self.inner = rk.cells.GRUCell(I + K, H, dtype="float64")
        sizes = {"AdditiveAttention": A, "MultiplicativeAttention": H}
        self.width = sizes[type(attention).__name__]

    @property
    def state_shapes(self):
        return (H,), (S, self.width), (S, K), (S,)

    def step(self, x, state):
        h, keys, values, valid = state
        context, _ = self.attention(h, Memory(keys, values, valid > 0))
        y, (h,) = self.inner.step(ops.cat([x, context], -1), (h,))
        return y, (h, keys, values, valid)


class Kept(rk.Cell):
    """h' = tanh(x W^T + m h) of a state m that stays, in two places."""

    state_names = ("m", "h", "n")

    def __init__(self, dtype="float64"):
        super().__init__(I, H)
        self.make_parameters(dtype)

    def parameter_shapes(self):
        return {"W": (H, I)}

    @property
    def state_shapes(self):
        return (2, H), (H,), (H,)

    def step(self, x, state):
        m, h, n = state
        h = ops.tanh(x @ self.W.T + (m * h.unsqueeze(1)).sum(1) + n * n)
        return h, (m, h, n.detach())


ATTENTIONS = {
    "additive": lambda: nn.AdditiveAttention(H, K, A, dtype="float64"),
    "general": lambda: nn.MultiplicativeAttention(H, K, dtype="float64"),
}
RESETS = np.random.default_rng(5).random((T, N)) < 0.3
HOW = {
    "plain": {},
    "ragged": {"lengths": [7, 3, 0, 5, 7]},
    "with resets": {"reset": RESETS},
    "ragged, with resets": {"lengths": [2, 7, 6, 0, 4], "reset": RESETS},
}


def randn(*shape, seed=0):
    array = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return rk.tensor(array, requires_grad=True)


def same(both):
    for actual, expected in zip(*both, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_a_decoder_attends_natively(kind, how):
    rk.manual_seed(0)
    cell = Decoder(ATTENTIONS[kind]())
    network = nn.Recurrent(cell)
    both = []
    for backend in ("auto", "python"):
        read, x, h = randn(S, N, K), randn(T, N, I), randn(1, N, H)
        keys, values, valid = cell.attention.memory(read, None, [6, 2, 4, 0, 1])
        memory = [each.unsqueeze(0) for each in (keys, values, valid.astype("float64"))]
        with rk.backend(backend):
            y, (last, *after) = network(x, (h, *memory), **HOW[how])
            assert last_layer().path == ("program" if backend == "auto" else "python")
        given = [x, h, read, *network.parameters()]
        loss = (y * y).sum() + last.sin().sum() + sum((each * each).sum() for each in after[:2])
        gradients = rk.grad(loss, given)
        both.append([each.data for each in (y, last, *after, *gradients)])
    assert all(each.any() for each in both[0])
    same(both)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_what_is_handed_on(how, given, dtype, threads):
    rk.manual_seed(0)
    cell, both = Kept(dtype), []
    more = {**HOW[how]}
    for backend in ("native", "python"):
        x, W = rk.tensor(randn(T, N, I).data, dtype, requires_grad=True), cell.W
        states = [
            rk.tensor(randn(1, N, *shape, seed=1).data, dtype, requires_grad=True)
            for shape in cell.state_shapes
        ]
        wanted = [x, W, *states]
        if given and "reset" in more:
            more["reset_state"] = restart = [
                rk.tensor(randn(1, N, *shape, seed=2).data, dtype, requires_grad=True)
                for shape in cell.state_shapes
            ]
            wanted += restart
        results = []
        for n in (1, 2):
            threads(n)
            with rk.backend(backend):
                y, after, steps = run_layer((cell,), x, states, return_steps=True, **more)
            loss = (y * y).sum() + sum((each * each * each).sum() for each in (*after, *steps))
            gradients = rk.grad(loss, wanted)
            results.append([each.data for each in (y, *after, *steps, *gradients)])
        for one, two in zip(*results, strict=True):
            np.testing.assert_array_equal(one, two)
        both.append(results[0])
    for actual, expected in zip(*both, strict=True):
        tolerance = 1e-11 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=10 * tolerance)


def test_segments_of_a_budget_hand_on_too():
    cell, reset = Kept(), np.random.default_rng(1).random((600, N)) < 0.01
    found = []
    for memory in ("full", 500_000):
        x, m = randn(600, N, I), randn(1, N, 2, H, seed=1)
        y, after = run_layer(
            (cell,), x, [m, randn(1, N, H), randn(1, N, H)], reset=reset, memory=memory
        )
        gradients = rk.grad((y * y).sum() + after[0].sin().sum(), [x, m, cell.W])
        found.append([each.data for each in (y, *after, *gradients)])
    assert "segments" in last_layer().reason
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_what_is_handed_on_is_not_kept():
    cell = Kept()
    network = nn.Recurrent(cell)
    network(randn(T, N, I))[0].sum().backward()
    for compiled in traced(cell, held_by(cell)).compiled.values():
        assert sum(value.size for value in compiled.kept.fields) <= H
    listing = network.program()
    assert "m' = m" in str(listing)
    assert not {"m", "n"} & {value.name for value in listing.stored}


def test_a_stream_of_steps_leaves_the_memory_where_it_is():
    cell = Decoder(ATTENTIONS["additive"]())
    network = nn.Recurrent(cell).eval()
    x, read = randn(T, N, I), randn(S, N, K)
    keys, values, valid = cell.attention.memory(read, None, [6, 2, 4, 0, 1])
    memory = [each.detach().unsqueeze(0) for each in (keys, values, valid.astype("float64"))]
    h = randn(1, N, H).detach()
    y, after = network(x, (h, *memory))
    stepper = network.stream(batch_size=N)
    for block in (1, 3):
        stepper.state = (h, *memory)
        pieces = [x.data[t : t + block] for t in range(0, T, block)]
        streamed = np.concatenate([stepper(each) for each in pieces])
        np.testing.assert_array_equal(streamed, y.data)
        for actual, expected in zip(stepper.state, after, strict=True):
            np.testing.assert_array_equal(actual, expected.data)
