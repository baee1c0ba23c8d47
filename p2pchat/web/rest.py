"""REST: routes of messages, conversations, people, groups, sign-up and operations, as in `/openapi.json`.

Every call but those for operations is below `/v1`, and also has its path without `/v1`, which the first clients knew.
sign_in.py authenticates callers, security.py admits requests.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import nullcontext
from datetime import datetime
from itertools import accumulate
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from p2pchat import Conversation, DurableEvent, Group, P2PChatError, UnknownName, User
from p2pchat.commands.message_commands import Shown, history_page, receipt_row, search_page
from p2pchat.commands.standard_output import iso
from p2pchat.kinds import HEADS
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Forbidden, WebError
from p2pchat.web.gateway_state import Gateway, gateway_of
from p2pchat.web.message_form import chat_json
from p2pchat.web.rate_limits import USERS_A_CALL
from p2pchat.web.schemas import (
    MESSAGE_ID,
    ConversationOut,
    Done,
    ErrorOut,
    GroupChange,
    GroupOut,
    HealthOut,
    MessageAccepted,
    MessageOut,
    NewAccount,
    NewGroup,
    NewMembers,
    NewMessage,
    ReceiptStatus,
    SignUp,
    Status,
    UserOut,
)
from p2pchat.web.security import address_of, is_on_loopback
from p2pchat.web.sign_in import (
    AUTHENTICATED,
    CurrentAccount,
    CurrentGateway,
    check_sign_up,
    current_account,
    may_name_itself,
    token_of,
)

_DESCRIPTIONS = {
    400: "The request is invalid.",
    401: "The token is unknown or missing.",
    403: "The caller is not allowed to do this.",
    404: "It does not exist, or is not visible to the caller.",
    409: "The name is ambiguous, or the request conflicts with the current state.",
    408: "The body took too long.",
    413: "It is too long; the text says how long it may be.",
    415: "The body has another form than described.",
    416: "The file has no such bytes.",
    422: "The request does not match this description.",
    429: "A rate limit was exceeded; `Retry-After` says when to try again.",
    507: "The disk of the gateway has no room for the file, or cannot be used.",
    503: "The gateway is stopping, full or expelled, or cannot store anything; `Retry-After` says when to try again.",
}
_ALWAYS = (400, 401, 403, 422, 429, 503)


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a call, for OpenAPI: those of all calls, and `more`."""
    statuses = sorted({*_ALWAYS, *more})
    return {status: {"model": ErrorOut, "description": _DESCRIPTIONS[status]} for status in statuses}


MAX_ROWS = 1000
MEMBER_BYTES = 100  # of an answer, for each member of a group: the longest names have a little more
messages_router: APIRouter = APIRouter(tags=["messages"], dependencies=AUTHENTICATED)
people_router: APIRouter = APIRouter(tags=["people"], dependencies=AUTHENTICATED)
groups_router: APIRouter = APIRouter(tags=["groups"], dependencies=AUTHENTICATED)
signup_router: APIRouter = APIRouter(tags=["accounts"])
operations_router: APIRouter = APIRouter(tags=["operations"])

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=128,
        description="A key of yours for this request; repeated with it, it is carried out once.",
    ),
]
MessageId = Annotated[str, Path(pattern=MESSAGE_ID, description="The id of a message.")]
_HEAD = f"^({'|'.join(HEADS)})$"
_TIME = re.compile(r"\d{4}-\d")
_NAMED = Query(max_length=96, description="One of two users whose messages with each other are wanted.")
_PAGED: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Link": {
                "description": 'Where the next page begins, as `<?before=ID>; rel="next"`; missing on the last page.',
                "schema": {"type": "string"},
            }
        }
    }
}
_POSITION = "A message, by its id, or a time: `2026-11-20T08:30Z`."


# ---- reading messages


