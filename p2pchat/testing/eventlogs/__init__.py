"""Judges event logs, the lines that `p2pchat --json` writes: did the promises hold? For `p2pchat check`, for tests over
real processes, and for simulations.

Everything here reads lines and knows no peer. To be touched when an event line or a promise does.
"""
