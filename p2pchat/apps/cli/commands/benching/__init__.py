"""What `p2pchat bench` measures, one subject a file; each gives figures."""
