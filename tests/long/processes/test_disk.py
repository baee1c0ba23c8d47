"""Full, read-only, changed and slow disks, and wrong clocks, over real processes.

In each case a peer acknowledges nothing that it cannot store, reports the cause in one event, stays linked, and
continues by itself when the cause is gone. Each test ends with the checker over all logs.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from p2pchat.settings import CONTENT_FACTOR
from p2pchat.testing import Log, causes
from p2pchat.testing.process_mesh import Child, ChildFailed, Line
from tests.processes.peers import Cluster
from tests.processes.proxy import Proxy
from tests.processes.settings_override import changes
from tests.processes.small_disk import NoMounts, SmallDisk

if sys.platform == "win32":
    pytest.skip("Windows neither renames nor overwrites what is open", allow_module_level=True)

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
LONG = "x" * 30_000
# A peer that does not answer counts as dead after 6 s, and a busy disk is no fault.
SOON = {"ping_after": 0.5, "dead_after": 6.0, "slow_storage_after": 300.0}
OVER_DEAD_AFTER = 7.0
ARRIVES = 60.0


class FaultyPair:
    """Two peers: ada has a good disk and clock, bob those that the test gives him."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.data = cluster.home / "bob"
        self._disks: list[SmallDisk] = []

    async def ada(self, settings: Mapping[str, float] = SOON) -> Child:
        ada = self.cluster.child("ada", changes=changes(settings))
        await ada.start()
        return ada

    def small_disk(self, mib: float) -> SmallDisk:
        """Put bob's directory on a disk of this size."""
        try:
            self._disks.append(SmallDisk(self.data, mib))
        except NoMounts as error:
            pytest.skip(f"nothing can be mounted here: {error}")
        return self._disks[-1]

    def bob(self, *endpoints: str, changes: list[str]) -> Child:
        disk = self._disks[-1] if self._disks else None
        return self.cluster.child("bob", *endpoints, changes=changes, place=disk)

    async def end(self) -> None:
        for child in self.cluster.children:
            await child.destroy()
        for disk in self._disks:
            disk.let_go()


@pytest_asyncio.fixture(loop_scope="module")
async def house(quick: Cluster) -> AsyncIterator[FaultyPair]:
    house = FaultyPair(quick)
    try:
        yield house
    finally:
        await house.end()


async def meet(ada: Child, bob: Child) -> None:
    await ada.event("joined", user="bob")
    await bob.event("joined", user="ada")


def warnings(child: Child) -> list[str]:
    return [line["code"] for line in child.lines if line["event"] == "warning"]


async def write(child: Child, *texts: str) -> None:
    for text in texts:
        await child.do(do="send", to="room", text=text)


def came(child: Child) -> set[str]:
    return {line["id"] for line in child.lines if line["event"] == "message"}


def acknowledged(child: Child) -> set[str]:
    return {line["id"] for line in child.lines if line["event"] == "delivered"}


async def test_a_full_disk_is_reported_once_and_everything_arrives_later(house: FaultyPair) -> None:
    ada = await house.ada()
    disk = house.small_disk(6)
    bob = house.bob(ada.endpoint, changes=changes({**SOON, "min_free_disk_bytes": 0}))
    await bob.start()
    await meet(ada, bob)
    await write(ada, *(f"{number} {LONG}" for number in range(200)))
    assert "is full: free some space" in (await bob.event("warning", code="storage"))["text"]
    await bob.do(do="send", to="room", text="no room for this", ref="mine")
    assert (await bob.event("error", ref="mine"))["code"] == "storage"
    await asyncio.sleep(OVER_DEAD_AFTER)  # nothing reports a retry: time for several
    assert warnings(bob) == ["storage"]
    assert acknowledged(ada) <= came(bob) and len(came(bob)) < 200
    assert ada.count("left") == 0
    disk.grow(64)
    await bob.wait(lambda line: line["event"] == "message", ARRIVES, count=200)
    await bob.event("warning", code="storage_works")
    assert warnings(bob) == ["storage", "storage_works"]
    await write(bob, "now it goes")
    await ada.event("message", text="now it goes")
    assert not ada.count("message", text="no room for this")
    await house.cluster.judge("ada", "bob")


