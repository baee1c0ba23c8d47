"""`/users`, `/presence` and `/conversations`: who is known, how they are, and where one takes part."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from p2pchat.apps.web.rest.calls import problems
from p2pchat.web.auth import CurrentAccount, CurrentGateway
from p2pchat.web.schemas import Person, Place, Presence

router = APIRouter(tags=["people"])
KINDS = ("room", "dm", "group")


@router.get("/users", responses=problems(), response_model_exclude_none=True)
async def users(account: CurrentAccount, gateway: CurrentGateway) -> list[Person]:
    """Return everybody who is known here, by name."""
    found = account.user.users()
    gateway.rates.answered(account.key, len(found))
    return [Person.of(user) for user in found]


@router.get("/users/{name}", responses=problems(404, 409), response_model_exclude_none=True)
async def user(name: Annotated[str, Path(max_length=64)], account: CurrentAccount) -> Person:
    """Return one user, by the name shown or the id."""
    return Person.of(account.user.user(name))


@router.get("/presence", responses=problems(), response_model_exclude_none=True)
async def presence(
    account: CurrentAccount,
    gateway: CurrentGateway,
    status: Annotated[
        Literal["online", "idle", "offline", "unknown"] | None, Query(description="Only who is so.")
    ] = None,
) -> list[Presence]:
    """Return how everybody is who is known here."""
    told = [Presence.of(user) for user in account.user.users()]
    gateway.rates.answered(account.key, len(told))
    return [one for one in told if status in (None, one.status)]


@router.get("/conversations", responses=problems())
async def conversations(account: CurrentAccount, gateway: CurrentGateway) -> list[Place]:
    """Return the conversations one takes part in, the one first in which something was written last."""
    found = [Place.of(talk) for talk in account.user.recent_conversations() if talk.kind in KINDS]
    gateway.rates.answered(account.key, len(found))
    return found
