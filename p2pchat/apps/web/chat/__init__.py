"""`ws /chat`: the public chat, direct messages and groups over a WebSocket, for programs as simple as may be.

In: a text, or an object (orders.py). Out: `{"type":"message","id","from","to"|"group"?,"content","timestamp"}`, and
`{"status":"ok","id","ref"?}` once what was said is accepted, or `{"status":"error","code","text","ref"?}`.
"""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from p2pchat.apps.web.doors.signing import sign_in
from p2pchat.web.chat_socket import EVENTS, ChatSession
from p2pchat.web.gateway import gateway_of

router = APIRouter()


@router.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """Serve one client; `?since=ID` goes on behind a message, `?events=presence,receipts` tells more than messages."""
    signed = await sign_in(websocket)
    if signed is None:
        return
    since = signed.first.get("since", websocket.query_params.get("since"))
    wanted = signed.first.get("events", websocket.query_params.get("events", ""))
    words = frozenset(wanted.split(",")) if isinstance(wanted, str) else frozenset()
    events = frozenset(EVENTS) if "all" in words else words & EVENTS.keys()
    session = ChatSession(websocket, gateway_of(websocket), signed.account, events)
    await session.run(since if isinstance(since, str) else None)
