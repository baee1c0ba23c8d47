"""Statements about the members of a network: who is added, made an admin, removed or pardoned, which invites admit
nobody more, which keys are no peers any more; and certificates of guests, for whom a member answers.

    [text, signature]    text = {"at":µs,"by":U,"k":KIND,...}, canonical    signature of U over TAG || N || text

One statement means nothing by itself: which of them count is a function of all of them (`member_list.py`). The text is
kept and sent as its author made it. Canonical is the form of RFC 8785, in ASCII and without fractions, so that all
programs read the same. A text of another form is the fault of its sender. A canonical
one of a kind, or with fields, that are not known here is kept without effect: a later version may know them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from sys import intern
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from p2pchat.core.log import verify
from p2pchat.errors import FrameError, ProtocolError
from p2pchat.protocol import (
    MAX_INT,
    ConversationId,
    GuestCertificate,
    Hex4,
    Hex32,
    Key32,
    UserId,
    check_values,
    is_key,
)

StatementId = str  # hex32

ADD, ADMIN, REMOVE, PARDON, CLOSE, REVOKE = "add", "admin", "remove", "pardon", "close", "revoke"
MAX_STATEMENT_BYTES = 48 * 1024
"""Most bytes of a text; the longest removal has 40 KiB."""
MAX_ADDED = 8
"""Most users that one statement adds or makes admins, and peers that it revokes."""
MAX_REMOVED = 16
"""Most users that one statement removes."""
MAX_KEPT = 512
"""Most users that the removal of an admin keeps."""
MAX_PARDONED = 8
"""Most removals that one statement pardons."""
MAX_CLOSED = 16
"""Most invites that one statement closes."""

ID_TAG = b"p2pchat/statement/2\0"
SIGNATURE_TAG = b"p2pchat/member/1\0"
GUEST_TAG = b"p2pchat/guest/1\0"
SIGNATURE_BYTES = 64


class _Users(Struct, frozen=True, forbid_unknown_fields=True):
    who: Annotated[tuple[Key32, ...], Meta(min_length=1, max_length=MAX_ADDED)]


class _Addition(_Users, frozen=True):
    invite: Hex4 = ""
    of: Key32 = ""


class _Removal(Struct, frozen=True, forbid_unknown_fields=True):
    who: Annotated[tuple[Key32, ...], Meta(min_length=1, max_length=MAX_REMOVED)]
    keep: Annotated[tuple[Key32, ...], Meta(max_length=MAX_KEPT)] = ()
    hide: bool = False
    invites: Annotated[tuple[Hex4, ...], Meta(max_length=MAX_CLOSED)] = ()


class _Pardon(Struct, frozen=True, forbid_unknown_fields=True):
    ids: Annotated[tuple[Hex32, ...], Meta(min_length=1, max_length=MAX_PARDONED)]


class _Closing(Struct, frozen=True, forbid_unknown_fields=True):
    invites: Annotated[tuple[Hex4, ...], Meta(min_length=1, max_length=MAX_CLOSED)]


_FIELDS: dict[str, type[Struct]] = {
    ADD: _Addition, ADMIN: _Users, REMOVE: _Removal, PARDON: _Pardon, CLOSE: _Closing,
    REVOKE: _Users,
}  # fmt: skip


class _Begin(Struct):
    by: str = ""


class StatementError(ProtocolError):
    """A statement of a form that no program makes."""

    code: str = "malformed"


class Statement(Struct, frozen=True, gc=False):
    """One signed statement.

    Attributes:
        id: 64 hex digits, over the network's id and the text.
        by: Who signed it.
        kind: One of the six kinds; "" for what has no effect here.
        at: When it was made, in UTC microseconds, as its author says. Only shown.
        who: The users that it is about.
        invite: The id of the invite by which they were added; "" without one.
        of: The former admin that had added them before; "" for nobody.
        keep: Users that stay members although the first of the removed, an admin, had added them.
        hide: What the removed users wrote is not shown any more.
        ids: The removals that it pardons.
        invites: The invites that it closes.
    """

    id: StatementId
    by: UserId
    kind: str
    at: int
    text: str
    signature: bytes
    who: tuple[UserId, ...] = ()
    invite: str = ""
    of: UserId = ""
    keep: tuple[UserId, ...] = ()
    hide: bool = False
    ids: tuple[StatementId, ...] = ()
    invites: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of its text and signature."""
        return len(self.text) + SIGNATURE_BYTES

    def is_signed(self, network: str) -> bool:
        """Return whether its author signed it for the network with this id (hex)."""
        return verify(self.by, self.signature, _signed(network, self.text))

    def __repr__(self) -> str:
        return f"Statement({self.kind or 'unknown'} {self.id[:8]} by {self.by[:8]})"


