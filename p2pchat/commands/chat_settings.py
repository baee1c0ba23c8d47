"""Chat settings of one profile, kept in a small file beside its identity.

    <profile>/chat.json     {"terminal": true, "joins": "auto", "bell": true, "desktop": false,
                             "by_conversation": {"M2P3...": {"typing": "off"}},
                             "last_start": {"host": "0.0.0.0", "advertise": "", "discover": false}}

The file holds display settings, the last listening address, and whether a terminal was opened or a gateway ran on the
profile, never messages. A file that cannot be read does not stop the chat: defaults apply, and `trouble` says why.
Entries of later versions are kept.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from p2pchat.commands.endpoints import is_loopback


@dataclass(frozen=True)
class LastStart:
    """The options by which others reached the peer of a profile at its last start, for a start without --host.

    Attributes:
        host: The address that somebody chose for it to listen on; "": nobody did.
        advertise: The address it announces to others; "": its own addresses.
        discover: Whether LAN discovery was on.
        listen: Whether it listened on a socket.
        invite: The id of the invite that it showed; "": none.
        joined: It joined with an invite of another machine, or its person has several, so a terminal listens.
        port: Where it listened; 0: nowhere.
    """

    host: str = ""
    advertise: str = ""
    discover: bool = False
    listen: bool = True
    invite: str = ""
    joined: bool = False
    port: int = 0

    @classmethod
    def from_json(cls, found: object) -> LastStart:
        defaults = asdict(cls())
        if not isinstance(found, dict):
            raise ValueError("`last_start` is not a JSON object")
        known = {name: value for name, value in found.items() if name in defaults}
        if any(type(value) is not type(defaults[name]) for name, value in known.items()):
            raise ValueError("`last_start` has a value of the wrong type")
        return cls(**known)

    @property
    def is_open(self) -> bool:
        """Return whether peers of other machines could connect."""
        is_open = not is_loopback(self.host) if self.host else self.joined
        return bool(self.advertise) or (self.listen and is_open)


FILE_NAME = "chat.json"
UNREADABLE_NAME = "chat.json.spoiled"  # an unreadable file is moved here before the first write
QUIET_ABOVE = 8  # people online, oneself included: with `joins` auto, above it joins and leaves are not shown
MAX_FILE_BYTES = 1 << 20  # a larger file is something else
_MAX_ID_CHARACTERS = 52


@dataclass
class Setting:
    """One setting.

    Attributes:
        values: Allowed values, the default first.
        by_conversation: A conversation may have a value of its own.
        of_peer: The peer itself keeps it.
    """

    name: str
    values: tuple[str, ...]
    meaning: str
    by_conversation: bool = False
    of_peer: bool = False


SETTINGS = (
    Setting(
        "joins",
        ("auto", "on", "off"),
        f"announce who comes and goes (auto: only while at most {QUIET_ABOVE} people are here)",
    ),
    Setting(
        "notify",
        ("mentions", "all", "none"),
        "what to show and ring for outside the current conversation: direct messages and mentions, all, or none",
        by_conversation=True,
    ),
    Setting("bell", ("on", "off"), "ring the bell for what `notify` selects"),
    Setting("desktop", ("off", "on"), "show a desktop notification for the same"),
    Setting(
        "receipts",
        ("on", "off"),
        "send and receive read receipts",
        by_conversation=True,
        of_peer=True,
    ),
    Setting("typing", ("on", "off"), "send and show typing indicators", by_conversation=True),
)
INHERIT = "usual"  # typed to end the exception of a conversation
BY_NAME = {setting.name: setting for setting in SETTINGS}


_DEFAULT_START = LastStart()
_USES = ("terminal", "gateway")  # what ran on a profile


@dataclass
class ChatSettings:
    """The settings of one profile's chat: one object for all doors of a process, so that none overwrites another's.

    Attributes:
        joins, notify, bell, desktop, typing: As in SETTINGS.
        by_conversation: Exceptions: values as typed, by conversation id (base32) and name of the setting.
        last_start: How others could reach this peer when it ran last.
        terminal: A terminal was opened on the profile, so it is a person's. Programs have all others.
        gateway: A gateway ran on the profile.
        trouble: Why the file could not be read; "" if it could.
    """

    joins: str = "auto"
    notify: str = "mentions"
    bell: bool = True
    desktop: bool = False
    typing: bool = True
    by_conversation: dict[str, dict[str, str]] = field(default_factory=dict)
    last_start: LastStart = _DEFAULT_START
    terminal: bool = False
    gateway: bool = False
    trouble: str = ""
    _path: Path | None = None
    _others: dict[str, Any] = field(default_factory=dict)  # of later versions
    _moved_aside: bool = False  # the unreadable file

    @classmethod
    def load(cls, directory: Path | None) -> ChatSettings:
        """Return the settings of the profile in `directory`; None: they stay in memory."""
        if directory is None:
            return cls()
        path = directory / FILE_NAME
        if (settings := _loaded.get(path)) is not None:
            return settings
        settings = _loaded[path] = cls(_path=path)
        try:
            settings._apply(_read(path))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            settings.trouble = f"cannot read all settings in {path}: {why}; defaults apply to the rest"
        return settings

    def save(self) -> None:
        """Write the file atomically, readable by the owner only.

        Raises:
            OSError: It cannot be written; the old file is unchanged.
        """
        if self._path is not None:
            if self.trouble and not self._moved_aside:
                os.replace(self._path, self._path.with_name(UNREADABLE_NAME))  # edited by hand?
                self._moved_aside = True
            shown = {one.name: getattr(self, one.name) for one in SETTINGS if not one.of_peer}
            if self.by_conversation:
                shown["by_conversation"] = self.by_conversation
            last = {} if self.last_start == _DEFAULT_START else {"last_start": asdict(self.last_start)}
            opened = {name: True for name in _USES if getattr(self, name)}
            write_private(self._path, json.dumps({**self._others, **opened, **shown, **last}, indent=2) + "\n")

    def remember_start(self, now: LastStart, *, terminal: bool = False) -> None:
        """Save how this run can be reached, and that it has a terminal; a failure to write is ignored."""
        terminal |= self.terminal
        if (now, terminal) != (self.last_start, self.terminal):
            self.last_start, self.terminal = now, terminal
            with suppress(OSError):
                self.save()

    def remember_gateway(self) -> None:
        """Save that this run is a gateway's; a failure to write is ignored."""
        if not self.gateway:
            self.gateway = True
            with suppress(OSError):
                self.save()

    def value(self, name: str, conversation_id: str = "") -> str:
        """Return a value as typed, in general or for one conversation."""
        exception = self.by_conversation.get(conversation_id, {}).get(name)
        if exception is not None:
            return exception
        value = getattr(self, name)
        return value if isinstance(value, str) else "on" if value else "off"

    def notifies(self, conversation_id: str, *, meant: bool) -> bool:
        """Return whether to show and ring for a message of another conversation; `meant`: it is direct or a mention."""
        how = self.value("notify", conversation_id)
        return how == "all" or (how == "mentions" and meant)

    def shows_typing(self, conversation_id: str) -> bool:
        """Return whether who types there is shown, and told."""
        return self.value("typing", conversation_id) == "on"

    def change(self, name: str, value: str, conversation_id: str = "") -> None:
        """Change a setting in memory, in general or for one conversation; INHERIT ends an exception.

        A ValueError says what is allowed.
        """
        setting = BY_NAME.get(name)
        if setting is None:
            raise ValueError(f"there is no setting {name!r}; the settings are {', '.join(BY_NAME)}")
        if conversation_id and not setting.by_conversation:
            raise ValueError(f"{name} cannot be set for one conversation")
        if error := value_error(setting, value, exception=bool(conversation_id)):
            raise ValueError(error)
        if conversation_id:
            self._set_exception(name, value, conversation_id)
        else:
            setattr(self, name, value == "on" if setting.values in (("on", "off"), ("off", "on")) else value)

    def _set_exception(self, name: str, value: str, conversation_id: str) -> None:
        exceptions = self.by_conversation.setdefault(conversation_id, {})
        exceptions.pop(name, None)
        if value != INHERIT:
            exceptions[name] = value
        if not exceptions:
            del self.by_conversation[conversation_id]

    def _apply(self, found: dict[str, Any]) -> None:
        """Apply the content of the file; values before an invalid one stay applied."""
        for name in _USES:
            setattr(self, name, found.pop(name, False) is True)
        self.last_start = LastStart.from_json(found.pop("last_start", {}))
        for setting in SETTINGS:
            if setting.name in found and not setting.of_peer:
                value = found.pop(setting.name)
                self.change(setting.name, "on" if value is True else "off" if value is False else value)
        self._apply_exceptions(found.pop("by_conversation", {}))
        self._others = found

    def _apply_exceptions(self, found: Any) -> None:
        """Apply the exceptions of single conversations; settings of later versions are skipped."""
        if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
            raise ValueError("`by_conversation` is not an object of objects")
        for conversation_id, values in found.items():
            for name, value in values.items():
                if name in BY_NAME and not BY_NAME[name].of_peer and 0 < len(conversation_id) <= _MAX_ID_CHARACTERS:
                    self.change(name, value, conversation_id)


_loaded: WeakValueDictionary[Path, ChatSettings] = WeakValueDictionary()


def value_error(setting: Setting, value: str, *, exception: bool) -> str:
    """Return why a setting does not take this value; "" if it does. `exception`: for one conversation."""
    values = (*setting.values, INHERIT) if exception else setting.values
    return "" if value in values else f"{setting.name} is {' or '.join(values)}, not {value!r}"


def _read(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        found = json.loads(file.read(MAX_FILE_BYTES))
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file, whole or not at all, readable by its owner only."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:  # KeyboardInterrupt too: no partial file may stay
        new.unlink(missing_ok=True)
        raise
