"""Rate limits of accounts and addresses: token buckets, bounded in number; and slots for answers under way.

A full bucket carries no information, so it may be forgotten; memory is for callers that come often.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from weakref import WeakValueDictionary

from p2pchat.addresses import network_and_host
from p2pchat.web.error_responses import WebError
from p2pchat.web.web_settings import Pace, WebSettings

_MAX_BUCKETS = 65_536  # a few MiB; the least recently used is dropped first
DAY = 86_400.0
BYTES_A_MESSAGE = 256  # that a message takes beside its text
BYTES_A_MEMBER = 72  # that a member takes in each change of its group
ROWS_A_CALL = 50  # rows that take as long to make as the rest of a call, 1 to 2 ms
# The same for rows that are looked up one by one. Measured: 0.2 to 0.5 ms for each, those of history 0.07 ms.
SLOW_ROWS_A_CALL = 5
SLOW_ROWS = frozenset({"search", "receipts", "list", "latest"})
# Calls that an answer counts besides, with or without rows. Measured: 18 and 9 ms for 2,000 messages.
CALLS_BESIDE = {"search": 10, "unread": 5}
CALLS_A_PART = 0.2  # of a file that is served, 256 KiB. Measured: 0.25 ms
USERS_A_CALL = 500  # that `/metrics` looks through. Measured: 9 ms for 3,000
DELIVERIES_A_CALL = 100  # events given to sessions that take as long. Measured: 20 us for a message at `/chat`
# What the site of an account pays of its work. Behind one address may be an office that comes back after a restart.
# With this part one address takes up to 40% of a core. A guess.
SITE_PART = 0.5
RESERVE = 0.1  # of a burst, that replays of missed messages leave to calls; a guess
MAX_WAITING = 128  # calls of one account that wait for its slots; a guess: the pictures that a browser asks for at once


class TooMany(WebError):
    """A rate limit was exceeded; `wait` is the number of seconds until the request will work, `what` the reason."""

    def __init__(self, wait: float, what: str = "too many requests") -> None:
        seconds = max(1, round(wait + 0.5))
        super().__init__(429, "too_many", f"{what}: try again in {_duration(seconds)}", {"Retry-After": str(seconds)})
        self.wait = wait


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{-(-seconds // 60)} min" if seconds < 7200 else f"{-(-seconds // 3600)} h"


class RateLimiter:
    """Token buckets of one kind, by key."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens left, and when

    def wait(self, key: Hashable, count: int = 1) -> float:
        """Take `count` tokens, at most a burst, and return 0.0, or return the seconds until there are enough."""
        now, pace = monotonic(), self._pace
        count = min(count, pace.burst)
        left, at = self._buckets.pop(key, (float(pace.burst), now))
        left = min(float(pace.burst), left + (now - at) * pace.per_second)
        wait = 0.0 if left >= count else (count - left) / pace.per_second
        self._buckets[key] = (left if wait else left - count, now)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return wait

    def until(self, key: Hashable, count: float) -> float:
        """Return the seconds until there are `count` tokens and RESERVE besides, which takes none."""
        now, pace = monotonic(), self._pace
        left, at = self._buckets.get(key, (float(pace.burst), now))
        wanted = min(count + RESERVE * pace.burst, pace.burst)
        return max(0.0, (wanted - left) / pace.per_second - (now - at))

    def take(self, key: Hashable, count: int = 1) -> None:
        """Take `count` tokens. Raises TooMany, and takes none, if there are not enough."""
        wait = self.wait(key, count)
        if wait:
            raise TooMany(wait)

    def charge(self, key: Hashable, count: float) -> None:
        """Take `count` tokens for work already done; the bucket may go below zero."""
        self.wait(key, 0)
        left, at = self._buckets[key]
        self._buckets[key] = (max(left - count, -float(self._pace.burst)), at)


