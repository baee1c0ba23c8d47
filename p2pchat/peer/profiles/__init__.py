"""A profile that is not just running: its history, a copy of it, another database for it, a file taken in.

To be touched for what is done with a peer's directory as a whole. A running peer needs nothing from here.
"""
