"""Lookups: questions to storage about what is not in memory, and reads of entries for a link.

Each machine that needs something asks here and goes on in a callback; nothing waits. Of logs everything is in memory
but the chains in their middle (conversation_state.py). Their answers are kept: the frame that needs one is dropped,
and comes again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from p2pchat.core.effects import Fetch, Lookup
from p2pchat.core.inputs import FetchResult, LookupResult
from p2pchat.core.log import FileRef, LogId, WriterKey
from p2pchat.core.node_context import NodeContext
from p2pchat.core.storage_answers import PruneKey, PrunePlan, ShownKey, Start

Question = tuple[Any, Callable[[Any], None]]  # a key, and the callback for its answer
ChainKey = tuple[LogId, int]  # a log, and an entry in its middle
NOT_HELD: dict[str, Any] = {"chains": b"", "shown": [], "prunable": PrunePlan(), "files": (), "naming": []}
MAX_CHAINS = 4096  # answers that are kept; a guess: 2 MiB
MAX_ASKED = 1024  # chains asked for at once that frames need: a quarter of a second at full speed


class Lookups:
    """Questions to storage about what is not in memory, and reads of entries for a link.

    All questions of one kind of one step are sent together. Callbacks run when the answer comes, in the order of the
    questions. Answers from before a reload of storage are dropped.

    Attributes:
        waiting: The questions that were not sent yet, by field of Lookup.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self.waiting: dict[str, list[Question]] = {}
        self._sent: dict[int, tuple[str, list[Question]]] = {}  # by ticket
        self._chains: dict[ChainKey, bytes] = {}  # those used last at the end
        self._asked: set[ChainKey] = set()
        self._fetching: dict[int, Callable[[FetchResult], None]] = {}

    def chain_at(self, log: LogId, seq: int) -> bytes | None:
        """Return the chain at a durable entry, b"" if it is not held; None while storage is asked."""
        key = (log, seq)
        if key in self._chains:
            self._chains[key] = self._chains.pop(key)
            return self._chains[key]
        if key not in self._asked and len(self._asked) < MAX_ASKED:
            self._asked.add(key)
            self._ask("chains", key, partial(self.keep_chain, key))
        return None

    def keep_chain(self, key: ChainKey, chain: bytes) -> None:
        """Keep a chain; those used last are kept."""
        self._asked.discard(key)
        self._chains[key] = chain
        if len(self._chains) > MAX_CHAINS:
            del self._chains[next(iter(self._chains))]

    def shown_at(self, key: ShownKey, then: Callable[[list[tuple[LogId, int, str]]], None]) -> None:
        """Ask how far logs, or logs they build on, had been shown when a place was assigned; with the chain8 there."""
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
        for field, questions in waiting.items():
            ticket = self._ctx.next_ticket()
            self._sent[ticket] = field, questions
            self._ctx.emit(Lookup(ticket, **{field: list(dict.fromkeys(key for key, _ in questions))}))

    def on_result(self, answer: LookupResult) -> None:
        """Pass an answer to all callbacks that wait for it."""
        field, questions = self._sent.pop(answer.ticket, ("", []))
        answers = getattr(answer, field) if field else {}
        for key, then in questions:
            then(answers.get(key, NOT_HELD[field]))
