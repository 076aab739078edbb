"""From which language is a surname? Letters in, one of 18 languages out.

The mapping is many-to-one. The data are those of the PyTorch tutorial on classifying names: 20,050
surnames in 18 files, a name on each line. Nearly half of them are Russian, and some are written
alike in several languages, so nobody can be right always.

    https://download.pytorch.org/tutorial/data.zip   (unpack it; the names are in data/names)
    python examples/names.py --data data/names

Accents are taken off and letters made small, as the tutorial does. A GRU reads a name's letters
from the front and another from the back, for beginnings (Mc-, O'-) tell as much as endings (-ski,
-ini); their last states are joined and classified. Dropout keeps it from learning by heart, and
10 % of all spellings are held out: none of them is on both sides.

Without --data the languages are made up: each has syllables and endings of its own.
"""

import argparse
import sys
import unicodedata
from pathlib import Path

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import LabelSet, RaggedBatches, Vocabulary, read_text, split_at_random
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on


def read_names(folder):
    """Names as they are spelled there, and their languages: the names of the files."""
    names, languages = [], []
    for path in sorted(Path(folder).glob("*.txt")):
        for name in read_text(path).split("\n"):
            if name.strip():
                names.append(name.strip())
                languages.append(path.stem)
    if not names:
        sys.exit(f"{folder}: no files of names, such as Italian.txt")
    return names, languages


def make_up_names(random, count=1500):
    """Names of five languages: one to three syllables, and mostly one of a few endings."""
    names, languages = [], []
    for language in range(5):
        own = np.random.default_rng(language)
        syllables = [a + b for a in own.choice(list("bdfgklmnprst"), 5) for b in "aeio"]
        endings = own.choice([a + b for a in "aeiou" for b in ("n", "ski", "rt", "s", "v")], 3)
        for _ in range(count // 5):
            name = "".join(random.choice(syllables, random.integers(1, 4)))
            names.append(name + random.choice(endings) if random.random() < 0.8 else name)
            languages.append(f"language {language}")
    return names, languages


def plain(name):
    """In small letters without accents."""
    letters = unicodedata.normalize("NFD", name)
    return "".join(c for c in letters if unicodedata.category(c) != "Mn").lower()


class NameReader(rk.Module):
    def __init__(self, letters, languages, embedding=32, hidden=128):
        super().__init__()
        self.embedding = nn.Embedding(letters, embedding)
        self.gru = nn.GRU(embedding, hidden, bidirectional=True)
        self.dropped_input, self.dropout = nn.Dropout(0.2), nn.Dropout(0.5)
        self.head = nn.Linear(2 * hidden, languages)

    def forward(self, ids, lengths):
        x = self.dropped_input(self.embedding(ids))
        both_ends, _ = self.gru(x, lengths=lengths, return_sequences=False)
        return self.head(self.dropout(both_ends))

    def loss(self, batch, state=None):
        scores = self(batch.inputs, batch.lengths)
        right = (scores.data.argmax(1) == batch.targets).sum()
        value = losses.cross_entropy(scores, batch.targets)
        return Loss(value, len(batch.targets), metrics={"accuracy": float(right)})


def main():
    parser = argparse.ArgumentParser(description="Tell languages by surnames.")
    parser.add_argument("--data", help="the folder with Arabic.txt to Vietnamese.txt")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", nargs="*", default=[], help="names to be guessed")
    options = parser.parse_args()

    rk.manual_seed(options.seed)
    made_up = make_up_names(np.random.default_rng(0))
    names, languages = read_names(options.data) if options.data else made_up
    spellings = [plain(name) for name in names]
    letters, labels = Vocabulary("".join(spellings)), LabelSet.of(languages)
    ids, targets = [letters.encode(name) for name in spellings], labels.encode(languages)
    # The same split for every seed; a spelling is in one part only.
    seen, held_out = split_at_random(len(ids), 0.1, groups=spellings)

    model = NameReader(len(letters), len(labels))
    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=3e-3),
        RaggedBatches([ids[k] for k in seen], targets[seen], batch_size=64, seed=options.seed),
        budget=Budget(epochs=options.epochs),
        schedule="cosine",
        measure=Measure("accuracy", "%", 100, 1, higher_is_better=True, items="names"),
        observers=[progress_on(sys.stderr)],
    )
    trainer.fit()
    test = RaggedBatches([ids[k] for k in held_out], targets[held_out], batch_size=512)
    accuracy = trainer.evaluate(test)["accuracy"]
    most = np.bincount(targets[held_out]).max() / len(held_out)
    print(f"{accuracy:.2%} of {len(held_out)} held-out names are given to the right language")
    print(f"{most:.2%} would be if the most frequent language were always the answer")

    model.eval()
    for name in options.names or [names[k] for k in held_out[:: max(1, len(held_out) // 8)]]:
        with rk.no_grad():
            scores = model(np.array([letters.encode(plain(name))]).T, [len(plain(name))])
        probabilities = rk.softmax(scores[0], -1).data
        best = np.argsort(-probabilities)[:3]
        guesses = ", ".join(f"{labels.names[k]} {probabilities[k]:.0%}" for k in best)
        print(f"  {name:14} {guesses}")
    return accuracy


if __name__ == "__main__":
    main()
