"""Peers that take what a network's founder and its admins say about many keys: `python -m benchmarks.members`.

Each peer is a process. A member that wrote under thousands of keys is expelled; an admin says all that it may about
keys that it makes up, and is expelled; another one pardons the same removals again and again, adds thousands, and goes
without a word about them; a founder lists, expels and pardons among thousands of members. Of each peer it prints
the longest pause of its loop, and its CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.workers import Channel, Worker, settle

TICK = 0.001  # seconds
AT_ONCE = 1_000  # changes in a transaction


async def run(channel: Channel, data: str, endpoints: list[str], invite: str | None) -> None:
    """Run as a worker: one peer that does what it is told, and reports its pauses and CPU time since it was asked."""
    from p2pchat import TCPPeer

    async with TCPPeer(0, *endpoints, name=Path(data).name, data=data, invite=invite) as peer:
        channel.send(endpoint=peer.endpoint)
        longest, cpu = [0.0], time.process_time()

        async def watch() -> None:
            before = time.thread_time()  # of the loop's thread: other processes do not count
            while True:
                await asyncio.sleep(TICK)
                now = time.thread_time()
                longest[0], before = max(longest[0], now - before), now

        watching = asyncio.create_task(watch())
        while (asked := await channel.receive()) is not None:
            if asked["do"] == "measure":
                settle()
                longest[0], cpu = 0.0, time.process_time()
                channel.send()
                continue
            channel.send(
                answer=await _do(peer, **asked), pause_ms=longest[0] * 1000, cpu_s=time.process_time() - cpu
            )  # fmt: skip
        watching.cancel()


async def _do(peer: Any, do: str, user: str = "", count: int = 0) -> Any:
    """Carry out one order at a peer. `standing` waits until a member is what is said in `count`: 1 in, 0 out."""
    people = peer.people
    members = peer._driver.node.replicator.statements.members
    match do:
        case "invite":
            return await peer.make_invite(uses=count)
        case "members":
            return len(await people.list_members())
        case "expel":
            return (await people.expel(user)).role
        case "pardon":
            return (await people.pardon(user)).role
        case "admin":
            return (await people.make_admin(user)).role
        case "flood":
            await people._say(_flood())
        case "remove":
            await people._say(("remove", _made_up(64)) for _ in range(count))
        case "pardon all":
            removals = [one.id for one in members.statements() if one.kind == "remove"]
            await people._say(("pardon", {"ids": removals}) for _ in range(count))
        case "add":
            await people._say(("add", _made_up(8)) for _ in range(count))
        case "drop":
            await people._say([("remove", {"who": [*members.admins]})])
        case "role":
            while people.own_role != user:
                await asyncio.sleep(0.01)
        case "statements":
            while len(members.statements()) != count:
                await asyncio.sleep(0.01)
        case "standing":
            while (people.find(user).role != "expelled") != bool(count):
                await asyncio.sleep(0.01)
    return len(members.statements())


def _flood() -> Iterator[tuple[str, Any]]:
    """Yield all that an admin may say about keys that it makes up."""
    for kind, keys, most in (("add", 8, 768), ("remove", 64, 256)):
        for _ in range((most - 8) * 1024 // (67 * keys + 220)):
            yield kind, _made_up(keys)


def _made_up(keys: int) -> Any:
    return {"who": [secrets.token_hex(32) for _ in range(keys)]}


def write_logs(peers: list[Path], of: list[Path], count: int) -> None:
    """Write logs of keys into the databases of peers: `count` of each of these logins."""
    from p2pchat.core.durable_changes import Change, KnownConversation, KnownUser, NewLog, Stretch
    from p2pchat.core.log import (
        Batch,
        Entry,
        LogId,
        encode_entry,
        encode_header,
        extend_chain,
        first_chain,
        head_message,
        size_bytes,
    )
    from p2pchat.core.members.statement import room_id
    from p2pchat.identity.identity import Identity
    from p2pchat.identity.network import load_network
    from p2pchat.protocol import Naming

    at, changes = time.time_ns() // 1000, list[Any]()
    for home in of:
        network = load_network(home / "network")
        assert network is not None and network.member is not None
        room = room_id(network.id)
        for number in range(count):
            user = Identity.generate()
            log, by = LogId(room, user.peer_id, "0123456789abcdef"), network.guest(user.peer_id)
            header, entry = encode_header(log, (), by), Entry("profile", at, at, b={"name": f"{home.name}-{number}"})
            raw, prev = encode_entry(entry), first_chain(header)
            chain = extend_chain(prev, [raw])
            head = user.sign(head_message(log, 1, chain))
            known = [KnownConversation(room, Naming(room=True))]
            changes.append(Change(
                batches=[Batch(log, 1, [raw], [entry], prev, chain, head, size_bytes([raw]), header)],
                conversations=known, logs=[NewLog(log, (), True, by, (network.member.peer_id,))],
                stretches=[Stretch(10_000 + len(changes), log, 1, 1, at, False, False)],
                users=[KnownUser(user.peer_id, f"{home.name}-{number}", at)],
            ))  # fmt: skip
    _store(peers, changes)


def write_members(peers: list[Path], founder: Path, count: int) -> None:
    """Write the founder's additions of so many members into the databases of peers."""
    from p2pchat.core.durable_changes import Change
    from p2pchat.core.members.statement import make_statement
    from p2pchat.identity.network import load_network

    network, at = load_network(founder / "network"), time.time_ns() // 1000 - count
    assert network is not None and network.member is not None
    key = network.member
    fields = ({"who": [secrets.token_hex(32)], "invite": f"{number:08x}"} for number in range(count))
    said = [make_statement(network.id, key.peer_id, key.sign, "add", at, one) for one in fields]
    _store(peers, [Change(statements=said)])


