"""The checker of event logs: it reports every promise that the logs of several peers prove broken.

`p2pchat check`, the tests over real processes and the simulation use it. Its only input are event logs (`--json`,
`--log`) and the output of `history --json`. It reports contradictions. A missing line is a fault only if there is no
other explanation: a killed peer may have known more than it logged, and a log that begins late may lack earlier
messages. `complete=True` says that the mesh was at rest before the logs end and that the histories are whole; then a
missing message is a fault. Times of different logs are compared, so the machines' clocks should agree within a second.

| rule | what a log shows |
|---|---|
| form | a line that is no event, or lines after `stopped` |
| twice | one message id twice between two `listening`, or twice in a history |
| text | one id with a text, sender, conversation or time that differs from its writer's, other than by a known edit |
| invented | a message its writer never sent, or a receipt for one |
| order | a writer's messages in an order other than the one sent, or with one left out |
| answer | a message before the one it answers or follows, without a gap event |
| lost | a message that never came though the peers saw each other long enough; with `complete`, one a history lacks |
| delivered | a receipt for a message that the reader does not have |
| receipt | a receipt for another user's message, a count that falls; with `complete`, a receipt that never came |
| read | a message of this session reported read by a user before it was reported delivered to them |
| dm | a direct message on a third peer, or a receipt of one for it |
| edit | a message edited or deleted by a user who did not write it; with `complete`, histories that differ on one |
| group | a message by a user who was never a member, or one written after a removal that this peer knew of; with
| | `complete`, a name or members that differ, or a message written after a removal in a history |
| history | two histories that put the same messages in different orders |
| departure | a peer that left, and another that reported it not at all, twice, too late or with a wrong reason |

A restored disk and a copied directory are no faults: `causes` names them, and what they explain is not reported.
A fault never contains a message's text: logs are private.
"""

from __future__ import annotations

from base64 import b32decode
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cache, cached_property
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from p2pchat.core.names import base32
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.kinds import CHANGE_EVENTS, LISTS
from p2pchat.kinds.message_fields import fields_at
from p2pchat.testing.eventlog_parser import POSTS, Fault, Line, Log, LoggedSession, copies, moment, run_of, seconds

# Seconds that two peers are connected after which a message must have arrived: order_wait and a redial fit in.
IN_SIGHT = 60.0
_FIXED = ("text", *fields_at("f"))


def causes(logs: Sequence[Log]) -> list[Fault]:
    """Return what the logs show that is no broken promise, and ends some: restored disks and copied directories.

    The rule is `restored`: a peer started on an older copy of its disk. What it wrote since then, and nobody else had,
    is lost, and its order with what it writes now is not promised. Or `copied`: two processes had one key.
    """
    events = [log for log in logs if not log.is_history]
    found = []
    for log in events:
        if log.restored_at is not None:
            start, lacking = log.restored_at
            text = (
                f"starts on an older disk, without {log.lines[lacking]['id']} ({log.where(lacking)}): a backup or copy"
            )
            found.append(Fault("restored", f"{text}; the order across this start is not promised", log.where(start)))
    for log, number, other in copies(events):
        text = f"runs beside {other.name} with the same key: a copied directory; stop one of them"
        found.append(Fault("copied", text, log.where(number)))
    for log in events:
        told = {line["about"]: n for n, line in enumerate(log.lines) if _names_copy(line)}
        found += [Fault("copied", f"two processes used the key of {user}", log.where(n)) for user, n in told.items()]
    return found


def _names_copy(line: Line) -> bool:
    return line.get("code") == "two_processes" and bool(line.get("about"))


def _excused(logs: Sequence[Log]) -> tuple[list[Log], set[str]]:
    """Return the logs, those of restored and copied peers marked as restored, and the users who were copied."""
    events = [log for log in logs if not log.is_history]
    copied = {log.user_id for log, _, _ in copies(events)}
    copied |= {line["about"] for log in events for line in log.lines if _names_copy(line)}
    return [
        replace(log, restored=True)
        if not log.is_history and (log.restored_at is not None or log.user_id in copied)
        else log
        for log in logs
    ], copied


