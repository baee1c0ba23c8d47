"""One-to-one and group chat with acknowledgements and presence (origin 000): each test is a part of its page."""

from __future__ import annotations

from tests.web.chat_client import chatting, until
from tests.web.conftest import Served


async def test_bobs_acknowledgment_reaches_alice_through_the_server(served: Served) -> None:
    async with chatting(served, "Bob") as bob, chatting(served, "Alice", "?events=receipts") as alice:
        id = await alice.accepted({"to": "Bob", "text": "hi Bob"})  # 1. Alice sends a message
        heard = await bob.message()  # 2. the server delivers it, 3. Bob receives it
        assert (heard["id"], heard["from"], heard["content"]) == (id, "Alice", "hi Bob")
        await bob.say({"type": "ack", "id": heard["id"]})  # 4. Bob's client acknowledges it
        for kind in ("delivered", "read"):  # 5. the server forwards it, 6. Alice receives it
            told = await alice.next(kind)
            assert (told["id"], told["by"]) == (id, "Bob")


async def test_group_members_get_messages_with_the_group_name(
    served: Served,
) -> None:
    for name in ("Alice", "Bob", "Carol", "Dan"):
        await served.register(name)
    async with served.client("Alice") as http:
        made = await http.post("/groups", json={"name": "friends", "members": ["Bob", "Carol", "Dan"]})
        assert made.json()["members"] == ["Alice", "Bob", "Carol", "Dan"]
    async with chatting(served, "Alice", "?events=receipts") as alice, chatting(served, "Bob") as bob:
        async with chatting(served, "Carol") as carol:
            id = await alice.accepted({"group": "friends", "text": "hi all"})
            for one in (bob, carol):  # the online members, except the sender
                heard = await one.message()
                assert (heard["id"], heard["from"], heard["group"]) == (id, "Alice", "friends")
                await one.say({"type": "ack", "id": heard["id"]})
        readers: set[str] = set()
        while len(readers) < 2:  # the sender gets acknowledgements of groups too
            readers.add((await alice.next("read"))["by"])
        assert readers == {"Bob", "Carol"} and not alice.waiting("message")
    async with chatting(served, "Dan") as dan:  # an offline member gets it when coming online
        assert (await dan.message())["id"] == id


async def test_presence_changes_are_broadcast(served: Served) -> None:
    async with (
        chatting(served, "Alice", "?events=presence") as alice,
        chatting(served, "Carol", "?events=all") as carol,
    ):
        async with chatting(served, "Bob"):
            for watcher in (alice, carol):
                while (told := await watcher.next("presence"))["user"] != "Bob":
                    pass
                assert told["presence"] == "online"
            online = await until(served, "Alice", "/presence?status=online", lambda told: len(told) >= 3)
            assert {"Alice", "Bob", "Carol"} <= {one["user"] for one in online}
        for watcher in (alice, carol):
            while (told := await watcher.next("presence"))["user"] != "Bob":
                pass
            assert told["presence"] == "offline"
