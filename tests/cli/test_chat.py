"""The chat of main(): how it starts, what it sends of a pipe, its JSON lines, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from p2pchat.sync import Message, Sent, TCPPeer
from tests.cli.conftest import Here, OpenChats


def said(peer: TCPPeer, conversation: str = "room") -> list[str]:
    return [post.text for post in peer.history(conversation) if isinstance(post, Message | Sent)]


# ---- starting


NOT_MEANT = [
    ("histroy", "did you mean history?"),
    ("localhost:8080", "put your own port before it"),
    ("0 --name @da", "a name does not contain '@'"),
    ("web 8000 nowhere", "'nowhere' is not HOST:PORT"),
    ("0 --invite p2pchat:nonsense", "the invite"),
    ("check", "Missing argument 'LOG...'"),
    ("doctor somewhere", "'somewhere' is not HOST:PORT"),
]


@pytest.mark.parametrize(("words", "expected"), NOT_MEANT, ids=[words for words, _ in NOT_MEANT])
def test_invalid_arguments_are_one_line_and_exit_code_2(words: str, expected: str, here: Here) -> None:
    ran = here(*words.split())
    lines = [line for line in ran.err.splitlines() if "warning: " not in line]
    assert len(lines) == 1 and expected in lines[0], ran.err
    assert (ran.code, ran.out) == (2, "")


def test_a_locked_directory_names_its_holder(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    ran = here("0", "--data", ada.data)
    assert ran.code == 1 and f"is in use by process {os.getpid()}" in ran.complains()


def test_a_history_without_its_key_is_warned_of(here: Here, tmp_path: Path) -> None:
    ada, copy = tmp_path / "ada", tmp_path / "copy"
    assert here("0", "--data", ada, "--name", "ada").code == 0
    copy.mkdir(0o700)
    shutil.copy(ada / "history.db", copy)
    warned = here("0", "--data", copy)
    assert warned.code == 0 and "put identity.pem there" in warned.err
    assert f"p2pchat: warning: there is a history in {copy}, but not the key of its user" in warned.err
    shutil.copy(ada / "identity.pem", copy)
    assert "warning" not in here("0", "--data", copy).err
    assert "warning" not in here("0", "--data", tmp_path / "new").err


def test_listening_beyond_loopback_tells_a_log_what_makes_an_invite(here: Here, home: Path) -> None:
    ran = here("0", "--host", "0.0.0.0", "--data", home / "ada", "--advertise", "chat.example:80", stdin="/quit\n")
    assert ran.code == 0 and "p2pchat:" not in ran.err
    assert f"-- for another machine, p2pchat invite --data {home / 'ada'} makes an invite" in ran.err


def test_a_named_network_admits_who_knows_it_and_another_network_is_reported(
    chats: OpenChats, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.cli.endpoint_status.REFUSED_GRACE", 0.0)
    ada, bob = chats.open("ada", network="lab"), chats.open("bob")
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    assert here("0", ada.endpoint, "--network", "Lab", "--temp", "--name", "eve", stdin="hello\n").code == 0
    assert said(ada) == ["hello"]
    ran = here("0", bob.endpoint, stdin="hello\n")
    assert ran.code == 1 and f"-- {bob.endpoint} refused: it belongs to another network" in ran.err
    assert "every endpoint refused us" in ran.complains() and said(bob) == []


# ---- what a pipe says


def test_piped_lines_arrive_and_each_endpoint_is_reported(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    with socket.socket() as closed:  # bound, and not listening
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        lines = "one\n//two\n/me waves\n/msg ada three\n/mgs ada hi\nfour"
        ran = here("0", ada.endpoint, nobody, "--name", "cron", stdin=lines)
    assert ran.code == 2 and "did you mean /msg?" in ran.complains()
    assert f"-- {ada.endpoint} reached" in ran.err
    assert f"-- {nobody} does not answer" in ran.err and "still trying" in ran.err
    assert said(ada) == ["one", "/two", "waves", "four"] and said(ada, "cron") == ["three"]


def test_undelivered_messages_are_saved_and_sent_at_the_next_start(
    chats: OpenChats, here: Here, tmp_path: Path
) -> None:
    data = ("--data", tmp_path / "home" / "cron", "--name", "cron")
    alone = here("0", *data, "--drain", "0", stdin="hello\n")
    assert alone.code == 3 and "saved, and sent at the next start" in alone.err
    ada = chats.open("ada")
    assert here("0", ada.endpoint, *data, stdin="and again\n").code == 0
    assert said(ada) == ["hello", "and again"]


def test_messages_of_earlier_runs_are_not_shown_as_new(chats: OpenChats, here: Here) -> None:
    """Start with a profile that a program has used: for the command line all its messages are unread."""
    ada = chats.open("ada")
    ada.send_many("room", ["one", "two", "three"])
    data = ada.data
    chats.close(ada)
    ran = here("0", "--data", data, "--drain", "0", stdin="four\n")
    [line] = ran.out.splitlines()
    assert line.endswith("ada: four") and "-- 3 older messages: p2pchat history --data " in ran.err


def test_a_piped_reply_is_to_the_newest_stored_message(chats: OpenChats, here: Here, tmp_path: Path) -> None:
    """A newcomer gets it a moment after the first link; later any number of own messages may follow it."""
    ada = chats.open("ada")
    lunch = ada.room.send("lunch?").id
    for lines in ("/reply yes\n", "and more\n" * 250 + "/react +1\n"):
        ran = here("0", ada.endpoint, "--name", "bob", "--data", tmp_path / "bob", stdin=lines)
        assert ran.code == 0, ran.err
    assert [post.reply_to for post in ada.history("room", limit=0) if post.text == "yes"] == [lunch]
    [(reaction, users)] = ada.message(lunch).reactions.items()
    assert (reaction, [user.name for user in users]) == ("+1", ["bob"])


def test_answers_of_json_commands_return_the_ref_of_their_object(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    objects = [
        {"do": "send", "to": "ada", "text": "two\nlines", "ref": "7"},
        {"do": "send", "text": "x" * 40_000, "ref": "8"},
        {"do": "fly", "ref": "9"},
    ]
    stdin = "".join(json.dumps(each) + "\n" for each in objects)
    ran = here("0", ada.endpoint, "--name", "bob", "--json", stdin=stdin)
    answers = {line["ref"]: line for line in ran.events if "ref" in line}
    assert (ran.code, {ref: line.get("code") for ref, line in answers.items()}) == (
        2,
        {"7": None, "8": "too_long", "9": "usage"},
    )
    [got] = ada.history("bob")
    assert (got.id, got.text) == (answers["7"]["id"], "two\nlines")
    [delivered] = [line for line in ran.events if line["event"] == "delivered"]
    assert (delivered["id"], delivered["user"], delivered["count"], delivered["of"]) == (got.id, "ada", 1, 1)


def test_the_library_s_logs_are_shown_when_asked_for(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = here("0", "--name", "ada", "-v")
    assert "p2pchat.peer INFO peer " in shown.err and " listens on 127.0.0.1:" in shown.err
    assert "p2pchat.peer" not in here("0", "--name", "ada").err


@pytest.mark.skipif(not socket.has_ipv6, reason="this system has no IPv6")
def test_an_address_to_listen_on_may_have_the_brackets_of_an_endpoint(here: Here) -> None:
    assert "listens on ::1:" in here("0", "--host", "[::1]", "--temp", "--name", "ada").err
