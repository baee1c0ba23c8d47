"""Commands about people: who is here, who one is oneself, whom one does not want to read."""

from __future__ import annotations

import asyncio
from datetime import datetime

from p2pchat import User
from p2pchat.apps.cli.chat.doing.here import Answer, Here
from p2pchat.apps.cli.exits import Failure, Usage
from p2pchat.apps.cli.output import Line, iso
from p2pchat.apps.cli.plain import plain_user, plain_whois, shown_name

MAX_STATUS_CHARACTERS = 512  # as many as one peer tells another
_ORDER = ("online", "idle", "offline", "unknown")


async def who(here: Here) -> Answer:
    """Everybody with a name, who is here first."""
    users = sorted(here.peer.users(), key=lambda user: _ORDER.index(user.status))
    rows = [_row(here, user) for user in users]
    now = datetime.now().astimezone()
    return Answer(rows, [plain_user(row, now) for row in rows])


async def whois(here: Here, user: str) -> Answer:
    """All that is known of one."""
    found = await here.user(user)
    row = {**_row(here, found), "linked": found.id in here.peer.links()}
    return Answer([row], plain_whois(row, datetime.now().astimezone()))


def _row(here: Here, user: User) -> Line:
    return {
        "user": user.label,
        "user_id": user.id,
        "name": user.name,
        "status": user.status,
        "text": user.status_text,
        "since": None if user.since is None else iso(user.since),
        "me": user.is_me,
        "ignored": user.id in here.settings.ignored,
    }


async def nick(here: Here, name: str) -> Answer:
    """Take another name."""
    await here.peer.rename(name)
    me = here.peer.me
    here.show.me = me.label
    here.unread.name = me.name
    row = {"user": me.label, "user_id": me.id, "name": me.name}
    return Answer([row], [f"-- you are {shown_name(me.label)} now"])


async def away(here: Here, text: str = "") -> Answer:
    """Tell others that one is away, with a text; without one, that one is back."""
    if not text:
        return await back(here)
    if len(text) > MAX_STATUS_CHARACTERS:
        raise Usage(f"what others are told has at most {MAX_STATUS_CHARACTERS} characters, this has {len(text)}")
    here.attention.away(text)
    await _taken()
    return Answer([{"status": "idle", "text": text}], ["-- others see that you are away; /back when you are back"])


async def back(here: Here) -> Answer:
    """Tell others that one is here."""
    here.attention.back()
    await _taken()
    return Answer([{"status": "online", "text": ""}], ["-- others see that you are here"])


async def _taken() -> None:
    """Let the peer take what was told, in its next turn: what is asked then, such as /who, knows it."""
    await asyncio.sleep(0)


async def allow(here: Here, user: str) -> Answer:
    """Store whatever one writes, however much, for good."""
    found = await here.user(user)
    if found.is_me:
        raise Usage("that is you: what you write has no limit here")
    await here.peer.allow(found)
    row = {"user": found.label, "user_id": found.id, "allowed": True}
    return Answer([row], [f"-- all that {shown_name(found.label)} writes is stored, without a limit"])


async def ignore(here: Here, user: str) -> Answer:
    """Show nothing more of one; a name that nobody has cannot be ignored, an id can."""
    found = await here.user(user)
    if found.is_me:
        raise Usage("that is you")
    return _ignored(here, found, True)


async def unignore(here: Here, user: str) -> Answer:
    """Show one again."""
    found = await here.user(user)
    if found.id not in here.settings.ignored:
        raise Usage(f"{shown_name(found.label)} is not ignored")
    return _ignored(here, found, False)


def _ignored(here: Here, user: User, ignored: bool) -> Answer:
    (here.settings.ignored.add if ignored else here.settings.ignored.discard)(user.id)
    save(here)
    told = "nothing more is shown of" if ignored else "what follows is shown of"
    row = {"user": user.label, "user_id": user.id, "ignored": ignored}
    return Answer([row], [f"-- {told} {shown_name(user.label)}"])


def save(here: Here) -> None:
    """Keep the settings.

    Raises:
        Failure: They hold now, and will not after the next start.
    """
    try:
        here.settings.save()
    except OSError as error:
        raise Failure(f"this holds until the end of this run: cannot keep it: {error.strerror or error}") from None
