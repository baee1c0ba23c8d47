"""Catch-up of a session: the messages its client missed, until it receives events live; and when gateways were apart.

Missed messages, and for who hears of them changes of messages, are read from storage in the order they were shown here,
while the hub already delivers new ones; none is lost and none is sent twice.

`since` names the last message or change that a client has. At the gateway that sent it, the client has everything shown
there before it, so the catch-up is exact. Another gateway of the same user has shown messages in another order, some of
them before that one, which the client never got. There, the catch-up begins with what was shown five minutes before it
was written, or before the two gateways were parted if they were then, or before this one stopped if it did not run
then: messages are repeated, with equal ids, rather than missed. `ID@GATEWAY` says which gateway sent it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from p2pchat import DurableEvent, HostedUser, Link, Message, MessageChange, Sent, TCPPeer, UnknownName
from p2pchat.commands.standard_output import iso
from p2pchat.threads import ends_within
from p2pchat.web.accounts import DELIVERY_CONSUMER
from p2pchat.web.error_responses import WebError

QUEUED_KINDS = ("dm", "group")  # conversations whose messages wait for absent accounts; the room is in the history
PAGE = 16  # messages read at once; the longest take 2 MiB until a client has taken them
REPEATED = timedelta(minutes=5)  # as far as clocks may differ, and more than two linked gateways are ever apart
REPEATED_UNKNOWN = timedelta(hours=1)  # a message not here, of a log not here: both are new; a guess
ON_ITS_WAY = 3.0  # seconds for a message named by a client that another gateway sent it; it waits no longer
MAX_PEERS = 1024  # remembered that are not linked now; those that came first are forgotten first
MAX_OF_PEER = 32  # separations remembered of one peer; a guess: some 100 bytes each
LOOKED_BACK = timedelta(seconds=10)  # first, for what was shown last, and then twice as far again and again; a guess
EPOCH = datetime.fromtimestamp(0, UTC)
NEVER_ENDED = datetime.max.replace(tzinfo=UTC)
Separation = tuple[datetime, datetime]  # from, to

Post = Message | Sent | MessageChange


class CatchUp:
    """Replay of missed messages, from the start of a session until it receives events live.

    Args:
        send: Sends one message.
        drained: Waits until there is room for another page.
        mark: The name of this gateway in `since`.
        is_shared: The user has sessions at other gateways, too.
        separations: When other gateways were not linked.
    Attributes:
        changes: The session hears of changes of messages.
        is_live: Everything missed was sent.
    """

    def __init__(
        self, user: HostedUser, send: Callable[[Post], None], drained: Callable[[], Awaitable[None]],
        mark: str, is_shared: bool, separations: PeerSeparations,
    ) -> None:  # fmt: skip
        self._user = user
        self._send = send
        self._drained = drained
        self._mark = mark
        self._shared = is_shared
        self._separations = separations
        self.changes: bool = False
        self.is_live: bool = False
        self._first_live: Post | None = None  # the first message delivered before the session was live
        self._news = False  # a message was delivered since storage was read last
        self._sent_all = 0  # all messages up to this place were sent
        self._awaited = ""  # the id of a message that is not here
        self._came = asyncio.Event()  # that message was delivered
        self._shown_from: datetime | None = None  # the catch-up of a client of another gateway began with this moment

    @property
    def mark(self) -> str:
        """The text a client of several gateways appends to a message's id to continue behind it here; or ""."""
        return f"@{self._mark}" if self._shared else ""

    def about(self) -> dict[str, str]:
        """Return what a client of several gateways is told: the name of this one, and where its catch-up began."""
        if not self._shared:
            return {}
        return {"gateway": self._mark} | ({} if self._shown_from is None else {"from": iso(self._shown_from)})

    def accepts(self, post: Post) -> bool:
        """Return whether a message delivered by the hub is to be sent now; otherwise it was or will be sent.

        While the session is not live, `post` has to be the user's own view of the message.
        """
        if self.is_live:
            return post.place > self._sent_all
        self._news = True
        self._first_live = self._first_live or post
        if self._awaited and post.entry_id == self._awaited:
            self._came.set()
        return False

    # ---- where it begins

    async def find_start(self, since: object) -> tuple[DurableEvent | datetime | None, WebError | None]:
        """Return where the catch-up begins, and an error to be told to the client, with which it goes on.

        Args:
            since: The last message or change that the client has, as it names it; None or "" for none.
        Returns:
            What it has, or the moment from which on it gets what was shown here, or None: it gets what
            waits for the account.
        Raises StorageError, PeerClosed.
        """
        if since in (None, ""):
            return None, None
        id, _, gateway = since.strip().partition("@") if isinstance(since, str) else ("", "", "")
        elsewhere = gateway != self._mark if gateway else self._shared
        self._awaited = id if elsewhere else ""
        try:
            if elsewhere:
                return await self._find_elsewhere(id, gateway)
            return await self._user.entry(id), None
        except (UnknownName, ValueError):
            return None, WebError(404, "since", "`since` names no message here: you get what waits, as without it")

    async def _find_elsewhere(self, id: str, gateway: str) -> tuple[datetime, WebError | None]:
        """Return the moment for a client that another gateway sent this message, which may be on its way here."""
        try:
            last = await self._user.entry(id)
        except UnknownName:
            await ends_within(ON_ITS_WAY, self._came.wait())
            try:
                last = await self._user.entry(id)
            except UnknownName:
                return await self._find_before(id, gateway)
        self._shown_from = await self._before(min(last.sent_at, last.received_at), gateway)
        return self._shown_from, None

    async def _before(self, moment: datetime, gateway: str) -> datetime:
        """Return a moment before which a client had everything shown here when it had a message of that time.

        `gateway` sent it the message; "" where it may be any that hosts the user.
        """
        others = [gateway] if gateway else map(name_of, self._user.other_hosts)
        moment = min((self._separations.together_at(other, moment) for other in others), default=moment)
        return await self._separations.running_at(self._user, moment) - REPEATED

    async def _find_before(self, id: str, gateway: str) -> tuple[datetime, WebError]:
        """Return the moment for a message that is not here: by what is here of the log in which it is."""
        before = await self._user.written_before(id)
        if before is None:
            before = datetime.now(UTC) - REPEATED_UNKNOWN
        self._shown_from = await self._before(before, gateway)
        begins = iso(self._shown_from)
        text = f"`since` names a message that is not here yet: you get what was shown here from {begins} on"
        return self._shown_from, WebError(404, "since", text)

    # ---- replay

    async def after(self, start: DurableEvent | datetime) -> int:
        """Send everything shown after a message or from a moment on, then become live; return how many that were."""
        count, last = 0, start
        while not self.is_live:
            self._news = False
            page = await self._user.released(last, limit=PAGE, changes=self.changes)
            for last in page:
                if last.place > self._sent_all:
                    self._send(last)
                    count += 1
            if isinstance(last, DurableEvent):
                self._sent_all = max(self._sent_all, last.place)
            self.is_live = not (page or self._news)  # live once a read found nothing and nothing came during it
            if page:
                await self._drained()
        return count

    async def waiting(self, opened: int) -> int:
        """Send what waits for the account and what came meanwhile, then become live; return how many waited.

        Args:
            opened: What is after this place came meanwhile, and is sent also if another session has taken it.
        """
        count, last = 0, None
        while page := await self._waiting_page(last, opened):
            unread = {post.place for post in await self._user.without_read(page)}
            for last in page:
                if last.place in unread:  # what was read by another interface was taken there
                    self._send(last)
                    count += 1
            if not count:
                self._user.hand_on(page[-1], DELIVERY_CONSUMER)
            await self._drained()
        if self._first_live is None:
            self.is_live = True
        else:
            self._send(self._first_live)
            await self.after(self._first_live)
        return count

    async def _waiting_page(self, last: Message | Sent | None, opened: int) -> list[Message | Sent]:
        page = await self._user.released(last, consumer=DELIVERY_CONSUMER, kinds=QUEUED_KINDS, limit=PAGE)
        return [post for post in page if post.place <= opened]


