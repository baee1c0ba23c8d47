"""Attacks by somebody who was expelled, or will be: with its profile, member's key, K, old invites and own programs.

Each login has a home of its own. Eve's peers of the package make her profile and member; her own programs use their
keys.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import time_ns
from types import SimpleNamespace
from typing import Any

import pytest

from p2pchat import Message, Sent, TCPPeer
from p2pchat.cli.terminal.terminal_display import TerminalDisplay
from p2pchat.core.effects import Effect, Send
from p2pchat.core.inputs import Got, Input, StatementsMade
from p2pchat.core.log import Entry, RawEntry, encode_entry
from p2pchat.core.members.statement import Statement, make_guest, make_statement
from p2pchat.core.names import base32
from p2pchat.core.node_context import Now
from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.network import Network, load_network
from p2pchat.protocol import Admit, Digest, Frame, GuestCertificate, Membership, Ping, Pong, Show, Statements, encode
from p2pchat.settings import KIB, MIB, Settings
from tests.deadlines import WAIT, until
from tests.hostile.attacker import Attacker, LogWriter, invented_identity
from tests.hostile.conftest import QUICK


@dataclass(slots=True)
class Logins:
    """Logins with a home each. The first one that starts a peer founds the network; others join with an invite."""

    root: Path
    set_home: Callable[[Path], None]
    stack: AsyncExitStack

    async def start(
        self, login: str, name: str = "", *endpoints: str, invite: str | None = None, settings: Settings = QUICK
    ) -> TCPPeer:
        """Start a peer of a login."""
        name = name or login
        self.set_home(self.root / login)
        data = self.root / login / name
        peer = TCPPeer(0, *endpoints, name=name, data=data, invite=invite, settings=settings)
        await self.stack.enter_async_context(peer)
        return peer

    async def join(self, login: str, founder: TCPPeer, invite: str = "") -> TCPPeer:
        peer = await self.start(login, invite=invite or await founder.make_invite())
        await peer.wait_user(founder.me.name, timeout=WAIT)
        await founder.wait_user(login, timeout=WAIT)
        return peer

    def network(self, login: str) -> Network:
        """Return what the files of a login have, the key of its member too."""
        network = load_network(self.root / login / "network")
        assert network is not None and network.member is not None
        return network

    def identity(self, login: str, name: str = "") -> Identity:
        return load_identity(self.root / login / (name or login) / "identity.pem")

    def attacker(self, login: str, identity: Identity, vouching: list[Statement], name: str = "") -> Attacker:
        """Return a program of a login's own: it shows its member's certificate, and what makes that a member."""
        network = self.network(login)
        one = Attacker(name, network, identity=identity)
        shown = tuple((said.text, said.signature.hex()) for said in vouching)
        one.shown = lambda: Membership(None, network.guest(one.id), shown)  # type: ignore[method-assign]
        self.stack.push_async_callback(one.disconnect)
        return one


@pytest.fixture
async def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Logins]:
    async with AsyncExitStack() as stack:
        yield Logins(tmp_path, lambda home: monkeypatch.setenv("P2PCHAT_HOME", str(home)), stack)


def said_of(peer: TCPPeer) -> list[Statement]:
    members = peer._driver.node.replicator.statements.members
    assert members is not None
    return members.statements()


def additions(peer: TCPPeer, network: Network) -> list[Statement]:
    assert network.member is not None
    return [one for one in said_of(peer) if one.kind == "add" and network.member.peer_id in one.who]


async def texts(peer: TCPPeer) -> dict[str, Message | Sent]:
    return {one.text: one for one in await peer.history(peer.room)}


async def came(peer: TCPPeer, text: str) -> Message | Sent:
    """Wait until a text is in the room."""
    async with asyncio.timeout(WAIT):
        while text not in (found := await texts(peer)):
            await asyncio.sleep(0.02)  # poll: it may have come before
    return found[text]


def is_hidden(peer: TCPPeer, post: Message | Sent) -> bool:
    return post.log.user in peer.directory.hidden


def pen(author: Identity, room: str, by: GuestCertificate | None) -> LogWriter:
    """Return the writer of a log whose header has this certificate."""
    return LogWriter(author, room, by=by)


def profile(name: str, at: int) -> RawEntry:
    return encode_entry(Entry("profile", at, at, b={"name": name}))


def made_up_member(network: Network, user: Identity, below: str) -> GuestCertificate:
    """Return the certificate of a member that nobody added, whose key is smaller than another one."""
    keys = (invented_identity(f"made up {n}") for n in range(1 << 20))
    made = next(key for key in keys if key.peer_id < below)
    return make_guest(network.id, made.peer_id, made.sign, user.peer_id)


def now() -> int:
    return time_ns() // 1000


# What it wrote


@pytest.mark.parametrize("hide", [False, True])
async def test_what_another_profile_wrote_later_is_marked_when_it_comes(logins: Logins, hide: bool) -> None:
    """Nobody saw that profile before. It writes to a peer that has not heard of the removal, which passes it on."""
    ada = await logins.start("ada")
    dan = await logins.join("dan", ada)
    eve = await logins.join("eve", ada)
    await eve.wait_user("dan", timeout=WAIT)
    await dan.aclose()
    await ada.people.expel("eve", hide=hide)
    await ada.aclose()
    await eve.aclose()
    (logins.root / "eve" / "eve").rename(logins.root / "elsewhere")  # a new profile would know what that one heard
    dan = await logins.start("dan")
    second = await logins.start("eve", "second", dan.endpoint)
    await (await second.broadcast("I am still here")).delivered(by="dan", timeout=WAIT)
    await second.aclose()
    ada = await logins.start("ada", "", dan.endpoint)
    post = await came(ada, "I am still here")
    assert post.expelled
    assert is_hidden(ada, post) == hide
    assert post.log.user == logins.identity("eve", "second").peer_id


async def test_a_certificate_of_a_made_up_member_takes_nobody_out_of_a_removal(logins: Logins) -> None:
    """A profile without a name is in no removal. It comes again, as the guest of a member that nobody added."""
    ada = await logins.start("ada")
    await (await logins.join("eve", ada)).aclose()
    network, user = logins.network("eve"), invented_identity("a profile without a name")
    eve = logins.attacker("eve", user, additions(ada, network))
    await eve.join(ada.port)
    eve.say(pen(user, eve.room, network.guest(user.peer_id)).say("written before", c=now()))
    await came(ada, "written before")
    await eve.disconnect()
    await ada.people.expel("eve", hide=True)
    assert is_hidden(ada, (await texts(ada))["written before"])
    again = Attacker("", network, identity=user)
    await again.introduce_itself(ada.port)
    assert network.member is not None
    again.say(Show(Membership(None, made_up_member(network, user, network.member.peer_id))))
    assert await again.wait_closed() == "member"
    assert ada._driver.node.member_directory.is_out(user.peer_id)
    await ada.aclose()
    ada = await logins.start("ada")
    assert is_hidden(ada, (await texts(ada))["written before"])


@pytest.mark.parametrize("wrote", [False, True])
async def test_a_certificate_of_an_admin_brings_no_key_back(logins: Logins, wrote: bool) -> None:
    """Another admin than the one that expelled eve answers for her key: it belongs to all that it has named."""
    ada = await logins.start("ada")
    dan = await logins.join("dan", ada)
    await (await logins.join("fred", ada)).aclose()
    for admin in ("dan", "fred"):
        await ada.people.make_admin(admin)
    eve = await logins.join("eve", ada)
    await dan.wait_user("eve", timeout=WAIT)
    if wrote:
        await (await eve.broadcast("written before")).delivered(by="ada", timeout=WAIT)
    await dan.people.expel("eve")
    await until(lambda: ada.people.is_expelled(ada.user("eve")), "ada knows it")
    await eve.aclose()
    if wrote:  # else it is known while ada runs
        await ada.aclose()
        ada = await logins.start("ada")
    again = Attacker("eve", logins.network("eve"), identity=logins.identity("eve"))
    logins.stack.push_async_callback(again.disconnect)
    await again.introduce_itself(ada.port)
    again.say(Show(Membership(None, logins.network("fred").guest(again.id))))
    assert await again.wait_closed() == "member"
    [out] = [one for one in ada.people.members() if one.role == "expelled"]
    assert [user.name for user in out.users] == ["eve"]


async def test_a_message_of_somebody_expelled_rings_no_bell() -> None:
    rung: list[str] = []
    display: Any = object.__new__(TerminalDisplay)
    display._alerts = SimpleNamespace(ring=lambda text, **_: rung.append(text))
    display._session = SimpleNamespace(settings=SimpleNamespace(is_on=lambda _: True), is_new=lambda _: False)
    display.speakers = set()
    display._is_here, display.shows = lambda _: False, lambda _: True
    display._show_message = lambda *_, **__: asyncio.sleep(0)
    now = "2026-12-01T12:00:00Z"
    for more in ({}, {"expelled": True}):
        event = {"sender": "eve", "text": f"hello {len(more)}", "old": False, "at": now, "sent_at": now, **more}
        await display._show_received(event)
    assert [text.rpartition(": ")[2] for text in rung] == ["hello 0"]


# What it holds


@pytest.mark.parametrize("which", ["the person", "all who came by it"])
async def test_an_invite_by_which_somebody_expelled_came_admits_nobody(logins: Logins, which: str) -> None:
    """It admits more than one, and the expelled one makes another login."""
    ada = await logins.start("ada")
    invite = await ada.make_invite(uses=3)
    await (await logins.join("eve", ada, invite)).aclose()
    if which == "the person":
        await ada.people.expel("eve")
    else:
        await ada.people.expel_invited(ada.people.invites()[0].id)
    fresh = await logins.start("fresh", invite=invite)
    await until(lambda: ada.counted.get("not_admitted") or fresh.links(), "a link, or a refusal")
    assert not fresh.links() and len(ada.people.members()) == 2


async def test_an_admin_hides_no_invite_by_which_it_came(logins: Logins) -> None:
    """Eve adds herself anew: without an invite, long before, and by an invite that is meant for others."""
    ada = await logins.start("ada")
    hers, others = await ada.make_invite(uses=3), await ada.make_invite(uses=2)
    await (await logins.join("eve", ada, hers)).aclose()
    await ada.people.make_admin("eve")
    network, made = logins.network("eve"), {one.uses: one.id for one in ada.people.invites()}
    assert network.member is not None
    member, sign = network.member.peer_id, network.member.sign
    eve = logins.attacker("eve", logins.identity("eve"), [], "eve")
    await eve.join(ada.port)
    anew = [
        make_statement(network.id, member, sign, "add", at, {"who": [member], **by})
        for at, by in enumerate(({}, {"invite": made[2]}))
    ]
    eve.say(Statements(s=[(one.text, one.signature.hex()) for one in anew]))
    await until(lambda: anew[1] in said_of(ada), "her statements")
    await ada.people.expel("eve")
    members = ada._driver.node.replicator.statements.members
    assert members is not None
    assert members.closing(made[3]) is not None and members.closing(made[2]) is None
    await logins.join("fred", ada, others)


# What it did as an admin


async def test_an_admin_with_a_fast_clock_puts_its_removal_off_for_no_minute(logins: Logins) -> None:
    """What came after a removal is marked. Its time is that of who makes it, and not that of what eve said."""
    ada = await logins.start("ada")
    await (await logins.join("eve", ada)).aclose()
    await ada.people.make_admin("eve")
    network = logins.network("eve")
    assert network.member is not None
    eve = logins.attacker("eve", logins.identity("eve"), [], "eve")
    await eve.join(ada.port)
    ahead = make_statement(
        network.id, network.member.peer_id, network.member.sign, "add", now() + 290_000_000, {"who": [ada.me.key]}
    )
    eve.say(Statements(s=[(ahead.text, ahead.signature.hex())]))
    await until(lambda: ahead in said_of(ada), "the statement")
    await ada.people.expel("eve")
    directory, key = ada._driver.node.member_directory, logins.identity("eve").peer_id
    since = directory.since(key)
    assert since is not None and since <= now()
    assert all(one.at <= now() for one in directory.removals(key))  # who comes later knows no other time


@pytest.mark.parametrize("at", [2**53 - 1, 7_000_000_000_000_000])
async def test_an_admin_with_a_late_clock_can_be_expelled(logins: Logins, at: int) -> None:
    """Each statement is later than all before it, by the clock of who makes it; and 2**53 - 1 is the last moment."""
    ada = await logins.start("ada")
    dan = await logins.join("dan", ada)
    await (await logins.join("eve", ada)).aclose()
    await ada.people.make_admin("eve")
    network = logins.network("eve")
    assert network.member is not None
    eve = logins.attacker("eve", logins.identity("eve"), [], "eve")
    await eve.join(ada.port)
    late = make_statement(network.id, network.member.peer_id, network.member.sign, "add", at, {"who": [dan.me.key]})
    eve.say(Statements(s=[(late.text, late.signature.hex())]))
    await until(lambda: late in said_of(ada), "the statement")
    await ada.people.expel("eve")
    assert await eve.wait_closed() == "member"
    since = ada._driver.node.member_directory.since(logins.identity("eve").peer_id)
    assert since is not None and since <= now() + 600_000_000
    await logins.join("fred", ada)


@pytest.mark.parametrize("former", [False, True])
async def test_whom_an_admin_admitted_goes_with_it(logins: Logins, former: bool) -> None:
    """Its spares are said to be of somebody else; or it is no admin any more, and they were kept."""
    ada = await logins.start("ada")
    await (await logins.join("eve", ada)).aclose()
    await ada.people.make_admin("eve")
    network = logins.network("eve")
    assert network.member is not None
    spares = [invented_identity(f"spare {n}").peer_id for n in range(8)]
    eve = logins.attacker("eve", logins.identity("eve"), [], "eve")
    await eve.join(ada.port)
    fields = {"who": spares, "of": ada.me.key}
    said = make_statement(network.id, network.member.peer_id, network.member.sign, "add", now(), fields)
    eve.say(Statements(s=[(said.text, said.signature.hex())]))
    await until(lambda: said in said_of(ada), "the statement")
    assert {one.by and one.by.name for one in ada.people.members() if one.key in spares} == {"eve"}
    if former:
        await ada.people.make_admin("eve", on=False)
    await ada.people.expel("eve", with_admitted=True)
    assert [one.key for one in ada.people.members() if one.role == "member"] == []


# What it costs


async def test_an_accomplice_stores_no_more_of_it_than_its_member_had_left(logins: Logins) -> None:
    """Before: 1 GiB of each of its keys. Here eve is a contact too, and bob passes on what five of her keys write."""
    small = replace(QUICK, member_bytes=MIB, user_least_bytes=MIB)
    ada = await logins.start("ada", settings=small)
    eve = await logins.join("eve", ada)
    await ada.send("eve", "welcome")
    await eve.aclose()
    await (await logins.join("bob", ada)).aclose()
    await ada.people.expel("eve")
    bob = logins.attacker("bob", logins.identity("bob"), additions(ada, logins.network("bob")), "bob")
    await bob.join(ada.port)
    keys = [logins.identity("eve"), *(invented_identity(f"a key of eve's {n}") for n in range(4))]
    for key in keys:
        log = pen(key, bob.room, logins.network("eve").guest(key.peer_id))
        await bob.flood(log.say("x" * 30_000, c=now()) for _ in range(20))
    bob.say(Ping())
    await bob.next(Pong)
    of_user = ada._driver.node.replicator.quota.bytes.of_user
    stored = sum(of_user[key.peer_id] for key in keys)
    assert MIB - 64 * KIB < stored <= MIB


async def test_before_go_one_frame_of_statements_is_taken(logins: Logins) -> None:
    """Each is compared with all that is known, and nobody was admitted yet."""
    ada = await logins.start("ada")
    await (await logins.join("eve", ada)).aclose()
    await ada.people.expel("eve")
    eve = Attacker("eve", logins.network("eve"), identity=logins.identity("eve"))
    logins.stack.push_async_callback(eve.disconnect)
    await eve.introduce_itself(ada.port)
    eve.say(*[Statements()] * 3)
    assert await eve.wait_closed() == "order"


async def test_statements_do_not_pile_up_for_a_peer_that_reads_nothing(logins: Logins) -> None:
    """Thirty bytes ask for all that are there, again and again."""
    ada = await logins.start("ada")
    await (await logins.join("eve", ada)).aclose()
    network = logins.network("ada")
    assert network.member is not None
    made = [
        make_statement(network.id, network.member.peer_id, network.member.sign, "add", n + 1,
                       {"who": [invented_identity(f"{n}.{m}").peer_id for m in range(8)]})
        for n in range(600)
    ]  # fmt: skip
    ada._driver.put(StatementsMade(made))
    await ada._driver.settle()
    size = sum(len(encode(Statements(s=[(one.text, one.signature.hex())]))) for one in made)
    eve = logins.attacker("eve", logins.identity("eve"), additions(ada, logins.network("eve")), "eve")
    await eve.join(ada.port)
    eve.read_nothing()
    node, sent, answered = ada._driver.node, 0, asyncio.Event()
    handle = node.handle

    def counting(input: Input, now: Now) -> list[Effect]:
        nonlocal sent
        effects = handle(input, now)
        frames = [one.frame for one in effects if isinstance(one, Send)]
        sent += sum(len(encode(frame)) for frame in frames if isinstance(frame, Statements))
        if isinstance(input, Got) and any(isinstance(frame, Digest) for frame in input.frames):
            answered.set()
        return effects

    node.handle = counting  # type: ignore[method-assign]
    eve.say(*[Statements(sum="00" * 32)] * 300, Digest(sum="11" * 32))
    async with asyncio.timeout(WAIT):
        await answered.wait()
    assert sent < 40 * size


async def test_what_it_changes_later_is_marked(logins: Logins) -> None:
    """Its peer edits what it wrote before it was expelled, and reacts, by a peer that has not heard of the removal."""
    ada = await logins.start("ada")
    dan = await logins.join("dan", ada)
    eve = await logins.join("eve", ada)
    await eve.wait_user("dan", timeout=WAIT)
    receipt = await eve.broadcast("good morning")
    await receipt.delivered(by="ada", timeout=WAIT)
    await receipt.delivered(by="dan", timeout=WAIT)
    await dan.aclose()
    await eve.aclose()
    await ada.people.expel("eve")
    await ada.aclose()
    dan = await logins.start("dan")
    eve = await logins.start("eve", "", dan.endpoint)
    await eve.wait_user("dan", timeout=WAIT)
    old = await came(eve, "good morning")
    await (await eve.edit(old, "buy my coins")).delivered(by="dan", timeout=WAIT)
    await eve.aclose()
    ada = await logins.start("ada", "", dan.endpoint)
    await dan.broadcast("after that")
    await came(ada, "after that")
    found = await texts(ada)
    assert "good morning" in found or found["buy my coins"].expelled


async def test_whoever_was_expelled_keeps_the_name_it_had(logins: Logins) -> None:
    """It names itself anew by a peer that has not heard of the removal."""
    ada = await logins.start("ada")
    dan = await logins.join("dan", ada)
    await (await logins.join("eve", ada)).aclose()
    network, user = logins.network("eve"), logins.identity("eve")
    vouching = additions(ada, network)
    eve = logins.attacker("eve", user, vouching, "eve")
    await eve.join(ada.port)
    said = pen(user, eve.room, network.guest(user.peer_id))
    eve.say(said.write(profile("eve", now())), said.say("it is me", c=now()))
    await came(ada, "it is me")
    await came(dan, "it is me")
    await eve.disconnect()
    await dan.aclose()
    await ada.people.expel("eve")
    await ada.aclose()
    dan = await logins.start("dan")
    eve = logins.attacker("eve", user, vouching, "eve")
    await eve.join(dan.port)
    eve.say(said.write(profile("fred", now())), said.say("call me fred", c=now()))
    await dan.wait_user("fred", timeout=WAIT)
    await eve.disconnect()
    ada = await logins.start("ada", "", dan.endpoint)
    assert (await came(ada, "call me fred")).expelled
    assert ada.user(base32(user.peer_id)).name == "eve"
    await ada.aclose()
    ada = await logins.start("ada")
    assert ada.user(base32(user.peer_id)).name == "eve"
    await ada.people.pardon("eve")
    back = logins.attacker("eve", user, vouching, "eve")
    await back.join(ada.port)
    anew = pen(user, back.room, network.guest(user.peer_id))
    back.say(anew.write(profile("fred", now())))
    await ada.wait_user("fred", timeout=WAIT)


# What it learns and tells


async def test_a_fresh_key_learns_no_addresses_at_a_full_peer(logins: Logins) -> None:
    """A full peer tells members whom else to dial. An expelled one has K, and as many keys as it likes."""
    ada = await logins.start("ada", settings=replace(QUICK, max_links=2, known_links=0))
    dan = await logins.join("dan", ada)
    await (await logins.join("eve", ada)).aclose()
    await ada.people.expel("eve")
    cyd = await logins.join("cyd", ada)
    network = logins.network("eve")
    fresh = logins.attacker("eve", invented_identity("a fresh key"), additions(ada, network))
    await fresh.introduce_itself(ada.port)
    fresh.say(Show(fresh.shown()))
    assert await fresh.wait_closed() == "member"
    heard = b"".join(encode(frame) for frame in fresh.frames if isinstance(frame, Frame)).decode(errors="replace")
    assert not re.search(rf"\b({dan.port}|{cyd.port}|{dan.me.key}|{cyd.me.key})\b", heard)
    member = logins.attacker("dan", invented_identity("dan's program"), additions(ada, logins.network("dan")))
    await member.introduce_itself(ada.port)
    member.say(Show(member.shown()))
    assert await member.wait_closed() == "busy"
    told = [frame.peers for frame in member.frames if isinstance(frame, Admit)]
    assert [sorted(record.id for record in peers) for peers in told] == [sorted([dan.me.key, cyd.me.key])]
