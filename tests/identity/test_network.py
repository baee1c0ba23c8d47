"""Invites: everything a paste can do to them, and the errors for damage."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pchat.addresses import normal_endpoint
from p2pchat.errors import InviteError
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import encode_invite, make_invitation, parse_invite
from p2pchat.identity.network import MAX_ENDPOINTS, Network

KEYED = Network.found(b"f" * 32)
ADA = make_invitation(KEYED, Identity.from_seed(b"a" * 32))
INVITE = encode_invite(KEYED, ADA, ["127.0.0.1:8080"])
CODE = INVITE.removeprefix("p2pchat:").partition("@")[0]


def test_an_invite_without_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        encode_invite(KEYED, ADA, [])
    for text in (f"p2pchat:{CODE}", f"p2pchat:{CODE}@", f"p2pchat:{CODE}@,"):
        with pytest.raises(InviteError, match="no address"):
            parse_invite(text)


@given(st.integers(0, len(CODE) - 1), st.sampled_from(string.ascii_uppercase + "234567"))
def test_one_wrong_character_is_found(position: int, character: str) -> None:
    if CODE[position] == character:
        return
    wrong = CODE[:position] + character + CODE[position + 1 :]
    with pytest.raises(InviteError):
        parse_invite(f"p2pchat:{wrong}@127.0.0.1:8080")


@given(st.text(max_size=200) | st.text("abcdefghijklmnop234567@:,. \n", max_size=200).map("p2pchat:".__add__))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InviteError) as refused:
        parse_invite(text)
    assert "\n" not in str(refused.value) and str(refused.value).isascii()


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "begins with 'p2pchat:'"),
        ("hello", "begins with 'p2pchat:'"),
        ("p2pchat:", "damaged|incomplete"),
        (INVITE[:60], "incomplete|damaged"),
        (f"p2pchat:{CODE}{CODE}", "too long"),
        (f"p2pchat:{CODE[:50]}1{CODE[51:]}", "typing error: '1' does not occur"),
        (f"p2pchat:{CODE[:50]}{'A' if CODE[50] != 'A' else 'B'}{CODE[51:]}", "checksum is wrong"),
        (f"p2pchat:{CODE}@nowhere", "bad address"),
        (f"p2pchat:{CODE}@host:0", "bad address"),
        (f"p2pchat:{CODE}@" + ",".join(f"h{n}:1" for n in range(MAX_ENDPOINTS + 1)), "at most 8"),
    ],
)
def test_each_kind_of_damage_has_its_error(text: str, says: str) -> None:
    with pytest.raises(InviteError, match=says):
        parse_invite(text)


def test_an_invite_of_a_later_version_says_that_a_newer_program_is_needed() -> None:
    import base64
    from hashlib import blake2b

    body = bytes([9]) + bytes(40)
    raw = body + blake2b(b"p2pchat/invite/3 sum\0" + body, digest_size=32).digest()[:4]
    with pytest.raises(InviteError, match=r"version 9.*newer"):
        parse_invite("p2pchat:" + base64.b32encode(raw).decode().rstrip("="))


def test_the_key_is_in_no_repr() -> None:
    assert KEYED.key not in repr(parse_invite(INVITE)) and KEYED.key not in repr(KEYED)


@pytest.mark.parametrize("name", ["lab", " LAB ", "Lab"])
def test_a_named_network_is_the_same_for_all_who_write_its_name(name: str) -> None:
    assert Network.named(name) == Network.named("lab") != Network.named("lab2")
    assert Network.named(name).name == "lab" and Network.named("STRASSE") == Network.named("straße")
    assert Network.named("caf\u00e9") == Network.named("cafe\u0301")


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "a\0", INVITE[:60]])
def test_what_is_no_name_of_a_network_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        Network.named(name)


@pytest.mark.parametrize(
    "typed, normal",
    [
        ("localhost:8080", "localhost:8080"),
        ("Ada.Example:09000", "ada.example:9000"),
        ("[::1]:8080", "[::1]:8080"),
        ("[2001:DB8:0::7]:1", "[2001:db8::7]:1"),
        ("x:65535", "x:65535"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
    ],
)
def test_endpoints_have_one_form(typed: str, normal: str) -> None:
    assert normal_endpoint(typed) == normal == normal_endpoint(normal)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "host",
        "host:",
        ":80",
        "host:0",
        "host:65536",
        "host:x",
        "::1:80",
        "[::g]:80",
        "[fe80::1%\x1b[2j]:80",
        "[fe80::1%\u202e]:80",
        "a b:80",
        "h" * 96 + ":8080",
        "b\u00fccher:80",
    ],
)
def test_a_malformed_endpoint_is_refused(typed: str) -> None:
    with pytest.raises(ValueError):
        normal_endpoint(typed)
