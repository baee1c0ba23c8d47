"""Event lines as text for people. The input is the objects of --json, so that a log reads like a chat too.

Every line of a message begins with its time, or with CONTINUED. Names are quoted where they could pass for more
(safe_text.py). A warning is worded where it arises, mostly in the core, and shown here as it is.

    12:04 bob: text     12:04 bob -> ada: text     12:04 * bob waves     12:04 bob (to ada: "are you th…"): text
    12:04 [#ops] bob: text     12:05 -- ada added carol to #ops     12:05 bob (edited; first sent 12:04): text
    12:04 bob (came 14:02): text                    12:04 bob: text [report.pdf, 2.1 MB: /get 3]
    12:06 -- bob deleted a message sent 12:04     12:07 -- bob reacted 👍 to ada: "are…"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from p2pchat import (
    Cause,
    DeletedMessages,
    History,
    HostedUser,
    Message,
    People,
    Sent,
    TCPPeer,
    User,
    own_addresses,
    where_found,
)
from p2pchat.addresses import is_loopback
from p2pchat.commands.wrap import FOUND, Row, plain_text
from p2pchat.kinds import CHANGE_EVENTS, LISTS
from p2pchat.kinds.kind import Kind
from p2pchat.safe_text import (
    JOINERS,
    MAX_NAMES,
    quote_conversation,
    quote_name,
    quote_names,
    quote_speaker,
    safe_line,
    safe_text,
)

EventLine = dict[str, Any]  # an event as one line of --json: its fields are in docs/cli.md
Line = Mapping[str, Any]  # an event line or a row, which is only read
DELETED = "[deleted]"  # shown instead of the text
UNSUPPORTED = "[a message of a kind that this version does not know: update p2pchat]"  # so is this
UNREACHABLE = "unreachable"  # the status of a user whom linked peers reach, and this one does not; the text says who
AT_A_GATEWAY = "a gateway: nobody reads here"  # the status text of a gateway's own user, while the gateway is linked
CLAIM_SHOWN = timedelta(minutes=10)  # of a claimed time from when a message was sent; clocks differ by less
QUOTED_CHARACTERS = 24  # of the message a reply belongs to: enough to recognize it
FILE_NAME_CHARACTERS = 64  # shown of the name of a file; a guess
_REASONS = {
    "left": "left",
    "lost": "left: connection lost",
    "timeout": "left: timed out",
    "expelled": "left: expelled",
}


def excerpt(text: str, most: int = QUOTED_CHARACTERS) -> str:
    """Return the beginning of a text, on one line in double quotes."""
    short = text if len(text) <= most else text[: most - 1].rstrip() + "…"
    return '"' + safe_line(short.replace("\n", " ")).replace('"', "'") + '"'


def local_now() -> datetime:
    """Return the time, in the zone of this machine."""
    return datetime.now().astimezone()


def format_time(iso: str, now: datetime | None) -> str:
    """Return a time as HH:MM, with the date unless it is today; `now` gives zone and day, None: always with date."""
    moment = datetime.fromisoformat(iso).astimezone(now.tzinfo if now else None)
    return moment.strftime("%H:%M" if now and moment.date() == now.date() else "%Y-%m-%d %H:%M")


def user_fields(user: User | None, name: str = "user") -> EventLine:
    """Return the fields of a row that name a user."""
    return {name: None if user is None else user.label, f"{name}_id": None if user is None else user.id}


def users_fields(name: str, users: Iterable[User]) -> EventLine:
    """Return the fields of a row that name several users."""
    users = list(users)
    return {name: [user.label for user in users], f"{name.removesuffix('s')}_ids": [user.id for user in users]}


class LineStyle(NamedTuple):
    """The styles of the parts of a line: of a writer by id, of one's own name, and of what no user wrote."""

    of: Callable[[str], str] = lambda user_id: ""
    mine: str = ""
    dim: str = ""


PLAIN = LineStyle()


def format_message(event: Line, me: str, now: datetime | None, related: Line | None = None) -> str:
    """Return a line of a message, or about one, as text; arguments as of message_row."""
    return plain_text(message_row(event, me, now, related))


