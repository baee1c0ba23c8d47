"""`p2pchat web --cluster`: two gateways as processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from p2pchat.web.cluster.cluster_key import make_key_file
from tests.deadlines import WAIT, within
from tests.long.web.test_web_command import gateway
from tests.nats import NatsServer, missing


async def test_an_account_of_one_process_signs_in_at_another(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    engine = NatsServer("-js", "-sd", str(tmp_path / "engine"))
    key = tmp_path / "key"
    make_key_file(key)
    words = ("--cluster", "team", "--cluster-key", str(key), "--engine", engine.url)
    try:
        async with (
            gateway(tmp_path, "--name", "one", *words) as (one, first),
            gateway(tmp_path, "--name", "two", *words, "--data", str(tmp_path / "two")) as (two, second),
        ):
            for gate in (one, two):
                while not any('"event":"cluster"' in line and '"state":"up"' in line for line in gate.shown):
                    await gate.until('"event":"cluster"')
            async with (
                httpx.AsyncClient(base_url=first, timeout=WAIT, trust_env=False) as at_one,
                httpx.AsyncClient(base_url=second, timeout=WAIT, trust_env=False) as at_two,
            ):
                made = await at_one.post("/accounts", json={"name": "ada"})
                token = {"Authorization": f"Bearer {made.json()['token']}"}
                async with within(WAIT, "the account at the other gateway"):
                    while (found := await at_two.get("/conversations", headers=token)).status_code == 401:
                        await asyncio.sleep(0.05)  # poll: another process hears of it
                assert found.status_code == 200
                assert (await at_two.post("/accounts", json={"name": "Ada"})).json()["code"] == "name_taken"
                assert "p2pchat_web_cluster_up 1.0" in (await at_two.get("/metrics")).text
    finally:
        engine.kill()
