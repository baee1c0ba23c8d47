"""The settings of a chat, and /set."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.commands.chat_settings import SETTINGS, ChatSettings
from p2pchat.commands.exit_codes import USAGE
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, open_session


@pytest.mark.parametrize(
    ("how", "meant", "others"), [("mentions", True, False), ("all", True, True), ("none", False, False)]
)
async def test_notify_may_differ_by_conversation(how: str, meant: bool, others: bool) -> None:
    async with mesh("ada") as net:
        settings = ChatSettings(net.peers[0])
        await settings.change("notify", how, "OPS")
        assert [settings.notifies("OPS", meant=yes) for yes in (True, False)] == [meant, others]
        assert [settings.notifies("ROOM", meant=yes) for yes in (True, False)] == [True, False]


async def test_what_a_later_version_chose_does_not_count() -> None:
    async with mesh("ada") as net:
        settings = ChatSettings(net.peers[0])
        await settings.change("typing", "off")
        for key, value in (("chat:joins", "sometimes"), ("chat:typing:OPS", "loud")):
            await net.peers[0].choose(key, value)
        assert (settings.value("joins"), settings.value("typing", "OPS")) == ("auto", "off")


async def test_set_shows_changes_and_saves_settings(shown: Shown, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada") as ada:
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"/set"])
        usual = [f"-- {one.name} {one.values[0]}" for one in SETTINGS]
        assert [line.partition(" (")[0] for line in shown.new] == usual
        await session.execute([b"/set joins off", b"/set BELL Off", b"/set joins"])
        assert [line.partition(" (")[0] for line in shown.new] == ["-- joins off", "-- bell off", "-- joins off"]
    async with TCPPeer(data=tmp_path / "ada") as ada:
        kept = ChatSettings(ada)
        assert (kept.value("joins"), kept.is_on("bell"), kept.is_on("desktop")) == ("off", False, False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"do":"set","value":"on"}', "which setting? They are joins, notify, bell"),
        ("/set colour", "there is no setting 'colour'; the settings are joins, notify, bell"),
        ("/set jonis off", "there is no setting 'jonis'; the settings are joins, notify, bell"),
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


async def test_a_setting_of_one_conversation(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, _ = net.peers
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"/set typing off bob", b"/set typing"])
        bob = ada.find("bob").id
        assert [line.partition(" (")[0] for line in shown.new] == [
            "-- typing in bob off",
            "-- typing on",
            "-- typing in bob off",
        ]
        kept = session.settings
        assert (kept.is_on("typing"), kept.shows_typing(ada.room.id), kept.shows_typing(bob)) == (True, True, False)
        await session.execute([b"/set typing usual bob", b"/set typing"])
        assert [line.partition(" (")[0] for line in shown.new] == ["-- typing in bob on", "-- typing on"]
        assert kept.exceptions("typing") == {}


async def test_a_name_is_muted_and_not_the_conversation_that_is_open(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada = net.peers[0]
        group = await ada.create_group("ops", ["bob"])
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"/muted", b"/go #ops", b"/mute bob", b"/muted", b"/mute", b"/unmute bob", b"/muted"])
        nothing, _, bob, listed, ops, usual, left = shown.new
        assert nothing == "-- nothing is muted"
        assert bob == "-- bob is muted: nothing there rings, on none of your machines"
        assert (listed, usual, left) == ("-- bob", "-- bob rings as usual", "-- ops")
        assert ops.startswith("-- #ops is muted")
        assert [session.settings.notifies(one.id, meant=True) for one in (group, ada.find("bob"))] == [False, True]
        await session.execute([b"/list"])
        assert [line for line in shown.new if "muted" in line] == ["-- #ops (here) (muted)"]


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
