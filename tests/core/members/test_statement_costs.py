"""What statements cost: an admin signs thousands of every form, and an accomplice passes them on.

CPU is measured in the steps of two peers: of the one that the accomplice is linked with, and of a third one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from time import process_time
from typing import Any

import msgspec
import pytest

from p2pchat.core.effects import Effect
from p2pchat.core.inputs import Got, Input
from p2pchat.core.members import member_list
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import (
    MAX_ADDED,
    MAX_CLOSED,
    MAX_KEPT,
    MAX_PARDONED,
    MAX_REMOVED,
    MAX_STATEMENT_BYTES,
    Statement,
    _signed,
    make_guest,
    make_statement,
    parse_statement,
)
from p2pchat.core.node import Node
from p2pchat.core.node_context import Now
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Statements
from p2pchat.runtime.frame_queue import STATEMENTS_A_PART
from tests.core.members.test_statement_exchange import ADMIN, FOUNDER, NETWORK, Net, said
from tests.core.scripted_nodes import IDENTITIES, Author

USERS = [Identity.from_seed(number.to_bytes(32, "big")).peer_id for number in range(1, 601)]
INVITES = [f"{number:08x}" for number in range(64)]
IDS = [user[:32] for user in USERS]
KEYS = [f"{number:064x}" for number in range(1 << 8, 1 << 16)]
MOST_SECONDS, MOST_PAUSE = 2.0, 0.05  # of CPU, for 10,000 of a form

Form = Callable[[int], tuple[str, dict[str, Any]]]
Maker = Callable[[str, int, dict[str, Any]], Statement]


def made_by(signer: Identity) -> Maker:
    def make(kind: str, number: int, fields: dict[str, Any]) -> Statement:
        return make_statement(NETWORK, signer.peer_id, signer.sign, kind, 10_000_000 - number, fields)

    return make


def different(number: int, most: int, of: list[str] = KEYS) -> list[str]:
    """Return so many items, others for each number as far as there are some."""
    first = number * most % (len(of) - most + 1)
    return of[first : first + most]


def unknown(signer: Identity, fields: dict[str, Any], number: int) -> Statement:
    """Return a statement of a kind, or with fields, that nobody knows."""
    text = msgspec.json.encode({"at": number, "by": signer.peer_id, **fields}, order="sorted").decode()
    return parse_statement(NETWORK, text, signer.sign(_signed(NETWORK, text)))


def forms() -> dict[str, Callable[[Maker, int], Iterator[Statement]]]:
    """Return what one admin may sign, by a name, each as a function of who signs and how many."""

    def each(kind: str, fields: Callable[[int], dict[str, Any]]) -> Callable[[Maker, int], Iterator[Statement]]:
        return lambda make, count: (make(kind, number, fields(number)) for number in range(count))

    def in_turn(make: Maker, count: int) -> Iterator[Statement]:
        """A removal of many, and pardons of the newest ones."""
        newest = list[str]()
        for number in range(count):
            if number % 2 and newest:
                yield make("pardon", number, {"ids": newest[-MAX_PARDONED:]})
            else:
                one = make("remove", number, {"who": different(number, MAX_REMOVED), "invites": INVITES[:MAX_CLOSED]})
                newest.append(one.id)
                yield one

    def pardons(make: Maker, count: int) -> Iterator[Statement]:
        """Some removals of many, then pardons of all of them."""
        removals = [make("remove", number, {"who": different(number, MAX_REMOVED)}) for number in range(MAX_PARDONED)]
        yield from removals
        for number in range(count - len(removals)):
            yield make("pardon", number, {"ids": [one.id for one in removals]})

    def unknown_kind(make: Maker, count: int) -> Iterator[Statement]:
        return (unknown(ADMIN, {"k": f"kind {number}"}, number) for number in range(count))

    def unknown_fields(make: Maker, count: int) -> Iterator[Statement]:
        size = MAX_STATEMENT_BYTES - 1000
        return (unknown(ADMIN, {"k": "add", "who": USERS[:1], "x": "y" * size}, number) for number in range(count))

    return {
        "add of one": each("add", lambda number: {"who": different(number, 1)}),
        "add of many": each("add", lambda number: {"who": different(number, MAX_ADDED), "invite": INVITES[0]}),
        "add of the same": each("add", lambda number: {"who": USERS[:MAX_ADDED], "invite": INVITES[0]}),
        "add of one again and again": each("add", lambda number: {"who": USERS[:1] * MAX_ADDED, "of": USERS[1]}),
        "admin": each("admin", lambda number: {"who": different(number, MAX_ADDED)}),
        "remove of one": each("remove", lambda number: {"who": different(number, 1)}),
        "remove of the same one": each("remove", lambda number: {"who": USERS[:1], "hide": True}),
        "remove of many": each("remove", lambda number: {
            "who": different(number, MAX_REMOVED), "hide": True, "invites": INVITES[:MAX_CLOSED]}),
        "remove of the same": each("remove", lambda number: {
            "who": USERS[:MAX_REMOVED], "hide": True, "invites": INVITES[:MAX_CLOSED]}),
        "remove that keeps": each("remove", lambda number: {"who": USERS[:1], "keep": USERS[:MAX_KEPT]}),
        "remove of an admin and the founder": each("remove", lambda number: {"who": [FOUNDER.peer_id, ADMIN.peer_id]}),
        "pardon of nothing": each("pardon", lambda number: {"ids": different(number, MAX_PARDONED, IDS)}),
        "pardon of the same": pardons,
        "remove and pardon in turn": in_turn,
        "close of one": each("close", lambda number: {"invites": [f"{number:08x}"]}),
        "close of the same": each("close", lambda number: {"invites": INVITES[:MAX_CLOSED]}),
        "unknown kind": unknown_kind,
        "unknown fields": unknown_fields,
    }  # fmt: skip


FORMS = forms()


class Cost:
    """What the steps of the nodes of some peers cost while `on`: seconds of CPU in all, and of the longest one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, list[float]] = {}
        self.on = False
        handle = Node.handle

        def measured(node: Node, input: Input, now: Now) -> list[Effect]:
            began = process_time()
            effects = handle(node, input, now)
            if self.on:
                self.of.setdefault(node.peer, []).append(process_time() - began)
            return effects

        monkeypatch.setattr(Node, "handle", measured)


