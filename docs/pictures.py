"""The pictures of the README, taken of real programs: a terminal, and the page in Chromium.

    python -m docs.pictures

It writes docs/terminal.png and docs/page.png anew. Run it after a change of what people see there.
"""

from __future__ import annotations

import asyncio
import html
import os
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from playwright.async_api import Browser

from p2pchat import Message, TCPPeer
from p2pchat.web import WebSettings
from tests.terminal.pty import Screen, Terminal, time_zone_of_the_morning
from tests.web.browser import chromium, visitor
from tests.web.conftest import serving

FOLDER = Path(__file__).parent
STYLE = (
    "pre { margin: 0; padding: 14px 18px; width: max-content; background: #14181d; color: #d7dde4;"
    " font: 15px/1.45 'DejaVu Sans Mono', monospace }"
)
COLORS = {
    "black": "#5c6773", "red": "#f07178", "green": "#aad94c", "brown": "#e6b450", "yellow": "#e6b450",
    "blue": "#59c2ff", "magenta": "#d2a6ff", "cyan": "#95e6cb", "white": "#d7dde4",
}  # fmt: skip


def drawn(screen: Screen) -> str:
    """Return the rows of a screen as HTML, down to the cursor; without the first, which names a place of a machine."""
    lines = []
    for number in range(1, screen.cursor.y + 1):
        cells = [screen.buffer[number][x] for x in range(screen.columns)]
        line = ""
        for (color, bold), same in groupby(cells, lambda cell: (cell.fg, cell.bold)):
            given = COLORS.get(color.removeprefix("bright"), "inherit" if color == "default" else f"#{color}")
            weight = "bold" if bold else "normal"
            text = html.escape("".join(cell.data for cell in same))
            line += f'<span style="color: {given}; font-weight: {weight}">{text}</span>'
        lines.append(line)
    return f"<style>{STYLE}</style><pre>" + "\n".join(lines) + "</pre>"


async def take_terminal(browser: Browser, home: Path) -> None:
    """Take ada's terminal: bob and cyd come, talk, and bob leaves and gets a message later."""
    env = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(home), "TZ": time_zone_of_the_morning()}
    ada = await Terminal((sys.executable, "-m", "p2pchat", "8080", "--name", "ada"), env, columns=84).start()
    try:
        await ada.shows("ada listens on")
        async with TCPPeer(0, "localhost:8080", name="cyd", data=home / "cyd") as cyd:
            async with TCPPeer(0, "localhost:8080", name="bob", data=home / "bob") as bob:
                await ada.shows("bob is here")
                await bob.wait_user("cyd", timeout=60)
                await bob.broadcast("is anybody coming to lunch?")
                await ada.shows("lunch?")
                await ada.line("me, at noon")
                for peer in (bob, cyd):
                    async for message in peer.events(Message):
                        if message.text == "me, at noon":
                            message.mark_read()
                            break
                await ada.shows("✓✓ read 2/2")
                await bob.send("ada", "shall we take the river path?")
                await ada.shows("river path?")
            await ada.shows("bob left")
            await ada.line("/msg bob yes: at the bridge, ten to twelve")
            await ada.shows("bob is offline")
            await cyd.send("room", "I come too")
            await ada.shows("I come too")
            await ada.line("/go bob")
            await ada.shows_line(r"^ada to bob>")
            page = await browser.new_page(viewport={"width": 1000, "height": 800}, device_scale_factor=2)
            await page.set_content(drawn(ada.screen))
            await page.locator("pre").screenshot(path=FOLDER / "terminal.png")
    finally:
        await ada.close()


async def take_page(browser: Browser, home: Path) -> None:
    """Take the page of zoe, who talks with ada and bob; both have peers of their own."""
    async with serving(WebSettings(), data=home / "gate") as served:
        port = str(served.peer.port)
        async with TCPPeer(0, port, name="ada", data=home / "a") as ada, TCPPeer(0, port, name="bob") as bob:
            window = {"viewport": {"width": 1000, "height": 560}, "device_scale_factor": 2}
            zoe = await visitor(browser, f"{served.url}/", **window)
            await zoe.sign_up("zoe")
            for name in ("ada", "bob"):
                await zoe.row(name).wait_for()
            user = await ada.wait_user("zoe", timeout=60)
            await bob.wait_user("zoe", timeout=60)
            await ada.broadcast("is anybody coming to lunch?")
            await zoe.sees("is anybody coming to lunch?")
            await zoe.write("me, at noon")
            async for message in bob.events(Message):
                if message.text == "me, at noon":
                    message.mark_read()
                    break
            await ada.send(user, "shall we take the river path?")
            await zoe.row("ada").wait_for()
            await bob.broadcast("I come too")
            await zoe.sees("I come too")
            await zoe.page.mouse.move(0, 0)
            await zoe.page.bring_to_front()
            await zoe.page.screenshot(path=FOLDER / "page.png")


async def main() -> None:
    """Take both pictures."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        async with chromium() as browser:
            await take_terminal(browser, Path(home))
            await take_page(browser, Path(home))


if __name__ == "__main__":
    asyncio.run(main())
