"""send, tail and users: their command lines and usage errors; what send sends beside an open chat and without one."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pchat.cli.options import ProfileChoice
from p2pchat.cli.subcommands.send import _from_shell
from p2pchat.cli.subcommands.stored_messages import MAX_RECENT, RecentMessages
from p2pchat.sync import Message, Sent, TCPPeer
from tests.cli.conftest import Here, OpenChats
from tests.cli.parsing import parse
from tests.processes.commands import Ran


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("bob hi", {"to": "bob", "text": ("hi",), "wait": "delivered", "timeout": 5.0, "lines": False, "db": ""}),
        ("bob -- --lines -5", {"to": "bob", "text": ("--lines", "-5"), "lines": False}),
        ("room --lines", {"to": "room", "text": (), "lines": True}),
        ("bob --wait accepted --timeout 0.5 hi", {"text": ("hi",), "wait": "accepted", "timeout": 0.5}),
        ("bob hi --port 8080", {"profile": ProfileChoice(port=8080)}),
        ("bob hi --data d --db memory://", {"profile": ProfileChoice("d"), "db": "memory://"}),
    ],
)
def test_a_send_means(line: str, meant: dict[str, Any]) -> None:
    assert parse("send", *line.split()).items() >= meant.items()


def test_a_reply_is_shown_with_its_message_while_that_is_recent() -> None:
    recent = RecentMessages()
    for number in range(MAX_RECENT + 1):
        recent.keep({"event": "message", "id": f"{number}"})
    recent.keep({"event": "joined"})
    assert recent.answered({"event": "message", "reply_to": "1"}) == {"event": "message", "id": "1"}
    assert recent.answered({"event": "edited", "id": "2"}) == {"event": "message", "id": "2"}
    assert recent.answered({"event": "message", "reply_to": "0"}) is None  # too long ago
    assert recent.answered({"event": "message", "reply_to": None}) is None
    assert recent.answered({"event": "joined"}) is None


def test_a_port_on_the_command_line_counts_more_than_a_directory_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_DATA", "/somewhere")
    monkeypatch.setenv("P2PCHAT_PORT", "8081")
    assert parse("users")["profile"] == ProfileChoice("/somewhere", 8081)
    assert parse("users", "--port", "8080")["profile"] == ProfileChoice("", 8080)
    assert parse("users", "--data", "here")["profile"] == ProfileChoice("here", 8081)


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    if sys.platform != "win32":
        assert _from_shell("caf\udce9") == "caf\ufffd"
    assert _from_shell("café") == "café"


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        ("send", "", "Missing argument 'TO', as in: p2pchat send [OPTIONS] TO [TEXT]..."),
        ("send bob --wait long x", "", "'long' is not one of 'accepted', 'delivered', 'files', 'read'"),
        ("send bob --lines x", "", "leave the text out, or --lines"),
        ("send bob x --db oracle://h/d", "", "there are no 'oracle' databases here"),
        ("tail -n 10001", "", "'10001' is not a whole number from 0 to 10,000"),
        ("files --older-than 0.5", "", "'0.5' is not a whole number from 0 to 36,500"),
        ("users bob", "", "Got unexpected extra argument (bob)"),
        ("send bob x", "", "there is no profile in"),
        ("send bob", "x", "there is no profile in"),
        ("tail", "", "start a peer first, for example p2pchat 8080"),
        ("users", "", "start a peer first"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(words: str, stdin: str, expected: str, home: Path, here: Here) -> None:
    code, out, err = here(*words.split(), stdin=stdin).said
    assert (code, out, err.count("\n")) == (2, "", 1) and expected in err, err
    assert not home.exists() or not list(home.iterdir())


# ---- beside an open chat


def posts(of: TCPPeer, conversation: str) -> list[Message | Sent]:
    return [post for post in of.history(conversation, limit=0) if isinstance(post, Message | Sent)]


def test_piped_text_is_one_message_without_commands(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    piped = b'/quit\ncompiling\r\n{"do":"quit"}\n\ndone\n'
    assert here("send", "bob", "--data", ada.data, stdin=piped).said == (0, "", "")
    assert [post.text for post in posts(bob, "ada")] == ['/quit\ncompiling\n{"do":"quit"}\n\ndone']
    lines = "".join(f"{number}\n\n" for number in range(1, 501))
    assert here("send", "room", "--lines", "--data", ada.data, stdin=lines).said == (0, "", "")
    assert [post.text for post in posts(bob, "room")] == [f"{number}" for number in range(1, 501)]
    replaced = here("send", "room", "--lines", "--data", ada.data, stdin=b"caf\xe9\n")
    warning = "p2pchat: warning: line 1 was not UTF-8: invalid bytes were replaced\n"
    assert replaced.said == (0, "", warning) and posts(bob, "room")[-1].text == "caf\ufffd"
    too_long = here("send", "room", "--lines", "--data", ada.data, stdin="\n" + "x" * 40_000 + "\nno end")
    told = "p2pchat: line 2 has more than 32,768 bytes: it was not sent, the others are\n"
    assert too_long.said == (2, "", told) and posts(bob, "room")[-1].text == "no end"


def test_the_exit_code_tells_the_result(chats: OpenChats, here: Here, tmp_path: Path) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)

    def send(*words: str) -> Ran:
        return here("send", "--data", ada.data, *words)

    assert send("bob", "lunch?").said == (0, "", "")
    assert send("bob", "--", "--lines", "is", "no option").said == (0, "", "")
    assert [post.text for post in posts(bob, "ada")] == ["lunch?", "--lines is no option"]
    unknown = send("bbo", "lunch?")
    assert unknown.code == 4 and unknown.err.startswith("p2pchat: nobody here is called 'bbo'")
    assert send("bbo").err == unknown.err.replace("\n", "; nothing of the input was read\n")
    assert send("bbo", "y" * 40_000, "--data", f"{tmp_path}/nothing").code == 2
    chats.close(bob)
    later = send("bob", "later", "--timeout", "0")
    assert later.said == (3, "", "p2pchat: not delivered yet to bob; saved, and sent as soon as possible\n")
    assert send("bob", "later", "--wait", "accepted").said == (0, "", "")
    cyd = chats.open("cyd", ada)
    ada.create_group("ops", ["bob", "cyd"])
    one_away = send("#ops", "now", "--timeout", "30")
    assert one_away.said == (3, "", "p2pchat: not delivered yet to bob; saved, and sent as soon as possible\n")
    assert [post.text for post in posts(cyd, "#ops")] == ["now"]
    chats.close(cyd)
    nobody = send("room", "anybody?", "--timeout", "0")
    assert nobody.code == 3 and "nobody is here yet" in nobody.err


def test_an_unknown_name_is_told_with_the_endpoint_that_does_not_answer(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        ada.connect(where, timeout=0.2)
        refused = here("send", "bob", "hi", "--data", ada.data)
        assert refused.said == (4, "", f"p2pchat: nobody here is called 'bob'; {where} does not answer\n")


def test_files_are_sent_by_the_names_that_were_typed(chats: OpenChats, here: Here, tmp_path: Path) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    plan, empty = tmp_path / "a plan.pdf", tmp_path / "empty"
    (tmp_path / "plan-7.pdf").write_bytes(bytes(300_000))
    if sys.platform == "win32":
        plan.write_bytes(bytes(300_000))
    else:
        plan.symlink_to("plan-7.pdf")
    empty.touch()
    at = ("send", "--data", ada.data)
    assert here(*at, "bob", "--file", plan, "--file", empty).said == (0, "", "")
    [message] = posts(bob, "ada")
    files = [(file.name, file.size) for file in message.attachments]
    assert (message.text, files) == ("", [("a plan.pdf", 300_000), ("empty", 0)])
    shown = here("history", "ada", "--data", bob.data)
    assert shown.code == 0 and shown.out.endswith(" ada -> bob: [a plan.pdf, 300.0 kB, empty, 0 bytes]\n")
    assert here(*at, "bob", "look", "--file", "-", "--file-name", "a.bin", stdin=b"a\0\377b").said == (0, "", "")
    [piped] = posts(bob, "ada")[-1].attachments
    assert (piped.name, piped.size) == ("a.bin", 4)
    assert not list(chats.home.glob("ada/.input-*"))
    for code, words, expected in (
        (2, ["look", "--file", tmp_path / "nothing"], "does not exist"),
        (2, ["--lines", "--file", plan], "leave --file out"),
        (2, ["--file", plan] * 11, "at most 10 files"),
        (2, ["--file", "-"], "a file needs a name: --file - --file-name NAME"),
        (2, ["--file", "-", "--file-name", "../a.bin"], "--file-name is a name, and no path"),
    ):
        refused = here(*at, "bob", *words)
        assert refused.code == code and expected in refused.err
    assert here(*at, "nobody", "--file", plan).code == 4


@pytest.mark.parametrize(
    ("stdin", "name"),
    [
        (b"x" * 32_769 + b"\n", "input.txt"),
        (b"x" * 300_000, "input.txt"),
        ("ü".encode() * 20_000, "input.txt"),
        (b"caf\xe9 " * 10_000, "input.txt"),
        (b"\n" * 300_000, "input.txt"),
        (b"\x89PNG\r\n\0" + bytes(range(256)), "input.bin"),
    ],
)
def test_what_is_no_message_goes_as_a_file(
    stdin: bytes, name: str, chats: OpenChats, here: Here, tmp_path: Path
) -> None:
    """The output of a build was refused when the build was over, so it was lost."""
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    why = "no text" if name.endswith(".bin") else "longer than a message of 32,768 bytes"
    sent = here("send", "bob", "--data", ada.data, stdin=stdin)
    assert sent.said == (0, "", f"-- this is {why}: it goes as the file {name}\n")
    [message] = posts(bob, "ada")
    assert message.text == ""
    [file] = message.attachments
    assert file.name == name and file.save(tmp_path / name).read_bytes() == stdin
    assert not list(chats.home.glob("ada/.input-*"))


def test_so_does_a_long_argument_and_what_is_just_short_enough_does_not(
    chats: OpenChats, here: Here, tmp_path: Path
) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    chats.close(ada)
    assert here("send", "bob", "y" * 40_000, "--data", ada.data).code == 0  # it runs the peer until bob has the file
    assert posts(bob, "ada")[0].attachments[0].save(tmp_path / "got").read_bytes() == b"y" * 40_000
    assert here("send", "bob", "--data", ada.data, stdin="x" * 32_768 + "\n\n").said == (0, "", "")
    assert [len(post.text) for post in posts(bob, "ada")] == [0, 32_768]
    empty = here("send", "bob", "--data", ada.data, stdin="\n")
    assert empty.said == (2, "", "p2pchat: there is nothing to send: the text is empty\n")


def test_so_does_a_long_text_beside_files(chats: OpenChats, here: Here, tmp_path: Path) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    send = ("send", "bob", "y" * 40_000, "--data", ada.data, "--file")
    told = "-- this is longer than a message of 32,768 bytes: it goes as the file input.txt\n"
    (tmp_path / "map").write_bytes(b"m")
    assert here(*send, tmp_path / "map").said == (0, "", told)
    assert here(*send, "-", "--file-name", "piped", stdin="p").said == (0, "", told)
    first, second = posts(bob, "ada")
    assert [(file.name, file.size) for file in first.attachments] == [("map", 1), ("input.txt", 40_000)]
    assert [(file.name, file.size) for file in second.attachments] == [("piped", 1), ("input.txt", 40_000)]
    refused = here(*send, tmp_path / "map", *["--file", tmp_path / "map"] * 9)
    assert refused.code == 2 and "at most 10 files, and these are 11 with the text, which is too long" in refused.err


@pytest.mark.parametrize("words", [("send", "bob", "--lines"), ("0", "--temp", "--drain", "0")])
def test_no_picture_is_sent_as_text(words: tuple[str, ...], chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 1000
    which = ("--data", ada.data) if "send" in words else (ada.endpoint,)
    ran = here(*words, *which, stdin=picture)
    assert (
        ran.code == 2
        and "the input is no text" in ran.err
        and ("--file FILE" in ran.err or "leave --lines out" in ran.err)
    )
    assert posts(bob, "ada") == posts(bob, "room") == []


def test_without_a_chat_a_command_runs_the_peer_and_meets_known_peers(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    data = ada.data
    chats.close(ada)
    assert here("send", "bob", "by myself", "--data", data).said == (0, "", "")
    assert here("send", "room", "and to all", "--data", data).said == (0, "", "")
    assert [posts(bob, where)[-1].text for where in ("ada", "room")] == ["by myself", "and to all"]
    assert not list(chats.home.glob("ada/control.*"))
