"""Random histories: what is done in a simulated world, drawn from a seed; many of them, and the smallest that fails.

To be touched for another accident or another habit. Whatever draws otherwise gives old seeds another meaning.
"""
