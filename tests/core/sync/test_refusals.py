"""Refused logs: an entry that its author signed and this peer cannot take ends that log here, not the link."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from p2pchat.config import Settings
from p2pchat.core.effects import WarningIssued
from p2pchat.core.inputs import QuotaLifted
from p2pchat.core.log import Entry, encode_entry, ref_key
from p2pchat.core.storage_answers import LogKey
from p2pchat.core.sync import refusals
from p2pchat.core.sync.refusals import COST, MAX_REFUSED_OF_WRITER
from p2pchat.protocol import Entries, Have, Mark, Naming, RefusedLog, UserId, Want, encode
from simulation.byzantine import OddWriter
from simulation.faults import ODD_TEXT
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.core.groups.test_group_sync import SimulatedGroup
from tests.core.scripted_nodes import IDS, ROOM, START, Author, Far, Peer, World, have, page, sums

STRICT = 1000  # bytes of a text
ODD = '{"k":"text","at":1,"c":1760000000000999,"b":"hi","t":"yesterday"}'


def long(author: Author) -> Entries:
    """Write a text that is too long for strict peers."""
    return author.say("x" * 2000)


def told(far: Far) -> list[tuple[str, int]]:
    """Return the logs that this far end was told are refused: run and last entry held."""
    frames = [frame for frame in far.heard if isinstance(frame, Have)]
    logs = [log for frame in frames for users in frame.refused.values() for each in users.values() for log in each]
    return [(log.run[:2], log.seq) for log in logs]


def wants(far: Far) -> list[Want]:
    return [frame for frame in far.heard if isinstance(frame, Want)]


# ---- entries


@pytest.mark.parametrize(
    "raw",
    [
        ODD,
        '{"k":"text","at":1,"c":1760000000000999,"b":"NUL \\u0000"}',
        '{"k":"text","at":1,"c":1760000000000999',
        '{"k":"text","at":1,"c":0,"b":"hi"}',
        '{"k":"text","at":1,"c":1760000000000999}',
        encode_entry(Entry("text", 1, START + 999, b="x" * 32769)),
        encode_entry(Entry("novel", 1, START + 999, b="x" * 66000)),
        encode_entry(Entry("text", 1, START + 999, after=(Author("cyd", "c1").ref(1),) * 3, b="hi")),
    ],
)
def test_an_invalid_entry_ends_its_log_and_not_the_link(raw: str) -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("eve")
    assert far.say(bob.say("one"))[0].startswith("commit b1:1..1")
    assert far.say(bob.write(raw)) == ["warn entry_refused", "to eve: have nothing refused", "commit small things"]
    assert far.say(bob.say("more")) == []
    far.say(Author("cyd", "c1").say("mine"))
    assert ada.texts() == ["one", "mine"]
    assert told(far) == [("b1", 1)]


def test_an_entry_that_its_author_did_not_sign_is_the_fault_of_its_sender() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("eve")
    frame = bob.write(ODD)
    frame.head = "00" * 64
    assert far.say(frame)[-1].startswith("close eve")


def test_good_frames_before_the_odd_one_of_the_same_read_are_kept() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("eve")
    far.say(bob.say("one"), bob.say("two"), bob.write(ODD), Author("cyd", "c1").say("mine"))
    assert ada.texts() == ["one", "two", "mine"]
    assert told(far) == [("b1", 2)]


def test_entries_before_the_odd_one_in_its_own_frame_are_lost_with_it() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("eve")
    good = bob.say("one").e
    bob = Author("bob", "b1")
    far.say(bob.write(*good, ODD))
    assert ada.texts() == []
    assert told(far) == [("b1", 0)]


# ---- what follows


def test_a_later_log_of_the_writer_is_accepted() -> None:
    ada, bob = World().peer("ada", max_text_bytes=STRICT), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("one"), long(bob))
    far.say(Author("bob", "b2", before=[bob.mark]).say("again", "and again", after=[bob.ref(2)]))
    assert ada.texts() == ["one", "again", "and again"]


def test_nothing_of_a_refused_log_is_wanted() -> None:
    ada, bob = World().peer("ada", max_text_bytes=STRICT), Author("bob", "b1")
    far = ada.far("eve")
    far.say(bob.say("one"), long(bob), bob.say("more"))
    assert far.say(page(bob)) == []
    ada.world.pass_time(60.0)
    assert wants(far) == []


def test_a_refusal_outlasts_a_restart_and_is_told_before_any_mark() -> None:
    ada, bob = World().peer("ada", max_text_bytes=STRICT), Author("bob", "b1")
    ada.far("eve").say(bob.say("one"), long(bob), Author("bob", "b2", before=[bob.mark]).say("again"))
    ada.restart()
    far = ada.far("bob")
    ada.world.pass_time(2.0)
    frames = [frame for frame in far.heard if isinstance(frame, Have) or type(frame).__name__ == "Digest"]
    assert isinstance(frames[0], Have) and frames[0].refused
    assert far.say(bob.say("more")) == []


def test_a_peer_with_other_rules_fetches_what_was_refused() -> None:
    ada, bob = World().peer("ada", max_text_bytes=STRICT), Author("bob", "b1")
    first, second = bob.say("one"), long(bob)
    ada.far("eve").say(first, second)
    later = Author("bob", "b2", before=[bob.mark])
    third = later.say("again")
    ada.far("eve").say(third)
    ada.settings = Settings()
    ada.restart()
    far = ada.far("eve")
    far.say(page(later))
    (want,) = wants(far)
    assert [mark.run[:2] for mark in want.tips] == ["b1"]
    far.say(msgspec.structs.replace(second, n=want.n), have(later, end=want.n))
    assert ada.texts() == ["one", "again", "x" * 2000]
    lifted, marks = [frame for frame in far.heard if isinstance(frame, Have)][-2:]
    assert lifted.refused == {ROOM: {IDS["bob"]: []}}
    assert marks.marks == {ROOM: {IDS["bob"]: [later.mark, bob.mark]}}


def test_what_was_refused_is_asked_for_after_the_logs_below_it() -> None:
    """The peer asked may have deleted those, and could serve nothing to one that seems to lack them."""
    ada, first = World().peer("ada", max_text_bytes=STRICT), Author("bob", "b1")
    far = ada.far("eve")
    far.say(first.say("one"))
    second = Author("bob", "b2", before=[first.mark])
    far.say(second.say("two"))
    third = Author("bob", "b3", before=[second.mark])
    far.say(long(third))
    fourth = Author("bob", "b4", before=[third.mark])
    far.say(fourth.say("again"))
    assert ada.texts() == ["one", "two", "again"]
    ada.settings = Settings()
    ada.restart()
    far = ada.far("eve")
    far.say(page(fourth))
    assert [want.tips for want in wants(far)] == [[second.mark]]


def test_the_warning_is_given_once_for_each_log_and_to_few_users(ada: Peer) -> None:
    far = ada.far("eve")
    for number in range(3):
        bob = Author("bob", f"b{number}")
        assert "warn entry_refused" in far.say(bob.write(ODD))
        assert "warn entry_refused" not in far.say(bob.write(ODD))


def test_a_start_warns_again_unless_the_rules_have_changed() -> None:
    ada, bob = World().peer("ada", max_text_bytes=STRICT), Author("bob", "b1")
    ada.far("eve").say(bob.say("one"), long(bob))
    ada.restart()
    warned = [effect for effect in ada.effects if isinstance(effect, WarningIssued)]
    assert [(each.code, each.about, each.conversation) for each in warned] == [("entry_refused", IDS["bob"], ROOM)] * 2
    assert warned[0].text == warned[1].text and "longer than allowed" in warned[1].text
    ada.settings = Settings()
    ada.restart()
    assert len([effect for effect in ada.effects if isinstance(effect, WarningIssued)]) == 2


def test_so_many_logs_of_one_writer_are_remembered(ada: Peer) -> None:
    """What builds on others waits: it must not count as a receipt for them."""
    far = ada.far("eve")
    for number in range(MAX_REFUSED_OF_WRITER + 1):
        last = Author("bob", f"{number:02x}")
        far.say(last.write(ODD))
    assert len(told(far)) and max(len(users) for users in _named(far)) == MAX_REFUSED_OF_WRITER
    far.say(Author("bob", "bb", before=[last.mark]).say("again"))
    assert ada.texts() == []


def test_refused_logs_of_unknown_users_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over restarts: it counts where they came from."""
    place = (COST + len(encode(Author("bob", "00").write(ODD)).hex())) * 4
    monkeypatch.setattr(refusals, "MAX_EVIDENCE", 3 * place)
    ada = World().peer("ada")

    def refused(writer: str, run: str, far: Far) -> bool:
        before = ada.counted["log_refused"]
        far.say(Author(writer, run).write(ODD))
        return ada.counted["log_refused"] > before

    eve = ada.far("eve", host="203.0.113.1")
    assert [refused(writer, f"0{n}", eve) for n, writer in enumerate(["bob", "cyd"] * 4)] == [True] * 6 + [False] * 2
    ada.restart()
    eve, dan = ada.far("eve", host="203.0.113.2"), ada.far("dan", host="198.51.100.1")
    assert not refused("bob", "aa", eve)  # the same network
    assert [refused("bob", f"b{n}", dan) for n in range(7)] == [True] * 6 + [False]
    ada.put(QuotaLifted(IDS["cyd"]))
    assert [refused("cyd", "aa", eve), refused("bob", "cc", dan)] == [True, False]


