"""Long tests of `tests/terminal/test_first_minute.py`."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from p2pchat import TCPPeer, open_history
from p2pchat.cli.control_server import ControlServer
from tests.deadlines import WAIT
from tests.ports import free_ports
from tests.processes.commands import p2pchat
from tests.terminal.conftest import P2PCHAT, OpenTerminal
from tests.terminal.test_first_minute import ada_and_her_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


@pytest.mark.parametrize(("key", "code"), [("c-d", 0), ("c-c", 130)])
async def test_a_question_can_be_cancelled(key: str, code: int, terminal: OpenTerminal, home: Path) -> None:
    ada = await terminal()
    await ada.prompts("Your name [")
    await ada.key(key)
    assert await ada.ended() == code
    assert "Traceback" not in ada.text and not [path for path in home.glob("*") if path.name.isdecimal()]


async def test_one_of_several_profiles_is_chosen(terminal: OpenTerminal, home: Path) -> None:
    ports = free_ports(2)
    for port, name in zip(ports, ("ada", "bob"), strict=True):
        person = await terminal(port, "--name", name)
        await person.prompts("room>")
        await person.line("/quit")
        assert await person.ended() == 0
    async with TCPPeer(data=home / free_ports(1)[0], name="bot"):
        pass  # used last, by a program
    chooser = await terminal(columns=60, rows=20)
    await chooser.shows_line(rf"^  1  {ports[1]} bob, used \d\d:\d\d$")
    await chooser.shows_line(rf"^  2  {ports[0]} ada, used ")
    await chooser.prompts("Number, or n [1]:")
    await chooser.answers("7", "is not in the list: enter a number from 1 to 2")
    await chooser.answers("2", "-- ada listens on 127.0.0.1:")
    await chooser.until(lambda: chooser.cursor_row == "ada to room>")


async def test_what_is_sent_beside_programs_is_sent_as_the_person(terminal: OpenTerminal, home: Path) -> None:
    """A bot was started last, and `p2pchat send` wrote in its name."""
    port, bots = free_ports(2)
    ada = await terminal(port, "--name", "ada")
    await ada.prompts("room>")
    async with TCPPeer(int(bots), port, name="bot") as bot:
        control = await ControlServer(bot).start()
        await ada.shows("-- bot is here")
        sent = await terminal("send", "room", "from a script", "--timeout", str(WAIT))
        await sent.shows(f"-- as ada, port {port} (--port PORT: another)")
        assert await sent.ended() == 0
        await ada.shows_line(r"ada: from a script")
        checked = await terminal("doctor", port)
        await checked.shows(f"-- as ada, port {port} (--port PORT: another)")
        await control.shut_down("the test is over")


@pytest.mark.parametrize(("answer", "left"), [("no", 1), ("", 1), ("yes, all", 1), ("y", 0), ("Yes", 0)])
async def test_deletion_asks_first(answer: str, left: int, terminal: OpenTerminal, home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        bob = await ada.host("bob")
        await (await ada.send(bob.me, "xyzzy")).delivered(timeout=WAIT)
    asked = await terminal("delete", "bob", "--data", str(home / "ada"), columns=150)
    await asked.shows("delete everything that is stored here of bob? Others keep theirs. yes/no")
    await asked.line(answer)
    assert await asked.ended() == left
    async with open_history(home / "ada") as history:
        assert len(await history.history("bob")) == left


@pytest.mark.parametrize("words", [("delete", "room"), ("files", "--keep", "0")])
async def test_without_input_nobody_can_be_asked(words: tuple[str, ...], terminal: OpenTerminal, home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada"):
        pass
    command = (*P2PCHAT, *words, "--data", str(home / "ada"))
    refused = await terminal("-c", shlex.join(command) + " <&-", command=("/bin/sh",), columns=150)
    await refused.shows("nobody can be asked here: add --yes")
    assert await refused.ended() == 2 and "Traceback" not in refused.text


async def test_a_wrong_endpoint_gets_advice(terminal: OpenTerminal) -> None:
    [closed] = free_ports(1)
    ada = await terminal("0", "--name", "ada", closed, columns=150)
    await ada.shows(f"-- 127.0.0.1:{closed} does not answer: nobody listens there (is it running, and is {closed} its")
    bob = await terminal(closed, "--temp", "--name", "bob")
    await bob.shows("listens on")
    await ada.shows(f"-- 127.0.0.1:{closed} reached")  # after further attempts


async def test_the_invite_screen_is_below_the_history(terminal: OpenTerminal, home: Path) -> None:
    async with TCPPeer(0, name="ada", data=home / "ada") as before:
        await before.send_many("room", [f"line {number}" for number in range(30)])
    ada = await terminal("0", "--data", str(home / "ada"), "--host", "0.0.0.0", "--advertise", "192.168.1.5:8080")
    await ada.shows("──── now ────")
    await ada.shows("send it over a channel you trust.")
    await ada.prompts("room>")
    assert "To join from another machine, run there:" in ada.lines


async def test_listening_for_others_shows_the_invite_screen(terminal: OpenTerminal) -> None:
    ada, _ = await ada_and_her_port(terminal, "--host", "0.0.0.0", "--advertise", "192.168.1.5:8080")
    await ada.shows("    p2pchat --invite -")
    await ada.shows("/quit leaves")
    assert "To join from another machine, run there:" in ada.lines  # nothing of it scrolled away
    assert any("@192.168.1.5:8080" in line for line in (*ada.lines, "".join(line.strip() for line in ada.lines)))
    assert "\x1b[38;5" not in ada.text and "▀" not in ada.text


async def test_a_restarted_profile_listens_as_before(terminal: OpenTerminal, home: Path) -> None:
    ada, port = await ada_and_her_port(terminal, "--host", "0.0.0.0", "--advertise", "192.168.1.5:8080")
    await ada.line("/quit")
    assert await ada.ended() == 0
    again = await terminal()
    await again.shows("-- ada listens on 0.0.0.0:")
    await again.line("/quit")
    assert await again.ended() == 0
    fewer = await terminal("0", "--data", str(home / str(port)), "--host", "127.0.0.1")
    await fewer.shows("-- only this computer can connect now; last time others could: --host 0.0.0.0")


async def test_every_start_shows_the_same_invite_until_somebody_came_by_it(terminal: OpenTerminal, home: Path) -> None:
    shown = list[str]()
    data = str(home / "ada")
    for _ in range(2):
        ada = await terminal("0", "--data", data, "--name", "ada", "--host", "0.0.0.0", "--advertise", "127.0.0.1:8080")
        await ada.shows("send it over a channel you trust.")
        shown.append(re.search(r"p2pchat:[A-Z2-7\s]+", ada.text)[0])  # type: ignore[index]
        await ada.line("/quit")
        assert await ada.ended() == 0
    listed = ("invite", "--data", data, "--list", "--json")
    [row] = (await asyncio.to_thread(p2pchat, home, *listed)).events
    assert shown[0] == shown[1]
    assert (await asyncio.to_thread(p2pchat, home, "invite", "--data", data, "--revoke", row["invite"])).code == 0
    ada = await terminal("0", "--data", data)
    await ada.shows("send it over a channel you trust.")
    assert len((await asyncio.to_thread(p2pchat, home, *listed)).events) == 2  # that one admits nobody any more


async def test_a_pasted_invite_joins_and_says_what(terminal: OpenTerminal, tmp_path: Path) -> None:
    ada, port = await ada_and_her_port(terminal)
    home = tmp_path / "home"
    words = ("invite", "--data", str(home / str(port)), "--advertise", f"127.0.0.1:{port}", "--json")
    [row] = (await asyncio.to_thread(p2pchat, home, *words)).events
    invite = row["invite"]
    bob = await terminal("--invite", "-", "--name", "bob", env={"P2PCHAT_HOME": str(tmp_path / "elsewhere")})
    await bob.prompts("Paste the invite (it is not shown), then Enter:")
    await bob.answers(invite[:60], "p2pchat: the invite is incomplete: copy it again")
    await bob.answers("p2pchat 8080 --invite -", "this is no invite: one begins with 'p2pchat:'")
    await bob.line(f"{invite[:70]}\r   {invite[70:]}")  # broken as in a mail
    await bob.shows(f"-- 127.0.0.1:{port} reached")
    await bob.shows(f"-- joined the network of ada at 127.0.0.1:{port}: 2 people, all online")
    await ada.shows_line(r"-- bob is here for the first time$")
    assert invite[70:100] not in bob.text
    await bob.line("made it")
    await ada.shows_line(r"bob: made it$")


async def test_an_invite_may_be_pasted_line_by_line(terminal: OpenTerminal, tmp_path: Path) -> None:
    _, port = await ada_and_her_port(terminal)
    words = ("invite", "--data", str(tmp_path / "home" / str(port)), "--advertise", f"127.0.0.1:{port}", "--json")
    [row] = (await asyncio.to_thread(p2pchat, tmp_path / "home", *words)).events
    bob = await terminal("--invite", "-", "--name", "bob", env={"P2PCHAT_HOME": str(tmp_path / "elsewhere")})
    await bob.prompts("Paste the invite (it is not shown), then Enter:")
    lines = [row["invite"][at : at + 50] for at in range(0, len(row["invite"]) - 8, 50)]  # more than there are attempts
    lines[-1] = row["invite"][50 * (len(lines) - 1) :]
    for line in lines[:-1]:
        asked = bob.text.count("Paste the invite")
        await bob.line(line)
        await bob.until(lambda asked=asked: bob.text.count("Paste the invite") > asked, "the next question")  # type: ignore[misc]
    await bob.line(lines[-1])
    await bob.shows(f"-- 127.0.0.1:{port} reached")


async def test_a_wrong_invite_ends_the_start_without_a_profile(terminal: OpenTerminal, home: Path) -> None:
    bob = await terminal("--invite", "-", "--name", "bob")
    for asked in (1, 2, 3):
        await bob.until(lambda asked=asked: bob.text.count("Paste the invite") == asked, f"question {asked}")  # type: ignore[misc]
        await bob.line("nonsense")
    assert await bob.ended() == 2
    assert "nonsense" not in bob.text
    assert not home.exists() or not [path for path in home.iterdir() if path.name.isdecimal()]
