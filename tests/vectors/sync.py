"""Vectors of synchronisation, and of the choice of one link."""

from __future__ import annotations

from typing import Any

from tests.vectors.material import (
    ADA,
    BOB,
    CREATE,
    CYD,
    DM,
    FIRST_ID,
    GROUP,
    GUEST,
    IDS,
    LAST_ID,
    LOGS,
    NAMINGS,
    ROOM,
    RUNS,
    T0,
    TALK,
    Entry,
    Row,
    blake,
    entries_frame,
    entry,
    fact,
    log,
    row,
    sum_of,
    tip,
    total_of,
)
from tests.vectors.material import said as fact_entry

# Elections

Step = dict[str, Any]


def elections() -> list[Row]:
    runs = [f"{n:016x}" for n in range(1, 12)]

    def go(link: int, n: int, run: int = 0) -> Step:
        return {"go": {"run": runs[run], "n": n}, "link": link}

    def down(link: int) -> Step:
        return {"down": link}

    def f(name: str, why: str, *steps: tuple[Step, int | None, int | None]) -> Row:
        results = [{"current": current, "closes": closes} for _, current, closes in steps]
        return row(name, why, {"side": "F", "steps": [step for step, _, _ in steps]}, {"steps": results})

    def d(name: str, why: str, *steps: tuple[Step, int | None, int | None, int]) -> Row:
        results = [{"current": current, "closes": closes, "n": n} for _, current, closes, n in steps]
        return row(name, why, {"side": "D", "steps": [step for step, _, _, _ in steps]}, {"steps": results})

    many = [(go(link, 1, link - 1), link, link - 1 or None) for link in range(1, 11)]
    return [
        f("one go", "The new link becomes current.", (go(1, 1), 1, None)),
        f("a second link", "A larger n of one run replaces.", (go(1, 1), 1, None), (go(2, 2), 2, 1)),
        f("out of order", "A smaller n comes late: its link closes.", (go(2, 2), 2, None), (go(1, 1), 2, 1)),
        f(
            "out of order, the newer link is gone",
            "There is no current link with a larger n.",
            (go(2, 2), 2, None),
            (down(2), None, None),
            (go(1, 1), 1, None),
        ),
        f("a restart of D", "A new run on a newer link replaces.", (go(1, 5), 1, None), (go(2, 1, 1), 2, 1)),
        f(
            "a late go of an older process",
            "Link 1 began before the newest link of the last run taken.",
            (go(2, 1, 1), 2, None),
            (go(1, 7, 0), 2, 1),
        ),
        f(
            "a late go of an older process, no link is up",
            "It is older however late it arrives.",
            (go(2, 1, 1), 2, None),
            (down(2), None, None),
            (go(1, 7, 0), None, 1),
        ),
        f(
            "a superseded run again, a newer one is up",
            "Two processes have one key: the newer run stays.",
            (go(1, 1), 1, None),
            (go(2, 1, 1), 2, 1),
            (go(3, 2, 0), 2, 3),
        ),
        f(
            "a superseded run again, no link is up",
            "There is nothing to keep.",
            (go(1, 1), 1, None),
            (go(2, 1, 1), 2, 1),
            (down(2), None, None),
            (go(3, 2, 0), 3, None),
        ),
        f(
            "nine superseded runs",
            "The last 8 are remembered: the second run is refused, and the first is new again.",
            *many,
            (go(11, 2, 1), 10, 11),
            (go(12, 2, 0), 12, 10),
        ),
        f("another link goes down", "The current one stays.", (go(1, 1), 1, None), (down(7), 1, None)),
        d("a first link", "n begins with 1.", ({"proved": 1}, 1, None, 1)),
        d(
            "crossed dials",
            "Each handshake that succeeds is numbered, and closes the older link.",
            ({"proved": 1}, 1, None, 1),
            ({"proved": 2}, 2, 1, 2),
        ),
        d(
            "a link again",
            "n goes on rising within a run.",
            ({"proved": 1}, 1, None, 1),
            (down(1), None, None, 1),
            ({"proved": 3}, 3, None, 2),
        ),
    ]


