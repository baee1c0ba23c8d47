"""Entries of hosted users: created, stamped, chained and signed.

A process appends only to logs that it began. The first entry of a user in a conversation begins a log of this run,
which names the tips held here of that user (`before`); in the room it begins with the user's profile. Heads are signed
once per commit and at least once per batch.

The clock of a log only rises. If the machine's clock was ahead and was put right, the next text begins another log, so
that one wrong hour is not the hour of all that follows. What replaces something earlier by a higher clock, as a name or
an edit, goes on above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, count, repeat
from typing import Any

from p2pchat.core.effects import WriteRefused
from p2pchat.core.groups.group_fact import FACT, run_of
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.inputs import OwnStateSet, WriteRequest
from p2pchat.core.log import (
    MAX_AFTER,
    MAX_ENTRY_BYTES,
    MAX_FILES,
    MAX_TEXT_BYTES,
    Batch,
    Entry,
    LogId,
    Marks,
    RawEntry,
    Ref,
    encode_entry,
    encode_header,
    extend_chain,
    head_message,
    is_plausible,
    next_c,
    size_bytes,
)
from p2pchat.core.names import plain
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.ingest import Ingest
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import TooLong
from p2pchat.kinds import KINDS, MESSAGE_KINDS, RELATION_KINDS
from p2pchat.kinds.choice import OWN
from p2pchat.kinds.user_profile import PROFILE
from p2pchat.protocol import MAX_INT, Mark, RunId, UserId

PLAIN_BYTES = MAX_ENTRY_BYTES // 8  # any ASCII of that size fits an entry, however it is escaped
NO_CLOCK = MAX_INT // 2  # the year 2112: what is stamped later was stamped by no clock that is set wrong
UNSHOWN = (PROFILE.name, OWN.name)  # they follow nothing
ENTRY_OVERHEAD_BYTES = 2048  # bytes of an entry besides its text: 2 references, stamps, what later versions add


class Appender:
    """Appends what hosted users write."""

    def __init__(self, sync: SyncContext, ingest: Ingest) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._ingest = ingest
        self._running: dict[tuple[str, UserId], LogState] = {}  # the logs that grow, as far as they are own
        self._last_place: dict[tuple[str, UserId], int] = {}  # place of a user's own newest entry

    def note_place(self, conversation: ConversationState, user: UserId, place: int) -> None:
        """Note the place of a hosted user's last entry before this run. Later calls change nothing."""
        self._last_place.setdefault((conversation.id, user), place)

    def on_user_hosted(self, user: UserId) -> None:
        """Note where a newly hosted user wrote last."""
        for conversation in self._sync.conversations.may_have_entries_of(user):
            shown = conversation.recently_shown.values() if user in conversation.writers else ()
            if places := [place for place, writer, _ in shown if writer == user]:
                self.note_place(conversation, user, places[-1])

    def write_texts(self, request: WriteRequest) -> None:
        """Append the entries of a request. Answered by WriteRefused at once, or by WriteAccepted when durable."""
        conversation = self._sync.conversations.get(request.conversation)
        refused = self._refusal(conversation, request)
        if refused or conversation is None:
            self._ctx.emit(WriteRefused(request.ticket, *(refused or ("conversation", "no such conversation here"))))
            return
        kind, user, bodies = request.kind, request.user, _bodies(request)
        if request.marks and self._sync.answer_again(request.ticket, user, request.marks.key, kind):
            return
        now = self._ctx.now.utc
        if not is_plausible(conversation.newest_c, now):  # the clock was put back since
            shown = filter(None, map(conversation.log_at, conversation.recently_shown))
            conversation.newest_c = max((log.last_c for log in shown if is_plausible(log.last_c, now)), default=0)
        log = self._running_log(conversation, user)
        if not is_plausible(log.last_c, now) and is_plausible(request.above, now):  # the clock was ahead
            log = self._begin(conversation, user, self._ctx.draw(8).hex())
        self._append_bodies(
            log, kind, bodies, request.re, request.claims, begins_with_profile=True,
            above=min(request.above, NO_CLOCK), marks=request.marks,
        )  # fmt: skip
        self._sync.step.writes.append((request.ticket, log, log.seq - len(bodies) + 1, len(bodies), kind))

    def fact_entry(self, body: Any, group: GroupReplica | None = None) -> Entry:
        """Return an entry with a fact of a group, None: of a new one."""
        now = self._ctx.now.utc
        return Entry(FACT, now, next_c(now, 0, self._newest_c(group)), b=body)

    def write_fact(self, conversation: ConversationState, user: UserId, entry: Entry, ticket: int | None) -> LogState:
        """Write a fact of a group as a log of its own; return it. `ticket` is that of its request, None without one."""
        before, certificate = self._tail_marks(conversation, user), self._sync.hosted[user].guest
        run = run_of(conversation.id, user, before, certificate, encode_entry(entry))
        log = LogState(conversation, LogId(conversation.id, user, run), own=True)
        log.before = before
        self._append_entries(log, [entry])
        if ticket is not None:
            self._sync.step.writes.append((ticket, log, 1, 1, FACT))
        return log

    def _tail_marks(self, conversation: ConversationState, user: UserId) -> tuple[Mark, ...]:
        """Return the newest tips of a user, on which its next log builds."""
        tips = sorted(conversation.writer(user).tail_tips(), key=lambda tip: tip.last_c, reverse=True)
        return tuple(tip.tail_mark for tip in tips[: self._ctx.settings.max_before])

    def _newest_c(self, group: GroupReplica | None) -> int:
        """Return the newest clock in the two conversations of a group: each is above what its writer knew in both."""
        ids = () if group is None else (group.id, group.talk)
        here = (self._sync.conversations.get(id) for id in ids)
        clocks = (found.newest_c for found in here if found is not None)
        return max((c for c in clocks if is_plausible(c, self._ctx.now.utc)), default=0)

    def _refusal(self, conversation: ConversationState | None, request: WriteRequest) -> tuple[str, str] | None:
        if request.user not in self._sync.hosted:
            return "user", "this user is not hosted here"
        if conversation is None:
            return None
        if not request.bodies:
            return "empty", "there is nothing to send"
        group = conversation.group
        if not conversation.may_write(request.user) or (group is not None and not group.is_present(request.user)):
            return "member", "only members can write in this conversation"
        if request.kind in RELATION_KINDS and (refused := _relation_fault(request)):
            return refused
        if request.claims and not 0 <= min(request.claims.values()) <= max(request.claims.values()) <= MAX_INT:
            return "claim", "a message cannot claim a time before 1970 or after 2255"
        if request.marks and (fault := _marks_fault(request, request.marks)):
            return fault
        for body in request.bodies if not are_plain(request.bodies) else ():
            fault = text_fault(body)
            if fault:
                return fault
        return None

    def write_profile(self, user: UserId) -> None:
        """Append a user's name and `about` to the room. A profile of an earlier run outweighs a `here` frame."""
        room = self._sync.conversations[self._sync.conversations.room]
        log, above = self._running_log(room, user), self._sync.people.named_at(user)
        self._append_bodies(log, "profile", [self._profile_of(user)], above=above)

    def write_own_state(self, request: OwnStateSet) -> None:
        """Append what a user chose, above all that it chose before. Answered as write_texts."""
        user, texts = request.user, request.texts
        conversation = self._sync.conversations.open(dm_naming(user, user))
        fault = self._ctx.own.fault(texts) if user in self._sync.hosted else "this user is not hosted here"
        if conversation is None or fault:
            self._ctx.emit(WriteRefused(request.ticket, "choice", fault))
            return
        log = self._running_log(conversation, user)
        self._append_bodies(log, OWN.name, [texts], above=self._ctx.own.clock(user))
        self._sync.step.writes.append((request.ticket, log, log.seq, 1, OWN.name))

    def _profile_of(self, user: UserId) -> dict[str, str]:
        hosted = self._sync.hosted[user]
        return {"name": hosted.name, **({"about": hosted.about} if hosted.about else {})}

    def _running_log(self, conversation: ConversationState, user: UserId) -> LogState:
        """Return the running log of a user in a conversation, begun if need be."""
        log = self._running.get((conversation.id, user))
        if log is not None and log.limit < MAX_INT:  # its writer was removed and added again
            return self._begin(conversation, user, self._ctx.draw(8).hex())
        if log is None or not log.own:  # or forked, or of a copy
            began = log is not None or conversation.log(user, self._sync.run) is not None
            return self._begin(conversation, user, self._ctx.draw(8).hex() if began else self._sync.run)
        return log

    def _begin(self, conversation: ConversationState, user: UserId, run: RunId) -> LogState:
        log = LogState(conversation, LogId(conversation.id, user, run), own=True)
        self._running[conversation.id, user] = log
        if conversation.is_talk and conversation.group is not None:
            most = self._ctx.settings.max_before
            facts = conversation.group.ending(user, most - 1)
            log.before = (*facts, *conversation.writer(user).visible_marks()[len(facts) - most :])
        else:
            log.before = self._tail_marks(conversation, user)
        return log

    def _append_bodies(
        self, log: LogState, kind: str, bodies: Sequence[Any], re: Ref | None = None, claims: Mapping[int, int] = {}, *,
        begins_with_profile: bool = False, above: int = 0, marks: Marks | None = None,
    ) -> None:  # fmt: skip
        """Append entries with clocks above this one. In the room a log begins with its writer's profile; elsewhere that
        goes to the room before, so that whoever gets what somebody wrote, from whomever, knows its name.

        A profile and own state follow nothing, so that they are known soonest; nobody is shown one, so no message
        could report a gap before it, and none follows it. The next entries follow what was shown before.
        """
        conversation = log.conversation
        now, newest = self._ctx.now.utc, max(conversation.newest_c, self._newest_c(conversation.group))
        c = next_c(now, max(above, log.last_c), newest)
        entries: list[Entry] = []
        if not log.seq and begins_with_profile:
            if conversation.members is None:
                entries.append(Entry("profile", now, c, b=self._profile_of(log.user)))
                c += 1
            elif self._sync.hosted[log.user].is_kept and not self._sync.people.has_profile(log.user):
                self.write_profile(log.user)
        after = chain([() if kind in UNSHOWN else self._references(log)], repeat(()))
        entries += [
            Entry(kind, now, c + at, re, follows, body, claims.get(at))
            for at, body, follows in zip(count(), bodies, after)
        ]
        if marks:
            entries[-1] = marks.put_on(entries[-1])
            self._sync.note_key(log, log.seq + len(entries), entries[-1])
        self._append_entries(log, entries)

    def _append_entries(self, log: LogState, entries: list[Entry]) -> None:
        self._sign_all(log, entries)
        self._sync.step.own = True
        place = self._ingest.order.release_own(log, entries)
        if entries[-1].k not in UNSHOWN:
            self._last_place[log.key] = place

    def _references(self, log: LogState) -> tuple[Ref, ...]:
        """Return the newest entries of others that a user was shown after its own last one, for `after`.

        Left out are entries of a forked log and entries cut off from a talk, because a peer that lacks them cannot get
        them, and those of logs that were shown early, because other peers would wait for what these follow.
        """
        shown, since = log.conversation.recently_shown.items(), self._last_place.get(log.key, 0)
        newer = [Ref(ref, seq) for ref, (place, by, seq) in shown if by != log.user and place > since]
        return tuple([ref for ref in newer if not _is_left_out(log.conversation, ref)][-MAX_AFTER:])

    def _sign_all(self, log: LogState, entries: list[Entry]) -> None:
        """Split new entries into batches, and sign each."""
        raws, settings, start = list(map(encode_entry, entries)), self._ctx.settings, 0
        while start < len(raws):
            part = raws[start : start + settings.max_batch_entries]
            size = size_bytes(part)
            if size > settings.max_batch_bytes:
                sizes = accumulate(size_bytes([raw]) for raw in part)
                part = part[: max(1, sum(size <= settings.max_batch_bytes for size in sizes))]
                size = size_bytes(part)
            self._sign(log, part, entries[start : start + len(part)], size)
            start += len(part)

    def _sign(self, log: LogState, raws: list[RawEntry], entries: list[Entry], size: int) -> None:
        user, header = self._sync.hosted[log.user], ""
        if not log.seq:
            header = encode_header(log.id, log.before, user.guest)
            log.begin(header)
        first, prev = log.seq + 1, log.chain
        chain = extend_chain(prev, raws)
        head = user.sign(head_message(log.id, log.seq + len(raws), chain))
        self._ingest.append(log, Batch(log.id, first, raws, entries, prev, chain, head, size, header))


