"""Groups as one node receives them: in any order, and from hostile peers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from p2pchat.core import effects as out
from p2pchat.core.groups.group_state import group_body, operation_hash, talk_id
from p2pchat.core.log import Entry, decode_entry, encode_entry
from p2pchat.core.replicator import SWEPT_EVERY
from p2pchat.core.sync.known_conversations import MAX_UNKNOWN, dm_naming
from p2pchat.protocol import Digest, Entries, Have, Here, Mark, Naming, Want
from tests.core.scripted_nodes import IDS, NAMINGS, ROOM, Author, Far, Peer, World, dm, have
from tests.core.steps import count_steps
from tests.core.sync.test_known_conversations import gateway


class Away:
    """Ada's node, and a remote bob, who made a group of both that the node knows."""

    def __init__(self, *others: str) -> None:
        self.ada = World().peer("ada")
        members = dict.fromkeys((IDS["ada"], IDS["bob"], *others), 1)
        body = group_body(1, "ops", IDS["bob"], members, {}, salt="00" * 16)
        self.first = encode_entry(Entry("group", 1, 1, b=body))
        self.id = operation_hash(ROOM, self.first)
        NAMINGS[self.id] = Naming(group=(self.id, IDS["bob"], "b0" * 8))
        NAMINGS[talk_id(self.id)] = Naming(talk=self.id)
        self.operations = Author("bob", "b0", self.id)
        self.bob = self.ada.far("bob")

    def talk(self, run: str, *texts: str, cite: tuple[int, str] | None, name: str = "bob") -> Entries:
        author = Author(name, run, talk_id(self.id))
        return author.write(*(encode_entry(Entry("text", n, n, g=cite, b=text)) for n, text in enumerate(texts, 1)))

    def shown(self) -> list[str]:
        return [decode_entry(one.raw).b for one in self.ada.storage.history(talk_id(self.id), limit=0)]


def test_nothing_of_a_group_is_stored_before_its_first_operation() -> None:
    away = Away()
    other = away.operations.write(encode_entry(Entry("group", 1, 1, b={"gen": 1})))
    assert away.bob.say(other) == [] and away.ada.counted["group_not_known"] == 1
    assert away.ada.node.groups == {} and away.ada.storage.load([]).conversations == []


def test_an_entry_that_cites_nothing_counts_as_the_one_before_it() -> None:
    """Also one that nobody can read: all members keep it, and show it in its place."""
    away = Away()
    away.bob.say(away.operations.write(away.first))
    log, cite = Author("bob", "b1", talk_id(away.id)), (1, away.id[:32])
    raws = encode_entry(Entry("text", 1, 1, g=cite, b="one")), (2, "no entry"), encode_entry(Entry("text", 3, 3, b="3"))
    away.bob.say(log.write(*raws), log.write((4, "nor this")))
    kept = [one.raw for one in away.ada.storage.history(talk_id(away.id), limit=0)]
    assert kept == [*raws, (4, "nor this")]


def test_an_entry_citing_a_missing_operation_is_not_kept() -> None:
    away = Away()
    away.bob.say(away.operations.write(away.first))
    heard = len(away.bob.heard)
    away.bob.say(away.talk("b2", "early", cite=(2, "ab" * 16)), away.talk("b3", "uncited", cite=None))
    assert away.shown() == [] and not [frame for frame in away.bob.heard[heard:] if isinstance(frame, Have)]
    assert (away.ada.counted["cites_unknown"], away.ada.counted["cut_off"]) == (1, 1)
    away.bob.say(away.talk("b1", "now", cite=(1, away.id[:32])))
    assert away.shown() == ["now"]


def test_a_group_and_its_talk_may_come_in_one_read() -> None:
    away = Away()
    away.bob.say(away.operations.write(away.first), away.talk("b1", "now", cite=(1, away.id[:32])))
    assert away.shown() == ["now"]