class PeerSeparations:
    """The times when peers were not linked, since start() was called; each may be a gateway of the same users.

    While two gateways are linked, each has within seconds what the other has. What one of them showed while they were
    apart, a client of the other may lack, however long that was before the last message it has. A gateway that stops
    may be the only one that has what it showed last, and is apart from all others until it runs again.

    Args:
        lasting: How long after the end of a separation two peers may still lack something of each other.
    """

    def __init__(self, peer: TCPPeer, lasting: timedelta) -> None:
        self._peer = peer
        self._lasting = lasting
        self._made = datetime.now(UTC)  # before there were links
        self._began: datetime | None = None
        self._shown_until: datetime | None = None  # something was shown here then, before; None: not known yet
        self._of: dict[str, deque[Separation]] = {}  # by the beginning of the peer's id, oldest first

    def start(self) -> None:
        """Begin with the peers that are linked now."""
        self._began = datetime.now(UTC)
        self._of = {name_of(peer_id): deque(maxlen=MAX_OF_PEER) for peer_id in self._peer.links()}

    def on_link(self, event: Link) -> None:
        """Note that a link came up or ended."""
        if self._began is None or event.state not in ("up", "down"):
            return
        name, now = name_of(event.to_dict()["peer_id"]), event.at
        known = self._of.get(name)
        if event.state == "up":
            if known is None:
                known = self._of[name] = deque([(self._began, NEVER_ENDED)], maxlen=MAX_OF_PEER)
            if known and known[-1][1] == NEVER_ENDED:
                known[-1] = known[-1][0], now
        elif known is not None and not (known and known[-1][1] == NEVER_ENDED):
            known.append((now, NEVER_ENDED))
            self._forget_some()

    def _forget_some(self) -> None:
        gone = [name for name, known in self._of.items() if known and known[-1][1] == NEVER_ENDED]
        for name in gone[: max(0, len(gone) - MAX_PEERS)]:
            del self._of[name]

    def together_at(self, name: str, moment: datetime) -> datetime:
        """Return the last time before a moment at which this peer and another one had the same.

        Before this gateway began they are taken to have been linked, since nothing is known of that time but what
        running_at says.
        """
        if self._began is None:
            return moment
        known = self._of.get(name, deque([(self._began, NEVER_ENDED)]))
        for first, last in reversed(known):
            if first <= moment and (last == NEVER_ENDED or moment < last + self._lasting):
                moment = first
        return moment

    async def running_at(self, user: HostedUser, moment: datetime) -> datetime:
        """Return the last time before a moment at which this gateway ran, by what it showed to a user of it.

        Raises StorageError, PeerClosed.
        """
        if self._began is None or moment >= self._began + self._lasting:
            return moment
        until = self._shown_until
        if until is None or self._made - until > self._lasting:  # others may have been shown something later
            found = await self._newest_shown(user)
            until = max(filter(None, (found, self._shown_until)), default=None)
            self._shown_until = until
        return moment if until is None else min(moment, until)

    async def _newest_shown(self, user: HostedUser) -> datetime | None:
        """Return about when something was shown to a user last, before this gateway began; None for never."""
        back, first = LOOKED_BACK, await user.released(EPOCH, limit=1)
        if not first or first[0].received_at >= self._made:
            return None
        while first[0].received_at < self._made - back:
            page = await user.released(self._made - back, limit=1)
            if page and page[0].received_at < self._made:
                return page[0].received_at
            back *= 2
        return first[0].received_at


def name_of(peer_id: str) -> str:
    """Return the name of a gateway in `since`: the beginning of the id of its peer."""
    return peer_id[:32]
