"""One link per pair of peers, from its first frame to the goodbye."""

from __future__ import annotations

from typing import TypeVar

import pytest

from p2pchat.core.effects import (
    Close,
    Counted,
    Dial,
    Effect,
    Established,
    LinkChanged,
    NodeStopped,
    PauseReading,
    Send,
    WarningIssued,
)
from p2pchat.core.inputs import Connect, DialFailed, Faulted, LinkAccepted, LinkDialled, LinkDown, Paused, Stop
from p2pchat.core.mesh.election import FollowerState, GoVerdict, follower_take_go
from p2pchat.core.mesh.peer_link import NOT_THE_ONE_KNOWN
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.protocol import (
    Admit,
    Bye,
    Frame,
    Go,
    Have,
    Hello,
    Peers,
    Ping,
    Pong,
    Show,
    TypingFrame,
    Unknown,
    Welcome,
)
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import HOST, Draws, K, Key, Meeting, N, Post, byes, link_changes, peers_in_order

D, F = peers_in_order("ada", "bob")
T = TypeVar("T")
ENDPOINT = "10.0.0.9:8080"


def meeting(settings: Settings | None = None) -> Meeting:
    return Meeting(Post(D, settings=settings), Post(F, settings=settings))


def linked() -> tuple[Meeting, int]:
    """Return D and F with one link, dialled by F."""
    met = meeting()
    link = met.connect(met.b)
    met.take(met.a)
    met.take(met.b)
    return met, link


def dials(effects: list[Effect]) -> list[Dial]:
    return [effect for effect in effects if isinstance(effect, Dial)]


def sent(effects: list[Effect], kind: type[T]) -> list[T]:
    return [effect.frame for effect in effects if isinstance(effect, Send) and isinstance(effect.frame, kind)]


# ---- coming up


@pytest.mark.parametrize("dialler", ["decider", "follower"])
def test_the_smaller_id_sends_go_whichever_side_dialled(dialler: str) -> None:
    met = meeting()
    link = met.connect(met.a if dialler == "decider" else met.b)
    by_d, by_f = met.take(met.a), met.take(met.b)
    assert sent(by_d, Go) == [Go(met.a.run, 1)]
    assert sent(by_f, Go) == []
    assert Established(link) in by_d
    assert Established(link) in by_f
    assert (met.a.heard, met.b.heard) == ([("up", F.id, "")], [("up", D.id, "")])
    assert met.a.links.by_peer[F.id].id == met.b.links.by_peer[D.id].id == link


def test_f_says_nothing_on_a_new_link_before_go() -> None:
    met = meeting()
    (dial,) = dials(met.b.handle(Connect(ENDPOINT)))
    (hello,) = sent(met.a.handle(LinkAccepted(1, HOST)), Hello)
    met.b.handle(LinkDialled(1, dial.dial, D.id, HOST))
    assert isinstance(hello, Hello)
    (answer,) = sent(met.b.got(1, hello), Hello)
    assert isinstance(answer, Hello)
    (welcome,) = sent(met.a.got(1, answer), Welcome)
    (show,) = sent(met.b.got(1, welcome), Frame)
    assert isinstance(show, Show) and not met.b.links.up
    admit, go = sent(met.a.got(1, show), Frame)[:2]
    assert met.b.got(1, admit)[1:] == [] and not met.b.links.up
    assert sent(met.b.got(1, go), Peers)


def test_frames_after_go_in_one_read_are_returned_in_order() -> None:
    met, link = linked()
    typing = TypingFrame(c="00" * 32, u=F.id, on=True)
    assert met.a.links.on_frames(link, [typing, Ping(), Unknown("later"), typing]) == [typing, typing]
    met.a.links.settle(link)
    assert met.a.ctx.out == [Send(Pong(), [link]), Counted("unknown_frame")]


