"""What a report shows, and that it is one file: tables, gallery, drawings, page, command. No backend."""

import base64
import dataclasses
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demur import cli
from demur.calibration.metrics import Estimate, Lead
from demur.calibration.words import NONE, percentage
from demur.errors import MissingExtra, WrongType
from demur.evaluation.comparison import OWN, corrections
from demur.evaluation.result import Comparison, Evaluation
from demur.report import write_report
from demur.report.figures import shortened, svg
from demur.report.gallery import LARGEST, enlarged, gallery, png, value_range
from demur.report.groups import comparison, groups, matrix
from demur.report.page import page
from tests.scaffold.evaluation_example import example

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def text():
    """The page of the example."""
    return page(example())


def with_threats(*threats, **changes):
    return dataclasses.replace(example(), threats=list(threats), **changes)


def threat(title, **changes):
    return dataclasses.replace(next(t for t in example().threats if t.title == title), **changes)


# Tables -----------------------------------------------------------------------------------------------------------


def test_threats_are_grouped_by_knowledge_and_name_and_none_is_lost():
    found = groups(example().threats)
    assert [group.knowledge for group in found] == ["grey-box", "black-box", "white-box", "corruption"]
    assert [t for group in found for attack in group.attacks for t in attack.threats] == example().threats
    assert {attack.model for group in found for attack in group.attacks} == {""}
    apart = groups(
        [threat("FGSM 0.1", model="one."), threat("C&W L2", model="other."), threat("PGD Linf 0.1", model="one.")]
    )
    assert apart[0].meaning == "one."
    assert [attack.model for attack in apart[0].attacks] == ["", "other.", ""]


def test_the_matrix_has_a_place_for_each_severity():
    corruptions = [t for t in example().threats if t.knowledge == "corruption"]
    found = matrix(corruptions[1:])
    assert found.severities == [1, 2, 3, 4, 5]
    assert [name for name, _ in found.rows] == ["gaussian noise", "impulse noise", "gaussian blur"]
    assert found.rows[0][1][0] is None
    assert [t for _, row in found.rows for t in row if t is not None] == corruptions[1:]


def test_each_row_has_its_figures_its_inputs_and_the_means_of_severities():
    names, rows, severally = comparison(example())
    assert names == [OWN, "maximum softmax probability", "entropy", "feature squeezing"]
    assert len(rows) == 16 + 3 + 4
    assert len(severally) == 15
    first = example().threats[0]
    assert rows[0].rows == sum(first.successful)
    assert [cell.tpr for cell in rows[0].cells] == [
        first.detection[name]["successful"]["tpr_at_5_fpr"] for name in names
    ]
    blur = [t for t in example().threats if t.name == "gaussian blur"]
    areas = [t.detection[OWN]["successful"]["auroc"] for t in blur]
    assert rows[-2].cells[0].auroc == pytest.approx(np.mean(areas, axis=0))
    assert (rows[-2].threats, rows[-2].rows) == (5, sum(sum(t.successful) for t in blur))
    assert (rows[-1].title, rows[-1].threats, rows[-1].kind) == ("Corruptions", 15, "all")


def test_scores_are_marked_beyond_chance_alone():
    names = {"C&W L2": (-0.3, 1e-6), "FGSM 0.1": (0.3, 0.06), "gaussian blur": (0.2, 1e-6), "grey-box": (-0.1, 1e-6)}
    made = [Comparison(over, 1, "entropy", Lead(v, v - 0.1, v + 0.1, p)) for over, (v, p) in names.items()]
    attacks = [threat("C&W L2"), threat("FGSM 0.1")]
    blurs = [threat(f"gaussian blur at severity {n}") for n in (1, 2)]
    _, rows, severally = comparison(with_threats(*attacks, *blurs, comparisons=made))
    marks = {row.title: row.cells[2].mark for row in rows + severally}
    assert marks == {
        "C&W L2": "worse",
        "FGSM 0.1": "",
        "Grey-box": "worse",
        "gaussian blur": "better",
        "gaussian blur at severity 1": "",
        "gaussian blur at severity 2": "",
    }
    assert not any(cell.mark for row in rows for cell in row.cells[:2])


