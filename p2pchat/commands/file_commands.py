"""Commands about files: /send, /get, /files, the JSON commands `get` and `files`, and requests of `p2pchat files`.

They read and write files of the machine where the peer runs. So they are for the person who runs it, never for a client
of a gateway. Typed, they work at a terminal only, because lines that are piped in may come from anywhere.

A file is shown with its number for /get: `[report.pdf, 2.1 MB: /get 3]`. Numbers count up from the start of the chat,
and none is used twice. Files are fetched in tasks of their own (file_fetches.py), so typing goes on.
"""

from __future__ import annotations

import asyncio
import os
import stat
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

from p2pchat import MAX_FILES, Attachment, Conversation, KeptFile, Message, P2PChatError, Receipt, Sent, StoredFile
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import EventLine, file_label, format_size, format_time, holders_text, local_now
from p2pchat.commands.exit_codes import KEPT, CommandError, UsageError, print_error, print_notice
from p2pchat.commands.message_commands import OutgoingMessage, parse_limit
from p2pchat.commands.standard_output import iso_or_none
from p2pchat.commands.typed_paths import split_files, split_path, to_path
from p2pchat.safe_text import quote_name, quote_place, safe_line
from p2pchat.threads import on_disk

FILES = 10  # of /files
STOP = "stop"  # behind /get and /send
LARGE = 10_000_000  # bytes; copying that much for a message takes long enough to be told of
READ_BYTES = 1024 * 1024  # of a file at once; a guess
DOWNLOADS = "Downloads"  # below the home directory
MOST_ROWS = 100  # of stored_files(), whose answer has to fit into a line
FILES_AT_ONCE = 250  # looked at before other work goes on: some 3 ms
LEAST_ROOT = 8  # digits of a root by which a file may be meant: so many do not occur by chance
NAME_CHARACTERS = 100  # of a name in a row of stored_files()


class FetchStopped(CommandError):
    """A file was asked for, and the user or the end of the chat stopped that."""

    code = KEPT

    def __init__(self) -> None:
        super().__init__("stopped: what has come of this file stays, and getting it again goes on there")


# ---- send


async def typed_send(ctx: CommandContext, rest: str) -> OutgoingMessage:
    """Send one or several files to the current conversation, with a text behind them."""
    require_sender(ctx)
    files, text = await on_disk(split_files, rest)
    if text and not await on_disk(os.path.exists, files[0]):
        raise UsageError(f"{_no_file(str(files[0]))}. A path with blanks needs quotes: /send 'my file.png'")
    if await on_disk(os.path.isfile, to_path(text.strip())):
        print_notice(f"-- {file_label(text)} goes as text: each file after the first needs its full path")
    return OutgoingMessage(ctx.current, text, files=tuple(map(str, files)))


def require_sender(ctx: CommandContext) -> None:
    """Raise UsageError unless a person types here whose files this machine has."""
    _require_person(ctx, "/send", 'p2pchat send TO --file FILE, or {"do":"send","files":[…]} under --json')


def label_of(files: Sequence[str]) -> str:
    """Return what is said of the files of a message that is sent: the name of one, or how many they are."""
    return file_label(os.path.basename(files[0])) if len(files) == 1 else f"{len(files)} files"


async def send_with_files(
    ctx: CommandContext, message: OutgoingMessage, tell: Callable[[int, int], Awaitable[None]] | None = None
) -> Receipt:
    """Send a message with files; return its receipt.

    Args:
        tell: Awaited for each whole percent of large files with the bytes copied so far, and of how many.
    Raises:
        SendStopped: Its user stopped it. Nothing was sent.
    """
    require_local_files(ctx)
    try:
        size = await on_disk(_check_files, message.files)
        async with AsyncExitStack() as stack:
            files: Sequence[str | KeptFile] = message.files
            if size >= LARGE:
                files = await stack.enter_async_context(_copies(ctx, message, size, tell))
            message.go_on(final=True)
            return await message.write(ctx.peer, files)
    except OSError as error:
        raise CommandError(f"a file cannot be sent: {error.strerror or error}") from None