def check(logs: Sequence[Log], *, complete: bool = False, timely: bool = True, deletions: bool = False) -> list[Fault]:
    """Return a fault for every broken promise that these logs prove; [] for none.

    Args:
        logs: The logs of the peers. One peer may give several: its event log and its history.
        complete: The mesh was at rest before the logs end, so a missing message was lost.
        timely: Nothing was delayed on purpose and every disk had room, so departures must be reported in time and
            messages must arrive while both peers are connected.
        deletions: Somebody deleted a conversation, so messages may never come to newcomers, and later ones do.
    """
    logs, copied = _excused(_without_twins(logs))
    events = [log for log in logs if not log.is_history]
    groups = Memberships(events)
    writers = _writers(events, complete, timely, copied)
    found = [fault for log in logs for fault in (*_form(log), *_twice(log))]
    in_order = [log for log in logs if not (deletions and log.restored)]  # others got texts late, and again from others
    found += [fault for log in in_order for fault in _numbers(log)]
    found += _texts(logs, writers)
    found += check_edits(logs, complete=complete)
    found += _dms(events)
    for log in events:
        found += _answers(log) if log in in_order else ()
        found += _own_receipts(log, writers.get(log.user_id))
        found += _alternate(log)
        found += _expulsions(log)
    for log in events:
        for other in events:
            if log.user_id and other.user_id and log.user_id != other.user_id:
                sent, is_timely = _for_reader(log, other, groups), timely and not (log.is_device or other.is_device)
                found += _between(writers[log.user_id], log, other, sent, complete, is_timely, deletions)
                if writers[log.user_id].is_one:
                    found += _departures(log, other, timely)
    histories = [log for log in logs if log.is_history]
    found += groups.check(histories, complete=complete)
    found += check_histories(histories, events, groups, complete=complete)
    return found


def _without_twins(logs: Sequence[Log]) -> list[Log]:
    """Return the logs, each session once: what a peer prints and what it writes with --log are one."""
    longest: dict[tuple[str, str], LoggedSession] = {}
    for log in logs:
        for session in log.sessions:
            for start in _starts(log, session):
                if start not in longest or len(session.lines) > len(longest[start].lines):
                    longest[start] = session
    found = []
    for log in logs:
        kept, lines = 0, list[Line]()
        for session in log.sessions:
            if all(longest[start] is session for start in _starts(log, session)):
                kept += 1
                lines += session.lines
        if kept == len(log.sessions) > 0:
            found.append(log)
        elif kept:
            found.append(replace(log, lines=lines))
    return found


def _starts(log: Log, session: LoggedSession) -> Iterator[tuple[str, str]]:
    """Yield the machine and the time of each start in a session."""
    for _, begin in session.of("listening"):
        yield begin.get("peer_id", log.user_id), begin["at"]


# ---- one log


def _form(log: Log) -> Iterator[Fault]:
    for number, wrong in log.bad:
        yield Fault("form", wrong, f"{log.name}:{number}")
    for session in log.sessions:
        ended = False
        for n, line in enumerate(session.lines):
            if ended:
                yield Fault("form", f"{line['event']} after stopped", log.where(session.number + n))
            ended = ended or line["event"] == "stopped"


def _twice(log: Log) -> Iterator[Fault]:
    for session in log.sessions:
        seen: dict[str, int] = {}
        for number, line in session.of("sent", "message"):
            if line["id"] in seen:
                yield Fault("twice", f"{line['id']} again, after line {seen[line['id']] + 1}", log.where(number))
            seen.setdefault(line["id"], number)


def _numbers(log: Log) -> Iterator[Fault]:
    """Check that the messages of one run appear in the order of their numbers, even without the writer's log."""
    newest: dict[str, int] = {}
    for message, place in log.places.items():
        run, number = run_of(message)
        if number and number < newest.get(run, 0) and not log.lines[place].get("gap"):
            yield Fault("order", f"{message} after {run}.{newest[run]}, which was written later", log.where(place))
        newest[run] = max(number, newest.get(run, 0))


def _answers(log: Log) -> Iterator[Fault]:
    """Check that a message shown before one it answers or follows has a gap event."""
    gaps = {line.get("about") for _, line in log.of("gap")}
    for message, place in log.places.items():
        line = log.lines[place]
        if line["event"] == "sent" or message in gaps or line.get("gap"):
            continue
        for named in (line.get("reply_to"), *(line.get("after") or ())):
            at = log.places.get(named, -1) if named else -1
            if at > place and not log.lines[at].get("gap"):  # its text may have come late
                text = f"{message} before {named}, which it answers or follows, without a gap event"
                yield Fault("answer", text, log.where(place))


def _own_receipts(log: Log, writer: _Writer | None) -> Iterator[Fault]:
    for session in log.sessions:
        reported: set[tuple[str, str, str]] = set()
        counts: dict[tuple[str, str], int] = {}  # of one session: marks received just before its end may not be stored
        written = _written_in(session)
        for number, line in session.of("delivered", "read"):
            event, message, user = line["event"], line["id"], line["user_id"]
            for rule, text in _wrong_receipt(line, log, writer):
                yield Fault(rule, text, log.where(number))
            if (event, message, user) in reported:
                text = f"{message} {event} {'by' if event == 'read' else 'to'} one user twice"
                yield Fault("receipt", text, log.where(number))
            reported.add((event, message, user))
            if event == "read" and message in written and not _may_have(user, message, reported, counts):
                yield Fault("read", f"{message} read by a user to whom it was not delivered", log.where(number))
            count = line.get("count", 0)
            if count < counts.get((event, message), 0):
                yield Fault("receipt", f"the count of {message} fell", log.where(number))
            counts[event, message] = count


