"""Receipts of files: who is told that content is here, and who is known to have it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from p2pchat.core import effects as out
from p2pchat.core.content import file_receipts
from p2pchat.core.inputs import ContentKept, ContentRemoved, HeldFound, WriteRequest
from p2pchat.core.log import FileRef, Marks, Ref, ref_key
from p2pchat.core.work_limits import Rate
from p2pchat.protocol import Holds, Peers
from tests.core.content.test_transfers import FILE, ROOT, SIZE, asker, done, holder
from tests.core.scripted_nodes import IDS, ROOM, Far, Peer

OTHER = "cd" * 32


def linked(ada: Peer, name: str) -> Far:
    """Link with a far end that answers which content is there."""
    far = ada.far(name)
    far.say(Peers(can=["files"]))
    ada.node.replicator.transfers.receipts.on_compared(
        ada.node.replicator.context.remotes[far.link]
    )  # as before the next digest
    ada.world.pass_time(0.3)
    ada.effects.clear()
    far.heard.clear()
    return far


def told(far: Far) -> list[Holds]:
    """Return the frames about content that a far end got since the last call."""
    far.peer.world.pass_time(0.3)
    got = [frame for frame in far.heard if isinstance(frame, Holds)]
    far.heard.clear()
    return got


def answer(ada: Peer, *roots: str) -> list[list[str]]:
    """Answer what the store is asked with what is whole in it; return what it was asked."""
    asked = [effect for _ in range(2) for effect in _asked(ada)]
    for effect in asked:
        ada.put(HeldFound(effect.ticket, frozenset(roots).intersection(effect.roots)))
    ada.take()
    return [effect.roots for effect in asked]


def _asked(ada: Peer) -> Sequence[out.FindHeld]:
    ada.world.pass_time(0.15)
    return done(ada, out.FindHeld)


def test_who_asks_is_told_what_is_whole_and_when_it_goes() -> None:
    ada, _, _ = holder()
    bob = linked(ada, "bob")
    bob.say(Holds(ask=[ROOT, OTHER]))
    assert answer(ada, ROOT) == [[ROOT, OTHER]]
    assert told(bob)[-1:] == [Holds([], [ROOT], [OTHER])]
    ada.put(ContentRemoved(ROOT, forgotten=True))
    assert told(bob) == [Holds([], [], [ROOT])]
    ada.put(ContentKept(ROOT))
    assert answer(ada, ROOT) == [[ROOT]]
    assert told(bob) == [Holds([], [ROOT], [])]


def test_what_is_not_whole_is_told_once_it_is() -> None:
    ada, _, _ = holder()
    bob = linked(ada, "bob")
    bob.say(Holds(ask=[ROOT]))
    answer(ada)
    assert told(bob)[-1:] == [Holds([], [], [ROOT])]
    ada.put(ContentKept(ROOT))
    ada.world.pass_time(0.3)
    assert told(bob) == []  # the store was not asked yet
    assert answer(ada, ROOT) == [[ROOT]]
    assert told(bob) == [Holds([], [ROOT], [])]


def test_what_goes_while_the_store_is_asked_is_not_told_as_here() -> None:
    ada, _, _ = holder()
    bob = linked(ada, "bob")
    bob.say(Holds(ask=[ROOT]))
    (effect,) = _asked(ada)
    ada.put(ContentRemoved(ROOT, forgotten=True))
    ada.put(HeldFound(effect.ticket, frozenset([ROOT])))
    assert told(bob)[-1:] == [Holds([], [], [ROOT])]


def test_what_went_while_storage_was_asked_is_looked_up_again() -> None:
    ada, _, _ = holder()
    bob = linked(ada, "bob")
    bob.say(Holds(ask=[ROOT]))
    (effect,) = _asked(ada)
    ada.hold_lookups = True
    ada.put(HeldFound(effect.ticket, frozenset([ROOT])))
    ada.put(ContentRemoved(ROOT, forgotten=True))
    ada.put(ContentKept(ROOT))  # it is gone
    ada.answer_lookups()
    assert answer(ada) == [[ROOT]]
    assert [frame.has for frame in told(bob)] == [[]]


def test_nobody_is_told_of_content_of_a_conversation_that_it_is_not_in() -> None:
    ada, _, _ = holder("bob")
    cyd, bob = linked(ada, "cyd"), linked(ada, "bob")
    for far in (cyd, bob):
        far.say(Holds(ask=[ROOT]))
        answer(ada, ROOT)
    assert (told(cyd)[-1:], told(bob)[-1:]) == ([Holds([], [], [ROOT])], [Holds([], [ROOT], [])])


def test_a_message_that_comes_later_lets_its_members_know() -> None:
    ada, _, _ = holder("bob")
    cyd = linked(ada, "cyd")
    cyd.say(Holds(ask=[ROOT]))
    answer(ada, ROOT)
    assert told(cyd)[-1:] == [Holds([], [], [ROOT])]
    ada.put(WriteRequest(2, ada.id, ROOM, "text", [""], marks=Marks((FILE,))))
    assert answer(ada, ROOT) == [[ROOT]]
    assert told(cyd)[-1].has == [ROOT]


def test_a_deleted_message_tells_nobody() -> None:
    ada, log, seq = holder()
    ada.put(WriteRequest(2, ada.id, ROOM, "delete", [""], Ref(ref_key(log.user, log.run), seq)))
    ada.take()
    bob = linked(ada, "bob")
    bob.say(Holds(ask=[ROOT]))
    answer(ada, ROOT)
    assert told(bob)[-1:] == [Holds([], [], [ROOT])]


def test_what_is_deleted_before_it_is_told_is_not_told() -> None:
    ada, log, seq = holder()
    bob = linked(ada, "bob")
    bob.say(Holds(ask=[ROOT]))
    (effect,) = _asked(ada)
    ada.put(HeldFound(effect.ticket, frozenset([ROOT])))
    ada.put(WriteRequest(2, ada.id, ROOM, "delete", [""], Ref(ref_key(log.user, log.run), seq)))
    ada.take()
    answer(ada, ROOT)
    assert [(frame.has, frame.lacks) for frame in told(bob)] == [([], [ROOT])]


def test_a_link_is_asked_once_and_its_answers_are_kept() -> None:
    ada, log, _ = holder()
    bob = ada.far("bob")
    bob.say(Peers(can=["files"]))
    ada.put(WriteRequest(2, ada.id, ROOM, "text", ["again"], marks=Marks((FILE,))))
    assert told(bob) == [Holds([ROOT])]
    bob.say(Holds(has=[ROOT, OTHER]))  # it was asked about one of them
    news = done(ada, out.FileHeld)
    assert [(each.log, each.file, each.users, each.has) for each in news] == [(log, FILE, (IDS["bob"],), True)] * 2
    sync = ada.node.replicator.transfers.receipts
    assert ({*sync.holders(ROOT)}, {*sync.holders(OTHER)}) == ({IDS["bob"]}, set())
    assert sync.users_having(log, ROOT) == [IDS["bob"]]
    bob.say(Holds(has=[ROOT]))
    assert done(ada, out.FileHeld) == []
    bob.say(Holds(lacks=[ROOT]))
    assert [each.has for each in done(ada, out.FileHeld)] == [False, False]
    assert sync.users_having(log, ROOT) == []


def test_after_a_restart_everything_is_asked_again_and_only_changes_are_reported() -> None:
    ada, log, _ = holder()
    ada.restart()
    bob = ada.far("bob")
    bob.say(Peers(can=["files"]))
    ada.node.replicator.transfers.receipts.on_compared(ada.node.replicator.context.remotes[bob.link])
    assert told(bob) == [Holds([ROOT])]
    bob.say(Holds(has=[ROOT]))
    assert ada.node.replicator.transfers.receipts.users_having(log, ROOT) == [IDS["bob"]]
    assert done(ada, out.FileHeld) == []
    bob.say(Holds(lacks=[ROOT]))
    assert [each.has for each in done(ada, out.FileHeld)] == [False]  # it changed now


@pytest.mark.parametrize("known", [False, True])
def test_what_an_unknown_peer_said_is_forgotten_with_its_last_link(known: bool) -> None:
    ada, log, _ = holder()
    if known:
        ada.node.contacts.keep([IDS["bob"]])
    linked(ada, "bob").say(Holds(has=[ROOT]))
    bob = linked(ada, "bob")  # in place of the first
    bob.say(Holds(has=[ROOT]))
    sync = ada.node.replicator.transfers.receipts
    assert sync.users_having(log, ROOT) == [IDS["bob"]]
    ada.drop(bob)
    assert sync.users_having(log, ROOT) == ([IDS["bob"]] if known else [])


def test_messages_of_others_are_asked_about_too_and_cause_no_event() -> None:
    ada, bob = asker()
    cyd = linked(ada, "cyd")
    cyd.say(Holds(has=[ROOT]))
    assert done(ada, out.FileHeld) == []
    assert ada.node.replicator.transfers.receipts.users_having(bob.log, ROOT) == [IDS["cyd"]]


def test_a_peer_that_does_not_answer_is_not_asked() -> None:
    ada, _, _ = holder()
    bob = ada.far("bob")
    bob.say(Peers(can=["later"]))
    ada.put(WriteRequest(2, ada.id, ROOM, "text", ["again"], marks=Marks((FILE,))))
    assert told(bob) == []


def test_only_so_many_questions_of_one_link_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_receipts, "MAX_ASKED", 2)
    ada, _, _ = holder()
    bob = linked(ada, "bob")
    bob.say(Holds(ask=[f"{n:064x}" for n in range(5)]))
    assert [len(each) for each in answer(ada)] == [2]
    assert ada.counted["file_question_ignored"] == 3


def test_only_so_many_contents_are_kept_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_receipts, "MAX_CONTENTS", 2)
    ada, log, _ = holder()
    bob = linked(ada, "bob")
    for n in range(3):
        ada.put(WriteRequest(2 + n, ada.id, ROOM, "text", [""], marks=Marks((FileRef("a", SIZE, "", f"{n:064x}"),))))
        ada.world.pass_time(0.3)
        bob.say(Holds(has=[f"{n:064x}"]))
    having = [ada.node.replicator.transfers.receipts.users_having(log, f"{n:064x}") for n in range(3)]
    assert having == [[], [IDS["bob"]], [IDS["bob"]]]
    assert [*ada.node.replicator.transfers.receipts._named[True]] == [f"{n:064x}" for n in (1, 2)]


def test_who_asks_again_is_told_again() -> None:
    ada, _, _ = holder()
    bob = linked(ada, "bob")
    for _ in range(2):
        bob.say(Holds(ask=[ROOT]))
        answer(ada, ROOT)
        assert told(bob)[-1:] == [Holds([], [ROOT], [])]


def test_who_says_yes_and_no_in_turn_causes_few_events() -> None:
    """Before: each word was an event, some 25,000 a second."""
    ada, _, _ = holder()
    ada.node._ctx.work.rates["holders"] = Rate(20, 20)
    bob = linked(ada, "bob")
    for _ in range(100):
        bob.say(Holds(has=[ROOT]), Holds(lacks=[ROOT]))
    assert len(done(ada, out.FileHeld)) == 20


def test_a_link_has_few_contents_looked_up_however_often_it_asks() -> None:
    """Before: 2,560 a second for each link, and all again before each digest."""
    ada, _, _ = holder()
    work = ada.node._ctx.work
    work.rates["contents"] = Rate(work.rates["contents"].a_second, 5)
    bob = linked(ada, "bob")
    looked_up = 0
    for _ in range(20):
        bob.say(Holds(ask=[f"{n:064x}" for n in range(100)]))
        looked_up += sum(map(len, answer(ada)))
    assert 100 <= looked_up <= 100 + 5 + 20 * 2 * 0.15 * work.rates["contents"].a_second


def test_what_unknown_peers_have_causes_few_events() -> None:
    ada, log, _ = holder()
    ada.node._ctx.work.rates["holders"] = Rate(20, 20)
    bob = linked(ada, "bob")
    roots = [f"{n:064x}" for n in range(50)]
    for n, root in enumerate(roots):
        ada.put(WriteRequest(2 + n, ada.id, ROOM, "text", [""], marks=Marks((FileRef("a", SIZE, "", root),))))
    told(bob)
    bob.say(Holds(has=roots))
    assert len(done(ada, out.FileHeld)) == 20
    assert all(ada.node.replicator.transfers.receipts.users_having(log, root) == [IDS["bob"]] for root in roots)
