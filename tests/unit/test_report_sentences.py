"""What a report says in plain words: the worst first, nothing flattered, grammar of none, one and many."""

import dataclasses
import math
import re

import pytest

from demur.calibration.metrics import Estimate, Lead, share
from demur.calibration.words import (
    NONE,
    among,
    count,
    grouped,
    in_short,
    interval,
    listed,
    number,
    percent,
    percentage,
    size,
)
from demur.evaluation.comparison import OWN, RIGHT_ROWS
from demur.evaluation.result import Check, Comparison
from demur.evaluation.sentences import sentences
from demur.report import summary
from demur.report.page import page
from tests.scaffold.evaluation_example import example

MINUS = "\N{MINUS SIGN}"


def with_threats(*threats, **changes):
    return dataclasses.replace(example(), threats=list(threats), **changes)


def threat(title, **changes):
    return dataclasses.replace(next(t for t in example().threats if t.title == title), **changes)


def said(evaluation, word):
    """The one sentence with a word in it."""
    (sentence,) = [one for one in summary(evaluation) if word in one]
    return sentence


# Wording ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, "0.0"), (1, "100.0"), (0.9999, ">99.9"), (0.0001, "<0.1"), (0.125, "12.5"), (0.05, "5.0")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share, expected):
    assert percentage(share) == expected
    assert percent(share) == expected.removesuffix(".0") + " %"


def test_grammar_of_none_one_and_many():
    assert [count(n, "input") for n in (0, 1, 2, 1200)] == ["no inputs", "1 input", "2 inputs", "1,200 inputs"]
    some = [among(*pair, "input") for pair in ((0, 1), (1, 1), (0, 3), (1, 3), (3, 3))]
    assert some == ["none of 1 input", "the only input", "none of 3 inputs", "1 of 3 inputs", "all 3 inputs"]
    assert [listed("abcde"[:n]) for n in (1, 2, 3, 4, 5)] == [
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 1 other",
        "a, b, c and 2 others",
    ]
    assert interval(Estimate(0.05, 0.03, 0.081)) == "3 to 8.1 %"
    shown = [number(value) for value in (None, 3e38, -math.inf, -0.5, 1234.0, 1e-9)]
    assert shown == [NONE, "\N{INFINITY}", f"{MINUS}\N{INFINITY}", f"{MINUS}0.5", "1,234", "1e-09"]
    assert [size(n) for n in (812, 3_400, 999_600, 5e9)] == ["812 B", "3.4 kB", "1 MB", "5 GB"]


def test_what_was_left_out_is_grouped_by_reason_and_severities_count_once():
    fogs = [(f"fog at severity {n}", "no time") for n in range(1, 6)]
    others = [(name, "no time") for name in ("frost", "snow", "PGD 0.1", "SLIDE 12")]
    assert grouped([("energy", "no logits"), *fogs, *others]) == (
        "energy (no logits); fog, frost, snow and 2 others (no time)"
    )


def test_a_note_with_a_list_at_its_end_is_cut():
    corruptions = "; ".join(f"{name} at severity {n}" for name in "abcde" for n in range(1, 6))
    assert in_short(f"Time was up before these were tried: {corruptions}.") == (
        "time was up before these were tried: a, b, c and 2 others"
    )
    assert in_short("PGD was not tried: it takes hours, and days.") == "PGD was not tried: it takes hours, and days"


# Sentences --------------------------------------------------------------------------------------------------------


def test_the_worst_comes_first():
    whole = example()
    worst = max((t for t in whole.threats if t.knowledge != "corruption"), key=lambda t: t.broken)
    first = summary(whole)[0]
    assert first.startswith("An attacker who knows the classifier and the guard gets ")
    assert worst.title in first
    through = round(worst.broken * worst.attempted)
    assert f"gets {through} of {worst.attempted} inputs ({percent(worst.broken)}) through" in first


def test_what_gets_through_is_told_apart_by_whether_it_was_seen():
    attack = threat(
        "C&W L2",
        attempted=100,
        accepted_and_wrong=Estimate(0.02, 0, 1),
        corrected_to_wrong=Estimate(0.05, 0, 1),
    )
    assert said(with_threats(attack), "gets 7 of 100 inputs (7 %) through with C&W L2").endswith(
        ": 2 unflagged and wrong, 5 flagged and then given a wrong class."
    )


