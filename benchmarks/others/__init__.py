"""Other systems for the same works: one file per system, each configured as its own documents advise.

Every file has `absent()`, which returns the reason why it cannot be measured here ("" if it can); `server(directory,
**variant)`, which starts a server if the system needs one (most do not); and a class `Participant` (ends.py defines its
tasks). All send the same texts of 180 bytes. The benchmark joins messages only if the name of the system says so, but
each system may use everything its library offers for sending many. Received messages are counted, and a round fails if
one is missing or comes twice.
"""
