"""The commands for tasks other than text, and what the commands say of all tasks."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import assert_one_line_error, command, environment, rnnkit

from rnnkit.train.tasks import TASKS

SMALL = ["--hidden", "8", "--embedding", "4", "--batch", "8", "--validations", "3"]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Strings of a and b, labelled by whether there is more a than b."""
    path = tmp_path_factory.mktemp("data") / "letters.csv"
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("ab"), random.integers(3, 9))) for _ in range(200)]
    labels = ["a" if text.count("a") > text.count("b") else "b" for text in texts]
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, examples):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = rnnkit(
        "train", "classify", examples, *SMALL, "--epochs", "6", "--lr", "0.02", "--output", folder,
        cwd=folder.parent,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "letters.csv: 200 sequences of 3 different symbols, 2 labels; LSTM" in result.stderr
    assert re.search(r"best validation \d+\.\d+ % right at step \d+; saved in", result.stdout)
    assert re.search(r"^\d+ of \d+ sequences of the validation part are ri", result.stdout, re.M)
    assert f"more: rnnkit predict {folder} INPUT" in result.stdout
    return folder


def test_predictions_are_json_lines_in_the_order_of_the_inputs(run_folder, tmp_path):
    (tmp_path / "new.txt").write_text("aaaaaa\nbbbbbb\naaaabb\n")
    result = rnnkit("predict", run_folder, "new.txt", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["label"] for record in records][:2] == ["a", "b"]
    assert all(set(record) == {"label", "probability"} for record in records)
    given = rnnkit(
        "predict", "--all", run_folder, "-", cwd=tmp_path, input="aaaaaa\nbbbbbb\naaaabb\n"
    )
    assert given.returncode == 0, given.stderr
    for line, record in zip(given.stdout.splitlines(), records, strict=True):
        found = json.loads(line)
        assert set(found.pop("probabilities")) == {"a", "b"}
        assert found == record


def test_standard_input_is_utf_8_in_any_locale(run_folder, tmp_path):
    options = {"cwd": tmp_path, "text": False, "env": {"PYTHONIOENCODING": "latin-1"}}
    (tmp_path / "new.txt").write_bytes("\ufeffä\r\nab \n".encode())
    expected = rnnkit("predict", run_folder, "new.txt", **options)
    given = (tmp_path / "new.txt").read_bytes()
    assert rnnkit("predict", run_folder, "-", input=given, **options).stdout == expected.stdout
    options |= {"text": True, "encoding": "latin-1"}
    line = assert_one_line_error(rnnkit("predict", run_folder, "-", input="ab\n\xff\n", **options))
    assert line.endswith("standard input: not UTF-8 text: invalid byte 0xff")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_standard_streams_may_be_closed(run_folder, tmp_path, closed):
    script = f"{shlex.join(command('predict', run_folder, '-'))} {closed}"
    result = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment(), input="ab\n", text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("label") == (closed == "2>&-")


def test_figures_of_the_run_and_of_other_files(run_folder, tmp_path, examples):
    result = rnnkit("evaluate", run_folder, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    shown = dict(re.split(r" {2,}", line) for line in result.stdout.splitlines())
    assert set(shown) == {"accuracy", "mean class recall", "loss"}
    as_json = json.loads(rnnkit("evaluate", run_folder, "--json", cwd=tmp_path).stdout)
    assert {name: f"{value:.6g}" for name, value in as_json.items()} == shown
    other = rnnkit("evaluate", run_folder, examples, "--json", cwd=tmp_path)
    assert json.loads(other.stdout) != as_json


def test_what_a_task_cannot_do_is_said_in_one_line(run_folder, tmp_path):
    line = assert_one_line_error(rnnkit("sample", run_folder, cwd=tmp_path))
    assert "a run of the task 'classify', which has no sample; those that have one: text" in line
    for arguments in (["predict", "none", "x"], ["evaluate", "none"]):
        assert "no such run" in assert_one_line_error(rnnkit(*arguments, cwd=tmp_path))
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "blank.txt").write_text("ab\n\nab\n")
    (tmp_path / "numbers.csv").write_text("sequence\n1 2 3\n")
    for name, reason in (
        ("empty.jsonl", "empty"),
        ("blank.txt", "blank.txt:2: 'text' is empty"),
        ("numbers.csv", "expected inputs of kind 'text', got 'sequence'"),
        ("missing.csv", "missing.csv: cannot be read"),
        ("run.bin", "run.bin: expected a .csv, .tsv, .jsonl, .npz or .txt file"),
    ):
        assert reason in assert_one_line_error(rnnkit("predict", run_folder, name, cwd=tmp_path))
    line = assert_one_line_error(rnnkit("evaluate", run_folder, "numbers.csv", cwd=tmp_path))
    assert "expected one of label, labels" in line


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["train", "classify", "--pooling", "median"], "argument --pooling: invalid choice"),
        (["train", "classify", "--length", "5"], "unrecognized arguments: --length"),
        (["train", "classify", "--hidden", "0"], "argument --hidden: expected an integer from 1"),
        (["train", "tag", "--pooling", "last"], "unrecognized arguments: --pooling"),
        (["train", "tag", "--epochs", "1", "--minutes", "1"], "not allowed with"),
        (["train", "--hidden", "4", "tag"], "'tag' goes first: rnnkit train tag"),
        (["train", "--unit", "letters"], "argument --unit: invalid choice"),
        (["train", "--vocabulary", "9"], "argument --vocabulary: has no effect without --unit wor"),
        (["train", "--unit", "characters", "--vocabulary", "9"], "no effect with --unit char"),
        (["train", "translate", "--sampling-batches", "9"], "has no effect without --sampling"),
        (["train", "compose", "--head", "frames", "--embedding", "64"], "no effect with --head"),
        (["train", "classify", "--vocabulary", "9"], "no effect: without --unit words all"),
        (["train", "tag", "--numbers", "symbols"], "no effect: the inputs are no numbers"),
        (["predict", "run"], "INPUT"),
        (["evaluate"], "RUN"),
    ],
)
def test_wrong_usage(arguments, what, tmp_path):
    result = rnnkit(*arguments, cwd=tmp_path)
    assert what in assert_one_line_error(result, code=2)
    assert os.listdir(tmp_path) == []


