"""Name resolution: labels of users and groups, and the user, group or conversation that a typed address means.

A name is a label that a user chose; the id identifies. Two names that are equal, or look alike, are both shown with
the beginning of the id. An address that fits both is refused, with the labels to choose from.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from heapq import nsmallest
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import META_BLOCKED, META_IGNORED, Stored
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.names import (
    MAX_TYPED_CHARACTERS,
    ROOM_SKELETON,
    base32,
    full_label,
    skeleton,
    split_label,
    suffix,
)
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.errors import AmbiguousName, UnknownName
from p2pchat.messaging.conversations import Conversation
from p2pchat.messaging.groups import Group
from p2pchat.messaging.users import User
from p2pchat.protocol import ConversationId, Naming, UserId

if TYPE_CHECKING:
    from p2pchat.messaging.history import Viewer

Status = tuple[str, str, int]  # status, text, since in UTC microseconds (0: unknown)
FULL_ID_CHARACTERS = 52  # 32 bytes in base32
MAX_SUGGESTED = 3  # names in a "did you mean": a guess at what is read
MIN_SWEEP = 1000  # User objects; sweeping fewer is not worth it
MAX_LISTED = 8  # names in an error; the same


class ConversationDirectory:
    """The handles of one viewer's conversations, found by id or by address.

    Args:
        naming: Returns the name behind a conversation id; None for one the viewer does not know.
        opened: Called with the naming of a direct conversation that is not known yet.
    """

    __slots__ = ("_groups", "_handles", "_naming", "_opened", "_viewer")

    def __init__(
        self,
        viewer: Viewer,
        groups: GroupDirectory,
        naming: Callable[[ConversationId], Naming | None],
        opened: Callable[[Naming], None],
    ) -> None:
        self._viewer = viewer
        self._groups = groups
        self._naming = naming
        self._opened = opened
        self._handles: dict[ConversationId, Conversation] = {}

    def get(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation, by its id in hex; known or not."""
        found = self._handles.get(key)
        if found is None or found.naming is None:
            naming = self._naming(key)
            kind = Group if naming is not None and naming.talk else Conversation
            found = self._handles[key] = kind(self._viewer, key, naming)
        return found

    def group(self, key: ConversationId) -> Group:
        """Return the handle of a group, by the id of its messages."""
        group = self.get(key)
        assert isinstance(group, Group)
        return group

    def find(self, to: User | Conversation | str) -> Conversation:
        """Return the conversation that an address names; see TCPPeer.find."""
        if isinstance(to, Conversation):
            return to if to.viewer is self._viewer else self.get(to.key)
        if isinstance(to, User):
            return self._direct(to)
        if not isinstance(to, str):
            raise TypeError(f"a message goes to a name, a User or a Conversation, not {type(to).__name__}")
        text = to.strip()
        if text.lower() in ("room", "#room"):
            return self._viewer.room
        if text.startswith("#"):
            return self.get(self._groups.find(text))
        key = id_of(text)
        if key and (key in self._handles or self._naming(key) is not None):
            return self.get(key)
        try:
            return self._direct(self._viewer.directory.find(text))
        except UnknownName:
            if not (hint := self._groups.hint(text)):
                raise
        raise UnknownName(text, hint)

    def _direct(self, user: User) -> Conversation:
        me = self._viewer.directory.me
        key = dm_id(me, user.key)
        found = self._handles.get(key)
        if found is None or found.naming is None:
            naming = dm_naming(me, user.key)
            if self._naming(key) is None:
                self._opened(naming)
            found = self._handles[key] = Conversation(self._viewer, key, naming)
        return found


class ExpelledUsers:
    """Who is out of the network, as far as the peer knows.

    Attributes:
        since: Returns since when a user is out, in UTC microseconds; None for one who is not.
        concealed: Returns those of them of whom nothing is shown any more.
    """

    since: Callable[[UserId], int | None] = staticmethod(lambda user: None)
    concealed: Callable[[], AbstractSet[UserId]] = staticmethod(frozenset)


