"""One line per endpoint: its status, with the error and advice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pchat import Link, MemberChange, People, User
from p2pchat.cli import endpoint_status
from p2pchat.cli.endpoint_status import EndpointStatus
from p2pchat.cli.process import Shutdown

ADA, BOB = "127.0.0.1:8080", "localhost:8081"
notices: list[str] = []


@pytest.fixture(autouse=True)
def _noted(monkeypatch: pytest.MonkeyPatch) -> None:
    notices.clear()
    monkeypatch.setattr(endpoint_status, "print_notice", notices.append)


def link(endpoint: str, state: str, reason: str, code: str = "", peer: str = "") -> Link:
    return Link(peer=peer, endpoint=endpoint, state=state, reason=reason, code=code)


async def test_each_endpoint_gets_one_line_per_status() -> None:
    endpoints = EndpointStatus([ADA, BOB])
    for endpoint, state, reason, code in [
        (ADA, "trying", "nobody listens there", "nobody"),
        (ADA, "trying", "nobody listens there", "nobody"),
        ("10.0.0.1:1", "up", "", ""),
        (BOB, "refused", "another\nreason", ""),
        (ADA, "up", "", ""),
        (ADA, "down", "lost", ""),
        (ADA, "up", "", ""),
        (ADA, "trying", "nobody listens there", "nobody"),
    ]:
        endpoints.on_link_event(link(endpoint, state, reason, code))
    assert notices == [
        f"-- {ADA} does not answer: nobody listens there (is it running, and is 8080 its port?); still trying",
        f"-- {BOB} refused: another\\u{{a}}reason",
        f"-- {ADA} reached",
        f"-- {ADA} does not answer: nobody listens there; still trying",  # advice is given once
    ]


@pytest.mark.parametrize("dialled", [ADA, ""])
async def test_a_peer_that_said_goodbye_is_not_reported_as_missing(dialled: str) -> None:
    endpoints = EndpointStatus([ADA])
    gone = link(ADA, "trying", "nobody listens there", "nobody", "ada")
    for event in (link(ADA, "up", "", "", "ada"), link(dialled, "down", "left", "", "ada"), gone):
        endpoints.on_link_event(event)
    assert notices == [f"-- {ADA} reached"]
    endpoints.add(ADA)  # who asks for it wants to know
    endpoints.on_link_event(gone)
    assert "does not answer" in notices[-1]
    endpoints.on_link_event(link(ADA, "up", "", "", "ada"))
    endpoints.on_link_event(link(dialled, "down", "lost", "", "ada"))  # without a goodbye
    endpoints.on_link_event(gone)
    assert "does not answer" in notices[-1] and len(notices) == 5


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("trying", "no_answer", "does not answer (is the address right, and does a firewall"),
        ("trying", "no_name", "cannot be found (a typo?)"),
        ("trying", "no_way", "cannot be reached from this computer ("),
        ("trying", "no_peer", "is not a p2pchat peer (wrong port?); still trying"),
        (
            "refused",
            "network",
            "ask there for an invite, which `p2pchat invite` shows, then run p2pchat 8082 --invite -",
        ),
        ("refused", "version", "refused: it speaks another version of p2pchat (update the older of the two)"),
        ("refused", "self", "is this peer itself (leave it out, or name another peer)"),
        ("refused", "busy", "refused: it has no free link (still trying)"),
        ("trying", "failed", "does not answer: as the library says; still trying"),
    ],
)
async def test_a_line_gives_problem_and_advice(state: str, code: str, words: str) -> None:
    endpoints = EndpointStatus([ADA], port=8082)
    endpoints.on_link_event(link(ADA, state, "as the library says", code))
    assert len(notices) == 1 and words in notices[0]


async def test_one_reached_endpoint_of_an_invite_answers_for_all() -> None:
    endpoints = EndpointStatus([], [ADA, BOB, "[::1]:1"])
    endpoints.on_link_event(link(BOB, "trying", "", "no_answer"))
    assert not endpoints.all_known.is_set()
    endpoints.on_link_event(link(ADA, "up", ""))
    assert endpoints.all_known.is_set()  # without waiting for the third
    endpoints.on_link_event(link(BOB, "up", ""))  # the library reports each
    assert [line.partition(" ")[2][:25] for line in notices] == [f"{BOB} does not answer"[:25], f"{ADA} reached"[:25]]


@pytest.mark.parametrize("code", ["network", "identity"])
async def test_a_refused_invite_advises_to_get_a_new_one(code: str) -> None:
    EndpointStatus([], [ADA]).on_link_event(link(ADA, "refused", "", code))
    assert "ask " in notices[0] and "for a new invite, which `p2pchat invite` shows" in notices[0]


async def test_input_waits_until_all_endpoints_are_known() -> None:
    endpoints = EndpointStatus([ADA, BOB])
    endpoints.on_link_event(link(ADA, "up", ""))
    assert not endpoints.all_known.is_set()
    endpoints.on_link_event(link(BOB, "trying", ""))
    assert endpoints.all_known.is_set()
    assert EndpointStatus([]).all_known.is_set() and not EndpointStatus([]).dials


async def test_endpoints_of_connect_get_a_line_and_do_not_count_as_refused() -> None:
    endpoints = EndpointStatus([ADA])
    endpoints.on_link_event(link(BOB, "refused", "", "network"))  # from the address book
    endpoints.add(BOB)
    endpoints.on_link_event(link(BOB, "refused", "", "version"))
    endpoints.on_link_event(link(ADA, "up", ""))
    assert endpoints.all_known.is_set() and not endpoints.refused.is_set()
    assert [line.split()[1] for line in notices] == ["connecting", BOB, ADA]
    alone = EndpointStatus([])
    alone.add(BOB)
    alone.on_link_event(link(BOB, "refused", "", "network"))
    assert not alone.refused.is_set()  # no reason to shut down


async def test_known_peers_that_do_not_answer_are_reported_once() -> None:
    endpoints = EndpointStatus([])
    endpoints._report_alone()
    assert notices == []  # no known peers
    for number in range(1, 6):
        endpoints.on_link_event(link(f"10.0.0.{number}:8080", "trying", "nobody listens there", "nobody"))
    endpoints._report_alone()
    line, cure = notices
    assert line.startswith("-- no known peer answers yet: 10.0.0.1:8080 (nobody listens there), 10.0.0.2:8080 (")
    assert line.endswith(" and 2 more; still trying")
    assert cure == "-- one may have another address: /connect HOST:PORT, or --discover"
    endpoints.on_link_event(link("", "up", ""))
    endpoints._report_alone()
    assert len(notices) == 2


async def test_a_link_that_ends_again_and_again_for_one_reason_says_it_once() -> None:
    endpoints = EndpointStatus([])
    for reason in (
        "lost",
        "lost: here: no",
        "lost",
        "lost: here: no",
        "timeout",
        "lost: other",
        *["lost: here: no"] * 3,
    ):
        endpoints.on_link_event(link(ADA, "down", reason, "", "ada"))
    assert notices == [f"-- the link with {ADA} ends again and again: here: no"]


async def test_links_that_come_up_and_fall_silent_say_that_large_packets_may_be_lost() -> None:
    endpoints, start = EndpointStatus([]), datetime(2026, 1, 1, tzinfo=UTC)

    def after(seconds: float, state: str, reason: str = "") -> None:
        endpoints.on_link_event(replace(link(ADA, state, reason, "", "ada"), at=start + timedelta(seconds=seconds)))

    for minutes in (0, 600, 1200, 1800):  # the machine slept
        after(60 * minutes, "up")
        after(60 * minutes + 3000, "down", "timeout")
    assert notices == []
    for number in range(5):
        after(40 * number, "up")
        after(40 * number + 31, "down", "timeout")
    [line] = notices
    assert line.startswith(f"-- the link with {ADA} ends again and again: it comes up, and then nothing arrives")


async def test_refused_is_set_when_all_endpoints_refuse() -> None:
    endpoints = EndpointStatus([ADA, BOB])
    endpoints.on_link_event(link(ADA, "refused", ""))
    assert not endpoints.refused.is_set()
    endpoints.on_link_event(link(BOB, "refused", ""))
    assert endpoints.refused.is_set()
    assert not await endpoints.linked_within(0)
    endpoints.on_link_event(link("10.0.0.1:1", "up", ""))
    assert await endpoints.linked_within(0)


# ---- members


def people_of(*, joining: bool = False, by: str = "") -> People:
    """Return the people of a peer as far as EndpointStatus asks it."""
    role = "expelled" if by else "" if joining else "member"
    expelled_by = SimpleNamespace(label=by, is_me=False) if by else None
    return cast(People, SimpleNamespace(own_role=role, expelled_by=expelled_by, is_joining=joining, shut_out_at=None))


@pytest.mark.parametrize("code", ["used", "late", "revoked", "invite"])
async def test_an_invite_that_admits_nobody_ends_the_start_with_one_sentence(code: str) -> None:
    endpoints = EndpointStatus([], [ADA, BOB], people=people_of(joining=True))
    endpoints.begin()
    endpoints.on_link_event(link(ADA, "refused", "why", code))
    assert endpoints.not_admitted is not None and endpoints.not_admitted.code == code
    assert endpoints.refused.is_set() and notices == []
    assert endpoints.not_admitted.text.endswith("ask for a new one")


async def test_a_member_goes_on_when_its_invite_has_ended() -> None:
    endpoints = EndpointStatus([BOB], [ADA], people=people_of())
    endpoints.begin()
    endpoints.on_link_event(link(ADA, "refused", "the invite was used up", "used"))
    assert endpoints.not_admitted is None and not endpoints.refused.is_set()
    assert notices == [f"-- {ADA} refused: the invite was used up"]


async def test_a_newcomer_says_for_whom_it_waits() -> None:
    endpoints = EndpointStatus([BOB], [ADA], people=people_of(joining=True))
    endpoints.begin()
    endpoints.on_link_event(link(ADA, "trying", "nobody listens there", "nobody"))
    endpoints.on_link_event(link(BOB, "refused", "not the maker", "maker"))
    assert notices[0].endswith(f"; waiting for the peer at {ADA}, which admits with this invite")
    assert notices[1] == f"-- {BOB} is not the peer that admits with this invite; waiting for the peer at {ADA}"
    assert endpoints.all_known.is_set() and not endpoints.refused.is_set()


@pytest.mark.parametrize("admitted", [False, True])
async def test_a_newcomer_without_its_invite_is_told_to_name_it_once_it_has_tried(
    monkeypatch: pytest.MonkeyPatch, admitted: bool
) -> None:
    """The second profile of a login is admitted by its own member, as soon as it meets one."""
    monkeypatch.setattr(endpoint_status, "ALONE_AFTER", 0.01)
    people = people_of(joining=True)
    endpoints = EndpointStatus([BOB], port=8081, people=people)
    with endpoints.watching(Shutdown()):
        endpoints.begin()
        assert notices == []
        cast(Any, people).is_joining = not admitted
        await asyncio.sleep(0.05)  # timers fire in order: that of watching() ends first
    start = "start it with its invite again: p2pchat 8081 --invite -"
    assert notices == ([] if admitted else [f"-- nobody has admitted this peer yet; if nobody does, {start}"])


async def test_who_was_expelled_reads_once_by_whom_and_stays_up() -> None:
    endpoints = EndpointStatus([ADA, BOB], people=people_of(by="ada"))
    endpoints.begin()
    for endpoint in (ADA, BOB, ADA):
        endpoints.on_link_event(link(endpoint, "refused", "no member", "member"))
    assert notices == ["-- ada expelled this peer from its network: nothing is sent or taken; it asks again every hour"]
    assert endpoints.all_known.is_set() and not endpoints.refused.is_set()
    endpoints.add(BOB)  # who types /connect reads why it does nothing
    endpoints.on_link_event(link(BOB, "refused", "no member", "member"))
    assert notices == [notices[0], f"-- connecting to {BOB}", notices[0]]


@pytest.mark.parametrize("shown", [True, False])
async def test_who_is_expelled_now_reads_that_it_asks_again(shown: bool) -> None:
    endpoints = EndpointStatus([ADA], people=people_of())
    endpoints.begin()
    endpoints._people = people_of(by="ada")
    me = cast(User, SimpleNamespace(label="bob", is_me=True))
    change = MemberChange(user=me, by=me, change="expelled")
    endpoints.on_link_event(link(ADA, "refused", "no member", "member"))  # it may come before the event
    assert notices == [] and endpoints.all_known.is_set()
    endpoints.on_member_event(change, shown=shown)
    [line] = notices
    assert ("ada expelled" in line) is not shown and line.endswith("again every hour")


async def test_who_is_no_member_there_is_refused_for_good() -> None:
    endpoints = EndpointStatus([ADA], port=8081, people=people_of())
    endpoints.begin()
    endpoints.on_link_event(link(ADA, "refused", "no member", "member"))
    assert notices[0].startswith(f"-- {ADA} does not admit this peer (ask there for an invite")
    assert endpoints.refused.is_set()
