"""Event lines as text: sender, text and time; no name can imitate other output."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from p2pchat import Cause
from p2pchat.commands.event_text import (
    UNSUPPORTED,
    cause_text,
    format_deletion,
    format_event,
    format_member_change,
    format_message,
    format_notice,
    format_receipt,
)
from p2pchat.messaging.users import UserDirectory, UserFacts

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOON = "will get it soon: online, not stored there yet"


def said(**fields: Any) -> dict[str, Any]:
    line = {"event": "message", "at": "2026-11-20T11:59:00.000000Z", "kind": "room", "sender": "ada", "text": "hi"}
    return {**line, "sent_at": "2026-11-20T11:30:00.000000Z", "action": False, "to": "room", **fields}


@pytest.mark.parametrize(
    ("by", "user", "shown"),
    [
        ("ada", "bob", "ada expelled bob from this network"),
        ("ada", "me", "ada expelled you from this network"),
        ("me", "bob", "your login expelled bob from this network"),  # whoever of its users decided
        ("me", "me", "your login expelled you from this network"),
        ("bob", "bob", "their login expelled bob from this network"),  # named by the same user
    ],
)
def test_a_login_decides_and_none_of_its_users(by: str, user: str, shown: str) -> None:
    line = {"by": by, "by_id": by.upper(), "user": user, "user_id": user.upper(), "change": "expelled",
            "users": [user], "count": 1}  # fmt: skip
    assert format_member_change(line, "me") == shown
    pardoned = shown.replace("expelled", "let").replace("from this", "back into this")
    assert format_member_change({**line, "change": "pardoned"}, "me") == pardoned


@pytest.mark.parametrize(
    ("users", "count", "shown"),
    [
        (["dan"], 1, "dan is out: bob, who admitted them, is no admin any more; /pardon dan admits them again"),
        (
            ["dan"],
            3,
            "dan and 2 more are out: bob, who admitted them, is no admin any more; /pardon dan admits them again",
        ),
        ([], 8800, "user#5A5A and 8799 more are out: bob, who admitted them, is no admin any more"),
    ],
)
def test_only_who_is_known_by_name_is_offered_to_be_admitted_again(users: list[str], count: int, shown: str) -> None:
    """The others are keys that a former admin may have made up."""
    user = users[0] if users else "user#5A5A"
    line = {
        "by": "bob",
        "by_id": "B",
        "user": user,
        "user_id": "U",
        "change": "dropped",
        "users": users,
        "count": count,
    }
    assert format_member_change(line, "me") == shown


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("dropped", "you are out: bob, who admitted you, is no admin any more"),
        ("restored", "you are in: bob, who expelled you, is no admin any more"),
        ("late", "bob admitted you by an invite that was closed already"),
    ],
)
def test_nobody_is_told_to_let_themselves_in(change: str, shown: str) -> None:
    line = {"by": "bob", "by_id": "B", "user": "dan", "user_id": "U", "change": change, "users": ["dan"], "count": 1}
    assert format_member_change(line, "dan") == shown


def test_who_wrote_while_expelled_is_not_called_somebody() -> None:
    assert format_message(said(expelled=True), "me", NOW) == "11:30 ada: hi (from somebody who is no member)"
    edited = {**said(expelled=True, by="ada", conversation="room"), "event": "edited"}
    assert format_message(edited, "me", NOW) == "11:30 ada (edited): hi (from somebody who is no member)"
    for who, whose in (("ada", "you were expelled"), ("me", "from somebody who is no member")):
        assert format_message(edited, who, NOW).endswith(f"ada (edited): hi ({whose})")
        deleted = format_message({**edited, "event": "deleted"}, who, NOW)
        assert deleted == f"11:30 -- ada deleted a message ({whose})"
    assert (
        format_message(said(event="sent", sender="me", expelled=True), "me", NOW) == "11:30 me: hi (you were expelled)"
    )


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (said(), "11:30 ada: hi"),
        (said(event="sent", sender="me"), "11:30 me: hi"),
        (said(kind="dm"), "11:30 ada -> me: hi"),
        (said(kind="dm", event="sent", sender="me", to="bob"), "11:30 me -> bob: hi"),
        (said(action=True, text="waves"), "11:30 * ada waves"),
        (said(sent_at="2026-11-19T23:59:59.000000Z"), "2026-11-19 23:59 ada: hi"),
        (said(text="one\n12:00 bob: two"), "11:30 ada: one\n    | 12:00 bob: two"),
        (said(came="2026-11-20T11:58:00.000000Z"), "11:30 ada (came 11:58): hi"),
        (said(claimed_at="2019-05-03T10:20:00.000000Z"), "11:30 ada (of 2019-05-03 10:20): hi"),
        (said(event="sent", to="room", claimed_at="2026-11-20T09:00:00.000000Z"), "11:30 ada (of 09:00): hi"),
        (said(claimed_at="2026-11-20T11:29:00.000000Z"), "11:30 ada: hi"),
        (said(came="2026-11-21T00:01:00.000000Z", kind="dm"), "11:30 ada -> me (came 2026-11-21 00:01): hi"),
        (said(came="2026-11-20T11:58:00.000000Z", action=True, text="waves"), "11:30 * ada (came 11:58) waves"),
        (
            said(sent_at="2026-11-19T23:59:59.000000Z", came="2026-11-20T11:58:00.000000Z"),
            "2026-11-19 23:59 ada (came 2026-11-20 11:58): hi",
        ),
        (said(text="deploy?", choices=["yes", "no"]), "11:30 ada: deploy? [/react yes · no]"),
        (said(text="which?", choices=["a b", "\x1b[1m"]), '11:30 ada: which? [/react "a b" · \\u{1b}[1m]'),
        (said(text="", deleted=True, choices=["yes", "no"]), "11:30 ada: [deleted]"),
        (said(unsupported="poll", text="Lunch?"), f"11:30 ada: Lunch? {UNSUPPORTED}"),
        (said(unsupported="unreadable", text=""), f"11:30 ada: {UNSUPPORTED}"),
    ],
)
def test_a_message_shows_sender_and_time(event: dict[str, Any], shown: str) -> None:
    assert format_message(event, "me", NOW) == shown


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"event": "joined", "user": "bob"}, "12:00 -- bob is here"),
        ({"event": "left", "user": "bob", "reason": "left"}, "12:00 -- bob left"),
        ({"event": "renamed", "user": "rob", "before": "bob is"}, '12:00 -- "bob is" is now known as rob'),
        ({"event": "left", "user": "bob", "reason": "lost"}, "12:00 -- bob left: connection lost"),
        ({"event": "left", "user": "bob", "reason": "timeout"}, "12:00 -- bob left: timed out"),
        ({"event": "link", "state": "up"}, None),
        ({"event": "presence", "user": "bob"}, None),
    ],
)
def test_presence_events_as_text(event: dict[str, Any], shown: str | None) -> None:
    assert format_event({"at": "2026-11-20T12:00:00.000000Z", **event}, "me", NOW) == shown


def test_warnings_and_errors_are_notices() -> None:
    assert format_notice({"event": "warning", "text": "a\nb"}) == "p2pchat: warning: a\\u{a}b"
    assert format_notice({"event": "error", "text": "no"}) == "p2pchat: no"
    assert format_notice({"event": "message"}) is None


def test_a_late_answer_says_both() -> None:
    late = said(came="2026-11-20T11:58:00.000000Z")
    assert format_message(late, "me", NOW, said(sender="bob")) == '11:30 ada (came 11:58, to bob: "hi"): hi'


@pytest.mark.parametrize(
    ("has", "lacks", "of", "expected"),
    [
        ([], [], 0, "accepted; nobody else is known to have it"),
        ([], ["bob"], 1, "accepted; bob will get it soon: online, not stored there yet"),
        (
            ["bob"],
            ["Anna Maria"],
            2,
            'delivered 1 of 2; bob has it, "Anna Maria" will get it soon: online, not stored there yet',
        ),
        (["bob", "cyd"], [], 2, "delivered 2 of 2; bob, cyd have it"),
        (["bob"], [], 0, "delivered to 1; bob has it"),
        ([], ["bob", "cyd"], 2, "accepted; bob, cyd will get it soon: online, not stored there yet"),
        ([f"p{n}" for n in range(10)], [], 10, "delivered 10 of 10; p0, p1, p2, p3, p4, p5, p6, p7 and 2 more have it"),
    ],
)
def test_a_receipt_lists_deliveries(has: list[str], lacks: list[str], of: int, expected: str) -> None:
    assert format_receipt(receipt_row(has, [], lacks, of), NOW) == f'-- 11:30 "hi": {expected}'


@pytest.mark.parametrize(
    ("has", "read", "of", "expected"),
    [
        (["bob"], ["bob"], 1, "delivered 1 of 1, read 1 of 1; bob has read it"),
        (
            ["bob", "cyd"],
            ["cyd"],
            3,
            f"delivered 2 of 3, read 1 of 3; cyd has read it, bob has it, dan {SOON}",
        ),
        (["bob", "cyd"], ["bob"], 0, "delivered to 2, read by 1; bob has read it, cyd has it"),
    ],
)
def test_a_receipt_lists_readers(has: list[str], read: list[str], of: int, expected: str) -> None:
    lacks = ["dan"][: max(0, of - len(has))]
    assert format_receipt(receipt_row(has, read, lacks, of), NOW) == f'-- 11:30 "hi": {expected}'


def test_a_receipt_of_the_room_counts_those_who_were_here() -> None:
    row = receipt_row(["bob", "cyd"], ["bob"], [], 1) | {"kind": "room", "count": 1}
    said = '-- 11:30 "hi": delivered 1 of 1 here, read 1 of 1 here; bob has read it, cyd has it'
    assert format_receipt(row, NOW) == said


def receipt_row(has: list[str], read: list[str], lacks: list[str], of: int) -> dict[str, Any]:
    sent = {"kind": "group", "text": "hi", "sent_at": "2026-11-20T11:30:00.000000Z", "of": of}
    counts = {"count": len(has), "read_count": len(read), "at_gateway_count": 0}
    causes = [{"user": user, "user_id": user, "since": None, "text": SOON} for user in lacks]
    row = {**sent, **counts, "delivered_to": has, "at_gateway": [], "read_by": read, "missing": lacks}
    return row | {"causes": causes}


@pytest.mark.parametrize(
    ("kind", "by", "expected"),
    [
        ("away", None, "bob will get it when back: away"),
        ("online", None, f"bob {SOON}"),
        ("carried", "Ann Lee", 'bob will get it soon: carried by "Ann Lee", not stored there yet'),
        ("unreachable", "cyd", "bob can get it once linked: cannot be reached from here; cyd says it can"),
        ("expelled", "ada", "bob can get it after a pardon: expelled by ada"),
    ],
)
def test_a_receipt_says_why_somebody_lacks_a_message(kind: str, by: str | None, expected: str) -> None:
    people = UserDirectory("", UserFacts())
    people.learn([("ab" * 32, by or "")])
    text = cause_text(Cause(kind, None, people.user("ab" * 32) if by else None))
    row = receipt_row([], [], ["bob"], 1) | {"causes": [{"user": "bob", "since": None, "text": text}]}
    assert format_receipt(row, NOW) == f'-- 11:30 "hi": accepted; {expected}'


def test_a_receipt_says_the_same_of_several_users_once() -> None:
    times = {"bob": "02", "cyd": "02", "dan": "05"}
    row = receipt_row([], [], list(times), 3)
    for one in row["causes"]:
        one |= {"text": "will get it when back: away", "since": f"2026-11-20T11:{times[one['user']]}:00.000000Z"}
    said = [f"{who} will get it when back: away since {at}" for who, at in (("bob, cyd", "11:02"), ("dan", "11:05"))]
    assert format_receipt(row, NOW) == f'-- 11:30 "hi": accepted; {", ".join(said)}'


def test_a_receipt_says_nothing_of_those_of_whom_nothing_is_known() -> None:
    row = receipt_row([], [], ["bob"], 1) | {"causes": []}
    assert format_receipt(row, NOW) == '-- 11:30 "hi": accepted; nobody else is known to have it'


def test_a_receipt_counts_only_its_recipients_and_names_those_at_a_gateway() -> None:
    row = {**receipt_row(["bob", "zoe", "yan"], ["bob"], ["cyd"], 2), "count": 1, "at_gateway": ["zoe", "yan"]}
    assert format_receipt(row, NOW) == (
        '-- 11:30 "hi": delivered 1 of 2, read 1 of 2; '
        f"bob has read it, a gateway keeps it for zoe, yan, seen or not, cyd {SOON}"
    )
    row = {**receipt_row(["bob", "zoe"], [], [], 2), "at_gateway": ["zoe"], "at_gateway_count": 1}
    assert format_receipt(row, NOW) == (
        '-- 11:30 "hi": delivered 1 of 2, at a gateway 1 of 2; bob has it, a gateway keeps it for zoe, seen or not'
    )


def test_a_deletion_says_what_is_still_to_come() -> None:
    row = {"messages": 2, "kept": 0, "conversation": "bob", "size_bytes": 1700}
    whole = "deleted 2 messages of bob here, 1,700 bytes; others keep theirs"
    assert format_deletion({**row, "is_gone": True}) == [whole]
    assert format_deletion({**row, "is_gone": False}) == [
        whole, "their texts are still in a file here, which another program reads: they go once it stops",
    ]  # fmt: skip
