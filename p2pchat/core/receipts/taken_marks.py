"""Taken marks: how far the programs of hosted users have taken their messages, told to the other hosts of these users.

A user of several gateways has its sessions now at one of them and now at another. What was taken at one of them counts
at all. Only peers that host the same user hear of it (mark_exchange.py), and only they are believed: a peer may
announce marks of nobody else. A mark only rises. One that another host announced may be ahead of what is here: what
comes later was taken there already.

Source: docs/protocol.md, "Taken marks".
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.core.changes import ReadMark
from p2pchat.core.inputs import MarkedTaken
from p2pchat.core.log import LogId
from p2pchat.core.receipts.mark_exchange import MarkExchange
from p2pchat.core.receipts.mark_positions import MarksByReader, ReaderKey
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.protocol import TakenFrame, UserId

MAX_ANNOUNCED_TAKEN = 100_000  # marks of one peer, for the users that both host: a hundred of each of 1,000; 20 MiB


class TakenMarks(MarkExchange[TakenFrame, MarkedTaken]):
    """The taken marks of hosted users."""

    frame = TakenFrame
    differs = "taken_sum_differs"

    @property
    def _changed(self) -> list[ReadMark]:
        return self._ctx.change.taken

    def _may_tell(self, mark: MarkedTaken, writer: UserId) -> bool:
        return writer != mark.user

    def _named_by(self, mark: MarkedTaken) -> Iterable[tuple[LogId, int]]:
        return ()

    def _links_of(self, writer: UserId, reader: UserId) -> Iterable[int]:
        return self._sync.presence.hosts.get(reader, ())

    def _tells(self, remote: RemoteState, conversation: ConversationState) -> bool:
        return self._sync.shares(remote, conversation)

    def _marks_for(self, remote: RemoteState) -> MarksByReader:
        every = self._sync.conversations.by_id
        readers = remote.link.users.keys()
        return self._positions.marks_for(
            readers, frozenset(), lambda id: id in every and self._tells(remote, every[id])
        )

    def _marks_of(self, remote: RemoteState) -> Iterable[ReadMark]:
        return (mark for mark in self._positions.all() if mark.reader in remote.link.users)

    def _max_announced(self, remote: RemoteState) -> int:
        return MAX_ANNOUNCED_TAKEN

    def _concerns(self, reader: UserId, ref: str) -> bool:
        return reader in self._sync.hosted

    def _on_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, seq: int) -> None:
        if pair[1] in self._sync.hosted:
            self._adopt_mark(remote, pair, ref, seq)
