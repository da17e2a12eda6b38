"""What objects say of themselves: short, complete, and without what only plots and pages need. No backend."""

import copy
import dataclasses
import json
import pickle
import sys

import numpy as np
import pytest

from demur import drift
from demur.calibration.agreement import Agreement
from demur.calibration.harm import HarmCalibration
from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.drift import Monitor
from demur.drift.accuracy import AccuracyResult
from demur.evaluation.result import Evaluation
from demur.guards.description import Description
from demur.guards.facts import facts, promise
from demur.guards.results import CorrectResult, PredictResult, Result
from demur.rows.classes import Classes
from demur.rows.layout import Columns, Field
from demur.summary import WIDTH, Summary
from tests.scaffold.evaluation_example import example

META = {"name": "AdversarialAE", "detector_type": "adversarial", "data_type": None, "online": False, "version": "1"}
MORE = ScoreDistribution.of(np.arange(120.0))
SCORES = np.linspace(0, 1, 100, dtype="float32")


def calibration(**changes):
    found = {"distributions": {None: ScoreDistribution.of(SCORES)}, "threshold": 0.5, "fpr": 0.05}
    return Calibration(**(found | changes))


def decisions(n):
    score = np.linspace(0, 1, n, dtype="float32")
    classes = np.arange(n) % 10
    data = {
        "is_adversarial": score > 0.9,
        "instance_score": score,
        "p_value": 1 - score.astype("float64"),
        "corrected": np.where(score > 0.95, 0, classes),
        "no_defense": classes,
        "defense": np.zeros(n, "int64"),
    }
    return CorrectResult.of(META, data, threshold=0.9)


# Summaries --------------------------------------------------------------------------------------------------------


def test_a_summary_is_a_text_that_a_prompt_and_a_notebook_show():
    summary = Summary("title", {"label": "fact"}, ["A sentence."], [["", "rows"], ["PGD", "1,000"]])
    assert summary == "title\n  label  fact\n- A sentence.\n\n        rows\n  PGD  1,000"
    assert repr(summary) == str(summary)
    for word in ("title", "label", "fact", "<li>A sentence.</li>", ">1,000</td>"):
        assert word in summary._repr_html_()
    assert pickle.loads(pickle.dumps(summary))._repr_html_() == summary._repr_html_()


def test_a_summary_has_eighty_columns_and_keeps_numbers_by_their_units():
    long = " ".join(["any 4.5 % of 3 MB"] * 40)
    summary = Summary(long, {"a": long, "quite a label": long}, [long], [["x" * 200, "1"], ["y", "2"]])
    lines = summary.splitlines()
    assert max(map(len, lines)) == WIDTH
    assert not any(line.endswith(("4.5", "3")) for line in lines)


def test_names_in_a_notebook_are_text():
    hostile = "<script>alert(1)</script>"
    assert "<script" not in Summary(hostile, {hostile: hostile}, [hostile], [[hostile, hostile]])._repr_html_()


# Results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 50, 1_000_000])
def test_results_of_any_length_print_short(n):
    result = decisions(n)
    for text in (str(result), repr(result), result._repr_html_(), str(result["data"]), repr(result["data"])):
        assert len(text) < 2000
    assert f"{int((SCORES > 0.9).sum() * n / 100):,} (10 %), above the threshold of 0.9 nats" in str(result) or n < 100


def test_results_are_dicts():
    result = decisions(30)
    plain = {"meta": dict(result["meta"]), "data": dict(result["data"])}
    assert isinstance(result, dict)
    assert isinstance(result["data"], dict)
    assert list(result) == ["meta", "data"]
    for twin in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result), result.copy()):
        assert type(twin) is Result
        assert twin.summary() == result.summary()
        np.testing.assert_equal(dict(twin["data"]), plain["data"])
    test = drift.test(calibration(), scores=SCORES[:40])
    assert json.loads(json.dumps(test)) == test == {"meta": test["meta"], "data": dict(test["data"])}


