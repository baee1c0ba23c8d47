"""Anti-entropy: digests, sums and marks, what they acknowledge, and hostile peers."""

from __future__ import annotations

import pytest

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import (
    ConversationOpened,
    DiskLow,
    LinkDrained,
    LinkFilled,
    QuotaLifted,
    UserHosted,
    WriteRequest,
)
from p2pchat.core.log import LogId
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.replicator import SWEPT_EVERY
from p2pchat.core.sync import conversation_state
from p2pchat.core.sync.anti_entropy import FIRST_ID, LAST_ID, NEXT_AFTER, next_id
from p2pchat.core.sync.conversation_state import LogState
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.core.sync.remote_state import (
    MAX_REMEMBERED,
    MAX_REMEMBERED_UNKNOWN,
    RemoteState,
)
from p2pchat.protocol import Digest, Have, Here, Hosted, Mark, Ping, Pong, Want
from tests.core.scripted_nodes import (
    ALL,
    IDENTITIES,
    IDS,
    ROOM,
    START,
    Author,
    Far,
    N,
    Peer,
    World,
    dm,
    have,
    page,
    sum_of_all,
    sums,
)
from tests.core.steps import count_steps


def digest(*authors: Author, ask: bool = False) -> Digest:
    return Digest(sum=sum_of_all(*authors), ask=ask)


def begin_again(peer: Peer) -> list[str]:
    """Let a peer start a comparison with all its links."""
    peer.put(DiskLow(DiskLevel.NOTHING))
    peer.put(DiskLow(DiskLevel.ENOUGH))
    return peer.take()[2:]


def test_equal_digests_are_not_answered_and_acknowledge_everything(ada: Peer) -> None:
    ada.say("hello")
    mine = Author("ada", "a1")
    mine.write(*(shown.raw for shown in ada.storage.places(0, 9)))
    assert ada.far("bob").say(digest(mine)) == ["delivered a1:1..2 to bob"]


def test_an_equal_digest_that_asks_is_answered_with_our_digest() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("hi"))
    assert far.say(digest(bob, ask=True)) == ["to bob: digest"]


def test_two_comparisons_serve_any_number_of_lifted_limits() -> None:
    """62 calls of allow() in a mesh of 64 peers began 62 comparisons with each link: 200 s of computation."""
    world = World()
    ada, bob = world.peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(digest(bob))
    world.pass_time(10.0)
    ada.take()
    before = ada.node.replicator.context.remotes[far.link].comparison.number
    for name in ("bob", "cyd", "dan", "eve"):
        ada.put(QuotaLifted(IDS[name]))
    world.pass_time(10.0)
    assert ada.node.replicator.context.remotes[far.link].comparison.number == before + 2


def test_a_different_digest_is_answered_with_sums_and_different_sums_with_marks() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.say("hello")
    far = ada.far("bob")
    bob.say("hi")
    assert far.say(digest(bob)) == ["to bob: sums of 1"]
    assert far.say(sums(bob)) == ["to bob: have room ada a1:2 all ask"]
    assert far.say(page(bob)) == ["to bob: want 1 room bob from nothing"]


def test_an_equal_sum_among_others_acknowledges_its_conversation(ada: Peer) -> None:
    ada.say("hello")
    mine = Author("ada", "a1")
    mine.write(*(shown.raw for shown in ada.storage.places(0, 9)))
    ada.say("psst", to=ada.open("bob"))
    assert "delivered a1:1..2 to bob" in ada.far("bob").say(sums(mine))


def test_conversations_of_known_users_are_compared_before_the_room() -> None:
    """The room may have thousands of logs of made-up users; the order of ids is chance."""
    dan = World().peer("dan")
    dan.say("hello")
    with_bob = dan.open("bob")
    dan.say("psst", to=with_bob)
    assert with_bob > ROOM
    far = dan.far("bob")
    empty = Digest(sums={}, span=ALL)
    assert far.say(empty) == ["to bob: have dm dan d1:1 all ask", "to bob: have room dan d1:2 all ask"]


def room_of(peer: Peer, *names: str) -> Far:
    """Have a peer and these users write to the room; return the link to bob."""
    peer.say("hello")
    far = peer.far("bob")
    far.say(*(Author(name, name[0] + "1").say("word") for name in names))
    far.heard.clear()
    return far


