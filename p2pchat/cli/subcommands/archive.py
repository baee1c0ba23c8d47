"""The commands that carry a profile elsewhere: `export`, `import`, `backup` and `db copy`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import click

from p2pchat import (
    DataLocked,
    StorageError,
    backup_profile,
    copy_database,
    import_into,
    inspect_profile,
    open_history,
    read_login_network,
)
from p2pchat.cli import options as cli
from p2pchat.cli.control_client import ask_running_peer, connect, profile_in_use
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.profiles import beside_profile, complete_conversation, find_profile, key_commands, port_of
from p2pchat.cli.standard_input import InputKind, Progress, copy_stdin, raw_stdin, stdin_kind
from p2pchat.commands.event_text import EventLine, format_size
from p2pchat.commands.exit_codes import DONE, FAILED, UsageError, print_error, print_notice
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import STREAM, check_output, print_json

FROM_VARIABLE = "-"  # as a database: the URL in this variable
VARIABLE = "P2PCHAT_DB"
REFUSAL_REASONS = {
    "early": "what comes before is neither here nor in the file: import the file that has it, or a newer one",
    "head": "not as their writer signed it: changed or damaged",
    "malformed": "not a valid message",
    "limit": "above a limit",
    "full": "their writer has too many logs at once",
    "fork": "their writer signed two entries with one number",
    "member": "their writer is no member",
}


# ---- export

EXPORT_EPILOG = """\
\b
Examples:
  p2pchat export /media/stick/chat.p2p
  p2pchat export --conversation room room.p2p
  p2pchat export - --port 8080 | gzip > chat.p2p.gz
"""


@cli.subcommand("export", EXPORT_EPILOG)
@click.argument("file", shell_complete=cli.complete_file)
@cli.stored_options
@cli.option(
    "--conversation to", "TO", "only this one: room, bob, #ops (default: all)", shell_complete=complete_conversation
)
@click.option("--no-files", is_flag=True, help="Leave out the content of files.")
def export(profile: cli.ProfileChoice, file: str, db: str, to: str | None, no_files: bool) -> int:
    """Write what is stored here, the room, groups and direct conversations, into a file that other peers can import.

    A USB stick delivers too. The file holds messages of all their writers as readable text: anyone who has it can read
    it, and nobody can change it unnoticed. It begins with who was admitted and expelled. Attached files that are
    complete here are included. FILE - is standard output. A running peer may go on meanwhile.
    """
    check_output(file, "FILE")
    to = None if to == "all" else to
    row = asyncio.run(_export(find_profile(profile), file, to, db, files=not no_files))
    conversations = "1 conversation" if row["conversations"] == 1 else f"{row['conversations']:,} conversations"
    files = f", {_count_files(row['files'])}" if row["files"] else ""
    what = f"{row['entries']:,} entries of {conversations}{files}, {format_size(row['size_bytes'])}"
    text = f"{what}: readable text for anyone who has the file"
    if file == STREAM:
        print_notice(f"-- {text}")
    else:
        print(f"{file}: {text}")
    return DONE


def _count_files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


async def _export(directory: Path, file: str, to: str | None, db: str, *, files: bool) -> EventLine:
    try:
        with Progress() as progress:
            async with open_history(directory, db=db or None) as history:
                target = sys.stdout.buffer if file == STREAM else file
                return asdict(await history.export(target, to, files=files, progress=progress.entries))
    except StorageError:  # a running peer may keep its history elsewhere, or in memory
        if file == STREAM:
            raise
        address = {"to": to} if to else {}
        rows = await ask_running_peer(directory, "export", path=str(Path(file).absolute()), files=files, **address)
        if rows is None:
            raise
        return rows[0]


# ---- import

IMPORT_EPILOG = """\
\b
Examples:
  p2pchat import /media/stick/chat.p2p
  gunzip -c chat.p2p.gz | p2pchat import - --port 8080

