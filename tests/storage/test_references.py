"""Which messages name some content, in every storage: it may be removed once none does."""

from __future__ import annotations

from p2pchat.core.durable_changes import EVERYTHING, Change, NewLog, Relation
from p2pchat.core.log import FileRef, LogId, Ref, ref_key
from p2pchat.kinds import KINDS
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.test_deletion import ALL, delete
from tests.storage.writers import DM, MORNING, Author, many, released

ONE, OTHER = FileRef("one.png", 1000, "image/png", "0a" * 32), FileRef("other", 0, "", "0b" * 32)


def referring(storage: SqlStorage) -> dict[str, list[tuple[LogId, int]]]:
    return storage.referring([ONE.root, OTHER.root, "0c" * 32])


def change_of(author: Author, kind: str, of: tuple[LogId, int], c: int, place: int, text: str | None = None) -> Change:
    """Return the change that appends an edit, deletion or reaction, and releases it."""
    change = released(author.changes(kind, *of, c, text), place)
    log, seq = of
    named = Ref(ref_key(log.user, log.run), seq)
    change.relations.append(Relation(author.log, author.seq, c, named, KINDS[kind].aspect))
    return change


def test_content_is_named_by_every_message_with_it(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2, DM)
    assert referring(storage) == {}
    storage.commit([released(ada.begins("a", "b", "c", files={2: (ONE, OTHER), 3: (OTHER, OTHER)}), 1)])
    storage.commit([bob.begins("not released", files={1: (ONE,)}), Change(visible={bob.log: 0})])
    assert referring(storage) == {
        ONE.root: [(ada.log, 2), (bob.log, 1)],
        OTHER.root: [(ada.log, 2), (ada.log, 3)],
    }
    storage.commit([Change(visible={bob.log: EVERYTHING})])
    assert storage.referring([ONE.root]) == {ONE.root: [(ada.log, 2), (bob.log, 1)]}
    assert storage.referring([]) == {}


def test_of_many_messages_the_first_are_looked_at(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    storage.commit([released(ada.begins("a", "b", files={1: (ONE, OTHER), 2: (ONE,)}), 1)])
    storage.commit([released(bob.begins("c", files={1: (ONE, OTHER)}), 3)])
    assert storage.referring([ONE.root, OTHER.root, "0c" * 32], 2) == {
        ONE.root: [(ada.log, 1), (ada.log, 2)],
        OTHER.root: [(ada.log, 1), (bob.log, 1)],
    }


def test_a_message_that_its_writer_deleted_names_nothing_until_an_edit_restores_it(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    shown = (ada.log, 1)
    storage.commit([released(ada.begins("look", files={1: (ONE,)}), 1)])
    storage.commit([released(bob.begins("hm"), 2), change_of(bob, "delete", shown, MORNING + 10, 3)])
    storage.commit([change_of(bob, "reaction", shown, MORNING + 11, 4, "+1")])
    assert referring(storage) == {ONE.root: [shown]}  # only its writer deletes it
    storage.commit([change_of(ada, "delete", shown, MORNING + 20, 5)])
    assert referring(storage) == {}
    storage.commit([change_of(ada, "edit", shown, MORNING + 15, 6, "written before the deletion")])
    assert referring(storage) == {}
    storage.commit([change_of(ada, "edit", shown, MORNING + 30, 7, "again")])
    assert referring(storage) == {ONE.root: [shown]}


def test_a_deletion_that_comes_before_its_message_counts(storage: SqlStorage) -> None:
    first, second = Author("ada", 1), Author("ada", 2)
    deletion = change_of(second, "delete", (first.log, 1), MORNING + 20, 1)
    storage.commit([Change(logs=[NewLog(second.log, (), False)]), deletion])
    storage.commit([released(first.begins("look", files={1: (ONE,)}, whole=False), 2)])
    assert referring(storage) == {}


def test_what_is_deleted_here_names_nothing(storage: SqlStorage) -> None:
    ada, bob, dm = Author("ada", 1), Author("bob", 2), Author("bob", 3, DM)
    storage.commit([released(ada.begins(*many(9), files={1: (ONE,), 9: (ONE, OTHER)}), 1)])
    storage.commit([released(bob.begins("b", files={1: (OTHER,)}), 10), dm.begins("m", files={1: (ONE,)})])
    assert delete(storage, ALL.replace(before=MORNING + 5)) == 6
    assert referring(storage) == {ONE.root: [(ada.log, 9), (dm.log, 1)], OTHER.root: [(ada.log, 9)]}
    assert delete(storage) == 4
    assert referring(storage) == {ONE.root: [(dm.log, 1)]}


def test_a_thousand_contents_are_asked_for_at_once(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    files = [FileRef("", seq, "", f"{seq:064x}") for seq in range(1, 1201)]
    storage.commit([released(ada.begins(*many(1200), files={file.size: (file,) for file in files}), 1)])
    assert storage.referring([file.root for file in files]) == {file.root: [(ada.log, file.size)] for file in files}
