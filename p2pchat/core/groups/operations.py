"""What is written to a group: operations, each the whole group as its owner wants it, and leaves.

An operation is an entry of kind `group`; it is known by the hash of its bytes, and the first one's hash is the group.
A leave is an entry of kind `leave`. What does not have the shape of either is stored like any entry and changes
nothing. Whether an operation counts is decided in state.py.

Source: docs/protocol.md, "Groups".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from p2pchat.core.log import Entry, LogId
from p2pchat.core.names import name_fault
from p2pchat.protocol import MAX_INT, ConversationId, Mark, UserId

GROUP_TAG = b"p2pchat/group/1\0"
TALK_TAG = b"p2pchat/talk/1\0"
MAX_MEMBERS = 256
SALT_BYTES = 16
OPERATION, LEAVE = "group", "leave"  # kinds of entries
_DIGITS = frozenset("0123456789abcdef")

Cuts = Mapping[UserId, tuple[Mark, ...]]


@dataclass(frozen=True, slots=True)
class Operation:
    """The whole group as one operation gives it.

    Attributes:
        hash: Of the entry's bytes, 64 hex digits; of the first operation it is the group's id.
        by, log, seq: Who wrote it, and which entry it is.
        members: Each with the gen that added it; the owner is one.
        cuts: Of those who were removed, up to where what they wrote counts; it lists each user's marks.
        redo: The hash of a lost operation that this one makes anew, or "".
    """

    hash: str
    by: UserId
    log: LogId
    seq: int
    gen: int
    name: str = field(repr=False)
    owner: UserId
    members: Mapping[UserId, int]
    cuts: Cuts
    redo: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """A member's word that it leaves: after what it wrote up to these marks, citing this gen, at this clock."""

    by: UserId
    log: LogId
    seq: int
    gen: int
    cuts: tuple[Mark, ...]
    c: int = 0


def operation_hash(raw: str) -> str:
    """Return the hash of an operation, by which entries cite it; of the first one, the id of the group."""
    return blake2b(GROUP_TAG + raw.encode(), digest_size=32).hexdigest()


def fork_mark(log: LogId) -> str:
    """Return what an operation says in `redo` when it stands for all that its writer did in a log that forked."""
    return operation_hash(log.run)


def talk_id(group: ConversationId) -> ConversationId:
    """Return the id of the conversation in which a group's members talk."""
    return blake2b(TALK_TAG + bytes.fromhex(group), digest_size=32).hexdigest()


def group_body(
    gen: int, name: str, owner: UserId, members: Mapping[UserId, int], cuts: Cuts, *, salt: str = "", redo: str = ""
) -> dict[str, Any]:
    """Return the body of an operation; `salt` is for the first, 32 hex digits."""
    flat = [[user, *mark] for user, marks in sorted(cuts.items()) for mark in marks]
    body = {"gen": gen, "name": name, "owner": owner, "members": dict(members), "cuts": flat}
    return body | ({"salt": salt} if salt else {}) | ({"redo": redo} if redo else {})


def leave_body(cuts: Sequence[Mark]) -> dict[str, Any]:
    return {"cuts": [list(mark) for mark in cuts]}


# ---- reading


def read_operation(log: LogId, seq: int, raw: str, entry: Entry) -> Operation | None:
    """Return the operation an entry of a group is; None for one that is none, or not of this shape."""
    body = entry.b
    if entry.k != OPERATION or not isinstance(body, dict):
        return None
    said: tuple[Any, ...] = tuple(body.get(key) for key in ("gen", "name", "owner", "members"))
    gen, name, owner, members = said
    cuts = _cuts(body.get("cuts"))
    redo = body.get("redo", "")
    if not _is_gen(gen) or type(name) is not str or name_fault(name) or cuts is None:
        return None
    if not isinstance(members, dict) or not 0 < len(members) <= MAX_MEMBERS:
        return None
    if type(owner) is not str or owner not in members:
        return None
    if not all(_is_hex(user, 64) and _is_gen(added) and added <= gen for user, added in members.items()):
        return None
    if redo != "" and not _is_hex(redo, 64):
        return None
    return Operation(operation_hash(raw), log.user, log, seq, gen, name, owner, members, cuts, redo)


def is_first(operation: Operation, entry: Entry) -> bool:
    """Say whether an operation may be a group's first: its writer's own group, nobody removed yet, with a salt."""
    alone = operation.gen == 1 and operation.by == operation.owner and not operation.cuts and not operation.redo
    return alone and isinstance(entry.b, dict) and _is_hex(entry.b.get("salt"), 2 * SALT_BYTES)


def read_leave(log: LogId, seq: int, entry: Entry) -> Leave | None:
    """Return the leave an entry of a group is; None for one that is none, or not of this shape."""
    if entry.k != LEAVE or entry.g is None or not isinstance(entry.b, dict):
        return None
    said = entry.b.get("cuts")
    marks = _marks(said) if isinstance(said, list) else None
    return None if marks is None else Leave(log.user, log, seq, entry.g[0], tuple(marks), entry.c)


def _cuts(said: Any) -> Cuts | None:
    if not isinstance(said, list) or not all(isinstance(item, list) and len(item) == 4 for item in said):
        return None
    marks = _marks([item[1:] for item in said])
    if marks is None or not all(_is_hex(item[0], 64) for item in said):
        return None
    cuts: dict[UserId, tuple[Mark, ...]] = {}
    for item, mark in zip(said, marks, strict=True):
        cuts[item[0]] = (*cuts.get(item[0], ()), mark)
    return cuts


def _marks(said: list[Any]) -> list[Mark] | None:
    for item in said:
        if not isinstance(item, list) or len(item) != 3:
            return None
        run, seq, chain8 = item
        if not (_is_hex(run, 16) and _is_gen(seq) and _is_hex(chain8, 16)):
            return None
    return [Mark(*item) for item in said]


def _is_gen(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_INT


def _is_hex(value: Any, digits: int) -> bool:
    return type(value) is str and len(value) == digits and _DIGITS.issuperset(value)
