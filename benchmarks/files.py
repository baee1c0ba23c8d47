"""Files between processes: a large one, many small ones, and seven readers of one, with texts meanwhile.

The large file is compared with one plain TLS connection of the same run, whose receiver writes to a file, syncs it and
verifies the hash of the content as p2pchat does; and with magic-wormhole, if it is installed, less what a file of one
byte takes it: the start of two programs and the exchange of keys. croc is in no registry of packages that the other
systems come from, and is left out. All begin with the file on the writer's disk. The clock of the small
files runs from the first message to the last file that arrived. Readers begin at one moment, are linked with each
other, and the bytes that leave the writer are those of its content frames.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from benchmarks.floor import PIECE
from benchmarks.others.servers import found, free_port, running
from benchmarks.results import Row, Setting, middle, percentile, shown
from benchmarks.workers import Channel, Worker, WorkFailed, peak_kib, settle

SMALL_BYTES = 1024
SMALL_AT_ONCE = 10  # files of one message, as many as there may be
GATHERED = 100  # messages sent at a time, as in a program that sends what is in a directory
READERS = 7
WORMHOLE_WITHIN = 600  # seconds for one file
TEXT_EVERY = 0.05  # seconds between two texts while the large file moves


def make(path: Path, size: int) -> None:
    """Write a file that no compression makes smaller."""
    with path.open("wb") as file:
        piece = os.urandom(1 << 20)
        for number in range(-(-size // len(piece))):
            file.write((number.to_bytes(8, "big") + piece[8:])[: size - number * len(piece)])


# ---- one plain TLS connection


async def take_stream(channel: Channel, directory: str, size: int) -> None:
    """Run as a worker: take one stream into a file, sync it, and report when that was done."""
    from p2pchat.identity.identity import Identity
    from p2pchat.identity.tls_pipe import server_context

    context = server_context(Identity.generate(), Path(directory))
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = listening.accept()
        buffer, left = bytearray(PIECE), size
        with context.wrap_socket(plain, server_side=True) as link, (Path(directory) / "stream").open("wb") as file:
            hash = blake2b(digest_size=32)
            while left:
                got = link.recv_into(buffer, min(PIECE, left))
                hash.update(memoryview(buffer)[:got])
                file.write(memoryview(buffer)[:got])
                left -= got
            file.flush()
            os.fsync(file.fileno())
            link.sendall(hash.digest())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    channel.send(port=listening.getsockname()[1])
    await channel.closed()


async def send_stream(channel: Channel, port: int, path: str) -> None:
    """Run as a worker: send a file through one TLS connection, and report the seconds until it was verified."""
    from p2pchat.identity.tls_pipe import client_context

    begun = time.perf_counter()
    hash = blake2b(digest_size=32)
    with client_context().wrap_socket(socket.create_connection(("127.0.0.1", port))) as link:
        with Path(path).open("rb") as file:
            while piece := file.read(PIECE):
                hash.update(piece)
                link.sendall(piece)
        if link.recv(32) != hash.digest():
            raise RuntimeError("the stream did not arrive as it was sent")
    channel.send(seconds=time.perf_counter() - begun)


# ---- magic-wormhole


def _by_wormhole(setting: Setting, size: int) -> float:
    """Return the seconds that magic-wormhole takes for a file, directly from one process to another.

    Raises:
        WorkFailed: It is not installed, or does not work here.
    """
    program, server, home, port = found("wormhole"), found("twist"), setting.directory / "files-wormhole", free_port()
    if not program or not server:
        raise WorkFailed("magic-wormhole is not installed: pip install -e '.[bench]'")
    home.mkdir()
    urls = {"WORMHOLE_RELAY_URL": f"ws://127.0.0.1:{port}/v1", "WORMHOLE_TRANSIT_HELPER": f"tcp:127.0.0.1:{port}"}

    def moved(size: int, code: str) -> float:
        file, got, environment = home / "content", home / "got", os.environ | urls
        make(file, size)
        common = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home}
        sending = [program, "send", "--hide-progress", "--no-qr", "--code", code, str(file)]
        receiving = [program, "receive", "--hide-progress", "--accept-file", "--output-file", str(got), code]
        begun = time.perf_counter()
        ends = [subprocess.Popen(words, **common) for words in (sending, receiving)]  # type: ignore[call-overload]
        failed = [end.wait(WORMHOLE_WITHIN) for end in ends]
        seconds = time.perf_counter() - begun
        if any(failed) or got.stat().st_size != size:
            raise WorkFailed("magic-wormhole did not send the file")
        got.unlink()
        return seconds

    listening = f"--port=tcp:{port}:interface=127.0.0.1"
    try:
        with running([server, "wormhole-mailbox", listening, "--channel-db=:memory:"], port, home):
            start = moved(1, "1-one-byte")
            return max(moved(size, "2-large-file") - start, 1e-3)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wormhole_row(setting: Setting, size: int, took: float) -> Row:
    name, goal = "the same by magic-wormhole, of p2pchat's seconds", "at least 2 times"
    try:
        seconds = _by_wormhole(setting, size)
    except (OSError, WorkFailed, subprocess.TimeoutExpired) as error:
        return Row(name, 0.0, "times", goal, "", f"not measured: {error}")
    return Row(name, seconds / took, "times", goal, f"{shown(size / seconds / 1e6)} MB/s", "it syncs nothing")


# ---- peers


class GivenBytes:
    """Counts the bytes of content frames that leave this process."""

    def __init__(self, peer: Any) -> None:
        self.count = 0
        worker = peer._driver.content
        self._send: Callable[[int, bytes], None] = worker._send
        worker._send = self._counted

    def _counted(self, link: int, data: bytes) -> None:
        self.count += len(data)
        self._send(link, data)


async def write(channel: Channel, data: str) -> None:
    """Run as a worker: write what the starting side asks for, and report what it took."""
    from p2pchat import TCPPeer

    async with TCPPeer(0, data=data, name="writer") as peer:
        given = GivenBytes(peer)
        settle()
        channel.send(endpoint=peer.endpoint)
        while (asked := await channel.receive()) is not None:
            if "users" in asked:
                for name in asked["users"]:
                    await peer.wait_user(name, timeout=60)
                channel.send(ready=True)
            elif "file" in asked:
                worked, begun, before = time.process_time(), time.time(), given.count
                await peer.send(peer.room, "", files=[asked["file"]])
                channel.send(begun=begun, kept=time.time())
                sent = asyncio.create_task(_texts(peer)) if asked.get("texts") else None
                assert await channel.receive() is not None
                took = [] if sent is None else await _ended(sent)
                cpu = time.process_time() - worked
                channel.send(given=given.count - before, cpu=cpu, peak=peak_kib(), texts=took)
            else:
                begun = time.time()
                files = [(f"{number}.txt", number.to_bytes(8, "big") * 128) for number in range(asked["small"])]
                messages = [files[first : first + SMALL_AT_ONCE] for first in range(0, len(files), SMALL_AT_ONCE)]
                for first in range(0, len(messages), GATHERED):
                    together = messages[first : first + GATHERED]
                    await asyncio.gather(*(peer.send(peer.room, "", files=each) for each in together))
                channel.send(begun=begun, kept=time.time())


async def _texts(peer: Any) -> list[float]:
    """Send texts to the first reader; return the seconds until each was delivered, once cancelled."""
    took: list[float] = []
    reader = await peer.wait_user("reader0", timeout=60)
    try:
        while True:
            begun = time.perf_counter()
            await (await peer.send(reader, "meanwhile")).delivered(timeout=60)
            took.append(time.perf_counter() - begun)
            await asyncio.sleep(TEXT_EVERY)
    except asyncio.CancelledError:
        return took


async def _ended(sent: asyncio.Task[list[float]]) -> list[float]:
    sent.cancel()
    return await sent


async def read(channel: Channel, data: str, name: str, endpoint: str) -> None:
    """Run as a worker: take what comes, and report when so many bytes of content have arrived."""
    from p2pchat import FileArrived, Message, TCPPeer
    from p2pchat.settings import Settings

    async with TCPPeer(0, endpoint, data=data, name=name) as peer:
        users = [f"reader{number}" for number in range(READERS)]
        fetching: list[asyncio.Task[None]] = []
        settle()
        channel.send(ready=True)
        asked = await channel.receive()
        assert asked is not None
        for other in users[: asked["readers"]]:
            if other != name:
                await peer.wait_user(other, timeout=60)
        channel.send(ready=True)
        events = peer.events(Message, FileArrived)
        left, worked = await _wanted(channel), time.process_time()
        async for event in events:
            if isinstance(event, FileArrived):
                left -= 1
                if not left:
                    channel.send(ended=time.time(), cpu=time.process_time() - worked, peak=peak_kib())
                    left, worked = await _wanted(channel), time.process_time()
                    if not left:  # the end
                        return
            elif event.attachments and event.attachments[0].size > Settings().auto_fetch_bytes:
                fetching.append(asyncio.create_task(event.attachments[0].fetch()))


async def _wanted(channel: Channel) -> int:
    asked = await channel.receive()
    return 0 if asked is None else int(asked["files"])


# ---- the rows


def _streamed(setting: Setting, size: int) -> float:
    """Return the seconds of one plain TLS connection."""
    home = setting.directory / "files-stream"
    home.mkdir()
    make(home / "content", size)
    with Worker("files.take_stream", home=home, directory=str(home), size=size) as far:
        port = far.get()["port"]
        with Worker("files.send_stream", home=home, port=port, path=str(home / "content")) as near:
            seconds: float = near.get()["seconds"]
    for name in ("content", "stream"):
        (home / name).unlink()
    return seconds


class Mesh:
    """A writer and some readers, each a process, all linked with each other."""

    def __init__(self, setting: Setting, name: str, readers: int) -> None:
        self.home = setting.directory / name
        self.home.mkdir()
        self.writer = Worker("files.write", home=self.home, data=str(self.home / "writer"))
        endpoint = self.writer.get()["endpoint"]
        names = [f"reader{number}" for number in range(readers)]
        self.readers = [
            Worker("files.read", home=self.home, data=str(self.home / name), name=name, endpoint=endpoint)
            for name in names
        ]
        for reader in self.readers:
            reader.get()
            reader.put({"readers": readers})
        for reader in self.readers:
            reader.get()
        self.writer.put({"users": names})
        self.writer.get()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (*self.readers, self.writer):
            worker.__exit__()
        shutil.rmtree(self.home, ignore_errors=True)

    def send(self, size: int, *, texts: bool = False) -> tuple[float, dict[str, Any], list[dict[str, Any]]]:
        """Send one file to all. Return the seconds from when it was kept, and the reports of writer and readers."""
        make(self.home / "content", size)
        for reader in self.readers:
            reader.put({"files": 1})
        self.writer.put({"file": str(self.home / "content"), "texts": texts})
        began = self.writer.get()
        ended = [reader.get() for reader in self.readers]
        self.writer.put({"ended": True})
        return max(each["ended"] for each in ended) - began["kept"], self.writer.get() | began, ended


def run(setting: Setting) -> list[Row]:
    """Measure all of it."""
    size, small = setting.file_bytes, setting.files
    streamed = _streamed(setting, size)
    with Mesh(setting, "files-large", 1) as mesh:
        took, wrote, (got,) = mesh.send(size)
        cpu = 1e9 * (wrote["cpu"] + got["cpu"]) / size
        keeping = size / (wrote["kept"] - wrote["begun"]) / 1e6
        beside = f"{streamed / took:.2f} x a TLS connection ({shown(size / streamed / 1e6)} MB/s)"
        note = f"CPU, both ends: {shown(cpu)} ns a byte; peak {wrote['peak'] // 1024} and {got['peak'] // 1024} MiB"
        rows = [
            Row(
                f"a file of {shown(size / 2**20)} MiB",
                size / took / 1e6,
                "MB/s",
                "0.5 x a TLS connection",
                beside,
                note,
            ),
            Row("the same, copied and hashed before", keeping, "MB/s"),
        ]
        if not setting.alone:
            rows.append(_wormhole_row(setting, size, took))
        for reader in mesh.readers:
            reader.put({"files": small})
        mesh.writer.put({"small": small})
        began, ended = mesh.writer.get(), mesh.readers[0].get()
        rate = small / (ended["ended"] - began["begun"])
        sent = small / (began["kept"] - began["begun"])
        note = f"the writer alone: {shown(sent)}/s; CPU of the reader {shown(1e6 * ended['cpu'] / small)} us a file"
        rows.append(Row(f"files of {SMALL_BYTES} bytes, 10 a message", rate, "files/s", "2,000 files/s", "", note))
    with Mesh(setting, "files-texts", 1) as mesh:
        _, wrote, _ = mesh.send(size, texts=True)
        texts = [1000 * seconds for seconds in wrote["texts"]]
        if texts:
            note = f"{len(texts)} texts; the slowest {shown(max(texts))} ms"
            goal = "10 ms, and all within 50 ms"
            rows.append(Row("a text delivered meanwhile, median", middle(texts), "ms", goal, "", note))
            rows.append(Row("the same, 99 of 100", percentile(texts, 0.99), "ms"))
    with Mesh(setting, "files-readers", READERS) as mesh:
        shared = max(1, size // 10)
        took, wrote, _ = mesh.send(shared)
        note = f"{shown(shared / 2**20)} MiB each, in {shown(took)} s"
        times = wrote["given"] / shared
        rows.append(
            Row(f"{READERS} readers of one file: it left the writer", times, "times", "at most 2 times", "", note)
        )
    return rows
