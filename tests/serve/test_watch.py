"""What a watch says of a stream, keeps of it over restarts, and survives."""

import io
import json
import threading
import warnings

import numpy as np
import orjson
import pytest
from PIL import Image

from demur.calibration.thresholds import Calibration, ScoreDistribution, conformal_threshold
from demur.drift.monitor import Monitor
from demur.errors import InvalidSetting, MissingExtra
from demur.rows.layout import Field
from demur.serve.settings import Settings
from demur.serve.watching import watch as module
from demur.serve.watching.recent import RECONSTRUCTIONS, Recent, image_shape, pixels, png
from demur.serve.watching.summary import LAST, PARTS, POINTS, Lately, Rates, Trace, binned, calibration_rate, log_edges
from demur.serve.watching.telemetry import Telemetry
from demur.serve.watching.watch import SAVE_EVERY, Watch
from tests.scaffold.serve_fakes import FakeGuard, images, until
from tests.serve.test_alarms import Receiver
from tests.serve.test_telemetry import samples, value


class Clock:
    """Stands still until it is told."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def guard():
    return FakeGuard(on_invalid="flag")


@pytest.fixture
def watching(clock, monkeypatch):
    """Makes watches whose thread does nothing: tests call `work`."""
    made = []
    monkeypatch.setattr(Watch, "_start", lambda self: None)

    def make(guard, telemetry=None, *, name="digits", **settings):
        more = {key: settings.pop(key) for key in ("keep", "version") if key in settings}
        telemetry = Telemetry() if telemetry is None else telemetry
        one = Watch(guard, name, telemetry, Settings(**settings), clock=clock, **more)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def said(scores, threshold, classes=None):
    """What a guard says of rows with these scores."""
    scores = np.asarray(scores, "float32")
    classes = np.zeros(len(scores), "int64") if classes is None else np.asarray(classes)
    return {
        "instance_score": scores,
        "is_adversarial": ~(scores <= threshold),
        "corrected": classes,
        "no_defense": classes,
    }


def feed(watch, scores, **more):
    scores = np.asarray(scores, "float32")
    watch.saw({"x": images(len(scores))}, said(scores, watch.guard.threshold, **more))


def normal(guard, n, seed=3):
    return guard.run({"x": images(n, seed)})["instance_score"]


def logged(caplog, level="ERROR"):
    return [record for record in caplog.records if record.levelname == level]


# Figures


def test_before_anything_came_there_is_a_summary(watching, guard):
    found = json.loads(orjson.dumps(watching(guard).summary()))
    assert (found["count"], found["flagged"], found["invalid"]) == (0, 0, 0)
    assert found["drift"]["watched"]
    assert found["drift"]["trace"] == [[0, 0.0]]
    assert found["recent"] == []
    assert found["calibration"] == {"size": 400, "promised": 0.05, "rate": 19 / 400}
    assert sum(found["histogram"]["calibration"]) == pytest.approx(1)
    assert found["input"] == {"name": "x", "kind": "hwc", "height": 8, "width": 8, "channels": 1, "dtype": "float32"}


def test_a_summary_counts_all_that_was_seen(watching, guard, clock):
    telemetry = Telemetry()
    watch = watching(guard, telemetry)
    scores = normal(guard, 300)
    for part in np.array_split(scores, 11):
        feed(watch, part)
        clock.now += 1.0
    found = json.loads(orjson.dumps(watch.summary()))
    flagged = int((scores > guard.threshold).sum())
    assert 0 < flagged < 60
    assert (found["count"], found["flagged"]) == (300, flagged)
    assert found["lately"] == {"count": 300, "flagged": flagged}
    assert sum(found["rates"]["counts"]) == 300
    assert sum(found["rates"]["flagged"]) == flagged
    assert sum(found["histogram"]["live"]) == 300
    edges = np.array(found["histogram"]["edges"])
    assert guard.threshold in edges
    assert sum(np.array(found["histogram"]["live"])[edges[:-1] >= guard.threshold]) == flagged
    assert found["drift"]["count"] == 300
    assert value(telemetry, "demur_inputs_total", model="digits") == 300
    assert value(telemetry, "demur_flagged_total", model="digits") == flagged
    assert value(telemetry, "demur_drift_log_evidence", model="digits") == found["drift"]["log_evidence"]


def test_the_monitor_is_fed_as_one_would_feed_it_oneself(watching, guard):
    watch, scores = watching(guard), normal(guard, 500)
    for part in np.array_split(scores, 13):
        feed(watch, part)
        watch.flush()
    alone = Monitor(guard.calibration).update(scores=scores)
    assert watch.summary()["drift"]["log_evidence"] == pytest.approx(alone.log_evidence, abs=1e-9)


def test_much_is_looked_at_in_steps(watching, guard, monkeypatch):
    monkeypatch.setattr(module, "STEP", 7)
    telemetry, sizes = Telemetry(), []
    judged = telemetry.judged
    monkeypatch.setattr(
        telemetry, "judged", lambda model, *arrays: sizes.append(len(arrays[0])) or judged(model, *arrays)
    )
    watch, scores = watching(guard, telemetry), normal(guard, 30)
    for part in np.array_split(scores, 3):
        feed(watch, part)
    watch.flush()
    assert sizes == [7, 7, 7, 7, 2]
    alone = Monitor(guard.calibration).update(scores=scores)
    assert watch.summary()["drift"]["log_evidence"] == pytest.approx(alone.log_evidence, abs=1e-9)


def test_what_cannot_be_judged_is_counted_and_not_fed(watching, guard):
    watch = watching(guard)
    feed(watch, [np.nan, np.inf, guard.threshold / 2, -np.inf])
    found = watch.summary()
    assert (found["count"], found["flagged"], found["invalid"], found["drift"]["count"]) == (1, 0, 3, 1)
    feed(watch, [np.nan])
    assert watch.summary()["invalid"] == 4


def test_metrics_hold_what_was_seen_a_moment_ago(watching, guard):
    telemetry = Telemetry()
    watch = watching(guard, telemetry)
    feed(watch, [0.1, 0.2])
    assert value(telemetry, "demur_inputs_total", model="digits") == 2


def test_arrays_of_the_caller_may_be_used_again(watching, guard):
    watch = watching(guard)
    rows, outputs = images(2), said([1e-3, 2 * guard.threshold], guard.threshold)
    watch.saw({"x": rows}, outputs)
    before = rows[1].copy()
    rows[:] = 0
    for array in outputs.values():
        array[...] = 0
    watch.work()
    found = watch.summary()
    assert (found["count"], found["flagged"]) == (2, 1)
    assert found["recent"][0]["score"] == pytest.approx(2 * guard.threshold)
    shown = Image.open(io.BytesIO(watch.picture(found["recent"][0]["id"], "input")))
    assert np.asarray(shown).tolist() == np.rint(255 * before[..., 0]).astype(int).tolist()


def test_whoever_brings_too_much_counts_it_so_that_memory_is_bounded(watching, guard, monkeypatch):
    monkeypatch.setattr(module, "PENDING", 100)
    watch = watching(guard, keep=0)
    for _ in range(50):
        feed(watch, np.full(30, 0.1))
        assert sum(len(one[0]) for one in watch._pending) <= 130
    assert watch.summary()["count"] == 1500


def test_a_thread_of_its_own_does_the_rest(guard):
    watch = Watch(guard, "digits", Telemetry())
    try:
        watch.saw({"x": images(2)}, said([1e-3, 2 * guard.threshold], guard.threshold))
        until(lambda: watch.summary()["recent"])
        until(lambda: watch.summary()["recent"][0]["pictures"] == ["input", "reconstruction"])
    finally:
        watch.close()
    assert not any("demur-watch" in thread.name and thread.is_alive() for thread in threading.enumerate())


def test_threads_that_answer_at_once_lose_nothing(guard):
    watch = Watch(guard, "digits", Telemetry())
    scores = normal(guard, 50)

    def answer():
        for _ in range(40):
            watch.saw({"x": images(50)}, said(scores, guard.threshold))

    threads = [threading.Thread(target=answer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        watch.summary()
    for thread in threads:
        thread.join()
    watch.close()
    assert watch.summary()["count"] == 4 * 40 * 50


# Drift


def drifted(guard, n=200):
    return np.full(n, 5 * guard.threshold)


def test_an_alarm_is_logged_counted_and_sent_once(watching, guard, caplog):
    receiver = Receiver()
    try:
        telemetry = Telemetry()
        watch = watching(guard, telemetry, webhooks=[receiver.url], version="v7")
        feed(watch, normal(guard, 100))
        feed(watch, drifted(guard))
        feed(watch, drifted(guard))
        drift = watch.summary()["drift"]
        assert drift["alarm"]
        assert drift["alarm_count"] == 1
        assert 100 < drift["alarms"][0]["at"] < 150
        assert drift["alarms"][0]["time"] == 1_700_000_000.0
        delivered = ("demur_webhook_deliveries_total", ("model", "digits"), ("outcome", "delivered"))
        until(lambda: samples(telemetry).get(delivered) == 1)
    finally:
        receiver.close()
    (event,) = receiver.events
    data = event["data"]
    assert event["subject"] == data["model"] == "digits"
    assert (data["version"], data["method"], data["alpha"]) == ("v7", "martingale", 0.01)
    assert data["scores"] == drift["alarms"][0]["at"]
    assert data["evidence"] >= data["limit"] == pytest.approx(200)
    (line,) = logged(caplog, "WARNING")
    assert "drift" in line.getMessage()
    assert line.demur["scores"] == data["scores"]
    assert value(telemetry, "demur_drift_alarm", model="digits") == 1
    assert value(telemetry, "demur_drift_alarms_total", model="digits") == 1


def test_a_receiver_that_is_not_there_does_not_hold_anybody_up(watching, guard):
    gone = Receiver()
    gone.close()
    watch = watching(guard, webhooks=[gone.url])
    feed(watch, drifted(guard))
    assert watch.summary()["drift"]["alarm"]


def test_an_alarm_stays_until_it_is_reset(watching, guard, tmp_path):
    telemetry = Telemetry()
    watch = watching(guard, telemetry, state=tmp_path)
    feed(watch, drifted(guard))
    feed(watch, normal(guard, 100))
    assert watch.summary()["drift"]["alarm"]
    watch.reset()
    drift = watch.summary()["drift"]
    assert not drift["alarm"]
    assert drift["alarm_count"] == 1
    assert value(telemetry, "demur_drift_alarm", model="digits") == 0
    assert not Monitor.load(tmp_path / "digits.json", detector=guard.calibration).alarm


def test_an_alarm_that_is_ended_while_it_is_written_does_not_come_back(watching, guard, tmp_path, monkeypatch):
    watch = watching(guard, state=tmp_path)
    write, ending = watch._file.write, threading.Thread(target=watch.reset)

    def slowly(state):
        if ending.ident is None:
            ending.start()
            ending.join(0.3)  # it may wait for the end of this, and then must write again
        write(state)

    monkeypatch.setattr(watch._file, "write", slowly)
    feed(watch, drifted(guard))
    watch.flush()
    watch.save()
    ending.join(20)
    assert not watch.summary()["drift"]["alarm"]
    assert not Monitor.load(tmp_path / "digits.json", detector=guard.calibration).alarm


def test_a_clock_that_is_set_back_does_not_end_the_watch(watching, guard, clock, caplog):
    watch = watching(guard)
    for step in (0, 10, -3600, 5):
        clock.now += step
        feed(watch, normal(guard, 20))
        assert watch.summary()["time"] == clock.now
    assert watch.summary()["drift"]["count"] == 80
    assert logged(caplog) == []


def test_classes_have_their_own_calibration_and_unknown_ones_say_nothing_of_drift(watching, guard, caplog):
    scores = normal(guard, 400)
    threshold = np.full(10, np.inf)
    threshold[:2] = conformal_threshold(scores[:200], 0.05), conformal_threshold(scores[200:], 0.05)
    parts = {0: ScoreDistribution.of(scores[:200]), 1: ScoreDistribution.of(scores[200:])}
    guard.calibration, guard.threshold = Calibration(parts, threshold, 0.05), threshold
    watch = watching(guard)
    watch.saw({"x": images(4)}, said([0.1, 0.2, 0.3, 0.4], 1.0, classes=[0, 1, 7, 0]))
    found = json.loads(orjson.dumps(watch.summary()))
    assert (found["count"], found["drift"]["count"]) == (4, 3)
    assert found["threshold"] == [threshold[:2].min(), threshold[:2].max()]
    assert found["calibration"]["rate"] == pytest.approx(18 / 400)
    assert logged(caplog) == []


def test_inputs_that_depend_are_logged_once_and_every_nth_is_the_remedy(watching, guard, caplog):
    repeated = np.repeat(np.random.default_rng(0).permutation(np.resize(normal(guard, 400), 1000)), 5)
    watch = watching(guard)
    for part in np.array_split(repeated, 9):
        feed(watch, part)
        watch.flush()
    said = watch.summary()["drift"]
    (record,) = [record for record in logged(caplog, "WARNING") if "alike" in record.getMessage()]
    assert "alike" in said["dependence"]  # with a number that may have become more exact
    every = int(record.getMessage().rsplit("--every ", 1)[1])
    assert 5 <= every <= 15
    thinned = watching(guard, every=every)
    for part in np.array_split(np.tile(repeated, 3), 9):
        feed(thinned, part)
        thinned.flush()
    found = thinned.summary()["drift"]
    assert (found["every"], found["dependence"]) == (every, None)
    assert found["count"] == -(-15_000 // every)
    assert len([record for record in logged(caplog, "WARNING") if "alike" in record.getMessage()]) == 1


def test_all_calibration_rows_are_what_inputs_are_compared_with(watching, guard):
    """Thresholds may be inferred from the rows that the classifier gets right."""
    scores = normal(guard, 400)
    right = ScoreDistribution.of(np.sort(scores)[:300])
    guard.calibration = Calibration({None: right}, guard.threshold, 0.05, whole={None: ScoreDistribution.of(scores)})
    watch = watching(guard)
    found = watch.summary()
    assert found["calibration"] == {"size": 400, "promised": 0.05, "rate": float(np.mean(scores > guard.threshold))}
    feed(watch, np.random.default_rng(1).permutation(scores))
    watch.flush()
    assert not watch.summary()["drift"]["alarm"]


def test_without_calibration_it_says_so_and_counts(watching, guard):
    guard.calibration = None
    watch = watching(guard)
    feed(watch, [0.1, 1e6])
    found = json.loads(orjson.dumps(watch.summary()))
    assert found["drift"] == {"watched": False, "why": "not calibrated"}
    assert found["calibration"] is None
    assert (found["count"], found["flagged"], sum(found["histogram"]["live"])) == (2, 1, 2)


def test_it_can_be_switched_off(watching, guard, tmp_path):
    watch = watching(guard, monitor=False, state=tmp_path)
    feed(watch, drifted(guard))
    assert watch.summary()["drift"] == {"watched": False, "why": "switched off"}
    watch.close()
    assert list(tmp_path.iterdir()) == []


def test_without_scipy_it_counts_and_says_what_to_install(watching, guard, monkeypatch):
    def missing(*args, **kwargs):
        raise MissingExtra("scipy", "drift")

    monkeypatch.setattr(module, "Monitor", missing)
    watch = watching(guard)
    feed(watch, [0.1])
    found = watch.summary()
    assert found["count"] == 1
    assert "demur[drift]" in found["drift"]["why"]


# State


def test_evidence_goes_on_over_a_restart(watching, guard, tmp_path):
    scores = normal(guard, 600)
    first = watching(guard, state=tmp_path)
    feed(first, scores[:250])
    first.close()
    second = watching(guard, state=tmp_path)
    assert second.summary()["drift"]["count"] == 250
    feed(second, scores[250:])
    alone = Monitor(guard.calibration).update(scores=scores)
    assert second.summary()["drift"]["log_evidence"] == pytest.approx(alone.log_evidence, abs=1e-9)


def test_an_alarm_is_not_raised_again_after_a_restart(watching, guard, tmp_path):
    watch = watching(guard, state=tmp_path)
    feed(watch, drifted(guard))
    watch.work()  # and then it is killed: no close
    telemetry = Telemetry()
    again = watching(guard, telemetry, state=tmp_path)
    feed(again, drifted(guard))
    assert again.summary()["drift"]["alarm_count"] == 1
    assert value(telemetry, "demur_drift_alarms_total", model="digits") == 0
    assert value(telemetry, "demur_drift_alarm", model="digits") == 1


def test_it_writes_every_few_seconds_at_most_and_only_news(watching, guard, tmp_path, clock, monkeypatch):
    written = []
    monkeypatch.setattr(module, "write_text", lambda path, text: written.append((clock.now, json.loads(text)["count"])))
    watch, begin = watching(guard, state=tmp_path), clock.now
    for _ in range(100):
        feed(watch, [0.1])
        watch.work()
        clock.now += SAVE_EVERY / 10
    for _ in range(100):
        watch.work()
        clock.now += SAVE_EVERY / 10
    assert [(round(when - begin, 6), count) for when, count in written[:2]] == [(0, 1), (SAVE_EVERY, 11)]
    assert np.diff([when for when, _ in written]).min() >= SAVE_EVERY - 1e-6
    assert written[-1][1] == 100
    assert len(written) == 11


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.parametrize("content", [b"", b"{}", b"not JSON", b"\xff\xfe", b'{"format": 99}', b"[1, 2]"])
def test_a_state_that_cannot_be_read_is_kept_aside(watching, guard, tmp_path, caplog, content):
    (tmp_path / "digits.json").write_bytes(content)
    watch = watching(guard, state=tmp_path)
    feed(watch, normal(guard, 10))
    watch.close()
    assert only(tmp_path, "digits.unreadable-*.json").read_bytes() == content
    assert Monitor.load(tmp_path / "digits.json", detector=guard.calibration).count == 10
    (line,) = logged(caplog, "WARNING")
    assert "moved to digits.unreadable-20231114T221320.json" in line.getMessage()


def test_states_kept_aside_do_not_take_each_others_place(watching, guard, tmp_path):
    for content in (b"one", b"two", b"three"):
        (tmp_path / "digits.json").write_bytes(content)
        watching(guard, state=tmp_path)
    assert {path.read_bytes() for path in tmp_path.glob("*unreadable*")} == {b"one", b"two", b"three"}


def test_a_state_of_another_calibration_is_kept_aside(watching, guard, tmp_path):
    first = watching(FakeGuard(seed=9), state=tmp_path)
    feed(first, [0.1] * 7)
    first.close()
    assert watching(guard, state=tmp_path).summary()["drift"]["count"] == 0
    assert json.loads(only(tmp_path, "digits.other-calibration-*.json").read_text())["count"] == 7


def test_a_state_of_other_settings_is_kept_aside(watching, guard, tmp_path):
    first = watching(guard, state=tmp_path)
    feed(first, [0.1] * 7)
    first.close()
    again = watching(guard, state=tmp_path, alpha=0.001).summary()["drift"]
    assert (again["count"], again["alpha"]) == (0, 0.001)
    assert only(tmp_path, "digits.other-settings-*.json")


def test_a_folder_is_made_and_a_name_never_leaves_it(watching, guard, tmp_path):
    watch = watching(guard, name="../up/..", state=tmp_path / "new" / "state")
    feed(watch, [0.1])
    watch.close()
    assert [path.name for path in tmp_path.rglob("*.json")] == ["..%2Fup%2F...json"]


def test_a_folder_that_cannot_be_made_is_said_at_once(watching, guard, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="name another"):
        watching(guard, state=tmp_path / "file" / "state")


def test_a_disk_that_is_full_is_told_once_and_serving_goes_on(watching, guard, tmp_path, clock, monkeypatch, caplog):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_text", full)
    watch = watching(guard, state=tmp_path)
    for _ in range(5):
        feed(watch, [0.1])
        watch.work()
        clock.now += SAVE_EVERY
    assert watch.summary()["count"] == 5
    assert len(logged(caplog)) == 1
    monkeypatch.undo()
    watch.save()
    assert Monitor.load(tmp_path / "digits.json", detector=guard.calibration).count == 5


# What fails, and what is replaced


def test_what_fails_is_told_once_a_kind_and_touches_no_answer(watching, guard, monkeypatch, caplog):
    telemetry = Telemetry()
    watch = watching(guard, telemetry)

    def broken(*args, **kwargs):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(watch._monitor, "update", broken)
    for _ in range(3):
        feed(watch, [0.1])
        watch.saw({}, {})
        watch.flush()
    assert watch.summary()["count"] == 3
    assert [record.exc_info[0] for record in logged(caplog)] == [KeyError, ZeroDivisionError]
    assert value(telemetry, "demur_watch_failures_total", model="digits", kind="ZeroDivisionError") == 3


def test_a_guard_that_fails_at_a_reconstruction_does_not_end_the_rest(watching, guard, monkeypatch, caplog):
    watch = watching(guard)
    monkeypatch.setattr(guard, "run", lambda *args, **kwargs: 1 / 0)
    feed(watch, [2 * guard.threshold])
    watch.work()
    watch.work()
    assert watch.summary()["recent"][0]["pictures"] == ["input"]
    assert len(logged(caplog)) == 1


def test_a_guard_of_the_same_calibration_goes_on(watching, guard, tmp_path):
    watch = watching(guard, state=tmp_path)
    feed(watch, normal(guard, 30))
    new = FakeGuard(on_invalid="flag")
    watch.replaced(new)
    found = watch.summary()
    assert watch.guard is new
    assert (found["count"], found["drift"]["count"]) == (30, 30)


def test_a_guard_of_another_calibration_begins_anew_and_the_evidence_is_kept_aside(watching, guard, tmp_path):
    telemetry = Telemetry()
    watch = watching(guard, telemetry, state=tmp_path)
    feed(watch, drifted(guard))
    new = FakeGuard(seed=4)
    watch.replaced(new)
    found = watch.summary()
    assert (found["count"], found["drift"]["count"], found["drift"]["alarm"]) == (0, 0, False)
    assert found["threshold"] == [new.threshold] * 2
    assert value(telemetry, "demur_drift_alarm", model="digits") == 0
    assert json.loads(only(tmp_path, "digits.other-calibration-*.json").read_text())["count"] == 200
    feed(watch, normal(new, 5))
    watch.close()
    assert Monitor.load(tmp_path / "digits.json", detector=new.calibration).count == 5


def test_a_guard_that_lost_its_calibration_is_watched_no_more(watching, guard):
    watch = watching(guard)
    new = FakeGuard()
    new.calibration = None
    watch.replaced(new)
    feed(watch, [0.1])
    assert watch.summary()["drift"]["watched"] is False
    assert watch.summary()["count"] == 1


# Flagged inputs


def test_the_last_flagged_are_kept_the_newest_first(watching, guard, clock):
    watch = watching(guard, keep=3)
    for i in range(8):
        feed(watch, [0.1, (2 + i) * guard.threshold])
        watch.work()
        clock.now += 1
    found = watch.summary()["recent"]
    assert [one["score"] for one in found] == pytest.approx([(2 + i) * guard.threshold for i in (7, 6, 5)])
    assert [clock.now - one["time"] for one in found] == [1, 2, 3]
    assert watch.picture(found[0]["id"], "input").startswith(b"\x89PNG")
    assert watch.picture(found[0]["id"], "other") is None
    assert watch.picture(1, "input") is None


def test_a_flood_of_flagged_inputs_takes_no_more_memory(watching, guard):
    watch = watching(guard, keep=3)
    for _ in range(20):
        feed(watch, drifted(guard, 50))
        assert len(watch._recent._offered) <= 3
    watch.work()
    assert len(watch.summary()["recent"]) == 3
    assert len(watch._recent._kept) <= 6


def test_reconstructions_are_few_a_second_and_off_the_way(watching, guard, clock):
    watch = watching(guard, keep=6)
    feed(watch, drifted(guard, 6))
    assert guard.calls == []
    done = []
    for _ in range(200):
        watch.work()
        done.append(len(guard.calls))
        clock.now += 0.01
    assert guard.calls == [(1, ("reconstruction",))] * 6
    assert np.diff([0, *done]).max() == 1
    assert done[99] <= RECONSTRUCTIONS
    assert all("reconstruction" in one["pictures"] for one in watch.summary()["recent"])
    assert not watch._recent.waits()


def test_nothing_is_kept_where_none_are_wanted(watching, guard):
    watch = watching(guard, keep=0)
    feed(watch, drifted(guard, 5))
    watch.work()
    assert watch.summary()["recent"] == []


def test_rows_of_numbers_are_kept_as_numbers_where_they_are_few(watching):
    for features, expected in ((5, 5), (64, 64), (65, None)):
        guard = FakeGuard(shape=(features,))
        del guard.outputs["reconstruction"]
        watch = watching(guard)
        rows = images(1, shape=(features,))
        rows[0, 0] = np.nan
        watch.saw({"x": rows}, said([2 * guard.threshold], guard.threshold))
        watch.work()
        (one,) = watch.summary()["recent"]
        assert one["pictures"] == []
        assert (one["values"] is None) == (expected is None)
        if expected:
            assert one["values"][0] is None
            assert one["values"][1:] == pytest.approx(rows[0, 1:].tolist())


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((28, 20), ("hw", 28, 20, 1)),
        ((28, 20, 1), ("hwc", 28, 20, 1)),
        ((28, 20, 3), ("hwc", 28, 20, 3)),
        ((1, 28, 20), ("chw", 28, 20, 1)),
        ((3, 28, 20), ("chw", 28, 20, 3)),
        ((None, None, 3), ("hwc", None, None, 3)),
        ((28, 20, 4), None),
        ((28,), None),
        ((28, 2), None),
        ((3, 28, 28, 1), None),
    ],
)
def test_shapes_of_pictures(shape, found):
    assert image_shape(shape) == found


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1), (1, 6, 9), (6, 9, 3), (3, 6, 9)])
def test_a_picture_is_what_a_decoder_reads(shape):
    row = np.random.default_rng(0).random(shape) * 4 - 2
    shown = np.asarray(Image.open(io.BytesIO(png(pixels(row, -2, 2)))), "float64")
    last = np.moveaxis(row, 0, -1) if shape[0] in (1, 3) else row
    assert np.abs(shown - np.rint((last.reshape(shown.shape) + 2) / 4 * 255)).max() <= 1


def test_a_large_picture_is_made_smaller_and_what_is_no_number_is_drawn():
    row = np.full((1000, 700, 3), np.nan)
    row[::2] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(row, 0, 1).shape == (250, 175, 3)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.9, (0, 1)),
        (0, 1, (0, 1)),
        (-0.7, 0.8, (-1, 1)),
        (0, 254, (0, 255)),
        (3, 200, (0, 255)),
        (-2.1, 2.6, (-2.1, 2.6)),
        (0, 1.2, (0, 1.2)),
        (0, 300, (0, 300)),
    ],
)
def test_the_range_of_values_is_a_usual_one_that_holds_what_was_seen(clock, low, high, expected):
    recent = Recent(FakeGuard(), 3, clock)
    assert recent.range() == (0, 1)
    assert not recent.has_seen
    row = np.linspace(low, high, 64, dtype="float32").reshape(1, 8, 8, 1)
    recent.offer({"x": row}, said([0.1], 1.0), np.array([False]))
    recent.offer({"x": row * 1000}, said([9.0], 1.0), np.array([True]))  # an attack says nothing of what is usual
    recent.work()
    assert recent.range() == pytest.approx(expected)
    assert recent.has_seen


def test_whole_numbers_are_taken_for_bytes(clock):
    guard = FakeGuard()
    guard.inputs = {"x": Field((8, 8, 1), "uint8")}
    assert Recent(guard, 3, clock).range() == (0, 255)


# History


def test_rates_are_those_of_the_last_ten_minutes():
    generator, rates, came, now = np.random.default_rng(0), Rates(), [], 5e8
    for _ in range(400):
        now += generator.choice([0.3, 2.0, 7.0, 40.0])
        count = int(generator.integers(1, 50))
        flagged = int(generator.integers(0, count))
        rates.add(now, count, flagged)
        came.append((int(now // 5), count, flagged))
        counts, flags = rates.series(now)
        parts = range(int(now // 5) - PARTS + 1, int(now // 5) + 1)
        assert counts == [sum(c for part, c, _ in came if part == one) for one in parts]
        assert flags == [sum(f for part, _, f in came if part == one) for one in parts]
    assert sum(rates.series(now + 10_000)[0]) == 0
    rates.add(now - 5000, 3, 1)
    assert sum(rates.series(now - 5000)[0]) == 3


def test_inputs_a_second_are_those_of_the_last_moments():
    rates = Rates()
    for second in range(100):
        rates.add(1e9 + second, 20, 0)
    assert rates.per_second(1e9 + 99.999) == pytest.approx(20, rel=0.01)
    assert rates.per_second(1e9 + 200) == 0


def test_lately_holds_exactly_the_last_ones():
    generator, edges = np.random.default_rng(0), np.logspace(-3, 1, 30)
    lately, scores = Lately(edges), np.empty(0)
    for size in (1, 10, 1500, 3, 700, 5000, 0, 1999, 2000, 2001, 17):
        part = generator.lognormal(-2, 2, size)
        lately.add(part, part > 0.5)
        scores = np.concatenate([scores, part])[-LAST:]
        assert len(lately) == len(scores)
        assert lately.flagged == (scores > 0.5).sum()
        assert lately.histogram().tolist() == np.bincount(binned(scores, edges), minlength=29).tolist()


def test_a_trace_is_short_in_order_and_ends_with_the_last():
    trace = Trace()
    for at in range(0, 300_000, 7):
        trace.add(at, float(at))
        if at % 9_999 == 0:
            points = trace.points()
            assert len(points) <= POINTS
            assert points[0] == (0, 0.0)
            assert points[-1] == (at, float(at))
    places = [at for at, _ in trace.points()]
    assert len(places) > POINTS / 3
    assert max(np.diff(places)) < 4 * np.median(np.diff(places))


@pytest.mark.parametrize("threshold", [None, np.nan, np.inf, 0.07, np.array([0.01, 0.5, np.inf])])
def test_edges_rise_and_hold_the_threshold(threshold):
    calibration = FakeGuard().calibration
    for given in (None, calibration):
        edges = log_edges(given, threshold)
        assert (np.diff(edges) > 0).all()
        assert np.ptp(np.diff(np.log10(edges))) < 1e-9
        assert 30 < len(edges) < 70
        if threshold is not None and np.isfinite(np.min(threshold)):
            assert np.min(threshold) in edges


def test_a_score_at_the_threshold_is_left_of_it():
    edges = log_edges(None, 0.07)
    place = int(np.flatnonzero(edges == 0.07)[0])
    assert binned(np.array([0.07, np.nextafter(0.07, 1), 0.0, -1.0, 1e9]), edges).tolist() == [
        place - 1,
        place,
        0,
        0,
        len(edges) - 2,
    ]


def test_the_rate_of_calibration_is_what_lies_above_its_threshold():
    scores = np.arange(100, dtype="float32")
    assert calibration_rate(Calibration({None: ScoreDistribution.of(scores)}, 89.0)) == 0.1
    parts = {0: ScoreDistribution.of(scores), 3: ScoreDistribution.of(scores[:50])}
    assert calibration_rate(Calibration(parts, np.array([89.0, 0, 0, 39.0]))) == pytest.approx(20 / 150)