def test_help_lists_the_tasks_and_shows_the_defaults_of_each(tmp_path, run_folder):
    text = rnnkit("train", "--help", cwd=tmp_path).stdout
    for name in TASKS:
        assert re.search(rf"^  {name} +\S", text, re.MULTILINE)
        own = " ".join(rnnkit("train", name, "--help", cwd=tmp_path).stdout.split())
        assert own.startswith(f"usage: rnnkit train {name} ")
        assert "--output FOLDER" in own
        assert "--seed N seed of every random number (default 0)" in own
    assert "--sample-length N" in text
    own = " ".join(rnnkit("train", "classify", "--help", cwd=tmp_path).stdout.split())
    assert "how the steps become one vector (default mean+max)" in own
    assert "without a gain (default 8)" in own
    assert "--no-bidirectional" in own
    # A command on a run has the options of that run's task.
    assert "--all" in rnnkit("predict", run_folder, "--help", cwd=tmp_path).stdout
    # Without a run predict has no options of its own: the task of the default has no predict.
    text = " ".join(rnnkit("predict", "--help", cwd=tmp_path).stdout.split())
    assert text.endswith("The options of a run's task are shown by: rnnkit predict RUN --help")
    assert "--sample-length" not in rnnkit("resume", run_folder, "--help", cwd=tmp_path).stdout


def test_a_file_may_be_called_as_a_task_is(tmp_path):
    (tmp_path / "tag").write_text("a few words")
    result = rnnkit("train", "--hidden", "4", "tag", cwd=tmp_path)
    assert "rnnkit: error: tag: too short: 11 characters" in assert_one_line_error(result)


def test_a_run_that_ends_early_says_why(tmp_path, examples):
    train = ["train", "classify", examples, *SMALL, "--epochs", "3", "--lr", "1e-9"]
    result = rnnkit(*train, "--patience", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    why = "in training, ended as nothing was gained any more\n"
    assert why in result.stdout
    assert why not in rnnkit(*train, "--patience", "9", cwd=tmp_path).stdout


def test_a_generated_data_set_is_named(tmp_path):
    result = rnnkit("train", "tag", *SMALL, "--epochs", "0.1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "no file was given; learning from generated data, bracket-depths" in result.stderr
    assert os.listdir(tmp_path / "runs") == ["bracket-depths-tag-1"]


LONG = [*SMALL, "--epochs", "12", "--patience", "50", "--dropout", "0.3", "--cell", "gru"]


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_classifier_that_was_stopped_is_resumed_as_if_it_had_not(tmp_path, examples, stop):
    train = ["train", "classify", examples, *LONG, "--output"]
    assert rnnkit(*train, tmp_path / "whole", cwd=tmp_path).returncode == 0
    process = subprocess.Popen(
        command(*train, tmp_path / "run"), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(1000):
        if (tmp_path / "run/checkpoint.safetensors").exists():
            break
        time.sleep(0.01)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if stop == signal.SIGKILL else 130), err
    result = rnnkit("resume", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^rnnkit: run: going on after step \d+$", result.stderr, re.MULTILINE)
    assert "sequences of the validation part are right" in result.stdout
    for name in ("model.safetensors", "settings.json"):
        ours, whole = tmp_path / "run" / name, tmp_path / "whole" / name
        assert ours.read_bytes() == whole.read_bytes(), name


def test_words_are_trained_sampled_and_measured(tmp_path):
    (tmp_path / "fox.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 80)
    result = rnnkit(
        "train", "text", "fox.txt", "--unit", "words", "--tied", *SMALL, "--length", "8",
        "--epochs", "2", "--sample-length", "12", "--output", "run", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "nats/word" in result.stdout
    sample = ["sample", "run", "--prompt", "The", "--length", "5", "--seed", "1"]
    text = rnnkit(*sample, cwd=tmp_path).stdout
    assert re.match(r"The\s", text)
    assert text == rnnkit(*sample, cwd=tmp_path).stdout
    assert "perplexity" in rnnkit("evaluate", "run", cwd=tmp_path).stdout


def test_a_command_loads_no_more_than_it_uses(tmp_path):
    unused = ["rnnkit.train.trainer", "rnnkit.train.tasks.text", "rnnkit.data", "rnnkit.nn"]
    unused += ["matplotlib", "tqdm"]
    code = (
        "import sys; from rnnkit.cli.parser import make_parser; make_parser(); "
        f"print([name for name in {unused} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "[]"
