"""The command line of the conformance kit: `p2pchat-conformance INVITE`. See docs/conformance.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from p2pchat.errors import InviteError
from p2pchat.identity.invite_text import parse_invite
from p2pchat.protocol import PROTOCOL_VERSION
from p2pchat_conformance.runner import (
    LEVELS,
    ConformanceRule,
    Kit,
    RuleResult,
    Unreachable,
    alike,
    all_rules,
    chosen,
    dialling_kit,
    listening_kit,
    shown,
    temporary_directory,
)

REPORT_VERSION = 1  # of the JSON output
DOCUMENTS = "docs/"  # where the pages of a rule's section are
PASSED, FAILED, UNUSABLE = 0, 1, 2  # exit codes


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="p2pchat-conformance",
        description="Try a peer, the candidate, against docs/protocol.md. The exit code is 0 if no rule failed, 1 if "
        "one did, 2 if the candidate was not reached or an option is wrong.",
    )
    found.add_argument("invite", nargs="?", help="the invite of the candidate, which the kit dials")
    found.add_argument("--listen", metavar="[HOST:]PORT", help="be dialled by the candidate; prints the invite for it")
    found.add_argument("--level", choices=LEVELS, default="bot", help="how much the candidate is to be (default: bot)")
    found.add_argument("--only", action="append", default=[], metavar="RULE", help="try this rule alone (repeatable)")
    found.add_argument("--list", action="store_true", help="print the rules of the level and try nothing")
    found.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="the longest wait (default: 5)")
    found.add_argument("--json", metavar="FILE", help="write the report as JSON to this file, - for standard output")
    found.add_argument("--restart", metavar="COMMAND", help="kills the candidate and starts it again with its data")
    found.add_argument("--stop", metavar="COMMAND", help="asks the candidate to stop in good order (tried last)")
    found.add_argument("--seed", help="of all keys, nonces and runs (default: a new one)")
    return found


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    rules = list(chosen(all_rules(), options.level, options.only))
    unknown = sorted(set(options.only) - {one.name for one in rules})
    if unknown:
        print(f"there is no rule {unknown[0]!r}: --list --level full prints all", file=sys.stderr)
        return UNUSABLE
    if options.list:
        for one in rules:
            print(f"{one.level:4}  {one.name}\n      {one.sentence}\n      {DOCUMENTS}{one.section}")
        return PASSED
    if (options.invite is None) == (options.listen is None):
        print("name an invite, or --listen [HOST:]PORT", file=sys.stderr)
        return UNUSABLE
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a connection that breaks is a result here
    try:
        return asyncio.run(_run(options, rules))
    except (InviteError, Unreachable, ValueError) as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return UNUSABLE


async def _run(options: argparse.Namespace, rules: list[ConformanceRule]) -> int:
    seed = options.seed or secrets.token_hex(8)
    out = sys.stderr if options.json == "-" else sys.stdout
    with temporary_directory() as directory:
        settings: dict[str, Any] = {
            "seed": seed, "timeout": options.timeout, "directory": Path(directory),
            "restart": _command(options.restart), "stop": _command(options.stop),
        }  # fmt: skip
        if options.invite is not None:
            kit = dialling_kit(parse_invite(options.invite), **settings)
        else:
            host, _, port = options.listen.rpartition(":")
            kit, invite = await listening_kit(host or "127.0.0.1", int(port), **settings)
            print(f"give the candidate this invite:\n{invite}", file=out, flush=True)
        began = time.monotonic()
        try:
            await kit.reach()
            print(f"the candidate is {kit.candidate}; the seed is {seed}", file=out, flush=True)
            progress = ResultPrinter(out, len(rules))
            results = await kit.run(rules, progress.report)
        finally:
            await kit.aclose()
    for why, names in alike(results):
        print(f"{len(names)} rules failed alike, perhaps for one cause: {why}\n        {', '.join(names)}", file=out)
    counts = Counter(result.outcome for result in results)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped in "
          f"{time.monotonic() - began:.1f} s", file=out)  # fmt: skip
    if options.json:
        write_report(options.json, report(kit, options.level, seed, results))
    return FAILED if counts["failed"] else PASSED


def _command(line: str | None) -> Callable[[], Awaitable[None]] | None:
    """Return a function that runs a shell command and waits for its end."""
    if line is None:
        return None

    async def run() -> None:
        process = await asyncio.create_subprocess_shell(line, stdin=asyncio.subprocess.DEVNULL)
        if code := await process.wait():
            raise ValueError(f"the command {line!r} has failed with exit code {code}")

    return run


def report(kit: Kit, level: str, seed: str, results: list[RuleResult]) -> dict[str, Any]:
    """Return the report of a run as docs/conformance.md describes it."""
    return {
        "version": REPORT_VERSION, "protocol": PROTOCOL_VERSION, "candidate": kit.candidate, "level": level,
        "seed": seed,
        "results": [result.as_json() for result in results],
    }  # fmt: skip


def write_report(path: str, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    if path == "-":
        print(text)
    else:
        Path(path).write_text(text + "\n", "utf-8")


class ResultPrinter:
    """Prints results: every one as a line, with the sentence and the last frames of a rule that failed.

    On a terminal the number of rules done stands in the last line.
    """

    def __init__(self, out: Any, total: int) -> None:
        self._out, self._total, self._done = out, total, 0

    def report(self, result: RuleResult) -> None:
        self._done += 1
        lines = [f"{result.outcome:7} {result.rule.name}{f': {result.why}' if result.why else ''}"]
        if result.outcome == "failed":
            lines += [f"        {result.rule.sentence}", f"        {DOCUMENTS}{result.rule.section}"]
            lines += shown(result.record)
        terminal = self._out.isatty()
        end = f"\r{self._done}/{self._total}\r" if terminal and self._done < self._total else ""
        print("\n".join(lines) + "\n" + end, end="", file=self._out, flush=True)


def run() -> None:
    """Run the command `p2pchat-conformance`."""
    sys.exit(main())


if __name__ == "__main__":
    run()