def test_a_nonmember_gets_nothing_of_the_talk() -> None:
    away = Away()
    away.bob.say(away.operations.write(away.first), away.talk("b1", "now", cite=(1, away.id[:32])))
    cyd: Far = away.ada.far("cyd")
    away.ada.world.pass_time(5)
    away.ada.take()
    marks = [frame for frame in cyd.heard if isinstance(frame, Have)]
    assert not any(id in frame.marks for frame in marks for id in (away.id, talk_id(away.id)))
    assert cyd.say(away.talk("c1", "me too", cite=(1, away.id[:32]), name="cyd")) == [] and away.shown() == ["now"]


def test_waiting_entries_of_a_talk_wait_after_a_restart_too() -> None:
    away = Away()
    away.bob.say(away.operations.write(away.first))
    cite, unknown = (1, away.id[:32]), Author("ada", "a7", talk_id(away.id)).ref(3)
    entries = [Entry("text", 1, 1, unknown, g=cite, b="answer"), Entry("text", 2, 2, g=cite, b="more")]
    away.bob.say(Author("bob", "b1", talk_id(away.id)).write(*map(encode_entry, entries)))
    away.ada.restart()
    assert away.shown() == []
    away.ada.world.pass_time(away.ada.settings.order_wait + 1)
    assert away.shown() == ["answer", "more"]


def test_what_waited_since_before_a_user_was_added_is_old_although_it_was_removed_meanwhile() -> None:
    """Seed 1316027 with --rules-differ."""
    away = Away()
    bob, ada = {IDS["bob"]: 1}, IDS["ada"]
    lists = [(2, bob), (3, {**bob, ada: 3}), (4, bob)]
    out_of_it, in_again, out_again = (
        encode_entry(Entry("group", gen, gen, b=group_body(gen, "ops", IDS["bob"], members, {})))
        for gen, members in lists
    )
    away.bob.say(away.operations.write(away.first, out_of_it, in_again))
    unknown = Author("ada", "a7", talk_id(away.id)).ref(3)
    cites = [(2, operation_hash(ROOM, out_of_it)[:32]), (3, operation_hash(ROOM, in_again)[:32])]
    entries = [
        Entry("text", n, n, unknown if n == 1 else None, g=cite, b=f"gen {cite[0]}") for n, cite in enumerate(cites, 1)
    ]
    away.bob.say(Author("bob", "b1", talk_id(away.id)).write(*map(encode_entry, entries)))
    away.bob.say(away.operations.write(out_again))
    away.ada.world.pass_time(away.ada.settings.order_wait + 1)
    shown = [(decode_entry(one.raw).b, one.old) for one in away.ada.storage.history(talk_id(away.id), limit=0)]
    assert shown == [("gen 2", True), ("gen 3", False)]


def test_a_talk_s_log_covered_only_by_a_forked_one_is_announced_again() -> None:
    """It comes back from storage, where it was stored as fully visible (seed 712251)."""
    away = Away()
    cite, talk = (1, away.id[:32]), talk_id(away.id)
    first = Author("bob", "b1", talk)
    one = first.write(encode_entry(Entry("text", 1, 1, g=cite, b="one")))
    two, lie = (
        Author("bob", "b2", talk, [first.mark]).write(encode_entry(Entry("text", 2, 2, g=cite, b=text)))
        for text in ("two", "lie")
    )
    away.bob.say(away.operations.write(away.first), one, two)
    away.bob.say(lie)
    away.bob.say(away.talk("b3", "three", cite=cite))
    frame = [frame for frame in away.bob.heard if isinstance(frame, Have) and talk in frame.marks][-1]
    assert sorted(mark.run for mark in frame.marks[talk][IDS["bob"]]) == ["b1" * 8, "b3" * 8]


