"""Training, evaluation, generation and loading, on small models over both paths."""

import io
import itertools
import json
import math
import os
import signal

import numpy as np
import pytest

import rnnkit as rk
from rnnkit.data import ContinuousBatches, Vocabulary
from rnnkit.errors import ArgumentError
from rnnkit.optim import SGD
from rnnkit.train import (
    Budget,
    LanguageModel,
    Measure,
    Observer,
    RunError,
    RunFolder,
    TextSettings,
    TextTask,
    Trainer,
    TrainingError,
    generate,
    resume_run,
)
from rnnkit.train.curve import LearningCurve
from rnnkit.train.log import JsonLinesLog, to_json
from rnnkit.train.progress import Bar, Lines, progress_on

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
SMALL = TextSettings(hidden=16, embedding=8, batch=4, length=16, epochs=2, validations=4, lr=0.02)


def test_a_text_is_long_enough_for_one_step_and_one_prediction():
    settings = TextSettings(hidden=4, embedding=4, batch=3, length=6)
    # 19 characters to learn from: those of a step and the one that follows; 2 of validation.
    task = TextTask("abc" * 7, settings, source="t")
    assert (task.training.batches_per_epoch, task.validation.batches_per_epoch) == (1, 1)
    with pytest.raises(ArgumentError, match=r"t: too short: 20 characters, of which 18 char.* 19"):
        TextTask("ab" * 10, settings, source="t")
    with pytest.raises(ArgumentError, match="t: too short: 14 characters"):  # 1 of validation
        TextTask("ab" * 7, TextSettings(batch=1, length=2), source="t")


def test_the_validation_part_of_a_long_text_is_limited(monkeypatch):
    monkeypatch.setattr("rnnkit.train.tasks.text._VALIDATION_CHARACTERS", 33)
    task = TextTask(TEXT, SMALL, source="t")
    assert sum(batch.targets.size for batch in task.validation.epoch()) == 32  # 4 streams of 8
    monkeypatch.undo()
    task = TextTask(TEXT[:1000], SMALL, source="t")
    assert 96 <= sum(batch.targets.size for batch in task.validation.epoch()) <= 99


def test_line_ends_are_words_and_the_most_frequent_are_known():
    settings = TextSettings(hidden=4, embedding=4, batch=2, length=4, unit="words", vocabulary=3)
    task = TextTask("one two\none two\none six\n" * 20, settings, source="t")
    assert sorted(task.vocabulary.words) == ["\n", "one", "two"]


class Recorder(Observer):
    def __init__(self):
        self.steps, self.validations, self.outcomes, self.closed = [], [], [], 0

    def on_step(self, step):
        self.steps.append(step)

    def on_validation(self, validation):
        self.validations.append(validation)

    def on_finish(self, outcome):
        self.outcomes.append(outcome)

    def close(self):
        self.closed += 1


def make_trainer(model, ids, *, steps=10, learning_rate=0.1, observers=(), clip=1.0):
    batches = ContinuousBatches(ids, 2, 8)
    optimizer = SGD(model.parameters(), lr=learning_rate)
    return Trainer(
        model,
        optimizer,
        batches,
        batches,
        budget=Budget(steps=steps),
        validations=2,
        observers=observers,
        clip=clip,
    )


def train(folder, settings=SMALL, observers=()):
    run = TextTask(TEXT, settings, source="fox")
    return run.train(RunFolder.create(folder), observers)


