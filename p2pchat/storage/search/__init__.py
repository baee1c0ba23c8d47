"""Finding what was written by its words: what a word is, what is asked for, and an index of it all in a file."""
