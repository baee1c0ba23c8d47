"""The command /set: the settings of a chat, and read receipts, which the peer itself keeps."""

from __future__ import annotations

from contextlib import suppress

from p2pchat import Conversation, P2PChatError, User
from p2pchat.commands.chat_settings import BY_NAME, INHERIT, SETTINGS, Setting, value_error
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import EventLine, user_fields
from p2pchat.commands.exit_codes import UsageError
from p2pchat.safe_text import quote_name, quote_place


async def set_(ctx: CommandContext, name: str = "", value: str = "", to: Conversation | None = None) -> CommandResult:
    """Show all settings or one, or change one, in general or for one conversation."""
    name, value = name.lower(), value.lower()
    if value and not name:
        raise UsageError(f"which setting? They are {', '.join(BY_NAME)}")
    if name and name not in BY_NAME:
        raise UsageError(f"there is no setting {name!r}; the settings are {', '.join(BY_NAME)}")
    if not value:
        rows = [row for setting in ([BY_NAME[name]] if name else SETTINGS) for row in _rows(ctx, setting)]
    elif BY_NAME[name].of_peer:
        rows = await _set_receipts(ctx, BY_NAME[name], value, to)
    else:
        rows = await _set(ctx, BY_NAME[name], value, to)
    return CommandResult(rows, [_format_setting(row) for row in rows])


async def mute(ctx: CommandContext, to: Conversation) -> CommandResult:
    """Have nothing ring in a conversation: the setting `notify` is `none` there."""
    done = f"-- {quote_place(to)} is muted: nothing there rings, on none of your machines"
    return CommandResult(await _set(ctx, BY_NAME["notify"], "none", to), [done])


async def unmute(ctx: CommandContext, to: Conversation) -> CommandResult:
    """Have a conversation ring as all others do."""
    return CommandResult(await _set(ctx, BY_NAME["notify"], INHERIT, to), [f"-- {quote_place(to)} rings as usual"])


async def muted(ctx: CommandContext) -> CommandResult:
    """List the conversations in which nothing rings."""
    rows = [row for row in _rows(ctx, BY_NAME["notify"])[1:] if row["value"] == "none"]
    return CommandResult(rows, [f"-- {quote_name(row['conversation'])}" for row in rows] or ["-- nothing is muted"])


def _rows(ctx: CommandContext, setting: Setting) -> list[EventLine]:
    """Return the general value of a setting, and its exceptions."""
    if setting.of_peer:
        exceptional = ctx.peer.receipt_exceptions()
        return [_receipts_row(ctx, setting), *(_receipts_row(ctx, setting, user) for user in exceptional)]
    exceptions = ctx.settings.exceptions(setting.name)
    return [_setting_row(ctx, setting), *(_setting_row(ctx, setting, id) for id in exceptions)]


async def _set(ctx: CommandContext, setting: Setting, value: str, to: Conversation | None) -> list[EventLine]:
    there = "" if to is None else to.id
    await ctx.settings.change(setting.name, value, there)
    return [_setting_row(ctx, setting, there)] if there else _rows(ctx, setting)


def _setting_row(ctx: CommandContext, setting: Setting, conversation_id: str = "") -> EventLine:
    row = _row(setting, ctx.settings.value(setting.name, conversation_id))
    if conversation_id:
        row |= {"conversation": conversation_id[:8], "conversation_id": conversation_id}
        with suppress(P2PChatError):  # no message there yet, and set in another run
            row["conversation"] = ctx.peer.find(conversation_id).name
    return row


async def _set_receipts(ctx: CommandContext, setting: Setting, value: str, to: Conversation | None) -> list[EventLine]:
    """Change read receipts, which the peer itself keeps: for everyone, or with one user."""
    if error := value_error(setting, value, exception=to is not None):
        raise UsageError(error)
    user = None if to is None else to.user
    if to is not None and user is None:
        raise UsageError("receipts are on or off for everyone, or with one user: /set receipts off bob")
    await ctx.peer.set_receipts(None if value == INHERIT else value == "on", user)
    return [_receipts_row(ctx, setting, user)] if user is not None else _rows(ctx, setting)


def _receipts_row(ctx: CommandContext, setting: Setting, user: User | None = None) -> EventLine:
    row = _row(setting, "on" if ctx.peer.receipts(user) else "off")
    return row if user is None else row | user_fields(user)


def _row(setting: Setting, value: str) -> EventLine:
    return {"setting": setting.name, "value": value, "values": list(setting.values), "meaning": setting.meaning}


def _format_setting(row: EventLine) -> str:
    where = f" in {quote_name(row['conversation'])}" if "conversation" in row else ""
    where = f" with {quote_name(row['user'])}" if "user" in row else where
    return f"-- {row['setting']}{where} {row['value']} ({'|'.join(row['values'])}): {row['meaning']}"
