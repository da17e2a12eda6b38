"""Keys: made once, kept as hashes, compared whole."""

import hashlib
import re

import pytest

from demur import cli
from demur.errors import InvalidSetting
from demur.serve.transport.access import Keys, new_key


def test_a_new_key_opens_and_its_file_does_not_hold_it(tmp_path):
    made = dict([new_key("ann"), new_key("bob")])
    file = tmp_path / "keys"
    file.write_text("# who may ask\n\n" + "\n".join(made.values()) + "\n")
    keys = Keys.read(file)
    ann, bob = made
    assert ann not in file.read_text()
    assert keys.holder(f"Bearer {ann}".encode()) == "ann"
    assert keys.holder(f"bearer  {bob} ".encode()) == "bob"
    for wrong in (
        b"",
        b"Bearer ",
        b"Bearer wrong",
        ann.encode(),
        f"Basic {ann}".encode(),
        f"Bearer {ann[:-1]}".encode(),
    ):
        assert keys.holder(wrong) is None


def test_keys_can_be_taken_back_while_the_server_runs(tmp_path):
    (ann, first), (bob, second) = new_key("ann"), new_key("bob")
    file = tmp_path / "keys"
    file.write_text(first)
    keys = Keys.read(file)
    file.write_text(second)
    keys.renew(file)
    assert keys.holder(f"Bearer {ann}".encode()) is None
    assert keys.holder(f"Bearer {bob}".encode()) == "bob"
    file.write_text("")
    with pytest.raises(InvalidSetting):
        keys.renew(file)
    assert keys.holder(f"Bearer {bob}".encode()) == "bob"


def test_keys_are_random_and_long():
    keys = {new_key("ann")[0] for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) >= 43 for key in keys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("ann:abc\n", "line 1: not name:hash"),
        (f"ann:{'0' * 64}\nann:{'1' * 64}\n", "line 2: there are two keys of ann"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path, text, message):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(InvalidSetting, match=message):
        Keys.read(file)


def test_a_key_that_was_put_into_the_file_by_mistake_is_not_shown(tmp_path):
    key, _ = new_key("ann")
    file = tmp_path / "keys"
    file.write_text(key)
    with pytest.raises(InvalidSetting) as found:
        Keys.read(file)
    assert key not in str(found.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "#a"])
def test_a_name_that_cannot_stand_in_the_file_is_refused(name):
    with pytest.raises(InvalidSetting, match="without spaces and colons"):
        new_key(name)


def test_the_command_line_makes_keys(capsys):
    assert cli.main(["serve", "--new-key", "ann"]) == 0
    text = capsys.readouterr().out
    key = re.search(r"demur_\S+", text)[0]
    assert f"ann:{hashlib.sha256(key.encode()).hexdigest()}" in text
