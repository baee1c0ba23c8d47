"""Socket.IO with odd, hostile, several, slow or disconnected clients; normal use is tested in compat/."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from p2pchat import Presence
from p2pchat.kinds import CHANGE_EVENTS, KINDS
from p2pchat.kinds.call import Call
from p2pchat.kinds.kind import Kind
from p2pchat.web import Pace, WebSettings
from p2pchat.web.message_form import CHAT
from p2pchat.web.session_hub import Envelope
from p2pchat.web.socketio.engine_connection import EngineConnection, StrictPacket, may_come_in
from p2pchat.web.socketio.event_handlers import EventHandlers
from p2pchat.web.socketio.socket_client import ClientRegistry
from p2pchat.web.socketio.socketio_server import MAX_BEFORE_REGISTER, MAX_HELD, MAX_HELD_CHARACTERS, SocketIOServer
from tests.kinds.samples import given
from tests.web.chat_client import connect
from tests.web.conftest import Served, listening
from tests.web.socketio_client import ENGINE, PATIENCE, polling, registration, socket, talking


def error_of(answer: dict[str, Any]) -> str:
    assert answer["status"] == "error" and answer["text"]
    code: str = answer["code"]
    return code


# ---- identification


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]])
async def test_every_transport_carries_messages_both_ways(served: Served, transports: list[str]) -> None:
    async with (
        talking(served, "ada", transports=transports) as ada,
        talking(served, "bob", transports=transports) as bob,
    ):
        async with talking(served, "ada", transports=transports) as phone:
            for number in range(3):
                await ada.say("privateMessage", {"to": "bob", "content": f"{number}"})
            for one in (bob, phone):
                assert [(await one.hear("newMessage"))["content"] for _ in range(3)] == ["0", "1", "2"]
            await bob.say("privateMessage", {"to": "ada", "content": "back"})
            for one in (ada, phone):  # what a socket wrote does not come back to it
                assert (await one.hear("newMessage"))["from"] == "bob"


async def test_events_before_register_wait_for_it_and_are_handled_in_order(served: Served) -> None:
    """As official clients send what was emitted while they were not connected, before `connect` is called."""
    await served.register("ada", "bob")
    async with talking(served, "bob") as bob, socket(served.url) as ada:
        answers: list[tuple[str, str]] = []

        async def emit(event: str, name: str, **payload: str) -> None:
            await ada.io.emit(event, payload, callback=lambda answer: answers.append((name, answer["status"])))

        for number in range(MAX_HELD):
            await emit("privateMessage", str(number), to="bob", content=str(number))
        await emit("register", "register", userId="ada", authToken=served.tokens["ada"])
        await ada.say("privateMessage", {"to": "bob", "content": "last"})
        assert answers == [(name, "ok") for name in ("register", *map(str, range(MAX_HELD)))]
        heard = [(await bob.hear("newMessage"))["content"] for _ in range(MAX_HELD + 1)]
        assert heard == [*map(str, range(MAX_HELD)), "last"]
        assert ada.said("error") == []


async def test_events_without_register_are_refused_and_the_socket_stays_open(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.web.socketio.socketio_server.HELD_FOR", 0.01)  # of a minute
    await served.register("ada")
    async with socket(served.url) as ada:
        said = {"to": "room", "content": "hi"}
        assert error_of(await ada.say("groupMessage", said)) == "unauthorized"
        assert (await ada.hear("error"))["code"] == "unauthorized"
        answer = await ada.say("register", {"userId": "ada", "authToken": served.tokens["ada"]})
        assert answer["status"] == "ok" and (await ada.say("groupMessage", said))["status"] == "ok"


@pytest.mark.parametrize(("number", "size"), [(MAX_HELD, 1), (1, MAX_HELD_CHARACTERS - 100)])
async def test_more_than_may_wait_for_register_is_refused_at_once(serve: Any, number: int, size: int) -> None:
    served = await serve(WebSettings(token_timeout=3600))
    await served.register("ada")
    async with socket(served.url) as ada:
        for _ in range(number):
            await ada.io.emit("groupMessage", {"to": "room", "content": "x" * size})
        assert error_of(await ada.say("groupMessage", {"to": "room", "content": "y" * 100})) == "unauthorized"
        answer = await ada.say("register", {"userId": "ada", "authToken": served.tokens["ada"]})
        assert answer["status"] == "ok"
        assert (await ada.say("groupMessage", {"to": "room", "content": "z"}))["status"] == "ok"


async def test_events_that_wait_for_a_register_that_fails_are_refused(served: Served) -> None:
    await served.register("ada")
    async with socket(served.url) as liar:
        answers: list[dict[str, Any]] = []
        await liar.io.emit("groupMessage", {"to": "room", "content": "x"}, callback=answers.append)
        await liar.io.emit("register", {"userId": "ada", "authToken": "nonsense"}, callback=answers.append)
        await asyncio.wait_for(liar.gone.wait(), 60)
        assert [error_of(answer) for answer in answers] == ["unauthorized", "unauthorized"]


async def test_a_register_that_takes_longer_than_the_time_to_send_it_is_answered(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.register("ada", "bob")
    register = EventHandlers.register

    async def slow(self: EventHandlers, connection: EngineConnection, payload: Any) -> dict[str, Any]:
        assert connection.deadline is not None
        connection.deadline._run()  # the time is over
        for _ in range(100):
            await asyncio.sleep(0)  # what follows from that has its turns
        return await register(self, connection, payload)

    monkeypatch.setattr(EventHandlers, "register", slow)
    async with socket(served.url) as ada:
        held: list[dict[str, str]] = []
        await ada.io.emit("groupMessage", {"to": "room", "content": "x"}, callback=held.append)
        answer = await ada.say("register", {"userId": "ada", "authToken": served.tokens["ada"]})
        assert answer["status"] == "ok"
        assert (await ada.say("groupMessage", {"to": "room", "content": "y"}))["status"] == "ok"
        assert [answer["status"] for answer in held] == ["ok"]


async def test_a_socket_that_does_not_register_in_time_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers: list[EngineConnection] = []
    set_deadline = SocketIOServer._set_deadline

    def noted(self: SocketIOServer, connection: EngineConnection) -> None:
        set_deadline(self, connection)
        strangers.append(connection)

    monkeypatch.setattr(SocketIOServer, "_set_deadline", noted)
    for transport in ("websocket", "polling"):
        async with socket(served.url, transports=[transport]) as stranger:
            deadline = strangers.pop().deadline
            assert deadline is not None and deadline.when() <= asyncio.get_running_loop().time() + 60
            deadline._run()  # the time is over
            assert (await stranger.hear("error"))["code"] == "unauthorized"
            await asyncio.wait_for(stranger.gone.wait(), 60)


async def test_nobody_registers_as_another(served: Served) -> None:
    await served.register("ada", "bob")
    token = served.tokens["ada"]
    lies: list[tuple[Any, str]] = [
        ({"userId": "bob", "authToken": token}, "unauthorized"),
        ({"userId": "ada", "authToken": "nonsense"}, "unauthorized"),
        ({"userId": "ada"}, "unauthorized"),
        ({"authToken": token}, "malformed"),
        ({"userId": "a" * 300, "authToken": token}, "malformed"),
        (["ada"], "malformed"),
    ]
    for payload, code in lies:
        async with socket(served.url) as liar:
            answer = await liar.say("register", payload)
            assert error_of(answer) == code, payload
            assert ("unknown token: mistyped, " in answer["text"]) == ("nonsense" in str(payload))
            await asyncio.wait_for(liar.gone.wait(), 60)


async def test_a_socket_keeps_its_account(served: Served) -> None:
    await served.register("ada", "bob")
    async with talking(served, "ada") as ada:
        again = await ada.say("register", {"userId": "ada", "authToken": served.tokens["ada"]})
        assert again == {"status": "ok", "userId": "ada"}
        other = await ada.say("register", {"userId": "bob", "authToken": served.tokens["bob"]})
        assert error_of(other) == "registered"
        await asyncio.wait_for(ada.gone.wait(), 60)


async def test_a_trusted_machine_accepts_names_but_a_token_is_its_account(serve: Any) -> None:
    served = await serve(WebSettings(trust_loopback=True))
    token = await served.register("ada")
    async with socket(served.url, "zoe") as zoe, socket(served.url, "ada", token):
        await zoe.say("groupMessage", {"to": "room", "content": "hello"})
    async with socket(served.url) as liar:
        assert error_of(await liar.say("register", {"userId": "zoe", "authToken": token})) == "unauthorized"


# ---- sending


WRONG: list[tuple[str, Any, str]] = [
    ("privateMessage", {"to": "bob"}, "malformed"),
    ("privateMessage", {"to": "bob", "content": 7}, "malformed"),
    ("privateMessage", {"to": {"$ne": ""}, "content": "x"}, "malformed"),
    ("privateMessage", {"to": "bob", "content": ""}, "malformed"),
    ("privateMessage", {"to": "bob", "content": "nul \0"}, "malformed"),
    ("privateMessage", {"to": "bob", "content": "ä" * 16385}, "too_long"),
    ("privateMessage", {"to": "no/name", "content": "x"}, "unknown_name"),
    ("privateMessage", {"to": "bbo", "content": "x"}, "unknown_name"),
    ("privateMessage", {"to": "room", "content": "x"}, "unknown_name"),
    ("privateMessage", {"to": "bob", "content": "x", "timestamp": "yesterday"}, "malformed"),
    ("privateMessage", {"to": "bob", "content": "x", "key": "\ud800"}, "malformed"),
    ("privateMessage", {"to": "bob", "content": "x", "key": 7}, "malformed"),
    ("privateMessage", {"to": "bob", "content": "x", "timestamp": -1}, "malformed"),
    ("privateMessage", {"to": "bob", "content": "x", "timestamp": 1e300}, "malformed"),
    ("groupMessage", {"to": "#nothing", "content": "x"}, "unknown_name"),
    ("groupMessage", {"to": "bob", "content": "x"}, "unknown_name"),
    ("messageAck", {"messageId": "x"}, "malformed"),
    ("messageAck", {"messageId": "A" * 64 + ".1"}, "unknown_name"),
    ("typingStart", {"conversationId": "nobody"}, "unknown_name"),
    ("activityChange", {"isActive": "yes"}, "malformed"),
    ("newMessage", {"from": "bob"}, "unknown_event"),
    ("privateMessage", "text", "malformed"),
]


async def test_a_malformed_event_is_answered_and_the_socket_lives_on(served: Served) -> None:
    await served.register("bob")
    async with talking(served, "ada") as ada:
        for event, payload, code in WRONG:
            assert error_of(await ada.say(event, payload)) == code, (event, payload)
            told = await ada.hear("error")
            assert set(told) == {"code", "text"} and told["code"] == code
        assert (await ada.say("privateMessage", {"to": "bob", "content": "fine"}))["status"] == "ok"


async def test_null_is_absent(served: Served) -> None:
    async with talking(served, "ada") as ada, talking(served, "bob"):
        nothing = dict.fromkeys(("timestamp", "key", "files", "of a later version"))
        answer = await ada.say("groupMessage", {"to": "room", "content": "hi", **nothing})
        assert answer["status"] == "ok"
        for said in ({"to": None, "content": "hi"}, {"to": "bob", "content": None}):
            assert error_of(await ada.say("privateMessage", said)) == "malformed"


async def test_a_message_that_is_repeated_with_its_key_is_stored_once(served: Served) -> None:
    async with talking(served, "ada") as ada, talking(served, "bob") as bob:
        said = {"to": "bob", "content": "once", "key": "k1"}
        first = await ada.say("privateMessage", said)
        async with talking(served, "ada") as again:  # after a break
            assert await again.say("privateMessage", {**said, "timestamp": 1}) == first
            assert error_of(await again.say("privateMessage", {**said, "content": "other"})) == "key_reused"
        await ada.say("privateMessage", {"to": "bob", "content": "twice"})
        await ada.say("privateMessage", {"to": "bob", "content": "twice"})
        room = {"to": "room", "content": "all", "key": "k2"}
        assert await ada.say("groupMessage", room) == await ada.say("groupMessage", room)
        got = [(await bob.hear("newMessage"))["content"] for _ in range(4)]
        assert got == ["once", "twice", "twice", "all"]
        history = await served.account("bob").user.history("ada")
        assert [post.text for post in history] == ["once", "twice", "twice"]


async def test_a_socket_asks_votes_reacts_and_pins_as_any_other_client(served: Served) -> None:
    async with talking(served, "ada") as ada, talking(served, "bob") as bob:
        asked = await ada.say("do", {"do": "poll", "to": "bob", "question": "lunch?", "options": ["pizza", "soup"]})
        assert (asked["status"], asked["command"]) == ("ok", "poll")
        poll = await bob.hear("newMessage")
        assert (poll["content"], poll["choices"], poll["poll"]) == ("lunch?", ["pizza", "soup"], True)
        for command, change in (
            ({"do": "vote", "option": 2}, {"change": "vote", "option": 2}),
            ({"do": "react", "reaction": "👍"}, {"change": "reaction", "reaction": "👍"}),
            ({"do": "pin"}, {"change": "pinned", "pinned": True}),
            ({"do": "unpin"}, {"change": "pinned", "pinned": False}),
        ):
            answer = await bob.say("do", {**command, "id": poll["id"], "ref": "7"})
            assert (answer["status"], answer["command"], answer["ref"]) == ("ok", command["do"], "7")
            told = await ada.hear("messageChange")
            assert {name: told.get(name) for name in change} == change and told["by"] == "bob"
        [row] = (await bob.say("do", {"do": "history", "to": "ada"}))["rows"]
        assert [one["option"] for one in row["votes"]] == [2]
        for wrong, code in (({"do": "dance"}, "malformed"), ({"do": "vote", "id": poll["id"]}, "malformed"),
                            ({"do": "connect", "endpoint": "localhost:1"}, "malformed"),
                            ({"do": "vote", "id": poll["id"], "option": 3}, "usage")):  # fmt: skip
            assert error_of(await bob.say("do", wrong)) == code, wrong


async def test_a_timestamp_without_a_zone_is_in_utc(served: Served) -> None:
    async with talking(served, "ada") as ada, talking(served, "bob") as bob:
        for timestamp in ("2026-01-01T08:00:00", "2026-01-01T09:00:00+01:00", 1767254400000):
            await ada.say("privateMessage", {"to": "bob", "content": "x", "timestamp": timestamp})
            assert (await bob.hear("newMessage"))["clientTimestamp"] == "2026-01-01T08:00:00.000000Z"
        answer = await ada.say("privateMessage", {"to": "bob", "content": "x", "timestamp": "yesterday"})
        assert answer["text"] == "timestamp must be a time as 2026-11-20T08:30:00Z, or milliseconds since 1970"


async def test_no_status_comes_before_the_answer_that_tells_the_id(served: Served) -> None:
    async with talking(served, "ada") as ada, talking(served, "bob"):
        for number in range(20):
            message = {"to": "room", "content": str(number)}
            await ada.io.emit("groupMessage", message, callback=lambda answer: ada.told.append(("answer", answer)))
        async with asyncio.timeout(PATIENCE):
            while min(len(ada.said("answer")), len(ada.said("messageStatus"))) < 20:
                await asyncio.sleep(0)  # poll: `told` is a list
        answered: set[str] = set()
        for event, payload in ada.told:
            if event == "answer":
                answered.add(payload["id"])
            elif event == "messageStatus":
                assert payload["messageId"] in answered


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_errors_and_acknowledgements_come_in_the_order_of_the_requests(served: Served, transport: str) -> None:
    await served.register("bob")
    async with talking(served, "ada", transports=[transport]) as ada:
        wanted: list[tuple[int, str]] = []
        for number in range(21):
            message = {"to": "bob", "content": None if number % 7 == 6 else str(number)}
            wanted.append((number, "error" if number % 7 == 6 else "ok"))
            took = partial(lambda number, answer: ada.told.append(("answer", (number, answer["status"]))), number)
            await ada.io.emit("privateMessage", message, callback=took)
        await ada.say("activityChange", {"isActive": True})
        assert ada.said("answer") == wanted


async def test_concurrent_registers_make_one_session_and_repeated_ones_are_limited(serve: Any) -> None:
    served = await serve(WebSettings(calls=Pace(0.001, 20)))
    await served.register("ada")
    async with served.client("ada") as http:
        since = (await http.post("/messages", json={"to": "room", "content": "x"})).json()["id"]
    said = {"userId": "ada", "authToken": served.tokens["ada"], "since": since}
    async with socket(served.url) as ada:
        answers = await asyncio.gather(*(ada.say("register", said) for _ in range(3)))
        assert [answer["status"] for answer in answers] == ["ok"] * 3
        assert served.account("ada").sessions == 1
    async with socket(served.url) as again:
        assert error_of(await again.say("register", said)) == "too_many"


# ---- polling


def emits(number: int) -> str:
    """Return messages to the room as one body, with the numbers 100... as ids of their acknowledgements."""
    packets = (f'42{100 + n}["groupMessage",{{"to":"room","content":"{n}"}}]' for n in range(number))
    return "\x1e".join(packets)


@pytest.mark.parametrize("number", [16, 17, 40, 180])
async def test_every_packet_of_one_post_is_taken(served: Served, number: int) -> None:
    async with polling(served, "ada") as ada:
        assert await ada.post(emits(number)) == 200
        answers: list[str] = []
        while len(answers) < number:
            packets = await ada.poll()
            assert packets, "the connection lives on"
            answers += [packet for packet in packets if packet.startswith("43")]
    assert [json.loads(answer[5:])[0]["status"] for answer in answers] == ["ok"] * number
    async with served.client("ada") as http:
        stored = (await http.get("/messages", params={"conversation": "room", "limit": 1000})).json()
    assert [message["content"] for message in stored] == [*map(str, range(number))]


async def test_a_body_in_chunks_is_taken(served: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        body = emits(3).encode()
        yield body[:10]
        yield body[10:]

    async with polling(served, "ada") as ada:
        assert await ada.post(chunks()) == 200
        assert '"ok"' in await ada.until("43102")


async def test_pongs_of_a_client_that_polled_prove_what_comes_after_its_upgrade(served: Served) -> None:
    """Each ping has one pong, by whatever transport."""
    await served.register("ada", "bob")
    ada, other = served.peer.hosted
    async with polling(served, "bob") as bob:
        await ada.send(other.me, "one")
        assert "2" in await bob.poll()
        assert await bob.post("3") == 200
        async with connect(served.ws_url + bob.url.replace("polling", "websocket")) as line:
            await line.send("2probe")
            assert await line.recv() == "3probe"
            await bob.until("6")
            await line.send("5")
            receipt = await ada.send(other.me, "two")
            while await line.recv() != "2":
                pass
            await line.send("3")
            await receipt.read(timeout=PATIENCE)


MALFORMED = [
    "42",
    "421",
    "42xyz",
    '42{"a":1}',
    '42NaN["x"]',
    "42{}",
    "42[7]",
    "42{",
    "42" + "[" * 100_000,
    '42/other,["x"]',
    '42["connect",{}]',  # these are handlers of the server
    '42["disconnect","x"]',
    '42["*","x",{}]',
    "441",
    "47",
    "4",
]


@pytest.mark.parametrize("packet", [*MALFORMED, "", "6", "2probe", "b4AAA", b"\xff", '451-["x"]'])
async def test_a_posted_body_that_is_not_taken_is_refused_aloud_and_ends_the_connection(
    served: Served, packet: str | bytes
) -> None:
    async with polling(served, "ada") as ada:
        assert await ada.post(packet) == 400
        assert '"malformed"' in await ada.until('42["error"')
        while await ada.poll():
            pass
        assert await ada.post(emits(1)) == 400


@pytest.mark.parametrize("packet", MALFORMED)
async def test_a_malformed_event_of_a_registered_websocket_ends_its_connection(served: Served, packet: str) -> None:
    async with talking(served, "ada") as ada:
        await ada.io.eio.ws.send_str(packet)
        await asyncio.wait_for(ada.gone.wait(), 60)


async def test_another_namespace_is_refused_in_words(served: Served) -> None:
    """Clients show the `message` of a refusal: `io("http://host/chat")` showed `undefined`."""
    async with polling(served) as stranger:
        assert await stranger.post("40/chat,") == 200
        refused = await stranger.until("44/chat,")
        assert json.loads(refused.removeprefix("44/chat,")) == {
            "message": "the only namespace is /: connect to the address of the gateway without a path"
        }
        assert await stranger.post("40") == 200
        await stranger.until("40{")


async def test_an_event_without_a_namespace_ends_its_connection(served: Served) -> None:
    async with polling(served) as stranger:
        assert await stranger.post(emits(1)) == 400
        assert '"malformed"' in await stranger.until('42["error"')


async def test_many_packets_of_a_stranger_in_one_post_are_refused_once(served: Served) -> None:
    async with polling(served) as stranger:
        assert await stranger.post("\x1e".join(["41"] * (MAX_BEFORE_REGISTER + 100))) == 400
        assert '"unauthorized"' in await stranger.until('42["error"')
        assert await stranger.post("41") == 400


async def test_messages_sent_with_register_are_taken_after_it(served: Served) -> None:
    await served.register("ada")
    async with polling(served) as ada:
        assert await ada.post("40\x1e" + registration(served, "ada") + "\x1e" + emits(40)) == 200
        assert '"ok"' in await ada.until("43139")


async def test_of_two_users_with_one_name_each_is_shown_with_its_label(served: Served) -> None:
    users = [await served.peer.host(key, name="Max Miller") for key in "12"]
    one, other = (user.me.label for user in users)
    for label in (one, other):
        _, served.tokens[label] = await served.gateway.accounts.new_token(label)
    async with talking(served, one) as here, talking(served, other) as there:  # register answers with the label
        assert (await here.say("privateMessage", {"to": other, "content": "hello"}))["status"] == "ok"
        assert (await there.hear("newMessage"))["from"] == one
        await users[1].rename("Max")
        assert (await there.say("privateMessage", {"to": "Max Miller", "content": "hello back"}))["status"] == "ok"
        assert (await here.hear("newMessage"))["from"] == "Max"


# ---- several sockets, and coming back


async def test_a_snapshot_for_a_new_client_hides_no_update_from_the_others(served: Served) -> None:
    """A client registers between another user's coming and its announcement: its snapshot must not suppress that."""
    await served.register("ada")
    user = await served.peer.host("cyd")
    user.set_presence("online")
    async with asyncio.timeout(60):
        while served.peer.user("cyd").status != "online":
            await asyncio.sleep(0)  # poll: other tasks apply the presence
    ada = served.account("ada")
    registry = ClientRegistry(served.gateway)  # one that has received nothing yet
    assert len(registry.snapshot(ada)) >= 1
    came = Presence(user=served.peer.user("cyd"), status="online", text="", since=None)
    assert registry.presence_of(Envelope(came, None)) is not None
    assert registry.presence_of(Envelope(came, None)) is None, "and that once"