# Synchronisation

RUN = bytes([0xB1]) * 8  # of bob's process
NOW = T0 + 1_000_000_000
_R = ROOM.hex()
_ALL = [FIRST_ID, LAST_ID]


def _batch(log: dict[str, Any], first: int, last: int, **more: object) -> dict[str, Any]:
    return entries_frame(log, first, last, **more)


def _digest(*logs: dict[str, Any], ask: bool = False) -> dict[str, Any]:
    return {"t": "digest", "sum": total_of(logs)} | ({"ask": True} if ask else {})


def _sums(*logs: dict[str, Any]) -> dict[str, Any]:
    return {"t": "digest", "sums": {_R: sum_of(logs)}, "span": _ALL}


def _have(*logs: dict[str, Any], **more: object) -> dict[str, Any]:
    users: dict[str, list[Any]] = {}
    for one in logs:
        users.setdefault(one["user"], []).append(tip(one))
    return {"t": "have", "marks": {_R: users}} | more


def _want(n: int, user: str, *tips: list[Any], older: list[Any] | None = None, **more: object) -> dict[str, Any]:
    made = {"t": "want", "n": n, "c": _R, "u": user, "tips": list(tips)}
    return made | ({"older": older} if older else {}) | more


def sync() -> list[Row]:
    """Return what bob holds, the frames of ada's peer, and bob's answers."""
    a, b, a2, c = (LOGS[name] for name in ("room_ada_1", "room_bob_1", "room_ada_2", "room_cyd_1"))
    entries_a = a["entries"]
    held = [_batch(a, 1, 3)]
    two = [*held, _batch(b, 1, 4), _batch(a2, 1, 3)]
    foreign = blake(b"p2pchat/dm/2\0", ROOM, *sorted((IDS["ada"], IDS["cyd"])))
    naming = {"dm": sorted((ADA, CYD))}
    other = log(
        ROOM, "ada", RUNS["ada1"], [entries_a[0]["entry"], entry("text", 5_000, "x"), entry("text", 6_000, "y")]
    )
    unknown, wrong = ["00" * 8, 3, "00" * 32], [*tip(a)[:2], "00" * 32]
    secret = log(foreign, "ada", RUNS["ada1"], [entry("text", 1, "psst")])
    dm = LOGS["dm_ada_2"]
    dm_mark = {"t": "have", "marks": {DM.hex(): {ADA: [tip(dm)]}}, "names": [NAMINGS["dm"]]}
    end = _have(a, end=7)
    nothing = {"t": "have", "marks": {}, "end": 7}
    here = {"t": "here", "users": [{"id": GUEST, "name": "guest", "status": "online"}]}
    room_typing = {"t": "typing", "c": _R, "u": CYD, "on": True}
    partly = [FIRST_ID, ADA]
    cyd_1, cyd_2 = (
        log(ROOM, "cyd", RUNS["cyd1"], [entry("text", 1, "a"), entry("text", 2, said)]) for said in ("b", "c")
    )
    made: list[Row] = []

    def add(
        name: str,
        why: str,
        before: list[Any],
        frames: list[Any],
        out: list[Any],
        heard: list[Any] | None = None,
        seconds: float = 0,
        closed: str = "",
    ) -> None:
        given = {"held": before, "heard": heard or [], "in": frames} | ({"seconds": seconds} if seconds else {})
        made.append(row(name, why, given, {"out": out} | ({"closed": closed} if closed else {})))

    add("equal sums", "No answer is needed.", held, [_digest(a)], [])
    add("equal sums, asked", "The other is to learn of it.", held, [_digest(a, ask=True)], [_digest(a)])
    add("different sums", "The sums of all shared conversations.", held, [_digest(c)], [_sums(a)])
    add(
        "nothing held, different sums",
        "A conversation without entries is in no digest.",
        [],
        [_digest(c)],
        [{"t": "digest", "sums": {}, "span": _ALL}],
    )
    add("equal sums of conversations", "No answer is needed.", held, [_sums(a)], [])
    add(
        "different sums of a conversation",
        "Marks, with the span of all users, and ask.",
        held,
        [_sums(a, c)],
        [_have(a, span=_ALL, ask=True)],
    )
    add(
        "a conversation that the page lacks",
        "It lies within the span, so the other holds nothing of it.",
        held,
        [{"t": "digest", "sums": {}, "span": _ALL}],
        [_have(a, span=_ALL, ask=True)],
    )
    add(
        "a page that ends before the room",
        "Nothing is known of what lies outside of the span.",
        held,
        [{"t": "digest", "sums": {}, "span": [FIRST_ID, "0" * 63 + "1"]}],
        [],
    )
    add(
        "a sum of an unknown conversation",
        "A conversation that was not named is ignored.",
        held,
        [_sums(a) | {"sums": {_R: sum_of([a]), "11" * 32: "22" * 32}}],
        [],
    )
    add(
        "a page of marks, asked",
        "What the other lacks and what is held: a want, and marks with the same span.",
        held,
        [_have(c, span=_ALL, ask=True)],
        [_want(1, CYD), _have(a, span=_ALL)],
    )
    add("a page of marks", "What the other holds more is wanted.", held, [_have(a, c, span=_ALL)], [_want(1, CYD)])
    add(
        "a page of marks of some users",
        "The answer has the same span.",
        held,
        [{"t": "have", "marks": {_R: {}}, "span": partly, "ask": True}],
        [_have(a, span=partly)],
    )
    add(
        "a mark ahead, after a second",
        "Entries that have not come 1 s after their mark are wanted.",
        [_batch(a, 1, 1)],
        [_have(a)],
        [_want(1, ADA, entries_a[0]["mark"])],
        [_digest(a | {"entries": entries_a[:1]})],
        1.1,
    )
    add("a mark that is held", "Nothing is lacking.", held, [_have(a)], [])
    add(
        "a mark behind",
        "The writer's peer serves itself.",
        held,
        [{"t": "have", "marks": {_R: {ADA: [entries_a[0]["mark"]]}}}],
        [],
    )
    add(
        "want everything",
        "Every log, then the have that closes the want.",
        held,
        [_want(7, ADA)],
        [_batch(a, 1, 3, n=7), end],
    )
    add(
        "want from entry 1",
        "What comes after the tip.",
        held,
        [_want(7, ADA, entries_a[0]["mark"])],
        [_batch(a, 2, 3, n=7), end],
    )
    add("want from the end", "There is nothing more.", held, [_want(7, ADA, tip(a))], [_have(a, end=7)])
    add(
        "want from an unknown tip",
        "It is ignored, so everything is served.",
        held,
        [_want(7, ADA, unknown)],
        [_batch(a, 1, 3, n=7), end],
    )
    add(
        "want from another chain",
        "A tip with another chain is one that is not known.",
        held,
        [_want(7, ADA, wrong)],
        [_batch(a, 1, 3, n=7), end],
    )
    add(
        "want with older marks",
        "They are the common ground where the tips are not known.",
        held,
        [_want(7, ADA, unknown, older=[entries_a[1]["mark"]])],
        [_batch(a, 3, 3, n=7), end],
    )
    add(
        "want two logs",
        "Log after log, in the order in which they were stored.",
        two,
        [_want(7, ADA)],
        [_batch(a, 1, 3, n=7), _batch(a2, 1, 3, n=7), _have(a2, end=7)],
    )
    add(
        "want the second log",
        "The tip of the first is held.",
        two,
        [_want(7, ADA, tip(a))],
        [_batch(a2, 1, 3, n=7), _have(a2, end=7)],
    )
    add(
        "want from the tip of the second log",
        "It covers everything it builds on.",
        two,
        [_want(7, ADA, tip(a2))],
        [_have(a2, end=7)],
    )
    add(
        "want of a writer unknown here",
        "Nothing is held.",
        held,
        [_want(7, CYD)],
        [{"t": "have", "marks": {_R: {CYD: []}}, "end": 7}],
    )
    add(
        "want in an unknown conversation",
        "Nothing can be served.",
        held,
        [_want(7, ADA) | {"c": "11" * 32}],
        [nothing],
    )
    add(
        "want in a conversation of others",
        "It is not shared.",
        held,
        [_want(7, ADA) | {"c": foreign.hex(), "names": [naming]}],
        [nothing],
    )
    add(
        "new entries",
        "The mark is the acknowledgement, after the commit.",
        [_batch(a, 1, 1)],
        [_batch(a, 2, 3)],
        [_have(a)],
    )
    add("new entries of another writer", "Any member may pass them on.", [], [_batch(c, 1, 1)], [_have(c)])
    add(
        "new entries in a direct conversation",
        "It is named with them.",
        [],
        [_batch(dm, 1, 1, names=[NAMINGS["dm"]])],
        [dm_mark],
    )
    add(
        "an answer to a want",
        "The end closes the want.",
        [],
        [_batch(a, 1, 3, n=1), _have(a, end=1)],
        [_have(a)],
        [_have(a, span=_ALL)],
    )
    add("entries again", "They are here already.", held, [_batch(a, 1, 3)], [])
    add(
        "entries with a gap",
        "They are dropped, and everything is wanted a second after.",
        [_batch(a, 1, 1)],
        [_batch(a, 3, 3)],
        [_want(1, ADA, entries_a[0]["mark"])],
        [_digest(a | {"entries": entries_a[:1]})],
        1.1,
    )
    add("entries of a direct conversation that was not named", "They are ignored.", [], [_batch(dm, 1, 1)], [])
    add(
        "entries of a conversation of others",
        "It is not shared, so they are ignored.",
        [],
        [_batch(secret, 1, 1, names=[naming])],
        [],
    )
    add(
        "another entry 2, signed",
        "A fork: the writer's peer gets the evidence.",
        held,
        [_batch(other, 2, 3)],
        [_batch(a, 1, 3, fork=True), _batch(other, 2, 3, fork=True)],
    )
    add(
        "read marks, asked",
        "All of them: none.",
        held,
        [{"t": "read", "marks": {}, "ask": True}],
        [{"t": "read", "marks": {}, "all": True}],
    )
    add("ping", "Each gets one pong.", [], [{"t": "ping"}], [{"t": "pong"}])
    add("an unknown frame", "It is ignored.", [], [{"t": "later"}], [])
    add(
        "a wrong head",
        "The sender passed on what it did not check.",
        [],
        [_batch(a, 1, 3) | {"head": "00" * 64}],
        [],
        closed="head",
    )
    add("typing of another peer's user", "A peer speaks for users it hosts.", [], [room_typing], [], closed="host")
    add(
        "a user without a certificate",
        "A peer shows the certificate of each user with another key.",
        [],
        [here],
        [],
        closed="host",
    )
    add("go from F", "Only D sends go.", [], [{"t": "go", "run": "00" * 8, "n": 1}], [], closed="order")
    add("hello again", "The handshake is over.", [], [{"t": "hello", "v": [4], "nonce": "00" * 32}], [], closed="order")
    answers = [_batch(a, 1, 3, n=8), _have(a, end=8)]
    own_here = {"t": "here", "users": [{"id": ADA, "name": "other", "status": "online"}]}
    gone = {"t": "here", "users": [], "gone": [ADA]}
    unknown_dm = {"t": "digest", "sums": {DM.hex(): sum_of([dm])}, "span": _ALL, "names": [NAMINGS["dm"]]}
    empty_dm = {"t": "have", "marks": {DM.hex(): {}}, "span": _ALL, "ask": True, "names": [NAMINGS["dm"]]}
    add("two wants of one writer", "The second replaces the first.", held, [_want(7, ADA), _want(8, ADA)], answers)
    add("a name again", "It may always be repeated.", [], [_batch(a, 1, 1), _batch(a, 2, 3)], [_have(a)])
    add("ask without a span", "It is not answered.", held, [_have(ask=True)], [])
    add("here again", "The user is not new to the link.", held, [own_here], [])
    add(
        "here of a user who was gone",
        "The user is new again: a comparison begins.",
        held,
        [gone, own_here],
        [_digest(a)],
    )
    add("a conversation unknown here", "It is shared, and compared as an empty one.", [], [unknown_dm], [empty_dm])
    evidence = [_batch(other_c, 2, 2, fork=True) for other_c in (cyd_1, cyd_2)]
    sent = [evidence[0], {key: value for key, value in evidence[1].items() if key != "names"}]
    no_end = {"t": "have", "marks": {_R: {CYD: []}}, "end": 7}
    add("a mark of a forked log", "The other may not know of the fork.", [], [_have(cyd_1)], sent, evidence)
    add(
        "a want of a writer with a forked log",
        "The evidence first; nothing of the log.",
        [],
        [_want(7, CYD)],
        [*sent, no_end],
        evidence,
    )
    add(
        "a forked log in a sum",
        "It has left all sums.",
        [_batch(cyd_1, 1, 2)],
        [_digest(ask=True)],
        [_digest()],
        evidence,
    )
    full = {"t": "have", "marks": {}, "full": {_R: [evidence[0]["u"]]}}
    add(
        "evidence that proves nothing",
        "Both batches agree; its sender may only lack a check.",
        [],
        [evidence[0], evidence[0]],
        [full],
    )
    read = {"t": "read", "marks": {_R: {CYD: [[b["ref"], 1, "ab" * 32]]}}}
    add("read marks of another peer's user", "A peer speaks for users it hosts.", held, [read], [], closed="host")
    return made + _sync_of_writing() + _sync_of_group()


