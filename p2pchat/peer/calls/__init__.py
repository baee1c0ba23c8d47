"""What one user does, each call of TCPPeer and HostedUser: being somebody, naming places, writing and reading.

To be touched to add or change a call. The same code serves a peer's own user and those it hosts.
"""
