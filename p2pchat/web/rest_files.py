"""REST of files: upload one, to be sent with a message; get one of a message; a link to it for a browser.

What others wrote is served so that nothing in it can run: as a download, except for pictures, sound and films of a few
types; under a policy that allows nothing; never as another type than the one said (`nosniff`).

A browser sends no token with what an element such as `<img>` loads. So a caller gets a link: the address of one file
with a ticket, which proves for an hour that this account asked for it. It ends with the token of the account.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from p2pchat import Attachment
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import WebError
from p2pchat.web.gateway_state import gateway_of
from p2pchat.web.rest import MessageId, problems
from p2pchat.web.schemas import FetchOut, LinkOut, UploadOut
from p2pchat.web.security import CALLER
from p2pchat.web.sign_in import (
    AUTHENTICATED,
    CurrentAccount,
    CurrentGateway,
    caller_site,
    current_account,
)

PIECE_BYTES = 256 * 1024  # of an answer, read and sent at once
READ_TIMEOUT = 30.0  # seconds for a piece: content that was removed meanwhile would be fetched anew; a guess
MAX_WAIT = 60  # seconds for which a call waits for content
POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
ANY_TYPE = "application/octet-stream"
SHOWN_TYPES = frozenset(  # by browsers as they are; none of them can hold a script
    {
        *(f"image/{kind}" for kind in ("apng", "avif", "bmp", "gif", "jpeg", "png", "webp")),
        *(f"audio/{kind}" for kind in ("aac", "flac", "mp4", "mpeg", "ogg", "wav", "webm", "x-wav", "x-m4a")),
        *(f"video/{kind}" for kind in ("mp4", "ogg", "quicktime", "webm")),
    }
)
UNSAID_TYPES = frozenset({"", ANY_TYPE, "application/x-www-form-urlencoded"})  # what clients send without thinking
_LINKS = "links of "  # begins the key of limits and slots for links of an account
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
files_router: APIRouter = APIRouter(tags=["files"])


# ---- uploads


@files_router.post(
    "/files",
    status_code=201,
    responses=problems(408, 413, 415, 507),
    dependencies=AUTHENTICATED,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {ANY_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            "description": "The bytes of the file.",
        }
    },
)
async def upload(
    request: Request,
    account: CurrentAccount,
    gateway: CurrentGateway,
    filename: Annotated[
        str, Query(min_length=1, max_length=4096, description="What readers are told it is called.", examples=["a.png"])
    ],
) -> UploadOut:
    """Store a file, to be sent with a message by the `id` of the answer.

    The body has the bytes as they are, and is stored as it comes. Only this account can send it, for one hour, with any
    number of messages.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise WebError(415, "malformed", "send the bytes of the file as the body, as `curl -T FILE -X POST` does")
    announced = request.headers.get("content-length")
    size = None if announced is None else int(announced)
    async with gateway.transfers.hold(account.key):
        try:
            async with aclosing(request.stream()) as body:
                kept = await gateway.uploads.keep(account, filename, "" if kind in UNSAID_TYPES else kind, size, body)
        except ClientDisconnect:
            raise WebError(400, "malformed", "the body ended too early") from None
        except WebError:
            await _discard(request, gateway.settings.body_timeout)
            raise
    file = kept.file
    return UploadOut(id=kept.id, name=file.name, size=file.size, type=file.type, root=file.root)


async def _discard(request: Request, seconds: float) -> None:
    """Read what is still to come of a refused body, not for long: few clients read an answer while they send."""
    with suppress(TimeoutError, WebError):
        async with asyncio.timeout(seconds):
            while (await request.receive()).get("more_body", False):
                pass


# ---- downloads

Index = Annotated[int, Path(ge=0, le=9, description="Which file of the message: 0 is the first.")]


async def file_reader(
    connection: HTTPConnection,
    id: MessageId,
    index: Index,
    ticket: Annotated[str, Query(max_length=256, description="Of a link, instead of a token.")] = "",
) -> Account:
    """Return who wants a file: by the ticket of a link, otherwise as everywhere.

    Others may have the link: what they ask for is taken from the calls of links, not from those of the account.
    """
    gateway = gateway_of(connection)
    if not ticket or gateway.authenticate is not None:
        return await current_account(connection)
    account = gateway.file_links.account_of(ticket, id, index)
    connection.scope[CALLER] = account
    gateway.limits.calls.take(_LINKS + account.key)
    return account


async def _hold_transfer(
    connection: HTTPConnection, account: Annotated[Account, Depends(file_reader)], gateway: CurrentGateway
) -> AsyncIterator[None]:
    is_link = bool(connection.query_params.get("ticket"))
    async with gateway.transfers.hold(_LINKS * is_link + account.key):
        yield


async def wanted_file(account: Account, id: str, index: int) -> Attachment:
    """Return a file of a message that an account may see. Raises UnknownName, WebError."""
    post = await account.user.message(id)
    if index >= len(post.attachments):
        raise WebError(404, "unknown_file", f"this message has {len(post.attachments)} files, counted from 0")
    return post.attachments[index]


