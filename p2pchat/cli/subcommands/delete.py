"""The command `p2pchat delete`, which deletes what is stored here of a conversation.

A running peer is asked to; otherwise the profile is changed by this command, which then also gives the room back to the
disk, however large the database is.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from p2pchat import Conversation, DataLocked, open_alone, open_history
from p2pchat.cli import options as cli
from p2pchat.cli.control_client import ControlClient, connect, profile_in_use
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.profiles import complete_conversation, find_profile
from p2pchat.commands.event_text import EventLine, format_deletion, quote_conversation, quote_name
from p2pchat.commands.exit_codes import DONE, FAILED, UsageError, print_notice
from p2pchat.commands.output import json_line

EPILOG = """\
\b
Examples:
  p2pchat delete bob
  p2pchat delete '#ops' --before 30d --yes
  p2pchat delete room --from mallory --json --yes

It deletes here only: others keep what they have, and are not told. Nothing that was deleted comes back, no tick \
changes, and new messages come as before. Your messages that nobody else has yet stay. Copies made before (backups, \
exports) keep it too.

Exit codes: 0 it is deleted; 1 you said no, or it could not be deleted.
"""


@dataclass(slots=True)
class DeleteOptions:
    """Options of the command."""

    profile: cli.ProfileChoice
    to: str
    db: str = field(repr=False)
    sender: str | None
    before: datetime | None
    yes: bool
    as_json: bool

    @property
    def what(self) -> str:
        """Words for the messages to be deleted; the conversation stands behind them."""
        of = f"what {quote_name(self.sender)} wrote" if self.sender else "everything"
        when = f" before {self.before.astimezone():%Y-%m-%d %H:%M}" if self.before else ""
        return f"{of}{when}"


@click.command("delete", cls=cli.Command, epilog=EPILOG)
@click.argument("to", shell_complete=complete_conversation)
@cli.profile_options
@cli.db_option
@cli.option("--from sender", "NAME", "only what this user wrote")
@cli.option("--before", "TIME", "only what was written before: 2026-11-20, 2026-11-20T08:30, 90m, 7d", type=cli.TIME)
@cli.option("--yes", "", "do not ask; needed where nobody can be asked")
@cli.json_option
def delete(**values: Any) -> int:
    """Delete what is stored here of a conversation: room, bob, bob#K7QF2M3P, '#ops'.

    Texts leave this disk for good. Works beside a running peer, and on a profile at rest, where the file shrinks too.
    """
    options = DeleteOptions(**values)
    directory = find_profile(options.profile)
    if not options.yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("this deletes for good, and nobody can be asked here: add --yes")
    return run_until_signal(_delete(directory, options), terminated=lambda: FAILED)


async def _delete(directory: Path, options: DeleteOptions) -> int:
    if not options.yes and not await _confirmed(directory, options):
        print_notice("-- nothing was deleted")
        return FAILED
    control = await connect(directory)
    row = await _delete_at_rest(directory, options) if control is None else await _ask(control, options)
    if options.as_json:
        print(json_line(row), flush=True)
    else:
        for line in format_deletion(row):
            print(line, flush=True)
    return DONE


async def _confirmed(directory: Path, options: DeleteOptions) -> bool:
    async with open_history(directory, db=options.db or None) as history:
        where = _shown(history.find(options.to))
    question = f"delete {options.what} that is stored here of {where}? Others keep theirs. [y/N] "
    answer = await asyncio.to_thread(_read_answer, question)
    return answer.strip().casefold() in ("y", "yes")


def _read_answer(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _shown(where: Conversation) -> str:
    return "the room" if where.kind == "room" else quote_conversation(where.name, where.kind)


async def _ask(control: ControlClient, options: DeleteOptions) -> EventLine:
    """Have the running peer delete it."""
    fields = {"sender": options.sender} if options.sender else {}
    if options.before is not None:
        fields["before"] = options.before.astimezone().isoformat()
    try:
        [row] = await control.ask("delete_history", to=options.to, **fields)
    finally:
        await control.aclose()
    return row


async def _delete_at_rest(directory: Path, options: DeleteOptions) -> EventLine:
    try:
        async with open_alone(directory, db=options.db or None) as peer:
            where = peer.find(options.to)
            done = await peer.delete_history(where, sender=options.sender, before=options.before)
            return {
                "conversation": where.name,
                "conversation_id": where.id,
                "messages": done.messages,
                "size_bytes": done.size_bytes,
                "kept": done.kept,
            }
    except DataLocked as locked:
        raise profile_in_use(directory, locked) from None
