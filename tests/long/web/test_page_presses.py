"""A press counts, and once, whatever comes before its release; what waits for that comes; also in a narrow window."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import Locator, expect

from tests.web.browser import FRAME, ON_STAGE, PHONE, PLACE, Scene

pytestmark = ON_STAGE
WINDOW = {"viewport": PHONE}  # of yan: narrow, and with a mouse
HIT = """addEventListener("click", (event) => {
    window.hit = event.target.tagName;
    event.preventDefault();
}, { once: true })"""
AT_END = """(() => {
    const end = document.querySelector(".to-end");
    end.click();
    return end.hidden && document.querySelector(".timeline").clientHeight > 0;
})()"""


@pytest.mark.parametrize("name", ["zoe", "yan"])
async def test_a_press_counts_while_everything_around_it_changes(scene: Scene, name: str) -> None:
    terry, one = scene.terry, {"zoe": scene.zoe, "yan": scene.yan}[name]
    for number in range(12):
        last = await terry.send(f"line {number}")
    await one.page.goto(one.url)
    await one.page.reload()
    await one.go("Room")
    await one.sees("line 11")
    await one.until(AT_END)
    count, pinned = 0, one.page.get_by_role("region", name="Pinned messages")

    async def press(part: Locator, of: str) -> None:
        """Press a part as soon as the pointer is there. Before the release draw its message anew, and all around."""
        nonlocal count
        if count:  # what waited for the last release moves nothing any more
            await expect(pinned).to_contain_text(f"came between {count}")
        count += 1
        await one.hold(part)
        terry.say(do="react", id=of, reaction=f"{count}")
        sent = await terry.send(f"came between {count}")
        terry.say(do="pin", id=sent["id"])
        await one.hears(sent["text"], '"event":"pinned"', '"command":"pins"')
        for _ in range(3):
            await one.page.evaluate(FRAME)
        await one.page.mouse.up()
        await one.page.mouse.move(3, 3)

    asked = (await terry.send("deploy?", choices=["yes", "no"]))["id"]
    message = one.page.locator(f'.message[data-id="{asked}"]')
    await press(message.get_by_role("button", name="no", exact=True), asked)
    assert (await terry.next("reaction", id=asked, by=name))["reaction"] == "no"

    terry.say(do="poll", to="room", question="lunch?", options=["pizza", "soup"])
    asked = (await terry.next("sent", text="lunch?"))["id"]
    message = one.page.locator(f'.message[data-id="{asked}"]')
    await press(message.locator("button.option").nth(1), asked)
    assert (await terry.next("vote", id=asked, by=name))["option"] == 2

    said = (await terry.send(f"see {one.url}#room"))["id"]
    message = one.page.locator(f'.message[data-id="{said}"]')
    terry.say(do="react", id=said, reaction="1")
    await press(message.locator("button.reaction"), said)
    assert await terry.next("reaction", id=said, by=name)
    await one.page.evaluate(HIT)
    await press(message.locator(".text a"), said)
    await one.until("window.hit === 'A'")

    await press(pinned.get_by_role("button", name="Unpin"), last["id"])
    await one.page.get_by_role("dialog").get_by_role("button", name="Unpin").click()
    await terry.next("pinned", by=name, pinned=False)


async def test_a_double_click_is_one_press_and_what_is_gone_is_taken_back_without_an_error(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    terry.say(do="poll", to="room", question="twice?", options=["pizza", "soup"])
    asked = (await terry.next("sent", text="twice?"))["id"]
    bar = (await zoe.sees("twice?")).locator("button.option").nth(1)
    await bar.dblclick()
    assert (await terry.next("vote", id=asked))["option"] == 2
    await expect(bar).to_have_text("2 soup1 by you")
    await bar.dblclick()
    assert (await terry.next("vote", id=asked))["option"] == 0
    await expect(bar).to_have_text("2 soup0")
    await bar.evaluate("(one) => { one.click(); one.click(); }")  # before an answer came
    assert (await terry.next("vote", id=asked))["option"] == 2
    await expect(bar).to_have_text("2 soup1 by you")
    pizza = (await zoe.sees("twice?")).locator("button.option").first
    for count, one in enumerate((pizza, bar), 1):  # quick taps of a finger on two buttons
        await zoe.page.mouse.move(*await one.evaluate(PLACE))
        await zoe.page.mouse.down(click_count=count)
        await zoe.page.mouse.up(click_count=count)
        assert (await terry.next("vote", id=asked))["option"] == count
        await expect(one).to_contain_text("1 by you")
    assert not await zoe.page.evaluate("heard.some((line) => line.includes('\"error\"'))")
    tab = await zoe.tab()
    await tab.go("Room")
    other = (await tab.sees("twice?")).locator("button.option").nth(1)
    await expect(other).to_have_text("2 soup1 by you")
    await tab.hold(other)
    await bar.click()  # it is taken back in the other tab
    await tab.hears('"event":"vote"')
    await tab.page.mouse.up()
    await tab.hears('"command":"vote"')
    await expect(other).to_have_text("2 soup0")
    await expect(tab.page.locator(".notice")).to_have_count(0)
    await tab.page.close()


async def test_what_waits_for_a_release_comes_without_one_and_space_presses_too(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    held = await terry.send("held")
    text = (await zoe.sees("held")).locator(".text")

    async def press(came: str) -> None:
        await zoe.hold(text)
        await terry.send(came)
        await zoe.hears(came)
        await zoe.page.evaluate(FRAME)

    await press("below a menu")
    await zoe.page.keyboard.down("ContextMenu")
    await zoe.sees("below a menu")
    await zoe.page.mouse.up()
    await press("in a hidden window")
    await zoe.page.evaluate("() => { window.draws = requestAnimationFrame; window.requestAnimationFrame = () => 0; }")
    await zoe.page.mouse.up()
    title = await zoe.page.title()
    await terry.send("while it is hidden", to="zoe")
    await zoe.until(f"document.title !== {title!r}")
    await zoe.page.evaluate("() => { window.requestAnimationFrame = draws; }")

    terry.say(do="poll", to="room", question="space?", options=["pizza", "soup"])
    asked = (await terry.next("sent", text="space?"))["id"]
    message = await zoe.sees("space?")
    assert await message.get_by_role("button").evaluate_all("(all) => all.every((one) => one.tabIndex < 0)")
    await message.locator("button.option").nth(1).focus()
    await zoe.page.keyboard.down(" ")
    for id in (held["id"], asked):
        terry.say(do="react", id=id, reaction="1")
        await zoe.hears('"event":"reaction"')
    for _ in range(3):
        await zoe.page.evaluate(FRAME)
    await zoe.page.keyboard.up(" ")
    assert (await terry.next("vote", id=asked, by="zoe"))["option"] == 2
