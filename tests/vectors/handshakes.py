"""Vectors of handshakes, certificates, invites, announcements and names."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.vectors.material import (
    ADA,
    ADMIN,
    BOB,
    CYD,
    FOUNDER,
    GUEST,
    IDS,
    KEYS,
    MEMBER,
    RUNS,
    SEEDS,
    T0,
    K,
    N,
    Row,
    b32,
    blake,
    row,
    u64,
)
from tests.vectors.members import ADDED, INVITE, Said, guest_of, invite_proof, invite_secret, said

SERVER_NONCE, CLIENT_NONCE = blake(b"server nonce"), blake(b"client nonce")
DAY_MS = 24 * 3600 * 1000

# Handshakes


def transcript(server: str, client: str, client_nonce: bytes = CLIENT_NONCE) -> bytes:
    return b"p2pchat/link/1\0" + b"\0\4" + IDS[server] + IDS[client] + SERVER_NONCE + client_nonce


def proof(side: str, key: bytes, t: bytes) -> str:
    return hmac.digest(key, b"p2pchat/invite/1 " + side.encode() + b"\0" + t, "sha256").hex()


def client_hello(key: bytes | None, t: bytes, client: str = "bob") -> dict[str, Any]:
    hello = {
        "t": "hello",
        "v": 4,
        "nonce": CLIENT_NONCE.hex(),
        "id": IDS[client].hex(),
        "sig": KEYS[client].sign(t).hex(),
    }
    return hello | ({"proof": proof("client", key, t)} if key else {})


SERVER_HELLO = {"t": "hello", "v": [4], "nonce": SERVER_NONCE.hex()}


def welcomed(t: bytes, show: dict[str, Any] | None = None, key: bytes = K) -> dict[str, Any]:
    """Return ada's welcome. Her login founded the network."""
    shown = {"founder": FOUNDER, "guest": guest_of("founder", "ada")} if show is None else show
    return {"t": "welcome", "proof": proof("server", key, t), "show": shown}


def shown(**changes: Any) -> dict[str, Any]:
    """Return what bob shows, whose login was added by the founder; None leaves a field out."""
    show = {"founder": FOUNDER, "guest": guest_of("member", "bob"), "s": [ADDED]} | changes
    return {"t": "show", "show": {field: value for field, value in show.items() if value is not None}}


SHOW, ADMIT = shown(), {"t": "admit"}


def handshakes() -> list[Row]:
    """Return transcripts of bob dialling ada, from either end, up to `go`."""
    return [*_proving(), *_listening(), *_dialling()]


T_OF_BOB = transcript("ada", "bob")
HELLO, WELCOME = client_hello(K, T_OF_BOB), welcomed(T_OF_BOB)
GO = {"t": "go", "run": RUNS["ada2"].hex(), "n": 1}


def end(side: str, *frames: object, **more: object) -> dict[str, Any]:
    """Return the `given` of one end; None in `more` leaves a field out."""
    is_listener = side == "listener"
    seed, nonce = (SEEDS["ada"], SERVER_NONCE) if is_listener else (SEEDS["bob"], CLIENT_NONCE)
    made: dict[str, Any] = {"side": side, "seed": seed.hex(), "nonce": nonce.hex(), "network": N.hex(), "key": K.hex()}
    made |= {"founder": FOUNDER, "member": SEEDS["founder" if is_listener else "member"].hex()}
    made |= {} if is_listener else {"server": ADA, "statements": [ADDED]}
    return {field: value for field, value in (made | more).items() if value is not None} | {"in": list(frames)}


def listener(*frames: object, **more: object) -> dict[str, Any]:
    return end("listener", *frames, **more)


def dialler(*frames: object, **more: object) -> dict[str, Any]:
    return end("dialler", *frames, **more)


def proved(peer: str, *out: object, t: bytes = T_OF_BOB) -> dict[str, Any]:
    return {"out": list(out), "transcript": t.hex(), "peer": peer}


def refused(code: str, *out: object) -> dict[str, Any]:
    return {"out": list(out), "refused": code}