def test_an_entry_that_may_lie_below_a_missing_cut_is_awaited() -> None:
    """Bob removed cyd up to its second log. The first is known to lie below the cut when the second is here."""
    away = Away(IDS["cyd"])
    body = group_body(2, "ops", IDS["bob"], {IDS["ada"]: 1, IDS["bob"]: 1}, {IDS["cyd"]: ()})
    cite, talk = (1, away.id[:32]), talk_id(away.id)
    question = Author("cyd", "c1", talk)
    asked = question.write(encode_entry(Entry("text", 1, 1, g=cite, b="why?")))
    later = Author("cyd", "c2", talk, [question.mark])
    more = later.write(encode_entry(Entry("text", 2, 2, g=cite, b="please")))
    body["cuts"] = [[IDS["cyd"], *later.mark]]
    removal = away.operations.write(away.first, encode_entry(Entry("group", 3, 3, b=body)))
    answer = encode_entry(Entry("text", 4, 4, re=question.ref(1), g=cite, b="because"))
    away.bob.say(removal, Author("bob", "b1", talk).write(answer))
    away.bob.say(asked)
    away.bob.say(away.talk("b2", "hello", cite=cite))  # then everything visible is shown
    assert away.shown() == ["hello"]
    away.bob.say(more)
    assert away.shown() == ["why?", "hello", "please", "because"]
    assert not any(one.gap for one in away.ada.storage.places(0, 99))


def test_a_log_does_not_begin_before_the_one_it_builds_on_which_waits_for_storage() -> None:
    """Seed 1404008 with --files. Its marks would acknowledge what is not stored."""
    away = Away(IDS["cyd"])
    body = group_body(2, "ops", IDS["bob"], {IDS["ada"]: 1, IDS["bob"]: 1}, {IDS["cyd"]: ()})
    cite, talk = (1, away.id[:32]), talk_id(away.id)
    logs, frames = [Author("cyd", run, talk) for run in ("c1", "c2", "c3", "c4")], list[Entries]()
    named: tuple[Mark, ...] = ()
    for c, log in enumerate(logs, 1):
        log.before = named
        frames.append(log.write(encode_entry(Entry("text", c, c, g=cite, b=str(c)))))
        named = (log.mark,)
    body["cuts"] = [[IDS["cyd"], *logs[-1].mark]]
    lost = logs[0].write(encode_entry(Entry("text", 9, 9, g=cite, b="lost")))  # so the second builds on its middle
    away.bob.say(away.operations.write(away.first, encode_entry(Entry("group", 3, 3, b=body))))
    away.bob.say(frames[0], lost)
    away.ada.hold_lookups = True
    away.bob.say(have(logs[-1]))
    away.ada.world.pass_time(1)
    want = [frame for frame in away.bob.heard if isinstance(frame, Want)][-1]
    answers = [replace(frame, n=want.n) for frame in frames[1:]]
    away.bob.say(*answers)
    assert [facts.log for facts in away.ada.storage.logs_of(talk, IDS["cyd"])] == [logs[0].log]
    away.ada.answer_lookups()
    away.bob.say(*answers)
    assert away.shown() == ["1", "2", "3", "4"]


def test_a_process_killed_before_reporting_a_cut_reports_it_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = Away()
    ada, seen = away.ada, list[out.Effect]()
    away.bob.say(away.operations.write(away.first))
    ada.say("one", "two", to=talk_id(away.id))
    ada.holding = True
    body = group_body(2, "ops", IDS["bob"], {IDS["bob"]: 1}, {})
    away.bob.say(away.operations.write(encode_entry(Entry("group", 2, 2, b=body))))
    ada.storage.commit([order.change for order in ada.held])  # on disk, but the node gets no answer
    ada.crash()
    ada.holding = False
    carry_out = ada._carry_out

    def listens(effects: list[out.Effect]) -> None:
        seen.extend(effects)
        carry_out(effects)

    monkeypatch.setattr(ada, "_carry_out", listens)
    ada.start()
    ada.take()
    ada.restart()
    lost = [each for each in seen if isinstance(each, out.DeliveryRevoked)]
    assert [(each.log.conversation, each.first, each.last) for each in lost] == [(talk_id(away.id), 1, 2)]


