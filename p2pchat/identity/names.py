"""What users are called: which names are allowed, which look alike, and how two of one name are told apart.

A name is a label somebody chose for a key, never an identity. This module knows the text rules only; who has which
name is decided in core/. Ids are shown in base32 (RFC 4648, upper case, no padding), so a label's suffix is the
beginning of the id.

Names that look alike are found by comparing skeletons, after Unicode Technical Standard 39, with a table of our own
that covers what can be mistaken in a chat window: digits for letters, and the Cyrillic, Greek and Armenian letters
that are drawn like Latin ones. Too much is better than too little here: a false match only shows a suffix.
"""

from __future__ import annotations

import base64
import unicodedata

from p2pchat.protocol import UserId

MAX_NAME_CHARACTERS = 32
SUFFIX_CHARACTERS = 8  # 40 bits: making a key with a given suffix takes days, and the full id is one command away
NAMELESS = "user"

# Reserved: they begin or end something else in what people type ("#ops", "@bob", "/msg", "a,b", "bob#K7QF2M3P").
_RESERVED = "#@/,"
# Invisible or blank though their category says letter, mark or symbol (Unicode: Default_Ignorable_Code_Point, braille).
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0} | set(range(0x180B, 0x1810))
_INVISIBLE |= set(range(0xFE00, 0xFE10)) | set(range(0xE0100, 0xE01F0))

_CAPITALS = str.maketrans("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧВНІЈКМОРСТУХԌԚԜՍՕ", "abezhikmnoptyxbhijkmopctyxgqwuo")
_SMALL = str.maketrans(
    "αγικνορτυχωабвгеікморстухѕјһԁԛԝոսօɑɡı",
    "ayikvoptuxwa6breikmopctyxsjhdqwnuoagi",
)
_STROKES = str.maketrans("0i1|!‐‑‒–—―−_", "olll" + "l" + "-" * 8)


def validate_name(name: str) -> str:
    """Return `name` in normal form (NFC).

    Raises:
        ValueError: It is no name; the sentence says why and is fit for people.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise ValueError("a name needs at least one character")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"a name has at most {MAX_NAME_CHARACTERS} characters, this has {len(name)}")
    if name[0].isspace() or name[-1].isspace():
        raise ValueError("a name does not begin or end with a space")
    for character in name:
        if character in _RESERVED:
            raise ValueError(f"a name does not contain {character!a}: # @ / and , have other meanings")
        if not _visible(character):
            raise ValueError(f"a name does not contain {character!a}: it cannot be seen")
    if unicodedata.category(name[0]).startswith("M"):
        raise ValueError(f"a name does not begin with {name[0]!a}: it is a mark on another character")
    return name


def _visible(character: str) -> bool:
    if ord(character) in _INVISIBLE:
        return False
    category = unicodedata.category(character)
    return character == " " or category[0] not in "CZ"  # controls, bidi, zero-width, surrogates; other blanks


def is_valid_name(name: str) -> bool:
    """Whether `name` is allowed as it stands, in normal form already."""
    try:
        return validate_name(name) == name
    except ValueError:
        return False


def default_name(login: str, port: int) -> str:
    """Return the name of a user who chose none: `ada-8080`; what a name may not contain is left out."""
    tail = f"-{port}"
    kept = "".join(c for c in unicodedata.normalize("NFC", login) if c not in _RESERVED and _visible(c)).strip()
    while kept and unicodedata.category(kept[0]).startswith("M"):
        kept = kept[1:]
    return (kept[: MAX_NAME_CHARACTERS - len(tail)] or NAMELESS) + tail


def skeleton(name: str) -> str:
    """Return what `name` looks like: equal skeletons, names that can be mistaken for each other."""
    text = unicodedata.normalize("NFKC", name).translate(_CAPITALS).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_SMALL).translate(_STROKES)
    return "".join(text.split()).replace("rn", "m").replace("vv", "w")


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
