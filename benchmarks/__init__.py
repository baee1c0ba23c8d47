"""Benchmarks of p2pchat on this machine, next to what the machine itself can do. Nothing is asserted.

    python -m benchmarks                everything, in under 3 minutes
    python -m benchmarks --help         one work, other sizes, JSON

Each file is one work. Every work runs in its own processes (workers.py), so that it does not profit from the memory or
warm caches of another; table.py prints the table. Trust ratios to the floor of the same run more than absolute figures:
two runs on one machine differ by 10 % and more.
"""
