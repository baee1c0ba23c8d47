"""A deletion: a message of the same writer shows its text no more. An edit that is newer brings it back."""

from __future__ import annotations

from p2pchat.kinds.call import NUMBERS, SAYS_YES, Call
from p2pchat.kinds.kind import Kind

CALL = Call("delete", "id:message", "[N=]", latest="own", asks=True,
    help="delete what you wrote last, or line N", example="/delete",
    details=("asks first; the text is no longer shown, but stays in everyone's log", NUMBERS, SAYS_YES),
    purpose="Delete a message of the caller: its text is no longer shown anywhere.", tool=False, rest="DELETE",
    of="the deletion of")  # fmt: skip
DELETION = Kind("delete", "null", "deleted", "own", "text", calls=(CALL,))
