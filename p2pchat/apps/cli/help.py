"""The help screens: written out, so that --help is quick and reads like a page. A paragraph is one long line here."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from p2pchat.apps.cli.folding import USUAL_WIDTH, fold
from p2pchat.apps.cli.words import CHAT_OPTIONS, CHECK_OPTIONS, COMMANDS, HISTORY_OPTIONS, INVITE_OPTIONS, Option

WIDEST = 100  # columns; longer lines are hard to read
_LEFT = 24  # columns of what stands left of its explanation

_CHAT = """\
Usage: p2pchat PORT [HOST:PORT ...] [options]
       p2pchat COMMAND [options]

Chat with other peers, without a server. PORT is where this peer listens; HOST:PORT are peers to link with, a bare \
port means this machine. Knowing one peer is enough, and the next start needs none.

Examples:
  p2pchat 8080 --name ada                      ada listens on this machine
  p2pchat 8081 8080 --name bob                 bob joins her
  p2pchat 8080 --host 0.0.0.0                  others may join: shows the invite
  p2pchat 8080 --invite -                      join another machine's network
  echo "backup finished" | p2pchat 8082 8080   one message, then leave
  p2pchat 8083 8080 --json </dev/null          only read, and stay
  p2pchat history bob --port 8080 --since 7d   what was said

Options:
{options}

Commands (p2pchat COMMAND --help):
{commands}

Each option has a variable: --name is P2PCHAT_NAME. P2PCHAT_HOME moves everything p2pchat keeps. \
`python -m p2pchat` and `p2pchat` are the same.

Input: text goes to the room; /msg bob TEXT to bob alone; /help lists the commands. With --json an input line may be \
an object:
    {{"do":"send","to":"bob","text":"hi","ref":"7"}}
A pipe or file is read to its end, also when nobody reads the output any more; then it waits for deliveries and \
leaves (--stay: goes on). /dev/null or closed input is no input: it stays until a signal ends it, under `&`, systemd \
and cron too.

Exit codes:
  0    everything sent was delivered
  1    failure: port, database, locked, refused by the network
  2    usage: option, endpoint, invite, name, a line that cannot be meant
  3    kept, not delivered yet: sent at the next start
  4    no such name, or several
  130  interrupted by Ctrl-C; SIGTERM and SIGHUP end it in good order, with 0 or 3
"""

_HISTORY = """\
Usage: p2pchat history [TO] [options]

Print what was said, oldest first: in one conversation (room, bob, bob#K7QF2M3P), or without TO in all of them in one \
order. Reads beside a running peer.

Options:
{options}

Examples:
  p2pchat history
  p2pchat history bob --port 8080 --since 7d
  p2pchat history room --json --search "deploy failed"
"""

_INVITE = """\
Usage: p2pchat invite [options]

Show the command to paste on another machine, and the invite it asks for. Whoever has the invite can join, read the \
room's history, and invite others.

Options:
{options}

Examples:
  p2pchat invite
  p2pchat invite --port 8080 --advertise chat.example.org:8080
"""

_CHECK = """\
Usage: p2pchat check LOG... [options]

Read event logs (--log FILE, or the output of --json) of peers that talked with each other, and decide whether the \
promises held: everything that was accepted arrived, once and in order, and departures were told with the right \
reason. Exit code 0 when they held, 1 when one was broken.

Options:
{options}

Examples:
  p2pchat check ada.jsonl bob.jsonl cyd.jsonl
  p2pchat check logs/*.jsonl
"""

_DEMO = """\
Usage: p2pchat demo

A tour in under 30 seconds, with real peers on this machine in a directory of their own: the room, a message to \
somebody who is away, a kill, a restart, receipts. Says what it shows and checks it; exit code 1 when a check fails.

Example:
  p2pchat demo
"""

_PAGES: dict[str, tuple[str, tuple[Option, ...]]] = {
    "history": (_HISTORY, HISTORY_OPTIONS),
    "invite": (_INVITE, INVITE_OPTIONS),
    "check": (_CHECK, CHECK_OPTIONS),
    "demo": (_DEMO, ()),
}
_ALWAYS = (Option(("--version",), "", "the version"), Option(("--help",), "", "this page"))


def help_screen(command: str = "", width: int = USUAL_WIDTH) -> str:
    """Return the help of a command, or of p2pchat itself, for so many columns."""
    page, options = _PAGES.get(command, (_CHAT, (*CHAT_OPTIONS, *_ALWAYS)))
    left = [(f"{', '.join(option.flags)} {option.takes}".rstrip(), option.summary) for option in options]
    return fold(page.format(options=_rows(left), commands=_rows(COMMANDS.items())), min(width, WIDEST))


def help_width() -> int:
    """Return the columns of standard output, or what COLUMNS says; 80 where nobody tells."""
    return shutil.get_terminal_size((USUAL_WIDTH, 24)).columns


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {left:<{_LEFT}}{right}" for left, right in rows)
