"""Groups as pure functions: operations, the state they give, and visibility of talks. Used by core/sync."""
