"""Bach's next chord: how well can it be foretold, and what does a network compose itself?

Two mappings on the same data. Many-to-many: after each frame of a chorale, a quarter note long,
say which of 88 keys come next. One-to-many: from a first chord alone compose a piece, which is
written as a MIDI file that any player plays. The data are the chorales as they were divided by
Boulanger-Lewandowski, Bengio and Vincent 2012: 229 to train on, 76 to validate, 77 to test.

    https://github.com/czhuang/JSB-Chorales-dataset   (jsb-chorales-quarter.json)
    python examples/music.py --data jsb-chorales-quarter.json

The first model is the one of the literature: a GRU whose 88 outputs are a probability for each key,
judged by the negative log likelihood (NLL) of a frame, in nats, key by key. So little data asks for
much dropout: on the input, from state to state, and before the output.

But chords are not keys that fall independently, and drawn so they sound it. The second model spells
each frame upwards, one key at a time, and then says END: every key is chosen in the knowledge of
those below it. Its NLL of a frame is exact too, for a frame has one spelling, and far lower. It is
the one that composes.

Without --data there are made-up chorales: four voices, simple cadences, any key.
"""

import argparse
import sys

import numpy as np

import rnnkit as rk
from rnnkit import losses, nn, optim
from rnnkit.data import (
    RaggedBatches,
    piano_roll,
    read_piano_rolls,
    roll_notes,
    roll_pitches,
    write_midi,
)
from rnnkit.decoding import choose
from rnnkit.train import Budget, Loss, Measure, Trainer, progress_on

KEYS = 88
END = KEYS  # the token behind the keys of a frame


def make_up_chorales(random, count):
    """Rolls (T, 88) of triads I, IV, V and vi, each held for one to three quarter notes."""
    triads = {1: (0, 4, 7), 4: (5, 9, 12), 5: (7, 11, 14), 6: (9, 12, 16)}
    follows = {1: (4, 5, 6), 4: (1, 5), 5: (1, 1, 6), 6: (4, 5)}
    pieces = []
    for _ in range(count):
        frames, chord, key = [], 1, random.integers(-3, 4)
        while len(frames) < 30 or chord != 1:
            root, third, fifth = triads[chord]
            pitches = [48 + root % 12, 60 + third % 12, 60 + fifth % 12, 72 + root % 12]
            frames += [[int(key + p) for p in pitches]] * random.integers(1, 4)
            chord = int(random.choice(follows[chord]))
        pieces.append(piano_roll(frames))
    return pieces


class KeysNet(rk.Module):
    """Each key of the next frame by itself."""

    def __init__(self, rates, hidden=300):
        super().__init__()
        self.gru = nn.GRU(KEYS, hidden, recurrent_dropout=0.3)
        self.dropped_input, self.dropout = nn.Dropout(0.1), nn.Dropout(0.6)
        self.head = nn.Linear(hidden, KEYS)
        # Where nothing is known yet, each key is as probable as it is frequent.
        self.head.bias.data[:] = np.log(rates / (1 - rates))

    def loss(self, batch, state=None):
        y, _ = self.gru(self.dropped_input(rk.tensor(batch.inputs)), lengths=batch.lengths)
        value = losses.frame_nll(self.head(self.dropout(y)), batch.targets, batch.lengths)
        return Loss(value, int(batch.lengths.sum()))


class ChordNet(rk.Module):
    """The next frame as a word: its keys upwards, then END."""

    def __init__(self, embedding=64, hidden=200):
        super().__init__()
        self.embedding = nn.Embedding(KEYS + 1, embedding)
        self.lstm = nn.LSTM(embedding + KEYS, hidden, recurrent_dropout=0.3)
        self.dropped_input, self.dropout = nn.Dropout(0.2), nn.Dropout(0.5)
        self.head = nn.Linear(hidden, KEYS + 1)

    def inputs(self, steps):
        """(..., 152) of steps as `spell` gives them."""
        tokens, chords = steps[..., 0].astype(int), rk.tensor(steps[..., 1:])
        return self.dropped_input(rk.cat([self.embedding(tokens), chords], -1))

    def loss(self, batch, state=None):
        y, _ = self.lstm(self.inputs(batch.inputs), lengths=batch.lengths)
        scores = self.head(self.dropout(y))
        frames = int((batch.targets == END).sum())
        total = losses.cross_entropy(scores, batch.targets, reduction="sum")
        return Loss(total / frames, frames)


