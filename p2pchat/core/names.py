"""Names of users: which are allowed, which look alike, labels that tell equal names apart, and who has which name.

A name is a label that someone chose for a key, never an identity. It consists of visible characters without other
meanings in typed commands. Ids are shown in base32 (RFC 4648, upper case, no padding), and the suffix of a label is
the beginning of the id.

Names look alike when their skeletons are equal, after Unicode Technical Standard 39. The table is our own and covers
what can be mistaken in a chat window: digits for letters; Cyrillic, Greek and Armenian letters; capitals of Cherokee
and Lisu; small phonetic letters that are drawn like Latin ones; and marks of other scripts, which are not drawn at
all. Too many matches are better than too few: a false match only shows a suffix.

A user's name comes from the newest profile entry, or until there is one from the user's peer. A name is bound to a key
on first sight; another key with that name raises a warning, once. The name of a user who never wrote and is no contact
is not stored, and forgotten when that user is gone (presence_tracker.py).
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Container, Iterable
from ipaddress import ip_address

from p2pchat.core.durable_changes import FormerName, KnownUser
from p2pchat.core.effects import UserForgotten, UserNamed, WarningIssued
from p2pchat.core.log import CLOCK_AHEAD, Entry
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.node_context import HostedIdentities, KeySet, NodeContext
from p2pchat.core.own_state import MAX_AHEAD
from p2pchat.protocol import UserId

MAX_NAME_CHARACTERS = 32
# A longer text is no name, whatever its normal form: that of 16,000 marks on one letter takes 0.2 s, of twice as many
# four times as long. A guess: a character has at most 18 parts.
MAX_TYPED_CHARACTERS = 1024

# Reserved: they begin or end something else in typed input ("#ops", "@bob", "/msg", "a,b", "bob#K7QF2M3P").
RESERVED = "#@/,"
# Invisible or blank though their category says letter, mark or symbol (Unicode: Default_Ignorable_Code_Point, braille).
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0} | set(range(0x180B, 0x1810))
_INVISIBLE |= set(range(0xFE00, 0xFE10)) | set(range(0xE0100, 0xE01F0))
_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ, as in Persian and in emoji: a group named so would be none for older peers
# Vowels and finals of Hangul, which join the syllable before them: letters by category, of no width of their own.
_JOINING = {chr(code) for part in (range(0x1160, 0x1200), range(0xD7B0, 0xD800)) for code in part}
NAMELESS = "user"

_CAPITALS = str.maketrans("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧВНІЈКМОРСТУХԌԚԜՍՕ", "abezhikmnoptyxbhijkmopctyxgqwuo")
_SMALL = str.maketrans(
    "αγικνορτυχωабвгеікморстухѕјһԁԛԝոսօɑɡı",
    "ayikvoptuxwa6breikmopctyxsjhdqwnuoagi",
)
_PHONETIC = str.maketrans("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz")
_CAPITALS_WITHOUT_SMALL = str.maketrans(
    "ꓐꓑꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ\u13aa\u13f4\u13df\u13a0\u13ac\u13c0\u13bb\u13ab\u13e6\u13de\u13b7\u13e2\u13a1"
    "\u13da\u13a2\u13d9\u13b3\u13a9\u13c3",
    "bpdtgkjczfmnlsrvhwxyaeiou" + "abcdeghjklmprstvwyz",
)  # casefold turns Cherokee's small letters into capitals
_GENERAL_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_LATIN_GREEK_CYRILLIC = "\u0530"  # everything before it
_STROKES = str.maketrans("0i1|!‐‑‒–—―−_", "olll" + "l" + "-" * 8)
_DASHES = tuple("-‐‑‒–—―−")
_PART = "(0x[0-9a-f]+|[0-9]+)"
_ADDRESS = re.compile(rf".*:[0-9]+|{_PART}(\.{_PART})+|0x[0-9a-f]+", re.IGNORECASE)  # HOST:PORT, and IPv4 as inet_aton


def name_fault(name: str) -> str:
    """Return why a text is no valid name, as a sentence; "" for a valid name in normal form (NFC)."""
    if len(name) > MAX_NAME_CHARACTERS:  # first, since others write what they like
        return _too_long(name)
    if name != unicodedata.normalize("NFC", name):
        return "a name is in Unicode's normal form NFC"
    if not name:
        return "a name needs at least one character"
    if name[0].isspace() or name[-1].isspace():
        return "a name does not begin or end with a space"
    for character in name:
        if character in RESERVED:
            return f"a name does not contain {character!a}: # @ / and , have other meanings"
        if character in _JOINERS:
            return f"a name cannot contain joiners ({_code(character)}): they cannot be seen"
        if not is_visible(character):
            return f"a name cannot contain {_code(character)}: it cannot be seen"
    if unicodedata.category(name[0]).startswith("M") or name[0] in _JOINING:
        return f"a name does not begin with {_code(name[0])}: it is a mark on another character"
    return ""


def _too_long(name: str) -> str:
    return f"a name has at most {MAX_NAME_CHARACTERS} characters, this has {len(name)}"


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def is_visible(character: str) -> bool:
    """Return whether a character shows, or is the plain space."""
    if ord(character) in _INVISIBLE:
        return False
    category = unicodedata.category(character)
    return character == " " or category[0] not in "CZ"  # controls, bidi, zero-width, surrogates; other blanks


def plain(text: str) -> str:
    """Return a text as a str itself: the methods of a subclass are a program's, and would run wherever the text goes.

    Raises:
        TypeError: It is no str.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}")
    return str.__str__(text)


