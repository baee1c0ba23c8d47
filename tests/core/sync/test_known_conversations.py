"""Conversations: who is named in one, who began it, what is told of it, and how many have places before an answer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from typing import NoReturn

import msgspec
import pytest

from p2pchat.core.effects import ConversationBegun, Effect, Released
from p2pchat.core.groups.group_fact import ADD, ADMIN, talk_id
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.inputs import (
    Committed,
    ConversationOpened,
    GroupLeaveRequest,
    Input,
    UserHosted,
    UserUnhosted,
    WriteRequest,
)
from p2pchat.core.log import batch_of
from p2pchat.core.members.statement import room_id
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentity, Now
from p2pchat.core.replicator import SWEPT_EVERY
from p2pchat.core.sync import known_conversations as inbox_module
from p2pchat.core.sync.known_conversations import KnownConversations, dm_naming
from p2pchat.protocol import ConversationId, Digest, Entries, Have, Here, Hosted, Naming, Want
from tests.core.members.test_member_list import ADA, BEN, key
from tests.core.members.test_statement_exchange import Net
from tests.core.scripted_nodes import (
    FAR_RUN,
    IDENTITIES,
    IDS,
    NAMINGS,
    START,
    Author,
    Far,
    GroupPen,
    N,
    Peer,
    World,
    dm,
    have,
)


def gateway(ada: Peer, name: str, *users: str) -> Far:
    """Link with a peer that hosts further users."""
    far = ada.far(name)
    announce(far, name, *users)
    return far


def announce(far: Far, name: str, *users: str) -> None:
    certs = [make_cert(N, IDS[user], IDENTITIES[user].sign, IDS[name], START // 1000) for user in users]
    hosted = [Hosted(IDS[user], user, "online", cert=cert) for user, cert in zip(users, certs, strict=True)]
    far.say(Here(hosted))


def hosted_too(ada: Peer, name: str) -> None:
    cert = make_cert(N, IDS[name], IDENTITIES[name].sign, ada.id, START // 1000)
    ada.put(UserHosted(HostedIdentity(IDS[name], name, IDENTITIES[name].sign, cert)))


def author(name: str, to: str = "ada") -> Author:
    return Author(name, name[0] + to[0], dm(to, name))


def writes(far: Far, name: str, to: str = "ada") -> None:
    far.say(author(name, to).say(f"{name} to {to}"))


def open_at(ada: Peer) -> list[str]:
    """Return who has a conversation with ada."""
    return [name for name in IDS if dm("ada", name) in ada.node.replicator.conversations]


def listed(ada: Peer, user: str = "ada") -> dict[str, list[str]]:
    """Return who began the unanswered conversations of a hosted user: those that have places, and the others."""
    names = {id: name for name, id in IDS.items()}
    found = [*ada.node.replicator.inbox.of(IDS[user])]
    return {
        word: sorted(one.group or names[one.user] for one in found if one.has_place is has_place)
        for word, has_place in (("here", True), ("refused", False))
    }


def refused(far: Far) -> list[str]:
    """Return of whose conversations no more is taken, as the far end heard."""
    return [user for frame in far.heard if isinstance(frame, Have) for users in frame.full.values() for user in users]


def record(ada: Peer) -> list[Effect]:
    """Return a list that takes what is told of conversations that begin, each before what it is about is shown."""
    told: list[Effect] = []
    handle = ada.node.handle

    def listen(input: Input, now: Now) -> Sequence[Effect]:
        effects = handle(input, now)
        kinds = [type(each) for each in effects]
        assert ConversationBegun not in kinds or isinstance(input, Committed)
        if ConversationBegun in kinds and Released in kinds:
            assert kinds.index(ConversationBegun) < kinds.index(Released)
        told.extend(each for each in effects if isinstance(each, ConversationBegun))
        return effects

    ada.node.handle = listen  # type: ignore[assignment,method-assign]
    return told


# ---- direct conversations


def test_a_first_message_is_told_once_and_listed_until_there_is_an_answer(ada: Peer) -> None:
    told = record(ada)
    far, pen = ada.far("bob"), author("bob")
    far.say(pen.say("hello"))
    far.say(pen.say("are you there?"))
    assert told == [ConversationBegun(dm("ada", "bob"), ada.id, IDS["bob"])]
    assert ada.texts() == ["hello", "are you there?"] and listed(ada)["here"] == ["bob"]
    ada.restart()
    assert listed(ada)["here"] == ["bob"]
    ada.say("yes", to=dm("ada", "bob"))
    assert listed(ada)["here"] == [] and not ada.node.replicator.inbox._taken
    ada.restart()
    assert listed(ada)["here"] == [] and not ada.node.replicator.inbox._taken


def test_nothing_is_told_of_contacts_and_of_users_of_this_peer(ada: Peer) -> None:
    told = record(ada)
    hosted_too(ada, "cyd")
    ada.put(ConversationOpened(dm_naming(IDS["cyd"], ada.id)))
    ada.put(WriteRequest(1, IDS["cyd"], dm("cyd", "ada"), "text", ["hello"]))
    ada.choose(f"contact:{IDS['bob']}")
    writes(ada.far("bob"), "bob")
    assert ada.texts() == ["hello", "bob to ada"]
    assert told == [] and listed(ada)["here"] == [] and not ada.node.replicator.inbox._taken


def test_a_user_begins_few_conversations_and_others_begin_theirs() -> None:
    ada = World().peer("ada", max_unanswered=1)
    hosted_too(ada, "eve")
    far = gateway(ada, "bob", "dan")
    for name in ("dan", "bob"):
        writes(far, name, "eve")
        writes(far, name, "ada")
    assert ada.texts() == ["dan to eve", "bob to eve"]
    assert listed(ada) == {"here": [], "refused": ["bob", "dan"]}
    assert listed(ada, "eve") == {"here": ["bob", "dan"], "refused": []}
    assert not ada.storage.logs_of(dm("ada", "dan"), IDS["dan"])
    assert {*refused(far)} == {IDS["dan"], IDS["bob"]}


def test_who_has_no_place_is_asked_again_once_the_hosted_user_writes_there() -> None:
    ada = World().peer("ada", max_unanswered=0)
    far, pen = ada.far("bob"), author("bob")
    frame = pen.say("hello")
    far.say(frame)
    assert (ada.texts(), listed(ada)["refused"], refused(far)) == ([], ["bob"], [IDS["bob"]])
    ada.open("bob")
    told = len(far.heard)
    ada.say("who are you?", to=dm("ada", "bob"))
    ada.world.pass_time(0.01)
    ada.take()
    assert any(isinstance(each, Digest) for each in [*far.heard][told:])  # it compares at once
    far.say(msgspec.structs.replace(have(pen), names=[]))
    ada.world.pass_time(2.0)
    assert any(line.startswith("to bob: want") and "dm bob" in line for line in ada.take())
    far.say(frame)
    assert ada.texts() == ["who are you?", "hello"] and listed(ada) == {"here": [], "refused": []}


def test_it_is_opened_when_it_is_mentioned_while_there_is_room() -> None:
    ada = World().peer("ada", max_unanswered=1)
    hosted_too(ada, "eve")
    far, frame = ada.far("bob"), author("bob").say("bob to ada")
    writes(far, "bob", "eve")
    far.say(frame)
    assert open_at(ada) == []
    ada.put(UserUnhosted(IDS["eve"]))
    far.say(msgspec.structs.replace(frame, names=[]))  # a peer names a conversation once on each link
    assert ada.texts() == ["bob to eve", "bob to ada"] and listed(ada) == {"here": ["bob"], "refused": []}


def test_one_that_nobody_mentions_any_more_has_no_place() -> None:
    ada = World().peer("ada", max_unanswered=1)
    hosted_too(ada, "eve")
    far, never_sent = ada.far("bob"), author("bob", "eve")
    never_sent.say("never sent")
    far.say(have(never_sent))
    writes(far, "bob")
    assert ada.texts() == []
    ada.drop(far)
    ada.world.pass_time(SWEPT_EVERY)
    writes(ada.far("bob"), "bob")
    assert ada.texts() == ["bob to ada"]


def test_places_are_the_same_after_a_restart_and_when_a_user_comes_back() -> None:
    ada = World().peer("ada", max_unanswered=1)
    hosted_too(ada, "eve")
    writes(ada.far("bob"), "bob", "eve")
    for _ in range(2):
        writes(ada.far("bob"), "bob")
        assert ada.texts() == ["bob to eve"]
        ada.restart()
        if IDS["eve"] not in ada.node.hosted:
            hosted_too(ada, "eve")
    hosted_too(ada, "bob")  # nothing of users of one peer counts
    assert not ada.node.replicator.inbox._taken


def test_whom_one_user_of_a_gateway_knows_the_others_do_not() -> None:
    ada = World().peer("ada")
    hosted_too(ada, "eve")
    hosted_too(ada, "cyd")
    far = ada.far("bob")
    for to in ("eve", "cyd"):
        writes(far, "bob", to)
    ada.put(WriteRequest(1, IDS["eve"], dm("eve", "bob"), "text", ["yes"]))
    assert (listed(ada, "eve")["here"], listed(ada, "cyd")["here"]) == ([], ["bob"])
    ada.choose(f"contact:{IDS['bob']}")  # the peer's own contacts are known to all
    assert listed(ada, "cyd")["here"] == [] and not ada.node.replicator.inbox._taken


def test_a_member_has_places_for_all_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway with thousands of accounts, or an admitted key that makes up users, costs others no more."""
    monkeypatch.setattr(inbox_module, "MAX_OF_MEMBER", 20)
    net = Net("ada", "bob")
    node = net.peers["bob"].node
    for number in range(60):
        node.member_directory.on_shown(key(f"user {number}"), ADA if number < 50 else BEN)

    def begin(number: int) -> bool:
        return node.replicator.inbox.open(Naming(dm=tuple(sorted((node.peer, key(f"user {number}"))))))  # type: ignore[arg-type]

    assert [begin(number) for number in range(50)] == [True] * 20 + [False] * 30
    assert [begin(number) for number in range(50, 60)] == [True] * 10
    assert len([one for one in node.replicator.inbox.of(node.peer) if not one.has_place]) == 30


