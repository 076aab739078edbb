"""Say it again, much later: ten symbols, a long silence, then the ten symbols from memory.

The copy memory task of Hochreiter and Schmidhuber 1997 in the form of Arjovsky, Shah and Bengio
2016 (arXiv 1511.06464) and Bai, Kolter and Koltun 2018 (arXiv 1803.01271). Many-to-many: the input
is ten symbols from 1 to 8, T - 1 zeros, and eleven 9s, which ask for the answer; the output is
T + 10 zeros and then the symbols. Who remembers nothing, but knows when to speak, guesses among
eight: a cross entropy of 10 ln 8 / (T + 20) nats a step.

    python examples/copy_memory.py --steps 100

Unlike the adding problem this asks for much to be kept, 30 bits, without a loss, and that is hard
for gates: Bai et al. found LSTM and GRU at the baseline for T = 1000, and below 20 % of symbols
right from T = 50 (LSTM) and T = 200 (GRU) on. The remedy here is a recurrent matrix that is
orthogonal, not only at first but throughout: it is the exponential of a skew-symmetric matrix, and
its gradient neither vanishes nor explodes (ExpRNN: Lezcano-Casado and Martinez-Rubio 2019, arXiv
1901.08428). A GRU is trained beside it, for as many updates.

The sequences are drawn as they are needed: none is seen twice. Without options T is 30.
"""

import argparse
import math
import sys

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.cells import ExpRNNCell
from rnnkit.data import PositionedBatches, SequenceBatch
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

SYMBOLS, LENGTH, GO = 8, 10, 9


class CopyMemory(PositionedBatches):
    """New sequences at every position, and always the same at the same position."""

    def __init__(self, steps, batch_size=32, batches_per_epoch=100, seed=0):
        self.steps, self.batch_size, self.seed = steps, batch_size, seed
        self.batches_per_epoch = batches_per_epoch

    def batch(self, position):
        T, N = self.steps, self.batch_size
        symbols = np.random.default_rng([self.seed, position]).integers(
            1, SYMBOLS + 1, (LENGTH, N)
        )
        inputs, targets = np.zeros((2, T + 2 * LENGTH, N), int)
        inputs[:LENGTH], inputs[T + LENGTH - 1 :] = symbols, GO
        targets[-LENGTH:] = symbols
        lengths = np.full(N, len(inputs))
        return SequenceBatch(position, True, inputs, lengths, targets, None, np.arange(N))

    def epoch(self):
        return (self.batch(k) for k in range(self.batches_per_epoch))


class Copier(rk.Module):
    def __init__(self, recurrent, hidden):
        super().__init__()
        self.recurrent, self.head = recurrent, nn.Linear(hidden, SYMBOLS + 1)

    def forward(self, ids):
        """Scores (T, N, 9) of symbols (T, N)."""
        y, _ = self.recurrent(rk.tensor(np.eye(GO + 1, dtype=np.float32)[ids]))
        return self.head(y)

    def loss(self, batch, state=None):
        scores = self(batch.inputs)
        said = scores.data[-LENGTH:].argmax(-1)
        right = float((said == batch.targets[-LENGTH:]).mean(0).sum())
        value = losses.cross_entropy(scores, batch.targets)
        return Loss(value, len(batch.rows), metrics={"accuracy": right})


NETWORKS = {
    "GRU": (lambda H: nn.GRU(GO + 1, H), 2e-3),
    "ExpRNN": (lambda H: nn.Recurrent(ExpRNNCell(GO + 1, H)), 2e-3),
}


def main():
    parser = argparse.ArgumentParser(description="Say ten symbols again after T steps.")
    parser.add_argument("--steps", type=int, default=30, help="T, the steps in between")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--updates", type=int, default=1200)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    T = options.steps
    baseline = LENGTH * math.log(SYMBOLS) / (T + 2 * LENGTH)
    print(f"T = {T}; guessing at the right time costs {baseline:.4f} nats a step")
    test = CopyMemory(T, batch_size=100, batches_per_epoch=5, seed=10_000)
    results = {}
    for name in options.networks:
        make, learning_rate = NETWORKS[name]
        rk.manual_seed(options.seed)
        model = Copier(make(options.hidden), options.hidden)
        trainer = Trainer(
            model,
            optim.Adam(model.parameters(), lr=learning_rate),
            CopyMemory(T, seed=options.seed),
            budget=Budget(steps=options.updates),
            schedule="cosine",
            measure=Measure("accuracy", "% of symbols", 100, 1, True, "sequences"),
            observers=[progress_on(sys.stderr)],
        )
        trainer.fit()
        results[name] = trainer.evaluate(test)
        print(
            f"{name:7} {results[name]['accuracy']:7.2%} of the symbols right, "
            f"{results[name]['loss']:.6f} nats a step"
        )
    model.eval()
    batch = test.batch(0)
    with rk.no_grad():
        said = model(batch.inputs[:, :1]).data[-LENGTH:, 0].argmax(-1)
    print("told ", *batch.inputs[:LENGTH, 0])
    print("said ", *said, f" ({name})")
    return results


if __name__ == "__main__":
    main()
