"""Pauses of the garbage collector during bulk allocation."""

from __future__ import annotations

import gc
import weakref

import pytest

from p2pchat.runtime.gc_tuning import MANY_LINK_ENDS, MANY_OBJECTS, LinkEndCounter, gc_paused


def test_garbage_is_collected_again_afterwards_also_when_it_failed() -> None:
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


def test_one_within_another_ends_with_the_outer_one() -> None:
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
    gc.disable()  # only what is counted as old becomes so
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
