"""Accounts: signing up, tokens, reserved names."""

from __future__ import annotations

from tests.web.conftest import Served


async def test_a_name_is_registered_once_and_its_token_is_it(served: Served) -> None:
    token = await served.register("zoe")
    account = await served.gateway.accounts.by_token(token)
    assert account is not None and account.name == "zoe" and not account.reserved
    async with served.client() as http:
        again = await http.post("/accounts", json={"name": "zoe"})
    assert again.status_code == 409 and again.json()["code"] == "name_taken"
    assert await served.gateway.accounts.by_token(token[:-1]) is None
