"""Who a peer is and whom it trusts: keys, names, networks, invites, the profile on the disk, TLS between two keys."""
