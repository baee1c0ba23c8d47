"""Discovery on the local network over multicast DNS.

A peer announces itself, and looks for members of its network. When the addresses of this machine change, a new session
begins, and members that are still there are reported again. A failure (no network, no multicast, port 5353 taken) is
one warning, and is tried again when the network changes or after a minute. Floods of announcements are bounded:
MAX_RESOLVES at once, MAX_UNRESOLVED waiting, MAX_TXT_BYTES each, MAX_SERVICES kept. What zeroconf itself remembers it
bounds itself.

Only members can see which peer announces itself:

    _p2pchat._tcp.local., with random instance and host names, port and addresses as usual, and in TXT
    v = 1
    s = salt, 16 random bytes
    p = peer id xor HMAC-SHA256(K, "p2pchat/discover/1 peer\0" || salt)
    m = HMAC-SHA256(K, "p2pchat/discover/1\0" || salt || p || u16be port || addresses)

Without the network's key K these are random bytes, different at each start. With it, m proves that a member said
exactly this, so that salt and proof cannot be combined with other addresses, and p says whose key must answer there. It
does not prove that the peer may join: the handshake checks that.

Source: docs/protocol-discovery.md; RFC 6762 and 6763.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from p2pchat.addresses import is_loopback, join_endpoint, split_endpoint
from p2pchat.errors import P2PChatError
from p2pchat.extras import missing_extra
from p2pchat.identity.own_addresses import is_reachable, routed_addresses
from p2pchat.protocol import PeerId
from p2pchat.threads import ends_within, look_up, stop_tasks

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

INTERFACES_CHECKED_EVERY = 3.0  # seconds between checks of this machine's addresses
BROWSE_AGAIN_AFTER = 300.0  # seconds; multicast packets get lost, above all on wireless networks
RETRY_AFTER = 60.0  # seconds after a failure on an unchanged network
RESOLVE_TIMEOUT_MS = 3000  # milliseconds to get a whole announcement
MAX_RESOLVES = 64  # announcements resolved at once
MAX_UNRESOLVED = 4096  # names of announcements that wait to be resolved; more are ignored; a guess, 1 MiB
TTL = 1125  # seconds until a peer that left without a goodbye disappears; the least that zeroconf respects
CLOSE_TIMEOUT = 3.0  # seconds; a goodbye takes a quarter of one
MAX_SERVICES = 64  # kept announcements, as many as addresses from one peer in the address book
ANY_V4, ANY_V6 = "0.0.0.0", "::"

SERVICE_TYPE = "_p2pchat._tcp.local."
VERSION = b"1"
SALT_BYTES = 16  # a new one at each start
MAX_ADDRESSES = 8  # as many as the address book keeps of a peer
MAX_TXT_BYTES = 1024  # ours has 175; a later version may have more

_TAG = b"p2pchat/discover/1\0"
_PEER_TAG = b"p2pchat/discover/1 peer\0"

PeerEndpoints = tuple[PeerId, tuple[str, ...]]  # () when it is no longer announced
Sighted = Callable[[PeerId, tuple[str, ...]], None]
Warn = Callable[[str], None]


def require() -> None:
    """Raise P2PChatError unless the extra `discovery` is installed. It imports zeroconf, which takes a moment."""
    try:
        import zeroconf.asyncio  # noqa: F401
    except ImportError:
        raise P2PChatError(missing_extra("discovery needs zeroconf", "discovery")) from None


class Discovery:
    """Discovery of members on the local network, and announcement of this peer.

    Args:
        key: The network's key K.
        host: What this peer listens on. On loopback it looks for others, but is not announced.
        advertise: The endpoint to announce, None for the addresses of this machine.
        on_sighted: Called with a peer and all its announced endpoints; () when it is no longer announced.
        warn: Called with a sentence about a failure, once until discovery works again.
    """

    def __init__(
        self,
        peer: PeerId,
        key: bytes,
        *,
        host: str,
        port: int,
        advertise: str | None,
        on_sighted: Sighted,
        warn: Warn,
    ) -> None:
        self._peer = peer
        self._key = key
        self._host = host
        self._port = port
        self._advertise = advertise
        self._on_sighted = on_sighted
        self._warn = warn
        self._seen_services = SeenServices()
        self._stopping = asyncio.Event()
        self._warned = False
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Withdraw the announcement, and report nothing any more."""
        self._stopping.set()
        _, late = await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task])

    # Sessions

    async def _run(self) -> None:
        around, self._listening = interfaces(), await addresses_of(self._host)
        while not self._stopping.is_set():
            session = MDNSSession(self._peer, self._key, self._on_service)
            try:
                around = await self._run_session(session, around)
            finally:
                await session.close()
                self._seen_services.clear()

    async def _run_session(self, session: MDNSSession, around: NetworkInterfaces) -> NetworkInterfaces:
        """Run on the present network; return the next one, or the same one when it is time to start again."""
        try:
            await self._open(session, around)
            self._warned = False
            while (now := await self._changed(around, BROWSE_AGAIN_AFTER)) == around and not self._stopping.is_set():
                await session.browse()
            return now
        except Exception as error:  # an error of zeroconf or the system must not end the peer
            if not self._warned:
                self._warned = True
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                self._warn(f"members on the local network are not found, nor is this peer by them, for now: {reason}")
        return await self._changed(around, RETRY_AFTER)

    async def _open(self, session: MDNSSession, around: NetworkInterfaces) -> None:
        if not around.addresses:
            raise OSError("this machine has no address on a local network")
        only = self._listening[0] if len(self._listening) == 1 else ""
        place = advertisement_for(self._listening, self._port, self._advertise, around.addresses)
        await session.open(around.interfaces_for(only), place)

    async def _changed(self, around: NetworkInterfaces, patience: float) -> NetworkInterfaces:
        """Return this machine's network once it has changed and stays so, or after `patience` seconds."""
        waited, last = 0.0, around
        while waited < patience:
            if await ends_within(INTERFACES_CHECKED_EVERY, self._stopping.wait()):
                return around
            waited += INTERFACES_CHECKED_EVERY
            seen = interfaces()
            if seen == last != around:
                return seen
            last = seen
        return around

    def _on_service(self, service: str, announced: PeerEndpoints | None) -> None:
        for peer, endpoints in self._seen_services.note(service, announced):
            if not self._stopping.is_set():
                self._on_sighted(peer, endpoints)


