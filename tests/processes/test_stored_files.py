"""`p2pchat files` and `p2pchat forget-file`, beside a running peer and at rest."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from tests.deadlines import within
from tests.processes.commands import Ran, environment, p2pchat


async def filled(data: Path) -> tuple[str, str]:
    """Make a profile with three files; return the root of the largest, and the id of the message with the others."""
    async with TCPPeer(data=data, name="ada") as ada:
        await ada.send(ada.room, "", files=[("large.bin", bytes(300_000))])
        two = await ada.send(ada.room, "", files=[("b.txt", b"bb"), ("\u202egpj.exe\n", b"c")])
        [large, *_] = await ada.stored_files()
        return large.root, two.id


def contents(data: Path) -> list[Path]:
    return [path for path in (data / "content").iterdir() if not path.suffix]


async def run(home: Path, *words: str) -> Ran:
    return await asyncio.to_thread(p2pchat, home, *words)


async def use(home: Path, data: Path, root: str, two: str) -> None:
    """List, refuse, and remove; the same whether a peer runs or not."""
    at = ("--data", str(data))
    shown = await run(home, "files", *at)
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert root[:12] in lines[0] and "large.bin (ada in the room, 2" in lines[0]
    assert "\u202e" not in shown.out and lines[3].startswith("3 files, 300.") and len(lines) == 4
    refused = await run(home, "files", *at, "--keep", "0")
    assert refused.code == 2 and "add --yes" in refused.complains()
    bad = await run(home, "files", *at, "--keep", "much", "--yes")
    assert bad.code == 2 and "is not a size" in bad.err
    nothing = await run(home, "files", *at, "--older-than", "1", "--yes", "--json")
    assert (nothing.code, nothing.events) == (0, [{"files": 0, "size_bytes": 0, "only_here": 0, "kept": 0}])
    unknown = await run(home, "forget-file", "0123456789ab", *at)
    assert unknown.code == 2 and "no file here has a root" in unknown.complains()
    lonely = await run(home, "forget-file", two, *at)
    assert lonely.code == 1 and "nobody else is known to have this file" in lonely.complains()
    spared = await run(home, "files", *at, "--keep", "0", "--yes")
    assert spared.code == 0 and spared.out.startswith("removed 0 files") and len(contents(data)) == 3
    assert "3 files stay that nobody else is known to have: --force removes them too" in spared.err
    gone = await run(home, "forget-file", two, *at, "--json", "--force")
    assert gone.code == 0, gone.err
    assert gone.events[0] == {"files": 2, "size_bytes": 3, "only_here": 2} and len(gone.events) == 3
    assert len(contents(data)) == 1
    kept = await run(home, "files", *at, "--keep", "1MB", "--yes")
    assert kept.code == 0 and len(contents(data)) == 1
    rest = await run(home, "files", *at, "--json")
    assert [row["files"] for row in rest.events[:1]] == [1] and rest.events[1]["root"] == root
    assert rest.events[1]["here"] is True and rest.events[1]["messages"] == 1
    last = await run(home, "files", *at, "--keep", "0", "--force")
    assert last.code == 0 and last.out.startswith("removed 1 file, 300.") and contents(data) == []
    assert (await run(home, "files", *at)).out == "no files take space here\n"


@pytest.fixture(autouse=True)
def _same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the peers of this process in the network of the command lines."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))


async def test_files_are_shown_and_removed_in_a_profile_at_rest(tmp_path: Path) -> None:
    await use(tmp_path, tmp_path / "ada", *await filled(tmp_path / "ada"))


async def test_files_are_shown_and_removed_beside_a_running_chat(tmp_path: Path) -> None:
    data = tmp_path / "ada"
    root, two = await filled(data)
    chat = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p2pchat", "0", "--data", str(data), "--json",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment(tmp_path),
    )  # fmt: skip
    try:
        assert chat.stdout is not None
        async with within(60, "the first line of the chat"):
            assert b"listening" in await chat.stdout.readline()
        await use(tmp_path, data, root, two)
    finally:
        chat.kill()
        await chat.wait()
