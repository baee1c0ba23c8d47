"""What a command of `p2pchat` is: its name, options and help page, and where the code that does it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its spellings, the variable that stands for it, what it takes ("" for a switch) and what it does.

    `choices` are the values it may have, () where those are not a few words.
    """

    flags: tuple[str, ...]
    takes: str
    summary: str
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.flags[-1].lstrip("-")

    @property
    def variable(self) -> str:
        return f"P2PCHAT_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command. Nothing is imported for it before it runs.

    Attributes:
        name: Its first word; "" for the chat itself.
        summary: What --help says of it in one line.
        page: Its own help; `{options}` stands for the list of options. A paragraph is one long line.
        run: "module:function" below p2pchat.cli; takes the other words, returns the exit code.
        words: What its words may be, for completion: "" nothing, "address" one whom to write to, "endpoint", "file",
            "directory", "shell".
    """

    name: str
    summary: str
    page: str
    run: str
    options: tuple[Option, ...] = ()
    words: str = ""

    def load(self) -> Callable[[Sequence[str]], int]:
        """Import and return what does it."""
        module, _, function = self.run.partition(":")
        found: Callable[[Sequence[str]], int] = getattr(import_module(f"p2pchat.{module}"), function)
        return found


DATA = Option(("--data",), "DIR", "identity and history (default: a folder for each port)")
DB = Option(("--db",), "URL", "another database: sqlite:///FILE, mysql:// or postgresql://USER@HOST/NAME, memory://")
JSON = Option(("--json",), "", "one JSON object a line on stdout")
WHICH_PEER = (DATA, Option(("--port",), "PORT", "the peer of this port (default: the only one)"))


# ---- backup
#
# `p2pchat backup`: its options and help page.


_PAGE = """\
Usage: p2pchat backup DIR [options]

Copy a whole peer, with its key, its network and its history, into DIR, also while it runs. DIR is made, for you only; \
one that is not empty is refused. `p2pchat PORT --data DIR` runs the copy, on this machine or another one. Never run \
both: two machines with one key take each other's links.

Options:
{options}

Examples:
  p2pchat backup ~/backup/chat-2026-11-20
  p2pchat backup /media/stick/ada --port 8080
"""

BACKUP_COMMAND = Command(
    name="backup",
    summary="copy a peer, key and history, also while it runs",
    page=_PAGE,
    run="cli.subcommands.transfer:run_backup",
    options=(*WHICH_PEER, DB),
    words="directory",
)


# ---- bench
#
# `p2pchat bench`: its options and help page.


_PAGE_BENCH = """\
Usage: p2pchat bench HOST:PORT [options]

Measure the way to a peer of this network, and this machine's own disk, as messages use them: how long a connection, \
a link and an answer take, and how soon a message is safe here. None of it is seen there, nor kept on either side. A \
running peer may go on meanwhile; what it does is measured with it.

With --write N it sends N direct messages of 180 bytes too, and measures how many a second are delivered, and how \
long one takes: safe on that disk, and known here. They are real: the user there sees them, and they stay in that \
history. They come from a passing user called bench, whom everybody in the network sees come and go; your own \
history has none of them.

Options:
{options}

Examples:
  p2pchat bench 192.168.1.20:8080
  p2pchat bench localhost:8081 --write 5000
  p2pchat bench bob.example.org:8080 --port 8080 --json | jq -c '[.what, .value]'

Exit codes: 0 it was measured; 1 nobody of this network answers there, or a message was not delivered in time; 2 usage.
"""

BENCH_COMMAND = Command(
    name="bench",
    summary="how quick the way to a peer is, and this disk",
    page=_PAGE_BENCH,
    run="cli.subcommands.bench:run_bench",
    options=(
        *WHICH_PEER,
        Option(("--write",), "N", "send N real messages there too, up to 100,000 (default: none)"),
        Option(("--seconds",), "SECONDS", "each part takes at most about so long (default 2)"),
        JSON,
    ),
    words="endpoint",
)


# ---- chat
#
# `p2pchat PORT [HOST:PORT ...]`: its options and help page.


_PAGE_CHAT = """\
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