def _may_have(
    user: str, message: str, reported: set[tuple[str, str, str]], counts: Mapping[tuple[str, str], int]
) -> bool:
    """Return whether a message was reported delivered to a user, or to more users than the lines name.

    In the room one line stands for all users of a gateway who got a message at the same moment.
    """
    named = {each[2] for each in reported if each[:2] == ("delivered", message)}
    return user in named or counts.get(("delivered", message), 0) > len(named)


def _written_in(session: LoggedSession) -> set[str]:
    """Return the ids of the messages written in this session, without those of an earlier session shown again.

    The disk may already know that a message of an earlier session was delivered. That is not reported again, and its
    line may have been lost with the process, so the first line about such a message may say that it was read.
    """
    if not session.whole:
        return set()
    begins = seconds(session.lines[0])
    return {line["id"] for _, line in session.of("sent") if moment(line["sent_at"]) >= begins}


def _wrong_receipt(line: Line, log: Log, writer: _Writer | None) -> Iterator[tuple[str, str]]:
    """Yield (rule, sentence) for each fault of one receipt by itself."""
    message = line["id"]
    if message in log.received:
        yield "receipt", f"{message} is another user's message"
    elif writer is not None and message not in writer.sent and writer.had_to_log(message):
        yield "invented", f"{message} was never sent here, and is reported {line['event']}"
    sent = log.sent.get(message, line)
    of_two = _dm(log.room, log.user_id, line["user_id"])
    to = sent.get("to_id")
    if (to and to != line["user_id"]) or (of_two and sent.get("kind") == "dm" and sent["conversation_id"] != of_two):
        yield "dm", f"{message} is a direct message, and its receipt names a third user"


# ---- which messages a log must hold


class _Span(NamedTuple):
    session: LoggedSession
    begins: float
    ends: float
    whole: bool  # the log has all it sent: it stopped in good order, or the mesh was at rest


class _Writer:
    """All event logs of one user, who may write on several peers."""

    def __init__(self, logs: Sequence[Log], complete: bool, timely: bool, is_copied: bool) -> None:
        self.logs = logs
        self._is_copied = is_copied or logs[0].is_device  # another process with this key may have written
        self._timely = timely
        self._complete = complete

    @property
    def is_one(self) -> bool:
        return len(self.logs) == 1 and not self.logs[0].is_device

    @cached_property
    def sent(self) -> Mapping[str, Line]:
        return {message: line for log in self.logs for message, line in log.sent.items()}

    @cached_property
    def _spans(self) -> list[_Span]:
        found = []
        for log in self.logs:
            for session in log.sessions:
                last = self._complete and session is log.sessions[-1]
                ends = float("inf") if last else seconds(session.stopped or session.lines[-1])
                whole = session.whole and (session.stopped is not None or last)
                found.append(_Span(session, seconds(session.lines[0]), ends, whole))
        return found

    @cached_property
    def _runs(self) -> dict[str, tuple[int, int, bool]]:
        """For each run written here: its lowest and highest logged number, and whether its session is whole."""
        found: dict[str, tuple[int, int, bool]] = {}
        for span in self._spans:
            for _, line in span.session.of("sent"):
                run, number = run_of(line["id"])
                low, high, was = found.get(run, (number, number, False))
                found[run] = min(low, number), max(high, number), was or span.whole
        return found

    def had_to_log(self, message: str, sent_at: float | None = None) -> bool:
        """Return whether these logs must hold this message if its writer sent it.

        They may lack messages of a process that was killed or that kept no log.
        """
        if self._is_copied:
            return False
        run, number = run_of(message)
        if run in self._runs:
            low, high, whole = self._runs[run]
            return low <= number <= high or (whole and number > high)
        if not self._timely:  # clocks jump, and every session is logged
            return not any(log.killed for log in self.logs)
        return sent_at is not None and any(span.whole and span.begins <= sent_at <= span.ends for span in self._spans)


def _writers(events: Sequence[Log], complete: bool, timely: bool, copied: Set[str]) -> dict[str, _Writer]:
    by_user: dict[str, list[Log]] = {}
    for log in events:
        if log.user_id:
            by_user.setdefault(log.user_id, []).append(log)
    return {user: _Writer(logs, complete, timely, user in copied) for user, logs in by_user.items()}


# ---- all logs


