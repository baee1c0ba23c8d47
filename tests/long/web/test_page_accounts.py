"""Several gateways of one origin, and several accounts in one browser: each keeps what is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from fastapi import FastAPI
from playwright.async_api import BrowserContext, Page, expect
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from p2pchat import TCPPeer
from p2pchat.web import Caller, WebSettings, create_app
from tests.web.browser import CHROMIUM, PATIENCE, chromium
from tests.web.conftest import listening

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")


@asynccontextmanager
async def site(*paths: str) -> AsyncIterator[tuple[BrowserContext, str]]:
    """Run a gateway at each path of one origin; yield a browser and the origin."""
    own = FastAPI()
    async with AsyncExitStack() as stack:
        for path in paths:
            peer = await stack.enter_async_context(TCPPeer(0, name=f"gate {path.strip('/')}", db="memory://"))
            chat = create_app(peer, WebSettings(sign_up="open"))
            own.mount(path, chat)
            stack.push_async_callback(chat.state.gateway.aclose)
        port = await stack.enter_async_context(listening(own))
        browser = await stack.enter_async_context(chromium())
        context = await browser.new_context(locale="en-GB")
        context.set_default_timeout(PATIENCE * 1000)
        yield context, f"http://127.0.0.1:{port}"
        await context.close()


async def enter(page: Page, url: str, name: str, *, stays: bool) -> None:
    """Register a name on the page at this address."""
    await page.goto(url)
    await page.get_by_label("Choose a name").fill(name)
    if stays:
        await page.get_by_label("Stay signed in on this device").check()
    await page.get_by_role("button", name="Join").click()
    await page.get_by_role("button", name="Start chatting").click()
    await is_signed_in(page, name)


async def is_signed_in(page: Page, name: str) -> None:
    await page.locator("button.me").get_by_text(name).wait_for()


async def sign_out(page: Page) -> None:
    await page.locator("button.me").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("dialog", name="Sign out?").get_by_role("button", name="Sign out").click()
    await page.get_by_label("Choose a name").wait_for()


async def test_signing_out_of_one_gateway_signs_out_of_no_other_of_the_same_origin() -> None:
    async with site("/a", "/b") as (context, origin):
        one, other = await context.new_page(), await context.new_page()
        await enter(one, f"{origin}/a/", "ada", stays=True)
        await enter(other, f"{origin}/b/", "bob", stays=True)
        await sign_out(other)
        await one.reload()
        await is_signed_in(one, "ada")
        fresh = await context.new_page()
        await fresh.goto(f"{origin}/a/")
        await is_signed_in(fresh, "ada")


async def test_two_accounts_in_one_browser_keep_their_tokens_and_choices() -> None:
    async with site("/a") as (context, origin):
        url = f"{origin}/a/"
        one, other = await context.new_page(), await context.new_page()
        await enter(one, url, "ada", stays=False)
        await enter(other, url, "eve", stays=True)
        await one.locator("button.me").click()
        await one.get_by_label("Show when I'm typing").uncheck()
        await one.keyboard.press("Escape")
        await one.reload()
        await is_signed_in(one, "ada")
        await sign_out(one)
        await one.reload()
        await one.get_by_label("Choose a name").wait_for()  # it is nobody's, until somebody signs in
        await other.reload()
        await is_signed_in(other, "eve")
        await other.locator("button.me").click()
        await expect(other.get_by_label("Show when I'm typing")).to_be_checked()
        fresh = await context.new_page()
        await fresh.goto(url)
        await is_signed_in(fresh, "eve")


async def test_where_nobody_can_sign_up_the_page_asks_for_a_token_and_for_no_name() -> None:
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        chat = create_app(peer, WebSettings(sign_up="token"))
        _, token = await chat.state.gateway.accounts.new_token("ada")
        async with listening(chat) as port, chromium() as browser:
            context = await browser.new_context(locale="en-GB")
            context.set_default_timeout(PATIENCE * 1000)
            page = await context.new_page()
            await page.goto(f"http://127.0.0.1:{port}/")
            await page.get_by_text("Nobody can sign up here.").wait_for()
            await expect(page.get_by_label("Choose a name")).to_have_count(0)
            await expect(page.get_by_label("Your token")).to_be_focused()
            await page.keyboard.type("nothing")
            await page.keyboard.press("Enter")
            await page.get_by_role("alert").get_by_text("Unknown token").wait_for()
            await page.get_by_label("Your token").fill(token)
            await page.get_by_role("button", name="Sign in").click()
            await is_signed_in(page, "ada")
            await context.close()
            await chat.state.gateway.aclose()


async def test_a_user_of_a_program_comes_with_its_cookie_and_leaves_with_its_session() -> None:
    sessions = {"xyz": Caller("ada")}

    async def who(connection: HTTPConnection) -> Caller | None:
        return sessions.get(connection.cookies.get("session", ""))

    own = FastAPI()
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        chat = create_app(peer, authenticate=who)
        own.mount("/chat", chat)
        async with listening(own) as port, chromium() as browser:
            url = f"http://127.0.0.1:{port}"
            context = await browser.new_context(locale="en-GB")
            context.set_default_timeout(PATIENCE * 1000)
            await context.add_cookies([{"name": "session", "value": "xyz", "url": url}])
            page = await context.new_page()
            await page.goto(f"{url}/chat/")
            await is_signed_in(page, "ada")
            await page.locator("button.me").click()
            await page.get_by_text("Your key begins with").wait_for()
            await expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
            await expect(page.get_by_role("button", name="Delete my account")).to_have_count(0)
            await page.keyboard.press("Escape")
            chat.state.gateway.sign_out("ada")  # it comes back, since its session is still open
            await page.locator("#compose").fill("hello")
            await page.keyboard.press("Enter")
            await page.locator("li.message").get_by_text("hello").wait_for()
            sessions.clear()
            chat.state.gateway.sign_out("ada")
            await page.get_by_text("You are not signed in.").wait_for()
            await expect(page.get_by_label("Choose a name")).to_have_count(0)
            sessions["xyz"] = Caller("ada")
            await page.get_by_role("button", name="Try again").click()
            await is_signed_in(page, "ada")
            await context.close()
            await chat.state.gateway.aclose()


async def test_no_cookie_of_another_program_of_the_site_goes_with_a_token() -> None:
    """Those of the page itself and of a socket the browser adds; nothing of the page can leave them out."""
    cookies: dict[str, bool] = {}
    own = FastAPI()
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        chat = create_app(peer, WebSettings(sign_up="open"))

        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                cookies[f"{scope['method']} {scope['path']}"] = "cookie" in HTTPConnection(scope).headers
            await chat(scope, receive, send)

        own.mount("/chat", recorded)
        async with listening(own) as port, chromium() as browser:
            url = f"http://127.0.0.1:{port}"
            context = await browser.new_context(locale="en-GB")
            context.set_default_timeout(PATIENCE * 1000)
            await context.add_cookies([{"name": "session", "value": "xyz", "url": url}])
            page = await context.new_page()
            await enter(page, f"{url}/chat/", "ada", stays=False)
            await page.locator("button.me").click()
            await page.get_by_role("button", name="Delete my account…").click()
            asked = page.get_by_role("dialog", name="Delete your account?")
            await asked.get_by_label("Type your name to confirm").fill("ada")
            await asked.get_by_role("button", name="Delete my account").click()
            await page.get_by_text("This account was deleted.").wait_for()
            await context.close()
            await chat.state.gateway.aclose()
    assert cookies["GET /chat/"]  # so there was one to be sent
    assert {call: cookies[call] for call in cookies if "accounts" in call} == {
        "POST /chat/accounts": False, "DELETE /chat/accounts/me": False,
    }  # fmt: skip
