"""An act that changes nothing is refused at each door, and writes nothing: one rule, asked by all of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pchat import HostedUser, P2PChatError, TCPPeer
from p2pchat.commands.exit_codes import DONE
from p2pchat.kinds import CALLS
from tests.commands.session_output import Shown, open_session
from tests.web.conftest import Served

Act = Callable[[str, str, dict[str, Any]], Awaitable[bool]]  # a call, the id of its message, its fields; was it done?
# What each act is given, and what is typed for it behind the number of its message.
GIVEN: dict[str, tuple[dict[str, Any], str]] = {
    "edit": ({"text": "at noon"}, "at noon"),
    "delete": ({}, "--yes"),
    "react": ({"reaction": "+1"}, "+1"),
    "pin": ({}, ""),
    "unpin": ({}, ""),
    "vote": ({"option": 2}, "2"),
    "close": ({}, ""),
}
DOORS = ["library", "terminal", "json", "rest", "do"]


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "out")
    yield shown
    shown.raw.close()


def by_library(user: HostedUser | TCPPeer) -> Act:
    async def act(call: str, id: str, given: dict[str, Any]) -> bool:
        try:
            await getattr(user, CALLS[call].method or call)(id, *given.values())
        except (ValueError, P2PChatError):
            return False
        return True

    return act


def by_session(served: Served, shown: Shown, *, as_json: bool) -> Act:
    async def act(call: str, id: str, given: dict[str, Any]) -> bool:
        session = open_session(served.peer, shown, as_json=as_json)
        typed = f"/{call} 1 {GIVEN[call][1]}" if call != "close" else "/poll close"
        line = json.dumps({"do": call, "id": id, **given}) if as_json else typed
        await session.execute([b"" if as_json else b"/history 1", line.encode()])
        return session.exit_code == DONE

    return act


def by_http(served: Served, *, rest: bool) -> Act:
    async def act(call: str, id: str, given: dict[str, Any]) -> bool:
        method, _, path = CALLS[call].rest.partition(" ")
        async with served.client("zoe") as http:
            if rest:
                fields = {"content": given["text"]} if "text" in given else given
                url = f"/v1/messages/{id}{path and '/'}{path}"
                answer = await http.request(method, url, json=fields or None)
            else:
                answer = await http.post("/v1/do", json={"do": call, "id": id, **given})
        assert answer.status_code < 500, answer.text
        return answer.is_success

    return act


@pytest.mark.parametrize("call", sorted(GIVEN))
@pytest.mark.parametrize("door", DOORS)
async def test_an_act_that_changes_nothing_is_refused_at_each_door(
    served: Served, shown: Shown, door: str, call: str
) -> None:
    await served.register("zoe")
    is_hosted = door in ("rest", "do")
    user: HostedUser | TCPPeer = served.account("zoe").user if is_hosted else served.peer
    act = {
        "library": by_library(user),
        "terminal": by_session(served, shown, as_json=False),
        "json": by_session(served, shown, as_json=True),
        "rest": by_http(served, rest=True),
        "do": by_http(served, rest=False),
    }[door]
    asked = await (
        user.poll("room", "lunch?", ["pizza", "soup"]) if call in ("vote", "close") else user.broadcast("hi")
    )
    if call == "unpin":
        await user.pin(asked.id)

    async def count() -> int:
        disk = served.peer._require_running().disk
        await user.message(asked.id)  # all that was accepted is stored
        return await disk.read(lambda: len(disk.storage.places(0, 1000)))

    before = await count()
    assert await act(call, asked.id, GIVEN[call][0])
    assert await count() == before + 1
    for _ in range(2):
        assert not await act(call, asked.id, GIVEN[call][0])
    assert await count() == before + 1


def test_the_walk_has_each_act_on_a_message() -> None:
    assert GIVEN.keys() == {name for name, call in CALLS.items() if call.fields.startswith("id:message")}
