"""The groups one peer knows, by name: what a typed `#ops` means, and which groups could be taken for each other.

Like the names of users those of groups are labels somebody chose: two groups whose names are equal, or look alike,
are both shown with the beginning of their id.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping

from p2pchat.core.groups.group import Group
from p2pchat.core.groups.view import GroupView
from p2pchat.core.log import decode_entry
from p2pchat.core.records import Spoken
from p2pchat.errors import AmbiguousName, UnknownName
from p2pchat.identity.names import ROOM_SKELETON, full_label, skeleton, split_label, suffix
from p2pchat.protocol import ConversationId


class GroupBook:
    """Names of groups.

    Args:
        views: Gives all groups as they are now, by the id of their operations.
    """

    def __init__(self, views: Callable[[], Mapping[ConversationId, GroupView]]) -> None:
        self._views = views
        self._names: dict[ConversationId, str] = {}  # by talk
        self._looks: dict[ConversationId, str] = {}  # the skeleton of each name
        self._alike: dict[str, set[ConversationId]] = {}  # talks by skeleton
        self._sees: Callable[[ConversationId], bool] | None = None  # None: all of them

    def seen_by(self, sees: Callable[[ConversationId], bool]) -> GroupBook:
        """Return the same book with the groups alone whose talks `sees` lets be known."""
        other = GroupBook(self._views)
        other._names, other._looks, other._alike, other._sees = self._names, self._looks, self._alike, sees
        return other

    def _fitting(self, looks: str) -> set[ConversationId]:
        """Return the talks whose names look so."""
        found = self._alike.get(looks, set())
        return found if self._sees is None else set(filter(self._sees, found))

    @classmethod
    def of_stored(cls, groups: Mapping[ConversationId, Group]) -> GroupBook:
        """Return the groups that storage knows, where no peer runs."""
        views = {id: group.view for id, group in groups.items() if group.view is not None}
        book = cls(lambda: views)
        book.load()
        return book

    def load(self) -> None:
        """Take the names of all groups known."""
        for view in self._views().values():
            self.learn(view.talk, view.name)

    def learn(self, talk: ConversationId, name: str) -> None:
        """Take the (new) name of a group."""
        former = self._names.get(talk)
        if former == name:
            return
        if former is not None:
            looks = self._looks[talk]
            self._alike[looks].discard(talk)
            if not self._alike[looks]:
                del self._alike[looks]
        self._names[talk] = name
        self._looks[talk] = skeleton(name)
        self._alike.setdefault(self._looks[talk], set()).add(talk)

    def name(self, talk: ConversationId) -> str:
        """Return what a group was called when it was learned last; "" for one that never was."""
        return self._names.get(talk, "")

    def all(self) -> list[GroupView]:
        """Return every group as it is now."""
        return [view for view in self._views().values() if self._sees is None or self._sees(view.talk)]

    def view(self, group: ConversationId) -> GroupView | None:
        """Return a group as it is now, by the id of its operations."""
        return self._views().get(group)

    def same_name(self, talk: ConversationId) -> bool:
        """Say whether another group, or the room, could be taken for this one."""
        name = self._names.get(talk)
        return name is not None and ((looks := self._looks[talk]) == ROOM_SKELETON or len(self._fitting(looks)) > 1)

    def hint(self, text: str) -> str:
        """Return what to add where nobody has this name, and a group has; "" when none has."""
        try:
            self.find(text)
        except UnknownName:
            return ""
        except AmbiguousName as error:
            return f"groups are: {', '.join(error.candidates)}"
        return f"the group is #{text.strip()}"

    def find(self, text: str) -> ConversationId:
        """Return the talk of the group an address names: `#ops`, `ops`, `#ops#K7QF2M3P`.

        Raises:
            UnknownName: No group here is called so. AmbiguousName: Several are, or look as if.
        """
        name, tail = split_label(unicodedata.normalize("NFC", text.strip()).removeprefix("#"))
        alike = self._fitting(skeleton(name))
        if len(alike) == 1 and not tail:  # what looks like it is not it
            fitting = [talk for talk in alike if self._names[talk].casefold() == name.casefold()]
        else:
            fitting = [talk for talk in alike if suffix(talk) == tail or not tail]
        if not fitting:
            raise UnknownName(text, self._hint())
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(self._labels(fitting)))
        return fitting[0]

    def _labels(self, talks: Iterable[ConversationId]) -> list[str]:
        return [f"#{full_label(self._names[talk], talk)}" for talk in talks]

    def _hint(self) -> str:
        seen = (name for talk, name in self._names.items() if self._sees is None or self._sees(talk))
        names = sorted({ascii(name)[1:-1] for name in seen})[:8]
        return f"groups here are {', '.join(f'#{name}' for name in names)}" if names else "there are no groups here yet"


def groups_of(spoken: Iterable[Spoken]) -> dict[ConversationId, Group]:
    """Return the groups that storage knows, by id; each log in order."""
    groups: dict[ConversationId, Group] = {}
    for log, seq, raw in spoken:
        groups.setdefault(log.conversation, Group(log.conversation)).add(log, seq, raw, decode_entry(raw))
    return groups
