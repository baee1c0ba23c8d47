"""Groups: operations, members and visibility as functions of a set of operations; and how operations come and go."""
