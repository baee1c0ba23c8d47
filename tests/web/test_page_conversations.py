"""The list of conversations, and what is told outside of it: one browser as wide as a desk, one as a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from tests.web.browser import CHROMIUM, Scene, opened

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine"),
    pytest.mark.asyncio(loop_scope="module"),
]
PHONE = {"width": 390, "height": 844}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    home, shots = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("page-pictures")
    async with opened(home, shots, viewport=PHONE) as scene:
        yield scene


async def test_a_phone_that_shows_the_list_marks_nothing_as_read(scene: Scene) -> None:
    yan, terry = scene.yan, scene.terry
    sent = await terry.send("while the list is in front")
    await yan.row("Room").get_by_text("1 unread").wait_for()
    await yan.page.evaluate("new Promise((done) => setTimeout(done, 200))")  # fires behind the page's own timers
    await yan.shot("phone-list-dark")
    await yan.page.reload()  # now the count is the gateway's, from what was marked as read
    await yan.row("Room").get_by_text("1 unread").wait_for()
    await yan.until("document.title.startsWith('(1)')")
    await yan.go("Room")
    assert (await terry.next("read", id=sent["id"]))["count"] == 1
    await yan.page.get_by_role("button", name="Back to the list").click()
    await yan.row("Room").wait_for()
    assert await yan.row("Room").get_by_text("unread").count() == 0
    await terry.send("and after a look at the room")
    await yan.row("Room").get_by_text("1 unread").wait_for()


async def test_the_peer_of_the_gateway_is_no_person_until_it_writes(scene: Scene) -> None:
    zoe = scene.zoe
    assert await zoe.row("gate").count() == 0
    await zoe.page.get_by_role("button", name="New group").click()
    dialog = zoe.page.get_by_role("dialog", name="New group")
    await dialog.get_by_role("checkbox", name="terry").wait_for()
    assert await dialog.get_by_role("checkbox", name="gate").count() == 0
    await zoe.page.keyboard.press("Escape")
    await zoe.row("Room").get_by_text("everyone, 3 here now").wait_for()
    await scene.gateway.send("zoe", "from the operator")
    await zoe.row("gate").get_by_text("1 unread").wait_for()


async def test_a_direct_conversation_says_who_can_read_it(scene: Scene) -> None:
    zoe = scene.zoe
    await zoe.go("yan")
    await zoe.page.locator(".welcome").get_by_text("whoever runs this gateway can").wait_for()
    assert await zoe.page.get_by_text("only you two").count() == 0


async def test_nobody_is_shown_online_while_the_gateway_is_away(scene: Scene) -> None:
    zoe = scene.zoe
    online = zoe.page.locator('.dot[data-status="online"]')
    await zoe.row("terry").get_by_text("online").wait_for()
    await scene.gateway.kill()
    await zoe.page.locator(".connection").get_by_text("Offline. Reconnecting").wait_for()
    await zoe.shot("away-light")
    assert await online.count() == 0
    assert await zoe.row("terry").get_by_text("online").count() == 0
    await scene.gateway.start()
    await zoe.page.evaluate("dispatchEvent(new Event('online'))")
    await zoe.row("terry").get_by_text("online").wait_for()


async def test_a_search_without_results_says_no_matches(scene: Scene) -> None:
    zoe = scene.zoe
    await zoe.page.get_by_label("Find people, groups and messages").fill("qqqq")
    await zoe.page.get_by_text("No matches", exact=True).wait_for()
    await zoe.page.keyboard.press("Escape")
