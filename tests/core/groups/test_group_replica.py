"""What a peer makes of the facts of one group, and what is visible of its talk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pchat.core.groups.group_fact import ADD, ADMIN, CREATE, LEAVE, NAME, REMOVE, fact_body, read_fact, talk_id
from p2pchat.core.groups.group_replica import ALL_OF_A_LOG, NOTHING_COVERED, GroupReplica, VisibleEnd
from p2pchat.core.log import Entry, LogId, batch_of, before_of
from p2pchat.protocol import MAX_INT, Entries, Mark, UserId
from tests.core.scripted_nodes import IDS, NAMES, ROOM, GroupPen

DAN = IDS["dan"]
NOTHING = VisibleEnd(NOTHING_COVERED, NOTHING_COVERED, 0)


class View:
    """A log of a talk: how many entries are here, and what its header names."""

    def __init__(self, seq: int, *before: Mark, facts: tuple[Mark, ...] = ()) -> None:
        self.seq = seq
        self.builds_on = before
        self.before = (*before, *facts)


def take(group: GroupReplica, frame: Entries) -> list[str]:
    """Have a group take the fact in a frame; return what changed."""
    batch = batch_of(frame)
    fact = group.read(batch.log, batch.raws[0], batch.chain, before_of(frame))
    return [f"{change} {NAMES.get(user, '')}".strip() for change, user in group.add(fact)] if fact else ["nothing"]


def mark(run: str, seq: int) -> Mark:
    return Mark(run * 8, seq, f"{seq:064x}")


def is_wanted(group: GroupReplica, user: UserId, here: dict[str, View], mark: Mark) -> bool:
    """Return whether a mark names entries that are missing and may be visible."""
    view = here.get(mark.run)
    seq, before = (0, None) if view is None else (view.seq, view.before)
    return mark.seq > seq and group.visible_end(user, here, mark.run, before).at_most > seq


def end(group: GroupReplica, views: dict[str, View], run: str) -> VisibleEnd:
    return group.visible_end(DAN, {run * 8: view for run, view in views.items()}, run * 8, views[run].before)


def test_each_fact_tells_what_it_changed() -> None:
    pen = GroupPen("ada", "bob")
    group = GroupReplica(pen.id, ROOM)
    assert take(group, pen.first) == ["created"] and group.talk == talk_id(pen.id)
    assert take(group, pen.say("ada", ADMIN, "bob")) == ["admin bob"]
    assert take(group, pen.say("bob", ADD, "cyd", "dan")) == ["added dan", "added cyd"]  # by their ids
    assert take(group, pen.say("bob", REMOVE, "cyd")) == ["removed cyd"]
    assert take(group, pen.say("dan", LEAVE)) == ["left dan"]
    assert take(group, pen.say("ada", NAME, name="dev", n=1)) == ["renamed"]
    assert take(group, pen.say("ada", "unadmin", "bob", said=pen.tips("bob"))) == ["unadmin bob"]
    assert take(group, pen.say("ada", "heir", "bob")) == ["owner bob"]
    assert group.state is not None and (group.state.name, group.state.owner) == ("dev", IDS["bob"])
    assert group.named == {IDS[name] for name in ("ada", "bob", "cyd", "dan")}


def test_only_the_fact_whose_hash_is_the_group_makes_it_and_only_in_the_log_of_its_writer() -> None:
    pen, other = GroupPen("ada", "bob"), GroupPen("ada", "bob", salt=1)
    group = GroupReplica(pen.id, ROOM)
    assert group.begins_with(IDS["ada"], pen.first.e[0])
    assert not group.begins_with(IDS["bob"], pen.first.e[0])
    batch = batch_of(pen.first)
    assert group.read(batch.log._replace(user=IDS["bob"]), batch.raws[0], batch.chain, ()) is None
    assert take(group, other.first) == ["nothing"] and group.state is None


FORMS = [
    None, "text", 7, {}, {"k": "vote"}, {"k": ADD, "who": []}, {"k": ADD, "who": {"x": []}},
    {"k": ADD, "who": {DAN: 1}},
    {"k": REMOVE}, {"k": REMOVE, "who": {DAN: [], IDS["bob"]: []}}, {"k": REMOVE, "who": {DAN: []}, "cuts": [[1]]},
    {"k": LEAVE, "who": {DAN: []}}, {"k": CREATE, "name": "ops"}, {"k": NAME, "name": "#x"}, {"k": NAME, "n": 1},
    {"k": NAME, "name": "x", "n": -1}, {"k": ADD, "who": {DAN: ["00"]}}, {"k": "heir", "who": {}},
    {"k": ADD, "who": {f"{n:064x}": [] for n in range(257)}}, {"k": NAME, "name": "x", "salt": "00" * 16},
]  # fmt: skip


@pytest.mark.parametrize("body", FORMS)
def test_entries_without_the_shape_of_a_fact_change_nothing(body: object) -> None:
    log = LogId("00" * 32, DAN, "d1" * 8)
    assert read_fact(log, bytes(32), (), Entry("group", 1, 1, b=body)) is None
    fit = fact_body(ADD, [DAN]) | {"later": 1}
    assert read_fact(log, bytes(32), (), Entry("group", 1, 1, b=fit)) is not None
    assert read_fact(log, bytes(32), (), Entry("text", 1, 1, b=fit)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["k", "who", "cuts", "said", "n", "name"]), inner),
)


@given(JSON)
def test_no_body_of_a_fact_raises_an_error(body: object) -> None:
    read_fact(LogId("00" * 32, DAN, "d1" * 8), bytes(32), (), Entry("group", 1, 1, b=body))


# ---- visibility


def cut_group(*cuts: tuple[Mark, ...]) -> tuple[GroupPen, GroupReplica, list[str]]:
    """Return a group of ada, bob and dan in which ada removed dan with each of these cuts; and the ids of that."""
    pen = GroupPen("ada", "bob", "dan")
    group = GroupReplica(pen.id, ROOM)
    take(group, pen.first)
    outs = []
    for marks in cuts:
        take(group, pen.say("ada", REMOVE, "dan", cuts=marks))
        outs.append(pen.last)
    return pen, group, outs


def test_all_of_a_member_is_visible_and_nothing_of_who_never_was_one() -> None:
    _, group, _ = cut_group()
    assert end(group, {"d1": View(3)}, "d1") == VisibleEnd(ALL_OF_A_LOG, ALL_OF_A_LOG, MAX_INT)
    assert group.visible_end(IDS["cyd"], {}, "c1" * 8, None) == NOTHING
    assert not is_wanted(group, IDS["cyd"], {}, mark("c1", 1))


def test_of_a_removed_user_that_is_visible_which_the_cut_covers_or_the_covered_logs_build_on() -> None:
    _, group, _ = cut_group((mark("d2", 2),))
    views = {"d1": View(5), "d2": View(4, mark("d1", 3)), "d3": View(1)}
    assert end(group, views, "d1") == VisibleEnd(mark("d1", 3), mark("d1", 3), 3)
    assert end(group, views, "d2") == VisibleEnd(mark("d2", 2), mark("d2", 2), 2)
    assert end(group, views, "d3") == NOTHING


def test_while_a_log_that_a_cut_names_is_missing_others_may_be_below_it() -> None:
    _, group, _ = cut_group((mark("d2", 2),))
    views = {"d1": View(5)}
    assert end(group, views, "d1") == NOTHING._replace(at_most=MAX_INT)
    assert is_wanted(group, DAN, {}, mark("d1", 1)) and is_wanted(group, DAN, {}, mark("d2", 1))
    here = {"d2" * 8: View(1)}
    assert not is_wanted(group, DAN, here, mark("d1", 1)) and not is_wanted(group, DAN, here, mark("d2", 1))
    assert is_wanted(group, DAN, here, mark("d2", 2))


def test_after_the_adding_that_is_visible_which_names_it_and_what_lies_between_never() -> None:
    pen, group, outs = cut_group((mark("d1", 3),))
    take(group, pen.say("bob", ADD, "dan", ends=outs))  # of no admin
    assert group.ending(DAN, 7) == []
    take(group, pen.say("ada", ADD, "dan", ends=outs))
    assert group.ending(DAN, 7) == [pen.marks[-1]]
    views = {"d1": View(5), "d2": View(2), "d3": View(2, mark("d1", 3), facts=(pen.marks[-1],))}
    assert [end(group, views, run).visible.seq for run in views] == [3, 0, MAX_INT]
    assert is_wanted(group, DAN, {}, mark("d4", 1))  # its header may name the adding


def test_of_several_cuts_an_entry_must_be_under_each() -> None:
    pen, group, outs = cut_group((mark("d1", 3),), (mark("d1", 2), mark("d2", 1)))
    views = {"d1": View(5), "d2": View(2)}
    assert [end(group, views, run).visible.seq for run in views] == [2, 0]
    take(group, pen.say("ada", ADD, "dan", ends=outs[:1]))
    half = pen.marks[-1]
    take(group, pen.say("ada", ADD, "dan", ends=outs[1:]))
    both = (half, pen.marks[-1])
    assert {*group.ending(DAN, 7)} == {*both}
    views = {"d1": View(5), "d3": View(2, facts=both[:1]), "d4": View(2, facts=both)}
    assert [end(group, views, run).visible.seq for run in views] == [2, 0, MAX_INT]


def test_what_any_cut_covers_is_kept_though_others_hide_it() -> None:
    _, group, _ = cut_group((mark("d1", 3),), (mark("d1", 2), mark("d2", 1)))
    views = {"d1": View(5)}
    assert is_wanted(group, DAN, {}, mark("d2", 1))
    assert end(group, views, "d1") == VisibleEnd(mark("d1", 2), mark("d1", 3), MAX_INT)
    views["d2"] = View(2)
    _, group, _ = cut_group((mark("d1", 3),), (mark("d1", 2), mark("d2", 1)))
    assert end(group, views, "d1") == VisibleEnd(mark("d1", 2), mark("d1", 3), 3)
    assert end(group, views, "d2") == VisibleEnd(NOTHING_COVERED, mark("d2", 1), 1)


def test_of_what_ended_removals_a_log_names_the_newest_which_names_all() -> None:
    pen, group, outs = cut_group()
    for _ in range(9):
        take(group, pen.say("ada", REMOVE, "dan", cuts=[mark("d1", 1)]))
        outs.append(pen.last)
        take(group, pen.say("ada", ADD, "dan", ends=outs))
    assert group.ending(DAN, 1) == [pen.marks[-1]]
    assert end(group, {"d2": View(2, facts=(pen.marks[-1],))}, "d2").visible.seq == MAX_INT
    assert end(group, {"d2": View(2, facts=(pen.marks[-3],))}, "d2").visible.seq == 0


def test_an_addition_that_ends_all_is_named_whatever_an_admin_adds_later() -> None:
    pen, group, outs = cut_group(*[(mark("d1", 1),)] * 8)
    take(group, pen.say("ada", ADMIN, "bob"))
    take(group, pen.say("ada", ADD, "dan", ends=outs))
    whole = pen.marks[-1]
    for out in outs:
        take(group, pen.say("bob", ADD, "dan", ends=[out]))
    assert whole in group.ending(DAN, 7)
    views = {"d2": View(2, facts=tuple(group.ending(DAN, 7)))}
    assert end(group, views, "d2").visible.seq == MAX_INT


def test_who_is_out_may_read_what_was_written_before() -> None:
    pen, group, outs = cut_group((), ())
    gone = pen.clock - 1
    said = [Entry("text", c, c) for c in (gone - 1, gone, gone + 5)]
    assert [group.may_read(DAN, one) for one in said] == [True, False, False]
    take(group, pen.say("ada", ADD, "dan", ends=outs))
    assert all(group.may_read(DAN, one) for one in said)
