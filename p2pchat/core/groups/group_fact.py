"""Facts of a group: what its people say of who belongs to it, each the one entry of a log in the group's conversation.

The run of such a log is a hash of all else in it, so no log with a fact forks, whatever was restored or copied. Which
facts count is a function of all of them (group_members.py). The first one makes the group, and its hash is the
group's id. A log without the shape of a fact is stored like any log and changes nothing.

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from p2pchat.core.log import Entry, LogId, RawEntry, encode_header, extend_chain, first_chain
from p2pchat.core.names import name_fault
from p2pchat.protocol import MAX_INT, ConversationId, GuestCertificate, Hex16, Hex32, Mark, RunId, UserId

GROUP_TAG = b"p2pchat/group/3\0"
FACT_TAG = b"p2pchat/fact/1\0"
TALK_TAG = b"p2pchat/talk/1\0"
MAX_MEMBERS = 256
SALT_BYTES = 16
FACT = "group"  # the kind of an entry with one
CREATE, ADD, REMOVE, LEAVE, ADMIN, UNADMIN, HEIR, NAME = (
    "create", "add", "remove", "leave", "admin", "unadmin", "heir", "name"
)  # fmt: skip

FactId = str  # hex16
Marks = tuple[Mark, ...]
About = Mapping[UserId, tuple[FactId, ...]]
_Kind = Literal["create", "add", "remove", "leave", "admin", "unadmin", "heir", "name"]
_Ids = Annotated[tuple[Hex16, ...], Meta(max_length=MAX_MEMBERS)]


class _Body(Struct):
    """The body of a fact, `b` of its entry."""

    k: _Kind
    who: Annotated[dict[Hex32, _Ids], Meta(max_length=MAX_MEMBERS)] = {}
    name: str = ""
    n: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    cuts: tuple[Mark, ...] = ()
    said: tuple[Mark, ...] = ()
    salt: Annotated[str, Meta(pattern=r"\A([0-9a-f]{32})?\Z")] = ""


class GroupFact(Struct, frozen=True, gc=False):
    """One fact.

    Attributes:
        by, mark: Its log.
        c: Its clock.
        builds_on: The facts of its writer that it builds on.
        kind: One of the eight kinds.
        who: Whom it is about, each with the facts that it ends: an `add` ends removals and leaves, an `admin` what
            unmade an admin. An `admin` and an `heir` name removals too, which stay.
        name: The group's name, of `create` and `name`.
        n: How often the group was named before, or handed over.
        cuts: What of the user that it takes out counts in the talk; of a `leave` its writer.
        said: What of the facts of the user that it takes out, or unmakes, still counts.
    """

    by: UserId
    mark: Mark
    c: int
    builds_on: Marks
    kind: str
    who: About
    name: str
    n: int
    cuts: Marks
    said: Marks

    @property
    def id(self) -> FactId:
        """The first 16 bytes of its chain."""
        return self.mark.chain[:32]

    @property
    def run(self) -> RunId:
        return self.mark.run


def run_of(
    group: ConversationId, by: UserId, before: Marks, certificate: GuestCertificate | None, raw: RawEntry
) -> RunId:
    """Return the run of the log with a fact."""
    header = encode_header(LogId(group, by, ""), before, certificate)
    return blake2b(FACT_TAG + extend_chain(first_chain(header), [raw]), digest_size=8).hexdigest()


def group_id(room: ConversationId, by: UserId, raw: RawEntry) -> ConversationId:
    """Return the id of the group that a fact of a user makes in the network with this room."""
    return blake2b(GROUP_TAG + extend_chain(bytes.fromhex(room + by), [raw]), digest_size=32).hexdigest()


def talk_id(group: ConversationId) -> ConversationId:
    """Return the id of the conversation in which the group's members talk."""
    return blake2b(TALK_TAG + bytes.fromhex(group), digest_size=32).hexdigest()


def fact_body(
    kind: str, who: Iterable[UserId] | Mapping[UserId, Sequence[FactId]] = (), **fields: Any
) -> dict[str, Any]:
    """Return the body of a fact. `fields`: `name`, `n`, `cuts`, `said`, and `salt` of the first one, 32 hex digits."""
    about = who if isinstance(who, Mapping) else dict.fromkeys(who, ())
    body: dict[str, Any] = {"k": kind, "who": about, **fields}
    return {key: value for key, value in body.items() if value}


def read_fact(log: LogId, chain: bytes, before: Marks, entry: Entry) -> GroupFact | None:
    """Read the fact in the entry of a log, which ends with this chain; None if it does not have the shape of one."""
    if entry.k != FACT:
        return None
    try:
        said = msgspec.convert(entry.b, _Body)
    except msgspec.ValidationError:
        return None
    if (said.k in (CREATE, NAME) and name_fault(said.name)) or (said.k == CREATE) != bool(said.salt):
        return None
    if (said.k in (REMOVE, UNADMIN, HEIR) and len(said.who) != 1) or (said.k == LEAVE and said.who):
        return None
    mark = Mark(log.run, 1, chain.hex())
    return GroupFact(log.user, mark, entry.c, before, *msgspec.structs.astuple(said)[:-1])