def _texts(logs: Sequence[Log], writers: Mapping[str, _Writer]) -> Iterator[Fault]:
    """Check that one id is the same message in every log, and that its writer sent it."""
    first: dict[str, tuple[Log, Line]] = {}
    for log in sorted(logs, key=lambda log: log.is_history):  # the writer's own log first
        for message, line in log.sent.items():
            if line["sender_id"] == log.user_id:
                first.setdefault(message, (log, line))
    for log, number, line in _lines(logs, POSTS):
        message = line["id"]
        source, known = first.setdefault(message, (log, line))
        edited = "mended_id" in line or "mended_id" in known  # then its text may differ; see _versions
        fixed = _FIXED[1:] if edited else _FIXED
        other = [name for name in fixed if name in line and name in known and line[name] != known[name]]
        if other:
            text = f"{message} has another {', '.join(other)} than in {source.place_of(message)}"
            yield Fault("text", text, log.where(number))
        writer = writers.get(line["sender_id"])
        if writer and message not in writer.sent and writer.had_to_log(message, moment(line["sent_at"])):
            yield Fault("invented", f"{message} was never sent by its writer", log.where(number))


def _dms(logs: Sequence[Log]) -> Iterator[Fault]:
    holders: dict[str, list[Log]] = {}
    for log in logs:
        for conversation in sorted({x["conversation_id"] for x in log.lines if x.get("kind") == "dm" and "id" in x}):
            holders.setdefault(conversation, []).append(log)
    for log, number, line in _lines(logs, ("message",)):
        of_two = _dm(log.room, log.user_id, line["sender_id"])
        if line.get("kind") == "dm" and of_two and of_two != line["conversation_id"]:
            yield Fault("dm", f"{line['id']} is a direct message for another user", log.where(number))
    for conversation, holding in holders.items():
        for third in holding[2:]:
            if len({log.user_id for log in holding}) > 2 and not _dm(third.room, third.user_id, third.user_id):
                yield Fault("dm", f"holds the direct conversation {conversation[:8]} of two others", third.name)


@cache
def _dm(room: str, one: str, other: str) -> str:
    """Return the id of the direct conversation of two users; "" if these are not ids of a room and of users."""
    try:
        ids = [b32decode(f"{id}====") for id in (room, one, other)]
    except ValueError:
        return ""
    return base32(dm_id(*(id.hex() for id in ids))) if all(len(id) == 32 for id in ids) else ""


# ---- two logs: a writer's and a reader's


def _between(
    wrote: _Writer, writer: Log, reader: Log, for_reader: Mapping[str, list[str]], complete: bool, timely: bool,
    deletions: bool,
) -> Iterator[Fault]:  # fmt: skip
    """Check the messages that one peer sent and the other received."""
    if not writer.restored:
        if wrote.is_one and not (
            deletions and reader.restored
        ):  # with several peers, their messages interleave as they arrive
            yield from _order(writer, for_reader, reader, complete, deletions)
        yield from _lost(writer, reader, for_reader, complete, timely)
    yield from _delivered(writer, reader, complete, timely)
    if complete:
        yield from _unreceipted(writer, reader)


def _for_reader(writer: Log, reader: Log, groups: Memberships) -> dict[str, list[str]]:
    """Return the ids that the reader must get, in the order sent, by conversation."""
    dms = {line["conversation_id"] for line in reader.posts.values() if line.get("kind") == "dm"}
    dms.add(_dm(writer.room or reader.room, writer.user_id, reader.user_id))
    found: dict[str, list[str]] = {}
    for message, line in writer.sent.items():
        conversation = line["conversation_id"]
        if message not in reader.received and groups.are_apart(line, reader.user_id):
            continue
        if line.get("kind") == "room" or conversation in dms or line.get("to_id") == reader.user_id:
            found.setdefault(conversation, []).append(message)
    return found


def _order(writer: Log, sent: Mapping[str, list[str]], reader: Log, complete: bool, deletions: bool) -> Iterator[Fault]:
    """Check that messages arrive in order and none is skipped. One that comes out of order has a gap mark."""
    if any(line.get("code") == "fork" for _, line in reader.of("warning")):
        return  # entries of a forked log are not served
    came = {message: n for n, message in enumerate(reader.received)}
    for messages in sent.values():
        latest, latest_id, left_out = -1, "", list[str]()
        for message in messages:
            at = came.get(message)
            if at is None:
                if complete or seconds(writer.sent[message]) >= reader.began:  # otherwise it may have been shown before
                    left_out.append(message)
                continue
            if reader.posts[message].get("gap"):
                continue
            if at < latest and run_of(message)[0] != run_of(latest_id)[0]:  # within one run _numbers reports it
                text = f"{message} came before {latest_id}, which was sent before it ({writer.place_of(latest_id)})"
                yield Fault("order", text, reader.place_of(message))
            if left_out and not deletions:
                text = f"{message} came, and {left_out[0]}, sent before it ({writer.place_of(left_out[0])}), did not"
                yield Fault("order", text, reader.place_of(message))
                left_out = []
            if at > latest:
                latest, latest_id = at, message


