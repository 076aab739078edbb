"""Classifying and tagging, from files of every kind to predictions; and text made of words."""

import json
import math
import os

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.data import Scaler, WordVocabulary, group_duplicates, join_words
from rnnkit.errors import ArgumentError
from rnnkit.train import (
    ClassifySettings,
    ClassifyTask,
    LanguageModel,
    Observer,
    RunError,
    RunFolder,
    TagSettings,
    TagTask,
    TextSettings,
    TextTask,
    generate,
    load_run,
    resume_run,
)
from rnnkit.train.tasks import labelled
from rnnkit.train.tasks.generated import bracket_depths, is_reber, reber_strings
from rnnkit.train.tasks.inputs import InputCodec

SMALL = {"hidden": 8, "embedding": 4, "batch": 8, "epochs": 6, "validations": 3, "lr": 0.02}


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def words_and_labels(count=120):
    """Texts whose label is that of the one telling word in it."""
    random = np.random.default_rng(0)
    telling = {"sun": "warm", "snow": "cold", "rain": "wet"}
    records = []
    for _ in range(count):
        words = [f"w{k}" for k in random.integers(0, 9, random.integers(2, 8))]
        word = list(telling)[random.integers(3)]
        words.insert(random.integers(len(words) + 1), word)
        records.append((words, telling[word]))
    return records


@pytest.fixture
def kinds(tmp_path):
    """The same sort of data in every form that is read."""
    records = words_and_labels()
    made = {
        "text": write_lines(
            tmp_path / "text.jsonl", [{"text": " ".join(w), "label": y} for w, y in records]
        ),
        "tokens": write_lines(
            tmp_path / "tokens.jsonl", [{"tokens": w, "label": y} for w, y in records]
        ),
    }
    known = sorted({word for words, _ in records for word in words})
    numbered = [([known.index(word) * 1000 for word in words], y) for words, y in records]
    made["symbols"] = tmp_path / "symbols.csv"
    lines = [f"{' '.join(map(str, numbers))},{y}" for numbers, y in numbered]
    made["symbols"].write_text("sequence,label\n" + "\n".join(lines) + "\n")
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 80)
    features = random.normal(size=(80, 9, 2)) * [3.0, 0.1] + [100.0, 0.0]
    features[:, :, 1] += 0.2 * labels[:, None]
    lengths = random.integers(4, 10, 80)
    made["features"] = tmp_path / "features.npz"
    np.savez(made["features"], sequences=features, labels=labels, lengths=lengths)
    return made


@pytest.mark.parametrize("backend", ["auto", "python"])
@pytest.mark.parametrize("kind", ["text", "tokens", "symbols", "features"])
def test_every_kind_of_input_is_learnt_kept_and_predicted(tmp_path, kinds, kind, backend):
    settings = ClassifySettings(**SMALL, unit="words", pooling="max")
    with rk.backend(backend):
        task = ClassifyTask.prepare([kinds[kind]], settings)
        folder = RunFolder.create(tmp_path / "run")
        outcome = task.train(folder)
        loaded = load_run(folder.path)
        assert outcome.best_value > 0.8
        rk.manual_seed(9)
        figures = loaded.evaluate()
        state = rk.generator().bit_generator.state
        rk.manual_seed(9)
        assert rk.generator().bit_generator.state == state  # evaluating draws nothing
        assert figures["accuracy"] == pytest.approx(outcome.best_value)
        again = loaded.evaluate([kinds[kind]])
        records = list(loaded.predict(kinds[kind], all=True))
    data = task.parts.labels.names
    assert len(records) == len(task.training) + len(task.validation)
    for record in records:
        shares = record["probabilities"]
        assert list(shares) == list(data)
        assert sum(shares.values()) == pytest.approx(1.0)
        assert record["probability"] == max(shares.values()) == shares[record["label"]]
    json.dumps(records)
    # What is predicted is in the order of the file, and what is evaluated agrees with it.
    truth = [label for _, label in words_and_labels()]
    if kind == "features":
        truth = np.load(kinds[kind])["labels"].astype(str).tolist()
    right = [record["label"] == label for record, label in zip(records, truth, strict=True)]
    assert np.mean(right) == pytest.approx(again["accuracy"])
    assert next(loaded.predict(kinds[kind])).keys() == {"label", "probability"}


