"""Describing a picture in words: one-to-many.

The picture is a strip with two to four digits in a row, close together or apart, some higher, some
lower, some touching. The caption says how many there are and which: "three digits: seven one four".
It is written word by word. How many words it will take, and where in the picture to look for the
next, nobody tells the network; it sees pairs of strips and captions and nothing else.

**Data.** The strips are put together as they are asked for, of MNIST's digits at half their size
(see digits.py), or of drawn ones without a folder. Strips to learn from are made of the digits to
learn from, strips to be tested on of the others: no digit is in both.

**Model.** A convolution looks at patches of 5 by 5 pixels, a second one over neighbouring columns
sums up; a bidirectional GRU reads the columns from both ends. The writer is a GRU that reads its
own last word; with what it then knows it looks back at the columns (the additive attention of
Bahdanau et al. 2015), and says the next word from both. In training it reads the true words, so
that all words of a caption are learnt at once (teacher forcing); when tested, only its own.

A caption counts as right if every word of it is.

    python examples/strip_captions.py                  # drawn digits, a minute
    python examples/strip_captions.py --data mnist/    # the real ones, two minutes
"""

import argparse
import sys
import time

import digits
import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import PositionedBatches, SequenceBatch
from rnnkit.decoding import greedy_search
from rnnkit.train import Budget, Loss, Trainer, progress_on

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
WORDS = ["<end>", *NUMBERS, "digits:", "<start>"]
END, ZERO, DIGITS, START = 0, 1, 11, 12
SIZE, HEIGHT, WIDTH, LONGEST = 14, 18, 64, 7  # LONGEST: words of a caption, its end included

parser = argparse.ArgumentParser(description="Strips of digits, described in words.")
parser.add_argument("--data", help="folder with MNIST's four files; drawn digits without")
parser.add_argument("--updates", type=int, help="4,000 by default, 1,500 for drawn digits")
parser.add_argument("--hidden", type=int, default=128)
parser.add_argument("--test-strips", type=int, default=2000)
parser.add_argument("--seed", type=int, default=0)


