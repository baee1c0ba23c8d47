"""Attacks with files by one member: false content, endless offers and endless pulls, over real sockets.

An attack ends its own link at most. The two other members chat meanwhile, and their files come.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from p2pchat import Conversation, Message, Sent, TCPPeer, User
from p2pchat import protocol as wire
from p2pchat.core.content.pieces import PIECE_BYTES, leaf_of, root_of
from p2pchat.core.content.transfers import MAX_PULL_PIECES, MAX_PULLS
from p2pchat.core.log import Entry, FileRef, RawEntry, encode_entry
from tests.deadlines import within
from tests.hostile.attacker import NOW, Attacker, LogWriter
from tests.hostile.conftest import Attacked, Meet


@dataclass(frozen=True)
class Content:
    """Content of three pieces, which nobody but the attacker has."""

    data: bytes
    leaves: bytes
    root: str

    def piece(self, index: int) -> bytes:
        return self.data[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]

    def named(self, size: int = 0) -> FileRef:
        return FileRef("gift", size or len(self.data), "", self.root)


def content() -> Content:
    data = random.Random(21).randbytes(2 * PIECE_BYTES + 1000)
    leaves = b"".join(leaf_of(data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))
    return Content(data, leaves, root_of(len(data), leaves))


def message(eve: Attacker, log: LogWriter, *files: FileRef) -> RawEntry:
    """Return the next entry of a log, which names these files."""
    seq = log.seq + 1
    return encode_entry(Entry("text", NOW + seq, NOW + seq, b="a gift", files=files))


async def offer(eve: Attacker, file: FileRef) -> None:
    """Send a message that names a file, from a peer that takes and gives files."""
    eve.say(wire.Peers(can=["files"]))
    log = eve.pen(eve.identity, eve.room)
    eve.say(log.write(message(eve, log, file)))


async def pulled(eve: Attacker, *, pieces: bool) -> wire.Pull:
    """Wait for the first pull of the list of leaves, or of pieces."""
    found: list[wire.Pull] = []

    def there() -> bool:
        found[:] = [frame for frame in eve.frames if isinstance(frame, wire.Pull) and bool(frame.count) == pieces]
        return bool(found)

    await eve.until(there)
    return found[0]


def give(eve: Attacker, n: int, index: int, data: bytes) -> None:
    eve.say(wire.encode_piece(wire.Piece(n, index, data)))


async def give_leaves(eve: Attacker, leaves: bytes) -> None:
    give(eve, (await pulled(eve, pieces=False)).n, 0, leaves)


# ---- false content


async def wrong_leaves(eve: Attacker, made: Content) -> None:
    await offer(eve, made.named())
    await give_leaves(eve, made.leaves[::-1])


async def too_few_leaves(eve: Attacker, made: Content) -> None:
    await offer(eve, made.named())
    await give_leaves(eve, made.leaves[:32])


async def another_size(eve: Attacker, made: Content) -> None:
    """The root covers another size than the message names, with as many pieces."""
    await offer(eve, made.named(len(made.data) + 1))
    await give_leaves(eve, made.leaves)


async def changed_piece(eve: Attacker, made: Content) -> None:
    await offer(eve, made.named())
    await give_leaves(eve, made.leaves)
    give(eve, (await pulled(eve, pieces=True)).n, 0, made.piece(0)[:-1] + b"x")


async def short_piece(eve: Attacker, made: Content) -> None:
    await offer(eve, made.named())
    await give_leaves(eve, made.leaves)
    give(eve, (await pulled(eve, pieces=True)).n, 0, made.piece(0)[:-1])


async def another_piece(eve: Attacker, made: Content) -> None:
    await offer(eve, made.named())
    await give_leaves(eve, made.leaves)
    give(eve, (await pulled(eve, pieces=True)).n, 1, made.piece(1))


async def a_piece_twice(eve: Attacker, made: Content) -> None:
    await offer(eve, made.named())
    await give_leaves(eve, made.leaves)
    n = (await pulled(eve, pieces=True)).n
    for index in (0, 1, 1):
        give(eve, n, index, made.piece(index))


async def a_piece_unasked(eve: Attacker, made: Content) -> None:
    give(eve, 7, 0, made.piece(0))


async def a_piece_too_large(eve: Attacker, made: Content) -> None:
    give(eve, 7, 0, bytes(PIECE_BYTES + 1))


LIES: list[tuple[str, Callable[[Attacker, Content], Awaitable[None]]]] = [
    ("content", wrong_leaves), ("content", too_few_leaves), ("content", another_size), ("content", changed_piece),
    ("content", short_piece), ("order", another_piece), ("order", a_piece_twice), ("order", a_piece_unasked),
    ("limit", a_piece_too_large),
]  # fmt: skip


@pytest.mark.parametrize(("code", "lie"), LIES, ids=[lie.__name__ for _, lie in LIES])
async def test_false_content_ends_the_link_that_gave_it_and_nothing_of_it_is_kept(
    attacked: Attacked, code: str, lie: Callable[[Attacker, Content], Awaitable[None]]
) -> None:
    honest, eve = attacked
    await lie(eve, content())
    assert await honest.while_chatting(eve.wait_closed()) == code
    shown = [post.attachments for post in await honest.ada.history(limit=0) if post.attachments]
    assert [await file.is_here() for files in shown for file in files] == [False] * len(shown)
    assert not [file for file in await honest.ada.stored_files() if file.is_whole]
    assert honest.warned == []


def pull(n: int, post: Message | Sent, root: str, *, count: int = 1) -> wire.Pull:
    return wire.Pull(n, *post.log, post.seq, root, 0, count)


async def test_what_a_member_may_not_have_is_answered_as_what_is_not_there(meet: Meet) -> None:
    """A direct message of others, a deleted message, and a root that the named message has not."""
    honest = await meet()
    ada, eve = honest.ada, await honest.eve()
    eve.say(wire.Peers(can=["files"]))
    to: dict[str, Conversation | User] = {"secret": honest.bob.me, "public": ada.room, "gone": ada.room}
    posts = {
        name: await ada.message((await ada.send(where, name, files=[(name, name.encode())])).id)
        for name, where in to.items()
    }
    roots = {name: post.attachments[0].root for name, post in posts.items()}
    await ada.delete(posts["gone"])
    eve.say(
        pull(1, posts["secret"], roots["secret"]), pull(2, posts["gone"], roots["gone"]),
        pull(3, posts["public"], roots["secret"]), pull(4, posts["public"], roots["public"]),
    )  # fmt: skip
    await eve.next(wire.Piece)
    answers = {frame.n: frame for frame in eve.frames if isinstance(frame, wire.Lacks | wire.Piece)}
    assert answers == {n: wire.Lacks(n) for n in (1, 2, 3)} | {4: wire.Piece(4, 0, b"public")}


# ---- offers


# ---- pulls


async def test_who_asks_for_everything_again_and_again_keeps_nobody_waiting(meet: Meet) -> None:
    """It is given all of it, at its own pace; what it does not read is not read from the disk."""
    honest = await meet()
    data = random.Random(22).randbytes(MAX_PULL_PIECES * PIECE_BYTES)
    ada, eve = honest.ada, await honest.eve()
    eve.say(wire.Peers(can=["files"]))
    post = await ada.message((await ada.send(ada.room, "the film", files=[("film", data)])).id)
    [file] = post.attachments
    eve.say(*(pull(n, post, file.root, count=MAX_PULL_PIECES) for n in range(MAX_PULLS)))
    fetched = asyncio.create_task(fetch(honest.bob))
    await honest.while_chatting(fetched)
    assert fetched.result() == data and not eve.over
    other = await honest.eve("other")
    other.say(wire.Peers(can=["files"]))
    other.say(*(pull(n, post, file.root, count=MAX_PULL_PIECES) for n in range(MAX_PULLS + 1)))
    assert await honest.while_chatting(other.wait_closed()) == "limit"


async def fetch(peer: TCPPeer) -> bytes:
    """Return the content of the newest message with a file, once it is here."""
    async with within(60, "a message with a file"):
        while not (posts := [post for post in await peer.room.history() if post.attachments]):
            await asyncio.sleep(0.02)  # poll: the message may be here already
    return await posts[-1].attachments[0].read()
