"""What a simulation holds its peers to: every promise of docs/guarantees.md, as it happens and at the end.

They see all disks and reckon the long way. To be touched when a promise is new, or a judge was wrong: then with the
seed that showed it.
"""
