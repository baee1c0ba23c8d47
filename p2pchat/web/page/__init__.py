"""The page at `/`: the static files of this folder, each under its own name, and QR codes.

The files are read once. Browsers may cache them but must revalidate each time, so that a new version of the gateway
brings a new version of the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from p2pchat.web.auth import CurrentAccount, CurrentGateway
from p2pchat.web.errors import WebError

router = APIRouter()

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
MAX_QR_CHARACTERS = 2048  # phones cannot read larger codes
CHARACTERS_A_CALL = 10  # of a QR code; the largest takes a quarter of a second to draw
_drawing = ThreadPoolExecutor(1, "p2pchat qr")  # one at a time, outside the event loop


def _file_handler(path: Path) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of one file."""
    content = path.read_bytes()
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=KINDS[path.suffix], headers=headers)

    return serve


for _path in sorted(Path(__file__).parent.iterdir()):
    if _path.suffix in KINDS:
        _name = "" if _path.name == "index.html" else _path.name
        router.add_api_route(f"/{_name}", _file_handler(_path), methods=["GET", "HEAD"], include_in_schema=False)


class QRContent(BaseModel):
    """The text of a QR code."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=MAX_QR_CHARACTERS)


@router.post("/qr", responses={200: {"content": {"image/svg+xml": {}}}}, response_class=Response, tags=["page"])
async def qr_code(wanted: QRContent, account: CurrentAccount, gateway: CurrentGateway) -> Response:
    """Return a QR code of a text as SVG, for example of an invite. The text is not stored."""
    gateway.limits.calls.charge(account.key, len(wanted.text) // CHARACTERS_A_CALL)
    drawn = await asyncio.get_running_loop().run_in_executor(_drawing, _draw, wanted.text)
    return Response(drawn, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


def _draw(text: str) -> bytes:
    import segno

    try:
        symbol = segno.make(text, error="l", boost_error=False, micro=False)
    except ValueError:  # segno.DataOverflowError
        raise WebError(413, "too_large", "too long for a QR code") from None
    drawn = BytesIO()
    symbol.save(drawn, kind="svg", border=4, xmldecl=False, svgns=True, svgclass=None, lineclass=None, omitsize=True)
    return drawn.getvalue()
