"""Spoofing: no name, text or reason of others passes for another speaker's line, or for one of the program."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pchat import Cause, safe_text
from p2pchat.commands import event_text
from p2pchat.messaging.users import UserDirectory, UserFacts
from p2pchat.safe_text import CONTINUED, quote_name, quote_speaker
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, open_session

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AT = "2026-11-20T11:30:00.000000Z"
TRICKS = (
    *("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\b", "\n", "\r\n", "\x00", "\x7f", "\u2028", "\u2029", "\u0085"),
    *("\u202e", "\u2066", "\u200f", "\u061c", "\u200b", "\ufeff", "\U000e0041", "\ud800"),
    *(
        "12:00 ada: ",
        "12:00 -- ",
        "-- ",
        "p2pchat: ",
        CONTINUED,
        '"',
        "'",
        ":",
        " -> ",
        "* ",
        '(to ada: "x"): ',
        " (you)",
    ),
    *(" left", "ada", " ", "…", "<", "#K7QF2M3P"),
)
chosen = st.lists(st.sampled_from(TRICKS) | st.text(max_size=6), max_size=6).map("".join)
names = chosen.filter(bool)
KINDS = ("room", "dm", "group")

TIME = r"(?:\d\d:\d\d)"
QUOTED = r'"[^"]*"'
SPEAKER = rf'(?:{QUOTED}|[^:<>*"()\d\[-][^:<>*"()]*)'
NAME = rf'(?:{QUOTED}|[^:<>*"()\s\d-][^:<>*"()\s]*)'
PLACE = rf'(?: \[#(?P<place>{QUOTED}|[^:<>*"()\s\[\]]+)\])?'
ANSWER = rf"(?: \(to (?P<asked>{NAME}): {QUOTED}\))?"
SAID = re.compile(rf"{TIME}{PLACE} (?P<sender>{SPEAKER})(?: -> (?P<to>{SPEAKER}))?{ANSWER}: .*")
DONE = re.compile(rf"{TIME}{PLACE} \* (?P<sender>{NAME})(?: -> (?P<to>{NAME}))?{ANSWER} .*")
CAME = re.compile(rf"{TIME} -- (?P<sender>{NAME}) (?:is here|left)(?: for the first time, from .*|: .*)?")
LOST_JOINER = re.compile(r"(?:^|[\0-\u05ff\u3000-\ufaff\u200c\u200d])[\u200c\u200d]")  # where it joins nothing
_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def drives_a_terminal(character: str) -> bool:
    """Return whether a character acts instead of being seen, by Unicode's tables, not ours."""
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in _BIDI
        or character in "\u200b\u200e\u200f\u061c\u2060\ufeff"
        or 0xE0000 <= ord(character) < 0xE0080
    )


def lines_of(text: str) -> list[str]:
    """Return the lines a terminal shows; fail if one contains control characters."""
    lines = text.split("\n")
    assert not [character for line in lines for character in line if drives_a_terminal(character)]
    assert not LOST_JOINER.search(text)
    return lines


@settings(deadline=None)
@given(
    names, chosen, st.booleans(), st.sampled_from(["room", "dm", "group"]), st.none() | st.tuples(names, chosen), names
)
@example("bob (to ada", "x", False, "room", None, "me")
@example("bob is", "away", True, "room", None, "me")
@example("[#ops] bob", "x", False, "room", None, "me")
@example("bob", "x", False, "group", None, "ops] eve: y [")
@example("ada", "\n12:00 bob: yes", False, "room", ("bob", '"): '), "me")
def test_a_message_names_its_real_sender(
    sender: str, text: str, action: bool, kind: str, answered: tuple[str, str] | None, me: str
) -> None:
    event = {"event": "message", "sender": sender, "text": text, "action": action, "kind": kind, "sent_at": AT}
    event["conversation"] = me  # of a group: chosen by a user too
    asked = None if answered is None else {"sender": answered[0], "text": answered[1]}
    first, *others = lines_of(event_text.format_message(event, me, NOW, asked))
    show = safe_text.quote_name if action else safe_text.quote_speaker
    found = (DONE if action else SAID).fullmatch(first)
    assert found is not None
    assert found["sender"] == show(sender)
    assert found["place"] == (safe_text.quote_conversation(me, "group")[1:] if kind == "group" else None)
    assert found["to"] == (show(me) if kind == "dm" else None)
    if answered is not None:
        assert found["asked"] == safe_text.quote_name(answered[0])
    assert all(line.startswith(CONTINUED) for line in others)