def test_few_without_a_place_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_LISTED", 8)
    ada = World().peer("ada", max_unanswered=0)
    names = [Naming(dm=tuple(sorted((ada.id, f"{number:064x}")))) for number in range(20)]  # type: ignore[arg-type]
    assert [ada.node.replicator.inbox.open(naming) for naming in names] == [False] * 20
    assert len([*ada.node.replicator.inbox.of(ada.id)]) == 8


def test_an_own_entry_that_comes_back_makes_a_contact(ada: Peer) -> None:
    bob = ada.far("bob")
    bob.say(Author("ada", "c1", dm("ada", "bob")).say("written before the disk was lost"))
    assert IDS["bob"] in ada.node.contacts


def test_a_contact_whom_nobody_wrote_to_is_one_after_a_restart_too() -> None:
    ada = World().peer("ada", max_unanswered=0)
    ada.choose(f"contact:{IDS['bob']}")
    ada.restart()
    writes(ada.far("bob"), "bob")
    assert ada.texts() == ["bob to ada"]


def test_what_was_read_is_told_before_there_is_an_answer(ada: Peer) -> None:
    """Who opens a conversation reads it; before that no program marks anything there."""
    far, pen = ada.far("bob"), author("bob")
    far.say(pen.say("hello"))
    told = ada.read()
    ada.world.pass_time(5.0)
    assert [line for line in [*told, *ada.take()] if "read dm by ada ba:1" in line]


