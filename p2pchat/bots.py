"""Bots: functions that answer messages.

    from p2pchat.bots import Bot

    bot = Bot("wbot")

    @bot.command
    def weather(city: str) -> str:
        \"\"\"Tell the weather in a city.\"\"\"
        return f"{city}: sunny"

    bot.run()

In a direct conversation a message is a command if it begins with its name. In the room and in groups the bot has to be
meant: `@wbot weather berlin`, or with a prefix of its own, `!weather berlin`.

What a bot has handled it has marked as read; what is unread it has still to handle. So there is no list of its own
that a crash could lose, messages that came while it was down are handled at the next start, and whoever wrote one sees
by its ticks that it was handled. The messages of one conversation are handled in order, those of several at once.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any, NoReturn, TypeVar, Union, Unpack, get_args, get_origin, overload

from p2pchat import (
    HOP_LIMIT,
    AmbiguousName,
    Conversation,
    DurableEvent,
    Message,
    MessageOptions,
    P2PChatError,
    PeerClosed,
    Receipt,
    Sent,
    TCPPeer,
    TooLong,
    UnknownName,
    User,
    validate_name,
)
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.typed_commands import split_name, split_words
from p2pchat.kinds.message_fields import UNASKED
from p2pchat.program_log import ProgramLog
from p2pchat.threads import in_thread, spawn, stop_tasks

__all__ = ["Bot", "BotCommand", "BotContext"]

AT_ONCE = 8  # conversations that are served at once; a guess
MESSAGES_AT_ONCE = 20  # unread messages read together
MAX_ABOUT_CHARACTERS = 512  # limit of the protocol
GRACE = 4.0  # seconds in which handlers may end when the bot stops; with the end of the peer 5, half of `docker stop`
FAILED = "that failed; the log of this bot has the reason"
FAILED_EVERY = 60.0  # seconds between two of these in one conversation: the first says all there is to say; a guess
MAX_LISTED = 100  # commands in the answer to `help`

F = TypeVar("F", bound=Callable[..., Any])
log: ProgramLog = ProgramLog("p2pchat.bots")


class CommandUsageError(ValueError):
    """The words behind a command do not fit it. Its text is the answer."""


# ---- one command


@dataclass(frozen=True)
class CommandParameter:
    """A parameter of a command.

    Attributes:
        name: As in the function.
        type: One of str, int, float, bool and User.
        kind: That of inspect.Parameter: one word, all words left (`*words`), or all text left (`*, text`).
        required: It has no default.
    """

    name: str
    type: type
    kind: Any
    required: bool

    @property
    def usage(self) -> str:
        name = self.name.upper()
        if self.kind is inspect.Parameter.VAR_POSITIONAL:
            return f"[{name}]..."
        return name if self.required else f"[{name}]"

    def parse(self, word: str, peer: TCPPeer) -> Any:
        """Return the value that a word means. Raises CommandUsageError."""
        if self.type is str:
            return word
        if self.type is User:
            try:
                return peer.user(word)
            except (UnknownName, AmbiguousName) as error:
                raise CommandUsageError(str(error)) from None
        if self.type is bool:
            if word.lower() in _TRUE or word.lower() in _FALSE:
                return word.lower() in _TRUE
            raise CommandUsageError(f"{self.name.upper()} is yes or no, not {word!r}")
        with suppress(ValueError):
            value = self.type(word)
            if self.type is int or isfinite(value):  # nan and inf are words of float, and no numbers
                return value
        wanted = "a whole number" if self.type is int else "a number"
        raise CommandUsageError(f"{self.name.upper()} is {wanted}, not {word!r}")


_TRUE = frozenset(("yes", "y", "true", "on", "1"))
_FALSE = frozenset(("no", "n", "false", "off", "0"))
_TYPES = (str, int, float, bool, User)


class BotCommand:
    """A command of a bot: a function, and the words that call it.

    Attributes:
        name: The word that calls it.
        aliases: Other words that do.
        help: The docstring; "" without one.
        takes_context: Its first parameter is `ctx`.
        parameters: The others, in order.
    """

    def __init__(self, function: Callable[..., Any], name: str, aliases: Sequence[str] = ()) -> None:
        self.name = name
        self.aliases: tuple[str, ...] = tuple(aliases)
        self.help: str = inspect.cleandoc(_unbound(function).__doc__ or "")
        self._function = function
        bound = function.keywords if isinstance(function, partial) else {}
        parameters = [each for each in _signature(function).parameters.values() if each.name not in bound]
        self.takes_context: bool = bool(parameters) and parameters[0].name == "ctx"
        rest = parameters[1:] if self.takes_context else parameters
        named = getattr(inspect.unwrap(_unbound(function)), "__globals__", {})
        self.parameters: tuple[CommandParameter, ...] = tuple(_parameter_of(each, name, named) for each in rest)
        texts = [each for each in self.parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
        if len(texts) > 1 or (texts and any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in rest)):
            raise TypeError(f"the command {name} takes the rest of the line twice: {texts[-1].name} gets none of it")

    @property
    def usage(self) -> str:
        """The command as it is written, as `weather CITY [DAYS]`."""
        return " ".join((self.name, *(parameter.usage for parameter in self.parameters)))

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return self.help.partition("\n")[0]

    def parse(self, text: str, peer: TCPPeer) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments that the text behind the command's name gives. Raises CommandUsageError."""
        values: list[Any] = []
        named: dict[str, Any] = {}
        rest = text.strip()
        for parameter in self.parameters:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                if rest:
                    named[parameter.name] = parameter.parse(rest, peer)
                elif parameter.required:
                    raise CommandUsageError(f"{parameter.name.upper()} is missing")
                return values, named
            is_last = parameter.kind is inspect.Parameter.VAR_POSITIONAL
            if parameter.required and not rest:
                raise CommandUsageError(f"{parameter.name.upper()} is missing")
            try:
                words, rest = (split_words(rest), "") if is_last else _first_word(rest)
            except UsageError as error:
                raise CommandUsageError(str(error)) from None
            values += [parameter.parse(word, peer) for word in words]
        if rest:
            raise CommandUsageError(f"{rest!r} is too much")
        return values, named

    async def call(self, ctx: BotContext, text: str) -> str | None:
        """Call it with the text behind its name; return its answer, None for none.

        Raises:
            CommandUsageError: The text does not fit the command.
            HandlerError: The function failed. The cause is what it raised.
            TypeError: The function returned something else.
        """
        values, named = self.parse(text, ctx.peer)
        if self.takes_context:
            values.insert(0, ctx)
        answer = await _call(self._function, *values, **named)
        if answer is not None and not isinstance(answer, str):
            raise TypeError(f"the command {self.name} returned {type(answer).__name__}: return a text, or None")
        return answer


