"""Conversations that unknown users begin: their places, who gives way, and that they never close the door."""

from __future__ import annotations

import time
from collections import Counter

import msgspec

from p2pchat.core.durable_changes import Change
from p2pchat.core.groups.group_requests import GROUP_REQUEST
from p2pchat.core.groups.group_state import group_body, operation_hash, talk_id
from p2pchat.core.inputs import GroupLeaveRequest, RequestAccepted, RequestLeft, RequestsChosen, UserHosted
from p2pchat.core.log import Entry, encode_entry
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.core.sync.message_requests import REQUEST
from p2pchat.identity.keys import Identity
from p2pchat.protocol import Entries, Have, Here, Hosted, Naming, Want
from tests.core.scripted_nodes import IDENTITIES, IDS, NAMINGS, START, Author, Far, Peer, World, dm, have


def gateway(ada: Peer, name: str, *users: str) -> Far:
    """Link with a peer that hosts further users."""
    far = ada.far(name)
    certs = [make_cert(IDS[user], IDENTITIES[user].sign, IDS[name], START // 1000) for user in users]
    hosted = [Hosted(IDS[user], user, "online", cert=cert) for user, cert in zip(users, certs, strict=True)]
    far.say(Here(hosted))
    return far


def author(name: str) -> Author:
    return Author(name, name[0] + "1", dm("ada", name))


def mention(far: Far, *names: str) -> None:
    """Let a peer mention conversations of which nothing is stored here."""
    for name in names:
        pen = author(name)
        pen.say("never sent")
        far.say(have(pen))


def writes(far: Far, *names: str) -> None:
    for name in names:
        far.say(author(name).say(f"I am {name}"))


def open_at(ada: Peer) -> list[str]:
    """Return who has a conversation with ada."""
    return [name for name in IDS if dm("ada", name) in ada.node.namings]


def test_unknown_users_of_one_peer_have_few_places_and_those_of_another_their_own() -> None:
    ada = World().peer("ada", max_requests_a_peer=2)
    eve = gateway(ada, "eve", "cyd", "dan")
    writes(eve, "cyd", "dan", "eve")
    assert ada.texts() == ["I am cyd", "I am dan"]
    writes(ada.far("bob"), "bob")
    assert ada.texts()[-1] == "I am bob"


def test_no_conversation_of_an_unknown_user_counts_against_the_hosted_one() -> None:
    ada = World().peer("ada", max_conversations_a_user=2, max_requests_a_peer=3)
    writes(gateway(ada, "eve", "cyd", "dan"), "cyd", "dan", "eve")
    writes(ada.far("bob"), "bob")
    assert len(ada.texts()) == 4


def test_conversations_of_a_file_above_the_limit_are_refused_at_once(ada: Peer) -> None:
    """A file may name any number of them; all that there are were looked at for each: 4 ms."""
    requests = ada.node.sync.context.requests
    named = [Naming(dm=(IDS["ada"], f"{number:064x}")) for number in range(10_300)]
    assert [requests.open(naming, "") for naming in named[:10_000]] == [True] * 10_000
    begun = time.thread_time()
    assert [requests.open(naming, "") for naming in named[10_000:]] == [False] * 300
    assert time.thread_time() - begun < 0.3  # measured: 0.002 s, and 1.2 s before


def test_a_conversation_without_a_place_is_opened_when_it_is_mentioned_and_there_is_one() -> None:
    ada = World().peer("ada", max_requests_a_peer=2)
    eve = gateway(ada, "eve", "cyd", "dan")
    writes(eve, "cyd", "dan")
    pen = author("eve")
    frame = pen.say("I am eve")
    eve.say(frame)
    assert open_at(ada) == ["cyd", "dan"]
    ada.say("who are you?", to=dm("ada", "cyd"))
    frame.names = []  # a peer names a conversation once on each link
    eve.say(frame)
    assert ada.texts()[-1] == "I am eve"


def test_the_newest_conversation_of_the_fullest_peer_gives_way_and_is_named_no_more() -> None:
    ada = World().peer("ada", max_requests=2)
    mention(gateway(ada, "eve", "cyd"), "cyd", "eve")
    assert open_at(ada) == ["cyd", "eve"]
    writes(ada.far("bob"), "bob")
    assert (open_at(ada), ada.texts()) == (["bob", "cyd"], ["I am bob"])
    writes(ada.far("dan"), "dan")  # all have one now
    assert open_at(ada) == ["bob", "cyd"]


def test_what_was_stored_keeps_its_place_through_a_restart() -> None:
    first = World().peer("ada", max_requests_a_peer=2)
    writes(gateway(first, "eve", "cyd", "dan"), "cyd", "dan")
    ada = World().peer("ada", first.storage, max_requests_a_peer=2)
    writes(gateway(ada, "eve", "cyd", "dan"), "eve")
    assert open_at(ada) == ["cyd", "dan"]
    writes(ada.far("bob"), "bob")
    assert open_at(ada) == ["bob", "cyd", "dan"]


def test_what_was_stored_before_there_were_places_closes_nothing() -> None:
    first = World().peer("ada")
    writes(gateway(first, "eve", "cyd", "dan"), "cyd", "dan", "eve")
    first.storage.commit([Change(meta={REQUEST + dm("ada", name): None for name in ("cyd", "dan", "eve")})])
    ada = World().peer("ada", first.storage, max_conversations_a_user=1, max_requests=1)
    writes(ada.far("bob"), "bob")
    assert ada.texts()[-1] == "I am bob"


def test_peers_that_are_gone_hold_no_place_against_one_that_is_here() -> None:
    ada = World().peer("ada", max_requests=2)
    eve, dan = ada.far("eve"), ada.far("dan")
    writes(eve, "eve")
    writes(dan, "dan")
    cyd = ada.far("cyd")
    writes(cyd, "cyd")
    assert "cyd" not in open_at(ada)
    ada.drop(eve)
    writes(cyd, "cyd")
    assert ada.texts()[-1] == "I am cyd"


def test_keys_of_one_network_take_places_of_each_other_also_after_a_restart() -> None:
    """256 keys, one after the other, had what everybody else had written, and who was away now, deleted."""
    ada = World().peer("ada", max_requests=2, straight_requests=0)
    for name, host in (("bob", "10.0.1.9"), ("eve", "10.0.2.9"), ("cyd", "10.0.2.9")):
        far = ada.far(name, host=host)
        writes(far, name)
        ada.drop(far)
    assert open_at(ada) == ["bob", "cyd"]
    again = World().peer("ada", ada.storage, max_requests=2, straight_requests=0)
    writes(again.far("dan", host="10.0.2.9"), "dan")
    assert open_at(again) == ["bob", "dan"]


def test_who_is_gone_gives_no_place_to_a_peer_that_has_some() -> None:
    """17 keys with 16 conversations each had what everybody else had written, and who was away now, deleted."""
    ada = World().peer("ada", max_requests=3, max_requests_a_peer=3)
    bob = ada.far("bob")
    writes(bob, "bob")
    ada.drop(bob)
    writes(gateway(ada, "eve", "cyd", "dan"), "eve", "cyd", "dan")
    assert ada.texts() == ["I am bob", "I am eve", "I am cyd"]
    assert open_at(ada) == ["bob", "cyd", "eve"]


def test_who_is_written_to_needs_no_place() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = gateway(ada, "eve", "cyd", "dan")
    writes(eve, "cyd")
    ada.say("hello", to=dm("ada", "cyd"))
    assert REQUEST + dm("ada", "cyd") not in ada.storage.meta()
    writes(eve, "dan")
    assert ada.texts()[-1] == "I am dan"


def test_an_own_entry_that_comes_back_makes_a_contact() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    bob = ada.far("bob")
    bob.say(Author("ada", "c1", dm("ada", "bob")).say("written before the disk was lost"))
    assert IDS["bob"] in ada.node.contacts


def test_a_name_without_a_place_is_remembered_for_some_conversations() -> None:
    ada = World().peer("ada", max_requests_a_peer=0)
    far = ada.far("eve")
    far.say(Have({}, names=[dm_naming(IDS["ada"], IDS["eve"])]))
    assert open_at(ada) == [] and ada.counted["conversation_refused"] == 1


# ---- groups


def made(by: str, number: int, *members: str, name: str = "ops") -> Entries:
    """Return the first operation of a group that includes ada."""
    body = group_body(1, name, IDS[by], {IDS[each]: 1 for each in ("ada", by, *members)}, {}, salt=f"{number:032x}")
    first = encode_entry(Entry("group", 1, 1, b=body))
    group = operation_hash(first)
    NAMINGS[group] = Naming(group=(group, IDS[by], f"{by[0]}0" * 8))
    NAMINGS[talk_id(group)] = Naming(talk=group)
    return Author(by, f"{by[0]}0", group).write(first)


def named(frame: Entries) -> Entries:
    """Return a frame as it comes on a link that has not named its conversation."""
    return msgspec.structs.replace(frame, names=[NAMINGS[frame.c]])


def passed_on(far: Far, frame: Entries) -> list[str]:
    """Let a peer bring an operation, and return what is said to it."""
    return far.say(named(frame))


def groups_at(ada: Peer) -> list[str]:
    """Return the names of the groups stored at ada."""
    return sorted(view.name for view in ada.node.groups.values())


def waiting_at(ada: Peer) -> list[str]:
    return sorted(request.name for request in ada.node.sync.requests.groups.by_id.values() if request.waits)


def test_groups_by_unknown_owners_of_one_peer_have_few_places_and_those_of_another_their_own() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = gateway(ada, "eve", "cyd", "dan")
    for number, name in enumerate(("cyd", "dan", "eve")):
        passed_on(eve, made(name, number, name=f"{name}'s"))
    assert (groups_at(ada), waiting_at(ada)) == (["cyd's"], ["dan's"])
    passed_on(ada.far("bob"), made("bob", 1, name="bob's"))
    assert groups_at(ada) == ["bob's", "cyd's"]


def test_one_owner_leaves_places_to_the_others_of_its_gateway(ada: Peer) -> None:
    """Three groups of one account took all that are stored of its gateway, and 16 more all that wait."""
    eve = gateway(ada, "eve", "cyd", "dan")
    for _ in range(2):
        for number in range(20):
            passed_on(eve, made("cyd", number, name=f"cyd's {number}"))
        ada.restart()
        eve = gateway(ada, "eve", "cyd", "dan")
    assert (groups_at(ada), waiting_at(ada)) == (["cyd's 0"], ["cyd's 1"])
    passed_on(eve, made("dan", 1, name="dan's"))
    assert groups_at(ada) == ["cyd's 0", "dan's"]
    for number in range(3):
        passed_on(eve, made("eve", number, name=f"eve's {number}"))
    assert (groups_at(ada), waiting_at(ada)) == (["cyd's 0", "dan's", "eve's 0"], ["cyd's 1", "eve's 1", "eve's 2"])


def test_one_owner_leaves_places_at_all_users_of_another_gateway() -> None:
    """Each group names another account, so all of them counted at the gateway alone."""
    ada = World().peer("ada", max_requests_a_peer=2, user_part=4)
    accounts = [Identity.from_seed(number.to_bytes(32, "big")) for number in range(1, 41)]
    for account in accounts:
        ada.put(UserHosted(HostedIdentity(account.peer_id, "account", account.sign)))
    eve = gateway(ada, "eve", "cyd", "dan")
    for owner in ("cyd", "dan"):
        for number, account in enumerate(accounts):
            passed_on(eve, made_without_ada(owner, number, account.peer_id, name=f"{owner}'s {number}"))
    stored = Counter(view.name.partition("'")[0] for view in ada.node.groups.values())
    assert stored == {"cyd": 6, "dan": 5}  # a quarter of the 26 left of 32, then of 21


def test_one_account_of_a_gateway_has_one_conversation_with_a_user() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1)
    eve = gateway(ada, "eve", "cyd", "dan")
    for run in range(9):
        eve.say(Author("cyd", f"c{run}", dm("ada", "cyd")).say("again"))
    assert [*ada.node.sync.requests._places[ada.id]] == [dm("ada", "cyd")]
    assert ada.node.sync.requests.by_id.keys() == {dm("ada", "cyd")}


def test_a_group_that_waits_is_fetched_once_its_owner_is_known_and_not_before() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = gateway(ada, "eve", "dan")
    passed_on(eve, made("eve", 1))
    frame = made("dan", 2, name="dan's")
    assert any("full" in line for line in passed_on(eve, frame))
    pen = Author("dan", "d0", frame.c)
    pen.write(*frame.e)
    assert wanted(ada, eve, pen) == []
    assert frame.c not in ada.storage.load([]).meta and len(ada.node.groups) == 1
    ada.open("dan")
    ada.say("hello", to=dm("ada", "dan"))
    assert waiting_at(ada) == []
    assert wanted(ada, eve, pen) == [frame.c]
    passed_on(eve, frame)
    assert groups_at(ada) == ["dan's", "ops"]


def test_a_group_without_a_place_to_wait_in_is_fetched_once_its_owner_is_known() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = gateway(ada, "eve", "cyd", "dan")
    for number, name in enumerate(("cyd", "dan")):
        passed_on(eve, made(name, number, name=f"{name}'s"))
    frame = made("eve", 2, name="eve's")
    passed_on(eve, frame)
    pen = Author("eve", "e0", frame.c)
    pen.write(*frame.e)
    assert (groups_at(ada), waiting_at(ada), wanted(ada, eve, pen)) == (["cyd's"], ["dan's"], [])
    ada.open("eve")
    ada.say("hello", to=dm("ada", "eve"))
    assert wanted(ada, eve, pen) == [frame.c]


def wanted(ada: Peer, far: Far, pen: Author) -> list[str]:
    """Return the conversations of which entries are requested when a peer has told its marks."""
    before = len(far.heard)
    far.say(have(pen))
    ada.world.pass_time(2)
    ada.take()
    return [frame.c for frame in list(far.heard)[before:] if isinstance(frame, Want)]


def test_what_waits_can_be_brought_by_another_peer_that_has_a_place() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = gateway(ada, "eve", "dan")
    passed_on(eve, made("eve", 1))
    frame = made("dan", 2, "bob", name="dan's")
    passed_on(eve, frame)
    assert waiting_at(ada) == ["dan's"]
    passed_on(ada.far("bob"), frame)
    assert (groups_at(ada), waiting_at(ada)) == (["dan's", "ops"], [])


def test_places_of_groups_are_the_same_after_a_restart() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = gateway(ada, "eve", "cyd", "dan")
    for number, name in enumerate(("cyd", "dan", "eve")):
        passed_on(eve, made(name, number, name=f"{name}'s"))
    for _ in range(2):
        ada.restart()
        assert (groups_at(ada), waiting_at(ada)) == (["cyd's"], ["dan's"])
        eve = gateway(ada, "eve", "cyd", "dan")
        passed_on(eve, made("eve", 3, name="eve's"))
        passed_on(eve, made("cyd", 4, name="cyd's other"))
    assert (groups_at(ada), waiting_at(ada)) == (["cyd's"], ["dan's"])


def test_the_newest_waiting_group_of_the_fullest_peer_gives_way_and_leaves_nothing() -> None:
    ada = World().peer("ada", max_requests=2, max_requests_a_peer=2)
    eve, dan = ada.far("eve"), ada.far("dan")
    for number in range(4):
        passed_on(eve, made("eve", number, name=f"{number}"))
    assert (groups_at(ada), waiting_at(ada)) == (["0", "1"], ["2", "3"])
    passed_on(dan, made("dan", 4, name="dan's"))
    assert waiting_at(ada) == ["2", "dan's"]
    stored = ada.storage.meta()
    lines = [text for name, text in stored.items() if name.startswith(GROUP_REQUEST)]
    assert len([text for text in lines if text]) == 4 and len(ada.storage.load([]).conversations) == 2
    ada.restart()
    assert (groups_at(ada), waiting_at(ada)) == (["0", "1"], ["2", "dan's"])


def test_who_writes_in_a_group_knows_its_owner_and_nobody_else() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = ada.far("eve")
    passed_on(eve, made("eve", 1, "cyd", name="one"))
    assert not {IDS["eve"], IDS["cyd"]} & {*ada.node.contacts._ids}
    [group] = ada.node.groups
    ada.say("hello", to=talk_id(group))
    assert IDS["eve"] in ada.node.contacts and IDS["cyd"] not in ada.node.contacts
    passed_on(eve, made("eve", 2, name="two"))
    assert groups_at(ada) == ["one", "two"]
    ada.restart()
    assert IDS["eve"] in ada.node.contacts and not ada.node.sync.requests.groups.by_id


def test_who_leaves_a_group_frees_its_place_and_knows_nobody() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = ada.far("eve")
    passed_on(eve, made("eve", 1, name="one"))
    [group] = ada.node.groups
    ada.put(GroupLeaveRequest(1, ada.id, group))
    ada.take()
    passed_on(eve, made("eve", 2, name="two"))
    assert groups_at(ada) == ["one", "two"] and IDS["eve"] not in ada.node.contacts


def test_groups_of_contacts_and_those_stored_before_there_were_places_need_none() -> None:
    ada = World().peer("ada", max_requests_a_peer=0)
    ada.open("bob")
    ada.say("hello", to=dm("ada", "bob"))
    bob = ada.far("bob")
    for number in range(3):
        passed_on(bob, made("bob", number))
    assert len(ada.node.groups) == 3
    old = World().peer("ada")
    eve = old.far("eve")
    passed_on(eve, made("eve", 1, name="old"))
    [group] = old.node.groups
    old.storage.commit([Change(meta={GROUP_REQUEST + group: None})])
    again = World().peer("ada", old.storage, max_requests_a_peer=1)
    eve = again.far("eve")
    passed_on(eve, made("eve", 2, name="new"))
    assert groups_at(again) == ["new", "old"]


def test_an_operation_that_names_another_user_here_needs_a_place_there() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    cyd = IDENTITIES["cyd"]
    ada.put(UserHosted(HostedIdentity(cyd.peer_id, "cyd", cyd.sign)))
    eve = ada.far("eve")
    first = made("eve", 1, name="one")
    passed_on(eve, first)
    passed_on(eve, named(made_without_ada("eve", 2, "cyd", name="two")))
    assert groups_at(ada) == ["one", "two"]
    pen = Author("eve", "e0", first.c)
    pen.write(*first.e)
    members = {IDS[each]: 1 for each in ("ada", "eve")} | {IDS["cyd"]: 2}
    eve.say(pen.write(encode_entry(Entry("group", 2, 2, b=group_body(2, "one", IDS["eve"], members, {})))))
    assert IDS["cyd"] not in ada.node.groups[first.c].members and ada.counted["group_refused"] == 1


def made_without_ada(by: str, number: int, *members: str, name: str) -> Entries:
    body = group_body(1, name, IDS[by], {IDS.get(each, each): 1 for each in (by, *members)}, {}, salt=f"{number:032x}")
    first = encode_entry(Entry("group", 1, 1, b=body))
    NAMINGS[operation_hash(first)] = Naming(group=(operation_hash(first), IDS[by], f"{by[0]}0" * 8))
    return Author(by, f"{by[0]}0", operation_hash(first)).write(first)


def test_a_group_that_its_owner_did_not_sign_does_not_wait() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = ada.far("eve")
    passed_on(eve, made("eve", 1))
    frame = made("bob", 2, name="bob's")
    passed_on(eve, msgspec.structs.replace(frame, head="00" * 64))
    assert waiting_at(ada) == []


def test_a_place_of_which_nothing_was_stored_is_free_after_a_restart() -> None:
    first = World().peer("ada")
    first.storage.commit([Change(meta={GROUP_REQUEST + "ab" * 32: f"{IDS['eve']} {START}"})])
    ada = World().peer("ada", first.storage, max_requests_a_peer=1)
    assert not ada.node.sync.requests.groups.by_id


def test_an_entry_is_stored_before_its_conversation_gives_way_to_one_named_in_the_same_read() -> None:
    """Eve mentions it first, and bob brings its entry together with the name of another one, which takes its place."""
    ada = World().peer("ada", max_requests=2)
    mention(gateway(ada, "eve", "cyd", "dan"), "cyd", "dan")
    bob = gateway(ada, "bob", "dan")
    bob.say(author("dan").say("I am dan"), author("bob").say("I am bob"))
    assert ada.texts() == ["I am dan", "I am bob"]
    ada.restart()
    assert open_at(ada) == ["bob", "dan"]


def three_groups(ada: Peer) -> tuple[Far, list[str]]:
    """Let eve's peer bring a group of cyd, dan and eve each; return its end and their ids."""
    eve = gateway(ada, "eve", "cyd", "dan")
    frames = [made(name, number, name=f"{name}'s") for number, name in enumerate(("cyd", "dan", "eve"))]
    for frame in frames:
        passed_on(eve, frame)
    return eve, [frame.c for frame in frames]


def test_the_first_groups_of_a_peer_are_stored_and_further_ones_wait_until_their_owner_is_accepted() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1)
    eve, [_, dans, _] = three_groups(ada)
    assert (groups_at(ada), waiting_at(ada)) == (["cyd's"], ["dan's", "eve's"])
    stored = ada.storage.load([])
    assert not [entry for entry in stored.group_entries if entry.log.conversation == dans]
    assert dans not in [known.id for known in stored.conversations]
    assert len(ada.node.conversations_of(ada.id)) == 2  # the room, and the talk of cyd's group
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    ada.take()
    passed_on(eve, made("dan", 1, name="dan's"))
    assert (groups_at(ada), waiting_at(ada)) == (["cyd's", "dan's"], ["eve's"])
    ada.restart()
    passed_on(gateway(ada, "eve", "dan"), made("dan", 7, name="dan's other"))
    assert groups_at(ada) == ["cyd's", "dan's", "dan's other"]


