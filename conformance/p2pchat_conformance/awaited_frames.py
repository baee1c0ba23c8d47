"""Frames to and from the candidate on one connection of a scripted member, and waiting for those that must come.

Each wait has a deadline and names what it waits for, so that a candidate that does not answer is told what was awaited.
Everything sent and received goes to the `record` of the kit, and each frame of the candidate to its `watch`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from p2pchat import protocol as wire
from p2pchat.core.log import LogId
from p2pchat.core.members.admission import prove_invite
from p2pchat.core.mesh.handshake import proof, transcript
from p2pchat.errors import HandshakeError
from p2pchat.identity.network import Network
from p2pchat.identity.tls_pipe import peer_key
from p2pchat.protocol import ConversationId, Mark, UserId

if TYPE_CHECKING:
    from p2pchat_conformance.scripted_member import ScriptedLog, ScriptedMember

LOWEST, HIGHEST = "0" * 64, "f" * 64
SPAN = (LOWEST, HIGHEST)
F = TypeVar("F", bound=wire.Frame)
Sendable = wire.Frame | dict[str, Any] | bytes
ABOUT_CONVERSATIONS = (wire.Digest, wire.Have, wire.Want, wire.Entries, wire.ReadFrame, wire.TypingFrame)


class RuleBroken(Exception):
    """The candidate did not do what the rule says; the text tells what was seen instead."""


class RuleSkipped(Exception):
    """The rule cannot be tried with this candidate, or in this way of running; the text tells why."""


def check(holds: object, otherwise: str) -> None:
    """Raise RuleBroken with this text unless something holds."""
    if not holds:
        raise RuleBroken(otherwise)


def now_us() -> int:
    """Return the time as entries have it: UTC microseconds."""
    return time.time_ns() // 1000


def compact(value: object) -> str:
    """Return JSON without blanks, as p2pchat writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def framed(payload: str | bytes) -> bytes:
    """Return a payload with its length before it."""
    data = payload.encode() if isinstance(payload, str) else payload
    return wire.LENGTH.pack(len(data)) + data


def mentioned(frame: wire.AnyFrame) -> list[ConversationId]:
    """Return the conversations that a frame mentions, beside its names."""
    if isinstance(frame, wire.Want | wire.Entries | wire.TypingFrame):
        return [frame.c]
    if isinstance(frame, wire.Have):
        return list(dict.fromkeys([*frame.marks, *frame.full]))
    if isinstance(frame, wire.ReadFrame):
        return list(frame.marks)
    return list(frame.sums or ()) if isinstance(frame, wire.Digest) else []


class KitContext(Protocol):
    """The part of the kit that members use."""

    network: Network
    room: ConversationId
    candidate: str
    timeout: float
    logs: dict[LogId, list[ScriptedLog]]  # all that the kit wrote; several with one id have forked

    def record(self, link: str, sent: bool, text: str) -> None: ...
    def watch(self, link: ScriptedLink, frame: wire.AnyFrame, text: str) -> None: ...
    def draw(self, what: str, size: int) -> bytes: ...
    def written(self, log: LogId) -> set[tuple[int, str]]: ...
    def on_admitted(self, shown: wire.Membership) -> None: ...
    def admit(self, candidate: UserId, shown: wire.Membership, t: bytes) -> None: ...
    def statements(self) -> wire.Statements | None: ...


