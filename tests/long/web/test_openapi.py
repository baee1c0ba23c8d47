"""REST behaves as `/openapi.json` describes: schemathesis sends valid and invalid requests and compares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from p2pchat.web import Pace, WebSettings
from tests.web.conftest import Served

# What is refused here although its shape is right, for a reason that a shape cannot give: what a name is, and what a
# path may hold, that two parameters belong together, that a search needs a letter.
NOT_ALL_SAID = (
    "/accounts",
    "GET /v1/messages",
    "/search",
    "/groups",
    "/users/",
    "POST /v1/messages",
    "POST /v1/polls",
    "POST /v1/do",
    "PATCH /v1/messages",
)
OPENAPI_EXAMPLES = 5  # requests for each call of REST and each way to generate them
PLENTY = Pace(1e6, 10**6)


@pytest.fixture
async def described(serve: Callable[..., Any]) -> Served:
    served: Served = await serve(WebSettings(calls=PLENTY, messages=PLENTY, small=PLENTY, strangers=PLENTY))
    await served.register("ada", "bob")
    return served


async def test_every_call_answers_as_described(described: Served) -> None:
    tried = await asyncio.to_thread(compare_all, described.url, described.tokens["ada"])
    assert {f"GET /v1/{name}" for name in ("messages", "conversations", "users")} < tried
    assert "POST /v1/messages" in tried


def compare_all(url: str, token: str) -> set[str]:
    """Try every call in the description; return them."""
    tried = set()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        whole = schemathesis.openapi.from_url(f"{url}/openapi.json")
        described = whole.exclude(path=["/v1/events", "/v1/accounts/me"])  # has no end; is the end of the caller
        for result in described.get_all_operations():
            assert isinstance(result, Ok), result
            compare(result.ok(), session)
            tried.add(result.ok().label)
    return tried


def compare(operation: APIOperation, session: requests.Session) -> None:  # type: ignore[type-arg]
    """Try one call with valid and invalid requests."""
    unsaid: list[Any] = [positive_data_acceptance] if any(part in operation.label for part in NOT_ALL_SAID) else []

    @settings(
        max_examples=OPENAPI_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def answers_as_described(case: Any) -> None:
        case.call_and_validate(session=session, excluded_checks=unsaid)

    answers_as_described()
