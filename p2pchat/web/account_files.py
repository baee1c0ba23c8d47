"""Files of accounts at a gateway: uploads until they are sent, fetches from other peers, and links to files.

Only the account that uploaded a file can send it, by its id: who knows nothing but the hash of some content gets none
of it. An upload is forgotten after an hour, with the last message that it was sent with, or with the gateway; its
content stays if a message names it.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time

from p2pchat import MAX_FILES, Attachment, KeptFile, Message, P2PChatError, Sent, StorageError
from p2pchat.threads import consume_exception, stop_tasks
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Unauthorized, WebError
from p2pchat.web.rate_limits import RateLimits
from p2pchat.web.web_settings import WebSettings

KEPT_FOR = 3600.0  # seconds in which an upload can be sent; a guess: somebody still writes the text
MAX_KEPT = 100  # uploads of one account; the oldest is forgotten; a guess: ten messages with ten files each


@dataclass(slots=True, eq=False)
class Upload:
    """A file that an account uploaded: its id, until when it can be sent, what is kept, whether it was to be sent once,
    and ids of its messages.
    """

    id: str
    until: float
    file: KeptFile
    is_used: bool = False
    messages: set[str] = field(default_factory=set)


class Uploads:
    """The uploads of all accounts that can still be sent."""

    def __init__(self, settings: WebSettings, limits: RateLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._by_account: dict[str, OrderedDict[str, Upload]] = {}  # by user key; never empty; oldest first

    async def keep(
        self, account: Account, name: str, type: str, size: int | None, body: AsyncIterator[bytes]
    ) -> Upload:
        """Store the content of a file, as it comes.

        Args:
            size: How many bytes were announced; None for unknown.
        Raises:
            WebError: It is larger than a file may be, or the disk cannot take it.
            TooMany: The account has stored too much.
        """
        if size is not None:
            self._check_size(size)
            self._limits.store(account.key, size)
        chunks = self._counted(account, body, size is None)
        try:
            file = await account.user.keep_file((name, chunks), type=type, size=size or 0)
        except StorageError as error:
            raise WebError(507, "no_room", str(error)) from None
        upload = Upload(secrets.token_hex(16), monotonic() + KEPT_FOR, file)
        kept = self._by_account.setdefault(account.key, OrderedDict())
        kept[upload.id] = upload
        if len(kept) > MAX_KEPT:
            kept.popitem(last=False)[1].file.discard()
        asyncio.get_running_loop().call_later(KEPT_FOR + 1, self._forget_old)  # also if nobody uploads any more
        return upload

    async def _counted(self, account: Account, body: AsyncIterator[bytes], is_charged: bool) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in body:
            size += len(chunk)
            self._check_size(size)
            if is_charged:
                self._limits.store(account.key, len(chunk))
            yield chunk

    def _check_size(self, size: int) -> None:
        most = self._settings.max_file_bytes
        if size > most:
            raise WebError(413, "too_large", f"a file has at most {most} bytes here")

    def find(self, account: Account, ids: Sequence[str]) -> tuple[KeptFile, ...]:
        """Return what an account uploaded, to be sent now, by id. Raises WebError."""
        if len(ids) > MAX_FILES:
            raise WebError(400, "malformed", f"a message has at most {MAX_FILES} files")
        self._forget_old()
        kept = self._by_account.get(account.key) or OrderedDict()
        missing = [id for id in ids if id not in kept]
        if missing:
            text = (
                f"you have no upload {missing[0][:64]!r} to send here: the gateway that took it keeps it for an hour, "
                "or until it stops; upload the file again to this one, and give the id of the answer"
            )
            raise WebError(404, "unknown_upload", text)
        for id in ids:
            kept[id].is_used = True
        return tuple(kept[id].file for id in ids)

    def on_message(self, key: str, message: Message | Sent) -> None:
        """Note with which message an upload of an account was sent. `key`: of the user who wrote it."""
        if (kept := self._by_account.get(key)) and (roots := {file.root for file in message.attachments}):
            for upload in kept.values():
                if upload.is_used and upload.file.root in roots:  # another with the same bytes may be sent yet
                    upload.messages.add(message.id)

    def on_deleted(self, key: str, id: str) -> None:
        """Forget what was sent with no other message than this one: who deletes it wants its files to go."""
        kept = self._by_account.get(key) or OrderedDict()
        for upload in [upload for upload in kept.values() if id in upload.messages]:
            upload.messages.discard(id)
            if not upload.messages:
                kept.pop(upload.id).file.discard()

    def _forget_old(self) -> None:
        now = monotonic()
        for key, kept in list(self._by_account.items()):
            while kept and next(iter(kept.values())).until <= now:
                kept.popitem(last=False)[1].file.discard()
            if not kept:
                del self._by_account[key]


# ---- fetches
#
# Each file is fetched until it is here, or until nobody has asked for it for a while. Whatever has come stays, and the
# next fetch continues there.

FETCH_SECONDS = 600.0  # for which content is asked for behind the last call that wanted it; a guess
MAX_FETCHES = 16  # of one account at once; a guess


class Fetches:
    """All fetches of a gateway, by account and root."""

    def __init__(self, settings: WebSettings, limits: RateLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._running: dict[tuple[str, str], _Fetch] = {}

    async def fetch(self, account: Account, attachment: Attachment, wait: float) -> int:
        """Fetch content that is not here; wait so many seconds for it, and return how many bytes have come.

        Raises WebError if it is too large, the account has had too much fetched, or the disk cannot take it.
        """
        key = account.key, attachment.root
        fetch = self._running.get(key)
        if fetch is None:
            fetch = self._running[key] = self._begin(account, attachment)
            fetch.task.add_done_callback(lambda task: self._ended(key, task))
        else:
            fetch.prolong()
        done, _ = await asyncio.wait([fetch.task], timeout=wait)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                if isinstance(error, P2PChatError):
                    raise WebError(507, "no_room", str(error))
                raise error
        return fetch.stored

    def _begin(self, account: Account, attachment: Attachment) -> _Fetch:
        most = self._settings.max_file_bytes
        if attachment.size > most:
            raise WebError(413, "too_large", f"this gateway fetches files of at most {most} bytes")
        if sum(key == account.key for key, _ in self._running) >= MAX_FETCHES:
            raise WebError(429, "too_many", f"{MAX_FETCHES} files are being fetched for you", {"Retry-After": "5"})
        self._limits.store(account.key, attachment.size)
        return _Fetch(attachment)

    def stop(self, account: Account, attachment: Attachment) -> None:
        """Stop to fetch a file for an account; does nothing if it is not fetched."""
        fetch = self._running.get((account.key, attachment.root))
        if fetch is not None:
            fetch.task.cancel()

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        consume_exception(task)  # perhaps nobody waits for it

    async def aclose(self) -> None:
        """Stop everything."""
        await stop_tasks([fetch.task for fetch in self._running.values()])


class _Fetch:
    """One file that is fetched for an account."""

    def __init__(self, attachment: Attachment) -> None:
        self.stored = 0
        self._limit: asyncio.Timeout | None = None
        self.task: asyncio.Task[None] = asyncio.create_task(self._run(attachment), name="p2pchat web fetch")

    async def _run(self, attachment: Attachment) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FETCH_SECONDS) as self._limit:
                await attachment.fetch(self._note)

    def prolong(self) -> None:
        """Begin the time of the fetch again."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + FETCH_SECONDS)

    def _note(self, stored: int, size: int) -> None:
        self.stored = stored


