"""`p2pchat web HTTP_PORT`: one peer, its gateway, the server in front of it, and a good end."""
