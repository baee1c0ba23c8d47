"""Invites: whom the founder and the admins let in without knowing their keys before.

An invite names the peer that made it (its maker), its terms, and a secret. The maker computes the secret from the terms
and a key of its own, so it stores nothing when it makes one. A newcomer proves that it has the secret, for one
connection and one member, and the maker adds that member by a statement that names the invite. How often an invite was
used is therefore a count of the maker's statements: it is exact after a kill, and after a restored backup as soon as
others have told what is missing.

Of each invite the maker remembers the terms, to list it. That it admits nobody more is a statement, so a restored maker
knows it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from p2pchat.core.members.member_list import MemberList
from p2pchat.core.node_context import Invitation, NetworkCredentials, NodeContext
from p2pchat.protocol import InviteProof, UserId

META_INVITE = "invite:"  # in Change.meta, before the id: its terms, when it was made
SECRET_TAG = b"p2pchat/invite/3 secret\0"
PROOF_TAG = b"p2pchat/invite/3 proof\0"
SECRET_BYTES = 16
REMEMBERED = 30 * 24 * 3600  # seconds after its end for which an invite is still listed

UNKNOWN, USED, LATE, REVOKED, ELSEWHERE = "invite", "used", "late", "revoked", "maker"  # codes of `bye`


@dataclass(frozen=True, slots=True)
class MadeInvite:
    """An invite that this peer made. Times are UTC seconds.

    Attributes:
        id: 8 hex digits.
        uses: How many members it lets in.
        until: When it ends.
        made_at: When it was made.
        revoked_at: When it was closed; 0: it was not.
        used_by: The members that it let in.
        expelled: Those of them who are out. While there are some it lets nobody in; () for none.
    """

    id: str
    uses: int
    until: int
    made_at: int
    revoked_at: int = 0
    used_by: tuple[UserId, ...] = ()
    expelled: tuple[UserId, ...] = ()


def invite_secret(key: bytes, network: str, id: str, uses: int, until: int) -> bytes:
    """Return the secret of an invite that the peer with this key made."""
    terms = bytes.fromhex(network + id) + uses.to_bytes(1, "big") + until.to_bytes(5, "big")
    return hmac.digest(key, SECRET_TAG + terms, "sha256")[:SECRET_BYTES]


def prove_invite(invitation: Invitation, t: bytes, member: UserId) -> InviteProof:
    """Return the proof for the connection with transcript T that a member joins with an invite."""
    code = hmac.digest(invitation.secret, PROOF_TAG + bytes.fromhex(member) + t, "sha256").hex()
    return InviteProof(invitation.maker, invitation.id, invitation.uses, invitation.until, code)


class Invites:
    """The invites that one peer made.

    Args:
        meta: What storage holds.
    """

    def __init__(self, ctx: NodeContext, network: NetworkCredentials, meta: Mapping[str, str]) -> None:
        self._ctx = ctx
        self._network = network
        self._made: dict[str, MadeInvite] = {}
        for name, text in meta.items():
            if name.startswith(META_INVITE):
                uses, until, made_at = map(int, text.split())
                invite = MadeInvite(name.removeprefix(META_INVITE), uses, until, made_at)
                self._made[invite.id] = invite

    def made(self, members: MemberList | None) -> list[MadeInvite]:
        """Return them, the newest first. Without members there are none."""
        found = list[MadeInvite]()
        if members is None:
            return found
        for invite in self._made.values():
            used_by, closing = self._used_by(invite.id, members), members.closing(invite.id)
            out = tuple(user for user in used_by if user in members.removed)
            revoked_at = 0 if closing is None else members.time_of(closing, self._ctx.now.utc) // 1_000_000
            found.append(replace(invite, used_by=used_by, expelled=out, revoked_at=revoked_at))
        return sorted(found, key=lambda invite: (-invite.made_at, invite.id))

    def on_made(self, id: str, uses: int, until: int) -> None:
        """Remember a new one. Forget those that ended long ago."""
        now = self._ctx.now.utc // 1_000_000
        for old in [one for one in self._made.values() if one.until + REMEMBERED < now]:
            del self._made[old.id]
            self._ctx.change.meta[META_INVITE + old.id] = None
        self._made[id] = MadeInvite(id, uses, until, now)
        self._ctx.change.meta[META_INVITE + id] = f"{uses} {until} {now}"

    def fault(self, proof: InviteProof, t: bytes, member: UserId, members: MemberList) -> str:
        """Return why an invite does not let a member in, as the code of a bye; "" if it does.

        One by which somebody came who is out lets nobody in: whoever is out would come again with another key.
        """
        network = self._network
        if proof.maker != self._ctx.me:
            return ELSEWHERE
        secret = invite_secret(network.invites_key, network.id, proof.id, proof.uses, proof.until)
        given = Invitation(proof.maker, proof.id, proof.uses, proof.until, secret)
        if network.sign is None or not hmac.compare_digest(prove_invite(given, t, member).proof, proof.proof):
            return UNKNOWN
        used_by = self._used_by(proof.id, members)
        if members.closing(proof.id) is not None or not members.removed.isdisjoint(used_by):
            return REVOKED
        if proof.until * 1_000_000 < self._ctx.now.utc:
            return LATE
        return USED if len(used_by) >= proof.uses else ""

    def _used_by(self, id: str, members: MemberList) -> tuple[UserId, ...]:
        own = [one for one in members.additions_by(id) if one.by == self._network.member]
        return tuple(dict.fromkeys(user for one in own for user in one.who))
