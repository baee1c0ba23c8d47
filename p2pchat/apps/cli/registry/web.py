"""`p2pchat web`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DATA, DB, JSON, Command, Option

_PAGE = """\
Usage: p2pchat web HTTP_PORT [HOST:PORT ...] [options]
       p2pchat web token NAME | users | revoke NAME

Let people take part who have nothing but a browser, scripts with curl, and Socket.IO clients: each is a user with a \
key of its own, and an equal of those in a terminal. HTTP_PORT is where the page is; HOST:PORT are peers to link with.

`web token NAME` makes an account, or gives one a new token, which is shown once; `web users` lists accounts; \
`web revoke NAME` ends a token and whatever is open with it. Beside a running gateway or without one.

Options:
{options}

Examples:
  p2pchat web 8000                       for this machine
  p2pchat 8002 8001 --name bob           a terminal beside it: the peer is on 8001
  p2pchat web 8000 --http-host 0.0.0.0   for others, who need accounts:
  p2pchat web token zoe

Exit codes: 0 stopped in good order; 1 failure; 2 usage; 4 no such name; 130 interrupted.
"""

COMMAND = Command(
    name="web",
    summary="a page, REST, WebSocket and Socket.IO for others",
    page=_PAGE,
    run="cli.subcommands.web:run_web",
    options=(
        Option(("--http-host",), "ADDR", "where the page listens (default 127.0.0.1; 0.0.0.0 or :: for others)"),
        Option(("--sign-up",), "WHO", "open: anybody may register; token: only `web token NAME`", ("open", "token")),
        Option(("--trust-loopback",), "", "callers on this machine that carry no token say who they are"),
        Option(("--origin",), "URL", "where browsers find it, as https://chat.example.org; several with commas"),
        Option(("--trusted-proxy",), "ADDR", "reverse proxies whose X-Forwarded-For is believed"),
        Option(("--root-path",), "PATH", "the path a reverse proxy has put in front of it, as /chat"),
        Option(("--port",), "PORT", "the peer's own port (default: HTTP_PORT + 1)"),
        Option(("--name",), "NAME", "what the peer's own user is called (default: login name and port)"),
        Option(("--host",), "ADDR", "listen address of the peer (default 127.0.0.1)"),
        DATA,
        Option(("--temp",), "", "a temporary profile: gone at the end"),
        DB,
        Option(("--key",), "FILE", "an identity kept elsewhere"),
        Option(("--invite",), "FILE", "join its network; - asks for the invite without echo"),
        Option(("--open",), "", "an open network: whoever can connect is a member, and reads the room's history"),
        Option(("--advertise",), "HOST:PORT", "address to tell other peers, behind NAT or in a container"),
        Option(("--discover",), "", "find this network's members on the local network (extra: discovery)"),
        JSON,
        Option(("--plain",), "", "plain lines for people (default)"),
        Option(("--log",), "FILE", "append what happens to FILE as JSON lines"),
        Option(("-v", "--verbose"), "", "diagnostics on stderr"),
    ),
)
