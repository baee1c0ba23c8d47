"""Who lives on this node and which network it belongs to: the two things a node is born with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from p2pchat.protocol import Cert, UserId


@dataclass(slots=True)
class HostedUser:
    """A user this peer speaks for. `cert` is None when the user's key is the peer's own."""

    id: UserId
    name: str
    sign: Callable[[bytes], bytes] = field(repr=False)
    cert: Cert | None = None
    about: str = field(default="", repr=False)  # what the user tells of itself, "" for nothing
    status: str = "online"  # as it begins


class HostedUsers(dict[UserId, HostedUser]):
    """The users this peer speaks for, by id; read by everybody in the core, changed by the node alone."""

    def __init__(self, users: Iterable[HostedUser]) -> None:
        super().__init__((user.id, user) for user in users)
        self._by_start: dict[str, list[UserId]] = {}
        for id in self:
            self._by_start.setdefault(id[:16], []).append(id)

    def add(self, user: HostedUser) -> None:
        """Speak for one more."""
        if user.id not in self:
            self._by_start.setdefault(user.id[:16], []).append(user.id)
        self[user.id] = user

    def remove(self, user: UserId) -> None:
        """Speak for one less."""
        if self.pop(user, None) is not None:
            self._by_start[user[:16]].remove(user)
            if not self._by_start[user[:16]]:
                del self._by_start[user[:16]]

    def beginning(self, start: str) -> Sequence[UserId]:
        """Return those whose id begins with these 16 digits: nobody, or one."""
        return self._by_start.get(start, ())


@dataclass(slots=True)
class Network:
    """The network of a peer.

    Attributes:
        id: N, hex16; "" in an open network whose id is not known yet: the first peer met tells it.
        key: K, hex32; None in an open network, which whoever can connect is a member of.
    """

    id: str
    key: str | None = field(default=None, repr=False)
