"""The script for fish, 3.0 and later."""

from __future__ import annotations

from collections.abc import Iterator

from p2pchat.apps.cli.commands.completing.table import CHAT_NAME, SHELLS, Flag, Row, asking, valued

_SCRIPT = r"""# Completion of p2pchat for fish. In ~/.config/fish/config.fish: p2pchat completion fish | source
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


def script(rows: list[Row]) -> str:
    """Return the script."""
    lines = [line for row in rows for line in _lines(row)]
    return _SCRIPT % {
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
