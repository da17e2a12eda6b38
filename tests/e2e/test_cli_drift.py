"""`demur drift` and `demur monitor`, as their user runs them."""

import io
import json

import numpy as np
import pytest

from demur import cli
from demur.drift import Monitor, test
from demur.errors import InvalidSetting
from tests.scaffold import guards
from tests.scaffold.advice import advises, run_raising

OK, FAILED, DRIFT = 0, 1, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector of digits, and batches: as they should be, noisy, and with NaN."""
    folder = tmp_path_factory.mktemp("drift")
    guards.guard("ModelDistillation").save(folder / "guard")
    x = guards.data().test.x[:120]
    noise = np.random.default_rng(0).normal(0, 0.5, x.shape)
    np.savez(folder / "clean.npz", x)
    np.savez(folder / "noisy.npz", x=np.clip(x + noise, 0, 1).astype("float32"))
    np.save(folder / "broken.npy", np.full_like(x, np.nan))
    return folder


def stream(monkeypatch, lines):
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def watch(folder, state, *options):
    return cli.main(["monitor", "--detector", str(folder / "guard"), "--state", str(state), *options])


def said(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_verdict_is_a_sentence_and_an_exit_status(folder, capsys):
    arguments = ["drift", "--detector", str(folder / "guard")]
    assert cli.main([*arguments, str(folder / "clean.npz")]) == OK
    out = capsys.readouterr().out
    assert out.startswith("No drift: 120 scores of ModelDistillation are ")
    assert cli.main([*arguments, f"{folder / 'noisy.npz'}:x", "--alpha", "0.01"]) == DRIFT
    out = capsys.readouterr().out
    assert " ".join(out.split()).startswith(
        "Drift: 120 scores of ModelDistillation are larger than those of normal data p-value < 0.0001, at a level of "
    )
    assert cli.main([*arguments, str(folder / "noisy.npz"), "--method", "ks", "--json"]) == DRIFT
    found = json.loads(capsys.readouterr().out)
    with np.load(folder / "noisy.npz") as batch:
        assert found == json.loads(json.dumps(test(guards.guard("ModelDistillation"), batch["x"], method="ks")))
    assert cli.main([*arguments, str(folder / "broken.npy")]) == FAILED
    assert "X holds NaN, infinity" in capsys.readouterr().err


def test_a_stream_of_rows_and_scores_is_watched(folder, tmp_path, monkeypatch, capsys):
    x = guards.data().test.x[:20]
    with np.load(folder / "noisy.npz") as batch:
        noisy = batch["x"]
    state = tmp_path / "monitor.json"
    stream(monkeypatch, [{"x": x[0].tolist(), "id": "first"}, "\n", {"rows": x[1:].tolist(), "time": 5}])
    assert watch(folder, state, "--alpha", "0.05", "--cooldown", "1000") == OK
    first, second = said(capsys)
    assert first["id"] == "first"
    assert (first["count"], second["count"]) == (1, 20)
    assert second["alarm"] is False
    assert second["log_limit"] == pytest.approx(np.log(40))

    detector = guards.guard("ModelDistillation")
    expected = Monitor(detector, alpha=0.05, cooldown=1000).update(x).update(noisy)
    stream(monkeypatch, [{"scores": detector.score(noisy).tolist(), "time": 6}, {"score": 0.1}])
    assert watch(folder, state) == DRIFT
    found = said(capsys)
    assert [line["alarm"] for line in found] == [True, True]
    assert found[0]["count"] == expected.count == 140
    kept = Monitor.load(state, detector=detector)
    assert [alarm.at for alarm in kept.alarms] == [alarm.at for alarm in expected.alarms]
    assert kept.count == 141

    stream(monkeypatch, [])
    assert watch(folder, state, "--alpha", "0.05") == DRIFT
    assert watch(folder, state, "--alpha", "0.01") == FAILED
    assert "was begun with alpha 0.05" in capsys.readouterr().err
    with advises(InvalidSetting, "leave the option out, or begin a state in another file"):
        run_raising("monitor", "--detector", folder / "guard", "--state", state, "--alpha", "0.01")
    assert watch(folder, state) == DRIFT
    assert watch(folder, tmp_path / "another.json", "--alpha", "0.01") == OK


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json\n", "line 2 is no JSON"),
        ({"y": 1}, 'line 2 needs one of "x", "rows", "score" and "scores"; got {"y": 1}'),
        ({"x": [1], "score": 1}, "line 2 needs one of"),
        ({"score": "high"}, 'line 2: "score" must hold numbers; got high'),
        ({"score": {"nats": 1}}, 'line 2: "score" must hold numbers'),
        ({"scores": [1, [2, 3]]}, 'line 2: "scores" must hold numbers, in lists of one length each: [1, [2, 3]]'),
        ({"rows": [[1.0, 2.0], [3.0]]}, 'line 2: "rows" must hold numbers, in lists of one length each'),
        ({"scores": [1.0, None]}, "line 2: 1 of 2 scores are not finite"),
        ({"scores": []}, "line 2: there are no scores"),
        ({"x": [1.0]}, "line 2: "),
        ({"score": 1.0, "time": 0}, "line 2: time goes backwards, to 0 after 1"),
        ('{"score": NaN}\n', "line 2: 1 of 1 scores are not finite"),
    ],
)
def test_a_bad_line_is_named_and_what_came_before_is_kept(line, message, folder, tmp_path, monkeypatch, capsys):
    stream(monkeypatch, [{"score": 0.5, "time": 1}, line])
    assert watch(folder, tmp_path / "monitor.json") == FAILED
    assert message in capsys.readouterr().err
    assert Monitor.load(tmp_path / "monitor.json", detector=guards.guard("ModelDistillation")).count == 1


def test_the_state_of_another_detector_is_refused(folder, tmp_path, monkeypatch, capsys):
    Monitor(guards.guard("AdversarialAE")).save(tmp_path / "monitor.json")
    stream(monkeypatch, [{"score": 1.0}])
    assert watch(folder, tmp_path / "monitor.json") == FAILED
    assert "is the state of a monitor of another detector" in capsys.readouterr().err