async def test_presence_of_more_users_than_the_queue_holds_is_sent_on_register(serve: Any) -> None:
    served = await serve(WebSettings(outbox_frames=8))
    await served.register("ada")
    missing = {f"user{number}" for number in range(12)}
    for name in missing:
        (await served.peer.host(name)).set_presence("online")
    async with talking(served, "ada") as ada:
        while missing:
            missing.discard((await ada.hear("presenceUpdate"))["userId"])


# ---- hostile


FRAMES: list[str | bytes] = [
    "",
    "4",
    "45-[]",
    "451-[]",
    "46",
    "47[]",
    "9",
    "4{",
    "2" + "[" * 100_000,
    "4" + "[" * 100_000,
    "0",
    "44{}",
    b"\x04x",
]


async def test_a_malformed_frame_ends_only_its_connection(served: Served) -> None:
    for frame in FRAMES:
        async with connect(served.ws_url + ENGINE + "websocket") as line:
            await line.recv()
            await line.send(frame)
            async with asyncio.timeout(60):
                await line.wait_closed()


@pytest.mark.parametrize("packet", ["2{}", "2[]", "2[7]", '2[["x"]]', "3{}", "51-[]", "61-[]", "4", "7", "x", "2[[["])
def test_a_malformed_packet_is_refused(packet: str) -> None:
    with pytest.raises(ValueError):
        StrictPacket(encoded_packet=packet)


