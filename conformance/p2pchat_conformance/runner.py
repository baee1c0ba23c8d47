"""The kit: rules, the members that it plays, and a run of rules against one candidate.

The rules are data: rules.json has the name, level, section and sentence of each. What is done for a rule is an async
function of its name, which gets the kit. It joins members to the candidate, sends, and waits for what must come.
It ends normally (passed), with RuleBroken (failed), or with RuleSkipped. Rules share nothing but the candidate: each
uses members of its own, whose keys, nonces and runs follow from the seed and the name of the rule.

Silence is never proved by waiting. What must not come is looked for after something that was sent later was answered.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pchat import protocol as wire
from p2pchat.core.log import LogId
from p2pchat.core.members.admission import prove_invite
from p2pchat.core.members.statement import ADD, Statement, make_statement, room_id
from p2pchat.core.node_context import Invitation
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import Invite, encode_invite, make_invitation
from p2pchat.identity.network import Network
from p2pchat.identity.tls_pipe import client_context, server_context
from p2pchat_conformance.awaited_frames import RuleBroken, RuleSkipped, ScriptedLink, check, now_us
from p2pchat_conformance.scripted_member import ScriptedLog, ScriptedMember
from p2pchat_conformance.sent_frame_rules import WATCHERS, FrameWatch

LEVELS = ("bot", "peer", "full")
FILES = (
    "link_rules",
    "member_rules",
    "frame_rules",
    "entry_rules",
    "receipt_rules",
    "serving_rules",
    "fork_rules",
    "group_rules",
    "hosted_user_rules",
    "export_file_rules",
    "attachment_rules",
)
RULE_TIMEOUTS = 6  # a rule may take this many times as long as one wait; a guess
RULE_LEAST = 60.0  # seconds that a rule may take, however short its waits: it has many, on a busy machine; a guess
MANY = 4  # rules that fail alike may have one cause; a guess
RECORDED = 400  # frames of one rule that are kept
RECORDED_CHARACTERS = 2000  # of one frame
SHOWN_FRAMES = 12  # of a failed rule, the last ones
SHOWN_CHARACTERS = 160
FIRST_CONTACT = 10.0  # seconds for each answer of the first link, however short the waits of rules; a guess
ATTEMPTS_EVERY = 0.1  # seconds between attempts to reach a candidate that starts again

Action = Callable[[], Awaitable[None]]
Script = Callable[["Kit"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ConformanceRule:
    """One rule of the document.

    Attributes:
        name: Unique; that of the function.
        level: bot, peer or full.
        section: The page and the anchor of the section that has the sentence.
        sentence: The words of the document.
        script: What is done; None for a rule of every frame.
    """

    name: str
    level: str
    section: str
    sentence: str
    script: Script | None


@dataclass(slots=True)
class RuleResult:
    """The result of one rule: "passed", "failed" or "skipped", why, and what was sent and came."""

    rule: ConformanceRule
    outcome: str
    why: str = ""
    seconds: float = 0.0
    record: list[tuple[str, bool, str]] = field(default_factory=list)  # link, sent by the kit, text

    def as_json(self) -> dict[str, Any]:
        frames = [{"link": link, "from": "kit" if sent else "candidate", "text": text}
                  for link, sent, text in self.record]  # fmt: skip
        return {
            "rule": self.rule.name, "level": self.rule.level, "section": self.rule.section,
            "sentence": self.rule.sentence, "outcome": self.outcome, "why": self.why,
            "seconds": round(self.seconds, 3), "frames": frames,
        }  # fmt: skip


SCRIPTS: dict[str, Script] = {}  # by the name of the rule


def rule(script: Script) -> Script:
    """Register a function as what is done for the rule of its name in rules.json."""
    name = script.__name__.replace("_", "-")
    assert name not in SCRIPTS
    SCRIPTS[name] = script
    return script


def all_rules() -> list[ConformanceRule]:
    """Return the rules of rules.json in its order: by level, those of every frame behind the others; `stop` is last."""
    for name in FILES:
        import_module(f"p2pchat_conformance.{name}")
    rows = json.loads(files("p2pchat_conformance").joinpath("rules.json").read_text("utf-8"))
    assert {row["name"] for row in rows} == SCRIPTS.keys() | WATCHERS.keys()
    return [ConformanceRule(**row, script=SCRIPTS.get(row["name"])) for row in rows]


LAST = "an-orderly-stop-says-goodbye"  # after it there is no candidate


class Unreachable(Exception):
    """The candidate did not answer at all, or did not dial."""


class Kit:
    """The members that play against one candidate, in its network.

    All are guests of one member: that which joins with the candidate's invite, or the founder if the kit listens.

    Attributes:
        candidate: The candidate's peer id, "" until its first link.
        endpoint: Where the candidate listens, "" for nowhere.
        dials: Whether the candidate dials what `peers` names; None until it was tried.
        directory: A directory for files.
        restart: Kills the candidate and starts it again; None if that cannot be done. So is `stop`, which asks it to
            stop in good order.
    """

    def __init__(
        self, network: Network, *, candidate: str = "", endpoints: Sequence[str] = (), seed: str = "",
        timeout: float = 5.0, restart: Action | None = None, stop: Action | None = None, directory: Path | None = None,
    ) -> None:  # fmt: skip
        self.network = network
        self.invitation: Invitation | None = None  # of a kit that listens: its invite for the candidate
        self.room: str = room_id(network.id)
        self.candidate: str = candidate
        self.endpoints: list[str] = list(endpoints)
        self.endpoint: str = ""
        self.seed: str = seed
        self.timeout: float = timeout
        self.restart: Action | None = restart
        self.stop: Action | None = stop
        self.directory: Path = directory or Path()
        self.dials: bool | None = None
        self.logs: dict[LogId, list[ScriptedLog]] = {}
        self.frames: FrameWatch = FrameWatch()
        self.host: ScriptedMember | None = None  # of a kit that listens: whom the invite names
        self.said: list[Statement] = []  # by the founder, if that is the kit
        self._name = ""  # of the rule that runs
        self._record: list[tuple[str, bool, str]] = []
        self._drawn: dict[str, int] = {}
        self._links: list[ScriptedLink] = []  # of the rule that runs
        self._control: ScriptedLink | None = None
        self._named: list[wire.Peers] = []  # what the control link said of members of the rule that runs
        self._servers: list[asyncio.Server] = []
        self._accepted: dict[str, asyncio.Queue[ScriptedLink]] = {}

    # ---- what members need

    def record(self, link: str, sent: bool, text: str) -> None:
        if len(self._record) < RECORDED:
            self._record.append((link, sent, text[:RECORDED_CHARACTERS]))

    def watch(self, link: ScriptedLink, frame: wire.AnyFrame, text: str) -> None:
        self.frames.on_frame(link, frame, text)

    def draw(self, what: str, size: int) -> bytes:
        """Return bytes that follow from the seed, the rule, `what`, and how often that was drawn."""
        key = f"{self.seed}\0{self._name}\0{what}"
        self._drawn[key] = self._drawn.get(key, 0) + 1
        return sha256(f"{key}\0{self._drawn[key]}".encode()).digest()[:size]

    def written(self, log: LogId) -> set[tuple[int, str]]:
        """Return number and chain of all that the kit ever wrote into a log; an empty set for another's log."""
        return {(seq, chain.hex()) for one in self.logs.get(log, ()) for seq, chain in enumerate(one.chains)}

    # ---- who belongs to the network

    @property
    def founds(self) -> bool:
        """True if the kit has the key of the network's founder."""
        return self.network.member is not None and self.network.member.peer_id == self.network.founder

    @property
    def founder(self) -> Identity:
        """The key of the founder. Raises RuleSkipped where the candidate's network is not of the kit."""
        if self.network.member is None or not self.founds:
            raise RuleSkipped("the kit did not found the network: needs --listen")
        return self.network.member

    def say(self, kind: str, **fields: Any) -> Statement:
        """Make a statement as the founder. Raises RuleSkipped as `founder`."""
        founder = self.founder
        at = max([now_us(), *(one.at + 1 for one in self.said)])
        made = make_statement(self.network.id, founder.peer_id, founder.sign, kind, at, fields)
        self.said.append(made)
        return made

    def statements(self) -> wire.Statements | None:
        """Return what the kit has said as the founder; None for nothing."""
        pairs = [(one.text, one.signature.hex()) for one in self.said]
        return wire.Statements(founder=self.network.founder, s=pairs) if pairs else None

    def on_admitted(self, shown: wire.Membership) -> None:
        """Take that the candidate has admitted a member: the invite was used."""
        self.network = replace(self.network, founder=shown.founder or self.network.founder, invitation=None)

    def admit(self, candidate: wire.UserId, shown: wire.Membership, t: bytes) -> None:
        """Admit the candidate; add its member when it comes with the kit's invite for the first time.

        One that shows no certificate is a member itself.
        """
        if self.invitation is None or any(one.invite == self.invitation.id for one in self.said):
            return
        member = candidate if shown.guest is None else shown.guest.member
        due = prove_invite(self.invitation, t, member)
        check(shown.invite == due, "the candidate does not prove the invite for its member and this connection")
        self.say(ADD, who=[member], invite=self.invitation.id)

    @property
    def is_near(self) -> bool:
        """True if the candidate is on this machine."""
        return self._control is not None and self._control.writer.get_extra_info("peername")[0] in ("127.0.0.1", "::1")

    # ---- members and links

    def identity(self, name: str, decides: bool | None = None) -> Identity:
        """Return a key; with `decides` one whose id is smaller or larger than the candidate's."""
        while True:
            identity = Identity.from_seed(self.draw(f"key {name}", 32))
            if decides is None or decides == (identity.peer_id < self.candidate):
                return identity

    def member(self, name: str, *, decides: bool | None = False) -> ScriptedMember:
        """Return a new member. By default the candidate decides, so that it dials at once."""
        return ScriptedMember(self, name, self.identity(name, decides))

    async def dial(self, member: ScriptedMember, context: ssl.SSLContext | None = None) -> ScriptedLink:
        """Connect to the candidate. Raises RuleSkipped if it does not listen, OSError."""
        if not self.endpoint:
            raise RuleSkipped("the candidate does not listen")
        host, _, port = self.endpoint.rpartition(":")
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(host.strip("[]"), int(port), ssl=context or client_context()), self.timeout
        )
        self.record(member.name, True, f"(dials {self.endpoint})")
        return self._add(ScriptedLink(member, reader, writer, dialled=True))

    async def listen(
        self, member: ScriptedMember, *, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
    ) -> str:
        """Listen as a member; return the endpoint."""
        queue = self._accepted[member.id] = asyncio.Queue[ScriptedLink]()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if member.id not in self._accepted:  # the rule is over
                writer.close()
                return
            self.record(member.name, False, "(the candidate dials)")
            queue.put_nowait(self._add(ScriptedLink(member, reader, writer, dialled=False)))

        context = context or server_context(member.identity)
        server = self.keep(await asyncio.start_server(accept, host, port, ssl=context))
        member.port = server.sockets[0].getsockname()[1]
        return f"{'127.0.0.1' if host == '0.0.0.0' else host}:{member.port}"

    def keep(self, server: asyncio.Server) -> asyncio.Server:
        """Keep a server to the end of the run: a candidate that dials a former member must not meet another there."""
        self._servers.append(server)
        return server

    async def accept(self, member: ScriptedMember, *, context: ssl.SSLContext | None = None) -> ScriptedLink:
        """Let the candidate dial a member, whom another member names as linked. Raises RuleSkipped if it does not."""
        if self.dials is False:
            raise RuleSkipped("the candidate does not dial what `peers` names")
        if member.id not in self._accepted:
            await self.name(member, await self.listen(member, context=context))
        try:
            link = await asyncio.wait_for(self._accepted[member.id].get(), self.timeout)
        except TimeoutError:
            why = f"the candidate did not dial {member.name}, whom `peers` named"
            if self.dials:
                raise RuleBroken(why) from None
            self.dials = False
            raise RuleSkipped(why) from None
        self.dials = True
        return link

    def was_dialled(self, member: ScriptedMember) -> bool:
        """Return True if the candidate has dialled a member that listens."""
        return not self._accepted[member.id].empty()

    async def name(self, member: ScriptedMember, endpoint: str) -> None:
        """Name a member as linked, so that the candidate dials it.

        Where the kit can dial, a new member names it: a candidate may dial less for who named many that have gone.
        """
        link = await self.link(self.member("namer")) if self.endpoint else await self.control()
        said = wire.Peers([member.record(endpoint)], [member.id])
        link.send(said)
        if link is self._control:
            self._named.append(said)

    def _add(self, link: ScriptedLink) -> ScriptedLink:
        self._links.append(link)
        return link

    async def connect(self, member: ScriptedMember) -> ScriptedLink:
        """Return a new connection of this member, dialled by whom it is possible."""
        if self.endpoint:
            return await self.dial(member)
        return await self.accept(member)

    async def link(self, member: ScriptedMember, *, introduce: bool = True) -> ScriptedLink:
        """Return a new link of this member: the handshake is done, and it has announced itself."""
        link = await self.connect(member)
        await link.prove()
        await link.go()
        if introduce:
            await link.introduce()
        return link

    async def join(self, name: str, *, decides: bool | None = False) -> ScriptedLink:
        """Return a link of a new member."""
        return await self.link(self.member(name, decides=decides))

    # ---- the first contact

    async def reach(self) -> None:
        """Meet the candidate for the first time. Raises Unreachable, which tells what was sent and came."""
        limit, self.timeout = self.timeout, max(self.timeout, FIRST_CONTACT)
        try:
            await self.control()
            return
        except (RuleBroken, OSError, TimeoutError) as error:
            why = str(error)
        finally:
            self.timeout = limit
        if self._record:
            raise Unreachable("\n".join([f"there is no first link with the candidate: {why}", *shown(self._record)]))
        raise Unreachable(
            "the candidate did not dial: give it the invite"
            if self.host
            else "no link could be set up with the candidate"
        )

    async def control(self) -> ScriptedLink:
        """Return the link over which other members are named; make a new one if there is none."""
        if self._control is not None and not self._control.over:
            return self._control
        former, self._control = self._control, None
        if self.host is not None:
            link = await self._wait_for_dial(self.host)
        else:
            link = await self._dial_any()
        if link in self._links:
            self._links.remove(link)  # it outlives the rule
        self.candidate = self.candidate or link.server
        self._control = link
        await link.prove()
        if not link.dialled:
            hello = await link.next(wire.Hello)
            self.candidate = hello.id or ""
        await link.go(2 if former else 1)
        await link.introduce()
        host = link.writer.get_extra_info("peername")[0]
        own = [endpoint for record in await link.records() for endpoint in record.e]
        if not link.dialled and own:
            port = own[0].rpartition(":")[2]
            self.endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        link.send(*self._named)  # a candidate that was restarted may have forgotten them
        return link

    async def _wait_for_dial(self, host: ScriptedMember) -> ScriptedLink:
        while True:
            link = await asyncio.wait_for(self._accepted[host.id].get(), max(30.0, self.timeout))
            if not link.over:
                return link

    async def _dial_any(self) -> ScriptedLink:
        member = ScriptedMember(self, "kit", self.identity("kit", True if self.candidate else None))
        error: Exception = OSError("no endpoint")
        for endpoint in [self.endpoint] if self.endpoint else self.endpoints:
            self.endpoint = endpoint
            try:
                return await self.dial(member)
            except (OSError, TimeoutError) as failure:
                error, self.endpoint = failure, ""
        raise error

    async def restarted(self) -> None:
        """Kill the candidate and start it again; return when it can be reached."""
        if self.restart is None:
            raise RuleSkipped("needs --restart")
        endpoint, former = self.endpoint, self.candidate
        await self.restart()
        async with asyncio.timeout(4 * self.timeout):
            while True:
                try:
                    self.endpoint = endpoint
                    link = await self.control()
                    break
                except (OSError, RuleBroken, TimeoutError):
                    await asyncio.sleep(ATTEMPTS_EVERY)
        now = link.server or link.client
        check(now == former, f"the candidate was {former}, and is {now} after the kill")

    # ---- a run

    async def play(self, rule: ConformanceRule) -> RuleResult:
        """Try one rule."""
        self._name, self._record, began = rule.name, [], time.monotonic()
        result = RuleResult(rule, "passed")
        try:
            if rule.script is None:
                await self._judge(rule)
            else:
                async with asyncio.timeout(max(RULE_LEAST, RULE_TIMEOUTS * self.timeout)):
                    await rule.script(self)
            fault = next((link.fault for link in self._links if link.fault), "")
            check(not fault, f"the candidate sent what is no frame: {fault}")
        except RuleSkipped as skipped:
            result.outcome, result.why = "skipped", str(skipped)
        except RuleBroken as broken:
            result.outcome, result.why = "failed", str(broken)
        except TimeoutError:
            result.outcome, result.why = "failed", "it took too long"
        except OSError as error:
            result.outcome, result.why = "failed", f"the connection failed: {error}"
        except (LookupError, TypeError, ValueError) as error:  # what came is not what the rule could read
            result.outcome, result.why = "failed", f"something came that was not expected: {error!r}"
        finally:
            await self._clear()
        result.record, result.seconds = self._record, time.monotonic() - began
        return result

    async def _judge(self, rule: ConformanceRule) -> None:
        """Judge a rule of every frame, after an exchange of everything usual."""
        if not self.frames.frames or "an echo" not in self._drawn:
            self._drawn["an echo"] = 1
            ada, bob = await self.join("ada"), await self.join("bob")
            await ada.echoed("an echo", ada.member.dm())
            await ada.echoed(
                "a minute ahead", c=now_us() + 60_000_000
            )  # so the candidate's clock has to rise by itself
            await bob.echoed("an echo")
            await ada.round_trip()
        faults = self.frames.faults.get(rule.name, [])
        check(not faults, "; ".join(faults[:3]))

    async def _clear(self) -> None:
        """End all links of a rule."""
        links, self._links, self._named = self._links, [], []
        for link in links:
            link.leave()
        for link in links:
            await link.aclose()
        host = self.host.id if self.host else ""
        self._accepted = {id: queue for id, queue in self._accepted.items() if id == host}
        if self._control is not None and links:
            gone = [link.member.id for link in links if not link.dialled]
            if gone and not self._control.over:
                self._control.send(wire.Peers(gone=gone))

    async def aclose(self) -> None:
        await self._clear()
        if self._control is not None:
            self._control.leave()
            await self._control.aclose()
        for server in self._servers:
            server.close()

    async def run(self, rules: Iterable[ConformanceRule], report: Callable[[RuleResult], None]) -> list[RuleResult]:
        """Try these rules, one after the other; tell each result."""
        results = []
        for one in rules:
            result = await self.play(one)
            results.append(result)
            report(result)
        return results


