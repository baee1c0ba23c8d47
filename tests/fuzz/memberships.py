"""Members: texts of statements, sets of them, and who is admitted by what strangers show who know the network's key."""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from typing import Any

from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import Statement, StatementError, parse_statement
from p2pchat.core.mesh.peer_link import LinkPhase
from p2pchat.protocol import MAX_SHOWN, Frame, Unknown
from tests.fuzz.checked_node import fit
from tests.fuzz.choices import Supply, any_text
from tests.fuzz.frames import frame_of_bytes, mac, vector_frames
from tests.fuzz.frames import within as in_range
from tests.fuzz.target import Target, hold
from tests.vectors.files import vectors
from tests.vectors.handshakes import CLIENT_NONCE, SERVER_NONCE, client_hello, transcript
from tests.vectors.material import ADMIN, CYD, FOUNDER, IDS, KEYS, MEMBER, SEEDS, T0, K, N
from tests.vectors.members import MAKER_KEY, Said, guest_of, id_of, invite_proof, said, signed
from tests.vectors.vector_node import HandshakeNode

KINDS = ("add", "admin", "remove", "pardon")
WORDS = [
    *(f'"{name}":'.encode() for name in ("at", "by", "k", "who", "keep", "hide", "ids", "invite")),
    *(f'"{kind}"'.encode() for kind in (*KINDS, "later")),
    *(f'["{id}"]'.encode() for id in (FOUNDER, ADMIN, MEMBER, "0b" * 16, "00" * 32)),
    b'"0a0b0c0d"', b"true", b"false", b"null", b"1.0", b"1e2", b"-0", b"9007199254740992", b" ", b"\\u00e9",
    b"\xc3\xa9", b"\\n", b"[" * 17,
]  # fmt: skip

# ---- texts


def read_statement(data: bytes) -> None:
    """Read a text: what is one is what any JSON reader finds, and written the same again."""
    text = any_text(data)
    try:
        found = parse_statement(N.hex(), text, bytes(64))
    except StatementError as error:
        hold(error.code == "malformed" and str(error).isascii(), "a fault that is not for people")
        return
    value = json.loads(text)
    form = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)  # that of RFC 8785 here
    hold(form == text and text.isascii(), "a text that has another form too")
    hold(in_range(value), "an integer that not every reader holds")
    hold((value["by"], value["at"]) == (found.by, found.at), "read as another")
    hold(not found.kind or value["k"] == found.kind, "of another kind")
    hold(tuple(value.get("who", ())) == found.who or not found.kind, "about others")
    hold(not found.is_signed(N.hex()), "signed by nobody")


def statement_seeds() -> list[bytes]:
    given = [vector["given"] for vector in vectors("statements").values()]
    return [one["text"].encode() for one in given if "text" in one and len(one["text"]) < 2000]


# ---- sets


@cache
def pool() -> tuple[Said, ...]:
    """Return statements by all keys about all keys."""
    keys = ("founder", "admin", "member", "cyd")
    made = [said(by, kind, who=[IDS[who].hex()]) for by, kind, who in product(keys, KINDS[:3], keys)]
    made += [said("founder", "remove", 1, who=[ADMIN], keep=[MEMBER, CYD]), said("founder", "later", 2)]
    removals = [id_of(one) for one in made if '"remove"' in one[0]]
    made += [said(by, "pardon", n, ids=[id]) for by in keys[:2] for n, id in enumerate(removals)]
    return tuple(made)


@cache
def parsed(place: int) -> Statement:
    text, signature = pool()[place]
    return parse_statement(N.hex(), text, bytes.fromhex(signature))


def evaluate(data: bytes) -> None:
    """Take statements in two orders and in any portions: the same is kept and follows."""
    supply = Supply(data)
    chosen = [parsed(supply.below(len(pool()))) for _ in range(supply.often(40))]
    one, other = MemberList(FOUNDER), MemberList(FOUNDER)
    one.add(chosen)
    for _ in range(2):  # what came before its author was an admin is told again
        rest = chosen[::-1]
        while rest:
            size = 1 + supply.often(8)
            other.add(rest[:size])
            rest = rest[size:]
    other.add(one.statements())
    one.add(other.statements())
    hold({s.id for s in one.statements()} == {s.id for s in other.statements()}, "another set is kept")
    hold((one.members, one.admins, one.removed) == (other.members, other.admins, other.removed), "another list")
    hold(FOUNDER in one.members and FOUNDER not in one.removed, "the founder is out")
    hold(one.admins <= one.members and not one.members & one.removed, "a member that is removed")
    for member in (FOUNDER, ADMIN, MEMBER, CYD):
        hold(one.admits(member, member) == (member in one.members), "a member that is not admitted")
        reasons = one.vouching(member)
        lone = MemberList(FOUNDER)
        lone.add(reasons)
        hold(len(reasons) <= 2 and (member in lone.members or member not in one.members), "nothing to show for it")


# ---- who is admitted


