"""Open connections, whatever is spoken on them: the hub that tells them what happens, and what each needs for that.

What waits for one to be sent (outbox, frames, flag) and what its account missed meanwhile (unseen). To be touched when
who is told, in which order or how much may wait changes; how it is worded is each way's own.
"""
