"""`p2pchat db copy FROM TO`: all that is stored, in another database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from p2pchat import Copied, copy_database
from p2pchat.apps.cli.registry.db import COMMAND
from p2pchat.cli.options import SEEN, database_url, has_password, parse_words
from p2pchat.cli.progress import Progress
from p2pchat.commands.errors import DONE, Usage, complain, tell
from p2pchat.commands.output import json_line

VARIABLE = "P2PCHAT_DB"
FROM_VARIABLE = "-"


@dataclass(slots=True)
class CopyOptions:
    """`p2pchat db copy FROM TO`."""

    source: str = field(repr=False)
    target: str = field(repr=False)
    as_json: bool = False


def parse_db(argv: Sequence[str]) -> CopyOptions:
    """Read `db copy FROM TO [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, _ = parse_words(COMMAND, argv)
    if len(words) != 3 or words[0] != "copy" or not all(words):
        raise Usage("db copies: p2pchat db copy FROM TO, each a database URL or a data directory")
    if words.count(FROM_VARIABLE) > 1:
        raise Usage(f"- is the URL in {VARIABLE}: FROM and TO cannot both be it")
    if any(map(has_password, words[1:])):
        complain(SEEN)
    return CopyOptions(_place(words[1]), _place(words[2]), given["as_json"])


def _place(word: str) -> str:
    url = os.environ.get(VARIABLE, "") if word == FROM_VARIABLE else word
    if not url:
        raise Usage(f"- is the URL in {VARIABLE}, which is not set")
    return database_url(url)


def run_db(argv: Sequence[str]) -> int:
    """Copy, and say what was copied."""
    options = parse_db(argv)
    done = asyncio.run(_copy(options))
    if options.as_json:
        print(json_line(asdict(done)), flush=True)
    else:
        print(f"copied and compared: {done.entries:,} entries, {done.rows:,} rows in all", flush=True)
        tell("-- start the peer with the new database from now on (--db or P2PCHAT_DB), and never with both")
    return DONE


async def _copy(options: CopyOptions) -> Copied:
    with Progress() as progress:
        return await copy_database(options.source, options.target, progress=progress.rows)
