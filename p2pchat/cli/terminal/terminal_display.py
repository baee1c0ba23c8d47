"""The display on a terminal: lines of the current conversation, direct messages and mentions from others, and the rest
as unread counts in the prompt.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from p2pchat import Conversation, Group, Message, P2PChatError, TCPPeer
from p2pchat.bounded import remember
from p2pchat.cli.terminal.device import DIM, TerminalAlerts
from p2pchat.cli.terminal.line_completer import RecentSpeakers
from p2pchat.cli.terminal.pending_line import (
    PendingLine,
    change_line,
    chat_line,
    local,
)
from p2pchat.cli.terminal.screen import Screen
from p2pchat.commands.activity_tracker import came_late
from p2pchat.commands.chat_settings import QUIET_ABOVE, ChatSettings
from p2pchat.commands.display import LAST_LINES, Display
from p2pchat.commands.event_text import (
    EventLine,
    file_label,
    format_begun,
    format_gap,
    local_now,
    message_excerpt,
    message_row,
    shows_presence,
    with_gap,
)
from p2pchat.commands.message_commands import HISTORY_LINES
from p2pchat.commands.notifier import older_messages
from p2pchat.commands.session import Session
from p2pchat.commands.standard_output import EventLogFile, json_line
from p2pchat.commands.unread_counter import is_addressed_to, is_here
from p2pchat.commands.wrap import Fragment, Row, fold
from p2pchat.kinds import CHANGE_EVENTS
from p2pchat.safe_text import quote_conversation, quote_name, quote_names, quote_speaker

UNREAD_LINES = 200  # shown at once: what people scroll through; a guess
READ_ELSEWHERE_WITHIN = 2.0  # seconds: another machine of the user says so soon after the link; a guess
ENDINGS = ("deleted", "edited", "member", "group")  # of an open question about what they change
REMEMBERED = 1000  # message ids: many more than history may show before their events arrive


class TerminalDisplay(Display):
    """The display of one terminal.

    Args:
        on_change: Called when the content of the prompt may have changed.
    """

    has_prompt = True
    _peer: TCPPeer  # set by begin(), before the first event that needs it
    _session: Session

    def __init__(
        self, screen: Screen, alerts: TerminalAlerts, log: EventLogFile | None, on_change: Callable[[], None]
    ) -> None:
        super().__init__(screen, log, as_json=False)
        self.numbers_files = True
        self._screen = screen
        self._alerts = alerts
        self._on_change = on_change
        self._day = local_now().date()  # of the line printed last, so that a line needs no date
        self._own_id = ""
        self._since = ""  # start of this run, as event lines write it
        self._turn = asyncio.Lock()  # no event is shown between lines of history
        self._shown: set[str] = set()  # messages shown as history whose events have not arrived
        self._received: dict[str, None] = {}  # messages whose events arrived
        self._seen: dict[str, None] = {}  # messages shown in this run: not repeated by /go without a reason
        # Edits of shown lines, and changes of groups, while elsewhere, by conversation id.
        self._missed: dict[str, deque[EventLine]] = {}
        self._incomplete: set[str] = set()  # own messages printed with a mark that later deliveries may exceed
        self._joins_muted = False  # it was announced that joins are no longer shown
        self._catching_up: asyncio.Task[None] | None = None
        self._late: dict[str, str] = {}  # what rings later, by conversation id
        self._ringing: asyncio.Task[None] | None = None
        self.notifier.on_counted = self._on_counted
        self.ask: Callable[[str], Awaitable[bool]] | None = None  # set while there is a prompt, as is
        self.drop_question: Callable[[], None]
        self._about = ""  # the id that the last question was about
        self.speakers: RecentSpeakers = RecentSpeakers()
        self.typing: TypingUsers = TypingUsers()
        self.questions: OpenQuestions = OpenQuestions()

    # The current conversation

    def begin(self, peer: TCPPeer, session: Session) -> None:
        """Prepare for the first event."""
        self._peer, self._session = peer, session
        self._since = peer.listening.to_dict()["at"]
        self._own_id = peer.me.id

    async def on_start(self, conversation: Conversation, unread: Sequence[Message]) -> int:
        """Show the last lines of the room, and a line under them."""
        async with self._turn:
            lines = await self._history(conversation, len(unread))
            before = [line for line in lines if line["at"] < self._since]  # the rest comes as events
            return await self._show_end(conversation, before, unread, "now")

    async def on_switch(self, conversation: Conversation, unread: Sequence[Message]) -> int:
        """Show the name of the conversation, and its last lines."""
        async with self._turn:
            self._rule(quote_conversation(conversation.name, conversation.kind))
            lines = await self._history(conversation, len(unread))
            return await self._show_end(conversation, lines, unread)

    async def _show_end(
        self, conversation: Conversation, lines: Sequence[EventLine], unread: Sequence[Message], end: str = ""
    ) -> int:
        """Show unread messages and the lines before that were not shown in this run, in one piece without a hole.

        That is LAST_LINES at least, if the conversation has as many.

        Args:
            lines: The end of the history.
            unread: All unread messages, in the order in which they came.
            end: The rule below.
        Returns:
            How many of the unread messages were shown: if there are too many for a screen or two, the first ones.
        """
        page = unread[:UNREAD_LINES]
        missing = {message.id for message in unread}.difference(line["id"] for line in lines)
        if missing:  # more than the end of the history has: only what is new
            lines, first = [message.to_dict() for message in sorted(page, key=lambda one: one.sort_key)], 0
        else:
            ids = {message.id for message in page}
            first = next((number for number, line in enumerate(lines) if line["id"] in ids), len(lines))
        start = first
        seen = [line["id"] in self._seen for line in lines]
        old = next((number for number, line in enumerate(lines) if line["old"] and not seen[number]), start)
        while start and (count := len(lines) - start) < HISTORY_LINES:
            if start <= old and seen[start - 1] and count >= LAST_LINES:
                break
            start -= 1
        missed = [one for one in self._missed.pop(conversation.id, ()) if not self.hides(one)]
        news = [one for one in missed if one["event"] == "group"]
        changes = deque(news)
        await self._show_past(lines[start:first], changes=changes)
        if page and (start < first or end):
            self._rule("new")
        await self._show_past(lines[first:], changes=changes)
        for change in changes:
            self._show_group_change(change)
        for event in missed:
            if event["event"] != "group" and not self._edits.includes(event):  # the lines above do not show it
                await self._show_edit(event)
                news.append(event)
        if len(page) < len(unread):
            more, to = len(unread) - len(page), quote_conversation(conversation.name, conversation.kind)
            self._screen.print_notice(f"-- {more:,} more unread: /go {to} shows the next ones")
        if not (lines or news or end):
            self._screen.print_notice("-- no messages here yet")
        elif end and lines:
            self._rule(end)
        return len(page)

    def _on_counted(self, older: Counter[tuple[str, str]]) -> None:
        """Show the end of the history that arrived on the first join, once, and say what is not shown."""
        if self._catching_up is None:
            self._catching_up = asyncio.ensure_future(self._catch_up(older))
        else:
            self._print_older(older, shown=0)

    async def _catch_up(self, older: Counter[tuple[str, str]]) -> None:
        async with self._turn:
            try:
                lines = await self._history(self._session.current)
            except P2PChatError:
                return
            lines = [line for line in lines if line["old"] and line["at"] >= self._since]
            self._print_older(older, shown=len(lines))
            await self._show_past(lines, "before you joined", "now")

    def _print_older(self, older: Counter[tuple[str, str]], *, shown: int) -> None:
        """Say how many older messages there are, and how to see them, unless the `shown` lines are all."""
        here = open_conversation(self._session)
        count = sum(of for (id, _), of in older.items() if here is not None and id == here.id)
        if count > shown:
            below = f", the last {shown} below" if shown else ""
            self._screen.print_notice(f"-- {older_messages(count)}{below}: see /history {count}")
        places = [place for id, place in older if here is None or id != here.id]
        if rest := older.total() - count:
            where, how = (
                (places[0], f"/go {places[0]}") if len(places) == 1 else (f"{len(places)} conversations", "/list")
            )
            self._screen.print_notice(f"-- {older_messages(rest)} in {where}: see {how}")

    async def _history(self, conversation: Conversation, unread: int = 0) -> list[EventLine]:
        """Return the last lines, more of them if there are `unread` ones."""
        limit = UNREAD_LINES if unread else HISTORY_LINES
        found = await self._peer.history(conversation, limit=limit, ignored=False)
        return [await with_gap(self._peer, message) for message in found]

    async def _show_past(
        self, lines: Sequence[EventLine], begin: str = "", end: str = "", *, numbered: bool = False,
        changes: deque[EventLine] | None = None,
    ) -> None:  # fmt: skip
        """Show older messages between two rules.

        Changes of the group that came before a message are shown above it, and removed from `changes`. Messages of
        others are not shown again when their events arrive; own ones are, with their delivery mark.
        """
        if lines and begin:
            self._rule(begin)
        for line in lines:
            while changes and changes[0]["at"] < line["at"]:
                self._show_group_change(changes.popleft())
            for notice in (*line.get("above", ()), *filter(None, [format_gap(line)])):
                self._screen.print_notice(notice)
            await self._show_message(line, elsewhere=False, numbered=numbered)
            for notice in line.get("below", ()):
                self._screen.print_notice(notice)
            self._edits.add(line)
            if line["id"] not in self._received and (line["event"] == "message" or line["at"] < self._since):
                self._shown.add(line["id"])
        if lines and end:
            self._rule(end)

    def _is_here(self, event: EventLine) -> bool:
        here = open_conversation(self._session)
        return is_here(event, None if here is None else here.id)

    # Events

    async def show_event(self, event: EventLine, *, older: bool = False) -> None:
        """Show one event. A message that an earlier run received is counted, or was shown as history already."""
        async with self._turn:
            if event["event"] in ("message", "sent"):
                older = older or event["at"] < self._since
                if self._was_shown(event["id"]):
                    if self._log is not None:
                        self._log.write(json_line(event))
                    return
            await super().show_event(event, older=older)
        if self._about and event["event"] in ENDINGS and self._about in event.values():
            self.drop_question()
        self._on_change()
        await self._screen.wait_for_room()

    async def _show_late(self, event: EventLine) -> None:
        async with self._turn:
            await super()._show_late(event)

    def _was_shown(self, id: str) -> bool:
        remember(self._received, id, None, REMEMBERED)
        was_shown = id in self._shown
        self._shown.discard(id)
        return was_shown

    async def _show_for_people(self, event: EventLine) -> None:
        kind = event["event"]
        if kind == "message":
            await self._show_received(event)
        elif kind == "sent":
            await self._show_sent(event)
        elif kind in CHANGE_EVENTS:
            self.questions.on_change(event, self._own_id)
            await self._show_edit(event)
        elif kind == "delivered":
            self._show_delivery(event)
        elif kind == "typing":
            if event["user_id"] != self._own_id:
                self.typing.on_event(event)
        elif kind == "file_receipt":
            self._show_file_receipt(event)
        elif kind == "read":
            self._screen.update(event["id"], lambda own: own.on_read(event["count"], event["of"]))
        elif kind == "group":
            self._show_group_change(event)
        elif shows_presence(event):
            self._show_presence(event)
        elif kind in ("begun", "member"):
            self._show_day(event["at"])
            self._screen.add_line(change_line(event, self.me))
            if kind == "begun" and self._session.settings.notifies(event["conversation_id"], meant=True):
                self._ring_for(event, f"new: {format_begun(event)}", later=event["kind"] == "dm")

    def shows(self, line: EventLine) -> bool:
        """Return whether a message of another conversation is shown, since it is for the user or a setting says so."""
        unread = self._session.unread
        addressed = is_addressed_to(line, unread.name, unread.id)
        return self._session.settings.notifies(line["conversation_id"], meant=addressed)

    async def _show_received(self, event: EventLine) -> None:
        here, notified = self._is_here(event), self.shows(event)
        self.speakers.add(event["sender"])
        if here or notified:
            await self._show_message(event, elsewhere=not here)
        is_new = self._session.is_new(event)  # that it began was told
        if notified and not (is_new or event["old"] or event.get("expelled")):
            text = f"{quote_speaker(event['sender'])}: {event['text']}"
            self._ring_for(event, text, later=came_late(event))

    def _ring_for(self, event: EventLine, text: str, *, later: bool) -> None:
        """Ring; later for what another machine of the user may have read."""
        if not later:
            self._ring(text)
            return
        if not self._late:
            self._ringing = asyncio.create_task(self._ring_late())
        self._late[event["conversation_id"]] = text

    async def _ring_late(self) -> None:
        """Ring for what came late, unless another machine of the user read it meanwhile."""
        await asyncio.sleep(READ_ELSEWHERE_WITHIN)
        late, self._late = self._late, {}
        with suppress(P2PChatError):  # a closed peer
            for where, text in late.items():
                if await self._peer.unread(where, 1):
                    self._ring(text)

    def _ring(self, text: str) -> None:
        settings = self._session.settings
        self._alerts.ring(text, bell=settings.is_on("bell"), desktop=settings.is_on("desktop"))

    async def _begin_line(self, event: EventLine) -> EventLine | None:
        """Note that a message is shown, below its day; return what it answers."""
        related = await self._related(event)
        self._show_day(event["sent_at"])
        remember(self._seen, event["id"], None, REMEMBERED)
        return related

    async def _show_message(self, event: EventLine, *, elsewhere: bool, numbered: bool = False) -> None:
        related = await self._begin_line(event)
        self.questions.add(event, self._own_id)
        line = chat_line(self.for_people(event), self.me, elsewhere=elsewhere, related=related)
        self._screen.add_line([*self._number(event), *line] if numbered else line)

    def _number(self, event: EventLine) -> list[Fragment]:
        """Return the number before a listed line."""
        width = len(str(len(self.numbers)))
        return [(DIM, f"{self.numbers[event['id']]:>{width}} ")] if event["id"] in self.numbers else []

    async def _show_edit(self, event: EventLine) -> None:
        """Show an edit, deletion or reaction as a line of its own: printed lines cannot change.

        Those of another conversation are shown on return. Of reactions only own ones and those to own messages are
        shown, since many users may react; /history has all.
        """
        related = await self._related(event)
        here = self._is_here(event)
        kind = CHANGE_EVENTS[event["event"]]
        is_for_writer = kind.about == "any" and not kind.shared
        if is_for_writer and event["by_id"] != self._own_id and (related or {}).get("event") != "sent":
            return
        if not (here or event["kind"] == "dm"):
            if event["id"] in self._seen:
                self._keep_for_return(event)
            return
        self._show_day(event["sent_at"])
        self._screen.add_line(chat_line(self.for_people(event), self.me, elsewhere=not here, related=related))

    def _show_group_change(self, event: EventLine) -> None:
        """Show changes of the current group, and those of others that concern the user; the rest on return."""
        ours = self._own_id in (event["target_id"], event["by_id"]) or event["change"] == "created"
        if not (line := change_line(event, self.me))[0][1]:
            return
        if ours or self._is_here({**event, "kind": "group"}):
            self._show_day(event["at"])
            self._screen.add_line(line)
        else:
            self._keep_for_return(event)

    def _keep_for_return(self, event: EventLine) -> None:
        """Keep an event of another conversation, to show it when the user goes there."""
        self._missed.setdefault(event["conversation_id"], deque(maxlen=HISTORY_LINES)).append(event)

    def _show_presence(self, event: EventLine) -> None:
        if self._shows_joins:
            self._show_day(event["at"])
            self._screen.add_line(change_line(event, self.me))
        elif self._session.settings.value("joins") == "auto" and not self._joins_muted:
            self._joins_muted = True
            self._screen.print_notice(
                f"-- more than {QUIET_ABOVE} people are here: who comes and goes is no longer shown (/set joins on)"
            )

    @property
    def _shows_joins(self) -> bool:
        joins = self._session.settings.value("joins")
        return joins == "on" or (joins == "auto" and len(self._peer.here()) <= QUIET_ABOVE)

    def _show_day(self, iso: str) -> None:
        before, self._day = self._day, local(iso).date()
        if before != self._day:
            self._rule(f"{self._day:%A} {self._day.day} {self._day:%B %Y}")

    def _rule(self, text: str) -> None:
        self._screen.add_line([(DIM, f"──── {text} ────")])

    async def _show_sent(self, event: EventLine) -> None:
        related = await self._begin_line(event)
        fragments = chat_line(event, self.me, elsewhere=not self._is_here(event), related=related)
        own = PendingLine(event, fragments, event["sent_at"] < self._since)
        for file in event.get("files", ()):  # content that was sent before may be known to be there
            own.on_file(file["root"], file.get("held_by", 0))
        self._screen.add_pending(own)

    def on_settled(self, own: PendingLine) -> None:
        """Handle an own line that was printed: notices follow if nobody has it yet, or not all of a small group."""
        if not own.count or (own.event["kind"] == "group" and own.count < own.of < QUIET_ABOVE):
            self._incomplete.add(own.id)
            self.notifier.on_sent(own.event, room=True)

    def _show_file_receipt(self, event: EventLine) -> None:
        """Show that somebody has a file in the mark of its line; behind that line, of a direct message, as a notice."""
        is_shown = self._screen.update(event["id"], lambda own: own.on_file(event["root"], event["count"]))
        if not is_shown and event["has"] and event["of"] < 2:
            self._screen.print_notice(f"-- {quote_name(event['user'])} has {file_label(event['name'])}")

    def _show_delivery(self, event: EventLine) -> None:
        """Show a delivery in the mark of its line; behind that line, the first of the room and of large groups."""
        at_gateway = event.get("at_gateway", False) and event["conversation_id"] not in self.notifier.rooms
        count, of = event["count"], event["of"]
        if self._screen.update(event["id"], lambda own: own.on_delivered(count, of, at_gateway=at_gateway)):
            return
        alone = event["conversation_id"] in self.notifier.rooms or not event["count"] < event["of"] < QUIET_ABOVE
        self.notifier.on_delivered(event, room=event["id"] in self._incomplete, last=alone)
        if alone:
            self._incomplete.discard(event["id"])

    # Answers

    async def show_answer(
        self, command: str, rows: Sequence[EventLine], lines: Sequence[str], ref: str | None = None
    ) -> None:
        """Show an answer: history between two rules, search hits highlighted, help in two columns."""
        if command == "history":
            async with self._turn:
                await self._show_past(rows, "history", "now", numbered=True)
            if rows:
                return
        if command == "search":
            for row in rows:  # with full dates: hits may be of any day
                related = await self._related(row)
                self._screen.add_line([*self._number(row), *message_row(self.for_people(row), self.me, None, related)])
            lines = lines[-1:]  # the summary
        if command == "help":
            lines = fold("\n".join(lines), self._screen.columns, 3).split("\n")
        await super().show_answer(command, rows, lines, ref)

    def refresh(self) -> None:
        self._on_change()

    async def confirm(self, question: str, about: str) -> bool | None:
        if self.ask is None:
            return None
        self._about = about
        return await self.ask(question)

    async def clear(self) -> bool:
        self._screen.clear()
        self._seen.clear()
        return True

    def close(self) -> None:
        for task in filter(None, (self._catching_up, self._ringing)):
            task.cancel()
        super().close()


def open_conversation(session: Session) -> Conversation | None:
    """Return the current conversation; None of a closed peer."""
    try:
        return session.current
    except P2PChatError:
        return None


# ---- questions


class OpenQuestions:
    """Messages of others with choices that were shown, and that the user has not answered."""

    def __init__(self) -> None:
        self._lines: dict[str, EventLine] = {}  # by message id, in the order in which they were shown

    def add(self, line: EventLine, me: str) -> None:
        """Handle a message that is shown; `me` is the own id."""
        self._lines.pop(line["id"], None)
        if line["event"] != "message" or line.get("poll") or not (choices := line.get("choices")):
            return
        if not any(one["by_id"] == me and one["reaction"] in choices for one in line.get("reactions", ())):
            remember(self._lines, line["id"], line, REMEMBERED)

    def on_change(self, event: EventLine, me: str) -> None:
        """Handle an edit, a deletion or a reaction."""
        choices = self._lines.get(event["id"], {}).get("choices", ())
        if event["event"] == "deleted" or (event["by_id"] == me and event.get("reaction") in choices):
            self.close(event["id"])

    def close(self, id: str) -> bool:
        """Drop a question; return False if it was dropped before."""
        return self._lines.pop(id, None) is not None

    def newest(self, conversation_id: str) -> EventLine | None:
        """Return the question of a conversation that was shown last; None if all are answered."""
        lines = reversed(self._lines.values())
        return next((line for line in lines if line["conversation_id"] == conversation_id), None)


def choices_row(question: EventLine) -> Row:
    """Return the row with the keys that answer a question, and its beginning."""
    keys = " · ".join(f"Alt-{key} {quote_name(choice)}" for key, choice in enumerate(question["choices"], 1))
    return [("bold", f"  {keys}"), (DIM, f"   {message_excerpt(question)}")]


# ---- typing indicators
#
# Indicators are sent for texts, never for commands, and only where few people read them: in direct conversations, small
# groups, and a small room.


class TypingNotifier:
    """Sends typing indicators for the line in the prompt; Conversation.typing drops repetitions."""

    def __init__(self, peer: TCPPeer, session: Session) -> None:
        self._peer = peer
        self._session = session
        self._where: Conversation | None = None  # where others see the indicator

    def on_line(self, text: str) -> None:
        """Handle a change of the line in the prompt."""
        here = open_conversation(self._session) if is_text(text) else None
        if here is not None and not self._is_enabled(here):
            here = None
        if self._where is not None and self._where != here:
            self._send(self._where, on=False)
        self._where = here
        if here is not None:
            self._send(here, on=True)

    def on_sent(self) -> None:
        """Handle a line that is sent: the message itself ends the indicator."""
        self._where = None

    def _send(self, where: Conversation, *, on: bool) -> None:
        try:
            where.typing(on)
        except P2PChatError:  # the peer is closing
            pass

    def _is_enabled(self, where: Conversation) -> bool:
        if not self._session.settings.shows_typing(where.id):
            return False
        if where.kind == "dm":
            return True
        if isinstance(where, Group):
            return len(where.members) <= QUIET_ABOVE
        return len(self._peer.here()) <= QUIET_ABOVE


def is_text(line: str) -> bool:
    """Return whether a line is a message: not blank, and no command."""
    return bool(line.strip()) and (not line.startswith("/") or line.startswith("//"))


class TypingUsers:
    """Users who are typing, by the events of others."""

    def __init__(self) -> None:
        self._typing: dict[tuple[str, str], str] = {}  # (conversation, user) -> label, in the order they began

    def __bool__(self) -> bool:
        return bool(self._typing)

    def on_event(self, line: Mapping[str, Any]) -> None:
        """Handle a `typing` line."""
        key = (line["conversation_id"], line["user_id"])
        if line["typing"]:
            self._typing[key] = line["user"]
        else:
            self._typing.pop(key, None)

    def row(
        self, here: str, is_direct: Callable[[str], bool], settings: ChatSettings, ignores: Callable[[str], bool]
    ) -> Row | None:
        """Return the row above the prompt; None if nobody is typing. Ignored users are dropped.

        Args:
            here: The id of the current conversation.
            is_direct: Returns whether an id is of a direct conversation, which is shown everywhere.
        """
        for where, user in list(self._typing):
            if ignores(user) or not settings.shows_typing(where):
                del self._typing[where, user]
        in_front = [label for (where, _), label in self._typing.items() if where == here]
        direct = [label for (where, _), label in self._typing.items() if where != here and is_direct(where)]
        parts = [f"{quote_names(in_front)} {'are' if len(in_front) > 1 else 'is'} typing …"] if in_front else []
        parts += [f"{quote_name(label)} is typing to you …" for label in direct]
        return [(DIM, "   ".join(parts))] if parts else None