Exit codes: 0 all of it was imported, or was here, or is not for this user; 1 the file is not an export, or of another \
network, or damaged: what is whole is imported all the same, and what is missing is reported.
"""


@cli.subcommand("import", IMPORT_EPILOG)
@click.argument("file", shell_complete=cli.complete_file)
@cli.stored_options
@click.option("--no-files", is_flag=True, help="Leave out the content of files.")
@cli.json_option
def import_(profile: cli.ProfileChoice, file: str, db: str, as_json: bool, no_files: bool) -> int:
    """Import a file that `p2pchat export` wrote, here or on another machine of this network.

    Every message is checked as if it came over a link; messages that were here already are only counted. So is what
    the founder and the admins said of members, which comes first. An open chat imports and shows them; otherwise others
    get them at the next start. FILE - is standard input.
    """
    if db.startswith("memory:"):
        raise UsageError(
            "memory:// would be gone with this command: leave --db out, or start the peer and import beside it"
        )
    if file == STREAM and stdin_kind() is not InputKind.PIPED:
        raise UsageError("there is no input to import: name a FILE, or send one through a pipe")
    return run_until_signal(_import(find_profile(profile), file, db, as_json, files=not no_files))


async def _import(directory: Path, file: str, db: str, as_json: bool, *, files: bool) -> int:
    row = await _request_import(directory, file, files=files)
    if row is None:
        source = raw_stdin() if file == STREAM else file
        try:
            with Progress() as progress:
                row = asdict(
                    await import_into(directory, source, db=db or None, files=files, progress=progress.entries)
                )
        except DataLocked as locked:
            raise profile_in_use(directory, locked) from None
    return _report(row, file, as_json)


async def _request_import(directory: Path, file: str, *, files: bool) -> EventLine | None:
    """Have the running peer import the file; return None when none runs."""
    control = await connect(directory)
    if control is None:
        return None
    async with aclosing(control), _file(file, directory) as path:
        [row] = await control.ask("import", path=str(path), files=files)
    return row


@asynccontextmanager
async def _file(name: str, directory: Path) -> AsyncIterator[Path]:
    """Yield the path of the file. Standard input is copied into one, because another process has to read it."""
    if name != STREAM:
        yield Path(name).absolute()
        return
    with beside_profile(directory) as kept:
        path = Path(kept, "messages")
        await copy_stdin(path)
        yield path


def _report(row: EventLine, file: str, as_json: bool) -> int:
    refused, unreadable, problem, damaged = row["refused"], row["unreadable"], row["problem"], row["damaged_files"]
    if as_json:
        print_json(row)
    else:
        parts = [f"{row['new']:,} new", f"{row['known']:,} here already"]
        if row["foreign"]:
            parts.append(f"{row['foreign']:,} in conversations of others")
        if row["files"]:
            parts.append(_count_files(row["files"]))
        print(f"{file}: {', '.join(parts)}", flush=True)
    for code, count in refused.items():
        reason = REFUSAL_REASONS.get(code, code)
        print_error(f"1 entry refused: {reason}" if count == 1 else f"{count:,} entries refused: {reason}")
    if unreadable:
        print_error(f"parts of the file that cannot be read: {unreadable:,}")
    if damaged:
        print_error(f"files that are not what their messages name: {damaged:,}; members who have them still give them")
    if problem:
        print_error(f"the file: {problem}; what came whole is imported")
    return FAILED if refused or unreadable or problem or damaged else DONE


# ---- backup

BACKUP_EPILOG = """\
\b
Examples:
  p2pchat backup ~/backup/chat-2026-11-20
  p2pchat backup /media/stick/ada --port 8080
