"""Conversations of unknown users that wait: what is taken of them, who sees it, and how they end."""

from __future__ import annotations

import msgspec
import pytest

from p2pchat.core.effects import Effect, Released, RequestBegun
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    ConversationOpened,
    Input,
    Loaded,
    QuotaLifted,
    RequestAccepted,
    RequestsChosen,
    UserHosted,
    UserUnhosted,
    WriteRequest,
)
from p2pchat.core.log import decode_entry
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentity, Now
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.core.sync.message_requests import CHOSEN, REQUEST
from p2pchat.protocol import Digest, Entries, Have, Here, Hosted, TypingFrame, Want
from tests.core.scripted_nodes import IDENTITIES, IDS, START, Author, Far, Peer, World, dm, have

USERS = ("cyd", "dan", "eve")
DAY = 86_400.0


def gateway(ada: Peer, *users: str) -> Far:
    """Link with the peer of bob, which hosts further users."""
    far = ada.far("bob")
    certs = [make_cert(IDS[user], IDENTITIES[user].sign, IDS["bob"], START // 1000) for user in users]
    far.say(Here([Hosted(IDS[user], user, "online", cert=cert) for user, cert in zip(users, certs, strict=True)]))
    return far


def author(name: str) -> Author:
    return Author(name, name[0] + "1", dm("ada", name))


def waiting(ada: Peer) -> list[str]:
    """Return whose conversations wait, sorted, and how many messages are stored of each."""
    requests = ada.node.sync.requests
    found = {dm("ada", name): name for name in IDS}
    return sorted(f"{found[id]} {requests.by_id[id].messages}" for id in requests.waiting(ada.id))


def refused(far: Far) -> list[str]:
    """Return of whose conversations no more is taken, as the far end heard."""
    return [user for frame in far.heard if isinstance(frame, Have) for users in frame.full.values() for user in users]


def two_waiting(*, entries: int = 32, size: int = 1 << 16) -> tuple[Peer, Far, list[Author]]:
    """Return ada, a gateway of three unknown users, and their logs; dan's and eve's wait."""
    ada = World().peer("ada", straight_requests_a_peer=1, request_entries=entries, request_bytes=size)
    far = gateway(ada, *USERS)
    pens = [author(name) for name in USERS]
    for pen in pens:
        far.say(pen.say(f"I am {pen.name}"))
    return ada, far, pens


def test_the_first_conversations_of_a_peer_are_shown_and_further_ones_wait() -> None:
    ada, far, _ = two_waiting()
    assert ada.texts() == ["I am cyd"]
    assert waiting(ada) == ["dan 1", "eve 1"]
    assert ada.node.conversations_of(ada.id) == [ada.node.room, dm("ada", "cyd")]
    told = [id for frame in far.heard if isinstance(frame, Have) for id in frame.marks]
    assert {dm("ada", name) for name in USERS} <= set(told)  # all are on ada's disk, and told so


def test_those_of_all_peers_together_are_few() -> None:
    ada = World().peer("ada", straight_requests=2)
    for name in ("bob", *USERS):
        ada.far(name).say(author(name).say(f"I am {name}"))
    assert (ada.texts(), waiting(ada)) == (["I am bob", "I am cyd"], ["dan 1", "eve 1"])


def test_the_hosted_user_is_told_of_each_when_it_is_stored_at_most_20_a_second() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1)
    told: list[tuple[str, bool]] = []
    handle, names = ada.node.handle, {id: name for name, id in IDS.items()}

    def listen(input: Input, now: Now) -> list[Effect]:
        effects = handle(input, now)
        kinds = [type(each) for each in effects]
        assert RequestBegun not in kinds or isinstance(input, Committed)
        if RequestBegun in kinds and Released in kinds:
            assert kinds.index(RequestBegun) < kinds.index(Released)
        told.extend((names[each.user], each.waits) for each in effects if isinstance(each, RequestBegun))
        return effects

    ada.node.handle = listen  # type: ignore[method-assign]
    far = gateway(ada, *USERS)
    for name in USERS:
        far.say(author(name).say("hello"))
    assert told == [("cyd", False), ("dan", True), ("eve", True)]
    ada.node.sync.requests._begun.charge(20, ada.world.now.mono)
    far.say(author("bob").say("hello"))
    assert len(told) == 3 and ada.counted["request_untold"] == 1


def test_an_answer_shows_everything_in_order_before_itself() -> None:
    ada, far, (_, dan, _) = two_waiting()
    far.say(dan.say("an answer to myself", re=dan.ref(1)))
    ada.say("hello dan", to=dm("ada", "dan"))
    assert ada.texts() == ["I am cyd", "I am dan", "an answer to myself", "hello dan"]
    assert decode_entry(ada.storage.places(0, 100)[-1].raw).after == (dan.ref(2),)
    assert waiting(ada) == ["eve 1"] and IDS["dan"] in ada.node.contacts
    far.say(dan.say("good"))
    assert ada.texts()[-1] == "good"


def test_an_own_entry_that_comes_back_shows_what_waits_and_what_comes() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    far = gateway(ada, *USERS)
    far.say(author("dan").say("I am dan"))
    far.say(Author("ada", "c1", dm("ada", "dan")).say("answered before the disk was lost"))
    far.say(Author("ada", "c2", dm("ada", "cyd")).say("written before"), author("cyd").say("I am cyd"))
    assert ada.texts() == ["I am dan", "answered before the disk was lost", "written before", "I am cyd"]
    assert waiting(ada) == []


def test_who_is_accepted_is_a_contact_after_a_restart_too() -> None:
    ada, far, (_, dan, eve) = two_waiting()
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    assert ada.texts() == ["I am cyd", "I am dan"]
    ada.restart()
    assert IDS["dan"] in ada.node.contacts and waiting(ada) == ["eve 1"]
    far = gateway(ada, *USERS)
    far.say(dan.say("still me"), eve.say("me too"))
    assert ada.texts() == ["I am cyd", "I am dan", "still me"]


def test_who_is_accepted_before_the_first_message_never_waits() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    ada.restart()
    gateway(ada, *USERS).say(author("dan").say("here I am"))
    assert (ada.texts(), waiting(ada)) == (["here I am"], [])


@pytest.mark.parametrize("input", [QuotaLifted(IDS["bob"]), RequestAccepted(IDS["ada"], IDS["bob"])])
def test_whose_first_message_there_was_no_room_for_is_shown_once_known(input: Input) -> None:
    ada = World().peer("ada", straight_requests_a_peer=0, others_bytes=1)
    bob = author("bob")
    first = bob.say("I am bob")
    far = ada.far("bob", bob)
    far.say(first)
    assert refused(far) == [IDS["bob"]] and waiting(ada) == []
    ada.put(input)
    far.say(first, bob.say("and still here"))
    assert (ada.texts(), waiting(ada)) == (["I am bob", "and still here"], [])


def test_what_waits_waits_through_a_restart_and_is_shown_in_order_then() -> None:
    ada, far, (_, dan, _) = two_waiting()
    second = Author("dan", "d2", dm("ada", "dan"), before=[dan.mark])
    far.say(second.say("in a later run", after=[dan.ref(1)]))
    ada.restart()
    assert waiting(ada) == ["dan 2", "eve 1"] and ada.texts() == ["I am cyd"]
    ada.world.pass_time(400.0)
    assert ada.texts() == ["I am cyd"]
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    assert ada.texts() == ["I am cyd", "I am dan", "in a later run"]


def test_the_state_is_in_the_commit_of_the_first_entry() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    far = gateway(ada, *USERS)
    ada.holding = True
    far.say(author("dan").say("not on disk yet"))
    [commit] = [held for held in ada.held if held.change.batches]
    line = commit.change.meta[REQUEST + dm("ada", "dan")] or ""
    assert line.split()[0] == f"{IDS['bob']}@10.0.0.0/24" and not commit.change.stretches
    ada.crash()  # nothing of it was stored
    ada.holding = False
    ada.start()
    assert waiting(ada) == []


def test_a_little_is_taken_and_the_rest_comes_once_it_is_accepted() -> None:
    ada, far, (_, dan, _) = two_waiting(entries=3)
    far.say(dan.say("two", "three"))
    far.heard.clear()
    far.say(dan.say("four"))
    assert refused(far) == [IDS["dan"]] and ada.counted["request_full"] == 1
    assert waiting(ada) == ["dan 3", "eve 1"]
    far.say(have(dan))
    ada.world.pass_time(5.0)
    assert "want" not in "".join(ada.take())
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    far.say(have(dan))
    ada.world.pass_time(2.0)
    assert any(line.startswith("to bob: want") and "dm dan" in line for line in ada.take())
    assert ada.texts() == ["I am cyd", "I am dan", "two", "three"]


def test_a_batch_that_comes_first_is_taken_whole_since_its_signature_covers_all_of_it() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0, request_entries=3, request_bytes=100)
    far = gateway(ada, *USERS)
    far.say(author("dan").say(*"abcdefgh"))
    assert waiting(ada) == ["dan 8"] and refused(far) == []


