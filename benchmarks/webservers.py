"""Servers for the gateway benchmark: the gateway itself, and plain alternatives.

The plain servers follow the examples of their libraries and run in the same uvicorn as the gateway. They store and
check nothing, know no users, and lose messages for users who are offline.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import socketio
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from benchmarks.workers import Channel, resident_kib, settle

PLENTY = 1_000_000_000  # a rate limit that is never reached


async def serve(channel: Channel, app: Any, **more: Any) -> None:
    """Serve an application until the input ends. Report the port, and the memory in use on each request."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", access_log=False))
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    settle()
    channel.send(port=listening.getsockname()[1], **more)
    while await channel.receive():
        gc.collect()
        channel.send(kib=resident_kib())
    os._exit(0)  # closing thousands of connections takes long


async def plain_chat(channel: Channel) -> None:
    """Run as a worker: FastAPI's example of a WebSocket server that forwards everything to everyone."""
    app = FastAPI()
    there: list[WebSocket] = []

    @app.websocket("/chat")
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        there.append(socket)
        me = f"user{len(there)}"
        try:
            while True:
                said = await socket.receive_json()
                now = datetime.now(UTC).isoformat()
                line = json.dumps({"type": "message", "from": me, "content": said["text"], "timestamp": now})
                for one in there:
                    await one.send_text(line)
        except WebSocketDisconnect:
            there.remove(socket)

    await serve(channel, app, before=resident_kib())


async def plain_socketio(channel: Channel) -> None:
    """Run as a worker: python-socketio forwarding everything to everyone."""
    server = socketio.AsyncServer(async_mode="asgi")
    names: dict[str, str] = {}

    async def register(sid: str, given: dict[str, str]) -> dict[str, str]:
        names[sid] = given["userId"]
        return {"status": "ok"}

    async def group_message(sid: str, given: dict[str, str]) -> None:
        now = datetime.now(UTC).isoformat()
        await server.emit("newMessage", {"from": names[sid], "content": given["content"], "timestamp": now})

    server.on("register", register)
    server.on("groupMessage", group_message)
    await serve(channel, socketio.ASGIApp(server), before=resident_kib())


async def gateway(channel: Channel, directory: str, users: int) -> None:
    """Run as a worker: a gateway on a real disk, without rate limits; the tokens of its accounts go to a file."""
    from p2pchat import TCPPeer
    from p2pchat.web import Pace, WebSettings, create_app

    fast = Pace(PLENTY, PLENTY)
    settings = WebSettings(
        calls=fast, messages=fast, written=fast, small=fast, sign_ups=fast, strangers=fast, max_sessions=users + 10
    )
    async with TCPPeer(0, name="gateway", data=Path(directory) / "gateway") as peer:
        app = create_app(peer, settings)
        before = resident_kib()
        registered = [await app.state.gateway.accounts.register(f"user{number}") for number in range(users)]
        tokens = Path(directory) / "tokens.json"
        tokens.write_text(json.dumps([token for _, token in registered]), "utf-8")
        await serve(channel, app, before=before, tokens=str(tokens))
