"""The driver and its storage: batches of writes, acknowledgements, and slow or failing disks.

Storage is in memory, behind real threads, with a gate before each commit. A closed gate is a slow disk. Commits can be
made to fail.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from msgspec import structs

from p2pchat import Events, Message, PeerClosed, Sent, StorageError, TCPPeer, Warned
from p2pchat.client import Streams
from p2pchat.core.durable_changes import Change, DiskLevel, Position, Start, Stretch, TextStart
from p2pchat.core.effects import Commit, Send
from p2pchat.core.inputs import CommitFailed, Committed, DiskLow, Input, QuotaLifted
from p2pchat.core.log import Batch, Entry, LogId, encode_entry, encode_header, extend_chain, first_chain, size_bytes
from p2pchat.identity.identity import Identity
from p2pchat.peer_resources import PeerResources, contexts
from p2pchat.protocol import Bye, ConversationId, Ping, Pong, UserId, encode
from p2pchat.runtime.connection_manager import Transport
from p2pchat.runtime.driver import OutgoingFrames
from p2pchat.runtime.frame_queue import CommitsInFlight
from p2pchat.runtime.recent_entries import MAX_BYTES, READ_BYTES, EntrySpan, RecentEntries, spans_of
from p2pchat.runtime.storage_worker import StorageWorker, disk_level
from p2pchat.server import Server
from p2pchat.settings import MIB, Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from p2pchat.testing import Mesh, mesh
from p2pchat.testing.meshes import QUICK
from tests.deadlines import until

LOG = LogId("c0" * 32, "a1" * 32, "0123456789abcdef")


class GatedStorage(TemporaryStorage):
    """Memory behind threads. `gate` lets commits through, `failing` makes them fail, `commits` counts changes each."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()  # set when a commit waits at the gate
        self.failing: Exception | None = None
        self.failing_once: Exception | None = None
        self.unwarmable: Exception | None = None
        self.unreadable: Exception | None = None  # what fetches end with, and how many did
        self.unread = 0
        self.unsendable = False  # whether what is fetched fits in no frame
        self.tried_out = 0
        self.failed_at: list[float] = []  # monotonic seconds
        self.commits: list[list[Change]] = []

    @property
    def is_volatile(self) -> bool:
        return False  # it stands for a disk

    def close(self) -> None:
        """Keep everything, for the tests to read."""

    def commit(self, changes: Sequence[Change]) -> None:
        self.waiting.set()
        self.gate.wait()
        if self.failing_once is not None:
            error, self.failing_once = self.failing_once, None
            raise error
        if self.failing is not None:
            self.failed_at.append(time.monotonic())
            raise self.failing
        self.commits.append(list(changes))
        super().commit(changes)

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | TextStart | None]:
        if self.unreadable is not None:
            self.unread += 1
            raise self.unreadable
        found, more = super().fetch(conversation, user, start, batches=batches)
        if self.unsendable:
            found = [structs.replace(batch, raws=[(c, "\1" * 60_000) for c, _ in batch.raws]) for batch in found]
        return found, more

    def check_writable(self) -> None:
        self.tried_out += 1
        if self.failing is not None:
            raise self.failing

    def warm(self) -> None:
        if self.unwarmable is not None:
            raise self.unwarmable


