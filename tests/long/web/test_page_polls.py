"""A poll on the page: bars to press, by a finger and by keys, and who voted for what."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import Route, expect

from tests.typed_words import TYPED_WORDS
from tests.web.browser import ON_STAGE, Scene

pytestmark = ON_STAGE


async def test_a_poll_is_voted_on_with_a_click_and_with_keys_until_it_is_closed(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    terry.say(do="poll", to="room", question="Lunch?", options=["pizza", "<b>soup</b>"])
    asked = await terry.next("sent", text="Lunch?")
    message = await zoe.sees("Lunch?")
    bars = message.locator("button.option")
    await expect(bars).to_have_text(["1 pizza0", "2 <b>soup</b>0"])
    await bars.nth(1).click()
    vote = await terry.next("vote", id=asked["id"])
    assert (vote["by"], vote["option"]) == ("zoe", 2)
    await expect(message.locator("button.option[aria-pressed=true]")).to_have_text(["2 <b>soup</b>1 by you"])
    await bars.nth(0).press("Enter")
    assert (await terry.next("vote", id=asked["id"]))["option"] == 1
    await expect(message.locator("button.option[aria-pressed=true]")).to_have_text(["1 pizza1 by you"])
    terry.say(do="vote", id=asked["id"], option=1)
    await expect(bars.nth(0)).to_have_attribute("title", "you, terry")
    await bars.nth(0).press("Enter")  # again: it takes the vote back
    assert (await terry.next("vote", id=asked["id"], by="zoe"))["option"] == 0
    await expect(bars.nth(0)).to_have_attribute("title", "terry")
    terry.say(do="close", id=asked["id"])
    await expect(bars.nth(0)).to_be_disabled()
    await message.get_by_text("The poll is closed").wait_for()


async def test_a_poll_is_asked_with_a_typed_line_and_closed_with_a_button_by_keys(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    await zoe.write("/poll Dinner?")
    await zoe.page.get_by_text("Give a question and its options").wait_for()
    await zoe.write('/poll "Dinner at six? pasta soup')
    await zoe.page.get_by_text('The quote at "Dinner does not end').wait_for()
    await zoe.write('/poll "Dinner at six?" pasta pasta')
    await zoe.page.get_by_text("two options of a poll are alike").wait_for()
    zoe.troubles[:] = [trouble for trouble in zoe.troubles if "400" not in trouble]  # Chromium logs each refusal
    await zoe.write('/poll "Dinner at six?" pasta \u201cpea soup\u201d')
    asked = await terry.next("message", text="Dinner at six?")
    assert asked["choices"] == ["pasta", "pea soup"] and asked["poll"]
    message = await zoe.sees("Dinner at six?")
    await expect(message.locator("button.option")).to_have_text(["1 pasta0", "2 pea soup0"])
    terry.say(do="vote", id=asked["id"], option=2)
    await expect(message.locator("button.option").nth(1)).to_have_attribute("title", "terry")
    await message.focus()
    await message.get_by_role("button", name="Close the poll").press("Enter")
    await zoe.page.get_by_role("dialog").get_by_role("button", name="Close poll").press("Enter")
    closed = await terry.next("closed", id=asked["id"])
    assert [(one["by"], one["option"]) for one in closed["votes"]] == [("terry", 2)]
    await message.get_by_text("The poll is closed").wait_for()
    await expect(message.get_by_role("button", name="Close the poll")).to_have_count(0)
    await expect(message.locator("button.option").nth(1)).to_be_disabled()


async def test_a_poll_whose_answer_was_lost_is_asked_once(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    keys: list[str | None] = []

    async def lose(route: Route) -> None:
        keys.append(route.request.headers.get("idempotency-key"))
        answer = await route.fetch()
        assert answer.status == 201
        if len(keys) == 1:
            await route.abort()
        else:
            await route.fulfill(response=answer)

    await zoe.page.route("**/polls", lose)
    for times in (1, 2):  # the same words later are another poll
        await zoe.write("/poll Tea? green black")
        await terry.next("message", text="Tea?")
        if times == 1:
            await zoe.page.get_by_text("Not saved").wait_for()
            await zoe.page.keyboard.press("Enter")
        await expect(zoe.page.get_by_label("Write to everyone")).to_have_value("")
        await zoe.write(f"done {times}")
        await terry.next("message", text=f"done {times}")
        terry.say(do="history", to="room", limit=100, ref="all")
        rows = (await terry.next("answer", ref="all"))["rows"]
        assert [row["text"] for row in rows].count("Tea?") == times
    zoe.troubles[:] = [trouble for trouble in zoe.troubles if "ERR_FAILED" not in trouble]  # and what is lost
    first, again, another = keys
    assert first == again != another


async def test_the_page_reads_words_as_a_terminal_does(scene: Scene) -> None:
    read = "(lines) => import('./compose.js').then(({ splitWords }) => lines.map((line) => splitWords(line)))"
    found = await scene.zoe.page.evaluate(read, [*TYPED_WORDS])
    assert [one["open"] or one["words"] for one in found] == [*TYPED_WORDS.values()]


async def test_a_vote_that_races_with_the_close_is_shown_as_it_is_stored_elsewhere(scene: Scene) -> None:
    """Whichever was written first; what zoe writes after it tells that terry has all that she did before."""
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    for question in ("one?", "two?", "three?", "four?"):
        terry.say(do="poll", to="room", question=question, options=["pizza", "soup"])
        asked = await terry.next("sent", text=question)
        bars = (await zoe.sees(question)).locator("button.option")
        press = asyncio.ensure_future(bars.nth(1).dispatch_event("click"))
        if question in ("one?", "three?"):
            await press
        terry.say(do="close", id=asked["id"])
        await press
        await expect(bars.nth(1)).to_be_disabled()
        await zoe.write(f"done {question}")
        await terry.next("message", text=f"done {question}")
        terry.say(do="history", to="room", limit=2, ref=question)
        [stored, _] = (await terry.next("answer", ref=question))["rows"]
        assert stored["id"] == asked["id"] and stored["closed_at"]
        names = ", ".join("you" for one in stored.get("votes", ()) if one["option"] == 2)
        await expect(bars.nth(1)).to_have_attribute("title", names)
        await expect(bars.nth(1)).to_have_attribute("aria-pressed", "true" if names else "false")
