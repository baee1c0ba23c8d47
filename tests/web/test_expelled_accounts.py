"""Accounts of a gateway that are expelled from the network, and what accounts are told about members and invites."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed

from p2pchat import TCPPeer, parse_invite
from p2pchat.web import WebSettings
from p2pchat.web.error_responses import Unauthorized
from tests.deadlines import until
from tests.web.chat_client import chatting, connect
from tests.web.conftest import Served, serving
from tests.web.socketio_client import socket, talking


class Network(NamedTuple):
    """ada, who founded the network, and a gateway that joined it, with the accounts zoe and yan."""

    ada: TCPPeer
    served: Served


@asynccontextmanager
async def network(homes: Path, settings: WebSettings | None = None) -> AsyncIterator[Network]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2PCHAT_HOME", str(homes / "ada"))
        async with TCPPeer(0, name="ada", db="memory://") as ada:
            patch.setenv("P2PCHAT_HOME", str(homes / "gate"))
            async with serving(settings, invite=await ada.make_invite()) as served:
                await ada.wait_user("gate", timeout=60)
                await served.register("zoe", "yan")
                for name in ("zoe", "yan"):
                    receipt = await served.account(name).user.broadcast("hello")
                    await receipt.delivered(by=ada.me, timeout=60)
                yield Network(ada, served)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with network(tmp_path) as net:
        yield net


async def status(served: Served, name: str) -> tuple[int, str]:
    """Return status and code of a call by an account."""
    async with served.client(name) as http:
        answer = await http.get("/v1/users")
        return answer.status_code, "" if answer.is_success else answer.json()["code"]


async def expelled(served: Served, name: str, yes: bool = True) -> None:
    account = served.account(name)
    await until(lambda: served.gateway.accounts.is_expelled(account) is yes, f"{name} is expelled: {yes}")


async def do(served: Served, name: str, **command: object) -> tuple[int, Any]:
    """Return the status of a command over REST, and its rows or the error."""
    async with served.client(name) as http:
        answer = await http.post("/v1/do", json=command)
        found = answer.json()
        return answer.status_code, found["rows"] if answer.is_success else found


async def test_an_expelled_account_is_refused_until_a_pardon(net: Network) -> None:
    ada, served = net
    assert await status(served, "zoe") == (200, "")
    await ada.people.expel("zoe")
    await expelled(served, "zoe")
    assert await status(served, "zoe") == (403, "expelled")
    assert await status(served, "yan") == (200, "")
    async with connect(served.ws_url + "/lines") as lines:
        await lines.send(json.dumps({"token": served.tokens["zoe"]}))
        assert json.loads(await lines.recv())["code"] == "expelled"
        with pytest.raises(ConnectionClosed):
            await lines.recv()
        assert (lines.close_code, lines.close_reason) == (1008, "expelled")
    await ada.people.pardon("zoe")
    await expelled(served, "zoe", yes=False)
    assert await status(served, "zoe") == (200, "")
    receipt = await served.account("zoe").user.broadcast("back again")
    await receipt.delivered(by=ada.me, timeout=60)


async def test_neither_a_name_nor_a_link_lets_an_expelled_account_in(tmp_path: Path) -> None:
    async with network(tmp_path, WebSettings(token_timeout=60.0, trust_loopback=True)) as (ada, served):
        account = served.account("zoe")
        ticket = served.gateway.file_links.ticket(account, "A.1", 0)
        assert served.gateway.file_links.account_of(ticket, "A.1", 0) is account
        await ada.people.expel("zoe")
        await expelled(served, "zoe")
        async with served.client() as http:
            answer = await http.get("/v1/users", params={"as": "zoe"})
            assert (answer.status_code, answer.json()["code"]) == (403, "expelled")
        with pytest.raises(Unauthorized):
            served.gateway.file_links.account_of(ticket, "A.1", 0)


async def test_the_sessions_of_an_expelled_account_end(net: Network) -> None:
    ada, served = net
    async with chatting(served, "zoe") as zoe, chatting(served, "yan") as yan, talking(served, "zoe") as phone:
        await ada.people.expel("zoe")
        await zoe.socket.wait_closed()
        assert (zoe.socket.close_code, zoe.socket.close_reason) == (1008, "expelled")
        assert (await phone.hear("error"))["code"] == "expelled"
        assert served.account("zoe").sessions == 0 and served.account("yan").sessions == 1
        await yan.accepted("still here")


async def test_the_operator_of_a_founding_gateway_expels_an_account(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2PCHAT_HOME", str(tmp_path))
        async with serving() as served:
            await served.register("zoe", "yan")
            await served.peer.people.expel("zoe")
            assert await status(served, "zoe") == (403, "expelled")
            assert await status(served, "yan") == (200, "")
            assert [(one.role, [user.label for user in one.users]) for one in served.peer.people.members()] == [
                ("founder", ["gate", "yan"]),
                ("expelled", ["zoe"]),
            ]
            await served.peer.people.pardon("zoe")
            assert await status(served, "zoe") == (200, "")


async def test_accounts_of_an_expelled_gateway_stay_accounts(net: Network) -> None:
    """Nobody out there hears them, and they read so; what is stored here stays readable."""
    ada, served = net
    zoe = served.account("zoe")
    [hello] = [post for post in await zoe.user.history("room") if post.sender.is_me]
    await ada.people.expel("gate")
    await until(lambda: served.peer.people.is_expelled(served.peer.me), "the gateway knows that it is out")
    assert await status(served, "zoe") == (200, "")
    async with served.client() as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "expelled")
    for to in ("room", "yan"):
        code, found = await do(served, "zoe", do="send", to=to, text="does anybody hear me?")
        assert (code, found["code"]) == (503, "expelled")
    async with served.client("zoe") as http:
        for answer in (
            await http.post("/v1/files", params={"filename": "a.txt"}, content=b"plan"),
            await http.post("/v1/groups", json={"name": "ops", "members": []}),
            await http.put(f"/v1/messages/{hello.id}/reaction", json={"reaction": "+1"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "expelled")
    assert not [post for post in await zoe.user.history("room") if post.text == "does anybody hear me?"]


async def test_an_expelled_account_stays_out_when_its_gateway_is_expelled_too(net: Network) -> None:
    ada, served = net
    await ada.people.expel("zoe")
    await expelled(served, "zoe")
    await ada.people.expel("gate")
    await until(lambda: served.peer.people.is_expelled(served.peer.me), "the gateway knows that it is out")
    assert await status(served, "zoe") == (403, "expelled")
    assert await status(served, "yan") == (200, "")


async def test_an_account_that_is_out_with_its_gateway_is_kept_out_alone(net: Network) -> None:
    ada, served = net
    await ada.people.expel("gate")
    await until(lambda: not ada.links(), "the gateway is out")
    with pytest.raises(ValueError, match="zoe is out with gate: --only keeps them out when gate is let back in"):
        await ada.people.expel("zoe")
    await ada.people.expel("zoe", only=True)
    with pytest.raises(ValueError, match="zoe is expelled already"):
        await ada.people.expel("zoe", only=True)
    await ada.people.pardon("gate")
    await expelled(served, "zoe")
    await until(lambda: not served.peer.people.is_expelled(served.peer.me), "the gateway is in again")
    assert await status(served, "zoe") == (403, "expelled")
    assert await status(served, "yan") == (200, "")


async def test_every_way_to_read_marks_what_came_from_the_expelled(net: Network) -> None:
    """What was edited may have been edited since, so it needs no peer that has not heard of it yet."""
    ada, served = net
    zoe = served.account("zoe").user
    since = (await served.account("yan").user.broadcast("kept")).id
    written = await zoe.broadcast("some words")
    await (await zoe.message(written.id)).edit("other words")
    await ada.people.expel("zoe")
    await expelled(served, "zoe")

    def marks(rows: list[Any]) -> dict[str, bool]:
        return {row.get("content") or row["text"]: row.get("expelled", False) for row in rows}

    shown = {"kept": False, "other words": True}
    async with served.client("yan") as http:
        assert marks((await http.get("/messages", params={"after": since})).json()) == {"other words": True}
        assert marks((await http.get("/messages", params={"limit": 2})).json()) == shown
        assert marks([(await http.get(f"/messages/{written.id}")).json()]) == {"other words": True}
        assert marks((await http.get("/search", params={"q": "words"})).json()) == {"other words": True}
    assert marks((await do(served, "yan", do="history", to="room", limit=2))[1]) == shown
    async with chatting(served, "yan", f"?since={since}") as yan:
        assert marks([await yan.message()]) == {"other words": True}
    async with socket(served.url) as phone:
        await phone.say("register", {"userId": "yan", "authToken": served.tokens["yan"], "since": since})
        assert marks([await phone.hear("newMessage")]) == {"other words": True}


async def test_accounts_see_members_and_decide_nothing(net: Network) -> None:
    _, served = net
    code, rows = await do(served, "zoe", do="members")
    assert code == 200
    assert [(row["user"], row["role"], row["me"]) for row in rows] == [
        ("ada", "founder", False),
        ("gate", "member", True),
    ]
    assert rows[1]["users"] == ["gate", "yan", "zoe"]
    code, found = await do(served, "zoe", do="members", to="yan")
    assert (code, found["code"]) == (400, "usage")
    for command in ("admin", "unadmin"):  # of a group an account may
        code, found = await do(served, "zoe", do=command, user="yan")
        assert (code, found["code"]) == (403, "forbidden") and "only the operator" in found["text"]
    for command in ("expel", "pardon"):
        code, found = await do(served, "zoe", do=command, user="yan")
        assert (code, found["code"]) == (403, "forbidden")
    for asked in ({"do": "invites"}, {"do": "revoke", "invite": "00000000"}):
        code, found = await do(served, "zoe", **asked)
        assert (code, found["code"]) == (403, "forbidden")


async def test_changes_of_members_are_told_who_asks_for_them(net: Network) -> None:
    ada, served = net
    async with chatting(served, "yan", "?events=members") as yan:
        await ada.people.expel("zoe")
        assert await yan.next("member") == {"type": "member", "user": "zoe", "by": "ada", "change": "expelled"}


async def test_an_invite_of_an_account_admits_one_person(tmp_path: Path) -> None:
    async with network(tmp_path, WebSettings(token_timeout=60.0, invites="all")) as (ada, served):
        code, found = await do(served, "zoe", do="invite")
        assert (code, found["code"]) == (403, "invite_error") and "founder" in found["text"]
        await ada.people.make_admin("gate")
        await until(lambda: served.peer.people.find(served.peer.me).role == "admin", "the gateway may invite")
        code, [row] = await do(served, "zoe", do="invite")
        assert code == 200 and parse_invite(row["invite"]).invitation.uses == row["uses"] == 1
        for terms in ({"uses": 2}, {"days": 8.0}):
            code, found = await do(served, "zoe", do="invite", **terms)
            assert (code, found["code"]) == (403, "forbidden")
