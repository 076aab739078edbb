"""The translate task: from pairs of lines to a translator, its BLEU and what it looked at."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np

from rnnkit.autograd import no_grad
from rnnkit.data import (
    Pairs,
    RaggedBatches,
    WordVocabulary,
    join_words,
    read_pairs,
    read_text,
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
from rnnkit.train.options import Described, setting
from rnnkit.train.run_folder import RunFolder
from rnnkit.train.settings import Settings, integer, probability
from rnnkit.train.tasks.base import Loaded, Task

_SHARE = 0.1  # of the pairs, each for validation and test
_MOST = 1000  # pairs for each of them
_EXAMPLES = 5
_LENGTH_PENALTY = 0.6
_WIDEST = 1000  # a beam: wider ones gain nothing, and take the memory of the machine
_HYPOTHESES = 4096  # side by side, at most


@dataclasses.dataclass(frozen=True)
class TranslateSettings(Settings):
    """Settings of a translator's run."""

    min_count: int = setting(1, "words seen less often are not known", group="data")
    max_size: int = setting(20_000, "most words of each vocabulary", group="data")
    lower: bool = setting(False, "make capital letters small", group="data")
    max_words: int = setting(50, "leave longer pairs out of training", group="data")
    cell: str = setting("gru", "kind of cell", choices=tuple(sorted(CELLS)), group="model")
    layers: int = setting(1, "recurrent layers of encoder and decoder", group="model")
    hidden: int = setting(256, "units of each layer, in each direction", group="model")
    embedding: int = setting(128, "size of a word's embedding", group="model")
    bidirectional: bool = setting(True, "let the encoder also read backward", group="model")
    attention: str = setting(
        "general",
        "how the decoder looks at the source",
        choices=(*ATTENTIONS, "none"),
        group="model",
    )
    dropout: float = setting(0.2, "dropout probability", metavar="P", group="model")
    label_smoothing: float = setting(
        0.1, "share of the probability spread over all words", metavar="P", group="training"
    )
    sampling: float = setting(
        0.0,
        "scheduled sampling: how often the decoder reads its own word",
        metavar="P",
        group="training",
    )
    sampling_batches: int = setting(
        2000, "batches until it does so that often", group="training", needs="sampling"
    )
    batch: int = setting(64, "pairs side by side", group="training")
    lr: float = 0.003
    weight_decay: float = 0.0

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
        if self.bidirectional and self.attention in ("dot", "scaled"):
            raise ArgumentError(
                f"attention: {self.attention} needs an encoder of one direction (not bidirectional)"
            )
        for name in ("dropout", "label_smoothing", "sampling"):
            probability(name, getattr(self, name))
        integer("max_size", self.max_size, 4, self.largest["max_size"])
        super().__post_init__()


class Vocabularies(NamedTuple):
    """The words of both sides."""

    sources: WordVocabulary
    targets: WordVocabulary


