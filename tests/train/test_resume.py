"""A run that was cut short and resumed has the bits of one that was not."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from runs_to_resume import (
    Classifier,
    Shuffled,
    make_trainer,
    without_times,
)

import rnnkit as rk
from rnnkit import nn
from rnnkit.errors import ArgumentError
from rnnkit.optim import SGD
from rnnkit.train import (
    Budget,
    Checkpoints,
    GradientFlow,
    JsonLinesLog,
    Observer,
    RunError,
    RunFolder,
    Trainer,
    curve,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("runs_to_resume.py")


@pytest.fixture
def tmp_path(tmp_path):
    """In memory where that is possible: hundreds of runs need not wait for a disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


class Killed(BaseException):
    """Ends a run as a signal would: nothing catches it on purpose."""


class KillAt(Observer):
    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step.step == self.step:
            raise Killed


def undisturbed(folder, **options):
    make_trainer(folder, **options).fit()
    return without_times(folder)


def killed_and_resumed(folder, *steps, **options):
    """Kill it when each of ``steps`` has just been taken, and let it finish at last."""
    for step in steps:
        with pytest.raises(Killed):
            make_trainer(folder, observers=[KillAt(step)], **options).resume()
    make_trainer(folder, **options).resume()
    return without_times(folder)


@pytest.mark.parametrize("backend", ["auto", "python"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("task", ["text", "rows"])
def test_resumed_is_undisturbed(tmp_path, task, cell, backend):
    with rk.backend(backend):
        expected = undisturbed(tmp_path / "a", task=task, cell=cell)
        assert killed_and_resumed(tmp_path / "b", 11, task=task, cell=cell) == expected
    assert len(expected["log"]) == 23 + 7 + 1
    assert len(expected["table"]) == 23 + 7


@pytest.mark.parametrize("task", ["text", "rows"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
@pytest.mark.parametrize("ema", [False, True])
def test_resumed_is_undisturbed_with_options(tmp_path, task, accumulate, schedule, ema):
    options = {"task": task, "accumulate": accumulate, "schedule": schedule, "ema": ema}
    expected = undisturbed(tmp_path / "a", **options)
    assert killed_and_resumed(tmp_path / "b", 2, 9, 10, 22, **options) == expected


@pytest.mark.parametrize("task", ["text", "rows"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_lbfgs_is_resumed(tmp_path, task, accumulate, line_search_fn):
    lbfgs = {"lr": 0.05, "max_iter": 3, "history_size": 5, "line_search_fn": line_search_fn}
    options = {"task": task, "accumulate": accumulate, "lbfgs": lbfgs, "steps": 9}
    expected = undisturbed(tmp_path / "a", every_steps=1, **options)
    assert len(expected["log"]) == 9 + 7 + 1
    # The state before the first step, after it (no pair yet), and with a full history.
    assert killed_and_resumed(tmp_path / "b", 1, 2, 8, every_steps=1, **options) == expected


def test_the_seed_and_the_options_make_a_difference(tmp_path):
    """What is compared above is not always the same."""
    runs = [
        undisturbed(tmp_path / str(number), **options)
        for number, options in enumerate([{}, {"seed": 1}, {"accumulate": 3}, {"ema": True}])
    ]
    for part in ("log", "table", "arrays", "model"):
        assert all(run[part] != runs[0][part] for run in runs[1:]), part


def test_early_stopping_is_resumed(tmp_path):
    options = {"task": "rows", "patience": 2, "steps": 200}
    expected = undisturbed(tmp_path / "a", **options)
    steps = expected["log"][-1]["steps"]
    assert steps < 200
    assert expected["log"][-1]["stopped_early"]
    assert killed_and_resumed(tmp_path / "b", steps - 1, steps, **options) == expected


def test_a_target_is_resumed(tmp_path):
    options = {"task": "rows", "target": 0.8, "steps": 200}
    expected = undisturbed(tmp_path / "a", **options)
    steps = expected["log"][-1]["steps"]
    assert steps < 200
    assert expected["log"][-1]["stopped_early"]
    assert killed_and_resumed(tmp_path / "b", steps - 1, steps, **options) == expected


def test_a_run_by_epochs_is_resumed(tmp_path):
    def trainer(folder, observers=()):
        made = make_trainer(folder, task="rows", observers=observers)
        made.budget = Budget(epochs=2.5).in_steps(made.training.batches_per_epoch)
        return made

    assert trainer(tmp_path / "a").fit().steps == 18
    with pytest.raises(Killed):
        trainer(tmp_path / "b", [KillAt(17)]).fit()
    trainer(tmp_path / "b").resume()
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")


def test_a_run_by_time_goes_on_with_the_time_it_had_used(tmp_path):
    class At(Observer):
        def on_start(self, start):
            self.used = start.used

    def trainer(observers):
        made = make_trainer(tmp_path, observers=observers, every_steps=1)
        made.budget = Budget(seconds=0.4)
        return made

    with pytest.raises(Killed):
        trainer([KillAt(5)]).fit()
    at = At()
    outcome = trainer([at]).resume()
    assert 0 < at.used < 1
    assert outcome.steps > 5
    assert 0.4 <= outcome.seconds < 4


def test_the_picture_of_a_resumed_run_is_the_same(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(curve, "_POINTS", 10)  # so that points are joined, twice
    expected = undisturbed(tmp_path / "a", curve=True, steps=47)
    again = killed_and_resumed(tmp_path / "b", 35, curve=True, steps=47)
    assert again == expected
    assert (tmp_path / "a/curve.png").read_bytes() == (tmp_path / "b/curve.png").read_bytes()


def test_ctrl_c_saves_a_checkpoint_whatever_the_interval(tmp_path):
    class Interrupt(Observer):
        def on_step(self, step):
            if step.step == 2:  # before the first validation: the run makes one of its own
                os.kill(os.getpid(), signal.SIGINT)

    expected = undisturbed(tmp_path / "a")
    options = {"every_steps": 1000}
    outcome = make_trainer(tmp_path / "b", observers=[Interrupt()], **options).fit()
    assert outcome.interrupted
    assert outcome.best_step == outcome.steps == 2
    resumed = make_trainer(tmp_path / "b", **options)
    assert resumed.resume().steps == 23
    assert without_times(tmp_path / "b") == expected


@pytest.mark.parametrize("again", ["fit", "resume"])
def test_a_trainer_cut_short_before_a_checkpoint_does_not_pass_for_a_fresh_one(tmp_path, again):
    class Failing(Observer):
        def on_step(self, step):
            raise ZeroDivisionError

    trainer = make_trainer(tmp_path, observers=[Failing()])
    with pytest.raises(ZeroDivisionError):
        trainer.fit()
    with pytest.raises(RunError, match="cut short before it had saved one; make the model"):
        getattr(trainer, again)()


def test_a_finished_run_is_left_alone(tmp_path):
    first = make_trainer(tmp_path).fit()
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    again = make_trainer(tmp_path)
    assert again.resume() == first
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    with pytest.raises(RunError, match="can be resumed"):
        make_trainer(tmp_path).fit()
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_resume_by_the_path_of_a_file_or_a_folder(tmp_path):
    make_trainer(tmp_path / "a").fit()
    for path in (tmp_path / "a", tmp_path / "a/checkpoint.safetensors"):
        made = make_trainer(tmp_path / "other")
        made.checkpoints = None
        assert made.resume(path).steps == 23
    with pytest.raises(RunError, match="nowhere: no such run"):
        make_trainer(tmp_path / "b").resume(tmp_path / "nowhere")
    made.checkpoints = None
    with pytest.raises(ArgumentError, match="path"):
        made.resume()


def test_two_trainers_do_not_share_a_folder(tmp_path):
    class Second(Observer):
        def on_step(self, step):
            make_trainer(tmp_path).resume()

    with pytest.raises(RunError, match="another process is training there"):
        make_trainer(tmp_path, observers=[Second()]).fit()
    assert make_trainer(tmp_path).resume().steps == 23  # and the lock goes with the trainer


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"accumulate": 2}, "accumulate: 1 there, 2 here"),
        ({"steps": 24}, "steps: 23 there, 24 here"),
        ({"ema": True}, "ema: False there, True here"),
        ({"patience": 5}, "patience: None there, 5 here"),
        ({"target": 0.5}, "target: None there, 0.5 here"),
        ({"lbfgs": {}}, "clip: 0.5 there, inf here"),
        ({"schedule": "cosine"}, "schedule: Constant there, Factor here"),
        ({"cell": "gru"}, "of another model: recurrent.weight_ih_l0: expected float32 "),
        ({"task": "rows"}, "of another model: it "),
    ],
)
def test_a_run_goes_on_only_as_it_began(tmp_path, change, what):
    with pytest.raises(Killed):
        make_trainer(tmp_path, observers=[KillAt(6)]).fit()
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: of ") as caught:
        make_trainer(tmp_path, **change).resume()
    assert what in str(caught.value)
    make_trainer(tmp_path).resume()


def test_parameters_that_no_checkpoint_would_hold_are_refused(tmp_path):
    model, beside = Classifier(nn.RNN), nn.Linear(2, 2)
    batches = Shuffled(5, 0)
    with pytest.raises(ArgumentError, match="optimizer: trains a parameter"):
        Trainer(
            model,
            SGD([*model.parameters(), *beside.parameters()], lr=0.1),
            batches,
            budget=Budget(steps=1),
            checkpoints=Checkpoints(tmp_path),
        )


def test_gradient_flow_looks_at_the_same_steps_after_a_resume(tmp_path):
    def seen(folder, *steps):
        found = []
        for step in [*steps, None]:
            made = make_trainer(folder, observers=[] if step is None else [KillAt(step)])
            flow = GradientFlow(made.model, every=5, vanishing=1.0, exploding=1.0)
            made.observers = [*made.observers, flow]
            with (
                pytest.warns(rk.diagnostics.GradientWarning) as caught,
                contextlib.suppress(Killed),
            ):
                made.resume()
            found += [str(warning.message).split(",")[0] for warning in caught]
            assert len(flow.history) == len(caught)
        return found

    expected = [f"step {step}: recurrent.l{k}" for step in (1, 6, 11, 16, 21) for k in (0, 1)]
    assert seen(tmp_path / "a") == expected
    # Killed in step 13, it goes on from before; what it sees again is the same.
    assert list(dict.fromkeys(seen(tmp_path / "b", 13))) == expected
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")


# -- the writes, one by one --------------------------------------------------------------------


class Disk:
    """Counts what is asked of the disk, and lets call number ``fails`` fail with ``error``."""

    def __init__(self, monkeypatch, error, fails=None):
        self.calls, self.error, self.fails, self.dead = [], error, fails, False
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))
        unlink = os.unlink
        # The dead do not tidy up.
        monkeypatch.setattr(os, "unlink", lambda path: None if self.dead else unlink(path))

    def _counted(self, name, call):
        def counted(*arguments):
            for when in ("before", "after"):
                if when == "after":
                    call(*arguments)
                self.calls.append(f"{when} {name}")
                if len(self.calls) == self.fails:
                    self.dead = not isinstance(self.error, OSError)
                    raise self.error

        return counted


TINY = {"steps": 4, "every_steps": 2}


def count_calls(folder):
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, None)
        make_trainer(folder, **TINY).fit()
    return len(disk.calls)


