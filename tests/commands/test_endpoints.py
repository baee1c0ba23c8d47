"""Endpoints, invites, and commands to paste."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from p2pchat import InviteError
from p2pchat.addresses import LOOPBACK
from p2pchat.cli.standard_input import InputKind, read_invite
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.invite_screen import JOIN_COMMAND, endpoints_of, invite_screen, names_loopback
from p2pchat.commands.shell_command import command, program, quoted
from p2pchat.commands.wrap import fold
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import encode_invite, make_invitation
from p2pchat.identity.network import Network


def test_a_program_on_the_path_is_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / ("p2pchat.exe" if sys.platform == "win32" else "p2pchat")
    script.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert program([".venv/bin/python", "-m", "p2pchat", "demo"]) == "p2pchat"
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path.parent / "other"))
    assert program(["python", "p2pchat"]) == "p2pchat"
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))  # in this terminal only, that it was activated in
    assert program(["python", "p2pchat"]) == quoted(str(script))


def test_other_programs_repeat_how_they_were_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / ".venv" / "bin" / "python")  # another terminal may be in another directory
    assert program([".venv/bin/python", "-m", "p2pchat", "demo"]) == f"{quoted(here)} -m p2pchat"
    quote = '"' if sys.platform == "win32" else "'"
    assert program(["/a b/python", "-m", "p2pchat"]) == f"{quote}/a b/python{quote} -m p2pchat"
    assert program(["/opt/venv/bin/python3", "/opt/venv/bin/p2pchat", "8080"]) == "/opt/venv/bin/p2pchat"
    assert program(["/cache/bin/python3", "/cache/bin/p2pchat-mesh", "8080"]) == "/cache/bin/p2pchat-mesh"
    assert program(["python3", "./p2pchat.pyz", "8080"]) == f"python3 {quoted(str(tmp_path / 'p2pchat.pyz'))}"
    assert program(["python", "-c", "a program of its own"]) == "p2pchat"
    assert os.listdir(tmp_path) == []


def test_a_command_is_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["/a b/python", "-m", "p2pchat"])
    monkeypatch.setenv("PATH", "")
    quote = '"' if sys.platform == "win32" else "'"
    assert command(8080, "--data", "my peer") == (
        f"{quote}/a b/python{quote} -m p2pchat 8080 --data {quote}my peer{quote}"
    )


def invite_at(*endpoints: str) -> str:
    """Return an invite by a peer that listens at these endpoints."""
    network, maker = Network.found(), Identity.generate()
    return encode_invite(network, make_invitation(network, maker), endpoints)


INVITE = invite_at("192.168.100.105:8080", "[2001:db8:1234:5678:9abc:def0:1234:5678]:8080")


@pytest.fixture(autouse=True)
def terminal_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def shown_rows(screen: str, columns: int) -> int:
    """Return the number of rows a terminal needs, with long lines wrapped."""
    return sum(-(-len(line) // columns) or 1 for line in fold(screen, columns).split("\n"))


def test_the_endpoints_of_an_invite() -> None:
    assert endpoints_of("P2PCHAT:ABC@Host:1,\n [::1]:2") == ["host:1", "[::1]:2"]
    assert endpoints_of("") == []


def test_an_invite_that_names_loopback_alone_is_known_from_one_of_a_tunnel() -> None:
    for told in ("chat.example:1", "localhost:9999", "localhost:8080", "127.0.0.1:22,[::1]:22"):  # of --advertise
        assert not names_loopback(f"p2pchat:ABC@{told}", LOOPBACK, 8080)
    assert names_loopback("p2pchat:ABC@127.0.0.1:8080", "0.0.0.0", 8080)  # a machine without a network
    assert names_loopback("p2pchat:ABC@[::1]:8080", "::1", 8080)


def test_a_screen_for_this_computer_alone_says_so_first() -> None:
    screen = invite_screen(INVITE, only_here=True)
    assert screen.startswith("-- only this computer can reach you") and "To join from this computer" in screen
    assert "To join from another machine" in invite_screen(INVITE)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (60, 20)])
def test_the_screen_fits_small_terminals(columns: int, rows: int) -> None:
    screen = invite_screen(INVITE)
    assert f"    {JOIN_COMMAND}" in screen.splitlines()
    assert f"    {INVITE}" in screen.splitlines()  # whole, to be copied
    assert "\x1b" not in screen
    assert shown_rows(screen, columns) < rows


# ---- reading an invite


def test_an_invalid_invite_is_refused_before_the_start(tmp_path: Path) -> None:
    written = tmp_path / "invite"
    for text, wrong in [("p2pchat:abc", "damaged"), ("hello", "this is no invite")]:
        written.write_text(text, "utf-8")
        with pytest.raises(InviteError, match=wrong):
            read_invite(str(written), InputKind.NONE)
    with pytest.raises(InviteError, match="typing error"):
        read_invite("p2pchat:1@h:1", InputKind.TERMINAL)
    with pytest.raises(UsageError, match="cannot read the invite"):
        read_invite(str(tmp_path / "nowhere"), InputKind.PIPED)
    with pytest.raises(UsageError, match="there is no input"):
        read_invite("-", InputKind.NONE)
    assert read_invite("", InputKind.TERMINAL) is None
