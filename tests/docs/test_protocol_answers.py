"""Answers of docs/protocol.md where its first outside implementer had to guess, each shown by a node that does it."""

from __future__ import annotations

import ssl

import pytest

from p2pchat.core.effects import Close, PauseReading, Send
from p2pchat.core.inputs import Got, NameKept
from p2pchat.core.sync.conversation_members import dm_naming
from p2pchat.errors import InviteError
from p2pchat.identity.network_and_invites import Network, encode_invite, parse_invite
from p2pchat.identity.tls import TlsPipe, client_context, peer_key, server_context
from p2pchat.protocol import Decoder, Digest, Have, Here, Hosted, Naming, Ping, Pong, Want
from tests.core.scripted_nodes import ALL, IDENTITIES, IDS, ROOM, Author, Far, Peer, World, dm, have

BOB = Hosted(IDS["bob"], "bob", "online")


def ada_and_bob(*, compared: bool = True) -> tuple[Peer, Far]:
    ada = World().peer("ada")
    return ada, ada.far("bob", compared=compared)


def digests(lines: list[str]) -> list[str]:
    return [line for line in lines if "digest" in line]


# ---- sync


def test_have_with_ask_is_answered_only_with_a_span() -> None:
    _, far = ada_and_bob()
    assert far.say(Have({ROOM: {}}, ask=True, names=[Naming(room=True)])) == []
    assert far.say(Have({ROOM: {}}, span=ALL, ask=True)) == ["to bob: have nothing all"]


def test_the_first_complete_here_begins_a_comparison_and_a_later_one_only_with_users_that_are_new_to_it() -> None:
    _, far = ada_and_bob(compared=False)
    far.peer.put(NameKept(BOB.id))  # otherwise it is forgotten when it is gone, and nothing is shared because of it
    assert digests(far.say(Here([BOB]))) == []  # the same user again
    assert digests(far.say(Here([], gone=[BOB.id]))) == []
    assert digests(far.say(Here([], more=True))) == []
    assert digests(far.say(Here([BOB]))) == ["to bob: digest"]  # it was gone since


def test_an_equal_digest_is_answered_when_it_asks() -> None:
    _, far = ada_and_bob(compared=False)
    nothing = "0" * 64
    assert Digest(sum=nothing) in far.heard
    assert digests(far.say(Digest(sum=nothing))) == []
    assert digests(far.say(Digest(sum=nothing, ask=True))) == ["to bob: digest"]


def test_the_first_batch_of_a_conversation_that_neither_side_had_is_sent_unasked() -> None:
    ada, far = ada_and_bob()
    ada.open("bob")
    assert "to bob: entries dm a1:1..1" in ada.say("just us", to=dm("ada", "bob"))
    assert far.heard[-1].names == [dm_naming(IDS["ada"], IDS["bob"])]  # type: ignore[union-attr]


def test_what_was_sent_counts_for_the_tail_before_it_is_acknowledged() -> None:
    ada, _ = ada_and_bob()
    sent = [line for text in ("one", "two", "three") for line in ada.say(text) if line.startswith("to bob")]
    assert sent == ["to bob: entries room a1:1..2", "to bob: entries room a1:3..3", "to bob: entries room a1:4..4"]


def test_a_want_replaces_the_one_before_it_which_gets_no_end() -> None:
    ada, far = ada_and_bob()
    ada.say("hi")
    ada.hold_lookups = True
    far.say(Want(1, ROOM, IDS["ada"], []))
    far.say(Want(2, ROOM, IDS["ada"], []))
    ada.answer_lookups()
    assert [frame.end for frame in far.heard if isinstance(frame, Have) and frame.end is not None] == [2]


def test_a_want_of_a_conversation_that_is_not_shared_is_answered_with_nothing() -> None:
    _, far = ada_and_bob()
    assert far.say(Want(7, dm("ada", "cyd"), IDS["ada"], [])) == ["to bob: have nothing end 7"]


# ---- frames


def test_a_mark_of_entry_0_is_malformed() -> None:
    text = f'{{"t":"have","marks":{{"{ROOM}":{{"{IDS["ada"]}":[["{"b1" * 8}",0,"{"00" * 8}"]]}}}}}}'.encode()
    decoder = Decoder(max_frame_bytes=4096)
    assert decoder.feed(len(text).to_bytes(4, "big") + text) == []
    assert decoder.fault is not None and decoder.fault.code == "malformed"


@pytest.mark.parametrize("word, shown", [("idle", "idle"), ("busy", "unknown"), ("", "unknown")])
def test_an_unknown_status_is_taken_and_shown_as_unknown(word: str, shown: str) -> None:
    ada, far = ada_and_bob()
    far.say(Here([Hosted(IDS["bob"], "bob", word)]))  # without text, since and cert
    assert ada.node.presence.status(IDS["bob"]) == (shown, "", 0)


def test_a_name_may_always_be_repeated() -> None:
    ada, far = ada_and_bob()
    log = Author("bob", "b1")
    for text in ("one", "two"):
        assert "close" not in " ".join(far.say(log.say(text), have(log), have(log)))
    assert ada.texts() == ["one", "two"]


def test_frames_beyond_the_rate_are_answered_at_once_and_reading_pauses_after_them() -> None:
    ada, far = ada_and_bob()
    ada.world.pass_time(1)
    effects = ada.node.handle(Got(far.link, [Ping()] * 900), ada.world.now)
    assert sum(isinstance(effect, Send) and isinstance(effect.frame, Pong) for effect in effects) == 900
    assert [effect.seconds for effect in effects if isinstance(effect, PauseReading)] == [pytest.approx(3.99)]
    assert not any(isinstance(effect, Close) for effect in effects)


# ---- links


def handshake(client: ssl.SSLContext, *, sni: str | None) -> ssl.SSLObject:
    """Return the client's end of a connection to ada."""
    server = TlsPipe(server_context(IDENTITIES["ada"]), server_side=True)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = client.wrap_bio(into, out, server_hostname=sni)
    for _ in range(3):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
        server.receive(out.read())
        into.write(server.outgoing())
    return end


def test_the_server_ignores_sni_and_alpn_and_issues_no_tickets() -> None:
    client = client_context()
    client.set_alpn_protocols(["h2"])
    end = handshake(client, sni="example.org")
    assert end.version() == "TLSv1.3" and end.selected_alpn_protocol() is None
    assert peer_key(end.getpeercert(binary_form=True) or b"") == IDS["ada"]
    assert end.session is None or not end.session.has_ticket


def test_an_invite_has_at_most_eight_endpoints() -> None:
    invite = encode_invite(IDS["ada"], Network("ab" * 16), [f"192.0.2.{n}:8080" for n in range(1, 9)])
    assert len(parse_invite(invite).endpoints) == 8
    with pytest.raises(InviteError, match="at most 8"):
        parse_invite(invite + ",192.0.2.9:8080")
