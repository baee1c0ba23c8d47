"""Quotas: how much is stored of each contact and of each other member, and what a nearly full disk takes.

A contact has room of its own. All users of another member share that of their member, for which it answers: whoever
admitted it can expel it. Then they have what the member had left, contacts among them too, and what is here of them
takes no room among all members. Each of them but the member itself has a part of what is left: one account of a gateway
leaves room to the others. A little is free to each while there is room. Users who count by themselves
(member_directory.py) have as much as a member. The limits and what they add up to stand in one table, settings.py.
Bytes are counted per batch, those on their way to the disk included, and a log counts besides its bytes. A restart
counts the same.

Of whom there is no room, nothing more is stored. The peers of such a user are sent `full`; nothing of the user is
fetched (fetcher.py), and other entries do not wait for it. `lift` removes every limit of a user permanently. Then
everything is compared again and the refused entries arrive. Hosted users have no limits at home. While the disk is
nearly full, nothing of others is stored. Nothing of blocked users ever is, and nobody is told.

Source: docs/protocol.md, "Limits"; docs/guarantees.md has the promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping

from p2pchat.core.contacts import Blocks
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.effects import WarningIssued
from p2pchat.core.log import Ref, WriterKey
from p2pchat.core.members.member_directory import Line, MemberDirectory
from p2pchat.core.names import describe_user
from p2pchat.core.node_context import NodeContext
from p2pchat.core.sync.known_conversations import KnownConversations
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.protocol import UserId, user_start
from p2pchat.settings import MemberLimits

PREFIX = "quota:"  # in meta, before a user whose limits are lifted
ALLOWED = "allowed"
# A fact of a group is kept in memory, and takes up to ten times its bytes there, one of an admin that adds 20 or 255
# people who are new in the group: 14 KiB of 1.4, 160 KiB of 18. One that does not count takes three times its bytes.
FACT_FACTOR = 10
COVERED_PART = 16  # of Settings.log_bytes for a log on which another builds: a job each minute is no flood
EXPELLED = "expelled"  # ends the line of who is out
UNNAMED = "unnamed"  # begins that of all together whom nobody had added: their keys cost nothing
WARNED_AT = 0.8  # fraction of a quota: docs/protocol.md


class MemberBytes:
    """Bytes of one kind.

    Args:
        members: Which member answers for a user.
        contacts: A live view of the contacts.
        hosted, allowed: Live views of those whom nothing limits: the hosted users, and those whose limits are lifted.

    Attributes:
        of_user: What each user takes, contacts and free ones included.
        lines: Where users count who share the room of a member, or who did: that or UNNAMED, the user, and EXPELLED.
    """

    def __init__(
        self, limits: MemberLimits, members: MemberDirectory, contacts: Container[UserId], hosted: Container[UserId],
        allowed: Container[UserId],
    ) -> None:  # fmt: skip
        self._limits = limits
        self._members = members
        self._contacts = contacts
        self._hosted = hosted
        self._allowed = allowed
        self.of_user: Counter[UserId] = Counter()
        self.lines: dict[UserId, Line] = {}
        self._taken: Counter[Line] = Counter()  # by all who are in, (), all who are out, and each member

    def is_free(self, user: UserId) -> bool:
        """Return whether nothing limits a user."""
        return user in self._hosted or user in self._allowed

    def load(self, sizes: Iterable[tuple[UserId, int]]) -> None:
        """Count what is stored, once the contacts are known."""
        for user, size in sizes:
            self.settle(user)
            self.add(user, size)

    def line(self, user: UserId, named_now: UserId = "") -> Line:
        """Return where a user counts: at the member that it named last when it wrote. () for a contact, who shares
        nothing, and for one whom nothing limits.

        Which links it is on changes nothing: all is counted once it is stored, and only then moves.

        Args:
            named_now: A member that a header names, and that is not noted yet.
        """
        if self.is_free(user):
            return ()
        named = named_now or self._members.named_last.get(user, user)
        if self._members.is_out(user, named):
            return named if self._members.is_added(named) else UNNAMED, user, EXPELLED
        return () if user in self._contacts else self._members.line(user, named)

    def places(self, user: UserId, line: Line) -> tuple[Line, ...]:
        """Return where a user with this line may exceed a limit."""
        return ((), line[2:], line[:1], line) if line else ((user, ""),)

    # ---- counting

    def settle(self, user: UserId, named_now: UserId = "") -> bool:
        """Count all of a user where it belongs now. Return whether it shared the room of another member before."""
        former, line, size = self.lines.get(user, ()), self.line(user, named_now), self.of_user[user]
        if line == former:
            return False
        self.add(user, -size)
        self.lines[user] = line
        self.add(user, size)
        return bool(former)

    def settle_all(self, users: Iterable[UserId]) -> bool:
        """Count what the expelled of these have here among themselves, and what the pardoned have where it belongs.

        Return whether any of it shared the room of another member before.
        """
        return sum(self.settle(user) for user in users if user in self.of_user) > 0

    def add(self, user: UserId, more: int) -> None:
        """Count so much more of a user. The limits are not checked here."""
        self.of_user[user] += more
        if line := self.lines.get(user):
            self._taken[line[2:]] += more
            self._taken[line[:1]] += more

    def full(self, user: UserId, more: int) -> Line | None:
        """Return where a user would exceed a limit with so much more; None if there is room."""
        own, line, limits = self.of_user[user] + more, self.lines.get(user), self._limits
        if not line:
            return (user, "") if own > limits.contact_bytes and not self.is_free(user) else None
        all_of_them = line[2:]
        if sum(self._taken[each] for each in {(), all_of_them}) + more > limits.others_bytes:
            return all_of_them
        left = limits.member_bytes - self._taken[line[:1]]
        if more > left:
            return line[:1]
        is_part = line[0] != user
        return line if is_part and own > max(limits.user_least_bytes, left // limits.user_part) else None

    def used(self, user: UserId, more: int) -> float:
        """Return which part of the room of a contact, or of a user's member, is taken with so much more."""
        line, limits = self.lines.get(user), self._limits
        if line:
            return (self._taken[line[:1]] + more) / limits.member_bytes
        return (self.of_user[user] + more) / limits.contact_bytes