def walk(form: str, count: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """Have an admin sign so many statements of a form, above many additions and users that wrote; return what that
    costs at two peers: CPU seconds in all, and of the longest step.
    """
    net = Net("ada", "bob")
    net.hear_all()
    net.link("ada", "bob")
    ada = net.peers["ada"]
    [link] = ada.node.links.up
    net.say(
        "ada",
        said(FOUNDER, "admin", ADMIN.peer_id),
        *(said(FOUNDER, "add", *USERS[n : n + 8]) for n in range(0, 600, 8)),
    )
    for number, identity in enumerate(IDENTITIES.values()):
        by = make_guest(NETWORK, FOUNDER.peer_id, FOUNDER.sign, identity.peer_id)
        name = next(name for name, one in IDENTITIES.items() if one is identity)
        ada.put(Got(link, [Author(name, f"{number:x}1"[-2:], ada.node.room, by=by).say("hello")]))
    net.world.pass_time(10.0)
    make = made_by(ADMIN)
    before = [make("add", -n, {"who": [USERS[n % 600]], "invite": INVITES[n % 64]}) for n in range(count // 10)]
    told = [*before, *FORMS[form](make, count)] if form.startswith(("close", "remove")) else [*FORMS[form](make, count)]
    frames = [
        Statements(s=[(one.text, one.signature.hex()) for one in told[n : n + STATEMENTS_A_PART]])
        for n in range(0, len(told), STATEMENTS_A_PART)
    ]
    cost = Cost(monkeypatch)
    gc.collect()
    gc.freeze()
    cost.on = True
    for frame in frames:
        ada.put(Got(link, [frame]))
        net.world.settle()
    net.world.pass_time(60.0)
    gc.unfreeze()
    assert link in ada.node.links.up
    return {name: (sum(steps), max(steps)) for name, peer in net.peers.items() if (steps := cost.of[peer.id])}


def test_more_than_an_admin_may_say_is_not_even_verified_and_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ada has all of it from a program of the admin; bob hears it from her, and has what she has in the end."""
    monkeypatch.setattr(member_list, "MAX_BYTES_OF_ADMIN", 8_000)
    net = Net("ada", "bob")
    net.link("ada", "bob")
    net.say("ada", said(FOUNDER, "admin", ADMIN.peer_id))
    is_signed, verified = Statement.is_signed, list[Statement]()

    def counted(self: Statement, network: str) -> bool:
        verified.append(self)
        return is_signed(self, network)

    monkeypatch.setattr(Statement, "is_signed", counted)
    many = [*FORMS["add of one"](made_by(ADMIN), 300)]
    for one in many:
        net.say("ada", one)
    assert sum(one.size for one in verified) < 10_000
    assert net.kept("ada") != net.kept("bob")
    for _ in range(20):
        net.world.pass_time(120.0)
    assert net.kept("ada") == net.kept("bob") and len(verified) < 300


def test_an_invite_is_looked_through_once_however_often_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net("ada")
    net.hear_all()
    net.say("ada", said(FOUNDER, "admin", ADMIN.peer_id))
    make, looked = made_by(ADMIN), list[str]()
    net.say("ada", *(make("add", -n, {"who": [user], "invite": INVITES[0]}) for n, user in enumerate(USERS[:9])))
    additions_by = MemberList.additions_by

    def counted(self: MemberList, invite: str) -> list[Statement]:
        looked.append(invite)
        return additions_by(self, invite)

    monkeypatch.setattr(MemberList, "additions_by", counted)
    for closing in FORMS["close of the same"](make, 9):
        net.say("ada", closing)
    assert looked.count(INVITES[0]) == 1
