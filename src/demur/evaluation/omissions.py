"""What an evaluation left out or cut short, in one sentence."""

from collections.abc import Sequence

from demur.evaluation.threats import Corruption, Threat


def omissions(
    threats: Sequence[Threat],
    rows: Sequence[int],
    used: int,
    given: int,
    *,
    budget: str | None = None,
    baselines: Sequence[str] = (),
) -> str | None:
    """Say what was left out or tried on fewer rows; None if nothing was.

    Args:
        threats: all that should be tried.
        rows: on how many rows each was tried; 0 of those that were left out.
        used: test rows that were used.
        given: test rows that there were.
        budget: the time that there was, if it was limited.
        baselines: names of the scores that could not be prepared in that time.
    """
    if budget is None:
        few = {f"{threat.title} on {n:,}" for threat, n in zip(threats, rows, strict=True) if n < used}
        return f"Slow attacks were tried on fewer than the {used:,} rows: {'; '.join(sorted(few))}." if few else None
    found = [f"{used:,} of the {given:,} test rows were used"] if used < given else []
    found += _fewer(threats, rows, used)
    left = _left_out([threat for threat, n in zip(threats, rows, strict=True) if not n], threats)
    left += [f"the comparison with {name}" for name in baselines]
    found += [f"left out: {'; '.join(left)}"] if left else []
    return f"To end within {budget}: {'; '.join(found)}." if found else None


def _fewer(threats: Sequence[Threat], rows: Sequence[int], used: int) -> list[str]:
    """On how many rows threats were tried, in groups."""
    kinds = {
        "attackers who know the guard": [t.knowledge == "white-box" for t in threats],
        "other attackers": [t.knowledge in ("grey-box", "black-box") for t in threats],
        "corruptions": [t.knowledge == "corruption" for t in threats],
    }
    found = []
    for kind, chosen in kinds.items():
        tried = [n for n, is_one in zip(rows, chosen, strict=True) if is_one and n]
        if tried and min(tried) < used:
            least, most = min(tried), max(tried)
            found.append(f"{kind} on {least:,}" + (f" to {most:,}" if most > least else ""))
    return [f"of these {used:,} rows, {', '.join(found)}"] if found else []


def _left_out(missing: Sequence[Threat], threats: Sequence[Threat]) -> list[str]:
    """Threats in groups: attacks by name, those for curves by number, corruptions by name."""
    attacks = [threat for threat in missing if not isinstance(threat, Corruption)]
    named = dict.fromkeys(attack.label for attack in attacks if not attack.for_the_curve)
    curves = sum(attack.for_the_curve for attack in attacks)
    severities: dict[str, list[int]] = {}
    for threat in missing:
        if isinstance(threat, Corruption):
            severities.setdefault(threat.name, []).append(threat.severity)
    count = len({threat.name for threat in threats if isinstance(threat, Corruption)})
    whole = [name for name, found in severities.items() if len(found) == 5]
    if len(whole) == count and count > 1:
        corruptions = [f"all {count} corruptions"]
    else:
        corruptions = [
            name if name in whole else f"{name} at severity {', '.join(map(str, found))}"
            for name, found in severities.items()
        ]
    point = "1 attack with another budget, for a curve"
    other = [point if curves == 1 else f"{curves} attacks with other budgets, for curves"] if curves else []
    return [*named, *other, *corruptions]
