"""What the page shows of people who are blocked, on small and odd screens, on paper, and of very many messages."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import expect

from tests.web.browser import ON_STAGE, PHONE, Scene, becomes, visitor

pytestmark = ON_STAGE
MANY = 1_000  # messages: more than twice those that the document keeps


async def test_nothing_of_a_blocked_person_stays_in_quotes_reactions_and_pins(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    await terry.send("what terry said")
    about = await zoe.sees("what terry said")
    await zoe.do("what terry said", "Reply")
    await zoe.write("an answer of zoe")
    own = await zoe.sees("an answer of zoe")
    answer = (await terry.next("message", text="an answer of zoe"))["id"]
    terry.say(do="react", id=answer, reaction="!?")
    terry.say(do="pin", id=answer)
    await own.locator(".reaction").get_by_text("!?").wait_for()
    await own.locator(".quote").get_by_text("what terry said").wait_for()
    bar = zoe.page.get_by_role("region", name="Pinned messages")
    await expect(bar).to_contain_text("an answer of zoe")
    await zoe.row("terry").click()
    await zoe.page.get_by_role("button", name="About terry").first.click()
    await zoe.page.get_by_role("dialog").get_by_role("button", name="Block").click()
    await zoe.page.keyboard.press("Escape")
    await zoe.go("Room")
    await expect(about).to_have_count(0)
    await expect(own.locator(".quote")).to_have_text("Reply to a message that you do not see")
    await expect(own.locator(".reaction")).to_have_count(0)
    await expect(bar).to_be_hidden()
    await zoe.row("terry").click()
    await zoe.page.get_by_role("button", name="About terry").first.click()
    await zoe.page.get_by_role("dialog").get_by_role("button", name="Unblock").click()
    await zoe.page.keyboard.press("Escape")
    await zoe.go("Room")
    await own.locator(".quote").get_by_text("what terry said").wait_for()
    terry.say(do="unpin", id=answer)


@pytest.mark.parametrize(("hide", "show"), [("block", "unblock"), ("ignore", "unignore")])
async def test_an_open_tab_hears_whom_its_account_hides_elsewhere(scene: Scene, hide: str, show: str) -> None:
    """Another client of the account blocks somebody: what a reload would show is shown at once."""
    zoe, terry = scene.zoe, scene.terry

    async def chooses(what: str) -> None:
        order = {"do": what, "user": "terry"}
        answer = await zoe.page.request.post(f"{zoe.url}v1/do", headers=zoe.bearer, data=order)
        assert answer.status == 200, await answer.text()

    await zoe.go("Room")
    about = (await terry.send(f"before the {hide}"))["id"]
    said = zoe.page.locator(f'.message[data-id="{about}"]')
    await said.wait_for()
    await zoe.write(f"of zoe, {hide}")
    own = await zoe.sees(f"of zoe, {hide}")
    answer = (await terry.next("message", text=f"of zoe, {hide}"))["id"]
    terry.say(do="react", id=answer, reaction="!?")
    await own.locator(".reaction").get_by_text("!?").wait_for()
    terry.say(do="group", name=f"terry's {hide}", members=["zoe"])
    await zoe.row(f"#terry's {hide}").wait_for()
    read_out = zoe.page.locator("#announcer")
    assert f"before the {hide}" in await read_out.inner_text()
    await chooses(hide)
    await expect(said).to_have_count(0)
    assert f"before the {hide}" not in await read_out.inner_text()
    await expect(own.locator(".reaction")).to_have_count(0)
    await expect(zoe.row(f"#terry's {hide}")).to_have_count(0 if hide == "block" else 1)
    await terry.send(f"meanwhile, {hide}")
    await terry.send(f"direct, {hide}", to="zoe")
    await chooses(show)
    await said.wait_for()
    await own.locator(".reaction").get_by_text("!?").wait_for()
    await zoe.sees(f"meanwhile, {hide}")
    await zoe.row("terry").get_by_text(f"direct, {hide}").wait_for()
    await zoe.row(f"#terry's {hide}").wait_for()


async def test_a_message_that_is_brought_back_has_its_reactions(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    said = (await terry.send("here and gone"))["id"]
    await zoe.sees("here and gone")
    terry.say(do="react", id=said, reaction="ok")
    message = zoe.page.locator(f'.message[data-id="{said}"]')
    await message.locator(".reaction").get_by_text("ok").wait_for()
    terry.say(do="delete", id=said)
    await message.get_by_text("This message was deleted").wait_for()
    await expect(message.locator(".reaction")).to_have_count(0)
    terry.say(do="edit", id=said, text="here again")
    await message.get_by_text("here again").wait_for()
    await expect(message.locator(".reaction")).to_have_count(1)


async def test_a_phone_writes_new_lines_and_shows_votes_beside_long_options(scene: Scene) -> None:
    terry = scene.terry
    xia = await visitor(scene.browser, scene.gateway.url, viewport=PHONE, has_touch=True, is_mobile=True)
    await xia.sign_up("xia")
    await xia.go("Room")
    field = xia.page.locator("#compose")
    await field.fill("one")
    await field.press("Enter")
    await field.press_sequentially("two")
    await expect(field).to_have_value("one\ntwo")
    await xia.page.get_by_role("button", name="Send").tap()
    assert (await terry.next("message", text="one\ntwo"))["sender"] == "xia"
    terry.say(do="poll", to="room", question="Which?", options=["x" * 80, "y " * 39])
    asked = await terry.next("sent", text="Which?")
    message = await xia.sees("Which?")
    await message.locator("button.option").nth(0).tap()
    await terry.next("vote", id=asked["id"])
    votes = message.locator(".option-votes").nth(0)
    assert await votes.evaluate("(one) => one.getBoundingClientRect().right <= innerWidth")
    assert await xia.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    await message.get_by_role("button", name="Who voted").tap()
    dialog = xia.page.get_by_role("dialog", name="Who voted")
    await dialog.locator("section").nth(0).get_by_text("xia").wait_for()
    await xia.page.keyboard.press("Escape")
    assert xia.troubles == []
    await xia.context.close()


async def test_undo_takes_an_emoji_back_and_leaves_what_was_typed(scene: Scene) -> None:
    zoe = scene.zoe
    await zoe.go("Room")
    field = zoe.page.locator("#compose")
    await field.fill("")
    await field.press_sequentially("well done ")
    await zoe.page.get_by_role("button", name="Emoji").click()
    await zoe.page.get_by_role("dialog").get_by_role("searchbox").fill("tada")
    await zoe.page.keyboard.press("Enter")
    await expect(field).to_have_value("well done \N{PARTY POPPER}")
    await field.press("Control+z")
    await expect(field).to_have_value("well done ")
    await field.press_sequentially(":tada:")
    await expect(field).to_have_value("well done \N{PARTY POPPER}")
    await field.press("Control+z")
    await expect(field).not_to_have_value("well done \N{PARTY POPPER}")
    await expect(field).to_have_value("well done :tada:")
    await field.fill("")


async def test_an_enlarged_window_and_paper_show_the_messages(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    for number in range(30):
        await terry.send(f"line {number} to print")
    newest = await zoe.sees("line 29 to print")
    await zoe.page.set_viewport_size({"width": 320, "height": 256})
    await newest.scroll_into_view_if_needed()
    height = "document.querySelector('.timeline').clientHeight"
    await becomes(lambda: zoe.page.evaluate(f"{height} >= 120"), True)
    assert await zoe.page.evaluate("document.scrollingElement.scrollWidth") == 320
    await zoe.page.set_viewport_size({"width": 1200, "height": 500})
    await zoe.page.emulate_media(media="print")
    printed = "document.scrollingElement.scrollHeight - document.querySelector('.messages').scrollHeight"
    assert await zoe.page.evaluate(f"{printed} >= 0 && {height} === document.querySelector('.timeline').scrollHeight")
    await expect(zoe.page.locator("#compose")).to_be_hidden()
    await zoe.page.emulate_media(media="screen")
    await zoe.page.set_viewport_size({"width": 1200, "height": 800})


async def test_what_is_far_above_leaves_the_document_and_comes_back(scene: Scene) -> None:
    """With 4,000 messages a tab was three to five times slower."""
    zoe, terry = scene.zoe, scene.terry
    await zoe.go("Room")
    first = await terry.send("the first of very many")
    terry.say(do="pin", id=first["id"])
    await zoe.sees("the first of very many")
    await zoe.page.mouse.move(5, 5)
    for number in range(MANY):
        terry.say(do="send", to="room", text=f"number {number}")
        if number % 100 == 99:
            await terry.next("sent", text=f"number {number}")
            await zoe.sees(f"number {number}")
    await becomes(lambda: zoe.page.evaluate("document.querySelectorAll('li.message').length <= 900"), True)
    await expect(zoe.message("the first of very many")).to_have_count(0)
    go = zoe.page.get_by_role("button", name="Go to the pinned message")
    await go.click()
    await zoe.page.locator(f'.message[data-id="{first["id"]}"]').wait_for()
    terry.say(do="unpin", id=first["id"])
    await expect(go).to_have_count(0)
