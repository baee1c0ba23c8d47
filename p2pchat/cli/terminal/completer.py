"""What Tab completes: commands, names and conversations, and who spoke last comes first.

Made of typed.COMMANDS and of what the peer knows at the moment; nothing is kept here but the order of the speakers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from p2pchat.commands.settings import SETTINGS
from p2pchat.commands.typed_commands import BY_NAME, COMMANDS, TypedCommand, split_name, typed_name
from p2pchat.safe_text import safe_line

MOST_SPEAKERS = 200  # remembered; who spoke before comes in the order of the alphabet
MOST_WORDS = 256  # of a command that takes many names: as many as a group has members
_WORD = re.compile(r"\S*\Z")


class RecentSpeakers:
    """Labels of those who spoke, the last one first."""

    def __init__(self) -> None:
        self._spoke: dict[str, None] = {}

    def heard(self, label: str) -> None:
        """Somebody wrote something."""
        self._spoke.pop(label, None)
        self._spoke[label] = None
        if len(self._spoke) > MOST_SPEAKERS:
            del self._spoke[next(iter(self._spoke))]

    def sorted(self, labels: Iterable[str]) -> list[str]:
        """Return the labels, who spoke last first, the silent behind by the alphabet."""
        place = {label: -number for number, label in enumerate(self._spoke, 1)}
        return sorted(labels, key=lambda label: (place.get(label, 1), label.casefold()))


class LineCompleter(Completer):
    """Completes a typed line.

    Args:
        users: Returns the labels of everybody else.
        conversations: Returns the names of all conversations, as they are typed.
        members: Returns the labels of the others in the group one is in.
        speakers: Knows who spoke last.
    """

    def __init__(
        self,
        users: Callable[[], Iterable[str]],
        conversations: Callable[[], Iterable[str]],
        members: Callable[[], Iterable[str]],
        speakers: RecentSpeakers,
    ) -> None:
        self._users = users
        self._conversations = conversations
        self._members = members
        self._speakers = speakers

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.startswith("/") and not before.startswith("//") and "\n" not in before:
            return self._of_command(before)
        return self._of_text(before, "")

    # A command

    def _of_command(self, before: str) -> Iterable[Completion]:
        word, blank, rest = before[1:].partition(" ")
        if not blank:
            return _starting(before, [f"/{name}" for name in _command_names()], after=_blank_if_more)
        command = BY_NAME.get(word.lower())
        if command is None:
            return []
        return self._of_argument(command, rest.lstrip(" "))

    def _of_argument(self, command: TypedCommand, rest: str) -> Iterable[Completion]:
        position, final = 0, MOST_WORDS if command.many else command.most - 1
        while position < final and (split := split_name(rest))[1]:
            rest, position = split[1], position + 1
        if position < final and rest.endswith(" ") and not _is_open(rest):
            rest, position = "", position + 1
        kind = command.kinds[min(position, command.most - 1)] if command.kinds else ""
        last = position == final
        if kind == "":
            return self._of_text(rest, rest) if last else []
        end = "" if last else " "
        return _starting(rest, self._candidates(kind), after=lambda _: end)

    def _candidates(self, kind: str) -> list[str]:
        if kind == "user":
            return [typed_name(name) for name in self._names()]
        if kind == "conversation":
            return [
                typed_name(name) for name in self._speakers.sorted({"room", *self._conversations(), *self._users()})
            ]
        if kind == "member":
            return [typed_name(name) for name in self._speakers.sorted(self._members())]
        if kind == "command":
            return [command.name for command in COMMANDS]
        if kind == "setting":
            return [setting.name for setting in SETTINGS]
        return []

    # A text

    def _of_text(self, before: str, whole: str) -> Iterable[Completion]:
        """Complete a name; `Name: ` where a line begins, which none does in a command's text."""
        part = _WORD.search(before)
        typed = part[0] if part else ""
        if not typed:
            return []
        at = "@" if typed.startswith("@") else ""
        end = ": " if typed == before and not at and not whole else " "
        return _starting(typed, [at + name for name in self._names()], after=lambda _: end)

    def _names(self) -> list[str]:
        return self._speakers.sorted(self._users())


def _starting(typed: str, candidates: Iterable[str], after: Callable[[str], str]) -> Iterable[Completion]:
    """Yield the candidates that begin as typed, whatever the case, and whether or not the quote is typed."""
    wanted = typed.removeprefix('"').casefold()
    for candidate in candidates:
        bare = candidate.removeprefix('"').casefold()
        if bare.startswith(wanted) or bare.removeprefix("#").startswith(wanted):  # of #ops what is typed may be o
            yield Completion(candidate + after(candidate), start_position=-len(typed), display=safe_line(candidate))


def _command_names() -> list[str]:
    """Return the names of all commands, their other names behind."""
    first = [command.name for command in COMMANDS]
    return [*first, *(other for command in COMMANDS for other in command.others)]


def _blank_if_more(name: str) -> str:
    return " " if BY_NAME[name[1:]].most else ""


def _is_open(text: str) -> bool:
    """Whether a quote is open."""
    return text.count('"') % 2 == 1