def test_only_packets_come_in() -> None:
    assert all(map(may_come_in, ["3", "2probe", "5", "41", "42[]", "40"]))
    assert not any(map(may_come_in, [None, "", "2", "2[", "4", "4[", "45", "8"]))


async def test_a_connection_cannot_be_chosen_or_guessed(served: Served) -> None:
    """Session fixation: the server chooses the id of a connection, and only its client knows it."""
    async with served.client() as http:
        opened = [(await http.get(ENGINE + "polling")).text.split('"sid":"')[1].split('"')[0] for _ in range(2)]
        assert opened[0] != opened[1] and all(len(sid) >= 20 for sid in opened)
        for sid in ("chosen", opened[0][:-1]):
            assert (await http.get(f"{ENGINE}polling&sid={sid}")).status_code == 400
            assert (await http.post(f"{ENGINE}polling&sid={sid}", content="40")).status_code == 400


async def test_a_polled_payload_is_bounded(serve: Any) -> None:
    served = await serve(WebSettings(max_body_bytes=2000))
    async with polling(served) as poller:
        assert await poller.post("40" + "x" * 3000) == 413
        assert '"too_large"' in await poller.until('42["error"'), "what was refused ends the connection"
        assert await poller.post("40") == 400


@pytest.mark.parametrize("packet", ['43["x"]', '42["x"]', f'42["x",{{"y":"{"z" * 200_000}"}}]'])
async def test_a_socket_that_sends_too_much_before_register_is_closed_and_may_come_back(
    served: Served, packet: str
) -> None:
    async with connect(served.ws_url + ENGINE + "websocket") as line:
        await line.send("40")
        for _ in range(MAX_BEFORE_REGISTER if len(packet) < 100 else 6):
            await line.send(packet)
        async with asyncio.timeout(60):
            heard = [str(text) async for text in line]
    assert "too much was sent before register" in heard[-1], "no `41`, which means: do not come back"


