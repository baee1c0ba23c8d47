"""Kills at drawn moments while people join, invite and expel: uses exact, nobody half in, nothing reported lost.

Ten networks live through ten kills each. In a network are ada, who founded it, bob, an admin, and cyd, a member, each
a login of its own; newcomers come and go. Either ada or bob makes the invites and expels. What an action takes is
measured first; then a peer is killed with SIGKILL at a moment drawn over that time, starts anew, and everybody's state
is judged. P2PCHAT_TEST_SEED draws other moments.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from p2pchat import parse_invite
from p2pchat.testing.process_mesh import Child, ChildFailed, Line, matches
from tests.conftest import Tell
from tests.deadlines import WAIT
from tests.ports import free_ports
from tests.processes.commands import one_loop
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login, met
from tests.processes.peers import KILLED

pytestmark = one_loop
NETWORKS, KILLS = 10, 10
SEED = os.environ.get("P2PCHAT_TEST_SEED", "7")
LATEST = 1.3  # times the length of an action: until then somebody may be killed
POLL = 0.02  # seconds between two questions for a list that other peers change
MEASURED = 2  # times that each action is done before the first kill: the first time costs more


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[Logins]:
    made = Logins(tmp_path, fork_server)
    yield made
    await made.destroy()


@pytest.mark.parametrize("number", range(NETWORKS))
async def test_a_network_through_kills_of_who_joins_invites_and_expels(
    logins: Logins, number: int, tell: Tell, killed: Callable[[int], None]
) -> None:
    network = Network(logins, random.Random(f"{SEED}/{number}"), maker="ada" if number % 2 else "bob")
    began = time.monotonic()
    await network.found()
    await network.measure()
    while network.kills < KILLS:
        await network.live_through_one()
    killed(network.kills)
    tell(f"{network}; {time.monotonic() - began:.0f} s")


class Logins:
    """The logins of one network, made as they are needed."""

    def __init__(self, path: Path, fork_server: ForkServer | None) -> None:
        self._path = path
        self._fork_server = fork_server
        self._all: dict[str, Login] = {}

    def __getitem__(self, name: str) -> Login:
        """Return the login of the peer with this name."""
        if name not in self._all:
            self._all[name] = Login(self._path / name, self._path / "logs", self._fork_server)
        return self._all[name]

    async def destroy(self) -> None:
        for login in self._all.values():
            await login.destroy()


class Network:
    """One network: its peers, what each was told, and what is expected of all.

    Attributes:
        kills: How many peers were killed so far.
    """

    def __init__(self, logins: Logins, chance: random.Random, maker: str) -> None:
        self.kills = 0
        self._logins = logins
        self._chance = chance
        self._maker = maker
        self._other = "bob" if maker == "ada" else "ada"
        self._ports = dict(zip(("ada", "bob", "cyd"), map(int, free_ports(3)), strict=True))
        self._peers: dict[str, Child] = {}
        self._lengths: dict[str, float] = {}  # seconds of each action
        self._invites: dict[str, tuple[int, set[str]]] = {}  # by id, of those reported: its uses, and who came by it
        self._is_out = False  # cyd
        self._newcomers: list[Child] = []  # of the action that is under way
        self._count = 0  # of newcomers so far
        self._tally = Counter[str]()

    def __str__(self) -> str:
        what = ", ".join(f"{count} {name}" for name, count in sorted(self._tally.items()))
        return f"{self.kills} kills, {self._maker} invites and expels: {what}; {len(self._invites)} invites"

    async def found(self) -> None:
        """Start the network: ada lets bob in and makes it an admin, the maker lets cyd in."""
        await self._start("ada")
        await self._start("bob", invite=await self._invite("ada", 1, {"bob"}))
        await met(*self._peers.values())
        await self._logins["ada"].decide("ada", "admin", "bob")
        await self._peers["bob"].event("member", WAIT, user="bob", change="admin")
        await self._start("cyd", invite=await self._invite(self._maker, 1, {"cyd"}))
        await met(*self._peers.values())
        await self._peers["cyd"].send("hello")  # who wrote something has a name also after a restart
        for name in ("ada", "bob"):
            await self._peers[name].event("message", WAIT, text="hello")

    async def measure(self) -> None:
        """Measure how long each action takes."""
        for _ in range(MEASURED):
            await self._timed("join", self._join_unharmed())
            for way in ("typed", "command"):
                await self._timed(f"invite {way}", self._report(way, "invite", "--uses", "1", uses=1))
                for do in ("expel", "pardon"):
                    await self._timed(f"{do} {way}", self._decide(way, do))

    async def _timed(self, name: str, action: Awaitable[object]) -> None:
        began = time.monotonic()
        await action
        self._lengths[name] = time.monotonic() - began

    async def _join_unharmed(self) -> None:
        newcomers = self._make_newcomers(await self._invite(self._maker, 2, came := set()), 3)
        await asyncio.gather(*(self._begin(child) for child in newcomers))
        came |= {child.name for child in newcomers if await self._outcome(child) == "joined"}

    async def live_through_one(self) -> None:
        """Do one action, kill somebody meanwhile, and judge. Newcomers go then; they stay members."""
        await self._chance.choice((self._join, self._join, self._make_invite, self._expel_or_pardon))()
        await self._judge()
        for child in self._newcomers:
            await child.destroy()
        self._newcomers = []

    # ---- the actions

    async def _join(self) -> None:
        """One newcomer more than an invite admits joins with it; the maker or one of them is killed."""
        uses = self._chance.choice((1, 1, 2, 3))
        invite = await self._invite(self._maker, uses, came := set())
        maker = self._peers[self._maker]
        newcomers = self._make_newcomers(invite, uses + 1)
        victim = self._chance.choice((maker, newcomers[0]))
        starts = [asyncio.create_task(child.start(WAIT)) for child in newcomers]
        await self._moment("join")
        done = sum(maker.count("joined", user=child.name) for child in newcomers)
        is_killed = await self._kill(victim)
        if is_killed:
            who = "maker" if victim is maker else "newcomer"
            self._tally[f"{who} when {'nobody' if not done else 'all' if done == uses else 'some'} had joined"] += 1
        await asyncio.gather(*starts, return_exceptions=True)  # it may have been killed or refused
        if victim is maker:
            await self._start(self._maker)
        elif is_killed:
            newcomers[0] = self._newcomer(victim.name, invite)
            await self._begin(newcomers[0])
        outcomes = {child.name: await self._outcome(child) for child in newcomers}
        came |= {name for name, outcome in outcomes.items() if outcome == "joined"}
        assert sorted(outcomes.values()) == ["joined"] * uses + ["used"], outcomes
        await self._judge()

    async def _make_invite(self) -> None:
        """The maker is killed while it makes an invite. One that was reported admits afterwards."""
        way, uses = self._chance.choice(("typed", "command")), self._chance.randint(1, 3)
        reporting = asyncio.create_task(self._report(way, "invite", "--uses", str(uses), uses=uses))
        await self._moment(f"invite {way}", reporting)
        await self._kill(self._peers[self._maker])
        rows = await reporting
        self._tally[f"maker, invite {'reported' if rows else 'not reported'}"] += 1
        await self._start(self._maker)
        if rows:
            invite = f"{rows[0]['invite'].partition('@')[0]}@127.0.0.1:{self._ports[self._maker]}"
            self._invites[id_of(invite)] = (uses, came := set())
            await self._judge()
            [newcomer] = self._make_newcomers(invite, 1)
            await self._begin(newcomer)
            assert await self._outcome(newcomer) == "joined"
            came.add(newcomer.name)

    async def _expel_or_pardon(self) -> None:
        """One of the three is killed while the maker expels cyd or takes that back."""
        way, do = self._chance.choice(("typed", "command")), "pardon" if self._is_out else "expel"
        victim = self._chance.choice((self._maker, self._maker, self._other, "cyd"))
        reporting = asyncio.create_task(self._decide(way, do))
        await self._moment(f"{do} {way}", reporting)
        await self._kill(self._peers[victim])
        rows = await reporting
        who = "maker" if victim == self._maker else "target" if victim == "cyd" else "bystander"
        self._tally[f"{who}, {do} {'reported' if rows else 'not reported'}"] += 1
        assert rows or victim == self._maker
        await self._start(victim, *self._endpoints(without=victim))
        was_out = self._is_out
        members = await _ask(self._peers[self._maker], do="members")
        self._is_out = any(row["role"] == "expelled" for row in members)
        assert self._is_out != was_out or not rows, f"{do} was reported, and is lost"
        if victim != "cyd":
            await self._kill_quietly(self._peers["cyd"])
            await self._start("cyd", *self._endpoints(without="cyd"))

    async def _decide(self, way: str, do: str) -> list[Line]:
        return await self._report(way, do, "cyd", *(["--yes"] if do == "expel" else []), user="cyd")

    # ---- how they are done

    async def _report(self, way: str, do: str, *words: str, **fields: object) -> list[Line]:
        """Have the maker do something; return what it reports, [] if it is killed before.

        Args:
            way: `typed` on its standard input as JSON, or as a `command` in a process of its own.
        """
        maker = self._peers[self._maker]
        if way == "command":
            data = str(self._logins[self._maker].home / self._maker)
            code, out, _ = await self._logins[self._maker].talk(do, *words, "--data", data, "--json")
            return [json.loads(line) for line in out.splitlines()] if code == 0 else []
        with suppress(ChildFailed, OSError):
            return await _ask(maker, do=do, **fields)
        return []

    async def _moment(self, action: str, reporting: asyncio.Task[list[Line]] | None = None) -> None:
        """Wait for a moment drawn over the time that an action takes; it is no condition: any moment is right.

        Late ones are more frequent: at first a process only starts. When the action is reported before, the moment is
        at once: what is not stored by then would be lost.
        """
        drawn = asyncio.create_task(asyncio.sleep(self._chance.random() ** 0.5 * LATEST * self._lengths[action]))
        await asyncio.wait([drawn, *([reporting] if reporting else [])], return_when=asyncio.FIRST_COMPLETED)
        drawn.cancel()

    async def _kill(self, victim: Child) -> bool:
        """Kill a peer; return whether that ended it."""
        if not hasattr(victim, "process"):
            return False  # its start was only asked for
        is_killed = await self._kill_quietly(victim) == KILLED
        self.kills += is_killed
        return is_killed

    async def _kill_quietly(self, victim: Child) -> int:
        victim.kill()
        return await victim.ended(WAIT)

    async def _start(self, name: str, *words: str, invite: str = "") -> None:
        self._peers[name] = await self._logins[name].peer(name, *words, invite=invite, port=self._ports[name])

    def _endpoints(self, without: str) -> list[str]:
        return [f"127.0.0.1:{port}" for name, port in self._ports.items() if name not in (without, "cyd")]

    async def _invite(self, maker: str, uses: int, came: set[str]) -> str:
        invite = await self._logins[maker].invite(self._peers[maker], "--uses", str(uses))
        self._invites[id_of(invite)] = (uses, came)
        return invite

    def _make_newcomers(self, invite: str, count: int) -> list[Child]:
        self._count += count
        return [self._newcomer(f"new{self._count - k}", invite) for k in range(count)]

    def _newcomer(self, name: str, invite: str) -> Child:
        self._newcomers.append(self._logins[name].child(name, "--invite", invite, log=False))
        return self._newcomers[-1]

    async def _begin(self, newcomer: Child) -> None:
        with suppress(ChildFailed):  # it may be refused before it listens
            await newcomer.start(WAIT)

    async def _outcome(self, newcomer: Child) -> str:
        """Return `joined`, or the code with which a newcomer was refused and ended."""
        [line] = await newcomer.wait(
            lambda line: matches(line, "joined", {"user": self._maker}) or line["event"] == "error", WAIT
        )
        if line["event"] == "error":
            assert await newcomer.ended(WAIT) == 1
        return str(line.get("code", "joined"))

    # ---- the judge

    async def _judge(self) -> None:
        """Wait until all list what was reported to them, and cyd is in or out."""
        deadline = time.monotonic() + WAIT
        while faults := await self._faults():
            assert time.monotonic() < deadline, faults
            await asyncio.sleep(POLL)  # poll: what one peer says is on its way to the others
        if self._is_out:
            await self._peers["cyd"].event("link", WAIT, state="refused", code="member")
        else:
            await self._peers["cyd"].event("joined", WAIT, user=self._maker)

    async def _faults(self) -> list[str]:
        """Return what peers list otherwise than expected. Members are compared by the invites by which they came:
        whoever was killed before it met a peer has no name there.
        """
        listed = await self._logins[self._maker].invites(self._maker)
        used = {row["invite"]: (row["uses"], len(row["used_by"])) for row in listed}
        expected = {id: (uses, len(came)) for id, (uses, came) in self._invites.items() if "bob" not in came}
        faults = [f"invite {id}: {used.get(id)}, not {what}" for id, what in expected.items() if used.get(id) != what]
        members = self._expected_members()
        for name in self._peers.keys() - ({"cyd"} if self._is_out else set()):
            rows = await _ask(self._peers[name], do="members")
            if (found := Counter((row["role"], row["invite"]) for row in rows)) != members:
                faults.append(f"{name} has {found - members} too many, and lacks {members - found}")
        return faults

    def _expected_members(self) -> Counter[tuple[str, str | None]]:
        """Return how many there are of each role, by the invite by which they came."""
        roles = {"bob": "admin", "cyd": "expelled" if self._is_out else "member"}
        came = [(roles.get(name, "member"), id) for id, (_, names) in self._invites.items() for name in names]
        return Counter([("founder", None), *((role, None if role == "expelled" else id) for role, id in came)])


async def _ask(child: Child, **fields: object) -> list[Line]:
    """Give a peer a command as JSON; return the rows of its answer. Raises ChildFailed if it ends before."""
    ref = f"{fields['do']} {time.monotonic_ns()}"
    await child.do(**fields, ref=ref)
    [line] = await child.wait(lambda line: line.get("ref") == ref, WAIT)
    assert line["event"] == "answer", line
    rows: list[Line] = line["rows"]
    return rows


def id_of(invite: str) -> str:
    return parse_invite(invite).invitation.id
