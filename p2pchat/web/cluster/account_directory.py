"""The directory of a cluster: what is known of its accounts, and what of it the engine lacks. Without I/O.

Every gateway knows all records. Under the name's skeleton there is one, so a name and its look-alikes exist once. What
the engine holds is remembered with its revision: a record is written only in place of the one that was seen. Where the
engine holds less than is known here, whether it forgot, was rolled back, or somebody changed it, the record is *owed*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from p2pchat import skeleton
from p2pchat.web.account_record import RENAMED, AccountRecord, join
from p2pchat.web.cluster.cluster_key import ClusterKey

ACCOUNTS = "accounts"  # the kind of these records, for the cluster's key


@dataclass(slots=True)
class _Place:
    """One name: the record that counts, and the engine's, None if it has none or an invalid one."""

    record: AccountRecord | None = None
    held: AccountRecord | None = None
    revision: int = 0


class AccountDirectory:
    """All accounts of a cluster, as one gateway knows them.

    Attributes:
        owed: The places whose record the engine is to get, in order.
        refused: Entries of the engine that nobody with the cluster's key wrote for their place.
    """

    def __init__(self, key: ClusterKey) -> None:
        self._key = key
        self._places: dict[str, _Place] = {}
        self._by_hash: dict[bytes, str] = {}
        self._by_user: dict[str, tuple[str, ...]] = {}  # places whose record is of this user
        self.owed: dict[str, None] = {}
        self.refused: int = 0

    def __len__(self) -> int:
        return len(self._places)

    def place_of(self, name: str) -> str:
        """Return the place of a name and of all that look like it."""
        return self._key.name(f"account {skeleton(name)}")

    def at(self, place: str) -> AccountRecord | None:
        """Return the record at a place."""
        found = self._places.get(place)
        return None if found is None else found.record

    def find(self, name: str) -> AccountRecord | None:
        """Return the record of a name, or of one that looks like it."""
        return self.at(self.place_of(name))

    def records(self) -> Iterator[AccountRecord]:
        """Return the records of all names."""
        return (record for record in map(self.at, self.places()) if record is not None)

    def by_hash(self, hash: bytes) -> AccountRecord | None:
        """Return the record with this hash of a token."""
        return self.at(self._by_hash.get(hash, ""))

    def of_user(self, user: str) -> AccountRecord | None:
        """Return the record that counts of a user, under whatever name."""
        return max(self._of_user(user), key=lambda record: record.rank, default=None)

    def superseded(self, user: str) -> list[AccountRecord]:
        """Return the records of a user under names that it has no more, since it changed under another name later.

        Somebody put them back: gateways may have forgotten that those names were given up. Without this a token that
        was revoked after a change of the name would count again.
        """
        found = self._of_user(user)
        newest = max((record.version for record in found), default=0)
        return [record for record in found if not record.is_former and record.version < newest]

    def _of_user(self, user: str) -> list[AccountRecord]:
        """Return the records of a user, but for the names that it gave up."""
        found = map(self.at, self._by_user.get(user, ()))
        return [record for record in found if record is not None and record.word != RENAMED]

    def places(self) -> list[str]:
        """Return all places."""
        return list(self._places)

    def sealed(self, place: str) -> tuple[bytes, int]:
        """Return the record at a place for the engine, and the revision that it replaces there."""
        found = self._places[place]
        assert found.record is not None
        return self.seal(place, found.record), found.revision

    def seal(self, place: str, record: AccountRecord) -> bytes:
        """Return a record for the engine."""
        return self._key.seal(ACCOUNTS, place, record.to_bytes())

    def revision(self, place: str) -> int:
        """Return the revision of what the engine holds there, 0 for nothing."""
        found = self._places.get(place)
        return 0 if found is None else found.revision

    # ---- changes

    def remember(self, record: AccountRecord) -> AccountRecord | None:
        """Take a record that was stored or changed here; return the one that counts if that is another than before."""
        return self._take(self.place_of(record.name), record)

    def on_entry(self, place: str, data: bytes, revision: int, *, asked: bool = False) -> AccountRecord | None:
        """Take what the engine holds at a place, b"" for a deletion; return the record if another counts now.

        Args:
            asked: It answered just now, so a revision that fell shows that it was rolled back. Otherwise one that is
                not higher was overtaken: it does not say what the engine holds, but its record may count. Anybody who
                may publish can repeat a record with a number that another one will have.
        """
        found = self._places.get(place)
        record = self._opened(place, data)
        if found is not None and revision <= found.revision and not asked:
            return None if record is None else self._take(place, record)
        if found is None and record is None:  # nobody can fill the memory with entries that mean nothing
            return None
        found = self._places.setdefault(place, _Place())
        found.held, found.revision = record, revision
        return self._take(place, record)

    def on_written(self, place: str, record: AccountRecord, revision: int) -> AccountRecord | None:
        """Take a record that the engine took from here; return it if another counted before."""
        found = self._places.setdefault(place, _Place())
        if revision > found.revision:
            found.held, found.revision = record, revision
        return self._take(place, record)

    def begin_load(self) -> None:
        """Forget what the engine held: it is asked for all its entries, and may have been wiped or rolled back."""
        for place in self._places.values():
            place.held, place.revision = None, 0

    def on_loaded(self) -> None:
        """All entries of the engine were taken: what it lacks is owed."""
        self._owe(self._places)

    def _opened(self, place: str, data: bytes) -> AccountRecord | None:
        if not data:
            return None
        try:
            record = AccountRecord.from_bytes(self._key.open(ACCOUNTS, place, data))
            if self.place_of(record.name) != place:  # from a version with other look-alikes
                raise ValueError("the name belongs elsewhere")
        except ValueError:
            self.refused += 1
            return None
        return record

    def _take(self, place: str, record: AccountRecord | None) -> AccountRecord | None:
        found = self._places.setdefault(place, _Place())
        before = found.record
        counts = before if record is None else record if before is None else join(before, record)
        if before is not None and self._by_hash.get(before.hash) == place:
            del self._by_hash[before.hash]
        if counts is not None and counts.hash:
            self._by_hash[counts.hash] = place
        self._list_user(place, before, counts)
        found.record = counts
        self._owe((place,))
        return None if counts == before else counts

    def _list_user(self, place: str, before: AccountRecord | None, counts: AccountRecord | None) -> None:
        """List a place under the user whose record counts there now."""
        if before is not None and (counts is None or counts.user != before.user):
            left = tuple(each for each in self._by_user.pop(before.user, ()) if each != place)
            if left:
                self._by_user[before.user] = left
        if counts is not None and place not in self._by_user.get(counts.user, ()):
            self._by_user[counts.user] = (*self._by_user.get(counts.user, ()), place)

    def _owe(self, places: Iterable[str]) -> None:
        for place in places:
            found = self._places[place]
            if found.record is not None and found.record != found.held:
                self.owed[place] = None
            else:
                found.held = found.record  # one object for both
                self.owed.pop(place, None)


class SharedNames(Protocol):
    """The names of all gateways of a cluster, as Accounts asks for them: Cluster."""

    directory: AccountDirectory

    async def look(self, name: str) -> AccountRecord | None:
        """As AccountDirectory.find; what is not known here is asked of the engine, unless it is away."""

    def require(self) -> None:
        """Raise WebError (503, `cluster`) while the engine of the cluster is away."""

    async def claim(self, mine: AccountRecord, today: date, kept_days: int) -> AccountRecord:
        """Write a record of a name in place of the one there is, for all gateways; return it once it counts.

        Raises AccountNameTaken, and WebError as require.
        """

    def announce(self, record: AccountRecord) -> None:
        """Announce a record that was changed and stored here. It is written as soon as the engine is there."""
