"""What comes next? A language model of characters or of words: many-to-many, each step a guess.

Nothing has to be labelled here: the target at each step is the text itself, one step on. A network
that is good at it has had to learn spelling, then phrases, then who is speaking; and what it
believes can be sampled, one character or word after the other, which is how it writes.

**Data.** Any text. The usual one is "tiny Shakespeare", 1.1 MB, data/tinyshakespeare/input.txt of
github.com/karpathy/char-rnn. Without a file it is the first 200,000 characters of the language
reference that every Python carries. The last tenth is held out.

**Model.** An embedding, an LSTM of 256 units, a linear layer. The text is cut into 32 streams that
are read side by side, 64 steps at a time; the state is carried from one window to the next, so that
what the network knows reaches further back than its gradient does.

Judged by nats per character: how surprised it was, on average, by what came. (By words: nats per
word; a rare word is "<unk>", and a line end is a word.) With --torch the same LSTM is trained in
PyTorch as well: from the same weights, on the same windows, for as many updates or, with --torch
seconds, for as many seconds of CPU (torch_twins.py).

    python examples/language_model.py                               # a minute
    python examples/language_model.py --data input.txt --torch      # some minutes
    python examples/language_model.py --data input.txt --words
"""

import argparse
import sys
import time

import numpy as np

import rnnkit as rk
from rnnkit import optim
from rnnkit.data import (
    ContinuousBatches,
    Vocabulary,
    WordVocabulary,
    default_corpus,
    read_text,
    split_by_position,
)
from rnnkit.decoding import choose
from rnnkit.train import Budget, LanguageModel, Measure, Trainer, progress_on

parser = argparse.ArgumentParser(description="A language model of a text.")
parser.add_argument("--data", help="a text file; a part of Python's own manual without")
parser.add_argument("--words", action="store_true", help="words instead of characters")
parser.add_argument("--torch", nargs="?", const="updates", choices=["updates", "seconds"],
                    help="train a twin in PyTorch with as many updates, or as long")  # fmt: skip
parser.add_argument("--hidden", type=int, default=256)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--epochs", type=float, default=4.0)
parser.add_argument("--temperature", type=float, default=0.7, help="of what is written")
parser.add_argument("--seed", type=int, default=0)

RATE = 4e-3


def write(model, vocabulary, beginning, length, temperature):
    """``length`` characters or words that go on from ``beginning``."""
    ids, state, written = vocabulary.encode(beginning), None, []
    with rk.no_grad():
        for _ in range(length):
            scores, state = model(ids[:, None], state)
            last = scores.data[-1, 0].copy()
            last[vocabulary.unknown] = -np.inf
            ids = np.array([choose(last, temperature, rk.generator())])
            written += ids.tolist()
    return vocabulary.decode(written)


def main():
    options = parser.parse_args()
    text = read_text(options.data) if options.data else default_corpus().text[:200_000]
    training_text, held_out = split_by_position(text, 0.1)
    if options.words:
        vocabulary = WordVocabulary.of([training_text], max_size=10_000, lines=True)
    else:
        vocabulary = Vocabulary(training_text)
    ids = vocabulary.encode(training_text)
    training = ContinuousBatches(ids, streams=32, length=64)
    validation = ContinuousBatches(vocabulary.encode(held_out), streams=32, length=64)
    unit = "nats/word" if options.words else "nats/char"

    rk.manual_seed(options.seed)
    model = LanguageModel(len(vocabulary), hidden=options.hidden, dropout=options.dropout)
    count = sum(parameter.size for parameter in model.parameters())
    print(f"{len(ids):,} to learn from, {len(vocabulary):,} different ones, {count:,} weights")
    if options.torch:
        import torch_twins

        twin = torch_twins.LanguageTwin(model)
    counts = np.bincount(ids, minlength=len(vocabulary)) + 1.0
    surprise = -np.log(counts / counts.sum())[validation.ids].mean()
    print(f"who knows only how frequent each is: {surprise:.4f} {unit}")

    trainer = Trainer(
        model,
        optim.AdamW(model.parameters(), lr=RATE),
        training,
        validation,
        budget=Budget(epochs=options.epochs),
        schedule="cosine",
        validations=8,
        measure=Measure(unit=unit, items="steps"),
        observers=[progress_on(sys.stderr)],
    )
    began = time.process_time()
    outcome = trainer.fit()
    seconds = time.process_time() - began
    value = trainer.evaluate(validation)["loss"]
    print(f"rnnkit: {value:.4f} {unit} after {outcome.steps:,} updates, {seconds:.0f} s of CPU")

    model.eval()
    beginning = held_out[: held_out.index("\n") + 1] if "\n" in held_out else held_out[:20]
    length = 100 if options.words else 400
    written = write(model, vocabulary, beginning, length, options.temperature)
    print(f"\n{beginning}{written}\n")

    if options.torch:
        steps = outcome.steps if options.torch == "updates" else None
        steps, seconds = torch_twins.train(twin, training, steps, RATE, seconds)
        twin.hand_over(model)
        value = trainer.evaluate(validation)["loss"]
        print(f"PyTorch: {value:.4f} {unit} after {steps:,} updates, {seconds:.0f} s of CPU")


if __name__ == "__main__":
    main()
