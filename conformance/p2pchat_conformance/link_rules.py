"""Rules of level bot about links: TLS, the handshake, one link for each pair, their ends and new beginnings."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from p2pchat import protocol as wire
from p2pchat.core.log import before_of, verify
from p2pchat.core.members.statement import make_guest
from p2pchat.core.mesh.handshake import proof, transcript
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.errors import HandshakeError
from p2pchat.identity.tls_pipe import TlsPipe, server_context
from p2pchat_conformance.awaited_frames import (
    RuleBroken,
    RuleSkipped,
    check,
    framed,
)
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import ScriptedMember

PING_AFTER = 11.0  # seconds at the larger id
DEAD_AFTER = 31.0  # seconds at the larger id
LATE = 5.0  # seconds that a busy machine may take more, or less than at the larger id; a guess


# ---- TLS


@rule
async def only_tls_1_3_is_accepted(kit: Kit) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        await kit.dial(kit.member("ada"), context)
    except (ssl.SSLError, ConnectionError):
        return
    raise RuleBroken("the candidate accepted TLS 1.2")


@rule
async def no_session_is_resumed(kit: Kit) -> None:
    ada = kit.member("ada")
    context = server_context(ada.identity)
    context.num_tickets = 2
    first = await kit.accept(ada, context=context)
    await first.prove()
    await first.go()
    await first.introduce()
    await first.round_trip()
    first.leave("error")
    second = await kit.accept(ada)
    check(not second.writer.get_extra_info("ssl_object").session_reused, "the second dial resumed the TLS session")


# ---- handshake, with the candidate as the server


@rule
async def the_server_offers_version_3(kit: Kit) -> None:
    offer = await (await kit.dial(kit.member("ada"))).offered()
    check(isinstance(offer.v, list) and wire.PROTOCOL_VERSION in offer.v, f"`v` is {offer.v}")


@rule
async def nonces_are_fresh(kit: Kit) -> None:
    nonces = []
    for name in ("ada", "bob", "cyd"):
        if kit.endpoint:
            nonces.append((await (await kit.dial(kit.member(name))).offered()).nonce)
        else:
            link = await kit.accept(kit.member(name))
            link.send(wire.Hello([wire.PROTOCOL_VERSION], link.nonce))
            nonces.append((await link.next(wire.Hello)).nonce)
    check(len(set(nonces)) == 3, f"of three nonces two are equal: {nonces[0]}")
    check(all(len(set(nonce)) > 4 for nonce in nonces), f"a nonce is not random: {nonces[0]}")


async def refused(kit: Kit, what: str, change: Callable[[wire.Hello], wire.Hello], *codes: str) -> None:
    """Send a hello that is wrong in one thing, and await the refusal."""
    link = await kit.dial(kit.member("ada"))
    link.send(change(link.hello(await link.offered())))
    await link.ended(*codes, after=what)


def replaced(hello: wire.Hello, **fields: Any) -> wire.Hello:
    for name, value in fields.items():
        setattr(hello, name, value)
    return hello


@rule
async def the_server_refuses_other_versions(kit: Kit) -> None:
    await refused(kit, "a hello of version 2", lambda hello: replaced(hello, v=2), "version")


@rule
async def the_server_checks_the_signature(kit: Kit) -> None:
    sig = kit.identity("eve").sign(b"another thing").hex()
    await refused(kit, "a hello that another key signed", lambda hello: replaced(hello, sig=sig), "identity")


@rule
async def keys_of_small_order_are_no_ids(kit: Kit) -> None:
    link = await kit.dial(kit.member("ada"))
    offer = await link.offered()
    neutral = "01" + "00" * 31  # with this key, the base point as R and 1 as S sign everything
    hello = replaced(link.hello(offer), id=neutral, sig="58" + "66" * 31 + neutral)
    if kit.network.key is not None:
        hello.proof = proof(
            kit.network.key, "client", transcript(wire.PROTOCOL_VERSION, link.server, neutral, offer.nonce, link.nonce)
        )
    link.send(hello)
    await link.ended("malformed", after="a hello of a key that anybody can sign for")


@rule
async def the_signature_covers_both_nonces_and_ids(kit: Kit) -> None:
    link = await kit.dial(kit.member("ada"))
    offer = await link.offered()
    hello = link.hello(offer)
    t = transcript(wire.PROTOCOL_VERSION, link.server, link.member.id, "0" * 64, link.nonce)  # of another connection
    link.send(replaced(hello, sig=link.member.identity.sign(t).hex()))
    await link.ended("identity", after="a hello signed for another connection")


@rule
async def the_server_requires_a_proof(kit: Kit) -> None:
    await refused(kit, "a hello without a proof", lambda hello: replaced(hello, proof=None), "network")


@rule
async def the_server_checks_the_proof(kit: Kit) -> None:
    link = await kit.dial(kit.member("ada"))
    offer = await link.offered()
    t = transcript(wire.PROTOCOL_VERSION, link.server, link.member.id, offer.nonce, link.nonce)
    link.send(replaced(link.hello(offer), proof=proof(kit.network.key, "server", t)))
    await link.ended("network", after="the candidate's own proof in a hello")
    other = await kit.dial(kit.member("bob"))
    other.send(other.hello(await other.offered(), key="ab" * 32))
    await other.ended("network", after="a proof with another key")


@rule
async def the_server_refuses_its_own_id(kit: Kit) -> None:
    change = lambda hello: replaced(hello, id=kit.candidate)  # noqa: E731
    await refused(kit, "a hello with the candidate's own id", change, "self", "identity")


@rule
async def the_welcome_proves_the_network(kit: Kit) -> None:
    link = await kit.dial(kit.member("ada"))
    offer = await link.offered()
    link.send(link.hello(offer))
    welcome = await link.next(wire.Welcome)
    t = transcript(wire.PROTOCOL_VERSION, link.server, link.member.id, offer.nonce, link.nonce)
    check(welcome.proof == proof(kit.network.key, "server", t), "the proof in `welcome` is wrong")


@rule
async def frames_before_go_are_in_turn(kit: Kit) -> None:
    link = await kit.connect(kit.member("ada"))
    link.send(wire.Ping())
    await link.ended("order", after="a `ping` in place of the handshake")


@rule
async def frames_before_go_are_small(kit: Kit) -> None:
    link = await kit.connect(kit.member("ada"))
    link.send(wire.LENGTH.pack(4097))
    await link.ended("limit", after="a length of 4097 bytes in the handshake")


# ---- handshake, with the candidate as the client


@rule
async def peers_that_are_named_are_dialled(kit: Kit) -> None:
    kit.dials = kit.dials or None
    ada = kit.member("ada")
    try:
        await kit.accept(ada)
    except RuleSkipped as skipped:
        raise RuleBroken(str(skipped)) if kit.host else skipped from None


async def check_not_dialled(kit: Kit, what: str, wrong: Callable[[wire.PeerRecord], wire.PeerRecord]) -> None:
    """Name one member by a wrong record, and then two others: who dials these would have dialled the first before.

    Whom a record is of stands in `linked` too, since nobody need take other records.
    """
    ada = kit.member("ada")
    record = wrong(ada.record(await kit.listen(ada)))
    (await kit.join("namer")).send(wire.Peers([record], [record.id]))
    for name in ("bob", "cyd"):
        await (await kit.accept(kit.member(name))).prove()
    check(not kit.was_dialled(ada), f"the candidate dialled {what}")


@rule
async def a_record_that_its_peer_did_not_sign_is_not_dialled(kit: Kit) -> None:
    change = msgspec.structs.replace
    await check_not_dialled(kit, "an endpoint that is not in what was signed",
                            lambda record: change(
        record, text=record.text.replace(str(record.at), str(record.at + 1))))  # fmt: skip
    eve, zoe = kit.identity("eve"), kit.identity("zoe", decides=False)
    await check_not_dialled(kit, "what another peer had signed", lambda record: make_record(
        kit.network.id, record.id, eve.sign, record.at, record.e, record.guest))  # fmt: skip
    network = kit.network.member
    assert network is not None
    await check_not_dialled(kit, "a peer with a certificate that its member did not sign", lambda record: make_record(
        kit.network.id, zoe.peer_id, zoe.sign, record.at, record.e,
        make_guest("00" * 16, network.peer_id, network.sign, zoe.peer_id)))  # fmt: skip


@rule
async def who_is_not_admitted_is_not_dialled(kit: Kit) -> None:
    zoe, member = kit.identity("zoe", decides=False), kit.identity("member of zoe")
    guest = make_guest(kit.network.id, member.peer_id, member.sign, zoe.peer_id)

    def of_zoe(by: wire.GuestCertificate | None, record: wire.PeerRecord) -> wire.PeerRecord:
        return make_record(kit.network.id, zoe.peer_id, zoe.sign, record.at, record.e, by)

    await check_not_dialled(kit, "a peer for whom no member answers", partial(of_zoe, None))
    await check_not_dialled(kit, "a peer for whom somebody answers who is no member", partial(of_zoe, guest))


@rule
async def the_client_proves_itself(kit: Kit) -> None:
    link = await kit.accept(kit.member("ada"))
    link.send(wire.Hello([wire.PROTOCOL_VERSION, 7], link.nonce))
    hello = await link.next(wire.Hello)
    check(hello.v == wire.PROTOCOL_VERSION, f"`v` is {hello.v}")
    check(hello.id == kit.candidate, "`id` is not the id on its other links")
    t = transcript(wire.PROTOCOL_VERSION, link.member.id, kit.candidate, link.nonce, hello.nonce)
    check(verify(kit.candidate, bytes.fromhex(hello.sig or ""), t), "`sig` does not verify")
    if kit.network.key:
        check(hello.proof == proof(kit.network.key, "client", t), "the proof is wrong")


@rule
async def the_client_refuses_other_versions(kit: Kit) -> None:
    link = await kit.accept(kit.member("ada"))
    link.send(wire.Hello([3, 5], link.nonce))
    await link.ended("version", after="an offer of versions 3 and 5")


@rule
async def the_client_checks_the_proof(kit: Kit) -> None:
    for name, what in (("ada", "the candidate's own proof"), ("bob", "no proof")):
        link = await kit.accept(kit.member(name))
        link.send(wire.Hello([wire.PROTOCOL_VERSION], link.nonce))
        hello = await link.next(wire.Hello)
        link.send(wire.Welcome(hello.proof if name == "ada" else None, link.shown()))
        await link.ended("network", after=f"a `welcome` with {what}")


@rule
async def the_client_wants_the_hello_first(kit: Kit) -> None:
    link = await kit.accept(kit.member("ada"))
    link.send(wire.Welcome())
    await link.ended("order", after="a `welcome` in place of a `hello`")


@rule
async def the_client_compares_the_key_with_its_pin(kit: Kit) -> None:
    ada = kit.member("ada")
    sent = await dialled_with(
        kit,
        ada,
        server_context(kit.identity("eve")),
        framed(wire.encode(wire.Hello([wire.PROTOCOL_VERSION], "ab" * 32))[4:]),
    )
    check(not sent, f"the candidate sent {(sent or b'')[:80]!r}")


@rule
async def only_tls_1_3_is_offered(kit: Kit) -> None:
    ada = kit.member("ada")
    context = server_context(ada.identity)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    check(await dialled_with(kit, ada, context, b"") is None, "the candidate spoke TLS 1.2")


async def dialled_with(kit: Kit, member: ScriptedMember, context: ssl.SSLContext, first: bytes) -> bytes | None:
    """Let the candidate dial a TLS server that sends `first`; return what it sent, None without a handshake."""
    pipe = TlsPipe(context, server_side=True)
    pipe.send(first)
    sent: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        with suppress(OSError, HandshakeError, asyncio.CancelledError):  # the last when the run is over
            while data := await reader.read(65536):
                try:
                    sent.append(pipe.receive(data))
                finally:
                    writer.write(pipe.outgoing())
        writer.close()
        over.set()

    dialled, over = asyncio.Event(), asyncio.Event()
    server = kit.keep(await asyncio.start_server(serve, "127.0.0.1", 0))
    await kit.name(member, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        await asyncio.wait_for(over.wait(), kit.timeout)
    except TimeoutError:
        if not dialled.is_set():
            raise RuleSkipped("the candidate does not dial what `peers` names") from None
        raise RuleBroken("the candidate did not close the connection") from None
    return b"".join(sent) if pipe.handshaken else None


@rule
async def a_lost_peer_is_dialled_again(kit: Kit) -> None:
    member = kit.member("ada")
    for text in ("first link", "second link"):
        link = await kit.accept(member)
        await link.prove()
        await link.go()
        await link.introduce()
        await link.echoed(text, member.dm())
        link.cut()


# ---- one link for each pair


@rule
async def nothing_is_sent_before_go(kit: Kit) -> None:
    link = await kit.connect(kit.member("ada", decides=True))
    await link.prove()
    other = await kit.join("bob")
    await other.echoed("anything before go?")
    early = [one for one in link.frames if not isinstance(one, wire.Hello | wire.Welcome | wire.Show | wire.Admit)]
    check(not early, f"before `go` came {early[:3]}")
    await link.go()
    await link.introduce()


@rule
async def the_decider_numbers_its_links(kit: Kit) -> None:
    ada = kit.member("ada")
    first = await kit.link(ada)
    one = await first.next(wire.Go)
    if kit.endpoint:
        second = await kit.link(ada)  # while the first is up
        await first.ended(after="a second link")
    else:
        first.leave("error")
        second = await kit.link(ada)
    two = await second.next(wire.Go)
    check(one.run == two.run, f"the run changed from {one.run} to {two.run}")
    check(two.n > one.n, f"n is {two.n} after {one.n}")
    await second.echoed("after go")


@rule
async def the_larger_n_stays(kit: Kit) -> None:
    ada = kit.member("ada", decides=True)
    first, second = await kit.dial(ada), await kit.dial(ada)
    for link, n in ((first, 2), (second, 1)):
        await link.prove()
        await link.go(n, run="a1" * 8)
        if n == 2:
            await link.introduce()
    await second.ended("replaced", after="`go` with a smaller n of the same run")
    await first.echoed("still here")


@rule
async def the_newer_link_replaces(kit: Kit) -> None:
    ada = kit.member("ada", decides=True)
    first = await kit.link(ada)
    second = await kit.dial(ada)
    await second.prove()
    await second.go(2)
    await second.introduce()
    await first.ended("replaced", after="`go` with a larger n on another link")
    await second.echoed("on the new link")
    third = await kit.dial(ada)
    await third.prove()
    await third.go(1, run="b2" * 8)
    await third.introduce()
    await second.ended("replaced", after="`go` with n 1 of a new run")
    await third.echoed("on the link of a new run")


@rule
async def go_comes_once_and_from_the_decider(kit: Kit) -> None:
    link = await kit.join("ada", decides=True)
    link.send(wire.Go("b2" * 8, 2))
    await link.ended("order", after="a second `go`")
    link = await kit.join("bob")
    link.send(wire.Go("b2" * 8, 1))
    await link.ended("order", after="`go` of who does not decide")


# ---- ends and new beginnings


@rule
async def a_silent_link_is_pinged(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.round_trip()
    link.member.answers.clear()  # an answer to a later comparison would begin the silence anew
    await link.next(wire.Ping, "`ping`, and nobody said anything", timeout=PING_AFTER + min(kit.timeout, LATE))


@rule
async def a_dead_link_is_ended(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.round_trip()
    link.member.answers.clear()
    silent_at = time.monotonic()
    try:
        async with asyncio.timeout(DEAD_AFTER + min(kit.timeout, LATE)):
            while not link.over:
                await link.heard()
    except TimeoutError:
        raise RuleBroken("the candidate keeps a link on which nothing came for more than 31 s") from None
    silence = time.monotonic() - silent_at
    check(silence > DEAD_AFTER - LATE, f"the candidate ended a link on which nothing came for {silence:.0f} s")


@rule
async def what_was_acknowledged_survives_a_kill(kit: Kit) -> None:
    if kit.restart is None:
        raise RuleSkipped("needs --restart")
    member = kit.member("ada")
    link = await kit.link(member)
    logs = []
    for conversation in (kit.room, member.dm()):
        log, batch = member.say(conversation, *(f"kept {n}" for n in range(20)))
        link.send(batch)
        await link.acked(log)
        logs.append(log)
    await kit.restarted()
    member.answers -= {"want"}
    link = await kit.link(member)
    for log in logs:
        page = await link.marks_in(log.id.conversation, (member.id, member.id))
        marks = page.get(member.id)
        check(marks == [log.mark()], f"it acknowledged {log.mark()}, and has {marks} after the kill")


@rule
async def a_new_process_begins_new_logs(kit: Kit) -> None:
    if kit.restart is None:
        raise RuleSkipped("needs --restart")
    member = kit.member("ada")
    link = await kit.link(member)
    await link.echoed("long before the kill", member.dm())
    _, one = await link.echoed("before the kill", member.dm())
    await link.until(lambda: member.tips(member.dm(), kit.candidate), "mark of the candidate's log")
    tip = member.tips(member.dm(), kit.candidate)[-1]
    await kit.restarted()
    link = await kit.link(member)
    _, two = await link.echoed("after the kill", member.dm())
    check(one["run"] != two["run"], "it went on writing into the log of the process that was killed")
    first = await link.next(wire.Entries, "entry 1 of its new log",
                            where=lambda one: (one.r, one.first) == (two["run"], 1))  # fmt: skip
    before = before_of(first)
    check(tip in before, f"`before` of its new log is {before}, and not {[tip]}")
    new = [one["b"] for one in link.entries_of(kit.candidate, member.dm()) if one["run"] == two["run"]]
    check("long before the kill" not in new, "it answered again what it had answered before the kill")


@rule
async def its_record_is_newer_after_a_restart(kit: Kit) -> None:
    if kit.restart is None:
        raise RuleSkipped("needs --restart")
    found = []
    for name in ("before", "after"):
        link = await kit.join(name)
        found.append(next(iter(await link.records()), None))
        if name == "before":
            await kit.restarted()
    former, later = found
    if former is None or later is None:
        raise RuleSkipped("the candidate tells no endpoints")
    check(later == former or later.at > former.at, f"`at` of its new record is {later.at}, of the former {former.at}")


@rule
async def an_orderly_stop_says_goodbye(kit: Kit) -> None:
    if kit.stop is None:
        raise RuleSkipped("needs --stop")
    link = await kit.join("ada")
    await link.round_trip()
    await kit.stop()
    await link.ended("left", after="an order to stop")
