"""Generator of wire.json: what every peer of version 1, in any language, must compute and send, byte for byte.

It follows docs/protocol.md and uses no code of p2pchat, only the standard library and `cryptography`. Run it with
`python tests/golden/make.py`; `--check` compares the file with its output. All binary values are lower-case hex;
`_text` values are the exact text. The file contains:

    users            name -> seed (the private key), id (the public key), base32, ref (first 8 bytes of the id)
    network          n, k: the 16-byte id and the 32-byte key
    conversations    room, dm, group, talk -> id and naming; of the group also its create entry and owner
    logs             by name -> conversation, user, run, id72 (those three in a row), ref (hex16 for `re` and `after`),
                     chain_0, message_id_prefix, and entries: each with seq, text (exact JSON), chain (after it),
                     head_message, head (the signature), mark (chain8 is its third part), mark_hash, message_id
    digests          by conversation, and `everything` over all of them: the sums over the newest entry of each tip;
                     `tips` names the logs that count (a covered one does not)
    handshake        one for a network with a key (`keyed`), one for an open one (`open`): nonces, transcript, sig,
                     client_message, server_message and the proofs (absent when open)
    host             a certificate: message, sig, and the object used in `here`
    invites          version_1, version_2 -> bytes, sum, endpoints, text; `same`: other spellings of version 1;
                     `broken`: invalid invites
    discovery        announcements of ada's, of a network with a key (`keyed`) and an open one (`open`): key, port,
                     addresses (in any order), salt, mask, message (what m is over), and txt, the TXT record
    frames           list of name, json, bytes (length and JSON), early (may come before `go`)
    file             room, bytes: a whole file of entries, written as by `p2pchat export`
    accepted         list of why, bytes, and `frame`: the name of the frame above that it must be read as, or `unknown`
    refused          list of why, bytes, code: the code of the `bye`; after: 4096 or 262144, the frame limit in force
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FILE = Path(__file__).with_name("wire.json")
T0 = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC, in microseconds
NAMES = ("ada", "bob", "cyd", "guest")  # guest is a user hosted by ada's peer


def blake(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=32).digest()


def b32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, name in enumerate(NAMES, 1)}
IDS = {name: key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) for name, key in KEYS.items()}
SEEDS = {name: bytes([i]) * 32 for i, name in enumerate(NAMES, 1)}
N, K = bytes(range(16)), bytes(range(100, 132))
RUNS = {name: bytes([0x10 * i]) * 7 + bytes([i]) for i, name in enumerate(("ada1", "ada2", "bob1", "cyd1"), 1)}


def users() -> dict[str, Any]:
    return {
        name: {"seed": SEEDS[name].hex(), "id": IDS[name].hex(), "base32": b32(IDS[name]), "ref": IDS[name][:8].hex()}
        for name in NAMES
    }


# Conversations

ROOM = blake(b"p2pchat/room/1\0", N)
DM = blake(b"p2pchat/dm/1\0", *sorted((IDS["ada"], IDS["bob"])))
CREATE = compact(
    {
        "k": "group",
        "at": T0 + 50,
        "c": T0 + 50,
        "b": {
            "gen": 1,
            "name": "ops",
            "owner": IDS["ada"].hex(),
            "members": {IDS["ada"].hex(): 1, IDS["bob"].hex(): 1},
            "cuts": [],
            "salt": bytes(range(200, 216)).hex(),
        },
    }
)
GROUP = blake(b"p2pchat/group/1\0", CREATE.encode())
TALK = blake(b"p2pchat/talk/1\0", GROUP)
NAMINGS = {
    "room": {"room": True},
    "dm": {"dm": sorted((IDS["ada"].hex(), IDS["bob"].hex()))},
    "group": {"group": [GROUP.hex(), IDS["ada"].hex(), RUNS["ada2"].hex()]},
    "talk": {"talk": GROUP.hex()},
}
CONVERSATIONS = {"room": ROOM, "dm": DM, "group": GROUP, "talk": TALK}


def conversations() -> dict[str, Any]:
    made: dict[str, Any] = {name: {"id": id.hex(), "naming": NAMINGS[name]} for name, id in CONVERSATIONS.items()}
    made["group"] |= {"create_text": CREATE, "owner": IDS["ada"].hex()}
    return made


# Logs


def entry(kind: str, at: int, body: object = None, **fields: object) -> str:
    """Return an entry's JSON: k, at, c, re, after, before, g, b, without empty values."""
    made: dict[str, object] = {"k": kind, "at": T0 + at, "c": T0 + fields.pop("clock", at)}  # type: ignore[operator]
    made |= {key: fields[key] for key in ("re", "after", "before", "g") if key in fields}
    return compact(made | ({} if body is None else {"b": body}))


