"""Where entries come from: what intake says to whoever brought them.

What a batch is worth is the same whichever way it came. Whom its fate is told, and what else follows from it, is not:
the far end of a link is asked for what lies between, blamed for a wrong head and told what is held now (FromLink);
a file that somebody carried here can only be counted (import_file.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.core.log import LogId
from p2pchat.core.sync.fetch import Pull
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.log_index import Conversation, Log
from p2pchat.core.sync.progress import Key, Shelf, Side
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Entries, Naming, PeerId, UserId


class Source:
    """Whoever brings entries. What is not answered here is nothing to it."""

    tells_the_past = False  # what it brings was there before, to whoever is new in a conversation

    @property
    def key(self) -> object:
        """Frames that waited for storage and whose sources have one key are taken together."""
        return self

    @property
    def payer(self) -> PeerId:
        """Whom bytes of users never met are charged to; "" for nobody."""
        return ""

    @property
    def is_here(self) -> bool:
        """Whether it still matters what it brought."""
        return True

    def may_wait(self, waiting: int) -> bool:
        """Say whether one more of its frames may wait for storage, when so many from all links do."""
        return True

    def learn(self, namings: Iterable[Naming]) -> None:
        """Take its word for what conversation ids stand for."""
        raise NotImplementedError

    def find(self, conversation: ConversationId) -> Conversation | None:
        """Return a conversation it may bring entries of, else None."""
        raise NotImplementedError

    def trusts(self, user: UserId) -> bool:
        """Say whether entries of this user are taken from it."""
        return True

    def evidence(self, conversation: Conversation, frame: Entries) -> None:
        """Take one of two batches that prove a fork; raises LogError when they do not."""
        raise NotImplementedError

    def hosts(self, user: UserId) -> bool:
        """Say whether this user writes there: what it sends unasked was written just now."""
        return False

    # ---- what became of a frame

    def left_gap(self, log: LogId, frame: Entries) -> None:
        """It was dropped: what lies before it is not here."""

    def is_full(self, key: Key) -> None:
        """No more of this writer is taken there."""

    def is_cut(self, key: Key) -> None:
        """It was dropped: nothing of it is visible in its talk."""

    def is_forked(self, log: Log) -> None:
        """Nothing more of this log is taken."""

    def contradicted(self) -> None:
        """It proved a fork: nothing of it is kept but as evidence."""

    def repeated(self, count: int) -> None:
        """So many entries of it were here."""

    def kept(self, key: Key, count: int) -> None:
        """So many entries of it are proven, new, and on their way to the disk."""

    def faulted(self, error: LogError) -> None:
        """It broke a rule of logs, and was found out only after storage was asked."""

    def done(self) -> None:
        """What waited for storage is dealt with."""


class FromLink(Source):
    """The far end of a link."""

    def __init__(self, shelf: Shelf, pull: Pull, forks: Forks, side: Side, most_waiting: int) -> None:
        self._shelf = shelf
        self._pull = pull
        self._forks = forks
        self._most_waiting = most_waiting
        self.side = side

    @property
    def key(self) -> object:
        return self.side.link.id

    @property
    def payer(self) -> PeerId:
        return self.side.link.peer

    @property
    def is_here(self) -> bool:
        return self._shelf.is_up(self.side)

    def may_wait(self, waiting: int) -> bool:
        return waiting < self._most_waiting

    def learn(self, namings: Iterable[Naming]) -> None:
        self._shelf.learn(self.side, namings)

    def find(self, conversation: ConversationId) -> Conversation | None:
        return self._shelf.named(self.side, conversation)

    def trusts(self, user: UserId) -> bool:
        return self._shelf.trusts(self.side, user)

    def hosts(self, user: UserId) -> bool:
        return self.side.link.id in self._shelf.presence.hosts(user)

    def evidence(self, conversation: Conversation, frame: Entries) -> None:
        self._forks.take(self.side, conversation, frame)

    def left_gap(self, log: LogId, frame: Entries) -> None:
        self._pull.left_gap(self.side, log, frame)

    def is_full(self, key: Key) -> None:
        self._shelf.refuse(self.side, key)
        self.side.set_ahead(key, {})  # nothing waits for what is not wanted

    def is_cut(self, key: Key) -> None:
        self.side.set_ahead(key, {})

    def is_forked(self, log: Log) -> None:
        self._forks.tell(self.side, log)

    def kept(self, key: Key, count: int) -> None:
        if self.side.refused:
            self.side.refused.pop(key, None)  # it takes no more, and gives: so it hears what became of that
        self._shelf.step.sources.setdefault(self.side.link.id, set()).add(key)
        self._pull.progress(key, self.side.link.id)

    def faulted(self, error: LogError) -> None:
        self._shelf.faulted(self.side, error)
