"""Requests of messages: direct conversations that unknown users begin with users hosted here.

An unknown user is one whom the hosted user did not choose (contacts.py). Anybody can make up any number of
users, so places for their conversations are few: each hosted user has a number of them, shared by the peers that bring
them (limits_by_origin.py). They never count against the hosted user. A newcomer takes the place of the newest
conversation of the peer that holds most places, or else of the oldest one whose peer is not linked any more, of the
network from which most of those came: so one party with many keys takes the places of its own (make_room). A
conversation without a place is forgotten. It is opened again when its peer mentions it while there is room.

The first few conversations of each peer come *straight*: their messages are shown like all others. Further ones *wait*:
what is written there is stored and acknowledged, and gets no place among what is shown (causal_order.py), so no reader
sees it. The hosted user decides with `choose` which of them wait. A little of a waiting conversation is taken, then its
writer's peers are sent `full`. Once the hosted user writes there or accepts it, everything in it is shown, in order,
and the rest is fetched. What waits for long is deleted.

In both kinds nobody is told what was read, until the hosted user answers or accepts. Groups have rules of their own
(group_requests.py).

Source: docs/protocol.md, "Limits"; docs/guarantees.md has the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from p2pchat.core.contacts import Contacts
from p2pchat.core.effects import Counted, RequestBegun
from p2pchat.core.groups.group_requests import FEW, KNOWN, GroupRequests, make_room, source_line
from p2pchat.core.inputs import RequestAccepted, RequestsChosen
from p2pchat.core.limits_by_origin import OriginShares, TokenBucket
from p2pchat.core.node_context import HostedIdentities, NodeContext
from p2pchat.core.sync.known_conversations import Conversations, dm_id
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.protocol import ConversationId, Naming, PeerId, UserId

REQUEST = "request:"  # in meta, before the id of a conversation: a line of `Request`
CHOSEN = "requests:"  # in meta, before the id of a hosted user: its choice
EXPIRED_EVERY = 3600.0  # seconds between two looks for what waited for long
BEGUN_A_SECOND = 20  # events about new conversations of unknown users: as many as a person might look at; a guess


@dataclass(slots=True)
class Request:
    """A stored conversation that an unknown user began.

    Attributes:
        peer: The peer that brought it.
        since: When its first entry came, UTC microseconds; 0 when an earlier version stored it.
        messages, size: The messages stored of it while it waits, and the bytes of all its entries; -1 if it is shown.
        network: From where; "" when an earlier version stored it.
    """

    peer: PeerId
    since: int = 0
    messages: int = -1
    size: int = -1
    network: str = ""

    @property
    def waits(self) -> bool:
        return self.messages >= 0

    @classmethod
    def parse(cls, line: str) -> Request:
        source, *numbers = line.split()
        peer, _, network = source.partition("@")
        since, messages, size = (*map(int, numbers), *(0, -1, -1)[len(numbers) :])
        return cls(peer, since, messages, size, network)

    def __str__(self) -> str:
        numbers = (self.since, *((self.messages, self.size) if self.waits else ()))
        return " ".join((source_line(self.peer, self.network), *map(str, numbers)))


def stored_requests(meta: Mapping[str, str]) -> dict[ConversationId, Request]:
    """Return the conversations of unknown users that storage holds, by id."""
    lines = ((name.removeprefix(REQUEST), line) for name, line in meta.items() if name.startswith(REQUEST))
    return {id: Request.parse(line) for id, line in lines if line}


class Requests:
    """The direct conversations that unknown users began.

    Args:
        hosted, contacts: Live views of the hosted users and of the contacts.
        linked: Returns the peers with a link that is up.
        meta: What storage holds.
        on_evicted: Called with each conversation of which nothing is stored that was forgotten.
        delete: Deletes a waiting conversation from storage and memory; returns False while something of it is on its
            way to disk.
        on_opened: Called with each conversation that waits no more.

    Attributes:
        by_id: The stored conversations of unknown users.
        doomed: Those to be deleted once nothing of them is on its way to disk.
        groups: The groups by unknown owners.
    """

    def __init__(
        self, ctx: NodeContext, conversations: Conversations, hosted: HostedIdentities, contacts: Contacts,
        linked: Callable[[], Collection[PeerId]], meta: Mapping[str, str],
        on_evicted: Callable[[ConversationState], None], delete: Callable[[ConversationState], bool],
        on_opened: Callable[[ConversationState], None],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._conversations = conversations
        self._hosted = hosted
        self._contacts = contacts
        self._linked = linked
        self._on_evicted = on_evicted
        self._delete = delete
        self._on_opened = on_opened
        self.groups: GroupRequests = GroupRequests(ctx, conversations, hosted, contacts, linked, meta, self.choice)
        self._places: dict[UserId, OriginShares[ConversationId]] = {}  # by the hosted user
        self._straight: dict[UserId, OriginShares[ConversationId]] = {}  # the same, of those that are shown
        self._begun = TokenBucket(BEGUN_A_SECOND, BEGUN_A_SECOND, 0.0)
        self.by_id: dict[ConversationId, Request] = stored_requests(meta)
        self.doomed: set[ConversationId] = set()
        self._chosen = {name.removeprefix(CHOSEN): word for name, word in meta.items() if name.startswith(CHOSEN)}

    def load(self) -> None:
        """Let stored conversations wait, and give them their places again, also more than there are."""
        self.groups.load()
        for id, request in self.by_id.items():
            conversation = self._conversations.by_id.get(id)
            if conversation is not None:
                conversation.waits = request.waits
                self._load(conversation)

    def on_user_hosted(self, user: UserId) -> None:
        """Give the stored conversations of a user their places. With other users of this peer it has no requests."""
        self.groups.on_user_hosted(user)
        held = [id for id in self._conversations.direct(user) if id in self.by_id]
        for id in held:
            self._load(self._conversations.by_id[id])
        self._open_known(held)

    def on_user_unhosted(self, user: UserId) -> None:
        self.groups.on_user_unhosted(user)
        self._places.pop(user, None)
        self._straight.pop(user, None)

    def _load(self, conversation: ConversationState) -> None:
        host, request = self._host_of(conversation.naming), self.by_id[conversation.id]
        if host is not None:
            line = (request.peer, request.network)
            self._places_of(host).add(conversation.id, line)
            if not request.waits and request.since:
                self._straight_of(host).add(conversation.id, line)

    def _places_of(self, user: UserId) -> OriginShares[ConversationId]:
        settings = self._ctx.settings
        if user not in self._places:
            self._places[user] = OriginShares(settings.max_requests, settings.max_requests_a_peer)
        return self._places[user]

    def _straight_of(self, user: UserId) -> OriginShares[ConversationId]:
        settings = self._ctx.settings
        if user not in self._straight:
            self._straight[user] = OriginShares(settings.straight_requests, settings.straight_requests_a_peer)
        return self._straight[user]

    def _host_of(self, naming: Naming) -> UserId | None:
        """Return the one user of a direct conversation who is hosted here; None if none is, or both are."""
        here = [user for user in naming.dm or () if user in self._hosted]
        return here[0] if len(here) == 1 else None

    def _addressee(self, naming: Naming) -> UserId | None:
        """Return the hosted user of a direct conversation with one whom it does not know; None for any other."""
        host = self._host_of(naming)
        if host is None or any(self._contacts.are_known(host, user) for user in naming.dm or () if user != host):
            return None
        return host

    # ---- choices

    def choice(self, user: UserId) -> str:
        """Return what a hosted user chose: one of CHOICES."""
        return self._chosen.get(user, FEW)

    def choose(self, chosen: RequestsChosen) -> None:
        """Set which conversations wait. With `all`, those that do are shown."""
        if chosen.choice == self.choice(chosen.user):
            return
        self._chosen[chosen.user] = self._ctx.change.meta[CHOSEN + chosen.user] = chosen.choice
        for request in self.waiting(chosen.user) if chosen.choice == "all" else ():
            self._show(self._conversations.by_id[request])

    def take_over(self, former: Requests) -> None:
        """Take over what hosted users chose and accepted before storage failed."""
        for user, choice in former._chosen.items():
            self.choose(RequestsChosen(user, choice))
        self._open_known(self.by_id)

    def _open_known(self, ids: Iterable[ConversationId]) -> None:
        """Open those conversations of hosted users in which these know the other one, or both are hosted here."""
        for conversation in [self._conversations.by_id[id] for id in ids if id in self._conversations.by_id]:
            is_ours = not self._hosted.keys().isdisjoint(conversation.naming.dm or ())
            if is_ours and self._addressee(conversation.naming) is None:
                self.open_for(conversation)

    def waiting(self, user: UserId) -> list[ConversationId]:
        """Return the waiting conversations of a hosted user, the oldest first."""
        found = [id for id in self._conversations.direct(user) if id in self.by_id and self.by_id[id].waits]
        return sorted(found, key=lambda id: (self.by_id[id].since, id))

    # ---- places

    def open(self, naming: Naming, peer: PeerId, network: str = "") -> bool:
        """Make a direct conversation that a link to this peer, in this network, mentions; "" for a file. Return False
        if there is no place.

        Conversations with contacts count against both users, and so do those that a file brings.
        """
        if naming.dm is None or (id := dm_id(*naming.dm)) in self._conversations.by_id:
            return True
        host = self._addressee(naming)
        if host is None or not peer:
            most = self._ctx.settings.max_conversations_a_user
            counts = self.is_known if host is None else None
            if any(self._conversations.count_direct(user, most, counts) >= most for user in naming.dm):
                return False
            self._conversations.open_provisional(naming)
            return True
        places = self._places_of(host)
        if places.taken[peer,] >= self._ctx.settings.max_requests_a_peer:
            return False
        line = (peer, network)
        evict = partial(self._evict, places)
        if not make_room(places, line, network, evict, self._linked, lambda id: places.line(id)[1]):
            return False
        places.add(id, line)
        self._conversations.open_provisional(naming)
        return True

    def is_known(self, user: UserId) -> bool:
        """Return whether a user is hosted here, or known to anybody here."""
        return user in self._hosted or self._contacts.has_any(user)

    def _evict(self, places: OriginShares[ConversationId], id: ConversationId) -> None:
        """Take the place of a conversation away. What is shown of it stays, and goes on counting as shown."""
        places.remove(id)
        if id in self.by_id:
            self.doomed.add(id)
            self.delete_doomed()
        elif (forgotten := self._conversations.forget(id)) is not None:
            self._on_evicted(forgotten)

    def delete_doomed(self) -> None:
        """Delete the waiting conversations that lost their places, except those with something on its way to disk."""
        for id in list(self.doomed):
            is_waiting = id in self.by_id and self.by_id[id].waits
            if not is_waiting or self._delete(self._conversations.by_id[id]):
                self.doomed.discard(id)

    def on_begun(self, conversation: ConversationState) -> RequestBegun | None:
        """Decide whether a conversation waits, and store who brought it, together with its first entry. Return what its
        hosted user is told.
        """
        host = self._host_of(conversation.naming)
        line = self._places[host].line(conversation.id) if host in self._places else ()
        if host is None or not line:
            return None
        request = self.by_id[conversation.id] = Request(line[0], self._ctx.now.utc, network=line[1])
        choice, straight = self.choice(host), self._straight_of(host)
        conversation.waits = choice == KNOWN or (choice == FEW and not straight.has_room(line))
        if conversation.waits:
            request.messages = request.size = 0
        else:
            straight.add(conversation.id, line)
        self._save(conversation.id)
        if not self._begun.take(self._ctx.now.mono):
            self._ctx.emit(Counted("request_untold"))
            return None
        return RequestBegun(conversation.id, host, self._other(conversation, host), conversation.waits)

    def _other(self, conversation: ConversationState, host: UserId) -> UserId:
        return next(user for user in conversation.naming.dm or () if user != host)

    def has_room(self, conversation: ConversationState, count: int, size: int) -> bool:
        """Return whether a batch may be taken of a waiting conversation. The first one always may: it is signed as a
        whole.
        """
        settings, request = self._ctx.settings, self.by_id.get(conversation.id)
        if request is None or not request.size:
            return True
        held = sum(log.seq for writer in conversation.writers.open.values() for log in writer.logs.values())
        return held + count <= settings.request_entries and request.size + size <= settings.request_bytes

    def on_taken(self, conversation: ConversationState, messages: int, size: int) -> None:
        """Count what was taken of a waiting conversation."""
        request = self.by_id[conversation.id]
        request.messages += messages
        request.size += size
        self._save(conversation.id)

    def _save(self, id: ConversationId) -> None:
        self._ctx.change.meta[REQUEST + id] = str(self.by_id[id])

    # ---- ends

    def on_forgotten(self, conversation: ConversationState) -> None:
        """Free the place of a conversation that no link mentions any more."""
        self.groups.on_forgotten(conversation.id)
        for user in conversation.naming.dm or ():
            for shares in (self._places, self._straight):
                if user in shares:
                    shares[user].remove(conversation.id)

    def on_deleted(self, conversation: ConversationState) -> Request:
        """Free the place of a conversation that is deleted, and return what was known of it."""
        self.on_forgotten(conversation)
        request = self.by_id.pop(conversation.id)
        self._ctx.change.meta[REQUEST + conversation.id] = None
        return request

    def on_answered(self, conversation: ConversationState, by: UserId) -> None:
        """Make the users of a direct conversation contacts of the hosted user who writes there."""
        self._contacts.add(conversation.naming.dm or (), by)
        self.open_for(conversation)

    def accept(self, accepted: RequestAccepted) -> None:
        """Let a hosted user know another one, whose messages are shown from now on."""
        if accepted.user in self._hosted:
            self._contacts.keep([accepted.other], accepted.user)

    def on_contact(self, user: UserId, by: UserId) -> None:
        """Open the conversations of a user with those who know it now: `by`, or all if that is this peer's own user."""
        if user != by:
            self._open_known(self._conversations.direct(user))

    def open_for(self, conversation: ConversationState) -> None:
        """Make a conversation one like all others: it needs no place, and nothing of it waits."""
        self.on_forgotten(conversation)
        if conversation.id not in self.by_id:
            return
        del self.by_id[conversation.id]
        self._ctx.change.meta[REQUEST + conversation.id] = None
        self._release(conversation)

    def _show(self, conversation: ConversationState) -> None:
        """Show a waiting conversation although its user is unknown: it keeps its place."""
        request = self.by_id[conversation.id]
        request.messages = request.size = -1
        self._save(conversation.id)
        self._release(conversation)

    def _release(self, conversation: ConversationState) -> None:
        conversation.waits = False
        self._on_opened(conversation)

    def expire(self) -> None:
        """Delete what has waited for long, and count no longer as new what was shown as long ago."""
        oldest = self._ctx.now.utc - int(self._ctx.settings.request_kept * 1e6)
        self.groups.expire(oldest)
        for id in [id for id, request in self.by_id.items() if request.since < oldest]:
            conversation = self._conversations.by_id.get(id)
            if conversation is not None and self.by_id[id].waits:
                self.doomed.add(id)
            elif conversation is not None:
                self.on_forgotten(conversation)
        self.delete_doomed()
