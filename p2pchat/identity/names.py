"""What users are called: which names are allowed, which look alike, and how two of one name are told apart.

A name is a label somebody chose for a key, never an identity. This module knows the text rules only; who has which
name is decided in core/. Ids are shown in base32 (RFC 4648, upper case, no padding), so a label's suffix is the
beginning of the id.

Names that look alike are found by comparing skeletons, after Unicode Technical Standard 39, with a table of our own
that covers what can be mistaken in a chat window: digits for letters, the Cyrillic, Greek and Armenian letters, the
capitals of Cherokee and Lisu, and the small ones of phonetics that are drawn like Latin ones, and marks of another
writing, of which nothing is drawn. Too much is better than too little here: a false match only shows a suffix.
"""

from __future__ import annotations

import base64
import re
import unicodedata

from p2pchat.core.names import MAX_NAME_CHARACTERS, RESERVED, is_visible, name_fault
from p2pchat.protocol import UserId

SUFFIX_CHARACTERS = 8  # 40 bits: making a key with a given suffix takes days, and the full id is one command away
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
)  # casefold makes Cherokee's small letters such too
_GENERAL_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_LATIN_GREEK_CYRILLIC = "\u0530"  # all before it
_STROKES = str.maketrans("0i1|!‐‑‒–—―−_", "olll" + "l" + "-" * 8)


def validate_name(name: str) -> str:
    """Return `name` in normal form (NFC).

    Raises:
        ValueError: It is no name; the sentence says why and is fit for people.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    name = unicodedata.normalize("NFC", name)
    fault = _fault(name)
    if fault:
        raise ValueError(fault)
    return name


def is_valid_name(name: str) -> bool:
    """Whether `name` is allowed as it stands, in normal form already."""
    return not _fault(name)


def _fault(name: str) -> str:
    """Say why a user here may not be called so; peers of another make may call theirs what name_fault allows."""
    if skeleton(name) == ROOM_SKELETON:
        return f"{name!a} would be taken for the room, where everybody is: choose another name"
    return name_fault(name)


def default_name(login: str, port: int) -> str:
    """Return the name of a user who chose none: `ada-8080`, or `ada` for port 0; what a name may not contain is left
    out, and a login that no user may be called is not used."""
    tail = f"-{port}" if port else ""
    kept = "".join(c for c in unicodedata.normalize("NFC", login) if c not in RESERVED and is_visible(c)).strip()
    while kept and unicodedata.category(kept[0]).startswith("M"):
        kept = kept[1:]
    name = unicodedata.normalize("NFC", (kept[: MAX_NAME_CHARACTERS - len(tail)].strip() or NAMELESS) + tail)
    return name if is_valid_name(name) else NAMELESS + tail


def skeleton(name: str) -> str:
    """Return what `name` looks like: equal skeletons, names that can be mistaken for each other."""
    if not name.isascii():
        name = _without_lost_marks(unicodedata.normalize("NFKC", name))
    text = unicodedata.normalize("NFKC", name).translate(_CAPITALS).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_SMALL).translate(_PHONETIC).translate(_CAPITALS_WITHOUT_SMALL)
    text = text.translate(_STROKES)
    return "".join(text.split()).replace("rn", "m").replace("vv", "w")


def _without_lost_marks(text: str) -> str:
    """Leave out marks of other writings upon Latin, Greek and Cyrillic letters: most terminals draw nothing of them."""
    kept: list[str] = []
    for character in text:
        is_mark = unicodedata.category(character) in ("Mn", "Me") and not _GENERAL_MARKS.match(character)
        if not (is_mark and kept and kept[-1] < _LATIN_GREEK_CYRILLIC):
            kept.append(character)
    return "".join(kept)


ROOM_SKELETON = skeleton("room")  # how people address everybody


def look_alike(one: str, other: str) -> bool:
    """Whether people could take one name for the other; equal names do look alike."""
    return skeleton(one) == skeleton(other)


def base32(id: str) -> str:
    """Return an id (hex) as people see it."""
    return base64.b32encode(bytes.fromhex(id)).decode().rstrip("=")


def suffix(user_id: UserId) -> str:
    """Return the first characters of the id as people see it: what tells two of one name apart."""
    return base32(user_id[:10])


def full_label(name: str | None, user_id: UserId) -> str:
    """Return `alice#K7QF2M3P`, and `user#K7QF2M3P` for a user nobody named (None or "")."""
    return f"{name or NAMELESS}#{suffix(user_id)}"


def split_label(text: str) -> tuple[str, str]:
    """Split an address as typed into name and suffix: "alice#k7qf2m3p" is ("alice", "K7QF2M3P").

    The suffix is "" when none was typed; it may be longer than a label's, up to the whole id.
    """
    name, _, tail = text.partition("#")
    return name, tail.upper()
