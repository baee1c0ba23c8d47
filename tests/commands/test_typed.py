"""What a typed line means: text, a command, or a mistake that is never sent."""

from __future__ import annotations

import pytest

from p2pchat.cli.terminal.prompt import Question, Typed
from p2pchat.commands.errors import Usage
from p2pchat.commands.json_commands import SHAPES
from p2pchat.commands.session import MENDING, ORDERS, TALKING, TYPED
from p2pchat.commands.typed_commands import (
    BY_NAME,
    COMMANDS,
    MOST_USED,
    Command,
    Do,
    Say,
    help_lines,
    parse_line,
    typed_name,
)


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
        ("/group ops", Do("group", ("ops",))),
        ('/group "night shift" bob  "Anna Maria" @carol', Do("group", ("night shift", "bob", "Anna Maria", "@carol"))),
        ("/add bob carol dave", Do("add", ("bob", "carol", "dave"))),
        ('/kick "Anna Maria"#K7QF2M3P bob', Do("kick", ("Anna Maria#K7QF2M3P", "bob"))),
        ("/part", Do("leave")),
        ("/rename night shift", Do("rename", ("night shift",))),
        ("/owner Anna Maria", Do("owner", ("Anna Maria",))),
        ('/go "#night shift"', Do("go", ("#night shift",))),
        ("/names", Do("who")),
        ("/me waves to all", Do("me", ("waves to all",))),
        ("/nick Ada L", Do("nick", ("Ada L",))),
        ("/history", Do("history")),
        ("/history 5", Do("history", ("5",))),
        ("/connect localhost:8080", Do("connect", ("localhost:8080",))),
        ("/help msg", Do("help", ("msg",))),
        ("/exit", Do("quit")),
        ("/reply yes,  indeed", Do("reply", ("yes,  indeed",))),
        ("/me one\ntwo\n", Do("me", ("one\ntwo",))),
        ("/msg\tbob\thi", Do("msg", ("bob", "hi"))),
        ('/msg @"Anna Maria" hi', Do("msg", ("@Anna Maria", "hi"))),
        ('/msg "Anna Maria"#K7QF2M3P hi', Do("msg", ("Anna Maria#K7QF2M3P", "hi"))),
        ("/msg bob#K7QF2M3P hi", Do("msg", ("bob#K7QF2M3P", "hi"))),
        ('/go "Anna Maria"', Do("go", ("Anna Maria",))),
        ('/whois "Anna Maria"', Do("whois", ("Anna Maria",))),
        ('/ignore "Anna Maria"#K7QF2M3P', Do("ignore", ("Anna Maria#K7QF2M3P",))),
        ('/nick "Ada L"', Do("nick", ("Ada L",))),
        ('/search "as it stands"', Do("search", ('"as it stands"',))),
        ("/away", Do("away")),
        ("/away lunch, back at one", Do("away", ("lunch, back at one",))),
        ("/set", Do("set")),
        ("/set joins", Do("set", ("joins",))),
        ("/set joins off", Do("set", ("joins", "off"))),
        ('/allow "Anna Maria"', Do("allow", ("Anna Maria",))),
        ("/forget 192.168.1.20:8080", Do("forget", ("192.168.1.20:8080",))),
        (" /etc/passwd", Say(" /etc/passwd")),
        ("\uff0f is a slash", Say("\uff0f is a slash")),
        ("1/2", Say("1/2")),
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
        ("/group", "usage: /group NAME [MEMBER...], for example /group ops bob carol"),
        ('/group ops "" bob', "usage: /group NAME [MEMBER...]"),
        ("/add", "usage: /add NAME..., for example /add dave"),
        ("/leave now", "usage: /leave"),
        ("/msg bob", "usage: /msg NAME TEXT"),
        ("/msg", "usage: /msg NAME TEXT"),
        ('/msg "" hi', "usage: /msg NAME TEXT"),
        ('/go ""', "usage: /go [CONVERSATION]"),
        ("/me", "usage: /me TEXT"),
        ("/quit now", "usage: /quit"),
        ("/reply", "usage: /reply [N] TEXT, for example /reply yes, at ten"),
        ("/edit", "usage: /edit [N] TEXT, for example /edit at eleven, not at ten"),
        ("/123", "there is no command '/123': /help lists them. Nothing was sent"),
        ("/1", "there is no command '/1'"),
        ("/ msg bob hi", "did you mean /msg?"),
        ("/ 1", "there is no command '/'"),
        ("  /msg bob hi", "did you mean /msg?"),
        ("\ufeff/msg bob hi", "did you mean /msg?"),
        ("\n/quit", "did you mean /quit?"),
        ("\uff0fmsg bob hi", "did you mean /msg?"),
        ("\u2215quit", "did you mean /quit?"),
        ("/MSGG bob hi", "there is no command '/MSGG': did you mean /msg?"),
        ("/\u043csg bob hi", "there is no command '/\\u043csg': did you mean /msg?"),
        ("/\uff4d\uff53\uff47 bob hi", "there is no command '/\\uff4d\\uff53\\uff47': did you mean /msg?"),
        ("/q", "there is no command '/q': did you mean /quit?"),
        ("/hist", "there is no command '/hist': did you mean /history?"),
        ("/grop ops", "there is no command '/grop': did you mean /group?"),
        ("/" + "x" * 100_000, "there is no command"),
    ],
)
def test_a_mistake_is_told_and_never_sent(line: str, told: str) -> None:
    with pytest.raises(Usage) as error:
        parse_line(line)
    assert str(error.value).startswith(told)


