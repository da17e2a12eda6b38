"""How often does a batch raise an alarm? Scores, confidences and embeddings, clean and with drift in a part of it.

    KERAS_BACKEND=tensorflow python benchmarks/drift_batches.py DATASET [--detector FOLDER --name NAME] [--keep FOLDER]

Batches of clean test images, of which a share is replaced by corrupted ones that the classifier, right before, gets
wrong (harmful), or still gets right (harmless). Each is tested against 1,000 other clean test images drawn anew: the
held-out images are from the data set's training part, which is not quite like its test part. Writes
docs/results/drift-batches-DATASET-NAME.json.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from corrupted import Grid, Said, arguments, grid, write
from scipy.stats import ks_2samp, mannwhitneyu

ALPHA = 0.05
SIZES = (10, 50, 100, 1000)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
REFERENCE, REPEATS = 1000, 300

Array = Any


def mann_whitney(of: Callable[[Said], Array]) -> Callable[[Said, Said], float]:
    return lambda batch, reference: float(mannwhitneyu(of(batch), of(reference), alternative="greater").pvalue)


def kolmogorov_smirnov(of: Callable[[Said], Array]) -> Callable[[Said, Said], float]:
    return lambda batch, reference: float(ks_2samp(of(batch), of(reference), alternative="less").pvalue)


def black_box_shift(batch: Said, reference: Said) -> float:
    """A two-sided test of each class's probability, Bonferroni's share each (Lipton et al., 2018; Rabanser, 2019)."""
    pairs = zip(batch.probabilities.T, reference.probabilities.T, strict=True)
    return min(1.0, len(batch.probabilities.T) * min(float(ks_2samp(a, b).pvalue) for a, b in pairs))


WAYS: dict[str, Callable[[Said, Said], float]] = {
    "score, Mann-Whitney (demur)": mann_whitney(lambda said: said.score),
    "score, Kolmogorov-Smirnov": kolmogorov_smirnov(lambda said: said.score),
    "confidence, Mann-Whitney": mann_whitney(lambda said: -said.confidence),
    "entropy, Mann-Whitney": mann_whitney(lambda said: said.entropy),
    "softmax outputs, Kolmogorov-Smirnov (BBSD)": black_box_shift,
}


def chosen(said: Said, rows: Array) -> Said:
    return Said(*(part[rows] for part in said))


def pools(found: Grid) -> dict[str, Said]:
    """Clean rows, and corrupted ones by what became of them."""
    clean_right = found.test.right
    kept: dict[str, list[Said]] = {"harmful": [], "harmless": []}
    for said in found.tested_on.values():
        before = clean_right[: len(said.right)]
        kept["harmful"].append(chosen(said, before & ~said.right))
        kept["harmless"].append(chosen(said, before & said.right))
    together = {
        name: Said(*(np.concatenate(parts) for parts in zip(*several, strict=True))) for name, several in kept.items()
    }
    corrupted = len(next(iter(found.tested_on.values())).right)
    return {"clean": chosen(found.test, np.arange(corrupted, len(clean_right))), **together}


def alarms(found: Grid) -> list[dict[str, Any]]:
    """Of each size, share and kind of drift: how often each test raises an alarm, and its mean p-value."""
    rows, drawn = [], pools(found)
    for kind in ("harmful", "harmless"):
        for n in SIZES:
            for share in SHARES if kind == "harmful" else SHARES[1:]:
                rng = np.random.default_rng([n, int(100 * share), len(kind)])
                p: dict[str, list[float]] = {title: [] for title in WAYS}
                for _ in range(REPEATS):
                    bad = round(share * n)
                    clean = rng.permutation(len(drawn["clean"].right))
                    parts = [
                        chosen(drawn["clean"], clean[REFERENCE : REFERENCE + n - bad]),
                        chosen(drawn[kind], rng.permutation(len(drawn[kind].right))[:bad]),
                    ]
                    batch = Said(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
                    reference = chosen(drawn["clean"], clean[:REFERENCE])
                    for title, way in WAYS.items():
                        p[title].append(way(batch, reference))
                for title, values in p.items():
                    rate = float(np.mean(np.array(values) <= ALPHA))
                    row = {"kind": kind, "n": n, "share": share, "test": title}
                    rows.append({**row, "alarms": rate, "mean_p": float(np.mean(values))})
            print(kind, n, flush=True)
    return rows


def main() -> int:
    asked = arguments(__doc__)
    document = {
        "alpha": ALPHA,
        "reference": REFERENCE,
        "repeats": REPEATS,
        "rows": alarms(grid(asked)),
    }
    write("batches", asked, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
