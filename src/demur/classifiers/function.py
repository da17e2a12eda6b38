"""Any function of rows as a classifier; and how a slow, costly or unreliable one is asked."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from demur.checks import check_whole, is_number
from demur.classifiers.answers import OnDisk
from demur.classifiers.base import BlackBoxClassifier, Classifier
from demur.classifiers.estimator import fingerprint
from demur.errors import ClassifierFailed, DemurError, InvalidSetting, WrongType
from demur.extras import extra
from demur.rows.classes import Said
from demur.rows.layout import Layout


class FunctionClassifier(BlackBoxClassifier):
    """Calls a function: NumPy rows in, NumPy probabilities out."""

    kind = "a function"

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return callable(model) and not isinstance(model, type | keras.layers.Layer)

    @property
    def title(self) -> str:
        return str(getattr(self.model, "__name__", type(self.model).__name__))

    def ask(self, rows: Any) -> Any:
        return self.model(rows)

    @classmethod
    def fingerprint_of(cls, model: Any) -> str | None:
        """The fingerprint of the estimator that a method belongs to; None for a plain function."""
        owner = getattr(model, "__self__", None)
        return fingerprint(owner) if hasattr(owner, "predict_proba") else None


class BlackBox:
    """A classifier outside the graph that is slow, costly or unreliable: an HTTP endpoint, say.

    Examples:
        >>> def endpoint(rows):
        ...     return forest.predict_proba(rows)  # or an answer from elsewhere
        >>> model = BlackBox(endpoint, fingerprint="wine-v3", cache="answers.sqlite", retries=4, timeout=10)
        >>> ModelDistillation(model=model).fit(rows, epochs=1, verbose=False).score(new_rows).shape
        (38,)

    Args:
        predict: a function from a batch of rows to probabilities `(n, classes)`, or any other classifier that demur
            takes and that is outside the graph (an estimator, an ONNX file).
        fingerprint: what tells this model from another, such as a name and version. Saved with a detector and compared
            when it is loaded; a cache needs it. By default that of `predict`, which a function does not have.
        cache: a file to keep answers in, an SQLite database. A row that is in it is never asked about again, by
            whatever detector or process.
        retries: how often a call that raised, or did not answer in time, is repeated, with a pause that doubles each
            time. Needs tenacity.
        timeout: seconds that a call may take; the next attempt does not wait for it. None: as long as it takes.
        wait: the first pause, in seconds, on average; each is drawn at random, and the longest is 60.
        batch_size: the most rows a call is given.

    Raises:
        InvalidSetting: a setting outside what it can mean, or a cache without a fingerprint.
        WrongType: `predict` is no classifier, or one inside the graph.
        MissingExtra: `retries` without tenacity.
    """

    def __init__(
        self,
        predict: Callable[[Any], Any] | Any,
        *,
        fingerprint: str | None = None,
        cache: str | Path | None = None,
        retries: int = 0,
        timeout: float | None = None,
        wait: float = 1.0,
        batch_size: int | None = None,
    ) -> None:
        check_whole("retries", retries, 0)
        if batch_size is not None:
            check_whole("batch_size", batch_size, 1)
        if timeout is not None and not (is_number(timeout) and timeout > 0):
            raise InvalidSetting(f"timeout is a number of seconds above 0, or None; got {timeout!r}")
        if not (is_number(wait) and wait >= 0):
            raise InvalidSetting(f"wait is a number of seconds not below 0; got {wait!r}")
        if retries:
            with extra("tenacity", "remote"):
                import tenacity  # noqa: F401 - asked for here, and not when the first call fails
        source = _source_of(predict)
        if source.in_graph:
            raise WrongType(f"BlackBox is for classifiers outside the graph; pass {source.kind} as it is")
        if cache is not None and fingerprint is None and source.fingerprint_of(predict) is None:
            raise InvalidSetting(
                "a cache needs fingerprint='...', a name and version of the model: a function tells nothing of its "
                "own, and the answers of another model would be taken for its"
            )
        self.predict, self.fingerprint, self.cache = predict, fingerprint, cache
        self.retries, self.timeout, self.wait, self.batch_size = retries, timeout, wait, batch_size


class PatientClassifier(BlackBoxClassifier):
    """Asks a `BlackBox` as it wants to be asked."""

    kind = "a black box"

    def __init__(self, model: BlackBox, *, layout: Layout, **settings: Any) -> None:
        source = _source_of(model.predict)
        make: Any = source
        self.inner: BlackBoxClassifier = make(source.resolved(model.predict), layout=layout, **settings)
        self.takes_tables = self.inner.takes_tables  # type: ignore[misc]
        super().__init__(model, layout=layout, **settings)
        self.is_logits, self.ends_visibly = self.inner.is_logits, self.inner.ends_visibly
        self.is_free = not isinstance(self.inner, FunctionClassifier)
        self.ask_at_once = model.batch_size
        if model.cache is not None:
            self.answers = OnDisk(model.cache, f"{self.fingerprint()} logits={self.is_logits}")

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return isinstance(model, BlackBox)

    @property
    def title(self) -> str:
        return self.inner.title

    def settled(self, layout: Layout) -> Layout:  # noqa: ARG002 - the inner one has settled it
        return self.inner.layout

    def known_classes(self) -> int | None:
        return self.inner.known_classes()

    @classmethod
    def said_by(cls, model: Any) -> Said | None:
        return _source_of(model.predict).said_by(model.predict)

    def said(self) -> Said | None:
        return self.inner.said()

    @classmethod
    def fingerprint_of(cls, model: Any) -> str | None:
        return model.fingerprint or _source_of(model.predict).fingerprint_of(model.predict)

    def ask(self, rows: Any) -> Any:
        if not self.model.retries:
            return self._in_time(rows)
        import tenacity

        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.model.retries + 1),
            wait=tenacity.wait_random_exponential(multiplier=2 * self.model.wait, max=60),
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, Exception) and not _is_ours(e)),
            reraise=True,
        )
        return attempts(self._in_time, rows)

    def _in_time(self, rows: Any) -> Any:
        if self.model.timeout is None:
            return self.inner.ask(rows)
        outcome: dict[str, Any] = {}

        def call() -> None:
            try:
                outcome["answer"] = self.inner.ask(rows)
            except BaseException as error:  # raised again below, in the caller's thread
                outcome["error"] = error

        # A daemon, as a call that never returns must not keep the process from ending.
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(self.model.timeout)
        if "error" in outcome:
            raise outcome["error"]
        if "answer" not in outcome:
            raise ClassifierFailed(
                f"the {self.role} did not answer within {self.model.timeout:g} s. What it answered before is kept: the "
                "same call goes on from there"
            )
        return outcome["answer"]


def _source_of(model: Any) -> type[Classifier]:
    from demur.classifiers import source_of

    return source_of(model)


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, DemurError) and not isinstance(error, ClassifierFailed)
