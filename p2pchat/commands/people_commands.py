"""Commands about people: who is here, who one is oneself, whom one does not want to read."""

from __future__ import annotations

import asyncio
from datetime import datetime

from p2pchat import AmbiguousName, Conversation, Group, HostedUser, P2PChatError, TCPPeer, UnknownName, User
from p2pchat.commands.context import CommandContext, CommandResult
from p2pchat.commands.endpoints import is_loopback, parse_endpoint
from p2pchat.commands.errors import CommandError, UsageError
from p2pchat.commands.invites import beyond_loopback, endpoints_of, invite_screen
from p2pchat.commands.output import EventLine, iso
from p2pchat.commands.read_tracking import UnreadCounter
from p2pchat.commands.render import excerpt, format_conversation, format_user, format_whois, quote_name
from p2pchat.commands.settings import BY_NAME, INHERIT, Setting
from p2pchat.commands.typed_commands import help_lines
from p2pchat.safe_text import safe_line

MAX_STATUS_CHARACTERS = 512  # as many as one peer tells another
NOTHING = "-"  # typed, to tell nothing any more
MOST_LISTED = 40  # users at once, but all who are here; a guess: more is no list to look at
ID_CHARACTERS = 52  # a whole id, as people see it
_ORDER = ("online", "idle", "offline", "unknown")


async def who(here: CommandContext, which: str = "") -> CommandResult:
    """Everybody with a name, who is here first; for people not all of very many, unless they say `all`."""
    if which not in ("", "all"):
        raise UsageError("/who, or /who all")
    users = sorted(here.peer.users(), key=lambda user: _ORDER.index(user.status))
    known, now = len(users), datetime.now().astimezone()
    if here.for_people and not which:
        users = users[: max(MOST_LISTED, len(here.peer.here()))]
    rows = [user_row(here, user) for user in users]
    others = (
        [f"-- and {known - len(users)} more who are not here: /who all shows them too"] if known > len(users) else []
    )
    return CommandResult(rows, [*(format_user(row, now) for row in rows), *others])


async def whois(here: CommandContext, user: str) -> CommandResult:
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
    return CommandResult([row], format_whois(row, datetime.now().astimezone()))


def user_row(here: CommandContext, user: User) -> EventLine:
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


async def nick(here: CommandContext, name: str) -> CommandResult:
    """Take another name."""
    await here.peer.rename(name)
    me = here.peer.me
    here.show.me = me.label
    here.unread.name = me.name
    row = {"user": me.label, "user_id": me.id, "name": me.name}
    return CommandResult([row], [f"-- you are {quote_name(me.label)} now"])


async def about(here: CommandContext, text: str | None = None) -> CommandResult:
    """Tell others something about oneself, or ("" or -) nothing any more; alone: what one tells."""
    if text is not None:
        await here.peer.rename(here.peer.me.name, about="" if text == NOTHING else text)
    me = here.peer.me
    row = {"user": me.label, "user_id": me.id, "about": me.about}
    told = f"others see of you: {excerpt(me.about, len(me.about))}" if me.about else "you tell nothing about yourself"
    return CommandResult([row], [f"-- {told}"])


async def away(here: CommandContext, text: str = "") -> CommandResult:
    """Tell others that one is away, with a text; without one, that one is back."""
    if not text:
        return await back(here)
    if len(text) > MAX_STATUS_CHARACTERS:
        raise UsageError(f"what others are told has at most {MAX_STATUS_CHARACTERS} characters, this has {len(text)}")
    here.attention.away(text)
    await _taken()
    return CommandResult(
        [{"status": "idle", "text": text}], ["-- others see that you are away; /back when you are back"]
    )


async def back(here: CommandContext) -> CommandResult:
    """Tell others that one is here."""
    here.attention.back()
    await _taken()
    return CommandResult([{"status": "online", "text": ""}], ["-- others see that you are here"])


async def typing(here: CommandContext, to: str = "room", on: bool = True) -> CommandResult:
    """Tell those who can read a conversation that one writes there, or has stopped; not where that is switched off."""
    there = await here.resolve(to)
    is_told = here.settings.is_on("typing", there.id)
    if is_told:
        there.typing(on)
    return CommandResult([{"conversation": there.name, "conversation_id": there.id, "typing": on and is_told}])


async def _taken() -> None:
    """Let the peer take what was told, in its next turn: what is asked then, such as /who, knows it."""
    await asyncio.sleep(0)


async def allow(here: CommandContext, user: str) -> CommandResult:
    """Store whatever one writes, however much, for good."""
    who = user if is_id(user) else await here.user(user)
    if who == here.peer.me:
        raise UsageError("that is you: what you write has no limit here")
    found = await here.whole_peer.allow(who)
    row = {"user": found.label, "user_id": found.id, "allowed": True}
    return CommandResult([row], [f"-- all that {quote_name(found.label)} writes is stored, without a limit"])


