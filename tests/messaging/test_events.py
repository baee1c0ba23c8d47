"""Event lines in JSON, ids and times."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from p2pchat.core.effects import PresenceChanged
from p2pchat.core.inputs import PresenceSet, WriteRequest
from p2pchat.core.log import Entry, LogId, Ref, message_id, referred_id
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.messaging.conversations import Conversation
from p2pchat.messaging.events import (
    EPOCH,
    Delivered,
    Event,
    Failed,
    Gap,
    Joined,
    Left,
    Link,
    Listening,
    Presence,
    Seen,
    Stopped,
    Typing,
    Warned,
    aware,
    iso,
    micros_of,
)
from p2pchat.messaging.messages import Message, Sent, parse_message_id, post_of
from p2pchat.messaging.users import User, UserDirectory, UserFacts
from p2pchat.offline import History
from p2pchat.protocol import Naming
from p2pchat.storage.contract import ReleasedEntry
from tests.core.scripted_nodes import START, Author, Peer, World

ADA, BOB = "a1" * 32, "b0" * 32
ROOM, DM = "c0" * 32, "d0" * 32
RUN = "0123456789abcdef"
AT = datetime(2026, 3, 1, 12, 30, 15, 678, UTC)
AT_JSON = "2026-03-01T12:30:15.000678Z"
ROOM_ID = "YDAMBQGA" * 6 + "YDAA"
BOB_ID = User(UserDirectory(ADA, UserFacts()), BOB).id


class Viewer(History):
    """A history with two users and two conversations."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.directory.me = ADA
        self.directory.learn([(ADA, "ada"), (BOB, "bob")])
        self._conversations = {
            ROOM: ConversationState(ROOM, Naming(room=True), None),
            DM: ConversationState(DM, Naming(dm=(ADA, BOB)), frozenset((ADA, BOB))),
        }


VIEWER = Viewer()


def post(kind: type[Message] | type[Sent], conversation: str, entry: Entry, *, old: bool = False) -> Message | Sent:
    """Return a message that was received at AT."""
    user = ADA if kind is Sent else BOB
    return kind(VIEWER, LogId(conversation, user, RUN), 7, entry, 3, micros_of(AT), old, False)


def test_a_message_id_is_39_characters_a_dot_and_the_number() -> None:
    id = message_id(LogId(ROOM, BOB, RUN), 12)
    code, _, seq = id.partition(".")
    assert (len(code), seq) == (64, "12")
    assert parse_message_id(id) == (ROOM[:32], Ref(BOB[:32] + RUN, 12))
    assert parse_message_id(f" {id.lower()} ") == parse_message_id(f"{id[:20]}\r\n {id[20:]}") == parse_message_id(id)
    assert referred_id(ROOM, Ref(BOB[:32] + RUN, 12)) == id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ".1",
        "A" * 64,
        *("A" * 64 + end for end in (".", ".0", ".x", ".9007199254740992", ".00000000000000001" + "0" * 17)),
        "A.1",
        "\ud800",
        "é" * 64 + ".1",
    ],
)
def test_an_invalid_message_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no message id"):
        parse_message_id(text)


def test_the_line_of_a_message() -> None:
    entry = Entry("text", micros_of(AT), 1, Ref(ADA[:32] + RUN, 2), (Ref(ADA[:32] + RUN, 3),), b="hello")
    message = post(Message, ROOM, entry, old=True)
    assert message.to_dict() == {
        "event": "message",
        "at": AT_JSON,
        "id": message_id(LogId(ROOM, BOB, RUN), 7),
        "conversation": "room",
        "conversation_id": ROOM_ID,
        "kind": "room",
        "sender": "bob",
        "sender_id": BOB_ID,
        "text": "hello",
        "sent_at": AT_JSON,
        "action": False,
        "reply_to": message_id(LogId(ROOM, ADA, RUN), 2),
        "after": [message_id(LogId(ROOM, ADA, RUN), 3)],
        "old": True,
    }
    assert (message.sent_at, message.received_at, message.at) == (AT, AT, AT)