def _proving() -> list[Row]:
    """Return what is proved by the frames up to `welcome`."""
    t, hello, unproven = T_OF_BOB, HELLO, client_hello(None, T_OF_BOB)
    forwarded = KEYS["bob"].sign(transcript("cyd", "bob")).hex()
    old = KEYS["bob"].sign(transcript("ada", "bob", SERVER_NONCE)).hex()
    own = client_hello(K, transcript("ada", "ada"), "ada")
    of_other_key = hello | {"proof": proof("client", N + N, t)}
    of_server = hello | {"proof": WELCOME["proof"]}
    reflected = WELCOME | {"proof": hello["proof"]}
    earlier = SERVER_HELLO | {"v": [3]}
    opened = (SERVER_HELLO,)
    return [
        row(
            "listener",
            "Both ends prove that they hold K, and that a member answers for them.",
            listener(hello, SHOW),
            proved(BOB, *opened, WELCOME, ADMIT),
        ),
        row(
            "listener, version 2",
            "The client chooses a version that was not offered.",
            listener(hello | {"v": 2}),
            refused("version", *opened),
        ),
        row("listener, its own id", "A peer met itself.", listener(own), refused("self", *opened)),
        row(
            "listener, a forwarded signature",
            "T names the server: bob signed it for cyd, who hands it on.",
            listener(hello | {"sig": forwarded}),
            refused("identity", *opened),
        ),
        row(
            "listener, an old signature",
            "T names both nonces: bob signed it for another client nonce.",
            listener(hello | {"sig": old}),
            refused("identity", *opened),
        ),
        row(
            "listener, no proof",
            "Both sides require the proof.",
            listener(unproven),
            refused("network", *opened),
        ),
        row(
            "listener, the proof of another key",
            "The client holds another key than K.",
            listener(of_other_key),
            refused("network", *opened),
        ),
        row(
            "listener, the server's proof",
            "The tags of the two proofs differ, so neither stands for the other.",
            listener(of_server),
            refused("network", *opened),
        ),
        row(
            "listener, a server's hello",
            "A list of versions comes from servers only.",
            listener(SERVER_HELLO),
            refused("malformed", *opened),
        ),
        row(
            "listener, a ping",
            "Nothing but the client's hello may come now.",
            listener({"t": "ping"}),
            refused("order", *opened),
        ),
        row(
            "listener, a second hello",
            "The client's hello comes once.",
            listener(hello, hello),
            refused("order", *opened, WELCOME),
        ),
        row(
            "dialler",
            "Both ends prove that they hold K, and that a member answers for them.",
            dialler(SERVER_HELLO, WELCOME, ADMIT),
            proved(ADA, hello, SHOW),
        ),
        row(
            "dialler, pinned",
            "The key in the certificate is the pinned one.",
            dialler(SERVER_HELLO, WELCOME, ADMIT, pin=ADA),
            proved(ADA, hello, SHOW),
        ),
        row(
            "dialler, versions 5 and 4",
            "The client chooses a version it speaks.",
            dialler(SERVER_HELLO | {"v": [5, 4]}, WELCOME, ADMIT),
            proved(ADA, hello, SHOW),
        ),
        row("dialler, version 3 only", "There is no version in common.", dialler(earlier), refused("version")),
        row(
            "dialler, another pin",
            "Another key answers than the pinned one: the connection closes and no frame is sent.",
            dialler(pin=CYD),
            refused("identity"),
        ),
        row("dialler, its own key", "A peer met itself.", dialler(server=BOB), refused("self")),
        row(
            "dialler, no proof",
            "Both sides require the proof.",
            dialler(SERVER_HELLO, {"t": "welcome"}),
            refused("network", hello),
        ),
        row(
            "dialler, its own proof",
            "The server hands the client's proof back.",
            dialler(SERVER_HELLO, reflected),
            refused("network", hello),
        ),
        row("dialler, a client's hello", "A client's hello came from a server.", dialler(hello), refused("malformed")),
        row("dialler, go at once", "The server's hello comes first.", dialler(GO), refused("order")),
        row(
            "dialler, go before welcome",
            "The welcome comes before go.",
            dialler(SERVER_HELLO, GO),
            refused("order", hello),
        ),
    ]


