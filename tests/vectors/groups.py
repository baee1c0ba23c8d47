"""Vectors of groups, and of what is visible in their talks."""

from __future__ import annotations

from typing import Any

from tests.vectors.material import ADA, BOB, CREATE, CYD, GROUP, GUEST, ROOM, T0, Row, fact, log, row, said, tip

# Groups

NAMES = {ADA: "ada", BOB: "bob", CYD: "cyd", GUEST: "guest"}


def _mark(run: str, seq: int) -> list[Any]:
    return [run, seq, f"{seq:064x}"]


class _Facts:
    """Facts of the group of material.py: who said what; each builds on the one before of its writer."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = [fact("ada", CREATE)]
        self.tips: dict[str, list[Any]] = {"ada": [tip(self.logs[0])]}
        self._at = 100

    def say(
        self, by: str, kind: str, who: dict[str, list[str]] | None = None, *, before: list[Any] | None = None,
        **fields: Any,
    ) -> str:  # fmt: skip
        """Add a fact and return its id."""
        self._at += 100
        entry = said(kind, self._at, who, **fields)
        made = fact(by, entry, self.tips.get(by, []) if before is None else before)
        self.logs.append(made)
        self.tips[by] = [tip(made)]
        return str(tip(made)[2][:32])

    @property
    def clock(self) -> int:
        """The clock of the newest fact."""
        return T0 + self._at


def groups() -> list[Row]:
    """Return sets of facts of one group. Ada creates it with bob; their order means nothing."""
    made: list[Row] = []
    begun = {ADA: CREATE[0], BOB: CREATE[0]}

    def add(
        name: str, why: str, facts: _Facts, members: dict[str, int], *, named: str = "ops", owner: str = ADA,
        admins: tuple[str, ...] = (), out: dict[str, dict[str, list[str]]] | None = None,
    ) -> None:  # fmt: skip
        logs = [
            {"user": one["user"], "header": one["header"], "entry": one["entries"][0]["entry"]} for one in facts.logs
        ]
        given = {"group": GROUP.hex(), "room": ROOM.hex(), "logs": logs, "users": sorted(out or {})}
        result = {"name": named, "owner": owner, "members": dict(members), "admins": sorted(admins), "out": out or {}}
        made.append(row(name, why, given, result))

    facts = _Facts()
    add("created", "The create entry alone.", facts, begun)
    facts.say("bob", "add", {CYD: []})
    add("not an admin", "Bob is a plain member.", facts, begun)
    facts.say("ada", "admin", {BOB: []})
    cyd_at = facts.clock - 100
    members = begun | {CYD: cyd_at}
    add("an admin", "All that it says counts, also what it said before.", facts, members, admins=(BOB,))
    gone = facts.say("bob", "remove", {CYD: []}, cuts=[_mark("c1" * 8, 4)])
    add("removed by an admin", "Cyd is out.", facts, begun, admins=(BOB,), out={CYD: {gone: []}})
    back = facts.say("ada", "add", {CYD: [gone]})
    members = begun | {CYD: facts.clock}
    add(
        "added again", "Whoever adds names what that ends, and its cut stays.", facts, members, admins=(BOB,),
        out={CYD: {gone: [back]}},
    )  # fmt: skip
    left = facts.say("cyd", "leave", cuts=[_mark("c2" * 8, 1)])
    add("a leave", "It counts for its writer.", facts, begun, admins=(BOB,), out={CYD: {gone: [back], left: []}})
    again = facts.say("ada", "add", {CYD: [gone, left]})
    members = begun | {CYD: facts.clock}
    facts.say("ada", "admin", {CYD: []})
    add(
        "raised by who did not know", "No removal by an admin counts for an admin.", facts, members, admins=(BOB, CYD),
        out={CYD: {left: [again]}},
    )  # fmt: skip
    facts.say("ada", "admin", {CYD: [gone]})
    add(
        "raised by who knew", "A removal that an `admin` names stays, with its cut.", facts, members,
        admins=(BOB, CYD), out={CYD: {gone: [back, again], left: [again]}},
    )  # fmt: skip

    facts = _Facts()
    facts.say("ada", "admin", {BOB: [], CYD: []})
    facts.say("ada", "add", {CYD: []})
    members = begun | {CYD: facts.clock}
    facts.say("bob", "remove", {CYD: []})
    facts.say(
        "cyd",
        "remove",
        {
            BOB: [],
        },
    )
    facts.say("cyd", "remove", {ADA: []})
    add("admins do not remove one another", "Nor the owner.", facts, members, admins=(BOB, CYD), out={BOB: {}, CYD: {}})
    facts.say("bob", "add", {GUEST: []})
    members |= {GUEST: facts.clock}
    known = facts.tips["bob"]
    ended = facts.say("ada", "unadmin", {BOB: []}, said=known)
    facts.say("bob", "remove", {GUEST: []})
    add("a former admin", "What the owner knew of it counts.", facts, members, admins=(CYD,), out={GUEST: {}})
    facts.say("ada", "admin", {BOB: []})
    add("made an admin apart", "That does not end what unmade it.", facts, members, admins=(CYD,))
    facts.say("ada", "admin", {BOB: [ended]})
    del members[GUEST]
    add("an admin again", "All that it said counts.", facts, members, admins=(BOB, CYD))

    facts = _Facts()
    facts.say("ada", "name", name="one", n=1)
    facts.say("ada", "heir", {BOB: []})
    add("handed over", "What it builds on counts.", facts, begun, named="one", owner=BOB)
    facts.say("ada", "name", name="two", n=2)
    facts.say("ada", "heir", {GUEST: []}, n=1)
    add("a former owner", "What it says later does not count.", facts, begun, named="one", owner=BOB)
    facts.say("bob", "name", name="three", n=2)
    facts.say("bob", "heir", {ADA: []}, n=1)
    by_hash = max(("two", "three"), key=lambda name: _id_of(facts, name))
    add("handed back", "Of two names with one `n` the greater id counts.", facts, begun, named=by_hash)

    facts = _Facts()
    one = facts.say("ada", "heir", {BOB: []})
    other = facts.say("ada", "heir", {GUEST: []}, before=[tip(facts.logs[0])])
    owner = BOB if one < other else GUEST
    add("two heirs", "The smaller id counts, and the other never.", facts, begun, owner=owner)

    facts = _Facts()
    facts.say("ada", "add", {CYD: []})
    begun_with = begun | {CYD: facts.clock}
    known = facts.tips["ada"]
    out_of = facts.say("ada", "remove", {CYD: []})
    facts.say("ada", "heir", {BOB: []}, before=known)
    add("removed apart from a handover", "That stays.", facts, begun, owner=BOB, out={CYD: {out_of: []}})
    facts.say("bob", "remove", {ADA: []}, said=[known[0]])
    add(
        "removed by who was removed", "The owner did not know it: it has no effect.", facts,
        {BOB: CREATE[0], CYD: begun_with[CYD]}, owner=BOB, out={CYD: {}},
    )  # fmt: skip

    facts = _Facts()
    copied = log(GROUP, "bob", bytes.fromhex(facts.logs[0]["run"]), [CREATE])
    facts.logs.append(copied)
    add("copied bytes", "Bob's copy of the create entry does not hash to G.", facts, begun)
    return made


def _id_of(facts: _Facts, name: str) -> str:
    [found] = [one for one in facts.logs if f'"name":"{name}"' in one["entries"][0]["entry"][1]]
    return str(tip(found)[2][:32])


def visibility() -> list[Row]:
    """Return logs of one user in a talk, and how far each is visible."""
    x, y, z = ("01" * 8, "02" * 8, "03" * 8)
    again, later = "0a" * 8, "0b" * 8

    def of(run: str, count: int, *before: list[Any], facts: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"run": run, "entries": count, "before": list(before), "facts": list(facts)}

    def cut(*marks: list[Any], ended: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"cuts": list(marks), "ended": list(ended)}

    out, over = cut(_mark(x, 2)), cut(_mark(x, 2), ended=(again,))
    return [
        row(name, why, {"cuts": cuts, "logs": logs}, {"visible": visible})
        for name, why, cuts, logs, visible in [
            ("a member", "Nothing was cut off.", [], [of(x, 3)], {x: 3}),
            ("a removed writer", "The cut covers two entries.", [out], [of(x, 5)], {x: 2}),
            ("a cut beyond what is here", "Everything here is covered.", [out], [of(x, 1)], {x: 1}),
            (
                "a log after the cut", "The cut does not cover it.",
                [out], [of(x, 2), of(y, 2, _mark(x, 2))], {x: 2, y: 0},
            ),
            (
                "a log below the cut", "The cut covers what its log builds on.",
                [out], [of(x, 2, _mark(z, 3)), of(z, 4)], {x: 2, z: 3},
            ),
            (
                "added again", "What lies between stays hidden.",
                [over], [of(x, 4), of(y, 2, facts=(again,))], {x: 2, y: 2},
            ),
            (
                "a log that does not name the adding", "It was begun between.",
                [over], [of(x, 2), of(y, 2, _mark(x, 2))], {x: 2, y: 0},
            ),
            (
                "two cuts", "An entry must be under each.",
                [over, cut(_mark(x, 1), ended=(later,))],
                [of(x, 4), of(y, 2, facts=(again,)), of(z, 2, facts=(again, later))], {x: 1, y: 0, z: 2},
            ),
        ]
    ]  # fmt: skip
