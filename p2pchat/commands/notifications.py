"""What people are told beside the chat, on stderr: who has what, who is away, how much is older. Calmly: what comes
within a moment is one line, and what stays as it is, is told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from p2pchat import Conversation, Link, Receipt, Receipts, TCPPeer, User, parse_invite
from p2pchat.commands.errors import print_notice
from p2pchat.commands.render import excerpt, quote_conversation, quote_name
from p2pchat.safe_text import safe_line, safe_text

NOTICE_DELAY = 0.3  # seconds: receipts that come together are one line, and who has it by then is not away
_ROOM = ""  # stands for everybody where a user's id is meant


class Notifier:
    """One chat's asides.

    Args:
        tell: Takes each line.
    Attributes:
        history: The command that shows what is older.
        rooms: Ids of the room, once it is known: receipts there are too many to show to people.
        counted: Called when no more older messages come, with the line that says how many there are.
    """

    def __init__(self, notify: Callable[[str], None] = print_notice) -> None:
        self._notify = notify
        self.history = "/history"
        self.rooms: set[str] = set()
        self.counted: Callable[[str], None] = notify
        self._older = 0
        self._older_before = 0  # a moment ago
        self._open: Counter[str] = Counter()  # direct messages of this run nobody has yet, by conversation
        self._delivered: Counter[tuple[str, str]] = Counter()  # by user and conversation, not told yet
        self._kept: dict[str, tuple[Conversation, Receipt | Receipts]] = {}  # the newest by user, not looked at yet
        self._told: set[str] = set()  # users of whom it was said that they are away
        self._words: dict[str, str] = {}  # what was said of those who are here and away, by user
        self._later: asyncio.TimerHandle | None = None

    # What is noticed

    def older(self) -> None:
        """An entry from before is not shown."""
        self._older += 1
        self._soon()

    def sent(self, event: dict[str, Any], *, room: bool = False) -> None:
        """A `sent` line of this run was shown, or would have been; `room`: also when it went to the room."""
        if event["kind"] == "dm" or room:
            self._open[event["conversation_id"]] += 1

    def delivered(self, event: dict[str, Any], *, room: bool = False) -> None:
        """A `delivered` line came; `room`: it is told also when it is of the room, or of a group of several."""
        if room or (event["conversation_id"] not in self.rooms and event.get("of", 1) < 2):
            self._delivered[event["user"], event["conversation_id"]] += 1
            self._soon()

    def kept(self, to: Conversation, receipt: Receipt | Receipts) -> None:
        """Something was accepted; whether somebody is there for it is seen a moment later."""
        self._kept[_recipient_key(to)] = (to, receipt)
        self._soon()

    def joined(self, user_id: str) -> None:
        """Somebody came: when they are away again, it is told again."""
        self._told -= {user_id, _ROOM}

    def leave(self) -> None:
        """We leave: who lacks what is told at the end, by whoever knows it then."""
        self._kept.clear()

    def close(self) -> None:
        """Tell what was kept for a moment."""
        self._tell_delivered()
        self._tell_older()
        if self._later is not None:
            self._later.cancel()

    # A moment later

    def _soon(self) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(NOTICE_DELAY, self._tell)

    def _tell(self) -> None:
        self._later = None
        self._tell_delivered()
        self._tell_away()
        if self._older != self._older_before:  # still coming
            self._older_before = self._older
            self._soon()
        else:
            self._tell_older()

    def _tell_delivered(self) -> None:
        for (user, conversation), count in self._delivered.items():
            self._notify(f"-- {quote_name(user)} has {_how_many(count, self._open[conversation])}")
            self._open[conversation] = max(0, self._open[conversation] - count)
        self._delivered.clear()

    def _tell_away(self) -> None:
        kept, self._kept = self._kept, {}
        for user_id, (to, receipt) in kept.items():
            self._tell_word(to.user)
            if user_id not in self._told and _has_no_reachable_recipient(to, receipt):
                self._told.add(user_id)
                if to.kind == "group":
                    self._notify(f"-- nobody of {quote_conversation(to.name, to.kind)} is here: kept, sent on return")
                elif to.user is None:
                    self._notify("-- nobody is here: kept, sent to whoever comes")
                else:
                    self._notify(f"-- {quote_name(to.name)} is away: kept, sent on return")

    def _tell_word(self, user: User | None) -> None:
        """Say once what somebody who is away says of it to whoever writes to them."""
        if user is None or user.is_me:
            return
        word = user.status_text if user.status == "idle" else ""
        if word and word != self._words.get(user.id):
            self._notify(f"-- {quote_name(user.label)} is away: {excerpt(word, len(word))}")
        self._words[user.id] = word

    def _tell_older(self) -> None:
        if self._older:
            many = f"{self._older:,} older messages" if self._older > 1 else "1 older message"
            self.counted(f"-- {many}: {self.history} shows {'them' if self._older > 1 else 'it'}")
        self._older = self._older_before = 0


def _how_many(count: int, open_: int) -> str:
    """Say which messages somebody has now: `count` of those `open_` in this run; more are of earlier runs too."""
    if count > open_:
        return f"{count} of your messages"
    if count < open_:
        return f"{count} of your {open_} messages"
    return "your message" if count == 1 else f"all {count} of your messages"


def _recipient_key(to: Conversation) -> str:
    return to.user.id if to.user else to.id if to.kind == "group" else _ROOM


def _has_no_reachable_recipient(to: Conversation, receipt: Receipt | Receipts) -> bool:
    if is_delivered(receipt):
        return False
    if to.kind == "group":
        members = last_receipt(receipt).of
        return bool(members) and not any(user.status in ("online", "idle") for user in members)
    if to.user is not None:
        return to.user.status not in ("online", "idle")
    return not last_receipt(receipt).of


def is_delivered(receipt: Receipt | Receipts) -> bool:
    """Whether everything a call sent is delivered; of many the last says it for all before."""
    return last_receipt(receipt).status in ("delivered", "read")


def last_receipt(receipt: Receipt | Receipts) -> Receipt:
    """Return the receipt that says it for all before."""
    return receipt if isinstance(receipt, Receipt) else receipt[-1]


# ---- arrival
#
# Whom one has come to: after `--invite` one line about the network joined, once it is known who is there.
#
# Links come up and people are told one after the other; what comes within a moment belongs together.


JOINS_SETTLE_AFTER = 0.5  # seconds without news: a guess at what people wait for gladly
JOIN_SUMMARY_WITHIN = 3.0  # seconds after the first link, in a network where somebody always comes


class JoinSummary:
    """One start that goes to others.

    Args:
        invite: Its text; "" when none was given.
        calls: Whether others are called at all.
    Attributes:
        under_way: From the first link to somebody we called until it is known who is there: who is found then was there
            before, and does not come.
        over: Nothing more will be told.
    """

    def __init__(self, invite: str, *, calls: bool, notify: Callable[[str], None] = print_notice) -> None:
        self._inviter = parse_invite(invite).peer_id if invite else ""
        self._notify = notify
        self._at = ""  # where the first link was
        self._peer: TCPPeer | None = None
        self._later: asyncio.TimerHandle | None = None
        self._latest = 0.0
        self.under_way = False
        self.over = not calls

    def begin(self, peer: TCPPeer) -> None:
        """This peer has started."""
        self._peer = peer

    def noticed(self, event: Any) -> None:
        """Take any event of the peer."""
        is_ours = isinstance(event, Link) and event.state == "up" and event.endpoint
        if self.over or not (self.under_way or is_ours):
            return
        loop = asyncio.get_running_loop()
        if not self.under_way:
            self.under_way, self._at, self._latest = True, event.endpoint, loop.time() + JOIN_SUMMARY_WITHIN
        if self._later is not None:
            self._later.cancel()
        self._later = loop.call_at(min(loop.time() + JOINS_SETTLE_AFTER, self._latest), self._arrived)

    def close(self) -> None:
        """Tell nothing any more."""
        self.under_way, self.over = False, True
        if self._later is not None:
            self._later.cancel()

    def _arrived(self) -> None:
        self.under_way, self.over = False, True
        if not self._inviter or self._peer is None:
            return
        users = self._peer.users()
        whose = next((f" of {quote_name(user.label)}" for user in users if user.key == self._inviter), "")
        here = sum(user.is_me or user.status in ("online", "idle") for user in users)
        now = "all here now" if here == len(users) else f"{here} of them here now"
        self._notify(f"-- joined the network{whose} at {safe_line(self._at)}: {len(users)} people, {now}")


# ---- diagnostics
#
# What the library and asyncio log, told to people as other notices are: above a prompt and never across it.


class NoticeLogHandler(logging.Handler):
    """Tells each record, in one line; the traceback of a defect in several."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # whatever the text of an argument raises; logging's own handlers do the same
            self.handleError(record)
            return
        print_notice(safe_text(text) if record.exc_info else safe_line(text))


def show_library_logs() -> None:
    """Tell everything the library does (-v)."""
    logger = logging.getLogger("p2pchat")
    logger.addHandler(NoticeLogHandler())
    logger.setLevel(logging.DEBUG)