def test_crossing_dials_end_with_one_link_and_one_report() -> None:
    met = meeting()
    (by_d,) = dials(met.a.handle(Connect(ENDPOINT)))
    (by_f,) = dials(met.b.handle(Connect(ENDPOINT)))
    met.reach(met.a, by_d)
    last = met.reach(met.b, by_f)
    for post in (met.a, met.b):
        assert [link.id for link in post.links.up.values()] == [last]
        changes = [effect for effect in met.take(post) if isinstance(effect, LinkChanged)]
        assert {change.state for change in changes} == {"up"}
        assert [change.endpoint for change in changes if change.endpoint] == [ENDPOINT]
    assert [what for what, _, reason in met.b.heard if reason != "replaced"] == ["up", "up"]


def test_a_redial_replaces_a_dead_link_at_both_ends() -> None:
    met, dead = linked()
    met.a.at(20.0)
    met.b.at(20.0)
    effects = met.b.handle(LinkDown(dead, "lost"))  # only F has noticed
    assert link_changes(effects) == [("down", "lost")]
    (dial,) = dials(met.b.wake(21.0))
    met.a.at(21.0)
    link = met.reach(met.b, dial)
    assert list(met.a.links.up) == list(met.b.links.up) == [link]
    assert met.a.heard[-2:] == [("down", F.id, "replaced"), ("up", F.id, "")]


def test_of_one_run_the_larger_number_stays() -> None:
    current = FollowerState(link=1, run="aa" * 8, n=5, begun=1)
    assert follower_take_go(current, 2, 2, "aa" * 8, 4) == GoVerdict(current, closes=2)
    assert follower_take_go(current, 2, 2, "aa" * 8, 6) == GoVerdict(FollowerState(2, "aa" * 8, 6, 2), closes=1)


def test_of_two_runs_the_one_with_the_later_link_stays() -> None:
    current = FollowerState(link=2, run="bb" * 8, n=1, begun=2)
    assert follower_take_go(current, 1, 1, "aa" * 8, 9) == GoVerdict(current, closes=1)
    assert follower_take_go(current, 3, 3, "aa" * 8, 1) == GoVerdict(
        FollowerState(3, "aa" * 8, 1, 3, ("bb" * 8,)), closes=2
    )


def test_a_second_go_and_a_go_from_f_are_faults() -> None:
    met, link = linked()
    assert byes(met.b.got(link, Go("00" * 8, 2))) == [Bye("order", "go may not come now")]
    assert byes(met.a.got(link, Go("00" * 8, 2))) == [Bye("order", "go may not come now")]


# ---- refusals


def test_strangers_get_a_bye_and_are_not_reported() -> None:
    met = Meeting(Post(D), Post(F, network=NetworkCredentials(N, "0d" * 32)))
    met.connect(met.b)
    assert not met.a.links.up
    assert link_changes(met.take(met.a)) == []
    assert link_changes(met.take(met.b)) == [
        ("refused", "it belongs to another network: join that with its invite, or check yours")
    ]


def test_a_refusal_is_reported_once_while_dialling_continues() -> None:
    met = Meeting(Post(D), Post(F, network=NetworkCredentials(N, "0d" * 32)))
    met.connect(met.b)
    (dial,) = dials(met.b.wake(0.2))
    met.reach(met.b, dial)
    assert len(link_changes(met.take(met.b))) == 1
    assert dials(met.b.wake(1.0))


def test_another_key_than_the_pin_gets_not_one_frame() -> None:
    post = Post(D)
    (dial,) = dials(post.handle(Connect(ENDPOINT, F.id)))
    effects = post.handle(LinkDialled(1, dial.dial, Key("eve").id, HOST))
    assert [e for e in effects if isinstance(e, (Send, Close))] == [Close(1)]
    assert link_changes(effects) == [("refused", NOT_THE_ONE_KNOWN)]


def test_an_endpoint_that_is_this_peer_itself_is_dialled_once() -> None:
    post = Post(D)
    (dial,) = dials(post.handle(Connect(ENDPOINT)))
    assert link_changes(post.handle(LinkDialled(1, dial.dial, D.id, HOST))) == [("refused", "that is this peer itself")]
    assert dials(post.wake(1000.0)) == []


