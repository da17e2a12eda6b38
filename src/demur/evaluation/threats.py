"""What an evaluation tries, by default and as asked, and what it leaves out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from demur.checks import chosen
from demur.errors import WrongType
from demur.evaluation import attacks
from demur.evaluation.attacks import Attack
from demur.evaluation.corruptions import CORRUPTIONS, TABLE_CORRUPTIONS, applies, corrupt, corrupt_table
from demur.evaluation.corruptions.draws import SEVERITIES
from demur.evaluation.norms import Norm, check_size
from demur.evaluation.outcomes import Description
from demur.evaluation.result import Knowledge
from demur.evaluation.target import Target
from demur.rows.arrays import is_table
from demur.rows.layout import Field
from demur.rows.texts import Text

Corrupt = Callable[..., Any]
"""`X, severity, seed, start -> changed X`."""


class Corruption(NamedTuple):
    """One corruption at one severity; what it shares with an `Attack` has the same name there."""

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
        """Name and severity."""
        return f"{self.name} at severity {self.severity}"


Threat: TypeAlias = Attack | Corruption


def described(threat: Threat) -> Description:
    """What a threat is."""
    if isinstance(threat, Corruption):
        model = "no attacker: what happens to rows on their way"
        return Description(threat.name, float(threat.severity), "corruption", None, model)
    return Description(threat.label, threat.epsilon, threat.knowledge, threat.norm, threat.model, threat.for_the_curve)


def default_attacks(epsilons: Mapping[Norm, float], bounds: tuple[float, float]) -> list[Attack]:
    """Attacks of every knowledge, with several budgets where a curve is drawn."""
    linf, l2, l1 = (epsilons[norm] for norm in ("Linf", "L2", "L1"))
    everything = 0.5 * (bounds[1] - bounds[0])
    grown = sorted({epsilon for epsilon in (linf / 4, linf / 2, 2 * linf) if epsilon < everything} | {linf, everything})
    found: list[Attack] = [
        attacks.FGSM(linf),
        *map(attacks.PGD, grown),
        attacks.PGDL2(l2),
        attacks.SLIDE(l1),
        attacks.DeepFool(),
        attacks.CarliniWagner(),
        attacks.ConfidentCarliniWagner(),
        attacks.HopSkipJump(),
        *(attacks.WeightedPGD(epsilon) for epsilon in (linf / 2, linf, 2 * linf)),
        *(
            kind(linf)
            for kind in (
                attacks.SelectivePGD,
                attacks.OrthogonalPGD,
                attacks.BothPathsPGD,
                attacks.DefendedPathPGD,
                attacks.LogitMatching,
            )
        ),
        attacks.WeightedPGD(l2, norm="L2"),
        attacks.WeightedPGD(l1, norm="L1"),
        attacks.GuardedHopSkipJump(l2),
    ]
    for attack in found:
        attack.for_the_curve = attack.epsilon is not None and attack.epsilon != epsilons[attack.norm]
        if isinstance(attack, attacks.PGD) and attack.epsilon == everything:
            attack.for_a_check = True  # that accuracy falls to 0 as the budget grows
    return found


def attacks_of(asked: Any, target: Target, epsilons: Mapping[Norm, float], notes: list[str]) -> list[Attack]:
    """The attacks that were asked for and that are possible on this target.

    Args:
        asked: "default", None for none, or a list of attacks and names of attacks.
        target: what is attacked.
        epsilons: budgets by norm, for attacks that are given by name.
        notes: a note on attacks that are left out is added.
    """
    if asked is None:
        notes.append("No attacks were asked for: nothing is said of what an attacker can do.")
        return []
    given = default_attacks(epsilons, target.bounds) if asked == "default" else _listed(asked, "attacks")
    found = [_made(attack, epsilons, target) for attack in given]
    if not target.is_one_array:
        what = "texts" if isinstance(target.layout, Text) else "several arrays or a table with columns"
        notes.append(f"Rows are {what}: there are no attacks on such rows.")
        return []
    if not target.is_continuous:
        notes.append("Rows are whole numbers that stand for something, such as tokens: there are no attacks on them.")
        return []
    possible = [attack for attack in found if target.is_open or not attack.needs_gradients]
    if len(possible) < len(found):
        left = ", ".join(dict.fromkeys(attack.name for attack in found if attack not in possible))
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
        reference: rows that tell what is typical of a column.
        notes: a note is added where nothing is tried.
    """
    if asked is None:
        notes.append("No corruptions were asked for: nothing is said of what noise, weather or faults do.")
        return []
    if isinstance(asked, Mapping):
        known = {str(name): _own(name, function) for name, function in asked.items()}
        names = list(known)
    else:
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
    is_first = target.detector.channels_first
    shape = np.shape(X)[1:]
    *sides, channels = (*shape[1:], shape[0]) if is_first else shape
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


def omissions(
    threats: Sequence[Threat],
    rows: Sequence[int],
    used: int,
    given: int,
    *,
    budget: str | None = None,
    baselines: Sequence[str] = (),
) -> str | None:
    """A sentence on what was left out or tried on fewer rows; None if nothing was.

    Args:
        threats: all that were asked for.
        rows: on how many rows each was tried; 0 where a threat was left out.
        used: test rows that were used.
        given: test rows that there were.
        budget: the time that there was, if it was limited.
        baselines: names of the scores that could not be prepared in that time.
    """
    tried = list(zip(threats, rows, strict=True))
    if budget is None:
        few = {f"{threat.title} on {n:,}" for threat, n in tried if n < used}
        return f"Slow attacks were tried on fewer than the {used:,} rows: {'; '.join(sorted(few))}." if few else None
    found = [f"{used:,} of the {given:,} test rows were used"] if used < given else []
    fewer = []
    for kind, knowledge in (
        ("attackers who know the guard", ("white-box",)),
        ("other attackers", ("grey-box", "black-box")),
        ("corruptions", ("corruption",)),
    ):
        counts = {n for threat, n in tried if n and threat.knowledge in knowledge}
        if counts and min(counts) < used:
            fewer.append(f"{kind} on {' to '.join(f'{n:,}' for n in sorted({min(counts), max(counts)}))}")
    found += [f"of these {used:,} rows, {', '.join(fewer)}"] if fewer else []
    count = len({threat.name for threat in threats if isinstance(threat, Corruption)})
    left = _left_out([threat for threat, n in tried if not n], count)
    left += [f"the comparison with {name}" for name in baselines]
    found += [f"left out: {'; '.join(left)}"] if left else []
    return f"To end within {budget}: {'; '.join(found)}." if found else None


def _left_out(missing: Sequence[Threat], count: int) -> list[str]:
    """Attacks by name, those for curves by number; corruptions by name, of so many."""
    missed = [threat for threat in missing if not isinstance(threat, Corruption)]
    named = dict.fromkeys(attack.label for attack in missed if not attack.for_the_curve)
    curves = sum(attack.for_the_curve for attack in missed)
    point = "1 attack with another budget, for a curve"
    other = [point if curves == 1 else f"{curves} attacks with other budgets, for curves"] if curves else []
    severities: dict[str, list[str]] = {}
    for threat in missing:
        if isinstance(threat, Corruption):
            severities.setdefault(threat.name, []).append(str(threat.severity))
    corruptions = [
        name if len(found) == len(SEVERITIES) else f"{name} at severity {', '.join(found)}"
        for name, found in severities.items()
    ]
    if count > 1 and len(corruptions) == count and set(corruptions) == set(severities):
        corruptions = [f"all {count} corruptions"]
    return [*named, *other, *corruptions]
