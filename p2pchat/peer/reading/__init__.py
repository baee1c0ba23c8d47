"""How a program hears of things: events as they come, places of consumers, messages read back, found and counted.

To be touched when how something is read changes. Nothing is sent from here.
"""
