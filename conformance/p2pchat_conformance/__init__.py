"""The conformance kit: `p2pchat-conformance INVITE` tries a peer against docs/protocol.md.

It plays members of the peer's network by scripts, and reports each rule of the document as passed, failed or skipped.
docs/conformance.md describes its use, README.md the files.
"""