def log(conversation: str, user: str, run: str, texts: list[str]) -> dict[str, Any]:
    """Return one log with everything that is computed from it."""
    id72 = CONVERSATIONS[conversation] + IDS[user] + RUNS[run]
    chain = chain_0 = blake(b"p2pchat/log/1\0", id72)
    prefix = b32(CONVERSATIONS[conversation][:8] + IDS[user][:8] + RUNS[run])
    entries = []
    for seq, text in enumerate(texts, 1):
        chain = blake(chain, text.encode())
        message = b"p2pchat/head/1\0" + id72 + u64(seq) + chain
        entries.append(
            {
                "seq": seq,
                "text": text,
                "chain": chain.hex(),
                "head_message": message.hex(),
                "head": KEYS[user].sign(message).hex(),
                "mark": [RUNS[run].hex(), seq, chain[:8].hex()],
                "mark_hash": blake(b"p2pchat/mark/1\0", id72, u64(seq), chain[:8]).hex(),
                "message_id": f"{prefix}.{seq}",
            }
        )
    return {
        "conversation": CONVERSATIONS[conversation].hex(),
        "user": IDS[user].hex(),
        "run": RUNS[run].hex(),
        "id72": id72.hex(),
        "ref": (IDS[user][:8] + RUNS[run]).hex(),
        "chain_0": chain_0.hex(),
        "message_id_prefix": prefix,
        "entries": entries,
    }


def tip(log: dict[str, Any]) -> list[Any]:
    mark: list[Any] = log["entries"][-1]["mark"]
    return mark


