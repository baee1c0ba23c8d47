"""Rules for user names: visible characters without other meanings in typed commands.

Only the rule is here. sync/conversations.py decides who has which name; identity/names.py decides which names look
alike and how two equal names are told apart.
"""

from __future__ import annotations

import unicodedata

MAX_NAME_CHARACTERS = 32

# Reserved: they begin or end something else in typed input ("#ops", "@bob", "/msg", "a,b", "bob#K7QF2M3P").
RESERVED = "#@/,"
# Invisible or blank though their category says letter, mark or symbol (Unicode: Default_Ignorable_Code_Point, braille).
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0} | set(range(0x180B, 0x1810))
_INVISIBLE |= set(range(0xFE00, 0xFE10)) | set(range(0xE0100, 0xE01F0))


# Vowels and finals of Hangul, which join the syllable before them: letters by category, of no width of their own.
_JOINING = {chr(code) for part in (range(0x1160, 0x1200), range(0xD7B0, 0xD800)) for code in part}


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
        if not is_visible(character):
            return f"a name does not contain {character!a}: it cannot be seen"
    if unicodedata.category(name[0]).startswith("M") or name[0] in _JOINING:
        return f"a name does not begin with {name[0]!a}: it is a mark on another character"
    return ""


def is_visible(character: str) -> bool:
    """Return whether a character shows, or is the plain space."""
    if ord(character) in _INVISIBLE:
        return False
    category = unicodedata.category(character)
    return character == " " or category[0] not in "CZ"  # controls, bidi, zero-width, surrogates; other blanks
