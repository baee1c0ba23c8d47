"""What a chat shows on a terminal: lines of the conversation one is in, what goes to oneself alone or says one's name
from elsewhere, and the rest as numbers in the prompt.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from p2pchat import Conversation, Group, P2PChatError, TCPPeer
from p2pchat.cli.terminal.completer import RecentSpeakers
from p2pchat.cli.terminal.modes import TerminalAlerts
from p2pchat.cli.terminal.screen import DIM, ME, PendingLine, Screen, name_style
from p2pchat.commands.columns import Fragment, Row
from p2pchat.commands.display import Display
from p2pchat.commands.message_commands import HISTORY_LINES
from p2pchat.commands.output import EventLine, EventLogFile, json_line
from p2pchat.commands.read_tracking import is_addressed_to, is_here
from p2pchat.commands.render import (
    EDIT_EVENTS,
    edit_marks,
    format_edit,
    format_event,
    format_gap,
    highlighted_message,
    message_excerpt,
    message_text,
    quote_conversation,
    quote_name,
    quote_names,
    quote_speaker,
    with_gap,
)
from p2pchat.commands.session import Session
from p2pchat.commands.settings import QUIET_ABOVE, ChatSettings, without_ignored
from p2pchat.commands.wrap import fold
from p2pchat.safe_text import safe_text

NARROW_HELP = 60  # columns
_TWO_COLUMNS = re.compile(r"^( {2}\S+(?: \S+)*) {2,}(?=\S)")
REMEMBERED = 1000  # ids of messages that came: many more than may be read back before they come


class TerminalDisplay(Display):
    """What is shown on one terminal.

    Args:
        changed: Called when what stands in the prompt may have changed.
    """

    def __init__(
        self, screen: Screen, notices: TerminalAlerts, log: EventLogFile | None, changed: Callable[[], None]
    ) -> None:
        super().__init__(screen, log, as_json=False, echo=True)
        self._screen = screen
        self._notices = notices
        self._changed = changed
        self._days = DateRule()
        self._peer: TCPPeer | None = None
        self._session: Session | None = None
        self._own_id = ""
        self._since = ""  # when this run began, as event lines write it
        self._turn = asyncio.Lock()  # nothing new is shown among lines of the past
        self._shown: set[str] = set()  # ids of messages that stand above already, and come as events still
        self._came_by: dict[str, None] = {}  # ids of messages that came as events
        self._open: dict[str, EventLine] = {}  # `sent` lines whose mark is open, by message id
        self._kept: set[str] = set()  # ids of own messages that went up as kept, and nobody has yet
        self._told_of_many = False
        self._catching_up: asyncio.Task[None] | None = None
        self.asides.counted = self._counted
        self.speakers = RecentSpeakers()
        self.typists = TypingIndicators()

    # Where one is

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        """Show the last lines of the room, and a line under them."""
        self._peer, self._session = peer, session
        self._since = peer.listening.to_json()["at"]
        self._own_id = peer.me.id
        async with self._turn:
            try:
                lines = await self._history(session.current)
            except P2PChatError:  # an open network that has met nobody yet
                lines = []
            await self._past([line for line in lines if line["at"] < self._since], end="now")  # others come as events
        self._changed()

    async def went(self, conversation: Conversation) -> None:
        """Show where one is now, and what was said there last."""
        async with self._turn:
            self._rule(quote_conversation(conversation.name, conversation.kind))
            await self._past(await self._history(conversation))
        self._changed()

    def _counted(self, text: str) -> None:
        """What was said before one came has arrived: show the end of it, once, and how much there is."""
        self._screen.tell(text)
        if self._catching_up is None:
            self._catching_up = asyncio.ensure_future(self._catch_up())

    async def _catch_up(self) -> None:
        assert self._session is not None
        async with self._turn:
            try:
                lines = await self._history(self._session.current)
            except P2PChatError:
                return
            lines = [line for line in lines if line["old"] and line["at"] >= self._since]
            await self._past(lines, "before you came", "now")

    async def _history(self, conversation: Conversation) -> list[EventLine]:
        assert self._peer is not None
        posts = await self._peer.history(conversation, limit=HISTORY_LINES)
        return [
            without_ignored(self._peer, line)
            for post in posts
            if not self.hides(line := await with_gap(self._peer, post))
        ]

    async def _past(
        self, lines: Sequence[EventLine], begin: str = "", end: str = "", *, numbered: bool = False
    ) -> None:
        """Show what was said before, between two rules. What others wrote is not shown again when it comes as an event;
        one's own is, for its mark."""
        if lines and begin:
            self._rule(begin)
        for line in lines:
            if gap := format_gap(line):
                self._screen.tell(gap)
            await self._message(line, elsewhere=False, numbered=numbered)
            self._edits.shown(line)
            if line["id"] not in self._came_by and (line["event"] == "message" or line["at"] < self._since):
                self._shown.add(line["id"])
        if lines and end:
            self._rule(end)

    def _is_here(self, event: EventLine) -> bool:
        if self._session is None:
            return True
        try:
            return is_here(event, self._session.current.id)
        except P2PChatError:
            return is_here(event, None)

    # Events

    async def event(self, event: EventLine, *, older: bool = False) -> None:
        """Show one event. What an earlier run received and did not show is only counted, or stands above already."""
        async with self._turn:
            if event["event"] in ("message", "sent"):
                older = older or event["at"] < self._since
                if self._stands_above(event["id"]):
                    if self._log is not None:
                        self._log.write(json_line(event))
                    return
            await super().event(event, older=older)
        self._changed()
        await self._screen.room()

    def _stands_above(self, id: str) -> bool:
        self._came_by[id] = None
        if len(self._came_by) > REMEMBERED:
            del self._came_by[next(iter(self._came_by))]
        if id not in self._shown:
            return False
        self._shown.discard(id)
        return True

    async def _for_people(self, event: EventLine) -> None:
        kind = event["event"]
        if kind == "message":
            await self._came(event)
        elif kind == "sent":
            await self._sent(event)
        elif kind in EDIT_EVENTS:
            await self._mend(event)
        elif kind == "delivered":
            self._delivered(event)
        elif kind == "typing":
            if event["user_id"] != self._own_id:
                self.typists.noticed(event)
        elif kind == "read":
            self._screen.was_read(event["id"], event["count"], event["of"])
        elif kind == "group":
            self._changed_group(event)
        elif kind in ("joined", "left", "renamed"):
            if kind == "joined":
                self.asides.joined(event["user_id"])
                event = {**event, "first": event["first"] and not self.arriving}
            if self._tells_who_comes:
                self._day(event["at"])
                self._screen.line(change_line(event, self.me))
            elif self._session is not None and self._session.settings.joins == "auto" and not self._told_of_many:
                self._told_of_many = True
                self._screen.tell(
                    f"-- more than {QUIET_ABOVE} are here: who comes and goes is not told (/set joins on)"
                )

    def _changed_group(self, event: EventLine) -> None:
        """Show what becomes of the group one is in, and of any what becomes of oneself there."""
        ours = self._own_id in (event["target_id"], event["by_id"]) or event["change"] == "created"
        if (line := change_line(event, self.me))[0][1] and (ours or self._is_here({**event, "kind": "group"})):
            self._day(event["at"])
            self._screen.line(line)

    async def _came(self, event: EventLine) -> None:
        here = self._is_here(event)
        self.speakers.heard(event["sender"])
        assert self._session is not None
        settings, unread = self._session.settings, self._session.unread
        meant = is_addressed_to(event, unread.name, unread.id)
        notified = settings.notifies(event["conversation_id"], meant=meant)
        if here or notified:
            await self._message(event, elsewhere=not here)
        if notified and not event["old"]:
            told = f"{quote_speaker(event['sender'])}: {event['text']}"
            self._notices.ring(told, bell=settings.bell, desktop=settings.desktop)

    async def _message(self, event: EventLine, *, elsewhere: bool, numbered: bool = False) -> None:
        answered = await self.answered(event) if self.answered is not None else None
        self._day(event["sent_at"])
        line = message_line(event, self.me, elsewhere=elsewhere, answered=answered)
        self._screen.line([*self._number(event), *line] if numbered else line)

    def _number(self, event: EventLine) -> list[Fragment]:
        """Return the number of a listed line, to stand before it."""
        width = len(str(len(self.numbers)))
        return [(DIM, f"{self.numbers[event['id']]:>{width}} ")] if event["id"] in self.numbers else []

    async def _mend(self, event: EventLine) -> None:
        """Something was edited, deleted or reacted to: a line of its own, for what stands above cannot be changed. Of
        reactions to what others wrote only one's own are shown, since many people may react; /history has them all."""
        mended = await self.answered(event) if self.answered is not None else None
        mine = self._peer is not None and event["by_id"] == self._peer.me.id
        here = self._is_here(event)
        if not (here or event["kind"] == "dm"):
            return
        if event["event"] == "reaction" and not mine and (mended is None or mended["event"] != "sent"):
            return
        self._day(event["sent_at"])
        if event["event"] == "edited":
            self._screen.line(edited_line(event, self.me, elsewhere=not here, edited=mended))
        else:
            self._screen.line(edit_event_line(event, self.me, mended))

    def _day(self, iso: str) -> None:
        day = self._days.change(local(iso), datetime.now().astimezone().date())
        if day is not None:
            self._rule(day)

    def _rule(self, text: str) -> None:
        self._screen.line([(DIM, rule_line(text, self._screen.columns))])

    @property
    def _tells_who_comes(self) -> bool:
        if self._session is None or self._peer is None or self._session.settings.joins == "off":
            return False
        if self._session.settings.joins == "on":
            return True
        return len(self._peer.here()) <= QUIET_ABOVE

    # Own lines

    async def _sent(self, event: EventLine) -> None:
        answered = await self.answered(event) if self.answered is not None else None
        self._day(event["sent_at"])
        fragments = message_line(event, self.me, elsewhere=not self._is_here(event), answered=answered)
        self._open[event["id"]] = event
        self._screen.own(PendingLine(event["id"], event["kind"] == "dm", fragments, self._screen.now))

    def went_up(self, own: PendingLine) -> None:
        """An own line has the mark it will keep: when that is `kept`, it is told later who has it."""
        event = self._open.pop(own.id)
        if not own.count:
            self._kept.add(own.id)
            self.asides.sent(event, room=True)

    def _delivered(self, event: EventLine) -> None:
        if not self._screen.delivered(event["id"], event["count"], event["of"]):
            self.asides.delivered(event, room=event["id"] in self._kept)
            self._kept.discard(event["id"])

    async def answer(
        self, command: str, rows: Sequence[EventLine], lines: Sequence[str], ref: str | None = None
    ) -> None:
        """Show what a command says: help in two columns, and what was said before between two rules."""
        if command == "history":
            async with self._turn:
                await self._past(self._shown_rows(rows), "history", "now", numbered=True)
            return
        if command == "search":
            await self._search_found(self._shown_rows(rows))
            lines = lines[-1:]  # how much it was
        if command == "help":
            lines = _in_columns(lines, self._screen.columns)
        await super().answer(command, rows, lines, ref)

    def _shown_rows(self, rows: Sequence[EventLine]) -> list[EventLine]:
        """Return what people want to see of these messages."""
        assert self._peer is not None
        return [without_ignored(self._peer, row) for row in rows if not self.hides(row)]

    async def _search_found(self, rows: Sequence[EventLine]) -> None:
        """Show what was found, with its words marked; always with the date, for it may be of any day."""
        for row in rows:
            answered = await self.answered(row) if self.answered is not None else None
            self._screen.line([*self._number(row), *highlighted_message(row, self.me, None, answered)])

    async def clear(self) -> bool:
        self._screen.clear()
        return True

    def close(self) -> None:
        if self._catching_up is not None:
            self._catching_up.cancel()
        super().close()


