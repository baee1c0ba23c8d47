"""Long tests of `tests/test_trace.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.deadlines import until
from tests.json_lines import lines_of
from tests.messaging.conftest import home as home
from tests.test_trace import WRITTEN, frames_of, names, posix
from tests.web.processes import p2pchat, running


async def test_the_option_of_the_command_line_and_its_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option, variable = home / "option", home / "variable"
    words = ("0", "--data", str(home / "1"), "--trace", str(option), "--trace-texts")
    async with running(*p2pchat(*words), home=home) as ada:
        port = (await ada.until("listens on")).partition("127.0.0.1:")[2].partition(",")[0]
        monkeypatch.setenv("P2PCHAT_TRACE", str(variable))
        async with running(*p2pchat("0", port, "--data", str(home / "2"), "--plain"), home=home) as bob:
            await bob.say("cats eat fish")
            assert await bob.end() == 0
        await until(lambda: "bye" in names(frames_of(option, "in")), "the last frame in the file")
        ada.kill()
        await ada.end()
    assert frames_of(option, "out") and WRITTEN[2] in option.read_text("utf-8")
    assert WRITTEN[2] not in variable.read_text("utf-8")
    assert names(frames_of(variable, "out")) == names(frames_of(option, "in"))


async def test_a_gateway_traces_its_peer(home: Path) -> None:
    words = ("web", "0", "--port", "0", "--data", str(home / "1"), "--trace", str(home / "trace"))
    async with running(*p2pchat(*words), home=home) as gate:
        port = (await gate.until("listens on")).partition("127.0.0.1:")[2].partition(",")[0]
        async with running(*p2pchat("0", port, "--data", str(home / "2"), "--plain"), home=home) as bob:
            await bob.say("cats eat fish")
            assert await bob.end() == 0
        gate.terminate()
        assert await gate.end() == 0
    assert "entries" in names(frames_of(home / "trace", "in"))
    assert "end" in {line["event"] for line in lines_of(home / "trace")}


@posix
async def test_a_full_disk_leaves_what_fits_and_one_warning(home: Path) -> None:
    """The limit of the size of any file of the process ends a write in the middle of a line."""
    limited = (
        "import resource, runpy, sys; sys.dont_write_bytecode = True; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
        "runpy.run_module('p2pchat', run_name='__main__', alter_sys=True)"
    )
    words = ("0", "--data", str(home / "1"), "--db", "memory://", "--trace", str(home / "trace"))
    async with running(sys.executable, "-c", limited, *words, home=home) as ada:
        port = (await ada.until("listens on")).partition("127.0.0.1:")[2].partition(",")[0]
        for _ in range(3):
            async with running(*p2pchat("0", port, "--data", str(home / "2"), "--plain"), home=home) as bob:
                await bob.say("cats eat fish")
                assert await bob.end() == 0
        await ada.end()
    assert len([line for line in ada.shown if "cannot write the trace" in line]) == 1, ada.shown
    *whole, _cut = (home / "trace").read_text("ascii").split("\n")
    assert len([json.loads(line) for line in whole]) > 3