class UserDirectory:
    """All users known to one peer, as one of its own users sees them.

    Args:
        me: The id (hex) of the own user.
        status: Returns the presence of a user.
        former: Returns the former names of users, by id; it may include present ones.
    Attributes:
        ignored, blocked: The ids of the users that the own user ignores, and of those that it blocks.
        expelled: Who is out of the network.
        abouts: What users tell about themselves.
    """

    __slots__ = (
        "_former",
        "_index",
        "_sweep_at",
        "_users",
        "abouts",
        "blocked",
        "expelled",
        "ignored",
        "me",
        "status",
    )

    def __init__(
        self, me: UserId, status: Callable[[UserId], Status],
        former: Callable[[], Mapping[UserId, Iterable[str]]] = dict,
    ) -> None:  # fmt: skip
        self.me: UserId = me
        self.status: Callable[[UserId], Status] = status
        self._former = former
        self.ignored: set[UserId] = set()
        self.blocked: set[UserId] = set()
        self.expelled: ExpelledUsers = ExpelledUsers()
        self.abouts: dict[UserId, str] = {}
        self._index = NameIndex()
        self._users: dict[UserId, User] = {}
        self._sweep_at = MIN_SWEEP  # users; those that were forgotten are dropped when there are so many

    def seen_by(self, me: UserId) -> UserDirectory:
        """Return the same users as another user of this peer sees them; names are shared."""
        other = UserDirectory(me, self.status, self._former)
        other.abouts, other._index = self.abouts, self._index
        other.expelled = self.expelled
        return other

    def load(self, me: UserId, stored: Stored) -> None:
        """Take the stored users, for this own user of the peer."""
        self.me = me
        self.load_hidden(stored.meta)
        for user in stored.users:
            self._index.learn(user.id, user.name)
            self.set_about(user.id, user.about)

    def load_hidden(self, meta: Mapping[str, str], ignored: str = META_IGNORED, blocked: str = META_BLOCKED) -> None:
        """Take the ids of ignored and of blocked users, which storage keeps as JSON under these keys."""
        self.ignored, self.blocked = (set(json.loads(meta.get(key, "[]"))) for key in (ignored, blocked))

    @property
    def hidden(self) -> AbstractSet[UserId]:
        """The ids of the users whom programs do not show to people."""
        concealed = self.expelled.concealed()
        return self.ignored | self.blocked | concealed if self.blocked or concealed else self.ignored

    def learn(self, names: Iterable[tuple[UserId, str]]) -> None:
        """Set the names of users."""
        for id, name in names:
            self._index.learn(id, name)

    def set_about(self, id: UserId, about: str) -> None:
        """Set what a user tells about itself; "" for nothing."""
        if about:
            self.abouts[id] = about
        else:
            self.abouts.pop(id, None)

    def forget(self, id: UserId) -> None:
        """Forget a user of whom nothing is known any more."""
        self._index.forget(id)
        self.abouts.pop(id, None)
        self._users.pop(id, None)

    def user(self, id: UserId) -> User:
        """Return the User object of an id, known or not; the same one as long as the user has a name."""
        user = self._users.get(id)
        if user is None:
            if len(self._users) >= self._sweep_at:
                self._users = {id: user for id, user in self._users.items() if id in self._index.names}
                self._sweep_at = max(MIN_SWEEP, 2 * len(self._users))
            user = self._users[id] = User(self, id)
        return user

    def all(self) -> list[User]:
        """Return every user with a name, sorted by label."""
        return sorted((self.user(id) for id in self._index.names), key=lambda user: user.label.casefold())

    @property
    def known(self) -> AbstractSet[UserId]:
        """The ids of all users with a name; a live view."""
        return self._index.names.keys()

    def alike(self, name: str) -> AbstractSet[UserId]:
        """Return the ids of the users whose names look like this one; a live view."""
        return self._index.alike.get(skeleton(name), set())

    def name(self, id: UserId) -> str:
        """Return the name of a user; "" while it is unknown."""
        return self._index.names.get(id, "")

    def label(self, id: UserId) -> str:
        """Return the label of a user; see User.label."""
        index = self._index
        name = index.names.get(id)
        if not name or (look := index.looks[id]) == ROOM_SKELETON or len(index.alike[look]) > 1:
            return full_label(name, id)
        return name

    def ignores(self, id: str) -> bool:
        """Return whether the user with this id, as in event lines, is ignored or blocked."""
        return id_of(id) in hidden if (hidden := self.hidden) else False

    def find(self, text: str) -> User:
        """Return the user that an address names; see NamedUser.user. A name fits all names that look like it."""
        fitting = self.fitting(text)
        if not fitting:
            raise UnknownName(text, self._hint(_split_typed(text, "@")[0]))
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(full_label(user.name, user.key) for user in fitting))
        return fitting[0]

    def fitting(self, text: str) -> list[User]:
        """Return the users that an address fits. It is quick where there is none: names are waited for."""
        name, tail = _split_typed(text, "@")
        by_id = None if tail else self._by_id(name.upper())
        if by_id is not None:
            return [by_id]
        return list(map(self.user, self._by_tail(name, tail) if tail else self._by_name(name)))

    def near(self, name: str) -> list[User]:
        """Return the other users whose names are one letter away from this one, by label: it may be misspelt."""
        names = self._index.names
        found = [self.user(id) for id in names if id != self.me and is_misspelling(name, names[id])]
        return sorted(found, key=lambda user: user.label.casefold())

    def renamed_hint(self, name: str, among: Container[UserId] | None = None) -> str:
        """Return what those are called now who had this name before, as a hint in an error; "" if nobody had it.

        Args:
            among: The ids of the users who are meant; None for all.
        """
        typed, names = name.casefold(), self._index.names
        found = [
            _quoted(self.label(id))
            for id, former in self._former().items()
            if id in names and (among is None or id in among) and typed in map(str.casefold, former)
        ]
        return f"{_quoted(name)} is now called {' or '.join(sorted(found)[:MAX_SUGGESTED])}" if found else ""

    def resolve(self, who: User | str) -> User:
        """Return a user, given as such, by a name as typed, or by the full id of any user; raises as find."""
        if isinstance(who, User):
            return self.user(who.key)
        if not isinstance(who, str):
            raise TypeError(f"a user is a User or a name, not {type(who).__name__}")
        key = id_of(who.strip().removeprefix("@"))
        return self.user(key) if key else self.find(who)

    def _by_id(self, text: str) -> User | None:
        key = id_of(text)
        return self.user(key) if key in self._index.names or key in self._users else None

    def _by_tail(self, name: str, tail: str) -> list[UserId]:
        names = self._index.names
        beginning = tail if len(tail) >= 8 else tail.ljust(8, "?")  # a shorter one is no address
        fitting = self.alike(name)  # few, while the ids of all users take 5 us each to spell
        if skeleton(name) == skeleton("user"):
            fitting = fitting | {id for id in names.keys() | self._users.keys() if not names.get(id)}
        return [id for id in fitting if base32(id).startswith(beginning)]

    def _by_name(self, name: str) -> list[UserId]:
        alike = list(self.alike(name))
        if len(alike) == 1 and self._index.names[alike[0]].casefold() != name.casefold():
            return []  # it looks like a user's name, but is spelled differently
        return alike

    def _hint(self, typed: str) -> str:
        if renamed := self.renamed_hint(typed):
            return renamed
        if near := self.near(typed):
            return f"did you mean {' or '.join(_quoted(user.label) for user in near[:MAX_SUGGESTED])}?"
        others = ((name.casefold(), id) for id, name in self._index.names.items() if id != self.me)
        labels = [self.label(id) for _, id in nsmallest(MAX_LISTED, others)]  # the quickest way: names are waited for
        more = len(self._index.names) - (self.me in self._index.names) - len(labels)
        return f"known are {_listed(map(_quoted, labels), more)}" if labels else ""