def test_corrections_are_marked_beyond_chance_alone():
    sure, lucky = threat("FGSM 0.1", repaired=0, spoiled=40), threat("C&W L2", repaired=9, spoiled=10)
    sure = dataclasses.replace(sure, corrected=Estimate(0.1, 0, 1))
    assert corrections(with_threats(sure, lucky)) == {id(sure): "worse"}


def test_nothing_is_compared_without_baselines():
    alone = [dataclasses.replace(t, detection={OWN: t.detection[OWN]}) for t in example().threats]
    assert comparison(with_threats(*alone)) == ([OWN], [], [])


# Gallery ----------------------------------------------------------------------------------------------------------


def pixels(uri):
    from PIL import Image

    assert uri.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        return np.asarray(image)


def with_example(**changes):
    one = dataclasses.replace(threat("C&W L2").examples[0], **changes)
    return gallery(with_threats(threat("C&W L2", examples=[one])))[0][2][0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("largest", [1, 255])
def test_images_are_shown_as_they_are(channels, largest):
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (3, 5, 6, channels)).astype("float32")
    shown[0, 0, 0], shown[0, 0, 1] = 0, 255
    original, changed, made = shown * np.float32(largest / 255)
    card = with_example(original=original, changed=changed, reconstruction=made)
    for picture, expected in zip([card.pictures[i] for i in (0, 1, 3)], shown, strict=True):
        np.testing.assert_array_equal(pixels(picture.uri).reshape(5, 6, channels), expected)


def test_ranges_are_guessed_from_the_values():
    assert value_range(np.array([0.2, 0.7])) == (0, 1)
    assert value_range(np.array([0, 17.0])) == (0, 255)
    assert value_range(np.array([-1.0]), np.array([0.5])) == (-1, 0.5)
    assert value_range(np.array([0, 3.0])) == (0, 3)
    assert value_range(np.array([-2.0, -2.0])) == (-2, -1)


def test_a_difference_is_enlarged_until_its_largest_fills_the_range():
    original = np.full((1, 3, 1), 0.5, "float32")
    changed = original + np.array([0.05, -0.025, 0], "float32").reshape(1, 3, 1)
    card = with_example(original=original, changed=changed, reconstruction=original)
    assert card.pictures[2].caption == "change \N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}20"
    more, less, same = pixels(card.pictures[2].uri)[0]
    assert tuple(more) == (0xB2, 0x18, 0x2B)
    assert less[2] > less[0]
    assert tuple(same) == (0xF7, 0xF7, 0xF7)
    grey = enlarged(np.array([[[-0.1, 0, 0.1]]], "float32"))
    assert grey.tolist() == [[[0, 128, 255]]]
    assert with_example(changed=card_original()).pictures[2].caption == "no change"


def card_original():
    return threat("C&W L2").examples[0].original


def test_large_images_are_made_smaller_and_broken_numbers_are_black():
    assert max(pixels(png(np.zeros((1000, 500, 3), "uint8"))).shape) == LARGEST
    broken = card_original().copy()
    broken[3, 3] = np.nan
    assert pixels(with_example(reconstruction=broken).pictures[3].uri)[3, 3] == 0


def test_rows_of_numbers_are_a_table_of_what_changed_most():
    original, changed = np.zeros(20, "float32"), np.zeros(20, "float32")
    changed[[3, 7]] = -2, 1
    card = with_example(original=original, changed=changed, reconstruction=original + 1)
    assert card.features[:2] == [("3", f"{MINUS}2", "0", f"{MINUS}2", "1"), ("7", "1", "0", "1", "1")]
    assert [picture.uri for picture in card.pictures] == [None] * 4
    grid = with_example(original=original.reshape(4, 5), changed=changed.reshape(4, 5), reconstruction=None)
    assert grid.features[0] == ("0, 3", f"{MINUS}2", "0", f"{MINUS}2")
    assert grid.pictures[3].caption == "opinion"


