"""Announcements on the local network: arbitrary TXT records, of which only those of members are accepted."""

from __future__ import annotations

import hmac
from functools import cache
from ipaddress import ip_address

from p2pchat.addresses import is_shareable
from p2pchat.discovery import identify, txt_record
from p2pchat.settings import Settings
from tests.fuzz.choices import Supply
from tests.fuzz.target import Target, hold

PEER, SALT = "a1" * 32, bytes(range(16))
KEYS = (b"\x0b" * 32, b"\x0a" * 32)
PLACES = ("192.0.2.7", "2001:db8::7", "fe80::1%eth0", "127.0.0.1", "::ffff:192.0.2.1", "nonsense", "192.0.2.7\0", "")
Txt = dict[bytes, bytes | None]


def announced(data: bytes) -> None:
    supply = Supply(data)
    key = supply.pick(KEYS)
    addresses = [supply.pick(PLACES) for _ in range(supply.below(4) or supply.below(11))]
    port = supply.pick((8080, 8080, 1, 0, 65535, 65536, -1, None))
    txt = bent(supply, made(supply, key, port or 0, addresses))
    peer = identify(key, txt, port, addresses)
    if peer is not None:
        hold(is_true(key, txt, port, addresses, peer), "somebody was recognised who did not say so")
    text = supply.rest().decode("utf-8", "replace")
    is_shareable(text, from_loopback=supply.yes(), settings=Settings())


def made(supply: Supply, key: bytes, port: int, addresses: list[str]) -> Txt:
    """Return a valid TXT record, or an arbitrary one with the proof of a member."""
    usable = [address for address in addresses if is_address(address)]
    true = txt_record(key, PEER, port & 0xFFFF, usable, SALT)
    txt: Txt = {name.encode(): value.encode() for name, value in true.items()}
    if supply.yes(3):
        hidden = supply.pick(
            (b"ab" * 31 + b"  ", b"ab" * 32, b"AB" * 32, b"ab" * 31 + b"\xff\xfe", b" " * 64, b"ab" * 33)
        )
        txt[b"p"] = hidden
        try:
            said = SALT + bytes.fromhex(hidden.decode())
        except ValueError:
            return txt
        places = b"".join(bytes([len(one)]) + one for one in sorted(ip_address(each).packed for each in usable))
        what = b"p2pchat/discover/1\0" + said + (port & 0xFFFF).to_bytes(2, "big") + places
        txt[b"m"] = hmac.digest(key, what, "sha256").hex().encode()
    return txt


def bent(supply: Supply, txt: Txt) -> Txt:
    """Return the record with one change or none."""
    name = supply.pick((b"v", b"s", b"p", b"m"))
    match supply.below(6):
        case 0:
            txt[name] = supply.take(supply.below(80))
        case 1:
            value = bytearray(txt[name] or b"0")
            value[supply.below(len(value))] = supply.below(256)
            txt[name] = bytes(value)
        case 2:
            txt.pop(name)
        case 3:
            txt[name] = None
    return txt


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_true(key: bytes, txt: Txt, port: int | None, addresses: list[str], peer: str) -> bool:
    """Return True if a member announced this, by the rules of docs/protocol.md."""
    s, p, m = (bytes.fromhex((txt.get(name) or b"").decode()) for name in (b"s", b"p", b"m"))
    places = b"".join(bytes([len(one)]) + one for one in sorted(ip_address(each).packed for each in addresses))
    proof = hmac.digest(key, b"p2pchat/discover/1\0" + s + p + (port or 0).to_bytes(2, "big") + places, "sha256")
    mask = hmac.digest(key, b"p2pchat/discover/1 peer\0" + s, "sha256")
    return (
        (len(s), len(p)) == (16, 32) and proof == m and bytes(a ^ b for a, b in zip(p, mask, strict=True)).hex() == peer
    )


def seeds() -> list[bytes]:
    return [
        bytes(40),
        *(bytes((n,)) * 60 + b"\5\0\0\1\2" for n in range(12)),
        b"[::1]:80\x05",
        b"host.example:8080\5\5\5\5\5",
    ]


@cache
def targets() -> tuple[Target, ...]:
    return (
        Target("announcements", "what is announced nearby", announced, seeds, [b"0" * 64, b" ", b"\xff"], 256, 300),
    )
