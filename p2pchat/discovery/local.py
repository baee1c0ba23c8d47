"""Discovery on the local network: announces this peer over multicast DNS, and tells which members are announced.

It goes with the network: when this machine's addresses change, everything begins anew, and who is still there is told
again. Whatever fails (no network, no multicast, a port 5353 that is taken) is one warning, and tried again when the
network changes, or after a minute.

A flood of announcements costs little: so many are asked after at once, what is too long is not read, and of members'
only so many are kept (sightings.py). What zeroconf itself remembers it bounds itself.

Source: docs/protocol.md, "Discovery"; RFC 6762 and 6763.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from p2pchat.core.mesh.endpoints import join_endpoint
from p2pchat.discovery.announcement import MAX_TXT_BYTES, SALT_BYTES, SERVICE_TYPE, describe, recognise
from p2pchat.discovery.places import Interfaces, Place, addresses_of, announced_place, interfaces
from p2pchat.discovery.sightings import News, Sightings
from p2pchat.errors import P2PChatError
from p2pchat.protocol import PeerId

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

LOOKED_EVERY = 3.0  # seconds between looks at this machine's addresses
ASKED_AGAIN_AFTER = 300.0  # seconds; multicast gets lost, on wireless networks above all, and cables are put in late
TRIED_AGAIN_AFTER = 60.0  # seconds after a failure, when the network stays the same
ASKED_FOR = 3000  # milliseconds an announcement gets to come whole
MAX_ASKED = 64  # announcements asked after at once; more are not looked at
EXPIRES_AFTER = 1125  # seconds until who left without a goodbye is seen no more: the least that zeroconf keeps to
CLOSED_WITHIN = 3.0  # seconds; saying goodbye takes a quarter of one

Sighted = Callable[[PeerId, tuple[str, ...]], None]
Warn = Callable[[str], None]


def require() -> None:
    """Raise P2PChatError when the extra is not installed. Takes a moment: it imports it."""
    try:
        import zeroconf.asyncio  # noqa: F401
    except ImportError:
        raise P2PChatError(
            "discovery needs zeroconf, which is not installed: install the extra `discovery`, p2pchat-mesh[discovery]"
        ) from None


class Discovery:
    """Finds members on the local network, and lets them find this peer.

    Args:
        key: What members recognise each other by, from discovery_key().
        host: What this peer listens on; on loopback it looks, but is not announced.
        advertise: The endpoint to tell others, None for the addresses of this machine.
        sighted: Told a peer and all endpoints it is announced at; () when it is not any more.
        warn: Told, once until it works again, what is wrong.
    """

    def __init__(
        self,
        peer: PeerId,
        key: bytes,
        *,
        host: str,
        port: int,
        advertise: str | None,
        sighted: Sighted,
        warn: Warn,
    ) -> None:
        self._peer = peer
        self._key = key
        self._host = host
        self._port = port
        self._advertise = advertise
        self._sighted = sighted
        self._warn = warn
        self._sightings = Sightings()
        self._stopping = asyncio.Event()
        self._warned = False
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Say that this peer is gone, and tell nothing any more."""
        self._stopping.set()
        _, late = await asyncio.wait([self._task], timeout=CLOSED_WITHIN)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task])

    # As long as the network stays the same

    async def _run(self) -> None:
        around, self._listening = interfaces(), await addresses_of(self._host)
        while not self._stopping.is_set():
            station = Station(self._peer, self._key, self._told, self._forgotten)
            try:
                around = await self._stay(station, around)
            finally:
                await station.close()
                self._sightings.clear()

    async def _stay(self, station: Station, around: Interfaces) -> Interfaces:
        """Look and be seen on this network; return the next one, or the same when it is time to begin anew."""
        try:
            await self._open(station, around)
            self._warned = False
            while (now := await self._changed(around, ASKED_AGAIN_AFTER)) == around and not self._stopping.is_set():
                await station.look()
            return now
        except Exception as error:  # of zeroconf or of the system: nothing of it may end a peer
            if not self._warned:
                self._warned = True
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                self._warn(f"members on the local network are not found, nor is this peer by them, for now: {reason}")
        return await self._changed(around, TRIED_AGAIN_AFTER)

    async def _open(self, station: Station, around: Interfaces) -> None:
        if not around.addresses:
            raise OSError("this machine has no address on a local network")
        only = self._listening[0] if len(self._listening) == 1 else ""
        place = announced_place(self._listening, self._port, self._advertise, around.addresses)
        await station.open(around.speaking(only), place)

    async def _changed(self, around: Interfaces, patience: float) -> Interfaces:
        """Return this machine's network once it is another and stays so, or when patience is over."""
        waited, last = 0.0, around
        while waited < patience:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOKED_EVERY):
                    await self._stopping.wait()
                    return around
            waited += LOOKED_EVERY
            seen = interfaces()
            if seen == last != around:
                return seen
            last = seen
        return around

    # What is announced

    def _told(self, service: str, peer: PeerId, endpoints: tuple[str, ...]) -> None:
        self._tell(self._sightings.seen(service, peer, endpoints))

    def _forgotten(self, service: str) -> None:
        self._tell(self._sightings.gone(service))

    def _tell(self, news: list[News]) -> None:
        if not self._stopping.is_set():
            for peer, endpoints in news:
                self._sighted(peer, endpoints)


