"""An agent: what the tools of `p2pchat mcp` do (TOOLS of commands/command_table.py), a function each.

An answer can be lost on its way, and a later call proves nothing about it. So an answer that shows messages names a
mark, `seen`, and only what the agent gives back with its next inbox is marked as read; everything else is shown again.
A conversation is marked up to the first message that was not given back.

A call that is repeated sends nothing twice, also if this process was killed in between: what the user sent lately is
read from the history of the peer. Without a key it is a repeated call only as long as nobody else spoke there, and a
question only until its answer was returned. A key of the caller is the fraction of a second of `claimed_at`, so it
needs no place of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from p2pchat import HOP_LIMIT
from p2pchat.bounded import remember
from p2pchat.cli.agent_messages import message_of
from p2pchat.cli.agent_peer import GONE, AgentPeer
from p2pchat.commands.command_table import BY_NAME
from p2pchat.commands.event_text import EventLine, format_causes, local_now
from p2pchat.commands.exit_codes import CommandError, UsageError
from p2pchat.kinds import HEADS
from p2pchat.safe_text import quote_names, safe_line
from p2pchat.threads import on_disk

PAGE, MAX_PAGE = 20, 100  # messages in an answer
MAX_PAGE_BYTES = 24_000  # of texts in an answer; some 6,000 tokens
MAX_MARKS = 100  # answers that the agent can still say it has seen
MAX_LISTED = 100  # members in an answer; names of those who lack a message
ANSWER_WAIT = 40.0  # seconds: many clients end a call after 60
MAX_WAIT = 3600.0  # seconds; clients end a call after minutes, and an agent can call again
PROGRESS_EVERY = 5.0  # seconds; clients that take progress for life end a call after a minute without
MINUTE = 60.0
MAX_HOPS = 255  # that a message can say
LOOKED_BACK = 200  # messages among which a call before a kill is looked for
SAME_WITHIN = timedelta(minutes=10)  # in which a text that is sent again without a key is taken for a repeated call
T = TypeVar("T")
Answer = dict[str, Any]
Progress = Callable[[float, float], Awaitable[None]]  # seconds gone, of so many
# A sent message: its text, what it answers, the names of its files, its choices.
Call = tuple[str, str | None, tuple[str, ...], tuple[str, ...]]


class Agent:
    """A member that a model speaks for.

    Args:
        files: The directory of its files, absolute; None: it has none.
        rate: So many messages, reactions and changes it may write within a minute.
        on_news: Called when a message of somebody else came.
    Attributes:
        waits: There are unread messages that it was not shown.
    """

    def __init__(self, peer: AgentPeer, *, files: Path | None, rate: int, on_news: Callable[[], None]) -> None:
        self._peer = peer
        self._files = files
        self._rate = rate
        self._on_news = on_news
        self.waits: bool = False
        self._shown: dict[str, list[EventLine]] = {}  # messages of answers that were not given back, by mark
        self._seen: dict[str, set[str]] = {}  # ids of messages given back and not marked yet, by conversation
        self._inboxes = 0  # calls
        self._written: deque[float] = deque()  # when
        # Calls that send just now, by conversation. A call that its client gives up goes on: its repetition joins it.
        self._sending: dict[tuple[str, Call, str], asyncio.Task[tuple[EventLine, bool]]] = {}
        self._answered: set[str] = set()  # questions of which a call returned the answer
        self._asked: dict[str, EventLine] = {}  # questions, by id
        self._presses: dict[str, EventLine] = {}  # the first one of a person, by the id of the question
        self._changed: dict[str, str] = {}  # edits, deletions and presses not given back, by the id of the message
        self._happened = asyncio.Event()

    def on_line(self, line: EventLine) -> None:
        """Handle an event line of the peer."""
        asked = self._asked.get(line.get("id", ""))
        is_press = asked is not None and _is_press(line, asked)
        if is_press:
            self._presses.setdefault(line["id"], line)
        if is_press or line["event"] in ("edited", "deleted"):
            remember(self._changed, line["id"], line["entry_id"], MAX_PAGE)
        if (line["event"] == "message" and not line["old"]) or line.get("id") in self._changed:
            self.waits = True
            self._on_news()
        self._wake()

    def _wake(self) -> None:
        """Let calls that wait look again."""
        self._happened.set()
        self._happened = asyncio.Event()

    async def look_for_more(self) -> None:
        """Find out whether there are unread messages that no answer showed."""
        shown = {row["id"] for rows in self._shown.values() for row in rows}.union(*self._seen.values())
        with suppress(CommandError):  # once it was expelled
            unread = await self._peer.ask("inbox", limit=len(shown) + 1)
            self.waits = bool(self._changed) or any(row["id"] not in shown for row in unread)

    async def _mark_seen(self, marks: Sequence[str]) -> None:
        """Mark as read what these answers showed, up to the first message of each conversation that was not seen."""
        for row in [row for mark in marks for row in self._shown.pop(mark, ())]:
            self._seen.setdefault(row["conversation_id"], set()).add(row["id"])
            if self._changed.get(row["id"]) == row.get("changed_id"):
                self._changed.pop(row["id"], None)
        for where, seen in list(self._seen.items()):
            left = await self._peer.ask("shown", to=where, ids=list(seen))
            seen.intersection_update(row["id"] for row in left)
            if not seen:
                self._seen.pop(where, None)

    # ---- tools that read

    async def who(self, progress: Progress) -> Answer:
        rows = await self._peer.ask("who")
        groups = [row for row in await self._peer.ask("list") if row["kind"] == "group" and row.get("member")]
        others = [row for row in rows if not row["me"]]
        return {
            "me": next(row["user"] for row in rows if row["me"]),
            "members": [
                {"name": row["user"], "here": row["status"] == "online", "about": row["about"]}
                for row in others[:MAX_LISTED]
            ],
            "more": max(0, len(others) - MAX_LISTED),
            "groups": [f"#{row['conversation']}" for row in groups],
        }

    async def inbox(
        self, progress: Progress, seen: str = "", to: str | None = None, wait: float = 0.0, limit: int = PAGE
    ) -> Answer:  # fmt: skip
        self._inboxes += 1
        turn = self._inboxes
        self._wake()
        marks = seen.split()
        is_unknown = bool(marks) and self._shown.keys().isdisjoint(marks)
        await self._mark_seen(marks)

        async def look() -> Answer | None:
            if turn != self._inboxes:
                return {"messages": [], "more": False, "next": "A later call of inbox has ended this one."}
            found = await self.unread(limit, to)
            return found if found["messages"] else None

        found = await self._until(look, wait, progress) or {"messages": [], "more": False}
        if is_unknown and "seen" in found:
            found["next"] = "No answer has the `seen` that you gave: give back this one, or these come again."
        return found

    async def unread(self, limit: int = PAGE, to: str | None = None, *, peek: bool = False) -> Answer:
        """Return unread messages that the agent did not say it has seen; with `peek` they count as not shown."""
        seen = set[str]().union(*self._seen.values())
        changed = dict(self._changed)
        found = await self._peer.ask("inbox", to=to, limit=limit + len(seen) + 1, changed=list(changed))
        for row in found:
            if row["id"] in changed:
                row["changed_id"] = changed[row["id"]]
        rows = [row for row in found if "changed_id" in row or row["id"] not in seen]
        page = rows[: _that_fit(rows[:limit])]
        answer: Answer = {"messages": [message_of(row) for row in page], "more": len(page) < len(rows)}
        if page and not peek:
            answer["seen"] = self._note_shown(page)
        if not peek and to is None:
            self.waits = answer["more"]
        return answer | ({"next": "More wait: call inbox with this `seen`."} if answer["more"] else {})

    async def history(
        self, progress: Progress, to: str | None = None, limit: int = PAGE, before: str | None = None,
        after: str | None = None,
    ) -> Answer:  # fmt: skip
        asked = {"to": to, "before": before, "after": after, "limit": limit + 1}
        rows = await self._peer.ask("history", **asked, ignored=False, changes=True)
        answer = _page(rows, limit, "before" if after is None else "after")
        if after is not None and (shown := answer["messages"]):
            answer["next"] = f"Later ones: the same with `after`: {shown[-1].get('changed_id', shown[-1]['id'])}"
        return answer

    async def search(self, progress: Progress, words: str, to: str | None = None, limit: int = PAGE) -> Answer:
        return _page(await self._peer.ask("search", words=words, to=to, limit=limit + 1, ignored=False), limit)

    async def receipt(self, progress: Progress, id: str) -> Answer:
        return _receipt(await self._receipt(id))

    # ---- tools that write

    async def send(
        self, progress: Progress, to: str, text: str = "", files: Sequence[str] = (), reply_to: str | None = None,
        wait: float = 2.0, until: str = "delivered", key: str = "",
    ) -> Answer:  # fmt: skip
        if until not in ("delivered", "read"):
            raise UsageError("`until` must be delivered or read")
        paths = [str(self._path(file)) for file in files]
        [where] = await self._peer.ask("find", to=to)
        sent, again = await self._accept(where, text, reply_to, key, paths)
        row: EventLine = {}

        async def look() -> bool | None:
            row.update(await self._receipt(sent["id"]))
            return row["status"] in (until, "read") or None

        await self._until(look, wait, progress)
        return _receipt(row, again=again, key=key)

    async def ask(
        self, progress: Progress, to: str, text: str, reply_to: str | None = None, choices: Sequence[str] = (),
        wait: float = ANSWER_WAIT, key: str = "",
    ) -> Answer:  # fmt: skip
        [where] = await self._peer.ask("find", to=to)
        lines: deque[EventLine] = deque()
        with self._peer.listening(lines.append):
            sent, again = await self._accept(where, text, reply_to, key, choices=choices, asks=True)
            self._asked[sent["id"]] = sent
            if again:
                lines.extendleft(reversed(await self._since(sent)))

            async def look() -> EventLine | None:
                if sent["id"] in self._presses:
                    return self._presses[sent["id"]]
                while lines:
                    if (line := lines.popleft()) is GONE:
                        raise CommandError("the peer ended meanwhile: the same call again goes on waiting")
                    if _is_press(line, sent):
                        return self._presses.setdefault(sent["id"], line)
                    if not choices and _is_answer(line, sent, where):
                        return line
                    if line["event"] == "member" and (await self._receipt(sent["id"]))["obstacle"]:
                        return {}
                return None

            found = await self._until(look, wait, progress)
        row = await self._receipt(sent["id"])
        answer = _receipt(row, again=again, key=key) | {"answered": bool(found)}
        if not found:
            more = row["obstacle"] or "the same call again goes on waiting"
            return answer | {"next": f"No answer yet: {more}. It is not a yes."}
        self._changed.pop(sent["id"], None)
        if choices:
            answer |= {"choice": found["reaction"], "by": found["by"], **({"at": found["at"]} if "at" in found else {})}
        else:
            answer |= {"answer": message_of(found), "seen": self._note_shown([found])}
            await self.look_for_more()
        self._answered.add(sent["id"])
        return answer | {"next": ""}

    async def _since(self, question: EventLine) -> list[EventLine]:
        """Return what was said and pressed since a question; of presses it is not known when."""
        rows = await self._recent(question["conversation_id"])
        place = next((place for place, row in enumerate(rows) if row["id"] == question["id"]), len(rows))
        [asked, *later] = rows[place:] or [question]
        return [*({"event": "reaction", "id": asked["id"], **one} for one in asked.get("reactions", ())), *later]

    async def act(self, do: str, **fields: Any) -> Answer:
        """Carry out a command whose tool has its fields. What counts people is told that none did it. A poll that was
        asked within ten minutes is not asked again.
        """
        if do in HEADS:
            return _page(await self._peer.ask(do, **fields), MAX_PAGE, "after")
        if do == "poll":
            [where] = await self._peer.ask("find", to=fields["to"])
            call: Call = (fields["question"], None, (), tuple(fields["options"]))
            asked = self._sent_before(await self._recent(where["conversation_id"]), call, asks=True)
            if asked is not None:
                return {"id": asked["id"], "next": "This poll was asked before, and not once more."}
        self._count_write()
        more = {"automatic": True} if "automatic" in BY_NAME[do].json else {}
        [row] = await self._peer.ask(do, **fields, **more)
        return {"id": row["id"]}

    async def group(self, progress: Progress, name: str, members: Sequence[str] = ()) -> Answer:
        for row in await self._peer.ask("list"):
            if row["kind"] == "group" and row["conversation"] == name and row["member"]:
                said = "You are in a group of this name, and no other was created."
                return {"to": f"#{name}", "members": row["members"], "next": said}
        self._count_write()
        return _group(await self._peer.ask("group", name=name, members=list(members)))

    async def add(self, progress: Progress, to: str, users: Sequence[str]) -> Answer:
        self._count_write()
        return _group(await self._peer.ask("add", to=to, users=list(users)))

    async def get(
        self, progress: Progress, id: str, number: int = 1, path: str = "", wait: float = ANSWER_WAIT
    ) -> Answer:
        to = self._path(path)
        try:
            is_wrong = await on_disk(lambda: to.is_file() or not to.parent.is_dir())
        except OSError as error:
            raise UsageError(f"{safe_line(path)[:200]} cannot be used: {error.strerror or error}") from None
        if is_wrong:
            raise UsageError(f"{safe_line(path)} is there already, or its directory is not: choose another path")
        saving = asyncio.create_task(self._peer.ask("get", id=id, number=number, path=str(to)))

        async def look() -> list[EventLine] | None:
            return saving.result() if saving.done() else None

        rows = await self._until(look, wait, progress, ends=saving)
        if rows is None:
            return {"saved": False, "next": "It has not come yet, and is saved when it has: look there later."}
        return {"saved": True, "path": str(Path(rows[0]["path"]).relative_to(self._path("")))}

    # ---- helpers

    async def _until(
        self, look: Callable[[], Awaitable[T | None]], seconds: float, progress: Progress,
        ends: asyncio.Future[Any] | None = None,
    ) -> T | None:  # fmt: skip
        """Return what `look` returns, looking after each event, and when `ends` ends; None if it is None too long."""
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            happened = self._happened
            if (found := await look()) is not None or now() - began >= seconds:
                return found
            waiting = asyncio.ensure_future(happened.wait())
            either, left = [waiting, ends or waiting], began + seconds - now()
            try:
                await asyncio.wait(either, timeout=min(left, PROGRESS_EVERY), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            await progress(now() - began, seconds)

    async def _receipt(self, id: str) -> EventLine:
        [row] = await self._peer.ask("receipts", id=id)
        return row

    def _note_shown(self, rows: list[EventLine]) -> str:
        """Note that an answer shows these messages; return its mark."""
        mark = token_hex(4)
        remember(self._shown, mark, rows, MAX_MARKS)
        return mark

    async def _accept(
        self, where: EventLine, text: str, reply_to: str | None, key: str, paths: Sequence[str] = (),
        choices: Sequence[str] = (), *, asks: bool = False,
    ) -> tuple[EventLine, bool]:  # fmt: skip
        """Send a message unless this call sent it before; return its line, and whether that was before."""
        call: Call = (text, reply_to, tuple(Path(path).name for path in paths), tuple(choices))
        place = str(where["conversation_id"]), call, key
        if (sending := self._sending.get(place)) is not None:
            return (await asyncio.shield(sending))[0], True
        sending = self._sending[place] = asyncio.create_task(self._send_once(*place, paths, asks))
        sending.add_done_callback(lambda _: self._sending.pop(place))
        return await asyncio.shield(sending)

    async def _send_once(
        self, at: str, call: Call, key: str, paths: Sequence[str], asks: bool
    ) -> tuple[EventLine, bool]:  # fmt: skip
        rows = await self._recent(at)
        before = None if key else self._sent_before(rows, call, asks=asks)
        if before is not None:
            return before, True
        hops = 1  # however this agent was shown what it answers
        for row in rows:
            if row["event"] == "message":
                hops = row.get("hops", 0) + 1
        if asks and hops > HOP_LIMIT:
            raise CommandError(f"programs answered each other {HOP_LIMIT} times there: a person has to write first")
        self._count_write()
        text, reply_to, _, choices = call
        sent = await self._peer.send(
            to=at, text=text or None, reply_to=reply_to, files=list(paths) or None, key=key and f"{key} {at} {call}",
            choices=list(choices) or None, hops=min(hops, MAX_HOPS),
        )  # fmt: skip
        return sent, "again" in sent

    async def _recent(self, at: str) -> list[EventLine]:
        return await self._peer.ask("history", to=at, limit=LOOKED_BACK)

    def _sent_before(self, rows: list[EventLine], call: Call, *, asks: bool) -> EventLine | None:
        """Return the one of these messages that this call sent before; None if it sent none."""
        now = datetime.now(UTC)
        for row in reversed(rows):
            if row["event"] != "sent":
                if not asks:
                    break  # what is said after somebody else spoke is something new
            elif _call_of(row) == call:
                is_open = row["id"] not in self._answered and now - datetime.fromisoformat(row["sent_at"]) < SAME_WITHIN
                if is_open:
                    return row
        return None

    def _count_write(self) -> None:
        """Count something that is written. Raises CommandError above the rate."""
        now, written = asyncio.get_running_loop().time(), self._written
        while written and written[0] <= now - MINUTE:
            written.popleft()
        if len(written) >= self._rate:
            seconds = int(written[0] + MINUTE - now) + 1
            raise CommandError(f"{self._rate} were sent within a minute, no more are allowed: again in {seconds} s")
        written.append(now)

    def _path(self, path: str) -> Path:
        """Return a path below the operator's directory, "" for that; it is not left through links either."""
        if self._files is None:
            raise UsageError("files are not allowed here: the --may of the operator lacks files")
        root = self._files.resolve()
        with suppress(OSError, ValueError, RuntimeError):
            found = (root / path).resolve()
            if found.is_relative_to(root):
                return found
        raise UsageError(f"{safe_line(path)} is not below the directory of this agent, {safe_line(str(root))}")


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raise UsageError if a tool is to wait too long, or to show too much."""
    if not 0 <= fields.get("wait", 0) <= MAX_WAIT:  # nan fails too
        raise UsageError(f"`wait` must be seconds from 0 to {MAX_WAIT:g}")
    if not 1 <= fields.get("limit", 1) <= MAX_PAGE:
        raise UsageError(f"`limit` must be from 1 to {MAX_PAGE}")


def _that_fit(rows: Sequence[EventLine]) -> int:
    """Return how many of these messages, the first ones, fit into an answer; the first one always does."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row["text"].encode())
        if count and size > MAX_PAGE_BYTES:
            return count
    return len(rows)