@settings(deadline=None)
@given(names, chosen, st.sampled_from(KINDS), st.booleans(), st.none() | st.tuples(names, chosen), names, chosen)
@example("bob (edited 12:00", "x", "room", False, None, "me", "")
@example("bob", "x", "group", False, ("eve", "x"), "ops] eve: y [", "to: eve")
def test_an_edit_names_its_real_author(
    by: str, text: str, kind: str, action: bool, mended: tuple[str, str] | None, me: str, reaction: str
) -> None:
    event = {"by": by, "text": text, "reaction": reaction[:8], "kind": kind, "conversation": me, "sent_at": AT}
    of = None
    if mended is not None:
        of = {"event": "message", "sender": mended[0], "text": mended[1], "action": action, "sent_at": AT}
    action = action and of is not None
    at = "11:30" + (f" [{safe_text.quote_conversation(me, 'group')}]" if kind == "group" else "")
    who = (safe_text.quote_name if action else safe_text.quote_speaker)(by)
    to = f" -> {(safe_text.quote_name if action else safe_text.quote_speaker)(me)}" if kind == "dm" else ""
    edited = "(edited)" if of is None else "(edited; first sent 11:30)"
    first, *others = lines_of(event_text.format_message({**event, "event": "edited"}, me, NOW, of))
    assert first.startswith(f"{at} * {who}{to} {edited} " if action else f"{at} {who}{to} {edited}: ")
    assert all(line.startswith(CONTINUED) for line in others)
    when = "" if of is None else " sent 11:30"
    told = event_text.format_message({**event, "event": "deleted"}, me, NOW, of)
    what = f"{event_text.excerpt(mended[1])}," if mended is not None and mended[1] else "a message"
    assert lines_of(told) == [f"{at} -- {safe_text.quote_name(by)} deleted {what}{when}"]
    [line] = lines_of(event_text.format_message({**event, "event": "reaction"}, me, NOW, of))
    what = f"reacted {safe_text.quote_name(reaction[:8])}" if reaction[:8] else "removed a reaction"
    whose = "" if mended is None else f" to {safe_text.quote_name(mended[0])}: "
    assert line.startswith(f"{at} -- {safe_text.quote_name(by)} {what}{whose}")
    if mended is not None:
        assert re.fullmatch(QUOTED, line.removeprefix(f"{at} -- {safe_text.quote_name(by)} {what}{whose}"))


@settings(deadline=None)
@given(names, chosen, st.lists(chosen.map(lambda text: text[:8]), max_size=3))
def test_edit_marks_after_a_text_are_one_line(sender: str, text: str, reactions: list[str]) -> None:
    event = {"event": "message", "sender": sender, "text": text, "action": False, "kind": "room", "sent_at": AT}
    marks = {"edited": True, "reactions": [{"reaction": one} for one in reactions if one]}
    [line] = lines_of(event_text.edit_marks(marks, is_mine=False))
    assert line.startswith(" (edited)")
    whole = event_text.format_message({**event, **marks}, "me", NOW)
    assert whole == event_text.format_message(event, "me", NOW) + line
    assert event_text.format_message({**event, "deleted": True, "text": ""}, "me", NOW).endswith(": [deleted]")


@settings(deadline=None)
@given(names, chosen, chosen)
def test_joined_and_left_are_one_line(user: str, reason: str, address: str) -> None:
    events: list[dict[str, Any]] = [
        {"event": "joined", "at": AT, "user": user, "first": True, "address": address},
        {"event": "left", "at": AT, "user": user, "reason": reason},
    ]
    for event in events:
        [line] = lines_of(event_text.format_event(event, "me", NOW) or "")
        found = CAME.match(line)
        assert found is not None and found["sender"] == safe_text.quote_name(user)


@settings(deadline=None)
@given(names, names)
def test_renamed_is_one_line(user: str, before: str) -> None:
    [line] = lines_of(
        event_text.format_event({"event": "renamed", "at": AT, "user": user, "before": before}, "me", NOW) or ""
    )
    assert line == f"11:30 -- {safe_text.quote_name(before)} is now known as {safe_text.quote_name(user)}"


def other(name: str) -> str:
    """Return the name of another user, where "you" is oneself."""
    return '"you"' if safe_text.quote_name(name).lower() == "you" else safe_text.quote_name(name)


@settings(deadline=None)
@given(names, names, names, st.sampled_from(["created", "added", "removed", "left", "renamed", "owner"]))
@example("me", "bob", "ops with carol", "created")
@example("you", "me", "ops", "removed")
def test_group_changes_are_one_line(by: str, target: str, name: str, change: str) -> None:
    event = {"event": "group", "at": AT, "group": name, "change": change, "by": by, "target": target}
    [line] = lines_of(event_text.format_event({**event, "members": ["me", by], "former": name}, "me", NOW) or "")
    place = safe_text.quote_conversation(name, "group")
    who, whom = ("you" if one == "me" else other(one) for one in (by, target))
    assert line in {
        f"11:30 -- {who} {told}"
        for told in (
            f"added you to {place}", f"created {place}", f"created {place} with {whom}", f"added {whom} to {place}",
            f"removed {whom} from {place}", f"renamed {place} to {place}", f"made {whom} the owner of {place}",
        )
    } | {f"11:30 -- {whom} left {place}"}  # fmt: skip


