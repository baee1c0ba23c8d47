"""What the library and asyncio log, told to people as other notices are: above a prompt and never across it."""

from __future__ import annotations

import logging

from p2pchat.commands.errors import tell
from p2pchat.safe_text import safe_line, safe_text


class Telling(logging.Handler):
    """Tells each record, in one line; the traceback of a defect in several."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # whatever the text of an argument raises; logging's own handlers do the same
            self.handleError(record)
            return
        tell(safe_text(text) if record.exc_info else safe_line(text))


def tell_diagnostics() -> None:
    """Tell everything the library does (-v)."""
    logger = logging.getLogger("p2pchat")
    logger.addHandler(Telling())
    logger.setLevel(logging.DEBUG)
