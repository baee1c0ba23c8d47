"""Keys, hashes, logs and frames of the test vectors, computed by docs/protocol.md without code of p2pchat.

Only the standard library and `cryptography` are used here and in the other modules that make vectors. Users, networks
and runs are fixed, so that the same bytes come out each time.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

T0 = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC, in microseconds
USERS = ("ada", "bob", "cyd", "guest")  # guest is a user hosted by ada's peer

Row = dict[str, Any]  # one vector: name, why, given, result


def row(name: str, why: str, given: object, result: object) -> Row:
    return {"name": name, "why": why, "given": given, "result": result}


def blake(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=32).digest()


def b32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


SEEDS = {name: bytes([i]) * 32 for i, name in enumerate(USERS, 1)}
KEYS = {name: Ed25519PrivateKey.from_private_bytes(seed) for name, seed in SEEDS.items()}
IDS = {name: key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) for name, key in KEYS.items()}
ADA, BOB, CYD, GUEST = (IDS[name].hex() for name in USERS)
MEMBERS = ("founder", "admin", "member")  # keys that answer for users: bob's login is `member`, ada's is the founder's
SEEDS |= {name: bytes([0x20 + i]) * 32 for i, name in enumerate(MEMBERS, 1)}
KEYS |= {name: Ed25519PrivateKey.from_private_bytes(SEEDS[name]) for name in MEMBERS}
IDS |= {name: KEYS[name].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) for name in MEMBERS}
FOUNDER, ADMIN, MEMBER = (IDS[name].hex() for name in MEMBERS)
N = hashlib.blake2b(b"p2pchat/network/2\0" + IDS["founder"], digest_size=16).digest()
K = bytes(range(100, 132))
RUNS = {name: bytes([0x10 * i]) * 7 + bytes([i]) for i, name in enumerate(("ada1", "ada2", "bob1", "cyd1"), 1)}
FIRST_ID, LAST_ID = "0" * 64, "f" * 64

# Conversations

ROOM = blake(b"p2pchat/room/1\0", N)
DM = blake(b"p2pchat/dm/2\0", ROOM, *sorted((IDS["ada"], IDS["bob"])))
Entry = list[Any]  # a clock and a text
CREATE_BODY = {"k": "create", "who": {ADA: [], BOB: []}, "name": "ops", "salt": bytes(range(200, 216)).hex()}
CREATE: Entry = [T0 + 50, compact({"k": "group", "at": T0 + 50, "b": CREATE_BODY})]
GROUP = blake(
    b"p2pchat/group/3\0",
    blake(ROOM + IDS["ada"], u64(CREATE[0]), blake(b"p2pchat/text/1\0", CREATE[1].encode())),
)
TALK = blake(b"p2pchat/talk/1\0", GROUP)
NAMINGS: dict[str, Any] = {
    "room": {"room": True},
    "dm": {"dm": sorted((ADA, BOB))},
    "group": {"group": [GROUP.hex(), ADA, ""]},  # and the run of the log that makes it, below
    "talk": {"talk": GROUP.hex()},
}

# Entries and logs


def entry(kind: str, at: int, body: object = None, *, clock: int | None = None, **fields: object) -> Entry:
    """Return an entry: its clock, and its JSON: k, at, re, after, b, without empty values."""
    made: dict[str, object] = {"k": kind, "at": T0 + at}
    made |= {key: fields[key] for key in ("re", "after") if key in fields}
    return [
        T0 + (at if clock is None else clock),
        compact(made | ({} if body is None else {"b": body})),
    ]


def text_proof(text: str) -> bytes:
    """Return what stands for a text in the chain."""
    return blake(b"p2pchat/text/1\0", text.encode("utf-8", "surrogatepass"))


def certificate(member: str, user: str, network: bytes = N) -> list[str]:
    """Return the certificate by which a member answers for a user."""
    return [IDS[member].hex(), KEYS[member].sign(b"p2pchat/guest/1\0" + network + IDS[user]).hex()]


def log(
    conversation: bytes, user: str, run: bytes, texts: list[Entry], *, before: list[Any] | None = None,
    by: list[str] | None = None, header: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Return one log with everything that is computed from it. With `header` it begins with this text."""
    id72 = conversation + IDS[user] + run
    said = {"u": IDS[user].hex(), "c": conversation.hex(), "r": run.hex(), "before": before or []}
    header = header or compact(said | ({"by": by} if by else {}))
    chain = chain_0 = blake(b"p2pchat/log/2\0", header.encode())
    prefix = b32(conversation[:16] + IDS[user][:16] + run)
    entries = []
    for seq, (clock, text) in enumerate(texts, 1):
        chain = blake(chain, u64(clock), text_proof(text))
        message = b"p2pchat/head/1\0" + id72 + u64(seq) + chain
        entries.append(
            {
                "seq": seq,
                "entry": [clock, text],
                "chain": chain.hex(),
                "head_message": message.hex(),
                "head": KEYS[user].sign(message).hex(),
                "mark": [run.hex(), seq, chain.hex()],
                "mark_hash": blake(b"p2pchat/mark/1\0", id72, u64(seq), chain).hex(),
                "message_id": f"{prefix}.{seq}",
            }
        )
    return {
        "conversation": conversation.hex(),
        "user": IDS[user].hex(),
        "run": run.hex(),
        "id72": id72.hex(),
        "ref": (IDS[user][:16] + run).hex(),
        "before": before or [],
        "by": by,
        "header": header,
        "chain_0": chain_0.hex(),
        "message_id_prefix": prefix,
        "entries": entries,
    }


