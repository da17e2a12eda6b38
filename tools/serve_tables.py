"""The tables of what `benchmarks/serve.py` has measured: load, a constant rate, minutes of it, faults."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


def measured(part: str) -> Any:
    """A part of the measurements."""
    return json.loads((RESULTS / "serve.json").read_text(encoding="utf-8"))[part]


def load() -> Table:
    """Requests per second with the median and 99th percentile of latency, by server, form of body and connections."""
    found = measured("load")["closed_loop"]
    counts = list(found["demur"]["binary"])
    rows = [
        [f"{server}, {form}", *(cell(by_count[count]) if count in by_count else "" for count in counts)]
        for server, by_form in found.items()
        for form, by_count in by_form.items()
    ]
    heads = ["1 connection" if count == "1" else f"{count} connections" for count in counts]
    return ["server, body", *heads], rows


def cell(one: Any) -> str:
    """A load in a closed loop."""
    errors = sum(one["errors"].values())
    said = f"{one['per_second']:,.0f}/s; {figure(one['p50_ms'])}, {figure(one['p99_ms'])} ms"
    return said + (f"; {errors:,} errors" if errors else "")


def figure(value: float) -> str:
    """Three digits of it."""
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


WAYS = {"evenly": "at equal gaps", "at random": "at random, as of many senders", "by hey": "by hey, which waits"}


def constant() -> Table:
    """Latencies at half of the peak."""
    rows = []
    for way, one in measured("load")["half_of_peak"].items():
        late = figure(one["late_p99_ms"]) if "late_p99_ms" in one else ""
        shown = [f"{one['per_second']:,.0f}", figure(one["p50_ms"]), figure(one["p99_ms"]), f"{one['p99_of_p50']:.1f}x"]
        rows.append([WAYS[way], *shown, others(one["outcomes"]), late])
    return ["requests arrive", "per second", "p50, ms", "p99, ms", "p99 is", "not right", "sent late, p99, ms"], rows


def others(outcomes: Any) -> str:
    """What came beside right answers."""
    return "; ".join(f"{count:,} {what}" for what, count in outcomes.items() if what != "right" and count) or "0"


def soak() -> Table:
    """A long load."""
    found = measured("soak")
    memory = found["memory"]
    over_time = [figure(part["p99_ms"]) for part in found["over_time"]]
    share = f"{100 * found['share_of_peak']:.0f} % of the peak"
    rows = [
        ["load", f"{found['per_second']:,.0f} requests a second, {share}, for {found['seconds']:,} s"],
        ["answers that were right", f"{found['outcomes'].get('right', 0):,}"],
        ["all others", others(found["outcomes"])],
        ["p50 and p99, ms", f"{figure(found['p50_ms'])} and {figure(found['p99_ms'])}"],
        ["p99 of each tenth of the time, ms", ", ".join(over_time)],
        ["memory from the second minute on, MB", f"{memory['settled_mb']:.1f}"],
        ["memory in the last two minutes, MB", f"{memory['last_mb']:.1f}: {100 * memory['grown']:+.1f} %"],
    ]
    return ["", "10 minutes" if found["seconds"] == 600 else f"{found['seconds']} s"], rows


def faults() -> Table:
    """What was done, and what came of it."""
    found = measured("faults")
    rows = [[title, *told(found[name]), "yes" if found[name]["passed"] else "**no**"] for name, title, told in FAULTS]
    return ["fault", "clients meanwhile: right answers", "all others", "what else", "borne"], rows


def right_and_others(one: Any) -> list[str]:
    """Of the clients that know the right answers."""
    return [f"{one['outcomes'].get('right', 0):,}", others(one["outcomes"])]


def killed(one: Any) -> list[str]:
    """How often, and how soon it was well."""
    worst = max(one["seconds_until_answered"])
    lost = f"of {one['clients']} clients' requests, it had {max(one['lost'])} in hand at most"
    return [*right_and_others(one), f"{one['kills']} times; {lost}; answers again after {worst:.1f} s at most"]


def queue_full(one: Any) -> list[str]:
    """How little may wait."""
    return [*right_and_others(one), f"`{one['options']}`, {one['clients']} clients; each 503 says when to come again"]


def malformed(one: Any) -> list[str]:
    """What was sent, and the statuses that it got."""
    own, fuzzed = one["own"], one["schemathesis"]
    total: dict[str, int] = {}
    for statuses in (*own["statuses"].values(), fuzzed["statuses"]):
        for status, count in statuses.items():
            total[status] = total.get(status, 0) + count
    said = ", ".join(f"{count:,} {status}" for status, count in sorted(total.items()))
    return [*right_and_others(one), f"{own['cases']:,} mutations, {fuzzed['cases']:,} of schemathesis: {said}"]


def disconnects(one: Any) -> list[str]:
    """How many, and how the others fared."""
    gone, held = sum(one["left"].values()), one["held_open"]
    closed = f"all closed after {one['all_held_closed_within_seconds']:.0f} s"
    gap = f"at most {1000 * one['longest_gap_seconds']:.0f} ms between two answers"
    return [*right_and_others(one), f"{gone:,} left, {held} held half open, {closed}; {gap}"]


def reloaded(one: Any) -> list[str]:
    """How often, how soon, and who answered."""
    counts = " and ".join(f"{count:,}" for count in one["answers_by_version"].values())
    slowest = f"{one['slowest_reload_seconds']:.1f} s at most until the new one answered"
    return [*right_and_others(one), f"{one['replacements']} times, {slowest}; {counts} answers of the two"]


def stopped(one: Any) -> list[str]:
    """How often, how soon, and what became of requests."""
    ended = f"{one['slowest_stop_seconds']:.1f} s at most"
    statuses = ", ".join(map(str, sorted(set(one["exit_statuses"]))))
    late = sum(count for what, count in one["on_connections_made_after"].items() if what != "right")
    refused = f"{one['lost']} lost; {late:,} refused that connected afterwards"
    return [*right_and_others(one), f"{one['stops']} times, {ended}, exit status {statuses}; {refused}"]


FAULTS = (
    ("killed", "the process that answers is killed", killed),
    ("queue_full", "more ask than may wait", queue_full),
    ("malformed", "malformed requests", malformed),
    ("disconnects", "clients leave, or stay half open", disconnects),
    ("reloaded", "the guard is replaced", reloaded),
    ("stopped", "the server is told to end", stopped),
)
