"""Quotas: how much is stored of each user, of unknown users together, on a nearly full disk; and the rate of new logs.

Every user has a quota, above which nothing more of the user is stored. Bytes are counted per batch, those on their way
to the disk included.

A full user's peers are sent `full`; nothing of the user is fetched (fetcher.py), and other entries do not wait
for it. `lift` removes every limit of a user permanently. Then everything is compared again and the refused entries
arrive. Hosted users have no limits at home. Unknown users also share limits along the lines of the peers they come
from, where each log counts besides its bytes (Settings.log_bytes). There a user of a gateway has a part of what its
gateway has. A contact may bring half of what all unknown users may have. While the disk is nearly full, nothing of
unknown users is stored, then nothing of others. Nothing of blocked users ever is, and nobody is told.

Source: docs/protocol.md, "Limits"; docs/guarantees.md has the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from sys import intern

from p2pchat.core.contacts import Blocks
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.effects import Counted, PauseReading, WarningIssued
from p2pchat.core.limits_by_origin import Line, OriginShares, RateLimit, address_line
from p2pchat.core.log import Ref, WriterKey
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.names import describe_user
from p2pchat.core.node_context import NodeContext
from p2pchat.protocol import PeerId, UserId

WARNED_AT = 0.8  # fraction of a quota: docs/protocol.md
MAX_REFUSED = 10_000  # users of whom something was refused; a guess: 1 MiB
MAX_UNKNOWN_WARNED = 16  # users in one run that cause a warning, so that made-up users cannot flood it; a guess


class Quota:
    """Counts stored bytes and decides whether more may be stored.

    Args:
        sizes: The bytes that are stored of each user; counting begins with them.
        hosted, names: Live views of the hosted users and of names.
        contacts: A live view of the known users.
        payer: Returns where the bytes of a user count who is unknown (UnknownBytes), by the link that brings them;
            None for a file.
        blocks: The blocked users.
        is_blocked: Returns whether nothing of a user is stored in a conversation since somebody here blocks it.
        on_full: Called with each user whose quota becomes full.

    Attributes:
        must_check: Whether `check` may refuse anything. While it is False, there is nothing to ask here.
        disk: The entries for which there is disk space.
    """

    def __init__(
        self, ctx: NodeContext, sizes: dict[UserId, int], accounts: QuotaAccounts,
        hosted: Mapping[UserId, object], names: Mapping[UserId, str], contacts: Container[UserId],
        payer: Callable[[UserId, PeerLink | None], str], blocks: Blocks, is_blocked: Callable[[WriterKey], bool],
        on_full: Callable[[UserId], None],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._hosted = hosted
        self._names = names
        self._contacts = contacts
        self._payer = payer
        self._blocks = blocks
        self._is_blocked = is_blocked
        self._most = ctx.settings.user_quota_bytes
        self._warned_from = int(WARNED_AT * self._most)
        self._accounts = accounts
        self._unknown = UnknownBytes(ctx, accounts)
        self.disk: DiskLevel = DiskLevel.ENOUGH
        self._bytes = sizes  # of each user
        self._full: set[UserId] = set()
        self._left_out: set[str] = set()  # beginnings of users of whom something was refused, as references name them
        self._warned: set[UserId] = set()
        self.must_check: bool = bool(blocks)
        self._on_full = on_full
        self._unknown_warned = 0

    def start(self) -> None:
        """Take the stored charges, once the contacts are known."""
        self._unknown.load(self._is_unknown)

    # ---- checking

    def check(self, link: PeerLink | None, key: WriterKey) -> bool:
        """Return whether a batch of this user may be decoded. `link` brought it; None for a file."""
        has_room = not self.is_blocked(key) and self._check(link, key[1])
        if not has_room:
            self._note_refused(key[1])
        return has_room

    def _check(self, link: PeerLink | None, user: UserId) -> bool:
        if user in self._full:
            return False
        if self.disk is not DiskLevel.ENOUGH and user not in self._hosted:
            if self.disk is not DiskLevel.KNOWN_ONLY or self._is_unknown(user):
                return False
        is_counted = self._unknown.any_full and self._is_unknown(user)
        return not (is_counted and self._unknown.is_full(self._payer(user, link), user))

    def is_blocked(self, key: WriterKey) -> bool:
        """Return whether nothing of a user is stored in a conversation because somebody here blocks it."""
        return bool(self._blocks.starts) and self._is_blocked(key)

    def is_full(self, link: PeerLink, key: WriterKey) -> bool:
        """Return whether nothing of this user is accepted from this peer, so that nothing is fetched from it."""
        return self.must_check and not self.check(link, key)

    def set_disk(self, level: DiskLevel) -> None:
        """Refuse what there is no disk space for."""
        self.disk = level
        self._left_out.clear()
        self._update_must_check()

    # ---- charging

    def charge(self, link: PeerLink | None, key: WriterKey, size: int, beside: int = 0) -> bool:
        """Charge a proven batch of `size` bytes if there is room for all of it. Only then is it stored.

        Args:
            beside: What it costs besides; unknown users are charged with that too, so that many small logs count.
        """
        user = key[1]
        if self.is_blocked(key):
            return False
        total = self._bytes.get(user, 0) + size
        has_room = self._is_free(user) or total <= self._warned_from or self._check_room(user, total)
        if has_room and self._is_unknown(user):
            has_room = self._unknown.charge(self._payer(user, link), user, size + beside)
            if not has_room:
                self._warn_of_unknown(user)
                self.must_check = True
        if has_room:
            self._bytes[user] = total
        else:
            self._note_refused(user)
        return has_room

    def _note_refused(self, user: UserId) -> None:
        if len(self._left_out) >= MAX_REFUSED:
            self._left_out.clear()
        self._left_out.add(user[:16])

    def left_out_all(self, refs: Iterable[Ref]) -> bool:
        """Return whether of the users of all these entries something was left out: no entry that follows them waits."""
        left_out, blocked = self._left_out, self._blocks.starts
        return bool(left_out or blocked) and all(ref.log[:16] in left_out or ref.log[:16] in blocked for ref in refs)

    def is_brought_by_contact(self, user: UserId, link: PeerLink | None) -> bool:
        """Return whether a contact answers for what this link brings of an unknown user."""
        return self.unknown_payer(user, link).startswith(OF_CONTACT)

    def unknown_payer(self, user: UserId, link: PeerLink | None) -> str:
        """Return where what an unknown user has here counts, "" for any other user. `link` brings it."""
        return self._payer(user, link) if self._is_unknown(user) else ""

    def payer_of_stored(self, user: UserId) -> str:
        """Return where the newest entries of an unknown user count, "" for any other user."""
        if not self._is_unknown(user):
            return ""
        account = self._accounts.by_user.get(user)
        return account.charges[-1].payer if account is not None and account.charges else self._payer(user, None)

    def _is_unknown(self, user: UserId) -> bool:
        return not (user in self._contacts or self._is_free(user))

    def _is_free(self, user: UserId) -> bool:
        return user in self._hosted or self._accounts.is_allowed(user)

    def _check_room(self, user: UserId, total: int) -> bool:
        """Return whether a user has room for so many bytes, of which little is left."""
        if total > self._most:
            self._mark_full(user)
            return False
        if user not in self._warned:
            self._warned.add(user)
            self._ctx.emit(
                WarningIssued(
                    "quota",
                    f"{self._who(user)} has used 80 % of the space for one user ({_mib(self._most)}): messages beyond"
                    " it are refused, unless /allow NAME lifts the limit",
                    user,
                )
            )
        return True

    def _mark_full(self, user: UserId) -> None:
        if user in self._full:
            return
        self._full.add(user)
        self.must_check = True
        self._ctx.emit(Counted("user_full"))
        self._ctx.emit(
            WarningIssued(
                "full",
                f"{self._who(user)} has exceeded the space for one user ({_mib(self._most)}): further messages are"
                " refused until /allow NAME lifts the limit; then they arrive",
                user,
            )
        )
        self._on_full(user)

    def _warn_of_unknown(self, user: UserId) -> None:
        self._ctx.emit(Counted("unknown_full"))
        if user in self._warned or self._unknown_warned >= MAX_UNKNOWN_WARNED:
            return
        self._warned.add(user)
        self._unknown_warned += 1
        self._ctx.emit(
            WarningIssued(
                "full",
                f"{self._who(user)} has exceeded the space for unknown users: further messages are refused until"
                " someone here writes to that user, or /allow NAME lifts the limit; then they arrive",
                user,
            )
        )

    def _who(self, user: UserId) -> str:
        return describe_user(self._names.get(user))

    def _update_must_check(self) -> None:
        self.must_check = bool(
            self._full or self._unknown.any_full or self._blocks.starts or self.disk is not DiskLevel.ENOUGH
        )

    # ---- lifting

    def on_blocks_changed(self, user: UserId) -> None:
        """Check what is refused of a user again: it was blocked, or is no longer."""
        self._left_out.discard(user[:16])
        self._update_must_check()

    def lift(self, user: UserId) -> None:
        """Lift the quota of this user permanently."""
        self._accounts.allow(user)
        self._unknown.release(user)
        self._left_out.discard(user[:16])
        self._full.discard(user)
        self._update_must_check()

    def on_deletion(self, user: UserId, size: int) -> None:
        """Store the lower charges of a user with the commit that deletes so many of its bytes."""
        self._unknown.lower(user, size)

    def on_deleted(self, user: UserId, size: int) -> bool:
        """Give bytes back that were deleted. Return True if there may be room now for refused entries."""
        left = self._bytes[user] = self._bytes.get(user, 0) - size
        made_room = self._is_unknown(user) and self._unknown.forget_full()
        if user in self._full and left <= self._most:
            self._full.discard(user)
            self._warned.discard(user)
            made_room = True
        self._update_must_check()
        return made_room

    def take_over(self, former: Quota) -> None:
        """Take over the limits lifted before storage failed."""
        self._accounts.take_over(former._accounts)

    def is_allowed(self, user: UserId) -> bool:
        return self._accounts.is_allowed(user)

    def on_contact(self, user: UserId) -> bool:
        """Count a user no more among the unknown ones. Return True if there is room now for refused entries."""
        made_room = self._unknown.release(user)
        self._left_out.discard(user[:16])
        self._update_must_check()
        return made_room


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"


# ---- accounts


PREFIX = "quota:"  # in meta, before the user id
ALLOWED = "allowed"
IN_NO_BRANCH = "file"  # payer of what files bring
OF_CONTACT = "contact-"  # before a peer, which is a contact: payer of what it brings of users whom nobody hosts
CONTACT_PART = 2  # one contact may bring this part of what all unknown users may have; a guess
AHEAD = 4  # a charge is stored when it exceeds what was stored, then with a quarter more: few writes; a guess


@dataclass(slots=True)
class QuotaCharge:
    """The bytes of a user that count at one payer.

    `taken` counts now, and `stored` is at least that, or was at the start. Of a charge that was loaded, `surplus` may
    not be so.
    """

    payer: str
    stored: int = 0
    taken: int = 0
    surplus: int = 0


@dataclass(slots=True)
class QuotaAccount:
    """The state of one user's quota: `allowed` (limits lifted), and charges.

    A payer is a peer and its address, or IN_NO_BRANCH. Earlier versions wrote the peer alone, and words that say
    nothing today.
    """

    allowed: bool = False
    charges: tuple[QuotaCharge, ...] = ()  # no dict: most have one, and there may be many thousand users

    def charge_at(self, payer: str) -> QuotaCharge:
        """Return the charge at a payer, a new one if need be."""
        found = next((charge for charge in self.charges if charge.payer == payer), None)
        if found is None:
            found = QuotaCharge(payer)
            self.charges = (*self.charges, found)
        return found

    @classmethod
    def parse(cls, line: str) -> QuotaAccount:
        account = cls()
        for word in line.split():
            payer, _, size = word.partition(":")
            if size.isdecimal():
                account.charge_at(intern(payer)).stored = int(size)
            else:
                account.allowed |= word == ALLOWED
        return account

    def __str__(self) -> str:
        words = [ALLOWED] * self.allowed
        return " ".join(words + [f"{charge.payer}:{charge.stored}" for charge in self.charges])


class QuotaAccounts:
    """The accounts of all users with something to remember.

    Each is one short line in `meta`, written with the commit that changes it.
    """

    def __init__(self, ctx: NodeContext, meta: dict[str, str]) -> None:
        self._ctx = ctx
        lines = ((name, line) for name, line in meta.items() if name.startswith(PREFIX))
        self.by_user: dict[str, QuotaAccount] = {
            name.removeprefix(PREFIX): QuotaAccount.parse(line) for name, line in lines
        }

    def is_allowed(self, user: UserId) -> bool:
        account = self.by_user.get(user)
        return account is not None and account.allowed

    def allow(self, user: UserId) -> None:
        account = self.get(user)
        account.allowed = True
        self.save(user)

    def take_over(self, former: QuotaAccounts) -> None:
        """Take over limits that were lifted while storage did not work."""
        for user, account in former.by_user.items():
            if account.allowed and not self.is_allowed(user):
                self.allow(user)

    def get(self, user: UserId) -> QuotaAccount:
        """Return the account of a user, a new one if need be."""
        return self.by_user.setdefault(user, QuotaAccount())

    def save(self, user: UserId) -> None:
        """Store the account with the change of this step."""
        self._ctx.change.meta[PREFIX + user] = str(self.by_user[user])


# ---- unknown users


class UnknownBytes:
    """The bytes of unknown users, counted where those come from (limits_by_origin.py).

    A user is counted at the peer that hosts it, or else at the one that brings its entries: at that peer, its address
    and its network. What contacts and files bring of unknown users is in no branch. Whoever becomes known is counted
    here no more.

    A user who is not that peer's own has a part of what is left there, so that one account of a gateway never shuts the
    others out. A little is always free to each while there is room.

    What is stored of a charge is up to a quarter more than it is, so that it is written rarely. After a start it counts
    in full, and what is stored later allows for that: so the surplus stays a quarter, however often a peer starts.
    """

    def __init__(self, ctx: NodeContext, accounts: QuotaAccounts) -> None:
        self._accounts = accounts
        self._shares: OriginShares[str] = OriginShares(
            ctx.settings.unknown_bytes, ctx.settings.branch_bytes
        )  # of payers
        self._each = ctx.settings.branch_bytes
        self._each_of_contact = ctx.settings.unknown_bytes // CONTACT_PART
        self._user_part = ctx.settings.branch_part_of_user
        self._user_least = ctx.settings.branch_bytes_of_user
        # Nodes without room for something that came; () for all together. A user is one more node below its peer.
        self._full: set[Line] = set()

    def load(self, is_unknown: Callable[[UserId], bool]) -> None:
        """Take the stored charges of users who are unknown still."""
        for user, account in self._accounts.by_user.items():
            for charge in account.charges if is_unknown(user) else ():
                self._shares.add(charge.payer, line_of(charge.payer), charge.stored)
                charge.taken, charge.surplus = charge.stored, charge.stored - charge.stored * AHEAD // (AHEAD + 1)

    @property
    def any_full(self) -> bool:
        return bool(self._full)

    def is_full(self, payer: str, user: UserId) -> bool:
        """Return whether there was no room for something of a user from there, and nothing has changed since."""
        line = (*line_of(payer), user)
        return any(line[:depth] in self._full for depth in range(len(line) + 1))

    def charge(self, payer: str, user: UserId, size: int) -> bool:
        """Charge a batch if there is room for it."""
        line, by_contact = line_of(payer), payer.startswith(OF_CONTACT)
        each = self._each_of_contact if by_contact else self._each
        if not self._shares.has_room(line, size, each):
            nodes = [line[:depth] for depth in range(1, len(line) + 1)]
            full = [node for node in nodes if self._shares.taken[node] + size > each]
            self._full.update(full or [()])
            return False
        charge = self._accounts.get(user).charge_at(payer)
        if line and line[-1] != user and not by_contact and charge.taken + size > self._most_of_user(line):
            self._full.add((*line, user))  # few: each has taken `_user_least` or nearly so
            return False
        self._shares.add(payer, line, size)
        charge.taken += size
        if charge.taken > charge.stored:
            sure = charge.taken - charge.surplus
            charge.stored = max(charge.taken, sure + sure // AHEAD)
            self._accounts.save(user)
        return True

    def _most_of_user(self, line: Line) -> int:
        """Return what one user may have in a branch whose peer's own it is not."""
        return max(self._user_least, self._shares.left(line) // self._user_part)

    def lower(self, user: UserId, size: int) -> None:
        """Take so many deleted bytes off the charges of a user, the oldest first, and their part of the surplus."""
        account = self._accounts.by_user.get(user)
        if account is None or not account.charges:
            return
        for charge in account.charges:
            sure = charge.taken - charge.surplus
            rest = max(0, sure - size)
            size -= sure - rest
            charge.surplus = charge.surplus * rest // sure if rest else 0
            self._shares.reduce(charge.payer, charge.taken - rest - charge.surplus)
            charge.taken = rest + charge.surplus
            charge.stored = rest + max(charge.surplus, rest // AHEAD)
        account.charges = tuple(charge for charge in account.charges if charge.taken)
        self._accounts.save(user)

    def forget_full(self) -> bool:
        """Try all nodes again. Return whether there may be room now where there was none."""
        was_full = bool(self._full)
        self._full.clear()
        return was_full

    def release(self, user: UserId) -> bool:
        """Charge a user no more. Return whether there may be room now where there was none."""
        account = self._accounts.by_user.get(user)
        if account is None or not account.charges:
            return False
        for charge in account.charges:
            self._shares.reduce(charge.payer, charge.taken)
        account.charges = ()
        self._accounts.save(user)
        return self.forget_full()


def payer_of(host: str, peer: PeerId) -> str:
    """Return how an account names the peer at an address: without the character that stands before a number."""
    return intern(f"{peer}@{host.replace(':', '_')}")  # thousands of accounts may name it


def line_of(payer: str) -> Line:
    """Return the line of a payer, () for one in no branch."""
    peer, _, host = payer.partition("@")
    return () if payer == IN_NO_BRANCH else address_line(host.replace("_", ":"), peer) if host else (peer,)


# ---- new logs


class NewLogs:
    """Logs that came by links of unknown peers. Links by which more came than their branches may begin are paused.

    Attributes:
        by_link: The links by which some came in this step, each with their number.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self._rate = RateLimit(ctx.settings.new_logs_a_second, ctx.settings.new_logs_burst)
        self.by_link: dict[PeerLink, int] = {}

    def count(self, link: PeerLink) -> None:
        """Count a log."""
        self.by_link[link] = self.by_link.get(link, 0) + 1

    def limit(self, up: Container[int]) -> None:
        """Order the pauses of links that are up, at the end of a step."""
        counted, self.by_link = self.by_link, {}
        for link, count in counted.items():
            if link.id not in up:
                continue
            wait = self._rate.charge(address_line(link.host, link.peer), count, self._ctx.now.mono)
            if wait > 0:
                self._ctx.emit(Counted("new_logs"))
                self._ctx.emit(PauseReading(link.id, wait))
