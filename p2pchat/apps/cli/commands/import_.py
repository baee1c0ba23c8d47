"""`p2pchat import FILE`: taken in by the peer that runs, or by the profile itself when none does."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from p2pchat import DataLocked, import_into
from p2pchat.apps.cli.control.reach import answers_nobody
from p2pchat.apps.cli.control.signals import run_until_signal
from p2pchat.apps.cli.profiles import find_profile
from p2pchat.apps.cli.registry.import_ import COMMAND
from p2pchat.cli.control_client import connect
from p2pchat.cli.options import WhichPeer, database_of, parse_words, which_peer
from p2pchat.cli.progress import Progress
from p2pchat.cli.stdin import Kind, kind_of_stdin, raw_stdin
from p2pchat.commands.errors import DONE, FAILED, Failure, Usage, complain
from p2pchat.commands.output import Line, json_line

STDIN = "-"
WHY = {
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

    which: WhichPeer
    file: str
    db: str = field(default="", repr=False)
    as_json: bool = False


def parse_import(argv: Sequence[str]) -> ImportOptions:
    """Read `import FILE [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(COMMAND, argv)
    if len(words) != 1 or not words[0]:
        raise Usage("import needs one FILE to read, for example: p2pchat import /media/stick/chat.p2p (- is stdin)")
    db = database_of(given, typed)
    if db.startswith("memory:"):
        raise Usage("memory:// would be gone with this command: leave --db out, or start the peer and import beside it")
    return ImportOptions(which_peer(given, typed), words[0], db, given["as_json"])


def run_import(argv: Sequence[str]) -> int:
    """Take a file into one profile; return the exit code."""
    options = parse_import(argv)
    if options.file == STDIN and kind_of_stdin() is not Kind.PIPED:
        raise Usage("there is no input to import: name a FILE, or send one through a pipe")
    directory = find_profile(options.which).expanduser().absolute()
    return run_until_signal(_import(options, directory), terminated=lambda: FAILED)


async def _import(options: ImportOptions, directory: Path) -> int:
    row = await _ask(options, directory)
    if row is None:
        row = await _alone(options, directory)
    return _report(row, options)


async def _ask(options: ImportOptions, directory: Path) -> Line | None:
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
        raise Failure(f"cannot keep what is to be imported beside the profile: {error.strerror or error}")


async def _alone(options: ImportOptions, directory: Path) -> Line:
    source = raw_stdin() if options.file == STDIN else options.file
    try:
        with Progress() as progress:
            done = await import_into(directory, source, db=options.db or None, progress=progress.entries)
    except DataLocked as locked:
        raise answers_nobody(directory, locked) from None
    return asdict(done)


def _report(row: Line, options: ImportOptions) -> int:
    refused, unreadable, problem = row["refused"], row["unreadable"], row["problem"]
    if options.as_json:
        print(json_line(row), flush=True)
    else:
        parts = [f"{row['new']:,} new", f"{row['known']:,} here already"]
        if row["foreign"]:
            parts.append(f"{row['foreign']:,} in conversations of others")
        print(f"{options.file}: {', '.join(parts)}", flush=True)
    for code, count in refused.items():
        complain(f"{count:,} entries refused: {WHY.get(code, code)}")
    if unreadable:
        complain(f"parts of the file that cannot be read: {unreadable:,}")
    if problem:
        complain(f"the file: {problem}; what came whole is imported")
    return FAILED if refused or unreadable or problem else DONE