def _lost(writer: Log, reader: Log, sent: Mapping[str, list[str]], complete: bool, timely: bool) -> Iterator[Fault]:
    seen_times = _times_seen(reader, writer.user_id) if timely else []
    for messages in sent.values():
        for message in messages:
            if message in reader.received:
                continue
            at = seconds(writer.sent[message])
            seen = max((end - max(start, at) for start, end in seen_times), default=0.0) if at >= reader.began else 0.0
            if complete or seen >= IN_SIGHT:
                yield Fault("lost", f"{message}, sent in {writer.place_of(message)}, never came", reader.name)


def _delivered(writer: Log, reader: Log, complete: bool, timely: bool) -> Iterator[Fault]:
    """Check that a message reported delivered reaches the reader's program, in this session or the next."""
    for number, line in writer.of("delivered"):
        if line["user_id"] != reader.user_id or line["id"] in reader.received:
            continue
        at = seconds(line)
        if complete or (timely and at >= reader.began and reader.ended - at >= IN_SIGHT):
            text = f"{line['id']} is reported delivered to {reader.name}, and is not there"
            yield Fault("delivered", text, writer.where(number))


def _unreceipted(writer: Log, reader: Log) -> Iterator[Fault]:
    if writer.sessions[-1].stopped or reader.sessions[-1].stopped:
        return  # they may not have met again
    reported = {line["id"] for _, line in writer.of("delivered") if line["user_id"] == reader.user_id}
    lives = pairwise(writer.sessions)
    since = max((seconds(later.lines[0]) for former, later in lives if not former.stopped), default=0.0)
    for message, came in reader.received.items():
        line = writer.sent.get(message)
        if line is None or message in reported:
            continue
        # A receipt of an earlier session is not reported again, and its line may have been lost with the process.
        if moment(line["sent_at"]) >= since or seconds(came) >= since + SLACK:
            text = f"{message} reached {reader.name} ({reader.place_of(message)}), and no receipt came"
            yield Fault("receipt", text, writer.place_of(message))


# ---- departures
#
# A departure is reported once, in time, and with the reason `left` only after a goodbye. A killed peer logs no end, so
# its log does not say when it ended: the tests that kill check how soon a kill is noticed.

REPORTED_WITHIN = {"left": 1.0, "expelled": 1.0, "lost": 3.0, "timeout": 35.0}  # seconds, docs/guarantees.md
SLACK = 2.0  # seconds that a busy machine may be late with a line
AFTER_GOODBYE = ("stopped", "delivered", "read")  # a leaving peer reports its last receipts for up to 5 s
DEPARTURE_WITHIN = max(REPORTED_WITHIN.values()) + SLACK


def _times_seen(log: Log, user: str) -> list[tuple[float, float]]:
    """Return the times at which this peer saw a user online, as (from, to) in seconds."""
    found = []
    for session in log.sessions:
        since: float | None = None
        for _, line in session.of("joined", "left"):
            if line["user_id"] == user and line["event"] == "joined":
                since = seconds(line)
            elif line["user_id"] == user and since is not None:
                found.append((since, seconds(line)))
                since = None
        if since is not None:
            found.append((since, seconds(session.lines[-1])))
    return found


def _alternate(log: Log) -> Iterator[Fault]:
    """Check that a user joins and leaves in turn within one session."""
    for life in log.sessions:
        last: dict[str, str] = {}
        for number, line in life.of("joined", "left") if life.whole else ():
            event, user = line["event"], line["user_id"]
            if last.get(user, "left") == event and user != log.user_id:  # its own is reported to users it hosts
                text = f"reported {'again ' if user in last else ''}that {user[:8]} {event}"
                yield Fault("departure", f"{text}, who was {'here' if event == 'joined' else 'not'}", log.where(number))
            last[user] = event


def _expulsions(log: Log) -> Iterator[Fault]:
    """Check that whoever is reported as expelled while here is reported as gone soon."""
    for life in log.sessions:
        here = set[str]()
        expelled = dict[str, tuple[float, int]]()  # when, and the line that says so; of users who were here
        ends = list[tuple[tuple[float, int], float]]()
        for number, line in life.of("joined", "left", "member"):
            user = line.get("user_id", "")
            if line["event"] == "joined":
                here.add(user)
            elif line["event"] == "left":
                here.discard(user)
                ends += [(expelled.pop(user), seconds(line))] if user in expelled else []
            elif line["change"] == "expelled" and user in here:
                expelled[user] = seconds(line), number
        ends += [(one, seconds(life.lines[-1])) for one in expelled.values()]
        for (at, number), end in ends:
            if end - at > REPORTED_WITHIN["expelled"] + SLACK:
                yield Fault("departure", f"somebody was expelled and here for {end - at:.1f} s more", log.where(number))


