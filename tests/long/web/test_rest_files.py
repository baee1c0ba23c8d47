"""Uploads that wait until they are forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from p2pchat import TCPPeer
from p2pchat.web import WebSettings, account_files, create_app
from tests.deadlines import within
from tests.web.conftest import listening


async def test_an_upload_is_forgotten_after_an_hour_though_nobody_calls(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_files, "KEPT_FOR", -0.95)  # it looks a second after that
    async with TCPPeer(data=home / "gate", name="gate") as peer:
        app = create_app(peer, WebSettings(trust_loopback=True))
        async with listening(app) as port:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                assert (await http.post("/files", params={"filename": "a", "as": "ada"}, content=b"x")).is_success
            async with within(60, "the end of what nobody sent"):
                while list((home / "gate" / "content").iterdir()):
                    await asyncio.sleep(0.01)  # poll: the directory tells nobody
        await app.state.gateway.aclose()
