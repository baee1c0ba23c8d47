"""What an open network adds to quotas: whoever can connect is a member there, and may be anybody, many times over.

Two limits keep those whom nobody here knows from filling the disk. To a user whom nobody here ever wrote to, 16
direct conversations of 1 MiB each are open, and all such users have 256 MiB together. And the logs of users who never
proved themselves on a link here have 4 GiB together; they are charged to the peer that brought them, and one peer's
charges have the quota of a user. Writing to a user lifts the first, meeting it the second, `allow` both.

How much is stored in such conversations is asked of storage when the first entry of one comes; the charges are stored
with the entries (accounts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pchat.core.context import Context
from p2pchat.core.sync.accounts import BY_FILE, Accounts
from p2pchat.core.sync.conversations import Conversations
from p2pchat.protocol import ConversationId, PeerId, UserId

Key = tuple[ConversationId, UserId]
MAX_MET = 100_000  # users met of whom nothing is stored; a guess: 10 MiB


class Strangers:
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
        self._accounts: Accounts
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

    def open(self, accounts: Accounts) -> None:
        """Begin with what is remembered."""
        self._accounts = accounts
        for account in accounts.by_user.values():
            if not account.allowed:
                for peer, size in account.charges.items():
                    self._charge(peer, size)

    # ---- asking

    def refuses(self, payer: PeerId, key: Key) -> bool:
        """Say whether there was no room for one of these, and nothing has changed since."""
        if key in self._full_talks or (self._talks_full and self.is_unanswered(key)):
            return True
        if self._unmet_full or self._full_payers:
            return (self._unmet_full or payer in self._full_payers) and not self._is_met(key[1])
        return False

    def take(self, payer: PeerId, key: Key, size: int) -> str:
        """Count a batch, if there is room for it: ""; else which of the two limits there is: "talk", "unmet"."""
        unanswered = self.is_unanswered(key)
        if unanswered and not self._has_room(key, size):
            return "talk"
        if not self._is_met(key[1]) and not self._pay(payer or BY_FILE, key[1], size):
            return "unmet"
        if unanswered:
            talks = self._talks.setdefault(key[1], {})
            talks[key[0]] = talks.get(key[0], 0) + size
            self._talks_bytes += size
        return ""

    # ---- conversations nobody here wrote in

    def is_unanswered(self, key: Key) -> bool:
        """Say whether this is a direct conversation with a user whom nobody here ever wrote to."""
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

    def found(self, key: Key, size: int) -> None:
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

    def wrote(self, users: Iterable[UserId]) -> bool:
        """Somebody here wrote to these; True when there is room now where there was none."""
        made_room = False
        for user in users:
            if user not in self._known():
                made_room |= self._answer(user)
        return made_room

    def _answer(self, user: UserId) -> bool:
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
            self._accounts.of(user).proven = True
            self._accounts.save(user)
            return True
        return False

    def _pay(self, payer: PeerId, user: UserId, size: int) -> bool:
        settings = self._ctx.settings
        if self._charged_bytes + size > settings.unmet_users_bytes:
            self._unmet_full = True
            return False
        if payer != BY_FILE and self._charged.get(payer, 0) + size > settings.user_quota_bytes:
            self._full_payers.add(payer)
            return False
        self._charge(payer, size)
        charges = self._accounts.of(user).charges
        charges[payer] = charges.get(payer, 0) + size
        self._accounts.save(user)
        return True

    def _charge(self, payer: PeerId, size: int) -> None:
        self._charged[payer] = self._charged.get(payer, 0) + size
        self._charged_bytes += size

    def proved(self, user: UserId) -> None:
        """A user proved itself on a link: nobody pays for it any more."""
        if len(self._met) < MAX_MET:
            self._met.add(user)
        account = self._accounts.by_user.get(user)
        if account is not None and account.charges:
            account.proven = True
            self._release(user)

    def _release(self, user: UserId) -> None:
        account = self._accounts.of(user)
        for payer, size in account.charges.items():
            self._charge(payer, -size)
            self._full_payers.discard(payer)
        self._unmet_full = False
        account.charges = {}
        self._accounts.save(user)

    def allow(self, user: UserId) -> None:
        """Both limits are lifted for a user."""
        self._answer(user)
        self._release(user)
