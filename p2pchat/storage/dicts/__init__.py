"""What storage in memory keeps and how it is asked: plain dicts, divided as the database's side is beside this folder.

Everything here is called under the one lock of memory.py, and knows of none.
"""
