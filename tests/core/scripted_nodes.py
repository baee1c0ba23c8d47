"""Helpers for tests of the core: whole nodes with real storage in memory, and far ends scripted frame by frame.

A Peer is a node that executes its own effects. A Far is only a key; tests decide which frames it sends. The effects of
a node are recorded as short lines, so that one comparison of lists shows everything:

    to bob: entries room b1:1..2        marks and entries are run:number; a run is named by its first two digits,
    commit b1:1..2, places 1..2         and runs of ada's node begin with a, of bob's with b

Time does not pass unless a test moves it. Lookups are answered at once unless `holding`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from hashlib import sha256, shake_256

from p2pchat.core import effects as out
from p2pchat.core.durable_changes import Change, LogKey, Stored
from p2pchat.core.groups.group_fact import CREATE, FACT, fact_body, group_id, run_of, talk_id
from p2pchat.core.inputs import (
    Committed,
    Connect,
    ConversationOpened,
    DialFailed,
    FetchResult,
    Got,
    ImportRequest,
    Input,
    LinkAccepted,
    LinkDialled,
    LinkDown,
    LookupResult,
    MarkedRead,
    OwnStateSet,
    Woke,
    WriteRequest,
)
from p2pchat.core.log import (
    Entry,
    LogId,
    RawEntry,
    Ref,
    encode_entry,
    encode_header,
    extend_chain,
    first_chain,
    hash_of,
    head_message,
    mark_hash,
    ref_key,
)
from p2pchat.core.members.statement import make_guest, room_id
from p2pchat.core.mesh.handshake import ClientSide
from p2pchat.core.node import Node
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, Now
from p2pchat.core.sync.conversation_state import SHARED_TAG, TIPS_TAG
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.identity.identity import Identity
from p2pchat.kinds import KINDS
from p2pchat.protocol import (
    MAX_FRAME_BYTES,
    Decoder,
    Digest,
    Entries,
    Frame,
    Go,
    GuestCertificate,
    Have,
    Hello,
    Here,
    Hosted,
    Mark,
    Membership,
    Naming,
    Peers,
    Ping,
    Pong,
    ReadFrame,
    Show,
    Statements,
    TypingFrame,
    Unknown,
    UserId,
    Want,
    Welcome,
    encode,
)
from p2pchat.settings import Settings
from p2pchat.storage.contract import files_of
from p2pchat.storage.temporary_storage import TemporaryStorage

N, K = "0a" * 16, "0b" * 32
ROOM = room_id(N)
START = 1_760_000_000_000_000  # UTC microseconds
FAR_RUN = "f0" * 8
ALL = ("0" * 64, "f" * 64)
IDENTITIES = {name: Identity.from_seed(sha256(name.encode()).digest()) for name in ("ada", "bob", "cyd", "dan", "eve")}
IDS = {name: identity.peer_id for name, identity in IDENTITIES.items()}
NAMES = {id: name for name, id in IDS.items()}
QUIET = (Hello, Welcome, Go, Ping, Pong, Peers, Here)  # frames that do not concern entries
REPORTED = (out.Send, out.Commit, out.Lookup, out.Fetch, out.WriteAccepted, out.WriteRefused, out.DeliveryReceipt,
            out.ReadReceipt, out.GapShown, out.WarningIssued, out.Close, out.Reload, out.ImportResult,
            out.TypingChanged, out.ComparisonEnded, out.ReadStored)  # fmt: skip
CONTENT = (out.GivePieces, out.ContentProgress, out.ContentArrived,
           out.ContentStopped, out.FindHeld, out.FileHeld)  # fmt: skip
EVENTS = (out.LinkChanged, out.UserJoined, out.UserLeft, out.PresenceChanged, out.MemberChanged)


def dm(one: str, other: str) -> str:
    return dm_id(ROOM, IDS[one], IDS[other])


class Author:
    """Writes one log of a user as the user's peer would: entries, chains, heads.

    Each `say` returns a frame with its entries. `mark` covers everything written so far.
    """

    def __init__(
        self, name: str, run: str, conversation: str = ROOM, before: Iterable[Mark] = (),
        by: GuestCertificate | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.log = LogId(conversation, IDS[name], run * 8)
        self.before = tuple(before)
        self.by = by
        self.seq = 0
        self._chain = b""

    @property
    def header(self) -> str:
        return encode_header(self.log, self.before, self.by)

    @property
    def chain(self) -> bytes:
        return self._chain or first_chain(self.header)

    @chain.setter
    def chain(self, chain: bytes) -> None:
        self._chain = chain

    def say(
        self, *texts: str, after: Iterable[Ref] = (), re: Ref | None = None, at: int = START, kind: str = "text"
    ) -> Entries:
        entries: list[Entry] = []
        for text in texts:
            seq = self.seq + len(entries) + 1
            entries.append(Entry(kind, at + seq, at + seq, re, tuple(after), text))
            after = ()
        return self.write(*map(encode_entry, entries))

    def write(self, *raws: RawEntry) -> Entries:
        """Return a frame with these entries, unchanged and signed."""
        first, prev = self.seq + 1, self.chain
        self.seq += len(raws)
        self._chain = extend_chain(prev, raws)
        head = IDENTITIES[self.name].sign(head_message(self.log, self.seq, self.chain))
        header = self.header if first == 1 else ""
        return Entries(
            *self.log, first, prev.hex(), list(raws), head.hex(), header, names=names_of(self.log.conversation)
        )

    @property
    def mark(self) -> Mark:
        return Mark(self.log.run, self.seq, self.chain.hex())

    def ref(self, seq: int) -> Ref:
        return Ref(ref_key(self.log.user, self.log.run), seq)


class GroupPen:
    """Writes facts of one group as the peers of its people would; each frame may be given to a node or not.

    Attributes:
        id, talk: The conversations of the group.
        first: The frame with the fact that makes it.
    """

    def __init__(
        self, owner: str, *members: str, name: str = "ops", salt: int = 0, room: str = ROOM,
        by: GuestCertificate | None = None,
    ) -> None:  # fmt: skip
        self.clock = 0
        self._room, self._by = room, by
        self._tips: dict[str, tuple[Mark, ...]] = {}
        self.marks: list[Mark] = []  # of all facts, the newest last
        raw = self.raw(CREATE, [IDS.get(one, one) for one in (owner, *members)], name=name, salt=salt)
        self.id = group_id(room, IDS[owner], raw)
        self.talk = talk_id(self.id)
        self.first = self.write(owner, raw)
        NAMINGS[self.id] = Naming(group=(self.id, IDS[owner], self.first.r))
        NAMINGS[self.talk] = Naming(talk=self.id)
        self.first.names = names_of(self.id)

    def raw(self, kind: str, who: object = (), **fields: object) -> RawEntry:
        """Return the entry of a fact, with the next clock."""
        self.clock += 1
        if "salt" in fields:
            fields["salt"] = f"{fields['salt']:032x}"
        return encode_entry(Entry(FACT, self.clock, self.clock, b=fact_body(kind, who, **fields)))  # type: ignore[arg-type]

    def say(self, by: str, kind: str, *who: str, ends: Iterable[str] = (), **fields: object) -> Entries:
        """Return a frame with a fact of somebody about others, whom names or ids say."""
        about = {IDS.get(one, one): tuple(ends) for one in who}
        return self.write(by, self.raw(kind, about, **fields))

    def write(self, by: str, raw: RawEntry) -> Entries:
        before = self._tips.get(by, ())
        author = Author(by, "00", self.id, before, self._by)
        author.log = author.log._replace(run=run_of(self.id, IDS[by], before, self._by, raw))
        frame = author.write(raw)
        self._tips[by] = (author.mark,)
        self.marks.append(author.mark)
        return frame

    @property
    def last(self) -> str:
        """The id of the newest fact."""
        return self.marks[-1].chain[:32]

    def tips(self, by: str) -> tuple[Mark, ...]:
        """Return the mark of the newest fact of somebody."""
        return self._tips.get(by, ())


def alike(mark: Mark) -> Mark:
    """Return a mark whose chain begins as the true one: 2^32 hashes find two texts with such chains."""
    return mark._replace(chain=mark.chain[:16] + "00" * 24)


NAMINGS = {dm(one, other): dm_naming(IDS[one], IDS[other]) for one in IDS for other in IDS}


def names_of(*conversations: str) -> list[Naming]:
    return [NAMINGS[id] for id in conversations if id in NAMINGS]


def have(*authors: Author, **fields: object) -> Have:
    """Return the marks of these logs."""
    marks: dict[str, dict[str, list[Mark]]] = {}
    for author in authors:
        users = marks.setdefault(author.log.conversation, {})
        users.setdefault(author.log.user, []).append(author.mark)
    return Have(marks, names=names_of(*marks), **fields)  # type: ignore[arg-type]


def page(*authors: Author, ask: bool = False) -> Have:
    """Return a page of marks that covers the whole room."""
    marks = have(*authors).marks or {ROOM: {}}
    return Have(marks, span=ALL, ask=ask)


def sum_of_tips(*authors: Author) -> str:
    """Return the sum of what authors wrote in one conversation."""
    return hash_of(TIPS_TAG, sorted(mark_hash(author.log, author.seq, author.chain) for author in authors))


def sum_of_all(*authors: Author) -> str:
    """Return the sum of everything, of which authors wrote all in one conversation."""
    return hash_of(SHARED_TAG, [bytes.fromhex(sum_of_tips(*authors))] if authors else [])


def sums(*authors: Author) -> Digest:
    """Return a page of sums that covers the whole room."""
    return Digest(sums={ROOM: sum_of_tips(*authors)}, span=ALL)


def describe(frame: Frame) -> str:
    """Return a frame as a short text."""
    if isinstance(frame, Entries):
        number = f", for want {frame.n}" if frame.n is not None else ""
        evidence = ", as evidence" if frame.fork else ""
        return f"entries {where(frame.c)} {span(frame.r, frame.first, len(frame.e))}{number}{evidence}"
    if isinstance(frame, Want):
        older = f", older {marks(frame.older)}" if frame.older else ""
        return f"want {frame.n} {where(frame.c)} {NAMES.get(frame.u, frame.u[:4])} from {marks(frame.tips)}{older}"
    if isinstance(frame, Digest):
        asks = " ask" * frame.ask
        return f"digest{asks}" if frame.sum is not None else f"sums of {len(frame.sums or ())}"
    if isinstance(frame, Have):
        said = [f"{where(id)} {NAMES[user]} {marks(tips)}" for id, users in frame.marks.items()
                for user, tips in users.items()]  # fmt: skip
        flags = ["all"] * (frame.span == ALL) + ["part"] * (frame.span not in (None, ALL)) + ["ask"] * frame.ask
        flags += [f"end {frame.end}"] * (frame.end is not None) + ["full"] * bool(frame.full)
        return " ".join(["have", ", ".join(said) or "nothing", *flags])
    if isinstance(frame, TypingFrame):
        return f"typing {where(frame.c)} {'on' if frame.on else 'off'}"
    if isinstance(frame, ReadFrame):
        read = [f"{where(id)} by {NAMES[user]} {' '.join(sorted(f'{ref[32:34]}:{seq}' for ref, seq, *_ in refs))}"
                for id, users in frame.marks.items() for user, refs in users.items()]  # fmt: skip
        flags = (
            ["taken"] * bool(frame.taken)
            + ["sum"] * (frame.sum is not None)
            + ["all"] * frame.all
            + ["ask"] * frame.ask
        )
        return " ".join(["read", *([", ".join(read)] if read else []), *flags])
    return type(frame).__name__.lower()


def where(conversation: str) -> str:
    return "room" if conversation == ROOM else "dm"


def marks(tips: Iterable[Mark]) -> str:
    return " ".join(f"{mark.run[:2]}:{mark.seq}" for mark in tips) or "nothing"


def span(run: str, first: int, count: int) -> str:
    return f"{run[:2]}:{first}..{first + count - 1}"


def committed(change: Change) -> str:
    said = [span(batch.log.run, batch.first, len(batch.raws)) for batch in change.batches]
    said += [f"fork of {fork.log.run[:2]}" for fork in change.forks]
    for one in change.stretches:
        flags = " old" * one.old + " gap" * one.gap
        said.append(f"show {span(one.log.run, one.first, one.count)}{flags}")
    return "commit " + (", ".join(said) or "small things")


class Far:
    """The other end of a node's link: a peer that sends the frames of the test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peer: Peer
        self.link = 0
        self.heard: list[Frame | Unknown] = []

    def say(self, *frames: Frame) -> list[str]:
        """Send these frames in one write; return the effects of the node."""
        self.peer.put(Got(self.link, passed(*frames)))
        return self.peer.take()


