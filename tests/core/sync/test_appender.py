"""Entries of hosted users: stamped, chained, signed, and appended to a log of this process alone."""

from __future__ import annotations

import pytest

from p2pchat.core.inputs import UserRenamed, WriteRequest
from p2pchat.core.log import (
    Entry,
    Marks,
    RawEntry,
    Ref,
    choices_fault,
    decode_entry,
    encode_entry,
    is_plausible,
    next_c,
    ref_key,
)
from p2pchat.core.sync.appender import text_fault
from p2pchat.kinds import KINDS, RELATION_KINDS, TEXT_KINDS
from p2pchat.protocol import Entries
from tests.core.scripted_nodes import IDS, ROOM, START, Author, Far, Peer, World


def written(far: Far) -> list[Entry]:
    """Return the entries that a far end received, and forget them."""
    frames, far.heard = far.heard, []
    return [decode_entry(raw) for frame in frames if isinstance(frame, Entries) for raw in frame.e]


def stored(peer: Peer) -> list[Entry]:
    """Return all entries that a peer was shown, names too."""
    return [decode_entry(shown.raw) for shown in peer.storage.places(0, 100)]


def test_in_the_room_a_log_begins_with_a_profile(ada: Peer) -> None:
    far = ada.far("bob")
    assert ada.say("hello", "again") == [
        "commit a1:1..3, show a1:1..3",
        "kept a1:2..3 of bob",
        "to bob: entries room a1:1..3",
    ]
    assert [(entry.k, entry.b, entry.c - START) for entry in written(far)] == [
        ("profile", {"name": "ada"}, 0), ("text", "hello", 1), ("text", "again", 2)]  # fmt: skip


def test_nothing_is_sent_before_it_is_durable(ada: Peer) -> None:
    ada.far("bob")
    ada.holding = True
    assert ada.say("hello") == ["commit a1:1..2, show a1:1..2"]
    assert ada.commit()[0] == "kept a1:2..2 of bob"


def test_one_head_proves_256_entries_and_96_kib(ada: Peer) -> None:
    talk = ada.open("bob")
    assert ada.say(*["word"] * 300, to=talk)[0].startswith("commit a1:1..256, a1:257..300")
    assert ada.say(*["x" * 30_000] * 4, to=talk)[0].startswith("commit a1:301..303, a1:304..304")


def test_an_entry_follows_the_newest_two_shown_since_the_writer_s_last() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(bob.say("one"), cyd.say("two"), bob.say("three"))
    ada.say("first", "second")
    far.say(cyd.say("four"))
    ada.say("third")
    profile, first, second, third = written(far)
    assert [profile.after, first.after, second.after, third.after] == [
        (), (cyd.ref(1), bob.ref(2)), (), (cyd.ref(2),)]  # fmt: skip


def test_a_profile_follows_nothing_so_a_gap_precedes_a_message() -> None:
    ada, cyd = World().peer("ada"), Author("cyd", "c1")
    far = ada.far("cyd")
    ada.say("first")
    far.say(cyd.say("one"))
    ada.put(UserRenamed(IDS["ada"], "countess"))
    ada.say("second")
    _, _, renamed, second = written(far)
    assert (renamed.k, renamed.after, second.after) == ("profile", (), (cyd.ref(1),))


def test_a_waiting_entry_is_shown_after_its_cause_and_followed_by_the_next() -> None:
    ada, cyd = World().peer("ada"), Author("cyd", "c1")
    far = ada.far("cyd")
    far.say(cyd.say("you will say it", re=Author("ada", "a1").ref(2)))
    assert ada.texts() == []
    ada.say("it")
    ada.say("how did you know?")
    assert ada.texts() == ["it", "you will say it", "how did you know?"]
    assert written(far)[-1].after == (cyd.ref(1),)


def test_the_entries_shown_last_are_known_after_a_restart() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(bob.say("one"))
    ada.say("mine")
    far.say(cyd.say("two"))
    ada.start()
    far = ada.far("bob")
    ada.say("mine again")
    profile, again = [decode_entry(shown.raw) for shown in ada.storage.places(4, 2)]
    assert (profile.k, profile.after, again.after) == ("profile", (), (cyd.ref(1),))


def renamed(name: str, c: int) -> RawEntry:
    return encode_entry(Entry("profile", c, c, b={"name": name}))


def test_a_profile_is_neither_followed_nor_the_writer_s_previous_entry() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(bob.say("one"), cyd.say("two"))
    far.say(bob.write(renamed("robert", START + 2)))
    ada.say("first")
    assert written(far)[1].after == (bob.ref(1), cyd.ref(1))
    text = encode_entry(Entry("text", 1, START + 10, b="three"))
    far.say(cyd.write(text, renamed("cydney", START + 11)))
    ada.say("second")
    assert written(far)[0].after == (cyd.ref(2),)


