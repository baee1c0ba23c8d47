"""/set, /help and /clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat.commands.errors import FAILED, USAGE
from p2pchat.commands.settings import SETTINGS, ChatSettings
from p2pchat.testing import mesh
from tests.commands.shown import Shown, open_session


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
        ("/set colour", "there is no setting 'colour'; the settings are joins, notify, bell"),
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
        assert (kept.is_on("typing"), kept.is_on("typing", ada.room.id), kept.is_on("typing", bob)) == (
            True,
            True,
            False,
        )
        await session.execute([b"/set typing usual bob", b"/set typing"])
        assert [line.partition(" (")[0] for line in shown.new] == ["-- typing in bob on", "-- typing on"]
        assert ChatSettings.load(tmp_path).by_conversation == {}


async def test_a_setting_that_cannot_be_saved_applies_to_this_run(shown: Shown, tmp_path: Path) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown, settings=ChatSettings.load(tmp_path / "gone"))
        await session.execute([b"/set bell off"])
        assert "changed for this run only" in shown.lines[-1]["text"]
        assert session.settings.bell is False and session.exit_code == FAILED


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
