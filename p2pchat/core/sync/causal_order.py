"""Causal order of display: how long an entry waits for those that it follows, and when it is shown with a gap.

An entry is shown after the entries that it answers (`re`) and follows (`after`). If one of them is missing, the entry
waits, and later entries of its log behind it: at most 300 s while a linked peer says that it has the missing one, and 5
s otherwise, also if that is here and waits itself: it may wait for what comes behind it. Who gives nothing of what is
wanted for 10 s says so in vain. Then the entry is released with a gap mark. The first entry of a log waits for the logs
it builds on. An entry gets its place, the next number of this database, in the transaction that releases it; consumers
count by places. Waiting entries are durable and acknowledged; only showing them waits.

What waits is found by what it waits for (`WaitingLogs`). Of the users of a member who are no contacts a number of
entries may wait, and of all of them; more that a contact brought, or wrote. Further ones are released at once, with a
gap mark.

Source: docs/protocol.md, "Order".
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

from p2pchat.bounded import Counts
from p2pchat.core.durable_changes import LateTexts, Relation, Stretch, UnreleasedEntry
from p2pchat.core.edits import relation_of
from p2pchat.core.effects import GapShown, WarningIssued
from p2pchat.core.log import Batch, Entry, LogId, Ref, bits_between, ref_key
from p2pchat.core.members.member_directory import Line
from p2pchat.core.names import describe_user
from p2pchat.core.sync.conversation_state import ConversationState, LogState, WaitingEntry
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.kinds import KINDS, RELATION_KINDS
from p2pchat.protocol import MAX_INT, ConversationId, UserId, user_start

KEPT_RECENT = 4  # logs remembered as shown last: two for `after`, and some of the writer's own
OF_ALL = 4  # times as many of all contacts, and of all others; a guess
SHOWN_EARLY = "it is shown with gap marks, and what is missing later"
OF_CONTACT = "contact"  # ends the line of a contact: not among all the others
SHARED_AHEAD = 86_400_000_000  # microseconds: a day, more than a clock of another time zone is wrong
MAX_HOLDERS = 8  # users of one peer that are remembered for a missing entry; a guess
MAX_KNOWN = 10_000  # missing entries of which holders are remembered; a guess: 2 MiB


class CausalOrder:
    """Releases entries in causal order and assigns their places."""

    def __init__(self, sync: SyncContext, next_place: int) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self.next_place: int = next_place
        self._holders: dict[tuple[ConversationId, Ref], Iterable[UserId]] = {}  # users whose peers claimed to hold it
        self._ready: deque[LogState] = deque()  # logs that may go on, until `_run`
        self._counted: dict[LogId, tuple[Line, int]] = {}  # waiting entries, and where they count
        self._waiting: Counter[Line] = Counts()  # of these, by member or contact, and at () of all members

    def load(self, waiting: Iterable[UnreleasedEntry]) -> None:
        """Let the entries wait that storage holds unreleased."""
        for item in waiting:
            log = self._sync.conversations.find(item.log)
            if log is None:
                continue
            self.note_age(log, item.seq, [item.entry])
            if log.user in self._sync.hosted:
                self._sync.note_key(log, item.seq, item.entry)
            if item.entry.k == "profile":
                log.add_profile(item.seq)
            if refs := references_of(log, item.seq, item.entry):
                relation = self._relation_of(log, item.seq, item.entry)
                log.add_waiting(WaitingEntry(item.seq, refs, self._ctx.now.mono, relation))

    # ---- new entries

    def note_age(self, log: LogState, first: int, entries: Sequence[Entry]) -> None:
        """Note which new entries of a log are history. Clocks rise within a log; what is written here is news."""
        if entries[0].c <= log.conversation.history_until and log.user not in self._sync.hosted:
            log.history_seq = (
                first - 1 + bisect_right(entries, log.conversation.history_until, key=lambda entry: entry.c)
            )

    def on_entries(self, log: LogState, first: int, entries: Sequence[Entry], remote: RemoteState | None) -> None:
        """Release the new entries of a log that may be shown, and let the rest wait.

        Args:
            entries: The new entries; () where none of them names others.
            remote: Who brought them; None for a file.
        """
        for seq, entry in enumerate(entries, first):
            if entry.after or entry.re is not None or (seq == 1 and log.before):
                refs = references_of(log, seq, entry)
                relation = None if entry.re is None else self._relation_of(log, seq, entry)
                waits = log.queue or seq > log.show_limit
                if waits or self._missing(log, seq, refs):
                    log.add_waiting(WaitingEntry(seq, refs, self._ctx.now.mono, relation))
                elif relation is not None:
                    self._ctx.change.relations.append(relation)
        if log.queue:
            self._block(log)
        self._advance(log)
        if log.conversation.waiting_logs:
            if log.queue:
                self._take_places(log, remote)
            if not log.conversation.writer(log.user).uncut:  # other logs may have changed visibility too
                self._ready.extend(log.conversation.waiting_logs.waiting_for_user(user_start(log.user)))
            self._run()

    def on_visibility_changed(self, log: LogState) -> None:
        """Release entries after the visible part of a talk's log changed.

        Entries that wait for these are released later (_run): logs that changed at the same time may hold entries
        whose references are not registered yet.
        """
        self._block(log)
        self._advance(log)
        self._ready.append(log)

    def release_own(self, log: LogState, entries: Sequence[Entry]) -> int:
        """Release entries of a hosted user at once, since the writer has seen what they follow. Return the
        last place.
        """
        if not log.released:
            for mark in log.before:
                if (below := log.conversation.log(log.user, mark.run)) is not None:  # it came back, and may wait
                    self._release_now(below)
        self._release(log, len(entries))
        if entries[-1].k in RELATION_KINDS:  # entries written at once are of one kind
            first = log.seq - len(entries) + 1
            self._add_relations(self._relation_of(log, seq, entry) for seq, entry in enumerate(entries, first))
        place = self.next_place - 1
        self._run()
        return place

    def _release_now(self, log: LogState) -> None:
        """Release all waiting entries of a log with a gap mark, after those of the logs it builds on."""
        for each in _waiting_below(log):
            seq, refs, *_ = each.queue[0]
            self._emit_gap(each, seq, self._missing(each, seq, refs))
            while each.queue and each.queue[0].seq <= each.show_limit:
                self._add_relations([each.pop_waiting().relation])
            each.conversation.waiting_logs.remove(each.id)
            self._count(each)
            if each.show_limit > each.released:
                self._release(each, each.show_limit - each.released, gap=True)

    def _take_places(self, log: LogState, remote: RemoteState | None) -> None:
        """Count the waiting entries of a log, or release them at once if too many wait.

        What a contact's link brings counts there, anything else at the member of its writer, or at who is a contact.
        Others may have room for them, so own entries do not name what was released.
        """
        if remote is None or log.id not in log.conversation.waiting_logs:
            return
        line = () if remote.link.known else self._sync.quota.bytes.line(log.user)
        contact = remote.link.peer if remote.link.known else log.user
        where, _ = self._counted.setdefault(log.id, (line[:1] or (contact, OF_CONTACT), 0))
        self._count(log)
        limits = self._ctx.settings
        most = limits.waiting_entries_a_contact if where[1:] else limits.waiting_entries_a_member
        if self._waiting[where] > most or self._waiting[where[1:]] > OF_ALL * most:
            self._ctx.count("waiting_full")
            who = describe_user(self._sync.people.names.get(log.user))
            text = f"{who} follows too much that is not here: {SHOWN_EARLY}"
            self._ctx.warn_at_times(WarningIssued("waiting", text, log.user))
            log.conversation.waiting_logs.shown_early.update((each.ref, None) for each in _waiting_below(log))
            self._release_now(log)

    def _count(self, log: LogState) -> None:
        """Count the waiting entries of a log anew, if it is one of those that are counted."""
        if log.id not in self._counted:
            return
        where, former = self._counted.pop(log.id)
        for node in (where, where[1:]):
            self._waiting[node] += len(log.queue) - former
        if log.queue:
            self._counted[log.id] = where, len(log.queue)

    def resume(self, conversation: ConversationState) -> None:
        """Restore the waiting entries after a restart, or release them."""
        for log in list(conversation.by_ref.values()):
            self._block(log)
        self.retry(conversation)

    def _missing(self, log: LogState, seq: int, refs: Sequence[Ref]) -> list[Ref]:
        """Return the references of this entry that have no place yet."""
        return [ref for ref in refs if not self._is_released(log, seq, ref)]

    def _is_released(self, log: LogState, seq: int, ref: Ref) -> bool:
        if ref.log == log.ref:
            return ref.seq < seq  # entries of one log are released in order anyway
        conversation = log.conversation
        found = conversation.log_at(ref.log)
        if found is not None and (found.released >= ref.seq or found.forked):
            return True
        return conversation.is_talk and conversation.is_cut_off(ref)  # no entry waits for what was cut off

    # ---- waiting

    def _block(self, log: LogState) -> None:
        """Let a log wait whose next entry has missing references, unless the entry is hidden."""
        if log.queue and log.queue[0].seq <= log.show_limit and log.id not in log.conversation.waiting_logs:
            missing = self._missing(log, *log.queue[0][:2])
            log.conversation.waiting_logs.put(log, missing)
            self._start_timer(log)

    def _start_timer(self, log: LogState) -> None:
        seq, refs, since, _ = log.queue[0]
        wait = max(0.0, since + self._ctx.settings.order_wait - self._ctx.now.mono)
        if self._sync.quota.blocks_all(self._missing(log, seq, refs)):
            wait = min(wait, self._ctx.settings.want_after)
        self._sync.after(wait, partial(self._on_overdue, log, seq))

    def _on_overdue(self, log: LogState, seq: int) -> None:
        if not log.queue or log.queue[0][0] != seq or log.conversation.waiting_logs.get(log.id) is not log:
            return
        if seq > log.show_limit:
            log.conversation.waiting_logs.remove(log.id)
            return
        _, refs, since, relation = log.queue[0]
        missing = self._missing(log, seq, refs)
        left = since + self._ctx.settings.order_wait_most - self._ctx.now.mono
        on_its_way = left > 0 and any(self._is_coming(log, ref) for ref in missing)
        if missing and (on_its_way or self._builds_on_waiting(log, seq)):
            wait = min(max(left, 1.0), self._ctx.settings.order_wait)
            self._sync.after(wait, partial(self._on_overdue, log, seq))
            return
        if missing:
            self._emit_gap(log, seq, missing)
            log.pop_waiting()
            self._add_relations([relation])
            self._release(log, 1, gap=True)
            self._advance(log)
            if log.queue:
                self._start_timer(log)
        self._ready.append(log)
        self._run()

    def _emit_gap(self, log: LogState, seq: int, missing: Sequence[Ref]) -> None:
        """Tell programs of a gap."""
        for remote in self._sync.remotes.values():
            self._note_holder(remote, log.conversation.id, missing)
        seen = {user for ref in missing for user in self._holders.pop((log.conversation.id, ref), ())}
        self._ctx.emit(GapShown(log.id, seq, tuple(f"{ref.log}.{ref.seq}" for ref in missing), tuple(sorted(seen))))

    def on_link_down(self, remote: RemoteState) -> None:
        """Remember the users whose peers claimed to hold missing entries, before the link's state is dropped."""
        for (id, user), marks in remote.ahead.items():
            conversation = self._sync.conversations.get(id)
            if conversation is not None and conversation.waiting_logs:
                for mark in marks.values():
                    awaited = conversation.waiting_logs.awaited(ref_key(user, mark.run), mark.seq)
                    self._note_holder(remote, id, awaited)

    def _note_holder(self, remote: RemoteState, conversation: ConversationId, refs: Sequence[Ref]) -> None:
        if len(self._holders) >= MAX_KNOWN:
            self._holders.clear()
        for ref in refs:
            if remote.claims(conversation, ref):
                self._holders[conversation, ref] = tuple(islice(remote.link.users, MAX_HOLDERS))

    def _builds_on_waiting(self, log: LogState, seq: int) -> bool:
        """Return whether the first entry of a log is due while a log it builds on waits. It never overtakes it."""
        earlier = [log.conversation.log(log.user, mark.run) for mark in log.before] if seq == 1 else []
        return any(each is not None and each.queue for each in earlier)

    def _is_coming(self, log: LogState, ref: Ref) -> bool:
        """Return whether an entry that this log waits for is on its way."""
        if ref.log == log.ref:
            return False  # what comes later in a log cannot be shown first
        found = log.conversation.log_at(ref.log)
        if found is not None and found.seq >= ref.seq:
            is_hidden = found.show_limit < ref.seq  # a cut names logs to come
            return is_hidden and any(found.key in remote.ahead for remote in self._giving())
        return any(remote.claims(log.conversation.id, ref) for remote in self._giving())

    def _giving(self) -> list[RemoteState]:
        """Return the links whose claims count: not of those that give nothing of what is wanted."""
        since = self._ctx.now.mono - self._ctx.settings.want_progress_timeout
        return [remote for remote in self._sync.remotes.values() if not remote.gives_nothing(since)]

    def retry(self, conversation: ConversationState) -> None:
        """Release everything that may be released now."""
        self._ready.extend(conversation.waiting_logs.logs())
        self._run()

    def on_log_ended(self, log: LogState) -> None:
        """Release what waits for entries of a log that will not come, since it forked."""
        self._ready.extend(log.conversation.waiting_logs.waiting_for(log.ref, 1, MAX_INT))
        self._run()

    def _run(self) -> None:
        """Release what logs may release that are ready, and what waits for that, until nothing changes."""
        while self._ready:
            log = self._ready.popleft()
            waiting = log.conversation.waiting_logs
            if waiting.get(log.id) is not log:
                continue
            first = log.queue[0] if log.queue else None
            missing: list[Ref] = []
            while log.queue and not missing and log.queue[0].seq <= log.show_limit:
                missing = self._missing(log, *log.queue[0][:2])
                if not missing:
                    self._add_relations([log.pop_waiting().relation])
            self._advance(log)
            if log.queue:
                waiting.put(log, missing)
                if log.queue[0] is not first:
                    self._start_timer(log)
            else:
                waiting.remove(log.id)
            self._count(log)

    def _advance(self, log: LogState) -> None:
        """Release everything before the first waiting entry."""
        end = min(log.queue[0][0] - 1, log.show_limit) if log.queue else log.show_limit
        if end > log.released:
            self._release(log, end - log.released)

    # ---- places

    def _relation_of(self, log: LogState, seq: int, entry: Entry) -> Relation | None:
        """Return what an entry that has come does to another.

        Where the newest of all people counts, what is stamped far ahead does not: nobody could go on above it.
        """
        relation = relation_of(log.id, seq, entry)
        is_shared = relation is not None and KINDS[entry.k].shared
        return None if is_shared and entry.c > self._ctx.now.utc + SHARED_AHEAD else relation

    def _add_relations(self, relations: Iterable[Relation | None]) -> None:
        """Add the changes that entries released in this step make to other entries."""
        self._ctx.change.relations += filter(None, relations)

    def place_late(self, log: LogState, batch: Batch, remote: RemoteState | None) -> None:
        """Give texts that come in the place of stubs new places, with gap marks: what follows them was shown before.

        Those that wait go on waiting, now for what they follow too, and are counted as in `on_entries`.
        """
        entries, at, shown = batch.entries or [], 0, max(0, log.released + 1 - batch.first)
        until = 0 if log.user in self._sync.hosted else log.conversation.history_until
        self._add_relations(
            self._relation_of(log, seq, entry) for seq, entry in enumerate(entries[:shown], batch.first)
        )
        log.fill_waiting(
            WaitingEntry(seq, refs, self._ctx.now.mono, self._relation_of(log, seq, entry))
            for seq, entry in enumerate(entries[shown:], batch.first + shown)
            if (refs := references_of(log, seq, entry))
        )
        while at < len(entries):
            old = entries[at].c <= until
            end = bisect_right(entries, until, at, key=lambda entry: entry.c) if old else len(entries)
            end, place = (min(end, shown), self.next_place) if at < shown else (end, 0)
            places = Stretch(place, log.id, batch.first + at, end - at, self._ctx.now.utc, old, gap=True)
            self._ctx.change.late.append(LateTexts(places, batch.raws[at:end]))
            self.next_place += places.count if place else 0
            at = end
        self._count(log)
        self._take_places(log, remote)
        self._ready.append(log)
        self._run()

    def _release(self, log: LogState, count: int, *, gap: bool = False) -> None:
        """Assign places to the next entries of a log: in one stretch those that are all old, or all news."""
        first = start = log.released + 1
        end, stretches = log.released + count, self._ctx.change.stretches
        while first <= end:
            old = first <= log.history_seq
            stop = min(end, log.history_seq) if old else end
            last, more = stretches[-1] if stretches else None, stop - first + 1
            if (
                last
                and last.log == log.id
                and last.first + last.count == first
                and last.old == old
                and not (gap or last.gap)
            ):
                stretches[-1] = last.replace(count=last.count + more)
            else:
                stretches.append(Stretch(self.next_place, log.id, first, more, self._ctx.now.utc, old, gap))
            self.next_place += more
            log.released, first = stop, stop + 1
        self._sync.step.shown.append(log)
        missing, shown = self._sync.missing.get(log.id, 0), end
        if missing:
            shown = (bits_between(start, end) & ~missing).bit_length() - 1
        if shown >= start:  # nothing is shown of a stub
            log.conversation.on_shown(self.next_place - 1, log, start, shown, KEPT_RECENT)
        if log.conversation.waiting_logs:
            self._ready.extend(log.conversation.waiting_logs.waiting_for(log.ref, start, end))


def _waiting_below(log: LogState) -> list[LogState]:
    """Return a log with waiting entries after the logs with waiting entries that it builds on."""
    found: list[LogState] = []
    seen: set[LogId] = set()
    todo = [(log, False)]
    while todo:
        each, is_done = todo.pop()
        if is_done:
            found.append(each)
        elif each.queue and each.id not in seen:
            seen.add(each.id)
            todo.append((each, True))
            below = [log.conversation.log(each.id.user, mark.run) for mark in each.before]
            todo += [(one, False) for one in below if one is not None]
    return found


def references_of(log: LogState, seq: int, entry: Entry) -> tuple[Ref, ...]:
    """Return the references that an entry of this log must come after: `re`, `after` and what its log builds on."""
    refs = entry.after if entry.re is None or entry.re in entry.after else (*entry.after, entry.re)
    if seq == 1:
        refs += tuple(Ref(ref_key(log.user, mark.run), mark.seq) for mark in log.builds_on)
    return refs
