"""Whether somebody looks at this chat, and at which conversation: one small object that hears of keys, of the window
and of /away, tells others `online` or `idle`, and answers what may count as read.

Somebody is there until nothing was typed for five minutes, until /away, or while the terminal tells that another window
has the keyboard. The last says nothing to others: who reads in the window beside is still online. Input that is no
keyboard tells nothing of anybody: a pipe counts as in use until /away.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Attention:
    """One chat's attention.

    Args:
        tell: Takes what others are told, when it is another: a status and its text.
        current: Returns the id (base32) of the conversation of the moment; "" while it is not known.
        idle_after: Seconds without a key until nobody is there; None: keys tell nothing, for there are none.
    Attributes:
        looking: Called whenever more may be seen than before: somebody came back, or went to another conversation.
    """

    def __init__(
        self, tell: Callable[[str, str], None], current: Callable[[], str], *, idle_after: float | None
    ) -> None:
        self.looking: list[Callable[[], None]] = []
        self._tell = tell
        self._current = current
        self._idle_after = idle_after
        self._loop = asyncio.get_running_loop()
        self._told = ("online", "")
        self._away: str | None = None  # the text of an /away that holds
        self._idle = False
        self._focused = True  # also where the terminal does not tell
        self._used_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._look_later()

    # What may count as read

    @property
    def in_use(self) -> bool:
        """Whether somebody looks here."""
        return self._focused and not self._idle and self._away is None

    def sees(self, conversation_id: str) -> bool:
        """Whether somebody looks at this conversation (its id as in event lines)."""
        return self.in_use and self._current() == conversation_id

    # What happens

    def used(self) -> None:
        """Something was typed. After an /away that alone is no return: /back is."""
        was = self.in_use
        self._used_at = self._loop.time()
        self._focused = True  # keys go to the window in front, whatever was told before
        self._idle = False
        if self._timer is None:
            self._look_later()
        self._changed(was)

    def focus(self, on: bool) -> None:
        """The terminal tells that this window got the keyboard, or lost it."""
        if on:
            self.used()
        else:
            self._focused = False

    def away(self, text: str) -> None:
        """Somebody says to be away, until back()."""
        was, self._away = self.in_use, text
        self._changed(was, anyhow=True)

    def back(self) -> None:
        """Somebody says to be back."""
        was, self._away = self.in_use, None
        self._changed(was, anyhow=True)

    def moved(self) -> None:
        """Another conversation is the one of the moment."""
        if self.in_use:
            self._look()

    def close(self) -> None:
        """Tell nothing any more."""
        self.looking.clear()
        if self._timer is not None:
            self._timer.cancel()

    # Inside

    def _changed(self, was: bool, *, anyhow: bool = False) -> None:
        """Tell others what is another, or what somebody said (`anyhow`); and whoever waits for somebody to look."""
        word = ("online", "") if self._away is None and not self._idle else ("idle", self._away or "")
        if anyhow or word != self._told:
            self._told = word
            self._tell(*word)
        if self.in_use and not was:
            self._look()

    def _look(self) -> None:
        for call in list(self.looking):
            call()

    def _look_later(self) -> None:
        """See later whether something was typed meanwhile: a key costs no timer."""
        if self._idle_after is not None:
            self._timer = self._loop.call_at(self._used_at + self._idle_after, self._see)

    def _see(self) -> None:
        assert self._idle_after is not None
        self._timer = None
        if self._loop.time() < self._used_at + self._idle_after:
            self._look_later()
        else:
            was, self._idle = self.in_use, True
            self._changed(was)
