"""Files that accounts upload, until they are sent: content on the disk of the gateway, each with an id.

Only the account that uploaded a file can send it, by that id: who knows nothing but the hash of some content gets none
of it. An upload is forgotten after an hour, or with the gateway; its content stays if a message names it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from p2pchat import MAX_FILES, KeptFile, StorageError
from p2pchat.web import WebSettings
from p2pchat.web.accounts import Account
from p2pchat.web.errors import WebError
from p2pchat.web.rate_limit import RateLimits

KEPT_FOR = 3600.0  # seconds in which an upload can be sent; a guess: somebody still writes the text
MAX_KEPT = 100  # uploads of one account; the oldest is forgotten; a guess: ten messages with ten files each


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that an account uploaded: its id, until when it can be sent, and what is kept."""

    id: str
    until: float
    file: KeptFile


class Uploads:
    """The uploads of all accounts that can still be sent."""

    def __init__(self, settings: WebSettings, limits: RateLimits, clock: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._limits = limits
        self._clock = clock
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
            self.take_bytes(account, size)
        chunks = self._counted(account, body, size is None)
        try:
            file = await account.user.keep_file((name, chunks), type=type, size=size or 0)
        except StorageError as error:
            raise WebError(507, "no_room", str(error)) from None
        self._forget_old()
        upload = Upload(secrets.token_hex(16), self._clock() + KEPT_FOR, file)
        kept = self._by_account.setdefault(account.key, OrderedDict())
        kept[upload.id] = upload
        if len(kept) > MAX_KEPT:
            kept.popitem(last=False)[1].file.discard()
        return upload

    async def _counted(self, account: Account, body: AsyncIterator[bytes], is_charged: bool) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in body:
            size += len(chunk)
            self._check_size(size)
            if is_charged:
                self.take_bytes(account, len(chunk))
            yield chunk

    def _check_size(self, size: int) -> None:
        most = self._settings.max_file_bytes
        if size > most:
            raise WebError(413, "too_large", f"a file has at most {most} bytes here")

    def take_bytes(self, account: Account, size: int) -> None:
        """Count bytes that are stored for an account. Raises TooMany."""
        self._limits.store(account.key, size)

    def find(self, account: Account, ids: Sequence[str]) -> tuple[KeptFile, ...]:
        """Return what an account uploaded, by id. Raises WebError."""
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
        return tuple(kept[id].file for id in ids)

    def _forget_old(self) -> None:
        now = self._clock()
        for key, kept in list(self._by_account.items()):
            while kept and next(iter(kept.values())).until <= now:
                kept.popitem(last=False)[1].file.discard()
            if not kept:
                del self._by_account[key]
