"""QR code of an invite."""

from __future__ import annotations

import pytest

from p2pchat.commands.qr_code import QUIET, may_colour, qr_code, width

segno = pytest.importorskip("segno")

INVITE = "p2pchat:" + "ab3" * 45 + "c@192.168.1.5:8080"
_MODULES = {" ": (0, 0), "▄": (0, 1), "▀": (1, 0), "█": (1, 1)}


def modules(lines: list[str]) -> list[list[int]]:
    """Return the modules on the screen: two rows per line, black on white."""
    found: list[list[int]] = []
    for line in lines:
        row, _, rest = line.removeprefix("    \x1b[38;5;16;48;5;231m").partition("\x1b[0m")
        assert not rest and "\x1b" not in row
        found += [[_MODULES[character][half] for character in row] for half in (0, 1)]
    return found


def test_the_code_has_a_quiet_zone() -> None:
    code, _, places = INVITE.partition("@")
    symbol = segno.make([code.upper(), f"@{places}".encode()], error="l", boost_error=False, micro=False)
    expected = [[int(bool(module)) for module in row] for row in symbol.matrix_iter(border=QUIET)]
    shown = modules(qr_code(INVITE))
    assert shown[: len(expected)] == expected
    assert not any(any(row) for row in shown[len(expected) :])  # the last half line is white
    assert width(qr_code(INVITE)) == len(expected[0]) + 4


def test_upper_case_makes_the_code_smaller() -> None:
    assert width(qr_code(INVITE)) < segno.make(INVITE.encode(), error="l", micro=False).symbol_size(border=QUIET)[0] + 4


def test_a_long_invite_has_no_code() -> None:
    assert qr_code("p2pchat:abc@" + "h" * 4000) == [] and width([]) == 0


def test_colours_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert may_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not may_colour()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not may_colour()
    monkeypatch.delenv("TERM")
    assert not may_colour()
