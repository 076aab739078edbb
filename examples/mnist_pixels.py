"""A digit, one pixel at a time and in disorder: many-to-one over 784 steps.

Le et al. 2015 made this out of MNIST to see how far back a recurrent network can remember. The
pixels come one by one; in the harder form they are shuffled, all pictures in the same way, so that
what belongs together is hundreds of steps apart and no two neighbours tell anything. At the end the
network, which has seen 784 numbers in a row, most of them 0, says which digit it was.

**Data.** MNIST, in a folder of its four files (see digits.py). Without, drawn digits at half their
size, of 196 pixels: the same task, shorter.

**Model.** A GRU of 150 units, some 70,000 weights, as in Bai, Kolter and Koltun 2018 (arXiv
1803.01271), who report 87.3 % for a GRU and 85.7 % for an LSTM after 10 epochs, shuffled. Here it
is two epochs, with small batches, for it is updates that are wanting, and a learning rate that
falls along a cosine. Pixels are given mean 0 and variance 1.

    python examples/mnist_pixels.py                             # drawn digits, a minute
    python examples/mnist_pixels.py --data mnist/               # the real ones, five minutes
    python examples/mnist_pixels.py --data mnist/ --in-order    # unshuffled
"""

import argparse
import sys
import time

import digits
import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import RaggedBatches
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

parser = argparse.ArgumentParser(description="Digits, pixel by pixel.")
parser.add_argument("--data", help="folder with MNIST's four files; drawn digits without")
parser.add_argument("--cell", choices=["GRU", "LSTM"], default="GRU")
parser.add_argument("--hidden", type=int, default=150, help="130 makes an LSTM as large")
parser.add_argument("--epochs", type=float, help="2 by default, 10 for drawn digits")
parser.add_argument("--in-order", action="store_true", help="do not shuffle the pixels")
parser.add_argument("--tested", type=int, help="how many digits to test on; all by default")
parser.add_argument("--seed", type=int, default=0)


class PixelReader(rk.Module):
    """(T, N, 1) pixels -> (N, 10) scores."""

    def __init__(self, cell, hidden):
        super().__init__()
        self.reader = getattr(nn, cell)(1, hidden)
        self.head = nn.Linear(hidden, 10)

    def loss(self, batch, state=None):
        last, _ = self.reader(rk.tensor(batch.inputs), return_sequences=False)
        scores = self.head(last)
        right = (scores.data.argmax(-1) == batch.targets).sum()
        value = losses.cross_entropy(scores, rk.tensor(batch.targets))
        return Loss(value, len(batch.targets), metrics={"accuracy": right})


def main():
    options = parser.parse_args()
    rk.manual_seed(options.seed)
    known, test = digits.load(options.data)
    test = test.part(0, options.tested)
    shape = known.images.shape if options.data else (-1, 14, 14)
    steps = shape[1] * shape[2]
    # The order is the same in every run, as if it belonged to the data.
    order = np.arange(steps) if options.in_order else np.random.default_rng(0).permutation(steps)

    mean, spread = known.images.mean(), known.images.std()

    def batches_of(part, seed=0):
        images = part.images if options.data else digits.shrink(part.images)
        pixels = (images.reshape(len(images), steps, 1)[:, order] - mean) / spread
        return RaggedBatches(list(pixels), part.labels, batch_size=32, bucket=False, seed=seed)

    model = PixelReader(options.cell, options.hidden)
    count = sum(parameter.size for parameter in model.parameters())
    print(f"{len(known.labels):,} digits of {steps} steps to learn from, {count:,} weights")
    watched = len(known.labels) // 60
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=3e-3),
        batches_of(known.part(watched, None), options.seed),
        batches_of(known.part(0, watched)),
        budget=Budget(epochs=options.epochs or (2 if options.data else 10)),
        schedule="cosine",
        validations=8,
        measure=Measure("accuracy", unit="% right", scale=100, digits=1, higher_is_better=True),
        observers=[progress_on(sys.stderr)],
    )
    outcome = trainer.fit()
    accuracy = trainer.evaluate(batches_of(test))["accuracy"]
    print(f"test digits right: {accuracy:.2%} of {len(test.labels):,} after "
          f"{outcome.steps:,} updates, {time.process_time():.0f} s of CPU")  # fmt: skip


if __name__ == "__main__":
    main()