def message_row(
    event: Line, me: str, now: datetime | None, related: Line | None = None, *,
    names_place: bool | None = None, style: LineStyle = PLAIN,
) -> Row:  # fmt: skip
    """Return a line of a message, or about one, as fragments; in a search hit the words found have a style.

    Args:
        me: The own label.
        now: As in format_time.
        related: The line of the message this one replies to or changes, if any and available.
        names_place: Whether the line names its conversation; None: if that is a group.
    """
    if event["event"] in CHANGE_EVENTS:
        return _edit_row(event, me, now, related, names_place, style)
    is_mine, note = event["event"] == "sent", message_note(event, now, related)
    by = event["sender"], event.get("sender_id", ""), event["to"] if is_mine else me, is_mine
    row = _line_of_text(event, now, by, note, message_text(event), event["action"], names_place, style)
    marks = edit_marks(event, is_mine)
    return [*row, (style.dim, marks)] if marks else row


def _line_of_text(
    event: Line, now: datetime | None, by: tuple[str, str, str, bool], note: str, text: Row, action: bool,
    names_place: bool | None, style: LineStyle,
) -> Row:  # fmt: skip
    """Return a line with the text of a user.

    Args:
        by: The label and id of the writer, to whom a direct message goes, and whether the writer is this user.
        note: What stands in parentheses behind the writer.
    """
    show = quote_name if action else quote_speaker
    writer, id, to, is_mine = by
    row: Row = [(style.dim, f"{format_time(event['sent_at'], now)}{_place(event, names_place)} ")]
    row += [("", "* ")] if action else []
    row.append((style.mine if is_mine else style.of(id), show(writer)))
    if event["kind"] == "dm":
        row.append(("", f" -> {show(to)}"))
    if note:
        row.append((style.dim, f" ({note})"))
    return [*row, ("", " " if action else ": "), *text]


def message_note(event: Line, now: datetime | None, related: Line | None) -> str:
    """Return what stands in parentheses behind the writer: when the message came if it came late, of which time its
    program says that it is if that is far from when it was sent, and which one it answers.

    Dates are left out if they are that of the message. "" if there is nothing to say.
    """
    notes = [] if related is None else [f"to {message_excerpt(related)}"]
    sent = datetime.fromisoformat(event["sent_at"]).astimezone(now.tzinfo if now else None)
    claimed = event.get("claimed_at")
    if claimed and abs(datetime.fromisoformat(claimed) - sent) > CLAIM_SHOWN:
        notes.insert(0, f"of {format_time(claimed, sent)}")
    if "came" in event:
        notes.insert(0, f"came {format_time(event['came'], sent)}")
    return ", ".join(notes)


def _place(event: Line, named: bool | None) -> str:
    named = event["kind"] == "group" if named is None else named
    return f" [{quote_conversation(event['conversation'], event['kind'])}]" if named else ""


def message_text(event: Line) -> Row:
    """Return the text of a `message` or `sent` line, its files and choices, made safe; words found with a style."""
    if event.get("deleted"):
        return [("", DELETED)]
    text = _highlighted(event) if event["text"] else []
    files = ", ".join(map(_file_text, event.get("files", ())))
    choices = " · ".join(map(quote_name, event.get("choices", ())))
    choices = _poll_text(event) if event.get("poll") else choices and f"[/react {choices}]"
    unknown = UNSUPPORTED if "unsupported" in event else ""
    more = " ".join(filter(None, [unknown, files and f"[{files}]", choices]))
    return [*text, ("", f"{' ' if text else ''}{more}")] if more else text or [("", "")]


def _poll_text(event: Line) -> str:
    """Return the options of a poll with their votes, and how to vote."""
    counted = Counter(one["option"] for one in event.get("votes", ()))
    options = [f"{n} {quote_name(one)} ({counted[n]})" for n, one in enumerate(event.get("choices", ()), 1)]
    return f"[{' · '.join([*options, 'closed' if 'closed_at' in event else '/vote N'])}]"


def _file_text(file: Line) -> str:
    how = f": /get {file['number']}" if "number" in file else ""
    return f"{file_label(file['name'])}, {format_size(file['size'])}{how}"


