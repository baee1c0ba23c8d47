"""Generator of the test vectors in conformance/p2pchat_conformance/vectors, which docs/protocol-vectors.md describes.

`python -m tests.vectors.make` writes the files; `--check` compares them with what it makes. It follows docs/protocol.md
and uses no code of p2pchat, only the standard library and `cryptography`. tests/vectors/test_vectors.py checks p2pchat
against the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.vectors import attachments, choices, entries, frames, groups, handshakes, members, proofs, sync
from tests.vectors.files import FOLDER
from tests.vectors.material import ADA, BOB, CYD, FOUNDER, ROOM, SEEDS, T0, N, Row

FORMAT = 1  # of the files; a reader of this version refuses a later one
PROTOCOL = 3
_USERS = {"ada": {"seed": SEEDS["ada"].hex(), "id": ADA}, "bob": {"seed": SEEDS["bob"].hex(), "id": BOB}}
_CYD = {"cyd": {"seed": SEEDS["cyd"].hex(), "id": CYD}}
_HERE = {"network": N.hex(), "room": ROOM.hex(), "now_us": sync.NOW}
_TEXT = "the text; with `repeat`, ~ in it stands for the first part of `repeat`, as often as the second says"


class VectorFile(NamedTuple):
    """One file. `given` and `result` tell what the fields of its vectors mean; `setting` holds for all of them."""

    about: str
    given: dict[str, str]
    result: dict[str, str]
    vectors: Callable[[], list[Row]]
    setting: dict[str, Any] = {}


FILES = {
    "hashes": VectorFile(
        "Every hash and sum, and the ids that follow from a user's key.",
        {
            "what": "which row of the document's table; `group` is that of the fact that makes it",
            "message": "the bytes to hash, for `blake2b`",
            "of, hashes": "of what a `sum` is, and the hashes in it, in their order",
            "network, room, users, entry, header, group, seed": "what goes in; an entry is its clock and its text",
            "conversation, user, run, seq, chain, previous": "what goes in, by its name in the document",
        },
        {
            "message": "the bytes that are hashed",
            "hash": "BLAKE2b-256 of them",
            "sum": "the hash of them; 0 of none",
            "id, base32, ref": "of a user: the public key, as people see it, and the part of it in references",
        },
        proofs.hashes,
    ),
    "signatures": VectorFile(
        "Ed25519 signatures: made, judged, and at the edges where libraries differ.",
        {"seed, message": "to sign", "user, message, signature": "to judge"},
        {"user, signature": "the public key and what it signs", "valid": "whether a verifier accepts the signature"},
        proofs.signatures,
    ),
    "logs": VectorFile(
        "Whole logs with everything that is computed from them.",
        {
            "conversation, user, run": "the log",
            "seed": "the writer's secret key",
            "before": "the marks that the log builds on",
            "by": "the certificate of the member that answers for the writer; absent for a member",
            "entries": "of each: its clock and its text",
        },
        {
            "id72": "conversation, user and run, as in hashes and signatures",
            "ref": "hex16 of references",
            "header": "the text with which the chain begins",
            "chain_0": "the chain before entry 1",
            "entries": "of each: the chain after it, the message of its head, the head, its mark, mark hash and id",
        },
        entries.logs,
    ),
    "entries": VectorFile(
        "Texts of entries of bob in the room: an example of each row of the tables of docs/protocol-entries.md.",
        {
            "text, repeat": _TEXT,
            "clock": "the clock beside it; absent: 2",
            "clock_before": "it is entry 2, and this is the clock of entry 1; absent: it is entry 1",
        },
        {
            "taken": "true: it is stored, served and acknowledged",
            "effect": "false: nothing else changes by it",
            "shown": "false: it is of an unknown kind, and no message",
            "supported": "false: nobody can read it, and it is shown as unsupported",
            "refused": "the code",
        },
        entries.entries,
        _HERE | _USERS,
    ),
    "facts": VectorFile(
        "Texts of entries of bob in a group: an example of each row of the table of docs/protocol-groups.md. All are"
        " valid entries. Those with an effect have the shape of a fact.",
        {"text": "the text"},
        {"taken": "true: it is stored, served and acknowledged", "effect": "false: nothing else changes by it"},
        entries.facts,
        _USERS,
    ),
    "batches": VectorFile(
        "Batches that reach bob, one at a time.",
        {"held": "`entries` frames that he took before, in this order", "frame": "the one to judge"},
        {
            "new": "entries that are stored now",
            "known": "entries that were held",
            "refused": "the code",
            "dropped": "gap: what is before it is not held, and is fetched",
            "forked": "the log has forked: nothing more of it is taken",
            "ignored": "the conversation is not shared, or the writer is no member",
            "entries": "how many entries were not taken",
        },
        entries.batches,
        _HERE | _USERS | _CYD,
    ),
    "forks": VectorFile(
        "Pairs of `entries` frames with `fork` that ada's peer sends bob about a log of cyd.",
        {"frames": "the pair, in this order"},
        {"forked": "whether the log counts as forked then", "refused": "the code of the bye"},
        entries.forks,
        _HERE | _USERS | _CYD,
    ),
    "clocks": VectorFile(
        "The clock of a new entry.",
        {
            "now": "the local time",
            "previous": "the clock of the entry before it in its log, 0 for none",
            "others": "clocks of the other entries of the conversation",
        },
        {"c": "the clock"},
        proofs.clocks,
    ),
    "frames": VectorFile(
        "Bytes of frames, as p2pchat writes them, in other spellings, and such as are refused.",
        {
            "bytes": "the frame, with its length in front",
            "text, repeat": "instead of `bytes`, without the length: " + _TEXT,
            "limit": "the largest length that is allowed now: 4096 before `go`, 262144 after it",
        },
        {
            "frame": "what it is read as; fields that mean the same as an absent one are left out",
            "written": "p2pchat writes this frame with exactly these bytes",
            "ignored": "the unknown type",
            "refused": "the code of the bye",
        },
        frames.frames,
    ),
    "handshakes": VectorFile(
        "Both ends of the handshake, frame by frame, with fixed keys and nonces.",
        {
            "side": "listener or dialler",
            "seed, nonce": "of this end",
            "network, key": "N and K of this end",
            "founder": "F, if this end knows it",
            "member": "the seed of the member that answers for this end",
            "statements": "those that this end keeps: text and signature",
            "invite": "what this end joins with, if it is no member yet",
            "named": "true: the network is made from a word",
            "server": "the key in the server's certificate, for the dialler",
            "pin": "the key that the dialler expects; absent for any",
            "in": "the frames that come, in this order",
        },
        {
            "out": "the frames that this end sends up to its `go` or `bye`; the listener's first comes before all else",
            "transcript": "T",
            "peer": "the peer that is admitted, and has admitted this end",
            "refused": "the code of the bye; after a wrong pin there is no frame at all",
            "said": "the code of the bye that came",
        },
        handshakes.handshakes,
        {"now_us": T0, "invites_key": members.MAKER_KEY.hex()},
    ),
    "statements": VectorFile(
        "Statements about members: made, and judged as they come.",
        {
            "network": "N",
            "seed, k, at, fields": "to make one",
            "text, signature": "to judge one",
        },
        {
            "text, message, signature": "the statement, and what is signed",
            "id": "its id",
            "signed": "whether its author signed it for this network",
            "effect": "false: of a kind or with fields that are not known, so it is kept and changes nothing",
            "refused": "the code: the text is none",
        },
        members.statements,
    ),
    "members": VectorFile(
        "Sets of statements and what follows from each, in any order. All are signed.",
        {
            "statements": "each with its text and signature",
            "repeat": "a text and a number: each ~ in a text stands for it so many times",
            "guest": "a user that is no member",
            "by": "members that may have signed a certificate for it",
            "named": "members that it has named before, in logs and certificates of its own",
            "invites": "ids of invites",
        },
        {
            "members, admins, removed": "who is what",
            "kept, sum": "the ids that are kept, and their sum",
            "named": "those of `by` of whom logs are taken",
            "admitted": "whether the guest is admitted as a peer with the certificate of each of `by`",
            "closed": "which of the invites admit nobody",
        },
        members.members,
        {"network": N.hex(), "founder": FOUNDER},
    ),
    "guests": VectorFile(
        "Certificates by which a member answers for a user.",
        {"network": "N", "seed, user": "to make one", "guest": "to judge one: the member and its signature"},
        {"message, guest": "what is signed, and the certificate", "valid": "whether that member answers for the user"},
        members.guests,
    ),
    "records": VectorFile(
        "Records in which peers say where they are.",
        {"network": "N", "seed, member, at, e": "to make one", "record": "to judge one: its text and signature"},
        {"message, record": "what is signed, and the record", "valid": "whether its signatures count"},
        members.records,
    ),
    "joins": VectorFile(
        "Secrets of invites, and the proofs with which newcomers join.",
        {
            "key": "of the maker, for the secrets of its invites",
            "network, id, uses, until": "N and the terms",
            "maker, secret, transcript, member": "to prove an invite for this member and connection",
        },
        {"message": "what goes into the HMAC", "secret": "of the invite", "invite": "what the newcomer shows"},
        members.joins,
    ),
    "certificates": VectorFile(
        "Certificates of hosted users.",
        {
            "network": "N",
            "seed, user, peer, from, until": "to make one",
            "user, peer, cert, now_ms": "to judge one, or none, at this time",
        },
        {"message, cert": "what is signed, and the object in `here`", "valid": "whether the peer hosts the user"},
        handshakes.certificates,
    ),
    "invites": VectorFile(
        "Invites as people paste them.",
        {"text": "what is pasted"},
        {
            "maker, network, key, id, uses, until, secret, endpoints": "what it says",
            "written": "p2pchat writes this invite so",
            "refused": "true: it is no invite, or a damaged one",
        },
        handshakes.invites,
    ),
    "networks": VectorFile(
        "Named networks.",
        {"text": "what is typed"},
        {
            "name": "the name in normal form",
            "key, network": "K and N",
            "refused": "true: it is no name of a network",
        },
        handshakes.networks,
    ),
    "discovery": VectorFile(
        "TXT records of announcements on the local network.",
        {
            "peer, key, port, addresses, salt": "to make one",
            "key, txt, port, addresses": "to read one",
        },
        {
            "mask, message, txt": "what hides the peer id, what m is over, and the record",
            "peer": "the peer that announced itself",
            "ignored": "true: nobody of this network did",
        },
        handshakes.discovery,
    ),
    "attachments": VectorFile(
        "Content and its hashes, and the attachments that entries name.",
        {
            "unit, size": "the content: `unit` again and again, cut to `size` bytes",
            "text, repeat": _TEXT,
            "frame": "a frame of bytes, with its length",
        },
        {
            "n, index, data": "what is in the frame",
            "refused": "the code of the bye",
            "leaves, root": "the hashes of the content",
            "files": "the attachments of the message, without unknown keys",
        },
        attachments.attachments,
    ),
    "choices": VectorFile(
        "The choices and the hops of entries.",
        {"text": "the text of the entry"},
        {"choices": "those that are shown", "hops": "how many programs answered one another up to it"},
        choices.choices,
    ),
    "files": VectorFile(
        "Files of statements and entries.",
        {"room": "of the network of the reader", "bytes": "the file"},
        {
            "statements": "how many statements are in its `statements` frames",
            "frames, entries": "how many `entries` frames can be read, and how many entries are in them",
            "whole": "whether nothing is missing",
            "refused": "true: nothing of it is taken",
        },
        frames.files,
    ),
    "names": VectorFile(
        "Names in profiles, in `here` and of groups, as they come from others.",
        {"name": "the name"},
        {"valid": "false: it is treated as no name"},
        handshakes.names,
    ),
    "elections": VectorFile(
        "Which of several links with one peer stays. Links are numbered as they began.",
        {
            "side": "D decides, F follows",
            "steps": "`go` came on `link`, the handshake of link `proved` is done at D, or link `down` is gone",
        },
        {"steps": "after each step the current link, the link to close (or null), and at D its n"},
        sync.elections,
    ),
    "groups": VectorFile(
        "Sets of facts of one group, and the state that follows from each, in any order.",
        {
            "group": "G",
            "room": "of its network",
            "logs": "each with its header and its one entry, a clock and a text",
            "users": "those who are asked about",
        },
        {
            "name, owner": "of the group",
            "members": "each with the clock of what made it one",
            "admins": "the members who add and remove others, without the owner",
            "out": "the removals and leaves of these users that count, by id, each with the ids of what ended it",
        },
        groups.groups,
    ),
    "visibility": VectorFile(
        "How far the logs of one user in a talk are visible, who was added once.",
        {
            "cuts": "of each removal and leave of the user, with the runs of the facts that ended it",
            "logs": "each with its run, the number of its entries here, the marks it builds on, and the runs of the"
            " facts that its header names",
        },
        {"visible": "the number of the last visible entry of each log, 0 for none"},
        groups.visibility,
    ),
    "sync": VectorFile(
        "Synchronisation as a function: bob's peer holds some entries, and is linked with ada's peer, to which it sent"
        " `go`, `peers`, `here` and a `digest`. Frames come in; frames about entries go out.",
        {
            "held": "`entries` frames that were taken before the link began, in this order",
            "heard": "frames that came on the link before",
            "in": "the frames that come, in one read",
            "write": "texts that bob then writes in the room, one after the other; `run` is that of his process",
            "seconds": "how long nothing more happens; absent: the answers come at once",
        },
        {
            "out": "the frames that bob's peer sends then. docs/protocol-vectors.md says what another peer may choose",
            "closed": "the code of the bye with which the link ends",
        },
        sync.sync,
        _HERE | _USERS | {"run": sync.RUN.hex()},
    ),
}


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A file of test vectors of the p2pchat protocol, version 1 of this format",
    "type": "object",
    "properties": {
        "version": {"const": FORMAT, "description": "of the format of the files"},
        "protocol": {"const": PROTOCOL, "description": "the version of the protocol"},
        "about": {"type": "string", "description": "what the file is about"},
        "setting": {"type": "object", "description": "what holds for all vectors of the file"},
        "given": {**_TEXTS, "description": "what the fields of each `given` mean"},
        "result": {**_TEXTS, "description": "what the fields of each `result` mean"},
        "vectors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "unique in its file"},
                    "why": {"type": "string", "pattern": "^.*[.:]$", "description": "the rule, as a sentence"},
                    "given": {"type": "object", "minProperties": 1, "description": "what goes in"},
                    "result": {"type": "object", "minProperties": 1, "description": "what must come out"},
                },
                "required": ["name", "why", "given", "result"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["version", "protocol", "about", "given", "result", "vectors"],
    "additionalProperties": False,
}


def content(name: str) -> str:
    """Return the text of a file: one vector a line."""
    file = FILES[name]
    head: dict[str, Any] = {"version": FORMAT, "protocol": PROTOCOL, "about": file.about}
    head |= {"setting": file.setting} if file.setting else {}
    head |= {"given": file.given, "result": file.result}
    lines = [json.dumps(vector, ensure_ascii=True) for vector in file.vectors()]
    opening = json.dumps(head, indent=1, ensure_ascii=True).removesuffix("\n}")
    return opening + ',\n "vectors": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def main(words: list[str]) -> int:
    """Write all files, or with --check return 1 and name those that differ."""
    made = {FOLDER / f"{name}.json": content(name) for name in FILES}
    made[FOLDER / "vectors.schema.json"] = json.dumps(SCHEMA, indent=1, ensure_ascii=True) + "\n"
    assert not any(module.partition(".")[0] == "p2pchat" for module in sys.modules), "the vectors are independent"
    if "--check" in words:
        differ = [path.name for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text]
        print(*(f"{name} is not what this script makes" for name in differ), sep="\n", end="")
        return int(bool(differ))
    FOLDER.mkdir(exist_ok=True)
    for path, text in made.items():
        path.write_text(text, "utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
