"""`p2pchat web`: a gateway (serving/), or the accounts of one: made, listed, revoked, beside it or without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from p2pchat import DataLocked
from p2pchat.cli.command_table import WEB_COMMAND
from p2pchat.cli.control_client import connect, profile_in_use
from p2pchat.cli.control_server import ACCOUNT_REQUESTS
from p2pchat.cli.loop import make_runner
from p2pchat.cli.options import PeerOptions, ProfileChoice, database_url, find_profile, parse_words, which_peer
from p2pchat.commands.endpoints import LOOPBACK, is_loopback, parse_endpoint, parse_port
from p2pchat.commands.errors import DONE, NO_SUCH_NAME, CommandError, UsageError, print_error, print_notice
from p2pchat.commands.output import EventLine, json_line
from p2pchat.commands.render import quote_name

ABOUT_ACCOUNTS = {"token": 1, "users": 0, "revoke": 1}  # and how many names each takes


@dataclass(slots=True)
class AccountOptions:
    """`p2pchat web token NAME`, `web users`, `web revoke NAME`."""

    do: str
    which: ProfileChoice
    name: str = ""
    db: str = ""
    as_json: bool = False


def run_web(argv: Sequence[str]) -> int:
    """Run a gateway, or look after its accounts; return the exit code."""
    words, given, typed = parse_words(WEB_COMMAND, argv)
    if words and words[0] in ABOUT_ACCOUNTS:
        options = parse_accounts(words, given, typed)
        return asyncio.run(_carry_out(options, find_profile(options.which).expanduser().absolute()))
    return _serve(words, given, typed)


def _serve(words: Sequence[str], given: dict[str, Any], typed: set[str]) -> int:
    from p2pchat.cli.chat.startup import allow_descriptors
    from p2pchat.cli.stdin import InputEnded, read_invite, stdin_kind
    from p2pchat.commands.notifications import show_library_logs

    options = parse_serving(words, given, typed)
    require_extra()
    for warning in options.warnings:
        print_error(f"warning: {warning}")
    if options.verbose:
        show_library_logs()
    allow_descriptors(MOST_DESCRIPTORS)
    try:
        invite = read_invite(options.invite, stdin_kind())
    except InputEnded:
        return DONE
    from p2pchat.cli.subcommands.web_server import GatewayRun

    with make_runner() as runner:
        return runner.run(GatewayRun(options, invite).run())


MOST_DESCRIPTORS = 8192  # sessions, calls that wait for nothing, links, and the database


def require_extra() -> None:
    """Raise Failure with one line when the web gateway cannot be imported here."""
    for name in ("fastapi", "prometheus_client", "segno", "socketio", "uvicorn", "websockets"):
        if find_spec(name) is None:
            raise CommandError(
                f"the web gateway needs {name}, which is not installed: install the extra `web`, p2pchat-mesh[web]"
            )


# ---- accounts


def parse_accounts(words: Sequence[str], given: dict[str, Any], typed: set[str]) -> AccountOptions:
    """Read `token NAME`, `users` or `revoke NAME`.

    Raises:
        Usage: What was written cannot be meant.
    """
    do, *names = words
    if len(names) != ABOUT_ACCOUNTS[do] or not all(names):
        takes = "one NAME" if ABOUT_ACCOUNTS[do] else "no words, only options"
        raise UsageError(f"web {do} takes {takes}, for example: p2pchat web {do}{' zoe' if ABOUT_ACCOUNTS[do] else ''}")
    db = database_url(given["db"])
    if db.startswith("memory:"):
        raise UsageError(
            "memory:// would be gone with this command: leave --db out, or do it beside the running gateway"
        )
    return AccountOptions(do, which_peer(given, typed), names[0] if names else "", db, given["as_json"])


async def _carry_out(options: AccountOptions, directory: Path) -> int:
    fields = {"name": options.name} if options.name else {}
    rows = await _asked(directory, f"web_{options.do}", fields)
    if rows is None:
        rows = await _alone(options, directory)
    return REPORTS[options.do](options, rows)


async def _asked(directory: Path, do: str, fields: dict[str, str]) -> list[EventLine] | None:
    """Have the running peer do it; None when none runs there."""
    control = await connect(directory)
    if control is None:
        return None
    try:
        return await control.ask(do, **fields)
    finally:
        await control.aclose()


async def _alone(options: AccountOptions, directory: Path) -> list[EventLine]:
    from p2pchat import open_alone
    from p2pchat.web.accounts import open_accounts

    try:
        async with open_alone(directory, db=options.db or None) as peer:
            return await ACCOUNT_REQUESTS[f"web_{options.do}"](await open_accounts(peer), options.name)
    except DataLocked as locked:
        raise profile_in_use(directory, locked) from None


def _report_token(options: AccountOptions, rows: list[EventLine]) -> int:
    [row] = rows
    if options.as_json:
        print(json_line(row), flush=True)
        return DONE
    print(row["token"], flush=True)
    print_notice(
        f"-- this is {quote_name(row['user'])}: whoever has this token. It is shown once; a former one has ended"
    )
    return DONE


def _report_users(options: AccountOptions, rows: list[EventLine]) -> int:
    for row in rows:
        if options.as_json:
            print(json_line(row), flush=True)
        else:
            open_now = f", {row['sessions']} open" if row["sessions"] else ""
            print(f"{quote_name(row['user'])}  {row['state']}{open_now}", flush=True)
    return DONE


def _report_revoked(options: AccountOptions, rows: list[EventLine]) -> int:
    if not rows:
        print_error(f"there is no account {options.name!a}; `p2pchat web users` lists them")
        return NO_SUCH_NAME
    if options.as_json:
        print(json_line(rows[0]), flush=True)
    else:
        print_notice(f"-- the token of {quote_name(rows[0]['user'])} has ended; `p2pchat web token` gives another")
    return DONE


REPORTS: dict[str, Callable[[AccountOptions, list[EventLine]], int]] = {
    "token": _report_token,
    "users": _report_users,
    "revoke": _report_revoked,
}


# ---- options
#
# `p2pchat web HTTP_PORT [HOST:PORT ...]`: its words and options into one record.


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
        raise UsageError(f"which port is the page to have? {_EXAMPLE}")
    http_port = parse_port(words[0], "port for the page", lowest=0)
    for one, other in (("temp", "data"), ("as_json", "plain"), ("open_network", "invite")):
        if given[one] and given[other]:
            raise UsageError(f"--{_shown(one)} and --{_shown(other)} exclude each other")
    if given["sign_up"] not in (None, "", "open", "token"):
        raise UsageError(f"--sign-up is open or token, not {given['sign_up']!a}")
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
            raise UsageError(f"the page and the peer need a port each: leave --port out, or take another than {port}")
        return port
    if http_port == 65535:
        raise UsageError("with the page on 65535 name the peer's own port with --port")
    return http_port + 1 if http_port else 0


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(word for word in (text or "").replace(",", " ").split() if word)


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise UsageError(f"--root-path begins with a slash, as /chat: {text!a} does not")
    return text.rstrip("/")


def _about_tls(options: WebOptions) -> Iterator[str]:
    has_tls = bool(options.origins) and all(origin.startswith("https://") for origin in options.origins)
    if not is_loopback(options.http_host) and not has_tls:
        yield (
            "the page has no TLS: what others send, tokens too, can be read on the way; "
            "put a reverse proxy in front (docs/operations.md)"
        )
