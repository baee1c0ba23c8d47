"""`ws /lines`: event lines out and command objects in, the same words as `p2pchat --json`; what the page speaks.

To be touched when the page needs another line. A command that terminals have too belongs to apps/cli/chat first.
"""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from p2pchat.apps.web.doors.signing import sign_in
from p2pchat.apps.web.lines.show import error_line
from p2pchat.apps.web.sessions.frames import as_frame
from p2pchat.web.errors import WebError, problem_of
from p2pchat.web.event_socket import Connection
from p2pchat.web.hub import CLOSE_CODES

router = APIRouter()


@router.websocket("/lines")
async def lines(websocket: WebSocket, since: str | None = None) -> None:
    """Serve one caller until it goes; `?since=ID` tells first what was shown behind that message."""
    signed_in = await sign_in(websocket)
    if signed_in is None:
        return
    connection = Connection(websocket, signed_in.account)
    try:
        await connection.serve(since)
    except WebError as error:  # no room for it
        problem = problem_of(error)
        with suppress(RuntimeError, WebSocketDisconnect):
            await websocket.send(as_frame(error_line(problem)))
            await websocket.close(CLOSE_CODES["slow"], problem.code)
