"""Groups: operations, the state they give, and what of a talk it lets be seen. Pure; core/sync asks."""
