"""The page at `/`: the static files of page/, each under its own name, and QR codes.

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
from typing import ClassVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from p2pchat.web.error_responses import WebError
from p2pchat.web.gateway_state import gateway_of
from p2pchat.web.sign_in import CurrentAccount, CurrentGateway, identify, may_sign_up

router: APIRouter = APIRouter()

FOLDER: Path = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
MAX_QR_CHARACTERS = 2048  # phones cannot read larger codes
CHARACTERS_A_CALL = 10  # of a QR code; the largest takes a quarter of a second to draw
_drawing = ThreadPoolExecutor(1, "p2pchat qr")  # one at a time, outside the event loop


def _file_handler(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of one file."""
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return serve


for _path in sorted(FOLDER.iterdir()):
    if _path.suffix in KINDS and _path.name != "index.html":
        _handler = _file_handler(_path.read_bytes(), KINDS[_path.suffix])
        router.add_api_route(f"/{_path.name}", _handler, methods=["GET", "HEAD"], include_in_schema=False)
_INDEX = (FOLDER / "index.html").read_bytes()
_HTML = KINDS[".html"]
_OPEN = _file_handler(_INDEX, _HTML)
_CLOSED = _file_handler(_INDEX.replace(b"<html ", b'<html data-sign-up="closed" ', 1), _HTML)
_OWN = _file_handler(_INDEX.replace(b"<html ", b'<html data-sign-up="own" ', 1), _HTML)


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def index(request: Request) -> Response:
    """Return the page, which asks for a name only where the caller may register one."""
    if gateway_of(request).authenticate is not None:
        await identify(request, None)
        return await _OWN(request)
    return await (_OPEN if may_sign_up(request) else _CLOSED)(request)


class QRContent(BaseModel):
    """The text of a QR code."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "p2pchat:..."}]}
    )
    text: str = Field(min_length=1, max_length=MAX_QR_CHARACTERS)


@router.post("/qr", responses={200: {"content": {"image/svg+xml": {}}}}, response_class=Response, tags=["page"])
async def qr_code(wanted: QRContent, account: CurrentAccount, gateway: CurrentGateway) -> Response:
    """Return a QR code of a text as SVG, for example of an invite. The text is not stored."""
    gateway.limits.charge(account.key, len(wanted.text) // CHARACTERS_A_CALL)
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
