"""`p2pchat web --cluster`: its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat.__main__ import main
from p2pchat.cli.gateway_run import cluster_of
from p2pchat.cli.profiles import WebOptions
from p2pchat.cli.subcommands.web import serve, web_options
from p2pchat.commands.exit_codes import UsageError

WHOLE = {"--cluster": "team", "--cluster-key": "key", "--engine": "nats://engine"}


def options_of(*words: str) -> WebOptions:
    return web_options(serve.make_context("web", ["8000", *words]).params)


def test_a_cluster_has_a_name_a_key_and_an_engine() -> None:
    options = options_of(*(word for pair in WHOLE.items() for word in pair))
    assert (options.cluster, options.cluster_key, options.engine) == tuple(WHOLE.values())
    for left_out in WHOLE:
        words = [word for option, value in WHOLE.items() if option != left_out for word in (option, value)]
        for given in (words, ["--engine-credentials", "file"], [left_out, WHOLE[left_out]]):
            with pytest.raises(UsageError, match="give --cluster, --cluster-key and --engine"):
                options_of(*given)
    with pytest.raises(UsageError, match="small letters"):
        options_of("--cluster", "Our Team")


def test_a_url_that_is_no_engine_s_is_a_usage_error() -> None:
    words = [word for option, value in {**WHOLE, "--engine": "http://one"}.items() for word in (option, value)]
    with pytest.raises(UsageError, match="an engine is named by the URL of a server"):
        cluster_of(options_of(*words))


def test_a_key_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "key")
    assert main(["web", "cluster-key", path]) == 0
    said = capsys.readouterr().err
    assert "who has it has all its accounts" in said and "member make each gateway that has them a member" in said
    assert main(["web", "cluster-key", path]) == 1
    assert "there is a file" in capsys.readouterr().err


def test_the_option_needs_a_cluster() -> None:
    with pytest.raises(UsageError, match="--safe waits for a second gateway of a cluster"):
        web_options(serve.make_context("web", ["8000", "--safe"]).params)
