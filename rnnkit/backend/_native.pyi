from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Weights = tuple[Array | None, ...]

def version() -> int: ...
def compiler() -> str: ...
def isa_built() -> list[str]: ...
def isa_supported() -> list[str]: ...
def isa_in_use() -> str: ...
def choose_isa(name: str | None = None) -> None: ...
def dense(arrays: Sequence[Array | None]) -> tuple[Any, ...]: ...
def rows(a: Array) -> Array: ...
def lined_up(a: Array) -> Array: ...
def new_arrays(shapes: Sequence[tuple[int, ...] | None], dtype: Any) -> tuple[Any, ...]: ...
def barrier_time() -> float: ...
def keep_freed_memory() -> bool: ...
def has_kernel(name: str, dtype: str) -> bool: ...
def steps_together(cell: str, variant: str, dtype: str, N: int, I: int, H: int) -> int: ...
def stored(cell: str, variant: str, dtype: str, T: int, N: int, I: int, H: int) -> int: ...
def update(
    rule: str,
    dtype: str,
    n_threads: int,
    params: list[Array],
    grads: list[Array],
    states: Sequence[tuple[Array | None, ...]],
    coefficients: Sequence[tuple[float, ...]],
) -> None: ...
def squared_norm(dtype: str, n_threads: int, arrays: list[Array]) -> float: ...
def scale(dtype: str, n_threads: int, arrays: list[Array], factor: float) -> None: ...
def cross_entropy(
    dtype: str,
    n_threads: int,
    *,
    x: Array,
    target: Array,
    kept: Array,
    hit: Array,
    total: Array,
    rest: Array | None,
    spread: float,
    loss: Array,
    top: Array,
    others: Array,
) -> None: ...
def cross_entropy_gradient(
    dtype: str,
    n_threads: int,
    *,
    x: Array,
    target: Array,
    kept: Array,
    hit: Array,
    total: Array,
    rest: Array | None,
    spread: float,
    top: Array,
    others: Array,
    d_loss: Array,
    d_x: Array,
) -> None: ...
def ctc_alphas_shape(T: int, N: int, labels: int) -> tuple[int, int, int]: ...
def ctc(
    dtype: str,
    n_threads: int,
    *,
    x: Array,
    target: Array,
    input_length: Array,
    target_length: Array,
    blank: int,
    alphas: Array | None,
    loss: Array,
) -> None: ...
def ctc_gradient(
    dtype: str,
    n_threads: int,
    *,
    x: Array,
    target: Array,
    input_length: Array,
    target_length: Array,
    blank: int,
    alphas: Array,
    loss: Array,
    d_loss: Array,
    d_x: Array,
) -> None: ...

class Schedule:
    steps: int
    rows: int
    T: int
    N: int
    def __init__(self, T: int, N: int, lengths: Array | None, reset: Array | None) -> None: ...
    def clear_padding(self, cells: Array, batch_first: bool) -> None: ...

class PackedWeights:
    serves: bool
    def __init__(
        self, cell: str, variant: str, dtype: str, I: int, H: int, weights: Weights
    ) -> None: ...
    def pack(self, weights: Weights) -> None: ...

class Layer:
    segment: int
    n_segments: int
    def __init__(
        self,
        cell: str,
        variant: str,
        dtype: str,
        n_threads: int,
        batch_first: bool,
        x: Array,
        initial: tuple[Array, ...],
        weights: Weights,
        wants_y: bool = True,
        wants_c: bool = False,
        schedule: Schedule | None = None,
        restart: tuple[Array | None, ...] | None = None,
        segment: int = 0,
        packed: tuple[PackedWeights, ...] | None = None,
    ) -> None: ...
    def forward(self, keep: bool) -> list[Array]: ...
    def backward(
        self,
        d_outputs: list[Array | None],
        needs: Sequence[bool],
        overwrite: bool,
        d_steps: tuple[Array, ...] = (),
    ) -> list[Array | None]: ...

