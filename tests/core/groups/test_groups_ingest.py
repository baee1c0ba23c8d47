"""Groups as one node receives them: in any order, and from hostile peers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import pytest
from msgspec.structs import replace

from p2pchat.core import effects as out
from p2pchat.core.groups import group_members
from p2pchat.core.groups.group_fact import ADD, ADMIN, HEIR, LEAVE, NAME, REMOVE, run_of
from p2pchat.core.groups.group_members import MAX_ALIKE
from p2pchat.core.inputs import GroupChangeRequest
from p2pchat.core.log import NO_SUM, Entry, RawEntry, decode_entry, encode_entry, stub_of
from p2pchat.core.replicator import SWEPT_EVERY
from p2pchat.core.sync.known_conversations import MAX_UNKNOWN, dm_naming
from p2pchat.protocol import MAX_INT, Digest, Entries, Have, Here, Mark, Naming, Want
from tests.core.scripted_nodes import IDS, NAMES, Author, Far, GroupPen, Peer, World, dm, have
from tests.core.steps import count_at, count_steps
from tests.core.sync.test_known_conversations import gateway


class Away:
    """Ada's node, and a remote bob, who made a group of both that the node knows."""

    def __init__(self, *others: str) -> None:
        self.ada = World().peer("ada")
        self.pen = GroupPen("bob", "ada", *others)
        self.id, self.first = self.pen.id, self.pen.first
        self.bob = self.ada.far("bob")

    def talk(self, run: str, *texts: str, name: str = "bob", before: Iterable[Mark] = ()) -> Entries:
        author = Author(name, run, self.pen.talk, before)
        clocks = range(self.pen.clock + 1, self.pen.clock + 1 + len(texts))
        return author.write(*(encode_entry(Entry("text", c, c, b=text)) for c, text in zip(clocks, texts, strict=True)))

    def shown(self) -> list[str]:
        return [decode_entry(one.raw).b for one in self.ada.storage.history(self.pen.talk, limit=0)]


def test_nothing_of_a_group_is_stored_before_the_fact_that_made_it() -> None:
    away = Away()
    alone = GroupPen("bob", "ada")
    alone.id = away.id
    assert away.bob.say(alone.write("bob", alone.raw(ADD, [IDS["cyd"]]))) == []
    assert away.ada.counted["group_not_known"] == 1
    assert away.ada.node.groups == {} and away.ada.storage.load([]).conversations == []


@pytest.mark.parametrize("wrong", ["run", "second", "stub"])
def test_a_fact_is_all_of_a_log_that_is_named_after_it(wrong: str) -> None:
    away = Away()
    away.bob.say(away.first)
    raw = away.pen.raw(ADD, [IDS["cyd"]])
    author = Author("bob", "b7", away.id)
    if wrong != "run":
        author.log = author.log._replace(run=run_of(away.id, IDS["bob"], (), None, raw))
    stub: RawEntry = raw[0], stub_of(str(raw[1]))
    cases: dict[str, list[RawEntry]] = {"run": [raw], "second": [raw, away.pen.raw(LEAVE)], "stub": [stub]}
    before = away.ada.storage.load([]).group_entries
    assert away.bob.say(author.write(*cases[wrong])) == ["close bob: malformed"]
    assert away.ada.storage.load([]).group_entries == before


