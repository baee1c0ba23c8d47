"""Records of accounts: one order, in which gateways agree whatever they hear in whatever order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import reduce
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pchat.web.account_record import (
    DELETED,
    NAMED,
    REGISTERED,
    RELEASED,
    REVOKED,
    AccountRecord,
    join,
    label_of,
    parse_label,
)
from tests.web.cluster.records import DAY, RECORDS, record


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_joined_in_any_order_records_are_the_same_one(records: list[AccountRecord]) -> None:
    assert len({reduce(join, order) for order in permutations(records)}) == 1
    assert join(records[0], records[0]) == records[0]


@given(RECORDS, RECORDS)
def test_a_version_never_falls(one: AccountRecord, other: AccountRecord) -> None:
    assert join(one, other).version == max(one.version, other.version)


def test_of_equal_versions_the_stricter_state_counts() -> None:
    words = [REGISTERED, REVOKED, DELETED]
    for milder, stricter in pairwise(words):
        assert join(record(word=stricter), record(word=milder)).word == stricter
    assert join(record(word=REVOKED, version=1), record(word=REGISTERED, version=2)).word == REGISTERED


def test_a_use_after_a_revocation_does_not_undo_it() -> None:
    revoked = replace(record(word=REVOKED, version=2))
    used = replace(record(version=1), used=DAY + timedelta(5))
    assert join(used, revoked) == revoked
    later = replace(revoked, used=DAY + timedelta(1))
    assert join(revoked, later) == later and later.is_same_but_for_use(revoked)


@given(RECORDS)
def test_a_record_survives_its_bytes(one: AccountRecord) -> None:
    assert AccountRecord.from_bytes(one.to_bytes()) == one


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"name":1}', record().to_bytes().replace(b'"version":1', b'"version":-1')]
)
def test_other_bytes_are_no_record(data: bytes) -> None:
    with pytest.raises(ValueError):
        AccountRecord.from_bytes(data)


def test_unknown_fields_of_a_later_version_are_ignored() -> None:
    data = record().to_bytes()[:-1] + b',"later":true}'
    assert AccountRecord.from_bytes(data) == record()


def test_labels_of_all_versions_are_read() -> None:
    assert parse_label(label_of(NAMED, DAY, 0)) == (NAMED, DAY, 0)
    assert label_of(NAMED, DAY, 0) == "named@2026-11-22"  # a gateway that was never in a cluster stores what it did
    assert parse_label(label_of(REVOKED, DAY, 7)) == (REVOKED, DAY, 7)


def test_a_deleted_name_is_free_after_some_days_and_a_released_one_at_once() -> None:
    assert record(word=RELEASED).is_free(DAY, 90)
    assert not record(word=DELETED).is_free(DAY + timedelta(89), 90)
    assert record(word=DELETED).is_free(DAY + timedelta(90), 90)
    assert not record(word=REVOKED).is_free(DAY + timedelta(900), 90)


def test_no_secret_is_shown() -> None:
    shown = repr(record())
    assert record().secret.hex() not in shown and "secret" not in shown and "ada" not in shown