async def test_it_answers_under_a_prefix_and_only_at_its_own_path(served: Served) -> None:
    outer = FastAPI()
    outer.mount("/talk", served.app)
    await served.register("ada", "bob")
    async with listening(outer) as port:
        url = f"http://127.0.0.1:{port}"
        for transport in ("polling", "websocket"):
            async with socket(url, "ada", served.tokens["ada"], transports=[transport], path="talk/socket.io") as ada:
                assert (await ada.say("groupMessage", {"to": "room", "content": "x"}))["status"] == "ok"
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=False) as http:
            assert (await http.get("/talk" + ENGINE + "polling")).status_code == 200
            assert (await http.get("/talk/socket.io/other/?EIO=4&transport=polling")).status_code == 404


async def test_a_stopping_gateway_closes_so_that_clients_reconnect(served: Served) -> None:
    async with talking(served, "ada") as ada:
        await served.gateway.aclose()
        await asyncio.wait_for(ada.gone.wait(), 60)
        assert ada.said("error") == []


@pytest.mark.parametrize("kind", CHANGE_EVENTS.values(), ids=lambda kind: kind.name)
async def test_what_is_said_of_messages_comes_live(kind: Kind, served: Served) -> None:
    await served.register("ada")
    async with talking(served, "bob") as bob, served.client("ada") as ada:

        async def do(call: Call, text: str, **fields: object) -> str:
            answer = (await ada.post("/v1/do", json={"do": call.name, **given(call, text), **fields})).json()
            return str(answer["rows"][0]["id"])

        id = await do(KINDS[kind.on].calls[0] if kind.on else Call("send", "to:place text"), "lunch?")
        assert (await bob.hear("newMessage"))["id"] == id
        await do(kind.calls[0], "+1", id=id)
        told = await bob.hear("messageChange")
        said = {CHAT.get(kind.field, kind.field)} if kind.field else set()
        assert told.keys() == {"id", "entryId", "change", "by", "timestamp", *said}
        assert (told["id"], told["change"], told["by"]) == (id, kind.event, "ada") and all(told[name] for name in said)
