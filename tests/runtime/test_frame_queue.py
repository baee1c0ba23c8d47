"""Turns of links: who floods waits for itself, and the frames of a link stay in order."""

from __future__ import annotations

import asyncio
from itertools import count, groupby
from random import Random

import pytest

from p2pchat.core.effects import Effect, PauseReading
from p2pchat.core.inputs import Got, Input, LinkDown, WriteRequest
from p2pchat.core.node_context import Now
from p2pchat.protocol import (
    Cert,
    Digest,
    Entries,
    Frame,
    Have,
    Here,
    Holds,
    Hosted,
    Mark,
    Peers,
    Ping,
    Pong,
    Statements,
    Want,
)
from p2pchat.runtime import driver as driver_module
from p2pchat.runtime.frame_queue import (
    PARTS,
    STATEMENTS_A_PART,
    FrameQueue,
    LinkInput,
    is_page,
    split_frames,
    units_of,
)
from p2pchat.settings import Settings
from p2pchat.testing import mesh

FLOOD, OTHER, THIRD, FOURTH = 1, 2, 3, 4
UNITS = Settings().turn_units
CERT = Cert(1, 2, "00" * 64)


def begin_log(number: int) -> Entries:
    return Entries("c0" * 32, f"{number:064x}", "ab" * 8, 1, "00" * 32, [(1, "{}")], "00" * 64)


def logs(link: int, many: int) -> Got:
    return Got(link, [begin_log(number) for number in range(many)])


class Pauses(dict[int, bool]):
    """Links that are not read."""

    def note(self, link: int, on: bool) -> None:
        self[link] = on

    @property
    def unread(self) -> set[int]:
        return {link for link, on in self.items() if on}


def make(pauses: Pauses | None = None) -> FrameQueue:
    return FrameQueue(Settings(), (Pauses() if pauses is None else pauses).note)


def take(turns: FrameQueue, *, disk_is_behind: bool = False, is_busy: bool = False) -> list[LinkInput]:
    """Return what is handled in one turn that has time for one part of each link."""
    taken = [turns.take(link) for link in turns.little()]
    if not disk_is_behind and not (is_busy and taken):
        taken += [turns.take(link, PARTS) for link in list(turns.queues)]
    turns.end()
    return [part for part in taken if part is not None]


def links_of(taken: list[LinkInput]) -> list[int]:
    return [input.link for input in taken]


def work(taken: list[LinkInput], link: int) -> int:
    frames = [frame for input in taken if isinstance(input, Got) and input.link == link for frame in input.frames]
    return sum(map(units_of, frames))


@pytest.mark.parametrize(
    ("frame", "units"),
    [
        (begin_log(1), 37),
        (Entries("c0" * 32, "ab" * 32, "ab" * 8, 2, "00" * 32, [(1, "{}")] * 256, "00" * 64), 260),
        (Here([Hosted("ab" * 32, "x", "online")] * 8), 3),
        (Here([Hosted("ab" * 32, "x", "online", cert=CERT)] * 8, ["cd" * 32] * 8), 35),
        (Have({"c0" * 32: {f"{n:064x}": [Mark("ab" * 8, 1, "ab" * 32)] for n in range(400)}}), 101),
        (Have({}, lacks={"c0" * 32: {"ab" * 32: [("ab" * 8, 1, 1)] * 400}}), 101),
        (Digest(sums={f"{n:064x}": "00" * 32 for n in range(40)}), 11),
        (Peers(linked=["ab" * 32] * 4), 2),
        (Holds(["ab" * 32] * 4, ["cd" * 32] * 4, ["ef" * 32] * 4), 4),
        (Want(1, "c0" * 32, "ab" * 32, []), 1),
        (Ping(), 1),
    ],
)
def test_a_frame_is_as_much_work_as_what_it_holds(frame: Frame, units: int) -> None:
    assert units_of(frame) == units


def test_while_little_waits_all_of_it_is_handled_unchanged() -> None:
    turns = make()
    inputs: list[LinkInput] = [logs(FLOOD, 13), Got(OTHER, [Ping()]), LinkDown(OTHER, "lost")]
    for input in inputs:
        turns.put(input)
    assert take(turns) == inputs
    assert not turns.queues