def _unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a partial one."""
    return function.func if isinstance(function, partial) else function


def _name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, or that of the class of a callable object, in lower case."""
    function = _unbound(function)
    return getattr(function, "__name__", "") or type(function).__name__.lower()


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature. What annotations name may be there for type checkers only, so they are not evaluated."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _parameter_of(parameter: inspect.Parameter, command: str, named: dict[str, Any]) -> CommandParameter:
    annotation = str if parameter.annotation is inspect.Parameter.empty else parameter.annotation
    annotation = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(annotation, str):
        with suppress(NameError):  # refused below
            annotation = eval(annotation, {each.__name__: each for each in _TYPES} | named)
    if get_origin(annotation) in (Union, types.UnionType):  # `int | None`: the default says what None stands for
        annotation = next((each for each in get_args(annotation) if each is not type(None)), annotation)
    if annotation not in _TYPES:
        names = ", ".join(each.__name__ for each in _TYPES)
        raise TypeError(f"parameter {parameter.name} of the command {command} must be one of {names}")
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        raise TypeError(f"the command {command} cannot take **{parameter.name}: words have no names")
    required = parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    return CommandParameter(parameter.name, annotation, parameter.kind, required)


def _first_word(text: str) -> tuple[list[str], str]:
    """Return the first word of a text, if it has one, and the rest. Raises UsageError for a quote that does not end."""
    if not text:
        return [], ""
    word, rest = split_name(text)
    return [word], rest


