"""The language model in PyTorch: same layers, same names, same weights, same optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from rnnkit.data.continuous import Window

from .language_task import Task


class Model(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, task.embedding)
        between = task.dropout if task.layers > 1 else 0.0
        self.recurrent = nn.LSTM(task.embedding, task.hidden, task.layers, dropout=between)
        self.head = nn.Linear(task.hidden, task.vocabulary)
        self.dropout = nn.Dropout(task.dropout)

    def forward(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        y, state = self.recurrent(self.dropout(self.embedding(ids)), state)
        return self.head(self.dropout(y)), state


class TorchTrainer:
    """The optimiser is the fused one, PyTorch's fastest on a CPU."""

    name = "torch"

    def __init__(self, task: Task, threads: int) -> None:
        self.threads = threads
        torch.manual_seed(7)
        self.model = Model(task)
        self.model.load_state_dict({k: torch.from_numpy(v) for k, v in task.weights.items()})
        self.parameters = list(self.model.parameters())
        self.max_norm = task.max_norm
        make: Any = {"Adam": torch.optim.Adam, "SGD": torch.optim.SGD}[task.optimizer]
        self.optimizer = make(self.parameters, lr=task.learning_rate, fused=True)
        self.state: Any = None

    def prepare(self) -> None:
        torch.set_num_threads(self.threads)

    def step(self, window: Window) -> float:
        state = None
        if not window.starts_epoch and self.state is not None:
            state = tuple(part.detach() for part in self.state)
        loss, self.state = self._loss(window, state)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self.optimizer.step()
        return loss.item()

    def validate(self, windows: Sequence[Window]) -> float:
        self.model.eval()
        state, found = None, []
        with torch.inference_mode():
            for window in windows:
                loss, state = self._loss(window, state)
                found.append(loss.item())
        self.model.train()
        return float(np.mean(found))

    def _loss(self, window: Window, state: Any) -> tuple[torch.Tensor, Any]:
        logits, state = self.model(torch.from_numpy(window.inputs), state)
        targets = torch.from_numpy(window.targets).flatten()
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets), state
