"""What ``module.program()`` shows, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError

pytest.importorskip("rnnkit.backend._native")
I, H = 3, 4


class Leaky(rk.Cell):
    """h' = a * h + tanh(W x + U h), a = sigmoid(leak)."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.make_parameters("float64")

    def parameter_shapes(self):
        H = self.hidden_size
        return {"weight_ih": (H, self.input_size), "weight_hh": (H, H), "leak": (H,)}

    def step(self, x, state):
        (h,) = state
        new = rk.tanh(rk.linear(x, self.weight_ih) + rk.linear(h, self.weight_hh))
        h = rk.sigmoid(self.leak) * h + new
        return h, (h,)


class Looking(Leaky):
    def step(self, x, state):
        (h,) = state
        return h, (h * np.tanh(h.data),)


def test_a_program_line_by_line():
    listing = nn.Recurrent(Leaky(I, H)).program()
    assert listing.path == "program"
    assert {line.text for line in listing.before} == {
        "a1 = linear(x, weight_ih), all steps", "k1 = sigmoid(leak)",
    }
    assert [line.text for line in listing.forward] == [
        "%1 = h @ weight_hh.T + a1", "%2 = tanh(%1)", "h' = k1 * h + %2", "y = h'",
    ]
    assert {(s.name, s.shape, s.size) for s in listing.stored} == {
        ("h'", (H,), H), ("%2", (H,), H),
    }
    assert {line.name for line in listing.backward} >= {"d_a1", "d_h"}
    after = {line.name: line for line in listing.after}
    assert set(after) == {"d_weight_hh", "d_k1", "d_x, d_weight_ih", "d_leak"}
    assert after["d_weight_hh"].flops == 2 * H * H
    assert listing.flops_forward == 2 * I * H + 2 * H * H + 2 * H
    # Both products' two gradients; d_y + d_h', tanh, d_h' * k1, d_h' * h, and the sum of the last.
    assert listing.flops_backward == 4 * I * H + 4 * H * H + 5 * H
    assert listing.recomputed == ()
    for line in (*listing.before, *listing.forward, *listing.backward, *listing.after):
        assert line.text in str(listing)


class Mixed(rk.Cell):
    """Products of a row's own parts, of parts with a parameter, a sum, and moves."""

    def __init__(self):
        super().__init__(3, 6)
        self.make_parameters("float32")

    def parameter_shapes(self):
        return {"W": (6, 3), "b": (6,), "M": (3, 3)}

    def step(self, x, state):
        (h,) = state
        table = h.reshape(-1, 2, 3)
        scores = table @ rk.linear(x, self.W, self.b).reshape(-1, 3, 2)
        h = h[:, [1, 0, 2, 5, 4, 3]] * scores.reshape(-1, 4).sum(-1, keepdims=True)
        h = h + (table @ self.M).reshape(-1, 6)
        return h, (h,)


