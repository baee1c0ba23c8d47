"""Content of attachments: its pieces and hashes, which of it is asked for, from which links, and who has it."""
