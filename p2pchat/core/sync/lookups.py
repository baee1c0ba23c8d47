"""Lookups: questions to storage about logs that are not in memory, and reads of entries for a link.

All questions about logs of one step are sent together. Callbacks run when the answer comes, in the order of the
questions. Answers from before a reload of storage are dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pchat.core.context import Context
from p2pchat.core.effects import Fetch, Lookup
from p2pchat.core.inputs import FetchResult, LookupResult
from p2pchat.core.log import LogId
from p2pchat.core.records import LogFacts, LogKey, ShownKey, Start
from p2pchat.protocol import ConversationId, Mark, UserId

AnswerLog = Callable[[LogFacts | None], None]
AnswerOlder = Callable[[list[Mark]], None]
AnswerSize = Callable[[int], None]
AnswerShown = Callable[[list[tuple[LogId, int]]], None]
AnswerLogs = Callable[[list[LogFacts]], None]
AnswerFetch = Callable[[FetchResult], None]
SizeKey = tuple[UserId, ConversationId]  # "" for all conversations


class Lookups:
    """The questions not sent yet, and those sent."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._logs: list[tuple[LogKey, AnswerLog]] = []
        self._older: list[tuple[tuple[ConversationId, UserId], AnswerOlder]] = []
        self._sizes: list[tuple[SizeKey, AnswerSize]] = []
        self._fetching: dict[int, AnswerFetch] = {}
        self._asked: dict[int, tuple[list[tuple[LogKey, AnswerLog]], list[tuple[tuple[str, str], AnswerOlder]]]] = {}
        self._weighed: dict[int, list[tuple[SizeKey, AnswerSize]]] = {}
        self._shown: list[tuple[ShownKey, AnswerShown]] = []
        self._seeing: dict[int, list[tuple[ShownKey, AnswerShown]]] = {}
        self._all: list[tuple[tuple[ConversationId, UserId], AnswerLogs]] = []
        self._gathered: dict[int, list[tuple[tuple[ConversationId, UserId], AnswerLogs]]] = {}

    def log(self, key: LogKey, then: AnswerLog) -> None:
        """Ask for one log. `then` gets its facts, None when it is not held."""
        self._logs.append((key, then))

    def older(self, conversation: ConversationId, user: UserId, then: AnswerOlder) -> None:
        """Ask for the marks of the 1st, 2nd, 4th ... newest log held."""
        self._older.append(((conversation, user), then))

    def all_logs(self, conversation: ConversationId, user: UserId, then: AnswerLogs) -> None:
        """Ask for all logs of a user in one conversation."""
        self._all.append(((conversation, user), then))

    def size(self, whose: SizeKey, then: AnswerSize) -> None:
        """Ask how many bytes of entries are stored of a user, in one conversation or ("") in all."""
        self._sizes.append((whose, then))

    def shown_at(self, key: ShownKey, then: AnswerShown) -> None:
        """Ask how far logs, or logs they build on, had been shown when a place was assigned."""
        self._shown.append((key, then))

    def fetch(self, link: int, key: tuple[ConversationId, UserId], start: Start, then: AnswerFetch) -> None:
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
        if self._sizes:  # separately: nothing else shall wait for a sum over a million logs
            ticket = self._ctx.next_ticket()
            self._weighed[ticket], self._sizes = self._sizes, []
            self._ctx.emit(Lookup(ticket, [], [], list(dict.fromkeys(whose for whose, _ in self._weighed[ticket]))))
        if self._shown:
            ticket = self._ctx.next_ticket()
            self._seeing[ticket], self._shown = self._shown, []
            places = list(dict.fromkeys(key for key, _ in self._seeing[ticket]))
            self._ctx.emit(Lookup(ticket, [], [], shown=places))
        if self._all:
            ticket = self._ctx.next_ticket()
            self._gathered[ticket], self._all = self._all, []
            self._ctx.emit(
                Lookup(ticket, [], [], all_logs=list(dict.fromkeys(pair for pair, _ in self._gathered[ticket])))
            )
        if self._logs or self._older:
            ticket = self._ctx.next_ticket()
            self._asked[ticket] = (self._logs, self._older)
            keys = list(dict.fromkeys(key for key, _ in self._logs))
            self._ctx.emit(Lookup(ticket, keys, list(dict.fromkeys(key for key, _ in self._older))))
            self._logs, self._older = [], []

    def on_result(self, answer: LookupResult) -> None:
        """Pass an answer to all callbacks that wait for it."""
        logs, older = self._asked.pop(answer.ticket, ([], []))
        for key, then in logs:
            then(answer.logs.get(key))
        for pair, then_older in older:
            then_older(answer.older.get(pair, []))
        for shown, then_shown in self._seeing.pop(answer.ticket, []):
            then_shown(answer.shown.get(shown, []))
        for pair, then_all in self._gathered.pop(answer.ticket, []):
            then_all(answer.all_logs.get(pair, []))
        for whose, then_size in self._weighed.pop(answer.ticket, []):
            then_size(answer.sizes.get(whose, 0))