class MDNSSession:
    """One use of zeroconf, on one state of the network.

    Args:
        report: Called with the name of a service, and the member that it announces with its endpoints; None when the
            service is over, or is not a member's any more.
    """

    def __init__(self, peer: PeerId, key: bytes, report: Callable[[str, PeerEndpoints | None], None]) -> None:
        self._peer = peer
        self._key = key
        self._report = report
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._registration: asyncio.Future[Any] | None = None
        self._resolves: dict[str, asyncio.Task[None]] = {}
        self._unresolved: dict[str, None] = {}  # names that wait, first come first

    async def open(self, interfaces_for: list[str | int], place: Advertisement | None) -> None:
        """Start to browse, and to announce this peer at `place`.

        Raises:
            Exception: Any error of zeroconf or the system. close() must be called all the same.
        """
        from zeroconf.asyncio import AsyncZeroconf

        plain: list[str | int] = [one for one in interfaces_for if isinstance(one, str)]
        try:
            self._zeroconf = AsyncZeroconf(interfaces=interfaces_for)
        except (OSError, RuntimeError):  # the system does not support IPv6 and IPv4 on one socket
            if plain in ([], interfaces_for):
                raise
            self._zeroconf = AsyncZeroconf(interfaces=plain)
        await self._zeroconf.zeroconf.async_wait_for_start()
        if not self._zeroconf.zeroconf.engine.senders:
            raise OSError("no interface takes multicast")
        if place is not None:
            self._registration = await self._announce(self._zeroconf, place)
        await self.browse()

    async def browse(self) -> None:
        """Ask for services. When called again, known services are reported again too."""
        from zeroconf.asyncio import AsyncServiceBrowser

        assert self._zeroconf is not None
        if self._browser is not None:
            await self._browser.async_cancel()
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._on_service_change])

    async def _announce(self, zeroconf: AsyncZeroconf, place: Advertisement) -> asyncio.Future[Any]:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"{secrets.token_hex(8)}.{SERVICE_TYPE}",
            port=place.port,
            properties=txt_record(self._key, self._peer, place.port, place.addresses, secrets.token_bytes(SALT_BYTES)),
            server=f"{secrets.token_hex(8)}.local.",
            other_ttl=TTL,
            parsed_addresses=list(place.addresses),
        )
        # The names are random, so there is nothing to probe for.
        return asyncio.ensure_future(await zeroconf.async_register_service(info, cooperating_responders=True))

    def _on_service_change(self, zeroconf: object, service_type: str, name: str, state_change: Any) -> None:
        if state_change.name == "Removed":
            self._unresolved.pop(name, None)
            self._report(name, None)
        elif name not in self._resolves and len(self._unresolved) < MAX_UNRESOLVED:
            self._unresolved[name] = None
            self._resolve_next()

    def _resolve_next(self) -> None:
        while self._unresolved and len(self._resolves) < MAX_RESOLVES:
            name = next(iter(self._unresolved))
            del self._unresolved[name]
            self._resolves[name] = task = asyncio.create_task(self._resolve(name))
            task.add_done_callback(partial(self._on_resolved, name))

    def _on_resolved(self, name: str, task: object) -> None:
        del self._resolves[name]
        self._resolve_next()

    async def _resolve(self, name: str) -> None:
        """Get the whole announcement, and identify the peer."""
        from zeroconf.asyncio import AsyncServiceInfo

        assert self._zeroconf is not None
        try:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            came = await info.async_request(self._zeroconf.zeroconf, RESOLVE_TIMEOUT_MS)
        except Exception:  # a name or record that zeroconf cannot read is not ours
            return
        peer, addresses = None, sorted(set(info.parsed_addresses()))
        if came and len(info.text or b"") <= MAX_TXT_BYTES:
            peer = identify(self._key, info.properties, info.port, addresses)
        if peer is None:
            self._report(name, None)
        elif peer != self._peer:
            self._report(name, (peer, tuple(join_endpoint(address, info.port or 0) for address in addresses)))

    async def close(self) -> None:
        """Withdraw the announcement, and close everything."""
        self._unresolved.clear()
        tasks = [*self._resolves.values(), *([self._registration] if self._registration is not None else [])]
        await stop_tasks(tasks)
        with suppress(Exception):  # what failed in open() fails again
            if self._browser is not None:
                await self._browser.async_cancel()
        with suppress(Exception):  # nothing depends on it
            if self._zeroconf is not None:
                await self._zeroconf.async_close()


