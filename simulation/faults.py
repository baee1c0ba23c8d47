"""The actions of a history: messages, and faults of networks, disks, machines and people.

Each is a method without arguments that draws its peers from the chance of its step (random_histories.py). It does
nothing where it cannot happen. Export files carry entries from one peer to another: whole, old, cut or damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from p2pchat.core import inputs
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.inputs import Input
from p2pchat.core.log import decode_entry
from p2pchat.core.mesh.election import SETTLED_AFTER, is_decider
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.export_file import file_pages
from p2pchat.kinds import KINDS, MESSAGE_KINDS
from p2pchat.kinds.kind import Kind
from p2pchat.protocol import ConversationId, Entries, encode
from p2pchat.settings import Settings
from simulation.byzantine import ODD, ByzantinePeer, OddWriter, Sybil
from simulation.invariants.display_invariants import named
from simulation.invariants.machine_invariants import A_WORD
from simulation.machines import Machines
from simulation.routers import Routers
from simulation.simulated_peer import SimPeer
from simulation.simulated_program import WrittenMessage
from simulation.simulation import Simulation

EXPORTS_KEPT = 4  # files that may be used again
SAY_AGAIN_RATE = 0.5  # of all programs of people, when somebody chooses something
KEYS = 4  # of each person; a history has some ten repetitions
EDIT_RATE = 0.4  # the part of steps with a message to the room
POLL_RATE = 0.3  # of histories
SHARE_RATE = 0.15
DAYS_AHEAD = 3 * 86_400.0  # seconds: of a clock by which a pin counts nowhere else
RECENT = 30  # entries that may be edited; older ones are left alone
REACTIONS = ("👍", "🎉", "no", "")

MOVE_RATE = 0.15  # of histories
MOVES_AT = 0.25  # the part of their steps
LINKED_WITHIN = 120.0  # seconds, when all faults have stopped

CHECK_EVERY = 0.005  # seconds between two checks of a condition
PATIENCE = 3.0  # seconds
COPIES = Settings().clone_replacements

MOST_GROUPS = 3
SYBILS_AT_ONCE = 3  # that attack
CROWD_NETWORK = "203.0.113"

UNBLOCKS = 0.4  # the part of those actions


class FaultInjector:
    """The actions on the peers of one simulation.

    Attributes:
        chance: The randomness of the present step.
        moves: Peers of this history get other addresses.
    """

    def __init__(
        self, sim: Simulation, most_peers: int, routers: Routers, machines: Machines, *, crowded: bool = False
    ) -> None:
        self.sim = sim
        self._routers = routers
        self._machines = machines
        self._crowded = crowded
        self.chance: Random = Random()
        self.moves: bool = Random(f"{sim.seed} moves").random() < MOVE_RATE
        self._most_peers = most_peers
        self._said = 0
        self._exports: list[ExportFile] = []
        self._sybils: list[Sybil] = []
        self._groups_asked = 0

    def say(self) -> None:
        for _ in range(self.chance.choice((1, 1, 2, 5, 12))):
            if self.sim.up:
                self.write(self.chance.choice(self.sim.up), None)
        self._edit()
        self._poll()
        self._share()

    def _edit(self) -> None:
        """Perhaps edit, delete or react, drawn from a chance of its own."""
        chance = Random(f"{self.sim.seed} mends {self._said}")
        honest = self.sim.honest_up
        if not honest or chance.random() > EDIT_RATE:
            return
        peer = chance.choice(honest)
        recent = peer.disk.storage.history(None, limit=RECENT)
        texts = [one for one in recent for entry in [decode_entry(one.raw)] if entry.k == "text" and not entry.key]
        own = [one for one in texts if one.log.user == peer.own]
        for _ in range(chance.choice((1, 1, 2, 4))):
            if own and chance.random() < 0.6:
                kind = chance.choice(("edit", "edit", "delete"))
                body = f"{peer.name} mends {chance.random()}" if kind == "edit" else ""
                mended = chance.choice(own[-4:])
                self.sim.counts["question_edited"] += kind == "edit" and bool(decode_entry(mended.raw).choices)
                peer.mend(kind, body, *named(mended))
            elif texts:
                peer.mend("reaction", chance.choice(REACTIONS), *named(chance.choice(texts[-4:])))
            if not peer.up:
                return

    def _poll(self) -> None:
        """In some histories, perhaps ask, vote or close, drawn from a chance of its own."""
        chance = Random(f"{self.sim.seed} polls {self._said}")
        honest = self.sim.honest_up
        if not honest or Random(f"{self.sim.seed} has polls").random() > POLL_RATE:
            return
        for _ in range(chance.choice((1, 2, 4))):
            peer = chance.choice(honest)
            recent = peer.disk.storage.history(None, limit=RECENT) if peer.up else []
            polls = [one for one in recent if decode_entry(one.raw).k == "poll"][-3:]
            if peer.up and (not polls or chance.random() < 0.2):
                asked = WrittenMessage(peer, peer.own, None, f"lunch {self._said}?")
                peer.program.write(self.sim.invariants.room, "poll", [asked.text], written=[asked])
            elif polls:
                poll = chance.choice(polls)
                kind = "close" if poll.log.user == peer.own and chance.random() < 0.4 else "vote"
                peer.mend(kind, str(chance.randint(0, 3)) if kind == "vote" else "", *named(poll))

    def _share(self) -> None:
        """In some histories, perhaps say a number of any message, as a pin does; each kind by a chance of its own."""
        for kind in KINDS.values():
            chance = Random(f"{self.sim.seed} {kind.list} {self._said}")
            has = kind.body == "number" and not kind.on
            if has and self.sim.honest_up and Random(f"{self.sim.seed} has {kind.list}").random() <= SHARE_RATE:
                self._say_number(kind, chance)

    def _say_number(self, kind: Kind, chance: Random) -> None:
        honest = self.sim.honest_up
        for _ in range(chance.choice((1, 2, 4))):
            peer = chance.choice(honest)
            recent = peer.disk.storage.history(None, limit=RECENT) if peer.up else []
            said = [one for one in recent if decode_entry(one.raw).k in MESSAGE_KINDS][-4:]
            far = DAYS_AHEAD if said and chance.random() < 0.1 else 0.0
            self.sim.counts["far_ahead"] += bool(far)
            peer.clock.ahead += far
            if said:
                peer.mend(kind.name, str(chance.choice((0, 1, kind.longest))), *named(chance.choice(said)))
            peer.clock.ahead -= far

    def say_odd(self) -> None:
        """Have a member sign any texts as entries, among others and perhaps in a group."""
        if not self.sim.honest_up:
            return
        writer = self.chance.choice(self.sim.honest_up)
        if writer.odd is None:
            writer.odd = OddWriter(writer, Random(f"{self.sim.seed} oddities of {writer.name}"))
        others = [peer for peer in self.honest if peer is not writer and self.sim.can_link(writer, peer)]
        to = self.chance.choice([None, None, None, *others[:2]])
        talks = [view.talk for view in self._views(writer).values() if writer.own in view.members]
        for text in self.chance.choice((["odd"], ["before", "odd"], ["odd", "after"], ["odd", "odd", "after"])):
            self._said += 1
            said = f"{ODD} {self._said}" if text == "odd" else f"{writer.name} {text} {self._said}"
            if writer.up and talks and self.chance.random() < 0.5:
                self.ask(writer, inputs.WriteRequest, self.chance.choice(talks), "text", [said])
            elif writer.up:
                writer.say(said, to)
        self.sim.note(f"{writer.name} has signed odd entries")
        if self.chance.random() < 0.3:
            self.sim.run(self.chance.choice((0.05, 1.0, 5.0)))
            writer.crash()
            self.start_one(writer)
            self.write(writer, to)

    def say_odd_at_last(self) -> None:
        """Make sure that someone has signed an odd entry."""
        for peer in self.honest:
            if not self.sim.invariants.odd and not peer.gone:
                self.sim.heal()
                self.start_one(peer)
                self.say_odd()
                self.sim.run(5.0)

    def delete_here(self) -> None:
        """Have a peer delete what it stores of a conversation: all, of one writer, or up to a time."""
        peers = [peer for peer in self.sim.honest_up if peer.disk.logs]
        if not peers:
            return
        peer = self.chance.choice(peers)
        talks = {
            peer.sim.invariants.room,
            *(dm_id(peer.sim.invariants.room, peer.own, other.own) for other in self.honest),
        }
        there = sorted({log.conversation for log in peer.disk.logs} & talks)
        if there:
            conversation = self.chance.choice(there)
            writers = sorted({log.user for log in peer.disk.logs if log.conversation == conversation})
            clocks = [decode_entry(one.raw).c for one in peer.disk.storage.history(conversation, limit=RECENT)]
            user = self.chance.choice(["", "", *writers])
            before = self.chance.choice(
                [0, 0, *clocks[:1], *clocks[-1:], *self.chance.sample(clocks, min(1, len(clocks)))]
            )
            self.sim.note(f"{peer.name} deletes in {conversation[:8]}")
            peer.program.delete(conversation, user, before)

    def block_or_unblock(self) -> None:
        """Have a user block another one, or end that."""
        if not self.sim.honest_up:
            return
        peer = self.chance.choice(self.sim.honest_up)
        by = self.chance.choice([peer.own, peer.own, *(guest.user for guest in peer.guests)])
        blocked = sorted(peer.to_block.get(by, ()))
        users = [user for user in (*self.sim.by_user, *self.sim.guests) if user not in (*peer.speaks_for, *blocked)]
        on = not blocked or (bool(users) and self.chance.random() >= UNBLOCKS)
        if users or blocked:
            user = self.chance.choice(users if on else blocked)
            names = [self.sim.person(each).name for each in (by, user)]
            self.sim.note(f"{names[0]} {'blocks' if on else 'unblocks'} {names[1]} at {peer.name}")
            peer.block(by, user, on=on)

    def dm(self) -> None:
        if not self.sim.honest_up:
            return
        writer = self.chance.choice(self.sim.honest_up)
        others = [peer for peer in self.honest if peer is not writer and self.sim.can_link(writer, peer)]
        if others:
            other = self.chance.choice(others)
            for _ in range(self.chance.choice((1, 1, 3, 10))):
                self.write(writer, other)

    def crash(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} is killed")
            if self.chance.random() < 0.5:
                self.write(peer, None)  # something to lose
                self.sim.run(self.chance.choice((0.0, 0.005, 0.02, 0.1)))
            else:
                self._await_unsent_mark(peer)
            peer.crash(silent=self.chance.random() < 0.3)

    def _await_unsent_mark(self, peer: SimPeer) -> None:
        """Have others write until this peer has stored something that it has not acknowledged."""
        for other in self.sim.up:
            if other is not peer:
                self.write(other, None)
        for _ in range(50):
            if peer.disk.owes_a_mark:
                return
            self.sim.run(0.004)

    def kill(self) -> None:
        """Kill a peer in the middle of a step: only some of its effects are carried out."""
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            effects = self.chance.choice((1, 2, 3, 5, 8, 20, 60))
            self.sim.note(f"{peer.name} will be killed after {effects} effects")
            peer.crash_within(effects, silent=self.chance.random() < 0.2)
            self.write(peer, None)

    def start(self) -> None:
        down = [peer for peer in self.sim.all_peers if not peer.up and not peer.gone]
        if down:
            self.start_one(self.chance.choice(down))

    def cut(self) -> None:
        if len(self.sim.up) >= 2:
            one, other = self.chance.sample(self.sim.up, 2)
            self.sim.note(f"the links between {one.name} and {other.name} break")
            self.sim.cut(one, other)

    def move_some(self, number: int) -> None:
        """In some histories, perhaps give a peer another address, drawn from a chance of its own."""
        chance = Random(f"{self.sim.seed} moves {number}")
        if self.moves and chance.random() < MOVES_AT:
            peer = chance.choice([peer for peer in self.honest if not peer.gone] or self.honest)
            breaks = chance.random() < 0.8
            self.sim.note(f"{peer.name} has another address{' now, and its links break' if breaks else ''}")
            self.sim.move(peer, breaks=breaks)

    def move_at_last(self, peers: list[SimPeer]) -> None:
        """Give all but one another address at once, so that they find each other through that one only."""
        chance = Random(f"{self.sim.seed} moves at last")
        if not self.moves or self._routers.on or self._crowded or self.sim.invariants.blocks.any:
            return
        for staying in chance.sample(peers, len(peers)):
            others = [peer for peer in peers if peer is not staying]
            if all(self.sim.has_way(staying, peer) for peer in others) and len(others) > 1:
                until = self.sim.now + LINKED_WITHIN
                while self.sim.now < until and not all(_has_heard_of(peer, staying) for peer in others):
                    self.sim.run(1.0)
                self.sim.note(f"all but {staying.name} have another address")
                for peer in others:
                    self.sim.move(peer, breaks=True)
                self.sim.counts["all_but_one_moved"] += 1
                return

    def partition(self) -> None:
        peers = self.sim.all_peers
        self.chance.shuffle(peers)
        size = self.chance.randint(1, len(peers) - 1)
        self.sim.note(
            f"{[peer.name for peer in peers[:size]]} are disconnected from {[peer.name for peer in peers[size:]]}"
        )
        self.sim.partition(peers[:size], peers[size:])

    def one_way(self) -> None:
        if len(self.sim.up) >= 2:
            one, *others = self.chance.sample(self.sim.up, self.chance.randint(2, len(self.sim.up)))
            out = self.chance.random() < 0.5
            to = [other.name for other in others]
            self.sim.note(f"{one.name} {'is heard by' if out else 'hears'} {to}, but not the reverse")
            for other in others:
                self.sim.one_way(*((one, other) if out else (other, one)))

    def heal(self) -> None:
        self.sim.note("partitions end")
        self.sim.heal()

    def slow(self) -> None:
        if len(self.sim.up) >= 2:
            one, other = self.chance.sample(self.sim.up, 2)
            self.sim.note(f"nothing passes from {one.name} to {other.name} for a while")
            self.sim.slow(one, other, self.chance.choice((0.5, 5.0, 20.0)))
            for _ in range(self.chance.choice((0, 4, 8))):  # until it is full, and more
                self.write(one, None)
                self.sim.run(self.chance.choice((0.01, 0.1)))

    def busy(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} reads nothing for a while")
            peer.pause_reading(self.chance.choice((0.1, 2.0, 40.0)))

    def restore(self) -> None:
        peer = self.chance.choice(self.sim.all_peers)
        if len(peer.disk) and not peer.gone:
            peer.crash()
            length = self.chance.choice((0, self.chance.randrange(len(peer.disk))))
            self.sim.note(f"{peer.name}'s disk goes back to {length} of {len(peer.disk)} changes")
            peer.restore(length)
            self.start_one(peer)

    def resume(self) -> None:
        peer = self.chance.choice(self.honest)
        if not peer.gone:
            if peer.up and self.chance.random() < 0.6:
                self.write(peer, None)  # others get it and send it back to the peer, which does not know it
                self.sim.run(0.5)
            self.sim.note(f"{peer.name}'s machine goes back to a snapshot of when its process began")
            peer.resume()
            if self.chance.random() < 0.5:
                self.sim.run(2.0)

    def stop(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} stops in good order")
            peer.stop()

    def jump(self) -> None:
        peer = self.chance.choice(self.sim.all_peers)
        peer.clock.ahead += self.chance.choice((-3600.0, -5.0, 5.0, 250.0, 3600.0))
        self.sim.note(f"{peer.name}'s clock is {peer.clock.ahead:+} s off now")

    def disk(self) -> None:
        peer = self.chance.choice(self.sim.all_peers)
        peer.disk.broken = not peer.disk.broken
        self.sim.note(f"{peer.name}'s disk is {'full' if peer.disk.broken else 'usable again'}")

    def low(self) -> None:
        if self.sim.up:
            peer, on = self.chance.choice(self.sim.up), self.chance.random() < 0.6
            level = self.chance.choice([*DiskLevel][1:]) if on else DiskLevel.ENOUGH
            self.sim.note(f"{peer.name}'s disk has room: {level.name}")
            peer.disk_low(level)

    def join(self) -> None:
        if len(self.honest) < self._most_peers:
            peer = self._next_peer()
            peer.clock.rate = self.chance.choice((1.0, 0.999, 1.001))
            peer.clock.ahead = self.chance.choice((0.0, 0.0, 2.0, -2.0, 400.0))
            peer.disk.slow = self.chance.choice((0.002, 0.02, 0.2, 1.0))
            self.sim.note(f"{peer.name} starts for the first time")
            self.start_one(peer)

    def _next_peer(self) -> SimPeer:
        """Return a new honest peer. In a crowded history each has a network of its own, but the second the crowd's."""
        network = self._routers.network
        if self._crowded:
            network = CROWD_NETWORK if len(self.honest) == 1 else f"10.{len(self.honest)}.0"
        peer = self.sim.peer(network=network, person=self._machines.next(len(self.honest)))
        self._routers.place(peer)
        return peer

    def join_crowd(self) -> None:
        """Add members of one network, more of them than there are places for unknown peers."""
        self.sim.note("a crowd comes and takes all links")
        settings = self.sim.settings
        for _ in range(settings.max_links - settings.known_links + 1):
            peer = self.sim.peer(network=CROWD_NETWORK)
            peer.byzantine = True
            self.sim.crowd[peer.user] = peer
            self._sybils.append(Sybil(peer))
            self.start_one(peer)

    def press(self) -> None:
        """Have the crowd dial everybody."""
        for one in self.sim.crowd.values():
            for peer in self.honest:
                one.connect(peer.endpoint)

    def attack(self) -> None:
        """Have some of the crowd do all that they can under made-up names, on all links they have."""
        self.sim.note("the crowd makes up users")
        for sybil in self.chance.sample(self._sybils, min(SYBILS_AT_ONCE, len(self._sybils))):
            for end in sybil.peer.ends:
                if not end.other.owner.byzantine and end.other.owner in sybil.peer.linked:
                    self.sim.counts["attack"] += 1
                    for data in sybil.attack(end.other.owner):
                        end.write(data)
        self.sim.invariants.crowd.check_bounds()

    def join_byzantine(self) -> None:
        peer = self.sim.peer()
        peer.byzantine = True
        peer.tampering = ByzantinePeer(peer, self.sim.chance)
        self.sim.note(f"{peer.name} comes and {' and '.join(peer.tampering.moods)}")
        self.start_one(peer)

    def join_stranger(self) -> None:
        stranger = self.sim.peer(stranger=True)
        stranger.byzantine = True
        self.sim.note(f"{stranger.name} comes without the network's key")
        self.start_one(stranger)

    def keep_two_apart(self) -> None:
        if len(self.honest) >= 3:
            one, other = self.chance.sample(self.honest, 2)
            self.sim.note(f"{one.name} and {other.name} can never link")
            self.sim.never(one, other)

    def keep_all_apart(self) -> None:
        self.sim.note("all are disconnected: only files pass between them")
        self.sim.partition(*([peer] for peer in self.sim.all_peers))

    def dial_oneself(self) -> None:
        """Have a peer dial its own address."""
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} dials its own address")
            peer.connect(peer.endpoint)

    def leave(self) -> None:
        staying = [peer for peer in self.honest if not peer.gone]
        if len(staying) > 2:
            peer = self.chance.choice(staying)
            self.sim.note(f"{peer.name} leaves for good")
            self.chance.choice((peer.crash, peer.stop))()
            peer.crash()
            peer.gone = True

    def rename(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self._said += 1
            peer.rename(f"{peer.called}{self._said}")

    def choose(self) -> None:
        """Have a person with several machines choose something on one of them, or take it back."""
        machines = [peer for peer in self.sim.honest_up if peer.person is not None]
        if machines:
            peer = self.chance.choice(machines)
            self._said += 1
            key, text = f"{A_WORD}:{self.chance.randrange(3)}", self.chance.choice(("", str(self._said)))
            self.sim.note(f"{peer.name} chooses {text!r} for {key}")
            self.sim.counts["own_state_chosen"] += 1
            peer.choose(peer.own, key, text)
            self._say_again()

    def _say_again(self) -> None:
        """Have programs of people write with few keys, as if they did not know that they did before."""
        chance = Random(f"{self.sim.seed} keys {self._said}")
        for peer in self.sim.honest_up:
            if peer.person is None or chance.random() > SAY_AGAIN_RATE:
                continue
            text = f"{peer.person.name} says once {chance.randrange(KEYS)}"
            written = WrittenMessage(peer, peer.own, None, text)
            self.sim.counts["keyed"] += 1
            peer.program.write(self.sim.invariants.room, "text", [text], written=[written], key=text)

    def export(self) -> None:
        """Carry an export file from one peer to another: a new one or one made earlier."""
        if not self.sim.up:
            return
        byzantines = [peer for peer in self.sim.all_peers if peer.byzantine]
        maker = self.chance.choice(byzantines if byzantines and self.chance.random() < 0.4 else self.sim.all_peers)
        apart = [peer for peer in self.sim.up if peer is not maker and maker not in peer.linked]
        to = self.chance.choice(apart or self.sim.up)
        if not self._exports or self.chance.random() < 0.7:
            only = self.sim.invariants.room if self.chance.random() < 0.2 else None
            self._exports = [*self._exports[-EXPORTS_KEPT:], make_export(maker, to, only)]
            export = self._exports[-1]
        else:
            export = self.chance.choice(self._exports)
        self.sim.note(f"{to.name} imports a file of {export.maker.name}, made at {export.made_at:.1f}")
        self.sim.counts["export_again"] += bool(export.uses)
        export.uses += 1
        to.program.import_file(self._damaged(export.data))

    def _damaged(self, data: bytes) -> bytes:
        """Return the file as it arrives: mostly whole, sometimes cut or with a wrong bit."""
        drawn = self.chance.random()
        at = self.chance.randrange(len(data))
        if drawn < 0.2:
            return data[:at]
        if drawn < 0.35:
            return data[:at] + bytes([data[at] ^ 1 << self.chance.randrange(8)]) + data[at + 1 :]
        return data

    # ---- openings
    #
    # Situations that chance alone seldom produces, brought about on purpose at the start of some histories, when the
    # first peers have started. Links, disks and peers may be faulty, as always.

    def leave_a_gap(self) -> None:
        """Cut off a peer that holds an entry and lacks the one it follows."""
        if len(self.honest) < 3:
            return
        writer, follower, reader = self.chance.sample(self.honest, 3)
        self.sim.note(f"{reader.name} does not get what {writer.name} writes, but what {follower.name} answers")
        for other in self.sim.all_peers:
            if other not in (follower, reader):
                self.sim.separate(reader, other)
        if self._await(lambda: writer in follower.linked and reader in follower.linked):
            self.write(writer, None)
            self._await(lambda: any(line.get("sender") == writer.name for line in follower.lines))
            self.write(follower, None)
            self._await(lambda: any(log.user == follower.own for log in reader.disk.logs))
        self.sim.partition([reader], [peer for peer in self.sim.all_peers if peer is not reader])
        self.sim.run(self.sim.settings.order_wait + 1.0)

    def fill_a_quota(self) -> None:
        """Write more than the others store for one member, as all its users in turn."""
        writer, *others = self.chance.sample(self.honest, len(self.honest))
        self.sim.note(f"{writer.name} writes and writes")
        self._await(lambda: bool(writer.linked))
        if self.sim.membership is None:
            others = []
        of_member = [writer, *(one for one in others if one.network.member == writer.network.member)]
        for number in range(24):
            self.write(of_member[number % len(of_member)], None)

    def meet_copies(self) -> None:
        """Resume a machine from one snapshot several times, without ending its links."""
        one, other = self.chance.sample(self.honest, 2)
        if is_decider(one.user, other.user):
            one, other = other, one  # the decider sees each of its links replaced by the next
        for _ in range(COPIES):
            self._await(lambda: other in one.linked and one in other.linked)
            self.sim.run(SETTLED_AFTER + 0.1)
            self.write(one, None)
            self.sim.note(f"{one.name}'s machine goes back to a snapshot of when its process began")
            one.crash(silent=True)
            one.resume(other.endpoint)
        self._await(lambda: other in one.linked)

    def import_on_a_full_disk(self) -> None:
        """Import a file while the disk cannot be written, until it can."""
        maker, reader = self.chance.sample(self.honest, 2)
        self.sim.partition([maker], [reader])
        self.write(maker, None)
        self._await(lambda: bool(len(maker.disk)) and not maker.disk.busy)
        self.sim.note(f"{reader.name} imports a file of {maker.name} on a full disk")
        reader.disk.broken = True
        reader.program.import_file(make_export(maker, reader).data)
        self._await(lambda: reader.fails)
        reader.disk.broken = False
        self.sim.heal()

    # ---- groups
    #
    # Peers make groups, change them, write there and leave, during all other faults. Their tickets are negative.
    # invariants/group_invariants.py checks the groups.

    def ask(self, peer: SimPeer, kind: Callable[..., Input], *what: object, **fields: object) -> None:
        """Hand a request to a peer, if it runs."""
        self._groups_asked += 1
        if peer.up:
            peer.put(kind(-self._groups_asked, peer.own, *what, **fields))

    def group_make(self) -> None:
        makers = self.sim.honest_up
        others = self.honest
        if not makers or len({id for peer in makers for id in self._views(peer)}) >= MOST_GROUPS:
            return
        maker = self.chance.choice(makers)
        chosen = self.chance.sample(others, self.chance.randint(1, len(others)))
        members = tuple(dict.fromkeys(peer.own for peer in chosen))
        self.sim.note(f"{maker.name} makes a group of {len(members)}")
        self.ask(maker, inputs.GroupCreateRequest, f"g{self._groups_asked}", members)

    def group_say(self) -> None:
        for peer, view in self._some(lambda peer, view: peer.own in view.members, self.chance.choice((1, 1, 2, 3))):
            texts = [f"{peer.name} {self._groups_asked} {n}" for n in range(self.chance.choice((1, 1, 3, 7)))]
            self.ask(peer, inputs.WriteRequest, view.talk, "text", texts)

    def group_add(self) -> None:
        for peer, view in self._some(_manages):
            others = [each.own for each in self.honest if each.own not in view.members]
            if others:
                added = (self.chance.choice(others),)
                self.ask(peer, inputs.GroupChangeRequest, view.group, add=added)

    def group_remove(self) -> None:
        for peer, view in self._some(_manages):
            others = sorted(view.members.keys() - {peer.own})
            if others:
                removed = (self.chance.choice(others),)
                self.sim.note(f"{peer.name} removes {self.sim.person(removed[0]).name}")
                self.ask(peer, inputs.GroupChangeRequest, view.group, remove=removed)

    def group_rename(self) -> None:
        for peer, view in self._some(_owns):
            name = f"n{self._groups_asked}"
            self.ask(peer, inputs.GroupChangeRequest, view.group, name=name)

    def group_hand(self) -> None:
        for peer, view in self._some(_owns):
            owner = self.chance.choice(sorted(view.members))
            self.ask(peer, inputs.GroupChangeRequest, view.group, owner=owner)

    def group_admin(self) -> None:
        """Make a member an admin, or one of them a plain member again."""
        for peer, view in self._some(_owns):
            others = sorted(view.members.keys() - {peer.own})
            if others:
                user = (self.chance.choice(others),)
                change = {"unadmin" if user[0] in view.admins else "admin": user}
                self.ask(peer, inputs.GroupChangeRequest, view.group, **change)

    def group_admins_apart(self) -> None:
        """Disconnect the owner and an admin from each other: each adds and removes, and one may unmake the other."""
        for owner, view in self._some(lambda peer, view: _owns(peer, view) and bool(view.admins)):
            admins = [peer for peer in self.sim.honest_up if peer.own in view.admins]
            if not admins:
                continue
            admin = self.chance.choice(admins)
            self.sim.note(f"{owner.name} and {admin.name}, who manage a group, are disconnected")
            rest = [peer for peer in self.sim.all_peers if peer not in (owner, admin)]
            at = self.chance.randint(0, len(rest))
            self.sim.partition([owner, *rest[:at]], [admin, *rest[at:]])
            for _ in range(self.chance.choice((1, 2, 4))):
                peer = self.chance.choice((owner, admin))
                user = (self.chance.choice(self.honest).own,)
                what = self.chance.choice(("add", "remove", "remove", "unadmin"))
                self.ask(peer, inputs.GroupChangeRequest, view.group, **{what: user})
                self.sim.run(0.1)
                for member in self.sim.honest_up:
                    if self.chance.random() < 0.3 and member.own in view.members:
                        self._write(member, view)

    def group_leave(self) -> None:
        for peer, view in self._some(lambda peer, view: peer.own in view.members and not _owns(peer, view)):
            self.sim.note(f"{peer.name} leaves a group")
            self.ask(peer, inputs.GroupLeaveRequest, view.group)

    def group_apart(self) -> None:
        """Disconnect a member that writes, is removed, writes again and may be added again."""
        for owner, view in self._some(_manages):
            apart = [peer for peer in self.sim.up if peer.own in view.members and peer is not owner]
            if not apart:
                continue
            member = self.chance.choice(apart)
            self.sim.note(f"{member.name} is disconnected, and {owner.name} removes it")
            self.sim.partition([member], [peer for peer in self.sim.all_peers if peer is not member])
            self._write(member, view)
            removed = (member.own,)
            self.ask(owner, inputs.GroupChangeRequest, view.group, remove=removed)
            self.sim.run(self.chance.choice((0.1, 1.0)))
            self._write(member, view)
            if self.chance.random() < 0.5:
                self.ask(owner, inputs.GroupChangeRequest, view.group, add=removed)
                self._write(member, view)

    def group_old(self) -> None:
        """Restore an owner, which changes the group before it gets its own later changes."""
        for owner, view in self._some(_owns):
            length = len(owner.disk)
            for _ in range(self.chance.choice((1, 1, 2))):
                self.ask(owner, inputs.GroupChangeRequest, view.group, name=f"o{self._groups_asked}")
                self.sim.run(self.chance.choice((0.5, 2.0)))
            self.sim.note(f"{owner.name}, who owns a group, is restored and changes it at once")
            owner.crash()
            owner.restore(length)
            owner.start()
            others = [each.own for each in self.honest]
            what = self.chance.choice(("add", "remove", "name", "admin", "owner"))
            user = (self.chance.choice(others),)
            change: dict[str, object] = {what: {"name": "old", "owner": user[0]}.get(what, user)}
            self.ask(owner, inputs.GroupChangeRequest, view.group, **change)

    # ---- helpers

    @property
    def honest(self) -> list[SimPeer]:
        return [peer for peer in self.sim.all_peers if not peer.byzantine]

    def write(self, writer: SimPeer, to: SimPeer | None) -> None:
        if not writer.up:  # the previous message killed it
            return
        self._said += 1
        size = self.chance.choice((0, 0, 0, 300))
        writer.say(f"{writer.name} {self._said} {'long ' * size}".strip(), to)

    def start_one(self, peer: SimPeer) -> None:
        """Start a peer, with an endpoint if it knows none and sometimes otherwise."""
        self.sim.note(f"{peer.name} starts")
        others = [other for other in self.honest if other is not peer and not other.gone]
        needs_one = others and (len(peer.disk) == 0 or not peer.ever_linked or self.chance.random() < 0.5)
        peer.start(*([self.chance.choice(others).endpoint] if needs_one else []))

    def name(self, peer: SimPeer, other: SimPeer) -> None:
        """Have a user name another peer; if that cannot be dialled, the other way round."""
        if self._routers.on and self.sim.can_dial(other, peer) and not self.sim.can_dial(peer, other):
            peer, other = other, peer
        peer.connect(other.endpoint)

    def _await(self, happened: Callable[[], bool]) -> bool:
        """Let time pass in short steps until a condition holds, for three seconds at most. Return whether it holds."""
        until = self.sim.now + PATIENCE
        while not happened() and self.sim.now < until:
            self.sim.run(CHECK_EVERY)
        return happened()

    def _write(self, peer: SimPeer, view: GroupView) -> None:
        texts = [f"{peer.name} apart {self._groups_asked} {n}" for n in range(self.chance.choice((0, 1, 3)))]
        if texts:
            self.ask(peer, inputs.WriteRequest, view.talk, "text", texts)
            self.sim.run(0.05)

    def _views(self, peer: SimPeer) -> dict[str, GroupView]:
        """Return the groups of a peer, without those that a crowd made: who answers takes part in them."""
        views = peer.node.groups if peer.node is not None else {}
        return {group: view for group, view in views.items() if view.owner not in self.sim.made_up}

    def _some(self, suits: Callable[[SimPeer, GroupView], bool], count: int = 1) -> list[tuple[SimPeer, GroupView]]:
        """Draw peers, each with a group that matches."""
        found = [
            (peer, view) for peer in self.sim.honest_up
            for _, view in sorted(self._views(peer).items()) if suits(peer, view)
        ]  # fmt: skip
        return [self.chance.choice(found) for _ in range(count)] if found else []


def _owns(peer: SimPeer, view: GroupView) -> bool:
    return view.owner == peer.own and peer.own in view.members


def _manages(peer: SimPeer, view: GroupView) -> bool:
    return _owns(peer, view) or peer.own in view.admins


# ---- export files


@dataclass(slots=True)
class ExportFile:
    """The entries that one peer held at some time, as a file."""

    maker: SimPeer
    made_at: float  # true seconds
    data: bytes
    uses: int = 0


def make_export(maker: SimPeer, to: SimPeer, only: ConversationId | None = None) -> ExportFile:
    """Export a peer's disk, whether the peer runs or not. A byzantine peer writes what it wants for `to`."""
    sim = maker.sim
    data = b""
    for page in file_pages(maker.disk.storage, sim.invariants.room, only):
        for frame in page:
            if maker.tampering is not None and isinstance(frame, Entries):
                frame = maker.tampering.entries(frame, to)
            data += encode(frame)
    sim.counts["export_made"] += 1
    return ExportFile(maker, sim.now, data)


def _has_heard_of(peer: SimPeer, other: SimPeer) -> bool:
    """Return whether a peer is linked with another one, and knows the address that it has now."""
    if peer.node is None or peer.end_to(other) is None:
        return False
    return any(address.endpoint == other.endpoint for address in peer.node.links.book.addresses(other.user))