# ---- links
#
# A link is the address of one file with a ticket, for what sends no token. A ticket proves for an hour that an account
# asked for it, and ends with the token of the account or with the gateway. It names the account, the file and the end
# of its time, so nothing is kept of it.

LINK_SECONDS = 3600


class FileLinks:
    """The tickets of links.

    Args:
        find: Return the account of a user key (hex), or None.
    """

    def __init__(self, find: Callable[[str], Account | None]) -> None:
        self._find = find
        self._secret = secrets.token_bytes(32)

    def ticket(self, account: Account, id: str, index: int) -> str:
        """Return a ticket for one file."""
        until = int(time()) + LINK_SECONDS
        return f"{until}.{account.key}.{self._proof(account, id, index, until)}"

    def account_of(self, ticket: str, id: str, index: int) -> Account:
        """Return the account of a ticket for this file. Raises Unauthorized."""
        until, _, rest = ticket.partition(".")
        key, _, proof = rest.partition(".")
        account = self._find(key)
        if account is not None and until.isascii() and until.isdigit() and len(until) < 16 and proof.isascii():
            is_right = hmac.compare_digest(proof, self._proof(account, id, index, int(until)))
            if is_right and int(until) > time() and account.state == "registered":
                return account
        raise Unauthorized("this link is over: ask for another one")

    def _proof(self, account: Account, id: str, index: int, until: int) -> str:
        said = f"{account.key} {account.hash.hex()} {id.upper()} {index} {until}"
        return hmac.digest(self._secret, said.encode(), "sha256").hex()
