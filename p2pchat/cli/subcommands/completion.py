"""The command `p2pchat completion`: click's own scripts, by which the shell asks `p2pchat` for completions.

Names are chosen by others, and bash inserts a candidate as it is. So bash gets them quoted; zsh and fish quote what
they insert.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from p2pchat import P2PChatError
from p2pchat.cli.options import COMPLETE, subcommand
from p2pchat.commands.exit_codes import DONE, CommandError, UsageError

_SHELL_SPECIAL = re.compile(r"[^\w@%+=:,./-]")


class Bash(BashComplete):
    """bash, 4.4 and later."""

    def complete(self) -> str:
        word = os.environ["COMP_WORDS"].split("\n")[int(os.environ["COMP_CWORD"])]
        return "" if word.startswith(('"', "'")) else super().complete()  # a backslash in quotes would be inserted

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a candidate with its special characters quoted; click's script takes one backslash of two away."""
        quoted = _SHELL_SPECIAL.sub(r"\\\g<0>", item.value).replace("\\", r"\\")
        return f"{item.type},{quoted if item.type == 'plain' else item.value}"


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": ZshComplete, "fish": FishComplete}


def answer(program: click.Command) -> int:
    """Print the completions that a script asks for in its environment; return the exit code."""
    shell = SHELLS.get(os.environ[COMPLETE].partition("_")[0])
    if shell is None:
        return 1
    with suppress(UsageError, CommandError, P2PChatError):  # the line is being typed: nothing is offered
        click.echo(shell(program, {}, "p2pchat", COMPLETE).complete().encode())
    return DONE


EPILOG = """\
\b
Examples:
  eval "$(p2pchat completion bash)"    in ~/.bashrc
  eval "$(p2pchat completion zsh)"     in ~/.zshrc, after compinit
  p2pchat completion fish | source     in config.fish

It needs p2pchat on the PATH, and bash 4.4 or later.
"""


@subcommand("completion", EPILOG)
@click.argument("shell", type=click.Choice(list(SHELLS)), metavar="bash|zsh|fish")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print a script with which the shell completes commands, options, files, and names to write to."""
    click.echo(SHELLS[shell](ctx.find_root().command, {}, "p2pchat", COMPLETE).source())
    return DONE
