"""The command `p2pchat send`: one message, with files if asked for, or each line of standard input.

What is longer than a message, or no text, goes as a file. Who writes and to whom is known before input is read: an
error ends the command at once, and with it the program that writes into the pipe, whose work nobody would get.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from p2pchat import MAX_FILES, Settings
from p2pchat.cli.control_client import ControlClient, PeerGone, connect_or_run
from p2pchat.cli.control_protocol import DEFAULT_TIMEOUT
from p2pchat.cli.options import (
    SECONDS,
    ProfileChoice,
    complete_file,
    option,
    stored_options,
    subcommand,
)
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.profiles import beside_profile, complete_conversation, find_profile
from p2pchat.cli.standard_input import InputKind, LineReader, Progress, copy_stdin, is_binary, raw_stdin, stdin_kind
from p2pchat.commands.exit_codes import (
    DONE,
    FAILED,
    KEPT,
    USAGE,
    CommandError,
    UsageError,
    line_exit_code,
    print_error,
    print_notice,
    worst_code,
)
from p2pchat.commands.file_fetches import how_far
from p2pchat.commands.json_commands import decode_line
from p2pchat.commands.standard_output import STREAM
from p2pchat.safe_text import quote_names

READ_BYTES = 64 * 1024  # above a message: what ends with so many empty lines is still one
EMPTY = "there is nothing to send: the text is empty"
LONG = f"longer than a message of {Settings.max_text_bytes:,} bytes"


EPILOG = """\
\b
Examples:
  p2pchat send bob "lunch?"
  make 2>&1 | p2pchat send bob
  tail -f app.log | p2pchat send room --lines
  p2pchat send bob "the plan" --file plan.pdf --file map.png --wait files --timeout 600
  tar cz notes | p2pchat send bob --file - --file-name notes.tar.gz
  p2pchat send bob --wait accepted -- "-5 degrees"

