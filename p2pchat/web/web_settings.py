"""Settings of a gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Pace:
    """A token bucket.

    Attributes:
        per_second: So many on average.
        burst: So many at once.
    """

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Settings of a gateway. Those of the peer itself are p2pchat.Settings.

    Attributes:
        sign_up: Who may register: "open" for everyone; "token" only with a token made by `p2pchat web token NAME`;
            "auto" is "open" for callers on this machine and "token" for all others.
        invites: Which accounts are given invites to the peer's network, each for one person: "off" for none,
            "operator" for those that call from this machine, "all"; "auto" is "off" if sign_up is "open" or there are
            origins, trusted_proxies or a root_path, otherwise "operator".
        trust_loopback: Callers on this machine may give a name instead of a token, and messages to names that nobody
            has are kept for whoever gives them.
        origins: Where browsers find this gateway, as "https://chat.example.org" or "http://10.0.0.5:8000". Requests
            with another Host or Origin are refused. (): only the address a connection came in on, and "localhost" on
            this machine.
        trusted_proxies: Addresses or networks of reverse proxies, whose X-Forwarded-For and -Proto are believed.
        auth_header: The header in which a trusted proxy says who a caller is, as "X-Forwarded-User"; "": it says not.
        root_path: The path a proxy puts in front of this application, and may strip again, as "/chat".
        token_timeout: Seconds in which a WebSocket has to authenticate, and the program has to say who a caller is.
        max_body_bytes: Largest body of a request, and under `p2pchat web` largest frame of a WebSocket. A text of
            32 KiB takes at most 192 KiB if every character is escaped.
        max_file_bytes: Largest file that an account uploads, or has fetched from others to the disk of the gateway.
        max_files_of_account: Uploads of one account at once, and downloads; others wait. A guess: more than the
            connections that a browser opens.
        max_answer_bytes: Texts in one answer, in bytes: a page of messages ends there, though more were wanted. So does
            a page of groups, in which each member counts 100.
        max_answers_of_account: Answers made for one account at once, or waiting until a client takes them; a guess:
            as many as the page asks for together, and one that lies with a device that fell asleep.
        max_header_bytes: Size of all header lines of a request together.
        body_timeout: Seconds in which a body has to arrive.
        max_sessions: Sessions at once. Beyond them one of the network with most gives way to a lighter one.
        max_sessions_of_account: Sessions at once of one account.
        outbox_frames: Limit of the send queue of one session, in frames. A session that exceeds it is closed, and its
            client reconnects.
        outbox_bytes: The same limit in bytes.
        max_accounts: Accounts. With the users of programs, a peer hosts 11,000 users.
        name_kept_days: Days for which nobody gets the name of a deleted account, so that nobody is taken for its former
            owner by those who have not noticed; a guess.
        names: Changes of its name by one account: everyone in the network gets each, and a cluster keeps it. A guess.
        calls: Requests, and frames of WebSockets, of one account.
        messages: Messages written by one account.
        written: Bytes written by one account: texts, 256 for each message besides, 72 for each member of a group that
            changes. A guess: nine messages of 200 bytes a second for ever, and 1 MiB pasted in pieces four times in a
            row. A bot that writes more is better a user of a peer of its own, where nothing is counted.
        stored: Bytes of files that one account uploads, or has fetched from others to the disk of the gateway. A guess:
            1 GiB at once, and 1 GiB a day.
        stored_of_address: The same by all accounts of one address, not by callers on this machine. A guess: four that
            send much, of the 20 that it may sign up in a day.
        groups: Groups created by one account: a peer keeps each of them in memory for ever, 12 KiB. A guess.
        small: Typing, read and presence notifications of one account.
        sign_ups: Attempts to register from one address.
        sign_ups_of_address: Accounts that are registered within 24 hours from one address; not by callers on this
            machine. A guess, as the next two: a class or an office behind one address.
        sign_ups_of_network: The same from one network, a /24 of IPv4 or a /48 of IPv6.
        sign_ups_a_day: The same in all: what an operator can look through.
        strangers: Calls from one address with a wrong token, or without a token where one is needed.
        addresses: All calls and frames of WebSockets from one address, and the work that its accounts cause: long
            answers, missed messages, events for many sessions. Callers on this machine are limited by account and by
            `strangers` only.
        safe: In a cluster: a message is answered once a second gateway has it, and the answer says whether one has.
        safe_within: Seconds to wait for that; a guess: a gateway that answers takes a hundredth of a second, and one
            that does not is given up after ten.
        health_every: Seconds between round trips through core and storage.
    """

    sign_up: Literal["auto", "open", "token"] = "auto"
    invites: Literal["auto", "off", "operator", "all"] = "auto"
    trust_loopback: bool = False
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    auth_header: str = ""
    root_path: str = ""
    token_timeout: float = 5.0
    max_body_bytes: int = 256 * 1024
    max_file_bytes: int = 1024 * 1024 * 1024
    max_files_of_account: int = 8
    max_answer_bytes: int = 1024 * 1024
    max_answers_of_account: int = 4
    max_header_bytes: int = 16 * 1024
    body_timeout: float = 10.0
    max_sessions: int = 4096
    max_sessions_of_account: int = 32
    outbox_frames: int = 4096
    outbox_bytes: int = 4 * 1024 * 1024
    max_accounts: int = 10_000
    name_kept_days: int = 90
    names: Pace = field(default=Pace(1 / 3600, 8))
    calls: Pace = field(default=Pace(50.0, 200))
    messages: Pace = field(default=Pace(20.0, 200))
    written: Pace = field(default=Pace(4096.0, 4 * 1024 * 1024))
    stored: Pace = field(default=Pace(12_428.0, 1024 * 1024 * 1024))
    stored_of_address: Pace = field(default=Pace(4 * 12_428.0, 4 * 1024 * 1024 * 1024))
    groups: Pace = field(default=Pace(1 / 600, 32))
    small: Pace = field(default=Pace(20.0, 100))
    sign_ups: Pace = field(default=Pace(0.1, 20))
    sign_ups_of_address: int = 20
    sign_ups_of_network: int = 60
    sign_ups_a_day: int = 500
    strangers: Pace = field(default=Pace(5.0, 50))
    addresses: Pace = field(default=Pace(100.0, 1000))
    safe: bool = False
    safe_within: float = 5.0
    health_every: float = 2.0

    def __post_init__(self) -> None:
        if self.auth_header and (not self.trusted_proxies or "*" in self.trusted_proxies):
            raise ValueError(
                f"{self.auth_header} would be believed from anyone: name the reverse proxy that is trusted"
            )

    @property
    def gives_invites(self) -> bool:
        """True if some accounts are given invites, as far as the gateway may make any."""
        if self.invites != "auto":
            return self.invites != "off"
        return self.sign_up != "open" and not (self.origins or self.trusted_proxies or self.root_path)
