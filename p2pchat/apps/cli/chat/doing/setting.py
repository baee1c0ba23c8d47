"""Commands about the chat itself: its settings, its help, its screen."""

from __future__ import annotations

from p2pchat import P2PChatError, User
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.errors import Usage
from p2pchat.commands.format import shown_name
from p2pchat.commands.output import Line
from p2pchat.commands.people_commands import save
from p2pchat.commands.settings import AS_ELSEWHERE, BY_NAME, Setting
from p2pchat.commands.typed_commands import help_lines


async def set_(here: Here, name: str = "", value: str = "", to: str = "") -> Answer:
    """Show all settings, or one; or change one and keep it, in general or in one conversation."""
    name, value = name.lower(), value.lower()
    if value and name in BY_NAME and BY_NAME[name].of_peer:
        return await _set_receipts(here, BY_NAME[name], value, to)
    if value:
        there = (await here.resolve(to)).id if to else ""
        try:
            here.settings.change(name, value, there)
        except ValueError as error:
            raise Usage(str(error)) from None
        save(here)
        if there:
            row = _row(here, BY_NAME[name], there)
            return Answer([row], [_line(row)])
    elif name and name not in BY_NAME:
        raise Usage(f"there is no setting {name!a}; there are {', '.join(BY_NAME)}")
    rows = [row for setting in ([BY_NAME[name]] if name else BY_NAME.values()) for row in _rows(here, setting)]
    return Answer(rows, [_line(row) for row in rows])


def _rows(here: Here, setting: Setting) -> list[Line]:
    """Return a setting as it is in general, and its exceptions."""
    if setting.of_peer:
        exceptional = here.peer.receipt_exceptions()
        return [_receipts_row(here, setting), *(_receipts_row(here, setting, user) for user in exceptional)]
    exceptions = [id for id, values in here.settings.by_conversation.items() if setting.name in values]
    return [_row(here, setting), *(_row(here, setting, id) for id in exceptions)]


def _row(here: Here, setting: Setting, conversation_id: str = "") -> Line:
    row = {
        "setting": setting.name,
        "value": here.settings.value(setting.name, conversation_id),
        "values": list(setting.values),
        "meaning": setting.meaning,
    }
    if conversation_id:
        row |= {"conversation": _name(here, conversation_id), "conversation_id": conversation_id}
    return row


async def _set_receipts(here: Here, setting: Setting, value: str, to: str) -> Answer:
    """Receipts of reading are the peer's matter: on or off for everybody, or with one user."""
    values = (*setting.values, AS_ELSEWHERE) if to else setting.values
    if value not in values:
        raise Usage(f"{setting.name} is {' or '.join(values)}, not {value!a}")
    who = (await here.resolve(to)).user if to else None
    if to and who is None:
        raise Usage("receipts are on or off for everybody, or with one user: /set receipts off bob")
    await here.peer.set_receipts(None if value == AS_ELSEWHERE else value == "on", who)
    rows = [_receipts_row(here, setting, who)] if who is not None else _rows(here, setting)
    return Answer(rows, [_line(row) for row in rows])


def _receipts_row(here: Here, setting: Setting, who: User | None = None) -> Line:
    value = "on" if here.peer.receipts(who) else "off"
    row = {"setting": setting.name, "value": value, "values": list(setting.values), "meaning": setting.meaning}
    if who is not None:
        row |= {"user": who.label, "user_id": who.id}
    return row


def _name(here: Here, conversation_id: str) -> str:
    try:
        return here.peer.find(conversation_id).name
    except P2PChatError:  # nobody has written there yet, and this is another run
        return conversation_id[:8]


def _line(row: Line) -> str:
    where = f" in {shown_name(row['conversation'])}" if "conversation" in row else ""
    where = f" with {shown_name(row['user'])}" if "user" in row else where
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