def _departures(gone: Log, witness: Log, timely: bool) -> Iterator[Fault]:
    """Check what one peer reported about the ends of the other's sessions."""
    yield from _without_goodbye(gone, witness, timely)
    for n, session in enumerate(gone.sessions if timely else ()):
        if session.stopped is None:
            continue
        following = gone.sessions[n + 1 : n + 2]
        again = seconds(following[0].lines[0]) if following else float("inf")
        at = seconds(session.stopped)
        for life in witness.sessions:
            before = [x for _, x in life.of("joined", "left") if x["user_id"] == gone.user_id and seconds(x) <= at]
            if before and before[-1]["event"] == "joined":
                yield from _reported_once(gone, witness, life, at, again)


def _reported_once(gone: Log, witness: Log, life: LoggedSession, at: float, again: float) -> Iterator[Fault]:
    """Check one session of a witness after `gone` stopped at `at`. `again` is its next start, or infinity."""
    for number, line in life.of("left"):
        reported = seconds(line)
        if line["user_id"] == gone.user_id and reported >= at - SLACK:
            if reported > again:
                break  # this line is about a later end
            if reported - at > REPORTED_WITHIN.get(line["reason"], DEPARTURE_WITHIN) + SLACK:
                text = f"reported {reported - at:.1f} s late that {gone.name} was gone ({line['reason']})"
                yield Fault("departure", text, witness.where(number))
            return
    if min(seconds(life.lines[-1]), again) - at > DEPARTURE_WITHIN:
        yield Fault("departure", f"never reported that {gone.name} left", witness.name)


def _without_goodbye(gone: Log, witness: Log, timely: bool) -> Iterator[Fault]:
    """Check that a peer reported as having said goodbye does not go on logging; if not `timely`, that it ever did."""
    spans = [
        (seconds(life.lines[0]), max((seconds(x) for x in life.lines if x["event"] not in AFTER_GOODBYE), default=0.0))
        for life in gone.sessions
    ]  # fmt: skip
    for number, line in witness.of("left"):
        if line["user_id"] == gone.user_id and line["reason"] == "left":
            at = seconds(line)
            goes_on = any(begins < at - SLACK and at + SLACK < last for begins, last in spans)
            if goes_on if timely else not any(life.stopped for life in gone.sessions):
                text = f"reported that {gone.name} said goodbye, which it did not"
                yield Fault("departure", text, witness.where(number))


# ---- edits
#
# Only the writer of a message edits or deletes it, and every log shows the same result. An edited message names the
# edit (`mended_id`), and logs that name the same edit have the same text. Histories made at rest agree.

OWN_EDITS = frozenset(event for event, kind in CHANGE_EVENTS.items() if kind.about == "own")
_SAME = ("event", "id", "by_id", "sent_at", *(kind.field for kind in CHANGE_EVENTS.values() if kind.field))


def check_edits(logs: Sequence[Log], *, complete: bool) -> Iterator[Fault]:
    """Check the edits in these logs against each other; with `complete` those in the histories too."""
    yield from _entries(logs)
    yield from _authors(logs)
    yield from _versions(logs)
    if complete:
        for one, other in combinations([log for log in logs if log.is_history], 2):
            yield from _views(one, other)


def _lines(logs: Sequence[Log], events: Container[str]) -> Iterator[tuple[Log, int, Line]]:
    return ((log, number, line) for log in logs for number, line in enumerate(log.lines) if line["event"] in events)


def _entries(logs: Sequence[Log]) -> Iterator[Fault]:
    """Check that an edit, deletion or reaction is the same in every log."""
    first: dict[str, tuple[Log, int, Line]] = {}
    for log, number, line in _lines(logs, CHANGE_EVENTS):
        source, at, known = first.setdefault(line["entry_id"], (log, number, line))
        other = [name for name in _SAME if line.get(name) != known.get(name)]
        if other:
            text = f"{line['entry_id']} has another {', '.join(other)} than in {source.where(at)}"
            yield Fault("text", text, log.where(number))


def _authors(logs: Sequence[Log]) -> Iterator[Fault]:
    """Check that only its writer edits or deletes a message."""
    writers = {line["id"]: line["sender_id"] for _, _, line in _lines(logs, POSTS)}
    for log, number, line in _lines(logs, OWN_EDITS):
        if writers.get(line["id"], line["by_id"]) != line["by_id"]:
            yield Fault("edit", f"{line['id']} is {line['event']} by a user who did not write it", log.where(number))


def _versions(logs: Sequence[Log]) -> Iterator[Fault]:
    """Check that a message has the text of the edit it names, in every log."""
    said: dict[str, tuple[Log, int, str]] = {}
    for log, number, line in _lines(logs, {*OWN_EDITS, *POSTS}):
        edit = line.get("mended_id") if line["event"] in POSTS else line["entry_id"]
        if edit is None:
            continue
        text = line.get("text", "")
        source, at, known = said.setdefault(edit, (log, number, text))
        if text != known:
            wrong = f"{line['id']} has another text after an edit than in {source.where(at)}"
            yield Fault("text", wrong, log.where(number))


