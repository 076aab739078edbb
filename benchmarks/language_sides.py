"""Who trains the language models: rnnkit, and peers that can."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data.continuous import Window
from rnnkit.nn.utils import detach_state

from .language_task import Task
from .sides import prepare_rnnkit

PEERS = {"torch": "language_torch"}
"""A peer -> the module here with its ``Trainer``."""


class Trainer(Protocol):
    """A model in training: its state goes on from window to window, and so does the optimiser."""

    name: str

    def prepare(self) -> None:
        """Called, untimed, before a run of steps."""

    def step(self, window: Window) -> float:
        """One whole training step; its loss, in nats a token."""

    def validate(self, windows: Sequence[Window]) -> float:
        """The mean loss without dropout, the state carried from the first window to the last."""


class RnnkitTrainer:
    name = "native"

    def __init__(self, task: Task, threads: int) -> None:
        self.threads = threads
        self.model = task.make_model()
        self.max_norm = task.max_norm
        make = {"Adam": optim.Adam, "SGD": optim.SGD}[task.optimizer]
        self.optimizer = make(self.model.parameters(), lr=task.learning_rate)
        self.state: Any = None

    def prepare(self) -> None:
        prepare_rnnkit("native", self.threads)

    def step(self, window: Window) -> float:
        state = None if window.starts_epoch else detach_state(self.state)
        loss, _, self.state, _ = self.model.loss(window, state)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        return loss.item()

    def validate(self, windows: Sequence[Window]) -> float:
        self.model.eval()
        state, found = None, []
        with rk.no_grad():
            for window in windows:
                logits, state = self.model(window.inputs, state)
                found.append(losses.cross_entropy(logits, window.targets).item())
        self.model.train()
        return float(np.mean(found))


def peer_trainer(peer: str, task: Task, threads: int) -> Trainer:
    module = importlib.import_module(f".{PEERS[peer]}", __package__)
    return module.TorchTrainer(task, threads)