def dialling_kit(invite: Invite, **options: Any) -> Kit:
    """Return a kit that dials the candidate whom an invite names."""
    member = Identity.from_seed(sha256(f"member {options.get('seed', '')}".encode()).digest())
    network = replace(invite.network, member=member, invitation=invite.invitation)
    return Kit(network, candidate=invite.peer_id, endpoints=invite.endpoints, **options)


async def listening_kit(host: str = "127.0.0.1", port: int = 0, **options: Any) -> tuple[Kit, str]:
    """Return a kit that waits for the candidate, and the invite for it."""
    seed = options.get("seed", "")
    network = Network.found(sha256(f"founder {seed}".encode()).digest())
    network = replace(network, key=sha256(f"key {seed}".encode()).hexdigest())
    kit = Kit(network, **options)
    kit.host = ScriptedMember(kit, "kit", kit.identity("kit"))
    endpoint = await kit.listen(kit.host, host=host, port=port)
    kit.invitation = make_invitation(network, kit.host.identity, days=1)
    return kit, encode_invite(network, kit.invitation, [endpoint])


def shown(record: Sequence[tuple[str, bool, str]]) -> list[str]:
    """Return lines with the last of what was sent and came."""
    lines = []
    for link, sent, text in record[-SHOWN_FRAMES:]:
        cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
        lines.append(f"        {'kit as' if sent else 'to'} {link:8} {ascii(cut)[1:-1]}")
    return lines


def alike(results: Iterable[RuleResult]) -> Iterator[tuple[str, list[str]]]:
    """Yield what many rules failed with, and their names: they may have one cause.

    Numbers, and what is in quotes, may differ.
    """
    found: dict[str, list[str]] = {}
    for result in results:
        if result.outcome == "failed":
            found.setdefault(re.sub(r"[\d.]*\d|'[^']*'", "…", result.why), []).append(result.rule.name)
    for why, names in found.items():
        if len(names) >= MANY:
            yield why, names


def temporary_directory() -> TemporaryDirectory[str]:
    """Return a directory for the files of a run."""
    return TemporaryDirectory(prefix="p2pchat-conformance-")


def chosen(rules: Iterable[ConformanceRule], level: str, only: Sequence[str]) -> Iterator[ConformanceRule]:
    """Yield the rules up to a level, or only those named."""
    for one in rules:
        if one.name in only if only else LEVELS.index(one.level) <= LEVELS.index(level):
            yield one
