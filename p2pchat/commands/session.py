"""A session: executes typed lines and JSON commands on a running peer, in the order they arrive.

The handlers of commands are in *_commands.py. A command that fails is one error line; the session
continues, and the exit code records the failure when no person was there to see it. Messages that arrive together are
sent together: many lines of a pipe are one call and one commit.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from p2pchat import (
    Conversation,
    DurableEvent,
    Failed,
    Group,
    HostedUser,
    P2PChatError,
    Receipt,
    Receipts,
    StorageError,
    TCPPeer,
    TooLong,
    UnknownName,
    User,
    Warned,
)
from p2pchat.commands import conversation_commands as conversation
from p2pchat.commands import file_commands, member_commands, setting_commands
from p2pchat.commands import message_commands as messages
from p2pchat.commands import people_commands as people
from p2pchat.commands.activity_tracker import ActivityTracker, ReadMarker
from p2pchat.commands.command_arguments import found_arguments, typed_arguments
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.command_table import TABLE, CommandRow, commands_at
from p2pchat.commands.display import CommandResult, Display
from p2pchat.commands.event_text import EventLine, excerpt, file_label
from p2pchat.commands.exit_codes import (
    DONE,
    FAILED,
    USAGE,
    CommandError,
    UsageError,
    error_code,
    exit_code,
    print_notice,
    worst_code,
)
from p2pchat.commands.json_commands import (
    MAX_LINE_BYTES,
    BadCommand,
    JsonCommand,
    decode_line,
    looks_like_json,
    parse_json_command,
)
from p2pchat.commands.message_commands import OutgoingMessage, SendStopped
from p2pchat.commands.notifier import is_delivered, last_receipt
from p2pchat.commands.typed_commands import (
    BY_NAME,
    CommandInput,
    TextInput,
    UnknownCommand,
    help_lines,
    meant_command,
    parse_line,
    typed_name,
)
from p2pchat.commands.typed_paths import dropped_files
from p2pchat.kinds import CALLS, HEADS
from p2pchat.safe_text import quote_conversation, quote_name, quote_place, safe_line
from p2pchat.threads import ends_within, on_disk, stop_tasks


async def help_(ctx: CommandContext, command: str = "") -> CommandResult:
    lines = help_lines(command)
    return CommandResult([{"line": line} for line in lines], lines)


async def clear(ctx: CommandContext) -> CommandResult:
    """Empty the screen."""
    if not await ctx.display.clear():
        raise UsageError("/clear needs a terminal")
    return CommandResult()


Handler = Callable[..., Awaitable[CommandResult | OutgoingMessage | None]]  # None: it answers by itself


def handlers_in(*places: object) -> dict[str, Handler]:
    """Return the handlers of modules or objects, by their names: those of commands, or with a `_` where that is taken.

    Of several of one name the last counts.
    """
    names = [*(row.name for row in TABLE), *(f"typed_{row.name}" for row in TABLE if row.own_parser)]
    return {
        name: handler
        for place in places
        for name in names
        if (handler := getattr(place, f"{name}_", getattr(place, name, None))) is not None
    }


HANDLERS: dict[str, Handler] = {
    **{name: partial(messages.change, call) for name, call in CALLS.items()},
    **{name: partial(messages.head, kind) for name, kind in HEADS.items()},
    **handlers_in(
        messages, conversation, people, member_commands, file_commands, setting_commands, sys.modules[__name__]
    ),
}


class Session(CommandContext):
    """The input of one peer, or of one user that a peer hosts.

    Args:
        interactive: A person sees the errors; they do not change the exit code then.
        as_json: Lines that begin with `{` are JSON commands.
        activity: The activity tracker of the chat that this input comes from; None: a new one.
        door: Where JSON commands come in, as in the table of commands.
        handlers: Further handlers, or other ones.
    Attributes:
        sender: Sends the messages, and waits for their delivery.
        exit_code: The exit code so far.
        only_json: A line that is no JSON command is refused.
        on_bug: Called with an unexpected exception, which then fails only its command; None: it is raised.
    """

    def __init__(
        self, peer: TCPPeer | HostedUser, display: Display, *, interactive: bool, as_json: bool,
        activity: ActivityTracker | None = None, door: str = "c", handlers: Mapping[str, Handler] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(peer, display, interactive=interactive, for_people=not as_json, activity=activity)
        self._as_json = as_json
        self._json_commands = commands_at(door)
        self._handlers: Mapping[str, Handler] = {**HANDLERS, **(handlers or {})}
        self.only_json: bool = False
        self.sender: MessageSender = MessageSender(self, self.report_error)
        self.on_accepted: Callable[[Conversation, Receipt, Sequence[str]], None] = self.sender.add_receipt
        # The line before, if it was a command of a bot, or dropped files: its conversation, the line, and what the same
        # line again does.
        self._offered: tuple[Conversation, str, TextInput | CommandInput] | None = None
        self._hinted: set[str] = set()  # what a person was told, and questions about which
        self._searches: set[asyncio.Future[bool]] = set()  # that lines behind them did not wait for
        self._answers_later = door in "cs"
        self.exit_code: int = DONE
        self.on_bug: Callable[[Exception], None] | None = None
        display.hides, display.ignores = self.hides, peer.ignores
        display.find_related = self.related_message

    def track_reads(self) -> None:
        """Mark messages read from now on when the user sees them."""
        self._reads = ReadMarker(self.activity, self._on_read)

    def _on_read(self, conversation_id: str) -> None:
        self.unread.on_read(conversation_id)
        self.display.refresh()

    def on_displayed(self, event: object, *, shown: bool) -> None:
        """Handle an event after the display had it; `shown` as on_event() returned it."""
        if isinstance(event, DurableEvent) and event.by.is_me:
            self.sender.on_shown(event.conversation, event.entry_id)
        if self._reads is not None:
            self._reads.on_event(event, shown=shown)

    def on_event(self, line: EventLine) -> bool:
        """Handle an event line before it is shown; see CommandContext.on_event."""
        if line["event"] == "warning" and line["code"] == "undelivered":
            self.sender.discard(line["undelivered"])
            self.exit_code = worst_code(self.exit_code, FAILED)
        return super().on_event(line)

    def is_disabled(self, event: EventLine) -> bool:
        """Return whether a setting disables this event, for programs too: /set typing off."""
        return event["event"] == "typing" and not self.settings.shows_typing(event["conversation_id"])

    # Input

    async def flush(self) -> None:
        """Send the messages of the lines so far; return when they are accepted."""
        await self.sender.flush()

    async def execute(self, lines: Sequence[bytes | None], shown_last: Mapping[str, str] | None = None) -> bool:
        """Execute input lines; return False if one of them was /quit. None is a line that was too long.

        Args:
            shown_last: The property as it was when a person began to type; None: as it is now.
        """
        go_on = True
        self._shown_at_begin = shown_last
        if self.interactive:
            self.activity.on_input()
        for line in lines:
            go_on = await self.reporting(self._execute_line(line))
            if not go_on:
                break
        await self.sender.flush()
        self._shown_at_begin = None
        return go_on

    async def execute_command(self, command: JsonCommand) -> bool:
        """Execute one JSON command; return False if it was `quit`."""
        go_on = await self.reporting(self._run_json(command), command.ref)
        await self.sender.flush()
        return go_on

    async def reporting(self, work: Awaitable[bool], ref: str | None = None) -> bool:
        """Await what executes one line, and report its failure."""
        try:
            return await work
        except (P2PChatError, UsageError, CommandError, ValueError, OSError) as error:
            await self.report_error(error, error.ref if isinstance(error, BadCommand) else ref)
        except Exception as error:  # a defect: with `on_bug` it costs this command only, else it is raised
            if self.on_bug is None:
                raise
            self.on_bug(error)
            text = f"an unexpected {type(error).__name__}, which the running peer printed: please report it"
            await self.report_error(CommandError(text), ref)
        return True

    async def _execute_line(self, raw: bytes | None) -> bool:
        if raw is None:
            raise UsageError(f"a line above {MAX_LINE_BYTES} bytes was not sent")
        if self.only_json and not raw.startswith(b"{"):
            raise UsageError('a line here must be a command object, such as {"do":"who"}')
        line, is_utf8 = decode_line(raw)
        if not is_utf8:
            text = "a line was not UTF-8; its invalid bytes were replaced"
            await self.display.show_event(Warned(code="encoding", text=text).to_dict())
        if self._as_json and looks_like_json(line):
            command = parse_json_command(line, self._json_commands)
            return await self.reporting(self._run_json(command), command.ref)
        offered, self._offered = self._offered, None
        if offered is not None and self.is_current(offered[0]) and offered[1] == line:
            return await self._run_typed(offered[2])
        if self.interactive and self.local_files:
            await self._offer_dropped_files(line)
        try:
            return await self._run_typed(parse_line(line))
        except UnknownCommand as unknown:
            if not self.interactive:
                raise
            raise self._offer_to_bot(line, unknown) from None

    async def _offer_dropped_files(self, line: str) -> None:
        """Raise UsageError if a line has nothing but files of this machine. The same line again sends them."""
        files = await on_disk(dropped_files, line)
        if not files:
            return
        there = self.current
        self._offered = there, line, CommandInput("send", (line.strip(),))
        shown = ", ".join(file_label(file.name) for file in files)
        is_one = len(files) == 1
        raise UsageError(
            f"{shown} {'is a file' if is_one else 'are files'} here. Nothing was sent; the same line again (Up, Enter) "
            f"sends {'it' if is_one else 'them'} to {quote_place(there)}, as /send does"
        )

    def _offer_to_bot(self, line: str, unknown: UnknownCommand) -> UsageError:
        """Return the refusal of a line. If it is a command of a bot there, the same line again is sent to the bot."""
        try:
            there = self.current
        except UnknownName:
            return unknown
        found = (user for user in self._users_of(there) if f"/{unknown.word.lower()}" in user.about.lower().split())
        bot = min((user for user in found if not (user.is_me or user.ignored)), key=str, default=None)
        if bot is None or not unknown.word:
            return unknown
        text = line if there.kind == "dm" else f"@{typed_name(bot.label)} {line.removeprefix('/')}"
        self._offered = there, line, TextInput(text)
        shown = "" if there.kind == "dm" else f", as @{typed_name(bot.label)} {unknown.word}"
        return UsageError(
            f"{'/' + unknown.word} is a command of {quote_name(bot.label)}, and none here. Nothing was sent; "
            f"the same line again (Up, Enter) goes to {quote_conversation(there.name, there.kind)}{shown}"
        )

    def _users_of(self, there: Conversation) -> list[User]:
        """Return who may read what is written to a conversation now."""
        if there.user is not None:
            return [there.user]
        here = self.peer.here()
        return [user for user in here if user in there.members] if isinstance(there, Group) else here

    async def _run_typed(self, typed: TextInput | CommandInput | None) -> bool:
        if isinstance(typed, TextInput):
            self.display.numbers.clear()
            self.sender.add(OutgoingMessage(self.current, typed.text))
            if self.interactive and self.for_people:
                await self._hint(typed.text)
        elif isinstance(typed, CommandInput):
            if typed.name == "quit":
                return False
            if typed == CommandInput("send", (file_commands.STOP,)):
                file_commands.require_sender(self)
                await self.display.show_answer("send", [], self._stop_files())
                return True
            if typed.name == "msg" and len(typed.arguments) == 1 and self.interactive:
                typed = CommandInput("go", typed.arguments)  # a script whose text is empty must not go there
            await self._run(BY_NAME[typed.name], typed)
        return True

    async def _hint(self, text: str) -> None:
        """Tell a person what went as a text and perhaps was meant as something else; once each."""
        here, about = self.current, ""
        if meant := meant_command(text, lambda name: self._is_other(name, here)):
            about = hint = f"-- this went to {quote_place(here)} as a text; {meant}"
        elif (asked := await self.last_shown("sender")) is not None and asked.conversation == here:
            who = quote_name(asked.sender.label)
            answers = [user for choice in asked.choices for user in asked.reactions.get(choice, ())]
            if asked.poll:
                voted = any(user.is_me for voters in asked.votes.values() for user in voters)
                about, hint = ("", "") if voted or asked.closed_at else (asked.id, f"-- {who} asks for votes: /vote N")
            elif asked.choices and not any(user.is_me for user in answers):
                about, choices = asked.id, " · ".join(map(safe_line, asked.choices))
                hint = f"-- {who} waits for one of the choices: /react {choices}"
            elif asked.automatic and not asked.choices and here.kind != "dm" and "?" in asked.text:
                about = asked.id
                hint = f"-- {who} may wait for a reply: /reply TEXT answers the question"
        if about and about not in self._hinted:
            self._hinted.add(about)
            await self.sender.flush()
            print_notice(hint)

    def _is_other(self, name: str, here: Conversation) -> bool:
        """Return whether a name is of somebody else than who reads what is written here alone."""
        try:
            user = self.peer.user(name)
        except P2PChatError:
            return False
        return not user.is_me and user != here.user

    async def _run_json(self, command: JsonCommand) -> bool:
        if command.do == "quit":
            await self.sender.flush()
            return False
        await self._run(self._json_commands[command.do], command)
        return True

    async def _run(self, row: CommandRow, given: CommandInput | JsonCommand) -> None:
        """Run a command, and show its answer. A message waits for those of further lines, to be sent with them."""
        if row.kind in ("read", "small"):
            await self.sender.flush()
        elif row.kind != "message":
            await self.settle()
        ref = given.ref if isinstance(given, JsonCommand) else None
        answering = self._answer(row, given, ref)
        if row.name == "search" and self._answers_later and (self.interactive or ref is not None):
            await self._search(answering, ref)
        else:
            await answering

    async def _answer(self, row: CommandRow, given: CommandInput | JsonCommand, ref: str | None) -> bool:
        name = row.word
        self.ref: str | None = ref
        if isinstance(given, JsonCommand):
            name, self.line = row.name, None
            result = await self._handlers[row.name](self, **await found_arguments(self, row, given.fields))
        elif row.own_parser:
            self.line = given
            result = await self._handlers[f"typed_{row.name}"](self, *given.arguments)
        else:
            self.line = given
            result = await self._handlers[row.name](self, **await typed_arguments(self, row, given))
        if isinstance(result, OutgoingMessage):
            await self._add(result)
            self.display.numbers.clear()
        elif result is not None:
            await self.display.show_answer(name, result.rows, result.lines, ref)
        return True

    async def _search(self, answering: Awaitable[bool], ref: str | None) -> None:
        """Answer a search, at once or beside the lines behind it: the first one reads all of a history."""
        search = asyncio.ensure_future(self.reporting(answering, ref))
        self._searches.add(search)
        search.add_done_callback(self._searches.discard)
        await asyncio.wait([search], timeout=_BEHIND_AFTER)
        if len(self._searches) >= _MAX_SEARCHES:
            await asyncio.wait(self._searches)

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until nothing is searched or fetched any more, up to `timeout` seconds; None: as long as it takes."""
        if self._searches:
            await asyncio.wait(self._searches, timeout=timeout)
        await self.fetches.wait(timeout)

    async def stop(self) -> None:
        """End what goes on beside the lines."""
        await self.sender.stop()
        await self.fetches.stop()
        await stop_tasks(self._searches)

    async def settle(self) -> None:
        """Send what waits; return when a program's messages are sent, with all of their files.

        What was sent before a member was added must not be written after it.
        """
        await self.sender.flush()
        if not self.interactive:
            await self.sender.wait_sent()

    async def _add(self, message: OutgoingMessage) -> None:
        """Send a message with those that wait; one with files alone, since its files are copied before.

        What takes long there (large files, a disk that does not answer) goes on in the background. What a person types
        behind it does not wait for it; the messages of a program keep their order.
        """
        if not message.files:
            self.sender.add(message)
            return
        await self.sender.flush()
        await self.sender.begin(message)

    def _stop_files(self) -> list[str]:
        """Send no files that are copied, or wait for that; return lines that tell of each message."""
        stopped = [file_commands.label_of(one.files) for one in self.sender.stop_files()]
        path = os.path.join(".", file_commands.STOP)
        return [f"-- stopped sending {label}: nothing was sent" for label in stopped] or [
            f"-- no file is being copied; /send {path} sends a file with this name"
        ]

    # Errors

    async def report_error(self, error: BaseException, ref: str | None = None) -> None:
        """Show an error and record it for the exit code; raise it again if it is a bug."""
        if isinstance(error, OSError) and not isinstance(error, P2PChatError):  # the limit of open files, for example
            error = CommandError(f"the system refused this: {error.strerror or error}")
        code = USAGE if isinstance(error, ValueError) and not isinstance(error, P2PChatError) else exit_code(error)
        if not self.interactive or code == FAILED:
            self.exit_code = worst_code(self.exit_code, code)
        word = "usage" if code == USAGE and not isinstance(error, P2PChatError) else error_code(error)
        if isinstance(error, StorageError):
            word = "storage"
        text = str(error)
        if isinstance(error, TooLong) and self.display.has_prompt:
            size, limit = error.size_bytes, error.limit_bytes
            text = f"too long: {size:,} bytes, at most {limit:,}. Press Up to get it back and split it"
        await self.display.show_event(Failed(code=word, text=text, ref=ref).to_dict())


