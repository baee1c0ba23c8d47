"""The owner of a node: carries its effects out on sockets, threads and the clock, and feeds it what happens."""