def _is_left_out(conversation: ConversationState, ref: Ref) -> bool:
    log = conversation.log_at(ref.log)
    is_cut = log is not None and (log.forked or ref.seq > log.show_limit)
    return is_cut or ref.log in conversation.waiting_logs.shown_early


def _bodies(request: WriteRequest) -> Sequence[Any]:
    kind = KINDS[request.kind]
    return request.bodies if kind.body == "text" else list(map(kind.body_of, request.bodies))


def _relation_fault(request: WriteRequest) -> tuple[str, str] | None:
    """Return (code, sentence) for an invalid edit, deletion or reaction; None for a valid one."""
    log = None if request.re is None else request.re.log
    faults = (KINDS[request.kind].fault(request.user, body, log) for body in _bodies(request))
    return next(filter(None, faults), None)


def _marks_fault(request: WriteRequest, marks: Marks) -> tuple[str, str] | None:
    """Return (code, sentence) for marks that an entry cannot have; None for valid ones."""
    if wrong := marks.fault(request.kind):
        return "shape", wrong
    if len(marks.files) > (MAX_FILES if request.kind in MESSAGE_KINDS else 0):
        return "files", f"a message has at most {MAX_FILES} files"
    entry = marks.put_on(Entry("text", 0, 0, b=request.bodies[-1]))
    if marks.files and size_bytes([encode_entry(entry)]) > MAX_ENTRY_BYTES - ENTRY_OVERHEAD_BYTES:
        return "too_long", "the text and the names of the files are too long together: shorten one of them"
    return None


