"""export, import, backup and db copy: their command lines, errors and warnings; beside an open chat and without one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pchat.__main__ import main
from p2pchat.cli.options import has_password
from p2pchat.cli.program import run
from p2pchat.cli.subcommands.archive import _database, _start_with
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.shell_command import command
from p2pchat.sync import TCPPeer
from tests.cli.conftest import Here, OpenChats
from tests.cli.parsing import parse

PASSWORD_VISIBLE = "warning: others on this machine can see the password on the command line: use P2PCHAT_DB"


def test_importing_into_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="would be gone"):
        run(["import", "f", "--db", "memory://"])


@pytest.mark.parametrize("words", [["export", "-"], ["get", "1:2", "--output", "-"]])
def test_no_file_is_written_to_a_closed_standard_output(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as with >&-
    with pytest.raises(UsageError, match="standard output is closed"):
        run(words)


@pytest.mark.parametrize("words", [["export", "f"], ["import", "f"], ["backup", "d"]])
def test_without_a_profile_no_file_is_written(
    words: list[str], tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words[1] = str(tmp_path / words[1])
    assert main(words) == 2
    assert "there is no profile" in capsys.readouterr().err
    for data in (home / "8080", tmp_path / "nothing"):
        assert main([*words, "--data", str(data)]) == 1
        assert "there is no" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_from_and_to_are_urls_directories_or_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = parse("db", "copy", "here", "-", "--json")
    assert (values["source"], values["target"], values["as_json"]) == ("here", "-", True)
    monkeypatch.setenv("P2PCHAT_DB", "mariadb://ada:secret@db/chat")
    assert (_database("-"), _database("here")) == ("mariadb://ada:secret@db/chat", "here")


@pytest.mark.parametrize(
    "words, says",
    [
        ("", "Missing command"),
        ("copy here", "Missing argument 'TO'"),
        ("move here there", "No such command 'move'"),
        ("copy - -", "cannot both be it"),
        ("copy - there", "P2PCHAT_DB, which is not set"),
        ("copy here oracle://h/d", "there are no 'oracle' databases here"),
    ],
)
def test_usage_errors_of_db_copy(words: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2PCHAT_DB", raising=False)
    with pytest.raises(UsageError, match=says):
        run(["db", *words.split()])


def test_a_password_on_the_command_line_gets_a_warning_and_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://ada:secret@db/chat"
    with pytest.raises(UsageError):
        run(["db", "copy", url, "oracle://h/d"])
    assert PASSWORD_VISIBLE in capsys.readouterr().err.replace("\n  ", " ")
    assert parse("users", "--db", url)["db"] == url
    monkeypatch.setenv("P2PCHAT_DB", url)
    assert parse("users")["db"] == url
    err = capsys.readouterr().err.replace("\n  ", " ")
    assert err.count(PASSWORD_VISIBLE) == 1 and "secret" not in err
    assert not has_password("postgresql://ada@db/chat?host=/run/a:b") and has_password("mysql://h/d?password=x")


def test_a_copy_tells_how_to_start_with_the_old_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that holds only the copied database would be a new identity."""
    from p2pchat.storage.sql_storage import SqlStorage

    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    SqlStorage(f"sqlite:///{old}/history.db").close()
    assert run(["db", "copy", str(old), str(new)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(command("PORT", "--data", str(old), "--db", f"sqlite:///{new.as_posix()}/history.db"))
    url = f"sqlite:///{tmp_path}/third.db?password=x"
    assert (
        _start_with("-", url)
        == _start_with("sqlite:///a.db", "-")
        == command("PORT", "--data", "DIRECTORY", "--db", "URL")
    )


def test_the_result_of_a_copy_is_printed(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    from p2pchat.storage.sql_storage import SqlStorage

    SqlStorage(f"sqlite:///{tmp_path}/a.db").close()
    assert run(["db", "copy", f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db", "--json"]) == 0
    assert capsys.readouterr().out == '{"rows":0,"entries":0,"logs":0}\n'


# ---- beside an open chat and without one


def said_by(chats: OpenChats, name: str, *texts: str) -> TCPPeer:
    """Open a chat alone that has said these texts in the room."""
    peer = chats.open(name)
    for text in texts:
        peer.room.send(text)
    return peer


def test_a_file_is_carried_from_one_open_chat_to_another(chats: OpenChats, here: Here, tmp_path: Path) -> None:
    ada, bob = said_by(chats, "ada", "one", "two"), said_by(chats, "bob", "hello?")
    stick = tmp_path / "stick"
    ran = here("export", stick, "--data", ada.data)
    assert (ran.code, ran.err) == (0, "") and ran.out.startswith(f"{stick}: 3 entries of 1 conversation, ")
    assert here("import", stick, "--data", bob.data).said == (0, f"{stick}: 3 new, 0 here already\n", "")
    assert [post.text for post in bob.history("room")] == ["one", "two", "hello?"]


def test_export_and_import_through_pipes_and_without_a_chat(chats: OpenChats, here: Here) -> None:
    ada, bob = said_by(chats, "ada", "one", "two"), said_by(chats, "bob", "hello?")
    data = bob.data
    export = here("export", "-", "--data", ada.data)
    assert (export.code, export.err.partition(",")[0]) == (0, "-- 3 entries of 1 conversation")
    ran = here("import", "-", "--json", "--data", data, stdin=export.content)
    assert (ran.code, ran.events[0]["new"]) == (0, 3)
    assert not list(chats.home.glob("bob/.import*"))
    chats.close(bob)
    at_rest = here("import", "-", "--json", "--data", data, stdin=export.content)
    nothing = {"foreign": 0, "refused": {}, "unreadable": 0, "problem": "", "files": 0, "damaged_files": 0}
    assert (at_rest.code, at_rest.events) == (0, [{"new": 0, "known": 3, **nothing}])
    for damaged, told in (
        (export.content[:-40], "p2pchat: the file: it is cut off: the end is missing; what came whole is imported\n"),
        (export.content.replace(b"two", b"2wo"), "p2pchat: 3 entries refused: not as their writer signed it"),
        (b"dear bob", "p2pchat: this is no file that `p2pchat export` made\n"),
    ):
        ran = here("import", "-", "--data", data, stdin=damaged)
        assert ran.code == 1 and ran.err.startswith(told), ran.err
    ran = here("import", data, "--data", data)
    assert ran.code == 1 and ran.complains()


def test_files_are_carried_too(chats: OpenChats, here: Here, tmp_path: Path) -> None:
    ada, bob = said_by(chats, "ada", "one"), said_by(chats, "bob", "hello?")
    film, stick = bytes(range(256)) * 2000, tmp_path / "stick"
    id = ada.send(ada.room, "look", files=[("film.bin", film)]).id
    assert here("export", stick, "--no-files", "--data", ada.data).code == 0 and stick.stat().st_size < 10_000
    ran = here("export", stick, "--data", ada.data)
    assert ran.code == 0 and ran.out.startswith(f"{stick}: 3 entries of 1 conversation, 1 file, 51")
    ran = here("import", stick, "--data", bob.data)
    assert ran.said == (0, f"{stick}: 3 new, 0 here already, 1 file\n", "")
    assert here("get", id, "--output", "-", "--data", bob.data).content == film


def test_a_backup_of_an_open_chat_runs_elsewhere(chats: OpenChats, here: Here, tmp_path: Path) -> None:
    ada = said_by(chats, "ada", "one")
    data, id, copy = ada.data, ada.me.id, tmp_path / "home" / "copy"
    ran = here("backup", copy, "--data", data)
    assert ran.code == 0 and ": key, network, history and files, " in ran.out
    assert f"PORT --data {copy}" in ran.out and "never beside it" in ran.err
    ran = here("backup", tmp_path / "texts only", "--no-files", "--data", data)
    assert ran.code == 0 and ": key, network and history, " in ran.out
    chats.close(ada)
    again = chats.open("copy")
    assert (again.me.id, [post.text for post in again.history("room")]) == (id, ["one"])
    ran = here("backup", copy, "--data", data)
    assert ran.code == 1 and "not empty" in ran.complains()