def fact(user: str, one: Entry, before: list[Any] | None = None, *, conversation: bytes = GROUP) -> dict[str, Any]:
    """Return the log with a fact of the group, whose run is a hash of all else in it."""
    header = compact({"u": IDS[user].hex(), "c": conversation.hex(), "r": "", "before": before or []})
    chain = blake(blake(b"p2pchat/log/2\0", header.encode()), u64(one[0]), text_proof(one[1]))
    run = hashlib.blake2b(b"p2pchat/fact/1\0" + chain, digest_size=8).digest()
    return log(conversation, user, run, [one], before=before)


def said(kind: str, at: int, who: dict[str, list[str]] | None = None, **fields: Any) -> Entry:
    """Return the entry of a fact."""
    return entry("group", at, {"k": kind} | ({"who": who} if who else {}) | fields)


def tip(log: dict[str, Any]) -> list[Any]:
    mark: list[Any] = log["entries"][-1]["mark"]
    return mark


def sum_of_set(what: str, hashes: Iterable[str]) -> str:
    """Return the sum of hashes in their order; it is 0 of none."""
    data = bytes.fromhex("".join(hashes))
    return blake(f"p2pchat/{what}/1\0".encode(), data).hex() if data else "0" * 64


def sum_of(logs: Iterable[dict[str, Any]]) -> str:
    """Return the sum of the newest entries of these logs of one conversation, as in a digest."""
    return sum_of_set("tips", sorted(log["entries"][-1]["mark_hash"] for log in logs))


def total_of(logs: Sequence[dict[str, Any]]) -> str:
    """Return the sum of everything, where these logs are shared."""
    ids = sorted({log["conversation"] for log in logs})
    return sum_of_set("shared", [sum_of(log for log in logs if log["conversation"] == id) for id in ids])


def entries_frame(log: dict[str, Any], first: int, last: int, **more: object) -> dict[str, Any]:
    part = log["entries"][first - 1 : last]
    return (
        {
            "t": "entries",
            "c": log["conversation"],
            "u": log["user"],
            "r": log["run"],
            "first": first,
            "prev": log["entries"][first - 2]["chain"] if first > 1 else log["chain_0"],
            "e": [entry["entry"] for entry in part],
            "head": part[-1]["head"],
        }
        | ({"h": log["header"]} if first == 1 or "fork" in more else {})
        | more
    )


def framed(text: str | bytes) -> bytes:
    """Return a payload with its length in front."""
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(4, "big") + data


def _logs() -> dict[str, dict[str, Any]]:
    made = {
        "room_ada_1": log(
            ROOM,
            "ada",
            RUNS["ada1"],
            [
                entry("profile", 0, {"name": "ada"}),
                entry("text", 1_000, "hello, mesh"),
                entry(
                    "text",
                    2_000,
                    'quotes " and \\, a tab\t, a line\nbreak, \u00e9 \u4e2d \U0001f600, \x1f and \x7f',
                    clock=2_500,
                ),
            ],
        )
    }
    ada_1 = made["room_ada_1"]
    made["room_bob_1"] = log(
        ROOM,
        "bob",
        RUNS["bob1"],
        [
            entry("profile", 2_900, {"name": "bob", "about": "listens"}, after=[[ada_1["ref"], 3]]),
            entry("text", 3_000, "hello, ada", re=[ada_1["ref"], 2]),
            entry("action", 3_500, "waves"),
            entry("reaction", 3_600, "\U0001f44d", re=[ada_1["ref"], 3]),
        ],
    )
    bob_1 = made["room_bob_1"]
    made["room_ada_2"] = log(
        ROOM,
        "ada",
        RUNS["ada2"],
        [
            entry("profile", 9_000, {"name": "ada"}, after=[[bob_1["ref"], 4]]),
            entry("edit", 9_100, "hello, everybody", re=[ada_1["ref"], 2]),
            entry("delete", 9_200, re=[ada_1["ref"], 3]),
        ],
        before=[tip(ada_1)],
    )
    by_hand = f'{{"b":"by hand", "at":{T0},"k":"text","later":[1]}}'
    made["room_cyd_1"] = log(ROOM, "cyd", RUNS["cyd1"], [[T0, by_hand]])
    odd = [entry("profile", 0, {"name": "guest"}), [T0 + 1, "no entry"], [T0 + 2, ""]]
    made["room_guest_1"] = log(ROOM, "guest", b"\x50" * 8, odd, by=certificate("ada", "guest"))
    made["dm_ada_2"] = log(DM, "ada", RUNS["ada2"], [entry("text", 10_000, "psst")])
    made["group_ada_2"] = fact("ada", CREATE)
    NAMINGS["group"]["group"][2] = made["group_ada_2"]["run"]
    made["talk_bob_1"] = log(TALK, "bob", RUNS["bob1"], [entry("text", 12_000, "deploying")])
    return made


LOGS = _logs()
TIPS = {  # room_ada_1 is covered by room_ada_2
    "room": ["room_ada_2", "room_bob_1", "room_cyd_1"],
    "dm": ["dm_ada_2"],
    "group": ["group_ada_2"],
    "talk": ["talk_bob_1"],
}
