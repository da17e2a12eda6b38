"""Attacks through foolbox, on whichever backend Keras runs; all but one attack the classifier alone."""

from typing import Any, ClassVar

import keras
import numpy as np

from demur.backends import current
from demur.evaluation.attacks.base import Array, Attack, Attacked
from demur.evaluation.result import Knowledge
from demur.evaluation.target import Target, seeded
from demur.extras import extra

GREY = "knows the classifier and its gradients, not the guard"
BLACK = "asks the classifier for its class and knows nothing else"
ASKS_THE_GUARD = "asks the guarded classifier for the class that `correct` returns and knows nothing else"


class FoolboxAttack(Attack):
    """An attack of foolbox; a subclass names foolbox's class and the arguments."""

    knowledge: ClassVar[Knowledge] = "grey-box"
    model = GREY
    kind: ClassVar[str]
    arguments: ClassVar[dict[str, Any]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "arguments": dict(self.arguments)}

    def run(self, target: Target, x: Array, y: Array, *, seed: int = 0) -> Attacked:
        return Attacked(self.within(x, self.changed(target, x, y, seed), target))

    def changed(self, target: Target, x: Array, y: Array, seed: int, starts: Array | None = None) -> Array:
        """Rows as foolbox changes them, from `starts` if they are given.

        In units in which the bounds are 0 and 1, because HopSkipJump clips rows to 0 and 1 whatever the bounds are.
        """
        with extra("foolbox", "evaluate"):
            import eagerpy
            import foolbox
        low, span = target.bounds[0], (target.bounds[1] - target.bounds[0]) or 1.0

        def tensor(array: Array) -> Any:
            return eagerpy.astensor(keras.ops.convert_to_tensor(array))

        def scaled(rows: Array) -> Any:
            return tensor(np.clip((rows - low) / span, 0, 1).astype("float32"))

        method = getattr(foolbox.attacks, self.kind)(**self.arguments)
        # An attack that looks for the smallest change gets no epsilon: `within` drops changes that are too large.
        is_limited = isinstance(method, foolbox.attacks.base.FixedEpsilonAttack)
        epsilon = self.epsilon / span if is_limited and self.epsilon is not None else None
        begin = {} if starts is None else {"starting_points": scaled(starts)}
        # On PyTorch, foolbox computes gradients of the classifier's weights, too, unless these are frozen.
        weights = [target.classifier.model] if target.is_open and hasattr(target.classifier.model, "parameters") else []
        with seeded(seed), current().frozen(weights):
            model = foolbox.models.base.TransformBoundsWrapper(self.attacked_model(target), (0, 1))
            _, found, _ = method(model, scaled(x), tensor(y.astype(current().compared)), epsilons=epsilon, **begin)
        return np.asarray(found.numpy() * span + low, "float32")

    def attacked_model(self, target: Target) -> Any:
        """What is attacked, as foolbox takes it; log-probabilities serve as logits, so a softmax hides nothing."""
        import foolbox

        def made() -> Any:
            if not target.is_open:
                return foolbox.NumPyModel(lambda x: target.classifier_outputs(x)[0], bounds=target.bounds)
            return current().foolbox_model(target.log_probabilities, target.layout, target.bounds, target.check_time)

        return target.once("foolbox", made)


class FGSM(FoolboxAttack):
    """One step along the sign of the gradient (Goodfellow et al., 2015, arXiv:1412.6572)."""

    name, kind, passes = "FGSM", "LinfFastGradientAttack", 1


class PGD(FoolboxAttack):
    """Forty steps along the sign of the gradient, from a random start (Madry et al., 2018, arXiv:1706.06083)."""

    name, kind, passes = "PGD", "LinfProjectedGradientDescentAttack", 40
    arguments: ClassVar[dict[str, Any]] = {"steps": 40, "rel_stepsize": 0.1}


class PGDL2(FoolboxAttack):
    """PGD within a Euclidean ball."""

    name, kind, norm, passes = "PGD L2", "L2ProjectedGradientDescentAttack", "L2", 40
    arguments: ClassVar[dict[str, Any]] = {"steps": 40, "rel_stepsize": 0.05}


class SLIDE(FoolboxAttack):
    """Sparse L1 descent (Tramèr & Boneh, 2019, arXiv:1904.13000)."""

    name, kind, norm, passes = "SLIDE", "SparseL1DescentAttack", "L1", 40
    arguments: ClassVar[dict[str, Any]] = {"steps": 40, "rel_stepsize": 0.1, "random_start": False}


class DeepFool(FoolboxAttack):
    """Steps to the nearest linearised boundary (Moosavi-Dezfooli et al., 2016, arXiv:1511.04599)."""

    name, kind, norm, has_budget, passes = "DeepFool", "L2DeepFoolAttack", "L2", False, 80


class HopSkipJump(FoolboxAttack):
    """The boundary, followed by its estimated normal (Chen et al., 2020, arXiv:1904.02144)."""

    name, kind, norm, has_budget, passes = "HopSkipJump", "HopSkipJumpAttack", "L2", False, 1200
    knowledge: ClassVar[Knowledge] = "black-box"
    model, needs_gradients, most_rows = BLACK, False, 100
    arguments: ClassVar[dict[str, Any]] = {"steps": 15, "max_gradient_eval_steps": 200}

    def changed(self, target: Target, x: Array, y: Array, seed: int, starts: Array | None = None) -> Array:
        starts, known = self._starts(target, x, y, seed)
        result = x.copy()
        if known.any():
            result[known] = super().changed(target, x[known], y[known], seed, starts[known])
        return result

    def answers(self, target: Target, x: Array) -> Array:
        """The class that the attacker is told, `(n,)`."""
        return np.asarray(target.classifier_outputs(x)[0].argmax(axis=1))

    def _starts(self, target: Target, x: Array, y: Array, seed: int) -> tuple[Array, Array]:
        """For each row, the nearest row or noise that the classifier gives another class; and whether there is one."""
        rng = np.random.default_rng(seed)
        noise = rng.uniform(*target.bounds, (64, *x.shape[1:])).astype("float32")
        pool = np.concatenate([x, noise])
        classes = np.concatenate([self.answers(target, rows) for rows in (x, noise)])
        flat = pool.reshape(len(pool), -1)
        starts, known = x.copy(), np.zeros(len(x), bool)
        for i, label in enumerate(y):
            others = np.flatnonzero(classes != label)
            known[i] = len(others) > 0
            if known[i]:
                starts[i] = pool[others[np.linalg.norm(flat[others] - flat[i], axis=1).argmin()]]
        return starts, known


class GuardedHopSkipJump(HopSkipJump):
    """HopSkipJump on the guarded classifier: hiding gradients does not stop an attack that needs none.

    It looks for the smallest change after which `correct` is wrong, be the row accepted or corrected to another class.
    A change larger than `epsilon` does not count.
    """

    name, has_budget, passes, most_rows = "HopSkipJump on the guard", True, 2400, 50
    knowledge: ClassVar[Knowledge] = "white-box"
    model = ASKS_THE_GUARD

    def attacked_model(self, target: Target) -> Any:
        import foolbox

        def answer(x: Array) -> Array:
            return np.eye(target.classes, dtype="float32")[self.answers(target, x)]

        return foolbox.NumPyModel(answer, bounds=target.bounds)

    def answers(self, target: Target, x: Array) -> Array:
        return np.asarray(target.verdict(x).final)
