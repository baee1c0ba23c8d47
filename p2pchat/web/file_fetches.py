"""Fetches of files that accounts ask for, from other peers to the disk of the gateway, until nobody asks any more.

Each is fetched until it is here, or until nobody has asked for it for a while. Whatever has come stays, and the next
fetch continues there.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from p2pchat import Attachment, P2PChatError
from p2pchat.web import WebSettings
from p2pchat.web.accounts import Account
from p2pchat.web.errors import WebError
from p2pchat.web.uploads import Uploads

FETCH_SECONDS = 600.0  # for which content is asked for behind the last call that wanted it; a guess
MAX_FETCHES = 16  # of one account at once; a guess


class Fetches:
    """All fetches of a gateway, by account and root."""

    def __init__(self, settings: WebSettings, uploads: Uploads) -> None:
        self._settings = settings
        self._uploads = uploads
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
        self._uploads.take_bytes(account, attachment.size)
        return _Fetch(attachment)

    def stop(self, account: Account, attachment: Attachment) -> None:
        """Stop to fetch a file for an account; does nothing if it is not fetched."""
        fetch = self._running.get((account.key, attachment.root))
        if fetch is not None:
            fetch.task.cancel()

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it

    async def aclose(self) -> None:
        """Stop everything."""
        tasks = [fetch.task for fetch in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
