"""The page as an app: Chromium finds it fit to be installed, and it opens while the gateway is away."""

from __future__ import annotations

import importlib.resources

import pytest

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from p2pchat.web.page_files import FOLDER, KINDS
from tests.web.browser import ON_STAGE, Scene, visitor

pytestmark = ON_STAGE
READY = "async () => Boolean((await navigator.serviceWorker.ready).active)"
KEPT = """async () => {
    const kept = [];
    for (const name of await caches.keys()) {
        const cache = await caches.open(name);
        for (const request of await cache.keys()) kept.push([request.url, await (await cache.match(request)).text()]);
    }
    return kept;
}"""
AXE = "async () => (await axe.run(document)).violations.map(({ id }) => id)"


async def test_chromium_finds_nothing_that_keeps_the_page_from_being_installed(scene: Scene) -> None:
    page = scene.zoe.page
    developer = await scene.zoe.context.new_cdp_session(page)
    manifest = await developer.send("Page.getAppManifest")
    assert (manifest["errors"], manifest["url"]) == ([], f"{scene.gateway.url}manifest.webmanifest")
    found = await developer.send("Page.getInstallabilityErrors")
    others = [one["errorId"] for one in found["installabilityErrors"] if one["errorId"] != "in-incognito"]
    assert others == []  # a profile of the tests is one that is not kept
    await developer.detach()


async def test_the_page_opens_while_the_gateway_is_away_and_keeps_no_texts(scene: Scene) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core comes with axe-playwright-python")
    zoe, terry = scene.zoe, scene.terry
    await zoe.page.evaluate(READY)
    await zoe.go("Room")
    await terry.send("nobody keeps this")
    await zoe.sees("nobody keeps this")
    await zoe.page.reload()
    await zoe.sees("nobody keeps this")
    assert await zoe.page.evaluate("Boolean(navigator.serviceWorker.controller)")
    new = await zoe.context.new_page()
    async with scene.gateway.away():
        await zoe.page.reload()
        await zoe.page.locator(".connection").get_by_text("The gateway does not answer.").wait_for()
        await zoe.page.evaluate((importlib.resources.files(axe) / "axe.min.js").read_text("utf-8"))
        assert await zoe.page.evaluate(AXE) == []
        await new.goto(scene.gateway.url)
        await new.get_by_label("Choose a name").wait_for()
    await new.close()
    await zoe.sees("nobody keeps this")
    kept = dict(await zoe.page.evaluate(KEPT))
    names = {path.name for path in FOLDER.iterdir() if path.suffix in KINDS} - {"index.html", "worker.js"}
    assert kept.keys() == {scene.gateway.url + name for name in ("", *names)}
    assert not any("nobody keeps this" in text or zoe.token in text for text in kept.values())


async def test_an_installed_page_shows_the_number_of_unread_messages_on_its_icon(scene: Scene) -> None:
    xia = await visitor(scene.browser, scene.gateway.url)
    await xia.context.add_init_script("badges = []; navigator.setAppBadge = async (number) => badges.push(number)")
    await xia.sign_up("xia")
    tab = await xia.tab()
    await xia.page.close()
    for text in ("one", "two"):
        await scene.terry.send(text, to="xia")
    await tab.until("badges.at(-1) === 2")
    assert tab.troubles == []
    await xia.context.close()
