"""Rules of the frames that a candidate sends: each must keep them, on every link of the kit. Those of the entries in
them are in entry_rules.py.

Each is a function that gets a link, a frame and its JSON, and returns what is wrong with it, or "". What it must
remember of earlier frames is in `link.memory`. The rules are judged at the end of a run, over all frames that came.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator

from p2pchat import protocol as wire
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.log import LogId, RawEntry, batch_of, check_header, head_message, ref_key, verify
from p2pchat.core.names import name_fault
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.errors import LogError
from p2pchat_conformance.awaited_frames import ABOUT_CONVERSATIONS, HIGHEST, LOWEST, ScriptedLink, mentioned, now_us

Watcher = Callable[[ScriptedLink, wire.AnyFrame, str], str]
UNIT = 30  # times a time may be wrong: a clock may, and milliseconds are a thousand times wrong
WATCHERS: dict[str, Watcher] = {}  # by the name of the rule


def watch(watcher: Watcher) -> Watcher:
    """Register a function as the judge of every frame for the rule of its name in rules.json."""
    WATCHERS[watcher.__name__.replace("_", "-")] = watcher
    return watcher


class FrameWatch:
    """All frames of a run, judged by every rule. `faults` has what was wrong, by rule."""

    def __init__(self) -> None:
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.frames: int = 0

    def on_frame(self, link: ScriptedLink, frame: wire.AnyFrame, text: str) -> None:
        self.frames += 1
        for name, watcher in WATCHERS.items():
            fault = watcher(link, frame, text)
            if fault and len(self.faults[name]) < 8:
                self.faults[name].append(f"{link.label}: {fault}")


def entries_in(frame: wire.AnyFrame, link: ScriptedLink) -> Iterator[tuple[int, RawEntry]]:
    """Yield number, and clock and text, of the entries that the candidate's own users wrote."""
    if isinstance(frame, wire.Entries) and frame.u in link.member.told:
        yield from enumerate(frame.e, frame.first)


def as_object(raw: str) -> dict[str, object]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def times_in(link: ScriptedLink, frame: wire.AnyFrame) -> Iterator[tuple[str, object]]:
    """Yield the times that the candidate says of its own users: of entries, records, statements and `since`."""
    for seq, (clock, text) in entries_in(frame, link):
        yield f"the clock of entry {seq}", clock
        yield f"`at` of entry {seq}", as_object(str(text)).get("at")
    if isinstance(frame, wire.Peers):
        yield from (("`at` of its record", record.at) for record in frame.records if record.id == link.kit.candidate)
    if isinstance(frame, wire.Here):
        yield from ((f"`since` of {user.name!a}", user.since) for user in frame.users if user.since)


