"""`p2pchat export FILE`: what a profile holds as a file for other peers, read beside the running peer."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from p2pchat import Backup, Copied, DataLocked, StorageError, backup_profile, copy_database, import_into, open_history
from p2pchat.cli.command_table import BACKUP_COMMAND, DB_COMMAND, EXPORT_COMMAND, IMPORT_COMMAND
from p2pchat.cli.control_client import connect, profile_in_use, run_until_signal
from p2pchat.cli.options import (
    PASSWORD_VISIBLE,
    ProfileChoice,
    database_of,
    database_url,
    find_profile,
    has_password,
    parse_words,
    which_peer,
)
from p2pchat.cli.progress import Progress, size
from p2pchat.cli.stdin import InputKind, raw_stdin, stdin_kind
from p2pchat.commands.endpoints import command
from p2pchat.commands.errors import DONE, FAILED, CommandError, UsageError, print_error, print_notice
from p2pchat.commands.output import EventLine, json_line

STDOUT = "-"


@dataclass(slots=True)
class ExportOptions:
    """`p2pchat export FILE`. `to` "" is everything."""

    which: ProfileChoice
    file: str
    db: str = field(default="", repr=False)
    to: str = ""


def parse_export(argv: Sequence[str]) -> ExportOptions:
    """Read `export FILE [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(EXPORT_COMMAND, argv)
    if len(words) != 1 or not words[0]:
        raise UsageError(
            "export needs one FILE to write, for example: p2pchat export /media/stick/chat.p2p (- is stdout)"
        )
    to = given["conversation"] or ""
    return ExportOptions(which_peer(given, typed), words[0], database_of(given, typed), "" if to == "all" else to)


def run_export(argv: Sequence[str]) -> int:
    """Write the file of one profile."""
    options = parse_export(argv)
    if options.file == STDOUT and sys.stdout.isatty():
        raise UsageError("this would write a file onto the terminal: name a FILE, or send it into a pipe or file")
    directory = find_profile(options.which).expanduser().absolute()
    row = asyncio.run(_export(options, directory))
    what = f"{row['entries']:,} entries of {_conversations(row['conversations'])}"
    said = f"{what}, {size(row['size_bytes'])}: readable text, for whoever has the file"
    if options.file == STDOUT:
        print_notice(f"-- {said}")
    else:
        print(f"{options.file}: {said}")
    return DONE


async def _export(options: ExportOptions, directory: Path) -> EventLine:
    try:
        return await _read(options, directory)
    except StorageError:  # a peer may keep its history elsewhere, or in memory
        row = None if options.file == STDOUT else await _request_export(options, directory)
        if row is None:
            raise
        return row


async def _read(options: ExportOptions, directory: Path) -> EventLine:
    with Progress() as progress:
        async with open_history(directory, db=options.db or None) as history:
            to = sys.stdout.buffer if options.file == STDOUT else options.file
            exported = await history.export(to, options.to or None, progress=progress.entries)
    return asdict(exported)


async def _request_export(options: ExportOptions, directory: Path) -> EventLine | None:
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


# ---- import
#
# `p2pchat import FILE`: taken in by the peer that runs, or by the profile itself when none does.


STDIN = "-"
REFUSAL_REASONS = {
    "gap": "what comes before is neither here nor in the file: import the file that has it, or a newer one",
    "head": "not as their writer signed it: changed or damaged",
    "malformed": "not as a message has to be",
    "limit": "above a limit",
    "full": "their writer has too many logs at once",
    "fork": "their writer said two things under one number",
    "member": "their writer does not belong there",
}


@dataclass(slots=True)
class ImportOptions:
    """`p2pchat import FILE`."""

    which: ProfileChoice
    file: str
    db: str = field(default="", repr=False)
    as_json: bool = False


def parse_import(argv: Sequence[str]) -> ImportOptions:
    """Read `import FILE [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(IMPORT_COMMAND, argv)
    if len(words) != 1 or not words[0]:
        raise UsageError(
            "import needs one FILE to read, for example: p2pchat import /media/stick/chat.p2p (- is stdin)"
        )
    db = database_of(given, typed)
    if db.startswith("memory:"):
        raise UsageError(
            "memory:// would be gone with this command: leave --db out, or start the peer and import beside it"
        )
    return ImportOptions(which_peer(given, typed), words[0], db, given["as_json"])


def run_import(argv: Sequence[str]) -> int:
    """Take a file into one profile; return the exit code."""
    options = parse_import(argv)
    if options.file == STDIN and stdin_kind() is not InputKind.PIPED:
        raise UsageError("there is no input to import: name a FILE, or send one through a pipe")
    directory = find_profile(options.which).expanduser().absolute()
    return run_until_signal(_import(options, directory), terminated=lambda: FAILED)


async def _import(options: ImportOptions, directory: Path) -> int:
    row = await _request_import(options, directory)
    if row is None:
        row = await _import_offline(options, directory)
    return _report(row, options)


async def _request_import(options: ImportOptions, directory: Path) -> EventLine | None:
    """Have the running peer do it; None when none runs there."""
    control = await connect(directory)
    if control is None:
        return None
    try:
        async with _file(options.file, directory) as path:
            [row] = await control.ask("import", path=str(path))
        return row
    finally:
        await control.aclose()


@asynccontextmanager
async def _file(name: str, directory: Path) -> AsyncIterator[Path]:
    """Yield the path of the file; standard input is put into one, for another process has to read it."""
    if name != STDIN:
        yield Path(name).absolute()
        return
    fd, path = tempfile.mkstemp(prefix=".import-", dir=directory)  # 0600
    try:
        await _copy_stdin(fd)
        yield Path(path)
    finally:
        Path(path).unlink()


async def _copy_stdin(fd: int) -> None:
    """Put standard input, which may never end, into a file; whoever is told to stop does not wait for its end.

    Raises:
        Failure: The disk does not take it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[OSError | None] = loop.create_future()

    def settle(error: OSError | None) -> None:
        if not done.done():
            done.set_result(error)

    def copy() -> None:
        error = None
        try:
            with open(fd, "wb", buffering=0) as file:
                shutil.copyfileobj(raw_stdin(), file)
        except OSError as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=copy, name="stdin", daemon=True).start()
    error = await done
    if error is not None:
        raise CommandError(f"cannot keep what is to be imported beside the profile: {error.strerror or error}")


async def _import_offline(options: ImportOptions, directory: Path) -> EventLine:
    source = raw_stdin() if options.file == STDIN else options.file
    try:
        with Progress() as progress:
            done = await import_into(directory, source, db=options.db or None, progress=progress.entries)
    except DataLocked as locked:
        raise profile_in_use(directory, locked) from None
    return asdict(done)


def _report(row: EventLine, options: ImportOptions) -> int:
    refused, unreadable, problem = row["refused"], row["unreadable"], row["problem"]
    if options.as_json:
        print(json_line(row), flush=True)
    else:
        parts = [f"{row['new']:,} new", f"{row['known']:,} here already"]
        if row["foreign"]:
            parts.append(f"{row['foreign']:,} in conversations of others")
        print(f"{options.file}: {', '.join(parts)}", flush=True)
    for code, count in refused.items():
        print_error(f"{count:,} entries refused: {REFUSAL_REASONS.get(code, code)}")
    if unreadable:
        print_error(f"parts of the file that cannot be read: {unreadable:,}")
    if problem:
        print_error(f"the file: {problem}; what came whole is imported")
    return FAILED if refused or unreadable or problem else DONE


# ---- backup
#
# `p2pchat backup DIR`: a copy of a whole peer, made beside it while it runs.


@dataclass(slots=True)
class BackupOptions:
    """`p2pchat backup DIR`."""

    which: ProfileChoice
    to: str
    db: str = field(default="", repr=False)


def parse_backup(argv: Sequence[str]) -> BackupOptions:
    """Read `backup DIR [options]`; a database this version cannot copy is told by who copies.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(BACKUP_COMMAND, argv)
    if len(words) != 1 or not words[0]:
        raise UsageError("backup needs one DIR to make, for example: p2pchat backup ~/backup/chat")
    return BackupOptions(which_peer(given, typed), words[0], database_of(given, typed))


def run_backup(argv: Sequence[str]) -> int:
    """Copy one profile."""
    options = parse_backup(argv)
    directory = find_profile(options.which).expanduser().absolute()
    backup = asyncio.run(_copy(options, directory))
    port = directory.name if directory.name.isdecimal() else "PORT"
    print(f"{backup.directory}: key, network and history, {size(backup.size_bytes)}")
    print(f"    {command(port, '--data', str(backup.directory))}", flush=True)
    print_notice(
        "-- this runs it, instead of the original and never beside it. Whoever has this directory can be this user"
    )
    return DONE


async def _copy(options: BackupOptions, directory: Path) -> Backup:
    with Progress() as progress:
        return await backup_profile(directory, options.to, db=options.db or None, progress=progress.bytes)


# ---- db
#
# `p2pchat db copy FROM TO`: all that is stored, in another database.


VARIABLE = "P2PCHAT_DB"
FROM_VARIABLE = "-"


@dataclass(slots=True)
class CopyOptions:
    """`p2pchat db copy FROM TO`."""

    source: str = field(repr=False)
    target: str = field(repr=False)
    as_json: bool = False


def parse_db(argv: Sequence[str]) -> CopyOptions:
    """Read `db copy FROM TO [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, _ = parse_words(DB_COMMAND, argv)
    if len(words) != 3 or words[0] != "copy" or not all(words):
        raise UsageError("db copies: p2pchat db copy FROM TO, each a database URL or a data directory")
    if words.count(FROM_VARIABLE) > 1:
        raise UsageError(f"- is the URL in {VARIABLE}: FROM and TO cannot both be it")
    if any(map(has_password, words[1:])):
        print_error(PASSWORD_VISIBLE)
    return CopyOptions(_place(words[1]), _place(words[2]), given["as_json"])


def _place(word: str) -> str:
    url = os.environ.get(VARIABLE, "") if word == FROM_VARIABLE else word
    if not url:
        raise UsageError(f"- is the URL in {VARIABLE}, which is not set")
    return database_url(url)


def run_db(argv: Sequence[str]) -> int:
    """Copy, and say what was copied."""
    options = parse_db(argv)
    done = asyncio.run(_copy_database(options))
    if options.as_json:
        print(json_line(asdict(done)), flush=True)
    else:
        print(f"copied and compared: {done.entries:,} entries, {done.rows:,} rows in all", flush=True)
        print_notice("-- start the peer with the new database from now on (--db or P2PCHAT_DB), and never with both")
    return DONE


async def _copy_database(options: CopyOptions) -> Copied:
    with Progress() as progress:
        return await copy_database(options.source, options.target, progress=progress.rows)
