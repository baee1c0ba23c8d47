"""Files on the page: pasted, chosen and dropped, shown inside the conversation, saved, and fetched from others."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

pytest.importorskip("playwright", reason="the page is tried with playwright, which is not installed")

from playwright.async_api import FilePayload, expect

from tests.long.web.test_page import AXE
from tests.web.browser import ON_STAGE, PHONE, GatewayProcess, Scene, Visitor, becomes, started

pytestmark = ON_STAGE
WINDOW = {"viewport": PHONE}  # of yan

HARMFUL = b"<svg xmlns='http://www.w3.org/2000/svg'><script>parent.document.title = 'taken'</script></svg>"
PASTED = """addEventListener('paste', async ({clipboardData}) => {
    const file = clipboardData.files[0];
    if (!file) return;
    const hash = await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
    window.pasted = {name: file.name, size: file.size,
        hash: [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('')};
}, true)"""
COPY = """async (bytes) => navigator.clipboard.write(
    [new ClipboardItem({'image/png': new Blob([new Uint8Array(bytes)], {type: 'image/png'})})])"""
DROP = """async ([name, text]) => {
    const given = new DataTransfer();
    given.items.add(new File([text], name, {type: 'text/plain'}));
    const timeline = document.querySelector('.timeline');
    for (const type of ['dragover', 'drop'])
        timeline.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: given}));
}"""


def png(width: int, height: int) -> bytes:
    """Return a picture: a gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + bytes(part for x in range(width) for part in (255 * x // width, 255 * y // height, 120))
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(seconds: float) -> bytes:
    """Return a sound: silence."""
    data = bytes(int(8000 * seconds))
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8,
                       b"data", len(data))  # fmt: skip
    return head + data


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def in_the_room(scene: Scene) -> None:
    if "in the room" not in scene.made:
        await scene.yan.go("Room")
        scene.made["in the room"] = True


async def attach(one: Visitor, *files: tuple[str, str, bytes]) -> None:
    """Choose files (name, type, content) with the button."""
    async with one.page.expect_file_chooser() as choosing:
        await one.page.get_by_role("button", name="Attach files").click()
    payloads: list[FilePayload] = [{"name": n, "mimeType": t, "buffer": content} for n, t, content in files]
    await (await choosing.value).set_files(payloads)


async def sent(scene: Scene, *files: tuple[str, str, bytes], text: str = "") -> dict[str, Any]:
    """Send files from zoe's page to the room; return the line of the terminal."""
    await attach(scene.zoe, *files)
    await expect(scene.zoe.page.locator(".tray-row")).to_have_count(len(files))
    await scene.zoe.write(text)
    return await scene.terry.next("message", text=text)


def last(one: Visitor, part: str) -> Any:
    return one.page.locator(f"li.message {part}").last


async def test_a_picture_pasted_into_the_page_comes_to_a_terminal_byte_for_byte(scene: Scene) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    await zoe.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await zoe.page.evaluate(PASTED)
    await zoe.page.evaluate(COPY, list(png(480, 270)))
    await zoe.page.locator("#compose").focus()
    await zoe.page.keyboard.press("Control+V")
    await expect(zoe.page.locator(".tray-row")).to_have_count(1)
    await zoe.write("look at this")
    await expect(zoe.page.locator(".tray-row")).to_have_count(0)
    line = await terry.next("message", text="look at this")
    pasted = await zoe.page.evaluate("window.pasted")
    [file] = line["files"]
    assert (file["name"], file["size"], file["type"]) == (pasted["name"], pasted["size"], "image/png")
    await terry.next("file_arrived", root=file["root"])
    content = (terry.home / "t" / "content" / file["root"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == pasted["hash"]
    for one in (zoe, yan):
        picture = last(one, ".picture img")
        await one.until_of(picture, "(img) => img.complete && img.naturalWidth === 480")
    await yan.page.locator("li.message").last.hover()  # its actions appear, and it may move
    await last(yan, ".picture").click()
    full = yan.page.locator("dialog img.full")
    await yan.until_of(full, "(img) => img.naturalWidth === 480")
    await expect(yan.page.get_by_role("heading", name="image.png")).to_be_visible()
    await yan.page.keyboard.press("Escape")
    await yan.closed()
    await expect(yan.page.locator(".side-sub", has_text="look at this [image.png]").first).to_be_attached()


async def test_svg_and_html_are_downloads_and_nothing_in_them_runs(scene: Scene) -> None:
    zoe, yan = scene.zoe, scene.yan
    page_before = yan.page.url
    files = (
        ("drawing.svg", "image/svg+xml", HARMFUL),
        ("page.html", "text/html", HARMFUL),
        ("a.png", "image/png", b"no"),
    )
    await sent(scene, *files)
    for one in (zoe, yan):
        buttons = [f"Download {name}" for name in ("drawing.svg, 94 bytes", "page.html, 94 bytes", "a.png, 2 bytes")]
        rows = one.page.locator("li.message").last
        for label in buttons:
            await expect(rows.get_by_role("button", name=label)).to_be_attached()
        await expect(rows.locator("img, iframe, object, embed, video, audio")).to_have_count(0)
        await rows.hover()  # its actions appear, and it may move
        for name, _, content in files[:2]:
            async with one.page.expect_download() as downloading:
                await rows.get_by_role("button", name=f"Download {name}").click()
            saved = await downloading.value
            assert saved.suggested_filename == name and Path(await saved.path()).read_bytes() == content
    assert yan.page.url == page_before and "taken" not in await yan.page.title()
    scene.zoe.troubles[:] = [one for one in scene.zoe.troubles if "a.png" in one]


async def test_sound_is_played_and_plays_on_when_its_message_is_drawn_again(scene: Scene) -> None:
    yan = scene.yan
    line = await sent(scene, ("a.wav", "audio/wav", wav(30.0)), text="listen")
    sound = last(yan, "audio")
    await yan.until_of(sound, "(audio) => audio.duration === 30")
    await yan.page.evaluate("() => { window.sound = [...document.querySelectorAll('li.message audio')].at(-1); "
                            "window.sound.muted = true; return window.sound.play(); }")  # fmt: skip
    scene.terry.say(do="react", id=line["id"], reaction="👍")
    await yan.page.locator("li.message").last.get_by_role("button", name="👍").wait_for()
    await yan.until("window.sound.isConnected && !window.sound.paused && window.sound.currentTime > 0")
    await yan.page.evaluate("window.sound.pause()")
    await expect(sound).to_have_attribute("aria-label", "a.wav, 240 kB")


async def test_files_are_dropped_listed_removed_and_at_most_ten(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    await zoe.page.evaluate(DROP, ["one.txt", "first"])
    await zoe.page.evaluate(DROP, ["two.txt", "second"])
    await zoe.page.get_by_role("button", name="Remove one.txt").click()
    await expect(zoe.page.locator(".tray .file-name")).to_have_text(["two.txt"])
    await attach(zoe, *((f"{number}.txt", "text/plain", b"x") for number in range(10)))
    await expect(zoe.page.locator("#compose-trouble")).to_have_text("A message has at most 10 files.")
    await expect(zoe.page.locator(".tray-row")).to_have_count(10)
    await zoe.go("yan")
    await expect(zoe.page.locator(".tray-row")).to_have_count(0)
    await zoe.go("Room")
    await expect(zoe.page.locator(".tray-row")).to_have_count(10)
    await zoe.write("ten")
    line = await terry.next("message", text="ten")
    assert [file["name"] for file in line["files"]] == ["two.txt", *(f"{number}.txt" for number in range(9))]


async def test_a_large_file_of_a_terminal_is_fetched_when_somebody_asks_for_it(scene: Scene, tmp_path: Path) -> None:
    zoe, yan, terry = scene.zoe, scene.yan, scene.terry
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(range(256)) * 45_000)  # above what comes by itself
    data = str(terry.home / "t")
    process = await started(terry.home, "send", "room", "large", "--file", str(large), "--data", data)
    assert await process.wait() in (0, 3)
    get = yan.page.get_by_role("button", name="Get large.bin, 12 MB")
    await get.wait_for()
    await get.focus()
    await yan.page.keyboard.press("Enter")
    await expect(yan.page.locator("li.message").last).to_contain_text("Download")
    await expect(yan.page.locator(":focus")).to_have_attribute("aria-label", "Download large.bin, 12 MB")
    await zoe.page.get_by_role("button", name="Download large.bin, 12 MB").wait_for()
    async with yan.page.expect_download() as downloading:
        await yan.do("large", "Download large.bin, 12 MB")
    assert Path(await (await downloading.value).path()).read_bytes() == large.read_bytes()


async def test_the_ticks_of_a_file_say_who_has_it(scene: Scene) -> None:
    zoe = scene.zoe
    await sent(scene, ("held.txt", "text/plain", b"who has it"), text="held")
    ticks = (await zoe.sees("held")).locator(".ticks")
    await expect(ticks).to_have_text(re.compile(r"(✓ delivered|✓✓ read) \d/2 here, file 2/2"))
    await ticks.click()
    await expect(zoe.page.get_by_role("dialog").get_by_role("heading", name="Have the file")).to_be_visible()
    await expect(zoe.page.get_by_role("dialog").get_by_text("gate")).to_have_count(0)  # it was for the others
    holders = zoe.page.get_by_role("dialog").locator("section").last.get_by_role("listitem").locator("bdi")
    await expect(holders).to_have_text(["terry", "yan"])
    await zoe.page.keyboard.press("Escape")
    await zoe.closed()


async def test_a_long_name_is_shown_without_its_middle(scene: Scene) -> None:
    zoe = scene.zoe
    await sent(scene, ("a" * 4000 + ".pdf.exe", "application/pdf", b"x"), text="long")
    names = (await zoe.sees("long")).locator(".file-name")
    await expect(names).to_have_text("a" * 40 + "…" + "a" * 12 + ".pdf.exe")


async def test_a_file_that_was_removed_at_the_gateway_says_who_has_it(scene: Scene, tmp_path: Path) -> None:
    zoe, yan, terry, gateway = scene.zoe, scene.yan, scene.terry, scene.gateway
    small = tmp_path / "kept.txt"
    small.write_bytes(b"terry's")
    process = await started(terry.home, "send", "room", "kept", "--file", str(small), "--data", str(terry.home / "t"))
    assert await process.wait() in (0, 3)
    await zoe.page.get_by_role("button", name="Download kept.txt, 7 bytes").wait_for()
    [id] = [row["id"] for row in await history(gateway) if row["text"] == "kept"]
    process = await started(terry.home, "forget-file", id, "--data", str(gateway.home / "g"))
    while await process.wait():  # until terry's peer is known to have it
        process = await started(terry.home, "forget-file", id, "--data", str(gateway.home / "g"))
    for one in (zoe, yan):
        await one.page.reload()
        said = (await one.sees("kept")).locator(".hint")
        await expect(said).to_have_text("7 bytes. Not kept here any more: 1 member has it")
    await yan.do("kept", "Get kept.txt, 7 bytes")
    await expect(zoe.page.get_by_role("button", name="Download kept.txt, 7 bytes")).to_be_visible()


async def test_a_message_that_is_deleted_from_the_page_takes_its_files_from_every_disk(scene: Scene) -> None:
    zoe, yan, terry, gateway = scene.zoe, scene.yan, scene.terry, scene.gateway
    line = await sent(scene, ("gone.png", "image/png", png(240, 130)), text="too much")
    [file] = line["files"]
    await terry.next("file_arrived", root=file["root"])
    copies = [home / "content" / file["root"] for home in (terry.home / "t", gateway.home / "g")]
    assert [copy.is_file() for copy in copies] == [True, True]
    await yan.until_of(last(yan, ".picture img"), "(img) => img.complete && img.naturalWidth === 240")
    await zoe.do("too much", "Delete")
    await zoe.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    for one in (zoe, yan):
        await expect(one.page.locator("li.message").last).to_contain_text("deleted")
        await expect(one.page.locator("li.message").last.locator(".picture, .file-name")).to_have_count(0)

    async def left() -> list[bool]:
        return [copy.is_file() for copy in copies]

    await becomes(left, [False, False])


async def history(gateway: GatewayProcess) -> list[dict[str, Any]]:
    """Return the messages of the room at the gateway."""
    process = await started(gateway.home, "history", "room", "--json", "--data", str(gateway.home / "g"))
    return [json.loads(line) for line in (await process.communicate())[0].splitlines()]


async def test_files_are_reached_with_keys_and_have_names(scene: Scene) -> None:
    zoe = scene.zoe
    await sent(scene, ("key.png", "image/png", png(40, 30)), text="keys")
    await (await zoe.sees("keys")).locator(".picture").wait_for()  # the row of a message that waits is drawn anew
    await zoe.page.locator("#compose").press("Control+M")
    await zoe.page.keyboard.press("Tab")
    focused, label = zoe.page.locator(":focus"), re.compile(r"Show key\.png, [\d.]+ kB")
    await expect(focused).to_have_attribute("aria-label", label)
    await zoe.page.keyboard.press("Enter")
    await expect(zoe.page.get_by_role("dialog", name="key.png")).to_be_visible()
    await zoe.page.keyboard.press("Escape")
    await zoe.closed()
    await expect(focused).to_have_attribute("aria-label", label)


async def test_a_message_waits_for_its_files_and_the_page_keeps_to_the_rules_of_accessibility(scene: Scene) -> None:
    zoe, terry = scene.zoe, scene.terry
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core comes with axe-playwright-python")
    script = (importlib.resources.files(axe) / "axe.min.js").read_text("utf-8")
    network = await zoe.context.new_cdp_session(zoe.page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 20_000}
    await network.send("Network.emulateNetworkConditions", slow)
    await attach(zoe, ("slow.bin", "", bytes(400_000)), ("unwanted.bin", "", bytes(400_000)))
    await zoe.write("with a file")
    later = zoe.page.get_by_text("It is sent once the files are uploaded.")
    await expect(later).to_be_visible()
    await zoe.page.get_by_role("button", name="Remove unwanted.bin").click()
    await zoe.until("document.querySelector('.tray progress').value > 0")
    for one in (zoe, scene.yan):
        await one.page.evaluate(script)
        assert await one.page.evaluate(AXE) == []
    await network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    line = await terry.next("message", text="with a file")
    assert [file["name"] for file in line["files"]] == ["slow.bin"]
    await expect(zoe.page.locator("#compose")).to_have_value("")
    await expect(later).to_be_hidden()
    await scene.yan.page.set_viewport_size({"width": 320, "height": 640})
    await scene.yan.until("document.scrollingElement.scrollWidth === 320")
    await scene.yan.page.set_viewport_size({"width": 390, "height": 844})


async def test_what_nobody_has_here_is_waited_for_until_it_is_stopped(scene: Scene, tmp_path: Path) -> None:
    yan, terry = scene.yan, scene.terry
    large = tmp_path / "rare.bin"
    large.write_bytes(bytes(range(255, -1, -1)) * 45_000)
    process = await started(terry.home, "send", "room", "rare", "--file", str(large), "--data", str(terry.home / "t"))
    assert await process.wait() in (0, 3)
    get = yan.page.get_by_role("button", name="Get rare.bin, 12 MB")
    await get.wait_for()
    await terry.kill()
    await yan.do("rare", "Get rare.bin, 12 MB")
    waits = yan.page.locator("li.message").last
    await expect(waits.locator(".hint")).to_have_text("12 MB. Waiting for somebody who has it")
    await yan.do("rare", "Stop rare.bin, 12 MB")
    await yan.do("rare", "Get rare.bin, 12 MB")
    await terry.start()
    await expect(waits).to_contain_text("Download")


async def test_files_outlive_a_kill_of_the_gateway_and_uploads_do_not(scene: Scene) -> None:
    zoe = scene.zoe
    await sent(scene, ("kept.png", "image/png", png(40, 30)), text="kept")
    await attach(zoe, ("lost.txt", "text/plain", b"lost"))
    await expect(zoe.page.locator(".tray progress")).to_have_count(0)
    async with scene.gateway.away():
        await zoe.write("with what is lost")
    message = await zoe.sees("with what is lost")
    trouble = "Not sent: the gateway keeps its files no longer. Discard it, and attach them again"
    await expect(message.locator(".foot span")).to_have_text(trouble)
    await message.get_by_role("button", name="Discard").click()
    await expect(zoe.message("with what is lost")).to_have_count(0)
    await zoe.go("yan")
    await zoe.go("Room")
    picture = zoe.page.locator("li.message", has_text="kept").locator(".picture img").last
    await picture.scroll_into_view_if_needed()
    await zoe.until_of(picture, "(img) => img.complete && img.naturalWidth === 40")
