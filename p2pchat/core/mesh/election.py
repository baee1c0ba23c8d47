"""Which of several links between two peers stays: one decider, pure functions, and nothing else.

D is the peer with the smaller id, F the other. At D a link is current from the moment its handshake is done; D numbers
its links to F and says `go{run, n}` on each. F takes the go with the larger n of one run, and of two runs the newer.
Both ends close what they replace.

Which run is newer F sees from its own links: D's process made the connection and answered on it, so it was alive when
the link began here; and a process lives once. A go of another run on a link that began earlier is of an older process,
however late it comes. (Without that, a go that was long under way makes a fresh F take the dead run for the new one,
and refuse the living one's redials as superseded until the dead link is noticed: the model found it.)

Rules that need no decider fail: "keep the one the lower id dialled" lets a dead link block every redial after a
half-open failure, and "newest wins at both ends" can close both, again and again. tests/core/test_go_model.py walks
every state of two peers with these very functions, and with those two rules to see them fail.
"""

from __future__ import annotations

from typing import NamedTuple

from p2pchat.protocol import PeerId, RunId


def decides(me: PeerId, other: PeerId) -> bool:
    """Whether `me` is D of this pair."""
    return me < other


class Decided(NamedTuple):
    """What D knows of its links to one F: how many it numbered in this run, and the current one, None for none."""

    n: int = 0
    link: int | None = None


class Standing(NamedTuple):
    """What F knows of its links to one D: the current one, None for none, and the runs it has seen."""

    link: int | None = None
    run: RunId = ""  # of the last go taken, "" before the first
    n: int = 0
    begun: int = 0  # when the newest link of that run began: a number that rises with each link
    superseded: tuple[RunId, ...] = ()  # runs another one took the place of, newest last


class Verdict(NamedTuple):
    """F's answer to a go: what it knows now, the link to close (this one, the former, or None), and why."""

    standing: Standing
    closes: int | None
    returned: bool = False  # a superseded run is alive: two processes with one key


def decide(decided: Decided, link: int) -> Decided:
    """D: this link's handshake is done. It is current now, with the next number; the former is to be closed."""
    return Decided(decided.n + 1, link)


def take_go(standing: Standing, link: int, begun: int, run: RunId, n: int, remembered: int = 8) -> Verdict:
    """F: a go came on `link`, which was the `begun`-th to begin. `remembered` is how many superseded runs are kept."""
    if standing.run not in ("", run) and begun < standing.begun:
        return Verdict(standing, link)
    returned = run in standing.superseded
    if standing.link is not None and (returned or (standing.run == run and standing.n > n)):
        return Verdict(standing, link, returned)
    superseded = tuple(former for former in standing.superseded if former != run)
    if standing.run not in ("", run):
        superseded = (*superseded, standing.run)[-remembered:]
    return Verdict(Standing(link, run, n, max(begun, standing.begun), superseded), standing.link, returned)


def lose(known: Standing, link: int) -> Standing:
    """F: this link is gone. What was current stays so unless it was this one."""
    return known._replace(link=None) if known.link == link else known


def abandon(known: Decided, link: int) -> Decided:
    """D: this link is gone."""
    return known._replace(link=None) if known.link == link else known
