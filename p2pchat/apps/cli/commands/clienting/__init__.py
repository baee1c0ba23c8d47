"""What `p2pchat client` is made of: the token, the connection that comes back, what is shown."""