class ScriptedLink:
    """One connection between a member and the candidate.

    Attributes:
        frames: The frames received so far, in order.
        texts: The JSON of each.
        server: The id that the candidate's TLS certificate shows, "" if the candidate dialled.
        t: What both ends signed and proved, once they did.
        fault: Why the candidate's bytes are no frame; "".
        over: The candidate has closed, or the connection broke.
    """

    def __init__(self, member: ScriptedMember, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                 *, dialled: bool) -> None:  # fmt: skip
        self.member: ScriptedMember = member
        self.kit: KitContext = member.kit
        self.reader: asyncio.StreamReader = reader
        self.writer: asyncio.StreamWriter = writer
        self.dialled = dialled
        self.server: str = ""
        self.t: bytes = b""
        self.client: UserId = ""  # the candidate's id, if it dialled
        self.frames: list[wire.AnyFrame] = []
        self.texts: list[str] = []
        self.fault: str = ""
        self.over: bool = False
        self.wants = 0
        self.pulls = 0
        self.open_wants: dict[int, tuple[ConversationId, UserId]] = {}
        self.pings: int = 0
        self.questions: int = 0
        self.nonce: str = member.kit.draw(f"nonce {member.name} {dialled}", 32).hex()
        self.memory: dict[str, Any] = {}  # of the watch
        self._decoder = wire.Decoder(max_frame_bytes=wire.MAX_FRAME_BYTES)
        self._news = asyncio.Event()
        self._waiting: list[wire.AnyFrame] | None = []  # what came before the member was introduced
        if dialled:
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            with suppress(HandshakeError):
                self.server = peer_key(certificate)
        self._listening = asyncio.create_task(self._listen())

    @property
    def label(self) -> str:
        return self.member.name

    # ---- bytes

    async def _listen(self) -> None:
        rest = b""
        try:
            while data := await self.reader.read(65536):
                rest += data
                while len(rest) >= 4:
                    length: int = wire.LENGTH.unpack_from(rest)[0]
                    end = 4 + (length & ~wire.RAW_FLAG)
                    if len(rest) < end:
                        break
                    if length & wire.RAW_FLAG:
                        self._on_bytes(rest[:end])
                    else:
                        self._on_payload(rest[4:end])
                    rest = rest[end:]
                self._news.set()
        except (OSError, ssl.SSLError):
            pass
        self.over = True
        self.kit.record(self.label, False, "(the connection is closed)")
        self._news.set()

    def _on_bytes(self, data: bytes) -> None:
        """Take a frame of bytes: a piece, if this member said that it takes some."""
        self._decoder.takes_pieces = wire.FILES in self.member.can
        for frame in self._decoder.feed(data):
            self.kit.record(self.label, False, f"({frame})")
            self.frames.append(frame)
            self.texts.append("")
        if self._decoder.fault is not None:
            self.fault = self.fault or f"{self._decoder.fault}: a frame of {len(data)} bytes"

    def _on_payload(self, payload: bytes) -> None:
        text = payload.decode("utf-8", "backslashreplace")
        self.kit.record(self.label, False, text)
        found = self._decoder.feed(wire.LENGTH.pack(len(payload)) + payload)
        if self._decoder.fault is not None:
            self.fault = self.fault or f"{self._decoder.fault}: {text[:120]}"
        for frame in found:
            self.frames.append(frame)
            self.texts.append(text)
            if self.member.learns and isinstance(frame, ABOUT_CONVERSATIONS):
                self.member.learn(frame.names)
            self.kit.watch(self, frame, text)
            if self._waiting is None:
                self.member.on_frame(self, frame)
            elif isinstance(frame, wire.Here | wire.Digest | wire.Have | wire.Want | wire.Entries):
                self._waiting.append(frame)

    def send(self, *what: Sendable) -> None:
        """Send frames in one write, each with the names of its conversations. Bytes go out as they are."""
        data = b"".join(self._encoded(one) for one in what)
        if not self.over and not self.writer.is_closing():
            self.writer.write(data)

    def _encoded(self, one: Sendable) -> bytes:
        if isinstance(one, bytes):
            text = one[4:].decode("utf-8", "backslashreplace")
            self.pings += '"ping"' in text
            self.kit.record(self.label, True, text)
            return one
        if isinstance(one, wire.Piece):
            self.kit.record(self.label, True, f"({one})")
            return wire.encode_piece(one)
        if isinstance(one, dict):
            text = compact(one)
        else:
            self._name(one)
            if isinstance(one, wire.Have) and one.end is not None:
                wants = self.memory.get("wants", {})
                for key in [key for key, n in wants.items() if n == one.end]:
                    del wants[key]
            text = wire.encode(one)[4:].decode()
        self.pings += '"ping"' in text
        self.kit.record(self.label, True, text)
        return framed(text)

    def _name(self, frame: wire.Frame) -> None:
        if isinstance(frame, ABOUT_CONVERSATIONS) and not frame.names:
            found = map(self.member.naming, mentioned(frame))
            frame.names = [naming for naming in found if naming and not naming.room]

    def changed(self, frame: wire.Frame, **fields: Any) -> dict[str, Any]:
        """Return a frame as its JSON object, with other or further fields."""
        self._name(frame)
        return {**json.loads(wire.encode(frame)[4:]), **fields}

    # ---- waiting

    async def until(self, holds: Callable[[], object], awaited: str, *, timeout: float | None = None) -> None:
        """Wait until a condition on what came holds. Raises RuleBroken that names what was awaited."""
        limit = timeout or self.kit.timeout
        try:
            async with asyncio.timeout(limit):
                while not holds():
                    if self.over:
                        raise RuleBroken(f"the candidate closed the link{self._farewell()}; awaited was {awaited}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise RuleBroken(f"within {limit:g} s there was no {awaited}") from None

    def _farewell(self) -> str:
        last = self.frames[-1] if self.frames else None
        return f" with {last.code!a} ({ascii(last.text or '')[:80]})" if isinstance(last, wire.Bye) else ""

    async def next(
        self, kind: type[F], awaited: str = "", *, after: int = 0, where: Callable[[F], object] = lambda frame: True,
        timeout: float | None = None,
    ) -> F:  # fmt: skip
        """Wait for the first frame of a kind behind the first `after` frames, and return it."""
        found: list[F] = []

        def there() -> bool:
            found[:] = [one for one in self.frames[after:] if isinstance(one, kind) and where(one)]
            return bool(found)

        await self.until(there, awaited or f"`{kind.__struct_config__.tag}`", timeout=timeout)
        return found[0]

    async def heard(self) -> None:
        """Wait until something came, or the link is over."""
        self._news.clear()
        if not self.over:
            await self._news.wait()

    async def ended(self, *codes: str, after: str) -> str:
        """Wait until the candidate has closed the link, with one of these codes in its last frame; return it.

        `after` says what it must close the link for.
        """
        limit = self.kit.timeout
        try:
            async with asyncio.timeout(limit):
                while not self.over:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise RuleBroken(f"after {after} the candidate did not close the link within {limit:g} s") from None
        last = self.frames[-1] if self.frames else None
        code = last.code if isinstance(last, wire.Bye) else ""
        wanted = " or ".join(f"`{one}`" for one in codes)
        came = f"`{code}`" if code else "no `bye`"
        check(not codes or code in codes, f"after {after} the link ended with {came}, not with {wanted}")
        return code

    async def round_trip(self) -> None:
        """Send a ping and await its pong: everything sent before it was read."""
        pongs = sum(isinstance(one, wire.Pong) for one in self.frames)
        self.send(wire.Ping())
        await self.until(
            lambda: sum(isinstance(one, wire.Pong) for one in self.frames) > pongs, "`pong` that answers a `ping`"
        )

    async def acked(self, log: ScriptedLog, seq: int | None = None, *, after: int = 0) -> None:
        """Wait for a mark of this log at an entry, None for the last one, or higher, or of a log that builds on it."""
        number, (conversation, user, run) = seq or len(log.raws), log.id

        def covers(tip: Mark) -> bool:
            if tip.run == run:
                return tip.seq >= number
            logs = self.kit.logs.get(LogId(conversation, user, tip.run), ())
            return any(covers(mark) for one in logs for mark in one.before)

        def there() -> bool:
            return any(
                covers(mark)
                for frame in self.frames[after:] if isinstance(frame, wire.Have)
                for mark in frame.marks.get(conversation, {}).get(user, ())
            )  # fmt: skip

        await self.until(there, f"`have` with the mark of entry {number} of {self.member.name}'s log")

    def entries_of(self, user: UserId, conversation: ConversationId, after: int = 0) -> list[dict[str, Any]]:
        """Return the entries of a user that came in a conversation, each once, with `run` and `seq` added."""
        found = {}
        for frame in self.frames[after:]:
            if isinstance(frame, wire.Entries) and (frame.c, frame.u) == (conversation, user):
                for seq, (c, text) in enumerate(frame.e, frame.first):
                    found[frame.r, seq] = {**json.loads(str(text)), "c": c, "run": frame.r, "seq": seq}
        return list(found.values())

    async def answer(self, conversation: ConversationId, text: str, re: list[object] | None = None, *,
                     user: UserId = "") -> dict[str, Any]:  # fmt: skip
        """Wait for an entry of the candidate with this text (and this `re`); return it with `run` and `seq`."""

        def found() -> list[dict[str, Any]]:
            came = self.entries_of(user or self.kit.candidate, conversation)
            return [one for one in came if one.get("b") == text and re in (None, one.get("re"))]

        await self.until(found, f"text {text!r} of the candidate{' that answers the entry' * bool(re)}")
        return found()[0]

    async def echoed(self, text: str, conversation: str = "", **keys: Any) -> tuple[ScriptedLog, dict[str, Any]]:
        """Write `echo TEXT` in the room, or TEXT in a direct conversation; await the mark and the answer."""
        where = conversation or self.kit.room
        log, batch = self.member.say(where, text if where == self.member.dm() else f"echo {text}", **keys)
        self.send(batch)
        await self.acked(log)
        return log, await self.answer(where, text, log.ref())

    async def compared(self) -> None:
        """Exchange messages until answers come unasked: the candidate counts the room and the dm as compared."""
        for conversation in (self.kit.room, self.member.dm()):
            for n in range(50):
                _, answer = await self.echoed(f"compared? {n}", conversation)
                pushed = (one for one in self.frames if isinstance(one, wire.Entries) and one.n is None)
                if any((one.c, one.r) == (conversation, answer["run"])
                       and one.first <= answer["seq"] < one.first + len(one.e) for one in pushed):  # fmt: skip
                    break
            else:
                raise RuleBroken("no answer of fifty came without a want: the link never counts as compared")
        for _ in range(3):  # sums, marks, wants: what was still asked is answered
            await self.round_trip()

    # ---- handshake

    async def offered(self) -> wire.Hello:
        """Wait for the hello of the candidate, as the server."""
        hello = await self.next(wire.Hello, "`hello` of the server")
        check(isinstance(hello.v, list), "`v` in the `hello` of a server is a list of versions")
        return hello

    def hello(self, offer: wire.Hello, *, key: str | None = None, proven: bool = True) -> wire.Hello:
        """Return the hello of a client. `key` replaces that of the network."""
        t = transcript(wire.PROTOCOL_VERSION, self.server, self.member.id, offer.nonce, self.nonce)
        given = proof(key or self.kit.network.key, "client", t) if proven else None
        return wire.Hello(wire.PROTOCOL_VERSION, self.nonce, self.member.id, self.member.identity.sign(t).hex(), given)

    def shown(self) -> wire.Membership:
        """Return what shows that a member answers for this one: the founder, or the one that joined with the invite."""
        network = self.kit.network
        assert network.member is not None
        invitation = network.invitation
        invite = None if invitation is None else prove_invite(invitation, self.t, network.member.peer_id)
        return wire.Membership(network.founder or None, network.guest(self.member.id), invite=invite)

    async def prove_keys(self, shown: wire.Membership | None = None) -> wire.Membership:
        """Do the handshake up to `welcome`, on either side.

        Args:
            shown: What to show as the server; None for what is right.
        Returns:
            What the candidate shows; as the client it shows it later.
        """
        if self.dialled:
            offer = await self.offered()
            self.send(self.hello(offer))
            self.t = transcript(wire.PROTOCOL_VERSION, self.server, self.member.id, offer.nonce, self.nonce)
            return (await self.next(wire.Welcome)).show or wire.Membership()
        self.send(wire.Hello([wire.PROTOCOL_VERSION], self.nonce))
        hello = await self.next(wire.Hello, "`hello` of the client")
        self.client = hello.id or ""
        self.t = transcript(wire.PROTOCOL_VERSION, self.member.id, hello.id or "", self.nonce, hello.nonce)
        self.send(wire.Welcome(proof(self.kit.network.key, "server", self.t), shown or self.shown()))
        return wire.Membership()

    async def prove(self) -> None:
        """Do the handshake up to `admit`, on either side."""
        shown = await self.prove_keys()
        if self.dialled:
            self.send(wire.Show(self.shown()))
            await self.next(wire.Admit)
            self.kit.on_admitted(shown)
        else:
            self.kit.admit(self.client, (await self.next(wire.Show)).show, self.t)
            self.send(wire.Admit())

    async def go(self, n: int = 1, run: str = "") -> None:
        """Send `go`, or wait for that of the candidate."""
        if self.member.decides:
            self.send(wire.Go(run or self.kit.draw("run of the kit", 8).hex(), n))
        else:
            await self.next(wire.Go)

    async def introduce(self, *frames: wire.Frame) -> None:
        """Announce the member and its users, await the candidate's users, and begin to compare.

        From here on the member answers by itself.
        """
        records = [self.member.record(f"127.0.0.1:{self.member.port}")] if self.member.port else []
        self.send(wire.Peers(records, can=[*self.member.can]))
        if (said := self.kit.statements()) is not None:
            self.send(said)
        self.send(*(frames or (self.member.here(),)))
        waiting, self._waiting = self._waiting or [], None
        for frame in waiting:
            self.member.on_frame(self, frame)
        await self.next(wire.Here, "`here` that completes the list of users", where=lambda here: not here.more)
        self.send(wire.Digest(sum=self.member.total))

    def leave(self, code: str = "left") -> None:
        """Say goodbye and close."""
        if not self.over:
            with suppress(OSError, RuntimeError):
                self.send(wire.Bye(code))
        self.writer.close()

    def cut(self) -> None:
        """End the connection without a goodbye."""
        self.writer.transport.abort()

    async def aclose(self) -> None:
        self.writer.transport.abort()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def records(self) -> list[wire.PeerRecord]:
        """Return its own record, as often as it came before the answer to a ping: the announcement may have pages."""
        await self.next(wire.Peers)
        with suppress(RuleBroken):  # other rules judge the answer
            await self.round_trip()
        told = [record for one in self.frames if isinstance(one, wire.Peers) for record in one.records]
        return [record for record in told if record.id == self.kit.candidate]

    async def end_of(self, n: int) -> wire.Have:
        """Wait for the `have` that closes a want."""
        return await self.next(wire.Have, f"`have` with `end` {n}", where=lambda one: one.end == n)

    async def marks_in(self, conversation: str, span: tuple[str, str] | None = None) -> dict[UserId, list[Mark]]:
        """Ask for the candidate's marks in a conversation; return them."""
        after, self.questions = len(self.frames), self.questions + 1
        span = span or (LOWEST, f"{'f' * 60}{self.questions:04x}")  # tells the answer from those to other questions
        self.send(wire.Have({conversation: {}}, span=span, ask=True))
        page = await self.next(
            wire.Have, "`have` with the span", after=after,
            where=lambda one: one.span == span and conversation in one.marks and not one.ask,
        )  # fmt: skip
        return page.marks[conversation]

    async def in_step(self) -> str:
        """Wait until the member holds all that the candidate does, by sums alone; return the sum."""
        seen, own = 0, self.member
        self.send(wire.Digest(sum=own.total, ask=True))
        for _ in range(100):
            await self.next(wire.Digest, "`digest` in answer to one that asks", after=seen)
            digests = [one for one in self.frames if isinstance(one, wire.Digest)]
            if digests[-1].sum == own.total:
                return own.total
            seen = len(self.frames)
            await self.until(lambda: not self.open_wants, "end of a want")
            await self.round_trip()
            await self.until(lambda: not self.open_wants, "end of a want")
            self.send(wire.Digest(sum=own.total, ask=True))
        raise RuleBroken("the sums never became equal, although everything that was offered was fetched")
