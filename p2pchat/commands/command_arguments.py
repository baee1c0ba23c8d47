"""Arguments of a handler, from the words of a typed line or the fields of a JSON command.

A handler gets what its command names, found before the call: conversations, groups, users, messages, times. The
field `id` is its parameter `message`.

A typed line names the current conversation by nothing. It names a message by the number that /history or /search showed
last, or by nothing: then it is the message shown last, the own one written last, or the newest here. Numbers expire
when a message is sent or another conversation is opened, so that no number of an older list hits a wrong message. A
number that names no line is an error, and no text: nobody sends "2 hello" unknowingly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from p2pchat import Conversation, Group, Message, Sent
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.command_table import CommandRow
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.typed_commands import CommandInput

LOOKED_BACK = 200  # messages searched for the newest own one
_NO_LINE = "0"  # before a text that begins with a number


async def typed_arguments(ctx: CommandContext, row: CommandRow, line: CommandInput) -> dict[str, Any]:
    """Return the arguments of a typed command."""
    fields: dict[str, Any] = {}
    given = line.arguments
    if row.latest:
        fields[next(iter(row.json))], given = await _split_message(ctx, row, "".join(given))
    fields |= zip(row.bound, given, strict=False)
    if row.many:
        fields[row.bound[-1]] = [*given[len(row.bound) - 1 :]]
    fields |= dict.fromkeys(line.switches, True)
    if row.here and not line.all:
        fields.setdefault(row.here, ctx.current)
    for name in row.bound:
        if row.json[name].kind == "int" and name in fields:
            fields[name] = _parse_count(fields[name], row)
        elif row.json[name].required:
            fields.setdefault(name, "")
    return await found_arguments(ctx, row, fields)


async def found_arguments(ctx: CommandContext, row: CommandRow, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command by its fields. Raises what the search for something that it names raises."""
    found: dict[str, Any] = {}
    for name, field in row.json.items():
        if name in fields:
            found["message" if name == "id" else name] = await _find(ctx, row, name, fields[name])
        elif field.kind == "place":
            found[name] = await ctx.resolve("room")
    return found


async def _find(ctx: CommandContext, row: CommandRow, name: str, value: Any) -> Any:
    kind = row.json[name].kind
    if kind == "users":
        return [await ctx.resolve_user(one) for one in value]
    if kind == "group":
        return await _find_group(ctx, row, value)
    if not isinstance(value, str):  # a number, or found already
        return value
    match kind:
        case "conversation" | "place":
            return await ctx.resolve(value)
        case "user":
            return await ctx.resolve_user(value)
        case "message":
            return await ctx.peer.message(value)
        case "entry":
            return await ctx.peer.entry(value)
        case "time":
            return _parse_time(value, name)
    return value


async def _find_group(ctx: CommandContext, row: CommandRow, to: Conversation | str) -> Group:
    found = await ctx.resolve(to) if isinstance(to, str) else to
    if isinstance(found, Group):
        return found
    if isinstance(to, str):
        raise UsageError(f"{to!r} is not a group: write #NAME")
    raise UsageError(f"/{row.word} works in a group: /go #NAME first, or create one: /group NAME MEMBER")


def _parse_time(text: str, field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise UsageError(f"`{field}` must be a time with a zone, such as 2026-11-20T11:42:31.689337Z")
    return moment


def _parse_count(text: str, row: CommandRow) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0):
        raise UsageError(f"usage: {row.usage}, N above 0")
    return int(text[:9])


# ---- messages that a typed line means


async def _split_message(ctx: CommandContext, row: CommandRow, text: str) -> tuple[Message | Sent, tuple[str, ...]]:
    """Return the message that a line means by the number before its text, or by none, and the text, if there is one."""
    message, (word, _, rest) = None, text.partition(" ")
    if word.isascii() and word.isdecimal():
        how = f"; to begin a text with a number, put 0 before it: /{row.word} 0 {text}"
        text = rest.strip()
        if word == _NO_LINE:
            text = text or word
        else:
            message = await numbered(ctx, word, how if row.bound else "")
    if text and not row.bound:
        await numbered(ctx, text)
    if row.least and not text:
        raise UsageError(f"usage: {row.usage}, for example {row.example}")
    return message or await _NEWEST[row.latest](ctx), (text,) if text else ()


async def numbered(ctx: CommandContext, word: str, how: str = "") -> Message | Sent:
    """Return the message that was listed with this number. `how`: the end of an error."""
    for id, number in ctx.display.numbers.items():
        if str(number) == word:
            return await ctx.peer.message(id)
    raise UsageError(f"there is no line {word[:20]!r}: /history shows lines with numbers{how}")


async def _newest_own(ctx: CommandContext) -> Message | Sent:
    for message in reversed(await ctx.peer.history(ctx.wrote_last, limit=LOOKED_BACK)):
        if isinstance(message, Sent) and not message.deleted and message.unsupported is None:
            return message
    raise UsageError("you have no recent message here: /history shows lines with numbers")


async def _newest_shown(ctx: CommandContext) -> Message | Sent:
    """Return the newest message of others that was shown; else the newest that is stored here."""
    found = await ctx.wait_for_message(lambda: _newest_of_others(ctx))
    if found is None:
        raise UsageError("nobody else has written here yet")
    return found


async def _newest_here(ctx: CommandContext) -> Message | Sent:
    async for page in ctx.recent_pages(ctx.current, None):
        for message in reversed(page):
            if not message.deleted:
                return message
    raise UsageError("nobody has written here yet")


_NEWEST = {"own": _newest_own, "shown": _newest_shown, "here": _newest_here}


async def _newest_of_others(ctx: CommandContext) -> Message | Sent | None:
    if (shown := await ctx.last_shown("sender")) is not None:  # perhaps while it was waited for
        return shown
    async for page in ctx.recent_pages(ctx.current, None):
        for message in reversed(page):
            if not message.sender.is_me and not message.deleted:
                return message
    return None
