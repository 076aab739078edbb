"""Cells as a user writes them: a class, its parameters and one ``step``, with no kernel of its own.

The two classic ones have the parameters of rnnkit's own, drawn in the same order, so that a fused
kernel computes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import rnnkit as rk

State = tuple[rk.Tensor, ...]


class UserCell(rk.Cell):
    """Parameters as ``shapes`` lists them, all drawn from U(-1/sqrt(H), 1/sqrt(H))."""

    def __init__(self, input_size: int, hidden_size: int, dtype: Any = np.float32) -> None:
        super().__init__(input_size, hidden_size)
        bound = self.hidden_size**-0.5
        for name, shape in self.shapes(input_size, hidden_size).items():
            drawn = rk.generator().uniform(-bound, bound, shape).astype(dtype)
            setattr(self, name, rk.Parameter(drawn))

    def shapes(self, I: int, H: int) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by name."""
        raise NotImplementedError


class OwnLSTM(UserCell):
    """The equations of ``rnnkit.cells.LSTMCell``."""

    state_names = ("h", "c")

    def shapes(self, I: int, H: int) -> dict[str, tuple[int, ...]]:
        return {
            "weight_ih": (4 * H, I), "weight_hh": (4 * H, H),
            "bias_ih": (4 * H,), "bias_hh": (4 * H,),
        }  # fmt: skip

    def step(self, x: rk.Tensor, state: State) -> tuple[rk.Tensor, State]:
        h, c = state
        gates = rk.linear(x, self.weight_ih, self.bias_ih)
        gates = gates + rk.linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = gates.chunk(4, -1)
        c = rk.sigmoid(f) * c + rk.sigmoid(i) * rk.tanh(g)
        h = rk.sigmoid(o) * rk.tanh(c)
        return h, (h, c)


class OwnGRU(UserCell):
    """The equations of ``rnnkit.cells.GRUCell``, in PyTorch's dialect."""

    def shapes(self, I: int, H: int) -> dict[str, tuple[int, ...]]:
        return {
            "weight_ih": (3 * H, I), "weight_hh": (3 * H, H),
            "bias_ih": (3 * H,), "bias_hh": (3 * H,),
        }  # fmt: skip

    def step(self, x: rk.Tensor, state: State) -> tuple[rk.Tensor, State]:
        (h,) = state
        x_r, x_z, x_n = rk.linear(x, self.weight_ih, self.bias_ih).chunk(3, -1)
        h_r, h_z, h_n = rk.linear(h, self.weight_hh, self.bias_hh).chunk(3, -1)
        r = rk.sigmoid(x_r + h_r)
        z = rk.sigmoid(x_z + h_z)
        n = rk.tanh(x_n + r * h_n)
        h = (1 - z) * n + z * h
        return h, (h,)


class LayerNormLSTM(UserCell):
    """Layer normalisation of both products and of the cell state.

        i, f, g, o = LN(W_ih x) + LN(W_hh h) + b
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(LN(c'))

    Ba, Kiros and Hinton 2016, arXiv 1607.06450, equations 20 to 22.
    """

    state_names = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int, dtype: Any = np.float32) -> None:
        super().__init__(input_size, hidden_size, dtype)
        # With gains near 1 throughout, the states are chaotic: rounding grows from step to step.
        for gain, centre in ((self.gain_ih, 1.0), (self.gain_hh, 0.1), (self.gain_c, 1.0)):
            gain.data += centre

    def shapes(self, I: int, H: int) -> dict[str, tuple[int, ...]]:
        return {
            "weight_ih": (4 * H, I), "weight_hh": (4 * H, H), "bias": (4 * H,),
            "gain_ih": (4 * H,), "gain_hh": (4 * H,), "gain_c": (H,), "bias_c": (H,),
        }  # fmt: skip

    def step(self, x: rk.Tensor, state: State) -> tuple[rk.Tensor, State]:
        h, c = state
        H = self.hidden_size
        gates = rk.layer_norm(rk.linear(x, self.weight_ih), 4 * H, self.gain_ih, self.bias)
        gates = gates + rk.layer_norm(rk.linear(h, self.weight_hh), 4 * H, self.gain_hh)
        i, f, g, o = gates.chunk(4, -1)
        c = rk.sigmoid(f) * c + rk.sigmoid(i) * rk.tanh(g)
        h = rk.sigmoid(o) * rk.tanh(rk.layer_norm(c, H, self.gain_c, self.bias_c))
        return h, (h, c)


