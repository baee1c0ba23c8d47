"""The commands `p2pchat files`, which shows what takes space here and removes some, `forget-file`, and `get`."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from p2pchat.cli import options as cli
from p2pchat.cli.control_client import ControlClient, ask_profile, connect_or_run
from p2pchat.cli.control_protocol import MAX_TIMEOUT
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.profiles import beside_profile, find_profile
from p2pchat.cli.standard_input import Progress, can_ask, confirm
from p2pchat.commands.event_text import EventLine, file_label, format_size
from p2pchat.commands.exit_codes import DONE, FAILED, KEPT, CommandError, UsageError, print_notice
from p2pchat.commands.file_fetches import how_far
from p2pchat.commands.standard_output import STREAM, check_output, open_output, print_json
from p2pchat.safe_text import quote_name, safe_line
from p2pchat.threads import in_thread

MAX_DAYS = 36_500
UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4,
         "ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}  # fmt: skip


def parse_size(text: str) -> int:
    """Return a number of bytes: 500MB, 2GiB, 0. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?) ?([kmgt]i?)?b?", text.strip().casefold())
    if found is None:
        raise ValueError(f"{text!r} is not a size: write 500MB, 2GB, or a number of bytes")
    return int(float(found[1]) * UNITS[found[2] or ""])


FILES_EPILOG = """\
\b
Examples:
  p2pchat files
  p2pchat files --older-than 90
  p2pchat files --keep 2GB --yes --port 8080
  p2pchat files --json | jq -s '.[1:] | map(.size_bytes) | add'

It removes here only: the messages stay, others keep their files, and what was removed comes again when you ask for it \
(/get, p2pchat get), as long as somebody has it. With --yes, files stay that nobody else is known to have; --force \
removes them too.

Exit codes: 0 it is done; 1 you said no, or it could not be done.
"""


@dataclass
class FilesOptions:
    """Options of the command. `older_than` days; None for any age. `keep` bytes; None for no limit."""

    profile: cli.ProfileChoice
    db: str = field(repr=False)
    older_than: int | None
    keep: int | None
    yes: bool
    force: bool
    as_json: bool

    @property
    def removes(self) -> bool:
        return self.older_than is not None or self.keep is not None

    def fields(self, now: datetime) -> dict[str, Any]:
        """Return the fields of the request."""
        found: dict[str, Any] = {} if self.keep is None else {"keep": self.keep}
        if self.older_than is not None:
            found["before"] = (now - timedelta(days=self.older_than)).isoformat()
        return found


@cli.subcommand("files", FILES_EPILOG)
@cli.stored_options
@cli.option(
    "--older-than", "DAYS", "remove files that nobody has sent here for so many days", type=cli.number(0, MAX_DAYS)
)
@cli.option(
    "--keep",
    "SIZE",
    "remove the oldest files until the rest takes at most SIZE: 500MB, 2GB, 0",
    type=cli.ParsedType("size", parse_size),
)
@cli.yes_option
@cli.option("--force", "", "remove files too that nobody else is known to have, and do not ask")
@cli.json_option
def files(**values: Any) -> int:
    """Show which files take space here, the largest first; with --older-than or --keep, remove some.

    With both, what is older goes until the rest fits. A file larger than SIZE goes before any older one. Works
    beside a running peer, and on a profile at rest.
    """
    options = FilesOptions(**values)
    options.yes |= options.force
    directory = find_profile(options.profile)
    if options.removes and not options.yes and not can_ask():
        raise UsageError("this removes files, and nobody can be asked here: add --yes")
    return run_until_signal(_files(directory, options))


async def _files(directory: Path, options: FilesOptions) -> int:
    fields, force = options.fields(datetime.now(UTC)), options.force
    if not options.removes or not options.yes:
        rows = await ask_profile(directory, options.db, "stored_files", **fields)
        if not options.removes:
            _print(rows, options.as_json)
            return DONE
        if not rows[0]["files"]:
            print_notice("-- no file is to go")
            return DONE
        if not await confirm(_question(rows[0])):
            print_notice("-- nothing was removed")
            return FAILED
        force = True
    [gone] = await ask_profile(directory, options.db, "forget_files", force=force, **fields)
    _print_removed([gone], options.as_json)
    return DONE


def _question(sums: EventLine) -> str:
    lost = f" Nobody else is known to have {sums['only_here']:,} of them." if sums["only_here"] else ""
    return f"remove {_count(sums)} from this disk? The messages stay, and others keep their files.{lost}"


