"""The example in the README runs as it is printed, and does what it says."""

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_ten_lines_learn_to_add(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    variables = {}
    exec(code, variables)
    assert variables["loss"].item() < 0.01 * variables["target"].var()
    assert "LSTM" in capsys.readouterr().out


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (README.parent / link).exists(), link


def test_the_tour_names_what_exists():
    for name in re.findall(r"^\| `([^`]+)`", README.read_text(encoding="utf-8"), re.MULTILINE):
        assert (README.parent / name).exists(), name