def test_a_result_tells_what_was_flagged_by_what_and_how_classes_changed():
    lines = str(decisions(1000)).splitlines()
    assert lines[0] == "AdversarialAE: 1,000 rows"
    assert lines[1] == "  flagged    100 (10 %), above the threshold of 0.9 nats"
    assert lines[2] == "  corrected  45, given another class than the classifier's"
    assert lines[3].startswith("  score      lowest 0, median 0.5, 90 % below 0.9, ")
    data = {"is_adversarial": np.array([True, False]), "instance_score": None, "invalid": np.array([0])}
    assert "so that of these at most 5 % are expected to be normal" in str(PredictResult.of(META, data, level=0.05))
    by_class = str(PredictResult.of(META, data, threshold=np.array([0.1, 0.2])))
    assert "1 (50 %), above its class's threshold" in by_class
    assert "1, which cannot be judged" in by_class


def test_infinite_scores_have_their_sign():
    data = {"instance_score": np.array([0.5, np.inf])}
    assert "highest \N{INFINITY}" in str(Result.of(META, data))


def test_drift_and_accuracy_are_told_in_words():
    scores = ScoreDistribution.of(SCORES).kept
    quiet, loud = (str(drift.test(calibration(), scores=part, alpha=0.01)) for part in (scores[:40], scores[-30:]))
    assert quiet.startswith("No drift: 40 scores of Calibration are no larger than those of normal data")
    assert loud.startswith("Drift: 30 scores of Calibration are larger than those of normal data")
    assert "p-value      < 0.0001, at a level of 0.01" in loud
    estimate = {
        "accuracy": 0.81, "accuracy_interval": (0.7, 0.9), "extrapolated": True, "harmful_fraction": 0.1,
        "harmful_interval": (0.0, 0.2), "reference_accuracy": 0.91, "n": 500,
    }  # fmt: skip
    told = str(AccuracyResult.of(META, estimate))
    assert told.startswith("accuracy of the classifier 81 %, estimated on 500 rows without labels")
    assert "nine times in ten between 70 % and 90 %" in told
    assert "the intervals promise nothing" in " ".join(told.split())
    assert "beware" not in str(AccuracyResult.of(META, estimate | {"extrapolated": False}))


def test_a_monitor_tells_its_promise_and_its_alarms():
    monitor = Monitor(calibration(), alpha=0.01)
    assert "Monitor: no alarm" in monitor.summary()
    assert "the chance of ever raising a false alarm is at most 1 %" in monitor.summary()
    monitor.update(scores=np.full(500, 5.0))
    assert "Monitor: alarm" in monitor.summary()
    assert f"1 alarm, the last after {monitor.alarms[-1].at} scores" in monitor.summary()
    assert "500 scores between two false alarms" in " ".join(
        Monitor(calibration(), method="cusum", run_length=500).summary().replace("or more ", "").split()
    )


# Guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "made", "words"),
    [
        (None, None, "not set: infer_threshold(X_held_out, fpr=0.05)"),
        (0.5, calibration(), "0.5 nats: flags at most 5 % of rows like the 100 it was inferred from"),
        (0.5, None, "0.5 nats; set by hand, it promises nothing"),
        (0.6, calibration(), "0.6 nats; set by hand, it promises nothing"),
        (0.5, calibration(fpr=None, percentage=99.0), "99 % of the 100 rows it was inferred from do not exceed it"),
        (
            0.5,
            calibration(margin=-0.1),
            "0.5 nats, plus a margin of \N{MINUS SIGN}0.1: flags at most 5 % of rows like the ",
        ),
        (0.5, calibration(margin=-0.1), " it was inferred from, which a margin below 0 breaks"),
        (
            0.5,
            calibration(whole={None: MORE}),
            "like the 100 it was inferred from, all of which the classifier gets right",
        ),
    ],
)
def test_a_threshold_is_told_with_what_it_promises(threshold, made, words):
    assert words in promise(threshold, made, ["a", "b"])


