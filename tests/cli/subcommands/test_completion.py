"""Completion without a shell: what no shell has to be asked (tests/long/cli/subcommands/test_completion.py)."""

from __future__ import annotations

import pytest

from p2pchat.__main__ import main
from p2pchat.cli.program import program


def test_an_option_takes_a_value_in_all_commands_or_in_none() -> None:
    """Options may come before the name of the command, while the command is still unknown."""
    options = list(program.all_options())
    switches = {name for option in options if option.is_flag for name in option.opts}
    assert switches.isdisjoint(name for option in options if not option.is_flag for name in option.opts)


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
