"""Blocked people: a walk over all doors of a gateway, with an account that blocks one of it and one of another peer.

Whoever is blocked writes, votes, reacts, pins, sends files, makes groups and types. No door shows any of it to who
blocks them, whom they see as offline; others see everything.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pchat import Message, Sent, TCPPeer
from p2pchat.messaging.local_user import LocalUser
from p2pchat.testing import mesh
from p2pchat.web import WebSettings, create_app
from tests.deadlines import until
from tests.web.chat_client import Chatter, chatting
from tests.web.conftest import Served, listening
from tests.web.processes import Program, p2pchat, running
from tests.web.socketio_client import SocketUser, talking
from tests.web.test_event_socket import Lines, calling
from tests.web.test_event_stream import Events, streaming

SECRET = "zq"  # in each text that somebody writes who is blocked
FENCE = "written after all of that"
ALL = "?events=all"
Door = Callable[[], Awaitable[str]]  # returns all that it showed until FENCE


@dataclass
class Scene:
    """A gateway with accounts, and rem, a peer elsewhere.

    Attributes:
        before: The ids of what was written before the block.
        hidden: The ids of what nobody is shown who blocks its writers.
        direct: Those of these that went to cyd alone, by their writers.
        edited: Those of `before` that are hidden too, by their writers.
    """

    served: Served
    rem: TCPPeer
    before: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    direct: dict[str, str] = field(default_factory=dict)
    edited: dict[str, str] = field(default_factory=dict)

    def user(self, name: str) -> LocalUser:
        return self.rem if name == "rem" else self.served.account(name).user

    async def seen_by(self, user: LocalUser, id: str) -> Message | Sent:
        """Return a message once it has come to a user."""
        found: list[Message | Sent] = []

        async def has_come() -> bool:
            found[:] = [post for post in await user.history() if post.id == id]
            return bool(found)

        while not await has_come():
            pass
        return found[0]

    async def act(self, name: str) -> None:
        """Do everything that shows somewhere, as somebody who is blocked; return when the gateway has it."""
        user, ada = self.user(name), self.user("ada")
        poll, text = self.before["poll"], self.before["text"]
        await self.seen_by(user, poll)
        await self.seen_by(user, text)
        mine = (await self.seen_by(user, self.before[name])).id
        group = await user.create_group(f"{SECRET}{name}", [user.user("ada"), user.user("cyd")])
        user.typing("room")
        direct = await user.send("cyd", f"{SECRET} direct")
        written = [
            await user.send("room", f"{SECRET} room"),
            await user.send("room", f"{SECRET} file", files=[(f"{SECRET}.bin", name.encode())]),
            await user.send("#ops", f"{SECRET} ops"),
            await user.send(group, f"{SECRET} group"),
            await user.poll("room", f"{SECRET}?", [f"{SECRET}1", f"{SECRET}2"]),
            await user.edit(mine, f"{SECRET} edited"),
            await user.react(text, SECRET),
            await user.vote(poll, 1),
            await user.pin(text if name == "bob" else self.before["ops"]),
            await user.pin(mine),
            await user.send("room", f"{SECRET} last"),
        ]
        for receipt in written[:5] + written[-1:]:
            shown = await self.seen_by(ada, receipt.id)
        await ada.react(shown, "ok")  # an act of somebody else, on what is hidden
        await ada.send(await self.group(ada, group.key), f"{SECRET} by ada")
        file = await ask(
            self, "ada", get(f"/v1/files/{written[1].id}/0?wait=30")
        )  # which all hear of who are in the room
        assert file == name.encode()
        self.direct[name] = direct.id
        self.hidden += [direct.id, *(one.id for one in written[:5]), shown.id]
        self.edited[name] = mine

    async def group(self, user: LocalUser, key: str) -> Any:
        """Return a group once it has come to a user."""
        await until(lambda: key in {one.key for one in user.groups()}, "the group")
        return user.conversation(key)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with (
        mesh("gate", "rem") as net,
        listening(app := create_app(net.peers[0], WebSettings(trust_loopback=True))) as port,
    ):
        served = Served(net.peers[0], app, port)
        await served.register("ada", "bob", "cyd")
        found = Scene(served, net.peers[1])
        ada, rem = found.user("ada"), found.rem
        await until(lambda: {"ada", "bob", "cyd"} <= {user.label for user in rem.users()}, "the accounts to be known")
        ops = await ada.create_group("ops", [ada.user(name) for name in ("bob", "cyd", "rem")])
        found.before["ops"] = (await ada.send(ops, "welcome")).id
        found.before["text"] = (await ada.send("room", "hello")).id
        found.before["poll"] = (await ada.poll("room", "Lunch?", ["pizza", "soup"])).id
        for name in ("bob", "rem"):
            sent = await found.user(name).send("room", "before")
            found.before[name] = sent.id
            await found.seen_by(ada, sent.id)
            await found.group(found.user(name), ops.key)
        yield found
        await app.state.gateway.aclose()


# ---- doors that stay open


async def chat_until(chatter: Chatter) -> str:
    shown = [await chatter.message()]
    while shown[-1]["content"] != FENCE:
        shown.append(await chatter.message())
    return json.dumps([shown, chatter._kept])


async def stream_until(events: Events) -> str:
    shown = [await events.next()]
    while shown[-1].get("content") != FENCE:
        shown.append(await events.next())
    return json.dumps(shown)


async def socket_until(user: SocketUser) -> str:
    await user.hear("newMessage", lambda said: said["content"] == FENCE)
    return json.dumps(user.told)


async def lines_until(lines: Lines) -> str:
    shown: list[dict[str, Any]] = []
    while not shown or shown[-1].get("text") != FENCE:
        shown.append(json.loads(await lines._socket.recv()))
    return json.dumps(shown)


async def program_until(program: Program) -> str:
    await program.until(FENCE)
    return "\n".join(program.shown)


# ---- doors that are asked


def get(path: str) -> dict[str, Any]:
    return {"method": "GET", "url": path}


def do(name: str, **fields: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "/v1/do", "json": {"do": name, **fields}}


ASKED = (
    get("/v1/messages"), get("/v1/messages?user1=cyd&user2=bob"), get("/v1/messages?conversation=rem"),
    get("/v1/messages?conversation=%23ops"), get("/v1/messages?head=pins"), get(f"/v1/search?q={SECRET}"),
    get("/v1/search?q=from:bob"), get("/v1/search?q=from:rem"), get("/v1/conversations"), get("/v1/groups"),
    get("/v1/messages/TEXT"), get("/v1/messages/POLL"), get("/v1/users"),
    do("history"), do("history", to="bob"), do("search", words=SECRET), do("list"), do("latest"), do("pins", to="room"),
    do("unread", to="room"), do("unread", to="bob"), do("unread", to="#ops"), do("who"), do("whois", user="bob"),
)  # fmt: skip


async def ask(there: Scene, name: str, request: dict[str, Any]) -> Any:
    """Return the answer to a request; no caller is refused."""
    async with there.served.client(name) as http:
        url = request["url"].replace("TEXT", there.before["text"]).replace("POLL", there.before["poll"])
        answer = await http.request(**{**request, "url": url})
    assert answer.status_code == 200, (request, answer.text)
    return answer.json() if answer.headers["content-type"] == "application/json" else answer.content


async def hear_hidden(
    name: str, chat: Chatter, stream: Events, socket: SocketUser, lines: Lines, *, blocked: bool
) -> None:
    """Wait until all open connections of an account heard that it blocks somebody, or does so no longer."""
    said = {"ignored": blocked, "blocked": blocked}
    assert await chat.next("hidden") == {"type": "hidden", "user": name, **said}
    while await stream.next() != {"type": "hidden", "user": name, **said}:
        pass
    await socket.hear("userHidden", lambda told: told == {"userId": name, **said})
    await lines.next("hidden", user=name, **said)


async def statuses(there: Scene, name: str, of: str) -> set[str]:
    """Return how one account sees another person at all doors that say so."""
    found = {row["status"] for row in await ask(there, name, get("/v1/users")) if row["user"] == of}
    for asked in (do("who"), do("whois", user=of)):
        found |= {row["status"] for row in (await ask(there, name, asked))["rows"] if row["user"] == of}
    return found


async def test_no_door_shows_anything_of_whom_an_account_blocks(tmp_path: Path) -> None:
    async with scene() as there, AsyncExitStack() as stack:
        served, enter = there.served, stack.enter_async_context
        ada, cyd = there.user("ada"), there.user("cyd")
        client = await enter(
            running(*p2pchat("client", f"{served.ws_url}/chat", "--user", "cyd", "--plain"), home=tmp_path)
        )
        await client.until("-- connected as cyd")
        chat, stream = await enter(chatting(served, "cyd", ALL)), await enter(streaming(served, "cyd", ALL))
        socket, lines = await enter(talking(served, "cyd")), await enter(calling(served, "cyd"))
        bob, rem = await enter(chatting(served, "bob", ALL)), there.rem
        await until(lambda: rem.user("cyd").status == "online", "cyd to be online")
        open_doors: dict[str, Door] = {
            "chat": lambda: chat_until(chat), "stream": lambda: stream_until(stream),
            "socket.io": lambda: socket_until(socket), "lines": lambda: lines_until(lines),
            "client": lambda: program_until(client),
        }  # fmt: skip
        for name in ("bob", "rem"):
            await ask(there, "cyd", do("block", user=name))
            await hear_hidden(name, chat, stream, socket, lines, blocked=True)

        # each is away for the other, at once
        while (told := await bob.next("presence"))["user"] != "cyd" or told["presence"] != "offline":
            pass
        await until(lambda: rem.user("cyd").status == "offline", "cyd to seem away")
        assert await statuses(there, "bob", "cyd") == await statuses(there, "cyd", "bob") == {"offline"}
        assert await statuses(there, "cyd", "rem") == {"offline"}
        assert await statuses(there, "ada", "cyd") == {"online"}

        renamed = there.user("bob")
        for label in ("bobby", "bob"):
            await renamed.rename(label)
        cyd.typing("room")
        for name in ("cyd", "bob"):
            await ask(there, name, do("away", text=SECRET if name == "bob" else "tea"))
            await ask(there, name, do("back"))
        rem.set_presence("idle", SECRET)
        for name in ("bob", "rem"):
            await there.act(name)
        taken = await ada.send("cyd", "behind what is hidden")
        last = await ada.send("room", FENCE)
        for name, shown in open_doors.items():
            said = await shown()
            assert SECRET not in said and not [id for id in there.hidden if id in said], name
            assert "bobby" not in said, name
        for request in ASKED:
            said = json.dumps(await ask(there, "cyd", request))
            assert SECRET not in said.replace(f"/search?q={SECRET}", ""), request
        async with served.client("cyd") as http:
            for id in (*there.hidden, *there.edited.values()):
                for path in (f"/v1/messages/{id}", f"/v1/files/{id}/0"):
                    assert (await http.get(path)).status_code == 404
        poll = await ask(there, "cyd", get("/v1/messages/POLL"))
        assert not poll.get("votes") and (await ask(there, "ada", get("/v1/messages/POLL")))["votes"]
        text = await ask(there, "cyd", get("/v1/messages/TEXT"))
        assert not text.get("pinned") and not text.get("reactions")
        assert not bob.waiting("typing")

        talks = await ask(there, "cyd", get("/v1/conversations"))
        assert {talk["name"] for talk in talks} == {"room", "ada", "ops"}

        # after a break, also where the room is read for several at once
        for name in ("ada", "cyd", "ada"):
            async with chatting(served, name, f"?since={there.before['poll']}@{'A' * 32}") as moved:
                assert (SECRET in await chat_until(moved)) == (name == "ada")
        since = there.before["poll"]
        async with (
            chatting(served, "cyd", f"{ALL}&since={since}") as again,
            streaming(served, "cyd", f"{ALL}&since={since}") as again_stream,
            calling(served, "cyd", since) as again_lines,
        ):
            for said in (await chat_until(again), await stream_until(again_stream), await lines_until(again_lines)):
                assert SECRET not in said and not [id for id in there.hidden if id in said]

        # no receipt; to a writer elsewhere what is not direct is delivered once the gateway has it
        cyd.mark_read(await there.seen_by(cyd, last.id))
        await last.read(by="cyd")
        await taken.delivered(by="cyd")
        assert "cyd" not in {frame["user"] for frame in bob.waiting("presence")}
        for name in ("bob", "rem"):
            user = there.user(name)
            for post in [post for post in await user.history() if SECRET in post.text and isinstance(post, Sent)]:
                receipt = await user.receipt(post.id)
                has_it = {one.label for one in (*receipt.delivered_to, *receipt.files_delivered_to)}
                assert "cyd" not in {one.label for one in receipt.read_by}, post.text
                assert "cyd" not in has_it or (name == "rem" and post.conversation.kind != "dm"), (name, post.text)

        # until it ends
        for name in ("bob", "rem"):
            await ask(there, "cyd", do("unblock", user=name))
            await hear_hidden(name, chat, stream, socket, lines, blocked=False)
        while (told := await bob.next("presence"))["user"] != "cyd" or told["presence"] != "online":
            pass
        await until(lambda: rem.user("cyd").status == "online", "cyd to be back")
        direct = await rem.receipt(there.direct["rem"])
        while (await chat.message())["id"] != direct.id:
            pass
        await direct.delivered(by="cyd")
        known = {post["id"] for post in await ask(there, "cyd", get("/v1/messages?limit=1000"))}
        assert known.issuperset((*there.hidden, *there.edited.values()))
        for name in ("bob", "rem"):
            assert f"{SECRET}{name}" in json.dumps(await ask(there, "cyd", get("/v1/groups")))
            await there.user(name).send("cyd", f"again by {name}")
            while (await chat.message())["content"] != f"again by {name}":
                pass
