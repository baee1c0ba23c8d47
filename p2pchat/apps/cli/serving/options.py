"""`p2pchat web HTTP_PORT [HOST:PORT ...]`: its words and options into one record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from p2pchat.apps.cli.peeroptions import PeerOptions
from p2pchat.cli.options import database_url
from p2pchat.commands.endpoints import LOOPBACK, is_loopback, parse_endpoint, parse_port
from p2pchat.commands.errors import Usage

_EXAMPLE = "for example: p2pchat web 8000 (--help web shows more)"


@dataclass(slots=True)
class WebOptions(PeerOptions):
    """`p2pchat web HTTP_PORT [HOST:PORT ...]`; `http_port` 0 is any free one, `port` is the peer's own."""

    http_port: int = 0
    http_host: str = LOOPBACK
    sign_up: str = ""
    trust_loopback: bool = False
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = ""
    as_json: bool = False
    log: str = ""
    verbose: bool = False
    warnings: tuple[str, ...] = ()


def parse_serving(words: Sequence[str], given: dict[str, Any], typed: set[str]) -> WebOptions:
    """Read the words and values of `web HTTP_PORT [HOST:PORT ...]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    if not words:
        raise Usage(f"which port is the page to have? {_EXAMPLE}")
    http_port = parse_port(words[0], "port for the page", lowest=0)
    for one, other in (("temp", "data"), ("as_json", "plain"), ("open_network", "invite")):
        if given[one] and given[other]:
            raise Usage(f"--{_shown(one)} and --{_shown(other)} exclude each other")
    if given["sign_up"] not in (None, "", "open", "token"):
        raise Usage(f"--sign-up is open or token, not {given['sign_up']!a}")
    options = WebOptions(
        http_port=http_port,
        port=_peer_port(http_port, given["port"]),
        endpoints=tuple(parse_endpoint(word) for word in words[1:]),
        http_host=given["http_host"] or LOOPBACK,
        sign_up=given["sign_up"] or "",
        trust_loopback=given["trust_loopback"],
        origins=_list(given["origin"]),
        trusted_proxies=_list(given["trusted_proxy"]),
        root_path=_path(given["root_path"] or ""),
        name=given["name"] or "",
        host=given["host"] or LOOPBACK,
        data=given["data"] or "",
        temp=given["temp"],
        db=database_url(given["db"]),
        key=given["key"] or "",
        invite=given["invite"] or "",
        open_network=given["open_network"],
        advertise=parse_endpoint(given["advertise"]) if given["advertise"] else "",
        discover=given["discover"],
        as_json=given["as_json"],
        log=given["log"] or "",
        verbose=given["verbose"],
    )
    options.warnings = (*options.secrets_on_the_command_line(typed), *_about_tls(options))
    return options


def _shown(name: str) -> str:
    return {"as_json": "json", "open_network": "open"}.get(name, name)


def _peer_port(http_port: int, given: str | None) -> int:
    if given is not None:
        port = parse_port(given, "port", lowest=0)
        if port and port == http_port:
            raise Usage(f"the page and the peer need a port each: leave --port out, or take another than {port}")
        return port
    if http_port == 65535:
        raise Usage("with the page on 65535 name the peer's own port with --port")
    return http_port + 1 if http_port else 0


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(word for word in (text or "").replace(",", " ").split() if word)


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise Usage(f"--root-path begins with a slash, as /chat: {text!a} does not")
    return text.rstrip("/")


def _about_tls(options: WebOptions) -> Iterator[str]:
    has_tls = bool(options.origins) and all(origin.startswith("https://") for origin in options.origins)
    if not is_loopback(options.http_host) and not has_tls:
        yield (
            "the page has no TLS: what others send, tokens too, can be read on the way; "
            "put a reverse proxy in front (docs/operations.md)"
        )