def test_every_command_is_done_somewhere() -> None:
    assert {command.name for command in COMMANDS} == {*TALKING, *TYPED, "quit"}
    assert {*ORDERS, *MENDING, "send", "quit"} == SHAPES.keys()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_an_example_is_what_it_says(command: Command) -> None:
    meant = parse_line(command.example)
    assert isinstance(meant, Do) and meant.name == command.name
    assert len(command.kinds) == command.most
    assert set(command.kinds) <= {"conversation", "user", "member", "command", "setting", "endpoint", ""}


def test_help_fits_a_small_terminal_and_names_everything() -> None:
    lines = help_lines()
    assert len(lines) <= 20 and max(map(len, lines)) <= 80
    assert [line.strip().partition("  ")[0] for line in lines[1:9]] == [BY_NAME[name].example for name in MOST_USED]
    text = " ".join(lines)
    assert [command.name for command in COMMANDS if f"/{command.name}" not in text] == []


def test_help_of_one_command_says_more() -> None:
    assert help_lines("/dm") == [
        "/msg NAME TEXT (also /dm)",
        "    write to one user, who gets it also when away now",
        '    a name with blanks stands in "": /msg "Anna Maria" hi',
        "    for example: /msg bob see you at ten",
    ]
    with pytest.raises(Usage):
        help_lines("xyzzy")
    assert all(len(line) <= 80 for command in COMMANDS for line in help_lines(command.name))


@pytest.mark.parametrize(
    "name",
    [
        *("bob", "Anna Maria", "bob#K7QF2M3P", "Anna Maria#K7QF2M3P"),
        *('"bob"', 'bob" hi', 'a"b', '"', '"bob" hi#K7QF2M3P'),  # nobody called so is taken for bob
    ],
)
def test_a_name_can_be_typed_as_completion_writes_it(name: str) -> None:
    assert parse_line(f"/msg {typed_name(name)} hi there") == Do("msg", (name, "hi there"))
    assert parse_line(f"/go {typed_name(name)}") == Do("go", (name,))


def test_a_repr_shows_no_text_that_somebody_typed() -> None:
    secret = "meet me at noon"
    shown = repr([parse_line(secret), parse_line(f"/msg bob {secret}"), Typed(secret), Question(secret, 0, secret, 0)])
    assert "noon" not in shown and "msg" in shown
