"""Commands about the chat itself: /set, /help, /clear."""

from __future__ import annotations

from p2pchat import P2PChatError, User
from p2pchat.commands.context import CommandContext, CommandResult
from p2pchat.commands.errors import CommandError, UsageError
from p2pchat.commands.output import EventLine
from p2pchat.commands.render import quote_name
from p2pchat.commands.settings import BY_NAME, INHERIT, Setting, value_error
from p2pchat.commands.typed_commands import help_lines


async def set_(ctx: CommandContext, name: str = "", value: str = "", to: str = "") -> CommandResult:
    """Show all settings or one, or change one, in general or for one conversation."""
    name, value = name.lower(), value.lower()
    if name and name not in BY_NAME:
        raise UsageError(f"there is no setting {name!a}; the settings are {', '.join(BY_NAME)}")
    if value and BY_NAME[name].of_peer:
        return await _set_receipts(ctx, BY_NAME[name], value, to)
    if value:
        there = (await ctx.resolve(to)).id if to else ""
        try:
            ctx.settings.change(name, value, there)
        except ValueError as error:
            raise UsageError(str(error)) from None
        _save(ctx)
        if there:
            row = _setting_row(ctx, BY_NAME[name], there)
            return CommandResult([row], [_format_setting(row)])
    rows = [row for setting in ([BY_NAME[name]] if name else BY_NAME.values()) for row in _rows(ctx, setting)]
    return CommandResult(rows, [_format_setting(row) for row in rows])


def _save(ctx: CommandContext) -> None:
    try:
        ctx.settings.save()
    except OSError as error:
        raise CommandError(f"changed for this run only: cannot save it: {error.strerror or error}") from None


def _rows(ctx: CommandContext, setting: Setting) -> list[EventLine]:
    """Return the general value of a setting, and its exceptions."""
    if setting.of_peer:
        exceptional = ctx.peer.receipt_exceptions()
        return [_receipts_row(ctx, setting), *(_receipts_row(ctx, setting, user) for user in exceptional)]
    exceptions = [id for id, values in ctx.settings.by_conversation.items() if setting.name in values]
    return [_setting_row(ctx, setting), *(_setting_row(ctx, setting, id) for id in exceptions)]


def _setting_row(ctx: CommandContext, setting: Setting, conversation_id: str = "") -> EventLine:
    row = {
        "setting": setting.name,
        "value": ctx.settings.value(setting.name, conversation_id),
        "values": list(setting.values),
        "meaning": setting.meaning,
    }
    if conversation_id:
        row |= {"conversation": _conversation_name(ctx, conversation_id), "conversation_id": conversation_id}
    return row


async def _set_receipts(ctx: CommandContext, setting: Setting, value: str, to: str) -> CommandResult:
    """Change read receipts, which the peer itself keeps: for everyone, or with one user."""
    if error := value_error(setting, value, exception=bool(to)):
        raise UsageError(error)
    user = (await ctx.resolve(to)).user if to else None
    if to and user is None:
        raise UsageError("receipts are on or off for everyone, or with one user: /set receipts off bob")
    await ctx.peer.set_receipts(None if value == INHERIT else value == "on", user)
    rows = [_receipts_row(ctx, setting, user)] if user is not None else _rows(ctx, setting)
    return CommandResult(rows, [_format_setting(row) for row in rows])


def _receipts_row(ctx: CommandContext, setting: Setting, user: User | None = None) -> EventLine:
    value = "on" if ctx.peer.receipts(user) else "off"
    row = {"setting": setting.name, "value": value, "values": list(setting.values), "meaning": setting.meaning}
    if user is not None:
        row |= {"user": user.label, "user_id": user.id}
    return row


def _conversation_name(ctx: CommandContext, conversation_id: str) -> str:
    try:
        return ctx.peer.find(conversation_id).name
    except P2PChatError:  # no message there yet, and set in another run
        return conversation_id[:8]


def _format_setting(row: EventLine) -> str:
    where = f" in {quote_name(row['conversation'])}" if "conversation" in row else ""
    where = f" with {quote_name(row['user'])}" if "user" in row else where
    return f"-- {row['setting']}{where} {row['value']} ({'|'.join(row['values'])}): {row['meaning']}"


async def help_(ctx: CommandContext, command: str = "") -> CommandResult:
    lines = help_lines(command)
    return CommandResult([{"line": line} for line in lines], lines)


async def clear(ctx: CommandContext) -> CommandResult:
    """Empty the screen."""
    if not await ctx.display.clear():
        raise UsageError("/clear needs a terminal")
    return CommandResult()
