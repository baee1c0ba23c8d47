"""Pinned messages on the page: a bar at the head of the conversation, for a finger and for keys."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import expect

from tests.web.browser import ON_STAGE, Scene

pytestmark = ON_STAGE


async def test_a_message_is_pinned_and_unpinned_with_keys_and_its_bar_goes_to_it(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    bar = zoe.page.get_by_role("region", name="Pinned messages")
    await expect(bar).to_be_hidden()
    terry.say(do="send", to="room", text="the rules")
    said = await terry.next("sent", text="the rules")
    message = await zoe.sees("the rules")
    await message.focus()
    await message.get_by_role("button", name="Pin", exact=True).press("Enter")
    event = await terry.next("pinned", id=said["id"])
    assert (event["by"], event["pinned"]) == ("zoe", True)
    go = bar.get_by_role("button", name="Go to the pinned message")
    await expect(go).to_contain_text("the rules")
    await go.press("Enter")
    await expect(zoe.page.locator(f'.message[data-id="{said["id"]}"]')).to_be_focused()
    terry.say(do="unpin", id=said["id"])
    await expect(bar).to_be_hidden()
    terry.say(do="pin", id=said["id"])
    await expect(go).to_contain_text("the rules")
    await expect(message.get_by_text("pinned", exact=True)).to_have_attribute("title", "pinned by terry")
    await bar.get_by_role("button", name="Unpin").press("Enter")
    asked = zoe.page.get_by_role("dialog", name="Unpin this message?")
    await asked.get_by_text("the rules").wait_for()
    await asked.get_by_role("button", name="Unpin").press("Enter")
    assert not (await terry.next("pinned", id=said["id"], by="zoe", pinned=False))["pinned"]
    await expect(bar).to_be_hidden()


async def test_the_bar_is_there_after_a_reload_and_goes_with_a_message_that_is_deleted(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    ids = []
    for text in ("first rule", "second rule"):
        ids.append((await terry.send(text))["id"])
        terry.say(do="pin", id=ids[-1])
    await terry.next("pinned", id=ids[1])
    await zoe.go("Room")
    await zoe.page.reload()
    bar = zoe.page.get_by_role("region", name="Pinned messages")
    go = bar.get_by_role("button", name="Go to the pinned message")
    await expect(go).to_contain_text("second rule 1/2")
    await go.click()
    await expect(zoe.page.locator(f'.message[data-id="{ids[1]}"]')).to_be_focused()
    await expect(go).to_contain_text("second rule 1/2")  # what the cross beside it unpins
    await go.click()
    await expect(zoe.page.locator(f'.message[data-id="{ids[0]}"]')).to_be_focused()
    await expect(go).to_contain_text("first rule 2/2")
    terry.say(do="delete", id=ids[0])
    await expect(go).to_contain_text("second rule")
    await expect(go).not_to_contain_text("/2")
