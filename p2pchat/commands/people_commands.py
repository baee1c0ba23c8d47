"""Commands about people: who is here, who one is oneself, whom one does not want to read."""

from __future__ import annotations

import asyncio
from datetime import datetime

from p2pchat import AmbiguousName, Conversation, Group, HostedUser, P2PChatError, TCPPeer, UnknownName, User
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.endpoints import is_loopback, parse_endpoint
from p2pchat.commands.errors import Failure, Usage
from p2pchat.commands.format import plain_conversation, plain_user, plain_whois, quoted, shown_name
from p2pchat.commands.invites import beyond_loopback, endpoints_of, invite_screen
from p2pchat.commands.output import Line, iso
from p2pchat.commands.read_tracking import Unread
from p2pchat.commands.settings import AS_ELSEWHERE, BY_NAME, Setting
from p2pchat.commands.typed_commands import help_lines
from p2pchat.safe_text import safe_line

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


# ---- meshing
#
# Commands about the mesh: linking with a peer, forgetting one, inviting.


_AT_ONCE = 0.01  # seconds: how it goes on, the endpoint's own line says


async def connect(here: Here, endpoint: str) -> Answer:
    """Dial a peer, and go on until it answers."""
    where = parse_endpoint(endpoint)
    here.calls(where)
    await here.whole_peer.connect(where, timeout=_AT_ONCE)
    return Answer([{"endpoint": where}], [f"-- calling {where}"])


async def forget(here: Here, peer: str) -> Answer:
    """Dial a peer no more: by the name of its user, its id, or an endpoint."""
    forgotten = await here.whole_peer.forget(peer)
    endpoints = ", ".join(safe_line(endpoint) for endpoint in forgotten.endpoints)
    told = f"{endpoints}: dialled no more" if endpoints else "no address of it was known"
    linked = "; the link that is up stays until it ends" if forgotten.linked else ""
    return Answer([{"endpoints": list(forgotten.endpoints), "linked": forgotten.linked}], [f"-- {told}{linked}"])


async def invite(here: Here) -> Answer:
    """Show what another machine needs to join."""
    row = invite_row(here.whole_peer)
    lines = invite_screen(row["invite"], qr=here.interactive).splitlines()
    if row["only_this_machine"]:
        lines += ["-- now only this machine reaches this peer: start it with --host 0.0.0.0 for others"]
    return Answer([row], lines)


def invite_row(peer: TCPPeer) -> Line:
    """Return the invite to a peer, and whether others can follow it."""
    told = [endpoint.rpartition(":")[0] for endpoint in endpoints_of(peer.invite)]
    only_here = is_loopback(peer.address) and all(map(is_loopback, told))  # --advertise may lead here all the same
    invite = beyond_loopback(peer.invite, peer.port)
    return {"invite": invite, "host": peer.address, "port": peer.port, "only_this_machine": only_here}


# ---- places
#
# Commands about conversations: which there are, and going to one.


async def go(here: Here, to: str = "room") -> Answer:
    """Send what follows there. People are told by whatever shows them where they are."""
    there = await here.waiting_for(to, lambda: _whichever(here, to))
    await here.go(there)
    return Answer([{"conversation": there.name, "conversation_id": there.id, "kind": there.kind}])


def _whichever(here: Here, to: str) -> Conversation:
    """Return what an address means; a bare name is whichever of user and group has it.

    Raises:
        UnknownName: Neither has. AmbiguousName: Both have, or several.
    """
    found: list[Conversation] = []
    several: list[str] = []
    try:
        found.append(here.peer.find(to))
    except AmbiguousName as error:
        several += error.candidates
    except UnknownName as error:
        nobody = error
    if to.lstrip()[:1] not in ("#", "@"):
        try:
            found.append(here.peer.group(to))
        except AmbiguousName as error:
            several += error.candidates
        except UnknownName:
            pass
    if several or len(found) > 1:
        raise AmbiguousName(to, [*(one.address for one in found), *several])
    if not found:
        raise nobody
    return found[0]


async def list_(here: Here, which: str = "") -> Answer:
    """Conversations: for people as many as they can look at, with `all` every one, as always for programs."""
    if which not in ("", "all"):
        raise Usage("/list, or /list all")
    if here.for_people and not which:
        shown, more = listed(here.peer, here.unread)
    else:
        shown, more = here.peer.conversations(), 0
    rows = [_row(here, conversation) for conversation in shown]
    others = [f"-- and {more} more: /list all shows them too"] if more else []
    return Answer(rows, [*(plain_conversation(row) for row in rows), *others])


def listed(peer: TCPPeer | HostedUser, unread: Unread) -> tuple[list[Conversation], int]:
    """Return the conversations people are shown, and how many more there are.

    All, the room first and then by name; where there are very many the room, those with something unread, and those in
    which something was written last.
    """
    known = peer.recent_conversations()
    if len(known) <= MOST_LISTED:
        return peer.conversations(), 0
    room = [one for one in known if one.kind == "room"]
    chosen = dict.fromkeys([*room, *(peer.find(id) for id in unread.ids), *known[:MOST_LISTED]])
    return list(chosen)[:MOST_LISTED], len(known) - MOST_LISTED