class Hanging:
    """A transport whose dials get no answer."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        return await self._transport.listen(server, host, port)

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        await asyncio.sleep(timeout)  # the dial hangs until its timeout
        raise TimeoutError

    async def resolve(self, host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
        return await self._transport.resolve(host, port, timeout=timeout)


class Stumbling:
    """A transport whose first dials fail with an unexpected error, as CPython's race of addresses did (IndexError)."""

    def __init__(self, transport: Transport, falls: int) -> None:
        self._transport = transport
        self.falls = falls

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        return await self._transport.listen(server, host, port)

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        self.falls -= 1
        if self.falls >= 0:
            raise IndexError("list index out of range")
        return await self._transport.dial(host, port, timeout=timeout)

    async def resolve(self, host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
        return await self._transport.resolve(host, port, timeout=timeout)


async def join(net: Mesh, name: str, storage: TemporaryStorage, settings: Settings | None = None) -> TCPPeer:
    identity = Identity.generate()
    peer = TCPPeer(0, net.peers[0].endpoint, name=name, settings=settings)
    home = PeerResources(identity, net.membership, storage, *contexts(identity))
    peer._lifecycle.run_in(lambda: home, net.network.transport(name))
    await peer.start()
    return peer


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    async with mesh("ada") as net:
        yield net


@pytest.fixture
def storage() -> GatedStorage:
    return GatedStorage()


@pytest.fixture
async def bob(net: Mesh, storage: GatedStorage) -> AsyncIterator[TCPPeer]:
    peer = await join(net, "bob", storage, Settings(max_uncommitted_units=100))
    await peer.broadcast("first")  # begins the log, so that later commits hold texts only
    await until(lambda: peer._lifecycle.idle, "an idle peer")
    storage.commits.clear()
    yield peer
    storage.failing = None
    storage.gate.set()
    await peer.aclose()


# ---- writing


async def test_texts_written_during_a_commit_go_in_together(bob: TCPPeer, storage: GatedStorage) -> None:
    await until(lambda: bob._driver.node.replicator.people.has_profile(bob.me.key), "its name is written")
    await bob._driver.settle()
    storage.commits.clear()
    storage.gate.clear()
    storage.waiting.clear()
    one = asyncio.create_task(bob.broadcast("one"))
    await until(storage.waiting.is_set, "a call of the storage")
    rest = [asyncio.create_task(bob.broadcast(str(number))) for number in range(200)]
    await asyncio.sleep(0)  # the tasks start
    assert not one.done()
    storage.gate.set()
    await asyncio.gather(one, *rest)
    changes = [change for changes in storage.commits for change in changes]
    texts = [[batch.raws for batch in change.batches if batch.log.user == bob.me.key] for change in changes]
    assert [sum(map(len, raws)) for raws in texts if raws] == [1, 200]


def written(peer: TCPPeer) -> int:
    """Return how many bytes a peer's one link was given."""
    assert peer._driver is not None
    (client,) = peer._driver.connections._clients.values()
    return client._written_bytes


async def test_links_do_not_wait_for_writers(net: Mesh, bob: TCPPeer) -> None:
    await net.settle()
    before = written(bob)
    receipt = await bob.broadcast("accepted")
    assert written(bob) > before
    await receipt.delivered(timeout=60)


async def test_nothing_is_sent_or_reported_before_it_is_durable(net: Mesh, bob: TCPPeer, storage: GatedStorage) -> None:
    ada = net.peers[0]
    events = bob.events(Sent)
    await net.settle()
    storage.gate.clear()
    storage.waiting.clear()
    sending = asyncio.create_task(bob.broadcast("not yet"))
    await until(storage.waiting.is_set, "a call of the storage")
    await ada.rename("eve")  # comes over the same link, in order
    await bob.wait_user("eve", timeout=60)
    assert [post.text for post in await ada.history("room")] == ["first"]
    assert not sending.done()
    storage.gate.set()
    await (await sending).delivered(timeout=60)
    assert [(await anext(events)).text for _ in range(2)] == ["first", "not yet"]


async def test_received_entries_are_acknowledged_after_the_commit(
    net: Mesh, bob: TCPPeer, storage: GatedStorage
) -> None:
    ada = net.peers[0]
    await net.settle()
    storage.gate.clear()
    storage.waiting.clear()
    receipt = await ada.send("bob", "on whose disk?")
    await until(storage.waiting.is_set, "a call of the storage")
    assert receipt.status == "accepted"
    storage.gate.set()
    await receipt.delivered(timeout=60)


async def test_reading_pauses_while_storage_is_behind(net: Mesh, bob: TCPPeer, storage: GatedStorage) -> None:
    ada = net.peers[0]
    events = bob.events(Message)
    await net.settle()
    storage.gate.clear()
    said = [f"{number} " + "x" * 2000 for number in range(3000)]  # 6 MB: far more than a link holds
    receipts = await ada.send_many("bob", said)
    await until(lambda: bob._driver._in_flight.is_blocked or bob._driver._turns.queues, "the pause")
    storage.gate.set()
    await receipts.delivered(timeout=60)
    assert [(await anext(events)).text for _ in said] == said


# ---- acknowledging


async def two_messages(net: Mesh, bob: TCPPeer) -> Events[Message]:
    """Have bob's bot take two messages; the first is acknowledged by asking for the second."""
    await net.settle()  # names are written, and none comes behind
    events = bob.events(Message, consumer="bot")
    await (await net.peers[0].send_many(bob.me, ["one", "two"])).delivered(timeout=60)
    assert [(await anext(events)).text for _ in range(2)] == ["one", "two"]
    await until(lambda: bob._lifecycle.idle, "an idle peer")
    return events


async def test_a_durable_ack_is_not_undone_by_a_commit_at_the_same_time(
    net: Mesh, bob: TCPPeer, storage: GatedStorage
) -> None:
    events = await two_messages(net, bob)
    await asyncio.gather(bob.rename("robert"), events.ack())  # the new name is an entry, with a commit of its own
    await until(lambda: bob._lifecycle.idle, "an idle peer")
    places = places_of_bot(storage)
    assert places == sorted(places)
    assert places[-1] == storage.load([bob.me.key]).consumers["bot"]


async def test_places_taken_by_a_reader_are_on_disk_after_an_ack(
    net: Mesh, bob: TCPPeer, storage: GatedStorage
) -> None:
    events = await two_messages(net, bob)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await anext(events)  # acknowledges the second, and gives up on a third
    await events.ack()
    assert storage.load([bob.me.key]).consumers["bot"] >= place_of_two(storage)


async def test_a_place_is_saved_with_the_next_commit(net: Mesh, storage: GatedStorage) -> None:
    bob = await join(net, "bob", storage, Settings(consumer_saved_after=600.0))  # only another commit saves it
    events = await two_messages(net, bob)
    await bob.send("ada", "an entry of its own")
    assert events._reader.place > 0
    assert places_of_bot(storage)[-1] == events._reader.place


async def test_a_place_that_no_commit_takes_along_is_saved_soon(net: Mesh, bob: TCPPeer, storage: GatedStorage) -> None:
    await net.settle()  # its name is written
    events = await two_messages(net, bob)
    await until(lambda: places_of_bot(storage)[-1] == events._reader.place, "the place on disk")
    assert storage.commits[-1] == [Change(consumers={"bot": events._reader.place})]


async def test_a_place_is_saved_when_storage_works_again(net: Mesh, bob: TCPPeer, storage: GatedStorage) -> None:
    events = await two_messages(net, bob)
    storage.failing_once = StorageError("the disk is full: make room")
    with pytest.raises(StorageError):
        await bob.send("ada", "lost, and the place with it")
    await until(lambda: places_of_bot(storage)[-1] == events._reader.place, "the place on disk")


def place_of_two(storage: GatedStorage) -> int:
    """Return the place of the second message; a name may come behind it."""
    [place] = [one.place for one in storage.places(0, 99) if '"two"' in str(one.raw[1])]
    return place


def places_of_bot(storage: GatedStorage) -> list[int]:
    """Return the places that were saved of bob's bot, in order."""
    return [change.consumers["bot"] for changes in storage.commits for change in changes if "bot" in change.consumers]


async def test_a_refused_acknowledgement_is_written_when_repeated(
    net: Mesh, bob: TCPPeer, storage: GatedStorage
) -> None:
    events = await two_messages(net, bob)
    storage.failing = StorageError("the disk is full: make room")
    with pytest.raises(StorageError):
        await events.ack()
    storage.failing = None
    await events.ack()
    assert storage.load([bob.me.key]).consumers["bot"] >= place_of_two(storage)


# ---- dials that fail


async def test_an_address_is_dialled_again_after_any_error(net: Mesh) -> None:
    identity = Identity.generate()
    peer = TCPPeer(0, net.peers[0].endpoint, name="bob", settings=QUICK)
    home = PeerResources(identity, net.membership, TemporaryStorage(), *contexts(identity))
    peer._lifecycle.run_in(lambda: home, Stumbling(net.network.transport("bob"), 2))
    async with peer:
        await peer.wait_user("ada", timeout=60)


async def test_a_peer_that_closes_does_not_wait_for_a_dial_without_answer(net: Mesh) -> None:
    identity = Identity.generate()
    peer = TCPPeer(0, net.peers[0].endpoint, name="bob", settings=Settings(start_timeout=0.01, bye_timeout=60.0))
    home = PeerResources(identity, net.membership, TemporaryStorage(), *contexts(identity))
    peer._lifecycle.run_in(lambda: home, Hanging(net.network.transport("bob")))
    await peer.start()
    async with asyncio.timeout(60):
        await peer.aclose()


# ---- storage that fails


async def test_a_failed_commit_fails_its_write_and_keeps_nothing(
    net: Mesh, bob: TCPPeer, storage: GatedStorage
) -> None:
    ada = net.peers[0]
    await net.settle()
    warnings = bob.events(Warned)
    storage.failing = StorageError("the disk is full: make room")
    for text in ("lost", "lost again"):
        with pytest.raises(StorageError):
            await bob.broadcast(text)
    assert (await anext(warnings)).code == "storage"
    storage.failing = None
    assert (await anext(warnings)).code == "storage_works"
    await (await bob.broadcast("kept")).delivered(timeout=60)
    for peer in (ada, bob):
        assert [post.text for post in await peer.history("room")] == ["first", "kept"]


async def test_a_hosted_user_hears_that_storage_fails_or_is_slow_and_that_it_works_again(
    net: Mesh, storage: GatedStorage
) -> None:
    bob = await join(net, "bob", storage, Settings(slow_storage_after=0.05))
    mia = await bob.host("mia")
    warnings = mia.events(Warned)
    storage.failing_once = StorageError("the disk is full: make room")
    with pytest.raises(StorageError):
        await mia.send("room", "lost")
    codes = [(await anext(warnings)).code]
    while codes[-1] != "storage_works":
        codes.append((await anext(warnings)).code)
    assert [code for code in codes if code != "storage_slow"] == [
        "storage",
        "storage_works",
    ]  # a loaded one is slow
    storage.gate.clear()
    kept = asyncio.create_task(mia.send("room", "kept"))
    assert (await anext(warnings)).code == "storage_slow"
    storage.gate.set()
    assert (await anext(warnings)).code == "storage_works"
    await kept
    await bob.aclose()


async def test_what_a_failed_commit_lost_is_not_reported_as_stored(
    net: Mesh, bob: TCPPeer, storage: GatedStorage
) -> None:
    """Also if the next commit works, as on a disk where somebody just made room."""
    await net.settle()
    storage.failing_once = StorageError("the disk is full: make room")
    with pytest.raises(StorageError):
        await bob.allow("ada")
    assert not (await bob.whois("ada")).allowed
    await bob.allow("ada")
    assert (await bob.whois("ada")).allowed


async def test_what_the_core_lost_with_a_failed_commit_is_not_settled(bob: TCPPeer, storage: GatedStorage) -> None:
    """Also if the next commit works: content that was removed would be charged to its writer for ever."""
    driver = bob._lifecycle.require_running()
    await driver.settle()
    storage.failing_once = StorageError("the disk is full: make room")
    driver.put(QuotaLifted("ab" * 32))
    with pytest.raises(StorageError):
        await driver.settle()
    await until(lambda: driver.node.storage.accepts_writes, "the storage to work again")
    await driver.settle()


async def test_a_storage_that_takes_nothing_is_reported_once(net: Mesh, bob: TCPPeer, storage: GatedStorage) -> None:
    ada = net.peers[0]
    await net.settle()
    warnings = bob.events(Warned)
    storage.failing = StorageError("the disk is full: make room")
    receipt = await ada.send("bob", "patience")
    await until(lambda: storage.tried_out == 2, "the second try")  # the first time at once, then after a second
    for text in ("refused", "refused again"):
        with pytest.raises(StorageError):
            await bob.broadcast(text)
    storage.failing = None
    assert [(await anext(warnings)).code, (await anext(warnings)).code] == ["storage", "storage_works"]
    await receipt.delivered(timeout=60)


async def test_a_failed_read_is_reported_once_retried_and_reported_when_it_works(
    net: Mesh, bob: TCPPeer, storage: GatedStorage
) -> None:
    ada = net.peers[0]
    await net.settle()
    warnings = bob.events(Warned)
    await net.crash(ada)
    missed = await bob.send("ada", "you missed this")
    storage.unreadable = StorageError("the database is damaged")
    ada = await net.restart(ada)
    warned = await anext(warnings)
    assert (warned.code, "the database is damaged" in warned.text) == ("storage", True)
    await until(lambda: storage.unread >= 2, "two unread results")
    await (await bob.broadcast("all else goes on")).delivered(timeout=60)
    assert missed.status == "accepted"
    storage.unreadable = None
    assert (await anext(warnings)).code == "storage_works"
    await missed.delivered(timeout=60)


async def test_what_fits_in_no_frame_costs_only_itself(net: Mesh, bob: TCPPeer, storage: GatedStorage) -> None:
    ada = net.peers[0]
    await net.settle()
    await (await bob.broadcast("all that bob has said")).delivered(timeout=60)  # and his name
    warnings = bob.events(Warned)
    await net.crash(ada)
    missed = await bob.send("ada", "you missed this")
    storage.unsendable = True
    ada = await net.restart(ada)
    assert (await anext(warnings)).code == "internal"
    await (await bob.broadcast("all else goes on")).delivered(timeout=60)
    assert missed.status == "accepted" and bob._driver.broken is None
    storage.unsendable = False
    await net.crash(ada)
    await net.restart(ada)
    await missed.delivered(timeout=60)


async def test_a_storage_that_fails_again_and_again_is_used_less_and_less(
    net: Mesh, bob: TCPPeer, storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nearly full disk: storage can be loaded and takes a little each time, then it fails."""
    await net.settle()
    warnings = bob.events(Warned)
    monkeypatch.setattr(storage, "check_writable", lambda: None)
    storage.failing = StorageError("the disk is full: make room")
    warned = 0
    while warned < 3:
        with suppress(StorageError):
            await bob.broadcast("too much")
        warned += (await anext(warnings)).code == "storage"
    assert storage.failed_at[2] - storage.failed_at[1] > 0.9
    storage.failing = None


async def test_entries_that_could_not_be_stored_come_again(net: Mesh, bob: TCPPeer, storage: GatedStorage) -> None:
    ada = net.peers[0]
    await net.settle()
    warnings = bob.events(Warned)
    storage.failing = StorageError("the disk is full: make room")
    receipt = await ada.send("bob", "patience")
    assert (await anext(warnings)).code == "storage"
    assert receipt.status == "accepted"
    storage.failing = None
    await receipt.delivered(timeout=60)
    assert [post.text for post in await bob.history("ada")] == ["patience"]


async def test_too_little_free_disk_refuses_before_anything_is_written(tmp_path: Path, net: Mesh) -> None:
    settings = Settings(min_free_disk_bytes=1 << 60)
    storage, identity = GatedStorage(), Identity.generate()
    peer = TCPPeer(0, net.peers[0].endpoint, name="bob", settings=settings)
    home = PeerResources(identity, net.membership, storage, *contexts(identity), directory=tmp_path)
    peer._lifecycle.run_in(lambda: home, net.network.transport("bob"))
    warnings = peer.events(Warned)
    async with peer:
        warning = await asyncio.wait_for(anext(warnings), 60)
        assert warning.code == "disk_low"
        with pytest.raises(StorageError):
            await peer.broadcast("no")


# ---- closing


async def test_closing_stores_texts_and_fails_waiting_calls(net: Mesh, storage: GatedStorage) -> None:
    peer = await join(net, "cyd", storage)
    saying = [asyncio.create_task(peer.broadcast(str(number))) for number in range(50)]
    await asyncio.sleep(0)  # the tasks start
    await peer.aclose()
    assert len([await said for said in saying]) == 50
    again = await join(net, "cyd", storage)
    assert len(await again.history("room", limit=0)) == 50
    await again.aclose()


async def test_a_peer_with_a_hanging_disk_closes_and_keeps_its_lock_until_it_answers(
    net: Mesh, storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.runtime.driver.FINISH_TIMEOUT", 0.1)
    monkeypatch.setattr("p2pchat.runtime.driver.STOP_TIMEOUT", 0.2)
    monkeypatch.setattr("p2pchat.runtime.driver.MIN_CLOSE_TIMEOUT", 0.1)
    peer = await join(net, "cyd", storage)
    await peer.broadcast("accepted")
    warnings = peer.events(Warned)
    let_go = threading.Event()
    assert peer._lifecycle.resources is not None
    peer._lifecycle.resources.close = let_go.set
    storage.gate.clear()
    saying = asyncio.create_task(peer.broadcast("on its way"))
    await asyncio.sleep(0)  # the task starts
    async with asyncio.timeout(60):
        await peer.aclose()
        with pytest.raises(PeerClosed):
            await saying
        assert [warned.text async for warned in warnings] == [
            "the disk does not answer, and is not waited for: "
            "what was accepted is safe, what was on its way may be kept or not"
        ]
    assert not let_go.is_set()  # no other process may write there before it answers
    storage.gate.set()
    await until(let_go.is_set, "the lock to be let go")
    assert newest_of(peer, storage) == 3  # as it happens this one was kept


async def test_a_commit_that_ends_after_its_writer_gave_up_disturbs_no_closing(
    net: Mesh, storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.runtime.driver.FINISH_TIMEOUT", 0.1)
    troubles: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
    peer = await join(net, "cyd", storage)
    await peer.broadcast("accepted")
    warnings = peer.events(Warned)
    storage.gate.clear()
    saying = asyncio.create_task(peer.broadcast("on its way"))
    await asyncio.sleep(0)  # the task starts
    closing = asyncio.create_task(peer.aclose())
    with pytest.raises(PeerClosed):
        await saying
    storage.gate.set()
    await closing
    assert [warned.text async for warned in warnings] == []
    assert troubles == []
    assert newest_of(peer, storage) == 3


def newest_of(peer: TCPPeer, storage: TemporaryStorage) -> int:
    """Return the number of the newest entry that the user of a peer wrote; names of others may come later."""
    return max(one.seq for one in storage.history(None) if one.log.user == peer.me.key)


async def test_a_crash_leaves_no_thread_and_fails_waiting_calls(net: Mesh, storage: GatedStorage) -> None:
    before = {*threading.enumerate()}
    peer = await join(net, "cyd", storage)
    storage.gate.clear()
    storage.waiting.clear()
    saying = asyncio.create_task(peer.broadcast("lost"))
    await until(storage.waiting.is_set, "a call of the storage")
    killing = asyncio.create_task(peer._lifecycle.kill())
    with pytest.raises(PeerClosed):
        await saying
    storage.gate.set()
    await killing
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("p2pchat") and thread not in before
    ]


# ---- the disk by itself


class Inputs(list[Input]):
    """Inputs in the order they were put."""


def batch(first: int, count: int, *, size: int = 2) -> Batch:
    raws = [encode_entry(Entry("text", 1, first + i, b="x" * size)) for i in range(count)]
    header = encode_header(LOG, (), None)
    prev = first_chain(header)
    return Batch(LOG, first, raws, None, prev, extend_chain(prev, raws), b"", size_bytes(raws), header)


async def test_commits_that_wait_become_one_transaction(storage: GatedStorage) -> None:
    inputs = Inputs()
    disk = StorageWorker(storage, Settings(), None, inputs.append)
    storage.gate.clear()
    disk.commit(Commit(1, 0, True, Change(meta={"a": "1"})))
    await until(storage.waiting.is_set, "a call of the storage")
    for ticket in (2, 3, 4):
        disk.commit(Commit(ticket, 0, True, Change(meta={"a": str(ticket)})))
    storage.gate.set()
    await until(lambda: len(inputs) == 2, "both inputs")
    assert inputs == [Committed([1]), Committed([2, 3, 4])]
    assert [len(changes) for changes in storage.commits] == [1, 3]
    await disk.close()


async def test_the_driver_is_called_in_the_turn_of_the_answers(storage: GatedStorage) -> None:
    inputs = list[object]()
    disk = StorageWorker(storage, Settings(), None, inputs.append, lambda: inputs.append("all"))
    for ticket in (1, 2):
        inputs.clear()
        disk.commit(Commit(ticket, 0, True, Change(meta={"a": str(ticket)})))
        await until(lambda: inputs, "an input")
        assert inputs == [Committed([ticket]), "all"]
    await disk.close()


async def test_memory_is_released_once_nothing_was_committed_for_a_while_after_much(
    storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.runtime.storage_worker.RELEASED_AFTER", 0.01)
    monkeypatch.setattr("p2pchat.runtime.storage_worker.RELEASED_ABOVE", 3)
    calls = list[str]()
    monkeypatch.setattr(storage, "release_memory", lambda: calls.append("storage"))
    inputs = Inputs()
    disk = StorageWorker(storage, Settings(), None, inputs.append)
    disk.on_quiet = lambda: calls.append("quiet")
    for ticket in range(1, 6):
        disk.commit(Commit(ticket, 0, True, Change(meta={"a": str(ticket)})))
        await until(lambda: len(inputs) == len(storage.commits), "an input for each commit")
        assert ticket > 2 or not calls
        if ticket == 3:
            await until(lambda: "quiet" in calls, "the call for quiet logs")
    await disk.close()
    assert calls == ["storage", "quiet"]


async def test_memory_is_released_when_it_is_asked_for_also_while_much_is_committed(
    storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()
    monkeypatch.setattr(storage, "release_memory", lambda: calls.append(f"storage {len(storage.commits)}"))
    inputs = Inputs()
    disk = StorageWorker(storage, Settings(), None, inputs.append)
    disk.on_quiet = lambda: calls.append("quiet")
    disk.commit(Commit(1, 0, True, Change(meta={"a": "1"})))
    disk.release_memory()
    disk.commit(Commit(2, 0, True, Change(meta={"a": "2"})))
    await until(lambda: "quiet" in calls, "memory to be released")
    await disk.close()
    disk.release_memory()
    assert calls == ["storage 1", "quiet"]


async def test_memory_is_released_soon_after_many_links_ended_and_again_when_the_others_have_fetched(
    bob: TCPPeer, storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.runtime.garbage_collection.RETURNED_AFTER", 0.0)
    monkeypatch.setattr("p2pchat.runtime.garbage_collection.RETURNED_AGAIN_AFTER", 0.0)
    released = list[int]()
    monkeypatch.setattr(storage, "release_memory", lambda: released.append(len(storage.commits)))
    bob._driver.connections.on_many_ended()
    await until(lambda: len(released) == 2, "memory to be released twice")


async def test_a_failure_voids_its_epoch_and_not_the_next(storage: GatedStorage) -> None:
    inputs = Inputs()
    disk = StorageWorker(storage, Settings(), None, inputs.append)
    storage.failing = StorageError("broken")
    disk.commit(Commit(1, 0, True, Change(meta={"a": "1"})))
    await until(lambda: inputs, "an input")
    storage.failing = None
    disk.commit(Commit(2, 0, True, Change(meta={"a": "2"})))  # was under way when the first failed
    disk.commit(Commit(3, 1, True, Change(meta={"a": "3"})))
    await until(lambda: len(inputs) == 2, "both inputs")
    assert inputs == [CommitFailed(0, "broken"), Committed([3])]
    assert storage.load([]).meta == {"a": "3"}
    await disk.close()


async def test_storage_that_breaks_its_contract_is_reported_and_stores_nothing(storage: GatedStorage) -> None:
    inputs, reported = Inputs(), list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    disk = StorageWorker(storage, Settings(), None, inputs.append)
    storage.failing = ZeroDivisionError("a bug")
    disk.commit(Commit(1, 0, True, Change(meta={"a": "1"})))
    await until(lambda: reported, "the report")
    assert [type(input) for input in inputs] == [CommitFailed]
    await disk.close()


async def test_storage_that_cannot_be_warmed_still_stores(
    storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, reported = Inputs(), list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    monkeypatch.setattr("p2pchat.runtime.storage_worker.WARM_AFTER", 0.001)
    storage.unwarmable = ZeroDivisionError("a bug")
    disk = StorageWorker(storage, Settings(), None, inputs.append)
    await until(lambda: reported, "the report")
    disk.commit(Commit(1, 0, True, Change(meta={"a": "1"})))
    await until(lambda: inputs, "an input")
    assert inputs == [Committed([1])]
    await disk.close()


async def test_reads_are_answered_during_a_long_commit(storage: GatedStorage) -> None:
    disk = StorageWorker(storage, Settings(), None, Inputs().append)
    storage.gate.clear()
    disk.commit(Commit(1, 0, True, Change(meta={"a": "1"})))
    await until(storage.waiting.is_set, "a call of the storage")
    assert await disk.read(lambda: storage.places(0, 10)) == []
    with pytest.raises(KeyError):
        await disk.read(lambda: dict[str, str]()["x"])
    storage.gate.set()
    await disk.close()


async def test_low_disk_space_is_reported(storage: GatedStorage, tmp_path: Path) -> None:
    inputs = Inputs()
    disk = StorageWorker(storage, Settings(min_free_disk_bytes=1 << 60), tmp_path, inputs.append)
    disk.commit(Commit(1, 0, True, Change(meta={"a": "1"})))
    await until(lambda: Committed([1]) in inputs, "the commit")
    assert inputs == [DiskLow(DiskLevel.NOTHING), Committed([1])]
    await disk.close()


@pytest.mark.parametrize(("mib", "level"), [
    (512, DiskLevel.ENOUGH), (511, DiskLevel.OWN_ONLY), (256, DiskLevel.OWN_ONLY), (255, DiskLevel.NOTHING),
])  # fmt: skip
def test_the_last_disk_space_is_kept_for_what_people_here_write(mib: int, level: DiskLevel) -> None:
    assert disk_level(mib * MIB, Settings().min_free_disk_bytes) is level


# ---- entries in memory


def run(place: int, count: int, size: int = 10) -> EntrySpan:
    return EntrySpan(place, place + count, LOG, place, [Entry("text", 1, 1, b="")] * count, 0, False, False, size)


def test_recent_finds_the_run_of_a_place() -> None:
    recent = RecentEntries(newest=10)
    recent.add(run(11, 3))
    recent.add(run(14, 2))
    found = [recent.after(place) for place in (9, 10, 12, 13, 14, 15)]
    assert [run and run.place for run in found] == [None, 11, 11, 14, 14, None]
    assert recent.newest == 15


def test_recent_forgets_the_oldest_and_those_before_a_hole() -> None:
    recent = RecentEntries(newest=0)
    for number in range(3):
        recent.add(run(1 + number, 1, size=MAX_BYTES // 2))
    assert [recent.after(place) is None for place in range(3)] == [True, False, False]
    recent.add(run(recent.newest + 1, 1, size=MAX_BYTES))  # alone above the limit: kept, because it is read next
    assert recent.after(recent.newest - 1) is not None
    recent.skip(recent.newest + 5)
    assert recent.after(recent.newest - 1) is None


def test_recent_drops_what_all_readers_have_read() -> None:
    read_to, asked = [0], count()

    def ask() -> int:
        next(asked)
        return read_to[0]

    recent = RecentEntries(newest=0, read_to=ask)
    for place in range(1, 8):
        recent.add(run(place, 1, size=READ_BYTES // 4))
    assert recent.after(0) is not None  # nobody has read it
    read_to[0] = 6
    for place in range(8, 12):
        recent.add(run(place, 1, size=READ_BYTES // 4))
    found = [recent.after(place) for place in range(11)]
    assert [span and span.place for span in found] == [None] * 6 + [7, 8, 9, 10, 11]
    assert (recent.newest, next(asked)) == (11, 2)  # asked again when twice as much was kept


def test_recent_drops_what_was_read_also_after_a_slow_reader() -> None:
    read_to = [0]
    recent = RecentEntries(newest=0, read_to=lambda: read_to[0])
    span_bytes = READ_BYTES // 4
    full = MAX_BYTES // span_bytes
    for _ in range(3 * full):
        recent.add(run(recent.newest + 1, 1, size=span_bytes))  # nobody has read them, so the limit drops the oldest
    for _ in range(2 * full):
        read_to[0] = recent.newest
        recent.add(run(recent.newest + 1, 1, size=span_bytes))
    held = [place for place in range(recent.newest) if recent.after(place) is not None]
    assert 0 < len(held) <= READ_BYTES // span_bytes and held[-1] == recent.newest - 1
    for _ in range(full):
        recent.add(run(recent.newest + 1, 1, size=span_bytes))
    recent.skip(recent.newest + 5)
    first = read_to[0] = recent.newest + 1
    for _ in range(5):
        recent.add(run(recent.newest + 1, 1, size=span_bytes))
    assert recent.after(first - 1) is None  # asked as at the beginning


def test_a_stretch_is_cut_out_of_the_batches_just_committed() -> None:
    batches = [batch(1, 3), batch(4, 3)]
    runs = spans_of(Stretch(first_place=20, log=LOG, first=2, count=4, received_at=7, old=True), batches)
    assert runs is not None
    assert [(run.place, run.first, len(run.entries), run.old) for run in runs] == [(20, 2, 2, True), (22, 4, 2, True)]
    assert [entry.c for run in runs for entry in run.entries] == [2, 3, 4, 5]
    assert spans_of(Stretch(first_place=20, log=LOG, first=5, count=4, received_at=7), batches) is None


FLIGHT_LOG = LogId("c0" * 32, "a1" * 32, "0123456789abcdef")


def commit(ticket: int, entries: int, *, own: bool = False, epoch: int = 0) -> Commit:
    batch = Batch(FLIGHT_LOG, 1, [(1, "{}")] * entries, None, b"", b"", b"", 2 * entries)
    return Commit(ticket, epoch, own, Change(batches=[batch]))


def test_while_the_disk_is_behind_floods_wait_and_far_above_it_all_links() -> None:
    book = CommitsInFlight(30)
    for ticket in range(1, 13):
        book.add(commit(ticket, 6))  # 10 units each: a batch is work, too
        assert (book.is_behind, book.is_blocked) == (ticket >= 3, ticket >= 12)
    book.add(commit(20, 1000, own=True))
    for ticket in range(1, 11):
        book.remove(ticket)
    assert not book.is_behind


def test_own_writes_never_hold_links_back_and_count_until_durable() -> None:
    book = CommitsInFlight(100)
    book.add(commit(1, 1000, own=True))
    book.add(commit(2, 1, own=True))
    assert (book.own, book.is_behind) == (2, False)
    book.remove(1)
    assert (book.own, bool(book)) == (1, True)
    book.remove(2)
    assert (book.own, bool(book)) == (0, False)


def test_a_failure_removes_commits_of_its_epoch() -> None:
    book = CommitsInFlight(100)
    for ticket, epoch in ((1, 0), (2, 1), (3, 2)):
        book.add(commit(ticket, 50, epoch=epoch))
    book.add(commit(4, 1, own=True, epoch=1))
    book.fail(1)
    assert (book.own, book.is_behind, bool(book)) == (0, False, True)
    book.remove(3)
    assert not book


PING, PONG = encode(Ping()), encode(Pong())


def flushed(outgoing: OutgoingFrames) -> list[tuple[int, bytes]]:
    writes: list[tuple[int, bytes]] = []
    outgoing.flush(lambda link, data: writes.append((link, data)))
    return writes


def test_each_link_gets_one_write_of_all_its_frames_in_their_order() -> None:
    outgoing = OutgoingFrames()
    outgoing.send(Send(Ping(), [1, 2]))
    outgoing.send(Send(Pong(), [2]))
    assert outgoing.size_bytes == len(PING) + len(PONG)
    assert [outgoing.waiting_bytes(link) for link in (1, 2, 3)] == [len(PING), len(PING) + len(PONG), 0]
    assert flushed(outgoing) == [(1, PING), (2, PING + PONG)]
    assert (outgoing.size_bytes, outgoing.waiting_bytes(2), flushed(outgoing)) == (0, 0, [])


def test_frames_taken_for_an_ended_link_are_not_written_again() -> None:
    outgoing = OutgoingFrames()
    outgoing.send(Send(Bye("left"), [1, 2]))
    assert outgoing.take(1) == encode(Bye("left"))
    assert outgoing.take(1) == b""
    assert [link for link, _ in flushed(outgoing)] == [2]
