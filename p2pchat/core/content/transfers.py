"""Transfers of content: which pieces are asked of which link, and which links get pieces from this peer.

Content is pulled, never sent unasked. A pull names a message. It is answered only if the conversation is shared with
the link, and the message is shown here and names this root. So only members of the conversation get any of it, and no
index is needed. No piece is trusted: the store checks it before it is written, and the link that gave a wrong one ends.

A download asks all links that share the conversation at once, each for the next pieces that no link was asked for. Few
pieces are under way at any time. Pieces that came and are not stored yet count too, so memory is bounded, however large
the content and however slow the disk. Pieces that do not come within STALLED_AFTER are asked of other links, and taken
if they come all the same. This file knows numbers of pieces and links only; the bytes pass through it from a frame to
the store. content_requests.py decides what is downloaded, and when.

Source: docs/protocol-attachments.md, "Transfer".
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from functools import partial
from itertools import islice
from math import inf

from p2pchat.core.content.content_requests import ContentRequests, Source
from p2pchat.core.content.file_receipts import FileReceipts
from p2pchat.core.content.pieces import LEAF_BYTES, count_pieces, piece_size
from p2pchat.core.durable_changes import Collected, NamedContent, field
from p2pchat.core.effects import (
    ContentArrived,
    ContentProgress,
    ContentStopped,
    GivePieces,
    OpenContent,
    StoreLeaves,
    StorePieces,
)
from p2pchat.core.inputs import (
    ContentFailed,
    ContentGivenUp,
    ContentOpened,
    ContentRemoved,
    ContentWanted,
    LeavesStored,
    PiecesStored,
    PullAnswered,
)
from p2pchat.core.log import FileRef, LogId
from p2pchat.core.members.member_directory import Line
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import PIECE_BYTES, Lacks, PeerId, Piece, Pull

# Asked of one link at a time: 1 MiB, since a text waits behind them, and of a far one up to 4 MiB, for 100 MB a second;
# in 4 pulls. At load 15 a text took 33 to 44 ms behind 1 MiB, and 65 to 89 ms behind 4 MiB.
NEAR_PIECES = 4
LINK_PIECES = 16
PIECES_A_SECOND = 400
MAX_UNDER_WAY = 48  # pieces of one download, asked of any link or not stored yet: 12 MiB; a guess
MAX_WAITING_ASKED = 8  # downloads that wait for room on a link, asked for when a pull ends; others wait on; a guess
# Open on one link, before more are a fault. Small files come in batches, each of which wakes both ends and is synced
# once: with 16, 10,000 files took 3,500 turns of the reader's loop, with 128 2,300.
MAX_PULLS = 128
MAX_PULL_PIECES = 64  # asked for with one frame, before it is a fault
STALLED_AFTER = 10.0  # seconds without a piece, then others are asked; as want_progress_timeout
CHECK_EVERY = 1.0  # seconds between looks for new links and stalled ones, while anything is downloaded
LACK_PAUSE = 5.0  # seconds until a link that lacks what it is asked for again and again is asked once more; a guess
SHARE_PAUSE = 0.1  # the same the first time, or if it had some: it may be getting the same content; a guess
# Links above which members share the work. The writer's, which has a whole conversation to serve, is then asked for one
# piece at a time: 7 readers of 40 MiB took it 1.8 times, and 2.0 times with two pieces.
FEW_GIVERS = 2

LEAVES = -1  # in place of the index of a piece


class OpenPull(Collected, eq=False):
    """A pull that was sent, and the pieces still to come. Once the download ended, they are dropped when they come."""

    download: ContentDownload
    missing: deque[int]  # in the order in which they must come; LEAVES for each frame of the list
    heard_at: float
    asked_at: float
    piece_bytes: int  # of each of them, at most
    was_said: bool = False  # the link has said that it has these pieces
    is_late: bool = False  # others may be asked meanwhile
    leaves: bytearray = bytearray()


class LinkTransfers(Collected, eq=False):
    """The transfers over one link, in both directions."""

    pulls: dict[int, OpenPull] = {}
    next: int = 1
    served: dict[int, None] = {}  # numbers of its pulls that are being answered

    asked: int = 0  # bytes that were asked for, and did not come yet
    latency: float = inf  # the least seconds from a pull to its first piece
    window: int = LINK_PIECES  # pieces that are asked for at a time

    def on_answer(self, pull: OpenPull, now: float) -> None:
        """Note when a frame of bytes came."""
        self.asked -= pull.piece_bytes
        if pull.heard_at == pull.asked_at and now - pull.asked_at < self.latency:
            self.latency = now - pull.asked_at
            self.window = int(max(NEAR_PIECES, min(LINK_PIECES, self.latency * PIECES_A_SECOND)))
        pull.heard_at = now


class ContentDownload(Collected, eq=False):
    """Content that is fetched. `asked`: a program waits for it. `heard_at`: when it began, or the last piece came."""

    file: FileRef
    source: Source
    heard_at: float
    asked: bool
    needed: deque[int] = field(default_factory=deque)  # pieces that no link was asked for; LEAVES alone before them
    under_way: int = 0  # pieces asked for, or not stored yet
    stored: int = 0  # bytes
    missing: set[int] | None = None  # pieces that are not stored; None until the store has answered
    faulty: set[PeerId] = set()  # peers that gave a wrong piece of it
    stalled: Counter[str] = field(default_factory=Counter)  # pulls that came to nothing, by member and peer
    held: dict[int, bytearray] = {}  # links that lacked some: a byte for each piece they have
    lacking: dict[int, float] = {}  # links that have nothing needed, until when they rest
    pauses: dict[int, float] = {}  # for how long they rest the next time


class Transfers:
    """All downloads of this peer, and all pulls of others.

    Attributes:
        requests: What is to be downloaded, also after a restart.
        receipts: Who has what.
    """

    def __init__(self, sync: SyncContext, meta: dict[str, str], named: Sequence[NamedContent]) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._downloads: dict[str, ContentDownload] = {}  # by root
        self._waiting: dict[str, None] = {}  # downloads for which a link had no room, who waits longest first
        self._links = defaultdict[int, LinkTransfers](LinkTransfers)
        self._checks = False  # a look for stalled links is due
        self.requests: ContentRequests = ContentRequests(sync, meta, partial(self._open, asked=False))
        self.receipts: FileReceipts = FileReceipts(sync, named)

    # ---- programs

    def want(self, input: ContentWanted) -> None:
        """Begin a download. One that is under way goes on, for this message: its events are for all who wait."""
        self.requests.on_asked(input.file.root, (input.log, input.seq))
        self._open((input.log, input.seq), input.file, asked=True)

    def _open(self, source: Source, file: FileRef, *, asked: bool) -> None:
        download = self._downloads.get(file.root)
        if download is not None:
            must_wait = download.under_way and not (asked and not download.asked)
            asked |= download.asked
            if download.source == source or must_wait:  # another message has its turn when nothing comes
                download.asked = asked
                return
            self._drop(download)
        self._downloads[file.root] = ContentDownload(file, source, self._ctx.now.mono, asked)
        self._ctx.order(OpenContent(file.root, file.size))

    def give_up(self, input: ContentGivenUp) -> None:
        """End a download that no program waits for, unless it comes by itself."""
        download = self._downloads.get(input.root)
        if download is not None:
            download.asked = False
            if not self.requests.is_wanted(input.root):
                self._drop(download)
                self.requests.end(input.root, is_new=download.stored > 0)

    def on_removed(self, input: ContentRemoved) -> None:
        """End the download of content that goes from the disk, and tell those who were told that it is here."""
        download = self._downloads.get(input.root)
        if download is not None:
            self._drop(download)
            reason = "it was removed here" if input.forgotten else "its message was deleted"
            self._ctx.emit(ContentStopped(input.root, f"the file does not come any more: {reason}"))
        self.requests.on_removed(input.root, forgotten=input.forgotten)
        self.receipts.on_removed(input.root)

    def _drop(self, download: ContentDownload) -> None:
        del self._downloads[download.file.root]
        self._waiting.pop(download.file.root, None)

    # ---- the store

    def on_opened(self, input: ContentOpened) -> None:
        download = self._downloads.get(input.root)
        if download is None or download.missing is not None or download.needed or download.under_way:
            return  # given up meanwhile, or asked for twice
        if input.missing is None:
            download.needed = deque((LEAVES,))
            self._ask(download)
        elif input.missing:
            self._begin(download, input.missing)
        else:
            self._finish(download, is_new=False)

    def _begin(self, download: ContentDownload, missing: Sequence[int]) -> None:
        """Ask for the pieces that are not stored."""
        size = download.file.size
        download.missing = {*missing}
        download.needed = deque(missing)
        if len(missing) > 1 and len(self._sharing(download)) > FEW_GIVERS:
            # Each member gets other pieces first, to give them to the rest.
            download.needed.rotate(int(self._ctx.me[:8], 16) % max(1, len(missing)))
        download.stored = size - sum(piece_size(size, index) for index in missing)
        if not missing:
            self._finish(download)
            return
        if download.asked or download.stored:
            self._report(download)
        self._ask(download)

    def on_leaves_stored(self, input: LeavesStored) -> None:
        download = self._downloads.get(input.root)
        if download is None or not download.under_way:
            return  # given up meanwhile, and perhaps asked for anew
        download.under_way -= 1
        if input.right:
            self._begin(download, input.missing)
        else:
            download.needed = deque((LEAVES,))
            self._blame(download, input.link)
            self._ask(download)

    def on_pieces_stored(self, input: PiecesStored) -> None:
        download = self._downloads.get(input.root)
        if download is None or download.missing is None:
            return
        download.under_way -= len(input.right) + len(input.wrong)
        for index in input.right:
            if index in download.missing:
                download.missing.remove(index)
                download.stored += piece_size(download.file.size, index)
        if input.wrong:
            download.needed.extendleft(reversed(input.wrong))
            self._blame(download, input.link)
        if download.missing:
            self._report(download)
            self._ask(download)
        else:
            self._finish(download)

    def on_failed(self, input: ContentFailed) -> None:
        """End a download that the store cannot keep."""
        download = self._downloads.get(input.root)
        if download is not None:
            self._drop(download)
            if self.requests.is_wanted(input.root):
                self.requests.stop(input.root)
            else:
                self.requests.end(input.root)
            self._ctx.emit(ContentStopped(input.root, input.text))

    def fail_all(self, reason: str) -> None:
        """End all downloads, since the database failed."""
        for root in self._downloads:
            self._ctx.emit(ContentStopped(root, reason))
        self._downloads.clear()
        self._waiting.clear()

    def _report(self, download: ContentDownload) -> None:
        self._ctx.emit(ContentProgress(*download.source, download.file, download.stored))

    def _finish(self, download: ContentDownload, *, is_new: bool = True) -> None:
        self._drop(download)
        self.requests.end(download.file.root, is_new=is_new)
        self._ctx.emit(ContentArrived(*download.source, download.file))
        self.receipts.on_whole(download.file.root)

    def _blame(self, download: ContentDownload, link: int) -> None:
        """Ask a peer that gave something wrong for no more of this content.

        End the link if it hosts the writer. Another peer may only lack a check, or have a disk that errs.
        """
        remote = self._sync.remotes.get(link)
        if remote is not None:
            download.faulty.add(remote.link.peer)
            self._count_stall(download, remote)
            if download.source[0].user in remote.link.users:
                self._sync.fail(remote, LogError("content that its writer did not sign", code="content"))

    # ---- links

    def on_link_down(self, remote: RemoteState) -> None:
        """Ask other links for what this one was asked for."""
        self.receipts.on_link_down(remote)
        link = remote.id
        transfers = self._links.pop(link, None)
        for pull in transfers.pulls.values() if transfers is not None else ():
            self._return(pull)
        for download in list(self._downloads.values()):
            download.lacking.pop(link, None)
            download.pauses.pop(link, None)
            download.held.pop(link, None)
            self._ask(download)

    def _return(self, pull: OpenPull) -> None:
        """Put the rest of a pull back, so that another link is asked for it."""
        download = self._download_of(pull)
        pull.is_late = True
        if download is None:
            return
        if pull.missing and pull.missing[0] == LEAVES:
            download.under_way -= 1
            download.needed = deque((LEAVES,))
        else:
            download.under_way -= len(pull.missing)
            download.needed.extendleft(reversed(pull.missing))

    def _download_of(self, pull: OpenPull) -> ContentDownload | None:
        """Return the download that still waits for a pull."""
        download = pull.download
        return download if not pull.is_late and self._downloads.get(download.file.root) is download else None

    def _take_late(self, pull: OpenPull, index: int) -> ContentDownload | None:
        """Return the download that needs what comes late, if no other link was asked for it: a slow link is of use."""
        download = self._downloads.get(pull.download.file.root)
        if download is None or index not in download.needed:
            return None
        download.needed.remove(index)
        download.under_way += 1
        return download

    def _ask(self, download: ContentDownload) -> None:
        """Ask links for pieces, as many of each link as may be under way there."""
        self._check_later()
        self._waiting.pop(download.file.root, None)
        sharing = self._sharing(download)
        for remote in self._givers(download, sharing):
            transfers = self._links[remote.id]
            is_writer = download.source[0].user in remote.link.users
            spared = is_writer and self._is_shared(download, sharing)
            while download.needed and download.under_way < MAX_UNDER_WAY:
                if not self._has_room(download, transfers, spared=spared):
                    self._waiting[download.file.root] = None
                    break
                if not self._pull(download, remote, transfers, spared=spared):
                    break
            if not download.needed:
                self._waiting.pop(download.file.root, None)
                return

    def _has_room(self, download: ContentDownload, transfers: LinkTransfers, *, spared: bool) -> bool:
        """Return whether a link is asked for the next pieces now: none that owes late ones, which it may be sending."""
        if spared:
            return not transfers.pulls
        more = min(len(download.needed), transfers.window // NEAR_PIECES) * min(download.file.size, PIECE_BYTES)
        return (
            len(transfers.pulls) < MAX_PULLS
            and transfers.asked + more <= transfers.window * PIECE_BYTES
            and not any(pull.is_late for pull in transfers.pulls.values())
        )

    def _is_shared(self, download: ContentDownload, sharing: list[RemoteState]) -> bool:
        """Return whether other members may be getting the same large content, since not all had nothing for long."""
        if len(sharing) <= FEW_GIVERS or count_pieces(download.file.size) <= NEAR_PIECES:
            return False
        return sum(download.pauses.get(remote.id, 0.0) <= LACK_PAUSE for remote in sharing) > FEW_GIVERS

    def _ask_waiting(self, transfers: LinkTransfers) -> None:
        """Ask for what waits for room on a link, now that a pull on this one has ended."""
        for root in list(islice(self._waiting, MAX_WAITING_ASKED)):
            if len(transfers.pulls) >= MAX_PULLS:
                return
            self._ask(self._downloads[root])

    def _givers(self, download: ContentDownload, sharing: list[RemoteState]) -> list[RemoteState]:
        """Return those of these links that may have some of it: the writer's own first, then those to contacts.

        Of the others first those where few pulls came to nothing, on this link and of this member: who has many keys
        keeps nobody from content by promising it with each of them.
        """
        (log, _), now = download.source, self._ctx.now.mono
        found = [remote for remote in sharing if download.lacking.get(remote.id, 0.0) <= now]
        return sorted(
            found,
            key=lambda remote: (
                log.user not in remote.link.users, self._stalls(download, remote), not remote.link.known, remote.id
            ),
        )  # fmt: skip

    def _sharing(self, download: ContentDownload) -> list[RemoteState]:
        """Return the links that may be asked at all, those that rest included."""
        conversation = self._sync.conversations.get(download.source[0].conversation)
        remotes = self._sync.remotes_sharing(conversation) if conversation is not None else ()
        return [
            remote for remote in remotes if remote.link.takes_files and remote.link.peer not in download.faulty
        ]  # fmt: skip

    def _rest(self, download: ContentDownload, link: int, *, has_some: bool) -> None:
        """Leave a link alone that has nothing needed, twice as long each time if it has nothing at all."""
        pause = SHARE_PAUSE if has_some else min(download.pauses.get(link, SHARE_PAUSE), LACK_PAUSE)
        download.pauses[link] = SHARE_PAUSE if has_some else 2 * pause
        download.lacking[link] = self._ctx.now.mono + pause

    def _stalls(self, download: ContentDownload, remote: RemoteState) -> tuple[int, ...]:
        return tuple(download.stalled[node] for node in self._line(remote))

    def _count_stall(self, download: ContentDownload, remote: RemoteState) -> None:
        download.stalled.update(self._line(remote))

    def _line(self, remote: RemoteState) -> Line:
        """Return where a link counts: a contact for itself, another peer with its member."""
        return (remote.link.peer,) if remote.link.known else self._sync.members.line(remote.link.peer)

    def _pull(self, download: ContentDownload, remote: RemoteState, transfers: LinkTransfers, *, spared: bool) -> bool:
        """Send one pull: for the list of leaves, or for consecutive pieces. Return False if the link has none.

        A spared link is asked for one piece, and for one that no other link is known to have.
        """
        (log, seq), file, link = download.source, download.file, remote.id
        if download.needed[0] == LEAVES:
            download.needed.popleft()
            frames = -(-count_pieces(file.size) * LEAF_BYTES // PIECE_BYTES)
            missing, first, count = deque([LEAVES] * frames), 0, 0
            download.under_way += 1
        else:
            most = transfers.window // NEAR_PIECES
            pieces = [_take_rare(download)] if spared else self._next_pieces(download, link, most)
            if not pieces:
                self._rest(download, link, has_some=True)
                del download.held[link]
                return False
            missing, first, count = deque(pieces), pieces[0], len(pieces)
            download.under_way += count
        n, transfers.next = transfers.next, transfers.next + 1
        now, size = self._ctx.now.mono, min(file.size, PIECE_BYTES)
        transfers.pulls[n] = OpenPull(download, missing, now, now, size, was_said=link in download.held)
        transfers.asked += len(missing) * size
        self._ctx.send(Pull(n, *log, seq, file.root, first, count), [link])
        return True

    def _next_pieces(self, download: ContentDownload, link: int, most: int) -> list[int]:
        """Take consecutive pieces that no link was asked for. Of a link that lacked some, take only those it holds."""
        held = download.held.get(link)
        pieces: list[int] = []
        if held is None:
            pieces.append(download.needed.popleft())
            while download.needed and download.needed[0] == pieces[-1] + 1 and len(pieces) < most:
                pieces.append(download.needed.popleft())
            return pieces
        for index in download.needed:
            if pieces and (index != pieces[-1] + 1 or len(pieces) == most):
                break
            if held[index]:
                pieces.append(index)
        for index in pieces:
            download.needed.remove(index)
        return pieces

    def on_piece(self, remote: RemoteState, piece: Piece) -> LogError | None:
        """Take a frame of bytes. Return a fault if it was not asked for."""
        transfers = self._links.get(remote.id)
        pull = transfers.pulls.get(piece.n) if transfers is not None else None
        if transfers is None or pull is None:
            return LogError("a piece that nobody asked for", code="order")
        index = pull.missing.popleft()
        transfers.on_answer(pull, self._ctx.now.mono)
        if not pull.missing:
            del transfers.pulls[piece.n]
        if piece.index != (len(pull.leaves) // PIECE_BYTES if index == LEAVES else index):
            pull.missing.appendleft(index)
            self._return(pull)
            return LogError("another piece than the one that was asked for", code="order")
        self._store(remote.id, pull, index, piece.data)
        if not pull.missing:
            self._ask_waiting(transfers)
        return None

    def _store(self, link: int, pull: OpenPull, index: int, data: bytes) -> None:
        """Have a piece stored, or the list of leaves once all of it is here."""
        if index == LEAVES:
            pull.leaves += data
            if pull.missing:
                return
        download = self._download_of(pull) or self._take_late(pull, index)
        if download is None:
            return
        file, download.heard_at = download.file, pull.heard_at
        if index == LEAVES:
            self._ctx.order(StoreLeaves(link, file.root, file.size, bytes(pull.leaves)))
        else:
            self._ctx.order(StorePieces(link, file.root, file.size, [(index, data)]))

    def on_lacks(self, remote: RemoteState, frame: Lacks) -> None:
        """Take the end of a pull that could not be answered. The link may have the rest later."""
        transfers = self._links.get(remote.id)
        pull = transfers.pulls.pop(frame.n, None) if transfers is not None else None
        if transfers is None or pull is None:
            return
        transfers.asked -= len(pull.missing) * pull.piece_bytes
        if (download := self._download_of(pull)) is not None:
            self._take_lacks(remote, frame, pull, download)
        self._ask_waiting(transfers)

    def _take_lacks(self, remote: RemoteState, frame: Lacks, pull: OpenPull, download: ContentDownload) -> None:
        if frame.has and not pull.was_said and LEAVES not in pull.missing:
            download.held[remote.id] = _flags_of(frame.has, count_pieces(download.file.size))
        else:
            download.held.pop(remote.id, None)
            self._rest(download, remote.id, has_some=False)
            if pull.was_said:  # it has not what it said
                self._count_stall(download, remote)
                pause = LACK_PAUSE * (1 + self._stalls(download, remote)[0])
                download.lacking[remote.id] = self._ctx.now.mono + pause
        self._return(pull)
        self._ask(download)

    # ---- time

    def _check_later(self) -> None:
        if not self._checks:
            self._checks = True
            self._sync.after(CHECK_EVERY, self._check)

    def _check(self) -> None:
        """Ask other links for what one did not give in time, and ask links that came up since."""
        self._checks = False
        late = self._ctx.now.mono - STALLED_AFTER
        for id, transfers in self._links.items():
            for pull in transfers.pulls.values():
                if pull.heard_at <= late and (download := self._download_of(pull)) is not None:
                    if (remote := self._sync.remotes.get(id)) is not None:
                        self._count_stall(download, remote)
                    self._return(pull)
        for root, download in list(self._downloads.items()):
            idles = not download.under_way and download.heard_at <= late
            if idles and not download.asked and self.requests.has_waiting and self.requests.is_wanted(root):
                self._drop(download)
                self.requests.postpone(root)
            elif idles and (other := self.requests.next_message(root)) is not None:
                download.heard_at = self._ctx.now.mono
                self._sync.find_file(other, root, partial(self._on_other_message, root, other))
            else:
                self._ask(download)
        if self._downloads:  # also if the other message is gone, and nobody was asked
            self._check_later()

    def _on_other_message(self, root: str, source: Source, file: FileRef | None) -> None:
        """Go on with a download of which nothing came for another message that names the same."""
        if file is not None and root in self._downloads:
            self._open(source, file, asked=self._downloads[root].asked)

    # ---- giving

    def on_pull(self, remote: RemoteState, frame: Pull) -> LogError | None:
        """Answer a pull if the link may have the content. Return a fault if it has too many pulls open."""
        transfers = self._links[remote.id]
        if len(transfers.served) >= MAX_PULLS or frame.count > MAX_PULL_PIECES or frame.n in transfers.served:
            return LogError("more pulls than may be open at once", code="limit")
        transfers.served[frame.n] = None
        log = LogId(frame.c, frame.u, frame.r)
        if not self._sync.may_have(remote, log, frame.seq):
            self._refuse(remote, frame)
        else:
            self._sync.find_file((log, frame.seq), frame.root, partial(self._on_file_found, remote, frame))
        return None

    def _on_file_found(self, remote: RemoteState, frame: Pull, file: FileRef | None) -> None:
        if remote.id not in self._links or not self._sync.is_up(remote):
            return
        if file is None or not self._sync.may_have(remote, LogId(frame.c, frame.u, frame.r), frame.seq):
            self._refuse(remote, frame)
        else:
            self._ctx.emit(GivePieces(remote.id, frame.n, frame.root, file.size, frame.first, frame.count))

    def _refuse(self, remote: RemoteState, frame: Pull) -> None:
        """Answer as if the content were not here, so that the link learns nothing more."""
        self._ctx.count("pull_refused")
        self._ctx.send(Lacks(frame.n), [remote.id])
        self._links[remote.id].served.pop(frame.n, None)

    def on_durable(self, step: Step) -> None:
        """Begin what a commit requested, ask who has what it names, and look again where messages are deleted."""
        change = step.change
        self.requests.on_durable(step)
        for log, batch in step.with_files:
            self.receipts.on_durable(log, batch)
        if change.pruned or any(relation.aspect == "text" for relation in change.relations):
            self.receipts.on_deleted()

    def on_answered(self, input: PullAnswered) -> None:
        transfers = self._links.get(input.link)
        if transfers is not None:
            transfers.served.pop(input.n, None)


def _take_rare(download: ContentDownload) -> int:
    """Take a piece that no link was asked for: if there is one among the next, one that no link is known to have."""
    needed, flags = download.needed, download.held.values()
    next_ones = enumerate(islice(needed, MAX_UNDER_WAY))
    skipped = next((at for at, index in next_ones if not any(held[index] for held in flags)), 0)
    index = needed[skipped]
    del needed[skipped]
    return index


def _flags_of(ranges: Sequence[tuple[int, int]], pieces: int) -> bytearray:
    """Return a byte for each piece: 1 for those in these ranges, which go upwards."""
    flags, end = bytearray(pieces), 0
    for first, count in ranges:
        if end <= first < pieces:
            end = min(first + count, pieces)
            flags[first:end] = b"\1" * (end - first)
    return flags
