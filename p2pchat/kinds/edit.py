"""An edit: another text for a message of the same writer."""

from __future__ import annotations

from p2pchat.kinds.call import NUMBERS, OR_TEXT, Call
from p2pchat.kinds.kind import Kind

CALL = Call("edit", "id:message text", "[N] TEXT", latest="own",
    help="edit what you wrote last, or line N", example="/edit at eleven, not at ten",
    details=("everyone sees the new text as edited; the original stays in everyone's log", NUMBERS, OR_TEXT),
    purpose="Edit a message of the caller, for everyone.", tool=False, rest="PATCH", of="your edit of")  # fmt: skip
EDIT = Kind("edit", "text", "edited", "own", "text", calls=(CALL,), field="text")
