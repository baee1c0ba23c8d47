"""The help screens: written out, so that --help is quick and reads like a page."""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.apps.cli.words import CHAT_OPTIONS, CHECK_OPTIONS, COMMANDS, HISTORY_OPTIONS, INVITE_OPTIONS, Option

_CHAT = """\
Usage: p2pchat PORT [HOST:PORT ...] [options]
       p2pchat COMMAND [options]

Chat with other peers, without a server. PORT is where this peer listens; HOST:PORT are peers to link with, a bare
port means this machine. Knowing one peer is enough, and the next start needs none.

Options:
{options}

Commands (p2pchat COMMAND --help):
{commands}

Each option has a variable: --name is P2PCHAT_NAME. P2PCHAT_HOME moves everything p2pchat keeps.
`python -m p2pchat` and `p2pchat` are the same.

Examples:
  p2pchat 8080 --name ada                          ada listens on this machine
  p2pchat 8081 8080 --name bob                     bob joins her
  p2pchat 8080 --host 0.0.0.0                      other machines may join: shows the invite
  p2pchat 8080 --invite -                          join another machine's network
  echo "backup finished" | p2pchat 8082 8080       one message, then leave
  p2pchat 8083 8080 --json </dev/null              read as a program
  p2pchat history bob --port 8080 --since 7d       what was said

Typed lines: text goes to the room; /msg bob TEXT to bob alone; /help lists the commands.
With --json an input line may be an object: {{"do":"send","to":"bob","text":"hi","ref":"7"}}

Exit codes: 0 everything sent was delivered   1 failure   2 usage   3 kept, not delivered yet   4 no such name
  130 interrupted
"""

_HISTORY = """\
Usage: p2pchat history [TO] [options]

Print what was said, oldest first: in one conversation (room, bob, bob#K7QF2M3P), or without TO in all of them in one
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

Show the command to paste on another machine, and the invite it asks for. Whoever has the invite can join, read the
room's history, and invite others.

Options:
{options}

Examples:
  p2pchat invite
  p2pchat invite --port 8080 --advertise chat.example.org:8080
"""

_CHECK = """\
Usage: p2pchat check LOG... [options]

Read event logs (--log FILE, or the output of --json) of peers that talked with each other, and decide whether the
promises held: everything that was accepted arrived, once and in order, and departures were told with the right reason.
Exit code 0 when they held, 1 when one was broken.

Options:
{options}

Examples:
  p2pchat check ada.jsonl bob.jsonl cyd.jsonl
  p2pchat check logs/*.jsonl
"""

_DEMO = """\
Usage: p2pchat demo

A tour in under 30 seconds, with real peers on this machine in a directory of their own: the room, a message to
somebody who is away, a kill, a restart, receipts. Says what it shows and checks it; exit code 1 when a check fails.
"""


def _rows(options: Iterable[Option]) -> str:
    shown = [(f"{', '.join(option.flags)} {option.takes}".rstrip(), option.summary) for option in options]
    return "\n".join(f"  {left:<24}{right}" for left, right in shown)


def help_screen(command: str = "") -> str:
    """Return the help of a command, or of p2pchat itself."""
    if command == "history":
        return _HISTORY.format(options=_rows(HISTORY_OPTIONS))
    if command == "invite":
        return _INVITE.format(options=_rows(INVITE_OPTIONS))
    if command == "check":
        return _CHECK.format(options=_rows(CHECK_OPTIONS))
    if command == "demo":
        return _DEMO
    more = (Option(("--version",), "", "the version"), Option(("--help",), "", "this page"))
    commands = "\n".join(f"  {name:<24}{summary}" for name, summary in COMMANDS.items())
    return _CHAT.format(options=_rows((*CHAT_OPTIONS, *more)), commands=commands)