def test_bytes_are_limited_too_also_after_a_restart() -> None:
    ada, far, (_, dan, _) = two_waiting(size=300)
    far.say(dan.say("x" * 100))
    ada.restart()
    far = gateway(ada, *USERS)
    far.say(dan.say("y" * 200))
    assert waiting(ada) == ["dan 2", "eve 1"] and refused(far) == [IDS["dan"]]


def test_one_that_waits_and_loses_its_place_is_deleted_and_may_come_again() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0, max_requests=2)
    far = gateway(ada, *USERS)
    cyd, dan = author("cyd"), author("dan")
    far.say(cyd.say("I am cyd"))
    far.say(dan.say("I am dan"))
    other = ada.far("eve")
    other.say(author("eve").say("I am eve"))
    assert waiting(ada) == ["cyd 1", "eve 1"] and ada.counted["request_deleted"] == 1
    assert not ada.storage.logs_of(dm("ada", "dan"), IDS["dan"])
    ada.drop(other)
    ada.restart()
    assert waiting(ada) == ["cyd 1", "eve 1"]
    again = Author("dan", "d1", dm("ada", "dan"))
    gateway(ada, "cyd")
    ada.far("dan").say(again.say("I am dan"))  # eve's peer is gone
    assert waiting(ada) == ["cyd 1", "dan 1"]