def test_a_grey_box_attack_that_is_worse_comes_before_the_white_box_one():
    nothing, everything = Estimate(0, 0, 0), Estimate(1, 1, 1)
    adaptive = threat("adaptive C&W L2", accepted_and_wrong=nothing, corrected_to_wrong=nothing)
    grey = threat("FGSM 0.1", accepted_and_wrong=everything, corrected_to_wrong=nothing)
    first, second = summary(with_threats(adaptive, grey))[:2]
    n = grey.attempted
    assert first.startswith(f"An attacker who knows the classifier, but not the guard, gets all {n} inputs through")
    assert second == (
        f"An attacker who knows the classifier and the guard gets none of {n} inputs through with adaptive C&W L2."
    )


def test_it_says_so_where_no_one_who_knows_the_guard_was_tried():
    for threats in ([], [threat("FGSM 0.1")]):
        assert summary(with_threats(*threats))[0].startswith("No attacker who knows the guard was tried")
    assert not any("was tried" in one for one in summary(example()))


def test_the_worst_of_several_attacks_is_told():
    case = min(example().worst_cases, key=lambda one: one.corrected.value)
    assert f"(Linf 0.1), {percent(case.corrected.value)} of the corrected answers" in said(
        example(), "worst of 2 attacks"
    )


def test_failed_checks_are_told_by_name_and_those_not_made_by_number():
    whole = example()
    assert said(whole, "sanity check") == (
        "1 of 6 sanity checks failed, so take all figures for too good until that is explained. It should hold that "
        "more steps change nothing; 1 could not be made."
    )
    passed = [dataclasses.replace(check, passed=True) for check in whole.checks]
    assert not any("sanity" in one for one in summary(dataclasses.replace(whole, checks=passed)))
    unmade = [dataclasses.replace(check, passed=None) for check in whole.checks]
    assert said(dataclasses.replace(whole, checks=unmade), "sanity") == "All 6 sanity checks could not be made."
    assert "No sanity check was made" in said(dataclasses.replace(whole, checks=[]), "sanity")


def test_rows_that_are_not_what_they_were_taken_for_come_first():
    wrong = Check(RIGHT_ROWS, False, "200 of the 300 rows are among the rows that fit was given.")
    told = summary(dataclasses.replace(example(), checks=[wrong, *example().checks]))
    assert told[0] == (
        "All figures are void until this is explained: 200 of the 300 rows are among the rows that fit was given."
    )


def test_attacks_that_had_not_converged_are_told():
    assert "2 attacks had not converged" in said(example(), "converged")
    one = with_threats(threat("FGSM 0.1", converged=False))
    assert (
        said(one, "converged")
        == "1 attack had not converged at the end (FGSM 0.1): with more steps it may get more through."
    )


@pytest.mark.parametrize(
    ("fpr", "promised", "end"),
    [
        (Estimate(0.04, 0.02, 0.06), 0.05, "; at most 5 % was promised."),
        (Estimate(0.06, 0.04, 0.08), 0.05, "; at most 5 % was promised, and chance alone explains the difference."),
        (Estimate(0.2, 0.1, 0.3), 0.05, ", although at most 5 % was promised: the promise is broken on these inputs."),
        (Estimate(0.2, 0.1, 0.3), None, "; none was promised with this threshold."),
    ],
)
def test_false_alarms_are_held_against_what_was_promised(fpr, promised, end):
    clean = dataclasses.replace(example().clean, fpr=fpr)
    sentence = said(dataclasses.replace(example(), clean=clean, promised_fpr=promised), "false-alarm rate")
    assert sentence.startswith(f"Of 300 unchanged inputs the guard flags {round(300 * fpr.value)}: ")
    assert sentence.endswith(end)


