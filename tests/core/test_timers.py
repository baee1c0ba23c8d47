"""Timers of a node: called in order; cancelled ones are removed early."""

from __future__ import annotations

from p2pchat.core.node_context import MIN_SWEEP, Timers


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
