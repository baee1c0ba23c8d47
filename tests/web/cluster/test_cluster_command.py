"""`p2pchat web --cluster`: its options, and two gateways as processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from p2pchat.__main__ import main
from p2pchat.cli.gateway import cluster_of
from p2pchat.cli.profiles import WebOptions
from p2pchat.cli.subcommands.web import serve, web_options
from p2pchat.commands.exit_codes import UsageError
from p2pchat.web.cluster.cluster_key import make_key_file
from tests.deadlines import WAIT, within
from tests.nats import NatsServer, missing
from tests.web.test_web_command import gateway

WHOLE = {"--cluster": "team", "--cluster-key": "key", "--engine": "nats://engine"}


def options_of(*words: str) -> WebOptions:
    return web_options(serve.make_context("web", ["8000", *words]).params)


def test_a_cluster_has_a_name_a_key_and_an_engine() -> None:
    options = options_of(*(word for pair in WHOLE.items() for word in pair))
    assert (options.cluster, options.cluster_key, options.engine) == tuple(WHOLE.values())
    for left_out in WHOLE:
        words = [word for option, value in WHOLE.items() if option != left_out for word in (option, value)]
        if left_out != "--cluster":
            with pytest.raises(UsageError, match="give --cluster, --cluster-key and --engine"):
                options_of(*words)
    with pytest.raises(UsageError, match="small letters"):
        options_of("--cluster", "Our Team")


def test_a_url_that_is_no_engine_s_is_a_usage_error() -> None:
    words = [word for option, value in {**WHOLE, "--engine": "http://one"}.items() for word in (option, value)]
    with pytest.raises(UsageError, match="an engine is named by the URL of a server"):
        cluster_of(options_of(*words))


def test_a_key_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "key")
    assert main(["web", "cluster-key", path]) == 0
    assert "who has it has all its accounts" in capsys.readouterr().err
    assert main(["web", "cluster-key", path]) == 1
    assert "there is a file" in capsys.readouterr().err


async def test_an_account_of_one_process_signs_in_at_another(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    engine = NatsServer("-js", "-sd", str(tmp_path / "engine"))
    key = tmp_path / "key"
    make_key_file(key)
    words = ("--cluster", "team", "--cluster-key", str(key), "--engine", engine.url)
    try:
        async with (
            gateway(tmp_path, "--name", "one", *words) as one,
            gateway(tmp_path, "--name", "two", *words, "--data", str(tmp_path / "two")) as two,
        ):
            for gate in (one, two):
                while not any(line["event"] == "cluster" and line["state"] == "up" for line in gate.lines):
                    await gate.line("cluster")
            async with (
                httpx.AsyncClient(base_url=one.url, timeout=WAIT, trust_env=False) as at_one,
                httpx.AsyncClient(base_url=two.url, timeout=WAIT, trust_env=False) as at_two,
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
