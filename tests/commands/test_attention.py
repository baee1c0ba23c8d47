"""Whether somebody looks: keys, the window, /away, and what others are told of it."""

from __future__ import annotations

import asyncio

from p2pchat.commands.read_tracking import ActivityTracker


class Watched:
    """An Attention in the room, what others were told, and how often more was to be seen."""

    def __init__(self, idle_after: float | None = None) -> None:
        self.told: list[tuple[str, str]] = []
        self.looks = 0
        self.where = "ROOM"
        self.activity = ActivityTracker(
            lambda status, text: self.told.append((status, text)), lambda: self.where, idle_after=idle_after
        )
        self.activity.on_view.append(self._look)

    def _look(self) -> None:
        self.looks += 1


async def test_what_is_in_front_is_seen_and_nothing_else() -> None:
    watched = Watched()
    assert [watched.activity.is_viewing(id) for id in ("ROOM", "BOB", "")] == [True, False, False]
    watched.where = "BOB"
    watched.activity.on_switch()
    assert (watched.activity.is_viewing("BOB"), watched.looks, watched.told) == (True, 1, [])


async def test_an_away_holds_until_back_whatever_is_typed() -> None:
    watched = Watched()
    watched.activity.away("lunch")
    watched.activity.on_input()
    watched.activity.on_switch()
    assert (watched.activity.is_viewing("ROOM"), watched.looks) == (False, 0)
    watched.activity.back()
    assert (watched.activity.is_viewing("ROOM"), watched.looks) == (True, 1)
    assert watched.told == [("idle", "lunch"), ("online", "")]


async def test_another_window_says_nothing_to_others() -> None:
    watched = Watched()
    watched.activity.on_focus(False)
    assert (watched.activity.is_viewing("ROOM"), watched.told) == (False, [])
    watched.activity.on_focus(True)
    assert (watched.activity.is_viewing("ROOM"), watched.looks, watched.told) == (True, 1, [])


async def test_keys_go_to_the_window_in_front() -> None:
    watched = Watched()
    watched.activity.on_focus(False)  # and the terminal never told that it came back
    watched.activity.on_input()
    assert (watched.activity.is_active, watched.looks) == (True, 1)


async def idle(watched: Watched) -> None:
    """Return when others are told that nobody types."""
    async with asyncio.timeout(10):
        while ("idle", "") not in watched.told:
            await asyncio.sleep(0)


async def test_who_types_nothing_is_idle_and_back_with_the_next_key() -> None:
    watched = Watched(idle_after=0.02)
    await idle(watched)
    assert not watched.activity.is_viewing("ROOM")
    watched.activity.on_input()
    assert (watched.activity.is_active, watched.looks) == (True, 1)
    assert watched.told == [("idle", ""), ("online", "")]
    watched.told.clear()
    await idle(watched)  # the next pause counts like the first
    watched.activity.close()


async def test_a_key_in_time_puts_it_off() -> None:
    watched = Watched(idle_after=0.05)
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.12
    while loop.time() < until:
        watched.activity.on_input()
        await asyncio.sleep(0)
    assert watched.told == []
    watched.activity.close()


async def test_a_pipe_is_in_use_for_ever() -> None:
    watched = Watched(idle_after=None)
    assert watched.activity._timer is None
    assert watched.activity.is_active
