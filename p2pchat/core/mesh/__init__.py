"""The mesh: handshake, one link per pair of peers, address book, dialling, and presence of users."""
