"""What a starting node needs of the tables, and the users hosted here with their tokens."""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat.config import Settings
from p2pchat.core.log import LogId, decode_entry
from p2pchat.core.records import Heard, KeptUser, ReadMark, Spoken, Stored, Talk, Token, Waiting
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import Holding
from p2pchat.storage.dicts.log import MemoryLog
from p2pchat.storage.dicts.tables import Tables


def load(tables: Tables, whose: Sequence[UserId], settings: Settings) -> Stored:
    """Return what a node starts from."""
    tips = [log for log in tables.logs.values() if log.is_tip]
    unreleased = [log for log in tables.logs.values() if log.released < len(log.raws)]
    newest = tables.stretches[-1] if tables.stretches else None
    return Stored(
        tips=[log.facts() for log in tips],
        forked=[log.id for log in tables.logs.values() if log.forked],
        unreleased=[log.facts() for log in unreleased],
        waiting=[waiting for log in unreleased for waiting in _waiting(log)],
        next_place=newest.first_place + newest.count if newest else 1,
        talks=[Talk(conversation, naming) for conversation, naming in tables.talks.items()],
        users=list(tables.users.values()),
        former=list(tables.former.values()),
        heard=_heard(tables, whose),
        reads=_reads(tables, whose),
        addresses=list(tables.addresses.values()),
        consumers=dict(tables.consumers),
        newest_c=_newest_clocks(tables),
        recent=_recent(tables, settings),
        meta=dict(tables.meta),
        groups=_spoken(tables),
        most_bytes=sum(log.size for log in tables.logs.values()),
    )


def load_hosted(tables: Tables) -> list[KeptUser]:
    """Return the users hosted here, in the order they came."""
    return sorted(tables.hosted.values(), key=lambda user: user.created_at)


def load_of_users(tables: Tables, users: Sequence[UserId]) -> Stored:
    """Return what is known of who has what these users wrote, and of what is read: theirs, and by them."""
    return Stored(heard=_heard(tables, users), reads=_reads(tables, users))


def load_token(tables: Tables, hash: bytes) -> Token | None:
    """Return a token by its hash; None when there is none, or its user is hosted no more."""
    found = tables.tokens.get(hash)
    return found if found is not None and found.user in tables.hosted else None


def load_tokens(tables: Tables, user: UserId | None) -> list[Token]:
    """Return the tokens of a user, or (None) all, in the order they were made."""
    found = [token for token in tables.tokens.values() if user in (None, token.user)]
    return sorted(found, key=lambda token: (token.created_at, token.hash))


def holdings(tables: Tables) -> list[Holding]:
    """Return every conversation of which something is stored, and by whom."""
    found = (_holding(tables, Talk(id, naming)) for id, naming in tables.talks.items())
    return [holding for holding in found if holding.writers or holding.forked]


def _holding(tables: Tables, talk: Talk) -> Holding:
    logs = [log for log in tables.logs.values() if log.id.conversation == talk.id]
    writers = dict.fromkeys(log.id.user for log in logs if log.raws and not log.forked)
    return Holding(talk, tuple(writers), tuple(log.id for log in logs if log.forked))


def _waiting(log: MemoryLog) -> list[Waiting]:
    return [Waiting(log.id, seq, decode_entry(log.raws[seq - 1])) for seq in range(log.released + 1, len(log.raws) + 1)]


def _heard(tables: Tables, users: Sequence[UserId]) -> list[Heard]:
    wanted = set(users)
    return [
        Heard(id, member, seq)
        for id, seqs in tables.heard.items()
        if id.user in wanted and tables.logs[id].is_tip
        for member, seq in seqs.items()
    ]


def _reads(tables: Tables, users: Sequence[UserId]) -> list[ReadMark]:
    wanted = set(users)
    return [
        ReadMark(id, reader, seq)
        for id, seqs in tables.reads.items()
        for reader, seq in seqs.items()
        if reader in wanted or (id.user in wanted and tables.logs[id].is_tip)
    ]


def _newest_clocks(tables: Tables) -> dict[ConversationId, int]:
    newest: dict[ConversationId, int] = {}
    for log in tables.logs.values():
        if log.clocks:
            newest[log.id.conversation] = max(newest.get(log.id.conversation, 0), log.clocks[-1])
    return newest


def _recent(tables: Tables, settings: Settings) -> list[tuple[LogId, int]]:
    recent: list[tuple[LogId, int]] = []
    places = 0
    for stretch in reversed(tables.stretches):
        if places >= settings.recent_places:
            break
        places += stretch.count
        recent.append((stretch.log, stretch.first + stretch.count - 1))
    return recent[::-1]


def _spoken(tables: Tables) -> list[Spoken]:
    """Return what was written to groups: operations and leaves."""
    return [
        Spoken(log.id, seq, raw)
        for log in tables.logs.values()
        if (naming := tables.talks.get(log.id.conversation)) is not None and naming.group
        for seq, raw in enumerate(log.raws, 1)
    ]