_SERVED: dict[int | str, dict[str, Any]] = {
    200: {"content": {ANY_TYPE: {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."},
    202: {
        "model": FetchOut,
        "description": "It is not here yet, and is being fetched; `Retry-After` says when to ask.",
    },
    206: {"description": "The part that `Range` names."},
    304: {"description": "It is the one that `If-None-Match` names."},
}


@files_router.head("/files/{id}/{index}", include_in_schema=False)
@files_router.get(
    "/files/{id}/{index}",
    response_class=Response,
    responses={**_SERVED, **problems(404, 413, 416, 507)},
    dependencies=[*AUTHENTICATED, Depends(_hold_transfer)],
)
async def download(
    request: Request,
    id: MessageId,
    index: Index,
    account: Annotated[Account, Depends(file_reader)],
    gateway: CurrentGateway,
    wait: Annotated[int, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for it if it is not here.")] = 0,
) -> Response:
    """Return a file of a message. One that is not here is fetched from members who have it.

    It takes `Range` (one part), `If-Range` and `If-None-Match`; its `ETag` is its `root`.
    """
    attachment = await wanted_file(account, id, index)
    if not await attachment.is_here():
        stored = await gateway.fetches.fetch(account, attachment, wait)
        if not await attachment.is_here():
            said = FetchOut(stored=stored, size=attachment.size)
            return JSONResponse(said.model_dump(), 202, {"Retry-After": "2"})
    key = _LINKS * bool(request.query_params.get("ticket")) + account.key
    site = caller_site(request)
    return _serve(request, attachment, lambda: gateway.limits.part_served(key, site))


@files_router.delete("/files/{id}/{index}", responses=problems(404), status_code=204, dependencies=AUTHENTICATED)
async def stop(id: MessageId, index: Index, account: CurrentAccount, gateway: CurrentGateway) -> Response:
    """Stop to fetch a file that the caller wanted. What has come of it stays, and the next call goes on there."""
    gateway.fetches.stop(account, await wanted_file(account, id, index))
    return Response(status_code=204)


@files_router.post("/files/{id}/{index}/link", responses=problems(404), dependencies=AUTHENTICATED)
async def link(id: MessageId, index: Index, account: CurrentAccount, gateway: CurrentGateway) -> LinkOut:
    """Return a link to a file, for what sends no token: elements of a page, players, downloads. Whoever has it reads
    that file, for an hour.
    """
    await wanted_file(account, id, index)
    return LinkOut(path=f"files/{id}/{index}?ticket={gateway.file_links.ticket(account, id, index)}")


def _serve(request: Request, attachment: Attachment, charge: Callable[[], Awaitable[None]]) -> Response:
    """Return the answer with the content of a file that is here, or with a part of it.

    Args:
        charge: Called before each piece but the first, which the call itself pays for.
    """
    size, tag = attachment.size, f'"{attachment.root}"'
    kind = attachment.type.partition(";")[0].strip().lower()
    is_shown = kind in SHOWN_TYPES
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": POLICY,
        "Content-Disposition": disposition("inline" if is_shown else "attachment", attachment.disk_name),
        "Content-Type": kind if is_shown else ANY_TYPE,
    }
    if tag in re.split(r"[\s,]+", request.headers.get("if-none-match", "").replace("W/", "")):
        return Response(status_code=304, headers=headers)
    part = None
    if request.headers.get("if-range", tag) == tag:
        part = range_of(request.headers.get("range", ""), size)
    start, end = part or (0, size)
    if start >= end and part is not None:
        text = f"this file has {size} bytes"
        raise WebError(416, "range", text, {"Content-Range": f"bytes */{size}"})
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_pieces(attachment, start, end, charge), status, headers)


async def _pieces(
    attachment: Attachment, start: int, end: int, charge: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """Yield these bytes of a file, up to the ends of its pieces."""
    first = start
    while start < end:
        if start > first:
            await charge()
        stop = min(end, (start // PIECE_BYTES + 1) * PIECE_BYTES)
        async with asyncio.timeout(READ_TIMEOUT):
            part = await attachment.read(start, stop)
        yield part
        start = stop


def range_of(header: str, size: int) -> tuple[int, int] | None:
    """Return the bytes that a Range header names, without the last; None to ignore it, an empty range if there is none.

    Several parts are ignored, as RFC 9110 allows: no player asks for them.
    """
    found = _RANGE.fullmatch(header.strip().lower())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size if int(last) else 0
    start = int(first)
    if last and int(last) < start:
        return None
    return start, min(size, int(last) + 1) if last else size


def disposition(how: str, name: str) -> str:
    """Return a Content-Disposition header (RFC 6266): the name in ASCII, and as it is (RFC 8187)."""
    plain = "".join(one if " " <= one <= "~" and one not in '"\\%' else "_" for one in name)
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


router: APIRouter = APIRouter()
router.include_router(files_router, prefix="/v1")
router.include_router(files_router, include_in_schema=False)
