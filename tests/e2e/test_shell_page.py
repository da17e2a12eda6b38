"""The commands of "A model outside Keras from the shell", on docs/quickstart.md, run as they stand there."""

import re
import shlex
from pathlib import Path

import pandas as pd

from demur import cli

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "quickstart.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## A model outside Keras from the shell\n")[2]
DRIFT = 3


def test_the_section_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    exec(code, {})
    lines = re.findall(r"^\$ demur (.*)$", SECTION, re.MULTILINE)
    assert len(lines) == 9
    for line in lines:
        more = ["--quiet", "--epochs", "2"] if line.startswith("fit") else []
        assert cli.main([*shlex.split(line), *more]) in (
            0,
            *([DRIFT] if "monitor" in line or "drift" in line else []),
        ), line
    shown = capsys.readouterr().out
    assert "left out: patient, target" in shown
    assert "accuracy of the classifier " in shown
    answers, flags = pd.read_csv("answers.csv"), pd.read_csv("flags.csv")
    assert answers.patient.tolist() == pd.read_csv("new.csv").patient.tolist()
    assert answers.is_adversarial.tolist() == flags.is_adversarial.tolist()
