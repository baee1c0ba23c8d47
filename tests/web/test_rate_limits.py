"""Token buckets, and what counts as one caller."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from p2pchat.web import Pace, WebSettings
from p2pchat.web.rate_limits import DailySignUps, RateLimiter, RateLimits, TooMany, network_of, site_of
from tests.deadlines import until


def test_a_bucket_allows_its_burst_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: now)
    buckets = RateLimiter(Pace(2.0, 3))
    assert [buckets.wait("ada") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.wait("bob", 3) == 0.0  # each key has its own bucket
    now = 0.5
    assert buckets.wait("ada") == 0.0
    assert buckets.wait("ada", 2) == 1.0
    now = 1000.0
    assert buckets.wait("ada", 3) == 0.0  # never more than the burst
    assert buckets.wait("ada") == 0.5


def test_so_many_accounts_are_signed_up_in_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: now)
    limits = DailySignUps(WebSettings(sign_ups_of_address=2, sign_ups_of_network=3, sign_ups_a_day=5))

    def refusal(address: str) -> tuple[str, str]:
        with pytest.raises(TooMany) as refused:
            limits.take(address)
        return refused.value.text, refused.value.headers["Retry-After"]

    limits.take("203.0.113.9")
    now = 100.0
    limits.give_back(limits.take("203.0.113.9"))  # the name was taken, for example
    limits.take("203.0.113.9")
    assert refusal("::ffff:203.0.113.9") == (
        "2 accounts were made from your address within a day: try again in 24 h", "86300"
    )  # fmt: skip
    limits.take("203.0.113.10")
    assert refusal("203.0.113.11")[0].startswith("3 accounts were made from your network within a day")
    now = 200.0
    limits.take("2001:db8:1:1::1")
    limits.take("2001:db8:1:1:2::1")  # the same /64
    assert refusal("2001:db8:1:1::9")[0].startswith("2 accounts were made from your address within a day")
    assert refusal("2001:db8:1:2::9")[0].startswith("5 accounts were made here within a day")
    now = 86_400.0  # a day after the first
    limits.take("2001:db8:1:2::1")
    assert refusal("198.51.100.1") == ("5 accounts were made here within a day: try again in 100 s", "100")
    now = 86_500.0
    assert refusal("2001:db8:1:3::1")[0].startswith("3 accounts were made from your network")
    limits.take("203.0.113.11")
    now = 1e6
    for _ in range(2):
        limits.take("198.51.100.1")
    assert refusal("198.51.100.1")[1] == "86400"


def test_an_account_writes_so_many_bytes_at_once_and_then_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 20 texts of 32 KiB a second, 55 GiB a day on the disk of the gateway."""
    now, text = 0.0, "\U0001f600" * 8192
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: now)
    limits = RateLimits(WebSettings(messages=Pace(1000.0, 1000)))
    pasted = 127  # 1 MiB in pieces, almost four times in a row
    for _ in range(pasted):
        limits.write("ada", text)
    with pytest.raises(TooMany, match=r"^you have written too many bytes: try again in 8 s$") as refused:
        limits.write("ada", text)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "8"})
    limits.write("bob", text)
    now = 24 * 3600.0
    for _ in range(pasted):
        limits.write("ada", text)
    now += 60.0
    for _ in range(60 * 9 - 9):
        limits.write("ada", "x" * 200)


def test_a_text_longer_than_all_that_may_be_written_at_once_takes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: 0.0)
    limits = RateLimits(WebSettings(written=Pace(1.0, 1000)))
    limits.write("ada", "x" * 5000)
    with pytest.raises(TooMany, match="bytes: try again in 17 min"):
        limits.write("ada", "x" * 5000)


def test_a_change_of_a_group_counts_each_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: 0.0)
    limits = RateLimits(WebSettings(written=Pace(1.0, 20_000)))
    limits.write("ada", "ops", members=256)
    with pytest.raises(TooMany):
        limits.write("ada", members=256)


