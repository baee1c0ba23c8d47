"""Vectors of groups, and of what is visible in their talks."""

from __future__ import annotations

from typing import Any

from tests.vectors.material import (
    ADA,
    BOB,
    CREATE,
    CYD,
    GROUP,
    GUEST,
    ROOM,
    Entry,
    Row,
    blake,
    entry,
    row,
    u64,
)

# Groups

_A1, _A2, _B1, _C1 = ("a1" * 8, "a2" * 8, "b1" * 8, "c1" * 8)
GroupRows = list[dict[str, Any]]


def op_hash(entry: Entry) -> str:
    return blake(b"p2pchat/group/2\0", ROOM, u64(entry[0]), entry[1].encode()).hex()


class _Log:
    """Entries of the group of material.py: who wrote what, in which log."""

    def __init__(self) -> None:
        self.entries: GroupRows = []
        self.put(ADA, _A1, CREATE)

    def put(self, user: str, run: str, entry: Entry, before: list[Any] | None = None) -> str:
        seq = 1 + sum((one["user"], one["run"]) == (user, run) for one in self.entries)
        made = {"user": user, "run": run, "seq": seq, "entry": entry}
        self.entries.append(made | ({"before": before} if before else {}))
        return op_hash(entry)

    def op(
        self,
        gen: int,
        members: dict[str, int],
        *,
        by: str = ADA,
        run: str = _A1,
        name: str = "ops",
        owner: str = "",
        cuts: list[Any] | None = None,
        before: list[Any] | None = None,
        **more: object,
    ) -> str:
        body = {"gen": gen, "name": name, "owner": owner or by, "members": members, "cuts": cuts or []} | more
        return self.put(by, run, entry("group", 50 + gen, body), before)

    def leave(self, user: str, run: str, gen: int, *cuts: list[Any]) -> None:
        self.put(user, run, entry("leave", 90, {"cuts": list(cuts)}, g=[gen, "00" * 16]))


def _mark(run: str, seq: int) -> list[Any]:
    return [run, seq, f"{seq:064x}"]


def _state(
    gen: int,
    operation: str,
    members: dict[str, int],
    *,
    name: str = "ops",
    owner: str = ADA,
    left: list[str] | None = None,
    rules: dict[str, Any] | None = None,
    lost: list[str] | None = None,
) -> dict[str, Any]:
    made = {"gen": gen, "operation": operation, "name": name, "owner": owner, "members": members}
    return made | {"left": left or [], "rules": rules or {}, "lost": lost or []}


def _rule(added: int | None, *cuts: list[Any]) -> dict[str, Any]:
    return {"added": added, "cuts": list(cuts)}


