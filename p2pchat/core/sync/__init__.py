"""Replication of entries: entries in and out, comparing, fetching, serving, order and groups."""