def test_one_part_after_the_other_is_handled_each_of_another_link() -> None:
    turns = make()
    for link in (FLOOD, OTHER):
        turns.put(logs(link, 1000))
    take(turns)
    taken = take(turns)
    assert links_of(taken) == [FLOOD, OTHER]
    assert all(UNITS // PARTS - 37 < work(taken, link) <= UNITS // PARTS for link in (FLOOD, OTHER))
    turns.put(logs(THIRD, 1000))
    assert [turns.take(next(iter(turns.queues)), PARTS).link for _ in range(4)] == [FLOOD, OTHER, THIRD, FLOOD]  # type: ignore[union-attr]


def test_links_of_which_little_waits_go_first() -> None:
    turns = make()
    turns.put(logs(FLOOD, 1000))
    take(turns)
    turns.put(Got(OTHER, [Ping()]))
    turns.put(logs(FLOOD, 1))  # behind what is left
    turns.put(logs(THIRD, 1))
    assert links_of(take(turns)) == [OTHER, THIRD, FLOOD]


def test_who_sent_much_waits_while_the_disk_is_behind_or_others_have_something() -> None:
    turns = make()
    turns.put(logs(FLOOD, 1000))
    take(turns)
    for hindered in ({"disk_is_behind": True}, {"is_busy": True}):
        turns.put(Got(OTHER, [Ping()]))
        assert links_of(take(turns, **hindered)) == [OTHER]
    assert take(turns, disk_is_behind=True) == []
    assert links_of(take(turns)) == [FLOOD]


def test_bytes_are_decoded_when_it_is_the_turn_of_their_link() -> None:
    bytes_of, pauses, decoded = {FLOOD: 100_000, OTHER: 100}, Pauses(), list[int]()

    def decode(link: int) -> int:
        decoded.append(link)
        bytes_of[link] = max(0, bytes_of[link] - 50_000)
        turns.put(Got(link, [Ping(), Pong()]))
        return bytes_of[link]

    turns = FrameQueue(Settings(), pauses.note, decode)
    for link in (FLOOD, OTHER):
        turns.add(link, bytes_of[link])
    assert (turns.little(), decoded) == ([OTHER], [])
    assert turns.take(OTHER) == Got(OTHER, [Ping(), Pong()])
    turns.end()
    assert ([*turns.queues], pauses.unread) == ([FLOOD], {FLOOD})
    for _ in range(2):
        assert turns.take(FLOOD) == Got(FLOOD, [Ping(), Pong()])
    turns.end()
    assert (turns.queues, pauses.unread, decoded) == ({}, set(), [OTHER, FLOOD, FLOOD])


def test_bytes_of_a_held_link_wait() -> None:
    def decode(link: int) -> int:
        turns.put(Got(link, [Ping()]))
        return 0

    turns = FrameQueue(Settings(), Pauses().note, decode)
    turns.hold(FLOOD)
    turns.add(FLOOD, 100)
    assert turns.queues == {}
    turns.release(FLOOD)
    assert turns.take(FLOOD) == Got(FLOOD, [Ping()])


def test_a_link_is_not_read_while_frames_of_it_wait() -> None:
    pauses = Pauses()
    turns = make(pauses)
    turns.put(logs(FLOOD, 80))
    take(turns)
    assert pauses.unread == {FLOOD}
    while turns.queues:
        take(turns)
    assert pauses.unread == set()


def test_a_held_link_is_neither_handled_nor_read() -> None:
    pauses = Pauses()
    turns = make(pauses)
    turns.put(Got(FLOOD, [Ping()]))
    turns.hold(FLOOD)
    turns.put(Got(FLOOD, [Pong()]))
    assert not turns.queues
    assert (take(turns), pauses.unread) == ([], {FLOOD})
    turns.release(FLOOD)
    assert take(turns) + take(turns) == [Got(FLOOD, [Ping()]), Got(FLOOD, [Pong()])]
    assert pauses.unread == set()


def test_frames_of_a_held_link_that_ends_count_as_unread() -> None:
    turns = make()
    turns.put(logs(FLOOD, 1000))
    turns.hold(FLOOD)
    turns.put(LinkDown(FLOOD, "lost"))
    assert take(turns) == [LinkDown(FLOOD, "lost")]
    turns.release(FLOOD)
    assert take(turns) == []


@pytest.mark.parametrize("seed", range(30))
def test_each_link_has_all_of_its_frames_in_order_whatever_happens(seed: int) -> None:
    chance, numbers = Random(seed), count()
    pauses = Pauses()
    turns = make(pauses)
    sent: dict[int, list[str]] = {link: [] for link in (FLOOD, OTHER, THIRD, FOURTH)}
    taken: dict[int, list[str]] = {link: [] for link in sent}

    def handle(*, behind: bool, is_busy: bool = False) -> None:
        for input in take(turns, disk_is_behind=behind, is_busy=is_busy):
            assert isinstance(input, Got)
            taken[input.link] += [frame.u for frame in input.frames if isinstance(frame, Entries)]

    for _ in range(200):
        link = chance.choice([*sent])
        match chance.choice(("put", "put", "take", "hold", "release")):
            case "put":
                frames = [begin_log(next(numbers)) for _ in range(chance.choice((0, 1, 20, 300)))]
                sent[link] += [frame.u for frame in frames]
                turns.put(Got(link, [*frames]))
            case "take":
                handle(behind=chance.random() < 0.3, is_busy=chance.random() < 0.3)
            case "hold":
                turns.hold(link)
            case "release":
                turns.release(link)
    for link in sent:
        turns.release(link)
    while turns.queues:
        handle(behind=False)
    assert taken == sent
    assert pauses.unread == set()


async def test_a_flood_of_one_link_delays_neither_own_texts_nor_other_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "TURN_SECONDS", 0.0)  # one part a turn
    async with mesh("ada") as net:
        [ada] = net.peers
        driver, handled = ada._driver, list[Input]()
        handle = driver.node.handle

        def watch(input: Input, now: Now) -> list[Effect]:
            handled.append(input)
            return handle(input, now)

        monkeypatch.setattr(driver.node, "handle", watch)
        driver.put(logs(FLOOD, 5000))
        driver.put(Got(OTHER, [Ping()]))
        writing = asyncio.ensure_future(ada.broadcast("not behind it"))
        for _ in range(4):  # turns of the loop: far fewer than the flood takes
            await asyncio.sleep(0)
        assert [input for input in handled if isinstance(input, WriteRequest)]
        assert [input for input in handled if isinstance(input, Got) and input.link == OTHER]
        assert sum(len(input.frames) for input in handled if isinstance(input, Got)) < 500
        await writing
        while driver._turns.queues:
            await asyncio.sleep(0)
        came = [frame for input in handled if isinstance(input, Got) and input.link == FLOOD for frame in input.frames]
        assert came == logs(FLOOD, 5000).frames


