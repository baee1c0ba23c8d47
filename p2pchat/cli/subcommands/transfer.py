"""`p2pchat export FILE`: what a profile holds as a file for other peers, read beside the running peer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from p2pchat import StorageError, open_history
from p2pchat.apps.cli.profiles import find_profile
from p2pchat.apps.cli.registry.export import COMMAND
from p2pchat.cli.control_client import connect
from p2pchat.cli.options import WhichPeer, database_of, parse_words, which_peer
from p2pchat.cli.progress import Progress, size
from p2pchat.commands.errors import DONE, Usage, tell
from p2pchat.commands.output import Line

STDOUT = "-"


@dataclass(slots=True)
class ExportOptions:
    """`p2pchat export FILE`. `to` "" is everything."""

    which: WhichPeer
    file: str
    db: str = field(default="", repr=False)
    to: str = ""


def parse_export(argv: Sequence[str]) -> ExportOptions:
    """Read `export FILE [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(COMMAND, argv)
    if len(words) != 1 or not words[0]:
        raise Usage("export needs one FILE to write, for example: p2pchat export /media/stick/chat.p2p (- is stdout)")
    to = given["conversation"] or ""
    return ExportOptions(which_peer(given, typed), words[0], database_of(given, typed), "" if to == "all" else to)


def run_export(argv: Sequence[str]) -> int:
    """Write the file of one profile."""
    options = parse_export(argv)
    if options.file == STDOUT and sys.stdout.isatty():
        raise Usage("this would write a file onto the terminal: name a FILE, or send it into a pipe or file")
    directory = find_profile(options.which).expanduser().absolute()
    row = asyncio.run(_export(options, directory))
    what = f"{row['entries']:,} entries of {_conversations(row['conversations'])}"
    said = f"{what}, {size(row['size_bytes'])}: readable text, for whoever has the file"
    if options.file == STDOUT:
        tell(f"-- {said}")
    else:
        print(f"{options.file}: {said}")
    return DONE


async def _export(options: ExportOptions, directory: Path) -> Line:
    try:
        return await _read(options, directory)
    except StorageError:  # a peer may keep its history elsewhere, or in memory
        row = None if options.file == STDOUT else await _ask(options, directory)
        if row is None:
            raise
        return row


async def _read(options: ExportOptions, directory: Path) -> Line:
    with Progress() as progress:
        async with open_history(directory, db=options.db or None) as history:
            to = sys.stdout.buffer if options.file == STDOUT else options.file
            exported = await history.export(to, options.to or None, progress=progress.entries)
    return asdict(exported)


async def _ask(options: ExportOptions, directory: Path) -> Line | None:
    """Have the running peer do it; None when none runs there."""
    control = await connect(directory)
    if control is None:
        return None
    try:
        to = {"to": options.to} if options.to else {}
        [row] = await control.ask("export", path=str(Path(options.file).absolute()), **to)
        return row
    finally:
        await control.aclose()


def _conversations(count: int) -> str:
    return "1 conversation" if count == 1 else f"{count:,} conversations"
