"""What is told of endpoints: one line when it is known, another when it changes, and who refused whom."""

from __future__ import annotations

import pytest

from p2pchat.apps.cli.chat.calling import Endpoints
from p2pchat.apps.cli.invites import beyond_loopback, endpoints_of, invite_screen

ADA, BOB = "127.0.0.1:8080", "localhost:8081"


async def test_each_endpoint_gets_one_line_and_another_when_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = Endpoints([ADA, BOB])
    for endpoint, state, reason in [
        (ADA, "trying", "connection refused"),
        (ADA, "trying", "connection refused"),
        ("10.0.0.1:1", "up", ""),
        (BOB, "refused", "another\nnetwork"),
        (ADA, "up", ""),
        (ADA, "down", "lost"),
        (ADA, "trying", "connection refused"),
    ]:
        endpoints.heard(endpoint, state, reason)
    assert capsys.readouterr().err.splitlines() == [
        f"-- {ADA} does not answer: connection refused; trying on",
        f"-- {BOB} refused: another\\u{{a}}network",
        f"-- {ADA} reached",
    ]


async def test_input_waits_until_each_has_answered_or_failed() -> None:
    endpoints = Endpoints([ADA, BOB])
    endpoints.heard(ADA, "up", "")
    assert not endpoints.known
    endpoints.heard(BOB, "trying", "")
    assert endpoints.known
    assert Endpoints([]).known


async def test_refused_is_refused_by_all() -> None:
    endpoints = Endpoints([ADA, BOB])
    endpoints.heard(ADA, "refused", "")
    assert not endpoints.refused.is_set()
    endpoints.heard(BOB, "refused", "")
    assert endpoints.refused.is_set()
    assert not await endpoints.linked_within(0)
    endpoints.heard("10.0.0.1:1", "up", "")
    assert await endpoints.linked_within(0)


def test_the_endpoints_of_an_invite() -> None:
    assert endpoints_of("P2PCHAT:ABC@Host:1,\n [::1]:2") == ["host:1", "[::1]:2"]
    assert endpoints_of("") == []


def test_an_invite_beyond_loopback_names_addresses_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.apps.cli.invites.own_addresses", lambda: ["192.0.2.7", "2001:db8::7"])
    assert beyond_loopback("p2pchat:abc@127.0.0.1:8080", 8080) == "p2pchat:abc@192.0.2.7:8080,[2001:db8::7]:8080"
    assert beyond_loopback("p2pchat:abc@chat.example:1", 8080) == "p2pchat:abc@chat.example:1"
    monkeypatch.setattr("p2pchat.apps.cli.invites.own_addresses", list)
    assert beyond_loopback("p2pchat:abc@127.0.0.1:8080", 8080) == "p2pchat:abc@127.0.0.1:8080"


def test_the_screen_has_the_command_the_invite_and_a_code_where_it_can() -> None:
    pytest.importorskip("segno")
    plain, with_code = (invite_screen("p2pchat:abc@192.0.2.7:8080", qr=qr) for qr in (False, True))
    for screen in (plain, with_code):
        assert "    python -m p2pchat 8080 --invite -" in screen.splitlines()
        assert "    p2pchat:abc@192.0.2.7:8080" in screen.splitlines()
    assert len(with_code.splitlines()) > len(plain.splitlines()) + 10
