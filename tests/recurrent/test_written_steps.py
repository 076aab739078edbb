"""Steps as people write them, after papers: natively as on the tape, with all gradients."""

import numpy as np
import pytest
from recurrent_contract import last_layer

import rnnkit as rk
from rnnkit import nn, ops
from rnnkit.ops import linear, sigmoid, softmax, tanh

pytestmark = pytest.mark.usefixtures("native")

T, N, I, H = 5, 3, 3, 5
WRITTEN = []


class Written(rk.Cell):
    """A cell of which its parameters' ``shapes``, those of its states and the step are given."""

    def __init_subclass__(cls, shapes, states=None, size=H):
        cls.shapes, cls.states, cls.size = shapes, states or {"h": (H,)}, size
        cls.state_names = tuple(cls.states)
        super().__init_subclass__()
        WRITTEN.append(cls)

    def __init__(self):
        super().__init__(I, H)
        self.make_parameters("float64")

    def parameter_shapes(self):
        return self.shapes

    output_size = property(lambda self: self.size)
    state_shapes = property(lambda self: tuple(self.states.values()))


class TopExperts(Written, shapes={"G": (4, H), "W": (4, H, H), "U": (4, H, I), "b": (4, H)}):
    """The best two of four experts, gated (Shazeer et al. 2017, arXiv 1701.06538)."""

    def step(self, x, state):
        scores = linear(state[0], self.G)
        best = ops.topk(scores, 2).values
        gates = softmax(ops.where(scores >= best[:, -1:], scores, -np.inf), -1)
        made = ops.einsum("nh,ekh->nek", state[0], self.W) + ops.einsum("ni,eki->nek", x, self.U)
        h = ops.einsum("ne,nek->nk", gates, tanh(made + self.b))
        return h, (h,)


class TuringMachine(
    Written, states={"h": (H,), "m": (4, 2), "w": (4,)},
    shapes={"W": (H, I + 2), "U": (H, H), "V": (2 * 3 + 3 + 3, H)},
):
    """Addresses by content and place, and writes (Graves et al. 2014, arXiv 1410.5401)."""

    def step(self, x, state):
        h, m, w = state
        read = ops.einsum("ns,nsk->nk", w, m)
        h = tanh(linear(ops.cat([x, read], -1), self.W) + linear(h, self.U))
        key, erased, added, sharp, gate, power, shift = linear(h, self.V).split(
            [2, 2, 2, 1, 1, 1, 3], -1
        )
        fits = ops.einsum("nsk,nk->ns", m, key) / (
            ops.norm(m, axis=-1) * ops.norm(key, axis=-1, keepdims=True) + 1e-6
        )
        found = softmax((1 + ops.softplus(sharp)) * fits, -1)
        w = sigmoid(gate) * found + (1 - sigmoid(gate)) * w
        shift = softmax(shift, -1)
        w = sum(shift[:, i : i + 1] * ops.cat([w[:, i:], w[:, :i]], 1) for i in range(3))
        w = (w.square() + 1e-6) ** (1 + ops.softplus(power))
        w = w / w.sum(-1, keepdims=True)
        m = m * (1 - ops.einsum("ns,nk->nsk", w, sigmoid(erased)))
        return h, (h, m + ops.einsum("ns,nk->nsk", w, tanh(added)), w)


class Allocation(
    Written, states={"h": (H,), "used": (6,)},
    shapes={"W": (H, I + 6), "U": (H, H), "V": (6, H)},
):
    """The free places of a memory come first (Graves et al. 2016, Nature 538, equation 1)."""

    def step(self, x, state):
        h, used = state
        used = sigmoid(used + linear(h, self.V))
        order = ops.argsort(used)
        ordered = used.gather(1, order)
        before = ops.cumprod(ops.cat([ops.ones_like(used[:, :1]), ordered[:, :-1]], 1), 1)
        free = ((1 - ordered) * before).gather(1, ops.argsort(order))
        h = tanh(linear(ops.cat([x, free], 1), self.W) + linear(h, self.U))
        return h, (h, used + free)


