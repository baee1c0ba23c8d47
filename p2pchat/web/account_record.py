"""Records of accounts: the words for their states, tokens, and which of two records of one name counts.

A record says all that a gateway needs to host an account. Gateways of a cluster pass records on (see cluster/), and two
of them may change one account at the same time. So all records of a name are in one order, and the last of them counts:
the one with the highest version, of equal versions the strictest, then the one that was used last. In whatever order
gateways hear of the records of a name, they end with the same one.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pchat import validate_name
from p2pchat.web.error_responses import WebError

# The word stored with the hash of an account, followed by "@" and the day (UTC) of its last use, as 2026-11-22. In a
# cluster "@" and the version of the record follow.
REGISTERED = ""  # has a token
NAMED = "named"  # registered by a trusted caller on this machine, without a token
REVOKED = "revoked"  # its token was revoked
FURTHER = "token:"  # a further token, followed by its label
RESERVED = "reserved:"  # a name that nobody has, followed by the secret (hex) of its user, ":" and the name
DELETED = "deleted"  # no longer hosted; the day is that of the deletion
RELEASED = "released"  # only in a cluster, of a name that was claimed and not given to anybody
RENAMED = "renamed"  # only in a cluster, of a name that its user gave up for another one
_FORMER = (DELETED, RELEASED, RENAMED)

# Names that people, paths, commands or programs would take for something else, as `room`. Nobody at all may have a name
# like an option or an address (core/names.py).
REFUSED_NAMES = (
    "everybody", "everyone", "all", "here", "channel", "nobody", "none", "me", "you", "system", "admin", "p2pchat",
    "help", "on", "off", "few", "known", ".", "..", "null", "undefined",
)  # fmt: skip


def valid(name: str) -> str:
    """Return a name that an account may have, in normal form. Raises ValueError."""
    return validate_name(name, REFUSED_NAMES)


def fitting(text: str) -> str:
    """Return the name of a user whom a program calls so: without what no name has, as in `Miller, Max`."""
    try:
        return validate_name(re.sub(r"[#@/,\s]+", " ", text)[:32].strip())
    except ValueError:
        return "user"


def state_of(word: str) -> str:
    """Return the state that a word stands for: registered, revoked or deleted."""
    return "revoked" if word == REVOKED else "deleted" if word in (DELETED, RELEASED) else "registered"


def label_of(word: str, day: date, version: int = 0) -> str:
    """Return the label that is stored with the hash of an account. Version 0: it was never in a cluster."""
    return f"{word}@{day}" + (f"@{version}" if version else "")


def parse_label(label: str) -> tuple[str, date, int]:
    """Return the word, the day and the version of a stored label."""
    word, _, rest = label.partition("@")
    day, _, version = rest.partition("@")
    return word, date.fromisoformat(day), int(version or 0)


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account, or a name that had one.

    Attributes:
        user: The user's key, in hex.
        secret: The secret of that key; b"" for a former account.
        hash: The hash of its token; of random bytes without a token, b"" for a former account.
        used: The day (UTC) of its last use, or of its deletion.
        version: Rises with each change of the state, which is everything but `used`.
    """

    name: str = field(repr=False)
    user: str
    secret: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    word: str
    used: date
    version: int

    @property
    def is_former(self) -> bool:
        """True if nobody hosts the user any more."""
        return self.word in _FORMER

    @property
    def state(self) -> str:
        """registered, revoked (registered, but its token was revoked) or deleted, as people know it."""
        return state_of(self.word)

    def is_free(self, today: date, kept_days: int) -> bool:
        """Return whether others may have the name."""
        return self.word in (RELEASED, RENAMED) or (self.word == DELETED and (today - self.used).days >= kept_days)

    @property
    def rank(self) -> tuple[Any, ...]:
        """The order of the records of one name; where only the day differs, the later one counts."""
        if self.word == RENAMED:  # whatever else happened to the account at the same time counts for its former name
            strictness = -1
        else:
            strictness = 2 if self.is_former else 1 if self.word == REVOKED else 0
        return self.version, strictness, self.word, self.hash, self.user, self.name, self.secret, self.used

    def is_same_but_for_use(self, other: AccountRecord) -> bool:
        """Return whether the other record differs in the day of its last use at most."""
        return self.rank[:-1] == other.rank[:-1]

    def former(self, word: str, day: date) -> AccountRecord:
        """Return the record of this account once its user is no longer hosted."""
        return replace(self, secret=b"", hash=b"", word=word, used=day, version=self.version + 1)

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        fields = {
            "name": self.name, "user": self.user, "secret": self.secret.hex(), "hash": self.hash.hex(),
            "word": self.word, "used": self.used.isoformat(), "version": self.version,
        }  # fmt: skip
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> AccountRecord:
        """Return the record of to_bytes; unknown fields are ignored. Raises ValueError."""
        try:
            got = json.loads(data)
            name, user, word, version = got["name"], got["user"], got["word"], got["version"]
            secret, hash, used = bytes.fromhex(got["secret"]), bytes.fromhex(got["hash"]), got["used"]
            if not (isinstance(name, str) and isinstance(user, str) and isinstance(word, str)):
                raise ValueError("a name, a user and a word are texts")
            if not isinstance(version, int) or version < 0:
                raise ValueError("a version is a number")
            return cls(name, user, secret, hash, word, date.fromisoformat(used), version)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no record of an account: {error!r}") from None


def join(one: AccountRecord, other: AccountRecord) -> AccountRecord:
    """Return the record that counts of two of one name."""
    return max(one, other, key=lambda record: record.rank)


def claimed_record(there: AccountRecord | None, mine: AccountRecord, today: date, kept_days: int) -> AccountRecord:
    """Return the record of a user who takes a name in place of what the cluster has. Raises AccountNameTaken."""
    if there is None:
        return mine
    if there.user != mine.user and not there.is_free(today, kept_days):
        raise AccountNameTaken(mine.name)
    return replace(mine, version=max(mine.version, there.version + 1))


class AccountNameTaken(WebError):
    """The name belongs to another user."""

    def __init__(self, name: str) -> None:
        super().__init__(409, "name_taken", f"the name {name!r} is taken: choose another")


def user_of(secret: bytes) -> str:
    """Return the key of a user, in hex, from its secret."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()


# ---- tokens
#
# A token is 256 random bits; anyone who has it has the account. Only its hash is stored. No salt or stretching is
# needed, since nobody can guess a token, and the time a look-up of its hash takes reveals nothing about it.

_BYTES = 32
_MAX_CHARACTERS = 128  # a longer token is not ours and is not hashed


def new_token() -> str:
    """Return a new token of 43 characters that are valid in URLs and headers."""
    return secrets.token_urlsafe(_BYTES)


def hash_of(token: str) -> bytes:
    """Return the hash of a token, 32 bytes; b"" for a text that cannot be a token."""
    if not token or len(token) > _MAX_CHARACTERS or not token.isascii():
        return b""
    return hashlib.blake2b(token.encode("ascii"), digest_size=32, person=b"p2pchat/web").digest()


def random_hash() -> bytes:
    """Return the hash of an account without a token."""
    return secrets.token_bytes(32)
