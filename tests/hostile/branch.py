"""A branch that makes all attacks at once: `python -m tests.hostile.branch [--mixed] HOST PORT NETWORK KEYS HOLDERS
ADDRESS...`.

All its keys are guests of the founder of the network, at one address, and attack the peer at HOST:PORT. KEYS of them
make every attack again and again that a member can make under made-up names; with --mixed also those with files, marks,
forks and comparisons. HOLDERS of them only hold a link each. All come back when they are sent away. Meanwhile silent
connections from further ADDRESSES of this machine hold the places of strangers. Where HOST is an IPv6 address, the keys
use these addresses too, one after the other. With --contact DIRECTORY its only key is the one there: it comes, names
ports of the third host as its own, and goes, again and again.

The places are taken at once, and the attacks begin with a line of input. It ends with its input. Each second it prints
a JSON object: how often keys were `linked`, how many links are `held` now, and how much of each attack was sent.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import NoReturn

from p2pchat.cli.process import allow_descriptors
from p2pchat.core.log import MAX_FILES, Entry, FileRef, encode_entry
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.network import Network, load_network
from p2pchat.protocol import (
    Digest,
    Frame,
    Have,
    Here,
    Holds,
    Hosted,
    Lacks,
    Mark,
    Peers,
    Ping,
    Pong,
    Pull,
    ReadFrame,
)
from tests.hostile.attacker import Attacker, invented_identity, made_group

SILENT = 8  # connections from each address that say nothing; no address may have more
AGAIN_AFTER = 0.5  # seconds until who was sent away comes back
AWAY_FOR = 3.0  # seconds, of a contact: peers wait for a second before they dial
PRINT_EVERY = 1.0  # seconds
PING_EVERY = 5.0  # seconds, of a holder
MANY = 100  # users in a frame, logs one after the other
LARGE = 30_000  # characters
THIRD_HOST = "45.99.0.1"  # of a machine that has nothing to do with it
THIRD_HOST_V6 = "2001:db8:99::1"
FILE_BYTES = 40 * 1024 * 1024  # of each file that is named and never comes

sent: Counter[str] = Counter()
_numbers = count()


class Sybil(Attacker):
    """One key of the branch, and the attacks that it makes. Each yields the frames of one round."""

    users: tuple[Identity, ...] = ()  # announced, and not taken back

    def invent(self) -> Identity:
        """Return a new made-up user."""
        return invented_identity(f"{self.name} {next(_numbers)}")

    def made_up_users(self) -> Iterator[Frame]:
        """Announce new users with long statuses instead of those of the last round."""
        made, now = [self.invent() for _ in range(MANY)], time.time_ns() // 1_000_000
        page = [
            Hosted(user.peer_id, f"u{next(_numbers)}", "online", "\u65e5" * 300, None,
                   make_cert(self.network.id, user.peer_id, user.sign, self.id, now))
            for user in made
        ]  # fmt: skip
        yield Here(page, [user.peer_id for user in self.users])
        self.users = tuple(made)
        sent["users"] += MANY

    def direct_messages(self) -> Iterator[Frame]:
        """Have some of them write to the attacked user."""
        for user in self.users[: MANY // 5]:
            frame = self.pen(user, dm_id(self.room, user.peer_id, self.server)).say("buy", c=_now())
            frame.names = [dm_naming(user.peer_id, self.server)]
            yield frame
            sent["direct"] += 1

    def logs(self) -> Iterator[Frame]:
        for _ in range(MANY):
            yield self.pen(self.invent(), self.room).say("x", c=_now())
            sent["logs"] += 1

    def large_logs(self) -> Iterator[Frame]:
        for _ in range(2):
            yield self.pen(self.invent(), self.room).say("x" * LARGE, c=_now())
            sent["large"] += 1

    def groups(self) -> Iterator[Frame]:
        """Create groups with the attacked user."""
        for _ in range(MANY // 5):
            owner = self.invent()
            yield made_group(self, owner, [owner.peer_id, self.server], "ops", f"{next(_numbers):032x}")[1]
            sent["groups"] += 1

    def addresses(self) -> Iterator[Frame]:
        """Sign that it is at ports of the third host, as itself and as other keys."""
        ports = [1 + next(_numbers) % 60_000 for _ in range(16)]
        third = f"[{THIRD_HOST_V6}]" if ":" in self.host else THIRD_HOST
        records = [self.record(self.invent(), f"{third}:{port}") for port in ports]
        own = self.record(self.identity, *(f"{third}:{port}" for port in ports[:4]))
        yield Peers([own, *records], [record.id for record in records])
        sent["addresses"] += len(ports)

    def files(self) -> Iterator[Frame]:
        """Name files that never come, ask for content that nobody has, and say that it is here and is not."""
        for _ in range(MANY // 5):
            pen, now = self.pen(self.invent(), self.room), _now()
            named = tuple(
                FileRef(f"{number}.bin", FILE_BYTES, "", f"{next(_numbers):064x}") for number in range(MAX_FILES)
            )
            yield pen.write(encode_entry(Entry("text", now, now, b="look", files=named)))
            root = named[0].root
            yield Pull(next(_numbers), pen.log.conversation, pen.log.user, pen.log.run, 1, root, 0, 0)
            yield Lacks(next(_numbers), [(0, 100)])
            roots = [file.root for file in named]
            yield Holds(roots, roots)
            yield Holds(roots, lacks=roots)
            sent["files"] += 1

    def invented_marks(self) -> Iterator[Frame]:
        """Claim that logs exist which do not, and that nobody's users have read others."""
        users = {self.invent().peer_id: [Mark(f"{next(_numbers):016x}", 1 << 40, "ab" * 32)] for _ in range(MANY)}
        yield Have({self.room: users})
        refs = [(self.server[:32] + f"{next(_numbers):016x}", 1 << 40, "ab" * 32) for _ in range(MANY)]
        yield ReadFrame({self.room: {self.id: refs}})
        sent["marks"] += 2 * MANY

    def forks(self) -> Iterator[Frame]:
        """Write two versions of logs."""
        for _ in range(MANY // 5):
            author, run = self.invent(), f"{next(_numbers):016x}"
            for text in ("one", "two"):
                yield self.pen(author, self.room, run).say(text, c=_now())
            sent["forks"] += 1

    def comparisons(self) -> Iterator[Frame]:
        """Have everything compared."""
        for _ in range(4):
            yield Digest(sum=f"{next(_numbers):064x}", ask=True)
            yield Have({self.room: {}}, span=("0" * 64, "f" * 64), ask=True)
            sent["comparisons"] += 1


ATTACKS: tuple[Callable[[Sybil], Iterator[Frame]], ...] = (
    Sybil.made_up_users, Sybil.direct_messages, Sybil.groups, Sybil.addresses, Sybil.logs, Sybil.large_logs,
)  # fmt: skip
MIXED = (Sybil.files, Sybil.invented_marks, Sybil.forks, Sybil.comparisons)


def _now() -> int:
    return time.time_ns() // 1000


async def work(sybil: Sybil, attacks: Sequence[Callable[[Sybil], Iterator[Frame]]]) -> None:
    """Make all attacks, one after the other, until the link ends."""
    for attack in cycle(attacks):
        await sybil.flood(attack(sybil))
        await sybil.writer.drain()
        sybil.frames.clear()
        if sybil.over:
            return


async def hold(sybil: Sybil) -> None:
    """Keep a link, without doing anything with it."""
    while not sybil.over:
        sybil.say(Ping())
        with suppress(TimeoutError):
            await sybil.wait_closed(PING_EVERY)
        sybil.frames.clear()


async def stay(
    name: str, network: Network, host: str, port: int, source: str, then: Callable[[Sybil], Awaitable[None]]
) -> NoReturn:
    """Link with the attacked peer, and again whenever the link ended."""
    while True:
        sybil = Sybil(name, network, host, source=source)
        with suppress(OSError, ssl.SSLError, AssertionError, TimeoutError):
            await sybil.join(port, introduce=then is not hold)
            sent["linked"] += 1
            sent["held"] += 1
            try:
                await then(sybil)
            finally:
                sent["held"] -= 1
        await sybil.disconnect()
        await asyncio.sleep(AGAIN_AFTER)


async def be_silent(host: str, port: int, address: str) -> NoReturn:
    """Connect and say nothing, and again whenever the peer has closed the connection."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port, local_addr=(address, 0))
            sent["silent"] += 1
            try:
                await reader.read()
            finally:
                writer.transport.abort()
        await asyncio.sleep(AGAIN_AFTER)


async def come_and_go(contact: Identity, network: str, host: str, port: str) -> NoReturn:
    """Name the third host and leave, again and again."""
    loaded = load_network(Path(network))
    assert loaded is not None
    while True:
        sybil = Sybil("contact", loaded, host, identity=contact)
        with suppress(OSError, ssl.SSLError, AssertionError, TimeoutError):
            await sybil.join(int(port))
            own = sybil.record(contact, *(f"{THIRD_HOST}:{1 + next(_numbers) % 60_000}" for _ in range(8)))
            sybil.say(Peers([own]), Ping())
            await sybil.next(Pong)
            sent["addresses"] += 8
        await sybil.disconnect()
        print(json.dumps(sent), flush=True)
        await asyncio.sleep(AWAY_FOR)


async def main(*words: str) -> None:
    if words[0] == "--contact":
        directory, host, port, network, *_ = words[1:]
        await come_and_go(load_identity(Path(directory) / "identity.pem"), network, host, port)
    is_mixed = words[0] == "--mixed"
    host, port, network, keys, holders, *addresses = words[is_mixed:]
    loaded = load_network(Path(network))
    assert loaded is not None
    allow_descriptors()
    sources = cycle(addresses if ":" in host else [""])
    attack = partial(work, attacks=(*ATTACKS, *MIXED) if is_mixed else ATTACKS)
    at = loaded, host, int(port)
    places = [partial(stay, f"holder {n}", *at, next(sources), hold) for n in range(int(holders))]
    places += [partial(be_silent, host, int(port), address) for address in addresses for _ in range(SILENT)]
    attackers = [partial(stay, f"sybil {n}", *at, next(sources), attack) for n in range(int(keys))]
    tasks = [asyncio.ensure_future(place()) for place in places]
    lines = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    while not lines.done() or lines.result():
        if lines.done():
            tasks += [asyncio.ensure_future(attacker()) for attacker in attackers]
            lines = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        print(json.dumps(sent), flush=True)
        await asyncio.wait([lines, *tasks], timeout=PRINT_EVERY, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # a defect of ours
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
