"""A person with several machines on the page, in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import expect

from p2pchat import TCPPeer, join_device
from tests.deadlines import WAIT, until
from tests.messaging.conftest import home as home
from tests.test_devices import Adding, Login
from tests.test_devices import login as login
from tests.web.browser import CHROMIUM, chromium, visitor
from tests.web.conftest import serving

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")


async def test_a_person_is_one_row_and_says_on_how_many_machines(login: Login, home: Path) -> None:
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    adding = Adding(home / "desk")
    code = await adding.code()
    login("the laptop")
    await join_device(code, home / "lap", on_words=lambda words: None)
    await adding.task
    login("ada")
    async with TCPPeer(data=home / "desk") as desk:
        login("gate")
        async with serving(invite=await desk.make_invite()) as served, chromium() as browser:
            login("the laptop")
            async with TCPPeer(0, desk.endpoint, served.gateway.peer.endpoint, data=home / "lap") as laptop:
                await until(lambda: len(laptop.links()) == 2, "the laptop at both")
                zoe = await visitor(browser, f"{served.url}/")
                await zoe.sign_up("zoe")
                await (await laptop.broadcast("from the laptop")).delivered(timeout=WAIT)
                await zoe.go("ada")
                await expect(zoe.row("ada")).to_have_count(1)
                await zoe.page.get_by_role("button", name="About ada").click()
                about = zoe.page.get_by_role("dialog", name="ada")
                await expect(about).to_contain_text("Machines2 linked")
