"""Vectors of hashes, signatures and clocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.vectors.material import (
    ADA,
    BOB,
    CREATE,
    GROUP,
    IDS,
    LOGS,
    ROOM,
    RUNS,
    SEEDS,
    T0,
    TIPS,
    USERS,
    N,
    Row,
    b32,
    blake,
    row,
    sum_of,
    sum_of_set,
    text_proof,
    u64,
)

# Hashes


def hashes() -> list[Row]:
    def hashed(name: str, why: str, given: dict[str, Any], *parts: bytes) -> Row:
        message = b"".join(parts)
        return row(name, why, given, {"message": message.hex(), "hash": blake(message).hex()})

    def plain(name: str, why: str, message: bytes) -> Row:
        return row(name, why, {"what": "blake2b", "message": message.hex()}, {"hash": blake(message).hex()})

    first = LOGS["room_ada_1"]
    id72, one = bytes.fromhex(first["id72"]), first["entries"][0]
    named = {key: first[key] for key in ("conversation", "user", "run")}
    chain_0, chain_1 = bytes.fromhex(first["chain_0"]), bytes.fromhex(one["chain"])
    marks = sorted(entry["mark_hash"] for entry in first["entries"])
    rows = [
        plain("blake2b of nothing", "BLAKE2b with a digest of 32 bytes, not BLAKE2b-512 cut short.", b""),
        plain("blake2b of abc", "The same.", b"abc"),
        plain("blake2b of two blocks", "More than the 128 bytes of one block.", 2 * bytes(range(100))),
        hashed("room", "The room of a network.", {"what": "room", "network": N.hex()}, b"p2pchat/room/1\0", N),
        hashed(
            "dm",
            "The smaller user id comes first.",
            {"what": "dm", "room": ROOM.hex(), "users": [ADA, BOB]},
            b"p2pchat/dm/2\0",
            ROOM,
            *sorted((IDS["ada"], IDS["bob"])),
        ),
        hashed(
            "dm with oneself",
            "A user may write to itself.",
            {"what": "dm", "room": ROOM.hex(), "users": [ADA, ADA]},
            b"p2pchat/dm/2\0",
            ROOM,
            IDS["ada"] * 2,
        ),
        hashed(
            "group",
            "Who makes it, and the entry that does so, give the id.",
            {"what": "group", "room": ROOM.hex(), "user": ADA, "entry": CREATE},
            b"p2pchat/group/3\0",
            blake(ROOM + IDS["ada"], u64(CREATE[0]), blake(b"p2pchat/text/1\0", CREATE[1].encode())),
        ),
        hashed(
            "talk",
            "Where the group's members talk.",
            {"what": "talk", "group": GROUP.hex()},
            b"p2pchat/talk/1\0",
            GROUP,
        ),
        hashed(
            "chain_0",
            "The chain before entry 1.",
            {"what": "chain_0", "header": first["header"]},
            b"p2pchat/log/2\0",
            first["header"].encode(),
        ),
        hashed(
            "chain_1",
            "The chain after entry 1.",
            {"what": "chain", "previous": chain_0.hex(), "entry": one["entry"]},
            chain_0,
            u64(one["entry"][0]),
            text_proof(one["entry"][1]),
        ),
        hashed(
            "chain over a stub",
            "The hash of the text stands for it.",
            {
                "what": "chain",
                "previous": chain_0.hex(),
                "entry": [one["entry"][0], {"hash": text_proof(one["entry"][1])[:32].hex()}],
            },
            chain_0,
            u64(one["entry"][0]),
            text_proof(one["entry"][1]),
        ),
        hashed(
            "chain over other letters",
            "The hash is over the UTF-8 bytes of the text.",
            {"what": "chain", "previous": chain_1.hex(), "entry": first["entries"][2]["entry"]},
            chain_1,
            u64(first["entries"][2]["entry"][0]),
            text_proof(first["entries"][2]["entry"][1]),
        ),
        hashed(
            "mark",
            "What stands for one tip in a sum.",
            {"what": "mark", **named, "seq": 1, "chain": chain_1.hex()},
            b"p2pchat/mark/1\0",
            id72,
            u64(1),
            chain_1,
        ),
        *(
            row(f"sum of {name}", why, {"what": "sum", "of": of, "hashes": given}, {"sum": sum_of_set(of, given)})
            for name, of, given, why in (
                ("nothing", "tips", [], "It is 0, whatever it is of."),
                ("tips", "tips", marks, "Their mark hashes, ascending."),
                ("conversations", "shared", marks[::-1], "Their sums, in the order of the ids of conversations."),
                ("statements", "statements", marks, "Their ids, ascending."),
                ("one", "tips", marks[:1], "It is a hash as well."),
            )
        ),
    ]
    for name in USERS:
        made = {"id": IDS[name].hex(), "base32": b32(IDS[name]), "ref": IDS[name][:16].hex()}
        rows.append(
            row(f"user {name}", "An id is an Ed25519 public key.", {"what": "user", "seed": SEEDS[name].hex()}, made)
        )
    for name, tips in TIPS.items():
        why = "The sum of the newest entries of all tips; a covered log is none."
        logs = [LOGS[tip] for tip in tips]
        given = {"what": "sum", "of": "tips", "hashes": sorted(log["entries"][-1]["mark_hash"] for log in logs)}
        rows.append(row(f"digest of the {name}", why, given, {"sum": sum_of(logs)}))
    return rows


# Signatures. The arithmetic of RFC 8032, section 5.1, for signatures that no library makes.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def times(count: int, point: Point) -> Point:
    result = NEUTRAL
    while count:
        if count & 1:
            result = add(result, point)
        point, count = add(point, point), count >> 1
    return result


def with_y(y: int, odd: int) -> Point:
    """Return the point with this y and an x of this parity."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0
    return (P - x if x % 2 != odd else x), y


