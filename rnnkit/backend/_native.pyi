from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

def version() -> int: ...
def compiler() -> str: ...
def isa_built() -> list[str]: ...
def isa_supported() -> list[str]: ...
def isa_in_use() -> str: ...
def choose_isa(name: str | None = None) -> None: ...
def has_kernel(name: str, dtype: str) -> bool: ...
def stored(
    cell: str, variant: str, dtype: str, T: int, N: int, I: int, H: int
) -> tuple[int, int]: ...
def forward(
    cell: str,
    variant: str,
    dtype: str,
    n_threads: int,
    *,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    h_0: Array,
    c_0: Array | None,
    y: Array,
    h_n: Array,
    c_n: Array | None,
    gates: Array | None,
    extra: Array | None,
) -> None: ...
def backward(
    cell: str,
    variant: str,
    dtype: str,
    n_threads: int,
    *,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    h_0: Array,
    c_0: Array | None,
    y: Array,
    gates: Array | None,
    extra: Array | None,
    d_y: Array | None,
    d_h_n: Array | None,
    d_c_n: Array | None,
    d_gates: Array | None,
    d_extra: Array | None,
    d_x: Array | None,
    d_x_add: bool,
    d_w_ih: Array | None,
    d_w_hh: Array | None,
    d_b_ih: Array | None,
    d_b_hh: Array | None,
    d_h_0: Array | None,
    d_c_0: Array | None,
) -> None: ...

class Stepper:
    def __init__(
        self,
        cell: str,
        variant: str,
        dtype: str,
        layers: list[tuple[Array, Array, Array | None, Array | None]],
        states: tuple[Array, ...],
        n_threads: int,
    ) -> None: ...
    def repack(
        self, layers: list[tuple[Array, Array, Array | None, Array | None]]
    ) -> None: ...
    def run(self, x: Array, y: Array) -> None: ...

def matmul(a: Array, b: Array, c: Array, dtype: str, n_threads: int) -> None: ...
def evaluate(function: str, x: Array, out: Array, dtype: str) -> None: ...
