"""The settings file of a profile."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from p2pchat.commands.settings import BY_NAME, SETTINGS, ChatSettings


def test_settings_are_saved(tmp_path: Path) -> None:
    first = ChatSettings.load(tmp_path)
    assert (first.joins, first.bell, first.desktop, first.ignored, first.trouble) == ("auto", True, False, set(), "")
    first.change("joins", "off")
    first.change("bell", "off")
    first.change("desktop", "on")
    first.ignored.add("K7QF2M3P")
    first.save()
    assert ChatSettings.load(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]
    if sys.platform != "win32":
        assert (tmp_path / "chat.json").stat().st_mode & 0o777 == 0o600


def test_every_setting_lists_its_default_first() -> None:
    usual = ChatSettings()
    assert {name: usual.value(name) for name in BY_NAME if not BY_NAME[name].of_peer} == {
        one.name: one.values[0] for one in SETTINGS if not one.of_peer
    }


def test_without_a_directory_settings_stay_in_memory() -> None:
    settings = ChatSettings.load(None)
    settings.change("bell", "off")
    settings.save()
    assert settings.value("bell") == "off"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "cannot read all settings"),
        ("[]", "it is not a JSON object"),
        ('{"joins": "sometimes"}', "joins is auto or on or off, not 'sometimes'"),
        ('{"bell": []}', "cannot read all settings"),
        ('{"last_start": 7}', "`last_start` is not a JSON object"),
        ('{"last_start": {"host": 7}}', "`last_start` has a value of the wrong type"),
        ('{"by_conversation": []}', "`by_conversation` is not an object of objects"),
        ('{"by_conversation": {"M2P3": {"typing": "loud"}}}', "typing is on or off or usual, not 'loud'"),
        ('{"ignored": "bob"}', "`ignored` is not a list of ids"),
        ('{"ignored": ["K7QF2M3P"], "bell": 7}', "bell is on or off, not 7"),
        ("[" * 100_000, "cannot read all settings"),
    ],
    ids=["json", "list", "value", "type", "start", "host", "conversations", "exception", "ignored", "half", "deep"],
)
def test_an_unreadable_file_is_reported_and_defaults_apply(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "chat.json").write_text(text, "utf-8")
    settings = ChatSettings.load(tmp_path)
    assert expected in settings.trouble
    assert (settings.joins, settings.bell) == ("auto", True)
    assert settings.ignored == ({"K7QF2M3P"} if "K7QF2M3P" in text else set())


def test_an_unreadable_file_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text('{"ignored": ["K7QF2M3P"],}', "utf-8")
    settings = ChatSettings.load(tmp_path)
    for value in ("off", "on"):
        settings.change("joins", value)
        settings.save()
    assert (tmp_path / "chat.json.spoiled").read_text("utf-8") == '{"ignored": ["K7QF2M3P"],}'
    assert ChatSettings.load(tmp_path).joins == "on"


def test_entries_of_later_versions_are_kept(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text('{"bell": false, "theme": "dark"}', "utf-8")
    settings = ChatSettings.load(tmp_path)
    settings.change("bell", "on")
    settings.save()
    assert json.loads((tmp_path / "chat.json").read_text("utf-8"))["theme"] == "dark"


@pytest.mark.parametrize(
    ("how", "meant", "others"), [("mentions", True, False), ("all", True, True), ("none", False, False)]
)
def test_notify_may_differ_by_conversation(how: str, meant: bool, others: bool) -> None:
    settings = ChatSettings()
    settings.change("notify", how, "OPS")
    assert [settings.notifies("OPS", meant=yes) for yes in (True, False)] == [meant, others]
    assert [settings.notifies("ROOM", meant=yes) for yes in (True, False)] == [True, False]


@pytest.mark.parametrize(("name", "value"), [("colour", "on"), ("bell", "loud"), ("joins", "yes"), ("ignored", "on")])
def test_invalid_settings_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError):
        ChatSettings().change(name, value)