# ---- groups


def made(by: str, number: int, *members: str, name: str = "ops", ada: bool = True) -> Entries:
    """Return the fact that makes a group."""
    return GroupPen(by, *(["ada"] if ada else []), *members, name=name, salt=number).first


def passed_on(far: Far, frame: Entries) -> list[str]:
    """Let a peer bring an operation, and return what is said to it."""
    return far.say(msgspec.structs.replace(frame, names=[NAMINGS[frame.c]]))


def groups_at(ada: Peer) -> list[str]:
    """Return the names of the groups stored at ada."""
    return sorted(view.name for view in ada.node.groups.values())


def wanted(ada: Peer, far: Far, pen: Author) -> list[str]:
    """Return the conversations of which entries are requested when a peer has told its marks."""
    before = len(far.heard)
    far.say(have(pen))
    ada.world.pass_time(2)
    ada.take()
    return [frame.c for frame in list(far.heard)[before:] if isinstance(frame, Want)]


def test_a_group_is_told_once_to_each_whom_it_names_and_who_does_not_know_its_owner(ada: Peer) -> None:
    hosted_too(ada, "cyd")
    told = record(ada)
    frame = made("bob", 1, "cyd")
    passed_on(ada.far("bob"), frame)
    talk = talk_id(frame.c)
    assert {*told} == {ConversationBegun(talk, host, IDS["bob"]) for host in (ada.id, IDS["cyd"])} and len(told) == 2
    assert listed(ada)["here"] == listed(ada, "cyd")["here"] == ["bob"]
    ada.say("hello", to=talk)
    assert listed(ada, "cyd")["here"] == [] and IDS["bob"] in ada.node.contacts


