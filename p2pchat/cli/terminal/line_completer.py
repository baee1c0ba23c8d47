"""Tab completion of commands, names, conversations and files; users who wrote last come first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from p2pchat.commands.chat_settings import BY_NAME as SETTINGS_BY_NAME
from p2pchat.commands.chat_settings import SETTINGS
from p2pchat.commands.command_table import TYPED, CommandRow
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.typed_commands import BY_NAME, NAMES, split_name, typed_name
from p2pchat.commands.typed_paths import path_candidates, path_end, typed_path
from p2pchat.safe_text import safe_line

MAX_ARGUMENTS = 256  # of a command that takes many names: a group has at most as many members
_WORD = re.compile(r"\S*\Z")
_MENTION = re.compile(r"(?<!\w)@\S*\Z")  # also behind a bracket, and not in an address of mail


class RecentSpeakers:
    """Labels of the users who wrote last."""

    def __init__(self) -> None:
        self._spoke: dict[str, None] = {}

    def add(self, label: str) -> None:
        """Move a user to the front."""
        self._spoke.pop(label, None)
        self._spoke[label] = None

    def sorted(self, labels: Iterable[str]) -> list[str]:
        """Return the labels, the latest speaker first, silent users behind in alphabetical order."""
        place = {label: -number for number, label in enumerate(self._spoke, 1)}
        return sorted(labels, key=lambda label: (place.get(label, 1), label.casefold()))


@dataclass(frozen=True, eq=False)
class LineCompleter(Completer):
    """Completes a typed line.

    Attributes:
        users: Returns the labels of all other users.
        conversations: Returns the names of all conversations, as typed.
        members: Returns the labels of the other members of the current group.
        files: Returns the names of the files that were shown, the newest first.
    """

    users: Callable[[], Iterable[str]]
    conversations: Callable[[], Iterable[str]]
    members: Callable[[], Iterable[str]]
    speakers: RecentSpeakers
    files: Callable[[], Iterable[str]]

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.startswith("/") and not before.startswith("//") and "\n" not in before:
            return self._of_command(before)
        return self._of_text(before, "")

    def _of_command(self, before: str) -> Iterable[Completion]:
        word, blank, rest = before[1:].partition(" ")
        if not blank:
            return _starting(
                before, [f"/{name}" for name in NAMES], after=lambda name: " " if BY_NAME[name[1:]].most else ""
            )
        command = BY_NAME.get(word.lower())
        if command is None:
            return []
        return self._of_argument(command, rest.lstrip(" "))

    def _of_argument(self, command: CommandRow, rest: str) -> Iterable[Completion]:
        if "file" in command.kinds:
            return self._of_files(command, rest)
        position, final, before = 0, MAX_ARGUMENTS if command.many else command.most - 1, ""
        while position < final and (split := _split(rest))[1]:
            before, rest, position = split[0], split[1], position + 1
        if position < final and rest.endswith(" ") and rest.count('"') % 2 == 0:  # no quote is open
            before, rest, position = rest.strip(), "", position + 1
        kind = command.kinds[min(position, command.most - 1)] if command.kinds else ""
        last = position == final
        if kind == "":
            return self._of_text(rest, rest) if last else []
        end = "" if last else " "
        if kind == "value":
            return _starting(rest, SETTINGS_BY_NAME[before].values if before in SETTINGS_BY_NAME else (), lambda _: "")
        return _starting(rest, self._candidates(kind, is_user=rest.startswith("@")), after=lambda _: end)

    def _candidates(self, kind: str, *, is_user: bool) -> list[str]:
        if kind == "user" or (kind == "conversation" and is_user):
            return [typed_name(name) for name in self._names()]
        if kind == "conversation":
            return [typed_name(name) for name in self.speakers.sorted({"room", *self.conversations(), *self.users()})]
        if kind == "member":
            return [typed_name(name) for name in self.speakers.sorted(self.members())]
        if is_user:
            return []
        if kind == "command":
            return [command.word for command in TYPED]
        if kind == "setting":
            return [setting.name for setting in SETTINGS]
        return []

    # A file

    def _of_files(self, command: CommandRow, rest: str) -> Iterable[Completion]:
        """Complete a path, or the name of a file that was shown; behind them a path or a text."""
        position, typed = 0, rest
        while (end := path_end(typed)) < len(typed):
            position, typed = position + 1, typed[end:].lstrip()
        kind = command.kinds[position] if position < len(command.kinds) else ""
        if kind == "shown file":
            names = [typed_path(name) for name in self.files()]
            return _starting(typed, names, after=lambda _: " ")
        if kind != "file" and not typed.startswith(("/", "~/")):
            return self._of_text(rest, rest)
        return [
            Completion(path if path.endswith("/") else f"{path} ", start_position=-len(typed), display=safe_line(path))
            for path in path_candidates(typed)
        ]

    # A text

    def _of_text(self, before: str, whole: str) -> Iterable[Completion]:
        """Complete a name; at the beginning of a line, unless it belongs to a command, to `Name: `."""
        part = _MENTION.search(before) or _WORD.search(before)
        typed = part[0] if part else ""
        if not typed:
            return []
        end = ": " if typed == before and not typed.startswith("@") and not whole else " "
        return _starting(typed, self._names(), after=lambda _: end)

    def _names(self) -> list[str]:
        return self.speakers.sorted(self.users())


def _starting(typed: str, candidates: Iterable[str], after: Callable[[str], str]) -> Iterable[Completion]:
    """Yield the candidates that begin with `typed`; case, an @ and an opening quote do not matter. An @ stays."""
    at = "@" if typed.startswith("@") else ""
    wanted = typed.removeprefix("@").removeprefix('"').casefold()
    for candidate in candidates:
        bare = candidate.removeprefix('"').casefold()
        if bare.startswith(wanted) or bare.removeprefix("#").startswith(wanted):  # o completes to #ops
            text = at + candidate + after(candidate)
            yield Completion(text, start_position=-len(typed), display=safe_line(at + candidate))


def _split(rest: str) -> tuple[str, str]:
    """Split off the first name, as split_name; "" for both while a quote is open."""
    try:
        return split_name(rest)
    except UsageError:
        return "", ""