async def reader(
    connection: HTTPConnection,
    user1: Annotated[str | None, _NAMED] = None,
    user2: Annotated[str | None, _NAMED] = None,
) -> Account | None:
    """Return the account whose view is wanted; None on a trusted machine if both users are unknown."""
    gateway = gateway_of(connection)
    anonymous = token_of(connection) is None and "as" not in connection.query_params
    if not (anonymous and user1 and user2 and may_name_itself(connection)):
        return await current_account(connection)
    account = gateway.accounts.find(user1) or gateway.accounts.find(user2)
    if account is not None:
        gateway.limits.calls.take(account.key)  # its own callers may be elsewhere
    return account


async def _hold_view(
    account: Annotated[Account | None, Depends(reader)], gateway: CurrentGateway
) -> AsyncIterator[None]:
    """As _hold_answer, for `reader`."""
    async with gateway.answers.hold("" if account is None else account.key):
        yield


async def _hold_answer(account: CurrentAccount, gateway: CurrentGateway) -> AsyncIterator[None]:
    """Dependency of calls with long answers: an account gets a few at once, each until its client has taken it."""
    async with gateway.answers.hold(account.key):
        yield


LONG = [Depends(_hold_answer)]


@messages_router.get(
    "/messages",
    responses={**_PAGED, **problems(404, 409)},
    response_model_exclude_none=True,
    dependencies=[Depends(_hold_view)],
)
async def messages(
    request: Request,
    response: Response,
    account: Annotated[Account | None, Depends(reader)],
    gateway: CurrentGateway,
    user1: Annotated[str | None, _NAMED] = None,
    user2: Annotated[str | None, _NAMED] = None,
    conversation: Annotated[
        str | None, Query(max_length=96, description="Instead of two users: `room`, a user, `#ops`, an id.")
    ] = None,
    before: Annotated[str | None, Query(max_length=96, description=_POSITION)] = None,
    after: Annotated[str | None, Query(max_length=96, description=f"{_POSITION} Also a `changed_id`.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
    changes: Annotated[bool, Query(description="With `after`: also messages that were changed after it.")] = False,
    head: Annotated[
        str | None, Query(pattern=_HEAD, description="Those at the head of a conversation, the newest first.")
    ] = None,
) -> list[MessageOut]:
    """Return messages, oldest first: of two users with each other, of one conversation, or all visible to the caller.

    With `after`, what came to the gateway after it, in that order, however early it was written; with `changes` too a
    message that was changed comes again, with a `changed_id` to continue after. Otherwise the newest ones, before
    `before` if given. With both, those between them. Where texts are long, a page has fewer than `limit`; the header
    Link says whether there are more. One of the two users has to be the caller.
    """
    if account is None:
        return []
    try:
        talk = _wanted_conversation(gateway, account, user1, user2, conversation)
    except UnknownName:
        if conversation is not None:
            raise
        return []  # the other of the two users is unknown
    if head:
        page, more = list[Shown](await account.user.head(talk or "room", head)), False
    else:
        low, high = await _position(account, after), await _position(account, before)
        most = gateway.settings.max_answer_bytes
        page, more = await history_page(account.user, talk, high, low, limit, most, changes=changes)
    if more:
        _link_next(request, response, **({"before": page[0].id} if after is None else {"after": page[-1].entry_id}))
    gateway.limits.answered(account.key, len(page))
    return [MessageOut(chat_json(post)) for post in page]


def _link_next(request: Request, response: Response, **position: str) -> None:
    """Tell where the next page begins (RFC 8288), relative to the request, since a proxy may change its path."""
    response.headers["Link"] = f'<?{request.url.include_query_params(**position).query}>; rel="next"'


def _wanted_conversation(
    gateway: Gateway, account: Account, user1: str | None, user2: str | None, conversation: str | None
) -> Conversation | None:
    """Return the conversation to read; None for all. Raises UnknownName."""
    if user1 is None and user2 is None:
        return None if conversation is None else gateway.receivers.find(account, conversation)
    if user1 is None or user2 is None or conversation is not None:
        raise WebError(400, "malformed", "give user1 and user2, or a conversation")
    mine = [account.is_me(name) for name in (user1, user2)]
    if not any(mine):
        raise Forbidden("one of the two users has to be you")
    return gateway.receivers.find(account, user2 if mine[0] else user1)


async def _position(account: Account, text: str | None) -> DurableEvent | datetime | None:
    if text is None:
        return None
    if not _TIME.match(text):
        return await account.user.entry(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WebError(400, "malformed", f"{text!r} is no time: use the form 2026-11-20T08:30Z") from None
    if moment.tzinfo is None:
        raise WebError(400, "malformed", f"{text!r} has no time zone: use the form 2026-11-20T08:30Z")
    return moment


@messages_router.get("/messages/{id}", responses=problems(404), response_model_exclude_none=True)
async def message(id: MessageId, account: CurrentAccount) -> MessageOut:
    """Return one message."""
    return MessageOut(chat_json(await account.user.message(id)))


@messages_router.get(
    "/messages/{id}/receipt",
    responses=problems(404),
    response_model=ReceiptStatus,
    response_model_exclude_none=True,
)
async def receipt(id: MessageId, account: CurrentAccount) -> dict[str, Any]:
    """Return the delivery status of a message of the caller; of an edited or deleted one, that of its latest version.

    A receiver of this gateway who has taken a message has each later edit of it.
    """
    await account.user.receipt(id)  # raises unless it is an own message
    return await receipt_row(account.user, await account.user.message(id))


@messages_router.get(
    "/search", responses={**_PAGED, **problems(404, 409)}, response_model_exclude_none=True, dependencies=LONG
)
async def search(
    request: Request,
    response: Response,
    account: CurrentAccount,
    gateway: CurrentGateway,
    words: Annotated[
        str,
        Query(
            alias="q",
            min_length=1,
            max_length=1024,
            description='All of these words, `"an exact phrase"`, or `from:bob`.',
            examples=["backup failed"],
        ),
    ],
    conversation: Annotated[str | None, Query(max_length=96, description="Search only this conversation.")] = None,
    before: Annotated[str | None, Query(max_length=96, description=_POSITION)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
) -> list[MessageOut]:
    """Return the newest messages that contain all of these words, oldest first."""
    talk = None if conversation is None else gateway.receivers.find(account, conversation)
    high = await _position(account, before)
    page, more = await search_page(account.user, words, talk, high, limit, gateway.settings.max_answer_bytes)
    if more:
        _link_next(request, response, before=page[0].id)
    gateway.limits.answered(account.key, len(page), "search")
    return [MessageOut(chat_json(post)) for post in page]


# ---- writing messages


@messages_router.post("/messages", status_code=201, responses=problems(404, 409, 413), response_model_exclude_none=True)
async def write(
    new: NewMessage,
    account: CurrentAccount,
    gateway: CurrentGateway,
    key: IdempotencyKey = "",
) -> MessageAccepted:
    """Write a message to a user, to `room` or to a group; answered when it is stored.

    At a gateway of a cluster with `--safe` it is answered once a second gateway has it too, and `safe` says whether one
    has. If not, repeat the request with the same key: it is not written again.
    """
    gateway.limits.write(account.key, new.content)
    if new.group:
        to: Conversation = account.group(new.group)
    else:
        to = await gateway.receivers.resolve(account, new.to)

    with gateway.metrics.accepting("rest"):
        files = gateway.uploads.find(account, new.files)
        sent = await account.user.send(to, new.content, new.reply_to, files=files, choices=new.choices, key=key)
    safety = await gateway.safety(account, sent.id)
    more = gateway.receivers.reservation(account, to)
    return await accepted(account, sent.id, ref=new.ref, **more, **safety)


async def accepted(account: Account, id: str, **more: Any) -> MessageAccepted:
    post = await account.user.message(id)
    return MessageAccepted(id=id, timestamp=iso(post.sent_at), **more)


# ---- groups

Named = Annotated[str, Path(max_length=96, description="The name of a group, or its name with its id (`#` as `%23`).")]


@groups_router.get("/groups", responses={**_PAGED, **problems(404)}, response_model=list[GroupOut], dependencies=LONG)
async def groups(
    request: Request,
    response: Response,
    account: CurrentAccount,
    gateway: CurrentGateway,
    after: Annotated[str | None, Query(max_length=96, description="Only groups after this one, by its id.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = MAX_ROWS,
) -> list[Group]:
    """Return the groups of which the caller is a member, sorted by name.

    Where groups have many members, a page has fewer than `limit`; the header Link says whether there are more.
    """
    found = [group for group in account.user.groups() if group.is_member]
    if after is not None:
        ids = [group.key for group in found]
        if after not in ids:
            raise UnknownName(after, "begin with the first page")
        found = found[ids.index(after) + 1 :]
    ends = accumulate(len(group.members) * MEMBER_BYTES for group in found)
    page = [group for group, end in zip(found[:limit], ends, strict=False) if end <= gateway.settings.max_answer_bytes]
    page = page or found[:1]
    if len(page) < len(found):
        _link_next(request, response, after=page[-1].key)
    gateway.limits.answered(account.key, sum(len(group.members) for group in page))
    return page


@groups_router.post("/groups", status_code=201, responses=problems(404, 409), response_model=GroupOut)
async def create(
    wanted: NewGroup, account: CurrentAccount, gateway: CurrentGateway, key: IdempotencyKey = ""
) -> Conversation:
    """Create a group."""
    gateway.limits.write(account.key, wanted.name, members=len(wanted.members))
    with gateway.limits.new_group(account.key):
        members = [_user(gateway, account, name) for name in wanted.members]
        return await account.user.create_group(wanted.name, members, key=key)


@groups_router.get("/groups/{name}", responses=problems(404, 409), response_model=GroupOut)
async def group(name: Named, account: CurrentAccount) -> Group:
    """Return a group of which the caller is a member."""
    return account.group(name)


@groups_router.patch("/groups/{name}", responses=problems(404, 409), response_model=GroupOut)
async def change(name: Named, wanted: GroupChange, account: CurrentAccount, gateway: CurrentGateway) -> Group:
    """Rename a group of the caller, or give it another owner."""
    found = account.group(name)
    gateway.limits.write(account.key, members=len(found.members))
    if wanted.name is not None:
        await _changed(found.rename(wanted.name))
    if wanted.owner is not None:
        await _changed(found.hand_over(_user(gateway, account, wanted.owner)))
    return found


@groups_router.post("/groups/{name}/members", responses=problems(404, 409), response_model=GroupOut)
async def add(name: Named, wanted: NewMembers, account: CurrentAccount, gateway: CurrentGateway) -> Group:
    """Add members to a group of the caller."""
    found = account.group(name)
    gateway.limits.write(account.key, members=len(found.members) + len(wanted.members))
    await _changed(found.add(*(_user(gateway, account, name) for name in wanted.members)))
    return found


@groups_router.delete("/groups/{name}/members/{member}", responses=problems(404, 409))
async def remove(
    name: Named,
    member: Annotated[str, Path(max_length=96, description="The member; the caller itself leaves the group.")],
    account: CurrentAccount,
    gateway: CurrentGateway,
) -> Done:
    """Remove a member from a group of the caller, or leave a group."""
    found = account.group(name)
    gateway.limits.write(account.key, members=len(found.members))
    if account.is_me(member):
        await _changed(found.leave())
    else:
        await _changed(found.remove(account.user.user(member)))
    return Done()


def _user(gateway: Gateway, account: Account, name: str) -> User:
    """Return the user of a name. Raises UnknownName, AmbiguousName, and WebError for one who is no member anywhere."""
    if account.is_me(name):
        return account.user.me
    found = gateway.receivers.find(account, name)
    gateway.receivers.check(found)
    if found.user is None:
        raise WebError(400, "malformed", f"{name!r} cannot be a member of a group")
    return found.user


async def _changed(change: Awaitable[None]) -> None:
    """Wait for a change of a group; one that its rules forbid is 409 `refused`."""
    try:
        await change
    except P2PChatError as error:
        if type(error) is not P2PChatError:
            raise
        raise WebError(409, "refused", str(error)) from None


# ---- people and conversations

KINDS = ("room", "dm", "group")


@people_router.get(
    "/users", responses=problems(), response_model=list[UserOut], response_model_exclude_none=True, dependencies=LONG
)
async def users(
    account: CurrentAccount,
    gateway: CurrentGateway,
    status: Annotated[Status | None, Query(description="Only users with this status.")] = None,
) -> list[User]:
    """Return all known users with their presence, by name."""
    found = account.user.users()
    gateway.limits.answered(account.key, len(found))
    return [one for one in found if status in (None, one.status)]


@people_router.get(
    "/users/{name}", responses=problems(404, 409), response_model=UserOut, response_model_exclude_none=True
)
async def user(name: Annotated[str, Path(max_length=96)], account: CurrentAccount) -> User:
    """Return one user, by shown name or id."""
    return account.user.user(name)


@people_router.get("/conversations", responses=problems(), response_model=list[ConversationOut], dependencies=LONG)
async def conversations(account: CurrentAccount, gateway: CurrentGateway) -> list[Conversation]:
    """Return the conversations of the caller, most recently used first."""
    found = [talk for talk in account.user.recent_conversations() if talk.kind in KINDS]
    gateway.limits.answered(account.key, len(found))
    return found


# ---- sign-up


@signup_router.post("/accounts", status_code=201, responses=problems(400, 409))
async def sign_up(wanted: SignUp, request: Request, gateway: CurrentGateway) -> NewAccount:
    """Register a name. The token is returned only once: save it."""
    check_sign_up(request)
    with nullcontext() if is_on_loopback(request) else gateway.limits.new_account(address_of(request)):
        account, token = await gateway.accounts.register(wanted.name)
    return NewAccount(name=account.name, token=token)


@signup_router.delete("/accounts/me", responses=problems(), dependencies=AUTHENTICATED)
async def delete_account(account: CurrentAccount, gateway: CurrentGateway) -> Done:
    """Delete the account of the caller: its key and token, and its place here. What it wrote stays where it is.

    Its connections end with 1008 `deleted`. Nobody gets the name for 90 days, then anyone, with another key. It cannot
    be undone.
    """
    if gateway.authenticate is not None:
        raise Forbidden("this account is deleted where you sign in")
    await gateway.accounts.delete(account)
    return Done()


# ---- operations


@operations_router.head("/healthz", include_in_schema=False)
@operations_router.get("/healthz")
async def healthz(gateway: CurrentGateway) -> HealthOut:
    """200 if a round trip through core and storage succeeded within the last 5 s; otherwise 503 with the reason."""
    reason = await gateway.health.check()
    if reason:
        raise WebError(503, "unhealthy", reason)
    return HealthOut()


@operations_router.head("/readyz", include_in_schema=False)
@operations_router.get("/readyz")
async def readyz(gateway: CurrentGateway) -> HealthOut:
    """200 if the gateway accepts callers: its peer has tried its endpoints, is not stopping and not expelled."""
    if gateway.hub.stopping:
        raise WebError(503, "stopping", "this gateway is stopping", {"Retry-After": "2"})
    gateway.receivers.check_gateway()
    return HealthOut()


@operations_router.head("/metrics", include_in_schema=False)
@operations_router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, gateway: CurrentGateway) -> Response:
    """Metrics in the text format of Prometheus, for callers on this machine and for accounts."""
    if not is_on_loopback(request):
        account = await current_account(request)
        gateway.limits.charge(account.key, len(gateway.peer.directory.known) / USERS_A_CALL)
    await gateway.health.check()
    text, kind = gateway.metrics.text()
    return Response(text, headers={"Content-Type": kind})


router: APIRouter = APIRouter()
for _part in (signup_router, messages_router, people_router, groups_router):
    router.include_router(_part, prefix="/v1")
    router.include_router(_part, include_in_schema=False)
router.include_router(operations_router)
