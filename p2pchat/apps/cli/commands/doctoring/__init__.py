"""What `p2pchat doctor` looks at, one subject a file. Each check is a small function that returns Findings."""
