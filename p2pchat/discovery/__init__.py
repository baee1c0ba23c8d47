"""Members of one network find each other on the local network, with no endpoint (extra `discovery`).

`announcement.py` knows what an announcement says and who made it, `sightings.py` who is announced where; both know
nothing of sockets. `local.py` speaks multicast DNS, with python-zeroconf, which is imported when it is used.
"""
