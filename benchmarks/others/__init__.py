"""What people would use instead, doing the same work: one file a system, each set up as its own documents advise.

Every file has `absent()`, which says why it cannot be measured here ("" when it can), `server(directory, **variant)`,
which starts what it needs in the middle (most need nothing), and a class `Part`, one participant (ends.py says what
that is asked to do). Texts are the same 180 bytes for all; nobody's messages are joined together by us, except where
the name of the system says so, but everybody may use whatever the library offers for sending many. What comes in is
counted, and a round in which a message is missing or comes twice fails.
"""
