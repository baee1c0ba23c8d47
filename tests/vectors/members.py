"""Vectors of members: statements, what follows from a set of them, certificates of guests, and proofs of invites."""

from __future__ import annotations

import hmac
import json
from typing import Any

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
    SEEDS,
    T0,
    N,
    Row,
    blake,
    compact,
    row,
    sum_of_set,
)

OTHER_N = bytes(16)  # another network
STATEMENT_TAG, ID_TAG = b"p2pchat/member/1\0", b"p2pchat/statement/2\0"
Said = list[str]  # text and signature, as in frames


# Statements


def canonical(said: dict[str, Any]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


def signed(by: str, text: str, network: bytes = N) -> Said:
    return [text, KEYS[by].sign(STATEMENT_TAG + network + text.encode()).hex()]


def said(by: str, kind: str, at: int = 0, network: bytes = N, **fields: object) -> Said:
    """Return a statement of a member."""
    return signed(by, canonical({"at": T0 + at, "by": IDS[by].hex(), "k": kind, **fields}), network)


def id_of(one: Said) -> str:
    return blake(ID_TAG, N, one[0].encode()).hex()


def nested(depth: int) -> list[Any]:
    """Return arrays in arrays."""
    return [nested(depth - 1)] if depth > 1 else []


ADDED = said("founder", "add", who=[MEMBER])


def statements() -> list[Row]:
    def made(name: str, why: str, kind: str, **fields: Any) -> Row:
        one = said("founder", kind, **fields)
        given = {"network": N.hex(), "seed": SEEDS["founder"].hex(), "k": kind, "at": T0, "fields": fields}
        message = STATEMENT_TAG + N + one[0].encode()
        result = {"text": one[0], "id": id_of(one), "message": message.hex(), "signature": one[1]}
        return row(name, why, given, result)

    def judged(name: str, why: str, one: Said, network: bytes = N, **result: object) -> Row:
        return row(name, why, {"network": network.hex(), "text": one[0], "signature": one[1]}, result)

    base = {"at": T0, "by": FOUNDER, "k": "add", "who": [MEMBER]}
    text = canonical(base)
    unusual = {"at": T0, "by": FOUNDER}
    odd_characters = canonical(unusual | {"k": "later", "x": "~"}).replace(
        "~", r"\u0000\b\t\n\u000b\f\r\u001f " + r"\"\\/" + "\x7f"
    )
    return [
        made("add", "The founder adds a member.", "add", who=[MEMBER]),
        made("add by an invite", "It names the invite, by which its uses are counted.", "add", who=[MEMBER],
             invite="0a0b0c0d"),
        made("admin", "The founder makes a member an admin.", "admin", who=[ADMIN]),
        made("remove", "A removal, of a guest too.", "remove", who=[CYD, MEMBER]),
        made("remove an admin", "It names who stays of those whom the admin had added, and hides what it wrote.",
             "remove", who=[ADMIN], keep=[MEMBER], hide=True),
        made("remove who came by an invite", "It closes the invite.", "remove", who=[MEMBER], invites=["0a0b0c0d"]),
        made("add whom another had added", "It names the former admin that had.", "add", who=[MEMBER], of=ADMIN),
        made("pardon", "It names removals by their ids.", "pardon", ids=["0b" * 32]),
        made("close", "It names invites.", "close", invites=["0a0b0c0d", "0e0f0a0b"]),
        judged("signed", "Its author signed it for this network.", ADDED, signed=True, id=id_of(ADDED)),
        judged("of another network", "N is signed.", said("founder", "add", network=OTHER_N, who=[MEMBER]),
               signed=False, id=id_of(ADDED)),
        judged("signed by another", "The one in `by` signs.", signed("admin", text), signed=False, id=id_of(ADDED)),
        *(judged(name, why, signed("founder", canonical(unusual | fields)), signed=True,
                 id=id_of([canonical(unusual | fields), ""]))
          for name, why, fields in (
            ("hide is false", "It is as absent.", {"k": "remove", "who": [MEMBER], "hide": False}),
            ("nobody in keep", "It is as absent.", {"k": "remove", "who": [MEMBER], "keep": []}),
        )),
        *(judged(name, why, signed("founder", canonical(unusual | fields)), signed=True, effect=False,
                 id=id_of([canonical(unusual | fields), ""]))
          for name, why, fields in (
            ("an unknown kind", "A later version may know it.", {"k": "promote", "who": [ADA]}),
            ("an unknown field", "A later version may know it.", {"k": "add", "who": [MEMBER], "later": [1]}),
            ("nine are added", "A statement adds 8 at most.", {"k": "add", "who": [f"{n:064x}" for n in range(9)]}),
            ("nobody is added", "It adds one at least.", {"k": "add", "who": []}),
            ("upper case", "An id is in lower case.", {"k": "add", "who": [MEMBER.upper()]}),
            ("a pardon of nothing", "It pardons one removal at least.", {"k": "pardon", "ids": []}),
            ("nothing is closed", "It closes one invite at least.", {"k": "close", "invites": []}),
            ("an odd invite", "The id of an invite has 8 digits.", {"k": "add", "who": [MEMBER], "invite": "x"}),
            ("an empty invite", "The id of an invite has 8 digits.", {"k": "add", "who": [MEMBER], "invite": ""}),
            ("hide is 1", "It is a boolean.", {"k": "remove", "who": [MEMBER], "hide": 1}),
            ("keep is null", "It is an array.", {"k": "remove", "who": [MEMBER], "keep": None}),
            ("a key that counts nowhere", "Everybody in `who` is a key.",
             {"k": "remove", "who": ["01" + "0" * 62]}),
            ("16 deep", "It nests no deeper than a frame.", {"k": "later", "x": nested(15)}),
        )),
        judged("control characters and U+007F", "RFC 8785 says which are escaped, and how.",
               signed("founder", odd_characters), signed=True, effect=False, id=id_of([odd_characters, ""])),
        *(judged(name, why, signed("founder", odd), refused="malformed") for name, why, odd in (
            ("with a blank", "Canonical JSON has no blanks.", text.replace(":", ": ", 1)),
            ("keys in another order", "Keys are sorted.", compact(dict(reversed(base.items())))),
            ("a repeated key", "No key is repeated.", text.replace('"k":', '"k":"admin","k":', 1)),
            ("an escape", "There is nothing but ASCII, and no needless escape.",
             canonical(base | {"x": "\u00e9"})),
            ("not in ASCII", "There is nothing but ASCII.", canonical(base | {"x": "~"}).replace("~", "\u00e9")),
            ("a fraction", "There are no fractions.", canonical(base | {"x": 1.5})),
            ("a fraction that is whole", "It is no integer by its token.", canonical(base | {"x": 1.0})),
            ("an integer of 2^53", "Integers are below 2^53.", canonical(base | {"x": 2**53})),
            ("no JSON", "It is a JSON object.", "add"),
            ("an array", "It is a JSON object.", "[]"),
            ("without by", "It says who made it.", canonical({"at": T0, "k": "add", "who": [MEMBER]})),
            ("without k", "It says what it is.", canonical({"at": T0, "by": FOUNDER, "who": [MEMBER]})),
            ("without at", "It says when it was made.", canonical({"by": FOUNDER, "k": "add", "who": [MEMBER]})),
            ("a negative time", "A time is not negative.", canonical(base | {"at": -1})),
            ("by nobody", "The author is a key.", canonical(base | {"by": "01" + "0" * 62})),
            ("U+007F escaped", "It needs no escape.", canonical(base | {"x": "~"}).replace("~", "\\u007f")),
            ("an escape in upper case", "Its digits are in lower case.",
             canonical(base | {"x": "~"}).replace("~", "\\u001F")),
            ("a long escape", "There is a short one.", canonical(base | {"x": "~"}).replace("~", "\\u000a")),
            ("a slash escaped", "It needs no escape.", canonical(base | {"x": "~"}).replace("~", "\\/")),
            ("half a surrogate pair", "It stands for no character.",
             canonical(base | {"x": "~"}).replace("~", "\\ud800")),
            ("minus zero", "It is 0.", canonical(base | {"x": 0}).replace('"x":0', '"x":-0')),
            ("an exponent", "It is no integer by its token.", canonical(base | {"x": 0}).replace('"x":0', '"x":1e+21')),
            ("17 deep", "It nests no deeper than a frame.", canonical(base | {"x": nested(16)})),
            ("too large", "It has 48 KiB at most.", canonical(base | {"x": "x" * 48 * 1024})),
        )),
    ]  # fmt: skip


# What follows from a set of statements


def members() -> list[Row]:
    def follows(
        name: str, why: str, said: list[Said], members: list[str], admins: tuple[str, ...] = (),
        removed: tuple[str, ...] = (), dropped: tuple[Said, ...] = (), named: tuple[str, ...] = (),
        closed: bool = False, repeat: int = 0, **admits: bool,
    ) -> Row:  # fmt: skip
        """Admits: whether GUEST is admitted as the guest of each. It has `named` these members before."""
        kept = [one for one in said if one not in dropped]
        texts = [json.loads(text) for text, _ in kept]
        naming = (text for text in texts if text["k"] != "revoke")
        ever = {user for text in naming for user in (*text.get("who", ()), *text.get("keep", ()))}
        ids = sorted(map(id_of, kept))
        asked = [IDS[by].hex() for by in admits]
        given = {"statements": said, "guest": GUEST, "by": asked, "named": [*named], "invites": [INVITE["id"]]}
        if repeat:
            short = [[text.replace("x" * repeat, "~"), signature] for text, signature in said]
            given |= {"statements": short, "repeat": ["x", repeat]}
        return row(name, why, given, {
            "members": sorted([FOUNDER, *members]), "admins": sorted(admins), "removed": sorted(removed),
            "kept": ids, "sum": sum_of_set("statements", ids),
            "admitted": {IDS[by].hex(): admitted for by, admitted in admits.items()},
            "named": [IDS[by].hex() for by in admits if by == "founder" or IDS[by].hex() in ever],
            "closed": [INVITE["id"]] if closed else [],
        })  # fmt: skip

    def large(size: int, kept: int, name: str, why: str) -> Row:
        """Return eighteen statements of an admin of so many bytes each, with the signature, and how many are kept."""
        repeat = size - len(said("admin", "later", 10, x="")[0]) - 64
        all = sorted((said("admin", "later", at, x="x" * repeat) for at in range(10, 28)), key=id_of)
        return follows(name, why, [admin, *all], [ADMIN], (ADMIN,), dropped=tuple(all[kept:]), repeat=repeat)

    admin, by_admin = said("founder", "admin", 1, who=[ADMIN]), said("admin", "add", 2, who=[MEMBER])
    out, out_by_admin = said("founder", "remove", 3, who=[MEMBER]), said("admin", "remove", 4, who=[MEMBER])
    pardon = said("founder", "pardon", 5, ids=[id_of(out)])
    admin_out = said("founder", "remove", 6, who=[ADMIN])
    admin_out_kept = said("founder", "remove", 7, who=[ADMIN], keep=[MEMBER])
    pardon_admin = said("founder", "pardon", 8, ids=[id_of(admin_out)])
    guest_out, guest_out_by_admin = (said(by, "remove", 9, who=[GUEST]) for by in ("founder", "admin"))
    by_member = said("member", "add", 10, who=[BOB])
    later = said("founder", "later", 11)
    founder_out = said("admin", "remove", 12, who=[FOUNDER])
    own_pardon = said("admin", "pardon", 13, ids=[id_of(out_by_admin)])
    others_pardon = said("admin", "pardon", 14, ids=[id_of(out)])
    pardon_kept = said("founder", "pardon", 15, ids=[id_of(admin_out_kept)])
    close, close_by_admin = (said(by, "close", 16, invites=[INVITE["id"]]) for by in ("founder", "admin"))
    out_and_closed = said("founder", "remove", 17, who=[MEMBER], invites=[INVITE["id"]])
    pardon_closed = said("founder", "pardon", 18, ids=[id_of(out_and_closed)])
    revoked, revoked_by_admin = (said(by, "revoke", 19, who=[GUEST]) for by in ("member", "admin"))
    return [
        follows("nothing said", "The founder is a member, and its guests are admitted.", [], [], founder=True,
                member=False),
        follows("an addition", "Who is added is a member and answers for guests.", [ADDED], [MEMBER], founder=True,
                member=True, admin=False),
        follows("an admin", "An admin is a member.", [admin], [ADMIN], (ADMIN,), admin=True),
        follows("an addition by an admin", "An admin in force adds members.", [admin, by_admin], [ADMIN, MEMBER],
                (ADMIN,), member=True),
        follows("in another order", "The order means nothing.", [by_admin, admin], [ADMIN, MEMBER], (ADMIN,),
                member=True),
        follows("an addition by nobody", "Of others nothing is kept.", [ADDED, by_member], [MEMBER],
                dropped=(by_member,)),
        follows("a member is removed", "It outweighs additions, and bars the guests too.", [ADDED, out], [],
                removed=(MEMBER,), member=False, founder=True),
        follows("a removal and a later addition", "There is no order: who is removed stays out.",
                [out, said("founder", "add", 99, who=[MEMBER])], [], removed=(MEMBER,), member=False),
        follows("a pardon", "It takes a removal back.", [ADDED, out, pardon], [MEMBER], member=True),
        follows("a removal by an admin", "An admin removes plain members.", [admin, by_admin, out_by_admin], [ADMIN],
                (ADMIN,), (MEMBER,), member=False),
        follows("an admin pardons its own removal", "It takes it back.", [admin, by_admin, out_by_admin, own_pardon],
                [ADMIN, MEMBER], (ADMIN,), member=True),
        follows("an admin pardons the founder's removal", "It cannot.", [admin, by_admin, out, others_pardon], [ADMIN],
                (ADMIN,), (MEMBER,), member=False),
        follows("an admin's removal that keeps", "It counts, and keeps nobody.",
                [admin, by_admin, said("admin", "remove", 15, who=[MEMBER], keep=[BOB])], [ADMIN], (ADMIN,), (MEMBER,),
                member=False),
        follows("an admin removes an admin and a member", "It counts for the member.",
                [admin, said("founder", "admin", 16, who=[CYD]), by_admin,
                 said("admin", "remove", 17, who=[CYD, MEMBER])], [ADMIN, CYD], (ADMIN, CYD), (MEMBER,)),
        follows("an admin removes the founder", "It cannot.", [admin, founder_out], [ADMIN], (ADMIN,), founder=True),
        follows("an admin is removed", "Nothing that it said is kept.", [admin, by_admin, admin_out], [],
                removed=(ADMIN,), dropped=(by_admin,), admin=False, member=False, cyd=False),
        follows("an admin is removed, and who it added stays", "`keep` of the founder's removal.",
                [admin, by_admin, admin_out_kept], [MEMBER], removed=(ADMIN,), dropped=(by_admin,), member=True),
        follows("an admin is pardoned", "It is no admin any more; whom nobody else added is no member.",
                [admin, admin_out, pardon_admin], []),
        follows("a guest is removed", "Its member stays, and it is out.", [ADDED, guest_out], [MEMBER],
                removed=(GUEST,), member=False, founder=False),
        follows("an admin removes a guest", "It does not count where the founder or an admin answers for that.",
                [admin, by_admin, guest_out_by_admin], [ADMIN, MEMBER], (ADMIN,), (GUEST,), founder=True, member=False,
                admin=False),
        follows("an admin is pardoned whose removal kept others", "They stay.", [admin, by_admin, admin_out_kept,
                pardon_kept], [MEMBER], dropped=(by_admin,), member=True),
        follows("a guest of somebody removed", "It belongs to each member that it has named, but to the founder first.",
                [ADDED, admin, out], [ADMIN], (ADMIN,), (MEMBER,), named=(MEMBER,), founder=True, admin=False),
        follows("a guest that named a member that nobody added", "Anybody can make one up.", [ADDED, admin], [ADMIN,
                MEMBER], (ADMIN,), named=(BOB,), founder=True, admin=True, member=True),
        follows("an admin removes a guest that named a member", "It counts, unless the founder answers for it.",
                [ADDED, admin, guest_out_by_admin], [ADMIN, MEMBER], (ADMIN,), (GUEST,), named=(MEMBER,),
                founder=True, admin=False, member=False),
        follows("an admin removes a guest of the founder that named a member that nobody added", "It does not count.",
                [admin, guest_out_by_admin], [ADMIN], (ADMIN,), (GUEST,), named=(BOB,), founder=True),
        follows("an invite is closed", "The founder says so.", [close], [], closed=True),
        follows("an admin closes an invite", "Of any maker.", [admin, close_by_admin], [ADMIN], (ADMIN,), closed=True),
        follows("a former admin closed an invite", "Nothing that it said is kept.", [admin, close_by_admin, admin_out],
                [], removed=(ADMIN,), dropped=(close_by_admin,)),
        follows("who came by an invite is removed", "The removal names it.", [ADDED, out_and_closed], [],
                removed=(MEMBER,), closed=True),
        follows("who came by an invite is pardoned", "It admits again.", [ADDED, out_and_closed, pardon_closed],
                [MEMBER]),
        follows("a member revokes a guest of its own", "It is no peer any more.", [ADDED, revoked], [MEMBER],
                member=False, founder=True),
        follows("a revocation before the addition of who says so", "The order means nothing.", [revoked, ADDED],
                [MEMBER], member=False),
        follows("a revoked guest that named its member before", "It is no peer, whoever answers for it now.",
                [ADDED, revoked], [MEMBER], named=(MEMBER,), founder=False),
        follows("nobody's revocation", "Of whom nobody names nothing is kept.", [admin, revoked], [ADMIN], (ADMIN,),
                dropped=(revoked,), admin=True),
        follows("a revocation by a former admin", "It is kept, as every member may say it.",
                [admin, by_admin, revoked_by_admin, admin_out_kept, pardon_kept], [MEMBER], dropped=(by_admin,),
                member=True, admin=False),
        follows("an unknown kind", "It is kept, and has no effect.", [ADDED, later], [MEMBER]),
        large(48 * 1024, 16, "a limit that is reached", "No further statement of an admin is kept."),
        large(48 * 1024 - 1, 17, "a limit that is passed", "The statement that passes it is kept."),
    ]  # fmt: skip


# Certificates of guests


def guest_message(network: bytes, user: str) -> bytes:
    return b"p2pchat/guest/1\0" + network + IDS[user]


def guest_of(member: str, user: str, network: bytes = N) -> list[str]:
    """Return the certificate by which a member answers for a user."""
    return [IDS[member].hex(), KEYS[member].sign(guest_message(network, user)).hex()]


def guests() -> list[Row]:
    good = guest_of("member", "bob")
    made = {"network": N.hex(), "seed": SEEDS["member"].hex(), "user": BOB}

    def judged(name: str, why: str, valid: bool, certificate: list[str], user: str = BOB) -> Row:
        return row(name, why, {"network": N.hex(), "user": user, "guest": certificate}, {"valid": valid})

    return [
        row("made", "The member signs for a user.", made,
            {"message": guest_message(N, "bob").hex(), "guest": good}),
        judged("good", "The member signed it for this user and network.", True, good),
        judged("of another user", "The user is signed.", False, good, CYD),
        judged("of another network", "N is signed.", False, guest_of("member", "bob", OTHER_N)),
        judged("signed by another", "The member in it signs.", False, [MEMBER, guest_of("admin", "bob")[1]]),
    ]  # fmt: skip


# Records of peers


def record_message(text: str, network: bytes = N) -> bytes:
    return b"p2pchat/peer/2\0" + network + text.encode()


def record_of(peer: str, *endpoints: str, at: int = T0, network: bytes = N, by: str = "", **fields: Any) -> list[str]:
    """Return the record of a peer. `by` signs in its place."""
    said = {"id": IDS[peer].hex(), "at": at, "e": list(endpoints)} | fields
    return signed_record(
        json.dumps(said, ensure_ascii=False, separators=(",", ":"), sort_keys=True), by or peer, network
    )


def signed_record(text: str, by: str, network: bytes = N) -> list[str]:
    return [text, KEYS[by].sign(record_message(text, network)).hex()]


def records() -> list[Row]:
    there = "192.0.2.9:8081"
    guest = guest_of("member", "bob")
    good = record_of("bob", there, "[2001:db8::9]:8081", guest=guest)
    made = {"network": N.hex(), "seed": SEEDS["bob"].hex(), "member": SEEDS["member"].hex(), "at": T0}
    made |= {"e": [there, "[2001:db8::9]:8081"]}
    wrong = guest_of("admin", "bob")[1]
    more = record_of("bob", there, guest=guest, later={"x": [1.50, None, "\u00fc"]}, e2=["quic://192.0.2.9"])
    spaced = json.dumps({"id": BOB, "at": T0, "e": [there]}, indent=1)

    def judged(name: str, why: str, valid: bool, record: list[str]) -> Row:
        return row(name, why, {"network": N.hex(), "record": record}, {"valid": valid})

    return [
        row("made", "The peer signs its endpoints, the time and its certificate.", made,
            {"message": record_message(good[0]).hex(), "record": good}),
        judged("of a guest", "Its member signed the certificate.", True, good),
        judged("of a member", "A member has no certificate.", True, record_of("bob", there)),
        judged("nowhere", "A peer that does not listen may say so.", True, record_of("bob")),
        judged("beyond ASCII", "The text is UTF-8.", True, record_of("bob", "b\u00fccher.example:1")),
        judged("of a later version", "What else it says is signed too, and kept.", True, more),
        judged("with blanks", "The text counts as it came.", True, signed_record(spaced, "bob")),
        judged("of another peer", "The key of the id signs.", False, record_of("cyd", there, by="bob")),
        judged("other endpoints", "The endpoints are signed.", False, [record_of("bob", there)[0], good[1]]),
        judged("another network", "N is signed.", False, record_of("bob", there, network=OTHER_N)),
        judged("a certificate by another", "The member in it signs.", False,
               record_of("bob", there, guest=[MEMBER, wrong])),
        judged("no JSON", "What cannot be read is dropped.", False, signed_record("{", "bob")),
        judged("of no key", "Anybody could sign for it.", False,
               signed_record(json.dumps({"id": "01" + "0" * 62, "at": 1, "e": []}), "bob")),
        judged("nine endpoints", "A record has at most 8.", False, record_of("bob", *["a:1"] * 9)),
        judged("an endpoint of 101 characters", "One has at most 100.", False, record_of("bob", "a" * 96 + ":8080")),
    ]  # fmt: skip


# Invites: secrets and proofs

# The key that ada makes secrets of: HKDF (RFC 5869) of its seed, for a purpose. Another maker may use any other.
MAKER_KEY = hmac.digest(hmac.digest(bytes(32), SEEDS["ada"], "sha256"), b"p2pchat/invites/1\1", "sha256")
INVITE: dict[str, Any] = {"id": "0a0b0c0d", "uses": 2, "until": T0 // 1_000_000 + 86_400}


def invite_terms(id: str, uses: int, until: int) -> bytes:
    return N + bytes.fromhex(id) + bytes([uses]) + until.to_bytes(5, "big")


def invite_secret(key: bytes = MAKER_KEY, **terms: Any) -> bytes:
    return hmac.digest(key, b"p2pchat/invite/3 secret\0" + invite_terms(**(INVITE | terms)), "sha256")[:16]


def invite_proof(t: bytes, member: str = "member", maker: str = "ada", **terms: Any) -> dict[str, Any]:
    """Return what a newcomer shows of an invite on the connection with transcript T."""
    message = b"p2pchat/invite/3 proof\0" + IDS[member] + t
    code = hmac.digest(invite_secret(**terms), message, "sha256").hex()
    return {"maker": IDS[maker].hex(), **INVITE, **terms, "proof": code}


def joins() -> list[Row]:
    t = b"p2pchat/link/1\0" + b"\0\2" + IDS["ada"] + IDS["bob"] + bytes(64)
    secret = invite_secret()
    given = {"maker": ADA, **INVITE, "secret": secret.hex(), "transcript": t.hex()}
    return [
        row("secret", "The maker computes it from the terms.", {"key": MAKER_KEY.hex(), "network": N.hex(), **INVITE},
            {"message": (b"p2pchat/invite/3 secret\0" + invite_terms(**INVITE)).hex(), "secret": secret.hex()}),
        row("secret of other terms", "Each of the terms is in it.",
            {"key": MAKER_KEY.hex(), "network": N.hex(), **INVITE, "uses": 3},
            {"message": (b"p2pchat/invite/3 secret\0" + invite_terms(**(INVITE | {"uses": 3}))).hex(),
             "secret": invite_secret(uses=3).hex()}),
        *(row(name, why, given | {"member": IDS[member].hex()},
              {"message": (b"p2pchat/invite/3 proof\0" + IDS[member] + t).hex(), "invite": invite_proof(t, member)})
          for name, why, member in (
            ("proof", "It is over the member and T.", "member"),
            ("proof of another member", "It is good for one member alone.", "cyd"),
        )),
    ]  # fmt: skip
