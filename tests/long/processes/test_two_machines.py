"""Two machines: an invite from the screen of one, pasted into the other; discovery.

The machines are network namespaces on one network, each with its own home directory.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from p2pchat.identity.network import load_network
from p2pchat.testing.process_mesh import PATIENCE, Child
from tests.deadlines import ROOT, within
from tests.processes.machines import Lan, Machine, lan_or_skip
from tests.terminal.pty import Terminal

INVITE = r"p2pchat:[A-Z2-7]{178}@\S+"
MARGARET, BALTHASAR, STRANGER = "margaret", "balthasar", "quentin"  # names that random hex cannot spell
P2PCHAT = (sys.executable, "-m", "p2pchat")


@pytest.fixture
def lan() -> Iterator[Lan]:
    with lan_or_skip() as lan:
        yield lan


class User:
    """A user at a machine: home directory, terminals, programs."""

    def __init__(self, machine: Machine, home: Path) -> None:
        self.machine = machine
        self.home = home
        self._open: list[Callable[[], Coroutine[Any, Any, None]]] = []

    async def terminal(self, *words: str) -> Terminal:
        """Type `p2pchat WORDS` into a new terminal, wide enough for an invite on one line."""
        env = {"P2PCHAT_HOME": str(self.home), "HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        terminal = Terminal(self.machine.under(*P2PCHAT, *words), env, columns=250)
        self._open.append(terminal.close)
        return await terminal.start()

    async def child(self, name: str, *words: str) -> Child:
        """Run `p2pchat 0 --json` with a profile of that name."""
        child = Child(name, self.home, *words, "--data", str(self.home / name), under=self.machine.under())
        self._open.append(child.destroy)
        await child.start()
        return child

    async def close(self) -> None:
        for close in self._open:
            await close()


@pytest.fixture
async def users(lan: Lan, tmp_path: Path) -> AsyncIterator[list[User]]:
    """Yield the users of three machines, 10.77.0.1 to 10.77.0.3."""
    users = [User(lan.machine(f"10.77.0.{number}/24"), tmp_path / f"home{number}") for number in (1, 2, 3)]
    yield users
    for sock in users:
        await sock.close()


# An invite, from one screen to the other


async def test_the_invite_admits_and_others_are_refused(users: list[User]) -> None:
    ada = await users[0].terminal("8080", "--host", "0.0.0.0", "--name", "ada")
    invite = (await ada.shows_line(INVITE))[0]
    assert "@10.77.0.1:8080" in invite

    bob = await users[1].terminal("8080", "--invite", "-", "--name", "bob")
    await bob.shows_line("(?i)paste .*invite")
    await bob.line(invite)
    await ada.shows_line(r"\bbob\b.*(came|joined|is here)")
    assert invite not in bob.text

    await ada.line("hello from another machine")
    await bob.shows_line(r"\bada: hello from another machine")
    await bob.line("so you are there")
    await ada.shows_line(r"\bbob: so you are there")

    eve = await users[2].terminal("8080", "10.77.0.1:8080", "--name", STRANGER)
    await eve.shows_line(r"10\.77\.0\.1:8080.*refused|refused.*10\.77\.0\.1:8080")
    assert await eve.ended() == 1
    assert "from another machine" not in eve.text and STRANGER not in ada.text + bob.text

    for terminal in (bob, ada):
        await terminal.line("/quit")
        assert await terminal.ended() == 0


async def test_two_guests_in_terminals_link_when_the_founder_has_left(users: list[User]) -> None:
    """Each listened on loopback only, so they met nowhere but at the founder."""
    ada = await users[0].terminal("8080", "--host", "0.0.0.0", "--name", "ada")

    def shown() -> list[str]:
        """Return the invites that her terminal has shown."""
        return list(dict.fromkeys(re.findall(INVITE, "\n".join(ada.all_lines))))

    for number, name in ((1, BALTHASAR), (2, MARGARET)):
        await ada.until(lambda number=number: len(shown()) == number, "an invite")  # type: ignore[misc]
        guest = await users[number].terminal("8080", "--invite", "-", "--name", name)
        await guest.shows_line("(?i)paste .*invite")
        await guest.line(shown()[-1])
        await guest.shows("-- other machines can connect here now; start with --host 127.0.0.1 to end it")
        await ada.shows_line(rf"\b{name}\b.*(came|joined|is here)")
        if number == 1:
            bob = guest
            await ada.line("/invite")
    await bob.shows_line(rf"\b{MARGARET} is here")
    await ada.line("/quit")
    assert await ada.ended() == 0
    await bob.shows_line(r"\bada left")
    await bob.line(f"/msg {MARGARET} only you and me")
    await guest.shows_line("only you and me")
    await bob.line("/quit")
    assert await bob.ended() == 0

    again = await users[1].terminal("8080")
    await again.shows("listens on 0.0.0.0:8080")
    await again.shows_line(rf"\b{MARGARET} is here")
    assert "other machines can connect here now" not in again.text  # it was so before
    await again.line("/quit")
    assert await again.ended() == 0
    alone = await users[1].terminal("8080", "--host", "127.0.0.1")
    await alone.shows("listens on 127.0.0.1:8080")
    await alone.shows("-- only this computer can connect now; last time others could")


# Two terminals of one machine, and a guest


async def test_a_guest_and_the_second_terminal_of_a_machine_link_by_themselves(users: list[User]) -> None:
    """Over loopback a peer told none of its addresses: each said `offline` of the other, and `/connect` was the way."""
    first = await users[0].child("first", "--host", "0.0.0.0")
    second = await users[0].child("second", "--host", "0.0.0.0")
    await second.do(do="connect", endpoint=f"127.0.0.1:{first.listening['port']}")
    await first.event("joined", user="second")
    await first.do(do="invite", ref="invite")
    [row] = (await first.event("answer", ref="invite"))["rows"]
    users[1].home.mkdir(parents=True, exist_ok=True)
    (users[1].home / "invite").write_text(row["invite"])
    guest = await users[1].child("guest", "--invite", str(users[1].home / "invite"))
    await guest.event("joined", user="second")
    await second.event("joined", user="guest")
    await guest.do(do="send", to="second", text="hello")
    await guest.event("delivered", user="second")
    found = [line["address"] for line in guest.lines if line["event"] == "link" and line["state"] == "up"]
    assert len(found) == 2 and all(address == "10.77.0.1" for address in found)


# A new address


async def joined(user: User, name: str, maker: Child, *words: str) -> Child:
    """Start a program with an invite of a peer, and wait until both know each other."""
    await maker.do(do="invite", ref=name)
    [row] = (await maker.event("answer", ref=name))["rows"]
    user.home.mkdir(parents=True, exist_ok=True)
    (user.home / "invite").write_text(row["invite"])
    child = await user.child(name, "--invite", str(user.home / "invite"), *words)
    await maker.event("joined", user=name)
    await child.event("joined", user=maker.name)
    return child


async def test_a_guest_on_loopback_hears_from_a_third_where_the_founder_is_now(users: list[User]) -> None:
    ada = await users[0].child("ada", "--host", "0.0.0.0")
    third = await joined(users[2], MARGARET, ada, "--host", "0.0.0.0")
    guest = await joined(users[1], BALTHASAR, ada)
    await guest.event("joined", user=MARGARET)
    ada.kill()
    await guest.event("left", user="ada")
    users[0].machine.move("10.77.0.9/24")
    await guest.do(do="send", to="ada", text="where are you now?")
    again = await users[0].child("ada", "--host", "0.0.0.0")  # at another port too
    await again.event("message", text="where are you now?")
    await guest.event("delivered", user="ada")
    await guest.wait(lambda line: line.get("address") == "10.77.0.9")
    assert [await child.leave() for child in (guest, third, again)] == [0, 0, 0]


async def test_a_laptop_that_gets_another_address_tells_it_while_it_runs(users: list[User]) -> None:
    ada = await users[0].child("ada", "--host", "0.0.0.0")
    third = await joined(users[2], MARGARET, ada, "--host", "0.0.0.0")
    guest = await joined(users[1], BALTHASAR, ada)
    await guest.event("joined", user=MARGARET)
    users[0].machine.move("10.77.0.9/24")
    async with within(2 * PATIENCE, "a direct link"):  # one that the third carries may come first
        for number in count():
            await guest.do(do="whois", user="ada", ref=f"where {number}")
            [row] = (await guest.event("answer", ref=f"where {number}"))["rows"]
            if any(host["address"] == "10.77.0.9" for host in row["hosts"]):
                break
            await asyncio.sleep(0.2)  # poll: nobody is told of a link that takes the place of a carried one
    assert [await child.leave() for child in (guest, third, ada)] == [0, 0, 0]


async def test_a_link_from_an_address_that_is_gone_ends_before_it_is_silent_for_long(users: list[User]) -> None:
    ada = await users[0].child("ada", "--host", "0.0.0.0")
    guest = await joined(users[1], BALTHASAR, ada)
    users[1].machine.move("10.77.0.9/24")
    assert (await guest.event("link", state="down"))["reason"] == "lost"  # and not timeout
    await guest.do(do="send", to="ada", text="here again")
    await ada.event("message", text="here again")
    await guest.event("delivered", user="ada")
    assert [await child.leave() for child in (guest, ada)] == [0, 0]


# No endpoint at all: discovery


async def test_moved_members_find_each_other_and_strangers_learn_nothing(users: list[User], tmp_path: Path) -> None:
    ada_s, bob_s, eve_s = users
    with heard_by(eve_s.machine, tmp_path / "heard"):
        eve = await eve_s.child(STRANGER, "--host", "0.0.0.0", "--discover")
        ids, network = await meet(ada_s, bob_s)
        ada_s.machine.move("10.77.0.11/24")
        bob_s.machine.move("10.77.0.12/24")

        ada = await ada_s.child(MARGARET, "--host", "0.0.0.0", "--discover")
        await ada.do(do="send", to=BALTHASAR, text="where are you now?")
        bob = await bob_s.child(BALTHASAR, "--discover")  # listens on loopback: discovers, but is not announced
        await bob.event("message", text="where are you now?")
        await ada.event("delivered", user=BALTHASAR)
        assert {line["address"] for line in bob.lines if line["event"] == "link" and line["state"] == "up"} == {
            "10.77.0.11"
        }
        assert [await child.leave() for child in (bob, ada, eve)] == [0, 0, 0]
    assert not any(line["event"] in ("link", "joined", "warning") for line in eve.lines)
    assert not any(line["event"] == "warning" for child in (ada, bob) for line in child.lines)

    heard = (tmp_path / "heard").read_bytes().lower()
    assert b"_p2pchat" in heard
    for secret in (MARGARET, BALTHASAR, socket.gethostname().lower(), *ids, *network):
        assert secret.lower().encode() not in heard
    for secret in (*ids, *network):
        if re.fullmatch("[0-9a-f]+", secret):
            assert bytes.fromhex(secret).lower() not in heard


async def meet(ada_s: User, bob_s: User) -> tuple[list[str], list[str]]:
    """Link the two once, by invite; return their peer ids and the network's id and key, in all spellings."""
    ada = await ada_s.child(MARGARET, "--host", "0.0.0.0")
    await ada.do(do="invite", ref="invite")
    [row] = (await ada.event("answer", ref="invite"))["rows"]
    bob_s.home.mkdir(parents=True, exist_ok=True)
    (bob_s.home / "invite").write_text(row["invite"])
    bob = await bob_s.child(BALTHASAR, "--invite", str(bob_s.home / "invite"))
    await ada.event("joined", user=BALTHASAR)
    await bob.do(do="send", text="who never wrote is not known by name after a restart")
    await bob.event("delivered")
    ids = [child.listening["peer_id"] for child in (ada, bob)]
    assert [await child.leave() for child in (bob, ada)] == [0, 0]
    network = load_network(ada_s.home / "network")
    assert network is not None and network.key is not None
    return ids + [_hex(one) for one in ids], [network.id, network.key]


def _hex(base32: str) -> str:
    return base64.b32decode(base32 + "=" * (-len(base32) % 8)).hex()


@contextmanager
def heard_by(machine: Machine, file: Path) -> Iterator[None]:
    """Write all multicast DNS packets this machine receives into a file."""
    command = machine.under(sys.executable, "-m", "tests.processes.capture")
    with file.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None and process.stderr.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()
