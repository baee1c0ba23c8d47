"""For whoever runs a gateway: whether it works, and its numbers. The paths that tell them are in rest/.

To be touched for another number. Labels stay words of ours, never what somebody wrote.
"""
