"""Commands about the chat itself: its settings, its help, its screen."""

from __future__ import annotations

from p2pchat.apps.cli.chat.doing.here import Answer, Here
from p2pchat.apps.cli.chat.doing.people import save
from p2pchat.apps.cli.chat.settings import BY_NAME, Setting
from p2pchat.apps.cli.chat.typed import help_lines
from p2pchat.apps.cli.exits import Usage
from p2pchat.apps.cli.output import Line


async def set_(here: Here, name: str = "", value: str = "") -> Answer:
    """Show all settings, or one; or change one and keep it."""
    name, value = name.lower(), value.lower()
    if value:
        _change(here, name, value)
        save(here)
    elif name and name not in BY_NAME:
        raise Usage(f"there is no setting {name!a}; there are {', '.join(BY_NAME)}")
    shown = [BY_NAME[name]] if name else list(BY_NAME.values())
    return Answer([_row(here, setting) for setting in shown], [_line(here, setting) for setting in shown])


def _change(here: Here, name: str, value: str) -> None:
    try:
        here.settings.change(name, value)
    except ValueError as error:
        raise Usage(str(error)) from None


def _row(here: Here, setting: Setting) -> Line:
    return {
        "setting": setting.name,
        "value": here.settings.value(setting.name),
        "values": list(setting.values),
        "meaning": setting.meaning,
    }


def _line(here: Here, setting: Setting) -> str:
    return f"-- {setting.name} {here.settings.value(setting.name)} ({'|'.join(setting.values)}): {setting.meaning}"


async def help_(here: Here, command: str = "") -> Answer:
    """What there is."""
    lines = help_lines(command)
    return Answer([{"line": line} for line in lines], lines)


async def clear(here: Here) -> Answer:
    """Empty the screen."""
    if not await here.show.clear():
        raise Usage("/clear is for a terminal: there is no screen here")
    return Answer()
