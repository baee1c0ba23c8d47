"""The door: what every request and upgrade has to pass before anything else looks at it (ASGI, outermost)."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from p2pchat.apps.web.settings import WebSettings


class Doors:
    """Refuses what no honest client sends."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
