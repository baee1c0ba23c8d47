"""Files on the disk of a peer: what takes space, and which of them are to go."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from p2pchat.core.log import LogId
from p2pchat.messaging.messages import post_of
from p2pchat.storage.contract import ReleasedEntry

if TYPE_CHECKING:
    from p2pchat.messaging.attachments import Attachment
    from p2pchat.messaging.history import Viewer
    from p2pchat.messaging.messages import Post
    from p2pchat.messaging.users import User
    from p2pchat.runtime.driver import Driver

FILES_AT_ONCE = 250  # read in one job, behind which other reads wait: some 60 ms on a busy machine
MESSAGES_OF_ONE = 100  # looked at for one file: one may be sent again and again


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Content on the disk of a peer, whole or a part of it.

    Attributes:
        root: The hash of the content, in hex: as Attachment.root.
        size_bytes: What it takes of the disk; of content that is not whole the room that is kept for all of it.
        is_whole: All of it is here, and verified.
        attachments: The files with this content in messages that are shown here, the oldest first, at most 100; () if
            they are not shown yet.
        messages: How many messages name it.
        came_at: When the newest of these came; None if none is shown yet.
    """

    root: str
    size_bytes: int
    is_whole: bool
    attachments: tuple[Attachment, ...]
    messages: int
    came_at: datetime | None

    @property
    def name(self) -> str:
        """The name of the newest attachment with it, which is only a name; "" if there is none."""
        return self.attachments[-1].name if self.attachments else ""

    @property
    def held_by(self) -> list[User]:
        """The members of its conversations who are known to have it too, on other disks."""
        return list({user: None for file in self.attachments for user in file._held_elsewhere()})

    @property
    def is_only_here(self) -> bool:
        """True if all of it is here, and nobody else is known to have it."""
        return self.is_whole and not self.held_by


async def only_here(files: Sequence[StoredFile]) -> set[str]:
    """Return the roots of those that nobody else is known to have; other work goes on meanwhile."""
    found: set[str] = set()
    for at in range(0, len(files), FILES_AT_ONCE):
        found.update(file.root for file in files[at : at + FILES_AT_ONCE] if file.is_only_here)
        await asyncio.sleep(0)
    return found


async def stored_files(viewer: Viewer, driver: Driver) -> list[StoredFile]:
    """Return everything in the store of content, the largest first."""
    roots = await driver.content.run(lambda store: store.roots())
    files: list[StoredFile] = []
    posts: dict[tuple[LogId, int], Post] = {}  # one for all files of a message
    for at in range(0, len(roots), FILES_AT_ONCE):
        files += await _files_of(viewer, driver, roots[at : at + FILES_AT_ONCE], posts)
    return _largest_first(files)


async def _files_of(
    viewer: Viewer, driver: Driver, asked: Sequence[str], posts: dict[tuple[LogId, int], Post]
) -> list[StoredFile]:
    """Return the content with these roots, as far as it is here. `posts`: messages that were read before."""
    taken = await driver.content.run(lambda store: store.sizes(asked))
    storage, roots = driver.disk.storage, list(taken)

    def read() -> tuple[dict[str, list[tuple[LogId, int]]], dict[tuple[LogId, int], ReleasedEntry]]:
        naming = storage.referring(roots)
        shown = {each for found in naming.values() for each in found[-MESSAGES_OF_ONE:]}
        entries = {each: storage.entry(*each) for each in shown if each not in posts}
        return naming, {each: entry for each, entry in entries.items() if entry is not None}

    naming, entries = await driver.disk.read(read)
    posts.update((each, post_of(viewer, entry)) for each, entry in entries.items())
    files: list[StoredFile] = []
    for root in roots:
        found = naming.get(root, [])
        shown = sorted(
            (posts[each] for each in found[-MESSAGES_OF_ONE:] if each in posts), key=lambda post: post.received_at
        )
        attachments = tuple(file for post in shown for file in post.attachments if file.root == root)
        is_whole = any(driver.content.holds(root, size) for size in {file.size for file in attachments})
        came_at = shown[-1].received_at if shown else None
        files.append(StoredFile(root, taken[root], is_whole, attachments, len(found), came_at))
    return files


def _largest_first(files: Iterable[StoredFile]) -> list[StoredFile]:
    return sorted(files, key=lambda file: (-file.size_bytes, file.root))


def _age(file: StoredFile) -> tuple[bool, float]:
    return file.came_at is None, 0.0 if file.came_at is None else file.came_at.timestamp()


def unwanted(
    files: Sequence[StoredFile], before: datetime | None, keep_bytes: int | None, stay: Container[str] = ()
) -> list[StoredFile]:
    """Return which of these are to go, the largest first: those that came longest ago go first.

    With `keep_bytes`, what takes more by itself goes before these: no older file makes room for it.

    Args:
        before: Only what came last before this; what is not shown yet stays then.
        keep_bytes: Only until the rest takes at most so many bytes.
        stay: Roots of what stays all the same.
    """
    left = sum(file.size_bytes for file in files)
    found: list[StoredFile] = []
    for file in sorted(files, key=lambda file: (keep_bytes is None or file.size_bytes <= keep_bytes, _age(file))):
        if keep_bytes is not None and left <= keep_bytes:
            break
        if before is not None and (file.came_at is None or file.came_at >= before):
            continue
        if file.root not in stay:
            found.append(file)
            left -= file.size_bytes
    return _largest_first(found)
