"""Notices of delivery on stderr: deliveries, recipients who are offline, older messages.

Notices are combined: everything within a moment is one line, and a state that lasts is announced once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from p2pchat import Conversation, Receipt, Receipts, User
from p2pchat.commands.event_text import UNREACHABLE, excerpt
from p2pchat.commands.exit_codes import print_notice
from p2pchat.safe_text import quote_conversation, quote_name

NOTICE_DELAY = 0.3  # seconds: receipts within it are one line, and a recipient who answered within it is online
_ROOM = ""  # key of the room, where others have a user's or a group's id


class Notifier:
    """Prints the status notices of one chat.

    Attributes:
        history_command: The command that shows older messages.
        obstacle: Returns why nothing is sent to users (by label) while an expulsion lasts; "" if none is in the way.
        rooms: Ids of the room, once known: its receipts are too many for people.
        on_counted: Called with the numbers of older messages by conversation (its id, its name as typed), once no more
            of them arrive; again with all of a conversation if more do, as from a peer that was busy.
    """

    def __init__(self) -> None:
        self.history_command = "/history"
        self.rooms: set[str] = set()
        self.on_counted: Callable[[Counter[tuple[str, str]]], None] = self._print_older
        self._older: Counter[tuple[str, str]] = Counter()
        self._older_before = 0  # at the last flush
        self._older_unreported: set[tuple[str, str]] = set()
        self._undelivered: Counter[str] = Counter()  # messages of this run that lack someone, by conversation id
        self._completed: Counter[str] = Counter()  # those of them that lack nobody any more
        self.obstacle: Callable[[Sequence[str]], str] = lambda labels: ""
        self._delivered: Counter[tuple[str, str, bool]] = Counter()  # by user, conversation, whether it is at a gateway
        # By recipient: where, and the receipts since the last flush with what they are of.
        self._accepted: dict[str, tuple[Conversation, list[tuple[Receipt | Receipts, Sequence[str]]]]] = {}
        self._known_offline: set[tuple[str, str]] = set()  # recipients who were announced as offline, and the obstacle
        self._statuses: dict[str, str] = {}  # away texts that were announced, by user
        self._timer: asyncio.TimerHandle | None = None

    def count_older(self, event: dict[str, Any]) -> None:
        """Count an older `message` or `sent` event that is not shown."""
        place = quote_conversation(event["conversation"], event["kind"])
        self._older[event["conversation_id"], place] += 1
        self._older_unreported.add((event["conversation_id"], place))
        self._flush_soon()

    def on_sent(self, event: dict[str, Any], *, room: bool = False) -> None:
        """Count a `sent` event of this run. `room`: count messages to the room or a group too."""
        if event["kind"] == "dm" or room:
            self._undelivered[event["conversation_id"]] += 1

    def on_delivered(self, event: dict[str, Any], *, room: bool = False, last: bool = True) -> None:
        """Announce a `delivered` event. `room`: also those of the room or a group; `last`: none of it will follow."""
        if room or (event["conversation_id"] not in self.rooms and event.get("of", 1) < 2):
            self._delivered[event["user"], event["conversation_id"], event.get("at_gateway", False)] += 1
            self._completed[event["conversation_id"]] += last
            self._flush_soon()

    def on_accepted(self, to: Conversation, receipt: Receipt | Receipts, what: Sequence[str]) -> None:
        """Announce accepted messages a moment later, if no recipient is online then. `what` names each of them."""
        key = to.user.id if to.user else to.id if to.kind == "group" else _ROOM
        self._accepted.setdefault(key, (to, []))[1].append((receipt, what))
        self._flush_soon()

    def on_joined(self, user_id: str) -> None:
        """Allow a new announcement once this user is offline again."""
        self._known_offline = {one for one in self._known_offline if one[0] not in (user_id, _ROOM)}

    def on_shutdown(self) -> None:
        """Announce no more offline recipients: the end of the chat lists who lacks messages."""
        self._accepted.clear()

    def close(self) -> None:
        """Print what was delayed."""
        self._report_delivered()
        self._report_older()
        if self._timer is not None:
            self._timer.cancel()

    def _flush_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTICE_DELAY, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._report_delivered()
        self._report_offline()
        if self._older.total() != self._older_before:  # more may arrive
            self._older_before = self._older.total()
            self._flush_soon()
        else:
            self._report_older()

    def _report_delivered(self) -> None:
        for (user, conversation, kept), count in self._delivered.items():
            to = f"a gateway, kept for {quote_name(user)}, seen or not" if kept else quote_name(user)
            print_notice(f"-- delivered to {to}: {_how_many(count, self._undelivered[conversation])}")
        self._undelivered -= self._completed
        self._completed.clear()
        self._delivered.clear()

    def _report_offline(self) -> None:
        accepted, self._accepted = self._accepted, {}
        for key, (to, receipts) in accepted.items():
            self._report_status(to.user)
            what = [one for receipt, names in receipts if not last_receipt(receipt).delivered_to for one in names]
            obstacle = self.obstacle([] if to.user is None else [to.user.label])
            if (key, obstacle) not in self._known_offline and what and _has_no_reachable_recipient(to, receipts[-1][0]):
                self._known_offline.add((key, obstacle))
                saved = f"{what[0]} and {len(what) - 1} more are saved" if len(what) > 1 else f"{what[0]} is saved"
                if obstacle:
                    print_notice(f"-- {saved}; {obstacle}")
                elif to.kind == "group":
                    where = quote_conversation(to.name, to.kind)
                    print_notice(f"-- nobody in {where} is online: {saved}, and delivered when they are back")
                elif to.user is None:
                    print_notice(f"-- nobody is here yet: {saved}, and delivered when someone joins")
                else:
                    print_notice(f"-- {quote_name(to.name)} is offline: {saved}, and delivered when they are back")

    def _report_status(self, user: User | None) -> None:
        """Print the text of a recipient's status, once per text: an away message, or that nobody has this name yet."""
        if user is None or user.is_me:
            return
        word, text = {"idle": "away"}.get(user.status, user.status), user.status_text
        if text and user.status != UNREACHABLE and text != self._statuses.get(user.id):
            print_notice(f"-- {quote_name(user.label)} is {word}: {excerpt(text, len(text))}")
        self._statuses[user.id] = text

    def _report_older(self) -> None:
        if self._older_unreported:
            older = Counter({place: self._older[place] for place in self._older if place in self._older_unreported})
            self._older_unreported.clear()
            self.on_counted(older)

    def _print_older(self, older: Counter[tuple[str, str]]) -> None:
        count = self._older.total()
        print_notice(f"-- {older_messages(count)}: {self.history_command} shows {'them' if count > 1 else 'it'}")


def older_messages(count: int) -> str:
    return f"{count:,} older messages" if count > 1 else "1 older message"


def _how_many(count: int, undelivered: int) -> str:
    """Say how many of the `undelivered` messages of this run arrived; a larger count includes earlier runs.

    After a kill such a message may have been delivered, and told, before.
    """
    if count > undelivered:
        return f"{count} earlier message{'s' if count > 1 else ''}"
    if count < undelivered:
        return f"{count} of {undelivered} messages"
    return "your message" if count == 1 else f"all {count} messages"


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
    """Return whether everything a call sent is delivered."""
    return last_receipt(receipt).status in ("delivered", "read")


def last_receipt(receipt: Receipt | Receipts) -> Receipt:
    """Return the last receipt of a call; it implies those before."""
    return receipt if isinstance(receipt, Receipt) else receipt[-1]