def _views(one: Log, other: Log) -> Iterator[Fault]:
    """Check that two histories made at rest show each message alike."""
    for message, place in other.places.items():
        at = one.places.get(message)
        if at is not None and _view(one.lines[at]) != _view(other.lines[place]):
            text = f"{message} is edited, deleted or reacted to differently than in {one.where(at)}"
            yield Fault("edit", text, other.where(place))


def _view(line: Line) -> Any:
    said = [one.get("entry_id") for name in LISTS for one in line.get(name, ())]
    return line["text"], line.get("mended_id"), line.get("deleted"), said


# ---- memberships
#
# Whoever was expelled gets nothing more, and nobody gets what they write, until a pardon.
# All peers agree who belongs to a group, and nothing written after a cut is shown. A removal, once known, hides what
# the removed user wrote after it, even if it was shown before. So messages of users who were ever removed or left may
# be missing, and only members must hold the messages of a group.

_GONE = ("removed", "left")


class Memberships:
    """The groups of a mesh, as its event logs report them.

    Args:
        events: Event logs, not histories.
    """

    def __init__(self, events: Sequence[Log]) -> None:
        self._events = events

    @cached_property
    def undelivered(self) -> dict[str, str]:
        """The messages after a cut, as reported to their writers: id -> user id of the writer."""
        warnings = ((log, line) for log in self._events for line in log.lines if line.get("code") == "undelivered")
        return {id: log.user_id for log, line in warnings for id in line.get("undelivered") or ()}

    @cached_property
    def expelled(self) -> dict[str, float]:
        """Since when users are expelled, of those who were not pardoned."""
        since: dict[str, float] = {}
        for line in sorted((one for _, _, one in _lines(self._events, ("member", "left"))), key=seconds):
            what = line.get("change") or line.get("reason")
            if what in ("expelled", "dropped"):
                since.setdefault(line["user_id"], seconds(line))
            elif what in ("pardoned", "restored", "admitted"):
                since.pop(line["user_id"], None)
        return since

    def are_apart(self, message: Line, reader: str) -> bool:
        """Return whether a message may never come to a user: that one or its writer had been expelled."""
        since = min(self.expelled.get(user, float("inf")) for user in (message["sender_id"], reader))
        return moment(message["sent_at"]) >= since - SLACK

    @cached_property
    def gone(self) -> set[tuple[str, str]]:
        """(conversation id, user id) of every user who was ever removed or left."""
        lines = (line for log in self._events for _, line in log.of("group"))
        return {(line["conversation_id"], str(line.get("target_id"))) for line in lines if line["change"] in _GONE}

    @cached_property
    def members(self) -> dict[str, set[str]]:
        """The user ids of the members of each group at the end, by its latest line."""
        last: dict[str, Line] = {}
        for log in self._events:
            for group, (_, line) in _last(log).items():
                if group not in last or last[group]["at"] < line["at"]:
                    last[group] = line
        return {group: set(line["member_ids"]) for group, line in last.items()}

    def holds(self, conversation: str, user: str) -> bool:
        """Return whether a user must hold the messages of a conversation: always, except of others' groups."""
        return conversation not in self.members or user in self.members[conversation]

    def may_be_gone(self, message: Line) -> bool:
        """Return whether a sent message may be missing everywhere: its writer was cut off from the group."""
        return (message["conversation_id"], message["sender_id"]) in self.gone

    def check(self, histories: Sequence[Log], *, complete: bool) -> Iterator[Fault]:
        """Check the event logs, and the histories against them. `complete` is that of `check`."""
        for log in self._events:
            yield from self._wrongly_shown(log)
        if complete:
            yield from self._differences()
            for history in histories:
                for message in self.undelivered.keys() & history.places.keys():
                    text = f"{message} was written after a removal, and is in this history"
                    yield Fault("group", text, history.place_of(message))

    def _wrongly_shown(self, log: Log) -> Iterator[Fault]:
        """Check that each message in a group is by a member, and not written after a removal that was known here."""
        ever: dict[str, set[str]] = {}  # the members so far, where this log has the whole group
        removed: set[tuple[str, str]] = set()
        for number, line in enumerate(log.lines):
            group = line.get("conversation_id", "")
            if line["event"] == "group":
                if line["change"] == "created" or group in ever:
                    ever.setdefault(group, set()).update(line["member_ids"])
                if line["change"] == "removed":
                    removed.add((group, str(line.get("target_id"))))
            elif line["event"] == "message":
                if group in ever and line["sender_id"] not in ever[group]:
                    text = f"{line['id']} is by a user who was never a member of its group"
                    yield Fault("group", text, log.where(number))
                if line["id"] in self.undelivered and (group, line["sender_id"]) in removed:
                    text = f"{line['id']} was written after a removal that was known here, and is shown"
                    yield Fault("group", text, log.where(number))

    def _differences(self) -> Iterator[Fault]:
        """Check that at rest all peers report the same name and members of a group."""
        first: dict[str, tuple[Log, int, Line]] = {}
        for log in self._events:
            if log.restored or any(life.stopped is None for life in log.sessions[:-1]):
                continue  # a line of what it learned just before a kill may be missing
            for group, (number, line) in _last(log).items():
                source, at, known = first.setdefault(group, (log, number, line))
                if (set(line["member_ids"]), line["group"]) != (set(known["member_ids"]), known["group"]):
                    text = f"the group {group[:8]} has another name or other members than in {source.where(at)}"
                    yield Fault("group", text, log.where(number))


