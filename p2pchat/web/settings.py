"""WebSettings: who may come in at which address, and every limit of the gateway, with its unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SignUp = Literal["auto", "open", "token"]


@dataclass(frozen=True, slots=True)
class Pace:
    """A token bucket: so many a second for as long as one likes, and `burst` at once."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebSettings:
    """How a gateway behaves. Nothing here concerns the peer itself: those are p2pchat.Settings.

    Attributes:
        sign_up: Who may register: "open" everybody who gets here; "token" only who was given a token by
            `p2pchat web token NAME`; "auto" is open for callers on this machine and token for all others.
        trust_loopback: Callers on this machine that carry no token say themselves who they are.
        origins: Where browsers find this gateway, as "https://chat.example.org" or "http://10.0.0.5:8000"; requests
            for another Host or from another Origin are refused. (): only by the address a connection came in on, and
            by "localhost" on this machine.
        trusted_proxies: Addresses or networks of reverse proxies, whose X-Forwarded-For and -Proto are believed.
        root_path: The path a proxy has put in front of this application and may have taken away again, as "/chat".
        token_timeout: Seconds in which a WebSocket has to say who it is.
        max_body_bytes: Largest body of a request, and largest frame of a WebSocket: a text of 32 KiB has at most
            192 KiB when every character of it is escaped.
        max_header_bytes: All header lines of a request together.
        body_timeout: Seconds in which a body has to be there, and under `p2pchat web` the head before it.
        max_sessions: Sessions at once; of one account max_sessions_of_account.
        outbox_frames, outbox_bytes: What may wait for one session that is slower than what it gets; beyond either it
            is closed, and comes back by itself.
        max_reserved_by_account: Names that one account may reserve by writing to them.
        max_accounts: Accounts here, reserved names included: as many as a peer may host users.
        calls: How often one account may call: requests, and frames of its WebSockets.
        messages: How often one account may write.
        small: How often one account may tell that it types, has read, or is away.
        sign_ups: How often one address may register a name.
        strangers: How often one address may call with a wrong token, or without one where one is needed.
        addresses: How often one address may call at all. Callers on this machine are held only to what is counted by
            account, and to `strangers`.
        health_every: Seconds between round trips through core and storage; health_within: how old the last may be.
    """

    sign_up: SignUp = "auto"
    trust_loopback: bool = False
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = ""
    token_timeout: float = 5.0
    max_body_bytes: int = 256 * 1024
    max_header_bytes: int = 16 * 1024
    body_timeout: float = 10.0
    max_sessions: int = 4096
    max_sessions_of_account: int = 32
    outbox_frames: int = 4096
    outbox_bytes: int = 4 * 1024 * 1024
    max_reserved_by_account: int = 64
    max_accounts: int = 10_000
    calls: Pace = field(default=Pace(50.0, 200))
    messages: Pace = field(default=Pace(20.0, 200))
    small: Pace = field(default=Pace(20.0, 100))
    sign_ups: Pace = field(default=Pace(0.1, 20))
    strangers: Pace = field(default=Pace(5.0, 50))
    addresses: Pace = field(default=Pace(100.0, 1000))
    health_every: float = 2.0
    health_within: float = 5.0