def network_id(founder: UserId) -> str:
    """Return the id (hex) of the network that this key founded."""
    return blake2b(b"p2pchat/network/2\0" + bytes.fromhex(founder), digest_size=16).hexdigest()


def room_id(network: str) -> ConversationId:
    """Return the id of the room of network N (hex16)."""
    return blake2b(b"p2pchat/room/1\0" + bytes.fromhex(network), digest_size=32).hexdigest()


def make_statement(
    network: str, by: UserId, sign: Callable[[bytes], bytes], kind: str, at: int, fields: Mapping[str, Any]
) -> Statement:
    """Return a new statement.

    Args:
        sign: Signs with the key of `by`.
        fields: Those of the kind: `who`, `invite`, `of`, `keep`, `hide`, `ids`, `invites`.
    Raises:
        ValueError: The fields are not those of the kind, or are too many.
    """
    text = _canonical({"by": by, "k": kind, "at": at, **fields})
    made = parse_statement(network, text, sign(_signed(network, text)))
    if not made.kind:
        raise ValueError(f"not the fields of {kind!r}")
    return made


def parse_statement(network: str, text: str, signature: bytes) -> Statement:
    """Return the statement in a text, its signature not verified yet.

    Raises:
        StatementError: It is too long, not canonical, or does not say who made it, what it is, and when.
    """
    if len(text) > MAX_STATEMENT_BYTES:
        raise StatementError(f"a statement above {MAX_STATEMENT_BYTES} bytes")
    if len(signature) != SIGNATURE_BYTES:
        raise StatementError(f"a signature that has not {SIGNATURE_BYTES} bytes")
    try:
        said = msgspec.json.decode(text)
        check_values(said)
    except (msgspec.MsgspecError, FrameError, ValueError, RecursionError):
        raise StatementError("a statement that cannot be read") from None
    if not isinstance(said, dict) or not text.isascii() or _has_fraction(said) or _canonical(said) != text:
        raise StatementError("a statement that is not canonical")
    by, kind, at = said.pop("by", None), said.pop("k", None), said.pop("at", None)
    if not (isinstance(by, str) and is_key(by) and isinstance(kind, str) and type(at) is int and 0 <= at <= MAX_INT):
        raise StatementError("a statement that does not say who made it, what it is, and when")
    id = blake2b(ID_TAG + bytes.fromhex(network) + text.encode(), digest_size=32).hexdigest()
    try:
        fields = msgspec.structs.asdict(msgspec.convert(said, _FIELDS[kind]))
    except (KeyError, msgspec.ValidationError):
        return Statement(id, by, "", at, text, signature)
    return Statement(id, intern(by), intern(kind), at, text, signature, **fields)  # few strings for thousands


def author_of(text: str) -> UserId:
    """Return who signed a statement, "" if that cannot be read. Nothing else of it is read."""
    try:
        return msgspec.json.decode(text, type=_Begin).by
    except msgspec.MsgspecError:
        return ""


def _signed(network: str, text: str) -> bytes:
    return SIGNATURE_TAG + bytes.fromhex(network) + text.encode()


def _canonical(said: dict[str, Any]) -> str:
    return msgspec.json.encode(said, order="sorted").decode()


def _has_fraction(said: object) -> bool:
    if isinstance(said, dict):
        return any(map(_has_fraction, said.values()))
    return any(map(_has_fraction, said)) if isinstance(said, list) else isinstance(said, float)


# ---- guests
#
# A login is one member, and each of its profiles and programs is a guest of it, as accounts are of their gateway. The
# member signs a certificate for each, which has no end. So a member revokes the key of a machine that was lost: it is
# no peer any more. A user that a member must not answer for any more is removed, or that member is.


def make_guest(network: str, member: UserId, sign: Callable[[bytes], bytes], user: UserId) -> GuestCertificate:
    """Return a certificate by which a member answers for a user.

    Args:
        network: The id of the network, N (hex).
        sign: Signs with the key of the member.
    """
    return GuestCertificate(member, sign(GUEST_TAG + bytes.fromhex(network + user)).hex())


@lru_cache(maxsize=1024)  # a peer shows the same one in its handshake, in its record and in each log
def is_guest(network: str, user: UserId, certificate: GuestCertificate) -> bool:
    """Return whether the member in a certificate signed it for this user and network."""
    signed = GUEST_TAG + bytes.fromhex(network + user)
    return verify(certificate.member, bytes.fromhex(certificate.sig), signed)
