"""Vectors of attachments: the hashes of content, and what an entry says about it."""

from __future__ import annotations

from typing import Any

from tests.docs.valid_entries import entry
from tests.vectors.material import Row, blake, compact, row, u64

PIECE = 262_144
UNIT = bytes(range(251))  # a prime number of bytes, so that no two pieces are equal
MOST = 16 * 1024**3
FILE = {"name": "a picture.png", "size": 3, "type": "image/png", "root": "ab" * 32}


def attachments() -> list[Row]:
    return [*_content(), *_named(), *_frames()]


def _content() -> list[Row]:
    why = {
        0: "The empty file has no piece and no leaf.",
        1: "One piece, and so one leaf.",
        PIECE - 1: "One byte less than a piece.",
        PIECE: "Exactly one piece: no empty one follows.",
        PIECE + 1: "The last piece may have one byte.",
        3 * PIECE: "Three pieces: the tree has two levels, so odd numbers are not special.",
    }
    made = []
    for size, reason in why.items():
        content = (UNIT * (size // len(UNIT) + 1))[:size]
        pieces = [content[at : at + PIECE] for at in range(0, size, PIECE)]
        leaves = [blake(b"p2pchat/piece/1\0", piece) for piece in pieces]
        root = blake(b"p2pchat/content/1\0", u64(size), *leaves)
        result = {"leaves": [leaf.hex() for leaf in leaves], "root": root.hex()}
        made.append(row(f"{size} bytes", reason, {"unit": UNIT.hex(), "size": size}, result))
    return made


def _named() -> list[Row]:
    whole = "A value of another form has no effect: the message has no attachments."
    changed: dict[str, dict[str, Any]] = {
        "a size below 0": {"size": -1},
        "a size above 16 GiB": {"size": MOST + 1},
        "a size that is no integer": {"size": "3"},
        "a root in upper case": {"root": "AB" * 32},
        "a root of 31 bytes": {"root": "ab" * 31},
        "a name of 4097 characters": {"name": "~"},
        "a type of 256 characters": {"type": "x" * 256},
        "no name": {"name": None},
    }
    rows = [
        _entry("one", "One attachment.", [FILE], [FILE]),
        _entry("ten", "At most ten.", [FILE] * 10, [FILE] * 10),
        _entry("eleven", whole, [FILE] * 11, []),
        _entry("none", "An empty array, which an author leaves out.", [], []),
        _entry("unknown keys", "Unknown keys of an item are ignored.", [FILE | {"later": [1]}], [FILE]),
        _entry("a path as a name", "The name is kept as it is; it is no path.", *_both({"name": "../../etc/passwd"})),
        _entry("the largest", "16 GiB.", *_both({"size": MOST})),
        _entry("empty names", "Name and type may be empty.", *_both({"name": "", "type": ""})),
        _entry("an object", whole, {"0": FILE}, []),
        _entry("null", "An absent value.", None, []),
        _entry("one good, one not", whole, [FILE, "x"], []),
        _entry("a reaction", "Only a text or an action has attachments.", [FILE], [], k='"reaction"'),
        _entry("an action", "An action may have attachments.", [FILE], [FILE], k='"action"'),
    ]
    for name, other in changed.items():
        one = {key: value for key, value in (FILE | other).items() if value is not None}
        rows.append(_entry(name, whole, [one], [], repeat=["x", 4097] if one.get("name") == "~" else None))
    return rows


def _both(other: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return [FILE | other], [FILE | other]


def _entry(name: str, why: str, files: Any, result: list[Any], *, repeat: Any = None, **keys: str) -> Row:
    given: dict[str, Any] = {"text": entry(files=compact(files), **keys)}
    return row(name, why, given | ({"repeat": repeat} if repeat else {}), {"files": result})


def _frames() -> list[Row]:
    def taken(name: str, why: str, data: bytes) -> Row:
        return row(name, why, {"frame": _frame(7, 3, data).hex()}, {"n": 7, "index": 3, "data": data.hex()})

    def refused(name: str, why: str, length: int) -> Row:
        return row(name, why, {"frame": length.to_bytes(4, "big").hex()}, {"refused": "limit"})

    judged = "The length is judged before what follows."
    return [
        taken("a frame of bytes", "The number of the pull, the index, the bytes.", b"abc"),
        taken("a frame of no bytes", "The piece is as long as the frame says.", b""),
        refused("a frame of bytes without a head", judged, (1 << 31) + 7),
        refused("a frame of more bytes than a piece", judged, (1 << 31) + 8 + PIECE + 1),
    ]


def _frame(n: int, index: int, data: bytes) -> bytes:
    length = (1 << 31) + 8 + len(data)
    return b"".join(number.to_bytes(4, "big") for number in (length, n, index)) + data
