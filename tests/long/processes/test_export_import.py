"""Export and import that are interrupted, or read an endless pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from p2pchat.testing.process_mesh import Child
from tests.deadlines import WAIT, until
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def said_by(cluster: Cluster, name: str, *texts: str) -> Child:
    """Start a peer alone and have it send these texts to the room."""
    child = cluster.child(name, log=False)
    await child.start()
    for text in texts:
        await child.do(do="send", text=text)
    await child.wait(lambda line: line["event"] == "sent", count=len(texts))
    return child


async def gone(child: Child) -> None:
    """Kill a peer. An orderly stop would wait for a recipient of its messages."""
    child.kill()
    await child.ended()


async def started(quick: Cluster, of: str, *words: str) -> asyncio.subprocess.Process:
    """Run `p2pchat WORDS --data OF`, and do not wait for its end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "p2pchat", *words, "--data", str(quick.home / of)),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**os.environ, "P2PCHAT_HOME": str(quick.home)},
    )
    return process


async def stops(process: asyncio.subprocess.Process, number: int) -> tuple[int, str]:
    """Send a signal; return exit code and stderr."""
    process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), WAIT)
    return process.returncode or 0, err.decode()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    if sys.platform == "win32":
        pytest.skip("has no such pipes")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
async def test_an_import_from_a_silent_pipe_can_be_interrupted(
    quick: Cluster, fifo: Path, number: int, code: int
) -> None:
    if sys.platform == "win32":
        pytest.skip("has no such pipes")
    await gone(await said_by(quick, "ada", "one"))
    process = await started(quick, "ada", "import", str(fifo))
    writers: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # not open for reading yet
            writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    await until(is_read, "the pipe to be read")
    try:
        assert await stops(process, number) == (code, "")
    finally:
        os.close(writers[0])


async def test_an_export_into_an_unread_pipe_can_be_interrupted(quick: Cluster, fifo: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("has no such pipes")
    import fcntl
    import termios

    await gone(await said_by(quick, "ada", *("x" * 30_000 for _ in range(5))))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        process = await started(quick, "ada", "export", str(fifo))

        def waiting() -> int:
            return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)

        await until(lambda: waiting() >= 65536, "a full pipe")  # the capacity of a pipe
        assert await stops(process, signal.SIGINT) == (130, "")
    finally:
        os.close(reader)


async def test_an_endless_input_blocks_nothing_and_leaves_nothing(quick: Cluster) -> None:
    await said_by(quick, "ada", "one")
    process = await started(quick, "ada", "import", "-")
    assert process.stdin is not None
    process.stdin.write(b"x")
    directory = quick.home / "ada"
    await until(lambda: any(left.stat().st_size for left in directory.glob(".input-*/*")), "a copy of the file")
    code, _ = await stops(process, signal.SIGTERM)
    assert (code, list(directory.glob(".input-*"))) == (1, [])
