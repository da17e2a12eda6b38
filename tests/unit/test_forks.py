"""A forked process is told that it cannot compute, in place of waiting for ever."""

import os

import pytest

from demur.backends import forks
from demur.errors import ForkedProcess


@pytest.mark.parametrize("before", [None, os.getpid()])
def test_who_computes_may_go_on(monkeypatch, before):
    monkeypatch.setattr(forks, "_process", before)
    forks.computing()
    forks.computing()


def test_the_child_of_who_computes_may_not(monkeypatch):
    monkeypatch.setattr(forks, "_process", os.getppid())
    with pytest.raises(ForkedProcess, match=r"was forked from one .* in which computing had begun") as caught:
        forks.computing()
    assert "multiprocessing.get_context('spawn')" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("is_computing", [True, False])
def test_a_real_child(monkeypatch, is_computing):
    monkeypatch.setattr(forks, "_process", os.getpid() if is_computing else None)
    monkeypatch.setattr(forks, "_note", lambda: None)
    child = os.fork()
    if not child:  # nothing of pytest's may run in here
        try:
            if not is_computing:
                forks._process = None  # what other tests have computed in this process
            forks.computing()
            os._exit(0)
        except ForkedProcess:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (7 if is_computing else 0)
