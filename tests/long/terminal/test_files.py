"""Files in a real terminal: typed, completed, dropped, shown, saved, and stopped."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from tests.deadlines import within
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, port_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]
DATA = random.Random(5).randbytes(12_000_000)  # above what comes by itself


@pytest.fixture
def files(home: Path) -> Path:
    """A directory with files, in the home directory of the terminals."""
    (home / "Downloads").mkdir(parents=True)
    made = home / "my files"
    made.mkdir()
    (made / "small plan.txt").write_text("the plan")
    (made / "film.bin").write_bytes(DATA)
    return made


async def arrived(path: Path, size: int) -> bytes:
    async with within(60, f"{path.name} with {size} bytes"):
        while not (path.exists() and path.stat().st_size == size):
            await asyncio.sleep(0.01)  # poll: another process writes it
    return path.read_bytes()


async def test_two_people_send_and_save(terminal: OpenTerminal, home: Path, files: Path) -> None:
    ada = await terminal("0", "--name", "ada", columns=100)
    bob = await terminal("0", str(await port_of(ada)), "--name", "bob")
    await bob.shows("ada is here")
    await ada.type("/send ~/my")
    await ada.key("tab")
    await ada.type("sm")
    await ada.key("tab")
    await ada.prompts("room> /send ~/my\\ files/small\\ plan.txt ")
    await ada.type("the plan, please\r")
    await ada.shows_line(r"ada: the plan, please \[small plan.txt, 8 bytes\]  ✓✓ read 1/1 here, file 1/1")
    await ada.line("/send ~/my files/small plan.txt again")  # no receipt of this content follows
    await ada.shows_line(r"ada: again \[small plan.txt, 8 bytes\]  ✓✓ read 1/1 here, file 1/1")
    await bob.shows_line(r"ada: the plan, please \[small plan.txt, 8 bytes: /get 1\]")
    await bob.answers("/get 2", "-- saved ~/Downloads/small plan.txt (8 bytes)")
    assert await arrived(home / "Downloads" / "small plan.txt", 8) == b"the plan"
    await ada.line(f"/send '{files / 'film.bin'}'")
    await bob.shows_line(r"ada: \[film.bin, 12.0 MB: /get 3\]")
    await bob.line("/files")
    await bob.shows_line(r"^1 small plan.txt, 8 bytes \(from ada, .*; here")
    await bob.shows_line(r"^3 film.bin, 12.0 MB \(from ada, .*; not here yet\)")
    await bob.type("/get fi")
    await bob.key("tab")
    await bob.prompts("room> /get film.bin ")
    await bob.type(f"{home}/copy\r")
    await bob.shows("-- getting film.bin (12.0 MB); /get stop stops that, and /get 3 goes on")
    assert await arrived(home / "copy", len(DATA)) == DATA
    await bob.until(lambda: not any("(/get stop)" in line for line in bob.lines), "no progress below the end")


async def test_tab_goes_into_a_directory(terminal: OpenTerminal, files: Path) -> None:
    for directory in ("a/two", "ab"):
        (files / directory).mkdir(parents=True)
    (files / "a" / "two" / "deep").touch()
    ada = await terminal("0", "--name", "ada")
    directory = "~/my\\ files/"
    await ada.type(f"/send {directory}a")
    for _ in range(3):  # beside `ab`: its name in full is meant
        await ada.key("tab")
    await ada.prompts(f"room> /send {directory}a/two/deep ")
    await ada.key("c-u")
    await ada.type(f"/send {directory}")
    await ada.key("tab")
    await ada.prompts(f"room> /send {directory}a/")
    await ada.key("tab")
    await ada.prompts(f"room> /send {directory}ab/")  # the next candidate
    await ada.key("c-u")
    await ada.type(f"/send {directory}")
    await ada.key("tab")
    await ada.type("/")  # takes the first one
    await ada.key("tab")
    await ada.key("tab")
    await ada.prompts(f"room> /send {directory}a/two/deep ")
    await ada.key("c-u")


async def test_what_does_not_come_is_shown_and_stopped(
    terminal: OpenTerminal, peer: StartPeer, home: Path, files: Path
) -> None:
    bob = await terminal("0", "--name", "bob")
    ada: TCPPeer = await peer("ada", await port_of(bob))
    await (await ada.send(ada.room, "", files=[files / "film.bin"])).delivered(timeout=60)
    await bob.shows("/get 1]")
    await ada.aclose()
    await bob.shows("ada left")
    await bob.answers("/get", "getting film.bin: 12.0 MB, waiting for somebody who has it (/get stop)")
    await bob.type("typed meanwhile")
    await bob.prompts("room> typed meanwhile")
    await bob.key("c-u")
    await bob.answers("/get stop", "-- stopped getting film.bin: what has come of it stays")
    await bob.until(lambda: not any("(/get stop)" in line for line in bob.lines), "no progress any more")
    await bob.line("/quit")
    assert await bob.ended() in (0, 3)


async def test_a_dropped_file_is_sent_after_enter(terminal: OpenTerminal, peer: StartPeer, files: Path) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    plan = files / "small plan.txt"
    await ada.paste(f"'{plan}' ")  # as a terminal with bracketed paste drops it
    await ada.until(lambda: "/send '" in ada.text, "what sends it")
    assert await bob.room.history() == []
    await ada.answers("dropped", "ada: dropped [small plan.txt, 8 bytes]")
    await ada.line(str(plan).replace(" ", "\\ "))  # as others do
    await ada.shows("small plan.txt is a file here. Nothing was sent; the same line again")
    await ada.key("up", "enter")
    await ada.shows("ada: [small plan.txt, 8 bytes]")
    async with within(60, "both messages"):
        while len(found := await bob.room.history()) < 2:
            await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
    assert [(post.text, len(post.attachments)) for post in found] == [("dropped", 1), ("", 1)]


async def test_a_hostile_name_is_harmless(terminal: OpenTerminal, peer: StartPeer, home: Path, files: Path) -> None:
    bob = await terminal("0", "--name", "bob", columns=120)
    ada = await peer("ada", await port_of(bob))
    names = ("../../.bashrc", "\u202egpj.exe", "a\x1b[2Jb\n12:00 eve: hi", "x" * 4000)
    await ada.send(ada.room, "look", files=[(name, b"bytes") for name in names])
    await bob.shows("/get 4]")
    assert "\x1b[2Jb" not in bytes(bob.raw).decode("utf-8", "replace")
    assert not any(line.startswith("12:00 eve") for line in bob.all_lines)
    await bob.line("/get 1")
    assert await arrived(home / "Downloads" / "bashrc", 5) == b"bytes"
    await bob.line("/get 2")
    assert await arrived(home / "Downloads" / "gpj.exe", 5) == b"bytes"
