"""ONNX Runtime: a graph of one RNN, GRU or LSTM node with the same weights, for inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .problem import Problem
from .sides import Side, Stepper, thread_settings

OPSET, IR_VERSION = 22, 10

# PyTorch's blocks of gates in the order that ONNX stacks them: LSTM i o f c, GRU z r h.
GATES = {"rnn": [0], "gru": [1, 0, 2], "lstm": [0, 3, 1, 2]}


def make_sides(problem: Problem, threads: int) -> list[Side]:
    """The same problem as a session; nothing for float64, which its kernels don't have."""
    if not _can_run(problem):
        return []
    T, N, _ = problem.inputs["x"].shape
    model = _model(problem, T)
    feeds = dict(zip(_input_names(problem), problem.inputs.values(), strict=True))
    sides = []
    for setting, count in thread_settings(threads).items():
        run = _session(model, count).run

        def forward(run: Callable[..., Any] = run) -> Any:
            return run(None, feeds)

        def to_numpy(arrays: list[np.ndarray]) -> list[np.ndarray]:
            y, *final = arrays
            return [y.reshape(T, N, -1), *final]

        sides.append(Side("onnxruntime", forward, None, to_numpy, lambda: None, setting))
    return sides


def make_steppers(problem: Problem, threads: int) -> list[Stepper]:
    """Sessions on sequences of one step, the final states fed back as initial states."""
    if not _can_run(problem):
        return []
    N, H = problem.shape.N, problem.shape.H
    model = _model(problem, 1)
    steppers = []
    for setting, count in thread_settings(threads).items():
        reset, step = _carry(_session(model, count), problem)
        steppers.append(
            Stepper(
                "onnxruntime",
                list(np.split(problem.inputs["x"], problem.shape.T)),
                reset,
                step,
                lambda y: y.reshape(N, H),
                lambda: None,
                setting=setting,
            )
        )
    return steppers


def _carry(session: Any, problem: Problem) -> tuple[Callable[[], None], Callable[[Any], Any]]:
    run, zeros = session.run, np.zeros_like(problem.inputs["h0"])
    x_name, *state_names = _input_names(problem)
    feeds: dict[str, np.ndarray] = {}

    def reset() -> None:
        feeds.update(dict.fromkeys(state_names, zeros))

    def step_one(x: np.ndarray) -> np.ndarray:
        feeds[x_name] = x
        y, feeds["initial_h"] = run(None, feeds)
        return y

    def step_two(x: np.ndarray) -> np.ndarray:
        feeds[x_name] = x
        y, feeds["initial_h"], feeds["initial_c"] = run(None, feeds)
        return y

    reset()
    return reset, step_one if len(state_names) == 1 else step_two


def _can_run(problem: Problem) -> bool:
    return problem.cell in GATES and problem.dtype == "float32" and problem.is_plain


def _input_names(problem: Problem) -> list[str]:
    return ["X", *(f"initial_{name}" for name in problem.states)]


def _model(problem: Problem, T: int) -> bytes:
    """X (T, N, I), initial states (1, N, H) -> Y (T, 1, N, H), final states."""
    N, _, I, H = problem.shape
    weights = {name: _ordered(problem, array) for name, array in problem.weights.items()}
    parameters = {
        "W": weights["weight_ih_l0"],
        "R": weights["weight_hh_l0"],
        "B": np.concatenate([weights["bias_ih_l0"], weights["bias_hh_l0"]]),
    }
    states = list(problem.states)
    inputs = dict(zip(_input_names(problem), [(T, N, I), *[(1, N, H)] * len(states)], strict=True))
    outputs = {"Y": (T, 1, N, H), **{f"Y_{name}": (1, N, H) for name in states}}
    x, *initial = inputs
    attributes: dict[str, Any] = {"hidden_size": H}
    if problem.cell == "gru":
        attributes["linear_before_reset"] = int(problem.options.get("reset_after", True))
    if problem.cell == "rnn":
        attributes["activations"] = [problem.options.get("nonlinearity", "tanh").capitalize()]
    no_lengths = ""
    node = helper.make_node(
        problem.cell.upper(), [x, *parameters, no_lengths, *initial], list(outputs), **attributes
    )

    def described(arrays: Mapping[str, tuple[int, ...]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in arrays.items()
        ]

    graph = helper.make_graph(
        [node],
        problem.cell,
        described(inputs),
        described(outputs),
        [numpy_helper.from_array(array[None], name) for name, array in parameters.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    return model.SerializeToString()


def _ordered(problem: Problem, array: np.ndarray) -> np.ndarray:
    gates = array.reshape(len(GATES[problem.cell]), problem.shape.H, *array.shape[1:])
    return gates[GATES[problem.cell]].reshape(array.shape)


def _session(model: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
