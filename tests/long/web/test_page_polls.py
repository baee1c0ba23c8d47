"""A poll on the page: bars to press, by a finger and by keys, and who voted for what."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import expect

from tests.web.browser import ON_STAGE, Scene

pytestmark = ON_STAGE


async def test_a_poll_is_voted_on_with_a_click_and_with_keys_until_it_is_closed(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    terry.say(do="poll", to="room", question="Lunch?", options=["pizza", "<b>soup</b>"])
    asked = await terry.next("sent", text="Lunch?")
    message = await zoe.sees("Lunch?")
    bars = message.locator("button.option")
    await expect(bars).to_have_text(["pizza0", "<b>soup</b>0"])
    await bars.nth(1).click()
    vote = await terry.next("vote", id=asked["id"])
    assert (vote["by"], vote["option"]) == ("zoe", 2)
    await expect(message.locator("button.option[aria-pressed=true]")).to_have_text(["<b>soup</b>1 by you"])
    await bars.nth(0).press("Enter")
    assert (await terry.next("vote", id=asked["id"]))["option"] == 1
    await expect(message.locator("button.option[aria-pressed=true]")).to_have_text(["pizza1 by you"])
    terry.say(do="vote", id=asked["id"], option=1)
    await expect(bars.nth(0)).to_have_attribute("title", "you, terry")
    await bars.nth(0).press("Enter")  # again: it takes the vote back
    assert (await terry.next("vote", id=asked["id"], by="zoe"))["option"] == 0
    await expect(bars.nth(0)).to_have_attribute("title", "terry")
    terry.say(do="close", id=asked["id"])
    await expect(bars.nth(0)).to_be_disabled()
    await message.get_by_text("The poll is closed").wait_for()