class PeepholeLSTM(UserCell):
    """Gates that see the cell state, elementwise.

        i = sigmoid(W_i x + R_i h + p_i * c + b_i)      f likewise
        c' = f * c + i * tanh(W_g x + R_g h + b_g)
        o = sigmoid(W_o x + R_o h + p_o * c' + b_o)
        h' = o * tanh(c')

    Gers, Schraudolph and Schmidhuber, JMLR 3, 2002, "Learning precise timing with LSTM".
    """

    state_names = ("h", "c")

    def shapes(self, I: int, H: int) -> dict[str, tuple[int, ...]]:
        return {
            "weight_ih": (4 * H, I), "weight_hh": (4 * H, H), "bias": (4 * H,),
            "peep_i": (H,), "peep_f": (H,), "peep_o": (H,),
        }  # fmt: skip

    def step(self, x: rk.Tensor, state: State) -> tuple[rk.Tensor, State]:
        h, c = state
        gates = rk.linear(x, self.weight_ih, self.bias) + rk.linear(h, self.weight_hh)
        i, f, g, o = gates.chunk(4, -1)
        i = rk.sigmoid(i + self.peep_i * c)
        f = rk.sigmoid(f + self.peep_f * c)
        c = f * c + i * rk.tanh(g)
        h = rk.sigmoid(o + self.peep_o * c) * rk.tanh(c)
        return h, (h, c)


class IndRNN(UserCell):
    """Units that each see only their own past.

        h' = tanh(W x + u * h + b)

    Li et al. 2018, arXiv 1803.04831, equation 2. With relu, rounding alone now and then switches a
    unit on in one library and off in another, and their gradients can't be compared.
    """

    def shapes(self, I: int, H: int) -> dict[str, tuple[int, ...]]:
        return {"weight_ih": (H, I), "weight_hh": (H,), "bias": (H,)}

    def step(self, x: rk.Tensor, state: State) -> tuple[rk.Tensor, State]:
        (h,) = state
        h = rk.tanh(rk.linear(x, self.weight_ih, self.bias) + self.weight_hh * h)
        return h, (h,)


class SLSTM(UserCell):
    """Exponential input gates, with a normaliser n and a stabiliser m; one head.

        m' = max(log sigmoid(f) + m, i)
        c' = exp(log sigmoid(f) + m - m') * c + exp(i - m') * tanh(z)
        n' = exp(log sigmoid(f) + m - m') * n + exp(i - m')
        h' = sigmoid(o) * c' / n'

    Beck et al. 2024, arXiv 2405.04517, equations 8 to 17. n is positive.
    """

    state_names = ("h", "c", "n", "m")

    def shapes(self, I: int, H: int) -> dict[str, tuple[int, ...]]:
        return {"weight_ih": (4 * H, I), "weight_hh": (4 * H, H), "bias": (4 * H,)}

    def step(self, x: rk.Tensor, state: State) -> tuple[rk.Tensor, State]:
        h, c, n, m = state
        gates = rk.linear(x, self.weight_ih, self.bias) + rk.linear(h, self.weight_hh)
        i, f, z, o = gates.chunk(4, -1)
        kept = m - rk.softplus(-f)
        m = rk.maximum(kept, i)
        i, f = rk.exp(i - m), rk.exp(kept - m)
        c = f * c + i * rk.tanh(z)
        n = f * n + i
        h = rk.sigmoid(o) * c / n
        return h, (h, c, n, m)


PROGRAM_CELLS: dict[str, type[UserCell]] = {
    "own lstm": OwnLSTM,
    "own gru": OwnGRU,
    "layernorm-lstm": LayerNormLSTM,
    "peephole-lstm": PeepholeLSTM,
    "indrnn": IndRNN,
    "own slstm": SLSTM,
}
FUSED_TWIN = {"own lstm": "lstm", "own gru": "gru"}
"""Cells of the same equations and parameters that have a fused kernel."""
POSITIVE_STATES = {"own slstm": ("n",)}
"""States that must be positive for the equations to make sense."""