def test_a_user_makes_few_groups_and_others_make_theirs(ada: Peer) -> None:
    far = gateway(ada, "eve", "cyd")
    for number in range(5):
        passed_on(far, made("cyd", number, name=f"cyd's {number}"))
    passed_on(far, made("eve", 1, name="eve's"))
    assert groups_at(ada) == ["cyd's 0", "cyd's 1", "cyd's 2", "eve's"]
    assert listed(ada)["refused"] == ["cyd's 3", "cyd's 4"] and IDS["cyd"] in refused(far)
    for _ in range(2):
        ada.restart()
        passed_on(gateway(ada, "eve", "cyd"), made("cyd", 7, name="cyd's 7"))
        assert groups_at(ada) == ["cyd's 0", "cyd's 1", "cyd's 2", "eve's"]


def test_a_group_without_a_place_is_fetched_once_its_owner_is_written_to_and_not_before() -> None:
    ada = World().peer("ada", max_unanswered_groups=0)
    far, frame = ada.far("bob"), made("bob", 1)
    assert any("full" in line for line in passed_on(far, frame))
    pen = Author("bob", "b0", frame.c)
    pen.log = pen.log._replace(run=frame.r)
    pen.write(*frame.e)
    assert wanted(ada, far, pen) == [] and frame.c not in [one.id for one in ada.storage.load([]).conversations]
    ada.open("bob")
    ada.say("hello", to=dm("ada", "bob"))
    assert wanted(ada, far, pen) == [frame.c]
    passed_on(far, frame)
    assert groups_at(ada) == ["ops"] and listed(ada) == {"here": [], "refused": []}


def test_who_writes_in_a_group_knows_its_owner_and_nobody_else() -> None:
    ada = World().peer("ada", max_unanswered_groups=1)
    eve = ada.far("eve")
    passed_on(eve, made("eve", 1, "cyd", name="one"))
    [group] = ada.node.groups
    ada.say("hello", to=talk_id(group))
    assert IDS["eve"] in ada.node.contacts and IDS["cyd"] not in ada.node.contacts
    passed_on(eve, made("eve", 2, name="two"))
    assert groups_at(ada) == ["one", "two"]
    ada.restart()
    assert IDS["eve"] in ada.node.contacts and not ada.node.replicator.inbox._taken


