"""Answers of docs/protocol.md where its first outside implementer had to guess, and that no rule of the kit tries."""

from __future__ import annotations

import ssl

from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.identity.tls_pipe import TlsPipe, client_context, peer_key, server_context
from p2pchat.protocol import Have, Here, Hosted, Want
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, Far, Peer, World, dm

BOB = Hosted(IDS["bob"], "bob", "online")


def ada_and_bob(*, compared: bool = True) -> tuple[Peer, Far]:
    ada = World().peer("ada")
    return ada, ada.far("bob", compared=compared)


def digests(lines: list[str]) -> list[str]:
    return [line for line in lines if "digest" in line]


def test_the_first_complete_here_begins_a_comparison_and_a_later_one_only_with_users_that_are_new_to_it() -> None:
    _, far = ada_and_bob(compared=False)
    far.peer.choose(
        f"ignored:{BOB.id}"
    )  # otherwise it is forgotten when it is gone, and nothing is shared because of it
    assert digests(far.say(Here([BOB]))) == []  # the same user again
    assert digests(far.say(Here([], gone=[BOB.id]))) == []
    assert digests(far.say(Here([], more=True))) == []
    assert digests(far.say(Here([BOB]))) == ["to bob: digest"]  # it was gone since


def test_the_first_batch_of_a_conversation_that_neither_side_had_is_sent_unasked() -> None:
    ada, far = ada_and_bob()
    ada.open("bob")
    assert "to bob: entries dm a1:1..1" in ada.say("just us", to=dm("ada", "bob"))
    assert far.heard[-1].names == [dm_naming(IDS["ada"], IDS["bob"])]  # type: ignore[union-attr]


def test_a_want_replaces_the_one_before_it_which_gets_no_end() -> None:
    ada, far = ada_and_bob()
    ada.say("hi")
    ada.hold_lookups = True
    far.say(Want(1, ROOM, IDS["ada"], []))
    far.say(Want(2, ROOM, IDS["ada"], []))
    ada.answer_lookups()
    assert [frame.end for frame in far.heard if isinstance(frame, Have) and frame.end is not None] == [2]


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
