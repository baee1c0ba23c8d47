"""Entries, chains, heads and digests against the golden bytes, and the limits of an entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pchat.core.log import (
    SUM_MODULUS,
    Batch,
    Entry,
    LogId,
    Ref,
    decode_entry,
    encode_entry,
    extend_chain,
    first_chain,
    head_message,
    log_bytes,
    mark_hash,
    ref_key,
    size_bytes,
    verify,
)
from p2pchat.core.sync.conversations import dm_id, room_id
from p2pchat.errors import LogError
from tests.core.scripted_nodes import Author

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "wire.json").read_text("utf-8"))
LOGS: dict[str, dict[str, Any]] = GOLDEN["logs"]


def log_of(golden: dict[str, Any]) -> LogId:
    return LogId(golden["conversation"], golden["user"], golden["run"])


@pytest.mark.parametrize("name", LOGS)
def test_a_log_chains_and_proves_as_in_the_golden_bytes(name: str) -> None:
    golden = LOGS[name]
    log, chain = log_of(golden), first_chain(log_of(golden))
    assert [log_bytes(log).hex(), ref_key(log.user, log.run), chain.hex()] == [
        golden["id72"], golden["ref"], golden["chain_0"]]  # fmt: skip
    for entry in golden["entries"]:
        chain = extend_chain(chain, [entry["text"]])
        message = head_message(log, entry["seq"], chain)
        mark = [log.run, entry["seq"], chain[:8].hex()]
        assert [chain.hex(), message.hex(), mark, f"{mark_hash(log, entry['seq'], chain):064x}"] == [
            entry["chain"], entry["head_message"], entry["mark"], entry["mark_hash"]]  # fmt: skip
        assert verify(log.user, bytes.fromhex(entry["head"]), message)


def own_words(entry: dict[str, Any]) -> bool:
    return '"later"' not in entry["text"]  # a handwritten entry: blanks, another order, an unknown key


@pytest.mark.parametrize(
    "text", [entry["text"] for log in LOGS.values() for entry in log["entries"] if own_words(entry)]
)
def test_an_entry_written_here_has_the_golden_bytes(text: str) -> None:
    assert encode_entry(decode_entry(text)) == text


def test_an_unknown_key_is_ignored() -> None:
    (by_hand,) = LOGS["room_cyd_1"]["entries"]
    assert decode_entry(by_hand["text"]) == Entry("text", 1767225600000000, 1767225600000000, b="by hand")


@pytest.mark.parametrize("name", ["room", "dm", "group", "talk"])
def test_a_sum_adds_the_newest_marks_of_all_tips(name: str) -> None:
    golden = GOLDEN["digests"][name]
    newest = [(log_of(LOGS[tip]), LOGS[tip]["entries"][-1]) for tip in golden["tips"]]
    hashes = [mark_hash(log, entry["seq"], bytes.fromhex(entry["chain"])) for log, entry in newest]
    assert f"{sum(hashes) % SUM_MODULUS:064x}" == golden["sum"]


def test_conversations_have_the_golden_ids() -> None:
    golden = GOLDEN["conversations"]
    one, other = golden["dm"]["naming"]["dm"]
    assert [room_id(GOLDEN["network"]["n"]), dm_id(one, other), dm_id(other, one)] == [
        golden["room"]["id"], golden["dm"]["id"], golden["dm"]["id"]]  # fmt: skip


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
            verify(log.user, head, head_message(log, 1, first_chain(log))),
            verify("00" * 31 + "zz", head, head_message(log, 1, author.chain)),
        ]
    )


def entry_with(fields: str) -> str:
    return '{"k":"later","at":1,"c":1' + fields + "}"


@pytest.mark.parametrize(
    "fields",
    [
        "",
        ',"b":{"size":9007199254740991}',
        ',"b":' + 15 * "[" + 15 * "]",
        ',"new":' + 15 * "[" + 15 * "]",
        ',"new":-9007199254740991,"new":1.5',
        ',"k":5,"k":"later"',
    ],
)
def test_entries_of_later_versions_are_read(fields: str) -> None:
    assert decode_entry(entry_with(fields)).k == "later"


@pytest.mark.parametrize(
    "fields",
    [
        ',"b":{"size":9007199254740992}',
        ',"b":' + 16 * "[" + 16 * "]",
        ',"b":' + 100_000 * "[" + 100_000 * "]",
        ',"new":' + 16 * "[" + 16 * "]",
        ',"new":-9007199254740992',
        ',"new":"\\ud800"',
        ',"new":NaN',
        ',"at":1.0',
        ',"at":true',
        ',"at":-1',
        ',"re":["00",1]',
        ',"re":["' + 32 * "0" + '",0]',
        ',"before":[["' + 16 * "0" + '",1]]',
        ',"g":[1,"xyz"]',
        ',"t":-1',
        ',"t":"yesterday"',
        "]",
    ],
)
def test_entries_that_break_the_rules_of_frames_are_refused(fields: str) -> None:
    with pytest.raises(LogError) as caught:
        decode_entry(entry_with(fields))
    assert caught.value.code == "malformed"


def test_no_repr_shows_a_text() -> None:
    author = Author("bob", "b1")
    frame = author.say("a secret")
    batch = Batch(author.log, 1, frame.e, [decode_entry(frame.e[0])], b"", author.chain, b"")
    assert "secret" not in f"{batch!r} {batch.entries!r} {Ref('00' * 16, 1)!r} {frame!r}"


def test_sizes_are_of_utf_8() -> None:
    assert [size_bytes(["abc", "de"]), size_bytes(["ä", "日本"]), size_bytes([])] == [5, 8, 0]
