"""Requests about files that take space on the disk of a peer: which there are, and which are to go."""

from __future__ import annotations

import string
from collections.abc import Sequence

from p2pchat import StoredFile
from p2pchat.commands.context import CommandContext
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.message_commands import parse_time
from p2pchat.commands.output import iso

MOST_ROWS = 100  # of one answer, which has to fit into a line
LEAST_ROOT = 8  # digits of a root by which a file may be meant: so many do not occur by chance
NAME_CHARACTERS = 100  # of a name in a row


async def stored_files(ctx: CommandContext, before: str | None = None, keep: int | None = None) -> CommandResult:
    """Return a row of sums, then the largest files; with `before` or `keep` of those that forget_files would remove."""
    moment = None if before is None else parse_time(before, "before")
    files = await ctx.tcp_peer.stored_files(before=moment, keep_bytes=keep)
    return CommandResult([_sums(files), *map(_row, files[:MOST_ROWS])])


async def forget_files(ctx: CommandContext, before: str | None = None, keep: int | None = None) -> CommandResult:
    """Remove what stored_files() returns for the same; return the row of sums."""
    moment = None if before is None else parse_time(before, "before")
    return CommandResult([_sums(await ctx.tcp_peer.forget_files(before=moment, keep_bytes=keep))])


async def forget_file(ctx: CommandContext, what: str) -> CommandResult:
    """Remove the files of a message, or the one whose root begins so; return the row of sums, then theirs."""
    peer = ctx.tcp_peer
    files = await peer.stored_files()
    if "." in what:
        roots = {file.root for file in (await peer.message(what)).attachments}
        if not roots:
            raise UsageError("this message has no files")
    else:
        wanted = what.casefold()
        if len(wanted) < LEAST_ROOT or not set(wanted) <= set(string.hexdigits):
            raise UsageError(f"{what[:100]!r} is neither the id of a message nor {LEAST_ROOT} digits or more of a root")
        roots = {file.root for file in files if file.root.startswith(wanted)}
        if len(roots) > 1:
            raise UsageError(f"{len(roots)} files begin with {what!r}: give more digits of the root")
        if not roots:
            raise UsageError(f"no file here has a root that begins with {what[:100]!r}: p2pchat files lists them")
    found = [file for file in files if file.root in roots]
    for file in found:
        await peer.forget_file(file.root)
    return CommandResult([_sums(found), *map(_row, found)])


def _sums(files: Sequence[StoredFile]) -> EventLine:
    return {"files": len(files), "size_bytes": sum(file.size_bytes for file in files)}


def _row(file: StoredFile) -> EventLine:
    row: EventLine = {
        "root": file.root, "name": file.name[:NAME_CHARACTERS], "size_bytes": file.size_bytes, "here": file.is_whole,
        "messages": file.messages,
    }  # fmt: skip
    if file.attachments:
        line = file.attachments[-1].message.to_json()
        row |= {name: line[name] for name in ("id", "conversation", "conversation_id", "kind", "sender", "sender_id")}
        row["came_at"] = None if file.came_at is None else iso(file.came_at)
    return row
