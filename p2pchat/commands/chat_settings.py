"""The settings of a person's chat: what it chose on any of its machines, else the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from p2pchat import HostedUser, TCPPeer

QUIET_ABOVE = 8  # people online, oneself included: with `joins` auto, above it joins and leaves are not shown
PROGRAM = "chat"  # in the names of choices


@dataclass
class Setting:
    """One setting.

    Attributes:
        values: Allowed values, the default first.
        by_conversation: A conversation may have a value of its own.
        of_peer: The core knows it.
    """

    name: str
    values: tuple[str, ...]
    meaning: str
    by_conversation: bool = False
    of_peer: bool = False


SETTINGS = (
    Setting(
        "joins",
        ("auto", "on", "off"),
        f"announce who comes and goes (auto: only while at most {QUIET_ABOVE} people are here)",
    ),
    Setting(
        "notify",
        ("mentions", "all", "none"),
        "what to show and ring for outside the current conversation: direct messages and mentions, all, or none",
        by_conversation=True,
    ),
    Setting("bell", ("on", "off"), "ring the bell for what `notify` selects"),
    Setting("desktop", ("off", "on"), "show a desktop notification for the same"),
    Setting(
        "receipts",
        ("on", "off"),
        "send and receive read receipts",
        by_conversation=True,
        of_peer=True,
    ),
    Setting("typing", ("on", "off"), "send and show typing indicators", by_conversation=True),
)
INHERIT = "usual"  # typed to end the exception of a conversation
BY_NAME = {setting.name: setting for setting in SETTINGS}


class ChatSettings:
    """The settings of one user."""

    def __init__(self, user: TCPPeer | HostedUser) -> None:
        self._user = user

    def value(self, name: str, conversation_id: str = "") -> str:
        """Return a value as typed, in general or for one conversation. What a later version chose does not count."""
        values, chosen = BY_NAME[name].values, self._user.choices(PROGRAM)  # once: it looks through all of a person's
        for key in (f"{name}:{conversation_id}", name):
            if chosen.get(key) in values:
                return chosen[key]
        return values[0]

    def exceptions(self, name: str) -> dict[str, str]:
        """Return the values that were chosen for single conversations, by their ids."""
        return self._user.choices(f"{PROGRAM}:{name}")

    def is_on(self, name: str, conversation_id: str = "") -> bool:
        """Return whether a value is `on`."""
        return self.value(name, conversation_id) == "on"

    def notifies(self, conversation_id: str, *, meant: bool) -> bool:
        """Return whether to show and ring for a message of another conversation; `meant`: it is direct or a mention."""
        how = self.value("notify", conversation_id)
        return how == "all" or (how == "mentions" and meant)

    def shows_typing(self, conversation_id: str) -> bool:
        """Return whether who types there is shown, and told."""
        return self.is_on("typing", conversation_id)

    async def change(self, name: str, value: str, conversation_id: str = "") -> None:
        """Change a setting, in general or for one conversation; INHERIT ends an exception.

        Raises:
            ValueError: It does not take this value, or has none for one conversation; the text says what is allowed.
            StorageError: It could not be stored. Then nothing is changed.
        """
        setting, key = BY_NAME[name], f"{PROGRAM}:{name}"
        if conversation_id:
            key += f":{conversation_id}"
            if not setting.by_conversation:
                raise ValueError(f"{name} cannot be set for one conversation")
        error = value_error(setting, value, exception=bool(conversation_id))
        if error:
            raise ValueError(error)
        await self._user.choose(key, value.removeprefix(INHERIT))


def value_error(setting: Setting, value: str, *, exception: bool) -> str:
    """Return why a setting does not take this value; "" if it does. `exception`: for one conversation."""
    values = (*setting.values, INHERIT) if exception else setting.values
    return "" if value in values else f"{setting.name} is {' or '.join(values)}, not {value!r}"