@asynccontextmanager
async def _copies(
    ctx: CommandContext, message: OutgoingMessage, size: int, tell: Callable[[int, int], Awaitable[None]] | None
) -> AsyncIterator[list[KeptFile]]:
    """Copy files into the profile one after the other, show how far that is, and yield the copies."""
    copies: list[KeptFile] = []
    try:
        with ctx.fetches.copying(label_of(message.files), size) as on_copied:
            copied = told = 0

            async def chunks(path: Path) -> AsyncIterator[bytes]:
                nonlocal copied, told
                with await on_disk(path.open, "rb") as file:
                    while chunk := await on_disk(file.read, READ_BYTES):
                        yield chunk
                        copied += len(chunk)
                        message.go_on()
                        if 100 * copied // size > told:
                            told = 100 * copied // size
                            on_copied(copied)
                            if tell is not None:
                                await tell(copied, size)

            for path in map(Path, message.files):
                before = await on_disk(path.stat)
                copies.append(await ctx.peer.keep_file((path.name, chunks(path)), size=before.st_size))
                after = await on_disk(path.stat)
                if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise OSError("it was written while it was read: send it when nothing writes it, or send a copy")
        yield copies
    finally:
        for copy in copies:
            copy.discard()


def _check_files(files: tuple[str, ...]) -> int:
    """Return the size of all files together. Raises UsageError for one that cannot be sent, and for too many."""
    if len(files) > MAX_FILES:
        raise UsageError(f"a message has at most {MAX_FILES} files, and these are {len(files)}")
    size = 0
    for file in files:
        path = Path(file)
        try:
            found = path.stat() if path.exists() else None
        except (OSError, ValueError) as error:
            raise UsageError(f"{safe_line(file)[:200]!r} cannot be read: {error}") from None
        if found is None:
            raise UsageError(_no_file(file))
        if stat.S_ISDIR(found.st_mode):
            raise UsageError(f"{safe_line(file)} is a directory: pack it first, for example as a .zip, and send that")
        if not stat.S_ISREG(found.st_mode):  # reading it may wait for ever
            raise UsageError(
                f"{safe_line(file)} is no plain file but a pipe or a device: nothing was sent; what comes through a "
                "pipe is sent by p2pchat send TO --file - --file-name NAME"
            )
        size += found.st_size
    return size


def _no_file(file: str) -> str:
    return f"there is no file {safe_line(file)[:200]!r}: nothing was sent"


def require_local_files(ctx: CommandContext) -> None:
    """Raise UsageError unless this session may read and write files of the machine where the peer runs."""
    if not ctx.local_files:
        raise UsageError("a client of a gateway cannot read or write files of the gateway's machine")


def _require_person(ctx: CommandContext, command: str, instead: str) -> None:
    require_local_files(ctx)
    if not ctx.interactive:
        raise UsageError(
            f"{command} is for a person at a terminal, because lines of a pipe may come from anywhere; a program has "
            f"{instead}"
        )


# ---- files


async def files(
    ctx: CommandContext, to: Conversation | None = None, limit: int = FILES, message: Message | Sent | None = None
) -> CommandResult:
    """List the newest files, the oldest of them first; without `to` of all conversations, or those of one message."""
    if message is not None:
        return CommandResult([_row(file, number) for number, file in enumerate(message.attachments, 1)])
    found = await _newest(ctx, to, parse_limit(limit))
    rows = [_row(*one) for one in reversed(found)]
    return CommandResult(rows, _lines(ctx, to, found))


def _lines(ctx: CommandContext, where: Conversation | None, found: list[tuple[Attachment, int]]) -> list[str]:
    if not ctx.for_people:
        return []
    if not found:
        return [f"-- no files in {quote_place(where) if where else 'any conversation'} yet: /send FILE sends one"]
    now = local_now()
    numbered = [
        (ctx.display.files.number(file.message.id, number, file.name), file) for file, number in reversed(found)
    ]
    width = max(len(str(number)) for number, _ in numbered)
    lines = []
    for number, file in numbered:
        row = _row(file, 1)
        who = "you" if file.message.sender.is_me else quote_name(row["sender"])
        state = "here" if row["here"] else "not kept here any more" if file.is_forgotten else "not here yet"
        state += holders_text([user.label for user in file.held_by], alone=row["here"] and not file.is_forgotten)
        shown = f"{file_label(file.name)}, {format_size(file.size)}"
        lines.append(f"{number:>{width}} {shown} (from {who}, {format_time(row['sent_at'], now)}; {state})")
    return [*lines, f"-- /get {numbered[-1][0]} saves the last one in {_shown(_usual_directory())}"]


def _row(file: Attachment, number: int) -> EventLine:
    message = file.message.to_dict()
    copied = ("id", "conversation", "conversation_id", "kind", "sender", "sender_id", "sent_at")
    return {**{name: message[name] for name in copied}, "number": number, **file.to_dict()}


