"""`p2pchat completion bash|zsh|fish`: the script for a shell; and, for those scripts only, `names` and `ports`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pchat.apps.cli.commands.completing import bash, fish, zsh
from p2pchat.apps.cli.commands.completing.table import SHELLS, Row, table
from p2pchat.apps.cli.registry.completion import COMMAND
from p2pchat.cli.options import parse_words
from p2pchat.commands.errors import DONE, Usage

_SCRIPTS: dict[str, Callable[[list[Row]], str]] = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}


def run_completion(argv: Sequence[str]) -> int:
    """Print a script, or what one asks for."""
    if argv and argv[0] in ("names", "ports"):
        return _answer(argv[0], argv[1:])
    words, _, _ = parse_words(COMMAND, argv)
    if len(words) != 1 or words[0] not in SHELLS:
        raise Usage(f'for which shell: {", ".join(SHELLS)}? For example: eval "$(p2pchat completion bash)"')
    print(_SCRIPTS[words[0]](table()), end="")
    return DONE


def _answer(what: str, argv: Sequence[str]) -> int:
    from p2pchat.apps.cli.commands.completing import asked

    for line in asked.names(argv) if what == "names" else asked.ports():
        print(line)
    return DONE
