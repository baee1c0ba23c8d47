"""Completion in real shells: commands, options, files, and names of others, which are never expanded."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from p2pchat import TCPPeer
from p2pchat.__main__ import main
from p2pchat.cli.options import CommandGroup
from p2pchat.cli.program import COMMANDS, chat, program
from p2pchat.cli.subcommands.completion import SHELLS
from p2pchat.commands.last_start import LastStart
from tests.deadlines import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shells of POSIX")

# Names of others; some would run a command in a shell that expands them.
NAMES = ["bob", "Al Green", "$(touch pwned)", "`touch pwned`", "it's; touch pwned", 'say "hi" \\o', "Dr: Who", "*"]
TIMEOUT = 60.0
Complete = Callable[..., list[str]]

BASH = """\
source ./script
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() {
    local how=${2/default/file} path
    for path in $(compgen -A "${how/dirnames/directory}" -- "${COMP_WORDS[COMP_CWORD]}"); do COMPREPLY+=("$path"); done
}
_p2pchat_completion p2pchat
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """\
compdef() { : }
offer() { local one; for one; do [[ $one == "$PREFIX"* ]] && print -r -- $one; done }
compadd() { offer "${(@P)5}" }
_describe() { offer "${(@)${(@P)3}%%:*}" }
_path_files() { print -r -- "FILES $*" }
source ./script
words=("$@") CURRENT=$# PREFIX=${words[-1]}
_p2pchat_completion
"""
FISH = """\
source ./script
complete -C (string escape -- $argv | string join ' ' | string replace -r "''\\$" '')
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home directory of ada, at port 18080, with all of NAMES and a group."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2PCHAT_HOME", str(home))
        asyncio.run(meet(home))
    return home


def environment(home: Path, user: Path) -> dict[str, str]:
    """Return that of a shell, whose p2pchat is the code of this tree and not what is installed."""
    return {
        "PATH": f"{sysconfig.get_path('scripts')}:/usr/bin:/bin", "P2PCHAT_HOME": str(home), "HOME": str(user),
        "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT),
    }  # fmt: skip


async def meet(home: Path) -> None:
    async with TCPPeer(0, name="ada", data=home / "18080") as ada:
        for name in NAMES:
            async with TCPPeer(0, ada.endpoint, name=name, temporary=True) as other:
                await (await other.broadcast("hi")).delivered(timeout=60)
        await ada.create_group("night shift")
    LastStart(terminal=True).save(home / "18080")


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Complete:
    """Complete the last word of a command line in a shell; return the candidates without descriptions."""
    shell: str = request.param
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capfd.readouterr().out, "utf-8")
    command = {"bash": ["--norc", "-c", BASH, "bash"], "zsh": ["-f", "-c", ZSH, "zsh"], "fish": ["-N", "-c", FISH]}

    def run(*words: str, shell_path: str = path) -> list[str]:
        env = environment(home, tmp_path)
        done = subprocess.run(
            [shell_path, *command[shell], "p2pchat", *words],
            cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert not (tmp_path / "pwned").exists()
        return [line.split("\t")[0] for line in done.stdout.splitlines() if line]

    return run


def test_every_command(complete: Complete) -> None:
    assert set(complete("")) >= set(COMMANDS)
    assert set(complete("h")) >= {"history"}
    assert set(complete("18080", "")) & set(COMMANDS) == set()


def test_every_option_of_every_command(complete: Complete) -> None:
    for name in ("18080", *COMMANDS):
        command = program.get_command(click.Context(program), name) or chat
        if isinstance(command, CommandGroup) and command.default is not None:
            command = command.default
        wanted = {flag for option in options_of(command) for flag in option.opts if flag.startswith("--")}
        assert set(complete(name, "--")) >= wanted | {"--help"}, name
    assert "-n" in complete("tail", "-")
    assert set(complete("--")) >= {flag for option in options_of(chat) for flag in option.opts if len(flag) > 2}


def options_of(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def test_values(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "ada.jsonl").touch()
    (tmp_path / "adir").mkdir()
    assert sorted(complete("send", "--wait", "")) == ["accepted", "delivered", "files", "read"]
    assert complete("send", "--timeout", "") == []
    assert complete("history", "--port", "") == ["18080"]
    assert sorted(complete("completion", "")) == sorted(SHELLS)
    files, directories = complete("check", "a"), complete("history", "--data", "a")
    if files[0].startswith("FILES"):  # zsh's own function
        assert (files, directories) == (["FILES -f"], ["FILES -/"])
    else:
        assert "ada.jsonl" in files and [path.rstrip("/") for path in directories] == ["adir"]


def test_ports_that_have_a_profile(complete: Complete) -> None:
    assert complete("18") == ["18080"]


def test_names_of_others_are_names(complete: Complete, request: pytest.FixtureRequest) -> None:
    offered = complete("send", "--port", "18080", "")
    if request.node.callspec.params["complete"] == "bash":  # quoted already; the other shells quote when they insert
        command = f"printf '%s\\n' {' '.join(offered)}"
        offered = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    assert sorted(offered) == sorted(["room", *NAMES, "#night shift"])
    assert complete("history", "bo") == ["bob"]
    assert complete("send", "bob", "") == []


def test_a_python_file_in_the_directory_is_not_run(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "p2pchat.py").write_text("open('pwned', 'w')")
    assert len(complete("send", "")) == 1 + len(NAMES) + 1


@pytest.mark.parametrize(
    ("shell", "begins"),
    [(["bash", "--norc", "--noprofile"], "\\$\\("), (["zsh", "-f"], "\\$\\("), (["fish", "-N"], "'$(")],
    ids=SHELLS,
)
async def test_an_inserted_name_is_quoted_for_the_shell(
    shell: list[str], begins: str, home: Path, tmp_path: Path
) -> None:
    """A line is typed into a real terminal, completed, and run by the shell."""
    from tests.terminal.pty import Terminal

    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    echo = "function p2pchat; printf '<%s>' $argv; end" if shell[0] == "fish" else "p2pchat() { printf '<%s>' \"$@\"; }"
    env = environment(home, tmp_path)
    ready = "autoload -Uz compinit; compinit -D -u; " if shell[0] == "zsh" else ""
    words = [sys.executable, "-m", "p2pchat", "completion", shell[0]]
    script = subprocess.run(words, env=env, capture_output=True, check=True, timeout=TIMEOUT)
    (tmp_path / "script").write_bytes(script.stdout)
    terminal = Terminal(["env", "-C", str(tmp_path), *shell, "-i"], env, columns=120)
    await terminal.start()
    try:
        await terminal.type(f"{ready}source ./script; {echo}; echo rea''dy\r")
        await terminal.shows_line("^ready")
        await terminal.type(f"p2pchat send {begins}\t")
        await terminal.shows("pwned")
        await terminal.type("\r")
        await terminal.shows_line(r"^<send><\$\(touch pwned\)>")
    finally:
        await terminal.close()
    assert not (tmp_path / "pwned").exists()
