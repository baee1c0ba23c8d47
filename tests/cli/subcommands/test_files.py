"""get, files and forget-file: beside an open chat and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import Settings
from p2pchat.sync import TCPPeer
from tests.cli.conftest import Here, OpenChats
from tests.processes.commands import Ran

LARGE = bytes(range(256)) * 1000
SMALL = Settings(auto_fetch_bytes=100_000, start_timeout=60.0)  # so LARGE does not come by itself


@pytest.fixture
def got(tmp_path: Path) -> Path:
    """Return a directory for what is fetched."""
    (tmp_path / "got").mkdir()
    return tmp_path / "got"


def sent_files(chats: OpenChats) -> tuple[TCPPeer, TCPPeer, str]:
    """Open ada and bob; return them, and the id of ada's message to bob with a small and a large file."""
    ada = chats.open("ada")
    bob = chats.open("bob", ada, settings=SMALL)
    receipt = ada.send("bob", "", files=[("a plan.txt", b"the plan"), ("film.bin", LARGE)])
    receipt.delivered(timeout=60)
    return ada, bob, receipt.id


def test_files_are_saved_beside_a_chat(chats: OpenChats, here: Here, got: Path) -> None:
    ada, bob, id = sent_files(chats)

    def get(*words: object) -> Ran:
        return here("get", "--data", bob.data, *words)

    saved = get(id, "--output", got)
    assert saved.said == (0, f"{got / 'a plan.txt'}: 8 bytes\n{got / 'film.bin'}: 256.0 kB\n", "")
    assert (got / "a plan.txt").read_text() == "the plan" and (got / "film.bin").read_bytes() == LARGE
    again = get(id, "--number", "1", "--output", got, "--json")
    assert (again.code, again.events[-1]["event"]) == (0, "file_saved")
    assert again.events[-1]["path"] == str(got / "a plan (2).txt")
    piped = get(id, "--number", "2", "--output", "-")
    assert (piped.code, piped.content) == (0, LARGE)
    assert not list(chats.home.glob("bob/.input-*"))
    text = ada.send("bob", "a text")
    text.delivered(timeout=60)
    for code, words, expected in (
        (2, (id, "--output", "-"), "this message has 2 files: choose one with --number"),
        (2, (id, "--output", got / "one"), "name a directory, or choose one with --number"),
        (2, (id, "--number", "3"), "this message has 2 files: --number 1 to 2"),
        (1, (id, "--number", "1", "--output", got / "no" / "where"), "the file cannot be saved"),
        (4, ("BVMRTKYYVIBVXDV5L7KR6J7XCHUILOF7XZ4FYNYZJYSOV3UUSNUGY2XM344OGAB6.2",), "no message with this id"),
        (2, ("nonsense",), "nonsense"),
        (2, (text.id,), "this message has no files"),
    ):
        refused = get(*words)
        assert refused.code == code and expected in refused.err, refused.err


def test_without_a_chat_get_runs_the_peer(chats: OpenChats, here: Here, got: Path) -> None:
    _, bob, id = sent_files(chats)
    words = ("get", id, "--data", bob.data, "--number", "2", "--output", got)
    chats.close(bob)
    late = here(*words, "--timeout", "0")
    assert late.code == 3 and "not all of it is here yet" in late.err and list(got.iterdir()) == []
    assert here(*words).said == (0, f"{got / 'film.bin'}: 256.0 kB\n", "")


@pytest.mark.parametrize("runs", [True, False], ids=["beside a chat", "at rest"])
def test_files_are_listed_and_removed(runs: bool, chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    ada.send(ada.room, "", files=[("large.bin", bytes(300_000))])
    two = ada.send(ada.room, "", files=[("b.txt", b"bb"), ("\u202egpj.exe\n", b"c")]).id
    root = ada.stored_files()[0].root
    data = chats.home / "ada"
    if not runs:
        chats.close(ada)

    def run(*words: str) -> Ran:
        return here(*words, "--data", data)

    def left() -> int:
        return len([path for path in (data / "content").iterdir() if not path.suffix])

    shown = run("files")
    lines = shown.out.splitlines()
    assert shown.code == 0 and root[:12] in lines[0] and "large.bin (ada in the room, 2" in lines[0]
    assert "\u202e" not in shown.out and lines[3].startswith("3 files, 300.") and len(lines) == 4
    nothing = run("files", "--older-than", "1", "--yes", "--json")
    assert (nothing.code, nothing.events) == (0, [{"files": 0, "size_bytes": 0, "only_here": 0, "kept": 0}])
    for code, words, expected in (
        (2, ("files", "--keep", "0"), "add --yes"),
        (2, ("files", "--keep", "much", "--yes"), "is not a size"),
        (2, ("forget-file", "0123456789ab"), "no file here has a root"),
        (1, ("forget-file", two), "nobody else is known to have this file"),
        (0, ("files", "--keep", "0", "--yes"), "3 files stay that nobody else is known to have: --force removes them"),
    ):
        spared = run(*words)
        assert spared.code == code and expected in spared.err and left() == 3
    gone = run("forget-file", two, "--json", "--force")
    assert gone.code == 0 and gone.events[0] == {"files": 2, "size_bytes": 3, "only_here": 2}
    assert len(gone.events) == 3 and left() == 1
    assert run("files", "--keep", "1MB", "--yes").code == 0 and left() == 1
    [sums, row] = run("files", "--json").events
    assert (sums["files"], row["root"], row["here"], row["messages"]) == (1, root, True, 1)
    last = run("files", "--keep", "0", "--force")
    assert last.code == 0 and last.out.startswith("removed 1 file, 300.") and left() == 0
    assert run("files").out == "no files take space here\n"
