"""Bell, desktop notifications, window title and colours."""

from __future__ import annotations

from io import StringIO

from prompt_toolkit.data_structures import Size
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from p2pchat.cli.terminal.device import BELL_EVERY, DIM, ERROR, ME, TerminalAlerts, name_style


class AlertOutput:
    """A terminal's output, and a clock to set."""

    def __init__(self) -> None:
        self.written = StringIO()
        self.now = 0.0
        output = Vt100_Output(self.written, lambda: Size(24, 80), term="xterm")
        self.notices = TerminalAlerts(output, lambda: self.now)

    def take(self) -> str:
        written = self.written.getvalue()
        self.written.seek(0)
        self.written.truncate()
        return written


def test_the_bell_rings_at_most_once_in_two_seconds() -> None:
    alerts = AlertOutput()
    alerts.notices.ring("bob: hi", bell=True, desktop=False)
    assert alerts.take() == "\a"
    alerts.now = BELL_EVERY - 0.1
    alerts.notices.ring("bob: hi", bell=True, desktop=True)
    assert alerts.take() == ""
    alerts.now = BELL_EVERY
    alerts.notices.ring("bob: hi", bell=False, desktop=True)
    assert alerts.take() == "\x1b]9;p2pchat: bob: hi\x07"
    alerts.now = 100.0
    alerts.notices.ring("bob: hi", bell=False, desktop=False)
    assert alerts.take() == ""


def test_a_desktop_notification_is_one_safe_line() -> None:
    alerts = AlertOutput()
    alerts.notices.ring("bob: a\nb\x07\x1b]0;owned\x07" + "x" * 200, bell=False, desktop=True)
    written = alerts.take()
    assert written.startswith("\x1b]9;p2pchat: bob: a b\\u{7}\\u{1b}]0;owned\\u{7}xxx") and written.endswith("x…\x07")
    assert written.count("\x1b") == written.count("\x07") == 1 and len(written) < 150


def test_the_title_is_set_on_change_and_restored() -> None:
    alerts = AlertOutput()
    alerts.notices.close()
    assert alerts.take() == ""
    alerts.notices.title("room", 0)
    assert alerts.take() == "\x1b[22;0t\x1b]2;room - p2pchat\x07"
    alerts.notices.title("room", 0)
    assert alerts.take() == ""
    alerts.notices.title("bob\x1b[2J", 3)
    assert alerts.take() == "\x1b]2;(3) bob\\u{1b}[2J - p2pchat\x07"
    alerts.notices.close()
    assert alerts.take() == "\x1b]2;\x07\x1b[23;0t"


def test_a_name_always_has_the_same_colour() -> None:
    assert name_style("K7QF2M3P") == name_style("K7QF2M3P") == "ansimagenta"
    assert len({name_style(f"user {number}") for number in range(50)}) == 6


def test_styles_use_the_terminals_own_colours() -> None:
    for style in {DIM, ERROR, ME, *(name_style(str(number)) for number in range(50))}:
        attrs = Style([]).get_attrs_for_style_str(style)
        assert not attrs.bgcolor and (not attrs.color or attrs.color.startswith("ansi"))