class LoadedTranslate(Loaded):
    """The best model of a run on pairs of texts, and its vocabularies."""

    model: Translator
    settings: TranslateSettings
    parts: Vocabularies

    def predict(
        self,
        inputs: str | os.PathLike[str] | Iterable[str],
        *,
        beam: Annotated[
            int, Described("translations kept at each step; 1 takes the best word", least=1)
        ] = 1,
        attention: Annotated[
            str | os.PathLike[str] | None,
            Described(
                "where to draw what it looked at for the first line, a PNG (default: nowhere)",
                metavar="FILE",
            ),
        ] = None,
    ) -> Iterator[dict[str, Any]]:
        """Translate lines, as many side by side as training had, fewer with a wide beam;
        ``inputs``: a file, or the lines.

        Words that the vocabulary of targets lacks are copied from where the attention looked (Luong
        et al. 2015, arXiv 1410.8206, section 3.3, with attention for alignment).

        Yields ``{"source": line, "translation": text, "score": log-probability}``, in their order.

        Raises:
            ArgumentError: beam is out of range, or a picture is asked of a model without attention;
                after the last record, when it is asked of lines without words.
            MissingPackageError: a picture needs matplotlib. OSError: it cannot be written.
        """
        integer("beam", beam, 1, _WIDEST)
        if attention is not None and self.settings.attention == "none":
            raise ArgumentError("attention: this model has none to draw")
        if isinstance(inputs, str | os.PathLike):
            inputs = read_text(inputs).removesuffix("\n").split("\n")
        return self._predict(iter(inputs), beam, attention)

    def _predict(
        self, lines: Iterator[str], beam: int, picture: str | os.PathLike[str] | None
    ) -> Iterator[dict[str, Any]]:
        at_once = min(self.settings.batch, _HYPOTHESES // beam)
        while some := list(itertools.islice(lines, at_once)):
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
                if picture is not None and words[place]:  # of no target words: the end alone
                    weights = self.attention(words[place], translation)
                    attention_map(picture, words[place], [*translation, "</s>"], weights)
                    picture = None
                yield {
                    "source": line.strip(), "translation": join_words(translation), "score": score
                }  # fmt: skip
        if picture is not None:
            raise ArgumentError("attention: expected a line with words to draw, got none")

    def _search(self, words: list[list[str]], beam: int) -> list[tuple[list[str], float]]:
        """The target words of each list of source words, and their log-probability."""
        assert self.parts.targets.start is not None
        assert self.parts.targets.end is not None
        network = self.model.network
        lengths = np.array([len(tokens) for tokens in words], np.int64)
        source = np.zeros((lengths.max(), len(words)), np.int64)
        for row, tokens in enumerate(words):
            source[: len(tokens), row] = self.parts.sources.encode(tokens)
        with no_grad():
            state = network.start(source, lengths)
        hypotheses = beam_search(
            network.step,
            state,
            batch_axis=network.state_axes,
            start=self.parts.targets.start,
            end=self.parts.targets.end,
            beam_width=beam,
            max_length=2 * int(lengths.max()) + 10,
            length_penalty=_LENGTH_PENALTY if beam > 1 else 0.0,
        )
        results = []
        for tokens, best in zip(words, hypotheses, strict=True):
            ids, score = best[0]
            translation = self.parts.targets.tokens(ids)
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
                self.parts.sources.encode(source)[:, None],
                self.parts.targets.encode(target, end=True)[:, None],
            )
        if weights is None:
            raise ArgumentError("attention: this model has none")
        return np.asarray(weights.data[:, 0])

    def bleu(self, translations: Iterable[str], references: Iterable[str]) -> Bleu:
        """How good translations are; of a model of small letters, in small letters."""
        return corpus_bleu(translations, references, lower=self.settings.lower)

    def evaluate(
        self,
        files: Sequence[str | os.PathLike[str]] | None = None,
        *,
        beam: Annotated[int, Described("as for predict", least=1)] = 1,
    ) -> dict[str, float]:
        """BLEU and its parts on the run's test part, or on the pairs of other files."""
        if files:
            pairs = _read_pairs(files)
        else:
            task = self.reopen()
            assert isinstance(task, TranslateTask)
            pairs = task.parts["test"]
        records = self.predict(pairs.sources, beam=beam)
        found = self.bleu([record["translation"] for record in records], pairs.targets)
        precisions = {f"precision of {n}": value for n, value in enumerate(found.precisions, 1)}
        return {"BLEU": found.score, **precisions, "brevity penalty": found.brevity_penalty}


