"""The first look at a command line: a port, a command, or neither.

`--version` must answer at once, so this file imports nothing but the standard library and the list of commands, and
click only where words are parsed (options.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from p2pchat.apps.cli.registry import CHAT, COMMANDS, LATER
from p2pchat.cli.command_table import Option
from p2pchat.commands.errors import Usage


def split_first_word(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Return the first word that is no option or value of one, and the rest; ("", all) when there is none."""
    valued = {flag for option in _every_option() if option.takes for flag in option.flags}
    skip = False
    for index, word in enumerate(argv):
        if skip:
            skip = False
        elif word == "--":
            break
        elif word.startswith("-") and word != "-":
            skip = word in valued
        else:
            return word, [*argv[:index], *argv[index + 1 :]]
    return "", list(argv)


def _every_option() -> list[Option]:
    return [option for command in (CHAT, *COMMANDS.values()) for option in command.options]


def refuse_first_word(word: str) -> Usage:
    """Say what is wrong with a first word that is neither a port nor a command."""
    if word in LATER:
        return Usage(f"this version does not have the command {word} yet; --help lists what it has")
    if word.lstrip("-").isdecimal():
        return Usage(f"{word!a} is no port: 0 to 65535, where 0 is any free one with a temporary profile")
    near = get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.5)
    if near:
        return Usage(f"{word!a} is neither a port nor a command: did you mean {near[0]}?")
    if ":" in word:
        return Usage(f"{word!a} is where to connect; before it stands the port to listen on: p2pchat 8081 {word}")
    return Usage(f"{word!a} is neither a port nor a command ({', '.join(COMMANDS)}); try: p2pchat 8080")
