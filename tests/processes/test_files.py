"""Files between processes that are killed at drawn moments: whole in the end, and nothing verified is fetched twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pchat.core.attachments import PIECE_BYTES
from tests.deadlines import WAIT
from tests.ports import free_ports

KILLS = 6  # of either side
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


def test_a_file_is_whole_after_kills_of_both_sides(tmp_path: Path) -> None:
    chance = random.Random(13)
    file, (one, other) = tmp_path / "file", free_ports(2)
    file.write_bytes(chance.randbytes(SIZE))
    send = ("send", tmp_path / "ada", one, file)
    fetch = ("fetch", tmp_path / "bob", other, f"127.0.0.1:{one}")
    stored, deadline = 0, time.monotonic() + 3 * WAIT
    for _ in range(KILLS):
        with running(*send) as ada:
            assert line(ada) == "ready"
            with running(*fetch) as bob:
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
    assert stored > 0, "nothing came in the time for all kills"
    with running(*send) as ada, running(*fetch) as bob:
        assert line(ada) == "ready"
        said = line(bob)
        assert not said.isdigit() or int(said) >= stored
        while said.isdigit() and time.monotonic() < deadline:
            said = line(bob)
        assert said == "whole True"
    (content,) = [path for path in (tmp_path / "bob" / "content").iterdir() if not path.suffix]
    assert content.read_bytes() == file.read_bytes()