def pages_heard(far: Far) -> list[Have]:
    """Answer pings until no more pages come; return all of them."""
    pages = list[Have]()
    while heard := [frame for frame in far.heard if isinstance(frame, Have)]:
        pages += heard
        far.heard.clear()
        far.say(Pong())
    return pages


def remote_of(peer: Peer) -> RemoteState:
    """Return what a peer keeps of its only link."""
    (remote,) = peer.node.replicator.context.remotes.values()
    return remote


def marks_heard(far: Far) -> list[str]:
    """Return what of a comparison a link was sent: the size of each page of marks, whether it asks, and pings."""
    said = []
    for frame in far.heard:
        if isinstance(frame, Have) and frame.span is not None:
            ((id, users),) = frame.marks.items()
            said.append(f"{len(users)} of {'room' if id == ROOM else 'dm'}" + frame.ask * " ask")
        elif isinstance(frame, Ping):
            said.append("ping")
    far.heard.clear()
    return said


def test_marks_of_many_writers_go_page_by_page_so_that_nothing_waits_behind_them() -> None:
    """What is asked about a direct conversation, and what is written there, would wait behind all of them."""
    ada = World().peer("ada", page_marks=2)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    with_bob = ada.open("bob")
    ada.say("psst", to=with_bob)
    far.say(Digest(sums={}, span=ALL))
    assert marks_heard(far) == ["1 of dm ask"]
    ada.world.pass_time(0.0)
    assert marks_heard(far) == ["2 of room ask", "ping"]
    ada.world.pass_time(0.5)
    assert marks_heard(far) == []  # bob has more to do than to read it
    far.say(Pong())
    assert marks_heard(far) == ["2 of room ask", "ping"]
    far.say(Pong())
    assert marks_heard(far) == ["1 of room ask"]


def test_pages_that_go_out_answer_what_is_asked_and_ask_for_nothing_that_came() -> None:
    """Both ends ask about what differs, and each mark would go over the link twice."""
    ada = World().peer("ada", page_marks=2)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    far.say(Digest(sums={}, span=ALL))
    far.say(Have({ROOM: {}}, span=ALL, ask=True))
    ada.world.pass_time(0.0)
    far.say(Pong())
    far.say(Pong())
    assert marks_heard(far) == ["2 of room", "ping", "2 of room", "ping", "1 of room"]
    far.say(Have({ROOM: {}}, span=ALL, ask=True))
    ada.world.pass_time(0.0)
    assert marks_heard(far) == ["2 of room", "ping"]  # all were sent, and it asks again
    whole = sorted(IDS[name] for name in ("ada", "bob", "cyd", "dan", "eve"))
    far.say(Have({ROOM: {}}, span=(whole[2], whole[3]), ask=True))
    assert marks_heard(far) == []


def test_answers_to_several_pages_follow_each_other() -> None:
    ada = World().peer("ada", page_marks=1)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    users = sorted(IDS.values())
    far.say(Have({ROOM: {}}, span=(FIRST_ID, users[1]), ask=True))
    far.say(Have({ROOM: {}}, span=(next_id(users[1]), LAST_ID), ask=True))
    ada.world.pass_time(0.0)
    spans = [frame.span or ALL for frame in pages_heard(far)]
    assert [span[0] for span in spans] == [FIRST_ID, *(next_id(span[1]) for span in spans[:-1])]
    assert [span[1] for span in spans] == [*users[:-1], LAST_ID]


def test_a_peer_that_asks_page_by_page_and_never_answers_takes_no_more_memory() -> None:
    ada = World().peer("ada", page_marks=2)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    whole = sorted(IDS.values())
    far.say(Have({ROOM: {}}, span=(FIRST_ID, whole[2]), ask=True))
    end = whole[2]
    for _ in range(50):
        far.say(Have({ROOM: {}}, span=(next_id(end), next_id(end)), ask=True))
        end = next_id(end)
    for _ in range(50):
        far.say(Have({ROOM: {}}, span=(LAST_ID, LAST_ID), ask=True))
    ada.world.pass_time(0.0)
    listing = remote_of(ada).listings.by_conversation[ROOM]
    assert listing.span == ALL and [*listing.ends] == [whole[2]]
    assert marks_heard(far) == ["2 of room", "ping"]


