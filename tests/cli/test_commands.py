"""The commands as a user runs them: what they write, and how every failure looks.

Failures are one line on standard error that begins ``rnnkit: error: ``, and an exit code.
"""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from commands import assert_one_line_error, command, environment, rnnkit

from rnnkit.cli import running
from rnnkit.cli.messages import describe
from rnnkit.train import RunFolder

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
SMALL = [
    "--hidden", "8", "--embedding", "4", "--batch", "4", "--length", "16", "--validations", "2",
]
QUICK = [*SMALL, "--epochs", "2", "--sample-length", "40"]


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "fox.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, text_file):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = rnnkit("train", text_file, *QUICK, "--output", folder, cwd=folder.parent)
    assert result.returncode == 0, result.stderr
    return folder


def test_train_saves_a_run_and_shows_a_sample(tmp_path, text_file):
    result = rnnkit("train", text_file, *QUICK, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "fox-lstm-1"
    assert {"model.safetensors", "settings.json", "log.jsonl"} <= set(os.listdir(folder))
    assert "a sample at temperature" in result.stdout
    assert "bits/char" in result.stdout
    assert "2,700 characters" in result.stderr
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["settings"]["hidden"] == 8
    for line in (folder / "log.jsonl").read_text().splitlines():
        json.loads(line)
    again = rnnkit("train", text_file, *QUICK, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert sorted(os.listdir(tmp_path / "runs")) == ["fox-lstm-1", "fox-lstm-2"]


def test_the_default_text_trains_without_any_argument_but_a_budget(tmp_path):
    result = rnnkit(
        "train", *SMALL, "--minutes", "0.01", "--sample-length", "0", "--seed", "3",
        "--cell", "gru", "--layers", "2", "--schedule", "plateau", cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert os.listdir(tmp_path / "runs") == ["python-reference-gru-1"]
    assert "a sample" not in result.stdout


def test_a_run_is_never_overwritten(run_folder, text_file):
    before = {name: (run_folder / name).read_bytes() for name in os.listdir(run_folder)}
    result = rnnkit("train", text_file, *QUICK, "--output", run_folder, cwd=run_folder.parent)
    assert "not empty" in assert_one_line_error(result)
    assert {name: (run_folder / name).read_bytes() for name in os.listdir(run_folder)} == before


def test_sample_is_decided_by_the_seed(run_folder, tmp_path):
    def sample(*options):
        result = rnnkit("sample", run_folder, "--length", "50", *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return result.stdout

    first = sample("--seed", "7", "--prompt", "the ")
    assert first == sample("--seed", "7", "--prompt", "the ")
    assert first.startswith("the ")
    assert len(first) == len("the ") + 50 + 1
    assert first != sample("--seed", "8", "--prompt", "the ")
    assert sample("--temperature", "0") == sample("--temperature", "0")


def test_unknown_characters_of_a_prompt_are_mentioned(run_folder, tmp_path):
    result = rnnkit(
        "sample", run_folder, "--prompt", "Ünd", "--length", "5", cwd=tmp_path,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0, result.stderr
    assert "never seen '\\xdc'" in result.stderr
    assert result.stdout.startswith("\\xdcnd")


def test_info_and_version(tmp_path):
    result = rnnkit("info", "--backend", "python", "--threads", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^an LSTM runs +on the python path: ", result.stdout, re.MULTILINE)
    assert re.search(r"^num threads +1", result.stdout, re.MULTILINE)
    assert re.fullmatch(r"rnnkit \S+\n", rnnkit("--version", cwd=tmp_path).stdout)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "required: COMMAND"),
        (["play"], "invalid choice: 'play'"),
        (["train", "--cell", "transformer"], "--cell"),
        (["train", "--hidden", "0"], "argument --hidden: expected an integer from 1"),
        (["train", "--hidden", "many"], "argument --hidden: invalid int value"),
        (["train", "--lr", "-1"], "argument --lr: expected a positive number"),
        (["train", "--lr", "nan"], "argument --lr"),
        (["train", "--dropout", "1"], "argument --dropout"),
        (["train", "--epochs", "1", "--minutes", "1"], "not allowed with"),
        (["train", "--sample-length", "-1"], "argument --sample-length"),
        (["train", "--backend", "gpu"], "--backend"),
        (["train", "--threads", "0"], "argument --threads: expected an integer from 1"),
        (["train", "--hid", "4"], "unrecognized arguments: --hid (see rnnkit train --help)"),
        (["sample"], "RUN"),
        (["sample", "run", "--seed", "-1"], "argument --seed"),
        (["train", "--output", ""], "argument --output: expected a folder"),
        (["train", "--epochs", "1e308"], "argument --epochs: expected at most 1,000,000,000"),
        (["train", "--weight-decay", "-1"], "argument --weight-decay"),
        (["train", "--patience", "0"], "argument --patience"),
        (["train", ""], "argument FILE: expected a path, got ''"),
        (["resume", ""], "argument RUN: expected a path, got ''"),
        (["predict", "run", ""], "argument INPUT: expected a path, got ''"),
        (["resume"], "RUN"),
        (["resume", "run", "--sample-length", "-1"], "argument --sample-length"),
    ],
)
def test_wrong_usage(arguments, what, tmp_path):
    result = rnnkit(*arguments, cwd=tmp_path)
    assert what in assert_one_line_error(result, code=2)
    assert os.listdir(tmp_path) == []


def test_wrong_sampling_options(run_folder, tmp_path):
    for option in ("--temperature", "--length"):
        result = rnnkit("sample", run_folder, option, "-1", cwd=tmp_path)
        assert f"argument {option}" in assert_one_line_error(result, code=2)
    result = rnnkit("sample", run_folder, "--temperature", "0", "--seed", "1", cwd=tmp_path)
    line = assert_one_line_error(result, code=2)
    assert "argument --seed: has no effect with --temperature 0" in line


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9" * 5000)
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    for name, reason in (
        ("empty.txt", "empty"),
        ("binary.txt", "not a text file"),
        ("latin.txt", "not UTF-8"),
        ("short.txt", "too short"),
        ("folder", "Is a directory"),
        ("missing.txt", "No such file"),
    ):
        line = assert_one_line_error(rnnkit("train", name, *QUICK, cwd=tmp_path))
        assert line.startswith(f"rnnkit: error: {name}: ")
        assert reason in line
    assert sorted(os.listdir(tmp_path)) == before


def test_folders_that_cannot_be_made(tmp_path, text_file):
    (tmp_path / "file").write_text("")
    for output in ("file", "file/below", "/proc/rnnkit/run"):
        result = rnnkit("train", text_file, *QUICK, "--output", output, cwd=tmp_path)
        assert output.split("/")[0] in assert_one_line_error(result)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(tmp_path, text_file):
    tmp_path.chmod(0o500)
    result = rnnkit("train", text_file, *QUICK, "--output", "run", cwd=tmp_path)
    assert "Permission denied" in assert_one_line_error(result)


def test_runs_that_are_damaged(run_folder, tmp_path):
    assert "no such run" in assert_one_line_error(rnnkit("sample", "none", cwd=tmp_path))
    assert "not a run" in assert_one_line_error(rnnkit("sample", ".", cwd=tmp_path))
    shutil.copytree(run_folder, tmp_path / "run")
    whole = (run_folder / "model.safetensors").read_bytes()
    (tmp_path / "run/model.safetensors").write_bytes(whole[:100])
    assert "damaged" in assert_one_line_error(rnnkit("sample", "run", cwd=tmp_path))
    (tmp_path / "run/settings.json").write_text("{")
    assert "settings.json" in assert_one_line_error(rnnkit("sample", "run", cwd=tmp_path))


@pytest.mark.parametrize(
    ("name", "line"), [(None, "No room"), ("", "'': No room"), ("a.mid", "a.mid: No room")]
)
def test_an_error_of_the_system_names_its_file(name, line):
    assert describe(OSError(errno.ENOSPC, "No room", name)) == line


def limit(what, size):
    return lambda: resource.setrlimit(what, (size, size))


def test_a_disk_without_room_for_the_model(tmp_path, text_file):
    result = rnnkit(
        "train", text_file, *QUICK, "--hidden", "64", "--output", "run", cwd=tmp_path,
        preexec_fn=limit(resource.RLIMIT_FSIZE, 30_000),
    )
    line = assert_one_line_error(result)
    assert "model.safetensors: File too large; no model was saved in run" in line
    assert not any(name.endswith(".partial") for name in os.listdir(tmp_path / "run"))


FULL_DISK = """
import errno, os, sys
from rnnkit.train import run_folder
from rnnkit.cli import main
room = {room}
write = run_folder.write_atomically
def write_while_there_is_room(path, data):
    global room
    room -= path.endswith("model.safetensors")
    if room < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    write(path, data)
run_folder.write_atomically = write_while_there_is_room
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_fills_up_keeps_the_model_saved_before(tmp_path, text_file):
    code = FULL_DISK.format(room=1)
    result = subprocess.run(
        [sys.executable, "-c", code, "train", text_file, *SMALL, "--epochs", "20",
         "--validations", "10", "--lr", "0.01", "--output", "run"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )
    line = assert_one_line_error(result)
    assert "No space left on device; the best model so far is saved in run" in line
    assert rnnkit("sample", "run", "--length", "5", cwd=tmp_path).returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_standard_output(run_folder, tmp_path):
    with open("/dev/full", "w") as full:
        for arguments in (["info"], ["sample", run_folder], ["--help"]):
            result = rnnkit(
                *arguments, cwd=tmp_path, capture_output=False, stdout=full, stderr=subprocess.PIPE
            )
            assert "No space left on device" in assert_one_line_error(result)


def test_a_reader_that_goes_away_ends_it_quietly(run_folder, tmp_path):
    process = subprocess.Popen(
        command("sample", run_folder, "--length", "100000"), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141
    process.stderr.close()


def test_a_reader_of_what_is_said_that_goes_away_ends_training_quietly(tmp_path, text_file):
    process = subprocess.Popen(
        command("train", text_file, *SMALL, "--epochs", "1000000", "--validations", "1000000",
                "--output", "run"),
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stderr.read(10)
    process.stderr.close()
    assert process.stdout.read() == b""
    assert process.wait(timeout=60) == 141
    process.stdout.close()


def test_a_pipe_is_trained_on_and_never_waited_for_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    write = (tmp_path / "pipe").write_text
    threading.Thread(target=write, args=(TEXT,), daemon=True).start()
    result = rnnkit("train", "pipe", *QUICK, "--output", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("resume", "evaluate"):
        line = assert_one_line_error(rnnkit(name, "run", cwd=tmp_path))
        assert f"cannot go on without its data: {tmp_path / 'pipe'}: is a pipe" in line


def test_ctrl_c_saves_the_best_model_and_says_where(tmp_path, text_file):
    process = subprocess.Popen(
        command("train", text_file, *SMALL, "--epochs", "1000000", "--validations", "1000000",
                "--output", "run"),
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    model = tmp_path / "run/model.safetensors"
    for _ in range(600):
        if model.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last == "rnnkit: to go on: rnnkit resume run"
    said = err.splitlines()[-2]
    assert re.match(r"rnnkit: interrupted after .* best model so far \(.*\) is saved in run$", said)
    assert rnnkit("sample", "run", "--length", "5", cwd=tmp_path).returncode == 0


def test_ctrl_c_between_steps_says_how_to_go_on_as_well(tmp_path, capsys):
    def interrupted():
        raise KeyboardInterrupt

    folder = RunFolder.create(tmp_path / "run")
    assert running.run(interrupted, None, folder, None) == 130
    assert capsys.readouterr().err.splitlines() == [
        f"rnnkit: interrupted; no model was saved in {folder.path}"
    ]
    folder.save_settings({})
    assert running.run(interrupted, None, folder, None) == 130
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"rnnkit: to go on: rnnkit resume {folder.path}"
    ]


def test_a_missing_extension_is_said_once_and_forcing_it_is_an_error(tmp_path, text_file):
    blocked = "import sys; sys.modules['rnnkit.backend._native'] = None; "
    program = [sys.executable, "-c", blocked + "from rnnkit.cli import main; sys.exit(main())",
               "train", text_file, *QUICK, "--output"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60}
    result = subprocess.run(
        [*program, "a", "--layers", "2"], env=environment(RNNKIT_BACKEND="auto"), check=False,
        **options,
    )
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "extension" in line]
    assert len(warnings) == 1, result.stderr
    assert warnings[0].startswith("rnnkit: warning: ")
    result = subprocess.run(
        [*program, "b", "--backend", "native"], env=environment(), check=False, **options
    )
    assert "extension could not be loaded" in assert_one_line_error(result)


@pytest.mark.parametrize("missing", ["matplotlib", "tqdm"])
def test_missing_optional_packages(tmp_path, text_file, missing):
    blocked = f"import sys; sys.modules[{missing!r}] = None; from rnnkit.cli import main; "
    result = subprocess.run(
        [sys.executable, "-c", blocked + "sys.exit(main(sys.argv[1:]))", "train", text_file,
         *QUICK, "--output", "run"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "run/model.safetensors").exists()
    assert (tmp_path / "run/curve.png").exists() == (missing != "matplotlib")
    assert ("pip install 'rnnkit[train]'" in result.stderr) == (missing == "matplotlib")


def test_diverging_training_stops_with_what_is_saved(tmp_path, text_file):
    result = rnnkit(
        "train", text_file, *QUICK, "--lr", "1e38", "--schedule", "constant", "--output", "run",
        cwd=tmp_path,
    )
    line = assert_one_line_error(result)
    assert re.search(r"step \d+: .*try a lower one; no model was saved in run", line)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the address space")
def test_too_little_memory_is_said_in_one_line(tmp_path, text_file):
    result = rnnkit(
        "train", text_file, *SMALL, "--hidden", "40000", cwd=tmp_path,
        preexec_fn=limit(resource.RLIMIT_AS, 4 << 30),
    )
    assert "out of memory" in assert_one_line_error(result)


# -- rnnkit resume -------------------------------------------------------------------------------

LONG = [*SMALL, "--epochs", "30", "--validations", "20", "--sample-length", "0", "--seed", "4"]


def start_and(stop, folder, text_file):
    """Train until there is a checkpoint, then stop it with a signal."""
    process = subprocess.Popen(
        command("train", text_file, *LONG, "--output", folder), cwd=folder.parent,
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    for _ in range(600):
        if (folder / "checkpoint.safetensors").exists():
            break
        time.sleep(0.02)
    process.send_signal(stop)
    return process.communicate(timeout=60)[1], process.returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, text_file):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result = rnnkit("train", text_file, *LONG, "--output", folder, cwd=folder.parent)
    assert result.returncode == 0, result.stderr
    return folder


def assert_same_runs(folder, other):
    assert sorted(os.listdir(folder)) == sorted(os.listdir(other))
    for name in ("model.safetensors", "settings.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    logs = []
    for each in (folder, other):
        records = [json.loads(line) for line in (each / "log.jsonl").read_text().splitlines()]
        for record in records:
            del record["seconds"], record["items_per_second"]
        logs.append(records)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_is_resumed_as_if_it_had_not(
    tmp_path, text_file, undisturbed, stop
):
    err, code = start_and(stop, tmp_path / "run", text_file)
    assert code == (-signal.SIGKILL if stop == signal.SIGKILL else 130), err
    result = rnnkit("resume", "run", "--sample-length", "20", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^rnnkit: run: going on after step \d+$", result.stderr, re.MULTILINE)
    assert "best validation" in result.stdout
    assert "a sample at temperature" in result.stdout
    assert_same_runs(tmp_path / "run", undisturbed)


def test_a_run_without_a_checkpoint_starts_over(tmp_path, undisturbed):
    (tmp_path / "run").mkdir()
    shutil.copy(undisturbed / "settings.json", tmp_path / "run")
    (tmp_path / "run/log.jsonl").write_text('{"event": "train"}\n{"eve')
    (tmp_path / "run/.model.safetensors.01234567.partial").write_text("half")
    result = rnnkit("resume", "run", "--sample-length", "0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "run: going on from the beginning" in result.stderr
    assert_same_runs(tmp_path / "run", undisturbed)


def test_a_finished_run_says_so_and_is_left_alone(undisturbed, tmp_path):
    before = {name: (undisturbed / name).read_bytes() for name in os.listdir(undisturbed)}
    result = rnnkit("resume", undisturbed, "--sample-length", "0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "this run is finished" in result.stderr
    assert {name: (undisturbed / name).read_bytes() for name in os.listdir(undisturbed)} == before


def test_a_text_that_changed_or_went_is_named(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    assert rnnkit("train", "text.txt", *QUICK, "--output", "run", cwd=tmp_path).returncode == 0
    text.write_text(TEXT.replace("lazy", "lacy"))
    line = assert_one_line_error(rnnkit("resume", "run", cwd=tmp_path))
    assert line == f"rnnkit: error: {text}: has changed since the run began, so it cannot go on"
    text.unlink()
    line = assert_one_line_error(rnnkit("resume", "run", cwd=tmp_path))
    assert f"cannot go on without its data: {text}: cannot be read: No such file" in line


def test_what_cannot_be_resumed_is_said_in_one_line(tmp_path, undisturbed):
    assert "no such run" in assert_one_line_error(rnnkit("resume", "none", cwd=tmp_path))
    assert "not a run" in assert_one_line_error(rnnkit("resume", ".", cwd=tmp_path))
    shutil.copytree(undisturbed, tmp_path / "run")
    checkpoint = tmp_path / "run/checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    line = assert_one_line_error(rnnkit("resume", "run", cwd=tmp_path))
    assert line.startswith("rnnkit: error: run/checkpoint.safetensors: damaged: its arrays need")
    settings = json.loads((tmp_path / "run/settings.json").read_text())
    for change in (
        {"task": "chess"}, {"task": []}, {"backend": 7}, {"files": "x"}, {"files": [{"path": 1}]},
        {"settings": {"hidden": 1 << 40}}, {"format": 9}, {"details": None},
    ):  # fmt: skip
        (tmp_path / "run/settings.json").write_text(json.dumps(settings | change))
        line = assert_one_line_error(rnnkit("resume", "run", cwd=tmp_path))
        assert line.startswith("rnnkit: error: run/settings.json: damaged: "), line


def test_a_disk_without_room_for_a_checkpoint_loses_nothing(tmp_path, text_file, undisturbed):
    room = (undisturbed / "model.safetensors").stat().st_size + 2000
    assert room < (undisturbed / "checkpoint.safetensors").stat().st_size
    result = rnnkit(
        "train", text_file, *LONG, "--output", "run", cwd=tmp_path,
        preexec_fn=limit(resource.RLIMIT_FSIZE, room),
    )
    line = assert_one_line_error(result)
    assert "checkpoint.safetensors: File too large; the best model so far is saved in run" in line
    result = rnnkit("resume", "run", "--sample-length", "0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_same_runs(tmp_path / "run", undisturbed)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_log_on_a_full_device_is_said_in_one_line(tmp_path, text_file):
    code = (
        "import os, sys\n"
        "from rnnkit.train import log\n"
        "real = open\n"
        "def full(path, mode):\n"
        "    return real('/dev/full' if path.endswith('log.jsonl') else path, 'r+b' "
        "if path.endswith('log.jsonl') else mode, buffering=0)\n"
        "log.open = full\n"
        "from rnnkit.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "train", text_file, *QUICK, "--output", "run"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )
    line = assert_one_line_error(result)
    assert "log.jsonl: No space left on device; no model was saved in run" in line