@watch
def times_are_microseconds(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    for what, time in times_in(link, frame):
        if not isinstance(time, int) or not now_us() / UNIT < time < now_us() * UNIT:
            return f"{what} is {time}, and it is {now_us()} now"
    return ""


@watch
def no_null(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    def has_null(value: object) -> bool:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return value is None or any(map(has_null, inside))

    return f"a frame with null: {text[:120]}" if has_null(as_object(text)) else ""


@watch
def content_for_those_who_take_it(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    is_about_content = isinstance(frame, wire.Pull | wire.Lacks)  # pieces are judged as they come
    return f"{text[:120]} to a member that did not say it" if is_about_content and not link.member.can else ""


@watch
def small_until_go(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if (
        link.memory.get("go") or link.member.decides
    ):  # what a candidate that follows sends is judged by a rule of its own
        return ""
    link.memory["go"] = isinstance(frame, wire.Go)
    early = wire.Hello | wire.Welcome | wire.Show | wire.Admit | wire.Statements | wire.Go | wire.Bye
    if not isinstance(frame, early):
        return f"before `go` came {text[:60]}"
    return "a frame above 4 KiB before `go`" if len(text.encode()) > 4096 else ""


@watch
def users_come_first(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if isinstance(frame, wire.Here) and not frame.more:
        link.memory["users"] = True
    early = isinstance(frame, ABOUT_CONVERSATIONS) and "users" not in link.memory
    return f"before the list of users was complete came {text[:60]}" if early else ""


@watch
def users_are_certified(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    users = frame.users if isinstance(frame, wire.Here) else ()
    return next((f"{user.name!a} has no certificate" for user in users
                 if user.id != link.kit.candidate and user.cert is None), "")  # fmt: skip


@watch
def names_of_users_are_names(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    users = frame.users if isinstance(frame, wire.Here) else ()
    return next((f"{user.name!a}: {fault}" for user in users if (fault := name_fault(user.name))), "")


@watch
def conversations_are_named(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    named = link.memory.setdefault("named", set())
    if (
        isinstance(frame, wire.Here)
        and link.memory.get("hosted")
        and {user.id for user in frame.users} - link.memory["hosted"]
    ):
        named.clear()  # with one user more, names are said again
    if isinstance(frame, wire.Here):
        link.memory["hosted"] = link.memory.get("hosted", set()) | {user.id for user in frame.users}
    if not isinstance(frame, ABOUT_CONVERSATIONS):
        return ""
    for naming in frame.names:
        if naming.dm:
            named.add(dm_id(link.kit.room, *naming.dm))
        elif naming.group:
            named.add(naming.group[0])
        elif naming.talk:
            named.add(talk_id(naming.talk))
    unnamed = [id for id in mentioned(frame) if id not in {*named, link.kit.room}]
    return f"{unnamed[0][:8]}… was never named, in {text[:60]}" if unnamed else ""


@watch
def only_shared_conversations(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    foreign = [id for id in mentioned(frame) if link.member.naming(id) is None]
    return f"{foreign[0][:8]}… is not shared with {link.label}: {text[:60]}" if foreign else ""


@watch
def batches_are_signed(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if not isinstance(frame, wire.Entries):
        return ""
    batch = batch_of(frame)
    if frame.first == 1:
        try:
            check_header(frame)
        except LogError as error:
            return f"{error}: {text[:80]}"
    good = verify(frame.u, batch.head, head_message(LogId(*batch.log), batch.last, batch.chain))
    return "" if good else f"the head of entries {frame.first} to {batch.last} is wrong: {text[:80]}"


@watch
def marks_are_of_what_was_sent(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    """Compare each mark of a log of the kit with what the kit ever wrote into it."""
    if not isinstance(frame, wire.Have):
        return ""
    for conversation, users in frame.marks.items():
        for user, tips in users.items():
            for tip in tips:
                written = link.kit.written(LogId(conversation, user, tip.run))
                if written and (tip.seq, tip.chain) not in written:
                    return f"a mark of entry {tip.seq} with chain {tip.chain}, which was never written"
    return ""


@watch
def one_want_for_a_writer(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if isinstance(frame, wire.Want):
        wants = link.memory.setdefault("wants", {})
        if frame.n in wants.values():
            return f"number {frame.n} again while its want is open"
        wants[frame.c, frame.u] = frame.n
        if len(wants) > 64:
            return "a 65th open want"
    return ""


@watch
def sums_cover_all_ids(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if not isinstance(frame, wire.Digest) or frame.span is None or frame.sums is None:
        return ""
    end = link.memory.get("sums", HIGHEST)
    link.memory["sums"] = frame.span[1]
    begins = LOWEST if end == HIGHEST else end
    if frame.span[0] > begins and int(frame.span[0], 16) != int(begins, 16) + 1:
        return f"a page begins at {frame.span[0][:8]}…, the one before it ended at {begins[:8]}…"
    outside = [id for id in frame.sums if not frame.span[0] <= id <= frame.span[1]]
    return "a sum outside the span of its page" if outside else ""


@watch
def marks_are_within_their_span(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if not isinstance(frame, wire.Have) or frame.span is None:
        return ""
    users = [user for found in frame.marks.values() for user in found]
    outside = [user for user in users if not frame.span[0] <= user <= frame.span[1]]
    return "a user outside the span" if outside or len(frame.marks) != 1 else ""


@watch
def read_goes_to_the_writer(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if not isinstance(frame, wire.ReadFrame):
        return ""
    own = {user[:32] for user in (link.member.id, *link.member.hosted)}
    for readers in frame.marks.values():
        if set(readers) - set(link.member.told):
            return "a reader whom the candidate does not host"
        for refs in readers.values():
            if any(log[:32] not in own for log, *_ in refs):
                return f"a read mark of a log that {link.label} did not write: {text[:80]}"
    return ""


@watch
def a_read_mark_names_the_chain(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    for conversation, readers in frame.marks.items() if isinstance(frame, wire.ReadFrame) else ():
        for ref, seq, chain in (ref for refs in readers.values() for ref in refs):
            named = [id for id in link.kit.logs if (id.conversation, ref_key(id.user, id.run)) == (conversation, ref)]
            logs = [log for id in named for log in link.kit.logs[id]]
            if logs and not any(log.holds(wire.Mark(ref[32:], seq, chain)) for log in logs):
                return f"entry {seq} is read, with another chain"
    return ""


@watch
def no_pong_without_ping(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if isinstance(frame, wire.Pong):
        link.memory["pongs"] = link.memory.get("pongs", 0) + 1
        return "a pong that nobody asked for" if link.memory["pongs"] > link.pings else ""
    return ""


@watch
def nothing_after_bye(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    after, link.memory["bye"] = link.memory.get("bye", False), isinstance(frame, wire.Bye)
    return f"after `bye` came {text[:60]}" if after else ""


@watch
def receiver_is_not_linked(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    linked = frame.linked if isinstance(frame, wire.Peers) else []
    return "`linked` names the receiver" if link.member.id in linked else ""


@watch
def typing_of_hosted_users_only(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    foreign = isinstance(frame, wire.TypingFrame) and frame.u not in link.member.told
    return f"`typing` of a user whom the candidate does not host: {text[:80]}" if foreign else ""