class TranslateTask(Task):
    """A translator and the pairs it is to learn from.

    Validation and test part are each a tenth of the pairs, at most 1000; pairs with the same source
    stay together, so that no sentence to translate was seen in training.
    """

    name = "translate"
    help = "a translator, from pairs of lines"
    files_help = (
        "two files of lines, or one with a tabulator between the two; by default numbers in words"
    )
    settings_type = TranslateSettings
    loaded_type = LoadedTranslate
    measure = Measure(unit="nats/word", digits=3, items="words")

    settings: TranslateSettings
    model: Translator
    training: RaggedBatches
    validation: RaggedBatches

    def __init__(self, pairs: Pairs, settings: TranslateSettings, *, source: str) -> None:
        """Raises ArgumentError, naming the data, when there are too few pairs."""
        self.settings = settings
        self.source = source
        texts = "\0".join(itertools.chain(*pairs)).encode("utf-8", "surrogatepass")
        self._digest = hashlib.sha256(texts).hexdigest()
        self.parts = _parts(pairs, settings, source)
        training = self.parts["training"]
        options: dict[str, Any] = {
            "min_count": settings.min_count, "max_size": settings.max_size, "lower": settings.lower,
        }  # fmt: skip
        self.words = Vocabularies(
            WordVocabulary.of(training.sources, **options),
            WordVocabulary.of(training.targets, specials=("start", "end"), **options),
        )
        self.training = self._batches(training)
        self.validation = self._batches(self.parts["validation"])
        manual_seed(settings.seed)
        self.model = self.build(settings, self.words)

    @classmethod
    def read(cls, files: Sequence[str | os.PathLike[str]], settings: TranslateSettings) -> Self:
        """Two files, line by line, or one with tabulators; without any, numbers in words."""
        if files:
            name = " and ".join(os.fspath(file) for file in files)
            return cls(_read_pairs(files), settings, source=name)
        task = cls(generated_pairs(), settings, source="generated-numbers")
        task.note = (
            "no file: translating the numbers to 9999, made by rule, from English words to German "
            "ones"
        )
        return task

    def _batches(self, pairs: Pairs) -> RaggedBatches:
        return RaggedBatches(
            [self.words.sources.encode(text) for text in pairs.sources],
            [self.words.targets.encode(text, end=True) for text in pairs.targets],
            aligned=False,
            batch_size=self.settings.batch,
            seed=self.settings.seed,
        )

    def summary(self) -> str:
        """What is trained on what."""
        settings = self.settings
        counts = ", ".join(f"{len(part.sources):,} {name}" for name, part in self.parts.items())
        return (
            f"{self.source}: pairs: {counts}; {len(self.words.sources):,} and "
            f"{len(self.words.targets):,} words; {settings.cell.upper()} encoder and decoder with "
            f"{self.layers}, attention {settings.attention}, "
            f"{self.weights:,} weights"
        )

    def details(self) -> dict[str, Any]:
        return {
            "sources": self.words.sources.record(),
            "targets": self.words.targets.record(),
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
        yield f"\nmore: {folder.command('predict')} INPUT"

    @classmethod
    def read_details(cls, details: Mapping[str, Any]) -> Vocabularies:
        found = Vocabularies(
            WordVocabulary.from_record(details["sources"]),
            WordVocabulary.from_record(details["targets"]),
        )
        if found.targets.start is None or found.targets.end is None:
            raise ArgumentError("targets: expected symbols for start and end")
        return found

    @classmethod
    def build(cls, settings: TranslateSettings, parts: Vocabularies) -> Translator:
        assert parts.targets.start is not None
        network = EncoderDecoder(
            len(parts.sources),
            len(parts.targets),
            settings.embedding,
            settings.hidden,
            settings.layers,
            start_token=parts.targets.start,
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
        raise ArgumentError(
            f"{source}: max_words: all pairs are longer than {settings.max_words} words"
        )
    parts["training"] = Pairs(*([side[place] for place in short] for side in parts["training"]))
    return parts


def _read_pairs(files: Sequence[str | os.PathLike[str]]) -> Pairs:
    if len(files) > 2:
        raise ArgumentError(
            f"{os.fspath(files[2])}: expected two files, sources and targets, or one of both"
        )
    return read_pairs(*files)
