"""Names of users: which are allowed, which look alike, and labels that tell equal names apart.

A name is a label that someone chose for a key, never an identity. It consists of visible characters without other
meanings in typed commands. This module has the rules of text only; sync/conversations.py decides who has which name.
Ids are shown in base32 (RFC 4648, upper case, no padding), and the suffix of a label is the beginning of the id.

Names look alike when their skeletons are equal, after Unicode Technical Standard 39. The table is our own and covers
what can be mistaken in a chat window: digits for letters; Cyrillic, Greek and Armenian letters; capitals of Cherokee
and Lisu; small phonetic letters that are drawn like Latin ones; and marks of other scripts, which are not drawn at
all. Too many matches are better than too few: a false match only shows a suffix.
"""

from __future__ import annotations

import base64
import re
import unicodedata

from p2pchat.protocol import UserId

MAX_NAME_CHARACTERS = 32

# Reserved: they begin or end something else in typed input ("#ops", "@bob", "/msg", "a,b", "bob#K7QF2M3P").
RESERVED = "#@/,"
# Invisible or blank though their category says letter, mark or symbol (Unicode: Default_Ignorable_Code_Point, braille).
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0} | set(range(0x180B, 0x1810))
_INVISIBLE |= set(range(0xFE00, 0xFE10)) | set(range(0xE0100, 0xE01F0))
_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ, as in Persian and in emoji: a group named so would be none for older peers
# Vowels and finals of Hangul, which join the syllable before them: letters by category, of no width of their own.
_JOINING = {chr(code) for part in (range(0x1160, 0x1200), range(0xD7B0, 0xD800)) for code in part}
SUFFIX_CHARACTERS = 8  # 40 bits: finding a key with a given suffix takes days, and the full id is one command away
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


def name_fault(name: str) -> str:
    """Return why a text is no valid name, as a sentence; "" for a valid name in normal form (NFC)."""
    if name != unicodedata.normalize("NFC", name):
        return "a name is in Unicode's normal form NFC"
    if not name:
        return "a name needs at least one character"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"a name has at most {MAX_NAME_CHARACTERS} characters, this has {len(name)}"
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


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def is_visible(character: str) -> bool:
    """Return whether a character shows, or is the plain space."""
    if ord(character) in _INVISIBLE:
        return False
    category = unicodedata.category(character)
    return character == " " or category[0] not in "CZ"  # controls, bidi, zero-width, surrogates; other blanks


def validate_name(name: str) -> str:
    """Return `name` in normal form (NFC).

    Raises:
        ValueError: The name is not allowed; the text says why, for people.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    name = unicodedata.normalize("NFC", name)
    fault = _fault(name)
    if fault:
        raise ValueError(fault)
    return name


def is_valid_name(name: str) -> bool:
    """Return whether `name`, in normal form, is allowed."""
    return not _fault(name)


def _fault(name: str) -> str:
    """Return why a user here may not have this name, or "". Other peers only apply name_fault."""
    if skeleton(name) == ROOM_SKELETON:
        return f"{name!r} would be taken for the room, where everybody is: choose another name"
    return name_fault(name)


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
    return base32(user_id[:10])


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
