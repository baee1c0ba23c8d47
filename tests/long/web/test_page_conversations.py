"""The list of conversations, and what is told outside of it: one browser as wide as a desk, one as a phone."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import WebSocket, expect

from tests.web.browser import ON_STAGE, PHONE, Scene, becomes

pytestmark = ON_STAGE
WINDOW = {"viewport": PHONE}  # of yan


async def test_a_phone_that_shows_the_list_marks_nothing_as_read(scene: Scene) -> None:
    yan, terry = scene.yan, scene.terry
    await terry.send("while the list is in front")
    await yan.row("Room").get_by_text("1 unread").wait_for()
    await yan.page.evaluate("new Promise((done) => setTimeout(done, 200))")  # fires behind the page's own timers
    await yan.page.reload()  # now the count is the gateway's, from what was marked as read
    await yan.row("Room").get_by_text("1 unread").wait_for()
    await yan.until("document.title.startsWith('(1)')")
    await yan.go("Room")
    await yan.until("document.title === 'Room – p2pchat'")
    await yan.page.get_by_role("button", name="Back to the list").click()
    await expect(yan.row("Room").get_by_text("unread")).to_have_count(0)
    await terry.send("and after a look at the room")
    await yan.row("Room").get_by_text("1 unread").wait_for()


SEND = """(() => {
    const { send } = WebSocket.prototype;
    window.asked = [];
    WebSocket.prototype.send = function (data) {
        asked.push(JSON.parse(data).do);
        send.call(this, data);
    };
})()"""


async def test_a_conversation_that_is_opened_twice_is_asked_about_once(scene: Scene) -> None:
    """An answer from before it was read, which came after that, counted it as unread again."""
    yan, terry = scene.yan, scene.terry
    sent = await terry.send("open me twice", to="yan")
    await yan.row("terry").get_by_text("1 unread").wait_for()
    await yan.page.evaluate(SEND)
    await yan.row("terry").evaluate("(one) => { one.click(); one.click(); }")
    await yan.sees("open me twice")
    await terry.next("read", id=sent["id"])
    assert (await yan.page.evaluate("asked")).count("unread") == 1
    await yan.page.get_by_role("button", name="Back to the list").click()


async def test_the_peer_of_the_gateway_is_no_person_until_it_writes(scene: Scene) -> None:
    zoe = scene.zoe
    await zoe.page.goto(f"{zoe.url}#@gate")
    await zoe.page.locator("#talk-name").filter(has_text="gate").wait_for()
    await expect(zoe.page.locator(".talk-sub")).not_to_contain_text("offline")  # it runs
    await zoe.go("Room")
    await expect(zoe.row("gate")).to_have_count(0)
    await zoe.page.get_by_role("button", name="New group").click()
    dialog = zoe.page.get_by_role("dialog", name="New group")
    await dialog.get_by_role("checkbox", name="terry").wait_for()
    await expect(dialog.get_by_role("checkbox", name="gate")).to_have_count(0)
    await zoe.page.keyboard.press("Escape")
    await zoe.row("Room").get_by_text("3 here now").wait_for()
    await scene.gateway.send("zoe", "from the operator")
    await zoe.row("gate").get_by_text("1 unread").wait_for()


async def test_a_direct_conversation_says_who_can_read_it(scene: Scene) -> None:
    zoe = scene.zoe
    await zoe.go("yan")
    await zoe.page.locator(".welcome").get_by_text("whoever runs this gateway can").wait_for()
    await expect(zoe.page.get_by_text("only you two")).to_have_count(0)


async def test_nobody_is_shown_online_while_the_gateway_is_away(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    online = zoe.page.locator('.dot[data-status="online"]')
    await zoe.row("terry").get_by_text("online").wait_for()
    await zoe.go("terry")
    await zoe.write("read before")
    terry.say(do="read", id=(await terry.next("message", text="read before"))["id"])
    await zoe.message("read before").locator(".ticks[data-level=read]").wait_for()
    await zoe.go("yan")
    await zoe.page.reload()
    await zoe.row("terry").get_by_text("online").wait_for()
    await zoe.row("terry").get_by_text("You: read before").wait_for()  # the page has this message again
    async with scene.gateway.away():
        await zoe.page.locator(".connection").get_by_text("The gateway does not answer. Reconnecting").wait_for()
        await expect(online).to_have_count(0)
        await expect(zoe.row("terry").get_by_text("online")).to_have_count(0)
        await zoe.go("terry")
        ticks = (await zoe.sees("read before")).locator(".ticks")
        await zoe.page.get_by_text("Earlier messages are shown when the gateway is back").wait_for()
        await expect(ticks).to_have_count(0)  # a tick never goes back
    for one in (zoe, scene.yan):
        await one.page.evaluate("dispatchEvent(new Event('online'))")
        await one.row("terry").get_by_text("online").wait_for()
    await ticks.and_(zoe.page.locator("[data-level=read]")).wait_for()
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    await terry.send("an hour ago", claimed_at=hour_ago)
    await zoe.go("Room")
    foot = (await zoe.sees("an hour ago")).locator(".foot")
    await expect(foot).to_have_text(re.compile(r"^(Yesterday, )?\d\d:\d\d, sent \d\d:\d\d$"))


async def test_a_gateway_that_does_not_answer_is_noticed(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    bar = zoe.page.locator(".connection")
    own = zoe.page.locator('button.me .dot[data-status="online"]')
    await zoe.go("terry")
    await own.wait_for()  # after the connections that were lost before, too
    scene.gateway.freeze()
    try:
        await zoe.write("into silence")
        await bar.get_by_text("The gateway does not answer.").wait_for()
        await zoe.until("""!document.querySelector('.dot[data-status="online"]')""")
    finally:
        scene.gateway.thaw()
    await terry.next("message", text="into silence")
    await asyncio.gather(zoe.row("terry").get_by_text("online").wait_for(), own.wait_for())
    await zoe.page.evaluate("window.later = setTimeout; 0")
    await zoe.page.evaluate("window.setTimeout = (work, ms) => ms < 25000 && later(work, ms); 0")
    await zoe.write("no heartbeat is due behind this")
    await terry.next("message", text="no heartbeat is due behind this")
    await zoe.context.set_offline(True)
    await bar.get_by_text("Offline.").wait_for()  # as the browser says
    await zoe.page.evaluate("window.setTimeout = later; 0")
    await zoe.context.set_offline(False)
    await bar.wait_for(state="hidden")
    await own.wait_for()


async def test_timers_that_run_a_minute_late_end_no_connection(scene: Scene) -> None:
    """As those of a hidden tab do, or of a computer that slept."""
    zoe, terry = scene.zoe, scene.terry
    page = await zoe.context.new_page()
    await page.clock.install()
    await page.goto(zoe.url)
    await page.evaluate(f"sessionStorage.setItem('p2pchat.token /', '{zoe.token}')")
    sockets: list[WebSocket] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    await page.reload()
    talk = page.locator("button.side-row").filter(has=page.get_by_text("terry", exact=True))
    await talk.wait_for()
    for number in range(3):
        await page.clock.fast_forward(61_000)
        await terry.send(f"in minute {number}", "zoe")
        await talk.get_by_text(f"in minute {number}").wait_for()
    assert len(sockets) == 1
    await page.evaluate("sessionStorage.removeItem('p2pchat.token /')")
    await page.close()


async def test_settings_wait_for_the_gateway(scene: Scene) -> None:
    zoe, page = scene.zoe, scene.zoe.page
    me, receipts = page.locator("button.me"), page.get_by_label("Send and receive read receipts")
    disabled = page.locator("#my-receipts:disabled")
    trouble = page.get_by_role("dialog").get_by_role("alert").filter(has_text="gateway")
    await me.click()
    await page.locator("#my-receipts:enabled").wait_for()  # before that it is never checked
    await receipts.uncheck()
    await page.keyboard.press("Escape")
    await page.get_by_role("dialog").wait_for(state="detached")
    await me.click()
    await page.locator("#my-receipts:enabled").wait_for()
    await expect(receipts).not_to_be_checked()
    async with scene.gateway.away():
        await disabled.wait_for()
        await page.keyboard.press("Escape")
        await me.click()
        await disabled.wait_for()
        await page.get_by_label("About me").fill("far away")
        await page.get_by_role("button", name="Save").click()
        await trouble.wait_for()
    for one in (zoe, scene.yan):
        await one.page.evaluate("dispatchEvent(new Event('online'))")
    await page.locator("#my-receipts:enabled").wait_for()
    await expect(receipts).not_to_be_checked()
    await trouble.wait_for(state="detached")
    await expect(page.get_by_label("About me")).to_have_value("far away")  # not lost
    await receipts.check()
    await page.keyboard.press("Escape")
    await asyncio.gather(*(one.row("terry").get_by_text("online").wait_for() for one in (zoe, scene.yan)))


async def test_messages_count_as_read_where_they_are_seen(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    tab = await zoe.tab()
    await zoe.go("terry")
    await zoe.page.keyboard.press("F1")
    await zoe.page.get_by_role("dialog", name="Help").wait_for()
    sent = await terry.send("behind a dialog", to="zoe")
    await tab.row("terry").get_by_text("1 unread").wait_for()
    title = await tab.page.title()
    await zoe.row("terry").get_by_text("1 unread").wait_for()
    await zoe.page.evaluate("new Promise((done) => setTimeout(done, 200))")  # fires behind the page's own timers
    terry.say(do="receipts", to="zoe", limit=1, ref="who has read")
    [row] = (await terry.next("answer", ref="who has read"))["rows"]
    assert (row["id"], row["read_count"]) == (sent["id"], 0)
    await zoe.page.keyboard.press("Escape")
    await terry.next("read", id=sent["id"])
    for one in (zoe, tab):
        await one.row("terry").get_by_text("unread").wait_for(state="detached")
    await tab.until(f"document.title !== {title!r}")
    await tab.page.close()


async def test_people_are_found_without_accents(scene: Scene) -> None:
    zoe, yan = scene.zoe, scene.yan
    async with httpx.AsyncClient(base_url=scene.gateway.url, timeout=60, trust_env=False) as http:
        assert (await http.post("/accounts", json={"name": "Žofie Nováková"})).status_code == 201
    await zoe.page.reload()
    await zoe.row("yan").get_by_text("online").wait_for()
    find = zoe.page.get_by_label("Find people, groups and messages")
    people = zoe.page.get_by_role("list", name="People").get_by_role("button")
    for typed, hint, name in (
        ("qqqq", "No matches", None), ("zof", "", "Žofie Nováková"), ("novakova", "", "Žofie Nováková"),
        ("@Yan", "", "yan"), ("terrry", "No matches", None),
    ):  # fmt: skip
        await find.fill(typed)
        await (people.filter(has_text=name) if name else zoe.page.get_by_text(hint, exact=True)).wait_for()
        await expect(people).to_have_count(int(bool(name)))
        await expect(zoe.page.get_by_text("No matches")).to_have_count(int(bool(hint)))
    await zoe.page.keyboard.press("Enter")  # searches messages
    await zoe.page.get_by_role("region", name="Search").get_by_text("No matches").wait_for()
    await yan.page.goto(f"{yan.url}#@terrry")
    await yan.page.get_by_text("did you mean terry?").wait_for()
    await yan.page.goto(f"{yan.url}#@terry")
    await yan.page.locator("#talk-name").filter(has_text="terry").wait_for()


async def test_people_are_those_here_or_talked_with_and_all_on_request(scene: Scene) -> None:
    zoe = scene.zoe
    async with httpx.AsyncClient(base_url=scene.gateway.url, timeout=60, trust_env=False) as http:
        for name in ("once", "pen pal"):
            assert (await http.post("/accounts", json={"name": name})).status_code == 201
    await zoe.page.goto(f"{zoe.url}#@pen pal")
    await zoe.page.locator("#talk-name").filter(has_text="pen pal").wait_for()
    await zoe.write("until you come")
    await zoe.page.reload()
    await zoe.row("pen pal").get_by_text("offline").wait_for()
    await zoe.row("yan").get_by_text("online").wait_for()
    await expect(zoe.row("once")).to_have_count(0)
    everyone = zoe.page.get_by_role("button", name="All", exact=True)
    await everyone.click()
    await zoe.row("once").get_by_text("offline").or_(zoe.row("once").get_by_text("not seen yet")).wait_for()
    await everyone.click()
    await expect(zoe.row("once")).to_have_count(0)
    await expect(zoe.row("pen pal")).to_have_count(1)
    find = zoe.page.get_by_label("Find people, groups and messages")
    await find.fill("onc")
    await zoe.row("once").wait_for()  # the search finds everyone
    await find.fill("")


async def test_a_reload_and_the_back_button_return_to_a_conversation(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    await zoe.go("terry")
    await zoe.write("before a reload")
    id = (await terry.next("message", text="before a reload"))["sender_id"]
    await zoe.page.reload()
    await zoe.page.locator("#talk-name").filter(has_text="terry").wait_for()
    await zoe.sees("before a reload")
    await zoe.go("yan")
    await zoe.page.go_back()
    await zoe.page.locator("#talk-name").filter(has_text="terry").wait_for()
    await zoe.page.go_back()
    await zoe.page.locator("#talk-name").filter(has_text="Room").wait_for()
    await zoe.page.go_forward()
    await zoe.page.locator("#talk-name").filter(has_text="terry").wait_for()
    await zoe.page.goto(f"{zoe.url}#nobody")
    await zoe.page.get_by_text("You have no conversation with this address").wait_for()
    await zoe.until(f"location.href === {zoe.url!r}")
    await scene.yan.page.goto(f"{zoe.url}#@{id}")  # the address of somebody leads everyone to him
    await scene.yan.page.locator("#talk-name").filter(has_text="zoe").wait_for()
    await scene.yan.page.get_by_role("button", name="Back to the list").click()
    await scene.yan.until(f"location.href === {zoe.url!r}")


async def test_settings_say_what_was_refused_where_it_was_typed_and_the_status_stays(scene: Scene) -> None:
    zoe, yan = scene.zoe, scene.yan
    me, page = zoe.page.locator("button.me"), zoe.page
    await me.click()
    await page.get_by_label("Name", exact=True).fill("yan")
    await page.get_by_role("button", name="Save").click()
    await page.locator("#my-name + [role=alert]").get_by_text("taken").wait_for()
    await page.get_by_label("Name", exact=True).fill("zoe")
    await page.get_by_label("About me").fill("on call")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_role("dialog").wait_for(state="detached")
    await me.click()
    await expect(page.get_by_label("About me")).to_have_value("on call")
    await page.get_by_label("Status message").fill("lunch")
    await page.get_by_role("button", name="Set status").click()
    await page.get_by_role("status").get_by_text("Others see you as away: lunch").wait_for()
    await page.reload()
    await me.get_by_text("away: lunch").wait_for()
    await yan.page.goto(yan.url)
    await yan.row("zoe").wait_for()
    await me.click()
    await expect(page.get_by_label("Status message")).to_have_value("lunch")
    await page.get_by_label("Status message").fill("")
    await page.get_by_role("button", name="Set status").click()
    await page.get_by_role("status").get_by_text("Others see you as online").wait_for()
    await page.keyboard.press("Escape")
    await me.get_by_text("online").wait_for()


async def test_the_list_shows_the_last_line_and_time_of_each_conversation(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await scene.gateway.send("zoe", "not opened")
    sent = await terry.send("a while ago", to="zoe")
    await zoe.go("terry")
    await terry.next("read", id=sent["id"])
    await zoe.go("yan")
    await zoe.write("see you at noon")
    await yan.row("zoe").get_by_text("see you at noon").wait_for()
    sent = await terry.send("good morning")
    await yan.row("Room").get_by_text("terry: good morning").wait_for()
    await zoe.go("Room")
    await terry.next("read", id=sent["id"], user="zoe")
    await zoe.page.reload()  # now from storage, of conversations that were not opened since
    line = zoe.row("yan").get_by_text("You: see you at noon")
    await line.wait_for()
    await zoe.row("yan").get_by_text("online").wait_for()
    time = zoe.row("Room").locator("time")
    await expect(time).to_have_attribute("datetime", sent["sent_at"])
    terry.say(do="edit", id=sent["id"], text="good evening")
    for one in (zoe, yan):
        await one.row("Room").get_by_text("terry: good evening").wait_for()
    names, shown = zoe.page.get_by_role("list", name="People").locator(".side-name"), ["gate", "yan", "terry"]

    async def order() -> list[str]:
        return [name for name in await names.all_inner_texts() if name in shown]

    await becomes(order, shown)  # unread, then the newest


DAYS = """async (now) => {
    const {briefly} = await import('./times.js');
    return ['2026-11-21T09:05', '2026-11-20T23:00', '2026-11-17T08:00', '2026-11-03T08:00', '2025-11-03T08:00']
        .map((then) => briefly(then, new Date(now)));
}"""


async def test_the_time_of_a_last_line_is_as_short_as_it_can_be(scene: Scene) -> None:
    shown = await scene.zoe.page.evaluate(DAYS, "2026-11-21T12:00")
    assert shown == ["09:05", "Yesterday", "Tue", "3 Nov", "03/11/2025"]


NOTIFICATIONS = """
window.shown = [];
window.Notification = class extends Notification {
    constructor(title, options) { super(title, options); shown.push(this); }
    close() { this.closed = true; super.close(); }
};
"""
AWAY = "document.hasFocus = () => {}; dispatchEvent(new Event('blur'))"  # a page under test always has the focus
WANTED = "import('./notifications.js').then((one) => one.wantedNotifications() === '{}')"
SHOWN = "shown.map((one) => [one.title, one.body, one.silent])"


async def test_the_browser_notifies_where_the_user_allows_it(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.context.add_init_script(NOTIFICATIONS)
    await zoe.page.reload()
    await zoe.go("yan")
    await scene.gateway.send("zoe", "to be noticed")
    dot = "decodeURIComponent(document.querySelector('link[rel=icon]').href).includes('#e11d48')"
    await zoe.until(dot)  # gate is unread
    await zoe.go("gate")
    await zoe.until(f"!{dot}")
    await zoe.page.locator("button.me").click()
    choice = zoe.page.get_by_label("Notify\u00a0me")
    await zoe.context.clear_permissions()
    await choice.select_option("of direct messages and mentions")
    await zoe.page.get_by_role("alert").get_by_text("does not allow notifications").wait_for()
    await expect(choice).to_have_value("none")
    await zoe.context.grant_permissions(["notifications"])
    await choice.select_option("of direct messages and mentions")
    await zoe.until("Notification.permission === 'granted'")
    await zoe.until(WANTED.format("mine"))
    await zoe.page.keyboard.press("Escape")
    await terry.send("while zoe looks", to="zoe")
    await zoe.row("terry").get_by_text("1 unread").wait_for()
    await zoe.page.evaluate(AWAY)
    await terry.send("for everyone")
    await terry.send("for **zoe** at once")
    await terry.send("*quietly*", to="zoe")
    await zoe.row("terry").get_by_text("2 unread").wait_for()
    await zoe.until("shown.length === 2")  # of two conversations, in any order
    assert sorted(await zoe.page.evaluate(SHOWN)) == [
        ["terry", "quietly", True],
        ["terry in the room", "for zoe at once", True],
    ]
    direct = "shown.find(({title}) => title === 'terry')"
    await zoe.page.evaluate(f"delete document.hasFocus; {direct}.dispatchEvent(new Event('click'))")
    await zoe.page.locator("#talk-name").filter(has_text="terry").wait_for()
    await zoe.page.mouse.move(5, 5)
    await zoe.until(f"{direct}.closed && shown.filter(({{closed}}) => !closed).length === 1")
    await zoe.page.locator("button.me").click()
    await zoe.page.get_by_label("Notify with a sound").check()
    await choice.select_option("of all messages")
    await zoe.until(WANTED.format("all"))
    await zoe.page.keyboard.press("Escape")
    await zoe.page.evaluate(AWAY)
    await terry.send("with a sound")
    await zoe.until("shown.length === 3")
    assert (await zoe.page.evaluate(SHOWN))[2] == ["terry in the room", "with a sound", False]


async def test_a_tab_behind_notifies_of_nothing_while_its_user_looks_at_another(scene: Scene) -> None:
    """A tab that nobody looked at told of what stood on the screen of the one in front."""
    zoe, terry = scene.zoe, scene.terry
    await zoe.context.grant_permissions(["notifications"])
    behind = await zoe.context.new_page()
    await behind.add_init_script(f"{NOTIFICATIONS} document.hasFocus = () => false;")
    await behind.goto(zoe.url)
    await behind.evaluate(f"sessionStorage.setItem('p2pchat.token /', '{zoe.token}')")
    await behind.reload()
    room = behind.locator("button.side-row").filter(has=behind.get_by_text("Room", exact=True))
    await room.wait_for()
    await behind.evaluate("import('./notifications.js').then((one) => one.wantNotifications('all'))")
    await zoe.page.evaluate("delete document.hasFocus; dispatchEvent(new Event('focus'))")
    await zoe.page.mouse.move(5, 5)
    held = "navigator.locks.query().then(({held}) => held.length)"
    await zoe.until(f"{held}.then((count) => count === 1)")
    await terry.send("on a screen", to="zoe")
    await room.page.locator("button.side-row").get_by_text("on a screen").wait_for()
    await zoe.page.evaluate(AWAY)
    await zoe.until(f"{held}.then((count) => count === 0)")
    await terry.send("on no screen", to="zoe")
    await room.page.locator("button.side-row").get_by_text("on no screen").wait_for()
    await becomes(lambda: behind.evaluate("[...new Set(shown.map(({body}) => body))]"), ["on no screen"])
    await zoe.page.evaluate("delete document.hasFocus")
    await behind.close()


SLEEPY = """
window.sockets = [];
window.WebSocket = class extends WebSocket { constructor(url) { super(url); sockets.push(this); } };
"""
SLEEPS = "const now = Date.now; Date.now = () => now() + 120_000; sockets.at(-1).onmessage = () => {}"


async def test_a_browser_that_comes_back_notifies_of_nothing_that_was_read_elsewhere(scene: Scene) -> None:
    """It told of each message that had come, though its user had read it on the phone meanwhile."""
    zoe, terry = scene.zoe, scene.terry
    laptop = await scene.browser.new_context(permissions=["notifications"])
    asleep = await laptop.new_page()
    await asleep.add_init_script(f"{NOTIFICATIONS} {SLEEPY} document.hasFocus = () => false;")
    await asleep.goto(zoe.url)
    await asleep.evaluate(f"sessionStorage.setItem('p2pchat.token /', '{zoe.token}')")
    await asleep.reload()
    rows = asleep.locator("button.side-row")
    await rows.filter(has=asleep.get_by_text("Room", exact=True)).wait_for()
    await asleep.evaluate("import('./notifications.js').then((one) => one.wantNotifications('all'))")
    await asleep.evaluate(SLEEPS)
    await zoe.page.evaluate("delete document.hasFocus; dispatchEvent(new Event('focus'))")
    await zoe.go("terry")
    sent = await terry.send("read on the phone", to="zoe")
    await terry.next("read", id=sent["id"], user="zoe")
    await terry.send("read nowhere")
    await zoe.row("Room").get_by_text("read nowhere").wait_for()
    await asleep.evaluate("sockets.at(-1).close()")
    await becomes(lambda: asleep.evaluate("shown.map(({body}) => body)"), ["read nowhere"])
    await laptop.close()


async def test_a_muted_conversation_rings_in_no_browser_and_counts_quietly(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    laptop = await scene.browser.new_context(permissions=["notifications"])
    other = await laptop.new_page()
    await other.add_init_script(f"{NOTIFICATIONS} document.hasFocus = () => false;")
    await other.goto(zoe.url)
    await other.evaluate(f"sessionStorage.setItem('p2pchat.token /', '{zoe.token}')")
    await other.reload()
    rows = other.locator("button.side-row")
    await rows.filter(has=other.get_by_text("Room", exact=True)).wait_for()
    await other.evaluate("import('./notifications.js').then((one) => one.wantNotifications('all'))")
    await zoe.go("Room")
    await zoe.page.get_by_role("button", name="Mute: ring for nothing here").click()
    usual = zoe.page.get_by_role("button", name="Ring here as usual")
    await usual.wait_for()
    await zoe.row("Room").get_by_text("muted").wait_for()
    await zoe.go("yan")
    await zoe.page.evaluate(AWAY)
    title = await zoe.page.title()
    await terry.send("zoe, do you read this?")
    await zoe.row("Room").locator(".badge.quiet").get_by_text("1 unread").wait_for()
    assert await zoe.page.title() == title
    await terry.send("in private", to="zoe")
    await becomes(lambda: other.evaluate("shown.map(({body}) => body)"), ["in private"])
    await zoe.page.reload()  # and after a restart of the page
    await zoe.go("Room")
    await usual.click()
    await zoe.page.get_by_role("button", name="Mute: ring for nothing here").wait_for()
    await zoe.page.evaluate(AWAY)
    await terry.send("once more")
    await becomes(lambda: other.evaluate("shown.map(({body}) => body).at(-1)"), "once more")
    await laptop.close()


async def test_who_was_removed_while_offline_is_told_and_still_finds_the_group(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    terry.say(do="group", name="Café Küche Team", members=["zoe", "yan"], ref="group")
    group = (await terry.next("answer", ref="group"))["rows"][0]["conversation_id"]
    await yan.page.goto(yan.url)
    await yan.go("#Café Küche Team")
    await yan.write("who cooks?")
    await terry.next("message", text="who cooks?")
    row = zoe.row("#Café Küche Team")
    await zoe.page.reload()  # now only the last line of the group is known
    await row.get_by_text("yan: who cooks?").wait_for()
    await zoe.go("#Café Küche Team")
    await row.get_by_text("unread").wait_for(state="detached")
    await zoe.context.set_offline(True)
    await zoe.page.locator(".connection").wait_for()
    await zoe.write("too late")
    terry.say(do="kick", to=group, users=["zoe"])
    await terry.next("group", change="removed")
    await yan.page.locator(".talk-sub").get_by_text("2 members", exact=True).wait_for()  # the gateway knows it
    await zoe.context.set_offline(False)
    await (await zoe.sees("too late")).get_by_text("Not sent: ").wait_for()
    await zoe.message("too late").get_by_role("button", name="Discard").click()
    await zoe.go("Room")
    await row.wait_for(state="detached")
    await zoe.page.get_by_label("Find people, groups and messages").fill("kuche")
    await row.get_by_text("no longer a member").wait_for()
    await row.click()
    await zoe.sees("who cooks?")
    await zoe.page.get_by_label("Find people, groups and messages").fill("")


async def test_members_are_counted_and_added_and_what_is_refused_is_said_where_it_was_asked(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    page, group = zoe.page, zoe.page.get_by_role("dialog")
    await page.get_by_role("button", name="New group").click()
    await page.get_by_label("Name", exact=True).fill("solo")
    await page.get_by_role("button", name="Create group").click()
    await page.locator(".talk-sub").get_by_text("1 member", exact=True).wait_for()
    await page.get_by_role("button", name="Members of this group").click()
    await group.get_by_label("Name", exact=True).fill("a/b")
    await group.get_by_role("button", name="Rename").click()
    await group.get_by_role("alert").get_by_text("a name does not contain '/'").wait_for()
    await group.get_by_role("checkbox", name="terry").check()
    await group.get_by_role("button", name="Add", exact=True).click()
    await group.get_by_role("heading", name="2 members").wait_for()  # it follows the group, and keeps what was typed
    await expect(group.get_by_label("Name", exact=True)).to_have_value("a/b")
    await group.get_by_text("To leave it, make another member the owner first.").wait_for()
    await expect(group.get_by_role("button", name="Leave group")).to_have_count(0)
    await group.get_by_role("button", name="Remove terry").click()
    terry.say(do="leave", to=(await terry.next("group", group="solo"))["conversation_id"])
    await page.locator(".talk-sub").get_by_text("1 member", exact=True).wait_for()
    await group.get_by_role("button", name="Remove", exact=True).click()
    await group.get_by_role("alert").get_by_text("terry is not in #solo", exact=True).wait_for()
    await page.keyboard.press("Escape")


async def test_who_is_blocked_is_hidden_until_unblocked(scene: Scene) -> None:
    zoe, terry, page = scene.zoe, scene.terry, scene.zoe.page
    about, dialog = page.locator(".talk-head").get_by_role("button", name="About terry"), page.get_by_role("dialog")
    await zoe.go("terry")
    await terry.send("before the block", to="zoe")
    await zoe.sees("before the block")
    await about.click()
    await dialog.get_by_text("They are not told.").wait_for()
    await dialog.get_by_role("button", name="Block", exact=True).click()
    await zoe.row("terry").get_by_text("blocked").wait_for()
    await page.locator(".talk-sub").get_by_text("blocked · private").wait_for()
    await expect(zoe.row("terry").locator(".dot")).to_have_count(0)
    await page.get_by_text(re.compile("you block (is|are) not shown")).wait_for()
    await expect(zoe.message("before the block")).to_have_count(0)
    await terry.send("meanwhile", to="zoe")
    await page.reload()
    await about.click()
    await expect(dialog.get_by_role("button", name="Ignore")).to_have_count(0)
    await dialog.get_by_role("button", name="Unblock").click()
    await asyncio.gather(zoe.sees("before the block"), zoe.sees("meanwhile"))
    await zoe.row("terry").get_by_text("online").wait_for()
    await page.get_by_text("not shown").wait_for(state="detached")


async def test_an_account_that_is_blocked_shows_in_nothing_until_it_is_unblocked(scene: Scene) -> None:
    """Of the same gateway, which stores what it writes: the page is given none of it, and then all of it in place."""
    zoe, yan, page = scene.zoe, scene.yan, scene.zoe.page
    await zoe.go("yan")
    await page.locator(".talk-head").get_by_role("button", name="About yan").click()
    await page.get_by_role("dialog").get_by_role("button", name="Block", exact=True).click()
    await page.keyboard.press("Escape")
    await zoe.row("yan").get_by_text("blocked").wait_for()
    await yan.page.goto(yan.url)
    await yan.go("Room")
    await yan.write("yan wrote meanwhile")
    await yan.sees("yan wrote meanwhile")
    await page.reload()
    await zoe.go("Room")
    await zoe.write("zoe wrote behind that")
    await zoe.sees("zoe wrote behind that")
    await expect(zoe.message("yan wrote meanwhile")).to_have_count(0)
    await zoe.row("yan").click()
    await page.locator(".talk-head").get_by_role("button", name="About yan").click()
    await page.get_by_role("dialog").get_by_role("button", name="Unblock").click()
    await page.keyboard.press("Escape")
    await zoe.go("Room")
    await zoe.sees("yan wrote meanwhile")
    shown = await page.locator("li.message .text").all_inner_texts()
    assert shown.index("yan wrote meanwhile") < shown.index("zoe wrote behind that")
