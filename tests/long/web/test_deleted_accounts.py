"""Accounts listed, deleted and purged on the command line, beside a running gateway and without one."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx

from tests.deadlines import WAIT, within
from tests.long.web.test_web_command import gateway, run
from tests.web.chat_client import connect
from tests.web.test_deleted_accounts import closed


async def command(home: Path, name: str, *words: str) -> tuple[int, list[str]]:
    """Run this command of `p2pchat web` with these words to its end; return its exit code and all that it shows."""
    code, out, err = await run(home, "web", name, *words, "--data", str(home / "gate"))
    return code, (out + err).splitlines()


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
    accounts, users = partial(command, tmp_path, "accounts"), partial(command, tmp_path, "users")
    days = {datetime.now(UTC).date()}
    async with gateway(tmp_path) as (gate, url):
        tokens = {name: await signed_up(url, name) for name in ("ada", "bob", "cyd")}
        code, shown = await users("--json")
        rows = [json.loads(line) for line in shown]
        assert code == 0 and [(row["user"], row["state"]) for row in rows] == [
            ("ada", "registered"), ("bob", "registered"), ("cyd", "registered"),
        ]  # fmt: skip
        for do, state in (("expel", "expelled"), ("pardon", "registered")):
            more = ["--yes"] if do == "expel" else []
            assert (await run(tmp_path, do, "cyd", *more, "--data", str(tmp_path / "gate")))[0] == 0
            async with within(WAIT, f"that cyd is {state}"):
                while f"cyd  {state}" not in [line.partition(",")[0] for line in (await users())[1]]:
                    await asyncio.sleep(0.05)
        days.add(datetime.now(UTC).date())  # unless it is midnight, the same
        assert {row["used"] for row in rows} <= {str(day) for day in days}
        async with connect(
            f"{url.replace('http', 'ws')}/lines", additional_headers={"Authorization": f"Bearer {tokens['bob']}"}
        ) as bob:
            await bob.recv()
            code, shown = await accounts("delete", "Bob")
            assert code == 2 and "the key of Bob is deleted for good" in shown[0] and "add --yes" in shown[0]
            assert await accounts("delete", "Bob", "--yes") == (
                0,
                ["-- bob is deleted; nobody gets the name for 90 days"],
            )
            assert await closed(bob) == (1008, "deleted")
        code, shown = await accounts("delete", "bob", "--yes")
        assert code == 4 and "there is no account 'bob'" in shown[0]
        assert await accounts("purge", "--idle", "1") == (0, ["-- nothing here is idle for 1 days"])
        assert (await accounts("purge", "--idle", "0"))[0] == (await accounts("purge"))[0] == 2
        gate.terminate()
        await gate.end()
    code, shown = await accounts("delete", "cyd", "--json", "--yes")
    assert code == 0 and json.loads(shown[0])["user"] == "cyd"
    code, shown = await users()
    assert code == 0 and [line.partition(",")[0] for line in shown] == ["ada  registered"]
    async with gateway(tmp_path) as (_, url), caller(url) as http:
        statuses = [(await http.post("/accounts", json={"name": name})).status_code for name in tokens]
        assert statuses == [409, 409, 409]
