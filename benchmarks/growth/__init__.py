"""How each cost grows with its driver: peers, stored entries, runs, conversations, bytes of a text, slow readers.

One file a driver, each with its STEPS and a `run(place, steps, say)` that returns curves (curves.py).
`python -m benchmarks.growth` runs them and prints tables with the exponent of each growth.
"""
