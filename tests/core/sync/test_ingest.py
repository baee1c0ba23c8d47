"""Ingest: the checks of a batch before it is stored, and the effects of a failed check."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from p2pchat.core.effects import Effect, PauseReading, WarningIssued
from p2pchat.core.inputs import Got
from p2pchat.core.log import UNREADABLE, Entry, decode_entry, encode_entry, extend_chain, first_chain, head_message
from p2pchat.core.members.statement import make_guest
from p2pchat.core.sync.remote_state import MAX_REFUTED
from p2pchat.protocol import Entries, Pull, Want
from tests.core.founded_peers import HERE, answers_for, founders, guest, of_founder
from tests.core.scripted_nodes import (
    IDENTITIES,
    IDS,
    ROOM,
    START,
    Author,
    Far,
    N,
    Peer,
    World,
    alike,
    covered_log,
    dm,
    page,
    passed,
)


def test_a_batch_is_kept_then_acknowledged() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    ada.holding = True
    assert far.say(bob.say("one", "two")) == ["commit b1:1..2, show b1:1..2"]
    assert ada.commit() == ["to bob: have room bob b1:2"]


def test_batches_of_one_read_are_one_commit_and_one_mark() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    assert far.say(bob.say("one"), bob.say("two", "three"), bob.say("four")) == [
        "commit b1:1..4, show b1:1..4",
        "to bob: have room bob b1:4",
    ]


def test_joined_frames_stay_within_the_limits_of_a_batch() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    assert far.say(*(bob.say("\u65e5" * 10_000) for _ in range(5)))[0].startswith("commit b1:1..3, b1:4..5,")
    assert far.say(bob.say(*["word"] * 200), bob.say(*["word"] * 57))[0].startswith("commit b1:6..205, b1:206..262,")


@pytest.mark.parametrize("text", ["x" * 65_536, "\U0001f600" * 16_384])
def test_an_entry_has_64_kib_counted_in_utf8(ada: Peer, text: str) -> None:
    bob, far = Author("bob", "b1"), ada.far("bob")
    assert far.say(bob.write((START + 1, text))) == ["commit b1:1..1, show b1:1..1", "to bob: have room bob b1:1"]
    assert far.say(bob.write((START + 2, text + "x"))) == ["close bob: limit"]


def test_who_passes_on_what_nobody_takes_is_told_once_and_asked_for_no_more_of_that_writer() -> None:
    """Its link ended again and again, and nothing that its own user wrote arrived."""
    ada, dan, eve = World().peer("ada"), Author("dan", "d1"), Author("eve", "e1")
    far, true = ada.far("eve"), Author("dan", "d1").say("true")
    lie = msgspec.structs.replace(dan.say("lie"), head="00" * 64)
    assert far.say(lie, eve.say("mine")) == [
        "to eve: have nothing full",
        "commit e1:1..1, show e1:1..1",
        "to eve: have room eve e1:1",
    ]
    assert far.say(lie, true, page(dan)) == []
    ada.world.pass_time(30.0)
    assert not any(isinstance(frame, Want) for frame in far.heard)
    assert ada.texts() == ["mine"] and ada.counted["refuted_head"] == 1
    ada.far("bob").say(true)
    assert ada.texts() == ["mine", "true"]


def test_what_came_before_a_false_entry_of_a_log_is_kept() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far, good = ada.far("eve"), bob.say("one")
    said = far.say(good, bob.write((START + 5, "a\0b")), bob.say("behind it"))
    assert said[:2] == ["to eve: have nothing full", "commit b1:1..1, show b1:1..1"]
    assert ada.texts() == ["one"]


def test_a_peer_that_gives_false_entries_of_very_many_writers_loses_its_link() -> None:
    ada = World().peer("ada")
    far, remote = ada.far("eve"), next(iter(ada.node.replicator.context.remotes.values()))
    remote.refuted = {(ROOM, f"{n:064x}"): None for n in range(MAX_REFUTED)}
    assert far.say(msgspec.structs.replace(Author("dan", "d1").say("lie"), head="00" * 64)) == ["close eve: head"]


def test_known_entries_are_not_stored_again() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    first, second = bob.say("one"), bob.say("two")
    far.say(first)
    both = Author("bob", "b1").write(*first.e, *second.e)
    assert [far.say(first), far.say(both), ada.texts()] == [
        [], ["commit b1:2..2, show b1:2..2", "to bob: have room bob b1:2"], ["one", "two"]]  # fmt: skip


def test_a_batch_that_leaves_a_gap_is_dropped_and_the_gap_is_wanted(ada: Peer) -> None:
    bob = Author("bob", "b1")
    far = ada.far("bob")
    bob.say("lost")
    assert far.say(bob.say("two")) == []
    ada.world.pass_time(1.0)
    assert ada.take() == ["to bob: want 1 room bob from nothing"]


def test_a_gap_of_one_entry_is_a_gap(ada: Peer) -> None:
    bob = Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("one"))
    bob.say("lost")
    assert far.say(bob.say("three")) == []
    ada.world.pass_time(1.0)
    assert ada.take() == ["to bob: want 1 room bob from b1:1"]


@pytest.mark.parametrize("field", ["head", "e", "prev"])
def test_a_wrong_head_ends_the_link_and_batches_before_it_count(field: str) -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    good, bad = bob.say("one"), bob.say("two")
    wrong = {"head": good.head, "e": good.e, "prev": "00" * 32}[field]
    said = far.say(good, msgspec.structs.replace(bad, **{field: wrong}))
    assert said[-2:] == ["close bob: head", "commit b1:1..1, show b1:1..1"]
    assert ada.texts() == ["one"]


def test_a_false_batch_before_a_true_one_is_no_fork() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    true = [bob.say("one"), bob.say("two")]
    lie = msgspec.structs.replace(Author("bob", "b1").say("a lie"), head="00" * 64)
    assert ada.far("eve").say(lie, true[1]) == ["to eve: have nothing full"]
    ada.far("bob").say(*true)
    assert ada.texts() == ["one", "two"]


def test_the_clock_rises_inside_a_log() -> None:
    """Nobody passes on such an entry, so who sends it made it up."""
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("one"))
    assert far.say(bob.say("two", at=START - 5)) == ["close bob: head"]
    assert ada.texts() == ["one"]


def shown_kinds(peer: Peer) -> list[str]:
    return [decode_entry(shown.raw).k for shown in peer.storage.places(0, 99)]


ODD = ["", "hello", '{"k":"text"}', '{"k":"text","at":1,"b":5}', '{"k":"later","at":1}', " \n\t", "\u2028"]


@pytest.mark.parametrize("text", ODD)
def test_any_text_is_kept_shown_and_acknowledged_in_its_place(text: str) -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    frames = [bob.say("one"), bob.write((START + 5, text)), bob.say("three", at=START + 10)]
    said = far.say(*frames)
    assert said == ["commit b1:1..3, show b1:1..3", "to bob: have room bob b1:3"]
    kind = "later" if "later" in text else UNREADABLE
    assert shown_kinds(ada) == ["text", kind, "text"]
    ada.start()
    assert shown_kinds(ada) == ["text", kind, "text"]
    cyd = ada.far("cyd")
    cyd.say(Want(1, ROOM, IDS["bob"], []))
    (served,) = [frame for frame in cyd.heard if isinstance(frame, Entries)]
    assert served.e == [entry for frame in frames for entry in frame.e] and served.h == bob.header


@pytest.mark.parametrize("control", ["\0", "\x08", "\x1f"])
def test_a_control_character_is_the_fault_of_the_sender(control: str) -> None:
    """In a frame it takes six bytes, so that a batch of them would fit in none."""
    ada = World().peer("ada")
    assert ada.far("bob").say(Author("bob", "b1").write((START, f"a{control}b"))) == ["close bob: malformed"]


# ---- headers


def with_header(author: Author, header: str) -> Entries:
    """Return a log that begins with this text, signed."""
    frame = author.say("word")
    chain = first_chain(header)
    head = IDENTITIES[author.name].sign(head_message(author.log, 1, extend_chain(chain, frame.e))).hex()
    return msgspec.structs.replace(frame, prev=chain.hex(), head=head, h=header)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.replace(",", ", ", 1),
        lambda header: header[:-1] + ',"later":1}',
        lambda header: header[:-1] + ',"by":null}',
        lambda header: header.replace("b1" * 8, "b2" * 8),
        lambda header: header.replace(ROOM, "00" * 32),
        lambda header: header.replace('"before":[]', '"before":[["00",1,"00"]]'),
        lambda header: header.replace(',"before":[]', ""),
        lambda header: header.replace("[]", f"[{','.join(9 * [EARLIER])}]"),
        lambda header: "null",
        lambda header: "\0",
    ],
)
def test_a_header_in_another_form_or_of_another_log_is_refused(
    change: Callable[[str], str]
) -> None:  # fmt: skip
    bob = Author("bob", "b1")
    ada = World().peer("ada")
    assert ada.far("eve").say(with_header(bob, change(bob.header))) == ["to eve: have nothing full"]
    assert ada.texts() == []


EARLIER = '["00aa00aa00aa00aa",1,"00bb00bb00bb00bb"]'


def test_a_chain_begins_with_the_header(ada: Peer) -> None:
    frame = Author("bob", "b1").say("word")
    frame.prev = "00" * 32
    assert ada.far("eve").say(frame) == ["to eve: have nothing full"]


def test_two_headers_of_one_log_are_a_fork(ada: Peer) -> None:
    first, far = Author("bob", "b0"), ada.far("bob")
    far.say(first.say("before"))
    far.say(Author("bob", "b1", before=[first.mark]).say("yes"))
    assert far.say(Author("bob", "b1").say("yes"))[0] == "warn fork"


def certified(network: str, member: str, user: str) -> Author:
    certificate = make_guest(network, IDS[member], IDENTITIES[member].sign, IDS["bob"])
    return Author(user, "b1", by=certificate)


def test_who_answers_for_a_writer_is_known_from_the_header_and_after_a_restart(ada: Peer) -> None:
    log = certified(N, "eve", "bob")
    assert ada.far("bob").say(log.say("hi"))[0] == "commit b1:1..1, show b1:1..1"
    assert ada.node.member_directory.members_of(IDS["bob"]) == (IDS["eve"],)
    ada.start()
    assert ada.node.member_directory.members_of(IDS["bob"]) == (IDS["eve"],)
    assert ada.node.member_directory.members_of(IDS["cyd"]) == ()
    far = ada.far("cyd")
    far.say(Want(1, ROOM, IDS["bob"], []))
    assert [frame.h for frame in far.heard if isinstance(frame, Entries)] == [log.header]


@pytest.mark.parametrize(("network", "user"), [("00" * 16, "bob"), (N, "cyd")])
def test_a_certificate_of_another_network_or_user_is_refused(
    ada: Peer, network: str, user: str
) -> None:  # fmt: skip
    log = certified(network, "eve", user)
    assert ada.far("dan").say(log.say("hi")) == ["to dan: have nothing full"]
    assert ada.texts() == [] and ada.node.member_directory.members_of(IDS["bob"]) == ()


def test_a_user_belongs_to_all_members_that_its_headers_named(ada: Peer) -> None:
    far = ada.far("bob")
    for number, member in enumerate(("eve", "dan", "eve")):
        log = certified(N, member, "bob")
        log.log = log.log._replace(run=f"b{number}" * 8)
        far.say(log.say(member))
    for _ in range(2):
        assert {*ada.node.member_directory.members_of(IDS["bob"])} == {IDS["eve"], IDS["dan"]}
        ada.start()


def test_only_members_write_in_a_direct_conversation() -> None:
    ada, eve = World().peer("ada"), Author("eve", "e1", dm("ada", "bob"))
    far = ada.far("bob")
    assert far.say(eve.say("psst")) == []
    assert far.say(Author("bob", "b1", dm("ada", "bob")).say("hi"))[0] == "commit b1:1..1, show b1:1..1"


def test_a_conversation_that_is_not_shared_is_ignored(ada: Peer) -> None:
    assert ada.far("eve").say(Author("bob", "b1", dm("ada", "bob")).say("stolen")) == []
    assert ada.counted["conversation_ignored"] == 1


# ---- logs that build on others


def test_a_log_is_accepted_when_the_logs_it_names_are_held(ada: Peer) -> None:
    first = Author("bob", "b1")
    far = ada.far("bob")
    one = first.say("one")
    second = Author("bob", "b2", before=[first.mark])
    two = second.say("two")
    assert far.say(two) == []
    assert far.say(one, two) == ["commit b1:1..1, b2:1..1, show b1:1..1, show b2:1..1", "to bob: have room bob b2:1"]


def test_a_log_that_names_another_chain_is_not_accepted(ada: Peer) -> None:
    first = Author("bob", "b1")
    far = ada.far("bob")
    far.say(first.say("one"))
    forged = Author("bob", "b2", before=[alike(first.mark)])
    assert far.say(forged.say("two")) == []
    assert ada.texts() == ["one"]


def test_a_log_on_a_covered_one_is_taken_at_once() -> None:
    _, far, first, _ = covered_log()
    branch = Author("bob", "b3", before=[first.mark])
    assert far.say(branch.say("three"), branch.say("four")) == [
        "commit b3:1..2, show b3:1..2",
        "to bob: have room bob b2:1 b3:2",
    ]


def test_a_log_on_the_middle_of_another_is_taken_when_it_comes_again(ada: Peer) -> None:
    """Only storage knows the chain there."""
    far, first = ada.far("bob"), Author("bob", "b1")
    far.say(first.say("one"))
    branch = Author("bob", "b2", before=[first.mark])
    two, more = branch.say("two"), first.say("more")
    far.say(more)
    assert far.say(two) == ["look up b1:1"]
    assert far.say(two)[0] == "commit b2:1..1, show b2:1..1"


def test_a_log_on_another_version_of_the_middle_of_one_is_not_taken(ada: Peer) -> None:
    far, first = ada.far("bob"), Author("bob", "b1")
    far.say(first.say("one"))
    false = Author("bob", "b2", before=[alike(first.mark)]).say("two")
    far.say(first.say("more"))
    assert [far.say(false), far.say(false)] == [["look up b1:1"], []]


def test_a_covered_log_that_is_extended_is_a_tip_again() -> None:
    ada, far, first, _ = covered_log()
    assert far.say(first.say("one more"))[-1] == "to bob: have room bob b2:1 b1:2"
    assert ada.texts() == ["one", "two", "one more"]


def test_a_log_extended_and_covered_in_one_commit_stays_covered() -> None:
    """Otherwise storage would call it a tip, and no sum would agree after a restart (seed 1077)."""
    ada, far, first, second = covered_log()
    more = first.say("one more")
    third = Author("bob", "b3", before=[first.mark, second.mark])
    assert far.say(more, third.say("three"))[-1] == "to bob: have room bob b3:1"
    assert [tip.log.run for tip in ada.storage.load([ada.id]).tips] == [third.mark.run]


def test_a_log_on_a_tip_is_new_and_needs_no_lookup(ada: Peer) -> None:
    far = ada.far("bob")
    author = Author("bob", "b1")
    far.say(author.say("one"))
    for run in ("b2", "b3", "b4"):
        author = Author("bob", run, before=[author.mark])
        assert far.say(author.say(run))[0] == f"commit {run}:1..1, show {run}:1..1"


def test_a_covered_log_is_recognized(ada: Peer) -> None:
    far = ada.far("bob")
    first = Author("bob", "b1")
    far.say(first.say("one"))
    second = Author("bob", "b2", before=[first.mark])
    again = second.say("two")
    far.say(again)
    far.say(Author("bob", "b3", before=[second.mark]).say("three"))
    far.say(first.say("one, gone on with"))  # a tip again, but longer than it was named
    assert not any(line.startswith("commit") for line in far.say(again))
    assert ada.counted["repeated_batch"] == 1


def test_a_writer_has_at_most_64_tips(ada: Peer) -> None:
    far = ada.far("bob")
    authors = [Author("bob", f"{n:02x}") for n in range(65)]
    for author in authors[:64]:
        assert far.say(author.say("word"))[0].startswith("commit")
    assert far.say(authors[64].say("word")) == ["to bob: have nothing full"]
    joined = Author("bob", "b1", before=[author.mark for author in authors[:8]])
    assert far.say(joined.say("together"))[0].startswith("commit b1:1..1")
    assert "commit 00:2..2, show 00:2..2" in far.say(authors[0].say("and on"))
    for author in authors[1:8]:  # if these were covered, they would be tips again
        far.say(author.say("and on"))
    assert ada.counted["too_many_tips"] == 2


# ---- unusual cases


def test_a_log_that_begins_with_another_chain_is_no_fork(ada: Peer) -> None:
    far = ada.far("bob")
    bob = Author("bob", "b1")
    bob.chain = bytes(32)
    assert far.say(bob.say("odd")) == ["close bob: head"]


def test_a_running_log_continued_by_a_copy_is_replaced(ada: Peer) -> None:
    """A machine was resumed twice from one snapshot, and the copy wrote first."""
    far = ada.far("bob")
    ada.say("mine")
    copy = Author("ada", "a1")
    copy.write(*(raw for frame in far.heard if isinstance(frame, Entries) for raw in frame.e))
    far.heard.clear()
    assert "warn two_processes" in far.say(copy.say("the copy's"))
    assert ada.say("mine again")[:2] == ["commit a3:1..2, show a3:1..2", "kept a3:2..2 of bob"]
    assert ada.texts() == ["mine", "the copy's", "mine again"]


def test_chains_that_frames_need_are_asked_for_in_limited_number(ada: Peer) -> None:
    far, bob = ada.far("bob"), Author("bob", "b1")
    frames = [bob.say("word") for _ in range(1100)]
    for frame in frames:
        far.say(frame)
    ada.hold_lookups = True
    for frame in frames[:-1]:
        far.say(frame)
    lookups = ada.node.replicator.context.lookups
    assert len(lookups._asked) == 1024
    ada.answer_lookups()
    assert (len(lookups._asked), ada.counted["repeated_batch"]) == (0, 0)
    far.say(frames[0])
    assert ada.counted["repeated_batch"] == 1


def test_a_name_of_long_ago_that_nobody_has_now_causes_no_warning() -> None:
    world, bob, cyd, eve = World(), Author("bob", "b1"), Author("cyd", "c1"), Author("eve", "e1")
    world.pass_time(3600.0)
    ada = world.peer("ada")
    far = ada.far("bob")

    def named(author: Author, name: str, seconds: float) -> list[str]:
        at, seq = START + round(seconds * 1_000_000), author.seq + 1
        effects = far.say(author.write(encode_entry(Entry("profile", at + seq, at, b={"name": name}))))
        return [line for line in effects if line.startswith("warn")]

    assert [named(bob, "robin", 0), named(bob, "robert", 1)] == [[], []]
    assert named(cyd, "robin", 2) == []
    assert named(eve, "robert", 3) == ["warn name"]  # bob's, at present
    assert named(eve, "robin", 3600) == ["warn name"]  # taken now


# ---- many new logs


def pauses(ada: Peer, far: Far, count: int) -> list[float]:
    """Return the seconds for which the node pauses a link because of so many frames that begin logs."""
    frames = [Author(far.name, f"{run:02x}").say("word") for run in range(count)]
    effects = ada.node.handle(Got(far.link, passed(*frames)), ada.world.now)
    return [effect.seconds for effect in effects if isinstance(effect, PauseReading)]


def test_a_link_to_nobody_known_pauses_when_many_logs_begin() -> None:
    """30,000 logs at once delayed the messages of others by 180 ms (median)."""
    ada = World().peer("ada", flood_a_second=4, flood_burst=8)
    ada.node.contacts.add([IDS["cyd"]])
    bob, cyd = ada.far("bob"), ada.far("cyd")
    ada.world.seconds += 10.0
    assert (pauses(ada, bob, 8), pauses(ada, bob, 2)) == ([], [0.5])
    assert pauses(ada, cyd, 20) == []


def test_a_link_to_nobody_known_pauses_when_much_is_written() -> None:
    """Programs saw a text of another member 13 s after it was stored, behind 4.5 million of 16 bytes."""
    ada = of_founder(flood_a_second=4, flood_burst=8)
    ada.node.contacts.add([IDS["dan"]])
    links = {name: ada.far(name, by=answers_for(name, "cyd")) for name in ("bob", "dan")}
    links["eve"] = ada.far("eve")  # of the founder's login, as ada is
    ada.world.seconds += 10.0

    said = list[Effect]()

    def paused(link: str, *frames: Entries) -> float:
        effects = ada.node.handle(Got(links[link].link, passed(*frames)), ada.world.now)
        said.extend(effects)
        ada.world.seconds += 10.0
        return sum(effect.seconds for effect in effects if isinstance(effect, PauseReading))

    pen, other = guest("bob"), guest("dan", "dan")
    assert paused("bob", pen.say("first")) == 0.0
    assert paused("bob", pen.say(*["x"] * 35)) == 0.0
    assert paused("bob", pen.say(*["x"] * 50)) == pytest.approx(0.5, abs=0.15)
    assert paused("bob", *(pen.say("x") for _ in range(50))) == pytest.approx(0.5, abs=0.15)  # the same one by one
    assert paused("bob", pen.say("x" * 50 * 1024)) == pytest.approx(0.5, abs=0.15)  # and by their bytes
    assert paused("bob", other.say(*["x"] * 50)) == 0.0  # of another member: it passes them on
    assert paused("bob", *(other.say("x" * 50 * 1024) for _ in range(9))) == pytest.approx(0.3, abs=0.02)
    assert paused("dan", guest("cyd").say(*["x"] * 250)) == 0.0  # a contact
    assert paused("eve", Author("eve", "e1", HERE, by=founders("eve")).say(*["x"] * 250)) == 0.0
    warned = [one for one in said if isinstance(one, WarningIssued) and one.code == "flood"]
    assert [one.about for one in warned] == [IDS["bob"]]  # once of a member


def test_a_link_that_pulls_the_second_piece_of_much_is_not_paused() -> None:
    """A pull has a `first` as entries have, and begins no log."""
    ada = World().peer("ada", flood_a_second=4, flood_burst=8)
    bob = ada.far("bob")
    ada.world.seconds += 10.0
    pulls = [Pull(n, "c" * 64, IDS["bob"], "0" * 16, 1, "a" * 64, 1, 1) for n in range(50)]
    effects = ada.node.handle(Got(bob.link, [*pulls]), ada.world.now)
    assert not any(isinstance(effect, PauseReading) for effect in effects)