def test_one_peer_too_many_is_refused_as_busy() -> None:
    small = Settings(max_links=1)
    d, f, g = peers_in_order("ada", "bob", "cyd")
    host = Post(d, settings=small)
    Meeting(host, Post(f)).connect(host)
    second = Meeting(host, Post(g))
    second._links = 10
    second.connect(second.b)
    assert list(host.links.by_peer) == [f.id]
    assert link_changes(second.take(second.b)) == [("refused", "it has as many links as it takes; trying on")]


def test_a_handshake_has_ten_seconds() -> None:
    post = Post(D)
    post.handle(LinkAccepted(1, HOST))
    assert byes(post.wake(9.9)) == []
    assert byes(post.wake(10.1)) == [Bye("error", "the handshake took too long")]


def test_the_time_of_the_tls_handshake_counts() -> None:
    post = Post(D)
    post.handle(LinkAccepted(1, HOST, took=6.0))
    assert byes(post.wake(3.9)) == []
    assert byes(post.wake(4.1)) == [Bye("error", "the handshake took too long")]


def test_a_go_that_does_not_come_within_ten_seconds_ends_the_link() -> None:
    met = meeting()
    (dial,) = dials(met.b.handle(Connect(ENDPOINT)))
    (hello,) = sent(met.a.handle(LinkAccepted(1, HOST)), Hello)
    met.b.handle(LinkDialled(1, dial.dial, D.id, HOST))
    assert isinstance(hello, Hello)
    (answer,) = sent(met.b.got(1, hello), Hello)
    assert isinstance(answer, Hello)
    (welcome,) = sent(met.a.got(1, answer), Welcome)
    (show,) = sent(met.b.got(1, welcome), Show)
    (admit,) = sent(met.a.got(1, show), Admit)
    met.b.wake(5.0)
    met.b.got(1, admit)
    assert byes(met.b.wake(14.9)) == []
    assert len(byes(met.b.wake(15.1))) == 1


# ---- silence, pings and floods


def test_silence_is_asked_after_ten_seconds_and_ends_after_thirty() -> None:
    met, link = linked()
    assert sent(met.a.wake(9.9), Ping) == []
    assert sent(met.a.wake(10.1), Ping) == [Ping()]
    assert sent(met.a.wake(29.9), Ping) == [Ping()]
    effects = met.a.wake(30.1)
    assert Close(link) in effects
    assert met.a.heard[-1] == ("down", F.id, "timeout")
    assert link_changes(effects)[0][0] == "down"


def test_any_byte_is_a_sign_of_life() -> None:
    met, link = linked()
    met.a.wake(25.0)
    met.a.got(link)  # a read without a whole frame
    met.a.wake(50.0)
    assert met.a.heard[-1] == ("up", F.id, "")
    met.a.wake(55.1)
    assert met.a.heard[-1] == ("down", F.id, "timeout")


def post_with_links(key: Key, *fars: Key) -> Post:
    """Return a post whose links 1, 2 and 3 came up at 0, 0.9 and 2 s."""
    post = Post(key)
    for number, (far, came_at) in enumerate(zip(fars, (0.0, 0.9, 2.0), strict=True), 1):
        post.at(came_at)
        met = Meeting(post, Post(far))
        met._links = number - 1
        met.b.at(came_at)
        met.connect(met.b)
    return post


def pinged(effects: list[Effect]) -> list[list[int]]:
    return [list(effect.links) for effect in effects if isinstance(effect, Send) and isinstance(effect.frame, Ping)]


def test_links_that_fall_silent_within_a_second_are_pinged_together() -> None:
    post = post_with_links(*peers_in_order("ada", "bob", "cyd", "dan"))
    assert pinged(post.wake(21.5)) == [[1, 2], [3], [1, 2]]
    post.at(22.0)
    post.got(2)
    post.wake(30.0)
    assert list(post.links.up) == [2, 3]
    post.wake(32.0)
    assert list(post.links.up) == [2]


def test_the_larger_id_of_two_pings_up_to_a_second_later() -> None:
    *fars, largest = peers_in_order("ada", "bob", "cyd", "dan")
    post = post_with_links(largest, *fars)
    assert pinged(post.wake(10.95)) == [[1]]
    assert pinged(post.wake(12.0)) == [[2], [3]]
    post.wake(31.0)
    assert list(post.links.up) == [3]


