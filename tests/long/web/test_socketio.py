"""Socket.IO with clients that receive much, or nothing."""

from __future__ import annotations

from typing import Any

from p2pchat.web import WebSettings
from tests.web.conftest import Served
from tests.web.socketio_client import ENGINE, talking


async def test_a_client_of_the_library_that_polls_receives_many_waiting_messages(served: Served) -> None:
    """It gives up at an answer of more than 16 packets."""
    await served.register("ada", "bob")
    async with served.client("ada") as http:
        for number in range(40):
            await http.post("/messages", json={"to": "bob", "content": str(number)})
    async with talking(served, "bob", transports=["polling"]) as bob:
        assert [(await bob.hear("newMessage"))["content"] for _ in range(40)] == [*map(str, range(40))]


async def test_a_client_that_does_not_read_is_closed_alone_and_catches_up_later(serve: Any) -> None:
    served = await serve(WebSettings(outbox_frames=40))
    await served.register("ada", "bob", "cyd")
    headers = {"Content-Type": "text/plain"}
    async with served.client() as http, talking(served, "cyd") as cyd:
        opened = (await http.get(ENGINE + "polling")).text
        sid = opened.split('"sid":"')[1].split('"')[0]
        await http.post(f"{ENGINE}polling&sid={sid}", content="40", headers=headers)
        register = f'420["register",{{"userId":"bob","authToken":"{served.tokens["bob"]}"}}]'
        await http.post(f"{ENGINE}polling&sid={sid}", content=register, headers=headers)
        async with talking(served, "ada") as ada:
            for number in range(60):  # bob never polls
                for name in ("bob", "cyd"):
                    await ada.say("privateMessage", {"to": name, "content": f"{number}"})
            assert [(await cyd.hear("newMessage"))["content"] for _ in range(60)] == [*map(str, range(60))]
        await cyd.hear("presenceUpdate", lambda told: told == {"userId": "bob", "status": "offline"})
    async with talking(served, "bob") as bob:
        assert [(await bob.hear("newMessage"))["content"] for _ in range(60)] == [*map(str, range(60))]
