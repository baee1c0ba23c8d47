"""Whom the own user does not want to hear of: remembered by key, in the database, whatever they are called.

Nothing is stored, passed on or acknowledged otherwise for it: it is only about what is shown. A program is told
everything unless it asks not to be (`events(ignored=False)`), and finds `ignored` on every user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from p2pchat.core.records import META_IGNORED
from p2pchat.messaging.users import People, User
from p2pchat.protocol import UserId

OF_ONES_OWN = ("delivered", "read")  # what became of one's own messages, whoever has them


def ignored_of(user: UserId) -> str:
    """Return under which name it is kept whom a hosted user ignores."""
    return f"{META_IGNORED}:{user}"


def load_ignored(people: People, meta: Mapping[str, str], name: str = META_IGNORED) -> None:
    """Take over who is ignored."""
    people.ignored = set(json.loads(meta.get(name, "[]")))


def ignored_meta(people: People, name: str = META_IGNORED) -> dict[str, str]:
    """Return it as it is kept."""
    return {name: json.dumps(sorted(people.ignored))}


def is_of_ignored(event: Any) -> bool:
    """Whether an event is of somebody who is ignored: what they wrote or did, and how they are.

    What they make of a group is everybody's; only that they themselves come or go is theirs.
    """
    if event.event in OF_ONES_OWN:
        return False
    for name in ("target",) if event.event == "group" else ("sender", "by", "user"):
        who = getattr(event, name, None)
        if isinstance(who, User):
            return who.ignored
    return False