async def ignore(here: CommandContext, user: str = "") -> CommandResult:
    """Show nothing more of one, who may be known by a full id only; alone: who is ignored."""
    if not user:
        rows = [_ignored_row(one) for one in here.peer.ignored()]
        lines = [f"-- {quote_name(row['user'])} is ignored: /unignore shows them again" for row in rows]
        return CommandResult(rows, lines or ["-- nobody is ignored"])
    found = await here.peer.ignore(user if is_id(user) else await here.user(user))
    here.unread.forget(found.id)
    return CommandResult([_ignored_row(found)], [f"-- nothing more is shown of {quote_name(found.label)}"])


async def unignore(here: CommandContext, user: str) -> CommandResult:
    """Show one again."""
    who = user if is_id(user) else await here.user(user)
    if not here.peer.ignores(who if isinstance(who, str) else who.id):
        raise UsageError(f"{quote_name(user)} is not ignored")
    found = await here.peer.unignore(who)
    return CommandResult([_ignored_row(found)], [f"-- what follows is shown of {quote_name(found.label)}"])


def is_id(text: str) -> bool:
    return len(text.removeprefix("@")) == ID_CHARACTERS


def _ignored_row(user: User) -> EventLine:
    return {"user": user.label, "user_id": user.id, "ignored": user.ignored}


def save(here: CommandContext) -> None:
    """Keep the settings.

    Raises:
        Failure: They hold now, and will not after the next start.
    """
    try:
        here.settings.save()
    except OSError as error:
        raise CommandError(f"this holds until the end of this run: cannot keep it: {error.strerror or error}") from None


# ---- meshing
#
# Commands about the mesh: linking with a peer, forgetting one, inviting.


_AT_ONCE = 0.01  # seconds: how it goes on, the endpoint's own line says


async def connect(here: CommandContext, endpoint: str) -> CommandResult:
    """Dial a peer, and go on until it answers."""
    where = parse_endpoint(endpoint)
    here.calls(where)
    await here.whole_peer.connect(where, timeout=_AT_ONCE)
    return CommandResult([{"endpoint": where}], [f"-- calling {where}"])


async def forget(here: CommandContext, peer: str) -> CommandResult:
    """Dial a peer no more: by the name of its user, its id, or an endpoint."""
    forgotten = await here.whole_peer.forget(peer)
    endpoints = ", ".join(safe_line(endpoint) for endpoint in forgotten.endpoints)
    told = f"{endpoints}: dialled no more" if endpoints else "no address of it was known"
    linked = "; the link that is up stays until it ends" if forgotten.linked else ""
    return CommandResult([{"endpoints": list(forgotten.endpoints), "linked": forgotten.linked}], [f"-- {told}{linked}"])


async def invite(here: CommandContext) -> CommandResult:
    """Show what another machine needs to join."""
    row = invite_row(here.whole_peer)
    lines = invite_screen(row["invite"], qr=here.interactive).splitlines()
    if row["only_this_machine"]:
        lines += ["-- now only this machine reaches this peer: start it with --host 0.0.0.0 for others"]
    return CommandResult([row], lines)


def invite_row(peer: TCPPeer) -> EventLine:
    """Return the invite to a peer, and whether others can follow it."""
    told = [endpoint.rpartition(":")[0] for endpoint in endpoints_of(peer.invite)]
    only_here = is_loopback(peer.address) and all(map(is_loopback, told))  # --advertise may lead here all the same
    invite = beyond_loopback(peer.invite, peer.port)
    return {"invite": invite, "host": peer.address, "port": peer.port, "only_this_machine": only_here}


# ---- places
#
# Commands about conversations: which there are, and going to one.


async def go(here: CommandContext, to: str = "room") -> CommandResult:
    """Send what follows there. People are told by whatever shows them where they are."""
    there = await here.waiting_for(to, lambda: _whichever(here, to))
    await here.go(there)
    return CommandResult([{"conversation": there.name, "conversation_id": there.id, "kind": there.kind}])


def _whichever(here: CommandContext, to: str) -> Conversation:
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


async def list_(here: CommandContext, which: str = "") -> CommandResult:
    """Conversations: for people as many as they can look at, with `all` every one, as always for programs."""
    if which not in ("", "all"):
        raise UsageError("/list, or /list all")
    if here.for_people and not which:
        shown, more = listed(here.peer, here.unread)
    else:
        shown, more = here.peer.conversations(), 0
    rows = [_row(here, conversation) for conversation in shown]
    others = [f"-- and {more} more: /list all shows them too"] if more else []
    return CommandResult(rows, [*(format_conversation(row) for row in rows), *others])


def listed(peer: TCPPeer | HostedUser, unread: UnreadCounter) -> tuple[list[Conversation], int]:
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


