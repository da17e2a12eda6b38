"""What the server tells its operator to do, done."""

from pathlib import Path

from demur.errors import InvalidSetting
from demur.serve.serving.models import Models, Served, named
from demur.serve.settings import Settings
from demur.serve.watching.watch import StateFile
from tests.scaffold.advice import advises


def test_guards_have_names_and_no_two_the_same():
    with advises(InvalidSetting, "write NAME=PATH to serve a guard by another name"):
        named("=a.onnx")
    assert named("cats=a.onnx") == ("cats", Path("a.onnx"))
    with advises(InvalidSetting, "there is nothing to serve: name a guard"):
        Models([])
    both = [Served(*named(text), guard=None, seen=(0,)) for text in ("here/a.onnx", "there/a.onnx")]
    with advises(InvalidSetting, "are both called a: rename one of them, or write NAME=PATH"):
        Models(both)
    again = [Served(*named(text), guard=None, seen=(0,)) for text in ("here/a.onnx", "other=there/a.onnx")]
    assert list(Models(again)) == ["a", "other"]


def test_tls_takes_two_files():
    with advises(InvalidSetting, "TLS takes both a certificate and its key: pass tls_cert and tls_key"):
        Settings(tls_cert="server.pem")
    assert Settings(tls_cert="server.pem", tls_key="server.key").scheme == "https"


def test_state_is_kept_in_a_folder_that_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with advises(InvalidSetting, "name another"):
        StateFile(tmp_path / "file" / "state", "guard", lambda: 0.0)
    StateFile(tmp_path / "state", "guard", lambda: 0.0).write({"count": 1})
    assert (tmp_path / "state" / "guard.json").exists()