def test_to_widen_the_span_of_pages_that_go_out_takes_as_long_as_to_ask_within_it() -> None:
    """The pages were chosen anew for each ask: 1.7 ms with 10,000 writers."""
    ada = World().peer("ada", page_marks=1)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    whole = sorted(IDS.values())

    def ask(start: str, end: str) -> int:
        return count_steps(lambda: far.say(Have({ROOM: {}}, span=(start, end), ask=True)))

    far.say(Have({ROOM: {}}, span=(whole[0], whole[1]), ask=True))
    ask(whole[0], whole[1])
    within = ask(whole[0], whole[1])
    assert ask(next_id(whole[1]), whole[2]) == within
    assert ask(whole[3], whole[4]) == within
    assert ask(LAST_ID, LAST_ID) == within
    ada.world.pass_time(0.0)
    frames = pages_heard(far)
    assert [frame.marks[ROOM].keys() for frame in frames] == [{user} for user in whole]
    spans = [frame.span or ALL for frame in frames]
    assert [span[0] for span in spans] == [whole[0], *(next_id(span[1]) for span in spans[:-1])]
    assert spans[-1][1] == LAST_ID


def test_a_small_span_takes_as_long_however_many_write() -> None:
    """All writers were looked through for each ask: 10 ms with 30,000."""
    ada = World().peer("ada", page_marks=100)
    far, here = room_of(ada, "bob"), ada.node.replicator.conversations[ROOM]

    def ask(writers: int) -> int:
        for number in range(len(here.writers), writers):
            log = LogState(here, LogId(ROOM, f"{number:016x}" * 4, "f1" * 8))
            log.chain = log.durable_chain = bytes(32)
            log.seq = log.durable_seq = log.released = 1
            here.refresh_sum(here.add(log))
        span = (IDS["bob"], IDS["bob"])
        far.say(Have({ROOM: {}}, span=span, ask=True))
        return count_steps(lambda: far.say(Have({ROOM: {}}, span=span, ask=True)))

    assert ask(2_000) < 2 * ask(200)
    assert marks_heard(far) == ["1 of room"] * 4


def test_what_is_asked_beyond_pages_that_go_out_goes_page_by_page() -> None:
    """It went all at once: ten pages of 10,000 marks."""
    ada = World().peer("ada", page_marks=2)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    whole = sorted(IDS.values())
    far.say(Have({ROOM: {}}, span=(whole[1], whole[3]), ask=True))
    ada.world.pass_time(0.0)
    assert marks_heard(far) == ["2 of room", "ping"]
    far.say(Have({ROOM: {}}, span=ALL, ask=True))
    assert marks_heard(far) == []
    far.say(Pong())
    assert marks_heard(far) == ["2 of room", "ping"]
    for start in (FIRST_ID, whole[1], whole[4]):  # it began anew, and does so only once
        far.say(Have({ROOM: {}}, span=(start, LAST_ID), ask=True))
    assert marks_heard(far) == []
    far.say(Pong()), far.say(Pong())
    frames = pages_heard(far)
    assert [frame.span for frame in frames] == [(next_id(whole[1]), whole[3]), (next_id(whole[3]), LAST_ID)]
    assert [user for frame in frames for user in frame.marks[ROOM]] == whole[2:]


def test_another_comparison_begins_the_pages_anew() -> None:
    ada = World().peer("ada", page_marks=2)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    far.say(Digest(sums={}, span=ALL))
    ada.world.pass_time(0.0)
    far.say(Pong())
    assert marks_heard(far) == ["2 of room ask", "ping", "2 of room ask", "ping"]
    far.say(Digest(sums={}, span=ALL))  # the same comparison: bob repeats his digest
    begin_again(ada)
    far.say(Digest(sums={}, span=ALL))
    far.heard.clear()
    far.say(Pong())
    assert marks_heard(far) == ["2 of room ask", "ping"]
    far.say(Pong())
    far.say(Pong())
    assert marks_heard(far) == ["2 of room ask", "ping", "1 of room ask"]


def test_pages_wait_for_a_full_link() -> None:
    ada = World().peer("ada", page_marks=2)
    far = room_of(ada, "bob", "cyd")
    far.say(Digest(sums={}, span=ALL))
    ada.world.pass_time(0.0)
    assert marks_heard(far) == ["2 of room ask", "ping"]
    ada.put(LinkFilled(far.link))
    far.say(Pong())
    ada.world.pass_time(1.0)
    assert marks_heard(far) == []
    ada.put(LinkDrained(far.link))
    ada.world.pass_time(1.0)
    assert "1 of room ask" in marks_heard(far)