@pytest.mark.parametrize("starts", [0, 2])
def test_entries_are_hidden_in_the_commit_of_their_cut(starts: int) -> None:
    """A process killed after the commit shows none of them, also of logs that are in storage only."""
    away = Away()
    ada = away.ada
    away.bob.say(away.operations.write(away.first))
    ada.say("one", to=talk_id(away.id))
    for n in range(starts):
        ada.start()
        ada.say(f"{n}", to=talk_id(away.id))
    bob = ada.far("bob")
    assert len(away.shown()) == 1 + starts
    ada.holding = True
    body = group_body(2, "ops", IDS["bob"], {IDS["bob"]: 1}, {})
    bob.say(away.operations.write(encode_entry(Entry("group", 2, 2, b=body))))
    for order in ada.held:
        ada.storage.commit([order.change])
        known = any(batch.log.conversation == away.id for batch in order.change.batches)
        assert not known or away.shown() == []
    assert away.shown() == []


def test_operations_repeated_while_logs_are_loaded_are_known() -> None:
    """They are in a log that is in storage only, and cyd's logs in the talk are loaded before they are taken."""
    away = Away()
    first = away.operations.write(away.first)
    body = group_body(2, "ops", IDS["bob"], {IDS["ada"]: 1, IDS["bob"]: 1, IDS["cyd"]: 2}, {})
    second = encode_entry(Entry("group", 2, 2, b=body))
    away.bob.say(first, Author("bob", "b1", away.id, [away.operations.mark]).write(second))
    cite = operation_hash(ROOM, second)[:32]
    question, answer = (Author("cyd", run, talk_id(away.id)) for run in ("c1", "c2"))
    asked = question.write(encode_entry(Entry("text", 3, 3, g=(2, cite), b="why?")))
    more = encode_entry(Entry("text", 4, 4, g=(2, cite), b="because"))
    answer.before = (question.mark,)
    away.bob.say(asked, answer.write(more))
    away.ada.start()
    away.ada.far("bob").say(first)
    assert away.ada.counted["repeated_batch"] == 1 and away.shown() == ["why?", "because"]


def test_a_group_and_its_talk_come_in_a_file() -> None:
    away = Away()
    away.ada.carry(away.operations.write(away.first), away.talk("b1", "carried", cite=(1, away.id[:32])))
    assert away.shown() == ["carried"] and [*away.ada.node.groups] == [away.id]


def test_a_group_of_others_in_a_file_is_foreign() -> None:
    away = Away()
    body = group_body(1, "ops", IDS["bob"], {IDS["cyd"]: 1, IDS["bob"]: 1}, {}, salt="00" * 16)
    first = encode_entry(Entry("group", 1, 1, b=body))
    group = operation_hash(ROOM, first)
    NAMINGS[group] = Naming(group=(group, IDS["bob"], "b0" * 8))
    away.ada.carry(Author("bob", "b0", group).write(first))
    assert away.ada.node.groups == {} and away.ada.storage.load([]).conversations == []


# ---- entries that a cut covers, and entries that wait for it


