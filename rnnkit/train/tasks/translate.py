"""The translate task: from pairs of lines to a translator, its BLEU and what it looked at."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.data import (
    Pairs,
    RaggedBatches,
    WordVocabulary,
    join_words,
    read_pairs,
    split_at_random,
    tokenize_words,
)
from rnnkit.decoding import Bleu, beam_search, corpus_bleu
from rnnkit.errors import ArgumentError
from rnnkit.nn import EncoderDecoder
from rnnkit.nn.seq2seq import ATTENTIONS, CELLS
from rnnkit.rng import manual_seed
from rnnkit.train.heat_map import attention_map
from rnnkit.train.models.translator import Translator
from rnnkit.train.number_words import generated_pairs
from rnnkit.train.objective import Measure
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, integer, one_of, probability
from rnnkit.train.tasks.base import Task
from rnnkit.train.tasks.loading import load_model, reading_settings, recurrent_shapes

_SHARE = 0.1  # of the pairs, each for validation and test
_MOST = 1000  # pairs for each of them
_EXAMPLES = 5
_LENGTH_PENALTY = 0.6


def _field(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class TranslateSettings(Settings):
    """Settings of a translator's run."""

    batch: int = 64
    lr: float = 0.003
    weight_decay: float = 0.0
    min_count: int = _field(1, "leave words out of the vocabularies that are seen less often")
    max_size: int = _field(20_000, "most words of each vocabulary")
    lower: bool = _field(False, "make capital letters small")
    max_words: int = _field(50, "leave pairs out of training that are longer")
    cell: str = _field("gru", "kind of cell")
    layers: int = _field(1, "recurrent layers of encoder and decoder")
    hidden: int = _field(256, "units of each layer, in each direction")
    embedding: int = _field(128, "size of a word's embedding")
    bidirectional: bool = _field(True, "whether the encoder also reads backward")
    attention: str = _field("general", "how the decoder looks at the source, or none")
    dropout: float = _field(0.2, "dropout probability")
    label_smoothing: float = _field(0.1, "share of the probability spread over all words")
    sampling: float = _field(
        0.0, "scheduled sampling: how often the decoder reads its own word in training"
    )
    sampling_batches: int = _field(2000, "batches until it does so that often")

    largest: ClassVar[Mapping[str, int]] = {
        **Settings.largest,
        "min_count": 1 << 30,
        "max_size": 1 << 22,
        "max_words": 1 << 16,
        "layers": 64,
        "hidden": 1 << 16,
        "embedding": 1 << 16,
        "sampling_batches": 1 << 30,
    }

    def __post_init__(self) -> None:
        one_of("cell", self.cell, tuple(CELLS))
        one_of("attention", self.attention, (*ATTENTIONS, "none"))
        for name in ("lower", "bidirectional"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(
                    f"{name}: expected true or false, got {getattr(self, name)!r}"
                )
        if self.bidirectional and self.attention in ("dot", "scaled"):
            raise ArgumentError(
                f"attention: {self.attention} needs an encoder of one direction "
                "(bidirectional false)"
            )
        for name in ("dropout", "label_smoothing", "sampling"):
            probability(name, getattr(self, name))
        integer("max_size", self.max_size, 4, self.largest["max_size"])
        super().__post_init__()


class TranslateTask(Task):
    """A translator and the pairs it is to learn from.

    Validation and test part are each a tenth of the pairs, at most 1000; pairs with the same source
    stay together, so that no sentence to translate was seen in training.
    """

    name = "translate"
    help = "translate lines, learnt from pairs of lines"
    settings_type = TranslateSettings
    measure = Measure(unit="nats/word", digits=3, items="words")

    settings: TranslateSettings
    model: Translator
    training: RaggedBatches
    validation: RaggedBatches
    note = ""

    def __init__(self, pairs: Pairs, settings: TranslateSettings, *, source: str) -> None:
        """Raises ArgumentError, naming the data, when there are too few pairs."""
        self.settings = settings
        self.source = source
        self._digest = hashlib.sha256("\0".join(itertools.chain(*pairs)).encode()).hexdigest()
        self.parts = _parts(pairs, settings, source)
        training = self.parts["training"]
        options: dict[str, Any] = {
            "min_count": settings.min_count, "max_size": settings.max_size, "lower": settings.lower,
        }  # fmt: skip
        self.source_words = WordVocabulary.of(training.sources, **options)
        self.target_words = WordVocabulary.of(
            training.targets, specials=("start", "end"), **options
        )
        self.training = self._batches(training)
        self.validation = self._batches(self.parts["validation"])
        manual_seed(settings.seed)
        self.model = _model(self.source_words, self.target_words, settings)

    @classmethod
    def read(cls, files: Sequence[str | os.PathLike[str]], settings: TranslateSettings) -> Self:
        """Two files, line by line, or one with tabulators; without any, numbers in words."""
        if len(files) > 2:
            raise ArgumentError(
                f"{os.fspath(files[2])}: expected two files, sources and targets, or one of both"
            )
        if files:
            name = " and ".join(os.fspath(file) for file in files)
            return cls(read_pairs(*files), settings, source=name)
        task = cls(generated_pairs(), settings, source="generated-numbers")
        task.note = (
            "no file: translating the numbers to 9999, made by rule, from English words to German "
            "ones"
        )
        return task

    def _batches(self, pairs: Pairs) -> RaggedBatches:
        return RaggedBatches(
            [self.source_words.encode(text) for text in pairs.sources],
            [self.target_words.encode(text, end=True) for text in pairs.targets],
            aligned=False,
            batch_size=self.settings.batch,
            seed=self.settings.seed,
        )

    def summary(self) -> str:
        """What is trained on what."""
        settings = self.settings
        counts = ", ".join(f"{len(part.sources):,} {name}" for name, part in self.parts.items())
        weights = sum(parameter.size for parameter in self.model.parameters())
        return (
            f"{self.source}: pairs: {counts}; {len(self.source_words):,} and "
            f"{len(self.target_words):,} words; {settings.cell.upper()} encoder and decoder with "
            f"{settings.layers} x {settings.hidden}, attention {settings.attention}, "
            f"{weights:,} weights"
        )

    def details(self) -> dict[str, Any]:
        return {
            "sources": self.source_words.record(),
            "targets": self.target_words.record(),
            "pairs": {name: len(part.sources) for name, part in self.parts.items()},
            "sha256": self._digest,
        }

    def show(self, folder: RunFolder) -> Iterator[str]:
        """The BLEU of the best model on the test part, and some of its translations."""
        loaded = self.load(folder.path)
        test = self.parts["test"]
        found = list(loaded.predict(test.sources))
        bleu = loaded.bleu([record["translation"] for record in found], test.targets)
        yield f"test part: BLEU {bleu.score:.2f} {signature(self.settings)}"
        for record, reference in list(zip(found, test.targets, strict=True))[:_EXAMPLES]:
            yield f"  {record['source']}"
            yield f"    -> {record['translation']}"
            if record["translation"] != reference:
                yield f"    =  {reference}"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LoadedTranslate:
        """The best model of a run. Raises RunError, in one line that names the file, when anything
        is missing or damaged.
        """
        folder = RunFolder(path)
        record = folder.load_settings()
        with reading_settings(folder):
            settings = cls.read_settings(record)
            sources = WordVocabulary.from_record(record["details"]["sources"])
            targets = WordVocabulary.from_record(record["details"]["targets"])
            if targets.start is None or targets.end is None:
                raise ArgumentError("targets: expected symbols for start and end")
        sizes = (settings.cell, settings.layers, settings.embedding, settings.hidden)
        expected = {
            **recurrent_shapes("network.encoder", *sizes),
            **recurrent_shapes("network.decoder", *sizes),
            "network.source_embedding.weight": (len(sources), settings.embedding),
            "network.head.weight": (len(targets), settings.hidden),
        }
        model = load_model(folder, expected, lambda: _model(sources, targets, settings))
        return LoadedTranslate(model, settings, sources, targets, folder.path)


class LoadedTranslate(NamedTuple):
    """The best model of a run, in evaluation mode, and what is needed to use it."""

    model: Translator
    settings: TranslateSettings
    sources: WordVocabulary
    targets: WordVocabulary
    path: str

    def predict(
        self,
        lines: Iterable[str],
        *,
        beam: int = 1,
        attention: str | os.PathLike[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Translate ``lines``, as many side by side as training had.

        Words that the vocabulary of targets lacks are copied from where the attention looked (Luong
        et al. 2015, arXiv 1410.8206, section 3.3, with attention for alignment).

        Args:
            beam: how many translations are kept at each step; 1 takes the best word each time.
            attention: where to draw, as a PNG, what the network looked at for the first line.

        Yields:
            ``{"source": line, "translation": text, "score": log-probability}``, in their order.

        Raises:
            ArgumentError: beam is below 1, or a picture is asked of a model without attention.
            MissingPackageError: a picture needs matplotlib. OSError: it cannot be written.
        """
        if beam < 1:
            raise ArgumentError(f"beam: expected 1 or more, got {beam}")
        if attention is not None and self.settings.attention == "none":
            raise ArgumentError("attention: this model has none to draw")
        return self._predict(iter(lines), beam, attention)

    def _predict(
        self, lines: Iterator[str], beam: int, picture: str | os.PathLike[str] | None
    ) -> Iterator[dict[str, Any]]:
        while some := list(itertools.islice(lines, self.settings.batch)):
            words = [
                tokenize_words(line.strip(), lower=self.settings.lower) for line in some
            ]
            full = [place for place, tokens in enumerate(words) if tokens]
            found: dict[int, tuple[list[str], float]] = {}
            if full:
                pairs = self._search([words[place] for place in full], beam)
                found = dict(zip(full, pairs, strict=True))
            for place, line in enumerate(some):
                translation, score = found.get(place, ([], 0.0))
                if picture is not None and translation:
                    weights = self.attention(words[place], translation)
                    attention_map(picture, words[place], [*translation, "</s>"], weights)
                    picture = None
                yield {
                    "source": line.strip(), "translation": join_words(translation), "score": score
                }  # fmt: skip

    def _search(self, words: list[list[str]], beam: int) -> list[tuple[list[str], float]]:
        """The target words of each list of source words, and their log-probability."""
        assert self.targets.start is not None
        assert self.targets.end is not None
        network = self.model.network
        lengths = np.array([len(tokens) for tokens in words], np.int64)
        source = np.zeros((lengths.max(), len(words)), np.int64)
        for row, tokens in enumerate(words):
            source[: len(tokens), row] = self.sources.encode(tokens)
        with no_grad():
            state = network.start(source, lengths)
        hypotheses = beam_search(
            network.step,
            state,
            batch_axis=network.state_axes,
            start=self.targets.start,
            end=self.targets.end,
            beam_width=beam,
            max_length=2 * int(lengths.max()) + 10,
            length_penalty=_LENGTH_PENALTY if beam > 1 else 0.0,
        )
        results = []
        for tokens, best in zip(words, hypotheses, strict=True):
            ids, score = best[0]
            translation = self.targets.tokens(ids)
            if self.settings.attention != "none" and WordVocabulary.unknown in ids:
                looked = self.attention(tokens, translation).argmax(-1)
                translation = [
                    tokens[looked[place]] if i == WordVocabulary.unknown else word
                    for place, (i, word) in enumerate(zip(ids, translation, strict=True))
                ]
            results.append((translation, score))
        return results

    def attention(self, source: Sequence[str], target: Sequence[str]) -> np.ndarray:
        """The weights (T + 1, S) with which the network looks at S source words as it writes T
        target words and the end. Raises ArgumentError when it has no attention."""
        with no_grad():
            _, weights = self.model(
                self.sources.encode(source)[:, None],
                self.targets.encode(target, end=True)[:, None],
            )
        if weights is None:
            raise ArgumentError("attention: this model has none")
        return np.asarray(weights.data[:, 0])

    def bleu(self, translations: Iterable[str], references: Iterable[str]) -> Bleu:
        """How good translations are; of a model of small letters, in small letters."""
        return corpus_bleu(translations, references, lower=self.settings.lower)

    def evaluate(
        self, files: Sequence[str | os.PathLike[str]] | None = None, *, beam: int = 1
    ) -> dict[str, float]:
        """BLEU and its parts on the run's test part, or on the pairs of other files.

        Raises RunError when the run's own data are missing or have changed, ArgumentError for
        other files that won't do.
        """
        if files:
            pairs = read_pairs(*files[:2])
        else:
            folder = RunFolder(self.path)
            record = folder.load_settings()
            with reading_settings(folder):
                pairs = TranslateTask.reopen(record).parts["test"]
        records = self.predict(pairs.sources, beam=beam)
        found = self.bleu([record["translation"] for record in records], pairs.targets)
        precisions = {
            f"precision of {n}": value for n, value in enumerate(found.precisions, 1)
        }
        return {"BLEU": found.score, **precisions, "brevity penalty": found.brevity_penalty}


def signature(settings: TranslateSettings) -> str:
    """How BLEU was computed, as sacreBLEU puts it."""
    return f"(nrefs:1|case:{'lc' if settings.lower else 'mixed'}|eff:no|tok:13a|smooth:exp)"


def _parts(pairs: Pairs, settings: TranslateSettings, source: str) -> dict[str, Pairs]:
    count = len(pairs.sources)
    try:
        share = min(_SHARE, _MOST / max(count, 1))
        rest, test = split_at_random(count, share, seed=settings.seed, groups=pairs.sources)
        inner = split_at_random(
            len(rest),
            min(share * count / len(rest), 0.5),
            seed=settings.seed,
            groups=[pairs.sources[place] for place in rest],
        )
    except ArgumentError:
        raise ArgumentError(
            f"{source}: {count} pairs are too few to train, validate and test with"
        ) from None
    parts = {
        name: Pairs(*([side[place] for place in places] for side in pairs))
        for name, places in (
            ("training", rest[inner.training]), ("validation", rest[inner.held_out]), ("test", test)
        )
    }  # fmt: skip
    short = [
        place
        for place, texts in enumerate(zip(*parts["training"], strict=True))
        if max(len(tokenize_words(text)) for text in texts) <= settings.max_words
    ]
    if not short:
        raise ArgumentError(f"{source}: all pairs are longer than max_words, {settings.max_words}")
    parts["training"] = Pairs(*([side[place] for place in short] for side in parts["training"]))
    return parts


def _model(
    sources: WordVocabulary, targets: WordVocabulary, settings: TranslateSettings
) -> Translator:
    assert targets.start is not None
    network = EncoderDecoder(
        len(sources),
        len(targets),
        settings.embedding,
        settings.hidden,
        settings.layers,
        start_token=targets.start,
        cell=settings.cell,
        bidirectional=settings.bidirectional,
        attention=None if settings.attention == "none" else settings.attention,
        dropout=settings.dropout,
    )
    return Translator(
        network,
        label_smoothing=settings.label_smoothing,
        sampling=settings.sampling,
        sampling_batches=settings.sampling_batches,
    )