def test_a_peer_that_no_longer_lists_a_writer_holds_nothing_of_it(ada: Peer) -> None:
    ada.say("hello")
    mine = Author("ada", "a1")
    mine.write(*(shown.raw for shown in ada.storage.places(0, 9)))
    far = ada.far("bob")
    far.say(page(mine)), far.say(page())
    assert ada.say("again")[2:] == ["to bob: have room ada a1:3"]


def test_a_page_that_asks_is_answered_with_the_same_span(ada: Peer) -> None:
    ada.say("hello")
    far = ada.far("bob")
    nobody = Have({ROOM: {}}, span=(FIRST_ID, IDS["ada"]), ask=True)
    assert far.say(nobody) == ["to bob: have room ada a1:2 part"]
    assert far.say(page(ask=True)) == ["to bob: have room ada a1:2 all"]


def test_the_digest_is_repeated_until_everything_is_compared() -> None:
    ada, bob = World().peer("ada", digest_every=1000.0), Author("bob", "b1")
    bob.say("hi")
    far = ada.far("bob")
    assert begin_again(ada) == ["to bob: digest"]
    ada.world.pass_time(3.1)
    assert ada.take() == ["to bob: digest ask"] * 2
    far.say(sums(), page())
    ada.world.pass_time(20.0)
    assert ada.take() == []


def test_a_peer_that_caught_up_after_its_digest_is_asked_for_a_new_one() -> None:
    ada, mine = World().peer("ada", digest_every=1000.0), Author("ada", "a1")
    ada.say("hello")
    mine.write(*(shown.raw for shown in ada.storage.places(0, 9)))
    far = ada.far("bob", compared=False)
    assert far.say(digest()) == ["to bob: sums of 1"]
    ada.world.pass_time(1.1)  # the entries came from a third peer, so the sums are equal: no answer
    assert ada.take() == ["to bob: digest ask"]
    assert "delivered a1:1..2 to bob" in far.say(digest(mine))
    ada.world.pass_time(20.0)
    assert ada.take() == []


def test_announcing_users_repeatedly_keeps_one_digest_timer() -> None:
    ada = World().peer("ada", digest_every=1000.0)
    ada.far("bob")
    for _ in range(100):
        begin_again(ada)
    ada.world.pass_time(1.1)
    assert ada.take() == ["to bob: digest ask"]


