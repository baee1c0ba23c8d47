"""Groups: operations, members and visibility as functions of a set of operations."""