async def test_who_sent_much_waits_a_moment_while_programs_have_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "WAIT_SECONDS", 60.0)
    async with mesh("ada") as net:
        [ada] = net.peers
        driver, handled = ada._driver, list[str]()
        handle = driver.node.handle

        def watch(input: Input, now: Now) -> list[Effect]:
            match input:
                case Got():
                    handled.append("flood" if input.link == FLOOD else "other")
                case WriteRequest():
                    handled.append("text")
            return handle(input, now)

        monkeypatch.setattr(driver.node, "handle", watch)
        driver._much_at = asyncio.get_running_loop().time()
        driver.put(logs(FLOOD, 40_000))
        driver._pump_now()
        handled.clear()
        for _ in range(3):
            driver.put(Got(OTHER, [Ping()]))
            driver._pump_now()
        assert handled == ["other"] * 3
        writing = asyncio.ensure_future(ada.broadcast("something to do"))
        while not driver.writes.waiting:
            await asyncio.sleep(0)
        handled.clear()
        driver._pump_now()
        assert handled == ["text"]
        await writing
        driver._much_at -= 61.0  # it has waited for long
        handled.clear()
        driver.put(Got(OTHER, [Ping()]))
        with monkeypatch.context() as patch:
            patch.setattr(driver, "_flush_links", lambda: handled.append("written"))
            driver._pump_now()
        assert [what for what, _ in groupby(handled)][:3] == ["other", "written", "flood"]


