"""Records of accounts for tests, drawn and plain."""

from __future__ import annotations

from datetime import date, timedelta
from hashlib import blake2b

from hypothesis import strategies as st

from p2pchat.web.account_record import (
    DELETED,
    NAMED,
    REGISTERED,
    RELEASED,
    RENAMED,
    REVOKED,
    AccountRecord,
    user_of,
)

DAY = date(2026, 11, 22)


def record(
    name: str = "ada", word: str = REGISTERED, version: int = 1, used: date = DAY, owner: str = ""
) -> AccountRecord:
    """Return a record; `owner` is whose key it has, "" for that of the name."""
    secret = blake2b((owner or name).encode(), digest_size=32).digest()
    gone = word in (DELETED, RELEASED, RENAMED)
    hash = blake2b(f"{name} {word} {version} {owner}".encode(), digest_size=32).digest()
    return AccountRecord(name, user_of(secret), b"" if gone else secret, b"" if gone else hash, word, used, version)


NAMES = ("ada", "Ada", "bob", "b0b", "zoe")
RECORDS = st.builds(
    record,
    st.sampled_from(NAMES),
    st.sampled_from([REGISTERED, NAMED, REVOKED, DELETED, RELEASED, RENAMED]),
    st.integers(0, 4),
    st.integers(0, 3).map(lambda days: DAY + timedelta(days)),
    st.sampled_from(["", "eve"]),
)
