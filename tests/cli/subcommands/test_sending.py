"""send, tail and users: what a command line means, and one sentence for what it cannot mean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pchat.cli.main import main
from p2pchat.cli.options import ProfileChoice
from p2pchat.cli.subcommands.send import SendOptions, parse_send
from p2pchat.cli.subcommands.tail import MOST_RECENT, RecentMessages, TailOptions, parse_tail
from p2pchat.cli.subcommands.users import UsersOptions, parse_users

ANY = ProfileChoice()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["bob", "hi"], SendOptions(ANY, "bob", "hi")),
        (["bob", "hi", "there"], SendOptions(ANY, "bob", "hi there")),
        (["bob", "--", "--lines", "-5"], SendOptions(ANY, "bob", "--lines -5")),
        (["bob smith", "hi"], SendOptions(ANY, "bob smith", "hi")),
        (["room", "--lines"], SendOptions(ANY, "room", lines=True)),
        (
            ["bob", "--wait", "accepted", "--timeout", "0.5", "hi"],
            SendOptions(ANY, "bob", "hi", "", False, "accepted", 0.5),
        ),
        (["bob", "hi", "--port", "8080"], SendOptions(ProfileChoice(port=8080), "bob", "hi")),
        (["bob", "hi", "--data", "d", "--db", "memory://"], SendOptions(ProfileChoice("d"), "bob", "hi", "memory://")),
    ],
)
def test_a_send_means(words: list[str], meant: SendOptions) -> None:
    assert parse_send(words) == meant


def test_a_tail_and_users_mean() -> None:
    assert parse_tail([]) == TailOptions(ANY)
    assert parse_tail(["bob", "-n", "0", "--json"]) == TailOptions(ANY, "bob", 0, as_json=True)
    assert parse_tail(["--last", "50", "--port", "1"]) == TailOptions(ProfileChoice(port=1), last=50)
    assert parse_users(["--json"]) == UsersOptions(ANY, as_json=True)


def test_an_answer_is_shown_with_what_it_is_to_while_that_is_recent() -> None:
    recent = RecentMessages()
    for number in range(MOST_RECENT + 1):
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
    assert parse_users([]).which == ProfileChoice("/somewhere", 8081)
    assert parse_users(["--port", "8080"]).which == ProfileChoice("", 8080)
    assert parse_users(["--data", "here"]).which == ProfileChoice("here", 8081)


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    if sys.platform != "win32":
        assert parse_send(["bob", "caf\udce9"]).text == "caf\ufffd"
    assert parse_send(["bob", "café"]).text == "café"


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
    ("words", "stdin", "told"),
    [
        ("send", "", "to whom?"),
        ("send bob", "", "the text is empty"),
        ("send bob", " \n\n", "the text is empty"),
        ("send bob", "x" * 32_769, "the text has 32,769 bytes, a message at most 32,768: nothing was sent"),
        ("send bob", "x" * 200_000, "standard input has 200,000 bytes, a message at most 32,768: nothing was sent"),
        ("send bob", "ü" * 20_000, "the text has 40,000 bytes"),
        ("send bob --wait long x", "", "it is accepted, delivered or read"),
        ("send bob --timeout soon x", "", "'soon' is no number of seconds"),
        ("send bob --lines x", "", "leave the text out, or --lines"),
        ("send bob x --db oracle://h/d", "", "there are no 'oracle' databases here"),
        ("tail -n -1", "", "'-1' is no number"),
        ("tail -n 10001", "", "'10001' is no number from 0 to 10000"),
        ("tail ada bob", "", "tail takes one conversation"),
        ("users bob", "", "users takes no words"),
        ("send bob x", "", "there is no profile in"),
        ("send bob", "x" * 32_768 + "\n\n", "there is no profile in"),
        ("tail", "", "start a peer first, for example p2pchat 8080"),
        ("users", "", "start a peer first"),
        ("send bob x --data nowhere", "", "start a peer first"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_2(
    words: str, stdin: str, told: str, home: Path, here: Callable[[str, str], tuple[int, str, str]]
) -> None:
    code, out, err = here(words, stdin)
    assert (code, out, err.count("\n")) == (2, "", 1) and told in err, err
    assert not home.exists() or not list(home.iterdir())
