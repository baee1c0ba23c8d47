"""/connect, /forget and /invite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pchat import Settings, TCPPeer
from p2pchat.commands.errors import NO_SUCH_NAME
from p2pchat.testing import mesh
from tests.commands.shown import Shown, open_session


async def test_forget_takes_a_name_or_an_address(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        _, bob = net.peers
        session = open_session(bob, shown)
        await session.execute([b'{"do":"forget","peer":"ada"}', b"/forget 127.0.0.1:9"])
        forgotten, error = shown.lines
        assert (len(forgotten["rows"][0]["endpoints"]), forgotten["rows"][0]["linked"]) == (1, True)
        assert error["code"] == "unknown_name" and session.exit_code == NO_SUCH_NAME


async def test_forget_reports_the_endpoints(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await open_session(bob, shown, as_json=False).execute([b"/forget ada"])
        assert shown.new == [f"-- no longer dialling {ada.endpoint}; the current link stays until it ends"]


async def test_invite_shows_a_screen_and_warns_on_loopback(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    async with TCPPeer(0, name="ada", db="memory://", settings=Settings(start_timeout=0.0)) as ada:
        await open_session(ada, shown, as_json=False).execute([b"/invite"])
        lines = shown.new
        assert any("--invite -" in line for line in lines)
        assert any(line.strip().startswith("p2pchat:") for line in lines)
        assert lines[-1].startswith("-- only this computer can reach you at the moment")
        await open_session(ada, shown).execute([b'{"do":"invite","ref":"i"}'])
        row = json.loads(shown.new[-1])["rows"][0]
        assert row["invite"].startswith("p2pchat:") and row["only_this_machine"] is True
        assert (row["host"], row["port"]) == ("127.0.0.1", ada.port)
    where = {"host": "127.0.0.1", "advertise": "chat.example:8080"}
    async with TCPPeer(0, name="bob", db="memory://", settings=Settings(start_timeout=0.0), **where) as bob:  # type: ignore[arg-type]
        await open_session(bob, shown, as_json=False).execute([b"/invite"])
        assert not shown.new[-1].startswith("-- only this computer")  # the advertised address leads here
