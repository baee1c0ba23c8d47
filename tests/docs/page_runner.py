"""A scene of a page: its directory, shells, terminals and ports, and the runner of its blocks.

A shell is bash that reads commands from a separate pipe, so that programs have no input, as under cron. A terminal is
the pseudo-terminal of tests/terminal/, with one program at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tests.docs.expected import Ports, pattern, squeezed
from tests.docs.pages import ROOT, Block, Step, steps
from tests.processes.machines import SYSTEM, TOOLS, Held, Lan, Machine, NoNamespaces
from tests.terminal.pty import Terminal, key_bytes, time_zone_of_the_morning

T = TypeVar("T")
TIMEOUT = 60.0  # seconds until expected output counts as missing; a guess that leaves room for a loaded machine

# Commands end with a byte 0, and so does the exit code written after each; the next command finds it in `$?`.
_SHELL = """\
while IFS= read -r -d "" _command <&"$0"; do
    (exit "${_code:-0}"); eval "$_command"; _code=$?
    printf "\\0%d\\0" "$_code"
done"""
_ENDED = re.compile(rb"\0(\d+)\0")
# p2pchat, whose own lines on a terminal wait a minute for their delivery marks instead of five seconds.
_P2PCHAT = """\
import sys
if sys.stdout is not None and sys.stdout.isatty():
    from p2pchat.cli.terminal import screen
    screen.SETTLED_AFTER = 60.0
from p2pchat.__main__ import main
sys.exit(main())"""
COMMANDS = {  # and the words for Python behind each
    "p2pchat": f"-c {shlex.quote(_P2PCHAT)} ",
    "p2pchat-conformance": "-m p2pchat_conformance ",
    "python": "",
    "python3": "",
}
_TIMEOUT_OF_SECONDS = re.compile(r"\btimeout=(?:[5-9]|\d\d)\b")
_KEYS = re.compile(r"(?:\^[A-Z]|M-\w)+")


class Shell:
    """A shell that runs commands one after the other; `text` is the output since it was last taken."""

    def __init__(self, directory: Path, environment: dict[str, str], command: Sequence[str] = ("bash",)) -> None:
        self._directory = directory
        self._environment = environment
        self._command = command
        self._seen = bytearray()
        self._news = asyncio.Event()

    async def start(self) -> None:
        reads, self._orders = os.pipe()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *[*self._command, "-c", _SHELL, str(reads)],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._directory,
                env=self._environment,
                pass_fds=[reads],
                start_new_session=True,
            )
        finally:
            os.close(reads)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(65536):
            self._seen += data
            self._news.set()

    async def run(self, command: str) -> tuple[str, int]:
        """Run a command to its end. Return its output and its exit code."""
        os.write(self._orders, command.encode() + b"\0")
        ended = await self._until(lambda: _ENDED.search(self._seen), command)
        shown, code = self._seen[: ended.start()].decode(), int(ended[1])
        del self._seen[: ended.end()]
        return shown, code

    async def shows(self, shown: str, before: str, what: str) -> re.Match[str]:
        """Wait until a background program has printed this pattern; `before` was read already."""
        found = await self._until(lambda: re.match(shown, squeezed(before + self._seen.decode()), re.DOTALL), what)
        self._seen.clear()
        return found

    async def _until(self, look: Callable[[], T | None], what: str) -> T:
        try:
            async with asyncio.timeout(TIMEOUT):
                while (found := look()) is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            shown = self._seen.decode()
            raise AssertionError(f"{what}\ndoes not end, or does not print this:\n{shown}") from None
        return found

    async def close(self) -> None:
        with suppress(ProcessLookupError):
            _signal_group(self.process.pid, "SIGKILL")
        await self.process.wait()
        await self._reading
        os.close(self._orders)


class Window:
    """A terminal of the page: the program that runs in it, and the line of the page that was found last."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._found = ""
        self._end = 0

    @property
    def text(self) -> str:
        return squeezed(self.terminal.text)

    async def shows(self, line: str, ports: Ports) -> None:
        """Wait for one line of the page, after those that were found already."""
        wanted = re.compile(pattern([line], ports), re.DOTALL)
        await self.terminal.until(lambda: wanted.search(self.text, self._checked()), f"{line!r}", TIMEOUT)
        found = wanted.search(self.text, self._checked())
        assert found is not None
        ports.learn(found)
        self._found, self._end = found.group(), found.end()

    def _checked(self) -> int:
        """Return the position after what was found last. It moves when a row above changes (`delivered`, `read`)."""
        places = [place.end() for place in re.finditer(re.escape(self._found), self.text)]
        return min(places, key=lambda end: abs(end - self._end), default=self._end)

    async def prompts(self, prompt: str) -> None:
        """Wait until the cursor is after this prompt; unread counts may come before it."""
        row = re.compile(rf"(\[.*\] )?{re.escape(prompt)}")
        await self.terminal.until(lambda: row.match(self.terminal.cursor_row), f"the prompt {prompt}", TIMEOUT)


