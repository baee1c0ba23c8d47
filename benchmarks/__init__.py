"""What p2pchat reaches on this machine, each work beside the floor the machine itself sets. Asserts nothing.

    python -m benchmarks                everything, in under 3 minutes
    python -m benchmarks --help         one work, other sizes, JSON

One file per work. Every work runs in processes of its own (workers.py), so that none sees the memory or the warm
caches of another; the table is made in table.py. Ratios to the floor of the same minutes are worth more than
absolute figures: the same run on the same machine differs by 10 % and more.
"""
