"""Circuits as their carrier sees them: who may begin one, what passes, how much waits, and how they end."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import CircuitReceived, Close, DialThrough, Effect, PauseReading, Send
from p2pchat.core.inputs import CircuitSent, DialFailed, LinkAccepted, LinkDown, LinkDrained, LinkFilled
from p2pchat.core.mesh.circuits import (
    FIRST_ROOM,
    MAX_DIALLED,
    MAX_OF_PAIR,
    WINDOW_BYTES,
    CircuitWindow,
)
from p2pchat.core.work_limits import rates_of
from p2pchat.protocol import MAX_CARRIED_BYTES, Bye, Carried, Circuit, Frame, Peers, Pong
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import Key, Meeting, Post, peers_in_order, record_of

ADA, BOB, CYD, DAN = peers_in_order("ada", "bob", "cyd", "dan")


def star(settings: Settings | None = None, *others: Key) -> tuple[Post, dict[Key, int]]:
    """Return bob, who is linked with ada, cyd, dan and others, and his links by their keys."""
    bob, links = Post(BOB, settings=settings), dict[Key, int]()
    for number, key in enumerate((ADA, CYD, DAN, *others)):
        meeting = Meeting(bob, Post(key))
        meeting._links = 100 * number
        links[key] = meeting.connect(meeting.b)
        meeting.take(bob)
    return bob, links


def sent(effects: list[Effect], link: int) -> list[Frame]:
    """Return the frames of circuits sent on a link."""
    frames = [effect.frame for effect in effects if isinstance(effect, Send) and link in effect.links]
    return [frame for frame in frames if isinstance(frame, (Circuit, Carried, Bye))]


def number(key: Key, nth: int = 1) -> int:
    """Return the number of the nth circuit that a peer begins on its link with bob."""
    return 2 * nth + (key.id > BOB.id)


@pytest.fixture
def carried() -> tuple[Post, dict[Key, int]]:
    """Return bob, who carries one circuit from ada to cyd."""
    bob, links = star()
    effects = bob.got(links[ADA], Circuit(number(ADA), to=CYD.id))
    assert sent(effects, links[CYD]) == [Circuit(number(BOB), origin=ADA.id)]
    return bob, links


def test_a_carrier_passes_bytes_and_ends_on_under_its_own_numbers(carried: tuple[Post, dict[Key, int]]) -> None:
    bob, links = carried
    effects = bob.got(links[ADA], Carried(number(ADA), b"hello"))
    assert sent(effects, links[CYD]) == [Carried(number(BOB), b"hello")]
    effects = bob.got(links[CYD], Carried(number(BOB), b"hi"), Circuit(number(BOB), end="closed"))
    assert sent(effects, links[ADA]) == [Carried(number(ADA), b"hi"), Circuit(number(ADA), end="closed")]
    assert sent(effects, links[DAN]) == []
    assert sent(bob.got(links[ADA], Carried(number(ADA), b"late")), links[CYD]) == []


@pytest.mark.parametrize("down", [ADA, CYD])
def test_a_circuit_ends_with_either_link(carried: tuple[Post, dict[Key, int]], down: Key) -> None:
    bob, links = carried
    other = CYD if down is ADA else ADA
    effects = bob.handle(LinkDown(links[down], "lost"))
    assert sent(effects, links[other]) == [Circuit(number(BOB if other is CYD else ADA), end="lost")]


def test_more_than_there_is_room_for_ends_a_circuit(carried: tuple[Post, dict[Key, int]]) -> None:
    bob, links = carried
    assert sent(bob.got(links[ADA], Carried(number(ADA), bytes(FIRST_ROOM))), links[CYD])
    effects = bob.got(links[ADA], Carried(number(ADA), b"x"))
    assert sent(effects, links[ADA]) == [Circuit(number(ADA), end="limit")]
    assert sent(effects, links[CYD]) == [Circuit(number(BOB), end="limit")]


@pytest.mark.parametrize("begins", [True, False], ids=["to others", "from others"])
def test_a_carrier_passes_on_less_room_the_more_circuits_a_member_has(begins: bool) -> None:
    """So what waits at a carrier for one member is some windows, however many send to it, or it sends to."""
    many = [Key(f"one {nth}") for nth in range(32)]
    bob, links = star(None, *many)
    rooms = []
    for nth, key in enumerate(many, 1):
        one, other = (ADA, key) if begins else (key, ADA)
        (circuit,) = sent(bob.got(links[one], Circuit(number(one, nth), to=other.id)), links[other])
        assert isinstance(circuit, Circuit)
        told = sent(bob.got(links[other], Carried(circuit.id, room=WINDOW_BYTES)), links[one])
        rooms += [one.room for one in told if isinstance(one, Carried)] or [FIRST_ROOM]
    assert (rooms[0], rooms[-1]) == (WINDOW_BYTES, FIRST_ROOM)
    assert sum(rooms) < 5 * WINDOW_BYTES


@pytest.mark.parametrize("window", [FIRST_ROOM, 2 * FIRST_ROOM, WINDOW_BYTES - FIRST_ROOM, WINDOW_BYTES])
@pytest.mark.parametrize("circuits", [1, 2, 32])
def test_a_circuit_goes_on_whatever_room_the_receiver_gives_at_once(window: int, circuits: int) -> None:
    """One that took less than 256 KiB at once got no more room once its member had two circuits."""
    many = [Key(f"one {nth}") for nth in range(circuits)]
    bob, links = star(None, *many)
    for nth, key in enumerate(many, 1):
        bob.got(links[ADA], Circuit(number(ADA, nth), to=key.id))
    taken, room, other = 0, FIRST_ROOM, links[many[-1]]
    for _ in range(4 * WINDOW_BYTES // FIRST_ROOM):
        part = min(MAX_CARRIED_BYTES, room - taken)
        assert part > 0, f"no room after {taken} bytes"
        [passed] = sent(bob.got(links[ADA], Carried(number(ADA, circuits), bytes(part))), other)
        assert isinstance(passed, Carried)
        taken += len(passed.d)
        for told in sent(bob.got(other, Carried(passed.id, room=taken + window)), links[ADA]):
            assert isinstance(told, Carried)
            room = told.room
        assert room <= taken + window


def test_two_peers_of_one_member_have_a_whole_window() -> None:
    """Before: half of one, since both ends counted for the member: 1.4 MB/s at 80 ms."""
    bob, links = star()
    bob.links.up[links[CYD]].member = ADA.id
    bob.got(links[ADA], Circuit(number(ADA), to=CYD.id))
    told = sent(bob.got(links[CYD], Carried(number(BOB), room=WINDOW_BYTES)), links[ADA])
    assert told == [Carried(number(ADA), room=WINDOW_BYTES)]


def test_no_more_room_is_passed_on_than_a_window_above_what_went_out(carried: tuple[Post, dict[Key, int]]) -> None:
    """Else two members fill the memory of a carrier: one sends at will, the other one reads nothing."""
    bob, links = carried
    told = sent(bob.got(links[CYD], Carried(number(BOB), room=2**53 - 1)), links[ADA])
    assert told == [Carried(number(ADA), room=WINDOW_BYTES)]


def test_room_waits_while_the_link_that_it_came_on_is_full(carried: tuple[Post, dict[Key, int]]) -> None:
    bob, links = carried
    bob.handle(LinkFilled(links[CYD]))
    assert sent(bob.got(links[CYD], Carried(number(BOB), b"hi", WINDOW_BYTES)), links[ADA]) == [
        Carried(number(ADA), b"hi")
    ]
    assert sent(bob.handle(LinkDrained(links[CYD])), links[ADA]) == [Carried(number(ADA), room=WINDOW_BYTES)]
    assert sent(bob.handle(LinkDrained(links[CYD])), links[ADA]) == []


BURST = Settings().flood_burst + 100  # frames


@pytest.mark.parametrize(
    "frames",
    [
        [Carried(number(ADA), b"x")] * BURST,
        [Carried(number(ADA))] * BURST,
        [Carried(number(ADA, 9), bytes(MAX_CARRIED_BYTES))] * BURST,
        [Carried(number(ADA), room=FIRST_ROOM + n) for n in range(BURST)],
    ],
    ids=["one byte", "nothing", "of no circuit", "a little more room"],
)
def test_frames_that_no_room_bounds_are_charged(carried: tuple[Post, dict[Key, int]], frames: list[Frame]) -> None:
    """Before: the window of one circuit, byte by byte, was 12 MB in the buffer of who reads nothing."""
    bob, links = carried
    bob.got(links[CYD], Carried(number(BOB), room=WINDOW_BYTES))
    paused = [effect.link for effect in bob.got(links[ADA], *frames) if isinstance(effect, PauseReading)]
    assert paused == [links[ADA]]


def test_what_a_circuit_carries_is_not_charged_nor_what_an_end_gets_of_others(
    carried: tuple[Post, dict[Key, int]],
) -> None:
    bob, links = carried
    effects = list[Effect]()
    for nth in range(BURST):
        effects += bob.got(links[CYD], Carried(number(BOB), room=WINDOW_BYTES + nth * FIRST_ROOM))
        effects += bob.got(links[ADA], Carried(number(ADA), bytes(MAX_CARRIED_BYTES)))
    assert len([one for one in sent(effects, links[CYD]) if isinstance(one, Carried)]) == BURST
    bob.got(links[DAN], Circuit(number(DAN), origin=ADA.id))
    effects += bob.got(links[DAN], *[Carried(number(DAN), b"x")] * BURST)  # from ada, whom dan charges
    assert not [effect for effect in effects if isinstance(effect, PauseReading)]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Circuit(2, to=Key("nobody").id), "unknown"),
        (Circuit(2, to=ADA.id), "unknown"),
        (Circuit(2), "unknown"),
    ],
    ids=["nobody is linked", "with itself", "to nobody, from nobody"],
)  # fmt: skip
def test_a_circuit_leads_to_somebody_who_is_linked(frame: Circuit, why: str) -> None:
    bob, links = star()
    assert sent(bob.got(links[ADA], frame), links[ADA]) == [Circuit(2, end=why)]
    assert not bob.links.circuits.legs.get(links[ADA])


def test_two_peers_have_few_circuits_with_each_other() -> None:
    """Else each of them has room of its own, and what waits at the carrier for two members is as much as for all."""
    bob, links = star()
    for nth in range(1, MAX_OF_PAIR + 1):
        assert not sent(bob.got(links[ADA], Circuit(number(ADA, nth), to=CYD.id)), links[ADA])
    more = number(ADA, MAX_OF_PAIR + 1)
    assert sent(bob.got(links[ADA], Circuit(more, to=CYD.id)), links[ADA]) == [Circuit(more, end="busy")]
    assert sent(bob.got(links[CYD], Circuit(number(CYD), to=ADA.id)), links[CYD]) == [Circuit(number(CYD), end="busy")]
    assert not sent(bob.got(links[ADA], Circuit(more + 2, to=DAN.id)), links[ADA])
    bob.got(links[CYD], Circuit(number(BOB), end="closed"))
    assert not sent(bob.got(links[ADA], Circuit(more + 4, to=CYD.id)), links[ADA])


def test_a_circuit_goes_over_no_other_circuit() -> None:
    bob, links = star()
    bob.links.up[links[CYD]].carrier = DAN.id
    effects = bob.got(links[ADA], Circuit(number(ADA), to=CYD.id))
    assert sent(effects, links[ADA]) == [Circuit(number(ADA), end="unknown")]
    begun = number(CYD)
    assert sent(bob.got(links[CYD], Circuit(begun, to=ADA.id)), links[CYD]) == [Circuit(begun, end="unknown")]
    effects = bob.got(links[CYD], Circuit(number(CYD, 2), origin=ADA.id))
    assert sent(effects, links[CYD]) == [Circuit(number(CYD, 2), end="unknown")]


def test_who_is_told_to_carry_nothing_says_so_and_refuses() -> None:
    bob, links = star(Settings(max_circuits=0))
    assert sent(bob.got(links[ADA], Circuit(number(ADA), to=CYD.id)), links[ADA]) == [Circuit(number(ADA), end="busy")]


def test_a_member_begins_circuits_to_a_peer_at_a_rate() -> None:
    """Before, of all its circuits: three members used up those that a peer takes from one carrier, 20 a second."""
    bob, links = star()
    at_once = int(rates_of(Settings())["circuits"].at_once)
    ends = list[list[Frame]]()
    for nth in range(1, at_once + 2):
        ends.append(sent(bob.got(links[ADA], Circuit(number(ADA, nth), to=CYD.id)), links[ADA]))
        bob.got(links[ADA], Circuit(number(ADA, nth), end="closed"))
    assert ends[:-1] == [[]] * at_once
    assert ends[-1] == [Circuit(number(ADA, at_once + 1), end="busy")]
    assert sent(bob.got(links[DAN], Circuit(number(DAN), to=CYD.id)), links[DAN]) == []  # another member
    again = number(ADA, at_once + 2)
    assert sent(bob.got(links[ADA], Circuit(again, to=DAN.id)), links[ADA]) == []  # to another peer


@pytest.mark.parametrize("wrong", [number(BOB), number(ADA) - 2], ids=["of the other side", "not above the last"])
def test_a_number_that_its_beginner_may_not_choose_ends_the_link(wrong: int) -> None:
    bob, links = star()
    bob.got(links[ADA], Circuit(number(ADA), to=CYD.id))
    closed = [effect for effect in bob.got(links[ADA], Circuit(wrong, to=CYD.id)) if isinstance(effect, Close)]
    assert [(effect.link, effect.bye and effect.bye.code) for effect in closed] == [(links[ADA], "order")]


def test_no_stranger_begins_a_circuit() -> None:
    bob, links = star()
    bob.handle(LinkAccepted(900, "10.0.0.9"))
    effects = bob.got(900, Circuit(2, to=ADA.id))
    assert sent(effects, links[ADA]) == []
    assert [effect.link for effect in effects if isinstance(effect, Close)] == [900]


# ---- at the ends


def test_who_cannot_be_dialled_is_dialled_through_somebody_linked_with_both() -> None:
    bob, links = star()
    eve = Key("eve")
    tell = Peers([record_of(eve)], [eve.id], can=["carry"])
    effects = bob.got(links[CYD], tell) + bob.wake(3.0)
    (dial,) = [effect for effect in effects if isinstance(effect, DialThrough)]
    assert (dial.link, dial.circuit) == (links[CYD], number(BOB))
    assert sent(effects, links[CYD]) == [Circuit(number(BOB), to=eve.id)]
    effects = bob.handle(CircuitSent(links[CYD], Carried(number(BOB), b"TLS")))
    assert sent(effects, links[CYD]) == [Carried(number(BOB), b"TLS")]
    effects = bob.got(links[CYD], Carried(number(BOB), b"answer"))
    assert [one.frame for one in effects if isinstance(one, CircuitReceived)] == [Carried(number(BOB), b"answer")]


def test_the_carrier_through_which_no_link_lasted_is_asked_last() -> None:
    bob, links = star()
    eve = Key("eve")
    for key in (CYD, DAN):
        bob.got(links[key], Peers([record_of(eve)], [eve.id], can=["carry"]))
    asked = list[int]()
    while len(asked) < 4:
        for dial in [effect for effect in bob.wake(bob.ctx.now.mono + 1.0) if isinstance(effect, DialThrough)]:
            asked.append(dial.link)
            bob.handle(DialFailed(dial.dial, "the circuit has ended"))
        for link in links.values():
            bob.got(link, Pong())
    assert sorted(asked[:2]) == sorted(asked[2:]) == [links[CYD], links[DAN]]


@pytest.mark.parametrize(
    "tell", [{"can": ["files"]}, {"can": ["carry"], "carried": True}], ids=["carries nothing", "is linked by another"]
)
def test_nobody_is_dialled_through_one_who_cannot_carry_it(tell: dict[str, object]) -> None:
    bob, links = star()
    eve = Key("eve")
    carried = [eve.id] if tell.get("carried") else []
    effects = bob.got(links[CYD], Peers([record_of(eve)], [eve.id], carried, can=tell["can"]))  # type: ignore[arg-type]
    assert not [effect for effect in effects + bob.wake(30.0) if isinstance(effect, DialThrough)]


def test_a_carrier_that_answers_nothing_has_few_dials_under_way() -> None:
    bob, links = star()
    eves = [Key(f"eve {n}") for n in range(3 * MAX_DIALLED)]
    tell = Peers([record_of(eve) for eve in eves], [eve.id for eve in eves], can=["carry"])
    effects = bob.got(links[CYD], tell) + bob.wake(5.0)
    begun = [effect for effect in effects if isinstance(effect, DialThrough)]
    assert len(begun) == MAX_DIALLED
    then = bob.handle(DialFailed(begun[0].dial, "the circuit has ended"))
    assert len([effect for effect in then if isinstance(effect, DialThrough)]) == 1


def test_bytes_above_the_room_of_this_end_end_a_circuit() -> None:
    bob, links = star()
    assert bob.got(links[CYD], Circuit(number(CYD), origin=ADA.id))
    bob.got(links[CYD], Carried(number(CYD), bytes(FIRST_ROOM)))
    effects = bob.got(links[CYD], Carried(number(CYD), b"x"))
    assert [one.frame for one in effects if isinstance(one, CircuitReceived)] == [Circuit(number(CYD), end="limit")]


def test_an_end_gets_no_room_while_the_link_of_its_carrier_is_full() -> None:
    bob, links = star()
    bob.got(links[CYD], Circuit(number(CYD), origin=ADA.id))
    bob.handle(LinkFilled(links[CYD]))
    effects = bob.got(links[CYD], Carried(number(CYD), b"", WINDOW_BYTES)) + bob.handle(LinkDrained(links[CYD]))
    rooms = [one.frame.room for one in effects if isinstance(one, CircuitReceived) and isinstance(one.frame, Carried)]
    assert rooms == [0, WINDOW_BYTES]


def test_an_end_sends_no_more_than_a_window_at_once_whatever_it_is_told() -> None:
    window = CircuitWindow()
    window.widen(2**53 - 1)
    assert window.room == WINDOW_BYTES
    window.sent = WINDOW_BYTES
    window.widen(2**53 - 1)
    assert window.room == 2 * WINDOW_BYTES


def test_a_window_holds_until_bytes_are_taken() -> None:
    window, other = CircuitWindow(), CircuitWindow()
    window.widen(other.take(0))
    assert window.room == WINDOW_BYTES
    while window.may_send:
        window.sent += window.may_send
    assert window.sent == WINDOW_BYTES
    assert other.take(MAX_CARRIED_BYTES - 1) == 0  # told in steps
    window.widen(other.take(1))
    assert window.may_send == MAX_CARRIED_BYTES