"""


@cli.subcommand("backup", BACKUP_EPILOG)
@click.argument("target", metavar="DIR", shell_complete=cli.complete_directory)
@cli.stored_options
@click.option("--no-files", is_flag=True, help="Leave out the files of messages; others who have them still give them.")
def backup(profile: cli.ProfileChoice, target: str, db: str, no_files: bool) -> int:
    """Copy a whole peer, with its key, its network, its history and its files, into DIR, also while it runs.

    DIR is made, for you only; one that is not empty is refused. `p2pchat PORT --data DIR` runs the copy, on this
    machine or another one. Never run both: two machines with one key take each other's links.
    """
    directory = find_profile(profile)
    found = read_login_network(directory)
    if found.role in ("founder", "member") and found.directory != directory:
        take, put = key_commands(directory)
        lacks = "it invites and expels nobody, and " if found.role == "founder" else ""
        print_notice(
            f"-- the {found.role}'s key will not be in it, without which {lacks}no other profile starts there:"
        )
        print_notice(f"-- copy that with {take}, and put it back there with {put}")
    with Progress() as progress:
        made = backup_profile(directory, target, db=db or None, files=not no_files, progress=progress.bytes)
        done = asyncio.run(made)
    copied = "key, network and history" if no_files else "key, network, history and files"
    print(f"{done.directory}: {copied}, {format_size(done.size_bytes)}")
    print(f"    {command(port_of(directory) or 'PORT', '--data', str(done.directory))}", flush=True)
    print_notice(
        "-- this runs the copy, instead of the original and never beside it. Anyone who has it can be this user"
    )
    return DONE


# ---- db copy

COPY_EPILOG = """\
\b
Examples:
  p2pchat db copy ~/.local/share/p2pchat/8080 postgresql://ada@localhost/chat
  P2PCHAT_DB=mariadb://ada:secret@db.example.org/chat p2pchat db copy - ~/chat-copy
"""


@click.group("db", cls=cli.CommandGroup, no_args_is_help=False, epilog=COPY_EPILOG)
def db() -> None:
    """Move what is stored to another database."""


@db.command("copy", epilog=COPY_EPILOG)
@click.argument("source", metavar="FROM", shell_complete=cli.complete_directory)
@click.argument("target", metavar="TO", shell_complete=cli.complete_directory)
@cli.json_option
def copy(source: str, target: str, as_json: bool) -> int:
    """Copy all that a peer has stored into another database, which must be empty, while no peer uses either.

    FROM and TO are database URLs (sqlite:///FILE, mysql://, mariadb:// or postgresql://USER@HOST/NAME), or data
    directories, whose own database is meant. Afterwards everything is there, compared and whole, or nothing is. Key and
    network stay in the data directory.

    Others on this machine can see a password on the command line: `-` is the URL in P2PCHAT_DB.
    """
    if source == target == FROM_VARIABLE:
        raise UsageError(f"- is the URL in {VARIABLE}: FROM and TO cannot both be it")
    if cli.has_password(source) or cli.has_password(target):
        cli.warn_visible("password", "P2PCHAT_DB")
    start = _start_with(source, target)
    source, target = _database(source), _database(target)
    with Progress() as progress:
        done = asyncio.run(copy_database(source, target, progress=progress.rows))
    if as_json:
        print_json(asdict(done))
    else:
        print(f"copied and compared: {done.entries:,} entries, {done.rows:,} rows in all", flush=True)
        print_notice(f"-- key and network stay where they are. Start the peer so, never with the old database: {start}")
    return DONE


def _start_with(source: str, target: str) -> str:
    """Return the command that starts the peer with its key and the new database; no password is in it."""
    data = "DIRECTORY" if source == FROM_VARIABLE or "://" in source else source
    if target == FROM_VARIABLE or cli.has_password(target):
        db = "URL"
    elif "://" in target:
        db = target
    else:
        db = f"sqlite:///{inspect_profile(target).database_path.as_posix()}"
    return command("PORT", "--data", data, "--db", db)


def _database(word: str) -> str:
    """Return the database that FROM or TO means."""
    url = os.environ.get(VARIABLE, "") if word == FROM_VARIABLE else word
    if not url:
        raise UsageError(f"- is the URL in {VARIABLE}, which is not set")
    return cli.check_database_url(url)