CHAT_COMMAND = Command(
    name="",
    summary="chat with other peers",
    page=_PAGE_CHAT,
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


# ---- check
#
# `p2pchat check`: its options and help page.


_PAGE_CHECK = """\
Usage: p2pchat check LOG... [options]

Read event logs (--log FILE, or the output of --json) of peers that talked with each other, and decide whether the \
promises held: everything that was accepted arrived, once and in order, and departures were told with the right \
reason. What `history --json` printed may be among them. Exit code 0 when they held, 1 when one was broken.

A line says where, which promise (lost, twice, order ...) and what is wrong: please report it with the lines it names. \
Texts are never shown. Clocks of the machines should agree within a second.

Options:
{options}

Examples:
  p2pchat check ada.jsonl bob.jsonl cyd.jsonl
  p2pchat check logs/*.jsonl
"""

CHECK_COMMAND = Command(
    name="check",
    summary="judge event logs: was every promise held?",
    page=_PAGE_CHECK,
    run="cli.subcommands.check:run_check",
    options=(Option(("--complete",), "", "everything had come to rest before the logs end: what is missing was lost"),),
    words="file",
)


# ---- client
#
# `p2pchat client`: its options and help page.


_PAGE_CLIENT = """\
Usage: p2pchat client ws://HOST:PORT/chat [options]

Chat through a gateway (p2pchat web), without a peer of one's own: what is typed goes to everybody in the public chat, \
or with --recipient to one user or group; /dm NAME TEXT writes to one user. When the connection breaks it comes back \
by itself, misses nothing and sends what was not acknowledged. (Extra: web.)

Options:
{options}

Examples:
  p2pchat client ws://localhost:8000/chat --user A --recipient B
  p2pchat client wss://chat.example.org/chat --token ~/token --plain
  echo "backup finished" | p2pchat client ws://localhost:8000/chat --token ~/token --recipient '#ops'

--user alone is for gateways that trust this machine (p2pchat web --trust-loopback). Everybody else has a token: \
POST /accounts answers with one, and its answer may be the file. Under --json a line that begins with {{ is a frame as \
docs/gateway-api.md describes it, and what comes is printed as it is.

Exit codes: 0 everything sent was acknowledged; 1 no connection, refused, or not acknowledged in time; 2 usage; 4 no \
such name, or several; 130 interrupted.
"""

CLIENT_COMMAND = Command(
    name="client",
    summary="chat through a gateway, without a peer of one's own",
    page=_PAGE_CLIENT,
    run="cli.subcommands.web_client:run_client",
    options=(
        Option(("--user",), "NAME", "who I am, where this machine is trusted"),
        Option(("--recipient",), "TO", "whom to write to: bob, #ops (default: everybody)"),
        Option(("--token",), "FILE", "my token; - asks for it without echo"),
        Option(("--plain",), "", "plain lines, as in a chat"),
        JSON,
        Option(("--drain",), "SECONDS", "wait so long for acknowledgements at the end of input (default 5)"),
        Option(("--stay",), "", "do not leave at the end of input"),
    ),
)


# ---- completion
#
# `p2pchat completion`: its help page.


_PAGE_COMPLETION = """\
Usage: p2pchat completion bash|zsh|fish

Print a script with which the shell completes commands, options, files, and whom one can write to.

Examples:
  eval "$(p2pchat completion bash)"    in ~/.bashrc
  eval "$(p2pchat completion zsh)"     in ~/.zshrc, after compinit
  p2pchat completion fish | source     in config.fish

Where p2pchat is only `python -m p2pchat`, make it a command first, above that line; in bash and zsh with

    p2pchat() {{ python -m p2pchat "$@"; }}

and in fish with

    function p2pchat; python -m p2pchat $argv; end
"""

COMPLETION_COMMAND = Command(
    name="completion",
    summary="completion for bash, zsh or fish",
    page=_PAGE_COMPLETION,
    run="cli.subcommands.completion:run_completion",
    words="shell",
)


# ---- db
#
# `p2pchat db copy`: its options and help page.


_PAGE_DB = """\
Usage: p2pchat db copy FROM TO

Copy all that a peer has stored into another database, which must be empty, while no peer uses either. FROM and TO are \
database URLs (sqlite:///FILE, mysql://, mariadb:// or postgresql://USER@HOST/NAME), or data directories, whose own \
database is meant. Everything is there afterwards, compared and whole, or nothing is. Key and network stay in the data \
directory.

A password on the command line can be seen by others on this machine: `-` takes the URL that is in P2PCHAT_DB.

Options:
{options}

Examples:
  p2pchat db copy ~/.local/share/p2pchat/8080 postgresql://ada@localhost/chat
  P2PCHAT_DB=mariadb://ada:secret@db.example.org/chat p2pchat db copy - ~/chat-copy
"""

DB_COMMAND = Command(
    name="db",
    summary="move what is stored to another database",
    page=_PAGE_DB,
    run="cli.subcommands.transfer:run_db",
    options=(JSON,),
    words="directory",
)


# ---- demo
#
# `p2pchat demo`: its help page.


_PAGE_DEMO = """\
Usage: p2pchat demo

A tour in under 30 seconds, with real peers on this machine in a directory of their own: the room, a message to \
somebody who is away, a kill, a restart, receipts. Says what it shows and checks it; exit code 1 when a check fails.

Example:
  p2pchat demo
"""

DEMO_COMMAND = Command(
    name="demo",
    summary="the tour: real peers, a kill, a restart, receipts",
    page=_PAGE_DEMO,
    run="cli.subcommands.demo:run_demo",
)


# ---- doctor
#
# `p2pchat doctor`: its options and help page.


_PAGE_DOCTOR = """\
Usage: p2pchat doctor [HOST:PORT] [options]

Find out what is wrong, beside a running peer or without one: key and files, port, whether others can get in, clock, \
disk, database. One line for each check, ok, warning or wrong, and below it how to mend it. With HOST:PORT only the \
way from here to there: who answers, and if nobody does, why.

Options:
{options}

Examples:
  p2pchat doctor
  p2pchat doctor 192.168.1.20:8080
  p2pchat doctor --port 8080 --json | jq -r 'select(.verdict != "ok") | .mend'

Exit codes: 0 nothing is wrong (there may be warnings); 1 something is; 2 usage.
"""

DOCTOR_COMMAND = Command(
    name="doctor",
    summary="what is wrong, and how to mend it",
    page=_PAGE_DOCTOR,
    run="cli.subcommands.doctor:run_doctor",
    options=(*WHICH_PEER, DB, JSON),
    words="endpoint",
)


# ---- export
#
# `p2pchat export`: its options and help page.


_PAGE_EXPORT = """\
Usage: p2pchat export FILE [options]

Write what is stored here, the room and my direct conversations, into a file that another peer of this network can \
import: a USB stick delivers too. The file holds messages of all their writers as readable text: whoever has it can \
read it, and nobody can change it unnoticed. FILE - is standard output. Reads beside a running peer.

Options:
{options}

Examples:
  p2pchat export /media/stick/chat.p2p
  p2pchat export --conversation room room.p2p
  p2pchat export - --port 8080 | gzip > chat.p2p.gz
"""

EXPORT_COMMAND = Command(
    name="export",
    summary="write what is stored into a file that others can import",
    page=_PAGE_EXPORT,
    run="cli.subcommands.transfer:run_export",
    options=(
        *WHICH_PEER,
        DB,
        Option(("--conversation",), "TO", "only this one: room, bob (default: all)"),
    ),
    words="file",
)


# ---- history
#
# `p2pchat history`: its options and help page.


_PAGE_HISTORY = """\
Usage: p2pchat history [TO] [options]

Print what was said, oldest first: in one conversation (room, bob, bob#K7QF2M3P), or without TO in all of them in one \
order. Reads beside a running peer.

Options:
{options}

Examples:
  p2pchat history
  p2pchat history bob --port 8080 --since 7d
  p2pchat history room --json --search "deploy failed"
  p2pchat history --search 'from:bob "deploy failed"'
"""

HISTORY_COMMAND = Command(
    name="history",
    summary="print what was said, oldest first",
    page=_PAGE_HISTORY,
    run="cli.subcommands.history:run_history",
    options=(
        *WHICH_PEER,
        DB,
        Option(("--limit",), "N", "at most the newest N (default: all)"),
        Option(("--since",), "TIME", "from then on: 2026-11-20, 2026-11-20T08:30, 90m, 7d"),
        Option(("--before",), "TIME", "only what was written before this time"),
        Option(("--search",), "WORDS", 'only messages with all these words; "in a row", from:bob'),
        JSON,
    ),
    words="address",
)


# ---- import
#
# `p2pchat import`: its options and help page.


_PAGE_IMPORT = """\
Usage: p2pchat import FILE [options]

Take in a file that `p2pchat export` made, here or on another machine of this network. Every message is checked as if \
it came over a link; what was here already is counted and nothing else. Beside an open chat its peer takes it in and \
shows it; without one others get it at the next start. FILE - is standard input.

Options:
{options}

Examples:
  p2pchat import /media/stick/chat.p2p
  gunzip -c chat.p2p.gz | p2pchat import - --port 8080

Exit codes: 0 all of it was taken in, or was here, or is not for this user; 1 it is no such file, or of another \
network, or damaged: what came whole is imported all the same, and it is said what is missing.
"""

IMPORT_COMMAND = Command(
    name="import",
    summary="take in a file that export made",
    page=_PAGE_IMPORT,
    run="cli.subcommands.transfer:run_import",
    options=(*WHICH_PEER, DB, JSON),
    words="file",
)


# ---- invite
#
# `p2pchat invite`: its options and help page.


_PAGE_INVITE = """\
Usage: p2pchat invite [options]

Show the command to paste on another machine, and the invite it asks for. Whoever has the invite can join, read the \
room's history, and invite others.

Options:
{options}

Examples:
  p2pchat invite
  p2pchat invite --port 8080 --advertise chat.example.org:8080
"""

INVITE_COMMAND = Command(
    name="invite",
    summary="the command for another machine, and the invite",
    page=_PAGE_INVITE,
    run="cli.subcommands.invite:run_invite",
    options=(
        *WHICH_PEER,
        Option(("--advertise",), "HOST:PORT", "the address others reach this peer at"),
    ),
)


# ---- send
#
# `p2pchat send`: its options and help page.


_PAGE_SEND = """\
Usage: p2pchat send TO [TEXT] [options]

Send one message. TO is room, bob, or bob#K7QF2M3P; without TEXT all of standard input is the message, and nothing in \
it is a command. Beside an open chat its peer sends; without one this command runs the peer while it lasts.

Options:
{options}

Examples:
  p2pchat send bob "lunch?"
  make 2>&1 | p2pchat send bob
  tail -f app.log | p2pchat send room --lines
  p2pchat send bob --wait accepted -- "-5 degrees"

Exit codes: 0 it was delivered (or what --wait says); 3 it is kept and not delivered in time, and will be; 4 no such \
name, or several; 1 it could not be sent; 2 usage, a text that is empty or too long.
"""

SEND_COMMAND = Command(
    name="send",
    summary="send one message, or each line of a pipe",
    page=_PAGE_SEND,
    run="cli.subcommands.send:run_send",
    options=(
        *WHICH_PEER,
        DB,
        Option(("--lines",), "", "each line of standard input is a message, sent as it comes"),
        Option(
            ("--wait",),
            "WHAT",
            "accepted: safe on this disk; delivered (default): on theirs; read: their programs say so",
            ("accepted", "delivered", "read"),
        ),
        Option(("--timeout",), "SECONDS", "wait at most so long (default 5)"),
    ),
    words="address",
)


# ---- tail
#
# `p2pchat tail`: its options and help page.


_PAGE_TAIL = """\
Usage: p2pchat tail [TO] [options]

Print the newest messages, then what comes, until Ctrl-C, or until nobody reads the output any more. TO is room, bob, \
or bob#K7QF2M3P; without it everything. Beside an open chat its peer tells; without one this command runs the peer.

Options:
{options}

Examples:
  p2pchat tail
  p2pchat tail bob -n 50
  p2pchat tail --json | jq -r 'select(.event == "message") | .text'

Exit codes: 0 the peer stopped, or the reader of the output went away; 1 the peer was killed; 130 Ctrl-C.
"""

TAIL_COMMAND = Command(
    name="tail",
    summary="follow what is said",
    page=_PAGE_TAIL,
    run="cli.subcommands.tail:run_tail",
    options=(
        *WHICH_PEER,
        DB,
        Option(("-n", "--last"), "N", "begin with the newest N messages (default 10)"),
        JSON,
    ),
    words="address",
)


# ---- users
#
# `p2pchat users`: its options and help page.


_PAGE_USERS = """\
Usage: p2pchat users [options]

Print who is known, and who is here: one line each. Without a running peer nobody's status is known.

Options:
{options}

Examples:
  p2pchat users
  p2pchat users --json | jq -r 'select(.status == "online") | .user'
"""

USERS_COMMAND = Command(
    name="users",
    summary="who is known, and who is here",
    page=_PAGE_USERS,
    run="cli.subcommands.users:run_users",
    options=(*WHICH_PEER, DB, JSON),
)


# ---- web
#
# `p2pchat web`: its options and help page.


_PAGE_WEB = """\
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

WEB_COMMAND = Command(
    name="web",
    summary="a page, REST, WebSocket and Socket.IO for others",
    page=_PAGE_WEB,
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


# ---- registry
#
# Every command there is, one file each: what --help, completion and docs/cli.md are made of, or tested against.
#
# Nothing here imports what does the work, so that --help and --version answer at once.


CHAT = CHAT_COMMAND  # what `p2pchat PORT` does
_COMMANDS = (
    DEMO_COMMAND,
    SEND_COMMAND,
    TAIL_COMMAND,
    HISTORY_COMMAND,
    USERS_COMMAND,
    CHECK_COMMAND,
    INVITE_COMMAND,
    DOCTOR_COMMAND,
    BENCH_COMMAND,
    EXPORT_COMMAND,
    IMPORT_COMMAND,
    BACKUP_COMMAND,
    DB_COMMAND,
    WEB_COMMAND,
    CLIENT_COMMAND,
    COMPLETION_COMMAND,
)  # in the order of --help
COMMANDS: dict[str, Command] = {command.name: command for command in _COMMANDS}

# What later versions bring: asked for, each gets one line and exit 2; --help does not name them.
LATER = frozenset(("tui",))

EVERY_COMMAND = (Option(("--version",), "", "the version"), Option(("--help",), "", "this page"))