async def test_of_two_pauses_of_a_link_the_longer_one_counts() -> None:
    async with mesh("ada") as net:
        driver = net.peers[0]._driver
        driver._pause_reading(PauseReading(FLOOD, 0.05))
        driver._pause_reading(PauseReading(FLOOD, 30.0))
        driver._pause_reading(PauseReading(FLOOD, 0.01))
        driver.put(Got(FLOOD, [Ping()]))
        assert not driver._turns.queues
        [(resume_at, _)] = driver._resume_timers.values()
        assert resume_at - asyncio.get_running_loop().time() > 20


def test_a_longer_pause_of_a_link_may_follow_one_that_is_as_good_as_over() -> None:
    """uvloop makes no timer of less than half a millisecond, but a callback of the next turn."""
    uvloop = pytest.importorskip("uvloop", reason="there is none for Windows")

    async def scenario() -> None:
        async with mesh("ada") as net:
            driver = net.peers[0]._driver
            driver._pause_reading(PauseReading(FLOOD, 0.0001))
            driver._pause_reading(PauseReading(FLOOD, 30.0))
            await asyncio.sleep(0)
            driver.put(Got(FLOOD, [Ping()]))
            assert not driver._turns.queues

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


def parts_of(turns: FrameQueue, *inputs: LinkInput) -> list[int]:
    """Return how many frames each part of these inputs of one link has."""
    for input in inputs:
        turns.put(input)
    parts = list[int]()
    while turns.queues:
        part = turns.take(next(iter(turns.queues)))
        parts.append(len(part.frames) if isinstance(part, Got) else 0)
    return parts


def test_frames_of_one_read_are_handled_in_parts_and_entries_stay_together() -> None:
    assert parts_of(make(), Got(OTHER, [Ping()] * 16)) == [16]
    assert parts_of(make(), Got(OTHER, [Ping()] * 40)) == [16, 16, 8]
    entries = Got(OTHER, [Entries("c0" * 32, "ab" * 32, "ab" * 8, 2, "00" * 32, [(1, "{}")], "00" * 64)] * 100)
    assert parts_of(make(), entries, LinkDown(OTHER, "lost")) == [100, 0]


def test_many_users_with_certificates_are_handled_in_parts() -> None:
    gone = ["cd" * 32]
    many = [Hosted(f"{number:064x}", "x", "online", cert=CERT) for number in range(60)]
    input = split_frames(Got(OTHER, [Ping(), Here(many, gone), Pong()]))
    pages = [Here(many[:25], more=True), Here(many[25:50], more=True), Here(many[50:], gone)]
    assert input == Got(OTHER, [Ping(), *pages, Pong()])
    assert parts_of(make(), input) == [1, 1, 1, 1, 1]
    few = Got(OTHER, [Here(many[:25], gone, more=True), Here([Hosted("ab" * 32, "x", "online")] * 60)])
    assert split_frames(few) == few
    assert split_frames(LinkDown(OTHER, "lost")) == LinkDown(OTHER, "lost")


def test_a_frame_with_many_statements_is_several() -> None:
    said = [(str(number), "00" * 64) for number in range(2 * STATEMENTS_A_PART + 1)]
    frame = Statements("0a" * 32, "0b" * 16, s=said)
    first, second, last = split_frames(Got(OTHER, [frame])).frames  # type: ignore[union-attr]
    assert (first, second) == (Statements("0a" * 32, s=said[:50]), Statements("0a" * 32, s=said[50:100]))
    assert last == Statements("0a" * 32, "0b" * 16, s=said[100:])
    for exact in (said[:STATEMENTS_A_PART], said[: 2 * STATEMENTS_A_PART], []):
        parts = split_frames(Got(OTHER, [Statements(s=exact)])).frames  # type: ignore[union-attr]
        assert [one for part in parts for one in part.s] == exact  # type: ignore[union-attr]
        assert all(len(part.s) <= STATEMENTS_A_PART for part in parts)  # type: ignore[union-attr]
    assert not is_page(Got(OTHER, [last])) and is_page(Got(OTHER, [first]))
