"""Files on a disk that does not answer, as a mount whose server is gone: here files that another process has leased."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from p2pchat.testing import processes
from tests.web.processes import p2pchat, running

if sys.platform != "linux":
    pytest.skip("leases of files are Linux's", allow_module_level=True)

import fcntl

DEAD = 4  # each takes as long as a disk may take: together more than the end of a process may
PATIENCE = 120.0  # seconds


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[list[str]]:
    """Yield paths of files that nobody else can open as long as the kernel waits for this process: 45 s."""
    former = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with ExitStack() as opened:
        files = [opened.enter_context(open(tmp_path / f"{number}.txt", "w+b")) for number in range(DEAD)]
        for file in files:
            file.write(b"dead")
            file.flush()
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield [file.name for file in files]
    signal.signal(signal.SIGIO, former)


async def test_a_dead_file_takes_neither_the_session_nor_its_end(dead: list[str]) -> None:
    async with processes("ada", "bob") as net:
        ada, bob = net.peers
        await ada.do(do="send", to="bob", files=dead[:1], ref="first")
        await ada.do(do="send", to="bob", text="behind it", ref="text")
        await ada.do(do="who", ref="who")
        await ada.event("answer", ref="who", timeout=PATIENCE)
        assert not ada.count("error", ref="first"), "the answer waited for the file"
        await bob.event("message", text="behind it", timeout=PATIENCE)
        assert (await ada.event("error", ref="first"))["text"] == "a file cannot be sent: the disk does not answer"
        for path in dead[1:]:
            await ada.do(do="send", to="bob", files=[path], ref=os.path.basename(path))
        await ada.do(do="who", ref="again")
        await ada.event("answer", ref="again", timeout=PATIENCE)
        ada.process.send_signal(signal.SIGTERM)
        assert await ada.ended(PATIENCE) == 1
        [told] = [line for line in ada.complaints if "files" in line]
        assert told == "p2pchat: ended while files did not answer: they were not sent, nor what came after them"
        assert not ada.count("sent", text="")


async def test_a_log_on_a_dead_disk_ends_and_its_chat_goes_on(tmp_path: Path) -> None:
    """A full pipe is such a disk: whoever writes there waits."""
    os.mkfifo(tmp_path / "log")
    pipe = os.open(tmp_path / "log", os.O_RDWR | os.O_NONBLOCK)
    try:
        command = p2pchat("0", "--name", "ada", "--json", "--log", str(tmp_path / "log"), "--data", str(tmp_path / "a"))
        async with running(*command, home=tmp_path) as ada:
            await ada.until('"event":"listening"')
            with suppress(BlockingIOError):
                while True:
                    os.write(pipe, bytes(1))
            for text in ("first", "second"):
                await ada.say(f'{{"do":"send","to":"room","text":"{text}","ref":"{text}"}}')
            await ada.until_all("the disk does not answer; logging stops", '"ref":"first"', '"ref":"second"')
            ada.terminate()
            assert await ada.end() == 1  # as after any log that could not be written
    finally:
        os.close(pipe)