def test_after_a_restart_no_profile_is_followed_nor_the_writer_s_previous_entry() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    ada.say("first")
    far.say(cyd.say("one"), bob.say("two"))
    far.say(bob.write(renamed("robert", START + 2)))
    ada.put(UserRenamed(ada.id, "countess"))
    ada.start()
    far = ada.far("bob")
    ada.say("second")
    (said,) = [entry for shown in ada.storage.places(6, 10) if (entry := decode_entry(shown.raw)).b == "second"]
    assert said.after == (cyd.ref(1), bob.ref(1))


def test_a_profile_that_waited_over_a_restart_is_not_followed() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    missing = cyd.say("one")
    ada.far("bob").say(bob.say("two", after=[cyd.ref(1)]), bob.write(renamed("robert", START + 2)))
    ada.start()
    far = ada.far("bob")
    far.say(missing)
    assert ada.texts() == ["one", "two"]
    ada.say("three")
    assert written(far)[1].after == (cyd.ref(1), bob.ref(1))


def test_each_process_writes_its_own_log_that_builds_on_the_last(ada: Peer) -> None:
    ada.say("one")
    ada.start()
    ada.say("two")
    (first,) = ada.storage.places(2, 1)
    assert [(mark.run[:2], mark.seq) for mark in ada.before(first.log)] == [("a1", 2)]


def test_an_entry_s_clock_exceeds_all_it_follows_but_no_wrong_clock(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(bob.say("a minute ahead", at=START + 60_000_000))
    far.say(cyd.say("an hour ahead", at=START + 3_600_000_000))
    ada.say("here")
    ada.start()
    far = ada.far("bob", bob, cyd)
    ada.say("still here")
    stamps = [decode_entry(shown.raw).c - START for shown in ada.storage.places(2, 10)]
    assert stamps == [60_000_002, 60_000_003, 60_000_004, 60_000_005]


def test_a_clock_that_is_put_right_gives_the_next_text_a_log_with_the_right_hour(ada: Peer) -> None:
    ada.world.ahead = 7200.0  # a unit that starts before its clock is set
    ada.say("early")
    ada.world.ahead = 0.0
    ada.say("now", "and now")
    profile, early, again, now, and_now = stored(ada)
    assert [entry.c - START for entry in (early, now, and_now)] == [7_200_000_001, 1, 2]
    assert [mark.seq for mark in ada.before(ada.storage.places(2, 1)[0].log)] == [2]
    assert ada.texts() == ["early", "now", "and now"]
    assert (profile.b, again.b) == ({"name": "ada"}, {"name": "ada"})


# What is numbered needs no clock (groups), and of what ends something the oldest counts (close).
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("kind", sorted({*(name for name in RELATION_KINDS if not KINDS[name].oldest), "profile"}))
def test_what_replaces_something_goes_on_above_a_clock_that_was_ahead(ada: Peer, kind: str, restarts: bool) -> None:
    def stamp_of(body: str) -> int:
        if kind == "profile":
            ada.put(UserRenamed(ada.id, body))
        else:
            said = "1" if KINDS[kind].body == "number" else body
            ada.change(kind, said, Ref(ref_key(ada.id, "a1" * 8), 2), ticket=2)
        entry = stored(ada)[-1]
        assert entry.k == kind
        return entry.c

    ada.world.ahead = 7200.0
    of = KINDS[kind].on or "text"
    ada.put(WriteRequest(1, ada.id, ROOM, of, ["early"], marks=Marks(choices=("a", "b") if of == "poll" else ())))
    first = stamp_of("first")
    ada.world.ahead = 0.0
    if restarts:
        ada.restart()
    ada.say("now")
    second = stamp_of("second")
    ada.world.seconds += 1
    ada.say("at last")
    assert first < second < stamp_of("third"), f"a later {kind} does not count: `above` of core/sync/appender.py"
    assert [entry.c - START for entry in stored(ada) if entry.b in ("now", "at last")] == [1, 1_000_001]


def test_the_clock_is_never_behind_the_log_nor_the_time() -> None:
    assert [next_c(100, 0, 0), next_c(100, 100, 0), next_c(100, 5, 200), next_c(100, 300, 200)] == [100, 101, 201, 301]
    assert [is_plausible(300_000_100, 100), is_plausible(300_000_101, 100)] == [True, False]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (WriteRequest(1, IDS["eve"], ROOM, "text", ["hello"]), "user"),
        (WriteRequest(1, IDS["ada"], "00" * 32, "text", ["hello"]), "conversation"),
        (WriteRequest(1, IDS["ada"], ROOM, "text", []), "empty"),
        (WriteRequest(1, IDS["ada"], ROOM, "text", ["fine", "a\0b"]), "text"),
        (WriteRequest(1, IDS["ada"], ROOM, "text", ["\ud800"]), "text"),
        (WriteRequest(1, IDS["ada"], ROOM, "text", ["ä" * 16385]), "too_long"),
        (WriteRequest(1, IDS["ada"], ROOM, "text", ["\x01" * 12_000]), "too_long"),
        (WriteRequest(1, IDS["ada"], ROOM, "text", ["hello"], None, {0: -1}), "claim"),
        (WriteRequest(1, IDS["ada"], ROOM, "text", ["hello", "again"], None, {1: 2**53}), "claim"),
    ],
)
def test_an_invalid_write_is_refused_as_a_whole(ada: Peer, said: WriteRequest, code: str) -> None:
    ada.put(said)
    assert ada.take() == [f"refused {code}"]


