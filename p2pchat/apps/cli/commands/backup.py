"""`p2pchat backup DIR`: a copy of a whole peer, made beside it while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pchat import Backup, backup_profile
from p2pchat.apps.cli.profiles import find_profile
from p2pchat.apps.cli.program import command
from p2pchat.apps.cli.registry.backup import COMMAND
from p2pchat.cli.options import WhichPeer, database_of, parse_words, which_peer
from p2pchat.cli.progress import Progress, size
from p2pchat.commands.errors import DONE, Usage, tell


@dataclass(slots=True)
class BackupOptions:
    """`p2pchat backup DIR`."""

    which: WhichPeer
    to: str
    db: str = field(default="", repr=False)


def parse_backup(argv: Sequence[str]) -> BackupOptions:
    """Read `backup DIR [options]`; a database this version cannot copy is told by who copies.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(COMMAND, argv)
    if len(words) != 1 or not words[0]:
        raise Usage("backup needs one DIR to make, for example: p2pchat backup ~/backup/chat")
    return BackupOptions(which_peer(given, typed), words[0], database_of(given, typed))


def run_backup(argv: Sequence[str]) -> int:
    """Copy one profile."""
    options = parse_backup(argv)
    directory = find_profile(options.which).expanduser().absolute()
    backup = asyncio.run(_copy(options, directory))
    port = directory.name if directory.name.isdecimal() else "PORT"
    print(f"{backup.directory}: key, network and history, {size(backup.size_bytes)}")
    print(f"    {command(port, '--data', str(backup.directory))}", flush=True)
    tell("-- this runs it, instead of the original and never beside it. Whoever has this directory can be this user")
    return DONE


async def _copy(options: BackupOptions, directory: Path) -> Backup:
    with Progress() as progress:
        return await backup_profile(directory, options.to, db=options.db or None, progress=progress.bytes)