def test_the_line_of_an_event_is_a_dict_or_text() -> None:
    events: list[Event | Sent | Message] = [
        Stopped(reason="späť"),
        post(Sent, DM, Entry("text", 1, 1, b="один\ntwo\x9b")),
    ]
    for event in events:
        text = event.to_json()
        assert json.loads(text) == event.to_dict() and text.isascii() and "\n" not in text


def test_the_line_of_a_sent_message_names_its_conversation() -> None:
    sent = post(Sent, DM, Entry("action", micros_of(AT), 1, b="waves")).to_dict()
    assert (sent["event"], sent["to"], sent["conversation"], sent["kind"], sent["ref"]) == (
        "sent", "bob", "bob", "dm", None,
    )  # fmt: skip
    assert (sent["action"], sent["text"], sent["sender"]) == (True, "waves", "ada")


def test_a_claimed_time_is_shown_beside_the_time_of_writing() -> None:
    claimed = post(Message, ROOM, Entry("text", micros_of(AT), 1, b="hi", t=0))
    assert (claimed.claimed_at, claimed.sent_at) == (EPOCH, AT)
    line = claimed.to_dict()
    assert (line["claimed_at"], line["sent_at"]) == ("1970-01-01T00:00:00.000000Z", AT_JSON)
    assert post(Message, ROOM, Entry("text", 1, 1, b="hi")).claimed_at is None


def test_a_message_that_came_much_later_than_it_claims_says_when() -> None:
    ten_minutes = micros_of(AT) - 600 * 1_000_000
    on_time, late = (Entry("text", at, ten_minutes, b="hi") for at in (ten_minutes, ten_minutes - 1))
    assert post(Message, ROOM, on_time).came is None and "came" not in post(Message, ROOM, on_time).to_dict()
    for conversation in (ROOM, DM):
        assert post(Message, conversation, late).came == AT
        assert post(Message, conversation, late).to_dict()["came"] == AT_JSON
    for other in (post(Message, ROOM, late, old=True), post(Sent, ROOM, late)):  # history of a newcomer, and one's own
        assert other.came is None and "came" not in other.to_dict()


