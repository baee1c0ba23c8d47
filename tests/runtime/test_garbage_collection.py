"""Pauses of the garbage collector, and memory that goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import weakref
from pathlib import Path

import pytest

from p2pchat.runtime.garbage_collection import (
    MANY_LINK_ENDS,
    MANY_OBJECTS,
    SOME_LINK_ENDS,
    LinkEndCounter,
    _return_memory,
    gc_paused,
)
from tests.deadlines import WAIT, within


def test_garbage_collection_resumes_also_after_an_error() -> None:
    seen: list[bool] = []

    def load() -> None:
        with gc_paused():
            seen.append(gc.isenabled())
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        load()
    assert [*seen, gc.isenabled()] == [False, True]


def test_new_objects_are_not_searched_at_once_and_are_collected_later() -> None:
    gc.unfreeze()  # what the test run has frozen

    class Made:
        def __init__(self) -> None:
            self.itself = self

    with gc_paused():
        one, *others = [Made() for _ in range(2 * MANY_OBJECTS)]
    assert any(each is one for each in gc.get_objects(generation=2))
    gone = weakref.ref(one)
    del one, others
    gc.collect()
    gc.freeze()  # as it was
    assert gone() is None


def test_frozen_objects_of_a_program_stay_frozen() -> None:
    gc.freeze()
    with gc_paused():
        made: list[list[int]] = [[] for _ in range(2 * MANY_OBJECTS)]
    assert made and gc.get_freeze_count()


def test_nested_pauses_end_with_the_outer_one() -> None:
    with gc_paused():
        with gc_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_disabled_collector_stays_disabled() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


class Kept:
    """A reference cycle, which only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def is_old(one: object) -> bool:
    return any(each is one for each in gc.get_objects(generation=2))


def test_all_objects_age_when_there_are_many_more_links_than_ever() -> None:
    gc.unfreeze()  # what the test run has frozen
    gc.disable()  # only counted objects become old
    try:
        link_ends = LinkEndCounter()
        kept = Kept()
        for _ in range(MANY_LINK_ENDS - 1):
            link_ends.add()
        assert not is_old(kept)
        link_ends.add()
        assert is_old(kept)
    finally:
        gc.enable()
        gc.freeze()  # as it was


def test_links_that_come_and_go_keep_nothing_from_being_looked_through() -> None:
    gc.unfreeze()
    gc.disable()
    try:
        link_ends = LinkEndCounter()
        for _ in range(MANY_LINK_ENDS):
            link_ends.add()
        kept = Kept()
        for _ in range(3 * MANY_LINK_ENDS):
            link_ends.remove()
            link_ends.add()
        assert not is_old(kept)
    finally:
        gc.enable()
        gc.freeze()


# Memory that goes back to the system


def resident() -> int:
    """Return the bytes of memory that this process has (Linux)."""
    if sys.platform != "linux":
        raise NotImplementedError("there is no /proc")
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc gives memory back"
)
async def test_when_half_of_the_links_have_ended_free_memory_goes_back() -> None:
    link_ends = LinkEndCounter()
    for _ in range(SOME_LINK_ENDS):
        link_ends.add()
    held = [bytes(100_000) for _ in range(1000)]  # small enough for the heap
    last = bytes(1000)  # above them, so that the heap does not end where they do
    most = resident()
    held.clear()
    assert [link_ends.remove() for _ in range(SOME_LINK_ENDS // 2)] == [False] * (SOME_LINK_ENDS // 2 - 1) + [True]
    async with within(WAIT, "free memory to go back"):
        while resident() > most - 50_000_000:
            await asyncio.sleep(0.1)  # poll: memory of this process
    assert last


def test_on_another_system_memory_stays_with_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)  # may not be asked
    _return_memory()
