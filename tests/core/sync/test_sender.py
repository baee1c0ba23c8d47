"""Serving: answering wants, and pushing new entries to links right before them."""

from __future__ import annotations

from p2pchat.core.effects import Fetch, WarningIssued
from p2pchat.core.inputs import LinkDrained, LinkFilled
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.protocol import Entries, Have, Here, Mark, Want
from tests.core.scripted_nodes import IDS, NAMES, ROOM, Author, Far, Peer, World, covered_log, dm, page


def want(n: int, name: str, tips: list[Mark] | None = None, conversation: str = ROOM) -> Want:
    return Want(n, conversation, IDS[name], tips or [])


def own(peer: Peer, seq: int) -> Mark:
    """Return the mark of the entries that a peer's own user wrote in the room in this run."""
    log = Author(peer.name, peer.name[0] + "1")
    log.write(*(shown.raw for shown in peer.storage.places(0, 99) if shown.log == log.log and shown.seq <= seq))
    return log.mark


def announce(far: Far, *marks: Mark) -> list[str]:
    """Let a far end announce that it holds these entries of ada; return the node's effects."""
    return far.say(Have({ROOM: {IDS["ada"]: list(marks)}}))


def test_a_want_is_answered_with_everything_from_there_and_closed_with_marks(ada: Peer) -> None:
    ada.say("one", "two")
    far = ada.far("bob")
    assert far.say(want(7, "ada", [own(ada, 1)])) == [
        "fetch ada for bob",
        "to bob: entries room a1:2..3, for want 7",
        "to bob: have room ada a1:3 end 7",
    ]


def test_a_holder_of_a_later_log_is_sent_the_end_of_the_earlier_one() -> None:
    """A writer's disk came back old: its new log builds on less of an earlier one than others hold."""
    ada, first = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(first.say("one"))
    second = Author("bob", "b2", before=[first.mark])
    far.say(second.say("begun without two"))
    two = first.say("two")
    third = Author("bob", "b3", before=[first.mark])
    far.say(two, third.say("three"))
    assert ada.far("cyd").say(want(7, "bob", [second.mark])) == [
        "fetch bob for cyd",
        "to cyd: entries room b1:2..2, for want 7",
        "to cyd: entries room b3:1..1, for want 7",
        "to cyd: have room bob b2:1 b3:1 end 7",
    ]


def test_log_after_log_comes_in_the_order_it_was_stored() -> None:
    _, far, _, second = covered_log()
    assert far.say(want(1, "bob")) == [
        "fetch bob for bob",
        "to bob: entries room b1:1..1, for want 1",
        "to bob: entries room b2:1..1, for want 1",
        "to bob: have room bob b2:1 end 1",
    ]
    assert far.say(want(2, "bob", [second.mark]))[1:] == ["to bob: have room bob b2:1 end 2"]


def test_of_many_wants_less_is_read_at_once_for_each() -> None:
    """What many wrote waits for one another at a newcomer: 39,000 of 40,000 entries of 40 users did, now 12,000."""
    ada, names = World().peer("ada"), ("bob", "cyd", "dan", "eve")
    for name in names:
        ada.far(name).say(Author(name, f"{name[0]}1").say("hello"))
    far = ada.far("bob")
    ada.hold_lookups = True
    ada.effects.clear()
    far.say(*(want(n, name) for n, name in enumerate(names, 1)))
    assert [effect.most for effect in ada.effects if isinstance(effect, Fetch)] == [8, 4, 2, 2]


def test_a_user_unknown_here_and_a_conversation_not_shared_close_the_want(ada: Peer) -> None:
    talk = ada.open("bob")
    ada.say("psst", to=talk)
    far = ada.far("eve")
    assert far.say(want(1, "dan"), want(2, "ada", conversation=talk), want(3, "ada", conversation="00" * 32)) == [
        "to eve: have room dan nothing end 1",
        "to eve: have nothing end 2",
        "to eve: have nothing end 3",
    ]


def test_more_than_64_open_wants_are_a_fault() -> None:
    ada = World().peer("ada", max_wants=1)
    far = ada.far("bob")
    bob = Author("bob", "b1")
    far.say(bob.say("one"))
    ada.say("two")
    ada.put(LinkFilled(far.link))
    assert far.say(want(1, "bob"), want(2, "bob")) == []
    assert far.say(want(3, "ada")) == ["close bob: limit"]


def test_what_hosted_and_known_users_wrote_is_read_first(ada: Peer) -> None:
    """A peer that was away may want thousands of logs of unknown users, and is read one page after the other."""
    far = ada.far("eve")
    far.say(Author("dan", "d1").say("unknown"), Author("bob", "b1").say("known"))
    ada.say("hello")
    ada.choose(f"contact:{IDS['bob']}")
    far.say(want(1, "dan"), want(2, "bob"), want(3, "ada"))
    fetched = {NAMES[effect.user]: effect.first for effect in ada.effects if isinstance(effect, Fetch)}
    assert fetched == {"dan": False, "bob": True, "ada": True}


