"""Own state: what a user chose, through all that a choice lives through, and at two peers that host the user."""

from __future__ import annotations

import pytest

from p2pchat.core import own_state
from p2pchat.core.effects import WriteRefused
from p2pchat.core.inputs import (
    CommitFailed,
    ConversationOpened,
    Loaded,
    OwnStateSet,
    PruneRequest,
    UserHosted,
    UserRenamed,
    UserUnhosted,
    WriteRequest,
)
from p2pchat.core.log import Entry, encode_entry
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.own_state import (
    BLOCKED,
    CHOSEN,
    IGNORED,
    MAX_AHEAD,
    MAX_KEY_BYTES,
    MAX_TEXT_BYTES,
    RECEIPTS,
    OwnState,
)
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.protocol import Entries, Here, Hosted
from tests.core.scripted_nodes import IDENTITIES, IDS, START, Author, N, Peer, World, dm
from tests.core.steps import count_steps

EVE, BOB = IDS["eve"], IDS["bob"]
KEYS = [f"{BLOCKED}:{BOB}", f"{IGNORED}:{BOB}", f"{CHOSEN}:{BOB}", f"{RECEIPTS}:{BOB}", RECEIPTS, "a word of its own"]


def host(peer: Peer, name: str = "eve") -> None:
    """Have a peer host one more user."""
    cert = make_cert(N, IDS[name], IDENTITIES[name].sign, peer.id, START // 1000)
    peer.put(UserHosted(HostedIdentity(IDS[name], name, IDENTITIES[name].sign, cert)))


def counts(peer: Peer, key: str) -> bool:
    """Return whether a choice of eve counts in the core, and in what acts by it."""
    node, text = peer.node, peer.node.own.get(EVE, key)
    if key == f"{BLOCKED}:{BOB}":
        assert (BOB in node.blocks.of(EVE)) == bool(text)
    if key == f"{CHOSEN}:{BOB}":
        assert node.contacts.are_known(EVE, BOB) or not text
    if key.startswith(RECEIPTS):
        assert node.own.wants_receipts(EVE, BOB) == (text != "off")
    return bool(text)


@pytest.mark.parametrize("key", KEYS)
def test_a_choice_lives_as_long_as_its_user(key: str) -> None:
    """It counts once it is stored, and after a kill; it goes where the user goes, and with the user."""
    world = World()
    ada = world.peer("ada")
    host(ada)
    ada.holding = True
    ada.choose(key, "off", by="eve")
    assert not counts(ada, key)
    epoch = ada.held[-1].epoch
    ada.holding, ada.held = False, []
    ada.put(CommitFailed(epoch, "the disk failed"))
    ada.put(Loaded(ada.storage.load([ada.id, EVE])))
    assert not counts(ada, key)
    ada.choose(key, "off", by="eve")
    assert counts(ada, key)
    ada.restart()
    assert counts(ada, key)
    host(ada)
    ada.put(CommitFailed(ada.node.storage.epoch, "the disk failed"))
    ada.put(Loaded(ada.storage.load([ada.id, EVE])))
    assert counts(ada, key)

    cyd = world.peer("cyd")
    host(cyd)  # eve moves
    world.link(ada, cyd)
    world.pass_time(60)
    assert counts(cyd, key)
    ada.put(UserUnhosted(EVE))
    assert counts(ada, key)  # for when she comes back
    cyd.choose(key, "", by="eve")
    assert not counts(cyd, key)
    host(ada)
    world.pass_time(60)
    assert not counts(ada, key)

    cyd.choose(key, "off", by="eve")
    gone = cyd.node.choices_of(EVE)
    assert {name for name in cyd.storage.meta() if EVE in name} <= gone.keys()
    cyd.put(UserUnhosted(EVE, is_deleted=True))
    assert not counts(cyd, key)


def test_of_two_choices_apart_the_newer_counts_at_both_peers() -> None:
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    host(ada)
    host(cyd)
    key, other = f"{BLOCKED}:{BOB}", f"{BLOCKED}:{IDS['dan']}"
    ada.choose(key, by="eve")
    world.pass_time(1)
    cyd.choose(key, by="eve")
    cyd.choose(key, "", by="eve")
    cyd.choose(other, by="eve")
    world.link(ada, cyd)
    world.pass_time(60)
    assert [[*peer.node.blocks.of(EVE)] for peer in (ada, cyd)] == [[IDS["dan"]]] * 2
    ada.choose(key, by="eve")
    world.pass_time(10)
    assert {*cyd.node.blocks.of(EVE)} == {BOB, IDS["dan"]}


def test_what_was_stamped_far_ahead_does_not_count() -> None:
    """Else it would outweigh all that is chosen later. The clock of an honest machine may be a day ahead."""
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    host(ada)
    own, now = ada.node.own, ada.world.now.utc
    for c in (now + MAX_AHEAD + 1, 2**53 - 1):
        assert own.take(EVE, "ff" * 12, Entry("own", START, c, b={RECEIPTS: "off"}), {}, now)[1:] == []
        assert own.clock(EVE) == 0  # else the next choice has a clock that no link takes
    [_, chosen] = own.take(EVE, "ff" * 12, Entry("own", START, now + MAX_AHEAD, b={RECEIPTS: "off"}), {}, now)
    own.on_durable(*chosen)
    assert not own.wants_receipts(EVE)
    ada.choose(RECEIPTS, "on", by="eve")
    assert own.wants_receipts(EVE)
    host(cyd)
    world.pass_time(1)
    world.link(ada, cyd)
    world.pass_time(60)
    assert cyd.node.own.get(EVE, RECEIPTS) == "on"


def test_of_each_kind_the_newest_are_kept_in_whatever_order_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stolen machine chooses without end: its person chooses on, each machine keeps the same, and none grows."""
    monkeypatch.setattr(own_state, "MAX_KEYS", 2)
    junk = [Entry("own", 1, c, b={f"junk{c}:{number}": "1" for number in range(9)}) for c in (1, 4)]
    made_up = [Entry("own", 1, c, b={f"{BLOCKED}:{c}{number}": "1"}) for c in (2, 5) for number in range(9)]
    chosen = Entry("own", 1, 6, b={f"{BLOCKED}:{BOB}": "1", "device:" + BOB: "1 desk"})
    newest = {f"{BLOCKED}:{BOB}", f"{BLOCKED}:58", f"device:{BOB}", "junk4:8", "junk4:7", ""}
    for order in ([*junk, *made_up, chosen], [chosen, *made_up, *junk], [*made_up, chosen, *junk[::-1]]):
        own, lines = OwnState({}), dict[str, str | None]()
        for entry in order:
            for one in own.take(EVE, "ff" * 12, entry, lines, 6):
                own.on_durable(*one)
        stored = OwnState({name: line for name, line in lines.items() if line})
        kept = {line.split(":", 2)[2] for line in own.lines_of(EVE)}
        assert {*own.lines_of(EVE)} == {*stored.lines_of(EVE)} and newest <= kept and len(kept) <= 8 * 2
        assert own.of(EVE, BLOCKED) == stored.of(EVE, BLOCKED) and BOB in own.of(EVE, BLOCKED)


def test_what_fills_all_kinds_costs_each_later_choice_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys were sorted at each entry: with all kinds full it took 70 ms. Now they are once for each 4,096."""
    monkeypatch.setattr(own_state, "MAX_KEYS", 128)
    own, now, kinds = OwnState({}), 10**15, (*own_state.KINDS, "x")
    entries = [
        Entry("own", now, now + number, b={f"{kind}:{number}:{one}": "1" for one in range(32)})
        for number in range(4) for kind in kinds
    ]  # fmt: skip
    for entry in entries:
        own.take(EVE, "ff" * 12, entry, {}, now)
    small = (Entry("own", now, now + 99, b={f"x:{number}": "1"}) for number in range(1024))
    steps = [count_steps(lambda one=one: own.take(EVE, "ff" * 12, one, {}, now)) for one in small]  # type: ignore[misc]
    assert len([one for one in steps if one > min(steps)]) == 8


def test_equal_clocks_are_decided_alike_in_whatever_order_they_come() -> None:
    entries = [("aa" * 12, Entry("own", 1, 5, b={"x": "one"})), ("bb" * 12, Entry("own", 1, 5, b={"x": "two"}))]
    found = set[str]()
    for order in (entries, entries[::-1]):
        lines: dict[str, str | None] = {}
        own = OwnState({})
        for log, entry in order:
            own.take(EVE, log, entry, lines, 0)
        found.add(OwnState({name: line for name, line in lines.items() if line}).get(EVE, "x"))
    assert found == {"two"}


def test_own_state_is_no_conversation_of_its_user() -> None:
    ada = World().peer("ada")
    ada.choose("x")
    assert ada.node.conversations_of(ada.id) == [ada.node.room]
    ada.restart()
    assert ada.node.conversations_of(ada.id) == [ada.node.room]
    ada.open("ada")
    ada.say("milk", to=dm("ada", "ada"))
    ada.choose("x", "")
    for _ in range(2):
        assert ada.node.conversations_of(ada.id) == [ada.node.room, dm_id(ada.node.room, ada.id, ada.id)]
        ada.restart()
    assert ada.texts() == ["milk"]


@pytest.mark.parametrize(
    "body",
    [
        None, "x", {"x": 1}, {"": "1"}, {"x" * (MAX_KEY_BYTES + 1): "1"}, {"\xe4" * 61: "1"},
        {"x": "1" * (MAX_TEXT_BYTES + 1)}, {"x\0": "1"}, {"x": "\0"},
        {f"{BLOCKED}:{EVE}": "1"}, {f"{IGNORED}:{EVE}": "1"},
    ],
)  # fmt: skip
def test_what_is_no_choice_changes_nothing(body: object) -> None:
    own = OwnState({})
    assert [key for _, key, _ in own.take(EVE, "aa" * 12, Entry("own", 1, 1, b=body), {}, 0)] == [""]


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ({"": "1"}, "a key has 1 to 120 bytes"),
        ({"x" * 121: "1"}, "a key has 1 to 120 bytes"),
        ({"x": "1" * 257}, "a key has 1 to 120 bytes, its text at most 256"),
    ],
)
def test_what_has_no_room_is_refused(texts: dict[str, str], why: str) -> None:
    ada = World().peer("ada")
    [refused] = [
        one for one in ada.node.handle(OwnStateSet(1, ada.id, texts), ada.world.now) if isinstance(one, WriteRefused)
    ]
    assert refused.text.startswith(why)