def test_one_of_two_silent_peers_pings_and_not_both() -> None:
    met = meeting()
    met.wake(0.5)
    met.connect(met.b)
    met.take(met.a), met.take(met.b)
    met.wake(100.5)
    assert len(sent(met.take(met.a), Ping)) == 10
    assert sent(met.take(met.b), Ping) == []


def test_pings_are_answered_so_two_silent_peers_stay_linked() -> None:
    met, link = linked()
    met.wake(300.0)
    assert list(met.a.links.up) == list(met.b.links.up) == [link]


def test_while_this_side_does_not_read_it_pings_and_waits() -> None:
    met, link = linked()
    met.a.handle(Paused(link, True))
    assert len(sent(met.a.wake(100.5), Ping)) == 10
    met.a.handle(Paused(link, False))
    met.a.wake(130.0)
    assert met.a.heard[-1] == ("up", F.id, "")
    met.a.wake(131.0)
    assert met.a.heard[-1] == ("down", F.id, "timeout")


def test_a_flood_makes_reading_pause_and_entries_and_marks_do_not_count() -> None:
    met, link = linked()
    have = Have({})
    met.a.at(1.0)
    met.a.got(link, *[have] * 5000)
    assert not [e for e in met.a.got(link, *[Pong()] * 500) if isinstance(e, PauseReading)]
    assert [e for e in met.a.got(link, *[Pong()] * 50) if isinstance(e, PauseReading)] == [PauseReading(link, 0.5)]
    met.a.at(10.0)
    assert not [e for e in met.a.got(link, *[Pong()] * 500) if isinstance(e, PauseReading)]


# ---- goodbyes


def test_a_goodbye_is_an_orderly_departure() -> None:
    met, _ = linked()
    effects = met.a.handle(Stop())
    assert isinstance(effects[-1], NodeStopped)
    met.carry(met.a, effects)
    assert met.b.heard[-1] == ("down", D.id, "left")
    assert link_changes(met.take(met.b)) == [("down", "left")]


def test_frames_before_a_goodbye_in_one_read_are_handled_first() -> None:
    met, link = linked()
    have = Have({})
    assert met.a.links.on_frames(link, [have, Bye("left"), have]) == [have]
    assert link in met.a.links.up
    met.a.links.settle(link)
    assert link not in met.a.links.up
    assert met.a.heard[-1] == ("down", F.id, "left")


def test_after_stop_nothing_is_dialled_or_accepted() -> None:
    post = Post(D)
    (dial,) = dials(post.handle(Connect(ENDPOINT)))
    post.handle(Stop())
    assert post.handle(LinkAccepted(1, HOST)) == [Close(1)]
    assert post.handle(LinkDialled(2, dial.dial, F.id, HOST)) == [Close(2)]
    assert post.handle(Connect(ENDPOINT)) == []
    assert dials(post.wake(1000.0)) == []


@pytest.mark.parametrize(
    "how, reason", [("closed", "lost"), ("lost", "lost"), ("timeout", "timeout"), ("slow", "timeout")]
)
def test_the_reason_of_a_departure_is_the_end_of_its_connection(how: str, reason: str) -> None:
    met, link = linked()
    met.a.handle(LinkDown(link, how))
    assert met.a.heard[-1] == ("down", F.id, reason)


def test_a_goodbye_to_who_is_no_member_says_that_an_invite_or_a_pardon_helps() -> None:
    met, link = linked()
    (change,) = [effect for effect in met.a.got(link, Bye("member")) if isinstance(effect, LinkChanged)]
    advice = "a pardon does if it was expelled, and otherwise an invite"
    assert change.reason == f"lost: it does not admit this peer: {advice}"


def test_a_fault_of_the_bytes_says_goodbye_with_its_code() -> None:
    met, link = linked()
    assert byes(met.a.handle(Faulted(link, "limit", "a frame too long"))) == [Bye("limit", "a frame too long")]
    assert met.a.heard[-1] == ("down", F.id, "lost")


