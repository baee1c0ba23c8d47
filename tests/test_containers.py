"""The files of deploy/: they name files, extras, options and variables that exist. No test builds an image."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from p2pchat.cli.subcommands.web import serve, web_options
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


# ---- a cluster

yaml: Any = pytest.importorskip("yaml")  # comes with mkdocs
CLUSTER = DEPLOY / "cluster"
GATEWAY_WORDS = [
    "web",
    "8000",
    "--http-host",
    "0.0.0.0",
    "--host",
    "0.0.0.0",
    "--port",
    "8001",
    "--json",
]
BALANCER = (CLUSTER / "haproxy.cfg").read_text("utf-8")
NATS_WORDS = ("-js", "-sd", "-m", "-n", "--cluster_name", "--cluster", "--routes")


def check_gateway(words: list[str], variables: dict[str, str], data: str) -> None:
    """Check that a gateway of a cluster understands its command line and environment, as a start would."""
    assert words == [*GATEWAY_WORDS, "--data", data]
    known = {option.envvar: option for option in serve.params}
    assert variables.keys() - {"P2PCHAT_HOME"} <= known.keys()
    asked = [word for name, value in variables.items() for word in _words(known.get(name), value)]
    options = web_options(
        serve.make_context("web", [*words[1:], *asked, *variables["P2PCHAT_ENDPOINTS"].split()]).params
    )
    assert (options.cluster, options.engine.count("nats://"), len(options.endpoints)) == ("team", 3, 3)
    assert options.sign_up == "token" and options.trusted_proxies and options.advertise in options.endpoints


def _words(option: click.Parameter | None, value: str) -> list[str]:
    return [option.opts[0], value] if isinstance(option, click.Option) else []


def test_compose_starts_a_cluster_with_options_that_exist() -> None:
    site = "https://chat.example.org"
    text = (CLUSTER / "compose.yaml").read_text("utf-8")
    made = yaml.safe_load(re.sub(r"https://\$\{SITE:.*?\}", site, text))
    gateways = [one for name, one in made["services"].items() if name.startswith("gateway")]
    engines = [one for name, one in made["services"].items() if name.startswith("nats")]
    assert len(gateways) == len(engines) == 3
    for one in gateways:
        variables: dict[str, str] = one["environment"]
        check_gateway(one["command"], variables, "/data")
        name = variables["P2PCHAT_NAME"]
        assert made["services"][name] is one and f"server {name} {name}:8000\n" in BALANCER
        assert (CLUSTER / one["build"]["context"] / one["build"]["dockerfile"]).exists()
        assert f"{name}:/data" in one["volumes"] and variables["P2PCHAT_ADVERTISE"] == f"{name}:8001"
        assert variables["P2PCHAT_TRUSTED_PROXY"] == made["services"]["balancer"]["networks"]["inside"]["ipv4_address"]
        assert "/shared" in DOCKERFILE and variables["P2PCHAT_CLUSTER_KEY"].startswith("/shared/")
    for one in engines:
        assert [word for word in one["command"] if word.startswith("-")] == list(NATS_WORDS)
    used = {volume.partition(":")[0] for one in (*gateways, *engines) for volume in one["volumes"]}
    assert used == made["volumes"].keys()


def test_kubernetes_starts_a_cluster_with_options_that_exist() -> None:
    made = [*yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text("utf-8"))]
    sets = {one["metadata"]["name"]: one for one in made if one["kind"] == "StatefulSet"}
    services = {one["metadata"]["name"] for one in made if one["kind"] == "Service"}
    assert all(one["spec"]["serviceName"] in services and one["spec"]["replicas"] == 3 for one in sets.values())
    pod = sets["gateway"]["spec"]["template"]["spec"]
    (gateway,) = pod["containers"]
    variables = {one["name"]: _value(one, "gateway-0") for one in gateway["env"]}
    check_gateway(gateway["args"], variables, "/data/gateway")
    (keys,) = pod["initContainers"]
    copied = f"chmod 600 /data/gateway/network /data/gateway/member {variables['P2PCHAT_CLUSTER_KEY']}"
    assert copied in keys["command"][-1]
    host = variables["P2PCHAT_ORIGIN"].removeprefix("https://")
    probes = [gateway[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]
    assert [one["path"] for one in probes] == ["/healthz", "/readyz"]
    assert all(one["httpHeaders"] == [{"name": "Host", "value": host}] for one in probes)
    (engine,) = sets["nats"]["spec"]["template"]["spec"]["containers"]
    assert [word for word in engine["args"] if word.startswith("-")] == list(NATS_WORDS)


def _value(variable: dict[str, Any], pod: str) -> str:
    """Return the value that a pod of this name has."""
    return str(variable.get("value", pod)).replace("$(P2PCHAT_NAME)", pod)


def caddyfile() -> str:
    return (DEPLOY / "Caddyfile").read_text("utf-8")
