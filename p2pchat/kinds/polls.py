"""Polls: a question with options, votes for one of them by its number, and the end of the votes.

A later vote of a person replaces the earlier one, and 0 takes it back. What is written at the clock of the first close
or after it does not count. Who voted for what is seen by all.
"""

from __future__ import annotations

from p2pchat.kinds.kind import Choices, Kind

OPTIONS = Choices(8, 80, "a poll cannot be edited: delete it and ask again", "options")
POLL = Kind("poll", "text", "message", choices=OPTIONS)
VOTE = Kind("vote", "number", "vote", "any", "vote", OPTIONS.most, told="writer", until="close", on=POLL.name)
CLOSE = Kind("close", "null", "closed", "own", "close", oldest=True, on=POLL.name)
