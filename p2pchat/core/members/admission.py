"""Admission: with whom this peer has links, and what it shows to be admitted itself.

Each end of a connection shows the certificate of the member that answers for it, and the statements by which that
member is one; it comes after the proof of the network's key, so a stranger sees nothing of it. A newcomer shows the
proof of its invite besides. Its maker adds it in a commit, and goes on with the connection when that is durable.

Everybody is admitted to a network that is made from a word.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from p2pchat.core.durable_changes import Change
from p2pchat.core.effects import MemberChanged
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.members.member_list import MemberList, Standing
from p2pchat.core.members.statement import (
    ADD,
    ADMIN,
    PARDON,
    REMOVE,
    REVOKE,
    Statement,
    author_of,
    is_guest,
    make_statement,
)
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.node_context import Invitation, NetworkCredentials, NodeContext
from p2pchat.protocol import MAX_SHOWN, GuestCertificate, InviteProof, Membership, PeerId, Statements, UserId

NO_MEMBER = "member"  # code of `bye`
MAX_SHOWN_BYTES = 3072  # of statements, in a frame of at most 4 KiB
FRAMED_BYTES = 160  # what a frame adds to one, besides backslashes before quotes: its signature in hex, brackets
SHARED = "shared:"  # in meta, before who answers for the own user, too, and how often its key was revoked: it was told
MAX_TOLD = 10  # users that are named with a member that changed; a guess


class Admission:
    """Who is admitted by one peer.

    Args:
        guest: The certificate by which a member answers for this peer; None for a member, and where nobody does.
        statements: The statements of this peer.
        users: Which members users have named.
        meta: What storage holds.

    Attributes:
        invites: The invites that this peer made.
        guest: The certificate by which a member answers for this peer.
        fallen: Whom nobody admits any more, since whoever had admitted them is no admin.
    """

    def __init__(
        self,
        ctx: NodeContext,
        network: NetworkCredentials,
        guest: GuestCertificate | None,
        statements: StatementExchange,
        users: MemberDirectory,
        meta: Mapping[str, str],
    ) -> None:
        self._ctx = ctx
        self._network = network
        self.guest = guest
        self._statements = statements
        self.users = users
        self.invites: Invites = Invites(ctx, network, meta)
        self._standings: dict[UserId, Standing] = {}  # as they were reported
        self._closed: set[str] = set()  # invites whose additions were looked at when they were closed
        self._was_member = False
        self._told = {name for name in meta if name.startswith(SHARED)}
        self.fallen: set[UserId] = set()

    def load(self) -> None:
        """Take what is stored as known. Called when there are statements."""
        members = self._statements.members
        if members is not None:
            self._standings = {user: self._standing(user) for user in members.named()}
        self._was_member = self.is_member

    @property
    def member(self) -> UserId:
        """The member that answers for this peer."""
        return self._ctx.me if self.guest is None else self.guest.member

    @property
    def is_member(self) -> bool:
        """True if this peer is admitted itself, as far as it knows."""
        return self.admits_peer(self._ctx.me, self.member)

    @property
    def may_invite(self) -> bool:
        """True if the member that answers here may add others, and its key is here."""
        members = self._statements.members
        if members is None or self._network.sign is None:
            return False
        return self._network.member == members.founder or self._network.member in members.admins

    def show(self, t: bytes) -> Membership:
        """Return what this peer shows on the connection with transcript T."""
        network, members = self._network, self._statements.members
        if network.is_named:
            return Membership()
        invitation = None if self.is_member else network.invitation
        invite = None if invitation is None else prove_invite(invitation, t, self.member)
        if members is None:
            return Membership(guest=self.guest, invite=invite)
        vouching = [*members.vouching(self.member), *members.pardons((self._ctx.me, self.member))]
        return Membership(members.founder, self.guest, _fitting(self._statements.durable(vouching)), invite)

    def member_of(self, peer: PeerId, shown: Membership) -> UserId:
        """Return the member that answers for a peer by what it shows; "" if that is wrong."""
        if shown.guest is None or self._network.is_named:
            return peer
        return shown.guest.member if is_guest(self._network.id, peer, shown.guest) else ""

    def judge(self, peer: PeerId, member: UserId, shown: Membership, t: bytes) -> str | None:
        """Return whether a peer is admitted by what it shows on the connection with transcript T.

        "" if it is, else why not, as the code of a bye. None while that depends on statements that are not durable yet:
        ask again when some are.
        """
        if self._network.is_named:
            return ""
        exchange = self._statements
        members = exchange.members if member and exchange.take_shown(shown) else None
        if members is None:
            return NO_MEMBER
        self.note(peer, member)
        undurable = exchange.undurable
        if members.revocations(peer, (*self.users.members_of(peer), member)):
            return NO_MEMBER if self.users.revocations(peer, member) else None
        if self.admits(peer, member):
            said = members.vouching(member) + members.pardons((peer, member))
            return "" if undurable.isdisjoint(one.id for one in said) else None
        code = NO_MEMBER
        if shown.invite is not None and not members.against(peer, self.users.members_of(peer)):
            code = self.invites.fault(shown.invite, t, member, members)
            if not code and self.may_invite:
                made = self._addition(exchange, member, shown.invite.id)
                if members.fits([made]):
                    exchange.say([made])
                    self.users.on_shown(peer, member)
                    return None
            code = code or UNKNOWN
        return None if undurable and not self.users.is_out(peer) else code

    def expels(self, user: UserId, member: UserId) -> bool:
        """Return whether a user is to leave: it does not belong to the network, by statements that are durable.

        A person who shut out a machine is no user of other members, whatever certificates the thief shows.
        """
        said = self.users.revocations(user)
        if said and member not in [one.by for one in said]:
            return True
        return not self.admits(user, member) and (self.users.is_out(user) or not self._statements.undurable)

    def admits(self, user: UserId, member: UserId) -> bool:
        """Return whether a user belongs to the network by the member that answers for it."""
        members = self._statements.members
        return self._network.is_named or (
            members is not None and members.admits(user, member, self.users.members_of(user))
        )

    def admits_peer(self, peer: PeerId, member: UserId) -> bool:
        """Return whether a peer belongs to the network by the member that answers for it: its key is not revoked."""
        return self.admits(peer, member) and not self.users.revocations(peer, member)

    def expels_peer(self, peer: PeerId, member: UserId) -> bool:
        """Return whether the link with a peer is to end."""
        return bool(self.users.revocations(peer, member)) or self.expels(peer, member)

    def note(self, peer: PeerId, member: UserId) -> None:
        """Remember which member answers for a peer, by what that peer signed, if it is one that is known."""
        if self.is_heard_of(member):
            self.users.on_shown(peer, member)

    def on_answering(self, user: UserId, member: UserId) -> None:
        """Take that a member answers for a user. If that is the own one, and another member, somebody else may have its
        key: that is told, once of each member that statements name, and again once a machine was shut out.
        """
        name = f"{SHARED}{member}:{len(self.users.revocations(user))}"
        if user != self._ctx.user or member == self.member or name in self._told or not self.is_heard_of(member):
            return
        if self._ctx.work.take("warnings", SHARED):
            self._told.add(name)
            self._ctx.change.meta[name] = ""
            self._ctx.emit(MemberChanged(user, member, "shared", (user,), 1))

    def is_heard_of(self, member: UserId) -> bool:
        """Return whether a statement known here is about a member."""
        members = self._statements.members
        return members is not None and members.is_named(member)

    def take_removals(self, frame: Statements) -> None:
        """Take the statements that a peer sends before its goodbye, so that people here read who removed them."""
        self._statements.take_shown(Membership(s=tuple(frame.s[:MAX_SHOWN])))

    # ---- what changed

    def report(self, change: Change, dropped: Sequence[Statement], since: int) -> set[UserId]:
        """Report what statements that are durable now change. Return who was pardoned, or this peer once admitted.

        A peer that is no member yet learns who all the others are, and reports only what concerns itself. There is one
        event for each member, which names few of its users: a statement may name thousands of keys.

        Args:
            dropped: Statements that are not kept any more.
            since: When this peer joined, UTC microseconds: what was said before is no news to it.
        """
        members = self._statements.members
        assert members is not None
        was_member, self._was_member = self._was_member, self.is_member
        new = self._statements.durable(change.statements)
        said, fell = map(members.concerned, (new, dropped))
        news = members.concerned(one for one in new if one.at > since)
        is_news = any(one.at > since for one in change.statements)
        changed: dict[str, list[UserId]] = {}
        for user in sorted(said.keys() | fell.keys()):
            former = self._standings.get(user, "")
            if former == members.standing(user):
                continue
            now = self._standings[user] = self._standing(user)
            for what in _changes(former, now, is_said=user not in fell):
                changed.setdefault(what, []).append(user)
        own = {self._ctx.me, self.member}
        for what, users in changed.items():
            falls = what in ("dropped", "restored")
            heard = {user for user in users if was_member and (user in news or (falls and is_news))} | own
            told = [user for user in users if user in heard and (what, user) != ("admitted", self.member)]
            if falls:
                self._emit_fallen(what, told, fell)
            else:
                self._emit(what, told, said)
        if was_member and is_news and self.may_invite:
            self._report_late(members, new)
        if was_member:
            self._report_revoked(one for one in new if one.kind == REVOKE and one.at > since)
        back = {*changed.get("pardoned", ()), *changed.get("restored", ())}
        return back | ({self._ctx.me} if self._was_member and not was_member else set())

    def _report_revoked(self, statements: Iterable[Statement]) -> None:
        """Report machines that members revoked, but not the former keys of persons; of this one that it is out."""
        for one in statements:
            for peer in filter(self.users.revocations, one.who):
                if peer == self._ctx.me:
                    self._ctx.emit(MemberChanged(self._ctx.user, one.by, "expelled", (self._ctx.user,), 1))
                elif peer not in self.users.names:
                    self._ctx.emit(MemberChanged(peer, one.by, "revoked", (peer,), 1))

    def _standing(self, user: UserId) -> Standing:
        """Return what a user is; "" also for one whose removal cannot touch it."""
        members = self._statements.members
        standing: Standing = "" if members is None else members.standing(user)
        return standing if standing != "expelled" or self.users.is_out(user) else ""

    def _is_here(self, user: UserId) -> bool:
        """Return whether a user belongs to the network, as far as one knows who answers for it."""
        return any(self.admits(user, member) for member in (user, self.users.member_of(user)))

    def _emit(self, what: str, users: Iterable[UserId], said: dict[UserId, list[Statement]]) -> None:
        """Report what became of users, once for each member."""
        groups: dict[UserId, list[UserId]] = {}
        for user in sorted(users):
            groups.setdefault(self._leader(user, said.get(user, ())), []).append(user)
        for leader, group in groups.items():
            users_of = self.users.users_of(leader)
            first = [self.users.speaker(leader)] if users_of else []
            known = [user for user in dict.fromkeys([*first, *group, *users_of]) if user != leader] or [leader]
            by = _signer(what, said.get(leader, ()))
            self._ctx.emit(MemberChanged(leader, by, what, tuple(known[:MAX_TOLD]), len(known)))

    def _emit_fallen(self, what: str, users: Iterable[UserId], said: dict[UserId, list[Statement]]) -> None:
        """Report who is in or out whatever somebody had said, or came late by it: once for all of one signer."""
        groups: dict[UserId, dict[UserId, None]] = {}
        for user in sorted(users):
            if what == "late" or self._is_here(user) == (what == "restored"):
                about = said.get(user, ())
                groups.setdefault(_signer(what, about), {})[self._leader(user, about)] = None
        for by, group in groups.items():
            named = self.users.known(group)
            if what == "dropped":
                self.fallen.update(group)
            self._ctx.emit(MemberChanged((named or [*group])[0], by, what, tuple(named[:MAX_TOLD]), len(group)))

    def _leader(self, user: UserId, said: Sequence[Statement]) -> UserId:
        """Return for whom a change of a user is reported: for whom the removal stands that it is about."""
        removal = next((one for one in said if one.kind == REMOVE and user in one.who), None)
        return user if removal is None else self.users.leader(user, removal)

    def _report_late(self, members: MemberList, statements: Sequence[Statement]) -> None:
        """Report who came by an invite that was closed already: its maker had not heard of that."""
        late, time_of = dict[UserId, list[Statement]](), self._statements.time_of
        for one in statements:
            for invite in {one.invite, *one.invites} - {""}:
                closing = members.closing(invite)
                said = [one]
                if one.kind != ADD:  # each invite is looked at once: an admin can close it a thousand times
                    is_new = one is closing and invite not in self._closed
                    said = members.additions_by(invite) if is_new else []
                    self._closed.update([invite] if said else [])
                for each in said:
                    if closing is not None and time_of(closing) == closing.at < each.at == time_of(each):
                        late |= {user: [each] for user in each.who if user in members.members}
        self._emit_fallen("late", late, late)

    def farewell(self, peer: PeerId, shown: Membership) -> Statements | None:
        """Return what tells a peer before a goodbye who removed it, or the admin that had added it by what it shows;
        None for nothing.
        """
        members = self._statements.members
        if members is None:
            return None
        removals = [members.unmaking(author_of(text)) for text, _ in shown.s]
        against = [*self.users.removals(peer), *self.users.revocations(peer)]
        said = _fitting([*against, *self._statements.durable(filter(None, removals))])
        return Statements(s=list(said)) if said else None

    def _addition(self, exchange: StatementExchange, member: UserId, invite: str) -> Statement:
        network = self._network
        assert network.sign is not None
        fields = {"who": [member], "invite": invite}
        return make_statement(network.id, network.member, network.sign, ADD, exchange.next_at(network.member), fields)


KIND_OF = {"expelled": REMOVE, "restored": REMOVE, "unadmin": REMOVE, "pardoned": PARDON, "admin": ADMIN}
"""The kind of statements by which users change, where it is one."""


def _signer(what: str, said: Sequence[Statement]) -> UserId:
    """Return who said the newest of those statements by which users change like this; "" for nobody."""
    named = [one for one in said if one.kind == KIND_OF.get(what, one.kind)]
    return max(named, key=lambda one: one.at).by if named else ""


def _changes(former: Standing, now: Standing, *, is_said: bool) -> Iterator[str]:
    """Yield what became of a user, as events say it.

    Args:
        is_said: A statement says so; else one is not kept any more that said otherwise.
    """
    is_in, was_in = (one in ("founder", "admin", "member") for one in (now, former))
    if now == "expelled" and former != "expelled":
        yield "expelled"
    elif former == "expelled" and now != "expelled":
        yield "pardoned" if is_said else "restored"
    elif was_in and not is_in:
        yield "dropped"
    elif is_in and not was_in:
        yield "admitted"
    if now == "admin" != former:
        yield "admin"
    elif former == "admin" and is_in:
        yield "unadmin"


def _fitting(statements: Iterable[Statement]) -> tuple[tuple[str, str], ...]:
    """Return the first statements, as far as they fit into a frame before `go`."""
    found, size = list[tuple[str, str]](), 0
    for one in statements:
        more = len(one.text) + one.text.count('"') + FRAMED_BYTES
        if size + more <= MAX_SHOWN_BYTES and len(found) < MAX_SHOWN:
            found.append((one.text, one.signature.hex()))
            size += more
    return tuple(found)


# ---- invites
#
# An invite names the peer that made it (its maker), its terms, and a secret. The maker computes the secret from the
# terms and a key of its own, so it stores nothing when it makes one. A newcomer proves that it has the secret, for one
# connection and one member, and the maker adds that member by a statement that names the invite. How often an invite
# was used is therefore a count of the maker's statements: it is exact after a kill, and after a restored backup as soon
# as others have told what is missing.
#
# Of each invite the maker remembers the terms, to list it. That it admits nobody more is a statement, so a restored
# maker knows it.

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

    @property
    def line(self) -> dict[str, str | None]:
        """The line of meta that stores it."""
        return {META_INVITE + self.id: f"{self.uses} {self.until} {self.made_at}"}


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
        self._ctx.change.meta |= self._made[id].line

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