def test_of_one_writer_so_many_facts_of_a_group_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may change how all its others count. It is told once a second."""
    monkeypatch.setattr(group_members, "MAX_FACTS", 5)  # the first one names three
    away = Away("cyd")
    away.bob.say(away.first)
    said = [away.bob.say(away.pen.say("bob", ADD, "cyd")) for _ in range(4)]
    assert [any("full" in line for line in lines) for lines in said] == [False, False, True, False]
    assert len(away.ada.storage.load([]).group_entries) == 3


def test_a_log_that_names_a_missing_fact_is_not_kept() -> None:
    away = Away("cyd")
    away.bob.say(away.first)
    gone = away.pen.say("bob", REMOVE, "cyd")
    added = away.pen.say("bob", ADD, "cyd", ends=[away.pen.last])
    back = away.talk("c2", "back", name="cyd", before=[away.pen.marks[-1]])
    heard = len(away.bob.heard)
    away.bob.say(back)
    assert away.shown() == [] and not [frame for frame in away.bob.heard[heard:] if isinstance(frame, Have)]
    away.bob.say(gone, added, back)
    assert away.shown() == ["back"]


def test_a_group_and_its_talk_may_come_in_one_read() -> None:
    away = Away()
    away.bob.say(away.first, away.talk("b1", "now"))
    assert away.shown() == ["now"]


def test_a_nonmember_gets_nothing_of_the_talk() -> None:
    away = Away()
    away.bob.say(away.first, away.talk("b1", "now"))
    cyd: Far = away.ada.far("cyd")
    away.ada.world.pass_time(5)
    away.ada.take()
    marks = [frame for frame in cyd.heard if isinstance(frame, Have)]
    assert not any(id in frame.marks for frame in marks for id in (away.id, away.pen.talk))
    assert cyd.say(away.talk("c1", "me too", name="cyd")) == [] and away.shown() == ["now"]


def test_waiting_entries_of_a_talk_wait_after_a_restart_too() -> None:
    away = Away()
    away.bob.say(away.first)
    unknown = Author("ada", "a7", away.pen.talk).ref(3)
    entries = [Entry("text", 1, 1, unknown, b="answer"), Entry("text", 2, 2, b="more")]
    away.bob.say(Author("bob", "b1", away.pen.talk).write(*map(encode_entry, entries)))
    away.ada.restart()
    assert away.shown() == []
    away.ada.world.pass_time(away.ada.settings.order_wait + 1)
    assert away.shown() == ["answer", "more"]


def test_what_waited_since_before_a_user_was_added_is_old_although_it_was_removed_meanwhile() -> None:
    """Seed 1316027 with --rules-differ."""
    away = Away()
    pen = away.pen
    out_of_it = pen.say("bob", REMOVE, "ada")
    gone = pen.last
    first = Entry("text", pen.clock + 1, pen.clock + 1, Author("ada", "a7", pen.talk).ref(3), b="before")
    pen.clock += 1
    in_again = pen.say("bob", ADD, "ada", ends=[gone])
    second = Entry("text", pen.clock + 1, pen.clock + 1, b="after")
    away.bob.say(away.first, out_of_it, in_again)
    away.bob.say(Author("bob", "b1", pen.talk).write(encode_entry(first), encode_entry(second)))
    away.bob.say(pen.say("bob", REMOVE, "ada"))
    away.ada.world.pass_time(away.ada.settings.order_wait + 1)
    shown = [(decode_entry(one.raw).b, one.old) for one in away.ada.storage.history(pen.talk, limit=0)]
    assert shown == [("before", True), ("after", False)]


def test_a_talk_s_log_covered_only_by_a_forked_one_is_announced_again() -> None:
    """It comes back from storage, where it was stored as fully visible (seed 712251)."""
    away = Away()
    talk = away.pen.talk
    first = Author("bob", "b1", talk)
    one = first.write(encode_entry(Entry("text", 1, 1, b="one")))
    two, lie = (
        Author("bob", "b2", talk, [first.mark]).write(encode_entry(Entry("text", 2, 2, b=text)))
        for text in ("two", "lie")
    )
    away.bob.say(away.first, one, two)
    away.bob.say(lie)
    away.bob.say(away.talk("b3", "three"))
    frame = [frame for frame in away.bob.heard if isinstance(frame, Have) and talk in frame.marks][-1]
    assert sorted(mark.run for mark in frame.marks[talk][IDS["bob"]]) == ["b1" * 8, "b3" * 8]


def test_an_entry_that_may_lie_below_a_missing_cut_is_awaited() -> None:
    """Bob removed cyd up to its second log. The first is known to lie below the cut when the second is here."""
    away = Away("cyd")
    talk = away.pen.talk
    question = Author("cyd", "c1", talk)
    asked = question.write(encode_entry(Entry("text", 1, 1, b="why?")))
    later = Author("cyd", "c2", talk, [question.mark])
    more = later.write(encode_entry(Entry("text", 2, 2, b="please")))
    removal = away.pen.say("bob", REMOVE, "cyd", cuts=[later.mark])
    answer = encode_entry(Entry("text", 4, 4, re=question.ref(1), b="because"))
    away.bob.say(away.first, removal, Author("bob", "b1", talk).write(answer))
    away.bob.say(asked)
    away.bob.say(away.talk("b2", "hello"))  # then everything visible is shown
    assert away.shown() == ["hello"]
    away.bob.say(more)
    assert away.shown() == ["why?", "please", "hello", "because"]
    assert not any(one.gap for one in away.ada.storage.places(0, 99))


def test_a_log_does_not_begin_before_the_one_it_builds_on_which_waits_for_storage() -> None:
    """Seed 1404008 with --files. Its marks would acknowledge what is not stored."""
    away = Away("cyd")
    talk = away.pen.talk
    logs, frames = [Author("cyd", run, talk) for run in ("c1", "c2", "c3", "c4")], list[Entries]()
    named: tuple[Mark, ...] = ()
    for c, log in enumerate(logs, 1):
        log.before = named
        frames.append(log.write(encode_entry(Entry("text", c, c, b=str(c)))))
        named = (log.mark,)
    lost = logs[0].write(encode_entry(Entry("text", 9, 9, b="lost")))  # so the second builds on its middle
    away.bob.say(away.first, away.pen.say("bob", REMOVE, "cyd", cuts=[logs[-1].mark]))
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
    away.bob.say(away.first)
    ada.say("one", "two", to=away.pen.talk)
    ada.holding = True
    away.bob.say(away.pen.say("bob", REMOVE, "ada"))
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
    assert [(each.log.conversation, each.first, each.last) for each in lost] == [(away.pen.talk, 1, 2)]


@pytest.mark.parametrize("starts", [0, 2])
def test_entries_are_hidden_in_the_commit_of_their_cut(starts: int) -> None:
    """A process killed after the commit shows none of them, also of logs that are in storage only."""
    away = Away()
    ada = away.ada
    away.bob.say(away.first)
    ada.say("one", to=away.pen.talk)
    for n in range(starts):
        ada.start()
        ada.say(f"{n}", to=away.pen.talk)
    bob = ada.far("bob")
    assert len(away.shown()) == 1 + starts
    ada.holding = True
    bob.say(away.pen.say("bob", REMOVE, "ada"))
    for order in ada.held:
        ada.storage.commit([order.change])
        known = any(batch.log.conversation == away.id for batch in order.change.batches)
        assert not known or away.shown() == []
    assert away.shown() == []


def test_a_group_and_its_talk_come_in_a_file() -> None:
    away = Away()
    away.ada.carry(away.first, away.talk("b1", "carried"))
    assert away.shown() == ["carried"] and [*away.ada.node.groups] == [away.id]


def test_of_a_group_of_others_a_file_brings_facts_and_no_messages() -> None:
    """Somebody here may be named by a later one."""
    away, pen = Away(), GroupPen("bob", "cyd", salt=1)
    text = Author("bob", "b1", pen.talk).write(encode_entry(Entry("text", 5, 5, b="not for ada")))
    away.ada.carry(pen.first, text)
    stored = [one.id for one in away.ada.storage.load([]).conversations]
    assert [*away.ada.node.groups] == [] and stored == [pen.id]
    away.ada.carry(pen.say("bob", ADD, "ada"), text)
    assert [*away.ada.node.groups] == [pen.id]
    assert [decode_entry(one.raw).b for one in away.ada.storage.history(pen.talk, limit=0)] == ["not for ada"]


# ---- entries that a cut covers, and entries that wait for it


class Cut:
    """A talk in which dan wrote two logs, and cyd follows the first. Then bob removed dan, at the second log. Ada
    receives all of it from bob, in varying order.
    """

    def __init__(self, *, beyond: bool) -> None:
        """`beyond`: cyd follows an entry after everything that the second log builds on, so it is cut off."""
        away = self.away = Away("cyd", "dan")
        talk = away.pen.talk
        away.bob.say(away.first)
        one, cyd = Author("dan", "d1", talk), Author("cyd", "c1", talk)
        self.first = one.write(encode_entry(Entry("text", 1, 1, b="dan 1")))
        two = Author("dan", "d2", talk, before=[one.mark])
        self.more = one.write(encode_entry(Entry("text", 2, 2, b="dan 2")))
        never = cyd.ref(9) if beyond else None  # the second log replies to it
        self.second = two.write(encode_entry(Entry("text", 3, 3, never, b="dan 3")))
        follows = Entry("text", 4, 4, after=(one.ref(2 if beyond else 1),), b="cyd")
        self.follows = cyd.write(encode_entry(follows))
        self.removed = away.pen.say("bob", REMOVE, "dan", cuts=[two.mark])

    def come(self, *frames: Entries) -> list[str]:
        """Return what ada's program received of the talk after these frames; ? marks a gap."""
        for frame in frames:
            self.away.bob.say(frame)
        shown = [one for one in self.away.ada.storage.places(0, 99) if one.log.conversation == self.away.pen.talk]
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


