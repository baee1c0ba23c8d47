"""p2pchat beside what people would use instead: the systems, how a round of a work is played, and what comes of it."""
