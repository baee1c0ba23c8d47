"""`p2pchat get` beside a running peer and without one: directories, names, pipes, exit codes, what is stopped."""

from __future__ import annotations

import json
import random
import signal
import sys
from pathlib import Path

import pytest

from tests.processes.test_control import Commands, a_pair
from tests.processes.test_control import sock as sock

pytestmark = pytest.mark.asyncio(loop_scope="module")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
LARGE = random.Random(33).randbytes(12_000_000)  # above what comes by itself


def files(home: Path) -> tuple[Path, Path, Path]:
    """Return a small file, a large one, and a directory for what is fetched."""
    small, large, got = home / "a plan.txt", home / "film.bin", home / "got"
    small.write_text("the plan")
    large.write_bytes(LARGE)
    got.mkdir()
    return small, large, got


async def test_files_are_saved_beside_a_chat(sock: Commands) -> None:
    _, bob = await a_pair(sock)
    small, large, got = files(sock.home)
    assert (await sock.command("ada", "send", "bob", "--file", str(small), "--file", str(large)))[0] == 0
    id = (await bob.event("message", kind="dm", sender="ada"))["id"]
    code, out, err = await sock.command("bob", "get", id, "--output", str(got))
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{got / 'a plan.txt'}: 8 bytes", f"{got / 'film.bin'}: 12.0 MB"]
    assert (got / "a plan.txt").read_text() == "the plan" and (got / "film.bin").read_bytes() == LARGE
    code, out, _ = await sock.command("bob", "get", id, "--number", "1", "--output", str(got), "--json")
    saved = json.loads(out.splitlines()[-1])
    assert (code, saved["event"], saved["path"]) == (0, "file_saved", str(got / "a plan (2).txt"))
    assert await sock.command("bob", "get", id, "--number", "1", "--output", "-") == (0, "the plan", "")
    assert not [path for path in (sock.home / "bob").iterdir() if path.name.startswith(".get-")]
    code, _, err = await sock.command("bob", "get", id, "--output", "-")
    assert code == 2 and "this message has 2 files: choose one with --number" in err
    code, _, err = await sock.command("bob", "get", id, "--output", str(got / "one"))
    assert code == 2 and "name a directory, or choose one with --number" in err
    code, _, err = await sock.command("bob", "get", id, "--number", "3")
    assert code == 2 and "this message has 2 files: --number 1 to 2" in err
    code, _, err = await sock.command("bob", "get", id, "--number", "1", "--output", str(got / "no" / "where"))
    assert code == 1 and "the file cannot be saved" in err
    code, _, err = await sock.command("bob", "get", "BVMRTKYYVIBVX456ELKXGTEOBNWGV3G7HDRQAPQ.2")
    assert code == 4 and "no message with this id" in err
    assert (await sock.command("bob", "get", "nonsense"))[0] == 2
    assert (await sock.command("ada", "send", "bob", "a text"))[0] == 0
    text = await bob.event("message", text="a text")
    code, _, err = await sock.command("bob", "get", text["id"])
    assert code == 2 and "this message has no files" in err


async def test_without_a_running_peer_the_command_runs_it(sock: Commands) -> None:
    _, bob = await a_pair(sock)
    _, large, got = files(sock.home)
    assert (await sock.command("ada", "send", "bob", "--file", str(large)))[0] == 0
    id = (await bob.event("message", kind="dm", sender="ada"))["id"]
    await bob.leave()
    code, out, _ = await sock.command("bob", "get", id, "--output", str(got))
    assert (code, out) == (0, f"{got / 'film.bin'}: 12.0 MB\n")
    assert (got / "film.bin").read_bytes() == LARGE


async def test_what_does_not_come_in_time_is_told(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    _, large, got = files(sock.home)
    assert (await sock.command("ada", "send", "bob", "--file", str(large)))[0] == 0
    id = (await bob.event("message", kind="dm", sender="ada"))["id"]
    await ada.leave()
    await bob.event("left", user="ada")
    code, _, err = await sock.command("bob", "get", id, "--output", str(got), "--timeout", "0.3")
    assert code == 3 and "not all of it is here yet" in err and list(got.iterdir()) == []


@posix
async def test_an_interrupted_get_saves_nothing_later(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    _, large, got = files(sock.home)
    assert (await sock.command("ada", "send", "bob", "--file", str(large)))[0] == 0
    id = (await bob.event("message", kind="dm", sender="ada"))["id"]
    await ada.leave()
    await bob.event("left", user="ada")
    waiting = await sock.start("bob", "get", id, "--output", str(got / "film"))
    waiting.process.send_signal(signal.SIGTERM)
    assert (await waiting.ended())[0] in (3, -15)  # it may not have begun to listen to signals
    assert list(got.iterdir()) == []
