"""Who may come in, and who that is: passed by every request before any way of talking sees it.

The door itself, which Host and Origin are ours, whose a request or a WebSocket is, and how whoever may not is told.
Security stands here: whatever is changed needs a test with the request that must not get through.
"""
