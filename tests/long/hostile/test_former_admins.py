"""What somebody signs who was an admin, and an accomplice inside passes on: with own programs and the keys of both.

All peers are processes, each login with a home of its own. A third one is asked what it shows and what it stored.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from time import time_ns

import pytest
import pytest_asyncio

from benchmarks.against.usage import cpu_of
from p2pchat.core.log import Entry, encode_entry
from p2pchat.core.members.statement import ADD, Statement, make_guest, make_statement
from p2pchat.identity.identity import load_identity
from p2pchat.identity.network import Network, load_network
from p2pchat.identity.profile import DATABASE_NAME
from p2pchat.protocol import Entries, Membership, Ping, Pong, Statements
from p2pchat.testing.process_mesh import Child
from tests.conftest import Tell
from tests.deadlines import WAIT, within
from tests.hostile.attacker import NOW, Attacker, LogWriter, invented_identity
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login, met

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU time of another process is read in /proc"),
]
NAMES = ("ada", "bob", "carol", "mallory")
MANY, IN_ONE_FRAME = 6_000, 200


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[dict[str, Login]]:
    (tmp_path / "logs").mkdir()
    logins = {name: Login(tmp_path / name, tmp_path / "logs", fork_server) for name in NAMES}
    yield logins
    for login in logins.values():
        await login.destroy()


def network_of(login: Login) -> Network:
    network = load_network(login.home / "network")
    assert network is not None and network.member is not None
    return network


async def joined(logins: dict[str, Login]) -> dict[str, Child]:
    """Return ada, who founded the network, her admin carol, and two members."""
    children = {"ada": await logins["ada"].peer("ada")}
    invite = await logins["ada"].invite(children["ada"], "--uses", "9")
    for name in NAMES[1:]:
        children[name] = await logins[name].peer(name, invite=invite)
    await met(*children.values())
    await logins["ada"].decide("ada", "admin", "carol")
    await children["carol"].event("member", change="admin", user="carol")
    return children


def signed(carol: Network, *who: str) -> Statement:
    assert carol.member is not None
    return make_statement(carol.id, carol.member.peer_id, carol.member.sign, ADD, time_ns() // 1000, {"who": list(who)})


def told(*statements: Statement) -> Statements:
    return Statements(s=[(one.text, one.signature.hex()) for one in statements])


async def accomplice(login: Login, *peers: Child) -> list[Attacker]:
    """Return programs of a member, each linked with one of these peers."""
    found = list[Attacker]()
    for peer in peers:
        one = Attacker("mallory", network_of(login), identity=load_identity(login.home / "mallory" / "identity.pem"))
        one.shown = lambda one=one: Membership(None, one.network.guest(one.id))  # type: ignore[method-assign,misc]
        await one.join(peer.listening["port"])
        found.append(one)
    return found


async def answered(*programs: Attacker) -> None:
    for one in programs:
        before = len(one.frames)
        one.say(Ping())
        await one.next(Pong, before)


def named_as(writer: LogWriter, name: str) -> Entries:
    return writer.write(encode_entry(Entry("profile", NOW, NOW, b={"name": name})))


def stored(login: Login, name: str) -> tuple[int, int]:
    """Return how many statements and entries a peer has stored."""
    path = login.home / name / DATABASE_NAME
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        [[said, entries]] = database.execute("select (select count(*) from statements), (select count(*) from entries)")
    return said, entries


@pytest.mark.parametrize("words", [("expel", "carol", "--yes"), ("expel", "carol", "--with-admitted", "--yes"),
                                   ("unadmin", "carol", "--yes")])  # fmt: skip
async def test_a_key_that_a_former_admin_names_writes_to_nobody(
    logins: dict[str, Login], words: tuple[str, ...], tell: Tell
) -> None:
    """Neither before somebody else names it nor by thousands of statements, and the accomplice's link stays."""
    children = await joined(logins)
    carol, bob = network_of(logins["carol"]), children["bob"]
    async with within(WAIT, "the name of each in an entry"):
        while any(stored(logins[name], name)[1] < len(children) for name in ("ada", "bob")):
            await asyncio.sleep(0.02)  # poll: no event says that somebody's name was stored
    await children["carol"].leave(), await children["mallory"].leave()
    await logins["ada"].decide("ada", *words)
    await bob.event("member", change="unadmin" if words[0] == "unadmin" else "expelled", user="carol")
    before = {name: stored(logins[name], name) for name in ("ada", "bob")}
    fresh, guest = invented_identity("fresh"), invented_identity("guest of fresh")
    programs = await accomplice(logins["mallory"], children["ada"], bob)
    by_fresh = make_guest(carol.id, fresh.peer_id, fresh.sign, guest.peer_id)
    for one in programs:
        one.say(told(signed(carol, fresh.peer_id)))
        for writer in (LogWriter(fresh, one.room), LogWriter(guest, one.room, by=by_fresh)):
            one.say(named_as(writer, "carol"), writer.say("it is me"))
        await answered(one)
    assert {name: stored(logins[name], name) for name in before} == before
    many = [told(*(signed(carol, invented_identity(f"{n} {k}").peer_id) for k in range(IN_ONE_FRAME)))
            for n in range(MANY // IN_ONE_FRAME)]  # fmt: skip
    began = cpu_of(bob.process.pid)
    for one in programs:
        for frame in many:
            one.say(frame)
        await answered(one)
    tell(f"{MANY} statements of a former admin: {cpu_of(bob.process.pid) - began:.2f} s of CPU at a third peer")
    assert {name: stored(logins[name], name) for name in before} == before
    await children["ada"].send("hello")
    await bob.event("message", text="hello")
    texts = [line.get("text") for name in before for line in await logins[name].history(name)]
    assert set(texts) == {"hello"} and not any(one.over for one in programs)
    for one in programs:
        await one.disconnect()


async def test_whom_only_a_former_admin_had_named_is_listed_as_expelled_marked_and_can_be_expelled(
    logins: dict[str, Login],
) -> None:
    """The founder's removal names nobody, as if she had heard nothing of it: she said it on another machine."""
    children = await joined(logins)
    carol, ada, bob = network_of(logins["carol"]), children["ada"], children["bob"]
    await children["carol"].leave(), await children["mallory"].leave()
    fresh = invented_identity("fresh")
    [program] = await accomplice(logins["mallory"], bob)
    writer = LogWriter(fresh, program.room)
    program.say(told(signed(carol, fresh.peer_id)), named_as(writer, "dora"), writer.say("it is me"))
    for peer in (ada, bob):
        await peer.event("message", text="it is me")
    founder = network_of(logins["ada"]).member
    assert founder is not None and carol.member is not None
    removal = make_statement(
        carol.id, founder.peer_id, founder.sign, "remove", time_ns() // 1000, {"who": [carol.member.peer_id]}
    )
    program.say(told(removal))
    await bob.event("member", change="dropped")
    program.say(writer.say("and on", c=NOW + 9))
    await answered(program)
    [line] = [line for line in await logins["bob"].history("bob") if line.get("text") == "it is me"]
    assert line["expelled"] and (await logins["bob"].members("bob"))["dora"] == "expelled"
    await ada.event("member", change="expelled", user="carol")
    assert (await logins["ada"].members("ada"))["dora"] == "expelled"
    await logins["ada"].decide("ada", "expel", "dora", "--yes")
    await bob.event("member", change="expelled", user="dora")
    assert "and on" not in [line.get("text") for line in await logins["bob"].history("bob")]
    await program.disconnect()