def test_classes_have_names_where_there_are_some():
    card = with_example(label=3, before=3, after=99, opinion=3)
    assert [(picture.said, picture.right) for picture in card.pictures] == [
        ("three", True),
        ("99", False),
        (None, None),
        ("three", True),
    ]


def test_corruptions_share_one_heading_and_say_what_was_done():
    shown = [t for t in example().threats if t.examples and t.knowledge == "corruption"]
    heading, _, cards = gallery(with_threats(*shown))[0]
    assert heading == "Corruptions"
    assert [card.title for card in cards] == [t.title for t in shown for _ in t.examples]


# Figures ----------------------------------------------------------------------------------------------------------


def test_a_drawing_has_the_page_s_ink_and_ids_of_its_own():
    def draw(ax):
        ax.plot([0, 1], [0, 1], color="#4477aa", label="<b>&")
        ax.legend()

    one = svg(draw, "a")
    assert one.startswith('<svg viewBox="')
    assert "currentColor" in one
    assert "var(--c4477aa, #4477aa)" in one
    assert "&lt;b&gt;&amp;" in one
    assert "<style" not in one
    assert "://" not in one
    assert all(name.startswith("a-") for name in re.findall(r'\bid="([^"]*)"', one))
    assert one == svg(draw, "a")
    assert one.replace('"a-', '"b-').replace("#a-", "#b-") == svg(draw, "b")


def test_a_drawing_has_settings_of_its_own_and_leaves_the_user_s_alone():
    import matplotlib as mpl

    def draw(ax):
        ax.plot([0, 1], label="one")
        ax.legend()

    usual = svg(draw, "a")
    with mpl.rc_context({"font.size": 31, "axes.edgecolor": "red"}):
        assert svg(draw, "a") == usual
        assert mpl.rcParams["font.size"] == 31


def test_long_names_are_shortened_in_the_middle():
    assert shortened("PGD") == "PGD"
    assert len(shortened("x" * 100 + " 0.05")) <= 41
    assert shortened("x" * 100 + " 0.05").endswith("x 0.05")


# Page -------------------------------------------------------------------------------------------------------------


def test_the_page_is_the_same_whenever_it_is_written(text, tmp_path):
    path = write_report(example(), tmp_path / "a.html")
    assert path == tmp_path / "a.html"
    assert path.read_text(encoding="utf-8") == text


def test_the_page_survives_json(text):
    assert page(Evaluation.from_json(example().to_json())).count("<tr") == text.count("<tr")


def test_the_page_names_no_address_and_runs_nothing(text):
    assert "://" not in text
    assert not re.search(
        r"<(script|iframe|object|embed|link (?!rel=\"icon\" href=\"data:,\"))| on\w+=|javascript:", text
    )
    assert "default-src 'none'" in text


def test_what_is_shown_is_what_was_found(text):
    assert "<title>AdversarialAE: evaluation</title>" in text
    for attack in example().threats:
        assert attack.name.replace("&", "&amp;") in text
        for shown in (attack.corrected, attack.accuracy, attack.flagged):
            low, high = percentage(shown.low), percentage(shown.high)
            assert re.search(
                rf">{percentage(shown.value)}(<b class=\"mark[^/]*</b>)?<i>{low}\N{{EN DASH}}{high}</i>", text
            )
    assert len(re.findall(r'"corrected">[^<]+<b class="mark good" role="img" aria-label="better">', text)) == 31
    for check in example().checks:
        assert check.detail.replace(" %", "\N{NO-BREAK SPACE}%") in text
    assert text.count("Failed: more steps change nothing") == 1
    assert text.index('role="alert"') < text.index("In plain words")
    assert f"Linf: 0.02, 0.05, 0.1, 0.2; L2: {NONE}" in text
    assert "31 min" in text


