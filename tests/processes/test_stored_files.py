"""`p2pchat files` and `p2pchat forget-file`, beside a running peer and at rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import TCPPeer
from tests.processes.commands import Ran, environment, one_loop
from tests.processes.peers import Cluster

pytestmark = one_loop


async def filled(data: Path) -> tuple[str, str]:
    """Make a profile with three files; return the root of the largest, and the id of the message with the others."""
    async with TCPPeer(data=data, name="ada") as ada:
        await ada.send(ada.room, "", files=[("large.bin", bytes(300_000))])
        two = await ada.send(ada.room, "", files=[("b.txt", b"bb"), ("\u202egpj.exe\n", b"c")])
        [large, *_] = await ada.stored_files()
        return large.root, two.id


def contents(data: Path) -> list[Path]:
    return [path for path in (data / "content").iterdir() if not path.suffix]


async def run(cluster: Cluster, *words: str) -> Ran:
    code, out, err = await cluster.talk(*words, environment=environment(cluster.home))
    return Ran(code, out.decode(), err.decode())


async def use(cluster: Cluster, root: str, two: str) -> None:
    """List, refuse, and remove; the same whether a peer runs or not."""
    data = cluster.home / "ada"
    at = ("--data", str(data))
    shown = await run(cluster, "files", *at)
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert root[:12] in lines[0] and "large.bin (ada in the room, 2" in lines[0]
    assert "\u202e" not in shown.out and lines[3].startswith("3 files, 300.") and len(lines) == 4
    refused = await run(cluster, "files", *at, "--keep", "0")
    assert refused.code == 2 and "add --yes" in refused.complains()
    bad = await run(cluster, "files", *at, "--keep", "much", "--yes")
    assert bad.code == 2 and "is not a size" in bad.err
    nothing = await run(cluster, "files", *at, "--older-than", "1", "--yes", "--json")
    assert (nothing.code, nothing.events) == (0, [{"files": 0, "size_bytes": 0, "only_here": 0, "kept": 0}])
    unknown = await run(cluster, "forget-file", "0123456789ab", *at)
    assert unknown.code == 2 and "no file here has a root" in unknown.complains()
    lonely = await run(cluster, "forget-file", two, *at)
    assert lonely.code == 1 and "nobody else is known to have this file" in lonely.complains()
    spared = await run(cluster, "files", *at, "--keep", "0", "--yes")
    assert spared.code == 0 and spared.out.startswith("removed 0 files") and len(contents(data)) == 3
    assert "3 files stay that nobody else is known to have: --force removes them too" in spared.err
    gone = await run(cluster, "forget-file", two, *at, "--json", "--force")
    assert gone.code == 0, gone.err
    assert gone.events[0] == {"files": 2, "size_bytes": 3, "only_here": 2} and len(gone.events) == 3
    assert len(contents(data)) == 1
    kept = await run(cluster, "files", *at, "--keep", "1MB", "--yes")
    assert kept.code == 0 and len(contents(data)) == 1
    rest = await run(cluster, "files", *at, "--json")
    assert [row["files"] for row in rest.events[:1]] == [1] and rest.events[1]["root"] == root
    assert rest.events[1]["here"] is True and rest.events[1]["messages"] == 1
    last = await run(cluster, "files", *at, "--keep", "0", "--force")
    assert last.code == 0 and last.out.startswith("removed 1 file, 300.") and contents(data) == []
    assert (await run(cluster, "files", *at)).out == "no files take space here\n"


@pytest.fixture
def data(quick: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of ada; peers of this process are in the network of the command lines."""
    monkeypatch.setenv("P2PCHAT_HOME", str(quick.home))
    return quick.home / "ada"


async def test_files_are_shown_and_removed_in_a_profile_at_rest(quick: Cluster, data: Path) -> None:
    await use(quick, *await filled(data))


async def test_files_are_shown_and_removed_beside_a_running_chat(quick: Cluster, data: Path) -> None:
    root, two = await filled(data)
    chat = quick.child("ada")
    await chat.start()
    await use(quick, root, two)
    assert await chat.leave() == 0
