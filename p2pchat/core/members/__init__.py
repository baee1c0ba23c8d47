"""Members: signed statements about who belongs to the network, and what follows from a set of them."""
