"""Deadlines of a node: called in order; cancelled ones are removed early."""

from __future__ import annotations

from p2pchat.config import Settings
from p2pchat.core.context import MIN_SWEEP, Context, Now


def test_cancelled_deadlines_do_not_pile_up_and_the_others_come_in_order() -> None:
    ctx = Context(Settings(), "0a" * 32, bytes)
    came: list[int] = []
    for number in range(1000):
        timer = ctx.after(1000 - number, lambda number=number: came.append(number))  # type: ignore[misc]
        if number % 100:
            timer.cancel()
    assert len(ctx._heap) <= MIN_SWEEP
    ctx.now = Now(1000.0, 0)
    ctx.run_due()
    assert came == list(range(900, -1, -100))
