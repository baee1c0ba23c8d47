"""Pins: messages that stand at the head of their conversation, for everybody in it.

Whoever may write there pins and unpins a message. Of all that people said of it the newest counts.
"""

from __future__ import annotations

from p2pchat.kinds.call import NUMBERS, Call
from p2pchat.kinds.kind import Kind

SET = Call("pin", "id:message", "[N=]", latest="here",
    help="pin the newest message here, or line N, for all", example="/pin",
    details=("it stands at the head of the conversation; /pins shows all of them", NUMBERS),
    purpose="Pin a message for all in its conversation.", rest="PUT pin", of="your pin on")  # fmt: skip
CLEAR = Call("unpin", "id:message", "[N=]", latest="here",
    help="unpin the newest message here, or line N", example="/unpin",
    details=("whoever pinned it; /pins gives pinned messages their numbers", NUMBERS),
    purpose="Unpin a message.", rest="DELETE pin", of="the end of a pin on")  # fmt: skip
PIN = Kind("pin", "number", "pinned", "any", "pin", 1, shared=True, calls=(SET, CLEAR), field="pinned",
    done=("pinned {of}", "unpinned {of}"), list="pins", head=True,
    words="who pinned it at the head of the conversation")  # fmt: skip
