"""A simulated peer: a whole Node with a disk, a clock, links and a program. It can crash and restart.

SimPeer drives its node like the runtime of a real process: it executes every effect and puts the resulting inputs.
Effects for programs go to its SimProgram.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from p2pchat.core import effects as out
from p2pchat.core import inputs
from p2pchat.core.content.file_receipts import MAX_NAMING
from p2pchat.core.durable_changes import META_BLOCKED, DiskLevel, LogKey, Stored
from p2pchat.core.inputs import Input
from p2pchat.core.log import LogId, Ref
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import StatementId, make_guest
from p2pchat.core.node import Node
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, Timer
from p2pchat.core.sync.conversation_state import sum_of
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.identity.identity import Identity
from p2pchat.kinds import KINDS
from p2pchat.protocol import (
    Circuit,
    ConversationId,
    Entries,
    Frame,
    GuestCertificate,
    Naming,
    RunId,
    Unknown,
    UserId,
    encode,
)
from p2pchat.runtime.frame_queue import PARTS, CommitsInFlight, FrameQueue, LinkInput, split_frames
from p2pchat.settings import Settings
from p2pchat.storage.contract import files_of
from p2pchat.testing.eventlog_parser import Line
from simulation.attached_files import SimContent, SimFiles
from simulation.disk import SimDisk
from simulation.network import CircuitEnd, CircuitWire, SimWire, WireEnd
from simulation.simulated_program import SimProgram, WrittenMessage, shown_id
from simulation.virtual_time import LocalClock, signer

if TYPE_CHECKING:
    from simulation.byzantine import ByzantinePeer, OddWriter
    from simulation.hosted_users import SimHostedUser
    from simulation.machines import SimPerson
    from simulation.simulation import Simulation


TURN_WITHIN = 0.01  # seconds until a peer that has not handled everything goes on
BRIDGE = "172.17.0.1"  # the address of a bridge of containers, which all machines have


class SimPeer:
    """A peer of a Simulation, made by `Simulation.peers`.

    Attributes:
        name: Its name.
        network: Its credentials.
        user: Its id, the key of its peer.
        own: The key of its own user: the same, but on a machine of a person with several.
        person: That person; None for a user with one machine.
        up: True while its process runs.
        gone: True after it left for good.
        restored: True after its disk went back to an older copy.
        odd: Its program signs any text as an entry.
        behind_router: A router lets no connection in.
        keeps_port: That router keeps the port of a connection for others too, so two that dial at one moment meet.
        circuits: Its ends of circuits, by link and number.
        byzantine: True if it breaks the rules (byzantine.py). Its frames and storage are not checked.
        program: Receives the effects for programs. Its lines are the peer's event log.
        lives: How often it was started.
        acked: The places of its consumers, which its next commit saves.
        status: The presence its user set last in this session: a status and a text.
        files: Its content, which outlives its process as the disk does.
        content: The store of content of its process; None while it does not run.
    """

    def __init__(
        self, sim: Simulation, name: str, identity: Identity, number: int, draw: Callable[[int], bytes],
        network: NetworkCredentials, host: str, person: SimPerson | None,
    ) -> None:  # fmt: skip
        self.sim = sim
        self._draw = draw
        self.network: NetworkCredentials = network
        self.name = name
        self.identity = identity
        self.user: UserId = identity.peer_id
        self.person = person
        self.own: UserId = self.user if person is None else person.user
        self._sign = signer(identity)
        self.host = host
        self.port: int = 7000 + number
        self.moves: int = 0
        self.clock: LocalClock = LocalClock(sim.schedule)
        self.disk: SimDisk = SimDisk(sim.schedule, sim.chance, sim.counts, sim.settings)
        self.disk.on_batch = lambda batch: sim.invariants.batch_stored(self, batch)
        self.disk.on_prune = lambda prune: sim.invariants.deletions.stored(self, prune)
        self.files: SimFiles = SimFiles(lambda: self.disk.broken)
        self.content: SimContent | None = None
        self.node: Node | None = None
        self.gone = False
        self.restored: bool = False
        self.behind_router = False
        self.keeps_port: bool = False
        self.byzantine = False
        self.odd: OddWriter | None = None
        self.tampering: ByzantinePeer | None = None  # changes the frames of a byzantine peer; None for other peers
        self.fails: bool = False  # storage failed and was not reloaded yet
        self.allows: bool = False  # its user lifted all quotas
        self.low: DiskLevel = DiskLevel.ENOUGH  # as its disk is reported
        self.blocks: dict[UserId, set[UserId]] = {}  # whom its users block, by the one who blocks
        self.kept_from: float = 0.0  # when it last began to store again after a failed or low disk
        self.program: SimProgram = SimProgram(self)
        self.lives: int = 0
        self.loads: int = 0  # how often its node loaded the disk
        self.acked: dict[str, int] = {}
        self.status: tuple[str, str] = ("online", "")
        self._fuse: tuple[int, bool] | None = None  # (effects until it is killed, whether silently)
        self._begun_with = 0  # changes on its disk at the start of its process
        self._run: RunId | None = None  # the run of that process
        self.ever_linked: bool = False
        self.handling: type[Input] = inputs.Woke
        self.here_before: set[UserId] = set()  # users that were online before this step
        self.name_told: str = self.called
        self._links: dict[int, WireEnd] = {}
        self.circuits: dict[tuple[int, int], CircuitEnd] = {}
        self._all_links: dict[int, WireEnd] = {}  # of this process: frames of a link that ended may wait for their turn
        self._turns: FrameQueue
        self._turn_is_due = False
        self._arrived: dict[int, deque[Frame | Unknown]] = {}  # by link: frames that were not handled yet
        self._held_until: dict[int, float] = {}  # by link
        self._in_flight: CommitsInFlight
        self._next_link = 1
        self._wake: Timer | None = None
        self._carry: dict[type, Callable[[Any], None]] = {
            out.Send: self._send, out.Close: self._close, out.Dial: self._dial, out.DialThrough: self._dial_through,
            out.DialBeside: lambda order: sim.punching.dial(self, order),
            out.CircuitReceived: self._circuit_received, out.Resolve: self._resolve,
            out.Established: self._established, out.PauseReading: self._pause_reading, out.WakeAt: self._wake_at,
            out.Commit: self._commit, out.Reload: self._reload, out.Lookup: self._lookup, out.Fetch: self._fetch,
            out.LinkChanged: self._link_changed, out.NodeStopped: self._stopped,
            out.OrderContent: lambda effect: self._store().order(effect),
            out.GivePieces: lambda order: self._store().give(order),
            out.FindHeld: lambda order: self._store().find(order), **self.program.handlers,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<SimPeer {self.name} {'up' if self.up else 'gone' if self.gone else 'down'}>"

    @property
    def up(self) -> bool:
        return self.node is not None

    @property
    def called(self) -> str:
        """The name of its own user."""
        return self.name if self.person is None else self.person.name

    @property
    def settings(self) -> Settings:
        """The settings of all peers."""
        return self.sim.settings

    @property
    def lines(self) -> list[Line]:
        """The event log."""
        return self.program.lines

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def told_endpoints(self) -> tuple[str, ...]:
        """What it says of itself; after a move also a bridge, at which nobody answers. The book keeps two of a peer."""
        return (self.endpoint, f"{BRIDGE}:{self.port}") if self.moves else (self.endpoint,)

    @property
    def may_be_dialled(self) -> bool:
        """True if its direct endpoint answers while it runs."""
        return not self.behind_router

    @property
    def linked(self) -> list[SimPeer]:
        """The peers with which its node has a link that is up."""
        if self.node is None:
            return []
        return [peer for peer in self.sim.all_peers if peer.user in self.node.links.by_peer]

    def digest_for(self, other: SimPeer) -> str | None:
        """Return the sum of the logs it shares with a linked peer; None until that peer has announced its users."""
        if self.node is None or other.user not in self.node.links.by_peer:
            return None
        context = self.node.replicator.context
        remote = context.remotes.get(self.node.links.by_peer[other.user].id)
        return sum_of(context.shared_conversations(remote)) if remote else None

    def end_to(self, other: SimPeer) -> WireEnd | None:
        """Return its end of the link with a peer; None if no link works both ways."""
        if self.node is None or other.node is None:
            return None
        here, there = self.node.links.by_peer.get(other.user), other.node.links.by_peer.get(self.user)
        end = self._links.get(here.id) if here else None
        if end is None or there is None or end.other.link != there.id or not end.other.open:
            return None
        return None if end.wire.dead or end.wire.blocked else end

    # ---- actions

    def start(self, *endpoints: str) -> None:
        """Start a process on this disk. It dials these endpoints and those of its address book."""
        if not self.up and not self.gone:
            self._start(endpoints, self._draw)

    def resume(self, *endpoints: str) -> None:
        """Resume the machine from a snapshot of disk and memory, made when its newest process began.

        Others may hold entries that the process wrote since. The resumed process lacks them and writes its logs again.
        """
        self.crash()
        if self._run is None or self.gone:
            return
        self.sim.counts["resume"] += 1
        self.restored = True
        self.disk.restore(self._begun_with)
        self.sim.invariants.content.ended(self)
        self.sim.invariants.copied.update((user, self._run) for user in (self.user, *self.sim.guests))
        drawn = [bytes.fromhex(self._run)]
        self._start(endpoints, lambda size: drawn.pop() if drawn else self._draw(size))

    def _start(self, endpoints: tuple[str, ...], draw: Callable[[int], bytes]) -> None:
        self.lives += 1
        self.loads += 1
        self.status = ("online", "")
        self.fails, self.low = False, DiskLevel.ENOUGH
        self._fuse = None
        self.acked = {}
        self._links, self._all_links, self._held_until, self._arrived = {}, {}, {}, {}
        self._turn_is_due = False
        self.content = SimContent(self)
        stored = self.disk.load(self.speaks_for)
        self.blocks = _blocks_in(stored.meta, self.own)
        if self.person is not None:  # perhaps one that was chosen on another machine
            self.name_told = next((one.name for one in stored.users if one.id == self.own), self.name_told)
        self.program.begin(stored.consumers.get("main", 0))
        self.node = self._node_from(stored, draw)
        self._turns = FrameQueue(self.settings, lambda link, on: None)  # the network keeps what is unread
        self._in_flight = CommitsInFlight(self.settings.max_uncommitted_units)
        self.sim.invariants.began(self, stored)
        self._begun_with, self._run = len(self.disk), self.node.run
        self.disk.open(self._later(self.put))
        self.program.log("listening", schema=1, host=self.host, port=self.port, peer_id=shown_id(self.user),
                         user=self.called, user_id=shown_id(self.own))  # fmt: skip
        self._carry_out(self.node.start(self.clock.now()))
        if not self.up:
            return
        self.put(inputs.ListeningAt(self.told_endpoints))
        self.sim.invariants.receipts.started(self)
        for guest in self.guests:
            self.put(inputs.PresenceSet(guest.user, "online"))
        if self.sim.membership is not None and (maker := self.sim.membership.way(self)) is not None:
            self.put(inputs.Connect(maker.endpoint))
        for endpoint in endpoints:
            self.put(inputs.Connect(endpoint))
        self.program.take_released()

    def _node_from(self, stored: Stored, draw: Callable[[int], bytes]) -> Node:
        own, network = self.own, self.network
        sign = self._sign if self.person is None else self.person.sign
        hosted = HostedIdentity(own, self.name_told, sign, guest=self.certificate(own), is_kept=True)
        machine = HostedIdentity(self.user, "", self._sign, guest=self.certificate(self.user)) if self.person else None
        return Node(
            settings=self.settings, peer=self.user, users=[hosted, *map(self._hosted, self.guests)], machine=machine,
            network=replace(network, member=network.member if network.sign else ""), draw=draw, stored=stored,
        )  # fmt: skip

    def restarted(self) -> Node:
        """Return what a process would be that began on this disk now."""
        node = self._node_from(self.disk.load(self.speaks_for), bytes)
        node.start(self.clock.now())
        return node

    def say(self, text: str, to: SimPeer | None = None) -> WrittenMessage:
        """Write to the room, or to the user of one peer."""
        assert self.node is not None, f"{self.name} is not running"
        return self.program.say(text, self.opened(to), to)

    def mend(self, kind: str, body: str, conversation: ConversationId, re: Ref) -> None:
        """Edit, delete or react to the entry `re` names."""
        self.sim.counts[kind] += 1
        [shown] = self.disk.storage.named([(LogKey(conversation, re.log), re.seq)])
        above = 0 if shown is None or shown.edits is None else shown.edits.clock_before(KINDS[kind], self.own)
        self.program.write(conversation, kind, [body], re, above=above)

    def rename(self, name: str) -> None:
        self.name_told = name
        self.put(inputs.UserRenamed(self.own, name))

    def opened(self, to: SimPeer | SimHostedUser | None, by: SimHostedUser | None = None) -> ConversationId:
        """Return the room, or open the direct conversation of a user with its own, or with one that it hosts."""
        assert self.node is not None
        if to is None:
            return self.node.room
        low, high = sorted((by.user if by is not None else self.own, to.own))
        self.put(inputs.ConversationOpened(Naming(dm=(low, high))))
        return dm_id(self.node.room, low, high)

    def had(self, log: LogId) -> int:
        """Return the highest number of a log that its disk ever held."""
        return self.disk.ever.get(log, 0)

    @property
    def guests(self) -> list[SimHostedUser]:
        """The users it hosts besides its own."""
        return [guest for guest in self.sim.guests.values() if self in guest.hosts and guest is not self.person]

    @property
    def speaks_for(self) -> list[UserId]:
        """The ids of its own user and of those it hosts, in this order."""
        return [self.own, *(guest.user for guest in self.guests)]

    def ever_spoke_for(self, user: UserId) -> bool:
        """Return whether this is its own user, or one ever hosted here."""
        return user == self.own or (user in self.sim.guests and self in self.sim.guests[user].former)

    def host_guest(self, guest: SimHostedUser) -> None:
        """Host a user from now on, also after a restart."""
        guest.hosts.append(self)
        guest.held_then.pop(self, None)
        guest.since[self] = self.sim.now
        if self not in guest.former:
            guest.former.append(self)
        stored = self.disk.storage.load([guest.user])
        self.sim.invariants.receipts.hosting(self, stored)
        marks = tuple(stored.delivered), tuple(stored.reads)
        self.put(inputs.UserHosted(self._hosted(guest), *marks))
        self.put(inputs.PresenceSet(guest.user, "online"))

    def certificate(self, user: UserId) -> GuestCertificate | None:
        """Return the certificate of this peer's member for a user; None where there is no key of a member."""
        network = self.network
        if network.sign is None and self.person is not None and self.person.hosts[0] is not self:
            return self.person.hosts[0].certificate(user)
        return None if network.sign is None else make_guest(network.id, network.member, network.sign, user)

    def _hosted(self, guest: SimHostedUser) -> HostedIdentity:
        """Return a hosted user: the founder answers for all, so that whoever hosts one may be expelled alone."""
        founder = self.sim.founder
        answered = make_guest(self.network.id, founder.peer_id, signer(founder), guest.user)
        return HostedIdentity(guest.user, guest.name, guest.sign, status="offline", guest=answered, is_kept=True)

    def unhost_guest(self, guest: SimHostedUser) -> None:
        """Stop hosting a user."""
        guest.hosts.remove(self)
        self.put(inputs.UserUnhosted(guest.user))
        guest.leave_soon(self)

    def say_as(self, guest: SimHostedUser, text: str, to: SimPeer | None = None) -> None:
        """Write to the room, or to a peer's user, as a hosted user."""
        if self.node is None:
            return  # the previous message killed it
        written = [WrittenMessage(self, guest.user, to, text)]
        self.program.write(self.opened(to, guest), "text", [text], user=guest.user, written=written)

    def say_to_guest(self, guest: SimHostedUser, text: str) -> None:
        """Write to a user that some peer hosts or hosted."""
        self.program.write(self.opened(guest), "text", [text])

    def set_presence(self, status: str, text: str = "") -> None:
        self.status = status, text
        self.put(inputs.PresenceSet(self.own, status, text))

    def types(self, to: SimPeer | None = None, *, on: bool = True) -> None:
        """Start or stop typing to the room or to a peer's user."""
        assert self.node is not None, f"{self.name} is not running"
        self.put(inputs.TypingSet(self.own, self.opened(to), on))

    def connect(self, endpoint: str) -> None:
        self.put(inputs.Connect(endpoint))

    def pause_reading(self, seconds: float) -> None:
        """Pause reading from all links for a time, as back-pressure does."""
        for end in list(self._links.values()):
            end.pause(seconds)

    def disk_low(self, level: DiskLevel) -> None:
        """Report for what its disk has room left."""
        if self.low is not DiskLevel.ENOUGH:
            self.kept_from = self.sim.now
        if level is not self.low:
            self.sim.invariants.protocol.rests(self)
        self.low = level
        self.put(inputs.DiskLow(level))

    def allow_all(self) -> None:
        """Lift the quotas of all users for good, but those of a crowd: they would be contacts."""
        self.allows = True
        for user in (*self.sim.by_user, *self.sim.guests):
            if user not in self.sim.crowd:
                self.put(inputs.QuotaLifted(user))

    @property
    def members(self) -> MemberList | None:
        """The member list of its process; None if it does not run, or does not know who founded the network."""
        return None if self.node is None else self.node.replicator.statements.members

    def admits(self, other: SimPeer) -> bool:
        """Return whether another peer belongs to the network, as far as this one knows."""
        return self.members is not None and self.members.admits(other.user, other.network.member)

    @property
    def statements(self) -> set[StatementId]:
        """The ids of the statements about members that its process keeps."""
        return set() if self.members is None else {one.id for one in self.members.statements()}

    def block(self, by: UserId, user: UserId, *, on: bool) -> None:
        """Have a user of this peer block another, or end that."""
        users = self.blocks.setdefault(by, set())
        (users.add if on else users.discard)(user)
        self.put(inputs.UserBlocked(by, user, on))
        self.sim.invariants.blocks.chosen(self, by, user, on=on)

    def stop(self) -> None:
        """Leave in good order."""
        self.put(inputs.Leave())
        self.put(inputs.Stop())

    def crash(self, *, silent: bool = False, written: bool | None = None) -> None:
        """Kill the process.

        Args:
            silent: The machine fails too, so that no end of a connection is notified.
            written: Whether the commit being written is durable; None draws it.
        """
        if not self.up:
            return
        ends = list(self._links.values())
        self._end()
        self.disk.crash(written)
        self.sim.invariants.content.ended(self)
        if silent:
            self.files.lose_power(self.sim.chance)
            self.sim.invariants.content.lost_power(self)
        for end in ends:
            if silent:
                end.vanish()
            else:
                end.abort()

    def crash_within(self, effects: int, *, silent: bool = False) -> None:
        """Kill the process after so many more effects, also in the middle of a step."""
        self._fuse = effects, silent

    def crash_never(self) -> None:
        """Cancel a kill that is set."""
        self._fuse = None

    def restore(self, length: int) -> None:
        """Restore the first `length` changes of its disk. Only while it is down."""
        self.sim.counts["restore"] += 1
        self.restored = True
        self.disk.restore(length)
        self.sim.invariants.content.ended(self)

    # ---- the driver's loop

    def put(self, input: Input) -> None:
        """Hand an input to the node and carry out its effects; what links received waits for its turn."""
        if self.node is None:
            return
        if isinstance(input, LinkInput):
            input = split_frames(input)
            if isinstance(input, inputs.Got):
                self._arrived.setdefault(input.link, deque()).extend(input.frames)
            self._turns.put(input)
            self._take_turn()
            return
        if isinstance(input, inputs.CommitFailed):
            self._in_flight.fail(input.epoch)
        elif isinstance(input, inputs.Committed):
            for ticket in input.tickets:
                self._in_flight.remove(ticket)
        self._handle(input)
        if self._turns.queues:
            self._take_turn_soon()

    def _take_turn(self) -> None:
        life, turns, in_flight = self.lives, self._turns, self._in_flight
        little = [] if in_flight.is_blocked else turns.little()
        for link in little:
            if link in turns.queues:
                self._handle_part(turns.take(link))
            if not self.up or self.lives != life:
                return
        while turns.queues and not in_flight.is_behind and self.sim.chance.random() < (0.5 if little else 0.9):
            self._handle_part(turns.take(next(iter(turns.queues)), PARTS))
            if not self.up or self.lives != life:
                return
        turns.end()
        if turns.queues:
            self.sim.counts["turn_ended"] += 1
            if in_flight.is_behind:  # some wait for the disk, which may be slow
                for end in [end for link, end in self._links.items() if self._arrived.get(link)]:
                    end.wire.calm = False
            self._take_turn_soon()

    def _handle_part(self, part: LinkInput | None) -> None:
        if part is not None:
            self._check_order(part)
            self._handle(part)

    def _check_order(self, input: Input) -> None:
        """Check that frames of a link are handled as they arrived."""
        if isinstance(input, inputs.LinkDown):
            self._arrived.pop(input.link, None)  # the rest of a held link is not handled
        elif isinstance(input, inputs.Got):
            arrived = self._arrived[input.link]
            if any(frame is not arrived.popleft() for frame in input.frames):
                self.sim.invariants.fail("turn", self, "handles the frames of a link in another order")

    def _take_turn_soon(self) -> None:
        if not self._turn_is_due and self._turns.queues and not self._in_flight.is_behind:
            self._turn_is_due = True
            self.soon(0.0, TURN_WITHIN, self._on_turn_due)

    def _on_turn_due(self) -> None:
        self._turn_is_due = False
        self._take_turn()

    def _handle(self, input: Input) -> None:
        assert self.node is not None
        self.sim.trace(self, input)
        if self.odd is not None:
            self.odd.attach(self.node)
        if isinstance(input, inputs.Got) and input.link in self._all_links:
            self.sim.invariants.frames_got(self, self._all_links[input.link], input.frames)
        elif isinstance(input, inputs.ImportRequest):
            self.sim.invariants.came(self, input.frames)
        if isinstance(input, inputs.Loaded):
            self.fails, self.kept_from = False, self.sim.now
            self.loads += 1
        self.handling = type(input)
        self.here_before = self.node.links.by_peer.keys() & self.node.presence.hosts.keys()
        effects = self.node.handle(input, self.clock.now())
        self.sim.invariants.display.note_joining(self)
        self.sim.invariants.presence.handled(self, input, effects)
        self.sim.invariants.blocks.handled(self, effects)
        self.sim.invariants.content.handled(self, effects)
        self._carry_out(effects)

    def dropped(self, link: int) -> None:
        self._links.pop(link, None)
        if self.content is not None:
            self.content.on_link_down(link)

    def drained(self, link: int) -> None:
        if self.content is not None:
            self.content.on_drained(link)

    def unsent(self, link: int) -> int:
        """Return the bytes that wait at its end of a connection; 0 if that is gone."""
        return self._links[link].unsent_bytes if link in self._links else 0

    def other_end(self, link: int) -> SimPeer | None:
        """Return who is at the other end of a connection; None if that is gone."""
        return self._links[link].other.owner if link in self._links else None

    def write(self, link: int, data: bytes) -> None:
        """Write bytes to a connection, if it is there."""
        if link in self._links:
            self._links[link].write(data)

    def attach(self, wire: SimWire) -> WireEnd:
        """Return its end of a new connection."""
        end = WireEnd(wire, self._next_link, self, self._later(self.put), self.settings)
        self._links[self._next_link] = self._all_links[self._next_link] = end
        self._next_link += 1
        return end

    @property
    def ends(self) -> list[WireEnd]:
        """Its ends of all connections, with those that are not yet or no longer links."""
        return list(self._links.values())

    @property
    def open_circuits(self) -> list[CircuitWire]:
        """The circuits that end here and have not ended."""
        return [circuit.wire for circuit in self.circuits.values() if circuit.end.open]

    def end_of(self, link: int) -> WireEnd | None:
        """Return its end of a connection; None if that is gone."""
        return self._links.get(link)

    def direct_wires_to(self, other: SimPeer) -> list[WireEnd]:
        """Return its ends of the open connections to a peer that nobody carries."""
        return [end for end in self.wires_to(other) if not end.wire.carried]

    def wires_to(self, other: SimPeer) -> list[WireEnd]:
        """Return its ends of the open connections to a peer."""
        return [end for end in self._links.values() if end.other.owner is other]

    def _carry_out(self, effects: list[out.Effect]) -> None:
        life = self.lives
        for done, effect in enumerate(effects):
            if self._fuse is not None and self._is_killed_now():
                self.sim.counts["crash_between_effects"] += bool(done)
                return
            self._carry[type(effect)](effect)
            if not self.up or self.lives != life:
                return
        if any(isinstance(effect, out.NodeStopped) for effect in effects):
            self._leave()  # commits of the same step are written first

    def _is_killed_now(self) -> bool:
        """Count one effect; at the last, kill the process and return True: the effect is not executed."""
        assert self._fuse is not None
        left, silent = self._fuse
        self._fuse = left - 1, silent
        if left > 0:
            return False
        self.crash(silent=silent)
        return True

    def _later(self, call: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a function that calls `call` only while this process runs."""
        life = self.lives
        return lambda *args: call(*args) if self.up and self.lives == life else None

    def soon(self, least: float, most: float, call: Callable[[], None]) -> None:
        """Call after a time drawn between these seconds, if this process still runs."""
        life = self.lives
        seconds = self.sim.chance.uniform(least, most)
        self.sim.schedule.after(seconds, lambda: call() if self.up and self.lives == life else None)

    def _end(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self.node, self.content, self._wake, self._links, self._fuse = None, None, None, {}, None
        self.circuits = {}

    def _store(self) -> SimContent:
        assert self.content is not None, f"{self.name} is not running"
        return self.content

    # ---- carrying out: links

    def _send(self, order: out.Send) -> None:
        ends = [self._links[link] for link in order.links if link in self._links]
        is_evidence = isinstance(order.frame, Entries) and order.frame.fork
        self.sim.frames["Evidence" if is_evidence else type(order.frame).__name__] += len(ends)
        self.sim.invariants.protocol.frame_sent(self, order.frame, ends)
        if self.sim.membership is not None:
            self.sim.membership.frame_sent(self, order.frame, ends)
        self.sim.invariants.presence.frame_sent(self, order.frame, ends)
        self.sim.invariants.receipts.frame_sent(self, order.frame)
        self.sim.invariants.taken.frame_sent(self, order.frame, ends)
        self.sim.invariants.content.frame_sent(self, order.frame, ends)
        if self.tampering is not None:
            for end in ends:
                for data in self.tampering.change(order.frame, end):
                    end.write(data)
            return
        data = encode(order.frame)
        for end in ends:
            end.write(data)

    def _close(self, order: out.Close) -> None:
        end = self._links.get(order.link)
        if order.bye is not None and not self.byzantine:
            self.sim.counts[f"bye_{order.bye.code}"] += 1
        if end is not None:
            if order.bye is not None:
                self.sim.invariants.protocol.said_bye(self, end, order.bye)
            if order.bye is not None and order.bye.code == "replaced":
                self.sim.counts["link_replaced"] += 1
                if end.wire.carried and self._has_direct_link(end.other.owner):
                    self.sim.counts["carried_link_replaced"] += 1
                self.sim.invariants.protocol.link_replaced(self, end)
            end.close(encode(order.bye) if order.bye is not None else None)

    def _has_direct_link(self, other: SimPeer) -> bool:
        link = self.node.links.by_peer.get(other.user) if self.node is not None else None
        return link is not None and not link.carrier

    def _dial(self, order: out.Dial) -> None:
        self.sim.dial(self, order.dial, order.endpoint)

    def _dial_through(self, order: out.DialThrough) -> None:
        self.sim.dial_through(self, order.dial, order.link, order.circuit)

    def _circuit_received(self, news: out.CircuitReceived) -> None:
        circuit = self.circuits.get((news.link, news.frame.id))
        if circuit is not None:
            circuit.wire.on_frame(circuit, news.frame)
        elif isinstance(news.frame, Circuit) and news.frame.origin is not None:
            self.sim.accept_circuit(self, news.link, news.frame.id)

    def _resolve(self, order: out.Resolve) -> None:
        self.put(inputs.DialFailed(order.dial, "no such name", "no_name"))  # hosts here have no names

    def _established(self, order: out.Established) -> None:
        end = self._links.get(order.link)
        if end is not None:
            end.decoder.max_frame_bytes = self.sim.settings.max_frame_bytes
            end.decoder.takes_pieces = True

    def _pause_reading(self, order: out.PauseReading) -> None:
        until = max(self.sim.now + order.seconds, self._held_until.get(order.link, 0.0))
        self._held_until[order.link] = until
        self._turns.hold(order.link)
        release = self._later(self._release)
        self.sim.schedule.at(until, lambda: release(order.link))
        end = self._links.get(order.link)
        if end is not None:
            self.soon(0, 0, lambda: end.pause(order.seconds))

    def _release(self, link: int) -> None:
        if self.sim.now >= self._held_until[link]:
            self._turns.release(link)
            self._take_turn_soon()

    def _wake_at(self, order: out.WakeAt) -> None:
        if self._wake is not None:
            self._wake.cancel()
        woke = self._later(self.put)
        self._wake = self.sim.schedule.at(self.clock.true_time(order.mono), lambda: woke(inputs.Woke()))

    # ---- carrying out: storage

    def _commit(self, order: out.Commit) -> None:
        self.sim.invariants.protocol.ordered(self, order)
        self.sim.invariants.deletions.ordered(self, order)
        order.change.consumers.update(self.acked)
        self._in_flight.add(order)
        self.disk.commit(order)

    def _reload(self, _: out.Reload) -> None:
        self.fails = True

        def load() -> None:
            if self.disk.broken:
                self.soon(1.0, 1.0, load)
            else:
                stored = self.disk.load(self.speaks_for)
                self.put(inputs.Loaded(stored))
                self.sim.invariants.display.began(self, stored.next_place)

        self.soon(0.0, 1.0, load)

    def _lookup(self, order: out.Lookup) -> None:
        def read() -> None:
            chains = {key: self.disk.storage.chain_at(*key) for key in order.chains}
            shown = {key: self.disk.storage.shown_by(key) for key in order.shown}
            plans = {key: self.disk.storage.prunable(key) for key in order.prunable}
            files = {key: files_of(self.disk.storage.entry(*key)) for key in order.files}
            naming = self.disk.storage.referring(order.naming, MAX_NAMING)
            self.put(inputs.LookupResult(order.ticket, chains, shown, plans, files, naming))

        self.soon(self.disk.quick, self.disk.slow, read)

    def _fetch(self, order: out.Fetch) -> None:
        def read() -> None:
            batches, more = self.disk.storage.fetch(order.conversation, order.user, order.start, batches=order.most)
            self.put(inputs.FetchResult(order.link, order.ticket, batches, more))

        self.soon(self.disk.quick, self.disk.slow, read)

    # ---- carrying out: notifications

    def _link_changed(self, news: out.LinkChanged) -> None:
        if news.state == "up" and self.node is not None:
            self.ever_linked = True
            link = self.node.links.by_peer.get(news.peer)  # None if it went down in the same step
            self.sim.invariants.protocol.link_up(self, self._links.get(link.id) if link else None)
        self.program.log("link", peer_id=shown_id(news.peer) if news.peer else "", endpoint=news.endpoint,
                         state=news.state, reason=news.reason)  # fmt: skip

    def _stopped(self, _: out.NodeStopped) -> None:
        """Do nothing: all byes are sent, and _leave follows."""

    def _leave(self) -> None:
        """Finish as the runtime does: wait for commits, close what is open and end."""
        ends = list(self._links.values())
        self.disk.finish()
        if not self.up:  # killed while finishing
            return
        self.program.log("stopped", reason="left")
        self._end()
        self.sim.invariants.content.ended(self)
        for end in ends:
            end.close(b"")


def _blocks_in(meta: Mapping[str, str], own: UserId) -> dict[UserId, set[UserId]]:
    lists = {name.partition(":")[::2]: text for name, text in meta.items()}
    return {by or own: set(json.loads(text)) for (what, by), text in lists.items() if what == META_BLOCKED}
