"""Timers of a node: called in order; cancelled ones are removed early."""

from __future__ import annotations

from p2pchat.core.node_context import DUE_AT_ONCE, MIN_SWEEP, Timers


def test_cancelled_timers_do_not_pile_up_and_the_others_come_in_order() -> None:
    timers = Timers()
    came: list[int] = []
    for number in range(1000):
        timer = timers.at(1000 - number, lambda number=number: came.append(number))  # type: ignore[misc]
        if number % 100:
            timer.cancel()
    assert len(timers._heap) <= MIN_SWEEP
    timers.run_due(1000.0)
    assert came == list(range(900, -1, -100))


def test_of_many_that_are_due_a_part_is_called_in_one_step() -> None:
    timers, came = Timers(), list[int]()
    for number in range(2 * DUE_AT_ONCE + 1):
        timers.at(1.0, lambda number=number: came.append(number))  # type: ignore[misc]
    assert timers.wake_at() == 1.0
    for step in (1, 2):
        timers.run_due(5.0)
        assert (len(came), timers.wake_at()) == (step * DUE_AT_ONCE, 1.0)  # the rest comes in the next step
    timers.run_due(5.0)
    assert (came, timers.wake_at()) == (list(range(2 * DUE_AT_ONCE + 1)), None)