def _count(sums: EventLine) -> str:
    count = sums["files"]
    return f"{'1 file' if count == 1 else f'{count:,} files'}, {format_size(sums['size_bytes'])}"


def _print(rows: list[EventLine], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row)
        return
    sums, shown = rows[0], rows[1:]
    for row in shown:
        print(_line(row))
    if not sums["files"]:
        print("no files take space here")
    elif sums["files"] > len(shown):
        print(f"… and {sums['files'] - len(shown):,} smaller ones: {_count(sums)} in all")
    else:
        print(f"{_count(sums)} in all")


def _line(row: EventLine) -> str:
    """Return the line of one file: size, root, name, and where it came from last."""
    name = file_label(row["name"]) if row["name"] else "(not shown yet)"
    notes = []
    if "sender" in row:
        notes.append(f"{quote_name(row['sender'])} in {_place(row)}, {row['came_at'][:10]}")
    if row["messages"] > 1:
        notes.append(f"{row['messages']:,} messages")
    if not row["here"]:
        notes.append("a part of it")
    elif not row["held_by"]:
        notes.append("nobody else is known to have it")
    about = f" ({'; '.join(notes)})" if notes else ""
    return f"{format_size(row['size_bytes']):>9}  {row['root'][:12]}  {name}{about}"


def _place(row: EventLine) -> str:
    return "the room" if row["kind"] == "room" else quote_name(row["conversation"])


