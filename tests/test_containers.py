"""The files of deploy/: they name files, extras, options and variables that exist. No test builds an image."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import click

from p2pchat.cli.subcommands.web import serve
from tests.docs.pages import blocks

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")


def test_the_image_installs_extras_that_exist_from_files_that_are_not_ignored() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = re.search(r'pip install --no-cache-dir "\.\[([\w,]+)\]"', DOCKERFILE)
    assert extras is not None
    assert {"web", "postgresql"} <= set(extras[1].split(",")) <= project["optional-dependencies"].keys()
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8")
    kept = [line[1:] for line in ignore.splitlines() if line.startswith("!")]
    assert {"p2pchat", "pyproject.toml", "README.md", *project["license-files"]} == set(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_runs_a_gateway_at_the_ports_it_exposes() -> None:
    (command,) = (json.loads(words) for words in re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.M))
    assert command[0] == "web"
    options = serve.make_context("web", command[1:]).params
    (exposed,) = re.findall(r"^EXPOSE (\d+) (\d+)$", DOCKERFILE, re.M)
    assert (options["http_port"], options["port"]) == tuple(map(int, exposed))
    assert f"127.0.0.1:{exposed[0]}/healthz" in DOCKERFILE
    assert options["data"].startswith("/data/") and "VOLUME /data" in DOCKERFILE
    assert options["data"] in COMPOSE.partition("services:")[0]  # in the command that makes an account


def test_compose_names_variables_that_exist_and_addresses_that_agree() -> None:
    variables = {option.envvar for option in serve.params if isinstance(option, click.Option)}
    used = set(re.findall(r"^ +(P2PCHAT_\w+):", COMPOSE, re.M))
    assert {"P2PCHAT_ORIGIN", "P2PCHAT_TRUSTED_PROXY", "P2PCHAT_DB"} <= used <= variables
    trusted = re.search(r"P2PCHAT_TRUSTED_PROXY: (\S+)", COMPOSE)
    assert trusted is not None and f"ipv4_address: {trusted[1]}\n" in COMPOSE
    assert "dockerfile: deploy/Dockerfile\n" in COMPOSE and "- ./Caddyfile:" in COMPOSE
    hosts = {re.search(r"@(\w+)/p2pchat", COMPOSE), re.search(r"reverse_proxy (\w+):", caddyfile())}
    assert all(host is not None and f"\n  {host[1]}:\n" in COMPOSE for host in hosts)


def test_the_proxy_is_configured_as_documented() -> None:
    pages = blocks((ROOT / "docs" / "operations.md").read_text("utf-8"))
    (documented,) = (one.text for one in pages if one.attributes.get("file") == "Caddyfile")
    assert caddyfile().strip() == documented.replace("chat.example.org", "{$SITE}").replace("127.0.0.1", "gateway")


def caddyfile() -> str:
    return (DEPLOY / "Caddyfile").read_text("utf-8")
