"""Who lives on this node and which network it belongs to: the two things a node is born with."""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(slots=True)
class Network:
    """The network of a peer.

    Attributes:
        id: N, hex16; "" in an open network whose id is not known yet: the first peer met tells it.
        key: K, hex32; None in an open network, which whoever can connect is a member of.
    """

    id: str
    key: str | None = field(default=None, repr=False)