@pytest.mark.parametrize("backend", ["auto", "python"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_training_learns_and_the_best_model_is_kept(tmp_path, cell, backend):
    recorder = Recorder()
    settings = TextSettings(**(SMALL.as_dict() | {"cell": cell, "epochs": 6, "layers": 2}))
    with rk.backend(backend):
        outcome = train(tmp_path, settings, [recorder])
        loaded = TextTask.load(tmp_path)
        run = TextTask(TEXT, settings, source="fox")
        batches = run.validation
        trainer = make_trainer(loaded.model, np.arange(100) % 5)
        loss = trainer.evaluate(batches)["loss"]
    first, last = recorder.validations[0], recorder.validations[-1]
    assert last.loss < first.loss < math.log(len(loaded.vocabulary)) + 1
    assert loss == pytest.approx(outcome.best_value, rel=1e-6)
    assert outcome.best_value == min(v.loss for v in recorder.validations)
    assert len(recorder.validations) == settings.validations
    assert outcome.steps == len(recorder.steps) == 6 * run.training.batches_per_epoch
    assert recorder.steps[-1].used == 1.0
    assert not outcome.interrupted
    assert recorder.closed == 1


def test_the_same_seed_gives_the_same_run(tmp_path):
    runs = []
    for name in ("a", "b"):
        recorder = Recorder()
        train(tmp_path / name, observers=[recorder])
        runs.append([step.loss for step in recorder.steps])
    assert runs[0] == runs[1]
    other = Recorder()
    train(tmp_path / "c", TextSettings(**(SMALL.as_dict() | {"seed": 1})), [other])
    assert [step.loss for step in other.steps] != runs[0]


def test_state_is_carried_and_restarts_with_the_epoch():
    """The loss seen in training equals that of one unbroken pass with the same weights."""
    rk.manual_seed(3)
    model = LanguageModel(6, hidden=8, embedding=4)
    ids = np.random.default_rng(0).integers(0, 6, 65)
    recorder = Recorder()
    trainer = make_trainer(model, ids, steps=8, learning_rate=1e-12, observers=[recorder])
    trainer.fit()
    whole = ContinuousBatches(ids, 2, 32)
    assert whole.batches_per_epoch == 1
    expected = trainer.evaluate(whole)["loss"]
    losses = [step.loss for step in recorder.steps]
    assert np.mean(losses[:4]) == pytest.approx(expected, rel=1e-5)
    assert losses[4:] == pytest.approx(losses[:4], rel=1e-5)
    assert losses[1] != pytest.approx(losses[0], rel=1e-3)


def test_evaluation_does_not_depend_on_the_window_length():
    model = LanguageModel(6, hidden=8, embedding=4, dropout=0.5)
    ids = np.random.default_rng(0).integers(0, 6, 201)
    trainer = make_trainer(model, ids)
    by_length = [
        trainer.evaluate(ContinuousBatches(ids, 4, length))["loss"] for length in (50, 7, 1)
    ]
    assert by_length == pytest.approx([by_length[0]] * 3, rel=1e-5)
    assert model.training


def test_nonfinite_loss_stops_with_the_step_and_the_learning_rate():
    model = LanguageModel(5, hidden=4, embedding=3)
    model.head.bias.data[0] = np.nan
    recorder = Recorder()
    trainer = make_trainer(model, np.arange(100) % 5, observers=[recorder])
    message = r"step 1: the training loss became nan at .* 0\.1 \(head\.bias is not finite\)"
    with pytest.raises(TrainingError, match=message):
        trainer.fit()
    assert recorder.closed == 1
    assert recorder.outcomes == []


def test_nonfinite_gradient_stops_with_the_name_of_the_parameter():
    model = LanguageModel(5, hidden=4, embedding=3)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    model.head.bias.register_hook(lambda gradient: gradient * np.float32(np.inf))
    trainer = make_trainer(model, np.arange(100) % 5)
    with pytest.raises(TrainingError, match=r"step 1: the gradient of head\.bias overflowed"):
        trainer.fit()
    after = model.state_dict()
    assert all(np.array_equal(after[name], array) for name, array in before.items())


class InterruptAt(Observer):
    """Presses Ctrl-C during the given steps."""

    def __init__(self, *steps):
        self.at = steps

    def on_step(self, step):
        if step.step in self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_after_the_step_with_a_model_saved(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    recorder = Recorder()
    settings = TextSettings(**(SMALL.as_dict() | {"epochs": 1000}))
    outcome = train(tmp_path, settings, [InterruptAt(3), recorder])
    assert outcome.interrupted
    assert outcome.steps == len(recorder.steps) == 3
    assert outcome.best_step == 3  # never validated before: the model at hand is the best so far
    TextTask.load(tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_keeps_the_best_model_of_before(tmp_path):
    class Worsen(Observer):
        def on_validation(self, validation):
            run.model.head.weight.data *= 0

    run = TextTask(TEXT, TextSettings(**(SMALL.as_dict() | {"epochs": 40})), source="fox")
    recorder = Recorder()
    folder = RunFolder.create(tmp_path)
    outcome = run.train(folder, [recorder, Worsen(), InterruptAt(500)])
    assert outcome.interrupted
    assert outcome.best_step < 500
    assert (TextTask.load(tmp_path).model.head.weight.data != 0).any()


def test_second_ctrl_c_does_not_wait(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    recorder = Recorder()

    class Twice(Observer):
        def on_step(self, step):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, observers=[recorder, Twice()])
    assert recorder.closed == 1
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("seed", [0, 1])
def test_generation_is_decided_by_the_seed(seed):
    model = LanguageModel(5, hidden=8, embedding=4)
    model.head.weight.data *= 30  # strong opinions, so that what was read before matters
    vocabulary = Vocabulary("abc\n")

    def write(**options):
        rng = np.random.default_rng(seed)
        return "".join(generate(model, vocabulary, length=80, rng=rng, **options))

    assert write() == write()
    assert len(write()) == 80
    assert set(write()) <= set("abc\n")
    assert write(temperature=0.0) == write(temperature=1e-4)
    assert len(set(write(temperature=1e6))) == 4
    assert len({write(prompt=prompt) for prompt in ("a", "b", "c", "\n")}) > 1


def test_generation_follows_the_model_step_by_step():
    """Streaming with carried state equals running the whole text through the model each time."""
    model = LanguageModel(4, cell="gru", layers=2, hidden=8, embedding=4, dropout=0.5)
    vocabulary = Vocabulary("abc")
    rng = np.random.default_rng(0)
    text = "".join(generate(model, vocabulary, prompt="ab", length=30, temperature=0.0, rng=rng))
    ids = vocabulary.encode("ab" + text)
    with rk.no_grad():
        logits = model(ids[:, None])[0].data[1:-1, 0, 1:]
    assert np.array_equal(logits.argmax(axis=1) + 1, ids[2:])
    assert rk.is_grad_enabled()


def test_generation_leaves_gradients_on_between_characters():
    characters = generate(
        LanguageModel(3, hidden=4), Vocabulary("ab"), length=3, rng=np.random.default_rng(0)
    )
    next(characters)
    assert rk.is_grad_enabled()


@pytest.mark.parametrize(
    "wrong", [{"length": -1}, {"temperature": -0.1}, {"temperature": math.nan}]
)
def test_generation_refuses_nonsense_at_once(wrong):
    model, rng = LanguageModel(3, hidden=4), np.random.default_rng(0)
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        generate(model, Vocabulary("ab"), rng=rng, **wrong)


def test_too_short_text_is_named_with_what_would_help():
    with pytest.raises(ArgumentError, match=r"fox: too short: 2700 characters.*batch 64"):
        TextTask(TEXT, TextSettings(batch=64, length=64), source="fox")
    with pytest.raises(ArgumentError, match="too short"):
        TextTask("abc", TextSettings(batch=1, length=1), source="abc")


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(format=1), "damaged: expected format 3"),
        (lambda r: r.update(task="chess"), "damaged: .*'chess'"),
        (lambda r: r.pop("details"), "damaged: .*'details'"),
        (lambda r: r["details"].pop("vocabulary"), "damaged: .*'vocabulary'"),
        (lambda r: r["details"].update(vocabulary=""), "damaged"),
        (lambda r: r["details"].update(vocabulary=Vocabulary("ab").record()), "shapes do not fit"),
        (lambda r: r["settings"].update(hidden=65536), "shapes do not fit"),
        (lambda r: r["settings"].update(hidden="16"), "damaged: hidden"),
        (lambda r: r["settings"].update(embedding=9), "shapes do not fit"),
        (lambda r: r["settings"].update(layers=60), "shapes do not fit"),
        (lambda r: r["settings"].update(cell="gru"), "model.safetensors"),
        (lambda r: r["settings"].update(tied=1), "damaged: tied: expected true or false"),
        (lambda r: r["settings"].update(surprise=1), "damaged: .*surprise"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(tmp_path, change, reason):
    train(tmp_path)
    edit(tmp_path / "settings.json", change)
    with pytest.raises(RunError, match=reason) as caught:
        TextTask.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("head.bias"),
        lambda a: a.update(extra=np.zeros(1, np.float32)),
        lambda a: a.update({"head.bias": a["head.bias"][:-1]}),
        lambda a: a.update({"head.bias": a["head.bias"].astype(np.float64)}),
    ],
)
def test_a_model_with_wrong_names_shapes_or_dtypes_is_refused(tmp_path, change):
    train(tmp_path)
    folder = RunFolder(tmp_path)
    arrays = folder.load_model()
    change(arrays)
    folder.save_model(arrays, {})
    with pytest.raises(RunError, match=r"model\.safetensors") as caught:
        TextTask.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_log_and_curve_tell_the_run(tmp_path):
    pytest.importorskip("matplotlib")
    folder = RunFolder(tmp_path)
    recorder = Recorder()
    log, curve = JsonLinesLog(str(tmp_path / "log")), LearningCurve(str(tmp_path / "curve"))
    trainer = make_trainer(
        LanguageModel(5, hidden=4), np.arange(100) % 5, observers=[recorder, log, curve]
    )
    outcome = trainer.fit()
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    by_event = {
        event: list(group)
        for event, group in itertools.groupby(
            sorted(records, key=lambda r: r["event"]), key=lambda r: r["event"]
        )
    }
    assert len(by_event["train"]) == 10
    assert [r["loss"] for r in by_event["validation"]] == pytest.approx(
        [v.loss for v in recorder.validations], rel=1e-5
    )
    assert by_event["finish"][0]["steps"] == outcome.steps == 10
    assert records[-1]["event"] == "finish"
    assert (tmp_path / "curve").read_bytes().startswith(b"\x89PNG")
    assert folder.files() == ["curve", "log"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch):
    pytest.importorskip("tqdm")
    for stream, kind in ((Terminal(), Bar), (io.StringIO(), Lines)):
        progress = progress_on(stream)
        assert isinstance(progress, kind)
        trainer = make_trainer(LanguageModel(5, hidden=4), np.arange(100) % 5, observers=[progress])
        trainer.measure = Measure(unit="bits", scale=1 / math.log(2), items="words")
        trainer.fit()
        written = stream.getvalue()
        assert "words/s" in written
        assert "validation" in written
        assert "bits" in written
    assert written.count("\n") == 2  # one line a validation
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    assert isinstance(progress_on(Terminal()), Lines)


def test_resume_run_goes_on_where_a_text_task_was_stopped(tmp_path):
    """With every setting that is the trainer's: averages, accumulation, another schedule."""
    (tmp_path / "fox.txt").write_text(TEXT)
    changes = {"ema": 0.9, "accumulate": 2, "schedule": "plateau", "epochs": 4, "dropout": 0.4}
    settings = TextSettings(**(SMALL.as_dict() | changes))
    models = []
    for name, interrupting in (("a", []), ("b", [InterruptAt(37)])):
        task = TextTask.prepare([tmp_path / "fox.txt"], settings)
        outcome = task.train(RunFolder.create(tmp_path / name), interrupting)
        assert outcome.interrupted == bool(interrupting)
        assert outcome.steps == (37 if interrupting else 76)
        outcome = resume_run(tmp_path / name)
        assert outcome.steps == 76
        models.append((tmp_path / name / "model.safetensors").read_bytes())
    assert models[0] == models[1]
    with pytest.raises(RunError, match="nowhere: no such run folder"):
        resume_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "there", "here"),
    [("lr", 0.01, 0.5), ("weight_decay", 0.01, 0.0), ("ema", 0.9, 0.5), ("dropout", 0.0, 0.4),
     ("seed", 0, 3), ("batch", 4, 2)],
)  # fmt: skip
def test_a_setting_that_was_changed_meanwhile_is_named(tmp_path, name, there, here):
    (tmp_path / "fox.txt").write_text(TEXT)
    settings = TextSettings(**(SMALL.as_dict() | {"ema": 0.9, name: there}))
    task = TextTask.prepare([tmp_path / "fox.txt"], settings)
    folder = RunFolder.create(tmp_path / "run")
    task.train(folder, [InterruptAt(3)])
    record = folder.load_settings()
    folder.save_settings(record | {"settings": record["settings"] | {name: here}})
    with pytest.raises(RunError, match=rf"set up otherwise: {name}: {there} there, {here} here"):
        resume_run(folder.path)
    folder.save_settings(record)
    assert not resume_run(folder.path).interrupted


def test_json_has_neither_nan_nor_infinities():
    def no_word(word):
        pytest.fail(f"{word} is not JSON")

    value = {"a": [math.nan, 1.5], "b": {"c": -math.inf}, "d": "é", "e": (2, math.inf)}
    read = json.loads(to_json(value, ensure_ascii=False), parse_constant=no_word)
    assert read == {"a": [None, 1.5], "b": {"c": None}, "d": "é", "e": [2, None]}
