"""Random changes in any order: what was committed together, or read again, gives the same answers."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pchat.core.durable_changes import (
    EVERYTHING,
    Change,
    DeliveredMark,
    KnownConversation,
    PruneKey,
    Relation,
    ShownKey,
    Start,
    Stretch,
    TailStart,
    WantStart,
)
from p2pchat.core.log import Ref
from p2pchat.protocol import Mark, Naming
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.storage.conftest import SMALL
from tests.storage.writers import DM, MORNING, ROOM, Author, user

NAMES = ("ada", "bob")
TALKS = (ROOM, DM)
GROUP = KnownConversation(
    DM, Naming(group=(DM, user("ada"), f"{1:016x}"))
)  # as if it were a group: what was said there is loaded

# One step: what happens, to which of the logs there are, and how much of it.
KINDS = "begin write write release release heard swap edit edit see prune"
kinds = st.sampled_from(KINDS.split())
steps = st.lists(st.tuples(kinds, st.integers(0, 9), st.integers(1, 9)), max_size=25)


class Story:
    """Turns random steps into changes as a core would make them."""

    def __init__(self) -> None:
        self.authors: list[Author] = []
        self.released: dict[int, int] = {}
        self.place = 1

    def change(self, what: str, which: int, amount: int) -> Change | PruneKey:
        """Return the next change, or what shall be deleted next."""
        if what == "prune":
            before = MORNING + 1000 * amount if which % 3 == 0 else 0
            own = frozenset({user("ada")}) if which % 4 else frozenset[str]()
            return PruneKey(ROOM, user(NAMES[amount % 2]) if amount % 3 else "", before, own)
        if what == "begin" or not self.authors:
            return self._begin(which, amount)
        at = which % len(self.authors)
        if what == "write":
            return self.authors[at].appends(*(f"{what} {number}" for number in range(amount)))
        if what == "release":
            return self._release(at, amount)
        if what == "see":
            return Change(visible={self.authors[at].log: amount - 1 if amount < 8 else EVERYTHING})
        if what == "edit":
            return self._edit(self.authors[at], amount)
        if what == "heard":
            return Change(delivered=[DeliveredMark(self.authors[at].log, user(NAMES[amount % 2]), amount)])
        return Change(covered=[self.authors[at].log]) if amount % 2 else Change(uncovered=[self.authors[at].log])

    def _begin(self, which: int, amount: int) -> Change:
        name, talk = NAMES[which % 2], TALKS[which % 4 // 2]
        siblings = [a for a in self.authors if (a.log.user, a.log.conversation) == (user(name), talk)]
        named = siblings[-(amount % 4) :] if amount % 4 else []
        author = Author(name, len(self.authors) + 1, talk, before=[other.mark for other in named])
        self.authors.append(author)
        change = author.begins(*(f"{name} {number}" for number in range(amount)), whole=which % 3 == 0)
        change.covered = [other.log for other in named]
        return change

    def _edit(self, author: Author, amount: int) -> Change:
        """Return a change that edits or reacts to any entry, maybe at equal clocks; an empty text undoes it."""
        target = self.authors[amount % len(self.authors)]
        change = author.appends("" if amount % 4 == 0 else f"edit {amount}")
        named = Ref(target.lookup.ref, 1 + amount % max(1, target.seq))
        aspect = "text" if amount % 2 else "reaction"
        change.relations.append(Relation(author.log, author.seq, MORNING + amount // 3, named, aspect))
        return change

    def _release(self, at: int, amount: int) -> Change:
        author, done = self.authors[at], self.released.get(at, 0)
        count = min(amount, author.seq - done)
        if not count:
            return Change()
        stretch = Stretch(self.place, author.log, done + 1, count, MORNING, amount % 2 == 0, amount % 3 == 0)
        self.place += count
        self.released[at] = done + count
        return Change(stretches=[stretch])

    def marks(self, seqs: list[int]) -> list[Mark]:
        return [author.mark._replace(seq=seq) for author, seq in zip(self.authors, seqs, strict=False) if seq]


def everything_read(storage: SqlStorage, story: Story, seqs: list[int]) -> list[Any]:
    """Return the answers to every query of a storage."""
    logs = [author.log for author in story.authors]
    stored = storage.load([user("ada")])
    stored.delivered.sort(key=lambda heard: (heard.log, heard.member))
    shown = storage.history(None, limit=0)
    middle = [(MORNING + 1000, log.user, log.run, 1) for log in logs]
    want = WantStart(tuple(story.marks(seqs)[:2]), tuple(story.marks(seqs)[2:]))
    starts: list[Start] = [WantStart(()), want]
    return [
        stored,
        storage.lookup([author.lookup for author in story.authors]),
        [storage.chain_at(each.log, seq) for each in story.authors for seq in (0, 1, each.seq // 2, each.seq)],
        [storage.logs_of(talk, user(name)) for talk in TALKS for name in NAMES],
        storage.places(0, 1000),
        storage.places(3, 2),
        shown,
        [storage.history(talk, limit=3) for talk in (*TALKS, None)],
        [storage.history(talk, before=key, limit=3) for talk in (ROOM, None) for key in middle],
        [storage.history(talk, after=key, limit=3) for talk in (ROOM, None) for key in middle],
        [storage.entry(each.log, each.seq) for each in shown],
        [storage.delivered_to(log, seq) for log in logs for seq in (1, 4)],
        [storage.first_received_at(user(name)) for name in NAMES],
        [storage.shown_by(ShownKey(place, tuple(logs))) for place in (0, 2, 5, 100)],
        [storage.deleted(talk) for talk in TALKS],
        [storage.prunable(PruneKey(ROOM, "", before)) for before in (0, MORNING + 2000)],
        [serve(storage, talk, name, start) for talk in TALKS for name in NAMES for start in starts],
        [serve(storage, log.conversation, "ada", TailStart(log.run, 2)) for log in logs],
    ]


def serve(storage: SqlStorage, talk: str, name: str, start: Start) -> list[Any]:
    pages: list[Any] = []
    more: Start | None = start
    while more is not None:
        batches, more = storage.fetch(talk, user(name), more, batches=2)
        pages.append((batches, more))
    return pages


@settings(max_examples=40, deadline=None)
@given(steps, st.lists(st.integers(0, 9), max_size=6), st.integers(1, 3))
def test_changes_committed_together_give_the_same_answers_as_one_by_one(
    script: list[tuple[str, int, int]], seqs: list[int], together: int
) -> None:
    story, alone = Story(), TemporaryStorage(SMALL)
    changes = [*(story.change(*step) for step in script), Change(conversations=[GROUP])]
    with TemporaryDirectory() as directory:
        database = SqlStorage(sqlite_url(Path(directory) / "chat.db"), SMALL)
        for at in range(0, len(changes), together):
            some = [resolved(change, alone, database) for change in changes[at : at + together]]
            for change in some:
                alone.commit([change])
            database.commit(some)
            if at % 4 == 0:
                database.load([])  # reading between commits changes nothing
        assert everything_read(database, story, seqs) == everything_read(alone, story, seqs)
        database.close()
        again = SqlStorage(sqlite_url(Path(directory) / "chat.db"), SMALL)
        assert everything_read(again, story, seqs) == everything_read(alone, story, seqs)
        again.close()
        alone.close()


def resolved(change: Change | PruneKey, other: SqlStorage, database: SqlStorage) -> Change:
    """Return a change; for what shall be deleted the one that deletes it, of which both storages say the same."""
    if isinstance(change, Change):
        return change
    plan = other.prunable(change)
    assert database.prunable(change) == plan
    return Change(pruned=plan.pruned)
