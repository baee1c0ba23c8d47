"""Lookups: questions to storage about logs that are not in memory, and reads of entries for a link.

The index of logs (log_index.py) holds only the logs with something under way. Each machine that meets another log asks
here and goes on in a callback; nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pchat.core.effects import Fetch, Lookup
from p2pchat.core.inputs import FetchResult, LookupResult
from p2pchat.core.log import FileRef, LogId, WriterKey
from p2pchat.core.node_context import NodeContext
from p2pchat.core.storage_answers import LogFacts, LogKey, PruneKey, PrunePlan, ShownKey, Start
from p2pchat.protocol import ConversationId, Mark, UserId

SizeKey = tuple[UserId, ConversationId]  # "" for all conversations
Question = tuple[Any, Callable[[Any], None]]  # a key, and the callback for its answer
NOT_HELD: dict[str, Any] = {
    "logs": None, "older": [], "all_logs": [], "sizes": 0, "shown": [], "prunable": PrunePlan(), "files": (),
    "naming": [],
}  # fmt: skip
# Fields of Lookup that are asked for together. Nothing else shall wait for a sum over a million logs.
ASKED_TOGETHER = (("sizes",), ("shown",), ("all_logs",), ("prunable",), ("files",), ("naming",), ("logs", "older"))


class Lookups:
    """Questions to storage about logs that are not in memory, and reads of entries for a link.

    All questions about logs of one step are sent together. Callbacks run when the answer comes, in the order of the
    questions. Answers from before a reload of storage are dropped.

    Attributes:
        waiting: The questions that were not sent yet, by field of Lookup.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self.waiting: dict[str, list[Question]] = {}
        self._sent: dict[int, dict[str, list[Question]]] = {}  # by ticket
        self._fetching: dict[int, Callable[[FetchResult], None]] = {}

    def log(self, key: LogKey, then: Callable[[LogFacts | None], None]) -> None:
        """Ask for one log. `then` gets its facts, None when it is not held."""
        self._ask("logs", key, then)

    def older(self, conversation: ConversationId, user: UserId, then: Callable[[list[Mark]], None]) -> None:
        """Ask for the marks of the 1st, 2nd, 4th ... newest log held."""
        self._ask("older", (conversation, user), then)

    def all_logs(self, conversation: ConversationId, user: UserId, then: Callable[[list[LogFacts]], None]) -> None:
        """Ask for all logs of a user in one conversation."""
        self._ask("all_logs", (conversation, user), then)

    def size(self, whose: SizeKey, then: Callable[[int], None]) -> None:
        """Ask how many bytes of entries are stored of a user, in one conversation or ("") in all."""
        self._ask("sizes", whose, then)

    def shown_at(self, key: ShownKey, then: Callable[[list[tuple[LogId, int]]], None]) -> None:
        """Ask how far logs, or logs they build on, had been shown when a place was assigned."""
        self._ask("shown", key, then)

    def prunable(self, key: PruneKey, then: Callable[[PrunePlan], None]) -> None:
        """Ask what a deletion may delete next."""
        self._ask("prunable", key, then)

    def files(self, log: LogId, seq: int, then: Callable[[tuple[FileRef, ...]], None]) -> None:
        """Ask for the attachments of a message that people see; () if there is none."""
        self._ask("files", (log, seq), then)

    def naming(self, root: str, then: Callable[[list[tuple[LogId, int]]], None]) -> None:
        """Ask which stored messages name some content; messages that their writer deleted are left out."""
        self._ask("naming", root, then)

    def _ask(self, field: str, key: Any, then: Callable[[Any], None]) -> None:
        self.waiting.setdefault(field, []).append((key, then))

    def fetch(
        self, link: int, key: WriterKey, start: Start, then: Callable[[FetchResult], None], *, first: bool
    ) -> None:  # fmt: skip
        """Read what a user wrote in a conversation from `start` on, to be sent on a link; `first` as in Fetch."""
        ticket = self._ctx.next_ticket()
        self._fetching[ticket] = then
        self._ctx.emit(Fetch(link, ticket, *key, start, first))

    def on_fetch_result(self, answer: FetchResult) -> None:
        """Pass the batches that were read to their callback."""
        then = self._fetching.pop(answer.ticket, None)
        if then is not None:
            then(answer)

    def flush(self) -> None:
        """Send the questions of this step."""
        waiting, self.waiting = self.waiting, {}
        for fields in ASKED_TOGETHER:
            asked = {field: waiting[field] for field in fields if field in waiting}
            if asked:
                ticket = self._ctx.next_ticket()
                self._sent[ticket] = asked
                keys = {field: list(dict.fromkeys(key for key, _ in asked[field])) for field in asked}
                self._ctx.emit(Lookup(ticket, **{"logs": [], "older": [], **keys}))

    def on_result(self, answer: LookupResult) -> None:
        """Pass an answer to all callbacks that wait for it."""
        for field, questions in self._sent.pop(answer.ticket, {}).items():
            answers = getattr(answer, field)
            for key, then in questions:
                then(answers.get(key, NOT_HELD[field]))
