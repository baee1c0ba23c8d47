"""Files in a session: sent, listed, fetched and saved, by people and by programs; refused where nobody types."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2pchat import Message, Settings, TCPPeer
from p2pchat.commands import file_commands
from p2pchat.commands.event_text import file_label
from p2pchat.commands.exit_codes import KEPT, USAGE
from p2pchat.commands.file_fetches import FileNumbers
from p2pchat.commands.notifier import last_receipt
from p2pchat.commands.session import Session
from tests.commands.session_output import Shown, open_session, slow_disk
from tests.deadlines import until, within

DATA = random.Random(21).randbytes(700_000)
BY_HAND = Settings(auto_fetch_bytes=0)


@asynccontextmanager
async def two_peers(home: Path) -> AsyncIterator[tuple[TCPPeer, TCPPeer]]:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        yield ada, bob


async def newest(peer: TCPPeer, files: int) -> Message:
    """Return the newest message of others with so many files."""
    async with within(60, "a message with files"):
        while True:
            for post in reversed(await peer.room.history()):
                if isinstance(post, Message) and len(post.attachments) == files:
                    return post
            await asyncio.sleep(0.01)  # poll: the history is read, and its storage answers


def at_terminal(peer: TCPPeer, shown: Shown) -> Session:
    session = open_session(peer, shown, as_json=False, interactive=True)
    session.local_files, session.display.numbers_files = True, True
    return session


def for_program(peer: TCPPeer, shown: Shown) -> Session:
    session = open_session(peer, shown)
    session.local_files = True
    return session


async def test_a_person_sends_lists_and_saves(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "Downloads").mkdir()
    (tmp_path / "my plan.pdf").write_bytes(DATA)
    (tmp_path / "empty").touch()
    async with two_peers(tmp_path) as (ada, bob):
        sender, reader = at_terminal(ada, shown), at_terminal(bob, shown)
        assert await sender.execute([f"/send '{tmp_path}/my plan.pdf' {tmp_path}/empty both of them".encode()])
        message = await newest(bob, 2)
        assert (message.text, [file.name for file in message.attachments]) == ("both of them", ["my plan.pdf", "empty"])
        await reader.display.show_event(message.to_dict())
        assert shown.new[-1].endswith(" ada: both of them [my plan.pdf, 700.0 kB: /get 1, empty, 0 bytes: /get 2]")
        await reader.execute([b"/files"])
        first, second, last = shown.new[-3:]
        assert first.startswith("1 my plan.pdf, 700.0 kB (from ada, ") and "; not here yet" in first
        assert second.startswith("2 empty, 0 bytes (from ada, ")
        assert last == "-- /get 2 saves the last one in ~/Downloads"
        (tmp_path / "Downloads").rename(tmp_path / "Other")
        monkeypatch.chdir(tmp_path)
        await reader.execute([b"/files"])
        assert shown.new[-1] == "-- /get 2 saves the last one in ~"
        (tmp_path / "Other").rename(tmp_path / "Downloads")
        await reader.execute([b"/get 1"])
        assert "getting my plan.pdf: 700.0 kB, waiting for somebody who has it (/get stop)" in reader.fetches.row
        async with within(60, "the file"):
            await reader.fetches.wait()
        assert (tmp_path / "Downloads" / "my plan.pdf").read_bytes() == DATA and reader.fetches.row == ""
        assert capsys.readouterr().err.splitlines() == [
            "-- getting my plan.pdf (700.0 kB); /get stop stops that, and /get 1 goes on",
            f"-- saved ~/{Path('Downloads') / 'my plan.pdf'} (700.0 kB)",
        ]
        await reader.execute([b"/get MY PLAN.pdf", f"/get 1 {tmp_path}/copy.pdf".encode()])
        assert (tmp_path / "Downloads" / "my plan (2).pdf").read_bytes() == DATA
        assert (tmp_path / "copy.pdf").read_bytes() == DATA
        await reader.execute([b"/get"])  # the newest one
        await until((tmp_path / "Downloads" / "empty").exists, "the empty file")
        await message.attachments[0].forget()
        await reader.execute([b"/files"])
        assert "; not kept here any more" in shown.new[-3]  # and who is known to have it by now


async def test_lines_behind_a_large_file_do_not_wait_for_it(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", len(DATA))
    (tmp_path / "film").write_bytes(DATA)
    (tmp_path / "second").write_bytes(DATA[::-1])
    async with two_peers(tmp_path) as (ada, bob):
        session = at_terminal(ada, shown)
        with slow_disk(ada):
            assert await session.execute(
                [f"/send {tmp_path}/film one".encode(), b"two", f"/send {tmp_path}/second three".encode(), b"four"]
            )
            assert await texts_of(bob, 2) == ["two", "four"]
            assert session.fetches.row == "sending film: 0 bytes of 700.0 kB, 0 % copied (/send stop)"
        assert await texts_of(bob, 4) == ["two", "four", "one", "three"]
        await session.sender.wait_sent()
        assert session.fetches.row == ""


async def test_files_that_are_copied_or_wait_for_that_are_stopped(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", len(DATA))
    for name in ("film", "second", "stop"):
        (tmp_path / name).write_bytes(DATA)
    async with two_peers(tmp_path) as (ada, bob):
        session = at_terminal(ada, shown)
        content = ada._lifecycle.require_running().content
        with slow_disk(ada):
            lines = [f"/send {tmp_path}/film one", f"/send {tmp_path}/second {tmp_path}/film two", "/send stop"]
            await session.execute([line.encode() for line in lines])
            assert shown.new == [f"-- stopped sending {what}: nothing was sent" for what in ("film", "2 files")]
            await session.execute([b"/send stop", f"/send {tmp_path}/stop three".encode()])
            path = os.path.join(".", "stop")
            assert shown.new == [f"-- no file is being copied; /send {path} sends a file with this name"]
        assert await texts_of(bob, 1) == ["three"]
        await session.sender.wait_sent()
        assert [post.text for post in await ada.room.history()] == ["three"]
        assert (session.fetches.row, capsys.readouterr().err) == ("", "")
        async with within(60, "one content on the disk"):
            while len(await content.run(lambda store: store.roots())) != 1:
                await asyncio.sleep(0.01)  # poll: removed in the background


async def test_a_large_file_is_copied_with_its_progress_on_one_row(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", len(DATA))
    monkeypatch.setattr(file_commands, "READ_BYTES", len(DATA) // 4)
    (tmp_path / "film").write_bytes(DATA)
    rows: list[str] = []
    async with two_peers(tmp_path) as (ada, bob):
        session = at_terminal(ada, shown)
        session.fetches.on_change = lambda: rows.append(session.fetches.row)
        await session.execute(
            [f"/send {tmp_path}/film one".encode(), f"/send {tmp_path}/film {tmp_path}/film".encode()]
        )
        await session.sender.wait_sent()
        copied = ["0 bytes of 700.0 kB, 0 %", "175.0 kB of 700.0 kB, 25 %", "350.0 kB of 700.0 kB, 50 %"]
        copied += ["525.0 kB of 700.0 kB, 75 %", "700.0 kB of 700.0 kB, 100 %"]
        assert rows[:6] == [*(f"sending film: {far} copied (/send stop)" for far in copied), ""]
        assert rows[6] == "sending 2 files: 0 bytes of 1.4 MB, 0 % copied (/send stop)" and rows[-1] == ""
        assert await (await newest(bob, 1)).attachments[0].read() == DATA


async def test_commands_of_a_program_go_on_while_a_file_is_copied_and_its_messages_keep_their_order(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", len(DATA))
    (tmp_path / "film").write_bytes(DATA)
    async with two_peers(tmp_path) as (ada, bob):
        session = for_program(ada, shown)
        sends = [
            {"text": text, "files": [str(tmp_path / "film")] * (text == "one")} for text in ("one", "two", "three")
        ]
        with slow_disk(ada):
            lines = [*({"do": "send", **send, "ref": send["text"]} for send in sends), {"do": "who", "ref": "w"}]
            await session.execute([json.dumps(line).encode() for line in lines])
            assert [(line["event"], line["ref"]) for line in shown.lines] == [("answer", "w")]
            changing = asyncio.create_task(session.execute([b'{"do":"about","text":"busy","ref":"a"}']))
            await session.execute([b'{"do":"history","ref":"h"}'])
            assert shown.rows == [] and not changing.done()
        await changing
        assert shown.lines[-1]["ref"] == "a"
        accepted = [last_receipt(receipt).id for _, receipt in session.sender._receipts]
        assert accepted == [post.id for post in await ada.room.history()]
        assert await texts_of(bob, 3) == ["one", "two", "three"]


async def test_a_defect_in_the_background_is_raised_and_nothing_overtakes_what_was_not_sent(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(file_commands, "LARGE", len(DATA))
    (tmp_path / "film").write_bytes(DATA)
    async with two_peers(tmp_path) as (ada, bob):
        session = for_program(ada, shown)
        one = {"do": "send", "text": "one", "files": [str(tmp_path / "film")]}
        with slow_disk(ada):
            assert await session.execute([json.dumps(one).encode(), b'{"do":"send","text":"two"}'])
            monkeypatch.setattr(session.sender, "add_receipt", fail)
        await until(lambda: not session.sender.is_sending, "the defect")
        with pytest.raises(ZeroDivisionError):
            await session.execute([b'{"do":"send","text":"three"}'])
        with pytest.raises(ZeroDivisionError):
            await session.sender.wait_sent()
        assert await texts_of(bob, 1) == ["one"]


async def texts_of(peer: TCPPeer, count: int) -> list[str]:
    """Return the texts of others, once there are so many."""
    async with within(60, f"{count} messages"):
        while len(found := [post.text for post in await peer.room.history() if isinstance(post, Message)]) < count:
            await asyncio.sleep(0.01)  # poll: the history is read, and its storage answers
    return found


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/send nothing.here", "there is no file 'nothing.here': nothing was sent"),
        (
            "/send my plan.txt",
            "there is no file 'my': nothing was sent. A path with blanks needs quotes: /send 'my file",
        ),
        ("/send my things", "my things is a directory: pack it first"),
        ("/send ~", "is a directory: pack it first"),
        ("/send", "usage: /send FILE [TEXT]"),
        ("/get 7", "there is no file 7: /files lists the files here"),
        ("/get nothing.here", "there is no file 'nothing.here' here"),
        ("/get", "there are no files here yet"),
        ("/files 0", "usage: /files [N]"),
    ],
)
async def test_a_person_is_told_what_was_wrong(
    shown: Shown,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    why: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my things").mkdir()
    async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
        await at_terminal(ada, shown).execute([line.encode()])
        assert why in " ".join(capsys.readouterr().err.split())
        assert await ada.room.history() == []


async def test_a_pipe_that_nobody_writes_is_refused_and_does_not_hold_the_session(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform == "win32":
        pytest.skip("has no such pipes")
    os.mkfifo(tmp_path / "pipe")
    async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
        async with within(30, "both lines"):
            await at_terminal(ada, shown).execute([f"/send {tmp_path}/pipe".encode(), b"next"])
        assert "is no plain file but a pipe" in " ".join(capsys.readouterr().err.split())
        assert [post.text for post in await ada.room.history()] == ["next"]


async def test_a_relative_path_behind_a_file_is_text_and_says_so(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
        session = at_terminal(ada, shown)
        await session.execute([b"/send one two"])
        [sent] = await ada.room.history()
        assert (sent.text, [file.name for file in sent.attachments]) == ("two", ["one"])
        assert "-- two goes as text: each file after the first needs its full path" in capsys.readouterr().err
        await session.execute([f"/send {tmp_path}/one".encode(), b"/receipts"])
        assert shown.new[-1].split(" ", 2)[2] == '"one": accepted; nobody else has its file'


async def test_what_is_being_fetched_can_be_stopped_and_goes_on(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with two_peers(tmp_path) as (ada, bob):
        await ada.send(ada.room, "", files=[("a", DATA)])
        await newest(bob, 1)
        await ada.aclose()  # nobody else has it
        session = at_terminal(bob, shown)
        await session.execute([b"/files", f"/get 1 {tmp_path}/a".encode(), b"/get stop", b"/get stop"])
        notices = " ".join(capsys.readouterr().err.split())
        assert "-- stopped getting a: what has come of it stays" in notices and not (tmp_path / "a").exists()
        assert shown.new[-1] == "-- no file is being fetched"
        await session.execute([f"/get 1 {tmp_path}/a".encode()])
        async with TCPPeer(data=tmp_path / "ada", name="ada") as again:
            assert await bob.connect(again.port)
            async with within(60, "the file"):
                await session.fetches.wait()
        assert (tmp_path / "a").read_bytes() == DATA


async def test_a_dropped_file_is_sent_by_the_same_line_again(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my pic.png").write_bytes(b"pixels")
    line = f"'{tmp_path}/my pic.png' ".encode()
    async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
        session = at_terminal(ada, shown)
        await session.execute([line])
        said = " ".join(capsys.readouterr().err.split())
        assert "my pic.png is a file here. Nothing was sent; the same line again (Up, Enter) sends it" in said
        assert await ada.room.history() == []
        await session.execute([line])
        (sent,) = await ada.room.history()
        assert sent.text == "" and sent.attachments[0].name == "my pic.png"
        await session.execute([line, b"something else", line])  # nothing is sent by a line that came in between
        assert [post.text for post in await ada.room.history()] == ["", "something else"]
        piped = open_session(ada, shown, as_json=False)
        piped.local_files = True
        await piped.execute([line])
        assert (await ada.room.history())[-1].text == line.decode()


async def test_a_program_sends_and_saves_by_objects(shown: Shown, tmp_path: Path) -> None:
    source = tmp_path / "plan.pdf"
    source.write_bytes(DATA)
    async with two_peers(tmp_path) as (ada, bob):
        session = for_program(ada, shown)
        sending = {"do": "send", "text": "look", "files": [str(source)], "ref": "s"}
        lines = [{"do": "send", "text": "before"}, sending, {"do": "send", "text": "after"}]
        await session.execute([json.dumps(line).encode() for line in lines])
        assert [post.text for post in await ada.room.history()] == ["before", "look", "after"]
        message = await newest(bob, 1)
        reader = for_program(bob, shown)
        await reader.execute([b'{"do":"files"}'])
        (row,) = shown.rows
        assert (row["id"], row["number"], row["name"], row["size"], row["here"], row["sender"]) == (
            message.id, 1, "plan.pdf", len(DATA), False, "ada",
        )  # fmt: skip
        get = {"do": "get", "id": message.id, "path": str(tmp_path / "copy"), "ref": "g"}
        await reader.execute([json.dumps(get).encode(), b'{"do":"who","ref":"w"}'])
        await until(lambda: shown.lines[-1].get("ref") == "g", "the answer")
        assert {line.get("ref") for line in shown.lines} >= {"w", "g"}
        (row,) = shown.rows
        assert (row["path"], row["here"]) == (str(tmp_path / "copy"), True)
        assert (tmp_path / "copy").read_bytes() == DATA
        await reader.execute([json.dumps({"do": "get", "id": message.id, "number": 2, "ref": "n"}).encode()])
        assert (shown.lines[-1]["ref"], shown.lines[-1]["text"]) == (
            "n", "this message has 1 file, so there is no file 2",
        )  # fmt: skip
        await reader.execute([json.dumps({**get, "path": str(tmp_path / "no" / "where"), "ref": "p"}).encode()])
        await until(lambda: shown.lines[-1].get("ref") == "p", "the refusal")
        assert "the file cannot be saved" in shown.lines[-1]["text"]
        await session.execute([json.dumps({**sending, "files": [str(tmp_path / "none")]}).encode()])
        assert (shown.lines[-1]["code"], shown.lines[-1]["ref"]) == ("usage", "s")


async def test_a_program_stops_what_it_fetches(shown: Shown, tmp_path: Path) -> None:
    async with two_peers(tmp_path) as (ada, bob):
        await ada.send(ada.room, "", files=[("a", DATA)])
        message = await newest(bob, 1)
        await ada.aclose()
        session = for_program(bob, shown)
        get = {"do": "get", "id": message.id}
        await session.execute([json.dumps({**get, "ref": "g"}).encode()])
        await session.execute([json.dumps({**get, "stop": True, "ref": "s"}).encode()])
        error, answer = shown.lines[-2:]
        assert (error["event"], error["code"], error["ref"]) == ("error", "fetch_stopped", "g")
        assert (answer["ref"], answer["rows"][0]["stopped"]) == ("s", 1)
        assert session.exit_code == KEPT


async def test_a_session_without_the_right_reads_and_writes_no_file(shown: Shown, tmp_path: Path) -> None:
    """A client of a gateway names files of the gateway's machine; lines of a pipe may come from anywhere."""
    secret = tmp_path / "secret"
    secret.write_text("of this machine")
    async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
        sent = await ada.send(ada.room, "", files=[("a", b"content")])
        session = open_session(ada, shown)
        for order in (
            {"do": "send", "text": "", "files": [str(secret)]},
            {"do": "get", "id": sent.id, "path": str(tmp_path / "new")},
            {"do": "get", "id": sent.id},
        ):
            await session.execute([json.dumps(order).encode()])
            assert (shown.lines[-1]["event"], shown.lines[-1]["code"]) == ("error", "usage")
            assert "cannot read or write files of the gateway's machine" in shown.lines[-1]["text"]
        piped = for_program(ada, shown)
        for line in (f"/send {secret}", f"/get a {tmp_path}/new"):
            await piped.execute([line.encode()])
            assert "is for a person at a terminal, because lines of a pipe may" in shown.lines[-1]["text"]
        assert piped.exit_code == USAGE
        assert len(await ada.room.history()) == 1 and not (tmp_path / "new").exists()