def place_row(conversation: Conversation) -> Line:
    """Return which conversation it is, of whom when it is a direct one, and of how many when it is a group's."""
    row: Line = {
        "conversation": conversation.name, "conversation_id": conversation.id, "kind": conversation.kind,
    }  # fmt: skip
    if conversation.user is not None:
        row |= {"user": conversation.user.label, "user_id": conversation.user.id}
    if isinstance(conversation, Group):
        row |= {"members": len(conversation.members), "member": conversation.is_member}
    return row


def _row(here: Here, conversation: Conversation) -> Line:
    return {
        **place_row(conversation),
        "unread": here.unread.count(conversation.id),
        "mentions": here.unread.mentions(conversation.id),
        "current": here.is_current(conversation),
    }


# ---- setting
#
# Commands about the chat itself: its settings, its help, its screen.


async def set_(here: Here, name: str = "", value: str = "", to: str = "") -> Answer:
    """Show all settings, or one; or change one and keep it, in general or in one conversation."""
    name, value = name.lower(), value.lower()
    if value and name in BY_NAME and BY_NAME[name].of_peer:
        return await _set_receipts(here, BY_NAME[name], value, to)
    if value:
        there = (await here.resolve(to)).id if to else ""
        try:
            here.settings.change(name, value, there)
        except ValueError as error:
            raise Usage(str(error)) from None
        save(here)
        if there:
            row = _row_setting(here, BY_NAME[name], there)
            return Answer([row], [_line(row)])
    elif name and name not in BY_NAME:
        raise Usage(f"there is no setting {name!a}; there are {', '.join(BY_NAME)}")
    rows = [row for setting in ([BY_NAME[name]] if name else BY_NAME.values()) for row in _rows(here, setting)]
    return Answer(rows, [_line(row) for row in rows])


def _rows(here: Here, setting: Setting) -> list[Line]:
    """Return a setting as it is in general, and its exceptions."""
    if setting.of_peer:
        exceptional = here.peer.receipt_exceptions()
        return [_receipts_row(here, setting), *(_receipts_row(here, setting, user) for user in exceptional)]
    exceptions = [id for id, values in here.settings.by_conversation.items() if setting.name in values]
    return [_row_setting(here, setting), *(_row_setting(here, setting, id) for id in exceptions)]


def _row_setting(here: Here, setting: Setting, conversation_id: str = "") -> Line:
    row = {
        "setting": setting.name,
        "value": here.settings.value(setting.name, conversation_id),
        "values": list(setting.values),
        "meaning": setting.meaning,
    }
    if conversation_id:
        row |= {"conversation": _name(here, conversation_id), "conversation_id": conversation_id}
    return row


async def _set_receipts(here: Here, setting: Setting, value: str, to: str) -> Answer:
    """Receipts of reading are the peer's matter: on or off for everybody, or with one user."""
    values = (*setting.values, AS_ELSEWHERE) if to else setting.values
    if value not in values:
        raise Usage(f"{setting.name} is {' or '.join(values)}, not {value!a}")
    who = (await here.resolve(to)).user if to else None
    if to and who is None:
        raise Usage("receipts are on or off for everybody, or with one user: /set receipts off bob")
    await here.peer.set_receipts(None if value == AS_ELSEWHERE else value == "on", who)
    rows = [_receipts_row(here, setting, who)] if who is not None else _rows(here, setting)
    return Answer(rows, [_line(row) for row in rows])


def _receipts_row(here: Here, setting: Setting, who: User | None = None) -> Line:
    value = "on" if here.peer.receipts(who) else "off"
    row = {"setting": setting.name, "value": value, "values": list(setting.values), "meaning": setting.meaning}
    if who is not None:
        row |= {"user": who.label, "user_id": who.id}
    return row


def _name(here: Here, conversation_id: str) -> str:
    try:
        return here.peer.find(conversation_id).name
    except P2PChatError:  # nobody has written there yet, and this is another run
        return conversation_id[:8]


def _line(row: Line) -> str:
    where = f" in {shown_name(row['conversation'])}" if "conversation" in row else ""
    where = f" with {shown_name(row['user'])}" if "user" in row else where
    return f"-- {row['setting']}{where} {row['value']} ({'|'.join(row['values'])}): {row['meaning']}"


async def help_(here: Here, command: str = "") -> Answer:
    """What there is."""
    lines = help_lines(command)
    return Answer([{"line": line} for line in lines], lines)


async def clear(here: Here) -> Answer:
    """Empty the screen."""
    if not await here.show.clear():
        raise Usage("/clear is for a terminal: there is no screen here")
    return Answer()