def logs() -> dict[str, dict[str, Any]]:
    made = {
        "room_ada_1": log(
            "room",
            "ada",
            "ada1",
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
        "room",
        "bob",
        "bob1",
        [
            entry("profile", 2_900, {"name": "bob", "about": "listens"}, after=[[ada_1["ref"], 3]]),
            entry("text", 3_000, "hello, ada", re=[ada_1["ref"], 2]),
            entry("action", 3_500, "waves"),
            entry("reaction", 3_600, "\U0001f44d", re=[ada_1["ref"], 3]),
        ],
    )
    bob_1 = made["room_bob_1"]
    made["room_ada_2"] = log(
        "room",
        "ada",
        "ada2",
        [
            entry("profile", 9_000, {"name": "ada"}, after=[[bob_1["ref"], 4]], before=[tip(ada_1)]),
            entry("edit", 9_100, "hello, everybody", re=[ada_1["ref"], 2]),
            entry("delete", 9_200, re=[ada_1["ref"], 3]),
        ],
    )
    made["room_cyd_1"] = log("room", "cyd", "cyd1", [f'{{"b":"by hand", "c":{T0},"at":{T0},"k":"text","later":[1]}}'])
    made["dm_ada_2"] = log("dm", "ada", "ada2", [entry("text", 10_000, "psst")])
    made["group_ada_2"] = log("group", "ada", "ada2", [CREATE])
    cited = [1, GROUP[:8].hex()]  # the create entry is operation 1, and its hash is G
    made["talk_bob_1"] = log("talk", "bob", "bob1", [entry("text", 12_000, "deploying", g=cited)])
    return made


LOGS = logs()
TIPS = {  # room_ada_1 is covered by room_ada_2
    "room": ["room_ada_2", "room_bob_1", "room_cyd_1"],
    "dm": ["dm_ada_2"],
    "group": ["group_ada_2"],
    "talk": ["talk_bob_1"],
}


def sum_of(names: list[str]) -> str:
    total = sum(int(LOGS[name]["entries"][-1]["mark_hash"], 16) for name in names)
    return (total % 2**256).to_bytes(32, "big").hex()


def digests() -> dict[str, Any]:
    by_conversation = {name: {"tips": tips, "sum": sum_of(tips)} for name, tips in TIPS.items()}
    return by_conversation | {"everything": {"sum": sum_of([tip for tips in TIPS.values() for tip in tips])}}


# Handshake, host certificate, invites


def handshake(key: bytes | None) -> dict[str, Any]:
    """Return the handshake of bob dialling ada."""
    server_nonce, client_nonce = blake(b"server nonce"), blake(b"client nonce")
    transcript = b"p2pchat/link/1\0" + b"\0\1" + IDS["ada"] + IDS["bob"] + server_nonce + client_nonce
    made: dict[str, Any] = {
        "server": "ada",
        "client": "bob",
        "version": 1,
        "server_nonce": server_nonce.hex(),
        "client_nonce": client_nonce.hex(),
        "transcript": transcript.hex(),
        "sig": KEYS["bob"].sign(transcript).hex(),
    }
    for side in ("client", "server") if key else ():
        message = b"p2pchat/invite/1 " + side.encode() + b"\0" + transcript
        made[f"{side}_message"] = message.hex()
        made[f"{side}_proof"] = hmac.new(key or b"", message, hashlib.sha256).hexdigest()
    return made


def host() -> dict[str, Any]:
    from_ms, until_ms = T0 // 1000, T0 // 1000 + 7 * 24 * 3600 * 1000
    message = b"p2pchat/host/1\0" + IDS["guest"] + IDS["ada"] + u64(from_ms) + u64(until_ms)
    sig = KEYS["guest"].sign(message).hex()
    cert = {"from": from_ms, "until": until_ms, "sig": sig}
    return {"user": "guest", "peer": "ada", "message": message.hex(), "sig": sig, "cert": cert}


def announcement(key: bytes) -> dict[str, Any]:
    """Return ada's announcement on the local network."""
    salt, port, addresses = blake(b"discovery salt")[:16], 8080, ["2001:db8::7", "192.0.2.10", "192.0.2.7"]
    mask = hmac.digest(key, b"p2pchat/discover/1 peer\0" + salt, "sha256")
    hidden = bytes(a ^ b for a, b in zip(IDS["ada"], mask, strict=True))
    packed = sorted(ipaddress.ip_address(address).packed for address in addresses)
    message = b"p2pchat/discover/1\0" + salt + hidden + port.to_bytes(2, "big")
    message += b"".join(bytes([len(address)]) + address for address in packed)
    return {
        "peer": "ada",
        "key": key.hex(),
        "port": port,
        "addresses": addresses,
        "salt": salt.hex(),
        "mask": mask.hex(),
        "message": message.hex(),
        "txt": {"v": "1", "s": salt.hex(), "p": hidden.hex(), "m": hmac.digest(key, message, "sha256").hex()},
    }


def invite(version: int, key: bytes) -> dict[str, Any]:
    body = bytes([version]) + IDS["ada"] + N + key
    check = blake(b"p2pchat/invite/1 sum\0", body)[:4]
    endpoints = ["192.0.2.7:8080", "[2001:db8::7]:8080", "ada.example:9000"]
    text = f"p2pchat:{b32(body + check)}@{','.join(endpoints)}"
    return {"bytes": (body + check).hex(), "sum": check.hex(), "endpoints": endpoints, "text": text}


def invites() -> dict[str, Any]:
    one = invite(1, K)
    text = one["text"]
    code, _, where = text.removeprefix("p2pchat:").partition("@")
    other = "A" if code[40] != "A" else "B"
    return {
        "version_1": one,
        "version_2": invite(2, b""),
        "same": [text.lower(), f"  {text[:50]}\r\n  {text[50:90]} {text[90:]}\n"],
        "broken": [
            f"p2pchat:{code[:40]}{other}{code[41:]}@{where}",  # one letter wrong
            f"p2pchat:{code[:-8]}@{where}",  # too short
            f"p2pchat:{code}",  # no endpoint
            f"p2pchat:{code[:40]}1{code[41:]}@{where}",  # 1 is no base32 digit
            f"other:{code}@{where}",
            "",
        ],
    }


# Frames


def framed(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(4, "big") + data


def entries_frame(name: str, first: int, last: int, **more: object) -> dict[str, Any]:
    log = LOGS[name]
    part = log["entries"][first - 1 : last]
    return {
        "t": "entries",
        "c": log["conversation"],
        "u": log["user"],
        "r": log["run"],
        "first": first,
        "prev": log["entries"][first - 2]["chain"] if first > 1 else log["chain_0"],
        "e": [entry["text"] for entry in part],
        "head": part[-1]["head"],
    } | more


def read_sum(marks: list[tuple[bytes, bytes, str, int]]) -> str:
    """Return the sum of read marks: conversation, reader, reference of the log, last entry read."""
    hashes = [
        blake(b"p2pchat/read/1\0", conversation, reader, bytes.fromhex(ref), seq.to_bytes(8, "big"))
        for conversation, reader, ref, seq in marks
    ]
    return f"{sum(int.from_bytes(one, 'big') for one in hashes) % 2**256:064x}"


def frame_objects() -> dict[str, dict[str, Any]]:
    ada, bob, cyd = (IDS[name].hex() for name in ("ada", "bob", "cyd"))
    room, dm, talk = ROOM.hex(), DM.hex(), TALK.hex()
    keyed, open_ = handshake(K), handshake(None)
    span = ["0" * 64, "f" * 64]
    bob_mark, ada_mark, old_mark = tip(LOGS["room_bob_1"]), tip(LOGS["room_ada_2"]), tip(LOGS["room_ada_1"])
    hello = {"v": 1, "nonce": keyed["client_nonce"], "id": bob, "sig": keyed["sig"]}
    return {
        "hello_server": {"t": "hello", "v": [1], "nonce": keyed["server_nonce"]},
        "hello_client_keyed": {"t": "hello"} | hello | {"proof": keyed["client_proof"]},
        "hello_client_open": {"t": "hello"} | hello | {"sig": open_["sig"]},
        "welcome_keyed": {"t": "welcome", "proof": keyed["server_proof"]},
        "welcome_open": {"t": "welcome", "net": N.hex()},
        "go": {"t": "go", "run": RUNS["ada2"].hex(), "n": 1},
        "ping": {"t": "ping"},
        "pong": {"t": "pong"},
        "bye_left": {"t": "bye", "code": "left"},
        "bye_limit": {"t": "bye", "code": "limit", "text": "a frame has 300000 bytes, the limit is 262144"},
        "peers_first": {
            "t": "peers",
            "port": 8080,
            "at": ["192.0.2.7:8080", "[2001:db8::7]:8080"],
            "linked": [[cyd, ["192.0.2.9:8082"]]],
        },
        "peers_change": {"t": "peers", "port": 0, "at": [], "gone": [cyd]},
        "here_own": {"t": "here", "users": [{"id": ada, "name": "ada", "status": "online"}]},
        "here_gateway": {
            "t": "here",
            "users": [
                {"id": ada, "name": "ada", "status": "idle", "text": "à table", "since": T0},
                {"id": IDS["guest"].hex(), "name": "guest", "status": "online", "cert": host()["cert"]},
            ],
            "gone": [cyd],
            "more": True,
        },
        "digest_sum": {"t": "digest", "sum": digests()["everything"]["sum"], "names": [NAMINGS["room"]]},
        "digest_ask": {"t": "digest", "sum": digests()["everything"]["sum"], "ask": True},
        "digest_sums": {
            "t": "digest",
            "sums": {room: sum_of(TIPS["room"]), dm: sum_of(TIPS["dm"])},
            "span": span,
            "names": [NAMINGS["room"], NAMINGS["dm"]],
        },
        "have_ack": {"t": "have", "marks": {room: {bob: [bob_mark]}}},
        "have_page": {"t": "have", "marks": {room: {ada: [ada_mark], bob: []}}, "span": span, "ask": True},
        "have_end": {"t": "have", "marks": {room: {ada: [ada_mark]}}, "end": 7},
        "have_full": {"t": "have", "marks": {}, "full": {room: [cyd]}},
        "want_all": {"t": "want", "n": 7, "c": room, "u": ada, "tips": []},
        "want_from": {"t": "want", "n": 8, "c": room, "u": ada, "tips": [ada_mark], "older": [ada_mark, old_mark]},
        "want_group": {
            "t": "want",
            "n": 9,
            "c": GROUP.hex(),
            "u": ada,
            "tips": [],
            "names": [NAMINGS["group"], NAMINGS["talk"]],
        },
        "entries_whole_log": entries_frame("room_ada_1", 1, 3, n=7),
        "entries_tail": entries_frame("room_bob_1", 3, 4),
        "entries_named": entries_frame("dm_ada_2", 1, 1, names=[NAMINGS["dm"]]),
        "entries_by_hand": entries_frame("room_cyd_1", 1, 1),
        "entries_fork": entries_frame("room_ada_1", 2, 2, fork=True),
        "read": {"t": "read", "marks": {room: {bob: [[ada[:16] + RUNS["ada2"].hex(), 2]]}}},
        "read_page": {"t": "read", "marks": {room: {bob: []}}, "span": [room, "f" * 64]},
        "read_ask": {"t": "read", "marks": {}, "ask": True},
        "read_sum": {"t": "read", "marks": {}, "sum": read_sum([(ROOM, IDS["bob"], ada[:16] + RUNS["ada2"].hex(), 2)])},
        "typing_on": {"t": "typing", "c": talk, "u": bob, "on": True},
        "typing_off": {"t": "typing", "c": talk, "u": bob, "on": False},
        "file": {"t": "file", "v": 1, "room": room},
        "file_end": {"t": "file_end", "entries": len(LOGS["room_ada_1"]["entries"]) + 1},
    }


FRAMES = frame_objects()
EARLY = ("hello", "welcome", "go", "bye")


def frames() -> list[dict[str, Any]]:
    made = []
    for name, value in FRAMES.items():
        text = compact(value)
        made.append({"name": name, "json": text, "bytes": framed(text).hex(), "early": value["t"] in EARLY})
    return made


def carried() -> dict[str, Any]:
    """Return a whole file: a log of the room and the first entry of one in a direct conversation."""
    log = LOGS["room_ada_1"]
    whole = entries_frame("room_ada_1", 1, len(log["entries"]), names=[NAMINGS["room"]])
    parts = [FRAMES["file"], whole, FRAMES["entries_named"], FRAMES["file_end"]]
    return {"room": ROOM.hex(), "bytes": b"".join(framed(compact(part)) for part in parts).hex()}


def accepted() -> list[dict[str, str]]:
    typing, want = FRAMES["typing_on"], FRAMES["want_all"]
    rows = [
        ("other order of keys, blanks", "typing_on", json.dumps(dict(reversed(typing.items())), indent=1)),
        ("unknown field", "typing_on", compact(typing | {"later": {"t": ["x", 1.5, None, 2**53 - 1]}})),
        ("sixteen deep", "ping", '{"t":"ping","x":' + "[" * 15 + "]" * 15 + "}"),
        ("repeated key, the last counts", "want_all", compact(want)[:-1] + ',"n":8,"n":7}'),
        ("repeated key, the first of another type", "want_all", '{"n":"x",' + compact(want)[1:]),
        ("repeated t, the last counts", "pong", '{"t":"ping","t":"pong"}'),
        ("a key spelled with an escape", "ping", '{"\\u0074":"\\u0070ing"}'),
        ("unknown field inside", "here_own", compact(FRAMES["here_own"])[:-3] + ',"later":[0]}]}'),
        ("naming of an unknown kind", "digest_sum", compact(FRAMES["digest_sum"])[:-2] + ',{"later":[0]}]}'),
        ("unknown type", "unknown", '{"t":"later","x":1}'),
        ("unknown type with a field of ours", "unknown", '{"t":"later","port":"x"}'),
    ]
    return [{"why": why, "frame": frame, "bytes": framed(text).hex()} for why, frame, text in rows]


def refused() -> list[dict[str, Any]]:
    def without(name: str, key: str) -> str:
        return compact({k: v for k, v in FRAMES[name].items() if k != key})

    def having(name: str, **fields: object) -> str:
        return compact(FRAMES[name] | fields)

    span = ["f" * 64, "0" * 64]
    guest = FRAMES["here_gateway"]["users"][1]
    room = ROOM.hex()
    malformed: list[tuple[str, str | bytes]] = [
        ("no JSON", "ping"),
        ("an array", "[]"),
        ("two values", '{"t":"ping"}{}'),
        ("no t", "{}"),
        ("t is a number", '{"t":1}'),
        ("a byte order mark", b"\xef\xbb\xbf" + b'{"t":"ping"}'),
        ("no UTF-8", b'{"t":"bye","code":"\xff"}'),
        ("no UTF-8 in an unknown field", b'{"t":"ping","x":"\xff"}'),
        ("a surrogate in UTF-8", b'{"t":"ping","x":"\xed\xa0\x80"}'),
        ("a lone surrogate", '{"t":"ping","x":"\\ud800"}'),
        ("surrogates in the wrong order", '{"t":"bye","code":"\\ude00\\ud83d"}'),
        ("a control character", '{"t":"bye","code":"a\nb"}'),
        ("NaN", '{"t":"ping","x":NaN}'),
        ("infinity", '{"t":"ping","x":-Infinity}'),
        ("a number that overflows", '{"t":"ping","x":1e999}'),
        ("2^53", having("want_all", n=2**53)),
        ("2^53 in an unknown field", '{"t":"ping","x":[-9007199254740992]}'),
        ("2^53 inside a user", compact(FRAMES["here_own"])[:-3] + ',"later":9007199254740992}]}'),
        ("2^53 inside a naming", compact(FRAMES["digest_sum"])[:-3] + ',"later":9007199254740992}]}'),
        (
            "2^53 inside a certificate",
            having("here_gateway", users=[guest | {"cert": guest["cert"] | {"later": 2**53}}]),
        ),
        ("seventeen deep", '{"t":"ping","x":' + "[" * 16 + "]" * 16 + "}"),
        ("a very deep one", '{"t":"ping","x":' + "[" * 2000 + "]" * 2000 + "}"),
        ("1.0 for an integer", having("want_all", n=1.0)),
        ("true for an integer", having("want_all", n=True)),
        ("1 for true", having("typing_on", on=1)),
        ("a field missing", without("typing_on", "u")),
        ("upper-case hex", having("typing_on", u=IDS["bob"].hex().upper())),
        ("hex with a line break", having("typing_on", u=IDS["bob"].hex() + "\n")),
        ("hex too short", having("entries_tail", prev="00")),
        ("upper-case hex in entries", having("entries_tail", prev="AB" * 32)),
        ("an entry that is an object", having("entries_tail", e=[{}])),
        ("no entry", having("entries_tail", e=[])),
        ("entry 0", having("entries_tail", first=0)),
        ("an entry number that overflows", having("entries_tail", first=2**53 - 1, e=["{}", "{}"])),
        ("a mark of four parts", having("have_ack", marks={room: {room: [["00" * 8, 1, "00" * 8, 1]]}})),
        ("a negative port", having("peers_first", port=-1)),
        ("port 65536", having("peers_first", port=65536)),
        ("neither sum nor sums", '{"t":"digest"}'),
        ("sum and sums", having("digest_sums", sum="00" * 32)),
        ("sums without span", without("digest_sums", "span")),
        ("a sum with a span", having("digest_sum", span=["0" * 64, "f" * 64])),
        ("a span downwards", having("digest_sums", span=span)),
        ("a span over two conversations", having("have_page", marks={room: {}, "00" * 32: {}})),
        ("a naming of two kinds", having("digest_sum", names=[{"room": True, "talk": room}])),
        ("a dm with its users not sorted", having("digest_sum", names=[{"dm": NAMINGS["dm"]["dm"][::-1]}])),  # type: ignore[index]
        ("a client's hello without sig", without("hello_client_open", "sig")),
        ("a server's hello without versions", having("hello_server", v=[])),
    ]
    rows = [{"why": why, "code": "malformed", "after": 2**18, "bytes": framed(text).hex()} for why, text in malformed]
    rows.append({"why": "length 0", "code": "malformed", "after": 2**18, "bytes": "00000000"})
    rows.append({"why": "a length of 4 KiB and 1 before go", "code": "limit", "after": 4096, "bytes": "00001001"})
    rows.append({"why": "a length of 256 KiB and 1", "code": "limit", "after": 2**18, "bytes": "00040001"})
    rows.append({"why": "HTTP", "code": "limit", "after": 4096, "bytes": b"GET / HTTP/1.1\r\n\r\n".hex()})
    long = having("peers_first", at=["a" * 96 + ":8080"])
    rows.append({"why": "an endpoint of 101 bytes", "code": "limit", "after": 2**18, "bytes": framed(long).hex()})
    return rows


def everything() -> str:
    made = {
        "about": "Golden bytes of the p2pchat protocol, version 1. make.py beside this file made and explains it.",
        "users": users(),
        "network": {"n": N.hex(), "k": K.hex()},
        "conversations": conversations(),
        "logs": LOGS,
        "digests": digests(),
        "handshake": {"keyed": handshake(K), "open": handshake(None)},
        "host": host(),
        "invites": invites(),
        "discovery": {
            "keyed": announcement(K),
            "open": announcement(hmac.digest(N, b"p2pchat/discover/1 open\0", "sha256")),
        },
        "frames": frames(),
        "file": carried(),
        "accepted": accepted(),
        "refused": refused(),
    }
    return json.dumps(made, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if FILE.read_text("utf-8") == everything() else f"{FILE.name} is not what this script makes")
    FILE.write_text(everything(), "utf-8", newline="\n")
