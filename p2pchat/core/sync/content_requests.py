"""Content that is to come: small content of messages that are shown comes by itself, and nothing is forgotten.

Content is requested once a program asks for it, or once a message that names it is shown here and it is small. Each
request is a line in `meta` until the content is whole or nobody wants it any more, so that a restart goes on with it.
A few of those without a program are fetched at a time. One of which nothing comes makes room for the next.

What comes by itself is charged to the writer of the message, and what unknown users have sent to where they come from
(quota.py). A message whose writer has no room left is shown like any other: its content comes when it is asked for.
Whom content was charged to stands in `meta`, and nowhere in memory, until the content is removed from the disk, which
gives the writer that room back. What a program has removed does not come by itself again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from p2pchat.core.effects import Counted
from p2pchat.core.log import Batch, FileRef, LogId, attachments_of
from p2pchat.core.shares import Shares
from p2pchat.core.sync.quota import line_of
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import UserId

Source = tuple[LogId, int]  # a message that names the content

PREFIX = "fetch:"  # in meta, before a root: what is requested
CHARGED = "fetched:"  # in meta, before a user, or where unknown users come from: the bytes that came by themselves
CHARGE = "paid:"  # in meta, before the root of content that came by itself: whom it was charged to, and what
FORGOTTEN = "forgotten:"  # in meta, before the root of content that a program has removed
MAX_FORGOTTEN = 10_000  # of these; an older one may come again with another message. A guess: 2 MiB
MAX_AT_ONCE = 4  # fetched without a program; a guess
MAX_WAITING = 10_000  # beyond that content comes when it is asked for; a guess: 4 MiB
MAX_UNSHOWN = 256  # messages with files that are stored and not shown yet, remembered; a guess
LEAST_CHARGE = 4096  # bytes: what a file takes of a disk at least


@dataclass(slots=True)
class ContentRequest:
    """A message that names the content, and what it was charged for, and to whom: "" for nobody."""

    source: Source
    payer: str = ""
    charged: int = 0

    @classmethod
    def parse(cls, line: str) -> ContentRequest:
        conversation, user, run, seq, *charge = line.split()
        source = LogId(conversation, user, run), int(seq)
        return cls(source, charge[0], int(charge[1])) if charge else cls(source)

    def __str__(self) -> str:
        log, seq = self.source
        return " ".join([*log, str(seq), *([self.payer, str(self.charged)] if self.payer else [])])


class ContentRequests:
    """What is requested, by root.

    Args:
        begin: Begins to fetch something without a program.
    """

    def __init__(
        self, sync: SyncContext, meta: dict[str, str], begin: Callable[[Source, FileRef], None]
    ) -> None:  # fmt: skip
        self._sync = sync
        self._ctx = sync.ctx
        self._begin = begin
        settings = sync.ctx.settings
        self._most = settings.auto_fetch_bytes
        self._requests = {
            name.removeprefix(PREFIX): ContentRequest.parse(line)
            for name, line in meta.items()
            if name.startswith(PREFIX)
        }
        self._waiting: dict[str, None] = dict.fromkeys(self._requests)  # for their turn
        self._forgotten = dict.fromkeys(name.removeprefix(FORGOTTEN) for name in meta if name.startswith(FORGOTTEN))
        self._active: set[str] = set()  # fetched without a program
        self._unshown: dict[Source, tuple[FileRef, ...]] = {}
        self._of_unknown: Shares[str] = Shares(settings.unknown_bytes, settings.branch_bytes)
        self._charged: dict[str, int] = {}
        for name, line in meta.items():
            if name.startswith(CHARGED):
                self._set_charge(name.removeprefix(CHARGED), int(line))

    @property
    def has_waiting(self) -> bool:
        """Return whether anything waits for its turn."""
        return bool(self._waiting)

    # ---- messages

    def on_stored(self, batch: Batch) -> None:
        """Note the attachments of durable entries of others."""
        if not self._most or batch.entries is None or not any(entry.files for entry in batch.entries):
            return
        for seq, entry in enumerate(batch.entries, batch.first):
            small = tuple(file for file in attachments_of(entry) if file.size <= self._most)
            if small:
                self._unshown[batch.log, seq] = small
        while len(self._unshown) > MAX_UNSHOWN:
            del self._unshown[next(iter(self._unshown))]

    def request_shown(self) -> None:
        """Request what messages name that are shown now."""
        for source in [source for source in self._unshown if self._is_shown(source)]:
            for file in self._unshown.pop(source):
                self._request(source, file)
        self.begin_next()

    def _is_shown(self, source: Source) -> bool:
        log, seq = source
        conversation = self._sync.conversations.by_id.get(log.conversation)
        if conversation is None or conversation.is_operations:
            return False
        state = conversation.log(log.user, log.run)
        return state is None or seq <= min(state.released, state.show_limit)

    def _request(self, source: Source, file: FileRef) -> None:
        user = source[0].user
        if file.root in self._requests or file.root in self._forgotten or len(self._waiting) >= MAX_WAITING:
            return
        request = ContentRequest(source)
        if user not in self._sync.hosted and not self._sync.quota.is_allowed(user):
            request.payer, request.charged = self._payer(user), max(file.size, LEAST_CHARGE)
            if not self._has_room(request):
                self._ctx.emit(Counted("content_quota"))
                return
            self._charge(request.payer, request.charged)
        self._keep(file.root, request)
        self._waiting[file.root] = None

    # ---- turns

    def begin_next(self) -> None:
        """Begin those whose turn it is, if their messages still name them."""
        while self._waiting and len(self._active) < MAX_AT_ONCE:
            root = next(iter(self._waiting))
            del self._waiting[root]
            self._active.add(root)
            log, seq = self._requests[root].source
            self._sync.lookups.files(log, seq, partial(self._on_files_found, root))

    def _on_files_found(self, root: str, files: tuple[FileRef, ...]) -> None:
        if root not in self._active:
            return
        file = next((file for file in files if file.root == root), None)
        if file is None:  # deleted
            self.end(root, is_new=False)
        else:
            self._begin(self._requests[root].source, file)

    def postpone(self, root: str) -> None:
        """Let others have the turn of something of which nothing comes."""
        self._active.discard(root)
        self._waiting[root] = None
        self.begin_next()

    def is_wanted(self, root: str) -> bool:
        """Return whether something comes without a program."""
        return root in self._active

    # ---- programs, and ends

    def on_asked(self, root: str, source: Source) -> None:
        """Remember what a program asks for, over a restart."""
        self._waiting.pop(root, None)
        self._remember(root)
        if root not in self._requests:
            self._keep(root, ContentRequest(source))

    def end(self, root: str, *, is_new: bool = True) -> None:
        """Forget what is whole, or does not come. `is_new`: some of it came, and stays charged."""
        request = self._requests.pop(root, None)
        self._waiting.pop(root, None)
        self._active.discard(root)
        if request is None:
            return
        self._ctx.change.meta[PREFIX + root] = None
        if request.payer and is_new:
            self._ctx.change.meta[CHARGE + root] = f"{request.payer} {request.charged}"
        elif request.payer:
            self._charge(request.payer, -request.charged)
        self.begin_next()

    def on_removed(self, root: str, charge: str, *, forgotten: bool) -> None:
        """Give room back for content that goes from the disk. `charge`: the line about it in `meta`, "" for none."""
        self.end(root, is_new=False)
        if charge:
            payer, charged = charge.split()
            self._charge(payer, -int(charged))
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
        """Try something that cannot be kept now after the next start again."""
        self._active.discard(root)
        self.begin_next()

    def _keep(self, root: str, request: ContentRequest) -> None:
        self._requests[root] = request
        self._ctx.change.meta[PREFIX + root] = str(request)

    # ---- charges

    def _payer(self, user: UserId) -> str:
        return self._sync.quota.unknown_payer(user, None) or user

    def _has_room(self, request: ContentRequest) -> bool:
        if self._is_user(request.payer):
            return self._charged.get(request.payer, 0) + request.charged <= self._ctx.settings.auto_fetch_user_bytes
        return self._of_unknown.has_room(line_of(request.payer), request.charged)

    def _charge(self, payer: str, more: int) -> None:
        self._set_charge(payer, more)
        self._ctx.change.meta[CHARGED + payer] = str(self._charged[payer])

    def _set_charge(self, payer: str, more: int) -> None:
        self._charged[payer] = self._charged.get(payer, 0) + more
        if self._is_user(payer):
            return
        if more > 0:
            self._of_unknown.add(payer, line_of(payer), more)
        else:
            self._of_unknown.reduce(payer, -more)

    def _is_user(self, payer: str) -> bool:
        """Return whether it is a known user: what unknown ones have counts at a peer with its address."""
        return len(payer) == 64
