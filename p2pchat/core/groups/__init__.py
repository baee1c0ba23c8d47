"""Groups: facts, members and visibility as functions of a set of facts."""