class Station:
    """One use of zeroconf, on one state of the network.

    Args:
        seen: Told the name of a service that is a member's, whose, and its endpoints.
        gone: Told the name of a service that is over, or is a member's no more.
    """

    def __init__(
        self,
        peer: PeerId,
        key: bytes,
        seen: Callable[[str, PeerId, tuple[str, ...]], None],
        gone: Callable[[str], None],
    ) -> None:
        self._peer = peer
        self._key = key
        self._seen = seen
        self._gone = gone
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._announcing: asyncio.Future[Any] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def open(self, speaking: list[str | int], place: Place | None) -> None:
        """Begin to look, and to announce this peer at `place`.

        Raises:
            Exception: Whatever zeroconf and the system have against it; close() is due all the same.
        """
        from zeroconf.asyncio import AsyncZeroconf

        plain: list[str | int] = [one for one in speaking if isinstance(one, str)]
        try:
            self._zeroconf = AsyncZeroconf(interfaces=speaking)
        except (OSError, RuntimeError):  # the system does not speak IPv6 and IPv4 on one socket
            if plain in ([], speaking):
                raise
            self._zeroconf = AsyncZeroconf(interfaces=plain)
        await self._zeroconf.zeroconf.async_wait_for_start()
        if not self._zeroconf.zeroconf.engine.senders:
            raise OSError("no interface takes multicast")
        if place is not None:
            self._announcing = await self._announce(self._zeroconf, place)
        await self.look()

    async def look(self) -> None:
        """Ask who is there; again, it is told of those as well who are known."""
        from zeroconf.asyncio import AsyncServiceBrowser

        assert self._zeroconf is not None
        if self._browser is not None:
            await self._browser.async_cancel()
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._noticed])

    async def _announce(self, zeroconf: AsyncZeroconf, place: Place) -> asyncio.Future[Any]:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"{secrets.token_hex(8)}.{SERVICE_TYPE}",
            port=place.port,
            properties=describe(self._key, self._peer, place.port, place.addresses, secrets.token_bytes(SALT_BYTES)),
            server=f"{secrets.token_hex(8)}.local.",
            other_ttl=EXPIRES_AFTER,
            parsed_addresses=list(place.addresses),
        )
        # Nobody else has these names: there is nothing to probe for.
        return asyncio.ensure_future(await zeroconf.async_register_service(info, cooperating_responders=True))

    def _noticed(self, zeroconf: object, service_type: str, name: str, state_change: Any) -> None:
        if state_change.name == "Removed":
            self._gone(name)
        elif name not in self._asking and len(self._asking) < MAX_ASKED:
            self._asking[name] = task = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))

    async def _ask(self, name: str) -> None:
        """Get the whole announcement, and see whose it is."""
        from zeroconf.asyncio import AsyncServiceInfo

        assert self._zeroconf is not None
        try:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            came = await info.async_request(self._zeroconf.zeroconf, ASKED_FOR)
        except Exception:  # a name or record that zeroconf cannot read: nobody we know
            return
        peer = self._read(info) if came else None
        if peer is None:
            self._gone(name)
        elif peer != self._peer:
            self._seen(name, peer, tuple(join_endpoint(address, info.port or 0) for address in _addresses(info)))

    def _read(self, info: AsyncServiceInfo) -> PeerId | None:
        if len(info.text or b"") > MAX_TXT_BYTES:
            return None
        return recognise(self._key, info.properties, info.port, _addresses(info))

    async def close(self) -> None:
        """Say goodbye, and leave nothing open."""
        tasks = [*self._asking.values(), *([self._announcing] if self._announcing is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):  # what failed in open() fails here once more
            if self._browser is not None:
                await self._browser.async_cancel()
        with suppress(Exception):  # nor does anybody need to know that it does not close
            if self._zeroconf is not None:
                await self._zeroconf.async_close()


def _addresses(info: AsyncServiceInfo) -> list[str]:
    return sorted(set(info.parsed_addresses()))
