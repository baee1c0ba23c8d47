"""When addresses and names are committed; that nodes do so is among the tests of node.py."""

from __future__ import annotations

from p2pchat.config import Settings
from p2pchat.core.context import Context, Now
from p2pchat.core.effects import WakeAt
from p2pchat.core.node import FEW_PEERS, LazyCommit
from p2pchat.core.records import Address, Change

MANY = range(FEW_PEERS)
HEARD = Change(addresses=[Address("0a" * 32, "10.0.0.1:1")])


def context() -> Context:
    return Context(Settings(), "0b" * 32, bytes)


def test_it_waits_until_a_second_has_passed_and_is_woken_then_once() -> None:
    ctx = context()
    hearsay = LazyCommit(ctx, MANY)
    ctx.now = Now(5.0, 0)
    assert not hearsay.may_defer(HEARD)
    ctx.now = Now(5.4, 0)
    assert hearsay.may_defer(HEARD)
    assert hearsay.may_defer(HEARD)
    ctx.emit_wake()
    assert ctx.out == [WakeAt(6.0)]
    ctx.now = Now(6.0, 0)
    ctx.run_due()
    assert not hearsay.may_defer(HEARD)
    ctx.emit_wake()
    assert ctx.out == [WakeAt(6.0)]


def test_until_a_few_peers_are_written_down_nothing_waits() -> None:
    book: list[int] = []
    hearsay = LazyCommit(context(), book)
    for peer in range(FEW_PEERS + 1):
        assert not hearsay.may_defer(HEARD)
        book.append(peer)
    assert hearsay.may_defer(HEARD)


def test_what_nobody_tells_again_never_waits() -> None:
    ctx = context()
    hearsay = LazyCommit(ctx, MANY)
    assert not hearsay.may_defer(HEARD)
    assert not hearsay.may_defer(Change(addresses=HEARD.addresses, meta={"network": "x"}))


def test_nothing_waits_at_the_end_or_when_it_is_wanted_once() -> None:
    hearsay = LazyCommit(context(), MANY)
    assert not hearsay.may_defer(HEARD)
    hearsay.force()
    assert not hearsay.may_defer(HEARD)
    assert hearsay.may_defer(HEARD)
