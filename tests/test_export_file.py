"""Files between peers without a link, also damaged ones."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
from pathlib import Path

import pytest

from p2pchat import (
    Attachment,
    DataLocked,
    ImportRefused,
    Left,
    MemberChange,
    Message,
    P2PChatError,
    TCPPeer,
    UnknownName,
    import_into,
    open_history,
)
from p2pchat.core.content.pieces import leaf_of, root_of
from p2pchat.core.members.statement import make_statement
from p2pchat.core.sync.import_file import ExportReader
from p2pchat.identity.identity import Identity
from p2pchat.protocol import LENGTH, Statements, encode
from p2pchat.testing import Mesh, mesh
from tests.deadlines import WAIT, until, within
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net
from tests.messaging.texts import texts


def cut_all(net: Mesh) -> None:
    """Cut all peers off from each other."""
    net.partition(*([peer] for peer in net.peers))


async def test_a_file_delivers_between_peers_that_never_meet(net: Mesh, tmp_path: Path) -> None:
    ada, bob, cyd = net.peers
    cut_all(net)
    await ada.broadcast("to all")
    await ada.send("bob", "to you")
    exported = await ada.export(tmp_path / "exported")
    assert (exported.entries, exported.conversations) == (5, 2)  # the names of all are entries, too
    assert exported.size_bytes == (tmp_path / "exported").stat().st_size
    imported = await bob.import_from(tmp_path / "exported")
    assert (imported.new, imported.known, imported.foreign, imported.refused) == (2, 3, 0, {})
    assert (imported.problem, imported.unreadable, imported.entries) == ("", 0, 5)
    assert await texts(bob, "ada") == ["to you"]
    assert await texts(bob, "room") == ["to all"]
    imported = await cyd.import_from(str(tmp_path / "exported"))
    assert (imported.new, imported.foreign) == (1, 1)
    crew = await bob.create_group("crew", [ada.me])  # what bob writes in it is nothing of cyd's
    await bob.send(crew, "among us")
    await bob.export(tmp_path / "of bob")
    imported = await cyd.import_from(tmp_path / "of bob")
    assert (imported.new, imported.known, imported.foreign, imported.refused) == (1, 4, 2, {})  # who is in it
    assert cyd.groups() == []


async def test_imported_messages_are_events_and_passed_on(net: Mesh, tmp_path: Path) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada], [bob, cyd])
    receipt = await ada.broadcast("by hand")
    await ada.export(tmp_path / "exported")
    bobs, cyds = bob.events(Message, consumer=None), cyd.events(Message, consumer=None)
    await bob.import_from(tmp_path / "exported")
    for events in (bobs, cyds):
        message = await anext(events)
        assert (message.text, message.id, message.sender.name) == ("by hand", receipt.id, "ada")
    net.heal()
    await receipt.delivered(timeout=60, count=2)  # reported when the links are up again


async def test_one_conversation_can_be_exported(net: Mesh, tmp_path: Path) -> None:
    ada, *_ = net.peers
    cut_all(net)
    await ada.broadcast("to all")
    await ada.send("cyd", "a secret")
    await ada.export(tmp_path / "exported", "room")
    assert b"secret" not in (tmp_path / "exported").read_bytes()
    with pytest.raises(UnknownName):
        await ada.export(tmp_path / "other", "dave")
    assert not (tmp_path / "other").exists()


async def test_a_long_history_goes_through_pipes_with_progress(net: Mesh) -> None:
    ada, bob, _ = net.peers
    cut_all(net)
    said = [f"line {number}" for number in range(6000)]
    await ada.send_many("bob", said)
    pipe, told = io.BytesIO(), list[int]()
    await ada.export(pipe, "bob", progress=told.append)
    assert told[-1] == 6000
    pipe.seek(0)
    told.clear()
    assert (await bob.import_from(pipe, progress=told.append)).new == 6000
    assert len(told) > 2 and told == sorted(told) and told[-1] == 6000
    assert [post.text for post in await bob.history("ada", limit=0)] == said


async def test_an_export_is_in_the_order_of_writing(net: Mesh, tmp_path: Path) -> None:
    """A reader of the file need not hold much back."""
    ada, bob, cyd = net.peers
    net.partition([ada, bob], [cyd])
    for number in range(40):
        await (await ada.broadcast(f"ping {number}")).delivered(timeout=60, count=1)
        await (await bob.broadcast(f"pong {number}")).delivered(timeout=60, count=1)
    await ada.export(tmp_path / "exported")
    await cyd.import_from(tmp_path / "exported")
    assert [post.text for post in await cyd.history("room")] == [
        f"{what} {number}" for number in range(40) for what in ("ping", "pong")]  # fmt: skip


# ---- bad files


@pytest.fixture
async def exported(net: Mesh, tmp_path: Path) -> bytes:
    ada, *_ = net.peers
    cut_all(net)
    for number in range(3):
        await ada.send("bob", f"line {number}")
        await ada.broadcast(f"all {number}")
    await ada.export(tmp_path / "exported")
    return (tmp_path / "exported").read_bytes()


async def test_a_file_of_another_network_or_kind_is_refused(net: Mesh, exported: bytes, tmp_path: Path) -> None:
    _, bob, _ = net.peers
    with pytest.raises(ImportRefused, match="no file that"):
        await bob.import_from(io.BytesIO(b"dear bob"))
    async with mesh("eve") as other:
        with pytest.raises(ImportRefused, match="another network"):
            await other.peers[0].import_from(io.BytesIO(exported))
        assert await other.peers[0].history() == []
    for wrong in (tmp_path / "nothing", tmp_path):
        with pytest.raises(P2PChatError, match="cannot read"):
            await bob.import_from(wrong)


class Failing(io.RawIOBase):
    """A file of a program that raises."""

    def readinto(self, buffer: object) -> int:
        raise StopIteration

    write = readinto


async def test_a_file_of_a_program_that_raises_ends_its_own_call(net: Mesh) -> None:
    ada, *_ = net.peers
    async with within(WAIT, "the failure of the file"):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await ada.import_from(Failing())  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="StopIteration"):
            await ada.export(Failing())  # type: ignore[arg-type]


async def test_a_failed_export_leaves_the_former_file(net: Mesh, tmp_path: Path) -> None:
    ada, *_ = net.peers
    with pytest.raises(P2PChatError, match="is a directory"):
        await ada.export(tmp_path)
    with pytest.raises(P2PChatError, match="cannot write"):
        await ada.export(tmp_path / "missing" / "exported")
    await ada.export(tmp_path / "exported")
    former = (tmp_path / "exported").read_bytes()

    def give_up(_: int) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await ada.export(tmp_path / "exported", progress=give_up)
    if Path("/dev/full").exists():
        with pytest.raises(P2PChatError, match="cannot write /dev/full: No space"):
            await ada.export("/dev/full")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["exported"]
    assert (tmp_path / "exported").read_bytes() == former


# ---- statements about members


def roles(peer: TCPPeer) -> dict[str, str]:
    return {user.name: one.role for one in peer.people.members() for user in one.users}


def with_statements(data: bytes, *frames: Statements) -> bytes:
    """Return a file with further statements before those that it has."""
    first = LENGTH.size + LENGTH.unpack_from(data)[0]
    return data[:first] + b"".join(map(encode, frames)) + data[first:]


async def test_who_was_away_learns_an_expulsion_from_a_file_before_what_came_later(tmp_path: Path) -> None:
    async with mesh("ada", "bob", "cyd", "eve", logins=True) as net:
        ada, bob, cyd, eve = net.peers
        await eve.broadcast("before")
        await net.settle()
        await ada.export(tmp_path / "old")
        net.partition([ada], [bob, eve], [cyd])
        await ada.people.expel("eve")
        written = await eve.broadcast("after")
        await until(lambda: written.delivered_to, "bob has it, who heard of nothing yet")
        net.partition([ada, bob], [cyd], [eve])
        await until(lambda: roles(bob)["eve"] == "expelled", "bob hears of it, and ada has what he has")
        await net.settle()
        await ada.export(tmp_path / "exported")
        events = cyd.events(MemberChange, Message, consumer=None)
        assert (await cyd.import_from(tmp_path / "exported")).new == 1
        expelled, message = await anext(events), await anext(events)
        assert isinstance(expelled, MemberChange) and isinstance(message, Message)
        assert (expelled.user.name, expelled.by.name, expelled.change) == ("eve", "ada", "expelled")
        assert (message.text, message.expelled) == ("after", True)
        assert [(post.text, post.expelled) for post in await cyd.history()] == [("before", False), ("after", True)]
        await cyd.import_from(tmp_path / "old")
        assert roles(cyd) == roles(ada) == {"ada": "founder", "bob": "member", "cyd": "member", "eve": "expelled"}
        cyd = await net.restart(cyd)
        assert roles(cyd)["eve"] == "expelled"


async def test_a_removal_in_a_file_ends_links_and_a_file_of_the_expelled_brings_nobody_back(tmp_path: Path) -> None:
    async with mesh("ada", "cyd", "eve", logins=True) as net:
        ada, cyd, eve = net.peers
        net.partition([ada], [cyd, eve])
        await ada.people.expel("eve")
        await ada.export(tmp_path / "exported")
        left = cyd.events(Left, consumer=None)
        await cyd.import_from(tmp_path / "exported")
        gone = await anext(left)
        assert (gone.user.name, gone.reason, cyd.links()) == ("eve", "expelled", [])
        await until(lambda: eve.people.own_role == "expelled", "eve reads who expelled her")
        await eve.broadcast("let me in")
        await eve.export(tmp_path / "of eve")
        for peer in (ada, cyd):
            await peer.import_from(tmp_path / "of eve")
            assert roles(peer)["eve"] == "expelled"
            assert [(post.text, post.expelled) for post in await peer.history()] == [("let me in", True)]


async def test_a_file_with_made_up_statements_changes_nothing_and_its_entries_are_taken(tmp_path: Path) -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, _ = net.peers
        cut_all(net)
        await ada.broadcast("to all")
        await ada.export(tmp_path / "exported")
        founder, member = net.membership.founder, net._hosts[2].member
        assert member is not None
        forged, own = (
            make_statement(net.membership.id, by, member.sign, "remove", 1, {"who": [ada.me.key, bob.me.key]})
            for by in (founder, member.peer_id)
        )
        frames = [Statements(s=[(one.text, one.signature.hex())]) for one in (forged, own)]
        before = roles(bob)
        data = with_statements((tmp_path / "exported").read_bytes(), *frames)
        imported = await bob.import_from(io.BytesIO(data))
        assert (imported.new, imported.unreadable, imported.problem) == (1, 1, "")  # that of eve has no effect
        assert roles(bob) == before and await texts(bob, "room") == ["to all"]
        assert forged.text not in (said := [text for text, _ in net._hosts[1].storage.statements()])
        assert own.text not in said


async def test_a_named_network_has_no_statements_in_its_files(home: Path) -> None:
    async with TCPPeer(network="lab", data=home / "ada", name="ada") as ada:
        await ada.broadcast("to all")
        await ada.export(home / "exported")
        data = (home / "exported").read_bytes()
    assert b'"members"' not in data
    member = Identity.generate()
    added = make_statement("00" * 16, member.peer_id, member.sign, "add", 1, {"who": [member.peer_id]})
    data = with_statements(data, Statements(founder=member.peer_id, s=[(added.text, added.signature.hex())]))
    async with TCPPeer(network="lab", data=home / "bob", name="bob") as bob:
        imported = await bob.import_from(io.BytesIO(data))
        assert (imported.new, imported.unreadable, imported.problem) == (2, 0, "")
        assert bob._driver.disk.storage.statements() == []


# ---- profiles that are not running


async def test_an_offline_profile_can_be_exported_and_imported_into(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        async with TCPPeer(0, ada.port, data=home / "bob", name="bob") as bob:
            await bob.wait_user("ada", timeout=60)
            await ada.wait_user("bob", timeout=60)
            pairs = [
                (peer._driver.node.replicator.people, user.key) for peer in (ada, bob) for user in (ada.me, bob.me)
            ]
            await until(lambda: all(people.has_profile(key) for people, key in pairs), "both have both names")
        await ada.send("bob", "while you are away")
        await ada.broadcast("and all the others")
    async with open_history(home / "ada") as history:
        exported = await history.export(home / "exported")
        assert exported.entries == 4  # with both names
        assert (await history.export(home / "dm", "bob")).entries == 1
    if os.name == "posix":
        assert (home / "exported").stat().st_mode & 0o777 == 0o600
    imported = await import_into(home / "bob", home / "exported")
    assert (imported.new, imported.problem) == (2, "")
    async with open_history(home / "bob") as history:
        assert [post.text for post in await history.history()] == ["while you are away", "and all the others"]
    async with TCPPeer(data=home / "bob") as bob:
        assert bob.me.name == "bob"
        with pytest.raises(DataLocked) as caught:
            await import_into(home / "bob", home / "exported")
        assert caught.value.pid == os.getpid()


async def test_importing_into_an_empty_directory_makes_no_peer(home: Path) -> None:
    with pytest.raises(P2PChatError, match="there is no peer"):
        await import_into(home / "nobody", home / "exported")
    assert not (home / "nobody").exists()


async def test_open_offline_dials_no_peer_and_forgets_no_address(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        async with TCPPeer(data=home / "bob", name="bob") as bob:
            assert await bob.connect(ada.port)
        await ada.export(home / "exported")
        await import_into(home / "bob", home / "exported")
        assert ada.links() == []
        async with TCPPeer(data=home / "bob") as bob:
            await bob.wait_user("ada", timeout=60)


async def test_a_group_is_one_conversation_of_an_export(net: Mesh, tmp_path: Path) -> None:
    ada = net.peers[0]
    ops = await ada.create_group("ops", ["bob"])
    await ops.send("to the group")
    await ada.broadcast("to all")
    assert (await ada.export(tmp_path / "all")).conversations == 2
    exported = await ada.export(tmp_path / "ops", ops)
    assert (exported.entries, exported.conversations) == (2, 1)


async def test_only_a_former_export_is_replaced(net: Mesh, tmp_path: Path) -> None:
    ada = net.peers[0]
    await ada.broadcast("one")
    notes = tmp_path / "notes.txt"
    notes.write_text("not to be lost")
    with pytest.raises(P2PChatError, match=r"notes\.txt exists and is not an export of this network: name"):
        await ada.export(notes)
    assert notes.read_text() == "not to be lost"
    async with mesh("eve") as other:
        await other.peers[0].export(notes := tmp_path / "of another network")
    with pytest.raises(P2PChatError, match="is not an export of this network"):
        await ada.export(notes)
    (tmp_path / "exported").touch()
    for entries in (4, 5):
        assert (await ada.export(tmp_path / "exported")).entries == entries
        await ada.broadcast("one more")


# ---- content of files


DATA = random.Random(9).randbytes(700_000)


async def file_of(peer: TCPPeer) -> Attachment:
    """Return the newest attachment of the room."""
    return [post for post in await peer.room.history() if post.attachments][-1].attachments[0]


async def test_a_file_carries_content_to_a_peer_that_never_meets_its_writer(net: Mesh, tmp_path: Path) -> None:
    ada, bob, cyd = net.peers
    cut_all(net)
    await ada.send(ada.room, "look", files=[("a.bin", DATA), ("empty", b""), ("again", DATA)])
    gone = await ada.send(ada.room, "gone", files=[("b", b"of a deleted message")])
    await ada.delete(gone.id)
    exported = await ada.export(tmp_path / "exported")
    assert exported.files == 2 and exported.size_bytes == (tmp_path / "exported").stat().st_size
    assert b"of a deleted message" not in (tmp_path / "exported").read_bytes()
    imported = await bob.import_from(tmp_path / "exported")
    assert (imported.files, imported.damaged_files, imported.problem) == (2, 0, "")
    assert await (await file_of(bob)).is_here() and await (await file_of(bob)).read() == DATA
    imported = await bob.import_from(tmp_path / "exported")
    assert (imported.files, imported.new, imported.problem) == (0, 0, "")  # here already
    imported = await cyd.import_from(tmp_path / "exported", files=False)
    assert imported.files == 0 and not await (await file_of(cyd)).is_here()
    assert (await ada.export(tmp_path / "without", files=False)).files == 0
    assert (tmp_path / "without").stat().st_size < 10_000


async def test_an_earlier_version_reads_the_entries_of_a_file_with_content(net: Mesh, tmp_path: Path) -> None:
    ada = net.peers[0]
    await ada.send(ada.room, "look", files=[("a.bin", DATA)])
    await ada.export(tmp_path / "exported")
    reader = ExportReader(ada.room.key)
    reader.feed((tmp_path / "exported").read_bytes())
    reader.finish()
    assert reader.ended and (reader.entries, reader.unreadable, reader.problem) == (4, 0, "")


async def test_an_import_ends_the_wait_for_its_content(net: Mesh, tmp_path: Path) -> None:
    ada, bob, _ = net.peers
    cut_all(net)
    await ada.send(ada.room, "look", files=[("a.bin", DATA)])
    await ada.export(tmp_path / "exported")
    assert (await bob.import_from(tmp_path / "exported", files=False)).new == 1
    waiting = asyncio.create_task((await file_of(bob)).read())
    await asyncio.sleep(0)
    assert (await bob.import_from(tmp_path / "exported")).files == 1
    async with within(60, "the content"):
        assert await waiting == DATA


async def test_content_that_an_import_left_out_comes_by_itself_once_somebody_has_it(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada, TCPPeer(data=home / "bob", name="bob") as bob:
        await ada.send(ada.room, "look", files=[("a.bin", DATA)])
        await ada.export(home / "exported", files=False)
        assert (await bob.import_from(home / "exported")).new == 2
        file = await file_of(bob)
        assert not await file.is_here()
        assert await bob.connect(ada.port)
        async with within(60, "the file"):
            while not await file.is_here():
                await asyncio.sleep(0.02)  # poll: its event may come before anybody listens


async def test_content_that_is_not_what_a_message_names_is_not_kept(net: Mesh, tmp_path: Path) -> None:
    ada, bob, cyd = net.peers
    cut_all(net)
    await ada.send(ada.room, "one", files=[("a.bin", DATA)])
    await ada.send(ada.room, "two", files=[("b.bin", b"whole")])
    await ada.export(tmp_path / "exported")
    good = (tmp_path / "exported").read_bytes()
    middle = good.index(DATA[:1000]) + 1000
    (tmp_path / "damaged").write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    imported = await bob.import_from(tmp_path / "damaged")
    assert (imported.files, imported.damaged_files, imported.problem) == (1, 1, "")  # the other one is whole
    assert [await post.attachments[0].is_here() for post in await bob.room.history()] == [False, True]
    (tmp_path / "cut").write_bytes(good[:middle])
    imported = await cyd.import_from(tmp_path / "cut")
    assert "the end of its files is missing" in imported.problem and imported.new == 2
    assert not await (await cyd.room.history())[0].attachments[0].is_here()
    assert (await cyd.import_from(tmp_path / "exported")).files == 2


@pytest.mark.parametrize("size", [5, 4097])
async def test_content_that_no_message_names_is_not_kept(size: int, net: Mesh, tmp_path: Path) -> None:
    """Small content is taken together with others, larger content alone."""
    ada, bob, _ = net.peers
    cut_all(net)
    await ada.broadcast("hello")
    await ada.export(tmp_path / "exported", files=False)
    data = random.Random(size).randbytes(size)
    other = json.dumps({"t": "content", "root": root_of(size, leaf_of(data)), "size": size}).encode()
    end = json.dumps({"t": "content_end", "count": 1}).encode()
    behind = b"".join([len(other).to_bytes(4, "big"), other, data, len(end).to_bytes(4, "big"), end])
    for more, problem in ((behind, ""), (behind[:-1], "cannot be found"), (behind[:30], "cannot be found"),
                          (b"\xff" * 40, "cannot be found"), (behind[: 4 + len(other) + 2], "is missing")):  # fmt: skip
        (tmp_path / "more").write_bytes((tmp_path / "exported").read_bytes() + more)
        imported = await bob.import_from(tmp_path / "more")
        assert imported.files == 0 and problem in imported.problem and bool(problem) == bool(imported.problem), more
