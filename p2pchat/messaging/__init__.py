"""The view of one user: conversations, events, receipts, history.

Every program that logs anything below `p2pchat` imports this folder, so the handler that keeps a program without a
configuration of logging silent stands here: in `p2pchat` itself it would load logging for `p2pchat --version` too.
"""

import logging

logging.getLogger("p2pchat").addHandler(logging.NullHandler())
