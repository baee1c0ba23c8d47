"""Candidates for the conformance kit as processes of their own, and runs of the kit against them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from p2pchat.identity.invite_text import parse_invite
from p2pchat_conformance.runner import RuleResult, all_rules, chosen, dialling_kit, listening_kit, shown
from tests.long.test_examples import node
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(map(str, (ROOT, ROOT / "conformance")))
EXAMPLES = ROOT / "examples"
PATIENCE = 60.0  # seconds for a process to start, on a busy machine


class CandidateProcess:
    """A candidate that can be killed, started again, and asked to stop."""

    def __init__(self, command: Sequence[str], home: Path, *, quiet: bool = False) -> None:
        self._command = command
        self._environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "P2PCHAT_HOME": str(home / "home")}
        self._errors = asyncio.subprocess.DEVNULL if quiet else None
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Start it; return the first line it prints."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, stderr=self._errors, env=self._environment
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        assert line, "the candidate has ended"
        return line.decode().strip()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.communicate()


def python_candidate(home: Path, *options: str) -> CandidateProcess:
    """Return p2pchat as a candidate, whose data is below `home`."""
    module = "p2pchat_conformance.candidate"
    return CandidateProcess([sys.executable, "-m", module, "--data", str(home / "data"), *options], home)


def node_candidate(home: Path, invite: str, port: int = 0, examples: Path = EXAMPLES) -> CandidateProcess:
    """Return the peer in JavaScript, whose file is below `home`. It makes no invites, so it joins the kit's network."""
    command = [node(), str(examples / "peer.mjs"), str(home / "echo.jsonl"), invite, f"127.0.0.1:{port}"]
    return CandidateProcess(command, home, quiet=examples != EXAMPLES)


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    return int(free_ports(1)[0])


def failures(results: list[RuleResult]) -> list[str]:
    """Return why each rule failed, and the last of what was sent and came."""
    failed = [one for one in results if one.outcome == "failed"]
    return ["\n".join([f"{one.rule.name}: {one.why}", *shown(one.record)]) for one in failed]


def names(results: list[RuleResult], outcome: str) -> set[str]:
    return {result.rule.name for result in results if result.outcome == outcome}


@asynccontextmanager
async def ended(process: CandidateProcess) -> AsyncIterator[CandidateProcess]:
    """End the process at the end of the block, however it ends."""
    try:
        yield process
    finally:
        await process.kill()


async def dialled(process: CandidateProcess, directory: Path, level: str, only: Sequence[str] = ()) -> list[RuleResult]:
    """Run the rules of a level with the kit as the one that dials."""
    line = await process.start()
    invite = parse_invite(line[line.index("p2pchat:") :])
    actions = {"restart": process.restart, "stop": process.stop}
    kit = dialling_kit(invite, seed="tests", timeout=PATIENCE / 3, directory=directory, **actions)
    try:
        await kit.reach()
        return await kit.run(chosen(all_rules(), level, only), lambda result: None)
    finally:
        await kit.aclose()


async def listened(
    candidate: Callable[[str], CandidateProcess], directory: Path, level: str, only: Sequence[str] = (),
    timeout: float = PATIENCE / 3,
) -> list[RuleResult]:  # fmt: skip
    """Run the rules of a level with the kit as the one that is dialled; `candidate` gets the invite."""
    kit, invite = await listening_kit(seed="tests", timeout=timeout, directory=directory)
    try:
        async with ended(candidate(invite)) as process:
            kit.restart, kit.stop = process.restart, process.stop
            await process.start()
            await kit.reach()
            return await kit.run(chosen(all_rules(), level, only), lambda result: None)
    finally:
        await kit.aclose()