class AdmissionSession:
    """A node in a founded network, and another end that knows its key. The input determines what that says."""

    def __init__(self, supply: Supply) -> None:
        self.supply = supply
        founders = [one for one in pool() if f'"by":"{FOUNDER}"' in one[0]]
        held = [supply.pick(founders) for _ in range(supply.often(6))]
        self.is_listener = supply.yes()
        side, nonce = ("listener", SERVER_NONCE) if self.is_listener else ("dialler", CLIENT_NONCE)
        me = "ada" if self.is_listener else "bob"
        self.other = "bob" if self.is_listener else "ada"
        self.given = {
            "side": side, "seed": SEEDS[me].hex(), "nonce": nonce.hex(), "network": N.hex(), "key": K.hex(),
            "founder": FOUNDER, "member": SEEDS["founder"].hex(), "statements": held, "server": IDS["ada"].hex(),
        }  # fmt: skip
        self.node = HandshakeNode(self.given, T0, MAKER_KEY.hex())
        self.shown: dict[str, object] = {}

    def run(self) -> None:
        t = transcript("ada", "bob")
        if self.is_listener:
            self.take(client_hello(K, t))
        else:
            self.take({"t": "hello", "v": [3], "nonce": SERVER_NONCE.hex()})
        for _ in range(1 + self.supply.often(6)):
            self.take(self.frame(t))
        for frame in self.node.sent:
            fit_again = frame_of_bytes(json.dumps(frame).encode())
            hold(isinstance(fit_again, Frame), "a frame was sent that nobody may send")
            assert isinstance(fit_again, Frame)
            fit(fit_again)
        self.judge(t)

    def take(self, frame: dict[str, object]) -> None:
        found = frame_of_bytes(json.dumps(frame).encode())
        if isinstance(found, Frame) and not isinstance(found, Unknown):
            if "show" in frame and not self.shown:
                self.shown = dict(frame["show"])  # type: ignore[call-overload]
            self.node.take_frame(found)

    def frame(self, t: bytes) -> dict[str, object]:
        supply = self.supply
        proof = frame_proof(t)
        match supply.below(8):
            case 0:
                return {"t": "statements", "s": self.statements()}
            case 1:
                return {"t": "statements", "sum": "00" * 16, "ask": True, "founder": supply.pick((FOUNDER, CYD))}
            case 2:
                return {"t": "statements", "sum": id_of(supply.pick(pool()))}
            case 3:
                return {"t": supply.pick(("admit", "ping", "go")), "run": "a1" * 8, "n": 1}
            case _ if self.is_listener:
                return {"t": "show", "show": self.membership(t)}
            case _:
                return {"t": "welcome", "proof": proof, "show": self.membership(t)}

    def statements(self) -> list[Said]:
        supply = self.supply
        chosen = [supply.pick(pool()) for _ in range(supply.often(MAX_SHOWN + 1))]
        if chosen and supply.yes(4):
            chosen[0] = [chosen[0][0], supply.pick(pool())[1]]  # signed for another text
        if supply.yes(8):
            chosen.append([supply.text(60), "ab" * 64])
        return chosen

    def membership(self, t: bytes) -> dict[str, object]:
        supply = self.supply
        made: dict[str, object] = {"s": self.statements()}
        if supply.yes():
            made["founder"] = supply.pick((FOUNDER, FOUNDER, CYD))
        member = supply.pick(("founder", "admin", "member", "cyd"))
        if not supply.yes(5):
            certificate = guest_of(member, supply.pick((self.other, self.other, self.other, "cyd")))
            made["guest"] = [supply.pick((certificate[0], certificate[0], MEMBER)), certificate[1]]
        if supply.yes(3):
            terms: dict[str, Any] = supply.pick(({}, {}, {"uses": 64}, {"until": 1}))
            made["invite"] = invite_proof(supply.pick((t, t, bytes(145))), member, **terms)
            if supply.yes(6):
                made["invite"] |= {"uses": 3}  # type: ignore[operator]
        return made

    def judge(self, t: bytes) -> None:
        """Check that nobody was let in for whom no member answers, and that all that is kept was signed."""
        exchange = self.node.node.admission._statements
        assert exchange.members is not None
        for one in exchange.members.statements():
            made = signed(named(one.by), one.text)
            hold([one.text, one.signature.hex()] == made, "a statement is kept that nobody signed")
        for link in self.node.node.links._links.values():
            if link.phase not in (LinkPhase.WAITING, LinkPhase.UP):
                continue
            guest = self.shown.get("guest")
            member = guest[0] if isinstance(guest, list) else link.peer
            hold(member == link.member, "another member answers")
            hold(guest is None or guest == guest_of(named(member), self.other), "a certificate that nobody signed")
            hold(exchange.members.admits(link.peer, link.member), "a link with who is not admitted")


def frame_proof(t: bytes) -> str:
    """Return the proof of a server that knows the network's key."""
    return mac(K.hex(), "server", t)


def named(id: str) -> str:
    """Return the name of a key."""
    return next(name for name in KEYS if IDS[name].hex() == id)


def admit(data: bytes) -> None:
    AdmissionSession(Supply(data)).run()


def choice_seeds() -> list[bytes]:
    made = [bytes((number * 7 + step * step) % 256 for step in range(300)) for number in range(12)]
    return [bytes(200), *made, *(frame[4:] for frame in vector_frames()[:6])]


@cache
def targets() -> tuple[Target, ...]:
    return (
        Target("statements", "texts of statements about members", read_statement, statement_seeds, WORDS, 2048, 300),
        Target("member_sets", "what follows from statements", evaluate, choice_seeds, [], 300, 150),
        Target("admission", "who is admitted by what is shown", admit, choice_seeds, [], 400, 150),
    )