@pytest.mark.parametrize("kind", sorted(TEXT_KINDS))
@pytest.mark.parametrize("text", ["x" * 32_769, "\x01" * 12_000, "a\0b", "\ud800"])
def test_no_text_of_any_kind_is_written_that_others_refuse(ada: Peer, kind: str, text: str) -> None:
    re = Ref(ref_key(ada.id, "a1" * 8), 1) if KINDS[kind].about else None
    ada.put(WriteRequest(1, ada.id, ROOM, kind, [text], re))
    assert [one.split()[0] for one in ada.take()] == ["refused"], "_refusal() of core/sync/appender.py"


def test_a_claimed_time_is_stored_and_does_not_affect_order(ada: Peer) -> None:
    far = ada.far("bob")
    ada.put(WriteRequest(1, IDS["ada"], ROOM, "text", ["then", "now", "at last"], None, {0: 5, 2: 2**53 - 1}))
    ada.take()
    profile, *words = written(far)
    assert [entry.t for entry in words] == [5, None, 2**53 - 1] and profile.t is None
    assert [(entry.at - START, entry.c - START) for entry in words] == [(0, 1), (0, 2), (0, 3)]
    assert ['"t":' in str(encode_entry(entry)[1]) for entry in (profile, *words)] == [False, True, False, True]


def test_what_a_program_writes_by_itself_is_marked_and_nothing_else() -> None:
    ada = World().peer("ada")
    far = ada.far("bob")
    ada.put(WriteRequest(1, IDS["ada"], ROOM, "text", ["that failed"], marks=Marks(auto=True)))
    ada.put(WriteRequest(2, IDS["ada"], ROOM, "text", ["hello"]))
    ada.take()
    assert ['"auto":true' in str(encode_entry(entry)[1]) for entry in written(far)] == [False, True, False]


def test_choices_and_hops_are_written_with_their_text_and_no_other() -> None:
    ada = World().peer("ada")
    far = ada.far("bob")
    ada.put(WriteRequest(1, IDS["ada"], ROOM, "text", ["deploy?"], marks=Marks(choices=("yes", "no"), hops=1)))
    ada.put(WriteRequest(2, IDS["ada"], ROOM, "text", ["hello"]))
    ada.take()
    texts = [str(encode_entry(entry)[1]) for entry in written(far)]
    assert texts[1].endswith(',"choices":["yes","no"],"hops":1}')
    assert [("choices" in text, "hops" in text) for text in texts] == [
        (False, False),
        (True, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("kind", "choices", "why"),
    [
        ("text", ["yes"], "a message has 2 to 6 choices, not 1"),
        ("text", [*"abcdefg"], "a message has 2 to 6 choices, not 7"),
        ("text", ["yes", "no", "yes"], "two choices of a message are alike"),
        ("text", ["yes", ""], "choices have 1 to 8 characters"),
        ("text", ["yes", "certainly"], "choices have 1 to 8 characters"),
        ("text", ["yes", "a\0b"], "choices hold NUL, or are no valid Unicode"),
        ("text", ["yes", "\ud800"], "choices hold NUL, or are no valid Unicode"),
        ("action", ["yes", "no"], "only a text or a poll has choices, no action"),
    ],
)
def test_invalid_choices_are_refused(ada: Peer, kind: str, choices: list[str], why: str) -> None:
    assert choices_fault(kind, choices) == why
    request = WriteRequest(1, IDS["ada"], ROOM, kind, ["deploy?"], marks=Marks(choices=tuple(choices)))
    ada.put(request)
    assert ada.take() == ["refused shape"]


@pytest.mark.parametrize("hops", [-1, 256])
def test_invalid_hops_are_refused(ada: Peer, hops: int) -> None:
    ada.put(WriteRequest(1, IDS["ada"], ROOM, "text", ["hi"], marks=Marks(hops=hops)))
    assert ada.take() == ["refused shape"]


def test_a_text_at_the_limits_is_taken() -> None:
    assert [text_fault(text) for text in ("ä" * 16384, "x" * 32768, "\x01" * 10_000, "")] == [None] * 4


def test_a_direct_conversation_needs_a_member(ada: Peer) -> None:
    talk = ada.open("bob")
    assert ada.say("psst", to=talk) == ["commit a1:1..1, show a1:1..1", "kept a1:1..1 of bob"]


def names(peer: Peer) -> list[str]:
    entries = [decode_entry(shown.raw) for shown in peer.storage.places(0, 10)]
    return [entry.b["name"] for entry in entries if entry.k == "profile"]


def test_a_new_name_is_written_even_in_an_empty_room(ada: Peer) -> None:
    ada.put(UserRenamed(ada.id, "countess"))
    ada.take()
    assert names(ada) == ["countess"]
    ada.say("hello")
    ada.put(UserRenamed(ada.id, "ada again"))
    ada.take()
    assert [names(ada), ada.node.names[ada.id]] == [["countess", "ada again"], "ada again"]
