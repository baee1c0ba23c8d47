"""`p2pchat web --safe`: a message is answered once a second gateway has it, or the answer says that none has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pchat.messaging.users import id_of
from p2pchat.web import WebSettings
from p2pchat.web.cluster.living_gateways import hosts_of
from tests.deadlines import WAIT, until, within
from tests.long.web.cluster.test_moving_sessions import Doors, doors
from tests.web.chat_client import chatting
from tests.web.cluster.doors import KeepingServer, cluster_of
from tests.web.cluster.site import Gate, Site, missing, site
from tests.web.socketio_client import socket
from tests.web.test_event_socket import calling

with_site = pytest.mark.skipif(bool(missing()), reason=missing())


# ---- processes


async def places(one: Site, name: str) -> list[Gate]:
    """Return the gateways of a cluster: the home of a user, the standby, and the others."""
    async with one.gates[0].caller() as http:
        token = await one.gates[0].token("asker")
        found = await http.get("/users", headers={"Authorization": f"Bearer {token}"})
    ids = {row["name"]: row["id"] for row in found.json()}
    gates = {ids[gate.name]: gate for gate in one.gates if gate.is_running}
    first = [gates.pop(id) for id in hosts_of(id_of(ids[name]), list(gates))]
    return [*first, *gates.values()]


async def send(gate: Gate, token: str, text: str, key: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
    async with within(WAIT, f"an answer of {gate.name}"), gate.caller() as http:
        while True:
            answer = await http.post("/messages", headers=headers, json={"to": "bob", "content": text})
            if answer.status_code != 503:
                break
            await asyncio.sleep(0.1)  # poll: the client is told to try again
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def send_until_safe(gate: Gate, token: str) -> None:
    async with within(WAIT, "a first message that the standby has"):
        while not (await send(gate, token, "first"))["safe"]:
            await asyncio.sleep(0.1)  # poll: other processes link


async def texts(gate: Gate, token: str) -> list[str]:
    async with gate.caller() as http:
        headers = {"Authorization": f"Bearer {token}"}
        found = await http.get("/messages", headers=headers, params={"conversation": "bob"})
    assert found.status_code == 200, found.text
    return [row["content"] for row in found.json()]


@with_site
async def test_a_safe_answer_means_that_the_standby_has_the_message(tmp_path: Path) -> None:
    """None is safe while the standby hangs; then one is, and the standby has it when the home is killed."""
    async with site(tmp_path, words=("--safe",)) as one:
        tokens = await one.accounts(["ada", "bob"])
        home, standby, third = await places(one, "ada")
        await send_until_safe(home, tokens["ada"])
        standby.pause()
        unsafe = await send(home, tokens["ada"], "once", "key1")
        standby.resume()
        assert unsafe["safe"] is False
        async with within(WAIT, "the message at the standby"):
            while not (again := await send(home, tokens["ada"], "once", "key1"))["safe"]:
                assert again["id"] == unsafe["id"]
        assert (again["id"], again["safe"]) == (unsafe["id"], True)
        elsewhere = await send(third, tokens["ada"], "once", "key1")
        assert elsewhere["safe"] is True
        async with within(WAIT, "one message of two"):  # the third may write it anew, until it has what came before
            while (await texts(standby, tokens["ada"])).count("once") != 1:
                await asyncio.sleep(0.1)  # poll: other processes

        answer = await send(home, tokens["ada"], "the last words")
        home.kill()
        assert answer["safe"] is True
        assert (await texts(standby, tokens["ada"]))[-1] == "the last words"
        answer = await send(third, tokens["ada"], "at another door")  # it has the standby left
        assert answer["safe"] is True


# ---- every door

SAFE = WebSettings(safe=True, safe_within=WAIT)


@asynccontextmanager
async def linked(engine: KeepingServer, settings: WebSettings | None) -> AsyncIterator[Doors]:
    """Two gateways that know that both live and host bob and zoe."""
    async with doors(engine, settings=settings) as both:
        gateways = [both.one.gateway, both.two.gateway]
        await until(lambda: all(len(cluster_of(one).living.all) == 2 for one in gateways), "two living gateways")
        yield both


async def test_every_door_says_whether_a_message_is_safe(engine: KeepingServer) -> None:
    async with linked(engine, SAFE) as both:
        token, message = both.one.tokens["bob"], {"to": "zoe", "content": "hi"}
        async with both.one.client("bob") as http:
            assert (await http.post("/messages", json=message)).json()["safe"] is True
        async with chatting(both.one, "bob") as bob:
            await bob.say({"type": "message", "to": "zoe", "text": "hi", "ref": 7})
            answer = await bob.answer()
            assert (answer["ref"], answer.get("safe")) == (7, True), answer
        async with calling(both.one, "bob") as lines:
            for _ in range(2):
                await lines.say(do="send", to="zoe", text="hi", ref="7", key="k")
                sent = await lines.next("sent")
                assert (sent["ref"], sent["safe"]) == ("7", True)
        async with socket(both.one.url) as user:
            await user.say("register", {"userId": "bob", "authToken": token})
            answer = await user.say("privateMessage", message)
            assert (answer["status"], answer["safe"]) == ("ok", True)


async def test_without_another_living_gateway_nothing_is_safe_and_nothing_waits(engine: KeepingServer) -> None:
    async with linked(engine, SAFE) as both:
        await both.two.gateway.aclose()
        living = cluster_of(both.one.gateway).living
        await until(lambda: len(living.all) == 1, "the other gateway to leave")
        async with calling(both.one, "bob") as lines:
            await lines.say(do="send", to="zoe", text="hi", ref="7")
            assert (await lines.next("sent"))["safe"] is False
        async with both.one.client("bob") as http:
            assert (await http.post("/messages", json={"to": "zoe", "content": "hi"})).json()["safe"] is False
