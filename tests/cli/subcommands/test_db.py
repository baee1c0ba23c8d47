"""`p2pchat db copy`: what its words mean, and that no password is shown."""

from __future__ import annotations

import pytest

from p2pchat.cli.options import PASSWORD_VISIBLE, has_password
from p2pchat.cli.program import run
from p2pchat.cli.subcommands.transfer import _database
from p2pchat.commands.errors import UsageError
from tests.cli.parsing import parse


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
def test_what_cannot_be_meant_says_what_to_write(words: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2PCHAT_DB", raising=False)
    with pytest.raises(UsageError, match=says):
        run(["db", *words.split()])


def test_a_password_that_others_can_see_is_warned_of_and_not_shown(
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


def test_what_was_copied_is_said(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    from p2pchat.storage.sql import SqlStorage

    SqlStorage(f"sqlite:///{tmp_path}/a.db").close()
    assert run(["db", "copy", f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db", "--json"]) == 0
    assert capsys.readouterr().out == '{"rows":0,"entries":0,"logs":0}\n'
