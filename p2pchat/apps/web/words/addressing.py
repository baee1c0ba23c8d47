"""Where a message goes: a name as people type it, made a conversation of one account.

A name nobody known carries is reserved: what is written to it waits until somebody registers it here.
"""

from __future__ import annotations

from p2pchat import Conversation, Group, UnknownName, validate_name
from p2pchat.web.accounts import Account
from p2pchat.web.errors import Forbidden
from p2pchat.web.gateway import Gateway


async def conversation_with(gateway: Gateway, account: Account, to: str) -> Conversation:
    """Return the conversation an address names: `room`, `bob`, `bob#K7QF2M3P`, `#ops`, an id.

    Raises:
        UnknownName, AmbiguousName: It is nobody and can be nobody, or several. Forbidden: This account has reserved
            as many names as one may.
    """
    found = known_conversation(gateway, account, to)
    if found is not None:
        return found
    try:
        name = validate_name(to.strip().removeprefix("@"))
    except ValueError:
        raise UnknownName(to) from None
    return account.user.find((await gateway.accounts.reserve(name, account)).user.me)


def known_conversation(gateway: Gateway, account: Account, to: str) -> Conversation | None:
    """Return the conversation an address names; None when nobody is called so. Raises AmbiguousName."""
    try:
        return account.user.find(to)
    except UnknownName:
        other = gateway.accounts.find(to.strip().removeprefix("@"))
        return None if other is None else account.user.find(other.user.me)


def group_of(account: Account, name: str) -> Group:
    """Return a group this account belongs to. Raises UnknownName, AmbiguousName, Forbidden."""
    group = account.user.group(name)
    if not group.is_member:
        raise Forbidden("you are not a member of this group")
    return group


def is_me(account: Account, name: str) -> bool:
    """Whether somebody means this account by a name."""
    me = account.user.me
    return name.casefold() == account.name.casefold() or name in (me.label, me.id)