class Quota:
    """Counts stored bytes and decides whether more may be stored.

    Args:
        meta: What storage holds; it names the users whose limits are lifted.
        hosted, names: Live views of the hosted users and of names.
        contacts: A live view of the contacts.
        members: Which member answers for a user.
        blocks: The blocked users.
        conversations, remotes: Live views of the conversations and links.

    Attributes:
        disk: The entries for which there is disk space.
        bytes: What is stored of each user, with what its logs cost besides.
        log_bytes, saved_bytes, fork_bytes: What a log costs besides its entries, how much less while another one builds
            on its end, and what the evidence of a fork costs at most.
        files: What the files of each user take that come by themselves, with limits as high (content_requests.py).
        allowed: Users whose limits are lifted.
        has_freed: There may be room for refused entries, since a user belongs to another member or to none.
    """

    def __init__(
        self, ctx: NodeContext, meta: Mapping[str, str], hosted: Container[UserId], names: Mapping[UserId, str],
        contacts: Container[UserId], members: MemberDirectory, blocks: Blocks, conversations: KnownConversations,
        remotes: Mapping[int, RemoteState],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._hosted = hosted
        self._names = names
        self._members = members
        self._blocks = blocks
        self._conversations = conversations
        self._remotes = remotes
        self.allowed: set[UserId] = {
            name.removeprefix(PREFIX) for name, line in meta.items() if name.startswith(PREFIX)
        }
        sharers = members, contacts, hosted, self.allowed
        self.bytes: MemberBytes = MemberBytes(ctx.settings, *sharers)
        self.files: MemberBytes = MemberBytes(ctx.settings, *sharers)
        self.log_bytes: int = ctx.settings.log_bytes
        self.saved_bytes: int = self.log_bytes - self.log_bytes // COVERED_PART
        self.fork_bytes: int = 2 * ctx.settings.max_batch_bytes
        self.disk: DiskLevel = DiskLevel.ENOUGH
        self._full: set[Line] = set()  # where there was no room for something that came, and nothing was freed since
        self._warned: set[tuple[str, Line]] = set()
        self.has_freed: bool = False

    # ---- checking

    def check(self, key: WriterKey, member: UserId = "") -> bool:
        """Return whether a batch of this user may be decoded. `member` is the one that its header names, if any."""
        user = key[1]
        if self.is_blocked(key) or (self.disk is not DiskLevel.ENOUGH and user not in self._hosted):
            return False
        if not self._full or self.bytes.is_free(user):
            return True
        return self._full.isdisjoint(self.bytes.places(user, self.bytes.line(user, member)))

    def blocks_all(self, refs: Iterable[Ref]) -> bool:
        """Return whether all these entries are of blocked users: what follows them hardly waits."""
        starts = self._blocks.starts
        return bool(starts) and all(user_start(ref.log) in starts for ref in refs)

    def is_blocked(self, key: WriterKey) -> bool:
        """Return whether nothing of a user is stored in a conversation because somebody here blocks it.

        Operations of groups that are known here are no messages: what other members write there builds on them.
        """
        if not self._blocks.starts:
            return False
        id, user = key
        conversation = self._conversations.get(id)
        members = conversation.naming.dm if conversation is not None else None
        if user in self._hosted or not self._blocks.refuses(user, members or ()):
            return False
        is_known_group = conversation is not None and conversation.has_facts and bool(conversation.writers)
        return not is_known_group

    # ---- room

    def has_room(self, user: UserId, size: int, member: UserId = "", *, begins: bool = True) -> bool:
        """Return whether there is room for all that a proven batch costs. Only then is it stored and counted.

        Args:
            member: The member that its header names, if any.
            begins: Its log is new here. Where its writer counts is asked then, and when that changes.
        """
        if begins and self.bytes.settle(user, member) and self._forget_full():
            self.has_freed = self._ctx.owes = True
        where = self.bytes.full(user, size)
        if where is not None:
            self.bytes.settle(user)  # the header is refused, too
            self._mark_full(user, where)
            return False
        if self.bytes.used(user, size) > WARNED_AT and not self.bytes.is_free(user):
            shared = self.bytes.lines.get(user, ())[:1]
            self._warn("quota", user, shared or (user, ""), "has used 80 % of the space for", "more is refused, unless")
        return True

    def _mark_full(self, user: UserId, where: Line) -> None:
        if where in self._full:
            return
        self._full.add(where)
        self._ctx.count("user_full")
        self._warn("full", user, where, "has exceeded the space for", "further messages are refused until")
        self.stop_awaiting(user)

    def stop_awaiting(self, user: UserId) -> None:
        """Fetch and await nothing of a user of whom nothing is taken."""
        for remote in self._remotes.values():
            for key in [key for key in remote.ahead if key[1] == user]:
                remote.set_ahead(key, {})

    def _warn(self, code: str, user: UserId, where: Line, what: str, then: str) -> None:
        """Warn once of a limit."""
        if (code, where) in self._warned:
            return
        self._warned.add((code, where))
        who, of = self._describe(user, where)
        self._ctx.emit(WarningIssued(code, f"{who} {what} {of}: {then} /allow NAME lifts the limit", user))

    def _describe(self, user: UserId, where: Line) -> tuple[str, str]:
        """Return who has a limit, and for whom it is, for people."""
        limits, who = self._ctx.settings, describe_user(self._names.get(user))
        if where in ((), (EXPELLED,)):
            return "everybody unknown here", f"all of them ({_mib(limits.others_bytes)})"
        if where[-1] == "":
            return who, f"one contact ({_mib(limits.contact_bytes)})"
        if len(where) > 1:
            return who, "one user of its member"
        if where[0] != user:
            name = self._names.get(where[0]) or self._names.get(self._members.speaker(where[0]))
            who = f"{name}'s member" if name else "a member without a name"
        return who, f"one member ({_mib(limits.member_bytes)})"

    # ---- lifting

    def lift(self, user: UserId) -> None:
        """Lift the quota of this user permanently."""
        self.allowed.add(user)
        self._ctx.choose(PREFIX + user, ALLOWED)
        self.on_contact(user)

    def on_contact(self, user: UserId) -> bool:
        """Count a user where it belongs now. Return True if there may be room for refused entries."""
        self.files.settle(user)
        return self.bytes.settle(user) and self._forget_full()

    def on_hosts_changed(self, user: UserId) -> None:
        """Count a user where it belongs who is hosted here now, or was."""
        if self.on_contact(user):
            self.has_freed = self._ctx.owes = True

    def on_members_changed(self, users: Collection[UserId]) -> None:
        """Give room to those who are left when some of these are expelled, and count those who are pardoned."""
        self.files.settle_all(users)
        if self.bytes.settle_all(users) and self._forget_full():
            self.has_freed = self._ctx.owes = True

    def on_deleted(self, user: UserId, size: int) -> bool:
        """Give bytes back that were deleted. Return True if there may be room now for refused entries."""
        self.bytes.add(user, -size)
        return self._forget_full()

    def _forget_full(self) -> bool:
        """Try again wherever there was no room. Return whether there was none anywhere."""
        was_full = bool(self._full)
        self._full.clear()
        return was_full


def lifted_line(user: UserId) -> dict[str, str | None]:
    """Return the line of meta that lifts the quota of a user."""
    return {PREFIX + user: ALLOWED}


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
