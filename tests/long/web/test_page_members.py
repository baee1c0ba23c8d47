"""Members of the network on the page, in Chromium: the list, decisions meanwhile, invites, an expelled user."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import Browser, expect

from p2pchat import TCPPeer
from p2pchat.web import WebSettings
from tests.deadlines import until
from tests.web.browser import CHROMIUM, chromium, visitor
from tests.web.test_expelled_accounts import Network, network

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with network(tmp_path, WebSettings(token_timeout=60.0, invites="all")) as net:
        yield net


async def test_members_are_listed_and_decisions_are_lines_in_the_room(net: Network, browser: Browser) -> None:
    ada, served = net
    xena = await visitor(browser, f"{served.url}/")
    await xena.sign_up("xena")
    await xena.go("Room")
    await xena.sees("hello")
    await ada.people.expel("zoe", hide=True)
    note = xena.page.locator("li.note")
    await expect(note).to_have_text([re.compile("ada expelled zoe from this network$")])
    await xena.page.get_by_role("button", name="Members of this network").click()
    dialog = xena.page.get_by_role("dialog", name="Members of this network")
    members, out = (dialog.get_by_role("list", name=name).locator("li") for name in ("Members", "Expelled"))
    await expect(members).to_have_text(
        [re.compile("ada.*founder"), re.compile("gate, xena, yan.*answers for you, admitted by ada")]
    )
    await expect(out).to_have_text([re.compile("zoe.*by ada, ")])
    await xena.page.keyboard.press("Escape")
    find = xena.page.get_by_label("Find people, groups and messages")
    await find.fill("zoe")
    await expect(xena.row("zoe")).to_contain_text("expelled")
    await find.fill("")
    await xena.write("so be it")
    await xena.sees("so be it")
    await ada.people.pardon("zoe")
    await expect(note).to_have_count(2)
    order = xena.page.locator("li.note, li.message")
    await expect(order.last).to_have_text(re.compile("ada let zoe back into this network$"))
    await expect(order.nth(-2)).to_contain_text("so be it")
    assert xena.troubles == []


async def test_who_is_expelled_reads_why_the_page_ends(net: Network, browser: Browser) -> None:
    ada, served = net
    xena = await visitor(browser, f"{served.url}/")
    await xena.sign_up("xena")
    await xena.write("hi")
    await ada.when_known(lambda: ada.user("xena"))
    await ada.people.expel("xena")
    await xena.page.get_by_text("This account was expelled from the network.").wait_for()
    assert xena.troubles == []


async def test_a_conversation_that_somebody_new_began_says_who_that_is_until_there_is_an_answer(
    net: Network, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, served = net
    xena = await visitor(browser, f"{served.url}/")
    await xena.sign_up("xena")
    await xena.go("Room")
    page, head = xena.page, xena.page.locator(".talk-head .begun")
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "bob"))
    async with TCPPeer(0, name="bob", db="memory://", invite=await ada.make_invite()) as bob:
        await bob.wait_user("xena", timeout=60)
        await (await bob.send("xena", "hello")).delivered(timeout=60)
        await (await bob.create_group("ops", ["xena"])).send("look here")
        await xena.row("bob").get_by_text("1 unread").wait_for()
        await expect(xena.row("bob").locator(".side-status")).to_have_text("new")
        await xena.go("bob")
        await xena.sees("hello")
        await expect(head).to_have_text(re.compile("^New: bob, admitted by ada"))
        await page.screenshot(path=tmp_path / "new.png")
        await xena.write("hi")
        await expect(head).to_have_count(0)
        await expect(xena.row("bob").locator(".side-status")).not_to_have_text("new")
        await xena.go("#ops")
        await expect(head).to_have_count(0)  # it is of somebody whom xena has written to
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "mal"))
    async with TCPPeer(0, name="mal", db="memory://", invite=await ada.make_invite()) as mal:
        await mal.wait_user("xena", timeout=60)
        await (await mal.send("xena", "buy this")).delivered(timeout=60)
        await xena.go("mal")
        await xena.sees("buy this")
        await head.get_by_role("button", name="Block mal").click()
        await xena.row("mal").get_by_text("blocked").wait_for()
        await expect(head).to_have_count(0)
    assert xena.troubles == []


async def test_an_invite_says_whom_it_admits_or_why_there_is_none(net: Network, browser: Browser) -> None:
    ada, served = net
    xena = await visitor(browser, f"{served.url}/")
    await xena.sign_up("xena")
    invite = xena.page.get_by_role("button", name="Invite people")
    await invite.click()
    dialog = xena.page.get_by_role("dialog", name="Invite people")
    make = dialog.get_by_role("button", name="Make an invite")
    await make.click()
    await dialog.get_by_text("only the founder of this network and its admins invite").wait_for()
    await ada.people.make_admin("gate")
    await until(lambda: served.peer.people.find(served.peer.me).role == "admin", "the gateway may invite")
    await dialog.get_by_role("button", name="Close").click()
    await invite.click()
    assert served.peer.people.invites() == []  # a look makes none
    await make.click()
    await dialog.get_by_text("It admits one person until ").wait_for()
    await expect(dialog.get_by_role("group", name="Invite", exact=True)).to_have_text(re.compile("^p2pchat:"))
    assert len(served.peer.people.invites()) == 1
    assert xena.troubles == []
