"""Answers of p2pchat to the test vectors: what it makes of the `given` of each, in the form of its `result`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from p2pchat.core.content.pieces import PIECE_BYTES, count_pieces, leaf_of, piece_size, root_of
from p2pchat.core.edits import relation_of
from p2pchat.core.groups.group_fact import ADD, CREATE, REMOVE, GroupFact, group_id, read_fact, talk_id
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.log import (
    UNREADABLE,
    LogId,
    RawEntry,
    attachments_of,
    choices_of,
    decode_entry,
    encode_header,
    extend_chain,
    first_chain,
    hash_of,
    head_message,
    is_plausible,
    log_bytes,
    mark_hash,
    message_id,
    next_c,
    ref_key,
    verify,
)
from p2pchat.core.members.admission import invite_secret, prove_invite
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import (
    StatementError,
    is_guest,
    make_guest,
    make_statement,
    parse_statement,
    room_id,
)
from p2pchat.core.members.statement_exchange import SUM_TAG
from p2pchat.core.mesh.election import (
    FollowerState,
    follower_link_down,
    follower_take_go,
)
from p2pchat.core.mesh.handshake import Certificates, host_message
from p2pchat.core.mesh.peer_exchange import is_signed, make_record
from p2pchat.core.mesh.peer_link import LinkPhase
from p2pchat.core.names import base32, name_fault
from p2pchat.core.node_context import Invitation
from p2pchat.core.own_state import OwnState
from p2pchat.core.sync.conversation_state import SHARED_TAG, TIPS_TAG
from p2pchat.core.sync.import_file import ExportReader
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.discovery import identify, txt_record
from p2pchat.errors import ImportRefused, InviteError
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import encode_invite, parse_invite
from p2pchat.identity.network import Network
from p2pchat.kinds import KINDS, RELATION_KINDS
from p2pchat.kinds.choice import OWN
from p2pchat.protocol import (
    LENGTH,
    MAX_INT,
    Cert,
    Decoder,
    Entries,
    GuestCertificate,
    Mark,
    PeerRecord,
    Piece,
    RunId,
    Statements,
    Stub,
    Unknown,
    encode,
    encode_piece,
)
from p2pchat.settings import Settings
from tests.vectors.files import read
from tests.vectors.vector_node import HandshakeNode, VectorNode, decoded, encoded

Given = dict[str, Any]
Result = dict[str, Any]

# Hashes, signatures, logs

SUM_TAGS = {"tips": TIPS_TAG, "shared": SHARED_TAG, "statements": SUM_TAG}


def hashes(given: Given) -> Result:
    match given["what"]:
        case "user":
            id = Identity.from_seed(bytes.fromhex(given["seed"])).peer_id
            return {"id": id, "base32": base32(id), "ref": ref_key(id, "")}
        case "sum":
            return {"sum": hash_of(SUM_TAGS[given["of"]], map(bytes.fromhex, given["hashes"]))}
        case "mark":
            return {"hash": mark_hash(_log(given), given["seq"], bytes.fromhex(given["chain"])).hex()}
        case what:
            return {"hash": _HASHES[what](given)}


_HASHES: dict[str, Callable[[Given], str]] = {
    "blake2b": lambda given: blake2b(bytes.fromhex(given["message"]), digest_size=32).hexdigest(),
    "room": lambda given: room_id(given["network"]),
    "dm": lambda given: dm_id(given["room"], *given["users"]),
    "group": lambda given: group_id(given["room"], given["user"], tuple(given["entry"])),
    "talk": lambda given: talk_id(given["group"]),
    "chain_0": lambda given: first_chain(given["header"]).hex(),
    "chain": lambda given: extend_chain(bytes.fromhex(given["previous"]), [_raw(*given["entry"])]).hex(),
}


def _raw(c: int, text: Any) -> RawEntry:
    return c, text if isinstance(text, str) else Stub(**text)


def _log(given: Given) -> LogId:
    return LogId(given["conversation"], given["user"], given["run"])


def signatures(given: Given) -> Result:
    message = bytes.fromhex(given["message"])
    if "seed" in given:
        identity = Identity.from_seed(bytes.fromhex(given["seed"]))
        return {"user": identity.peer_id, "signature": identity.sign(message).hex()}
    return {"valid": verify(given["user"], bytes.fromhex(given["signature"]), message)}


def logs(given: Given) -> Result:
    log, identity = _log(given), Identity.from_seed(bytes.fromhex(given["seed"]))
    before, by = tuple(Mark(*mark) for mark in given["before"]), given.get("by")
    header = encode_header(log, before, GuestCertificate(*by) if by else None)
    chain, entries = first_chain(header), []
    for seq, (c, text) in enumerate(given["entries"], 1):
        chain = extend_chain(chain, [(c, text)])
        message = head_message(log, seq, chain)
        entries.append(
            {
                "chain": chain.hex(),
                "head_message": message.hex(),
                "head": identity.sign(message).hex(),
                "mark": [log.run, seq, chain.hex()],
                "mark_hash": mark_hash(log, seq, chain).hex(),
                "message_id": message_id(log, seq),
            }
        )
    return {
        "id72": log_bytes(log).hex(),
        "ref": ref_key(log.user, log.run),
        "header": header,
        "chain_0": first_chain(header).hex(),
        "entries": entries,
    }


def clocks(given: Given) -> Result:
    others = [c for c in given["others"] if is_plausible(c, given["now"])]
    return {"c": next_c(given["now"], given["previous"], max(others, default=0))}


# What reaches a node


def _node(name: str, held: list[dict[str, Any]]) -> VectorNode:
    setting = read(name)["setting"]
    node = VectorNode(setting["bob"]["seed"], setting["network"], setting["now_us"])
    for frame in held:
        assert not node.hold([decoded(frame)]).refused
    return node


def text_of(given: Given) -> str:
    """Return the text of a vector, with its repetition written out."""
    text: str = given["text"]
    part, count = given.get("repeat", ("~", 1))
    return text.replace("~", part * count)


def entries(given: Given) -> Result:
    text, last_c = text_of(given), given.get("clock_before", 0)
    setting = read("entries")["setting"]
    author = Identity.from_seed(bytes.fromhex(setting["bob"]["seed"]))
    log = LogId(setting["room"], author.peer_id, "3030303030303003")
    node = VectorNode(setting["ada"]["seed"], setting["network"], setting["now_us"])
    raw, header = (given.get("clock", 2), text), encode_header(log, (), None)
    held: list[RawEntry] = [(last_c, '{"k":"text","at":1,"b":""}')] if last_c else []
    for seq, one in enumerate([*held, raw], 1):
        prev = extend_chain(first_chain(header), held[: seq - 1])
        head = author.sign(head_message(log, seq, extend_chain(prev, [one])))
        h = header if seq == 1 else ""
        frame = Entries(*log, seq, prev.hex(), [one], head.hex(), h)
        decoder = Decoder(max_frame_bytes=Settings().max_frame_bytes)
        decoder.feed(encode(frame))
        if decoder.fault is not None:
            return {"refused": decoder.fault.code}
        answer = node.hold([frame])
    for code in answer.refused:
        return {"refused": code}
    assert answer.new == 1
    entry = decode_entry(raw)
    if entry.k == UNREADABLE:
        return {"taken": True, "supported": False}
    if entry.k not in KINDS and not entry.is_message:
        return {"taken": True, "shown": False}
    is_lost = entry.k in RELATION_KINDS and relation_of(log, 1, entry) is None
    is_lost |= entry.k == OWN.name and not OwnState({}).take(log.user, "", entry, {}, MAX_INT)[1:]
    is_nameless = entry.k == "profile" and node.node.names.get(author.peer_id) != "robert"
    return {"taken": True} | ({"effect": False} if is_lost or is_nameless else {})


def facts(given: Given) -> Result:
    log = LogId("00" * 32, read("facts")["setting"]["bob"]["id"], "3030303030303003")
    raw: RawEntry = (2, given["text"])
    fact = read_fact(log, bytes(32), (), decode_entry(raw))
    has_effect = fact is not None and GroupReplica("00" * 32, "00" * 32).read(log, raw, bytes(32), ()) is not None
    return {"taken": True} | ({} if has_effect else {"effect": False})


def batches(given: Given) -> Result:
    node = _node("batches", given["held"])
    answer = node.hold([decoded(given["frame"])])
    counts = {"new": answer.new, "known": answer.known}
    result: Result = {what: count for what, count in counts.items() if count}
    if answer.foreign or "member" in answer.refused:
        return result | {"ignored": True, "entries": answer.foreign + answer.refused.get("member", 0)}
    for code, count in answer.refused.items():
        known: dict[str, Result] = {"early": {"dropped": "early"}, "fork": {"forked": True}}
        result |= known.get(code, {"refused": code}) | {"entries": count}
    return result


def forks(given: Given) -> Result:
    node = _node("forks", [])
    node.link_with(read("forks")["setting"]["ada"]["seed"])
    node.take_frames(*map(decoded, given["frames"]))
    return {"refused": "head"} if node.has_refuted else {"forked": node.forked}


def sync(given: Given) -> Result:
    node = _node("sync", given["held"])
    node.link_with(read("sync")["setting"]["ada"]["seed"])
    node.take_frames(*map(decoded, given["heard"]))
    sent = node.take_frames(*map(decoded, given["in"]), write=given.get("write", ()), seconds=given.get("seconds", 0.0))
    return {"out": sent} | ({"closed": node.closed} if node.closed else {})


# Frames and the handshake


def frames(given: Given) -> Result:
    decoder = Decoder(max_frame_bytes=given["limit"])
    payload = text_of(given).encode() if "text" in given else b""
    data = LENGTH.pack(len(payload)) + payload if payload else bytes.fromhex(given["bytes"])
    found = decoder.feed(data)
    if decoder.fault is not None:
        assert not found
        return {"refused": decoder.fault.code}
    (frame,) = found
    if isinstance(frame, Unknown):
        return {"ignored": frame.t}
    return {"frame": encoded(frame)} | ({"written": True} if encode(frame) == data else {})


def handshakes(given: Given) -> Result:
    setting = read("handshakes")["setting"]
    node = HandshakeNode(given, setting["now_us"], setting["invites_key"])
    for frame in given["in"]:
        node.take_frame(decoded(frame))
    result: Result = {"out": node.sent}
    if node.refused:
        return {"out": [frame for frame in node.sent if frame["t"] != "bye"], "refused": node.refused}
    last = given["in"][-1]
    if last["t"] == "bye":
        return result | {"said": last["code"]}
    (link,) = node.node.links._links.values()
    assert link.phase in (LinkPhase.WAITING, LinkPhase.UP)
    return result | {"transcript": link.handshake.transcript.hex(), "peer": link.peer}


# Members


def statements(given: Given) -> Result:
    network = given["network"]
    if "seed" in given:
        author = Identity.from_seed(bytes.fromhex(given["seed"]))
        made = make_statement(network, author.peer_id, author.sign, given["k"], given["at"], given["fields"])
        return {"text": made.text, "id": made.id, "signature": made.signature.hex()}
    try:
        found = parse_statement(network, given["text"], bytes.fromhex(given["signature"]))
    except StatementError as error:
        return {"refused": error.code}
    effect = {} if found.kind else {"effect": False}
    return {"signed": found.is_signed(network), "id": found.id, **effect}


def members(given: Given) -> Result:
    setting = read("members")["setting"]
    texts = [(text_of(given | {"text": text}), bytes.fromhex(sig)) for text, sig in given["statements"]]
    said = [parse_statement(setting["network"], *one) for one in texts]
    assert all(one.is_signed(setting["network"]) for one in said)
    guest, named = given["guest"], given["named"]
    found, backward = MemberList(setting["founder"]), MemberList(setting["founder"])
    found.add(said)
    backward.add(said[::-1])
    kept = sorted(one.id for one in found.statements())
    assert kept == sorted(one.id for one in backward.statements()), "the order means nothing"
    return {
        "members": sorted(found.members),
        "admins": sorted(found.admins),
        "removed": sorted(found.removed),
        "kept": kept,
        "sum": hash_of(SUM_TAGS["statements"], map(bytes.fromhex, kept)),
        "admitted": {
            member: found.admits(guest, member, named) and not found.revocations(guest, (member, *named))
            for member in given["by"]
        },
        "named": [member for member in given["by"] if found.is_named(member)],
        "closed": [invite for invite in given["invites"] if found.closing(invite) is not None],
    }


def guests(given: Given) -> Result:
    network, user = given["network"], given["user"]
    if "seed" in given:
        member = Identity.from_seed(bytes.fromhex(given["seed"]))
        made = make_guest(network, member.peer_id, member.sign, user)
        return {"guest": [made.member, made.sig]}
    return {"valid": is_guest(network, user, GuestCertificate(*given["guest"]))}


def records(given: Given) -> Result:
    network = given["network"]
    if "seed" in given:
        peer, member = (Identity.from_seed(bytes.fromhex(given[of])) for of in ("seed", "member"))
        guest = make_guest(network, member.peer_id, member.sign, peer.peer_id)
        made = make_record(network, peer.peer_id, peer.sign, given["at"], given["e"], guest)
        return {"record": msgspec.json.decode(msgspec.json.encode(made))}
    record = msgspec.convert(given["record"], PeerRecord)
    return {"valid": record.is_readable and is_signed(network, record)}


def joins(given: Given) -> Result:
    terms = [given[name] for name in ("id", "uses", "until")]
    if "key" in given:
        return {"secret": invite_secret(bytes.fromhex(given["key"]), given["network"], *terms).hex()}
    id, uses, until = terms
    invitation = Invitation(given["maker"], id, uses, until, bytes.fromhex(given["secret"]))
    made = prove_invite(invitation, bytes.fromhex(given["transcript"]), given["member"])
    return {"invite": msgspec.to_builtins(made)}


def certificates(given: Given) -> Result:
    if "seed" in given:
        message = host_message(given["network"], given["user"], given["peer"], given["from"], given["until"])
        sig = Identity.from_seed(bytes.fromhex(given["seed"])).sign(message).hex()
        return {"message": message.hex(), "cert": {"from": given["from"], "until": given["until"], "sig": sig}}
    said = given.get("cert")
    cert = Cert(said["from"], said["until"], said["sig"]) if said else None
    return {"valid": not Certificates(given["network"]).fault(given["user"], given["peer"], cert, given["now_ms"])}


def invites(given: Given) -> Result:
    try:
        invite = parse_invite(given["text"])
    except InviteError:
        return {"refused": True}
    network, made = invite.network, invite.invitation
    result = {
        "maker": invite.peer_id,
        "network": network.id,
        "key": network.key,
        "id": made.id,
        "uses": made.uses,
        "until": made.until,
        "secret": made.secret.hex(),
        "endpoints": list(invite.endpoints),
    }
    written = encode_invite(network, made, invite.endpoints) == given["text"]
    return result | ({"written": True} if written else {})


def networks(given: Given) -> Result:
    try:
        found = Network.named(given["text"])
    except ValueError:
        return {"refused": True}
    return {"name": found.name, "key": found.key, "network": found.id}


def discovery(given: Given) -> Result:
    key = bytes.fromhex(given["key"])
    if "peer" in given:
        txt = txt_record(key, given["peer"], given["port"], given["addresses"], bytes.fromhex(given["salt"]))
        return {"txt": txt}
    told: dict[bytes, bytes | None] = {name.encode(): value.encode() for name, value in given["txt"].items()}
    peer = identify(key, told, given["port"], given["addresses"])
    return {"peer": peer} if peer else {"ignored": True}


def attachments(given: Given) -> Result:
    if "frame" in given:
        decoder = Decoder(max_frame_bytes=Settings().max_frame_bytes)
        decoder.takes_pieces = True
        read = decoder.feed(bytes.fromhex(given["frame"]))
        if decoder.fault is not None:
            return {"refused": decoder.fault.code}
        (piece,) = read
        assert isinstance(piece, Piece) and encode_piece(piece).hex() == given["frame"]
        return {"n": piece.n, "index": piece.index, "data": piece.data.hex()}
    if "text" in given:
        files = attachments_of(decode_entry((2, text_of(given))))
        return {"files": [{key: getattr(one, key) for key in ("name", "size", "type", "root")} for one in files]}
    size = given["size"]
    content = (bytes.fromhex(given["unit"]) * (size // len(bytes.fromhex(given["unit"])) + 1))[:size]
    pieces = [content[at * PIECE_BYTES :][: piece_size(size, at)] for at in range(count_pieces(size))]
    leaves = [leaf_of(piece) for piece in pieces]
    return {"leaves": [leaf.hex() for leaf in leaves], "root": root_of(size, leaves)}


def choices(given: Given) -> Result:
    read = decode_entry((2, given["text"]))
    return {"choices": [*choices_of(read)], "hops": read.hops}


def files(given: Given) -> Result:
    reader = ExportReader(given["room"])
    try:
        reader.feed(bytes.fromhex(given["bytes"]))
        reader.finish()
    except ImportRefused:
        return {"refused": True}
    frames = reader.take(1 << 20)
    statements = [one for frame in frames if isinstance(frame, Statements) for one in frame.s]
    batches = len(frames) - sum(isinstance(frame, Statements) for frame in frames)
    return {"statements": len(statements), "frames": batches, "entries": reader.entries, "whole": not reader.problem}


# Names, links, groups


def names(given: Given) -> Result:
    return {"valid": not name_fault(given["name"])}


def elections(given: Given) -> Result:
    return {"steps": (_follow if given["side"] == "F" else _decide)(given["steps"])}


def _follow(steps: list[dict[str, Any]]) -> list[Result]:
    state, results = FollowerState(), []
    for step in steps:
        closes = None
        if "down" in step:
            state = follower_link_down(state, step["down"])
        else:
            verdict = follower_take_go(state, step["link"], step["link"], step["go"]["run"], step["go"]["n"])
            state, closes = verdict.state, verdict.closes
        results.append({"current": state.link, "closes": closes})
    return results


def _decide(steps: list[dict[str, Any]]) -> list[Result]:
    n, current, results = 0, None, []
    for step in steps:
        closes = None
        if "down" in step:
            current = None if current == step["down"] else current
        else:
            n, current, closes = n + 1, step["proved"], current
        results.append({"current": current, "closes": closes, "n": n})
    return results


def groups(given: Given) -> Result:
    forward, backward = _state(given, given["logs"]), _state(given, given["logs"][::-1])
    assert forward == backward, "the order of the facts means nothing"
    return forward


def _state(given: Given, logs: list[dict[str, Any]]) -> Result:
    group = GroupReplica(given["group"], given["room"])
    for one in logs:
        header, (c, text) = json.loads(one["header"]), one["entry"]
        chain = extend_chain(first_chain(one["header"]), [(c, text)])
        before = tuple(Mark(*mark) for mark in header["before"])
        fact = group.read(LogId(given["group"], one["user"], header["r"]), (c, text), chain, before)
        if fact is not None:
            group.add(fact)
    state = group.state
    assert state is not None
    return {
        "name": state.name,
        "owner": state.owner,
        "members": dict(state.members),
        "admins": sorted(state.admins),
        "out": {
            user: {out.id: sorted(one.id for one in group.enders(user, out)) for out in group.outs(user)}
            for user in given["users"]
        },
    }


@dataclass(frozen=True)
class _View:
    seq: int
    builds_on: tuple[Mark, ...]
    before: tuple[Mark, ...]


def visibility(given: Given) -> Result:
    views: dict[RunId, _View] = {}
    for log in given["logs"]:
        builds_on = tuple(Mark(*mark) for mark in log["before"])
        facts = tuple(_fact_mark(run) for run in log["facts"])
        views[log["run"]] = _View(log["entries"], builds_on, (*builds_on, *facts))
    user, group, ends = "01" * 32, GroupReplica("00" * 32, "00" * 32), defaultdict[RunId, list[str]](list)

    def take(kind: str, run: RunId, who: Iterable[str] = (), cuts: Iterable[Any] = ()) -> GroupFact:
        marks = tuple(Mark(*mark) for mark in cuts)
        fact = GroupFact("00" * 32, _fact_mark(run), 1, (), kind, {user: tuple(who)}, "", 0, marks, ())
        group.take(fact)
        return fact

    take(CREATE, "00" * 8)
    for at, cut in enumerate(given["cuts"], 1):
        out = take(REMOVE, f"{at:016x}", cuts=cut["cuts"])
        for run in cut["ended"]:
            ends[run].append(out.id)
    for run, outs in ends.items():
        take(ADD, run, outs)
    visible = {run: group.visible_end(user, views, run, view.before).visible.seq for run, view in views.items()}
    return {"visible": {run: min(seq, views[run].seq) for run, seq in visible.items()}}


def _fact_mark(run: RunId) -> Mark:
    return Mark(run, 1, run * 4)


ANSWERS: dict[str, Callable[[Given], Result]] = {
    function.__name__: function
    for function in (
        hashes, signatures, logs, entries, facts, batches, forks, clocks, frames, handshakes, certificates,
        statements, members, guests, records, joins,
        invites, networks, discovery, attachments, choices, files, names, elections, groups, visibility, sync,
    )
}  # fmt: skip
