"""An action, as `/me` writes it: a text that says what its writer does."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind

ACTION = Kind("action", "text", "message")
