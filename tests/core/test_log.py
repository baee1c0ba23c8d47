"""Entries and heads, and the limits of an entry. Their bytes are in the test vectors (tests/vectors)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pchat.core.log import (
    UNREADABLE,
    Batch,
    Entry,
    RawEntry,
    Ref,
    decode_entry,
    encode_entry,
    extend_chain,
    first_chain,
    head_message,
    size_bytes,
    verify,
)
from p2pchat.errors import LogError
from p2pchat.protocol import is_key
from tests.core.scripted_nodes import START, Author
from tests.vectors.files import vectors

ENTRIES: list[RawEntry] = [(c, text) for log in vectors("logs").values() for c, text in log["given"]["entries"]]


def own_words(entry: RawEntry) -> bool:
    return str(entry[1]).startswith(
        '{"k"'
    )  # others are handwritten (blanks, another order, an unknown key), or no entries


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if own_words(entry)])
def test_an_entry_written_here_has_the_bytes_of_the_vectors(entry: RawEntry) -> None:
    assert encode_entry(decode_entry(entry)) == entry


def test_an_unknown_key_is_ignored() -> None:
    ((c, text),) = vectors("logs")["room_cyd_1"]["given"]["entries"]
    assert decode_entry((c, text)) == Entry("text", 1767225600000000, 1767225600000000, b="by hand")


def test_the_clock_stands_beside_the_text_and_a_key_c_in_it_means_nothing() -> None:
    assert encode_entry(Entry("text", 1, 7, b="x")) == (7, '{"k":"text","at":1,"b":"x"}')
    for c in ("5", '"soon"', "null", "-1", "5.5"):
        assert decode_entry((7, f'{{"k":"text","at":1,"c":{c},"b":"x"}}')) == Entry("text", 1, 7, b="x")


def test_a_head_is_of_one_user_one_log_one_number_and_one_chain() -> None:
    author = Author("bob", "b1")
    head = bytes.fromhex(author.say("hello").head)
    log, other = author.log, Author("ada", "b1").log
    assert verify(log.user, head, head_message(log, 1, author.chain))
    assert not any(
        [
            verify(other.user, head, head_message(log, 1, author.chain)),
            verify(log.user, head, head_message(other, 1, author.chain)),
            verify(log.user, head, head_message(log, 2, author.chain)),
            verify(log.user, head, head_message(log, 1, first_chain(author.header))),
            verify("00" * 31 + "zz", head, head_message(log, 1, author.chain)),
        ]
    )


def test_a_key_of_small_order_signs_nothing_although_the_library_takes_it() -> None:
    made = [one["given"] for name, one in vectors("signatures").items() if name.startswith("the key ")]
    small = [given for given in made if given["user"] not in {f"f{n}{'f' * 60}7f" for n in "012"}]
    assert (len(made), len(small)) == (17, 14)
    for given in small:
        public, signature = bytes.fromhex(given["user"]), bytes.fromhex(given["signature"])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, bytes.fromhex(given["message"]))  # raises nothing
        assert not verify(given["user"], signature, bytes.fromhex(given["message"]))


def test_only_points_of_small_order_and_high_numbers_are_no_keys() -> None:
    names = [name for name in vectors("signatures") if name.startswith("the key ")]
    small = {vectors("signatures")[name]["given"]["user"] for name in names}
    p = 2**255 - 19
    above = {(y | sign << 255).to_bytes(32, "little").hex() for y in range(p, 2**255) for sign in (0, 1)}
    assert len(small | above) == 48 and not any(map(is_key, small | above))
    beside = {id[:n] + ("1" if id[n] == "0" else "0") + id[n + 1 :] for id in small | above for n in range(64)}
    assert all(map(is_key, beside - small - above)) and len(beside) > 2_000
    assert not is_key("0" * 63) and not is_key("0" * 65) and not is_key("A" * 64)


def entry_with(fields: str) -> RawEntry:
    return 7, '{"k":"later","at":1' + fields + "}"


@pytest.mark.parametrize(
    "fields",
    [
        "",
        ',"b":{"size":9007199254740991}',
        ',"b":' + 15 * "[" + 15 * "]",
        ',"new":' + 15 * "[" + 15 * "]",
        ',"new":-9007199254740992,"new":1.5',
        ',"k":5,"k":"later"',
    ],
)
def test_entries_of_later_versions_are_read(fields: str) -> None:
    assert decode_entry(entry_with(fields)).k == "later"


@pytest.mark.parametrize(
    "fields",
    [
        ',"b":' + 16 * "[" + 16 * "]",
        ',"b":' + 100_000 * "[" + 100_000 * "]",
        ',"new":' + 16 * "[" + 16 * "]",
        ',"new":"\\ud800"',
        ',"new":NaN',
        ',"at":1.0',
        ',"at":true',
        ',"at":-1',
        ',"re":["00",1]',
        ',"re":["' + 32 * "0" + '",0]',
        ',"t":-1',
        ',"t":"yesterday"',
        ',"after":[' + ",".join(3 * ['["' + 32 * "0" + '",1]']) + "]",
        "]",
    ],
)
def test_an_entry_that_breaks_the_rules_cannot_be_read(fields: str) -> None:
    assert decode_entry(entry_with(fields)) == Entry(UNREADABLE, 7, 7, b="")


@pytest.mark.parametrize(
    "text",
    [
        "", "hello", "null", "[]", "{}", '{"k":"text"}', '{"k":"text","at":1}', '{"k":"text","at":1,"b":5}',
        '{"k":"text","at":1,"b":"a\\u0000b"}', '{"k":"edit","at":1,"b":null}',
    ],
)  # fmt: skip
def test_a_text_that_is_no_entry_is_one_that_cannot_be_read_at_its_clock(text: str) -> None:
    assert decode_entry((START, text)) == Entry(UNREADABLE, START, START, b="")


@pytest.mark.parametrize(
    "text",
    [
        f'{{"k":"text","at":1,"b":"{"x" * 65_500}"}}', f'{{"k":"text","at":1,"b":"{"ä" * 32_700}"}}',
        '{"k":"later","at":1,"b":{"x":[1]}}', '{"k":"delete","at":1}', '{"k":"text","at":1,"b":""}',
    ],
)  # fmt: skip
def test_an_entry_at_a_limit_or_of_a_later_kind_is_read(text: str) -> None:
    assert decode_entry((START, text)).k in ("text", "later", "delete")


@pytest.mark.parametrize("stored", [(None, "{}"), ("7", "{}"), (7, None), (7, 5), (7, b"\x00")])
def test_what_is_no_clock_and_text_is_a_damaged_disk(stored: Any) -> None:
    with pytest.raises(LogError, match="no entry"):
        decode_entry(stored)


@pytest.mark.parametrize("key", ["b", "later"])
@pytest.mark.parametrize("levels", [17, 900])
def test_hidden_nesting_is_malformed_however_deep_the_caller_is(key: str, levels: int) -> None:
    inner = "[" * (levels - 1) + "]" * (levels - 1)
    raw = 2, f'{{"k":"text","at":1,"{key}":{inner},"{key}":"x","b":"x"}}'

    def decode(calls: int) -> None:
        if calls:
            decode(calls - 1)
        else:
            assert decode_entry(raw).k == UNREADABLE

    for calls in (0, 100):  # 900 levels and 100 calls are more than Python 3.11 takes
        decode(calls)


@pytest.mark.parametrize(
    "beginning, end", [("[" * 17 + '"', ""), ("[" * 17 + '"', "\\"), ('{"a":[[[[[[[[[[[[[[[["', '"')]
)
def test_a_text_without_an_end_is_given_up_at_once(beginning: str, end: str) -> None:
    """A member stopped each peer it was linked with for 14 s with each entry of 64 KB."""
    began = time.thread_time()
    assert decode_entry((7, beginning + '\\"' * 32_000 + end)).k == UNREADABLE
    assert time.thread_time() - began < 0.5


def test_no_repr_shows_a_text() -> None:
    author = Author("bob", "b1")
    frame = author.say("a secret")
    batch = Batch(author.log, 1, frame.e, [decode_entry(frame.e[0])], b"", author.chain, b"", size_bytes(frame.e))
    assert "secret" not in f"{batch!r} {batch.entries!r} {Ref('00' * 16, 1)!r} {frame!r}"


def test_sizes_are_of_utf_8() -> None:
    assert [size_bytes([(1, "abc"), (2, "de")]), size_bytes([(1, "ä"), (2, "日本")]), size_bytes([])] == [5, 8, 0]


def test_the_chain_begins_with_the_header_and_has_every_clock() -> None:
    author = Author("bob", "b1")
    assert first_chain(author.header) != first_chain(Author("bob", "b2").header)
    chains = {extend_chain(author.chain, [entry]) for entry in [(1, "a"), (2, "a"), (1, "b")]}
    assert len(chains) == 3
