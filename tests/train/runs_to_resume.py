"""Small runs with everything that a resumed run must get right; also a script that is killed.

As a script it goes on with the run in a folder, or begins it: ``runs_to_resume.py FOLDER SEED``.
"""

import csv
import json
import os
import sys
from typing import NamedTuple

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn
from rnnkit.data import ContinuousBatches
from rnnkit.optim import EMA, LBFGS, AdamW
from rnnkit.train import (
    Budget,
    Checkpoints,
    CsvLog,
    JsonLinesLog,
    KeepBest,
    LanguageModel,
    LearningCurve,
    Loss,
    Measure,
    Observer,
    RunFolder,
    Trainer,
)
from rnnkit.train.tensor_file import TensorFile

TIMES = {"seconds", "items_per_second"}


class Rows(NamedTuple):
    position: int
    starts_epoch: bool
    inputs: np.ndarray
    targets: np.ndarray


class Shuffled:
    """Random sequences in an order that changes from epoch to epoch; the last batch is smaller."""

    def __init__(self, items, seed, size=3, length=5):
        random = np.random.default_rng(seed)
        self.inputs = random.normal(size=(length, items, 2)).astype(np.float32)
        self.targets = (self.inputs.sum((0, 2)) > 0).astype(np.int64)
        self.seed, self.size, self.items = seed, size, items
        self.batches_per_epoch = -(-items // size)

    def batch(self, position):
        epoch, index = divmod(position, self.batches_per_epoch)
        order = np.random.Generator(np.random.PCG64([self.seed, epoch])).permutation(self.items)
        return self._rows(position, index, order)

    def epoch(self):
        for index in range(self.batches_per_epoch):
            yield self._rows(index, index, np.arange(self.items))

    def _rows(self, position, index, order):
        rows = order[index * self.size : (index + 1) * self.size]
        return Rows(position, index == 0, self.inputs[:, rows], self.targets[rows])


class Classifier(rk.Module):
    """One of two classes for a sequence; it counts how often it was right, and in a buffer, runs.
    """

    def __init__(self, cell):
        super().__init__()
        self.recurrent = cell(2, 5)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(5, 2)
        self.register_buffer("runs", rk.tensor(np.zeros((), np.int64)))

    def loss(self, batch, state=None):
        y = self.recurrent(batch.inputs)[0][-1]
        scores = self.head(self.dropout(y))
        right = int((scores.data.argmax(1) == batch.targets).sum())
        if self.training:
            self.runs.data += 1
        return Loss(
            losses.cross_entropy(scores, batch.targets), len(batch.targets), None, {"right": right}
        )


def make_trainer(
    folder, *, seed=0, task="text", cell="lstm", schedule="constant", accumulate=1, ema=False,
    patience=None, target=None, steps=23, every_steps=4, observers=(), curve=False, lbfgs=None,
):  # fmt: skip
    """The same trainer for the same arguments, whatever ran before."""
    rk.manual_seed(seed)
    run = RunFolder(folder)
    os.makedirs(run.path, exist_ok=True)
    measure = Measure()
    if task == "text":
        ids = np.random.default_rng(seed).integers(0, 6, 220)
        training = ContinuousBatches(ids[:170], 3, 7)
        validation = ContinuousBatches(ids[170:], 2, 9)
        model = LanguageModel(6, cell=cell, layers=2, hidden=5, embedding=4, dropout=0.3)
    else:
        training, validation = Shuffled(20, seed + 1), Shuffled(11, seed + 2)
        model = Classifier({"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell])
        measure = Measure("right", higher_is_better=True)
    return Trainer(
        model,
        AdamW(model.parameters(), lr=0.05)
        if lbfgs is None
        else LBFGS(model.parameters(), **lbfgs),
        training,
        validation,
        budget=Budget(steps=steps),
        schedule=schedule,
        clip=0.5 if lbfgs is None else None,
        accumulate=accumulate,
        ema=EMA(model.parameters(), decay=0.8) if ema else None,
        validations=7,
        patience=patience,
        target=target,
        measure=measure,
        observers=[
            KeepBest(model, run), JsonLinesLog(run.log), CsvLog(run.table),
            *([LearningCurve(run.curve)] if curve else []), *observers,
        ],
        checkpoints=Checkpoints(folder, every_seconds=None, every_steps=every_steps),
    )  # fmt: skip


def without_times(folder):
    """All that a run left in its folder, but for what the clock has a part in."""
    run = RunFolder(folder)
    with open(run.log) as file:
        log = [json.loads(line) for line in file]
    with open(run.table, newline="") as file:
        table = list(csv.DictReader(file))
    for record in [*log, *table]:
        for name in TIMES:
            assert name in record or record["event"] == "finish"
            record.pop(name, None)
    with TensorFile(run.checkpoint) as file:
        arrays = {name: file.read(name).tobytes() for name in file.entries}
        notes = json.loads(file.notes["rnnkit"])
    progress = notes["progress"]
    for name in ("seconds", "speed"):
        del progress[name]
    progress["outcome"][2] = progress["outcome"][5] = None
    with open(run.model, "rb") as file:
        model = file.read()
    assert sorted(os.listdir(folder)) == sorted(run.files())  # nothing hidden is left behind
    return {"log": log, "table": table, "arrays": arrays, "notes": notes, "model": model}


class Tell(Observer):
    def on_start(self, start):
        print("started", start.step, flush=True)


OPTIONS = [
    {"task": "text", "cell": "lstm", "schedule": "cosine", "accumulate": 2, "ema": True},
    {"task": "rows", "cell": "gru", "schedule": "plateau", "accumulate": 3, "ema": False},
    {"task": "text", "cell": "rnn", "schedule": "plateau", "accumulate": 1, "ema": True},
]


def main(folder, seed):
    options = OPTIONS[seed % len(OPTIONS)]
    make_trainer(
        folder, seed=seed, steps=240, every_steps=3, observers=[Tell()], **options
    ).resume()
    print("finished", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
