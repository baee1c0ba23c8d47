"""Storage in plain dicts: for tests, simulations, and bots that keep nothing.

The same contract as the database's, without a disk: nothing survives the process. `snapshot` and `restore` are for
simulations of disks that come back from an older copy. What each call does is in dicts/, divided as the database's
side is; here one lock sees to it that a read never sees half a commit.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from p2pchat.config import Settings
from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Change, KeptUser, LogFacts, LogKey, Position, ShownKey, Start, Stored, Token
from p2pchat.protocol import ConversationId, Mark, UserId
from p2pchat.storage.base import Holding, Shown, SortKey
from p2pchat.storage.dicts.fetching import Fetching
from p2pchat.storage.dicts.loading import holdings, load, load_hosted, load_of_users, load_token, load_tokens
from p2pchat.storage.dicts.reading import Reader
from p2pchat.storage.dicts.showing import Showing
from p2pchat.storage.dicts.tables import Tables
from p2pchat.storage.dicts.writing import Writer


class MemoryStorage:
    """See storage/base.py for what each call promises."""

    durable = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._lock = threading.Lock()
        self._hold(Tables())

    def _hold(self, tables: Tables) -> None:
        self._tables = tables
        self._writer = Writer(tables, self._settings)
        self._reader = Reader(tables, self._settings)
        self._showing = Showing(tables)

    # ---- disks that come back from an older copy

    def snapshot(self) -> Tables:
        """Return a copy of everything, to be given to `restore`, of this storage or another, any number of times."""
        with self._lock:
            return self._tables.copy()

    def restore(self, snapshot: Tables) -> None:
        """Hold what the snapshot holds, and nothing else."""
        with self._lock:
            self._hold(snapshot.copy())

    # ---- starting, and writing

    def load(self, hosted: Sequence[UserId]) -> Stored:
        with self._lock:
            return load(self._tables, hosted, self._settings)

    def meta(self) -> dict[str, str]:
        with self._lock:
            return dict(self._tables.meta)

    def hosted(self) -> list[KeptUser]:
        with self._lock:
            return load_hosted(self._tables)

    def of_users(self, users: Sequence[UserId]) -> Stored:
        with self._lock:
            return load_of_users(self._tables, users)

    def token(self, hash: bytes) -> Token | None:
        with self._lock:
            return load_token(self._tables, hash)

    def tokens(self, user: UserId | None = None) -> list[Token]:
        with self._lock:
            return load_tokens(self._tables, user)

    def commit(self, changes: Sequence[Change]) -> None:
        with self._lock:
            self._writer.commit(changes)

    def warm(self) -> None:
        pass  # memory is always warm

    def tidy(self) -> None:
        pass  # nothing is left for later

    def try_out(self) -> None:
        pass  # and takes whatever there is room for

    def close(self) -> None:
        """Nothing to finish: what is held here stays until the object goes."""

    # ---- what the core asks for

    def lookup(
        self, logs: Sequence[LogKey], older: Sequence[tuple[ConversationId, UserId]]
    ) -> tuple[dict[LogKey, LogFacts], dict[tuple[ConversationId, UserId], list[Mark]]]:
        with self._lock:
            found = {key: facts for key in logs if (facts := self._reader.facts(key))}
            return found, {whose: self._reader.older(*whose) for whose in older}

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        with self._lock:
            return self._reader.logs_of(conversation, user)

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | None]:
        with self._lock:
            return Fetching(self._tables, self._settings, conversation, user).fetch(start, batches)

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        with self._lock:
            return self._reader.shown_by(key)

    def size_bytes(self, user: UserId, conversation: ConversationId = "") -> int:
        with self._lock:
            return self._reader.size_bytes(user, conversation)

    # ---- what programs read

    def holdings(self) -> list[Holding]:
        with self._lock:
            return holdings(self._tables)

    def places(self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None) -> list[Shown]:
        with self._lock:
            return self._showing.places(after, limit, conversations)

    def history(
        self,
        conversation: ConversationId | None,
        *,
        before: SortKey | None = None,
        after: SortKey | None = None,
        since: int | None = None,
        limit: int = 100,
    ) -> list[Shown]:
        with self._lock:
            return self._showing.history(conversation, before, after, since, limit)

    def entry(self, log: LogId, seq: int) -> Shown | None:
        with self._lock:
            return self._showing.entry(log, seq)

    def first_heard(self, user: UserId) -> int:
        with self._lock:
            return self._showing.first_heard(user)

    def heard(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._lock:
            return self._reader.heard(log, seq)

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._lock:
            return self._reader.readers(log, seq)
