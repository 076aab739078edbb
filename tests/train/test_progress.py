"""What progress shows: of the measure, in its unit, and of nothing else."""

import io
import math
import re

import pytest

from rnnkit.train import Measure
from rnnkit.train.curve import LearningCurve
from rnnkit.train.observers import Start, Step, Validation
from rnnkit.train.progress import Bar, Lines

RIGHT = Measure("right", unit="% right", scale=100.0, digits=1, items="words")


def step(number, **metrics):
    return Step(
        step=number, epoch=0.5, used=number / 1000, seconds=1.0, loss=7.5, metrics=metrics,
        gradient_norm=1.0, learning_rate=0.1, items=8, items_per_second=1234.0,
    )  # fmt: skip


def validation(number, training, value):
    return Validation(
        step=number, epoch=0.5, used=number / 1000, seconds=1.0, loss=7.5, metrics={},
        training_loss=7.5, training_metrics={}, value=value, training_value=training, is_best=True,
        items_per_second=1234.0,
    )  # fmt: skip


class Drawn:
    """In place of a bar of tqdm."""

    def __init__(self, **options):
        self.options, self.texts, self.places = options, [], []
        self.n, self.closed = 0.0, False

    def set_postfix_str(self, text):
        self.texts.append(text)
        self.places.append(self.n)

    def close(self):
        self.closed = True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what a test adds."""
    now = [100.0]
    monkeypatch.setattr("rnnkit.train.progress.time.monotonic", lambda: now[0])
    return now


def test_a_bar_smooths_what_the_run_is_judged_by(clock):
    bar = Bar(Drawn, io.StringIO())
    bar.on_start(Start(RIGHT, True, 10, 0.25))
    drawn = bar._bar
    assert drawn.options["initial"] == 0.25
    bar.on_step(step(300, right=0.5))
    assert drawn.texts == ["training 50.0 % right, 1,234 words/s"]
    clock[0] += 0.06
    bar.on_step(step(301, right=1.0))
    assert len(drawn.texts) == 1  # too soon to draw it anew
    clock[0] += 0.06
    bar.on_step(step(302, right=math.nan))
    bar.on_validation(validation(302, 0.4, 0.8))
    assert drawn.texts[1:] == [
        "training 51.0 % right, 1,234 words/s",
        "training 51.0, validation 80.0 % right, 1,234 words/s",
    ]
    assert drawn.places == [0.3, 0.302, 0.302]
    bar.close()
    assert drawn.closed


def test_a_bar_shows_no_loss_as_a_metric_that_training_has_not(clock):
    bar = Bar(Drawn, io.StringIO())
    bar.on_start(Start(RIGHT, False, 0, 0.0))
    bar.on_step(step(1))
    bar.on_validation(validation(1, math.nan, 0.8))
    assert not any("training" in text for text in bar._bar.texts)
    assert "validation 80.0 % right" in bar._bar.texts[-1]


def test_lines_are_at_validations_and_every_half_minute(clock):
    stream = io.StringIO()
    lines = Lines(stream)
    lines.on_start(Start(RIGHT, False, 0, 0.0))
    clock[0] += 29.0
    lines.on_step(step(1, right=0.125))
    lines.on_validation(validation(20, 0.25, 0.5))
    clock[0] += 29.0
    lines.on_step(step(21, right=0.125))
    clock[0] += 1.0
    lines.on_step(step(1000, right=0.125))
    lines.on_step(step(1001))
    clock[0] += 30.0
    lines.on_step(step(1002))
    assert re.sub(" +", " ", stream.getvalue()).splitlines() == [
        " 2% step 20 training 25.0, validation 50.0 % right, 1,234 words/s",
        "100% step 1,000 training 12.5 % right, 1,234 words/s",
        "100% step 1,002 training nan % right, 1,234 words/s",
    ]


def test_a_curve_leaves_out_what_is_nan(tmp_path):
    pytest.importorskip("matplotlib")
    curve = LearningCurve(tmp_path / "curve.png")
    curve.on_start(Start(RIGHT, False, 0, 0.0))
    for each in (step(1, right=0.5), step(2, right=math.nan), step(3), step(4, right=0.25)):
        curve.on_step(each)
    assert curve.state_dict()["training"]["points"].tolist() == [[1, 0.5], [4, 0.25]]
