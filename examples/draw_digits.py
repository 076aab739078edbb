"""Draw me a 7: one digit in, the movements of a pen out.

The mapping is one-to-many, the other way round than in pen_digits.py and on the same data.

    https://archive.ics.uci.edu/dataset/81   (pendigits-orig.tra.Z and .tes.Z; uncompress both)
    python examples/draw_digits.py --data FOLDER

There is no one right next movement: a 7 may get its bar or not, a loop may go on or close. So the
network does not say a movement but a probability density over them, a mixture of correlated
Gaussians with the chance that the stroke ends (Graves 2013, arXiv 1308.0850, section 4), and is
trained by the negative log likelihood of what people did. One output more is the chance that the
stroke which ends was the last. To draw is to draw a movement from the density, feed it back, and
go on; a bias makes the hand tidier than those it learnt from.

Is it legible? The picture shows it, and the network of pen_digits.py, trained on the same people's
digits, is asked what it reads.

Without --data the digits are those that pen_digits.py makes up.
"""

import argparse
import sys

import numpy as np
from pen_digits import DigitReader, load

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import RaggedBatches
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

COMPONENTS = 10
LONGEST = 250  # points of a drawing, should it not end by itself


def as_movements(points, scale):
    """(T, 4) of points (T, 3): dx, dy, whether the stroke ends there, whether the digit does.

    The first movement comes from the middle of the digit. The lengths are divided by ``scale``.
    """
    movements = np.diff(points[:, :2], axis=0, prepend=np.zeros((1, 2))) / scale
    ends = np.append(points[1:, 2], 1)
    done = np.arange(len(points)) == len(points) - 1
    return np.column_stack([movements, ends, done]).astype(np.float32)


def as_points(movements, scale):
    """The points (T, 3) of movements, as the reader of digits takes them."""
    begins = np.append(1, movements[:-1, 2])
    return np.column_stack([movements[:, :2].cumsum(0) * scale, begins]).astype(np.float32)


class Draughtsman(rk.Module):
    def __init__(self, hidden=200):
        super().__init__()
        # What it sees: the last movement, where the pen is, and which digit is asked for.
        self.lstm = nn.LSTM(3 + 2 + 10, hidden)
        self.head = nn.Linear(hidden, 6 * COMPONENTS + 2)

    @staticmethod
    def inputs(movements, place, digits):
        """(..., 15) of the movements (..., 4) before, the pen's place (..., 2), digits (...)."""
        asked = np.eye(10, dtype=np.float32)[digits]
        return np.concatenate([movements[..., :3], place, asked], -1)

    def loss(self, batch, state=None):
        now = batch.inputs
        before = np.concatenate([np.zeros_like(now[:1]), now[:-1]])
        digits = np.broadcast_to(batch.targets, now.shape[:2])
        # Steps are about 1 in size, and a digit is some 20 of them high.
        x = self.inputs(before, before[..., :2].cumsum(0) / 10, digits)
        y = self.head(self.lstm(rk.tensor(x), lengths=batch.lengths)[0])
        points = int(batch.lengths.sum())
        movement = losses.handwriting_nll(y[..., :-1], now[..., :3], batch.lengths)
        # Only where a stroke ends is it a question whether another one comes.
        done = losses.frame_nll(y[..., -1:], now[..., 3:], batch.lengths, reduction="none")
        done = (done * now[..., 2]).sum() / points
        return Loss(movement + done, points)

    def draw(self, digits, bias, random):
        """Movements (T, 4) for each of the digits (N,)."""
        self.eval()
        N = len(digits)
        stream = self.lstm.stream(batch_size=N)
        movement, place = np.zeros((N, 4), np.float32), np.zeros((N, 2), np.float32)
        drawn, done = [], np.zeros(N, bool)
        while len(drawn) < LONGEST and not done.all():
            y = stream(self.inputs(movement, place / 10, digits))
            with rk.no_grad():
                y = self.head(rk.tensor(y))
            movement[:, :3] = losses.sample_handwriting(y[:, :-1], random, bias)
            last = random.random(N) < 1 / (1 + np.exp(-y.data[:, -1]))
            done |= last & (movement[:, 2] == 1)
            movement[:, 3] = done
            place += movement[:, :2]
            drawn.append(movement.copy())
        every = np.stack(drawn)
        lengths = np.where(done, every[..., 3].argmax(0) + 1, len(every))
        return [every[:length, n] for n, length in enumerate(lengths)]


def train(model, batches, epochs, measure):
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=4e-3),
        batches,
        budget=Budget(epochs=epochs),
        schedule="cosine",
        measure=measure,
        observers=[progress_on(sys.stderr)],
    )
    trainer.fit()
    return trainer


def show(drawings, path):
    """A picture of points by digit: a row for each drawing, a column for each digit."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: it needs matplotlib (pip install 'rnnkit[plot]')")
        return
    rows = len(drawings) // 10
    figure = Figure(figsize=(10, rows), layout="constrained")
    for axes, points in zip(figure.subplots(rows, 10).ravel(), drawings, strict=True):
        for stroke in np.split(points, np.flatnonzero(points[1:, 2]) + 1):
            axes.plot(stroke[:, 0], stroke[:, 1], "k", lw=1.5)
        axes.set_aspect("equal", "datalim")
        axes.axis("off")
    figure.savefig(path, dpi=100)
    print(f"the drawings: {path}")


def main():
    parser = argparse.ArgumentParser(description="Draw digits with a pen.")
    parser.add_argument("--data", help="the folder with pendigits-orig.tra and .tes")
    parser.add_argument("--epochs", type=int, help="20 with --data, 60 without")
    parser.add_argument("--bias", type=float, default=0.5, help="0: as people, more: tidier")
    parser.add_argument("--picture", default="drawn_digits.png", help="file to draw to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    epochs = options.epochs or (20 if options.data else 60)

    rk.manual_seed(options.seed)
    (training, labels), (test, test_labels) = load(options.data)
    scale = np.concatenate([np.diff(points[:, :2], axis=0) for points in training]).std()

    def movements(points, labels, size):
        moves = [as_movements(digit, scale) for digit in points]
        return RaggedBatches(moves, labels, batch_size=size, seed=options.seed)

    model = Draughtsman()
    trainer = train(
        model,
        movements(training, labels, 32),
        epochs,
        Measure(unit="nats/point", digits=2, items="points"),
    )
    nll = trainer.evaluate(movements(test, test_labels, 256))["loss"]
    print(f"NLL of a point in other hands: {nll:.3f} nats")

    reader = DigitReader()
    batches = RaggedBatches(training, labels, batch_size=32, seed=options.seed)
    trainer = train(reader, batches, min(epochs, 10), Measure(items="digits"))
    asked = np.tile(np.arange(10), 50)
    drawn = model.draw(asked, options.bias, np.random.default_rng(options.seed))
    drawings = [as_points(movement, scale) for movement in drawn]
    legible = trainer.evaluate(RaggedBatches(drawings, asked, batch_size=100))["accuracy"]
    print(f"{legible:.1%} of {len(drawings)} drawings are read as the digit that was asked for")
    show(drawings[:60], options.picture)
    return legible


if __name__ == "__main__":
    main()
