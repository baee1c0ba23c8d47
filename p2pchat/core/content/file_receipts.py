"""Receipts of files: which peers have the content that messages name, and who is told that this peer has it.

A peer asks each link about the content that messages name in the conversations that both share, once: when a message
comes, and when a link begins. The other end answers, and tells on its own what changes later while the link is up. So
nothing is told unasked, and after a break everything is asked again. There is nothing to be lost on the way.

That a peer has content is told once the store has it whole: verified, and synced. Before each answer the store is
asked, and storage is asked whether a message of a shared conversation names it, so nobody else learns of it. What
goes from the disk is told as gone before it goes.

Who has what is kept in memory, for the content of the newest messages, by peers; of those that nobody here knows while
they are linked. All users of a peer have what it has.

Source: docs/protocol-attachments.md, "Who has it".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import chain, islice

from p2pchat.bounded import remember
from p2pchat.core.durable_changes import Collected, NamedContent
from p2pchat.core.effects import FileHeld, FindHeld
from p2pchat.core.inputs import HeldFound
from p2pchat.core.log import Batch, FileRef, LogId, attachments_of
from p2pchat.core.node_context import KeySet
from p2pchat.core.sync.conversation_state import LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import Holds, PeerId, UserId

TOLD_EVERY = 0.1  # seconds between two frames to a link, so that many contents share one; as read marks
MAX_CONTENTS = 2_000  # asked about, named by users here, and as many named by others: the newest; a guess, 1 MiB
MAX_MESSAGES = 4  # that name the same content, remembered: the newest; a guess
MAX_ASKED = 10_000  # contents that a link may ask about; more are not answered
# Messages that name some content, looked at before a link is told of it, those stored first: anybody can name it again.
MAX_NAMING = 1_000
MAX_GONE = 10_000  # contents that were removed, remembered until their files are gone

Source = tuple[LogId, int]  # a message that names the content


class LinkReceipts(Collected, eq=False):
    """Questions and answers of one link about content.

    Attributes:
        asked: Contents this peer asked about.
        to_ask: Those of them not sent yet.
        told: Contents it asked about, and what it was told: None for nothing since it asked last.
        to_check: Those to be looked up.
        to_tell: Answers not sent yet.
        is_due: A frame goes out soon.
    """

    asked: set[str] = set()
    to_ask: KeySet[str] = {}
    told: dict[str, bool | None] = {}
    to_check: KeySet[str] = {}
    to_tell: dict[str, bool] = {}
    is_due: bool = False


class FileReceipts:
    """Receipts of content: the peers that have it, as they said.

    Args:
        named: The newest messages with attachments, the oldest first.
    """

    def __init__(self, sync: SyncContext, named: Sequence[NamedContent]) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._links = defaultdict[int, LinkReceipts](LinkReceipts)
        # The messages that name it, by root, all with the newest last: of others, and of users here.
        self._named: tuple[dict[str, list[Source]], ...] = ({}, {})
        self._told: dict[str, dict[PeerId, bool]] = {}  # by root: what each peer said last
        self._checks: dict[int, tuple[int, list[str]]] = {}  # link and contents, by ticket
        self.gone: dict[str, None] = {}  # goes from the disk just now
        self._deletions = 0  # of messages and of content: what was looked up before one is looked up again
        for root, log, seq in named:
            self._note(root, (log, seq))

    # ---- questions of programs

    def holders(self, root: str) -> Collection[PeerId]:
        """Return the other peers known to have some content."""
        return [peer for peer, has in self._told.get(root, {}).items() if has]

    def users_having(self, log: LogId, root: str) -> list[UserId]:
        """Return the users of other peers, members of the conversation of a log, who have some content; sorted."""
        return self._readers(log, self._sync.presence.users_at({*self.holders(root)}))

    def _readers(self, log: LogId, users: Iterable[UserId]) -> list[UserId]:
        conversation, hosted = self._sync.conversations.get(log.conversation), self._sync.hosted
        if conversation is None:
            return []
        return sorted(user for user in users if user not in hosted and conversation.is_member(user))

    # ---- content that messages name

    def on_durable(self, log: LogState, batch: Batch) -> None:
        """Take the attachments of entries that are durable now."""
        for seq, entry in enumerate(batch.entries or (), batch.first):
            for root in {file.root: None for file in attachments_of(entry)}:
                self._check_untold(root)  # perhaps nobody could be told of it before
                self._note(root, (batch.log, seq))
                for remote in self._sync.remotes_sharing(log.conversation):
                    self._ask(remote, root)

    def _note(self, root: str, source: Source) -> None:
        """Note a message that names some content."""
        named = self._named[source[0].user in self._sync.hosted]
        named[root] = [*named.pop(root, ()), source][-MAX_MESSAGES:]
        if len(named) > MAX_CONTENTS:
            oldest = next(iter(named))
            del named[oldest]
            self._told.pop(oldest, None)

    # ---- links

    def on_compared(self, remote: RemoteState) -> None:
        """Ask a link about what it was not asked yet, and look again at what it could not be told.

        Called before each digest: what both share may have changed.
        """
        every = self._sync.conversations
        shared = {id for id, each in every.items() if self._sync.shares(remote, each)}
        for root, sources in chain(*(named.items() for named in self._named)):
            if any(log.conversation in shared for log, _ in sources):
                self._ask(remote, root)
        link = self._links.get(remote.id)
        if link is not None:
            for root in [root for root, told in link.told.items() if not told]:
                self._check(remote.id, link, root)

    def on_link_down(self, remote: RemoteState) -> None:
        """Forget what a link said, unless its peer is known."""
        self._links.pop(remote.id, None)
        link = remote.link
        if not link.known and all(other.link.peer != link.peer for other in self._sync.remotes.values()):
            for told in self._told.values():
                told.pop(link.peer, None)

    def _ask(self, remote: RemoteState, root: str) -> None:
        link = self._links[remote.id]
        if remote.link.takes_files and root not in link.asked and len(link.asked) < MAX_ASKED:
            link.asked.add(root)
            link.to_ask[root] = None
            self._send_soon(remote.id, link)

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
            has = [root for root, is_here in tells.items() if is_here]
            self._ctx.send(Holds(asks, has, [root for root in tells if not tells[root]]), [id])
        if link.to_check and not remote.link.full and not self._ctx.work.wait("contents", id):
            ticket = self._ctx.next_ticket()
            roots = _take(link.to_check, most)
            self._ctx.work.charge("contents", id, len(roots))
            self._checks[ticket] = id, roots
            self._ctx.emit(FindHeld(ticket, roots))
        if link.to_ask or link.to_tell or link.to_check:
            self._send_soon(id, link)

    # ---- telling

    def on_frame(self, remote: RemoteState, frame: Holds) -> None:
        """Take questions and answers of a link."""
        link = self._links[remote.id]
        for root in frame.ask:
            if root in link.told or len(link.told) < MAX_ASKED:
                link.told[root] = None
                self._check(remote.id, link, root)
            else:
                self._ctx.count("file_question_ignored")
        for roots, has in ((frame.has, True), (frame.lacks, False)):
            for root in link.asked.intersection(roots):
                self._on_told(remote, root, has=has)

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
        self.gone.pop(root, None)
        self._check_untold(root)

    def on_removed(self, root: str) -> None:
        """Take that some content goes from the disk in a moment, before it goes."""
        self._deletions += 1
        remember(self.gone, root, None, MAX_GONE)
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
            if root in found.roots and root not in self.gone:
                self._sync.lookups.ask("naming", root, partial(self._on_naming_found, id, root, self._deletions))
            else:
                self._on_naming_found(id, root, self._deletions, [])

    def _on_naming_found(self, id: int, root: str, deletions: int, naming: Sequence[Source]) -> None:
        """Tell a link whether content is here, if a message of a shared conversation names it."""
        remote, link = self._sync.remotes.get(id), self._links.get(id)
        if link is not None and deletions != self._deletions:
            self._check(id, link, root)
        elif remote is not None and link is not None:
            is_here = root not in self.gone and any(self._sync.may_have(remote, *each) for each in naming)
            self._tell(id, link, root, is_here=is_here)

    def _tell(self, id: int, link: LinkReceipts, root: str, *, is_here: bool) -> None:
        if link.told.get(root) is is_here:
            link.to_tell.pop(root, None)  # another answer was on its way
        else:
            link.to_tell[root] = is_here
            self._send_soon(id, link)

    # ---- being told

    def _on_told(self, remote: RemoteState, root: str, *, has: bool) -> None:
        """Take what a link says of some content. Reported is what changes, and who has what was sent in this run."""
        told, peer = self._told.setdefault(root, {}), remote.link.peer
        former, told[peer] = told.get(peer), has
        if former is has or not (has or former):
            return
        for log, seq in chain(*(named.get(root, ()) for named in self._named)):
            if log.user in self._sync.hosted and (former is not None or log.run == self._sync.run):
                self._sync.find_file((log, seq), root, partial(self._on_own_found, (log, seq), remote, has))

    def _on_own_found(self, source: Source, remote: RemoteState, has: bool, file: FileRef | None) -> None:
        """Report who has a file of a hosted user, or has it no more."""
        users = tuple(self._readers(source[0], remote.link.users))
        if file and users and (remote.link.known or self._ctx.work.take("holders", "")):
            self._ctx.emit(FileHeld(*source, file, users, has))


def _take(some: dict[str, None], most: int) -> list[str]:
    """Remove and return the first of these."""
    taken = list(islice(some, most))
    for root in taken:
        del some[root]
    return taken
