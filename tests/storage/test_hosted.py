"""Users a gateway hosts, and what lets programs act for them: kept, found again, and gone with their user."""

from __future__ import annotations

from dataclasses import replace

from p2pchat.core.records import Change, DeliveredMark, ReadMark, StoredUser, Token
from p2pchat.storage.base import Storage
from tests.storage.writers import Author, user


def test_hosted_users_are_kept_in_the_order_they_came_until_they_go(storage: Storage) -> None:
    zoe, yan = (StoredUser(user(name), bytes([n]) * 32, name, n) for n, name in ((2, "zoë"), (1, "yan")))
    storage.commit([Change(hosted=[zoe, yan])])
    assert storage.hosted() == [yan, zoe]
    renamed = replace(zoe, name="zoe")
    storage.commit([Change(hosted=[renamed])])
    assert storage.hosted() == [yan, renamed]
    storage.commit([Change(unhosted=[yan.id])])
    assert storage.hosted() == [renamed]
    assert "02" * 32 not in repr(renamed) and "\\x02" not in repr(renamed)


def test_tokens_are_found_by_their_hash_and_go_with_their_user(storage: Storage) -> None:
    zoe, yan = (StoredUser(user(name), bytes([n]) * 32, name, n) for n, name in ((1, "zoe"), (2, "yan")))
    tokens = [Token(bytes([9 - n]) * 32, whose.id, n, f"label {n}") for n, whose in enumerate((zoe, yan, zoe))]
    storage.commit([Change(hosted=[zoe, yan], tokens=tokens)])
    assert storage.token(tokens[0].hash) == tokens[0] and storage.token(b"?" * 32) is None
    assert storage.tokens() == tokens and storage.tokens(zoe.id) == [tokens[0], tokens[2]]
    storage.commit([Change(revoked=[tokens[0].hash], tokens=[replace(tokens[2], label="another")])])
    assert [token.label for token in storage.tokens(zoe.id)] == ["another"]
    storage.commit([Change(unhosted=[zoe.id])])
    assert storage.tokens() == [tokens[1]] and storage.token(tokens[2].hash) is None


def test_what_is_known_of_a_user_alone_is_what_a_start_knows_of_it(storage: Storage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    change = Change()
    change.delivered.append(DeliveredMark(ada.log, user("bob"), 2))
    change.reads += [ReadMark(bob.log, user("ada"), 1), ReadMark(ada.log, user("bob"), 1)]
    storage.commit([ada.begins("one", "two"), bob.begins("three"), change])
    known, every = storage.load_users([user("ada")]), storage.load([user("ada")])
    assert known.delivered == every.delivered == [DeliveredMark(ada.log, user("bob"), 2)]
    assert sorted(known.reads, key=str) == sorted(every.reads, key=str) and len(known.reads) == 2
    many = [f"{n:064x}" for n in range(1200)]
    assert storage.load_users([*many, user("bob"), *many]).reads != []
