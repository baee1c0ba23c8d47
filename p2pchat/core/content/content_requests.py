"""Requests of content: small files of shown messages come by themselves, others when asked for; few at a time.

Content is requested when a program asks for it, or when it is small and a message that names it is shown here. Each
request is a line in `meta` until the content is whole or nobody wants it any more, so a restart continues it. A few
requests without a program are active at a time, or many of small files. One for which nothing comes makes room for the
next.

Content that comes by itself is charged to the writer of the message, and counts like what is stored: a contact has room
of its own, and the users of another member share that of their member (quota.py). A message whose writer has no
room left is shown like any other: its content comes when it is asked for. The charge stands in `meta` until the content
is removed from the disk, which gives the writer that room back; meanwhile further messages that name the same content
cost nothing. Content that a program has removed does not come by itself again.

Contacts and members share the turns. So nobody keeps the files of others away by naming many that never come, or come
slowly. What somebody asked for is marked so in `meta`. While little of the disk is free, none comes by itself.

Anybody can name content that another user sent, in a conversation where nobody has it. So a request remembers other
messages that name the same content, and turns to the next one when nothing comes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from p2pchat.bounded import Counts, drop
from p2pchat.core.durable_changes import Collected, DiskLevel, LogFacts
from p2pchat.core.log import FileRef, LogId, attachments_of
from p2pchat.core.members.member_directory import Line
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import PIECE_BYTES, UserId

Source = tuple[LogId, int]  # a message that names the content

PREFIX = "fetch:"  # in meta, before a root: what is requested
CHARGE = "paid:"  # in meta, before the root of content that came by itself: the user it was charged to, and what
ASKED = "asked"  # at the end of the line of a request that a program or a person made
FORGOTTEN = "forgotten:"  # in meta, before the root of content that a program has removed
MAX_FORGOTTEN = 10_000  # of these; an older one may come again with another message. A guess: 2 MiB
# Fetched without a program of contacts at a time, and as much of others; a file counts as a piece at most, and as
# LEAST_COST at least: 4 large files, or 512 small ones. On a busy machine links waited for the disk with half as many:
# 6,000 files took 1.2 and 1.9 times as long as with 768.
AT_ONCE_BYTES = 4 * PIECE_BYTES
LEAST_COST = 2048
OF_ONE_BYTES = 3 * PIECE_BYTES  # of them, of one contact or one member: one may give nothing, or a byte at a time
MAX_MESSAGES = 4  # that name the same content, remembered; a guess
RETRY_AFTER = 60.0  # seconds until content that could not be kept is tried again; a guess
# What a file counts at least, as a log does: 65,536 of a contact may wait, in 40 MiB, and 16,384 of a member.
LEAST_CHARGE = 16 * 1024


class ContentRequest(Collected):
    """A message that names the content, the charge in bytes, and who was charged; "" for nobody.

    Attributes:
        others: Further messages that name it, the next one first.
        is_asked: A program or a person asked for it.
        cost: What it takes of AT_ONCE_BYTES; of a file whose size is not known as much as of a large one.
        line: Where its payer counts as one who is no contact; () for a contact, and for nobody.
    """

    source: Source
    payer: str = ""
    charged: int = 0
    others: list[Source] = []
    is_asked: bool = False
    cost: int = PIECE_BYTES
    line: Line = ()

    @property
    def party(self) -> Line:
        """The party that has its turn: a contact, a user with its member, who asked, or "" for nobody."""
        return (ASKED,) if self.is_asked else self.line or (self.payer,)

    @property
    def of_contacts(self) -> bool:
        """Return whether it has its turn with the content of contacts."""
        return self.is_asked or not self.line

    @classmethod
    def parse(cls, line: str) -> ContentRequest:
        conversation, user, run, seq, *rest = line.split()
        request = cls((LogId(conversation, user, run), int(seq)), is_asked=rest[-1:] == [ASKED])
        if len(rest) > 1:
            request.payer, request.charged = rest[0], int(rest[1])
            request.cost = min(request.charged, PIECE_BYTES)
        return request

    def __str__(self) -> str:
        log, seq = self.source
        charge = [self.payer, str(self.charged)] if self.payer else []
        return " ".join([*log, str(seq), *charge, *([ASKED] if self.is_asked else [])])


class WaitingRequests:
    """Requests of one kind that wait for their turn: parties one after the other, each its oldest first."""

    def __init__(self) -> None:
        self.active: dict[str, tuple[Line, int]] = {}  # party and cost, by root, of those that have their turn
        self._taken: Counter[Line] = Counts()  # the costs of these, together, at (), and by the first node of a party
        self._waiting: dict[str, tuple[Line, int]] = {}  # party and cost
        # Who was served longest ago first; never empty. The first of a dict from which many were taken takes long.
        self._parties: dict[Line, OrderedDict[str, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, root: object) -> bool:
        return root in self._waiting

    def put(self, root: str, party: Line, cost: int) -> None:
        """Have a request wait behind all others of its party."""
        self._waiting[root] = party, cost
        self._parties.setdefault(party, OrderedDict())[root] = None

    def remove(self, root: str) -> None:
        """Have a request wait no more, and give its turn to the next one."""
        if root in self.active:
            party, cost = self.active.pop(root)
            self._take(party, -cost)
        if root in self._waiting:
            party, _ = self._waiting.pop(root)
            drop(self._parties, party, root)

    def take(self) -> str | None:
        """Give a request its turn, and return it; None if none may have it now."""
        if self._taken[()] >= AT_ONCE_BYTES:
            return None
        party = next((party for party in self._parties if self._taken[party[:1]] < OF_ONE_BYTES), None)
        if party is None:
            return None
        root = next(iter(self._parties[party]))
        _, cost = self._waiting[root]
        self.remove(root)
        if party in self._parties:
            self._parties[party] = self._parties.pop(party)
        self.active[root] = party, cost
        self._take(party, cost)
        return root

    def _take(self, party: Line, cost: int) -> None:
        self._taken[()] += cost
        self._taken[party[:1]] += cost


class ContentRequests:
    """All requests of content, by root.

    Args:
        begin: Begins to fetch something without a program.
    Attributes:
        open: The requests.
        unshown: The messages that are not shown yet, and what they name.
    """

    def __init__(
        self, sync: SyncContext, meta: dict[str, str], begin: Callable[[Source, FileRef], None]
    ) -> None:  # fmt: skip
        self._sync = sync
        self._ctx = sync.ctx
        self._begin = begin
        self._most = sync.ctx.settings.auto_fetch_bytes
        self.open: dict[str, ContentRequest] = {
            name.removeprefix(PREFIX): ContentRequest.parse(line)
            for name, line in meta.items()
            if name.startswith(PREFIX)
        }
        self._charges: dict[str, tuple[UserId, int]] = {}  # by root, as in `meta`: 300 bytes each
        self._forgotten = dict.fromkeys(name.removeprefix(FORGOTTEN) for name in meta if name.startswith(FORGOTTEN))
        # By whether contacts sent it, or programs asked for it.
        self._turns = {True: WaitingRequests(), False: WaitingRequests()}
        self.unshown: dict[LogId, list[tuple[int, str]]] = {}
        self._bytes = sync.quota.files

    @property
    def has_waiting(self) -> bool:
        """Return whether anything waits for its turn."""
        return any(self._turns.values())

    # ---- messages

    def on_loaded(self, logs: Iterable[LogFacts], meta: Mapping[str, str]) -> None:
        """Count what is charged, once the contacts are known; begin what messages name that were shown."""
        for name, line in meta.items():
            if name.startswith(CHARGE):
                payer, charged = line.split()
                self._charges[name.removeprefix(CHARGE)] = payer, int(charged)
        self._bytes.load(self._charges.values())
        self._bytes.load((request.payer, request.charged) for request in self.open.values() if request.payer)
        released = {facts.log: facts.released for facts in logs}
        for root, request in self.open.items():
            if request.payer:
                request.line = self._bytes.lines.get(request.payer, ())
            log, seq = request.source
            self._wait_if_shown(log, seq, root, released.get(log, seq))

    def on_commit(self, step: Step) -> None:
        """Request with a commit what the messages name that it stores: a kill behind it must not lose the request."""
        for log, batch in step.with_files if self._most else ():
            if not (log.own or log.conversation.has_facts):
                for seq, entry in enumerate(batch.entries or (), batch.first):
                    self._request_small((log.id, seq), attachments_of(entry), is_shown=seq <= log.released)

    def on_durable(self, step: Step) -> None:
        """Begin what messages name that are shown. Before that is durable they cannot be looked up.

        A text that came in the place of a stub may have been looked up when only the stub was there.
        """
        change = step.change
        if change.late:
            self.on_commit(step)
        late = (late.places for late in change.late if late.places.first_place)
        for stretch in [*change.stretches, *late]:
            for seq, root in self.unshown.pop(stretch.log, ()):
                self._wait_if_shown(stretch.log, seq, root, stretch.first + stretch.count - 1)
        if self.open:
            self.begin_next()

    def _request_small(self, source: Source, files: Iterable[FileRef], *, is_shown: bool) -> None:
        """Request the small ones of the files of one message. `is_shown`: its commit shows it."""
        user = source[0].user
        self._bytes.settle(user)
        for file in files:
            if file.root in self._forgotten or file.size > self._most:
                continue
            request = self.open.get(file.root)
            if request is None:
                request = ContentRequest(source, cost=min(max(file.size, LEAST_COST), PIECE_BYTES))
                request.line = self._bytes.lines.get(user, ())
                if not (file.root in self._charges or self._bytes.is_free(user)):
                    request.payer, request.charged = user, max(file.size, LEAST_CHARGE)
                    if self._bytes.full(user, request.charged) is not None:
                        self._ctx.count("content_quota")
                        continue
                    self._bytes.add(user, request.charged)
                self._keep(file.root, request)
            known = [request.source, *request.others]
            has_place = len(known) <= MAX_MESSAGES
            if has_place and source not in known:
                request.others.append(source)
            if has_place or is_shown:
                self._wait_if_shown(*source, file.root, 0)

    def _wait_if_shown(self, log: LogId, seq: int, root: str, released: int) -> None:
        """Have something wait for its turn, or until the message is shown that names it."""
        if seq <= released:
            self._wait(root, (log, seq))
        else:
            self.unshown.setdefault(log, []).append((seq, root))

    def _wait(self, root: str, shown: Source | None = None) -> None:
        """Have a request wait for its turn, if it has none, to be fetched for a message that is `shown` now."""
        request = self.open.get(root)
        if request is None or self.is_wanted(root):
            return
        turns = self._turns[request.of_contacts]
        if root not in turns:
            self._turn_to(root, request, shown or request.source)
            turns.put(root, request.party, request.cost)

    # ---- turns

    def begin_next(self) -> None:
        """Begin those whose turn it is, if their messages still name them."""
        for turns in self._turns.values():
            while turns and self._sync.quota.disk is DiskLevel.ENOUGH and (root := turns.take()) is not None:
                self._look_up(root)

    def _look_up(self, root: str) -> None:
        source = self.open[root].source
        self._sync.find_file(source, root, partial(self._on_file_found, root, source))

    def _on_file_found(self, root: str, source: Source, file: FileRef | None) -> None:
        request = self.open.get(root)
        if request is None or request.source != source or not self.is_wanted(root):
            return
        is_shown = request.is_asked or source[0].user not in self._sync.members.concealed()
        if file is not None and is_shown:
            self._begin(source, file)
        elif request.others:  # the message was deleted, or nobody is shown it
            request.source = request.others.pop(0)
            self._keep(root, request)
            self._look_up(root)
        else:
            self.end(root, is_new=False)

    def postpone(self, root: str) -> None:
        """Let others have the turn of something of which nothing comes."""
        self._end_turn(root)
        self.next_message(root)
        self._wait(root)
        self.begin_next()

    def _end_turn(self, root: str) -> None:
        """Have something neither wait nor have a turn; what was asked for may have one among files of unknown users."""
        for turns in self._turns.values():
            turns.remove(root)

    def is_forgotten(self, root: str) -> bool:
        """Return whether a program has removed this, and none has asked for it since."""
        return root in self._forgotten

    def is_wanted(self, root: str) -> bool:
        """Return whether something comes without a program."""
        return any(root in turns.active for turns in self._turns.values())

    # ---- programs, and ends

    def on_asked(self, root: str, source: Source) -> None:
        """Remember what a program asks for, over a restart."""
        self._remember(root)
        request = self.open.get(root) or ContentRequest(source)
        turns = self._turns[request.of_contacts]
        if root in turns:
            turns.remove(root)
        request.is_asked = True
        self._turn_to(root, request, source)
        self._keep(root, request)

    def next_message(self, root: str) -> Source | None:
        """Return another message that names something of which nothing comes, and fetch it for that one from now on."""
        request = self.open.get(root)
        if request is None or not request.others:
            return None
        self._turn_to(root, request, request.others[0])
        return request.source

    def end(self, root: str, *, is_new: bool = True) -> None:
        """Forget what is whole, or does not come. `is_new`: some of it came, and stays charged.

        The next ones begin once that is durable, with those that end meanwhile.
        """
        request = self.open.pop(root, None)
        if request is None:
            return
        self._end_turn(root)
        self._ctx.change.meta[PREFIX + root] = None
        if request.payer and is_new:
            self._charges[root] = request.payer, request.charged
            self._ctx.change.meta[CHARGE + root] = f"{request.payer} {request.charged}"
        elif request.payer:
            self._bytes.add(request.payer, -request.charged)

    def on_removed(self, root: str, *, forgotten: bool) -> None:
        """Give room back for content that goes from the disk."""
        self.end(root, is_new=False)
        if root in self._charges:
            payer, charged = self._charges.pop(root)
            self._bytes.add(payer, -charged)
            self._ctx.change.meta[CHARGE + root] = None
        if not forgotten:
            self._remember(root)
        elif root not in self._forgotten:
            self._forgotten[root] = None
            self._ctx.change.meta[FORGOTTEN + root] = "1"
            if len(self._forgotten) > MAX_FORGOTTEN:
                self._remember(next(iter(self._forgotten)))

    def _remember(self, root: str) -> None:
        if root in self._forgotten:
            del self._forgotten[root]
            self._ctx.change.meta[FORGOTTEN + root] = None

    def stop(self, root: str) -> None:
        """Try something that cannot be kept now again later: the disk may have room then."""
        self._end_turn(root)
        self._sync.after(RETRY_AFTER, partial(self._retry, root))
        self.begin_next()

    def _retry(self, root: str) -> None:
        self._wait(root)
        self.begin_next()

    def _turn_to(self, root: str, request: ContentRequest, source: Source) -> None:
        """Fetch it for this message, and for the present one after the others."""
        if source != request.source:
            others = [each for each in request.others if each != source]
            request.others, request.source = [*others[: MAX_MESSAGES - 1], request.source], source
            self._keep(root, request)

    def _keep(self, root: str, request: ContentRequest) -> None:
        self.open[root] = request
        self._ctx.change.meta[PREFIX + root] = str(request)