def program_ops() -> list[str]: ...

class Program:
    def __init__(
        self,
        bases: Array,
        instructions: Array,
        products: Array,
        weights: Array,
        stages: Array,
        states: Array,
        sizes: tuple[int, int, int, int, int, int],
        invariant_sizes: tuple[int, ...],
        sequence_widths: tuple[int, ...],
        output_widths: tuple[int, ...],
    ) -> None: ...

class Plan:
    def __init__(
        self,
        forward: Program,
        backward: Program | None,
        kept_states: tuple[tuple[int, int], ...],
        kept_size: int,
        products: tuple[tuple[int, int, bool, int, int], ...],
        forward_sequences: tuple[int, ...],
        backward_sequences: tuple[int, ...],
        backward_outputs: tuple[int, ...],
        sums: tuple[tuple[int, int, int, int], ...],
    ) -> None: ...

class Passes:
    def __init__(
        self,
        plan: Plan,
        dtype: str,
        n_threads: int,
        T: int,
        N: int,
        schedule: Schedule | None,
        reverse: bool,
        layout: str,
        block: int,
        packed: Packed | None = None,
    ) -> None: ...
    def forget(self) -> None: ...
    def follow(self, plan: Plan) -> None: ...
    def forward(
        self,
        first: int,
        count: int,
        rows: tuple[Array, ...],
        operands: tuple[Array, ...],
        invariants: tuple[Array, ...],
        given: tuple[tuple[Array, str], ...],
        outputs: tuple[tuple[Array, str], ...],
        initial: tuple[Array, ...],
        restart: tuple[Array | None, ...],
        final: tuple[Array, ...],
    ) -> None: ...
    def backward(
        self,
        first: int,
        count: int,
        rows: tuple[Array, ...],
        operands: tuple[Array, ...],
        invariants: tuple[Array, ...],
        given: tuple[tuple[Array, str], ...],
        outputs: tuple[tuple[Array, str], ...],
        initial: tuple[Array, ...],
        restart: tuple[Array | None, ...],
        d_final: tuple[Array | None, ...],
        d_initial: tuple[Array | None, ...],
        d_restart: tuple[Array | None, ...],
        row_sums: Array | None,
        sums: tuple[Array, ...],
        d_rows: tuple[Array | None, ...],
        d_matrices: tuple[Array | None, ...],
        d_biases: tuple[Array | None, ...],
        add: bool,
    ) -> None: ...

class Packed:
    def __init__(self, program: Program, dtype: str) -> None: ...

class Stepper:
    def __init__(
        self,
        cell: str,
        variant: str,
        dtype: str,
        layers: list[Weights],
        states: tuple[Array, ...],
        n_threads: int,
    ) -> None: ...
    def repack(self, layers: list[Weights]) -> None: ...
    def run(self, x: Array, y: Array | None = None) -> Array: ...

class LayerStep:
    def __init__(
        self,
        passes: Passes,
        I: int,
        operands: tuple[Array, ...],
        invariants: tuple[Array, ...],
        state: tuple[Array, ...],
    ) -> None: ...

class ProgramStepper:
    def __init__(self, layers: list[LayerStep], state: tuple[Array, ...], lock: Any) -> None: ...
    def run(self, x: Array, y: Array | None = None) -> Array: ...

def matmul(
    a: Array, b: Array, bias: Array | None, c: Array, dtype: str, n_threads: int, adds: bool = False
) -> None: ...
def take_rows(dtype: str, n_threads: int, table: Array, ids: Array, rows: Array) -> None: ...
def add_rows(dtype: str, n_threads: int, table: Array, ids: Array, rows: Array) -> None: ...
def dropout(
    dtype: str, n_threads: int, x: Array, y: Array, seed: int, threshold: int, scale: float
) -> None: ...
def evaluate(function: str, x: Array, out: Array, dtype: str) -> None: ...
