"""The command `p2pchat web`: a gateway, and the commands about its accounts, with or without a running gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from p2pchat.addresses import is_loopback
from p2pchat.cli import options as cli
from p2pchat.cli.control_client import ask_profile, print_rows
from p2pchat.cli.process import allow_descriptors, make_runner, show_library_logs
from p2pchat.cli.profiles import (
    WebOptions,
    find_profile,
    is_gateways,
    parsed_options,
    read_peer_invite,
)
from p2pchat.cli.standard_input import agreed
from p2pchat.commands.endpoints import parse_port
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import DONE, FAILED, NO_SUCH_NAME, CommandError, UsageError, print_error, print_notice
from p2pchat.commands.standard_output import print_json
from p2pchat.extras import missing_extra
from p2pchat.safe_text import quote_name, safe_line
from p2pchat.web import WebSettings

MAX_IDLE = 36_500  # days: a hundred years
MAX_DESCRIPTORS = 8192  # sessions, calls that wait for nothing, links, and the database


def _parse_path(text: str) -> str:
    if text and not text.startswith("/"):
        raise UsageError(f"--root-path begins with a slash, as /chat: {text!r} does not")
    return text.rstrip("/")


def _parse_cluster(text: str) -> str:
    from p2pchat.web.cluster.cluster_key import parse_cluster_name

    try:
        return parse_cluster_name(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_engine(ctx: click.Context, option: click.Parameter, value: str | None) -> str:
    if value and "@" in value:
        cli.warn_if_typed(ctx, option, "password", "P2PCHAT_ENGINE")
    return value or ""


_DELETED = f"is deleted; nobody gets the name for {WebSettings().name_kept_days} days"
LIST = cli.ParsedType("list", lambda text: tuple(text.replace(",", " ").split()))

EPILOG = """\
`web token NAME` makes an account, or gives one a new token, which is shown once; `web users` lists accounts; \
`web revoke NAME` ends its tokens and all sessions; `web accounts` renames and deletes accounts. `key/42` names the \
user whom a program hosts under the key 42. They work with or \
without a running gateway.

\b
Examples:
  p2pchat web 8000                       for this machine
  p2pchat 8002 8001 --name bob           a terminal beside it: the peer is on 8001
  p2pchat web 8000 --http-host 0.0.0.0   for others, who need accounts:
  p2pchat web token zoe