def test_who_leaves_a_group_frees_its_place_and_knows_nobody() -> None:
    ada = World().peer("ada", max_unanswered_groups=1)
    eve = ada.far("eve")
    passed_on(eve, made("eve", 1, name="one"))
    [group] = ada.node.groups
    ada.put(GroupLeaveRequest(1, ada.id, group))
    ada.take()
    passed_on(eve, made("eve", 2, name="two"))
    assert groups_at(ada) == ["one", "two"] and IDS["eve"] not in ada.node.contacts
    ada.restart()
    passed_on(ada.far("eve"), made("eve", 3, name="three"))
    assert groups_at(ada) == ["one", "two"]


def test_a_group_of_somebody_known_to_one_whom_it_names_needs_no_place() -> None:
    ada = World().peer("ada", max_unanswered_groups=0)
    hosted_too(ada, "cyd")
    ada.put(ConversationOpened(dm_naming(IDS["cyd"], IDS["eve"])))
    ada.put(WriteRequest(1, IDS["cyd"], dm("cyd", "eve"), "text", ["hello"]))
    eve = ada.far("eve")
    passed_on(eve, made("eve", 1, "cyd", name="for cyd", ada=False))
    passed_on(eve, made("eve", 2, name="for ada"))
    assert groups_at(ada) == ["for cyd"] and listed(ada)["refused"] == ["for ada"]


def test_a_group_counts_when_it_is_stored_whomever_its_first_fact_names() -> None:
    """An owner could make any number of groups, and add somebody here to each only later."""
    ada = World().peer("ada", max_unanswered_groups=1)
    eve = ada.far("eve")
    for number in range(3):
        passed_on(eve, made("eve", number, "cyd", name=f"{number}", ada=False))
    assert len([group for group in ada.node.replicator.conversations.groups.values() if group.state]) == 1


def test_a_group_of_a_contact_needs_no_place_although_it_names_nobody_here_yet() -> None:
    """Seed 600048."""
    ada = World().peer("ada", max_unanswered_groups=0)
    ada.choose(f"contact:{IDS['eve']}")
    passed_on(ada.far("eve"), frame := made("eve", 1, "cyd", name="ops", ada=False))
    assert ada.node.replicator.conversations.groups[frame.c].state


def test_a_group_counts_at_who_added_somebody_here(ada: Peer) -> None:
    """Bob, whom ada knows, adds her to a group of eve: it needs no place, and she hears of it once, from him."""
    told = record(ada)
    eve, pen = ada.far("eve"), GroupPen("eve", "bob")
    ada.choose(f"contact:{IDS['bob']}")
    passed_on(eve, pen.first)
    assert ada.node.replicator.inbox._taken["group", IDS["eve"]] == 1 and told == []
    for frame in (pen.say("eve", ADMIN, "bob"), pen.say("bob", ADD, "ada")):
        passed_on(eve, frame)
    assert not ada.node.replicator.inbox._taken and listed(ada) == {"here": [], "refused": []}


def test_who_is_added_to_a_group_that_is_here_is_told_by_whom(ada: Peer) -> None:
    told = record(ada)
    eve, pen = ada.far("eve"), GroupPen("eve", "bob")
    passed_on(eve, pen.first)
    for frame in (pen.say("eve", ADMIN, "bob"), pen.say("bob", ADD, "ada"), pen.say("bob", ADD, "ada", "cyd")):
        passed_on(eve, frame)
    assert told == [ConversationBegun(pen.talk, ada.id, IDS["bob"])]
    assert dict(ada.node.replicator.inbox._taken)["group", IDS["bob"]] == 1