def groups() -> list[Row]:
    """Return sets of entries of one group. Ada creates it with bob; the order of the entries means nothing."""
    made: list[Row] = []

    def add(name: str, why: str, log: _Log, result: dict[str, Any], forked: list[list[str]] | None = None) -> None:
        given: dict[str, Any] = {
            "group": GROUP.hex(),
            "room": ROOM.hex(),
            "entries": list(log.entries),
            "users": sorted(result["rules"]),
        }
        given |= {"forked": forked} if forked else {}
        made.append(row(name, why, given, result))

    create, two, three = op_hash(CREATE), {ADA: 1, BOB: 1}, {ADA: 1, BOB: 1, CYD: 2}
    add(
        "created",
        "The create entry alone.",
        _Log(),
        _state(1, create, two, rules={CYD: [_rule(None)], BOB: [_rule(1)]}),
    )

    log = _Log()
    second = log.op(2, three)
    add("a member added", "The highest gen holds.", log, _state(2, second, three, rules={CYD: [_rule(2)]}))
    third = log.op(3, {ADA: 1, CYD: 2}, cuts=[[BOB, *_mark(_B1, 4)]], name="dev")
    cut = [_rule(None, _mark(_B1, 4))]
    add(
        "a member removed, renamed",
        "Bob's entries count up to the cut.",
        log,
        _state(3, third, {ADA: 1, CYD: 2}, name="dev", rules={BOB: cut}),
    )
    fourth = log.op(4, {ADA: 1, BOB: 4, CYD: 2}, cuts=[[BOB, *_mark(_B1, 4)]], name="dev")
    add(
        "a member added again",
        "What bob writes from gen 4 on counts too.",
        log,
        _state(4, fourth, {ADA: 1, BOB: 4, CYD: 2}, name="dev", rules={BOB: [_rule(4, _mark(_B1, 4))]}),
    )

    log = _Log()
    log.op(2, {BOB: 1, ADA: 1}, by=BOB, run=_B1)
    add("not the owner", "Gen 2 is made by the owner at gen 1.", log, _state(1, create, two))
    handed = log.op(2, two, owner=BOB)
    add("handed over", "The owner names another owner.", log, _state(2, handed, two, owner=BOB))
    by_bob = log.op(3, {BOB: 1, CYD: 3}, by=BOB, run=_B1)
    add(
        "the new owner",
        "Bob owns the group at gen 2 and makes gen 3.",
        log,
        _state(3, by_bob, {BOB: 1, CYD: 3}, owner=BOB, rules={ADA: [_rule(None)]}),
    )

    log = _Log()
    log.put(BOB, _B1, CREATE)
    add("copied bytes", "Bob's copy of the create entry is no operation of the owner.", log, _state(1, create, two))

    log = _Log()
    log.op(3, three)
    add("a gen is missing", "The state is computed upwards from the create entry.", log, _state(1, create, two))

    log = _Log()
    one = log.op(2, {ADA: 1, BOB: 1, CYD: 2}, name="one", cuts=[[GUEST, *_mark(_C1, 3)]])
    other = log.op(2, {ADA: 1, BOB: 2, GUEST: 2}, run=_A2, name="two", before=[[_A1, 1, "00" * 32]])
    first = min(one, other)
    lost = sorted([one, other])
    rules = {GUEST: {one: _rule(None, _mark(_C1, 3)), other: _rule(2)}, CYD: {one: _rule(2), other: _rule(None)}}
    both = {user: [each[hash] for hash in sorted(each)] for user, each in rules.items()}
    common = {ADA: 1, BOB: 2}
    named = "one" if first == one else "two"
    add(
        "two operations of one gen",
        "Members are those of both, with the larger gen; name and owner are of the smaller hash. Both are lost.",
        log,
        _state(2, first, common, name=named, rules=both, lost=lost),
    )
    redo = log.op(3, {ADA: 1, BOB: 2, CYD: 2}, run=_A2, name="one", redo=one)
    add(
        "one of them made again",
        "Gen 3 names the one in redo, and was built on the other, which stands before it in its log.",
        log,
        _state(3, redo, {ADA: 1, BOB: 2, CYD: 2}, name="one"),
    )

    log = _Log()
    log.op(2, three)
    named_dev = log.op(3, three, name="dev")
    restored = log.op(2, {ADA: 1}, run=_A2, before=[[_A1, 1, "00" * 32]])
    third_state = _state(3, named_dev, three, name="dev", lost=[restored])
    add("a restored owner", "Its operation of gen 2 is lost: gen 3 was not built on it.", log, third_state)

    log = _Log()
    log.leave(BOB, _B1, 1, _mark(_B1, 3))
    gone = _state(1, create, {ADA: 1}, left=[BOB], rules={BOB: [_rule(None, _mark(_B1, 3))]})
    add("a leave", "It counts while bob is a member since the gen it cites, or an earlier one.", log, gone)
    back = log.op(2, {ADA: 1, BOB: 2}, cuts=[[BOB, *_mark(_B1, 3)]])
    added = _state(2, back, {ADA: 1, BOB: 2}, rules={BOB: [_rule(2, _mark(_B1, 3))]})
    add("added after a leave", "The leave cites gen 1, before bob was added at gen 2.", log, added)

    log = _Log()
    log.leave(CYD, _C1, 2**53 - 1, _mark(_C1, 1))
    add("a leave of a stranger", "Cyd is no member.", log, _state(1, create, two))

    log = _Log()
    log.leave(BOB, _B1, 1)
    add(
        "a leave in a forked log",
        "Each peer holds another part of it, so it does not count.",
        log,
        _state(1, create, two),
        [[BOB, _B1]],
    )

    log = _Log()
    second = log.op(2, three, run=_A2)
    add(
        "an operation in a forked log",
        "It counts until it is made again elsewhere.",
        log,
        _state(2, second, three),
        [[ADA, _A2]],
    )
    again = log.op(2, {ADA: 1, BOB: 1}, run="a3" * 8, redo=blake(b"p2pchat/group/2\0", b"a2" * 8).hex())
    add(
        "a forked log made again",
        "redo is the hash of the forked run: its operations no longer count, and what they changed is lost.",
        log,
        _state(2, again, two, lost=[second]),
        [[ADA, _A2]],
    )
    return made


