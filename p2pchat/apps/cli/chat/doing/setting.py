"""Commands about the chat itself: its settings, its help, its screen."""

from __future__ import annotations

from p2pchat import Conversation
from p2pchat.apps.cli.chat.doing.here import Answer, Here
from p2pchat.apps.cli.chat.doing.people import save
from p2pchat.apps.cli.chat.settings import BY_NAME, Setting
from p2pchat.apps.cli.chat.typed import help_lines
from p2pchat.apps.cli.exits import Usage
from p2pchat.apps.cli.output import Line
from p2pchat.apps.cli.plain import shown_name


async def set_(here: Here, name: str = "", value: str = "", to: str = "") -> Answer:
    """Show all settings, or one; or change one and keep it, in general or in one conversation."""
    name, value = name.lower(), value.lower()
    if value:
        conversation = await here.resolve(to) if to else None
        _change(here, name, value, conversation)
        save(here)
        if conversation is not None:
            row = _row(here, BY_NAME[name], conversation)
            return Answer([row], [_line(row)])
    elif name and name not in BY_NAME:
        raise Usage(f"there is no setting {name!a}; there are {', '.join(BY_NAME)}")
    rows = [row for setting in ([BY_NAME[name]] if name else BY_NAME.values()) for row in _rows(here, setting)]
    return Answer(rows, [_line(row) for row in rows])


def _change(here: Here, name: str, value: str, conversation: Conversation | None) -> None:
    try:
        here.settings.change(name, value, conversation.id if conversation is not None else "")
    except ValueError as error:
        raise Usage(str(error)) from None


def _rows(here: Here, setting: Setting) -> list[Line]:
    """Return a setting as it is in general, and its exceptions."""
    excepted = [
        one for one in here.peer.conversations() if setting.name in here.settings.by_conversation.get(one.id, {})
    ]
    return [_row(here, setting), *(_row(here, setting, conversation) for conversation in excepted)]


def _row(here: Here, setting: Setting, conversation: Conversation | None = None) -> Line:
    row = {
        "setting": setting.name,
        "value": here.settings.value(setting.name, conversation.id if conversation is not None else ""),
        "values": list(setting.values),
        "meaning": setting.meaning,
    }
    if conversation is not None:
        row |= {"conversation": conversation.name, "conversation_id": conversation.id}
    return row


def _line(row: Line) -> str:
    where = f" in {shown_name(row['conversation'])}" if "conversation" in row else ""
    return f"-- {row['setting']}{where} {row['value']} ({'|'.join(row['values'])}): {row['meaning']}"


async def help_(here: Here, command: str = "") -> Answer:
    """What there is."""
    lines = help_lines(command)
    return Answer([{"line": line} for line in lines], lines)


async def clear(here: Here) -> Answer:
    """Empty the screen."""
    if not await here.show.clear():
        raise Usage("/clear is for a terminal: there is no screen here")
    return Answer()
