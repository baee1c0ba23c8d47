"""Completion without a shell: what no shell has to be asked (tests/long/cli/subcommands/test_completion.py)."""

from __future__ import annotations

import pytest

from p2pchat.__main__ import main
from p2pchat.cli.program import program
from tests.cli.conftest import Here, OpenChats


def test_an_option_takes_a_value_in_all_commands_or_in_none() -> None:
    """Options may come before the name of the command, while the command is still unknown."""
    options = list(program.all_options())
    switches = {name for option in options if option.is_flag for name in option.opts}
    assert switches.isdisjoint(name for option in options if not option.is_flag for name in option.opts)


def test_names_are_offered_where_it_is_clear_whose_and_else_nothing(
    chats: OpenChats, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would be printed into the line that is being typed."""
    ada = chats.open("ada", data="8001")
    chats.open("bob", ada, data="8002").room.send("hi").delivered(timeout=60)
    monkeypatch.setenv("_P2PCHAT_COMPLETE", "bash_complete")
    for words, offered in (
        (["p2pchat", "send", "bo"], ""),
        (["p2pchat", "send", "--port", "8001", "bo"], "plain,bob\n"),
    ):
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert here().said == (0, offered, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "Missing argument 'bash|zsh|fish'"),
        (["ksh"], "'ksh' is not one of 'bash', 'zsh', 'fish'"),
        (["bash", "zsh"], "Got unexpected extra argument (zsh)"),
    ],
)
def test_an_unknown_shell_is_an_error(words: list[str], expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 2
    assert expected in capfd.readouterr().err
