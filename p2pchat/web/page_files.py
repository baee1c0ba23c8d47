"""The page at `/`: the static files of page/, each under its own name, and QR codes; `/docs`, the calls of REST.

The files are read once. Browsers may cache them but must revalidate each time, so that a new version of the gateway
brings a new version of the page. `/docs` is made from the OpenAPI description when it is first asked for, without
scripts and without anything from another address.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from p2pchat.threads import in_thread
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


def _file_handler(content: bytes, kind: str = KINDS[".html"]) -> Callable[[Request], Awaitable[Response]]:
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
_OPEN = _file_handler(_INDEX)
_CLOSED = _file_handler(_INDEX.replace(b"<html ", b'<html data-sign-up="closed" ', 1))
_OWN = _file_handler(_INDEX.replace(b"<html ", b'<html data-sign-up="own" ', 1))


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def index(request: Request) -> Response:
    """Return the page, which asks for a name only where the caller may register one."""
    if gateway_of(request).authenticate is not None:
        await identify(request, None)
        return await _OWN(request)
    return await (_OPEN if may_sign_up(request) else _CLOSED)(request)


@router.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
async def api_page(request: Request) -> Response:
    """Return the page that lists every call of REST."""
    content = await in_thread(lambda: api_html(request.app.openapi()))
    return await _file_handler(content.encode())(request)


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


# ---- the page about the API


def api_html(described: dict[str, Any]) -> str:
    """Return an OpenAPI description as a page for people."""
    tags: dict[str, list[str]] = {}
    for path, calls in described["paths"].items():
        for method, call in calls.items():
            tags.setdefault(call["tags"][0], []).append(_call_html(method.upper(), path, call, described))
    parts = "".join(f"<section><h2>{escape(tag)}</h2>{''.join(calls)}</section>" for tag, calls in tags.items())
    return f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8"/>
  <meta name="viewport" content="width=device-width, initial-scale=1"/>
  <meta name="color-scheme" content="light dark"/>
  <title>API of this gateway</title>
  <link rel="icon" href="icon.svg" type="image/svg+xml"/>
  <link rel="stylesheet" href="style.css"/>
  <link rel="stylesheet" href="api.css"/>
</head>
<body>
<main class="api">
<h1>API of this gateway</h1>
<p>p2pchat {escape(described["info"]["version"])}. Send the token of your account with every call that needs one, as
<code>Authorization: Bearer TOKEN</code>. In the examples, <code>$TOKEN</code> is that token and <code>$GATEWAY</code>
the address of this page without <code>/docs</code>. Programs read the same description from
<a href="openapi.json">openapi.json</a>.</p>
{parts}
</main>
</body>
</html>
"""


def _call_html(method: str, path: str, call: dict[str, Any], described: dict[str, Any]) -> str:
    """Return one call: its fields, an example, its answers."""
    parameters = call.get("parameters", ())
    rows = [_row(one["name"], one, f"in the {one['in']}") for one in parameters]
    wanted = (one for one in parameters if one["in"] == "query" and one["required"])
    needed = {one["name"]: one["schema"].get("examples", ["..."])[0] for one in wanted}
    target = f'"$GATEWAY{path}{"?" * bool(needed)}{urlencode(needed)}"'
    command = ["curl" if method == "GET" else f"curl -X {method}", target]
    command += ['-H "Authorization: Bearer $TOKEN"'] * ("security" in call)
    if "requestBody" in call:
        content = call["requestBody"]["content"]
        if "application/json" in content:
            body = _resolve(content["application/json"]["schema"], described)
            rows += [
                _row(name, {"schema": field, **field, "required": name in body.get("required", ())}, "in the body")
                for name, field in body.get("properties", {}).items()
            ]
            if "properties" not in body:
                rows += [_form(one) for one in body["oneOf"]]
            command.append("-H 'Content-Type: application/json'")
            command += [f"-d '{json.dumps(example, ensure_ascii=False)}'" for example in body.get("examples", ())[:1]]
        else:
            command.append("-T FILE")
    fields = f"<table><tbody>{''.join(rows)}</tbody></table>" if rows else ""
    answers = "".join(_answer_html(status, one, described) for status, one in call["responses"].items())
    return f"""<article id="{escape(call["operationId"])}">
<h3><code>{method} {escape(path)}</code></h3>
<p>{_prose(call.get("description", ""))}</p>
{fields}
<pre><code>{escape(" ".join(command))}</code></pre>
<dl>{answers}</dl>
</article>
"""


def _answer_html(status: str, answer: dict[str, Any], described: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    fields = _resolve(schema.get("items", schema), described)
    text = answer["description"]
    if status < "400":
        text = fields.get("description", text)
        for example in fields.get("examples", ())[:1]:
            text += f" `{json.dumps([example] if 'items' in schema else example, ensure_ascii=False)}`"
    return f"<dt>{escape(status)}</dt><dd>{_prose(text)}</dd>"


def _row(name: str, field: dict[str, Any], where: str) -> str:
    kinds = [kind for kind in _kinds(field.get("schema", {})) if kind != "null"]
    needed = "required" if field.get("required") else "optional"
    facts = f"{' or '.join(kinds)}, {where}, {needed}{_limits(field.get('schema', {}))}".removeprefix(", ")
    return (
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{escape(facts)}</td>'
        f"<td>{_prose(field.get('description', ''))}</td></tr>"
    )


def _form(schema: dict[str, Any]) -> str:
    """Return the row of one of several forms of a body: what it does, and its fields."""
    required = schema["required"]
    fields = [name if name in required else f"{name} (optional)" for name in schema["properties"] if name != "do"]
    return (
        f'<tr><th scope="row"><code>{escape(schema["title"])}</code></th><td>in the body, with "do"</td>'
        f"<td>{escape(', '.join(fields))}</td></tr>"
    )


def _limits(schema: dict[str, Any]) -> str:
    """Return the smallest and the largest number, and what a missing field means, in words."""
    least, most, default = schema.get("minimum"), schema.get("maximum"), schema.get("default")
    limits = "" if most is None else f", {least} to {most:,}"
    return limits if default in (None, "", []) else f"{limits}, {default} if missing"


def _kinds(schema: dict[str, Any]) -> list[str]:
    """Return the types a value may have, in words."""
    if "anyOf" in schema:
        return [kind for one in schema["anyOf"] for kind in _kinds(one)]
    if "enum" in schema:
        return [f'"{value}"' for value in schema["enum"]]
    if "items" in schema:
        return [f"list of {' or '.join(_kinds(schema['items']))}s"]
    return [schema.get("type", "")]


def _resolve(schema: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that a reference means; any other as it is."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = described["components"]["schemas"][name] if name else schema
    return found


def _prose(text: str) -> str:
    """Return a text with its `code` marked."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