def arrived(name: str) -> Here:
    """A user comes to bob, with a certificate."""
    cert = make_cert(N, IDS[name], IDENTITIES[name].sign, IDS["bob"], START // 1000)
    return Here([Hosted(IDS[name], name, "online", cert=cert)])


def test_users_who_come_during_a_comparison_get_the_next_one() -> None:
    ada = World().peer("ada", digest_every=1000.0)
    ada.open("cyd"), ada.open("dan")
    far = ada.far("bob")
    begin_again(ada)
    for name in ("cyd", "dan"):
        assert "to bob: digest ask" not in far.say(arrived(name))
    far.say(sums(), page())
    ada.world.pass_time(0.5 * NEXT_AFTER)
    assert [line for line in ada.take() if not line.startswith("commit")] == []
    ada.world.pass_time(0.6 * NEXT_AFTER)
    assert ada.take() == ["to bob: digest ask"]
    far.say(sums(), page())
    ada.world.pass_time(20.0)
    assert [line for line in ada.take() if not line.startswith("commit")] == []


def test_users_who_come_just_after_a_comparison_share_the_next_one() -> None:
    ada = World().peer("ada", digest_every=1000.0)
    ada.open("cyd"), ada.open("dan")
    far = ada.far("bob")
    begin_again(ada)
    far.say(sums(), page())
    for name in ("cyd", "dan"):
        assert "to bob: digest" not in far.say(arrived(name))
        ada.world.pass_time(0.4 * NEXT_AFTER)
    ada.take()
    ada.world.pass_time(0.3 * NEXT_AFTER)
    assert ada.take() == ["to bob: digest ask"]
    far.say(sums(), page())
    ada.world.pass_time(20.0)
    assert [line for line in ada.take() if not line.startswith("commit")] == []


def test_each_link_gets_a_digest_now_and_then_before_any_gets_a_second() -> None:
    ada = World().peer("ada", dead_after=1e6, ping_after=1e5)
    for name in ("bob", "cyd", "dan"):
        ada.far(name)
    ada.world.pass_time(300.0)
    lines = [line for line in ada.take() if line.endswith(": digest")]
    rounds = [lines[start : start + 3] for start in range(0, len(lines) - 2, 3)]
    assert len(rounds) > 5
    assert all(sorted(one) == ["to bob: digest", "to cyd: digest", "to dan: digest"] for one in rounds)


def test_marks_come_in_pages_that_together_cover_all_users() -> None:
    ada = World().peer("ada", page_marks=2)
    far = room_of(ada, "bob", "cyd", "dan", "eve")
    far.say(page(ask=True))
    ada.world.pass_time(0.0)
    frames = pages_heard(far)
    spans = [frame.span for frame in frames]
    assert [span[0] for span in spans if span] == [FIRST_ID] + [next_id(span[1]) for span in spans[:-1] if span]
    assert spans[-1] is not None and spans[-1][1] == LAST_ID
    assert [user for frame in frames for user in frame.marks[ROOM]] == sorted(IDS.values())


@pytest.mark.parametrize(
    "frame",
    [
        Digest(sums={}, span=(IDS["ada"], LAST_ID)),
        Digest(sums={}, span=(LAST_ID, LAST_ID)),
        Digest(sums={"00" * 32: f"{5:064x}"}, span=ALL),
        Have({ROOM: {}}, span=(LAST_ID, LAST_ID), ask=True),
        Have({"00" * 32: {}}, span=ALL, ask=True),
        Have({}, end=77),
    ],
)
def test_pages_out_of_order_or_of_nothing_shared_do_no_harm(ada: Peer, frame: Digest | Have) -> None:
    far = ada.far("bob", compared=False)
    far.say(frame, sums(), page())
    assert ada.say("hello")[-1] == "to bob: entries room a1:1..2"


def test_a_full_link_is_sent_no_digest_and_no_answer() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.say("hello")
    far = ada.far("bob")
    ada.put(LinkFilled(far.link))
    bob.say("hi")
    assert far.say(digest(bob), sums(bob), page(ask=True)) == []


def test_announced_entries_are_wanted_after_a_second_if_their_writer_is_linked(ada: Peer) -> None:
    bob, cyd, dan = Author("bob", "b1"), Author("cyd", "c1"), Author("dan", "d1")
    far = ada.far("bob")
    ada.far("cyd")
    hi, _, _ = bob.say("hi"), cyd.say("ho"), dan.say("hey")
    assert far.say(have(bob, cyd, dan)) == ["to bob: want 1 room dan from nothing"]
    far.say(hi)
    ada.world.pass_time(1.1)
    assert [line for line in ada.take() if "want" in line] == ["to bob: want 2 room cyd from nothing"]


@pytest.mark.parametrize(("known", "most"), [(False, MAX_REMEMBERED_UNKNOWN), (True, MAX_REMEMBERED)])
def test_marks_of_missing_entries_are_limited(ada: Peer, known: bool, most: int) -> None:
    far = ada.far("eve")
    if known:
        ada.put(QuotaLifted(IDS["eve"]))
        ada.take()
    for n in range(0, 2 * MAX_REMEMBERED, 500):
        users = {f"{user:016x}" * 4: [Mark("00" * 8, 1, "00" * 32)] for user in range(n, n + 500)}
        far.peer.put_frames(far, Have({ROOM: users}))
    (remote,) = ada.node.replicator.context.remotes.values()
    assert [len(remote.ahead_refs), len(remote.ahead), len(remote.acked)] == [most, most, 0]
    far.say(page())
    assert [len(remote.ahead_refs), len(remote.ahead), len(remote.acked)] == [0, 0, 0]


def test_refusals_of_a_link_are_limited() -> None:
    ada = World().peer("ada")
    far = ada.far("eve")
    for n in range(0, 2 * MAX_REMEMBERED_UNKNOWN, 500):
        far.peer.put_frames(far, Have({}, full={ROOM: [f"{user:016x}" * 4 for user in range(n, n + 500)]}))
    (remote,) = ada.node.replicator.context.remotes.values()
    assert len(remote.refusals) == MAX_REMEMBERED_UNKNOWN


def test_a_mark_of_a_covered_log_is_not_wanted() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("one"))
    far.say(Author("bob", "b2", before=[bob.mark]).say("two"))
    assert far.say(page(bob)) == []


