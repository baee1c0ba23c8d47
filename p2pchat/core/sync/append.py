"""What hosted users write: entries made, stamped, chained and signed.

No process ever appends to a log it did not begin: the first thing a user writes in a conversation begins a log of
this run, which names the tips its peer holds of that user there (`before`); in the room it begins with the user's
profile. Heads are signed once a commit and at least once a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from p2pchat.config import Settings
from p2pchat.core.effects import Refused
from p2pchat.core.inputs import Said
from p2pchat.core.log import Batch, Entry, LogId, Ref, encode_entries, encode_entry, extend_chain, head_message
from p2pchat.core.mending import MENDING, is_own, shape_fault
from p2pchat.core.sync.causal_order import Order, followed
from p2pchat.core.sync.clock import next_c
from p2pchat.core.sync.ingest import Intake
from p2pchat.core.sync.log_index import Conversation, Log
from p2pchat.core.sync.progress import Shelf
from p2pchat.protocol import MAX_INT, ConversationId, Mark, RunId, UserId

ROOM_FOR_REST = 2048  # bytes of an entry besides its text: 8 marks in `before`, 2 references, stamps

Word = tuple[str, Any, Ref | None, int | None]  # kind, body, what it answers, when it is claimed to be written


class Writing:
    """The hand of the hosted users."""

    def __init__(self, shelf: Shelf, intake: Intake, order: Order) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._intake = intake
        self._order = order
        self._runs: dict[tuple[str, UserId], RunId] = {}  # of the running logs
        self._last_place: dict[tuple[str, UserId], int] = {}  # place of a user's own newest entry

    def resume(self, conversation: Conversation, user: UserId, place: int) -> None:
        """Note where a hosted user wrote last before this run; the first word counts."""
        self._last_place.setdefault((conversation.id, user), place)

    def host(self, user: UserId) -> None:
        """A user who may have written is hosted from now on: note where it wrote last, as far as that is known."""
        for conversation in self._shelf.conversations.by_id.values():
            for place, writer, _, _ in reversed(conversation.recent if user in conversation.writers else ()):
                if writer == user:
                    self.resume(conversation, user, place)

    def said(self, said: Said) -> None:
        """Make entries of what a hosted user says; refused with a reason, or kept when the commit is durable."""
        conversation = self._shelf.conversations.by_id.get(said.conversation)
        refused = self._refusal(conversation, said)
        if refused or conversation is None:
            self._ctx.emit(Refused(said.ticket, *(refused or ("conversation", "no such conversation here"))))
            return
        log = self._log(conversation, said.user)
        words = _words(said)
        self._write(conversation, log, self._introduced(conversation, log, words))
        self._shelf.step.said.append((said.ticket, log.id, log.seq - len(words) + 1, len(words), said.kind))

    def next_entry(self, conversation: ConversationId, user: UserId) -> tuple[LogId, int] | None:
        """Return where what this user says next will stand; None where that is not settled yet, and in groups."""
        run, known = self._runs.get((conversation, user)), self._shelf.conversations.by_id.get(conversation)
        if run is None or known is None or known.is_talk or user not in self._shelf.hosted:
            return None
        log = known.log(user, run)
        return None if log is None or not log.own or log.limit < log.seq else (log.id, log.seq + 1)

    def write(
        self, conversation: Conversation, user: UserId, kind: str, body: Any, ticket: int | None,
        cite: tuple[int, str] | None = None,
    ) -> None:  # fmt: skip
        """Write one entry to a group; `ticket`: who asked for it, None when nobody did."""
        log = self._log(conversation, user)
        self._write(conversation, log, [(kind, body, None, None)], cite)
        self._answer(log, kind, ticket)

    def put(self, conversation: Conversation, user: UserId, entries: list[Entry], ticket: int | None) -> None:
        """Write entries as they are: the first of a group, whose bytes give its id."""
        log = self._log(conversation, user)
        self._append(conversation, log, entries)
        self._answer(log, entries[-1].k, ticket)

    def _answer(self, log: Log, kind: str, ticket: int | None) -> None:
        if ticket is not None:
            self._shelf.step.said.append((ticket, log.id, log.seq, 1, kind))

    def _refusal(self, conversation: Conversation | None, said: Said) -> tuple[str, str] | None:
        settings = self._ctx.settings
        if said.user not in self._shelf.hosted:
            return "user", "this user is not hosted here"
        if conversation is None:
            return None
        if not said.bodies:
            return "empty", "there is nothing to say"
        group = conversation.group
        if not conversation.may_write(said.user) or (group is not None and not group.is_present(said.user)):
            return "member", "only members write in this conversation"
        if said.kind in MENDING and (refused := _mending_fault(said)):
            return refused
        if any(not 0 <= claimed <= MAX_INT for claimed in said.claims.values()):
            return "claim", "a time before 1970, or after 2255, can be claimed for no message"
        for body in said.bodies if not are_plain(said.bodies, settings) else ():
            fault = text_fault(body, settings.max_text_bytes, settings.max_entry_bytes)
            if fault:
                return fault
        return None

    def profile(self, user: UserId) -> None:
        """Write what a hosted user is called, and tells of itself, into the room: what it wrote of that in earlier
        runs outweighs everything that `here` tells."""
        room = self._shelf.conversations.by_id.get(self._shelf.conversations.room)
        if room is not None:
            self._write(room, self._log(room, user), [self._profile(user)])

    def _profile(self, user: UserId) -> Word:
        hosted = self._shelf.hosted[user]
        return "profile", {"name": hosted.name, **({"about": hosted.about} if hosted.about else {})}, None, None

    def _introduced(self, conversation: Conversation, log: Log, words: list[Word]) -> list[Word]:
        """In the room a log begins with who writes it."""
        return [self._profile(log.id.user), *words] if conversation.members is None and not log.seq else words

    def _log(self, conversation: Conversation, user: UserId) -> Log:
        """Return the running log of a user in a conversation, begun if need be."""
        run = self._runs.get((conversation.id, user))
        log = conversation.log(user, run) if run else None
        if log is not None and log.limit < log.seq:  # its writer was removed and added again
            return self._begin(conversation, user, self._ctx.draw(8).hex())
        if log is None or not log.own:  # begun never, or forked, or a copy of this process went on with it
            began = conversation.log(user, self._shelf.run) is not None
            return self._begin(conversation, user, self._ctx.draw(8).hex() if began else self._shelf.run)
        return log

    def _begin(self, conversation: Conversation, user: UserId, run: RunId) -> Log:
        self._runs[conversation.id, user] = run
        log = conversation.new_log(LogId(conversation.id, user, run), own=True)
        writer = conversation.writer(user)
        most = self._ctx.settings.max_before
        if conversation.is_talk:
            log.before = tuple(writer.visible_marks()[-most:])
        else:
            tips = sorted(writer.tail_tips(), key=lambda tip: tip.last_c, reverse=True)
            log.before = tuple(tip.tail_mark for tip in tips[:most])
        return log

    def _write(
        self, conversation: Conversation, log: Log, words: list[Word], cite: tuple[int, str] | None = None
    ) -> None:
        """Append entries of these kinds and bodies.

        A profile follows nothing: it is shown to nobody, so a gap before it could be told of no message, and names are
        known soonest. What was shown before it the next words follow.
        """
        after = self._followed(conversation, log)
        if conversation.is_talk and conversation.group is not None:
            cite = conversation.group.cite
        entries: list[Entry] = []
        now = self._ctx.now.utc
        before: tuple[Mark, ...] = () if log.seq else log.before
        numbered = enumerate(words, next_c(now, log.last_c, conversation.newest_c))
        for c, (kind, body, re, claimed) in numbered:
            follows = () if kind == "profile" else after
            entries.append(Entry(kind, now, c, re, follows, before, cite, body, claimed))
            before = ()
            if kind != "profile":
                break
        entries += [Entry(kind, now, c, re, (), (), cite, body, claimed) for c, (kind, body, re, claimed) in numbered]
        self._append(conversation, log, entries)

    def _append(self, conversation: Conversation, log: Log, entries: list[Entry]) -> None:
        for part in self._parts(entries):
            self._sign(conversation, log, *part)
        self._shelf.step.own = True
        place = self._order.own(conversation, log, entries)
        if any(entry.k != "profile" for entry in entries):
            self._last_place[conversation.id, log.id.user] = place

    def _followed(self, conversation: Conversation, log: Log) -> tuple[Ref, ...]:
        user = log.id.user
        since = self._last_place.get((conversation.id, user), 0)
        return followed(conversation, user, since, self._ctx.settings.max_after)

    def _parts(self, entries: list[Entry]) -> Iterator[tuple[list[str], list[Entry]]]:
        """Cut new entries into batches."""
        raws = encode_entries(entries)
        sizes = list(map(len, raws)) if "".join(raws).isascii() else [len(raw.encode()) for raw in raws]
        start = 0
        while start < len(raws):
            end = start + self._fitting(sizes[start : start + self._ctx.settings.max_batch_entries])
            yield raws[start:end], entries[start:end]
            start = end

    def _fitting(self, sizes: list[int]) -> int:
        """Return how many entries of these sizes fit into one batch: one at least."""
        most = self._ctx.settings.max_batch_bytes
        if sum(sizes) <= most:
            return len(sizes)
        return max(1, sum(size <= most for size in accumulate(sizes)))

    def _sign(self, conversation: Conversation, log: Log, raws: list[str], entries: list[Entry]) -> None:
        first, prev = log.seq + 1, log.chain
        chain = extend_chain(prev, raws)
        sign = self._shelf.hosted[log.id.user].sign
        head = sign(head_message(log.id, log.seq + len(raws), chain))
        self._intake.keep(conversation, log, Batch(log.id, first, raws, entries, prev, chain, head))


def _words(said: Said) -> list[Word]:
    kind, re, claims = said.kind, said.re, said.claims
    if not claims:
        return [(kind, _body(kind, body), re, None) for body in said.bodies]
    return [(kind, _body(kind, body), re, claims.get(index)) for index, body in enumerate(said.bodies)]


def _body(kind: str, text: str) -> str | None:
    return None if kind == "delete" else text


def _mending_fault(said: Said) -> tuple[str, str] | None:
    """Return (code, sentence) for what cannot change how another entry is shown."""
    for body in said.bodies:
        fault = shape_fault(said.kind, _body(said.kind, body), said.re)
        if fault:
            return "shape", fault
    if said.kind != "reaction" and said.re is not None and not is_own(said.user, said.re):
        return "foreign", f"only who wrote a message can {said.kind} it"
    return None


def are_plain(texts: Sequence[str], settings: Settings) -> bool:
    """Say whether texts are short ASCII, which text_fault() finds nothing in: looked at all at once."""
    most, joined = min(settings.max_text_bytes, settings.max_entry_bytes // 8), "".join(texts)
    return joined.isascii() and "\0" not in joined and len(max(texts, key=len, default="")) <= most


def text_fault(text: str, max_text_bytes: int, max_entry_bytes: int) -> tuple[str, str] | None:
    """Return (code, sentence) for a text that may not be sent, None for one that may."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        return "text", "the text holds half of a surrogate pair: it is no valid Unicode"
    if "\0" in text:
        return "text", "the text holds a NUL character: send it as a file, or without"
    if size > max_text_bytes:
        return "too_long", f"the text has {size} bytes of UTF-8, the limit is {max_text_bytes}: send it in parts"
    if size > max_entry_bytes // 8 and written_bytes(text) > max_entry_bytes - ROOM_FOR_REST:
        return "too_long", f"the text is above {max_entry_bytes} bytes when written as JSON: send it in parts"
    return None


def written_bytes(text: str) -> int:
    """Return how long the entry of a text is, besides its marks: JSON takes six bytes for a control character."""
    return len(encode_entry(Entry("text", 0, 0, b=text)).encode())
