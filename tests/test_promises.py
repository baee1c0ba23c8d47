"""The promises over real processes: one story for each row of the table in docs/guarantees.md.

Each story fails when its promise is broken. What must not happen is looked for behind something that comes later, so
that no story depends on how fast the machine is. The table names the tests of all cases of a row beside this file.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from base64 import b32decode
from collections.abc import AsyncIterator, Sequence
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from p2pchat import parse_invite
from p2pchat.core.log import Entry, Ref, encode_entry
from p2pchat.identity.identity import Identity
from p2pchat.identity.network import Network
from p2pchat.protocol import Bye, Hello, Ping, Pong
from p2pchat.testing.process_mesh import Child, Line
from tests.deadlines import until
from tests.hostile.attacker import NOW, Attacker, appearing, group_of, invented_identity, letter_of
from tests.ports import free_ports
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login, met, says
from tests.processes.peers import KILLED, Cluster
from tests.processes.proxy import Proxy
from tests.processes.settings_override import changes
from tests.processes.strangers import Stranger, chat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.story]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
SOON = {"left_grace": 0.2, "redial_most": 0.3, "gossip_within": 0.1, "want_after": 0.1, "typing_expires": 600.0}


@pytest_asyncio.fixture(loop_scope="module")
async def net(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[Cluster]:
    """Yield a mesh without peers; its directories and logs are kept if the story fails."""
    net = Cluster(tmp_path / "home", tmp_path / "logs", fork_server)
    net.logs.mkdir()
    net.changes = changes(SOON)
    try:
        yield net
    finally:
        await net.destroy()


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[list[Login]]:
    logins = [Login(tmp_path / name, tmp_path / "logs", fork_server) for name in ("first", "second", "third")]
    yield logins
    for login in logins:
        await login.destroy()


@pytest_asyncio.fixture(loop_scope="module")
async def proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    yield proxy
    await proxy.close()


async def linked(net: Cluster, *names: str) -> list[Child]:
    """Start peers that are all linked, and whose names are stored by what each wrote."""
    peers = [await net.add(name) for name in names]
    for peer in peers:
        await told(peer, await peer.send(f"here is {peer.name}"), *names)
    return peers


async def told(writer: Child, sent: Line, *names: str) -> None:
    """Wait until the writer is told that the message is delivered to each of these but itself."""
    for name in names:
        if name != writer.name:
            await writer.event("delivered", id=sent["id"], user=name)


async def came(peer: Child, *wanted: str) -> list[Line]:
    """Return the messages with these texts as they came, once all are there."""
    return await peer.wait(lambda line: line["event"] == "message" and line["text"] in wanted, count=len(wanted))


async def answer(peer: Child, do: str, **fields: Any) -> list[Line]:
    """Return the rows that answer a command."""
    ref = f"{do} {len(peer.lines)}"
    await peer.do(do=do, ref=ref, **fields)
    rows: list[Line] = (await peer.event("answer", ref=ref))["rows"]
    return rows


async def hint(sender: Child, reader: Child) -> None:
    """Let a peer see that another one is typing, which is never stored: it comes behind all that was sent before."""
    for on in (True, False):
        seen = reader.count("typing", typing=on)
        await sender.do(do="typing", to=reader.name, on=on)
        await reader.wait(lambda line, on=on: line["event"] == "typing" and line["typing"] is on, count=seen + 1)  # type: ignore[misc]


def shown(peer: Child) -> list[Line]:
    return [line for line in peer.lines if line["event"] == "message"]


def texts(lines: Sequence[Line], **fields: str) -> list[str]:
    return [line["text"] for line in lines if fields.items() <= line.items()]


def same(lines: Sequence[Line], **fields: str) -> list[tuple[str, ...]]:
    """Return of each message with these fields what is the same on every peer."""
    chosen = [line for line in lines if fields.items() <= line.items()]
    return [(line["id"], line["text"], line["sender_id"], line["sent_at"]) for line in chosen]


def files_with(word: bytes, *directories: Path) -> list[Path]:
    paths = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
    return [path for path in paths if word in path.read_bytes()]


# ---- a message, and what its writer is told


async def test_accepted_is_on_this_disk(net: Cluster, tmp_path: Path) -> None:
    net.changes = changes(SOON, stall=tmp_path / "stall")
    ada, bob = await linked(net, "ada", "bob")
    sent = [await ada.send(f"line {number}", to="bob") for number in range(10)]
    (tmp_path / "stall").touch()  # from here on no commit returns
    await ada.do(do="send", to="bob", text="not on this disk")
    await hint(bob, ada)
    assert "not on this disk" not in texts(await net.history("ada"))
    await net.kill(ada)
    assert not ada.count("sent", text="not on this disk")
    assert same(await net.history("ada"), kind="dm") == same(sent)


async def test_delivered_is_on_their_disk(net: Cluster, tmp_path: Path) -> None:
    ada = await net.add("ada")
    net.changes = changes(SOON, stall=tmp_path / "stall")
    bob = await net.add("bob")
    await told(ada, await ada.send("before", to="bob"), "bob")
    (tmp_path / "stall").touch()
    letter = await ada.send("not on bob's disk", to="bob")
    await hint(ada, bob)
    await hint(bob, ada)
    await net.kill(bob)
    await ada.event("left", user="bob")
    assert not ada.count("delivered", id=letter["id"])
    (tmp_path / "stall").unlink()
    bob = await net.restart(bob)
    await told(ada, letter, "bob")
    await net.kill(bob)
    assert texts(await net.history("bob")) == ["before", "not on bob's disk"]


async def test_read_was_marked_as_read_and_stays_so(net: Cluster, tmp_path: Path) -> None:
    ada = await net.add("ada")
    net.changes = changes(SOON, stall=tmp_path / "stall")
    bob = await net.add("bob")
    letter = await ada.send("psst", to="bob")
    await told(ada, letter, "bob")
    await hint(bob, ada)  # he is online, and looks at the room
    assert not ada.count("read", id=letter["id"])
    (tmp_path / "stall").touch()
    await bob.type("/go ada")
    await hint(bob, ada)
    assert not ada.count("read", id=letter["id"])  # a kill would undo it
    (tmp_path / "stall").unlink()
    read = await ada.event("read", id=letter["id"])
    assert (read["user_id"], read["count"], read["of"]) == (bob.listening["user_id"], 1, 1)
    await net.kill(bob)
    bob = await net.restart(bob)
    assert {row["conversation"]: row["unread"] for row in await answer(bob, "list")} == {"room": 0, "ada": 0}


# ---- who is away, gone, or out of reach


async def test_who_was_offline_gets_all_in_order_with_its_times(net: Cluster) -> None:
    ada, bob = await linked(net, "ada", "bob")
    await bob.leave()
    await ada.event("left", user="bob")
    sent = [await ada.send(f"line {number}", to=to) for number in range(5) for to in ("bob", "room")]
    await net.kill(ada)
    ada = await net.restart(ada)
    sent += [await ada.send(f"later {number}", to="bob") for number in range(3)]
    bob = await net.restart(bob)
    await came(bob, *texts(sent))
    for kind in ("dm", "room"):
        assert same(shown(bob), kind=kind) == same(sent, kind=kind)
    for line in sent:
        await told(ada, line, "bob")
    assert not any(line["old"] for line in shown(bob))
    assert await net.finish() == []


async def test_who_is_gone_is_heard_through_others_and_spoken_for_by_nobody(net: Cluster) -> None:
    ada, bob, cyd = await linked(net, "ada", "bob", "cyd")
    await cyd.leave()
    await ada.event("left", user="cyd")
    await answer(ada, "group", name="ops", members=["bob", "cyd"])
    sent = [await ada.send(f"{to} {number}", to=to) for number in range(5) for to in ("room", "#ops")]
    await came(bob, *texts(sent))
    await ada.leave()  # for good
    cyd = await net.restart(cyd)
    lines = await came(cyd, *texts(sent))
    for kind in ("room", "group"):
        assert same(lines, kind=kind) == same(sent, kind=kind)
    eve = Attacker("eve", net.network)
    await eve.join(bob.listening["port"])
    as_ada = SimpleNamespace(peer_id=b32decode(ada.listening["user_id"] + "====").hex(), sign=eve.identity.sign)
    eve.say(eve.pen(cast(Identity, as_ada), eve.room).say("trust eve"))
    await eve.until(lambda: eve.is_full(as_ada.peer_id))
    await eve.disconnect()
    await chat(bob, cyd, "after eve")
    assert not bob.count("message", text="trust eve")


async def test_a_file_brings_what_no_network_does(net: Cluster, tmp_path: Path) -> None:
    async def carry(file: str, *words: str, to: str) -> tuple[int, bytes]:
        code, out, err = await net.talk(*words, str(tmp_path / file), "--data", str(net.home / to))
        return code, out + err

    ada, cyd = await linked(net, "ada", "cyd")
    sent = [await ada.send(text) for text in ("one", "two", "three")]
    await came(cyd, "three")
    await ada.leave()
    assert (await carry("stick", "export", to="cyd"))[0] == 0
    await cyd.leave()
    bob = net.child("bob")  # linked with nobody
    await bob.start()
    (tmp_path / "forged").write_bytes((tmp_path / "stick").read_bytes().replace(b"three", b"forty"))
    code, said = await carry("forged", "import", to="bob")
    assert code == 1 and b"refused: not as their writer signed it" in said
    for new in (True, False):
        code, said = await carry("stick", "import", "--json", to="bob")
        assert code == 0 and (json.loads(said)["new"] > 0) is new
    assert same(await came(bob, "one", "two", "three")) == same(sent)
    assert sorted(texts(shown(bob))) == sorted(["here is ada", "here is cyd", "one", "two", "three"])
    assert same(await net.history("bob")) == same(await net.history("cyd"))
    await carry("back", "export", to="bob")
    await carry("back", "import", to="cyd")
    assert not cyd.count("delivered", user="bob")


# ---- links, order and duplicates


@pytest.mark.skipif(sys.platform != "linux", reason="the peers have addresses of their own in 127.0.0.0/8")
async def test_a_link_that_breaks_mid_message_loses_and_repeats_nothing(net: Cluster, proxy: Proxy) -> None:
    through = await proxy.listen()
    ada = net.child("ada", "--host", "127.0.0.2", "--advertise", through)
    await ada.start()
    bob = net.child("bob", through, "--host", "127.0.0.3", "--advertise", "127.0.0.1:9")  # nothing listens there
    numbers = range(0)
    for cut, (back, after) in enumerate(((False, 300), (True, 300), (False, 1500), (True, 1500)), 1):
        proxy.to("127.0.0.2", ada.listening["port"])
        await (bob.do(do="connect", endpoint=through) if numbers else bob.start())
        for peer in (ada, bob):
            await peer.wait(lambda line: line["event"] == "link" and line["state"] == "up", count=cut)
        proxy.to("127.0.0.1", 9)  # there is no other link until all is written
        proxy.left = {back: after}  # bytes
        proxy.ran_out.clear()
        for peer in (ada, bob):
            await peer.type(*(f"{peer.name} {number}" for number in range(len(numbers), len(numbers) + 30)))
        numbers = range(len(numbers) + 30)
        await until(proxy.ran_out.is_set, "the link to be cut")
        for peer in (ada, bob):
            await peer.event("sent", text=f"{peer.name} {numbers[-1]}")
    proxy.to("127.0.0.2", ada.listening["port"])
    await bob.do(do="connect", endpoint=through)
    for peer, other in permutations((ada, bob)):
        wanted = [f"{other.name} {number}" for number in numbers]
        await came(peer, *wanted)
        assert texts(shown(peer)) == wanted
    assert same(await net.history("ada")) == same(await net.history("bob"))


async def test_order_is_that_of_writing_and_the_same_for_all(net: Cluster) -> None:
    ada, *others = await linked(net, "ada", "bob", "cyd")
    for peer in (ada, *others):
        await peer.type(*(f"{peer.name} {number}" for number in range(20)))
    await ada.event("sent", text="ada 7")
    await net.kill(ada)
    ada = await net.restart(ada)
    for peer in (ada, *others):  # the last ones come to this life of ada
        await peer.type(*(f"{peer.name} {number}" for number in range(20, 30)))
    for peer, writer in permutations((ada, *others), 2):
        await peer.event("message", text=f"{writer.name} 29")
        numbers = [int(text.split()[1]) for text in texts(shown(peer), sender=writer.name) if "here" not in text]
        assert numbers == sorted({*numbers})
    one, two, three = [same(await net.history(name)) for name in ("ada", "bob", "cyd")]
    assert one == two == three
    assert await net.finish() == []  # all that was told as accepted came to all


async def test_a_reply_waits_for_its_message_or_says_that_it_is_missing(net: Cluster) -> None:
    net.changes = changes({**SOON, "order_wait": 60.0})
    ada = await net.add("ada")
    net.changes = changes({**SOON, "order_wait": 0.2})
    bob = await net.add("bob")  # who does not wait long
    eve = Attacker("eve", net.network)
    await eve.join(ada.listening["port"])
    dan = eve.pen(invented_identity("dan"), eve.room)
    question = dan.say("what time is it?")
    reply = Entry("text", NOW + 9, NOW + 9, re=Ref(dan.author.peer_id[:32] + dan.log.run, 1), b="noon")
    eve.say(eve.pen(eve.identity, eve.room).write(encode_entry(reply)))
    assert (await bob.event("message", text="noon")).get("gap")
    await hint(bob, ada)
    assert not ada.count("message", text="noon")
    eve.say(question)
    await ada.event("message", text="noon")
    assert texts(shown(ada)) == ["what time is it?", "noon"] and "gap" not in shown(ada)[1]
    await bob.event("message", text="what time is it?")
    assert texts(await net.history("ada")) == texts(await net.history("bob")) == ["what time is it?", "noon"]
    await eve.disconnect()


@posix
async def test_nothing_is_stored_twice_and_an_event_comes_again_with_its_id(net: Cluster) -> None:
    ada, bob = await linked(net, "ada", "bob")
    sent = []
    for number, point in enumerate(("before-have:1", "before-cursor:1")):
        await net.kill(bob)
        bob = net.child("bob", port=bob.listening["port"], points=[point])
        await bob.start()
        sent.append(await ada.send(f"line {number}"))
        assert await bob.ended() == KILLED
    bob = await net.restart(bob)
    for line in sent:
        await told(ada, line, "bob")
    stored = same(await net.history("bob"), sender="ada")
    assert stored[1:] == same(sent)
    lives = [child for child in net.children if child.name == "bob"]
    await until(lambda: {*stored} == {one for life in lives for one in same(shown(life))}, "an event for each message")
    assert all(len({*same(shown(life))}) == len(shown(life)) for life in lives)


async def test_who_disconnects_is_reported_with_the_reason(net: Cluster) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such signals")
    net.changes = changes({**SOON, "ping_after": 0.5, "dead_after": 3.0})
    ada, bob, cyd, dan, eva = [await net.add(name) for name in ("ada", "bob", "cyd", "dan", "eva")]
    await bob.leave()
    cyd.kill()
    dan.process.send_signal(signal.SIGSTOP)
    for peer in (ada, eva):
        for name, reason in (("bob", "left"), ("cyd", "lost"), ("dan", "timeout")):
            await peer.event("left", user=name, reason=reason)


async def test_two_that_cannot_dial_each_other_are_linked_through_any_third(net: Cluster) -> None:
    net.changes = changes({**SOON, "left_grace": 20.0})
    ada = await net.add("ada")
    dan = await net.add("dan")
    bob, cyd = [await net.add(name, "--no-listen") for name in ("bob", "cyd")]
    await told(bob, await bob.send("to cyd alone", to="cyd"), "cyd")
    await told(cyd, await cyd.send("to bob alone", to="bob"), "bob")
    for carrier in (ada, dan):
        assert "alone" not in str(carrier.lines)
    [row] = await answer(bob, "whois", user="cyd")
    via = row["hosts"][0]["via"]
    carrier = next(one for one in (ada, dan) if one.name == via)
    await net.kill(carrier)
    await told(bob, await bob.send("after that", to="cyd"), "cyd")
    assert not bob.count("left", user="cyd") and not cyd.count("left", user="bob")


# ---- groups, deletion, lost disks


async def test_who_was_removed_is_heard_by_nobody_who_knows(net: Cluster) -> None:
    ada, bob, cyd = await linked(net, "ada", "bob", "cyd")
    await answer(ada, "group", name="ops", members=["bob", "cyd"])
    await cyd.event("group", change="created")
    await told(cyd, await cyd.send("before", to="#ops"), "ada", "bob")
    await cyd.leave()
    await ada.event("left", user="cyd")
    await answer(ada, "kick", to="#ops", users=["cyd"])
    await bob.event("group", change="removed", target="cyd")
    await ada.leave()
    await bob.leave()
    cyd = await net.restart(cyd)  # alone
    lost = await cyd.send("behind the cut", to="#ops")
    await net.kill(cyd)

    ada, bob, cyd = [await net.restart(peer) for peer in (ada, bob, cyd)]
    assert (await cyd.event("warning", code="undelivered"))["undelivered"] == [lost["id"]]
    await told(cyd, await cyd.send("in the room"), "ada", "bob")
    for peer in (ada, bob):
        await came(peer, "in the room")
        assert texts(shown(peer)) == ["in the room"]
        assert texts(await net.history(peer.name), kind="group") == ["before"]
    assert await net.finish() == []


async def test_what_is_deleted_is_gone_here_and_does_not_return(net: Cluster) -> None:
    ada, bob = await linked(net, "ada", "bob")
    await told(ada, await ada.send("plugh from ada", to="bob"), "bob")
    await told(bob, await bob.send("xyzzy from bob", to="ada"), "ada")
    await bob.leave()
    await ada.event("left", user="bob")
    await ada.send("not yet with bob", to="bob")
    [row] = await answer(ada, "delete_history", to="bob")
    assert (row["messages"], row["kept"]) == (2, 1)
    assert files_with(b"xyzzy", net.home / "ada") == files_with(b"plugh", net.home / "ada") == []
    await net.kill(ada)
    ada, bob = [await net.restart(peer) for peer in (ada, bob)]
    await came(bob, "not yet with bob")
    await told(bob, await bob.send("and on we go", to="ada"), "ada")
    assert texts(await net.history("ada"), kind="dm") == ["not yet with bob", "and on we go"]
    assert [row["status"] for row in await answer(bob, "receipts", to="ada")] == ["delivered", "delivered"]


@pytest.mark.parametrize("disk", ["old copy", "lost"])
async def test_a_database_of_former_times_or_none_is_filled_by_others(net: Cluster, tmp_path: Path, disk: str) -> None:
    ada, bob = await linked(net, "ada", "bob")
    await bob.leave()
    shutil.copytree(net.home / "bob", tmp_path / "old copy")
    bob = await net.restart(bob)
    for peer, to in ((bob, "room"), (bob, "ada"), (ada, "bob"), (ada, "room")):
        await told(peer, await peer.send(f"{peer.name} to {to}", to=to), "ada", "bob")
    await net.kill(bob)
    if disk == "lost":
        for file in (net.home / "bob").glob("history.db*"):
            file.unlink()
    else:
        shutil.rmtree(net.home / "bob")
        shutil.copytree(tmp_path / "old copy", net.home / "bob")
    bob = net.child("bob", ada.endpoint)  # the address book may be lost too
    await bob.start()
    await bob.send("as if nothing had been")
    await came(ada, "as if nothing had been")
    await came(bob, "ada to bob", "ada to room")
    for to in ("room", "ada"):
        await bob.event("sent", text=f"bob to {to}")
    assert same(await net.history("ada")) == same(await net.history("bob"))
    await until(lambda: len(net.faults(complete=True)) == 1, "all messages to be in both logs")
    assert "restored: starts on an older disk" in net.faults(complete=True)[0]


# ---- members and strangers who mean harm


async def test_who_is_expelled_gets_nothing_and_does_not_come_back(logins: list[Login]) -> None:
    first, second, _ = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada, "--uses", "9")
    bob = await second.peer("bob", invite=invite)
    await met(ada, bob)
    await first.decide("ada", "expel", "bob", "--yes")
    await bob.event("member", change="expelled", by="ada")
    await ada.send("not for bob")
    assert await bob.leave() in (0, 3)
    for name in ("bob", "another"):  # with the old invite, and as another profile
        bob = await second.peer(name, ada.endpoint, invite=invite)
        await bob.event("link", state="refused", code="member", endpoint=ada.endpoint)
        await says(bob, "again every hour")
        assert bob.is_running and not bob.count("message")
        await second.kill(bob)
    await first.decide("ada", "pardon", "bob")
    bob = await second.peer("bob", ada.endpoint)
    await bob.event("message", text="not for bob")  # what comes later shows that nothing came before


async def test_an_invite_admits_as_many_as_it_says_through_a_kill(logins: list[Login]) -> None:
    first, second, third = logins
    port = int(free_ports(1)[0])
    ada = await first.peer("ada", port=port, points=["after-admission:1"])
    invite = await first.invite(ada)
    bob = await second.peer("bob", invite=invite)
    assert await ada.ended() == KILLED
    ada = await first.peer("ada", port=port)
    await met(ada, bob)
    assert (await third.refused("eve", "--invite", invite))[0] == "used"
    revoked = await first.invite(ada)
    await first.decide("ada", "invite", "--revoke", parse_invite(revoked).invitation.id)
    assert (await third.refused("eve", "--invite", revoked))[0] == "revoked"
    [row] = [row for row in await first.invites("ada") if row["used_by"]]
    assert row["used_by"] == ["bob"]


async def test_made_up_names_shut_nobody_out(net: Cluster) -> None:
    net.changes = changes({**SOON, "member_bytes": 600 * 1024})
    ada = await net.add("ada")
    for number, name in enumerate(("bob", "cyd"), 1):
        eve = Attacker("eve", net.network)
        await eve.join(ada.listening["port"])
        users = [invented_identity(f"made up {n}") for n in range(40)]
        eve.say(*appearing(eve, users), *(letter_of(eve, user) for user in users))
        eve.say(*(group_of(eve, user, "buy") for user in users))
        pen = eve.pen(eve.identity, eve.room)
        eve.say(*(pen.say(*["noise " * 200] * 50) for _ in range(10)), Ping())
        await eve.next(Pong)
        newcomer = net.child(name, ada.endpoint)
        await newcomer.start()
        await newcomer.event("joined", user="ada")
        await told(newcomer, await newcomer.send(f"{name} says hello", to="ada"), "ada")
        await came(ada, f"{name} says hello")
        assert len([row for row in await answer(ada, "list") if row.get("begun_by") == name]) == 1
        assert 0 < len([text for text in texts(await net.history("ada")) if "noise" in text]) < 500 * number
        await eve.disconnect()
        await newcomer.leave()
        await net.kill(ada)
        ada = await net.restart(ada)


async def test_a_stranger_learns_a_key_and_leaves_nothing(net: Cluster) -> None:
    net.changes = changes({**SOON, "handshake_timeout": 2.0})
    ada, bob = await linked(net, "ada", "bob")
    port, before = ada.listening["port"], len(ada.lines)
    strangers = []
    for words in (b"GET /a-stranger HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"):  # and half a hello of TLS
        strangers.append(await Stranger.connect(port))
        strangers[-1].say(words)
    for key in ("cd" * 32, "ab" * 32):
        eve = Attacker("a-stranger", Network(net.network.id, key))
        with pytest.raises(AssertionError, match="has closed the connection"):
            await eve.join(port)
        hello, bye = eve.frames
        assert isinstance(hello, Hello) and (hello.id, hello.sig, hello.proof) == (None, None, None)
        assert isinstance(bye, Bye) and bye.code == "network"
        await eve.disconnect()
    for stranger in strangers:
        await stranger.over()  # closed by the other end
        stranger.gone()
    await chat(ada, bob, "after the strangers")
    assert {line["event"] for line in ada.lines[before:]} <= {"sent", "message", "delivered", "read", "seen"}
    assert files_with(b"a-stranger", net.home, net.logs) == []