class GroupDirectory:
    """The groups that one peer knows, by name. Names that look alike are shown with the beginning of the group's id.

    Args:
        views: Returns the present state of all groups, by the id of their operations.
    """

    def __init__(self, views: Callable[[], Mapping[ConversationId, GroupView]]) -> None:
        self._views = views
        self._index = NameIndex()  # ids are those of the groups' messages
        self._knows: Callable[[ConversationId], bool] = lambda talk: True

    def seen_by(self, knows: Callable[[ConversationId], bool]) -> GroupDirectory:
        """Return the same directory, limited to the groups for whose messages `knows` returns true."""
        other = GroupDirectory(self._views)
        other._index, other._knows = self._index, knows
        return other

    def load(self) -> None:
        """Take the names of all groups."""
        for view in self._views().values():
            self.learn(view.talk, view.name)

    def learn(self, talk: ConversationId, name: str) -> None:
        """Set the name of a group."""
        if self._index.names.get(talk) != name:
            self._index.learn(talk, name)

    def name(self, talk: ConversationId) -> str:
        """Return the name of a group; "" while it is unknown."""
        return self._index.names.get(talk, "")

    def all(self) -> list[GroupView]:
        """Return the present state of every group whose name is known, which it is once its operations are stored."""
        return [view for view in self._views().values() if view.talk in self._index.names and self._knows(view.talk)]

    def view(self, group: ConversationId) -> GroupView | None:
        """Return the present state of a group, by the id of its operations."""
        return self._views().get(group)

    def same_name(self, talk: ConversationId) -> bool:
        """Return whether the name looks like that of another group, or of the room."""
        look = self._index.looks.get(talk)
        return look is not None and (look == ROOM_SKELETON or len(self._alike(look)) > 1)

    def _alike(self, look: str) -> list[ConversationId]:
        return list(filter(self._knows, self._index.alike.get(look, ())))

    def hint(self, text: str) -> str:
        """Return a hint for a name that no user has, but a group; "" if none has."""
        try:
            self.find(text)
        except UnknownName:
            return ""
        except AmbiguousName as error:
            return f"groups are: {', '.join(error.candidates)}"
        return f"the group is #{_quoted(text.strip())}"

    def find(self, text: str) -> ConversationId:
        """Return the id of the messages of the group that an address names; see LocalUser.group."""
        names = self._index.names
        name, tail = _split_typed(text, "#")
        alike = self._alike(skeleton(name))
        if len(alike) == 1 and not tail:  # a name that only looks like it is another one
            fitting = [talk for talk in alike if names[talk].casefold() == name.casefold()]
        else:
            fitting = [talk for talk in alike if suffix(talk) == tail or not tail]
        if not fitting:
            raise UnknownName(text, self._hint())
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(f"#{full_label(names[talk], talk)}" for talk in fitting))
        return fitting[0]

    def _hint(self) -> str:
        known = (name for talk, name in self._index.names.items() if self._knows(talk))
        names = [f"#{_quoted(name)}" for name in sorted(set(known))]
        listed = _listed(names[:MAX_LISTED], len(names[MAX_LISTED:]))
        return f"groups here are {listed}" if names else "there are no groups here yet"