def _print_removed(rows: list[EventLine], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print(f"removed {_count(rows[0])}; others keep theirs")
        if kept := rows[0].get("kept"):
            what, them = ("1 file stays", "it") if kept == 1 else (f"{kept:,} files stay", "them")
            print_notice(f"-- {what} that nobody else is known to have: --force removes {them} too")


FORGET_EPILOG = """\
\b
Examples:
  p2pchat forget-file 3f9a2c81d04e
  p2pchat forget-file "$ID" --port 8080

The message stays, and others keep the file. It comes again when you ask for it (/get, p2pchat get), not by itself. \
What nobody else is known to have goes with --force only.

Exit codes: 0 it is gone from this disk; 1 it could not be removed; 2 there is no such file or message.
"""


@cli.subcommand("forget-file", FORGET_EPILOG)
@click.argument("what", metavar="ROOT|MESSAGE-ID")
@cli.stored_options
@cli.option("--force", "", "remove it too if nobody else is known to have it")
@cli.json_option
def forget_file(profile: cli.ProfileChoice, what: str, db: str, force: bool, as_json: bool) -> int:
    """Remove a file from this disk: by its root, or the first digits of that, which p2pchat files shows.

    With the id of a message, all files of that message go.
    """
    directory = find_profile(profile)
    return run_until_signal(_forget_file(directory, db, what, force, as_json))


async def _forget_file(directory: Path, db: str, what: str, force: bool, as_json: bool) -> int:
    _print_removed(await ask_profile(directory, db, "forget_file", what=what, force=force), as_json)
    return DONE


# ---- p2pchat get
#
# A running peer fetches and saves the files; otherwise this command runs the peer. Whatever has come of a file stays in
# the profile, however the command ends, so the same command continues there.

EPILOG = """\
\b
Examples:
  ID=$(p2pchat history bob --json | jq -r 'select(.files) | .id' | tail -n 1)
  p2pchat get "$ID"
  p2pchat get "$ID" --number 1 --output - | tar tz
  p2pchat get "$ID" --output ~/Downloads --timeout 60

Exit codes: 0 all of it is saved; 3 not in time, and the same command again goes on where it stood; 4 there is no such \
message here; 1 it cannot be saved; 2 usage, a message without files.
"""


@cli.subcommand("get", EPILOG)
@click.argument("message_id", metavar="MESSAGE-ID")
@cli.stored_options
@cli.option(
    "--output",
    "PATH",
    "a file, a directory, or - for standard output (default: here, under their names)",
    default=".",
    shell_complete=cli.complete_file,
)
@cli.option("--number", "N", "only this file of the message, from 1", type=cli.number(1, 10), default=0)
@cli.option("--timeout", "SECONDS", "how long to wait at most (default: as long as it takes)", type=cli.SECONDS)
@cli.json_option
def get(**values: Any) -> int:
    """Fetch the files of a message, and save them.

    MESSAGE-ID is the id in event lines, as of `p2pchat history --json`. This waits until somebody who has the files is
    here. In a directory a file gets a harmless name, and a number when that is taken; PATH of a file is replaced.
    """
    run = GetRun(**values)
    check_output(run.output, "PATH")
    if run.output == STREAM and run.as_json:
        raise UsageError("--json writes events on standard output: name a PATH for the file")
    return run_until_signal(run.run(find_profile(run.profile)), terminated=lambda: KEPT)


@dataclass
class GetRun:
    """One run of `p2pchat get`. The fields are the options: `number` 0 means all files of the message."""

    profile: cli.ProfileChoice
    message_id: str
    number: int
    output: str
    timeout: float | None
    db: str = field(repr=False)
    as_json: bool

    def __post_init__(self) -> None:
        self._progress = Progress()

    async def run(self, directory: Path) -> int:
        """Return the exit code."""
        async with connect_or_run(directory, port=self.profile.port, db=self.db) as control:
            files = await self._files(control)
            number = 0
            following = asyncio.create_task(self._follow(control))
            try:
                limit = None if self.timeout is None else min(self.timeout, MAX_TIMEOUT)
                async with asyncio.timeout(limit):
                    for number in files:
                        await self._get(control, directory, number)
            except TimeoutError:
                await self._stop(control, number)
                print_notice("p2pchat: not all of it is here yet; what has come stays, and getting it again goes on")
                return KEPT
            except asyncio.CancelledError:
                await asyncio.shield(self._stop(control, number))
                raise
            finally:
                following.cancel()
        return DONE

    async def _files(self, control: ControlClient) -> list[int]:
        """Return the numbers of the files that are meant."""
        rows = await control.ask("files", id=self.message_id)
        count = len(rows)
        if not count:
            raise UsageError("this message has no files")
        if self.number > count:
            raise UsageError(f"this message has {count} file{'' if count == 1 else 's'}: --number 1 to {count}")
        await control.ask("tail", to=rows[0]["conversation_id"], last=0)  # for the progress
        numbers = [self.number] if self.number else list(range(1, count + 1))
        if len(numbers) > 1 and self.output != STREAM and not Path(self.output).is_dir():
            raise UsageError(f"this message has {count} files: name a directory, or choose one with --number")
        if len(numbers) > 1 and self.output == STREAM:
            raise UsageError(f"this message has {count} files: choose one with --number")
        return numbers

    async def _get(self, control: ControlClient, directory: Path, number: int) -> None:
        """Save one file, and tell of it."""
        is_written_here = _is_written_here(self.output)
        with beside_profile(directory) if is_written_here else nullcontext() as aside:
            path = _path(self.output) if aside is None else Path(aside, "file")
            with self._progress:
                [row] = await control.ask("get", id=self.message_id, number=number, path=str(path))
            if is_written_here:
                await in_thread(_copy, path, self.output)
        if self.as_json:
            copied = ("id", "conversation_id", "name", "size", "root", "number", "path")
            print_json({"event": "file_saved", **{name: row[name] for name in copied}})
        elif not is_written_here:
            print(f"{safe_line(row['path'])}: {format_size(row['size'])}", flush=True)

    async def _follow(self, control: ControlClient) -> None:
        """Show how much has come, until the connection ends."""
        while (line := await control.next_line()) is not None:
            if line["event"] == "file_progress" and line["id"] == self.message_id:
                if self.as_json:
                    print_json(line)
                self._progress.show(_far(line))

    async def _stop(self, control: ControlClient, number: int) -> None:
        """Have the peer fetch no more of it, so that nothing is saved later."""
        with suppress(CommandError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await control.ask("get", id=self.message_id, number=number, stop=True)


STOP_TIMEOUT = 5.0  # seconds for the peer to answer


def _far(line: EventLine) -> str:
    return f"-- {file_label(line['name'])}: {how_far(line['stored'], line['size'])}"


def _path(output: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(output)))


def _is_written_here(output: str) -> bool:
    """Return whether this process writes the file: a stream, device or pipe may be another one for that of the peer."""
    to = _path(output)
    is_special = to.exists() and not (to.is_file() or to.is_dir())
    return output == STREAM or is_special or output.startswith(("/dev/std", "/dev/fd/", "/proc/"))


def _copy(path: Path, output: str) -> None:
    is_stream = output == STREAM
    try:
        descriptor = sys.stdout.fileno() if is_stream else open_output(os.path.expanduser(output))
        with path.open("rb") as file, open(descriptor, "wb", closefd=not is_stream) as to:
            shutil.copyfileobj(file, to)
    except OSError as error:
        raise CommandError(f"cannot write {safe_line(output)}: {error.strerror or error}") from None
