"""A bar appears where work is long, with Keras and without it."""

import sys

from demur import progress


def test_without_keras_steps_are_counted(monkeypatch, capsys):
    monkeypatch.setattr(progress, "can_draw", lambda: True)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    assert list(progress.progress(range(3), 3, True)) == [0, 1, 2]
    assert capsys.readouterr().out == "\r1/3\r2/3\r3/3\n"
    assert list(progress.progress(range(2), None, True)) == [0, 1]
    assert capsys.readouterr().out == "\r1\r2"
    assert list(progress.progress(range(2), 2, False)) == [0, 1]
    assert capsys.readouterr().out == ""
