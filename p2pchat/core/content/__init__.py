"""Content of attachments: its pieces and hashes, which of it is asked for, and from which links it comes."""