def test_thresholds_by_class_are_told_by_name():
    limits = np.array([0.1, 0.25])
    groups = {0: ScoreDistribution.of(SCORES), 1: ScoreDistribution.of(SCORES)}
    found = promise(limits, calibration(distributions=groups, threshold=limits), ["ham", "spam"])
    assert found.startswith(
        "by predicted class, in nats: ham 0.1 and spam 0.25: flags at most 5 % of rows like the 200"
    )


def described(**changes):
    found = {
        "detector": "ModelDistillation", "threshold": 0.5, "layout": Field((28, 28, 1)), "inputs": (), "classes": 2,
        "labels": Classes(2, ("ham", "spam")), "temperature": 0.5, "on_invalid": "flag", "data_type": "image",
        "channels_first": False, "classifier": "ab" * 32, "precision": "int8",
        "versions": {"demur": "1", "backend": "jax"}, "calibration": calibration(), "harm": None,
        "agreement": Agreement(0.96, 1000, 0.95, True), "title": "net",
        "score_type": "kld",
    }  # fmt: skip
    return Description(**(found | changes))


def test_the_facts_of_a_guard():
    assert facts(described()) == {
        "classifier": "net, SHA-256 abababababab",
        "rows": "(n, 28, 28, 1) float32, image",
        "classes": "2: ham and spam",
        "companion": "agrees with the classifier on 96 % of 1,000 held-out rows (95 % interval 94.6 to 97 %), 0.95 "
        "beyond chance",
        "score": "Kullback-Leibler divergence, at a temperature of 0.5",
        "threshold": "0.5 nats: flags at most 5 % of rows like the 100 it was inferred from",
        "p-values": "from 1 down to 0.0099",
        "invalid": "rows that cannot be judged are flagged",
        "precision": "int8",
        "made with": "demur 1 on jax",
    }


def test_a_table_of_many_columns_and_a_detector_before_its_first_rows_are_told_shortly():
    wide = facts(described(layout=Columns(tuple(f"column {i}" for i in range(500)))))
    assert wide["rows"].startswith("a table, 500 columns: column 0, column 1, ")
    assert wide["rows"].endswith("and 494 others, image")
    new = facts(described(layout=None, classes=0, threshold=None, calibration=None, agreement=None, is_trained=False))
    assert (new["rows"], new["companion"]) == ("not known before fit(X)", "not trained yet: fit(X)")
    assert new["threshold"].startswith("not set")


# Evaluations ------------------------------------------------------------------------------------------------------


def test_an_evaluation_prints_its_sentences_and_a_table_of_a_screen(monkeypatch):
    for package in ("matplotlib", "jinja2", "PIL", "markupsafe"):
        monkeypatch.setitem(sys.modules, package, None)
    whole = Evaluation.from_json(example().to_json())
    text = str(whole)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert len(text) < 8000
    assert len(whole._repr_html_()) < 20_000
    flat = " ".join(text.split())
    for sentence in whole.sentences():
        assert sentence in flat
    titles = {t.title for t in whole.of_interest if t.knowledge != "corruption"}
    assert all(any(line.strip().startswith(title) for line in text.splitlines()) for title in titles)


def test_what_holds_scores_or_images_has_a_short_repr():
    whole = example()
    harm = HarmCalibration(
        0.1, 0.2, np.zeros(3), np.zeros(3), 0.9, 0.9, 100, 0.2, 0.0, 0.3, np.zeros(3), np.zeros(200), np.zeros(200)
    )
    for one in (whole, whole.clean, whole.threats[0], whole.threats[6].examples[0], calibration(), harm):
        assert len(repr(one)) < 600, type(one)
    assert len(repr(whole.threats)) < 200 * len(whole.threats)
    assert dataclasses.asdict(whole.clean)["scores"] == whole.clean.scores
