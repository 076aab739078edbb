"""The shapes that the suites run over."""

from __future__ import annotations

from collections.abc import Iterator

from .problem import Shape

GRID = [
    Shape(1, 100, 16, 16),
    Shape(1, 100, 32, 32),
    Shape(1, 100, 32, 64),
    Shape(1, 100, 64, 64),
    Shape(1, 100, 128, 128),
    Shape(1, 100, 256, 256),
    Shape(1, 100, 512, 512),
    Shape(16, 50, 32, 32),
    Shape(16, 50, 128, 128),
    Shape(32, 100, 64, 128),
    Shape(32, 50, 256, 256),
    Shape(20, 35, 650, 650),
    Shape(64, 25, 512, 512),
    Shape(64, 50, 512, 512),
    Shape(128, 25, 512, 512),
    Shape(16, 25, 1024, 1024),
]
QUICK_GRID = [
    Shape(1, 100, 16, 16),
    Shape(1, 100, 128, 128),
    Shape(32, 50, 256, 256),
    Shape(64, 25, 512, 512),
]
TINY_GRID = [Shape(1, 3, 2, 2), Shape(2, 4, 3, 5)]

# The recurrent problems of DeepBench (baidu-research/DeepBench, code/kernels/rnn_problems.h):
# hidden size, steps, batch sizes. Its input is as wide as its hidden state; its figures leave the
# input product out, these include it.
DEEPBENCH_TRAINING: dict[str, list[tuple[int, int, tuple[int, ...]]]] = {
    "rnn": [(H, 50, (16, 32, 64, 128)) for H in (1760, 2048, 2560)],
    "gru": [
        (2816, 1500, (32,)),
        (2048, 750, (32,)),
        (1536, 375, (32,)),
        (2560, 187, (32,)),
        (512, 1, (32,)),
        (1024, 1500, (32, 64)),
    ],
    "lstm": [
        *((H, 25, (16, 32, 64, 128)) for H in (512, 1024, 2048, 4096)),
        (1536, 50, (8, 16, 32)),
        (256, 150, (16, 32, 64)),
    ],
}
DEEPBENCH_INFERENCE: dict[str, list[tuple[int, int, tuple[int, ...]]]] = {
    "rnn": [(32, 672, (1,)), (64, 96, (1,))],
    "gru": [(H, T, (1, 2, 4)) for H, T, _ in DEEPBENCH_TRAINING["gru"]],
    "lstm": [
        *((H, 25, (1, 2, 4)) for H in (512, 1024, 2048)),
        (1536, 50, (1, 2, 4)),
        (256, 150, (1, 2, 4)),
    ],
}


def deepbench(cell: str) -> Iterator[tuple[Shape, tuple[str, ...]]]:
    """The DeepBench shapes of a cell, each with the modes that it is given in."""
    for modes, problems in (
        (("forward", "training"), DEEPBENCH_TRAINING),
        (("forward",), DEEPBENCH_INFERENCE),
    ):
        for H, T, batches in problems.get(cell, []):
            for N in batches:
                yield Shape(N, T, H, H), modes
