"""`p2pchat PORT [HOST:PORT ...]`: its words and options into one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pchat.apps.cli.peeroptions import PeerOptions
from p2pchat.apps.cli.registry import CHAT
from p2pchat.apps.cli.words import refuse_first_word
from p2pchat.cli.options import database_url, parse_seconds, parse_words
from p2pchat.commands.endpoints import parse_endpoint, parse_port
from p2pchat.commands.errors import Usage

USUAL_DRAIN = 5.0  # seconds: longer than a slow link takes, and nobody minds to wait so long once


@dataclass(slots=True)
class ChatOptions(PeerOptions):
    """`p2pchat PORT [HOST:PORT ...]`; `drain` is seconds."""

    as_json: bool = False
    plain: bool = False
    log: str = ""
    drain: float = USUAL_DRAIN
    stay: bool = False
    verbose: bool = False
    warnings: tuple[str, ...] = ()
    host_given: bool = field(default=False, compare=False)  # by an option or a variable
    bare: bool = False  # no PORT was given: what is missing is asked for, or picked (startup.py)


def parse_chat(argv: Sequence[str], *, may_ask: bool = False) -> ChatOptions:
    """Read `[options] PORT [HOST:PORT ...]`; PORT may be missing where somebody can be asked.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(CHAT, argv)
    bare = not words and may_ask and not given["as_json"]
    if not words and not bare:
        raise Usage("which port? For example: p2pchat 8080 --name ada (--help shows more)")
    try:
        port = 0 if bare else parse_port(words[0], "port", lowest=0)
    except Usage:
        raise refuse_first_word(words[0]) from None
    if given["temp"] and given["data"]:
        raise Usage("--temp and --data exclude each other: a profile is temporary or has a place")
    if given["as_json"] and given["plain"]:
        raise Usage("--json and --plain exclude each other")
    if given["open_network"] and given["invite"]:
        raise Usage("--open and --invite exclude each other: an invite says which network, and whether it is open")
    options = ChatOptions(**{name: value for name, value in given.items() if value is not None}, port=port, bare=bare)
    options.host_given = given["host"] is not None
    options.db = database_url(options.db)
    options.drain = parse_seconds("--drain", given["drain"]) if given["drain"] is not None else USUAL_DRAIN
    options.endpoints = tuple(parse_endpoint(word) for word in words[1:])
    if options.advertise:
        options.advertise = parse_endpoint(options.advertise)
    options.warnings = tuple(options.secrets_on_the_command_line(typed))
    return options
