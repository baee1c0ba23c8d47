"""The page at `/`: the static files of page/, each under its own name.

The files are read once. Browsers may cache them but must revalidate each time, so that a new version of the gateway
brings a new version of the page. Its service worker, which keeps them for a time without a connection, is told their
names and a hash of all.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request, Response

from p2pchat.web.gateway_state import gateway_of
from p2pchat.web.sign_in import identify, may_sign_up

router: APIRouter = APIRouter()

FOLDER: Path = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}


def _file_handler(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of one file."""
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return serve


_files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}
_version = sha256(b"".join(_files.values())).hexdigest()[:32]
_INDEX = _files.pop("index.html")
_worker = _files.pop("worker.js")
_head = f"const FILES = {json.dumps(['./', *_files])}; // {_version}\n"
_files["worker.js"] = _head.encode() + _worker
for _name, _content in _files.items():
    _handler = _file_handler(_content, KINDS[Path(_name).suffix])
    router.add_api_route(f"/{_name}", _handler, methods=["GET", "HEAD"], include_in_schema=False)
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
