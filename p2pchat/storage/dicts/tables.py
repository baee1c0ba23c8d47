"""All that storage in memory keeps: one table for each kind of record, as the database has them."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pchat.core.log import Batch, LogId, ref_key
from p2pchat.core.records import (
    Address,
    FormerName,
    KeptUser,
    KnownUser,
    Mending,
    NewLog,
    Ref,
    Stretch,
    Token,
)
from p2pchat.protocol import ConversationId, Naming, PeerId, UserId
from p2pchat.storage.dicts.log import MemoryLog


@dataclass(slots=True)
class Tables:
    """Everything stored. Records are immutable, so that a copy of the containers is a copy of all."""

    logs: dict[LogId, MemoryLog] = field(default_factory=dict)
    of_user: dict[tuple[ConversationId, UserId], list[MemoryLog]] = field(default_factory=dict)
    by_ref: dict[tuple[ConversationId, str], MemoryLog] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)
    heard: dict[LogId, dict[UserId, int]] = field(default_factory=dict)
    reads: dict[LogId, dict[UserId, int]] = field(default_factory=dict)
    talks: dict[ConversationId, Naming] = field(default_factory=dict)
    users: dict[UserId, KnownUser] = field(default_factory=dict)
    former: dict[tuple[UserId, str], FormerName] = field(default_factory=dict)
    addresses: dict[tuple[PeerId, str], Address] = field(default_factory=dict)
    consumers: dict[str, int] = field(default_factory=dict)
    forks: dict[LogId, tuple[Batch, Batch]] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    mendings: dict[tuple[ConversationId, Ref], list[Mending]] = field(default_factory=dict)  # by what they name
    hosted: dict[UserId, KeptUser] = field(default_factory=dict)
    tokens: dict[bytes, Token] = field(default_factory=dict)

    def begin(self, new: NewLog) -> MemoryLog:
        return self._add(MemoryLog(len(self.logs) + 1, new.log, new.whole, new.before))

    def _add(self, log: MemoryLog) -> MemoryLog:
        conversation, user, run = log.id
        self.logs[log.id] = log
        self.of_user.setdefault((conversation, user), []).append(log)
        self.by_ref[conversation, ref_key(user, run)] = log
        return log

    def copy(self) -> Tables:
        other = Tables()
        for log in self.logs.values():
            other._add(log.copy())
        other.stretches = list(self.stretches)
        other.heard = {log: dict(seqs) for log, seqs in self.heard.items()}
        other.mendings = {named: list(some) for named, some in self.mendings.items()}
        other.reads = {log: dict(seqs) for log, seqs in self.reads.items()}
        for name in ("talks", "users", "former", "addresses", "consumers", "forks", "meta", "hosted", "tokens"):
            setattr(other, name, dict(getattr(self, name)))
        return other
