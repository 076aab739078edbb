"""The published equations of the shipped cells, once more, in NumPy and gate by gate.

Each function takes one step: ``(W, x, *states) -> (y, *new states)``, where W gives a cell's
parameters as arrays and its options, and ``W.gates("weight_ih", 4)`` cuts one into its gates.
"""

from __future__ import annotations

import numpy as np


class Weights:
    def __init__(self, cell):
        self.cell = cell
        self.arrays = cell.state_dict()

    def __getattr__(self, name):
        return self.arrays[name] if name in self.arrays else getattr(self.cell, name)

    def gates(self, name, count):
        return np.split(getattr(self, name), count)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def relu(a):
    return a * (a > 0)


def affine(W, x, h, gate, count):
    """W_ih x + b_ih + W_hh h + b_hh of one gate."""
    w, u, b, d = (W.gates(n, count)[gate] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return x @ w.T + b + h @ u.T + d


def norm(a, gain, bias, eps):
    return gain * (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + eps) + bias


def rms(a, gain, eps):
    return gain * a / np.sqrt((a**2).mean(1, keepdims=True) + eps)


def lstm_of(pre, c):
    i, f, g, o = np.split(pre, 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o), c


def layer_norm_lstm(W, x, h, c):
    pre = norm(x @ W.weight_ih.T, W.gain_ih, W.bias_ih, W.eps)
    pre = pre + norm(h @ W.weight_hh.T, W.gain_hh, W.bias_hh, W.eps)
    o, c = lstm_of(pre, c)
    h = o * np.tanh(norm(c, W.gain_c, W.bias_c, W.eps))
    return h, h, c


def rms_norm_lstm(W, x, h, c):
    pre = rms(x @ W.weight_ih.T, W.gain_ih, W.eps) + rms(h @ W.weight_hh.T, W.gain_hh, W.eps)
    o, c = lstm_of(pre + W.bias_ih, c)
    h = o * np.tanh(rms(c, W.gain_c, W.eps))
    return h, h, c


def layer_norm_gru(W, x, h):
    H = h.shape[1]

    def part(a, name, rows):
        gain, bias = getattr(W, f"gain_{name}"), getattr(W, f"bias_{name}")
        product = a @ getattr(W, f"weight_{name}")[rows].T
        return norm(product, gain[rows], bias[rows], W.eps)

    both, last = slice(0, 2 * H), slice(2 * H, None)
    rz = sigmoid(part(x, "ih", both) + part(h, "hh", both))
    r, z = rz[:, :H], rz[:, H:]
    n = np.tanh(part(x, "ih", last) + r * part(h, "hh", last))
    h = (1 - z) * h + z * n
    return h, h


def ind_rnn(W, x, h):
    activation = {"relu": relu, "tanh": np.tanh}[W.nonlinearity]
    h = activation(x @ W.weight_ih.T + h * W.weight_hh + W.bias_ih)
    return h, h


def mgu(W, x, h):
    f = sigmoid(affine(W, x, h, 0, 2))
    n = np.tanh(affine(W, x, f * h, 1, 2))
    h = (1 - f) * h + f * n
    return h, h


def li_gru(W, x, h):
    def from_input(gate):
        product = x @ W.gates("weight_ih", 2)[gate].T
        bias = W.gates("bias_ih", 2)[gate]
        return norm(product, W.gates("gain_ih", 2)[gate], bias, W.eps) if W.normalized else (
            product + bias
        )

    U_z, U_n = W.gates("weight_hh", 2)
    z = sigmoid(from_input(0) + h @ U_z.T)
    h = z * h + (1 - z) * relu(from_input(1) + h @ U_n.T)
    return h, h


def sru(W, x, c):
    W_f, W_r, W_c, *W_x = np.split(W.weight_ih, len(W.weight_ih) // c.shape[1])
    v_f, v_r = W.gates("weight_cc", 2)
    b_f, b_r = W.gates("bias_ih", 2)
    f = sigmoid(x @ W_f.T + v_f * c + b_f)
    r = sigmoid(x @ W_r.T + v_r * c + b_r)
    c = f * c + (1 - f) * (x @ W_c.T)
    return r * c + (1 - r) * (x @ W_x[0].T if W_x else x), c


def qrnn(W, x, c, before):
    z, f, o = np.split(x @ W.weight_ih.T + W.bias_ih + before, 3, 1)
    c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(z)
    return sigmoid(o) * c, c, x @ W.weight_before.T


def candidate(W, a):
    return np.where(a < 0, sigmoid(a), a + 0.5) if W.positive else a


def min_gru(W, x, h):
    z, n = np.split(x @ W.weight_ih.T + W.bias_ih, 2, 1)
    h = h + sigmoid(z) * (candidate(W, n) - h)
    return h, h


def min_lstm(W, x, h):
    f, i, n = np.split(x @ W.weight_ih.T + W.bias_ih, 3, 1)
    f, i = sigmoid(f), sigmoid(i)
    h = f / (f + i) * h + i / (f + i) * candidate(W, n)
    return h, h


def multiplicative_lstm(W, x, h, c):
    m = (x @ W.weight_mx.T) * (h @ W.weight_mh.T)
    o, c = lstm_of(np.concatenate([affine(W, x, m, gate, 4) for gate in range(4)], 1), c)
    h = o * np.tanh(c)
    return h, h, c


def nested_lstm(W, x, h, c, inner):
    i, f, g, o = (affine(W, x, h, gate, 4) for gate in range(4))
    new, old = sigmoid(i) * np.tanh(g), sigmoid(f) * c
    pre = new @ W.inner_weight_ih.T + W.inner_bias_ih + old @ W.inner_weight_hh.T + W.inner_bias_hh
    inner_o, inner = lstm_of(pre, inner)
    c = inner_o * np.tanh(inner)
    h = sigmoid(o) * np.tanh(c)
    return h, h, c, inner


def phased_lstm(W, x, h, c, t):
    if W.timed:
        x, t = x[:, :-1], x[:, -1:]
    else:
        t = t + 1
    phase = np.mod(t - W.shift, W.period) / W.period
    k = np.select(
        [phase < W.open / 2, phase < W.open],
        [2 * phase / W.open, 2 - 2 * phase / W.open],
        W.leak * phase,
    )
    p_i, p_f, p_o = W.gates("weight_peephole", 3)
    i, f, g, o = (affine(W, x, h, gate, 4) for gate in range(4))
    new_c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
    new_h = sigmoid(o + p_o * new_c) * np.tanh(new_c)
    h, c = k * new_h + (1 - k) * h, k * new_c + (1 - k) * c
    return h, h, c, t


def clockwork(W, x, h, clock):
    H, periods = h.shape[1], W.periods
    sizes = [-(-(H - m) // len(periods)) for m in range(len(periods))]
    edges = np.cumsum([0, *sizes])
    new, ticks = h.copy(), clock.copy()
    for m, period in enumerate(periods):
        own, heard = slice(edges[m], edges[m + 1]), slice(edges[m], None)
        pre = x @ W.weight_ih[own].T + W.bias_ih[own] + W.bias_hh[own]
        pre = np.tanh(pre + h[:, heard] @ W.weight_hh[own, heard].T)
        new[:, own] = np.where(clock[:, own] == 0, pre, h[:, own])
        ticks[:, own] = (clock[:, own] + 1) % period
    return new, new, ticks


def exp_rnn(W, x, h):
    upper = np.triu(W.weight_skew, 1)
    # i A is Hermitian, so the exponential follows from its eigenvalues.
    values, V = np.linalg.eigh(1j * (upper - upper.T))
    B = ((V * np.exp(-1j * values)) @ V.conj().T).real
    a = x @ W.weight_ih.T + h @ B.T
    h = np.where(np.abs(a) + W.bias_hh > 0, np.sign(a) * (np.abs(a) + W.bias_hh), 0)
    return h, h


def slstm(W, x, h, c, n, m):
    i, f, g, o = (affine(W, x, h, gate, 4) for gate in range(4))
    log_f = f if W.forget == "exp" else np.log(sigmoid(f))
    new_m = np.maximum(log_f + m, i)
    i, f = np.exp(i - new_m), np.exp(log_f + m - new_m)
    c = f * c + i * np.tanh(g)
    n = f * n + i
    h = sigmoid(o) * (c / n)
    return h, h, c, n, new_m


def phi(a):
    return np.where(a > 0, a + 1, np.exp(a))


def delta_net(W, x, S):
    K, H = W.key_size, W.hidden_size
    rows = np.cumsum([K, K, H])
    pre = x @ W.weight_ih.T
    k, q, v, b = np.split(pre, rows, 1)
    k = phi(k) / phi(k).sum(1, keepdims=True)
    q = phi(q) / phi(q).sum(1, keepdims=True)
    remembered = np.einsum("nhk,nk->nh", S, k)
    S = S + np.einsum("nh,nk->nhk", sigmoid(b) * (v - remembered), k)
    return np.einsum("nhk,nk->nh", S, q), S


def linear_attention(W, x, S, z):
    K = W.key_size
    k, q, v = np.split(x @ W.weight_ih.T, [K, 2 * K], 1)
    S = S + np.einsum("nh,nk->nhk", v, phi(k))
    z = z + phi(k)
    y = np.einsum("nhk,nk->nh", S, phi(q)) / np.einsum("nk,nk->n", z, phi(q))[:, None]
    return y, S, z


def lru(W, x, re, im):
    M = W.state_size
    B = W.weight_ih[:M] + 1j * W.weight_ih[M:]
    C = W.weight_out[:, :M] + 1j * W.weight_out[:, M:]
    s = np.exp(-np.exp(W.nu) + 1j * np.exp(W.theta)) * (re + 1j * im)
    s = s + np.exp(W.gamma) * (x @ B.T)
    return (s @ C.T).real + x @ W.weight_skip.T, s.real, s.imag


def lmu(W, x, h, m):
    d, P, Q = W.order, np.empty((W.order, W.order)), np.empty(W.order)
    for i in range(d):
        Q[i] = (2 * i + 1) * (-1) ** i / W.window
        for j in range(d):
            P[i, j] = (2 * i + 1) / W.window * (-1 if i < j else (-1) ** (i - j + 1))
    values, V = np.linalg.eig(P)
    A = ((V * np.exp(values)) @ np.linalg.inv(V)).real
    B = np.linalg.solve(P, (A - np.eye(d)) @ Q)
    u = x @ W.encoder_x.T + h @ W.encoder_h.T + m @ W.encoder_m.T
    m = m @ A.T + u * B
    h = np.tanh(x @ W.weight_ih.T + h @ W.weight_hh.T + m @ W.weight_mh.T)
    return h, h, m