async def test_it_is_said_who_has_a_file(shown: Shown, tmp_path: Path) -> None:
    (tmp_path / "plan.pdf").write_bytes(DATA)
    async with two_peers(tmp_path) as (ada, bob):
        sender, reader = at_terminal(ada, shown), at_terminal(bob, shown)
        await ada.wait_user("bob", 60)
        await sender.execute([f"/send {tmp_path}/plan.pdf".encode()])
        message = await newest(bob, 1)
        receipt = await ada.receipt(message.id)
        await receipt.delivered(timeout=60)
        await sender.execute([b"/files"])
        assert shown.new[-2].endswith("; here; nobody else is known to have it)")
        await sender.execute([b"/receipts"])
        assert shown.new[-1].endswith("; bob has it, nobody else has its file")
        await message.attachments[0].fetch()
        await receipt.files_delivered(timeout=60)
        await sender.execute([b"/files"])
        assert shown.new[-2].endswith("; here: bob has it)")
        await sender.execute([b"/receipts"])
        assert shown.new[-1].endswith("; bob has it, bob has its file")
        await until(lambda: len(message.attachments[0].held_by) == 1, "that ada has it")
        await message.attachments[0].forget()
        await reader.execute([b"/files"])
        assert shown.new[-2].endswith("; not kept here any more: ada has it)")


def test_numbers_of_files_never_mean_another_one() -> None:
    numbers = FileNumbers()
    assert [numbers.number("m", 1, "a"), numbers.number("m", 2, "b"), numbers.number("m", 1, "a")] == [1, 2, 1]
    for more in range(20_000):
        numbers.number(f"n{more}", 1, f"{more}")
    assert numbers.find(1) is None and numbers.find(20_002) == ("n19999", 1)
    assert numbers.number("m", 1, "a") == 20_003 and numbers.names[0] == "a"


def test_a_hostile_name_is_harmless_on_show() -> None:
    assert file_label("\u202egpj.exe\x1b[2J") == r"\u{202e}gpj.exe\u{1b}[2J"
    long = file_label("a" * 4000 + ".pdf")
    assert len(long) < 70 and long.endswith(".pdf") and "…" in long
