"""Lookups: questions to storage about logs that are not in memory, and reads of entries for a link.

All questions about logs of one step are sent together. Callbacks run when the answer comes, in the order of the
questions. Answers from before a reload of storage are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from p2pchat.core.context import Context
from p2pchat.core.effects import Fetch, Lookup
from p2pchat.core.inputs import FetchResult, LookupResult
from p2pchat.core.log import LogId, WriterKey
from p2pchat.core.records import LogFacts, LogKey, ShownKey, Start
from p2pchat.protocol import ConversationId, Mark, UserId

K = TypeVar("K")
A = TypeVar("A")
SizeKey = tuple[UserId, ConversationId]  # "" for all conversations


class _Questions(Generic[K, A]):
    """Questions of one kind: those not sent yet, and those sent, by ticket."""

    def __init__(self) -> None:
        self.waiting: list[tuple[K, Callable[[A], None]]] = []
        self._sent: dict[int, list[tuple[K, Callable[[A], None]]]] = {}

    def send(self, ticket: int) -> list[K]:
        """Return the keys to ask for with this ticket, each once."""
        self._sent[ticket], self.waiting = self.waiting, []
        return list(dict.fromkeys(key for key, _ in self._sent[ticket]))

    def answer(self, ticket: int, answers: Mapping[K, A], unknown: A) -> None:
        """Run the callbacks of the questions with this ticket, with `unknown` for keys without an answer."""
        for key, then in self._sent.pop(ticket, ()):
            then(answers.get(key, unknown))


class Lookups:
    """The questions not sent yet, and those sent."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._has_questions = False  # checked at every step of a node
        self._logs = _Questions[LogKey, LogFacts | None]()
        self._older = _Questions[WriterKey, list[Mark]]()
        self._all = _Questions[WriterKey, list[LogFacts]]()
        self._sizes = _Questions[SizeKey, int]()
        self._shown = _Questions[ShownKey, list[tuple[LogId, int]]]()
        self._fetching: dict[int, Callable[[FetchResult], None]] = {}

    def log(self, key: LogKey, then: Callable[[LogFacts | None], None]) -> None:
        """Ask for one log. `then` gets its facts, None when it is not held."""
        self._ask(self._logs, key, then)

    def older(self, conversation: ConversationId, user: UserId, then: Callable[[list[Mark]], None]) -> None:
        """Ask for the marks of the 1st, 2nd, 4th ... newest log held."""
        self._ask(self._older, (conversation, user), then)

    def all_logs(self, conversation: ConversationId, user: UserId, then: Callable[[list[LogFacts]], None]) -> None:
        """Ask for all logs of a user in one conversation."""
        self._ask(self._all, (conversation, user), then)

    def size(self, whose: SizeKey, then: Callable[[int], None]) -> None:
        """Ask how many bytes of entries are stored of a user, in one conversation or ("") in all."""
        self._ask(self._sizes, whose, then)

    def shown_at(self, key: ShownKey, then: Callable[[list[tuple[LogId, int]]], None]) -> None:
        """Ask how far logs, or logs they build on, had been shown when a place was assigned."""
        self._ask(self._shown, key, then)

    def _ask(self, questions: _Questions[K, A], key: K, then: Callable[[A], None]) -> None:
        questions.waiting.append((key, then))
        self._has_questions = True

    def fetch(self, link: int, key: WriterKey, start: Start, then: Callable[[FetchResult], None]) -> None:
        """Read what a user wrote in a conversation from `start` on, to be sent on a link."""
        ticket = self._ctx.next_ticket()
        self._fetching[ticket] = then
        self._ctx.emit(Fetch(link, ticket, *key, start))

    def on_fetch_result(self, answer: FetchResult) -> None:
        """Pass the batches that were read to their callback."""
        then = self._fetching.pop(answer.ticket, None)
        if then is not None:
            then(answer)

    def flush(self) -> None:
        """Send the questions of this step."""
        if not self._has_questions:
            return
        self._has_questions = False
        ctx = self._ctx
        if self._sizes.waiting:  # separately: nothing else shall wait for a sum over a million logs
            ticket = ctx.next_ticket()
            ctx.emit(Lookup(ticket, [], [], sizes=self._sizes.send(ticket)))
        if self._shown.waiting:
            ticket = ctx.next_ticket()
            ctx.emit(Lookup(ticket, [], [], shown=self._shown.send(ticket)))
        if self._all.waiting:
            ticket = ctx.next_ticket()
            ctx.emit(Lookup(ticket, [], [], all_logs=self._all.send(ticket)))
        if self._logs.waiting or self._older.waiting:
            ticket = ctx.next_ticket()
            ctx.emit(Lookup(ticket, self._logs.send(ticket), self._older.send(ticket)))

    def on_result(self, answer: LookupResult) -> None:
        """Pass an answer to all callbacks that wait for it."""
        self._logs.answer(answer.ticket, answer.logs, None)
        self._older.answer(answer.ticket, answer.older, [])
        self._shown.answer(answer.ticket, answer.shown, [])
        self._all.answer(answer.ticket, answer.all_logs, [])
        self._sizes.answer(answer.ticket, answer.sizes, 0)
