"""The command `p2pchat get`: fetch the files of a message, and save them.

A running peer fetches and saves them; otherwise this command runs the peer meanwhile. Whatever has come of a file stays
in the profile, however the command ends, so the same command continues there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from p2pchat.cli import options as cli
from p2pchat.cli.control_client import ControlClient, connect_or_run
from p2pchat.cli.control_protocol import MAX_TIMEOUT
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.profiles import find_profile
from p2pchat.cli.streams import Progress
from p2pchat.commands.event_text import EventLine, file_label, format_size
from p2pchat.commands.exit_codes import DONE, KEPT, CommandError, UsageError, print_notice
from p2pchat.commands.file_fetches import how_far
from p2pchat.commands.output import json_line
from p2pchat.safe_text import safe_line

STREAM = "-"  # standard output

EPILOG = """\
\b
Examples:
  p2pchat history bob --json | jq -r 'select(.files) | .id' | tail -n 1
  p2pchat get BVMRTKYYVIBVX456ELKXGTEOBNWGV3G7HDRQAPQ.2
  p2pchat get BVMRTKYYVIBVX456ELKXGTEOBNWGV3G7HDRQAPQ.2 --number 1 --output - | tar tz
  p2pchat get BVMRTKYYVIBVX456ELKXGTEOBNWGV3G7HDRQAPQ.2 --output ~/Downloads --timeout 60

Exit codes: 0 all of it is saved; 3 not in time, and the same command again goes on where it stood; 4 there is no such \
message here; 1 it cannot be saved; 2 usage, a message without files.
"""


@dataclass(slots=True)
class GetOptions:
    """Options of `p2pchat get`: the files to fetch, and their place. `number` 0: all files of the message."""

    profile: cli.ProfileChoice
    message_id: str
    number: int
    output: str
    timeout: float | None
    db: str
    as_json: bool


@click.command("get", cls=cli.Command, epilog=EPILOG)
@click.argument("message_id", metavar="MESSAGE-ID")
@cli.profile_options
@cli.db_option
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
    options = GetOptions(**values)
    if options.output == STREAM and sys.stdout.isatty():
        raise UsageError("this would write a file onto the terminal: name a PATH, or send it into a pipe or file")
    if options.output == STREAM and options.as_json:
        raise UsageError("--json writes events on standard output: name a PATH for the file")
    directory = find_profile(options.profile)
    return run_until_signal(GetRun(options).run(directory), terminated=lambda: KEPT)


class GetRun:
    """One run of the command."""

    def __init__(self, options: GetOptions) -> None:
        self._options = options
        self._progress = Progress()

    async def run(self, directory: Path) -> int:
        """Return the exit code."""
        options = self._options
        async with connect_or_run(directory, port=options.profile.port, db=options.db) as control:
            files = await self._files(control)
            number = 0
            following = asyncio.create_task(self._follow(control))
            try:
                limit = None if options.timeout is None else min(options.timeout, MAX_TIMEOUT)
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
        options = self._options
        rows = await control.ask("files", id=options.message_id)
        count = len(rows)
        if not count:
            raise UsageError("this message has no files")
        if options.number > count:
            raise UsageError(f"this message has {count} file{'' if count == 1 else 's'}: --number 1 to {count}")
        await control.ask("tail", to=rows[0]["conversation_id"], last=0)  # for the progress
        numbers = [options.number] if options.number else list(range(1, count + 1))
        if len(numbers) > 1 and options.output != STREAM and not Path(options.output).is_dir():
            raise UsageError(f"this message has {count} files: name a directory, or choose one with --number")
        if len(numbers) > 1 and options.output == STREAM:
            raise UsageError(f"this message has {count} files: choose one with --number")
        return numbers

    async def _get(self, control: ControlClient, directory: Path, number: int) -> None:
        """Save one file, and tell of it."""
        options = self._options
        with _target(options.output, directory) as path:
            with self._progress:
                [row] = await control.ask("get", id=options.message_id, number=number, path=str(path))
            if options.output == STREAM:
                await asyncio.to_thread(_copy_to_stdout, path)
        if options.as_json:
            copied = ("id", "conversation_id", "name", "size", "root", "number", "path")
            print(json_line({"event": "file_saved", **{name: row[name] for name in copied}}), flush=True)
        elif options.output != STREAM:
            print(f"{safe_line(row['path'])}: {format_size(row['size'])}", flush=True)

    async def _follow(self, control: ControlClient) -> None:
        """Show how much has come, until the connection ends."""
        while (line := await control.next_line()) is not None:
            if line["event"] == "file_progress" and line["id"] == self._options.message_id:
                if self._options.as_json:
                    print(json_line(line), flush=True)
                self._progress.show(_far(line))

    async def _stop(self, control: ControlClient, number: int) -> None:
        """Have the peer fetch no more of it, so that nothing is saved later."""
        with suppress(CommandError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await control.ask("get", id=self._options.message_id, number=number, stop=True)


STOP_TIMEOUT = 5.0  # seconds for the peer to answer


def _far(line: EventLine) -> str:
    return f"-- {file_label(line['name'])}: {how_far(line['stored'], line['size'])}"


@contextmanager
def _target(output: str, directory: Path) -> Iterator[Path]:
    """Yield the path that the peer writes; for standard output one beside the profile, which is removed at the end."""
    if output != STREAM:
        yield Path(os.path.abspath(os.path.expanduser(output)))
        return
    with tempfile.TemporaryDirectory(prefix=".get-", dir=directory, ignore_cleanup_errors=True) as temporary:  # 0700
        yield Path(temporary) / "file"


def _copy_to_stdout(path: Path) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
