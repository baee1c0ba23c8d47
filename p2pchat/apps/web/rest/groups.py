"""`/groups`: making a group, who belongs to it, and leaving it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Path

from p2pchat import P2PChatError, User
from p2pchat.apps.web.rest.calls import problems
from p2pchat.apps.web.words.addressing import conversation_with, group_of, is_me
from p2pchat.web.accounts import Account
from p2pchat.web.auth import CurrentAccount, CurrentGateway
from p2pchat.web.errors import WebError
from p2pchat.web.gateway import Gateway
from p2pchat.web.schemas import Done, GroupChange, GroupShape, NewGroup, NewMembers

router = APIRouter(tags=["groups"])
Named = Annotated[str, Path(max_length=64, description="A group: its name, or its name with its id (`#` as `%23`).")]


@router.get("/groups", responses=problems())
async def groups(account: CurrentAccount, gateway: CurrentGateway) -> list[GroupShape]:
    """Return the groups one belongs to."""
    found = [GroupShape.of(group) for group in account.user.groups() if group.is_member]
    gateway.rates.answered(account.key, sum(len(group.members) for group in found))
    return found


@router.post("/groups", status_code=201, responses=problems(404, 409))
async def create(wanted: NewGroup, account: CurrentAccount, gateway: CurrentGateway) -> GroupShape:
    """Make a group."""
    gateway.rates.messages.take(account.key)
    members = [await _user(gateway, account, name) for name in wanted.members]
    group = await account.user.create_group(wanted.name, members)
    return GroupShape.of(group)


@router.get("/groups/{name}", responses=problems(404, 409))
async def group(name: Named, account: CurrentAccount) -> GroupShape:
    """Return a group one belongs to."""
    return GroupShape.of(group_of(account, name))


@router.patch("/groups/{name}", responses=problems(404, 409))
async def change(name: Named, wanted: GroupChange, account: CurrentAccount, gateway: CurrentGateway) -> GroupShape:
    """Give a group of one's own another name, or another owner."""
    gateway.rates.messages.take(account.key)
    found = group_of(account, name)
    if wanted.name is not None:
        await _asked(found.rename(wanted.name))
    if wanted.owner is not None:
        await _asked(found.hand_over(await _user(gateway, account, wanted.owner)))
    return GroupShape.of(found)


@router.post("/groups/{name}/members", responses=problems(404, 409))
async def add(name: Named, wanted: NewMembers, account: CurrentAccount, gateway: CurrentGateway) -> GroupShape:
    """Take people into a group of one's own."""
    gateway.rates.messages.take(account.key)
    found = group_of(account, name)
    await _asked(found.add(*[await _user(gateway, account, member) for member in wanted.members]))
    return GroupShape.of(found)


@router.delete("/groups/{name}/members/{member}", responses=problems(404, 409))
async def remove(
    name: Named,
    member: Annotated[str, Path(max_length=64, description="Who; oneself: leave it.")],
    account: CurrentAccount,
    gateway: CurrentGateway,
) -> Done:
    """Remove somebody from a group of one's own, or leave a group."""
    gateway.rates.messages.take(account.key)
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
    found = (await conversation_with(gateway, account, name)).user
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
