"""Forked processes, on each backend: an error in place of a hang."""

import multiprocessing

import pytest

from demur import ModelDistillation, load_detector
from demur.errors import ForkedProcess
from tests.scaffold import guards, models

pytestmark = [
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="nothing is forked here"),
    # Python's own warning, from 3.12 on, and that of JAX.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning"),
]


def in_a_fork(name, call):
    """The name of the error that a call raises in a forked process; None if it returns."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def child():
        try:
            call()
            there.send(None)
        except Exception as error:
            there.send((type(error).__name__, str(error)))

    process = context.Process(target=child, daemon=True)
    process.start()
    try:
        assert here.poll(60), f"the forked process hangs: {name}"
        return here.recv()
    finally:
        process.kill()
        process.join()


def test_a_forked_process_is_told_what_to_do(tmp_path):
    detector, (x, _) = guards.guard("ModelDistillation"), guards.attacked_rows(4)
    detector.save(tmp_path / "guard")
    classifier, student = guards.classifier(), models.student()
    calls = {
        "score": lambda: detector.score(x),
        "correct": lambda: detector.correct(x),
        "fit": lambda: detector.fit(x, epochs=1, verbose=False),
        "infer_threshold": lambda: detector.infer_threshold(x),
        "load": lambda: load_detector(tmp_path / "guard"),
        "make": lambda: ModelDistillation(model=classifier, distilled_model=student),
    }
    for name, call in calls.items():
        found = in_a_fork(name, call)
        assert found is not None, name
        assert found[0] == ForkedProcess.__name__, (name, found)
        assert "'spawn' or 'forkserver', and load the detector in it" in found[1].replace("(", "").replace(")", "")
    detector.score(x)  # the process itself goes on