def _store(peers: list[Path], changes: list[Any]) -> None:
    from p2pchat.identity.profile import Profile
    from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
    from p2pchat.storage.sql_storage import SqlStorage

    for data in peers:
        with Profile.open(data=data) as profile:
            storage = SqlStorage(sqlite_url(profile.database))
            for first in range(0, len(changes), AT_ONCE):
                storage.commit(changes[first : first + AT_ONCE])
            storage.close()


class Peers:
    """The founder ada and the members that join, each with a home of its own."""

    def __init__(self, root: Path, *names: str) -> None:
        self.homes = {name: root / name for name in names}
        self.running: dict[str, Worker] = {}
        self.start()
        for name in names[1:]:
            invite = self.ask("ada", do="invite", count=1)["answer"]
            self.start(name, invite)

    def start(self, name: str = "ada", invite: str | None = None) -> None:
        """Start a peer, which dials ada."""
        home = self.homes[name]
        home.mkdir(parents=True, exist_ok=True)
        endpoints = [] if name == "ada" or invite else [self.endpoint]
        self.running[name] = Worker(
            "members.run", home=home, data=str(home / "profile" / name), endpoints=endpoints, invite=invite
        )
        endpoint = self.running[name].get()["endpoint"]
        if name == "ada":
            self.endpoint: str = endpoint

    def stop(self) -> None:
        for worker in self.running.values():
            worker.__exit__()
        self.running = {}

    def data(self, *names: str) -> list[Path]:
        return [self.homes[name] / "profile" / name for name in names]

    def ask(self, name: str, **order: Any) -> dict[str, Any]:
        self.running[name].put(order)
        return self.running[name].get()

    def measured(self, title: str, by: str, order: dict[str, Any], then: dict[str, Any]) -> None:
        """Print what it costs each peer that one carries out an order, until all have come to what follows from it."""
        for name in self.running:
            self.ask(name, do="measure")
        answer = self.ask(by, **order)["answer"]
        for name in self.running:
            one = self.ask(name, **{"count": answer, **then})
            print(f"{title:44} {name:4} {one['pause_ms']:8.1f} ms {one['cpu_s']:6.2f} s CPU", flush=True)


def scenes(root: Path, keys: int, count: int) -> Iterator[Peers]:
    """Play what is measured. Yield the peers of each scene, which are to be stopped."""
    peers = Peers(root / "keys", "ada", "dan", "eve")
    peers.stop()
    write_logs(peers.data("ada", "dan"), [peers.homes["eve"]], keys)
    peers.start()
    peers.start("dan")
    eve: dict[str, Any] = {"do": "standing", "user": "eve-0"}
    out, back = ({"do": do, "user": "eve-0"} for do in ("expel", "pardon"))
    peers.measured(f"a member with {keys} keys is expelled", "ada", out, eve | {"count": 0})
    peers.measured("and pardoned", "ada", back, eve | {"count": 1})
    yield peers
    peers = Peers(root / "flood", "ada", "bob", "dan")
    peers.ask("ada", do="admin", user="bob")
    peers.ask("bob", do="role", user="admin")
    peers.measured("an admin makes up 1 MiB of keys", "bob", {"do": "flood"}, {"do": "statements"})
    bob = {"do": "standing", "user": "bob", "count": 0}
    peers.measured("and is expelled", "ada", {"do": "expel", "user": "bob"}, bob)
    yield peers
    peers = Peers(root / "again", "ada", "bob", "dan")
    peers.ask("ada", do="admin", user="bob")
    peers.ask("bob", do="role", user="admin")
    for title, by, order in (
        ("an admin expels 2048 keys", "bob", {"do": "remove", "count": 32}),
        ("and pardons all of them 60 times", "bob", {"do": "pardon all", "count": 60}),
        ("adds 8800", "bob", {"do": "add", "count": 1100}),
        ("and is removed, which keeps none of them", "ada", {"do": "drop"}),
    ):
        peers.measured(title, by, order, {"do": "statements"})
    yield peers
    peers = Peers(root / "list", "ada", "dan")
    peers.stop()
    write_members(peers.data("ada", "dan"), peers.homes["ada"], count)
    peers.start()
    peers.start("dan")
    for do in ("members", "admin", "expel", "pardon"):
        dan = {"do": "standing", "user": "dan", "count": int(do != "expel")}
        peers.measured(f"{count} members: {do}", "ada", {"do": do, "user": "dan"}, dan)
    yield peers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.members", description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000, help="keys of one member")
    parser.add_argument("--members", type=int, default=11_200, help="members of one network")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for peers in scenes(Path(root), chosen.keys, chosen.members):
            peers.stop()


if __name__ == "__main__":
    main()
