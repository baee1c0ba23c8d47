"""`POST /accounts`: a name and the token that proves it, for whoever may sign up."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from p2pchat.apps.web.rest.calls import problems
from p2pchat.web.auth import CurrentGateway, address_of, is_on_loopback
from p2pchat.web.errors import Forbidden
from p2pchat.web.rate_limit import site_of

router = APIRouter(tags=["accounts"])


class SignUp(BaseModel):
    """Who wants an account. The name has 1 to 32 visible characters."""

    model_config = ConfigDict(extra="forbid")
    name: str


class NewAccount(BaseModel):
    """An account and its token, which is shown here and never again."""

    name: str
    token: str


@router.post("/accounts", status_code=201, responses=problems(400, 409))
async def sign_up(wanted: SignUp, request: Request, gateway: CurrentGateway) -> NewAccount:
    """Register a name. The token is told once: keep it."""
    way = gateway.settings.sign_up
    if way == "token" or (way == "auto" and not is_on_loopback(request)):
        raise Forbidden("sign-up is closed here: ask whoever runs this gateway for a token", "sign_up_closed")
    if not is_on_loopback(request):
        gateway.rates.sign_ups.take(site_of(address_of(request)))
    account, token = await gateway.accounts.register(wanted.name)
    return NewAccount(name=account.name, token=token)
