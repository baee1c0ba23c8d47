"""Which entries are valid: the pages against examples of every row (valid_entries.py), and the edges of signatures."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from p2pchat.config import Settings
from p2pchat.core.edits import RELATION_KINDS, relation_of
from p2pchat.core.groups.state import read_leave, read_operation
from p2pchat.core.log import LogId, verify
from p2pchat.core.sync.validation import decode_checked
from p2pchat.errors import LogError
from tests.core.scripted_nodes import Author, World
from tests.docs.pages import ROOT
from tests.docs.valid_entries import BOB, NO_EFFECT, TABLES, Row, examples, rendered

PAGES = {"operations": "protocol-groups"}  # all others: protocol-entries
ROOM_LOG, GROUP_LOG = LogId("00" * 32, BOB, "b1" * 8), LogId("01" * 32, BOB, "b1" * 8)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def fate(row: Row, text: str) -> str:
    """Return what p2pchat makes of an entry: the code of its refusal, or what a receiver does with it."""
    try:
        (entry,), _ = decode_checked([text], row.seq, row.last_c, Settings())
    except LogError as error:
        return error.code
    if entry.k in RELATION_KINDS and relation_of(ROOM_LOG, row.seq, entry) is None:
        return NO_EFFECT
    if entry.k == "profile" and name_after(text) != "robert":
        return NO_EFFECT
    return "taken"


def name_after(profile: str) -> str:
    """Return the name of bob at ada's peer, after this entry of his."""
    ada, log = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    assert any(line.startswith("commit b1:1..1") for line in far.say(log.write(profile)))
    return ada.node.names[log.log.user]


def group_fate(row: Row, text: str) -> str:
    """Return whether an entry of a group's conversation has the shape of an operation or a leave."""
    (entry,), _ = decode_checked([text], row.seq, row.last_c, Settings())
    read = read_operation(GROUP_LOG, 1, text, entry) or read_leave(GROUP_LOG, 1, entry)
    return "taken" if read is not None else NO_EFFECT


@pytest.mark.parametrize("table", TABLES)
def test_the_page_has_the_table(table: str) -> None:
    assert rendered(table) in page(PAGES.get(table, "protocol-entries"))


@pytest.mark.parametrize(
    "table, row, text", [pytest.param(*each, id=f"{each[0]}-{n}") for n, each in enumerate(examples())]
)
def test_p2pchat_does_what_the_table_says(table: str, row: Row, text: str) -> None:
    assert (group_fate if table == "operations" else fate)(row, text) == row.verdict, (row.rule, text[:200])


# ---- signatures and hashes

# Why, key, signature, message, and whether it MUST count. Computed from the curve's equations alone, for the key with
# the seed 02...02 and points of small order.
# fmt: off
SIGNATURES = [
    ("an ordinary signature", "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
     "559382e5229d9042a5eda1785b6f5bf19e7d69ccf3b35e1478a9d968eb0392ec"
     "16cd7502362a153986b8fc79ab8dd4910592de9ab915fd975477c7af4ab01b04", "head", True),
    ("S + L instead of S", "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
     "559382e5229d9042a5eda1785b6f5bf19e7d69ccf3b35e1478a9d968eb0392ec"
     "03a16b5f508d27915c55f41c8a87b3a60592de9ab915fd975477c7af4ab01b14", "head", False),
    ("a point of order 8 added to R", "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
     "40a4cf5c611d737a2f1c6fcca84d9cabfed80987f186a5a6c57e629bff1af27f"
     "97f839836c965e8a8b523c084a299e1390ce5c5ba6d33f15e6ae7f2c92e9640d", "head", False),
    ("R is the neutral point", "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
     "0100000000000000000000000000000000000000000000000000000000000000"
     "929650ded8dd7d20f3f7c1b48e717f524377f4d5e839420a6c36e360bffb230f", "head", True),
    ("R is the neutral point, written as p + 1", "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
     "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
     "1d6fd32dd2d93cc3eeac55a87677c33cd0cdd83b0bd7e04fa21f9ea6894bb209", "head", False),
    ("R is the neutral point, with the sign bit", "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
     "0100000000000000000000000000000000000000000000000000000000000080"
     "53d0cb77bfd4df98810b6a90552b633c71066249c765406db6161ddb03a7be03", "head", False),
    ("a key with a part of order 8, k divisible by 8",
     "572727302e00128a6ac4b13774999d45c7c7ccee60ae0e59dcca75495227b567",
     "ef4f62f8479733ad879cfaced3c89a9c39dd4fc795ef2efa1c3eafe4d729a081"
     "46e1141ce40e0aed84f3e882cc9a23a90f2fefb34813e2075fbf07ae8dc9e108", "head 4", True),
    ("a key with a part of order 8, k not divisible by 8",
     "572727302e00128a6ac4b13774999d45c7c7ccee60ae0e59dcca75495227b567",
     "ef4f62f8479733ad879cfaced3c89a9c39dd4fc795ef2efa1c3eafe4d729a081"
     "5c4df24b742381aace356474d839ef59c194e172f9c8b085c2f21277b94c8106", "head 0", False),
    ("a key of order 8", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
     "b862409fb5c4c4123df2abf7462b88f041ad36dd6864ce872fd5472be363c5b1"
     "0700000000000000000000000000000000000000000000000000000000000000", "head 0", True),
    ("a key of order 2", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
     "b862409fb5c4c4123df2abf7462b88f041ad36dd6864ce872fd5472be363c5b1"
     "0700000000000000000000000000000000000000000000000000000000000000", "head 0", True),
    ("the neutral point as key", "0100000000000000000000000000000000000000000000000000000000000000",
     "b862409fb5c4c4123df2abf7462b88f041ad36dd6864ce872fd5472be363c5b1"
     "0700000000000000000000000000000000000000000000000000000000000000", "head 0", True),
    ("the neutral point as key, written as p + 1", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
     "b862409fb5c4c4123df2abf7462b88f041ad36dd6864ce872fd5472be363c5b1"
     "0700000000000000000000000000000000000000000000000000000000000000", "head 0", True),
    ("the neutral point as key, with the sign bit", "0100000000000000000000000000000000000000000000000000000000000080",
     "b862409fb5c4c4123df2abf7462b88f041ad36dd6864ce872fd5472be363c5b1"
     "0700000000000000000000000000000000000000000000000000000000000000", "head 0", True),
    ("a key of order 4, written as p", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
     "b862409fb5c4c4123df2abf7462b88f041ad36dd6864ce872fd5472be363c5b1"
     "0700000000000000000000000000000000000000000000000000000000000000", "head 0", True),
    ("a key that is no point", "0200000000000000000000000000000000000000000000000000000000000000",
     "559382e5229d9042a5eda1785b6f5bf19e7d69ccf3b35e1478a9d968eb0392ec"
     "16cd7502362a153986b8fc79ab8dd4910592de9ab915fd975477c7af4ab01b04", "head", False),
]
# fmt: on


@pytest.mark.parametrize("why, key, signature, message, counts", SIGNATURES, ids=[row[0] for row in SIGNATURES])
def test_the_edges_of_signatures(why: str, key: str, signature: str, message: str, counts: bool) -> None:
    assert verify(key, bytes.fromhex(signature), message.encode()) is counts


@pytest.mark.parametrize("data", [b"", b"abc"])
def test_blake2b_256_is_not_a_cut_blake2b_512(data: bytes) -> None:
    digest = blake2b(data, digest_size=32).hexdigest()
    assert digest in page("protocol")
    assert digest != blake2b(data).hexdigest()[:64]
