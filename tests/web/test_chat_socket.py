"""`ws /chat`, with real sockets."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from p2pchat.web import Pace, WebSettings
from tests.web.chat_client import WITHIN, Chatter, chatting, connect, opened
from tests.web.conftest import Served

NULLS = ("type", "from", "key", "reply_to", "action", "files", "choices", "typing", "id")


async def test_every_answer_has_the_ref_of_its_request(served: Served) -> None:
    async with chatting(served, "ada") as ada:
        frames: list[tuple[dict[str, Any], tuple[str, str | None, str | int]]] = [
            ({"text": "hi", "ref": "7"}, ("ok", None, "7")),
            ({"text": "", "ref": 8}, ("error", "malformed", 8)),
            ({"text": "/dmm bob hi", "ref": 9}, ("error", "unknown_command", 9)),
            ({"text": "hi", "to": "a/b", "ref": 10}, ("error", "unknown_name", 10)),
            ({"text": "hi", "group": "ops", "ref": 11}, ("error", "unknown_name", 11)),
            ({"text": "é" * 32_768, "ref": 12}, ("error", "too_long", 12)),
            ({"text": "hi", "from": "bob", "ref": 13}, ("error", "forbidden", 13)),
            ({"text": 7, "ref": 14}, ("error", "malformed", 14)),
            ({"text": None, "ref": 21}, ("error", "malformed", 21)),
            ({"text": "hi", "ref": 22, **dict.fromkeys(NULLS)}, ("ok", None, 22)),
            ({"type": "shout", "ref": 15}, ("error", "malformed", 15)),
            ({"text": "hi", "to": "", "ref": 18}, ("error", "malformed", 18)),
            ({"text": "hi", "recipient": "bob", "ref": 19}, ("error", "malformed", 19)),
            ({"text": "hi", "key": "\ud800", "ref": 20}, ("error", "malformed", 20)),  # a cluster has no name for it
            ({"type": "typing", "to": "nobody", "ref": 16}, ("error", "unknown_name", 16)),
            ({"type": "read", "id": "nothing", "ref": 17}, ("error", "malformed", 17)),
        ]
        for said, told in frames:
            await ada.say(said)
            answer = await ada.answer()
            assert (answer["status"], answer.get("code"), answer["ref"]) == told
        for ref in (1.5, True, ["a"]):
            await ada.say({"text": "hi", "ref": ref})
            assert (await ada.answer())["text"] == "`ref` must be a string or an integer"
        await ada.socket.send(b"bytes")
        assert (await ada.answer())["code"] == "malformed"


async def test_a_private_frame_is_never_published(served: Served) -> None:
    """JSON behind a byte order mark, encoded twice, or in a list went to the room, and was answered `ok`."""
    private = json.dumps({"to": "bob", "text": "secret"})
    async with chatting(served, "ada") as ada, chatting(served, "bob") as bob:
        for around in ("", "\ufeff", "\xa0", "\u200b", "\x00"):
            await ada.say(around + private)
            answer = await ada.answer()
            assert (answer["status"], (await bob.message())["to"]) == ("ok", "bob")
            for text in (json.dumps(private), f"[{private}]", private[:-1], f"{private}{private}"):
                await ada.say(around + text + around)
                answer = await ada.answer()
                assert (answer["code"], answer["text"]) == (
                    "malformed", 'this frame is no valid JSON object; to send it as a text, use {"text": ...}',
                )  # fmt: skip
            await ada.say(f"{around} /dm bob secret")
            assert (await ada.answer())["text"].startswith("Did you mean /dm?")
        texts = [private, json.dumps(private), f"[{private}]", f"\ufeff{private}"]
        for text in texts:
            await ada.accepted({"text": text})
        for text in ('"hi" she said', "[x] done", '"yes, it is"', "[1]"):
            await ada.accepted(text)
        history = await served.account("bob").user.history("room")
        assert [post.text for post in history] == [*texts, '"hi" she said', "[x] done", '"yes, it is"', "[1]"]


async def test_null_is_no_receiver(served: Served) -> None:
    async with chatting(served, "ada") as ada:
        for name in ("to", "group"):
            for frame in ({"text": "secret"}, {"text": "a?", "choices": ["1", "2"]}, {"type": "typing"}):
                await ada.say({**frame, name: None})
                answer = await ada.answer()
                assert (answer["code"], answer["text"]) == ("malformed", f"`{name}` must be a string")
        assert await served.account("ada").user.history("room") == []


async def test_answers_come_in_the_order_of_the_frames(served: Served) -> None:
    async with chatting(served, "ada") as ada, chatting(served, "eve") as eve:
        await eve.accepted({"text": "hi", "key": "k"})
        frames: list[tuple[str | dict[str, Any], str]] = [
            ("hello", "ok"), ("/dmm bob hi", "error"), ({"text": "hi", "key": "k"}, "ok"),
            ({"text": "hi", "key": "k"}, "ok"), ({"type": "read", "id": "nothing"}, "error"), ("/dm eve hi", "ok"),
            ("é" * 32_768, "error"), ({"text": "other", "key": "k"}, "error"), ("/me waves", "ok"),
        ]  # fmt: skip
        for said, _ in frames * 4:
            await ada.say(said)
        assert [(await ada.answer())["status"] for _ in frames * 4] == [status for _, status in frames * 4]


async def test_nothing_that_follows_from_a_message_comes_before_its_answer(served: Served) -> None:
    async with chatting(served, "ada", "?events=all") as ada, chatting(served, "bob") as bob:
        told: list[dict[str, Any]] = []
        waiting = {(kind, number) for kind in ("answer", "delivered", "reply") for number in range(20)}
        ids: list[str] = []
        for number in range(20):
            await ada.say({"text": str(number), "key": str(number)})
        replying = asyncio.create_task(reply_to(bob, 20))
        while waiting:
            async with asyncio.timeout(WITHIN):
                told.append(frame := json.loads(await ada.socket.recv()))
            kind = frame.get("type", "answer")
            if kind == "answer":
                ids.append(frame["id"])
                waiting.remove((kind, len(ids) - 1))
            elif kind in ("delivered", "message"):
                id = frame["id"] if kind == "delivered" else frame["reply_to"]
                assert id in ids, f"{kind} came before the answer that tells the id"
                waiting.discard(("reply" if kind == "message" else kind, ids.index(id)))
        await replying
        assert all("type" not in frame for frame in told if "status" in frame), "only answers have a status"


async def reply_to(chatter: Chatter, count: int) -> None:
    """Reply to so many messages as they come."""
    for _ in range(count):
        await chatter.say({"text": "yes", "reply_to": (await chatter.message())["id"]})


async def test_a_direct_message_goes_to_one_user(served: Served) -> None:
    async with chatting(served, "ada") as ada, chatting(served, "Bob B") as bob, chatting(served, "cyd") as cyd:
        await ada.say('/dm "Bob B" psst')
        heard = await bob.message()
        assert (heard["from"], heard["to"], heard["content"]) == ("ada", "Bob B", "psst")
        await ada.say("//not a command")
        assert (await cyd.message())["content"] == "/not a command"


async def test_a_client_hears_nothing_of_whom_its_account_blocks(served: Served) -> None:
    """At the hub, below all interfaces: live, and what is sent again after a break."""
    async with chatting(served, "ada") as ada, chatting(served, "bob") as bob:
        async with chatting(served, "cyd", "?events=presence,typing,changes") as cyd:
            await ada.accepted("first")
            last = (await cyd.message())["id"]
            for user, ignored in (("ada", True), ("ada", False), ("bob", True)):
                hides = served.account("cyd").user
                await (hides.block if user == "bob" else hides.ignore if ignored else hides.unignore)(user)
                told = {"type": "hidden", "user": user, "ignored": ignored, "blocked": user == "bob"}
                assert await cyd.next("hidden") == told
            assert not ada.waiting("hidden") and not bob.waiting("hidden")
            written = await bob.accepted("hidden")
            await bob.accepted("/dm cyd hidden")
            await bob.say({"type": "typing", "to": "cyd", "typing": True})
            await (await served.account("bob").user.message(written)).edit("hidden, edited")
            await ada.accepted("second")
            assert (await cyd.message())["content"] == "second"
            assert not cyd.waiting("typing") and not cyd.waiting("edited")
        async with chatting(served, "cyd", f"?since={last}") as cyd:
            assert ((await cyd.message())["content"], (await cyd.next("resumed"))["count"]) == ("second", 1)
        async with chatting(served, "cyd") as cyd:  # what waits
            await ada.accepted("/dm cyd third")
            assert (await cyd.message())["content"] == "third"
            await served.account("cyd").user.unblock("bob")
            await bob.accepted("seen")
            assert (await cyd.message())["content"] == "seen"


async def test_an_unknown_word_for_events_is_refused(served: Served) -> None:
    words = "`events` takes presence, receipts, typing, changes, files, members and all, separated by commas"
    ada = await opened(served, "ada", "?events=receipts,foo")
    assert (await ada.answer())["text"] == words
    await ada.socket.wait_closed()
    assert ada.socket.close_code == 1008
    async with served.client("ada") as http:
        answer = await http.get("/v1/events?events=foo")
    assert (answer.status_code, answer.json()["text"]) == (400, words)


async def test_a_client_back_with_since_misses_nothing_and_gets_nothing_twice(served: Served) -> None:
    async with chatting(served, "ada") as ada:
        async with chatting(served, "bob") as bob:
            await ada.accepted("seen")
            last = (await bob.message())["id"]
        ids = [await ada.accepted(text) for text in ("one", "/dm bob two", "three")]

        async def go_on() -> list[str]:
            return [await ada.accepted(f"while it comes back {number}") for number in range(100)]

        going_on = asyncio.create_task(go_on())
        async with chatting(served, "bob", f"?since={last}") as bob:
            resumed = await bob.next("resumed")
            ids += await going_on
            heard = [(await bob.message())["id"] for _ in ids]
            assert resumed["user"] == "bob" and resumed["count"] >= 3
        assert heard == ids


async def test_a_message_that_asks_has_its_choices(served: Served) -> None:
    async with chatting(served, "ada") as ada, chatting(served, "bob") as bob:
        await ada.accepted({"text": "deploy?", "to": "bob", "choices": ["yes", "no"]})
        assert (await bob.message())["choices"] == ["yes", "no"]
        for choices in ("yes", ["yes"], ["yes", 7]):
            await ada.say({"text": "deploy?", "to": "bob", "choices": choices})
            assert (await ada.answer())["status"] == "error"


async def test_a_client_can_ask_for_the_newest_id(served: Served) -> None:
    async with chatting(served, "ada", "?since=") as ada:
        assert "last" not in await ada.next("resumed")
        id = await ada.accepted("hi")
    async with chatting(served, "ada", "?since=") as ada:
        assert (await ada.next("resumed"))["last"] == id


async def test_sockets_of_an_account_get_everything_but_their_own_messages(served: Served) -> None:
    await served.register("ada", "bob")
    async with chatting(served, "ada") as one, chatting(served, "ada") as other, served.client("ada") as http:
        id = await one.accepted("/dm bob from one of two")
        heard = await other.message()
        assert (heard["id"], heard["from"], heard["to"]) == (id, "ada", "bob")
        written = (await http.post("/messages", json={"to": "bob", "content": "and by REST"})).json()["id"]
        assert [(await socket.message())["id"] for socket in (one, other)] == [written, written]


async def test_typing_and_changes_come_on_request_and_nothing_else_without(served: Served) -> None:
    async with chatting(served, "ada", "?events=all") as ada:
        async with chatting(served, "bob") as bob:
            id = await ada.accepted("/dm bob done?")
            for on in (True, False):  # one after the other: of both at once a reader may get the last only
                await bob.say({"type": "typing", "to": "ada", "typing": on})
                assert (await ada.next("typing"))["typing"] is on
            async with served.client("bob") as http:
                await http.put(f"/messages/{id}/reaction", json={"reaction": "👍"})
            reaction = await ada.next("reaction")
            assert (reaction["id"], reaction["by"], reaction["reaction"]) == (id, "bob", "👍")
            await bob.accepted("who asks for nothing is told messages only")
            assert not any(bob.waiting(kind) for kind in ("presence", "delivered", "read", "typing", "reaction"))


# ---- identification


async def test_a_browser_sends_its_token_first(served: Served) -> None:
    token = await served.register("ada")
    async with connect(f"{served.ws_url}/chat") as socket:
        await socket.send(json.dumps({"token": token}))
        await socket.send("hi")
        assert json.loads(await socket.recv())["status"] == "ok"


@pytest.mark.parametrize("first", ['{"token": "nobody\'s"}', "ada", '{"user": "ada"}', "[]"])
async def test_a_socket_without_a_token_is_refused(served: Served, first: str) -> None:
    await served.register("ada")
    for target in ("/chat", "/lines"):
        async with connect(f"{served.ws_url}{target}?user=ada") as socket:
            await socket.send(first)
            assert json.loads(await socket.recv())["code"] == "unauthorized"
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


async def test_a_socket_that_does_not_authenticate_in_time_is_closed(serve: Callable[..., Any]) -> None:
    served = await serve(WebSettings(token_timeout=0.05))
    for target in ("/chat", "/lines"):
        async with connect(f"{served.ws_url}{target}") as socket:
            assert json.loads(await socket.recv())["code"] == "unauthorized"


async def test_a_wrong_token_in_the_header_is_refused_before_the_upgrade(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{served.ws_url}/chat", additional_headers={"Authorization": "Bearer x"})
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["code"] == "unauthorized"


@pytest.mark.parametrize(
    ("query", "first"), [("?user=A", ""), ("?username=A", ""), ("?name=A", ""), ("", "A"), ("", '{"username": "A"}')]
)
async def test_a_name_is_enough_on_a_trusted_machine(serve: Callable[..., Any], query: str, first: str) -> None:
    served = await serve(WebSettings(trust_loopback=True))
    async with connect(f"{served.ws_url}/chat{query}") as socket:
        if first:
            await socket.send(first)
        await socket.send("/dm B hi")
        assert json.loads(await socket.recv())["status"] == "ok"
    assert served.gateway.accounts.find("A") is not None


async def test_what_waits_for_a_name_comes_in_order_with_the_servers_time(serve: Callable[..., Any]) -> None:
    served = await serve(WebSettings(trust_loopback=True))
    before = datetime.now(UTC)
    async with connect(f"{served.ws_url}/chat?user=ada") as socket:
        ada = Chatter(socket)
        for number in range(10):
            await ada.accepted(f"/dm bob {number}")
    after = datetime.now(UTC)
    async with connect(f"{served.ws_url}/chat") as socket:
        await socket.send("bob")
        bob = Chatter(socket)
        heard = [await bob.message() for _ in range(10)]
    assert [(one["from"], one["to"], one["content"]) for one in heard] == [("ada", "bob", f"{n}") for n in range(10)]
    stamps = [datetime.fromisoformat(one["timestamp"]) for one in heard]
    assert stamps == sorted(stamps) and before <= stamps[0] and stamps[-1] < after


async def test_connect_disconnect_buffer_and_delivery_are_logged(serve: Callable[..., Any]) -> None:
    served = await serve(WebSettings(trust_loopback=True))
    logged: list[dict[str, Any]] = []
    served.gateway.audit_log.write = logged.append
    async with connect(f"{served.ws_url}/chat?user=A") as socket:
        await socket.send(json.dumps({"to": "B", "content": "secret"}))
        id = json.loads(await socket.recv())["id"]
    async with connect(f"{served.ws_url}/chat?user=B") as socket:
        assert json.loads(await socket.recv())["id"] == id
        while not any(line.get("state") == "closed" for line in logged):
            await asyncio.sleep(0)  # poll: nothing reports the end of a session
        await socket.send(json.dumps({"to": "B", "content": "secret"}))  # to oneself: neither waits nor is sent
        assert json.loads(await socket.recv())["status"] == "ok"
    told = {(line["user"], line["state"]) for line in logged if line["event"] == "session"}
    assert {("A", "open"), ("A", "closed"), ("B", "open")} <= told
    [waiting] = [line for line in logged if line["event"] == "waiting"]
    [handed] = [line for line in logged if line["event"] == "handed"]
    assert (waiting["user"], waiting["from"], waiting["id"]) == ("B", "A", id)
    assert (handed["user"], handed["count"]) == ("B", 1)
    assert "secret" not in json.dumps(logged)


@pytest.mark.parametrize("word", ["as", "user"])
async def test_a_name_beside_the_token_of_another_is_refused(serve: Callable[..., Any], word: str) -> None:
    served = await serve(WebSettings(trust_loopback=True))
    token = await served.register("eve")
    await served.register("ada")
    for target in ("/chat", "/lines"):
        header = {"Authorization": f"Bearer {token}"}
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{served.ws_url}{target}?{word}=ada", additional_headers=header)
        answered = json.loads(refused.value.response.body or b"")
        assert (refused.value.response.status_code, answered["code"]) == (403, "forbidden")
        assert "belongs to another name" in answered["text"]
    async with served.client("eve") as http:
        said = await http.post(f"/messages?{word}=ada", json={"to": "room", "content": "it is me, ada"})
        assert (said.status_code, said.json()["code"]) == (403, "forbidden")
        assert (await http.get(f"/users?{word}=zoe")).status_code == 403 and served.gateway.accounts.find("zoe") is None
        said = await http.post(f"/messages?{word}=Eve", json={"to": "room", "content": "it is me"})
        assert said.status_code == 201


@pytest.mark.parametrize(("query", "frame"), [("", {"user": "ada"}), ("?as=ada", {})])
async def test_a_name_beside_the_token_in_the_first_frame_is_refused(
    served: Served, query: str, frame: dict[str, str]
) -> None:
    token = await served.register("eve")
    for target in ("/chat", "/lines"):
        async with connect(f"{served.ws_url}{target}{query}") as socket:
            await socket.send(json.dumps({"token": token, **frame}))
            assert json.loads(await socket.recv())["code"] == "forbidden"
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (1008, "forbidden")


# ---- the end


async def test_what_came_before_a_close_is_answered_before_the_reply_to_it(served: Served) -> None:
    """All in one packet, with a ping right before the Close."""
    await served.register("ada")
    client = ClientProtocol(parse_uri(f"{served.ws_url}/chat"))
    request = client.connect()
    request.headers["Authorization"] = f"Bearer {served.tokens['ada']}"
    client.send_request(request)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"".join(client.data_to_send()))
    async with asyncio.timeout(WITHIN):
        client.receive_data(await reader.readuntil(b"\r\n\r\n"))
        for text in ("/me waves", "/dmm oops", "hello", '{"bad": 1}'):
            client.send_text(text.encode())
        client.send_ping(b"now")
        client.send_close(1000)
        writer.write(b"".join(client.data_to_send()))
        client.receive_data(await reader.read())
    writer.close()
    _, *answers, pong, close = client.events_received()
    assert isinstance(pong, Frame) and isinstance(close, Frame)
    assert (pong.opcode, bytes(pong.data), close.opcode) == (Opcode.PONG, b"now", Opcode.CLOSE)
    statuses = [json.loads(bytes(one.data))["status"] for one in answers if isinstance(one, Frame)]
    assert statuses == ["ok", "error", "ok", "error"]


# ---- too much


async def test_a_client_that_does_not_read_is_closed_and_catches_up_later(
    serve: Callable[..., Any],
) -> None:
    served = await serve(
        WebSettings(outbox_frames=50, outbox_bytes=64 * 1024, messages=Pace(1e6, 10**6), written=Pace(1e9, 10**9))
    )
    async with chatting(served, "ada") as ada:
        bob = await opened(served, "bob", max_queue=1)
        first = await ada.accepted("the last it takes")
        bob.socket.transport.pause_reading()
        count = 0
        async with asyncio.timeout(WITHIN):
            while len(served.gateway.hub.sessions_of(served.gateway.accounts.find("bob"))) == 1:
                await ada.accepted(secrets.token_urlsafe(20_000))
                count += 1
        bob.socket.transport.abort()
        async with chatting(served, "bob", f"?since={first}") as again:  # more than its send queue may hold
            assert (await again.next("resumed"))["count"] == count == len(again.waiting("message"))


async def test_presence_of_more_users_than_the_send_queue_holds_is_sent(serve: Callable[..., Any]) -> None:
    served = await serve(WebSettings(outbox_frames=8))
    for number in range(12):
        (await served.peer.host(f"user{number}")).set_presence("online")
    async with chatting(served, "ada", "?events=presence") as ada:
        missing = {f"user{number}" for number in range(12)}
        while missing:
            missing.discard((await ada.next("presence"))["user"])