def test_a_hosted_user_chooses_which_groups_wait() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1)
    ada.put(RequestsChosen(ada.id, "known"))
    three_groups(ada)
    assert (groups_at(ada), waiting_at(ada)) == ([], ["cyd's", "dan's", "eve's"])
    bob = World().peer("ada", straight_requests_a_peer=1)
    bob.put(RequestsChosen(bob.id, "all"))
    three_groups(bob)
    assert (groups_at(bob), waiting_at(bob)) == (["cyd's", "dan's", "eve's"], [])


def test_a_waiting_group_that_was_left_is_not_listed_again() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1)
    eve, [_, dans, _] = three_groups(ada)
    ada.put(RequestLeft(ada.id, dans))
    assert waiting_at(ada) == ["eve's"]
    for _ in range(2):
        passed_on(eve, made("dan", 1, name="dan's"))
        assert (groups_at(ada), waiting_at(ada)) == (["cyd's"], ["eve's"])
        ada.restart()
        eve = gateway(ada, "eve", "dan")


def test_a_waiting_group_that_was_left_does_not_come_with_another_one_of_its_owner() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1)
    eve, [_, dans, _] = three_groups(ada)
    ada.put(RequestLeft(ada.id, dans))
    other = made("dan", 7, name="dan's other")
    passed_on(eve, other)
    assert waiting_at(ada) == ["dan's other", "eve's"]
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    for _ in range(2):
        passed_on(eve, made("dan", 1, name="dan's"))
        passed_on(eve, other)
        assert (groups_at(ada), waiting_at(ada)) == (["cyd's", "dan's other"], ["eve's"])
        ada.restart()
        eve = gateway(ada, "eve", "dan")


