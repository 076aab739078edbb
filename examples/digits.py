"""Handwritten digits, or drawn ones, for the examples that read pictures as sequences.

MNIST (LeCun, Cortes and Burges; CC BY-SA 3.0) is 60,000 digits to learn from and 10,000 of other
writers to be tested on, 28 by 28 pixels each, in four files that are found on the web under these
names, compressed or not:

    train-images-idx3-ubyte.gz    train-labels-idx1-ubyte.gz
    t10k-images-idx3-ubyte.gz     t10k-labels-idx1-ubyte.gz

Without a folder of them the digits are drawn here: the strokes of a seven-segment display, each
end of a stroke nudged, the whole of it slanted, stretched, shifted and of any thickness, in noise.

    python examples/digits.py                  # some drawn digits, printed
    python examples/digits.py --data mnist/    # some real ones
"""

import argparse
import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIDE = 28
# The segments from the top clockwise, then the bar in the middle: (x, y) of both ends.
SEGMENTS = np.array([
    [(0, 0), (1, 0)], [(1, 0), (1, 1)], [(1, 1), (1, 2)], [(0, 2), (1, 2)],
    [(0, 1), (0, 2)], [(0, 0), (0, 1)], [(0, 1), (1, 1)],
])  # fmt: skip
LIT = ["012345", "12", "01346", "01236", "1256", "02356", "023456", "012", "0123456", "012356"]


class Digits(NamedTuple):
    """R pictures and what they show."""

    images: np.ndarray  # (R, 28, 28) float32, from 0 to 1
    labels: np.ndarray  # (R,) int64

    def part(self, begin, end):
        return Digits(self.images[begin:end], self.labels[begin:end])


def load(folder=None, drawn=(8000, 1000)):
    """Digits to learn from and to be tested on; ``drawn``: how many of each without a folder."""
    if folder is None:
        return tuple(draw(count, np.random.default_rng(seed)) for seed, count in enumerate(drawn))
    return read(folder, "train"), read(folder, "t10k")


def read(folder, part):
    """MNIST's own format: a header of four or of two big-endian numbers, then bytes."""
    images = contents(Path(folder), f"{part}-images-idx3-ubyte")[16:].reshape(-1, SIDE, SIDE)
    labels = contents(Path(folder), f"{part}-labels-idx1-ubyte")[8:]
    return Digits(np.float32(images) / 255, labels.astype(np.int64))


def contents(folder, name):
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.exists() and not packed.exists():
        raise SystemExit(f"{folder}: expected {name} or {name}.gz there")
    data = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    return np.frombuffer(data, np.uint8)


def draw(count, random):
    """``count`` seven-segment digits, no two alike."""
    labels = random.integers(0, 10, count)
    ends = SEGMENTS + random.normal(0, 0.09, (count, *SEGMENTS.shape))
    ends = (ends - (0.5, 1.0)) * random.uniform((7, 7), (12, 11), (count, 1, 1, 2))
    ends[..., 0] -= ends[..., 1] * random.uniform(-0.2, 0.4, (count, 1, 1))  # slant
    ends += SIDE / 2 + random.uniform(-2.5, 2.5, (count, 1, 1, 2))
    ends = np.float32(ends)
    thick = random.uniform(0.8, 1.9, count).astype(np.float32)
    images = np.zeros((count, SIDE, SIDE), np.float32)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    for segment in range(len(SEGMENTS)):
        lit = np.flatnonzero([str(segment) in LIT[label] for label in labels])
        (x0, y0), (x1, y1) = ends[lit, segment].transpose(1, 2, 0)[..., None, None]
        along = (x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)
        along = np.clip(along / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        distance = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
        ink = np.clip(thick[lit, None, None] + 0.5 - distance, 0, 1)
        images[lit] = np.maximum(images[lit], ink)
    images += random.normal(0, 0.15, images.shape)
    return Digits(images.clip(0, 1), labels)


def shrink(images):
    """(R, 28, 28) -> (R, 14, 14): the mean of each square of four pixels."""
    return images.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4))


def as_text(image):
    """A picture in characters, darker ones for what is brighter; half its lines are left out."""
    shades = " .:-=+*#%@"
    return ["".join(shades[int(9.99 * value)] for value in row) for row in image[::2]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print some digits.")
    parser.add_argument("--data", help="folder with MNIST's four files; drawn digits without")
    options = parser.parse_args()
    _, test = load(options.data, drawn=(1, 100))
    for row in (test.part(0, 4), test.part(4, 8)):
        print("  shows: " + ", ".join(map(str, row.labels)))
        for pieces in zip(*map(as_text, row.images), strict=True):
            print("|".join(pieces))