async def test_a_peer_starts_on_a_full_disk_reads_and_stays_linked(house: FaultyPair) -> None:
    ada = await house.ada()
    disk = house.small_disk(24)
    usual, low = changes({**SOON, "min_free_disk_bytes": 0}), changes({**SOON, "min_free_disk_bytes": MIB})
    bob = house.bob(ada.endpoint, changes=usual)
    await bob.start()
    await meet(ada, bob)
    await write(ada, "before")
    await bob.event("message", text="before")
    assert await bob.leave() == 0  # now SQLite needs room for two more files
    disk.run("sh", "-c", f"cat /dev/zero > {house.data / 'filler'} || true")

    bob = house.bob(ada.endpoint, changes=low)
    await bob.start()
    told = (await bob.event("warning"))["text"]
    assert "nothing is accepted" in told and "can be read, and links stay" in told and "free some space" in told
    await bob.event("joined", user="ada")
    await bob.do(do="history", to="room", ref="read")
    assert [line["text"] for line in (await bob.event("answer", ref="read"))["rows"]] == ["before"]
    await bob.do(do="send", to="room", text="no room for this", ref="mine")
    assert "nearly full" in (await bob.event("error", ref="mine"))["text"]
    await write(ada, "meanwhile")
    await ada.event("sent", text="meanwhile")

    disk.run("rm", str(house.data / "filler"))
    await bob.event("message", ARRIVES, text="meanwhile")
    await write(bob, "now it goes")
    await ada.event("message", text="now it goes")
    assert [*dict.fromkeys(warnings(bob))] == ["disk_low", "disk_enough"]
    await house.cluster.judge("ada", "bob")


# ---- files


async def sent_file(ada: Child, bob: Child, file: Path, size: int) -> str:
    """Have ada send a file of this size to the room; return the id of its message once bob has it."""
    file.write_bytes(random.Random(size).randbytes(size))
    await ada.do(do="send", to="room", text=file.name, files=[str(file)])
    return str((await bob.event("message", ARRIVES, text=file.name))["id"])


async def files_here(bob: Child, id: str) -> list[bool]:
    """Return of each file of a message whether all of it is here."""
    ref = f"files {len(bob.lines)}"
    await bob.do(do="files", id=id, ref=ref)
    return [row["here"] for row in (await bob.event("answer", ref=ref))["rows"]]


async def test_a_file_that_fills_the_disk_stops_and_goes_on_once_there_is_room(house: FaultyPair) -> None:
    """It stops before messages have to: they go on."""
    ada, proxy = await house.ada(), Proxy()
    endpoint = await proxy.listen()
    proxy.to("127.0.0.1", ada.listening["port"])
    disk, size, least = house.small_disk(160), 40 * MIB, 16 * MIB
    bob = house.bob(endpoint, changes=changes({**SOON, "min_free_disk_bytes": least}))
    await bob.start()
    await meet(ada, bob)
    await write(bob, "we know each other")
    await ada.event("message", text="we know each other")
    file, got = house.cluster.home / "film.bin", house.cluster.home / "got.bin"
    id = await sent_file(ada, bob, file, size)

    proxy.left = {True: 10 * MIB}
    proxy.to("127.0.0.1", 9)  # nobody is there
    await bob.do(do="get", id=id, path=str(got), ref="first")
    await asyncio.wait_for(proxy.ran_out.wait(), ARRIVES)
    free = int(disk.run("df", "--output=avail", "-B1", str(house.data)).split()[-1])
    filler = free - CONTENT_FACTOR * least - 2 * MIB
    disk.run("dd", "if=/dev/zero", f"of={house.data / 'filler'}", "bs=64K", f"count={filler >> 16}", "status=none")
    proxy.ran_out.clear()
    proxy.to("127.0.0.1", ada.listening["port"])
    failed = await bob.event("error", ARRIVES, ref="first")
    assert failed["code"] == "storage"
    assert "the disk has no room" in failed["text"] and "free some space" in failed["text"]
    assert await files_here(bob, id) == [False] and not got.exists()
    await write(ada, "can you hear me?")
    await bob.event("message", text="can you hear me?")
    await ada.event("delivered", id=(await ada.event("sent", text="can you hear me?"))["id"])
    await write(bob, "yes")
    await ada.event("message", text="yes")
    await bob.do(do="get", id=id, path=str(got), ref="again")
    assert "the disk has no room" in (await bob.event("error", ref="again"))["text"]

    disk.run("rm", str(house.data / "filler"))
    proxy.left = {True: size - 5 * MIB}  # less than all of it: what came before does not come again
    await bob.do(do="get", id=id, path=str(got), ref="last")
    await bob.event("answer", ARRIVES, ref="last")
    assert not proxy.ran_out.is_set()
    assert got.read_bytes() == file.read_bytes()
    assert await files_here(bob, id) == [True]
    await proxy.close()


async def test_a_read_only_disk_is_reported_at_the_start(house: FaultyPair) -> None:
    disk = house.small_disk(24)
    settings = changes({"min_free_disk_bytes": 0})
    bob = house.bob(changes=settings)
    await bob.start()
    assert await bob.leave() == 0
    disk.close_to_writers()
    bob = house.bob(changes=settings)
    with pytest.raises(ChildFailed, match="ended"):
        await bob.start()
    assert await bob.ended() == 1
    [said] = [line for line in bob.complaints if line.startswith("p2pchat:")]
    assert str(house.data) in said and ("Read-only" in said or "cannot be written" in said)


