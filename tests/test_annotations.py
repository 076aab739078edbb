"""What users write, with annotations: `make lint` has mypy check it, and it runs as well."""

from __future__ import annotations

from typing import assert_type

import numpy as np

import rnnkit as rk
from rnnkit import cells, nn
from rnnkit.ops import linear, tanh

State = tuple[rk.Tensor, ...]


class Leaky(rk.Cell):
    def __init__(self, input_size: int, hidden_size: int, keep: float = 0.5) -> None:
        super().__init__(input_size, hidden_size)
        self.keep = keep
        self.make_parameters("float32")

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        return {"weight": (self.hidden_size, self.input_size)}

    def step(self, x: rk.Tensor, state: State) -> tuple[rk.Tensor, State]:
        h = self.keep * state[0] + (1 - self.keep) * tanh(linear(x, self.weight))
        return h, (h,)


class Cube(rk.Function):
    @staticmethod
    def forward(ctx: object, x: np.ndarray) -> np.ndarray:
        return x**3

    @staticmethod
    def backward(ctx: object, d_y: rk.Tensor) -> rk.Tensor:
        return d_y


def test_classes_stay_what_they_are() -> None:
    assert_type(Leaky(3, 4, keep=0.1), Leaky)
    assert_type(cells.LRUCell(3, 4, state_size=5), cells.LRUCell)
    assert_type(nn.LSTM(3, 4).to("float64").eval(), nn.LSTM)


def test_parameters_by_name() -> None:
    lstm = nn.LSTM(3, 4)
    assert lstm.weight_hh_l0.shape == (16, 4)
    assert Leaky(3, 4).weight.shape == (4, 3)


def test_the_package_that_can_be_called() -> None:
    network = nn.Recurrent(Leaky(3, 4))
    with rk.backend("python"), rk.no_grad():
        network(rk.zeros(2, 1, 3))
        assert rk.backend.get_backend() == "python"
    decisions: list[rk.backend.Decision] = rk.backend.why()
    assert decisions[-1].path == "python"


def test_a_function_of_its_own() -> None:
    assert Cube.apply(rk.tensor([2.0])).item() == 8
