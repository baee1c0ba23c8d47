"""The conformance kit: `python -m p2pchat.testing.conformance INVITE` tries a peer against docs/protocol.md.

It plays members of the peer's network by scripts, and reports each rule of the document as passed, failed or skipped.
docs/conformance.md describes its use. `runner` plays, `member` is what is played, `watch` judges every frame, the files
`level_*` have the rules, and `candidate` is p2pchat itself as a peer to be tried.
"""
