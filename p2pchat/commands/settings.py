"""What a person has set for the chat of one profile, kept in a small file beside its identity.

    <profile>/chat.json     {"joins": "auto", "bell": true, "desktop": false,
                             "by_conversation": {"M2P3...": {"typing": "off"}},
                             "last_start": {"host": "0.0.0.0", "advertise": "", "discover": false}}

It holds how things are shown, and where it listened last; never what anybody wrote. A
file that cannot be read is no reason not to chat: what is usual holds then, and `trouble` says so. Entries of later
versions stay as they are.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from p2pchat import History, HostedUser, P2PChatError, TCPPeer
from p2pchat.commands.endpoints import LOOPBACK, is_loopback
from p2pchat.commands.output import EventLine

# ---- ignoring
#
# Which event lines people do not want to see: those of users they ignore.


RECEIPT_EVENTS = ("delivered", "read")  # what became of one's own messages, whoever has them


def is_ignored(of: TCPPeer | HostedUser | History, line: Mapping[str, Any]) -> bool:
    """Whether an event line is of somebody who is ignored: what they wrote or did, and how they are."""
    return line["event"] not in RECEIPT_EVENTS and of.ignores(_author_id(line))


def without_ignored(of: TCPPeer | HostedUser | History, line: EventLine) -> EventLine:
    """Return the line of a message without the reactions of those who are ignored."""
    if not line.get("reactions"):
        return line
    return {**line, "reactions": [one for one in line["reactions"] if not of.ignores(one["by_id"])]}


def _author_id(line: Mapping[str, Any]) -> str:
    if line["event"] == "group":  # what somebody makes of a group is everybody's, but not their own coming and going
        return line.get("target_id") or ""
    return line.get("sender_id") or line.get("by_id") or line.get("user_id") or ""


async def migrate_ignored(peer: TCPPeer, settings: ChatSettings) -> None:
    """Have the peer remember whom an earlier version ignored."""
    for id in settings.ignored:
        with suppress(P2PChatError, ValueError):
            await peer.ignore(id)
    if settings.ignored:
        settings.ignored = set()
        with suppress(OSError):
            settings.save()


# ---- last
#
# How a profile was started last, as far as others can reach it: kept in its settings, so that a start without a port
# listens where it did before, and one that does not says so.


@dataclass(frozen=True, slots=True)
class LastStart:
    """Where it listened, what address it told others ("": those it has), and whether members could discover it."""

    host: str = LOOPBACK
    advertise: str = ""
    discover: bool = False

    @classmethod
    def from_json(cls, found: object) -> LastStart:
        """Read it back.

        Raises:
            ValueError: That is none.
        """
        usual = asdict(cls())
        if not isinstance(found, dict):
            raise ValueError("`last_start` is no JSON object")
        known = {name: value for name, value in found.items() if name in usual}
        if any(type(value) is not type(usual[name]) for name, value in known.items()):
            raise ValueError("`last_start` has a value of the wrong kind")
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def fewer_now(self, host: str) -> str:
        """Return a line for somebody who listens on `host` now, where fewer come than last time; else ""."""
        if is_loopback(self.host) or not is_loopback(host):
            return ""
        return f"-- only this machine reaches it now; last time others did: --host {self.host}"


# ---- settings


FILE_NAME = "chat.json"
UNREADABLE_NAME = "chat.json.spoiled"  # what could not be read, once something else is written
QUIET_ABOVE = 8  # people: with `joins` auto, who comes and goes is told up to so many, oneself included
MAX_FILE_BYTES = 1 << 20  # some 18,000 ignored people; more is some other file
_MAX_ID_CHARACTERS = 52


@dataclass(slots=True)
class Setting:
    """One setting: its name, the values it takes, the usual one first, and what it means; `by_conversation`: one may be
    an exception; `of_peer`: the peer itself keeps it."""

    name: str
    values: tuple[str, ...]
    meaning: str
    by_conversation: bool = False
    of_peer: bool = False


SETTINGS = (
    Setting("joins", ("auto", "on", "off"), f"say who comes and goes; auto: not when more than {QUIET_ABOVE} are here"),
    Setting(
        "notify",
        ("mentions", "all", "none"),
        "show from elsewhere, and ring for: direct messages and where your name is said, all, or nothing",
        by_conversation=True,
    ),
    Setting("bell", ("on", "off"), "ring for what `notify` says"),
    Setting("desktop", ("off", "on"), "show a notice on the desktop for the same"),
    Setting(
        "receipts",
        ("on", "off"),
        "tell others what you have read, and be told what they have",
        by_conversation=True,
        of_peer=True,
    ),
    Setting("typing", ("on", "off"), "tell others that you type, and be told that they do", by_conversation=True),
)
INHERIT = "usual"  # the value that ends an exception
BY_NAME = {setting.name: setting for setting in SETTINGS}


_DEFAULT_START = LastStart()


@dataclass(slots=True)
class ChatSettings:
    """The settings of one profile's chat.

    Attributes:
        joins: `auto`, `on` or `off`: whether people are told who comes and goes.
        notify: What is shown from elsewhere and rung for: `mentions` (and direct messages), `all`, `none`.
        bell: Ring for it.
        desktop: Show a notice of the desktop for them.
        typing: Others are told that one types, and one is told that they do.
        by_conversation: The exceptions: values as typed, by the id (base32) of a conversation and the setting's name.
        ignored: Ids (base32) of users whom an earlier version kept here; the peer itself remembers whom one ignores.
        last_start: How others could reach this peer when it was started last.
        trouble: Why the file could not be read; "" when all is well.
    """

    joins: str = "auto"
    notify: str = "mentions"
    bell: bool = True
    desktop: bool = False
    typing: bool = True
    by_conversation: dict[str, dict[str, str]] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    last_start: LastStart = _DEFAULT_START
    trouble: str = ""
    _path: Path | None = None
    _others: dict[str, Any] = field(default_factory=dict)  # of later versions
    _kept_aside: bool = False  # what could not be read

    @classmethod
    def load(cls, directory: Path | None) -> ChatSettings:
        """Return the settings of the profile in `directory`; None: they are kept in memory only."""
        if directory is None:
            return cls()
        path = directory / FILE_NAME
        settings = cls(_path=path)
        try:
            settings._take(_read(path))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            settings.trouble = f"cannot read all settings in {path}: {why}; for the rest the usual ones hold"
        return settings

    def save(self) -> None:
        """Keep them: whole or not at all, readable by the owner only.

        Raises:
            OSError: The disk or the directory does not allow it; what was kept before is as it was.
        """
        if self._path is not None:
            if self.trouble and not self._kept_aside:
                os.replace(self._path, self._path.with_name(UNREADABLE_NAME))  # written by hand: to be mended
                self._kept_aside = True
            shown = {one.name: getattr(self, one.name) for one in SETTINGS if not one.of_peer}
            if self.ignored:
                shown["ignored"] = sorted(self.ignored)
            if self.by_conversation:
                shown["by_conversation"] = self.by_conversation
            last = {} if self.last_start == _DEFAULT_START else {"last_start": self.last_start.to_json()}
            _write(self._path, json.dumps({**self._others, **shown, **last}, indent=2) + "\n")

    def started(self, now: LastStart) -> None:
        """Remember how it is started now; what the disk does not allow is not remembered, and is no reason to stop."""
        if now != self.last_start:
            self.last_start = now
            with suppress(OSError):
                self.save()

    def value(self, name: str, conversation_id: str = "") -> str:
        """Return one setting as it is typed: as it is in general, or in one conversation."""
        exception = self.by_conversation.get(conversation_id, {}).get(name)
        if exception is not None:
            return exception
        value = getattr(self, name)
        return value if isinstance(value, str) else "on" if value else "off"

    def notifies(self, conversation_id: str, *, meant: bool) -> bool:
        """Whether a message there is to reach somebody who looks elsewhere; `meant`: it is for them in particular."""
        how = self.value("notify", conversation_id)
        return how == "all" or (how == "mentions" and meant)

    def is_on(self, name: str, conversation_id: str = "") -> bool:
        """Whether a setting that is `on` or `off` is on, in general or in one conversation."""
        return self.value(name, conversation_id) == "on"

    def change(self, name: str, value: str, conversation_id: str = "") -> None:
        """Set one of SETTINGS, in memory: in general, or in one conversation, where INHERIT ends the exception.

        Raises:
            ValueError: There is no such setting, it does not take this value, or it is the same everywhere; says
                which there are.
        """
        setting = BY_NAME.get(name)
        if setting is None:
            raise ValueError(f"there is no setting {name!a}; there are {', '.join(BY_NAME)}")
        if conversation_id and not setting.by_conversation:
            raise ValueError(f"{name} is the same everywhere")
        values = (*setting.values, INHERIT) if conversation_id else setting.values
        if value not in values:
            raise ValueError(f"{name} is {' or '.join(values)}, not {value!a}")
        if conversation_id:
            self._except(name, value, conversation_id)
        else:
            setattr(self, name, value == "on" if setting.values in (("on", "off"), ("off", "on")) else value)

    def _except(self, name: str, value: str, conversation_id: str) -> None:
        exceptions = self.by_conversation.setdefault(conversation_id, {})
        exceptions.pop(name, None)
        if value != INHERIT:
            exceptions[name] = value
        if not exceptions:
            del self.by_conversation[conversation_id]

    def _take(self, found: dict[str, Any]) -> None:
        """Take what the file says; what was taken before something wrong in it, holds."""
        ignored = found.pop("ignored", [])
        if not isinstance(ignored, list) or not all(isinstance(id, str) for id in ignored):
            raise ValueError("`ignored` is no list of ids")
        self.ignored = {id for id in ignored if 0 < len(id) <= _MAX_ID_CHARACTERS}
        self.last_start = LastStart.from_json(found.pop("last_start", {}))
        for setting in SETTINGS:
            if setting.name in found and not setting.of_peer:
                value = found.pop(setting.name)
                self.change(setting.name, "on" if value is True else "off" if value is False else value)
        self._take_exceptions(found.pop("by_conversation", {}))
        self._others = found

    def _take_exceptions(self, found: Any) -> None:
        """Take what the file says of single conversations; settings of later versions are left out."""
        if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
            raise ValueError("`by_conversation` is no object of objects")
        for conversation_id, values in found.items():
            for name, value in values.items():
                if name in BY_NAME and not BY_NAME[name].of_peer and 0 < len(conversation_id) <= _MAX_ID_CHARACTERS:
                    self.change(name, value, conversation_id)


def _read(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        found = json.loads(file.read(MAX_FILE_BYTES))
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:  # interrupted as well: half a file must not stay
        new.unlink(missing_ok=True)
        raise