def _listening() -> list[Row]:
    """Return whom a server admits."""
    opened = (SERVER_HELLO, WELCOME)

    def shows(name: str, why: str, show: dict[str, Any], code: str = "", *out: object, **more: object) -> Row:
        result = refused(code, *opened, *out) if code else proved(BOB, *opened, *out, ADMIT)
        return row(f"listener, {name}", why, listener(HELLO, show, **more), result)

    def newcomer(name: str, why: str, code: str = "", *, held: list[Said] | None = None, **terms: Any) -> Row:
        given = {"statements": held} if held else {}
        changed = terms.pop("changed", {})
        invite = invite_proof(T_OF_BOB, **terms) | changed
        return shows(name, why, shown(s=None, invite=invite), code, **given)

    out = said("founder", "remove", 1, who=[MEMBER])
    guest_out = said("founder", "remove", 2, who=[BOB])
    uses = [said("founder", "add", n, who=[who], invite=INVITE["id"]) for n, who in enumerate((CYD, GUEST))]
    again = said("founder", "add", 0, who=[MEMBER], invite=INVITE["id"])
    of_member = transcript("ada", "member")
    forged = [ADDED[0], KEYS["admin"].sign(b"p2pchat/member/1\0" + N + ADDED[0].encode()).hex()]
    admin, by_admin = said("founder", "admin", 1, who=[ADMIN]), said("admin", "add", 2, who=[MEMBER])
    return [
        row(
            "listener, a member itself",
            "A member needs no certificate.",
            listener(client_hello(K, of_member, "member"), shown(guest=None)),
            proved(MEMBER, SERVER_HELLO, welcomed(of_member), ADMIT, t=of_member),
        ),
        shows("nothing more to show", "The server knows the statements.", shown(s=None), statements=[ADDED]),
        shows("added by an admin", "It shows the statement that makes the admin too.", shown(s=[admin, by_admin])),
        shows("nothing is shown", "No member answers for the client.", {"t": "show", "show": {}}, "member"),
        shows("no certificate", "The user is no member.", shown(guest=None), "member"),
        shows("a certificate of another user", "It names the user.", shown(guest=guest_of("member", "cyd")), "member"),
        shows(
            "a certificate of another network",
            "It names N.",
            shown(guest=guest_of("member", "bob", bytes(16))),
            "member",
        ),
        shows("a guest of nobody", "Nobody added that member.", shown(guest=guest_of("admin", "bob")), "member"),
        shows("no statement", "It shows nothing by which the member is one.", shown(s=None), "member"),
        shows("added by no admin", "The admin was not made one.", shown(s=[by_admin]), "member"),
        shows("a forged statement", "Its author did not sign it.", shown(s=[forged]), "member"),
        shows(
            "a removed member",
            "The removal comes before the goodbye.",
            SHOW,
            "member",
            {"t": "statements", "s": [out]},
            statements=[out],
        ),
        shows(
            "a removed guest",
            "Its member stays, and it is out.",
            SHOW,
            "member",
            {"t": "statements", "s": [guest_out]},
            statements=[guest_out],
        ),
        newcomer("an invite", "The maker adds the member, and admits it when that is on disk."),
        newcomer("an invite, its last use", "It admits two.", held=uses[:1]),
        newcomer("an invite, used up", "It admits two.", "used", held=uses),
        newcomer("an invite, once more", "Who was added by it before is a member.", held=[*uses[:1], again]),
        newcomer("an invite that has ended", "It was good until then.", "late", until=T0 // 1_000_000 - 1),
        shows(
            "an invite that was closed",
            "A statement says that, whatever its other terms.",
            shown(s=None, invite=invite_proof(T_OF_BOB, until=1)),
            "revoked",
            statements=[said("founder", "close", invites=[INVITE["id"]])],
        ),
        newcomer("an invite of another maker", "Only its maker admits with it.", "maker", maker="cyd"),
        newcomer("an invite with other terms", "The secret is made of the terms.", "invite", changed={"uses": 64}),
        newcomer("an invite of another member", "The proof is over the member.", "invite", member="cyd"),
        row(
            "listener, an invite of another connection",
            "The proof is over T.",
            listener(HELLO, shown(s=None, invite=invite_proof(of_member))),
            refused("invite", *opened),
        ),
        row(
            "listener, an invite of a removed member",
            "A removal outweighs it.",
            listener(HELLO, shown(s=None, invite=invite_proof(T_OF_BOB)), statements=[out]),
            refused("member", *opened, {"t": "statements", "s": [out]}),
        ),
        row(
            "listener, members and a goodbye",
            "A client that refuses the server may send removals before.",
            listener(HELLO, {"t": "statements", "s": [out]}, SHOW),
            refused("member", *opened, {"t": "statements", "s": [out]}),
        ),
        row(
            "listener, admit",
            "Only the server admits so.",
            listener(HELLO, ADMIT),
            refused("order", *opened),
        ),
        row(
            "listener, two shows",
            "It comes once.",
            listener(HELLO, SHOW, SHOW),
            refused("order", *opened, ADMIT),
        ),
        row(
            "listener, a ping before show",
            "Nothing but `show`, `members` and `bye` may come now.",
            listener(HELLO, {"t": "ping"}),
            refused("order", *opened),
        ),
        row(
            "listener, a named network",
            "Whoever knows its key is admitted, and nothing is shown.",
            listener(HELLO, {"t": "show", "show": {}}, named=True, founder=None, member=None),
            proved(BOB, SERVER_HELLO, welcomed(T_OF_BOB, {}), ADMIT),
        ),
    ]


def _dialling() -> list[Row]:
    """Return which server a client admits, and what it shows."""
    t = T_OF_BOB
    invited = {"maker": ADA, **INVITE, "secret": invite_secret().hex()}
    newcomer = {"founder": None, "statements": None, "invite": invited}
    other = KEYS["cyd"].public_key().public_bytes_raw().hex()
    out, own_out = said("founder", "remove", 1, who=[ADA]), said("founder", "remove", 2, who=[MEMBER])

    def shows(name: str, why: str, show: dict[str, Any], *out: object, **more: object) -> Row:
        welcome = welcomed(t, show)
        return row(f"dialler, {name}", why, dialler(SERVER_HELLO, welcome, **more), refused("member", HELLO, *out))

    own = shown(s=None, invite=invite_proof(t))
    return [
        row(
            "dialler, a newcomer",
            "It takes the founder whose hash is N, and shows the proof of its invite.",
            dialler(SERVER_HELLO, WELCOME, ADMIT, **newcomer),
            proved(ADA, HELLO, own),
        ),
        row(
            "dialler, an invite that is used",
            "A member shows the statement that added it.",
            dialler(SERVER_HELLO, WELCOME, ADMIT, invite=invited),
            proved(ADA, HELLO, SHOW),
        ),
        shows("nothing is shown", "No member answers for the server.", {}),
        row(
            "dialler, a welcome without show",
            "It is as empty.",
            dialler(SERVER_HELLO, {"t": "welcome", "proof": WELCOME["proof"]}),
            refused("member", HELLO),
        ),
        shows(
            "a certificate of another user",
            "It names the user.",
            {"founder": FOUNDER, "guest": guest_of("founder", "cyd")},
        ),
        shows(
            "another founder",
            "Its hash is not N.",
            {"founder": other, "guest": guest_of("cyd", "ada")},
            **newcomer,
        ),
        shows(
            "a removed server",
            "The removal comes before the goodbye.",
            WELCOME["show"],
            {"t": "statements", "s": [out]},
            statements=[ADDED, out],
        ),
        row(
            "dialler, go before admit",
            "The server admits the client before.",
            dialler(SERVER_HELLO, WELCOME, GO),
            refused("order", HELLO, SHOW),
        ),
        row(
            "dialler, show",
            "Only the client shows so.",
            dialler(SERVER_HELLO, WELCOME, SHOW),
            refused("order", HELLO, SHOW),
        ),
        row(
            "dialler, members and a goodbye",
            "The server says who removed the client's member.",
            dialler(SERVER_HELLO, WELCOME, {"t": "statements", "s": [own_out]}, {"t": "bye", "code": "member"}),
            {"out": [HELLO, SHOW], "said": "member"},
        ),
        row(
            "dialler, a named network",
            "Whoever knows its key is admitted, and nothing is shown.",
            dialler(SERVER_HELLO, welcomed(t, {}), ADMIT, named=True, founder=None, member=None, statements=None),
            proved(ADA, HELLO, {"t": "show", "show": {}}),
        ),
    ]


# Certificates of hosted users


def certificate(
    from_ms: int, until_ms: int, user: str = "guest", peer: str = "ada", network: bytes = N
) -> tuple[bytes, dict[str, Any]]:
    message = b"p2pchat/host/2\0" + network + IDS[user] + IDS[peer] + u64(from_ms) + u64(until_ms)
    return message, {"from": from_ms, "until": until_ms, "sig": KEYS[user].sign(message).hex()}


FROM_MS = T0 // 1000
UNTIL_MS = FROM_MS + 7 * DAY_MS
CERT = certificate(FROM_MS, UNTIL_MS)[1]


def certificates() -> list[Row]:
    def judged(name: str, why: str, valid: bool, now_ms: int, cert: object, user: str = GUEST, peer: str = ADA) -> Row:
        return row(
            name,
            why,
            {"network": N.hex(), "user": user, "peer": peer, "now_ms": now_ms} | ({"cert": cert} if cert else {}),
            {"valid": valid},
        )

    message, cert = certificate(FROM_MS, UNTIL_MS)
    long, none = certificate(FROM_MS, UNTIL_MS + 1)[1], certificate(FROM_MS, FROM_MS)[1]
    made = {
        "network": N.hex(),
        "seed": SEEDS["guest"].hex(),
        "user": GUEST,
        "peer": ADA,
        "from": FROM_MS,
        "until": UNTIL_MS,
    }
    elsewhere = certificate(FROM_MS, UNTIL_MS, network=bytes(16))[1]
    tolerated = "It is judged with a tolerance of one day."
    return [
        row("made", "The user signs for the peer.", made, {"message": message.hex(), "cert": cert}),
        judged("its first moment", "A certificate for seven days.", True, FROM_MS, cert),
        judged("a day early", tolerated, True, FROM_MS - DAY_MS, cert),
        judged("more than a day early", tolerated, False, FROM_MS - DAY_MS - 1, cert),
        judged("a day late", tolerated, True, UNTIL_MS + DAY_MS, cert),
        judged("more than a day late", tolerated, False, UNTIL_MS + DAY_MS + 1, cert),
        judged("seven days and a millisecond", "It is valid for seven days at most.", False, FROM_MS, long),
        judged("no time", "It ends after it begins.", False, FROM_MS, none),
        judged("of another peer", "It names the peer that hosts.", False, FROM_MS, cert, peer=BOB),
        judged("of another user", "The user signs it.", False, FROM_MS, cert, user=CYD),
        judged("of another network", "It names the network.", False, FROM_MS, elsewhere),
        judged("another time", "The times are signed.", False, FROM_MS, cert | {"from": FROM_MS - 1}),
        judged("none", "A user with another key than the peer's needs one.", False, FROM_MS, None),
        judged("none, the peer's own user", "A user whose id equals the peer id needs none.", True, FROM_MS, None, ADA),
    ]


# Invites


def invite_code(
    version: int = 3, tag: bytes = b"p2pchat/invite/3 sum\0", uses: int = INVITE["uses"], key: bytes = K
) -> str:
    """Return the base32 part of an invite that ada made."""
    terms = bytes.fromhex(INVITE["id"]) + bytes([uses]) + INVITE["until"].to_bytes(5, "big")
    body = bytes([version]) + IDS["ada"] + N + key
    body += terms + invite_secret(uses=uses) if version == 3 else b""
    return b32(body + blake(tag, body)[:4])


def invites() -> list[Row]:
    endpoints = ["192.0.2.7:8080", "[2001:db8::7]:8080", "ada.example:9000"]
    where = ",".join(endpoints)

    def read(listed: list[str] | None = None, uses: int = INVITE["uses"]) -> dict[str, Any]:
        terms = INVITE | {"uses": uses}
        return {"maker": ADA, "network": N.hex(), "key": K.hex(), **terms, "secret": invite_secret(uses=uses).hex(),
                "endpoints": listed or endpoints}  # fmt: skip

    one = invite_code()
    text = f"p2pchat:{one}@{where}"
    wrong = one[:40] + ("B" if one[40] == "A" else "A") + one[41:]
    blanks = f"  {text[:50]}\r\n  {text[50:90]} {text[90:]}\n"
    refused = {"refused": True}
    written = "As p2pchat writes it."
    return [
        row("version 3", written, {"text": text}, read() | {"written": True}),
        row(
            "one endpoint",
            written,
            {"text": f"p2pchat:{one}@{endpoints[0]}"},
            read(endpoints[:1]) | {"written": True},
        ),
        row(
            "64 uses",
            "This is the limit.",
            {"text": f"p2pchat:{invite_code(uses=64)}@{where}"},
            read(uses=64) | {"written": True},
        ),
        row("lower case", "Case is ignored.", {"text": text.lower()}, read()),
        row("upper case", "Case is ignored everywhere.", {"text": text.upper()}, read()),
        row("blanks", "Blanks and line breaks are ignored.", {"text": blanks}, read()),
        row("an endpoint twice", "It counts once.", {"text": f"{text},{endpoints[0]}"}, read()),
        row("no use", "It admits nobody.", {"text": f"p2pchat:{invite_code(uses=0)}@{where}"}, refused),
        row("65 uses", "It admits 64 at most.", {"text": f"p2pchat:{invite_code(uses=65)}@{where}"}, refused),
        row("one letter wrong", "The sum does not fit.", {"text": f"p2pchat:{wrong}@{where}"}, refused),
        row("too short", "The end is missing.", {"text": f"p2pchat:{one[:-8]}@{where}"}, refused),
        row("no endpoint", "There is nobody to dial.", {"text": f"p2pchat:{one}"}, refused),
        row("a digit 1", "1 is no digit of base32.", {"text": f"p2pchat:{one[:40]}1{one[41:]}@{where}"}, refused),
        row("another prefix", "It begins with p2pchat:", {"text": f"other:{one}@{where}"}, refused),
        row("empty", "There is no invite.", {"text": ""}, refused),
        row(
            "version 1",
            "An invite of p2pchat 0.1, with a good sum.",
            {"text": f"p2pchat:{invite_code(1, b'p2pchat/invite/1 sum' + bytes(1))}@{where}"},
            refused,
        ),
        row("version 4", "A later version, with a good sum.", {"text": f"p2pchat:{invite_code(4)}@{where}"}, refused),
        row(
            "without a key", "Too short for its version.", {"text": f"p2pchat:{invite_code(key=b'')}@{where}"}, refused
        ),
        row("port 0", "Nobody listens at port 0.", {"text": f"p2pchat:{one}@ada.example:0"}, refused),
        row("no port", "An endpoint is host:port.", {"text": f"p2pchat:{one}@ada.example"}, refused),
        row(
            "nine endpoints",
            "p2pchat reads eight at most.",
            {"text": f"p2pchat:{one}@" + ",".join(f"192.0.2.{n}:8080" for n in range(1, 10))},
            refused,
        ),
    ]


# Named networks


def networks() -> list[Row]:
    def of(name: str, meant: str) -> dict[str, Any]:
        made = hashlib.scrypt(
            meant.encode(), salt=b"p2pchat/network name/2\0", n=2**15, r=8, p=1, maxmem=2**26, dklen=64
        )
        founder = Ed25519PrivateKey.from_private_bytes(made[32:]).public_key().public_bytes_raw()
        network = hashlib.blake2b(b"p2pchat/network/2\0" + founder, digest_size=16)
        return {"name": meant, "key": made[:32].hex(), "network": network.hexdigest()}

    good = {
        "lab": ("lab", "A word."),
        " Lab 5 ": ("lab 5", "Case does not matter, and blanks around it do not."),
        "Stra\u00dfe": ("strasse", "Case is folded as Unicode says, and not only lowered."),
        "cafe\u0301": ("caf\u00e9", "It is in NFC."),
        "x" * 64: ("x" * 64, "This is the limit."),
    }
    bad = {
        " ": "It needs one character.",
        "x" * 65: "It has at most 64 characters.",
        "a\nb": "A control character.",
        "p2pchat:AEJ": "This is the beginning of an invite.",
    }
    rows = [row(ascii(name)[1:-1], why, {"text": name}, of(name, meant)) for name, (meant, why) in good.items()]
    return rows + [row(ascii(name)[1:-1], why, {"text": name}, {"refused": True}) for name, why in bad.items()]


# Announcements on the local network


def discovery() -> list[Row]:
    port, listed = 8080, ["2001:db8::7", "192.0.2.10", "192.0.2.7"]
    salt = blake(b"discovery salt")[:16]

    def announced(key: bytes) -> tuple[dict[str, str], bytes, bytes]:
        mask = hmac.digest(key, b"p2pchat/discover/1 peer\0" + salt, "sha256")
        hidden = bytes(a ^ b for a, b in zip(IDS["ada"], mask, strict=True))
        packed = sorted(ipaddress.ip_address(address).packed for address in listed)
        message = b"p2pchat/discover/1\0" + salt + hidden + port.to_bytes(2, "big")
        message += b"".join(bytes([len(address)]) + address for address in packed)
        txt = {"v": "1", "s": salt.hex(), "p": hidden.hex(), "m": hmac.digest(key, message, "sha256").hex()}
        return txt, mask, message

    txt, mask, message = announced(K)
    given = {"peer": ADA, "key": K.hex(), "port": port, "addresses": listed, "salt": salt.hex()}
    made = row("made", "With the key K.", given, {"mask": mask.hex(), "message": message.hex(), "txt": txt})

    def seen(name: str, why: str, told: dict[str, str], at: int, addresses: list[str], peer: str | None = None) -> Row:
        given = {"key": K.hex(), "txt": told, "port": at, "addresses": addresses}
        return row(name, why, given, {"peer": peer} if peer else {"ignored": True})

    return [
        made,
        seen("seen", "A member finds the peer that announced itself.", txt, port, listed, ADA),
        seen("addresses in another order", "m is over the sorted addresses.", txt, port, listed[::-1], ADA),
        seen("another port", "m is over the port.", txt, port + 1, listed),
        seen("one address fewer", "m is over all addresses.", txt, port, listed[1:]),
        seen("another salt", "m is over the salt.", txt | {"s": "00" * 16}, port, listed),
        seen("version 2", "A later version is ignored.", txt | {"v": "2"}, port, listed),
        seen("of another network", "Another key made it.", announced(N + N)[0], port, listed),
    ]


# Names


def names() -> list[Row]:
    good = {
        "ada": "Letters.",
        "x": "One character is enough.",
        "x" * 32: "This is the limit.",
        "\U0001f600" * 32: "Characters count, not bytes.",
        "Ada Lovelace": "A space inside is visible.",
        "R2-D2!?": "Digits and marks.",
        "Zo\u00eb": "NFC has one character for this letter.",
        "\u0416\u0430\u043d\u043d\u0430": "Any script.",
        "\u4e2d\u6587": "Any script.",
        "room": "Only p2pchat's own users may not be called so.",
        "a.b:c": "Other punctuation.",
        "\u05d0\u05d1": "Letters that are written from right to left are no bidi controls.",
    }
    bad = {
        "": "It needs one character.",
        "x" * 33: "It has at most 32 characters.",
        " ada": "A space at the beginning.",
        "ada ": "A space at the end.",
        "Zoe\u0308": "It is not in NFC.",
        "a#b": "# is reserved.",
        "a@b": "@ is reserved.",
        "a/b": "/ is reserved.",
        "a,b": "A comma is reserved.",
        "a\tb": "A control character.",
        "a\nb": "A control character.",
        "a\0b": "A control character.",
        "a\x7fb": "A control character.",
        "a\u202eb": "A bidi character.",
        "a\u2066b": "A bidi character.",
        "a\u200bb": "A character of no width.",
        "a\u200db": "A joiner.",
        "a\ufeffb": "A character of no width.",
        "a\u00adb": "A soft hyphen is invisible.",
        "a\u00a0b": "Of the blanks only the plain space is allowed.",
        "a\u3000b": "Of the blanks only the plain space is allowed.",
        "a\u3164b": "The Hangul filler is a letter and invisible.",
        "a\ufe0fb": "A variation selector is invisible.",
        "a\ue000b": "A private character shows nothing certain.",
        "\u0301a": "It does not begin with a mark on another character.",
    }
    made = [(name, why, True) for name, why in good.items()] + [(name, why, False) for name, why in bad.items()]
    return [row(ascii(name)[1:-1] or "empty", why, {"name": name}, {"valid": valid}) for name, why, valid in made]
