"""Who is who: that what people do with their names costs nothing for ever."""

from __future__ import annotations

import tracemalloc

from p2pchat.messaging.users import UserDirectory

ADA, BOB = "a1" * 32, "b0" * 32


def test_who_takes_one_name_after_the_other_leaves_nothing_behind() -> None:
    people = UserDirectory(ADA, lambda user: ("unknown", "", 0))
    people.learn([(ADA, "ada"), (BOB, "bob")])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2000):
            people.learn([(BOB, f"bob {number}")])
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    people.learn([(BOB, "ada")])
    assert (people.label(ADA), people.label(BOB)) == ("ada#UGQ2DINB", "ada#WCYLBMFQ")
    people.learn([(BOB, "bob")])
    assert (people.label(ADA), people.find("bob").key) == ("ada", BOB)
