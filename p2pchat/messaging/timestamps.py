"""Points in time between the microseconds inside and what programs and people see, always UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from p2pchat.protocol import MAX_INT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_micros() -> int:
    """Return the present, UTC microseconds."""
    return time.time_ns() // 1000


def aware(micros: int) -> datetime:
    """Return microseconds as an aware datetime; the wire knows none beyond 2^53, which is the year 2255."""
    return EPOCH + timedelta(microseconds=micros)


def micros_of(moment: datetime) -> int:
    """Return an aware datetime as microseconds.

    Raises:
        ValueError: It is naive: nobody knows which zone it means.
    """
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone: use datetime.now(UTC) or .replace(tzinfo=...)")
    return (moment - EPOCH) // timedelta(microseconds=1)


def claim_of(moment: datetime) -> int:
    """Return as microseconds when something is said to be written.

    Raises:
        ValueError: It is naive, or before 1970, or beyond what the wire knows.
    """
    micros = micros_of(moment)
    if not 0 <= micros <= MAX_INT:
        raise ValueError("a message can be claimed to be from 1970 to 2255")
    return micros


def iso(micros: int) -> str:
    """Return ISO 8601 with microseconds and Z, as in every event line."""
    return aware(micros).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
