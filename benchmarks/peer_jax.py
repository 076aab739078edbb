"""JAX: ``lax.scan`` under ``jit``, the input product hoisted out of the scan.

XLA fixes a client's threads when the client is made, so one thread and all threads are two clients.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import program_jax
from .problem import Problem
from .sides import Side, Stepper, thread_settings

ONE_THREAD = "cpu_one_thread"
THREAD_VARIABLE = "PJRT_NPROC"

State = tuple[Any, ...]


def make_sides(problem: Problem, threads: int) -> list[Side]:
    """The same problem as one compiled function for each mode; nothing for what is not here."""
    if problem.cell not in CELLS or not problem.is_plain:
        return []
    sides = []
    for setting, count in thread_settings(threads).items():
        device = _device(count, threads)
        if device is not None:
            sides.append(_side(problem, setting, device))
    return sides


def make_steppers(problem: Problem, threads: int) -> list[Stepper]:
    """One compiled step that takes and returns the state."""
    if problem.cell not in CELLS:
        return []
    project, step_of = CELLS[problem.cell](problem.options)
    weights = problem.weights

    @jax.jit
    def advance(weights: dict[str, Any], x: Any, state: State) -> State:
        return step_of(weights)(state, project(weights, x))

    steppers = []
    for setting, count in thread_settings(threads).items():
        device = _device(count, threads)
        if device is None:
            continue
        with _x64(problem):
            on_device = jax.device_put(weights, device)
            inputs = [jax.device_put(x, device) for x in problem.inputs["x"]]
            zeros = jax.device_put(np.zeros_like(problem.inputs["h0"][0]), device)
        reset, step = _carry(advance, on_device, (zeros,) * len(problem.states))
        steppers.append(
            Stepper(
                "jax",
                inputs,
                reset,
                step,
                np.asarray,
                lambda: None,
                lambda: _x64(problem),
                setting,
            )
        )
    return steppers


def _carry(
    advance: Callable[..., State], weights: Any, zeros: State
) -> tuple[Callable[[], None], Callable[[Any], Any]]:
    state = zeros

    def reset() -> None:
        nonlocal state
        state = zeros

    def step(x: Any) -> Any:
        nonlocal state
        state = advance(weights, x, state)
        return state[0].block_until_ready()

    return reset, step


def _side(problem: Problem, setting: str, device: Any) -> Side:
    with _x64(problem):
        inputs = jax.device_put(tuple(problem.inputs.values()), device)
        weights = jax.device_put(problem.weights, device)
        d_outputs = jax.device_put(tuple(problem.d_outputs.values()), device)
    run = _runner(problem)

    def run_and_pull(d_outputs: Any, *arguments: Any) -> Any:
        outputs, pull = jax.vjp(run, *arguments)
        d_weights, *d_inputs = pull(d_outputs)
        return [*outputs, *d_inputs, *(d_weights[name] for name in problem.weights)]

    functions = {
        "forward": (run, (weights, *inputs)),
        "training": (run_and_pull, (d_outputs, weights, *inputs)),
    }
    compiled: dict[str, Callable[[], Any]] = {}

    def compile_mode(mode: str) -> float:
        function, arguments = functions[mode]
        start = time.perf_counter()
        with _x64(problem):
            ready = jax.jit(function).lower(*arguments).compile()
        seconds = time.perf_counter() - start
        compiled[mode] = lambda: jax.block_until_ready(ready(*arguments))
        return seconds

    def caller(mode: str) -> Callable[[], Any]:
        def call() -> Any:
            if mode not in compiled:
                compile_mode(mode)
            return compiled[mode]()

        return call

    return Side(
        "jax",
        caller("forward"),
        caller("training"),
        lambda arrays: [np.asarray(array) for array in arrays],
        lambda: None,
        setting,
        compile_mode,
    )


def _runner(problem: Problem) -> Callable[..., State]:
    """(weights, x (T, N, I), initial states (1, N, H)) -> (y (T, N, H), final states)"""
    project, step_of = CELLS[problem.cell](problem.options)

    def run(weights: dict[str, Any], x: Any, *initial: Any) -> State:
        advance = step_of(weights)

        def step(state: State, gates: Any) -> tuple[State, Any]:
            state = advance(state, gates)
            return state, state[0]

        state, y = lax.scan(step, tuple(s[0] for s in initial), project(weights, x))
        return (y, *(s[None] for s in state))

    return run


def _rnn(options: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[options.get("nonlinearity", "tanh")]

    def project(w: dict[str, Any], x: Any) -> Any:
        return x @ w["weight_ih_l0"].T + (w["bias_ih_l0"] + w["bias_hh_l0"])

    def step_of(w: dict[str, Any]) -> Callable[[State, Any], State]:
        R = w["weight_hh_l0"].T
        return lambda state, gates: (activation(gates + state[0] @ R),)

    return project, step_of


def _gru(options: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    reset_after = options.get("reset_after", True)

    def project(w: dict[str, Any], x: Any) -> Any:
        bias, H = w["bias_hh_l0"], w["weight_hh_l0"].shape[1]
        if reset_after:  # the candidate's recurrent bias is inside the reset
            bias = bias.at[2 * H :].set(0)
        return x @ w["weight_ih_l0"].T + (w["bias_ih_l0"] + bias)

    def step_of(w: dict[str, Any]) -> Callable[[State, Any], State]:
        R, H = w["weight_hh_l0"].T, w["weight_hh_l0"].shape[1]
        R_rz, R_n, b_n = R[:, : 2 * H], R[:, 2 * H :], w["bias_hh_l0"][2 * H :]

        def step(state: State, gates: Any) -> State:
            (h,) = state
            if reset_after:
                product = h @ R
                rz = jax.nn.sigmoid(gates[..., : 2 * H] + product[..., : 2 * H])
                r, z = rz[..., :H], rz[..., H:]
                n = jnp.tanh(gates[..., 2 * H :] + r * (product[..., 2 * H :] + b_n))
            else:
                rz = jax.nn.sigmoid(gates[..., : 2 * H] + h @ R_rz)
                r, z = rz[..., :H], rz[..., H:]
                n = jnp.tanh(gates[..., 2 * H :] + (r * h) @ R_n)
            return ((1 - z) * n + z * h,)

        return step

    return project, step_of


def _lstm(options: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    project, _ = _rnn({})

    def step_of(w: dict[str, Any]) -> Callable[[State, Any], State]:
        R = w["weight_hh_l0"].T

        def step(state: State, gates: Any) -> State:
            h, c = state
            i, f, g, o = jnp.split(gates + h @ R, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return jax.nn.sigmoid(o) * jnp.tanh(c), c

        return step

    return project, step_of


CELLS = {
    "rnn": _rnn,
    "gru": _gru,
    "lstm": _lstm,
    "own gru": _gru,
    "own lstm": _lstm,
    **program_jax.CELLS,
}


def _x64(problem: Problem) -> AbstractContextManager[Any]:
    return jax.enable_x64(True) if problem.dtype == "float64" else nullcontext()


def _register_one_thread_client() -> bool:
    """Must come before JAX makes its first client; False where this JAX offers no way."""
    try:
        from jax._src.xla_bridge import make_cpu_client
        from jax.extend.backend import register_backend_factory
    except ImportError:
        return False

    def make_client() -> Any:
        before = os.environ.get(THREAD_VARIABLE)
        os.environ[THREAD_VARIABLE] = "1"
        try:
            return make_cpu_client()
        finally:
            os.environ.pop(THREAD_VARIABLE)
            if before is not None:
                os.environ[THREAD_VARIABLE] = before

    register_backend_factory(ONE_THREAD, make_client, priority=-10)
    jax.config.update("jax_platforms", f"cpu,{ONE_THREAD}")
    return True


HAS_ONE_THREAD_CLIENT = _register_one_thread_client()


def _device(count: int, threads: int) -> Any:
    """A device of so many threads, one or all; None where there is none."""
    if count == threads:
        return jax.devices("cpu")[0]
    return jax.devices(ONE_THREAD)[0] if HAS_ONE_THREAD_CLIENT else None
