"""Where members were seen on the local network, by discovery: addresses like those that others tell, told by oneself.

Whoever holds the network's key can make an announcement in anybody's name, so a sighting is believed as much as a
member's word in `peers` and no more: 64 unverified addresses at once, dialled few at a time, slowly once many came to
nothing, each with the announced id as the pin. What was seen and never answered goes when it is seen no more; what
answered is an address like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat.core.context import Context
from p2pchat.core.mesh.addressbook import AddressBook
from p2pchat.core.mesh.dialer import Dialing
from p2pchat.core.mesh.endpoints import may_be_told
from p2pchat.protocol import PeerId


def sighted(ctx: Context, book: AddressBook, dialing: Dialing, peer: PeerId, at: Sequence[str]) -> None:
    """This peer is announced there now and nowhere else; `at` () is an end of it."""
    if peer == ctx.me:
        return
    for address in book.addresses(peer):
        if address.teller == ctx.me and not address.verified_at and address.endpoint not in at:
            dialing.forget_endpoint(address.endpoint, peer)
    for endpoint in at[: ctx.settings.max_endpoints_a_peer]:
        if may_be_told(endpoint, from_loopback=False, settings=ctx.settings) and book.tell(peer, endpoint, ctx.me):
            found = book.get(peer, endpoint)
            if found is not None:
                dialing.seen(found)
