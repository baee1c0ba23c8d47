"""How much is stored of whom: every user has a quota, and above it nothing more is taken.

Bytes are counted as batches are taken, one addition a batch. What is stored of a user already is asked of storage
only when it matters: while all that is stored here, of everybody together, leaves room, nobody's sum is worth a
question. When it is asked, what comes of that user waits (ingest.py), and it is asked when nothing of that user is
on its way to the disk, so that the answer is exact and no limit is ever passed.

Who is full is told so (`full`), not asked for anything (fetch.py), and not waited for by others' entries. `allow`
lifts every limit for a user, for good; then everything is compared again, and what was refused comes. In an open
network quota.py adds limits for those whom nobody here knows. Hosted users have no limits at home.

Source: docs/protocol.md, "Limits"; docs/guarantees.md says what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from p2pchat.core.context import Context
from p2pchat.core.effects import Counted, WarningIssued
from p2pchat.core.records import Stored
from p2pchat.core.sync.conversations import Conversations
from p2pchat.core.sync.lookups import Lookups
from p2pchat.protocol import ConversationId, PeerId, UserId

Key = tuple[ConversationId, UserId]
Then = Callable[[], None]
WARNED_AT = 0.8  # of a quota: docs/protocol.md
MAX_UNKNOWN_WARNED = 16  # users in one run: whoever makes up users shall not flood the screen; a guess


class Admission(Enum):
    """Return whether there is room for what somebody wrote."""

    ACCEPT = "enough"
    DEFER = "later"  # that is being found out
    REFUSE = "none"


class Quota:
    """Counts what is stored, and says whether there is room for more.

    Attributes:
        is_alert: Whether `gate` may answer anything but ENOUGH: while it is False, it need not be asked.
    """

    def __init__(
        self, ctx: Context, lookups: Lookups, stored: Stored, hosted: Mapping[UserId, object],
        names: Mapping[UserId, str], strangers: UnknownUserQuota | None,
    ) -> None:  # fmt: skip
        """`hosted`, `names` are live views; `strangers`: None in a network with a key."""
        self._ctx = ctx
        self._lookups = lookups
        self._hosted = hosted
        self._names = names
        self._unknown = strangers
        self._most = ctx.settings.user_quota_bytes
        self._warned_from = int(WARNED_AT * self._most)
        self._stored_most = stored.most_bytes  # of anybody, at most: all that was stored at the start
        self._free_until = -1 if strangers else self._warned_from - self._stored_most
        self._accounts = QuotaAccounts(ctx, stored.meta)
        self._base: dict[UserId, int] = {}  # what was stored of a user besides `_added`, where it was asked
        self._added: dict[UserId, int] = {}  # taken since the start
        self._waiting: dict[UserId, list[Then]] = {}  # users whose sum is being found out -> what waits for it
        self._asked: set[UserId] = set()
        self._full: set[UserId] = set()
        self._warned: set[UserId] = set()
        self.must_check = strangers is not None
        self.on_full: Callable[[UserId], None] = lambda user: None
        self.has_uncommitted: Callable[[UserId], bool] = lambda user: False  # something of it is not durable yet
        self._talks_asked = 0  # direct conversations whose bytes storage was asked for, at the start
        self._after_talks: list[Then] = []
        self._unknown_warned = 0
        if strangers is not None:
            strangers.load(self._accounts)

    def start(self) -> None:
        """Ask how much strangers have stored in direct conversations; until that is known, more of it waits."""
        keys = self._unknown.unanswered() if self._unknown is not None else []
        self._talks_asked = len(keys)
        for conversation, user in keys:
            self._lookups.size((user, conversation), partial(self._on_talk_size, (conversation, user)))

    def _on_talk_size(self, key: Key, size: int) -> None:
        assert self._unknown is not None
        self._unknown.on_size(key, size)
        self._talks_asked -= 1
        if not self._talks_asked:
            waiting, self._after_talks = self._after_talks, []
            for then in waiting:
                then()

    # ---- asking

    def check(self, payer: PeerId, key: Key) -> Admission:
        """Return whether a batch of this user may be looked at, before it is; `payer` brings it ("": a file)."""
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

    def refuses(self, peer: PeerId, key: Key) -> bool:
        """Return whether nothing more of this user is taken there from this peer: then nothing is wanted from it."""
        return self.must_check and self.check(peer, key) is Admission.REFUSE

    def when_known(self, user: UserId, then: Then) -> None:
        """Call back when what `gate` put off until later is known."""
        waiting = self._waiting.get(user)
        (self._after_talks if waiting is None else waiting).append(then)

    # ---- taking

    def charge(self, payer: PeerId, key: Key, size: int) -> Admission:
        """Count a proven batch of `size` bytes, if there is room for all of it; it is kept then, and only then."""
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
            self._request_sum(user)
            return Admission.ACCEPT if total <= self._most else Admission.DEFER
        if total > self._most:
            self._mark_full(user)
            return Admission.REFUSE
        if user not in self._warned:
            self._warned.add(user)
            self._ctx.emit(
                WarningIssued(
                    "quota",
                    f"{self._who(user)} has written 80 % of what is stored of one user ({_mib(self._most)}): above it"
                    " nothing more is taken, unless /allow NAME lifts the limit",
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
                f"{self._who(user)} has written more than is stored of one user ({_mib(self._most)}): nothing more is"
                " taken until /allow NAME lifts the limit; then it comes",
                user,
            )
        )
        self.on_full(user)

    def _warn_of_unknown(self, user: UserId, refused: str) -> None:
        self._ctx.emit(Counted(f"stranger_full_{refused}"))
        if user in self._warned or self._unknown_warned >= MAX_UNKNOWN_WARNED:
            return
        self._warned.add(user)
        self._unknown_warned += 1
        self._ctx.emit(
            WarningIssued(
                "full",
                f"{self._who(user)} has written more than is stored of those whom nobody here knows: nothing more is"
                " taken until somebody here writes to or meets that user, or /allow NAME lifts the limit; then it"
                " comes",
                user,
            )
        )

    def _who(self, user: UserId) -> str:
        name = self._names.get(user)
        return f"the user {name!a}" if name else "a user without a name"

    # ---- finding out

    def _request_sum(self, user: UserId) -> None:
        self._waiting.setdefault(user, [])
        self.must_check = True

    def request_sums(self) -> None:
        """Ask for the sums that are wanted, of those users of whom nothing is on its way to the disk; each step."""
        for user in self._waiting.keys() - self._asked:
            if not self.has_uncommitted(user):
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

    @property
    def has_requests(self) -> bool:
        """Return whether `ask` has something to do."""
        return len(self._waiting) > len(self._asked)

    def _update_must_check(self) -> None:
        self.must_check = bool(self._unknown or self._waiting or self._full)

    # ---- lifting

    def lift(self, user: UserId) -> None:
        """Take whatever this user writes, from now on and for good."""
        self._accounts.allow(user)
        if self._unknown is not None:
            self._unknown.lift(user)
        self._full.discard(user)
        self._update_must_check()

    def take_over(self, former: Quota) -> None:
        """Lift what was lifted before storage failed."""
        self._accounts.take_over(former._accounts)

    def is_allowed(self, user: UserId) -> bool:
        return self._accounts.is_allowed(user)

    def on_proved(self, user: UserId) -> None:
        """A user proved itself on a link: it is no stranger any more."""
        if self._unknown is not None:
            self._unknown.on_proved(user)

    def on_write(self, members: frozenset[UserId]) -> bool:
        """A hosted user wrote in a conversation of these; True when there is room now for what was refused."""
        return self._unknown is not None and self._unknown.on_write(members - self._hosted.keys())


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"


# ---- accounts
#
# What is remembered of a user for the sake of quotas: that limits were lifted, and in an open network who is known.
#
# One short line a user, in `meta`, written with the commit that changes it: `allowed`, `proven`, and for those who were
# never met the bytes each peer has brought of them. In a network with a key there are lines of allowed users only.


PREFIX = "quota:"  # in meta, before the user id
ALLOWED = "allowed"
PROVEN = "proven"
BY_FILE = "file"  # who brought what no peer did


@dataclass(slots=True)
class QuotaAccount:
    """One user. `charges`: peer (or BY_FILE) -> bytes it brought while the user had proved itself on no link here."""

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
    """The accounts of all users of whom there is something to remember."""

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
        """Allow whom another allowed: it may have been said while storage did not work."""
        for user, account in former.by_user.items():
            if account.allowed and not self.is_allowed(user):
                self.allow(user)

    def get(self, user: UserId) -> QuotaAccount:
        """Return the account of a user, a new one if need be."""
        return self.by_user.setdefault(user, QuotaAccount())

    def save(self, user: UserId) -> None:
        """Have it stored with the change of this step."""
        self._ctx.change.meta[PREFIX + user] = str(self.by_user[user])


# ---- strangers
#
# What an open network adds to quotas: whoever can connect is a member there, and may be anybody, many times over.
#
# Two limits keep those whom nobody here knows from filling the disk. To a user whom nobody here ever wrote to, 16
# direct conversations of 1 MiB each are open, and all such users have 256 MiB together. And the logs of users who never
# proved themselves on a link here have 4 GiB together; they are charged to the peer that brought them, and one peer's
# charges have the quota of a user. Writing to a user lifts the first, meeting it the second, `allow` both.
#
# How much is stored in such conversations is asked of storage when the first entry of one comes; the charges are stored
# with the entries (quota.py).


MAX_MET = 100_000  # users met of whom nothing is stored; a guess: 10 MiB


class UnknownUserQuota:
    """Counts what those wrote whom nobody here knows."""

    def __init__(
        self,
        ctx: Context,
        conversations: Conversations,
        hosted: Iterable[UserId],
        is_here: Callable[[UserId], bool],
    ) -> None:
        """`is_here`: whether a link is up to a peer that hosts this user."""
        self._ctx = ctx
        self._conversations = conversations
        self._hosted = hosted
        self._is_here = is_here
        self._accounts: QuotaAccounts
        self._met: set[UserId] = set()
        # unanswered direct conversations
        self._written_to: set[UserId] | None = None  # None: not looked at yet
        self._talks: dict[UserId, dict[ConversationId, int]] = {}  # bytes
        self._talks_bytes = 0
        self._full_talks: set[Key] = set()
        self._talks_full = False
        # users never met
        self._charged: dict[PeerId, int] = {}
        self._charged_bytes = 0
        self._full_payers: set[PeerId] = set()
        self._unmet_full = False

    def load(self, accounts: QuotaAccounts) -> None:
        """Begin with what is remembered."""
        self._accounts = accounts
        for account in accounts.by_user.values():
            if not account.allowed:
                for peer, size in account.charges.items():
                    self._charge(peer, size)

    # ---- asking

    def refuses(self, payer: PeerId, key: Key) -> bool:
        """Return whether there was no room for one of these, and nothing has changed since."""
        if key in self._full_talks or (self._talks_full and self.is_unanswered(key)):
            return True
        if self._unmet_full or self._full_payers:
            return (self._unmet_full or payer in self._full_payers) and not self._is_met(key[1])
        return False

    def charge(self, payer: PeerId, key: Key, size: int) -> str:
        """Count a batch, if there is room for it: ""; else which of the two limits there is: "talk", "unmet"."""
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

    # ---- conversations nobody here wrote in

    def is_unanswered(self, key: Key) -> bool:
        """Return whether this is a direct conversation with a user whom nobody here ever wrote to."""
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

    def unanswered(self) -> list[Key]:
        """Return the direct conversations of which something is stored and in which nobody here wrote."""
        hosted = set(self._hosted)
        return [
            (conversation.id, user)
            for conversation in self._conversations.by_id.values()
            if conversation.members is not None
            for user in conversation.writers.keys() - hosted
            if user not in self._known()
        ]

    def on_size(self, key: Key, size: int) -> None:
        """So much of one of these is stored."""
        if size and self.is_unanswered(key):
            self._talks.setdefault(key[1], {})[key[0]] = size
            self._talks_bytes += size

    def _has_room(self, key: Key, size: int) -> bool:
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
        """Somebody here wrote to these; True when there is room now where there was none."""
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

    # ---- users nobody here has met

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
        """A user proved itself on a link: nobody pays for it any more."""
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
        """Both limits are lifted for a user."""
        self._on_answered(user)
        self._release(user)
