"""What clients call things, where several ways of talking agree: addresses that people type, messages as objects.

To be touched when their words change. What they mean decides the library.
"""
