"""`GET /v1/events`: the frames of /chat as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from p2pchat.web import account_session, chat_socket
from tests.web.chat_client import WITHIN, chatting
from tests.web.conftest import Served
from tests.web.test_rest import people, refused, write

__all__ = ["people"]


class Events:
    """The events of one stream, as the HTML standard reads them: `last_id` is what a browser would send again."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_id = ""

    async def next(self, kind: str = "") -> dict[str, Any]:
        """Return the next event, or the next one of a type."""
        async with asyncio.timeout(WITHIN):
            while True:
                found = await self._event()
                if kind in ("", found.get("type")):
                    return found

    async def _event(self) -> dict[str, Any]:
        data: list[str] = []
        async for line in self._lines:
            name, _, value = line.partition(":")
            if name == "id":
                self.last_id = value.removeprefix(" ")
            elif name == "data":
                data.append(value.removeprefix(" "))
            elif not line and data:
                event: dict[str, Any] = json.loads("\n".join(data))
                return event
        raise EOFError

    async def comment(self) -> None:
        """Wait for a comment."""
        async with asyncio.timeout(WITHIN):
            async for line in self._lines:
                if line.startswith(":"):
                    return


@asynccontextmanager
async def streaming(served: Served, name: str, query: str = "", **headers: str) -> AsyncIterator[Events]:
    """Open a stream as an account."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    async with (
        served.client(name) as http,
        http.stream("GET", f"/v1/events{query}", headers=named, timeout=WITHIN) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield Events(answer.aiter_lines())


async def test_messages_are_streamed_as_they_are_written_and_what_is_asked_for_besides(people: Served) -> None:
    async with (
        streaming(people, "bob", "?events=presence") as events,
        people.client("ada") as ada,
        people.client("bob") as bob,
    ):
        await events.next("resumed")
        async with chatting(people, "cyd"):
            told = await events.next()
            assert (told["type"], told["user"], told["presence"]) == ("presence", "cyd", "online")
        assert (await events.next("presence"))["presence"] == "offline"
        first = await write(ada, to="room", content="hello, everybody")
        heard = await events.next()
        assert (heard["id"], heard["from"], heard["content"]) == (first, "ada", "hello, everybody")
        assert events.last_id == first and "to" not in heard
        second = await write(bob, to="ada", content="my own\nlines")
        heard = await events.next("message")
        assert (heard["id"], heard["to"], heard["content"]) == (second, "ada", "my own\nlines")
    while people.gateway.hub.count:  # its session ends with the connection
        await asyncio.sleep(0)  # poll: nothing reports the end of a session


async def test_a_stream_that_names_the_last_event_continues_there(people: Served) -> None:
    async with people.client("ada") as ada:
        async with streaming(people, "bob") as events:
            await events.next("resumed")
            await write(ada, to="room", content="one")
            await events.next("message")
        for text in ("two", "three"):
            await write(ada, to="room" if text == "two" else "bob", content=text)
        for again in ({"Last_Event_ID": events.last_id}, {}):
            query = "" if again else f"?since={events.last_id}"
            async with streaming(people, "bob", query, **again) as later:
                assert [(await later.next())["content"] for _ in "23"] == ["two", "three"]
                assert (await later.next())["type"] == "resumed"


async def test_what_waits_is_streamed_again_until_the_caller_names_it(people: Served) -> None:
    async with people.client("ada") as ada:
        await write(ada, to="bob", content="while you were away")
    for _ in range(2):
        async with streaming(people, "bob") as events:
            assert (await events.next("message"))["content"] == "while you were away"
            last = events.last_id
            assert (await events.next())["type"] == "resumed"
    async with streaming(people, "bob", Last_Event_ID=last) as events:
        assert (await events.next())["type"] == "resumed"
    async with streaming(people, "bob") as events:
        assert (await events.next())["type"] == "resumed"
    async with chatting(people, "bob", "?since=") as bob:  # at every other door of the account too
        assert (await bob.next("resumed"))["count"] == 0 and not bob.waiting("message")


async def test_a_streamed_message_is_delivered_once_the_caller_names_it(
    people: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_session, "CONFIRMED_AFTER", 0.0)  # for connections that cannot answer a ping
    async with people.client("ada") as ada:
        async with streaming(people, "bob") as events:
            await events.next("resumed")
            id = await write(ada, to="bob", content="are you there?")
            assert (await events.next("message"))["id"] == id
            await write(ada, to="room", content="later")
            await events.next("message")
        while people.gateway.hub.count:
            await asyncio.sleep(0)  # poll: nothing reports the end of a session
        assert (await ada.get(f"/v1/messages/{id}/receipt")).json()["status"] == "accepted"
        async with streaming(people, "bob", Last_Event_ID=id) as events:
            await events.next("resumed")
            while (await ada.get(f"/v1/messages/{id}/receipt")).json()["status"] != "delivered":
                pass


async def test_a_stream_needs_a_token_and_ends_with_it(people: Served) -> None:
    async with people.client() as nobody:
        assert refused(await nobody.get("/v1/events")) == (401, "unauthorized")
    async with streaming(people, "bob") as events:
        await events.next("resumed")
        await people.gateway.accounts.revoke("bob")
        with pytest.raises(EOFError):
            await events.next()


async def test_the_end_of_the_gateway_ends_a_stream(people: Served) -> None:
    async with streaming(people, "bob") as events:
        await events.next("resumed")
        await people.gateway.aclose()
        with pytest.raises(EOFError):
            await events.next()


async def test_a_silent_stream_sends_comments(people: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_socket, "COMMENT_EVERY", 0.01)
    async with streaming(people, "bob") as events:
        await events.next("resumed")
        for _ in range(3):
            await events.comment()
