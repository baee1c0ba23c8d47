"""`POST /v1/do`: the commands of `/lines` over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pchat.commands.command_table import BY_NAME, TABLE, commands_at
from p2pchat.kinds import CALLS
from p2pchat.web import Pace, WebSettings
from p2pchat.web.message_form import CHAT
from tests.web.conftest import Served
from tests.web.test_event_socket import calling

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHOWN = [
    *re.findall(r'`(\{"do":".*?\})`', (DOCS / "cli.md").read_text("utf-8")),
    '{"do":"latest"}',
    '{"do":"unread","to":"bob"}',
]


async def do(http: httpx.AsyncClient, **command: Any) -> list[dict[str, Any]]:
    answer = await http.post("/v1/do", json=command)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


async def test_every_command_of_the_documentation_is_taken(served: Served) -> None:
    """Some of them then find that there is nothing to be done: nobody waits, or nobody of this name is there."""
    await served.register("zoe", "bob", "carol", "dave")
    async with served.client("zoe") as http:
        [sent] = await do(http, do="send", text="hi", to="bob")
        done = set()
        for text in SHOWN:
            command = {**json.loads(text.replace('"ID"', f'"{sent["id"]}"')), "ref": text}
            if command["do"] in commands_at("d"):
                answer = (await http.post("/v1/do", json=command)).json()
                assert answer.get("ref") == text or answer["code"] in ("usage", "unknown_name"), (text, answer)
                done.add(command["do"])
        assert done == commands_at("d").keys()


async def test_a_poll_is_asked_voted_on_and_closed_and_messages_show_it(served: Served) -> None:
    await served.register("zoe", "bob")
    async with served.client("zoe") as zoe, served.client("bob") as bob:
        wanted = {"to": "room", "question": "Lunch?", "options": ["pizza", "soup"], "ref": "r1"}
        answers = [await zoe.post("/v1/polls", json=wanted, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        asked = answers[0].json()
        assert (
            [one.status_code for one in answers] == [201, 201] and answers[1].json() == asked and asked["ref"] == "r1"
        )
        await do(bob, do="vote", id=asked["id"], option=2)
        shown = (await zoe.get(f"/v1/messages/{asked['id']}")).json()
        assert (shown["content"], shown["poll"], shown["choices"]) == ("Lunch?", True, ["pizza", "soup"])
        assert [(one["by"], one["option"]) for one in shown["votes"]] == [("bob", 2)] and "closed_at" not in shown
        await do(zoe, do="close", id=asked["id"])
        other = await zoe.post("/polls", json={"question": "Tea?", "options": ["no"]})
        assert (other.status_code, other.json()["text"]) == (400, "a poll has 2 to 8 options, not 1")
        [shown] = (await bob.get("/v1/messages?conversation=room")).json()
        assert shown["closed_at"] and [one["by"] for one in shown["votes"]] == ["bob"]
        refused = await bob.post("/v1/do", json={"do": "vote", "id": asked["id"], "option": 1})
        assert refused.json()["text"] == "this is no open poll"


async def test_a_command_has_the_answer_of_lines_and_its_ref(served: Served) -> None:
    await served.register("zoe", "bob")
    async with served.client("zoe") as http, calling(served, "zoe") as lines:
        answer = (await http.post("/v1/do", json={"do": "send", "to": "bob", "text": "hi", "ref": "7"})).json()
        [row] = answer.pop("rows")
        assert answer == {"status": "ok", "command": "send", "ref": "7"}
        assert (row["event"], row["text"], row["to"]) == ("sent", "hi", "bob")
        assert (await lines.next("sent", text="hi"))["id"] == row["id"]
        assert await do(http, do="find", to="bob") == await lines.ask(do="find", to="bob")
        [edited] = await do(http, do="edit", id=row["id"], text="hello")
        assert (await lines.next("edited", id=row["id"]))["entry_id"] == edited["entry_id"]
        assert [one["text"] for one in await do(http, do="history", to="bob")] == ["hello"]
        await do(http, do="away", text="lunch")
        assert [(one["status"], one["text"]) for one in await lines.ask(do="who") if one["me"]] == [("idle", "lunch")]


async def test_a_message_with_a_key_is_written_once(served: Served) -> None:
    await served.register("zoe", "bob")
    async with served.client("zoe", params={}) as http:
        key = {"Idempotency-Key": "k1"}
        wanted = {"do": "send", "to": "bob", "text": "once"}
        first, again = [(await http.post("/v1/do", json=wanted, headers=key)).json() for _ in range(2)]
        assert first["rows"][0]["id"] == again["rows"][0]["id"]
        other = await http.post("/v1/do", json={**wanted, "text": "twice"}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "key_reused")
        ids = {(await do(http, **wanted, key="k2"))[0]["id"] for _ in range(2)}
        assert len(ids) == 1 and [one["text"] for one in await do(http, do="history")] == ["once", "once"]
        refused = await http.post("/v1/do", json={"do": "who"}, headers=key)
        assert (refused.status_code, refused.json()["code"]) == (422, "malformed")


@pytest.mark.parametrize(
    ("command", "status", "code"),
    [
        ({"do": "send", "to": "nobody", "text": "x"}, 404, "unknown_name"),
        ({"do": "edit", "id": "x", "text": "y"}, 400, "usage"),
        ({"do": "leave", "to": "room"}, 400, "usage"),
        ({"do": "send", "text": "x" * 32769}, 413, "too_long"),
        ({"do": "send"}, 400, "usage"),
        ({"do": "send", "txt": "x"}, 422, "malformed"),
        ({"do": "fly"}, 422, "malformed"),
        ({"do": "active", "on": True}, 422, "malformed"),  # about a connection, which a call has none of
        ([], 422, "malformed"),
    ],
)
async def test_an_error_has_a_status_and_a_code(served: Served, command: Any, status: int, code: str) -> None:
    await served.register("zoe")
    async with served.client("zoe") as http:
        answer = await http.post("/v1/do", json=command)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


@pytest.mark.parametrize(("deleted", "free"), [(False, ["pin", "unpin", "react"]), (True, ["edit", "delete"])])
async def test_what_cannot_be_done_to_a_message_is_refused_alike_for_every_kind(
    served: Served, deleted: bool, free: list[str]
) -> None:
    """At its own path as in /v1/do and at /lines, also what only the writer of a message can do; `free` is allowed."""
    await served.register("zoe", "bob")
    async with served.client("zoe") as zoe, served.client("bob") as bob, calling(served, "bob") as lines:
        id = (await do(bob if deleted else zoe, do="send", text="hi"))[0]["id"]
        if deleted:
            await do(bob, do="delete", id=id)
        calls = [one for one in CALLS.values() if one.rest and "id" in BY_NAME[one.name].json and one.name not in free]
        assert len(calls) > 3
        for call in calls:
            row, (method, _, path) = BY_NAME[call.name], call.rest.partition(" ")
            fields = {name: one.type() for name, one in row.json.items() if one.required and name != "id"}
            given = {CHAT.get(name, name): value for name, value in fields.items()}
            answer = (await bob.request(method, f"/v1/messages/{id}/{path}".rstrip("/"), json=given)).json()
            done = (await bob.post("/v1/do", json={"do": call.name, "id": id, **fields})).json()
            await lines.say(do=call.name, id=id, **fields, ref=call.name)
            line = await lines.next("error", ref=call.name)
            assert answer == done and answer["code"] == line["code"] == "usage", call.name
            assert (answer["text"] == "the message was deleted") == deleted, call.name


async def test_no_account_gives_commands_of_the_operator_and_none_is_unlimited(serve: Callable[..., Any]) -> None:
    """Each command counts for the limit that its row says, once its only one is used up."""
    few = Pace(0.001, 1)
    served: Served = await serve(WebSettings(messages=few, small=few, token_timeout=60.0))
    await served.register("zoe")
    async with served.client("zoe") as http, served.client() as stranger:
        assert (await stranger.post("/v1/do", json={"do": "who"})).status_code == 401
        await do(http, do="send", text="x")
        await do(http, do="back")
        for row in TABLE:
            fields = {name: [] if field.type is list else field.type(1) for name, field in row.json.items()}
            status = (await http.post("/v1/do", json={"do": row.name, **fields})).status_code
            if "d" in row.doors:
                assert (status == 429) == (row.kind != "read"), row.name
            else:
                assert status == (403 if row.kind == "operator" else 422), row.name
