"""The cells' equations, written out once more with NumPy.

``seen`` is the hidden state as the recurrent weights see it, where that is not h itself.
"""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def one_gate(cell, x, h, gate):
    """W_i x + b_i and W_h h + b_h of one gate, from the rows that belong to it."""
    H = cell.hidden_size
    rows = slice(gate * H, (gate + 1) * H)
    from_x = x @ cell.weight_ih.data[rows].T + cell.bias_ih.data[rows]
    from_h = h @ cell.weight_hh.data[rows].T + cell.bias_hh.data[rows]
    return from_x, from_h


def rnn_by_hand(cell, x, h, seen=None):
    pre = sum(one_gate(cell, x, h if seen is None else seen, 0))
    return (np.tanh(pre) if cell.nonlinearity == "tanh" else np.maximum(pre, 0),)


def gru_by_hand(cell, x, h, seen=None):
    seen = h if seen is None else seen
    r = sigmoid(sum(one_gate(cell, x, seen, 0)))
    z = sigmoid(sum(one_gate(cell, x, seen, 1)))
    if cell.reset_after:
        from_x, from_h = one_gate(cell, x, seen, 2)
        n = np.tanh(from_x + r * from_h)
    else:
        n = np.tanh(sum(one_gate(cell, x, r * seen, 2)))
    return ((1 - z) * n + z * h,)


def lstm_by_hand(cell, x, h, c, seen=None):
    order = "fgo" if cell.coupled else "ifgo"
    seen = h if seen is None else seen
    pre = {gate: sum(one_gate(cell, x, seen, number)) for number, gate in enumerate(order)}
    if cell.peephole:
        pre["f"] += c @ np.diag(cell.weight_cf.data)
    f = sigmoid(pre["f"])
    if cell.coupled:
        i = 1 - f
    else:
        i = sigmoid(pre["i"] + (c @ np.diag(cell.weight_ci.data) if cell.peephole else 0))
    c = f * c + i * np.tanh(pre["g"])
    if cell.cell_clip is not None:
        c = np.where(np.abs(c) > cell.cell_clip, np.sign(c) * cell.cell_clip, c)
    o = sigmoid(pre["o"] + (c @ np.diag(cell.weight_co.data) if cell.peephole else 0))
    h = o * np.tanh(c)
    return h @ cell.weight_hr.data.T if cell.proj_size else h, c


BY_HAND = {"rnn": rnn_by_hand, "gru": gru_by_hand, "lstm": lstm_by_hand}
