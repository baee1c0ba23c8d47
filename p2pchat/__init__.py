"""Peer-to-peer chat for people and programs: every peer listens, dials and keeps; there is no server."""

__version__ = "0.1.0"