def _in_columns(lines: Sequence[str], width: int) -> list[str]:
    """Return lines of help folded to the screen: below each other where two columns have no room beside each other."""
    lines = [f"   {line[4:]}" if line[:4].isspace() and line[4:5] != " " else line for line in lines]
    if width < NARROW_HELP:
        lines = [_TWO_COLUMNS.sub(r"\1\n   ", line) for line in lines]
    return [fold(line, width, 3) for text in lines for line in text.split("\n")]


# ---- lines
#
# Event lines as coloured lines: the words of format.py, with the time alone in front, as days have lines of their own.
#
# Every line begins with its time; names that could be taken for more stand in quotes. So it holds what format.py says:
# no line can pass for another speaker's.


Event = Mapping[str, Any]


def message_line(event: Event, me: str, *, elsewhere: bool, answered: Event | None = None) -> list[Fragment]:
    """Return a `message` or `sent` line.

    Args:
        me: The own label.
        elsewhere: One is not where it belongs; the line says where that is.
        answered: The line of the message this one answers, where that is known.
    """
    line: list[Fragment] = [(DIM, f"{local(event['sent_at']):%H:%M} ")]
    line += _where(event) if elsewhere else []
    action = bool(event["action"])
    if action:
        line.append(("", "* "))
    line += _who(event, me, quote_name if action else quote_speaker)
    if answered is not None:
        line.append((DIM, f" (to {message_excerpt(answered)})"))
    line.append(("", (" " if action else ": ") + message_text(event)))
    if marks := edit_marks(event):
        line.append((DIM, marks))
    return line


