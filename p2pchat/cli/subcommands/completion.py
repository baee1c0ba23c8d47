"""`p2pchat completion bash|zsh|fish`: the script for a shell; and, for those scripts only, `names` and `ports`."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from p2pchat import known_profiles, open_history
from p2pchat.cli.command_table import CHAT, COMMANDS, COMPLETION_COMMAND, DB, EVERY_COMMAND, WHICH_PEER, Command, Option
from p2pchat.cli.options import database_url, find_profile, parse_words, which_peer
from p2pchat.commands.errors import DONE, UsageError
from p2pchat.safe_text import safe_line

# ---- asked
#
# What a completion script asks while somebody types: names to write to, ports of profiles. Quick, and never loud.
#
# Not in the registry: only scripts call it, as `p2pchat completion names|ports`.


NAMES = Command("completion names", "", "", "", (*WHICH_PEER, DB))


def names(argv: Sequence[str]) -> list[str]:
    """Return whom one can write to: the room, then everybody but oneself, then the groups one is in.

    Raises:
        Usage: Which peer is meant is not clear. P2PChatError: Its files cannot be read.
    """
    _, given, typed = parse_words(NAMES, argv)
    directory = find_profile(which_peer(given, typed))
    return asyncio.run(_names(str(directory), database_url(given["db"])))


async def _names(directory: str, db: str) -> list[str]:
    async with open_history(directory, db=db or None) as history:
        labels = [user.label for user in history.users() if not user.is_me]
        labels += [group.address for group in history.groups() if group.is_member]
    return ["room", *(label for label in labels if label == safe_line(label))]


def ports() -> list[str]:
    """Return the ports that have a profile here."""
    return [path.name for path in known_profiles()]


# ---- table
#
# What can stand where on a command line, as plain rows: what every shell's script is made of.


SHELLS = ("bash", "zsh", "fish")
CHAT_NAME = "PORT"  # stands for the command that is a number
# By what an option takes; other values are free.
_KINDS = {"FILE": "file", "DIR": "directory", "PORT": "port", "TO": "address"}


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of one command.

    Attributes:
        kind: Of its value: file, directory, port, address, choice; "" for any text, "switch" for none.
    """

    names: tuple[str, ...]
    summary: str
    kind: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One command; `name` is CHAT_NAME for the chat. `words` as in registry/command.py."""

    name: str
    summary: str
    words: str
    flags: tuple[Flag, ...]


def table() -> list[Row]:
    """Return all commands, the chat first."""
    return [_row(CHAT, CHAT_NAME), *(_row(command, name) for name, command in COMMANDS.items())]


def _row(command: Command, name: str) -> Row:
    flags = [
        _flag(option) for option in (*command.options, *EVERY_COMMAND) if option.name != "version" or not command.name
    ]
    return Row(name, command.summary, command.words, tuple(flags))


def _flag(option: Option) -> Flag:
    kind = "choice" if option.choices else _KINDS.get(option.takes, "") if option.takes else "switch"
    return Flag(option.flags, option.summary, kind, option.choices)


def values(rows: list[Row]) -> Iterator[tuple[str, str, Flag]]:
    """Yield (command, spelling, option) for every option that takes a value."""
    for row in rows:
        for flag in row.flags:
            if flag.kind != "switch":
                for name in flag.names:
                    yield row.name, name, flag


def valued(rows: list[Row]) -> list[str]:
    """Return the spellings of all options that take a value, in any command."""
    return sorted({name for _, name, _ in values(rows)})


def asking() -> str:
    """Return the command that answers a script: this Python's, whatever `p2pchat` stands for in the shell.

    -P: whoever presses Tab in some directory does not mean to run a Python file that lies there.
    """
    return shlex.join([sys.executable, "-P", "-m", "p2pchat", "completion"])


# ---- bash
#
# The script for bash, 3.2 (macOS) and later.


_SCRIPT = r"""# Completion of p2pchat for bash. In ~/.bashrc: eval "$(p2pchat completion bash)"
_p2pchat_ask() {
    %(asking)s "$@" 2>/dev/null </dev/null
}