def test_lines_and_iterables_are_predicted_as_files_are(tmp_path, kinds, monkeypatch):
    for kind in ("text", "tokens", "symbols"):
        settings = ClassifySettings(**SMALL | {"epochs": 1}, unit="words")
        task = ClassifyTask.prepare([kinds[kind]], settings)
        folder = RunFolder.create(tmp_path / kind)
        task.train(folder)
        loaded = load_run(folder.path)
        lines = ["w1 sun w2", "snow"] if kind != "symbols" else ["1000 3000", "77"]
        (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
        from_file = list(loaded.predict(tmp_path / "lines.txt"))
        assert from_file == list(loaded.predict(iter(lines)))
        assert len(from_file) == 2
        if kind == "tokens":
            assert from_file == list(loaded.predict([line.split() for line in lines]))
        with pytest.raises(ArgumentError, match="inputs: example 2: there is no step in it"):
            list(loaded.predict(["1", " "]))
        monkeypatch.setattr(labelled, "_PREDICTED_TOGETHER", 2)  # and the next ones after these
        with pytest.raises(ArgumentError, match="inputs: example 3: there is no step in it"):
            list(loaded.predict(["1", "2", " "]))


def test_numbers_of_a_line_are_not_taken_for_others():
    codec = InputCodec("sequence", Scaler([0.0], [1e290]))
    found = codec.encode("sequence", ["1e290 3e290", "2"], "lines")
    assert found[0].tolist() == [[1.0], [3.0]]
    with pytest.raises(ArgumentError, match="lines: example 1: not finite or too large"):
        InputCodec("sequence", Scaler([0.0], [1.0])).encode("sequence", ["1e290"], "lines")
    symbols = InputCodec("sequence", WordVocabulary(["-9223372036854775808"]))
    with pytest.raises(ArgumentError, match="expected whole numbers"):
        symbols.encode("sequence", ["1e290"], "lines")


def test_features_are_standardised_by_the_training_part_alone(kinds):
    task = ClassifyTask.prepare([kinds["features"]], ClassifySettings(**SMALL))
    steps = np.concatenate(task.training.inputs.each)
    assert steps.mean(0) == pytest.approx(np.zeros(2), abs=1e-5)
    assert steps.std(0) == pytest.approx(np.ones(2), abs=1e-5)
    assert abs(np.concatenate(task.validation.inputs.each).mean(0)).max() > 1e-3


def test_whole_numbers_are_symbols_or_features_as_asked():
    few, many = [np.array([1, 2, 1000])], [np.arange(300), np.arange(5)]

    def fit(sequences, numbers):
        return InputCodec.fit(
            "sequence", sequences, unit="characters", numbers=numbers, vocabulary=50
        )

    assert fit(few, "auto").size == 4  # with the unknown one
    assert not fit(few, "features").symbols
    assert not fit(many, "auto").symbols
    assert fit(many, "symbols").size == 51
    assert fit([np.arange(256)], "auto").symbols
    assert not fit([np.arange(257)], "auto").symbols
    codec = InputCodec.from_record(json.loads(json.dumps(fit(few, "auto").record())))
    assert codec.encode("sequence", [np.array([1000, 5, 1])], "s")[0].tolist() == [
        fit(few, "auto").encode("sequence", few, "s")[0][2], 0, 1
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match="s: example 1: expected whole numbers"):
        codec.encode("sequence", [np.array([0.5])], "s")
    with pytest.raises(ArgumentError, match="s: expected inputs of kind 'sequence', got 'text'"):
        codec.encode("text", ["abc"], "s")


def test_the_validation_part_has_every_class_and_no_copy_of_what_is_learnt(tmp_path):
    random = np.random.default_rng(3)
    records = [
        {"text": "".join(random.choice(list("ab"), 4)), "label": "often" if n % 10 else "rare"}
        for n in range(300)
    ]
    path = write_lines(tmp_path / "data.jsonl", records)
    task = ClassifyTask.prepare([path], ClassifySettings(**SMALL))
    both = task.training, task.validation
    parts = [[each.tobytes() for each in part.inputs.each] for part in both]
    assert not set(parts[0]) & set(parts[1])
    assert len(parts[0]) + len(parts[1]) == 300
    assert set(task.validation.targets.tolist()) == {0, 1}
    other = [{"text": f"{n:04d}", "label": "rare" if n < 30 else "often"} for n in range(300)]
    task = ClassifyTask.prepare([write_lines(path, other)], ClassifySettings(**SMALL))
    assert np.bincount(task.validation.targets).tolist() == [27, 3]


def test_class_weights_make_the_rare_count_as_much(tmp_path):
    records = [
        {"text": f"{n:03d}", "label": "often" if n % 10 else "rare"} for n in range(200)
    ]
    path = write_lines(tmp_path / "data.jsonl", records)
    task = ClassifyTask.prepare([path], ClassifySettings(**SMALL, class_weights=True))
    often, rare = task.model.class_weights
    counts = np.bincount(task.training.targets)
    assert often * counts[0] == pytest.approx(rare * counts[1])
    assert often * counts[0] + rare * counts[1] == pytest.approx(counts.sum())
    assert ClassifyTask.prepare([path], ClassifySettings(**SMALL)).model.class_weights is None


def test_figures_are_those_of_the_confusion(tmp_path):
    task = ClassifyTask.prepare([], ClassifySettings(**SMALL | {"epochs": 0.05, "validations": 1}))
    folder = RunFolder.create(tmp_path / "run")
    task.train(folder)
    loaded = load_run(folder.path)
    counts = np.array([[30, 10], [0, 5]])
    loaded.confusion = lambda batches: counts
    figures = loaded.figures(task.validation)
    assert figures["accuracy"] == pytest.approx(35 / 45)
    assert figures["mean class recall"] == pytest.approx((0.75 + 1.0) / 2)
    # A class that is not there counts for nothing, one with a single example as much as others.
    for second, recall in (([0, 0], 0.75), ([0, 1], 0.875)):
        loaded.confusion = lambda batches, second=second: np.array([[6, 2], second])
        assert loaded.figures(task.validation)["mean class recall"] == recall
    each = write_lines(tmp_path / "each.jsonl", [{"text": "B", "labels": ["yes"]}])
    with pytest.raises(ArgumentError, match="expected one label for each sequence, got one for e"):
        loaded.evaluate([each])
    found = load_run(folder.path).confusion(task.validation)
    assert found.sum(1).tolist() == np.bincount(task.validation.targets).tolist()


def test_probabilities_of_scores_of_any_size():
    assert labelled.probabilities(np.array([[1e3, 1e3 - 50], [-1e3, -1e3]])).tolist() == [
        [pytest.approx(1.0), pytest.approx(math.exp(-50))], [0.5, 0.5]
    ]  # fmt: skip


def test_the_pairs_most_often_confused_are_shown_first(tmp_path, monkeypatch):
    task = ClassifyTask.prepare([], ClassifySettings(**SMALL | {"epochs": 0.05, "validations": 1}))
    folder = RunFolder.create(tmp_path / "run")
    task.train(folder)
    counts = np.array([[30, 10], [11, 5]])
    monkeypatch.setattr(type(task).loaded_type, "confusion", lambda self, batches: counts)
    yes, no = task.parts.labels.names
    assert list(task.show(folder)) == [
        "35 of 56 sequences of the validation part are right",
        f"  {no!r} taken for {yes!r}: 11 of 16",
        f"  {yes!r} taken for {no!r}: 10 of 40",
        f"\nmore: rnnkit predict {folder.path} INPUT",
    ]


def test_steps_are_tagged(tmp_path):
    data = bracket_depths(200, seed=5)
    records = [
        {"text": text, "labels": labels}
        for text, labels in zip(data.sequences, data.labels, strict=True)
    ]
    path = write_lines(tmp_path / "depths.jsonl", records)
    task = TagTask.prepare([path], TagSettings(**SMALL | {"hidden": 24, "epochs": 12}))
    folder = RunFolder.create(tmp_path / "run")
    outcome = task.train(folder)
    loaded = load_run(folder.path)
    assert outcome.best_value > 0.6
    assert loaded.evaluate()["accuracy"] == pytest.approx(outcome.best_value)
    found = list(loaded.predict(path, all=True))
    assert [len(record["labels"]) for record in found] == [len(each) for each in data.sequences]
    assert all(0 < share <= 1 for record in found for share in record["probabilities"])
    right = np.mean([
        label == guess
        for record, labels in zip(found, data.labels, strict=True)
        for guess, label in zip(record["labels"], labels, strict=True)
    ])  # fmt: skip
    assert right == pytest.approx(loaded.evaluate([path])["accuracy"])
    assert "steps of the validation part" in next(task.show(folder))


@pytest.mark.parametrize(
    ("task", "records", "reason"),
    [
        (ClassifyTask, [{"text": "ab", "labels": ["x", "y"]}] * 3, "rnnkit train tag"),
        (TagTask, [{"text": "ab", "label": "x"}] * 3, "rnnkit train classify"),
        (ClassifyTask, [{"text": f"{n}", "label": "x"} for n in range(9)], "two labels or more"),
        (ClassifyTask, [{"text": "a", "label": f"{n}"} for n in range(9)], "too few different"),
    ],
)
def test_data_that_cannot_be_learnt_are_named(tmp_path, task, records, reason):
    path = write_lines(tmp_path / "data.jsonl", records)
    with pytest.raises(ArgumentError, match=reason) as caught:
        task.prepare([path], task.settings_type(**SMALL))
    assert str(caught.value).startswith(f"{path}: ")


def test_labels_of_characters_do_not_go_with_words(tmp_path):
    records = [{"text": f"{n} b", "labels": list("xyz")} for n in range(9)]
    path = write_lines(tmp_path / "data.jsonl", records)
    with pytest.raises(ArgumentError, match="3 labels for 2 steps"):
        TagTask.prepare([path], TagSettings(**SMALL, unit="words"))


@pytest.mark.parametrize(("count", "end"), [(30, ""), (100, ", ...")])
def test_labels_that_only_the_validation_part_has_are_mentioned(tmp_path, count, end):
    often = [{"text": f"a{n}", "label": "often"} for n in range(20)]
    rare = [{"text": f"b{n}", "label": f"rare {n}"} for n in range(count)]
    path = write_lines(tmp_path / "data.jsonl", often + rare)
    task = ClassifyTask.prepare([path], ClassifySettings(**SMALL))
    names = [repr(task.parts.labels.names[i]) for i in sorted(set(task.validation.targets)) if i]
    assert task.note == (
        f"{path}: too rare to be learnt, as all examples are in the validation part: "
        f"{', '.join(names[:5])}{end}"
    )
    path = write_lines(path, often + [{"text": f"b{n}", "label": "rare"} for n in range(2)])
    assert ClassifyTask.prepare([path], ClassifySettings(**SMALL)).note == ""


@pytest.mark.parametrize("task", [ClassifyTask, TagTask])
def test_two_different_sequences_are_enough(tmp_path, task):
    def prepare(*texts):
        one = {"label": "x"}, {"label": "y"}
        each = {"labels": ["x"]}, {"labels": ["y"]}
        outputs = each if task.per_step else one
        records = [{"text": t, **outputs[n]} for n, t in enumerate(texts)]
        path = write_lines(tmp_path / "data.jsonl", records)
        return task.prepare([path], task.settings_type(**SMALL))

    task_of_two = prepare("a", "b")
    assert len(task_of_two.training) == len(task_of_two.validation) == 1
    with pytest.raises(ArgumentError, match="too few different sequences to hold any out"):
        prepare("a", "a")


def test_labels_of_the_other_sort_are_for_the_other_task(tmp_path):
    each = write_lines(tmp_path / "each.jsonl", [{"text": "ab", "labels": ["x", "y"]}])
    one = write_lines(tmp_path / "one.jsonl", [{"text": "ab", "label": "x"}])
    for task, path, message in (
        (TagTask, one, "one label for each step, got one for each sequence; try .* classify$"),
        (ClassifyTask, each, "one label for each sequence, got one for each step; try .* tag$"),
    ):
        with pytest.raises(ArgumentError, match=message):
            task.prepare([path], task.settings_type(**SMALL))


def test_whole_numbers_of_one_file_go_with_features_of_another(tmp_path):
    whole = [{"sequence": [n, 1], "label": "ab"[n % 2]} for n in range(20)]
    others = [{"sequence": [n + 0.5, 1], "label": "ab"[n % 2]} for n in range(20)]
    wide = [{"sequence": [[n, 0.5]], "label": "ab"[n % 2]} for n in range(20)]
    files = [
        write_lines(tmp_path / f"{name}.jsonl", records)
        for name, records in (("whole", whole), ("others", others), ("wide", wide))
    ]
    task = ClassifyTask.prepare(files[:2], ClassifySettings(**SMALL))
    assert len(task.training) + len(task.validation) == 40
    assert (task.parts.inputs.symbols, task.parts.inputs.size) == (False, 1)
    for pair in (files[1:], files[::2]):
        with pytest.raises(ArgumentError, match="and others: steps of different numbers of feat"):
            ClassifyTask.prepare(pair, ClassifySettings(**SMALL))


def test_examples_are_counted_as_in_the_file(tmp_path):
    records = [{"text": f"word{n}", "label": "ab"[n % 2]} for n in range(40)]
    path = write_lines(tmp_path / "data.jsonl", [*records, {"text": "  ", "label": "a"}])
    with pytest.raises(ArgumentError, match=r"data\.jsonl: example 41: there is no step in it"):
        ClassifyTask.prepare([path], ClassifySettings(**SMALL, unit="words"))


def test_numbers_that_cannot_be_scaled_are_said_of_their_file(tmp_path):
    records = [{"sequence": [n * 1e300, 0.5], "label": "ab"[n % 2]} for n in range(9)]
    path = write_lines(tmp_path / "data.jsonl", records)
    with pytest.raises(ArgumentError, match=r"data\.jsonl: training: channel 0: too large"):
        ClassifyTask.prepare([path], ClassifySettings(**SMALL))


def test_files_of_one_data_set_are_of_one_kind(tmp_path, kinds):
    settings = ClassifySettings(**SMALL)
    both = ClassifyTask.prepare([kinds["text"], kinds["text"]], settings)
    assert len(both.training) + len(both.validation) == 240
    with pytest.raises(ArgumentError, match=r"tokens\.jsonl: not of the same kind as"):
        ClassifyTask.prepare([kinds["text"], kinds["tokens"]], settings)


def test_a_label_that_was_never_learnt_is_named(tmp_path, kinds):
    task = ClassifyTask.prepare([kinds["text"]], ClassifySettings(**SMALL | {"epochs": 0.1}))
    folder = RunFolder.create(tmp_path / "run")
    task.train(folder)
    records = [{"text": "sun", "label": label} for label in (*task.parts.labels.names, "hot")]
    other = write_lines(tmp_path / "other.jsonl", records)
    with pytest.raises(ArgumentError, match=rf"other\.jsonl: example {len(records)}: .*got 'hot'"):
        load_run(folder.path).evaluate([other])


def test_a_second_run_in_a_folder_leaves_that_of_the_first_as_it_was(tmp_path, kinds):
    first, second = (
        ClassifyTask.prepare([kinds["text"]], ClassifySettings(**SMALL | {"epochs": 1, "seed": n}))
        for n in (1, 2)
    )
    folder = RunFolder.create(tmp_path / "run")

    class Second(Observer):
        def on_step(self, step):
            with pytest.raises(RunError, match="another process is training there"):
                second.train(folder)

    first.train(folder, [Second()])
    assert folder.load_settings()["settings"]["seed"] == 1


class InterruptAt(Observer):
    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("task", [ClassifyTask, TagTask])
def test_a_run_on_generated_data_is_resumed_exactly(tmp_path, task):
    changes = {"epochs": 1, "ema": 0.9, "dropout": 0.3, "class_weights": True, "batch": 64}
    settings = task.settings_type(**SMALL | changes)
    made = task.prepare([], settings)
    assert "generated" in made.note
    whole = made.train(RunFolder.create(tmp_path / "a"))
    with pytest.raises(KeyboardInterrupt):
        task.prepare([], settings).train(RunFolder.create(tmp_path / "b"), [InterruptAt(5)])
    with pytest.raises(KeyboardInterrupt):
        resume_run(tmp_path / "b", [InterruptAt(11)])
    assert resume_run(tmp_path / "b").steps == whole.steps > 11
    for name in ("model.safetensors", "settings.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_data_that_changed_are_not_resumed(tmp_path, kinds):
    settings = ClassifySettings(**SMALL | {"epochs": 0.1})
    ClassifyTask.prepare([kinds["text"]], settings).train(RunFolder.create(tmp_path / "run"))
    with open(kinds["text"], "a") as file:
        file.write('{"text": "sun", "label": "warm"}\n')
    for call in (resume_run, lambda path: load_run(path).evaluate()):
        with pytest.raises(RunError, match="has changed since the run began"):
            call(tmp_path / "run")


def test_data_that_change_while_they_are_read_are_refused(kinds):
    class Task(ClassifyTask):
        @classmethod
        def read(cls, files, settings):
            task = super().read(files, settings)
            with open(files[0], "a") as file:
                file.write('{"text": "sun", "label": "warm"}\n')
            return task

    with pytest.raises(ArgumentError, match=f"^{kinds['text']}: changed while it was read"):
        Task.prepare([kinds["text"]], ClassifySettings(**SMALL))


def test_the_generated_data_are_what_they_are_said_to_be():
    reber = reber_strings(200, seed=2)
    assert reber == reber_strings(200, seed=2) != reber_strings(200, seed=3)
    assert [is_reber(text) for text in reber.sequences] == [
        label == "grammatical" for label in reber.labels
    ]
    assert len(set(reber_strings(3000).sequences)) > 2990
    assert is_reber("BTXSE")
    assert not is_reber("BTXS")
    assert not is_reber("BTXSEE")
    depths = bracket_depths(50, seed=2)
    assert len(set(group_duplicates(depths.sequences))) == 50
    for text, labels in zip(depths.sequences, depths.labels, strict=True):
        stack = []
        for letter, label in zip(text, labels, strict=True):
            if letter in "([{":
                stack.append(")]}"["([{".index(letter)])
            assert int(label) == len(stack) <= 5
            if letter in ")]}":
                assert stack.pop() == letter
        assert not stack


# -- text made of words --------------------------------------------------------------------------

FOX = "The quick brown fox jumps over the lazy dog (again).\n" * 60
WORDS = {**SMALL, "unit": "words", "batch": 4, "length": 12, "epochs": 4}


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_of_words(tmp_path, tied):
    settings = TextSettings(**WORDS, tied=tied, vocabulary=12)
    task = TextTask(FOX, settings, source="fox")
    assert len(task.vocabulary) == 13  # with the unknown one
    outcome = task.train(RunFolder.create(tmp_path / "run"))
    loaded = load_run(tmp_path / "run")
    assert outcome.best_value < math.log(13)
    assert task.measure.label == "nats/word"
    (tmp_path / "fox.txt").write_text(FOX)
    figures = loaded.evaluate([tmp_path / "fox.txt"])
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    with pytest.warns(UserWarning, match="never seen 'cat'; read as unknown"):
        text = "".join(loaded.sample(prompt="The cat", length=20, seed=3))
    assert text.startswith("The cat")
    assert "<unk>" not in text
    # 12 known of 13 different: the one left out is the last in the order of code points.
    assert "The" in loaded.vocabulary


def test_characters_have_their_bits(tmp_path):
    settings = TextSettings(**WORDS | {"unit": "characters", "epochs": 0.2})
    (tmp_path / "fox.txt").write_text(FOX)
    TextTask.prepare([tmp_path / "fox.txt"], settings).train(RunFolder.create(tmp_path / "run"))
    loaded = load_run(tmp_path / "run")
    for figures in (loaded.evaluate(), loaded.evaluate([tmp_path / "fox.txt"])):
        assert figures["bits per character"] == pytest.approx(figures["loss"] / math.log(2))
    (tmp_path / "short.txt").write_text("x")
    with pytest.raises(ArgumentError, match=r"short\.txt: too short"):
        loaded.evaluate([tmp_path / "short.txt"])


def test_words_are_written_spaced_as_they_are_joined():
    vocabulary = WordVocabulary(["(", ")", ".", '"', "a", "b", "\n"], lines=True)
    rk.manual_seed(4)
    model = LanguageModel(len(vocabulary), hidden=8, embedding=4)
    model.head.weight.data *= 10
    rng = np.random.default_rng(5)
    pieces = list(generate(model, vocabulary, prompt='a "b', length=200, rng=rng))
    tokens = ["a", '"', "b", *(piece.strip(" ") for piece in pieces)]
    assert join_words(tokens) == 'a "b' + "".join(pieces)
    assert {piece.strip(" ") for piece in pieces} == set(vocabulary.words)
    with pytest.raises(ArgumentError, match="prompt: expected a word or more"):
        generate(model, vocabulary, prompt=" ", length=2, rng=rng)


# -- settings that ask for more than the file holds ------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each kind of model, in tiny."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = {**SMALL, "epochs": 0.1, "validations": 1}
    (folder / "fox.txt").write_text(FOX)
    for name, task, files, changes in (
        ("text", TextTask, [folder / "fox.txt"], {"batch": 2, "length": 8}),
        ("tied", TextTask, [folder / "fox.txt"], {"batch": 2, "length": 8, "tied": True}),
        ("classify", ClassifyTask, [], {"pooling": "attention", "layers": 2}),
        ("tag", TagTask, [], {}),
    ):
        task.prepare(files, task.settings_type(**{**tiny, **changes})).train(
            RunFolder.create(folder / name)
        )
    return folder


@pytest.mark.parametrize("run", ["text", "tied", "classify", "tag"])
@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 9000},
        {"hidden": 65536},
        {"embedding": 65536},
        {"layers": 64},
        {"hidden": 65536, "layers": 64},
        {"hidden": 4},
        {"cell": "gru"},
    ],
)
def test_nothing_is_allocated_that_the_file_does_not_hold(runs, tmp_path, run, change):
    misfit = r"do not fit those in settings\.json|: of another model"
    folder = RunFolder(runs / run)
    record = folder.load_settings()
    record["settings"].update(change)
    other = RunFolder.create(tmp_path / "run")
    other.save_settings(record)
    for name in ("model", "checkpoint"):
        os.link(getattr(folder, name), getattr(other, name))
    resident = peak_resident()
    for call, file in ((load_run, other.model), (resume_run, other.checkpoint)):
        with pytest.raises(RunError, match=misfit) as caught:
            call(other.path)
        assert str(caught.value).startswith(file)
        assert "\n" not in str(caught.value)
    assert peak_resident() - resident < 100 << 20


