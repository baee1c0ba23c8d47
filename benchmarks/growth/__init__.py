"""Growth of each cost with its driver: peers, stored entries, runs, conversations, bytes of a text, slow readers.

Each driver is one file with its STEPS and a `run(place, steps, say)` that returns curves (curves.py).
`python -m benchmarks.growth` runs them and prints tables with the exponent of each growth.
"""