class Cut:
    """A talk in which dan wrote two logs, and cyd follows the first. Then bob removed dan, at the second log. Ada
    receives all of it from bob, in varying order.
    """

    def __init__(self, *, beyond: bool) -> None:
        """`beyond`: cyd follows an entry after everything that the second log builds on, so it is cut off."""
        away = self.away = Away(IDS["cyd"], IDS["dan"])
        talk, cite = talk_id(away.id), (1, away.id[:32])
        away.bob.say(away.operations.write(away.first))
        one, cyd = Author("dan", "d1", talk), Author("cyd", "c1", talk)
        self.first = one.write(encode_entry(Entry("text", 1, 1, g=cite, b="dan 1")))
        two = Author("dan", "d2", talk, before=[one.mark])
        self.more = one.write(encode_entry(Entry("text", 2, 2, g=cite, b="dan 2")))
        never = cyd.ref(9) if beyond else None  # the second log replies to it
        self.second = two.write(encode_entry(Entry("text", 3, 3, never, g=cite, b="dan 3")))
        follows = Entry("text", 4, 4, after=(one.ref(2 if beyond else 1),), g=cite, b="cyd")
        self.follows = cyd.write(encode_entry(follows))
        members = {IDS[name]: 1 for name in ("ada", "bob", "cyd")}
        body = group_body(2, "ops", IDS["bob"], members, {IDS["dan"]: (two.mark,)})
        self.removed = away.operations.write(encode_entry(Entry("group", 2, 2, b=body)))

    def come(self, *frames: Entries) -> list[str]:
        """Return what ada's program received of the talk after these frames; ? marks a gap."""
        for frame in frames:
            self.away.bob.say(frame)
        shown = [one for one in self.away.ada.storage.places(0, 99) if one.log.conversation == talk_id(self.away.id)]
        return ["?" * one.gap + decode_entry(one.raw).b for one in shown]


def test_an_entry_that_a_cut_hides_is_not_awaited_any_more() -> None:
    cut = Cut(beyond=True)
    assert cut.come(cut.first) == ["dan 1"]
    assert cut.come(cut.removed, cut.more, cut.follows) == []  # even shown entries are hidden until their cut is known
    assert cut.come(cut.second, cut.second) == ["dan 1", "cyd"]  # storage was asked first for what it builds on
    cut.away.ada.world.pass_time(31)
    assert cut.come() == ["dan 1", "cyd", "?dan 3"]


def test_a_missing_log_named_by_a_cut_is_not_awaited_for_long() -> None:
    cut = Cut(beyond=False)
    assert cut.come(cut.follows, cut.removed, cut.first) == []
    cut.away.ada.world.pass_time(31)
    assert cut.come() == ["?cyd"]


# ---- edits in a talk


def test_waiting_entries_of_a_talk_keep_waiting_after_a_restart() -> None:
    away = Away()
    away.bob.say(away.operations.write(away.first))
    cite = (1, away.id[:32])
    question, answer = Author("bob", "b1", talk_id(away.id)), Author("bob", "b2", talk_id(away.id))
    asked = question.write(encode_entry(Entry("text", 1, 1, g=cite, b="why?")))
    away.bob.say(answer.write(encode_entry(Entry("text", 2, 2, re=question.ref(1), g=cite, b="because"))))
    away.bob.say(answer.write(encode_entry(Entry("edit", 3, 3, re=answer.ref(1), g=cite, b="because!"))))
    assert away.shown() == []
    away.ada.start()
    assert away.shown() == []
    away.ada.far("bob").say(asked)
    history = away.ada.storage.history(talk_id(away.id), limit=0)
    assert [decode_entry(one.raw).b for one in history] == ["why?", "because", "because!"]
    assert history[1].edits is not None and history[1].edits.newest is not None
    away.ada.start()
    away.ada.world.pass_time(60)
    assert len(away.ada.storage.places(0, 99)) == len({one.place for one in away.ada.storage.places(0, 99)})


# ---- endless names of groups


def made_group(by: str, number: int) -> Entries:
    """Return the first operation of a group that includes ada."""
    body = group_body(1, "ops", IDS[by], {IDS["ada"]: 1, IDS[by]: 1}, {}, salt=f"{number:032x}")
    first = encode_entry(Entry("group", 1, 1, b=body))
    group = operation_hash(ROOM, first)
    NAMINGS[group] = Naming(group=(group, IDS[by], "b0" * 8))
    return Author(by, "b0", group).write(first)


def test_of_groups_that_never_arrive_a_member_names_few(ada: Peer) -> None:
    conversations = ada.node.replicator.conversations
    for teller in range(8):
        for n in range(MAX_UNKNOWN + 10):
            id = f"{teller:032x}{n:032x}"
            peer = f"{teller:064x}"
            conversations.open_group(Naming(group=(id, IDS["eve"], "b0" * 8)), [IDS["eve"]], peer, peer)
    here = conversations.provisional
    taken = [sum(id.startswith(f"{teller:032x}") for id in here) for teller in range(8)]
    assert taken == [MAX_UNKNOWN] * 8
    bob = ada.far("bob")
    bob.say(made_group("bob", 1))
    assert len(ada.node.groups) == 1


