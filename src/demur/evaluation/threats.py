"""What an evaluation tries: by default, and as asked."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from demur.checks import chosen
from demur.errors import WrongType
from demur.evaluation.attacks import Attack
from demur.evaluation.attacks.default import default_attacks
from demur.evaluation.budgets import check_size
from demur.evaluation.corruptions import CORRUPTIONS, TABLE_CORRUPTIONS, applies, corrupt, corrupt_table
from demur.evaluation.measuring import Description
from demur.evaluation.norms import Norm
from demur.evaluation.result import Knowledge
from demur.evaluation.target import Target
from demur.rows.arrays import is_table
from demur.rows.layout import Field
from demur.rows.texts import Text

SEVERITIES = (1, 2, 3, 4, 5)
Corrupt = Callable[..., Any]
"""`X, severity, seed, start -> X` changed."""


class Corruption(NamedTuple):
    """One corruption at one severity; what it has in common with an `Attack` has the same name."""

    name: str
    severity: int
    change: Corrupt

    passes: float = 4.0
    knowledge: Knowledge = "corruption"
    for_the_curve: bool = False
    for_a_check: bool = False
    most_rows: None = None

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.name} at severity {self.severity}"


Threat: TypeAlias = Attack | Corruption


def described(threat: Threat) -> Description:
    """What a threat is."""
    if isinstance(threat, Corruption):
        model = "no attacker: what happens to rows on their way"
        return Description(threat.name, float(threat.severity), "corruption", None, model)
    return Description(threat.label, threat.epsilon, threat.knowledge, threat.norm, threat.model, threat.for_the_curve)


def attacks_of(asked: Any, target: Target, epsilons: Mapping[Norm, float], notes: list[str]) -> list[Attack]:
    """The attacks that were asked for and that can be made on this target.

    Args:
        asked: "default", None for none, or a list of attacks and their names.
        target: what is attacked.
        epsilons: budgets for attacks by name, by norm.
        notes: what is left out is noted here.

    Raises:
        InvalidSetting: there is no attack of that name, or its epsilon is larger than the bounds allow.
        WrongType: it is no attack.
    """
    if asked is None:
        notes.append("No attacks were asked for: nothing is said of what an attacker can do.")
        return []
    found = default_attacks(epsilons, target.bounds) if asked == "default" else _listed(asked, "attacks")
    attacks = [_made(attack, epsilons, target) for attack in found]
    if not target.is_one_array:
        what = "texts" if isinstance(target.layout, Text) else "several arrays or a table with columns"
        notes.append(f"Rows are {what}: there are no attacks on such rows.")
        return []
    if not target.is_continuous:
        notes.append("Rows are whole numbers that stand for something, such as tokens: there are no attacks on them.")
        return []
    possible = [attack for attack in attacks if target.is_open or not attack.needs_gradients]
    if len(possible) < len(attacks):
        left = ", ".join(dict.fromkeys(attack.name for attack in attacks if attack not in possible))
        notes.append(
            f"The classifier, {target.classifier.kind}, gives no gradients, so these attacks were left out: {left}. An "
            "attacker who trains a copy of it has gradients; what such an attacker can do is not part of this."
        )
    return possible


def _made(attack: Any, epsilons: Mapping[Norm, float], target: Target) -> Attack:
    if isinstance(attack, Attack):
        if attack.epsilon is not None and isinstance(target.layout, Field):
            name = f"the epsilon of {attack.label}"
            check_size(name, attack.norm, attack.epsilon, target.layout.shape, target.bounds)
        return attack
    is_class = isinstance(attack, type) and issubclass(attack, Attack)
    if not (is_class or isinstance(attack, str)):
        raise WrongType(f"attacks are instances of demur.evaluation.attacks.Attack, or names; got {attack!r}")
    classes = {kind.__name__: name for name, kind in Attack.registry.items()}
    kind = attack if is_class else Attack.registry[chosen(attack, Attack.registry, "an attack", classes)]
    return kind(epsilons[kind.norm] if kind.has_budget else None)


def corruptions_of(asked: Any, target: Target, X: Any, reference: Any, notes: list[str]) -> list[Corruption]:
    """The corruptions that were asked for and that suit the rows, each at five severities.

    Args:
        asked: "default", None for none, a list of names, or functions `X, severity, seed -> X` by name.
        target: what is guarded.
        X: test rows.
        reference: rows that say what is typical of a column.
        notes: what is left out is noted here.

    Raises:
        InvalidSetting: there is no corruption of that name for such rows.
        WrongType: it is no corruption.
    """
    if asked is None:
        notes.append("No corruptions were asked for: nothing is said of what noise, weather or faults do.")
        return []
    if isinstance(asked, Mapping):
        return [
            Corruption(str(name), severity, _own(name, function))
            for name, function in asked.items()
            for severity in SEVERITIES
        ]
    known = _suitable(target, X, reference)
    if not known:
        notes.append(
            "No corruptions are known for such rows: pass functions of your own, corruptions={'name': function}."
        )
    names = list(known) if asked == "default" else _listed(asked, "corruptions")
    names = [chosen(name, known, "for such rows a corruption") for name in names]
    return [Corruption(name, severity, known[name]) for name in names for severity in SEVERITIES]


def _suitable(target: Target, X: Any, reference: Any) -> dict[str, Corrupt]:
    """The corruptions for such rows, by name."""
    if not target.is_continuous and not is_table(X):
        return {}
    if is_table(X) or np.ndim(X) == 2:

        def table(name: str) -> Corrupt:
            return lambda X, severity, seed, start: corrupt_table(
                X, name=name, severity=severity, seed=seed, start=start, reference=reference
            )

        return {name: table(name) for name in TABLE_CORRUPTIONS if applies(name, X)}
    if np.ndim(X) != 4:
        return {}
    images = np.asarray(X)
    is_first = target.detector.channels_first
    channels = images.shape[1] if is_first else images.shape[-1]
    sides = images.shape[2:] if is_first else images.shape[1:3]
    if channels not in (1, 3) or min(sides) < 8:
        return {}
    low, high = target.bounds

    def image(name: str) -> Corrupt:
        def change(X: Any, severity: int, seed: int, start: int) -> Any:
            x: Any = (np.asarray(X, "float32") - low) / (high - low)
            x = np.moveaxis(x, 1, -1) if is_first else x
            x = corrupt(x, name=name, severity=severity, seed=seed, start=start) * (high - low) + low
            return np.ascontiguousarray(np.moveaxis(x, -1, 1) if is_first else x, "float32")

        return change

    return {name: image(name) for name in sorted(CORRUPTIONS)}


def _own(name: Any, function: Any) -> Corrupt:
    if not callable(function):
        raise WrongType(f"corruptions[{name!r}] is a function of rows, severity and seed; got {function!r}")
    return lambda X, severity, seed, start: function(X, severity, seed + start)


def _listed(asked: Any, what: str) -> list[Any]:
    if isinstance(asked, str | Attack | type):
        return [asked]
    if not isinstance(asked, list | tuple):
        raise WrongType(f"{what} is 'default', None or a list; got {asked!r}")
    return list(asked)