def test_one_that_is_deleted_begins_again_with_its_fork() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0, max_requests=1)
    first = author("dan")
    one = first.say("one")
    second, twin = (Author("dan", "d2", dm("ada", "dan"), before=[first.mark]) for _ in range(2))
    frames = [one, second.say("two"), twin.say("lie")]
    for deleted, name in enumerate(("dan", "eve", "dan")):  # each takes the only place of the one before
        far = gateway(ada, "dan") if name == "dan" else ada.far("eve")
        lines = [far.say(frame) for frame in (frames if name == "dan" else [author("eve").say("hello")])]
        assert (lines[-1][:2] == ["warn fork", "commit fork of d2"]) == (name == "dan")
        assert ada.counted["request_deleted"] == deleted
        ada.drop(far)
    assert waiting(ada) == ["dan 2"]


def test_one_that_waits_and_is_on_its_way_to_disk_is_deleted_when_it_is_there() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0, max_requests=1)
    far = gateway(ada, "cyd")
    ada.holding = True
    far.say(author("cyd").say("I am cyd"), author("bob").say("I am bob"))
    ada.drop(far)
    ada.far("eve").say(author("eve").say("I am eve"))
    ada.holding = False
    ada.commit()
    ada.commit()
    assert waiting(ada) == ["eve 1"]
    assert [name for name, user in IDS.items() if ada.storage.load([]).sizes.get(user)] == ["eve"]


