"""Election of one link per pair of peers, as pure functions.

The decider D is the peer with the smaller id, the follower F the other one. At D a link is current from the moment
its handshake is done. D numbers its links to F and sends `go{run, n}` on each. F takes the go with the larger n of
one run, and of two runs the newer one. Both ends close what they replace.

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

from typing import NamedTuple

from p2pchat.protocol import PeerId, RunId


def is_decider(me: PeerId, other: PeerId) -> bool:
    """Return whether `me` is the decider of this pair."""
    return me < other


class DeciderState(NamedTuple):
    """D's knowledge of its links to one F: how many it numbered in this run, and the current one or None."""

    n: int = 0
    link: int | None = None


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


def decider_link_proved(state: DeciderState, link: int) -> DeciderState:
    """Make a link whose handshake is done the current one, with the next number. D closes the former one."""
    return DeciderState(state.n + 1, link)


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


def decider_link_down(state: DeciderState, link: int) -> DeciderState:
    """Forget a link that is gone, if it was D's current one."""
    return state._replace(link=None) if state.link == link else state
