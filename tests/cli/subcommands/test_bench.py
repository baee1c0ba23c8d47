"""`p2pchat bench`: its command line and figures. Measurements: tests/long/processes/test_bench.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pchat import TCPPeer, profile_invite
from p2pchat.__main__ import main
from p2pchat.cli.subcommands.bench import (
    TEXT_BYTES,
    format_figure,
    measure_disk,
    message_text,
    rate_figure,
    time_figure,
)
from p2pchat.commands.exit_codes import UsageError
from tests.cli.parsing import parse
from tests.ports import free_ports


def test_an_endpoint_and_how_much() -> None:
    values = parse("bench", "8081", "--port", "8080", "--write", "500", "--seconds", "0.5", "--json")
    assert (values["endpoint"], values["profile"].port) == ("127.0.0.1:8081", 8080)
    assert (values["write"], values["seconds"], values["as_json"]) == (500, 0.5, True)
    assert parse("bench", "bob.example.org:8080")["write"] == 0, "nothing is written unless it is asked for"


@pytest.mark.parametrize("line", ["", "a:1 b:2", "a:1 --write 0", "a:1 --write many", "a:1 --write 100001", "bob"])
def test_usage_errors(line: str) -> None:
    with pytest.raises(UsageError):
        parse("bench", *line.split())


def test_without_a_profile_there_is_no_network_to_measure(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "8081", "--port", "8080"]) == 2
    assert "there is no profile in" in capsys.readouterr().err
    with pytest.raises(Exception, match="there is no peer in"):
        profile_invite(home / "8080", ["localhost:8081"])


def test_an_endpoint_without_a_listener_is_an_error_with_advice(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [port] = free_ports(1)
    asyncio.run(_once(home / "8080"))
    assert main(["bench", port, "--port", "8080"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"p2pchat: cannot measure the connection to 127.0.0.1:{port}: ")
    assert "; start a peer on that port: " in said


async def _once(directory: Path) -> None:
    """Make a profile as a peer does that runs for a moment."""
    async with TCPPeer(data=directory):
        pass


def test_times_below_a_millisecond_are_measured_in_uvloop_too(tmp_path: Path) -> None:
    """The clock of that loop has whole milliseconds."""
    uvloop = pytest.importorskip("uvloop", reason="there is none for Windows")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        accepted, _ = runner.run(measure_disk(tmp_path, 0.0))
    assert abs(1000 * accepted.value - round(1000 * accepted.value)) > 1e-4


def test_a_figure_is_a_line() -> None:
    figure = time_figure("round_trip", [0.001, 0.002, 0.5], "of the network alone")
    assert (figure.value, figure.p99, figure.count, figure.unit) == (0.002, 0.5, 3, "s")
    assert format_figure(figure).split() == [
        "round",
        "trip",
        "2.00",
        "ms",
        "99",
        "%:",
        "500",
        "ms",
        "3",
        *figure.text.split(),
    ]
    many = rate_figure("accepted_many", 3000, 1.5, "together")
    assert (many.value, many.p99) == (2000.0, None)
    assert format_figure(many).split() == ["accepted", "many", "2,000", "/s", "3,000", "together"]
    assert len(message_text(7).encode()) == TEXT_BYTES and message_text(7) != message_text(8)