# ---- sending and delivery


_MAX_RECEIPTS = 1000  # above, receipts of delivered messages are dropped
_BEHIND_AFTER = 0.5  # seconds until further lines do not wait for files any more; a guess
_MAX_SEARCHES = 20  # that go on beside the lines behind them; a guess
_MAX_BEHIND = 1000  # messages behind files that are copied; above, a program's commands wait; a guess


ErrorHandler = Callable[[BaseException, str | None], Awaitable[None]]  # an error, and the `ref` of what failed


class MessageSender:
    """Messages that wait to be sent, and receipts of those that were.

    Args:
        on_error: Called for each message that could not be sent.
    """

    def __init__(self, ctx: CommandContext, on_error: ErrorHandler) -> None:
        self._ctx = ctx
        self._on_error = on_error
        self._messages: list[OutgoingMessage] = []
        self._behind: list[OutgoingMessage] = []  # to be sent in the background, in this order
        self._begun: asyncio.Task[None] | None = None  # which sends them
        self._sent_now: list[OutgoingMessage] = []  # by it
        self._receipts: list[tuple[Conversation, Receipt | Receipts]] = []
        self._last_shown: dict[str, str] = {}  # the id of the last entry shown, by conversation id
        self._unshown: dict[str, str] = {}  # the same of the last one accepted, until it is shown
        self._all_shown = asyncio.Event()
        self._all_shown.set()

    def add(self, message: OutgoingMessage) -> None:
        self._messages.append(message)

    async def flush(self) -> None:
        """Send what waits; return when it is accepted, or waits behind files of a program that are copied."""
        self._raise_defect()
        messages, self._messages = self._messages, []
        if self.is_sending and not self._ctx.interactive:
            self._behind += messages
            if len(self._behind) >= _MAX_BEHIND:
                await self.wait_sent()
            return
        await self._send_all(messages)

    async def _send_all(self, messages: Sequence[OutgoingMessage]) -> None:
        if len(messages) > 1 and all(one == OutgoingMessage(messages[0].to, one.text) for one in messages):
            if await self._send_together(messages[0].to, [one.text for one in messages]):
                return
        # Started in order, so accepted in order; awaited together.
        sends = [asyncio.ensure_future(self._send(one)) for one in messages]
        for message, result in zip(messages, await asyncio.gather(*sends, return_exceptions=True), strict=True):
            if isinstance(result, SendStopped):
                continue  # who stopped it was told
            if isinstance(result, BaseException):
                await self._on_error(result, message.ref)
            else:
                self.add_receipt(message.to, result, [message.excerpt])
                if result.repeated:
                    sent = await self._ctx.peer.message(result.id)
                    await self._ctx.display.show_event({**sent.to_dict(), "ref": message.ref, "again": True})

    async def begin(self, message: OutgoingMessage) -> None:
        """Send a message after those begun before it; return when it is sent, or goes on in the background."""
        self._raise_defect()
        self._behind.append(message)
        if not self.is_sending:
            self._begun = asyncio.create_task(self._send_behind())
            await asyncio.wait([self._begun], timeout=_BEHIND_AFTER)

    async def _send_behind(self) -> None:
        while self._behind:
            texts = list(itertools.takewhile(lambda one: not one.files, self._behind))
            self._sent_now = texts or self._behind[:1]
            del self._behind[: len(self._sent_now)]
            await self._send_all(self._sent_now)
            self._sent_now = []

    def stop_files(self) -> list[OutgoingMessage]:
        """Send no message whose files are copied in the background, or wait for that; return these messages."""
        stopped = [one for one in (*self._sent_now, *self._behind) if one.files and one.stop()]
        self._behind = [one for one in self._behind if not one.files]
        return stopped

    @property
    def is_sending(self) -> bool:
        """Return whether a message is being sent in the background."""
        return self._begun is not None and not self._begun.done()

    async def wait_sent(self) -> None:
        """Wait until nothing is sent in the background any more."""
        if self._begun is not None:
            await asyncio.wait([self._begun])
            self._raise_defect()

    def _raise_defect(self) -> None:
        """Raise what ended the sending in the background: what waits there was not sent, and is not overtaken."""
        if self._begun is not None and self._begun.done():
            self._begun.result()

    async def stop(self) -> None:
        """Send no more in the background."""
        begun, self._begun = self._begun, None
        self._behind.clear()
        if begun is not None:
            await stop_tasks([begun])

    async def _send(self, one: OutgoingMessage) -> Receipt:
        if one.files:
            return await file_commands.send_with_files(self._ctx, one)
        return await one.write(self._ctx.peer, one.kept)

    async def _send_together(self, to: Conversation, texts: list[str]) -> bool:
        """Send all texts in one call; False if one is invalid, so that each has to be sent alone."""
        try:
            self.add_receipt(to, await self._ctx.peer.send_many(to, texts), [excerpt(text) for text in texts])
        except ValueError:  # raised before any text was accepted
            return False
        except P2PChatError as error:
            for _ in texts:
                await self._on_error(error, None)
        return True

    def add_receipt(self, to: Conversation, receipt: Receipt | Receipts, what: Sequence[str]) -> None:
        """Keep the receipt of something accepted, to wait for it at the end. `what` names each message."""
        self._ctx.wrote_in = to
        self._ctx.display.on_accepted(to, receipt, what)
        self._receipts.append((to, receipt))
        if not last_receipt(receipt).repeated:
            self._unshown[to.id] = last_receipt(receipt).id
        self._all_shown.clear()
        self._on_shown(to)  # messages sent together may all be shown before the first receipt is kept
        if len(self._receipts) >= _MAX_RECEIPTS:
            self._receipts = [kept for kept in self._receipts if not is_delivered(kept[1])]

    def on_shown(self, to: Conversation, id: str) -> None:
        """Handle that an own entry was shown."""
        self._last_shown[to.id] = id
        self._on_shown(to)

    def _on_shown(self, to: Conversation) -> None:
        if to.id in self._unshown and self._unshown[to.id] == self._last_shown.get(to.id):
            del self._unshown[to.id]
        if not self._unshown:
            self._all_shown.set()

    async def wait_shown(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until everything accepted was shown."""
        await ends_within(timeout, self._all_shown.wait())

    def discard(self, ids: Collection[str]) -> None:
        """Stop waiting for these messages: nobody will receive them."""
        self._receipts = [kept for kept in self._receipts if last_receipt(kept[1]).id not in ids]

    async def drain(self, seconds: float, what: str = "delivered") -> list[str]:
        """Wait up to `seconds` until everything is `delivered`, its `files` too, or `read`; return labels of users who
        lack something.

        [""] means that no other user was online.
        """
        missing: set[str] = set()
        deadline = asyncio.get_running_loop().time() + seconds
        for to, receipt in self._receipts:
            try:
                await _wait_delivered(to, receipt, deadline, "delivered" if what == "files" else what)
                if what == "files":
                    await _wait_delivered(to, receipt, deadline, what)
            except TimeoutError as error:
                missing |= set(getattr(error, "missing", ())) or {""}
            except P2PChatError:
                missing.add("")
        return sorted(missing)

    def has_undelivered(self) -> bool:
        """Return whether a message lacks a recipient."""
        return not all(is_delivered(receipt) for _, receipt in self._receipts)


async def _wait_delivered(to: Conversation, receipt: Receipt | Receipts, deadline: float, what: str) -> None:
    """Wait until a message is delivered, `read`, or all have its `files`; in a group for members online, at least one.

    Raises:
        DeliveryTimeout: Not before `deadline`, on the loop's clock; or members of the group lack it who are away.
    """

    def left() -> float:
        return max(0.0, deadline - asyncio.get_running_loop().time())

    last = last_receipt(receipt)
    if to.kind != "group":
        wait_all = last.files_delivered if what == "files" else receipt.read if what == "read" else receipt.delivered
        await wait_all(timeout=left())
        return
    wait = last.files_delivered if what == "files" else last.read if what == "read" else last.delivered
    online = [user for user in last.of if user.status in ("online", "idle")]
    for user in online:
        await wait(by=user, timeout=left())
    if not online:
        await wait(count=1, timeout=left())
    await wait(timeout=0.0)
