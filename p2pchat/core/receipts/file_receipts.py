"""Receipts of files: which peers have the content that messages name, and who is told that this peer has it.

A peer asks each link about the content that messages name in the conversations that both share, once: when a message
comes, and when a link begins. The other end answers, and tells on its own what changes later while the link is up. So
nothing is told unasked, and after a break everything is asked again. There is nothing to be lost on the way.

That a peer has content is told once the store has it whole: verified, and synced. Before each answer the store is
asked, and storage is asked whether a message of a shared conversation names it, so nobody else learns of it. What
goes from the disk is told as gone before it goes.

Who has what is kept on disk, for the content of the newest messages, by peers. All users of a peer have what it has.
The number of contents is bounded, by where unknown writers come from (limits_by_origin.py), and so is what unknown
peers say.

Source: docs/protocol-attachments.md, "Who has it".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import islice

from p2pchat.core.durable_changes import Holder, NamedContent
from p2pchat.core.effects import Counted, FileHeld, FindHeld, Send
from p2pchat.core.inputs import HeldFound
from p2pchat.core.limits_by_origin import Line, OriginShares, RateLimit, TokenBucket, address_line
from p2pchat.core.log import Batch, FileRef, LogId, attachments_of
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.core.sync.quota import line_of
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Holds, PeerId, UserId

TOLD_EVERY = 0.1  # seconds between two frames to a link, so that many contents share one; as read marks
MAX_CONTENTS = 20_000  # contents of which it is kept who has them; a guess: 12 MiB
MAX_OF_UNKNOWN = 5_000  # of them, named by unknown users
MAX_MESSAGES = 4  # that name the same content, remembered: the newest; a guess
MAX_ASKED = 10_000  # contents that a link may ask about; more are not answered
MAX_ASKED_UNKNOWN = 1_000  # the same of an unknown peer: a quarter of a megabyte
MAX_OF_UNKNOWN_PEERS = 50_000  # contents that unknown peers say they have; as MAX_ANNOUNCED_UNKNOWN
# What each link says has a rate along its line, so that who says yes and no in turn fills neither the disk nor an event
# log. What is left out is asked again before the next digest. Guesses, as the next two.
SAID_A_SECOND = 50
SAID_BURST = 2_000
MAX_HOLDERS = 4_096  # of one content, of whom unknown ones are believed; as receipts of one branch
EVENTS_BURST = 15  # seconds' worth of events about what unknown peers have; as about users who wrote (presence.py)
CHECKED_A_SECOND = 100  # contents looked up for a link in the long run, however often it asks
CHECKED_BURST = 2 * MAX_ASKED_UNKNOWN
# Messages that name some content, looked at before a link is told of it, those stored first: anybody can name it again.
MAX_NAMING = 1_000
MAX_GONE = 10_000  # contents that were removed, remembered until their files are gone

Source = tuple[LogId, int]  # a message that names the content
MayHave = Callable[[RemoteState, LogId, int], bool]


class LinkReceipts:
    """Questions and answers of one link about content.

    Attributes:
        asked: Contents this peer asked about.
        to_ask: Those of them not sent yet.
        told: Contents it asked about, and what it was told: None for nothing yet.
        again: Those of them that it asked about again, and waits for.
        to_check: Those to be looked up.
        to_tell: Answers not sent yet.
        checks: The rate at which it has contents looked up.
        is_due: A frame goes out soon.
    """

    __slots__ = ("again", "asked", "checks", "is_due", "to_ask", "to_check", "to_tell", "told")

    def __init__(self, now: float) -> None:
        self.asked: set[str] = set()
        self.to_ask: dict[str, None] = {}
        self.told: dict[str, bool | None] = {}
        self.again: set[str] = set()
        self.to_check: dict[str, None] = {}
        self.to_tell: dict[str, bool] = {}
        self.checks: TokenBucket = TokenBucket(CHECKED_A_SECOND, CHECKED_BURST, now)
        self.is_due: bool = False


class FileReceipts:
    """Receipts of content: the peers that have it, as they said.

    Args:
        named: The newest messages with attachments, the oldest first.
        stored: Who had what of it.
        may_have: Whether a link may have the content that an entry names.
    """

    def __init__(
        self, sync: SyncContext, named: Sequence[NamedContent], stored: Sequence[Holder], may_have: MayHave
    ) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._may_have = may_have
        self._links: dict[int, LinkReceipts] = {}
        self._sources: dict[str, list[Source]] = {}  # by root, the newest last; contents known longest first
        self._named_in: dict[ConversationId, dict[str, None]] = {}
        self._of_unknown: OriginShares[str] = OriginShares(MAX_OF_UNKNOWN)
        self._holders: dict[str, set[PeerId]] = {}  # by root
        self._said_by_unknown: OriginShares[tuple[str, PeerId]] = OriginShares(MAX_OF_UNKNOWN_PEERS)
        self._said = RateLimit(SAID_A_SECOND, SAID_BURST)
        rate = sync.ctx.settings.unknown_events_a_second
        self._events = TokenBucket(rate, EVENTS_BURST * rate, sync.ctx.now.mono)
        self._checks: dict[int, tuple[int, list[str]]] = {}  # link and contents, by ticket
        self._gone: dict[str, None] = {}
        self._deletions = 0  # of messages and of content: what was looked up before one is looked up again
        self._named = named
        self._stored = stored

    def start(self) -> None:
        """Load what was kept; forget what no message names any more."""
        named, self._named = self._named, ()
        stored, self._stored = self._stored, ()
        for root, log, seq in named:
            self._note(root, (log, seq), self._line_of(log.user))
        for holder in stored:
            if holder.root in self._sources:
                self._holders.setdefault(holder.root, set()).add(holder.peer)
                if not self._sync.requests.is_known(holder.peer):
                    self._said_by_unknown.add((holder.root, holder.peer), (holder.peer,))
            else:
                self._ctx.change.holders.append(Holder(holder.root, holder.peer))

    def take_over(self, former: FileReceipts) -> None:
        """Take over what goes from the disk just now. Everything else is asked again."""
        self._gone = former._gone

    # ---- questions of programs

    def holders(self, root: str) -> Collection[PeerId]:
        """Return the other peers known to have some content."""
        return self._holders.get(root, ())

    def users_having(self, log: LogId, root: str) -> list[UserId]:
        """Return the users of other peers, members of the conversation of a log, who have some content; sorted."""
        conversation = self._sync.conversations.by_id.get(log.conversation)
        if conversation is None:
            return []
        found = self._sync.presence.users_at({*self.holders(root)})
        return sorted(user for user in found if self._is_reader(conversation, user))

    def _is_reader(self, conversation: ConversationState, user: UserId) -> bool:
        return user not in self._sync.hosted and conversation.is_member(user)

    # ---- content that messages name

    def on_durable(self, batch: Batch) -> None:
        """Take the attachments of entries that are durable now."""
        for seq, entry in enumerate(batch.entries or (), batch.first):
            if files := attachments_of(entry):
                self._on_named(batch.log, seq, files)

    def _on_named(self, log: LogId, seq: int, files: Iterable[FileRef]) -> None:
        conversation = self._sync.conversations.by_id.get(log.conversation)
        line = self._line_of(log.user)
        remotes = () if conversation is None else self._sync.remotes_sharing(conversation)
        for root in dict.fromkeys(file.root for file in files):
            self._check_untold(root)  # perhaps nobody could be told of it before
            if conversation is not None and self._note(root, (log, seq), line):
                for remote in remotes:
                    self._ask(remote, root)

    def _note(self, root: str, source: Source, line: Line) -> bool:
        """Note a message that names some content. Return False if there is no room for it."""
        if root not in self._sources and not self._make_room(root, line):
            return False
        if not line:
            self._of_unknown.remove(root)  # a known user names it too
        sources = self._sources.setdefault(root, [])
        if source not in sources:
            sources.append(source)
            self._named_in.setdefault(source[0].conversation, {})[root] = None
            if len(sources) > MAX_MESSAGES:
                self._leave(root, sources.pop(0)[0].conversation)
        return True

    def _make_room(self, root: str, line: Line) -> bool:
        if line and not self._of_unknown.make_room(line, self._forget):
            self._ctx.emit(Counted("file_receipts_full"))
            return False
        if line:
            self._of_unknown.add(root, line)
        if len(self._sources) >= MAX_CONTENTS:
            self._forget(next(iter(self._sources)))
        return True

    def _line_of(self, writer: UserId) -> Line:
        """Return where the messages of an unknown user come from; () for others."""
        if writer in self._sync.hosted or self._sync.quota.is_allowed(writer):
            return ()
        payer = self._sync.quota.payer_of_stored(writer)
        return line_of(payer) if payer else ()

    def _forget(self, root: str) -> None:
        """Forget who has some content."""
        for log, _ in self._sources.pop(root):
            self._leave(root, log.conversation)
        self._of_unknown.remove(root)
        for peer in sorted(self._holders.pop(root, ())):
            self._said_by_unknown.remove((root, peer))
            self._ctx.change.holders.append(Holder(root, peer))

    def _leave(self, root: str, conversation: ConversationId) -> None:
        if all(log.conversation != conversation for log, _ in self._sources.get(root, ())):
            self._named_in.get(conversation, {}).pop(root, None)

    # ---- links

    def on_compared(self, remote: RemoteState) -> None:
        """Ask a link about what it was not asked yet, and look again at what it could not be told.

        Called before each digest: what both share may have changed.
        """
        for id, roots in self._named_in.items():
            conversation = self._sync.conversations.by_id.get(id)
            if roots and conversation is not None and self._sync.shares(remote, conversation):
                for root in roots:
                    self._ask(remote, root)
        link = self._links.get(remote.link.id)
        if link is not None:
            for root in [root for root, told in link.told.items() if not told]:
                self._check(remote.link.id, link, root)

    def on_link_down(self, link: int) -> None:
        self._links.pop(link, None)

    def _link(self, id: int) -> LinkReceipts:
        link = self._links.get(id)
        if link is None:
            link = self._links[id] = LinkReceipts(self._ctx.now.mono)
        return link

    def _ask(self, remote: RemoteState, root: str) -> None:
        link = self._link(remote.link.id)
        if remote.link.tells_files and root not in link.asked and len(link.asked) < MAX_ASKED:
            link.asked.add(root)
            link.to_ask[root] = None
            self._send_soon(remote.link.id, link)

    def _send_soon(self, id: int, link: LinkReceipts) -> None:
        if not link.is_due:
            link.is_due = True
            self._sync.after(TOLD_EVERY, partial(self._send, id, link))

    def _send(self, id: int, link: LinkReceipts) -> None:
        """Send one frame, and have more looked up."""
        link.is_due = False
        remote = self._sync.remotes.get(id)
        if remote is None or self._links.get(id) is not link:
            return
        most = self._ctx.settings.page_items
        if not remote.link.full and (link.to_ask or link.to_tell):
            asks, tells = _take(link.to_ask, most), {root: link.to_tell.pop(root) for root in [*link.to_tell][:most]}
            link.told.update(tells)
            link.again.difference_update(tells)
            has = [root for root, is_here in tells.items() if is_here]
            self._ctx.emit(Send(Holds(asks, has, [root for root in tells if not tells[root]]), [id]))
        if link.to_check and not remote.link.full and link.checks.wait(self._ctx.now.mono) == 0:
            ticket = self._ctx.next_ticket()
            roots = _take(link.to_check, most)
            link.checks.charge(len(roots), self._ctx.now.mono)
            self._checks[ticket] = id, roots
            self._ctx.emit(FindHeld(ticket, roots))
        if link.to_ask or link.to_tell or link.to_check:
            self._send_soon(id, link)

    # ---- telling

    def on_frame(self, remote: RemoteState, frame: Holds) -> None:
        """Take questions and answers of a link."""
        link = self._link(remote.link.id)
        most = MAX_ASKED if remote.link.known else MAX_ASKED_UNKNOWN
        for root in frame.ask:
            if root in link.told or len(link.told) < most:
                if link.told.setdefault(root, None) is not None:
                    link.again.add(root)
                self._check(remote.link.id, link, root)
            else:
                self._ctx.emit(Counted("file_question_ignored"))
        for roots, has in ((frame.has, True), (frame.lacks, False)):
            for root in roots:
                if root in link.asked and not self._on_told(remote, root, has=has):
                    link.asked.discard(root)

    def _check(self, id: int, link: LinkReceipts, root: str) -> None:
        link.to_check[root] = None
        self._send_soon(id, link)

    def _check_untold(self, root: str) -> None:
        """Look up something for the links that asked about it and were not told that it is here."""
        for id, link in self._links.items():
            if root in link.told and not link.told[root]:
                self._check(id, link, root)

    def on_whole(self, root: str) -> None:
        """Take that some content may be whole now, and that it is not being removed. The store is asked."""
        self._gone.pop(root, None)
        self._check_untold(root)

    def on_removed(self, root: str) -> None:
        """Take that some content goes from the disk in a moment, before it goes."""
        self._deletions += 1
        self._gone[root] = None
        if len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        for id, link in self._links.items():
            if link.told.get(root) or root in link.to_tell:
                self._tell(id, link, root, is_here=False)

    def on_deleted(self) -> None:
        """Look again at what is not told yet: messages were deleted, perhaps the last one that names it."""
        self._deletions += 1
        for id, link in self._links.items():
            for root in [root for root, is_here in link.to_tell.items() if is_here]:
                del link.to_tell[root]
                self._check(id, link, root)

    def on_held(self, found: HeldFound) -> None:
        """Take which contents are whole on the disk."""
        id, roots = self._checks.pop(found.ticket, (0, []))
        for root in roots:
            if root in found.roots and root not in self._gone:
                self._sync.lookups.naming(root, partial(self._on_naming_found, id, root, self._deletions))
            else:
                self._on_naming_found(id, root, self._deletions, [])

    def _on_naming_found(self, id: int, root: str, deletions: int, naming: Sequence[Source]) -> None:
        """Tell a link whether content is here, if a message of a shared conversation names it."""
        remote, link = self._sync.remotes.get(id), self._links.get(id)
        if link is not None and deletions != self._deletions:
            self._check(id, link, root)
        elif remote is not None and link is not None:
            is_here = root not in self._gone and any(self._may_have(remote, *each) for each in naming)
            self._tell(id, link, root, is_here=is_here)

    def _tell(self, id: int, link: LinkReceipts, root: str, *, is_here: bool) -> None:
        if link.told.get(root) is is_here and root not in link.again:
            link.to_tell.pop(root, None)  # another answer was on its way
        else:
            link.to_tell[root] = is_here
            self._send_soon(id, link)

    # ---- being told

    def _on_told(self, remote: RemoteState, root: str, *, has: bool) -> bool:
        """Take what a link says of some content. Return False if it must be asked again."""
        peer = remote.link.peer
        if root not in self._sources or (peer in self.holders(root)) is has:
            return True
        line = (peer,) if remote.link.known else address_line(remote.link.host, peer)
        if has and not self._said.take(line, self._ctx.now.mono):
            self._ctx.emit(Counted("file_receipts_limited"))
            return False
        if has and not remote.link.known:
            is_full = len(self.holders(root)) >= MAX_HOLDERS
            if is_full or not self._said_by_unknown.make_room(line, self._withdraw):
                self._ctx.emit(Counted("file_receipts_full"))
                return True
            self._said_by_unknown.add((root, peer), line)
        if has:
            self._holders.setdefault(root, set()).add(peer)
        else:
            self._holders[root].remove(peer)
            self._said_by_unknown.remove((root, peer))
        self._ctx.change.holders.append(Holder(root, peer, self._ctx.now.utc if has else 0))
        for log, seq in self._sources[root]:
            if log.user in self._sync.hosted:
                self._sync.lookups.files(log, seq, partial(self._on_own_found, (log, seq), root, remote, has))
        return True

    def _withdraw(self, item: tuple[str, PeerId]) -> None:
        """Forget that an unknown peer has some content: another one took its place."""
        self._said_by_unknown.remove(item)
        self._holders[item[0]].discard(item[1])
        self._ctx.change.holders.append(Holder(*item))

    def _on_own_found(
        self, source: Source, root: str, remote: RemoteState, has: bool, files: tuple[FileRef, ...]
    ) -> None:  # fmt: skip
        """Report who has a file of a hosted user, or has it no more."""
        log, seq = source
        conversation = self._sync.conversations.by_id.get(log.conversation)
        file = next((file for file in files if file.root == root), None)
        if file is not None and conversation is not None:
            users = tuple(sorted(user for user in remote.link.users if self._is_reader(conversation, user)))
            if users and (remote.link.known or self._events.take(self._ctx.now.mono)):
                self._ctx.emit(FileHeld(log, seq, file, users, has))


def _take(some: dict[str, None], most: int) -> list[str]:
    """Remove and return the first of these."""
    taken = list(islice(some, most))
    for root in taken:
        del some[root]
    return taken
