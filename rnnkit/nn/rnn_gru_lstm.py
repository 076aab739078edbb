"""The recurrent modules of PyTorch's names, each a ``Recurrent`` of its cell.

Notation: T time, N batch, I input, H hidden, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnkit.cells import GRUCell, LSTMCell, RNNCell
from rnnkit.nn.recurrent import Recurrent


class RNN(Recurrent):
    """The simple recurrent network (Elman 1990), with the arguments of ``torch.nn.RNN``.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)        or relu in place of tanh

    Called as ``y, h = rnn(x, h)``; shapes, options and errors as in ``Recurrent``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        nonlinearity: "tanh" or "relu".
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first, dropout, bidirectional: as in ``Recurrent``.
        recurrent_dropout: in training, the probability of zeroing what ``weight_hh`` sees of a unit
            of h, for the whole sequence (see ``rnnkit.cells.GatedCell``).
        zoneout: in training, the probability of keeping a unit's old value in a step (see there).
        input_dropout, weight_dropout, merge, memory: as in ``Recurrent``.
        dtype: float32 or float64.

    Parameters of layer k, drawn from U(-1/sqrt(H), 1/sqrt(H)): weight_ih_l{k} (H, I), or (H, D*H)
    above the first layer, weight_hh_l{k} (H, H), bias_ih_l{k} and bias_hh_l{k} (H,); the reverse
    direction's end in ``_reverse``.

    Memory of a native training step, per layer and direction: the output y (H numbers per step and
    row) and nothing else until backward, which needs as much again for the gradients of the gates.
    Under ``no_grad`` nothing is kept per step beyond the output.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        merge: str = "concat",
        memory: str | int = "full",
        dtype: Any = np.float32,
    ) -> None:
        cell = RNNCell(
            input_size, hidden_size, bias, nonlinearity,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, dtype=dtype,
        )
        super().__init__(
            cell, num_layers, batch_first, dropout, bidirectional,
            input_dropout=input_dropout, weight_dropout=weight_dropout,
            merge=merge, memory=memory,
        )
        self.bias = cell.bias
        self.nonlinearity = cell.nonlinearity


class GRU(Recurrent):
    """The gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), as ``torch.nn.GRU``.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))       reset_after=True, PyTorch's dialect
        n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)       reset_after=False, the original
        h' = (1 - z) * n + z * h

    Called as ``y, h = gru(x, h)``; shapes, options and errors as in ``Recurrent``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first, dropout, bidirectional: as in ``Recurrent``.
        reset_after: which of the two dialects; weights of one are not weights of the other.
        recurrent_dropout: in training, the probability of zeroing what ``weight_hh`` sees of a unit
            of h, for the whole sequence (see ``rnnkit.cells.GatedCell``).
        zoneout: in training, the probability of keeping a unit's old value in a step (see there).
        input_dropout, weight_dropout, merge, memory: as in ``Recurrent``.
        dtype: float32 or float64.

    Parameters of layer k, gates stacked r, z, n, drawn from U(-1/sqrt(H), 1/sqrt(H)):
    weight_ih_l{k} (3*H, I), or (3*H, D*H) above the first layer, weight_hh_l{k} (3*H, H),
    bias_ih_l{k} and bias_hh_l{k} (3*H,); the reverse direction's end in ``_reverse``.

    Memory of a native training step, per layer and direction: 4*H numbers per step and row beside
    the output y, with H rounded up to whole vectors (the gates, and the recurrent product or the
    reset state); backward works in the same memory. Under ``no_grad`` nothing is kept per step
    beyond the output.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        merge: str = "concat",
        memory: str | int = "full",
        dtype: Any = np.float32,
    ) -> None:
        cell = GRUCell(
            input_size, hidden_size, bias, reset_after=reset_after,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, dtype=dtype,
        )
        super().__init__(
            cell, num_layers, batch_first, dropout, bidirectional,
            input_dropout=input_dropout, weight_dropout=weight_dropout,
            merge=merge, memory=memory,
        )
        self.bias = cell.bias
        self.reset_after = cell.reset_after


class LSTM(Recurrent):
    """The long short-term memory (Hochreiter and Schmidhuber 1997), as ``torch.nn.LSTM``.

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)
        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g
        h' = o * tanh(c')

    and, with the options below, which go together in any way:

        i = sigmoid(... + w_ci * c),  f = sigmoid(... + w_cf * c),                      peephole
        o = sigmoid(... + w_co * c')
        i = 1 - f                                                                       coupled
        c' = min(max(f * c + i * g, -clip), clip)                                       cell_clip
        h' = W_hr (o * tanh(c'))                                                        proj_size

    Called as ``y, (h, c) = lstm(x, (h, c))``; shapes, options and errors as in ``Recurrent``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first, dropout, bidirectional: as in ``Recurrent``.
        proj_size: P, below H: h is projected to P features, and the states are h (L*D, N, P) and
            c (L*D, N, H), y is (T, N, D*P) (Sak et al. 2014, arXiv 1402.1128); 0: it is not.
        peephole: whether the gates see the cell state (Gers, Schraudolph and Schmidhuber 2002).
        coupled: whether the input gate is 1 - forget gate (Greff et al. 2017, arXiv 1503.04069).
        cell_clip: bound of the absolute value of c; beyond it there is no gradient; None: none.
        recurrent_dropout: in training, the probability of zeroing what ``weight_hh`` sees of a unit
            of h, for the whole sequence (see ``rnnkit.cells.GatedCell``).
        zoneout: in training, the probability of keeping a unit's old value in a step, one for h and
            c or a pair of them (see ``rnnkit.cells.GatedCell``).
        input_dropout, weight_dropout, merge, memory: as in ``Recurrent``.
        dtype: float32 or float64.

    Parameters of layer k, gates stacked i, f, g, o, drawn from U(-1/sqrt(H), 1/sqrt(H)):
    weight_ih_l{k} (4*H, I), or (4*H, D*H) above the first layer, weight_hh_l{k} (4*H, H),
    bias_ih_l{k} and bias_hh_l{k} (4*H,); the reverse direction's end in ``_reverse``. With
    ``proj_size`` the layers above read D*P features, weight_hh_l{k} is (4*H, P), and there is
    weight_hr_l{k} (P, H); with ``peephole`` there are weight_ci_l{k}, weight_cf_l{k} and
    weight_co_l{k}, (H,). With ``coupled`` the gates are f, g, o: 3*H rows, and no weight_ci_l{k}.

    Memory of a native training step, per layer and direction: 5*H numbers per step and row beside
    the output y, with H rounded up to whole vectors (the gates and c); backward works in the same
    memory. Under ``no_grad`` nothing is kept per step beyond the output.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        peephole: bool = False,
        coupled: bool = False,
        cell_clip: float | None = None,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float | Sequence[float] = 0.0,
        merge: str = "concat",
        memory: str | int = "full",
        dtype: Any = np.float32,
    ) -> None:
        cell = LSTMCell(
            input_size, hidden_size, bias,
            proj_size=proj_size, peephole=peephole, coupled=coupled, cell_clip=cell_clip,
            recurrent_dropout=recurrent_dropout, zoneout=zoneout, dtype=dtype,
        )
        super().__init__(
            cell, num_layers, batch_first, dropout, bidirectional,
            input_dropout=input_dropout, weight_dropout=weight_dropout,
            merge=merge, memory=memory,
        )
        self.bias = cell.bias
        self.proj_size = cell.proj_size
        self.peephole = cell.peephole
        self.coupled = cell.coupled
        self.cell_clip = cell.cell_clip