def covered_log() -> tuple[Peer, Far, Author, Author]:
    """Return ada, linked with bob's peer, and two logs of bob that she holds: the second covers the first."""
    ada, first = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(first.say("one"))
    second = Author("bob", "b2", before=[first.mark])
    far.say(second.say("two"))
    return ada, far, first, second


def passed(*frames: Frame) -> list[Frame | Unknown]:
    """Return frames as they arrive over the wire."""
    decoder = Decoder(max_frame_bytes=MAX_FRAME_BYTES)
    got = decoder.feed(b"".join(map(encode, frames)))
    assert decoder.fault is None, decoder.fault
    return list(got)


class World:
    """Peers with a common clock, and the frames between them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ahead = 0.0  # seconds by which the clocks that people read are ahead
        self.peers: list[Peer] = []
        self.under_way: deque[tuple[Peer, Input]] = deque()

    @property
    def now(self) -> Now:
        return Now(1000.0 + self.seconds, START + round((self.seconds + self.ahead) * 1_000_000))

    def peer(self, name: str, storage: TemporaryStorage | None = None, **settings: float) -> Peer:
        # So that tests count messages alone.
        limits = {"log_bytes": 0, "entry_bytes": 0, "auto_fetch_bytes": 0, **settings}
        peer = Peer(self, name, storage or TemporaryStorage(), Settings(**limits))  # type: ignore[arg-type]
        self.peers.append(peer)
        return peer

    def settle(self) -> None:
        """Execute everything that needs no time."""
        while self.under_way:
            peer, input = self.under_way.popleft()
            peer.put(input)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and wake the nodes whose deadlines are due."""
        end = self.seconds + seconds
        self.settle()
        while (due := min((peer.wake_at for peer in self.peers), default=1e9) - 1000.0) <= end:
            self.seconds = max(self.seconds, due)
            for peer in self.peers:
                if peer.wake_at <= self.now.mono:
                    peer.wake_at = 1e9
                    peer.put(Woke())
            self.settle()
        self.seconds = end

    def link(self, one: Peer, other: Peer) -> None:
        """Link two nodes, including handshake and first comparison."""
        one.connect_to(other)
        self.settle()