def edited_line(event: Event, me: str, *, elsewhere: bool, edited: Event | None) -> list[Fragment]:
    """Return an `edited` line: the message as it is now, and when it was written.

    Args:
        edited: The line of the message, where it is known.
    """
    when = "" if edited is None else f" {_time(edited)}"
    line: list[Fragment] = [(DIM, f"{_time(event)} ")]
    line += _where(event) if elsewhere else []
    action = edited is not None and bool(edited["action"])
    said = "sent" if edited is not None and edited["event"] == "sent" else "message"
    by = {**event, "event": said, "sender": event["by"], "sender_id": event["by_id"], "to": event["conversation"]}
    line += [("", "* ")] if action else []
    line += _who(by, me, quote_name if action else quote_speaker)
    line.append((DIM, f" (edited{when})"))
    line.append(("", (" " if action else ": ") + safe_text(event["text"])))
    return line


def edit_event_line(event: Event, me: str, mended: Event | None) -> list[Fragment]:
    """Return a `deleted` or `reaction` line; it is shown where it belongs, so it need not say where."""
    return [(DIM, format_edit({**event, "kind": "room"}, me, local(event["sent_at"]), mended))]


def _where(event: Event) -> list[Fragment]:
    """Return where a line belongs that is shown elsewhere: of a direct one its names say it."""
    if event["kind"] == "dm":
        return []
    return [(DIM, f"[{quote_conversation(event['conversation'], event['kind'])}] ")]