def validate_name(name: str, unlike: Iterable[str] = ()) -> str:
    """Return `name` in normal form (NFC).

    Args:
        unlike: Further names that it may not look like; `room` is always one of them.
    Raises:
        ValueError: The name is not allowed; the text says why, for people.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    name = plain(name)
    if len(name) > MAX_TYPED_CHARACTERS:
        raise ValueError(_too_long(name))
    name = unicodedata.normalize("NFC", name)
    fault = _fault(name, unlike)
    if fault:
        raise ValueError(fault)
    return name


def is_valid_name(name: str) -> bool:
    """Return whether `name`, in normal form, is allowed."""
    return not _fault(name)


def _fault(name: str, unlike: Iterable[str] = ()) -> str:
    """Return why nobody here may choose this name, for a user or a group, or "". Other peers only apply name_fault."""
    if skeleton(name) == ROOM_SKELETON:
        return f"{name!r} would be taken for the room, where everybody is: choose another name"
    plain = unicodedata.normalize("NFKC", name)
    if plain.startswith(_DASHES):
        return f"{name!r} would be taken for an option: a name begins with something else than a dash"
    if _ADDRESS.fullmatch(plain) or _is_ip_address(plain.strip("[]")):
        return f"{name!r} would be taken for an address: choose another name"
    if any(look_alike(name, other) for other in unlike):
        return f"{name!r} would be taken for something else than a name: choose another"
    return name_fault(name)


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def default_name(login: str, port: int) -> str:
    """Return the name of a user that chose none: `ada-8080`, or `ada` for port 0.

    Characters that a name may not contain are left out. A login that is not allowed as a name is not used.
    """
    tail = f"-{port}" if port else ""
    kept = "".join(c for c in unicodedata.normalize("NFC", login) if c not in RESERVED and is_visible(c)).strip()
    while kept and unicodedata.category(kept[0]).startswith("M"):
        kept = kept[1:]
    name = unicodedata.normalize("NFC", (kept[: MAX_NAME_CHARACTERS - len(tail)].strip() or NAMELESS) + tail)
    return name if is_valid_name(name) else NAMELESS + tail


def skeleton(name: str) -> str:
    """Return the skeleton of a name. Names with equal skeletons can be mistaken for each other."""
    if not name.isascii():
        name = _without_lost_marks(unicodedata.normalize("NFKC", name))
    text = unicodedata.normalize("NFKC", name).translate(_CAPITALS).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_SMALL).translate(_PHONETIC).translate(_CAPITALS_WITHOUT_SMALL)
    text = text.translate(_STROKES)
    return "".join(text.split()).replace("rn", "m").replace("vv", "w")


def _without_lost_marks(text: str) -> str:
    """Remove marks of other scripts on Latin, Greek and Cyrillic letters: most terminals do not draw them."""
    kept: list[str] = []
    for character in text:
        is_mark = unicodedata.category(character) in ("Mn", "Me") and not _GENERAL_MARKS.match(character)
        if not (is_mark and kept and kept[-1] < _LATIN_GREEK_CYRILLIC):
            kept.append(character)
    return "".join(kept)


ROOM_SKELETON = skeleton("room")  # the address of the room


def look_alike(one: str, other: str) -> bool:
    """Return whether people could mistake one name for the other. Equal names look alike."""
    return skeleton(one) == skeleton(other)


def base32(id: str) -> str:
    """Return an id (hex) as people see it, in base32."""
    return base64.b32encode(bytes.fromhex(id)).decode().rstrip("=")


def suffix(user_id: UserId) -> str:
    """Return the first characters of an id as people see it, which tell equal names apart."""
    return base32(user_id[:10])  # 40 bits: a key with a given suffix takes days to find


def full_label(name: str | None, user_id: UserId) -> str:
    """Return `alice#K7QF2M3P`, or `user#K7QF2M3P` for a user without a name (None or "")."""
    return f"{name or NAMELESS}#{suffix(user_id)}"


def describe_user(name: str | None) -> str:
    """Return `the user 'alice'`, or `a user without a name` (None or ""), as warnings begin."""
    return f"the user {name!r}" if name else "a user without a name"


def split_label(text: str) -> tuple[str, str]:
    """Split a typed address into name and suffix: "alice#k7qf2m3p" is ("alice", "K7QF2M3P").

    The suffix is "" when none was typed. It may be longer than a label's, up to the whole id.
    """
    name, _, tail = text.partition("#")
    return name, tail.upper()


# ---- the names of all known users


MAX_FORMER = 16  # earlier names of one user; a guess. Further ones are forgotten
MAX_ABOUT_CHARACTERS = 512  # as many as a status text has; the rest is cut off


class KnownPeople:
    """Names by user id. Who is out keeps the name it had here, if it had one.

    Args:
        members: Says who was expelled, as far as this peer knows.

    Attributes:
        names: Names of users.
        abouts: Texts of users about themselves, where there is one.
        former: Earlier names, with the clocks of their profile entries, 0 for one that was only announced; may include
            the current one.
    """

    def __init__(
        self, ctx: NodeContext, hosted: HostedIdentities, known: Iterable[KnownUser], former: Iterable[FormerName],
        members: MemberDirectory, contacts: Container[UserId],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._contacts = contacts
        self._hosted = hosted
        self._members = members
        self.names: dict[UserId, str] = {}
        self.abouts: dict[UserId, str] = {}
        self.former: dict[UserId, dict[str, int]] = {}
        self._named_c: dict[UserId, int] = {}
        self._keys: dict[str, UserId] = {}
        self._unwritten: KeySet[UserId] = {}  # their names are not stored
        self._warned: set[tuple[UserId, str]] = set()
        self._later: dict[UserId, tuple[int, str]] = {}  # clocks and names of profiles that came while users were out
        for user in known:
            self.names[user.id] = user.name
            self._set_about(user.id, user.about)
            if user.named_c:  # 0: known from its peer only
                self._named_c[user.id] = user.named_c
            self._keys.setdefault(user.name, user.id)
        for one in former:
            if one.c > self._named_c.get(one.user, 0):
                self._later[one.user] = max(self._later.get(one.user, (0, "")), (one.c, one.name))
                continue
            self.former.setdefault(one.user, {})[one.name] = one.c
            self._keys.setdefault(one.name, one.user)
        for own in hosted.values():
            self._keys.setdefault(own.name, own.id)

    def on_profile(self, user: UserId, entry: Entry) -> None:
        """Take a profile entry of the room.

        One without a valid name changes nothing. Of an older one only the name is kept, as a former name; one of a user
        who is out waits until that user is back.
        """
        name = entry.b.get("name") if isinstance(entry.b, dict) else None
        if not isinstance(name, str) or name_fault(name):
            return
        before, before_c = self.names.get(user), self.named_at(user)
        if self._stays_named(user):
            if entry.c > self._later.get(user, (before_c, ""))[0]:
                self._later[user] = entry.c, name
                self._ctx.change.former_names.append(FormerName(user, name, entry.c))
            return
        if entry.c <= before_c:
            if name != before:
                self._keep_former(user, name, entry.c)
            return
        if before is not None and before != name:
            self._keep_former(user, before, before_c)
        about = _about(entry.b.get("about"))
        self._named_c[user] = entry.c
        self._store_former(user)
        self._ctx.change.users.append(KnownUser(user, name, entry.c, about))
        self._set_name(user, name, about, old=abs(self._ctx.now.utc - entry.at) > CLOCK_AHEAD)

    def on_announced_name(self, user: UserId, name: str, *, stays: bool = True, old: bool = False) -> None:
        """Take a name that a peer announces for a user it hosts. A profile entry outweighs it.

        stays: The user wrote here or is a contact, so the name is stored. Otherwise it is kept until `forget`.
        old: A new name of a known user is no news.
        """
        if name_fault(name) or self._stays_named(user):
            return
        before = self.names.get(user)
        if user in self._named_c:
            c, later = self._later.get(user, (0, ""))
            if later == name:
                del self._later[user]
                self.on_profile(user, Entry("profile", c, c, b={"name": name}))
            return
        if stays:
            self.keep(user)
        elif before is None or user in self._unwritten:
            self._unwritten[user] = None
            if before is not None and before != name:
                self._release_key(user, before)
                self.former.setdefault(user, {before: 0})
            self._set_name(user, name, "", old=old)
            return
        if before != name:
            self._ctx.change.users.append(KnownUser(user, name, 0))
            if before is not None:
                self._keep_former(user, before, 0)
        self._set_name(user, name, "", old=old)

    def _stays_named(self, user: UserId) -> bool:
        return user in self.names and user not in self._hosted and self._members.is_out(user)

    def named_at(self, user: UserId) -> int:
        """Return the clock of the profile that names a user; 0 without one, or if the time here was set back since."""
        c = self._named_c.get(user, 0)
        if c > self._ctx.now.utc + MAX_AHEAD:
            return 0
        return c

    def has_profile(self, user: UserId) -> bool:
        """Return whether a profile entry of this user is stored."""
        return user in self._named_c

    def keep(self, user: UserId) -> None:
        """Store the name of a user who was announced: it is a contact now, or wrote."""
        if user in self._unwritten:
            self._ctx.change.users.append(KnownUser(user, self.names[user], 0))
            self._store_former(user)

    def _store_former(self, user: UserId) -> None:
        if user in self._unwritten:
            del self._unwritten[user]
            former = self.former.get(user, {})
            self._ctx.change.former_names.extend(FormerName(user, name, c) for name, c in former.items())

    def forget(self, user: UserId) -> None:
        """Forget a user whose name is not stored."""
        if user in self._unwritten:
            del self._unwritten[user]
            self._release_key(user, self.names.pop(user))
            self.former.pop(user, None)
        if user not in self.names:
            self._ctx.emit(UserForgotten(user))

    def _release_key(self, user: UserId, name: str) -> None:
        if self._keys.get(name) == user:
            del self._keys[name]

    def _keep_former(self, user: UserId, name: str, c: int) -> None:
        former = self.former.setdefault(user, {})
        if c > former.get(name, -1) and (name in former or len(former) < MAX_FORMER):
            former[name] = c
            self._ctx.change.former_names.append(FormerName(user, name, c))

    def _set_about(self, user: UserId, about: str) -> None:
        if about:
            self.abouts[user] = about
        else:
            self.abouts.pop(user, None)

    def _set_name(self, user: UserId, name: str, about: str, *, old: bool) -> None:
        if self.names.get(user) == name and self.abouts.get(user, "") == about:
            return
        former, self.names[user] = self.names.get(user), name
        if former is not None and former != name and former not in self.former.get(user, ()):  # more than are kept
            self._release_key(user, former)
        self._set_about(user, about)
        first = self._keys.setdefault(name, user)
        is_used = self.names.get(first, name) == name
        if first != user and (is_used or not old) and (user, name) not in self._warned:
            text = f"another key uses the name {name!r}: the two are shown with the beginnings of their ids"
            if not is_used:
                text = f"another key used the name {name!r} before: /whois tells them apart"
            known = [one for one in (first, user) if one in self._contacts]
            if len(known) == 1:
                text += "; the name alone means the one that you know"
            if self._ctx.warn_at_times(WarningIssued("name", text, user), "of a contact" if known else ""):
                self._warned.add((user, name))
        self._ctx.emit(UserNamed(user, name, about, old))


def _about(text: object) -> str:
    """Return the `about` text to keep; "" for anything that is no valid text."""
    return text[:MAX_ABOUT_CHARACTERS] if isinstance(text, str) and "\0" not in text else ""