def peak_resident():
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("run", ["classify", "tag"])
@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("inputs"),
        lambda d: d.pop("labels"),
        lambda d: d.update(labels=["a"]),
        lambda d: d["labels"].update(names=[1, 2]),
        lambda d: d["inputs"].update(inputs="music"),
        lambda d: d["inputs"].update(codec=None),
        lambda d: d["inputs"].update(codec={"kind": "scaler", "shift": [0.0], "scale": [0.0]}),
        lambda d: d["inputs"]["codec"].update(kind="words"),
        lambda d: d["inputs"].update(inputs="sequence"),
        lambda d: d["inputs"].update(codec={"kind": "scaler", "shift": [0.0], "scale": [1.0]}),
    ],
)
def test_damaged_details_are_said_in_one_line(runs, tmp_path, run, change):
    folder = RunFolder(runs / run)
    record = folder.load_settings()
    change(record["details"])
    other = RunFolder.create(tmp_path / "run")
    other.save_settings(record)
    os.link(folder.model, other.model)
    with pytest.raises(RunError, match=r"settings\.json: damaged: ") as caught:
        load_run(other.path)
    assert "\n" not in str(caught.value)


def test_a_run_of_another_task_is_refused(runs):
    with pytest.raises(RunError, match=r"damaged: expected format \d and task 'tag'"):
        TagTask.load(runs / "classify")


@pytest.mark.parametrize(
    ("kind", "training", "wrong", "message"),
    [
        ("text", ["ab"], [1, 2], "expected a text, got list"),
        ("tokens", [["a", "b"]], [1, 2], "expected a list of texts, the tokens"),
        ("tokens", [["a", "b"]], 3, "expected a list of texts, the tokens"),
        ("sequence", [np.ones((2, 1))], ["a"], r"expected numbers \(T, C\)"),
        ("sequence", [np.ones((2, 1))], np.ones((2, 1, 1)), r"expected numbers \(T, C\)"),
        ("sequence", [np.ones((2, 3))], np.ones((2, 2)), "expected 3 features a step, got 2"),
        ("sequence", [np.arange(3)], [0.5], "expected whole numbers"),
    ],
)
def test_inputs_of_another_kind_are_refused_with_their_place(kind, training, wrong, message):
    codec = InputCodec.fit(kind, training, unit="characters", numbers="auto", vocabulary=9)
    with pytest.raises(ArgumentError, match=f"^inputs: example 1: {message}"):
        codec.encode(kind, [wrong], "inputs")
