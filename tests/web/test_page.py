"""The page in Chromium: one look at it; tests/long/web/ tries everything."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import expect

from p2pchat.web import WebSettings
from tests.web.browser import CHROMIUM, chromium, visitor
from tests.web.chat_client import chatting
from tests.web.conftest import serving


@pytest.mark.story
@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")
async def test_room_messages_go_both_ways_with_ticks() -> None:
    async with serving(WebSettings()) as served, chromium() as browser, chatting(served, "terry") as terry:
        zoe = await visitor(browser, f"{served.url}/")
        await zoe.sign_up("zoe")
        await zoe.row("terry").wait_for()
        await expect(zoe.page.locator("#compose")).to_be_focused()  # at the start
        await zoe.page.keyboard.type("at once")
        await zoe.page.keyboard.press("Enter")
        assert (await terry.message())["content"] == "at once"
        await zoe.write("hello everybody\nin two lines")
        heard = await terry.message()
        assert heard["content"] == "hello everybody\nin two lines"
        await terry.say({"type": "read", "id": heard["id"]})
        ticks = (await zoe.sees("hello everybody\nin two lines")).locator(".ticks[data-level=read]")
        await ticks.click()
        await zoe.page.get_by_role("dialog", name="Delivery status").get_by_text("terry").wait_for()
        await zoe.page.keyboard.press("Escape")
        await terry.accepted("hi from a socket")
        await zoe.sees("hi from a socket")
        assert zoe.troubles == []
