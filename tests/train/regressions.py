"""A small model and batches of it whose losses and gradients can be told by hand."""

import math

import numpy as np
from runs_to_resume import Rows

import rnnkit as rk
from rnnkit.train import Loss


class Regression(rk.Module):
    """y = w x; the loss of a batch leaves out what is masked."""

    def __init__(self, weights=(0.5, -1.0)):
        super().__init__()
        self.weight = rk.Parameter(np.array(weights))

    def loss(self, batch, state=None):
        error = batch.inputs @ self.weight - rk.tensor(batch.targets)
        count = len(batch.targets)
        value = (error * error).mean() if count else (self.weight * math.nan).sum()
        return Loss(value, count, None, {"error": float(np.abs(error.data).sum())})


class Ragged:
    """Batches of different sizes, one of them empty."""

    SIZES = (3, 1, 0, 5)
    batches_per_epoch = len(SIZES)

    def __init__(self):
        random = np.random.default_rng(0)
        self.inputs = [random.normal(size=(size, 2)) for size in self.SIZES]
        self.targets = [x @ [1.0, 2.0] for x in self.inputs]

    def batch(self, position):
        index = position % self.batches_per_epoch
        return Rows(position, index == 0, self.inputs[index], self.targets[index])

    def epoch(self):
        return map(self.batch, range(self.batches_per_epoch))


class Whole(Ragged):
    """The same items in one batch."""

    batches_per_epoch = 1

    def batch(self, position):
        return Rows(position, True, np.concatenate(self.inputs), np.concatenate(self.targets))


class Shuffles(Ragged):
    SIZES = (3, 2)
    batches_per_epoch = 2