@pytest.mark.parametrize(
    ("corrected", "words"),
    [
        (0.8, "correction leaves 80 %"),
        (0.95, "raises that to 95 %"),
        (0.9, "with correction and without"),
    ],
)
def test_what_correction_does_to_unchanged_inputs_is_told(corrected, words):
    clean = dataclasses.replace(example().clean, accuracy=Estimate(0.9, 0, 1), corrected=Estimate(corrected, 0, 1))
    sure = dataclasses.replace(clean, repaired=0 if corrected < 0.9 else 30, spoiled=30 if corrected < 0.9 else 0)
    chance = dataclasses.replace(clean, repaired=16, spoiled=15)
    assert said(dataclasses.replace(example(), clean=sure), "90 %").endswith(f"{words}.")
    told = said(dataclasses.replace(example(), clean=chance), "90 %")
    assert ("which chance alone explains" in told) is (corrected != 0.9)


def test_what_is_caught_is_told_of_the_least_and_the_most():
    few = threat("FGSM 0.1", successful=[True] * 10 + [False] * 290, flagged=share([1] * 2 + [0] * 8))
    many = threat("C&W L2", successful=[True] * 100 + [False] * 200, flagged=share([1] * 97 + [0] * 3))
    assert said(with_threats(few, many), "the guard catches") == (
        "Against an attacker who knows the classifier, but not the guard, the guard catches 2 of 10 FGSM 0.1 attacks "
        "that fooled the classifier (20 %), the least of 2, and 97 of 100 C&W L2 attacks (97 %), the most, at 5 % "
        "false alarms."
    )
    assert "catches 97 of 100 C&W L2 attacks that fooled the classifier (97 %), at" in said(
        with_threats(many), "catches"
    )
    assert "no larger share of 1 other attack, at" in said(with_threats(many, many), "the guard catches")
    single = threat("FGSM 0.1", successful=[True] + [False] * 299, flagged=share([1]))
    assert "catches the only FGSM 0.1 attack that fooled the classifier, at" in said(
        with_threats(single), "the guard catches"
    )


def test_attacks_that_never_succeed_are_told_and_break_nothing():
    harm = dataclasses.replace(example().threats[0].harm, harmful=0, mean_harmful=None, cohens_d=None, auroc=None)
    idle = [
        dataclasses.replace(
            t,
            successful=[False] * t.rows,
            flagged=None,
            detection={name: {"successful": None, "all": both["all"]} for name, both in t.detection.items()},
            harm=harm,
            distance=dict.fromkeys(t.distance),
        )
        for t in example().threats
    ]
    assert said(with_threats(*idle), "nothing to catch") == (
        "31 threats never fooled the classifier: there was nothing to catch (FGSM 0.05, FGSM 0.1, PGD Linf 0.02 and "
        "28 others)."
    )
    assert "No simpler score was compared" in summary(with_threats(*idle))[-2]
    assert "Attacks" in page(with_threats(*idle))


def test_corruptions_are_told_together():
    two = [threat(f"gaussian noise at severity {n}", successful=[True] * 10 + [False] * 290) for n in (1, 2)]
    found = [dataclasses.replace(t, flagged=share([1] * k + [0] * (10 - k))) for t, k in zip(two, (5, 9), strict=True)]
    assert said(with_threats(*found), "turned").startswith(
        "1 corruption turned 20 right predictions wrong, of which the guard flags 14 (70 %), least of gaussian noise "
        "at severity 1 (5 of 10); its score tells harmful corruption from harmless with an AUROC of "
    )


def test_the_least_is_not_named_of_a_handful_of_rows():
    """One row of one that is not flagged is no worst case: chance picks it."""
    few = threat("FGSM 0.05", successful=[True] + [False] * 299, flagged=share([0]))
    many = threat("C&W L2", successful=[True] * 100 + [False] * 200, flagged=share([1] * 97 + [0] * 3))
    assert "FGSM" not in said(with_threats(few, many), "the guard catches")
    assert "catches none of 1 FGSM 0.05 attack" in said(with_threats(few), "the guard catches")


def corrected(title, before, after, repaired, spoiled):
    return threat(
        title, accuracy=Estimate(before, 0, 1), corrected=Estimate(after, 0, 1), repaired=repaired, spoiled=spoiled
    )