async def _call(function: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """Call a handler, and await what is awaitable of its result.

    One that is not `async` runs in a thread, so that it may wait without stopping the peer.

    Raises:
        HandlerError: What the handler raised, as its cause, whatever it was: CancelledError and SystemExit would end
            the task or the loop around it, and StopIteration cannot leave a coroutine.
    """
    call = partial(function, *values, **named)
    awaited = call if inspect.iscoroutinefunction(function) else partial(in_thread, call)
    outcome = await asyncio.create_task(_outcome_of(awaited))
    if inspect.isawaitable(result := outcome.result):
        outcome = await asyncio.create_task(_outcome_of(lambda: result))
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # the bot stops, whatever the handler makes of it
        raise asyncio.CancelledError
    if outcome.error is not None:
        raise HandlerError from outcome.error
    return outcome.result


class HandlerError(Exception):
    """A handler failed. The cause is what it raised."""


@dataclass(frozen=True)
class _Outcome:
    """The outcome of a call: what it returned, or what it raised."""

    result: Any = None
    error: BaseException | None = None


async def _outcome_of(call: Callable[[], Awaitable[Any]]) -> _Outcome:
    """Await what a call returns in a task of its own, so that whatever it does to its task ends there.

    The call comes first in that task: if the task is cancelled before it begins, there is nothing to await.
    """
    try:
        return _Outcome(await call())
    except BaseException as error:  # of somebody's function: none of them is meant for the loop
        return _Outcome(error=error)


# ---- what a handler gets


@dataclass(frozen=True)
class BotContext:
    """The message that called a command, for a handler whose first parameter is called `ctx`.

    Attributes:
        bot: The bot.
        peer: Its peer.
        message: The message.
    """

    bot: Bot
    peer: TCPPeer
    message: Message

    @property
    def user(self) -> User:
        """The user who wrote it."""
        return self.message.sender

    @property
    def conversation(self) -> Conversation:
        """The conversation in which it stands."""
        return self.message.conversation

    async def reply(self, text: str, **options: Unpack[MessageOptions]) -> Receipt:
        """Answer the message, one hop more if it counts them; returns when that is stored. See Message.reply."""
        hops = self.message.hops
        if hops:
            options.setdefault("hops", hops + 1)
        return await self.message.reply(text, **options)

    async def react(self, reaction: str) -> Receipt:
        """React to the message, as with "👍". Raises as TCPPeer.react."""
        return await self.peer.react(self.message, reaction, automatic=True)

    def typing(self, on: bool = True) -> None:
        """Show, or hide, that the bot is typing; it ends after 6 s, and with the answer."""
        self.peer.typing(self.conversation, on)


# ---- the bot


@dataclass
class _Tasks:
    """The tasks of one peer: one for each conversation with unread messages, and those of handlers."""

    peer: TCPPeer
    slots: asyncio.Semaphore
    serving: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by the id of the conversation
    woken: set[str] = field(default_factory=set)  # conversations in which something came while they were served
    failed_at: dict[str, float] = field(default_factory=dict)  # when a conversation was last told of a failure
    others: set[asyncio.Task[None]] = field(default_factory=set)
    stopping: bool = False


class Bot:
    """A bot: a name, commands, and handlers of events.

    Args:
        name: The name of its user. Someone else may have it, too: then users see a longer label.
        prefix: What commands in the room and in groups may begin with, beside the bot's name, as "!"; "" for nothing.
        at_once: In how many conversations it works at the same time.
        about: What it tells others of itself. Its commands are added, so that terminals know them.
    Attributes:
        name: The name of its user.
        prefix: As given.
        about: As given.
        commands: All commands by their names; `help` is one.
    Raises:
        ValueError: The name is no name of a user, or the prefix holds a blank.
    """

    def __init__(self, name: str, *, prefix: str = "", at_once: int = AT_ONCE, about: str = "") -> None:
        if prefix and prefix.split() != [prefix]:
            raise ValueError(f"a prefix has no blanks, as '!': {prefix!r} has")
        if at_once < 1:
            raise ValueError("a bot works in one conversation or more at once")
        self.name: str = validate_name(name)
        self.prefix = prefix
        self.about = about
        self.commands: dict[str, BotCommand] = {}
        self._at_once = at_once
        self._words: dict[str, BotCommand] = {}  # names and aliases, in lower case
        self._handlers: list[tuple[type, Callable[..., Any]]] = []
        self._periodic: list[tuple[float, Callable[[], Any]]] = []
        self._peer: TCPPeer | None = None
        self._help_command = BotCommand(self._help, "help")
        self._add(self._help_command)

    def __repr__(self) -> str:
        return f"<Bot {self.name!a} with {len(self.commands)} commands>"

    @property
    def peer(self) -> TCPPeer:
        """The peer it runs on; RuntimeError before it runs."""
        if self._peer is None:
            raise RuntimeError("the bot does not run yet: its peer is there once run() or serve() has begun")
        return self._peer

    # ---- what it does

    @overload
    def command(self, function: F, /) -> F: ...
    @overload
    def command(self, name: str = "", /, *, aliases: Sequence[str] = ()) -> Callable[[F], F]: ...
    def command(self, function: Any = "", /, *, aliases: Sequence[str] = ()) -> Any:
        """Make a function a command, called by its own name, or by another: `@bot.command("8ball")`.

        Its annotations say what the words behind it mean: str, int, float, bool, or User, which is given by name. A
        parameter with a default may be left out; `*words` takes all words that are left, and `*, text` all text that is
        left, as it was written. Words with blanks stand in quotes. If the first parameter is called `ctx`, it is the
        BotContext. What the function returns is the answer; None is no answer. A function that is not `async` runs
        in a thread.

        Raises:
            ValueError: There is such a command, or its name has a blank.
            TypeError: A parameter has another type.
        """
        if callable(function):
            self._add(BotCommand(function, _name_of(function)))
            return function

        def decorate(decorated: F) -> F:
            self._add(BotCommand(decorated, function or _name_of(decorated), aliases))
            return decorated

        return decorate

    def _add(self, command: BotCommand) -> None:
        for word in (command.name, *command.aliases):
            if word.split() != [word]:
                raise ValueError(f"the name of a command is one word: {word!r} is not")
            if word.lower() in self._words and word.lower() != "help":
                raise ValueError(f"there are two commands called {word}")
            self._words[word.lower()] = command
        self.commands[command.name] = command

    def on(self, *events: type) -> Callable[[F], F]:
        """Call a function with every event of these classes, as Joined; with Message every message that is no command.

        Messages are handled as commands are: each once, in order, and automatic ones (`Message.automatic`) not at all,
        nor those that say HOP_LIMIT hops or more (`Message.hops`).
        What the function replies is automatic, or counts hops if the message does (see Message.reply). Other events are
        live: those that happen while the bot is down are not repeated, and handlers run side by side.
        """
        if not events or not all(isinstance(each, type) for each in events):
            raise TypeError("on() takes classes of events, as in @bot.on(Joined)")

        def decorate(function: F) -> F:
            self._handlers += [(each, function) for each in events]
            return function

        return decorate

    def every(self, *, seconds: float) -> Callable[[F], F]:
        """Call a function without arguments when the bot starts, and again so many seconds after each call."""
        if seconds <= 0:
            raise ValueError(f"seconds is above 0, not {seconds}")

        def decorate(function: F) -> F:
            self._periodic.append((seconds, function))
            return function

        return decorate

    def _help(self, command: str = "") -> str:
        """List the commands, or explain one."""
        if not command:
            lines = [f"{each.usage}: {each.summary}".rstrip(": ") for each in self.commands.values()]
            return "\n".join(lines[:MAX_LISTED])
        found = self._words.get(command.lower())
        if found is None:
            return f"there is no command {command!r}"
        also = f" (also: {', '.join(found.aliases)})" if found.aliases else ""
        return "\n".join(filter(None, (found.usage + also, found.help)))

    # ---- at work

    def run(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run the bot as a program with the command line of a peer, until a signal; exits the process.

        `python wbot.py 8085 localhost:8080 --data DIR`; `--help` shows the options.

        Args:
            argv: The words of the command line without the program's name; None for those of the process.
        """
        from p2pchat.cli.bot_command_line import run_bot

        sys.exit(run_bot(self.name, self.serve, argv))

    async def serve(self, peer: TCPPeer) -> None:
        """Work on a running peer, until the peer closes or the task is cancelled.

        Unread messages are handled first. When cancelled, it waits 4 s for handlers that run; what they have not
        finished is handled again by the next call. Whatever a handler raises is a failure of its message alone.
        """
        self._peer = peer
        tasks = _Tasks(peer, asyncio.Semaphore(self._at_once))
        periodic = [asyncio.create_task(self._repeat(*each)) for each in self._periodic]
        try:
            async with peer.events(consumer=None) as events:
                if peer.me.about != (about := self._about_with_commands()):
                    await peer.rename(peer.me.name, about)
                for conversation in peer.conversations():
                    self._wake(tasks, conversation)
                async for event in events:
                    if isinstance(event, Message):
                        self._wake(tasks, event.conversation)
                    elif not isinstance(event, DurableEvent) or self._handles(event):
                        self._start_handlers(tasks, event)
        finally:
            tasks.stopping = True
            running = {*tasks.serving.values(), *tasks.others}
            if running:
                await asyncio.wait(running, timeout=GRACE)
            await stop_tasks([*periodic, *running])

    def _about_with_commands(self) -> str:
        """Return what it tells others of itself: its text, then each command with a slash, as far as there is room."""
        words = [f"/{name}" for name in sorted(self.commands, key=lambda name: (name == "help", name))]
        while words:
            text = " · ".join(filter(None, (self.about, " ".join(words))))
            if len(text) <= MAX_ABOUT_CHARACTERS:
                return text
            words.pop()
        return self.about

    def _handles(self, event: object) -> bool:
        return any(isinstance(event, kind) for kind, _ in self._handlers)

    def _start_handlers(self, tasks: _Tasks, event: object) -> None:
        for kind, function in self._handlers:
            if isinstance(event, kind):
                spawn(tasks.others, self._guarded(function, event))

    async def _repeat(self, seconds: float, function: Callable[[], Any]) -> None:
        while True:
            await self._guarded(function)
            await asyncio.sleep(seconds)

    async def _guarded(self, function: Callable[..., Any], *values: Any) -> None:
        """Call a handler; log its error."""
        try:
            await _call(function, *values)
        except HandlerError as error:
            log.error("%s failed", _name_of(function), exc_info=error.__cause__)

    # ---- messages

    def _wake(self, tasks: _Tasks, conversation: Conversation) -> None:
        """Have a conversation served: something unread may be in it."""
        id = conversation.id
        if id in tasks.serving:
            tasks.woken.add(id)
            return
        tasks.serving[id] = asyncio.create_task(self._serve_conversation(tasks, conversation))

    async def _serve_conversation(self, tasks: _Tasks, conversation: Conversation) -> None:
        """Handle what is unread in a conversation, in order, until nothing is."""
        try:
            async with tasks.slots:
                while not tasks.stopping:
                    tasks.woken.discard(conversation.id)
                    is_done = await self._handle_unread(tasks, conversation)
                    if is_done and conversation.id not in tasks.woken:
                        break
        except PeerClosed:
            pass
        except P2PChatError as error:
            log.error("%s: tried again with the next message", error)
        finally:
            del tasks.serving[conversation.id]  # in the same step as the last look at `woken`

    async def _handle_unread(self, tasks: _Tasks, conversation: Conversation) -> bool:
        """Handle some unread messages; return whether there were none."""
        unread = await tasks.peer.unread(conversation, limit=MESSAGES_AT_ONCE)
        for message in unread:
            if tasks.stopping:
                break
            await self._handle(tasks, message)
            await tasks.peer.mark_read_durably(message)
        return not unread

    async def _handle(self, tasks: _Tasks, message: Message) -> None:
        if message.automatic or message.hops >= HOP_LIMIT:
            return
        ctx = BotContext(self, tasks.peer, message)
        text = self._addressed_text(message)
        word, rest = (*(text or "").split(maxsplit=1), "", "")[:2]
        command = self._words.get(word.lower())
        try:
            if command is not None and await _answers_own(tasks.peer, message):
                command = None
            UNASKED.set(command is None)
            if command is not None:
                await self._answer(ctx, command, rest)
            elif handlers := [function for kind, function in self._handlers if isinstance(message, kind)]:
                for function in handlers:
                    await _call(function, message)
            elif text and message.reply_to is None:  # what another bot answers is no command
                await ctx.reply(f"there is no command {word[:50]!r}: help shows what I can do", automatic=True)
        except PeerClosed:
            raise
        except Exception as error:
            cause = error.__cause__ if isinstance(error, HandlerError) else error
            log.error("a message of %s was not handled", message.sender.label, exc_info=cause)
            now, id = asyncio.get_running_loop().time(), ctx.conversation.id
            if now >= tasks.failed_at.get(id, float("-inf")) + FAILED_EVERY:
                tasks.failed_at[id] = now
                with suppress(P2PChatError):
                    await ctx.reply(FAILED, automatic=True)

    async def _answer(self, ctx: BotContext, command: BotCommand, text: str) -> None:
        log.info("%s: %s in %s", ctx.user.label, command.name, ctx.conversation.name)
        try:
            if answer := await command.call(ctx, text):
                await ctx.reply(answer, automatic=command is self._help_command)
        except CommandUsageError as error:
            await ctx.reply(f"{error}. Usage: {command.usage}", automatic=True)
        except TooLong as error:
            await ctx.reply(f"the answer is too long to be sent: more than {error.limit_bytes:,} bytes", automatic=True)

    def _addressed_text(self, message: Message) -> str | None:
        """Return what is said to the bot, without its name; None if the message is not meant for it."""
        text = message.text.strip()
        is_direct = message.conversation.kind == "dm"
        if message.action or message.unsupported:
            return None
        for start in _names_of(self.peer.me):
            said, rest = text[: len(start)], text[len(start) :]
            if said.lower() == start.lower() and (not rest or rest[0] in ":," or rest[0].isspace()):
                return rest.lstrip(":,").strip()
        if self.prefix and text.startswith(self.prefix):
            return text[len(self.prefix) :].strip()
        return text.removeprefix("/") if is_direct else None


async def _answers_own(peer: TCPPeer, message: Message) -> bool:
    """Return whether a message answers what the bot wrote: another bot may have written it, and answer the next one."""
    try:
        return message.reply_to is not None and isinstance(await peer.message(message.reply_to), Sent)
    except UnknownName:
        return False


def _names_of(user: User) -> Iterator[str]:
    """Yield how a message in a shared conversation may begin that is meant for a user."""
    for name in (user.label, user.name):
        yield f'@"{name}"'
        yield f"@{name}"
