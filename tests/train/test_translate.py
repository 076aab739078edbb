"""The translate task: what it trains on, what it writes, and how good that is."""

import dataclasses
import json

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.data import Pairs, RaggedBatches, read_pairs
from rnnkit.decoding import corpus_bleu
from rnnkit.errors import ArgumentError
from rnnkit.nn import EncoderDecoder
from rnnkit.train import RunError, RunFolder
from rnnkit.train.heat_map import attention_map
from rnnkit.train.models.translator import Translator
from rnnkit.train.number_words import english, generated_pairs, german
from rnnkit.train.tasks.translate import TranslateSettings, TranslateTask

SMALL = TranslateSettings(
    hidden=32, embedding=16, batch=16, epochs=1, validations=1, lr=0.01, dropout=0.0,
    label_smoothing=0.0,
)  # fmt: skip
DIGITS = {"one": "un", "two": "deux", "three": "trois", "four": "quatre"}


def reversals():
    """Every two to four of four words, and their translations in reverse."""
    words = list(DIGITS)
    texts = [[a, b] for a in words for b in words]
    texts += [[*text, word] for text in texts for word in words]
    texts += [[*text, word] for text in texts[16:] for word in words]
    return Pairs(
        [" ".join(text) + "." for text in texts],
        [" ".join(DIGITS[word] for word in reversed(text)) + "!" for text in texts],
    )