def guest_of(network: NetworkCredentials, user: UserId) -> GuestCertificate | None:
    """Return the certificate of the member whose key is here; None without one."""
    return None if network.sign is None else make_guest(network.id, network.member, network.sign, user)


class Peer:
    """A node whose effects are executed at once."""

    def __init__(
        self, world: World, name: str, storage: TemporaryStorage, settings: Settings, identity: Identity | None = None,
        network: NetworkCredentials | None = None,
    ) -> None:  # fmt: skip
        self.world = world
        self.name = name
        self.identity = identity or IDENTITIES[name]
        self.network = network or NetworkCredentials(N, K, is_named=True)
        self.id = self.identity.peer_id
        self.storage = storage
        self.settings = settings
        self.counted: Counter[str] = Counter()
        self.lines: list[str] = []
        self.up = True
        self.holding = False  # commits
        self.hold_lookups = False
        self._lookups: list[out.Lookup | FetchResult] = []
        self.held: list[out.Commit] = []
        self.shown: list[str] = []
        self.effects: list[out.Effect | out.ContentOrder] = []  # the effects that the lines describe
        self.events: list[out.Effect] = []  # who comes and goes, as programs are told it
        self.links: dict[int, Far | tuple[Peer, int]] = {}
        self.wake_at = 1e9
        self._runs = 0
        self._draws = 0
        self._next = 1
        self.start()
        self.lines.clear()  # it stored when it joined

    def start(self) -> None:
        """Begin a process on this storage."""
        self.links, self.held, self.wake_at, self.up = {}, [], 1e9, True
        stored = self.load()
        self.node = Node(
            settings=self.settings, peer=self.id,
            users=[HostedIdentity(self.id, self.name, self.identity.sign, guest=guest_of(self.network, self.id))],
            network=self.network,
            draw=self._draw, stored=stored,
        )  # fmt: skip
        self._carry_out(self.node.start(self.world.now))

    def load(self) -> Stored:
        """Return what is stored."""
        return self.storage.load([self.id])

    def _draw(self, n: int) -> bytes:
        if n == 8:  # a run: a1a1..., a2a2...
            self._runs += 1
            return bytes.fromhex(f"{self.name[0]}{self._runs}" * 8)
        self._draws += 1
        return shake_256(f"{self.name} {self._draws}".encode()).digest(n)

    # ---- inputs

    def put(self, input: Input) -> None:
        if isinstance(input, LinkDown):
            self.links.pop(input.link, None)
        if self.up and not (isinstance(input, Got) and input.link not in self.links):
            self._carry_out(self.node.handle(input, self.world.now))

    def take(self) -> list[str]:
        """Execute everything that needs no time; return this node's effects since the last call."""
        self.world.settle()
        lines, self.lines = self.lines, []
        return lines

    def open(self, other: str) -> str:
        """Open the direct conversation with a user and return its id."""
        self.put(ConversationOpened(dm_naming(self.id, IDS[other])))
        return dm(self.name, other)

    def say(self, *texts: str, to: str = ROOM, ticket: int = 1) -> list[str]:
        self.put(WriteRequest(ticket, self.id, to, "text", list(texts)))
        return self.take()

    def choose(self, key: str, text: str = "1", *, by: str = "") -> None:
        """Have a hosted user choose something, as LocalUser does."""
        self.put(OwnStateSet(1, IDS[by] if by else self.id, {key: text}))
        self.world.settle()

    def change(self, kind: str, body: str, re: Ref, *, ticket: int = 1) -> None:
        """Edit, delete, react to, pin … an entry of the room, as LocalUser does."""
        [shown] = self.storage.named([(LogKey(ROOM, re.log), re.seq)])
        above = 0 if shown is None or shown.edits is None else shown.edits.clock_before(KINDS[kind], self.id)
        self.put(WriteRequest(ticket, self.id, ROOM, kind, [body], re, above=above))

    def read(self, place: int = 0) -> list[str]:
        """Let the own user read everything shown up to a place, 0 for the newest, in the conversation of that entry."""
        if place:
            shown = self.storage.places(place - 1, 1)[0]
        else:
            own = dm_id(self.node.room, self.id, self.id)  # where own state is
            shown = [one for one in self.storage.places(0, 10_000) if one.log.conversation != own][-1]
        self.put(MarkedRead(self.id, shown.log, shown.place))
        return self.take()

    def carry(self, *frames: Entries | Statements) -> list[str]:
        """Import these frames as from a file."""
        self.put(ImportRequest(1, list(frames)))
        return self.take()

    def author(self, run: str) -> Author:
        """Return the author of the own log of a run in the room, with nothing written yet."""
        author = Author(self.name, run)
        author.before = self.before(author.log)
        return author

    def before(self, log: LogId) -> tuple[Mark, ...]:
        """Return what a stored log builds on."""
        key = LogKey(log.conversation, ref_key(log.user, log.run))
        return self.storage.lookup([key])[key].before

    def texts(self) -> list[str]:
        """Return everything this peer's programs were shown, in order, except names and own state; * marks old ones."""
        shown = self.storage.places(0, 10_000)
        said = [
            ("*" * one.old + "?" * one.gap, str(one.raw[1]))
            for one in shown
            if not str(one.raw[1]).startswith(('{"k":"profile"', '{"k":"own"'))
        ]
        return [flags + str(raw).split('"b":"')[1][:-2] for flags, raw in said]

    def crash(self) -> None:
        """End the process. Uncommitted changes are lost."""
        self.up = False
        for other in list(self.links.values()):
            if isinstance(other, tuple):
                other[0].put(LinkDown(other[1], "lost"))
        self.links, self.held, self.wake_at = {}, [], 1e9
        self.world.under_way = deque(each for each in self.world.under_way if each[0] is not self)

    def restart(self) -> None:
        """Crash, and start a process on the same storage."""
        self.crash()
        self.start()

    def commit(self) -> list[str]:
        """Execute the held commits."""
        held, self.held = self.held, []
        self.storage.commit([each.change for each in held])
        self.put(Committed([each.ticket for each in held]))
        return self.take()

    def answer_lookups(self, *, last_first: bool = False) -> list[str]:
        """Answer held lookups and fetches."""
        self.hold_lookups = False
        lookups, self._lookups = self._lookups, []
        for asked in reversed(lookups) if last_first else lookups:
            self.put(asked if isinstance(asked, FetchResult) else self._found(asked))
        return self.take()

    # ---- links

    def connect_to(self, other: Peer) -> None:
        self.put(Connect(f"10.0.0.1:{1 + self.world.peers.index(other)}", other.id))

    def far(
        self, name: str, *authors: Author, compared: bool = True, listed: bool = True, host: str = "10.0.0.9",
        by: GuestCertificate | None = None,
    ) -> Far:  # fmt: skip
        """Link with a far end that holds these logs and, if `compared`, has announced them; `listed`: its user too.

        `by` is the certificate that it shows; by default that of the member whose key is here.
        """
        far = Far(name)
        far.peer, far.link = self, self._next
        self._next += 1
        self.links[far.link] = far
        self.put(LinkAccepted(far.link, host))
        client = ClientSide(
            IDS[name], IDENTITIES[name].sign, NetworkCredentials(N, K), server=self.id, pin="", nonce=b"1" * 32
        )
        hello = client.on_frame(far.heard.pop())
        assert hello is not None
        self.put(Got(far.link, passed(hello)))
        self.put(Got(far.link, passed(Show(Membership(guest=by or guest_of(self.network, IDS[name]))))))
        if self.id > IDS[name]:
            self.put(Got(far.link, passed(Go(FAR_RUN, 1))))
        here = [Here([Hosted(IDS[name], name, "online")])] if listed else []
        self.put_frames(far, Peers(), *here, *((sums(*authors), page(*authors)) if compared else ()))
        self.take()
        return far

    def put_frames(self, far: Far, *frames: Frame) -> None:
        """Pass frames of a far end to the node without executing all effects."""
        self.put(Got(far.link, passed(*frames)))

    def drop(self, far: Far) -> list[str]:
        """End the link of a far end."""
        self.put(LinkDown(far.link, "lost"))
        return self.take()

    # ---- effects

    def _carry_out(self, effects: list[out.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, out.Counted):
                self.counted[effect.what] += 1
            elif isinstance(effect, CONTENT):
                self.effects.append(effect)
            elif isinstance(effect, out.OrderContent):
                self.effects += effect.orders
            elif isinstance(effect, EVENTS):
                self.events.append(effect)
            elif isinstance(effect, out.WakeAt):
                self.wake_at = effect.mono
            elif isinstance(effect, REPORTED):
                self._one(effect)
            elif isinstance(effect, out.Dial):
                self._dial(effect)

    def _dial(self, order: out.Dial) -> None:
        other = self.world.peers[int(order.endpoint.rpartition(":")[2]) - 1]
        if not other.up:
            self.world.under_way.append((self, DialFailed(order.dial, "nobody there")))
            return
        mine, theirs = self._next, other._next
        self._next, other._next = mine + 1, theirs + 1
        self.links[mine], other.links[theirs] = (other, theirs), (self, mine)
        self.world.under_way.append((other, LinkAccepted(theirs, "10.0.0.1")))
        self.world.under_way.append((self, LinkDialled(mine, order.dial, other.id, "10.0.0.1")))

    def _one(self, effect: out.Effect) -> None:
        self.effects.append(effect)
        line = self._line(effect)
        if line:
            self.lines.append(line)
        if isinstance(effect, out.Send):
            for link in effect.links:
                self._send(effect.frame, self.links.get(link))
        elif isinstance(effect, out.Commit) and self.holding:
            self.held.append(effect)
        elif isinstance(effect, out.Commit):
            self.storage.commit([effect.change])
            self.world.under_way.append((self, Committed([effect.ticket])))
        elif isinstance(effect, (out.Lookup, out.Fetch)) and self.hold_lookups:
            self._lookups.append(self._fetched(effect) if isinstance(effect, out.Fetch) else effect)
        elif isinstance(effect, (out.Lookup, out.Fetch)):
            answer = self._fetched(effect) if isinstance(effect, out.Fetch) else self._found(effect)
            self.world.under_way.append((self, answer))
        elif isinstance(effect, out.Close):
            other = self.links.pop(effect.link, None)
            if isinstance(other, tuple) and other[1] in other[0].links:
                if effect.bye is not None:
                    self.world.under_way.append((other[0], Got(other[1], [effect.bye])))
                self.world.under_way.append((other[0], LinkDown(other[1], "lost")))

    def _fetched(self, asked: out.Fetch) -> FetchResult:
        batches, more = self.storage.fetch(asked.conversation, asked.user, asked.start, batches=asked.most)
        return FetchResult(asked.link, asked.ticket, batches, more)

    def _found(self, asked: out.Lookup) -> LookupResult:
        chains = {key: self.storage.chain_at(*key) for key in asked.chains}
        shown = {key: self.storage.shown_by(key) for key in asked.shown}
        plans = {key: self.storage.prunable(key) for key in asked.prunable}
        files = {key: files_of(self.storage.entry(*key)) for key in asked.files}
        naming = self.storage.referring(asked.naming)
        return LookupResult(asked.ticket, chains, shown, plans, files, naming)

    def _send(self, frame: Frame, other: Far | tuple[Peer, int] | None) -> None:
        if isinstance(other, Far):
            other.heard += passed(frame)
        elif other is not None:
            self.world.under_way.append((other[0], Got(other[1], passed(frame))))

    def _line(self, effect: out.Effect) -> str:
        match effect:
            case out.Send(frame, links):
                to = " ".join(self._who(link) for link in links)
                return "" if isinstance(frame, QUIET) else f"to {to}: {describe(frame)}"
            case out.Commit(change=change):
                return committed(change)
            case out.Lookup(chains=chains):
                return "look up " + " ".join(f"{log.run[:2]}:{seq}" for log, seq in chains)
            case out.Fetch(link=link, user=user):
                return f"fetch {NAMES[user]} for {self._who(link)}"
            case out.WriteAccepted(_, log, first, count, of, _):
                return f"kept {span(log.run, first, count)} of {' '.join(sorted(NAMES[user] for user in of))}".strip()
            case out.WriteRefused(code=code):
                return f"refused {code}"
            case out.ImportResult(_, new, known, foreign, refused, failed, unreadable):
                counts = {"new": new, "known": known, "foreign": foreign, **refused, "unreadable": unreadable}
                return f"imported {failed or ' '.join(f'{n} {what}' for what, n in counts.items() if n)}".strip()
            case out.DeliveryReceipt(log, first, last, member):
                return f"delivered {log.run[:2]}:{first}..{last} to {NAMES[member]}"
            case out.ComparisonEnded(_, compared):
                return "comparison ended" if compared else "comparison not ended in time"
            case out.TypingChanged(conversation, user, on):
                return f"{NAMES[user]} types in {where(conversation)}" + ("" if on else " no more")
            case out.ReadReceipt(log, first, last, member):
                return f"read {log.run[:2]}:{first}..{last} by {NAMES[member]}"
            case out.GapShown(log, seq, missing, seen):
                holder = f", last seen with {' '.join(NAMES[user] for user in seen)}" if seen else ""
                return f"gap {log.run[:2]}:{seq}, {len(missing)} missing{holder}"
            case out.WarningIssued(code=code):
                return f"warn {code}"
            case out.Close(link, bye):
                return f"close {self._who(link)}: {bye.code if bye else 'at once'}"
            case _:
                return type(effect).__name__.lower()

    def _who(self, link: int) -> str:
        other = self.links.get(link)
        return other.name if isinstance(other, Far) else other[0].name if other else "gone"
