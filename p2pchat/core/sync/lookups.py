"""Questions to storage about what is not in memory.

Each machine that needs something of storage asks here and goes on in a callback; nothing waits. Of logs everything is
in memory but the chains in their middle (conversation_state.py). Their answers are kept: the frame that needs one is
dropped, and comes again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from p2pchat.bounded import remember
from p2pchat.core.durable_changes import PrunePlan, Start
from p2pchat.core.effects import Fetch, Lookup
from p2pchat.core.inputs import FetchResult, LookupResult
from p2pchat.core.log import LogId, WriterKey
from p2pchat.core.node_context import NodeContext

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
            self.ask("chains", key, partial(self.keep_chain, key))
        return None

    def keep_chain(self, key: ChainKey, chain: bytes) -> None:
        """Keep a chain; those used last are kept."""
        self._asked.discard(key)
        remember(self._chains, key, chain, MAX_CHAINS)

    def ask(self, kind: str, key: Any, then: Callable[[Any], None]) -> None:
        """Ask a question of this kind, a field of Lookup."""
        self.waiting.setdefault(kind, []).append((key, then))
        self._ctx.owes = True

    def fetch(
        self, link: int, key: WriterKey, start: Start, then: Callable[[FetchResult], None], *, most: int, first: bool
    ) -> None:  # fmt: skip
        """Read what a user wrote in a conversation from `start` on, to be sent on a link; the rest as in Fetch."""
        ticket = self._ctx.next_ticket()
        self._fetching[ticket] = then
        self._ctx.emit(Fetch(link, ticket, *key, start, most, first))

    def on_fetch_result(self, answer: FetchResult) -> None:
        """Pass the batches that were read to their callback."""
        then = self._fetching.pop(answer.ticket, None)
        if then is not None:
            then(answer)

    def flush(self) -> None:
        """Send the questions of this step."""
        waiting, self.waiting = self.waiting, {}
        for kind, questions in waiting.items():
            ticket = self._ctx.next_ticket()
            self._sent[ticket] = kind, questions
            self._ctx.emit(Lookup(ticket, **{kind: list(dict.fromkeys(key for key, _ in questions))}))

    def on_result(self, answer: LookupResult) -> None:
        """Pass an answer to all callbacks that wait for it."""
        kind, questions = self._sent.pop(answer.ticket, ("", []))
        answers = getattr(answer, kind) if kind else {}
        for key, then in questions:
            then(answers.get(key, NOT_HELD[kind]))
