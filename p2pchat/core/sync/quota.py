"""How much is stored of whom: every user has a quota, and above it nothing more is taken.

Bytes are counted as batches are taken, one addition a batch. What is stored of a user already is asked of storage
only when it matters: while all that is stored here, of everybody together, leaves room, nobody's sum is worth a
question. When it is asked, what comes of that user waits (ingest.py), and it is asked when nothing of that user is
on its way to the disk, so that the answer is exact and no limit is ever passed.

Who is full is told so (`full`), not asked for anything (fetch.py), and not waited for by others' entries. `allow`
lifts every limit for a user, for good; then everything is compared again, and what was refused comes. In an open
network strangers.py adds limits for those whom nobody here knows. Hosted users have no limits at home.

Source: docs/protocol.md, "Limits"; docs/guarantees.md says what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial

from p2pchat.core.context import Context
from p2pchat.core.effects import Counted, Warned
from p2pchat.core.records import Stored
from p2pchat.core.sync.accounts import Accounts
from p2pchat.core.sync.lookups import Lookups
from p2pchat.core.sync.strangers import Strangers
from p2pchat.protocol import ConversationId, PeerId, UserId

Key = tuple[ConversationId, UserId]
Then = Callable[[], None]
WARNED_AT = 0.8  # of a quota: docs/protocol.md
MAX_STRANGERS_WARNED = 16  # users in one run: whoever makes up users shall not flood the screen; a guess


class Room(Enum):
    """Whether there is room for what somebody wrote."""

    ENOUGH = "enough"
    LATER = "later"  # that is being found out
    NONE = "none"


class Quota:
    """Counts what is stored, and says whether there is room for more.

    Attributes:
        is_alert: Whether `gate` may answer anything but ENOUGH: while it is False, it need not be asked.
    """

    def __init__(
        self, ctx: Context, lookups: Lookups, stored: Stored, hosted: Mapping[UserId, object],
        names: Mapping[UserId, str], strangers: Strangers | None,
    ) -> None:  # fmt: skip
        """`hosted`, `names` are live views; `strangers`: None in a network with a key."""
        self._ctx = ctx
        self._lookups = lookups
        self._hosted = hosted
        self._names = names
        self._strangers = strangers
        self._most = ctx.settings.user_quota_bytes
        self._warned_from = int(WARNED_AT * self._most)
        self._stored_most = stored.most_bytes  # of anybody, at most: all that was stored at the start
        self._carefree = -1 if strangers else self._warned_from - self._stored_most
        self._accounts = Accounts(ctx, stored.meta)
        self._base: dict[UserId, int] = {}  # what was stored of a user besides `_added`, where it was asked
        self._added: dict[UserId, int] = {}  # taken since the start
        self._waiting: dict[UserId, list[Then]] = {}  # users whose sum is being found out -> what waits for it
        self._asked: set[UserId] = set()
        self._full: set[UserId] = set()
        self._warned: set[UserId] = set()
        self.is_alert = strangers is not None
        self.on_full: Callable[[UserId], None] = lambda user: None
        self.is_under_way: Callable[[UserId], bool] = lambda user: False  # something of it is not durable yet
        self._talks_asked = 0  # direct conversations whose bytes storage was asked for, at the start
        self._after_talks: list[Then] = []
        self._strangers_warned = 0
        if strangers is not None:
            strangers.open(self._accounts)

    def start(self) -> None:
        """Ask how much strangers have stored in direct conversations; until that is known, more of it waits."""
        keys = self._strangers.unanswered() if self._strangers is not None else []
        self._talks_asked = len(keys)
        for conversation, user in keys:
            self._lookups.size((user, conversation), partial(self._talk_answer, (conversation, user)))

    def _talk_answer(self, key: Key, size: int) -> None:
        assert self._strangers is not None
        self._strangers.found(key, size)
        self._talks_asked -= 1
        if not self._talks_asked:
            waiting, self._after_talks = self._after_talks, []
            for then in waiting:
                then()

    # ---- asking

    def gate(self, payer: PeerId, key: Key) -> Room:
        """Say whether a batch of this user may be looked at, before it is; `payer` brings it ("": a file)."""
        user = key[1]
        if user in self._waiting:
            return Room.LATER
        if user in self._full:
            return Room.NONE
        if self._strangers is None or self._is_free(user):
            return Room.ENOUGH
        if self._talks_asked and self._strangers.is_unanswered(key):
            return Room.LATER
        return Room.NONE if self._strangers.refuses(payer, key) else Room.ENOUGH

    def refuses(self, peer: PeerId, key: Key) -> bool:
        """Say whether nothing more of this user is taken there from this peer: then nothing is wanted from it."""
        return self.is_alert and self.gate(peer, key) is Room.NONE

    def wait(self, user: UserId, then: Then) -> None:
        """Call back when what `gate` put off until later is known."""
        waiting = self._waiting.get(user)
        (self._after_talks if waiting is None else waiting).append(then)

    # ---- taking

    def take(self, payer: PeerId, key: Key, size: int) -> Room:
        """Count a proven batch of `size` bytes, if there is room for all of it; it is kept then, and only then."""
        user = key[1]
        added = self._added.get(user, 0) + size
        if added <= self._carefree:
            self._added[user] = added
            return Room.ENOUGH
        if self._is_free(user):
            return Room.ENOUGH
        room = self._room(user, added)
        if room is Room.ENOUGH and self._strangers is not None:
            refused = self._strangers.take(payer, key, size)
            if refused:
                self._warn_of_stranger(user, refused)
                room = Room.NONE
        if room is Room.ENOUGH:
            self._added[user] = added
        return room

    def _is_free(self, user: UserId) -> bool:
        return user in self._hosted or self._accounts.is_allowed(user)

    def _room(self, user: UserId, added: int) -> Room:
        base = self._base.get(user, None if self._stored_most else 0)
        total = added + (self._stored_most if base is None else base)
        if total <= self._warned_from:
            return Room.ENOUGH
        if base is None:
            self._find_out(user)
            return Room.ENOUGH if total <= self._most else Room.LATER
        if total > self._most:
            self._fill(user)
            return Room.NONE
        if user not in self._warned:
            self._warned.add(user)
            self._ctx.emit(
                Warned(
                    "quota",
                    f"{self._who(user)} has written 80 % of what is stored of one user ({_mib(self._most)}): above it"
                    " nothing more is taken, unless /allow NAME lifts the limit",
                    user,
                )
            )
        return Room.ENOUGH

    def _fill(self, user: UserId) -> None:
        if user in self._full:
            return
        self._full.add(user)
        self.is_alert = True
        self._ctx.emit(Counted("user_full"))
        self._ctx.emit(
            Warned(
                "full",
                f"{self._who(user)} has written more than is stored of one user ({_mib(self._most)}): nothing more is"
                " taken until /allow NAME lifts the limit; then it comes",
                user,
            )
        )
        self.on_full(user)

    def _warn_of_stranger(self, user: UserId, refused: str) -> None:
        self._ctx.emit(Counted(f"stranger_full_{refused}"))
        if user in self._warned or self._strangers_warned >= MAX_STRANGERS_WARNED:
            return
        self._warned.add(user)
        self._strangers_warned += 1
        self._ctx.emit(
            Warned(
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

    def _find_out(self, user: UserId) -> None:
        self._waiting.setdefault(user, [])
        self.is_alert = True

    def ask(self) -> None:
        """Ask for the sums that are wanted, of those users of whom nothing is on its way to the disk; each step."""
        for user in self._waiting.keys() - self._asked:
            if not self.is_under_way(user):
                self._asked.add(user)
                before = self._added.get(user, 0)
                self._lookups.size((user, ""), partial(self._answer, user, before))

    def _answer(self, user: UserId, before: int, size: int) -> None:
        self._asked.discard(user)
        self._base[user] = size - before
        waiting = self._waiting.pop(user, [])
        self._rest()
        for then in waiting:
            then()

    @property
    def wanted(self) -> bool:
        """Whether `ask` has something to do."""
        return len(self._waiting) > len(self._asked)

    def _rest(self) -> None:
        self.is_alert = bool(self._strangers or self._waiting or self._full)

    # ---- lifting

    def allow(self, user: UserId) -> None:
        """Take whatever this user writes, from now on and for good."""
        self._accounts.allow(user)
        if self._strangers is not None:
            self._strangers.allow(user)
        self._full.discard(user)
        self._rest()

    def keep(self, former: Quota) -> None:
        """Lift what was lifted before storage failed."""
        self._accounts.keep(former._accounts)

    def is_allowed(self, user: UserId) -> bool:
        return self._accounts.is_allowed(user)

    def proved(self, user: UserId) -> None:
        """A user proved itself on a link: it is no stranger any more."""
        if self._strangers is not None:
            self._strangers.proved(user)

    def wrote(self, members: frozenset[UserId]) -> bool:
        """A hosted user wrote in a conversation of these; True when there is room now for what was refused."""
        return self._strangers is not None and self._strangers.wrote(members - self._hosted.keys())


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