def place_row(conversation: Conversation) -> EventLine:
    """Return which conversation it is, of whom when it is a direct one, and of how many when it is a group's."""
    row: EventLine = {
        "conversation": conversation.name, "conversation_id": conversation.id, "kind": conversation.kind,
    }  # fmt: skip
    if conversation.user is not None:
        row |= {"user": conversation.user.label, "user_id": conversation.user.id}
    if isinstance(conversation, Group):
        row |= {"members": len(conversation.members), "member": conversation.is_member}
    return row


def _row(here: CommandContext, conversation: Conversation) -> EventLine:
    return {
        **place_row(conversation),
        "unread": here.unread.count(conversation.id),
        "mentions": here.unread.mentions(conversation.id),
        "current": here.is_current(conversation),
    }


# ---- setting
#
# Commands about the chat itself: its settings, its help, its screen.


async def set_(here: CommandContext, name: str = "", value: str = "", to: str = "") -> CommandResult:
    """Show all settings, or one; or change one and keep it, in general or in one conversation."""
    name, value = name.lower(), value.lower()
    if value and name in BY_NAME and BY_NAME[name].of_peer:
        return await _set_receipts(here, BY_NAME[name], value, to)
    if value:
        there = (await here.resolve(to)).id if to else ""
        try:
            here.settings.change(name, value, there)
        except ValueError as error:
            raise UsageError(str(error)) from None
        save(here)
        if there:
            row = _row_setting(here, BY_NAME[name], there)
            return CommandResult([row], [_line(row)])
    elif name and name not in BY_NAME:
        raise UsageError(f"there is no setting {name!a}; there are {', '.join(BY_NAME)}")
    rows = [row for setting in ([BY_NAME[name]] if name else BY_NAME.values()) for row in _rows(here, setting)]
    return CommandResult(rows, [_line(row) for row in rows])


def _rows(here: CommandContext, setting: Setting) -> list[EventLine]:
    """Return a setting as it is in general, and its exceptions."""
    if setting.of_peer:
        exceptional = here.peer.receipt_exceptions()
        return [_receipts_row(here, setting), *(_receipts_row(here, setting, user) for user in exceptional)]
    exceptions = [id for id, values in here.settings.by_conversation.items() if setting.name in values]
    return [_row_setting(here, setting), *(_row_setting(here, setting, id) for id in exceptions)]


def _row_setting(here: CommandContext, setting: Setting, conversation_id: str = "") -> EventLine:
    row = {
        "setting": setting.name,
        "value": here.settings.value(setting.name, conversation_id),
        "values": list(setting.values),
        "meaning": setting.meaning,
    }
    if conversation_id:
        row |= {"conversation": _name(here, conversation_id), "conversation_id": conversation_id}
    return row


async def _set_receipts(here: CommandContext, setting: Setting, value: str, to: str) -> CommandResult:
    """Receipts of reading are the peer's matter: on or off for everybody, or with one user."""
    values = (*setting.values, INHERIT) if to else setting.values
    if value not in values:
        raise UsageError(f"{setting.name} is {' or '.join(values)}, not {value!a}")
    who = (await here.resolve(to)).user if to else None
    if to and who is None:
        raise UsageError("receipts are on or off for everybody, or with one user: /set receipts off bob")
    await here.peer.set_receipts(None if value == INHERIT else value == "on", who)
    rows = [_receipts_row(here, setting, who)] if who is not None else _rows(here, setting)
    return CommandResult(rows, [_line(row) for row in rows])


def _receipts_row(here: CommandContext, setting: Setting, who: User | None = None) -> EventLine:
    value = "on" if here.peer.receipts(who) else "off"
    row = {"setting": setting.name, "value": value, "values": list(setting.values), "meaning": setting.meaning}
    if who is not None:
        row |= {"user": who.label, "user_id": who.id}
    return row


def _name(here: CommandContext, conversation_id: str) -> str:
    try:
        return here.peer.find(conversation_id).name
    except P2PChatError:  # nobody has written there yet, and this is another run
        return conversation_id[:8]


def _line(row: EventLine) -> str:
    where = f" in {quote_name(row['conversation'])}" if "conversation" in row else ""
    where = f" with {quote_name(row['user'])}" if "user" in row else where
    return f"-- {row['setting']}{where} {row['value']} ({'|'.join(row['values'])}): {row['meaning']}"


async def help_(here: CommandContext, command: str = "") -> CommandResult:
    """What there is."""
    lines = help_lines(command)
    return CommandResult([{"line": line} for line in lines], lines)


async def clear(here: CommandContext) -> CommandResult:
    """Empty the screen."""
    if not await here.show.clear():
        raise UsageError("/clear is for a terminal: there is no screen here")
    return CommandResult()
