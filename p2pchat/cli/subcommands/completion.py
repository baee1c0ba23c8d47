r"""The command `p2pchat completion`: scripts that have the shell ask click for completions.

The scripts differ from click's own in three ways, because names are chosen by others. Candidates are never expanded
by the shell, and bash gets them quoted. The answering command is this Python's `-P -m p2pchat` (or `-P p2pchat.pyz`),
so pressing Tab in a directory does not run a Python file that lies there. bash 3.2 (macOS) works too.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import ClassVar

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from p2pchat.cli.options import COMPLETE, Command
from p2pchat.commands.exit_codes import DONE

_SHELL_SPECIAL = re.compile(r"[^\w@%+=:,./-]")


class _Script:
    """A script and the command that answers it."""

    name: ClassVar[str]
    source_template: ClassVar[str]

    def source(self) -> str:
        from p2pchat.cli.process import own_command  # imports asyncio, which no answer needs

        command = shlex.join(own_command("-P"))
        return self.source_template.replace("ASK", f"{COMPLETE}={self.name}_complete {command} 2>/dev/null </dev/null")


class Bash(_Script, BashComplete):
    """bash, 3.2 and later. Values come quoted, which is how bash inserts them."""

    source_template: ClassVar[
        str
    ] = r"""# Completion of p2pchat for bash. In ~/.bashrc: eval "$(p2pchat completion bash)"
_p2pchat_paths() {
    compopt -o "$1" 2>/dev/null && return
    local line
    while IFS= read -r line; do
        COMPREPLY[${#COMPREPLY[@]}]=$line
    done < <(compgen "$2" -- "${COMP_WORDS[COMP_CWORD]}")
}

_p2pchat() {
    local IFS=$'\n' type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) _p2pchat_paths dirnames -d ;;
            file) _p2pchat_paths default -f ;;
            plain) [[ ${COMP_WORDS[COMP_CWORD]} == [\"\']* ]] || COMPREPLY[${#COMPREPLY[@]}]=$value ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" ASK)
}
complete -F _p2pchat p2pchat
"""

    def format_completion(self, item: CompletionItem[str]) -> str:
        value = _SHELL_SPECIAL.sub(r"\\\g<0>", item.value) if item.type == "plain" else item.value
        return f"{item.type},{value}"


class Zsh(_Script, ZshComplete):
    """zsh, for its own completion system (compsys). compadd quotes what it inserts."""

    source_template: ClassVar[str] = r"""#compdef p2pchat
# Completion of p2pchat for zsh. In ~/.zshrc, after compinit: eval "$(p2pchat completion zsh)"
_p2pchat() {
    local -a answer plain described
    local type value help
    answer=("${(@f)$(env COMP_WORDS="${(pj:\n:)words}" COMP_CWORD=$((CURRENT - 1)) ASK)}")
    for type value help in "${answer[@]}"; do
        case $type in
            dir) _files -/ ;;
            file) _files ;;
            plain) if [[ $help == _ ]]; then plain+=("$value"); else described+=("$value:$help"); fi ;;
        esac
    done
    (( $#described )) && _describe -t commands command described
    (( $#plain )) && compadd -a plain
}

if [[ $funcstack[1] == _p2pchat ]]; then
    _p2pchat "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _p2pchat p2pchat
fi
"""


class Fish(_Script, FishComplete):
    """fish, 3.0 and later. It quotes what it inserts."""

    source_template: ClassVar[
        str
    ] = r"""# Completion of p2pchat for fish. In ~/.config/fish/config.fish: p2pchat completion fish | source
function __p2pchat
    for line in (env COMP_WORDS=(commandline -cp | string collect) COMP_CWORD=(commandline -ct | string collect) ASK)
        set -l item (string split -m 1 , -- $line)
        switch $item[1]
            case dir
                __fish_complete_directories $item[2]
            case file
                __fish_complete_path $item[2]
            case plain
                printf '%s\n' $item[2]
        end
    end
end
complete -c p2pchat -e
complete -c p2pchat -f -a '(__p2pchat)'
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, incomplete = super().get_completion_args()
        if os.environ["COMP_CWORD"] and not incomplete:  # quotes with nothing in them, which are among the words too
            words.pop()
        return words, incomplete


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


def answer(program: click.Command) -> int:
    """Print the completions that a script asks for in its environment; return the exit code."""
    shell = SHELLS.get(os.environ[COMPLETE].partition("_")[0])
    if shell is None:
        return 1
    click.echo(shell(program, {}, "p2pchat", COMPLETE).complete().encode())
    return DONE


EPILOG = """\
\b
Examples:
  eval "$(p2pchat completion bash)"    in ~/.bashrc
  eval "$(p2pchat completion zsh)"     in ~/.zshrc, after compinit
  p2pchat completion fish | source     in config.fish

Where p2pchat is only `python -m p2pchat`, make it a command first, above that line; in bash and zsh with

\b
    p2pchat() { python -m p2pchat "$@"; }

and in fish with

\b
    function p2pchat; python -m p2pchat $argv; end
"""


@click.command("completion", cls=Command, epilog=EPILOG)
@click.argument("shell", type=click.Choice(list(SHELLS)), metavar="bash|zsh|fish")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print a script with which the shell completes commands, options, files, and names to write to."""
    click.echo(SHELLS[shell](ctx.find_root().command, {}, "p2pchat", COMPLETE).source(), nl=False)
    return DONE