def test_flops_by_hand():
    listing = nn.Recurrent(Mixed()).program()

    def flops(*parts):
        lines = [(line.op, line.flops) for part in parts for line in part if line.flops]
        return sorted(lines)

    into_table = 2 * (2 * 3 * 3)  # two rows of three with M
    scores = 2 * (2 * 3 * 2)  # (2, 3) @ (3, 2)
    assert flops(listing.before, listing.forward) == sorted([
        ("linear", 2 * 3 * 6 + 6), ("row_product", scores), ("reduce_sum", 4),
        *[("product", into_table // 2)] * 2, ("muladd", 6),
    ])
    assert listing.flops_forward == 42 + 24 + 4 + 36 + 6
    assert flops(listing.backward, listing.after) == sorted([
        ("add", 6), ("add", 6), ("add", 6),  # d_y + d_h', and what comes to h in three ways
        ("mul", 6), ("dot", 2 * 6),  # of the elements, and of the sum
        *[("row_product", scores)] * 2, *[("product", into_table // 2)] * 2,
        *[("outer", into_table // 2)] * 2,
        ("tape", 2 * (2 * 3 * 6) + 6),  # d_x, d_W and d_b
    ])
    assert listing.flops_backward == 18 + 6 + 12 + 48 + 36 + 36 + 78


class Normalised(rk.Cell):
    """h' = tanh(normalised W x) * the second half of U h."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.make_parameters("float64")

    def parameter_shapes(self):
        H = self.hidden_size
        return {"weight_ih": (H, self.input_size), "gain": (H,), "weight_hh": (2 * H, H)}

    def step(self, x, state):
        (h,) = state
        H = self.hidden_size
        new = rk.tanh(rk.layer_norm(rk.linear(x, self.weight_ih), H, self.gain))
        h = new * rk.linear(h, self.weight_hh)[:, H:]
        return h, (h,)


def test_what_a_narrow_value_or_a_part_stands_for_is_not_kept():
    """A normalised row comes again from its mean, and of a product only a part is read."""
    H = 48
    rk.manual_seed(1)
    rnn = nn.Recurrent(Normalised(I, H))
    listing = rnn.program()
    shapes = sorted(s.shape for s in listing.stored)
    assert shapes == [(1,), (1,), (H,), (H,), (H,)]  # mean, scale; h', tanh, part
    assert any(s.name.endswith(f"[{H}:{2 * H}]") for s in listing.stored)
    assert len(listing.recomputed) == 2
    x = rk.randn(6, 3, I, dtype="float64", requires_grad=True)
    inputs = [x, rk.randn(1, 3, H, dtype="float64", requires_grad=True), *rnn.parameters()]
    d_y = rk.randn(6, 3, H, dtype="float64")
    found = rk.grad(rnn(x, inputs[1])[0], inputs, d_y)
    assert rk.why()[-1].path == "program"
    with rk.backend("python"):
        expected = rk.grad(rnn(x, inputs[1])[0], inputs, d_y)
    for each, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(each.numpy(), right.numpy(), rtol=1e-12, atol=1e-13)


def test_what_the_step_has_detached_is_not_listed_after_the_loop():
    class Cut(Leaky):
        def step(self, x, state):
            (h,) = state
            with rk.no_grad():
                scale = rk.sigmoid(self.leak)
            new = rk.tanh(rk.linear(x.detach(), self.weight_ih) + rk.linear(h, self.weight_hh))
            return scale * h + new, (h,)

    after = {line.name for line in nn.Recurrent(Cut(I, H)).program().after}
    assert after == {"d_weight_hh", "d_weight_ih"}


@pytest.mark.parametrize("name", sorted(rk.cells.CELLS))
def test_every_cell_names_each_value_once(name):
    listing = nn.Recurrent(rk.cells.CELLS[name](I, H), bidirectional=True).program(direction=1)
    assert listing.path == ("fused" if name in ("rnn", "gru", "lstm") else "program")
    for lines in (listing.before, listing.forward, listing.backward):
        names = [line.name for line in lines]
        assert len(set(names)) == len(names)
    if listing.path == "program":
        # Before what it is for: nothing is read that was not given or computed.
        known = {line.name for line in listing.forward}
        for line in listing.backward:
            for word in line.text.split(" = ")[1].replace(",", " ").replace("(", " ").split():
                found = word.split("[")[0].split(".")[0].strip("-)")
                assert not found.startswith("%") or found in known, (line.text, found)
            known.add(line.name)
        stored = {s.name.partition("[")[0] for s in listing.stored}  # or a part of a value
        assert stored <= {line.name for line in listing.forward}


def test_a_module_without_a_program_says_why():
    fused = nn.LSTM(I, H).program()
    assert fused.path == "fused"
    assert "'lstm'" in str(fused)
    looking = nn.Recurrent(Looking(I, H)).program()
    assert looking.path == "python"
    assert "test_program_listing.py" in looking.reason
    assert "the numbers of a tensor are read" in looking.reason
    assert looking.forward == looking.backward == looking.stored == ()


def test_looking_changes_nothing():
    module = nn.GRU(I, H, recurrent_dropout=0.5, zoneout=0.2)
    x = rk.randn(5, 2, I)
    rk.manual_seed(3)
    expected = module(x)[0].data
    rk.manual_seed(3)
    listing = module.program()
    assert [line for line in listing.forward if "drawn" in line.text]
    np.testing.assert_array_equal(module(x)[0].data, expected)
    module.eval()  # its cells follow with the next run
    evaluation = module.program()
    assert evaluation.path == "program"  # zoneout's expectation
    assert not [line for line in evaluation.forward if "drawn" in line.text]
    assert module.layers[0][0].training
    module(x)
    assert module.program().forward == evaluation.forward
    assert module.train().program().forward == listing.forward
    assert not module.layers[0][0].training


def test_there_is_no_such_layer():
    module = nn.LSTM(I, H, num_layers=2)
    module.program(1)
    for arguments, name in (((2,), "layer"), ((-1,), "layer"), ((0, 1), "direction")):
        with pytest.raises(ArgumentError, match=f"{name}: expected an integer from 0 to"):
            module.program(*arguments)


def test_what_a_step_says_again_is_computed_once():
    class Again(Leaky):
        def step(self, x, state):
            (h,) = state
            for _ in range(3):
                new = rk.tanh(rk.linear(x, self.weight_ih) + state[0] @ self.weight_hh.T)
                h = h + 0.1 * rk.sigmoid(self.leak) * (1 - state[0]) * new
            return h, (h,)

    listing = nn.Recurrent(Again(I, H)).program()
    assert {line.text for line in listing.before} == {
        "a1 = linear(x, weight_ih), all steps", "k1 = sigmoid(leak)", "k2 = 0.1 * k1",
        "k3 = weight_hh.T",
    }
    assert sum("d_k2 =" in line.text for line in listing.after) == 1
    texts = [line.text for line in listing.forward]
    assert sum("@" in text for text in texts) == sum("1 -" in text for text in texts) == 1


def test_products_that_do_not_wait_for_each_other_run_in_one_stage():
    class Two(Leaky):
        def step(self, x, state):
            (h,) = state
            inner = rk.linear(h, self.weight_hh) + rk.linear(h * self.leak, self.weight_hh)
            h = rk.tanh(rk.linear(x, self.weight_ih) + inner)
            return rk.linear(h, self.weight_hh), (h,)

    listing = nn.Recurrent(Two(I, H)).program()
    stages = [line.stage for line in listing.forward if "@" in line.text]
    assert stages == [0, 0, 1]
