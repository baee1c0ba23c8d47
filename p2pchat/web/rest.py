"""`/messages`: what was written, and writing it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.requests import HTTPConnection

from p2pchat import Conversation, Message, Receipt, Sent, UnknownName
from p2pchat.apps.web.rest.calls import problems
from p2pchat.apps.web.words.addressing import conversation_with, group_of, is_me, known_conversation
from p2pchat.apps.web.words.wording import iso
from p2pchat.web.accounts import Account
from p2pchat.web.auth import CurrentAccount, CurrentGateway, current_account, may_name_itself, token_of
from p2pchat.web.errors import Forbidden, WebError
from p2pchat.web.gateway import Gateway, gateway_of
from p2pchat.web.schemas import MESSAGE_ID, Accepted, Done, Fate, NewContent, NewMessage, NewReaction, Said, ToGroup

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
        gateway.rates.calls.take(account.key)
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
) -> list[Said]:
    """Return messages, oldest first: of two users with each other, of one conversation, or all that the caller may
    see.

    With `after` the oldest behind it, otherwise the newest, before `before`. One of the two has to be the caller.
    """
    if account is None:
        return []
    try:
        talk = _asked_for(gateway, account, user1, user2, conversation)
    except _NothingYet:
        return []
    low, high = await _where(account, after), await _where(account, before)
    found = await account.user.history(talk, before=high, after=low, limit=limit)
    gateway.rates.answered(account.key, len(found))
    return [Said.of(post) for post in found]


class _NothingYet(Exception):
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
    talk = known_conversation(gateway, account, user2 if mine[0] else user1)
    if talk is None:
        raise _NothingYet
    return talk


def _known(gateway: Gateway, account: Account, to: str) -> Conversation:
    talk = known_conversation(gateway, account, to)
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
async def message(id: MessageId, account: CurrentAccount) -> Said:
    """Return one message."""
    return Said.of(await account.user.message(id))


@messages_router.get("/messages/{id}/receipt", responses=problems(404))
async def receipt(id: MessageId, account: CurrentAccount) -> Fate:
    """Return what became of a message of one's own."""
    return Fate.of(await account.user.receipt(id))


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
) -> list[Said]:
    """Return the newest messages with all of these words in them, oldest first."""
    talk = None if conversation is None else _known(gateway, account, conversation)
    found = await account.user.search(words, talk, before=await _where(account, before), limit=limit)
    gateway.rates.answered(account.key, len(found))
    return [Said.of(post) for post in found]


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
) -> Accepted:
    """Write a message to a user, to `room` or to a group; answered when it is kept."""
    gateway.rates.messages.take(account.key)
    if isinstance(said, ToGroup):
        to: Conversation = group_of(account, said.group)
    else:
        to = await conversation_with(gateway, account, said.to)

    async def send() -> Receipt:
        with gateway.metrics.accepting("rest"):
            return await account.user.send(to, said.content, said.reply_to)

    kept = await gateway.once.do(account.key, key, (said.content, to.key, said.reply_to, False), send)
    gateway.journal_waiting(to, kept.id)
    return await _accepted(account, kept.id, said.ref)


async def _accepted(account: Account, id: str, ref: str | int | None = None) -> Accepted:
    post = await account.user.message(id)
    return Accepted(id=id, timestamp=iso(post.sent_at), ref=ref)


@messages_router.patch("/messages/{id}", responses=problems(404, 413), response_model_exclude_none=True)
async def edit(id: MessageId, said: NewContent, account: CurrentAccount, gateway: CurrentGateway) -> Accepted:
    """Have a message of one's own say something else, for everybody."""
    gateway.rates.messages.take(account.key)
    await account.user.edit(await _own(account, id), said.content)
    return await _accepted(account, id)


@messages_router.delete("/messages/{id}", responses=problems(404), response_model_exclude_none=True)
async def delete(id: MessageId, account: CurrentAccount, gateway: CurrentGateway) -> Accepted:
    """Take a message of one's own back: nothing shows its text any more."""
    gateway.rates.messages.take(account.key)
    await account.user.delete(await _own(account, id))
    return await _accepted(account, id)


async def _own(account: Account, id: str) -> Post:
    post = await account.user.message(id)
    if not isinstance(post, Sent):
        raise Forbidden("another wrote this message")
    return post


@messages_router.put("/messages/{id}/reaction", responses=problems(404), response_model_exclude_none=True)
async def react(id: MessageId, said: NewReaction, account: CurrentAccount, gateway: CurrentGateway) -> Accepted:
    """React to a message, in place of one's former reaction."""
    gateway.rates.messages.take(account.key)
    await account.user.react(await account.user.message(id), said.reaction)
    return await _accepted(account, id)


@messages_router.delete("/messages/{id}/reaction", responses=problems(404), response_model_exclude_none=True)
async def unreact(id: MessageId, account: CurrentAccount, gateway: CurrentGateway) -> Accepted:
    """Take one's reaction back."""
    return await react(id, NewReaction(reaction=""), account, gateway)


@messages_router.post("/messages/{id}/read", responses=problems(404))
async def mark_read(id: MessageId, account: CurrentAccount, gateway: CurrentGateway) -> Done:
    """Say that everything in the conversation up to this message is read; its writers are told."""
    gateway.rates.small.take(account.key)
    (await account.user.message(id)).mark_read()
    return Done()
