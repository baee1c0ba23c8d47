"""Changes while a dialog, a reply, an edit or a search is open; and the places that a finger hits on a phone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import WebSocketRoute, expect

from tests.web.browser import ON_STAGE, PATIENCE, PHONE, Scene, Visitor, becomes
from tests.web.chat_client import connect

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
    await zoe.page.reload()
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


async def test_the_row_of_a_group_shows_what_was_written_before_the_user_joined(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    terry.say(do="group", name="later", members=[], ref="later")
    group = (await terry.next("answer", ref="later"))["rows"][0]["conversation_id"]
    await terry.send("before anybody came", to=group)
    for one, name in ((zoe, "zoe"), (yan, "yan")):  # the gateway has its messages only for the second
        terry.say(do="add", to=group, users=[name])
        await one.row("#later").get_by_text("terry: before anybody came").wait_for()
    terry.say(do="kick", to=group, users=["zoe"])
    await zoe.row("#later").wait_for(state="detached")
    await terry.send("while zoe was out", to=group)
    terry.say(do="add", to=group, users=["zoe"])
    await zoe.row("#later").get_by_text("terry: while zoe was out").wait_for()
    await zoe.go("#later")
    await zoe.sees("while zoe was out")
    await expect(zoe.texts).to_have_text(["before anybody came", "while zoe was out"])
    await zoe.go("Room")


async def test_a_group_joined_again_is_loaded_even_if_the_list_told_of_it_first(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    assert zoe.context.browser is not None
    context = await zoe.context.browser.new_context()
    vera = Visitor(context, await context.new_page(), zoe.url)
    lists: list[str | bytes] = []  # requests of the page that are held back
    added: list[str | bytes] = []  # the line of the gateway that is held back
    is_out = False

    def on_socket(socket: WebSocketRoute) -> None:
        """Have the list answered before the line "added", as by a gateway that is busy writing to its disk."""
        gateway = socket.connect_to_server()

        def to_gateway(line: str | bytes) -> None:
            if is_out and not added and json.loads(line)["do"] == "list":
                lists.append(line)
            else:
                gateway.send(line)

        def to_page(text: str | bytes) -> None:
            line = json.loads(text)
            if is_out and line["event"] == "group" and line["change"] == "added":
                added.append(text)
                for one in lists:
                    gateway.send(one)
                return
            socket.send(text)
            if added and line["event"] == "answer" and line["command"] == "list" and lists:
                lists.clear()
                socket.send(added[0])

        socket.on_message(to_gateway)
        gateway.on_message(to_page)

    await vera.page.route_web_socket("**/lines*", on_socket)
    await vera.sign_up("vera")
    terry.say(do="group", name="back", members=["vera", "zoe"], ref="back")
    group = (await terry.next("answer", ref="back"))["rows"][0]["conversation_id"]
    await terry.send("before vera went", to=group)
    await vera.row("#back").get_by_text("terry: before vera went").wait_for()
    is_out = True
    terry.say(do="kick", to=group, users=["vera"])
    await vera.row("#back").get_by_text("no longer a member").wait_for()
    await terry.send("while vera was out", to=group)
    await zoe.row("#back").get_by_text("terry: while vera was out").wait_for()  # the gateway has it
    async with asyncio.timeout(PATIENCE):
        while not lists:
            await asyncio.sleep(0.02)  # poll: the page asks for it by itself
    terry.say(do="add", to=group, users=["vera"])
    await vera.row("#back").get_by_text("terry: while vera was out").wait_for()
    assert (vera.troubles, lists) == ([], [])
    await context.close()


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
    await row.locator(".ticks").click()
    await info.wait_for()
    terry.say(do="react", id=heard["id"], reaction="+1")
    await row.get_by_role("button", name="+1 1").wait_for(state="attached")
    await keys.press("Escape")
    await zoe.until("document.activeElement.matches('.ticks')")  # the same part, behind a new one
    await zoe.go("Room")


MANY_REACTIONS = """async () => {
  const { drawMessage } = await import("./message.js");
  const { Model, Talk, messageOf } = await import("./model.js");
  const reaction = (n) => ({ reaction: n % 50 ? `${n}` : "+1", by: `user ${n}`, by_id: `${n}` });
  const reactions = Array.from({ length: 5000 }, (_, n) => reaction(n));
  const sent_at = new Date().toISOString();
  const line = { event: "message", id: "1", sender: "ada", sender_id: "a", text: "hi", sent_at, reactions };
  const message = messageOf(line);
  const seen = { model: new Model(), talk: new Talk({ id: "r", kind: "room", name: "room" }), head: true };
  const node = drawMessage(message, seen, { files: () => null });
  const [first, ...others] = node.querySelectorAll("button.reaction");
  const rest = node.querySelector(".reactions .hint").textContent;
  return [first.textContent, first.title.split(", ").length, others.length, rest];
}"""


async def test_of_thousands_of_reactions_to_a_message_few_are_drawn(scene: Scene) -> None:
    first, named, others, rest = await scene.zoe.page.evaluate(MANY_REACTIONS)
    assert first.startswith("+1 100 by user 0, user 50,") and first.endswith(" and 70 more")
    assert (named, others, rest) == (30, 23, "4877 more")


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


async def test_a_click_on_what_is_drawn_again_meanwhile_is_not_lost(scene: Scene) -> None:
    zoe, terry, page = scene.zoe, scene.terry, scene.zoe.page
    frame = "new Promise(requestAnimationFrame)"
    await zoe.go("terry")
    for button, title in (
        (page.get_by_role("button", name="About terry"), "terry"),
        (page.locator("button.me"), "You"),
    ):
        await button.hover()
        await page.mouse.down()
        for words in (f"{title}: one", f"{title}: two"):
            terry.say(do="away", text=words)  # of which the header tells
            async with connect(f"{zoe.url.replace('http', 'ws', 1)}lines", additional_headers=zoe.bearer) as lines:
                await lines.send(json.dumps({"do": "away", "text": words}))  # and the button with the own name
                await lines.send(json.dumps({"do": "send", "to": "terry", "text": words}))
                await zoe.sees(words)
        for _ in range(2):
            await page.evaluate(frame)
        await page.mouse.up()
        await page.get_by_role("dialog", name=title).wait_for()
        await page.keyboard.press("Escape")
        await zoe.closed()
    terry.say(do="back")
    async with connect(f"{zoe.url.replace('http', 'ws', 1)}lines", additional_headers=zoe.bearer) as lines:
        await lines.send(json.dumps({"do": "back"}))
        await page.locator("button.me").get_by_text("online").wait_for()
    await zoe.row("terry").get_by_text("online").wait_for()
    await zoe.context.set_offline(True)
    bar = page.locator(".connection")
    await bar.get_by_role("button", name="Try now").wait_for()
    await zoe.until("window.bar = document.querySelector('.connection')")
    await page.evaluate("[window.said, window.again] = [bar.textContent, bar.querySelector('button')]")
    await zoe.until("bar.textContent !== said")  # it counts seconds
    assert await page.evaluate("again.isConnected")
    await zoe.context.set_offline(False)
    await bar.wait_for(state="hidden")
    await zoe.go("Room")


async def test_the_form_of_a_new_group_lists_who_joins_meanwhile(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    assert zoe.context.browser is not None
    form = zoe.page.get_by_role("dialog", name="New group")
    await zoe.page.get_by_role("button", name="New group").click()
    await form.get_by_label("Name", exact=True).fill("tea")
    box = form.get_by_role("checkbox", name="terry")
    await box.check()
    before = await form.locator("li bdi").all_text_contents()
    context = await zoe.context.browser.new_context()
    wim = await context.new_page()
    wim.set_default_timeout(PATIENCE * 1000)
    await wim.goto(scene.gateway.url)
    await wim.get_by_label("Choose a name").fill("wim")
    await wim.get_by_role("button", name="Join").click()
    await wim.get_by_role("button", name="Start chatting").click()
    await form.get_by_role("checkbox", name="wim").wait_for()
    terry.say(do="away", text="for tea")
    await form.get_by_text("away: for tea").wait_for()
    await expect(form.locator("li bdi")).to_have_text([*before, "wim"])  # nobody moves under the pointer
    await expect(box).to_be_checked()
    await box.uncheck()
    await form.get_by_role("checkbox", name="wim").check()
    await form.get_by_role("button", name="Create group").click()
    await zoe.page.locator(".talk-sub").get_by_text("2 members", exact=True).wait_for()
    await wim.locator("button.side-row").get_by_text("#tea").wait_for()
    terry.say(do="back")
    await zoe.row("terry").get_by_text("online").wait_for()
    await zoe.go("Room")
    await context.close()


async def test_what_was_searched_for_is_forgotten_with_the_search(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await terry.send("a hidden treasure")
    await zoe.sees("a hidden treasure")
    panel, words = zoe.page.get_by_role("region", name="Search"), zoe.page.get_by_label("Search messages")
    result = panel.get_by_role("button", name="a hidden treasure")
    for leave in ("Close search", "terry"):
        await zoe.page.keyboard.press("Control+Shift+f")
        await expect(words).to_have_value("")
        await panel.get_by_text("1 message").wait_for(state="detached")
        await words.fill("treasure")
        await result.wait_for()
        if leave == "terry":
            await zoe.go(leave)
        else:
            await zoe.page.get_by_role("button", name=leave).click()
        await panel.wait_for(state="hidden")
    await zoe.page.keyboard.press("Control+Shift+f")
    await expect(words).to_have_value("")
    await expect(result).to_have_count(0)
    await zoe.page.keyboard.press("Escape")
    find = zoe.page.get_by_label("Find people, groups and messages")
    await find.fill("roo")
    await zoe.row("terry").wait_for(state="detached")
    await zoe.go("Room")
    await expect(find).to_have_value("")
    await find.fill("treas")
    await zoe.page.keyboard.press("Control+k")  # what is typed now replaces it
    await zoe.page.keyboard.type("treasure")
    await zoe.page.get_by_role("button", name="Search messages for “treasure”").click()
    await result.wait_for()
    await expect(find).to_have_value("")
    await zoe.page.get_by_role("button", name="Close search").click()
    await yan.page.goto(f"{yan.url}#room")
    await yan.sees("a hidden treasure")
    again = yan.page.get_by_role("button", name="Search in this conversation")
    await again.click()
    await yan.page.get_by_label("Search messages").fill("treasure")
    await yan.page.get_by_role("region", name="Search").get_by_role("button", name="a hidden treasure").click()
    await yan.page.get_by_role("region", name="Search").wait_for(state="hidden")
    await again.click()  # for the next result
    await yan.page.get_by_role("region", name="Search").get_by_role("button", name="a hidden treasure").wait_for()
    await yan.page.keyboard.type("other")
    await expect(yan.page.get_by_label("Search messages")).to_have_value("other")
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


async def test_a_finger_hits_whatever_a_phone_shows(scene: Scene) -> None:
    yan, zoe, terry, page = scene.yan, scene.zoe, scene.terry, scene.yan.page
    shown = page.get_by_role("dialog")
    await page.goto(yan.url)
    await page.reload()
    await yan.row("Room").wait_for()
    await page.get_by_label("Find people, groups and messages").fill("terrry")
    await page.get_by_text("Did you mean").wait_for()
    await nothing_is_small(yan)
    await page.get_by_label("Find people, groups and messages").fill("")
    await page.evaluate("location.hash = '#room'")
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
    await page.set_viewport_size({"width": 1200, "height": 800})
    await page.get_by_role("button", name="New group").wait_for()

    async def new_group() -> list[Any]:
        return [size for _, name, *size in await page.evaluate(SMALL) if name == "New group"]

    await becomes(new_group, [[40, 40]])  # a mouse needs less
    await page.set_viewport_size({"width": 390, "height": 844})


async def test_what_signing_out_loses_is_counted_while_it_is_asked(scene: Scene) -> None:
    zoe, page = scene.zoe, scene.zoe.page
    tab = await zoe.tab()
    asked = page.get_by_role("dialog", name="Sign out?")
    leave = asked.get_by_role("button", name="Sign out")
    await asyncio.gather(zoe.go("Room"), tab.go("Room"))
    await page.evaluate("window.then = Date.now(); Date.now = () => then")
    await zoe.context.set_offline(True)
    for one in (zoe, tab):
        await one.page.locator(".connection").wait_for()
    await page.locator("button.me").click()
    await page.get_by_role("button", name="Sign out").click()
    await asked.wait_for()
    await expect(asked.get_by_text("not sent")).to_have_count(0)
    await tab.write("written meanwhile")
    await asked.get_by_text("1 message was not sent yet and will be lost.").wait_for()
    await leave.click()  # at the moment at which it appeared
    await asked.get_by_text("will be lost. Sign out anyway?").wait_for()
    await tab.write("and one more")
    await asked.get_by_text("2 messages were not sent yet and will be lost.", exact=True).wait_for()
    await zoe.context.set_offline(False)
    for text in ("written meanwhile", "and one more"):
        await scene.terry.next("message", text=text)
    await asked.get_by_text("lost").wait_for(state="hidden")
    await zoe.context.set_offline(True)
    for one in (zoe, tab):
        await one.page.locator(".connection").wait_for()
    await tab.write("of a tab that is closed")
    await asked.get_by_text("1 message was not sent yet and will be lost.").wait_for()
    await tab.page.goto("about:blank")
    await asked.get_by_text("lost").wait_for(state="hidden")
    await tab.page.close()
    await asked.get_by_role("button", name="Cancel").click()
    await zoe.write("to be lost")
    await page.locator("button.me").click()
    await page.get_by_role("button", name="Sign out").click()
    await asked.get_by_text("1 message was not sent yet and will be lost.").wait_for()
    await page.evaluate("then += 10_000")  # it was seen
    await leave.click()
    await page.get_by_label("Choose a name").wait_for()
    await zoe.context.set_offline(False)
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.reload()
    await page.get_by_label("Choose a name").wait_for()
    await nothing_is_small(zoe)
    await zoe.sign_in(zoe.token)
    async with connect(f"{zoe.url.replace('http', 'ws', 1)}lines", additional_headers=zoe.bearer) as lines:
        await lines.send(json.dumps({"do": "group", "name": "owned", "members": ["yan"]}))
        await zoe.go("#owned")
    await page.get_by_role("button", name="Members of this group").click()
    await page.get_by_role("button", name="Make owner yan").wait_for()
    await nothing_is_small(zoe)
