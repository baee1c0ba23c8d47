"""Statements: what is one, and which have an effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from p2pchat.core.members.statement import (
    MAX_ADDED,
    MAX_KEPT,
    MAX_PARDONED,
    MAX_REMOVED,
    MAX_STATEMENT_BYTES,
    Statement,
    StatementError,
    make_statement,
    network_id,
    parse_statement,
)
from p2pchat.identity.identity import Identity

FOUNDER = Identity.from_seed(b"f" * 32)
NETWORK = network_id(FOUNDER.peer_id)
USERS = [Identity.from_seed(bytes([number]) * 32).peer_id for number in range(65)]
SIGNATURE = bytes(64)


def said(**fields: Any) -> str:
    """Return the canonical text of a statement of the founder."""
    return json.dumps({"by": FOUNDER.peer_id, "at": 5, **fields}, sort_keys=True, separators=(",", ":"))


def parsed(text: str) -> Statement:
    return parse_statement(NETWORK, text, SIGNATURE)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("add", {"who": USERS[:MAX_ADDED]}),
        ("admin", {"who": USERS[:1]}),
        ("remove", {"who": USERS[:MAX_REMOVED], "keep": (USERS * 8)[:MAX_KEPT], "hide": True}),
        ("pardon", {"ids": ["0f" * 32] * MAX_PARDONED}),
    ],
)
def test_a_statement_is_the_same_for_whoever_reads_it(kind: str, fields: dict[str, Any]) -> None:
    made = make_statement(NETWORK, FOUNDER.peer_id, FOUNDER.sign, kind, 1_790_000_000_000_000, fields)
    assert parse_statement(NETWORK, made.text, made.signature) == made
    assert made.kind == kind and made.size < MAX_STATEMENT_BYTES
    assert made.is_signed(NETWORK)
    other = network_id(USERS[0])
    assert not made.is_signed(other)
    assert parse_statement(other, made.text, made.signature).id != made.id


def test_a_statement_that_somebody_else_signed_is_not_the_author_s() -> None:
    text = said(k="add", who=USERS[:1])
    assert not parse_statement(NETWORK, text, Identity.from_seed(b"x" * 32).sign(text.encode())).is_signed(NETWORK)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{",
        "[" * 100_000,
        said(k="add", who=USERS[:1]) + " ",
        said(k="add", who=USERS[:1]).replace(":", ": "),
        said(k="add", who=USERS[:1]).replace('"k":"add"', '"k":"add","k":"add"'),
        said(k="add", who=USERS[:1]).replace("add", "\\u0061dd"),
        said(k="new", text="\u00e9"),
        said(k="new", text="\u00e9").encode("ascii", "ignore").decode().replace('""', '"\u00e9"'),
        said(k="new", much=1.5),
        said(k="new", much=2**53),
        said(k="new", deep=json.loads("[" * 20 + "]" * 20)),
        said(k="new", text="x" * MAX_STATEMENT_BYTES),
        said(k="add", at=-1, who=USERS[:1]),
        said(k="add", at=True, who=USERS[:1]),
        said(k="add", by="00" * 32, who=USERS[:1]),
        said(k=1, who=USERS[:1]),
        said(who=USERS[:1]),
    ],
)
def test_a_text_of_another_form_is_the_fault_of_its_sender(text: str) -> None:
    with pytest.raises(StatementError):
        parsed(text)


def test_a_signature_has_64_bytes() -> None:
    with pytest.raises(StatementError):
        parse_statement(NETWORK, said(k="add", who=USERS[:1]), bytes(63))


@pytest.mark.parametrize(
    "fields",
    [
        {"k": "new"},
        {"k": ""},
        {"k": "add"},
        {"k": "add", "who": []},
        {"k": "add", "who": USERS[: MAX_ADDED + 1]},
        {"k": "add", "who": USERS[0]},
        {"k": "add", "who": ["00" * 32]},
        {"k": "add", "who": [USERS[0].upper()]},
        {"k": "add", "who": USERS[:1], "more": 1},
        {"k": "admin", "who": USERS[:1], "keep": USERS[:1]},
        {"k": "remove", "who": USERS[: MAX_REMOVED + 1]},
        {"k": "remove", "who": USERS[:1], "keep": (USERS * 8)[: MAX_KEPT + 1]},
        {"k": "remove", "who": USERS[:1], "hide": 1},
        {"k": "pardon", "ids": ["0f" * 16]},
        {"k": "pardon", "who": USERS[:1]},
    ],
)
def test_a_kind_or_fields_that_are_not_known_here_have_no_effect(fields: dict[str, Any]) -> None:
    found = parsed(said(**fields))
    assert (found.kind, found.who, found.keep, found.ids) == ("", (), (), ())
    assert found.by == FOUNDER.peer_id


@pytest.mark.parametrize(("kind", "fields"), [("add", {"who": []}), ("new", {"who": USERS[:1]}), ("pardon", {})])
def test_nobody_makes_a_statement_without_effect(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not the fields"):
        make_statement(NETWORK, FOUNDER.peer_id, FOUNDER.sign, kind, 1, fields)


def test_a_repr_says_who_said_what() -> None:
    assert repr(parsed(said(k="add", who=USERS[:1]))).startswith("Statement(add ")
