"""The runtime of a node: executes its effects with sockets, threads and the clock, and feeds it inputs."""