def test_a_group_that_its_owner_did_not_sign_takes_no_place(ada: Peer) -> None:
    frame = made("bob", 2, name="bob's")
    passed_on(ada.far("eve"), msgspec.structs.replace(frame, head="00" * 64))
    assert not ada.node.replicator.inbox._taken and listed(ada) == {"here": [], "refused": []}


# ---- users of other peers


def test_a_new_hosted_user_is_announced_before_what_it_writes(ada: Peer) -> None:
    far = ada.far("bob")
    hosted_too(ada, "cyd")
    ada.take()
    hosted_too(ada, "dan")  # told with the next changes, a while after those before
    told = len(far.heard)
    ada.put(ConversationOpened(dm_naming(IDS["dan"], IDS["bob"])))
    ada.put(WriteRequest(1, IDS["dan"], dm("dan", "bob"), "text", ["hello"]))
    ada.take()
    frames = list(far.heard)[told:]
    assert [[user.name for user in frame.users] if isinstance(frame, Here) else type(frame) for frame in frames] == [
        ["dan"],
        Entries,
    ]


def test_a_conversation_of_a_user_announced_later_is_fetched_then(ada: Peer) -> None:
    far, pen = ada.far("bob"), author("dan")
    far.say(pen.say("hello"))
    assert ada.texts() == []
    told = len(far.heard)
    announce(far, "bob", "dan")
    ada.world.pass_time(2)
    ada.take()
    assert any(isinstance(each, Digest) for each in list(far.heard)[told:])  # it compares at once
    far.say(msgspec.structs.replace(have(pen), names=[]))
    ada.world.pass_time(2)
    ada.take()
    assert any(isinstance(each, Want) for each in list(far.heard)[told:])


# ---- who is named in one, and who wrote there


class Unread(dict[ConversationId, GroupReplica]):
    """Groups that nobody may go through."""

    def __iter__(self) -> Iterator[ConversationId]:
        raise AssertionError("each group is looked at")

    def values(self) -> NoReturn:
        raise AssertionError("each group is looked at")


def group_of_ada(conversations: KnownConversations, *others: str) -> Naming:
    """Add a group with its first fact, and its talk."""
    pen = GroupPen("ada", *others)
    batch = batch_of(pen.first)
    naming = NAMINGS[pen.id]
    conversations.open(naming)
    group = conversations.groups[pen.id]
    fact = group.read(batch.log, batch.raws[0], batch.chain, ())
    assert fact is not None
    group.add(fact)
    conversations.open(Naming(talk=pen.id))
    return naming


def test_who_is_named_in_a_group_has_a_conversation() -> None:
    conversations = KnownConversations(room_id(N))
    naming = group_of_ada(conversations, "bob", "cyd")
    assert naming.group is not None
    conversations[conversations.room].writer(IDS["dan"])
    assert [conversations.has_any_of(IDS[name]) for name in ("ada", "bob", "cyd", "dan")] == [True, True, True, False]
    assert [conversations.has_entries_of(IDS[name]) for name in ("ada", "bob", "cyd", "dan")] == [
        True, True, True, True,
    ]  # fmt: skip


def test_asking_about_a_user_looks_at_no_group() -> None:
    """It is asked several times for each made-up user, and others may make thousands of groups."""
    conversations = KnownConversations(room_id(N))
    group_of_ada(conversations, "bob")
    conversations.groups = Unread(conversations.groups)
    assert [conversations.has_any_of(IDS["eve"]), conversations.has_entries_of(IDS["eve"])] == [False, False]


def test_a_forgotten_conversation_leaves_memory_without_the_collector() -> None:
    """Members may name thousands of groups, and the collector comes seldom."""
    conversations = KnownConversations(room_id(N))
    id = "9e" * 32
    conversations.open_group(Naming(group=(id, IDS["eve"], FAR_RUN)), [IDS["eve"]], IDS["eve"], IDS["eve"])
    gone = weakref.ref(conversations.groups[id])
    gc.disable()
    try:
        conversations.forget(id)
        assert gone() is None
    finally:
        gc.enable()