def test_groups_that_never_arrive_do_not_crowd_out_others(ada: Peer) -> None:
    bob, eve = ada.far("bob"), ada.far("eve")
    for start in range(0, 4 * MAX_UNKNOWN, 500):
        ids = [f"{n:064x}" for n in range(start, start + 500)]
        eve.say(Have({}, names=[Naming(group=(id, IDS["eve"], "b0" * 8)) for id in ids]))
    assert len(ada.node.replicator.conversations) <= MAX_UNKNOWN + 10
    bob.say(made_group("bob", 1))
    assert len(ada.node.groups) == 1
    ada.drop(eve)
    ada.world.pass_time(SWEPT_EVERY)
    assert len(ada.node.replicator.conversations) <= 10
    eve = ada.far("eve")
    eve.say(made_group("eve", 2))
    assert len(ada.node.groups) == 2


def test_a_group_of_which_nothing_came_is_kept_as_long_as_a_peer_that_named_it_is_linked() -> None:
    ada = World().peer("ada", dead_after=1e6)
    bob, cyd = ada.far("bob"), ada.far("cyd")
    group = "6a" * 32
    for far in (bob, cyd):
        far.say(Have({}, names=[Naming(group=(group, IDS[far.name], "bb" * 8))]))
    dan, kept = ada.far("dan"), list[bool]()
    for far in (dan, bob, cyd):
        ada.drop(far)
        ada.world.pass_time(SWEPT_EVERY)
        kept.append(group in ada.node.replicator.conversations)
    assert kept == [True, True, False]


def name_groups(far: Far, count: int, start: int = 0) -> None:
    """Have a far end name this many groups of which nothing ever comes."""
    for at in range(start, start + count, 500):
        ids = [f"{n:064x}" for n in range(at, min(at + 500, start + count))]
        far.say(Have({}, names=[Naming(group=(id, IDS[far.name], "b0" * 8)) for id in ids]))


def test_groups_that_never_arrive_cost_other_links_and_digests_nothing() -> None:
    def steps(count: int) -> tuple[int, int]:
        ada, bob = World().peer("ada"), Author("bob", "b1")
        far, eve = ada.far("bob"), ada.far("eve")
        far.say(bob.say("hi"))
        name_groups(eve, count)
        assert len(ada.node.replicator.conversations.provisional) == count
        return count_steps(lambda: far.say(Digest(sum="ab" * 32))), count_steps(lambda: ada.drop(far))

    assert steps(1000) == steps(1)


def test_groups_that_never_arrive_end_with_the_last_link_that_named_them() -> None:
    ada = World().peer("ada", dead_after=1e6)
    far, near = ada.far("eve"), ada.far("dan")
    name_groups(far, 20)
    here = ada.node.replicator.conversations.provisional
    assert len(here) == 20
    name_groups(near, 1)  # the other peer named it first
    ada.drop(far)
    ada.world.pass_time(SWEPT_EVERY)
    assert len(here) == 1
    ada.drop(near)
    ada.world.pass_time(SWEPT_EVERY)
    assert not here


def test_what_a_gateway_s_user_was_asked_about_ends_with_the_user() -> None:
    ada = World().peer("ada", dead_after=1e6)
    far = gateway(ada, "bob", "cyd")
    dropped = dm_naming(IDS["ada"], IDS["cyd"])
    far.say(Have({}, names=[dropped]))
    assert dm("ada", "cyd") in ada.node.replicator.conversations
    far.say(Here([], gone=[IDS["cyd"]]))
    ada.world.pass_time(SWEPT_EVERY)
    assert dm("ada", "cyd") not in ada.node.replicator.conversations