async def _newest(ctx: CommandContext, where: Conversation | None, limit: int) -> list[tuple[Attachment, int]]:
    """Return the newest files and the number of each in its message, the newest first; none of ignored users."""
    found: list[tuple[Attachment, int]] = []
    async for page in ctx.recent_pages(where, None):
        for message in reversed(page):
            if message.attachments:
                found += reversed([(file, number) for number, file in enumerate(message.attachments, 1)])
        if len(found) >= limit:
            break
    return found[:limit]


# ---- get


async def typed_get(ctx: CommandContext, rest: str = "") -> CommandResult:
    """Save a file that is meant by its number, by its name, or by nothing: the newest one shown, else here."""
    _require_person(ctx, "/get", "p2pchat get MESSAGE-ID --output FILE")
    if rest.strip() == STOP:
        count = await ctx.fetches.stop()
        return CommandResult(lines=[] if count else ["-- no file is being fetched"])
    file, number, target = await _meant(ctx, rest)
    directory = await on_disk(_usual_directory)
    path = to_path(target).absolute() if target else directory
    await _check_target(ctx, path)
    is_here = await file.is_here()
    if not is_here:
        number = ctx.display.files.number(file.message.id, number, file.name)
        what = f"{file_label(file.name)} ({format_size(file.size)})"
        print_notice(f"-- getting {what}; /get {STOP} stops that, and /get {number} goes on")
    doing = ctx.fetches.begin(file, _save_for_person(ctx, file, path))
    if is_here:  # a copy on this disk
        await asyncio.wait([doing])
    return CommandResult()


async def _save_for_person(ctx: CommandContext, file: Attachment, path: Path) -> None:
    try:
        saved = await file.save(path, lambda stored, size: ctx.fetches.on_progress(file, stored))
    except asyncio.CancelledError:
        print_notice(f"-- stopped getting {file_label(file.name)}: what has come of it stays")
        raise
    except OSError as error:
        print_error(f"{file_label(file.name)} cannot be saved: {error.strerror or error}: {error.filename or path}")
    except (P2PChatError, ValueError) as error:  # ValueError: the path is none
        print_error(f"{file_label(file.name)} did not come: {error}")
    else:
        print_notice(f"-- saved {_shown(saved)} ({format_size(file.size)})")


async def _meant(ctx: CommandContext, rest: str) -> tuple[Attachment, int, str]:
    """Return the file that is meant by what stands behind /get, its number in its message, and where it is to go."""
    word, target = split_path(rest)
    if not word:
        shown = await ctx.last_shown("files")
        for file, number in await _newest(ctx, shown.conversation if shown else ctx.current, 1):
            return file, number, ""
        raise UsageError("there are no files here yet: /files lists them where there are some")
    if word.isascii() and word.isdecimal() and len(word) < 10:
        found = ctx.display.files.find(int(word))
        if found is None:
            raise UsageError(f"there is no file {word}: /files lists the files here with their numbers")
        message = await ctx.peer.message(found[0])
        if len(message.attachments) < found[1]:
            raise UsageError(f"file {word} was deleted by its sender")
        return message.attachments[found[1] - 1], found[1], split_path(target)[0]
    for name, to in ((rest.strip(), ""), (word, split_path(target)[0])):
        async for page in ctx.recent_pages(ctx.current, None):
            for message in reversed(page):
                for number, file in enumerate(message.attachments, 1):
                    if name.casefold() in (file.name.casefold(), file.disk_name.casefold()):
                        return file, number, to
    raise UsageError(f"there is no file {safe_line(word)[:100]!r} here: /files lists them with their numbers")


async def _check_target(ctx: CommandContext, path: Path) -> None:
    """Raise UsageError unless something can be saved there; ask before a file is replaced."""
    try:
        is_directory, is_there, has_place = await on_disk(lambda: (path.is_dir(), path.is_file(), path.parent.is_dir()))
    except (OSError, ValueError) as error:
        raise UsageError(f"{safe_line(str(path))[:200]!r} cannot be used: {error}") from None
    if is_directory:
        return
    if not has_place:
        raise UsageError(f"there is no directory {safe_line(str(path.parent))}: nothing was saved")
    if is_there and not await ctx.confirm(f"replace {safe_line(str(path))}?"):
        raise UsageError("nothing was saved")


def _usual_directory() -> Path:
    """Return where files go that are saved without a path: Downloads, or where p2pchat was started."""
    try:
        usual = Path.home() / DOWNLOADS
        return usual if usual.is_dir() else Path.cwd()
    except (OSError, RuntimeError):  # there is no home directory
        return Path.cwd()


