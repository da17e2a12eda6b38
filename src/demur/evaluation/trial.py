"""One threat, tried on the first rows and then on more of them, as there is time."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from demur.backends import current
from demur.evaluation.attacks import Attack, Attacked
from demur.evaluation.baselines import Baseline, scores_of
from demur.evaluation.outcomes import Changed, Outcome, Unchanged, distances, examples_of, joined, outcome_of
from demur.evaluation.result import OWN
from demur.evaluation.store import AttackedRows, Stores
from demur.evaluation.target import Array, Target, TimeIsUp
from demur.evaluation.threats import Corruption, Threat, described
from demur.rows.rows import Rows, padded, padded_size

CHUNK = 128
"""Rows that are attacked together and kept on disk together."""


class Scene(NamedTuple):
    """What all threats of an evaluation are tried on, and compared with."""

    target: Target
    X: Rows
    unchanged: Unchanged
    compared: Sequence[Baseline]
    stores: Stores
    seed: int


class Trial:
    """One threat, and the rows that it has been tried on.

    Attributes:
        most: rows that it can be tried on.
        a_row: seconds a row that the last rows took.
        is_new: whether the last rows were attacked, and not all read from disk.
    """

    def __init__(self, threat: Threat, scene: Scene) -> None:
        self.threat, self.scene = threat, scene
        n = len(scene.unchanged.y)
        self.most = min(n, threat.most_rows or n)
        self.parts: list[Changed] = []
        self.a_row, self.is_new = 0.0, True
        # How many rows the gallery shows.
        self.examples = (1 if threat.severity == 3 else 0) if isinstance(threat, Corruption) else 4

    @property
    def heading(self) -> str:
        """The title of the threat; all severities of a corruption share one."""
        return self.threat.name if isinstance(self.threat, Corruption) else self.threat.title

    @property
    def tried(self) -> int:
        """Rows that it has been tried on."""
        return sum(len(part.rows) for part in self.parts)

    def extend(self, rows: int, *, count: Callable[[int], None], deadline: float = math.inf) -> None:
        """Try the threat on more rows, a chunk at a time, until the deadline at most.

        Args:
            rows: how many, those tried already included.
            count: is told how many rows more are done.
            deadline: in the time of `time.monotonic`; a chunk that is not done then is dropped.
        """
        target, before, started = self.scene.target, self.tried, time.monotonic()
        begin = before
        target.deadline, self.is_new = deadline, False
        try:
            while begin < rows:
                end = min(rows, begin - begin % CHUNK + CHUNK)
                self.parts.append(self._part(np.arange(begin, end)))
                count(end - begin)
                begin = end
        except TimeIsUp:
            pass
        finally:
            target.deadline = math.inf
        if begin > before:
            self.a_row = (time.monotonic() - started) / (begin - before)

    def outcome(self) -> Outcome:
        """What became of the rows."""
        return outcome_of(described(self.threat), self.scene.unchanged, joined(self.parts, self.examples))

    def _part(self, rows: Array) -> Changed:
        started = time.monotonic()
        scene, target, unchanged = self.scene, self.scene.target, self.scene.unchanged
        before, y = scene.X[rows].raw, unchanged.y[rows]
        changed, late, outputs = self._changed(before, y, unchanged.right[rows], int(rows[0]))
        verdict, plain = target.verdict(changed), target.is_one_array
        predicted = unchanged.verdict.reference[rows]
        return Changed(
            rows=rows,
            verdict=verdict,
            scores={OWN: verdict.score, **scores_of(scene.compared, changed, outputs)},
            distance=distances(before, changed) if plain else {},
            late=late,
            seconds=time.monotonic() - started,
            examples=examples_of(target, before, changed, y, predicted, verdict, self.examples) if plain else [],
        )

    def _changed(self, X: Any, y: Array, right: Array, begin: int) -> tuple[Any, Array | None, list[Array]]:
        """Rows after the threat, from disk if they are there; see `Attacked.late`; the classifier's outputs."""
        scene, threat, target = self.scene, self.threat, self.scene.target
        if isinstance(threat, Corruption):
            target.check_time()
            self.is_new = True
            x = threat.change(X, threat.severity, scene.seed, begin)
            return x, None, target.classifier_outputs(x) if scene.compared else []
        store, key = scene.stores.of(threat.knowledge), {**threat.settings, "begin": begin, "rows": len(y)}
        kept = store.get(key, y)
        if kept is not None:
            outputs = target.classifier_outputs(kept.x)
            kept.check_claim(_wrong(outputs, y), store.file(key) or "")
            return kept.x, kept.late, outputs
        self.is_new = True
        x, late = target.rows(X), None
        if right.any():
            attacked = _attacked(threat, target, x[right], y[right], scene.seed + begin)
            x[right] = attacked.x
            if attacked.late is not None:
                late = np.zeros(len(y), bool)
                late[right] = attacked.late
        outputs = target.classifier_outputs(x)
        store.put(key, AttackedRows(x, begin + np.arange(len(y)), y, _wrong(outputs, y), {}, late))
        return x, late, outputs


def _attacked(threat: Attack, target: Target, x: Array, y: Array, seed: int) -> Attacked:
    """Attack rows; on JAX, which compiles for each number of rows, with the last row repeated up to a power of two."""
    if not current().counts_rows:
        return threat.run(target, x, y, seed=seed)
    size = padded_size(len(x), CHUNK)
    found = threat.run(target, padded(x, size), padded(y, size), seed=seed)
    return Attacked(found.x[: len(x)], None if found.late is None else found.late[: len(x)])


def _wrong(outputs: list[Array], y: Array) -> Array:
    return np.asarray(outputs[0].argmax(axis=1) != y)
