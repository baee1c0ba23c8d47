"""The store of a cluster in an engine (NATS with JetStream, extra `nats`), compared every few seconds for lost notices.

The server is one of version 2.11 or later, used with nats-py. A bucket is a stream with one value for each key, as the
key-value buckets of NATS are; the stream numbers its values. A value is written in place of the one with a given number
(compare-and-set), which makes a name unique. The server says each stored value once more on another subject. That is
only a hint: values are listed at each connection. The numbers are looked at every few seconds; when they show that a
hint was lost, or that the bucket was wiped or rolled back, the values are listed again, for a bounded share of time.

A consumer of the server is used for the list only. Nothing here decides what a value means or whether it is believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from p2pchat.program_log import ProgramLog
from p2pchat.web.cluster.nats_client import (
    CHECKED_EVERY,
    CONNECT_TIMEOUT,
    Connection,
    cancel,
    close,
    reason_of,
    serve_always,
    sign_in_with,
)
from p2pchat.web.error_responses import WebError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

ACCOUNTS = "accounts"
MAX_VALUE_BYTES = 8192
ASK_TIMEOUT = 3.0  # seconds for one write, a guess; an election among three servers takes one or two
PING_EVERY = 2  # seconds
COMPARED_EVERY = 5.0  # seconds between two looks at the numbers of the bucket
# Times as long as a list took, until the next look: anybody who may publish can tell numbers of values that do not
# exist, and a list of 10,000 accounts takes 0.7 s of CPU. A guess
PAUSE_AFTER_LIST = 20.0
RETRY_MOST = 2.0  # seconds until the next attempt to connect
COPIES = 3  # of each value, if as many servers are named
_NOT_THAT_NUMBER = (10071, 10164)  # error codes of the server: the key has another number
_NAME_IN_USE = 10058  # a bucket made with other settings

T = TypeVar("T")
_log = ProgramLog("p2pchat.web.cluster")


class ClusterAway(WebError):
    """The engine cannot be asked now."""

    def __init__(self) -> None:
        text = "the gateways of this cluster cannot agree on names now: their engine is away, try again"
        super().__init__(503, "cluster", text, {"Retry-After": "5"})


class OtherRevision(Exception):
    """The key holds a value with another number than expected."""


@dataclass(frozen=True)
class StoreOptions:
    """The place of a cluster's store, and the credentials for it.

    Attributes:
        cluster: The name of the cluster.
        servers: The URLs of one engine's servers.
        credentials: A file of the operator, .creds or the seed of an nkey.
        compared_every: Seconds between two looks at the numbers of the bucket.
    """

    cluster: str
    servers: tuple[str, ...] = field(repr=False)  # they may contain passwords
    credentials: Path | None = None
    compared_every: float = COMPARED_EVERY


class EngineStore:
    """The connection of one gateway to the store, made anew whenever it is lost.

    Attributes:
        on_up: Called when all values were listed, and hints come from now on.
        on_down: Called with the reason when the engine cannot be reached or was lost; "" at the end.
        on_loading: Called before values are listed.
        on_value: Called with a key, its value and its number; b"" for a deletion.
        on_loaded: Called when all values were listed.
        on_message: Called with each message of another gateway.
    """

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._prefix = f"p2pchat.cluster.{options.cluster}"
        self._stream = f"KV_p2pchat-{options.cluster}-{ACCOUNTS}"
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self.on_loading: Callable[[], None] = lambda: None
        self.on_value: Callable[[str, bytes, int], None] = lambda key, value, number: None
        self.on_loaded: Callable[[], None] = lambda: None
        self.on_message: Callable[[bytes], None] = lambda data: None
        self._client: Client | None = None
        self._js: JetStreamContext | None = None
        self._lost: asyncio.Future[str]  # done when the connection is lost
        self._newest = 0  # the highest number that was heard of since the last list
        self._made_at: object = None  # of the bucket: another one was made if it changes
        self._suspected = -1  # a number in the bucket of which no hint came until the last look
        self._compare_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background, and again after each loss."""
        running = serve_always(
            self._options.servers,
            self._serve,
            explain=_reason,
            on_end=lambda server, reason: self.on_down(reason),
            retry_most=RETRY_MOST,
        )
        self._task = asyncio.create_task(running, name="p2pchat web cluster")

    async def aclose(self) -> None:
        """Disconnect."""
        if self._task is not None:
            await cancel([self._task])
            self._task = None

    @property
    def is_up(self) -> bool:
        """True while the store can be asked."""
        return self._js is not None

    async def write(self, key: str, value: bytes, expected: int) -> int:
        """Write a value in place of the one with this number, 0 for none; return its number.

        Raises OtherRevision; ClusterAway: perhaps it was written, if the engine was asked and its answer did not come.
        """
        from nats.js.errors import APIError

        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        js = self._up()
        try:
            done = await self._answer(js.publish(self._subject(key), value, timeout=ASK_TIMEOUT, headers=headers))
        except APIError as error:
            if error.err_code in _NOT_THAT_NUMBER:
                raise OtherRevision from None
            raise await self._failed(error) from None
        except Exception as error:  # any error of nats-py: the connection is made anew
            raise await self._failed(error) from None
        return int(done.seq)

    async def read(self, key: str) -> tuple[bytes, int]:
        """Return a value and its number, as its leader knows them; (b"", 0) for none. Raises ClusterAway."""
        from nats.js.errors import NotFoundError

        js = self._up()
        try:
            found = await self._answer(js.get_last_msg(self._stream, self._subject(key)))
        except NotFoundError:
            return b"", 0
        except Exception as error:  # any error of nats-py: the connection is made anew
            raise await self._failed(error) from None
        return found.data or b"", int(found.seq or 0)

    async def send(self, data: bytes) -> None:
        """Send a message to all gateways, this one included, if the engine is there."""
        if self._client is not None:
            with suppress(Exception):  # the connection is closing
                await self._client.publish(f"{self._prefix}.message", data)
                await self._client.flush(int(ASK_TIMEOUT))

    async def _answer(self, asking: Coroutine[Any, Any, T]) -> T:
        """Return an answer of the engine. Raises ConnectionError as soon as the connection is lost."""
        asked = asyncio.ensure_future(asking)
        either: list[asyncio.Future[Any]] = [asked, self._lost]
        try:
            await asyncio.wait(either, timeout=ASK_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise ConnectionError("no answer")
            return asked.result()
        finally:
            asked.cancel()

    def _up(self) -> JetStreamContext:
        if self._js is None:
            raise ClusterAway
        return self._js

    async def _failed(self, error: Exception) -> ClusterAway:
        """Return what to raise, and begin a new connection: until it stands, calls need not wait."""
        _log.info("cluster %s: not written: %s", self._options.cluster, error)
        client, self._js = self._client, None
        if client is not None:
            await close(client)
        return ClusterAway()

    def _subject(self, key: str) -> str:
        return f"$KV.p2pchat-{self._options.cluster}-{ACCOUNTS}.{key}"

    # ---- connection

    async def _serve(self, server: str) -> str:
        """Connect to one server and serve it; return why that ended."""
        connection = Connection(server, _reason, MAX_VALUE_BYTES)
        client, self._lost = connection.client, connection.lost
        try:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await connection.open(self._sign_in(server), PING_EVERY)
            except Exception as error:  # of whatever kind: it says only that no server is left
                raise connection.cause(error) from None
            self._client, js = client, client.jetstream(timeout=ASK_TIMEOUT)
            await self._make_bucket(js)
            await client.subscribe(f"{self._prefix}.{ACCOUNTS}.*", cb=self._on_hint)
            await client.subscribe(f"{self._prefix}.message", cb=self._on_msg)
            await client.flush(int(CONNECT_TIMEOUT))
            self._newest, self._made_at = 0, None
            await self._load(client, js)
            self._js = js
            self.on_up()
            await self._watch(connection, js)
            return connection.reason
        finally:
            self._client = self._js = None
            await close(client)

    def _sign_in(self, server: str) -> dict[str, Any]:
        path = self._options.credentials
        return {} if path is None or urlsplit(server).username else sign_in_with(path)

    async def _make_bucket(self, js: JetStreamContext) -> None:
        from nats.js import api
        from nats.js.errors import APIError

        subject = self._subject(">")
        config = api.StreamConfig(
            name=self._stream,
            subjects=[subject],
            max_msgs_per_subject=1,
            max_msg_size=MAX_VALUE_BYTES,
            discard=api.DiscardPolicy.NEW,
            num_replicas=COPIES if len(self._options.servers) >= COPIES else 1,
            republish=api.RePublish(src=subject, dest=f"{self._prefix}.{ACCOUNTS}.>"),
        )
        try:
            await js.add_stream(config)
        except APIError as error:
            if error.err_code != _NAME_IN_USE:
                raise

    async def _watch(self, connection: Connection, js: JetStreamContext) -> None:
        """Return when the connection is lost; until then look now and then whether a hint was."""
        loop = asyncio.get_running_loop()
        while not connection.is_lost and self._js is js:
            await asyncio.wait([connection.lost], timeout=min(CHECKED_EVERY, self._options.compared_every))
            if loop.time() >= self._compare_at:
                self._compare_at = loop.time() + self._options.compared_every
                await self._compare(connection.client, js)

    async def _compare(self, client: Client, js: JetStreamContext) -> None:
        """List all values again if the numbers of the bucket are not those that were heard of."""
        info = await js.stream_info(self._stream)
        newest = info.state.last_seq
        if info.created == self._made_at and newest == self._newest:
            self._suspected = -1
        elif info.created == self._made_at and newest > self._newest and newest != self._suspected:
            self._suspected = newest  # perhaps its hint is on its way
        else:
            await self._load(client, js)

    async def _load(self, client: Client, js: JetStreamContext) -> None:
        """List all values of the accounts."""
        from nats.js import api

        loop = asyncio.get_running_loop()
        began_at = loop.time()
        self.on_loading()
        info = await js.stream_info(self._stream)
        self._newest = info.state.last_seq  # not more: anybody who may publish can tell a number that does not exist
        done: asyncio.Future[None] = loop.create_future()
        listed = 0

        async def on_value(msg: Msg) -> None:
            nonlocal listed
            listed += 1
            self._on_stored(msg.subject, msg.data, int(msg.metadata.sequence.stream))
            if msg.metadata.num_pending == 0 and not done.done():
                done.set_result(None)

        if info.state.messages:
            subject = self._subject(">")
            listing = await js.subscribe(
                subject, stream=self._stream, cb=on_value, ordered_consumer=True,
                deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
            )  # fmt: skip
            try:
                before = -1
                while not done.done():
                    if listed == before:
                        raise TimeoutError  # somebody removes the bucket, or its servers have no leader
                    before = listed
                    await asyncio.wait([done], timeout=ASK_TIMEOUT)
            finally:
                with suppress(Exception):  # the connection is lost
                    await listing.unsubscribe()
        self._made_at, self._suspected = info.created, -1
        self.on_loaded()
        ended_at = loop.time()
        self._compare_at = ended_at + max(self._options.compared_every, PAUSE_AFTER_LIST * (ended_at - began_at))

    async def _on_hint(self, msg: Msg) -> None:
        headers: Mapping[str, str] = msg.headers or {}
        number = headers.get("Nats-Sequence", "")
        if number.isdecimal():
            self._on_stored(msg.subject, msg.data, int(number))

    def _on_stored(self, subject: str, value: bytes, number: int) -> None:
        self._newest = max(self._newest, number)
        self.on_value(subject.rpartition(".")[2], value, number)

    async def _on_msg(self, msg: Msg) -> None:
        self.on_message(msg.data)


def _reason(error: Exception) -> str:
    """Return for people why there is no connection."""
    from nats.js.errors import ServiceUnavailableError

    if isinstance(error, ServiceUnavailableError) or type(error).__name__ == "NoRespondersError":
        return "it keeps nothing: start nats-server with -js"
    return reason_of(error)