def _page(rows: list[EventLine], limit: int, edge: str = "") -> Answer:
    """Return those of these messages, oldest first, that fit: the newest, or the oldest with the edge `after`.

    Args:
        edge: The field that names where a further page begins; "": there is none.
    """
    count = _that_fit(rows[:limit] if edge == "after" else rows[::-1][:limit])
    page = rows[:count] if edge == "after" else rows[len(rows) - count :]
    answer: Answer = {"messages": [message_of(row) for row in page], "more": count < len(rows)}
    if answer["more"] and edge:
        answer["next"] = f"More: the same with `{edge}`: {page[-1 if edge == 'after' else 0]['id']}"
    return answer


def _receipt(row: EventLine, *, again: bool = False, key: str = "") -> Answer:
    """Return what became of a sent message; without a key a call that sent nothing is told so before all else."""
    lacks, status = row["missing"], row["status"]
    answer: Answer = {
        "id": row["id"], "status": status, "of": row["of"], "delivered": row["count"], "read": row["read_count"],
        "missing": lacks[:MAX_LISTED], "why": format_causes(row, local_now())[:MAX_LISTED],
    }  # fmt: skip
    if again:
        answer |= {"again": True, "status": status if key else "repeated"}
        answer["next"] = "This was sent before, and not once more: to do that, give it a `key`."
    elif status == "accepted":
        whom = quote_names(lacks) if lacks else "whoever comes"
        fate = f"; {row['obstacle']}. Do" if row["obstacle"] else f" and goes to {whom} by itself later: do"
        answer["next"] = f"It is on this disk{fate} not send it again."
    return answer


def _group(rows: list[EventLine]) -> Answer:
    return {"to": f"#{rows[0]['group']}", "members": len(rows[0]["members"])}


def _call_of(row: EventLine) -> Call:
    names = tuple(file["name"] for file in row.get("files", ()))
    return row["text"], row["reply_to"], names, tuple(row.get("choices", ()))


def _is_press(line: EventLine, question: EventLine) -> bool:
    """Return whether an event line is a choice that a person pressed whom the question was for."""
    if line["event"] != "reaction" or line.get("automatic") or line["by_id"] == question["sender_id"]:
        return False
    return bool(line["id"] == question["id"] and line["reaction"] in question.get("choices", ()))


def _is_answer(line: EventLine, question: EventLine, where: EventLine) -> bool:
    """Return whether an event line is the answer to a question."""
    if line["event"] != "message" or line.get("automatic"):
        return False
    if line["reply_to"] is not None:
        return bool(line["reply_to"] == question["id"])
    return where["kind"] == "dm" and line["conversation_id"] == where["conversation_id"] and not line["old"]