def test_the_text_of_a_bye_is_quoted() -> None:
    met, link = linked()
    effects = met.a.got(link, Bye("evil\x1b[2J", "\u202e" + "x" * 5000))
    (change,) = [effect for effect in effects if isinstance(effect, LinkChanged)]
    assert change.reason.isascii()
    assert change.reason.isprintable()
    assert len(change.reason) < 500


def test_frames_of_a_closed_link_are_ignored() -> None:
    met, link = linked()
    met.a.links.close(link, "head", "a wrong head")
    assert met.a.links.on_frames(link, [Have({})]) == []
    assert met.a.links.on_frames(77, [Have({})]) == []


# ---- two processes with one key


def test_two_processes_with_one_key_are_noticed_and_the_first_stays_linked() -> None:
    """The copies are on side F: each redial of one replaces the other's link at D, until D reports a duplicate key."""
    one, other = Post(F), Post(F)
    d = Post(D)
    warned: list[WarningIssued] = []
    warned_links: list[int] = []
    staying: list[WarningIssued] = []
    for link in range(1, 6):
        copy = one if link % 2 else other
        for post in (d, copy):
            post.at(link * 2.0)
        met = Meeting(d, copy)
        met._links = link * 10
        (dial,) = dials(copy.handle(Connect(f"10.0.0.{link}:1")))
        met.reach(copy, dial)
        for effect in met.take(d):
            warned += [effect] if isinstance(effect, WarningIssued) else []
            if isinstance(effect, Send) and isinstance(effect.frame, Peers) and F.id in effect.frame.linked:
                warned_links += effect.links
        last = met.take(copy)
        staying += [effect for effect in last if copy is other and isinstance(effect, WarningIssued)]
    assert [(warning.code, warning.about) for warning in warned] == [("two_processes", F.id)]
    assert warned[0].text == "two processes seem to use the key of 'fay': stop one of them"
    assert list(d.links.up) == [41]  # D keeps the fifth, which came at 10 s
    assert warned_links == [31, 41]  # the replaced one, and the one that stays
    turned_away = [effect for effect in last if isinstance(effect, WarningIssued)]
    for heard, says in ((turned_away, ""), (staying, ", says the user 'fay'")):
        assert [(warning.code, warning.about) for warning in heard] == [("two_processes", F.id)]
        assert heard[0].text == f"two processes seem to use this peer's key{says}: stop one of them"


class Hasty(Post):
    """A post whose goodbyes on one connection overtake what it sends on another."""

    def _collect(self) -> list[Effect]:
        return sorted(super()._collect(), key=lambda effect: not isinstance(effect, Close))


@pytest.mark.parametrize("kind", [Post, Hasty])
def test_own_dials_that_cross_links_are_no_sign_of_another_process(kind: type[Post]) -> None:
    """Over a slow network a handshake may end seconds after another link came up."""
    met = Meeting(kind(D), Post(F))
    for second in range(0, 50, 10):
        for post in (met.a, met.b):
            post.at(second)
        link = met.connect(met.a, f"10.0.0.{second}:1")
        assert list(met.a.links.up) == list(met.b.links.up) == [link]
    assert [effect for post in (met.a, met.b) for effect in met.take(post) if isinstance(effect, WarningIssued)] == []


def test_a_superseded_process_that_returns_is_refused() -> None:
    """The copies are on side D: F keeps the link to the newer one."""
    f = Post(F)
    first, second = Post(D), Post(D)
    second.run = second.links._run = "ff" * 8
    old, new = Meeting(first, f), Meeting(second, f)
    new._links = 100
    old.connect(old.b)
    new.connect(new.b, "10.0.0.8:1")
    assert list(f.links.up) == [101]
    old.take(old.b)
    (dial,) = dials(first.handle(Connect(ENDPOINT)))
    old.reach(first, dial)
    assert list(f.links.up) == [101]
    assert [bye.code for bye in byes(old.take(old.b)) if bye] == ["replaced"]


