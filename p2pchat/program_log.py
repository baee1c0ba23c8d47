"""The log of the program that p2pchat runs in, whose filters and handlers may raise."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any


class ProgramLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose failure ends nothing: it is printed, as logging prints those that its own handlers catch."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Log, for whoever calls it."""
        try:
            super().log(level, msg, *args, stacklevel=2, **options)
        except Exception:  # of the program
            if logging.raiseExceptions and sys.stderr is not None:
                traceback.print_exc()
