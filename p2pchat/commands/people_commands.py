"""Commands about people: who is here, who one is oneself, whom one does not want to read."""

from __future__ import annotations

import asyncio
from datetime import datetime

from p2pchat import User
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.errors import Failure, Usage
from p2pchat.commands.format import plain_user, plain_whois, quoted, shown_name
from p2pchat.commands.output import Line, iso

MAX_STATUS_CHARACTERS = 512  # as many as one peer tells another
NOTHING = "-"  # typed, to tell nothing any more
MOST_LISTED = 40  # users at once, but all who are here; a guess: more is no list to look at
ID_CHARACTERS = 52  # a whole id, as people see it
_ORDER = ("online", "idle", "offline", "unknown")


async def who(here: Here, which: str = "") -> Answer:
    """Everybody with a name, who is here first; for people not all of very many, unless they say `all`."""
    if which not in ("", "all"):
        raise Usage("/who, or /who all")
    users = sorted(here.peer.users(), key=lambda user: _ORDER.index(user.status))
    known, now = len(users), datetime.now().astimezone()
    if here.for_people and not which:
        users = users[: max(MOST_LISTED, len(here.peer.here()))]
    rows = [user_row(here, user) for user in users]
    others = (
        [f"-- and {known - len(users)} more who are not here: /who all shows them too"] if known > len(users) else []
    )
    return Answer(rows, [*(plain_user(row, now) for row in rows), *others])


async def whois(here: Here, user: str) -> Answer:
    """All that is known of one, who may be known by a full id only."""
    known = await here.peer.whois(user if is_id(user) else await here.user(user))
    hosts = [
        {"peer_id": host.id, "linked": host.linked, "address": host.address, "endpoints": list(host.endpoints)}
        for host in known.hosts
    ]
    row = {
        **user_row(here, known.user),
        "known_since": None if known.known_since is None else iso(known.known_since),
        "allowed": known.allowed,
        "hosts": hosts,
        "linked": any(host.linked for host in known.hosts),
    }
    return Answer([row], plain_whois(row, datetime.now().astimezone()))


def user_row(here: Here, user: User) -> Line:
    """Return one row of /who."""
    return {
        "user": user.label,
        "user_id": user.id,
        "name": user.name,
        "status": user.status,
        "text": user.status_text,
        "since": None if user.since is None else iso(user.since),
        "me": user.is_me,
        "ignored": user.ignored,
        "about": user.about,
        "names_before": list(here.peer.names_before(user)),
    }


async def nick(here: Here, name: str) -> Answer:
    """Take another name."""
    await here.peer.rename(name)
    me = here.peer.me
    here.show.me = me.label
    here.unread.name = me.name
    row = {"user": me.label, "user_id": me.id, "name": me.name}
    return Answer([row], [f"-- you are {shown_name(me.label)} now"])


async def about(here: Here, text: str | None = None) -> Answer:
    """Tell others something about oneself, or ("" or -) nothing any more; alone: what one tells."""
    if text is not None:
        await here.peer.rename(here.peer.me.name, about="" if text == NOTHING else text)
    me = here.peer.me
    row = {"user": me.label, "user_id": me.id, "about": me.about}
    told = f"others see of you: {quoted(me.about, len(me.about))}" if me.about else "you tell nothing about yourself"
    return Answer([row], [f"-- {told}"])


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


async def typing(here: Here, to: str = "room", on: bool = True) -> Answer:
    """Tell those who can read a conversation that one writes there, or has stopped; not where that is switched off."""
    there = await here.resolve(to)
    is_told = here.settings.is_on("typing", there.id)
    if is_told:
        there.typing(on)
    return Answer([{"conversation": there.name, "conversation_id": there.id, "typing": on and is_told}])


async def _taken() -> None:
    """Let the peer take what was told, in its next turn: what is asked then, such as /who, knows it."""
    await asyncio.sleep(0)


async def allow(here: Here, user: str) -> Answer:
    """Store whatever one writes, however much, for good."""
    who = user if is_id(user) else await here.user(user)
    if who == here.peer.me:
        raise Usage("that is you: what you write has no limit here")
    found = await here.whole_peer.allow(who)
    row = {"user": found.label, "user_id": found.id, "allowed": True}
    return Answer([row], [f"-- all that {shown_name(found.label)} writes is stored, without a limit"])


async def ignore(here: Here, user: str = "") -> Answer:
    """Show nothing more of one, who may be known by a full id only; alone: who is ignored."""
    if not user:
        rows = [_ignored_row(one) for one in here.peer.ignored()]
        lines = [f"-- {shown_name(row['user'])} is ignored: /unignore shows them again" for row in rows]
        return Answer(rows, lines or ["-- nobody is ignored"])
    found = await here.peer.ignore(user if is_id(user) else await here.user(user))
    here.unread.forget(found.id)
    return Answer([_ignored_row(found)], [f"-- nothing more is shown of {shown_name(found.label)}"])


async def unignore(here: Here, user: str) -> Answer:
    """Show one again."""
    who = user if is_id(user) else await here.user(user)
    if not here.peer.ignores(who if isinstance(who, str) else who.id):
        raise Usage(f"{shown_name(user)} is not ignored")
    found = await here.peer.unignore(who)
    return Answer([_ignored_row(found)], [f"-- what follows is shown of {shown_name(found.label)}"])


def is_id(text: str) -> bool:
    return len(text.removeprefix("@")) == ID_CHARACTERS


def _ignored_row(user: User) -> Line:
    return {"user": user.label, "user_id": user.id, "ignored": user.ignored}


def save(here: Here) -> None:
    """Keep the settings.

    Raises:
        Failure: They hold now, and will not after the next start.
    """
    try:
        here.settings.save()
    except OSError as error:
        raise Failure(f"this holds until the end of this run: cannot keep it: {error.strerror or error}") from None