def test_both_processes_with_one_key_are_warned() -> None:
    """F keeps the newer one and refuses the other, until it reports a duplicate key to both."""
    f = Post(F, settings=Settings(clone_replacements=2))
    first, second = (Post(D, settings=Settings(clone_replacements=2)) for _ in range(2))
    second.run = second.links._run = "ff" * 8
    old, new = Meeting(first, f), Meeting(second, f)
    new._links = 100
    old.connect(old.b)
    new.connect(new.b, "10.0.0.8:1")
    first.got(1, Bye("replaced", "a newer link is up"))
    for number in range(2):
        (dial,) = dials(first.handle(Connect(f"10.0.0.9:{number + 1}")))
        old.reach(first, dial)
    said = old.take(f)
    warned = [effect.text for effect in (*old.take(first), *said) if isinstance(effect, WarningIssued)]
    assert warned == [
        "two processes seem to use this peer's key: stop one of them",
        "two processes seem to use the key of 'fay': stop one of them",
    ]
    of_copy = [effect for effect in said if isinstance(effect, Send) and effect.links == [101]][-1]
    assert of_copy.frame == Peers(linked=[D.id])
    (heard,) = [effect for effect in second.got(101, of_copy.frame) if isinstance(effect, WarningIssued)]
    assert heard.text == "two processes seem to use this peer's key, says the user 'fay': stop one of them"


def test_two_processes_with_one_key_cause_one_warning_in_half_a_minute() -> None:
    """One of them, with a stolen key, came three hundred times a second: nearly as many warnings as reports."""
    post = Post(D)
    for second, warnings in ((0.0, 1), (29.0, 0), (60.0, 1)):
        post.at(second)
        for _ in range(30):
            post.links._duplicates.on_replaced(F.id, F.id)
        assert [type(effect) for effect in post._collect()].count(WarningIssued) == warnings


def test_many_unknown_peers_that_seem_to_run_twice_cause_few_warnings() -> None:
    """A member with many keys can replace the links of each: 59 warnings in 45 seconds were seen."""
    post = Post(D)
    for number in range(100):
        for _ in range(3):
            post.links._duplicates.on_replaced(f"{number:064x}", f"{number:064x}")
    assert [type(effect) for effect in post._collect()].count(WarningIssued) == 16


def test_copy_notices_of_a_peer_whom_nobody_chose_are_one_warning() -> None:
    """Nothing proves them: a member could have everybody warned once a minute."""
    met, link = linked()
    warned = []
    for minute in range(30):
        met.a.at(60.0 * minute)
        warned += [effect for effect in met.a.got(link, Peers(linked=[D.id])) if isinstance(effect, WarningIssued)]
    assert [one.text for one in warned] == [
        "two processes seem to use this peer's key, says the user 'fay': stop one of them"
    ]


def test_copy_notices_of_a_contact_are_one_warning_a_minute() -> None:
    met, link = linked()
    met.a.contacts.load([F.id])
    of_copy = Peers(linked=[D.id])
    warned = [effect for _ in range(3) for effect in met.a.got(link, of_copy) if isinstance(effect, WarningIssued)]
    assert [(warning.code, warning.about) for warning in warned] == [("two_processes", D.id)]
    assert met.a.links.up[link].linked == {}
    met.a.at(59.0)
    assert [effect for effect in met.a.got(link, of_copy) if isinstance(effect, WarningIssued)] == []
    met.a.at(61.0)
    assert len([effect for effect in met.a.got(link, of_copy) if isinstance(effect, WarningIssued)]) == 1


# ---- dialling


def test_a_failed_dial_is_reported_once_and_retried_with_growing_pauses() -> None:
    post = Post(D)
    effects = post.handle(Connect(ENDPOINT))
    tries = 0
    changes: list[tuple[str, str]] = []
    for step in range(20_000):
        for dial in dials(effects):
            tries += 1
            changes += link_changes(post.handle(DialFailed(dial.dial, "connection refused")))
        effects = post.wake(step * 0.5)
    assert changes == [("trying", "connection refused")]
    assert 40 < tries < 120  # 10,000 s in pauses of 150 s on average, after a quick beginning
    assert post.links.book.addresses(F.id) == []


