"""The command `p2pchat on message`: a command that runs for each new message, and whose output is the answer.

A message is noted in a database beside the profile before the peer counts it as taken, and as running before its
command starts. So none is forgotten, and none runs twice: what ran when this program was killed is listed by the next
one. An answer is noted with the time that it claims before it is sent, so it is written once.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from subprocess import PIPE, Popen
from typing import Any

import click

from p2pchat import HOP_LIMIT, Settings, TooLong
from p2pchat.cli import options as cli
from p2pchat.cli.control_client import PeerGone, RequestRefused, connect_or_run
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.profiles import find_profile
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import DONE, CommandError, UsageError, print_error, print_notice
from p2pchat.commands.standard_output import json_line
from p2pchat.commands.unread_counter import mentions
from p2pchat.safe_text import quote_name
from p2pchat.threads import in_thread, stop_tasks

MOST_PRINTED = Settings.max_text_bytes
# A message is `waiting`, `running`, `interrupted` or `done`: then its text is gone. `answer` is what is sent. A peer
# that was killed repeats its last messages, so the ids of many are kept. A new reader gets all since the peer's start.
OPEN_RUNS = """\
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, conversation TEXT, line TEXT, state TEXT, answer TEXT);
CREATE TABLE IF NOT EXISTS began (one INTEGER PRIMARY KEY, at TEXT);
INSERT OR IGNORE INTO began VALUES (1, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
DELETE FROM runs WHERE state = 'done' AND rowid < (SELECT max(rowid) FROM runs) - 10000;
UPDATE runs SET state = 'waiting' WHERE state = 'running' AND answer IS NOT NULL;
UPDATE runs SET state = 'interrupted' WHERE state = 'running';
"""
NEXT = """\
SELECT min(rowid), line, answer FROM runs WHERE state = 'waiting'
AND conversation NOT IN (SELECT conversation FROM runs WHERE state = 'running')
GROUP BY conversation ORDER BY 1 LIMIT ?
"""
# Begins a command once its process group is named below: none is left running if this program is killed before.
BEGIN = ("sh", "-c", 'read -r begun && exec "$@"', "sh")
# Reads the ids of process groups: each is named when it begins and when it is to end. What runs at the end of the input
# is ended too, so also when this program is killed.
WATCHER = """\
exec 2>/dev/null
groups=" "
while read -r group; do
    case "$groups" in
        *" $group "*)
            kill -s KILL -- "-$group"
            groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
        *) groups="$groups$group " ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"""

EPILOG = """\
COMMAND gets the message as one JSON object on standard input, as of `p2pchat tail --json`, and its fields as \
P2PCHAT_MESSAGE_ID, _SENDER, _CONVERSATION, _KIND, _TEXT and so on. What it prints is the \
reply. What it leaves running in its process group is ended.

\b
Examples:
  p2pchat on message --from bob --dm --exec uptime
  p2pchat on message --anyone --mention --exec sh -c 'claude -p "$P2PCHAT_MESSAGE_TEXT"'
  p2pchat on message --from ada --exec sh -c 'codex exec "$P2PCHAT_MESSAGE_TEXT"'
  p2pchat on message --from ci --in '#ops' --timeout 60 --exec python3 deploy.py

