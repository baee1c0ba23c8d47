"""`/messages`: what was written, and writing it."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from p2pchat import Conversation, Message, P2PChatError, Receipt, Sent, UnknownName, User
from p2pchat.web.accounts import Account
from p2pchat.web.auth import (
    CurrentAccount,
    CurrentGateway,
    address_of,
    current_account,
    is_on_loopback,
    may_name_itself,
    token_of,
)
from p2pchat.web.errors import Forbidden, WebError
from p2pchat.web.gateway import Gateway, gateway_of
from p2pchat.web.rate_limit import site_of
from p2pchat.web.schemas import (
    MESSAGE_ID,
    ConversationOut,
    Done,
    ErrorOut,
    GroupChange,
    GroupOut,
    MessageAccepted,
    MessageOut,
    NewContent,
    NewGroup,
    NewMembers,
    NewMessage,
    NewReaction,
    PresenceOut,
    ReceiptStatus,
    ToGroup,
    UserOut,
    find_conversation,
    group_of,
    is_me,
    iso,
    resolve_conversation,
)

# ---- operations
#
# For whoever operates it: `/healthz` (does it work), `/readyz` (may callers be sent here), `/metrics` (numbers).


operations_router = APIRouter(tags=["operations"])


class HealthOut(BaseModel):
    """It does."""

    status: str = "ok"


@operations_router.get("/healthz")
async def healthz(gateway: CurrentGateway) -> HealthOut:
    """200 when a round trip through core and storage came back within the last 5 s; else 503 says why not."""
    reason = await gateway.health.check()
    if reason:
        raise WebError(503, "unhealthy", reason)
    return HealthOut()


@operations_router.get("/readyz")
async def readyz(gateway: CurrentGateway) -> HealthOut:
    """200 when callers may be sent here: the peer has started, its endpoints were tried, and it does not stop."""
    if gateway.hub.stopping:
        raise WebError(503, "stopping", "this gateway is stopping", {"Retry-After": "2"})
    return HealthOut()


@operations_router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, gateway: CurrentGateway) -> Response:
    """Numbers in the text format of Prometheus: for callers on this machine, and for accounts."""
    if not is_on_loopback(request):
        await current_account(request)
    text, kind = gateway.metrics.text()
    return Response(text, headers={"Content-Type": kind})


# ---- calls
#
# What all calls of REST have in common: how they say who calls, and which problems OpenAPI says they may answer.


_WHY = {
    400: "It cannot be meant.",
    401: "Nobody here has this token, or there is none.",
    403: "It is known who asks, and that one may not.",
    404: "There is no such thing, or it is not for whoever asks.",
    409: "Several are called so, or it cannot be done as things are.",
    413: "It is too long; the text says what fits.",
    422: "The request has another shape than described here.",
    429: "More often than allowed; `Retry-After` says when it works again.",
    503: "The gateway stops, is full, or cannot keep anything now; `Retry-After` says when to try again.",
}
_ALWAYS = (400, 401, 403, 422, 429, 503)


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return what a call may answer when it is not done, as FastAPI takes it; `more` than all calls have."""
    return {status: {"model": ErrorOut, "description": _WHY[status]} for status in sorted({*_ALWAYS, *more})}


async def says_who(
    token: Annotated[object, Security(HTTPBearer(auto_error=False, description="The token of an account."))],
    caller: Annotated[
        str | None,
        Query(
            alias="as",
            max_length=64,
            description="Who a caller without a token is, where callers on this machine are trusted.",
        ),
    ] = None,
) -> None:
    """How a call says who makes it, for OpenAPI; whether it is so finds auth.py."""


# ---- rest


MOST_AT_ONCE = 1000
messages_router = APIRouter(tags=["messages"])
Post = Message | Sent

MessageId = Annotated[str, Path(pattern=MESSAGE_ID, description="The id of a message.")]
_TIME = re.compile(r"\d{4}-\d")
_NAMED = Query(max_length=64, description="One of the two whose messages with each other are asked for.")
_WHERE = "A message, by its id, or a time: `2026-11-20T08:30Z`."


# ---- reading


async def reader(
    connection: HTTPConnection,
    user1: Annotated[str | None, _NAMED] = None,
    user2: Annotated[str | None, _NAMED] = None,
) -> Account | None:
    """Return whose view is asked for; None: on a trusted machine, of two whom nobody here knows."""
    gateway = gateway_of(connection)
    says_nothing = token_of(connection) is None and "as" not in connection.query_params
    if not (says_nothing and user1 and user2 and may_name_itself(connection)):
        return await current_account(connection)
    account = gateway.accounts.find(user1) or gateway.accounts.find(user2)
    if account is not None:
        gateway.limits.calls.take(account.key)
    return account


