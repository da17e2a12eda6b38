"""Pages whose Python can be pasted: block by block into one session of Python's prompt, as a reader pastes it.

    python tests/scaffold/pages.py PAGE RESULTS.json [--small]

runs the blocks of a page in the present folder, in full or with what `SMALL` puts in the place of its settings, and
writes what each block printed, and the table of figures that the page calls `found`. A table from OpenML is read from
$DEMUR_DATA/magic.npz or made of one of scikit-learn's, since neither tests nor results shall depend on a server.
"""

import code
import contextlib
import importlib
import io
import json
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

PAGES = Path(__file__).resolve().parents[2] / "docs"
DIGITS = {'datasets.load("fashion_mnist")': 'datasets.load("digits")'}
SMALL = {
    "tutorials/keras_images": {**DIGITS, "epochs=6": "epochs=15", "epochs=10": "epochs=20", "PGD(0.05)": "PGD(0.1)"},
    "tutorials/torch_images": {**DIGITS, "range(6)": "range(15)", "epochs=8": "epochs=20", "PGD(0.05)": "PGD(0.1)"},
    "tutorials/harmful_drift": DIGITS,
    "tutorials/tabular": {"epochs=30": "epochs=5", "n_estimators=200": "n_estimators=50"},
    "tutorials/text": {
        '"cs da de es et fi fr hu is it lt lv nl pl pt ro sk sl sv tr"': '"da de fi fr"',
        "epochs=30": "epochs=6",
    },
    "tutorials/endpoint": {"epochs=20": "epochs=8", "epochs=30": "epochs=20"},
}
"""What is smaller, by page: data that come with scikit-learn, and training. Each setting must be on the page."""


def blocks(page, language="python"):
    """The blocks of a page, such as "tutorials/text", in one language."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def with_less(page, texts):
    """The blocks with `SMALL` in the place of the page's settings."""
    for old, new in SMALL[page].items():
        assert any(old in text for text in texts), f"{page}: {old} is not on the page"
        texts = [text.replace(old, new) for text in texts]
    return texts


class Prompt(code.InteractiveConsole):
    """Python's prompt, which raises what a block raises."""

    def showtraceback(self):
        raise sys.exc_info()[1]

    def showsyntaxerror(self, filename=None, **_):
        raise sys.exc_info()[1]


def paste(texts, names):
    """Paste blocks, one after the other; return what each printed, without the values that the prompt repeats."""
    prompt, printed, shown = Prompt(names), [], sys.displayhook
    sys.displayhook = lambda value: None
    try:
        for text in texts:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                for line in [*text.splitlines(), ""]:
                    is_open = prompt.push(line)
            assert not is_open, f"the block does not end:\n{text}"
            printed.append(output.getvalue())
    finally:
        sys.displayhook = shown
    return printed


def magic(*_, **__):
    """What `sklearn.datasets.fetch_openml("MagicTelescope")` gives, from a file or, without one, in its likeness."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import load_breast_cancer

    names = ["fLength", "fWidth", "fSize", "fConc", "fConc1", "fAsym", "fM3Long", "fM3Trans", "fAlpha", "fDist"]
    if folder := os.environ.get("DEMUR_DATA"):
        with np.load(Path(folder) / "magic.npz") as arrays:
            x, y = arrays["x"], arrays["y"]
    else:
        x, y = load_breast_cancer(return_X_y=True)
    table = pd.DataFrame(x[:, : len(names)], columns=[f"{name}:" for name in names])
    return SimpleNamespace(data=table, target=pd.Series(np.where(y == 1, "g", "h")))


def run(page, *, small=False, first=None):
    """Paste the first blocks of a page, or all, in the present folder; return what came out, and the names."""
    if page == "tutorials/tabular":
        import sklearn.datasets

        sklearn.datasets.fetch_openml = magic
    texts, names, began = blocks(page), {"__name__": "__console__"}, time.monotonic()
    printed = paste((with_less(page, texts) if small else texts)[:first], names)
    import keras

    found = names.get("found")
    return {
        "versions": {name: importlib.import_module(name).__version__ for name in ("demur", "keras")},
        "backend": keras.backend.backend(),
        "seconds": round(time.monotonic() - began),
        "printed": printed,
        "found": None if found is None else json.loads(found.to_json(orient="records")),
    }, names


if __name__ == "__main__":
    document, _ = run(sys.argv[1], small="--small" in sys.argv)
    Path(sys.argv[2]).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