def test_conversations_named_by_a_link_end_with_it_and_opened_ones_stay(ada: Peer) -> None:
    opened, named = ada.open("bob"), dm("ada", "cyd")
    far = ada.far("cyd")
    cyd = Author("cyd", "c1", named)
    cyd.say("never sent")
    far.say(have(cyd))
    assert {opened, named} <= ada.node.replicator.conversations.keys()
    ada.drop(far)
    ada.world.pass_time(SWEPT_EVERY)
    assert [opened in ada.node.replicator.conversations, named in ada.node.replicator.conversations] == [True, False]


def test_nothing_is_pushed_before_the_first_comparison_is_over(ada: Peer) -> None:
    far = ada.far("bob", compared=False)
    assert ada.say("hello")[-1] == "to bob: have room ada a1:2"
    far.say(sums(), page())
    assert ada.say("again")[-1] == "to bob: have room ada a1:3"
    assert far.say(Want(1, ROOM, IDS["ada"], []))[1:] == [
        "to bob: entries room a1:1..3, for want 1",
        "to bob: have room ada a1:3 end 1",
    ]
    assert ada.say("now")[-1] == "to bob: entries room a1:4..4"


def test_after_comparing_an_empty_room_later_entries_are_news() -> None:
    ada, cyd = World().peer("ada"), Author("cyd", "c1")
    far = ada.far("bob", compared=False)
    far.say(Digest(sums={}, span=ALL))  # the totals differ, by a conversation that is not shared yet
    said = cyd.say("later")
    far.say(have(cyd), said)
    assert ada.texts() == ["later"]


def test_who_asks_for_marks_many_times_at_once_is_answered_once_the_link_may_have_taken_them() -> None:
    """A link says that it is full only after the step."""
    ada, bob = World().peer("ada", buffer_limit_bytes=1), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("hi"))
    assert far.say(*[page(bob, ask=True)] * 3) == ["to bob: have room bob b1:1 all"]
    assert far.say(*[Digest(sum="ab" * 32)] * 3) == ["to bob: sums of 1"]
    assert far.say(page(bob, ask=True)) == ["to bob: have room bob b1:1 all"]


def test_an_equal_sum_counts_again_for_a_user_who_is_hosted_at_both_ends() -> None:
    """It says what the other peer holds of that user's logs, too, so what the user writes here next is sent at once."""
    world = World()
    ada, bob = world.peer("ada", digest_every=2.0), world.peer("bob", digest_every=2.0)
    world.link(ada, bob)
    naming = dm_naming(ada.id, bob.id)
    bob.put(ConversationOpened(naming))
    bob.put(WriteRequest(1, bob.id, dm_id(ROOM, ada.id, bob.id), "text", ["psst"]))
    world.pass_time(10.0)
    ada.put(UserHosted(HostedIdentity(bob.id, "bob", IDENTITIES["bob"].sign)))
    world.pass_time(10.0)
    ada.take(), bob.take()
    ada.put(WriteRequest(2, bob.id, dm_id(ROOM, ada.id, bob.id), "text", ["pssst"]))
    world.settle()
    sent = [line for line in ada.take() if line.startswith("to bob: ")]
    assert sent == ["to bob: entries dm a1:1..1"]


def test_two_sets_whose_hashes_have_one_total_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes many logs finds such sets (Wagner, 2002), and hid what another wrote. Here hashes have 8 bits."""
    monkeypatch.setattr(
        conversation_state, "mark_hash", lambda log, seq, chain: bytes.fromhex(log.run[:2]).rjust(32, b"\0")
    )
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    for peer, runs in ((ada, ("01", "04")), (bob, ("02", "03"))):
        far = peer.far("eve")
        far.say(*(Author(name, run).say(run) for name, run in zip(("cyd", "dan"), runs, strict=True)))
        peer.drop(far)
    world.link(ada, bob)
    world.pass_time(60.0)
    assert [sorted(peer.texts()) for peer in (ada, bob)] == [["01", "02", "03", "04"]] * 2