# Take the lines of standard input that begin with the word. They are compared and quoted, never expanded:
# names are chosen by others.
_p2pchat_take() {
    local line quoted word=${1//\\/}
    case $word in [\"\']*) return ;; esac
    while IFS= read -r line; do
        if [[ $line == "$word"* ]]; then
            printf -v quoted %%q "$line"
            COMPREPLY[${#COMPREPLY[@]}]=$quoted
        fi
    done
}

_p2pchat_paths() {
    compopt -o "$1" 2>/dev/null && return
    local line
    while IFS= read -r line; do
        COMPREPLY[${#COMPREPLY[@]}]=$line
    done < <(compgen "$2" -- "$cur")
}

_p2pchat_value() {
    case "$1 $2" in
%(values)s
        *) return ;;
    esac
}

_p2pchat() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word i words=0
    local -a which
    which=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
            --data|--port|--db)
                which[${#which[@]}]=$word
                which[${#which[@]}]=${COMP_WORDS[i+1]/#\~\//$HOME/}
                ((i += 1)) ;;
            %(valued)s) ((i += 1)) ;;
            -?*) ;;
            *) if [[ -z $command ]]; then command=$word; else ((words += 1)); fi ;;
        esac
    done
    case $command in
        ''|[0-9]*) command=%(chat)s ;;
    esac
    case $prev in
        %(valued)s) _p2pchat_value "$command" "$prev"; return ;;
    esac
    case $command in
%(commands)s
    esac
}
complete -F _p2pchat p2pchat
"""

_NAMES = '_p2pchat_take "$cur" < <(_p2pchat_ask names "${which[@]}")'
_PORTS = '_p2pchat_take "$cur" < <(_p2pchat_ask ports)'


def bash_script(rows: list[Row]) -> str:
    """Return the script."""
    return _SCRIPT % {
        "asking": asking(),
        "valued": "|".join(valued(rows)),
        "values": "\n".join(_values(rows)),
        "commands": "\n".join(_command(row, rows) for row in rows),
        "chat": CHAT_NAME,
    }


def _values(rows: list[Row]) -> list[str]:
    """Return the cases of options whose values are known."""
    does = {"file": "_p2pchat_paths default -f", "directory": "_p2pchat_paths dirnames -d"}
    does |= {"port": _PORTS, "address": _NAMES}
    lines = []
    for command, name, flag in values(rows):
        if flag.kind:
            lines.append(f'        "{command} {name}") {does.get(flag.kind) or _take(flag.choices)} ;;')
    return lines


def _command(row: Row, rows: list[Row]) -> str:
    flags = [name for flag in row.flags for name in flag.names]
    words = {
        "address": f"        elif ((words == 0)); then\n            {_NAMES}",
        "file": "        else\n            _p2pchat_paths default -f",
        "directory": "        else\n            _p2pchat_paths dirnames -d",
        "shell": f"        elif ((words == 0)); then\n            {_take(SHELLS)}",
    }.get(row.words, "")
    if row.name == CHAT_NAME:
        # Only the first word can be a command; ports are asked for when one is begun.
        words = f"""\
        elif [[ $cur == [0-9]* ]]; then
            {_PORTS}
        elif ((COMP_CWORD == 1)); then
            {_take([one.name for one in rows if one.name != CHAT_NAME])}"""
    parts = [
        f"        {row.name})",
        f"        if [[ $cur == -* ]]; then\n            {_take(flags)}",
        words,
        "        fi ;;",
    ]
    return "\n".join(part for part in parts if part)


def _take(candidates: list[str] | tuple[str, ...]) -> str:
    """Candidates of our own, which hold no blank and nothing that a shell would expand."""
    return f"""_p2pchat_take "$cur" < <(printf '%s\\n' {" ".join(candidates)})"""


# ---- fish
#
# The script for fish, 3.0 and later.


_SCRIPT_FISH = r"""# Completion of p2pchat for fish. In ~/.config/fish/config.fish: p2pchat completion fish | source
function __p2pchat_ask
    %(asking)s $argv 2>/dev/null </dev/null
end

# Whether this command was given, and as many words behind it as the second argument says (any number without it).
function __p2pchat_at
    set -l tokens (commandline -opc)
    set -l command
    set -l seen 0
    set -l skip 0
    for token in $tokens[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $token %(valued)s
            set skip 1
        else if string match -q -- '-?*' $token
            continue
        else if test -z "$command"
            set command $token
        else
            set seen (math $seen + 1)
        end
    end
    if test -z "$command"; or string match -qr '^[0-9]+$' -- $command
        test -n "$command"; and set seen (math $seen + 1)
        set command %(chat)s
    end
    test "$command" = $argv[1]; or return 1
    test (count $argv) -lt 2; or test $seen -eq $argv[2]
end

# The options that say which peer is meant, to be passed on.
function __p2pchat_names
    set -l tokens (commandline -opc)
    set -l which
    for index in (seq 2 (math (count $tokens) - 1))
        if contains -- $tokens[$index] --data --port --db
            set which $which $tokens[$index] (string replace -r '^~/' "$HOME/" -- $tokens[(math $index + 1)])
        end
    end
    __p2pchat_ask names $which
end

function __p2pchat_begins_a_port
    string match -qr '^[0-9]' -- (commandline -ct)
end

complete -c p2pchat -e
complete -c p2pchat -f
complete -c p2pchat -n '__p2pchat_at %(chat)s; and __p2pchat_begins_a_port' -a '(__p2pchat_ask ports)'
%(commands)s
"""


def fish_script(rows: list[Row]) -> str:
    """Return the script."""
    lines = [line for row in rows for line in _lines(row)]
    return _SCRIPT_FISH % {
        "asking": asking(),
        "valued": " ".join(valued(rows)),
        "commands": "\n".join(lines),
        "chat": CHAT_NAME,
    }


def _lines(row: Row) -> Iterator[str]:
    if row.name != CHAT_NAME:
        yield f"complete -c p2pchat -n '__p2pchat_at {CHAT_NAME} 0' -a {row.name} -d {quoted(row.summary)}"
    here = f"complete -c p2pchat -n '__p2pchat_at {row.name}'"
    first = f"complete -c p2pchat -n '__p2pchat_at {row.name} 0'"
    for flag in row.flags:
        names = " ".join(_name(name) for name in flag.names)
        yield f"{here} {names} {_value(flag)} -d {quoted(flag.summary)}".replace("  ", " ")
    if row.words == "address":
        yield f"{first} -a '(__p2pchat_names)'"
    elif row.words == "file":
        yield f"{here} -F"
    elif row.words == "directory":
        yield f"{here} -a '(__fish_complete_directories)'"
    elif row.words == "shell":
        yield f"{first} -a '{' '.join(SHELLS)}'"


def _name(name: str) -> str:
    return f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"


def _value(flag: Flag) -> str:
    if flag.kind == "choice":
        return f"-x -a '{' '.join(flag.choices)}'"
    known = {"switch": "", "file": "-r -F", "directory": "-x -a '(__fish_complete_directories)'"}
    known |= {"port": "-x -a '(__p2pchat_ask ports)'", "address": "-x -a '(__p2pchat_names)'"}
    return known.get(flag.kind, "-x")


def quoted(text: str) -> str:
    """Return a text as fish reads it: in single quotes only they and the backslash mean something."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ---- zsh
#
# The script for zsh, for its own completion system (compsys).


_SCRIPT_ZSH = r"""#compdef p2pchat
# Completion of p2pchat for zsh. In ~/.zshrc, after compinit: eval "$(p2pchat completion zsh)"
_p2pchat_ask() {
    %(asking)s "$@" 2>/dev/null </dev/null
}

# Offer lines as they are; compadd quotes them. They are never expanded: names are chosen by others.
_p2pchat_offer() {
    local -a lines
    lines=("${(@f)$(_p2pchat_ask "$@")}")
    (( $#lines )) && [[ -n $lines[1] ]] && compadd -a lines
}

_p2pchat_value() {
    case "$1 $2" in
%(values)s
    esac
}

_p2pchat() {
    local command= word
    local -a which offered
    integer i seen=0
    for ((i = 2; i < CURRENT; i++)); do
        word=${(Q)words[i]}
        case $word in
            --data|--port|--db)
                (( i + 1 < CURRENT )) && which+=($word "${${(Q)words[i+1]}/#\~\//$HOME/}")
                (( i++ )) ;;
            %(valued)s) (( i++ )) ;;
            -?*) ;;
            *) if [[ -z $command ]]; then command=$word; else (( seen++ )); fi ;;
        esac
    done
    [[ -z $command || $command == <-> ]] && command=%(chat)s
    case ${words[CURRENT-1]} in
        %(valued)s) _p2pchat_value "$command" "${words[CURRENT-1]}"; return ;;
    esac
    case $command in
%(commands)s
    esac
}

if [[ $funcstack[1] == _p2pchat ]]; then
    _p2pchat "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _p2pchat p2pchat
fi
"""

_NAMES_ZSH = '_p2pchat_offer names "${which[@]}"'


def zsh_script(rows: list[Row]) -> str:
    """Return the script."""
    return _SCRIPT_ZSH % {
        "asking": asking(),
        "valued": "|".join(valued(rows)),
        "values": "\n".join(_values_zsh(rows)),
        "commands": "\n".join(_command_zsh(row, rows) for row in rows),
        "chat": CHAT_NAME,
    }


def _values_zsh(rows: list[Row]) -> list[str]:
    does = {"file": "_files", "directory": "_files -/", "port": "_p2pchat_offer ports", "address": _NAMES_ZSH}
    return [
        f'        "{command} {name}") {does.get(flag.kind) or "compadd -- " + " ".join(flag.choices)} ;;'
        for command, name, flag in values(rows)
        if flag.kind
    ]


def _command_zsh(row: Row, rows: list[Row]) -> str:
    words = {
        "address": f"        elif (( seen == 0 )); then\n            {_NAMES_ZSH}",
        "file": "        else\n            _files",
        "directory": "        else\n            _files -/",
        "shell": f"        elif (( seen == 0 )); then\n            compadd -- {' '.join(SHELLS)}",
    }.get(row.words, "")
    if row.name == CHAT_NAME:
        commands = " ".join(_described(one.name, one.summary) for one in rows if one.name != CHAT_NAME)
        words = f"""\
        elif [[ $PREFIX == <->* ]]; then
            _p2pchat_offer ports
        elif (( CURRENT == 2 )); then
            offered=({commands})
            _describe -t commands command offered"""
    flags = " ".join(_described(name, flag.summary) for flag in row.flags for name in flag.names)
    parts = [
        f"        {row.name})\n        if [[ $PREFIX == -* ]]; then",
        f"            offered=({flags})\n            _describe -t options option offered",
        words,
        "        fi ;;",
    ]
    return "\n".join(part for part in parts if part)


def _described(name: str, summary: str) -> str:
    """Return `name:what it does`, quoted; colons separate, so those inside are escaped."""
    return shlex.quote(f"{name}:{summary.replace(':', chr(92) + ':')}")


# ---- completion


_SCRIPTS: dict[str, Callable[[list[Row]], str]] = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}


def run_completion(argv: Sequence[str]) -> int:
    """Print a script, or what one asks for."""
    if argv and argv[0] in ("names", "ports"):
        return _answer(argv[0], argv[1:])
    words, _, _ = parse_words(COMPLETION_COMMAND, argv)
    if len(words) != 1 or words[0] not in SHELLS:
        raise UsageError(f'for which shell: {", ".join(SHELLS)}? For example: eval "$(p2pchat completion bash)"')
    print(_SCRIPTS[words[0]](table()), end="")
    return DONE


def _answer(what: str, argv: Sequence[str]) -> int:

    for line in names(argv) if what == "names" else ports():
        print(line)
    return DONE
