"""Clients of a cluster behind its balancer: each has an account, a WebSocket, and comes back with `since` whenever that
breaks, to whichever gateway the balancer chooses.

One message in twenty goes to the room, the others to one user each. A text is written once; a client without an answer
writes it again with its key. What each client has to get, and what it got under which ids, is compared at the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.deadlines import WAIT, within
from tests.web.chat_client import connect

AGAIN_AFTER = 0.3  # seconds at most until a client comes back, drawn; browsers wait up to a second
ROOM_EVERY = 20  # of so many messages one goes to the room


@dataclass
class Post:
    """A message of the crowd.

    Attributes:
        ids: The ids under which anybody saw it; more than one if it was written twice.
    """

    text: str
    to: str
    writer: str
    ids: set[str] = field(default_factory=set)
    is_accepted: bool = False


class Client:
    """One account with one WebSocket.

    Attributes:
        got: The texts that came.
        gaps: The times without service: when the socket broke, and when a new one had caught up.
        gateway: The gateway it is at, or was last; "" before the first.
    """

    def __init__(self, crowd: Crowd, name: str, token: str) -> None:
        self.name = name
        self.got = set[str]()
        self.gaps: list[tuple[float, float]] = []
        self.gateway = ""
        self.is_live = asyncio.Event()
        self._crowd = crowd
        self._headers = {"Authorization": f"Bearer {token}"}
        self._last = ""
        self._socket: ClientConnection | None = None
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def run(self) -> None:
        """Stay connected, for ever."""
        broke_at = 0.0
        while True:
            with suppress(OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
                url = f"ws://{self._crowd.url}/chat?since={self._last}"
                async with connect(url, additional_headers=self._headers, max_queue=None, close_timeout=1) as socket:
                    self._socket = socket
                    async for frame in socket:
                        self._on_frame(json.loads(frame), broke_at)
            if self.is_live.is_set():
                broke_at = monotonic()
                self.is_live.clear()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the socket broke"))
            await asyncio.sleep(random.random() * AGAIN_AFTER)  # all of a gateway come at once

    def _on_frame(self, frame: dict[str, Any], broke_at: float) -> None:
        match frame.get("type"):
            case None:
                answer = self._answers.get(frame.get("ref", ""))
                if answer is not None and not answer.done():
                    answer.set_result(frame)
                if "id" in frame:
                    self._has(frame["id"])
            case "resumed":
                self.gateway = frame.get("gateway", "")  # not told before it knows that others host the user
                self._last = self._last or frame.get("last", "")
                self.is_live.set()
                if broke_at:
                    self.gaps.append((broke_at, monotonic()))
            case "message":
                self.got.add(frame["content"])
                self._crowd.on_message(frame["content"], frame["id"])
                self._has(frame["id"])

    def _has(self, id: str) -> None:
        """Continue behind this message next time, unless earlier ones are still to come."""
        if self.is_live.is_set():
            self._last = f"{id}@{self.gateway}" if self.gateway else id

    async def write(self, post: Post) -> None:
        """Write a message, again and again until it is accepted."""
        while True:
            await self.is_live.wait()
            socket, answer = self._socket, asyncio.get_running_loop().create_future()
            assert socket is not None
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # also if it cannot be sent
            self._answers[post.text] = answer
            frame = {"text": post.text, "key": post.text, "ref": post.text}
            with suppress(OSError, ConnectionClosed):
                await socket.send(json.dumps(frame if post.to == "room" else frame | {"to": post.to}))
                said = await answer
                if said["status"] == "ok":
                    post.ids.add(said["id"])
                    post.is_accepted = True
                    del self._answers[post.text]
                    return
                await asyncio.sleep(1)  # as Retry-After says
            await asyncio.sleep(0.05)  # until the reader has noticed, too


class Crowd:
    """All clients of one site. Attributes: `clients` by name, `posts` by text, `url` of the balancer."""

    def __init__(self, url: str, tokens: dict[str, str], seed: str = "crowd") -> None:
        self.url = url
        self.clients = {name: Client(self, name, token) for name, token in tokens.items()}
        self.posts: dict[str, Post] = {}
        self._chance = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._writing: set[asyncio.Task[None]] = set()
        self._talking: asyncio.Task[None] | None = None

    async def come(self) -> None:
        """Connect all clients; return when they are live."""
        self._tasks = [asyncio.create_task(one.run(), name=one.name) for one in self.clients.values()]
        await self.all_live()

    async def all_live(self, within_seconds: float = WAIT) -> None:
        """Wait until every client has service."""
        async with within(within_seconds, "all clients to be live"):
            for client in self.clients.values():
                await client.is_live.wait()

    def talk(self, per_second: float) -> None:
        """Write so many messages a second from now on, by clients that are live."""
        self._talking = asyncio.create_task(self._talk(per_second), name="talk")

    async def _talk(self, per_second: float) -> None:
        began, names = monotonic(), list(self.clients)
        for number in range(10**9):
            await asyncio.sleep(max(0.0, began + number / per_second - monotonic()))  # the rate of the messages
            writer, other = self._chance.sample(names, 2)
            post = Post(f"m{number}", "room" if number % ROOM_EVERY == 0 else other, writer)
            self.posts[post.text] = post
            task = asyncio.create_task(self.clients[writer].write(post), name=f"write {post.text}")
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def until_said(self, more: int) -> None:
        """Wait until so many more messages were written."""
        wanted = len(self.posts) + more
        while len(self.posts) < wanted:
            await asyncio.sleep(0.05)  # poll: messages are written all the time

    async def quiet(self) -> None:
        """Stop talking; return when every message is accepted and everyone has everything."""
        assert self._talking is not None
        self._talking.cancel()
        await _until_none(self.unanswered, "were not accepted")
        await _until_none(self.missed, "were not delivered")

    def on_message(self, text: str, id: str) -> None:
        if text in self.posts:
            self.posts[text].ids.add(id)

    def unanswered(self) -> list[Post]:
        """Return what was not accepted yet."""
        return [post for post in self.posts.values() if not post.is_accepted]

    def missed(self) -> list[tuple[str, Post]]:
        """Return what was accepted and has not come to somebody."""
        return [
            (name, post)
            for post in self.posts.values()
            if post.is_accepted
            for name in (self.clients if post.to == "room" else (post.to,))
            if name != post.writer and post.text not in self.clients[name].got
        ]

    def written_twice(self) -> list[Post]:
        """Return the messages that are there under two ids."""
        return [post for post in self.posts.values() if len(post.ids) > 1]

    def gaps(self, since: float) -> list[float]:
        """Return how long each client was without service, of the gaps that began after a moment, sorted."""
        return sorted(to - at for one in self.clients.values() for at, to in one.gaps if at >= since)

    async def leave(self) -> None:
        """Close everything."""
        tasks = [*self._tasks, *self._writing, *([self._talking] if self._talking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_none(left: Callable[[], Sequence[object]], what: str) -> None:
    """Wait until nothing is left; fail when it has not become less for a minute, however much it was at first."""
    least, deadline = sys.maxsize, 0.0
    while found := left():
        if len(found) < least:
            least, deadline = len(found), monotonic() + WAIT
        assert monotonic() < deadline, f"{len(found)} {what}: {found[:20]}"
        await asyncio.sleep(0.1)  # poll: all clients work on it