def file_label(name: str) -> str:
    """Return the name of a file for use within a line: safe, and without its middle if it is long."""
    short = name if len(name) <= FILE_NAME_CHARACTERS else f"{name[:40].rstrip()}…{name[-20:].lstrip()}"
    return safe_line(short)


def format_size(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1000:
        return "1 byte" if count == 1 else f"{count} bytes"
    for unit in ("kB", "MB"):
        count_in = count / (1000 if unit == "kB" else 1_000_000)
        if count_in < 1000:
            return f"{count_in:.1f} {unit}"
    return f"{count / 1_000_000_000:.1f} GB"


def edit_marks(event: Line, is_mine: bool) -> str:
    """Return the marks behind the text of a message: ` (edited) [👍 2, nice]`, or that its writer was expelled."""
    counted = Counter(one["reaction"] for one in event.get("reactions", ()))
    reactions = [quote_name(what) + (f" {count}" if count > 1 else "") for what, count in counted.items()]
    edited = _marks(
        edited="edited" in event, **{kind.event: name in event for name, kind in LISTS.items() if kind.shared}
    )
    whose = "you were expelled" if is_mine else "from somebody who is no member"
    edited += f" ({whose})" if event.get("expelled") else ""
    return edited + (f" [{', '.join(reactions)}]" if reactions else "")


def said(event: Line) -> str:
    """Return the text of a message; without one the names of its files."""
    text: str = event["text"] or ", ".join(file_label(file["name"]) for file in event.get("files", ()))
    return text or (UNSUPPORTED if "unsupported" in event else "")


def message_excerpt(event: Line) -> str:
    """Return the sender of a message and the beginning of its text, or of the names of its files."""
    text = DELETED if event.get("deleted") else excerpt(said(event))
    return f"{quote_name(event['sender'])}: {text}"


def _edit_row(
    event: Line, me: str, now: datetime | None, message: Line | None, names_place: bool | None, style: LineStyle
) -> Row:
    """Return the line of a change; `message` is the line of the message, if available."""
    kind, is_mine = event["event"], event["by"] == me
    when = "" if message is None else format_time(message["sent_at"], now)
    if kind == "edited":
        action = message is not None and message["action"]
        by = event["by"], event.get("by_id", ""), event["conversation"] if is_mine else me, is_mine
        note = f"edited; first sent {when}" if when else "edited"
        text = safe_text(event["text"]) + edit_marks(event, is_mine)
        return _line_of_text(event, now, by, note, [("", text)], action, names_place, style)
    if kind == "deleted":
        text = message["text"] if message is not None else ""  # known only of an own message that was deleted here
        what = f"deleted {excerpt(text)}," if text else "deleted a message"
        done = what + (when and f" sent {when}")
    else:
        done = _done(CHANGE_EVENTS[kind], event, message)
        if message is not None and "votes" in event:
            done += f" {_poll_text({**message, **event, 'closed_at': ''})}"
    head = f"{format_time(event['sent_at'], now)}{_place(event, names_place)}"
    return [(style.dim, f"{head} -- {quote_name(event['by'])} {done}{edit_marks(event, is_mine)}")]


def _done(kind: Kind, event: Line, message: Line | None) -> str:
    """Return what somebody did, in the words of the record."""
    value = event.get(kind.field, True)
    choices = dict(enumerate((message or {}).get("choices", ()), 1))
    of = "a message" if message is None else message_excerpt(message)
    return kind.done[not value].format(what=quote_name(str(choices.get(value, value))), of=of)


def format_gap(event: Line) -> str | None:
    """Return a line about messages missing before a `message` or `sent` line of the history; None: none are."""
    if not event.get("missing"):
        return None
    one = len(event["missing"]) == 1
    what = f"{len(event['missing'])} earlier {'message is' if one else 'messages are'} missing here"
    return f"-- {what}{_last_seen(event)}"


def _last_seen(event: Line) -> str:
    return f"; last seen with {quote_names(event['last_seen_with'])}" if event.get("last_seen_with") else ""


def format_event(event: Line, me: str, now: datetime, related: Line | None = None) -> str | None:
    """Return an event line as text for stdout; None if it is not chat. `related` as in format_message."""
    kind = event["event"]
    if kind in ("message", "sent", *CHANGE_EVENTS):
        return format_message(event, me, now, related)
    time = format_time(event["at"], now)
    if kind == "group":
        change = format_group_change(event, me)
        return f"{time} -- {change}{edit_marks(event, event['by'] == me)}" if change else None
    if kind == "presence" and event.get("status") == UNREACHABLE:
        return f"{time} -- {unreachable(event['user'], event['text'])}"
    if kind == "joined":
        return f"{time} -- {quote_name(event['user'])} is here{_first_time(event)}"
    if kind == "begun":
        return f"{time} -- new: {format_begun(event)}"
    if kind == "renamed":
        before = event.get("former") or event["before"]  # older logs have no label
        return f"{time} -- {quote_name(before)} is now known as {quote_name(event['user'])}"
    if kind == "member":
        return f"{time} -- {format_member_change(event, me)}"
    if kind == "left":
        reason = _REASONS.get(event["reason"]) or f"left: {safe_line(event['reason'])}"
        return f"{time} -- {quote_name(event['user'])} {reason}"
    return None


def format_group_change(event: Line, me: str) -> str | None:
    """Return a `group` line as a sentence; None if the user is not in the group."""
    change, place = event["change"], quote_conversation(event["group"], "group")
    by, target = _name_or_you(event["by"], me), _name_or_you(event["target"] or "", me)
    if me not in (*event["members"], event["by"], event["target"]):
        return None
    if change == "created":
        others = [name for name in event["members"] if name not in (event["by"], me)]
        if by == "you":
            return f"you created {place}" + (f" with {quote_names(others)}" if others else "")
        return f"{by} added you to {place}" + (f" (also there: {quote_names(others)})" if others else "")
    if change == "added":
        return f"{by} added {target} to {place}"
    if change == "removed":
        return f"{by} removed {target} from {place}"
    if change == "left":
        return f"{target} left {place}"
    if change == "renamed":
        former = quote_conversation(event["former"], "group") if event.get("former") else "the group"
        return f"{by} renamed {former} to {place}"
    made = {"owner": "the owner", "admin": "an admin", "unadmin": "a plain member"}.get(change)
    return f"{by} made {target} {made} of {place}" if made else None


def format_member_change(event: Line, me: str) -> str:
    """Return a `member` line as a sentence."""
    user = _name_or_you(event["user"], me)
    is_mine = event["by"] == me
    by = "your login" if is_mine else quote_name(event["by"])  # a login signs for all its users
    if event["by_id"] == event["user_id"] and not is_mine:
        by = "their login"
    is_own = me in (event["user"], *event["users"])
    who = "you" if is_own else quote_names(event["users"] or [event["user"]], event["count"])
    obj = "you" if is_own else "them"
    lost = f"a lost machine, {event['user_id'][:8]}"
    if is_mine:
        lost = user
    are = "are" if is_own or event["count"] > 1 else "is"
    said = {
        "admitted": f"{by} admitted {user} to this network",
        "expelled": f"{by} expelled {user} from this network",
        "revoked": f"{by} shut out {lost}",
        "shared": f"{by} answers for your key, too: if a machine of yours was stolen, an admin can expel {by}",
        "pardoned": f"{by} let {user} back into this network",
        "restored": f"{who} {are} in: {by}, who expelled {obj}, is no admin any more; /expel {user} says it anew",
        "dropped": f"{who} {are} out: {by}, who admitted {obj}, is no admin any more; /pardon {user} admits them again",
        "late": f"{by} admitted {who} by an invite that was closed already; /expel {user} takes that back",
        "admin": f"{by} made {user} an admin of this network",
    }
    text = said.get(event["change"], f"{by} made {user} a plain member again")
    is_made_up = event["change"] in ("restored", "dropped") and not event["users"]  # perhaps, by a former admin
    return text.partition("; /")[0] if is_own or is_made_up else text


def format_member(row: Line, now: datetime) -> str:
    """Return a row of /members about the network."""
    names, others = quote_name(row["user"]), [user for user in row["users"] if user != row["user"]]
    if others:  # who are of this member, as its accounts at a gateway, and have its role no more than that
        more = row["count"] - len(others) - 1
        names += f" (with {quote_names(others)}{f' and {more} more' if more > 0 else ''})"
    facts = [row["role"]]
    if row["online"]:
        facts.append("online")
    if row["by"] is not None:
        verb = "" if row["role"] == "expelled" else "admitted "
        when = "" if row["since"] is None else f"{format_time(row['since'], now)} "
        facts.append(f"{verb}{when}by {quote_name(row['by'])}")
    if row["invite"]:
        facts.append(f"with the invite {safe_line(row['invite'])}")
    keyless = row["me"] and row["role"] in ("founder", "admin") and not row.get("decides", True)
    return f"-- {names}{' (you, without its key)' if keyless else _marks(you=row['me'])}: {', '.join(facts)}"


def exclusion_text(of: People | History, fate: str) -> str:
    """Return who expelled this peer, with its `fate`, or who shut out this machine for good; "" if nobody did."""
    by, at = of.expelled_by, of.shut_out_at
    if by is None:
        return ""
    if at is not None:
        when = format_time(at.isoformat(), local_now())
        return f"this machine was shut out by {quote_name(by.label)} at {when}: it sends and gets nothing any more"
    who = "your login" if by.is_me else quote_name(by.label)
    return f"{who} expelled this peer from its network: {fate}"


def find_obstacle(peer: TCPPeer, labels: Sequence[str]) -> str:
    """Return why nothing is sent to users: an expulsion, or that only others reach them; "" if nothing is known."""
    if out := exclusion_text(peer.people, "a pardon lets it send what waits"):
        return out
    if not labels:
        return ""
    if not (is_loopback(peer.listening.host) or own_addresses()):
        return "this machine has no network"
    known = [(one.label, one.cause) for one in peer.users() if one.label in labels]
    stays = ("expelled", UNREACHABLE)
    lasting = [(who, why) for who, why in known if why and (why.kind in stays or cut_by(why))]
    return "; ".join(_sentences((who, cause_text(why)) for who, why in lasting))


_CAUSES = {
    "away": "will get it when back: away",
    "online": "will get it soon: online, not stored there yet",
    "carried": "will get it soon: carried by {}, not stored there yet",
    "expelled": "can get it after a pardon: expelled by {}",
    UNREACHABLE: "can get it once linked: cannot be reached from here; {} says it can",
}


def cut_by(cause: Cause | None) -> str:
    """Return who carried the last link with a user, and is off, so that the user may be there; "" for nobody."""
    if cause is None or cause.kind != "away" or cause.by is None:
        return ""
    return cause.by.label


def cause_text(cause: Cause) -> str:
    """Return what ends the wait of a user who lacks a message, and why it lacks it, but for since when."""
    by = cut_by(cause)
    if by:
        return f"can get it once linked: {cut(by)}"
    return _CAUSES[cause.kind].format("" if cause.by is None else quote_name(cause.by.label))


def format_causes(row: Line, now: datetime) -> list[str]:
    """Return sentences that say why users lack a message, by a row of /receipts."""
    return _sentences(
        (one["user"], one["text"] + (f" since {format_time(one['since'], now)}" if one["since"] else ""))
        for one in row["causes"]
    )


def _sentences(said: Iterable[tuple[str, str]]) -> list[str]:
    """Return one sentence for all users of whom the same is said."""
    users: dict[str, list[str]] = {}
    for label, text in said:
        users.setdefault(text, []).append(label)
    return [f"{quote_names(labels)} {text}" for text, labels in users.items()]


def unreachable(label: str, by: str) -> str:
    """Return that a user is there, and who says that it reaches it: that is no proof."""
    return f"{quote_name(label)} cannot be reached from here; {quote_name(by)} says it can"


def cut(by: str) -> str:
    """Return that a user cannot be reached, of whom more is not known, and who carried the last link."""
    return f"cannot be reached from here; {quote_name(by)}, who linked you last, is off"


def shows_presence(event: Line) -> bool:
    """Return whether people are told of an event about a user: not of every status."""
    is_unreachable = event["event"] == "presence" and event["status"] == UNREACHABLE
    return is_unreachable or event["event"] in ("joined", "left", "renamed")


def format_invite(row: Line, now: datetime) -> str:
    """Return a row of /invites: its id, and whom it admits or admitted."""
    used = len(row["used_by"])
    if out := row["expelled"]:
        state = f"closed: {quote_names(out)} {'was' if len(out) == 1 else 'were'} expelled"
    elif row["revoked_at"] is not None:
        state = f"revoked {format_time(row['revoked_at'], now)}"
    elif (left := row["uses"] - used) <= 0:
        state = "used up"
    else:
        is_late = datetime.fromisoformat(row["until"]) < now
        until = f"{'ended' if is_late else 'until'} {format_time(row['until'], now)}"
        state = until if is_late else f"admits {left} {'person' if left == 1 else 'people'} {until}"
    came = f"; {quote_names(row['used_by'])} came by it" if used else ""
    return f"-- {row['invite']}: {state}{came}"


def _name_or_you(label: str, me: str) -> str:
    if label == me:
        return "you"
    return f'"{shown}"' if (shown := quote_name(label)).casefold() == "you" else shown


def _first_time(event: Line) -> str:
    """Say that a user is here for the first time, and their address unless it is this machine."""
    if not event.get("first"):
        return ""
    address = event.get("address") or "127.0.0.1"
    return " for the first time" + ("" if is_loopback(address) else f", from {safe_line(address)}")


def format_notice(event: Line) -> str | None:
    """Return an event line as text for stderr; None if it does not belong there."""
    kind = event["event"]
    if kind in ("warning", "error", "gap"):
        who = _last_seen(event) if kind == "gap" else ""
        return f"p2pchat: {'warning: ' if kind == 'warning' else ''}{safe_line(event['text'])}{who}"
    return None


def format_user(row: Line, now: datetime | None = None) -> str:
    """Return one row of /who; `now` as in format_time."""
    state = "not seen yet" if row["status"] == "unknown" else row["status"]
    since = f" since {format_time(row['since'], now)}" if row.get("since") else ""
    text = f" {excerpt(row['text'], len(row['text']))}" if row.get("text") else ""
    if is_gateway(row):
        state, since, text = "a gateway, linked", "", ""
    marks = _marks(you=row["me"], owner=row.get("owner", False), admin=row.get("admin", False))
    marks += f" (linked through {quote_name(row['via'])})" if row.get("via") else ""
    marks += next((f" ({why})" for why in ("expelled", "blocked", "ignored") if row.get(why)), "")
    if row.get("cut_by"):
        state = cut(row["cut_by"])
    if row["status"] == UNREACHABLE:
        return f"-- {unreachable(row['user'], row['text'])}{marks}"
    return f"-- {quote_name(row['user'])}: {state}{since}{text}{marks}"


def is_gateway(row: Line) -> bool:
    """Return whether a row of /who is the user of a gateway's own peer, which runs: that user is always offline."""
    return bool(row["status"] == "offline" and row.get("text") == AT_A_GATEWAY)


def format_whois(row: Line, now: datetime) -> list[str]:
    """Return the lines of /whois."""
    name = f"   name: {quote_name(row['name'])}" if row["name"] else "   no name"
    before = f"; formerly {quote_names(row['names_before'])}" if row["names_before"] else ""
    about = [f"   about: {excerpt(row['about'], len(row['about']))}"] if row["about"] else []
    since = row["known_since"]
    known = f"   known since {format_time(since, now)}" if since else "   no messages here"
    known += "; stored without a limit" if row["allowed"] else ""
    hosts = [_host(host, row) for host in row["hosts"]] or ["   no peer known"]
    return [format_user(row, now), f"{name}{before}", *about, known, *hosts, f"   id {row['user_id']}"]


def _host(host: Line, row: Line) -> str:
    at = f"; listens at {', '.join(map(safe_line, host['endpoints'][:MAX_NAMES]))}" if host["endpoints"] else ""
    if host["this"]:
        return f"   this peer{at}"
    whose = "own peer" if host["peer_id"] == row["user_id"] else f"peer {host['peer_id'][:8]}"
    state = "not linked"
    if host["linked"]:
        state = (
            f"linked through {quote_name(host['via'])}" if host["via"] else f"linked, from {safe_line(host['address'])}"
        )
    return f"   {whose}: {state}{at}"


def format_device(row: Line, now: datetime) -> str:
    """Return one row of /devices."""
    state = "linked" if row["linked"] else "away"
    if row["this"]:
        state = "this machine"
    if row["last_seen"]:
        state += f", linked until {format_time(row['last_seen'], now)}"
    since = f", yours since {format_time(row['since'], now)}" if row["since"] else ""
    name = f"{safe_line(row['name'])} " if row["name"] else ""
    return f"-- {name}{row['peer_id'][:8]}: {state}{since}"


def format_begun(line: Line) -> str:
    """Return who began a conversation, and who admitted that user where that is known."""
    who, by = quote_name(line.get("begun_by") or line["user"]), line.get("admitted_by")
    where = f"{quote_conversation(line['conversation'], 'group')} by " if line["kind"] == "group" else ""
    return f"{where}{who}{f', admitted by {quote_name(by)}' if by else ''}"


def format_conversation(row: Line) -> str:
    """Return one row of /list."""
    if not row.get("has_place", True):
        why = "too many of theirs are unanswered: write to them to have it come"
        return f"-- not taken: {format_begun(row)}; {why}"
    unread = f": {row['unread']} unread" if row["unread"] else ""
    mentions = f", {row['mentions']} with your name" if row["unread"] and row["mentions"] else ""
    former = "" if row.get("member", True) else " (you are no longer in it)"
    where = quote_conversation(row["conversation"], row["kind"])
    new = f"; new: {format_begun(row)}" if row.get("new") else ""
    return f"-- {where}{unread}{mentions}{_marks(here=row['current'], muted=row['muted'])}{former}{new}"


def format_receipt(row: Line, now: datetime, text: str = "") -> str:
    """Return one row of /receipts: who has an own message; `text` is shown for one without a text."""
    read, of, causes = row["read_by"], row["of"], format_causes(row, now)
    stored = [label for label in row["at_gateway"] if label not in read]
    has = [label for label in row["delivered_to"] if label not in read and label not in stored]
    kept, seen = row["at_gateway_count"], row["read_count"]
    counts = [("delivered", "to", row["count"] - kept), ("at a gateway", "for", kept), ("read", "by", seen)]
    # `of` is 0 where the number of recipients is no longer known: of an earlier run, or of a copy of this profile.
    among = f"{of} here" if row["kind"] == "room" else str(of)
    states = [f"{word} {count} of {among}" if of else f"{word} {to} {count}" for word, to, count in counts if count]
    state = ", ".join(states) or "accepted"
    who = [f"{quote_names(read)} {'have' if len(read) > 1 else 'has'} read it"] if read else []
    who += [f"{quote_names(has)} {'have' if len(has) > 1 else 'has'} it"] if has else []
    who += [f"a gateway keeps it for {quote_names(stored)}, seen or not"] if stored else []
    who += causes or filter(None, [row.get("obstacle")])
    if "files_delivered_to" in row:
        labels = row["files_delivered_to"]
        files = f"{quote_names(labels)} {'have' if len(labels) > 1 else 'has'}" if labels else "nobody else has"
        who.append(f"{files} {'its file' if row['files'] == 1 else 'its files'}")
    shown = DELETED if row.get("deleted") else excerpt(row["text"] or text)
    have = ", ".join(who or ["nobody else is known to have it"])
    return f"-- {format_time(row['sent_at'], now)} {shown}: {state}; {have}"


FEW_HOLDERS = 3  # of a file, named; more are counted


def holders_text(labels: list[str], *, alone: bool = False) -> str:
    """Return what follows the state of a file: who has it. `alone`: say too that nobody else is known to."""
    if not labels:
        return "; nobody else is known to have it" if alone else ""
    if len(labels) > FEW_HOLDERS:
        return f": {len(labels):,} members have it"
    return f": {quote_names(labels)} {'have' if len(labels) > 1 else 'has'} it"


def delivery_mark(delivered: int, read: int, of: int, kind: str, at_gateway: int = 0) -> str:
    """Return the mark behind an own message: saved here, on the disks of so many recipients, or read by so many.

    A mark never claims more than is known. A direct message has one recipient, so its mark has no numbers. In the room
    those are counted who were here when it was written; others get it when they come.

    Args:
        kind: That of the conversation.
        at_gateway: So many of those it is delivered to are at a gateway elsewhere, which has it for them.
    """
    counts = [("✓✓ read", read)] if read else [("✓ delivered", delivered - at_gateway), ("✓ at a gateway", at_gateway)]
    known = [(word, count) for word, count in counts if count]
    if not known:
        return "· saved"
    if kind == "dm":
        return known[0][0]
    return ", ".join(f"{word} {count}/{of}" for word, count in known) + (" here" if kind == "room" else "")


def _marks(**given: bool) -> str:
    return "".join(f" ({name})" for name, yes in given.items() if yes)


async def with_gap(of: History | TCPPeer | HostedUser, post: Message | Sent) -> EventLine:
    """Return the line of a message; with `missing` (ids) and `last_seen_with` (labels) if messages before it are."""
    line = post.to_dict()
    gap = await of.missing(post) if post.gap else None
    if gap is not None:
        line |= {"missing": list(gap.missing), "last_seen_with": list(gap.last_seen_with)}
    return line


# ---- deleted history


class DeletedLines:
    """The lines that stand in a history for messages that were deleted here, given in their order."""

    def __init__(self, deleted: Sequence[DeletedMessages]) -> None:
        self._left = list(deleted)

    def before(self, post: Message | Sent) -> list[str]:
        """Return the line for those before a message; [] for none. Call it with one message after the other."""
        count = sum(each.sort_key < post.sort_key for each in self._left)
        passed, self._left = self._left[:count], self._left[count:]
        return deleted_line(passed)

    def rest(self) -> list[str]:
        """Return the line for those behind all messages; [] for none."""
        return deleted_line(self._left)


def deleted_line(deleted: Sequence[DeletedMessages]) -> list[str]:
    count = sum(each.messages for each in deleted)
    whose = {each.user.label for each in deleted}
    of = f" of {quote_names(list(whose))}" if len(whose) == 1 else ""
    were = "message was" if count == 1 else "messages were"
    return [f"-- {count:,} {were.replace(' ', f'{of} ')} deleted here"] if count else []


def format_deletion(row: Line) -> list[str]:
    """Return what was deleted, and what was not, as sentences."""
    count, kept, where = row["messages"], row["kept"], quote_name(row["conversation"])
    messages = "1 message" if count == 1 else f"{count:,} messages"
    lines = [f"deleted {messages} of {where} here, {row['size_bytes']:,} bytes; others keep theirs"]
    if kept:
        yours = "1 message" if kept == 1 else f"{kept:,} messages"
        lines.append(f"kept {yours} of yours: nobody else has {'it' if kept == 1 else 'them'} yet")
    if not row["is_gone"]:
        lines.append("their texts are still in a file here, which another program reads: they go once it stops")
    return lines


# ---- search hits


def found_line(post: Message | Sent, words: str) -> EventLine:
    """Return the line of a search hit; `found` has the positions of the words, in characters."""
    line = post.to_dict()
    return {**line, "found": [list(place) for place in where_found(words, line["text"])]}


def _highlighted(event: Line) -> Row:
    """Return the safe text of a message as fragments, the words found with a style."""
    text, places = event["text"], event.get("found") or ()
    fragments: Row = []
    at = 0
    for start, end in places:
        while text[end : end + 1] in JOINERS and end < len(text):  # shown with what they join
            end += 1
        fragments += [("", safe_text(text[at:start])), (FOUND, safe_text(text[start:end]))]
        at = end
    return [*fragments, ("", safe_text(text[at:]))]