Exit codes: 0 SIGTERM; 1 the peer stopped or was killed; 2 usage; 4 no such name, or several; 130 Ctrl-C.
"""


@click.group("on", cls=cli.CommandGroup, epilog="Example: p2pchat on message --from bob --dm --exec uptime")
def on() -> None:
    """Run a command for what happens."""


@on.command("message", cls=cli.Command, epilog=EPILOG, context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, metavar="COMMAND...")
@cli.stored_options
@cli.option("--from senders", "NAME", "for messages of this user; may be repeated", multiple=True)
@cli.option("--anyone", "", "for messages of every user, also of those who join later")
@cli.option("--in to", "CONVERSATION", "only in this conversation")
@cli.option("--dm", "", "only direct messages")
@cli.option("--mention", "", "only messages that mention me")
@cli.option("--jobs", "N", "in how many conversations it runs at once (default 4)", type=cli.number(1), default=4)
@cli.option("--timeout", "SECONDS", "how long it may run (default 600)", type=cli.SECONDS, default=600.0)
@cli.option("--tell-failures", "", "tell the writer, too, when it fails")
@cli.option("--retry", "", "run again what was interrupted")
@cli.option("--exec executes", "", "the command is what stands behind this")
def message(profile: cli.ProfileChoice, db: str, executes: bool, **values: Any) -> int:
    """Run COMMAND once for each new message, and send what it prints as the reply.

    A running peer is used; otherwise this command runs the peer. Messages that come while it is down wait. What ran
    when it was killed never runs again by itself.
    """
    runs = CommandRuns(**values)
    if bool(runs.senders) == runs.anyone:
        raise UsageError("say whose messages may run it: --from NAME, or --anyone")
    for name in ("sh", runs.command[0]):  # a shell ends what it leaves running
        if shutil.which(name) is None:
            raise UsageError(f"there is no command {name!r} here")
    return run_until_signal(runs.serve(find_profile(profile), profile.port, db), terminated=lambda: DONE)


@dataclass
class CommandRuns:
    """A command and its runs, one at a time for each conversation. The fields are the options."""

    command: tuple[str, ...]
    senders: tuple[str, ...]
    anyone: bool
    to: str | None
    dm: bool
    mention: bool
    jobs: int
    timeout: float
    tell_failures: bool
    retry: bool

    async def serve(self, directory: Path, port: int, db: str) -> int:
        """Run the command for each message, until this is cancelled. Raises PeerGone when the peer ends."""
        async with connect_or_run(directory, port=port, db=db) as control:
            self._control = control
            tail = {"last": 0, "ignored": False, "consumer": "on-message"}
            if self.to is not None:
                tail["to"] = self.to
            users = [await control.ask("whois", user=name) for name in self.senders]
            self._sender_ids = {user["user_id"] for [user] in users}
            await control.ask("tail", **tail)
            self._db = sqlite3.connect(directory / "on-message.db", isolation_level=None)
            self._db.executescript(OPEN_RUNS)
            if self.retry:
                self._db.execute("UPDATE runs SET state = 'waiting' WHERE state = 'interrupted'")
            for [text] in self._db.execute("SELECT line FROM runs WHERE state = 'interrupted' ORDER BY rowid"):
                line = json.loads(text)
                print_notice(f"-- interrupted, --retry runs it again: {line['id']} of {quote_name(line['sender'])}")
            print_notice(f"-- answers messages to {quote_name(str(control.listening['user']))}")
            self._watcher = Popen(["sh", "-c", WATCHER], stdin=PIPE, start_new_session=True, text=True)
            tasks = set[asyncio.Task[Any]]()
            reading = asyncio.create_task(control.next_line())
            try:
                while True:
                    for row, text, answer in self._db.execute(NEXT, [self.jobs - len(tasks)]).fetchall():
                        self._db.execute("UPDATE runs SET state = 'running' WHERE rowid = ?", [row])
                        tasks.add(asyncio.create_task(self._handle(json.loads(text), json.loads(answer or "null"))))
                    done, _ = await asyncio.wait(tasks | {reading}, return_when=asyncio.FIRST_COMPLETED)
                    for task in done & tasks:
                        tasks.remove(task)
                        task.result()
                    if reading in done:
                        line = reading.result()
                        if line is None:
                            raise PeerGone(control.reason)
                        if line["event"] == "message":
                            self._note(line)
                            await control.send(do="taken", ref="taken")
                        reading = asyncio.create_task(control.next_line())
            finally:
                await stop_tasks(tasks | {reading})

    def _note(self, line: EventLine) -> None:
        """Note a message if the command is to run for it. As a bot it does not answer programs for ever."""
        me = self._control.listening
        if (
            not line["old"]
            and not line.get("automatic")
            and line.get("hops", 0) < HOP_LIMIT
            and (self.anyone or line["sender_id"] in self._sender_ids)
            and (line["kind"] == "dm" or not self.dm)
            and (not self.mention or mentions(line["text"], me["user"], me["user_id"]))
        ):
            self._db.execute(
                "INSERT OR IGNORE INTO runs SELECT ?, ?, ?, 'waiting', NULL FROM began WHERE at <= ?",
                [line["id"], line["conversation_id"], json_line(line), line["at"]],
            )

    async def _handle(self, line: EventLine, answer: Any) -> None:
        """Run the command for a message unless its answer is known, and send that."""
        id = line["id"]
        if answer is None:
            hops = line.get("hops", 0) + 1
            try:
                text = await self._output(line)
            except (CommandError, OSError) as error:
                print_error(f"{id} of {line['sender']}: the command failed: {str(error) or 'timed out'}")
                text, hops = "", HOP_LIMIT  # no program answers this
                if self.tell_failures:
                    text = "that failed; whoever runs this command sees why"
            answer = {"text": text, "reply_to": id, "hops": hops, "key": token_hex(8)}
            self._db.execute("UPDATE runs SET answer = ? WHERE id = ?", [json.dumps(answer), id])
        if answer["text"]:
            try:
                await self._control.accept(to=line["conversation_id"], **answer)
            except (RequestRefused, TooLong) as error:
                print_error(f"{id} of {line['sender']} got no answer: {error}")
        self._db.execute("UPDATE runs SET state = 'done', line = '', answer = NULL WHERE id = ?", [id])

    async def _output(self, line: EventLine) -> str:
        """Run the command for a message; return what it printed.

        Raises:
            CommandError: It failed, or printed more than a message holds. OSError: It cannot be run. TimeoutError.
        """
        parts = {f"P2PCHAT_MESSAGE_{name.upper()}": str(line[name]).replace("\0", "") for name in line}
        process = Popen(
            BEGIN + self.command, stdin=PIPE, stdout=PIPE, env={**os.environ, **parts}, start_new_session=True
        )
        print(process.pid, file=self._watcher.stdin, flush=True)
        try:
            async with asyncio.timeout(self.timeout):
                _, answer = await asyncio.gather(in_thread(_give, process, line), in_thread(_answer_of, process))
                return answer
        finally:
            print(process.pid, file=self._watcher.stdin, flush=True)


def _give(process: Popen[bytes], line: EventLine) -> None:
    """Begin a command, and write a message to it, which it need not read."""
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(f"\n{json_line(line)}".encode())


def _answer_of(process: Popen[bytes]) -> str:
    """Return what a command printed, once it has ended. Raises CommandError."""
    assert process.stdout is not None
    with process.stdout as pipe:
        printed = pipe.read(MOST_PRINTED + 1)
    if len(printed) > MOST_PRINTED:
        raise CommandError(f"it printed more than {MOST_PRINTED} bytes")
    if process.wait():
        raise CommandError(f"exit code {process.returncode}")
    return printed.decode(errors="replace").strip()