def txt_record(key: bytes, peer: PeerId, port: int, addresses: Sequence[str], salt: bytes) -> dict[str, str]:
    """Return the TXT record of an announcement.

    Args:
        key: The network's key K.
        addresses: IPv4 and IPv6 addresses in any order, at most MAX_ADDRESSES.
        salt: SALT_BYTES random bytes that are used for nothing else.
    """
    hidden = _xor(bytes.fromhex(peer), _mask(key, salt))
    proof = _proof(key, salt, hidden, port, addresses)
    return {"v": VERSION.decode(), "s": salt.hex(), "p": hidden.hex(), "m": proof.hex()}


def identify(
    key: bytes, txt: Mapping[bytes, bytes | None], port: int | None, addresses: Sequence[str]
) -> PeerId | None:
    """Return the announced peer; None when it was not announced by a member of our network."""
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
    """Return m. Each address is one byte of length (4 or 16) and its bytes; they are sorted as bytes."""
    places = sorted(ip_address(address).packed for address in addresses)
    what = b"".join(bytes([len(place)]) + place for place in places)
    return hmac.digest(key, _TAG + salt + hidden + port.to_bytes(2, "big") + what, "sha256")


def _mask(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, _PEER_TAG + salt, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _bytes(txt: Mapping[bytes, bytes | None], name: bytes, size: int) -> bytes:
    """Return a value of exactly this size, in lower-case hex; b"" for anything else."""
    text = txt.get(name) or b""
    try:
        value = bytes.fromhex(text.decode("ascii"))
    except ValueError:  # not hex, or not ASCII
        return b""
    return value if len(value) == size and value.hex().encode() == text else b""  # fromhex takes blanks and "AB" too


@dataclass(frozen=True)
class NetworkInterfaces:
    """The network of this machine at one moment.

    Attributes:
        addresses: Addresses at which others may reach this machine, the one towards the internet first.
        index: The interface index of each IPv6 address, because IPv6 multicast is sent by interface.
    """

    addresses: tuple[str, ...] = ()
    index: tuple[tuple[str, int], ...] = ()

    def interfaces_for(self, only: str) -> list[str | int]:
        """Return zeroconf's interfaces. A peer that listens on `only` one address uses that one alone."""
        chosen = [only] if only in self.addresses else self.addresses
        index = dict(self.index)
        return list(dict.fromkeys(index.get(address, address) for address in chosen))


@dataclass(frozen=True)
class Advertisement:
    """An announcement: a port at one or more addresses."""

    port: int
    addresses: tuple[str, ...]


def advertisement_for(
    listening: Sequence[str], port: int, advertise: str | None, own: Sequence[str]
) -> Advertisement | None:
    """Return where to announce this peer; None for nowhere.

    Args:
        listening: The addresses it listens on. ANY_V4 and ANY_V6 stand for all of their kind.
        advertise: The endpoint to tell others. It counts when it is an address; names are not announced.
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
    """Return the addresses that a listening host means: all for "" and ::, those of a name, () for an unknown name."""
    if host in ("", ANY_V6):
        return ANY_V4, ANY_V6
    try:
        return (str(ip_address(host)),)
    except ValueError:
        pass
    try:
        found = await look_up(host)
    except OSError:
        return ()
    return tuple(dict.fromkeys(address.partition("%")[0] for address in found))


def interfaces() -> NetworkInterfaces:
    """Return the network of this machine; empty when there is none, or it cannot be read."""
    import ifaddr  # comes with zeroconf

    try:
        adapters = list(ifaddr.get_adapters())
    except OSError:
        return NetworkInterfaces()
    found: dict[str, int] = {}
    for adapter in adapters:
        for ip in adapter.ips:
            address = ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0]
            if is_reachable(address):
                found.setdefault(str(ip_address(address)), adapter.index or 0)
    return _sorted(found, routed_addresses())


def _sorted(found: dict[str, int], first: Iterable[str]) -> NetworkInterfaces:
    """Sort addresses. It matters when there are more than are announced: hosts of containers have many."""
    addresses = [address for address in dict.fromkeys(first) if address in found]
    addresses += sorted(address for address in found if address not in addresses)
    return NetworkInterfaces(
        tuple(addresses), tuple((address, found[address]) for address in addresses if ":" in address)
    )


class SeenServices:
    """Services of members that are announced now, by name, and what changes.

    A peer may be announced twice for a while: it has started again, and its former announcement was not withdrawn. Its
    endpoints are those of all its announcements.
    """

    def __init__(self) -> None:
        self._seen: dict[str, PeerEndpoints] = {}

    def note(self, service: str, announced: PeerEndpoints | None) -> list[PeerEndpoints]:
        """Note a member's service, None when it is over. Return what to report about the peers concerned.

        Nothing is noted when there is no room for another service.
        """
        former = self._seen.get(service)
        if former == announced or (former is None and len(self._seen) >= MAX_SERVICES):
            return []
        if announced is None:
            del self._seen[service]
        else:
            self._seen[service] = announced
        changed = dict.fromkeys(one[0] for one in (former, announced) if one is not None)
        return [self._of(peer) for peer in changed]

    def clear(self) -> None:
        """Forget everything and report nothing: members that are still there are seen again."""
        self._seen.clear()

    def _of(self, peer: PeerId) -> PeerEndpoints:
        places = [endpoint for one, endpoints in self._seen.values() if one == peer for endpoint in endpoints]
        return peer, tuple(dict.fromkeys(places))