def test_nobody_else_gets_own_state() -> None:
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    world.link(ada, cyd)
    ada.choose(f"{BLOCKED}:{BOB}")
    world.pass_time(60)
    assert {*cyd.node.replicator.conversations} == {cyd.node.room}
    assert {one.log.conversation for one in cyd.storage.places(0, 99)} <= {cyd.node.room}
    assert not any("own:" in name for name in cyd.storage.meta())


def test_own_state_counts_in_the_conversation_with_oneself_alone() -> None:
    ada = World().peer("ada")
    host(ada)
    ada.put(ConversationOpened(dm_naming(ada.id, EVE)))
    both = dm("ada", "eve")
    ada.put(WriteRequest(1, EVE, both, "text", ["hi"]))
    log = ada.node.replicator.conversations[both].all_logs(EVE)[0]
    ada.node.replicator.appender._append_bodies(log, "own", [{RECEIPTS: "off"}])
    assert ada.node.own.take(EVE, log.ref, Entry("own", 1, 1, b={}), {}, 0)[0] == (EVE, "", "1")


def test_who_deletes_the_notes_to_oneself_keeps_what_was_chosen() -> None:
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    host(ada)
    ada.choose(RECEIPTS, "off", by="eve")
    ada.put(PruneRequest(2, dm("eve", "eve")))
    world.pass_time(1)
    host(cyd)
    world.link(ada, cyd)
    world.pass_time(60)
    assert cyd.node.own.get(EVE, RECEIPTS) == "off"