Exit codes: 0 stopped in good order; 1 failure; 2 usage; 4 no such name; 130 interrupted.
"""


@cli.subcommand("serve", EPILOG)
@click.argument(
    "http_port",
    required=False,
    type=cli.ParsedType("port", lambda text: parse_port(text, "port for the page", lowest=0)),
)
@cli.endpoints_argument
@cli.option(
    "--http-host",
    "ADDR",
    "where the page listens (default 127.0.0.1; 0.0.0.0 or :: for others)",
    callback=cli.without_brackets,
)
@cli.option(
    "--sign-up", "WHO", "open: anyone may register; token: only `web token NAME`", type=click.Choice(["open", "token"])
)
@cli.option(
    "--invites",
    "WHO",
    "accounts that may make invites, each for one person: off (default if others can sign in); operator: those on "
    "this machine; all",
    type=click.Choice(["off", "operator", "all"]),
)
@cli.option("--trust-loopback", "", "callers on this machine that carry no token say who they are")
@cli.option(
    "--origin origins", "URL", "where browsers find it, as https://chat.example.org; several with commas", type=LIST
)
@cli.option("--trusted-proxy trusted_proxies", "ADDR", "reverse proxies whose X-Forwarded-For is believed", type=LIST)
@cli.option(
    "--auth-header", "HEADER", "the header in which a --trusted-proxy says who a caller is, as X-Forwarded-User"
)
@cli.option(
    "--root-path",
    "PATH",
    "the path a reverse proxy has put in front of it, as /chat",
    type=cli.ParsedType("path", _parse_path),
)
@cli.option(
    "--cluster",
    "NAME",
    "one of several gateways with one set of accounts, kept in the --engine",
    type=cli.ParsedType("name", _parse_cluster),
)
@cli.option(
    "--cluster-key", "FILE", "the key of the cluster: `web cluster-key FILE` makes it", shell_complete=cli.complete_file
)
@cli.option(
    "--engine",
    "URL",
    "the NATS server of the cluster (nats-server -js): nats://HOST:4222, several with commas (extra: nats)",
    callback=_check_engine,
)
@cli.option(
    "--engine-credentials", "FILE", "signs in there: .creds, or an nkey's seed", shell_complete=cli.complete_file
)
@cli.option("--safe", "", "in a cluster: answer to a message once a second gateway has it, or say that none has")
@cli.option(
    "--port",
    "PORT",
    "the peer's own port (default: HTTP_PORT + 1)",
    type=cli.PORT_OR_ANY,
    shell_complete=cli.complete_port,
)
@cli.peer_options
@cli.verbose_option
def serve(**values: Any) -> int:
    """Run a gateway for browsers, scripts with curl, and Socket.IO clients.

    Each of their users has a key of its own and is an equal of those in a terminal. HTTP_PORT is where the page is;
    HOST:PORT are peers to link with.
    """
    from p2pchat.cli.standard_input import InputEnded, stdin_kind

    options = web_options(values)
    require_extra()
    show_library_logs(verbose=options.verbose)
    allow_descriptors(MAX_DESCRIPTORS)
    try:
        invite = read_peer_invite(options, stdin_kind())
    except InputEnded:
        return DONE
    from p2pchat.cli.gateway_run import GatewayRun

    with make_runner() as runner:
        return runner.run(GatewayRun(options, invite).run())


def web_options(values: dict[str, Any]) -> WebOptions:
    """Return the options of a parsed command line; complains when tokens would be sent in the clear."""
    if values["http_port"] is None:
        raise UsageError("missing HTTP_PORT, for example: p2pchat web 8000 (--help shows more)")
    options = parsed_options(WebOptions, {**values, "port": _peer_port(values)})
    whole = (options.cluster, options.cluster_key, options.engine)
    if any((*whole, options.engine_credentials)) and not all(whole):
        raise UsageError("a cluster has a name, a key and an engine: give --cluster, --cluster-key and --engine")
    if options.safe and not options.cluster:
        raise UsageError("--safe waits for a second gateway of a cluster: give --cluster, or leave it out")
    has_tls = bool(options.origins) and all(origin.startswith("https://") for origin in options.origins)
    if not is_loopback(options.http_host) and not has_tls:
        print_error(
            "warning: the page has no TLS: what others send, tokens too, can be read on the way; "
            "put a reverse proxy in front (docs/operations.md)"
        )
    if options.invites == "all":
        print_error(
            "warning: with --invites all every account can let others into the network, who stay when the account is "
            "revoked or deleted: /members says who came by which invite, and /expel ends it"
        )
    return options


def _peer_port(values: dict[str, Any]) -> int:
    http_port: int = values["http_port"]
    given: int | None = values.get("port")
    if given is not None:
        if given and given == http_port:
            raise UsageError(f"the page and the peer need a port each: leave --port out, or use another than {given}")
        return given
    if http_port == 65535:
        raise UsageError("with the page on 65535 name the peer's own port with --port")
    return http_port + 1 if http_port else 0


def require_extra() -> None:
    """Raise CommandError with one line when the web gateway cannot be imported here."""
    for name in ("fastapi", "prometheus_client", "socketio", "uvicorn", "websockets"):
        if find_spec(name) is None:
            raise CommandError(missing_extra(f"the web gateway needs {name}", "web"))


# ---- accounts


@click.group("web", cls=cli.CommandGroup, add_help_option=False)
def web() -> None:
    """Run a gateway, or manage its accounts."""


web.default = serve


label_option: Callable[[cli.Function], cli.Function] = cli.option(
    "--label", "LABEL", "one of several tokens of the account, as phone", default=""
)


@web.command("token")
@click.argument("name")
@label_option
@cli.stored_options
@cli.json_option
def token(profile: cli.ProfileChoice, name: str, label: str, db: str, as_json: bool) -> int:
    """Make an account, or a new token for one. The token is shown once; an older one with its label ends."""
    [row] = _request(profile, db, "web_token", name=name, label=label)
    if as_json:
        print_json(row)
        return DONE
    print(row["token"], flush=True)
    print_notice(f"-- anyone with this token is {quote_name(row['user'])}. It is shown once; an older token has ended")
    return DONE


@web.command("users")
@cli.stored_options
@cli.json_option
def users(profile: cli.ProfileChoice, db: str, as_json: bool) -> int:
    """List the accounts, with the day (UTC) on which each was used last."""
    print_rows(_request(profile, db, "web_users"), as_json, _account_line)
    return DONE


def _account_line(row: EventLine, now: datetime) -> str:
    tokens = "".join(f"; {token['label']}, used {token['used']}" for token in row["tokens"])
    return f"{quote_name(row['user'])}  {row['state']}, used {row['used']}{_where(row)}{tokens}"


def _where(row: EventLine) -> str:
    """Return how many sessions an account has here, or that only other gateways of the cluster host it."""
    if row.get("elsewhere"):
        return ", at other gateways"
    return f", {row['sessions']} open" if row["sessions"] else ""


@web.command("revoke")
@click.argument("name")
@label_option
@cli.stored_options
@cli.json_option
def revoke(profile: cli.ProfileChoice, name: str, label: str, db: str, as_json: bool) -> int:
    """End the tokens of an account, or the one with a label, and the sessions opened with them."""
    rows = _request(profile, db, "web_revoke", name=name, label=label)
    return _show(rows, name, as_json, "has no such token any more; `p2pchat web token` gives another")


@web.command("cluster-key")
@click.argument("file", type=click.Path(path_type=Path))
def cluster_key(file: Path) -> int:
    """Make the key of a cluster, and beside it the files of its member of this login's network: network and member.

    Copy all three to all its gateways, and to nobody else: network and member into their data directories.
    """
    from p2pchat import P2PChatError, home_directory, make_member
    from p2pchat.web.cluster.cluster_key import make_key_file

    make_key_file(file)
    print_notice(f"-- {file} is the key of a new cluster: who has it has all its accounts")
    directory = file.absolute().parent
    if directory == home_directory():
        return DONE  # gateways of one home are of its login
    try:
        make_member(directory)
    except P2PChatError as error:
        print_notice(f"-- no member was made for it ({error}): let each gateway join with --invite")
    else:
        print_notice(f"-- {directory / 'network'} and {directory / 'member'} make each gateway that has them a member")
    return DONE


@web.group("accounts", cls=cli.CommandGroup, no_args_is_help=False)
def accounts() -> None:
    """List accounts, rename one, or delete some.

    The user of a deleted account is gone: its key is deleted, its token is of no use, its connections end. Nobody gets
    the name for 90 days, then anyone, with another key. What it wrote stays where it is.
    """


@accounts.command("rename")
@click.argument("name")
@click.argument("new_name")
@cli.stored_options
@cli.json_option
def accounts_rename(profile: cli.ProfileChoice, name: str, new_name: str, db: str, as_json: bool) -> int:
    """Give an account another name. Its key, its tokens and what it wrote stay."""
    return _show(_request(profile, db, "web_rename", name=name, new_name=new_name), name, as_json, "is the new name")


@accounts.command("delete")
@click.argument("name")
@cli.stored_options
@cli.yes_option
@cli.json_option
def accounts_delete(profile: cli.ProfileChoice, name: str, db: str, yes: bool, as_json: bool) -> int:
    """Delete an account. It cannot be undone."""
    if not agreed(f"the key of {safe_line(name)} is deleted for good", "Delete the account?", yes):
        return FAILED
    return _show(_request(profile, db, "web_delete", name=name), name, as_json, _DELETED)


@accounts.command("purge")
@cli.option(
    "--idle", "DAYS", "delete what nobody has used for so many days", type=click.IntRange(1, MAX_IDLE), required=True
)
@cli.stored_options
@cli.json_option
def accounts_purge(profile: cli.ProfileChoice, idle: int, db: str, as_json: bool) -> int:
    """Delete the accounts that nobody has used for some days. It cannot be undone.

    Accounts with open connections stay, and so do revoked ones, whose names nobody may get.
    """
    rows = _request(profile, db, "web_purge", idle=idle)
    if not rows and not as_json:
        print_notice(f"-- nothing here is idle for {idle} days")
    for row in rows:
        _show([row], "", as_json, _DELETED)
    return DONE


def _show(rows: list[EventLine], name: str, as_json: bool, what: str) -> int:
    """Print what became of an account; return the exit code."""
    if not rows:
        print_error(f"there is no account {name!r}, or no such token of it; `p2pchat web users` lists them")
        return NO_SUCH_NAME
    if as_json:
        print_json(rows[0])
    else:
        print_notice(f"-- {quote_name(rows[0]['user'])} {what}")
    return DONE


def _request(profile: cli.ProfileChoice, db: str, do: str, **fields: Any) -> list[EventLine]:
    """Have the peer of a profile carry out a request about accounts."""
    if db.startswith("memory:"):
        raise UsageError(
            "memory:// would be gone with this command: leave --db out, or do it beside the running gateway"
        )
    directory = find_profile(profile, acts=True, of_gateways=True)
    if not is_gateways(directory):
        raise UsageError(f"no gateway has run in {directory}: choose one with --port PORT (its peer's), or --data DIR")
    return asyncio.run(ask_profile(directory, db, do, **fields))