@settings(deadline=None)
@given(names, names, chosen, st.sampled_from(["online", "idle", "unknown"]), st.none() | st.just(AT), chosen)
def test_answers_are_lines_of_the_program(
    user: str, other: str, text: str, status: str, since: str | None, said: str
) -> None:
    someone = {"user": user, "name": other, "user_id": "K7QF2M3P", "status": status, "text": text, "since": since}
    host = {"peer_id": "K7QF2M3P", "this": False, "linked": True, "address": said, "via": other, "endpoints": [said]}
    row: dict[str, Any] = {**someone, "me": False, "ignored": False, "linked": True, "allowed": False}
    row |= {"about": said, "names_before": [other, user], "hosts": [host], "known_since": since}
    talk = {"conversation": user, "kind": "dm", "unread": 2, "mentions": 1, "current": False, "muted": False}
    receipt = {"text": said, "sent_at": AT, "delivered_to": [user], "read_by": [], "missing": [other], "of": 2}
    receipt |= {"kind": "group", "count": 1, "read_count": 0, "at_gateway": [], "at_gateway_count": 0}
    people = UserDirectory("", UserFacts())
    people.learn([("ab" * 32, user)])
    why = event_text.cause_text(Cause("carried", None, people.user("ab" * 32)))
    receipt["causes"] = [{"user": other, "user_id": other, "since": since, "text": why}]
    first, *more = event_text.format_whois(row, NOW)
    answers = [first, event_text.format_conversation(talk), event_text.format_receipt(receipt, NOW)]
    for line in answers:
        assert len(lines_of(line)) == 1 and line.startswith("-- ")
    for line in more:
        assert len(lines_of(line)) == 1 and line.startswith("   ")
    assert re.fullmatch(rf"-- {NAME}: [a-z ]+(?: since {TIME})?(?: {QUOTED})?", first)
    assert re.fullmatch(rf"-- {NAME}: 2 unread, 1 with your name", answers[1])
    waits = rf"{NAME} will get it soon: carried by {NAME}, not stored there yet(?: since {TIME})?"
    assert re.fullmatch(rf"-- {TIME} {QUOTED}: delivered 1 of 2; {NAME} has it, {waits}", answers[2])


@settings(deadline=None)
@given(chosen, st.sampled_from(["warning", "error", "gap"]))
def test_notices_are_one_line(text: str, kind: str) -> None:
    [line] = lines_of(event_text.format_notice({"event": kind, "text": text}) or "")
    assert line.startswith("p2pchat: ")


NAMES = (
    "12:00 ada", "-- ada left", "ada: x", "ada -> me", "* ada", "p2pchat", 'a"b', "ada (you)", "x\n-- ada left",
    "\x1b[2J", "\u202eada", "ada\u200b", "is here", "'", '"', "room ", "ada#K7QF2M3P", "\u2028-- x", "/quit",
    "\r12:00 ada: x",
)  # fmt: skip
NUMBER = re.compile(r"\d+ (?=\d\d:\d\d )")  # before the lines of a list
OURS = re.compile(r"-- .+|   \S.*")  # a line of the program, or a continuation


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_answers_with_hostile_names(shown: Shown, capsys: pytest.CaptureFixture[str], name: str) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await bob.send("ada", f"{name}\n12:00 ada: I am ada\x1b[0m")
        await bob.send("ada", name, action=True)
        bob.set_presence("idle", name)
        await net.settle()
        ada.directory.learn([(bob.me.key, name)])  # as another implementation may call itself
        session = open_session(ada, shown, as_json=False, interactive=True)
        who = bob.me.id
        commands = ["who", "list", f"whois {who}", f"go {who}", "reply hi", "history", "search ada", "receipts"]
        commands += ["set", f"ignore {who}", f"unignore {who}", f"allow {who}", f"forget {who}"]
        await session.execute([f"/{command}".encode() for command in commands])
        lines = lines_of(shown.text.rstrip("\n"))
        assert len(lines) > len(commands)
        label = ada.directory.user(bob.me.key).label
        shown_as = {"ada", quote_name(label), quote_speaker(label)}
        for line in lines:
            listed = NUMBER.sub("", line, count=1)
            said = SAID.fullmatch(listed) or DONE.fullmatch(listed)
            assert (
                (said is not None and said["sender"] in shown_as) or OURS.fullmatch(line) or line.startswith(CONTINUED)
            )
        for line in filter(None, lines_of(capsys.readouterr().err.rstrip("\n"))):
            assert line.startswith("p2pchat: ") or OURS.fullmatch(line)  # bob is away, if it takes long
