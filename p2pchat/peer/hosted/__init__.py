"""The users that a peer speaks for beside its own: what makes it a gateway.

To be touched when what a hosted user is changes; what such a user can do is in calls/, as for everybody.
"""
