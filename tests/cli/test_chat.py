"""The chat of main(): how it starts, what it sends of a pipe, its JSON lines, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.sync import Message, Sent, TCPPeer
from tests.cli.conftest import Here, OpenChats
from tests.ports import free_ports

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def said(peer: TCPPeer, conversation: str = "room") -> list[str]:
    return [post.text for post in peer.history(conversation) if isinstance(post, Message | Sent)]


# ---- starting


NOT_MEANT = [
    ("", "missing PORT"),
    ("histroy", "did you mean history?"),
    ("localhost:8080", "put your own port before it"),
    ("--nmae ada", "No such option"),
    ("0 --name @da", "a name does not contain '@'"),
    ("web 8000 nowhere", "'nowhere' is not an endpoint: write HOST:PORT"),
    ("0 --invite p2pchat:nonsense", "the invite"),
    ("0 --invite /does/not/exist", "cannot read the invite"),
    ("check", "Missing argument 'LOG...'"),
    ("completion", "Choose from: bash, zsh, fish"),
    ("demo twice", "Got unexpected extra argument (twice)"),
]


@pytest.mark.parametrize(("words", "expected"), NOT_MEANT, ids=[words for words, _ in NOT_MEANT])
def test_invalid_arguments_are_one_line_and_exit_code_2(words: str, expected: str, here: Here) -> None:
    ran = here(*words.split())
    lines = [line for line in ran.err.splitlines() if "warning: " not in line]
    assert len(lines) == 1 and expected in lines[0], ran.err
    assert (ran.code, ran.out) == (2, "")


def test_a_port_in_use_is_named(here: Here) -> None:
    port = int(free_ports(1)[0])
    with socket.create_server(("127.0.0.1", port)):
        ran = here(port, "--temp")
    assert ran.code == 1 and f"port {port} on 127.0.0.1 is in use" in ran.complains()


def test_a_locked_directory_names_its_holder(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    ran = here("0", "--data", ada.data)
    assert ran.code == 1 and f"is in use by process {os.getpid()}" in ran.complains()


@posix
def test_a_key_that_others_can_read_is_refused(here: Here, tmp_path: Path) -> None:
    at = ("0", "--data", tmp_path / "ada")
    key = tmp_path / "ada" / "identity.pem"
    assert here(*at).code == 0
    key.chmod(0o644)
    ran = here(*at)
    assert ran.code == 1 and f"chmod 600 {key}" in ran.complains()
    key.chmod(0o600)
    assert here(*at).code == 0


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


def test_a_newer_database_is_refused(here: Here, tmp_path: Path) -> None:
    ada = tmp_path / "ada"
    assert here("0", "--data", ada).code == 0
    with closing(sqlite3.connect(ada / "history.db")) as database, database:
        assert database.execute("UPDATE meta SET value = '999' WHERE name = 'schema'").rowcount == 1
    ran = here("0", "--data", ada)
    assert ran.code == 1 and "newer" in ran.complains()


def test_an_invite_with_a_typo_or_for_another_network(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def invite_of(data: Path) -> str:
        assert here("0", "--data", data).code == 0
        out = here("invite", "--data", data, "--advertise", "127.0.0.1:9").out
        [invite] = [line.strip() for line in out.splitlines() if line.strip().lower().startswith("p2pchat:")]
        return invite

    invite = invite_of(tmp_path / "ada")
    code = invite.partition(":")[2].partition("@")[0]
    typo = invite.replace(code, code[:-9] + ("a" if code[-9].lower() != "a" else "b") + code[-8:])
    ran = here("0", "--invite", "-", stdin=typo)
    assert (ran.code, "typing error" in ran.complains()) == (2, True)
    with monkeypatch.context() as patch:
        patch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
        for_other = invite_of(tmp_path / "bob")
    [port] = free_ports(1)
    for given, expected in ((invite, 0), (for_other, 2)):
        monkeypatch.setenv("P2PCHAT_INVITE", given)
        ran = here(port, "--data", tmp_path / "eva")
        assert ran.code == expected, ran.err
    assert "another network" in ran.complains()


def test_listening_beyond_loopback_shows_what_the_other_machine_needs(here: Here) -> None:
    ran = here("0", "--host", "0.0.0.0", "--temp", "--advertise", "chat.example:80", stdin="/quit\n")
    assert ran.code == 0
    lines = [line.strip() for line in ran.err.splitlines()]
    assert "p2pchat --invite -" in lines
    assert [line for line in lines if line.startswith("p2pchat:") and line.endswith("@chat.example:80")]


def test_an_open_network_admits_everyone_and_another_network_is_reported(
    chats: OpenChats, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.cli.endpoint_status.REFUSED_GRACE", 0.0)
    ada, bob = chats.open("ada", open=True), chats.open("bob")
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    assert here("0", ada.endpoint, "--open", "--temp", "--name", "eve", stdin="hello\n").code == 0
    assert said(ada) == ["hello"]
    ran = here("0", bob.endpoint, stdin="hello\n")
    assert ran.code == 1 and f"-- {bob.endpoint} refused: it belongs to another network" in ran.err
    assert "every endpoint refused us" in ran.complains() and said(bob) == []


def test_several_profiles_are_listed_and_a_single_one_is_used(here: Here, tmp_path: Path) -> None:
    ran = here("history")
    assert (ran.code, "there is no profile" in ran.complains()) == (2, True)
    ran = here("history", "--data", tmp_path / "nothing")
    assert (ran.code, "there is no history in" in ran.complains()) == (1, True)
    ports = free_ports(2)
    assert [here(ports[0]).code, here("history").code, here(ports[1]).code] == [0, 0, 0]
    ran = here("history")
    complaint = ran.complains()
    assert ran.code == 2 and "there are several profiles" in complaint and all(port in complaint for port in ports)
    assert here("history", "--port", ports[0]).code == 0
    assert here("invite", "--port", ports[0], "--advertise", "h:1").code == 0


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
    shown = here("0", "--name", "ada", "--log-level=info")
    assert "p2pchat.peer INFO peer " in shown.err and " listens on 127.0.0.1:" in shown.err
    assert "p2pchat.peer" not in here("0", "--name", "ada").err