def test_names_are_text():
    hostile = "<script>alert(1)</script>"
    whole = example()
    text = page(
        dataclasses.replace(
            whole,
            detector=hostile,
            class_names=[hostile] * 10,
            notes=[hostile],
            settings={hostile: [hostile]},
            versions={hostile: hostile},
            threats=[dataclasses.replace(t, name=hostile, model=hostile) for t in whole.threats],
            checks=[dataclasses.replace(check, name=hostile, detail=hostile) for check in whole.checks],
        ),
        title=hostile,
    )
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"threats": [], "worst_cases": [], "checks": [], "notes": [], "settings": {}, "versions": {}},
        {"threshold": [0.1, 0.2, 0.3], "promised_fpr": None},
        {"threats": [dataclasses.replace(t, examples=[]) for t in example().threats[:1]]},
        {"threats": [t for t in example().threats if t.knowledge == "corruption"][:1]},
        {"rows": 1, "class_names": []},
    ],
)
def test_a_page_can_be_made_of_less(changes):
    text = page(dataclasses.replace(example(), **changes))
    assert text.rstrip().endswith("</html>")
    assert "None" not in re.sub(r"None of|None was", "", text)


def test_an_evaluation_without_attacks_says_so():
    assert "No attack was tried." in page(with_threats(checks=[]))
    assert "None was made." in page(with_threats(checks=[]))


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    for package in ("jinja2", "matplotlib", "PIL"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtra, match=r"pip install 'demur\[report\]'"):
                page(example())


@pytest.mark.slow
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    with pytest.raises(WrongType, match=r"Evaluation\.from_json reads it; got str"):
        write_report("evaluation.json", tmp_path / "r.html")
    with pytest.raises(FileNotFoundError, match="make it first"):
        write_report(example(), tmp_path / "none" / "r.html")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_report(example(), tmp_path)
    assert list(tmp_path.iterdir()) == []

    write_report(example(), tmp_path / "r.html", title="before")
    monkeypatch.setattr(Path, "replace", failing)
    for write in (lambda: write_report(example(), tmp_path / "r.html"), lambda: example().to_json(tmp_path / "e.json")):
        with pytest.raises(OSError, match="full"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert "<title>before</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def failing(self, target):
    raise OSError("the disk is full")


# Command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    example().to_json(tmp_path / "evaluation.json")
    return tmp_path / "evaluation.json"


@pytest.mark.slow
def test_the_command_writes_the_page_and_prints_the_summary(written, tmp_path, capsys):
    assert cli.main(["report", str(written), "-o", str(tmp_path / "r.html"), "--title", "Mine"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "\n".join(out[:-1]) == str(Evaluation.from_json(written).summary())
    assert out[-1] == f"written to {tmp_path / 'r.html'}"
    assert "<title>Mine</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_command_names_the_page_after_the_evaluation(written):
    assert cli.main(["report", str(written)]) == 0
    assert written.with_suffix(".html").exists()


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("missing.json", "r.html", "No such file"),
        ("broken.json", "r.html", "is no evaluation that demur wrote"),
        ("evaluation.json", "r.pdf", "a report is written to .html, .htm files; got"),
        ("evaluation.json", "folder.html", "is a folder"),
        ("evaluation.json", "none/r.html", "make it first"),
    ],
)
def test_the_command_says_what_is_wrong(written, tmp_path, capsys, source, out, words):
    (tmp_path / "broken.json").write_text("[]")
    (tmp_path / "folder.html").mkdir()
    assert cli.main(["report", str(tmp_path / source), "-o", str(tmp_path / out)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("demur: error: ")
    assert words in err


@pytest.mark.slow
def test_the_command_needs_no_keras(written, tmp_path):
    heavy = {"keras", "tensorflow", "torch", "jax", "sklearn", "pandas"}
    code = (
        "import sys; from demur import cli; "
        f"assert cli.main(['report', {str(written)!r}, '-o', {str(tmp_path / 'r.html')!r}]) == 0; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.splitlines()[-1] == "[]"
