"""The handshake: valid proofs and false ones."""

from __future__ import annotations

import pytest

from p2pchat.core.mesh.handshake import ClientSide, ServerSide, proof
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.errors import HandshakeError
from p2pchat.protocol import Bye, Frame, Hello, Ping, Unknown, Welcome
from tests.core.mesh.linked_peers import Draws, K, Key, N

ADA, BOB, EVE = Key("ada"), Key("bob"), Key("eve")
NETWORK = NetworkCredentials(N, K)


def server(me: Key = ADA, network: NetworkCredentials = NETWORK, nonce: str = "s") -> ServerSide:
    return ServerSide(me.id, network, Draws(nonce)(32))


def client(
    me: Key = BOB, to: Key = ADA, network: NetworkCredentials = NETWORK, *, pin: str = "", nonce: str = "c"
) -> ClientSide:
    return ClientSide(me.id, me.sign, network, server=to.id, pin=pin, nonce=Draws(nonce)(32))


def hello_to(side: ServerSide, by: ClientSide) -> Hello:
    hello = by.on_frame(side.opening())
    assert hello is not None
    return hello


def refused(side: ServerSide | ClientSide, frame: Frame | Unknown) -> str:
    with pytest.raises(HandshakeError) as caught:
        side.on_frame(frame)
    assert side.peer == ""
    return caught.value.code


def test_two_members_prove_themselves_to_each_other() -> None:
    a, b = server(), client(pin=ADA.id)
    welcome = a.on_frame(hello_to(a, b))
    assert b.on_frame(welcome) is None
    assert (a.peer, b.peer) == (BOB.id, ADA.id)


def test_a_hello_made_for_another_server_is_no_proof_here() -> None:
    """Eve, dialled by Bob, forwards his hello to Ada: T names Eve's certificate."""
    a, eve = server(), server(EVE)
    eve._nonce = a._nonce  # she even uses Ada's nonce with Bob
    assert refused(a, hello_to(eve, client(to=EVE))) == "identity"


def test_a_replayed_hello_meets_another_nonce() -> None:
    hello = hello_to(server(), client())
    assert refused(server(nonce="later"), hello) == "identity"


def test_an_id_swapped_in_a_hello_does_not_fit_its_signature() -> None:
    a = server()
    hello = hello_to(a, client())
    hello.id = EVE.id
    assert refused(a, hello) == "identity"


def test_a_signature_under_another_tag_is_invalid() -> None:
    a, b = server(), client()
    hello = hello_to(a, b)
    hello.sig = BOB.sign(b"p2pchat/head/1\0" + b.transcript[len(b"p2pchat/link/1\0") :]).hex()
    assert refused(a, hello) == "identity"


@pytest.mark.parametrize("given", [None, "0c" * 32], ids=["stripped", "wrong"])
def test_a_hello_without_the_right_invite_is_refused(given: str | None) -> None:
    a = server()
    hello = hello_to(a, client())
    hello.proof = given
    assert refused(a, hello) == "network"


def test_a_peer_of_another_network_is_refused_by_either_side() -> None:
    a, b = server(), client(network=NetworkCredentials(N, "0d" * 32))
    assert refused(a, hello_to(a, b)) == "network"
    assert refused(b, Welcome(proof=proof(K, "server", b.transcript))) == "network"


def test_the_client_s_own_proof_sent_back_is_invalid() -> None:
    a, b = server(EVE), client(to=EVE)
    hello = hello_to(a, b)
    assert refused(b, Welcome(proof=hello.proof)) == "network"


def test_a_welcome_stripped_of_its_proof_is_refused() -> None:
    a, b = server(), client()
    hello_to(a, b)
    assert refused(b, Welcome()) == "network"


def test_another_key_than_the_pin_is_noticed_before_anything_is_sent() -> None:
    with pytest.raises(HandshakeError) as caught:
        client(to=EVE, pin=ADA.id)
    assert caught.value.code == "identity"


def test_a_peer_that_dials_itself_notices_at_either_end() -> None:
    with pytest.raises(HandshakeError) as caught:
        client(ADA, to=ADA)
    assert caught.value.code == "self"
    a = server()
    hello = hello_to(a, client())
    hello.id = ADA.id
    assert refused(a, hello) == "self"


def test_unknown_versions() -> None:
    a = server()
    hello = hello_to(a, client())
    hello.v = 3
    assert refused(a, hello) == "version"
    assert refused(client(), Hello(v=[3, 5], nonce="00" * 32)) == "version"
    assert client().on_frame(Hello(v=[7, 4], nonce="00" * 32)) is not None


@pytest.mark.parametrize("frame", [Ping(), Unknown("later"), Bye("left")], ids=lambda frame: type(frame).__name__)
def test_other_frames_are_out_of_turn(frame: Frame | Unknown) -> None:
    assert (refused(server(), frame), refused(client(), frame)) == ("order", "order")


def test_each_step_comes_once_and_in_order() -> None:
    a, b = server(), client()
    assert refused(a, Welcome()) == "order"
    assert refused(b, Welcome()) == "order"
    hello = hello_to(a, b)
    assert refused(b, a.opening()) == "order"
    a.on_frame(hello)
    with pytest.raises(HandshakeError):
        a.on_frame(hello)


def test_a_hello_of_the_wrong_side_is_malformed() -> None:
    a, b = server(), client()
    assert refused(a, server(EVE).opening()) == "malformed"
    assert refused(b, hello_to(a, client(EVE))) == "malformed"
