"""`p2pchat web`: a gateway (serving/), or the accounts of one: made, listed, revoked, beside it or without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from p2pchat import DataLocked
from p2pchat.apps.cli.control.accounts import ACCOUNT_ORDERS
from p2pchat.apps.cli.control.reach import answers_nobody
from p2pchat.apps.cli.profiles import find_profile
from p2pchat.apps.cli.registry.web import COMMAND
from p2pchat.cli.control_client import connect
from p2pchat.cli.loop import make_runner
from p2pchat.cli.options import WhichPeer, database_url, parse_words, which_peer
from p2pchat.commands.errors import DONE, NO_SUCH_NAME, Failure, Usage, complain, tell
from p2pchat.commands.format import shown_name
from p2pchat.commands.output import Line, json_line

ABOUT_ACCOUNTS = {"token": 1, "users": 0, "revoke": 1}  # and how many names each takes


@dataclass(slots=True)
class AccountOptions:
    """`p2pchat web token NAME`, `web users`, `web revoke NAME`."""

    do: str
    which: WhichPeer
    name: str = ""
    db: str = ""
    as_json: bool = False


def run_web(argv: Sequence[str]) -> int:
    """Run a gateway, or look after its accounts; return the exit code."""
    words, given, typed = parse_words(COMMAND, argv)
    if words and words[0] in ABOUT_ACCOUNTS:
        options = parse_accounts(words, given, typed)
        return asyncio.run(_carry_out(options, find_profile(options.which).expanduser().absolute()))
    return _serve(words, given, typed)


def _serve(words: Sequence[str], given: dict[str, Any], typed: set[str]) -> int:
    from p2pchat.apps.cli.asking import NothingSaid, read_invite
    from p2pchat.apps.cli.chat.descriptors import allow_descriptors
    from p2pchat.apps.cli.chat.diagnostics import tell_diagnostics
    from p2pchat.apps.cli.serving.options import parse_serving
    from p2pchat.cli.stdin import kind_of_stdin

    options = parse_serving(words, given, typed)
    require_extra()
    for warning in options.warnings:
        complain(f"warning: {warning}")
    if options.verbose:
        tell_diagnostics()
    allow_descriptors(MOST_DESCRIPTORS)
    try:
        invite = read_invite(options.invite, kind_of_stdin())
    except NothingSaid:
        return DONE
    from p2pchat.apps.cli.serving.run import Serving

    with make_runner() as runner:
        return runner.run(Serving(options, invite).run())


MOST_DESCRIPTORS = 8192  # sessions, calls that wait for nothing, links, and the database


def require_extra() -> None:
    """Raise Failure with one line when the web gateway cannot be imported here."""
    for name in ("fastapi", "prometheus_client", "segno", "socketio", "uvicorn", "websockets"):
        if find_spec(name) is None:
            raise Failure(
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
        raise Usage(f"web {do} takes {takes}, for example: p2pchat web {do}{' zoe' if ABOUT_ACCOUNTS[do] else ''}")
    db = database_url(given["db"])
    if db.startswith("memory:"):
        raise Usage("memory:// would be gone with this command: leave --db out, or do it beside the running gateway")
    return AccountOptions(do, which_peer(given, typed), names[0] if names else "", db, given["as_json"])


async def _carry_out(options: AccountOptions, directory: Path) -> int:
    fields = {"name": options.name} if options.name else {}
    rows = await _asked(directory, f"web_{options.do}", fields)
    if rows is None:
        rows = await _alone(options, directory)
    return REPORTS[options.do](options, rows)


async def _asked(directory: Path, do: str, fields: dict[str, str]) -> list[Line] | None:
    """Have the running peer do it; None when none runs there."""
    control = await connect(directory)
    if control is None:
        return None
    try:
        return await control.ask(do, **fields)
    finally:
        await control.aclose()


async def _alone(options: AccountOptions, directory: Path) -> list[Line]:
    from p2pchat import open_alone
    from p2pchat.web.accounts import open_accounts

    try:
        async with open_alone(directory, db=options.db or None) as peer:
            return await ACCOUNT_ORDERS[f"web_{options.do}"](await open_accounts(peer), options.name)
    except DataLocked as locked:
        raise answers_nobody(directory, locked) from None


def _report_token(options: AccountOptions, rows: list[Line]) -> int:
    [row] = rows
    if options.as_json:
        print(json_line(row), flush=True)
        return DONE
    print(row["token"], flush=True)
    tell(f"-- this is {shown_name(row['user'])}: whoever has this token. It is shown once; a former one has ended")
    return DONE


def _report_users(options: AccountOptions, rows: list[Line]) -> int:
    for row in rows:
        if options.as_json:
            print(json_line(row), flush=True)
        else:
            open_now = f", {row['sessions']} open" if row["sessions"] else ""
            print(f"{shown_name(row['user'])}  {row['state']}{open_now}", flush=True)
    return DONE


def _report_revoked(options: AccountOptions, rows: list[Line]) -> int:
    if not rows:
        complain(f"there is no account {options.name!a}; `p2pchat web users` lists them")
        return NO_SUCH_NAME
    if options.as_json:
        print(json_line(rows[0]), flush=True)
    else:
        tell(f"-- the token of {shown_name(rows[0]['user'])} has ended; `p2pchat web token` gives another")
    return DONE


REPORTS: dict[str, Callable[[AccountOptions, list[Line]], int]] = {
    "token": _report_token,
    "users": _report_users,
    "revoke": _report_revoked,
}