def visibility() -> list[Row]:
    """Return logs of one user in a talk, and how far each is visible."""
    x, y, z = ("01" * 8, "02" * 8, "03" * 8)

    def log(run: str, count: int, *cites: tuple[int, int], before: list[Any] | None = None) -> dict[str, Any]:
        return {"run": run, "entries": count, "cites": [list(cite) for cite in cites], "before": before or []}

    member, later, out = _rule(1), _rule(3), _rule(None, _mark(x, 2))
    return [
        row(name, why, {"rules": rules, "logs": logs}, {"visible": visible})
        for name, why, rules, logs, visible in [
            ("a member", "It cites the gen that added the writer.", [member], [log(x, 3, (1, 1))], {x: 3}),
            ("a citation below", "The writer was added at gen 3.", [later], [log(x, 3, (1, 2))], {x: 0}),
            (
                "a later citation",
                "Only the beginning of a log counts, so entry 1 hides all.",
                [later],
                [log(x, 3, (1, 2), (2, 3))],
                {x: 0},
            ),
            ("citations that fall", "Entry 3 cites gen 2.", [later], [log(x, 4, (1, 3), (3, 2))], {x: 2}),
            ("a removed writer", "The cut covers two entries.", [out], [log(x, 5, (1, 1))], {x: 2}),
            ("a cut beyond what is here", "Everything here is covered.", [out], [log(x, 1, (1, 1))], {x: 1}),
            (
                "a log after the cut",
                "It is another log, which the cut does not cover.",
                [out],
                [log(x, 2, (1, 1)), log(y, 2, (1, 1), before=[_mark(x, 2)])],
                {x: 2, y: 0},
            ),
            (
                "a log below the cut",
                "The cut covers what its log builds on.",
                [out],
                [log(x, 2, (1, 1), before=[_mark(z, 3)]), log(z, 4, (1, 1))],
                {x: 2, z: 3},
            ),
            (
                "added again",
                "The cut, and what cites gen 3.",
                [_rule(3, _mark(x, 2))],
                [log(x, 4, (1, 1)), log(y, 2, (1, 3), before=[_mark(x, 2)])],
                {x: 2, y: 2},
            ),
            (
                "added again, in the same log",
                "The cut ends where citations of gen 3 begin.",
                [_rule(3, _mark(x, 2))],
                [log(x, 4, (1, 1), (3, 3))],
                {x: 4},
            ),
            (
                "two operations of one gen",
                "An entry is visible if it is under each of them.",
                [member, out],
                [log(x, 5, (1, 1))],
                {x: 2},
            ),
            ("no operation", "Nothing is visible.", [], [log(x, 5, (1, 1))], {x: 0}),
        ]
    ]
