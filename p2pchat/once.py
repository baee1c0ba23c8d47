"""One message without a peer of one's own: through the peer that runs beside the program, or one that runs meanwhile.

    from p2pchat import send_once

    receipt = send_once("bob", "backup finished", port=8080)

As `p2pchat send` it talks to the control socket of a running peer, and runs the peer itself when none does. It waits on
the loop of p2pchat.sync, so any thread may call it.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from p2pchat import AmbiguousName, P2PChatError, Settings, TooLong, UnknownName

if TYPE_CHECKING:
    from p2pchat.cli.control_client import ControlClient, RequestRefused

MAX_TIMEOUT = 86_400.0  # seconds, as the control socket allows


@dataclass(frozen=True)
class SentReceipt:
    """The receipt of a message as it was when send_once returned.

    Attributes:
        id: The id of the message, the same on every peer.
        status: `accepted` (on this disk, and sent as soon as possible), `delivered` (on the disks of all it is for) or
            `read`.
        of: The number of members it is for; 0 in a room where nobody was.
        delivered_to: The labels of those who have it.
        read_by: The labels of those who have read it.
        missing: The labels of those who lack it.
        causes: A sentence for each cause that is known of that.
    """

    id: str
    status: str
    of: int
    delivered_to: tuple[str, ...]
    read_by: tuple[str, ...]
    missing: tuple[str, ...]
    causes: tuple[str, ...]

    @property
    def is_delivered(self) -> bool:
        """True if all whom it is for have it, at least one."""
        return self.status != "accepted"


def send_once(
    to: str,
    text: str,
    *,
    port: int | None = None,
    data: str | PathLike[str] | None = None,
    timeout: float = 5.0,
) -> SentReceipt:
    """Send one message through the peer of a profile, and return its receipt.

    A running peer sends it (a chat, `p2pchat web`, a bot); otherwise the peer runs here until the message is delivered
    or `timeout` is over. A message that is not delivered then is on disk, and is sent when the peer runs next. In a
    program with asyncio: `await asyncio.to_thread(send_once, "bob", "hi", port=8080)`.

    Args:
        to: A name as typed: `bob`, `bob#K7QF2M3P`, `room`, `#ops`, a full id.
        text: As TCPPeer.send.
        port: The profile, by the port of the peer that sends; without it and `data` the only one of a person (on which
            a terminal was opened), or of several the only one that runs.
        data: The profile, by its directory.
        timeout: Seconds to wait until all have it; 0 returns when it is accepted.
    Raises:
        UnknownName, AmbiguousName: No user or conversation has this name, or several have.
        TooLong, ValueError: The text cannot be sent.
        P2PChatError: There is no profile, or several are meant, or a program that answers no commands uses it, or the
            peer cannot run or ended; the text says what to do.
    """
    if port is not None and data is not None:
        raise TypeError("a profile has a port or a directory: name one of them")
    if not 0 <= timeout <= MAX_TIMEOUT:
        raise ValueError(f"a timeout is 0 to {MAX_TIMEOUT:g} seconds")
    from p2pchat.sync import in_background  # here, because the build imports this file before that is whole

    found: SentReceipt = in_background(lambda: _send(to, text, port, data, timeout))
    return found


async def _send(to: str, text: str, port: int | None, data: str | PathLike[str] | None, timeout: float) -> SentReceipt:
    import asyncio

    from p2pchat.cli.control_client import RequestRefused, connect_or_run
    from p2pchat.cli.options import ProfileChoice
    from p2pchat.cli.profiles import find_profile
    from p2pchat.commands.event_text import format_causes, local_now
    from p2pchat.commands.exit_codes import CommandError, UsageError
    from p2pchat.threads import in_thread

    choice = ProfileChoice("" if data is None else str(data), -1 if port is None else port)
    try:
        directory = await in_thread(find_profile, choice, notify=lambda text: None)
        async with connect_or_run(directory, port=choice.port, meets=True) as control:
            [there] = await control.ask("find", to=to)
            await control.ask("tail", to=there["conversation_id"], last=0)  # it tells the id
            reading = asyncio.create_task(_discard_lines(control))
            try:
                id = (await control.accept(to=there["conversation_id"], text=text))["id"]
                await control.ask("wait", timeout=timeout)
                [row] = await control.ask("receipts", id=id)
            finally:
                reading.cancel()
    except RequestRefused as refused:
        raise _error_of(refused, to, text) from None
    except (CommandError, UsageError) as error:
        raise P2PChatError(str(error)) from None
    has, read, lacks = (tuple(map(str, row[name])) for name in ("delivered_to", "read_by", "missing"))
    return SentReceipt(id, row["status"], row["of"], has, read, lacks, tuple(format_causes(row, local_now())))


async def _discard_lines(control: ControlClient) -> None:
    """Read what else the tail tells: behind many lines that nobody reads no answer would come."""
    while await control.next_line() is not None:
        pass


def _error_of(refused: RequestRefused, to: str, text: str) -> Exception:
    """Return the error of the library for one that the peer answered with."""
    if refused.error == "unknown_name":
        return UnknownName(to, text=str(refused))
    if refused.error == "ambiguous_name":
        error = AmbiguousName(to, [])
        error.args = (str(refused),)  # which names the candidates
        return error
    if refused.error == "too_long":
        return TooLong("the text", len(text.encode("utf-8", "replace")), Settings.max_text_bytes)
    return ValueError(str(refused)) if refused.error in ("usage", "value_error") else P2PChatError(str(refused))