class Strips(PositionedBatches[SequenceBatch]):
    """``count`` strips an epoch, made anew in each; column by column, as one reads."""

    def __init__(self, source, count, batch_size, seed):
        self.pictures, self.labels = digits.shrink(source.images), source.labels
        self.batch_size, self.seed = batch_size, seed
        self.batches_per_epoch = -(-count // batch_size)

    def batch(self, position):
        random = np.random.default_rng([self.seed, position])
        N = self.batch_size
        strips = np.zeros((N, HEIGHT, WIDTH), np.float32)
        captions = np.full((LONGEST, N), END)
        widths, words = np.zeros(N, int), np.zeros(N, int)
        for strip, caption, row in zip(strips, captions.T, range(N), strict=True):
            chosen = random.integers(0, len(self.labels), random.integers(2, 5))
            left = random.integers(0, 3)
            for which in chosen:
                top = random.integers(0, HEIGHT - SIZE + 1)
                place = strip[top : top + SIZE, left : left + SIZE]
                np.maximum(place, self.pictures[which], out=place)
                left += SIZE + random.integers(-2, 3)
            caption[:2] = ZERO + len(chosen), DIGITS
            caption[2 : 2 + len(chosen)] = ZERO + self.labels[chosen]
            widths[row], words[row] = min(left + 2, WIDTH), len(chosen) + 3
        columns = np.ascontiguousarray(strips.transpose(2, 0, 1))
        rows = position * N + np.arange(N)
        return SequenceBatch(position, True, columns, widths, captions, words, rows)

    def epoch(self):
        yield from map(self.batch, range(self.batches_per_epoch))


class Describer(rk.Module):
    """Columns (WIDTH, N, HEIGHT) -> words."""

    def __init__(self, hidden, filters=24, patch=5):
        super().__init__()
        self.patch = patch
        places = (HEIGHT - patch) // 2 + 1
        self.look = nn.Linear(patch * patch, filters)
        self.sum_up = nn.Conv1d(places * filters, hidden, 3, padding=1)
        self.reader = nn.GRU(hidden, hidden, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, hidden)
        self.words = nn.Embedding(len(WORDS), 32)
        self.writer = nn.GRU(32, hidden)
        self.attention = nn.AdditiveAttention(hidden, 2 * hidden, 64)
        self.combine = nn.Linear(3 * hidden, hidden)
        self.head = nn.Linear(hidden, len(WORDS))
        self.dropout = nn.Dropout(0.1)

    def read(self, columns, widths):
        """What there is to look at, and how the writer begins."""
        N, patch = columns.shape[1], self.patch
        around = np.pad(columns, ((patch // 2, patch // 2), (0, 0), (0, 0)))
        patches = np.lib.stride_tricks.sliding_window_view(around, (patch, patch), (0, 2))
        patches = np.ascontiguousarray(patches[::2, :, ::2])  # every second column and row
        T = len(patches)
        seen = rk.relu(self.look(rk.tensor(patches.reshape(T, N, -1, patch**2))))
        steps = (widths + 1) // 2
        seen = rk.relu(self.sum_up(seen.reshape(T, N, -1), steps))
        read, final = self.reader(self.dropout(seen), lengths=steps)
        both = final.transpose(0, 1).reshape(N, -1)
        return self.attention.memory(read, lengths=steps), rk.tanh(self.bridge(both)).unsqueeze(0)

    def write(self, words, memory, state):
        """Scores (L, N, V) of the words that follow ``words`` (L, N), and where it looked."""
        knows, state = self.writer(self.words(words), state)
        context, weights = self.attention(knows, memory)
        told = rk.tanh(self.combine(rk.cat([context, knows], -1)))
        return self.head(self.dropout(told)), state, weights

    def loss(self, batch, state=None):
        memory, first = self.read(batch.inputs, batch.lengths)
        heard = np.concatenate([np.full_like(batch.targets[:1], START), batch.targets[:-1]])
        scores, _, _ = self.write(heard, memory, first)
        past_end = np.arange(LONGEST)[:, None] >= batch.target_lengths
        targets = np.where(past_end, -100, batch.targets)
        return Loss(losses.cross_entropy(scores, rk.tensor(targets)), int((~past_end).sum()))

    def describe(self, columns, widths):
        """A caption for each strip, as lists of words."""
        memory, first = self.read(columns, widths)

        def step(words, state):
            scores, after, _ = self.write(words[None], state[0], state[1])
            return rk.log_softmax(scores.squeeze(0), -1), (state[0], after)

        found = greedy_search(step, (memory, first), start=START, end=END, max_length=LONGEST,
                              batch_axis=(0, 1))  # fmt: skip
        return [[WORDS[word] for word in each.tokens] for each in found]


def main():
    options = parser.parse_args()
    rk.manual_seed(options.seed)
    known, test = digits.load(options.data)
    updates = options.updates or (4000 if options.data else 1500)
    watched = len(known.labels) // 12
    per_batch = min(100, options.test_strips)
    model = Describer(options.hidden)
    Trainer(
        model,
        optim.AdamW(model.parameters(), lr=3e-3),
        Strips(known.part(watched, None), 6400, 64, options.seed),
        Strips(known.part(0, watched), min(300, options.test_strips), per_batch, 10**6),
        budget=Budget(steps=updates),
        schedule="cosine",
        validations=6,
        observers=[progress_on(sys.stderr)],
    ).fit()

    model.eval()
    right = {2: [], 3: [], 4: []}
    shown = []
    with rk.no_grad():
        for batch in Strips(test, options.test_strips, per_batch, 10**6 + 1).epoch():
            said = model.describe(batch.inputs, batch.lengths)
            for row, caption in enumerate(said):
                words = batch.target_lengths[row] - 1
                true = [WORDS[word] for word in batch.targets[:words, row]]
                right[words - 2].append(caption == true)
                shown.append((batch.inputs[:, row].T, caption, true))
    every = np.concatenate(list(right.values()))
    print(f"captions right to the word: {every.mean():.2%} of {len(every):,} after {updates:,} "
          f"updates, {time.process_time():.0f} s of CPU")  # fmt: skip
    for count, hits in right.items():
        print(f"  with {count} digits: {np.mean(hits or [0]):.1%} of {len(hits)}")
    wrong = [each for each in shown if each[1] != each[2]]
    for strip, caption, true in shown[:2] + wrong[:1]:
        print("\n".join(["", *digits.as_text(strip)]).rstrip())
        print(" ".join(caption) + ("" if caption == true else f"   (not so: {' '.join(true)})"))


if __name__ == "__main__":
    main()