Exit codes: 0 it was delivered (or what --wait says); 3 it is saved, and will be delivered later; 4 no such name, or \
several; 1 it could not be sent; 2 usage, an empty text, a file that cannot be read.
"""


@dataclass
class SendOptions:
    """The messages to send. `text` None: standard input is the text, or with `lines` one text a line.

    `files` are paths of what is attached; the text may be "" then. One of them may be STREAM, and is then called
    `file_name`.
    """

    profile: ProfileChoice
    to: str
    text: str | None = field(repr=False)
    db: str = field(repr=False)
    lines: bool
    files: tuple[str, ...] = field(repr=False)
    file_name: str | None
    wait: str
    timeout: float

    @property
    def is_long(self) -> bool:
        """True if the text is longer than a message."""
        return len((self.text or "").encode("utf-8", "replace")) > Settings.max_text_bytes

    @property
    def takes_all(self) -> bool:
        """True if standard input is read to its end before anything is sent."""
        return STREAM in self.files or (self.text is None and not self.lines)


@subcommand("send", EPILOG)
@click.argument("to", shell_complete=complete_conversation)
@click.argument("text", nargs=-1)
@stored_options
@option("--lines", "", "each line of standard input is a message, sent as it comes")
@option(
    "--file files",
    "FILE",
    "attach a file, up to 10 times; - is standard input",
    multiple=True,
    shell_complete=complete_file,
    type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True),
)
@option("--file-name", "NAME", "what the file of standard input is called")
@option(
    "--wait",
    "WHAT",
    "accepted: safe on this disk; delivered (default): on theirs; files: its files too; read: their programs say so",
    type=click.Choice(["accepted", "delivered", "files", "read"]),
    default="delivered",
)
@option("--timeout", "SECONDS", "how long to wait at most (default 5)", type=SECONDS, default=DEFAULT_TIMEOUT)
def send(to: str, text: tuple[str, ...], **values: Any) -> int:
    """Send one message. TO is room, bob, or bob#K7QF2M3P.

    Without TEXT and --file all of standard input is the message, and nothing in it is a command. What is longer than a
    message, or no text, goes as a file. A running peer sends it; otherwise this command runs the peer meanwhile.
    """
    options = SendOptions(to=to, text=_from_shell(" ".join(text)) if text else None, **values)
    if options.text is not None and options.lines:
        raise UsageError("--lines reads standard input: leave the text out, or --lines")
    if options.files:
        _check_files(options)
    elif options.text is not None and not options.text.strip():
        raise UsageError(EMPTY)
    elif options.takes_all and stdin_kind() is InputKind.NONE:
        raise UsageError('there is no text and no input: p2pchat send TO "TEXT"')
    try:
        directory = find_profile(options.profile, acts=True)
        if options.takes_all or options.is_long:
            asyncio.run(_check_recipient(options, directory))
    except (CommandError, UsageError) as error:
        if options.takes_all:
            error.args = (f"{error}; nothing of the input was read",)
        raise
    sending = SendRun(options)
    return run_until_signal(sending.run(directory), terminated=lambda: KEPT if sending.handed_over else FAILED)


def _check_files(options: SendOptions) -> None:
    """Check a message with files, whose text may be empty."""
    if options.lines:
        raise UsageError("--lines reads standard input: leave --file out, or --lines")
    if STREAM in options.files:
        _check_stream(options)
    elif options.file_name is not None:
        raise UsageError(f"--file-name is for standard input: --file {STREAM} --file-name {options.file_name}")
    options.text = options.text or ""
    count = len(options.files) + options.is_long
    if count > MAX_FILES:
        with_text = " with the text, which is too long for a message" if options.is_long else ""
        raise UsageError(f"a message has at most {MAX_FILES} files, and these are {count}{with_text}")


def _check_stream(options: SendOptions) -> None:
    if options.files.count(STREAM) > 1:
        raise UsageError("there is one standard input: give --file - once")
    if not options.file_name:
        raise UsageError("a file needs a name: --file - --file-name NAME")
    if os.path.basename(options.file_name) != options.file_name or options.file_name in (".", ".."):
        raise UsageError("--file-name is a name, and no path")
    if stdin_kind() is not InputKind.PIPED:
        raise UsageError("there is no input to send as a file: name a FILE, or send one through a pipe")


def _from_shell(text: str) -> str:
    """Return the text of an argument, with bytes that are not UTF-8 replaced and warned of, as in a pipe."""
    if sys.platform == "win32":
        return text
    text, was_utf8 = decode_line(os.fsencode(text))
    if not was_utf8:
        print_error("warning: the text was not UTF-8: invalid bytes were replaced")
    return text


async def _check_recipient(options: SendOptions, directory: Path) -> None:
    """Raise an error, before anything is read, if a peer of this profile knows nobody of this name."""
    async with connect_or_run(directory, port=options.profile.port, db=options.db) as control:
        await control.ask("find", to=options.to)


@asynccontextmanager
async def _input_kept(options: SendOptions, directory: Path) -> AsyncIterator[None]:
    """Have standard input, or a text longer than a message, as a file beside the profile meanwhile."""
    if not options.takes_all and not options.is_long:
        yield
        return
    with beside_profile(directory) as kept:
        if options.is_long:
            path = Path(kept, "input.txt")
            path.write_bytes((options.text or "").encode("utf-8", "replace"))
            _attach(options, path, LONG)
        if options.takes_all:
            path = Path(kept, options.file_name or "input.txt")
            if stdin_kind() is InputKind.TERMINAL:
                print_notice("-- type the message; Ctrl-D on a line of its own ends it")
            await copy_stdin(path)
            if options.text is None:
                _take_text(options, path)
            options.files = tuple(str(path) if file == STREAM else file for file in options.files)
        yield


def _take_text(options: SendOptions, path: Path) -> None:
    """Take the text from the input that was kept; what is longer than a message, or no text, is attached instead."""
    with path.open("rb") as file:
        head, rest = file.read(Settings.max_text_bytes + READ_BYTES), file.read(1)
    options.text, was_utf8 = decode_line(head.rstrip(b"\r\n").replace(b"\r\n", b"\n"))
    if is_binary([head]):
        _attach(options, path.rename(path.with_suffix(".bin")), "no text")
    elif rest or options.is_long:
        _attach(options, path, LONG)
    elif not options.text.strip():
        raise UsageError(EMPTY)
    elif not was_utf8:
        print_error("warning: the input was not UTF-8: invalid bytes were replaced")


def _attach(options: SendOptions, path: Path, why: str) -> None:
    """Send a file in place of the text, and wait for it unless others are sent with it."""
    if options.wait == "delivered" and not options.files:
        options.wait = "files"
    options.text, options.files = "", (*options.files, str(path))
    print_notice(f"-- this is {why}: it goes as the file {path.name}")


class SendRun:
    """One run of the command.

    Attributes:
        handed_over: The peer was given at least one text.
    """

    def __init__(self, options: SendOptions) -> None:
        self._options = options
        self._progress = Progress()
        self._code = DONE
        self._saved = 0  # lines of the input that the peer has on its disk, as far as it told
        self.handed_over: bool = False

    async def run(self, directory: Path) -> int:
        """Return the exit code."""
        options = self._options
        async with (
            _input_kept(options, directory),
            connect_or_run(directory, port=options.profile.port, db=options.db, meets=True) as control,
        ):
            errors = asyncio.create_task(self._report_errors(control))
            try:
                [to] = await control.ask("find", to=options.to)
                await self._send_until_disconnected(errors, control, to["conversation_id"])
                seconds = 0.0 if options.wait == "accepted" else options.timeout
                what = "delivered" if options.wait == "accepted" else options.wait
                [outcome] = await control.ask("wait", timeout=min(seconds, 86_400.0), what=what)
            except PeerGone as gone:
                raise self._with_count(gone) from None
            finally:
                errors.cancel()
        reached = (options.wait, "read") if options.wait == "delivered" else (options.wait,)
        if self.handed_over and options.wait != "accepted" and outcome["status"] not in reached:
            self._report_undelivered(outcome["status"], outcome["missing"], outcome["obstacle"])
            self._code = worst_code(self._code, KEPT)
        return self._code

    async def _report_errors(self, control: ControlClient) -> None:
        """Print the errors of texts that the peer refused, and show how far large files are copied."""
        while (line := await control.next_line()) is not None:
            if line["event"] == "copy_progress":
                self._progress.show(f"-- {how_far(line['copied'], line['size'])} copied into the profile")
            if line["event"] == "error":
                print_error(str(line.get("text", "")))
                self._code = worst_code(self._code, line_exit_code(line))

    async def _send_until_disconnected(self, errors: asyncio.Task[None], control: ControlClient, to: str) -> None:
        """Send everything. Raises PeerGone when the connection ends before, even while input is silent."""
        sending = asyncio.create_task(self._send_all(control, to))
        try:
            await asyncio.wait([sending, errors], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise PeerGone(control.reason)
            sending.result()
        finally:
            sending.cancel()

    async def _send_all(self, control: ControlClient, to: str) -> None:
        if self._options.files:
            text, paths = self._options.text or "", [os.path.abspath(file) for file in self._options.files]
            with self._progress:
                await control.ask("send_files", to=to, text=text, paths=paths)
            self.handed_over = True
            return
        if self._options.text is not None:
            self.handed_over = True
            await control.send(do="send", to=to, text=self._options.text)
            return
        lines = LineReader(raw_stdin(), asyncio.get_running_loop())
        lines.start()
        limit, number = Settings.max_text_bytes, 0
        while batch := await lines.take():
            if not number and is_binary(batch):
                raise UsageError("the input is no text, and has no lines: leave --lines out, then it goes as a file")
            for raw in batch:
                number += 1
                text, was_utf8 = ("", True) if raw is None else decode_line(raw)
                if not was_utf8:
                    print_error(f"warning: line {number} was not UTF-8: invalid bytes were replaced")
                if raw is None or len(raw) > limit:
                    print_error(f"line {number} has more than {limit:,} bytes: it was not sent, the others are")
                    self._code = worst_code(self._code, USAGE)
                elif text.strip():
                    self.handed_over = True
                    await control.send(do="send", to=to, text=text)
            await control.ask("find", to=to)  # answered when what came before it is on disk
            self._saved = number

    def _with_count(self, gone: PeerGone) -> CommandError:
        """Return the error for a peer that stopped, with the number of the last line known to be saved."""
        if not self._options.lines:
            return gone
        known = f"line {self._saved:,} of the input was saved" if self._saved else "it told that anything was saved"
        return CommandError(
            f"{gone} {'after' if self._saved else 'before'} {known}: start it again, see the last line it has with "
            "p2pchat history, and send the rest"
        )

    def _report_undelivered(self, status: str, missing: list[str], obstacle: str) -> None:
        names = quote_names(missing)
        if status == "delivered" and self._options.wait == "files":
            print_notice(f"p2pchat: the message is delivered, its files not yet{f' to {names}' if missing else ''}")
        elif status == "delivered":
            print_notice(f"p2pchat: not read yet{f' by {names}' if missing else ''}; it is delivered")
        elif obstacle:
            print_notice(f"p2pchat: saved; {obstacle}")
        elif missing:
            print_notice(f"p2pchat: not delivered yet to {names}; saved, and sent as soon as possible")
        else:
            print_notice("p2pchat: nobody is here yet; saved, and delivered when someone joins")
