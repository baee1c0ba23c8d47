"""Receipts of hosted users: rosters say which users each peer hosts, and hosted before, and who has what of the room.

A gateway hosts thousands of users, and what it holds they all have. So a mark in the room counts for the peer that
announced it: one row for each log and peer (HostRow), however many users are hosted there. Who has an entry is computed
when somebody asks. A peer has a roster once it hosts others than its own user, who is on it like all others.

Users come and go. Each stay of a user at a peer says from which revision of the roster to which it was hosted there. A
row says at which revision its mark was announced last, and at which revision a user had left last when it was made:
a user has what was announced during its stay. When a mark advances after somebody left, the former row is kept, so
that a user who left keeps what it had, and gets nothing of what its former host holds later. The former row is dropped
once nobody has anything by it alone, as when all who left have returned or are at other peers too.

A roster of thousands is saved in parts, with the next commits. The rows of its peer are saved after the whole roster,
because a row that is stored without the end of a stay would count for the user who left. Marks that a crash loses are
announced again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, KeysView
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from p2pchat.core.durable_changes import FORGOTTEN, GuestStay
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.protocol import PeerId, UserId

HOST = "@"  # before the id of a peer: the holder of a position that all of its users share
# Of one user, or as many as peers host it now; of an older one, what the user has by it becomes positions of its own.
# That looks at every log, and each question for a user at every stay: a guess.
MAX_STAYS = 8
STAYS_A_COMMIT = 256  # 5 ms of a commit; a message that is written meanwhile waits for no more

StayKey = tuple[UserId, int]


@lru_cache(maxsize=1024)  # each log has a row of each peer
def host_holder(peer: PeerId) -> str:
    """Return the holder of the positions of all users that a peer hosts."""
    return HOST + peer


class HostRow(NamedTuple):
    """The last entry of a log that a peer holds, for the users it hosts.

    Attributes:
        seq: The last entry.
        version: The revision of the roster at which somebody had left last.
        told: The revision at which the mark was announced last: who came later does not have it yet.
        former: The rows before somebody left; what they say stays true for those who were there.
    """

    seq: int
    version: int
    told: int
    former: tuple[HostRow, ...] = ()

    def seq_for(self, stay: GuestStay) -> int:
        """Return how far a user has the log because of a stay."""
        return max((row.seq for row in (self, *self.former) if stay.covers(row.version, row.told)), default=0)


class SharedGuests(NamedTuple):
    """Users who are at the same peers and never left one: what one of these holds, all of them have.

    Attributes:
        holders: The holders of the positions of these peers.
        users: Sorted.
    """

    holders: tuple[str, ...]
    users: tuple[UserId, ...]


@dataclass(slots=True)
class Roster:
    """The users of one peer.

    Attributes:
        revision: Counts the changes.
        version: The revision at which somebody left last.
        joined: The revision at which somebody came last.
        guests: The users that are there, the newest last.
        left: The users that were there.
        ended: The stays that ended, in this order.
        left_out: The users that are there and for whom there was no place.
        seen: The link that was looked at last, and how often its users had changed.
    """

    revision: int = 0
    version: int = 0
    joined: int = 0
    guests: dict[UserId, GuestStay] = field(default_factory=dict)
    left: dict[UserId, None] = field(default_factory=dict)
    ended: list[GuestStay] = field(default_factory=list)
    left_out: AbstractSet[UserId] = frozenset()
    seen: tuple[int, int] = (0, 0)
    alike: tuple[UserId, ...] = ()  # guests who have nothing of the room but by this stay; cached
    others: frozenset[UserId] = frozenset()  # the other guests
    shared: tuple[SharedGuests, ...] = ()  # of these, who never left a peer
    returned: frozenset[UserId] = frozenset()  # the rest of these
    cached: bool = False

    def left_with(self, row: HostRow, seq: int) -> Iterator[UserId]:
        """Yield the users who were there and have an entry by a row or those before it.

        Of a new entry nobody but who left just now is looked at: thousands leave when accounts give up names.
        """
        rows = [one for one in (row, *row.former) if one.seq >= seq]
        oldest = min((one.version for one in rows), default=self.revision)
        for stay in self.leavers(oldest, self.revision):
            if any(stay.covers(one.version, one.told) for one in rows):
                yield stay.user

    def newcomers(self, told: int) -> Iterator[UserId]:
        """Yield the guests who came after a revision."""
        for user, stay in reversed(self.guests.items()):
            if stay.since <= told:
                return
            yield user

    def leavers(self, after: int, until: int) -> Iterator[GuestStay]:
        """Yield the stays that ended after a revision, until another one."""
        for at in range(bisect_right(self.ended, after, key=_ended), len(self.ended)):
            if self.ended[at].ended > until:
                return
            yield self.ended[at]


_NOBODY = Roster()


def _ended(stay: GuestStay) -> int:
    return stay.ended


class Rosters:
    """The rosters of all peers.

    Args:
        hosted: A live view of the users hosted here.
        admit: Returns whether there is a place for a user on the roster of a link's peer.
        on_forget: Called with a stay that is forgotten next.

    Attributes:
        hosted: As given.
        unsaved: What the next commits shall save, by peer.
        forgotten: What storage shall delete once nothing is unsaved.
        changes: A number that grows with each change.
        holder_of: The holder of what a user has, of users who are and were at one peer only.
        others: The other users of rosters.
    """

    def __init__(
        self,
        stored: Iterable[GuestStay],
        hosted: Container[UserId],
        admit: Callable[[UserId, PeerLink], bool],
        on_forget: Callable[[GuestStay], None],
    ) -> None:
        self.hosted = hosted
        self._admit = admit
        self._on_forget = on_forget
        self._by_peer: dict[PeerId, Roster] = {}
        self._stays: dict[UserId, list[GuestStay]] = {}
        self.holder_of: dict[UserId, str] = {}
        self.others: set[UserId] = set()
        self._returned: set[UserId] = set()  # who left a peer once
        self.unsaved: dict[PeerId, dict[StayKey, GuestStay]] = {}
        self.forgotten: list[GuestStay] = []
        self.changes: int = 0
        for stay in sorted(stored, key=lambda stay: stay.since):
            self._load(stay)
        for roster in self._by_peer.values():
            roster.ended.sort(key=_ended)

    def _load(self, stay: GuestStay) -> None:
        roster = self._by_peer.setdefault(stay.peer, Roster())
        self._stays.setdefault(stay.user, []).append(stay)
        if stay.ended:
            roster.left[stay.user] = None
            roster.ended.append(stay)
        else:
            roster.guests[stay.user] = stay
        roster.version = max(roster.version, stay.ended)
        roster.joined = max(roster.joined, stay.since)
        roster.revision = max(roster.revision, stay.since, stay.ended)
        self._classify(stay.user)

    def take_over(self, former: Rosters) -> None:
        """Take over what was known before storage failed. It may not have been saved."""
        self._by_peer, self._stays = former._by_peer, former._stays
        for user, stays in self._stays.items():
            for stay in stays:
                self._save(stay)
            self._classify(user)
        for roster in self._by_peer.values():
            roster.seen = (0, 0)

    def take_unsaved(self, most: int | None = STAYS_A_COMMIT) -> list[GuestStay]:
        """Return what the next commit shall save: a part, or all of it with None."""
        taken: list[GuestStay] = []
        for peer, stays in [*self.unsaved.items()]:
            part = [*islice(stays, None if most is None else most - len(taken))]
            taken += map(stays.pop, part)
            if not stays:
                del self.unsaved[peer]
        return taken

    def _save(self, stay: GuestStay) -> None:
        self.unsaved.setdefault(stay.peer, {})[stay.user, stay.since] = stay

    # ---- users come and go

    def update(self, link: PeerLink) -> Roster | None:
        """Take the users that a link's peer hosts now. Return its roster, None if it never hosted others."""
        roster = self._by_peer.get(link.peer)
        seen = (link.id, link.users_changed)
        if roster is None and len(link.users) <= 1:
            return None
        if roster is None:
            roster = self._by_peer[link.peer] = Roster()
        if roster.seen == seen or not link.has_listed_users:
            return roster  # a list that has not ended yet says nothing about who is gone
        roster.seen = seen
        gone, new = roster.guests.keys() - link.users.keys(), link.users.keys() - roster.guests.keys()
        if gone or new:
            self._change(link, roster, gone, new)
        return roster

    def _change(self, link: PeerLink, roster: Roster, gone: Iterable[UserId], new: AbstractSet[UserId]) -> None:
        peer, revision = link.peer, roster.revision + 1
        for user in sorted(gone):
            stay = roster.guests.pop(user).replace(ended=revision)
            roster.left[user] = None
            roster.ended.append(stay)
            roster.version = revision
            self._put(stay)
        roster.left_out = {user for user in sorted(new) if not self._admit(user, link)}
        for user in sorted(new - roster.left_out):
            roster.left.pop(user, None)
            roster.guests[user] = stay = GuestStay(peer, user, revision)
            self._put(stay)
            roster.joined = revision
        roster.revision = revision

    def _put(self, stay: GuestStay) -> None:
        stays = [each for each in self._stays.get(stay.user, ()) if (each.peer, each.since) != (stay.peer, stay.since)]
        self._stays[stay.user] = stays = [*stays, stay]
        self._save(stay)
        if len(stays) > MAX_STAYS:
            self._forget(next((each for each in stays if each.ended and each is not stay), None))
        self._classify(stay.user)

    def _forget(self, stay: GuestStay | None) -> None:
        """Forget a stay, unless it is None. What the user has by it is noted before."""
        if stay is not None:
            self._on_forget(stay)
            self._stays[stay.user].remove(stay)
            self._by_peer[stay.peer].ended.remove(stay)
            self.forgotten.append(stay.replace(ended=FORGOTTEN))

    def _classify(self, user: UserId) -> None:
        stays = self._stays.get(user, [])
        only = stays[0] if stays and len(stays) == 1 and not stays[0].ended else None
        if only is not None and user not in self.hosted:
            self.holder_of[user] = host_holder(only.peer)
            self.others.discard(user)
        elif stays:
            self.holder_of.pop(user, None)
            self.others.add(user)
        if any(stay.ended for stay in stays):
            self._returned.add(user)
        else:
            self._returned.discard(user)
        for stay in stays:
            self._by_peer[stay.peer].cached = False
        self.changes += 1

    def retry_left_out(self) -> None:
        """Look again at all users for whom there was no place."""
        for roster in self._by_peer.values():
            if roster.left_out:
                roster.seen = (0, 0)

    def on_place_given(self, user: UserId) -> None:
        """Look again at a user for whom there was no place."""
        for roster in self._by_peer.values():
            if user in roster.left_out:
                roster.seen = (0, 0)

    def on_hosts_changed(self, user: UserId) -> None:
        """Take that a user is hosted here now, or not any more."""
        if user in self._stays:
            self._classify(user)

    # ---- questions

    @property
    def users(self) -> KeysView[UserId]:
        """All users on rosters, or that were."""
        return self._stays.keys()

    def roster(self, peer: PeerId) -> Roster:
        """Return the roster of a peer that hosts others, or did."""
        return self._by_peer[peer]

    def guests(self, peer: PeerId) -> KeysView[UserId]:
        """Return the users of a peer that hosts others; of one that never did, nobody."""
        return self._by_peer.get(peer, _NOBODY).guests.keys()

    def stays(self, user: UserId) -> list[GuestStay]:
        """Return where a user is hosted, and was."""
        return self._stays.get(user, [])

    def alike(self, roster: Roster) -> tuple[tuple[UserId, ...], frozenset[UserId]]:
        """Return the guests of a peer who have of the room what it holds and nothing else, sorted; and the others.

        A user of several peers, or of this one, may have had an entry before.
        """
        if not roster.cached:
            roster.others = frozenset(roster.guests.keys() & self.others)
            roster.alike = tuple(sorted(roster.guests.keys() - roster.others))
            roster.shared, roster.returned = self.shared(roster.others)
            roster.cached = True
        return roster.alike, roster.others

    def shared(self, users: AbstractSet[UserId]) -> tuple[tuple[SharedGuests, ...], frozenset[UserId]]:
        """Return users by the peers at which they are, and those who left one of theirs.

        In a cluster of gateways everyone is at several peers.
        """
        returned = self._returned & users
        by_peers: dict[tuple[str, ...], list[UserId]] = {}
        for user in sorted(users - returned):
            holders = sorted(host_holder(stay.peer) for stay in self._stays[user])
            by_peers.setdefault(tuple(holders), []).append(user)
        return tuple(SharedGuests(holders, tuple(each)) for holders, each in by_peers.items()), frozenset(returned)

    def add_row(self, peer: PeerId, row: HostRow) -> None:
        """Note a stored row of a peer, whose roster had these revisions then."""
        roster = self._by_peer.setdefault(peer, Roster())
        roster.version = max(roster.version, row.version)
        roster.revision = max(roster.revision, row.told)


class RoomAudience:
    """The users of other peers that messages of the room are for, by what decides whether they have one.

    Args:
        of: The users, as one tuple that many messages share.
    """

    def __init__(self, rosters: Rosters, of: tuple[UserId, ...]) -> None:
        self.of: tuple[UserId, ...] = of
        self.changes: int = rosters.changes
        self.users: frozenset[UserId] = frozenset(of)
        self.weights: Counter[str] = Counter(map(rosters.holder_of.get, of, of))  # of a holder: users who have its logs
        self.others: frozenset[UserId] = self.users & rosters.others  # of the same peers, or to be looked at one by one
        away = {user for user in self.others if user not in rosters.hosted}  # the others have what is written here
        self.shared: tuple[SharedGuests, ...]
        self.returned: frozenset[UserId]
        self.shared, self.returned = rosters.shared(away)