def test_what_waits_for_30_days_is_deleted() -> None:
    ada, far, _ = two_waiting()
    ada.drop(far)
    ada.world.seconds += 30 * DAY - 7200.0
    ada.world.pass_time(3700.0)
    assert waiting(ada) == ["dan 1", "eve 1"]
    ada.world.pass_time(7200.0)
    assert waiting(ada) == [] and ada.texts() == ["I am cyd"]
    assert not any(ada.storage.load([]).sizes.get(IDS[name], 0) for name in ("dan", "eve"))
    ada.far("bob").say(author("bob").say("I am bob"))  # the first of its peer again
    assert ada.texts() == ["I am cyd", "I am bob"]


def test_with_known_all_wait_and_with_all_none(ada: Peer) -> None:
    ada.put(RequestsChosen(ada.id, "known"))
    far = gateway(ada, *USERS)
    far.say(author("cyd").say("I am cyd"))
    assert (ada.texts(), waiting(ada)) == ([], ["cyd 1"])
    ada.restart()
    assert ada.storage.meta()[CHOSEN + ada.id] == "known"
    far = gateway(ada, *USERS)
    far.say(author("dan").say("I am dan"))
    assert (ada.texts(), waiting(ada)) == ([], ["cyd 1", "dan 1"])
    ada.put(RequestsChosen(ada.id, "all"))
    assert (sorted(ada.texts()), waiting(ada)) == (["I am cyd", "I am dan"], [])
    assert IDS["cyd"] not in ada.node.contacts
    far.say(author("eve").say("I am eve"))
    assert ada.texts()[-1] == "I am eve"


def test_nobody_is_told_what_was_read_of_an_unknown_user_until_there_is_an_answer(ada: Peer) -> None:
    far = gateway(ada, *USERS)
    cyd = author("cyd")
    far.say(cyd.say("I am cyd"))
    ada.read()
    ada.world.pass_time(5.0)
    assert not any("read dm" in line for line in ada.take())
    told = ada.say("hello", to=dm("ada", "cyd"))
    ada.world.pass_time(1.0)
    assert [line for line in [*told, *ada.take()] if "read dm by ada c1:1" in line]


def test_nobody_is_shown_typing_in_a_conversation_that_waits() -> None:
    _, far, _ = two_waiting()
    assert far.say(TypingFrame(c=dm("ada", "dan"), u=IDS["dan"], on=True)) == []
    assert far.say(TypingFrame(c=dm("ada", "cyd"), u=IDS["cyd"], on=True)) != []