def come_in(orders: Iterable[list[Entries]], pen: GroupPen) -> set[tuple[str, ...]]:
    """Return what peers show of a talk, and its sum there, that got these frames in these orders, twice; also after a
    restart.
    """
    ends = set[tuple[str, ...]]()
    for order in orders:
        ada = World().peer("ada")
        bob = ada.far("bob")
        for frame in (*order, *order):
            bob.say(frame)
        for _ in range(2):
            shown = [decode_entry(one.raw).b for one in ada.storage.history(pen.talk, limit=0)]
            ends.add((ada.node.replicator.conversations[pen.talk].sum, *shown))
            ada.restart()
    return ends


def dan_writes(pen: GroupPen, run: str, text: str, *before: Mark) -> tuple[Entries, Mark]:
    """Return the only entry of a log of dan, whose whole run may be given, and its mark."""
    author = Author("dan", "00", pen.talk, before)
    author.log = author.log._replace(run=run.ljust(16, "0"))
    pen.clock += 1
    return author.write(encode_entry(Entry("text", pen.clock, pen.clock, b=text))), author.mark


def test_a_log_with_the_run_of_a_fact_is_covered_in_any_order() -> None:
    pen = GroupPen("bob", "ada", "dan")
    fact = pen.say("dan", NAME, name="x")
    one, below = dan_writes(pen, fact.r, "one")
    two, above = dan_writes(pen, "d2", "two", below)
    left = pen.say("dan", LEAVE, cuts=[above])
    orders = [[pen.first, *rest] for rest in permutations([fact, one, two, left])]
    [(_, *shown)] = come_in(orders, pen)
    assert shown == ["one", "two"]


