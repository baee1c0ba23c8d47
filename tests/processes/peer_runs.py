"""Peers over several runs, and one check of their event logs, histories and databases.

Every text is typed once, by one writer, in one conversation, and contains the writer's name and a number. So the texts
alone show an invented, repeated or reordered message; the ids show which messages were accepted and delivered.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from p2pchat.testing import Log, check
from p2pchat.testing.process_mesh import PATIENCE as PATIENCE
from p2pchat.testing.process_mesh import Child, Line
from tests.deadlines import until
from tests.processes.peers import KILLED as KILLED
from tests.processes.peers import Cluster

_last_words = itertools.count(1)


class PeerRuns:
    """One of several peers, through all its lives, with everything it reported as accepted.

    Attributes:
        port: The port of each later start; 0 for any.
        other: The peer it writes to directly.
        typed: The conversation of each text ever written, accepted or not: "room", or a name.
    """

    def __init__(self, cluster: Cluster, name: str, other: str, *words: str) -> None:
        self.cluster = cluster
        self.name = name
        self.other = other
        self.words = words
        self.port = 0
        self.written = 0
        self.typed: dict[str, str] = {}
        self.lives: list[Child] = []

    @property
    def now(self) -> Child:
        return self.lives[-1]

    async def start(self, *endpoints: str, points: Sequence[str] = ()) -> None:
        """Start another life. Raises ChildFailed if it ends before it listens."""
        child = self.cluster.child(self.name, *endpoints, *self.words, port=self.port, points=points)
        self.lives.append(child)
        await child.start()

    async def remembers(self, others: int) -> None:
        """Wait until this peer has stored the addresses of `others` peers, and so finds them even after a kill."""
        what = f"addresses of {others} peers in the database of {self.name}"
        await until(lambda: peers_with_an_address(self.database) >= others, what)

    async def kill(self) -> None:
        self.now.kill()
        await self.now.ended()

    async def say(self, to: str, text: str) -> None:
        self.typed[text] = to
        await self.now.do(do="send", to=to, text=text)

    async def burst(self, count: int) -> None:
        """Write many messages as fast as the pipe takes them, or until a kill; a third goes to the room."""
        numbers = range(self.written, self.written + count)
        self.written += count
        with suppress(OSError):  # killed
            for number in numbers:
                await self.say("room" if number % 3 == 0 else self.other, f"{self.name} {number}")

    def accepted(self, kind: str = "") -> set[str]:
        """Return the ids of the messages it reported as sent, in the room or as direct messages, or all."""
        sent = (line for life in self.lives for line in life.lines if line["event"] == "sent")
        return {line["id"] for line in sent if kind in ("", line["kind"])}

    @property
    def database(self) -> Path:
        return self.cluster.home / self.name / "history.db"


async def see_each_other(*sides: PeerRuns) -> None:
    """Wait until each has reported that all others joined."""
    for side in sides:
        for other in sides:
            if other is not side:
                await side.now.event("joined", PATIENCE, user=other.name)


async def know_each_other(*sides: PeerRuns, addresses: bool = True) -> None:
    """Wait until these linked peers have stored each other's names, by what they wrote, and each other's addresses.

    The name of a user who never wrote is not stored: after a restart a message to it would wait a few seconds for its
    user, and then be refused.
    """
    for side in sides:
        await side.say("room", f"here is {side.name}")
    for side in sides:
        if addresses:
            await side.remembers(len(sides) - 1)
        for other in sides:
            if other is not side:
                await side.now.event("message", PATIENCE, text=f"here is {other.name}")


async def wait_for_everything(*sides: PeerRuns) -> None:
    """Wait until the last message of each peer has reached all its recipients; earlier messages arrive before it."""
    last: dict[tuple[str, str], str] = {}
    for side in sides:
        for to in ("room", side.other):
            last[side.name, to] = f"the last of {side.name} to {to}, {next(_last_words)}"
            await side.say(to, last[side.name, to])
    for side in sides:
        room = await side.now.event("sent", PATIENCE, text=last[side.name, "room"])
        letter = await side.now.event("sent", PATIENCE, text=last[side.name, side.other])
        for witness in sides:
            if witness is not side:
                await witness.now.event("message", PATIENCE, id=room["id"])
                await side.now.event("delivered", PATIENCE, id=room["id"], user=witness.name)
            if witness.name == side.other:
                await witness.now.event("message", PATIENCE, id=letter["id"])
                await side.now.event("delivered", PATIENCE, id=letter["id"])


async def check_nothing_lost_or_repeated(cluster: Cluster, *sides: PeerRuns) -> None:
    """Check that each accepted message is in every store it belongs to exactly once, as the event logs say."""
    stores = {side.name: await cluster.history(side.name) for side in sides}
    everywhere = set.intersection(*(ids(stored) for stored in stores.values()))
    for side in sides:
        stored = stores[side.name]
        for what in ("id", "text"):
            twice = [value for value, count in Counter(line[what] for line in stored).items() if count > 1]
            assert not twice, f"{side.name} has twice: {twice}"
        invented = [line for line in stored if not as_typed(line, sides)]
        assert not invented, f"{side.name} has what nobody wrote so: {invented}"
        for writer in sides:
            assert in_order(stored, writer.name), f"{side.name} has what {writer.name} wrote in another order"
        for kind, holders in (("", ids(stored)), ("room", everywhere), ("dm", ids(stores[side.other]))):
            lost = side.accepted(kind) - holders
            assert not lost, f"accepted by {side.name}, and lost {kind}: {lost}"
        assert damage(side.database) == [], f"the database of {side.name} is damaged: {damage(side.database)}"
    rooms = {name: [line["id"] for line in stored if line["kind"] == "room"] for name, stored in stores.items()}
    differ = [name for name, room in rooms.items() if room != rooms[sides[0].name]]
    assert not differ, f"{differ} have another history of the room than {sides[0].name}"
    logs = [Log.read(cluster.log(side.name)) for side in sides]
    histories = [Log(f"history of {name}", stored) for name, stored in stores.items()]
    faults = [str(fault) for fault in check([*logs, *histories], complete=True)]
    assert not faults, "\n".join(faults[:20])


def as_typed(line: Line, sides: Sequence[PeerRuns]) -> bool:
    """Return whether the named writer wrote this text, in this conversation."""
    [writer] = [side for side in sides if side.name == line["sender"]]
    return writer.typed.get(line["text"]) == ("room" if line["kind"] == "room" else writer.other)


def ids(lines: list[Line]) -> set[str]:
    return {line["id"] for line in lines}


def in_order(stored: list[Line], writer: str) -> bool:
    """Return whether a writer's messages are in the order of their numbers, in each conversation."""
    for kind in ("room", "dm"):
        texts = [line["text"] for line in stored if line["sender"] == writer and line["kind"] == kind]
        numbers = [int(text.split()[1]) for text in texts if text.startswith(f"{writer} ")]
        if numbers != sorted(numbers):
            return False
    return True


def damage(database: Path) -> list[str]:
    """Return the errors that SQLite finds in a database."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("pragma quick_check").fetchall()
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def peers_with_an_address(database: Path) -> int:
    """Return the number of peers with an address in a database."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("select count(distinct peer) from addresses").fetchone()[0])