def test_bytes_of_files_that_are_refused_are_taken_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: 0.0)
    limits = RateLimits(WebSettings(stored=Pace(1.0, 1000), stored_of_address=Pace(1.0, 1500)))
    limits.sites.update(ada="site", bob="site")
    limits.store("ada", 1000)
    for _ in range(3):
        with pytest.raises(TooMany):
            limits.store("ada", 100)  # of the account
    with pytest.raises(TooMany):
        limits.store("bob", 501)  # of the site
    limits.store("bob", 500)
    limits.sites["bob"] = "home"
    limits.store("bob", 500)


async def test_replays_leave_calls_a_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 users behind one address that came back after a restart took all of its calls, for as long as it took."""
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: 0.0)
    limits = RateLimits(WebSettings(addresses=Pace(0.001, 1000)))
    readers = [str(number) for number in range(1000)]
    limits.addresses.take("proxy")
    limits.sites.update(dict.fromkeys(readers, "proxy"))

    async def replay(key: str) -> None:
        for _ in range(10):
            await limits.page_replayed(key, 16, lambda: True)

    replaying = [asyncio.create_task(replay(key)) for key in readers]
    await until(lambda: limits.addresses._buckets["proxy"][0] < 101, "replays to wait")
    limits.addresses.take("proxy", 100)
    for one in replaying:
        one.cancel()
    await asyncio.gather(*replaying, return_exceptions=True)


def test_an_address_pays_half_of_the_work_of_its_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: 0.0)
    limits = RateLimits(WebSettings(calls=Pace(0.001, 100), addresses=Pace(0.001, 100)))
    limits.call("ada", "site")
    limits.charge("ada", 60)
    assert (limits.calls.wait("ada", 40) > 0, limits.calls.wait("ada", 39)) == (True, 0)
    assert (limits.addresses.wait("site", 71) > 0, limits.addresses.wait("site", 70)) == (True, 0)


async def test_a_page_is_charged_though_its_reader_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: 0.0)
    limits = RateLimits(WebSettings(calls=Pace(0.001, 10)))
    for _ in range(40):  # 12.8 calls
        await limits.page_replayed("ada", 16, lambda: False)
    assert limits.calls.wait("ada", 0) > 0


def test_an_answer_counts_as_the_calls_that_take_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 1,000 rows of a search counted 20 calls and took 0.5 s, one without a match counted none."""

    def calls_of(rows: int, what: str = "") -> int:
        monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: 0.0)
        limits = RateLimits(WebSettings(calls=Pace(1.0, 1000)))
        limits.answered("ada", rows, what)
        return next(count for count in range(1001) if limits.calls.wait("ada", 1000 - count) == 0)

    assert [calls_of(rows) for rows in (0, 49, 100, 1000)] == [0, 0, 2, 20]
    assert [calls_of(1000, what) for what in ("search", "receipts", "list", "latest")] == [210, 200, 200, 200]
    assert [calls_of(0, what) for what in ("search", "unread", "history")] == [10, 5, 0]


def test_networks_of_callers_have_24_or_48_bits() -> None:
    assert network_of("203.0.113.9") == network_of("203.0.113.200") == "203.0.113.0/24" != network_of("203.0.114.9")
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:3::1") != network_of("2001:db8:2:2::1")
    assert network_of("a socket") == "a socket"


def test_callers_are_counted_by_ipv4_address_or_ipv6_network() -> None:
    assert site_of("203.0.113.9") == "203.0.113.9"
    assert site_of("2001:db8:1:2:3:4:5:6") == site_of("2001:db8:1:2::1") != site_of("2001:db8:1:3::1")
    assert site_of("::ffff:203.0.113.9") == "203.0.113.9"
    assert site_of("fe80::1%eth0") == site_of("fe80::2")
    assert site_of("a socket") == "a socket"


def test_an_address_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses of 1,024 strangers were parsed for each further Socket.IO connection: 3 to 10 ms."""
    parsed: list[str] = []

    def parse(address: str) -> object:
        parsed.append(address)
        return ip_address(address)

    monkeypatch.setattr("p2pchat.addresses.ip_address", parse)
    assert [site_of("2001:db8:77::1") for _ in range(3)] == ["2001:db8:77::/64"] * 3
    assert parsed == ["2001:db8:77::1"]