def _named(far: Far) -> list[list[RefusedLog]]:
    return [logs for frame in far.heard if isinstance(frame, Have) for users in frame.refused.values()
            for logs in users.values()]  # fmt: skip


# ---- receipts


def test_marks_of_later_logs_are_no_receipts_for_what_their_sender_refuses(ada: Peer) -> None:
    """Neither now, nor for what storage says later."""
    ada.say("one")  # behind a profile
    ada.say("two")
    ada.restart()
    ada.say("three")
    (later,) = ada.storage.load([ada.id]).tips
    (earlier,) = later.before
    log = later.log._replace(run=earlier.run)
    key = LogKey(ROOM, ref_key(ada.id, log.run), 2)
    chain = ada.storage.lookup([key], [])[0][key].chain_at
    assert chain is not None
    refused = {ROOM: {ada.id: [RefusedLog(log.run, 2, chain[:8].hex())]}}
    mark = Mark(later.log.run, later.seq, later.chain[:8].hex())
    said = ada.far("eve").say(Have({}, refused=refused, names=[Naming(room=True)]), Have({ROOM: {ada.id: [mark]}}))
    assert [line for line in said if "delivered" in line] == ["delivered a1:1..2 to eve", "delivered a2:1..2 to eve"]
    ada.say("four")
    assert [member for member, _ in ada.storage.delivered_to(log, 2)] == [IDS["eve"]]
    assert ada.storage.delivered_to(log, 3) == []


