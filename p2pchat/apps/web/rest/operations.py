"""For whoever operates it: `/healthz` (does it work), `/readyz` (may callers be sent here), `/metrics` (numbers)."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from p2pchat.web.auth import CurrentGateway, current_account, is_on_loopback
from p2pchat.web.errors import WebError

router = APIRouter(tags=["operations"])


class Works(BaseModel):
    """It does."""

    status: str = "ok"


@router.get("/healthz")
async def healthz(gateway: CurrentGateway) -> Works:
    """200 when a round trip through core and storage came back within the last 5 s; else 503 says why not."""
    reason = await gateway.health.look()
    if reason:
        raise WebError(503, "unhealthy", reason)
    return Works()


@router.get("/readyz")
async def readyz(gateway: CurrentGateway) -> Works:
    """200 when callers may be sent here: the peer has started, its endpoints were tried, and it does not stop."""
    if gateway.hub.stopping:
        raise WebError(503, "stopping", "this gateway is stopping", {"Retry-After": "2"})
    return Works()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, gateway: CurrentGateway) -> Response:
    """Numbers in the text format of Prometheus: for callers on this machine, and for accounts."""
    if not is_on_loopback(request):
        await current_account(request)
    text, kind = gateway.metrics.text()
    return Response(text, headers={"Content-Type": kind})
