"""Vectors of logs, entries, batches and forks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.docs.valid_entries import NO_EFFECT, NOT_SHOWN, TABLES, UNSUPPORTED
from tests.vectors.material import (
    ADA,
    CYD,
    DM,
    IDS,
    KEYS,
    LOGS,
    NAMINGS,
    ROOM,
    RUNS,
    SEEDS,
    T0,
    USERS,
    Entry,
    Row,
    blake,
    certificate,
    entries_frame,
    entry,
    log,
    row,
    text_proof,
    tip,
    u64,
)

# Logs


def logs() -> list[Row]:
    why = {
        "room_ada_1": "A first log, with letters that JSON escapes.",
        "room_bob_1": "It answers, follows and reacts to entries of ada.",
        "room_ada_2": "It builds on ada's first log, edits and deletes there.",
        "room_guest_1": "Ada answers for the writer, two of whose entries nobody can read.",
        "room_cyd_1": "Another order of keys, blanks and an unknown key: the bytes stay as they are.",
        "dm_ada_2": "A direct conversation.",
        "group_ada_2": "The create entry of a group.",
        "talk_bob_1": "A message in the group's talk.",
    }
    made = []
    for name, one in LOGS.items():
        given = {key: one[key] for key in ("conversation", "user", "run")}
        given["seed"] = SEEDS[next(user for user in USERS if IDS[user].hex() == one["user"])].hex()
        given["before"] = one["before"]
        given |= {"by": one["by"]} if one["by"] else {}
        given["entries"] = [each["entry"] for each in one["entries"]]
        result = {key: one[key] for key in ("id72", "ref", "header", "chain_0")}
        result["entries"] = [{key: each[key] for key in each if key not in ("seq", "entry")} for each in one["entries"]]
        made.append(row(name, why[name], given, result))
    return made


# Entries: the examples of the tables of docs/protocol-entries.md and docs/protocol-groups.md


def entries() -> list[Row]:
    return [row for table in ("json", "keys", "kinds") for row in _examples(table)]


def facts() -> list[Row]:
    return _examples("facts")


def _examples(table: str) -> list[Row]:
    made = []
    for rule in TABLES[table]:
        for at, text in enumerate(rule.examples, 1):
            given = _short(text) | ({"clock": rule.c, "clock_before": rule.last_c} if rule.last_c else {})
            is_taken = rule.verdict in ("taken", NO_EFFECT, NOT_SHOWN, UNSUPPORTED)
            result: dict[str, Any] = {"taken": True} if is_taken else {"refused": rule.verdict}
            result |= {"effect": False} if rule.verdict == NO_EFFECT else {}
            result |= {"shown": False} if rule.verdict == NOT_SHOWN else {}
            result |= {"supported": False} if rule.verdict == UNSUPPORTED else {}
            made.append(row(f"{table}: {rule.name} {at}", f"{rule.rule}.", given, result))
    return made


def _short(text: str) -> dict[str, Any]:
    """Return a text in which a long repetition is written as ~."""
    found = re.search(r"(.{1,6}?)\1{400,}", text, re.DOTALL)
    if found is None:
        return {"text": text}
    assert "~" not in text
    return {"text": text.replace(found[0], "~"), "repeat": [found[1], len(found[0]) // len(found[1])]}


# Batches


def _batch(log: dict[str, Any], first: int, last: int, **more: object) -> dict[str, Any]:
    return entries_frame(log, first, last, **more)


def _texts(*clocks: int, said: str = "line") -> list[Entry]:
    return [entry("text", clock, f"{said} {clock}") for clock in clocks]


def _signed(user: str, log: dict[str, Any], seq: int, chain: bytes) -> str:
    return KEYS[user].sign(b"p2pchat/head/1\0" + bytes.fromhex(log["id72"]) + u64(seq) + chain).hex()


def _chained(chain: bytes, entry: Entry) -> bytes:
    return blake(chain, u64(entry[0]), text_proof(entry[1]))


def _turned(header: str) -> str:
    """Return a header whose first two keys are in another order."""
    user, conversation, rest = header[1:].split(",", 2)
    return "{" + ",".join((conversation, user, rest))


def _bad_headers(later: Callable[..., dict[str, Any]], nine: list[Any], form: str) -> list[Any]:
    """Return logs with a header that nobody takes."""
    another = "It has one form."
    rows: list[tuple[str, str, str, dict[str, Any]]] = [
        ("a certificate for another user", "It is for one user.", "head", {"by": certificate("cyd", "bob")}),
        (
            "a certificate of another network",
            "It is for one network.",
            "head",
            {"by": certificate("cyd", "ada", bytes(16))},
        ),
        ("a header of nine marks", "At most eight.", "malformed", {"before": nine}),
        ("a header with a blank", another, "malformed", {"header": form.replace(",", ", ", 1)}),
        ("a header in another order", another, "malformed", {"header": _turned(form)}),
        ("a header with a further key", another, "malformed", {"header": form[:-1] + ',"x":1}'}),
        ("a header that is none", another, "malformed", {"header": "none"}),
    ]
    return [
        (name, why, [], _batch(later(**said), 1, 1), {"refused": code, "entries": 1}) for name, why, code, said in rows
    ]


def batches() -> list[Row]:
    """Return batches that reach bob. `held` came before, in this order."""
    one = log(ROOM, "ada", RUNS["ada1"], _texts(1, 2, 3, 4))
    other = log(ROOM, "ada", RUNS["ada1"], [*_texts(1, 2), *_texts(3, 4, said="another")])
    equal_clock = log(ROOM, "ada", RUNS["ada1"], _texts(1, 2, 2))
    falling = log(ROOM, "ada", RUNS["ada1"], _texts(1, 3, 2))
    unreadable = log(ROOM, "ada", RUNS["ada1"], [*_texts(1), [T0 + 2, "no entry"], *_texts(3)])
    control = log(ROOM, "ada", RUNS["ada1"], [*_texts(1), [T0 + 2, "a\0b"], *_texts(3)])

    def later(**said: Any) -> dict[str, Any]:
        return log(ROOM, "ada", RUNS["ada2"], [entry("text", 9, "on")], **said)

    second, inside = later(before=[tip(one)]), later(before=[one["entries"][1]["mark"]])
    wrong_tip = later(before=[[*tip(one)[:2], "00" * 32]])
    nine = [[f"{run:016x}", 1, "00" * 32] for run in range(9)]
    odd = later()["header"]
    answered = later(by=certificate("cyd", "ada"))
    foreign = log(blake(b"p2pchat/dm/2\0", ROOM, *sorted((IDS["ada"], IDS["cyd"]))), "ada", RUNS["ada1"], _texts(1))
    intruder = log(DM, "cyd", RUNS["cyd1"], _texts(1))
    to_bob = log(DM, "ada", RUNS["ada1"], _texts(1))
    other_first = [entry("text", 1, "another")]
    wrong_begin = _batch(one, 1, 1) | {"prev": "00" * 32, "e": other_first}
    wrong_begin["head"] = _signed("ada", one, 1, _chained(bytes(32), other_first[0]))
    chain_2 = bytes.fromhex(one["entries"][1]["chain"])
    named_dm = {"names": [NAMINGS["dm"]]}
    cut = _batch(one, 1, 2)
    rows: list[tuple[str, str, list[Any], Any, dict[str, Any]]] = [
        ("the first", "It begins its log.", [], cut, {"new": 2}),
        ("the next", "It extends its log.", [cut], _batch(one, 3, 4), {"new": 2}),
        (
            "an overlap",
            "What is held must be the same; the rest is new.",
            [cut],
            _batch(one, 2, 3),
            {"known": 1, "new": 1},
        ),
        ("the same again", "Nothing changes.", [cut], cut, {"known": 2}),
        ("a beginning again", "Nothing changes.", [_batch(one, 1, 4)], cut, {"known": 2}),
        ("a gap", "Entry 3 is missing.", [cut], _batch(one, 4, 4), {"dropped": "early", "entries": 1}),
        (
            "a log from its middle",
            "Entries 1 and 2 are missing.",
            [],
            _batch(one, 3, 4),
            {"dropped": "early", "entries": 2},
        ),
        ("a changed entry", "The head does not fit.", [], cut | {"e": _texts(1, 9)}, {"refused": "head", "entries": 2}),
        (
            "a head of entry 2 at 3",
            "The head does not fit.",
            [cut],
            _batch(one, 3, 4) | {"head": cut["head"]},
            {"refused": "head", "entries": 2},
        ),
        (
            "another's head",
            "The writer signs.",
            [],
            cut | {"head": _signed("cyd", one, 2, chain_2)},
            {"refused": "head", "entries": 2},
        ),
        (
            "another's log",
            "The writer is in the header.",
            [],
            cut | {"u": CYD},
            {"refused": "malformed", "entries": 2},
        ),
        (
            "another run",
            "The run is in the header.",
            [],
            cut | {"r": RUNS["ada2"].hex()},
            {"refused": "malformed", "entries": 2},
        ),
        (
            "another conversation",
            "The conversation is in the header.",
            [],
            _batch(one, 1, 2) | {"c": DM.hex(), "names": [NAMINGS["dm"]]},
            {"refused": "malformed", "entries": 2},
        ),
        (
            "a wrong prev",
            "The chain does not lead to the head.",
            [cut],
            _batch(one, 3, 4) | {"prev": "00" * 32},
            {"refused": "head", "entries": 2},
        ),
        (
            "a log that does not begin with chain_0",
            "The author signed it, but it is no log.",
            [],
            wrong_begin,
            {"refused": "head", "entries": 1},
        ),
        (
            "a clock that stays",
            "It rises with each entry.",
            [],
            _batch(equal_clock, 1, 3),
            {"refused": "head", "entries": 3},
        ),
        (
            "a clock that stays from batch to batch",
            "It rises across batches too.",
            [_batch(equal_clock, 1, 2)],
            _batch(equal_clock, 3, 3),
            {"refused": "head", "entries": 1},
        ),
        (
            "a clock that falls",
            "It rises with each entry.",
            [],
            _batch(falling, 1, 3),
            {"refused": "head", "entries": 3},
        ),
        (
            "an entry inside that cannot be read",
            "It is taken like any other.",
            [],
            _batch(unreadable, 1, 3),
            {"new": 3},
        ),
        (
            "a control character",
            "A batch is stored whole or not at all.",
            [],
            _batch(control, 1, 3),
            {"refused": "malformed", "entries": 3},
        ),
        (
            "a changed clock",
            "The clocks are in the chain.",
            [],
            cut | {"e": [[T0 + 1, cut["e"][0][1]], [T0 + 3, cut["e"][1][1]]]},
            {"refused": "head", "entries": 2},
        ),
        (
            "a member that answers for the writer",
            "It signed that for this user and network.",
            [],
            _batch(answered, 1, 1),
            {"new": 1},
        ),
        *_bad_headers(later, nine, odd),
        (
            "another header, signed",
            "The author signed two beginnings of one log: a fork.",
            [_batch(later(), 1, 1)],
            _batch(answered, 1, 1),
            {"forked": True, "entries": 1},
        ),
        (
            "another entry 3, signed",
            "The author signed two entries 3: a fork.",
            [_batch(one, 1, 4)],
            _batch(other, 3, 4),
            {"forked": True, "entries": 2},
        ),
        (
            "another entry 3, not signed",
            "It proves nothing.",
            [_batch(one, 1, 4)],
            _batch(other, 3, 4) | {"head": cut["head"]},
            {"refused": "head", "entries": 2},
        ),
        (
            "a log that builds on a held one",
            "All that before names is held.",
            [_batch(one, 1, 4)],
            _batch(second, 1, 1),
            {"new": 1},
        ),
        (
            "a log that builds on the middle of a held one",
            "It is held, though not its end.",
            [_batch(one, 1, 4)],
            _batch(inside, 1, 1),
            {"new": 1},
        ),
        (
            "a log that builds on more than is held",
            "Entries 3 and 4 are missing.",
            [cut],
            _batch(second, 1, 1),
            {"dropped": "early", "entries": 1},
        ),
        (
            "a log that builds on another chain",
            "The mark has another chain than the one held.",
            [_batch(one, 1, 4)],
            _batch(wrong_tip, 1, 1),
            {"dropped": "early", "entries": 1},
        ),
        ("a direct conversation with bob", "He is a member.", [], _batch(to_bob, 1, 1, **named_dm), {"new": 1}),
        (
            "a direct conversation of others",
            "Nobody here is a member.",
            [],
            _batch(foreign, 1, 1) | {"names": [{"dm": sorted((ADA, CYD))}]},
            {"ignored": True, "entries": 1},
        ),
        (
            "a writer who is no member",
            "Only ada and bob write there.",
            [],
            _batch(intruder, 1, 1, **named_dm),
            {"ignored": True, "entries": 1},
        ),
    ]
    return [row(name, why, {"held": held, "frame": frame}, result) for name, why, held, frame, result in rows]


# Forks


def forks() -> list[Row]:
    """Return pairs of batches that reach bob as evidence, from ada. The log is cyd's."""

    def run(*said: str, name: str = "cyd1") -> dict[str, Any]:
        return log(ROOM, "cyd", RUNS[name], [entry("text", at, text) for at, text in enumerate(said, 1)])

    one, other, copy = run("a", "b", "c", "d"), run("a", "x", "y", "z"), run("a", "b", "c", "d", name="ada2")

    def part(log: dict[str, Any], first: int, last: int, **more: object) -> dict[str, Any]:
        return _batch(log, first, last, fork=True) | more

    wrong_begin = part(other, 1, 1) | {"prev": "00" * 32}
    wrong_begin["head"] = _signed("cyd", other, 1, _chained(bytes(32), wrong_begin["e"][0]))
    anew = log(ROOM, "cyd", RUNS["cyd1"], [entry("text", 1, "a")], before=[tip(copy)])
    forged = part(other, 2, 2) | {"head": _signed("ada", other, 2, bytes.fromhex(other["entries"][1]["chain"]))}
    forked, refused = {"forked": True}, {"refused": "head"}
    rows = [
        ("two entries 2", "One number, two chains.", part(one, 2, 2), part(other, 2, 2), forked),
        ("whole logs", "They differ from entry 2 on.", part(one, 1, 4), part(other, 1, 4), forked),
        (
            "chains that differ inside",
            "Chains that differ once never meet again: entry 3 is enough.",
            part(one, 1, 3),
            part(other, 3, 4),
            forked,
        ),
        (
            "the chain before the first entry",
            "Entries 1 and 2, and another chain before entry 3.",
            part(one, 1, 2),
            part(other, 3, 3),
            forked,
        ),
        ("the later batch first", "Their order means nothing.", part(other, 3, 3), part(one, 1, 2), forked),
        ("two headers", "The chain before entry 1 is another.", part(one, 1, 1), part(anew, 1, 1), forked),
        ("twice the same", "They agree.", part(one, 2, 2), part(one, 2, 2), refused),
        ("one continues the other", "They agree.", part(one, 1, 2), part(one, 3, 4), refused),
        ("an overlap", "They agree.", part(one, 1, 3), part(one, 2, 4), refused),
        ("nothing in common", "Entries 1 and 3 have no chain in common.", part(one, 1, 1), part(other, 3, 3), refused),
        ("a forged head", "Both heads are the author's.", part(one, 2, 2), forged, refused),
        (
            "a log that does not begin with chain_0",
            "The chain before entry 1 is chain_0.",
            part(one, 1, 1),
            wrong_begin,
            refused,
        ),
        (
            "two logs",
            "They are no pair; the second waits for its own.",
            part(copy, 2, 2),
            part(other, 2, 2),
            {"forked": False},
        ),
    ]
    return [row(name, why, {"frames": [first, second]}, result) for name, why, first, second, result in rows]