def _last(log: Log) -> dict[str, tuple[int, Line]]:
    """Return the last line about each group, with its line number."""
    return {line["conversation_id"]: (number, line) for number, line in log.of("group")}


# ---- stores
#
# All peers hold the same messages in one order, and those that their event logs name. Two histories with different
# orders are always a fault. A missing message is one only if the mesh was at rest and the histories are whole (made
# without `--limit`, `--since`, `--before`, `--search`). A history may be of a single conversation.

MOST_NAMED = 3  # ids in one fault


def check_histories(
    histories: Sequence[Log], events: Sequence[Log], groups: Memberships, *, complete: bool
) -> Iterator[Fault]:
    """Check histories against each other, and with `complete` against event logs."""
    for one, other in combinations(histories, 2):
        yield from _history_order(one, other)
        if complete:
            yield from _same(one, other, groups)
    for history in histories if complete else ():
        for log in events:
            if history.user_id and not log.restored:
                yield from _kept(log, history, groups)
                yield from _stored_if_delivered(log, history, groups)


def _history_order(one: Log, other: Log) -> Iterator[Fault]:
    """Check that two histories agree on the order of the messages both hold."""
    newest, newest_id = -1, ""
    for message, place in other.places.items():
        at = one.places.get(message)
        if at is None:
            continue
        if at < newest:
            text = f"{message} is after {newest_id} here, and before it in {one.name}"
            yield Fault("history", text, other.where(place))
            return  # one moved message would make a fault of each that it passed
        newest, newest_id = at, message


def _same(one: Log, other: Log, groups: Memberships) -> Iterator[Fault]:
    """Check that two histories hold the same messages of each conversation that both show and belong to."""
    shared = {
        conversation
        for conversation in one.conversations & other.conversations
        if all(groups.holds(conversation, log.user_id) for log in (one, other))
    }
    for has, lacks in ((one, other), (other, one)):
        missing = [
            message for message, line in has.posts.items()
            if message not in lacks.places
            and (line["conversation_id"] in shared or line.get("kind") == "room")
            and not groups.are_apart(line, lacks.user_id)
        ]  # fmt: skip
        if missing and _may_be_expected(lacks, has.posts[missing[0]]["conversation_id"]):
            yield Fault("lost", f"{_named(missing)}, in {has.place_of(missing[0])}, is not here", lacks.name)


def _kept(log: Log, history: Log, groups: Memberships) -> Iterator[Fault]:
    """Check that a store has what its own log sent or received, and what others sent to the room."""
    own = log.user_id == history.user_id
    missing = [
        message for message, line in log.posts.items()
        if message not in history.places
        and (own or (line["event"] == "sent" and line.get("kind") == "room"))
        and _may_be_expected(history, line["conversation_id"])
        and not groups.may_be_gone(line)
        and (own or not groups.are_apart(line, history.user_id))
    ]  # fmt: skip
    if missing:
        what = "accepted or shown" if own else "sent"
        yield Fault("lost", f"{_named(missing)}, {what} in {log.place_of(missing[0])}, is not here", history.name)


def _stored_if_delivered(log: Log, history: Log, groups: Memberships) -> Iterator[Fault]:
    """Check that a message reported delivered to this user is in this user's store."""
    for number, line in log.of("delivered"):
        if line["user_id"] != history.user_id or line["id"] in history.places:
            continue
        known = log.sent.get(line["id"])
        if known is None or groups.may_be_gone(known):
            continue
        if _may_be_expected(history, known["conversation_id"]):
            yield Fault("delivered", f"{line['id']} is not in {history.name}", log.where(number))


def _may_be_expected(history: Log, conversation: str) -> bool:
    """Return whether a whole history would show this conversation: it has it, or has more than one."""
    return conversation in history.conversations or len(history.conversations) > 1


def _named(messages: Iterable[str]) -> str:
    """Return the first few ids, and how many more there are."""
    names = list(messages)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
