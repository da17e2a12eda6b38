"""What docs/deploy.md shows of scikit-learn and PyOD, runs, from top to bottom."""

import re
from pathlib import Path

import numpy as np

from demur import ModelDistillation

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## In scikit-learn and PyOD\n")[2].partition("\n## ")[0]


def test_the_section_runs(monkeypatch):
    fit = ModelDistillation.fit
    monkeypatch.setattr(ModelDistillation, "fit", lambda self, X, **_: fit(self, X, epochs=2, verbose=False))
    names = {}
    for block in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL):
        exec(block, names)
    flagged = names["detector"].predict(names["X_new"])["data"]["is_adversarial"]
    np.testing.assert_array_equal(names["outliers"].predict(names["X_new"]) == -1, flagged)
    assert names["found"].labels_.shape == (len(names["X_train"]),)
