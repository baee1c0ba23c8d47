"""The page in use: two people with browsers and one in a terminal, over a gateway that may be killed.

Real processes and Chromium. The tests of a file share a scene; the test behind one that failed gets a new one.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from p2pchat.safe_text import safe_line

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import TimeoutError as NotInTime
from playwright.async_api import expect

from tests.web.browser import (
    FRAME,
    ON_STAGE,
    PATIENCE,
    Scene,
    Visitor,
    visitor,
)

pytestmark = ON_STAGE


@pytest_asyncio.fixture(loop_scope="module")
async def ops(scene: Scene) -> str:
    """A group of all three, which zoe has created; its name."""
    zoe = scene.zoe
    if not scene.made.get("ops"):
        await zoe.page.get_by_role("button", name="New group").click()
        await zoe.page.get_by_label("Name", exact=True).fill("ops")
        await zoe.page.get_by_role("checkbox", name="terry").check()
        await zoe.page.get_by_role("checkbox", name="yan").check()
        await zoe.page.get_by_role("button", name="Create group").click()
        await zoe.page.get_by_role("textbox", name="Write to #ops").wait_for()
        await scene.yan.row("#ops").wait_for()
        scene.made["ops"] = True
    return "#ops"


@pytest_asyncio.fixture(loop_scope="module")
async def lines(scene: Scene) -> list[dict[str, Any]]:
    """What terry wrote to yan, who was in the room: 120 lines and a needle."""
    yan, terry = scene.yan, scene.terry
    if "lines" not in scene.made:
        await yan.go("Room")
        texts = [*(f"line {number}" for number in range(120)), "the needle in it"]
        for text in texts:
            terry.say(do="send", to="yan", text=text, ref=text)
        scene.made["lines"] = [await terry.next("sent", ref=text) for text in texts]
        await yan.row("terry").get_by_text("99+ unread").wait_for()
    found: list[dict[str, Any]] = scene.made["lines"]
    return found


async def test_a_direct_message_shows_an_unread_count_and_is_answered(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    for number in range(2):
        sent = await terry.send(f"psst {number}", to="zoe")
    await zoe.row("terry").get_by_text("2 unread").wait_for()
    await zoe.until("document.title.startsWith('(2)')")
    await zoe.go("terry")
    await zoe.sees("psst 1")
    await expect(zoe.texts).to_have_text(["psst 0", "psst 1"])
    await terry.next("read", id=sent["id"])
    await zoe.until("document.title === 'terry – p2pchat'")
    await zoe.go("Room")
    await terry.send("it stays", to="zoe")
    sent_by_mistake = await terry.send("it goes", to="zoe")
    await zoe.row("terry").get_by_text("2 unread").wait_for()
    terry.say(do="delete", id=sent_by_mistake["id"])
    await zoe.row("terry").get_by_text("1 unread").wait_for()  # what was deleted is no news
    await zoe.page.reload()
    await zoe.row("terry").get_by_text("1 unread").wait_for()
    await zoe.go("terry")
    await zoe.do("psst 1", "Reply")
    await zoe.write("yes?")
    answer = await terry.next("message", text="yes?")
    assert (answer["kind"], answer["reply_to"]) == ("dm", sent["id"])
    await expect(zoe.message("yes?").locator(".quote")).to_contain_text("psst 1")
    await zoe.message("yes?").locator(".ticks[data-level=delivered]").wait_for()
    terry.say(do="read", id=answer["id"])
    await zoe.message("yes?").locator(".ticks[data-level=read]").wait_for()


async def test_typing_and_presence_are_shown(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("terry")
    typing = zoe.page.get_by_text("terry is typing…")
    async with asyncio.timeout(PATIENCE):
        while not await typing.count():  # it is shown for some seconds, in which a busy machine may not look
            terry.say(do="typing", to="zoe")
            with suppress(NotInTime):
                await typing.wait_for(timeout=5_000)
                break
    await zoe.page.locator("#compose").press_sequentially("hm")
    await terry.next("typing", user="zoe", typing=True)
    await zoe.page.locator("#compose").fill("")
    terry.say(do="away", text="lunch")
    await zoe.row("terry").get_by_text("away: lunch").wait_for()
    terry.say(do="back")
    await zoe.row("terry").get_by_text("online").wait_for()


async def test_messages_can_be_edited_deleted_and_reacted_to(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await zoe.go("Room")
    announced = yan.page.locator("#announcer p")
    await zoe.write("at ten")
    await announced.get_by_text("zoe: at ten").wait_for()
    await zoe.do("at ten", "Edit")
    await zoe.write("at eleven")
    edited = await terry.next("edited")
    assert edited["text"] == "at eleven"
    for one in (yan, zoe):
        times = (await one.sees("at eleven")).locator(".edited time")
        await expect(times).to_have_attribute("datetime", edited["sent_at"])
    await yan.do("at eleven", "React")
    await yan.page.get_by_role("button", name="🎉").click()
    await (await zoe.sees("at eleven")).get_by_role("button", name="🎉 1 by yan").wait_for()
    await zoe.write("never mind")
    await announced.get_by_text("zoe: never mind").wait_for()
    await zoe.do("never mind", "Delete")
    await zoe.page.get_by_role("dialog").get_by_text("never mind", exact=True).wait_for()
    await zoe.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await yan.sees("This message was deleted")
    await expect(yan.message("never mind")).to_have_count(0)
    await expect(announced.filter(has_text=re.compile("at ten|never mind"))).to_have_count(0)


async def test_a_group_is_created_and_used(scene: Scene, ops: str) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await zoe.go(ops)
    await zoe.write("deploying")
    await terry.next("message", text="deploying", group="ops")
    await yan.row(ops).get_by_text("1 unread").wait_for()
    await yan.go(ops)
    await yan.sees("deploying")


async def test_an_owner_is_asked_before_members_change_and_who_was_removed_cannot_write(scene: Scene, ops: str) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await asyncio.gather(zoe.go(ops), yan.go(ops))
    await zoe.write("before the removal")
    await yan.sees("before the removal")
    members, group = zoe.page.get_by_role("button", name="Members of this group"), zoe.page.get_by_role("dialog")
    await members.click()
    await group.get_by_role("button", name="Make owner yan").click()
    await group.get_by_role("heading", name="Make yan the owner?").wait_for()
    await group.get_by_role("button", name="Cancel").click()
    await group.get_by_role("button", name="Remove yan").click()
    await group.get_by_role("heading", name="Remove yan?").wait_for()
    await group.get_by_role("button", name="Remove", exact=True).click()
    await group.get_by_role("heading", name="2 members").wait_for()
    await zoe.page.keyboard.press("Escape")
    await yan.page.get_by_text("You are no longer a member of #ops").wait_for()
    await expect(yan.page.locator("#compose, button.send").filter(visible=True)).to_have_count(0)
    await (await yan.sees("before the removal")).hover()
    await expect(yan.page.locator(".actions")).to_have_count(0)
    await members.click()
    await group.get_by_role("button", name="Make admin terry").click()
    await group.get_by_role("button", name="Make admin", exact=True).click()
    await terry.next("group", change="admin", target="terry")
    await group.get_by_role("button", name="No admin terry").click()
    await group.get_by_role("button", name="Make member", exact=True).click()
    await terry.next("group", change="unadmin", target="terry")
    await group.get_by_role("button", name="Make owner terry").click()
    await group.get_by_role("button", name="Make owner", exact=True).click()
    await terry.next("group", change="owner", target="terry")
    await group.get_by_text("owner", exact=True).wait_for()
    await zoe.page.keyboard.press("Escape")


async def test_messages_written_while_the_gateway_is_down_arrive_once(scene: Scene) -> None:
    zoe, yan, terry, gateway = scene.zoe, scene.yan, scene.terry, scene.gateway
    await asyncio.gather(zoe.go("Room"), yan.go("Room"))
    await zoe.write("before the end")
    await yan.sees("before the end")
    async with gateway.away():
        for text in ("written offline 1", "written offline 2"):
            await zoe.write(text)
            await (await zoe.sees(text)).get_by_text("waiting to be sent").wait_for()
        written = datetime.now(UTC)
        await zoe.page.locator(".connection").get_by_text("The gateway does not answer. Reconnecting").wait_for()
        await terry.send("said meanwhile")
    await zoe.page.evaluate("dispatchEvent(new Event('online'))")
    await yan.page.evaluate("dispatchEvent(new Event('online'))")
    await terry.next("message", text="written offline 2")
    for one in (zoe, yan):
        for text in ("said meanwhile", "written offline 1", "written offline 2"):
            await one.sees(text)
    await expect(zoe.page.get_by_text("waiting to be sent")).to_have_count(0)
    shown = await zoe.message("written offline 2").locator(".foot time").get_attribute("datetime")
    assert datetime.fromisoformat(shown or "") < written  # not when the gateway was back
    for one in (zoe, yan):
        texts = await one.texts.all_text_contents()
        assert [texts.count(text) for text in set(texts)] == [1] * len(set(texts))
        assert texts.index("written offline 1") < texts.index("written offline 2")


HOLD_WHAT_IS_SENT = """(() => {
    window.held = [];
    window.send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        if (data.includes('"do":"send"')) held.push(() => send.call(this, data));
        else send.call(this, data);
    };
})()"""
SEND_WHAT_IS_HELD = """(() => {
    WebSocket.prototype.send = send;
    for (const go of held) go();
})()"""


async def test_a_duplicated_tab_sends_nothing_twice(scene: Scene) -> None:
    """Both tabs hold the message, and the gateway gets it from the copy first."""
    zoe, terry, gateway = scene.zoe, scene.terry, scene.gateway
    await zoe.go("Room")
    async with gateway.away():
        await zoe.write("written once")
        await (await zoe.sees("written once")).get_by_text("waiting to be sent").wait_for()
        await zoe.page.evaluate(HOLD_WHAT_IS_SENT)
        kept = await zoe.page.evaluate("JSON.stringify({...sessionStorage})")
    await zoe.page.evaluate("dispatchEvent(new Event('online'))")
    await zoe.until("held.length")
    copy = await zoe.context.new_page()
    await copy.add_init_script(f"Object.assign(sessionStorage, {kept})")
    await copy.goto(zoe.page.url)
    await terry.next("message", text="written once")
    await zoe.page.evaluate(SEND_WHAT_IS_HELD)
    await zoe.write("written after it")
    assert (await terry.next("message"))["text"] == "written after it"
    await copy.close()


COUNT = 240  # more than an account may write at once


async def test_waiting_messages_keep_their_order_when_some_are_refused_for_now(scene: Scene) -> None:
    zoe, terry, gateway = scene.zoe, scene.terry, scene.gateway
    await zoe.go("Room")
    async with gateway.away():
        await zoe.page.evaluate(f"""
            const field = document.querySelector("#compose");
            for (let number = 0; number < {COUNT}; number += 1) {{
                field.value = `number ${{number}}`;
                field.form.requestSubmit();
            }}
        """)
        await (await zoe.sees(f"number {COUNT - 1}")).get_by_text("waiting to be sent").wait_for()
    await zoe.page.evaluate("dispatchEvent(new Event('online'))")
    texts = [(await terry.next("message"))["text"] for _ in range(COUNT)]
    assert texts == [f"number {number}" for number in range(COUNT)]


async def test_messages_written_while_a_terminal_is_down_wait_for_it(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("terry")
    await zoe.write("until later")  # of those who are away the list has only whom one talks with
    await terry.next("message", text="until later")
    await zoe.go("Room")
    await terry.kill()
    await zoe.row("terry").get_by_text("offline").wait_for()
    await zoe.go("terry")
    await zoe.write("while the terminal is dead")
    ticks = (await zoe.sees("while the terminal is dead")).locator(".ticks")
    await ticks.and_(zoe.page.locator("[data-level=kept]")).wait_for()
    await expect(ticks).to_have_text("· saved")
    offline = zoe.page.get_by_text("terry is offline: what you wrote is saved, and delivered when they are back.")
    await offline.wait_for()
    await ticks.click()
    status = zoe.page.get_by_role("dialog", name="Delivery status")
    await status.get_by_text(re.compile(r"^will get it when back: away since \d\d:\d\d$")).wait_for()
    await zoe.page.keyboard.press("Escape")
    await terry.start()
    assert (await terry.next("message", text="while the terminal is dead"))["sender"] == "zoe"
    await ticks.and_(zoe.page.locator("[data-level=delivered]")).wait_for()
    await expect(ticks).to_have_text("✓ delivered")
    await expect(offline).to_have_count(0)
    await terry.send("alive again")
    await zoe.row("Room").get_by_text("terry: alive again").wait_for()
    await zoe.go("Room")
    await zoe.write("welcome back")
    await terry.next("message", text="welcome back")


async def test_a_conversation_opens_at_its_first_unread_message(scene: Scene, lines: list[dict[str, Any]]) -> None:
    yan, terry = scene.yan, scene.terry
    await yan.until("document.title.startsWith('(99+) ')")
    await yan.page.reload()  # the token is stored for this tab; messages are not
    await yan.row("terry").get_by_text("99+ unread").wait_for()
    await yan.until("document.title.startsWith('(99+) ')")  # the gateway counts 100 now
    await yan.go("terry")
    await yan.sees("line 0")
    below = "box => (document.querySelector('.unread-line').offsetTop - box.scrollTop) / box.clientHeight"
    await yan.until_of(yan.page.get_by_role("log"), f"(box) => ((at) => 0 < at && at <= 1 / 3)(({below})(box))")
    down = yan.page.locator(".to-end")
    await yan.until(f"document.querySelector('.to-end').textContent === `${{121 - {WHOLE}}} new`")
    shown = await yan.page.evaluate(WHOLE)
    assert 5 < shown < 25
    await terry.next("read", id=lines[shown - 1]["id"])
    terry.say(do="receipts", to="yan", limit=121, ref="who has read")
    rows = (await terry.next("answer", ref="who has read"))["rows"]
    assert [row["read_count"] for row in rows] == [1] * shown + [0] * (121 - shown)
    await down.click()
    await terry.next("read", id=lines[-1]["id"])
    await yan.row("terry").get_by_text("unread").wait_for(state="detached")


WHOLE = """(() => {
    const end = document.querySelector('.timeline').getBoundingClientRect().bottom;
    const messages = [...document.querySelectorAll('li.message')];
    return messages.filter((one) => one.getBoundingClientRect().bottom <= end).length;
})()"""


async def test_nothing_counts_as_read_that_was_not_loaded(scene: Scene) -> None:
    """An answer of the gateway ends at 1 MiB, so of long texts few are loaded."""
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await asyncio.gather(zoe.go("terry"), yan.go("terry"))
    for number in range(120):
        last = await terry.send(f"{number} {'x' * 30_000}")
    bars = [one.page.locator(".unloaded") for one in (zoe, yan)]
    for one, bar in zip((zoe, yan), bars, strict=True):
        await one.row("Room").get_by_text("terry: 119 x").wait_for()
        await one.page.reload()
        await one.go("Room")
        await bar.get_by_text(re.compile(r"^\d+ older messages are unread$")).wait_for()
    await zoe.page.get_by_role("button", name="Mark as read").click()
    assert (await terry.next("read", id=last["id"]))["user"] == "zoe"
    await expect(bars[0]).to_be_hidden()
    await yan.page.locator(".to-end").click()
    await yan.page.evaluate("new Promise((done) => setTimeout(done, 200))")  # behind the timer that marks as read
    await yan.page.reload()
    await bars[1].get_by_text("older messages are unread").wait_for()
    while await bars[1].is_visible():
        await yan.page.locator(".timeline").evaluate("(box) => (box.scrollTop = 0)")
    await yan.page.locator(".to-end").click()
    assert (await terry.next("read", id=last["id"]))["user"] == "yan"
    await zoe.write("that was long")
    await terry.next("message", text="that was long")


async def test_scrolling_back_loads_history_and_keeps_the_position(scene: Scene, lines: list[dict[str, Any]]) -> None:
    yan = scene.yan
    await yan.go("terry")
    if await yan.row("terry").get_by_text("unread").count():
        await yan.page.locator(".to-end").click()
        await yan.row("terry").get_by_text("unread").wait_for(state="detached")
    await yan.page.reload()
    await yan.sees("the needle in it")
    await expect(yan.message("line 0")).to_have_count(0)
    box = yan.page.get_by_role("log")
    top = "Math.round(node.getBoundingClientRect().top)"
    before = await yan.message("line 75").evaluate(
        f"node => {{ node.scrollIntoView({{block: 'start'}}); return {top}; }}"
    )
    await yan.until("document.querySelectorAll('li.message').length > 60")
    await yan.until_of(yan.message("line 75"), f"(node) => Math.abs({top} - {before}) <= 2")
    while not await yan.page.get_by_text("This is the start of the conversation").count():
        await box.evaluate("node => node.scrollTo(0, 0)")
        await yan.page.wait_for_timeout(20)
    for number in range(2):
        await expect(yan.texts.nth(number)).to_have_text(f"line {number}")


WATCH_FOUND = """new MutationObserver(() => {
    window.found = document.querySelector('li.message.found .text')?.textContent ?? window.found;
}).observe(document.body, {subtree: true, childList: true, attributes: true})"""


async def test_search_finds_highlights_and_opens_a_message(scene: Scene, lines: list[dict[str, Any]]) -> None:
    yan = scene.yan
    await yan.page.keyboard.press("Control+k")
    await yan.page.keyboard.type("needle")
    await yan.page.keyboard.press("Enter")
    found = yan.page.get_by_role("region", name="Search").get_by_role("button", name="the needle in it")
    await expect(found.locator("mark")).to_have_text("needle")
    await yan.page.evaluate(WATCH_FOUND)  # it is marked for two seconds, in which a busy machine may not look
    await found.click()
    await yan.until("window.found === 'the needle in it'")
    await yan.page.get_by_label("Search messages").fill("n")
    await yan.page.get_by_text("No matches: one letter is a whole word").wait_for()
    await yan.page.get_by_role("button", name="Close search").click()


async def test_a_click_on_a_row_that_changes_meanwhile_is_not_lost(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    await zoe.hold(zoe.row("terry"))
    sent = await terry.send("under the pointer", to="zoe")
    await zoe.hears("under the pointer")
    for _ in range(2):
        await zoe.page.evaluate(FRAME)
    await zoe.page.mouse.up()
    await zoe.page.locator("#talk-name").filter(has_text="terry").wait_for()
    await zoe.sees("under the pointer")
    await zoe.row("terry").get_by_text("under the pointer").wait_for()
    await terry.next("read", id=sent["id"])
    await zoe.go("Room")


async def test_what_ignored_people_wrote_is_said_to_be_hidden(scene: Scene, lines: list[dict[str, Any]]) -> None:
    yan = scene.yan
    await yan.go("terry")
    await yan.sees("the needle in it")
    about = yan.page.locator(".talk-head").get_by_role("button", name="About terry")
    await about.click()
    await yan.page.get_by_role("button", name="Ignore").click()
    await yan.page.get_by_text("121 messages of people you ignore are not shown").wait_for()
    await about.click()
    await yan.page.get_by_role("button", name="Stop ignoring").click()
    await yan.sees("the needle in it")
    await expect(yan.page.get_by_text("are not shown")).to_have_count(0)


async def test_people_are_invited_by_address_or_invite(scene: Scene) -> None:
    zoe = scene.zoe
    await zoe.page.get_by_role("button", name="Invite people").click()
    dialog = zoe.page.get_by_role("dialog", name="Invite people")
    await expect(dialog.get_by_role("group", name="Address of this page")).to_have_text(scene.gateway.url)
    await dialog.get_by_role("button", name="Make an invite").click()
    await expect(dialog.get_by_role("group", name="Invite", exact=True)).to_have_text(re.compile("^p2pchat:"))
    await zoe.page.keyboard.press("Escape")


async def test_an_account_is_deleted_after_its_name_was_asked_for(scene: Scene) -> None:
    xena = await visitor(scene.browser, scene.gateway.url)
    await xena.sign_up("xena")
    page, tab = xena.page, await xena.tab()
    await page.locator("button.me").click()
    await page.get_by_role("button", name="Delete my account…").click()
    asked = page.get_by_role("dialog", name="Delete your account?")
    await asked.get_by_text("Nobody can undo that").wait_for()
    button = asked.get_by_role("button", name="Delete my account")
    await asked.get_by_label("Type your name to confirm").fill("zoe")
    await button.click()
    await asked.get_by_text("That is not your name.").wait_for()
    await asked.get_by_label("Type your name to confirm").fill("xena")
    await button.click()
    for one in (page, tab.page):
        await one.get_by_text("This account was deleted.").wait_for()
        await expect(one.get_by_label("Your token")).to_have_value("")
    assert xena.troubles == []
    await xena.context.close()


HOSTILE = "<img src=x onerror=alert(1)>"
DISGUISED = ["bob\u202egnp", "a\u200bb", "x\u0300\u0301\u0302\u0303\u0304\u0305", "tab\there", "\u2066y", "é ü 漢 🎉"]
DISGUISED += ["👩🏽\u200d💻", "می\u200cخواهم", "र\u200d्य", "ad\u200dmin", "👩\u200dx", "\u200c\u200d", "می\u200c"]
DISGUISED += ["س" + "\u0651\u200d" * 6]


async def test_text_of_others_is_never_markup_and_never_hides(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    terry.say(do="nick", name='terry"><b>')
    await terry.next("answer", command="nick")
    await terry.send(HOSTILE + " \u202eevil")
    message = zoe.page.locator("li.message", has_text="onerror").first
    await message.wait_for()
    await expect(message.locator(".text")).to_have_text(HOSTILE + " \\u{202e}evil")
    await expect(message.locator(".who")).to_have_text('terry"><b>')
    await expect(zoe.page.locator("main img, main b, nav b")).to_have_count(0)
    shown = "async (names) => { const {safeLine} = await import('./safe_text.js'); return names.map(safeLine); }"
    assert await zoe.page.evaluate(shown, DISGUISED) == [safe_line(name) for name in DISGUISED]
    terry.say(do="nick", name="terry")
    await zoe.row("terry").wait_for()


TICKS = """async (answers) => {
    const {Model, Talk, messageOf} = await import('./model.js');
    const {Events} = await import('./events.js');
    const {ticksOf} = await import('./message.js');
    const talk = new Talk({id: "T", kind: "group", name: "ops"});
    const message = messageOf({id: "A.1", event: "sent"});
    talk.byId.set("A.1", message);
    const events = new Events(new Model(), {});
    const row = (given) => ({id: "A.1", of: 0, count: 0, at_gateway_count: 0, read_count: 0, ...given});
    return answers.map((given) => (events.setReceipts(talk, [row(given)]), ticksOf(message, "group").mark));
}"""


async def test_a_tick_never_counts_more_people_than_it_is_of(scene: Scene) -> None:
    """A restarted gateway no longer knows who was online in the room; those who came later get its messages too."""
    ticks = scene.zoe.page.evaluate
    before = {"of": 3, "count": 2}
    assert await ticks(TICKS, [before, {"count": 1}]) == ["✓ delivered 2/3", "✓ delivered 2/3"]
    both = {"of": 2, "count": 2}
    assert await ticks(TICKS, [both, {"read_count": 1}]) == ["✓ delivered 2/2", "✓✓ read 1/2"]
    assert await ticks(TICKS, [{"of": 2, "count": 1, "delivered_to_ids": ["b", "d", "e"]}]) == ["✓ delivered 1/2"]
    away = {"of": 2, "at_gateway_count": 1}
    marks = await ticks(TICKS, [{**away, "count": 1}, {**away, "count": 2}])
    assert marks == ["✓ at a gateway 1/2", "✓ delivered 1/2, ✓ at a gateway 1/2"]
    assert await ticks(TICKS, [before, both]) == ["✓ delivered 2/3", "✓ delivered 2/2"]  # one left


async def test_everything_works_with_the_keyboard_alone(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    keys = zoe.page.keyboard
    await zoe.go("Room")
    await zoe.page.locator("body").evaluate("() => document.activeElement.blur()")
    await keys.type("by keys")  # goes to the editor from anywhere
    await keys.press("Enter")
    await yan.go("Room")
    await yan.sees("by keys")
    await zoe.message("by keys").locator(".ticks").wait_for()  # it is sent
    await keys.press("ArrowUp")  # edits the last message
    await keys.type(" alone")
    await keys.press("Enter")
    await asyncio.gather(yan.sees("by keys alone"), zoe.sees("by keys alone"))
    await keys.press("Control+m")  # to the newest message
    await keys.press("+")
    await keys.press("Enter")  # the first reaction offered
    await (await yan.sees("by keys alone")).get_by_role("button", name="👍 1").wait_for()
    await zoe.closed()
    await zoe.until("document.activeElement.matches('.message')")
    await keys.press("Escape")
    await zoe.until("document.activeElement.id === 'compose'")
    await terry.send("unread for keys", to="zoe")
    await zoe.row("terry").get_by_text("1 unread").wait_for()
    await keys.press("Alt+Shift+ArrowDown")
    await zoe.sees("unread for keys")
    await keys.press("F1")
    await zoe.page.get_by_role("dialog", name="Help").wait_for()
    await keys.press("Escape")
    await zoe.closed()
    await zoe.page.locator("body").evaluate("() => document.activeElement.blur()")
    stops = set()
    for _ in range(40):
        await keys.press("Tab")
        stops.add(
            await zoe.page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"
            )
        )
        assert await zoe.page.evaluate(
            "document.activeElement.matches(':focus-visible') || document.activeElement === document.body"
        )
    assert {"Help and keyboard shortcuts", "Find people, groups and messages", "New group", "Send"} <= stops


async def test_new_messages_of_others_are_announced_and_nothing_else(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    region = zoe.page.locator("[aria-live=polite]")
    await expect(region).to_have_count(1)
    await zoe.write("my own line")
    await terry.send("a line to be read out")
    await region.get_by_text("terry: a line to be read out").wait_for()
    await expect(region).not_to_contain_text("my own line")


AXE = (
    "async () => (await axe.run(document)).violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.target).join(' '))"
)


async def violations(one: Visitor) -> Any:
    return await one.page.evaluate(AXE)


async def test_accessibility_rules_hold_and_the_smallest_screen_is_wide_enough(scene: Scene) -> None:
    zoe, yan = scene.zoe, scene.yan
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core comes with axe-playwright-python")
    script = (importlib.resources.files(axe) / "axe.min.js").read_text("utf-8")
    for one in (zoe, yan):
        await one.page.evaluate(script)
    await asyncio.gather(zoe.go("Room"), yan.go("Room"))
    assert await violations(zoe) == await violations(yan) == []
    await zoe.write("**axe** `reads`\n- this\n\n```\ntoo\n```")
    await zoe.page.locator("li.message pre").wait_for()
    assert await violations(zoe) == []
    for button in ("Invite people", "Emoji", "zoe"):
        await (
            zoe.page.locator("button:not(.side-row)")
            .filter(visible=True)
            .and_(zoe.page.get_by_role("button", name=button))
            .first.click()
        )
        await zoe.page.get_by_role("dialog").wait_for()
        assert await violations(zoe) == []
        await zoe.page.keyboard.press("Escape")
        await zoe.closed()
    for one in (zoe, yan):
        await one.page.set_viewport_size({"width": 320, "height": 640})
        await one.until("document.scrollingElement.scrollWidth === 320")
    assert await violations(zoe) == []
    await yan.page.get_by_role("button", name="Back to the list").click()
    assert await violations(yan) == []
    await zoe.page.set_viewport_size({"width": 1900, "height": 1000})
    await zoe.go("Room")


async def test_one_begins_to_type_at_the_door(scene: Scene) -> None:
    page = (await visitor(scene.browser, scene.gateway.url)).page
    await page.goto(scene.gateway.url)
    await expect(page.get_by_label("Choose a name")).to_be_focused()
    await page.evaluate("sessionStorage.setItem('p2pchat.token /', 'of nobody')")
    await page.reload()
    await page.get_by_text("Unknown token").wait_for()
    await expect(page.get_by_label("Your token")).to_be_focused()
    await page.context.close()


async def test_a_new_token_is_kept_until_it_was_seen(scene: Scene) -> None:
    page = (await visitor(scene.browser, scene.gateway.url)).page
    await page.goto(scene.gateway.url)
    await page.get_by_label("Choose a name").fill("xia")
    await page.get_by_label("Stay signed in on this device").check()
    await page.get_by_role("button", name="Join").click()
    shown = page.get_by_role("group", name="Your token")
    token = await shown.inner_text()
    await page.reload()
    await expect(shown).to_have_text(token)
    await page.get_by_role("button", name="Start chatting").click()
    await page.locator("button.me").get_by_text("xia").wait_for()
    await page.reload()
    await page.locator("button.me").get_by_text("xia").wait_for()
    await page.context.close()


async def test_signing_out_shows_the_token_first_and_ends_every_tab(scene: Scene) -> None:
    yan, terry = scene.yan, scene.terry
    page, tab = yan.page, await yan.tab()
    await page.set_viewport_size({"width": 1200, "height": 800})
    await yan.go("Room")
    await terry.send("for yan only", to="yan")
    announced = page.locator("#announcer")
    await announced.get_by_text("for yan only").wait_for()
    asked = page.get_by_role("dialog", name="Sign out?")
    await tab.go("Room")
    await yan.context.set_offline(True)
    for one in (yan, tab):
        await one.page.locator(".connection").wait_for()
        await one.write("not sent yet")
    await page.locator("button.me").click()
    await page.get_by_role("button", name="Sign out").click()
    await asked.get_by_text("2 messages were not sent yet and will be lost.").wait_for()
    await asked.get_by_role("button", name="Cancel").click()
    await yan.context.set_offline(False)
    for one in (yan, tab):
        await one.page.locator("li.waits").wait_for(state="detached")
    for button in ("Cancel", "Sign out"):
        await page.locator("button.me").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(asked.get_by_role("group", name="Your token")).to_have_text(yan.token)
        await expect(asked.get_by_text("not sent")).to_have_count(0)
        await asked.get_by_role("button", name=button).click()
        await asked.wait_for(state="detached")
    for one in (yan, tab):
        await one.page.get_by_label("Choose a name").wait_for()
    await expect(announced).to_have_text("")
    await tab.page.close()
    await page.reload()
    await page.get_by_label("Choose a name").fill("zoe")
    await page.get_by_role("button", name="Join").click()
    await page.get_by_role("alert").get_by_text("taken").wait_for()
    await page.get_by_label("Choose a name").fill("zo")
    await page.get_by_role("alert").wait_for(state="hidden")  # it was about another name
    await page.get_by_text("I already have a token").click()
    await page.get_by_label("Your token").fill("not-a-token")
    await page.get_by_role("button", name="Sign in").click()
    await page.locator("#token-trouble").get_by_text("Unknown token. Sign in again.").wait_for()
    await expect(page.get_by_label("Your token")).to_have_value("not-a-token")  # to be mended
    await page.get_by_label("Your token").fill(yan.token)
    await page.get_by_role("button", name="Sign in").click()
    await yan.row("Room").wait_for()
    await yan.sees("not sent yet")
    yan.troubles[:] = [trouble for trouble in yan.troubles if "409" not in trouble]  # Chromium logs each refusal
