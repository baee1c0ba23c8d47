"""Groups as programs hold them: members, names typed, changes told.

To be touched when what one may do with a group changes. Who belongs is decided in core/groups.
"""
