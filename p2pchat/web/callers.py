"""Callers: who they are where a program has users of its own, as its function says, or a trusted proxy's header.

The function is asked for each request and connection, and again while a connection is open. Nothing else tells who a
caller is then: no token, no name, and no place that it comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import iscoroutinefunction

from starlette.requests import HTTPConnection

from p2pchat.program_log import ProgramLog
from p2pchat.threads import in_thread
from p2pchat.web.error_responses import WebError

PROXIED = "p2pchat.proxied"  # key in the scope of a request: whether a trusted proxy sent it
_log = ProgramLog("p2pchat.web")


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of the program, who makes a request or opens a connection.

    Attributes:
        key: By which the program knows the user, as in TCPPeer.host.
        name: What others see from now on; characters that no name has are left out. "": at first a name made of the
            key, which the program may change with HostedUser.rename.
        operator: It may do what callers on this machine may do elsewhere: make invites.
    """

    key: str = field(repr=False)
    name: str = field(default="", repr=False)
    operator: bool = False


# Returns who makes a request or opens a connection, None for nobody. A function that is not async runs in a thread.
Authenticate = Callable[[HTTPConnection], Caller | Awaitable[Caller | None] | None]


async def ask(authenticate: Authenticate, connection: HTTPConnection, seconds: float) -> Caller | None:
    """Return who a caller is, None for nobody. Raises WebError (503): the function failed, or took too long."""
    try:
        async with asyncio.timeout(seconds):
            if iscoroutinefunction(authenticate):
                found = await authenticate(connection)
            else:
                found = await in_thread(authenticate, connection)
        if not isinstance(found, Caller | None):
            raise TypeError(f"authenticate returned {type(found).__name__}, not a Caller or None")
    except Exception:  # whatever the program raises
        raise unknown_caller() from None
    return found


def unknown_caller() -> WebError:
    """Log the exception that is handled, which is the program's fault; return the answer to its caller."""
    _log.exception("the program could not say who a caller is")
    text = "who you are cannot be found out now: try again"
    return WebError(503, "authentication", text, {"Retry-After": "5"})


def by_header(name: str) -> Authenticate:
    """Return a function that reads the identity from a header, in which a trusted proxy puts it."""

    async def authenticate(connection: HTTPConnection) -> Caller | None:
        found = connection.headers.getlist(name)
        if len(found) != 1 or not found[0] or not connection.scope[PROXIED]:  # one of two may come from outside
            return None
        return Caller(found[0].encode("latin-1").decode())

    return authenticate