async def test_a_bit_that_flips_in_the_write_ahead_log_is_told_at_the_start(house: FaultyPair) -> None:
    """SQLite takes such a log for a short one: without a word it drops commits whose messages were accepted."""
    ada = await house.ada()
    bob = house.bob(ada.endpoint, changes=changes(SOON))
    await bob.start()
    await meet(ada, bob)
    for number in range(5):  # one commit each
        await write(bob, f"{number}")
        await ada.event("message", text=f"{number}")
        await bob.event("delivered", id=(await bob.event("sent", text=f"{number}"))["id"])
    bob.kill()
    await bob.ended()
    log = house.data / "history.db-wal"
    place = log.read_bytes().index(b'"b":"1"')
    with open(log, "r+b") as file:
        file.seek(place)
        file.write(b'"B')

    bob = house.bob(ada.endpoint, changes=changes(SOON))
    await bob.start()
    told = (await bob.event("warning", code="log_damaged"))["text"]
    assert "are lost here" in told and "what other peers have comes back by itself" in told
    for number in range(1, 5):
        await bob.event("sent", ARRIVES, text=f"{number}")
    assert [cause.rule for cause in causes([Log.read(house.cluster.log("bob"))])] == ["restored"]
    assert await bob.leave() == 0
    code, found = await house.cluster.run("doctor", "--data", str(house.data))
    assert code == 0 and b"the last" in found and b"are lost here" in found and b"history.db-wal.damaged" in found
    (house.data / "history.db-wal.damaged").unlink()
    code, found = await house.cluster.run("doctor", "--data", str(house.data))
    assert b"are lost here" not in found


async def test_a_hanging_disk_is_reported_once_and_no_link_is_lost(house: FaultyPair, tmp_path: Path) -> None:
    stall = tmp_path / "stall"
    ada = await house.ada()
    bob = house.bob(ada.endpoint, changes=changes({**SOON, "slow_storage_after": 1.0}, stall=stall))
    await bob.start()
    await meet(ada, bob)
    await write(ada, "before")
    await bob.event("message", text="before")
    stall.touch()
    await write(ada, "meanwhile", "and this")
    await write(bob, "mine")
    await bob.event("warning", code="storage_slow")
    await asyncio.sleep(OVER_DEAD_AFTER)  # nothing reports that a link stayed
    assert ada.count("left") == bob.count("left") == bob.count("sent") == 0 and bob.count("message") == 1
    assert len(acknowledged(ada)) == 1
    stall.unlink()
    await bob.event("message", text="and this")
    await ada.event("message", text="mine")
    await bob.event("warning", code="storage_works")  # comes after the events of the commit
    assert warnings(bob) == ["storage_slow", "storage_works"]
    assert ada.count("link", state="up") == 1
    await house.cluster.judge("ada", "bob")


# ---- clocks


async def history(cluster: Cluster, name: str) -> list[str]:
    return [line["text"] for line in await cluster.history(name)]


async def test_wrong_clocks_do_not_break_the_order(house: FaultyPair, tmp_path: Path) -> None:
    """While bob runs, his clock is two hours ahead, then right, then two hours behind; ada's is right."""
    clock = tmp_path / "clock"
    clock.write_text("7200")
    ada = await house.ada()
    bob = house.bob(ada.endpoint, changes=changes(SOON, clock=clock))
    await bob.start()
    await meet(ada, bob)
    said: list[str] = []

    async def say(who: Child, hearer: Child, text: str) -> Line:
        said.append(text)
        await write(who, text)
        return await hearer.event("message", text=text)

    await say(ada, bob, "one")
    ahead = await say(bob, ada, "two hours ahead")
    await say(ada, bob, "what he says of the future does not become my present")
    for offset, text in (("0", "right"), ("-7200", "two hours back"), ("", "right again")):
        clock.write_text(offset)
        await say(bob, ada, text)
        await say(ada, bob, f"you are {text}")
    last = await ada.event("message", text="right again")
    assert ahead["sent_at"] > last["sent_at"]  # the writer's time is not corrected
    for child in (ada, bob):
        shown = [line["text"] for line in child.lines if line["event"] in ("message", "sent")]
        assert shown == said  # live order ignores the timestamps
        assert child.count("left") == child.count("gap") == 0
    assert len({line["sent_at"] for line in ada.lines if line["event"] == "sent"}) == 5
    orders = [await history(house.cluster, name) for name in ("ada", "bob")]
    assert orders[0] == orders[1] and sorted(orders[0]) == sorted(said)
    await house.cluster.judge("ada", "bob")