def test_a_fact_that_a_log_names_is_not_a_log_with_its_run() -> None:
    pen = GroupPen("bob", "ada", "dan")
    fact = pen.say("dan", NAME, name="x")
    one, _ = dan_writes(pen, fact.r, "one")
    two, _ = dan_writes(pen, "d2", "two", pen.marks[-1])
    orders = [[pen.first, fact, one, two], [pen.first, fact, two, one]]
    ends = come_in(orders, pen)
    assert len({end[0] for end in ends}) == 1 and {frozenset(end[1:]) for end in ends} == {frozenset({"one", "two"})}


def test_a_forked_log_that_a_cut_names_covers_nothing_in_any_order() -> None:
    """Who has only the evidence cannot know what it builds on."""
    pen = GroupPen("bob", "ada", "dan")
    one, below = dan_writes(pen, "d1", "one")
    two, above = dan_writes(pen, "d2", "two", below)
    lie, _ = dan_writes(pen, "d2", "lie", below)
    left = pen.say("dan", LEAVE, cuts=[above])
    evidence = [replace(frame, fork=True) for frame in (two, lie)]
    orders = [
        [pen.first, one, two, left, *evidence],
        [pen.first, one, two, lie, left],
        [pen.first, left, *evidence, one],
        [pen.first, *evidence, one, left],
    ]
    ends = come_in(orders, pen)
    assert {end[0] for end in ends} == {NO_SUM} and not any("one" in end for end in ends)


# ---- what ada changes, whatever others said


def change(away: Away, **fields: object) -> list[str]:
    """Have ada change the group; return who is in it."""
    away.ada.put(GroupChangeRequest(1, away.ada.id, away.id, **fields))  # type: ignore[arg-type]
    away.ada.world.pass_time(1)
    return sorted(NAMES[user] for user in away.ada.node.groups[away.id].members)


def test_the_owner_removes_a_former_one_who_left_and_goes_on_removing() -> None:
    away = Away("dan")
    away.bob.say(away.first, away.pen.say("bob", HEIR, "ada"), away.pen.say("bob", LEAVE))
    change(away, remove=(IDS["bob"],))
    away.bob.say(away.pen.say("bob", REMOVE, "dan"))
    assert change(away, name="ours") == ["ada", "dan"]


def test_the_owner_names_a_group_though_a_former_one_counted_to_the_end() -> None:
    away = Away()
    away.bob.say(away.first, away.pen.say("bob", NAME, name="rude", n=MAX_INT), away.pen.say("bob", HEIR, "ada"))
    for _ in range(40):  # of two with one number the greater id counts
        change(away, name="nice")
    assert away.ada.node.groups[away.id].name == "nice"


