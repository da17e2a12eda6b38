"""Break a copy of the library in a dozen ways, one at a time, and show which tests of `make test` notice.

    python tools/planted_faults.py [--only EXPRESSION] [--out docs/results/planted-faults.json]

A fault is a piece of the source that occurs there once, and what takes its place. The script fails if such a piece is
not there any more, if the tests fail without a fault, or if a fault is not noticed. It takes some ten minutes.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CHECKED = "tests/contract/test_contract.py::test_reading[AdversarialAE-encoder_and_decoder"
"""The contract, of one detector; a check's name follows."""


class Fault(NamedTuple):
    """A mistake that somebody could make."""

    name: str
    old: str
    """What is in the source, once."""
    new: str
    """What is there by mistake."""
    tests: tuple[str, ...]
    """What must fail then."""


FAULTS = [
    Fault(
        "a wrong sign in the Kullback-Leibler divergence",
        "p, d = ops.exp(log_p), log_q - log_p",
        "p, d = ops.exp(log_p), log_p - log_q",
        ("tests/properties/test_laws.py::test_divergence_is_its_definition",),
    ),
    Fault(
        "the conformal threshold is one rank too low",
        "return n + 1 - allowed",
        "return n - allowed",
        ("tests/unit/test_conformal.py::test_threshold_leaves_no_more_above_than_the_rate_allows",),
    ),
    Fault(
        "a score that equals the threshold is flagged",
        "np.asarray(scored.score > limit)",
        "np.asarray(scored.score >= limit)",
        (f"{CHECKED}-flagged_is_strictly_above_the_threshold]",),
    ),
    Fault(
        "correct() returns the classifier's class",
        'np.where(flagged["is_adversarial"], scored.y_opinion, scored.y)',
        "scored.y.copy()",
        ("tests/parity/test_parity.py::test_corrections_are_those_of_the_backend_that_saved",),
    ),
    Fault(
        "a row that cannot be judged is not flagged",
        'data["is_adversarial"][scored.invalid] = True',
        "pass",
        (f"{CHECKED}-invalid_rows_can_be_flagged]",),
    ),
    Fault(
        "padding takes the place of rows",
        "np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])",
        "np.concatenate([np.repeat(array[-1:], size - len(array), axis=0), array])",
        ("tests/properties/test_laws.py::test_batches_are_the_rows_and_padding_only_repeats_the_last",),
    ),
    Fault(
        "rows of padding are returned",
        "return lambda: [ops.convert_to_numpy(output)[:n] for output in outputs]",
        "return lambda: [ops.convert_to_numpy(output) for output in outputs]",
        ("tests/parity/test_parity.py::test_scores_are_those_of_the_backend_that_saved",),
    ),
    Fault(
        "the order of training ignores the seed",
        "np.random.default_rng(shuffle_seed)",
        "np.random.default_rng()",
        ("tests/contract/test_contract.py::test_fresh[ModelDistillation-kld-a_seed_gives_one_result]",),
    ),
    Fault(
        "an exported guard leaves the temperature in",
        "ops.exp(log_softmax(reference[0] * self.temperature))",
        "ops.exp(reference[0])",
        ("tests/contract/test_export.py::test_probabilities_are_the_classifiers_own_where_nothing_is_flagged",),
    ),
    Fault(
        "an exported file is compared with its detector for one row alone",
        "n = len(next(iter(given.feed.values())))",
        "n = len(given.feed)",
        ("tests/contract/test_export.py::test_a_file_is_compared_with_its_detector_at_two_batch_sizes",),
    ),
    Fault(
        "equal scores do not share their ranks in the drift test",
        "np.cumsum(self.counts) - (self.counts - 1) / 2",
        "np.cumsum(self.counts)",
        ("tests/unit/test_drift.py::test_equal_scores_raise_no_more_false_alarms_than_said",),
    ),
    Fault(
        "the variance of the drift test leaves equal scores out",
        "((self.size + 1) - self.ties / (self.size * (self.size - 1)))",
        "(self.size + 1)",
        ("tests/unit/test_drift.py::test_equal_scores_count_as_scipy_counts_them",),
    ),
    Fault(
        "a detector loses its own settings when it is saved",
        "return {name: getattr(self, name) for name in names}",
        "return {}",
        ("tests/contract/test_own_detectors.py::test_own_settings_are_saved_loaded_and_copied",),
    ),
    Fault(
        "the server gives requests the answers of others",
        "array[start : start + size] for name",
        "array[len(array) - start - size : len(array) - start] for name",
        (
            "tests/serve/test_batching.py"
            "::test_requests_that_arrive_while_one_runs_share_the_next_batch_and_each_gets_its_own_rows",
        ),
    ),
    Fault(
        "a damaged file is loaded",
        'if _sha256(file) != entry["sha256"]:',
        "if not file:",
        ("tests/contract/test_loading.py::test_a_damaged_file_is_named",),
    ),
    Fault(
        "an attack leaves its ball",
        "return np.clip(change, -radius, radius)",
        "return np.clip(change, -2 * radius, 2 * radius)",
        ("tests/unit/test_evaluation_parts.py::test_what_is_projected_is_inside_and_what_is_inside_stays",),
    ),
    Fault(
        "the command line writes p-values into the column of scores",
        'write_table(args.out, {**ids, **found["data"]})',
        'write_table(args.out, {**ids, **found["data"], "instance_score": found["data"].get("p_value")})',
        ("tests/e2e/test_cli.py::test_output_is_what_python_returns",),
    ),
]