def hosted_too(ada: Peer, name: str) -> HostedIdentity:
    cert = make_cert(IDS[name], IDENTITIES[name].sign, ada.id, START // 1000)
    user = HostedIdentity(IDS[name], name, IDENTITIES[name].sign, cert)
    ada.put(UserHosted(user))
    return user


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
    far = gateway(ada)
    pen = Author("dan", "d0", dm("ada", "dan"))
    frame = pen.say("hello")
    far.say(frame)
    assert ada.texts() == []
    told = len(far.heard)
    cert = make_cert(IDS["dan"], IDENTITIES["dan"].sign, IDS["bob"], START // 1000)
    far.say(Here([Hosted(IDS["dan"], "dan", "online", cert=cert)]))
    ada.world.pass_time(2)
    ada.take()
    assert any(isinstance(each, Digest) for each in list(far.heard)[told:])  # it compares at once
    far.say(msgspec.structs.replace(have(pen), names=[]))
    ada.world.pass_time(2)
    ada.take()
    assert any(isinstance(each, Want) for each in list(far.heard)[told:])


def test_each_hosted_user_has_requests_of_its_own() -> None:
    ada = World().peer("ada", straight_requests_a_peer=1)
    hosted_too(ada, "eve")
    far = gateway(ada, "cyd", "dan")
    for name in ("cyd", "dan"):
        for to in ("ada", "eve"):
            far.say(Author(name, name[0] + to[0], dm(to, name)).say(f"{name} to {to}"))
    requests = ada.node.sync.requests
    assert ada.texts() == ["cyd to ada", "cyd to eve"]
    assert requests.waiting(ada.id) == [dm("ada", "dan")] and requests.waiting(IDS["eve"]) == [dm("eve", "dan")]
    ada.put(RequestAccepted(IDS["eve"], IDS["dan"]))
    assert ada.texts()[2:] == ["dan to eve"]
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    assert ada.texts()[2:] == ["dan to eve", "dan to ada"]


def test_what_waits_is_shown_in_order_once_its_writer_is_hosted_here_too() -> None:
    ada, far, (_, dan, _) = two_waiting(entries=2)
    far.say(dan.say("an answer to myself", re=dan.ref(1)))
    far.say(dan.say("more"))
    assert refused(far) == [IDS["dan"]]
    hosted_too(ada, "dan")
    assert ada.texts() == ["I am cyd", "I am dan", "an answer to myself"] and waiting(ada) == ["eve 1"]
    far.say(have(dan))
    ada.world.pass_time(2.0)
    assert any(line.startswith("to bob: want") and "dm dan" in line for line in ada.take())


def test_what_waits_for_a_user_who_is_not_hosted_now_waits_when_it_comes_back() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    for name in ("dan", "eve"):
        hosted_too(ada, name)
    gateway(ada, "cyd").say(Author("cyd", "c1", dm("eve", "cyd")).say("cyd to eve"))
    ada.put(UserUnhosted(IDS["eve"]))
    ada.put(RequestAccepted(IDS["dan"], IDS["cyd"]))
    hosted_too(ada, "eve")
    assert ada.node.sync.requests.waiting(IDS["eve"]) == [dm("eve", "cyd")] and ada.texts() == []


def test_whom_one_account_knows_the_others_do_not() -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    hosted_too(ada, "eve")
    hosted_too(ada, "cyd")
    far = gateway(ada, "dan")
    for to in ("eve", "cyd"):
        far.say(Author("dan", "d" + to[0], dm(to, "dan")).say(f"dan to {to}"))
    ada.put(RequestAccepted(IDS["eve"], IDS["dan"]))
    assert ada.texts() == ["dan to eve"] and ada.node.sync.requests.waiting(IDS["cyd"]) == [dm("cyd", "dan")]


def test_what_a_hosted_user_chose_and_accepted_outlives_a_failure_of_storage() -> None:
    ada, _, _ = two_waiting()
    storage = ada.storage.snapshot()
    ada.holding = True
    ada.put(RequestsChosen(ada.id, "known"))
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    ada.held.clear()
    ada.holding = False
    ada.put(CommitFailed(0, "no space"))
    ada.storage.restore(storage)
    ada.put(Loaded(ada.storage.load([ada.id])))
    assert ada.node.sync.requests.choice(ada.id) == "known"
    assert ada.texts() == ["I am cyd", "I am dan"] and waiting(ada) == ["eve 1"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_order_of_arrival_does_not_decide_what_is_shown(order: tuple[int, int]) -> None:
    ada = World().peer("ada", straight_requests_a_peer=0)
    far = gateway(ada, *USERS)
    dan = author("dan")
    first = dan.say("one")
    later = Author("dan", "d2", dm("ada", "dan"), before=[dan.mark]).say("two", after=[dan.ref(1)])
    frames = [first, later]
    for index in (*order, 0, 1):
        far.say(frames[index])
    ada.put(RequestAccepted(ada.id, IDS["dan"]))
    assert ada.texts() == ["one", "two"]