def test_killed_at_any_write_it_resumes(tmp_path):
    """Between the renames of model and checkpoint, too, and with half a file left behind."""
    expected = undisturbed(tmp_path / "whole", **TINY)
    calls = count_calls(tmp_path / "counted")
    assert calls > 40
    for number in range(1, calls + 1):
        folder = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, Killed(), number)
            with pytest.raises(Killed):
                make_trainer(folder, **TINY).fit()
        make_trainer(folder, **TINY).resume()
        assert without_times(folder) == expected, f"killed {disk.calls[-1]}, call {number}"


def test_a_disk_that_is_full_at_any_write_loses_nothing(tmp_path):
    expected = undisturbed(tmp_path / "whole", **TINY)
    for number in range(1, count_calls(tmp_path / "counted") + 1, 2):
        folder = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), number)
            with pytest.raises(OSError, match="No space left on device") as caught:
                make_trainer(folder, **TINY).fit()
        assert os.path.dirname(caught.value.filename) == str(folder)
        assert not [name for name in os.listdir(folder) if name.startswith(".")]
        make_trainer(folder, **TINY).resume()
        assert without_times(folder) == expected, number


def test_what_cannot_be_written_to_the_log_names_it(tmp_path, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            pass

    made = make_trainer(tmp_path)
    log = next(each for each in made.observers if isinstance(each, JsonLinesLog))

    class Swap(Observer):
        def on_step(self, step):
            if step.step == 9:
                log._file.close()
                log._file = Full()

    made.observers = [Swap(), *made.observers]
    with pytest.raises(OSError, match="No space left") as caught:
        made.fit()
    assert caught.value.filename == str(tmp_path / "log.jsonl")
    assert killed_and_resumed(tmp_path) == undisturbed(tmp_path / "whole")


def test_a_better_model_saved_after_the_checkpoint_is_not_lost(tmp_path):
    """In a run by time, what follows a resume need not be what would have followed."""
    folder = RunFolder(tmp_path)
    with pytest.raises(Killed):
        make_trainer(tmp_path, observers=[KillAt(9)]).fit()
    _, value = folder.model_quality()
    arrays = folder.load_model()
    folder.save_best(arrays, 10, value / 2)  # killed before the checkpoint that belongs to it
    make_trainer(tmp_path).resume()
    assert folder.model_quality() == (10, value / 2)
    folder.save_best(arrays, 10, value)


def test_a_best_model_that_has_gone_is_missed(tmp_path):
    with pytest.raises(Killed):
        make_trainer(tmp_path, observers=[KillAt(9)]).fit()
    os.unlink(tmp_path / "model.safetensors")
    with pytest.raises(RunError, match=r"model\.safetensors: missing: the run saved it at step"):
        make_trainer(tmp_path).resume()


# -- real kills --------------------------------------------------------------------------------


def run_script(folder, seed):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(seed)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_until_done(folder, seed, moments, most):
    """Kill the run at random moments, at most ``most`` times, and resume it; how often it was."""
    kills = 0
    while True:
        process = run_script(folder, seed)
        if kills < most:
            if moments.random() < 0.8:  # otherwise while it is still starting
                process.stdout.readline()
            time.sleep(moments.random() * 0.15)
            process.kill()
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), err
        if process.returncode == 0:
            return kills
        kills += 1


def kill_many(tmp_path, total):
    moments = random.Random(5)
    kills, seed, counts = 0, 0, []
    while kills < total:
        process = run_script(tmp_path / "undisturbed" / str(seed), seed)
        counts.append(kill_until_done(tmp_path / str(seed), seed, moments, total - kills))
        assert process.communicate(timeout=60)[1] == ""
        expected = without_times(tmp_path / "undisturbed" / str(seed))
        assert without_times(tmp_path / str(seed)) == expected
        kills += counts[-1]
        seed += 1
    print(f"{kills} kills in {seed} runs: {counts}")


def test_killed_at_random_moments(tmp_path):
    kill_many(tmp_path, 6)


@pytest.mark.slow
def test_killed_at_200_random_moments(tmp_path_factory):
    kill_many(tmp_path_factory.mktemp("runs"), 200)  # on a disk
