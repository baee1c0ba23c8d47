"""The documented nginx below a path, taking the path away and keeping it, with the clients that most programs use."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.long.web.compat.test_socketio_chat import javascript
from tests.long.web.test_reverse_proxy import documented, gateway, installed, nginx_command, replaced, running
from tests.long.web.test_web_command import posix
from tests.ports import free_ports
from tests.web.chat_client import connect
from tests.web.socketio_client import socket


def configuration(port: str, behind: int, *, keep: bool) -> str:
    """Return the documented server without TLS, with the documented places below a path."""
    inside = documented("nginx.conf").partition("location / {\n")[2].partition("    }\n")[0].splitlines(keepends=True)
    proxied = "".join(line for line in inside if "proxy_pass" not in line)
    places = replaced(
        documented("below-a-path.conf"),
        ("    # and the proxy_* lines above\n", replaced(proxied, ("Host $host;", f"Host $host:{port};"))),
        ("http://127.0.0.1:8000/;", f"http://127.0.0.1:{behind}{'' if keep else '/'};"),
    )
    [connection] = [line for line in documented("nginx.conf").splitlines() if line.startswith("map ")]
    return f"{connection}\nserver {{\nlisten 127.0.0.1:{port};\n{places}\n}}\n"


@posix
@pytest.mark.parametrize("keep", [False, True], ids=["taken away", "kept"])
async def test_both_clients_work_below_a_path(tmp_path: Path, keep: bool) -> None:
    program, (port,) = installed("nginx"), free_ports(1)
    site = f"http://127.0.0.1:{port}"
    async with gateway(tmp_path, "--origin", site, "--root-path", "/chat") as (behind, token):
        text = configuration(port, behind, keep=keep)
        async with running(port, *nginx_command(tmp_path, program, text)), javascript(tmp_path, port) as page:
            async with httpx.AsyncClient(base_url=site, trust_env=False) as http:
                assert (await http.get("/chat")).headers["location"] == f"{site}/chat/"
                assert "<html" in (await http.get("/chat/")).text
                assert (await http.get("/chat/v1/users/")).headers["location"] == f"{site}/chat/v1/users"
            for transports in (["polling"], ["websocket"], ["polling", "websocket"]):
                async with socket(site, "zoe", token, transports=transports, path="chat/socket.io") as zoe:
                    assert (await zoe.say("groupMessage", {"to": "room", "content": "hello"}))["status"] == "ok"
                await page.come("zoe", token, path="/chat/socket.io", transports=transports)
                await page.order("disconnect", "zoe")
            bearer = {"Authorization": f"Bearer {token}"}
            async with connect(f"{site.replace('http', 'ws')}/chat/chat", additional_headers=bearer) as chat:
                await chat.send(json.dumps({"text": "hello", "ref": "1"}))
                assert json.loads(await chat.recv())["status"] == "ok"
