"""The user's cells for ``lax.scan``, in the form of ``peer_jax.CELLS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Weights = dict[str, Any]
State = tuple[Any, ...]
Equations = tuple[Callable[[Weights, Any], Any], Callable[[Weights], Callable[[State, Any], State]]]


def _affine(w: Weights, x: Any) -> Any:
    return x @ w["weight_ih_l0"].T + w["bias_l0"]


def _normed(x: Any, gain: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain


def _layernorm_lstm(options: dict[str, Any]) -> Equations:
    def project(w: Weights, x: Any) -> Any:
        return _normed(x @ w["weight_ih_l0"].T, w["gain_ih_l0"]) + w["bias_l0"]

    def step_of(w: Weights) -> Callable[[State, Any], State]:
        R = w["weight_hh_l0"].T

        def step(state: State, gates: Any) -> State:
            h, c = state
            i, f, g, o = jnp.split(gates + _normed(h @ R, w["gain_hh_l0"]), 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            normed = _normed(c, w["gain_c_l0"]) + w["bias_c_l0"]
            return jax.nn.sigmoid(o) * jnp.tanh(normed), c

        return step

    return project, step_of


def _peephole_lstm(options: dict[str, Any]) -> Equations:
    def step_of(w: Weights) -> Callable[[State, Any], State]:
        R = w["weight_hh_l0"].T

        def step(state: State, gates: Any) -> State:
            h, c = state
            i, f, g, o = jnp.split(gates + h @ R, 4, axis=-1)
            i = jax.nn.sigmoid(i + w["peep_i_l0"] * c)
            f = jax.nn.sigmoid(f + w["peep_f_l0"] * c)
            c = f * c + i * jnp.tanh(g)
            return jax.nn.sigmoid(o + w["peep_o_l0"] * c) * jnp.tanh(c), c

        return step

    return _affine, step_of


def _indrnn(options: dict[str, Any]) -> Equations:
    def step_of(w: Weights) -> Callable[[State, Any], State]:
        u = w["weight_hh_l0"]
        return lambda state, gates: (jnp.tanh(gates + u * state[0]),)

    return _affine, step_of


def _slstm(options: dict[str, Any]) -> Equations:
    def step_of(w: Weights) -> Callable[[State, Any], State]:
        R = w["weight_hh_l0"].T

        def step(state: State, gates: Any) -> State:
            h, c, n, m = state
            i, f, z, o = jnp.split(gates + h @ R, 4, axis=-1)
            kept = jax.nn.log_sigmoid(f) + m
            m = jnp.maximum(kept, i)
            i, f = jnp.exp(i - m), jnp.exp(kept - m)
            c = f * c + i * jnp.tanh(z)
            n = f * n + i
            return jax.nn.sigmoid(o) * c / n, c, n, m

        return step

    return _affine, step_of


CELLS = {
    "layernorm-lstm": _layernorm_lstm,
    "peephole-lstm": _peephole_lstm,
    "indrnn": _indrnn,
    "own slstm": _slstm,
}
"""For the classic ones ``peer_jax`` has the equations."""