def test_a_new_batch_goes_to_links_right_before_it(ada: Peer) -> None:
    ada.far("bob")
    ada.far("cyd")
    ada.say("one")
    assert ada.say("two")[-1] == "to bob cyd: entries room a1:3..3"


def test_a_peer_without_the_log_below_is_sent_the_mark(ada: Peer) -> None:
    ada.say("one")
    first = own(ada, 2)
    ada.start()
    behind, level = ada.far("bob"), ada.far("cyd")
    announce(level, first)
    assert ada.say("two")[-2:] == ["to cyd: entries room a2:1..2", "to bob: have room ada a2:2"]
    assert behind.say(want(1, "ada"))[1:] == [
        "to bob: entries room a1:1..2, for want 1",
        "to bob: entries room a2:1..2, for want 1",
        "to bob: have room ada a2:2 end 1",
    ]
    assert ada.say("three")[-1] == "to bob cyd: entries room a2:3..3"


def test_a_full_link_uses_no_memory_and_is_served_from_storage_later(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    ada.put(LinkFilled(far.link))
    for text in ("two", "three", "four"):
        assert ada.say(text)[2:] == []
    ada.put(LinkDrained(far.link))
    assert ada.take() == ["fetch ada for bob", "to bob: entries room a1:3..5"]
    assert ada.say("five")[-1] == "to bob: entries room a1:6..6"


def test_one_step_sends_a_link_at_most_its_buffer_limit() -> None:
    """Within a step a link cannot report that it is full."""
    ada = World().peer("ada", buffer_limit_bytes=64 * 1024)
    ada.far("bob")
    ada.say("one")
    assert ada.say(*["x" * 30_000] * 9)[-4:] == [
        "to bob: entries room a1:3..5",  # 90 kB: the batch that reaches the limit is still sent
        "fetch ada for bob",
        "to bob: entries room a1:6..8",
        "to bob: entries room a1:9..11",
    ]
    assert ada.say("two")[-1] == "to bob: entries room a1:12..12"


def test_acknowledgements_wait_for_a_full_link_each_mark_once() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    ada.put(LinkFilled(far.link))
    for text in ("one", "two", "three"):
        far.say(bob.say(text))
    ada.put(LinkDrained(far.link))
    assert ada.take() == ["to bob: have room bob b1:3"]


def test_entries_written_during_a_want_are_sent_after_it(ada: Peer) -> None:
    ada.say("one")
    far = ada.far("bob")
    ada.put_frames(far, want(1, "ada"))
    ada.say("two")
    numbers = [(frame.first, len(frame.e)) for frame in far.heard if isinstance(frame, Entries)]
    assert numbers == [(1, 2), (3, 1)]


def test_entries_written_during_a_read_for_a_want_are_read_next(ada: Peer) -> None:
    ada.say("one")
    far = ada.far("bob")
    ada.hold_lookups = True
    ada.put_frames(far, want(1, "ada"))
    ada.say("two")
    ada.answer_lookups()
    numbers = [(frame.first, len(frame.e), frame.n) for frame in far.heard if isinstance(frame, Entries)]
    assert numbers == [(1, 2, 1), (3, 1, None)]


def test_an_entry_written_after_its_log_was_read_for_a_want_is_sent_before_the_next() -> None:
    """Another log of the same user is read until the end of the want (seed 812642)."""
    ada = World().peer("ada", fetch_batches=1)
    ada.say("one")
    ada.carry(Author("ada", "dd").say("long ago"))
    far = ada.far("bob")
    ada.hold_lookups = True
    far.say(want(1, "ada"))
    ada.put(LinkFilled(far.link))
    assert ada.answer_lookups() == ["to bob: entries room a1:1..2, for want 1"]
    ada.say("two")
    ada.put(LinkDrained(far.link))
    assert ada.take() == [
        "fetch ada for bob",
        "to bob: entries room dd:1..1, for want 1",
        "to bob: have room ada a1:3 dd:1 end 1",
        "fetch ada for bob",
        "to bob: entries room a1:3..3",
    ]
    assert ada.say("three")[-1] == "to bob: entries room a1:4..4"


def test_a_log_on_entries_not_durable_during_a_want_is_not_pushed(ada: Peer) -> None:
    """A file brings back an own earlier log; both are still in flight (seed 846427)."""
    earlier = Author("ada", "dd")
    far = ada.far("bob")
    ada.holding = True
    ada.carry(earlier.say("long ago"))
    ada.say("now")
    far.say(want(1, "ada"))
    ada.holding = False
    assert [line for line in ada.commit() if line.startswith("to bob")] == ["to bob: have room ada a1:2"]
    given = [line for line in far.say(want(2, "ada")) if line.startswith("to bob")]
    assert given[:-1] == ["to bob: entries room dd:1..1, for want 2", "to bob: entries room a1:1..2, for want 2"]
    assert ada.say("more")[-1] == "to bob: entries room a1:3..3"


def test_a_peer_that_covers_the_running_log_gets_it_only_once(ada: Peer) -> None:
    """The writer's other device builds on this run. A far end that holds that log holds this one too."""
    ada.say("one")
    far = ada.far("bob")
    other = Author("ada", "dd", before=[own(ada, 2)])
    far.say(other.say("from my phone"))
    far.heard.clear()
    assert far.say(want(1, "ada", [other.mark])) == ["fetch ada for bob", "to bob: have room ada dd:1 end 1"]
    assert ada.say("two")[-1] == "to bob: entries room a1:3..3"


def test_entries_of_others_are_served_but_never_pushed(ada: Peer) -> None:
    bob = Author("bob", "b1")
    host, far = ada.far("bob"), ada.far("cyd")
    assert host.say(bob.say("one")) == ["commit b1:1..1, show b1:1..1", "to bob: have room bob b1:1"]
    ada.drop(host)
    ada.world.pass_time(1.1)
    assert "to cyd: have room bob b1:1" in ada.take()
    assert far.say(want(1, "bob"))[1] == "to cyd: entries room b1:1..1, for want 1"


def test_a_peer_gets_only_its_users_conversations(ada: Peer) -> None:
    ada.far("eve")
    bob = ada.far("bob")
    assert ada.say("psst", to=ada.open("bob"))[-1] == "to bob: entries dm a1:1..1"
    frame = bob.heard[-1]
    assert isinstance(frame, Entries)
    assert frame.names == [dm_naming(IDS["ada"], IDS["bob"])]


def test_a_peer_that_no_longer_hosts_a_member_gets_no_entries(ada: Peer) -> None:
    talk = ada.open("bob")
    ada.say("psst", to=talk)
    far = ada.far("bob")
    assert far.say(want(1, "ada", conversation=talk), Here([], gone=[IDS["bob"]])) == [
        "fetch ada for bob", "to bob: have nothing end 1"]  # fmt: skip


# ---- refusals


def takes_no_more(far: Far) -> list[str]:
    """Let a far end refuse more of ada's entries; return the node's effects."""
    return far.say(Have({}, full={ROOM: [IDS["ada"]]}))


def test_a_peer_that_refuses_a_writer_gets_no_marks_until_they_change(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    assert takes_no_more(far) == ["warn refused"]
    assert ada.say("two") == ["commit a1:3..3, show a1:3..3", "kept a1:3..3 of bob"]
    announce(far, own(ada, 1))
    announce(far, own(ada, 1))
    assert ada.say("three") == ["commit a1:4..4, show a1:4..4", "kept a1:4..4 of bob"]
    announce(far, own(ada, 2))
    assert ada.say("four")[2:] == ["fetch ada for bob", "to bob: entries room a1:3..5"]


def test_a_writer_is_told_once_whose_peer_takes_no_more_of_a_conversation(ada: Peer) -> None:
    far = ada.far("bob")
    ada.open("bob")
    ada.say("hello", "are you there?", to=dm("ada", "bob"))
    refused = Have({}, full={dm("ada", "bob"): [IDS["ada"]]}, names=[dm_naming(IDS["ada"], IDS["bob"])])
    for _ in range(2):
        far.say(refused)
    assert [effect for effect in ada.effects if isinstance(effect, WarningIssued)] == [
        WarningIssued(
            "refused",
            "kept, not taken: the user 'bob' has not answered you yet, or takes no more of one user; the rest goes when"
            " they write to you or /allow you",
            IDS["bob"],
            dm("ada", "bob"),
        )
    ]


def test_a_peer_that_refuses_a_writer_still_gets_what_it_wants(ada: Peer) -> None:
    ada.say("one")
    far = ada.far("bob")
    takes_no_more(far)
    assert far.say(page(ask=True)) == ["to bob: have room ada a1:2 all"]
    assert "to bob: entries room a1:1..2, for want 1" in far.say(want(1, "ada"))


def test_a_refusal_during_a_want_stops_logs_that_build_on_the_rest(ada: Peer) -> None:
    ada.say("one", "two")
    former = own(ada, 1)
    ada.restart()
    ada.say("begun anew")
    far = ada.far("bob")
    ada.put(LinkFilled(far.link))
    far.say(want(1, "ada"))
    takes_no_more(far)
    ada.put(LinkDrained(far.link))
    announce(far)
    announce(far, former)
    assert [line for line in ada.say("news") if line.startswith("to bob")] == ["to bob: have room ada a2:3"]


def test_a_refusal_concerns_one_writer_and_one_link() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("cyd")
    takes_no_more(far)
    assert far.say(bob.say("hello"))[-1] == "to cyd: have room bob b1:1"
    ada.drop(far)
    ada.far("cyd")
    assert "to cyd: entries room a1:1..2" in ada.say("hello")
