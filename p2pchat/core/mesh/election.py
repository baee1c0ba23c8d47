"""Election of one link per pair of peers, as pure functions; and two processes that replace each other's links.

The decider D is the peer with the smaller id, the follower F the other one. At D a link is current from the moment
its handshake is done. D numbers its links, with one counter for all peers, and sends `go{run, n}` on each. F takes the
go with the larger n of one run, and of two runs the newer one. Both ends close what they replace.

F sees from its own links which run is newer. D's process made the connection and answered on it, so it was alive when
the link began here, and a process lives once. A go of another run on a link that began earlier belongs to an older
process, however late it arrives. (Without that rule a go that was delayed for long makes a fresh F take the dead run
for the new one, and reject redials of the living one as superseded until the dead link is noticed. The model found
this case.)

Rules without a decider fail. "Keep the link that the lower id dialled" lets a dead link block every redial after a
half-open failure. "The newest wins at both ends" can close both links, again and again. Nor may D spare a link in use
one that crosses it: the link in use may have died while its go was under way, and then D would refuse the other, which
works. So two dials that cross cost a handshake. tests/core/mesh/test_go_model.py walks all states of two peers with
these functions, and with those rules to see them fail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import NamedTuple

from p2pchat.core.effects import WarningIssued
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.names import describe_user
from p2pchat.core.node_context import NodeContext
from p2pchat.protocol import PeerId, RunId, UserId

SETTLED_AFTER = 1.0  # seconds; a link replaced sooner was one of two that crossed, which is normal


def is_decider(me: PeerId, other: PeerId) -> bool:
    """Return whether `me` is the decider of this pair."""
    return me < other


class FollowerState(NamedTuple):
    """F's knowledge of its links to one D: the current one or None, and the runs it has seen."""

    link: int | None = None
    run: RunId = ""  # of the last go that was taken, "" before the first
    n: int = 0
    begun: int = 0  # PeerLink.begun of the newest link of that run
    superseded: tuple[RunId, ...] = ()  # runs that were replaced by another one, newest last


class GoVerdict(NamedTuple):
    """F's answer to a go: its new state, the link to close (this one, the former one, or None), and whether a
    superseded run is alive, which means that two processes use one key."""

    state: FollowerState
    closes: int | None
    returned: bool = False


def follower_take_go(
    state: FollowerState, link: int, begun: int, run: RunId, n: int, max_superseded: int = 8
) -> GoVerdict:
    """Judge a go that arrived on `link`, the `begun`-th connection to begin."""
    if state.run not in ("", run) and begun < state.begun:
        return GoVerdict(state, link)
    returned = run in state.superseded
    if state.link is not None and (returned or (state.run == run and state.n > n)):
        return GoVerdict(state, link, returned)
    superseded = tuple(former for former in state.superseded if former != run)
    if state.run not in ("", run):
        superseded = (*superseded, state.run)[-max_superseded:]
    return GoVerdict(FollowerState(link, run, n, max(begun, state.begun), superseded), state.link, returned)


def follower_link_down(state: FollowerState, link: int) -> FollowerState:
    """Forget a link that is gone, if it was F's current one."""
    return state._replace(link=None) if state.link == link else state


# ---- two processes with one key


class DuplicateKeyDetector:
    """Detection of two processes that run with one key, by how links are replaced.

    Such processes (a copied machine, a profile that two containers share) take each other's links again and again. That
    cannot be resolved here. People are warned, and for a while the link that is up stays. The peer that detects it
    tells both processes (PeerExchange.send_copy_notice), because the one that keeps its link would not notice the
    other.

    Args:
        members: Knows the names of users.
        contacts: A live view of the peers that somebody here chose. Warnings about others are few.
    """

    def __init__(self, ctx: NodeContext, members: MemberDirectory, contacts: Container[PeerId]) -> None:
        self._ctx = ctx
        self._members = members
        self._contacts = contacts
        self._replaced_at: dict[PeerId, deque[float]] = {}
        self._patient_until: dict[PeerId, float] = {}
        self._reported_at = float("-inf")
        self._heard: set[UserId] = set()  # members who said that this peer runs twice, and whom nobody here chose

    def lasted(self, up_at: float) -> bool:
        """Return whether a link has been up for long enough that its replacement means something."""
        return self._ctx.now.mono - up_at >= SETTLED_AFTER

    def is_patient(self, peer: PeerId) -> bool:
        """Return whether the link that is up to this peer stays for now."""
        return self._ctx.now.mono < self.patient_until(peer)

    def patient_until(self, peer: PeerId) -> float:
        """Return until when it stays; 0 if it does not."""
        return self._patient_until.get(peer, 0.0)

    def on_claimed(self, by: PeerId) -> None:
        """Take that a peer says that it is linked with another process that has our key.

        Nothing proves it. So of peers that nobody here chose each member is heard once.
        """
        member = self._members.share(by)
        if by in self._contacts or self._members.is_own(self._members.member_of(by)) or member not in self._heard:
            self._heard.add(member)
            self.on_reported(by)

    def on_reported(self, by: PeerId = "") -> None:
        """Warn that another process has our key: a peer is patient with it, or says so.

        People are warned once in clone_window, however many peers report it.
        """
        now = self._ctx.now.mono
        if now - self._reported_at >= self._ctx.settings.clone_window:
            self._reported_at = now
            self._warn(self._ctx.me, by)

    def on_replaced(self, peer: PeerId, whose: PeerId) -> bool:
        """Note that a link to this peer was replaced as if two processes had the key of `whose`.

        The third time within a minute warns the user. Then nothing is dialled for half a minute, and the link that is
        up stays: no longer than it takes to notice a dead link. Return True for the third time: then both processes
        should be notified.
        """
        settings, now = self._ctx.settings, self._ctx.now.mono
        self._patient_until = {peer: until for peer, until in self._patient_until.items() if now < until}
        last = now - settings.clone_window
        self._replaced_at = {peer: times for peer, times in self._replaced_at.items() if times and times[-1] >= last}
        times = self._replaced_at.setdefault(peer, deque(maxlen=settings.clone_replacements))
        times.append(now)
        if len(times) < settings.clone_replacements or now - times[0] > settings.clone_window:
            return False
        times.clear()
        was_patient = self.is_patient(peer)  # then all were told less than clone_patience ago
        self._patient_until[peer] = now + settings.clone_patience
        if was_patient:
            return False
        if whose == self._ctx.me:
            self.on_reported()
        else:
            self._warn(whose)
        return True

    def _warn(self, whose: PeerId, by: PeerId = "") -> None:
        names = self._members.names
        name = names.get(whose)
        key = "this peer's key" if whose == self._ctx.me else f"the key of {name!r}" if name else "the key of one peer"
        is_chosen = whose == self._ctx.me or whose in self._contacts  # anybody may pretend of the others
        warn = self._ctx.emit if is_chosen else self._ctx.warn_at_times
        speaker = names.get(by) or names.get(self._members.speaker(self._members.member_of(by)))
        says = f", says {describe_user(speaker)}" if by else ""
        warn(WarningIssued("two_processes", f"two processes seem to use {key}{says}: stop one of them", whose))
