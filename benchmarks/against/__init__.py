"""p2pchat compared with other systems: the systems, the rounds of each work, and the results."""
