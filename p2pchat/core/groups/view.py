"""A group as the outside may read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pchat.protocol import ConversationId, UserId


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as it is now.

    Attributes:
        group, talk: The conversation of operations and leaves, and the one in which its members talk.
        gen: Number of the operation that holds.
        members: Those who have not left -> the gen that added each.
        left: Those who left and whom no operation of the owner has dropped yet.
    """

    group: ConversationId
    talk: ConversationId
    name: str = field(repr=False)
    owner: UserId
    gen: int
    members: Mapping[UserId, int]
    left: frozenset[UserId]