def are_plain(texts: Sequence[str]) -> bool:
    """Return whether all texts are short ASCII, for which text_fault() returns None. One check for all is faster."""
    joined = "".join(texts)
    return joined.isascii() and "\0" not in joined and len(max(texts, key=len, default="")) <= PLAIN_BYTES


def text_fault(text: str) -> tuple[str, str] | None:
    """Return (code, sentence) for a text that may not be sent; None for one that may."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        return "text", "the text holds half of a surrogate pair: it is no valid Unicode"
    if "\0" in text:
        return "text", "the text holds a NUL character: remove it, or send the data as text, such as base64"
    if size > MAX_TEXT_BYTES:
        return "too_long", f"the text has {size} bytes of UTF-8, the limit is {MAX_TEXT_BYTES}: send it in parts"
    if size > PLAIN_BYTES and encoded_bytes(text) > MAX_ENTRY_BYTES - ENTRY_OVERHEAD_BYTES:
        return "too_long", f"the text is above {MAX_ENTRY_BYTES} bytes when written as JSON: send it in parts"
    return None


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return these texts as plain str if all can be sent; raises as check_text."""
    checked = [plain(text) for text in texts]
    if not all(checked) or not are_plain(checked):
        for text in checked:
            check_text(text)
    return checked


def check_text(text: str) -> str:
    """Return a text as a plain str if it can be sent.

    Raises:
        TypeError: It is no str. ValueError: It is empty, contains NUL, or cannot be encoded.
        TooLong: It is too long; `.limit_bytes` is the limit.
    """
    text = plain(text)
    if not text:
        raise ValueError("the text is empty")
    if len(text) <= PLAIN_BYTES and text.isascii() and "\0" not in text:
        return text  # the same answer as are_plain(), in a third of its time for a single text
    fault = text_fault(text)
    if fault is not None and fault[0] == "too_long":
        size = len(text.encode())
        if size > MAX_TEXT_BYTES:
            raise TooLong("the text", size, MAX_TEXT_BYTES)
        limit = MAX_ENTRY_BYTES - ENTRY_OVERHEAD_BYTES
        raise TooLong("the text, its control characters escaped,", encoded_bytes(text), limit)
    if fault is not None:
        raise ValueError(fault[1])
    return text


def encoded_bytes(text: str) -> int:
    """Return the size of a text's entry without its marks. JSON takes six bytes for a control character."""
    return size_bytes([encode_entry(Entry("text", 0, b=text))])
