"""Who spoke, in which order? Speech that nobody has cut into pieces, transcribed.

The mapping is many-to-many and unaligned: some 75 frames in, a handful of labels out, and nothing
says which frames belong to which label. It is the problem of speech recognition in small. The
data are strings of connected utterances from the Japanese Vowels (see vowels.py): one to seven,
one right behind the other, neighbours always from different speakers. The transcript of a string
is the list of its speakers. Strings to learn from are drawn anew for every batch from the 270
training utterances, 300 strings for testing from the 370 others.

    https://archive.ics.uci.edu/dataset/128/japanese+vowels   (ae.train and ae.test)
    python examples/vowel_strings.py --data FOLDER

Connectionist temporal classification (Graves et al. 2006) lets a network say one of ten symbols in
each frame, the nine speakers or nothing, and sums the probabilities of all the ways to spell a
transcript so. After training, the most probable symbol of each frame is read off (greedy), or the
most probable transcript is searched for (prefix beam search). The label error rate is the number
of labels to be changed, left out or put in, for each label that there is.

Without --data the speakers are those that vowels.py makes up.
"""

import argparse
import sys

import numpy as np
from vowels import SPEAKERS, load

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import PositionedBatches, RaggedBatches
from rnnkit.decoding import ctc_beam_search, ctc_greedy, label_error_rate
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

BLANK = 0  # nobody; the speakers are 1 to 9


def draw_string(whose, random, shortest, longest):
    """Places of utterances to be put behind each other."""
    string = [random.integers(len(whose))]
    for _ in range(random.integers(shortest, longest + 1) - 1):
        string.append(random.choice(np.flatnonzero(whose != whose[string[-1]])))
    return string


def connect(part, strings, **options):
    """Batches of strings: frames in, speakers as targets of another length."""
    utterances, whose = part
    return RaggedBatches(
        [np.concatenate([utterances[k] for k in string]) for string in strings],
        [whose[string] + 1 for string in strings],
        aligned=False,
        **options,
    )


class FreshStrings(PositionedBatches):
    """A batch of new strings at every position, always the same ones at the same position."""

    batches_per_epoch = 100

    def __init__(self, part, batch_size=8, seed=0):
        self.part, self.batch_size, self.seed = part, batch_size, seed

    def batch(self, position):
        random = np.random.default_rng([self.seed, position])
        strings = [draw_string(self.part[1], random, 1, 6) for _ in range(self.batch_size)]
        batch = connect(self.part, strings, batch_size=self.batch_size, shuffle=False).batch(0)
        return batch._replace(position=position)

    def epoch(self):
        return (self.batch(k) for k in range(self.batches_per_epoch))


class Transcriber(rk.Module):
    def __init__(self, hidden=96, noise=0.3):
        super().__init__()
        self.noise = noise
        self.gru = nn.GRU(12, hidden, bidirectional=True)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(2 * hidden, SPEAKERS + 1)

    def forward(self, x, lengths):
        """Log probabilities (T, N, 10) of the symbols in each frame."""
        y, _ = self.gru(x, lengths=lengths)
        return rk.log_softmax(self.head(self.dropout(y)), -1)

    def loss(self, batch, state=None):
        x = rk.tensor(batch.inputs)
        if self.training:
            x = x + self.noise * rk.randn(*x.shape)
        log_probs = self(x, batch.lengths)
        value = losses.ctc_loss(
            log_probs, batch.targets.T, batch.lengths, batch.target_lengths, BLANK
        )
        return Loss(value, len(batch.lengths))


def transcribe(model, batches):
    """The true transcripts, what greedy decoding reads, and what the search finds."""
    model.eval()
    truth, greedy, searched = [], [], []
    for batch in batches.epoch():
        truth += [row[:n] for row, n in zip(batch.targets.T, batch.target_lengths, strict=True)]
        with rk.no_grad():
            log_probs = model(rk.tensor(batch.inputs), batch.lengths)
        greedy += ctc_greedy(log_probs, batch.lengths, BLANK)[0]
        found = ctc_beam_search(log_probs, batch.lengths, BLANK, beam_width=8)
        searched += [best.labels for (best,) in found]
    return truth, greedy, searched


def main():
    parser = argparse.ArgumentParser(description="Transcribe who speaks, with CTC.")
    parser.add_argument("--data", help="the folder with ae.train and ae.test")
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--strings", type=int, default=300, help="to test with")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rk.manual_seed(options.seed)
    training, test = load(options.data)
    random = np.random.default_rng(1)  # the same test for every seed
    strings = [draw_string(test[1], random, 3, 7) for _ in range(options.strings)]
    model = Transcriber()
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=4e-3),
        FreshStrings(training, seed=options.seed),
        budget=Budget(steps=options.updates),
        schedule="cosine",
        measure=Measure(unit="nats/label", items="strings"),
        observers=[progress_on(sys.stderr)],
    )
    trainer.fit()

    truth, greedy, searched = transcribe(model, connect(test, strings, batch_size=50))
    for n in range(0, len(truth), max(1, len(truth) // 5)):
        said, heard = ("".join(map(str, labels)) for labels in (truth[n], searched[n]))
        print(f"  said {said:8} heard {heard}")
    rates = [label_error_rate(found, truth) for found in (greedy, searched)]
    print(f"label error rate: {rates[0]:.2%} greedy, {rates[1]:.2%} with prefix beam search")
    right = np.mean([np.array_equal(a, b) for a, b in zip(truth, searched, strict=True)])
    print(f"{right:.1%} of {len(truth)} strings without an error")
    return rates


if __name__ == "__main__":
    main()
