"""What is written and what became of it: messages, conversations, receipts, events, edits and gaps.

To be touched when what a message is, or what is told of one, changes. What programs hold here can act
(`message.reply`); how is handed in by whoever makes it.
"""
