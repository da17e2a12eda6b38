"""What docs/ecosystem.md shows, runs, from top to bottom."""

import re
from pathlib import Path

import numpy as np

from demur import ModelDistillation

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ecosystem.md").read_text(encoding="utf-8")


def test_the_page_runs(monkeypatch):
    fit = ModelDistillation.fit
    monkeypatch.setattr(ModelDistillation, "fit", lambda self, X, **_: fit(self, X, epochs=2, verbose=False))
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    flagged = names["detector"].predict(names["X_new"])["data"]["is_adversarial"]
    np.testing.assert_array_equal(names["outliers"].predict(names["X_new"]) == -1, flagged)
    assert names["found"].labels_.shape == (len(names["X_train"]),)
