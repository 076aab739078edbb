"""Which digit is being written? The movements of a pen in, one of ten digits out.

The mapping is many-to-one. The data are the raw strokes of UCI's pen digits (Alimoglu and Alpaydin
1996): every 100 ms a tablet says where the pen is, 9 to 231 times for a digit. 30 people wrote the
7494 digits of the training part, 14 others the 3498 of the test part, so what counts is to read a
hand never seen before.

    https://archive.ics.uci.edu/dataset/81   (pendigits-orig.tra.Z and .tes.Z; uncompress both)
    python examples/pen_digits.py --data FOLDER

A step tells how far the pen went, where on the digit it is, and whether it was just put down. A
GRU reads this in both directions, and the mean and the maximum of its states are classified. Other
hands mean other slants and proportions: each time a digit is seen in training it is sheared,
stretched and turned a little, by a random matrix near the identity.

Without --data the digits are made up: ten templates, written by a trembling hand.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import RaggedBatches, read_text
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

FILES = [("pendigits-orig.tra", "pendigits-train.unipen"),
         ("pendigits-orig.tes", "pendigits-test.unipen")]  # fmt: skip

# Strokes of each digit, corner after corner, on a square of 10 x 10.
TEMPLATES = [
    ["5A 18 05 12 50 92 A5 98 5A"], ["38 5A 50"], ["08 3A 89 86 00 A0"],
    ["09 5A 98 46 93 50 01"], ["3A 04 A4", "77 70"], ["1A 16 66 93 60 01", "1A 9A"],
    ["7A 26 02 40 82 54 13"], ["0A AA 40", "25 85"], ["89 4A 18 83 50 12 88"],
    ["99 5A 18 35 98 83 60"],
]  # fmt: skip


def read_digits(path):
    """The digits of a UNIPEN file, each a list of strokes (points, 2), and what they mean."""
    digits, labels = [], []
    for segment in read_text(path).split(".SEGMENT")[1:]:
        labels.append(int(segment.split('"')[1]))
        strokes = [part.split(".PEN_UP")[0].split() for part in segment.split(".PEN_DOWN")[1:]]
        digits.append([np.array(stroke, float).reshape(-1, 2) for stroke in strokes if stroke])
    return digits, np.array(labels)


def make_up_digits(random, count):
    """``count`` digits: corners that tremble, joined at a speed of the day, in another slant."""
    digits, labels = [], random.integers(0, 10, count)
    for label in labels:
        speed, slant = random.uniform(0.8, 1.6), np.eye(2) + random.normal(scale=0.15, size=(2, 2))
        strokes = []
        for stroke in TEMPLATES[label]:
            corners = np.array([[int(a, 16) for a in corner] for corner in stroke.split()], float)
            corners += random.normal(scale=0.5, size=corners.shape)
            reached = np.cumsum([0, *np.hypot(*np.diff(corners, axis=0).T)])
            at = np.arange(0, reached[-1], speed)
            points = np.stack([np.interp(at, reached, corners[:, axis]) for axis in (0, 1)], 1)
            strokes.append((points + random.normal(scale=0.1, size=points.shape)) @ slant)
        digits.append(strokes)
    return digits, labels


def as_points(strokes):
    """(T, 3): x and y, centred and scaled to a height or width of 1; 1 where a stroke begins."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / max((high - low).max(), 1e-6)
    begins = np.zeros((len(points), 1))
    begins[np.cumsum([0] + [len(stroke) for stroke in strokes[:-1]])] = 1
    return np.hstack([points, begins]).astype(np.float32)


def load(folder):
    """Training and test part, each a list of arrays `as_points` gives and an array of labels."""
    if folder is None:
        random = np.random.default_rng(0)
        parts = [make_up_digits(random, 1000), make_up_digits(random, 500)]
    else:
        paths = [[Path(folder) / name for name in names] for names in FILES]
        parts = [read_digits(a if a.exists() else b) for a, b in paths]
    return [([as_points(digit) for digit in digits], labels) for digits, labels in parts]


class DigitReader(rk.Module):
    def __init__(self, hidden=64, jitter=0.15):
        super().__init__()
        self.jitter = jitter
        self.gru = nn.GRU(5, hidden, bidirectional=True)
        self.mean, self.largest = nn.MeanPool(), nn.MaxPool()
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(4 * hidden, 10)

    def forward(self, points, lengths):
        """Scores (N, 10) of points (T, N, 3)."""
        place, begins = points[..., :2], points[..., 2:]
        if self.training:
            noise = rk.generator().normal(scale=self.jitter, size=(points.shape[1], 2, 2))
            place = place + np.einsum("tnd,nde->tne", place, noise).astype(np.float32)
        movement = np.diff(place, axis=0, prepend=place[:1])
        x = np.concatenate([10 * movement, begins, 2 * place], 2)
        y, _ = self.gru(rk.tensor(x), lengths=lengths)
        return self.head(self.dropout(rk.cat([self.mean(y, lengths), self.largest(y, lengths)], 1)))

    def loss(self, batch, state=None):
        scores = self(batch.inputs, batch.lengths)
        right = (scores.data.argmax(1) == batch.targets).sum()
        value = losses.cross_entropy(scores, batch.targets)
        return Loss(value, len(batch.targets), metrics={"accuracy": float(right)})


def main():
    parser = argparse.ArgumentParser(description="Read digits from the movements of a pen.")
    parser.add_argument("--data", help="the folder with pendigits-orig.tra and .tes")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rk.manual_seed(options.seed)
    training, test = load(options.data)
    batches = RaggedBatches(*training, batch_size=32, seed=options.seed)
    print(batches)
    model = DigitReader()
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=4e-3),
        batches,
        budget=Budget(epochs=options.epochs),
        schedule="cosine",
        measure=Measure("accuracy", "%", 100, 1, higher_is_better=True, items="digits"),
        observers=[progress_on(sys.stderr)],
    )
    trainer.fit()
    accuracy = trainer.evaluate(RaggedBatches(*test, batch_size=256))["accuracy"]
    print(f"{accuracy:.2%} of {len(test[0])} digits in other hands are read right")
    return accuracy


if __name__ == "__main__":
    main()
