"""The context of a command: settings, the current conversation, unread messages, and what was shown.

Users, conversations and messages that a command names are looked up here, and waited for while they are not known yet
if the input is one that waits. A person sees the error and can try again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from typing import TypeVar

from p2pchat import (
    Conversation,
    HostedUser,
    KeptFile,
    Message,
    P2PChatError,
    Receipt,
    Sent,
    Settings,
    TCPPeer,
    UnknownName,
    User,
)
from p2pchat.commands.activity_tracker import ActivityTracker, ReadMarker
from p2pchat.commands.chat_settings import ChatSettings
from p2pchat.commands.display import Display, is_ignored
from p2pchat.commands.event_text import EventLine, format_gap, format_message, local_now, message_excerpt
from p2pchat.commands.exit_codes import OperatorOnly, UsageError, print_notice
from p2pchat.commands.file_fetches import FileFetches
from p2pchat.commands.standard_output import iso
from p2pchat.commands.typed_commands import CommandInput
from p2pchat.commands.unread_counter import MAX_COUNTED, UnreadCounter, is_here
from p2pchat.kinds import CHANGE_EVENTS, HEADS
from p2pchat.kinds.call import YES

MAX_RECENT = 200  # conversations whose messages are counted or shown in a list, the most recent first; a guess
MAX_COUNTED_OF_MANY = 100  # the same for each of the users of a gateway
ID_CHARACTERS = 52  # of a whole id
PAGE = 200  # messages read at once when searching for own ones, or for those of others
MAX_PAGES = 50  # pages to search
Unread = Sequence[Message]
T = TypeVar("T")


class CommandContext:
    """The surroundings of one session.

    Attributes:
        peer: The user of the session: a peer's own user, or a user it hosts.
        interactive: A person types and sees errors.
        names_stopped: Set when the session fails at once on what is not known, also on what it waits for.
        for_people: Output is lines for people, without those of ignored users.
        target: Where texts go; None: the room, whose id may not be known yet.
        activity: Whether the user is active, and which conversation is open.
        on_dial: Called with an endpoint before /connect dials it.
        on_accepted: Called when something other than a text was accepted, with what it is: "your edit".
        deleted_texts: Texts of own messages whose deletion was requested and not shown yet, by message id.
        wrote_in: Where the user wrote, edited or deleted last, since the current conversation was opened: what a
            command about an own message means without a number.
        last_elsewhere: The id of the conversation, not the current one, whose message was shown last; "" for none.
        local_files: This session may read and write files of this machine, because it is of who runs the peer.
        fetches: The files that it fetches now.
        max_answer_bytes: Texts in one answer of /history and /search, in bytes.
        uploads: Returns the files that a message names, where they were uploaded; None: they are paths.
        line: The typed line that is executed; None: a JSON command is.
        ref: That of the JSON command that is executed; None: it has none.
    """

    def __init__(
        self, peer: TCPPeer | HostedUser, display: Display, *, interactive: bool, for_people: bool,
        activity: ActivityTracker | None = None,
    ) -> None:  # fmt: skip
        self.peer = peer
        self.interactive = interactive
        self.names_stopped: asyncio.Event = asyncio.Event()
        self.display = display
        self.settings: ChatSettings = ChatSettings(peer)
        self.for_people = for_people
        self.on_dial: Callable[[str], None] = lambda endpoint: None
        self.on_accepted: Callable[[Conversation, Receipt, Sequence[str]], None] = lambda to, receipt, what: None
        self.target: Conversation | None = None
        self.unread: UnreadCounter = UnreadCounter(peer.me.name, peer.me.id)
        idle_after = Settings().idle_after if interactive else None  # a pipe has no keys
        self.activity: ActivityTracker = activity or ActivityTracker(peer.set_presence, idle_after=idle_after)
        self.last_elsewhere: str = ""
        self.deleted_texts: dict[str, str] = {}
        self.line: CommandInput | None = None
        self.ref: str | None = None
        self.max_answer_bytes: int = sys.maxsize
        self.local_files: bool = False
        self.uploads: Callable[[Sequence[str]], tuple[KeptFile, ...]] | None = None
        self.fetches: FileFetches = FileFetches()
        self.fetches.on_change = display.refresh
        self._counted_before = ""  # messages received before this moment were counted by count_unread()
        self._reads: ReadMarker | None = None
        # Since the current conversation was opened: the newest message of others shown, and the newest one with files.
        self._shown_last: dict[str, str] = {}
        self._shown_at_begin: Mapping[str, str] | None = None  # the same as the line was begun that is executed
        self.wrote_in: Conversation | None = None

    @property
    def tcp_peer(self) -> TCPPeer:
        """The peer itself, for commands that concern all of its users.

        Raises:
            OperatorOnly: This session is of a hosted user.
        """
        if isinstance(self.peer, HostedUser):
            raise OperatorOnly("only the operator of this peer can do that")
        return self.peer

    @property
    def current(self) -> Conversation:
        """The current conversation."""
        return self.target or self.peer.room

    def is_current(self, conversation: Conversation) -> bool:
        return conversation == self.target or (self.target is None and conversation.kind == "room")

    def hides(self, line: EventLine) -> bool:
        """Return whether an event line is hidden because its user is ignored."""
        return self.for_people and is_ignored(self.peer, line)

    async def switch_to(self, conversation: Conversation) -> None:
        """Make this the current conversation and mark its messages read."""
        self.target = None if conversation.kind == "room" else conversation
        self.display.numbers.clear()
        self._shown_last.clear()
        self.wrote_in = None
        if self.last_elsewhere == conversation.id:
            self.last_elsewhere = ""
        await self.show_head(conversation)
        await self.open(conversation, self.display.on_switch)
        self.activity.on_switch()

    async def show_head(self, conversation: Conversation) -> None:
        """Show a person what stands at the head of a conversation."""
        for name, kind in HEADS.items() if self.for_people else ():
            posts = await self.peer.head(conversation, name)
            if shown := [line for post in posts if not self.hides(line := post.to_dict())]:
                print_notice(f"-- {kind.event}: {message_excerpt(shown[0])}; /{name} shows all {len(shown)}")

    async def open(
        self, conversation: Conversation, show: Callable[[Conversation, Unread], Awaitable[int]], before: str = ""
    ) -> None:
        """Show the unread messages of a conversation; those that `show` leaves stay unread.

        Args:
            show: Shows unread messages, given in the order in which they came, and returns how many of the first it
                showed.
            before: As of count_unread.
        """
        self.mark_seen()  # what was shown a moment ago is not shown again
        unread = await self._unread_in(conversation, before)
        count = await show(conversation, unread)
        for message in unread[:count]:
            self._note_shown(message.to_dict())
        self.unread.clear(conversation.id)
        self.unread.recount(conversation.id, unread[count:])
        if self._reads is not None:
            self._reads.on_opened(conversation.id, unread[:count], complete=count == len(unread))
        self.display.refresh()

    async def on_listed(self, conversation: Conversation, ids: Collection[str]) -> None:
        """Handle that messages of the current conversation were listed: unread ones among them were shown."""
        if self.unread.hides(conversation.id):

            async def count(conversation: Conversation, unread: Unread) -> int:
                return next((number for number, one in enumerate(unread) if one.id not in ids), len(unread))

            await self.open(conversation, count)
            self.activity.on_switch()

    # What was shown

    async def count_unread(self, before: str = "") -> None:
        """Count unread messages from storage: earlier runs, or other connections, may have marked them as read.

        Args:
            before: Count messages received before this moment, as event lines write it; later ones come as events.
                "": count all.
        """
        self._counted_before = before
        for conversation in self.peer.recent_conversations()[:MAX_RECENT]:
            await self._recount(conversation, before)

    async def recount_unread(self) -> None:
        """Count again what is unread: other users are ignored than before."""
        self.mark_seen()
        for conversation in self.peer.recent_conversations()[:MAX_RECENT]:
            if self.activity.is_active or not self.is_current(conversation):  # what somebody away was shown is unread
                await self._recount(conversation, "")

    async def on_seen(self, conversation: Conversation) -> None:
        """Handle that the user read in a conversation, perhaps at another door or machine."""
        if self.unread.count(conversation.id):
            await self._recount(conversation, "")
            self.display.refresh()

    async def _recount(self, conversation: Conversation, before: str) -> None:
        self.unread.recount(conversation.id, await self._unread_in(conversation, before))

    def mark_seen(self) -> None:
        """Mark the messages shown so far read, if the user is active."""
        if self._reads is not None:
            self._reads.mark_seen()

    async def _unread_in(self, conversation: Conversation, before: str) -> Unread:
        most = MAX_COUNTED if self.interactive else MAX_COUNTED_OF_MANY
        found = await self.peer.unread(conversation, most, max_bytes=self.max_answer_bytes)
        return [one for one in found if not before or iso(one.received_at) < before]

    def on_event(self, line: EventLine) -> bool:
        """Handle a line before it is shown: remember it for /reply, and count it as unread unless the user sees it.

        Returns:
            True for a message or an edit that is shown in full, as everything unread before it in its conversation
            was: it is read as soon as the user is active. In a new conversation nothing is, until it is opened.
        """
        here, there = self.target.id if self.target else None, line.get("conversation_id", "")  # of a closed peer too
        if line["event"] in CHANGE_EVENTS:
            if line["event"] == "deleted":
                self.unread.on_deleted(there, line["id"])
            return (is_here(line, here) or line["kind"] == "dm") and not self.unread.hides(there)
        if line["event"] != "message" or self.hides(line):
            return False
        self.display.me = self.peer.me.label  # /nick elsewhere, or another user took the name
        self.unread.name = self.peer.me.name
        if not line["old"] and (is_here(line, here) or not self.for_people or self.display.shows(line)):
            self._note_shown(line)  # old messages are only counted
        if is_here(line, here):
            if self.unread.hides(there):
                self.unread.on_event(line, "")
            return not self.unread.hides(there)
        if line["at"] < self._counted_before:
            return False
        shown = not line["old"] and self.interactive and self.display.shows(line) and not self.unread.hides(there)
        if shown:
            self.last_elsewhere = there
        is_read = shown and not self.is_new(line)
        if not (is_read and self.activity.is_active):
            self.unread.on_event(line, here, shown=shown)
        return is_read

    def is_new(self, line: EventLine) -> bool:
        """Return whether a message came in a conversation that is new; False once the peer is closed."""
        with suppress(P2PChatError):
            return self.peer.is_new(self.peer.find(line["conversation_id"]))
        return False

    @property
    def wrote_last(self) -> Conversation:
        """The conversation in which the user wrote last, since the current one was opened; else the current one."""
        return self.wrote_in or self.current

    def _note_shown(self, line: EventLine) -> None:
        self._shown_last |= {what: line["id"] for what in ("sender", "files", "poll") if line.get(what)}

    @property
    def shown_last(self) -> Mapping[str, str]:
        """The ids of the messages shown last, by what they are for last_shown."""
        return dict(self._shown_last)

    async def last_shown(self, what: str) -> Message | Sent | None:
        """Return what a command without a number means: the newest message shown, in whatever conversation.

        None if none was shown since the current conversation was opened: then it is that one's newest.

        Args:
            what: `sender` for one of others, `files` for one with files, `poll` for a poll.
        """
        id = (self._shown_last if self._shown_at_begin is None else self._shown_at_begin).get(what)
        try:
            found = None if id is None else await self.peer.message(id)
        except UnknownName:  # it was deleted here
            return None
        return None if found is None or self.hides(found.to_dict()) else found

    async def related_message(self, line: EventLine) -> EventLine | None:
        """Return the message that an event line replies to, edits, deletes or reacts to; None if missing or hidden."""
        named = line["id"] if line["event"] in CHANGE_EVENTS else line.get("reply_to")
        if not named:
            return None
        try:
            found = (await self.peer.message(named)).to_dict()
        except (P2PChatError, ValueError):  # not here (yet), or of a later version
            return None
        if line["event"] == "deleted" and line["id"] in self.deleted_texts:
            found["text"] = self.deleted_texts.pop(line["id"])
        return None if self.hides(found) else found

    async def to_lines(self, rows: Sequence[EventLine]) -> list[str]:
        """Return rows as numbered lines for people, with the lines `above` and `below` each; [] for programs."""
        if not self.for_people:
            return []
        now = local_now()
        lines: list[str] = []
        self.display.numbers = {row["id"]: number for number, row in enumerate(reversed(rows), 1)}  # 1 is the newest
        width = len(str(len(rows)))
        for row in rows:
            gap = format_gap(row)
            lines += [*row.get("above", ()), *([gap] if gap else [])]
            number = f"{self.display.numbers[row['id']]:>{width}}"
            related, row = await self.related_message(row), self.display.for_people(row)
            lines.append(f"{number} {format_message(row, self.display.me, now, related)}")
            lines += row.get("below", ())
        return lines

    async def report_error(self, error: BaseException, ref: str | None = None) -> None:
        """Show an error; `ref` is that of the command that failed."""

    @property
    def shows_all(self) -> bool:
        """True if everything is to be listed: for programs, and for a line that says so."""
        return not self.for_people or (self.line is not None and self.line.all)

    async def confirm(self, question: str, about: str = "") -> bool:
        """Ask the user before something that cannot be undone; return True for yes.

        A JSON command is the decision itself.

        Args:
            about: The id of the message, user or conversation in question. What changes it ends the question.
        Raises:
            UsageError: Nobody can be asked, and the line does not say yes.
        """
        answer = True if self.line is None or self.line.yes else await self.display.confirm(question, about)
        if answer is None:
            raise UsageError(f"{question} Nobody can be asked here: the line does it with {YES} at its end")
        return answer

    # What a command names

    async def flush(self) -> None:
        """Send the messages of earlier lines, which do not wait for the name in a later one."""

    async def settle(self) -> None:
        """Send the messages of earlier lines; return when those of a program are sent, with all of their files."""

    async def resolve(self, address: str) -> Conversation:
        """Return the conversation of an address; a program's input waits for the name (TCPPeer.when_known)."""
        return await self.wait_for_name(lambda: self.peer.find(address))

    async def resolve_user(self, address: str) -> User | str:
        """Return the user of an address; waits like resolve. The full id of somebody never met stays an id."""
        id = "".join(address.removeprefix("@").split())
        if len(id) != ID_CHARACTERS:
            return await self.wait_for_name(lambda: self.peer.user(address))
        try:
            return self.peer.user(address)
        except UnknownName:
            return id.upper()

    async def wait_for_name(self, find: Callable[[], T]) -> T:
        """Return what `find` returns; raises what it raises, waits like resolve."""
        try:
            return find()
        except UnknownName:
            if self.interactive:
                raise
        await self.flush()
        waiting = asyncio.ensure_future(self.peer.when_known(find))
        await self._wait_for(waiting)
        return find() if waiting.cancelled() or not waiting.done() else waiting.result()

    async def wait_for_message(self, find: Callable[[], Awaitable[Message | Sent | None]]) -> Message | Sent | None:
        """Return the message that `find` returns; while that is None, wait for messages like resolve."""
        with closing(self.peer.events(Message, consumer=None)) as arriving:  # also between a search and a wait
            while (found := await find()) is None:
                await self.flush()
                if self.interactive or self.names_stopped.is_set() or not (timeout := self.peer.name_timeout):
                    break  # a person can try again
                if not await self._wait_for(anext(arriving), timeout):
                    break
            return found

    async def recent_pages(
        self, where: Conversation | None, before: Message | Sent | None
    ) -> AsyncIterator[list[Message | Sent]]:
        """Yield the newest messages before one, in pages, the newest page first; MAX_PAGES at most."""
        for _ in range(MAX_PAGES):
            page = await self.peer.history(where, before=before, limit=PAGE, ignored=not self.for_people)
            yield page
            if len(page) < PAGE:
                return
            before = page[0]

    async def _wait_for(self, arrival: Awaitable[object], timeout: float | None = None) -> bool:
        """Wait for an arrival, until nothing is waited for any longer; return whether it came."""
        tasks = [asyncio.ensure_future(one) for one in (arrival, self.names_stopped.wait())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return tasks[0] in done and tasks[0].exception() is None