def test_a_group_that_one_account_left_comes_to_another_that_is_added() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    cyd = IDENTITIES["cyd"]
    ada.put(UserHosted(HostedIdentity(cyd.peer_id, "cyd", cyd.sign)))
    eve, first = ada.far("eve"), made("eve", 1, name="ops")
    passed_on(eve, first)
    ada.put(RequestLeft(ada.id, first.c))
    pen = Author("eve", "e0", first.c)
    pen.write(*first.e)
    members = {IDS[each]: 1 for each in ("ada", "eve")} | {IDS["cyd"]: 2}
    second = pen.write(encode_entry(Entry("group", 2, 2, b=group_body(2, "ops", IDS["eve"], members, {}))))
    both = msgspec.structs.replace(second, first=1, prev=first.prev, e=[*first.e, *second.e], h=first.h)
    passed_on(eve, both)
    requests = ada.node.sync.requests.groups
    assert [*requests.waiting(cyd.peer_id)] == [first.c] and not requests.waiting(ada.id)
    ada.put(RequestLeft(cyd.peer_id, first.c))
    ada.restart()
    assert ada.node.sync.requests.groups._left == {first.c: {ada.id, cyd.peer_id}}


def test_requests_that_are_over_leave_nothing_in_storage() -> None:
    """Made-up users would otherwise leave a row of 80 bytes for each conversation that gave way."""
    ada = World().peer("ada", max_requests=2, max_requests_a_peer=2, straight_requests_a_peer=0)
    eve = gateway(ada, "eve", "cyd", "dan")
    writes(eve, "cyd", "dan")
    passed_on(eve, made("eve", 1, name="one")), passed_on(eve, made("eve", 2, name="two"))
    rows = {name for name in ada.storage.meta() if name.startswith((REQUEST, GROUP_REQUEST))}
    assert len(rows) == 4
    bob = ada.far("bob")
    writes(bob, "bob")
    passed_on(bob, made("bob", 3, name="bob's"))
    ada.world.pass_time(1)
    now = {name for name in ada.storage.meta() if name.startswith((REQUEST, GROUP_REQUEST))}
    assert len(now) == 4 and len(now & rows) == 2
    ada.put(RequestAccepted(ada.id, IDS["bob"]))
    ada.world.pass_time(1)
    assert len({name for name in ada.storage.meta() if name.startswith((REQUEST, GROUP_REQUEST))}) == 2