def _sync_of_writing() -> list[Row]:
    """Return the same while bob writes in the room."""
    a = LOGS["room_ada_1"]
    after = {"after": [[a["ref"], 3]]}
    profile, hi, plain = _line(0, "profile", {"name": "bob"}), _line(1, "text", "hi", **after), _line(1, "text", "hi")
    own = log(ROOM, "bob", RUN, [profile, hi, _line(2, "text", "again")])
    alone = log(ROOM, "bob", RUN, [profile, plain])
    full = {"t": "have", "marks": {}, "full": {_R: [own["user"]]}}
    mark = {"t": "have", "marks": {_R: {own["user"]: [own["entries"][1]["mark"]]}}}
    empty = [{"t": "digest", "sums": {}, "span": _ALL}, _have(span=_ALL)]
    rows: list[tuple[str, str, list[Any], list[Any], list[str], list[Any]]] = [
        ("a first message", "A log in the room begins with a profile.", [], [_digest()], ["hi"], [_batch(alone, 1, 2)]),
        (
            "a first message after another's",
            "It names the newest entry of another writer shown here; a profile does not.",
            [_batch(a, 1, 3)],
            [_digest(a)],
            ["hi"],
            [_batch(own, 1, 2)],
        ),
        (
            "two messages, one after the other",
            "What was sent counts for the tail, acknowledged or not; what was named once is not named again.",
            [_batch(a, 1, 3)],
            [_digest(a)],
            ["hi", "again"],
            [_batch(own, 1, 2), _batch(own, 3, 3)],
        ),
        (
            "a message to a link that lacks another's log",
            "The tail is of one log: ada's peer stands before entry 1 of it.",
            [_batch(a, 1, 3)],
            empty,
            ["hi"],
            [_batch(own, 1, 2)],
        ),
        ("a message before the comparison", "The mark only.", [_batch(a, 1, 3)], [], ["hi"], [mark]),
        (
            "a message where bob is full",
            "Neither entries nor marks.",
            [_batch(a, 1, 3)],
            [_digest(a), full],
            ["hi"],
            [],
        ),
    ]
    return [
        row(name, why, {"held": held, "heard": heard, "in": [], "write": texts}, {"out": out})
        for name, why, held, heard, texts, out in rows
    ]


