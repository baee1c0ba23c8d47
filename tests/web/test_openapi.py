"""What `/openapi.json` says of REST is true: schemathesis sends what it allows, and what it does not, and compares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok

from p2pchat.apps.web import WebSettings
from p2pchat.apps.web.settings import Pace
from tests.web.conftest import Served

EXAMPLES = 12  # requests for each call and way of making them
PLENTY = Pace(1e6, 10**6)


@pytest.fixture
async def described(serve: Callable[..., Any]) -> AsyncIterator[Served]:
    served = await serve(WebSettings(calls=PLENTY, messages=PLENTY, small=PLENTY, strangers=PLENTY))
    for name in ("ada", "bob"):
        await served.register(name)
    yield served


async def test_every_call_answers_as_described(described: Served) -> None:
    await asyncio.to_thread(compare, described.url, described.tokens["ada"])


def compare(url: str, token: str) -> None:
    """Try every call that the description has."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    headers = {"Authorization": f"Bearer {token}"}
    tried = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        tried.append(operation.label)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answers_as_described(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=headers)

        answers_as_described()
    assert {"GET /messages", "POST /messages", "GET /presence", "GET /conversations", "GET /users"} <= set(tried)