def _time(event: Event) -> str:
    return f"{local(event['sent_at']):%H:%M}"


def _who(event: Event, me: str, show: Any) -> list[Fragment]:
    mine = event["event"] == "sent"
    who: list[Fragment] = [(ME if mine else name_style(event["sender_id"]), _bare(show(event["sender"])))]
    if event["kind"] == "dm":
        who.append(("", f" -> {_bare(show(event['to'] if mine else me))}"))
    return who


def _bare(name: str) -> str:
    """Quote what could be taken for the place of a line too: `[room]`."""
    return f'"{name}"' if name[:1] == "[" else name


def change_line(event: Event, me: str) -> list[Fragment]:
    """Return a `joined`, `left` or `group` line."""
    text = format_event(event, me, local(event["at"]))
    return [(DIM, text or "")]


# ---- day
#
# Local times, and a line where the day changes, so that a time needs no date.


def local(iso: str) -> datetime:
    """Return the moment of an event line in the local zone."""
    return datetime.fromisoformat(iso).astimezone()


def rule_line(text: str, width: int) -> str:
    """Return a line across the screen, or what fits of it, with a text in it made safe before."""
    line = f"──── {text} ────"
    return line if len(line) <= width else f"── {text}"[:width]


class DateRule:
    """The day of the line printed last."""

    def __init__(self) -> None:
        self._last: date | None = None

    def change(self, moment: datetime, today: date) -> str | None:
        """Return what to say before a line of this moment: its day, when the line before was of another one.

        The first line of all is taken to be of today."""
        before, self._last = self._last or today, moment.date()
        if before == self._last:
            return None
        return f"{self._last:%A} {self._last.day} {self._last:%B %Y}"


