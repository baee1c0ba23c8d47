"""What a typed line means: text, a command, or a mistake that is never sent."""

from __future__ import annotations

import pytest

from p2pchat.apps.cli.chat.typed import COMMANDS, LATER, Do, Say, help_lines, parse_line
from p2pchat.apps.cli.exits import Usage


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("hello", Say("hello")),
        ("  indented code", Say("  indented code")),
        ("", None),
        ("   ", None),
        ("//etc/passwd is a file", Say("/etc/passwd is a file")),
        ("/msg bob see you", Do("msg", ("bob", "see you"))),
        ("/dm bob  two  blanks", Do("msg", ("bob", "two  blanks"))),
        ("/MSG bob hi", Do("msg", ("bob", "hi"))),
        ('/msg "Anna Maria" hi', Do("msg", ("Anna Maria", "hi"))),
        ('/msg "odd hi', Do("msg", ('"odd', "hi"))),
        ("/go bob", Do("go", ("bob",))),
        ("/go Anna Maria", Do("go", ("Anna Maria",))),
        ("/join room", Do("go", ("room",))),
        ("/query @bob", Do("go", ("@bob",))),
        ("/go", Do("go")),
        ("/list", Do("list")),
        ("/names", Do("who")),
        ("/me waves to all", Do("me", ("waves to all",))),
        ("/nick Ada L", Do("nick", ("Ada L",))),
        ("/history", Do("history")),
        ("/history 5", Do("history", ("5",))),
        ("/connect localhost:8080", Do("connect", ("localhost:8080",))),
        ("/help msg", Do("help", ("msg",))),
        ("/exit", Do("quit")),
    ],
)
def test_a_line_means(line: str, meant: Say | Do | None) -> None:
    assert parse_line(line) == meant


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/mgs bob hi", "there is no command '/mgs': did you mean /msg?"),
        ("/hsitory", "there is no command '/hsitory': did you mean /history?"),
        ("/xyzzy", "there is no command '/xyzzy': /help lists them."),
        ("/", "there is no command '/': /help lists them."),
        ("/group ops bob", "this version does not have /group yet"),
        ("/msg bob", "usage: /msg NAME TEXT"),
        ("/msg", "usage: /msg NAME TEXT"),
        ("/me", "usage: /me TEXT"),
        ("/quit now", "usage: /quit"),
    ],
)
def test_a_mistake_is_told_and_never_sent(line: str, told: str) -> None:
    with pytest.raises(Usage) as error:
        parse_line(line)
    assert str(error.value).startswith(told)


def test_what_comes_later_is_not_here_yet() -> None:
    names = {name for command in COMMANDS for name in (command.name, *command.others)}
    assert not names & LATER
    assert not any(f"/{word}" in " ".join(help_lines()).split() for word in LATER)


def test_help_has_a_line_for_each_command_and_one_alone() -> None:
    assert [line.split()[0] for line in help_lines()] == [f"/{command.name}" for command in COMMANDS] + ["//TEXT"]
    assert help_lines("/dm") == ["/msg NAME TEXT  write to one user, who gets it also when away now (also /dm)"]
    with pytest.raises(Usage):
        help_lines("xyzzy")
