"""The compose task: from piano rolls to a model of music, and to MIDI files of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from rnnkit.data import (
    RaggedBatches,
    read_piano_rolls,
    roll_notes,
    roll_pitches,
    split_at_random,
    write_midi,
)
from rnnkit.errors import ArgumentError
from rnnkit.rng import manual_seed
from rnnkit.train.chorales import generated_chorales
from rnnkit.train.evaluation import evaluate
from rnnkit.train.models.composer import Composer, FrameComposer, NoteComposer, spell
from rnnkit.train.objective import Measure
from rnnkit.train.options import Described, setting
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, one_of, probability
from rnnkit.train.tasks.base import Loaded, Task

HEADS = ("notes", "frames")
_CELLS = ("gru", "lstm")
_TICKS = 480
_TEMPO = 100.0
_BAR = 8  # frames on a line of text
_SHARE = 0.1
_PARTS = {
    "training": ("train", "training"),
    "validation": ("valid", "validation", "val", "dev"),
    "test": ("test",),
}
# What suits each head, for what is left open.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "notes": {
        "cell": "lstm", "hidden": 200, "lr": 0.004,
        "input_dropout": 0.2, "recurrent_dropout": 0.3, "dropout": 0.5,
    },
    "frames": {
        "cell": "gru", "hidden": 300, "lr": 0.003,
        "input_dropout": 0.1, "recurrent_dropout": 0.3, "dropout": 0.6,
    },
}  # fmt: skip
_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


@dataclasses.dataclass(frozen=True)
class ComposeSettings(Settings):
    """Settings of a run on piano rolls. What is None becomes what suits the head."""

    head: str = setting(
        "notes",
        "how a frame is said: its notes one by one, each knowing of those below it, which composes "
        "better; or frames, all 88 keys at once, whose losses compare with published ones",
        choices=HEADS,
        group="model",
    )
    cell: str | None = setting(
        None, "kind of cell (default: notes lstm, frames gru)", choices=_CELLS, group="model"
    )
    layers: int = setting(1, "recurrent layers", group="model")
    hidden: int | None = setting(
        None, "units of each layer (default: notes 200, frames 300)", group="model"
    )
    embedding: int = setting(
        64, "size of a note's embedding, of --head notes", group="model", needs="head=notes"
    )
    input_dropout: float | None = setting(
        None,
        "dropout probability of inputs (default: notes 0.2, frames 0.1)",
        metavar="P",
        group="model",
    )
    recurrent_dropout: float | None = setting(
        None,
        "dropout probability within the recurrence (default: 0.3)",
        metavar="P",
        group="model",
    )
    dropout: float | None = setting(
        None,
        "dropout probability of outputs (default: notes 0.5, frames 0.6)",
        metavar="P",
        group="model",
    )
    batch: int = setting(8, "pieces side by side", group="training")
    lr: float | None = setting(  # type: ignore[assignment]  # a number once it is made
        None, "peak learning rate (default: notes 0.004, frames 0.003)", group="training"
    )

    largest: ClassVar[Mapping[str, int]] = {
        **Settings.largest,
        "layers": 64,
        "hidden": 1 << 16,
        "embedding": 1 << 16,
    }

    def __post_init__(self) -> None:
        one_of("head", self.head, HEADS)
        for name, value in _DEFAULTS[self.head].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("input_dropout", "recurrent_dropout", "dropout"):
            probability(name, getattr(self, name))
        super().__post_init__()


class LoadedCompose(Loaded):
    """The best model of a run on piano rolls."""

    model: Composer
    settings: ComposeSettings

    def compose(
        self,
        length: int = 64,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        opening: np.ndarray | None = None,
    ) -> np.ndarray:
        """A piece of its own: (length, 88) float32 of zeros and ones.

        Args:
            temperature: 1 for the model's own distribution, less for a cautious composer.
            seed: for the same piece every time; None: a new one.
            opening: (O, 88), a roll to go on from.

        Raises ArgumentError when a number is out of range, ShapeError for another opening.
        """
        rng = np.random.default_rng(seed)
        return self.model.compose(length, rng, temperature=temperature, opening=opening)

    def sample(
        self,
        *,
        output: Annotated[
            str | None, Described("a MIDI file to write (default: none)", metavar="FILE")
        ] = None,
        length: Annotated[int, Described("frames to write", least=1)] = 64,
        temperature: Annotated[
            float, "1 for the model's own distribution, less for a cautious composer"
        ] = 1.0,
        seed: Annotated[
            int | None,
            Described(
                "for the same piece every time (default: a new one)", least=0, needs="temperature"
            ),
        ] = None,
        tempo: Annotated[
            float,
            Described("frames a minute; a frame is a quarter note", least=4, needs="output"),
        ] = _TEMPO,
        tie: Annotated[
            bool,
            Described("hold a key that sounds on, do not strike it in every frame", needs="output"),
        ] = True,
    ) -> Iterator[str]:
        """The notes of a piece of its own, frame by frame, for reading; ``output`` plays it.

        Raises ArgumentError when a number is out of range, and OSError when ``output`` cannot be
        written.
        """
        roll = self.compose(length, temperature=temperature, seed=seed)
        if output is not None:
            write_midi(output, roll_notes(roll, _TICKS, tie=tie), ticks=_TICKS, tempo=tempo)
        frames = [" ".join(chord) for chord in chord_names(roll)]
        bars = [" | ".join(frames[k : k + _BAR]) for k in range(0, len(frames), _BAR)]
        return iter("\n".join(bars))

    def evaluate(
        self, files: Sequence[str | os.PathLike[str]] | None = None
    ) -> dict[str, float]:
        """The mean loss of a frame, in nats, on the run's test part (validation part, where there
        is none) or on all pieces of other files.
        """
        if files:
            return self.figures(self.batches(files))
        task = self.reopen()
        assert isinstance(task, ComposeTask)
        return self.figures(task.held_out())

    def batches(self, files: Sequence[str | os.PathLike[str]]) -> RaggedBatches:
        pieces = [
            piece
            for name in files
            for part in read_piano_rolls(name).values()
            for piece in part
            if len(piece) > 1
        ]
        if not pieces:
            raise ArgumentError(f"{os.fspath(files[0])}: expected a piece of 2 frames or more")
        return _batches(pieces, self.settings)

    def figures(self, batches: Any) -> dict[str, float]:
        return {"nats/frame": evaluate(self.model, batches)["loss"]}


class ComposeTask(Task):
    """A composer and the pieces it is to learn from."""

    name = "compose"
    help = "a composer: what sounds next, and MIDI files of its own"
    files_help = "piano rolls in a .json or .npz file; by default pieces made by rule"
    settings_type = ComposeSettings
    loaded_type = LoadedCompose
    measure = Measure(unit="nats/frame", digits=3, items="frames")

    settings: ComposeSettings
    model: Composer
    training: RaggedBatches
    validation: RaggedBatches

    def __init__(
        self,
        pieces: Mapping[str, Sequence[np.ndarray]],
        settings: ComposeSettings,
        *,
        source: str,
    ) -> None:
        """``pieces``: rolls (T, 88) of zeros and ones, as ``data.read_piano_rolls`` returns them.

        Where there are a "train" and a "valid" part these are what they say, and "test" where there
        is one; else all pieces are dealt at random, a tenth each to validation and test.

        Raises ArgumentError, naming the data, when there are too few pieces.
        """
        self.settings = settings
        self.source = source
        self.parts = _parts(pieces, settings.seed, source)
        self.training = _batches(self.parts["training"], settings)
        self.validation = _batches(self.parts["validation"], settings)
        manual_seed(settings.seed)
        rates = np.concatenate(self.parts["training"]).mean(0)
        self.model = self.build(settings, rates)

    @classmethod
    def read(cls, files: Sequence[str | os.PathLike[str]], settings: ComposeSettings) -> Self:
        """One ``.json`` or ``.npz`` file; without any, pieces made by rule."""
        if len(files) > 1:
            raise ArgumentError(f"{os.fspath(files[1])}: expected one file of pieces, got several")
        if files:
            return cls(read_piano_rolls(files[0]), settings, source=os.fspath(files[0]))
        pieces = generated_chorales(150)
        parts = {"train": pieces[:120], "valid": pieces[120:135], "test": pieces[135:]}
        task = cls(parts, settings, source="generated-chorales")
        task.note = (
            "no file: learning from 150 generated pieces, chords that follow one another by rules "
            "of harmony"
        )
        return task

    def summary(self) -> str:
        """What is trained on what."""
        settings = self.settings
        counts = ", ".join(f"{len(pieces)} {name}" for name, pieces in self.parts.items())
        frames = sum(map(len, self.parts["training"]))
        assert settings.cell is not None
        return (
            f"{self.source}: pieces: {counts}; {frames:,} frames to learn from; "
            f"{settings.cell.upper()} with {self.layers}, a head of {settings.head}, "
            f"{self.weights:,} weights"
        )

    def details(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for pieces in self.parts.values():
            for piece in pieces:
                digest.update(np.packbits(piece > 0.5).tobytes())
        return {
            "pieces": {name: len(pieces) for name, pieces in self.parts.items()},
            "sha256": digest.hexdigest(),
        }

    def held_out(self) -> RaggedBatches:
        """The test part, or where there is none the validation part."""
        return _batches(self.parts.get("test", self.parts["validation"]), self.settings)

    def show(self, folder: RunFolder) -> Iterator[str]:
        """The loss on the test part, and a piece of its own, written beside the model."""
        loaded = self.load(folder.path)
        part = "test" if "test" in self.parts else "validation"
        value = evaluate(loaded.model, self.held_out())["loss"]
        yield f"{part} part: {value:.3f} nats/frame{_remark(self.settings)}"
        path = os.path.join(folder.path, "sample.mid")
        piece = "".join(loaded.sample(output=path, seed=self.settings.seed))
        yield f"a piece of its own is in {path}; it begins:"
        yield "  " + piece.split("\n")[0]
        yield f"more: {folder.command('sample')} --output another.mid"

    @classmethod
    def build(cls, settings: ComposeSettings, parts: np.ndarray | None) -> Composer:
        """``parts``: how often each key sounds; None where weights are to be loaded."""
        sizes: dict[str, Any] = {
            name: getattr(settings, name)
            for name in (
                "cell", "layers", "hidden", "input_dropout", "recurrent_dropout", "dropout"
            )
        }  # fmt: skip
        if settings.head == "notes":
            return NoteComposer(embedding=settings.embedding, **sizes)
        return FrameComposer(rates=parts, **sizes)


def chord_names(roll: np.ndarray) -> list[list[str]]:
    """The notes of each frame of a roll, such as C4 for middle C; "rest" where there is none."""
    return [
        [f"{_NAMES[pitch % 12]}{pitch // 12 - 1}" for pitch in pitches] or ["rest"]
        for pitches in roll_pitches(roll)
    ]


def _remark(settings: ComposeSettings) -> str:
    if settings.head == "frames":
        return " (sum over the 88 keys, mean over the frames, the first of a piece given)"
    return (
        ", note by note: an upper bound, not to be compared with figures of independent keys "
        "(--head frames)"
    )


def _parts(
    pieces: Mapping[str, Sequence[np.ndarray]], seed: int, source: str
) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for part, names in _PARTS.items():
        # A piece of one frame has nothing to be predicted.
        known = [piece for name in names for piece in pieces.get(name, ()) if len(piece) > 1]
        if known:
            found[part] = known
    if "training" in found and "validation" in found:
        return found
    together = [piece for part in pieces.values() for piece in part if len(piece) > 1]
    if len(together) < 3:
        raise ArgumentError(
            f"{source}: expected 3 pieces of 2 frames or more, to train, validate and test with, "
            f"got {len(together)}"
        )
    rest, test = split_at_random(len(together), _SHARE, seed=seed)
    training, validation = split_at_random(len(rest), _SHARE, seed=seed)
    dealt = {"training": rest[training], "validation": rest[validation], "test": test}
    return {part: [together[place] for place in places] for part, places in dealt.items()}


def _batches(pieces: Sequence[np.ndarray], settings: ComposeSettings) -> RaggedBatches:
    sequences = [spell(piece) for piece in pieces] if settings.head == "notes" else pieces
    return RaggedBatches(sequences, batch_size=settings.batch, seed=settings.seed)