def spell(roll):
    """(L, 89): tokens, each beside the last whole frame there was."""
    steps, last = [[END, *np.zeros(KEYS)]], np.zeros(KEYS)
    for frame in roll:
        steps += [[key, *last] for key in np.flatnonzero(frame)]
        last = frame
        steps.append([END, *last])
    return np.array(steps, np.float32)


def as_frames(pieces, **options):
    """Batches of frames and those that follow them."""
    return RaggedBatches([p[:-1] for p in pieces], [p[1:] for p in pieces], **options)


def as_words(pieces, **options):
    """Batches of tokens and those that follow them; the first frame is given, not asked for."""
    spelled = [spell(piece) for piece in pieces]
    targets = [steps[1:, 0].astype(int) for steps in spelled]
    for piece, tokens in zip(pieces, targets, strict=True):
        tokens[: int(piece[0].sum()) + 1] = -100
    return RaggedBatches([steps[:-1] for steps in spelled], targets, **options)


def compose(model, first, frames, random, temperature=0.9):
    """A roll (frames, 88) that begins with the frame ``first``."""
    model.eval()
    stream = model.lstm.stream(batch_size=1)
    roll, chord = [first], np.zeros(KEYS, np.float32)
    with rk.no_grad():
        for step in spell([first]):
            y = stream(model.inputs(step[None]).data)
        while len(roll) < frames:
            scores = model.head(rk.tensor(y)).data[0]
            scores[:KEYS][np.cumsum(chord[::-1])[::-1] > 0] = -np.inf  # only upwards
            token = choose(scores, temperature, random)
            if token == END:
                roll.append(chord)
                chord = np.zeros(KEYS, np.float32)
            else:
                chord[token] = 1
            y = stream(model.inputs(np.array([[token, *roll[-1]]], np.float32)).data)
    return np.stack(roll)


def main():
    parser = argparse.ArgumentParser(description="Learn chorales, and compose one.")
    parser.add_argument("--data", help="jsb-chorales-quarter.json")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--midi", default="composed.mid", help="file to compose to")
    parser.add_argument("--frames", type=int, default=96, help="quarter notes to compose")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rk.manual_seed(options.seed)
    if options.data:
        parts = read_piano_rolls(options.data)
        training, test = parts["train"], parts["test"]
    else:
        random = np.random.default_rng(0)
        training, test = make_up_chorales(random, 60), make_up_chorales(random, 20)
    rates = np.concatenate(training).mean(0).clip(1e-4, 1 - 1e-4).astype(np.float32)
    frames = np.concatenate([piece[1:] for piece in test])
    independent = -(frames * np.log(rates) + (1 - frames) * np.log(1 - rates)).sum(1).mean()

    keys, chords = KeysNet(rates), ChordNet()
    results = {"independent keys": float(independent)}
    for name, model, learning_rate, batches in (
        ("key by key", keys, 3e-3, as_frames),
        ("chords as words", chords, 4e-3, as_words),
    ):
        trainer = Trainer(
            model,
            optim.AdamW(model.parameters(), lr=learning_rate),
            batches(training, batch_size=8, seed=options.seed),
            budget=Budget(epochs=options.epochs),
            schedule="cosine",
            measure=Measure(unit="nats/frame", digits=2, items="frames"),
            observers=[progress_on(sys.stderr)],
        )
        trainer.fit()
        results[name] = trainer.evaluate(batches(test, batch_size=32))["loss"]
    for name, nll in results.items():
        print(f"test NLL of a frame, {name:16} {nll:7.3f} nats")

    random = np.random.default_rng(options.seed)
    piece = compose(chords, test[0][0], options.frames, random)
    known = {frame.tobytes() for part in training for frame in part}
    familiar = np.mean([frame.tobytes() in known for frame in piece])
    print(f"composed: {len(piece)} quarter notes, {familiar:.0%} with a chord of the training part")
    print("it begins", *("-".join(map(str, frame)) for frame in roll_pitches(piece[:6])))
    write_midi(options.midi, roll_notes(piece), tempo=100)
    print(f"play it: {options.midi}")
    return results


if __name__ == "__main__":
    main()
