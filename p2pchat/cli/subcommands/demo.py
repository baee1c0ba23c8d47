"""The command `p2pchat demo`: a tour with real peers on this machine.

Three processes on loopback use a directory of their own, which is removed afterwards. Each step of the tour waits for
what it claims. The first claim that does not come true ends the tour with exit code 1; at its end the event logs of the
three are checked against the promises by p2pchat.testing, as `p2pchat check` does with any logs.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from p2pchat.cli.options import subcommand
from p2pchat.cli.process import own_command
from p2pchat.cli.subcommands.check import read_logs
from p2pchat.commands.event_text import format_message, local_now
from p2pchat.commands.exit_codes import DONE, CommandError
from p2pchat.commands.shell_command import program
from p2pchat.testing.process_mesh import PATIENCE, Child, ChildFailed, Line

LETTERS = ("are you there?", "the build is green", "call me when you are back")


EPILOG = """\
\b
Examples:
  p2pchat demo
"""


@subcommand("demo", EPILOG)
def demo() -> int:
    """Give a tour in under 30 seconds, with real peers on this machine in a directory of their own.

    The room, a message to a user who is offline, a kill, a restart, receipts. It says what it shows and checks it; the
    exit code is 1 when a check fails.
    """
    started = time.monotonic()
    # On Windows a file that is still open cannot be removed; the system cleans up what is left.
    with tempfile.TemporaryDirectory(prefix="p2pchat-demo-", ignore_cleanup_errors=True) as home:
        try:
            asyncio.run(Demo(Path(home)).give())
        except (ChildFailed, _Claim) as error:
            _say("")
            raise CommandError(f"the demo failed: {error}") from None
    _say(f"\nAll of it was checked, and held ({time.monotonic() - started:.1f} s). Now try it yourself:")
    _say(f"    {program()}")
    return DONE


class _Claim(Exception):
    """A claim of the tour that did not come true."""


def _say(text: str) -> None:
    print(text, flush=True)


def _check(true: bool, what: str) -> None:
    if not true:
        raise _Claim(what)
    _say(f"  ok   {what}")


class Demo:
    """The steps of the tour in order, with the peers they share."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._all: list[Child] = []

    def _child(self, name: str, *endpoints: str, port: int = 0) -> Child:
        log = str(self._home / f"{name}.jsonl")
        options = (*endpoints, "--data", str(self._home / name), "--log", log)
        child = Child(name, self._home, *options, port=port, command=own_command())
        self._all.append(child)
        return child

    async def give(self) -> None:
        """Do all steps. No child process is left afterwards, whatever happened."""
        try:
            await self._meet()
            await self._talk()
            await self._write_to_an_offline_user()
            await self._kill_and_restart()
            await self._come_back()
            await self._leave()
            self._judge()
        finally:
            for child in self._all:
                await child.destroy()

    async def _meet(self) -> None:
        _say("1. Three peers, each a process of its own. bob and cyd only get the address of ada.")
        self.ada: Child = self._child("ada")
        await self.ada.start()
        self.bob: Child = self._child("bob", self.ada.endpoint)
        self.cyd: Child = self._child("cyd", self.ada.endpoint)
        await asyncio.gather(self.bob.start(), self.cyd.start())
        people = (self.ada, self.bob, self.cyd)
        for one in people:
            for other in people:
                if one is not other:
                    await one.event("joined", PATIENCE, user=other.name)
        _check(True, "everyone is linked with everyone, bob with cyd too")

    async def _talk(self) -> None:
        _say("2. Each says a line in the room.")
        people = (self.ada, self.bob, self.cyd)
        for one in people:
            await one.do(do="send", text=f"hello from {one.name}")
        for one in people:
            others = [other.name for other in people if other is not one]
            lines = await one.wait(lambda line: line["event"] == "message", PATIENCE, count=2)
            _check(
                sorted(line["sender"] for line in lines) == sorted(others), f"{one.name} has the lines of the others"
            )
        self._show(self.cyd, 2)
        sent = await self.ada.event("sent", PATIENCE, text="hello from ada")
        await self.ada.event("delivered", PATIENCE, id=sent["id"], count=2, of=2)
        _check(True, "ada was informed: delivered to 2 of 2")

    def _show(self, child: Child, count: int) -> None:

        now = local_now()
        for line in [line for line in child.lines if line["event"] == "message"][-count:]:
            _say(f"       {format_message(line, child.name, now)}")

    async def _write_to_an_offline_user(self) -> None:
        _say("3. bob leaves, and ada writes to him.")
        code = await self.bob.leave(PATIENCE)
        _check(code == 0, "bob said goodbye: everything he sent had been delivered (exit code 0)")
        for one in (self.ada, self.cyd):
            await one.event("left", PATIENCE, user="bob", reason="left")
        _check(True, "the others were informed: bob left")
        self.letters: list[Line] = []
        for number, text in enumerate(LETTERS):
            await self.ada.do(do="send", to="bob", text=text, ref=str(number))
            self.letters.append(await self.ada.event("sent", PATIENCE, ref=str(number)))
        _check(True, f"{len(LETTERS)} messages to bob are accepted: they are on ada's disk")

    async def _kill_and_restart(self) -> None:
        _say("4. ada is killed (kill -9: no goodbye, nothing saved), then started again, without any address.")
        port = self.ada.listening["port"]
        self.ada.kill()
        await self.ada.ended(PATIENCE)
        await self.cyd.event("left", PATIENCE, user="ada", reason="lost")
        _check(True, "cyd was informed: the connection to ada was lost")
        self.ada = self._child("ada", port=port)
        await self.ada.start()
        await self.ada.event("joined", PATIENCE, user="cyd")
        _check(True, "ada found cyd again by herself")

    async def _come_back(self) -> None:
        _say("5. bob comes back, without any address either.")
        self.bob = self._child("bob")
        await self.bob.start()
        lines = await self.bob.wait(lambda line: line.get("kind") == "dm", PATIENCE, count=len(LETTERS))
        received = [(line["id"], line["text"], line["sent_at"]) for line in lines]
        _check(
            received == [(line["id"], line["text"], line["sent_at"]) for line in self.letters],
            "bob has what ada wrote before she was killed: in order, same ids, original times",
        )
        self._show(self.bob, len(LETTERS))
        for letter in self.letters:
            await self.ada.event("delivered", PATIENCE, id=letter["id"], user="bob")
        _check(True, f"ada has {len(LETTERS)} receipts: delivered to bob")

    async def _leave(self) -> None:
        _say("6. Everyone leaves.")
        codes = [await one.leave(PATIENCE) for one in (self.ada, self.bob, self.cyd)]
        _check(codes == [0, 0, 0], "all said goodbye (exit code 0)")
        _check(self.bob.count("message", kind="dm") == len(LETTERS), "nothing came twice")

    def _judge(self) -> None:
        from p2pchat.testing import check as check_promises

        logs = read_logs(self._home / f"{name}.jsonl" for name in ("ada", "bob", "cyd"))
        for fault in (faults := check_promises(logs, complete=True)):
            _say(f"  !!   {fault}")
        _check(not faults, "the history checker read the three event logs and found no fault (p2pchat check)")
