"""The interactive line of a terminal. Imported only where input and output are one: it needs prompt_toolkit."""