@pytest.mark.parametrize("held", [0, 2])
def test_a_refusal_that_ends_before_it_was_looked_up_is_no_lost_receipt(ada: Peer, held: int) -> None:
    """Seed 1500760 with --rules-differ: the later log had been acknowledged without the refused one."""
    ada.say("one")  # behind a profile
    ada.say("two")
    ada.restart()
    ada.say("three")
    earlier, later = Author("ada", "a1"), Author("ada", "a2")
    raws = [one.raw for one in ada.storage.places(0, 9)]
    chains = [earlier.mark.chain8]
    for raw in raws[:3]:
        earlier.write(raw)
        chains.append(earlier.mark.chain8)
    later.write(*raws[3:])
    eve = ada.far("eve")
    ada.hold_lookups = True
    refused, names = RefusedLog(earlier.log.run, held, chains[held]), [Naming(room=True)]
    said = eve.say(Have({}, refused={ROOM: {ada.id: [refused]}}, names=names), have(later))
    said += eve.say(Have({}, refused={ROOM: {ada.id: []}}, names=names))
    said += ada.answer_lookups()
    rest = f"delivered a1:{held + 1}..3 to eve"
    assert rest not in said
    assert rest in eve.say(sums(later))


@pytest.mark.parametrize("restarts", [False, True])
def test_an_upgraded_peer_gives_receipts_although_it_got_the_entries_from_another(restarts: bool) -> None:
    """Bob's peer knew nothing but an equal sum: what builds on the entries was acknowledged long ago."""
    sim = Simulation(5)
    ada, bob, cyd = sim.peers(3)
    sim.rules_differ = True
    sim.run(3)
    start_anew(cyd, strict=True)
    sim.run(5)
    for text in ("good", ODD_TEXT, "behind it"):
        bob.say(text)
    sim.run(5)
    bob.crash()
    bob.start()
    sim.run(10)
    bob.say("from the repaired program")
    sim.run(20)
    assert _texts_without_receipt(sim, bob, cyd) == [ODD_TEXT, "behind it"]
    if restarts:
        bob.crash()
        bob.start()
    sim.never(bob, cyd)  # first ada gives it what it refused
    start_anew(cyd, strict=False)
    sim.run(40)
    sim.lift_never()
    bob.connect(cyd.endpoint)
    assert sim.settle() and sim.check() == []
    assert _texts_without_receipt(sim, bob, cyd) == []
    assert ada.up