def place_of(fault: Fault, library: Path) -> Path:
    """The file that a fault is in.

    Raises:
        SystemExit: the text is not in the library, or more than once.
    """
    counts = {file: file.read_text(encoding="utf-8").count(fault.old) for file in sorted(library.rglob("*.py"))}
    found = [file for file, count in counts.items() for _ in range(count)]
    if len(found) != 1:
        raise SystemExit(f"{fault.name}: src/demur must hold {fault.old!r} once, and holds it {len(found)} times")
    return found[0]


def failures(copy: Path, tests: tuple[str, ...]) -> list[str]:
    """The tests that fail in a copy of the repository; the first of them ends the run.

    Raises:
        SystemExit: pytest did not get as far as running them.
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-rfE", "-m", "not nightly", *tests]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(copy / "src")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise SystemExit(f"pytest ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE) if done.returncode else []


def main() -> int:
    """Plant each fault, and print what finds it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="plant only faults whose names match this expression")
    parser.add_argument("--out", type=Path, help="write what was found to a JSON file")
    args = parser.parse_args()
    faults = [fault for fault in FAULTS if re.search(args.only, fault.name)]
    found: dict[str, dict[str, str | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "demur"
        # The tests read pages, too; an environment and what others have built is left where it is.
        left = shutil.ignore_patterns(".git", ".venv", "site", "__pycache__", "*.pyc")
        shutil.copytree(ROOT, copy, symlinks=True, ignore=left)
        places = [place_of(fault, copy / "src" / "demur") for fault in faults]
        if broken := failures(copy, tuple(test for fault in faults for test in fault.tests)):
            raise SystemExit(f"{broken[0]} fails without a fault")
        for fault, place in zip(faults, places, strict=True):
            sound = place.read_text(encoding="utf-8")
            place.write_text(sound.replace(fault.old, fault.new), encoding="utf-8")
            noticed = failures(copy, fault.tests)
            place.write_text(sound, encoding="utf-8")
            found[fault.name] = {
                "file": str(place.relative_to(copy)),
                "found by": noticed[0].partition("[")[0] if noticed else None,
            }
            print(f"{fault.name} | {found[fault.name]['found by'] or 'NOTHING'}", flush=True)
    if args.out is not None:
        # Of the faults that were not planted this time, what was found before stays.
        before = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
        document = {fault.name: found.get(fault.name) or before.get(fault.name) for fault in FAULTS}
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(one["found by"] is None for one in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