class KeyedSlots:
    """A few slots for each key: whoever holds all of its own waits, and nobody else does."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._held: WeakValueDictionary[str, _SlotsOfKey] = WeakValueDictionary()  # while somebody uses them

    @asynccontextmanager
    async def hold(self, key: str, *, bounded: bool = True) -> AsyncIterator[None]:
        """Hold a slot for the block, once there is one.

        Args:
            bounded: Raise TooMany if MAX_WAITING wait for one. A request waits on when its client has left.
        """
        slots = self._held.get(key)
        if slots is None:
            slots = self._held[key] = _SlotsOfKey(self._each)
        if bounded and slots.waiting >= MAX_WAITING:
            raise TooMany(1.0, "too many requests of yours wait for others")
        slots.waiting += 1
        try:
            await slots.free.acquire()
        finally:
            slots.waiting -= 1
        try:
            yield
        finally:
            slots.free.release()


class _SlotsOfKey:
    """The slots of one key, and how many wait for one."""

    def __init__(self, each: int) -> None:
        self.free = asyncio.Semaphore(each)
        self.waiting = 0


SignUp = tuple[float, str, str]  # when, the site and the network


class DailySignUps:
    """Accounts that callers signed up in the last 24 hours: so many of one address, of one network and in all.

    They are few, so they are counted one by one, and there is room again a day after the oldest.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._last: deque[SignUp] = deque()

    def take(self, address: str) -> SignUp:
        """Count a sign-up and return it. Raises TooMany, and counts nothing, if there were enough."""
        now, site, network = monotonic(), site_of(address), network_of(address)
        while self._last and self._last[0][0] <= now - DAY:
            self._last.popleft()
        mine, near = [one for one in self._last if one[1] == site], [one for one in self._last if one[2] == network]
        settings = self._settings
        for most, counted, where in (
            (settings.sign_ups_of_address, mine, "from your address"),
            (settings.sign_ups_of_network, near, "from your network"),
            (settings.sign_ups_a_day, self._last, "here"),
        ):
            if len(counted) >= most:
                raise TooMany(counted[-most][0] + DAY - now, f"{most} accounts were made {where} within a day")
        self._last.append(taken := (now, site, network))
        return taken

    def give_back(self, taken: SignUp) -> None:
        """Count a sign-up no longer, because no account was made."""
        self._last.remove(taken)


