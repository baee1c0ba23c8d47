"""A profile: the name of a user, and what they say about themselves. It is about nothing in a conversation."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind

PROFILE = Kind("profile", "object", "renamed", "user")
