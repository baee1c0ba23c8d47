"""Discovery on the local network: announces this peer over multicast DNS, and tells which members are announced.

It goes with the network: when this machine's addresses change, everything begins anew, and who is still there is told
again. Whatever fails (no network, no multicast, a port 5353 that is taken) is one warning, and tried again when the
network changes, or after a minute.

A flood of announcements costs little: so many are asked after at once, what is too long is not read, and of members'
only so many are kept (discovery.py). What zeroconf itself remembers it bounds itself.

Source: docs/protocol.md, "Discovery"; RFC 6762 and 6763.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from p2pchat.core.mesh.addressbook import is_loopback, join_endpoint, split_endpoint
from p2pchat.errors import P2PChatError
from p2pchat.identity.addresses import is_reachable, routed_addresses
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
        self._sightings = SeenServices()
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
            station = MDNSSession(self._peer, self._key, self._told, self._forgotten)
            try:
                around = await self._stay(station, around)
            finally:
                await station.close()
                self._sightings.clear()

    async def _stay(self, station: MDNSSession, around: Interfaces) -> Interfaces:
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

    async def _open(self, station: MDNSSession, around: Interfaces) -> None:
        if not around.addresses:
            raise OSError("this machine has no address on a local network")
        only = self._listening[0] if len(self._listening) == 1 else ""
        place = advertisement_for(self._listening, self._port, self._advertise, around.addresses)
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


class MDNSSession:
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

    async def open(self, speaking: list[str | int], place: Advertisement | None) -> None:
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

    async def _announce(self, zeroconf: AsyncZeroconf, place: Advertisement) -> asyncio.Future[Any]:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"{secrets.token_hex(8)}.{SERVICE_TYPE}",
            port=place.port,
            properties=txt_record(self._key, self._peer, place.port, place.addresses, secrets.token_bytes(SALT_BYTES)),
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
        return identify(self._key, info.properties, info.port, _addresses(info))

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


# ---- announcement
#
# What a peer announces on the local network: only members can read who it is.
#
#     _p2pchat._tcp.local., instance and host names of random letters, port and addresses as usual, and in TXT
#     v = 1
#     s = salt, 16 random bytes
#     p = peer id xor HMAC-SHA256(K, "p2pchat/discover/1 peer\0" || salt)
#     m = HMAC-SHA256(K, "p2pchat/discover/1\0" || salt || p || u16be port || addresses)
#
# Without the network's key K these are random bytes, others at each start. With it, m shows that a member said exactly
# this, so that the salt and proof of one announcement cannot be put beside other addresses, and p says whose key must
# answer there. It proves no more: that a network may be joined, only an invite does, and the handshake checks. An open
# network has no key and uses one made from its id N: whoever knows N reads its announcements.
#
# Source: docs/protocol.md, "Discovery".


SERVICE_TYPE = "_p2pchat._tcp.local."
VERSION = b"1"
SALT_BYTES = 16  # another one at each start: two of them are never the same
MAX_ADDRESSES = 8  # as many as the address book keeps of one peer
MAX_TXT_BYTES = 1024  # ours has 175; a later version may have more to say

_TAG = b"p2pchat/discover/1\0"
_PEER_TAG = b"p2pchat/discover/1 peer\0"
_OPEN_TAG = b"p2pchat/discover/1 open\0"


def discovery_key(network: str, key: str | None) -> bytes:
    """Return what members of a network recognise each other by: K; of an open one a key made from N. Both are hex."""
    if key is not None:
        return bytes.fromhex(key)
    return hmac.digest(bytes.fromhex(network), _OPEN_TAG, "sha256")


def txt_record(key: bytes, peer: PeerId, port: int, addresses: Sequence[str], salt: bytes) -> dict[str, str]:
    """Return the TXT record of an announcement.

    Args:
        key: From discovery_key().
        addresses: IPv4 and IPv6 addresses, at most MAX_ADDRESSES; the order does not matter.
        salt: SALT_BYTES random ones, used for nothing else.
    """
    hidden = _xor(bytes.fromhex(peer), _mask(key, salt))
    proof = _proof(key, salt, hidden, port, addresses)
    return {"v": VERSION.decode(), "s": salt.hex(), "p": hidden.hex(), "m": proof.hex()}


def identify(
    key: bytes, txt: Mapping[bytes, bytes | None], port: int | None, addresses: Sequence[str]
) -> PeerId | None:
    """Return the peer that is announced; None when no member of our network says this."""
    if txt.get(b"v") != VERSION or port is None or not 0 < len(addresses) <= MAX_ADDRESSES:
        return None
    salt, hidden, proof = _bytes(txt, b"s", SALT_BYTES), _bytes(txt, b"p", 32), _bytes(txt, b"m", 32)
    if not (salt and hidden and proof and 0 < port < 65536):
        return None
    try:
        expected = _proof(key, salt, hidden, port, addresses)
    except ValueError:
        return None
    return _xor(hidden, _mask(key, salt)).hex() if hmac.compare_digest(proof, expected) else None


def _proof(key: bytes, salt: bytes, hidden: bytes, port: int, addresses: Sequence[str]) -> bytes:
    """Each address is its length (4 or 16) in one byte, then its bytes; sorted as bytes."""
    places = sorted(ip_address(address).packed for address in addresses)
    what = b"".join(bytes([len(place)]) + place for place in places)
    return hmac.digest(key, _TAG + salt + hidden + port.to_bytes(2, "big") + what, "sha256")


def _mask(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, _PEER_TAG + salt, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _bytes(txt: Mapping[bytes, bytes | None], name: bytes, size: int) -> bytes:
    """Return a value of exactly this size, b"" for anything else."""
    text = txt.get(name) or b""
    if len(text) != 2 * size:
        return b""
    try:
        value = bytes.fromhex(text.decode("ascii"))
    except ValueError:  # of a hex digit, or of what is not even ASCII
        return b""
    return value if len(value) == size else b""  # fromhex passes over blanks


# ---- places
#
# Where to announce oneself, and on which interfaces to speak: this machine's addresses, as far as others use them.


ANY_V4, ANY_V6 = "0.0.0.0", "::"


@dataclass(frozen=True, slots=True)
class Interfaces:
    """This machine's network at one moment.

    Attributes:
        addresses: Those that others may reach it by, the one towards the internet first.
        index: The interface of each of the IPv6 ones, whose multicast is spoken by interface.
    """

    addresses: tuple[str, ...] = ()
    index: tuple[tuple[str, int], ...] = ()

    def speaking(self, only: str) -> list[str | int]:
        """Return what zeroconf shall speak on: who listens on one address alone is announced, and looks, only there."""
        chosen = [only] if only in self.addresses else self.addresses
        index = dict(self.index)
        return list(dict.fromkeys(index.get(address, address) for address in chosen))


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What is announced: one port at one or more addresses."""

    port: int
    addresses: tuple[str, ...]


