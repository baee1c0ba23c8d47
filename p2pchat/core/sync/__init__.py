"""Replication of entries: entries in and out, comparing, fetching, serving and order."""
