"""Every call and every frame at a gateway has one answer, whatever stands in its fields."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from p2pchat.commands.command_table import commands_at
from p2pchat.web import Pace, WebSettings
from p2pchat.web.chat_socket import FIELDS
from tests.odd_values import GOOD, ODD
from tests.web.chat_client import chatting
from tests.web.conftest import Served, serving
from tests.web.conftest import home as home
from tests.web.socketio_client import talking
from tests.web.test_event_socket import calling

ANY = Pace(1e9, 1_000_000_000)
UNLIMITED = ("names", "calls", "messages", "written", "groups", "small", "sign_ups", "strangers", "addresses")


@pytest.fixture
async def open_gate(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Served]:
    limits: dict[str, Any] = dict.fromkeys(UNLIMITED, ANY)
    async with serving(WebSettings(token_timeout=60.0, **limits)) as served:
        await served.register("zoe", "bob", "carol")
        yield served
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()  # with escapes of half surrogate pairs, NaN and Infinity


async def test_commands_over_http_and_over_lines(open_gate: Served) -> None:
    async with open_gate.client("zoe") as http, calling(open_gate, "bob") as lines:
        await http.post("/v1/groups", json={"name": "ops", "members": ["bob"]})
        for door in "dl":
            for name, row in commands_at(door).items():
                for field in row.json:
                    if door == "l" and name in commands_at("d"):
                        continue  # the same handler
                    sent = await lines.send("a text", to="zoe")
                    fields = {one: GOOD[kind.kind] for one, kind in row.json.items() if kind.required}
                    fields |= {one: sent["id"] for one in fields if row.json[one].kind == "message"}
                    for odd in ODD:
                        order = {"do": name, **fields, field: odd}
                        if door == "d":
                            answer = await http.post("/v1/do", content=raw(order))
                            assert answer.status_code < 500 and answer.json(), order
                        else:
                            await lines.say(**order, ref="r")
                            await lines.next_of("answer", "error", "sent", ref="r")


async def test_every_other_call_over_http(open_gate: Served) -> None:
    described = open_gate.app.openapi()
    async with open_gate.client("zoe") as http:
        for path, calls in described["paths"].items():
            for method, call in calls.items():
                if (method, path) in (("delete", "/v1/accounts/me"), ("get", "/v1/events")):
                    continue
                given = [one for one in call.get("parameters", ()) if one["in"] in ("path", "query")]
                for at, parameter in enumerate(given):
                    for odd in (one for one in ODD if isinstance(one, str)):
                        text = quote(odd.encode("utf-8", "surrogatepass")[:2000], safe="")
                        url = path
                        for number, one in enumerate(given):
                            if one["in"] == "path":
                                url = url.replace(f"{{{one['name']}}}", text if number == at else "x.1")
                        query = f"?{parameter['name']}={text}" if parameter["in"] == "query" else ""
                        answer = await http.request(method, url + query)
                        assert answer.status_code < 500, (method, url, query)
                body = call.get("requestBody", {}).get("content", {}).get("application/json")
                if body is None:
                    continue
                schema = described["components"]["schemas"].get(body["schema"].get("$ref", "").rpartition("/")[2], {})
                url = path
                for one in given:
                    url = url.replace(f"{{{one['name']}}}", "x.1")
                for field in schema.get("properties", ()):
                    for odd in ODD:
                        answer = await http.request(method, url, content=raw({"to": "bob", "text": "x", field: odd}))
                        assert answer.status_code < 500, (method, path, field, odd)


async def test_frames_of_a_chat(open_gate: Served) -> None:
    async with chatting(open_gate, "zoe") as zoe:
        for number, (field, odd) in enumerate((field, odd) for field in sorted(FIELDS - {"ref"}) for odd in ODD):
            await zoe.say({"to": "bob", "text": "x", "ref": number, field: odd})
        for kind in ("read", "ack", "typing"):
            for field in ("id", "to", "group", "typing"):
                for odd in ODD:
                    await zoe.say({"type": kind, "id": "x.1", field: odd})
        await zoe.say({"text": "the last", "to": "bob", "ref": "last"})
        while (answer := await zoe.answer()).get("ref") != "last":
            pass
        assert answer["status"] == "ok"


async def test_events_of_socketio(open_gate: Served) -> None:
    events = {
        "privateMessage": ("to", "content", "timestamp", "files", "key"),
        "groupMessage": ("to", "content", "timestamp", "files", "key"),
        "messageAck": ("messageId",), "typingStart": ("conversationId",), "typingStop": ("conversationId",),
        "activityChange": ("isActive",),
    }  # fmt: skip
    async with talking(open_gate, "zoe") as zoe:
        for event, fields in events.items():
            for field in fields:
                for odd in ODD:
                    if (isinstance(odd, float) and odd != odd) or odd == float("inf"):
                        continue  # the client library cannot send them
                    payload = {"to": "bob" if event != "groupMessage" else "room", "content": "x", field: odd}
                    answer = await zoe.say(event, payload)
                    assert answer["status"] in ("ok", "error"), (event, payload)
