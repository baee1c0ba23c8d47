"""A gateway, a terminal and browsers of one mesh, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, async_playwright, expect
from playwright.async_api import TimeoutError as NotInTime

from tests.ports import free_ports

CHROMIUM = shutil.which("chromium") or ""
PATIENCE = 60.0  # seconds for anything; the machine may be very busy
ROOT = Path(__file__).resolve().parents[2]
START_TRIES = 5
PHONE = {"width": 390, "height": 844}
ON_STAGE = [  # marks of a file whose tests share a scene
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine"),
    pytest.mark.asyncio(loop_scope="module"),
]
LOST = ("WebSocket connection to", "ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "ERR_INTERNET", "ERR_SOCKET_NOT_CONNECTED")
HEARD = """window.heard = [];
window.WebSocket = class extends WebSocket {
    constructor(...given) {
        super(...given);
        this.addEventListener("message", ({ data }) => heard.push(data));
    }
};"""
FRAME = "new Promise(requestAnimationFrame)"
PLACE = """(one) => {
    one.scrollIntoView({ block: "nearest" });
    const box = one.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
}"""
T = TypeVar("T")
expect.set_options(timeout=PATIENCE * 1000)


async def becomes(read: Callable[[], Awaitable[T]], wanted: T) -> None:
    """Read a part of the page until it is as wanted: what is read once may be drawn, or drawn again, just then."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while (found := await read()) != wanted:
        if loop.time() > deadline:
            raise AssertionError(f"{found!r} has not become {wanted!r}")
        await asyncio.sleep(0.02)  # poll: the page tells nobody that it is drawn


async def started(home: Path, *words: str) -> asyncio.subprocess.Process:
    """Start `python -m p2pchat` with these arguments."""
    environment = {**os.environ, "P2PCHAT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "p2pchat", *words), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL,
        env=environment, limit=1 << 20,
    )  # fmt: skip