class Mechanisms(
    Written, states={"h": (4, H)}, size=4 * H,
    shapes={"Q": (4, H, 2), "K": (I, 2), "V": (I, 3), "W": (4, 3, H), "U": (4, H, H)},
):
    """Of four modules those two that want the input act (Goyal et al. 2019, arXiv 1909.10893)."""

    def step(self, x, state):
        h = state[0]
        given = ops.stack([x, ops.zeros_like(x)], 1)
        fits = ops.einsum("nmh,mhd->nmd", h, self.Q) @ (given @ self.K).transpose(1, 2)
        looks = softmax(fits, -1)
        acts = ops.one_hot(ops.topk(looks[:, :, 0], 2).indices, 4, "float64").sum(1).unsqueeze(2)
        read = looks @ (given @ self.V)
        new = ops.einsum("nmv,mvh->nmh", read, self.W) + ops.einsum("nmh,mhk->nmk", h, self.U)
        h = acts * tanh(new) + (1 - acts) * h
        return h.reshape(-1, 4 * H), (h,)


class Sparsemax(Written, shapes={"W": (H, I), "U": (H, H)}):
    """A state that is a sparse distribution (Martins and Astudillo 2016, arXiv 1602.02068)."""

    def step(self, x, state):
        z = 2 * linear(x, self.W) + linear(state[0], self.U)
        ordered = ops.sort(z, descending=True).values
        inside = 1 + rk.tensor(np.arange(1.0, H + 1)) * ordered > ops.cumsum(ordered, -1)
        total = ops.where(inside, ordered, 0.0).sum(-1, keepdims=True)
        h = ops.relu(z - (total - 1) / inside.sum(-1, keepdims=True).astype("float64"))
        return h, (h,)


class GradientMemory(
    Written, states={"A": (4, 2), "B": (2, 4), "a": (4, 2), "b": (2, 4)}, size=2,
    shapes={"Q": (2, I), "K": (2, I), "V": (2, I), "R": (3, I)},
):
    """A network in the state that learns at each step (Behrouz et al. 2025, arXiv 2501.00663)."""

    def step(self, x, state):
        A, B, a, b = state
        q, k, v = (linear(x, each).unsqueeze(2) for each in (self.Q, self.K, self.V))
        rate, kept, lost = sigmoid(linear(x, self.R)).unsqueeze(2).chunk(3, 1)
        found = B @ tanh(A @ k)
        d_A, d_B = rk.grad(found, [A, B], [found - v], create_graph=True)
        a, b = kept * a - rate * d_A, kept * b - rate * d_B
        A, B = (1 - lost) * A + a, (1 - lost) * B + b
        return (B @ tanh(A @ q)).squeeze(2), (A, B, a, b)


class Energies(
    Written, states={"h": (H,), "g": (H,)},
    shapes={"W": (H, I), "V": (H, I), "U": (H, H), "A": (H, I), "scale": (H,)},
):
    """How energies change with the input, by way of products before the loop, and with the state.
    """

    def step(self, x, state):
        h, g = state
        energy = ops.logsumexp(x @ self.W.T, -1, keepdims=True) + (x * x).sum(-1, keepdims=True)
        (d_x,) = rk.grad(energy, [x], [ops.ones_like(energy)], create_graph=True)
        fit = ops.einsum("nh,hi->ni", h, self.A) * x
        (d_h,) = rk.grad(fit, [h], [ops.ones_like(fit)], create_graph=True)
        kept = self.scale * tanh(g)
        (d_g,) = rk.grad(kept, [g], [ops.ones_like(kept)], create_graph=True)
        h = tanh(linear(d_x, self.V) + linear(h, self.U) + d_h)
        return h, (h, h + d_g)


class Hyper(
    Written, states={"h": (H,), "z": (2,)},
    shapes={"W": (H, I), "U": (H, H), "Z": (3, 2, 2), "D": (3, H, 2), "P": (2, H + I), "R": (2, 2)},
):
    """Weights from embeddings that come from the state (Ha et al. 2016, arXiv 1609.09106)."""

    def step(self, x, state):
        h, z = state
        z = tanh(linear(ops.cat([x, h], 1), self.P) + linear(z, self.R))
        d_x, d_h, b = ops.einsum("nz,gyz,ghy->ngh", z, self.Z, self.D).unbind(1)
        h = tanh(d_x * linear(x, self.W) + d_h * linear(h, self.U) + b)
        return h, (h, z)