BASE = with_y(4 * pow(5, -1, P) % P, 0)


def packed(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def unpacked(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    return with_y(number & (2**255 - 1), number >> 255)


def order_8() -> Point:
    """Return a point of order 8."""
    y = 2
    while True:
        try:
            found = times(L, with_y(y, 0))
        except AssertionError:
            found = NEUTRAL
        if times(4, found) != NEUTRAL:
            return found
        y += 1


def no_keys() -> dict[str, bytes]:
    """Return the 14 encodings of the 8 points of small order, T being one of order 8, and three keys with y >= p."""
    small, made = order_8(), {}
    for count in range(8):
        x, y = times(count, small)
        for name, number in (("", y), (", y + p", y + P)):
            for sign in (0, 1) if x == 0 else (x & 1,):
                if number < 2**255:
                    code = (number | sign << 255).to_bytes(32, "little")
                    made[f"{count} T{name}{', the sign of x set' if x == 0 and sign else ''}"] = code
    for y in range(2, 19):  # 2^255 - p
        with suppress(AssertionError):
            with_y(y, 0)
            made[f"y = p + {y}"] = (P + y).to_bytes(32, "little")
    assert len(made) > 17
    return dict(list(made.items())[:17])


def hash_of(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def scalar(seed: bytes) -> int:
    low = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    return low & (2**254 - 8) | 2**254


def signatures() -> list[Row]:
    ada, message = LOGS["room_ada_1"], bytes.fromhex(LOGS["room_ada_1"]["entries"][0]["head_message"])
    key, head = IDS["ada"], bytes.fromhex(ada["entries"][0]["head"])
    r, s = head[:32], int.from_bytes(head[32:], "little")

    def judged(name: str, why: str, valid: bool, signature: bytes, by: bytes = key, over: bytes = message) -> Row:
        return row(name, why, {"user": by.hex(), "message": over.hex(), "signature": signature.hex()}, {"valid": valid})

    def le(number: int) -> bytes:
        return number.to_bytes(32, "little")

    def of_nonce(by: bytes, wanted: Callable[[int], bool], own: int = 0) -> bytes:
        """Return a signature with R = [n]B and S = n + k times `own`, for the first n whose k is wanted."""
        for n in range(7, 1000):
            k = hash_of(packed(times(n, BASE)), by, message)
            if wanted(k):
                return packed(times(n, BASE)) + le((n + k * own) % L)
        raise AssertionError

    small, a = order_8(), scalar(SEEDS["ada"])
    neutral, neutral_again = packed(NEUTRAL), le(P + 1)  # y = 1, and 1 + p for the same point
    signed_neutral = le(1 | 1 << 255)  # y = 1 with the sign of x, which is 0
    shifted = packed(add(unpacked(key), small))  # the key and a point of order 8
    zero, not_zero = (lambda k: k % 8 == 0), (lambda k: k % 8 != 0)
    by_shifted, by_shifted_only_times_8 = of_nonce(shifted, zero, a), of_nonce(shifted, not_zero, a)
    small_r, over_small_r = next(
        (code, over)
        for over in (message[:-1] + bytes([last]) for last in range(256))
        for count in range(1, 8)
        if (hash_of(code := packed(times(count, small)), shifted, over) + count) % 8 == 0
    )
    by_small_r = small_r + le(hash_of(small_r, shifted, over_small_r) * a % L)
    neutral_r = [code + le(hash_of(code, key, message) * a % L) for code in (neutral, neutral_again, signed_neutral)]
    off = packed(add(unpacked(r), small))
    off_by_8 = off + le((s + (hash_of(off, key, message) - hash_of(r, key, message)) * a) % L)
    no_point = next(
        le(y) for y in range(2, 100) if pow((y * y - 1) * pow(D * y * y + 1, -1, P), (P - 1) // 2, P) == P - 1
    )
    first = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    made = [
        ("RFC 8032, test 1", "The empty message.", first, b""),
        ("a head", "What an author signs.", SEEDS["ada"], message),
    ]
    rows = []
    for name, why, seed, signed in made:
        public = packed(times(scalar(seed), BASE))
        nonce = int.from_bytes(hashlib.sha512(hashlib.sha512(seed).digest()[32:] + signed).digest(), "little") % L
        code = packed(times(nonce, BASE))
        signature = code + le((nonce + hash_of(code, public, signed) * scalar(seed)) % L)
        rows.append(
            row(
                name,
                why,
                {"seed": seed.hex(), "message": signed.hex()},
                {"user": public.hex(), "signature": signature.hex()},
            )
        )
    assert rows[1]["result"]["signature"] == head.hex()
    small_why = "A key is not of small order: anyone can sign for it, and the equation holds."
    cofactor = "The equation has no cofactor: it must hold, and not only times 8."
    equal = "The verifier computes [S]B - [k]A and compares its encoding with the bytes of R."
    return [
        *rows,
        judged("good", "The author's signature.", True, head),
        judged("another user", "It is another's key.", False, head, IDS["bob"]),
        judged("another number", "The number is signed.", False, head, over=message[:87] + u64(2) + message[95:]),
        judged("another log", "The run is signed.", False, head, over=message[:79] + RUNS["ada2"] + message[87:]),
        judged("another tag", "The tag is signed.", False, head, over=b"p2pchat/mark/1\0" + message[15:]),
        judged("R changed", "One bit is wrong.", False, bytes([r[0] ^ 1]) + head[1:]),
        judged("S changed", "One bit is wrong.", False, head[:32] + bytes([head[32] ^ 1]) + head[33:]),
        judged("S + L", "S is below L, the order of the base point.", False, r + le(s + L)),
        judged("63 bytes", "A signature has 64 bytes.", False, head[:63]),
        judged("a key that is no point", "No x belongs to this y.", False, head, no_point),
        judged("a point of order 8 added to R", f"{equal} They differ.", False, off_by_8),
        judged("R is the neutral point", "R is not of small order, although the equation holds.", False, neutral_r[0]),
        judged("R is the neutral point, written as p + 1", f"{equal} They differ.", False, neutral_r[1]),
        judged("R is the neutral point, with the sign bit", f"{equal} They differ.", False, neutral_r[2]),
        judged(
            "R is of small order, a key with a part of order 8", "The same.", False, by_small_r, shifted, over_small_r
        ),
        judged("a key with a part of order 8, k divisible by 8", "Its order is not small.", True, by_shifted, shifted),
        judged("a key with a part of order 8", cofactor, False, by_shifted_only_times_8, shifted),
        *(
            judged(
                f"the key {name}", small_why if " T" in name else "The y of a key is below p.", False, signature, code
            )
            for name, code in no_keys().items()
            for signature in [of_nonce(code, zero) if " T" in name else head]
        ),
    ]


# Clocks


def clocks() -> list[Row]:
    minute = 60 * 1_000_000
    rows = [
        ("a first entry", "The local time.", T0, 0, [], T0),
        ("an older entry of this log", "The local time is larger.", T0, T0 - 1, [], T0),
        ("the same moment", "The previous clock of this log and 1.", T0, T0, [], T0 + 1),
        ("a clock set back", "The previous clock of this log and 1.", T0, T0 + 90 * minute, [], T0 + 90 * minute + 1),
        ("older entries of others", "The local time is larger.", T0, 0, [T0 - 5, T0 - 9], T0),
        ("an entry of another at the same moment", "The newest other clock and 1.", T0, 0, [T0], T0 + 1),
        ("another's clock is ahead", "The newest other clock and 1.", T0, 5, [T0 + 7, T0 + 3], T0 + 8),
        ("five minutes ahead", "It counts.", T0, 0, [T0 + 5 * minute], T0 + 5 * minute + 1),
        ("more than five minutes ahead", "It does not count.", T0, 0, [T0 + 5 * minute + 1], T0),
        ("one of two is too far ahead", "The other one counts.", T0, 0, [T0 + 6 * minute, T0 + 4], T0 + 5),
    ]
    return [
        row(name, why, {"now": now, "previous": previous, "others": others}, {"c": c})
        for name, why, now, previous, others, c in rows
    ]
