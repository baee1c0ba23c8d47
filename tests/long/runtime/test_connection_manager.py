"""Long tests of `tests/runtime/test_connection_manager.py`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from p2pchat import server as server_module
from p2pchat.runtime.connection_manager import (
    dial,
)
from tests.link_ends import SETTINGS
from tests.runtime.test_connection_manager import HOME, Host, hang_up, join, talk

WORDS = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(70_000),
    "noise": b"\xff\xfe" * 35_000,
    "a huge length": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
async def test_bytes_of_strangers_do_not_disturb_members(words: bytes) -> None:
    host = Host(replace(SETTINGS, handshake_timeout=5.0))  # a member has to keep it too
    await host.listen()
    client, recorder = await join(host)
    stranger = await dial(HOME, host.port, timeout=60)
    stranger[1].write(words)
    said = await hang_up(stranger)
    assert said == b"" or said[0] == 0x15  # at most an alert
    await talk(host, client, recorder)
    assert recorder.reason == "" and len(host.members) == 1 and host.strangers.count == 0
    client.abort()
    await host.connections.cut_all()


@pytest.mark.parametrize("windows", [False, True], ids=["elsewhere", "windows"])
async def test_a_thousand_strangers_cost_a_bounded_amount(windows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "loses_listener_on_error", lambda loop: windows)
    host = Host(replace(SETTINGS, handshake_timeout=5.0))
    await host.listen()
    client, recorder = await join(host)

    async def knock() -> None:
        try:
            streams = await dial(HOME, host.port, timeout=60)
        except OSError:
            return  # reset before the dial had returned
        await hang_up(streams)

    everybody: list[asyncio.Task[None]] = []
    for _ in range(10):
        crowd = [asyncio.create_task(knock()) for _ in range(100)]
        await talk(host, client, recorder)
        await asyncio.wait(crowd, timeout=0.01)
        await talk(host, client, recorder)
        everybody += crowd
    await asyncio.gather(*everybody)
    assert host.strangers.most == SETTINGS.max_strangers_loopback  # never more than these had a Client
    assert host.strangers.refused >= 500  # all except those in places that became free after five seconds
    assert host.strangers.count == 0 and recorder.reason == ""
    client.abort()
    await host.connections.cut_all()
