"""Completion scripts, one shell a file, made from the registry; and what only a running p2pchat knows (asked.py).

What others chose (names) reaches a script as lines of text that are compared and quoted, and never as words that a
shell expands: a name like `$(rm -rf ~)` is a name.
"""
