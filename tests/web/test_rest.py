"""REST, with a real client and a real server."""

from __future__ import annotations

import httpx
import pytest

from tests.web.chat_client import chatting
from tests.web.conftest import Served


@pytest.fixture
async def people(served: Served) -> Served:
    """A gateway with ada, bob and cyd."""
    names = ("ada", "bob", "cyd")
    for name in names:
        await served.register(name)
    for name in names:
        async with served.client(name) as http:
            while not {one["user"] for one in (await http.get("/users")).json()} >= {*names}:
                pass
    return served


async def write(http: httpx.AsyncClient, **said: object) -> str:
    """Write a message; return its id."""
    answer = await http.post("/messages", json=said)
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "ok"
    id: str = answer.json()["id"]
    return id


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error, and check its form."""
    told = answer.json()
    assert told.keys() == {"status", "code", "text"} and told["status"] == "error"
    return answer.status_code, told["code"]


async def test_messages_of_two_users_come_in_order(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        first = await write(ada, to="bob", content="Hello, Bob!")
        await write(bob, to="ada", content="Hey Ada!")
        asked = await ada.get("/messages", params={"user1": "ada", "user2": "bob"})
        assert [(one["from"], one["to"], one["content"]) for one in asked.json()] == [
            ("ada", "bob", "Hello, Bob!"),
            ("bob", "ada", "Hey Ada!"),
        ]
        assert asked.json()[0]["id"] == first
        turned = await bob.get("/messages", params={"user1": "bob", "user2": "ada"})
        assert turned.json() == asked.json()


async def test_messages_of_two_other_users_are_forbidden(people: Served) -> None:
    async with people.client("ada") as ada, people.client("cyd") as cyd, people.client() as nobody:
        id = await write(ada, to="bob", content="psst")
        between = {"user1": "ada", "user2": "bob"}
        assert refused(await cyd.get("/messages", params=between)) == (403, "forbidden")
        assert refused(await nobody.get("/messages", params=between)) == (401, "unauthorized")
        assert refused(await cyd.get(f"/messages/{id}")) == (404, "unknown_name")
        assert refused(await cyd.get("/messages", params={"before": id})) == (404, "unknown_name")
        talk = next(one["id"] for one in (await ada.get("/conversations")).json() if one["kind"] == "dm")
        assert refused(await cyd.get("/messages", params={"conversation": talk})) == (404, "unknown_name")
        assert (await cyd.get("/messages")).json() == []
        assert refused(await cyd.put(f"/messages/{id}/reaction", json={"reaction": "!"})) == (404, "unknown_name")


async def test_history_is_paged_by_ids_or_times(people: Served) -> None:
    async with people.client("ada") as ada:
        ids = [await write(ada, to="room", content=str(number)) for number in range(5)]
        room = {"conversation": "room"}
        newest = (await ada.get("/messages", params={**room, "limit": "2"})).json()
        assert [one["content"] for one in newest] == ["3", "4"]
        older = (await ada.get("/messages", params={**room, "limit": "2", "before": ids[3]})).json()
        assert [one["content"] for one in older] == ["1", "2"]
        behind = (await ada.get("/messages", params={**room, "limit": "2", "after": ids[0]})).json()
        assert [one["content"] for one in behind] == ["1", "2"]
        later = await ada.get("/messages", params={**room, "after": newest[0]["timestamp"]})
        assert [one["content"] for one in later.json()][-1] == "4"
        assert refused(await ada.get("/messages", params={**room, "after": "2026-13-40"})) == (400, "malformed")
        assert refused(await ada.get("/messages", params={**room, "after": "yesterday"})) == (400, "malformed")
        assert refused(await ada.get("/messages", params={**room, "limit": "0"})) == (422, "malformed")


async def test_a_message_requested_twice_with_one_key_is_written_once(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        key = {"Idempotency-Key": "4f1c"}
        answers = [await ada.post("/messages", json={"to": "bob", "content": "once"}, headers=key) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        other = await ada.post("/messages", json={"to": "bob", "content": "other"}, headers=key)
        assert refused(other) == (422, "key_reused")
        await bob.post("/messages", json={"to": "ada", "content": "mine"}, headers=key)
        between = await ada.get("/messages", params={"user1": "ada", "user2": "bob"})
        assert [one["content"] for one in between.json()] == ["once", "mine"]


async def test_a_message_to_a_free_name_waits_until_it_is_registered(people: Served) -> None:
    async with people.client("ada") as ada:
        await write(ada, to="dora", content="welcome", ref=7)
        await people.register("dora")
        async with chatting(people, "dora") as dora:
            heard = await dora.message()
            assert (heard["from"], heard["to"], heard["content"]) == ("ada", "dora", "welcome")
        assert refused(await ada.post("/messages", json={"to": "a/b", "content": "no"})) == (404, "unknown_name")
        assert refused(await ada.post("/messages", json={"content": "where?"})) == (422, "malformed")
        assert refused(await ada.post("/messages", json={"to": "bob", "content": "é" * 32_768})) == (413, "too_long")


async def test_the_receipt_of_a_message(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        id = await write(ada, to="bob", content="done?")
        while (fate := (await ada.get(f"/messages/{id}/receipt")).json())["status"] == "accepted":
            pass
        assert fate == {"id": id, "status": "delivered", "delivered_to": ["bob"], "read_by": [], "missing": []}
        assert (await bob.post(f"/messages/{id}/read")).json() == {"status": "ok"}
        while (fate := (await ada.get(f"/messages/{id}/receipt")).json())["status"] != "read":
            pass
        assert fate["read_by"] == ["bob"]
        assert refused(await bob.get(f"/messages/{id}/receipt")) == (404, "unknown_name")


async def test_only_the_writer_can_edit_and_delete_a_message(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        id = await write(ada, to="bob", content="lnuch?")
        while (await bob.get(f"/messages/{id}")).status_code == 404:
            pass
        assert refused(await bob.patch(f"/messages/{id}", json={"content": "no"})) == (403, "forbidden")
        assert refused(await bob.delete(f"/messages/{id}")) == (403, "forbidden")
        assert (await ada.patch(f"/messages/{id}", json={"content": "lunch?"})).status_code == 200
        assert (await bob.put(f"/messages/{id}/reaction", json={"reaction": "👍"})).status_code == 200
        while "reactions" not in (shown := (await ada.get(f"/messages/{id}")).json()):
            pass
        assert (shown["content"], shown["edited"], shown["reactions"]) == ("lunch?", True, {"👍": ["bob"]})
        assert (await bob.delete(f"/messages/{id}/reaction")).status_code == 200
        assert (await ada.delete(f"/messages/{id}")).status_code == 200
        gone = (await ada.get(f"/messages/{id}")).json()
        assert (gone["content"], gone["deleted"]) == ("", True)


async def test_search_finds_words_in_visible_messages(people: Served) -> None:
    async with people.client("ada") as ada, people.client("cyd") as cyd:
        await write(ada, to="bob", content="the backup failed")
        await write(ada, to="room", content="no backup today")
        found = (await ada.get("/search", params={"q": "backup failed"})).json()
        assert [one["content"] for one in found] == ["the backup failed"]
        only = (await ada.get("/search", params={"q": "backup", "conversation": "room"})).json()
        assert [one["content"] for one in only] == ["no backup today"]
        assert all("to" not in one for one in (await cyd.get("/search", params={"q": "backup"})).json())


async def test_a_group_is_visible_to_its_members(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob, people.client("cyd") as cyd:
        made = await ada.post("/groups", json={"name": "ops", "members": ["bob"]})
        assert made.status_code == 201 and (made.json()["owner"], made.json()["members"]) == ("ada", ["ada", "bob"])
        while not (await bob.get("/groups")).json():
            pass
        await write(bob, group="ops", content="deploying")
        while not (said := (await ada.get("/messages", params={"conversation": "#ops"})).json()):
            pass
        assert (said[0]["from"], said[0]["group"], said[0]["content"]) == ("bob", "ops", "deploying")
        for call in (cyd.get("/groups/ops"), cyd.get("/messages", params={"conversation": made.json()["id"]})):
            assert (await call).status_code in (403, 404)
        assert (await cyd.post("/messages", json={"group": "ops", "content": "hi"})).status_code in (403, 404)
        assert refused(await bob.post("/groups/ops/members", json={"members": ["cyd"]})) == (409, "refused")
        by_id = f"/groups/ops%23{made.json()['id'][:8]}"
        assert (await bob.get(by_id)).json() == made.json()
        grown = await ada.post("/groups/ops/members", json={"members": ["cyd"]})
        assert grown.json()["members"] == ["ada", "bob", "cyd"]
        assert (await ada.patch("/groups/ops", json={"name": "crew"})).json()["name"] == "crew"
        assert (await ada.delete("/groups/crew/members/cyd")).json() == {"status": "ok"}
        assert (await ada.get("/groups/crew")).json()["members"] == ["ada", "bob"]


async def test_users_and_their_presence(people: Served) -> None:
    async with people.client("ada") as ada, chatting(people, "bob"):
        while "bob" not in [one["user"] for one in (await ada.get("/presence?status=online")).json()]:
            pass
        assert {one["user"] for one in (await ada.get("/users")).json()} >= {"ada", "bob", "cyd"}
        bob = (await ada.get("/users/bob")).json()
        assert (bob["name"], bob["status"]) == ("bob", "online")
        assert refused(await ada.get("/users/nobody")) == (404, "unknown_name")
        assert (await ada.get("/conversations")).json()[0]["kind"] == "room"
