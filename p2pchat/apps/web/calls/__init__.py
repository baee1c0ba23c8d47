"""What is counted of calls, whoever makes them: how often one may, and the same call said twice.

Both are bounded memory and nothing else: no request, no peer. To be touched when a bound changes or one is missing.
"""
