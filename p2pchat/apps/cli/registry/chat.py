"""`p2pchat PORT [HOST:PORT ...]`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DATA, DB, JSON, Command, Option

_PAGE = """\
Usage: p2pchat [PORT [HOST:PORT ...]] [options]
       p2pchat COMMAND [options]

Chat with other peers, without a server. PORT is where this peer listens; HOST:PORT are peers to link with, a bare \
port means this machine. Knowing one peer is enough, and the next start needs none. Without PORT, on a terminal, \
p2pchat asks for a name and picks a port, or starts again what ran before.

Examples:
  p2pchat                                      asks what it has to know
  p2pchat 8080 --name ada                      ada listens on this machine
  p2pchat 8081 8080 --name bob                 bob joins her
  p2pchat 8080 --host 0.0.0.0                  others may join: shows the invite
  p2pchat --invite -                           join another machine's network
  echo "backup finished" | p2pchat 8082 8080   one message, then leave
  p2pchat 8083 8080 --json </dev/null          only read, and stay
  p2pchat history bob --port 8080 --since 7d   what was said
  p2pchat bench 192.168.1.20:8080              how quick the way to that peer is

Options:
{options}

Commands (p2pchat COMMAND --help):
{commands}

Each option has a variable: --name is P2PCHAT_NAME. P2PCHAT_HOME moves everything p2pchat keeps. \
`python -m p2pchat` and `p2pchat` are the same.

Input: text goes to the room; /msg bob TEXT to bob alone; /help lists the commands. With --json an input line may be \
an object:
    {{"do":"send","to":"bob","text":"hi","ref":"7"}}
A pipe or file is read to its end, also when nobody reads the output any more; then it waits for deliveries and \
leaves (--stay: goes on). /dev/null or closed input is no input: it stays until a signal ends it, under `&`, systemd \
and cron too.

Exit codes:
  0    everything sent was delivered
  1    failure: port, database, locked, refused by the network
  2    usage: option, endpoint, invite, name, a line that cannot be meant
  3    kept, not delivered yet: sent at the next start
  4    no such name, or several
  130  interrupted by Ctrl-C; SIGTERM and SIGHUP end it in good order, with 0 or 3
"""

COMMAND = Command(
    name="",
    summary="chat with other peers",
    page=_PAGE,
    run="cli.chat.run:run_chat",
    options=(
        Option(("--name",), "NAME", "my name (default: login name and port)"),
        Option(("--host",), "ADDR", "listen address (default 127.0.0.1; 0.0.0.0 or :: for other machines)"),
        DATA,
        Option(("--temp",), "", "a temporary profile: gone at the end"),
        DB,
        Option(("--key",), "FILE", "an identity kept elsewhere"),
        Option(("--invite",), "FILE", "join its network; - asks for the invite without echo"),
        Option(("--open",), "", "an open network: whoever can connect is a member, and reads the room's history"),
        Option(("--advertise",), "HOST:PORT", "address to tell others, behind NAT or in a container"),
        Option(
            ("--discover",), "", "find this network's members on the local network, and be found (extra: discovery)"
        ),
        JSON,
        Option(("--plain",), "", "plain lines for people (default outside a terminal)"),
        Option(("--log",), "FILE", "append every event to FILE as JSON lines"),
        Option(("--drain",), "SECONDS", "wait so long for deliveries at the end (default 5)"),
        Option(("--stay",), "", "do not leave at the end of input"),
        Option(("-v", "--verbose"), "", "diagnostics on stderr"),
    ),
)
