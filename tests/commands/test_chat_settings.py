"""Chat settings: the file, and /set."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from p2pchat.commands.chat_settings import SETTINGS, ChatSettings
from p2pchat.commands.exit_codes import FAILED, USAGE
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, open_session


def test_settings_are_saved(tmp_path: Path) -> None:
    first = ChatSettings.load(tmp_path)
    assert (first.joins, first.bell, first.desktop, first.trouble) == ("auto", True, False, "")
    first.change("joins", "off")
    first.change("bell", "off")
    first.change("desktop", "on")
    first.save()
    assert ChatSettings.load(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]
    if sys.platform != "win32":
        assert (tmp_path / "chat.json").stat().st_mode & 0o777 == 0o600


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
        ('{"joins": "auto", "bell": 7}', "bell is on or off, not 7"),
        ("[" * 100_000, "cannot read all settings"),
    ],
    ids=["json", "list", "value", "type", "start", "host", "conversations", "exception", "half", "deep"],
)
def test_an_unreadable_file_is_reported_and_defaults_apply(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "chat.json").write_text(text, "utf-8")
    settings = ChatSettings.load(tmp_path)
    assert expected in settings.trouble
    assert (settings.joins, settings.bell) == ("auto", True)


def test_an_unreadable_file_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text('{"bell": true,}', "utf-8")
    settings = ChatSettings.load(tmp_path)
    for value in ("off", "on"):
        settings.change("joins", value)
        settings.save()
    assert (tmp_path / "chat.json.spoiled").read_text("utf-8") == '{"bell": true,}'
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


async def test_set_shows_changes_and_saves_settings(shown: Shown, tmp_path: Path) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown, as_json=False, settings=ChatSettings.load(tmp_path))
        await session.execute([b"/set"])
        usual = [f"-- {one.name} {one.values[0]}" for one in SETTINGS]
        assert [line.partition(" (")[0] for line in shown.new] == usual
        await session.execute([b"/set joins off", b"/set BELL Off", b"/set joins"])
        assert [line.partition(" (")[0] for line in shown.new] == ["-- joins off", "-- bell off", "-- joins off"]
        kept = ChatSettings.load(tmp_path)
        assert (kept.joins, kept.bell) == ("off", False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"do":"set","value":"on"}', "which setting? They are joins, notify, bell"),
        ("/set colour", "there is no setting 'colour'; the settings are joins, notify, bell"),
        ("/set jonis off", "there is no setting 'jonis': did you mean joins?"),
        ("/set bell loud", "bell is on or off, not 'loud'"),
        ("/set bell off room", "bell cannot be set for one conversation"),
        ("/set typing loud room", "typing is on or off or usual, not 'loud'"),
        ("/clear", "/clear needs a terminal"),
        ("/help xyzzy", "there is no command '/xyzzy'"),
    ],
)
async def test_errors_of_set(shown: Shown, line: str, expected: str) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown)
        await session.execute([line.encode()])
        assert shown.lines[-1]["text"].startswith(expected)
        assert session.exit_code == USAGE


async def test_a_setting_of_one_conversation(shown: Shown, tmp_path: Path) -> None:
    async with mesh("ada", "bob") as net:
        ada, _ = net.peers
        session = open_session(ada, shown, as_json=False, settings=ChatSettings.load(tmp_path))
        await session.execute([b"/set typing off bob", b"/set typing"])
        bob = ada.find("bob").id
        assert [line.partition(" (")[0] for line in shown.new] == [
            "-- typing in bob off",
            "-- typing on",
            "-- typing in bob off",
        ]
        kept = ChatSettings.load(tmp_path)
        assert (kept.typing, kept.shows_typing(ada.room.id), kept.shows_typing(bob)) == (
            True,
            True,
            False,
        )
        await session.execute([b"/set typing usual bob", b"/set typing"])
        assert [line.partition(" (")[0] for line in shown.new] == ["-- typing in bob on", "-- typing on"]
        assert ChatSettings.load(tmp_path).by_conversation == {}


async def test_a_setting_that_cannot_be_saved_is_not_changed(shown: Shown, tmp_path: Path) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown, settings=ChatSettings.load(tmp_path / "gone"))
        await session.execute([b"/set bell off"])
        assert "not changed" in shown.lines[-1]["text"]
        assert session.settings.bell is True and session.exit_code == FAILED


async def test_programs_get_settings_and_help_as_rows(shown: Shown) -> None:
    async with mesh("ada") as net:
        await open_session(net.peers[0], shown).execute([b"/set bell", b"/help"])
        setting, help_ = shown.lines
        assert setting["rows"][0] | {"meaning": ""} == {
            "setting": "bell",
            "value": "on",
            "values": ["on", "off"],
            "meaning": "",
        }
        assert help_["rows"][-1]["line"].startswith("/help COMMAND")
