"""What commands do, one file a subject; typed lines and command objects call the same functions.

A function takes Here and the arguments, and returns an Answer: rows for programs, lines for people. It shows nothing
itself; session.py does, and turns errors into error lines.
"""