def test_a_lost_link_is_dialled_again_at_once_and_one_at_a_time() -> None:
    met, link = linked()
    met.b.wake(20.0)
    met.b.got(link)
    assert dials(met.b.handle(LinkDown(link, "lost"))) == []
    (dial,) = dials(met.b.wake(20.2))
    assert dial.endpoint == ENDPOINT
    assert dials(met.b.wake(100.0)) == []
    assert dials(met.b.handle(Connect(ENDPOINT))) == []


def test_only_a_link_that_lasted_resets_the_pauses() -> None:
    """Otherwise a link that keeps breaking would be dialled without pauses."""
    met, link = linked()
    post, soon = met.b, []
    for lasted in (*[1.0] * 8, 6.0):
        post.at(post.ctx.now.mono + lasted)
        post.handle(LinkDown(link, "lost"))
        at_once = dials(post.wake(post.ctx.now.mono + 0.11))
        soon.append(bool(at_once))
        (dial,) = at_once or dials(post.wake(post.ctx.now.mono + 60.0))
        met.a.at(post.ctx.now.mono)
        link = met.reach(post, dial)
    assert soon[0]
    assert soon[-3:] == [False, False, True]


@pytest.mark.parametrize(("code", "soon"), [("error", True), ("malformed", False)])
def test_contact_resets_no_pauses_after_a_link_that_ended_with_a_fault(code: str, soon: bool) -> None:
    """Otherwise two peers of which one blames the other would dial in turn, ten times a second."""
    met, link = linked()
    post = met.b
    for _ in range(12):
        post.at(post.ctx.now.mono + 0.5)
        post.links.close(link, code, "no")
        met.carry(post, post.wake(post.ctx.now.mono))
        met.a.at(post.ctx.now.mono)
        dialled = met.a.handle(Connect("10.0.0.2:1"))
        link = met.reach(met.a, dials(dialled)[0])
    post.at(post.ctx.now.mono + 0.5)
    post.links.close(link, code, "no")
    met.carry(post, post.wake(post.ctx.now.mono))
    assert bool(dials(post.wake(post.ctx.now.mono + 0.11))) is soon


def test_no_dial_while_a_link_to_that_peer_is_up() -> None:
    met, _ = linked()
    assert link_changes(met.b.handle(Connect(ENDPOINT))) == [("up", "")]
    assert link_changes(met.b.handle(Connect("10.0.0.3:5", D.id))) == [("up", "")]
    assert dials(met.b.wake(8.0)) == []


def test_a_named_endpoint_is_reported_when_its_peer_dials_first() -> None:
    """Otherwise a start would wait for a dial that is no longer needed."""
    met = meeting()
    (by_f,) = dials(met.b.handle(Connect(ENDPOINT, D.id)))
    (failed,) = [one for one in met.b.handle(DialFailed(by_f.dial, "no", "nobody")) if isinstance(one, LinkChanged)]
    assert failed == LinkChanged(D.id, ENDPOINT, "trying", "no", "nobody")
    (by_d,) = dials(met.a.handle(Connect("10.0.0.2:1")))
    met.reach(met.a, by_d)
    changes = [effect for effect in met.take(met.b) if isinstance(effect, LinkChanged)]
    assert changes == [LinkChanged(D.id, "", "up", host=HOST), LinkChanged(D.id, ENDPOINT, "up")]


def test_a_malformed_endpoint_is_refused_at_once() -> None:
    post = Post(D)
    for endpoint in ("nowhere", "host:0", "host:65536", "[host]:80", "::1:80", "a b:80"):
        ((state, reason),) = link_changes(post.handle(Connect(endpoint)))
        assert state == "refused"
        assert reason


def test_the_same_inputs_give_the_same_effects() -> None:
    def story() -> list[Effect]:
        post = Post(D)
        post.links._run = Draws("run")(8).hex()
        out = post.handle(Connect(ENDPOINT))
        out += post.handle(DialFailed(1, "no route"))
        return out + post.wake(5.0)

    assert story() == story()
    assert K not in repr(NetworkCredentials(N, K))
