"""Who is speaking? A short utterance in, one of nine speakers out.

The mapping is many-to-one: 7 to 29 frames of speech, each of 12 numbers, become one label. The
data are the Japanese Vowels of Kudo, Toyama and Shimbo (Pattern Recognition Letters 20, 1999):
nine men say /ae/, and the frames hold the cepstrum coefficients of a linear prediction, a compact
picture of a vocal tract. 270 utterances are there to learn from and 370 to be tested with.

    https://archive.ics.uci.edu/dataset/128/japanese+vowels   (ae.train and ae.test)
    python examples/vowels.py --data FOLDER

With so few utterances the danger is learning them by heart, so most of what is here works against
that: a small GRU, read in both directions; the mean and the maximum over time instead of one last
state; dropout; and noise on every frame that is new each time an utterance is heard.

Without --data the speakers are made up: each glides between two points of his own.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import RaggedBatches
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

SPEAKERS = 9
# How many utterances of each speaker the files hold, one speaker after the other.
TRAINING, TEST = [30] * SPEAKERS, [31, 35, 88, 44, 29, 24, 40, 50, 29]


def read_utterances(path, counts):
    """The utterances (T, 12) of a file, and whose they are. A row of ones ends each of them."""
    rows = np.loadtxt(path, dtype=np.float32)
    ends = np.flatnonzero((rows == 1).all(1))
    utterances = [part[(part != 1).any(1)] for part in np.split(rows, ends)]
    utterances = [part for part in utterances if len(part)]
    if len(utterances) != sum(counts):
        sys.exit(f"{path}: expected {sum(counts)} utterances, got {len(utterances)}")
    return utterances, np.repeat(np.arange(SPEAKERS), counts)


def make_up_utterances(random, counts):
    """Speakers who glide from an a to an e of their own, at a pace that differs each time."""
    begin, end = np.random.default_rng(128).normal(size=(2, SPEAKERS, 12))
    utterances = []
    for speaker in np.repeat(np.arange(SPEAKERS), counts):
        way = np.sort(random.random(random.integers(7, 30)))[:, None]
        glide = begin[speaker] + way * (end[speaker] - begin[speaker])
        voice = glide + random.normal(scale=0.3, size=12)  # nobody sounds the same twice
        utterances.append((voice + random.normal(scale=0.7, size=glide.shape)).astype(np.float32))
    return utterances, np.repeat(np.arange(SPEAKERS), counts)


def load(folder):
    """Training and test utterances, each coefficient scaled by what the training part shows."""
    if folder is None:
        random = np.random.default_rng(0)
        training, test = make_up_utterances(random, TRAINING), make_up_utterances(random, TEST)
    else:
        training = read_utterances(Path(folder) / "ae.train", TRAINING)
        test = read_utterances(Path(folder) / "ae.test", TEST)
    frames = np.concatenate(training[0])
    mean, deviation = frames.mean(0), frames.std(0)
    return [([(u - mean) / deviation for u in part], whose) for part, whose in (training, test)]


class SpeakerNet(rk.Module):
    def __init__(self, hidden=48, noise=0.6):
        super().__init__()
        self.noise = noise  # in standard deviations of a coefficient
        self.gru = nn.GRU(12, hidden, bidirectional=True)
        self.mean, self.largest = nn.MeanPool(), nn.MaxPool()
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(4 * hidden, SPEAKERS)

    def forward(self, x, lengths):
        y, _ = self.gru(x, lengths=lengths)
        return self.head(self.dropout(rk.cat([self.mean(y, lengths), self.largest(y, lengths)], 1)))

    def loss(self, batch, state=None):
        x = rk.tensor(batch.inputs)
        if self.training:
            x = x + self.noise * rk.randn(*x.shape)
        scores = self(x, batch.lengths)
        right = (scores.data.argmax(1) == batch.targets).sum()
        value = losses.cross_entropy(scores, batch.targets)
        return Loss(value, len(batch.targets), metrics={"accuracy": float(right)})


def main():
    parser = argparse.ArgumentParser(description="Tell nine speakers by two vowels.")
    parser.add_argument("--data", help="the folder with ae.train and ae.test")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rk.manual_seed(options.seed)
    training, test = load(options.data)
    model = SpeakerNet()
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=4e-3),
        RaggedBatches(*training, batch_size=16, seed=options.seed),
        budget=Budget(epochs=options.epochs),
        schedule="cosine",
        measure=Measure("accuracy", "%", 100, 1, higher_is_better=True, items="utterances"),
        observers=[progress_on(sys.stderr)],
    )
    trainer.fit()
    accuracy = trainer.evaluate(RaggedBatches(*test, batch_size=64))["accuracy"]
    print(f"{accuracy:.2%} of {len(test[0])} test utterances are given to the right speaker")
    return accuracy


if __name__ == "__main__":
    main()