@messages_router.get("/messages", responses=problems(404, 409), response_model_exclude_none=True)
async def messages(
    account: Annotated[Account | None, Depends(reader)],
    gateway: CurrentGateway,
    user1: Annotated[str | None, _NAMED] = None,
    user2: Annotated[str | None, _NAMED] = None,
    conversation: Annotated[
        str | None, Query(max_length=64, description="Instead of two users: `room`, a user, `#ops`, an id.")
    ] = None,
    before: Annotated[str | None, Query(max_length=64, description=_WHERE)] = None,
    after: Annotated[str | None, Query(max_length=64, description=_WHERE)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 100,
) -> list[MessageOut]:
    """Return messages, oldest first: of two users with each other, of one conversation, or all that the caller may
    see.

    With `after` the oldest behind it, otherwise the newest, before `before`. One of the two has to be the caller.
    """
    if account is None:
        return []
    try:
        talk = _asked_for(gateway, account, user1, user2, conversation)
    except _UnknownPartner:
        return []
    low, high = await _where(account, after), await _where(account, before)
    found = await account.user.history(talk, before=high, after=low, limit=limit)
    gateway.limits.answered(account.key, len(found))
    return [MessageOut.of(post) for post in found]


class _UnknownPartner(Exception):
    """The other of two users is nobody known here: nothing can have been said."""


def _asked_for(
    gateway: Gateway, account: Account, user1: str | None, user2: str | None, conversation: str | None
) -> Conversation | None:
    """Return the conversation meant; None: all. Raises _NothingYet."""
    if user1 is None and user2 is None:
        return None if conversation is None else _known(gateway, account, conversation)
    if user1 is None or user2 is None or conversation is not None:
        raise WebError(400, "malformed", "ask for user1 and user2, or for a conversation")
    mine = [is_me(account, name) for name in (user1, user2)]
    if not any(mine):
        raise Forbidden("one of the two has to be you")
    talk = find_conversation(gateway, account, user2 if mine[0] else user1)
    if talk is None:
        raise _UnknownPartner
    return talk


def _known(gateway: Gateway, account: Account, to: str) -> Conversation:
    talk = find_conversation(gateway, account, to)
    if talk is None:
        raise UnknownName(to)
    return talk


async def _where(account: Account, text: str | None) -> Post | datetime | None:
    if text is None:
        return None
    if not _TIME.match(text):
        return await account.user.message(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WebError(400, "malformed", f"{text!a} is no time: write 2026-11-20T08:30Z") from None
    if moment.tzinfo is None:
        raise WebError(400, "malformed", f"{text!a} says nothing of its zone: write 2026-11-20T08:30Z")
    return moment


@messages_router.get("/messages/{id}", responses=problems(404), response_model_exclude_none=True)
async def message(id: MessageId, account: CurrentAccount) -> MessageOut:
    """Return one message."""
    return MessageOut.of(await account.user.message(id))


@messages_router.get("/messages/{id}/receipt", responses=problems(404))
async def receipt(id: MessageId, account: CurrentAccount) -> ReceiptStatus:
    """Return what became of a message of one's own."""
    return ReceiptStatus.of(await account.user.receipt(id))


@messages_router.get("/search", responses=problems(404, 409), response_model_exclude_none=True)
async def search(
    account: CurrentAccount,
    gateway: CurrentGateway,
    words: Annotated[
        str,
        Query(
            alias="q",
            min_length=1,
            max_length=1024,
            description='All of these words, `"in a row"`, or `from:bob`.',
            examples=["backup failed"],
        ),
    ],
    conversation: Annotated[str | None, Query(max_length=64, description="Only there.")] = None,
    before: Annotated[str | None, Query(max_length=64, description=_WHERE)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 50,
) -> list[MessageOut]:
    """Return the newest messages with all of these words in them, oldest first."""
    talk = None if conversation is None else _known(gateway, account, conversation)
    found = await account.user.search(words, talk, before=await _where(account, before), limit=limit)
    gateway.limits.answered(account.key, len(found))
    return [MessageOut.of(post) for post in found]


# ---- writing


@messages_router.post("/messages", status_code=201, responses=problems(404, 409, 413), response_model_exclude_none=True)
async def write(
    said: NewMessage,
    account: CurrentAccount,
    gateway: CurrentGateway,
    key: Annotated[
        str,
        Header(
            alias="Idempotency-Key",
            max_length=128,
            description="A word of yours for this message: asked again with it, it is written once.",
        ),
    ] = "",
) -> MessageAccepted:
    """Write a message to a user, to `room` or to a group; answered when it is kept."""
    gateway.limits.messages.take(account.key)
    if isinstance(said, ToGroup):
        to: Conversation = group_of(account, said.group)
    else:
        to = await resolve_conversation(gateway, account, said.to)

    async def send() -> Receipt:
        with gateway.metrics.accepting("rest"):
            return await account.user.send(to, said.content, said.reply_to)

    kept = await gateway.idempotency.run_detached(account.key, key, (said.content, to.key, said.reply_to, False), send)
    gateway.audit_pending(to, kept.id)
    return await _accepted(account, kept.id, said.ref)


async def _accepted(account: Account, id: str, ref: str | int | None = None) -> MessageAccepted:
    post = await account.user.message(id)
    return MessageAccepted(id=id, timestamp=iso(post.sent_at), ref=ref)


@messages_router.patch("/messages/{id}", responses=problems(404, 413), response_model_exclude_none=True)
async def edit(id: MessageId, said: NewContent, account: CurrentAccount, gateway: CurrentGateway) -> MessageAccepted:
    """Have a message of one's own say something else, for everybody."""
    gateway.limits.messages.take(account.key)
    await account.user.edit(await _own(account, id), said.content)
    return await _accepted(account, id)


@messages_router.delete("/messages/{id}", responses=problems(404), response_model_exclude_none=True)
async def delete(id: MessageId, account: CurrentAccount, gateway: CurrentGateway) -> MessageAccepted:
    """Take a message of one's own back: nothing shows its text any more."""
    gateway.limits.messages.take(account.key)
    await account.user.delete(await _own(account, id))
    return await _accepted(account, id)


async def _own(account: Account, id: str) -> Post:
    post = await account.user.message(id)
    if not isinstance(post, Sent):
        raise Forbidden("another wrote this message")
    return post


@messages_router.put("/messages/{id}/reaction", responses=problems(404), response_model_exclude_none=True)
async def react(id: MessageId, said: NewReaction, account: CurrentAccount, gateway: CurrentGateway) -> MessageAccepted:
    """React to a message, in place of one's former reaction."""
    gateway.limits.messages.take(account.key)
    await account.user.react(await account.user.message(id), said.reaction)
    return await _accepted(account, id)


@messages_router.delete("/messages/{id}/reaction", responses=problems(404), response_model_exclude_none=True)
async def unreact(id: MessageId, account: CurrentAccount, gateway: CurrentGateway) -> MessageAccepted:
    """Take one's reaction back."""
    return await react(id, NewReaction(reaction=""), account, gateway)


@messages_router.post("/messages/{id}/read", responses=problems(404))
async def mark_read(id: MessageId, account: CurrentAccount, gateway: CurrentGateway) -> Done:
    """Say that everything in the conversation up to this message is read; its writers are told."""
    gateway.limits.small.take(account.key)
    (await account.user.message(id)).mark_read()
    return Done()


# ---- groups
#
# `/groups`: making a group, who belongs to it, and leaving it.


groups_router = APIRouter(tags=["groups"])
Named = Annotated[str, Path(max_length=64, description="A group: its name, or its name with its id (`#` as `%23`).")]


@groups_router.get("/groups", responses=problems())
async def groups(account: CurrentAccount, gateway: CurrentGateway) -> list[GroupOut]:
    """Return the groups one belongs to."""
    found = [GroupOut.of(group) for group in account.user.groups() if group.is_member]
    gateway.limits.answered(account.key, sum(len(group.members) for group in found))
    return found


@groups_router.post("/groups", status_code=201, responses=problems(404, 409))
async def create(wanted: NewGroup, account: CurrentAccount, gateway: CurrentGateway) -> GroupOut:
    """Make a group."""
    gateway.limits.messages.take(account.key)
    members = [await _user(gateway, account, name) for name in wanted.members]
    group = await account.user.create_group(wanted.name, members)
    return GroupOut.of(group)


@groups_router.get("/groups/{name}", responses=problems(404, 409))
async def group(name: Named, account: CurrentAccount) -> GroupOut:
    """Return a group one belongs to."""
    return GroupOut.of(group_of(account, name))


@groups_router.patch("/groups/{name}", responses=problems(404, 409))
async def change(name: Named, wanted: GroupChange, account: CurrentAccount, gateway: CurrentGateway) -> GroupOut:
    """Give a group of one's own another name, or another owner."""
    gateway.limits.messages.take(account.key)
    found = group_of(account, name)
    if wanted.name is not None:
        await _asked(found.rename(wanted.name))
    if wanted.owner is not None:
        await _asked(found.hand_over(await _user(gateway, account, wanted.owner)))
    return GroupOut.of(found)


@groups_router.post("/groups/{name}/members", responses=problems(404, 409))
async def add(name: Named, wanted: NewMembers, account: CurrentAccount, gateway: CurrentGateway) -> GroupOut:
    """Take people into a group of one's own."""
    gateway.limits.messages.take(account.key)
    found = group_of(account, name)
    await _asked(found.add(*[await _user(gateway, account, member) for member in wanted.members]))
    return GroupOut.of(found)


@groups_router.delete("/groups/{name}/members/{member}", responses=problems(404, 409))
async def remove(
    name: Named,
    member: Annotated[str, Path(max_length=64, description="Who; oneself: leave it.")],
    account: CurrentAccount,
    gateway: CurrentGateway,
) -> Done:
    """Remove somebody from a group of one's own, or leave a group."""
    gateway.limits.messages.take(account.key)
    found = group_of(account, name)
    if is_me(account, member):
        await _asked(found.leave())
    else:
        await _asked(found.remove(account.user.user(member)))
    return Done()


async def _user(gateway: Gateway, account: Account, name: str) -> User:
    """Return who is meant; a name nobody has is reserved, and the group waits for whoever registers it."""
    if is_me(account, name):
        return account.user.me
    found = (await resolve_conversation(gateway, account, name)).user
    if found is None:
        raise WebError(400, "malformed", f"{name!a} is nobody who could belong to a group")
    return found


async def _asked(change: Awaitable[None]) -> None:
    """Do something to a group; what its rules forbid is 409 `refused`."""
    try:
        await change
    except P2PChatError as error:
        if type(error) is not P2PChatError:
            raise
        raise WebError(409, "refused", str(error)) from None


# ---- people
#
# `/users`, `/presence` and `/conversations`: who is known, how they are, and where one takes part.


people_router = APIRouter(tags=["people"])
KINDS = ("room", "dm", "group")


@people_router.get("/users", responses=problems(), response_model_exclude_none=True)
async def users(account: CurrentAccount, gateway: CurrentGateway) -> list[UserOut]:
    """Return everybody who is known here, by name."""
    found = account.user.users()
    gateway.limits.answered(account.key, len(found))
    return [UserOut.of(user) for user in found]


@people_router.get("/users/{name}", responses=problems(404, 409), response_model_exclude_none=True)
async def user(name: Annotated[str, Path(max_length=64)], account: CurrentAccount) -> UserOut:
    """Return one user, by the name shown or the id."""
    return UserOut.of(account.user.user(name))


@people_router.get("/presence", responses=problems(), response_model_exclude_none=True)
async def presence(
    account: CurrentAccount,
    gateway: CurrentGateway,
    status: Annotated[
        Literal["online", "idle", "offline", "unknown"] | None, Query(description="Only who is so.")
    ] = None,
) -> list[PresenceOut]:
    """Return how everybody is who is known here."""
    told = [PresenceOut.of(user) for user in account.user.users()]
    gateway.limits.answered(account.key, len(told))
    return [one for one in told if status in (None, one.status)]


@people_router.get("/conversations", responses=problems())
async def conversations(account: CurrentAccount, gateway: CurrentGateway) -> list[ConversationOut]:
    """Return the conversations one takes part in, the one first in which something was written last."""
    found = [ConversationOut.of(talk) for talk in account.user.recent_conversations() if talk.kind in KINDS]
    gateway.limits.answered(account.key, len(found))
    return found


# ---- signup
#
# `POST /accounts`: a name and the token that proves it, for whoever may sign up.


signup_router = APIRouter(tags=["accounts"])


class SignUp(BaseModel):
    """Who wants an account. The name has 1 to 32 visible characters."""

    model_config = ConfigDict(extra="forbid")
    name: str


class NewAccount(BaseModel):
    """An account and its token, which is shown here and never again."""

    name: str
    token: str


@signup_router.post("/accounts", status_code=201, responses=problems(400, 409))
async def sign_up(wanted: SignUp, request: Request, gateway: CurrentGateway) -> NewAccount:
    """Register a name. The token is told once: keep it."""
    way = gateway.settings.sign_up
    if way == "token" or (way == "auto" and not is_on_loopback(request)):
        raise Forbidden("sign-up is closed here: ask whoever runs this gateway for a token", "sign_up_closed")
    if not is_on_loopback(request):
        gateway.limits.sign_ups.take(site_of(address_of(request)))
    account, token = await gateway.accounts.register(wanted.name)
    return NewAccount(name=account.name, token=token)


# ---- rest
#
# REST: everything asked for by plain HTTP, described true in `/openapi.json`.
#
# Messages, conversations, people and groups as resources; signing up; and the paths for whoever operates the gateway.
# One file a subject, `schemas.py` for what goes in and out. To be touched for another path, never for who may ask: that
# is the doors' matter.


router = APIRouter()
for open_to_all in (signup_router, operations_router):
    router.include_router(open_to_all)
for of_somebody in (messages_router, people_router, groups_router):
    router.include_router(of_somebody, dependencies=[Depends(says_who)])