def _shown(path: Path) -> str:
    """Return a path for people: from `~` on, if it is in the home directory."""
    try:
        inside = path.relative_to(Path.home())
        return safe_line(f"~/{inside}" if inside.parts else "~")
    except (RuntimeError, ValueError):
        return safe_line(str(path))


async def get(
    ctx: CommandContext, message: Message | Sent, number: int = 1, path: str | None = None, stop: bool = False
) -> CommandResult | None:
    """Fetch a file of a message, save it if there is a `path`, and answer when that is done."""
    require_local_files(ctx)
    if not 1 <= number <= len(message.attachments):
        count = len(message.attachments)
        has = "no files" if not count else "1 file" if count == 1 else f"{count} files"
        raise UsageError(f"this message has {has}, so there is no file {number}")
    file = message.attachments[number - 1]
    if stop:
        return CommandResult([{**_row(file, number), "stopped": await ctx.fetches.stop((message.id, file.root))}])
    ctx.fetches.begin(file, _save_for_program(ctx, file, number, path, ctx.ref))
    return None


async def _save_for_program(
    ctx: CommandContext, file: Attachment, number: int, path: str | None, ref: str | None
) -> None:
    def on_progress(stored: int, size: int) -> None:
        ctx.fetches.on_progress(file, stored)

    try:
        if path is None:
            await file.fetch(on_progress)
            saved = ""
        else:
            saved = str(await file.save(Path(os.path.expanduser(path)), on_progress))
    except asyncio.CancelledError:
        await ctx.report_error(FetchStopped(), ref)
        raise
    except OSError as error:
        why = CommandError(f"the file cannot be saved: {error.strerror or error}: {error.filename or path}")
        await ctx.report_error(why, ref)
    except (P2PChatError, ValueError) as error:
        await ctx.report_error(error, ref)
    else:
        row = {**_row(file, number), "path": saved} if saved else _row(file, number)
        await ctx.display.show_answer("get", [row], [], ref)


# ---- files that take space on the disk of the peer


async def stored_files(ctx: CommandContext, before: datetime | None = None, keep: int | None = None) -> CommandResult:
    """Return a row of sums, then the largest files; with `before` or `keep` of those that forget_files would remove."""
    files = await ctx.tcp_peer.stored_files(before=before, keep_bytes=keep)
    return CommandResult([await _sums(files), *map(_stored_row, files[:MOST_ROWS])])


async def forget_files(
    ctx: CommandContext, before: datetime | None = None, keep: int | None = None, force: bool = False
) -> CommandResult:
    """Remove what stored_files() returns for the same; return the row of sums.

    Without `force` those stay that nobody else is known to have; `kept` counts them.
    """
    peer = ctx.tcp_peer
    gone = await peer.forget_files(before=before, keep_bytes=keep, held_only=not force)
    left = [] if force else await peer.stored_files(before=before, keep_bytes=keep)
    return CommandResult([{**await _sums(gone), "kept": await _count_only_here(left)}])


async def forget_file(ctx: CommandContext, what: str, force: bool = False) -> CommandResult:
    """Remove the files of a message, or the one whose root begins so; return the row of sums, then theirs.

    Without `force` nothing is removed that nobody else is known to have.
    """
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
    if not force and any(file.is_only_here for file in found):
        raise CommandError(
            "nobody else is known to have this file, and who removes it here removes it for all: nothing was removed; "
            "--force removes it all the same"
        )
    for file in found:
        await peer.forget_file(file.root)
    return CommandResult([await _sums(found), *map(_stored_row, found)])


async def _sums(files: Sequence[StoredFile]) -> EventLine:
    return {
        "files": len(files),
        "size_bytes": sum(file.size_bytes for file in files),
        "only_here": await _count_only_here(files),
    }


async def _count_only_here(files: Sequence[StoredFile]) -> int:
    """Return how many nobody else is known to have; other work goes on meanwhile."""
    count = 0
    for at in range(0, len(files), FILES_AT_ONCE):
        count += sum(file.is_only_here for file in files[at : at + FILES_AT_ONCE])
        await asyncio.sleep(0)
    return count


def _stored_row(file: StoredFile) -> EventLine:
    row: EventLine = {
        "root": file.root, "name": file.name[:NAME_CHARACTERS], "size_bytes": file.size_bytes, "here": file.is_whole,
        "messages": file.messages, "held_by": len(file.held_by),
    }  # fmt: skip
    if file.attachments:
        line = file.attachments[-1].message.to_dict()
        row |= {name: line[name] for name in ("id", "conversation", "conversation_id", "kind", "sender", "sender_id")}
        row["came_at"] = iso_or_none(file.came_at)
    return row