class Scene:
    """Everything that runs between two `new scene` notes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "here"
        self._directory.mkdir(parents=True)
        self._homes = directory
        self._programs = _programs(directory / "bin")
        self._ports = Ports()
        self._time_zone = time_zone_of_the_morning()
        self._shells: dict[str, Shell] = {}
        self._windows: dict[str, Window] = {}
        self._opened: dict[str, Block] = {}  # the first block of each window, with its login and machine
        self._alone: Held | None = None
        self._lan: Lan | None = None
        self._machines: dict[str, Machine] = {}

    async def play(self, block: Block) -> None:
        """Run a block.

        Raises:
            AssertionError: The output differs from the page.
        """
        if block.language == "!new scene":
            self._alone = _namespace() if block.text == "alone" else None
            return
        if block.language in ("!close", "!kill"):
            await self._end(block.text, "SIGHUP" if block.language == "!close" else "SIGKILL")
        elif "file" in block.attributes:
            path = self._directory / block.attributes["file"]
            path.write_text(self._ports.put(block.text) + "\n", "utf-8")
        elif block.language == "json":
            _is_json(block.text)
        elif block.language == "python":
            text = _TIMEOUT_OF_SECONDS.sub(f"timeout={TIMEOUT}", block.text)
            (self._directory / "example.py").write_text(self._ports.put(text), "utf-8")
            shown, code = await (await self._shell(block)).run("python example.py")
            assert code == 0, shown
        elif "title" in block.attributes:
            await self._in_terminal(block)
        else:
            await self._in_shell(block)

    async def _in_shell(self, block: Block) -> None:
        shell = await self._shell(block)
        doing = steps(block)
        for step, following in zip(doing, [*doing[1:], Step("command", "")], strict=True):
            assert step.kind == "command", "a block without a title begins with `$ command`"
            wanted = pattern(step.shown, self._ports)
            shown, code = await shell.run(self._ports.put(step.text))
            if step.text.endswith("&"):
                match: re.Match[str] | None = await shell.shows(wanted, shown, step.text)
            else:
                match = re.fullmatch(wanted, squeezed(shown), re.DOTALL)
            assert match, _differs(step, shown)
            self._ports.learn(match)
            if following.text.startswith("echo $?"):
                assert following.shown == [str(code)], f"$ {step.text}\nended with {code}:\n{shown}"
            else:
                assert code == 0, f"$ {step.text}\nended with {code}:\n{shown}"

    async def _in_terminal(self, block: Block) -> None:
        title = block.attributes["title"]
        for step in steps(block):
            if step.kind == "command":
                await self._start(title, step.text, block)
            window = self._windows[title]
            if step.kind == "answered":
                await window.shows(step.prompt, self._ports)
            elif step.kind == "typed":
                await window.prompts(step.prompt)
            if step.prompt:
                await window.terminal.type(_keys(step.text) or self._ports.put(step.text) + "\r")
            for line in step.shown:
                await window.shows(line, self._ports)

    async def _start(self, title: str, command: str, block: Block) -> None:
        if title in self._windows:
            await self._windows[title].terminal.ended(TIMEOUT)
            await self._windows[title].terminal.close()
        words = ["-c", f"cd {shlex.quote(str(self._directory))}; {self._ports.put(command)}"]
        where = self._opened.setdefault(title, block)
        terminal = Terminal([*self._bash(where), *words], self._environment(where))
        self._windows[title] = Window(await terminal.start())

    async def _end(self, title: str, name: str) -> None:
        terminal = self._windows[title].terminal
        assert terminal.process is not None
        _signal_group(terminal.process.pid, name)
        await terminal.ended(TIMEOUT)

    async def _shell(self, block: Block) -> Shell:
        whose = _whose(block)
        if whose not in self._shells:
            self._shells[whose] = Shell(self._directory, self._environment(block), self._bash(block))
            await self._shells[whose].start()
        return self._shells[whose]

    def _bash(self, block: Block) -> list[str]:
        """Return the command that runs bash on the machine of this block."""
        address = block.attributes.get("machine")
        if address is None:
            return self._alone.under("bash") if self._alone is not None else ["bash"]
        if self._lan is None:
            self._lan = Lan()  # or skip
        if address not in self._machines:
            self._machines[address] = self._lan.machine(f"{address}/24")
        return self._machines[address].under("bash")

    def _environment(self, block: Block) -> dict[str, str]:
        login = block.attributes.get("login", "")
        kept = {key: os.environ[key] for key in ("TMPDIR", "SYSTEMROOT") if key in os.environ}
        home = self._homes / f"home-{_whose(block)}"
        home.mkdir(exist_ok=True)
        path = os.pathsep.join([str(self._programs), os.environ["PATH"]])
        own = {"HOME": str(home), "P2PCHAT_HOME": str(home / "p2pchat"), "LOGNAME": login or "ada", "PATH": path}
        patience = {"P2PCHAT_TIMEOUT": str(TIMEOUT), "P2PCHAT_DRAIN": str(TIMEOUT)}  # by default 5 s
        usual = {"LANG": "C.UTF-8", "TZ": self._time_zone, "TERM": "xterm-256color"}
        return {**kept, **own, **patience, **usual}

    async def close(self) -> None:
        """End everything that runs."""
        for window in self._windows.values():
            await window.terminal.close()
        for shell in self._shells.values():
            await shell.close()
        if self._lan is not None:
            self._lan.close()
        if self._alone is not None:
            self._alone.let_go()


def _namespace() -> Held | None:
    """Return a network in which nobody else listens; None if the system has none."""
    if SYSTEM != "linux" or any(shutil.which(tool) is None for tool in TOOLS):
        return None
    try:
        held = Held()
    except NoNamespaces:
        return None
    held.run("ip", "link", "set", "lo", "up")
    return held


def _whose(block: Block) -> str:
    """Return a key for the login, on its machine."""
    return "-".join(block.attributes[name] for name in ("login", "machine") if name in block.attributes)


def _programs(directory: Path) -> Path:
    """Create a directory with COMMANDS and `python` of the environment that runs the tests."""
    directory.mkdir(parents=True)
    for name, words in COMMANDS.items():
        script = directory / name
        script.write_text(
            f'#!/bin/sh\nPYTHONPATH="{ROOT}:{ROOT}/conformance" exec "{sys.executable}" {words}"$@"\n', "utf-8"
        )
        script.chmod(0o755)
    return directory


def _signal_group(pid: int, name: str) -> None:
    """Send a signal to a program and to the processes it started."""
    if sys.platform == "win32":
        raise NotImplementedError
    os.killpg(pid, signal.Signals[name])


def _keys(text: str) -> str:
    """Return the characters for `^D` or `M-a`; "" if the text is not a key."""
    if not _KEYS.fullmatch(text):
        return ""
    return "".join(
        key_bytes(f"{'c-' if key[0] == '^' else 'm-'}{key[-1].lower()}").decode()
        for key in re.findall(r"\^.|M-.", text)
    )


def _is_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


def _differs(step: Step, shown: str) -> str:
    wanted = "\n".join(step.shown)
    return f"$ {step.text}\nshows\n{shown}\nand not\n{wanted}"
