"""Who is who: users as programs hold them, what a typed name means, and whom one does not want to hear of.

To be touched when what is known or told of a user changes. Knows no message: the rooms below stand on this one.
"""
