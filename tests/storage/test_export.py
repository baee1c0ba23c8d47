"""Export files: complete, and in an order that can be shown while it is read, from every kind of storage."""

from __future__ import annotations

from itertools import pairwise

import pytest

from p2pchat.core.durable_changes import Change, Fork, KnownConversation
from p2pchat.core.log import batch_of, decode_entry
from p2pchat.core.members.statement import make_statement, network_id, room_id
from p2pchat.export_file import MOST_HELD, file_pages
from p2pchat.identity.identity import Identity
from p2pchat.protocol import FILE_VERSION, Entries, File, FileEnd, Frame, Naming, Statements
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.writers import DM, MORNING, ROOM, Author, is_sound, many, user

ROOM_TALK = KnownConversation(ROOM, Naming(room=True))
DM_TALK = KnownConversation(DM, Naming(dm=(user("ada"), user("bob"))))


def exported(storage: SqlStorage, only: str | None = None) -> list[Frame]:
    return [frame for page in file_pages(storage, ROOM, only) for frame in page]


def spans(frames: list[Frame]) -> list[tuple[str, int, int]]:
    """Return (writer, first, last) of each batch, after checking that it is sound."""
    names = {user(name): name for name in ("ada", "bob", "cyd")}
    entries = [frame for frame in frames if isinstance(frame, Entries)]
    assert all(is_sound(batch_of(frame)) for frame in entries)
    return [(names.get(frame.u, "?"), frame.first, frame.first + len(frame.e) - 1) for frame in entries]


def test_an_empty_storage_makes_an_empty_file(storage: SqlStorage) -> None:
    assert exported(storage) == [File(FILE_VERSION, ROOM), FileEnd(0)]


def test_each_conversation_is_named_once_and_all_entries_are_counted(storage: SqlStorage) -> None:
    storage.commit([Change(conversations=[ROOM_TALK, DM_TALK])])
    storage.commit([Author("ada", 1).begins(*many(6)), Author("bob", 2, DM).begins("psst")])
    frames = exported(storage)
    assert spans(frames) == [("ada", 1, 6), ("bob", 1, 1)]
    assert [frame.names for frame in frames if isinstance(frame, Entries)] == [[ROOM_TALK.naming], [DM_TALK.naming]]
    assert (frames[0], frames[-1]) == (File(FILE_VERSION, ROOM), FileEnd(7))


@pytest.mark.parametrize("only", [None, DM])
def test_statements_about_members_come_before_everything_else(storage: SqlStorage, only: str | None) -> None:
    founder = Identity.from_seed(b"f" * 32)
    network = network_id(founder.peer_id)
    said = make_statement(network, founder.peer_id, founder.sign, "add", 1, {"who": [user("ada")]})
    storage.commit([Change(conversations=[ROOM_TALK, DM_TALK], statements=[said])])
    storage.commit([Author("ada", 1).begins("all"), Author("bob", 2, DM).begins("psst")])
    frames = [frame for page in file_pages(storage, room_id(network), only) for frame in page]
    assert frames[1] == Statements(founder=founder.peer_id, s=[(said.text, said.signature.hex())])
    assert not any(isinstance(frame, Statements) for frame in frames[2:])


def test_a_single_conversation_can_be_exported(storage: SqlStorage) -> None:
    storage.commit([Change(conversations=[ROOM_TALK, DM_TALK])])
    storage.commit([Author("ada", 1).begins("all"), Author("bob", 2, DM).begins("psst")])
    assert spans(exported(storage, DM)) == [("bob", 1, 1)]


def test_batches_are_in_the_order_they_were_written(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    storage.commit([Change(conversations=[ROOM_TALK]), ada.begins(*many(4)), bob.begins(*many(4), c=MORNING + 10)])
    storage.commit([ada.appends(*many(4), c=MORNING + 20), bob.appends(*many(4), c=MORNING + 30)])
    assert spans(exported(storage)) == [("ada", 1, 4), ("bob", 1, 4), ("ada", 5, 8), ("bob", 5, 8)]


def test_many_writers_are_exported_completely_and_in_order(storage: SqlStorage) -> None:
    authors = [Author(f"writer {number}", number) for number in range(1, MOST_HELD + 6)]
    storage.commit([Change(conversations=[ROOM_TALK])])
    for turn in range(3):
        for at, author in enumerate(authors):
            change = author.begins if turn == 0 else author.appends
            storage.commit([change(*many(4), c=MORNING + 1000 * turn + 7 * at)])
    frames = [frame for frame in exported(storage) if isinstance(frame, Entries)]
    assert sum(len(frame.e) for frame in frames) == 12 * len(authors)
    began = [decode_entry(frame.e[0]).c for frame in frames]
    ended = [decode_entry(frame.e[-1]).c for frame in frames]
    assert all(later > MORNING and earlier <= later + 1000 for earlier, later in pairwise(began))
    assert len(set(zip(began, ended, strict=True))) == len(frames)


def test_the_evidence_of_a_fork_comes_before_later_logs_of_its_writer(storage: SqlStorage) -> None:
    ada, twin = Author("ada", 1), Author("ada", 1)
    storage.commit([Change(conversations=[ROOM_TALK]), ada.begins("one")])
    storage.commit([Change(forks=[Fork(ada.log, None, twin.write("another"))])])
    storage.commit([Author("ada", 2, before=[ada.mark]).begins("later", whole=False)])
    frames = [frame for frame in exported(storage) if isinstance(frame, Entries)]
    assert [(frame.r[-1], frame.fork) for frame in frames] == [("1", True), ("1", True), ("2", False)]
    assert exported(storage)[-1] == FileEnd(1)