@pytest.mark.parametrize("most", [1, refusals.MAX_REFUSERS])
def test_a_refusal_of_a_direct_message_concerns_its_receiver_alone(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are hosted where it is refused, perhaps more than are remembered (seed 1313033, with files)."""
    monkeypatch.setattr(refusals, "MAX_REFUSERS", most)
    sim = Simulation(5)
    ada, bob = sim.peers(2)
    sim.rules_differ = True
    sim.run(3)
    start_anew(ada, strict=True)
    ada.host_guest(sim.guest("zoe"))
    sim.run(5)
    for text in ("good", ODD_TEXT):
        bob.say(text, ada)
    sim.run(5)
    bob.crash()
    bob.start()
    sim.run(10)
    bob.say("from the repaired program", ada)
    sim.run(10)
    bob.say("more", ada)  # positions are saved with the next commit
    sim.run(10)
    texts = {(one.log, one.seq): one.text for one in sim.invariants.written if one.log is not None}

    def stored() -> dict[str, list[UserId]]:
        delivered_to = bob.disk.storage.delivered_to
        return {text: [member for member, _ in delivered_to(*entry)] for entry, text in texts.items()}

    known = stored()
    assert [known[text] for text in ("good", ODD_TEXT, "from the repaired program")] == [[ada.user], [], [ada.user]]
    start_anew(ada, strict=False)
    assert sim.settle() and sim.check() == []
    assert stored()[ODD_TEXT] == [ada.user]
    assert [line["user"] for line in bob.lines if line["event"] == "delivered"] == ["ada"] * 4


def _texts_without_receipt(sim: Simulation, writer: SimPeer, member: SimPeer) -> list[str]:
    """Return what a writer wrote of which it was not told that a member has it."""
    written = [one for one in sim.invariants.written if one.at is writer]
    return [one.text for one in written if any(sim.invariants.receipts.lacking(one, member))]


def start_anew(peer: SimPeer, *, strict: bool) -> None:
    """Kill the process of a peer, and start one with other rules."""
    peer.crash()
    peer.strict = strict
    peer.start()


# ---- groups


def test_a_refused_log_in_a_talk_leaves_the_rest_of_the_group() -> None:
    sim = Simulation(5)
    ada, bob, cyd = sim.peers(3)
    sim.rules_differ = True
    sim.run(3)
    start_anew(cyd, strict=True)
    group = SimulatedGroup(sim, bob, cyd)
    for writer, text in ((bob, "good"), (bob, ODD_TEXT), (bob, "behind it"), (ada, "from ada"), (cyd, "from cyd")):
        group.say(writer, text)
    assert group.texts(ada) == group.texts(bob) == ["good", ODD_TEXT, "behind it", "from ada", "from cyd"]
    assert group.texts(cyd) == ["good", "from ada", "from cyd"]
    assert {*group.delivered} == {(1, "ada"), (1, "bob"), (1, "cyd"), (2, "ada"), (3, "ada")}
    for change, members in (({"remove": (bob.user,)}, ["ada", "cyd"]), ({"add": (bob.user,)}, ["ada", "bob", "cyd"])):
        group.change(**change)
        assert [group.members(peer) for peer in (ada, bob, cyd)] == [members] * 3
    bob.crash()
    bob.start()
    sim.run(10)
    group.say(bob, "from the repaired program")
    assert group.texts(cyd)[-1] == "from the repaired program"
    assert sim.counts["log_refused"] == 1
    start_anew(cyd, strict=False)
    group.ends_well()
    assert {*group.texts(cyd)} == {*group.texts(ada)}


def test_an_operation_that_is_refused_leaves_the_messages_of_its_group() -> None:
    """The members stay as they were there. Later operations build on it, so they wait for an update."""
    sim = Simulation(5)
    ada, bob, cyd = sim.peers(3)
    sim.rules_differ = True
    group = SimulatedGroup(sim, bob, cyd)
    ada.odd = OddWriter(ada, Random(1))
    group.change(name="odd name")
    for writer, text in ((ada, "from ada"), (bob, "from bob"), (cyd, "from cyd")):
        group.say(writer, text)
    assert [group.texts(peer) for peer in (ada, bob, cyd)] == [["from ada", "from bob", "from cyd"]] * 3
    assert {*group.delivered} == {(1, "ada"), (1, "bob"), (1, "cyd")}
    assert [group.view(peer).name for peer in (ada, bob, cyd)] == ["odd name", "ops", "ops"]
    assert [group.members(peer) for peer in (ada, bob, cyd)] == [["ada", "bob", "cyd"]] * 3
    linked = [len(peer.linked) for peer in (ada, bob, cyd)]
    assert (linked, sim.counts["log_refused"], sim.counts["bye_malformed"]) == ([2, 2, 2], 2, 0)


def test_a_new_list_of_refused_logs_replaces_that_of_its_writer_only(ada: Peer) -> None:
    far = ada.far("bob")
    for users in ({"cyd": 2, "dan": 1}, {"cyd": 1}, {"dan": 0}):
        logs = [RefusedLog(f"{n:016x}", 0, "ab" * 8) for n in range(2)]
        lists = {IDS[name]: logs[:count] for name, count in users.items()}
        far.say(Have({}, refused={ROOM: lists}, names=[Naming(room=True)]))
    (remote,) = ada.node.sync.context.remotes.values()
    assert [log.user for log in remote.refused] == [IDS["cyd"]]
    assert remote.refused_of == {(ROOM, IDS["cyd"]): [*remote.refused]}
