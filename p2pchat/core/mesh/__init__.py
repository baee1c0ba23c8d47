"""The mesh: handshake, one link per pair of peers, address book, dialling, and presence of users.

It stands beside logs and knows nothing of them. Inputs about connections and the first look at received frames go to
`Links`, which hands the frames of other rooms back; what peers say of their users goes to `PresenceTracker`. Both emit
effects. What the node must do in between they tell and ask it by one interface (`MeshListener` in peer_link.py); whom a
peer counts at, and who is admitted, they ask members/. Other rooms read a `PeerLink`, and who is present.
"""