# ---- the name of a person, which is that of all machines


def profile(name: object, c: int, *, run: str, of: str = "ada") -> Entries:
    """Return what a machine of somebody sends that was called so by this clock."""
    return Author(of, run).write(encode_entry(Entry("profile", START, c, b={"name": name})))


@pytest.mark.parametrize("ahead", [MAX_AHEAD + 60_000_000, 30 * MAX_AHEAD, 2**53])
def test_a_name_stamped_far_ahead_renames_nobody_for_good(ahead: int) -> None:
    """A stolen machine writes it: neither the person's other machines take it nor others, and the next one counts."""
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    world.link(ada, bob)
    ada.put(UserRenamed(ada.id, "ada"))
    world.pass_time(60)
    for peer in (ada, bob):
        peer.far("cyd").say(profile("a fool", min(world.now.utc + ahead, 2**53 - 1), run="a9"))
    assert ada.node.hosted[ada.id].name == ada.node.names[ada.id] == bob.node.names[ada.id] == "ada"
    ada.put(UserRenamed(ada.id, "lovelace"))
    world.pass_time(60)
    assert ada.node.names[ada.id] == bob.node.names[ada.id] == "lovelace"


def test_a_name_counts_whatever_an_own_clock_said_that_was_set_back() -> None:
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    world.link(ada, bob)
    ada.put(UserRenamed(ada.id, "ada"))
    world.pass_time(60)
    world.ahead = -3 * MAX_AHEAD / 1_000_000
    ada.restart()
    world.link(ada, bob)
    for name in ("lovelace", "countess"):
        ada.put(UserRenamed(ada.id, name))
        world.pass_time(60)
        assert ada.node.names[ada.id] == bob.node.names[ada.id] == name


