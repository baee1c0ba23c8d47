"""A break, with real processes: the page, `p2pchat client` and a socket lose nothing that became of messages."""

from __future__ import annotations

import json

import httpx
import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import expect

from tests.web.browser import ON_STAGE, Scene, becomes
from tests.web.chat_client import connect
from tests.web.processes import p2pchat, running

pytestmark = ON_STAGE
BEHIND = 60  # messages after the one that is changed: more than a page loads when it comes back


async def test_what_is_changed_during_a_break_is_changed_for_all_who_come_back(scene: Scene) -> None:
    """By somebody on another peer, and so also what comes to the gateway only when it is back."""
    zoe, terry, gateway = scene.zoe, scene.terry, scene.gateway
    await zoe.go("Room")
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        token = (await http.post("/v1/accounts", json={"name": "cli"})).json()["token"]
    (gateway.home / "token").write_text(token)
    bearer = {"Authorization": f"Bearer {token}"}
    chat = f"{gateway.url.replace('http', 'ws')}chat"
    words = p2pchat("client", chat, "--token", str(gateway.home / "token"), "--json")
    async with running(*words, home=gateway.home) as client:
        await client.until("connected as cli")
        secret, tpyo = await terry.send("the password is hunter2"), await terry.send("a tpyo")
        for number in range(BEHIND):
            await terry.send(f"line {number}")
        last = (await terry.send("the last before the break"))["id"]
        await zoe.sees("the last before the break")
        await client.until("the last before the break")
        await expect(zoe.message("the password is hunter2")).to_have_count(1)
        async with gateway.away():
            for act in ({"do": "delete", "id": secret["id"]}, {"do": "edit", "id": tpyo["id"], "text": "a typo"}):
                terry.say(**act, ref=act["do"])
                await terry.next("answer", ref=act["do"])
            terry.say(do="pin", id=tpyo["id"], ref="pin")
            await terry.next("answer", ref="pin")
        await expect(zoe.message("the password is hunter2")).to_have_count(0)
        await expect(zoe.message("a typo")).to_have_count(1)
        printed = [json.loads(await client.until(f'"type":"{word}"')) for word in ("deleted", "edited", "pinned")]
        assert [frame["id"] for frame in printed] == [secret["id"], tpyo["id"], tpyo["id"]]
    async with connect(f"{chat}?since={last}&events=changes", additional_headers=bearer) as socket:
        frames = [json.loads(await socket.recv()) for _ in range(4)]
    assert [frame["type"] for frame in frames] == ["deleted", "edited", "pinned", "resumed"]
    assert [frame["entry_id"] for frame in frames[:3]] == [frame["entry_id"] for frame in printed]


async def test_a_page_that_got_nothing_live_continues_where_it_was_opened(scene: Scene) -> None:
    zoe, terry, gateway = scene.zoe, scene.terry, scene.gateway
    secret = await terry.send("the key is under the mat")
    for number in range(BEHIND):
        await terry.send(f"more {number}")
    await zoe.go("Room")
    await zoe.sees(f"more {BEHIND - 1}")
    tab = await zoe.tab()
    await tab.go("Room")
    await tab.sees(f"more {BEHIND - 1}")
    key = tab.message("the key is under the mat")

    async def looked_up() -> int:
        await tab.page.locator(".timeline").evaluate("(box) => (box.scrollTop = 0)")
        return await key.count()

    await becomes(looked_up, 1)
    async with gateway.away():
        terry.say(do="delete", id=secret["id"], ref="gone")
        await terry.next("answer", ref="gone")
    await expect(key).to_have_count(0)
    await tab.page.close()
