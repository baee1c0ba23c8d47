"""Quotas: how much is stored of each user.

Every user has a quota, above which nothing more of the user is stored. Bytes are counted per batch. The sum of a user's
bytes is requested from storage only when it matters: not while everything stored here, of all users together, leaves
room. Until the answer, entries of that user wait (ingest.py). The request is made while none of the user's entries is
on its way to disk, so the answer is exact and no limit is ever exceeded.

A full user's peers are sent `full`; nothing of the user is fetched (fetch.py), and other entries do not wait for it.
`lift` removes every limit of a user permanently. Then everything is compared again and the refused entries arrive.
Hosted users have no limits at home. In an open network unknown users have limits of their own.

Source: docs/protocol.md, "Limits"; docs/guarantees.md has the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from p2pchat.core.context import Context
from p2pchat.core.effects import Counted, WarningIssued
from p2pchat.core.log import WriterKey
from p2pchat.core.names import describe_user
from p2pchat.core.sync.conversations import Conversations
from p2pchat.core.sync.log_index import Lookups
from p2pchat.protocol import ConversationId, PeerId, UserId

Then = Callable[[], None]
WARNED_AT = 0.8  # fraction of a quota: docs/protocol.md
MAX_UNKNOWN_WARNED = 16  # users in one run that cause a warning, so that made-up users cannot flood it; a guess


class Admission(Enum):
    """The answer to the question if more entries of a user may be stored."""

    ACCEPT = "enough"
    DEFER = "later"  # not known yet
    REFUSE = "none"


class Quota:
    """Counts stored bytes and decides whether more may be stored.

    Args:
        stored_bytes: At least as many as all stored entries have together; counting begins with it.
        hosted, names: Live views of the hosted users and of names.
        strangers: None in a network with a key.
        has_uncommitted: Returns whether entries of a user are on their way to disk.
        on_full: Called with each user whose quota becomes full.

    Attributes:
        must_check: Whether `check` may return anything but ACCEPT, or sums are needed. While it is False, there is
            nothing to ask here.
    """

    def __init__(
        self, ctx: Context, lookups: Lookups, stored_bytes: int, accounts: QuotaAccounts,
        hosted: Mapping[UserId, object], names: Mapping[UserId, str], strangers: UnknownUserQuota | None,
        has_uncommitted: Callable[[UserId], bool], on_full: Callable[[UserId], None],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._lookups = lookups
        self._hosted = hosted
        self._names = names
        self._unknown = strangers
        self._most = ctx.settings.user_quota_bytes
        self._warned_from = int(WARNED_AT * self._most)
        self._stored_most = stored_bytes  # upper bound for one user: everything stored at the start
        self._free_until = -1 if strangers else self._warned_from - self._stored_most
        self._accounts = accounts
        self._base: dict[UserId, int] = {}  # what storage had of a user besides `_added`, where it was asked
        self._added: dict[UserId, int] = {}  # stored since the start
        self._waiting: dict[UserId, list[Then]] = {}  # users whose sum was requested -> what waits for it
        self._asked: set[UserId] = set()
        self._full: set[UserId] = set()
        self._warned: set[UserId] = set()
        self.must_check = strangers is not None
        self._on_full = on_full
        self._has_uncommitted = has_uncommitted
        self._talks_asked = 0  # lookups of the bytes of direct conversations, at the start
        self._after_talks: list[Then] = []
        self._unknown_warned = 0

    def start(self) -> None:
        """Ask for the bytes of unknown users' direct conversations. Until they are known, more entries of
        those wait.
        """
        keys = self._unknown.unanswered() if self._unknown is not None else []
        self._talks_asked = len(keys)
        for conversation, user in keys:
            self._lookups.size((user, conversation), partial(self._on_talk_size, (conversation, user)))

    def _on_talk_size(self, key: WriterKey, size: int) -> None:
        assert self._unknown is not None
        self._unknown.on_size(key, size)
        self._talks_asked -= 1
        if not self._talks_asked:
            waiting, self._after_talks = self._after_talks, []
            for then in waiting:
                then()

    # ---- checking

    def check(self, payer: PeerId, key: WriterKey) -> Admission:
        """Return whether a batch of this user may be decoded. `payer` is the peer that brought it, "" for a file."""
        user = key[1]
        if user in self._waiting:
            return Admission.DEFER
        if user in self._full:
            return Admission.REFUSE
        if self._unknown is None or self._is_free(user):
            return Admission.ACCEPT
        if self._talks_asked and self._unknown.is_unanswered(key):
            return Admission.DEFER
        return Admission.REFUSE if self._unknown.refuses(payer, key) else Admission.ACCEPT

    def refuses(self, peer: PeerId, key: WriterKey) -> bool:
        """Return whether nothing of this user is accepted from this peer, so that nothing is fetched from it."""
        return self.must_check and self.check(peer, key) is Admission.REFUSE

    def when_known(self, user: UserId, then: Then) -> None:
        """Call `then` when what `check` deferred is known."""
        waiting = self._waiting.get(user)
        (self._after_talks if waiting is None else waiting).append(then)

    # ---- charging

    def charge(self, payer: PeerId, key: WriterKey, size: int) -> Admission:
        """Charge a proven batch of `size` bytes if there is room for all of it. Only then is it stored."""
        user = key[1]
        added = self._added.get(user, 0) + size
        if added <= self._free_until:
            self._added[user] = added
            return Admission.ACCEPT
        if self._is_free(user):
            return Admission.ACCEPT
        room = self._check_room(user, added)
        if room is Admission.ACCEPT and self._unknown is not None:
            refused = self._unknown.charge(payer, key, size)
            if refused:
                self._warn_of_unknown(user, refused)
                room = Admission.REFUSE
        if room is Admission.ACCEPT:
            self._added[user] = added
        return room

    def _is_free(self, user: UserId) -> bool:
        return user in self._hosted or self._accounts.is_allowed(user)

    def _check_room(self, user: UserId, added: int) -> Admission:
        base = self._base.get(user, None if self._stored_most else 0)
        total = added + (self._stored_most if base is None else base)
        if total <= self._warned_from:
            return Admission.ACCEPT
        if base is None:
            self._waiting.setdefault(user, [])
            self.must_check = True
            return Admission.ACCEPT if total <= self._most else Admission.DEFER
        if total > self._most:
            self._mark_full(user)
            return Admission.REFUSE
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
        return Admission.ACCEPT

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

    def _warn_of_unknown(self, user: UserId, refused: str) -> None:
        self._ctx.emit(Counted(f"stranger_full_{refused}"))
        if user in self._warned or self._unknown_warned >= MAX_UNKNOWN_WARNED:
            return
        self._warned.add(user)
        self._unknown_warned += 1
        self._ctx.emit(
            WarningIssued(
                "full",
                f"{self._who(user)} has exceeded the space for unknown users: further messages are refused until"
                " someone here writes to or meets that user, or /allow NAME lifts the limit; then they arrive",
                user,
            )
        )

    def _who(self, user: UserId) -> str:
        return describe_user(self._names.get(user))

    # ---- sums of users

    def request_sums(self) -> None:
        """Request the sums that are needed, of users without entries on their way to disk."""
        for user in self._waiting.keys() - self._asked:
            if not self._has_uncommitted(user):
                self._asked.add(user)
                before = self._added.get(user, 0)
                self._lookups.size((user, ""), partial(self._on_sum, user, before))

    def _on_sum(self, user: UserId, before: int, size: int) -> None:
        self._asked.discard(user)
        self._base[user] = size - before
        waiting = self._waiting.pop(user, [])
        self._update_must_check()
        for then in waiting:
            then()

    def _update_must_check(self) -> None:
        self.must_check = bool(self._unknown or self._waiting or self._full)

    # ---- lifting

    def lift(self, user: UserId) -> None:
        """Lift the quota of this user permanently."""
        self._accounts.allow(user)
        if self._unknown is not None:
            self._unknown.lift(user)
        self._full.discard(user)
        self._update_must_check()

    def take_over(self, former: Quota) -> None:
        """Take over the limits lifted before storage failed."""
        self._accounts.take_over(former._accounts)

    def is_allowed(self, user: UserId) -> bool:
        return self._accounts.is_allowed(user)

    def on_proved(self, user: UserId) -> None:
        """Note that a user proved itself on a link, so it is not unknown any more."""
        if self._unknown is not None:
            self._unknown.on_proved(user)

    def on_write(self, members: frozenset[UserId]) -> bool:
        """Note that a hosted user wrote to these members. Return True if there is room now for refused entries."""
        return self._unknown is not None and self._unknown.on_write(members - self._hosted.keys())


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"


# ---- accounts


PREFIX = "quota:"  # in meta, before the user id
ALLOWED = "allowed"
PROVEN = "proven"
BY_FILE = "file"  # payer of entries from files


@dataclass(slots=True)
class QuotaAccount:
    """The state of one user's quota: `allowed` (limits lifted), `proven` (met on a link), and charges.

    `charges`: peer (or BY_FILE) -> bytes it brought before the user proved itself on a link here.
    """

    allowed: bool = False
    proven: bool = False
    charges: dict[PeerId, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> QuotaAccount:
        account = cls()
        for word in line.split():
            peer, _, size = word.partition(":")
            if size.isdecimal():
                account.charges[peer] = int(size)
            else:
                account.allowed |= word == ALLOWED
                account.proven |= word == PROVEN
        return account

    def __str__(self) -> str:
        words = [ALLOWED] * self.allowed + [PROVEN] * self.proven
        return " ".join(words + [f"{peer}:{size}" for peer, size in self.charges.items()])


class QuotaAccounts:
    """The accounts of all users with something to remember.

    Each is one short line in `meta`, written with the commit that changes it. In a network with a key only allowed
    users have one.
    """

    def __init__(self, ctx: Context, meta: dict[str, str]) -> None:
        self._ctx = ctx
        lines = ((name, line) for name, line in meta.items() if name.startswith(PREFIX))
        self.by_user = {name.removeprefix(PREFIX): QuotaAccount.parse(line) for name, line in lines}

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


MAX_MET = 100_000  # users met of whom nothing is stored; a guess: 10 MiB


class UnknownUserQuota:
    """Limits on unknown users in an open network, where anyone can connect under many names.

    A user to whom no hosted user ever wrote may have 16 direct conversations of 1 MiB each here, and all such users
    together 256 MiB. The logs of users who never proved themselves on a link here have 4 GiB together; they are charged
    to the peer that brought them, and one peer's charges have the quota of a user. Writing to a user lifts the first
    limit, meeting it the second, `lift` both.

    The bytes of such conversations are requested from storage at the start. The charges are stored with the entries.
    """

    def __init__(
        self,
        ctx: Context,
        accounts: QuotaAccounts,
        conversations: Conversations,
        hosted: Iterable[UserId],
        is_here: Callable[[UserId], bool],
    ) -> None:
        """Begin with the stored accounts. `is_here` returns whether a link is up to a peer that hosts this user."""
        self._ctx = ctx
        self._conversations = conversations
        self._hosted = hosted
        self._is_here = is_here
        self._accounts = accounts
        self._met: set[UserId] = set()
        # Direct conversations without an answer.
        self._written_to: set[UserId] | None = None  # None: not computed yet
        self._talks: dict[UserId, dict[ConversationId, int]] = {}  # bytes
        self._talks_bytes = 0
        self._full_talks: set[WriterKey] = set()
        self._talks_full = False
        # Users who were never met.
        self._charged: dict[PeerId, int] = {}
        self._charged_bytes = 0
        self._full_payers: set[PeerId] = set()
        self._unmet_full = False
        for account in accounts.by_user.values():
            if not account.allowed:
                for peer, size in account.charges.items():
                    self._charge(peer, size)

    # ---- checking

    def refuses(self, payer: PeerId, key: WriterKey) -> bool:
        """Return whether there was no room for one of these, and nothing has changed since."""
        if key in self._full_talks or (self._talks_full and self.is_unanswered(key)):
            return True
        if self._unmet_full or self._full_payers:
            return (self._unmet_full or payer in self._full_payers) and not self._is_met(key[1])
        return False

    def charge(self, payer: PeerId, key: WriterKey, size: int) -> str:
        """Charge a batch if there is room for it. Return "", or which limit was reached: "talk" or "unmet"."""
        unanswered = self.is_unanswered(key)
        if unanswered and not self._has_room(key, size):
            return "talk"
        if not self._is_met(key[1]) and not self._charge_payer(payer or BY_FILE, key[1], size):
            return "unmet"
        if unanswered:
            talks = self._talks.setdefault(key[1], {})
            talks[key[0]] = talks.get(key[0], 0) + size
            self._talks_bytes += size
        return ""

    # ---- direct conversations without an answer

    def is_unanswered(self, key: WriterKey) -> bool:
        """Return whether this is a direct conversation with a user to whom no hosted user ever wrote."""
        conversation = self._conversations.by_id.get(key[0])
        return conversation is not None and conversation.members is not None and key[1] not in self._known()

    def _known(self) -> set[UserId]:
        if self._written_to is None:
            hosted = set(self._hosted)
            self._written_to = set()
            for conversation in self._conversations.by_id.values():
                if conversation.members is not None and not hosted.isdisjoint(conversation.writers):
                    self._written_to |= conversation.members
        return self._written_to

    def unanswered(self) -> list[WriterKey]:
        """Return the direct conversations with entries in which no hosted user wrote."""
        hosted = set(self._hosted)
        return [
            (conversation.id, user)
            for conversation in self._conversations.by_id.values()
            if conversation.members is not None
            for user in conversation.writers.keys() - hosted
            if user not in self._known()
        ]

    def on_size(self, key: WriterKey, size: int) -> None:
        """Take the bytes stored of one of these."""
        if size and self.is_unanswered(key):
            self._talks.setdefault(key[1], {})[key[0]] = size
            self._talks_bytes += size

    def _has_room(self, key: WriterKey, size: int) -> bool:
        settings = self._ctx.settings
        talks = self._talks.get(key[1], {})
        if self._talks_bytes + size > settings.unanswered_bytes:
            self._talks_full = True
            return False
        too_many = key[0] not in talks and len(talks) >= settings.max_unanswered
        if too_many or talks.get(key[0], 0) + size > settings.unanswered_talk_bytes:
            if len(self._full_talks) < MAX_MET:
                self._full_talks.add(key)
            return False
        return True

    def on_write(self, users: Iterable[UserId]) -> bool:
        """Note that a hosted user wrote to these users. Return True if there is room now where there was none."""
        made_room = False
        for user in users:
            if user not in self._known():
                made_room |= self._on_answered(user)
        return made_room

    def _on_answered(self, user: UserId) -> bool:
        self._known().add(user)
        self._talks_bytes -= sum(self._talks.pop(user, {}).values())
        full = {key for key in self._full_talks if key[1] == user}
        self._full_talks -= full
        refused = bool(full) or self._talks_full
        self._talks_full = False
        return refused

    # ---- users who were never met

    def _is_met(self, user: UserId) -> bool:
        account = self._accounts.by_user.get(user)
        if account is not None and account.proven:
            return True
        if user in self._met or self._is_here(user):
            self._accounts.get(user).proven = True
            self._accounts.save(user)
            return True
        return False

    def _charge_payer(self, payer: PeerId, user: UserId, size: int) -> bool:
        settings = self._ctx.settings
        if self._charged_bytes + size > settings.unmet_users_bytes:
            self._unmet_full = True
            return False
        if payer != BY_FILE and self._charged.get(payer, 0) + size > settings.user_quota_bytes:
            self._full_payers.add(payer)
            return False
        self._charge(payer, size)
        charges = self._accounts.get(user).charges
        charges[payer] = charges.get(payer, 0) + size
        self._accounts.save(user)
        return True

    def _charge(self, payer: PeerId, size: int) -> None:
        self._charged[payer] = self._charged.get(payer, 0) + size
        self._charged_bytes += size

    def on_proved(self, user: UserId) -> None:
        """Release the charges of a user who proved itself on a link."""
        if len(self._met) < MAX_MET:
            self._met.add(user)
        account = self._accounts.by_user.get(user)
        if account is not None and account.charges:
            account.proven = True
            self._release(user)

    def _release(self, user: UserId) -> None:
        account = self._accounts.get(user)
        for payer, size in account.charges.items():
            self._charge(payer, -size)
            self._full_payers.discard(payer)
        self._unmet_full = False
        account.charges = {}
        self._accounts.save(user)

    def lift(self, user: UserId) -> None:
        """Lift both limits for a user."""
        self._on_answered(user)
        self._release(user)
