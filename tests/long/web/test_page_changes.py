"""Changes while a dialog, a reply, an edit or a search is open; and the places that a finger hits on a phone."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import expect

from tests.web.browser import ON_STAGE, PHONE, Scene, Visitor, becomes

pytestmark = ON_STAGE
WINDOW = {"viewport": PHONE}  # of yan


async def test_a_reply_follows_the_message_it_answers(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    about = zoe.page.locator(".about-words")
    sent = await terry.send("dinner at six?")
    await zoe.do("dinner at six?", "Reply")
    await zoe.page.keyboard.type("that is early")
    await about.get_by_text("Replying to terry dinner at six?").wait_for()
    terry.say(do="edit", id=sent["id"], text="dinner at eight?")
    await about.get_by_text("Replying to terry dinner at eight?").wait_for()
    terry.say(do="delete", id=sent["id"])
    await about.get_by_text("Replying to terry This message was deleted").wait_for()
    await zoe.page.get_by_role("button", name="Cancel reply").click()
    await expect(zoe.page.locator("#compose")).to_have_value("that is early")
    await zoe.page.locator("#compose").fill("")


async def test_an_edit_follows_what_another_tab_did_to_the_message(scene: Scene) -> None:
    zoe, field = scene.zoe, scene.zoe.page.locator("#compose")
    about = zoe.page.locator(".about-words")
    tab = await zoe.tab()
    await tab.go("Room")
    await zoe.write("at one")
    await zoe.do("at one", "Edit")
    await about.get_by_text("Editing at one").wait_for()
    await tab.do("at one", "Edit")
    await tab.write("at two")
    await about.get_by_text("Editing at two").wait_for()
    await expect(field).to_have_value("at two")  # nothing was typed
    await field.fill("at three")
    await tab.do("at two", "Delete")
    await tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await about.get_by_text("A deleted message: saving shows it again").wait_for()
    await expect(field).to_have_value("at three")
    await field.press("Enter")
    await tab.sees("at three")
    await about.wait_for(state="detached")
    await tab.page.close()


async def test_what_is_read_in_one_tab_is_read_in_the_other(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    tab = await zoe.tab()
    await tab.go("Room")
    await zoe.go("Room")
    await terry.send("psst", to="zoe")
    for one in (zoe, tab):
        await one.row("terry").get_by_text("1 unread").wait_for()
    await zoe.go("terry")
    await tab.row("terry").get_by_text("unread").wait_for(state="detached")
    await tab.page.close()


async def test_an_edit_is_a_text_as_it_stands(scene: Scene) -> None:
    """A text that begins with a slash was refused as a command, or lost the slash."""
    zoe = scene.zoe
    await zoe.go("Room")
    await zoe.page.locator("#compose").fill("//etc/hosts has it")
    await zoe.page.locator("#compose").press("Enter")
    for before, after in (("/etc/hosts has it", "/etc/passwd has it"), ("/etc/passwd has it", "//me is not I")):
        await zoe.sees(before)
        await zoe.do(before, "Edit")
        await expect(zoe.page.locator("#compose")).to_have_value(before)
        await zoe.page.locator("#compose").fill(after)
        await zoe.page.locator("#compose").press("Enter")
        await zoe.sees(after)


async def test_an_edit_is_not_dropped_for_another_message_without_a_question(scene: Scene) -> None:
    zoe, terry, field = scene.zoe, scene.terry, scene.zoe.page.locator("#compose")
    about, asked = zoe.page.locator(".about-words"), zoe.page.get_by_role("dialog", name="Discard your edit?")
    for text in ("an own line", "another own line"):
        await zoe.write(text)
    await terry.send("a line of terry")
    await zoe.sees("a line of terry")
    await zoe.do("an own line", "Edit")
    await field.fill("a line with much work in it")
    await zoe.do("an own line", "Edit")  # the same one goes on
    await expect(field).to_have_value("a line with much work in it")
    for text, label in (("another own line", "Edit"), ("a line of terry", "Reply")):
        await zoe.do(text, label)
        await asked.get_by_text("a line with much work in it").wait_for()
        await asked.get_by_role("button", name="Cancel").click()
        await about.get_by_text("Editing an own line").wait_for()
        await expect(field).to_have_value("a line with much work in it")
    await zoe.do("another own line", "Edit")
    await asked.get_by_role("button", name="Discard").click()
    await about.get_by_text("Editing another own line").wait_for()
    await zoe.do("a line of terry", "Reply")  # nothing was changed, so nothing is asked
    await about.get_by_text("Replying to terry a line of terry").wait_for()
    await field.press("Escape")
    await expect(field).to_have_value("")


async def test_the_focus_returns_to_a_message_that_changed_under_its_dialog(scene: Scene) -> None:
    zoe, terry, keys = scene.zoe, scene.terry, scene.zoe.page.keyboard
    info = zoe.page.get_by_role("dialog", name="Delivery status")
    focused = "document.activeElement.closest('.message')?.querySelector('.text').textContent"
    await zoe.go("terry")
    await zoe.context.set_offline(True)
    await zoe.page.locator(".connection").wait_for()
    await zoe.write("looked at")
    await zoe.sees("looked at")  # a row is drawn with the next frame
    await keys.press("Control+m")
    await zoe.until(f"{focused} === 'looked at'")
    await zoe.context.set_offline(False)
    heard = await terry.next("message", text="looked at")
    row = await zoe.sees("looked at")
    await row.locator(".ticks[data-level=delivered]").wait_for()  # it has another row since it waited
    await zoe.until(f"{focused} === 'looked at'")
    await keys.press("i")
    await info.wait_for()
    terry.say(do="read", id=heard["id"])
    await row.locator(".ticks[data-level=read]").wait_for()
    await keys.press("Escape")
    await zoe.until(f"{focused} === 'looked at'")
    await zoe.until("document.activeElement.matches('.message')")
    await row.locator(".ticks").press("Enter")
    await info.wait_for()
    terry.say(do="react", id=heard["id"], reaction="+1")
    await row.get_by_role("button", name="+1 1").wait_for(state="attached")
    await keys.press("Escape")
    await zoe.until("document.activeElement.matches('.ticks')")  # the same part, behind a new one
    await zoe.go("Room")


DRAWN = """async ([more, selector]) => {
  const { drawMessage } = await import("./message.js");
  const { Model, Talk, messageOf } = await import("./model.js");
  const line = { event: "message", id: "1", sender: "ada", sender_id: "a", text: "hi", ...more };
  const seen = { model: new Model(), talk: new Talk({ id: "r", kind: "room", name: "room" }), head: true };
  const node = drawMessage(messageOf(line), seen, { files: () => null });
  return [...node.querySelectorAll(selector)].map((one) => [one.textContent, one.title]);
}"""
SENT_AT = "2026-11-20T11:30:00.000000Z"


async def test_of_thousands_of_reactions_to_a_message_few_are_drawn(scene: Scene) -> None:
    reactions = [{"reaction": f"{(n % 50 and n) or '+1'}", "by": f"user {n}", "by_id": f"{n}"} for n in range(5000)]
    message = {"sent_at": SENT_AT, "reactions": reactions}
    [(first, title), *others] = await scene.zoe.page.evaluate(DRAWN, [message, "button.reaction"])
    assert first.startswith("+1 100 by user 0, user 50,") and first.endswith(" and 70 more")
    assert (len(title.split(", ")), len(others)) == (30, 23)
    assert await scene.zoe.page.evaluate(DRAWN, [message, ".reactions .hint"]) == [["4877 more", ""]]


async def test_a_message_that_came_long_after_it_claims_says_so_beside_its_time(scene: Scene) -> None:
    late = {"sent_at": SENT_AT, "came": "2026-11-20T11:58:00.000000Z"}
    [(came, title)] = await scene.zoe.page.evaluate(DRAWN, [late, ".foot .came"])
    assert re.fullmatch(r"came \d\d:58", came) and title.startswith("It came here ")
    assert await scene.zoe.page.evaluate(DRAWN, [{"sent_at": SENT_AT}, ".foot .came"]) == []


MANY_PEOPLE = """async () => {
  const { newGroup } = await import("./groups.js");
  const { Model } = await import("./model.js");
  const model = new Model();
  const person = (n) => ({ id: `${n}`, name: `user ${n}`, label: `user ${n}`, status: "online", text: "" });
  for (let n = 0; n < 4000; n++) model.people.set(`${n}`, person(n));
  newGroup({ model, ask: async (command) => { window.asked = command; throw Error("seen"); } }, {});
}"""


async def test_of_thousands_of_people_few_are_offered_for_a_group_and_a_field_finds_the_others(scene: Scene) -> None:
    page = scene.zoe.page
    await page.evaluate(MANY_PEOPLE)
    form = page.get_by_role("dialog", name="New group")
    people, find = form.get_by_role("checkbox"), form.get_by_label("Find people")
    await form.get_by_text("3940 more; search by name above").wait_for()
    await expect(people).to_have_count(60)
    await find.fill("3999")
    await expect(people).to_have_count(1)
    await form.get_by_role("checkbox", name="user 3999").check()
    await find.press("Enter")  # sends nothing
    await find.fill("nobody at all")
    await expect(people).to_have_count(1)  # who is ticked
    await find.fill("")
    await expect(people).to_have_count(60)
    await expect(form.get_by_role("checkbox", name="user 3999")).to_be_checked()
    await form.get_by_label("Name", exact=True).fill("ops")
    await form.get_by_role("button", name="Create group").click()
    await form.get_by_role("alert").get_by_text("seen").wait_for()
    assert await page.evaluate("asked") == {"do": "group", "name": "ops", "members": ["3999"]}
    await page.keyboard.press("Escape")


async def test_what_was_searched_for_is_forgotten_with_the_search(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await terry.send("a hidden treasure")
    await zoe.sees("a hidden treasure")
    panel, words = zoe.page.get_by_role("region", name="Search"), zoe.page.get_by_label("Search messages")
    result = panel.get_by_role("button", name="a hidden treasure")
    find = zoe.page.get_by_label("Find people, groups and messages")
    await zoe.page.keyboard.press("Control+Shift+f")
    await words.fill("treasure")
    await result.wait_for()
    await zoe.go("terry")
    await panel.wait_for(state="hidden")
    await zoe.page.keyboard.press("Control+Shift+f")
    await expect(words).to_have_value("")
    await expect(result).to_have_count(0)
    await zoe.page.keyboard.press("Escape")
    await find.fill("roo")
    await zoe.row("terry").wait_for(state="detached")
    await zoe.go("Room")
    await expect(find).to_have_value("")
    await yan.go("Room")
    await yan.sees("a hidden treasure")
    panel = yan.page.get_by_role("region", name="Search")
    await yan.page.get_by_role("button", name="Search in this conversation").click()
    await yan.page.get_by_label("Search messages").fill("treasure")
    await panel.get_by_role("button", name="a hidden treasure").click()
    await panel.wait_for(state="hidden")  # it covers the conversation on a phone
    await yan.page.get_by_role("button", name="Search in this conversation").click()  # for the next result
    await panel.get_by_role("button", name="a hidden treasure").wait_for()
    await yan.page.get_by_role("button", name="Close search").click()


APART = """(() => {
    const [first, second] = [...document.querySelectorAll('.ticks')].slice(-2);
    return first.getBoundingClientRect().bottom <= second.getBoundingClientRect().top;
})()"""
SMALL = """() => {
    const root = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document;
    const found = [];
    const targets = "button, input, select, textarea, summary, [role=option], a:not(.text a, .skip)";
    for (const one of root.querySelectorAll(targets)) {
        const target = one.closest("label") ?? one;
        const box = target.getBoundingClientRect(), around = getComputedStyle(target, "::after");
        const size = ["width", "height"].map((side) => Math.max(box[side], parseFloat(around[side]) || 0));
        const name = one.getAttribute("aria-label") ?? one.innerText;
        if (one.checkVisibility() && Math.min(...size) < 43.9) found.push([one.className, name, ...size]);
    }
    return found;
}"""


async def nothing_is_small(one: Visitor) -> None:
    await becomes(lambda: one.page.evaluate(SMALL), [])


WIDER = "document.documentElement.scrollWidth > innerWidth"


async def test_a_question_is_answered_on_a_phone_once_and_everybody_sees_by_whom(scene: Scene) -> None:
    yan, zoe, terry = scene.yan, scene.zoe, scene.terry
    await yan.page.goto(yan.url)
    await yan.page.reload()
    await yan.go("Room")
    await zoe.go("Room")
    choices = ["yes", "no", "<b>x</b>", "\u202elater", "WWWWWWWW", "👩‍👩‍👧‍👦"]
    asked = await terry.send("deploy?", choices=choices)
    message = await yan.sees("deploy?")
    buttons = message.locator("button.choice")
    await expect(buttons).to_have_text(["yes", "no", "<b>x</b>", "\\u{202e}later", "WWWWWWWW", "👩‍👩‍👧‍👦"])
    await nothing_is_small(yan)
    assert not await yan.page.evaluate(WIDER)
    await message.get_by_role("button", name="no", exact=True).click()
    pressed = await terry.next("reaction", id=asked["id"])
    assert (pressed["by"], pressed["reaction"], pressed.get("automatic")) == ("yan", "no", None)
    await expect(message.locator("button.choice.mine")).to_have_text(["no"])
    for number in range(len(choices)):
        await expect(buttons.nth(number)).to_be_disabled()
    await zoe.message("deploy?").get_by_role("button", name="no 1 by yan").wait_for()
    await expect(zoe.message("deploy?").locator("button.choice[aria-pressed=true]")).to_have_text(["no"])
    await zoe.message("deploy?").focus()  # a click could hit its sender, and show who that is
    await zoe.page.keyboard.press("Tab")  # from the message to its buttons
    await zoe.until("document.activeElement.matches('button')")
    await zoe.message("deploy?").get_by_role("button", name="yes", exact=True).press("Enter")
    assert (await terry.next("reaction", id=asked["id"], by="zoe"))["reaction"] == "yes"
    terry.say(do="delete", id=asked["id"])
    await buttons.first.wait_for(state="detached")


async def test_a_finger_hits_whatever_a_phone_shows(scene: Scene) -> None:
    yan, zoe, terry, page = scene.yan, scene.zoe, scene.terry, scene.yan.page
    shown = page.get_by_role("dialog")
    await page.goto(yan.url)
    await page.reload()
    await yan.row("Room").wait_for()
    await page.get_by_label("Find people, groups and messages").fill("terrry")
    await page.get_by_text("No matches").wait_for()
    await nothing_is_small(yan)
    await page.get_by_label("Find people, groups and messages").fill("")
    await yan.go("Room")
    await terry.send("tea or coffee?")
    await (await yan.sees("tea or coffee?")).click()
    await yan.message("tea or coffee?").get_by_role("button", name="Reply").click()
    await yan.write("tea")
    for text in ("one", "two"):
        await yan.write(text)
        await yan.message(text).locator(".ticks").wait_for()
    await zoe.go("Room")
    await zoe.do("tea", "React")
    await zoe.page.get_by_role("button", name="👍").click()
    await yan.message("tea").get_by_role("button", name="👍 1 by zoe").wait_for()
    await yan.message("tea").locator(".bubble").click(position={"x": 10, "y": 10})
    await yan.message("tea").get_by_role("button", name="Edit").wait_for()
    await nothing_is_small(yan)
    await yan.until(APART)  # each tick has its own taps
    await page.locator("#compose").press_sequentially("@")
    await page.get_by_role("option").first.wait_for()
    await nothing_is_small(yan)
    await page.locator("#compose").fill("")
    await page.get_by_role("button", name="Search in this conversation").click()
    await page.get_by_label("Search messages").fill("tea")
    await page.locator(".found-row").first.wait_for()
    await nothing_is_small(yan)
    await page.get_by_role("button", name="Close search").click()
    await page.get_by_role("button", name="Emoji", exact=True).click()
    await shown.get_by_role("button", name="🚀", exact=True).wait_for()
    await nothing_is_small(yan)
    await shown.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Back to the list").click()
    for button in ("New group", "Invite people", "Help and keyboard shortcuts"):
        await page.get_by_role("button", name=button).click()
        await shown.wait_for()
        await nothing_is_small(yan)
        await shown.get_by_role("button", name="Close").click()
        await shown.wait_for(state="detached")
    await page.locator("button.me").click()
    await shown.wait_for()
    await nothing_is_small(yan)
    await shown.get_by_role("button", name="Sign out").click()
    await page.get_by_role("dialog", name="Sign out?").wait_for()
    await nothing_is_small(yan)
    await shown.get_by_role("button", name="Cancel").click()
