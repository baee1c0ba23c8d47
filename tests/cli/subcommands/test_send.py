"""send, tail and users: their command lines and usage errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pchat.__main__ import main
from p2pchat.cli.options import ProfileChoice
from p2pchat.cli.subcommands.history_tail_and_delete import MAX_RECENT, RecentMessages
from p2pchat.cli.subcommands.send import _from_shell
from tests.cli.parsing import parse

ANY = ProfileChoice()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("bob hi", {"to": "bob", "text": ("hi",), "wait": "delivered", "timeout": 5.0, "lines": False, "db": ""}),
        ("bob hi there", {"to": "bob", "text": ("hi", "there")}),
        ("bob -- --lines -5", {"to": "bob", "text": ("--lines", "-5"), "lines": False}),
        ("room --lines", {"to": "room", "text": (), "lines": True}),
        ("bob --wait accepted --timeout 0.5 hi", {"text": ("hi",), "wait": "accepted", "timeout": 0.5}),
        ("bob hi --port 8080", {"profile": ProfileChoice(port=8080)}),
        ("bob hi --data d --db memory://", {"profile": ProfileChoice("d"), "db": "memory://"}),
    ],
)
def test_a_send_means(line: str, meant: dict[str, Any]) -> None:
    assert parse("send", *line.split()).items() >= meant.items()


def test_a_tail_and_users_mean() -> None:
    assert parse("tail").items() >= {"profile": ANY, "to": None, "last": 10, "as_json": False}.items()
    assert parse("tail", "bob", "-n", "0", "--json").items() >= {"to": "bob", "last": 0, "as_json": True}.items()
    assert (
        parse("tail", "--last", "50", "--port", "1").items() >= {"profile": ProfileChoice(port=1), "last": 50}.items()
    )
    assert parse("users", "--json").items() >= {"profile": ANY, "as_json": True}.items()


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


@pytest.fixture
def here(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str, str], tuple[int, str, str]]:
    """Run a command line in this process, with this input."""

    def run(words: str, stdin: str) -> tuple[int, str, str]:
        (tmp_path / "stdin").write_text(stdin, "utf-8")
        with open(tmp_path / "stdin", encoding="utf-8") as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            code = main(words.split())
        return (code, *capfd.readouterr())

    return run


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        ("send", "", "Missing argument 'TO'"),
        ("send bob", "", "the text is empty"),
        ("send bob", " \n\n", "the text is empty"),
        ("send bob", "x" * 32_769, "the text has 32,769 bytes, a message at most 32,768: nothing was sent"),
        ("send bob", "x" * 200_000, "standard input has 200,000 bytes, a message at most 32,768: nothing was sent"),
        ("send bob", "ü" * 20_000, "the text has 40,000 bytes"),
        ("send bob --wait long x", "", "'long' is not one of 'accepted', 'delivered', 'files', 'read'"),
        ("send bob --timeout soon x", "", "'soon' is not a number of seconds"),
        ("send bob --lines x", "", "leave the text out, or --lines"),
        ("send bob x --db oracle://h/d", "", "there are no 'oracle' databases here"),
        ("tail -n -1", "", "'-1' is not a whole number"),
        ("tail -n 10001", "", "'10001' is not a whole number from 0 to 10,000"),
        ("files --older-than 0.5", "", "'0.5' is not a whole number from 0 to 36,500"),
        ("tail ada bob", "", "Got unexpected extra argument (bob)"),
        ("users bob", "", "Got unexpected extra argument (bob)"),
        ("send bob x", "", "there is no profile in"),
        ("send bob", "x" * 32_768 + "\n\n", "there is no profile in"),
        ("tail", "", "start a peer first, for example p2pchat 8080"),
        ("users", "", "start a peer first"),
        ("send bob x --data nowhere", "", "start a peer first"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(
    words: str, stdin: str, expected: str, home: Path, here: Callable[[str, str], tuple[int, str, str]]
) -> None:
    code, out, err = here(words, stdin)
    assert (code, out, err.count("\n")) == (2, "", 1) and expected in err, err
    assert not home.exists() or not list(home.iterdir())
