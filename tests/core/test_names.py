"""Rules of names: allowed ones, similar ones, and labels."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pchat.core.effects import WarningIssued
from p2pchat.core.log import Entry
from p2pchat.core.names import (
    MAX_FORMER,
    KnownPeople,
    base32,
    default_name,
    full_label,
    is_valid_name,
    look_alike,
    split_label,
    suffix,
    validate_name,
)
from p2pchat.core.node_context import HostedIdentities, NodeContext, Now
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import admission_of

ADA = "57e05d3f4d" + "00" * 27


@pytest.mark.parametrize(
    "name", ["ada", "Ada Lovelace", "阿達", "Ада", "עדה", "x" * 32, "ada-80", "a'b", "😀", "naïve", "42", "1.x"]
)
def test_ordinary_names_are_allowed_as_they_are(name: str) -> None:
    assert validate_name(name) == name and is_valid_name(name)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("", "at least one"),
        ("x" * 33, "at most 32 characters, this has 33"),
        (" ada", "begin or end with a space"),
        ("ada ", "begin or end with a space"),
        ("ada\n", "begin or end with a space"),
        ("a#b", "other meanings"),
        ("@ada", "other meanings"),
        ("a/b", "other meanings"),
        ("a,b", "other meanings"),
        ("a\x07b", "cannot be seen"),
        ("a\x1b[31mb", "cannot be seen"),
        ("a\u202eb", "cannot be seen"),  # bidi override
        ("a\u200bb", "cannot be seen"),  # zero-width space
        ("می\u200cخواهم", "^a name cannot contain joiners \\(U\\+200C\\): they cannot be seen$"),
        ("👩\u200d💻", "^a name cannot contain joiners \\(U\\+200D\\)"),
        ("a\u00adb", "cannot be seen"),  # soft hyphen
        ("a\u00a0b", "cannot be seen"),  # a blank that is not the blank
        ("\u3164", "cannot be seen"),  # Hangul filler: a letter, says Unicode
        ("a\ufe0f", "cannot be seen"),
        ("a\U000e0041", "cannot be seen"),  # tag
        ("a\ud800", "cannot be seen"),  # half a character
        ("\u0301a", "begin with U\\+0301: it is a mark on another"),
        ("\u11e0", "mark on another"),
        ("-h", "taken for an option"),
        ("--help", "taken for an option"),
        ("\u2013help", "taken for an option"),  # a dash, as text editors write it
        ("127.0.0.1", "taken for an address"),
        ("127.0.0.1:80", "taken for an address"),
        ("\uff11\uff12\uff17.0.0.1", "taken for an address"),  # full width
        ("127.1", "taken for an address"),
        ("0x7f000001", "taken for an address"),
        ("::1", "taken for an address"),
        ("[fe80::1]:80", "taken for an address"),
        ("localhost:8080", "taken for an address"),
        ("room", "everybody"),
        ("Rооm", "everybody"),  # Cyrillic
    ],
)
def test_a_bad_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        validate_name(name)
    assert not is_valid_name(name)


def people_in(context: NodeContext, *contacts: str) -> KnownPeople:
    return KnownPeople(context, HostedIdentities([]), [], [], admission_of(context)[0].users, contacts)


def test_an_equal_name_of_a_contact_warns_though_others_have_used_up_the_warnings() -> None:
    context = NodeContext(Settings(), ADA, bytes)
    context.now = Now(1.0, 1)
    bob = "b0" * 32
    people = people_in(context, bob)
    people.on_announced_name(bob, "bob")
    for n in range(40):
        for half in ("11", "22"):
            people.on_announced_name(f"{n:02x}{half}" * 16, f"pair {n}")
    others = [one for one in context.out if isinstance(one, WarningIssued)]
    people.on_announced_name("33" * 32, "bob")
    warned = [one for one in context.out if isinstance(one, WarningIssued)]
    assert len(others) < 40 and len(warned) == len(others) + 1
    assert warned[-1].text.endswith("; the name alone means the one that you know")


MARKS = "a" + "\u0301\u0316" * 15_000  # as many as fit into an entry; their normal form takes 0.7 s


def test_a_text_that_is_far_too_long_is_no_name_at_once() -> None:
    """A member stopped each peer of the network for 0.7 s with each profile entry of 62 KB."""
    profile = Entry("profile", 1, 1, b={"name": MARKS})
    people = people_in(NodeContext(Settings(), ADA, bytes))
    began = time.thread_time()
    people.on_profile(ADA, profile)
    people.on_announced_name(ADA, MARKS)
    assert not is_valid_name(MARKS[:1000])
    with pytest.raises(ValueError, match="at most 32 characters, this has 30001"):
        validate_name(MARKS)
    assert (people.names, time.thread_time() - began < 0.2) == ({}, True)


def test_a_name_is_stored_and_counted_in_composed_form() -> None:
    assert validate_name("e\u0301" * 32) == "é" * 32
    assert not is_valid_name("e\u0301")


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40) | st.text(max_size=5))
def test_allowed_names_are_stable_and_unambiguous(text: str) -> None:
    assume(is_valid_name(unicodedata.normalize("NFC", text)))
    name = validate_name(text)
    assert validate_name(name) == name and 1 <= len(name) <= 32
    assert not set(name) & set("#@/,\n\r\t\x1b") and split_label(full_label(name, ADA)) == (name, suffix(ADA))


@pytest.mark.parametrize(
    "one, other",
    [
        ("alice", "Alice"),
        ("alice", "аlісе"),  # Cyrillic а, і, с, е
        ("bob", "ВОВ"),  # Cyrillic
        ("paypal", "paypa1"),
        ("bob", "b0b"),
        ("Ivan", "lvan"),
        ("tom", "torn"),
        ("ada", "ａｄａ"),  # full width
        ("ada-8080", "ada–8080"),
        ("nikos", "νικος".replace("ς", "s").replace("ν", "n", 1)),
        ("will", "vvill"),
        ("a b", "ab"),
        ("ada", "ꓮꓓꓮ"),  # Lisu
        ("ada", "\u13aa\u13a0\u13aa"),  # Cherokee, and its small letters
        ("ada", "\uab7a\uab70\uab7a"),
        ("bob", "ʙᴏʙ"),
        *(("bob", f"b{mark}ob") for mark in "\u2d7f\u1039\u17d2\U0001107f"),  # marks of which nothing is drawn here
    ],
)
def test_names_that_look_alike_are_found(one: str, other: str) -> None:
    assert look_alike(one, other) and look_alike(other, one)


@pytest.mark.parametrize(
    "one, other",
    [("alice", "alicia"), ("ada-8080", "ada-8081"), ("bob", "rob"), ("Ада", "Ева"), ("böb", "bob"), ("रवि", "रव")],
)
def test_other_names_are_not_found(one: str, other: str) -> None:
    assert not look_alike(one, other)


def test_a_suffix_is_the_beginning_of_the_id_as_people_see_it() -> None:
    assert suffix(ADA) == "K7QF2P2N" and base32(ADA).startswith(suffix(ADA)) and "=" not in base32(ADA)
    assert full_label("alice", ADA) == "alice#K7QF2P2N"
    assert full_label(None, ADA) == full_label("", ADA) == "user#K7QF2P2N"


def test_an_address_is_split_in_any_spelling_of_its_suffix() -> None:
    assert split_label("alice#k7qf2p2n") == ("alice", "K7QF2P2N")
    assert split_label("alice") == ("alice", "")


@pytest.mark.parametrize(
    "login, port, name",
    [
        ("ada", 8080, "ada-8080"),
        ("DOMAIN/ada", 1, "DOMAINada-1"),
        ("", 8080, "user-8080"),
        ("#@", 8080, "user-8080"),
        ("\u0301", 8080, "user-8080"),
        ("x" * 40, 65535, "x" * 26 + "-65535"),
        ("Y/\u0301", 1, "Ý-1"),
        ("room", 0, "user"),
        ("room", 8080, "room-8080"),
    ],
)
def test_the_default_name_is_made_of_login_and_port(login: str, port: int, name: str) -> None:
    assert default_name(login, port) == name and is_valid_name(name)


def test_a_profile_that_came_while_its_user_was_out_counts_when_it_is_back() -> None:
    context = NodeContext(Settings(), ADA, bytes)
    users = admission_of(context)[0].users
    people, eve = KnownPeople(context, HostedIdentities([]), [], [], users, ()), "ee" * 32
    people.on_profile(eve, Entry("profile", 1, 1, b={"name": "eve"}))
    users.unnamed.add(eve)
    people.on_profile(eve, Entry("profile", 2, 2, b={"name": "bob"}))
    people.on_announced_name(eve, "bob")
    assert people.names[eve] == "eve" and people.former == {}  # nobody is told that she was called bob
    stored = context.change.users, context.change.former_names
    people = KnownPeople(context, HostedIdentities([]), *stored, users, ())
    assert people.names[eve] == "eve" and people.former == {} and "bob" not in people._keys
    users.unnamed.clear()
    people.on_announced_name(eve, "zoe")
    assert people.names[eve] == "eve"
    people.on_announced_name(eve, "bob")
    people.on_announced_name(eve, "eve")
    assert people.names[eve] == "bob" == context.change.users[-1].name and people.former == {eve: {"eve": 1}}


def test_a_crowd_of_one_name_is_reported_16_times_and_then_once_a_minute() -> None:
    context = NodeContext(Settings(), ADA, bytes)
    people = people_in(context)

    def warned(first: int, count: int, seconds: float) -> list[str]:
        context.now = Now(seconds, 0)
        context.out.clear()
        for number in range(first, first + count):
            people.on_announced_name(f"{number:064x}", "bob")
        return [effect.text for effect in context.out if isinstance(effect, WarningIssued)]

    alike = "another key uses the name 'bob': the two are shown with the beginnings of their ids"
    assert warned(0, 1 + 16 + 500, 1.0) == [alike] * 16  # the first one has the name alone
    assert [warned(1000 * second, 10, second) for second in range(2, 61)] == [[]] * 59
    assert warned(61_000, 10, 61.0) == [alike]
    assert warned(62_000, 1, 62.0) == []
    assert warned(70_000, 100, 2000.0) == [alike] * 16


def test_of_a_user_who_takes_name_after_name_a_few_are_remembered() -> None:
    context = NodeContext(Settings(), "ab" * 32, lambda n: bytes(n))
    people = people_in(context)
    eve, bob, cyd = (f"{number:064x}" for number in range(3))
    for number in range(1, 1000):
        people.on_profile(eve, Entry("profile", number, number, b={"name": f"eve{number}"}))
        people.on_announced_name(bob, f"bob{number}")
    assert len(people.former[eve]) == MAX_FORMER
    assert len(people.former[bob]) == MAX_FORMER
    assert len(context.change.former_names) == len(people._keys) - 2 == 2 * MAX_FORMER
    context.out.clear()
    people.on_announced_name(cyd, "eve500")  # forgotten
    people.on_announced_name(cyd, "eve1")
    assert [effect.text for effect in context.out if isinstance(effect, WarningIssued)] == [
        "another key used the name 'eve1' before: /whois tells them apart"
    ]
