"""`p2pchat bench HOST:PORT`: what the way to a peer and this machine's own disk can do, as messages use them.

What is measured is in benching/, one subject a file. Nothing is left behind on either side, but for the messages of
--write, which are real: a log only grows. Files of its own lie in the profile's directory meanwhile, on its disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from p2pchat import Probed, inspect_profile, probe
from p2pchat.apps.cli.commands.benching.figure import Figure, shown
from p2pchat.apps.cli.commands.benching.own import own
from p2pchat.apps.cli.commands.benching.way import way
from p2pchat.apps.cli.commands.benching.writing import MOST, passing, writing
from p2pchat.apps.cli.commands.doctoring.there import name_of, there
from p2pchat.apps.cli.control.signals import run_until_signal
from p2pchat.apps.cli.profiles import find_profile
from p2pchat.apps.cli.registry.bench import COMMAND
from p2pchat.cli.options import WhichPeer, parse_seconds, parse_words, which_peer
from p2pchat.cli.progress import Progress
from p2pchat.commands.endpoints import parse_endpoint
from p2pchat.commands.errors import DONE, FAILED, Failure, Usage, tell
from p2pchat.commands.format import shown_name
from p2pchat.commands.output import json_line

USUAL_SECONDS = 2.0


@dataclass(slots=True)
class BenchOptions:
    """`p2pchat bench HOST:PORT`. `write`: messages to send there, 0 for none; `seconds` for each part."""

    which: WhichPeer
    endpoint: str
    write: int = 0
    seconds: float = USUAL_SECONDS
    as_json: bool = False


def parse_bench(argv: Sequence[str]) -> BenchOptions:
    """Read `bench HOST:PORT [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(COMMAND, argv)
    if len(words) != 1:
        raise Usage("bench takes one HOST:PORT, where the peer answers: p2pchat bench 192.168.1.20:8080")
    return BenchOptions(
        which_peer(given, typed),
        parse_endpoint(words[0]),
        _count(given["write"]) if given["write"] is not None else 0,
        parse_seconds("--seconds", given["seconds"]) if given["seconds"] is not None else USUAL_SECONDS,
        given["as_json"],
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST):
        raise Usage(f"--write {text!a}: it is how many messages to send, 1 to {MOST:,}")
    return int(text)


def run_bench(argv: Sequence[str]) -> int:
    """Measure and print; 1 when nobody of this network is there."""
    options = parse_bench(argv)
    directory = find_profile(options.which).expanduser().absolute()
    if not inspect_profile(directory).peer_id:
        raise Usage(f"there is no profile in {directory}: start a peer first, for example p2pchat 8080")
    return run_until_signal(_measure(options, directory), terminated=lambda: FAILED)


async def _measure(options: BenchOptions, directory: Path) -> int:
    found = await probe(options.endpoint, data=directory)
    name = await name_of(found.peer_id, directory)
    if found.verdict != "reached":
        finding = there(found, name)
        mend = f"; {finding.mend}" if finding.mend else ""
        raise Failure(f"cannot measure the way to {finding.what}: {finding.seen}{mend}")
    _print_peer(options, found, name)
    with Progress() as progress, tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
        progress.tell(f"-- linking with {options.endpoint}")
        _print(options, await way(found, directory, options.seconds))
        progress.tell("-- writing to this disk")
        _print(options, await own(Path(place, "own"), options.seconds))
        if options.write:
            await _write(options, found, directory, Path(place, "passing"), progress)
    return DONE


async def _write(options: BenchOptions, found: Probed, directory: Path, place: Path, progress: Progress) -> None:
    async with passing(found, directory, place) as (peer, user):
        _print(options, await writing(peer, user, options.write, options.seconds, progress.tell))
        label = peer.me.label
    if not options.as_json:
        tell(f"-- {shown_name(user.label)} has {options.write:,} messages of {label} now")


def _print_peer(options: BenchOptions, found: Probed, name: str) -> None:
    if options.as_json:
        peer = {"endpoint": found.endpoint, "address": found.address, "peer_id": found.peer_id, "user": name}
        print(json_line({"what": "peer", **peer}), flush=True)
        return
    who = shown_name(name) if name else f"peer {found.peer_id[:8]}"
    print(f"{who} answers at {found.endpoint}, of the same network", flush=True)


def _print(options: BenchOptions, figures: Sequence[Figure]) -> None:
    for figure in figures:
        print(json_line(asdict(figure)) if options.as_json else shown(figure), flush=True)