class NameIndex:
    """Names by id, and which of them look alike: by skeleton, computed once, since every line asks for labels."""

    __slots__ = ("alike", "looks", "names")

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # by id
        self.looks: dict[str, str] = {}  # skeletons, by id
        self.alike: dict[str, set[str]] = {}  # ids, by skeleton

    def forget(self, id: str) -> None:
        """Remove an id and its name."""
        former = self.looks.pop(id, None)
        if former is not None:
            del self.names[id]
            self.alike[former].discard(id)
            if not self.alike[former]:
                del self.alike[former]

    def learn(self, id: str, name: str) -> None:
        """Set the name of an id. A former name leaves nothing behind."""
        self.forget(id)
        self.names[id] = name
        self.looks[id] = look = skeleton(name)
        self.alike.setdefault(look, set()).add(id)


def _split_typed(text: str, sign: str) -> tuple[str, str]:
    """Return the name, in normal form, and the suffix of an address; "" for both if it is longer than any."""
    if len(text) > MAX_TYPED_CHARACTERS:
        return "", ""
    return split_label(unicodedata.normalize("NFC", text.strip()).removeprefix(sign))


def _quoted(name: str) -> str:
    """Return a name for a list of names: on one line, in quotes if it has blanks."""
    shown = repr(name)[1:-1]
    return f'"{shown}"' if " " in shown else shown


def _listed(names: Iterable[str], more: int) -> str:
    return ", ".join(names) + (f" and {more} more" if more else "")


def is_misspelling(typed: str, name: str) -> bool:
    """Return whether two names differ by one letter: missing, added, wrong, or swapped with the next one.

    Digits are no letters, because user1 and user2 are two names, and of names with one or two letters many are near.
    """
    one, other = typed.casefold(), name.casefold()
    if len(one) > len(other):
        one, other = other, one
    size, at = len(one), 0
    if len(other) < 3 or len(other) - size > 1 or one == other:
        return False
    while at < size and one[at] == other[at]:
        at += 1
    if len(other) > size:
        letters, fits = other[at], one[at:] == other[at + 1 :]
    else:
        letters, fits = one[at] + other[at], one[at + 1 :] == other[at + 1 :]
        fits = fits or (letters == other[at : at + 2][::-1] and one[at:] == letters + other[at + 2 :])
    return fits and not letters.isdecimal()


def begin_of(text: str) -> str:
    """Return how ids in hex begin that people see with this beginning of 8 characters; "" for other text."""
    try:
        return base64.b32decode(text.upper()).hex() if len(text) == 8 else ""
    except ValueError:
        return ""


def id_of(text: str) -> UserId:
    """Return the id in hex that people see as `text`, 52 characters of base32, in one line or broken into several; ""
    for other text.
    """
    text = "".join(text.split())
    if len(text) != FULL_ID_CHARACTERS:
        return ""
    try:
        id = base64.b32decode(text.upper() + "=" * (-len(text) % 8)).hex()
    except ValueError:  # a character outside of base32, or of ASCII
        return ""
    return id if base32(id) == text.upper() else ""  # not equal: bits are set beyond the 32 bytes