@pytest.mark.parametrize("names", [("lovelace",), ("ada", "lovelace"), ("lovelace", "ada")])
def test_a_machine_that_just_joined_takes_the_newest_name_and_writes_no_older_one(names: tuple[str, ...]) -> None:
    """Whether it hears the new one from a link before, and in whatever order the profiles come."""
    ada = World().peer("ada")
    far = ada.far("bob")
    cert = make_cert(N, ada.id, IDENTITIES["ada"].sign, BOB, START // 1000)
    far.say(Here([Hosted(BOB, "bob", "online"), Hosted(ada.id, "lovelace", "online", cert=cert)]))
    assert ada.node.hosted[ada.id].name == "ada" and ada.node.names[ada.id] == "lovelace"
    for number, name in enumerate(names):
        far.say(profile(name, START + (9 if name == "lovelace" else 1), run=f"a{number}"))
    ada.world.pass_time(60)
    assert ada.node.hosted[ada.id].name == ada.node.names[ada.id] == "lovelace"


@pytest.mark.parametrize("is_announced", [False, True])
def test_a_profile_without_a_name_changes_nothing_on_a_machine_that_just_joined(is_announced: bool) -> None:
    ada = World().peer("ada")
    far = ada.far("bob")
    if is_announced:
        cert = make_cert(N, ada.id, IDENTITIES["ada"].sign, BOB, START // 1000)
        far.say(Here([Hosted(BOB, "bob", "online"), Hosted(ada.id, "lovelace", "online", cert=cert)]))
    far.say(profile("a\nb", START, run="a2"))
    assert ada.node.hosted[ada.id].name == "ada" and not ada.node.replicator.people.has_profile(ada.id)
