"""What a task says of its options: read from its settings and from its methods."""

import dataclasses
import inspect
import math
from typing import Annotated

import pytest

import rnnkit as rk
import rnnkit.data
import rnnkit.train
from rnnkit.errors import ArgumentError
from rnnkit.train import ClassifySettings, RunFolder, Settings, TextSettings, setting
from rnnkit.train.options import Described, method_options, settings_options
from rnnkit.train.tasks import TASKS, task_type


@dataclasses.dataclass(frozen=True)
class Own(Settings):
    lr: float = 0.5
    shape: str = setting("round", "its form", choices=("round", "square"), group="model")
    deep: bool = setting(True, "go deep", group="model")
    bare: int | None = None


def test_fields_are_options_and_a_base_class_describes_what_is_inherited():
    found = {option.name: option for option in settings_options(Own)}
    assert set(found) == {field.name for field in dataclasses.fields(Own)}
    assert (found["lr"].type, found["lr"].default) == (float, 0.5)
    assert found["lr"].about.help == "peak learning rate"
    assert found["lr"].about.group == "training"
    assert (found["ema"].type, found["ema"].default) == (float, None)
    assert found["shape"].about.choices == ("round", "square")
    assert found["deep"].type is bool
    assert (found["bare"].type, found["bare"].about.group) == (int, "model")
    assert found["weight_decay"].flag == "--weight-decay"
    assert {found[name].about.exclusive for name in ("epochs", "minutes")} == {"budget"}
    # The task's own groups come before those of every task.
    groups = [option.about.group for option in settings_options(Own)]
    assert groups == sorted(groups, key=["model", "training"].index)


def test_choices_and_flags_are_held_by_the_settings():
    assert Own(shape="square", deep=False).as_dict()["shape"] == "square"
    with pytest.raises(ArgumentError, match="shape: expected one of round, square, got 'flat'"):
        Own(shape="flat")
    with pytest.raises(ArgumentError, match="deep: expected true or false, got 1"):
        Own(deep=1)
    with pytest.raises(ArgumentError, match="pooling: expected one of"):
        ClassifySettings(pooling="median")
    with pytest.raises(ArgumentError, match="unit: expected one of characters, words"):
        TextSettings(unit="letters")


def test_keyword_only_parameters_are_options():
    def method(
        self,
        files,
        *,
        count: Annotated[int | None, Described("how many", least=0)] = None,
        name: Annotated[str, "what it is called"] = "x",
        plain: float = 0.5,
    ):
        """Nothing."""

    count, name, plain = method_options(method)
    assert (count.name, count.type, count.default, count.about.least) == ("count", int, None, 0)
    assert (name.type, name.about.help) == (str, "what it is called")
    assert (plain.type, plain.default, plain.about.help) == (float, 0.5, "")


@pytest.mark.parametrize("name", TASKS)
def test_every_option_of_every_task_says_what_it_is(name):
    task = task_type(name)
    assert task.name == name
    assert task.help
    assert inspect.getdoc(task)
    options = settings_options(task.settings_type) + method_options(task.show)
    for method in {"sample", "predict", "evaluate"} & set(dir(task.loaded_type)):
        options += method_options(getattr(task.loaded_type, method))
    assert all(option.about.help for option in options)
    task.settings_type()  # the defaults are in range


SCHEDULES, CELLS = {"cosine", "plateau", "constant"}, {"rnn", "gru", "lstm"}
UNITS, NUMBERS = {"characters", "words"}, {"auto", "symbols", "features"}
OF_ALL = {"schedule": SCHEDULES, "cell": CELLS}
CHOICES = {
    "text": {**OF_ALL, "unit": UNITS},
    "classify": {
        **OF_ALL, "unit": UNITS, "numbers": NUMBERS,
        "pooling": {"last", "mean", "max", "attention", "mean+max"},
    },
    "tag": {**OF_ALL, "unit": UNITS, "numbers": NUMBERS},
    "forecast": {
        **OF_ALL, "scaling": {"standard", "minmax", "none"}, "decimal": {".", ","},
        "missing": {"refuse", "carry"},
    },
    "translate": {**OF_ALL, "attention": {"general", "dot", "scaled", "additive", "none"}},
    "compose": {**OF_ALL, "head": {"notes", "frames"}, "cell": {"gru", "lstm"}},
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_what_may_be_chosen(name):
    """The settings of runs that are there already: no choice may go."""
    options = settings_options(task_type(name).settings_type)
    found = {option.name: set(option.about.choices) for option in options if option.about.choices}
    assert found == CHOICES[name]


@pytest.mark.parametrize("name", TASKS)
def test_the_seed_decides_the_weights_and_minutes_are_the_budget(name, tmp_path):
    task = task_type(name)

    def prepare(seed):
        made = task.prepare([], task.settings_type(hidden=4, minutes=1.5, seed=seed))
        assert made.trainer(RunFolder(tmp_path)).budget.seconds == 90.0
        return {name: array.tobytes() for name, array in made.model.state_dict().items()}

    first = prepare(1)
    rk.generator().random(5)  # what was drawn before does not matter
    assert prepare(1) == first
    assert prepare(2) != first


WRONG = {
    int: [1 << 70, -1, 1.5, "3", True],
    float: [-1.0, math.nan, math.inf, "0.5", True],
    bool: [1, None],
    str: [3, ""],
}


@pytest.mark.parametrize("name", TASKS)
def test_settings_out_of_range_are_refused_by_name(name):
    """As a settings file may hold them: nothing is made for what no run has ever had."""
    settings_type = task_type(name).settings_type
    for option in settings_options(settings_type):
        for value in WRONG[option.type] + ["strange"] * bool(option.about.choices):
            with pytest.raises(ArgumentError, match=f"^{option.name}: "):
                settings_type(**{option.name: value})


def test_packages_that_load_their_parts_when_asked_have_all_they_list():
    for package in (rnnkit.data, rnnkit.train):
        assert sorted(package._HOMES) == sorted(package.__all__)
        for name in package.__all__:
            assert getattr(package, name) is not None
            assert name in dir(package)
        with pytest.raises(AttributeError, match="no attribute 'surprise'"):
            package.surprise  # noqa: B018


@pytest.mark.parametrize("name", TASKS)
def test_what_an_option_needs_is_another_one(name):
    task = task_type(name)
    methods = [task.show, *(getattr(task.loaded_type, m, None) for m in ("sample", "predict"))]
    of_methods = [method_options(method) for method in methods if method]
    for options in (settings_options(task.settings_type), *of_methods):
        known = {option.name: option for option in options}
        for option in options:
            other, _, value = option.about.needs.partition("=")
            assert not other or other in known
            assert not value or value in known[other].about.choices
    # These are asked for when a run has ended.
    assert not any(option.about.needs for option in method_options(task.show))