class GatewayProcess:
    """`p2pchat web`, which can be killed and started again on the same ports."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self._options = options
        self.http_port, self.port = map(int, free_ports(2))
        self.url = f"http://127.0.0.1:{self.http_port}/"
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[bytes] | None = None

    async def start(self) -> None:
        """Start it; once more, if somebody took a port before it listened: with others, unless it had these before."""
        is_first = self._process is None
        for _ in range(START_TRIES):
            words = ("--port", str(self.port), "--name", "gate", "--data", str(self.home / "g"), "--json")
            process = await started(self.home, "web", str(self.http_port), *words, *self._options)
            self._process = process
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE * 2):
                while (line := await process.stdout.readline()) and json.loads(line)["event"] != "serving":
                    pass
            if line:
                self._reading = asyncio.create_task(process.stdout.read())  # an unread pipe would fill up
                return
            await process.wait()
            if is_first:
                self.http_port, self.port = map(int, free_ports(2))
                self.url = f"http://127.0.0.1:{self.http_port}/"
        raise AssertionError("the gateway has ended")

    async def send(self, to: str, text: str) -> None:
        """Write as the user of the gateway's own peer, with `p2pchat send`."""
        process = await started(self.home, "send", to, text, "--data", str(self.home / "g"))
        assert await process.wait() in (0, 3)

    async def kill(self) -> None:
        """As kill -9 does."""
        if self._process is not None:
            self._process.kill()
            await self._ended(self._process)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Kill it, and start it again afterwards, also for the tests that follow one that fails here."""
        await self.kill()
        try:
            yield
        finally:
            await self.start()

    def freeze(self) -> None:
        """Keep all connections, and answer nothing until thaw()."""
        assert self._process is not None
        if sys.platform == "win32":
            raise NotImplementedError
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        if sys.platform != "win32":
            self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self.thaw()
            self._process.terminate()
            await self._ended(self._process)

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        if self._reading is not None:
            await self._reading


class Terminal:
    """`p2pchat PORT GATEWAY --json`: a user without a browser."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        self._words = words
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def start(self) -> None:
        """Start or restart it; lines of an earlier run that were not read are dropped."""
        self._lines = asyncio.Queue()
        self._process = await started(self.home, *self._words)
        self._reading = asyncio.create_task(self._read())

    async def kill(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._lines.put_nowait(json.loads(line))

    def say(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def next(self, event: str, **fields: Any) -> dict[str, Any]:
        """Return the next line of this kind with these fields."""
        async with asyncio.timeout(PATIENCE):
            while True:
                line = await self._lines.get()
                if line["event"] == event and all(line.get(name) == value for name, value in fields.items()):
                    return line

    async def send(self, text: str, to: str = "room", **more: Any) -> dict[str, Any]:
        """Write a message; return its line once it is stored."""
        self.say(do="send", to=to, text=text, ref=text, **more)
        return await self.next("sent", ref=text)

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        self._reading.cancel()


class Visitor:
    """A user with a browser window.

    Attributes:
        troubles: What a page must never have: errors, and what its policy forbids.
    """

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context = context
        self.page = page
        self.url = url
        self.token = ""
        self.troubles: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        lost = any(words in message.text for words in LOST)  # as gateways are that were killed
        if (message.type == "error" and not lost) or "Content Security Policy" in message.text:
            self.troubles.append(message.text)

    @property
    def bearer(self) -> dict[str, str]:
        """The header with the user's token, for other clients of the same user."""
        return {"Authorization": f"Bearer {self.token}"}

    async def sign_up(self, name: str) -> None:
        """Open the page for the first time and register."""
        page = self.page
        await page.goto(self.url)
        await page.get_by_label("Choose a name").fill(name)
        await page.get_by_role("button", name="Join").click()
        self.token = await page.get_by_role("group", name="Your token").inner_text()  # nothing draws it again
        await page.get_by_role("button", name="Start chatting").click()
        await self.row("Room").wait_for()

    async def tab(self, *, behind: float = 0.0) -> Visitor:
        """Open another tab of the same user, which never has the focus; its clock is so many seconds behind."""
        other = Visitor(self.context, await self.context.new_page(), self.url)
        other.troubles = self.troubles
        await other.page.add_init_script("document.hasFocus = () => false")
        await other.page.add_init_script(f"const now = Date.now; Date.now = () => now() - {behind * 1000}")
        await other.page.goto(self.url)
        await other.sign_in(self.token)
        return other

    async def sign_in(self, token: str) -> None:
        """Use a token on the first page."""
        await self.page.get_by_text("I already have a token").click()
        await self.page.get_by_label("Your token").fill(token)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.row("Room").wait_for()

    def row(self, name: str) -> Locator:
        """The row of a conversation or a user in the list."""
        return self.page.locator("button.side-row").filter(has=self.page.get_by_text(name, exact=True))

    async def go(self, name: str) -> None:
        await self.row(name).click()
        await self.page.locator("#talk-name").filter(has_text=name).wait_for()

    async def write(self, text: str) -> None:
        await self.page.locator("#compose").fill(text)
        await self.page.locator("#compose").press("Enter")

    def message(self, text: str) -> Locator:
        """The message with exactly this text."""
        return self.page.locator("li.message").filter(has=self.page.locator(".text").get_by_text(text, exact=True))

    async def sees(self, text: str) -> Locator:
        """Wait until a message is shown."""
        found = self.message(text)
        await found.first.wait_for()
        return found.first

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; the Content-Security-Policy forbids waiting inside the page."""
        async with asyncio.timeout(PATIENCE):
            while not await self.page.evaluate(condition):
                await asyncio.sleep(0.02)  # poll: the page may not wait

    async def hears(self, *parts: str) -> None:
        """Wait until lines with these parts came, each behind the one before, since this was called last."""
        seek = "(at, part) => at < 0 ? at : heard.findIndex((line, index) => index > at && line.includes(part))"
        await self.until(f"{json.dumps(parts)}.reduce({seek}, 0) > 0")
        await self.page.evaluate("heard.splice(0, heard.length, '')")

    async def until_of(self, part: Locator, condition: str) -> None:
        """Wait until a JavaScript function of an element is true; the element may be drawn again meanwhile."""
        await becomes(lambda: part.evaluate(f"(node) => Boolean(({condition})(node))"), True)

    @property
    def texts(self) -> Locator:
        """The texts of all messages."""
        return self.page.locator("li.message .text")

    async def hold(self, part: Locator) -> None:
        """Press the mouse on a part, which may move away while the pointer comes."""
        mouse = self.page.mouse
        await self.page.evaluate("addEventListener('pointerdown', ({ target }) => { window.pressed = target; })")
        while True:
            for _ in range(2):
                await self.page.evaluate(FRAME)
            await mouse.move(*await part.evaluate(PLACE))
            await mouse.down()
            if await part.evaluate("(one) => one.contains(pressed)"):
                return
            await mouse.move(3, 3)
            await mouse.up()

    async def do(self, text: str, label: str) -> None:
        """Press a button next to a message. It can be pressed while the pointer is over the message, which may move.

        A narrow window has room for those of the message with the focus alone.
        """
        message = await self.sees(text)
        button = message.get_by_role("button", name=label, exact=True)
        async with asyncio.timeout(PATIENCE):
            while True:
                await message.hover()
                try:
                    if not await button.is_visible():
                        await message.focus()
                    await button.click(timeout=10_000)
                except NotInTime:
                    continue
                return

    async def closed(self) -> None:
        """Wait until no dialog is open and the focus is back where it was."""
        await expect(self.page.locator("dialog")).to_have_count(0)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


async def visitor(browser: Browser, url: str, **window: Any) -> Visitor:
    """Open a window in a new browser profile."""
    context = await browser.new_context(
        locale="en-GB", reduced_motion="reduce", **{"viewport": {"width": 1200, "height": 800}, **window}
    )
    await context.add_init_script(
        "addEventListener('securitypolicyviolation',"
        " (e) => console.error(`Content Security Policy: ${e.violatedDirective}`))"
    )
    await context.add_init_script(HEARD)
    context.set_default_timeout(PATIENCE * 1000)
    return Visitor(context, await context.new_page(), url)


@dataclass
class Scene:
    """The users: zoe and yan with browsers, terry in a terminal; the peer of the gateway is called gate.

    Attributes:
        made: What several tests need and the first of them has made, by its name.
    """

    gateway: GatewayProcess
    browser: Browser
    zoe: Visitor
    yan: Visitor
    terry: Terminal
    made: dict[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def opened(home: Path, **window: Any) -> AsyncIterator[Scene]:
    """Start everything, with both browsers signed up; zoe, whose window is light and wide, is in the room.

    Args:
        window: Options of yan's browser.
    """
    gateway = GatewayProcess(home)
    starting, terry = asyncio.create_task(gateway.start()), None
    try:
        async with chromium() as browser:
            await starting
            words = (free_ports(1)[0], str(gateway.port), "--name", "terry", "--json", "--data", str(home / "t"))
            terry = Terminal(home, *words)
            await terry.start()
            zoe = await visitor(browser, gateway.url)
            yan = await visitor(browser, gateway.url, color_scheme="dark", **window)
            await asyncio.gather(zoe.sign_up("zoe"), yan.sign_up("yan"))
            await zoe.row("terry").wait_for()
            await zoe.go("Room")
            yield Scene(gateway, browser, zoe, yan, terry)
    finally:
        if terry is not None:
            await terry.end()
        await gateway.stop()


class Stage:
    """The scene of the tests of one file: opened for the first of them, and anew for the one behind a failure."""

    def __init__(self, new_home: Callable[[], Path], window: dict[str, Any]) -> None:
        self._new_home = new_home
        self._window = window
        self._open: AsyncExitStack | None = None
        self._scene: Scene

    async def scene(self) -> Scene:
        if self._open is None:
            stack = AsyncExitStack()
            self._scene = await stack.enter_async_context(opened(self._new_home(), **self._window))
            self._open = stack
        return self._scene

    async def leave(self, kept: Path | None) -> None:
        """End a test, in which no page may have had troubles; of one that failed keep pictures, and close the scene."""
        zoe, yan = self._scene.zoe, self._scene.yan
        if kept is not None:
            for name, one in (("zoe", zoe), ("yan", yan)):
                with suppress(Exception):  # the page may be what failed
                    await one.page.screenshot(path=kept / f"{name}.png")
            await self.close()
            return
        troubles = [*zoe.troubles, *yan.troubles]
        zoe.troubles.clear()
        yan.troubles.clear()
        assert troubles == []

    async def close(self) -> None:
        if self._open is not None:
            stack, self._open = self._open, None
            await stack.aclose()
