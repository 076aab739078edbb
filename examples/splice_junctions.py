"""Where is a gene cut? Sixty letters of DNA in, one of three answers out.

A gene of a higher organism is copied and then edited: introns are cut out, exons are joined. At
the middle of each sequence there is the place where an exon ends (EI, a donor), or the one where
an exon begins (IE, an acceptor), or neither (N). The mapping is many-to-one. The data are 3190
sequences of primates from GenBank:

    https://archive.ics.uci.edu/dataset/69/molecular+biology+splice+junction+gene+sequences
    python examples/splice_junctions.py --data splice.data    (an .arff of it will do as well)

Where the question is known, so is the place to look at. A GRU runs from the left up to the
junction and another from the right back to it, and the two states that meet there answer: what a
donor is shows on both of its sides, and nothing that was read has far to go. Each step sees a
window of five letters, for the signals are short motifs (AG|GTAAGT, and a stretch of C and T before
an acceptor's AG).

There is no official test set, so it is a cross-validation: ten models, each tested on a tenth that
it never saw. Only 3005 of the sequences differ; copies are kept in one fold, or a model would be
tested on what it learnt.

Without --data the sequences are drawn at random, with the motifs at their places.
"""

import argparse
import sys

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import LabelSet, RaggedBatches, group_duplicates, k_folds, read_text
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

CLASSES = LabelSet(["EI", "IE", "N"])
LENGTH, JUNCTION = 60, 30  # the junction is before step 30
WINDOW = 5
# What a letter may stand for: some bases were not read for certain.
CODES = {"A": "A", "C": "C", "G": "G", "T": "T", "D": "AGT", "N": "ACGT", "S": "CG", "R": "AG"}


def read_sequences(path):
    """Sequences and their classes. A line has the class first (splice.data) or last (ARFF)."""
    sequences, classes = [], []
    for line in read_text(path).splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if line.startswith(("%", "@")) or len(cells) < 3:
            continue
        if cells[0] in CLASSES:
            cells = [*cells[1:], cells[0]]
        sequences.append("".join(cells[1:-1]))
        classes.append(cells[-1])
        if len(sequences[-1]) != LENGTH or not set(sequences[-1]) <= set(CODES):
            sys.exit(f"{path}: expected {LENGTH} of the letters {''.join(CODES)}: {line[:40]}...")
    return sequences, CLASSES.encode(classes)


def make_up_sequences(random, count=600):
    """Random letters; a donor has AGGTAAGT, an acceptor CTTTCTTCAG, each with a letter changed."""
    sequences, classes = [], random.integers(0, 3, count)
    for kind in classes:
        letters = random.choice(list("ACGT"), LENGTH)
        if kind < 2:
            motif, begin = (("AGGTAAGT", JUNCTION - 2), ("CTTTCTTCAG", JUNCTION - 10))[kind]
            letters[begin : begin + len(motif)] = list(motif)
            letters[begin + random.integers(len(motif))] = random.choice(list("ACGT"))
        sequences.append("".join(letters))
    return sequences, classes


def windows(sequence):
    """(60, 20): at each step the probabilities of A, C, G, T for five letters."""
    bases = np.array([[base in CODES[letter] for base in "ACGT"] for letter in sequence], float)
    bases = np.pad(bases / bases.sum(1, keepdims=True), ((WINDOW // 2, WINDOW // 2), (0, 0)))
    return np.hstack([bases[k : k + LENGTH] for k in range(WINDOW)]).astype(np.float32)


class JunctionNet(rk.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.gru = nn.GRU(4 * WINDOW, hidden, bidirectional=True, merge="separate")
        self.dropped_input, self.dropout = nn.Dropout(0.2), nn.Dropout(0.5)
        self.head = nn.Linear(2 * hidden, len(CLASSES))

    def forward(self, x):
        (from_left, from_right), _ = self.gru(self.dropped_input(x))
        meeting = rk.cat([from_left[JUNCTION], from_right[JUNCTION - 1]], 1)
        return self.head(self.dropout(meeting))

    def loss(self, batch, state=None):
        scores = self(rk.tensor(batch.inputs))
        guess = scores.data.argmax(1)
        # Errors by class, as the literature gives them; "all" is what the three add up to.
        wrong = {"all": float((guess != batch.targets).sum())}
        for number, name in enumerate(CLASSES.names):
            wrong[name] = float((guess != batch.targets)[batch.targets == number].sum())
        value = losses.cross_entropy(scores, batch.targets)
        return Loss(value, len(guess), metrics=wrong)


def main():
    parser = argparse.ArgumentParser(description="Find splice junctions in DNA.")
    parser.add_argument("--data", help="splice.data")
    parser.add_argument("--epochs", type=int, default=8, help="of each of the ten models")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rk.manual_seed(options.seed)
    made_up = make_up_sequences(np.random.default_rng(0))
    sequences, classes = read_sequences(options.data) if options.data else made_up
    inputs, copies = [windows(s) for s in sequences], group_duplicates(sequences)
    print(f"{len(sequences)} sequences, {copies.max() + 1} of them different")

    wrong = dict.fromkeys(["all", *CLASSES.names], 0)
    folds = k_folds(options.folds, len(inputs), labels=classes, groups=copies, seed=options.seed)
    for fold, (seen, held_out) in enumerate(folds):
        model, part = JunctionNet(), [inputs[k] for k in seen]
        trainer = Trainer(
            model,
            optim.AdamW(model.parameters(), lr=4e-3),
            RaggedBatches(part, classes[seen], batch_size=32, seed=options.seed),
            budget=Budget(epochs=options.epochs),
            schedule="cosine",
            measure=Measure("all", "% wrong", 100, 1, items="sequences"),
            observers=[progress_on(sys.stderr)],
        )
        trainer.fit()
        test = RaggedBatches([inputs[k] for k in held_out], classes[held_out], batch_size=512)
        shares = trainer.evaluate(test)
        for name in wrong:
            wrong[name] += round(shares[name] * len(held_out))
        print(f"fold {fold + 1}: {1 - shares['all']:.2%} right")

    accuracy = 1 - wrong["all"] / len(inputs)
    errors = {
        name: wrong[name] / max(1, (classes == number).sum())
        for number, name in enumerate(CLASSES.names)
    }
    print(f"{accuracy:.2%} right; wrong: " + ", ".join(f"{n} {e:.2%}" for n, e in errors.items()))
    return accuracy


if __name__ == "__main__":
    main()
