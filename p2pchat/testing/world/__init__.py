"""The simulated world: whole cores on virtual time, with disks, wires, and those who live there, liars too.

To be touched when the core meets something new: an effect, a thing a machine can do. Nothing here decides what is
drawn, nor what is right.
"""
