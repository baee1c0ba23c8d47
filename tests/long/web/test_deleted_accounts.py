"""Accounts listed, deleted and purged on the command line, beside a running gateway and without one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_ports
from tests.web.chat_client import connect
from tests.web.processes import p2pchat, running
from tests.web.test_deleted_accounts import closed

Run = Callable[..., Any]


@asynccontextmanager
async def gateway(home: Path, *options: str) -> AsyncIterator[tuple[str, Run]]:
    """Run a gateway; yield its address, and a function that runs a command beside it: exit code and output."""
    port, own = free_ports(2)
    async with running(*p2pchat("web", port, "--port", own, *options, *which(home)), home=home) as gate:
        await gate.until("the page")
        yield f"http://127.0.0.1:{port}", lambda *words: command(home, *words)
        gate.terminate()
        await gate.end()


def which(home: Path) -> tuple[str, str]:
    return ("--data", str(home / "gate"))


async def command(home: Path, *words: str) -> tuple[int, list[str]]:
    """Run `p2pchat web` with these words to its end."""
    async with running(*p2pchat("web", *words, *which(home)), home=home) as process:
        return await process.end(), process.shown


def caller(url: str, token: str = "", **headers: str) -> httpx.AsyncClient:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False, verify=False)


async def signed_up(url: str, name: str) -> str:
    async with caller(url) as http:
        answer = await http.post("/v1/accounts", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


async def test_accounts_are_listed_deleted_and_purged_beside_a_gateway_and_without_one(tmp_path: Path) -> None:
    days = {datetime.now(UTC).date()}
    async with gateway(tmp_path) as (url, run):
        tokens = {name: await signed_up(url, name) for name in ("ada", "bob", "cyd")}
        async with caller(url, tokens["ada"]) as http:
            assert (await http.post("/messages", json={"to": "dora", "content": "hi"})).json()["reserved"] is True
        code, shown = await run("accounts", "list", "--json")
        rows = [json.loads(line) for line in shown]
        assert code == 0 and [(row["user"], row["state"]) for row in rows] == [
            ("ada", "registered"), ("bob", "registered"), ("cyd", "registered"), ("dora", "reserved"),
        ]  # fmt: skip
        days.add(datetime.now(UTC).date())  # unless it is midnight, the same
        assert {row["used"] for row in rows} <= {str(day) for day in days}
        async with connect(
            f"{url.replace('http', 'ws')}/lines", additional_headers={"Authorization": f"Bearer {tokens['bob']}"}
        ) as bob:
            await bob.recv()
            assert await run("accounts", "delete", "Bob") == (
                0, ["-- bob is deleted; nobody gets the name for 90 days"],
            )  # fmt: skip
            assert await closed(bob) == (1008, "deleted")
        code, shown = await run("accounts", "delete", "bob")
        assert code == 4 and "there is no account 'bob'" in shown[0]
        assert await run("accounts", "purge", "--idle", "1") == (0, ["-- nothing here is idle for 1 days"])
        assert (await run("accounts", "purge", "--idle", "0"))[0] == (await run("accounts", "purge"))[0] == 2
        assert await run("accounts", "delete", "dora") == (0, ["-- dora is no longer reserved"])
    code, shown = await command(tmp_path, "accounts", "delete", "cyd", "--json")
    assert code == 0 and json.loads(shown[0])["user"] == "cyd"
    code, shown = await command(tmp_path, "accounts", "list")
    assert code == 0 and [line.partition(",")[0] for line in shown] == ["ada  registered"]
    async with gateway(tmp_path) as (url, _), caller(url) as http:
        statuses = [(await http.post("/accounts", json={"name": name})).status_code for name in tokens]
        assert statuses == [409, 409, 409]
        assert (await http.post("/accounts", json={"name": "dora"})).status_code == 201
