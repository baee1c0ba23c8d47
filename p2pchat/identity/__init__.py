"""Identity and trust: keys, names, networks, invites, profiles on disk, and TLS between two keys."""
