"""Requests: direct conversations that unknown users begin with users hosted here.

An unknown user is one to whom nobody here ever wrote (contacts.py). Anybody can make up any number of users, so places
for their conversations are few: each hosted user has a number of them, shared by the peers that bring them (shares.py).
They never count against the hosted user. A newcomer takes the place of the newest conversation of the peer that holds
most places, or else of the oldest one whose peer is not linked any more. A conversation without a place is forgotten if
nothing of it is stored. It is opened again when its peer mentions it while there is room.

Source: docs/protocol.md, "Limits"; docs/guarantees.md has the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from p2pchat.core.contacts import Contacts
from p2pchat.core.context import Context
from p2pchat.core.shares import Shares
from p2pchat.core.sync.conversations import Conversations, dm_id
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.protocol import ConversationId, Naming, PeerId, UserId

REQUEST = "request:"  # in meta, before the id of a conversation: the peer that brought it, "" for none any more


class Requests:
    """The places of direct conversations that unknown users began.

    Args:
        hosted, contacts: Live views of the hosted users and of the contacts.
        linked: Returns the peers with a link that is up.
        meta: What storage holds.
        on_evicted: Called with each conversation that was forgotten because it lost its place.
    """

    def __init__(
        self, ctx: Context, conversations: Conversations, hosted: Collection[UserId], contacts: Contacts,
        linked: Callable[[], Collection[PeerId]], meta: Mapping[str, str],
        on_evicted: Callable[[ConversationState], None],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._conversations = conversations
        self._hosted = hosted
        self._contacts = contacts
        self._linked = linked
        self._on_evicted = on_evicted
        self._places: dict[UserId, Shares[ConversationId]] = {}  # by the hosted user
        self._stored = {  # conversations with entries, and the peers that brought them
            name.removeprefix(REQUEST): peer for name, peer in meta.items() if name.startswith(REQUEST) and peer
        }

    def load(self) -> None:
        """Give stored conversations their places again, also more than there are."""
        for id in list(self._stored):
            conversation = self._conversations.by_id.get(id)
            if conversation is not None:
                self._load(conversation)

    def on_user_hosted(self, user: UserId) -> None:
        """Give the stored conversations of a user their places."""
        for id in self._conversations.direct(user):
            if id in self._stored:
                self._load(self._conversations.by_id[id])

    def on_user_unhosted(self, user: UserId) -> None:
        self._places.pop(user, None)

    def _load(self, conversation: ConversationState) -> None:
        host = self._addressee(conversation.naming)
        if host is not None:
            self._places_of(host).add(conversation.id, (self._stored[conversation.id],))

    def _places_of(self, user: UserId) -> Shares[ConversationId]:
        settings = self._ctx.settings
        if user not in self._places:
            self._places[user] = Shares(settings.max_requests, settings.max_requests_a_peer)
        return self._places[user]

    def _addressee(self, naming: Naming) -> UserId | None:
        """Return the hosted user of a direct conversation with an unknown one; None for any other."""
        here = [user for user in naming.dm or () if user in self._hosted]
        if len(here) == 1 and all(user in self._hosted or user not in self._contacts for user in naming.dm or ()):
            return here[0]
        return None

    # ---- places

    def open(self, naming: Naming, peer: PeerId) -> bool:
        """Make a direct conversation that a link to this peer mentions, "" for a file. Return False if there is no
        place.

        Conversations with contacts count against both users, and so do those that a file brings.
        """
        host = self._addressee(naming)
        if naming.dm is None or (id := dm_id(*naming.dm)) in self._conversations.by_id:
            return True
        if host is None or not peer:
            most = self._ctx.settings.max_conversations_a_user
            counts = self._is_known if host is None else lambda _: True
            if any(self._conversations.count_direct(user, most, counts) >= most for user in naming.dm):
                return False
            self._conversations.open_provisional(naming)
            return True
        places = self._places_of(host)
        while not places.has_room((peer,)):
            is_own_full = places.taken[peer,] >= self._ctx.settings.max_requests_a_peer
            evicted = None if is_own_full else places.giving_way((peer,)) or self._oldest_without_link(places)
            if evicted is None:
                return False
            self._evict(places, evicted)
        places.add(id, (peer,))
        self._conversations.open_provisional(naming)
        return True

    def _is_known(self, user: UserId) -> bool:
        return user in self._hosted or user in self._contacts

    def _oldest_without_link(self, places: Shares[ConversationId]) -> ConversationId | None:
        """Return a conversation whose peer is gone: otherwise as many keys as places would close the door for good."""
        linked = self._linked()
        return next((id for id in places if places.line(id)[0] not in linked), None)

    def _evict(self, places: Shares[ConversationId], id: ConversationId) -> None:
        places.remove(id)
        self._unmark(id)
        forgotten = self._conversations.forget(id)
        if forgotten is not None:
            self._on_evicted(forgotten)

    def on_begun(self, conversation: ConversationState) -> None:
        """Store who brought a conversation, together with its first entry."""
        host = self._addressee(conversation.naming)
        line = self._places[host].line(conversation.id) if host in self._places else ()
        if line:
            self._stored[conversation.id] = line[0]
            self._ctx.change.meta[REQUEST + conversation.id] = line[0]

    def on_forgotten(self, conversation: ConversationState) -> None:
        """Free the place of a conversation that no link mentions any more."""
        for user in conversation.naming.dm or ():
            if user in self._places:
                self._places[user].remove(conversation.id)

    def on_answered(self, users: Iterable[UserId]) -> None:
        """Know the users of a direct conversation in which a hosted user writes."""
        self._contacts.add(users)

    def on_contact(self, user: UserId) -> None:
        """Free the places of a user who is known now."""
        for id in self._conversations.direct(user):
            self.release(id)

    def release(self, id: ConversationId) -> None:
        """Free the place of a conversation, which needs none any more."""
        self.on_forgotten(self._conversations.by_id[id])
        self._unmark(id)

    def _unmark(self, id: ConversationId) -> None:
        if self._stored.pop(id, None) is not None:
            self._ctx.change.meta[REQUEST + id] = ""
