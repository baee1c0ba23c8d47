"""An act that changes nothing succeeds at each door, and writes nothing: one rule, asked by all of them.

So whoever got no answer may say it again.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from p2pchat import HostedUser, TCPPeer
from p2pchat.commands.exit_codes import DONE
from p2pchat.kinds import CALLS
from tests.commands.session_output import Shown, open_session
from tests.web.conftest import Served


class Case(NamedTuple):
    """A call, what it is given, what is typed behind the number of its message, and the case that it takes back."""

    call: str
    given: dict[str, Any] = {}
    typed: str = ""
    back: str = ""


Act = Callable[[Case, str], Awaitable[bool]]  # on the message of an id; was it done?
CASES = {
    "edit": Case("edit", {"text": "at noon"}, "at noon"),
    "delete": Case("delete", {}, "--yes"),
    "react": Case("react", {"reaction": "+1"}, "+1"),
    "unreact": Case("react", {"reaction": ""}, back="react"),
    "pin": Case("pin"),
    "unpin": Case("unpin", back="pin"),
    "vote": Case("vote", {"option": 2}, "2"),
    "unvote": Case("vote", {"option": 0}, "0", back="vote"),
    "close": Case("close"),
}
DOORS = ["library", "terminal", "json", "rest", "do"]


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "out")
    yield shown
    shown.raw.close()


def by_library(user: HostedUser | TCPPeer) -> Act:
    async def act(case: Case, id: str) -> bool:
        await getattr(user, CALLS[case.call].method or case.call)(id, *case.given.values())
        return True

    return act


def by_session(served: Served, shown: Shown, *, as_json: bool) -> Act:
    async def act(case: Case, id: str) -> bool:
        session = open_session(served.peer, shown, as_json=as_json)
        line = json.dumps({"do": case.call, "id": id, **case.given}) if as_json else f"/{case.call} 1 {case.typed}"
        await session.execute([b"" if as_json else b"/history 1", line.encode()])
        return session.exit_code == DONE

    return act


def by_http(served: Served, *, rest: bool) -> Act:
    async def act(case: Case, id: str) -> bool:
        method, _, path = CALLS[case.call].rest.partition(" ")
        async with served.client("zoe") as http:
            if rest:
                fields = {"content": case.given["text"]} if "text" in case.given else case.given
                url = f"/v1/messages/{id}{path and '/'}{path}"
                answer = await http.request(method, url, json=fields or None)
            else:
                answer = await http.post("/v1/do", json={"do": case.call, "id": id, **case.given})
        assert answer.status_code < 500, answer.text
        return answer.is_success

    return act


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("door", DOORS)
async def test_an_act_that_changes_nothing_succeeds_at_each_door_and_writes_nothing(
    served: Served, shown: Shown, door: str, name: str
) -> None:
    if (door, name) == ("terminal", "close"):
        return  # `/poll close` names no poll: it ends the newest that is open
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
    case = CASES[name]
    asked = await (
        user.poll("room", "lunch?", ["pizza", "soup"]) if case.call in ("vote", "close") else user.broadcast("hi")
    )

    async def count() -> int:
        disk = served.peer._require_running().disk
        await user.message(asked.id)  # all that was accepted is stored
        return await disk.read(lambda: len(disk.storage.places(0, 1000)))

    if case.back:
        before = await count()
        assert await act(case, asked.id)
        assert await count() == before, "there was nothing to take back"
        await by_library(user)(CASES[case.back], asked.id)
    before = await count()
    assert await act(case, asked.id)
    assert await count() == before + 1
    for _ in range(2):
        assert await act(case, asked.id)
    assert await count() == before + 1


async def test_the_receipt_of_an_act_that_changes_nothing_waits_for_nobody(served: Served) -> None:
    """It is that of the message, which is here."""
    await served.register("zoe")
    zoe = served.account("zoe").user
    asked = await served.peer.broadcast("hi")
    assert (await zoe.pin(asked.id)).id != asked.id
    for receipt in (await zoe.pin(asked.id), await zoe.react(asked.id, "")):
        assert receipt.id == asked.id
        await receipt.delivered(timeout=60)


def test_the_walk_has_each_act_on_a_message() -> None:
    assert {case.call for case in CASES.values()} == {
        name for name, call in CALLS.items() if call.fields.startswith("id:message")
    }
