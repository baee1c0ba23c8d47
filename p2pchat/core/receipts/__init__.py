"""Receipts: acknowledgements, and marks of what users have on disk, have taken and have read."""
