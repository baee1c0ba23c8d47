"""The script for zsh, for its own completion system (compsys)."""

from __future__ import annotations

import shlex

from p2pchat.apps.cli.commands.completing.table import CHAT_NAME, SHELLS, Row, asking, valued, values

_SCRIPT = r"""#compdef p2pchat
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

_NAMES = '_p2pchat_offer names "${which[@]}"'


def script(rows: list[Row]) -> str:
    """Return the script."""
    return _SCRIPT % {
        "asking": asking(),
        "valued": "|".join(valued(rows)),
        "values": "\n".join(_values(rows)),
        "commands": "\n".join(_command(row, rows) for row in rows),
        "chat": CHAT_NAME,
    }


def _values(rows: list[Row]) -> list[str]:
    does = {"file": "_files", "directory": "_files -/", "port": "_p2pchat_offer ports", "address": _NAMES}
    return [
        f'        "{command} {name}") {does.get(flag.kind) or "compadd -- " + " ".join(flag.choices)} ;;'
        for command, name, flag in values(rows)
        if flag.kind
    ]


def _command(row: Row, rows: list[Row]) -> str:
    words = {
        "address": f"        elif (( seen == 0 )); then\n            {_NAMES}",
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
