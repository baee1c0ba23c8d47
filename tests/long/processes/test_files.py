"""Files between processes that are killed at drawn moments: whole in the end, and nothing verified is fetched twice."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2pchat.core.content.pieces import LEAF_BYTES, PIECE_BYTES, count_pieces
from tests.deadlines import WAIT, within
from tests.ports import free_ports
from tests.processes.peers import Cluster
from tests.processes.proxy import Proxy

KILLS = 20  # of each side
SIZE = 60 * PIECE_BYTES + 12345


@contextmanager
def running(*words: object) -> Iterator[subprocess.Popen[str]]:
    """Run a file peer, and kill it at the end."""
    command = [sys.executable, "-m", "tests.processes.file_peer", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def noted(content: Path) -> set[int]:
    """Return the pieces that are verified and noted in a directory of content, which nobody writes now."""
    found: set[int] = set()
    for record in content.glob("*.had"):
        data = record.read_bytes()
        first = 8 + LEAF_BYTES * count_pieces(int.from_bytes(data[:8], "big"))
        found |= {index for index, state in enumerate(data[first:]) if state}
    return found


def asked(trace: Path) -> set[int]:
    """Return the pieces that a process asked for, as far as its trace was written before its end."""
    pieces: set[int] = set()
    for said in trace.read_bytes().splitlines() if trace.exists() else ():
        try:
            line = json.loads(said)
        except ValueError:  # the process was killed while it wrote this
            continue
        frame = line.get("frame")
        if line.get("direction") == "out" and isinstance(frame, dict) and frame.get("t") == "pull":
            pieces |= {*range(frame["first"], frame["first"] + frame["count"])}
    return pieces


@pytest.mark.timeout(600)
def test_a_file_is_whole_after_kills_of_both_sides(tmp_path: Path) -> None:
    chance = random.Random(13)
    file, (one, other) = tmp_path / "file", free_ports(2)
    file.write_bytes(chance.randbytes(SIZE))
    send = ("send", tmp_path / "ada", one, file)
    fetch = ("fetch", tmp_path / "bob", other, f"127.0.0.1:{one}")
    stored, deadline, had = 0, time.monotonic() + 5 * WAIT, set[int]()
    for kill in range(KILLS):
        trace = tmp_path / f"{kill}.trace"
        with running(*send) as ada:
            assert line(ada) == "ready"
            with running(*fetch, trace) as bob:
                first = True
                target = stored + chance.randrange(1, SIZE // KILLS)
                while (said := line(bob)).isdigit() and int(said) < target and time.monotonic() < deadline:
                    if first:
                        assert int(said) >= stored, "what was verified is fetched again"
                        first = False
                    stored = int(said)
                    if stored > target // 2:
                        ada.kill()  # the other side goes at a moment of its own
                        break
        assert had.isdisjoint(asked(trace)), "what was verified is asked for again"
        had = noted(tmp_path / "bob" / "content")
    assert stored > 0 and had, "nothing came in the time for all kills"
    trace = tmp_path / "last.trace"
    with running(*send) as ada, running(*fetch, trace) as bob:
        assert line(ada) == "ready"
        said = first_said = line(bob)
        assert not said.isdigit() or int(said) >= stored
        while said.isdigit() and time.monotonic() < deadline:
            said = line(bob)
        assert said == "whole True"
        while first_said.isdigit() and not asked(trace) and time.monotonic() < deadline:
            time.sleep(0.02)  # poll: a trace is written a little later, and not at all by a process that was killed
    (content,) = [path for path in (tmp_path / "bob" / "content").iterdir() if not path.suffix]
    assert content.read_bytes() == file.read_bytes()
    assert had.isdisjoint(asked(trace)), "what was verified is asked for again"
    assert asked(trace) or not first_said.isdigit(), "the trace shows nothing that was asked for"


def test_another_member_gives_a_file_whose_writer_is_gone(tmp_path: Path) -> None:
    file, (one, other, third) = tmp_path / "file", free_ports(3)
    file.write_bytes(random.Random(14).randbytes(SIZE))
    bob = ("fetch", tmp_path / "bob", other, f"127.0.0.1:{one}", tmp_path / "bob.trace")
    with running("send", tmp_path / "ada", one, file) as ada, running(*bob) as process:
        assert line(ada) == "ready"
        assert arrives(process)
    cyd = ("fetch", tmp_path / "cyd", third, f"127.0.0.1:{other}", tmp_path / "cyd.trace")
    with running(*bob) as process, running(*cyd) as last:
        assert arrives(process) and arrives(last)
    (content,) = [path for path in (tmp_path / "cyd" / "content").iterdir() if not path.suffix]
    assert content.read_bytes() == file.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process in /proc")
def test_a_large_file_takes_little_memory_on_both_sides(tmp_path: Path) -> None:
    file, (one, other) = tmp_path / "file", free_ports(2)
    with file.open("wb") as large:
        large.truncate(440 * PIECE_BYTES)
    bob = ("fetch", tmp_path / "bob", other, f"127.0.0.1:{one}", tmp_path / "bob.trace")
    with running("send", tmp_path / "ada", one, file) as ada, running(*bob) as process:
        assert line(ada) == "ready"
        assert arrives(process)
        peaks = [peak(ada), peak(process)]
    assert max(peaks) < file.stat().st_size, "all of it was in memory at once"


def peak(process: subprocess.Popen[str]) -> int:
    """Return the most bytes of memory that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_texts_are_delivered_while_a_large_file_moves(cluster: Cluster) -> None:
    """The network is slow, so an order of events says it: no time is measured."""
    proxy = Proxy(slow=0.01)  # 6 MiB a second
    endpoint, file = await proxy.listen(), cluster.home.parent / "film.bin"
    file.write_bytes(random.Random(15).randbytes(100 * PIECE_BYTES))
    ada, bob = cluster.child("ada"), cluster.child("bob", endpoint)
    await ada.start()
    proxy.to("127.0.0.1", ada.listening["port"])
    await bob.start()
    await bob.event("joined", user="ada")
    await ada.do(do="send", to="room", text="the film", files=[str(file)])
    await bob.do(do="get", id=(await bob.event("message", text="the film"))["id"], ref="film")
    await some_is_here(cluster)
    for text in ("one", "two", "three"):
        id = (await ada.send(text))["id"]
        await ada.event("delivered", id=id)
    await bob.event("answer", ref="film")
    shown = [line.get("text") or line["event"] for line in bob.lines if line["event"] in ("message", "answer")]
    assert shown == ["the film", "one", "two", "three", "answer"]
    await proxy.close()


async def some_is_here(cluster: Cluster) -> None:
    """Wait until bob has some of a file."""
    async with within(WAIT, "the first pieces of a file"):
        while not noted(cluster.home / "bob" / "content"):
            await asyncio.sleep(0.02)  # poll: another process writes them


def arrives(process: subprocess.Popen[str]) -> bool:
    """Wait until a process that fetches says that the file is whole."""
    deadline = time.monotonic() + 3 * WAIT
    while (said := line(process)).isdigit() and time.monotonic() < deadline:
        pass
    return said == "whole True"
