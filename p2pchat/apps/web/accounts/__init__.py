"""Accounts: which name of this gateway is whose, and the token that proves it.

To be touched when what an account is or how it is proven changes. The command line looks after accounts with this room
alone: nothing here needs the extra `web`.
"""