class SparseAccess(
    Written, states={"h": (H,), "m": (6, 2)},
    shapes={"W": (H, I + 2), "U": (H, H), "Q": (2, H), "V": (2, H)},
):
    """Reads where it fits best, writes where least (Rae et al. 2016, arXiv 1610.09027)."""

    def step(self, x, state):
        h, m = state
        fits = ops.einsum("nsk,nk->ns", m, linear(h, self.Q))
        best, at = ops.topk(fits, 2)
        rows = ops.gather(m, 1, at.unsqueeze(2).expand(-1, 2, 2))
        read = ops.einsum("ns,nsk->nk", softmax(best, -1), rows)
        h = tanh(linear(ops.cat([x, read], 1), self.W) + linear(h, self.U))
        least = ops.one_hot(ops.argmin(fits, -1), 6, "float64").unsqueeze(2)
        return h, (h, ops.where(least > 0, tanh(linear(h, self.V)).unsqueeze(1), m))


class OwnToken(
    Written, states={"h": (H,), "e": (H,)},
    shapes={"W": (H, I), "U": (H, H), "V": (7, H), "E": (7, H)},
):
    """Reads the embedding of the token that it has found most probable."""

    def step(self, x, state):
        h, e = state
        h = tanh(linear(x, self.W) + linear(h, self.U) + e)
        return h, (h, ops.one_hot(ops.argmax(linear(h, self.V), -1), 7, "float64") @ self.E)


HOW = {
    "plain": {},
    "ragged": {"lengths": [5, 0, 3]},
    "with resets": {"reset": np.arange(T * N).reshape(T, N) % 4 == 2},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", WRITTEN)
def test_natively_as_on_the_tape(kind, how):
    rk.manual_seed(0)
    network, random, both = nn.Recurrent(kind()), np.random.default_rng(0), []
    arrays = [random.standard_normal((1, N, *shape)) for shape in kind.states.values()]
    given = [random.standard_normal((T, N, I)), *arrays]
    for backend in ("auto", "python"):
        x, *states = [rk.tensor(each, requires_grad=True) for each in given]
        with rk.backend(backend):
            y, after = network(x, tuple(states) if states[1:] else states[0], **HOW[how])
        assert last_layer().path == ("program" if backend == "auto" else "python")
        finals = after if len(states) > 1 else [after]
        loss = (y * y).sum() + sum((each * each.sin()).sum() for each in finals)
        gradients = rk.grad(loss, [x, *states, *network.parameters()], allow_unused=True)
        # What a choice alone goes by has no gradient.
        both.append([0 if each is None else each.data for each in (y, *finals, *gradients)])
    for actual, expected in zip(*both, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_stream_has_the_bits_of_the_sequence(kind):
    rk.manual_seed(0)
    network, random = nn.Recurrent(kind()), np.random.default_rng(0)
    states = [random.standard_normal((1, N, *shape)) for shape in kind.states.values()]
    x = random.standard_normal((T, N, I))
    with rk.no_grad():
        y, _ = network(x, states[0] if len(states) == 1 else tuple(states))
    assert last_layer().path == "program"
    stepper = network.stream(batch_size=N)
    stepper.state = tuple(states)
    np.testing.assert_array_equal(np.stack([stepper(each) for each in x]), y.data)


@pytest.mark.parametrize("how", [
    {"rows": 0}, {"steps": 0}, {"lengths": [0, 0, 0]}, {"rows": 0, "lengths": []},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", WRITTEN)
def test_without_rows_or_steps(kind, how):
    """Also where a step asks for gradients, and nobody else does."""
    lengths = {name: how[name] for name in how if name == "lengths"}
    network, x = nn.Recurrent(kind()), rk.zeros(how.get("steps", T), how.get("rows", N), I)
    x = x.astype("float64")
    y, after = network(x, **lengths)
    assert y.requires_grad
    assert y.shape == (*x.shape[:2], kind.size)
    parameters = list(network.parameters())
    for d in rk.grad(y.sum(), parameters, allow_unused=True):
        assert d is None or not d.data.any()
    with rk.no_grad():
        unrecorded, same = network(x, **lengths)
    network.requires_grad_(False)
    constant, too = network(x, **lengths)
    for results in ((unrecorded, same), (constant, too)):
        for each, first in zip(flat(results), flat((y, after)), strict=True):
            assert not each.requires_grad
            np.testing.assert_array_equal(each.data, first.data)


def flat(results):
    y, after = results
    return [y, *(after if isinstance(after, tuple) else (after,))]
