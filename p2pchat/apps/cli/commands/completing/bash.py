"""The script for bash, 3.2 (macOS) and later."""

from __future__ import annotations

from p2pchat.apps.cli.commands.completing.table import CHAT_NAME, SHELLS, Row, asking, valued, values

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
