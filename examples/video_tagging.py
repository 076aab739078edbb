"""Telling at every frame of a clip which digit is there: many-to-many, one tag for each step.

In the clips a digit comes up somewhere, flies about, bounces off the edges, is gone again; then
comes another one, or for a while none. Every frame is full of noise. A single frame often cannot
be read; but the network has the frames before and, as it reads the clip from both ends, those
after as well.

**Data.** The clips are made as they are asked for, of MNIST's digits at half their size (see
digits.py), or of drawn ones without a folder: 16 frames of 20 by 20 pixels. A batch depends on its
position and the seed alone, which is all that the trainer asks of a source. Clips to learn from
are made of the digits to learn from, clips to be tested on of the others.

**Model.** A convolution looks at each frame by itself (a linear map of every 5 by 5 patch), a
linear layer sums up what it found in 128 numbers, and a bidirectional GRU makes one story of the
frames.

    python examples/video_tagging.py                  # drawn digits, half a minute
    python examples/video_tagging.py --data mnist/    # the real ones, two minutes
"""

import argparse
import sys
import time

import digits
import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import PositionedBatches, SequenceBatch
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

FRAMES, CANVAS, SIZE = 16, 20, 14
NOTHING = 10  # the tag of an empty frame

parser = argparse.ArgumentParser(description="Clips of moving digits, tagged frame by frame.")
parser.add_argument("--data", help="folder with MNIST's four files; drawn digits without")
parser.add_argument("--updates", type=int, help="6,000 by default, 1,500 for drawn digits")
parser.add_argument("--hidden", type=int, default=128, help="units in each direction")
parser.add_argument("--test-clips", type=int, default=1000)
parser.add_argument("--seed", type=int, default=0)


def flight(random, frames):
    """Top left corners (frames, 2) of something that bounces about the canvas."""
    room = CANVAS - SIZE
    path = random.uniform(0, room, 2) + np.arange(frames)[:, None] * random.uniform(-2.5, 2.5, 2)
    path %= 2 * room  # there and back is one round
    return np.rint(np.minimum(path, 2 * room - path)).astype(int)


class Clips(PositionedBatches[SequenceBatch]):
    """``count`` clips an epoch, made anew in each unless it is the one of ``epoch()``."""

    def __init__(self, source, count, batch_size, seed):
        self.pictures, self.labels = digits.shrink(source.images), source.labels
        self.batch_size, self.seed = batch_size, seed
        self.batches_per_epoch = -(-count // batch_size)

    def batch(self, position):
        random = np.random.default_rng([self.seed, position])
        N = self.batch_size
        frames = random.normal(0, 0.1, (FRAMES, N, CANVAS, CANVAS)).astype(np.float32)
        tags = np.full((FRAMES, N), NOTHING)
        for row in range(N):
            begin = 0
            while begin < FRAMES:
                if random.random() < 0.25:
                    begin += random.integers(1, 4)
                    continue
                which, end = random.integers(len(self.labels)), begin + random.integers(4, 11)
                shown = slice(begin, min(end, FRAMES))
                tags[shown, row] = self.labels[which]
                path = flight(random, FRAMES)[shown]
                for frame, (top, left) in zip(frames[shown, row], path, strict=True):
                    frame[top : top + SIZE, left : left + SIZE] += self.pictures[which]
                begin = end
        full = np.full(N, FRAMES)
        rows = np.arange(N) + position * N
        return SequenceBatch(position, True, frames, full, tags, full, rows)

    def epoch(self):
        yield from map(self.batch, range(self.batches_per_epoch))


class Tagger(rk.Module):
    """(T, N, CANVAS, CANVAS) frames -> (T, N, 11) scores."""

    def __init__(self, hidden, filters=24, patch=5, features=128):
        super().__init__()
        self.patch = patch
        places = ((CANVAS - patch) // 2 + 1) ** 2
        self.look = nn.Linear(patch * patch, filters)
        self.sum_up = nn.Linear(places * filters, features)
        self.tell = nn.GRU(features, hidden, bidirectional=True)
        self.head = nn.Linear(2 * hidden, NOTHING + 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, frames):
        T, N = frames.shape[:2]
        window = (self.patch, self.patch)
        patches = np.lib.stride_tricks.sliding_window_view(frames, window, (2, 3))[:, :, ::2, ::2]
        patches = rk.tensor(np.ascontiguousarray(patches).reshape(T, N, -1, self.patch**2))
        seen = rk.relu(self.look(patches)).reshape(T, N, -1)
        story, _ = self.tell(self.dropout(rk.relu(self.sum_up(seen))))
        return self.head(self.dropout(story))

    def loss(self, batch, state=None):
        scores = self(batch.inputs)
        right = (scores.data.argmax(-1) == batch.targets).sum()
        value = losses.cross_entropy(scores, rk.tensor(batch.targets))
        return Loss(value, batch.targets.size, metrics={"accuracy": right})


def main():
    options = parser.parse_args()
    rk.manual_seed(options.seed)
    known, test = digits.load(options.data)
    updates = options.updates or (6000 if options.data else 1500)
    watched = len(known.labels) // 12
    per_batch = min(100, options.test_clips)
    model = Tagger(options.hidden)
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=3e-3),
        Clips(known.part(watched, None), 6400, 32, options.seed),
        Clips(known.part(0, watched), min(300, options.test_clips), per_batch, 10**6),
        budget=Budget(steps=updates),
        schedule="cosine",
        validations=6,
        measure=Measure("accuracy", unit="% of frames right", scale=100, digits=2,
                        higher_is_better=True, items="frames"),
        observers=[progress_on(sys.stderr)],
    )  # fmt: skip
    trainer.fit()

    clips = Clips(test, options.test_clips, per_batch, 10**6 + 1)
    accuracy = trainer.evaluate(clips)["accuracy"]
    seconds = time.process_time()
    print(f"test frames right: {accuracy:.2%} of {clips.batches_per_epoch * per_batch} clips "
          f"after {updates:,} updates, {seconds:.0f} s of CPU")  # fmt: skip
    print("some clips, frame by frame, and under them what was said (. is an empty frame):")
    batch = clips.batch(0)
    model.eval()
    with rk.no_grad():
        said = model(batch.inputs).data.argmax(-1)
    for row in range(3):
        for tags in (batch.targets[:, row], said[:, row]):
            print("  " + " ".join(".0123456789"[(tag + 1) % 11] for tag in tags))
        print()


if __name__ == "__main__":
    main()