class RateLimits:
    """The limiters of a gateway. The keys of calls, messages, written, stored, groups and small are user keys (hex), of
    the others sites.

    Work that costs more than a call, or that an account causes for others, is charged to the account and to the site
    where its last caller was: one caller has as many accounts as it likes.

    Attributes:
        sites: Where the last caller of each account was, by user key; "" for one on this machine.
        check: Raises WebError while accounts can write and store nothing.
    """

    def __init__(self, settings: WebSettings) -> None:
        self.calls: RateLimiter = RateLimiter(settings.calls)
        self.messages: RateLimiter = RateLimiter(settings.messages)
        self.written: RateLimiter = RateLimiter(settings.written)
        self.stored: RateLimiter = RateLimiter(settings.stored)
        self.small: RateLimiter = RateLimiter(settings.small)
        self.stored_there: RateLimiter = RateLimiter(settings.stored_of_address)
        self.groups: RateLimiter = RateLimiter(settings.groups)
        self.sites: dict[str, str] = {}
        self.check: Callable[[], None] = lambda: None
        self.sign_ups: RateLimiter = RateLimiter(settings.sign_ups)
        self.daily_sign_ups: DailySignUps = DailySignUps(settings)
        self.strangers: RateLimiter = RateLimiter(settings.strangers)
        self.addresses: RateLimiter = RateLimiter(settings.addresses)
        self._replays = KeyedSlots(1)  # by site

    def call(self, key: str, site: str, count: int = 1) -> None:
        """Take a call of an account by a caller there; "" for one on this machine. Raises TooMany."""
        self.sites[key] = site
        self.calls.take(key, count)

    def charge(self, key: str, calls: float) -> None:
        """Charge work already done as so many calls."""
        self.calls.charge(key, calls)
        if site := self.sites.get(key):
            self.addresses.charge(site, calls * SITE_PART)

    async def page_replayed(self, key: str, rows: int, is_connected: Callable[[], bool]) -> None:
        """Charge a page of missed messages once the account and its site have calls to spare.

        Args:
            is_connected: Returns whether somebody still waits for the next page; asked once a second.
        """
        calls, site = rows / ROWS_A_CALL, self.sites.get(key)
        await _wait_spare(self.calls, key, calls, is_connected)
        async with self._replays.hold(site or key, bounded=False):  # one after the other, so that all get on alike
            if site:
                await _wait_spare(self.addresses, site, calls * SITE_PART, is_connected)
            self.charge(key, calls)

    async def part_served(self, key: str, site: str) -> None:
        """Charge a part of a file once the account and the site of its caller have calls to spare."""
        await _wait_spare(self.calls, key, CALLS_A_PART)
        self.calls.charge(key, CALLS_A_PART)
        if site:
            await _wait_spare(self.addresses, site, CALLS_A_PART * SITE_PART)
            self.addresses.charge(site, CALLS_A_PART * SITE_PART)

    def delivered(self, key: str, sessions: int) -> None:
        """Charge what an account caused: an event that so many sessions got."""
        if key in self.sites:  # otherwise it is a user elsewhere, or nobody has called as it yet
            self.charge(key, sessions / DELIVERIES_A_CALL)

    def store(self, key: str, size: int) -> None:
        """Take bytes of a file. Raises TooMany, and as `check`."""
        self.check()
        wait, site = self.stored.wait(key, size), self.sites.get(key)
        if site and not wait and (wait := self.stored_there.wait(site, size)):
            self.stored.charge(key, -size)  # it stores nothing now
        if wait:
            raise TooMany(wait, "you have stored too many bytes of files here")

    @contextmanager
    def new_account(self, address: str) -> Iterator[None]:
        """Take an account that the block signs up. Raises TooMany.

        If that fails, the day's quota of the address is given back, but not the rate: each try costs the gateway work.
        """
        taken = self.daily_sign_ups.take(address)
        try:
            self.sign_ups.take(site_of(address))
            yield
        except Exception:  # not when it is cancelled: the account may have been made
            self.daily_sign_ups.give_back(taken)
            raise

    @contextmanager
    def new_group(self, key: str) -> Iterator[None]:
        """Take a group that the block creates, unless that fails. Raises TooMany."""
        if wait := self.groups.wait(key):
            raise TooMany(wait, "you have created too many groups")
        try:
            yield
        except Exception:  # such as a mistyped member
            self.groups.charge(key, -1)
            raise

    def write(self, key: str, *texts: str, members: int = 0) -> None:
        """Take a message with these texts, or a change of a group with so many members. Raises as `store`."""
        self.check()
        self.messages.take(key)
        if wait := self.written.wait(key, written_bytes(texts, members)):
            raise TooMany(wait, "you have written too many bytes")

    def answered(self, key: str, rows: int, what: str = "") -> None:
        """Charge an answer as the calls that take as long, because long answers delay other callers.

        Args:
            what: The command, as `/lines` names it; "" for one whose rows are quickly made.
        """
        calls = rows // (SLOW_ROWS_A_CALL if what in SLOW_ROWS else ROWS_A_CALL) + CALLS_BESIDE.get(what, 0)
        if calls:
            self.charge(key, calls)


async def _wait_spare(
    limiter: RateLimiter, key: str, count: float, is_connected: Callable[[], bool] = lambda: True
) -> None:
    while is_connected() and (wait := limiter.until(key, count)):
        await asyncio.sleep(min(wait, 1.0))


def written_bytes(texts: Iterable[str], members: int = 0) -> int:
    """Return what a message counts."""
    size = sum(len(text.encode(errors="surrogatepass")) for text in texts)
    return BYTES_A_MESSAGE + size + members * BYTES_A_MEMBER


def site_of(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or a /64 of IPv6, which is what one customer gets."""
    return network_and_host(address)[1]


def network_of(address: str) -> str:
    """Return the network of a caller, which one customer may have many sites of: a /24 of IPv4, a /48 of IPv6."""
    return network_and_host(address)[0] or address
