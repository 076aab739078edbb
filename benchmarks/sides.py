"""What is compared: rnnkit's two paths, and peers where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

import rnnkit as rk

from .problem import Problem
from .timing import Entry

PEERS = {
    "torch": ("peer_torch", ["torch"]),
    "jax": ("peer_jax", ["jax"]),
    "onnxruntime": ("peer_onnxruntime", ["onnxruntime", "onnx"]),
}
"""A peer -> the module here that makes sides of it, and the packages that it needs."""


class DisagreementError(AssertionError):
    """Two sides of a comparison don't compute the same, or one fails; none is timed."""


@dataclass(frozen=True)
class Side:
    """One contestant on one problem, in one of its settings.

    ``forward`` is inference; ``train`` a forward pass and the gradients of x, of the initial states
    and of every weight, or None where there is no training. Each returns its arrays in the order
    y, final states, gradients. ``prepare`` is called, untimed, before each sample. ``compile`` is
    for sides that compile: it makes a mode ready and returns the seconds that this took.
    """

    name: str
    forward: Callable[[], Any]
    train: Callable[[], Any] | None
    to_numpy: Callable[[Any], list[np.ndarray]]
    prepare: Callable[[], None]
    setting: str = ""
    compile: Callable[[str], float] | None = None

    def timed(self, mode: str) -> Callable[[], Any]:
        call = self.forward if mode == "forward" else self.train
        assert call is not None
        return call

    def entry(self, mode: str) -> Entry:
        return Entry(self.name, self.timed(mode), self.setting, self.prepare)

    @property
    def title(self) -> str:
        return f"{self.name} ({self.setting})" if self.setting else self.name


@dataclass(frozen=True)
class Stepper:
    """One contestant that answers one step at a time and carries its state from call to call.

    ``reset`` goes back to the zero state. ``step`` takes one of ``inputs`` and returns the output,
    both in the contestant's own arrays. ``context`` is entered around a run of steps.
    """

    name: str
    inputs: list[Any]
    reset: Callable[[], None]
    step: Callable[[Any], Any]
    to_numpy: Callable[[Any], np.ndarray]
    prepare: Callable[[], None]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    setting: str = ""

    def entry(self) -> Entry:
        step, x = self.step, self.inputs[0]
        return Entry(self.name, lambda: step(x), self.setting, self.prepare, self.context)

    def run(self) -> np.ndarray:
        """The outputs of all inputs in a row, from the zero state."""
        with _failures_of(self, "steps"):
            self.prepare()
            self.reset()
            with self.context():
                return np.stack([self.to_numpy(self.step(x)).copy() for x in self.inputs])


ISA: str | None = rk.config()["isa_in_use"]
"""The instruction set that a run of the suite uses, if the extension is there."""


def rnnkit_side(
    problem: Problem,
    backend: str,
    threads: int | None = None,
    name: str | None = None,
    isa: str | None = ISA,
) -> Side:
    """rnnkit on the path that ``backend`` forces, "native" or "python", or "auto" chooses.

    Inference is that of a frozen module, as a model in use should be.
    """
    weights = problem.weights
    module = problem.make_module()
    inputs = [rk.as_tensor(value).requires_grad_() for value in problem.inputs.values()]
    x, state = inputs[0], inputs[1:]
    given = state[0] if len(state) == 1 else tuple(state)
    wanted = [*inputs, *(dict(module.named_parameters())[name] for name in weights)]
    d_outputs = [rk.as_tensor(value) for value in problem.d_outputs.values()]
    call_options = problem.call_options

    def outputs(module: Any) -> list[Any]:
        y, final = module(x, given, **call_options)
        return [y, *final] if isinstance(final, tuple) else [y, final]

    @cache
    def frozen() -> Any:
        return problem.make_module().freeze()

    def forward() -> list[Any]:
        with rk.no_grad():
            return outputs(frozen())

    def train() -> list[Any]:
        results = outputs(module)
        return [*results, *rk.grad(results, wanted, d_outputs)]

    return Side(
        name or backend,
        forward,
        train,
        lambda tensors: [tensor.detach().numpy() for tensor in tensors],
        lambda: prepare_rnnkit(backend, threads, isa),
    )


def prepare_rnnkit(backend: str, threads: int | None = None, isa: str | None = ISA) -> None:
    """Puts the process on a path, an instruction set and, where given, a number of threads."""
    rk.set_backend(backend)
    native = rk.backend.native()
    if native is not None:
        native.choose_isa(isa)
    if threads is not None:
        rk.set_num_threads(threads)


def thread_settings(threads: int) -> dict[str, int]:
    """The settings that a peer may choose its best from: one thread, or all of this run."""
    counts = dict.fromkeys((threads, 1))
    return {f"{n} thread{'s' if n > 1 else ''}": n for n in counts}


def missing_packages(peer: str) -> list[str]:
    """What this interpreter lacks for a peer."""
    return [name for name in PEERS[peer][1] if importlib.util.find_spec(name) is None]


def peer_module(peer: str) -> ModuleType:
    return importlib.import_module(f".{PEERS[peer][0]}", __package__)


def peer_sides(problem: Problem, peers: list[str], threads: int) -> list[Side]:
    """The peers that can run the problem, each in all of its settings."""
    return [side for name in peers for side in peer_module(name).make_sides(problem, threads)]


def compile_sides(problem: Problem, sides: list[Side], mode: str) -> dict[str, float]:
    """Makes ready those that compile; the seconds each took, by title."""
    seconds = {}
    for side in sides:
        if side.compile:
            with _failures_of(side, f"{problem} {mode}"):
                seconds[side.title] = side.compile(mode)
    return seconds


@contextmanager
def _failures_of(side: Any, what: str) -> Iterator[None]:
    """Whatever a side raises, as a DisagreementError: it ends this comparison, not the run."""
    try:
        yield
    except Exception as error:
        message = f"{what} of {side.name} fails: {type(error).__name__}: {error}"
        raise DisagreementError(message) from error


def check_sides(problem: Problem, sides: list[Side], mode: str) -> None:
    """Raises DisagreementError unless all sides compute what the first does, to rounding."""
    names = ["y", *(f"{state}n" for state in problem.states)]
    if mode == "training":
        names += [f"d_{name}" for name in (*problem.inputs, *problem.weights)]
    expected: list[np.ndarray] = []
    for side in sides:
        with _failures_of(side, f"{problem} {mode}"):
            side.prepare()
            arrays = side.to_numpy(side.timed(mode)())
        if side is sides[0]:
            expected = arrays
        if len(arrays) != len(names):
            raise DisagreementError(
                f"{problem} {mode} of {side.name} has {len(arrays)} results in place of "
                f"{len(names)}: {', '.join(names)}"
            )
        for name, a, b in zip(names, arrays, expected, strict=True):
            check_equal(a, b, problem.tolerance(), f"{problem} {mode}: {name}", side, sides[0])


def check_equal(
    a: np.ndarray, b: np.ndarray, tolerance: float, what: str, side: Any, first: Any
) -> None:
    """Raises DisagreementError where ``a``, from ``side``, is further from ``b`` than rounding."""
    if a.dtype != b.dtype:
        raise DisagreementError(
            f"{what} of {side.name} is {a.dtype}, that of {first.name} {b.dtype}"
        )
    scale = max(float(np.abs(b).max()), 1e-30)
    error = float(np.abs(a - b).max()) / scale if a.shape == b.shape else float("inf")
    if not error <= tolerance:
        raise DisagreementError(
            f"{what} of {side.name} differs from that of {first.name} by {error:.1e} of its "
            f"largest element (at most {tolerance:.1e} is rounding)"
        )
