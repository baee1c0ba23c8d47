"""Typed lines: texts, commands, and mistakes that are never sent."""

from __future__ import annotations

import pytest

from p2pchat.cli.terminal.prompt import Question
from p2pchat.commands import typed_commands
from p2pchat.commands.command_table import TYPED
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.typed_commands import (
    BY_NAME,
    MOST_USED,
    CommandInput,
    TextInput,
    help_lines,
    parse_line,
    split_words,
    typed_name,
)
from tests.typed_words import TYPED_WORDS


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("hello", TextInput("hello")),
        ("  indented code", TextInput("  indented code")),
        ("", None),
        ("   ", None),
        ("//etc/passwd is a file", TextInput("/etc/passwd is a file")),
        ("/msg bob see you", CommandInput("msg", ("bob", "see you"))),
        ("/dm bob  two  blanks", CommandInput("msg", ("bob", "two  blanks"))),
        ("/MSG bob hi", CommandInput("msg", ("bob", "hi"))),
        ('/msg "Anna Maria" hi', CommandInput("msg", ("Anna Maria", "hi"))),
        ("/msg „Anna Maria“ hi", CommandInput("msg", ("Anna Maria", "hi"))),
        ("/go Anna Maria", CommandInput("go", ("Anna Maria",))),
        ("/go", CommandInput("go")),
        (
            '/group "night shift" bob  "Anna Maria" @carol',
            CommandInput("group", ("night shift", "bob", "Anna Maria", "@carol")),
        ),
        ('/kick "Anna Maria"#K7QF2M3P bob', CommandInput("kick", ("Anna Maria#K7QF2M3P", "bob"))),
        ('/go "#night shift"', CommandInput("go", ("#night shift",))),
        ('/go #"night shift"', CommandInput("go", ("#night shift",))),
        ('/set typing off #"night shift"', CommandInput("set", ("typing", "off", "#night shift"))),
        ("/me one\ntwo\n", CommandInput("me", ("one\ntwo",))),
        ("/msg\tbob\thi", CommandInput("msg", ("bob", "hi"))),
        ('/msg @"Anna Maria" hi', CommandInput("msg", ("@Anna Maria", "hi"))),
        ('/msg "Anna Maria"#K7QF2M3P hi', CommandInput("msg", ("Anna Maria#K7QF2M3P", "hi"))),
        ("/msg bob#K7QF2M3P hi", CommandInput("msg", ("bob#K7QF2M3P", "hi"))),
        ('/search "as it stands"', CommandInput("search", ('"as it stands"',))),
        (" /etc/passwd", TextInput(" /etc/passwd")),
        ("\uff0f is a slash", TextInput("\uff0f is a slash")),
    ],
)
def test_valid_typed_lines(line: str, meant: TextInput | CommandInput | None) -> None:
    assert parse_line(line) == meant


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/mgs bob hi", "there is no command '/mgs': did you mean /msg?"),
        ("/", "there is no command '/': /help lists them."),
        ("/group", "usage: /group NAME [MEMBER...], for example /group ops bob carol"),
        ("/leave now", "usage: /leave"),
        ("/list everything", "usage: /list [-a]"),
        ('/go ""', "usage: /go [CONVERSATION]"),
        ("/123", "there is no command '/123': /help lists them. Nothing was sent"),
        ("/ msg bob hi", "Did you mean /msg? Commands must start at the beginning of the line."),
        ("  /msg bob hi", "Did you mean /msg? Commands must start at the beginning of the line."),
        ("\ufeff/msg bob hi", "Did you mean /msg? Commands must start at the beginning of the line."),
        ("\n/quit", "Did you mean /quit?"),
        ("\uff0fmsg bob hi", "Did you mean /msg? Commands must start at the beginning of the line."),
        ("/MSGG bob hi", "there is no command '/MSGG': did you mean /msg?"),
        ("/\u043csg bob hi", "there is no command '/\u043csg': did you mean /msg?"),
        ("/\uff4d\uff53\uff47 bob hi", "there is no command '/\uff4d\uff53\uff47': did you mean /msg?"),
        ("/q", "there is no command '/q': did you mean /quit?"),
        ("/re hi", "there is no command '/re': did you mean /reply?"),
        ("/" + "x" * 100_000, "there is no command"),
    ],
)
def test_a_mistyped_command_is_never_sent(line: str, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_line(line)
    assert str(error.value).startswith(expected)


def test_help_fits_a_small_terminal() -> None:
    lines = help_lines()
    assert len(lines) <= 20 and max(map(len, lines)) <= 80
    assert [line.strip().partition("  ")[0] for line in lines[1 : 1 + len(MOST_USED)]] == [
        BY_NAME[name].example for name in MOST_USED
    ]


def test_help_leaves_names_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in range(40, 80):
        monkeypatch.setattr(typed_commands, "HELP_COLUMNS", width)
        words = {word for line in help_lines() for word in line.split()}
        assert {f"/{command.word}" for command in TYPED if command.word not in MOST_USED} <= words


def test_help_of_one_command() -> None:
    assert help_lines("/dm") == [
        "/msg NAME [TEXT] (also /dm)",
        "    message one person (delivered later if they're away)",
        "    with no text: switch there, as /go does",
        '    quote a name with blanks: /msg "Anna Maria" hi',
        "    for example: /msg bob see you at ten",
    ]
    with pytest.raises(UsageError):
        help_lines("xyzzy")


@pytest.mark.parametrize(
    "name",
    [
        *("bob", "Anna Maria", "bob#K7QF2M3P", "Anna Maria#K7QF2M3P"),
        *('"bob"', 'bob" hi', 'a"b', '"', '"bob" hi#K7QF2M3P'),  # none of these is bob
    ],
)
def test_completed_names_can_be_parsed(name: str) -> None:
    assert parse_line(f"/msg {typed_name(name)} hi there") == CommandInput("msg", (name, "hi there"))
    assert parse_line(f"/go {typed_name(name)}") == CommandInput("go", (name,))


@pytest.mark.parametrize(("text", "words"), [*TYPED_WORDS.items()])
def test_words_are_read_in_the_quotes_of_many_languages(text: str, words: list[str] | str) -> None:
    """What `„Mittag heute?“` began was taken for two options, and asked of everybody."""
    if isinstance(words, list):
        assert split_words(text) == words
    else:
        with pytest.raises(UsageError, match=f"^the quote at {words} does not end"):
            split_words(text)


def test_a_repr_shows_no_typed_text() -> None:
    secret = "meet me at noon"
    shown = repr([parse_line(secret), parse_line(f"/msg bob {secret}"), Question(secret, "yn", print)])
    assert "noon" not in shown and "msg" in shown
