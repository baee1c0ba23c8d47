"""A gateway below a path of a reverse proxy, which takes the path away or keeps it: every interface works the same."""

from __future__ import annotations

import json

import pytest

from p2pchat.web import WebSettings
from tests.web.chat_client import connect
from tests.web.conftest import serving
from tests.web.socketio_client import socket

ROOT = "/chat"  # which is the path of an interface, too


@pytest.mark.parametrize("seen", ["", ROOT], ids=["taken away", "kept"])
async def test_everything_works_below_a_path(seen: str) -> None:
    """Socket.IO was 404 and 403 where the proxy takes the path away, and redirects lost it."""
    async with serving(WebSettings(root_path=ROOT)) as served, served.client() as http:
        answer = await http.post(f"{seen}/v1/accounts", json={"name": "zoe"})
        assert answer.status_code == 201, answer.text
        token = answer.json()["token"]
        assert "<html" in (await http.get(f"{seen}/")).text
        bearer = {"Authorization": f"Bearer {token}"}
        for path in ("messages", "v1/messages"):
            assert (await http.get(f"{seen}/{path}", headers=bearer)).status_code == 200
        for path in ("v1/messages", "openapi.json"):
            moved = await http.get(f"{seen}/{path}/", headers=bearer)
            assert (moved.status_code, moved.headers["location"].removeprefix(served.url)) == (307, f"{ROOT}/{path}")
        for transports in (["polling"], ["websocket"], ["polling", "websocket"]):
            path = f"{seen}/socket.io".lstrip("/")
            async with socket(served.url, "zoe", token, transports=transports, path=path) as zoe:
                sent = await zoe.say("groupMessage", {"to": "room", "content": "hello"})
                assert sent["status"] == "ok"
        async with connect(f"{served.ws_url}{seen}/chat", additional_headers=bearer) as chat:
            await chat.send(json.dumps({"text": "hello", "ref": "1"}))
            assert json.loads(await chat.recv())["status"] == "ok"
        async with connect(f"{served.ws_url}{seen}/lines", additional_headers=bearer) as lines:
            assert json.loads(await lines.recv())["user"] == "zoe"


async def test_the_path_alone_leads_to_the_page() -> None:
    async with serving(WebSettings(root_path=ROOT)) as served, served.client() as http:
        moved = await http.get(ROOT)
        assert (moved.status_code, moved.headers["location"].removeprefix(served.url)) == (307, f"{ROOT}/")
