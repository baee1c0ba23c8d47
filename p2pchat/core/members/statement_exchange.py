"""The exchange of statements with other peers: compared on each link, stored, and told on once they are durable.

Each end sends a sum of all that it keeps. Where they differ, both send all of theirs. What is new here goes to all
links in the step in which it was committed. The rule decides what is kept (`member_list.py`): statements of somebody
who was never an admin are dropped, but what a member revokes. So when there is a new admin, all links are asked for
their sums again, and a while after somebody revoked keys whom nobody names here.

A peer that joined by an invite does not know who founded its network, only its id, which is a hash of that key. It
takes the key from the first peer or export file that tells it. In a network that is made from a word there are no
statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b

from p2pchat.core.durable_changes import Change, Collected
from p2pchat.core.log import CLOCK_AHEAD, hash_of
from p2pchat.core.members import member_list
from p2pchat.core.members.member_list import ListChange, MemberList
from p2pchat.core.members.statement import (
    ADMIN,
    REMOVE,
    REVOKE,
    Statement,
    StatementError,
    StatementId,
    author_of,
    network_id,
    parse_statement,
    room_id,
)
from p2pchat.core.node_context import NetworkCredentials, NodeContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Membership, Statements, UserId

FOUNDER = "founder"  # in meta: the key of the founder, where the network was joined
HEARD = "heard:"  # in meta, before the id of a removal that came before its time: when it came, UTC microseconds
FRAME_BYTES = 64 * 1024  # of statements in one frame: some 250, verified in 20 ms
SUM_TAG = b"p2pchat/statements/1\0"
ASKED_AFTER = 60.0  # seconds; a guess
ANSWERED_AFTER = 1.0  # seconds until a peer that was not answered is compared with again
_REVOKES = f'"k":"{REVOKE}"'  # in a text, which is canonical
MAX_REFUTED = 256  # false statements that one link may pass on; a guess


class _Remote(Collected):
    """A linked peer.

    Attributes:
        refuted: The hashes of those that it brought and that their authors did not make.
        owed: It is asked again for its sum when it may get one.
    """

    link: int
    owed: bool = False
    refuted: set[bytes] = set()


class StatementExchange:
    """The statements of one peer.

    Attributes:
        members: What follows from all that were taken; None while nobody told who founded the network, and where there
            are no statements.
        undurable: The ids of those on their way to the disk.
        heard: When removals came, by their ids, of which the author's clock says a later time than the one here.
    """

    def __init__(self, ctx: NodeContext, network: NetworkCredentials) -> None:
        self._ctx = ctx
        self._network = network
        self._clear()

    def _clear(self) -> None:
        self._remotes: dict[int, _Remote] = {}
        self._durable: dict[StatementId, Statement] = {}
        self.undurable: set[StatementId] = set()
        self._sums: list[str] = []  # of the durable ones, and with those on their way; [] until asked for
        self.heard: dict[StatementId, int] = {}
        self._asks_later = False
        self.members: MemberList | None = None

    def load(self, stored: Iterable[tuple[str, bytes]], meta: Mapping[str, str]) -> None:
        """Begin with the texts and signatures that storage holds, and with what it holds besides."""
        self._clear()
        if not self._network.is_named and (founder := self._network.founder or meta.get(FOUNDER, "")):
            self.members = MemberList(founder, self._network.member)
            said = [parse_statement(self._network.id, *pair) for pair in stored]
            self._durable = {one.id: one for one in said}
            self.members.add(self._durable.values())
            for name, at in meta.items():
                if name.startswith(HEARD):
                    self.heard[name.removeprefix(HEARD)] = int(at)

    def on_link_up(self, link: int) -> None:
        self._remotes[link] = _Remote(link)
        self._send_sum(link)

    def on_link_down(self, link: int) -> None:
        self._remotes.pop(link, None)

    def compare_all(self) -> None:
        """Ask all links for what was not taken for a while."""
        for link in self._remotes:
            self._send_sum(link, ask=True)

    def on_frame(self, link: int, frame: Statements) -> LogError | None:
        """Take a frame. Return the fault that must end the link, if any."""
        remote = self._remotes[link]
        if frame.founder is not None:
            self._learn_founder(frame.founder)
        if self.members is None:
            return None
        self._take(self.members, frame.s, remote.refuted)
        if len(remote.refuted) > MAX_REFUTED:
            return LogError("too many statements that their authors did not make", code="malformed")
        if frame.sum is not None and self.differs(frame.sum) and self._may_answer(remote):
            self._send([link], self._durable.values())
            if frame.ask:
                self._send_sum(link)
        return None

    def _may_answer(self, remote: _Remote) -> bool:
        """Return whether a peer gets an answer now. Else it is compared with again later."""
        if self._ctx.work.take("answers", remote.link):
            return True
        if not remote.owed:
            remote.owed = True
            self._ctx.after(ANSWERED_AFTER, lambda: self._compare_again(remote))
        return False

    def _compare_again(self, remote: _Remote) -> None:
        remote.owed = False
        if self._remotes.get(remote.link) is remote:
            self._send_sum(remote.link, ask=True)

    def take_shown(self, shown: Membership | Statements) -> bool:
        """Take what a peer shows before there is a link, or what a file has. Return whether it is in order."""
        if shown.founder is not None:
            self._learn_founder(shown.founder)
        refuted = set[bytes]()
        if self.members is not None:
            self._take(self.members, shown.s, refuted)
        return not refuted

    def durable(self, statements: Iterable[Statement]) -> list[Statement]:
        """Return those of these statements that are durable."""
        return [one for one in statements if one.id in self._durable]

    def is_named(self, user: UserId) -> bool:
        """Return whether somebody was ever said to be a member, or everybody is one."""
        is_member = self._network.is_named or network_id(user) == self._network.id
        return is_member or (self.members is not None and self.members.is_named(user))

    def next_at(self, signer: UserId) -> int:
        """Return the time of a statement that is made now, above that of all others of its signer with a plausible one.

        Those of others count for nothing: an admin that gives its own a later time would put off its removal.
        """
        said = [] if self.members is None else self.members.said_by(signer)
        return max([self._ctx.now.utc, *(one.at + 1 for one in said if self.time_of(one) == one.at)])

    def time_of(self, one: Statement) -> int:
        """Return when a statement was made, by its author, as far as it can be true: not later than now, either."""
        assert self.members is not None
        return self.members.time_of(one, self._ctx.now.utc + CLOCK_AHEAD)

    def _learn_founder(self, founder: UserId) -> None:
        if self.members is None and not self._network.is_named and network_id(founder) == self._network.id:
            self.members = MemberList(founder, self._network.member)
            self._ctx.change.meta[FOUNDER] = founder

    def say(self, statements: Iterable[Statement]) -> None:
        """Take statements that a program here made with a key of its own."""
        if self.members is not None:
            self._keep(self.members.add(statements))

    def on_durable(self, change: Change) -> list[Statement]:
        """Tell all links what was stored. Return the statements that count no more."""
        for one in change.statements:
            self.undurable.discard(one.id)
            self._durable[one.id] = one
        dropped = [self._durable.pop(id) for id in change.unstated if id in self._durable]
        self._sums = []
        assert self.members is not None
        self._send([*self._remotes], change.statements)
        if any(one.kind == ADMIN and one.by == self.members.founder for one in change.statements):
            self.compare_all()
        return dropped

    def drop_undurable(self) -> None:
        """Take back what was not stored: nobody heard of it, and it decided nothing."""
        if self.members is not None and self.undurable:
            self.undurable.clear()
            self._sums = []
            self.members = MemberList(self.members.founder, self._network.member)
            self.members.add(self._durable.values())

    def _take(self, members: MemberList, pairs: Sequence[tuple[str, str]], refuted: set[bytes]) -> None:
        """Keep what counts of these statements: those of the founder first, which say whose others do.

        One that its author did not make is skipped, and refuted: who passes it on may only lack a check.
        """
        new = dict[bytes, Statement]()
        for text, signature in pairs:
            key = blake2b((text + signature).encode(), digest_size=16).digest()
            if key in refuted or not self._may_take(author_of(text)):
                continue
            try:
                said = parse_statement(self._network.id, text, bytes.fromhex(signature))
            except StatementError:
                refuted.add(key)
                continue
            if not members.has(said):
                new[key] = said
        turns: tuple[Callable[[Statement], bool], ...] = (
            lambda one: one.by == members.founder,
            lambda one: one.by in members.admins,
            lambda one: one.kind == REVOKE and members.is_named(one.by),
        )
        for counts in turns:
            turn = {key: one for key, one in new.items() if counts(one)}
            new = {key: one for key, one in new.items() if key not in turn}
            false = {key for key, one in turn.items() if not one.is_signed(self._network.id)}
            refuted |= false
            made = [one for key, one in turn.items() if key not in false]
            for one in made:
                if one.by != members.founder:
                    self._ctx.work.charge("statements", one.by, one.size / member_list.MAX_BYTES_OF_ADMIN)
            if made:
                self._keep(members.add(made))
        if any(one.kind == REVOKE for one in new.values()):  # of whom nobody names yet
            self._ask_all_later()

    def _may_take(self, by: UserId) -> bool:
        """Return whether more of an admin's statements are taken now. Else all links are asked for them later."""
        if self._ctx.work.left("statements", by) >= 0:
            return True
        self._ask_all_later()
        return False

    def _ask_all_later(self) -> None:
        if not self._asks_later:
            self._asks_later = True
            self._ctx.after(ASKED_AFTER, self._ask_later)

    def _ask_later(self) -> None:
        self._asks_later = False
        self.compare_all()

    def _keep(self, change: ListChange) -> None:
        unstated, kept = self._ctx.change.unstated, {one.id for one in change.kept}
        new = [one for one in change.kept if one.id not in unstated]  # else it is kept again in this step
        self._ctx.change.unstated = [id for id in unstated if id not in kept]
        self._ctx.change.statements += new
        self.undurable.update(one.id for one in new)
        self._sums = []
        self._ctx.change.unstated += [one.id for one in change.dropped]
        now = self._ctx.now.utc
        early = {one.id: now for one in change.kept if one.kind == REMOVE and self.time_of(one) > now}
        self.heard |= early
        self._ctx.change.meta |= {HEARD + id: str(now) for id in early}
        gone = [one.id for one in change.dropped if self.heard.pop(one.id, None) is not None]
        self._ctx.change.meta |= {HEARD + id: None for id in gone}

    def _shown_sums(self) -> list[str]:
        """Return the sum of all that is on the disk, and the one of that and what is on its way there."""
        if not self._sums:
            kept = (self._durable, self._durable.keys() | self.undurable)
            self._sums = [hash_of(SUM_TAG, map(bytes.fromhex, sorted(ids))) for ids in kept]
        return self._sums

    def differs(self, theirs: str) -> bool:
        """Return whether a peer keeps other statements than are on the disk here, or on their way to it."""
        return theirs not in self._shown_sums()

    def _send_sum(self, link: int, *, ask: bool = False) -> None:
        if self.members is not None:
            self._ctx.send(Statements(founder=self.members.founder, sum=self._shown_sums()[0], ask=ask), [link])

    def _send(self, links: list[int], statements: Iterable[Statement]) -> None:
        """Send statements, those of the founder first, as it said them: a plan has its last word at its end. What is
        revoked comes last, since it counts if its signer is named.
        """
        assert self.members is not None
        founder = self.members.founder
        ordered = sorted(statements, key=lambda one: (one.kind == REVOKE, one.by != founder, one.at)) if links else []
        for frame in _frames((one.text, one.signature) for one in ordered):
            self._ctx.send(frame, links)


def file_frames(stored: Iterable[tuple[str, bytes]], room: ConversationId) -> list[Statements]:
    """Return the frames with which an export file begins: all statements that are stored, those of the founder first,
    and what is revoked last.

    The first one names the founder, since who joined and never met a member does not know that key.

    Args:
        stored: Texts and signatures.
        room: The id of the network's room.
    """
    said = sorted(stored, key=lambda one: (_REVOKES in one[0], room_id(network_id(author_of(one[0]))) != room))
    frames = _frames(said)
    if said:
        frames[0].founder = author_of(said[0][0])
    return frames


def _frames(said: Iterable[tuple[str, bytes]]) -> list[Statements]:
    """Return frames with these texts and signatures, in their order; [] for none."""
    frames, size = list[Statements](), FRAME_BYTES
    for text, signature in said:
        size += len(text) + len(signature)
        if size > FRAME_BYTES:
            frames.append(Statements())
            size = len(text) + len(signature)
        frames[-1].s.append((text, signature.hex()))
    return frames
