"""Gateway: what the parts of one web application share: peer, accounts, hub, limits and metrics."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from p2pchat import Deleted, Link, MemberChange, Message, MessageChange, Sent, TCPPeer, User
from p2pchat.commands.last_start import LastStart
from p2pchat.commands.standard_output import iso
from p2pchat.peer_metrics import HealthCheck
from p2pchat.program_log import ProgramLog
from p2pchat.threads import in_thread, stop_tasks
from p2pchat.web.account_files import Fetches, FileLinks, Uploads
from p2pchat.web.accounts import BY_KEY, Account, Accounts
from p2pchat.web.callers import Authenticate, ask, unknown_caller
from p2pchat.web.catch_up import REPEATED, PeerSeparations, name_of
from p2pchat.web.cluster.cluster import Cluster
from p2pchat.web.error_responses import WebError
from p2pchat.web.metrics import Metrics
from p2pchat.web.rate_limits import KeyedSlots, RateLimits, network_of
from p2pchat.web.receivers import Receivers
from p2pchat.web.session_hub import Envelope, KeptReceipts, SessionHub
from p2pchat.web.web_settings import WebSettings

OPERATOR = "p2pchat.operator"  # key in the scope of a request: whether a Caller said that it is one
_log = ProgramLog("p2pchat.web")


class Gateway:
    """One gateway: `app.state.gateway` of an application made by create_app.

    Attributes:
        peer: The peer behind it.
        authenticate: Says who a caller is; None: the accounts have tokens.
        cluster: Its part in a cluster, if there is one.
        settings: Access rules and limits.
        audit_log: The log of sign-ups, refusals and deletions.
        accounts: The accounts, with their tokens.
        receivers: The conversations that they write to, by address.
        hub: The reader of all events, and the sessions that get them.
        kept_receipts: The receipts that no session heard, put aside for the next one.
        limits: The rate limits of accounts and addresses.
        answers: Slots of accounts for answers, from their making until they are sent.
        transfers: Slots of accounts for files that they upload or download.
        uploads: The files that accounts uploaded, until they are sent.
        fetches: The files that accounts wait for.
        file_links: The links to files that accounts asked for.
        health: The last round trip through core and storage.
        metrics: The metrics for Prometheus.
        write_locks: Locks that keep the messages of one account in order, by user key.
        separations: When other peers were not linked.
        asking: Who asks whether open connections are still those of their accounts.
        started: Events are being delivered.
        on_refused: Called with the scope of a request that SecurityMiddleware refuses, and the reason.
    """

    def __init__(
        self,
        peer: TCPPeer,
        settings: WebSettings,
        cluster: Cluster | None = None,
        authenticate: Authenticate | None = None,
    ) -> None:
        self.peer = peer
        self.authenticate = authenticate
        self.cluster = cluster
        self.settings = settings
        self.audit_log: AuditLog = AuditLog()
        self.accounts: Accounts = Accounts(peer, settings)
        self.receivers: Receivers = Receivers(peer, self.accounts)
        self.hub: SessionHub = SessionHub(peer, settings, self.audit_log.record)
        self.limits: RateLimits = RateLimits(settings)
        self.limits.check = self.receivers.check_gateway
        self.answers: KeyedSlots = KeyedSlots(settings.max_answers_of_account)
        self.transfers: KeyedSlots = KeyedSlots(settings.max_files_of_account)
        self.uploads: Uploads = Uploads(settings, self.limits)
        self.fetches: Fetches = Fetches(settings, self.limits)
        self.file_links: FileLinks = FileLinks(self._holder_of_links)
        self.health: HealthCheck = HealthCheck(peer, settings.health_every)
        self.metrics: Metrics = Metrics(peer, self.accounts, self.hub, self.health, cluster)
        self.accounts.on_change = self._on_account_change
        self.accounts.hears = self.hub.hears
        self.accounts.is_shared = self.is_shared
        self.hub.on_close = self.accounts.use
        self.hub.network_of = lambda account: network_of(self.limits.sites.get(account.key, "")) or account.key
        self.hub.on_delivered = self.limits.delivered
        self.hub.observers.update({Message: self._on_message, Sent: self._on_message})
        self.hub.observers[Link] = lambda envelope: self.separations.on_link(envelope.event)
        self.hub.observers[MessageChange] = self._on_change
        self.hub.observers[MemberChange] = self._on_member_change
        self.hub.check = self.accounts.check_admitted
        self.kept_receipts: KeptReceipts = KeptReceipts(self.hub, self.accounts.of)
        self.separations: PeerSeparations = PeerSeparations(peer, REPEATED)
        self.write_locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.on_refused: Callable[[Scope, WebError], None] = lambda scope, problem: None
        self.asking: set[asyncio.Task[None]] = set()
        self.started: bool = False

    async def start(self) -> None:
        """Load the accounts and start delivering events, at the first request. Raises StorageError, PeerClosed."""
        await self.accounts.load()
        await in_thread(lambda: replace(LastStart.load(self.peer.data), gateway=True).save(self.peer.data))
        if self.cluster is not None and self.accounts.shared is None:
            self.cluster.on_state = lambda reason: self.audit_log.record(
                "cluster", state="away" if reason else "up", reason=reason
            )
            await self.cluster.start(self.peer, self.accounts)
        self.hub.start()
        self.separations.start()
        self.started = True

    async def aclose(self) -> None:
        """End all sessions; the peer keeps running. Call it before the server stops, so that clients reconnect soon."""
        await self.hub.aclose()
        await stop_tasks(self.asking)
        await self.fetches.aclose()
        if self.cluster is not None:
            await self.cluster.aclose()
        await self.kept_receipts.wait_kept()
        await self.health.aclose()

    async def ask(self, connection: HTTPConnection) -> Account | None:
        """Return the account of a caller that `authenticate` names, None for nobody; made when it is first seen.

        Raises WebError, StorageError, PeerClosed.
        """
        assert self.authenticate is not None
        asked_at = monotonic()
        found = await ask(self.authenticate, connection, self.settings.token_timeout)
        if found is None:
            return None
        try:
            account = await self.accounts.own(found.key, found.name)
        except (TypeError, ValueError):  # the key is none
            raise unknown_caller() from None
        connection.scope[OPERATOR] = found.operator
        if account.signed_out_at > asked_at:
            return None
        return account

    def sign_out(self, key: str) -> None:
        """End the connections of a user that `authenticate` knows by this key. Its clients come back, and ask anew."""
        account = self.accounts.find(BY_KEY + key)
        if account is not None:
            account.signed_out_at = monotonic()
            self.hub.end_sessions_of(account, "signed_out")

    def _on_account_change(self, account: Account, change: str) -> None:
        self.audit_log.record("account", account, change=change)
        if change in ("label", "left") or (change == "token" and account.tokens):
            self.hub.end_sessions_of(account, "stopping")  # all: those with other tokens come back
        elif change in ("token", "revoked"):  # sessions opened with the old token end with it
            self.hub.end_sessions_of(account, "revoked")
        if change in ("left", "deleted"):
            self.hub.forget(account)
        if change == "deleted":
            self.write_locks.pop(account.key, None)
            self.limits.sites.pop(account.key, None)

    def _holder_of_links(self, key: str) -> Account | None:
        """Return the account of a user key whose links to files are served."""
        account = self.accounts.of(key)
        return None if account is None or self.accounts.is_expelled(account) else account

    def _on_member_change(self, envelope: Envelope) -> None:
        """End the sessions of an account that was expelled from the network."""
        event: MemberChange = envelope.event
        account = self.accounts.of(event.user.key)
        counts = {"expelled": True, "pardoned": False}.get(event.change)  # unless who said so may not
        if account is None or self.accounts.is_expelled(account) != counts:
            return
        self.audit_log.record("account", account, change=event.change)
        if event.change == "expelled":
            self.hub.end_sessions_of(account, "expelled")

    def _on_change(self, envelope: Envelope) -> None:
        if isinstance(envelope.event, Deleted):
            self.uploads.on_deleted(envelope.event.by.key, envelope.event.message.id)

    def _on_message(self, envelope: Envelope) -> None:
        """Note its files, and log a direct or group message, by receiver: sent to sessions here, or waiting for one."""
        post = envelope.event
        self.uploads.on_message(post.log.user, post)
        if envelope.users is None or self.audit_log.write is None:
            return
        about = {"id": post.id, "from": post.sender.label}
        writer = self.accounts.of(post.log.user)
        other = writer and writer.user.conversation(post.log.conversation).user
        if other and self.accounts.is_reserved(other):
            self.audit_log.record("waiting", other, **about)
        for account in filter(None, map(self.accounts.of, envelope.users)):
            if account.key != post.log.user:
                event = "handed" if self.hub.sessions_of(account) else "waiting"
                self.audit_log.record(event, account, **about)

    @property
    def mark(self) -> str:
        """The name of this gateway in `since`: the beginning of the id of its peer."""
        return name_of(self.peer.me.id)

    def shown_name(self, user: User) -> str:
        """Return the name of the account of a user if no other user here has it, or the user's label in the mesh."""
        account = self.accounts.of(user.key)
        if account is None or user.label == account.name or len(self.accounts.named(account.name)) > 1:
            return user.label
        return account.name

    def is_shared(self, account: Account) -> bool:
        """Return whether an account may have sessions at other gateways, too."""
        return self.cluster is not None or bool(account.user.other_hosts)

    async def safety(self, account: Account, id: str) -> dict[str, bool]:
        """Return what the answer to a written message says of a second gateway, once it has it; {} without --safe.

        Raises WebError, P2PChatError.
        """
        if self.cluster is None or not self.settings.safe:
            return {}
        return {"safe": await self.cluster.is_copied(account, id, self.settings.safe_within)}

    def audit_handed_over(self, account: Account, kind: str, count: int) -> None:
        """Log how many waiting messages an account was sent."""
        if count:
            self.audit_log.record("handed", account, kind=kind, count=count)


def gateway_of(connection: HTTPConnection) -> Gateway:
    """Return the gateway of a request or WebSocket; also a FastAPI dependency."""
    gateway: Gateway = connection.app.state.gateway
    return gateway


class AuditLog:
    """Log of requests, sessions and accounts for the operator: one JSON object a line.

    A line never contains a token, a text or anything else that users wrote. A request is logged by the pattern of its
    path, without the query. Names are logged, because without them no user could be helped.

    Attributes:
        write: Called with each line on the event loop; must not wait. None: nothing is logged. An error that it raises
            is logged, and costs that line only.
    """

    def __init__(self) -> None:
        self.write: Callable[[dict[str, Any]], None] | None = None

    def record(self, event: str, of: Any = None, **fields: Any) -> None:
        """Write one line; `of`: the account, or the user, that it is about."""
        if self.write is not None:
            at, who = iso(datetime.now(UTC)), {} if of is None else {"user": of.name, "user_id": of.id}
            try:
                self.write({"event": event, "at": at, **fields, **who})
            except Exception:  # whatever the operator's function raises, such as a full disk
                _log.exception("the audit log could not be written")
