"""The directory of a cluster: gateways agree, and the engine is never believed and always put right."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from p2pchat.web.account_record import REVOKED, AccountRecord, join
from p2pchat.web.cluster.account_directory import AccountDirectory
from p2pchat.web.cluster.cluster_key import ClusterKey
from tests.web.cluster.records import RECORDS, record

KEY = ClusterKey(b"k" * 32, "team")


class Bucket:
    """A bucket of an engine that does what it should, for as long as the test lets it."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, int]] = {}
        self.numbers = 0

    def write(self, place: str, value: bytes, expected: int) -> int:
        """Return the number of the stored value, 0 if another one was expected."""
        if self.values.get(place, (b"", 0))[1] != expected:
            return 0
        return self.put(place, value)

    def put(self, place: str, value: bytes) -> int:
        self.numbers += 1
        self.values[place] = value, self.numbers
        return self.numbers


def read(directory: AccountDirectory, bucket: Bucket) -> None:
    """List all values, as after each connection."""
    directory.begin_load()
    for place, (value, number) in bucket.values.items():
        directory.on_entry(place, value, number)
    directory.on_loaded()


def write(directory: AccountDirectory, bucket: Bucket) -> None:
    """Write once what is owed, and read what another gateway wrote instead."""
    for place in list(directory.owed):
        found = directory.at(place)
        assert found is not None
        value, expected = directory.sealed(place)
        if number := bucket.write(place, value, expected):
            directory.on_written(place, found, number)
        else:
            directory.on_entry(place, *bucket.values.get(place, (b"", 0)), asked=True)


def settle(directories: list[AccountDirectory], bucket: Bucket) -> None:
    """Let all gateways read and write until nothing is owed."""
    for _ in range(2 * len(directories) + 2):
        for directory in directories:
            read(directory, bucket)
            write(directory, bucket)
    assert not any(directory.owed for directory in directories)


def known(directory: AccountDirectory) -> dict[str, AccountRecord | None]:
    return {place: directory.at(place) for place in directory.places()}


def held(bucket: Bucket) -> dict[str, AccountRecord | None]:
    """Return what a gateway that knows nothing reads."""
    fresh = AccountDirectory(KEY)
    read(fresh, bucket)
    return known(fresh)


def of(*records: AccountRecord) -> AccountDirectory:
    directory = AccountDirectory(KEY)
    for one in records:
        directory.remember(one)
    return directory


CHANGES = st.lists(st.tuples(st.integers(0, 2), RECORDS), max_size=12)


@given(CHANGES, st.data())
def test_gateways_and_engine_end_alike_whatever_the_engine_did(
    changes: list[tuple[int, AccountRecord]], data: st.DataObject
) -> None:
    directories, bucket, old = [AccountDirectory(KEY) for _ in range(3)], Bucket(), dict[str, tuple[bytes, int]]()
    newest: dict[str, AccountRecord] = {}
    for at, one in changes:
        place = directories[0].place_of(one.name)
        directories[at].remember(one)
        newest[place] = join(newest[place], one) if place in newest else one
        match data.draw(
            st.sampled_from(["", "read", "write", "wiped", "back", "kept", "garbage", "swapped", "deleted"])
        ):
            case "read":
                read(directories[data.draw(st.integers(0, 2))], bucket)
            case "write":
                write(directories[data.draw(st.integers(0, 2))], bucket)
            case "wiped":
                bucket = Bucket()
            case "kept":
                old = dict(bucket.values)
            case "back":
                bucket.values, bucket.numbers = dict(old), max([number for _, number in old.values()], default=0)
            case "garbage" if bucket.values:
                bucket.put(data.draw(st.sampled_from(sorted(bucket.values))), b"x" * 60)
            case "swapped" if len(bucket.values) > 1:
                (one_place, one_value), (other_place, other_value), *_ = bucket.values.items()
                bucket.put(one_place, other_value[0])
                bucket.put(other_place, one_value[0])
            case "deleted" if bucket.values:
                bucket.put(data.draw(st.sampled_from(sorted(bucket.values))), b"")
    settle(directories, bucket)
    assert known(directories[0]) == known(directories[1]) == known(directories[2]) == newest
    assert held(bucket) == newest


def test_names_that_look_alike_have_one_place() -> None:
    directory = of(record("bob"))
    assert directory.place_of("bob") == directory.place_of("B0B") != directory.place_of("rob")
    assert directory.find("b0b") == record("bob")
    assert directory.find("rob") is None


def test_a_token_is_found_by_its_hash_until_it_has_another() -> None:
    directory, first, second = of(record()), record(), record(version=2)
    assert directory.by_hash(first.hash) == first
    directory.remember(second)
    assert directory.by_hash(first.hash) is None and directory.by_hash(second.hash) == second
    directory.remember(second.former("deleted", second.used))
    assert directory.by_hash(second.hash) is None and directory.by_hash(b"") is None


def owes_after(
    change: Callable[[Bucket, AccountDirectory], None], *records: AccountRecord
) -> tuple[AccountDirectory, list[AccountRecord | None]]:
    """Return a directory whose engine was changed by somebody, and the records that it owes then."""
    directory, bucket = of(*records), Bucket()
    settle([directory], bucket)
    change(bucket, directory)
    read(directory, bucket)
    return directory, [directory.at(place) for place in directory.owed]


def test_an_older_version_is_not_taken_and_the_newer_one_owed() -> None:
    newer = record(version=3, word=REVOKED)

    def rolled_back(bucket: Bucket, directory: AccountDirectory) -> None:
        place = directory.place_of("ada")
        bucket.put(place, directory.seal(place, record(version=2)))

    directory, owed = owes_after(rolled_back, newer)
    assert owed == [newer] and directory.find("ada") == newer and directory.refused == 0


def test_an_operators_own_record_is_refused() -> None:
    def forged(bucket: Bucket, directory: AccountDirectory) -> None:
        place = directory.place_of("ada")
        bucket.put(
            place, ClusterKey(b"e" * 32, "team").seal("accounts", place, record(version=9, owner="eve").to_bytes())
        )

    directory, owed = owes_after(forged, record())
    assert directory.refused == 1 and owed == [record()]
    before = len(directory)
    directory.on_entry("0" * 40, b"x" * 100, 99)  # where nothing is known it takes no memory
    assert len(directory) == before and directory.refused == 2


def test_an_entry_that_is_told_late_changes_nothing() -> None:
    directory, place = AccountDirectory(KEY), AccountDirectory(KEY).place_of("ada")
    newer, older = record(version=2), record(version=1)
    assert directory.on_entry(place, directory.seal(place, newer), 8) == newer
    assert directory.on_entry(place, directory.seal(place, older), 7) is None
    assert directory.revision(place) == 8 and not directory.owed


def test_a_newer_record_that_is_told_late_counts() -> None:
    """Anybody who may publish repeats what the engine holds, with the number that another record is about to have."""
    directory, place = AccountDirectory(KEY), AccountDirectory(KEY).place_of("ada")
    before, revoked = record(version=1), record(version=2, word=REVOKED)
    assert directory.on_entry(place, directory.seal(place, before), 8) == before
    assert directory.on_entry(place, directory.seal(place, revoked), 8) == revoked
    assert directory.on_entry(place, b"x" * 100, 8) is None
    assert directory.at(place) == revoked and list(directory.owed) == [place]
