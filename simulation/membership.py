"""Membership in a simulated network: who founds it, who joins, and what people say about its members.

The peers that are there first are one login, which founded the network. Each later one is another profile of that login
or a login of its own, which joins by an invite that one of the first has made: perhaps too late, or with one that was
used before. People make admins, and add, remove and pardon others. Whoever has no say says something now and then,
which nobody may keep, and a former admin goes on signing, which byzantine peers pass on.

In the end the peers of those who are out leave for good, so that the rest can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core.inputs import Committed, StatementsMade
from p2pchat.core.members.admission import invite_secret
from p2pchat.core.members.member_list import MemberList, Plan, make_statements
from p2pchat.core.members.statement import (
    ADD,
    ADMIN,
    CLOSE,
    REMOVE,
    REVOKE,
    Statement,
    make_statement,
    parse_statement,
)
from p2pchat.core.node_context import Invitation, NetworkCredentials
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Bye, Frame, Hello, PeerId, Statements, UserId, Welcome
from p2pchat.testing.eventlog_parser import Fault
from simulation.virtual_time import signer

if TYPE_CHECKING:
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

FOUNDERS = 2  # peers of the login that founded the network, as each history begins with two
SAME_LOGIN = 0.4  # the part of later peers that belong to it, too
LATE = 0.1  # the part of invites that have ended
SHARED = 0.3  # the part of logins that join with the invite of another one
STATEMENTS = 3, 12  # of a history
ACTIONS = {"add": 2, "admin": 3, "unadmin": 1, "remove": 3, "pardon": 2, "close": 1, "revoke": 1}
LOST = 0.2  # the part of statements by which somebody with several machines shuts one out
HAS_NO_SAY = 0.2  # the part that somebody says who is neither founder nor, as far as one knows, admin
SETTLE_WITHIN = 60.0  # seconds until all have the same statements


class Membership:
    """The members of one simulated network.

    Attributes:
        is_on: There are statements in this history.
        said: All statements that people made, in order.
    """

    def __init__(self, sim: Simulation, seed: int, *, on: bool) -> None:
        self._sim = sim
        self._chance = Random(f"{seed} members")
        self.is_on = on
        self._logins: dict[PeerId, Identity] = {}  # of peers that are of another login than the founder's
        self._invitations: list[Invitation] = []
        self.said: list[Statement] = []
        if on:
            sim.credentials_of = self.credentials_of
            sim.membership = self

    def steps(self) -> int:
        """Return how many statements this history has."""
        return self._chance.randint(*STATEMENTS)

    # ---- joining

    def credentials_of(self, number: int, peer: Identity) -> NetworkCredentials:
        """Return the credentials of a new peer, which knows the network's key."""
        former = self._sim.network()
        if number <= FOUNDERS or self._chance.random() < SAME_LOGIN:
            return former
        login = Identity.from_seed(self._chance.randbytes(32))
        self._logins[peer.peer_id] = login
        return replace(
            former, founder="", member=login.peer_id, sign=signer(login), invitation=self._invitation(former)
        )  # fmt: skip

    def _invitation(self, network: NetworkCredentials) -> Invitation:
        if self._invitations and self._chance.random() < SHARED:
            return self._chance.choice(self._invitations)
        maker = self._chance.choice(self._sim.all_peers[:FOUNDERS]).user
        id, uses = self._chance.randbytes(4).hex(), self._chance.choice((1, 1, 2))
        until = 1 if self._chance.random() < LATE else 1 << 33
        secret = invite_secret(invites_key(maker), network.id, id, uses, until)
        self._invitations.append(Invitation(maker, id, uses, until, secret))
        return self._invitations[-1]

    def way(self, peer: SimPeer) -> SimPeer | None:
        """Return the peer that admits a newcomer; None if it needs none."""
        invitation = peer.network.invitation
        return None if invitation is None else self._sim.by_user[invitation.maker]

    # ---- statements

    def say(self) -> None:
        """Have somebody say something."""
        peers = [peer for peer in self._sim.honest_up if peer.node is not None and peer.members is not None]
        if not peers:
            return
        peer = self._chance.choice(peers)
        members = peer.members
        assert members is not None
        identity = self._speaker(members)
        action = self._chance.choices([*ACTIONS], [*ACTIONS.values()])[0]
        if self._persons() and self._chance.random() < LOST:
            action = "revoke"
        if action == "revoke":  # every member has a say
            identity = self._chance.choice(self._persons() or [self._sim.founder, *self._logins.values()])
        try:
            plans = self._plan(peer, members, identity.peer_id, action)
        except ValueError:
            return  # it may not, or it makes no sense
        network = self._sim.network().id
        made = [*make_statements(network, identity.peer_id, signer(identity), len(self.said) + 1, plans)]
        self.said += made
        self._sim.counts[f"said_{action}"] += bool(made)
        whose = "the founder" if identity is self._sim.founder else identity.peer_id[:6]
        self._sim.note(f"{peer.name} says: {action} by {whose}: {[one[:6] for one in (made[0].who if made else ())]}")
        peer.put(StatementsMade(made))

    def _persons(self) -> list[Identity]:
        """Return the logins of people with several machines."""
        of = [person.hosts[0].network.member for person in self._sim.people.values() if len(person.hosts) > 1]
        return [one for one in (self._sim.founder, *self._logins.values()) if one.peer_id in of]

    def _speaker(self, members: MemberList) -> Identity:
        if self._chance.random() < HAS_NO_SAY:
            return self._chance.choice([*self._logins.values(), Identity.from_seed(self._chance.randbytes(32))])
        admins = [login for login in self._logins.values() if login.peer_id in members.admins]
        return self._chance.choice([self._sim.founder, *admins])

    def said_by_former(self, who: UserId, to: SimPeer) -> Statements | None:
        """Return what somebody signs now of whom this peer knows that it is no admin any more; None where nobody is."""
        former = [] if to.members is None else sorted(to.members.made.keys() & to.members.unmade.keys())
        logins = {login.peer_id: login for login in self._logins.values()}
        signing = [logins[user] for user in former if user in logins]
        if not signing:
            return None
        self._sim.counts["former_admin_signed"] += 1
        at, by = len(self.said) + 1, signing[0]
        made = make_statement(self._sim.network().id, by.peer_id, signer(by), ADD, at, {"who": [who]})
        return Statements(s=[(made.text, made.signature.hex())])

    def _plan(self, peer: SimPeer, members: MemberList, by: UserId, action: str) -> list[Plan]:
        assert peer.node is not None
        is_out, stored = peer.node.member_directory.is_out, peer.node.replicator.quota.bytes.of_user
        logins = [login.peer_id for login in self._logins.values()]
        someone = self._chance.choice([*self._sim.by_user, *self._sim.guests, *logins, *logins])
        has_say = by == members.founder or by in members.admins
        if action == "revoke":  # the first peers go on admitting others
            later = self._sim.all_peers[FOUNDERS:]
            own = [one for one in later if one.network.member == by]
            machines = [one for one in own if one.person is not None and one is not one.person.hosts[0]]
            lost = self._chance.choice(machines or own or [None])
            if lost is None:
                return [(REVOKE, {"who": [someone]})]
            self._sim.counts["machine_lost"] += lost in machines
            return [(REVOKE, {"who": [lost.user, lost.own] if lost in machines else [lost.user]})]
        if action == "close":
            ids = [one.id for one in self._invitations[-1:]]
            return [(CLOSE, {"invites": ids})] if ids and not has_say else members.plan_closing(by, ids)
        if action == "add" or not has_say:  # whoever has no say does not ask the program either
            return [(ADD if action == "add" else ADMIN if action == "admin" else REMOVE, {"who": [someone]})]
        if action == "remove":
            return members.plan_removal(by, [someone], is_out, lambda user: stored[user] > 0)
        if action == "pardon":
            who = [self._chance.choice(sorted(members.removed))] if members.removed else []
            return members.plan_pardon(by, who, [one for user in who for one in members.removals(user)])
        return members.plan_admin(by, someone, is_out, lambda user: stored[user] > 0, on=action == "admin")

    # ---- the end

    def end(self) -> None:
        """Wait until all have the same statements; then those who are out leave for good."""
        self._settle()
        for user, guest in self._sim.guests.items():  # one whose former member revoked its key has no host
            for host in guest.here() if user not in self._sim.people else ():
                if host.node is not None and host.node.admission.expels(user, host.node.admission.member):
                    self._sim.note(f"{host.name} unhosts {guest.name}, who is out")
                    host.unhost_guest(guest)
        while out := self._outsiders():
            for peer in out:
                self._sim.counts["left_as_outsider"] += 1
                self._sim.note(f"{peer.name} is out, and leaves for good")
                peer.stop()
                peer.crash()
                peer.gone = True
            self._settle()  # what only they knew counts no more: perhaps a pardon

    def _settle(self) -> None:
        until = self._sim.now + SETTLE_WITHIN
        while self._sim.now < until and not (self._is_calm() and self._pardon_guests()):
            self._sim.run(1.0)
        self._pardon_guests()

    def _pardon_guests(self) -> bool:
        """Have the founder take back that hosted users are out, as others wrote to them. Return whether none is."""
        members, founder = self._final(), self._sim.founder
        out = [user for user in self._sim.guests if user in members.removed]
        if out:
            removals = {one.id: one for user in out for one in members.removals(user)}
            plans, at = members.plan_pardon(founder.peer_id, out, [*removals.values()]), len(self.said) + 1
            made = [*make_statements(self._sim.network().id, founder.peer_id, signer(founder), at, plans)]
            for peer in self._sim.honest_up:
                peer.put(StatementsMade(made))
        return not out

    def _is_calm(self) -> bool:
        ups, insiders = self._sim.honest_up, self._insiders()
        linked = {frozenset((one.name, other.name)) for one in ups for other in ups if one.end_to(other)}
        lists = {frozenset(peer.statements) for peer in ups if peer.members is not None and peer in insiders}
        waits = [peer for peer in ups if peer not in insiders and self._may_join(peer)]
        is_stored = not any(peer.disk.busy for peer in ups)
        return is_stored and len(lists) <= 1 and not waits and bool(linked or len(ups) < 2)

    def _may_join(self, peer: SimPeer) -> bool:
        """Return whether a newcomer's invite is good as far as one knows, and its maker is there."""
        invitation, final = peer.network.invitation, self._final()
        if invitation is None or invitation.until == 1 or not self._sim.by_user[invitation.maker].up:
            return False
        member = peer.network.member
        used = {user for one in final.statements() if one.invite == invitation.id for user in one.who}
        removals = final.removals(member) + final.removals(peer.user) + final.revocations(peer.user, [member])
        is_out = removals or final.closing(invitation.id) is not None
        return not is_out and final.removed.isdisjoint(used) and len(used - {member}) < invitation.uses

    def _final(self, *, honest: bool = False) -> MemberList:
        """Return what follows from all statements that a peer, or an honest one, has stored, and may tell."""
        final, network = MemberList(self._sim.founder.peer_id), self._sim.network().id
        peers = self._sim.honest_up if honest else self._sim.up
        stored = {pair for peer in peers for pair in peer.disk.storage.load([]).statements}
        said = [parse_statement(network, *pair) for pair in stored]
        for _ in range(2):  # those of admins count only when it is known who is one
            final.add(said)
        return final

    def _insiders(self) -> set[SimPeer]:
        """Return the peers that belong to the network, whether or not byzantine ones tell what they alone know."""
        views = [self._final(honest=only) for only in (True, False)]
        return {peer for peer in self._sim.all_peers if all(_admits(view, peer) for view in views)}

    def _outsiders(self) -> list[SimPeer]:
        insiders = self._insiders()
        honest = [peer for peer in self._sim.all_peers if not peer.byzantine]
        return [peer for peer in honest if not peer.gone and peer not in insiders]

    def hides(self, one: SimPeer, other: SimPeer) -> bool:
        """Return whether a peer does not take another one's word for all users that this one hosts: some are out."""
        return one.members is not None and bool(one.members.removed.intersection(other.speaks_for))

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: Sequence[WireEnd]) -> None:
        """Check that nothing but statements and a goodbye is sent to a peer that is out, once that is known."""
        statements = None if peer.node is None or peer.byzantine else peer.node.replicator.statements
        if statements is None or statements.members is None or isinstance(frame, Statements | Hello | Welcome | Bye):
            return
        if peer.handling is Committed:
            return  # it learned that in this step
        for end in ends:
            user, member = end.other.owner.user, end.other.owner.network.member
            assert peer.node is not None
            named = (member, *peer.node.member_directory.members_of(user))
            against = statements.members.against(user, named) + statements.members.revocations(user, named)
            if statements.durable(against):
                self._sim.invariants.fail("out_is_out", peer, f"sends {type(frame).__name__} to one that is out")

    def faults(self) -> Iterator[Fault]:
        """Check that no invite was used too often, that nobody is out whom nobody removed, and that all have names."""
        final = self._final()
        yield from self._unnamed(final)
        uses = Counter(
            (one.by, one.invite) for one in final.statements() if one.kind == ADD and one.invite for _ in one.who
        )
        for invitation in self._invitations:
            maker = self._sim.by_user[invitation.maker]
            if uses[self._sim.founder.peer_id, invitation.id] > invitation.uses and not maker.restored:
                yield Fault("invite_exact", f"admitted more than {invitation.uses}", maker.name)
        for peer in self._sim.all_peers:
            of_founder = peer.network.member == final.founder
            if of_founder and not final.admits(peer.user, final.founder):
                if all(one.by != final.founder for one in final.removals(peer.user)):
                    yield Fault("honest_stay", "is out by the word of an admin", peer.name)

    def _unnamed(self, final: MemberList) -> Iterator[Fault]:
        """Yield who does not know a user of a member by the name that this one has, wherever the user is."""
        insiders = self._insiders()
        ups = [peer for peer in self._sim.honest_up if not peer.odd and peer in insiders]
        names = {peer: {one.id: one.name for one in peer.disk.storage.load([]).users} for peer in ups}
        for peer in ups:
            for other in ups:
                # What a machine wrote that went back in time is a fork, of which others may have another side.
                for user in other.speaks_for if other.ever_linked and not other.restored else ():
                    name = names[other].get(user)
                    known = names[peer].get(user)
                    is_right = name is not None and known == name
                    if user not in final.removed and not is_right:
                        text = f"knows {self._sim.person(user).name} as {known}, who is called {name}"
                        yield Fault("named", text, peer.name)


def invites_key(peer: PeerId) -> bytes:
    """Return the key of which a peer makes its invites."""
    return blake2b(peer.encode(), digest_size=32).digest()


def _admits(view: MemberList, peer: SimPeer) -> bool:
    member = peer.network.member
    return view.admits(peer.user, member) and not view.revocations(peer.user, [member])