def test_who_was_removed_more_often_than_an_addition_can_name_is_not_added_in_vain() -> None:
    away = Away("cyd", "dan", "eve")
    pen, admins = away.pen, ("cyd", "eve", "ada")
    away.bob.say(away.first, *(pen.say("bob", ADMIN, one) for one in admins))
    away.bob.say(*(pen.say(one, REMOVE, "dan") for one in ("bob", *admins) for _ in range(MAX_ALIKE)))
    away.bob.say(pen.say("bob", HEIR, "ada"))
    assert change(away, add=(IDS["dan"],)) == ["ada", "bob", "cyd", "dan", "eve"]  # it names 256
    away.bob.say(pen.say("dan", LEAVE))
    away.ada.take()
    assert change(away, add=(IDS["dan"],)) == ["ada", "bob", "cyd", "eve"]
    assert "refused too_long" in away.ada.take()


# ---- what others wrote, when facts come


class Leaver(Away):
    """Dan wrote so many logs, each builds on the one before."""

    def __init__(self, logs: int) -> None:
        super().__init__("cyd", "dan")
        self.dan = self.ada.far("dan")
        self.bob.say(self.first)
        self.logs = list[Author]()
        for c in range(1, logs + 1):
            log = Author("dan", "00", self.pen.talk, [one.mark for one in self.logs[-1:]])
            log.log = log.log._replace(run=f"{c:016x}")
            self.logs.append(log)
            self.dan.say(log.write(encode_entry(Entry("text", c, c, b=str(c)))))
        self.pen.clock = logs

    def leave(self) -> None:
        self.dan.say(self.pen.say("dan", LEAVE, cuts=[self.logs[-1].mark]))


@pytest.mark.parametrize("kind", [NAME, ADD, LEAVE])
def test_a_fact_that_hides_and_shows_nothing_costs_no_more_after_many_logs(kind: str) -> None:
    def steps(logs: int) -> int:
        away = Leaver(logs)
        away.leave()
        by, who = {NAME: ("dan", ()), ADD: ("dan", ("cyd", "dan")), LEAVE: ("cyd", ())}[kind]
        fact = away.pen.say(by, kind, *who, name="x" * (kind == NAME))
        return count_steps(lambda: away.bob.say(fact))

    few, many = count_at(steps, 6, 60)
    assert few == many


def test_a_log_that_a_cut_names_costs_no_more_after_many_logs() -> None:
    def steps(logs: int) -> int:
        away = Leaver(logs)
        named = [Author("dan", run, away.pen.talk) for run in ("d1", "d2")]
        texts = [one.write(encode_entry(Entry("text", c, c, b="late"))) for c, one in enumerate(named, 90)]
        cuts = [one.mark for one in (*named, away.logs[-1])]
        away.pen.clock = 100
        away.bob.say(away.pen.say("bob", REMOVE, "dan", cuts=cuts))
        assert away.shown() == [str(c) for c in range(1, logs + 1)]
        return count_steps(lambda: away.bob.say(texts[0]))

    assert steps(60) - steps(6) < 3 * 54  # which of them are tips is asked, and nothing else


def test_who_has_much_looked_at_again_by_leaving_waits() -> None:
    away = Leaver(100)
    for _ in range(40):
        away.leave()
    assert away.ada.counted["flood"] > 10


# ---- edits in a talk


def test_waiting_entries_of_a_talk_keep_waiting_after_a_restart() -> None:
    away = Away()
    away.bob.say(away.first)
    question, answer = Author("bob", "b1", away.pen.talk), Author("bob", "b2", away.pen.talk)
    asked = question.write(encode_entry(Entry("text", 1, 1, b="why?")))
    away.bob.say(answer.write(encode_entry(Entry("text", 2, 2, re=question.ref(1), b="because"))))
    away.bob.say(answer.write(encode_entry(Entry("edit", 3, 3, re=answer.ref(1), b="because!"))))
    assert away.shown() == []
    away.ada.start()
    assert away.shown() == []
    away.ada.far("bob").say(asked)
    history = away.ada.storage.history(away.pen.talk, limit=0)
    assert [decode_entry(one.raw).b for one in history] == ["why?", "because", "because!"]
    assert history[1].edits is not None and history[1].edits.newest is not None
    away.ada.start()
    away.ada.world.pass_time(60)
    assert len(away.ada.storage.places(0, 99)) == len({one.place for one in away.ada.storage.places(0, 99)})


# ---- endless names of groups


def made_group(by: str, number: int) -> Entries:
    """Return the fact that makes a group which includes ada."""
    return GroupPen(by, "ada", salt=number).first


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