def _line(clock: int, kind: str, body: object, **links: object) -> Entry:
    """Return an entry that bob writes now; of several, each clock is the one before and 1."""
    return entry(kind, NOW - T0, body, clock=NOW - T0 + clock, **links)


def _sync_of_group() -> list[Row]:
    """Return the same in the group of ada and bob."""
    group, named, both = LOGS["group_ada_2"], [NAMINGS["group"]], [NAMINGS["group"], NAMINGS["talk"]]
    g, t, talk_named = GROUP.hex(), TALK.hex(), [NAMINGS["talk"]]
    made: list[Row] = []

    def add(name: str, why: str, before: list[Any], frames: list[Any], out: list[Any], **result: str) -> None:
        made.append(row(name, why, {"held": before, "heard": [], "in": frames}, {"out": out} | result))

    def talk(user: str, *before: list[Any]) -> dict[str, Any]:
        run = RUNS["ada2" if user == "ada" else "cyd1"]
        return log(TALK, user, run, [entry("text", 20_000, "hi")], before=list(before))

    def said(log: dict[str, Any]) -> list[Any]:
        return [_batch(log, 1, 1, names=both)]

    def marks(conversation: str, log: dict[str, Any], **more: object) -> dict[str, Any]:
        return {"t": "have", "marks": {conversation: {log["user"]: [tip(log)]}}} | more

    first = _batch(group, 1, 1, names=named)
    removed = fact("ada", fact_entry("remove", 60, {BOB: []}), [tip(group)])
    copied, good = fact("cyd", CREATE), talk("ada")
    back = fact("ada", fact_entry("add", 70, {ADA: []}), [tip(group)])
    unnamed = log(GROUP, "ada", RUNS["ada2"], [fact_entry("remove", 60, {BOB: []})])
    empty = {"t": "have", "marks": {g: {}}, "span": _ALL}
    unknown = {"t": "digest", "sums": {g: sum_of([group])}, "span": _ALL, "names": named}
    page = marks(g, group, span=_ALL, ask=True, names=named)
    owner = {"t": "want", "n": 1, "c": g, "u": ADA, "tips": [], "names": named}
    sums = {t: sum_of([good]), g: sum_of([group])}
    by_id = sorted(("group", "talk"), key=lambda name: {"group": g, "talk": t}[name])
    add(
        "a group unknown here",
        "It is compared as an empty one.",
        [],
        [unknown],
        [empty | {"ask": True, "names": named}],
    )
    add("marks of a group unknown here", "The creator's logs are wanted first.", [], [page], [owner, empty])
    add("the create entry", "It is stored, and acknowledged.", [], [first], [marks(g, group, names=named)])
    add("the create entry in another's log", "It hashes to another group.", [], [_batch(copied, 1, 1, names=named)], [])
    add(
        "a removal",
        "It is served to the removed too.",
        [first],
        [_batch(removed, 1, 1, names=named)],
        [marks(g, removed, names=named)],
    )
    add(
        "a message in the talk",
        "Ada is a member.",
        [first],
        said(good),
        [marks(t, good, names=talk_named)],
    )
    add(
        "a message whose log names a fact that is not held",
        "It is dropped, and wanted again once the group's facts have come.",
        [first],
        said(talk("ada", tip(back))),
        [],
    )
    add(
        "a fact in another log",
        "Its run is a hash of it.",
        [first],
        [_batch(unnamed, 1, 1, names=named)],
        [],
        closed="malformed",
    )
    add("a message of a stranger", "Cyd is no member.", [first], said(talk("cyd")), [])
    add("a message before its group", "Nothing of a talk is stored before its group is known.", [], said(good), [])
    add(
        "want in a talk",
        "Members are served.",
        [first, *said(good)],
        [{"t": "want", "n": 7, "c": t, "u": ADA, "tips": [], "names": both}],
        [_batch(good, 1, 1, n=7, names=talk_named), marks(t, good, end=7)],
    )
    add(
        "different sums with a group",
        "The sums of the talk and of the group.",
        [first, *said(good)],
        [_digest(LOGS["room_ada_1"])],
        [{"t": "digest", "sums": sums, "span": _ALL, "names": [NAMINGS[name] for name in by_id]}],
    )
    return made