def test_corrections_that_do_harm_beyond_chance_are_told():
    harmed, fine = corrected("FGSM 0.1", 0.5, 0.4, 2, 32), corrected("C&W L2", 0.1, 0.9, 240, 0)
    lucky = corrected("FGSM 0.05", 0.51, 0.5, 12, 15)
    assert said(with_threats(harmed, fine, lucky), "Correction") == (
        "Correction leaves more answers right than the classifier alone under 1 of 3 threats, fewer under 1 (FGSM 0.1: "
        "40 % instead of 50 %) and under the other 1 chance explains the difference (McNemar's test on the same rows, "
        "at 5 % after Holm's correction)."
    )
    assert "under the only threat (McNemar's" in said(with_threats(fine), "Correction")
    assert "right as the classifier alone: under the only threat chance" in said(with_threats(lucky), "Correction")


def test_an_evaluation_of_before_says_what_was_not_tested():
    old = threat("C&W L2", repaired=None, spoiled=None)
    told = [sentence for sentence in sentences(with_threats(old, comparisons=[])) if "earlier demur" in sentence]
    assert [sentence.split()[1] for sentence in told] == ["correction", "a"]


def compared_with(*comparisons, titles=("C&W L2",)):
    """An evaluation of these attacks, in which a baseline leads by so much, with such a p-value."""
    made = [
        Comparison(over, len(titles), baseline, Lead(value, value - 0.1, value + 0.1, p))
        for over, baseline, value, p in comparisons
    ]
    return with_threats(*map(threat, titles), comparisons=made)


def test_only_what_is_better_beyond_chance_is_told():
    own = threat("C&W L2").detection[OWN]["successful"]["auroc"].value
    both = compared_with(("grey-box", "entropy", -0.1, 1e-6), ("grey-box", "feature squeezing", 0.02, 0.3))
    assert said(both, "DeLong") == (
        f"Beyond chance, over 1 grey-box attack no simpler score tells more than the guard's (AUROC {own:.3f}), "
        "and 1 of 2 less (DeLong's test on the same rows, at 5 % after Holm's correction)."
    )
    sure = compared_with(("grey-box", "entropy", -0.1, 0.2), ("grey-box", "feature squeezing", -0.02, 1e-6))
    assert "no simpler score tells more" in said(sure, "DeLong")
    better = compared_with(("grey-box", "entropy", 0.001, 1e-6), ("grey-box", "feature squeezing", -0.02, 1e-6))
    assert f"attack entropy ({own + 0.001:.3f}) tells more than" in said(better, "DeLong")


def test_of_many_comparisons_some_would_be_lucky():
    """A p-value of 3 % is nothing beside thirty others: Holm's correction."""
    lucky, others = ("grey-box", "entropy", 0.1, 0.03), [(f"attack {n}", "entropy", 0.0, 0.9) for n in range(30)]
    assert "no simpler score tells more" in said(compared_with(lucky, *others), "DeLong")
    assert "entropy" in said(compared_with(lucky), "DeLong")


def test_attackers_who_evade_one_score_alone_are_told_apart():
    knowing = compared_with(("white-box", "entropy", 0.3, 1e-6), titles=["adaptive C&W L2"])
    assert "over 1 white-box attack, which evades the guard's score alone, entropy" in said(knowing, "DeLong")


def test_what_was_left_out_is_one_sentence_whatever_the_cause():
    sixty = ", ".join(f"{name} at severity {n}" for name in "abcdefghijkl" for n in range(1, 6))
    notes = ["No comparison with energy (the classifier shows probabilities).", f"Time was up before: {sixty}."]
    told = [one for one in summary(dataclasses.replace(example(), notes=notes)) if "Left out" in one]
    assert told == [
        "Left out or cut short: no comparison with energy (the classifier shows probabilities); time was up before: "
        "a, b, c and 9 others."
    ]
    assert not any("Left out" in one for one in summary(dataclasses.replace(example(), notes=[])))


def test_every_sentence_is_one():
    for sentence in summary(example()):
        assert re.fullmatch(r"[A-Z0-9].*[^.]\.", sentence)
        assert "  " not in sentence