def test_a_group_that_waits_for_long_is_forgotten_and_one_stored_as_long_ago_counts_no_more() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1, request_kept=7200)
    three_groups(ada)
    ada.world.pass_time(3 * 3600)
    ada.take()
    assert (groups_at(ada), waiting_at(ada)) == (["cyd's"], [])
    passed_on(ada.far("bob"), made("bob", 5, name="bob's"))
    passed_on(gateway(ada, "eve", "dan"), made("dan", 6, name="dan's new"))
    assert groups_at(ada) == ["bob's", "cyd's", "dan's new"]


def test_who_one_account_of_a_gateway_knows_is_unknown_to_the_others() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    cyd = IDENTITIES["cyd"]
    ada.put(UserHosted(HostedIdentity(cyd.peer_id, "cyd", cyd.sign)))
    ada.put(RequestAccepted(cyd.peer_id, IDS["eve"]))
    eve = ada.far("eve")
    passed_on(eve, made_without_ada("eve", 1, "cyd", name="for cyd"))
    assert (groups_at(ada), waiting_at(ada)) == (["for cyd"], [])
    ada.put(UserHosted(HostedIdentity(IDS["dan"], "dan", IDENTITIES["dan"].sign)))
    passed_on(eve, made_without_ada("eve", 2, "dan", name="for dan"))
    assert (groups_at(ada), waiting_at(ada)) == (["for cyd"], ["for dan"])
