"""One person with two machines, each in a terminal and a home of its own."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from p2pchat import Message
from p2pchat.cli.control_client import ask_running_peer
from p2pchat.commands.activity_tracker import LATE
from p2pchat.commands.event_text import EventLine
from tests.deadlines import WAIT, until, within
from tests.ports import free_ports
from tests.terminal.conftest import OpenTerminal, StartPeer, arrives
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def joined(terminal: OpenTerminal, desk: str, *words: str, laptop: Path) -> Terminal:
    """Make the machine whose home is `laptop` one of the person at the port `desk`; return its terminal."""
    adding = await terminal("device", "add", "--port", desk, "--host", "127.0.0.1", columns=200)
    code = (await adding.shows_line(r"device join (\S+)"))[1]
    joining = await terminal("device", "join", code, *words, env={"P2PCHAT_HOME": str(laptop)}, columns=200)
    await adding.prompts("Make it yours?")
    await adding.line("y")
    await adding.shows(f"the other machine is yours now, beside this one: p2pchat {desk}")
    assert await joining.ended() == await adding.ended() == 0, joining.text
    return joining


async def test_the_profile_that_joined_is_the_one_that_starts(terminal: OpenTerminal, home: Path) -> None:
    desk, port = free_ports(2)
    ada = await terminal(desk, "--name", "ada")
    await ada.answers("/quit")
    await ada.ended()
    laptop = home.parent / "laptop"
    joining = await joined(terminal, desk, "--port", port, laptop=laptop)
    await joining.shows(f"this machine is yours now: p2pchat {port}")
    here = {"P2PCHAT_HOME": str(laptop)}
    listed = await terminal("devices", env=here)
    await listed.shows("this machine")
    assert await listed.ended() == 0
    bare = await terminal(env=here)
    await bare.shows(f"-- starting ada again (port {port})")
    await bare.prompts("room>")


@pytest.mark.parametrize("place", ["8080", "mine"])
async def test_a_directory_elsewhere_is_named_in_what_starts_it(place: str, terminal: OpenTerminal, home: Path) -> None:
    [desk] = free_ports(1)
    ada = await terminal(desk, "--name", "ada")
    await ada.answers("/quit")
    await ada.ended()
    elsewhere = home.parent / "disk" / place
    joining = await joined(terminal, desk, "--data", str(elsewhere), laptop=home.parent / "laptop")
    found = await joining.shows_line(r"this machine is yours now: p2pchat (.*)")
    assert found[1].split() == [*re.findall(r"\d+", place), "--data", str(elsewhere)]
    again = await terminal(*found[1].split()[-2:], env={"P2PCHAT_HOME": str(home.parent / "laptop")})
    await again.shows("-- ada listens on")


async def test_a_machine_whose_directory_has_another_name_is_found(terminal: OpenTerminal, home: Path) -> None:
    desk, port = free_ports(2)
    data = ("--data", str(home / "ada"))
    ada = await terminal(desk, "--name", "ada", *data)
    await ada.answers("/quit")
    await ada.ended()
    adding = await terminal("device", "add", *data, "--host", "127.0.0.1", columns=200)
    code = (await adding.shows_line(r"device join (\S+)"))[1]
    here = {"P2PCHAT_HOME": str(home.parent / "laptop")}
    joining = await terminal("device", "join", code, "--port", port, env=here, columns=200)
    await adding.prompts("Make it yours?")
    await adding.line("y")
    await adding.shows(f"the other machine is yours now, beside this one: p2pchat {desk} --data")
    assert await joining.ended() == await adding.ended() == 0, joining.text
    await terminal(*data)
    laptop = await terminal(port, env=here)
    await laptop.prompts("room>")
    async with within(WAIT, "the link"):
        while not any(row["linked"] for row in await first_devices(home.parent / "laptop" / port)):
            await asyncio.sleep(0.1)  # poll: a machine that is linked is no event of a program


async def test_what_was_read_at_one_machine_is_read_at_the_other(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    desk, port = free_ports(2)
    ada = await terminal(desk, "--name", "ada")
    bob = await peer("bob", int(desk))
    await arrives(ada, bob)
    await ada.answers("/quit")
    await ada.ended()
    laptop = home.parent / "laptop"
    await joined(terminal, desk, "--port", port, laptop=laptop)
    first = await terminal(desk, "--host", "127.0.0.1")
    other = await terminal(port, desk, "--host", "127.0.0.1", env={"P2PCHAT_HOME": str(laptop)})
    await first.prompts("room>")
    await other.prompts("room>")
    group = await bob.create_group("ops", [await bob.wait_user("ada", timeout=WAIT)])
    await group.send("are you there?")
    for one in (first, other):
        await one.prompts("[#ops 1] room>")
    await first.line("/go #ops")
    await first.shows("bob: are you there?")
    await other.until(lambda: other.prompt == "room>", "nothing unread")
    assert "are you there?" not in other.text
    await group.send("and now?")
    await other.prompts("[#ops 1] room>")


async def test_a_machine_that_was_off_rings_for_what_was_not_read_meanwhile(
    terminal: OpenTerminal, peer: StartPeer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, port = free_ports(2)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 2 * int(LATE.total_seconds() * 1e9))  # bob's clock alone
    ada = await terminal(desk, "--name", "ada")
    bob = await peer("bob", int(desk))
    await arrives(ada, bob)
    await ada.answers("/msg bob hello", "ada -> bob: hello")  # else what bob writes is new
    await ada.answers("/quit")
    await ada.ended()
    laptop = home.parent / "laptop"
    await joined(terminal, desk, "--port", port, laptop=laptop)
    first = await terminal(desk, "--host", "127.0.0.1")
    await first.prompts("room>")
    read = await bob.send("ada", "read at the desk")
    await first.shows("read at the desk")
    await read.read(timeout=WAIT)
    other = await terminal(port, desk, "--host", "127.0.0.1", env={"P2PCHAT_HOME": str(laptop)})
    await other.shows("read at the desk")
    async with within(WAIT, "what the desk read"):
        while await ask_running_peer(laptop / port, "inbox"):
            await asyncio.sleep(0.1)  # poll: what is marked as read is no line of a terminal
    await first.line("/away out")
    await first.shows("away")
    await bob.send("ada", "wake up")
    await other.until(lambda: other.screen.bells, "a bell")
    before = other.raw.partition(b"wake up")[0]
    assert b"\x07" not in re.sub(rb"\x1b\][^\x07]*\x07", b"", before)  # without titles


async def test_what_is_muted_on_one_machine_rings_on_none(terminal: OpenTerminal, peer: StartPeer, home: Path) -> None:
    desk, port = free_ports(2)
    ada = await terminal(desk, "--name", "ada")
    bob, carol = await peer("bob", int(desk)), await peer("carol", int(desk))
    for one in (bob, carol):
        await arrives(ada, one)
        await ada.answers(f"/msg {one.me.name} hello", f"ada -> {one.me.name}: hello")  # else what they write is new
    await ada.answers("/quit")
    await ada.ended()
    laptop = home.parent / "laptop"
    await joined(terminal, desk, "--port", port, laptop=laptop)
    first = await terminal(desk, "--host", "127.0.0.1")
    other = await terminal(port, desk, "--host", "127.0.0.1", env={"P2PCHAT_HOME": str(laptop)})
    await first.prompts("room>")
    await other.shows("ada -> carol: hello")
    await other.answers("/mute bob", "bob is muted: nothing there rings, on none of your machines")
    await muted(home / desk, ["bob"])
    await bob.send("ada", "ada, are you there?")
    for machine in (first, other):
        await machine.prompts("[bob 1 @1] room>")
    await carol.send("ada", "and you?")
    for machine in (first, other):
        await machine.shows("carol -> ada: and you?")
        await machine.until(lambda: first.screen.bells == other.screen.bells == 1, "one bell at each")
        assert "are you there?" not in machine.text
    await first.answers("/muted", "-- bob")
    await first.answers("/unmute bob", "bob rings as usual")
    await muted(laptop / port, [])
    await bob.send("ada", "now?")
    await other.shows("bob -> ada: now?")
    await other.answers("/muted", "nothing is muted")


async def muted(data: Path, names: list[str]) -> None:
    """Wait until these conversations are muted at a peer."""
    async with within(WAIT, f"muted: {names}"):
        while [row["conversation"] for row in await ask_running_peer(data, "muted") or []] != names:
            await asyncio.sleep(0.1)  # poll: what a person chose elsewhere is no event of a program


async def test_a_machine_that_was_shut_out_says_so(terminal: OpenTerminal, home: Path) -> None:
    desk, port = free_ports(2)
    ada = await terminal(desk, "--name", "ada")
    await ada.answers("/quit")
    await ada.ended()
    laptop = home.parent / "laptop"
    await joined(terminal, desk, "--port", port, laptop=laptop)
    here = {"P2PCHAT_HOME": str(laptop)}
    first = await terminal(desk, "--host", "127.0.0.1")
    lost = await terminal(port, desk, "--host", "127.0.0.1", env=here, columns=150)
    await lost.prompts("room>")
    [_, other] = await first_devices(home / desk)
    doctor = await terminal("doctor", "--port", desk, columns=200)
    await doctor.shows_line(r'ok +peers +linked with "your .+"')
    await doctor.ended()
    await first.line(f"/revoke-device {other['peer_id'][:8]}")
    await first.until(lambda: "shut it out? yes/no" in first.prompt, "the question")
    await first.line("y")
    out = r"this machine was shut out by ada at \d\d:\d\d: it sends and gets nothing any more"
    await lost.shows_line(f"-- {out}")
    await first.shows('your login shut out "your ')
    await first.line("/devices")
    await first.shows("to add one")
    assert "away" not in first.text
    await lost.line("/quit")
    await lost.ended()
    again = await terminal(port, "--host", "127.0.0.1", env=here, columns=150)
    await again.shows_line(f"-- {out}")
    await again.line("/devices")
    await again.until(lambda: len(re.findall(out, again.text)) == 2, "why")
    assert "expelled" not in again.text and "pardon" not in again.text
    doctor = await terminal("doctor", "--port", port, env=here, columns=200)
    await doctor.shows_line(f"wrong +member +{out}")
    await doctor.ended()
    assert "pardon" not in doctor.text


async def first_devices(data: Path) -> list[EventLine]:
    """Return the machines that the peer of a profile lists, once there are two."""
    async with within(WAIT, "two machines"):
        while True:
            rows = await ask_running_peer(data, "devices")
            if rows is not None and len(rows) == 2:
                return rows
            await asyncio.sleep(0.1)  # poll: a machine that is linked is no event of a program


async def test_what_was_delivered_before_a_machine_joined_is_not_only_saved_there(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    desk, port = free_ports(2)
    ada = await terminal(desk, "--name", "ada")
    bob = await peer("bob", int(desk))
    await arrives(ada, bob)
    await ada.answers("/msg bob are you there?", "are you there?  ✓ delivered")
    await ada.answers("/quit")
    await ada.ended()
    await bob.aclose()  # only the desk knows that he has it
    laptop = home.parent / "laptop"
    await joined(terminal, desk, "--port", port, laptop=laptop)
    await terminal(desk, "--host", "127.0.0.1")
    other = await terminal(port, desk, "--host", "127.0.0.1", env={"P2PCHAT_HOME": str(laptop)})
    await other.shows("are you there?")
    assert not re.search(r"are you there\?.*saved", other.text)
    await other.answers("/msg bob and now?", 'bob is offline: "and now?" is saved')
    assert "user#" not in other.text
    async with (await peer("bob", int(port))).events(Message, consumer=None) as events, within(WAIT, "what was saved"):
        while (await anext(events)).text != "and now?":
            pass


async def test_who_wrote_and_went_at_once_has_a_name_where_a_member_just_came(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    [port] = free_ports(1)
    ada = await terminal(port, "--name", "ada")
    bob = await peer("bob", int(port))
    await bob.send("ada", "see you")
    await ada.shows("see you")
    await bob.aclose()
    cyd = await peer("cyd", int(port))
    await until(lambda: cyd.directory.fitting("bob"), "the name of who is away")