def write_pairs(path, pairs):
    rows = [f"{s}\t{t}\tsomebody" for s, t in zip(*pairs, strict=True)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has learnt to reverse."""
    folder = tmp_path_factory.mktemp("translate")
    path = write_pairs(folder / "pairs.txt", reversals())
    settings = dataclasses.replace(SMALL, epochs=25, validations=5)
    task = TranslateTask.prepare([path], settings)
    task.train(RunFolder.create(folder / "run"))
    return task, TranslateTask.load(folder / "run"), RunFolder(folder / "run")


def test_it_learns_to_translate_sentences_it_never_saw(trained):
    task, loaded, folder = trained
    test = task.parts["test"]
    assert not set(test.sources) & set(task.parts["training"].sources)
    assert not set(test.sources) & set(task.parts["validation"].sources)
    figures = loaded.evaluate()
    assert figures["BLEU"] > 60
    found = [record["translation"] for record in loaded.predict(test.sources)]
    assert figures["BLEU"] == corpus_bleu(found, test.targets).score
    lines = list(task.show(folder))
    assert lines[0] == (
        f"test part: BLEU {figures['BLEU']:.2f} "
        "(nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp)"
    )
    assert f"  {test.sources[0]}" in lines


def test_lines_are_translated_in_their_order_alone_or_together(trained, tmp_path):
    _, loaded, _ = trained
    lines = ["four one.", "", "two two three.", " one\n", "three four one two."]
    together = list(loaded.predict(lines))
    assert [record["source"] for record in together] == [line.strip() for line in lines]
    assert together[1] == {"source": "", "translation": "", "score": 0.0}
    for record in together:
        (alone,) = loaded.predict([record["source"]])
        assert alone["translation"] == record["translation"]
        assert alone["score"] == pytest.approx(record["score"], rel=1e-4, abs=1e-4)
    json.dumps(together)
    (tmp_path / "lines.txt").write_text("\n".join(line.strip() for line in lines) + "\n")
    assert list(loaded.predict(tmp_path / "lines.txt")) == together
    many = [*lines, *lines] * 4  # more than one batch
    assert [r["translation"] for r in loaded.predict(many)] == (
        [r["translation"] for r in together] * 8
    )


def test_a_beam_finds_what_is_no_less_probable(trained):
    task, loaded, _ = trained
    # Compared by the sum of log-probabilities of what each wrote.
    model, sources = loaded.model.network, task.parts["validation"].sources[:10]

    def log_probability(source, translation):
        ids = task.words.sources.encode(source)[:, None]
        target = task.words.targets.encode(translation, end=True)[:, None]
        with rk.no_grad():
            return -model.loss(ids, target).item() * len(target)

    greedy, beam = (
        [log_probability(r["source"], r["translation"]) for r in loaded.predict(sources, beam=b)]
        for b in (1, 4)
    )
    assert sum(beam) >= sum(greedy) - 1e-4
    for beam in (0, 1001, 2.5):
        with pytest.raises(ArgumentError, match=f"beam: expected an integer .*1000, got {beam}"):
            loaded.predict(sources, beam=beam)


def test_a_wide_beam_takes_fewer_lines_at_a_time(trained, monkeypatch):
    task, loaded, _ = trained
    sources = task.parts["test"].sources[:5]
    expected = [record["translation"] for record in loaded.predict(sources, beam=3)]
    monkeypatch.setattr("rnnkit.train.tasks.translate._HYPOTHESES", 6)
    rows, step = [], loaded.model.network.step

    def counted(tokens, state):
        rows.append(len(tokens))
        return step(tokens, state)

    monkeypatch.setattr(loaded.model.network, "step", counted)
    assert [record["translation"] for record in loaded.predict(sources, beam=3)] == expected
    assert max(rows) == 6


def test_evaluation_leaves_the_generator_alone(trained):
    loaded = trained[1]
    before = rk.rng.get_state()
    loaded.evaluate()
    assert rk.rng.get_state() == before


def test_the_attention_can_be_seen(trained, tmp_path):
    pytest.importorskip("matplotlib")
    _, loaded, _ = trained
    picture = tmp_path / "looked.png"
    records = list(loaded.predict(["", "one two three."], attention=picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    words = records[1]["translation"].replace("!", " !").split()
    weights = loaded.attention(["one", "two", "three", "."], words)
    assert weights.shape == (len(words) + 1, 4)
    assert np.allclose(weights.sum(-1), 1, atol=1e-5)
    drawn = tmp_path / "odd.png"
    attention_map(drawn, ["$", "_^{"], ["\\frac"], np.array([[0.2, 0.8]]))
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_the_attention_of_a_line_without_a_translation_is_drawn_too(
    trained, tmp_path, monkeypatch
):
    pytest.importorskip("matplotlib")
    _, loaded, _ = trained
    monkeypatch.setattr(
        type(loaded), "_search", lambda self, words, beam: [([], -1.0) for _ in words]
    )
    picture = tmp_path / "looked.png"
    (record,) = loaded.predict(["one two three."], attention=picture)
    assert record["translation"] == ""
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_unknown_words_are_copied_from_where_the_attention_looks(trained, monkeypatch):
    _, loaded, _ = trained
    words = [["seven", "two", "."]]
    unknown = loaded.parts.targets.encode(["no such word", "deux"])
    monkeypatch.setattr(
        "rnnkit.train.tasks.translate.beam_search", lambda *a, **k: [[(unknown, -1.0)]]
    )
    weights = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    monkeypatch.setattr(type(loaded), "attention", lambda *a: weights)
    assert loaded._search(words, 1) == [(["seven", "deux"], -1.0)]


def test_smoothing_and_sampling_are_for_training_only():
    rk.manual_seed(0)
    network = EncoderDecoder(9, 9, 4, 6, start_token=0)
    sources = [np.array([1, 2, 3]), np.array([4, 5])]
    targets = [np.array([6, 7, 8, 1]), np.array([2, 1])]
    batch = RaggedBatches(sources, targets, aligned=False, batch_size=2).batch(0)
    model = Translator(network, label_smoothing=0.3, sampling=0.5, sampling_batches=10)
    assert [model.sampling_at(p) for p in (0, 5, 10, 100)] == [0.0, 0.25, 0.5, 0.5]
    plain = network.loss(batch.inputs, batch.targets, batch.lengths, batch.target_lengths)
    found = model.eval().loss(batch._replace(position=100))
    assert found.value.item() == plain.item()
    assert found.count == 6
    smoothed = network.loss(
        batch.inputs, batch.targets, batch.lengths, batch.target_lengths, label_smoothing=0.3
    )
    assert model.train().loss(batch).value.item() == smoothed.item()
    rk.manual_seed(3)
    sampled = model.loss(batch._replace(position=100)).value.item()
    assert sampled != smoothed.item()


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "attention": "additive", "layers": 2, "sampling": 0.5, "lower": True},
        {"cell": "rnn", "attention": "dot", "bidirectional": False},
        {"attention": "none"},
    ],
)
def test_every_kind_trains_and_loads(tmp_path, options):
    pairs = Pairs(reversals().sources[:40], reversals().targets[:40])
    path = write_pairs(tmp_path / "pairs.txt", pairs)
    task = TranslateTask.prepare([path], dataclasses.replace(SMALL, **options))
    task.train(RunFolder.create(tmp_path / "run"))
    loaded = TranslateTask.load(tmp_path / "run")
    assert len(list(loaded.predict(["one two", "Three five."], beam=2))) == 2
    assert "case:lc" in "".join(task.show(RunFolder(tmp_path / "run"))) or "lower" not in options
    if options["attention"] == "none":
        with pytest.raises(ArgumentError, match="attention: this model has none"):
            loaded.predict(["one"], attention=tmp_path / "no.png")
        with pytest.raises(ArgumentError, match="attention: this model has none"):
            loaded.attention(["one"], ["un"])


def test_two_files_and_the_vocabularies_of_training(tmp_path):
    pairs = reversals()
    for name, side in zip(("en", "fr"), pairs, strict=True):
        (tmp_path / name).write_text("\n".join(side) + "\n")
    files = [tmp_path / "en", tmp_path / "fr"]
    task = TranslateTask.prepare(files, dataclasses.replace(SMALL, max_size=6, max_words=4))
    assert read_pairs(*files) == pairs
    assert len(task.words.sources) == 6  # unknown, four words and the full stop
    assert len(task.words.targets) == 6  # unknown, start, end, and three more
    assert max(map(len, task.parts["training"].sources)) < len("three three three three.")
    assert max(map(len, task.parts["test"].sources)) > len("three three three.")
    assert task.training.targets.lengths.max() == 5  # with the end


def test_pairs_with_the_same_source_stay_together(tmp_path):
    sources = [f"word{n // 3}" for n in range(90)]
    task = TranslateTask(
        Pairs(sources, [f"mot{n}" for n in range(90)]), SMALL, source="triples"
    )
    seen = [set(part.sources) for part in task.parts.values()]
    assert sum(map(len, seen)) == 30
    assert [len(part.sources) for part in task.parts.values()] == [72, 9, 9]


def test_texts_with_halves_of_surrogates_are_learnt_from():
    """As Python reads bytes that are not UTF-8, and as a text task takes them, too."""
    pairs = Pairs([f"a{n} \udcff" for n in range(12)], ["x"] * 12)
    digests = {
        TranslateTask(given, SMALL, source="bytes").details()["sha256"]
        for given in (pairs, Pairs(pairs.sources, ["x"] * 11 + ["\udcfe"]))
    }
    assert len(digests) == 2


def test_the_generated_pairs():
    cases = {
        0: ("zero", "null"),
        1: ("one", "eins"),
        21: ("twenty one", "ein und zwanzig"),
        30: ("thirty", "dreißig"),
        101: ("one hundred one", "ein hundert eins"),
        1342: ("one thousand three hundred forty two", "ein tausend drei hundert zwei und vierzig"),
        9017: ("nine thousand seventeen", "neun tausend siebzehn"),
    }
    for number, texts in cases.items():
        assert (english(number), german(number)) == texts
    pairs = generated_pairs()
    assert len(set(pairs.sources)) == len(set(pairs.targets)) == 10_000
    task = TranslateTask.prepare([], SMALL)
    assert "made by rule" in task.note
    assert "8,000 training, 1,000 validation, 1,000 test" in task.summary()


def test_a_run_resumes_on_the_same_pairs_only(tmp_path):
    pairs = Pairs(reversals().sources[:40], reversals().targets[:40])
    path = write_pairs(tmp_path / "pairs.txt", pairs)
    TranslateTask.prepare([path], SMALL).train(RunFolder.create(tmp_path / "run"))
    folder = RunFolder(tmp_path / "run")
    record = folder.load_settings()
    assert TranslateTask.reopen(record).record() == record
    for place, value, message in (
        (("settings", "hidden"), 60000, "its shapes do not fit"),
        (("settings", "layers"), 2, "its shapes do not fit"),
        (("details", "targets"), {"kind": "words"}, "settings.json: damaged"),
        (("details", "targets"), record["details"]["sources"], "symbols for start and end"),
    ):
        changed = json.loads(json.dumps(record))
        changed[place[0]][place[1]] = value
        folder.save_settings(changed)
        with pytest.raises(RunError, match=message):
            TranslateTask.load(folder.path)
    folder.save_settings(record)
    other = write_pairs(tmp_path / "other.txt", Pairs(["one two."], ["deux un!"]))
    assert set(TranslateTask.load(folder.path).evaluate([other])) >= {"BLEU", "brevity penalty"}
    write_pairs(path, Pairs(pairs.sources, pairs.sources))
    with pytest.raises(RunError, match="has changed since the run began"):
        TranslateTask.load(folder.path).evaluate()


def test_what_cannot_be_learnt_from_is_named(tmp_path):
    path = write_pairs(tmp_path / "few.txt", Pairs(["a", "b"], ["c", "d"]))
    with pytest.raises(ArgumentError, match=r"few.txt: 2 pairs are too few"):
        TranslateTask.prepare([path], SMALL)
    path = write_pairs(tmp_path / "long.txt", Pairs(reversals().sources, ["a b " * 9] * 336))
    with pytest.raises(ArgumentError, match="max_words: all pairs are longer than 10 words"):
        TranslateTask.prepare([path], dataclasses.replace(SMALL, max_words=10))
    with pytest.raises(ArgumentError, match="c: expected two files"):
        TranslateTask.prepare(["a", "b", "c"], SMALL)
    for options in (
        {"attention": "dot"}, {"cell": "x"}, {"lower": 1}, {"max_size": 3}, {"sampling": 1.0},
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=f"^{next(iter(options))}: "):
            dataclasses.replace(SMALL, **options)