# ---- typing
#
# Who types: others are told that somebody does here, and those who do elsewhere stand above the prompt.
#
# Told is only a text, never a command, and only where few read it: to one other, to a small group, or while so few are
# here that they are told who comes and goes. In a room of many everybody would hear of somebody all the time.


TYPING_EVERY = 1.0  # seconds between two words to the peer, which tells others more seldom


class TypingNotifier:
    """Tells others what somebody does at this prompt.

    Args:
        clock: Seconds.
    """

    def __init__(self, peer: TCPPeer, session: Session, clock: Callable[[], float]) -> None:
        self._peer = peer
        self._session = session
        self._clock = clock
        self._in: Conversation | None = None  # where others were told that one types
        self._said_at = 0.0

    def line(self, text: str) -> None:
        """The line in the prompt has changed."""
        try:
            here = self._session.current if is_text(text) else None
        except P2PChatError:  # an open network that has met nobody yet
            here = None
        if here is not None and here == self._in and self._clock() < self._said_at + TYPING_EVERY:
            return
        if here is not None and not self._is_told(here):
            here = None
        if self._in is not None and self._in != here:
            self._say(self._in, on=False)
        self._in = here
        if here is not None:
            self._said_at = self._clock()
            self._say(here, on=True)

    def sent(self) -> None:
        """What was in the prompt goes out: that alone says that it is not being typed any more."""
        self._in = None

    def _say(self, where: Conversation, *, on: bool) -> None:
        try:
            where.typing(on)
        except P2PChatError:  # the peer is closing
            pass

    def _is_told(self, where: Conversation) -> bool:
        if not self._session.settings.is_on("typing", where.id):
            return False
        if where.kind == "dm":
            return True
        if isinstance(where, Group):
            return len(where.members) <= QUIET_ABOVE
        return len(self._peer.here()) <= QUIET_ABOVE


def is_text(line: str) -> bool:
    """Whether a line is on its way to others: not blank, and no command."""
    return bool(line.strip()) and (not line.startswith("/") or line.startswith("//"))


class TypingIndicators:
    """Those who type elsewhere, by what event lines say."""

    def __init__(self) -> None:
        self._typing: dict[tuple[str, str], str] = {}  # (conversation, user) -> label, in the order they began

    def __bool__(self) -> bool:
        return bool(self._typing)

    def noticed(self, line: Mapping[str, Any]) -> None:
        """Take a `typing` line."""
        key = (line["conversation_id"], line["user_id"])
        if line["typing"]:
            self._typing[key] = line["user"]
        else:
            self._typing.pop(key, None)

    def row(
        self, here: str, is_direct: Callable[[str], bool], settings: ChatSettings, ignores: Callable[[str], bool]
    ) -> Row | None:
        """Return what stands above the prompt; None while nobody types. Who is not to be shown is forgotten.

        Args:
            here: The id of the conversation of the moment.
            is_direct: Whether this id is of a direct conversation: who types there is told elsewhere too.
        """
        for where, user in list(self._typing):
            if ignores(user) or not settings.is_on("typing", where):
                del self._typing[where, user]
        in_front = [label for (where, _), label in self._typing.items() if where == here]
        aside = [label for (where, _), label in self._typing.items() if where != here and is_direct(where)]
        said = [f"{quote_names(in_front)} {'are' if len(in_front) > 1 else 'is'} typing …"] if in_front else []
        said += [f"{quote_name(label)} is typing to you …" for label in aside]
        return [(DIM, "   ".join(said))] if said else None
