"""Receipts: acknowledgements, marks of what users have on disk, have taken and have read, and who has which file."""
