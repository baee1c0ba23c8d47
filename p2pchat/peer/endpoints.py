"""Endpoints as programs and people write them: "host:port", or the bare port of a peer on this machine."""

from __future__ import annotations

from p2pchat.identity.invites import normal_endpoint

LOOPBACK = "127.0.0.1"


def normal(endpoint: str | int) -> str:
    """Return "host:port"; a bare port is a peer on this machine. ValueError for what is neither."""
    text = str(endpoint).strip()
    return normal_endpoint(f"{LOOPBACK}:{text}" if text.isdecimal() else text)