def advertisement_for(
    listening: Sequence[str], port: int, advertise: str | None, own: Sequence[str]
) -> Advertisement | None:
    """Return where to say that this peer is; None for nowhere.

    Args:
        listening: The addresses it listens on; ANY_V4 and ANY_V6 are all of that kind.
        advertise: The endpoint to tell others; counts when it is an address, names are not announced.
        own: Interfaces.addresses.
    """
    if all(is_loopback(address) for address in listening):
        return None
    if advertise is not None:
        host, advertised = split_endpoint(advertise)
        if is_reachable(host):
            return Advertisement(advertised, (str(ip_address(host)),))
    fitting = [address for address in own if _listens(listening, address)]
    return Advertisement(port, tuple(fitting[:MAX_ADDRESSES])) if fitting else None


def _listens(listening: Sequence[str], address: str) -> bool:
    return address in listening or (ANY_V6 if ":" in address else ANY_V4) in listening


async def addresses_of(host: str) -> tuple[str, ...]:
    """Return the addresses that listening on `host` means; "" is all, a name is looked up, () what has none."""
    if not host:
        return ANY_V4, ANY_V6
    try:
        return (str(ip_address(host)),)
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def interfaces() -> Interfaces:
    """Look at this machine's network; empty when there is none, or it may not be looked at."""
    import ifaddr  # comes with zeroconf

    try:
        adapters = list(ifaddr.get_adapters())
    except OSError:
        return Interfaces()
    found: dict[str, int] = {}
    for adapter in adapters:
        for ip in adapter.ips:
            address = ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0]
            if is_reachable(address):
                found.setdefault(str(ip_address(address)), adapter.index or 0)
    return _sorted(found, routed_addresses())


def _sorted(found: dict[str, int], first: Iterable[str]) -> Interfaces:
    """The order matters only where there are more addresses than are announced: containers have many."""
    addresses = [address for address in dict.fromkeys(first) if address in found]
    addresses += sorted(address for address in found if address not in addresses)
    return Interfaces(tuple(addresses), tuple((address, found[address]) for address in addresses if ":" in address))


# ---- sightings
#
# Who is announced where at present, service by service, and what of that is news.
#
# A peer may be announced twice for a while: it has started again, and nobody has said that the former one is over.
# What it is told to be at is all of it together.


MAX_SERVICES = 64  # announcements of members kept at once, as many as addresses of one teller in the address book

News = tuple[PeerId, tuple[str, ...]]  # a peer and all its endpoints; () when it is not announced any more


class SeenServices:
    """What was recognised, by the name of the service."""

    def __init__(self) -> None:
        self._seen: dict[str, News] = {}

    def seen(self, service: str, peer: PeerId, endpoints: tuple[str, ...]) -> list[News]:
        """This service is that peer, there; return what is to be told, [] when nothing is new or there is no room."""
        former = self._seen.get(service)
        if former == (peer, endpoints) or (former is None and len(self._seen) >= MAX_SERVICES):
            return []
        self._seen[service] = (peer, endpoints)
        changed = dict.fromkeys([peer] if former is None else [former[0], peer])
        return [self._of(one) for one in changed]

    def gone(self, service: str) -> list[News]:
        """This service is over; return what is to be told, [] when nobody was recognised there."""
        former = self._seen.pop(service, None)
        return [] if former is None else [self._of(former[0])]

    def clear(self) -> None:
        """Forget everything and tell nothing: who is still there is seen again."""
        self._seen.clear()

    def _of(self, peer: PeerId) -> News:
        places = [endpoint for one, endpoints in self._seen.values() if one == peer for endpoint in endpoints]
        return peer, tuple(dict.fromkeys(places))
