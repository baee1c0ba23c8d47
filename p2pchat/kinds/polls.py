"""Polls: a question with options, votes for one of them by its number, and the end of the votes.

A later vote of a person replaces the earlier one, and 0 takes it back. What is written at the clock of the first close
or after it does not count. Who voted for what is seen by all.
"""

from __future__ import annotations

from p2pchat.kinds.call import Call
from p2pchat.kinds.kind import Choices, Kind

OPTIONS = Choices(8, 80, "a poll cannot be edited: delete it and ask again", "options", "a poll")
ASK = Call("poll", "to:place? question options:list key?", "QUESTION [OPTION...]", own_parser=True,
    help="ask everybody here, with 2 to 8 options to vote for", example='/poll "Lunch?" pizza soup',
    details=(
        "everybody sees who voted for what; quote what has blanks",
        "/poll close ends your newest poll here: later votes do not count",
    ),
    purpose="Ask a question with 2 to 8 options to vote for, each of at most 80 characters. It comes back in messages "
    "with `votes`: who voted for which option, by its number. It asks again when called again.",
    rest="POST polls")  # fmt: skip
GIVE = Call("vote", "id:message option:int", "[N] OPTION", own_parser=True,
    help="vote in the poll shown last here, or line N", example="/vote 2",
    details=("a later vote replaces it, and 0 takes it back; line N is that of /history",),
    purpose="Vote in a poll for one of its choices by its number, from 1; 0 takes it back. All see it.",
    rest="PUT vote", of="your vote on")  # fmt: skip
END = Call("close", "id:message", method="close_poll", of="the end of", rest="POST close",
    purpose="Close a poll of yours for ever: later votes do not count.")  # fmt: skip
POLL = Kind("poll", "text", "message", choices=OPTIONS, calls=(ASK,))
VOTE = Kind("vote", "number", "vote", "any", "vote", OPTIONS.most, each=1, until="close", on=POLL.name,
    calls=(GIVE,), field="option", done=("voted {what} on {of}", "took a vote back on {of}"), list="votes",
    words="who voted for which choice of the poll, by its number")  # fmt: skip
CLOSE = Kind("close", "null", "closed", "own", "close", oldest=True, on=POLL.name, calls=(END,),
    done=("ended the votes on {of}",))  # fmt: skip
