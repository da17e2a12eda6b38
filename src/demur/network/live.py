"""A live guard: the one graph that compares a classifier and its companion, and what runs it over rows."""

import functools
from typing import Any

import keras
import numpy as np

from demur.calibration.held_out import KnownRows, PassingRows, warn_if_by_chance, warn_if_other, warn_if_trained_on
from demur.checks import check_whole
from demur.classifiers import GraphClassifier
from demur.errors import InvalidSetting
from demur.guards.results import Scored
from demur.network.graph import DetectorGraph, Half, Network, compiled
from demur.network.pair import Pair
from demur.network.passes import score_rows
from demur.rows.rows import Rows
from demur.rows.sources import CheckedSource, Source, as_source, collected

COMPARED = 10_000
"""Training rows on which the classifier's accuracy is compared with that on calibration rows, at most."""


class LiveGuard(Pair):
    """A classifier and its companion as one graph, run by Keras. Training and export work on it, too."""

    @functools.cached_property
    def graph(self) -> DetectorGraph:
        """The detector as one Keras model, `x -> [score, reference probabilities, opinion probabilities]`."""
        return self.route.graph(self.views, self.layers)

    @property
    def layers(self) -> list[Any]:
        """Every Keras layer with weights that the graph uses."""
        parts = [part for part in self.parts.values() if isinstance(part, keras.layers.Layer)]
        return [*parts, *self.classifier.tracked(), *([] if self.balance is None else [self.balance])]

    @property
    def takes_missing(self) -> bool:
        """Whether rows may lack values."""
        return self.is_ready and self.route.takes_missing

    # Scoring ------------------------------------------------------------------------------------------------------

    def scored(
        self,
        X: Any,
        *,
        reference: Any = None,
        batch_size: int = 256,
        probabilities: bool = False,
        flag_invalid: bool = False,
        verbose: bool = False,
        passing: PassingRows | None = None,
    ) -> Scored:
        """See `demur.guards.base.Guard.scored`; what looks at the rows on the way may be given as `passing`."""
        check_whole("batch_size", batch_size, 1)
        self.check_trained()
        if reference is not None:
            raise InvalidSetting("reference is for exported guards; this one asks its classifier itself: leave it out")
        source = self.source(self.ready_for(X), finite=not flag_invalid)
        source = CheckedSource(source, self.check_classifier, None if passing is None else passing.add)
        with self._lock:
            scoring = self.scoring
        return score_rows(
            self.route.kept_apart(scoring) if flag_invalid else scoring,
            source,
            batch_size,
            verbose=verbose,
            flag_invalid=flag_invalid,
            probabilities=probabilities,
        )

    @functools.cached_property
    def scoring(self) -> Network:
        """The graph, compiled."""
        return self.route.scoring(self.graph)

    def in_memory(self, X: Any, name: str) -> Rows:
        """Rows from the caller, checked, that can be reached in any order."""
        layout, finite = self.classifier.layout, not self.route.takes_missing
        return Rows.of(collected(X, layout, name)[0], layout, name, finite=finite)

    def source(self, X: Any, name: str = "X", *, finite: bool = True) -> Source:
        """Rows from the caller, checked."""
        return as_source(X, self.classifier.layout, name, finite=finite and not self.route.takes_missing)

    def check_classifier(self, rows: Rows) -> None:
        """Check, the first time, that the classifier returns probabilities, or logits, as the settings say."""
        classifier = self.classifier
        if isinstance(classifier, GraphClassifier) and not (self._probabilities_checked or classifier.ends_visibly):
            half = Half(lambda x: classifier.outputs(x)[:1], self.layers)
            outputs = compiled(half, classifier.layout)(rows[:32], 32)()
            classifier.check_outputs(outputs[0])
        self._probabilities_checked = True

    def passing_rows(self, rows: Rows | None = None) -> PassingRows:
        """Make an object that looks at rows as they pass; the rows given here count as passed."""
        passing = PassingRows(channels_first=self.channels_first)
        if rows is not None:
            passing.add(rows)
        return passing

    def check_rows(
        self,
        X: Any,
        predicted: Any = None,
        labels: Any = None,
        X_train: Any = None,
        y_train: Any = None,
        batch_size: int = 256,
    ) -> None:
        """Warn of rows that are on another scale than the rows of `fit` or not held out, and of labels of other rows.

        Args:
            X: the rows, or what is known of them.
            predicted: `(n,)`, the index of the classifier's class; None if that is not known.
            labels: `(n,)`, the index of the true class, or None.
            X_train: rows that the classifier was trained on; None for no comparison.
            y_train: their true classes, or None.
            batch_size: rows a forward pass.
        """
        layout, wrong_trained = self.classifier.layout, None
        rows = X if isinstance(X, KnownRows) else self.passing_rows(Rows.of(X, layout, finite=False)).known()
        held_out_of: dict[str, KnownRows] = {}
        if X_train is None and y_train is not None:
            raise InvalidSetting("y_train are the true classes of X_train: pass X_train too")
        if X_train is not None:
            trained = Rows.of(collected(X_train, layout, "X_train")[0], layout, "X_train", finite=False)
            held_out_of["the rows of X_train"] = self.passing_rows(trained).known()
        if y_train is not None:
            true = self.labels.indices(y_train, len(trained), "y_train")
            some = np.random.default_rng(0).permutation(len(true))[:COMPARED]
            scored = self.scored(trained[some], batch_size=batch_size, flag_invalid=self.on_invalid == "flag")
            wrong_trained = scored.y != true[some]
        if self.trained_on is not None:
            warn_if_other(rows.ranges, self.trained_on.ranges)
            held_out_of["the rows that fit was given"] = self.trained_on
        if labels is not None:
            warn_if_by_chance(predicted, labels)
        warn_if_trained_on(rows, held_out_of, None if labels is None else predicted != labels, wrong_trained)
