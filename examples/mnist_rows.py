"""Reading a handwritten digit line by line: many-to-one.

A picture is a sequence if one reads it as one: 28 steps, each a row of 28 pixels, from the top to
the bottom. At every step the network sees a thin slice of ink and has to remember what was above
it. Only after the last row is it asked which digit it was.

**Data.** MNIST, in a folder of its four files (see digits.py); without, digits that are drawn. The
10,000 test digits are looked at once, at the end. 5,000 of the others are put aside to watch.

**Model.** A bidirectional LSTM of 128 units, which is two readers: one from the top, one from the
bottom. What each has understood at its end, side by side, is mapped to ten scores. One reader alone
does nearly as well; two agree sooner. 30 % of dropout keep them from learning the writers by
heart; AdamW, with a learning rate that falls to nothing along a cosine, does the rest.

    python examples/mnist_rows.py                  # drawn digits, a few seconds
    python examples/mnist_rows.py --data mnist/    # the real ones
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

parser = argparse.ArgumentParser(description="Digits, row by row.")
parser.add_argument("--data", help="folder with MNIST's four files; drawn digits without")
parser.add_argument("--hidden", type=int, default=128, help="units of each of the two readers")
parser.add_argument("--epochs", type=float, default=5.0)
parser.add_argument("--seed", type=int, default=0)


class RowReader(rk.Module):
    """(28, N, 28) rows, top to bottom -> (N, 10) scores."""

    def __init__(self, hidden):
        super().__init__()
        self.readers = nn.LSTM(digits.SIDE, hidden, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * hidden, 10)

    def forward(self, rows):
        # The last output of each direction: the upward reader's is that at the first row.
        understood, _ = self.readers(rk.tensor(rows), return_sequences=False)
        return self.head(self.dropout(understood))

    def loss(self, batch, state=None):
        scores = self(batch.inputs)
        right = (scores.data.argmax(-1) == batch.targets).sum()
        value = losses.cross_entropy(scores, rk.tensor(batch.targets))
        return Loss(value, len(batch.targets), metrics={"accuracy": right})


def batches_of(part, seed=0):
    """Rows of 128 pictures at a time. All are equally long, so there is nothing to sort."""
    return RaggedBatches(
        list(part.images), part.labels, batch_size=128, bucket=False, seed=seed
    )  # fmt: skip


def main():
    options = parser.parse_args()
    rk.manual_seed(options.seed)
    known, test = digits.load(options.data)
    watched = len(known.labels) // 12
    training, validation = known.part(watched, None), known.part(0, watched)

    model = RowReader(options.hidden)
    count = sum(parameter.size for parameter in model.parameters())
    print(f"{len(training.labels):,} digits to learn from, {count:,} weights")
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=4e-3),
        batches_of(training, options.seed),
        batches_of(validation),
        budget=Budget(epochs=options.epochs),
        schedule="cosine",
        validations=5,
        measure=Measure("accuracy", unit="% right", scale=100, digits=2, higher_is_better=True),
        observers=[progress_on(sys.stderr)],
    )
    trainer.fit()

    accuracy = trainer.evaluate(batches_of(test))["accuracy"]
    model.eval()
    with rk.no_grad():
        said = model(np.ascontiguousarray(test.images.transpose(1, 0, 2))).data.argmax(-1)
    print(f"test digits right: {accuracy:.2%} of {len(said):,}, {time.process_time():.0f} s of CPU")
    confused = np.zeros((10, 10), int)
    np.add.at(confused, (test.labels, said), 1)
    np.fill_diagonal(confused, 0)
    print("most often taken for another:")
    for place in np.argsort(-confused, None)[:3]:
        shown, taken = divmod(int(place), 10)
        print(f"  {shown} for {taken}: {confused[shown, taken]} times")
    wrong = np.flatnonzero(said != test.labels)[:4]
    for row in wrong[:1]:
        print(f"this {test.labels[row]} was read as {said[row]}:")
        print("\n".join(digits.as_text(test.images[row])))


if __name__ == "__main__":
    main()
