"""What a command line says of a peer that is to run, and that peer: the same for `p2pchat PORT` and `p2pchat web`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2pchat.cli.options import SEEN, has_password
from p2pchat.commands.endpoints import LOOPBACK
from p2pchat.commands.errors import Usage
from p2pchat.commands.invites import looks_like_invite

if TYPE_CHECKING:
    from p2pchat import Settings, TCPPeer


@dataclass(slots=True)
class PeerOptions:
    """Empty strings mean not given; `port` 0 is any free one, with a temporary profile where no `data` is named."""

    port: int = 0
    endpoints: tuple[str, ...] = ()
    name: str = ""
    host: str = LOOPBACK
    data: str = ""
    temp: bool = False
    db: str = field(default="", repr=False)
    key: str = ""
    invite: str = field(default="", repr=False)
    open_network: bool = False
    advertise: str = ""
    discover: bool = False

    @property
    def is_temporary(self) -> bool:
        """Whether identity and history go at the end."""
        return self.temp or (self.port == 0 and not self.data)

    def secrets_on_the_command_line(self, typed: Collection[str]) -> Iterator[str]:
        """Warn of what others on this machine can see; `typed` are the options that stood on the command line."""
        if "invite" in typed and looks_like_invite(self.invite):
            yield (
                "others on this machine can see the invite on the command line: "
                "use --invite -, a file or P2PCHAT_INVITE"
            )
        if "db" in typed and has_password(self.db):
            yield SEEN


def make_peer(options: PeerOptions, invite: str | None, settings: Settings) -> TCPPeer:
    """Return the peer, not started.

    Args:
        invite: The text of the invite that the options name, read by now.
    Raises:
        Usage: No peer can be like that.
    """
    from p2pchat import TCPPeer

    try:
        return TCPPeer(
            options.port,
            *options.endpoints,
            name=options.name or None,
            host=options.host,
            data=options.data or None,
            temporary=options.temp,
            key=options.key or None,
            db=options.db or None,
            invite=invite,
            open=options.open_network,
            advertise=options.advertise or None,
            discover=options.discover,
            settings=settings,
        )
    except (ValueError, TypeError) as error:
        raise Usage(str(error)) from None
