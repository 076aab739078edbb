"""Which came first? Two signals in a hundred steps of noise, and their order is the answer.

Experiment 6a of Hochreiter and Schmidhuber 1997, "Long short-term memory". Many-to-one: a sequence
of 100 to 110 symbols begins with E and ends with B; in between stand a, b, c and d at random, and
twice a signal, X or Y: somewhere in steps 10 to 20 and in steps 50 to 60. There are four classes,
XX, XY, YX and YY. The original LSTM, with 156 weights and one sequence an update, needed 31,390
sequences until it was right, then failed on 1 of 2560; a plain RNN does not learn it.

    python examples/temporal_order.py --steps 100      (or 500: all places in proportion)

What must be learnt first is that anything so long ago matters. An LSTM whose gates begin with
memories of up to 1.5 T steps (chrono: Tallec and Ollivier 2018, arXiv 1804.11188) sees it at once.
A plain RNN is trained beside it, for as many updates.

The sequences are drawn as they are needed: none is seen twice. Without options T is 60.
"""

import argparse
import sys

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import PositionedBatches, SequenceBatch
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

SYMBOLS = "EBabcdXY"
BEGIN, END, NOISE, SIGNAL = 0, 1, 2, 6  # the first id of each kind
CLASSES = ["XX", "XY", "YX", "YY"]


class TemporalOrder(PositionedBatches):
    """New sequences at every position, and always the same at the same position."""

    def __init__(self, steps, batch_size=32, batches_per_epoch=100, seed=0):
        self.steps, self.batch_size, self.seed = steps, batch_size, seed
        self.batches_per_epoch = batches_per_epoch

    def batch(self, position):
        random = np.random.default_rng([self.seed, position])
        T, N, rows = self.steps, self.batch_size, np.arange(self.batch_size)
        lengths = random.integers(T, 11 * T // 10 + 1, N)
        x = random.integers(NOISE, SIGNAL, (lengths.max(), N))
        x[0], x[lengths - 1, rows] = BEGIN, END
        signals = random.integers(0, 2, (2, N))
        for signal, first in zip(signals, (T // 10, T // 2), strict=True):
            x[first + random.integers(0, T // 10 + 1, N) - 1, rows] = SIGNAL + signal
        classes = 2 * signals[0] + signals[1]
        return SequenceBatch(position, True, x, lengths, classes, None, rows)

    def epoch(self):
        return (self.batch(k) for k in range(self.batches_per_epoch))


class OrderNet(rk.Module):
    def __init__(self, recurrent, hidden):
        super().__init__()
        self.recurrent, self.head = recurrent, nn.Linear(hidden, len(CLASSES))

    def forward(self, ids, lengths):
        x = rk.tensor(np.eye(len(SYMBOLS), dtype=np.float32)[ids])
        last, _ = self.recurrent(x, lengths=lengths, return_sequences=False)
        return self.head(last)

    def loss(self, batch, state=None):
        scores = self(batch.inputs, batch.lengths)
        right = float((scores.data.argmax(1) == batch.targets).sum())
        value = losses.cross_entropy(scores, batch.targets)
        return Loss(value, len(batch.rows), metrics={"accuracy": right})


# How each network is made for T steps and H units, and its learning rate.
NETWORKS = {
    "RNN": (lambda T, H: nn.RNN(len(SYMBOLS), H), 1e-3),
    "LSTM": (lambda T, H: nn.init.chrono_(nn.LSTM(len(SYMBOLS), H), 1.5 * T), 5e-3),
}


def main():
    parser = argparse.ArgumentParser(description="Which of two signals came first?")
    parser.add_argument("--steps", type=int, default=60, help="T, the least length")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--updates", type=int, default=800)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    T = options.steps
    test = TemporalOrder(T, batch_size=256, batches_per_epoch=10, seed=10_000)
    print(f"T = {T}; {len(CLASSES)} classes, of which a guess meets 25 %")
    results = {}
    for name in options.networks:
        make, learning_rate = NETWORKS[name]
        rk.manual_seed(options.seed)
        model = OrderNet(make(T, options.hidden), options.hidden)
        trainer = Trainer(
            model,
            optim.Adam(model.parameters(), lr=learning_rate),
            TemporalOrder(T, seed=options.seed),
            budget=Budget(steps=options.updates),
            schedule="cosine",
            measure=Measure("accuracy", "%", 100, 1, higher_is_better=True, items="sequences"),
            observers=[progress_on(sys.stderr)],
        )
        trainer.fit()
        results[name] = trainer.evaluate(test)["accuracy"]
        wrong = round((1 - results[name]) * 2560)
        print(f"{name:5} {results[name]:7.2%} right: {wrong} of 2560 sequences wrong")
    return results


if __name__ == "__main__":
    main()