def test_news_that_came_late_are_marked_and_a_newcomer_s_history_is_not() -> None:
    """The times are those of a core: when it stored the entry, and what the entry claims."""
    hour = 3600 * 1_000_000

    def came(peer: Peer) -> list[tuple[str, int | None]]:
        shown = [one for one in peer.storage.places(0, 99) if '"profile"' not in str(one.raw[1])[:16]]
        posts = [post_of(VIEWER, one, mine=one.log.user == peer.id) for one in shown]
        return [(one.text, None if one.came is None else (micros_of(one.came) - START) // hour) for one in posts]

    world, bob, file = World(), Author("bob", "b1"), Author("cyd", "c1")
    history = bob.say("before ada", at=START - hour)
    ada = world.peer("ada")
    ada.carry(file.say("a file for a newcomer", at=START - hour))
    far = ada.far("bob", bob, file)  # both logs are its first marks
    world.seconds = 7200
    far.say(history, bob.say("on the way for two hours"))
    assert came(ada) == [("a file for a newcomer", None), ("before ada", None), ("on the way for two hours", 2)]
    ada.carry(file.say("a file for a member"))
    assert came(ada)[-1] == ("a file for a member", 2)


def test_a_repr_shows_the_writer_and_never_the_text() -> None:
    secret = "the password is swordfish"
    user = VIEWER.directory.user(BOB)
    shown = [
        repr(post(Message, ROOM, Entry("text", 1, 1, b=secret))),
        repr(Presence(user=user, status="idle", text=secret, since=None)),
        repr(ReleasedEntry(LogId(ROOM, BOB, "01" * 8), 1, (1, secret), 1, 1, old=False, gap=False)),
        repr([WriteRequest(1, BOB, ROOM, "text", [secret]), PresenceSet(BOB, "idle", secret)]),
        repr(PresenceChanged(BOB, "idle", secret, 0)),
    ]
    assert not any("swordfish" in text for text in shown)
    assert "bob" in shown[0]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Listening(
                at=AT, version="0.1.0", host="h", port=1, peer_id="P", user=VIEWER.directory.user(BOB), data="d",
                network="open",
            ),
            {
                "event": "listening", "schema": 1, "version": "0.1.0", "host": "h", "port": 1, "peer_id": "P",
                "user": "bob", "user_id": BOB_ID, "data": "d", "network": "open", "newest_own": None,
            },
        ),
        (Stopped(at=AT, reason="SIGTERM"), {"event": "stopped", "reason": "SIGTERM"}),
        (
            Link(at=AT, peer=BOB, endpoint="h:1", state="up", reason=""),
            {
                "event": "link", "peer_id": BOB_ID, "endpoint": "h:1", "state": "up", "reason": "", "code": "",
                "address": "", "via": "",
            },
        ),
        (
            Joined(at=AT, user=VIEWER.directory.user(BOB), first=True, address="192.0.2.7"),
            {"event": "joined", "user": "bob", "user_id": BOB_ID, "first": True, "address": "192.0.2.7"},
        ),
        (
            Left(at=AT, user=VIEWER.directory.user(BOB), reason="lost"),
            {"event": "left", "user": "bob", "user_id": BOB_ID, "reason": "lost"},
        ),
        (
            Presence(at=AT, user=VIEWER.directory.user(BOB), status="idle", text="tea", since=AT),
            {"event": "presence", "user": "bob", "user_id": BOB_ID, "status": "idle", "text": "tea", "since": AT_JSON},
        ),
        (
            Typing(at=AT, user=VIEWER.directory.user(BOB), conversation=VIEWER.conversation(DM), typing=True),
            {
                "event": "typing", "user": "bob", "user_id": BOB_ID, "conversation_id": VIEWER.conversation(DM).id,
                "typing": True,
            },
        ),
        (
            Seen(at=AT, conversation=VIEWER.conversation(DM)),
            {"event": "seen", "conversation_id": VIEWER.conversation(DM).id},
        ),
        (
            Delivered(at=AT, log=LogId(ROOM, ADA, RUN), seq=2, user=VIEWER.directory.user(BOB), count=1, of=3),
            {
                "event": "delivered", "id": message_id(LogId(ROOM, ADA, RUN), 2), "conversation_id": ROOM_ID,
                "user": "bob", "user_id": BOB_ID, "count": 1, "of": 3,
            },
        ),
        (
            Gap(at=AT, about="X.1", missing=("Y.1", "Y.2")),
            {
                "event": "gap", "code": "gap", "text": "2 earlier messages are missing here", "about": "X.1",
                "missing": ["Y.1", "Y.2"], "last_seen_with": [],
            },
        ),
        (Warned(at=AT, code="c", text="t"), {"event": "warning", "code": "c", "text": "t", "about": ""}),
        (
            Failed(at=AT, code="c", text="t", ref="7"),
            {"event": "error", "code": "c", "text": "t", "about": "", "ref": "7"},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)  # fmt: skip
def test_the_line_of_each_live_event(event: Event, line: dict[str, object]) -> None:
    assert event.to_dict() == {"at": AT_JSON, **line}
    json.dumps(event.to_dict())


def test_events_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Stopped(reason="x").reason = "y"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        post(Message, ROOM, Entry("text", 1, 1, b="x")).text = "y"  # type: ignore[misc]


def test_users_and_conversations_are_equal_by_id() -> None:
    people = UserDirectory(ADA, UserFacts())
    people.facts.status = lambda me, user: ("idle", "tea", 1_000_000)
    people.learn([(BOB, "robert")])
    bob = people.user(BOB)
    assert bob == VIEWER.directory.user(BOB)
    assert len({bob, VIEWER.directory.user(BOB), VIEWER.directory.user(ADA)}) == 2
    assert (bob.status, bob.status_text, bob.since) == ("idle", "tea", aware(1_000_000))
    assert people.user(ADA).label == f"user#{people.user(ADA).id[:8]}"
    assert VIEWER.conversation(DM) == Conversation(Viewer(), DM, None)


def test_times_are_utc_with_microseconds() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000000Z"
    assert iso(2**53 - 1).startswith("2255-")  # the largest on the wire
    assert aware(micros_of(AT)) == AT
    with pytest.raises(ValueError):
        micros_of(datetime(2026, 1, 1))
