"""REST, with a real client and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import httpx
import jsonschema_rs
import pytest

from p2pchat.kinds import LISTS
from p2pchat.web import Pace, WebSettings
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


async def test_null_is_absent(people: Served) -> None:
    async with people.client("ada") as ada:
        nothing = dict.fromkeys(("files", "choices", "ref", "reply_to"))
        id = await write(ada, to="bob", content="Hello, Bob!", **nothing)
        asked = await ada.post(
            "/v1/do", json={"do": "history", "to": "bob", "limit": None, "before": None, "ref": None}
        )
        assert [row["id"] for row in asked.json()["rows"]] == [id]
        made = await ada.post("/groups", json={"name": "ops", "members": None})
        assert made.status_code == 201, made.text
        wrong = await ada.post("/messages", json={"to": "bob", "content": None})
        assert refused(wrong) == (422, "malformed") and "content: it is missing" in wrong.json()["text"]


async def test_null_is_no_receiver(people: Served) -> None:
    """A program that has not found its receiver writes to nobody, rather than to everybody."""
    bodies: list[tuple[str, dict[str, object]]] = [
        ("/v1/messages", {"content": "secret"}),
        ("/v1/polls", {"question": "secret?", "options": ["yes", "no"]}),
        ("/v1/do", {"do": "send", "text": "secret"}),
        ("/v1/do", {"do": "poll", "question": "secret?", "options": ["yes", "no"]}),
    ]
    async with people.client("ada") as ada:
        for path, body in bodies:
            for receiver in ({"to": None}, {"group": None}, {"to": "bob", "group": None}):
                wrong = await ada.post(path, json={**body, **receiver})
                assert refused(wrong) == (422, "malformed"), (path, receiver, wrong.text)
        assert (await ada.get("/messages", params={"to": "room"})).json() == []


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


async def test_who_reads_as_another_user_on_this_machine_is_not_where_that_user_is(serve: Callable[..., Any]) -> None:
    """Before: the work of the account was charged to no address from then on."""
    served = await serve(WebSettings(trust_loopback=True, calls=Pace(0.001, 3)))
    await served.register("ada")
    key = served.gateway.accounts.find("ada").key
    served.gateway.limits.call(key, "203.0.113.9")
    async with served.client() as nobody:
        asked = [await nobody.get("/messages", params={"user1": "ada", "user2": "bob"}) for _ in range(3)]
    assert [one.status_code for one in asked] == [200, 200, 429]
    assert served.gateway.limits.sites[key] == "203.0.113.9"


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


@pytest.mark.parametrize("begin", ["/v1/messages?limit=2", "/messages?limit=2&before=2999-01-01T00:00Z"])
async def test_each_page_links_to_the_next_older_one_until_the_first(people: Served, begin: str) -> None:
    async with people.client("ada") as ada:
        for number in range(5):
            await write(ada, to="room", content=f"#{number}")
        pages, links = await follow(ada, f"{begin}&conversation=room")
        assert pages == [["#3", "#4"], ["#1", "#2"], ["#0"]]
        assert all("limit=2" in link and "conversation=room" in link for link in links)
        whole = await ada.get("/messages", params={"limit": "5"})
        assert len(whole.json()) == 5 and "link" not in whole.headers


async def test_pages_after_a_message_and_pages_of_a_search_link_to_the_next(people: Served) -> None:
    async with people.client("ada") as ada:
        first = await write(ada, to="bob", content="begin & wait")
        for number in range(3):
            await write(ada, to="bob", content=f"backup {number} & more")
        between = {"user1": "ada", "user2": "bob", "limit": "2"}
        pages, _ = await follow(ada, str(httpx.URL("/v1/messages", params={**between, "after": first})))
        assert pages == [["backup 0 & more", "backup 1 & more"], ["backup 2 & more"]]
        found, _ = await follow(ada, str(httpx.URL("/v1/search", params={"q": '"& more" backup', "limit": "2"})))
        assert found == [["backup 1 & more", "backup 2 & more"], ["backup 0 & more"]]


async def test_a_page_ends_where_its_texts_are_too_long(serve: Callable[..., Any]) -> None:
    """Twenty answers of 1,000 messages that nobody took held 480 MiB."""
    served = await serve(WebSettings(max_answer_bytes=100))
    await served.register("ada")
    async with served.client("ada") as ada:
        texts = [f"line {number} " + "x" * 33 for number in range(5)]
        ids = [await write(ada, to="room", content=text) for text in texts]
        newest_first, _ = await follow(ada, "/v1/messages?conversation=room")
        assert newest_first == [texts[3:], texts[1:3], texts[:1]]
        assert (await follow(ada, f"/v1/messages?conversation=room&after={ids[0]}"))[0] == [texts[1:3], texts[3:]]
        assert (await follow(ada, "/v1/search?q=line"))[0] == [texts[3:], texts[1:3], texts[:1]]


async def test_groups_come_in_pages(serve: Callable[..., Any]) -> None:
    """A thousand groups with 256 members each were one answer of 20 MiB."""
    served = await serve(WebSettings(max_answer_bytes=400))
    await served.register("ada", "bob", "bobby", "cyd", "dan")
    async with served.client("ada") as ada:
        for name, members in (("a", []), ("b", ["bob"]), ("c", ["bob", "bobby", "cyd", "dan"]), ("d", []), ("e", [])):
            made = await ada.post("/groups", json={"name": name, "members": members})
            assert made.status_code == 201

        async def names(url: str) -> list[list[str]]:
            pages = list[list[str]]()
            while url:
                answer = await ada.get(url)
                pages.append([group["name"] for group in answer.json()])
                url = str(answer.url.join(answer.links["next"]["url"])) if "next" in answer.links else ""
            return pages

        assert await names("/v1/groups") == [["a", "b"], ["c"], ["d", "e"]]  # the third is alone, since it has five
        assert await names("/v1/groups?limit=1") == [["a"], ["b"], ["c"], ["d"], ["e"]]
        assert (await ada.get("/v1/groups?after=nothing")).status_code == 404


async def test_an_account_waits_until_its_own_answers_are_taken(serve: Callable[..., Any]) -> None:
    served = await serve(WebSettings(max_answers_of_account=1, max_answer_bytes=10**6))
    await served.register("ada", "bob")
    async with served.client("ada") as ada, served.client("bob") as bob:
        for number in range(4):
            await write(ada, to="room", content=f"{number}" + "x" * 32_000)
        begun, may_go_on, pieces = asyncio.Event(), asyncio.Event(), list[int]()

        async def send_slowly(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                pieces.append(len(message["body"]))
                begun.set()
                await may_go_on.wait()

        scope = {
            "type": "http", "method": "GET", "path": "/v1/messages", "raw_path": b"/v1/messages", "root_path": "",
            "query_string": b"", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", served.port),
            "headers": [(b"host", f"127.0.0.1:{served.port}".encode()),
                        (b"authorization", f"Bearer {served.tokens['ada']}".encode())],
        }  # fmt: skip
        slow = asyncio.create_task(served.app(scope, asyncio.Queue[Any]().get, send_slowly))
        await begun.wait()
        second = asyncio.create_task(ada.get("/v1/messages"))
        assert len((await bob.get("/v1/messages")).json()) == 4 and not second.done()
        assert (await ada.post("/v1/messages", json={"to": "room", "content": "hello"})).status_code == 201
        assert not second.done()
        may_go_on.set()
        await slow
        assert len((await second).json()) == 5 and len(pieces) == 2 and max(pieces) <= 64 * 1024 < sum(pieces)


async def follow(http: httpx.AsyncClient, url: str) -> tuple[list[list[str]], list[str]]:
    """Follow the links from page to page; return the contents of each page, and the links."""
    pages: list[list[str]] = []
    links: list[str] = []
    while True:
        answer = await http.get(url)
        assert answer.status_code == 200, answer.text
        pages.append([one["content"] for one in answer.json()])
        if "next" not in answer.links:
            return pages, links
        links.append(answer.links["next"]["url"])
        url = str(answer.url.join(links[-1]))


async def test_every_call_has_its_path_with_and_without_the_version(people: Served) -> None:
    async with people.client("ada") as ada:
        id = await write(ada, to="bob", content="hi")
        for path in ("/messages?user1=ada&user2=bob", f"/messages/{id}", "/users/bob", "/conversations", "/groups"):
            old, new = await ada.get(path), await ada.get(f"/v1{path}")
            assert (new.status_code, new.json()) == (old.status_code, old.json()) and new.status_code == 200, path
        described = (await ada.get("/openapi.json")).json()["paths"]
        rest = {path for path in described if path not in ("/healthz", "/readyz", "/metrics")}
        assert rest and all(path.startswith("/v1/") for path in rest)


NO_ID = "not the id of a message, which looks like BVMRTKYYVIBVXDV5L7KR6J7XCHUILOF7XZ4FYNYZJYSOV3UUSNUGY2XM344OGAB6.2"


async def test_who_asks_with_choices_learns_who_pressed_one(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        id = await write(ada, to="bob", content="deploy?", choices=["yes", "no"])
        assert (await bob.get(f"/messages/{id}")).json()["choices"] == ["yes", "no"]
        assert (await bob.put(f"/messages/{id}/reaction", json={"reaction": "yes"})).is_success
        [pressed] = (await ada.get(f"/messages/{id}")).json()["reactions"]
        assert (pressed["by"], pressed["reaction"]) == ("bob", "yes")
        assert refused(await ada.patch(f"/messages/{id}", json={"content": "delete all?"})) == (400, "usage")
        for choices, code in ((["yes"], 400), (["yes", "certainly"], 400), (["yes", "x" * 81], 422)):
            answer = await ada.post("/messages", json={"to": "bob", "content": "deploy?", "choices": choices})
            assert refused(answer) == (code, "malformed")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"content": "hi"}, 'give either "to" (a user, or "room") or "group"'),
        ({"content": "hi", "to": "bob", "group": "ops"}, 'give either "to" (a user, or "room") or "group"'),
        ({"to": "bob"}, "content: it is missing"),
        ({"group": "ops", "content": ""}, "content: it should have at least 1 character"),
        ({"to": "bob", "content": "hi", "txt": 1}, "txt: unknown field"),
        *(({"to": "bob", "content": "hi", "ref": ref}, "ref: it should be a string or an integer")
          for ref in (1.5, True, [1])),
        ({"to": 7, "content": "hi"}, "to: it should be a valid string"),
        ({"to": "bob", "content": "hi", "reply_to": "the last one"}, f"reply_to: {NO_ID}"),
        (["hi"], "send a JSON object, with the header Content-Type: application/json"),
    ],
)  # fmt: skip
async def test_a_request_of_the_wrong_form_is_told_by_the_field_that_is_wrong(
    people: Served, said: object, text: str
) -> None:
    async with people.client("ada") as ada:
        answer = await ada.post("/v1/messages", json=said)
        assert (*refused(answer), answer.json()["text"]) == (422, "malformed", text)


async def test_the_wrong_field_is_told_wherever_it_is(people: Served) -> None:
    async with people.client("ada") as ada:
        body = '{"to": "bob", "content": "hi"}'
        forgotten = {"content-type": "application/x-www-form-urlencoded"}  # as curl -d sends it
        broken = {"content-type": "application/json"}
        hint = "send a JSON object, with the header Content-Type: application/json"
        told = [
            await ada.get("/v1/messages?limit=0"),
            await ada.get("/v1/search"),
            await ada.get("/v1/messages/nonsense"),
            await ada.post("/v1/groups", json={"name": "ops", "members": ["bob", ""]}),
            await ada.post("/v1/messages", content=body, headers=forgotten),
            await ada.post("/v1/messages", content=body[:-1], headers=broken),
            await ada.post("/v1/messages", json={"to": "bob", "content": "hi"}, headers={"Idempotency-Key": "k" * 129}),
        ]
        assert {answer.status_code for answer in told} == {422}
        assert [answer.json()["text"] for answer in told] == [
            "limit: it should be greater than or equal to 1", "q: it is missing", f"id: {NO_ID}",
            "members.1: it should have at least 1 character", hint, hint,
            "Idempotency-Key: it should have at most 128 characters",
        ]  # fmt: skip


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


async def test_a_group_requested_twice_with_one_key_is_created_once(people: Served) -> None:
    async with people.client("ada") as ada:
        key, wanted = {"Idempotency-Key": "4f1c"}, {"name": "ops", "members": ["bob"]}
        answers = [await ada.post("/v1/groups", json=wanted, headers=key) for _ in range(2)]
        assert [one.status_code for one in answers] == [201, 201] and answers[0].json() == answers[1].json()
        assert [one["name"] for one in (await ada.get("/groups")).json()] == ["ops"]
        for other in ({"name": "ops", "members": []}, {"name": "dev", "members": ["bob"]}):
            assert refused(await ada.post("/groups", json=other, headers=key)) == (422, "key_reused")
        assert refused(await ada.post("/messages", json={"to": "bob", "content": "hi"}, headers=key)) == (
            422,
            "key_reused",
        )
        nobody = {"name": "new", "members": ["nobody"]}
        for _ in range(2):
            assert refused(await ada.post("/groups", json=nobody, headers={"Idempotency-Key": "5"}))[0] == 404


async def test_a_message_to_no_name_and_a_too_long_one_are_refused(people: Served) -> None:
    async with people.client("ada") as ada:
        assert refused(await ada.post("/messages", json={"to": "a/b", "content": "no"})) == (404, "unknown_name")
        for text in ("é" * 32_768, "x" * 33_000):
            answer = await ada.post("/messages", json={"to": "bob", "content": text})
            assert refused(answer) == (413, "too_long")


async def test_the_receipt_of_a_message(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        id = await write(ada, to="bob", content="done?")
        fate = (await ada.get(f"/messages/{id}/receipt")).json()
        [cause] = fate.pop("causes")
        assert (cause["user"], cause["cause"], cause["text"]) == ("bob", "away", "will get it when back: away")
        assert fate == {"id": id, "status": "accepted", "delivered_to": [], "read_by": [], "missing": ["bob"]}
        assert (await bob.post(f"/messages/{id}/read")).json()["status"] == "ok"
        while (fate := (await ada.get(f"/messages/{id}/receipt")).json())["status"] != "read":
            pass
        assert (fate["delivered_to"], fate["read_by"], fate["missing"]) == (["bob"], ["bob"], [])
        assert refused(await bob.get(f"/messages/{id}/receipt")) == (404, "unknown_name")


async def test_only_the_writer_can_edit_and_delete_a_message(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        id = await write(ada, to="bob", content="lnuch?")
        while (await bob.get(f"/messages/{id}")).status_code == 404:
            pass
        assert refused(await bob.patch(f"/messages/{id}", json={"content": "no"})) == (400, "usage")
        assert refused(await bob.delete(f"/messages/{id}")) == (400, "usage")
        assert (await ada.patch(f"/messages/{id}", json={"content": "lunch?"})).status_code == 200
        assert (await bob.put(f"/messages/{id}/reaction", json={"reaction": "👍"})).status_code == 200
        while "reactions" not in (shown := (await ada.get(f"/messages/{id}")).json()):
            pass
        [said] = shown["reactions"]
        assert (shown["content"], shown["edited"], said["by"], said["reaction"]) == ("lunch?", True, "bob", "👍")
        assert (await bob.put(f"/messages/{id}/reaction", json={"reaction": ""})).status_code == 200
        assert refused(await bob.put(f"/messages/{id}/reaction", json={})) == (422, "malformed")
        assert refused(await bob.put(f"/messages/{id}/reaction", json={"do": "delete"})) == (422, "malformed")
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
        assert grown.json()["admins"] == []
        made = await ada.post("/v1/do", json={"do": "admin", "to": "#ops", "user": "bob"})
        assert made.status_code == 200 and made.json()["rows"][0]["group"] == "ops"
        assert (await ada.get("/groups/ops")).json()["admins"] == ["bob"]
        while not (await bob.get("/groups/ops")).json()["admins"]:
            pass
        assert (await bob.delete("/groups/ops/members/cyd")).json() == {"status": "ok"}
        assert (await bob.post("/groups/ops/members", json={"members": ["cyd"]})).json()["members"][2:] == ["cyd"]
        assert (await ada.post("/v1/do", json={"do": "unadmin", "to": "#ops", "user": "bob"})).status_code == 200
        assert (await ada.get("/groups/ops")).json()["admins"] == []
        for there in ({}, {"to": "room"}, {"to": "bob"}):  # of the network
            told = await ada.post("/v1/do", json={"do": "admin", "user": "bob", **there})
            assert "only the operator of this peer can do that" in told.json()["text"]
        assert (await ada.patch("/groups/ops", json={"name": "crew"})).json()["name"] == "crew"
        assert (await ada.delete("/groups/crew/members/cyd")).json() == {"status": "ok"}
        assert (await ada.get("/groups/crew")).json()["members"] == ["ada", "bob"]


async def test_users_and_their_presence(people: Served) -> None:
    async with people.client("ada") as ada, chatting(people, "bob"):
        while "bob" not in [one["user"] for one in (await ada.get("/users?status=online")).json()]:
            pass
        assert {one["user"] for one in (await ada.get("/users")).json()} >= {"ada", "bob", "cyd"}
        bob = (await ada.get("/users/bob")).json()
        assert (bob["name"], bob["status"]) == ("bob", "online")
        assert refused(await ada.get("/users/nobody")) == (404, "unknown_name")
        assert (await ada.get("/conversations")).json()[0]["kind"] == "room"


async def test_a_poll_is_voted_on_and_closed(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        asked = await ada.post("/v1/do", json={"do": "poll", "question": "lunch?", "options": ["pizza", "soup"]})
        id = asked.json()["rows"][0]["id"]
        assert (await bob.put(f"/messages/{id}/vote", json={"option": 2})).json()["id"] == id
        assert refused(await bob.post(f"/messages/{id}/close")) == (400, "usage")
        assert (await ada.post(f"/v1/messages/{id}/close")).status_code == 200
        shown = (await bob.get(f"/messages/{id}")).json()
        assert [(one["by"], one["option"]) for one in shown["votes"]] == [("bob", 2)] and shown["closed_at"]
        assert refused(await bob.put(f"/messages/{id}/vote", json={"option": 1})) == (400, "usage")


async def test_a_message_is_pinned_by_one_and_unpinned_by_another(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        id = await write(ada, to="room", content="the rules")
        assert (await bob.put(f"/messages/{id}/pin")).json()["id"] == id
        [pin] = (await ada.get("/messages?head=pins")).json()
        assert (pin["content"], [one["by"] for one in pin["pins"]]) == ("the rules", ["bob"])
        assert (await ada.delete(f"/v1/messages/{id}/pin")).status_code == 200
        assert (await bob.get("/messages?conversation=room&head=pins")).json() == []
        assert refused(await bob.get("/messages?conversation=nobody&head=pins")) == (404, "unknown_name")
        for head in ("pinsX", "Xpins", "", "pins\n"):
            assert refused(await bob.get("/messages", params={"head": head})) == (422, "malformed")


async def test_what_people_say_of_a_message_has_the_shape_that_is_described(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob:
        asked = (await ada.post("/polls", json={"question": "lunch?", "options": ["pizza", "soup"]})).json()["id"]
        for path, given in (("vote", {"option": 2}), ("reaction", {"reaction": "+1"}), ("pin", None)):
            assert (await bob.put(f"/messages/{asked}/{path}", json=given)).is_success
        described = (await ada.get("/openapi.json")).json()["components"]["schemas"]["MessageOut"]
        shown = (await ada.get(f"/messages/{asked}")).json()
        jsonschema_rs.validate(described, shown)
        for name in LISTS:
            [said], shape = shown[name], described["properties"][name]["items"]
            assert {*said} <= {*shape["properties"]}
            assert "title" not in shape, "two of one title are none to generators of clients"


async def test_no_value_that_a_call_takes_by_itself_is_one_that_it_refuses(people: Served) -> None:
    """Generators of clients send defaults as they stand in the description."""
    async with people.client("ada") as ada:
        described = (await ada.get("/openapi.json")).json()
    for calls in described["paths"].values():
        for call in calls.values():
            for one in call.get("parameters", ()):
                if "default" in one["schema"]:
                    jsonschema_rs.validate(one["schema"], one["schema"]["default"])
