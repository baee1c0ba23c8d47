"""Content of attachments: its pieces and their hashes; and file names that are harmless on any disk.

Content is cut into pieces of 256 KiB. A leaf is the hash of one piece, and the root is one hash over the size and all
leaves. So a peer that has the list of leaves can check each piece by itself, whoever sent it. Each kind of hash begins
with a tag of its own: no piece can pass for a list of leaves, and no list for a piece.

Pure functions; storage/content_store.py keeps content, docs/protocol-attachments.md specifies it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from p2pchat.protocol import PIECE_BYTES as PIECE_BYTES

LEAF_BYTES = 32
PIECE_TAG = b"p2pchat/piece/1\0"
CONTENT_TAG = b"p2pchat/content/1\0"

MAX_PART_CHARACTERS = 512  # that count at the beginning and at the end of a name; a guess: twice what is kept
MAX_DISK_NAME_BYTES = 200  # of UTF-8. File systems take 255; room is left for an addition such as " (12)" or ".part"
MAX_SUFFIX_BYTES = 20  # of a long name, kept whole: longer than ".tar.gz" or ".crdownload"
NO_NAME = "file"  # when nothing of a name is left

# Names of devices on Windows, with any ending: "nul.txt" is the device too.
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³])(?=[ .]*(?:\.|\Z))", re.IGNORECASE
)
_REFUSED = re.compile(r'[<>:"|?*]')  # by Windows; a colon begins a stream of NTFS
_HIDDEN = re.compile(r"^[.~\s-]+")  # a hidden file, a home directory, an option of a command
_LEFT_OUT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, direction marks, unassigned


def count_pieces(size: int) -> int:
    """Return how many pieces content of `size` bytes has; 0 for empty content."""
    return -(-size // PIECE_BYTES)


def piece_size(size: int, index: int) -> int:
    """Return the size of one piece in bytes. The last one may be shorter."""
    return min(PIECE_BYTES, size - index * PIECE_BYTES)


def leaf_of(piece: bytes | bytearray | memoryview) -> bytes:
    """Return the hash of one piece."""
    hash = blake2b(PIECE_TAG, digest_size=LEAF_BYTES)
    hash.update(piece)
    return hash.digest()


def root_of(size: int, leaves: Sequence[bytes] | bytes) -> str:
    """Return the root of content of `size` bytes, as hex32. `leaves`: one after the other, or joined."""
    hash = blake2b(CONTENT_TAG + size.to_bytes(8, "big"), digest_size=LEAF_BYTES)
    hash.update(leaves if isinstance(leaves, bytes) else b"".join(leaves))
    return hash.hexdigest()


def disk_name(name: str) -> str:
    """Return a name under which a file can be saved on any system, whatever its sender called it.

    The name is a single part of a path. It is visible, no device, no option of a command, at most 200 bytes of UTF-8,
    and reads the same in both directions of writing. The disk name of a disk name is the same again.
    """
    said = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    if len(said) > 2 * MAX_PART_CHARACTERS:  # the normal form of thousands of marks takes a hundredth of a second
        said = said[:MAX_PART_CHARACTERS] + said[-MAX_PART_CHARACTERS:]
    said = unicodedata.normalize("NFC", said)
    kept = "".join(" " if each.isspace() else each for each in said if unicodedata.category(each) not in _LEFT_OUT)
    trimmed = _HIDDEN.sub("", _REFUSED.sub("_", kept)).rstrip(". ")
    plain = _shortened(trimmed)
    return f"_{plain}" if _DEVICE.match(plain) else plain or NO_NAME


def _shortened(name: str) -> str:
    """Return at most MAX_DISK_NAME_BYTES of a name: its beginning, and its suffix if that is short."""
    if len(name.encode()) <= MAX_DISK_NAME_BYTES - 1:  # one may come before the name of a device
        return name
    stem, dot, suffix = name.rpartition(".")
    ending = dot + suffix if stem and len((dot + suffix).encode()) <= MAX_SUFFIX_BYTES else ""
    room = MAX_DISK_NAME_BYTES - 1 - len(ending.encode())
    begin = (stem if ending else name).encode()[:room].decode("utf-8", "ignore")
    return begin.rstrip(". ") + ending


def ranges_of(indices: Iterable[int], most: int) -> list[tuple[int, int]]:
    """Return the first ranges of rising indices as (first, count), at most `most` of them."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][0] + found[-1][1] == index:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        elif len(found) < most:
            found.append((index, 1))
        else:
            break
    return found
